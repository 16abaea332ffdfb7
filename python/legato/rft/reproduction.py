"""The paper's controlled experiment on scikit-learn digits, and its theorem on random policies.

Razin et al., "Vanishing Gradients in Reinforcement Finetuning of Language Models", ICLR 2024, arXiv 2310.20703. The
experiment has exact gradients over all labels, so nothing in it is a matter of exploration.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from legato._extras import install_command
from legato.errors import ArgumentError, DependencyError
from legato.rft import _reference
from legato.rft.theory import gradient_bounds, tree_advantages, value_grad

__all__ = [
    "BoundsCheck",
    "DigitsResult",
    "GroupState",
    "Snapshot",
    "bounds_table",
    "check_bounds",
    "digits_table",
    "digits_verdicts",
    "reproduce_digits",
]

Array = NDArray[Any]
Progress = Callable[[str], None]

LABELS = 10
HIDDEN = (250, 100)
BATCH = 512
LEARNING_RATE = 1e-4
LABEL_SET = 5  # labels that pretraining gives to each class, its own among them
RELABELED = 0.1  # share of inputs whose finetuning label is outside of their class's set
FEW = (0.01, 0.05)  # shares of the inputs that a few steps of supervision are given
FEW_STEPS = 200
REMEDIES = {"rft_rate": "rate x 10", "rft_temperature": "temperature 2", "rft_entropy": "entropy bonus"}
RATE_FACTOR, TEMPERATURE, ENTROPY_BONUS = 10.0, 2.0, 0.05


@dataclass(frozen=True, slots=True)
class GroupState:
    """What a group of inputs gets from the policy.

    Attributes
    ----------
    reward : float
        Mean, in [-1, 1].
    accuracy : float
    std : float
        Mean over the inputs of the reward's standard deviation.
    gradient : float
        Mean over the inputs of the norm of the exact policy gradient with respect to the logits.
    """

    reward: float
    accuracy: float
    std: float
    gradient: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of both groups of inputs after some steps."""

    step: int
    small: GroupState
    large: GroupState


@dataclass(frozen=True, slots=True)
class DigitsResult:
    """Curves of each run for one seed.

    Attributes
    ----------
    seed : int
    runs : dict
        "pretrained" (one snapshot), "rft", "sft" and "sft_then_rft": lists of snapshots. "small" are the inputs whose
        reward std is small at the start (relabeled), "large" the others. With remedies also "rft_rate",
        "rft_temperature" and "rft_entropy"; "few1_random" and "few5_random", a few supervised steps on 1 % or 5 % of
        the inputs (of the relabeled ones) and then reinforcement; "rft_shared", "few1_shared" and "few5_shared", the
        same where relabeled inputs of one class want one label, so that there is something to generalize.
    correlations : dict
        Over the inputs: "rft" and "sft", of the reward's std at the start and what its mean gained; "gradient", of the
        logarithms of std and gradient norm, and their "slope".
    """

    seed: int
    runs: dict[str, list[Snapshot]] = field(default_factory=dict)
    correlations: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return asdict(self)


class _LogitGradient(Protocol):
    """d loss / d logits of a batch, which is those rows of the data."""

    def __call__(self, z: Array, rows: Array) -> Array: ...


class _Network:
    """A ReLU network with Adam, float32."""

    def __init__(self, widths: tuple[int, ...], rng: np.random.Generator) -> None:
        self.parameters: list[Array] = []
        for inputs, outputs in itertools.pairwise(widths):
            reach = 1.0 / np.sqrt(inputs)
            self.parameters.append(rng.uniform(-reach, reach, (inputs, outputs)).astype(np.float32))
            self.parameters.append(rng.uniform(-reach, reach, outputs).astype(np.float32))
        self.reset()

    def reset(self) -> None:
        """Forget the moments of Adam."""
        self.steps = 0
        self.first = [np.zeros_like(p) for p in self.parameters]
        self.second = [np.zeros_like(p) for p in self.parameters]

    def copy(self) -> _Network:
        twin = object.__new__(_Network)
        twin.parameters = [p.copy() for p in self.parameters]
        twin.reset()
        return twin

    def logits(self, x: Array) -> Array:
        return self._forward(x)[-1]

    def _forward(self, x: Array) -> list[Array]:
        layers = [x]
        last = len(self.parameters) - 2
        for i in range(0, len(self.parameters), 2):
            z = layers[-1] @ self.parameters[i] + self.parameters[i + 1]
            layers.append(z if i == last else np.maximum(z, 0))
        return layers

    def descend(self, x: Array, grad_of: Callable[[Array], Array], learning_rate: float = LEARNING_RATE) -> None:
        """One step of Adam; grad_of gives d loss / d logits."""
        layers = self._forward(x)
        delta = grad_of(layers[-1]).astype(np.float32)
        grads: list[Array] = []
        for i in range(len(self.parameters) - 2, -1, -2):
            before = layers[i // 2]
            grads[:0] = [before.T @ delta, delta.sum(axis=0)]
            if i:
                delta = (delta @ self.parameters[i].T) * (before > 0)
        self.steps += 1
        rate = learning_rate * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for p, g, m, v in zip(self.parameters, grads, self.first, self.second, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            p -= np.float32(rate) * m / (np.sqrt(v) + np.float32(1e-8))


def reproduce_digits(
    seed: int = 0,
    steps: int = 10_000,
    pretraining_steps: int = 2_000,
    sft_first: int = 4_000,
    rft_after: int = 2_000,
    every: int = 200,
    remedies: bool = True,
    progress: Progress | None = None,
) -> DigitsResult:
    """Run the paper's controlled experiment (its section 4.1) on scikit-learn's digits.

    A network is pretrained to spread its probability over five labels of each class. Finetuning then wants one label an
    input: for 90 % of them the true one, which has probability about 1/5 and so a large reward std; for 10 % a label
    outside of the five, which has probability near 0 and so a small one. The reward is +1 for that label and -1 for
    the others.

    Parameters
    ----------
    seed : int
    steps : int
        Of reinforcement finetuning (exact policy gradient) and of supervised finetuning.
    pretraining_steps : int
    sft_first, rft_after : int
        The third run: that many supervised steps (at most `steps`), then that many of reinforcement.
    every : int
        Steps between snapshots.
    remedies : bool
        Also try what does not help: a rate ten times as large, a temperature of 2, an entropy bonus; and a few
        supervised steps on few inputs. Eight more runs.
    progress : callable, optional
        Gets a line of text now and then.

    Returns
    -------
    DigitsResult

    See Also
    --------
    reproduce_sequence : Finetune a two-layer character transformer by reinforcement and by supervision.
    reproduce_teacher : Let three reward models teach one policy.

    Examples
    --------
    >>> from legato import rft
    >>> found = rft.reproduce_digits(steps=2, pretraining_steps=2, sft_first=1, rft_after=1, every=1,
    ...                              remedies=False)
    >>> sorted(found.runs)
    ['pretrained', 'rft', 'sft', 'sft_then_rft']
    """
    if not (min(steps, pretraining_steps, rft_after, every) >= 1 and 1 <= sft_first <= steps):
        raise ArgumentError("steps: expected whole numbers >= 1 and sft_first <= steps")
    lab = _Digits(seed, every, progress)
    wanted, start = lab.wanted, _Network((lab.x.shape[1], *HIDDEN, LABELS), lab.rng)
    curve = lab.train(start, lab.cross_entropy(lab.spread), pretraining_steps, "pretraining", wanted)
    result = DigitsResult(seed, {"pretrained": curve[-1:]})
    _, before, std, norm = lab.values(start, wanted)
    midway = start.copy()
    for name in ("rft", "sft"):
        network = start.copy()
        if name == "rft":
            result.runs[name] = lab.train(network, lab.policy_gradient(wanted), steps, name, wanted)
        else:
            keep = (sft_first, midway)
            result.runs[name] = lab.train(network, lab.cross_entropy(wanted), steps, name, wanted, keep=keep)
        gain = lab.values(network, wanted)[1] - before
        result.correlations[name] = float(np.corrcoef(std, gain)[0, 1])
    result.runs["sft_then_rft"] = lab.train(midway, lab.policy_gradient(wanted), rft_after, "sft_then_rft", wanted)
    x_log, y_log = np.log(std), np.log(norm)
    result.correlations["gradient"] = float(np.corrcoef(x_log, y_log)[0, 1])
    result.correlations["slope"] = float(np.polyfit(x_log, y_log, 1)[0])
    if remedies:
        _try_remedies(lab, start, steps, result)
    return result


def _try_remedies(lab: _Digits, start: _Network, steps: int, result: DigitsResult) -> None:
    """Add the runs that the paper says do not help, or do with few labels."""
    tried = {
        "rft_rate": (lab.policy_gradient(lab.wanted), RATE_FACTOR * LEARNING_RATE),
        "rft_temperature": (lab.policy_gradient(lab.wanted, temperature=TEMPERATURE), LEARNING_RATE),
        "rft_entropy": (lab.policy_gradient(lab.wanted, bonus=ENTROPY_BONUS), LEARNING_RATE),
    }
    for name, (objective, rate) in tried.items():
        result.runs[name] = lab.train(start.copy(), objective, steps, name, lab.wanted, rate=rate)
    result.runs["rft_shared"] = lab.train(
        start.copy(), lab.policy_gradient(lab.shared), steps, "rft_shared", lab.shared
    )
    for kind, labels in (("random", lab.wanted), ("shared", lab.shared)):
        for share in FEW:
            name, network = f"few{round(100 * share)}_{kind}", start.copy()
            chosen = lab.rng.choice(np.flatnonzero(lab.small), int(share * len(lab.x)), replace=False)
            lab.train(network, lab.cross_entropy(labels), min(FEW_STEPS, steps), name, labels, chosen)
            result.runs[name] = lab.train(network, lab.policy_gradient(labels), steps, name, labels)


class _Digits:
    """The data of the experiment, its labels, and how a network is trained on them."""

    def __init__(self, seed: int, every: int, progress: Progress | None) -> None:
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise DependencyError(f"scikit-learn is missing: {install_command('rft')}") from None
        self.seed, self.every, self.progress = seed, every, progress
        self.rng = rng = np.random.default_rng(seed)
        digits = load_digits()
        chosen = rng.permutation(len(digits.target))[:1000]
        self.x, truth = (digits.data[chosen] / 16.0).astype(np.float32), digits.target[chosen]
        others = [rng.permutation(np.delete(np.arange(LABELS), c))[: LABEL_SET - 1] for c in range(LABELS)]
        sets = np.array([[c, *some] for c, some in enumerate(others)])
        spread = np.zeros((LABELS, LABELS))
        spread[np.arange(LABELS)[:, None], sets] = 1.0 / LABEL_SET
        self.spread = spread[truth]  # what pretraining wants
        self.small = np.zeros(len(self.x), bool)
        self.small[rng.permutation(len(self.x))[: int(RELABELED * len(self.x))]] = True
        self.wanted, self.shared = truth.copy(), truth.copy()
        for i in np.flatnonzero(self.small):
            outside = np.setdiff1d(np.arange(LABELS), sets[truth[i]])
            self.wanted[i] = rng.choice(outside)
            self.shared[i] = outside[0]  # one label for all relabeled inputs of a class

    def values(self, network: _Network, labels: Array) -> tuple[Array, Array, Array, Array]:
        """Likeliest labels, and mean, std and gradient norm of the reward, of each input."""
        z = network.logits(self.x).astype(np.float64)
        value, std, grad = value_grad(z, _rewards_of(labels))
        return z.argmax(axis=1), value, std, np.linalg.norm(grad, axis=1)

    def snapshot(self, network: _Network, step: int, labels: Array) -> Snapshot:
        """Means over both groups of inputs."""
        likeliest, *rest = self.values(network, labels)
        value, std, norm = rest
        columns = (value, likeliest == labels, std, norm)
        states = (GroupState(*(float(v[g].mean()) for v in columns)) for g in (self.small, ~self.small))
        return Snapshot(step, *states)

    def cross_entropy(self, goal: Array) -> _LogitGradient:
        """Gradient of supervision: goal has labels, or probabilities."""
        target = goal if goal.ndim == 2 else np.eye(LABELS)[goal]

        def gradient(z: Array, rows: Array) -> Array:
            return np.asarray((_reference.softmax(z.astype(np.float64)) - target[rows]) / len(rows))

        return gradient

    def policy_gradient(self, labels: Array, temperature: float = 1.0, bonus: float = 0.0) -> _LogitGradient:
        """Gradient of reinforcement, exact over all labels, with a bonus for entropy."""
        rewards = _rewards_of(labels)

        def gradient(z: Array, rows: Array) -> Array:
            found = value_grad(z / temperature, rewards[rows])[2] / temperature
            if bonus:
                p = _reference.softmax(z.astype(np.float64))
                information = np.log(np.maximum(p, 1e-300))
                information -= (p * information).sum(axis=1, keepdims=True)
                found -= bonus * p * information
            return -found / len(rows)

        return gradient

    def train(
        self,
        network: _Network,
        grad_of: _LogitGradient,
        count: int,
        name: str,
        labels: Array,
        among: Array | None = None,
        rate: float = LEARNING_RATE,
        keep: tuple[int, _Network] | None = None,
    ) -> list[Snapshot]:
        """Train in place, on some of the inputs; keep: a step, and the network that gets what there is then."""
        curve = [self.snapshot(network, 0, labels)]
        network.reset()
        order: Array = np.empty(0, np.int64)
        for step in range(1, count + 1):
            if len(order) == 0:
                order = self.rng.permutation(len(self.x) if among is None else among)
            rows, order = order[:BATCH], order[BATCH:]
            network.descend(self.x[rows], functools.partial(grad_of, rows=rows), rate)
            if keep is not None and step == keep[0]:
                keep[1].parameters = network.copy().parameters
            if step % self.every == 0 or step == count:
                curve.append(self.snapshot(network, step, labels))
                if self.progress is not None and (step % (10 * self.every) == 0 or step == count):
                    now = curve[-1]
                    self.progress(
                        f"seed {self.seed}, {name}, step {step}: reward {now.small.reward:+.3f} on small-std inputs, "
                        f"{now.large.reward:+.3f} on large-std inputs"
                    )
        return curve


def _rewards_of(labels: Array) -> Array:
    return np.asarray(2.0 * np.eye(LABELS)[labels] - 1.0)


@dataclass(frozen=True, slots=True)
class BoundsCheck:
    """How the gradient norm of random policies compares with its bounds.

    Attributes
    ----------
    policies : int
    violations : dict
        For each bound, the policies whose gradient norm is above it by more than 1e-9 of it.
    largest, median : dict
        For each bound, gradient norm over bound.
    largest_small_std : dict
        The same over the policies whose std is below 1e-4.
    exponents : dict
        Slope of log gradient norm against log std: "reward_scale" (the rewards of one policy shrink) and "rare_success"
        (the probability of the one rewarded output goes to 0). The paper's bound has 2/3.
    """

    policies: int
    violations: dict[str, int]
    largest: dict[str, float]
    median: dict[str, float]
    largest_small_std: dict[str, float]
    exponents: dict[str, float]


def check_bounds(policies: int = 1500, seed: int = 0) -> BoundsCheck:
    """Compare the exact gradient norm of random autoregressive policies with each bound.

    Half of the policies are tables of logits, half have logits linear in random features of the prefix; vocabularies of
    2 to 5 tokens, lengths 1 to 3; rewards that are uniform, of two values, rare or nearly constant, in [-1, 1].

    Parameters
    ----------
    policies : int
    seed : int

    Returns
    -------
    BoundsCheck

    See Also
    --------
    gradient_bounds : Bound the gradient norm of the expected reward by the reward's std.
    sequence_value_grad : Return the expected reward, its std and exact gradient for an autoregressive policy.

    Examples
    --------
    >>> from legato import rft
    >>> found = rft.check_bounds(policies=20)
    >>> found.policies, found.violations
    (20, {'paper': 0, 'sqrt_half_length': 0, 'trace': 0, 'fisher': 0})
    """
    if policies < 1:
        raise ArgumentError(f"policies: expected a whole number >= 1, got {policies}")
    rng = np.random.default_rng(seed)
    names = ("paper", "sqrt_half_length", "trace", "fisher")
    ratios, stds = np.empty((policies, len(names))), np.empty(policies)
    for i in range(policies):
        width, length = int(rng.integers(2, 6)), int(rng.integers(1, 4))
        prefixes = sum(width**level for level in range(length))
        phi = np.eye(prefixes) if i % 2 else rng.normal(size=(prefixes, 4)) / 2
        weights = rng.normal(size=(width, phi.shape[1])) * 10 ** rng.uniform(-1, 1)
        norm, std, fisher, loose = _policy_numbers(phi, weights, _rewards(rng, width**length), length)
        gamma = float(np.linalg.norm(phi, axis=1).max())
        bounds = gradient_bounds(std, length, gamma, loose)
        limits = np.array([bounds.paper, bounds.sqrt_half_length, bounds.trace, std * np.sqrt(fisher)])
        ratios[i] = norm / limits if std > 0 else 0.0
        stds[i] = std
    tiny = (stds > 0) & (stds < 1e-4)
    tiny_ratios = ratios[tiny].max(axis=0) if tiny.any() else np.zeros(len(names))

    def by_name(values: Array) -> dict[str, float]:
        return dict(zip(names, map(float, values), strict=True))

    return BoundsCheck(
        policies,
        dict(zip(names, map(int, (ratios > 1 + 1e-9).sum(axis=0)), strict=True)),
        by_name(ratios.max(axis=0)),
        by_name(np.median(ratios, axis=0)),
        by_name(tiny_ratios),
        {"reward_scale": _slope("reward_scale"), "rare_success": _slope("rare_success")},
    )


def _rewards(rng: np.random.Generator, count: int) -> Array:
    kind = rng.integers(4)
    if kind == 0:
        return rng.uniform(-1, 1, count)
    if kind == 1:
        return rng.choice([-1.0, 1.0], count)
    if kind == 2:
        rewards = np.full(count, -1.0)
        rewards[rng.integers(count)] = 1.0
        return rewards
    return np.asarray(0.3 + rng.normal(size=count) * 10 ** rng.uniform(-7, -2))


def _policy_numbers(phi: Array, weights: Array, rewards: Array, length: int) -> tuple[float, float, float, float]:
    """Gradient norm with respect to the weights, std, largest eigenvalue of the Fisher matrix, sum of E[1 - p]."""
    width = len(weights)
    ends = np.cumsum([0, *(width**level for level in range(length))])
    steps = [_reference.softmax(phi[a:b] @ weights.T) for a, b in itertools.pairwise(ends)]
    reach = [np.ones(1)]
    for p in steps:
        reach.append((reach[-1][:, None] * p).ravel())
    advantages, base, excess = tree_advantages(steps, rewards)
    std = float(np.sqrt(reach[-1] @ ((rewards - base) - excess) ** 2))
    size = weights.size
    grad, fisher, loose = np.zeros(weights.shape), np.zeros((size, size)), 0.0
    for level in range(length - 1, -1, -1):
        p, w, f = steps[level], reach[level], phi[ends[level] : ends[level + 1]]
        grad += np.einsum("kv,kd->vd", w[:, None] * p * advantages[level], f)
        curvature = _reference.covariance(p)
        fisher += np.einsum("k,kvw,kd,ke->vdwe", w, curvature, f, f, optimize=True).reshape(size, size)
        loose += float(w @ (p * _reference.complement(p)).sum(axis=1))
    return float(np.linalg.norm(grad)), std, max(float(np.linalg.eigvalsh(fisher)[-1]), 0.0), loose


def _slope(kind: Literal["reward_scale", "rare_success"]) -> float:
    norms, stds = [], []
    for scale in (1e-3, 1e-4):
        if kind == "reward_scale":
            logits, rewards = np.array([[0.3, -0.2, 0.1]]), scale * np.array([[1.0, -0.5, 0.2]])
        else:
            logits, rewards = np.array([[np.log(scale / (1 - scale)), 0.0]]), np.array([[1.0, -1.0]])
        _, std, grad = value_grad(logits, rewards)
        norms.append(np.log(np.linalg.norm(grad)))
        stds.append(np.log(std[0]))
    return float((norms[0] - norms[1]) / (stds[0] - stds[1]))


RUN_NAMES = {
    "pretrained": "pretrained", "rft": "RFT", "sft": "SFT", "sft_then_rft": "SFT, then RFT",
    **{name: f"RFT, {what}" for name, what in REMEDIES.items()},
    "rft_shared": "RFT, shared labels", "few1_random": "SFT on 1 %, RFT", "few5_random": "SFT on 5 %, RFT",
    "few1_shared": "SFT on 1 %, RFT, shared", "few5_shared": "SFT on 5 %, RFT, shared",
}  # fmt: skip


def digits_verdicts(results: Sequence[DigitsResult]) -> dict[str, bool]:
    """Say which claims of the paper each seed bears out; a claim about a run that was not made is left out."""

    def everywhere(names: Sequence[str], holds: Callable[[DigitsResult, Snapshot], bool]) -> bool | None:
        if not all(name in result.runs for result in results for name in names):
            return None
        return all(holds(result, result.runs[name][-1]) for result in results for name in names)

    def gained(result: DigitsResult, last: Snapshot) -> float:
        return last.small.reward - result.runs["rft_shared"][-1].small.reward

    claims = {
        "reinforcement solves inputs of large std and leaves those of small std": everywhere(
            ["rft"], lambda _, last: last.large.reward > 0.9 and last.small.reward < 0
        ),
        "supervision solves both": everywhere(
            ["sft"], lambda _, last: last.large.reward > 0.9 and last.small.reward > 0.9
        ),
        "std at the start tells the gain of reinforcement better than that of supervision": all(
            result.correlations["rft"] > max(0.5, result.correlations["sft"]) for result in results
        ),
        "neither rate, temperature nor entropy bonus helps where the std is small": everywhere(
            list(REMEDIES), lambda _, last: last.small.reward < 0
        ),
        "supervision on 1 % of the inputs suffices (random labels)": everywhere(
            ["few1_random"], lambda _, last: last.small.reward > 0.9
        ),
        "supervision on 1 % of the inputs suffices (labels that generalize)": everywhere(
            ["few1_shared"], lambda _, last: last.small.reward > 0.9
        ),
        "supervision on 1 % of the inputs helps (labels that generalize)": everywhere(
            ["few1_shared"], lambda result, last: gained(result, last) > 0.1
        ),
        "supervision on 5 % of the inputs suffices (labels that generalize)": everywhere(
            ["few5_shared"], lambda _, last: last.small.reward > 0.9
        ),
    }
    return {claim: holds for claim, holds in claims.items() if holds is not None}


def digits_table(results: Sequence[DigitsResult]) -> str:
    """Write the last snapshot of each run, for a terminal: reward (accuracy, std, gradient norm) of each group."""
    lines = [f"{'seed':<5} {'run':<28} {'steps':>6}   {'small-std inputs':<34} {'large-std inputs':<34}".rstrip()]
    lines.append(f"{'':<42}   " + f"{'reward  (accuracy, std, gradient)':<34} " * 2)
    for result in results:
        for run in result.runs:
            last = result.runs[run][-1]
            groups = " ".join(
                f"{g.reward:+.3f}  ({g.accuracy:4.0%}, {g.std:.3f}, {g.gradient:.4f})".ljust(34)
                for g in (last.small, last.large)
            )
            lines.append(f"{result.seed:<5} {RUN_NAMES[run]:<28} {last.step:>6}   {groups}".rstrip())
        c = result.correlations
        lines.append(
            f"{result.seed:<5} correlation of std and gain {c['rft']:+.2f} by RFT, {c['sft']:+.2f} by SFT; "
            f"gradient norm ~ std^{c['slope']:.2f} (correlation of logarithms {c['gradient']:.2f})"
        )
    lines += [f"{'holds' if holds else 'does not hold'}: {claim}" for claim, holds in digits_verdicts(results).items()]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def bounds_table(check: BoundsCheck) -> str:
    """Write the comparison of the gradient norm with its bounds, for a terminal."""
    rows = {
        "paper": "paper: 6 L gamma std^(2/3)",
        "sqrt_half_length": "gamma std sqrt(L / 2)",
        "trace": "gamma std sqrt(sum E[1 - p])",
        "fisher": "std sqrt(max eig F)",
    }
    lines = [
        f"gradient norm over bound, {check.policies} random policies",
        f"{'bound':<30} {'largest':>8} {'median':>8} {'largest, std < 1e-4':>20} {'violations':>11}",
    ]
    for name, text in rows.items():
        lines.append(
            f"{text:<30} {check.largest[name]:8.4f} {check.median[name]:8.4f} {check.largest_small_std[name]:20.4f} "
            f"{check.violations[name]:11d}"
        )
    scale, rare = check.exponents["reward_scale"], check.exponents["rare_success"]
    lines.append(
        f"exponent of the std in the gradient norm: {scale:.3f} as rewards shrink, {rare:.3f} as a success gets rare"
    )
    return "\n".join(lines) + "\n"
