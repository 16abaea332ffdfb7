"""Noise that depends on the seed alone: counter-based generators and the Gaussians drawn from them."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from legato import _core, _dispatch
from legato._arrays import STORAGES, as_real, on_device, output_apart, storage_name
from legato._dispatch import Backend
from legato._gpu import check_backend
from legato._scalars import as_choice, as_count, as_number, as_shape, as_threads, shown
from legato.diffusion import _reference
from legato.errors import ArgumentError

__all__ = ["Generator", "Seeds", "Streams", "brownian", "normal", "path_time", "philox4x32", "threefry4x32"]

Generator: TypeAlias = Literal["threefry", "philox"]
GENERATORS: tuple[Generator, ...] = get_args(Generator)
Seeds = int | ArrayLike
Address = tuple[
    NDArray[np.uint64], bool, int, int, int, bool
]  # seeds, one for all, first stream, step, substep, Philox
_DEPTH = 24  # levels of the tree of a Brownian path
_PATH = 2**31  # the substep word of its root
_START = 2**32 - 1  # the step word of the noise that a sampling run starts from


class Streams:
    """Seeds of a batch: one integer for all samples (sample i has stream i), or one a sample (stream 0)."""

    def __init__(self, seeds: Seeds, samples: int, first_sample: int = 0, generator: Generator = "threefry") -> None:
        self.samples = samples
        self.first = as_count("first_sample", first_sample, 0, 2**64 - 1)
        self.philox = as_choice("generator", generator, GENERATORS) == "philox"
        if type(seeds) is int and 0 <= seeds < 2**64 and self.first == 0 and not self.philox:
            self.shared, self.array = True, np.array([seeds], np.uint64)
            return
        try:
            array = np.asarray(seeds)
            if array.dtype.kind == "f" and isinstance(seeds, list | tuple) and all(type(s) is int for s in seeds):
                array = np.array(seeds, np.uint64)  # NumPy takes integers on both sides of 2^63 for floats
            whole = array.dtype.kind in "iu" and (array.size == 0 or int(array.min()) >= 0)
        except Exception:  # too large, ragged, or a stranger's
            whole = False
        if not whole:
            raise ArgumentError("seeds: expected integers from 0 to 2^64 - 1")
        self.shared = array.ndim == 0
        if not self.shared and array.shape != (samples,):
            raise ArgumentError(f"seeds: expected one integer or shape ({samples},), got {array.shape}")
        if self.philox and self.shared and self.first + samples > 2**32:
            raise ArgumentError("first_sample: Philox has 2^32 streams; give seeds= an array")
        self.array = np.array(array, np.uint64, ndmin=1, order="C")  # a copy: an output may lie over the seeds

    def address(self, step: int, substep: int) -> Address:
        """Return all that a number of one step depends on, but its sample and element."""
        return self.array, self.shared, self.first, _word("step", step), _substep(substep), self.philox

    def native(self, step: int = 0, substep: int = 0) -> Any:
        """Return the core's view of it, for one step."""
        return _core.DiffusionNoise(*self.address(step, substep))

    def reference(self, elements: int, step: int, substep: int) -> NDArray[np.float32]:
        """Draw normals (samples, elements) by the NumPy twin."""
        if self.shared:
            seeds = np.repeat(self.array, self.samples)
            streams = self.first + np.arange(self.samples, dtype=np.uint64)
        else:
            seeds, streams = self.array, np.zeros(self.samples, np.uint64)
        with np.errstate(over="ignore"):
            return _reference.normal(seeds, streams, elements, _word("step", step), _substep(substep), self.philox)


def normal(
    shape: int | tuple[int, ...],
    seeds: Seeds = 0,
    *,
    step: int = 0,
    substep: int = 0,
    dtype: DTypeLike = "float32",
    generator: Generator = "threefry",
    first_sample: int = 0,
    out: Any = None,
    threads: int = 1,
    backend: Backend | None = None,
) -> NDArray[Any]:
    """Draw standard normals; each is a function of (its sample's seed, step, substep, element) alone.

    Parameters
    ----------
    shape : tuple of int
        The first axis counts samples, the others the elements of a sample (in C order).
    seeds : int or array_like of int, shape (samples,)
        One integer s gives sample i the stream (s, i + first_sample); an array gives each sample a seed of its own
        (stream 0). From 0 to 2^64 - 1.
    step : int
        Number of the step that the noise is for, up to 2^32 - 2; -1 is the noise a sampling run starts from.
    substep : int
        0 for the sampler's noise, j for the j-th corrector step of this step.
    dtype : {"float32", "float64", "float16", "bfloat16"}
        Type of storage. The numbers are drawn as float32 and then converted, so the seed means the same in all.
    generator : {"threefry", "philox"}
        Threefry4x32-13 or Philox4x32-10.
    first_sample : int
        With one integer as seed: the number of the first sample, for drawing a batch in parts.
    out : array, optional
        Array of this shape and dtype to write into. In GPU memory (CuPy, or torch through CuPy) it is filled there,
        with the same bits.
    threads : int
        Threads to use; the result does not depend on it.
    backend : {"native", "numpy"}, optional

    Returns
    -------
    ndarray
        `out` where it was given; bfloat16 comes as its bits, uint16.

    Raises
    ------
    ArgumentError
        A shape, dtype, seed or step makes no sense.

    See Also
    --------
    brownian : Increment of a Brownian path from time `start` to time `end`; the path is a function of the seed alone.
    threefry4x32 : Blocks of Threefry4x32, for known-answer tests.

    Notes
    -----
    Salmon et al., SC 2011; Box and Muller 1958. All 32 bits of a word go into the radius, so magnitudes reach 6.76.
    Logarithm, sine and cosine are Legato's own: the same bits on every instruction set, and by both backends.

    Examples
    --------
    >>> from legato import diffusion as D
    >>> batch = D.normal((64, 3), seeds=7, step=2)
    >>> bool((batch[5:6] == D.normal((1, 3), seeds=7, step=2, first_sample=5)).all())
    True
    """
    sizes = as_shape("shape", shape)
    dtype = storage_name("dtype", dtype)
    _substep(substep)
    threads = as_threads(threads)
    streams = Streams(seeds, sizes[0], first_sample, generator)
    if out is not None and on_device(out):
        from legato.diffusion import _cupy

        check_backend(backend)
        _cupy.fill_normal(out, streams.address(step, substep), sizes, dtype)
        return out  # type: ignore[no-any-return]
    target, _ = output_apart("out", out, sizes, dtype, [])
    fill(target, dtype, streams, step, substep, threads, backend)
    return target if out is None else out


def fill(
    target: NDArray[Any], dtype: str, streams: Streams, step: int, substep: int, threads: int, backend: Backend | None
) -> None:
    """Write the normals of a batch into an array of the storage type `dtype`; nothing is checked."""
    elements = math.prod(target.shape[1:])
    if _dispatch.choose(backend) == "numpy":
        target[...] = to_storage(streams.reference(elements, step, substep), dtype).reshape(target.shape)
    else:
        _core.diffusion_normal(dtype, len(target), elements, streams.native(step, substep), target, threads)


def brownian(
    shape: int | tuple[int, ...],
    start: float,
    end: float,
    seeds: Seeds = 0,
    *,
    dtype: DTypeLike = "float32",
    generator: Generator = "threefry",
    first_sample: int = 0,
    threads: int = 1,
) -> NDArray[Any]:
    """Increment of a Brownian path from time `start` to time `end`; the path is a function of the seed alone.

    Increments of one seed add up: the path between two times is the same in however many steps it is asked for, in
    whatever order, batch or process.

    Parameters
    ----------
    shape : tuple of int
        The first axis counts samples, each with a path of its own for every element.
    start, end : float
        From 0 to 1; rounded to multiples of 2^-24. The increment has variance abs(end - start), and changes its sign
        with their order.
    seeds, generator, first_sample, threads
        As in `normal`.
    dtype : {"float32", "float64"}

    Returns
    -------
    ndarray of `shape`

    Raises
    ------
    ArgumentError
        A time, shape, dtype or seed makes no sense.

    See Also
    --------
    normal : Draw standard normals; each is a function of (its sample's seed, step, substep, element) alone.
    sample : Takes its noise from such a path with ``noise="path"``.

    Notes
    -----
    Levy's construction: W(t) = t z + sum of hats, level l of the tree halving the intervals of level l - 1. Every node
    has a normal of its own, of (step, substep) = (index, 2^31 + l). At most 24 levels are summed at either end, and
    those that both ends have in common once; increments of float64 add up to rounding of float64.

    Examples
    --------
    >>> from legato import diffusion as D
    >>> whole = D.brownian((4, 3), 0.2, 0.9, seeds=7, dtype="float64")
    >>> parts = [D.brownian((4, 3), *ends, seeds=7, dtype="float64") for ends in ((0.2, 0.6), (0.6, 0.9))]
    >>> bool(abs(whole - sum(parts)).max() < 1e-14)
    True
    """
    sizes = as_shape("shape", shape)
    dtype = storage_name("dtype", dtype, ("float32", "float64"))
    threads = as_threads(threads)
    streams = Streams(seeds, sizes[0], first_sample, generator)
    weights: dict[tuple[int, int], float] = {}
    for name, value, sign in (("start", start, -1.0), ("end", end, 1.0)):
        for node, weight in _hats(path_time(name, value)):
            weights[node] = weights.get(node, 0.0) + sign * weight
    out = np.zeros(sizes, dtype)
    elements = math.prod(sizes[1:])
    for (level, index), weight in weights.items():
        if weight != 0.0:
            row = np.array([[1.0, 0.0, 0.0, weight]])
            at = streams.native(index, _PATH + level)
            _core.diffusion_step(dtype, sizes[0], elements, row, out, out, None, None, at, out, threads)
    return out


def path_time(name: str, value: float) -> float:
    """Return the multiple of 2^-24 next to a time."""
    number: float = as_number(name, value, least=0, most=1)
    return round(number * 2.0**_DEPTH) / 2.0**_DEPTH


def _hats(t: float) -> list[tuple[tuple[int, int], float]]:
    """Return the nodes (level, index) whose hats are not 0 at time t, and their values."""
    nodes = [((0, 0), t)]
    for level in range(1, _DEPTH + 1):
        cells = 2 ** (level - 1)
        index, place = divmod(t * cells, 1.0)  # exact: t is a dyadic number
        if place == 0.0:
            break
        # half of the standard deviation that is left of an interval, at its middle
        nodes.append(((level, int(index)), min(place, 1.0 - place) * cells**-0.5))
    return nodes


def threefry4x32(
    counter: ArrayLike, key: ArrayLike, *, rounds: int = 20, backend: Backend | None = None
) -> NDArray[Any]:
    """Blocks of Threefry4x32, for known-answer tests.

    Parameters
    ----------
    counter, key : array_like of uint32, shape (..., 4)
        They broadcast against each other.
    rounds : {12, 13, 20}
        20 as published; Legato's Gaussians use 13.
    backend : {"native", "numpy"}, optional

    Returns
    -------
    ndarray of uint32, shape (..., 4)

    See Also
    --------
    philox4x32 : Blocks of Philox4x32-10, for known-answer tests.
    normal : Draw standard normals; each is a function of (its sample's seed, step, substep, element) alone.

    Examples
    --------
    >>> from legato import diffusion as D
    >>> [f"{word:08x}" for word in D.threefry4x32([0, 0, 0, 0], [0, 0, 0, 0])]
    ['9c6ca96a', 'e17eae66', 'fc10ecd4', '5256a7d8']
    """
    if as_count("rounds", rounds) not in (12, 13, 20):
        raise ArgumentError(f"rounds: expected 12, 13 or 20, got {rounds}")
    counters, keys = _blocks(counter, key, 4)
    if _dispatch.choose(backend) == "numpy":
        return _reference.threefry4x32(counters, keys, rounds)
    out = np.empty_like(counters)
    _core.diffusion_threefry4x32(counters, keys, rounds, out)
    return out


def philox4x32(counter: ArrayLike, key: ArrayLike, *, backend: Backend | None = None) -> NDArray[Any]:
    """Blocks of Philox4x32-10, for known-answer tests.

    Parameters
    ----------
    counter : array_like of uint32, shape (..., 4)
    key : array_like of uint32, shape (..., 2)
    backend : {"native", "numpy"}, optional

    Returns
    -------
    ndarray of uint32, shape (..., 4)

    See Also
    --------
    threefry4x32 : Blocks of Threefry4x32, for known-answer tests.
    normal : Draw standard normals; each is a function of (its sample's seed, step, substep, element) alone.

    Examples
    --------
    >>> from legato import diffusion as D
    >>> [f"{word:08x}" for word in D.philox4x32([0, 0, 0, 0], [0, 0])]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    counters, keys = _blocks(counter, key, 2)
    if _dispatch.choose(backend) == "numpy":
        return _reference.philox4x32(counters, keys)
    out = np.empty_like(counters)
    _core.diffusion_philox4x32(counters, keys, out)
    return out


def to_storage(values: NDArray[Any], storage: str) -> NDArray[Any]:
    """Round numbers to a storage type (nearest, ties to even); bfloat16 comes as bits."""
    if storage != "bfloat16":
        with np.errstate(over="ignore"):
            return values.astype(STORAGES[storage])
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)


def from_storage(values: NDArray[Any], storage: str) -> NDArray[Any]:
    """Numbers of a storage type in the type of arithmetic: float64 for float64, float32 for the others."""
    if storage == "bfloat16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values if storage == "float64" else values.astype(np.float32)


def _word(name: str, value: int) -> int:
    if not isinstance(value, int | np.integer) or not -1 <= value < _START:
        raise ArgumentError(f"{name}: expected an integer from -1 to 2^32 - 2, got {shown(value)}")
    return _START if value == -1 else int(value)


def _substep(value: int) -> int:
    return as_count("substep", value, 0, 2**32 - 1)


def _blocks(counter: ArrayLike, key: ArrayLike, width: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    arrays = []
    for name, value, size in (("counter", counter, 4), ("key", key, width)):
        array = as_real(name, value)
        if array.ndim == 0 or array.shape[-1] != size or array.dtype.kind not in "iu":
            raise ArgumentError(f"{name}: expected integers of shape (..., {size}), got {array.dtype} {array.shape}")
        if array.size and (int(array.min()) < 0 or int(array.max()) > 0xFFFFFFFF):
            raise ArgumentError(f"{name}: expected 32-bit words")
        arrays.append(array.astype(np.uint32))
    try:
        lead = np.broadcast_shapes(arrays[0].shape[:-1], arrays[1].shape[:-1])
    except ValueError:
        raise ArgumentError(f"key: shape {arrays[1].shape} does not go with counter {arrays[0].shape}") from None
    return (
        np.ascontiguousarray(np.broadcast_to(arrays[0], (*lead, 4))),
        np.ascontiguousarray(np.broadcast_to(arrays[1], (*lead, width))),
    )
