from __future__ import annotations

import dataclasses
import importlib
import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato._extras import install_command
from legato.errors import ArgumentError, DependencyError
from legato.video.media import planes
from legato.video.media.planes import Planes, as_planes, luma
from legato.video.warping import warp

cv2 = pytest.importorskip("cv2", reason="OpenCV is an optional package")

INTERPOLATIONS = ["bilinear", "bicubic", "lanczos"]
LOCATIONS = ["left", "center", "topleft"]
SMALL_TURN = np.array([[1.01, 0.02, -3.3], [-0.015, 0.985, 2.6], [2e-5, -1e-5, 1]])


def picture(
    rng: np.random.Generator,
    size: tuple[int, int] = (64, 48),
    subsampling: tuple[int, int] | None = (2, 2),
    bit_depth: int = 8,
    location: Any = "left",
) -> Planes:
    w, h = size
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    shapes = [(h, w)]
    if subsampling is not None:
        shapes += [(-(-h // subsampling[1]), -(-w // subsampling[0]))] * 2
    drawn = [rng.integers(0, 1 << bit_depth, shape).astype(dtype) for shape in shapes]
    return Planes(*drawn, bit_depth=bit_depth, chroma_location=location)


def present(frame: Planes) -> list[np.ndarray]:
    return [plane for plane in (frame.y, frame.u, frame.v) if plane is not None]


class TestPlanes:
    @pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2), (4, 1), (4, 4), (1, 2)])
    @pytest.mark.parametrize("size", [(64, 48), (63, 47), (9, 5)])
    def test_size_and_subsampling(self, size: tuple[int, int], subsampling: tuple[int, int]) -> None:
        frame = picture(np.random.default_rng(0), size, subsampling)
        assert frame.size == size
        assert frame.subsampling == subsampling

    def test_gray(self) -> None:
        frame = Planes(np.zeros((3, 5), np.uint8))
        assert frame.size == (5, 3)
        assert frame.subsampling == (1, 1)
        assert frame.chroma_location == "left"

    def test_smallest_factor_where_several_fit(self) -> None:
        one = np.zeros((1, 1), np.uint8)
        assert Planes(one, one, one).subsampling == (1, 1)

    def test_frozen(self) -> None:
        frame = Planes(np.zeros((3, 5), np.uint8))
        with pytest.raises(dataclasses.FrozenInstanceError):
            frame.bit_depth = 9  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("y", {"y": [[1]]}),
            ("y", {"y": np.zeros((3, 4))}),
            ("y", {"y": np.zeros((3, 4, 3), np.uint8)}),
            ("y", {"y": np.zeros((0, 4), np.uint8)}),
            ("u", {"u": np.zeros(6, np.uint8)}),
            ("u", {"u": np.zeros((24, 32), np.uint16)}),
            ("u", {"u": np.zeros((24, 32), np.float32)}),
            ("u", {"u": np.zeros((24, 31), np.uint8), "v": np.zeros((24, 31), np.uint8)}),
            ("u", {"u": np.zeros((16, 32), np.uint8), "v": np.zeros((16, 32), np.uint8)}),
            ("v", {"v": np.zeros((24, 31), np.uint8)}),
            ("v", {"v": "v"}),
            ("u and v", {"v": None}),
            ("u and v", {"u": None}),
            ("bit_depth", {"bit_depth": 10}),
            ("bit_depth", {"bit_depth": 8.0}),
            ("bit_depth", {"bit_depth": True}),
            ("chroma_location", {"chroma_location": "bottom"}),
        ],
    )
    def test_wrong(self, name: str, arguments: dict[str, Any]) -> None:
        chroma = np.zeros((24, 32), np.uint8)
        good: dict[str, Any] = {"y": np.zeros((48, 64), np.uint8), "u": chroma, "v": chroma}
        Planes(**good)
        with pytest.raises(ArgumentError, match=rf"^{name}: expected"):
            Planes(**{**good, **arguments})

    @pytest.mark.parametrize("bit_depth", [8, 17])
    def test_bit_depth_of_uint16(self, bit_depth: int) -> None:
        with pytest.raises(ArgumentError, match=r"^bit_depth: expected 9 to 16"):
            Planes(np.zeros((2, 2), np.uint16), bit_depth=bit_depth)


class TestDoors:
    def test_kinds(self) -> None:
        frame = picture(np.random.default_rng(0))
        assert as_planes(frame) is frame
        gray = np.zeros((3, 4), np.uint8)
        wrapped = as_planes(gray)
        assert isinstance(wrapped, Planes)
        assert wrapped.y is gray
        deep = as_planes(np.zeros((3, 4), np.uint16))
        assert isinstance(deep, Planes)
        assert deep.bit_depth == 16
        packed = np.zeros((3, 4, 3), np.uint8)
        assert as_planes(packed) is packed

    @pytest.mark.parametrize(
        "frame",
        [
            None,
            [[1, 2]],
            np.zeros((3, 4)),
            np.zeros((3, 4, 4), np.uint8),
            np.zeros((3, 4, 3), np.uint16),
            np.zeros((0, 4), np.uint8),
            np.zeros((0, 4, 3), np.uint8),
            np.zeros(5, np.uint8),
            np.zeros((3, 4), ">u2"),
        ],
    )
    def test_wrong(self, frame: object) -> None:
        for door in (as_planes, luma):
            with pytest.raises(ArgumentError, match=r"^frame: expected"):
                door(frame)

    def test_luma_of_8_bits_is_the_plane_itself(self) -> None:
        frame = picture(np.random.default_rng(0))
        assert np.shares_memory(luma(frame), frame.y)
        assert np.array_equal(luma(frame.y), frame.y)

    @pytest.mark.parametrize("bit_depth", [9, 10, 12, 16])
    def test_luma_of_more_bits(self, bit_depth: int) -> None:
        y = np.array([[0, 1 << (bit_depth - 1), (1 << bit_depth) - 1, 65535]], np.uint16)
        shown = luma(Planes(y, bit_depth=bit_depth))
        assert shown.dtype == np.uint8
        assert shown.tolist() == [[0, 128, 255, 255]]
        if bit_depth == 16:
            assert luma(y).tolist() == [[0, 128, 255, 255]]

    def test_luma_of_bgr(self) -> None:
        colors = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
        assert luma(colors).tolist() == [[29, 150, 76, 255]]
        assert luma(np.repeat(colors, 2, 1)[:, ::2]).tolist() == [[29, 150, 76, 255]]

    def test_without_opencv(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> object:
            raise ModuleNotFoundError(name)

        monkeypatch.setattr(planes.importlib, "import_module", missing)
        assert importlib.import_module is missing
        luma(np.zeros((3, 4, 3), np.uint8))
        warp(np.zeros((3, 4), np.uint8), SMALL_TURN)
        with pytest.raises(DependencyError, match=re.escape(install_command("opencv"))):
            warp(np.zeros((3, 4), np.uint8), SMALL_TURN, backend="opencv")


class TestIdentity:
    @pytest.mark.parametrize("interpolation", INTERPOLATIONS)
    @pytest.mark.parametrize("scale", [1, -4, 0.3])
    def test_exact(self, interpolation: Any, scale: float) -> None:
        rng = np.random.default_rng(1)
        frames: list[Any] = [
            picture(rng),
            picture(rng, (63, 47), (2, 1), 10, "center"),
            picture(rng, (5, 7), None),
            rng.integers(0, 256, (9, 7, 3)).astype(np.uint8),
            rng.integers(0, 65536, (9, 7)).astype(np.uint16),
        ]
        for frame in frames:
            result = warp(frame, scale * np.eye(3), interpolation=interpolation)
            assert type(result) is type(frame)
            if isinstance(frame, Planes):
                assert (result.bit_depth, result.chroma_location) == (frame.bit_depth, frame.chroma_location)
                for a, b in zip(present(result), present(frame), strict=True):
                    assert np.array_equal(a, b)
                    assert not np.shares_memory(a, b)
            else:
                assert np.array_equal(result, frame)
                assert not np.shares_memory(result, frame)

    @settings(max_examples=30, deadline=None)
    @given(
        st.integers(-6, 6), st.integers(-6, 6), st.sampled_from(INTERPOLATIONS), st.sampled_from([np.uint8, np.uint16])
    )
    def test_whole_pixel_shifts_are_exact(self, dx: int, dy: int, interpolation: Any, dtype: Any) -> None:
        image = np.random.default_rng(2).integers(0, np.iinfo(dtype).max, (24, 32), endpoint=True).astype(dtype)
        shift = np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1]])
        result = warp(image, shift, interpolation=interpolation)
        rows, columns = np.clip(np.arange(24) + dy, 0, 23), np.clip(np.arange(32) + dx, 0, 31)
        assert np.array_equal(result, image[np.ix_(rows, columns)])


def ramp(
    size: tuple[int, int], siting: tuple[float, float, float, float], slope: tuple[float, float, float], dtype: Any
) -> np.ndarray:
    """A plane whose samples lie on one linear function of luma coordinates."""
    w, h = size
    sx, sy, ox, oy = siting
    x, y = sx * np.arange(w) + ox, sy * np.arange(h)[:, None] + oy
    return np.rint(slope[0] * x + slope[1] * y + slope[2]).astype(dtype)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("subsampling", [(2, 2), (2, 1), (4, 1), (1, 1), (4, 4), (1, 2)])
def test_chroma_moves_with_luma(subsampling: tuple[int, int], location: Any, interpolation: Any) -> None:
    # Luma and chroma show the same linear function of the place; after any affine warp both must show
    # that function of the warped place. A siting wrong by half a luma pixel is off by 20 to 30 levels.
    sx, sy = subsampling
    w, h = 96, 64
    slope = (60.0, 43.0, 20_000.0)
    ox = (sx - 1) / 2 if location == "center" else 0.0
    oy = 0.0 if location == "topleft" else (sy - 1) / 2
    chroma_size = (-(-w // sx), -(-h // sy))
    chroma = ramp(chroma_size, (sx, sy, ox, oy), slope, np.uint16)
    frame = Planes(ramp((w, h), (1, 1, 0, 0), slope, np.uint16), chroma, chroma, 16, location)
    correction = np.array([[1.02, 0.03, -2.6], [-0.02, 0.97, 3.7], [0, 0, 1]])
    result = warp(frame, correction, interpolation=interpolation)
    for plane, (px, py, qx, qy) in zip(
        present(result), [(1, 1, 0, 0), (sx, sy, ox, oy), (sx, sy, ox, oy)], strict=True
    ):
        rows, columns = np.mgrid[: plane.shape[0], : plane.shape[1]]
        place = correction @ np.stack([px * columns + qx, py * rows + qy, np.ones_like(rows)]).reshape(3, -1)
        expected = (slope[0] * place[0] + slope[1] * place[1] + slope[2]).reshape(plane.shape)
        # Away from the edge, where a kernel sees replicated samples.
        x, y = place[:2].reshape(2, *plane.shape)
        inside = (x > 4 * px) & (x < w - 1 - 4 * px) & (y > 4 * py) & (y < h - 1 - 4 * py)
        assert inside.mean() > 0.3
        difference = np.abs(plane.astype(float) - expected)[inside]
        # OpenCV 4 steps by 1/32 px, which is 2 levels of luma here. Of the kernels bilinear alone keeps a
        # ramp straight; the others stray by up to 8 % of a sample step.
        most, most_mean = (3, 2) if interpolation == "bilinear" else (8, 8)
        assert difference.max() < most * max(px, py)
        assert abs((plane.astype(float) - expected)[inside].mean()) < most_mean


def test_perspective_against_a_reference() -> None:
    # Bilinear sampling written out, on a picture smooth enough for steps of 1/32 px not to matter.
    h, w = 60, 80
    y, x = np.mgrid[:h, :w]
    image = np.rint(120 + 60 * np.sin(x / 9) + 50 * np.cos(y / 7)).astype(np.uint8)
    correction = np.array([[0.9, 0.1, 3], [-0.05, 1.05, 2], [4e-4, -6e-4, 1]])
    place = correction @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    px, py = place[0] / place[2], place[1] / place[2]
    px, py = np.clip(px, 0, w - 1), np.clip(py, 0, h - 1)
    left, top = np.minimum(px.astype(int), w - 2), np.minimum(py.astype(int), h - 2)
    fx, fy = px - left, py - top
    source = image.astype(float)
    upper = source[top, left] * (1 - fx) + source[top, left + 1] * fx
    lower = source[top + 1, left] * (1 - fx) + source[top + 1, left + 1] * fx
    expected = (upper * (1 - fy) + lower * fy).reshape(h, w)
    for frame in (image, np.repeat(image[:, :, None], 3, 2)):
        result = warp(frame, 2.5 * correction)
        shown = result if result.ndim == 2 else result[:, :, 1]
        assert np.abs(shown - expected).max() < 1.5
        assert np.abs(shown - expected).mean() < 0.4


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_never_black_at_the_border(interpolation: Any) -> None:
    # White in, white out: whatever the map, also where it leaves the picture altogether.
    rng = np.random.default_rng(4)
    frame = Planes(*(np.full(s, 255, np.uint8) for s in ((48, 64), (24, 32), (24, 32))))
    packed = np.full((48, 64, 3), 255, np.uint8)
    maps = [rng.normal(0, 1, (3, 3)) * [[1, 1, 50], [1, 1, 50], [1e-3, 1e-3, 0]] + np.eye(3) for _ in range(8)]
    maps += [np.array([[1.0, 0, 1e6], [0, 1, -1e6], [0, 0, 1]]), np.array([[0, 0, 5], [0, 1, 0], [0.1, 0, -0.05]])]
    for matrix in maps:
        for plane in present(warp(frame, matrix, interpolation=interpolation)):
            assert (plane == 255).all()
        assert (warp(packed, matrix, interpolation=interpolation) == 255).all()


@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos"])
@pytest.mark.parametrize("bit_depth", [9, 10, 12, 15, 16])
def test_overshoot_stays_within_the_depth(interpolation: Any, bit_depth: int) -> None:
    most = (1 << bit_depth) - 1
    y = np.full((32, 32), most, np.uint16)
    y[:, 8:11] = 0
    y[20:23] = 0
    frame = Planes(y, y.copy(), y.copy(), bit_depth)
    turned = np.array([[1, 0.05, 0.4], [-0.05, 1, 0.3], [0, 0, 1]])
    for plane in present(warp(frame, turned, interpolation=interpolation)):
        assert plane.max() == most


class TestSize:
    @pytest.mark.parametrize("size", [(32, 24), (33, 25), (1, 1), (200, 3)])
    @pytest.mark.parametrize("subsampling", [(2, 2), (1, 1), (4, 1), None])
    def test_shapes(self, size: tuple[int, int], subsampling: tuple[int, int] | None) -> None:
        frame = picture(np.random.default_rng(0), (65, 47), subsampling, 10, "topleft")
        result = warp(frame, SMALL_TURN, size)
        assert result.size == size
        assert result.y.dtype == np.uint16
        assert result.bit_depth == 10
        assert result.chroma_location == "topleft"
        if subsampling is None:
            assert result.u is None
        else:
            assert result.u is not None
            assert result.u.shape == (-(-size[1] // subsampling[1]), -(-size[0] // subsampling[0]))

    def test_a_crop_is_exact(self) -> None:
        image = np.random.default_rng(0).integers(0, 256, (48, 64)).astype(np.uint8)
        assert np.array_equal(warp(image, np.eye(3), (20, 10)), image[:10, :20])
        shift = np.array([[1.0, 0, 5], [0, 1, 7], [0, 0, 1]])
        assert np.array_equal(warp(image, shift, (20, 10)), image[7:17, 5:25])

    @pytest.mark.parametrize(
        ("shape", "dtype", "interpolation"),
        list(itertools.product([(1, 1), (1, 9), (7, 1), (2, 3)], [np.uint8, np.uint16], INTERPOLATIONS)),
    )
    def test_tiny_pictures(self, shape: tuple[int, int], dtype: Any, interpolation: Any) -> None:
        image = np.full(shape, 77, dtype)
        for size in (None, (5, 4), (1, 1)):
            result = warp(image, SMALL_TURN, size, interpolation=interpolation)
            assert result.dtype == dtype
            assert (result == 77).all()


class TestOut:
    @pytest.mark.parametrize("matrix", [np.eye(3), SMALL_TURN])
    def test_is_written_and_returned(self, matrix: np.ndarray) -> None:
        rng = np.random.default_rng(3)
        for frame in (picture(rng), picture(rng, (33, 21), (2, 1), 12), picture(rng, subsampling=None)):
            out = Planes(
                *(np.zeros_like(plane) for plane in present(frame)),
                bit_depth=frame.bit_depth,
                chroma_location=frame.chroma_location,
            )
            assert warp(frame, matrix, out=out) is out
            for a, b in zip(present(out), present(warp(frame, matrix)), strict=True):
                assert np.array_equal(a, b)
        for array in (frame.y, np.repeat(frame.y[:, :, None], 3, 2)):
            target = np.zeros_like(array)
            assert warp(array, matrix, out=target) is target
            assert np.array_equal(target, warp(array, matrix))

    def test_rows_with_padding(self) -> None:
        # As a decoder or an encoder gives them.
        image = np.random.default_rng(3).integers(0, 256, (48, 64)).astype(np.uint8)
        padded, store = np.zeros((48, 80), np.uint8), np.zeros((48, 80), np.uint8)
        padded[:, :64] = image
        out = store[:, :64]
        assert warp(padded[:, :64], SMALL_TURN, out=out) is out
        assert np.array_equal(out, warp(image, SMALL_TURN))
        assert not store[:, 64:].any()
        flipped = store[::-1, :64]
        warp(image[::-1], SMALL_TURN, out=flipped)
        assert np.array_equal(flipped, warp(np.ascontiguousarray(image[::-1]), SMALL_TURN))

    def test_wrong(self) -> None:
        rng = np.random.default_rng(3)
        frame, other = picture(rng), picture(rng)
        gray = picture(rng, subsampling=None)
        locked = np.zeros((48, 64), np.uint8)
        locked.flags.writeable = False
        for bad, name in (
            (other.y, "out"),
            (picture(rng, (66, 48)), r"out\.y"),
            (picture(rng, (64, 48), (2, 1)), r"out\.u"),
            (picture(rng, bit_depth=10), "out"),
            (picture(rng, location="center"), "out"),
            (gray, "out"),
            (Planes(locked, other.u, other.v), r"out\.y"),
            (Planes(frame.y, other.u, other.v), r"out\.y"),
            (Planes(other.y, other.u, frame.v), r"out\.v"),
        ):
            with pytest.raises(ArgumentError, match=rf"^{name}: expected"):
                warp(frame, SMALL_TURN, out=bad)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match=r"^out: expected"):
            warp(gray, SMALL_TURN, out=frame)
        for bad_array in (np.zeros((48, 63), np.uint8), np.zeros((48, 64), np.uint16), locked, gray.y, gray, "out"):
            with pytest.raises(ArgumentError, match=r"^out: expected"):
                warp(gray.y, SMALL_TURN, out=bad_array)  # type: ignore[type-var]
        packed = np.zeros((48, 64, 3), np.uint8)
        with pytest.raises(ArgumentError, match=r"^out: expected"):
            warp(packed, SMALL_TURN, out=packed)
        with pytest.raises(ArgumentError, match=r"^out: expected"):
            warp(packed, SMALL_TURN, (10, 10), out=np.zeros_like(packed))


class TestArguments:
    @pytest.mark.parametrize(
        "correction",
        [
            np.eye(2),
            np.eye(4),
            np.zeros((3, 3)),
            np.ones((3, 3)),
            np.diag([1, 1, 0]),
            np.full((3, 3), np.nan),
            np.diag([1, np.inf, 1]),
            np.diag([1e300, 1e300, 1e-300]),
            np.array([[1, 0, 5], [2, 0, 7], [0, 0, 1]]),
            "identity",
            None,
            [[1, 2], [3]],
            np.eye(3) * 1j,
        ],
    )
    @pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
    def test_correction(self, correction: Any) -> None:
        for frame in (picture(np.random.default_rng(0)), np.zeros((48, 64, 3), np.uint8)):
            with pytest.raises(ArgumentError, match=r"^correction: expected"):
                warp(frame, correction)  # type: ignore[type-var]

    def test_large_and_small_scales_of_a_correction_are_fine(self) -> None:
        image = np.random.default_rng(0).integers(0, 256, (48, 64)).astype(np.uint8)
        expected = warp(image, SMALL_TURN)
        for scale in (1e-200, 1e-12, 1e12, 1e200, -1):
            assert np.array_equal(warp(image, scale * SMALL_TURN), expected)
        assert np.array_equal(warp(image, SMALL_TURN.tolist()), expected)

    @pytest.mark.parametrize("size", [(0, 3), (3,), (3.5, 3), "3x3", (3, 40_000), (True, None)])
    def test_size(self, size: Any) -> None:
        with pytest.raises(ArgumentError, match=r"^size: expected"):
            warp(np.zeros((4, 4), np.uint8), np.eye(3), size)

    @pytest.mark.parametrize("interpolation", ["cubic", None, 3])
    def test_interpolation(self, interpolation: Any) -> None:
        with pytest.raises(ArgumentError, match=r"^interpolation: expected"):
            warp(np.zeros((4, 4), np.uint8), np.eye(3), interpolation=interpolation)

    @pytest.mark.parametrize("threads", [0, -1, 1.5, None, True])
    def test_threads(self, threads: Any) -> None:
        with pytest.raises(ArgumentError, match=r"^threads: expected"):
            warp(np.zeros((4, 4), np.uint8), np.eye(3), threads=threads)

    @pytest.mark.parametrize(
        "frame", [None, np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((2, 33_000), np.uint8)]
    )
    def test_frame(self, frame: Any) -> None:
        with pytest.raises(ArgumentError, match=r"^frame: expected"):
            warp(frame, np.eye(3))

    def test_input_is_left_alone(self) -> None:
        frame = picture(np.random.default_rng(0))
        before = [plane.copy() for plane in present(frame)]
        warp(frame, SMALL_TURN, interpolation="lanczos", threads=2)
        for a, b in zip(present(frame), before, strict=True):
            assert np.array_equal(a, b)
