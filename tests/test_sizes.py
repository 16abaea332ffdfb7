"""Sizes that do not fit are refused: by the compiled core itself, for arrays shorter than their siblings say and for
products that no memory holds, and with the argument's name by what is public."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from legato import _core, camera, rasp, rft
from legato import diffusion as D
from legato.errors import ArgumentError

Arrays = dict[str, NDArray[Any]]


def refuses_each(call: Callable[..., Any], arrays: Arrays, free: Collection[tuple[str, int]] = ()) -> None:
    """`call` takes the arrays, and refuses each of them one shorter along each axis, but for those that are free."""
    call(**{name: array.copy() for name, array in arrays.items()})
    for name, array in arrays.items():
        for axis in range(array.ndim):
            given = {other: one.copy() for other, one in arrays.items()}
            given[name] = np.ascontiguousarray(array.take(range(array.shape[axis] - 1), axis))
            if (name, axis) in free:
                call(**given)
                continue
            with pytest.raises(ArgumentError):
                call(**given)


def ones(*shape: int, dtype: Any = np.float64) -> NDArray[Any]:
    return np.ones(shape, dtype)


# --- diffusion --------------------------------------------------------------------------------------------------------


def noise(samples: int | None = None) -> _core.DiffusionNoise:
    return _core.DiffusionNoise(ones(samples or 1, dtype=np.uint64), samples is None, 0, 0, 0, False)


def test_raw_blocks() -> None:
    words: Arrays = {name: ones(3, 4, dtype=np.uint32) for name in ("counter", "key", "out")}
    refuses_each(lambda counter, key, out: _core.diffusion_threefry4x32(counter, key, 20, out), words)
    words["key"] = ones(3, 2, dtype=np.uint32)
    refuses_each(_core.diffusion_philox4x32, words)


@pytest.mark.parametrize("storage", ["float32", "float64", "float16", "bfloat16"])
def test_noise_steps_and_sums(storage: str) -> None:
    kind = {"float32": np.float32, "float64": np.float64}.get(storage, np.uint16)
    other = np.float32 if kind != np.float32 else np.float64
    x = np.ones((3, 4), kind)
    refuses_each(lambda out: _core.diffusion_normal(storage, 3, 4, noise(), out, 1), {"out": x})
    with pytest.raises(ArgumentError):
        _core.diffusion_normal(storage, 3, 4, noise(2), x, 1)
    with pytest.raises(ArgumentError):
        _core.diffusion_normal(storage, 3, 4, noise(), x.astype(other), 1)
    with pytest.raises(ArgumentError):
        _core.diffusion_normal(storage, 2**32, 2**32, noise(), np.empty((0, 4), kind), 1)

    def step(coefficients: Any, x: Any, cond: Any, uncond: Any, given: Any, out: Any) -> None:
        _core.diffusion_step(storage, 3, 4, coefficients, x, cond, uncond, given, noise(3), out, 1)

    refuses_each(step, {"coefficients": ones(3, 4), **dict.fromkeys(("x", "cond", "uncond", "given", "out"), x)})
    with pytest.raises(ArgumentError):
        step(ones(3, 4), x, x.astype(other), x, x, x)
    with pytest.raises(ArgumentError):
        step(ones(3, 4), x, x, x.T.copy().T, x, x)  # not C-contiguous

    def sums(cond: Any, uncond: Any, x: Any, out: Any) -> None:
        _core.diffusion_sums(storage, 3, 4, cond, uncond, x, out, 1)

    refuses_each(sums, {"cond": x, "uncond": x, "x": x, "out": ones(3, 8)})
    with pytest.raises(ArgumentError):
        sums(x, x, x.astype(other), ones(3, 8))


def test_exact_models() -> None:
    def turned(log_weights: Any, means: Any, variances: Any, rotations: Any, x: Any, out: Any, density: Any) -> None:
        model = _core.DiffusionModel.mixture(log_weights, means, variances, rotations)
        _core.diffusion_evaluate_f64(model, 1.0, 1.0, False, x, out, density, 1)

    turns = np.tile(np.eye(2), (3, 1, 1))
    at = {"x": ones(5, 2), "out": ones(5, 2), "density": ones(5)}
    of = {"log_weights": ones(3), "means": ones(3, 2), "variances": ones(3, 2), "rotations": turns}
    refuses_each(turned, {**of, **at})

    def cloud(data: Any, log_weights: Any, x: Any, out: Any) -> None:
        model = _core.DiffusionModel.cloud(data, log_weights)
        _core.diffusion_evaluate_f32(model, 1.0, 1.0, False, x, out, None, 1)

    single = {"data": ones(5, 2), "log_weights": ones(5), "x": ones(4, 2), "out": ones(4, 2)}
    refuses_each(cloud, {name: array.astype(np.float32) for name, array in single.items()})
    double = _core.DiffusionModel.cloud(ones(5, 2), None)
    with pytest.raises(ArgumentError, match="model"):  # a model of doubles, read as floats
        _core.diffusion_evaluate_f32(double, 1.0, 1.0, False, *(ones(4, 2, dtype=np.float32),) * 2, None, 1)

    def chains(rows: Any, x: Any) -> None:
        _core.diffusion_chains_f64(double, double, rows, noise(4), x, 1)

    refuses_each(chains, {"rows": ones(3, 13), "x": ones(4, 2)}, free={("rows", 0)})


def test_guidance_sums_of_other_shapes() -> None:
    """Foreign numbers and then a crash, before."""
    a = np.ones((4, 4))
    big = np.ones((200, 400))
    for backend in ("native", "numpy"):
        for x, match in ((np.empty((0, 4)), "x: expected shape"), (np.ones(1), "x: expected shape")):
            with pytest.raises(ArgumentError, match=match):
                D.guidance_sums(a, a, x, backend=backend)
        with pytest.raises(ArgumentError, match=r"uncond: expected shape \(4, 4\) as cond has, got \(\)"):
            D.guidance_sums(a, True, backend=backend)
        with pytest.raises(ArgumentError, match="x: expected shape"):
            D.guidance_sums(big, big, np.ones(1), backend=backend)
        with pytest.raises(ArgumentError, match="cond: expected shape"):
            D.guidance_sums(1.0, 1.0, backend=backend)
    for rule in (D.Guidance(2.0, rescale=0.5), D.Guidance(2.0, rule="zero_star"), D.Guidance(2.0, rule="apg")):
        with pytest.raises(ArgumentError, match="uncond: expected shape"):
            rule.weights(big, big[:, :3], 2.0, 5)


# --- rft --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [False, True])
def test_tokens(half: bool) -> None:
    logits = ones(3, 5, dtype=np.uint16 if half else np.float32)
    ids, mask = np.array([0, 3, 2]), ones(3, dtype=np.uint8)
    brain = [True] if half else []

    def stats(logits: Any, ids: Any, mask: Any, stats: Any) -> None:
        run = _core.rft_token_stats_half if half else _core.rft_token_stats
        run(logits, *brain, ids, 1.0, mask, stats, True, 1)

    given = {"logits": logits, "ids": ids, "mask": mask}
    refuses_each(stats, {**given, "stats": ones(6, 3, dtype=np.float32)}, free={("logits", 1)})

    def backward(logits: Any, ids: Any, mask: Any, stats: Any, logp: Any, entropy: Any, out: Any) -> None:
        run = _core.rft_token_stats_backward_half if half else _core.rft_token_stats_backward
        run(logits, *brain, ids, 1.0, mask, stats, logp, entropy, out, 1)

    row = ones(3, dtype=np.float32)
    columns = {"stats": ones(3, 3, dtype=np.float32), "logp": row, "entropy": row, "out": logits}
    refuses_each(backward, {**given, **columns})


def test_advantages() -> None:
    steps = {name: ones(3, 4) for name in ("rewards", "values", "mask", "advantages", "returns")}
    steps |= {"mask": ones(3, 4, dtype=np.uint8), "bootstrap": ones(3)}

    def gae(rewards: Any, values: Any, mask: Any, bootstrap: Any, advantages: Any, returns: Any) -> None:
        _core.rft_gae_f64(rewards, values, mask, bootstrap, 0.9, 0.9, advantages, returns)

    refuses_each(gae, steps)

    def moments(rewards: Any, groups: Any, **out: Any) -> None:
        if _core.rft_group_moments(rewards, groups, *out.values())[0] != 0:
            raise ArgumentError

    def advantages(rewards: Any, groups: Any, advantages: Any) -> None:
        if _core.rft_group_advantages(rewards, groups, 9, 0, 1, 0.0, False, advantages)[0] != 0:
            raise ArgumentError

    groups = np.array([0, 1, 1])
    of_group: Arrays = {"count": ones(2, dtype=np.int64), **{name: ones(2) for name in ("least", "most", "mean", "m2")}}
    refuses_each(moments, {"rewards": ones(3), "groups": groups, **of_group})
    refuses_each(advantages, {"rewards": ones(3), "groups": groups, "advantages": ones(3)})


def sums_of(prompts: int) -> NDArray[np.float64]:
    """Zeros (prompts, 8), each row on a cache line of its own."""
    room = np.zeros(8 * prompts + 8)
    return room[-room.ctypes.data % 64 // 8 :][: 8 * prompts].reshape(prompts, 8)


def wide_of(prompts: int) -> NDArray[np.int64]:
    """Zeros (prompts, 13), as sums of rewards off the grid."""
    return np.zeros((prompts, 13), np.int64)


def test_rollouts() -> None:
    slots, integers = np.zeros(8, np.uint64), np.zeros(6, np.int64)
    numbers = np.zeros(4, np.uint32)

    def number(names: Any, slots: Any, integers: Any, numbers: Any) -> None:
        _core.rft_number_integers(names, slots, 0, integers, numbers)

    arrays: Arrays = {"names": np.arange(4), "slots": slots, "integers": integers, "numbers": numbers}
    refuses_each(number, arrays, free={("integers", 0)})

    def strings(ends: Any, letters: Any, slots: Any, offsets: Any, text: Any, numbers: Any) -> None:
        _core.rft_number_strings(ends, letters, slots, 0, offsets, text, numbers)

    ends, letters = np.array([0, 1, 3, 3, 5], np.int32), np.frombuffer(b"abcde", np.uint8)
    arrays = {"ends": ends, "letters": letters, "slots": slots, "offsets": np.zeros(7, np.uint64)}
    arrays |= {"text": np.zeros(16, np.uint8), "numbers": numbers}
    refuses_each(strings, arrays, free={("offsets", 0), ("text", 0)})
    with pytest.raises(ArgumentError):  # offsets that fall: the length of the third name is negative
        strings(np.array([0, 1, 4, 3, 5], np.int32), letters, slots, arrays["offsets"], arrays["text"], numbers)
    with pytest.raises(ArgumentError):  # an end beyond the table's text
        _core.rft_number_strings(ends, letters, slots, 1, np.array([0, 99, 0], np.uint64), arrays["text"], numbers)
    with pytest.raises(ArgumentError):
        _core.rft_rebuild_slots(slots, 7, integers, np.zeros(0, np.uint64), np.zeros(0, np.uint8))
    with pytest.raises(ArgumentError):
        _core.rft_rebuild_slots(slots, 0, np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.uint8))

    groups = np.array([0, 1, 1], np.uint32)
    assert _core.rft_add_rewards_f64(ones(3), groups, -1.0, 1.0, sums_of(2), wide_of(0)) == 3
    assert _core.rft_add_rewards_f64(ones(3) / 3, groups, -1.0, 1.0, sums_of(2), wide_of(0)) is None
    assert _core.rft_add_rewards_f64(ones(3) / 3, groups, -1.0, 1.0, sums_of(2), wide_of(2)) == 3
    for rewards, of, sums, wide in (
        (ones(2), groups, sums_of(2), wide_of(2)),
        (ones(3), groups[:2], sums_of(2), wide_of(2)),
        (ones(3), groups, sums_of(1), wide_of(2)),  # a group beyond
        (ones(3), groups, sums_of(2).ravel()[:15], wide_of(2)),
        (ones(3), groups, sums_of(3).ravel()[1:17], wide_of(2)),  # not on a cache line
        (ones(3), groups, sums_of(2), wide_of(1)),
        (ones(3), groups, sums_of(2), wide_of(2).ravel()[:25]),
    ):
        with pytest.raises(ArgumentError):
            _core.rft_add_rewards_f64(rewards, of, -1.0, 1.0, sums, wide)
    for sums, wide, mean in (
        (sums_of(2), wide_of(2), ones(1)),
        (sums_of(2).ravel()[:15], wide_of(2), ones(2)),
        (sums_of(1), wide_of(2), ones(2)),
        (sums_of(2), wide_of(1), ones(2)),
    ):
        with pytest.raises(ArgumentError):
            _core.rft_reward_moments(sums, wide, mean, ones(2))
    into, wide = sums_of(2), wide_of(2)
    _core.rft_merge_rewards(sums_of(2), wide, groups[:2], into, wide_of(2))
    for added, of, target, target_wide in (
        (wide, groups, into, wide_of(2)),
        (wide_of(1), groups[:2], into, wide_of(2)),
        (wide, groups[:2], sums_of(1), wide_of(1)),  # a group beyond
        (wide, groups[:2], into, wide_of(1)),
    ):
        with pytest.raises(ArgumentError):
            _core.rft_merge_rewards(sums_of(2), added, of, target, target_wide)


def test_json_fields() -> None:
    text = np.frombuffer(b'{"a": 1}\n{"a": 2}\n', np.uint8)
    assert _core.rft_json_fields(text, [["a"]], np.zeros((2, 1, 3), np.int64)) == (2, len(text))
    for paths, fields in (
        ([], np.zeros((2, 1, 3), np.int64)),
        ([[]], np.zeros((2, 1, 3), np.int64)),
        ([["a"]] * 33, np.zeros((2, 33, 3), np.int64)),
        ([["a"]], np.zeros(5, np.int64)),
        ([["a"]], np.zeros((1, 1, 3), np.int64)),  # a line more than there is room for
    ):
        with pytest.raises((ArgumentError, RuntimeError)):
            _core.rft_json_fields(text, paths, fields)


# --- camera -----------------------------------------------------------------------------------------------------------


def path_options(**changes: Any) -> _core.CameraPathOptions:
    standard = {
        "crop": 0.12, "window_scale": 0.0, "weights": [1.0, 1.0, 10.0, 100.0], "anisotropy": 1e3, "shear": 1e3,
        "keystone": 100.0, "keystone_ratio": -1.0, "bound": 1.0, "inset": 0.0, "pixel": 0.0, "relinearize": 1,
        "tolerance": 1e-6, "max_iterations": 50,
    }  # fmt: skip
    return _core.CameraPathOptions(**{**standard, **changes})


def test_homographies_and_rows() -> None:
    motion = np.tile(np.eye(3).ravel(), (4, 1))
    for run in (_core.camera_log_homography, _core.camera_exp_homography):
        with pytest.raises(ArgumentError):
            run(motion, ones(3, 9), 1)
        with pytest.raises(ArgumentError):
            run(ones(4, 8), ones(4, 8), 1)

    def rows(log: Any, matrix: Any, bound: Any) -> None:
        _core.camera_crop_rows(log, 0.5, path_options(), matrix, bound)

    def contain(corrections: Any, contained: Any) -> None:
        _core.camera_contain(corrections, 0.5, path_options(), contained)

    refuses_each(rows, {"log": np.zeros(9), "matrix": ones(13, 9), "bound": ones(13)})
    refuses_each(contain, {"corrections": motion, "contained": motion})


def test_paths_and_programs() -> None:
    motion = np.tile(np.eye(3).ravel(), (4, 1))

    def path(
        motion: Any, fixed: Any, weight: Any, salient: Any, targets: Any, rolls: Any,
        corrections: Any, logs: Any, violation: Any,
    ) -> None:  # fmt: skip
        _core.camera_smooth_path(
            motion, 0.5, path_options(), fixed, weight, salient, 1.0, targets, 0.1, rolls, 0.1,
            corrections, logs, violation,
        )  # fmt: skip

    arrays = {
        "motion": motion, "fixed": motion[:1], "weight": ones(4), "salient": np.zeros((4, 2, 2)),
        "targets": np.zeros((4, 2)), "rolls": np.zeros(4), "corrections": motion, "logs": motion, "violation": ones(4),
    }  # fmt: skip
    refuses_each(path, arrays, free={("fixed", 0), ("salient", 1)})
    with pytest.raises(ArgumentError):
        path(**{**arrays, "salient": np.zeros(16)})

    def program(path: Any, **arrays: Any) -> None:
        _core.camera_solve_banded(*arrays.values(), 0, 0, 1.0, 0.0, 1e-6, 50, path)

    of = {
        "velocity": np.zeros((3, 8)), "weights": ones(3, 9), "quadratic": np.eye(8), "linear": np.zeros((3, 8)),
        "acceleration": np.eye(8), "row_matrix": ones(2, 8), "row_bound": ones(2), "lower": -ones(8), "upper": ones(8),
    }  # fmt: skip
    refuses_each(program, {**of, "path": np.zeros((3, 8))})
    of |= {"quadratic": np.tile(np.eye(8), (3, 1, 1)), "row_matrix": ones(3, 2, 8), "row_bound": ones(3, 2)}
    refuses_each(program, {**of, "path": np.zeros((3, 8))})


def test_streams() -> None:
    def push(motion: Any, weight: Any, salient: Any, targets: Any, rolls: Any) -> None:
        stream = _core.CameraPathStream(path_options(), 0.5, 30, 10, -1, 1, 1.0, 0.0, 0.0, 0)
        stream.push(motion, weight, salient, targets, rolls, 0)

    motion = np.tile(np.eye(3).ravel(), (4, 1))
    arrays = {"weight": ones(4), "salient": np.zeros((4, 1, 2)), "targets": ones(4, 2), "rolls": ones(4)}
    refuses_each(push, {"motion": motion, **arrays})
    for window, stride, predicted in ((2**40, 10, 0), (30, 30, 0), (30, 10, 2**31 - 1), (30, 10, -7)):
        with pytest.raises(ArgumentError):
            _core.CameraPathStream(path_options(), 0.5, window, stride, predicted, 0, 0.0, 0.0, 0.0, 0)
    with pytest.raises(ArgumentError):
        _core.CameraPathStream(path_options(crop=2.0), 0.5, 30, 10, 0, 0, 0.0, 0.0, 0.0, 0)
    for more, name in (({"window": 2**62, "stride": 2**61}, "window"), ({"predicted": 2**31 - 1}, "predicted")):
        with pytest.raises(ArgumentError, match=f"{name}: expected "):
            camera.PathStream((640, 360), **more)


def test_live_paths() -> None:
    def push(motion: Any) -> None:
        _core.CameraLivePath(path_options(), 0.5, 3, 5).push(motion, False)

    refuses_each(push, {"motion": np.eye(3)})
    for latency, predicted in ((2**40, 5), (3, -1), (3, 2**31 - 1)):
        with pytest.raises(ArgumentError):
            _core.CameraLivePath(path_options(), 0.5, latency, predicted)
    with pytest.raises(ArgumentError):
        _core.CameraLivePath(path_options(crop=2.0), 0.5, 3, 5)
    with pytest.raises(ArgumentError):
        _core.CameraLivePath(path_options(), 0.5, 3, 5).set_options(path_options(crop=2.0))


def test_workspaces_that_no_memory_has() -> None:
    assert _core.camera_path_workspace_size(300, path_options()) > 300 * 1000
    for frames in (2**50, 2**52, 2**55, 2**58, 2**60, 2**63, 2**64 - 1):
        assert _core.camera_path_workspace_size(frames, path_options()) == 0
    assert _core.camera_path_workspace_size(300, path_options(crop=2.0)) == 0


# --- video ------------------------------------------------------------------------------------------------------------


def test_planes() -> None:
    eye, plain = np.eye(3), (1, 1, 0.0, 0.0)
    frame = np.zeros((12, 16), np.uint8)
    deep, strided = frame.astype(np.uint16), np.zeros((12, 32), np.uint8)[:, ::2]

    def warp(source: Any, target: Any, bits: int = 8, by: Any = eye) -> None:
        _core.video_warp(by, [source], [target], bits, plain, 0, 1)

    warp(frame, frame.copy())
    warp(deep, deep.copy(), 10)
    for source, target, bits in (
        (frame, frame, 10),  # bytes as samples of two
        (deep, frame, 10),
        (deep, deep, 8),
        (strided, frame, 8),
        (frame, strided, 8),
        (frame[0], frame, 8),
        (frame[..., None], frame, 8),
        (np.broadcast_to(np.uint8(0), (12, 2**32 + 4)), frame, 8),
    ):
        with pytest.raises(ArgumentError):
            warp(source, target, bits)
    with pytest.raises(ArgumentError):
        warp(frame, frame.copy(), by=np.eye(3)[:2].copy())
    pixels = np.zeros((12, 16, 3), np.uint8)
    _core.video_warp_packed(eye, pixels, pixels.copy(), 0, 1)
    for wrong in (pixels[..., :2], pixels.astype(np.uint16), frame, np.zeros((12, 16, 6), np.uint8)[..., ::2]):
        with pytest.raises(ArgumentError):
            _core.video_warp_packed(eye, wrong, pixels, 0, 1)
        with pytest.raises(ArgumentError):
            _core.video_warp_packed(eye, pixels, wrong, 0, 1)


def test_trackers() -> None:
    none = np.zeros((0, 0), np.uint8)

    def push(luma: Any, homography: Any, covariance: Any) -> None:
        _core.VideoTracker(64, 48, 0, none, 8, [0, 0, 0, 0]).push(luma, homography, covariance)

    refuses_each(push, {"luma": np.zeros((48, 64), np.uint8), "homography": ones(3, 3), "covariance": ones(8, 8)})
    with pytest.raises(ArgumentError):
        push(np.zeros((48, 64)), ones(3, 3), ones(8, 8))
    with pytest.raises(ArgumentError):
        push(np.zeros((48, 128), np.uint8)[:, ::2], ones(3, 3), ones(8, 8))
    deep = _core.VideoTracker(64, 48, 0, none, 10, [0, 0, 0, 0])
    with pytest.raises(ArgumentError):
        deep.push(np.zeros((48, 64), np.uint8), ones(3, 3), ones(8, 8))
    for mask in (np.ones((48, 63), np.uint8), np.ones((48, 64), np.uint16), np.ones((64, 48), np.uint8).T):
        with pytest.raises(ArgumentError):
            _core.VideoTracker(64, 48, 0, mask, 8, [0, 0, 0, 0])

    def fit(here: Any, there: Any, homography: Any, inlier: Any, covariance: Any) -> None:
        _core.video_fit_motion(here, there, 64, 48, 0, 0.5, 100, 1, homography, inlier, covariance)

    points = np.random.default_rng(0).random((20, 2)).astype(np.float32)
    found = {"homography": ones(3, 3), "inlier": np.zeros(20, np.uint8), "covariance": ones(8, 8)}
    refuses_each(fit, {"here": points, "there": points, **found})

    def follow(points: Any, moved: Any, found: Any) -> None:
        one = _core.VideoPyramid(np.zeros((48, 64), np.uint8), 1)
        one.follow(one, points, 0.5, moved, found)

    refuses_each(follow, {"points": points, "moved": points, "found": np.zeros(20, np.uint8)})
    for luma in (np.zeros((48, 64)), np.zeros(48, np.uint8), np.zeros((48, 128), np.uint8)[:, ::2]):
        with pytest.raises(ArgumentError):
            _core.VideoPyramid(luma, 1)


# --- rasp -------------------------------------------------------------------------------------------------------------


def test_selectors() -> None:
    ints = ones(2, 3, dtype=np.int64)
    how = (1, 0, 0, 0.0)  # mean

    def conjunction(key: Any, query: Any, value: Any, out: Any, lengths: Any) -> None:
        _core.rasp_conjunction((2, 3), lengths, True, [(key, query, 2, 0)], value, *how, out, 1, 1)

    def formula(key: Any, query: Any, value: Any, out: Any, lengths: Any) -> None:
        _core.rasp_formula((2, 3), lengths, True, [(key, query, 2, 0)], [], [0], value, *how, out, 1, 1)

    arrays = {**dict.fromkeys(("key", "query", "value", "out"), ints), "lengths": np.array([3, 2])}
    refuses_each(conjunction, arrays)
    refuses_each(formula, arrays)
    with pytest.raises(ArgumentError):
        conjunction(None, ints, ints, ints, np.array([3, 2]))
    with pytest.raises(ArgumentError):
        conjunction(ints, ints, None, ints, np.array([3, 2]))

    def table(key: Any, query: Any, truth: Any, value: Any, out: Any) -> None:
        _core.rasp_table((2, 3), None, True, (key, query, truth), value, *how, out, 1, 1)

    ids = ones(2, 3, dtype=np.int32)
    refuses_each(table, {"key": ids, "query": ids, "truth": ones(2, 2, dtype=np.uint8), "value": ints, "out": ints})

    def finish(count: Any, total: Any, out: Any) -> None:
        _core.rasp_finish((2, 3), None, *how, (count, total, None), out)

    refuses_each(finish, {"count": ints, "total": ones(2, 3, 2, dtype=np.int64), "out": ints})
    with pytest.raises(ArgumentError):
        _core.rasp_finish((2, 3), None, *how, (ints,), ints)
    empty = np.zeros((0, 3), np.int64)
    with pytest.raises(ArgumentError):  # 2**64 tokens are none where sizes wrap
        _core.rasp_conjunction((2**33, 2**31), None, True, [(empty, empty, 2, 0)], empty, *how, empty, 1, 1)
    with pytest.raises(ArgumentError):
        _core.rasp_truth(0, ones(2, dtype=np.int64), ones(2, dtype=np.int64))


# --- Nothing, many times over -----------------------------------------------------------------------------------------


def test_as_many_rows_as_there_may_be_of_nothing() -> None:
    """Each of these answers at once; gae went through all rows."""
    many = np.empty((2**59, 0))
    for array in rft.gae(many, many):
        assert array.shape == many.shape
    assert D.apply_step(many, many, (1.0, 0.1, 0.0)).shape == many.shape
    assert D.apply_step(many, many, (1.0, 0.1, 0.3), seeds=3).shape == many.shape
    assert D.normal(many.shape).shape == many.shape
    keys = np.empty((2**59, 0), np.int64)
    assert rasp.kqv(keys, keys, keys, rasp.equals).shape == keys.shape
    how: list[Any] = [keys, 1, 0, 0, 0.0, keys, 1, 1]
    _core.rasp_conjunction((2**59, 0), None, True, [(keys, keys, 2, 0)], *how)
    _core.rasp_formula((2**59, 0), None, True, [(keys, keys, 2, 0)], [], [0], *how)
    nothing = np.empty((0, 2**59))
    assert D.apply_step(nothing, nothing, (1.0, 0.1, 0.3)).shape == nothing.shape
