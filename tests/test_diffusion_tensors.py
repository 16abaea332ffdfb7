"""Tensors in, tensors out: package, type, place and memory order of what is given; gradients are never lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from legato import diffusion as D
from legato.errors import ArgumentError

torch = pytest.importorskip("torch", reason="torch is not installed")

GM = D.GaussianMixture([0.4, 0.6], [[-1.0, 0.0], [1.0, 0.5]], [0.2, 0.3])
CLOUD = D.EmpiricalDenoiser([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]], labels=[0, 1, 1])
SCHEDULE = D.Schedule.karras(4)


def network(x: Any, _alpha: float, sigma: float, _k: int) -> Any:
    return 0.5 * sigma * x


FUNCTIONS = {
    "sample": lambda x: D.sample(network, tuple(x.shape), SCHEDULE, x=x),
    "langevin": lambda x: D.langevin(network, x, 0.1, 3, prediction="epsilon", sigma=1.0),
    "apply_step": lambda x: D.apply_step(x, x, (0.5, 0.2, 0.1)),
    "convert_prediction": lambda x: D.convert_prediction(x, x, 0.6, 0.8, given="epsilon", wanted="x0"),
    "mixture denoise": lambda x: GM.denoise(x, 1.0, 0.5),
    "mixture score": lambda x: GM.score(x, 1.0, 0.5),
    "mixture eps": lambda x: GM.eps(x, 1.0, 0.5, threads=2),
    "cloud denoise": lambda x: CLOUD.denoise(x, 1.0, 0.5, label=1),
    "cloud score": lambda x: CLOUD.score(x, 1.0, 0.5),
}
REFUSED = {"sample": ("float16", "bfloat16"), "langevin": ("bfloat16",)}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_result_is_what_the_input_is(name: str, dtype: str) -> None:
    x = torch.from_numpy(D.normal((6, 2), 1)).to(getattr(torch, dtype))
    if dtype in REFUSED.get(name, ()):
        with pytest.raises(ArgumentError, match="x: expected float32"):
            FUNCTIONS[name](x)
        return
    out = FUNCTIONS[name](x)
    assert isinstance(out, torch.Tensor)
    assert out.dtype == x.dtype
    assert out.shape == x.shape
    assert out.stride() == x.stride()
    across = x.t().contiguous().t()  # the same numbers, columns first
    turned = FUNCTIONS[name](across)
    assert torch.equal(turned, out)
    assert turned.stride() == across.stride()
    if dtype == "bfloat16":
        return
    array = FUNCTIONS[name](x.numpy())
    assert type(array) is np.ndarray
    assert array.dtype == dtype
    bound = 2e-3 if name == "convert_prediction" and dtype == "float16" else 0  # each package rounds as it does
    np.testing.assert_allclose(array.astype(float), out.numpy().astype(float), rtol=bound, atol=bound)
    assert FUNCTIONS[name](np.asfortranarray(x.numpy())).flags.f_contiguous


def test_images_keep_channels_last() -> None:
    x = torch.from_numpy(D.normal((2, 3, 4, 5), 1)).contiguous(memory_format=torch.channels_last)
    out = D.apply_step(x, x, (0.5, 0.2, 0.1), seeds=3)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(out, D.apply_step(x.contiguous(), x.contiguous(), (0.5, 0.2, 0.1), seeds=3))


def test_log_density_and_written_outputs() -> None:
    x = torch.from_numpy(D.normal((6, 2), 1))
    density = GM.log_density(x, 1.0, 0.5)
    assert isinstance(density, torch.Tensor)
    assert density.shape == (6,)
    assert density.dtype == torch.float32
    out = torch.empty(6, 2)
    assert D.normal((6, 2), 4, out=out) is out
    assert D.apply_step(x, x, (0.5, 0.2, 0.0), out=out) is out


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_kept_or_refused(name: str) -> None:
    x = torch.from_numpy(D.normal((6, 2), 1)).requires_grad_()
    if name == "convert_prediction":
        FUNCTIONS[name](x).sum().backward()
        assert float(x.grad.abs().sum()) > 0
        return
    with pytest.raises(ArgumentError, match=r"x: expected an array without gradients.*detach\(\)"):
        FUNCTIONS[name](x)
    with torch.no_grad():
        assert not FUNCTIONS[name](x).requires_grad
    plain = torch.ones(6, 2)
    with pytest.raises(ArgumentError, match="eps: expected an array without gradients"):
        D.apply_step(plain, x, (0.5, 0.2, 0.1))
    with pytest.raises(ArgumentError, match="cond: expected an array without gradients"):
        D.guidance_sums(x, plain)


def test_a_network_that_records_is_told_so() -> None:
    layer = torch.nn.Linear(2, 2)

    def denoiser(x: Any, *_: Any) -> Any:
        return layer(torch.from_numpy(x))

    with pytest.raises(ArgumentError, match=r"model's result: expected an array without gradients.*torch.no_grad\(\)"):
        D.sample(denoiser, (3, 2), SCHEDULE)
    with torch.no_grad():
        assert np.isfinite(D.sample(denoiser, (3, 2), SCHEDULE)).all()
