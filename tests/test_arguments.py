"""Wrong arguments of every kind: an ArgumentError that names the argument, whatever the stranger does when read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from legato import camera, rasp, rft, video
from legato import diffusion as D
from legato._scalars import as_choice, as_count, as_flag, as_number, as_shape, as_size, as_threads, shown
from legato.errors import ArgumentError, LegatoError


class Float:
    def __float__(self) -> float:
        raise KeyError("float")

    def __index__(self) -> int:
        raise KeyError("index")


class Equal:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise KeyError("equal")

    def __repr__(self) -> str:
        raise KeyError("repr")


class Array:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise KeyError("array")


class Capsule:
    def __dlpack__(self, **_: Any) -> Any:
        raise KeyError("dlpack")

    def __dlpack_device__(self) -> Any:
        return 1, 0


class Nowhere(Capsule):
    def __dlpack_device__(self) -> Any:
        return None


SCALARS: list[Any] = [
    object(), Float(), Equal(), 10**400, -(10**5000), float("nan"), "x", "", b"y", [], {}, (1, 2, 3), 1j,
    np.array([1.0, 2.0]), np.array([]), np.array(["2020"], "M8[D]"), np.ma.masked_array([1.0], mask=[True]),
]  # fmt: skip
ARRAYS: list[Any] = [Array(), Capsule(), Nowhere(), object(), [[1, 2], [3]], "abc", np.array(["a", "b"]), {1: 2}]

H = np.tile(np.eye(3), (6, 1, 1))
SIZE = (64, 48)
LUMA = (np.random.default_rng(0).random((48, 64)) * 255).astype(np.uint8)
X = np.random.default_rng(1).normal(size=(5, 4))
LEVELS = D.Schedule.vp_cosine(3)
MIXTURE = D.GaussianMixture([0.5, 0.5], [[-1.0, 0], [1, 0]], [0.1, 0.2])
CLOUD = D.EmpiricalDenoiser(X, labels=np.arange(5))
TOKENS = np.array([3, 1, 3, 2])
CHOSEN = rasp.select(TOKENS, TOKENS, rasp.equals)
PROGRAM = rasp.Program(lambda t: rasp.num_prev(t, t))
LOGITS = X.astype("f4")
IDS = np.array([0, 1, 2, 3, 0])
STATS = rft.token_stats(LOGITS, IDS)
REWARDS = np.array([0.0, 1.0, 0.0, 1.0])
GROUPS = np.array([0, 0, 1, 1])
ROLLOUTS = {"prompt": ["a"] * 8 + ["b"] * 8, "reward": np.arange(16) % 2.0}

# A function, its valid arguments, and the names of its scalars and of its arrays.
Row = tuple[Callable[..., Any], dict[str, Any], str, str]
CALLS: list[Row] = [
    (camera.log_homography, {"homography": H}, "threads backend", "homography"),
    (camera.exp_homography, {"log": 0 * H}, "threads backend", "log"),
    (camera.PathOptions, {}, "crop window_scale weights anisotropy shear keystone keystone_ratio acceleration bound "
     "roll_weight inset_px relinearize tolerance max_iterations model", ""),
    (camera.PathOptions().at_frame_rate, {}, "fps", ""),
    (camera.smooth_path, {"motion": H, "size": SIZE}, "size options units window salient_weight target_weight solver "
     "backend", "motion fixed salient targets frame_weight cuts ok"),
    (camera.path_program, {"motion": H, "size": SIZE}, "size units salient_weight target_weight",
     "motion fixed salient targets frame_weight"),
    (camera.path_metrics, {"motion": H, "corrections": H, "size": SIZE}, "size", "motion corrections"),
    (camera.path_sway, {"motion": H, "corrections": H, "size": SIZE, "fps": 30}, "size fps", "motion corrections"),
    (camera.contain, {"corrections": H, "size": SIZE}, "size options", "corrections"),
    (camera.crop_map, {"size": SIZE}, "size options", ""),
    (camera.bridge_motion, {"motion": H, "ok": np.ones(6, bool)}, "", "motion ok"),
    (camera.filter_path, {"motion": H, "size": SIZE}, "size options kind width_frames", "motion"),
    (camera.PathStream, {"size": SIZE}, "size options window units predicted salient_weight target_weight solver "
     "backend", ""),
    (camera.PathStream(SIZE).push, {"motion": H}, "cut", "motion salient targets frame_weight"),
    (camera.LivePath, {"size": SIZE}, "size options latency_frames units predicted backend", ""),
    (camera.LivePath(SIZE).push, {"motion": np.eye(3)}, "cut", "motion"),
    (D.apply_step, {"x": X, "eps": X, "coef": (1.0, 0.1, 0.2), "eps_uncond": X}, "guidance_scale seeds step substep "
     "generator first_sample threads backend", "x eps coef eps_uncond noise weights out"),
    (D.normal, {"shape": (2, 4)}, "seeds step substep dtype generator first_sample threads backend", "out"),
    (D.threefry4x32, {"counter": np.zeros(4, int), "key": np.zeros(4, int)}, "rounds backend", "counter key"),
    (D.guidance_sums, {"cond": X, "uncond": X}, "threads backend", "cond uncond x"),
    (D.convert_prediction, {"out": X, "x": X, "alpha": 0.5, "sigma": 0.5, "given": "x0", "wanted": "v"},
     "alpha sigma given wanted", "out x"),
    (D.step_coefficients, {"schedule": LEVELS}, "schedule sampler eta prediction", ""),
    (D.Guidance, {"scale": 2.0}, "scale rule interval rescale momentum norm parallel zero_steps", ""),
    (D.Schedule.vp_linear, {"steps": 3}, "steps beta_min beta_max t_end", ""),
    (D.Schedule.vp_scaled_linear, {"steps": 3}, "steps beta_start beta_end train_steps spacing", ""),
    (D.Schedule.karras, {"steps": 3}, "steps sigma_min sigma_max rho", ""),
    (D.Schedule.from_alphas_cumprod, {"alphas_cumprod": [0.9, 0.5]}, "steps spacing", "alphas_cumprod"),
    (D.Schedule, {"alpha": [0.5, 1.0], "sigma": [0.5, 0.0]}, "", "alpha sigma drift diffusion time"),
    (D.sample, {"model": MIXTURE, "shape": (5, 2), "schedule": LEVELS}, "shape schedule sampler eta guidance_scale "
     "corrector_steps corrector_scale seeds start stop callback progress prediction generator first_sample threads "
     "backend", "x"),
    (D.langevin, {"model": MIXTURE, "x": X[:, :2], "step_size": 1e-3, "n_steps": 2}, "step_size n_steps seeds alpha "
     "sigma guidance_scale first_step prediction generator first_sample threads backend", "x"),
    (D.gaussian_moments, {"schedule": LEVELS, "cond": (0, 1)}, "schedule sampler cond uncond start guidance_scale eta "
     "corrector_steps corrector_scale stop", ""),
    (MIXTURE.log_density, {"x": X[:, :2], "alpha": 0.9, "sigma": 0.1}, "alpha sigma threads backend", "x"),
    (CLOUD.score, {"x": X, "alpha": 0.9, "sigma": 0.1}, "alpha sigma label threads backend", "x"),
    (D.EmpiricalDenoiser, {"data": X}, "", "data log_weights"),
    (D.GaussianMixture, {"weights": [1.0], "means": [[0.0]], "covariances": [1.0]}, "", "weights means covariances"),
    (rasp.kqv, {"k": TOKENS, "q": TOKENS, "v": TOKENS, "pred": rasp.equals}, "pred default reduction causal rounding "
     "threads backend", "k q v lengths"),
    (rasp.select, {"k": TOKENS, "q": TOKENS, "pred": rasp.equals}, "pred causal", "k q lengths"),
    (rasp.aggr, {"A": CHOSEN, "v": TOKENS}, "A default reduction rounding threads backend", "v"),
    (rasp.sel_width, {"A": CHOSEN}, "A threads backend", ""),
    (rasp.full, {"x": TOKENS, "const": 3}, "const", "x"),
    (rasp.shift_right, {"x": TOKENS, "n": 1}, "n default", "x"),
    (rasp.induct, {"k": TOKENS, "q": TOKENS, "offset": 1}, "offset default null_val", "k q"),
    (rasp.mask, {"x": TOKENS, "bool_mask": TOKENS}, "mask_val", "x bool_mask"),
    (rasp.tok_map, {"x": TOKENS, "func": abs}, "func", "x"),
    (rasp.seq_map, {"x": TOKENS, "y": TOKENS, "func": max}, "func", "x y"),
    (PROGRAM.batch, {"X": TOKENS[None]}, "threads backend", "X lengths"),
    (PROGRAM.generate, {"prompt": [1, 2], "max_new": 2}, "stop max_new", "prompt"),
    (PROGRAM.check, {}, "bits", ""),
    (rasp.compile, {"program": PROGRAM, "vocab": [1, 2], "max_len": 3}, "max_len max_values verify", ""),
    (rft.token_stats, {"logits": LOGITS, "ids": IDS}, "temperature entropy threads backend", "logits ids mask"),
    (rft.token_stats_backward, {"logits": LOGITS, "ids": IDS, "stats": STATS, "grad_logp": np.ones(5)},
     "stats temperature threads backend", "logits ids grad_logp grad_entropy out mask"),
    (rft.group_stats, {"rewards": REWARDS, "groups": GROUPS}, "n_groups backend", "rewards groups"),
    (rft.group_advantages, {"rewards": REWARDS, "groups": GROUPS}, "kind ddof eps singleton backend", "rewards groups"),
    (rft.leave_one_out, {"rewards": REWARDS, "groups": GROUPS}, "eps backend", "rewards groups"),
    (rft.gae, {"rewards": X, "values": X}, "gamma lam backend", "rewards values mask bootstrap"),
    (rft.discounted_returns, {"rewards": X}, "gamma backend", "rewards mask"),
    (rft.kl_estimates, {"logp": REWARDS, "ref_logp": REWARDS}, "", "logp ref_logp"),
    (rft.masked_mean, {"x": X}, "mode max_len count", "x mask"),
    (rft.token_weights, {"mask": X}, "mode max_len count", "mask"),
    (rft.policy_loss, {"logp": X, "old_logp": X, "advantages": X},
     "kind mode eps_low eps_high dual_clip gates max_len count", "logp old_logp advantages mask weights"),
    (rft.kl_loss, {"logp": X, "ref_logp": X}, "kind mode cap max_len count", "logp ref_logp mask old_logp"),
    (rft.value_loss, {"values": X, "old_values": X, "returns": X}, "clip mode max_len count",
     "values old_values returns mask"),
    (rft.importance_weights, {"logp": X, "rollout_logp": X}, "level bounding low high normalize",
     "logp rollout_logp mask"),
    (rft.pass_at_k_advantages, {"rewards": REWARDS, "groups": GROUPS, "k": 1}, "k", "rewards groups"),
    (rft.reinforce_plus_plus, {"rewards": X}, "gamma backend", "rewards mask"),
    (rft.remax, {"rewards": X, "baselines": np.zeros(len(X))}, "backend", "rewards baselines mask"),
    (rft.whiten, {"x": X}, "shift_mean eps", "x mask"),
    (rft.ppo_loss, {"logp": REWARDS, "old_logp": REWARDS, "advantages": REWARDS}, "eps_low eps_high dual_clip",
     "logp old_logp advantages"),
    (rft.gradient_bounds, {"std": REWARDS, "length": 5.0}, "gamma reward_range", "std length one_minus_p"),
    (rft.gradient_flow_time, {"p0": 0.1, "p1": 0.9, "n_labels": 3}, "p0 p1 n_labels", ""),
    (rft.plan, {"p0": 0.1, "n_labels": 3}, "p0 n_labels p1", ""),
    (rft.reward_std_interval, {"rewards": REWARDS}, "level value_range method", "rewards"),
    (rft.scan, {"source": ROLLOUTS}, "value_range tau level solved_mean group_size interval columns nan progress "
     "executor", ""),
    (rft.Scan, {}, "value_range columns nan", ""),
    (rft.Scan().update, {"source": ROLLOUTS}, "progress executor", ""),
    (rft.select, {"report": rft.scan(ROLLOUTS)}, "report band min_std", ""),
    (rft.Watch, {"folder": "rollouts"}, "settings columns nan", ""),
    (rft.Columns, {}, "lists", ""),
    (video.warp, {"frame": LUMA, "correction": np.eye(3)}, "size interpolation threads backend",
     "frame correction out"),
    (video.Planes, {"y": LUMA}, "bit_depth chroma_location", "y u v"),
    (video.Tracker, {"size": SIZE}, "size model region bit_depth backend", "mask"),
    (video.estimate_motion, {"previous_luma": LUMA, "luma": LUMA}, "model region bit_depth backend",
     "previous_luma luma mask"),
    (video.Stabilizer, {"size": SIZE, "fps": 30.0}, "size fps options latency_frames interpolation threads", "mask"),
    (video.Stabilizer(SIZE, 30.0).push, {"frame": LUMA}, "cut", "frame"),
    (video.stabilize, {"source": "no.mp4", "destination": "out.mp4"}, "preset options inclusion center guard rotation "
     "interpolation threads overwrite crop", ""),
    (video.stabilize_live, {"source": "no.mp4", "destination": "-"}, "latency_frames preset options crop fps "
     "interpolation container overwrite duration_s stall_s reconnect_s threads", ""),
    (video.camera_path if hasattr(video, "camera_path") else video.synthesize, {"path": "out.mp4"},
     "kind seed size frames fps rolling_shutter motion_blur noise", ""),
]  # fmt: skip


@pytest.mark.parametrize("at", range(len(CALLS)), ids=[f"{row[0].__qualname__}-{at}" for at, row in enumerate(CALLS)])
def test_wrong_arguments_are_named(at: int) -> None:
    function, valid, scalars, arrays = CALLS[at]
    for name, wrongs in [*((n, SCALARS) for n in scalars.split()), *((n, ARRAYS) for n in arrays.split())]:
        for wrong in wrongs:
            if _is_right(name, wrong) or (name == "stop" and "prompt" in valid and isinstance(wrong, int)):
                continue
            try:
                function(**{**valid, name: wrong})
            except ArgumentError as error:
                told = str(error)
            except LegatoError as error:  # a CompileError, a LanguageError
                told = str(error)
            else:
                told = "taken"
            also = {"prompt": "token at position", "v": "u and v"}.get(name, name)
            assert name in told or also in told, f"{name}={type(wrong).__name__}: {told}"
            assert "\n" not in told, told


def _is_right(name: str, value: Any) -> bool:
    """What looks wrong and is not: two numbers in an array are a pair."""
    if name in ("interval", "cond", "uncond", "start", "reward_range", "value_range", "gates"):
        return isinstance(value, np.ndarray) and value.shape == (2,)
    return name == "prompt" and isinstance(value, dict)  # its keys are tokens


def test_shown_is_one_short_line() -> None:
    assert shown(np.zeros((3, 4))) == "an array of float64 (3, 4)"
    assert shown(Equal()) == "a value of type Equal"
    assert shown(10**5000) == "a value of type int"
    assert shown("a\nb" * 100).endswith("...")
    assert len(shown("a" * 1000)) <= 80


def test_numbers() -> None:
    assert as_number("n", np.float32(0.5)) == as_number("n", np.array(0.5)) == 0.5
    assert as_number("n", np.int8(3), least=3, most=3) == 3.0
    assert as_number("n", float("inf"), finite=False) == float("inf")
    for value, bounds in (
        (True, {}), (np.True_, {}), ("1", {}), (float("inf"), {}), (float("nan"), {"finite": False}), (1, {"above": 1}),
        (1, {"below": 1}), (0, {"least": 1}), (2, {"most": 1}), (10**400, {}),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=r"^n: expected a "):
            as_number("n", value, **bounds)  # type: ignore[arg-type]


def test_counts_sizes_shapes_flags_and_names() -> None:
    assert as_count("n", np.uint8(7), 7, 7) == 7
    assert as_threads(10**9) == 1024
    assert as_flag("f", np.False_) is as_flag("f", 0) is False
    assert as_size("s", np.array([4, 3])) == (4, 3)
    assert as_shape("s", 5) == as_shape("s", [5]) == (5,)
    assert as_choice("c", np.str_("a"), ("a", "b")) == "a"
    for call in (
        lambda: as_count("n", True), lambda: as_count("n", 2.0), lambda: as_count("n", 2**31),
        lambda: as_flag("n", 2), lambda: as_flag("n", "yes"), lambda: as_size("n", (4,)),
        lambda: as_size("n", (4, True)),
        lambda: as_shape("n", ()), lambda: as_shape("n", (2**40, 2**40)), lambda: as_shape("n", (1,) * 40),
        lambda: as_choice("n", "c", ("a", "b")), lambda: as_choice("n", np.array(["a", "b"]), ("a", "b")),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=r"^n: expected "):
            call()
