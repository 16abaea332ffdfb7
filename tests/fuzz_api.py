"""Hostile arguments for every public call: `python tests/fuzz_api.py --calls 10000 --seed 0 --family camera`.

Each call starts from arguments that are right; one to three of them are then damaged: other types, shapes, strides and
byte orders, NaN, numbers at the edge of their type, objects whose own methods raise, an `out` that overlaps an input.
A call may answer or refuse with an error of `legato.errors` in one line. Wrong are:

- a crash, a sanitizer's report, a call that does not end;
- any other exception, but for `MemoryError` and what the arguments themselves raise (``--no-strict`` counts them only);
- an input that was changed, by a call that answered;
- an answer that depends on the number of threads or on `out`, or differs from the NumPy reference's.

A call is made from its seed, family and number alone, so the line printed for a fault runs that call again. Exit code 1
if anything was wrong. Under sanitizers: `.ci/run sanitized`.
"""

from __future__ import annotations

import argparse
import collections
import copy
import faulthandler
import inspect
import random
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import workers
from legato import camera, diffusion, rasp, rft, video
from legato.errors import LegatoError

Array = np.ndarray[Any, Any]
Arguments = dict[str, Any]

_LIMIT_S = 60.0  # of silence, for a call; under sanitizers the longest honest one takes some seconds
_TOLERANCE = 1e-3  # of the reference: hostile numbers magnify rounding; the kernels' own bounds are the tests' matter
_MUCH = 100


class ProvokedError(KeyError):
    """What an argument's own methods raise; that it passes through is right."""


@dataclass(frozen=True)
class Call:
    """A public call with arguments that are right."""

    function: Callable[..., Any]
    arguments: Arguments
    work: tuple[str, ...] = ()  # arguments that say how much is to be done: a million of it is no fault
    reference: bool = True  # whether the NumPy backend, where there is one, must agree

    @property
    def name(self) -> str:
        return str(getattr(self.function, "__qualname__", self.function)).removeprefix("_")


# ---- calls that take several steps, or objects that are called


def _stream(
    size: Any, options: Any, window: Any, stride: Any, motion: Any, cut: Any, salient: Any, targets: Any,
    frame_weight: Any, predicted: Any,
) -> list[Any]:  # fmt: skip
    stream = camera.PathStream(size, options, window=window, stride=stride, predicted=predicted)
    first = stream.push(motion, cut=cut, salient=salient, targets=targets, frame_weight=frame_weight)
    return [first, stream.finish()]


def _live(size: Any, latency_frames: Any, motion: Any, predicted: Any) -> list[Any]:
    live = camera.LivePath(size, latency_frames=latency_frames, predicted=predicted)
    return [live.push(motion), live.push(motion), live.finish()]


def _path_with(motion: Any, **options: Any) -> Array:
    return camera.smooth_path(motion, (64, 48), camera.PathOptions(**options)).corrections


def _banded_program(solver: Any, tolerance: Any, max_iterations: Any, start: Any, **program: Any) -> Array:
    return (
        camera.BandedProgram(**program)
        .solve(solver=solver, tolerance=tolerance, max_iterations=max_iterations, start=start)
        .path
    )


def _tracker(size: Any, model: Any, mask: Any, region: Any, bit_depth: Any, backend: Any, frame: Any) -> Any:
    tracker = video.Tracker(size, model, mask=mask, region=region, bit_depth=bit_depth, backend=backend)
    tracker.push(frame)
    return tracker.push(frame).homography


def _stabilizer(
    size: Any, fps: Any, latency_frames: Any, interpolation: Any, mask: Any, threads: Any, frame: Any,
    strength: Any = 1.0,
) -> list[Any]:  # fmt: skip
    stabilizer = video.Stabilizer(
        size, fps, latency_frames=latency_frames, interpolation=interpolation, mask=mask, threads=threads
    )
    first = stabilizer.push(frame)
    stabilizer.change(fps=fps, strength=strength)
    return [*first, *stabilizer.push(frame), *stabilizer.flush()]


def _mixture_score(weights: Any, means: Any, covariances: Any, x: Any, alpha: Any, sigma: Any) -> Array:
    return diffusion.GaussianMixture(weights, means, covariances).score(x, alpha, sigma)


def _guided(cond: Any, uncond: Any, x: Any, scale: Any, rule: Any, rescale: Any, momentum: Any, norm: Any) -> Any:
    guidance = diffusion.Guidance(scale, rule, rescale=rescale, momentum=momentum, norm=norm)
    schedule = diffusion.Schedule.vp_cosine(4)

    def model(*_: Any, **__: Any) -> Any:
        return diffusion.guided(cond, uncond)

    return diffusion.sample(model, np.shape(x), schedule, guidance_scale=guidance, x=x)


def _guided_denoiser(cond: Any, uncond: Any, guidance: Any, prediction: Any) -> Any:
    return diffusion.GuidedDenoiser(cond, uncond, guidance, prediction)(np.ones((2, 3)), 0.8, 0.6, 0)


def _zeros(x: Array, *_: Any) -> Array:
    return np.zeros_like(x)


def _own_predicate(k: Any, q: Any, v: Any, name: Any, outcomes: Any, compare: Any) -> Any:
    return rasp.kqv(k, q, v, rasp.Predicate(name, outcomes, compare))


def _program_batch(X: Any, lengths: Any, threads: Any) -> Any:
    return _PROGRAM.batch(X, lengths, threads=threads)


def _program_generate(prompt: Any, stop: Any, max_new: Any) -> Any:
    return _PROGRAM.generate(prompt, stop, max_new)


def _logit_gradient(logits: Any, ids: Any, grad_logp: Any, temperature: Any, backend: str = "native") -> Array:
    stats = rft.token_stats(logits, ids, temperature, backend=backend)
    return rft.token_stats_backward(logits, ids, stats, grad_logp, None, temperature, backend=backend)


def _evaluate(expression: Any, tokens: Any) -> Any:
    return rasp.Interpreter().evaluate(expression, tokens)


def _interpreted(source: Any, expression: Any) -> Any:
    interpreter = rasp.Interpreter()
    return [interpreter.run(source), interpreter.analyze(expression).n_layers]


_PROGRAM = rasp.Program(lambda tokens: rasp.num_prev(tokens, tokens))


def _camera(rng: np.random.Generator) -> list[Call]:
    n, size = 6, (64, 48)
    motion = np.tile(np.eye(3), (n, 1, 1))
    motion[1:, :2, 2] = rng.normal(scale=3, size=(n - 1, 2))
    log = camera.log_homography(motion, backend="numpy")
    points, weight = np.full((n, 1, 2), 20.0), np.ones(n)
    subject = {"salient": points, "salient_weight": 1.0, "targets": points[:, 0], "target_weight": 1.0}
    defaults = {field.name: getattr(camera.PathOptions(), field.name) for field in fields(camera.PathOptions)}
    program = camera.path_program(motion, size)
    banded = {field.name: getattr(program, field.name) for field in fields(program)}
    return [
        Call(camera.coordinate_map, {"homography": motion[0]}),
        Call(camera.log_homography, {"homography": motion, "out": np.empty_like(motion), "threads": 1}),
        Call(camera.exp_homography, {"log": log, "out": np.empty_like(motion), "threads": 1}),
        Call(
            camera.smooth_path,
            {"motion": motion, "size": size, "units": "pixel", "window": None, "stride": None, "fixed": motion[:1]}
            | subject
            | {"frame_weight": weight},
        ),
        Call(camera.smooth_path, {"motion": motion, "size": size, "options": None, "window": 3, "stride": 1}),
        Call(_path_with, {"motion": motion} | defaults),
        Call(camera.path_program, {"motion": motion, "size": size, "fixed": None, "frame_weight": weight} | subject),
        Call(
            _banded_program,
            banded | {"solver": "banded", "tolerance": 1e-6, "max_iterations": 200, "start": None},
        ),
        Call(camera.path_metrics, {"motion": motion, "corrections": motion, "size": size}),
        Call(camera.path_sway, {"motion": motion, "corrections": motion, "size": size, "fps": 30.0}),
        Call(camera.contain, {"corrections": motion, "size": size, "options": None}),
        Call(camera.crop_map, {"size": size, "options": None}),
        Call(camera.bridge_motion, {"motion": motion, "ok": np.ones(n, bool)}),
        Call(camera.filter_path, {"motion": motion, "size": size, "kind": "gaussian", "width_frames": 3.0}),
        Call(camera.grundmann_path, {"motion": motion, "size": size}),
        Call(
            _stream,
            {"size": size, "options": None, "window": 4, "stride": 2, "motion": motion, "cut": False, "salient": None,
             "targets": None, "frame_weight": weight, "predicted": None},
            work=("window", "stride", "predicted"),
        ),
        Call(
            _live,
            {"size": size, "latency_frames": 2, "motion": motion[1], "predicted": 3},
            work=("latency_frames", "predicted"),
        ),
    ]  # fmt: skip


def _video(rng: np.random.Generator) -> list[Call]:
    size = (64, 48)
    gray = (rng.random((48, 64)) * 255).astype(np.uint8)
    deep = (rng.random((48, 64)) * 1023).astype(np.uint16)
    color = (rng.random((48, 64, 3)) * 255).astype(np.uint8)
    shift = np.eye(3)
    shift[:2, 2] = rng.normal(scale=3, size=2)
    chroma = gray[:24, :32].copy()
    planes = video.Planes(gray, chroma, chroma.copy())
    mask = np.ones((48, 64), np.uint8)
    options = {"size": size, "fps": 30.0, "mask": None, "threads": 1}
    return [
        Call(
            video.warp,
            {"frame": color, "correction": np.eye(3), "size": size, "interpolation": "bicubic",
             "out": np.empty_like(color), "threads": 1},
            reference=False,
        ),
        Call(
            video.warp,
            {"frame": gray, "correction": shift, "size": (30, 20), "interpolation": "lanczos", "threads": 2},
            reference=False,
        ),
        Call(
            video.warp,
            {"frame": planes, "correction": shift, "size": size, "interpolation": "bilinear", "threads": 1},
            reference=False,
        ),
        Call(
            video.estimate_motion,
            {"previous_luma": gray, "luma": gray, "model": "homography", "mask": mask, "region": (0, 0, 64, 48),
             "bit_depth": 8, "backend": "native"},
            reference=False,
        ),
        Call(
            video.estimate_motion,
            {"previous_luma": deep, "luma": deep, "mask": None, "bit_depth": 10},
            reference=False,
        ),
        Call(
            _tracker,
            {"size": size, "model": "homography", "mask": None, "region": None, "bit_depth": 8, "backend": "native",
             "frame": gray},
            reference=False,
        ),
        Call(_stabilizer, options | {"latency_frames": 1, "interpolation": "bicubic", "frame": color}),
        Call(
            _stabilizer,
            options | {"latency_frames": 0, "interpolation": "bilinear", "frame": planes, "strength": 0.5},
        ),
        Call(video.Planes, {"y": gray, "u": chroma, "v": chroma, "bit_depth": 8, "chroma_location": "left"}),
        Call(video.luma, {"frame": color}),
        Call(video.as_planes, {"frame": gray}),
        Call(
            video.stabilize_frames,
            {"frames": np.stack([color, np.roll(color, 3, 1), color]), "fps": 30.0, "preset": "standard", "crop": 0.12,
             "mask": None, "guard": False, "interpolation": "bilinear", "threads": 1},
            reference=False,
        ),
        Call(video.Comparison, {"size": size, "labels": ("before", "after")}),
    ]  # fmt: skip


def _diffusion(rng: np.random.Generator) -> list[Call]:
    x64 = rng.normal(size=(5, 4))
    x = x64.astype(np.float32)
    half = x.astype(np.float16)
    schedule = diffusion.Schedule.vp_cosine(5)
    means = np.array([[-1.0, 0.0], [1.0, 0.0]])
    weights, variances = np.array([0.5, 0.5]), np.array([0.1, 0.2])
    mixture = diffusion.GaussianMixture(weights, means, variances)
    empirical = diffusion.EmpiricalDenoiser(rng.normal(size=(20, 4)), labels=np.arange(20) % 3)
    plane = np.zeros((3, 2))
    counter, key = np.zeros((3, 4), np.uint32), np.zeros((3, 2), np.uint32)
    score = {"weights": weights, "means": means, "x": plane, "alpha": 0.9, "sigma": 0.3}
    noise = {"step": 0, "substep": 0, "generator": "threefry", "first_sample": 0, "threads": 1}
    coefficients = (1.0, 0.1, 0.2)
    sampled = {"shape": (5, 2), "schedule": schedule, "seeds": 0}
    return [
        Call(
            diffusion.apply_step,
            {"x": x, "eps": x, "coef": coefficients, "eps_uncond": x, "guidance_scale": 2.0, "seeds": 3, "noise": None,
             "weights": None, "out": np.empty_like(x)} | noise,
        ),
        Call(
            diffusion.apply_step,
            {"x": x64, "eps": x64, "coef": np.ones((5, 3)), "eps_uncond": None, "guidance_scale": 1.0,
             "seeds": np.arange(5), "noise": x64, "out": None, "threads": 2},
        ),
        Call(
            diffusion.apply_step,
            {"x": half, "eps": half, "coef": coefficients, "weights": np.ones((5, 2)), "eps_uncond": half, "out": None},
        ),
        Call(
            diffusion.normal,
            {"shape": (3, 4), "seeds": 0, "dtype": "float32", "out": np.empty((3, 4), np.float32)} | noise,
        ),
        Call(diffusion.normal, {"shape": (3, 4), "seeds": np.arange(3), "dtype": "float64", "out": None}),
        Call(diffusion.brownian, {"shape": (3, 4), "start": 0.2, "end": 0.7, "seeds": 5, "dtype": "float64"}),
        Call(diffusion.philox4x32, {"counter": counter, "key": key}),
        Call(diffusion.threefry4x32, {"counter": counter, "key": counter, "rounds": 20}, work=("rounds",)),
        Call(diffusion.guidance_sums, {"cond": x, "uncond": x, "x": x, "threads": 1}),
        Call(
            _guided,
            {"cond": x, "uncond": x, "x": x, "scale": 2.0, "rule": "apg", "rescale": 0.5, "momentum": -0.5,
             "norm": 2.0},
        ),
        Call(_guided_denoiser, {"cond": _zeros, "uncond": _zeros, "guidance": 2.0, "prediction": "v"}),
        Call(
            diffusion.sample,
            {"model": mixture, "sampler": "ddim", "eta": None, "guidance_scale": 1.0, "corrector_steps": 0,
             "x": np.zeros((5, 2)), "start": 0} | sampled,
            work=("corrector_steps",),
        ),
        Call(diffusion.sample, {"model": lambda x, *_, **__: x, "sampler": "ddpm"} | sampled),
        Call(
            diffusion.langevin,
            {"model": mixture, "x": np.zeros((5, 2)), "step_size": 1e-3, "n_steps": 3, "seeds": 0, "alpha": 1.0,
             "sigma": 0.1},
            work=("n_steps",),
        ),
        Call(empirical.denoise, {"x": x64, "alpha": 0.9, "sigma": 0.3, "label": None, "threads": 1}),
        Call(empirical.score, {"x": x, "alpha": 0.9, "sigma": 0.3, "label": 1, "threads": 1}),
        Call(mixture.denoise, {"x": plane, "alpha": 0.9, "sigma": 0.1}),
        Call(mixture.log_density, {"x": plane, "alpha": 0.9, "sigma": 0.1, "threads": 1}),
        Call(_mixture_score, score | {"covariances": variances}),
        Call(_mixture_score, score | {"covariances": np.tile(np.eye(2), (2, 1, 1))}),
        Call(diffusion.EmpiricalDenoiser, {"data": x64, "labels": np.arange(5), "log_weights": np.zeros(5)}),
        Call(
            diffusion.Schedule,
            {"alpha": np.linspace(0.1, 1, 5), "sigma": np.linspace(0.9, 0, 5), "drift": None, "diffusion": None,
             "time": None},
        ),
        Call(
            diffusion.Schedule.from_alphas_cumprod,
            {"alphas_cumprod": np.linspace(0.99, 0.01, 50), "steps": 5},
            work=("steps",),
        ),
        Call(
            diffusion.convert_prediction,
            {"out": x64, "x": x64, "alpha": 0.5, "sigma": 0.5, "given": "eps", "wanted": "score"},
        ),
        Call(diffusion.step_coefficients, {"schedule": schedule, "sampler": "ddim", "eta": 0.0}),
        Call(
            diffusion.gaussian_moments,
            {"schedule": schedule, "cond": (0.0, 1.0), "uncond": (0.0, 2.0), "guidance_scale": 2.0},
        ),
    ]  # fmt: skip


def _rasp(rng: np.random.Generator) -> list[Call]:
    k, q, v = rng.integers(0, 5, 12), rng.integers(0, 5, 12), rng.integers(-9, 9, 12)
    rows = np.tile(k, (3, 1))
    selector = rasp.select(k, q, rasp.equals)
    kqv = {"k": k, "q": q, "v": v}
    return [
        Call(
            rasp.kqv,
            kqv | {"pred": rasp.equals, "default": 0, "reduction": "mean", "causal": True, "rounding": "truncate",
             "lengths": None, "threads": 1},
        ),
        Call(
            rasp.kqv,
            {"k": rows, "q": np.tile(q, (3, 1)), "v": np.tile(v, (3, 1)), "pred": rasp.leq, "reduction": "max",
             "causal": False, "lengths": np.array([12, 5, 0]), "threads": 2},
        ),
        Call(_own_predicate, kqv | {"name": "near", "outcomes": 3, "compare": lambda key, query: abs(key - query) < 2}),
        Call(rasp.select, {"k": k, "q": q, "pred": rasp.lt, "causal": True, "lengths": None}),
        Call(
            rasp.aggr,
            {"A": selector, "v": v, "default": 0, "reduction": "min", "rounding": "floor", "threads": 1},
        ),
        *(
            Call(reduction, {"A": selector, "v": v, "default": 0})
            for reduction in (rasp.aggr_max, rasp.aggr_mean, rasp.aggr_min, rasp.aggr_sum)
        ),
        Call(rasp.sel_width, {"A": selector, "threads": 1}),
        Call(rasp.index_select, {"x": k, "idx": q, "default": 0}),
        Call(rasp.induct, {"k": k, "q": q, "offset": 1, "default": 0}),
        Call(rasp.induct_prev, {"k": k, "q": q, "offset": 1, "default": 0}),
        Call(rasp.induct_kqv, kqv | {"offset": 1}),
        Call(rasp.shift_right, {"x": k, "n": 2, "default": 0}),
        Call(rasp.cumsum, {"bool_array": k > 2}),
        Call(rasp.mode, {"x": k}),
        Call(rasp.binary_mode, {"x": k > 1}),
        *(Call(pairs, {"x": k, "q": q}) for pairs in (rasp.firsts, rasp.lasts, rasp.num_prev, rasp.has_seen)),
        Call(rasp.where, {"condition": k > 1, "x": k, "y": q}),
        Call(rasp.mask, {"x": k, "bool_mask": k > 1}),
        Call(rasp.full, {"x": k, "const": 3}),
        Call(rasp.indices, {"x": k}),
        Call(rasp.seq_map, {"x": k, "y": q, "func": lambda a, b: a + b}),
        Call(rasp.tok_map, {"x": k, "func": lambda a: a * 2}),
        *(Call(extreme, {"x": k}) for extreme in (rasp.argmax, rasp.argmin, rasp.maximum, rasp.minimum)),
        Call(rasp.first_true, {"x": k > 1}),
        *(Call(one, {"A": selector, "v": k, "default": 0}) for one in (rasp.leftmost, rasp.rightmost)),
        Call(rasp.counts_reach, {"conditions": [k > 1, q > 2], "coefficients": [1, -1], "least": 0}),
        Call(rasp.heat_map, {"matrix": np.eye(3), "queries": "abc", "keys": [1, 2, 3], "title": "map"}),
        Call(_program_batch, {"X": rows, "lengths": np.array([12, 5, 1]), "threads": 1}),
        Call(_program_generate, {"prompt": k, "stop": None, "max_new": 5}, work=("max_new",)),
        Call(rasp.Program, {"function": lambda tokens: rasp.num_prev(tokens, tokens), "name": "count"}),
        Call(
            rasp.compile,
            {"program": _PROGRAM, "vocab": [0, 1, 2], "max_len": 4, "causal": None, "max_values": 64, "verify": True},
            work=("max_len",),
        ),
        Call(_interpreted, {"source": "z = indices * 2;", "expression": "sort(tokens, tokens)"}),
        Call(_evaluate, {"expression": "sort(tokens, tokens)", "tokens": "hello"}),
    ]  # fmt: skip


def _rft(rng: np.random.Generator) -> list[Call]:
    logits = rng.normal(size=(7, 11)).astype(np.float32)
    ids = rng.integers(0, 11, 7)
    stats = rft.token_stats(logits, ids)
    ones, kept = np.ones(7, np.float32), np.ones(7, bool)
    rewards, groups = rng.random(12), np.arange(12) // 4
    x64 = rng.normal(size=(5, 4))
    x = x64.astype(np.float32)
    grouped = {"rewards": rewards, "groups": groups}
    table = {"prompt": ["a"] * 8 + ["b"] * 8, "reward": np.arange(16) % 2.0}
    report = rft.scan(table)
    return [
        Call(
            rft.token_stats,
            {"logits": logits, "ids": ids, "temperature": 1.0, "entropy": True, "mask": kept, "threads": 1},
        ),
        Call(rft.token_stats, {"logits": logits.astype(np.float16), "ids": ids, "threads": 2}),
        Call(rft.token_stats, {"logits": (logits.view(np.uint32) >> 16).astype(np.uint16), "ids": ids}),
        Call(
            rft.token_stats_backward,
            {"logits": logits, "ids": ids, "stats": stats, "grad_logp": ones, "grad_entropy": ones,
             "temperature": 1.0, "out": np.empty_like(logits), "mask": None, "threads": 1},
            reference=False,  # statistics of other logits: no answer is right
        ),
        Call(_logit_gradient, {"logits": logits, "ids": ids, "grad_logp": ones, "temperature": 1.0}),
        Call(
            rft.group_advantages,
            grouped | {"kind": "grpo", "ddof": 1, "eps": 1e-4, "singleton": "zero"},
        ),
        Call(rft.group_stats, grouped | {"n_groups": None}, work=("n_groups",)),
        Call(rft.leave_one_out, grouped | {"eps": 1e-4}),
        Call(
            rft.gae,
            {"rewards": x64, "values": x64, "mask": np.ones((5, 4), bool), "gamma": 0.9, "lam": 0.9,
             "bootstrap": np.zeros(5)},
        ),
        Call(rft.gae, {"rewards": x, "values": x, "bootstrap": None}),
        Call(rft.discounted_returns, {"rewards": x64, "mask": None, "gamma": 0.9}),
        Call(rft.kl_estimates, {"logp": -rewards, "ref_logp": -rewards}),
        Call(
            rft.masked_mean,
            {"x": x64, "mask": np.ones((5, 4)), "mode": "token-mean", "max_len": None, "count": None},
        ),
        Call(
            rft.policy_loss,
            {"logp": -x64, "old_logp": -x64, "advantages": x64, "mask": np.ones((5, 4)), "kind": "ppo",
             "mode": "token-mean", "eps_low": 0.2, "eps_high": 0.2, "dual_clip": None, "gates": (1.0, 1.05),
             "weights": None, "max_len": None, "count": None},
        ),
        Call(
            rft.kl_loss,
            {"logp": -x64, "ref_logp": -x64, "mask": None, "kind": "k3", "mode": "grpo", "cap": 10.0, "old_logp": -x64},
        ),
        Call(rft.token_weights, {"mask": np.ones((5, 4)), "mode": "grpo", "max_len": 7, "count": None}),
        Call(rft.value_loss, {"values": x64, "old_values": x64, "returns": x64, "mask": None, "clip": 0.2}),
        Call(
            rft.importance_weights,
            {"logp": -x64, "rollout_logp": -x64, "mask": None, "level": "sequence", "bounding": "mask", "low": 0.5,
             "high": 2.0, "normalize": True},
        ),
        Call(rft.pass_at_k_advantages, grouped | {"k": 2}),
        Call(rft.reinforce_plus_plus, {"rewards": x64, "mask": np.ones((5, 4), bool), "gamma": 0.9}),
        Call(rft.remax, {"rewards": x64, "baselines": np.zeros(5), "mask": None}),
        Call(rft.whiten, {"x": x64, "mask": np.ones((5, 4)), "shift_mean": True, "eps": 1e-8}),
        Call(
            rft.ppo_loss,
            {"logp": -rewards, "old_logp": -rewards, "advantages": rewards, "eps_low": 0.2, "eps_high": 0.2,
             "dual_clip": None},
        ),
        Call(
            rft.gradient_bounds,
            {"std": rewards, "length": np.full(12, 5.0), "gamma": None, "one_minus_p": rewards,
             "reward_range": (-1.0, 1.0)},
        ),
        Call(rft.gradient_flow_time, {"p0": 0.1, "p1": 0.9, "n_labels": 10}),
        Call(rft.plan, {"p0": 0.1, "n_labels": 10, "p1": 0.9}),
        Call(
            rft.reward_std_interval,
            {"rewards": rewards, "level": 0.95, "value_range": (0.0, 1.0), "method": "auto"},
        ),
        Call(rft.value_grad, {"logits": x64[0], "rewards": rewards[:4]}),
        Call(
            rft.sequence_value_grad,
            {"logits_tree": [x64[0, :2], x64[:2, :2]], "rewards": rewards[:4], "length": None,
             "reward_range": (-1.0, 1.0)},
            work=("length",),
        ),
        Call(
            rft.scan,
            {"source": table, "value_range": (0.0, 1.0), "tau": 0.05, "level": 0.95, "solved_mean": 0.95,
             "group_size": 8},
        ),
        Call(rft.Scan, {"value_range": (0.0, 1.0), "columns": rft.Columns(), "nan": "error"}),
        Call(rft.Scan().update, {"source": table, "progress": None, "executor": None}),
        Call(rft.compare, {"before": report, "after": report}),
        Call(rft.select, {"report": report, "band": (0.1, 0.9), "min_std": 0.0}),
    ]  # fmt: skip


FAMILIES: dict[str, Callable[[np.random.Generator], list[Call]]] = {
    "camera": _camera,
    "video": _video,
    "diffusion": _diffusion,
    "rasp": _rasp,
    "rft": _rft,
}


# ---- what is done to the arguments


class _Subclass(np.ndarray):
    pass


class _RaisingArray:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise ProvokedError("array")


class _ArrayOfText:
    def __array__(self, *_: Any, **__: Any) -> Any:
        return "text"


class _RaisingLength(list):  # type: ignore[type-arg]
    def __len__(self) -> int:
        raise ProvokedError("len")


class _Capsule:
    """An array by DLPack's protocol, whose answers are as told."""

    def __init__(self, device: Any, capsule: Any) -> None:
        self._device, self._capsule = device, capsule

    def __dlpack__(self, *_: Any, **__: Any) -> Any:
        if self._capsule is ProvokedError:
            raise ProvokedError("dlpack")
        return self._capsule

    def __dlpack_device__(self) -> Any:
        return self._device


class _RaisingNumber:
    def __float__(self) -> float:
        raise ProvokedError("float")

    def __index__(self) -> int:
        raise ProvokedError("index")


class _RaisingEquality:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise ProvokedError("eq")


# Made anew for each call: some are used up, some are written to.
_SCALARS: tuple[Callable[[], Any], ...] = (
    *(
        partial(copy.copy, value)
        for value in (
            None, 0, -1, 1, 2, 3, 1.5, float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 5e-324, 2**31 - 1,
            2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400, True, "x", "", b"y", (), [], {}, "native",
            "numpy", (1, 2, 3, 4), ("a", "b"), (0, 0), (-1, 5), (2**31, 2**31), (1, 1), (float("nan"), 1), 1j,
            np.float32(1), np.int8(-1), np.array(3), np.array([]),
        )
    ),
    object,
    _RaisingNumber,
    _RaisingEquality,
)  # fmt: skip

_OBJECTS: tuple[Callable[[], Any], ...] = (
    _RaisingArray,
    _ArrayOfText,
    lambda: _RaisingLength([1, 2]),
    lambda: _Capsule((1, 0), ProvokedError),
    lambda: _Capsule((1, 0), 42),
    lambda: _Capsule(None, ProvokedError),
    lambda: _Capsule((2, 0), None),
    lambda: memoryview(b"abcdefgh"),
    lambda: bytearray(8),
    lambda: range(5),
    lambda: np.ma.masked_array([1.0, 2, 3], mask=[0, 1, 0]),
    lambda: np.array(["a", "b"]),
    lambda: np.array([object()]),
    lambda: np.array([None, 1.0]),
    lambda: np.zeros(3, [("a", "f4"), ("b", "i8")]),
    lambda: np.array(["2020-01-01"], "M8[D]"),
    lambda: np.zeros((2, 3, 4, 5, 6)),
    lambda: np.empty((0,)),
    lambda: np.empty((0, 3, 3)),
    lambda: np.empty((5, 0)),
    lambda: np.empty((0, 0, 0)),
    lambda: np.broadcast_to(np.float64(1.0), (2**20, 3, 3))[:4],
    lambda: np.zeros(3, np.float16),
    lambda: np.zeros(3, np.longdouble),
    lambda: np.zeros(3, np.complex128),
    lambda: np.array(1.0),
    lambda: [[1, 2], [3]],
    lambda: "abc",
    lambda: iter([1, 2]),
    lambda: {1: 2},
    lambda: float("nan"),
)


def _misaligned(array: Array) -> Array:
    bytes_ = np.zeros(array.nbytes + 1, np.uint8)[1:]
    view = bytes_.view(array.dtype) if array.nbytes else np.empty(array.size, array.dtype)
    view = view.reshape(array.shape)
    view[...] = array
    return view


def _read_only(array: Array) -> Array:
    array = array.copy()
    array.flags.writeable = False
    return array


def _with_one(array: Array, value: float, at: float) -> Array:
    array = array.copy() if array.dtype.kind in "fiu" else array.astype(np.float64)
    if array.size:
        array.flat[int(at * array.size)] = value
    return array


def _injuries(array: Array, rng: random.Random) -> tuple[Callable[[], Any], ...]:
    """What can become of an array; a ``lambda`` may fail where the array does not admit it."""
    kinds = ("f4", "f8", "f2", "i1", "u1", "i8", "u8", "u2", "?", "c16", "O", "S3", "U3", "g")
    kind = rng.choice(kinds)
    number = rng.choice((np.nan, np.inf, -np.inf, 1e300, -1e300, 5e-324, 2.0**40, -1.0))
    at = rng.random()
    limits = np.iinfo(array.dtype) if array.dtype.kind in "iu" else np.iinfo(np.int64)
    whole = rng.choice((limits.max, limits.min, 0))
    hidden = np.array([rng.random() < 0.5 for _ in range(array.size)], bool)
    return (
        lambda: _misaligned(array),
        lambda: array.astype(array.dtype.newbyteorder()),
        lambda: _read_only(array),
        lambda: array[::-1],
        lambda: np.asfortranarray(array),
        lambda: array.astype(kind),
        lambda: array.view(_Subclass),
        lambda: _with_one(array if array.dtype.kind == "f" else array.astype(np.float64), number, at),
        lambda: _with_one(array, whole, at),
        lambda: array[:0],
        lambda: array[..., :0],
        lambda: array[:1],
        lambda: array[:-1],
        lambda: array.ravel(),
        lambda: array[None],
        lambda: np.broadcast_to(array.flat[0] if array.size else 0, array.shape),
        lambda: array.tolist(),
        lambda: memoryview(np.ascontiguousarray(array)),
        lambda: np.lib.stride_tricks.as_strided(array, array.shape, (0,) * array.ndim),
        lambda: np.concatenate([array, array]),
        lambda: array * 0,
        lambda: -array,
        lambda: np.repeat(array, 2, axis=-1),
        lambda: array.T,
        lambda: np.ma.masked_array(array, mask=hidden.reshape(array.shape)),
        lambda: array.astype(np.float64) + 0.5,
        lambda: np.empty((0, *array.shape[1:]), array.dtype),
        lambda: np.empty((2**40, 0)),
    )


def _injured(value: Any, rng: random.Random) -> Any:
    """A right argument, damaged or replaced."""
    chance = rng.random()
    if isinstance(value, np.ndarray) and chance < 0.7:
        try:
            return rng.choice(_injuries(value, rng))()
        except (TypeError, ValueError, OverflowError):  # an injury that this array does not admit
            return rng.choice(_OBJECTS)()
    return rng.choice(_SCALARS if chance < 0.85 else _OBJECTS)()


def _copied(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, video.Planes):
        return video.Planes(*map(_copied, (value.y, value.u, value.v)), value.bit_depth, value.chroma_location)
    return value


def _over(array: Array, shift: int) -> tuple[Array, Array]:
    """A copy of `array`, and an array of the same shape that begins `shift` numbers later in the same memory."""
    memory = np.zeros(array.size + shift, array.dtype)
    front, back = memory[: array.size].reshape(array.shape), memory[shift:].reshape(array.shape)
    front[...] = array
    return front, back


def hostile(call: Call, rng: random.Random) -> tuple[Arguments, list[str]]:
    """Arguments for one call and the names of those that are damaged: the same for the same state of `rng`."""
    arguments = {name: _copied(value) for name, value in call.arguments.items()}
    changed = rng.sample(list(arguments), min(len(arguments), rng.choice((1, 1, 1, 2, 2, 3))))
    for name in changed:
        arguments[name] = _injured(arguments[name], rng)
        if name in call.work and isinstance(arguments[name], int) and arguments[name] > _MUCH:
            arguments[name] = _MUCH
    out = arguments.get("out")
    if "threads" in call.arguments and isinstance(out, np.ndarray) and rng.random() < 0.25:
        like = [
            name
            for name, value in arguments.items()
            if name != "out" and isinstance(value, np.ndarray) and (value.dtype, value.shape) == (out.dtype, out.shape)
        ]
        if like:
            name = rng.choice(like)
            arguments[name], arguments["out"] = _over(arguments[name], rng.choice((0, 0, 1, 3)))
            changed.append("out")
    return arguments, changed


# ---- what is wrong


def arrays(value: Any) -> Iterator[Array]:
    """Every array and number in an answer or an argument."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, int | float | np.generic):
        yield np.asarray(value)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from arrays(item)
    elif isinstance(value, camera.CameraPath):
        yield value.corrections
    elif is_dataclass(value):
        for field in fields(value):
            yield from arrays(getattr(value, field.name))


def _bits(value: Any) -> list[tuple[tuple[int, ...], str, bytes]]:
    return [(a.shape, str(a.dtype), np.ascontiguousarray(a).tobytes()) for a in arrays(value) if a.dtype.kind in "fiub"]


def _close(value: Any, other: Any) -> bool:
    if isinstance(value, camera.CameraPath):
        value, other = value.objective, other.objective  # which hostile weights leave flat, so that many paths have it
    pairs = list(arrays(value)), list(arrays(other))
    if len(pairs[0]) != len(pairs[1]):
        return False
    for a, b in zip(*pairs, strict=True):
        if a.shape != b.shape:
            return False
        if a.dtype.kind in "fiub" and b.dtype.kind in "fiub":
            x, y = a.astype(np.float64), b.astype(np.float64)
            if not ((x == y) | np.isclose(x, y, _TOLERANCE, _TOLERANCE, equal_nan=True)).all():
                return False
    return True


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        start = np.array2string(np.asarray(value).ravel()[:4], threshold=4, separator=", ")
        kind = "" if type(value) is np.ndarray else f"{type(value).__name__} of "
        return f"<{kind}{value.dtype} {value.shape}, strides {value.strides}: {start}>"
    text = repr(value)
    return text if len(text) < 100 else f"{text[:100]}..."


def _of_the_argument(error: BaseException) -> bool:
    """Whether an exception was raised by an argument's own code, which is in this file."""
    return isinstance(error, ProvokedError) or traceback.extract_tb(error.__traceback__)[-1].filename == __file__


def judged(call: Call, key: str, strict: bool) -> str:
    """Make one call; the outcome in one line, beginning with "wrong" if it should not be."""
    given, changed = hostile(call, random.Random(key))
    told = " | " + ", ".join(f"{name}={_described(given[name])}" for name in changed)
    inputs = [a for name, value in given.items() if name != "out" for a in arrays(value) if a.dtype.kind in "fiub"]
    outputs = list(arrays(given.get("out")))
    kept = [a for a in inputs if not any(np.may_share_memory(a, out) for out in outputs)]
    before = [a.tobytes() for a in kept]
    try:
        answer = call.function(**given)
    except Exception as error:
        return _refusal(call, error, changed, strict, told)
    if before != [a.tobytes() for a in kept]:
        return f"wrong: {call.name} changed an input{told}"
    bits = _bits(answer)

    without_out = {"out": None} if "out" in given else {}
    variants: list[tuple[str, Arguments]] = []
    if given.get("out") is not None:
        variants.append(("without out", without_out))
    if "threads" in given:
        variants.append(("on 3 threads", without_out | {"threads": 3}))
    if call.reference and "backend" in _parameters(call.function):
        variants.append(("by the reference", without_out | {"backend": "numpy"}))
    for how, changes in variants:
        again, _ = hostile(call, random.Random(key))  # an array that overlaps `out` is no longer what it was
        try:
            other = call.function(**{**again, **changes})
        except LegatoError as error:
            return f"wrong: {call.name} {how} raises {type(error).__name__}: {_line(error)}{told}"
        except Exception as error:
            foreign = _refusal(call, error, changed, strict, told)
            return foreign.replace(f"wrong: {call.name}:", f"wrong: {call.name} {how} raises")
        if not (_close(answer, other) if "backend" in changes else _bits(other) == bits):
            return f"wrong: {call.name} answers otherwise {how}{told}"
    return "answered"


def _refusal(call: Call, error: Exception, changed: list[str], strict: bool, told: str) -> str:
    if isinstance(error, MemoryError):
        return "refused: MemoryError"
    if isinstance(error, LegatoError):
        if strict and "\n" in str(error) and not isinstance(error, rasp.LanguageError):  # which shows the place
            return f"wrong: {call.name}: an error of several lines{told}"
        return "refused" if any(name in str(error) for name in changed) else "refused without naming the argument"
    if _of_the_argument(error):
        return "raised by the argument"
    if not strict:
        return f"foreign: {type(error).__name__}"
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"wrong: {call.name}: {type(error).__name__}: {_line(error)} at {Path(at.filename).name}:{at.lineno}{told}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:150]


def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return frozenset()


# ---- running


def work(family: str, seed: int, first: int, count: int, strict: bool) -> None:
    """Answer with a line for each call (in a process of its own)."""
    faulthandler.enable()
    workers.in_bounded_memory()
    warnings.simplefilter("ignore")
    calls = FAMILIES[family](np.random.default_rng(0))
    for number in range(first, first + count):
        key = f"{seed} {family} {number}"
        call = random.Random(f"call {key}").choice(calls)
        print(f"{number}\t{judged(call, key, strict)}", flush=True)


def fuzz(family: str, calls: int, seed: int, *, first: int = 0, strict: bool = True) -> Iterator[tuple[int, str]]:
    """The number and outcome of each call of a family, made in a process that is replaced when it crashes or hangs."""
    flag = "--strict" if strict else "--no-strict"

    def command(first: int, count: int) -> list[str]:
        return [sys.executable, __file__, "--worker", *reproduction(family, seed, first, count), flag]

    return workers.answers(command, first, calls, limit_s=_LIMIT_S)


def reproduction(family: str, seed: int, first: int, count: int = 1) -> list[str]:
    """The options that make these calls again."""
    return ["--family", family, "--seed", str(seed), "--first", str(first), "--calls", str(count)]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1000, help="calls of each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", choices=FAMILIES, help="one family only")
    parser.add_argument("--first", type=int, default=0, help="number of the first call")
    parser.add_argument("--strict", action=argparse.BooleanOptionalAction, default=True, help="judge exception types")
    parser.add_argument("--verbose", action="store_true", help="tell the outcome of every call")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        work(chosen.family, chosen.seed, chosen.first, chosen.calls, chosen.strict)
        return 0
    failed = False
    for family in [chosen.family] if chosen.family else FAMILIES:
        kinds: collections.Counter[str] = collections.Counter()
        faults: collections.Counter[str] = collections.Counter()
        for number, outcome in fuzz(family, chosen.calls, chosen.seed, first=chosen.first, strict=chosen.strict):
            line, _, report = outcome.partition("\n")
            fault, _, told = line.partition(" | ")
            wrong = outcome.startswith("wrong")
            kinds["wrong" if wrong else line] += 1
            faults[fault] += wrong
            if chosen.verbose or (wrong and faults[fault] == 1):  # the first of each kind
                print(f"{family} {number}: {fault}", told, report, sep="\n    ", flush=True)
            if wrong and faults[fault] == 1:
                again = " ".join(reproduction(family, chosen.seed, number))
                print(f"    python tests/fuzz_api.py {again}", flush=True)
        failed |= kinds["wrong"] > 0
        print(f"{kinds.total()} calls of {family}: " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
