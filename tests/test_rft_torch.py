"""Token statistics and losses inside torch: autograd, opcheck, torch.compile and torch.func."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from legato import rft
from legato.errors import ArgumentError, IndexRangeError

torch = pytest.importorskip("torch", reason="torch is in the peers extra")
from torch import library  # noqa: E402

if not hasattr(library, "custom_op"):
    pytest.skip("torch before 2.4 has no custom operators", allow_module_level=True)

from legato.rft import autograd  # noqa: E402
from legato.rft.autograd import policy_loss, token_logp, token_logp_entropy  # noqa: E402

TEMPERATURE = 0.7


def sample(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def several_ids() -> Any:
    """Three a row, one twice in a row, some of them and a whole row ignored."""
    ids = torch.randint(0, 11, (6, 3), generator=torch.Generator().manual_seed(1))
    ids[0, 1] = ids[0, 0]
    ids[2], ids[3, 1] = -100, -100
    return ids


def plain(z: Any, ids: Any) -> tuple[Any, Any]:
    """The same by torch."""
    logp, counted = torch.log_softmax(z / TEMPERATURE, -1), ids != -100
    entropy = torch.where(counted.any(-1), -(logp.exp() * logp).sum(-1), 0.0)
    return torch.where(counted, logp.gather(-1, torch.where(counted, ids, 0)), 0.0), entropy


def objective(found: tuple[Any, Any]) -> Any:
    logp, entropy = found
    return (logp * logp).sum() + 2 * logp.sum() + 0.3 * (entropy * entropy).sum()


def ours(z: Any) -> Any:
    return objective(token_logp_entropy(z, several_ids(), TEMPERATURE))


def expected(z: Any) -> Any:
    return objective(plain(z, several_ids()))


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 5e-6), (torch.float64, 5e-6), (torch.bfloat16, 3e-2), (torch.float16, 5e-3)],
)
def test_values_and_gradients(dtype: Any, tolerance: float) -> None:
    """(b, t, v) logits, one id or several, in every storage; the gradient has the type of the logits."""
    z = sample(2, 3, 50).to(dtype)
    one, three = torch.tensor([[0, 7, 49], [1, -100, 3]]), torch.tensor([[[0, 7, 7]] * 3, [[49, -100, 1]] * 3])
    for ids in (one, three):
        a, b = z.clone().requires_grad_(), z.clone().double().requires_grad_()
        found, wanted = token_logp_entropy(a, ids, TEMPERATURE), plain(b, ids if ids is three else ids[..., None])
        wanted = (wanted[0].reshape(ids.shape), wanted[1])
        for x, y in zip(found, wanted, strict=True):
            assert x.dtype == torch.float32
            torch.testing.assert_close(x.double(), y, atol=5e-5, rtol=0)
        objective(found).backward()
        objective(wanted).backward()
        assert a.grad.dtype == dtype
        torch.testing.assert_close(a.grad.double(), b.grad, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(token_logp(a, ids, TEMPERATURE), found[0], atol=0, rtol=0)


def test_ignored_rows_are_not_read() -> None:
    z = sample(3, 5)
    z[1] = torch.nan
    z.requires_grad_()
    logp, entropy = token_logp_entropy(z, torch.tensor([1, -1, 2]), ignore_index=-1)
    (logp.sum() + entropy.sum()).backward()
    assert logp[1] == entropy[1] == 0
    assert (z.grad[1] == 0).all()
    assert z.grad.isfinite().all()


def test_the_operators_keep_torchs_rules() -> None:
    z, ids = sample(6, 11).requires_grad_(), several_ids()
    library.opcheck(autograd._token_stats, (z, ids, TEMPERATURE, -100, True, 1))
    library.opcheck(autograd._token_stats, (z.detach(), ids, TEMPERATURE, -100, False, 1))
    row = sample(6, seed=3)
    library.opcheck(autograd._token_stats_backward, (z, ids, row, row, row, sample(6, 3), row, TEMPERATURE, -100, 1))
    x, mask = sample(2, 4).requires_grad_(), torch.ones(2, 4)
    given = (x, x.detach() + 0.1, sample(2, 1), mask, None, "ppo", "token-mean", [0.2, 0.2, 1.0, 1.0], None, None, None)
    library.opcheck(autograd._policy_loss, given)


def test_second_derivatives() -> None:
    z, direction = sample(6, 11), sample(6, 11, seed=5)
    for loss, tolerance in ((ours, 2e-5), (lambda z: token_logp(z, several_ids(), TEMPERATURE).square().sum(), 2e-5)):
        by_torch = expected if loss is ours else lambda z: plain(z, several_ids())[0].square().sum()
        found = []
        for x, function in ((z.clone(), loss), (z.double(), by_torch)):
            x.requires_grad_()
            (gradient,) = torch.autograd.grad(function(x), x, create_graph=True)
            found.append(torch.autograd.grad((gradient * direction).sum(), x)[0].double())
        torch.testing.assert_close(*found, atol=tolerance, rtol=1e-5)


def test_transforms_of_functions() -> None:
    z, direction = sample(6, 11), sample(6, 11, seed=5)
    wanted = torch.func.grad(expected)(z.double())
    torch.testing.assert_close(torch.func.grad(ours)(z).double(), wanted, atol=5e-6, rtol=1e-5)

    def along(loss: Any, x: Any) -> Any:
        return torch.func.grad(lambda y: (torch.func.grad(loss)(y) * direction.to(y.dtype)).sum())(x)

    torch.testing.assert_close(along(ours, z).double(), along(expected, z.double()), atol=2e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_whole_graph_compiles() -> None:
    """The graph that torch traces, run as it is: what inductor makes of it is inductor's."""
    ids, old, a = torch.tensor([[1, 2, 3]]), torch.full((1, 3), -2.0), torch.tensor([[1.0]])

    def loss(z: Any) -> Any:
        logp, entropy = token_logp_entropy(z, ids)
        return policy_loss(logp, old, a, kind="gspo") - 0.01 * entropy.mean()

    z = sample(1, 3, 7)
    found = []
    for run in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        x = z.clone().requires_grad_()
        value = run(x)
        value.backward()
        found.append((value.detach(), x.grad))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, atol=0, rtol=0)


def test_policy_losses_are_those_of_numpy() -> None:
    logp, old, a = sample(3, 5) - 2, sample(3, 5, seed=1) - 2, sample(3, 1, seed=2)
    mask, weights = torch.tensor([[1, 1, 1, 0, 0], [1] * 5, [0] * 5]), torch.rand(3, 5)
    options: dict[str, Any] = {"mode": "seq-mean-token-mean", "eps_high": 0.3}
    for kind in ("ppo", "gspo", "cispo", "sapo"):
        x = logp.clone().requires_grad_()
        loss = policy_loss(x, old, a, mask, kind, weights=weights, **options)
        (3 * loss).backward()
        found = rft.policy_loss(logp, old, a, mask, kind, weights=weights, **options)
        assert loss.item() == pytest.approx(found.loss, rel=1e-6)
        np.testing.assert_allclose(x.grad.numpy(), 3 * found.grad_logp, 1e-6)
        half = policy_loss(logp.to(torch.bfloat16).requires_grad_(), old, a, mask, kind, **options)
        half.backward()
    gradient = torch.func.grad(lambda x: policy_loss(x, old, a, mask))(logp)
    np.testing.assert_allclose(gradient, rft.policy_loss(logp, old, a, mask).grad_logp, 1e-6)


def test_a_second_derivative_of_a_loss_is_refused() -> None:
    x = sample(2, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(policy_loss(x, x.detach(), torch.ones(2, 1)), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="policy_loss has no second derivative"):
        gradient.sum().backward()


def test_bad_input() -> None:
    z, ids = torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.long)
    for arguments, error, message in (
        ((z, ids[0]), ArgumentError, r"ids: expected shape \(2, 3\) or \(2, 3, 'k'\), got \(3,\)"),
        ((z, ids.T), ArgumentError, "ids: expected shape"),
        ((z, ids.float()), ArgumentError, "ids: expected whole numbers, got torch.float32"),
        ((z.long(), ids), ArgumentError, "logits: expected float32"),
        ((z[..., :0], ids), ArgumentError, r"logits: expected shape \(..., v\)"),
        ((z.numpy(), ids), ArgumentError, "expected torch tensors"),
        ((z.to("meta"), ids), ArgumentError, "expected tensors in CPU memory"),
        ((z, ids + 5), IndexRangeError, r"ids\[0, 0\]: expected 0 <= id < 5, got 5"),
        ((z, ids, 0.0), ArgumentError, "temperature"),
    ):
        with pytest.raises(error, match=message):
            token_logp_entropy(*arguments)
    with pytest.raises(ArgumentError, match="expected torch tensors"):
        policy_loss(torch.zeros(1, 2), [[0.0, 0.0]], torch.zeros(1, 2))
