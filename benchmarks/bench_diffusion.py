"""Diffusion against its peers, on one thread: one group a claim, the answer asserted before it is timed.

A row named "limit" is what memory or arithmetic allows, measured beside: the others' share is its time over theirs. The
process stays on one processor, because XLA takes as many threads as it finds whatever its flags say.
"""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from legato import diffusion as D

A, B, C, G = 0.9, -0.2, 0.3, 5.0
SIZES = {"65k": (1, 4, 128, 128), "524k": (8, 4, 128, 128)}
pytestmark = pytest.mark.filterwarnings("ignore")  # peers warn of their own doings


@pytest.fixture(autouse=True, scope="module")
def one_processor() -> Iterator[None]:
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


def torch_alone() -> Any:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.set_num_threads(1)
    return torch


def measure(benchmark: Any, call: Callable[[], Any]) -> None:
    benchmark.pedantic(call, rounds=60, iterations=5, warmup_rounds=5)


def arrays(size: str) -> list[np.ndarray]:
    return [D.normal(SIZES[size], seed) for seed in (1, 2, 3)]


def stepped(x: np.ndarray, c: np.ndarray, u: np.ndarray) -> np.ndarray:
    return (A * x.astype(float) + B * (u + G * (c.astype(float) - u))).astype(np.float32)


def step_legato(size: str) -> tuple[Callable[[], Any], np.ndarray]:
    x, c, u = arrays(size)
    call = lambda: D.apply_step(x, c, (A, B, 0.0), u, G, out=x)  # noqa: E731
    return call, call().copy()


def step_numpy(size: str) -> tuple[Callable[[], Any], np.ndarray]:
    x, c, u = arrays(size)
    call = lambda: A * x + B * (u + G * (c - u))  # noqa: E731
    return call, call()


def step_numba(size: str) -> tuple[Callable[[], Any], np.ndarray]:
    numba = pytest.importorskip("numba", reason="numba is not installed")
    x, c, u = (array.ravel() for array in arrays(size))

    @numba.njit(fastmath=True)
    def run(x, c, u, a, bc, bu):
        for i in range(x.size):
            x[i] = a * x[i] + bc * c[i] + bu * u[i]
        return x

    scalars = [np.float32(value) for value in (A, B * G, B * (1 - G))]
    call = lambda: run(x, c, u, *scalars)  # noqa: E731
    return call, call().copy().reshape(SIZES[size])


def step_torch(size: str) -> tuple[Callable[[], Any], np.ndarray]:
    torch = torch_alone()
    x, c, u = (torch.from_numpy(array) for array in arrays(size))
    call = lambda: A * x + B * torch.lerp(u, c, G)  # noqa: E731
    return call, call().numpy()


def step_torch_compile(size: str) -> tuple[Callable[[], Any], np.ndarray]:
    torch = torch_alone()
    x, c, u = (torch.from_numpy(array) for array in arrays(size))
    run = torch.compile(lambda x, c, u: A * x + B * (u + G * (c - u)))
    return lambda: run(x, c, u), run(x, c, u).numpy()


def step_jax(size: str) -> tuple[Callable[[], Any], np.ndarray]:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    x, c, u = (jax.numpy.asarray(array) for array in arrays(size))
    run = jax.jit(lambda x, c, u: A * x + B * (u + G * (c - u)))
    return lambda: run(x, c, u).block_until_ready(), np.asarray(run(x, c, u))


STEPS = [step_legato, step_numba, step_torch_compile, step_jax, step_torch, step_numpy]


@pytest.mark.parametrize("make", STEPS, ids=lambda make: make.__name__.removeprefix("step_"))
@pytest.mark.parametrize("size", SIZES)
def test_step(benchmark: Any, make: Callable[[str], Any], size: str) -> None:
    benchmark.group = f"DDIM step with guidance, {size} elements float32"
    call, answer = make(size)
    np.testing.assert_allclose(answer, stepped(*arrays(size)), atol=1e-5)
    measure(benchmark, call)


@pytest.mark.parametrize("size", SIZES)
def test_step_limit(benchmark: Any, size: str) -> None:
    """What memory allows: additions in place that move the same 16 bytes an element, 12 and a third of 12."""
    benchmark.group = f"DDIM step with guidance, {size} elements float32"
    x, c, _ = arrays(size)
    x *= 0
    third = x.size // 3
    short, with_short = x.ravel()[:third], c.ravel()[:third]

    def move() -> None:
        np.add(x, c, out=x)
        np.add(short, with_short, out=short)

    measure(benchmark, move)


@pytest.mark.parametrize("size", SIZES)
def test_step_diffusers(benchmark: Any, size: str) -> None:
    benchmark.group = f"DDIM step with guidance, {size} elements float32"
    torch = torch_alone()
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(50)
    t = scheduler.timesteps[20]
    x, c, u = (torch.from_numpy(array) for array in arrays(size))
    call = lambda: scheduler.step(u + G * (c - u), t, x).prev_sample  # noqa: E731
    coef = D.step_coefficients(D.Schedule.from_diffusers(scheduler))[20]
    ours = D.apply_step(x.numpy(), c.numpy(), coef, u.numpy(), G)
    np.testing.assert_allclose(call().numpy(), ours, atol=1e-4)
    measure(benchmark, call)


SCHEDULERS = {"DDIM": "DDIMScheduler", "flow-match Euler": "FlowMatchEulerDiscreteScheduler"}


@pytest.mark.parametrize("size", ["4k", *SIZES])
@pytest.mark.parametrize("who", ["legato", "diffusers"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_scheduler_step(benchmark: Any, name: str, who: str, size: str) -> None:
    """One call of a scheduler's step, as a pipeline makes it."""
    benchmark.group = f"scheduler step, {name}, {size} elements float32"
    torch = torch_alone()
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    from legato.diffusion import schedulers

    fields = {"clip_sample": False} if name == "DDIM" else {}
    made = [getattr(room, SCHEDULERS[name])(**fields) for room in (schedulers, diffusers)]
    shape = {**SIZES, "4k": (1, 4, 32, 32)}[size]
    x, out = (torch.from_numpy(D.normal(shape, seed)) for seed in (1, 2))
    for scheduler in made:
        scheduler.set_timesteps(50)
    t = made[0].timesteps[20]
    after = [scheduler.step(out, t, x).prev_sample for scheduler in made]
    torch.testing.assert_close(*after, rtol=1e-5, atol=1e-5)
    scheduler = made[who == "diffusers"]

    def call() -> Any:
        if scheduler._step_index_is_counted:
            scheduler._step_index = 20
        return scheduler.step(out, t, x)

    for one in made:
        one._step_index_is_counted = hasattr(one, "_step_index")
    measure(benchmark, call)


@pytest.mark.parametrize("who", ["legato", "torchsde"])
def test_brownian_path(benchmark: Any, who: str) -> None:
    """The increments of one path over 20 steps, in turn."""
    benchmark.group = "Brownian path, 20 increments, 65k elements float32"
    torch = torch_alone()
    times = np.linspace(1.0, 0.0, 21)
    if who == "legato":
        call = lambda: [D.brownian(SIZES["65k"], a, b, 7) for a, b in itertools.pairwise(times)]  # noqa: E731
    else:
        torchsde = pytest.importorskip("torchsde", reason="torchsde is not installed")

        def call() -> list[Any]:
            tree = torchsde.BrownianTree(0.0, torch.zeros(SIZES["65k"]), 1.0, entropy=7)
            return [-tree(float(b), float(a)) for a, b in itertools.pairwise(times)]

    parts = np.array([np.asarray(part) for part in call()])
    assert parts.std() == pytest.approx(20**-0.5, rel=0.02)
    assert abs(parts.sum(0).std() - 1.0) < 0.02
    measure(benchmark, call)


def noisy_legato(size: str) -> Callable[[], Any]:
    x, c, u = arrays(size)
    z = D.normal(SIZES[size], 7, step=1)
    np.testing.assert_allclose(
        D.apply_step(x, c, (A, B, C), u, G, seeds=7, step=1), stepped(x, c, u) + np.float32(C) * z, atol=1e-5
    )
    return lambda: D.apply_step(x, c, (A, B, C), u, G, seeds=7, step=1, out=x)


def noisy_torch(size: str) -> Callable[[], Any]:
    torch = torch_alone()
    x, c, u = (torch.from_numpy(array) for array in arrays(size))
    return lambda: (A * x + B * torch.lerp(u, c, G)).add_(torch.randn_like(x), alpha=C)


def noisy_jax(size: str) -> Callable[[], Any]:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    x, c, u = (jax.numpy.asarray(array) for array in arrays(size))
    run = jax.jit(lambda x, c, u, k: A * x + B * (u + G * (c - u)) + C * jax.random.normal(k, x.shape))
    key = jax.random.PRNGKey(0)
    return lambda: run(x, c, u, key).block_until_ready()


def noisy_numpy(size: str) -> Callable[[], Any]:
    x, c, u = arrays(size)
    rng = np.random.Generator(np.random.SFC64(0))
    return lambda: A * x + B * (u + G * (c - u)) + np.float32(C) * rng.standard_normal(x.shape, np.float32)


@pytest.mark.parametrize("make", [noisy_legato, noisy_torch, noisy_jax, noisy_numpy], ids=lambda m: m.__name__[6:])
@pytest.mark.parametrize("size", SIZES)
def test_step_with_noise(benchmark: Any, make: Callable[[str], Any], size: str) -> None:
    benchmark.group = f"DDPM step with guidance and fresh noise, {size} elements float32"
    call = make(size)
    assert np.isfinite(np.asarray(call())).all()
    measure(benchmark, call)


@pytest.mark.parametrize("who", ["legato", "legato-philox", "torch", "numpy", "jax"])
@pytest.mark.parametrize("size", SIZES)
def test_fill(benchmark: Any, who: str, size: str) -> None:
    benchmark.group = f"Gaussian fill, {size} elements float32"
    out = np.empty(SIZES[size], np.float32)
    if who.startswith("legato"):
        generator = "philox" if who.endswith("philox") else "threefry"
        call = lambda: D.normal(SIZES[size], 1, generator=generator, out=out)  # noqa: E731
    elif who == "torch":
        tensor = torch_alone().from_numpy(out)
        call = lambda: tensor.normal_()  # noqa: E731
    elif who == "numpy":
        rng = np.random.Generator(np.random.SFC64(0))
        call = lambda: rng.standard_normal(out=out, dtype=np.float32)  # noqa: E731
    else:
        jax = pytest.importorskip("jax", reason="jax is not installed")
        run, key = jax.jit(lambda k: jax.random.normal(k, out.shape)), jax.random.PRNGKey(0)
        call = lambda: run(key).block_until_ready()  # noqa: E731
    drawn = np.asarray(call())
    assert abs(drawn.std() - 1) < 0.02
    measure(benchmark, call)


def in_turn(
    benchmark: Any,
    pairs: dict[str, Callable[[], tuple[Callable[[], Any], Callable[[], Any]]]],
    rounds: int = 11,
    turns: int = 40,
) -> None:
    """Time two calls in turn, on what a pair makes anew for each round; medians of theirs over ours in extra_info."""
    ratios: dict[str, list[float]] = {name: [] for name in pairs}

    def block() -> None:
        for name, make in pairs.items():
            calls = make()
            for call in calls * 2:
                call()
            for _ in range(turns):
                seconds = []
                for call in calls:
                    start = time.perf_counter()
                    call()
                    seconds.append(time.perf_counter() - start)
                ratios[name].append(seconds[1] / seconds[0])

    benchmark.pedantic(block, rounds=rounds)
    for name, values in ratios.items():
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        benchmark.extra_info[name] = f"{middle:.2f} ({low:.2f} to {high:.2f})"


RATIOS = "medians of ratios, ours and the best peer in turn, in extra_info"


@pytest.mark.benchmark(group=RATIOS)
@pytest.mark.parametrize("size", SIZES)
def test_ratios(benchmark: Any, size: str) -> None:
    """What ratios of rows above mean on a machine that is shared: call by call in turn, on fresh arrays every block."""
    np.testing.assert_allclose(step_legato(size)[1], step_numba(size)[1], atol=1e-5)
    in_turn(
        benchmark,
        {
            "numba over legato, step in place": lambda: (step_legato(size)[0], step_numba(size)[0]),
            "torch over legato, step with noise": lambda: (noisy_legato(size), noisy_torch(size)),
        },
    )


@pytest.mark.benchmark(group=RATIOS)
@pytest.mark.parametrize("size", ["4k", *SIZES])
def test_ratios_of_schedulers(benchmark: Any, size: str) -> None:
    """Runs of 20 steps of every scheduler, as pipelines make them."""
    torch = torch_alone()
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    from legato.diffusion import schedulers

    shape = {**SIZES, "4k": (1, 4, 32, 32)}[size]
    x, out = (torch.from_numpy(D.normal(shape, seed)) for seed in (1, 2))

    def run(scheduler: Any) -> Callable[[], Any]:
        def call() -> Any:
            scheduler.set_timesteps(20)
            return [scheduler.step(out, t, x).prev_sample for t in scheduler.timesteps]

        return call

    def pair(name: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
        fields = {"clip_sample": False} if name.startswith("DD") else {}
        calls = tuple(run(getattr(room, name)(**fields)) for room in (schedulers, diffusers))
        if name in ("DDIMScheduler", "FlowMatchEulerDiscreteScheduler", "HeunDiscreteScheduler"):  # that draw no noise
            for ours, theirs in zip(*(call() for call in calls), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        return calls[0], calls[1]

    in_turn(benchmark, {name: functools.partial(pair, name) for name in schedulers.__all__}, rounds=5, turns=9)


@pytest.mark.benchmark(group=RATIOS)
def test_ratios_of_small_runs(benchmark: Any) -> None:
    """One chain of 50 steps beside numba's loop with its table at hand, and a callable beside NumPy's own loop."""
    numba = pytest.importorskip("numba", reason="numba is not installed")
    model, levels = D.GaussianMixture([1.0], [[3.0, 0.0]], [0.04]), D.Schedule.vp_linear(50)
    rows = np.column_stack([levels.alpha[:-1], levels.sigma[:-1], D.step_coefficients(levels, "ddim", prediction="x0")])
    start, wide = D.normal((1, 2), 0, step=-1), D.normal((1, 16), 0, step=-1)

    @numba.njit
    def chain(x, rows):
        for alpha, sigma, a, b, _ in rows:
            gain = alpha * 0.04 / (alpha * alpha * 0.04 + sigma * sigma)
            for j in range(2):
                mean = 3.0 if j == 0 else 0.0
                x[0, j] = a * x[0, j] + b * (mean + gain * (x[0, j] - alpha * mean))
        return x

    table = D.step_coefficients(levels, "ddim").tolist()

    def loop() -> Any:
        x = wide
        for a, b, _ in table:
            x = a * x + b * (0.1 * x)
        return x

    ours = (
        lambda: D.sample(model, (1, 2), levels, x=start),
        lambda: D.sample(lambda x, *_: 0.1 * x, (1, 16), levels, x=wide),
    )
    theirs = (lambda: chain(start.copy(), rows), loop)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine(), other(), atol=1e-4)
    names = ("numba over legato, one chain", "numpy over legato, a callable")
    pairs = zip(names, zip(ours, theirs, strict=True), strict=True)
    in_turn(benchmark, {name: functools.partial(tuple, pair) for name, pair in pairs})


CHAINS, CHAIN_STEPS = 8192, 1000


def mixture_pair() -> tuple[np.ndarray, np.ndarray, D.Guided]:
    angle = np.arange(8) * np.pi / 4
    means = 3 * np.stack([np.cos(angle), np.sin(angle)], 1)
    weights = np.array([8.0, 4, 2, 1, 1, 1, 2, 4])
    gm = D.GaussianMixture(np.ones(8), means, np.full(8, 0.2))
    return means, weights / weights.sum(), D.guided(gm.reweighted(weights), gm)


def chain_function(xp: Any, means: np.ndarray, weights: np.ndarray) -> Callable[..., Any]:
    """One guided step for peers: x, z, alpha, sigma, A, B on x0, C -> x'; one exponential for both models."""
    mu, ratio = xp.asarray(means.astype(np.float32)), xp.asarray((weights * 8).astype(np.float32))

    def step(x: Any, z: Any, alpha: Any, sigma: Any, a: Any, b: Any, c: Any) -> Any:
        total = alpha * alpha * 0.2 + sigma * sigma
        off = x[:, None, :] - alpha * mu[None]
        logit = -0.5 * (off * off).sum(-1) / total
        e = (
            xp.exp(logit - logit.max(-1, keepdims=True))
            if xp.__name__ != "torch"
            else xp.exp(logit - logit.max(-1, keepdim=True).values)
        )
        local = mu[None] + (alpha * 0.2 / total) * off
        u = (e[..., None] * local).sum(1) / e.sum(1)[:, None]
        e = e * ratio
        k = (e[..., None] * local).sum(1) / e.sum(1)[:, None]
        return a * x + b * (u + 3.0 * (k - u)) + c * z

    return step


@pytest.mark.parametrize("who", ["legato", "torch-compile", "jax", "numba"])
def test_mixture_chains(benchmark: Any, who: str) -> None:
    benchmark.group = f"2-D mixture, 8 components, CFG-DDPM, {CHAINS} chains x {CHAIN_STEPS} steps"
    means, weights, pair = mixture_pair()
    s = D.Schedule.vp_linear(CHAIN_STEPS)
    table = D.step_coefficients(s, "ddpm", prediction="x0").astype(np.float32)
    levels = np.stack([s.alpha[:-1], s.sigma[:-1]], 1).astype(np.float32)
    rows = np.concatenate([levels, table], 1)
    start = D.normal((CHAINS, 2), 5, step=-1)
    if who == "legato":
        call = lambda: D.sample(pair, (CHAINS, 2), s, "ddpm", guidance_scale=3.0, x=start)  # noqa: E731
    elif who == "torch-compile":
        torch = torch_alone()
        step = torch.compile(chain_function(torch, means, weights), dynamic=False)
        scalars = torch.from_numpy(rows)

        def call() -> Any:
            x = torch.from_numpy(start)
            for k in range(CHAIN_STEPS):
                x = step(x, torch.randn_like(x), *scalars[k])
            return x.numpy()
    elif who == "jax":
        jax = pytest.importorskip("jax", reason="jax is not installed")
        step = chain_function(jax.numpy, means, weights)

        @jax.jit
        def run(x: Any, key: Any) -> Any:
            def one(carry: Any, row: Any) -> Any:
                x, key = carry
                key, sub = jax.random.split(key)
                return (step(x, jax.random.normal(sub, x.shape), *row), key), None

            return jax.lax.scan(one, (x, key), jax.numpy.asarray(rows))[0][0]

        call = lambda: np.asarray(run(start, jax.random.PRNGKey(0)))  # noqa: E731
    else:
        numba = pytest.importorskip("numba", reason="numba is not installed")

        @numba.njit(fastmath=True)
        def run(start, rows, mu, ratio):
            out = np.empty_like(start)
            for i in range(len(start)):
                x, y = start[i]
                for alpha, sigma, a, b, c in rows:
                    total = alpha * alpha * np.float32(0.2) + sigma * sigma
                    gain = alpha * np.float32(0.2) / total
                    su = sc = ux = uy = cx = cy = np.float32(0)
                    for k in range(8):
                        dx, dy = x - alpha * mu[k, 0], y - alpha * mu[k, 1]
                        e = np.exp(np.float32(-0.5) * (dx * dx + dy * dy) / total)
                        lx, ly = mu[k, 0] + gain * dx, mu[k, 1] + gain * dy
                        su += e
                        ux += e * lx
                        uy += e * ly
                        e *= ratio[k]
                        sc += e
                        cx += e * lx
                        cy += e * ly
                    su, sc = su + np.float32(1e-30), sc + np.float32(1e-30)
                    ux, uy, cx, cy = ux / su, uy / su, cx / sc, cy / sc
                    x = a * x + b * (ux + 3 * (cx - ux)) + c * np.float32(np.random.standard_normal())  # noqa: NPY002
                    y = a * y + b * (uy + 3 * (cy - uy)) + c * np.float32(np.random.standard_normal())  # noqa: NPY002
                out[i, 0], out[i, 1] = x, y
            return out

        call = lambda: run(start, rows, means.astype(np.float32), (weights * 8).astype(np.float32))  # noqa: E731
    x = call().astype(float)
    exact = D.sample(pair, (CHAINS, 2), s, "ddpm", guidance_scale=3.0, seeds=77).astype(float)
    assert np.abs(x.mean(0) - exact.mean(0)).max() < 6 * exact.std() * np.sqrt(2 / CHAINS)
    benchmark.pedantic(call, rounds=5, iterations=1, warmup_rounds=1)


@pytest.mark.parametrize("who", ["legato", "limit", "numpy", "torch-softmax", "torch-sdpa", "jax"])
@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
def test_ideal_denoiser(benchmark: Any, who: str, sigma: float) -> None:
    benchmark.group = f"ideal denoiser, digits (1797 x 64), 256 queries, sigma {sigma}"
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    data = (datasets.load_digits().data / 16).astype(np.float32)
    rng = np.random.default_rng(0)
    x = (data[rng.integers(len(data), size=256)] + sigma * rng.normal(size=(256, 64))).astype(np.float32)
    ed = D.EmpiricalDenoiser(data)
    steep = np.float32(1 / sigma**2)
    bias = (-steep / 2 * (data * data).sum(1)).astype(np.float32)
    if who == "legato":
        call = lambda: ed.denoise(x, 1.0, sigma)  # noqa: E731
    elif who == "limit":  # two dense products of these sizes, and nothing else: by a BLAS, at a size that suits it
        left, right = rng.normal(size=(768, 960)).astype(np.float32), rng.normal(size=(960, 80)).astype(np.float32)
        assert left.size * 80 == pytest.approx(2 * 256 * 1797 * 64, rel=0.01)
        benchmark.pedantic(lambda: left @ right, rounds=40, iterations=2, warmup_rounds=3)
        return
    elif who == "numpy":

        def call() -> Any:
            logits = steep * (x @ data.T) + bias
            weights = np.exp(logits - logits.max(1, keepdims=True))
            return (weights / weights.sum(1, keepdims=True)) @ data
    elif who == "jax":
        jax = pytest.importorskip("jax", reason="jax is not installed")
        run = jax.jit(lambda q: jax.nn.softmax(steep * q @ data.T + bias, axis=1) @ data)
        call = lambda: np.asarray(run(x))  # noqa: E731
    else:
        torch = torch_alone()
        q, y, b = (torch.from_numpy(array) for array in (x, data, bias))
        if who == "torch-softmax":
            call = lambda: (torch.softmax(torch.addmm(b, q, y.T, alpha=float(steep)), 1) @ y).numpy()  # noqa: E731
        else:
            attend, scale = torch.nn.functional.scaled_dot_product_attention, float(steep)
            mask = b.expand(1, 1, 256, -1)
            call = lambda: attend(q[None, None], y[None, None], y[None, None], mask, scale=scale)[0, 0].numpy()  # noqa: E731
    np.testing.assert_allclose(call(), ed.denoise(x.astype(float), 1.0, sigma), atol=1e-4)
    benchmark.pedantic(call, rounds=40, iterations=2, warmup_rounds=3)
