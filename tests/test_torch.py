"""Torch operators: the numbers of the kernels, gradients, compile, export, vmap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from legato import diffusion as D
from legato import rft
from legato.errors import ArgumentError

torch = pytest.importorskip("torch", reason="torch is what these operators are for")

from torch import library  # noqa: E402

from legato.torch import apply_step, gae  # noqa: E402

rng = np.random.default_rng(5)


def tensors(*shape: int, count: int = 2, dtype: Any = None, grad: bool = True) -> list[Any]:
    wide = torch.float64 if dtype is None else dtype
    return [torch.tensor(rng.normal(size=shape)).to(wide).requires_grad_(grad) for _ in range(count)]


class TestGae:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_the_numbers_are_those_of_the_kernel(self, dtype: Any) -> None:
        r, v = tensors(4, 7, dtype=dtype)
        mask = torch.tensor(rng.random((4, 7)) > 0.3)
        found = gae(r, v, mask, 0.9, 0.8, v[:, 0])
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        given = [x.detach().to(wide).numpy() for x in (r, v, v[:, 0])]
        wanted = rft.gae(given[0], given[1], mask.numpy(), 0.9, 0.8, given[2])
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one.detach().numpy(), other)

    @pytest.mark.parametrize("masked", [False, True])
    def test_gradients_of_both_orders(self, masked: bool) -> None:
        r, v = tensors(3, 5)
        (b,) = tensors(3, count=1)
        mask = torch.tensor(rng.random((3, 5)) > 0.4) if masked else None
        torch.autograd.gradcheck(lambda r, v, b: gae(r, v, mask, 0.9, 0.8, b), (r, v, b))
        torch.autograd.gradgradcheck(lambda r, v, b: gae(r, v, mask, 0.9, 0.8, b), (r, v, b))

    def test_a_row_without_steps_that_count(self) -> None:
        r, v = tensors(2, 3)
        (b,) = tensors(2, count=1)
        found = gae(r, v, torch.zeros(2, 3), 0.9, 0.8, b)
        sum(x.sum() for x in found).backward()
        for x in (r, v, b):
            assert not x.grad.any()

    def test_operator(self) -> None:
        for dtype in (torch.float32, torch.float64):
            r, v = tensors(3, 5, dtype=dtype)
            library.opcheck(torch.ops.legato.gae.default, (r, v, None, None, 0.9, 0.8))
            mask = torch.tensor(rng.random((3, 5)) > 0.4)
            library.opcheck(torch.ops.legato.gae.default, (r, v, mask, v[:, 0].detach(), 0.9, 0.8))

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
    def test_compile_export_and_func(self) -> None:
        r, v = tensors(3, 5, dtype=torch.float32, grad=False)

        def loss(r: Any, v: Any) -> Any:
            return gae(r, v, gamma=0.9)[0].square().sum()

        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(r, v), loss(r, v))
        by_func = torch.func.grad(loss, argnums=1)(r, v)
        v.requires_grad_(True)
        loss(r, v).backward()
        torch.testing.assert_close(by_func, v.grad)
        batch = torch.stack([r, 2 * r])
        mapped = torch.func.vmap(loss, (0, None))(batch, v.detach())
        torch.testing.assert_close(mapped, torch.stack([loss(x, v.detach()) for x in batch]))

        class Model(torch.nn.Module):
            def forward(self, r: Any, v: Any) -> Any:
                return gae(r, v)

        exported = torch.export.export(Model(), (r, v.detach()))
        assert torch.equal(exported.module()(r, v.detach())[0], gae(r, v.detach())[0])

    def test_what_is_refused(self) -> None:
        r, v = tensors(3, 5)
        for arguments, name in (
            ((r, v[:2]), "rewards, values"),
            ((r.detach().numpy(), v), "rewards"),
            ((r.to(torch.int64), v), "rewards"),
            ((r, v, r[:2]), "mask"),
            ((r, v, None, 0.9, 0.8, v), "bootstrap"),
        ):
            with pytest.raises(ArgumentError, match=name):
                gae(*arguments)


class TestStep:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
    def test_the_numbers_are_those_of_the_kernel(self, dtype: Any) -> None:
        x, eps, uncond, z = tensors(3, 4, 2, count=4, dtype=dtype)
        for guidance in ((None, 1.0), (uncond, 7.5)):
            found = apply_step(x, eps, (0.5, 0.25, 0.125), *guidance, seeds=3, step=2)
            with torch.no_grad():
                wanted = D.apply_step(x, eps, (0.5, 0.25, 0.125), *guidance, seeds=3, step=2)
            assert found.dtype == dtype
            assert torch.equal(found, wanted)
        table = torch.tensor(rng.normal(size=(3, 3)))
        found = apply_step(x, eps, table, noise=z, seeds=torch.arange(3))
        with torch.no_grad():
            assert torch.equal(found, D.apply_step(x, eps, table, noise=z))

    def test_gradients_of_both_orders(self) -> None:
        inputs = tensors(3, 4, count=4)
        for coef in ((0.5, 0.25, 0.125), torch.tensor(rng.normal(size=(3, 3)))):

            def step(x: Any, eps: Any, uncond: Any, z: Any, coef: Any = coef) -> Any:
                return apply_step(x, eps, coef, uncond, 3.0, noise=z)

            torch.autograd.gradcheck(step, inputs)
            torch.autograd.gradgradcheck(step, inputs)

    def test_operator(self) -> None:
        for dtype in (torch.float32, torch.bfloat16):
            x, eps = tensors(3, 4, dtype=dtype)
            table = torch.tensor([[0.5, 0.25, 0.0, 0.125]], dtype=torch.float64)
            library.opcheck(
                torch.ops.legato.apply_step.default, (x, eps, None, None, table, torch.tensor(7), [1, 0, 0, 1])
            )

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
    def test_compile_and_func(self) -> None:
        x, eps = tensors(3, 4, dtype=torch.float32, grad=False)

        def loss(x: Any, eps: Any) -> Any:
            return apply_step(x, eps, (0.5, 0.25, 0.125), seeds=3).square().sum()

        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(x, eps), loss(x, eps))
        by_func = torch.func.grad(loss)(x, eps)
        x.requires_grad_(True)
        loss(x, eps).backward()
        torch.testing.assert_close(by_func, x.grad)
        batch = torch.stack([x.detach(), 2 * x.detach()])
        mapped = torch.func.vmap(loss, (0, None))(batch, eps)
        torch.testing.assert_close(mapped, torch.stack([loss(one, eps) for one in batch]))

    def test_what_is_refused(self) -> None:
        x, eps = tensors(3, 4)
        for arguments, name in (
            ((x, eps[:2], (1, 1, 0)), "eps"),
            ((x, eps.to(torch.float32), (1, 1, 0)), "eps"),
            ((x, eps, (1, 1)), "coef"),
            ((x, eps, (1, 1, 0), None, 2.0), "eps_uncond"),
            ((x, eps, (1, float("nan"), 0)), "coef"),
        ):
            with pytest.raises(ArgumentError, match=name):
                apply_step(*arguments)
