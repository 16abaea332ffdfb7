"""The compiled warp against its slow twin; warp and tracker with the same bits on every instruction set."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import legato
from legato import _core
from legato.errors import ArgumentError, HomographyError
from legato.video import _reference
from legato.video.synthetic import synthesis
from legato.video.warping import warp

INTERPOLATIONS = ["bilinear", "bicubic", "lanczos"]
TOGETHER = (1, 1, 0.0, 0.0)  # all planes are sited as the first


def stabilizing(w: int, h: int, turn: float = 1.5, scale: float = 0.92, shift: float = 0.02, tilt: float = 0.02) -> Any:
    """Output to input as a stabilizer draws it: a turn in degrees, a zoom, a shift and a tilt across the frame."""
    c, s = scale * np.cos(np.deg2rad(turn)), scale * np.sin(np.deg2rad(turn))
    center = np.array([[1, 0, (w - 1) / 2], [0, 1, (h - 1) / 2], [0, 0, 1]])
    return center @ [[c, -s, shift * w], [s, c, -shift * h], [tilt / w, -tilt / h, 1]] @ np.linalg.inv(center)


MAPS = {
    "stabilizer": {},
    "half pixel": {"turn": 0, "scale": 1, "shift": 0.5 / 320, "tilt": 0},
    "strong": {"turn": 8, "scale": 1.2, "shift": 0.1, "tilt": 0.2},
    "tilted": {"turn": 0, "scale": 1, "shift": 0, "tilt": 0.6},
    "steep": {"turn": 40},
    "flipped": {"turn": 180},
    "half size": {"turn": 3, "scale": 2.1},
    "1.7 times": {"turn": -5, "scale": 1.7},
    "magnified": {"turn": 10, "scale": 0.1},
    "away": {"shift": 1.4},
}


def drawn(size: tuple[int, int], dtype: Any, most: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, most, (size[1], size[0]), endpoint=True).astype(dtype)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("name", MAPS)
def test_a_picture_within_one_level_of_the_reference(name: str, interpolation: Any) -> None:
    w, h = 323, 241
    photo = np.ascontiguousarray(synthesis.render_scene(3, (w, h))[:, :, 1])
    matrix = stabilizing(w, h, **MAPS[name])
    expected = np.clip(_reference.warp_plane(photo, matrix, (w, h), interpolation), 0, 255)
    difference = np.abs(warp(photo, matrix, interpolation=interpolation) - expected)
    assert difference.max() <= 1.0 + 0.25 * (interpolation != "bilinear")
    assert difference.mean() < 0.26  # 0.25 is what rounding to whole levels costs


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("bits", [10, 16])
def test_deep_noise_within_the_map_error(name: str, interpolation: Any, bits: int) -> None:
    w, h = 131, 97
    most = (1 << bits) - 1
    noise = drawn((w, h), np.uint16, most)
    from legato.video.media.planes import Planes

    matrix = stabilizing(w, h, **MAPS[name])
    expected = np.clip(_reference.warp_plane(noise, matrix, (w, h), interpolation), 0, most)
    result = warp(Planes(noise, bit_depth=bits), matrix, interpolation=interpolation).y
    # A hundredth of a pixel of white noise, in each direction; twice that for the steeper kernels.
    slope = {"bilinear": 0.02, "bicubic": 0.045, "lanczos": 0.08}[interpolation]
    assert np.abs(result - expected).max() <= slope * most + 1


@pytest.mark.parametrize("name", [name for name in MAPS if name != "away"])
def test_map_error_is_below_a_hundredth_of_a_pixel(name: str) -> None:
    # A linear ramp of 16 bits shows the position itself: 40 levels are a pixel.
    w, h = 700, 500
    matrix = stabilizing(w, h, **MAPS[name])
    x, y = _reference.positions(matrix, (w, h))
    inside = (x > 0) & (x < w - 1) & (y > 0) & (y < h - 1)
    for axis, place in ((1, x), (0, y)):
        ramp = np.broadcast_to(np.arange((h, w)[axis]) * 90, (h, w)) if axis else (np.arange(h) * 90)[:, None]
        plane = np.ascontiguousarray(np.broadcast_to(ramp, (h, w)).astype(np.uint16))
        error = np.abs(warp(plane, matrix) - 90 * place)[inside] / 90
        assert error.max() < 0.01 + 0.6 / 90  # half a level of rounding


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(st.integers(1, 200), st.integers(1, 60)),
    st.tuples(st.integers(1, 200), st.integers(1, 60)),
    st.sampled_from(INTERPOLATIONS),
    st.sampled_from([8, 10, 16]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.01, 0.3, 3.0]),
    st.integers(0, 3),
)
def test_any_size_stride_and_map(
    size: tuple[int, int], to: tuple[int, int], interpolation: Any, bits: int, seed: int, wild: float, padding: int
) -> None:
    from legato.video.media.planes import Planes

    rng = np.random.default_rng(seed)
    most = (1 << bits) - 1
    dtype = np.uint8 if bits == 8 else np.uint16
    store = drawn((size[0] + padding, size[1]), dtype, most, seed)
    plane = store[:, : size[0]]
    smooth = np.cumsum(np.cumsum(plane, 0), 1) % (2 * most)
    plane[:] = np.where(smooth > most, 2 * most - smooth, smooth)
    matrix = np.eye(3) + rng.normal(0, wild, (3, 3)) * [[1, 1, size[0]], [1, 1, size[1]], [2e-3, 2e-3, 0]]
    if abs(np.linalg.det(matrix)) < 1e-3:
        return
    out_store = np.full((to[1], to[0] + padding), 77, dtype)
    out = Planes(out_store[:, : to[0]], bit_depth=bits)
    warp(Planes(plane, bit_depth=bits), matrix, to, interpolation=interpolation, out=out)
    assert (out_store[:, to[0] :] == 77).all()
    # Where the map is far from its line at infinity the result is the twin's, up to the map error.
    expected = np.clip(_reference.warp_plane(plane, matrix, to, interpolation), 0, most)
    y, x = np.mgrid[: to[1], : to[0]]
    depth = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
    sound = np.abs(depth) > 0.05
    slope = {"bilinear": 0.03, "bicubic": 0.06, "lanczos": 0.1}[interpolation]
    assert (np.abs(out.y - expected)[sound] <= slope * most + 1).all()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_threads_do_not_matter(interpolation: Any) -> None:
    plane = drawn((200, 150), np.uint8, 255)
    matrix = stabilizing(200, 150, turn=12)
    one = warp(plane, matrix, interpolation=interpolation, threads=1)
    assert np.array_equal(one, warp(plane, matrix, interpolation=interpolation, threads=3))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_packed_is_three_planes(interpolation: Any) -> None:
    packed = np.random.default_rng(1).integers(0, 256, (77, 131, 3)).astype(np.uint8)
    matrix = stabilizing(131, 77)
    result = warp(packed, matrix, (150, 80), interpolation=interpolation)
    for c in range(3):
        plane = np.ascontiguousarray(packed[:, :, c])
        assert np.array_equal(result[:, :, c], warp(plane, matrix, (150, 80), interpolation=interpolation))


def test_close_to_opencv() -> None:
    pytest.importorskip("cv2", reason="OpenCV is an optional package")
    photo = np.ascontiguousarray(synthesis.render_scene(5, (320, 180)))
    for interpolation in INTERPOLATIONS:
        for frame in (photo, np.ascontiguousarray(photo[:, :, 0])):
            matrix = stabilizing(320, 180)
            ours = warp(frame, matrix, interpolation=interpolation)  # type: ignore[arg-type]
            theirs = warp(frame, matrix, interpolation=interpolation, backend="opencv")  # type: ignore[arg-type]
            assert np.abs(ours.astype(int) - theirs).max() <= 2


def test_backend_is_checked() -> None:
    with pytest.raises(ArgumentError, match=r"^backend: expected"):
        warp(np.zeros((4, 4), np.uint8), np.eye(3), backend="numpy")  # type: ignore[arg-type]


def test_the_core_checks_what_it_is_given() -> None:
    plane = np.zeros((4, 5), np.uint8)
    out = np.zeros((4, 5), np.uint8)
    with pytest.raises(HomographyError):
        _core.video_warp(np.full((3, 3), np.nan), [plane], [out], 8, TOGETHER, 0, 1)
    for sources, targets, bits, kind, threads in (
        ([], [], 8, 0, 1),
        ([plane] * 4, [out] * 4, 8, 0, 1),
        ([plane], [], 8, 0, 1),
        ([plane, plane[:3]], [out, out], 8, 0, 1),
        ([plane], [out], 8, 3, 1),
        ([plane], [out], 8, 0, 0),
        ([plane.astype(np.uint16)], [out.astype(np.uint16)], 17, 0, 1),
    ):
        with pytest.raises(ArgumentError):
            _core.video_warp(np.eye(3), sources, targets, bits, TOGETHER, kind, threads)


def test_a_singular_map_of_the_core_is_answered() -> None:
    # The Python door refuses it; the kernel still must not read outside the picture.
    plane = drawn((90, 40), np.uint8, 255)
    out = np.zeros_like(plane)
    for matrix in (np.zeros((3, 3)), np.ones((3, 3)), np.diag([1.0, 1, 0]), np.diag([1e300, 1e-300, 1e300])):
        for kind in range(3):
            _core.video_warp(matrix, [plane], [out], 8, TOGETHER, kind, 1)


PROBE = """
import hashlib
import numpy as np
from legato import _core
digest = hashlib.sha256()
ran = set()
rng = np.random.default_rng(0)
for w, h in ((640, 360), (333, 97), (64, 64), (70, 40), (63, 30), (17, 9), (16, 16), (9, 5), (1, 1)):
    for k in range(14):
        turn, scale = rng.normal(0, (0.02, 0.3)[k % 2]), np.exp(rng.normal(-0.1, (0.02, 0.4)[k % 2]))
        c, s = scale * np.cos(turn), scale * np.sin(turn)
        tilt = rng.normal(0, (0.02, 0.5)[k // 7], 2) / w
        matrix = np.array([[c, -s, rng.normal(0, 0.1 * w)], [s, c, rng.normal(0, 0.1 * h)], [*tilt, 1]])
        for bits in (8, 10, 16):
            dtype = np.uint8 if bits == 8 else np.uint16
            planes = [rng.integers(0, 1 << bits, (h, w)).astype(dtype) for _ in range(1 + k % 3)]
            outs = [np.zeros((h + 3, w + 5), dtype) for _ in planes]
            for kind in range(3):
                if w > 100 and k > 9 or w > 400 and (bits > 8 or kind == 2):
                    continue
                _core.video_warp(matrix, planes, outs, bits, (1, 1, 0.0, 0.0), kind, 1)
                ran.add(_core.last_isa())
                for out in outs:
                    digest.update(out.tobytes())
from legato.video import Tracker, warp
from legato.video.synthetic import synthesis
scene = np.ascontiguousarray(synthesis.render_scene(3, (800, 500))[:, :, 1])
tracker = Tracker((640, 360))
for _ in range(5):
    move = [[1, 0.01 * rng.normal(), 60 + 5 * rng.normal()], [0, 1, 60 + 4 * rng.normal()], [1e-5, 0, 1]]
    motion = tracker.push(warp(scene, np.array(move), (640, 360)))
    ran.add(_core.last_isa())
    if motion is not None:
        assert motion.ok
        digest.update(motion.homography.tobytes() + motion.points.tobytes())
print(digest.hexdigest(), *ran)
"""


def answer(isa: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", PROBE],
        env={**os.environ, "LEGATO_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()[-1].split()


@pytest.fixture(scope="module")
def digest() -> str:
    return answer("baseline")[0]


@pytest.mark.parametrize("isa", legato.build_info()["isas"])
def test_every_instruction_set_gives_the_same_bits(isa: str, digest: str) -> None:
    found, *ran = answer(isa)
    assert ran == [isa]
    assert found == digest
