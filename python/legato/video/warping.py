"""Planar perspective warp of a picture: chroma sited where it belongs, edges replicated.

Each plane is sampled directly, without a conversion to RGB and back. A chroma plane has a grid of
its own: with S the map from chroma samples to luma pixels, the correction H of the luma acts on
chroma as S^-1 H S.

The compiled kernel does the work. OpenCV's ``warpPerspective`` stays as a second backend to compare
with.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from legato import _core
from legato._arrays import as_float64, overlap
from legato._scalars import as_choice, as_size, as_threads
from legato.errors import ArgumentError
from legato.video.choices import BACKENDS, INTERPOLATIONS, Backend, Interpolation
from legato.video.media.planes import (
    ChromaLocation,
    Picture,
    Planes,
    Samples,
    as_planes,
    is_pyav,
    like_pyav,
    load_opencv,
)

__all__ = ["Interpolation", "overhang_px", "siting_of", "warp"]

Floats: TypeAlias = NDArray[np.float64]
PictureT = TypeVar("PictureT", bound=Picture | Any)

# Both backends keep positions within a picture in 16 bits.
_LONGEST_SIDE = 32766
# Of a correction in units of the picture width, with rows of unit length.
_LEAST_DETERMINANT = 1e-12
_IDENTITY = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


def warp(
    frame: PictureT,
    correction: NDArray[np.floating[Any]],
    size: tuple[int, int] | None = None,
    *,
    interpolation: Interpolation = "bilinear",
    out: PictureT | None = None,
    threads: int = 1,
    backend: Backend = "native",
) -> PictureT:
    """Resample a picture through a homography.

    Parameters
    ----------
    frame : Planes, (h, w) uint8 or uint16 array, (h, w, 3) uint8 array, or av.VideoFrame
        Planar YUV, gray or packed BGR; of PyAV's any format.
    correction : (3, 3) array of floats
        Maps pixel coordinates of the output to those of the input, on the luma grid, with pixel
        centers at integers: the output pixel x shows the input at ``correction @ x``. The scale of
        the matrix has no meaning. Beyond a line at infinity that crosses the output, what is shown
        is defined but means nothing.
    size : (int, int), optional
        Width and height of the output, in pixels; the input's by default.
    interpolation : {"bilinear", "bicubic", "lanczos"}
        Bicubic has four taps (Keys 1981 with a = -0.75), Lanczos eight. There is no low-pass
        filter: an output much smaller than its input is aliased.
    out : like the result, optional
        A picture that is written and returned. It may not share memory with `frame`.
    threads : int
        The number of threads the compiled kernel may use; the result does not depend on it. Where
        OpenCV does the work, its process-wide ``cv2.setNumThreads`` decides, and is left alone.
    backend : {"native", "opencv"}
        "native" quantizes positions to 1/512 px (within 0.01 px of exact) and gives the same bits
        on every processor; "opencv" is ``cv2.warpPerspective``, for comparison.

    Returns
    -------
    Planes or array
        The kind of picture given. Positions outside the input take the value of its nearest edge.
        The identity at the same size gives exactly the input.

    Raises
    ------
    ArgumentError
        If an argument is not as described, or the correction is singular or not finite.
    DependencyError
        If OpenCV is asked for and not installed.

    See Also
    --------
    legato.camera.crop_map : Map from output pixels to pixels of the crop window, shape (3, 3).
    Planes : One picture in planar YUV, or in gray when it has no chroma.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import video
    >>> picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    >>> video.warp(picture, np.array([[1.0, 0, 1], [0, 1, 0], [0, 0, 1]]))      # shows what lies one pixel to the right
    array([[ 1,  2,  3,  3],
           [ 5,  6,  7,  7],
           [ 9, 10, 11, 11]], dtype=uint8)
    """
    picture = as_planes(frame)
    if is_pyav(frame):
        if out is not None:
            raise ArgumentError("out: expected none for a frame of PyAV's")
        drawn = warp(picture, correction, size, interpolation=interpolation, threads=threads, backend=backend)
        return cast(PictureT, like_pyav(drawn, frame))
    source_size = picture.size if isinstance(picture, Planes) else _size_of(picture)
    if max(source_size) > _LONGEST_SIDE:
        raise ArgumentError(f"frame: expected sides up to {_LONGEST_SIDE} px, got {source_size}")
    target_size = source_size if size is None else _checked_size(size)
    matrix = _checked_correction(correction, source_size, target_size)
    interpolation = as_choice("interpolation", interpolation, INTERPOLATIONS)
    threads = as_threads(threads)
    backend = as_choice("backend", backend, BACKENDS)

    how = _How(interpolation, threads, backend)
    if isinstance(frame, Planes):
        return cast(PictureT, _warp_planes(frame, matrix, target_size, how, out))
    plane, depth = (picture.y, picture.bit_depth) if isinstance(picture, Planes) else (picture, 8)
    target = _checked_out(out, (*target_size[::-1], *plane.shape[2:]), plane)
    _apart([target], ["out"], [plane])
    return cast(PictureT, _sampled([plane], matrix, [target_size], _siting(1, 1, "left"), how, depth, [target])[0])


class _How(NamedTuple):
    interpolation: Interpolation
    threads: int
    backend: Backend


class _Siting(NamedTuple):
    """Where chroma sits on the luma grid: sample (i, j) at (sx i + ox, sy j + oy)."""

    sx: int
    sy: int
    ox: float
    oy: float


@functools.cache
def _siting(sx: int, sy: int, location: ChromaLocation) -> _Siting:
    ox = 0.5 * (sx - 1) if location == "center" else 0.0
    oy = 0.0 if location == "topleft" else 0.5 * (sy - 1)
    return _Siting(sx, sy, ox, oy)


def overhang_px(corrections: Floats, size: tuple[int, int], target: tuple[int, int] | None = None) -> float:
    """Largest distance by which a corner of a drawn picture samples outside of the input, in pixels; 0: none does.

    `corrections` are (n, 3, 3), `size` is the input's and `target` the picture's, the same by default.
    """
    (right, bottom), (across, down) = ((w - 1.0, h - 1.0) for w, h in (size, target or size))
    mapped = corrections @ np.array([[0, across, across, 0], [0, 0, down, down], [1, 1, 1, 1]])
    x, y = mapped[:, 0] / mapped[:, 2], mapped[:, 1] / mapped[:, 2]
    return float(max(0.0, np.maximum.reduce([-x, x - right, -y, y - bottom]).max()))


def siting_of(picture: Planes) -> _Siting:
    """Give where the chroma of a picture sits, as the kernels take it."""
    return _siting(*picture.subsampling, picture.chroma_location)


def _warp_planes(picture: Planes, matrix: Floats, size: tuple[int, int], how: _How, out: object) -> Planes:
    sx, sy = picture.subsampling
    chroma_size = -(-size[0] // sx), -(-size[1] // sy)
    outs = _checked_out_planes(out, picture, size, chroma_size)
    siting = siting_of(picture)
    planes, sizes = [picture.y], [size]
    if picture.u is not None and picture.v is not None:
        planes, sizes = [picture.y, picture.u, picture.v], [size, chroma_size, chroma_size]
    results = _sampled(planes, matrix, sizes, siting, how, picture.bit_depth, outs)
    if isinstance(out, Planes):
        return out
    y, u, v = results if len(results) == 3 else (results[0], None, None)
    return Planes(y, u, v, picture.bit_depth, picture.chroma_location)


def _sampled(
    planes: list[Samples],
    matrix: Floats,
    sizes: list[tuple[int, int]],
    siting: _Siting,
    how: _How,
    bit_depth: int,
    outs: Sequence[Samples | None],
) -> list[Samples]:
    """Sample luma and chroma, or one packed picture, at `matrix` times the output pixel."""
    if planes[0].shape[1::-1] == sizes[0] and matrix.tolist() == _IDENTITY:
        # No rounding of any kind, whatever the interpolation.
        for plane, out in zip(planes, outs, strict=True):
            if out is not None:
                np.copyto(out, plane)
        return [plane.copy() if out is None else out for plane, out in zip(planes, outs, strict=True)]
    if how.backend == "opencv":
        matrices = [matrix, *[_on_chroma(matrix, siting)] * (len(planes) - 1)]
        every = zip(planes, matrices, sizes, outs, strict=True)
        return [_by_opencv(plane, m, size, how, bit_depth, out) for plane, m, size, out in every]
    # The kernel walks rows of adjacent samples; how far apart the rows are does not matter to it.
    sources = [plane if _adjacent(plane) else np.ascontiguousarray(plane) for plane in planes]
    targets = [
        np.empty((*size[::-1], *plane.shape[2:]), plane.dtype) if out is None or not _adjacent(out) else out
        for plane, size, out in zip(planes, sizes, outs, strict=True)
    ]
    kind = INTERPOLATIONS.index(how.interpolation)
    if planes[0].ndim == 3:
        _core.video_warp_packed(matrix, sources[0], targets[0], kind, how.threads)
    else:
        _core.video_warp(matrix, sources, targets, bit_depth, siting, kind, how.threads)
    for target, out in zip(targets, outs, strict=True):
        if out is not None and out is not target:
            np.copyto(out, target)
    return [target if out is None else out for target, out in zip(targets, outs, strict=True)]


def _adjacent(samples: Samples) -> bool:
    """Whether the samples of a row follow one another, in rows that do not overlap."""
    step, strides = samples.itemsize, samples.strides
    if samples.ndim == 3:
        return strides[1:] == (3, 1) and abs(strides[0]) >= 3 * samples.shape[1]
    return strides[1] == step and abs(strides[0]) >= step * samples.shape[1] and strides[0] % step == 0


def _on_chroma(matrix: Floats, siting: _Siting) -> Floats:
    to_luma = np.array([[siting.sx, 0, siting.ox], [0, siting.sy, siting.oy], [0, 0, 1.0]])
    return np.asarray(np.linalg.inv(to_luma) @ matrix @ to_luma)


def _by_opencv(
    plane: Samples, matrix: Floats, size: tuple[int, int], how: _How, bit_depth: int, out: Samples | None
) -> Samples:
    cv2 = load_opencv()
    flags = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}
    sampled: Samples = cv2.warpPerspective(
        np.ascontiguousarray(plane),
        matrix,
        size,
        dst=out if out is not None and out.flags.c_contiguous else None,
        flags=flags[how.interpolation] | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if how.interpolation != "bilinear" and plane.dtype == np.uint16 and bit_depth < 16:
        # Kernels with negative lobes overshoot; OpenCV saturates at 16 bits, not at the depth.
        np.minimum(sampled, np.uint16((1 << bit_depth) - 1), out=sampled)
    if out is None:
        return sampled
    if not np.may_share_memory(sampled, out):
        np.copyto(out, sampled)
    return out


def _size_of(packed: NDArray[Any]) -> tuple[int, int]:
    return int(packed.shape[1]), int(packed.shape[0])


def _checked_size(size: object) -> tuple[int, int]:
    return as_size("size", size, most=_LONGEST_SIDE)


def _checked_correction(correction: object, source_size: tuple[int, int], target_size: tuple[int, int]) -> Floats:
    """Give the correction as float64, scaled to a last entry of one where it has one."""
    matrix = as_float64("correction", correction)  # type: ignore[arg-type]
    if matrix.shape != (3, 3):
        raise ArgumentError(f"correction: expected shape (3, 3), got {matrix.shape}")
    # Nine numbers: plain floats are several times quicker here than arrays are.
    entries = matrix.ravel().tolist()
    if not all(map(math.isfinite, entries)):
        raise ArgumentError("correction: expected finite entries, got NaN or infinity")
    largest = max(map(abs, entries)) or 1.0
    scaled = [value / largest for value in entries]
    width, target_width = source_size[0], target_size[0]
    ratio = target_width / width
    a, b, c, d, e, f, g, h, i = scaled
    a, b, c, d, e, f = a * ratio, b * ratio, c * (1 / width), d * ratio, e * ratio, f * (1 / width)
    g, h = g * target_width, h * target_width
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    volume = math.hypot(a, b, c) * math.hypot(d, e, f) * math.hypot(g, h, i)
    if abs(determinant) <= _LEAST_DETERMINANT * volume:
        raise ArgumentError("correction: expected an invertible matrix, got a singular one")
    # Its scale has no meaning, but the identity is known by its entries.
    last = scaled[8] if abs(scaled[8]) > 1e-9 else 1.0
    return np.array([value / last for value in scaled]).reshape(3, 3)


def _checked_out(out: object, shape: tuple[int, ...], source: Samples, name: str = "out") -> Samples | None:
    """`out` as an array that can be written, or None."""
    if out is None:
        return None
    if not isinstance(out, np.ndarray):
        raise ArgumentError(f"{name}: expected an array as the frame has, got {type(out).__name__}")
    if out.shape != shape or out.dtype != source.dtype or not out.dtype.isnative or not out.flags.aligned:
        raise ArgumentError(f"{name}: expected shape {shape} of {source.dtype}, got {out.shape} of {out.dtype}")
    if not out.flags.writeable:
        raise ArgumentError(f"{name}: expected a writable array")
    if any(stride == 0 and side > 1 for stride, side in zip(out.strides, out.shape, strict=True)):
        raise ArgumentError(f"{name}: expected memory for each sample, got an array that repeats its own")
    return cast(Samples, out)


def _apart(outs: Sequence[Samples | None], names: Sequence[str], planes: Sequence[Samples]) -> None:
    """Refuse outputs in the memory of the frame or of one another: a warp reads all around."""
    for at, (out, name) in enumerate(zip(outs, names, strict=True)):
        if out is None:
            continue
        if any(overlap(out, plane) for plane in planes):
            raise ArgumentError(f"{name}: expected memory of its own, got memory of the frame")
        if any(other is not None and overlap(out, other) for other in outs[:at]):
            raise ArgumentError(f"{name}: expected memory of its own, got memory of another plane of out")


def _checked_out_planes(
    out: object, source: Planes, size: tuple[int, int], chroma_size: tuple[int, int]
) -> list[Samples | None]:
    """Give the planes of `out`, None where there is nothing to write to."""
    if out is None:
        return [None] if source.u is None else [None, None, None]
    if not isinstance(out, Planes):
        raise ArgumentError(f"out: expected Planes as the frame is, got {type(out).__name__}")
    if out.bit_depth != source.bit_depth:
        raise ArgumentError(f"out: expected bit_depth {source.bit_depth!r} as the frame has, got {out.bit_depth!r}")
    if out.chroma_location != source.chroma_location:
        raise ArgumentError(
            f"out: expected chroma_location {source.chroma_location!r} as the frame has, got {out.chroma_location!r}"
        )
    if (out.u is None) != (source.u is None):
        raise ArgumentError("out: expected chroma planes where the frame has them, and only there")
    targets = [_checked_out(out.y, size[::-1], source.y, "out.y")]
    if source.u is not None and source.v is not None:
        targets.append(_checked_out(out.u, chroma_size[::-1], source.u, "out.u"))
        targets.append(_checked_out(out.v, chroma_size[::-1], source.v, "out.v"))
        _apart(targets, ["out.y", "out.u", "out.v"], [source.y, source.u, source.v])
    else:
        _apart(targets, ["out.y"], [source.y])
    return targets
