"""Contract of log_homography and exp_homography, on every backend; forced instruction sets in test_isa.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import camera_arrays
from legato import camera
from legato.errors import ArgumentError, HomographyError


def random_logs(n: int, size: float, seed: int = 0) -> np.ndarray:
    h = np.random.default_rng(seed).normal(scale=size, size=(n, 3, 3))
    h[:, 2, 2] = -h[:, 0, 0] - h[:, 1, 1]
    return h


def test_vectors(backend: str) -> None:
    arrays = camera_arrays("lie.npz")
    h, H, scaled = (arrays[k].reshape(-1, 3, 3) for k in ("h", "H", "H_scaled"))
    got = camera.exp_homography(h, backend=backend)
    assert (np.abs(got - H).max((1, 2)) <= 1e-12 * np.abs(H).max((1, 2))).all()
    log = camera.log_homography(scaled, backend=backend)
    assert (np.abs(log - h).max((1, 2)) <= 1e-13 + 1e-12 * np.abs(h).max((1, 2))).all()


def test_inverse_negates(backend: str) -> None:
    h = random_logs(50, 0.05)
    log = camera.log_homography(camera.exp_homography(-h, backend=backend), backend=backend)
    np.testing.assert_allclose(log, -camera.log_homography(camera.exp_homography(h)), atol=1e-14)


def test_translation_is_exact(backend: str) -> None:
    for x, y in [(0.3, -7.25), (1e-9, 0.0), (1234.5, 0.1)]:
        H = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])
        expected = np.array([[0, 0, x], [0, 0, y], [0, 0, 0]])
        log = camera.log_homography(H, backend=backend)
        if backend == "native":
            assert (log == expected).all()
        np.testing.assert_allclose(log, expected, rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.diag([-1.0, -1.0, 1.0]), "no principal logarithm"),
        (np.diag([1.0, -1.0, 1.0]), "no principal logarithm"),
        (np.diag([-2.0, -0.5, 1.0]), "no principal logarithm"),
        (np.array([[1.0, 2, 3], [2, 4, 6], [0, 0, 1]]), "singular"),
        (np.zeros((3, 3)), "singular"),
        (np.full((3, 3), np.nan), "NaN or infinity"),
        (np.diag([1.0, np.inf, 1.0]), "NaN or infinity"),
    ],
)
def test_no_logarithm(backend: str, matrix: np.ndarray, reason: str) -> None:
    batch = np.tile(np.eye(3), (12, 1, 1))
    batch[9] = matrix
    with pytest.raises(camera.HomographyError, match=rf"homography\[9\]: .*{reason}"):
        camera.log_homography(batch, backend=backend)


def test_overflow_is_an_error(backend: str) -> None:
    with pytest.raises(camera.HomographyError, match=r"log\[0\]"):
        camera.exp_homography(np.full((3, 3), 300.0), backend=backend)


def test_near_half_turn(backend: str) -> None:
    """A roll just below 180 degrees still has a principal logarithm."""
    for angle in (3.0, 3.14, np.pi - 1e-5):
        c, s = np.cos(angle), np.sin(angle)
        log = camera.log_homography([[c, -s, 0], [s, c, 0], [0, 0, 1]], backend=backend)
        assert log[1, 0] == pytest.approx(angle, abs=1e-9)


@pytest.mark.parametrize("shape", [(3, 3), (0, 3, 3), (1, 3, 3), (7, 3, 3), (2, 5, 3, 3)])
def test_shapes(backend: str, shape: tuple[int, ...]) -> None:
    h = np.zeros(shape)
    H = camera.exp_homography(h, backend=backend)
    assert H.shape == shape
    assert (np.eye(3) == H).all()
    assert camera.log_homography(H, backend=backend).shape == shape


def test_inputs_and_outputs(backend: str) -> None:
    h = random_logs(20, 0.1)
    expected = camera.exp_homography(h, backend=backend)
    out = np.empty_like(h)
    assert camera.exp_homography(h, out=out, backend=backend) is out
    assert (out == expected).all()
    np.testing.assert_array_equal(camera.exp_homography(h[::-1][::-1], backend=backend), expected)
    np.testing.assert_array_equal(camera.exp_homography(h.tolist(), backend=backend), expected)
    np.testing.assert_allclose(camera.exp_homography(h.astype(np.float32), backend=backend), expected, rtol=1e-6)
    integers = np.tile(np.eye(3, dtype=int), (2, 1, 1))
    assert (camera.log_homography(integers, backend=backend) == 0).all()


def test_bad_arguments(backend: str) -> None:
    with pytest.raises(ArgumentError, match=r"homography: expected shape \(\.\.\., 3, 3\), got \(3,\)"):
        camera.log_homography([1, 2, 3], backend=backend)
    with pytest.raises(ArgumentError, match="log: expected real numbers"):
        camera.exp_homography(np.eye(3, dtype=complex), backend=backend)
    with pytest.raises(ArgumentError, match="log: expected"):
        camera.exp_homography([[1, 2], [3]], backend=backend)
    with pytest.raises(ArgumentError, match="threads"):
        camera.log_homography(np.eye(3), threads=0, backend=backend)
    for out in (np.empty((3, 3), np.float32), np.empty((2, 3, 3)), np.empty((3, 6))[:, ::2]):
        with pytest.raises(ArgumentError, match="out: expected"):
            camera.log_homography(np.eye(3), out=out, backend=backend)


def test_backend_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match="backend: expected one of"):
        camera.log_homography(np.eye(3), backend="cuda")
    monkeypatch.setenv("LEGATO_BACKEND", "fortran")
    with pytest.raises(ArgumentError, match="LEGATO_BACKEND: expected one of"):
        camera.log_homography(np.eye(3))
    assert (camera.log_homography(np.eye(3), backend="native") == 0).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.floats(1e-12, 0.5), st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
def test_round_trip_and_twin(n: int, size: float, seed: int, scale: float) -> None:
    h = random_logs(n, size, seed)
    if np.abs(np.linalg.eigvals(h).imag).max() > 3:  # beyond the principal branch
        h = h / 4
    H = camera.exp_homography(h)
    np.testing.assert_allclose(H, camera.exp_homography(h, backend="numpy"), rtol=0, atol=1e-13 * np.abs(H).max())
    log = camera.log_homography(H * scale)
    condition = np.abs(H).max() * np.abs(np.linalg.inv(H)).max()
    np.testing.assert_allclose(log, h, rtol=0, atol=1e-13 * condition)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_same_bits_whatever_the_batch_and_threads(n: int, threads: int, seed: int) -> None:
    h = random_logs(n, 0.1, seed)
    H = camera.exp_homography(h)
    assert (camera.exp_homography(h, threads=threads) == H).all()
    index = seed % n
    assert (camera.exp_homography(h[index]) == H[index]).all()
    log = camera.log_homography(H)
    assert (camera.log_homography(H, threads=threads) == log).all()
    assert (camera.log_homography(H[index]) == log[index]).all()


@pytest.mark.parametrize("stretch", [1.0, 5.0, 1e2, 1e8, 1e10, 1e12, 1e14, 1e16, 2.0**63])
def test_a_mirrored_stretch_has_no_logarithm_however_far_it_goes(stretch: float, backend: Any) -> None:
    H = np.array([[1, 0, 3.9], [0, -stretch, 2.8], [0, 0, 1]])
    with pytest.raises(HomographyError, match="no principal logarithm"):
        camera.log_homography(H, backend=backend)


def test_one_alone_is_one_of_eight() -> None:
    """A single matrix takes another way through the core, with the same bits and the same refusals."""
    rng = np.random.default_rng(3)
    H = np.eye(3) + rng.normal(0, 0.2, (40, 3, 3))
    logs = camera.log_homography(H)
    back = camera.exp_homography(logs)
    for at in range(40):
        np.testing.assert_array_equal(camera.log_homography(H[at]), logs[at])
        np.testing.assert_array_equal(camera.exp_homography(logs[at]), back[at])
    for bad in (np.full((3, 3), np.nan), np.zeros((3, 3)), np.diag([-1.0, -1.0, 1.0])):
        texts = []
        for batch in (bad[None], np.concatenate([bad[None], H[:1]])):
            with pytest.raises(camera.HomographyError) as caught:
                camera.log_homography(batch)
            texts.append(str(caught.value))
        assert texts[0] == texts[1]
    for bad in (np.full((3, 3), np.inf), np.diag([501.0, 0, 0])):
        with pytest.raises(camera.HomographyError, match=r"log\[0\]"):
            camera.exp_homography(bad)
