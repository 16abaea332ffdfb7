"""Legato's kernels as torch operators, in CPU memory: for autograd, `torch.compile`, `torch.export` and `torch.func`.

`gae` and `apply_step` live here; those of token statistics in `legato.rft.autograd`.

Examples
--------
>>> import torch
>>> from legato.torch import gae
>>> advantages, returns = gae(torch.tensor([[0.0, 0.0, 1.0]]), torch.zeros(1, 3), lam=1.0)
>>> advantages
tensor([[1., 1., 1.]])
"""

from __future__ import annotations

from typing import Any

from legato import diffusion, rft
from legato._scalars import as_count, as_number, as_threads
from legato.errors import ArgumentError, DependencyError

try:
    import torch
    from torch import library
except ImportError:
    raise DependencyError("torch is missing: pip install torch") from None
if not hasattr(library, "custom_op"):
    raise DependencyError(f"torch of 2.4 or later is needed, this is {torch.__version__}")

__all__ = ["apply_step", "gae"]

_HALVES = (torch.float16, torch.bfloat16)
_REALS = (torch.float32, torch.float64, *_HALVES)


def gae(
    rewards: Any,
    values: Any,
    mask: Any = None,
    gamma: float = 1.0,
    lam: float = 0.95,
    bootstrap: Any = None,
) -> tuple[Any, Any]:
    """Generalized advantage estimation, differentiable with respect to rewards, values and bootstrap.

    Parameters
    ----------
    rewards, values : torch.Tensor, shape (b, t)
        16-bit types are converted to float32.
    mask, gamma, lam, bootstrap
        As of `legato.rft.gae`.

    Returns
    -------
    advantages, returns : torch.Tensor, shape (b, t)
        float32 where rewards and values are (or narrower), else float64.

    Raises
    ------
    ArgumentError
        A shape, a type or a device is wrong.
    """
    given = {"rewards": rewards, "values": values, "bootstrap": bootstrap}
    for name, value in given.items():
        if value is not None or name != "bootstrap":
            _check(name, value)
    if rewards.ndim != 2 or values.shape != rewards.shape:
        raise ArgumentError(
            f"rewards, values: expected one shape (b, t), got {tuple(rewards.shape)} and {tuple(values.shape)}"
        )
    if bootstrap is not None and bootstrap.shape != rewards.shape[:1]:
        raise ArgumentError(f"bootstrap: expected shape ({rewards.shape[0]},), got {tuple(bootstrap.shape)}")
    if mask is not None:
        if not isinstance(mask, torch.Tensor) or mask.device.type != "cpu" or mask.shape != rewards.shape:
            raise ArgumentError(f"mask: expected a torch tensor in CPU memory of shape {tuple(rewards.shape)}")
        mask = mask != 0
    wide = torch.float64 if torch.float64 in (rewards.dtype, values.dtype) else torch.float32
    ends = None if bootstrap is None else bootstrap.to(wide)
    gamma, lam = as_number("gamma", gamma), as_number("lam", lam)
    found = _run(_gae, _Gae, rewards.to(wide), values.to(wide), mask, ends, gamma, lam)
    return found[0], found[1]


def apply_step(
    x: Any,
    eps: Any,
    coef: Any,
    eps_uncond: Any = None,
    guidance_scale: float = 1.0,
    *,
    seeds: Any = 0,
    step: int = 0,
    substep: int = 0,
    noise: Any = None,
    first_sample: int = 0,
    threads: int = 1,
) -> Any:
    """One step of a sampler in one pass, differentiable with respect to x, eps, eps_uncond and noise.

    Parameters
    ----------
    x, eps, eps_uncond, noise : torch.Tensor, shape (samples, ...)
        float32, float64, float16 or bfloat16, all of one type.
    coef : three numbers, or torch.Tensor of shape (3,) or (samples, 3)
    guidance_scale, step, substep, first_sample, threads
        As of `legato.diffusion.apply_step`.
    seeds : int or torch.Tensor of int64, shape (samples,)
        From 0 to 2^63 - 1.

    Returns
    -------
    torch.Tensor
        Of the shape and type of x. Under `torch.func.vmap` every entry of the mapped axis gets the same noise.

    Raises
    ------
    ArgumentError
        A shape, a type or a device is wrong, or a coefficient is not finite.
    """
    _check("x", x)
    if x.ndim == 0:
        raise ArgumentError("x: expected at least one axis, that of the samples")
    for name, value in (("eps", eps), ("eps_uncond", eps_uncond), ("noise", noise)):
        if value is None and name != "eps":
            continue
        _check(name, value)
        if value.shape != x.shape or value.dtype != x.dtype:
            raise ArgumentError(f"{name}: expected {x.dtype} of shape {tuple(x.shape)}, as x is")
    scale = as_number("guidance_scale", guidance_scale)
    if eps_uncond is None and scale != 1:
        raise ArgumentError("eps_uncond: expected a tensor, because guidance_scale is not 1")
    own = torch.as_tensor(coef, dtype=torch.float64).detach()
    if own.shape not in ((3,), (x.shape[0], 3)):
        raise ArgumentError(f"coef: expected shape (3,) or ({x.shape[0]}, 3), got {tuple(own.shape)}")
    a, b, c = own.reshape(-1, 3).unbind(1)
    table = torch.stack([a, b * scale, b * (1.0 - scale), c], 1)
    if not isinstance(seeds, torch.Tensor):
        seeds = torch.tensor(as_count("seeds", seeds, 0, 2**63 - 1))
    address = [
        as_count("step", step, -1, 2**32 - 2),
        as_count("substep", substep, 0, 2**32 - 1),
        as_count("first_sample", first_sample, 0, 2**63 - 1),
        as_threads(threads),
    ]
    return _run(_step, _Step, x, eps, eps_uncond, noise, table, seeds, address)


def _check(name: str, value: Any) -> None:
    if not isinstance(value, torch.Tensor) or value.device.type != "cpu":
        raise ArgumentError(f"{name}: expected a torch tensor in CPU memory, got {type(value).__name__}")
    if value.dtype not in _REALS:
        raise ArgumentError(f"{name}: expected float32, float64, float16 or bfloat16, got {value.dtype}")


def _run(operator: Any, function: Any, *inputs: Any) -> Any:
    """Call an operator with its autograd: torch.compile sees into the operator, torch.func into the function only."""
    return operator(*inputs) if torch.compiler.is_compiling() else function.apply(*inputs)


# --- gae --------------------------------------------------------------------------------------------------------------


@library.custom_op("legato::gae", mutates_args=(), device_types="cpu")
def _gae(
    rewards: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    bootstrap: torch.Tensor | None,
    gamma: float,
    lam: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    found = rft.gae(rewards, values, None if mask is None else mask.numpy(), gamma, lam, bootstrap)
    return torch.from_numpy(found[0]), torch.from_numpy(found[1])


@_gae.register_fake
def _(rewards: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return rewards.new_empty(rewards.shape), rewards.new_empty(rewards.shape)


def _keep_mask(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
    _, _, mask, bootstrap, ctx.gamma, ctx.lam = inputs
    ctx.ended = bootstrap is not None
    ctx.save_for_backward(*(() if mask is None else (mask,)))


def _transpose_gae(ctx: Any, by_advantages: Any, by_returns: Any) -> tuple[Any, ...]:
    """Run the transposed recurrence, forward in time: gae itself, on what is flipped."""
    mask = ctx.saved_tensors[0] if ctx.saved_tensors else None
    upstream = by_advantages + by_returns
    flipped = None if mask is None else mask.flip(1)
    zero = torch.zeros_like(upstream)
    by_delta = _run(_gae, _Gae, upstream.flip(1), zero, flipped, None, ctx.gamma * ctx.lam, 1.0)[0].flip(1)
    before = torch.cat([torch.zeros_like(by_delta[:, :1]), _last_counted(by_delta, mask)], 1)  # of the step before
    by_values = by_returns - by_delta + ctx.gamma * before[:, :-1]
    if mask is not None:
        by_values = torch.where(mask, by_values, 0.0)
    return by_delta, by_values, None, ctx.gamma * before[:, -1] if ctx.ended else None, None, None


def _last_counted(x: Any, mask: Any) -> Any:
    """At each step the value of the last step so far that counts; 0 before the first."""
    if mask is None or x.shape[1] == 0:
        return x
    steps = torch.arange(x.shape[1]).expand(x.shape)
    last = torch.where(mask, steps, -1).cummax(1).values
    return torch.where(last < 0, 0.0, x.gather(1, last.clamp(min=0)))


class _Gae(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> Any:
        return _gae(*inputs)

    setup_context = staticmethod(_keep_mask)
    backward = staticmethod(_transpose_gae)


library.register_autograd(_gae, _transpose_gae, setup_context=_keep_mask)


# --- The diffusion step -----------------------------------------------------------------------------------------------


@library.custom_op("legato::apply_step", mutates_args=(), device_types="cpu")
def _step(
    x: torch.Tensor,
    eps: torch.Tensor,
    eps_uncond: torch.Tensor | None,
    noise: torch.Tensor | None,
    coefficients: torch.Tensor,
    seeds: torch.Tensor,
    address: list[int],
) -> torch.Tensor:
    table = coefficients.numpy()
    if len(table) == 1:
        table = table[0]
    step, substep, first_sample, threads = address
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    diffusion.apply_step(
        x,
        eps,
        table[..., [0, 1, 3]],
        eps_uncond,
        seeds=seeds.numpy() if seeds.ndim else int(seeds),
        step=step,
        substep=substep,
        noise=noise,
        weights=table[..., 1:3],
        first_sample=first_sample,
        out=out,
        threads=threads,
    )
    return out


@_step.register_fake
def _(x: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _keep_coefficients(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
    _, _, eps_uncond, noise, coefficients, _, _ = inputs
    ctx.guided, ctx.given = eps_uncond is not None, noise is not None
    ctx.save_for_backward(coefficients)


def _transpose_step(ctx: Any, upstream: Any) -> tuple[Any, ...]:
    """Give each input its coefficient times the upstream gradient: a step is linear."""
    (table,) = ctx.saved_tensors
    wide = upstream.dtype if upstream.dtype == torch.float64 else torch.float32
    shape = (-1, *[1] * (upstream.ndim - 1))
    a, cond, uncond, z = ((upstream.to(wide) * k.to(wide).reshape(shape)).to(upstream.dtype) for k in table.unbind(1))
    return a, cond, uncond if ctx.guided else None, z if ctx.given else None, None, None, None


class _Step(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> Any:
        return _step(*inputs)

    setup_context = staticmethod(_keep_coefficients)
    backward = staticmethod(_transpose_step)


library.register_autograd(_step, _transpose_step, setup_context=_keep_coefficients)
