"""What the schedulers share: whose noise a run has, and the one pass of a step."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from legato import _core
from legato._scalars import as_count, shown
from legato._turns import Turns, one_at_a_time
from legato.diffusion.multistep import Weights
from legato.diffusion.noise import Seeds, normal
from legato.diffusion.steps import Prediction, apply_step, rewritten
from legato.errors import ArgumentError, IndexRangeError

Row = tuple[float, float, float, float]  # weights of x, x0, eps and z
Seen = tuple[float, float, float, float]  # x0 = p x + q out and eps = r x + u out: p, q, r, u

_PREDICTIONS: dict[str, Prediction] = {
    "epsilon": "epsilon", "sample": "x0", "original_sample": "x0", "v_prediction": "v"
}  # fmt: skip
_ALONE = 1 << 18  # numbers that one thread takes

ROOM = "legato.diffusion.schedulers"  # where pickles and saved pipelines find the classes


class Run:
    """Mixed into a scheduler of diffusers: the seeds of a run, cached coefficients, and the fused pass."""

    _takes_seeds = False
    seeds: Seeds | None
    config: Any
    timesteps: Any
    _turns: Turns

    def __init_subclass__(cls) -> None:
        """Take `seeds` beside their fields, and begin a run with every ``set_timesteps``; both keep their signature."""
        if not hasattr(cls, "set_timesteps") or getattr(cls, "_takes_seeds", False):
            return  # not yet beside one of diffusers' classes, or below one of ours
        cls._takes_seeds = True
        cls.__module__ = ROOM
        cls.__init__ = _with_seeds(cls.__init__)  # type: ignore[method-assign]
        theirs = cls.set_timesteps

        @functools.wraps(theirs)
        def set_timesteps(self: Run, num_inference_steps: Any = None, *args: Any, **options: Any) -> None:
            if num_inference_steps is not None:
                num_inference_steps = as_count("num_inference_steps", num_inference_steps)
            theirs(self, num_inference_steps, *args, **options)
            self._begin()

        cls.set_timesteps = one_at_a_time(set_timesteps)

    def _begin(self) -> None:
        self._drawn: tuple[Any, Seeds] | None = None  # the generators of this run, and the seeds drawn from them
        self._drawn_at = -1  # last step that had noise of these seeds
        self._rows: dict[Any, Any] = {}
        self._rows_of: Any = None
        self._times: dict[float, int] = {}
        self._times_of: Any = None
        self._listed: list[float] = []
        self._listed_of: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot be copied: of a run with generators, a copy draws its own seeds."""
        state = self.__dict__.copy()
        if self._drawn is not None and self._drawn[0] is not None:
            state["_drawn"] = None
        return state | {"_times_of": None, "_rows_of": None, "_listed_of": None}

    # --- Noise ---

    def _seeds_at(self, generator: Any, k: int) -> Seeds:
        """Return the seeds of step k's noise; where a run begins, draw them."""
        if self.seeds is not None:
            return self.seeds
        many = isinstance(generator, list | tuple)
        sources = tuple(generator) if many else (generator,)
        key = sources if many or generator is not None else None
        same = self._drawn is not None and _same(key, self._drawn[0])
        if self._drawn is None or not same or k <= self._drawn_at:
            drawn = [_draw(source) for source in sources]
            self._drawn = key, np.array(drawn, np.uint64) if len(drawn) > 1 else drawn[0]
        self._drawn_at = k
        return self._drawn[1]

    # --- Coefficients ---

    def _cached(self, levels: Any, key: Any, make: Callable[[], Any]) -> Any:
        """Return what `make` gives for `key`, once for one array of levels."""
        if levels is not self._rows_of:
            self._rows, self._rows_of = {}, levels
        if key not in self._rows:
            self._rows[key] = make()
        return self._rows[key]

    def _numbers(self, levels: Any) -> list[float]:
        """Return a tensor of levels as numbers, read once: an entry of a tensor takes microseconds."""
        if levels is not self._listed_of:
            self._listed, self._listed_of = levels.tolist(), levels
        return self._listed

    def _place(self, timestep: int) -> int | None:
        """Return the number of the step at a timestep; None off the list."""
        if self.timesteps is not self._times_of:
            self._times = {float(t): k for k, t in reversed(list(enumerate(self.timesteps.tolist())))}
            self._times_of = self.timesteps
        return self._times.get(float(timestep))

    def _noise_place(self, timestep: int) -> int:
        """Return the step word of the noise at a timestep, on the list or off it."""
        place = self._place(timestep)
        return len(self.timesteps) + timestep if place is None else place

    def _trained(self, timestep: Any) -> int:
        """Return a trained timestep as a whole number."""
        t = int(timestep)
        if not 0 <= t < self.config.num_train_timesteps:
            raise IndexRangeError(f"timestep: expected 0 to {self.config.num_train_timesteps - 1}, got {t}")
        return t

    def _counted(self, timestep: Any) -> int:
        """Return the number of the step of a scheduler that counts its steps."""
        mine: Any = self
        k = mine.step_index
        if k is None:
            if mine.begin_index is None and self._place(timestep) is None:
                raise IndexRangeError(f"timestep: expected one of this run's timesteps, got {shown(float(timestep))}")
            mine._init_step_index(timestep)
            k = mine.step_index
        k, steps = int(k), mine.timesteps.shape[0]
        if not 0 <= k < steps:
            raise IndexRangeError(f"timestep: this run has {steps} steps, and all are taken")
        return k

    # --- The pass ---

    def _bounded(self, x0: torch.Tensor) -> torch.Tensor:
        """Return x0 thresholded or clipped as the config says; the very tensor where it says nothing."""
        if self.config.get("thresholding"):
            return self._threshold_sample(x0)  # type: ignore[attr-defined]
        if self.config.get("clip_sample"):
            reach = self.config.clip_sample_range
            return x0.clamp(-reach, reach)
        return x0

    def _mixed(
        self, x: torch.Tensor, out: torch.Tensor, seen: Seen, level: tuple[float, float], row: Row,
        noise: dict[str, Any], *, eps_of_bounded: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Return (cx x + c0 x0 + ce eps + w z, x0), where x0 is bounded as the config says."""
        (p, q, r, u), (alpha, sigma), (cx, c0, ce, w) = seen, level, row
        x0 = fused(x, out, (p, q, 0.0))
        bounded = self._bounded(x0)
        if bounded is x0:
            return fused(x, out, (cx + c0 * p + ce * r, c0 * q + ce * u, w), **noise), x0
        if eps_of_bounded and ce:
            return fused(x, bounded, (cx + ce / sigma, c0 - ce * alpha / sigma, w), **noise), bounded
        after = fused(x, bounded, (cx + ce * r, c0, w), second=out, weight=ce * u, **noise)
        return after, bounded

    def _noise(self, w: float, given: Any, generator: Any, k: int) -> dict[str, Any]:
        """Return what `fused` is told of the noise of step k."""
        if given is not None and generator is not None:
            raise ArgumentError("variance_noise: expected either this or a generator, got both")
        if w == 0 or given is not None:
            return {"noise": given if w else None}
        return {"seeds": self._seeds_at(generator, k), "step": k}


def _with_seeds(theirs: Callable[..., None]) -> Callable[..., None]:
    known = inspect.signature(theirs).parameters

    @functools.wraps(theirs)
    def begin(self: Run, *args: Any, seeds: Seeds | None = None, **fields: Any) -> None:
        for name in fields:
            if name not in known and not name.startswith("_") and name not in getattr(self, "_deprecated_kwargs", ()):
                fitting = ", ".join(one for one in list(known)[1:] if one != "kwargs")
                raise ArgumentError(f"{name}: not a field of {type(self).__name__}; expected one of {fitting}, seeds")
        self._turns = Turns()
        self.seeds = seeds
        self._begin()
        theirs(self, *args, **fields)

    mine = inspect.Parameter("seeds", inspect.Parameter.KEYWORD_ONLY, default=None)
    every = sorted([*known.values(), mine], key=lambda one: one.kind)
    begin.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    return begin


def _same(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _draw(generator: Any) -> int:
    """Draw a seed; the generator moves by one draw."""
    options: dict[str, Any] = {} if generator is None else {"generator": generator, "device": generator.device}
    return int(torch.randint(0, 2**63 - 1, (1,), dtype=torch.int64, **options).item())


def alike(x: torch.Tensor, out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both in the wider of their types."""
    if x.shape != out.shape:
        raise ArgumentError(f"model_output: expected shape {tuple(x.shape)} as sample has, got {tuple(out.shape)}")
    if x.dtype != out.dtype:
        wide = torch.promote_types(x.dtype, out.dtype)
        return x.to(wide), out.to(wide)
    return x, out


def fused(
    x: torch.Tensor, out: torch.Tensor, coef: tuple[float, float, float], *, second: Any = None, weight: float = 0.0,
    noise: Any = None, seeds: Seeds = 0, step: int = 0, substep: int = 0,
) -> torch.Tensor:  # fmt: skip
    """Return A x + B out + weight second + C z: in one pass on the CPU, and in torch elsewhere or where it records."""
    on_x, on_out, on_noise = coef
    threads = 1 if x.numel() <= _ALONE else torch.get_num_threads()
    if noise is None and x.is_contiguous() and out.is_contiguous() and (second is None or second.is_contiguous()):
        by = coef if second is None else (on_x, on_out, weight, on_noise)
        try:  # the usual case, without ceremony; NumPy cannot view what records gradients or is elsewhere
            views = x.numpy(), out.numpy(), None if second is None else second.numpy()
            done = _core.diffusion_step_quickly(
                views[0], views[1], by, views[2], 1.0, seeds, step, substep, 0, None, threads
            )
        except (TypeError, RuntimeError):
            done = None
        if done is not None:
            return torch.from_numpy(done)
    tensors = [one for one in (x, out, second, noise) if one is not None]
    recorded = torch.is_grad_enabled() and any(one.requires_grad for one in tensors)
    if recorded or x.device.type != "cpu" or x.ndim == 0:
        after = on_x * x + on_out * out
        if second is not None:
            after = after + weight * second
        if on_noise and noise is None:
            noise = torch.from_numpy(normal(tuple(x.shape), seeds, step=step, substep=substep)).to(x.device)
        return after if not on_noise else after + on_noise * noise.to(x.dtype)
    after = torch.empty_like(x, requires_grad=False, memory_format=torch.contiguous_format)
    tensors = [one.detach().to(x.dtype).contiguous() for one in tensors]
    rest = iter(tensors[2:])
    options: dict[str, Any] = {"seeds": seeds, "step": step, "substep": substep, "threads": threads}
    if second is not None:
        options |= {"eps_uncond": next(rest), "weights": (on_out, weight)}
    if noise is not None:
        options["noise"] = next(rest)
    apply_step(tensors[0], tensors[1], coef, out=after, **options)
    return after if x.is_contiguous() else torch.empty_like(x).copy_(after)  # in the layout of x


def in_type(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return x in a type; ``to`` takes a microsecond to find that it is."""
    return x if x.dtype is dtype else x.to(dtype)


def combined(x: torch.Tensor, outs: Sequence[torch.Tensor], weights: Weights, noise: dict[str, Any]) -> torch.Tensor:
    """Return the step of a multistep solver: x, its predictions (now, one before, ...) and noise by their weights."""
    on_x, by, on_noise = weights
    x, now = alike(x, outs[0])
    second = outs[1] if len(by) > 1 else None
    after = fused(x, now, (on_x, by[0], on_noise), second=second, weight=(*by, 0.0)[1], **noise)
    for out, weight in zip(outs[2:], by[2:], strict=False):
        after = after.add(out, alpha=weight)
    return after


@functools.lru_cache(maxsize=4096)  # runs of as many steps have the same levels
def seen_at(kind: str, alpha: float, sigma: float) -> Seen:
    """Return what x0 and eps are of x and of a prediction of diffusers' `kind`, at x = alpha x0 + sigma eps."""
    if kind not in _PREDICTIONS:
        raise ArgumentError(f"prediction_type: expected one of {', '.join(_PREDICTIONS)}, got {shown(kind)}")
    if kind == "epsilon" and alpha == 0:
        raise ArgumentError("prediction_type: 'epsilon' says nothing on x0 where alpha is 0; expected v_prediction")
    p, q, _ = rewritten(alpha, sigma, _PREDICTIONS[kind], on_x0=1.0).tolist()
    r, u, _ = rewritten(alpha, sigma, _PREDICTIONS[kind], on_eps=1.0).tolist()
    return p, q, r, u


def seen_in_sigma(kind: str, sigma: float) -> Seen:
    """`seen_at` for x = x0 + sigma eps, where "v_prediction" is made at x / sqrt(1 + sigma^2)."""
    if kind != "v_prediction":
        return seen_at(kind, 1.0, sigma)
    square = sigma * sigma + 1.0
    p, q = 1.0 / square, -sigma / square**0.5
    return p, q, (1.0 - p) / sigma, -q / sigma


def refuse_numbers_of_steps(timestep: Any) -> None:
    """Refuse a whole number where one of ``timesteps`` is expected, as diffusers does."""
    if isinstance(timestep, int) or getattr(timestep, "dtype", None) in (torch.int32, torch.int64):
        raise ArgumentError("timestep: expected one of `timesteps`, not the number of a step")
