"""Reinforcement fine-tuning kernels beside what people run today, one thread each.

    pytest benchmarks/bench_rft.py --benchmark-group-by=group --benchmark-columns=median,min,rounds

Rows of a group read the same input. The answer is asserted before the time is taken. Peers that are not installed are
skipped. "trl" is the arithmetic of selective_log_softmax of TRL 1.16 on the CPU, over sequences of 512 tokens as its
trainer has them: a Python loop over the first axis, of logsumexp for float32 and of log_softmax for 16 bits.
"trl-with_entropy" adds its entropy_from_logits, a pass in chunks of 128 tokens, which its trainer makes too.
"trl-rows" is the same loop over single tokens, whose temporaries stay in the cache.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from legato import rft

SHAPES = [(4096, 32000), (2048, 151936)]
CASES = [(shape, kind) for shape in SHAPES for kind in ("float32", "bfloat16")]


def torch() -> Any:
    module = pytest.importorskip("torch", reason="torch is not installed")
    module.set_num_threads(1)
    return module


@pytest.fixture(scope="module", params=CASES, ids=lambda c: f"{c[0][0]}x{c[0][1]}-{c[1]}")
def case(request: pytest.FixtureRequest) -> tuple[Any, np.ndarray, np.ndarray, str]:
    """Logits as a torch tensor and an array of the same memory, ids, and the name of the group."""
    (rows, columns), kind = request.param
    module = torch()
    rng = np.random.default_rng(0)
    logits = np.empty((rows, columns), np.float32)
    for row in logits:
        row[:] = rng.standard_normal(columns, dtype=np.float32) * 2
    ids = rng.integers(0, columns, rows)
    tensor = module.from_numpy(logits)
    if kind == "bfloat16":
        tensor = tensor.to(module.bfloat16)
        array = tensor.view(module.int16).numpy().view(np.uint16)
    else:
        array = logits
    return tensor, array, ids, f"token_stats {rows}x{columns} {kind}"


def truth(array: np.ndarray, ids: np.ndarray, rows: int = 8) -> np.ndarray:
    return rft.token_stats(array[:rows], ids[:rows], backend="numpy").logp


def measure(benchmark: Any, group: str, run: Callable[[], Any], rounds: int = 3) -> None:
    benchmark.group = group
    benchmark.pedantic(run, rounds=rounds, iterations=1, warmup_rounds=1)


@pytest.mark.parametrize("entropy", [True, False], ids=["all", "logp"])
def test_legato(benchmark: Any, case: Any, entropy: bool) -> None:
    _, array, ids, group = case
    found = rft.token_stats(array, ids, entropy=entropy)
    np.testing.assert_allclose(found.logp[:8], truth(array, ids), 0, 2e-5)
    measure(benchmark, group, lambda: rft.token_stats(array, ids, entropy=entropy), rounds=7)


@pytest.mark.parametrize("rows", [1, 8, 64])
@pytest.mark.parametrize("method", ["legato", "legato-logp", "trl-logp", "trl-with_entropy"])
def test_decoding(benchmark: Any, case: Any, rows: int, method: str) -> None:
    """As many rows as sequences that are decoded side by side: what a call costs shows."""
    tensor, array, ids, group = case
    module = torch()
    z, some, tokens = tensor[:rows], array[:rows], ids[:rows]
    wanted = rft.token_stats(some, tokens, backend="numpy").logp
    if method.startswith("legato"):
        entropy = method == "legato"
        np.testing.assert_allclose(rft.token_stats(some, tokens, entropy=entropy).logp, wanted, 0, 2e-5)
        run: Callable[[], Any] = lambda: rft.token_stats(some, tokens, entropy=entropy)  # noqa: E731
    else:
        peer = module.from_numpy(tokens)
        tolerance = 2e-5 if z.dtype == module.float32 else 0.1
        np.testing.assert_allclose(trl_logp(module, z, peer).float(), wanted, 0, tolerance)

        def run() -> None:
            trl_logp(module, z, peer)
            if method == "trl-with_entropy":
                trl_entropy(module, z)

    benchmark.group = f"{group.replace(str(len(array)), str(rows), 1)}, decoding"
    benchmark(run)


def test_floor_one_read(benchmark: Any, case: Any) -> None:
    """The largest number of the same bytes: one read of memory and next to no arithmetic."""
    _, array, _, group = case
    tensor = torch().from_numpy(array.view(np.float32).reshape(len(array), -1))
    assert np.array_equal(tensor.amax().numpy(), array.view(np.float32).max(), equal_nan=True)
    measure(benchmark, group, tensor.amax, rounds=7)


def trl_logp(module: Any, z: Any, ids: Any) -> Any:
    """Log-probability of each token: z of shape (..., v), ids of shape (...)."""
    ids = ids[..., None]
    if z.dtype == module.float32:
        total = module.stack([module.logsumexp(part, dim=-1) for part in z])
        return (z.gather(-1, ids) - total[..., None])[..., 0]
    parts = [module.log_softmax(part, dim=-1).gather(-1, i) for part, i in zip(z, ids, strict=True)]
    return module.stack(parts)[..., 0]


def trl_entropy(module: Any, z: Any, chunk: int = 128) -> Any:
    parts = []
    for rows in z.reshape(-1, z.shape[-1]).split(chunk):
        logp = module.log_softmax(rows, dim=-1)
        parts.append(-(logp.exp() * logp).sum(-1))
    return module.cat(parts)


@pytest.mark.parametrize("what", ["logp", "with_entropy", "rows"])
def test_trl(benchmark: Any, case: Any, what: str) -> None:
    module = torch()
    z, array, ids, group = case
    tokens = module.from_numpy(ids)
    tolerance = 2e-5 if z.dtype == module.float32 else 0.1
    np.testing.assert_allclose(trl_logp(module, z[:8], tokens[:8]).float(), truth(array, ids), 0, tolerance)

    if what != "rows":
        z, tokens = z.view(-1, 512, z.shape[-1]), tokens.view(-1, 512)

    def run() -> None:
        trl_logp(module, z, tokens)
        if what == "with_entropy":
            trl_entropy(module, z)

    measure(benchmark, group, run, rounds=3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_torch_compile(benchmark: Any, case: Any) -> None:
    """Log-probability, entropy and sum p^2 fused by inductor, float32 inside."""
    module = torch()
    z, array, ids, group = case
    tokens = module.from_numpy(ids)

    def plain(x: Any, i: Any) -> tuple[Any, ...]:
        logp = module.log_softmax(x.float(), dim=-1)
        p = logp.exp()
        return logp.gather(-1, i[:, None])[:, 0], -(p * logp).sum(-1), (p * p).sum(-1)

    fused = module.compile(plain)
    try:
        found = fused(z, tokens)[0][:8]
    except Exception as error:
        pytest.skip(f"torch.compile does not work here: {type(error).__name__}")
    np.testing.assert_allclose(found, truth(array, ids), 0, 2e-5)
    measure(benchmark, group, lambda: fused(z, tokens))


GAE_SHAPES = [(8, 1024), (64, 1024), (256, 2048)]


def gae_input(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mask = np.arange(shape[1]) < rng.integers(shape[1] // 2, shape[1] + 1, shape[0])[:, None]
    return *rng.normal(size=(2, *shape)).astype(np.float32), mask


def gae_python(r: Any, v: Any, m: Any) -> Any:
    """A loop over time on tensors of rows, as trainers have it."""
    module = torch()
    r, v, m = (module.from_numpy(np.asarray(x, np.float32)) for x in (r, v, m))
    last, value, out = 0.0, 0.0, []
    for t in reversed(range(r.shape[1])):
        step = r[:, t] + 1.0 * value - v[:, t] + 0.95 * last
        value = v[:, t] * m[:, t] + (1 - m[:, t]) * value
        last = step * m[:, t] + last * (1 - m[:, t])
        out.append(last)
    return module.stack(out[::-1], dim=1).numpy() * m.numpy()


@pytest.mark.parametrize("shape", GAE_SHAPES, ids=str)
@pytest.mark.parametrize("method", ["legato", "numba", "numpy_loop", "torch_loop"])
def test_gae(benchmark: Any, shape: tuple[int, int], method: str) -> None:
    r, v, m = gae_input(shape)
    expected = rft.gae(r, v, m, 1.0, 0.95, backend="numpy")[0]
    if method == "legato":
        run: Callable[[], Any] = lambda: rft.gae(r, v, m, 1.0, 0.95)[0]  # noqa: E731
    elif method == "numba":
        kernel = numba_gae()
        run = lambda: kernel(r, v, m, 1.0, 0.95)[0]  # noqa: E731
    elif method == "numpy_loop":
        run = lambda: rft.gae(r, v, m, 1.0, 0.95, backend="numpy")[0]  # noqa: E731
    else:
        run = lambda: gae_python(r, v, m)  # noqa: E731
    np.testing.assert_allclose(run(), expected, 0, 1e-3)
    benchmark.group = f"gae {shape[0]}x{shape[1]} float32"
    benchmark(run)


def numba_gae() -> Any:
    numba = pytest.importorskip("numba", reason="numba is not installed")

    @numba.njit
    def kernel(r: Any, v: Any, m: Any, gamma: float, lam: float) -> Any:
        advantages, returns = np.empty_like(r), np.empty_like(r)
        for i in range(r.shape[0]):
            last, value = 0.0, 0.0
            for t in range(r.shape[1] - 1, -1, -1):
                if m[i, t]:
                    last = r[i, t] + gamma * value - v[i, t] + gamma * lam * last
                    value = v[i, t]
                    advantages[i, t], returns[i, t] = last, last + value
                else:
                    advantages[i, t] = returns[i, t] = 0
        return advantages, returns

    return kernel


def numba_advantages() -> Any:
    numba = pytest.importorskip("numba", reason="numba is not installed")

    @numba.njit
    def kernel(r: Any, g: Any, groups: int, eps: float) -> Any:
        n, mean, m2 = np.zeros(groups), np.zeros(groups), np.zeros(groups)
        for i in range(len(r)):
            n[g[i]] += 1
            mean[g[i]] += r[i]
        for j in range(groups):
            mean[j] /= max(n[j], 1)
        for i in range(len(r)):
            m2[g[i]] += (r[i] - mean[g[i]]) ** 2
        out = np.empty_like(r)
        for i in range(len(r)):
            out[i] = (r[i] - mean[g[i]]) / (np.sqrt(m2[g[i]] / max(n[g[i]] - 1, 1)) + eps)
        return out

    return kernel


def bincount_advantages(r: Any, g: Any, groups: int, eps: float) -> Any:
    n = np.bincount(g, minlength=groups)
    centered = r - (np.bincount(g, r, groups) / np.maximum(n, 1))[g]
    return centered / (np.sqrt(np.bincount(g, centered * centered, groups) / np.maximum(n - 1, 1)) + eps)[g]


def python_advantages(r: Any, g: Any, groups: int, eps: float) -> Any:
    """A dictionary of lists, as trainers have it."""
    module = torch()
    scores, of = module.from_numpy(r), {j: [] for j in range(groups)}
    for i in range(len(r)):
        of[int(g[i])].append(scores[i])
    mean = {j: module.stack(x).mean() if x else module.tensor(0.0) for j, x in of.items()}
    std = {j: module.stack(x).std() if len(x) > 1 else module.tensor(1.0) for j, x in of.items()}
    return module.stack([(scores[i] - mean[int(g[i])]) / (std[int(g[i])] + eps) for i in range(len(r))]).numpy()


@pytest.mark.parametrize(("n", "groups"), [(512, 64), (4096, 512), (1_000_000, 125_000)])
@pytest.mark.parametrize("method", ["legato", "numpy_bincount", "numba", "python_loop"])
def test_group_advantages(benchmark: Any, n: int, groups: int, method: str) -> None:
    rng = np.random.default_rng(0)
    g, r = rng.permutation(np.arange(n) % groups), rng.normal(size=n)
    if method == "python_loop" and n > 10_000:
        pytest.skip("minutes")
    plain = {"numpy_bincount": bincount_advantages, "python_loop": python_advantages}
    if method == "legato":
        run: Callable[[], Any] = lambda: rft.group_advantages(r, g)  # noqa: E731
    else:
        function = numba_advantages() if method == "numba" else plain[method]
        run = lambda: function(r, g, groups, 1e-4)  # noqa: E731
    np.testing.assert_allclose(run(), rft.group_advantages(r, g, backend="numpy"), 1e-8, 1e-9)
    benchmark.group = f"group advantages {n} in {groups}, float64"
    benchmark(run)


SCANS = [(100_000, "int"), (100_000, "string"), (1_250_000, "int"), (1_250_000, "string")]


@pytest.mark.parametrize("method", ["legato_scan", "pyarrow_read"])
@pytest.mark.parametrize(("prompts", "kind"), SCANS)
def test_scan_ten_million(benchmark: Any, tmp_path_factory: Any, prompts: int, kind: str, method: str) -> None:
    """A hundred thousand prompts in order, or 1.25 million shuffled; Parquet, one thread, the same two columns."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as pq

    path = tmp_path_factory.getbasetemp() / f"{prompts}-{kind}.parquet"
    if not path.exists():
        write_rollouts(path, prompts, kind)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    group = f"scan 10 M rollouts, {prompts} {kind} prompts"
    if method == "legato_scan":
        assert rft.scan(path, value_range=(0, 1)).overall["rollouts"] == 10_000_000
        measure(benchmark, group, lambda: rft.scan(path, value_range=(0, 1)), rounds=5)
    else:
        read = lambda: pq.read_table(path, columns=["prompt_id", "reward"], use_threads=False)  # noqa: E731
        assert read().num_rows == 10_000_000
        measure(benchmark, group, read, rounds=5)


@pytest.mark.parametrize("prompt", ["text", "chat"])
@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_scan_chats(benchmark: Any, tmp_path_factory: Any, suffix: str, prompt: str) -> None:
    """160 000 rollouts of 20 000 shuffled prompts, which are texts or chats of one message."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as pq

    path = tmp_path_factory.getbasetemp() / f"{prompt}.{suffix}"
    rng = np.random.default_rng(0)
    texts = [f"What is {i} plus {i}? Answer in a box." for i in rng.integers(0, 20_000, 160_000).tolist()]
    prompts = texts if prompt == "text" else [[{"role": "user", "content": text}] for text in texts]
    rewards = (rng.random(len(texts)) < 0.3).astype(float).tolist()
    if suffix == "parquet":
        pq.write_table(pa.table({"prompt": prompts, "reward": rewards}), path)
    else:
        rows = zip(prompts, rewards, strict=True)
        path.write_text("".join(json.dumps({"prompt": one, "reward": reward}) + "\n" for one, reward in rows))
    pa.set_cpu_count(1)
    found = rft.scan(path, value_range=(0, 1)).overall
    assert (found["prompts"], found["rollouts"]) == (len(set(texts)), 160_000)
    measure(benchmark, f"scan 160 000 prompts, {suffix}", lambda: rft.Scan(value_range=(0, 1)).update(path), rounds=5)


def write_rollouts(path: Any, prompts: int, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    success = rng.beta(0.5, 0.5, prompts)
    names = [f"prompt-{i}" for i in range(prompts)] if kind == "string" else range(prompts)
    every = pa.array(names)
    with pq.ParquetWriter(path, pa.schema([("prompt_id", every.type), ("reward", pa.float32())])) as writer:
        for part in range(10):
            ids = np.arange(1_000_000) // 100 + part * 10_000
            if prompts > 100_000:
                ids = rng.integers(0, prompts, 1_000_000)
            rewards = (rng.random(len(ids)) < success[ids]).astype(np.float32)
            writer.write_table(pa.table({"prompt_id": every.take(pa.array(ids)), "reward": rewards}))
