"""Noise and the fused step inside of ``@njit`` functions. Imported by Numba's entry point alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import register_jitable

from legato import diffusion
from legato._calls import apart, call, compiles, is_none, pointer, refuse, want_array, want_none
from legato.errors import ArgumentError

_REALS = (types.float32, types.float64)
_START = 2**32 - 1  # the step word of the noise that a sampling run starts from


@register_jitable
def _check(status: int) -> None:
    if status != 0:
        raise ArgumentError("threads, shape: expected 1 or more threads, and sizes that memory can hold")


@register_jitable
def _word(step: int) -> Any:
    if step < -1 or step >= _START:
        raise ArgumentError("step: expected an integer from -1 to 2^32 - 2")
    return np.uint32(_START) if step == -1 else np.uint32(step)


def _seeds(seeds: Any) -> Any:
    """Return functions (seeds, samples) -> the seed of all samples, and -> an array of one a sample or None."""
    integers = isinstance(seeds, types.Integer) or (isinstance(seeds, types.Omitted) and isinstance(seeds.value, int))
    if integers or isinstance(seeds, int):

        @register_jitable
        def one(seeds: Any, samples: int) -> Any:
            if seeds < 0:
                raise ArgumentError("seeds: expected integers from 0 to 2^64 - 1")
            return np.uint64(seeds)

        @register_jitable
        def none(seeds: Any, samples: int) -> Any:
            return None

        return one, none
    want_array("seeds", seeds, (types.uint64, types.int64), 1)
    signed = seeds.dtype == types.int64

    @register_jitable
    def zero(seeds: Any, samples: int) -> Any:
        if len(seeds) != samples:
            raise ArgumentError("seeds: expected one integer, or one a sample")
        if signed:
            for seed in seeds:
                if seed < 0:
                    raise ArgumentError("seeds: expected integers from 0 to 2^64 - 1")
        return np.uint64(0)

    @register_jitable
    def many(seeds: Any, samples: int) -> Any:
        return seeds  # the same bits, signed or not

    return zero, many


def _type_of_noise(kind: Any) -> Any:
    """Return the type of numbers that ``dtype`` names: a text written out, or NumPy's class."""
    value = getattr(kind, "literal_value", getattr(kind, "value", kind))
    for numbers in _REALS:
        if value == str(numbers) or getattr(kind, "dtype", None) == numbers:
            return numbers
    return refuse("dtype", "'float32' or 'float64', written out", kind)


# Sizes as integers of one type: written out in the code, each has one of its own.
_SIZES = {
    1: register_jitable(lambda s: (np.intp(s[0]),)),
    2: register_jitable(lambda s: (np.intp(s[0]), np.intp(s[1]))),
    3: register_jitable(lambda s: (np.intp(s[0]), np.intp(s[1]), np.intp(s[2]))),
    4: register_jitable(lambda s: (np.intp(s[0]), np.intp(s[1]), np.intp(s[2]), np.intp(s[3]))),
}


@compiles(diffusion.normal, prefer_literal=True)
def _normal(
    shape: Any,
    seeds: Any = 0,
    step: Any = 0,
    substep: Any = 0,
    dtype: Any = "float32",
    first_sample: Any = 0,
    out: Any = None,
    threads: Any = 1,
) -> Any:
    axes = 0
    if isinstance(shape, types.BaseTuple) and all(isinstance(size, types.Integer) for size in shape):
        axes = len(shape)
    elif isinstance(shape, types.Integer):
        axes = 1
    if axes not in _SIZES:
        refuse("shape", "an integer or a tuple of one to four", shape)
    numbers = _type_of_noise(dtype)
    fresh = is_none(out)
    if not fresh:
        want_array("out", out, (numbers,), axes, written=True)
    run = call(f"legato_diffusion_normal_f{numbers.bitwidth}")
    storage = np.float32 if numbers == types.float32 else np.float64
    one, many = _seeds(seeds)

    as_sizes = _SIZES[axes] if isinstance(shape, types.BaseTuple) else register_jitable(lambda n: (np.intp(n),))

    @register_jitable
    def target(shape: Any, out: Any) -> Any:
        return np.empty(shape, storage) if fresh else out

    def draw(
        shape: Any,
        seeds: Any = 0,
        step: Any = 0,
        substep: Any = 0,
        dtype: Any = "float32",
        first_sample: Any = 0,
        out: Any = None,
        threads: Any = 1,
    ) -> Any:
        wanted = as_sizes(shape)
        found = target(wanted, out)
        if found.shape != wanted:
            raise ArgumentError("out: expected an array of that shape")
        if first_sample < 0 or substep < 0 or substep > _START:
            raise ArgumentError("first_sample, substep: expected integers from 0 on")
        samples = found.shape[0]
        elements = found.size // samples if samples > 0 else 0
        seed = one(seeds, samples)
        first, word = np.uint64(first_sample), _word(step)
        _check(
            run(
                seed,
                pointer(many(seeds, samples)),
                first,
                word,
                np.uint32(substep),
                samples,
                elements,
                pointer(found),
                threads,
            )
        )
        return found

    return draw


def _row(name: str, kind: Any, count: int) -> Any:
    """Return functions of coefficients: value -> the number of rows, and (value, row) -> `count` numbers."""
    if isinstance(kind, types.BaseTuple) and len(kind) == count:
        if count == 3:
            return register_jitable(lambda c: 1), register_jitable(lambda c, i: (float(c[0]), float(c[1]), float(c[2])))
        return register_jitable(lambda c: 1), register_jitable(lambda c, i: (float(c[0]), float(c[1])))
    want_array(name, kind, (types.float64,))
    message = f"{name}: expected {count} numbers, or as many a sample"
    flat = kind.ndim == 1
    if kind.ndim not in (1, 2):
        refuse(name, f"an array of shape ({count},) or (samples, {count})", kind)

    @register_jitable
    def rows(c: Any) -> int:
        if c.shape[-1] != count:
            raise ArgumentError(message)
        return 1 if flat else c.shape[0]

    if flat and count == 3:
        return rows, register_jitable(lambda c, i: (c[0], c[1], c[2]))
    if flat:
        return rows, register_jitable(lambda c, i: (c[0], c[1]))
    if count == 3:
        return rows, register_jitable(lambda c, i: (c[i, 0], c[i, 1], c[i, 2]))
    return rows, register_jitable(lambda c, i: (c[i, 0], c[i, 1]))


def _table(coef: Any, weights: Any) -> Any:
    """Return the function that fills (1 or samples, 4): a, weight of eps, weight of eps_uncond, noise."""
    own_rows, own = _row("coef", coef, 3)
    weighted = not is_none(weights)
    pair_rows, pair = _row("weights", weights, 2) if weighted else (own_rows, own)

    @register_jitable
    def pair_of(coef: Any, weights: Any, scale: float, i: int) -> Any:
        if weighted:
            return pair(weights, i)
        b = own(coef, i)[1]
        return (b * scale, b * (1.0 - scale))

    @register_jitable
    def count_of(weights: Any) -> int:
        return pair_rows(weights) if weighted else 1

    @register_jitable
    def fill(coef: Any, weights: Any, scale: float, samples: int) -> Any:
        m, k = own_rows(coef), count_of(weights)
        if m not in (1, samples) or k not in (1, samples):
            raise ArgumentError("coef, weights: expected one row, or one a sample")
        table = np.empty((max(m, k), 4))
        for i in range(len(table)):
            a = own(coef, i if m > 1 else 0)
            p = pair_of(coef, weights, scale, i)
            table[i, 0], table[i, 1], table[i, 2], table[i, 3] = a[0], p[0], p[1], a[2]
        if not np.isfinite(table).all():
            raise ArgumentError("coef: expected finite coefficients")
        return table

    return fill


@compiles(diffusion.apply_step)
def _apply_step(
    x: Any,
    eps: Any,
    coef: Any,
    eps_uncond: Any = None,
    guidance_scale: Any = 1.0,
    seeds: Any = 0,
    step: Any = 0,
    substep: Any = 0,
    noise: Any = None,
    weights: Any = None,
    first_sample: Any = 0,
    out: Any = None,
    threads: Any = 1,
) -> Any:
    want_array("x", x, _REALS)
    if x.ndim == 0:
        refuse("x", "an array of samples", x)
    numbers = (x.dtype,)
    want_array("eps", eps, numbers, x.ndim)
    alone = want_none("eps_uncond", eps_uncond, numbers, x.ndim)
    want_none("noise", noise, numbers, x.ndim)
    fresh, weighted = is_none(out), not is_none(weights)
    if not fresh:
        want_array("out", out, numbers, x.ndim, written=True)
    run = call(f"legato_diffusion_apply_step_f{x.dtype.bitwidth}")
    one, many = _seeds(seeds)
    fill = _table(coef, weights)

    @register_jitable
    def given(array: Any, found: Any) -> Any:
        if array.shape != found.shape:
            raise ArgumentError("eps, eps_uncond, noise, out: expected the shape of x")
        return apart(array, found)

    missing = register_jitable(lambda array, found: None)
    other, drawn = missing if alone else given, missing if is_none(noise) else given

    @register_jitable
    def target(x: Any, out: Any) -> Any:
        return np.empty_like(x) if fresh else out

    def apply(
        x: Any,
        eps: Any,
        coef: Any,
        eps_uncond: Any = None,
        guidance_scale: Any = 1.0,
        seeds: Any = 0,
        step: Any = 0,
        substep: Any = 0,
        noise: Any = None,
        weights: Any = None,
        first_sample: Any = 0,
        out: Any = None,
        threads: Any = 1,
    ) -> Any:
        if alone and not weighted and guidance_scale != 1:
            raise ArgumentError("eps_uncond: expected an array, because guidance_scale is not 1")
        if first_sample < 0 or substep < 0 or substep > _START:
            raise ArgumentError("first_sample, substep: expected integers from 0 on")
        samples = x.shape[0]
        elements = x.size // samples if samples > 0 else 0
        found = target(x, out)
        state, cond = given(x, found), given(eps, found)
        uncond, z = other(eps_uncond, found), drawn(noise, found)
        table = fill(coef, weights, guidance_scale, samples)
        first, word = np.uint64(first_sample), _word(step)
        _check(
            run(
                samples,
                elements,
                pointer(table),
                len(table),
                pointer(state),
                pointer(cond),
                pointer(uncond),
                pointer(z),
                one(seeds, samples),
                pointer(many(seeds, samples)),
                first,
                word,
                np.uint32(substep),
                pointer(found),
                threads,
            )
        )
        return found

    return apply
