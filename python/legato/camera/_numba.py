"""Homographies inside of ``@njit`` functions. Imported by Numba's entry point alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_constant
from numba.extending import (
    NativeValue,
    make_attribute_wrapper,
    models,
    register_jitable,
    register_model,
    typeof_impl,
    unbox,
)

from legato import camera
from legato._calls import apart, call, compiles, is_none, pointer, refuse, want_array
from legato.errors import ArgumentError, HomographyError

_log = call("legato_camera_log_homography_f64")
_exp = call("legato_camera_exp_homography_f64")
_contain = call("legato_camera_contain_f64")


@register_jitable
def _check(status: int) -> None:
    if status == 0:
        return
    if status == 2:
        raise HomographyError("homographies: a matrix is not finite, or too large")
    if status == 3:
        raise HomographyError("homographies: a matrix is singular")
    if status == 4:
        raise HomographyError("homographies: a matrix has no principal logarithm")
    raise ArgumentError("threads: expected 1 or more")


def _mapped(name: str, given: Any, out: Any, run: Any) -> Any:
    """Return what an overload of the logarithm or the exponential runs."""
    want_array(name, given, (types.float64,))
    if given.ndim < 2:
        refuse(name, "an array of shape (..., 3, 3)", given)
    fresh = is_none(out)
    if not fresh:
        want_array("out", out, (types.float64,), given.ndim, written=True)

    @register_jitable
    def target(matrices: Any, out: Any) -> Any:
        return np.empty(matrices.shape) if fresh else out

    @register_jitable
    def mapped(matrices: Any, out: Any, threads: int) -> Any:
        if matrices.shape[-1] != 3 or matrices.shape[-2] != 3:
            raise ArgumentError("homographies: expected shape (..., 3, 3)")
        found = target(matrices, out)
        if found.shape != matrices.shape:
            raise ArgumentError("out: expected the shape of the matrices")
        read = matrices if fresh else apart(matrices, found)
        _check(run(pointer(read), read.size // 9, pointer(found), threads, pointer(None)))
        return found

    return mapped


@compiles(camera.log_homography)
def _log_homography(homography: Any, out: Any = None, threads: Any = 1) -> Any:
    mapped = _mapped("homography", homography, out, _log)
    return lambda homography, out=None, threads=1: mapped(homography, out, threads)


@compiles(camera.exp_homography)
def _exp_homography(log: Any, out: Any = None, threads: Any = 1) -> Any:
    mapped = _mapped("log", log, out, _exp)
    return lambda log, out=None, threads=1: mapped(log, out, threads)


# --- contain ----------------------------------------------------------------------------------------------------------


class PathOptionsType(types.Type):
    """What compiled code knows of `PathOptions`: those of the crop window."""

    def __init__(self) -> None:
        super().__init__(name="legato.camera.PathOptions")


_options = PathOptionsType()
_FIELDS = {"crop": "crop", "scale": "effective_window_scale", "inset_px": "inset_px"}


@typeof_impl.register(camera.PathOptions)
def _typeof_options(value: Any, context: Any) -> PathOptionsType:
    return _options


@register_model(PathOptionsType)
class _PathOptionsModel(models.StructModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, [(name, types.float64) for name in _FIELDS])


@unbox(PathOptionsType)
def _unbox_options(kind: Any, value: Any, c: Any) -> Any:
    options = cgutils.create_struct_proxy(kind)(c.context, c.builder)
    for name, attribute in _FIELDS.items():
        found = c.pyapi.object_getattr_string(value, attribute)
        setattr(options, name, c.pyapi.float_as_double(found))
        c.pyapi.decref(found)
    return NativeValue(options._getvalue(), is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))


make_attribute_wrapper(PathOptionsType, "crop", "crop")
make_attribute_wrapper(PathOptionsType, "scale", "scale")
make_attribute_wrapper(PathOptionsType, "inset_px", "inset_px")


@lower_constant(PathOptionsType)
def _constant_options(context: Any, builder: Any, kind: Any, value: camera.PathOptions) -> Any:
    options = cgutils.create_struct_proxy(kind)(context, builder)
    for name, attribute in _FIELDS.items():
        setattr(options, name, context.get_constant(types.float64, float(getattr(value, attribute))))
    return options._getvalue()


@register_jitable
def _lies_inside(h: Any, width: int, height: int, scale: float, inset_px: float) -> bool:
    """Whether the crop window's corners, moved by a homography in pixels, stay in the frame; as `crop_room_px`."""
    cx, cy = (width - 1) / 2, (height - 1) / 2
    for corner in range(4):
        x = 0.5 * scale * (1.0 if corner in (1, 2) else -1.0) * width + cx
        y = 0.5 * scale * (height / width if corner in (2, 3) else -height / width) * width + cy
        w = h[2, 0] * x + h[2, 1] * y + h[2, 2]
        if w == 0.0:
            return False
        right = width / 2 - inset_px - abs((h[0, 0] * x + h[0, 1] * y + h[0, 2]) / w - cx)
        low = height / 2 - inset_px - abs((h[1, 0] * x + h[1, 1] * y + h[1, 2]) / w - cy)
        if not (right >= 0 and low >= 0):
            return False
    return True


@register_jitable
def _into_widths(h: Any, width: int, height: int, m: Any) -> None:
    """`to_width_units`, operation by operation."""
    cx, cy = (width - 1) / 2, (height - 1) / 2
    scale = 1.0 if h[2, 2] == 0 else h[2, 2]
    for i in range(3):
        a, b, c = h[i, 0] / scale, h[i, 1] / scale, h[i, 2] / scale
        m[i, 0], m[i, 1], m[i, 2] = a * width, b * width, a * cx + b * cy + c
    for j in range(3):
        m[0, j] = (m[0, j] - cx * m[2, j]) / width
        m[1, j] = (m[1, j] - cy * m[2, j]) / width


@register_jitable
def _into_pixels(h: Any, width: int, height: int, m: Any) -> None:
    """`to_pixel_units`, operation by operation."""
    cx, cy = (width - 1) / 2, (height - 1) / 2
    for j in range(3):
        m[0, j], m[1, j], m[2, j] = width * h[0, j] + cx * h[2, j], width * h[1, j] + cy * h[2, j], h[2, j]
    for i in range(3):
        m[i, 0] /= width
        m[i, 1] /= width
        m[i, 2] -= cx * m[i, 0] + cy * m[i, 1]
    scale = m[2, 2]
    for i in range(3):
        for j in range(3):
            m[i, j] /= scale


@register_jitable
def _shrunk(corrections: Any, width: int, height: int, crop: float, scale: float, inset_px: float) -> Any:
    """`contain`: the frames that need it go through the core in frame widths, one at a time."""
    if corrections.shape[1] != 3 or corrections.shape[2] != 3:
        raise ArgumentError("corrections: expected shape (n, 3, 3)")
    if width < 1 or height < 1:
        raise ArgumentError("size: expected a width and a height of 1 or more")
    found = corrections.copy()
    whole = np.empty((3, 3))
    for t in range(len(found)):
        if not _lies_inside(found[t], width, height, scale, inset_px):
            _into_widths(found[t], width, height, whole)
            # A little more than asked, for the rounding of the change of units.
            margin, at = (inset_px + 1e-9) / width, pointer(whole)
            _check(_contain(at, 1, height / width, crop, scale, margin, at, pointer(None)))
            _into_pixels(whole, width, height, found[t])
    return found


@compiles(camera.contain)
def _contained(corrections: Any, size: Any, options: Any = None) -> Any:
    want_array("corrections", corrections, (types.float64,), 3)
    if not (isinstance(size, types.UniTuple) and size.count == 2 and isinstance(size.dtype, types.Integer)):
        refuse("size", "a width and a height, both integers", size)
    if is_none(options):
        crop, scale, inset_px = (float(getattr(camera.PathOptions(), name)) for name in _FIELDS.values())
        return lambda corrections, size, options=None: _shrunk(corrections, size[0], size[1], crop, scale, inset_px)
    if not isinstance(options, PathOptionsType):
        refuse("options", "PathOptions", options)
    return lambda corrections, size, options=None: _shrunk(
        corrections, size[0], size[1], options.crop, options.scale, options.inset_px
    )
