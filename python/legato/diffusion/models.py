"""Models known exactly: Gaussian mixtures, the ideal denoiser of a data set, and pairs of models for guidance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from legato import _core, _dispatch
from legato._arrays import Float64, as_any, as_float64, as_real, as_stored, given_back, refuse_gradients, storage_of
from legato._dispatch import Backend
from legato._scalars import as_number, as_threads, shown
from legato._turns import Turns, one_at_a_time
from legato.diffusion import _reference
from legato.diffusion.noise import from_storage, to_storage
from legato.errors import ArgumentError

__all__ = ["EmpiricalDenoiser", "ExactModel", "GaussianMixture", "Guided", "check_level", "guided"]

Output: TypeAlias = Literal["x0", "score", "epsilon"]

_LEAST_VARIANCE = 1e-200  # its inverse, and what is multiplied by that, must not leave float64


class ExactModel:
    """A law of x0 for which E[x0 | x_t] and the score of x_t = alpha x0 + sigma eps are known exactly."""

    @property
    def dimension(self) -> int:
        """D."""
        raise NotImplementedError

    def denoise(self, x: Any, alpha: float, sigma: float, **options: Any) -> Any:
        """E[x0 | x_t = x].

        Parameters
        ----------
        x : array_like, shape (n, d)
        alpha, sigma : float
            The level, not both 0.
        threads : int
        backend : {"native", "numpy"}, optional

        Returns
        -------
        array, shape (n, d)
            What `x` is: an array of its package, of its floating type (16-bit ones computed in float32), else a NumPy
            array of float64.

        Raises
        ------
        ArgumentError
            Shapes that do not fit, numbers that are not finite, or a tensor that records gradients.
        """
        return self._evaluate(x, alpha, sigma, "x0", **options)

    def score(self, x: Any, alpha: float, sigma: float, **options: Any) -> Any:
        """Gradient of the log density of x_t at `x`.

        Parameters, result and errors are those of `denoise`.
        """
        return self._evaluate(x, alpha, sigma, "score", **options)

    def eps(self, x: Any, alpha: float, sigma: float, **options: Any) -> Any:
        """E[eps | x_t = x] = -sigma score.

        Parameters, result and errors are those of `denoise`.
        """
        return self._evaluate(x, alpha, sigma, "epsilon", **options)

    def _evaluate(
        self, x: Any, alpha: float, sigma: float, output: Output, *, threads: int = 1, backend: Backend | None = None
    ) -> Any:
        points = _points(x, self.dimension)
        check_level(alpha, sigma)
        threads = as_threads(threads)
        score = output != "x0"
        if _dispatch.choose(backend) == "numpy":
            out = self._evaluate_numpy(points, alpha, sigma, score).astype(points.dtype)
        else:
            out = np.empty_like(points)
            _native_evaluate(self._model(points.dtype), alpha, sigma, score, points, out, None, threads)
        if output == "epsilon":
            out *= -sigma
        return _result(x, out)

    def _evaluate_numpy(self, x: NDArray[Any], alpha: float, sigma: float, score: bool) -> Float64:
        raise NotImplementedError

    def _model(self, dtype: Any) -> Any:
        raise NotImplementedError


class GaussianMixture(ExactModel):
    """sum_k w_k N(mu_k, C_k), and exactly what noise makes of it.

    Parameters
    ----------
    weights : array_like, shape (K,)
        Not negative, not all 0; they are normalized.
    means : array_like, shape (K, d)
    covariances : array_like, shape (K,), (K, d) or (K, d, d)
        Isotropic, diagonal or full; positive definite.

    Raises
    ------
    ArgumentError
        Shapes do not fit, or a covariance is singular, negative or not symmetric (a distribution on points is what
        `EmpiricalDenoiser` is for).

    See Also
    --------
    EmpiricalDenoiser : The ideal denoiser of a data set: E[x0 | x_t] when x0 is one of its points.
    guided : Pair a conditional model with an unconditional one, for guidance.
    sample : Run a sampler through a schedule.

    Examples
    --------
    >>> from legato import diffusion as D
    >>> gm = D.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.1, 0.1])
    >>> gm.denoise([[0.5]], alpha=1.0, sigma=0.0).tolist()
    [[0.5]]
    >>> gm.reweighted([1, 0]).score([[-1.0]], alpha=1.0, sigma=0.0).round(6).tolist()
    [[0.0]]
    >>> float(gm.log_density([[1.0]], alpha=1.0, sigma=0.5)[0].round(3))
    -1.084
    """

    def __init__(self, weights: ArrayLike, means: ArrayLike, covariances: ArrayLike) -> None:
        w = as_float64("weights", weights, (None,))
        mu = as_float64("means", means)
        if mu.ndim != 2 or len(mu) != len(w) or mu.size == 0:
            raise ArgumentError(f"means: expected shape ({len(w)}, d), got {mu.shape}")
        cov = as_float64("covariances", covariances)
        count, d = mu.shape
        if cov.shape not in ((count,), (count, d), (count, d, d)):
            raise ArgumentError(f"covariances: expected shape ({count},), ({count}, {d}) or ({count}, {d}, {d})")
        if not (np.isfinite(w).all() and (w >= 0).all() and (w > 0).any()):
            raise ArgumentError("weights: expected finite numbers that are not negative, not all 0")
        if not np.isfinite(mu).all():
            raise ArgumentError("means: expected finite numbers")
        rotations = None
        variances = cov
        if cov.ndim == 3:
            if not np.allclose(cov, cov.swapaxes(1, 2), rtol=1e-12, atol=1e-12 * np.abs(cov).max()):
                raise ArgumentError("covariances: expected symmetric matrices")
            variances, rotations = np.linalg.eigh(cov)
            variances, rotations = np.ascontiguousarray(variances), np.ascontiguousarray(rotations)
        smallest = np.abs(variances).max() * 1e-14 if cov.ndim == 3 else 0.0
        if not (np.isfinite(variances).all() and (variances > smallest).all()):
            raise ArgumentError("covariances: expected positive definite ones")
        if not (variances >= _LEAST_VARIANCE).all():
            raise ArgumentError(f"covariances: expected variances of at least {_LEAST_VARIANCE:g}")
        shares = w / w.max()  # whose sum is finite, however large the weights are
        shares /= shares.sum()
        with np.errstate(divide="ignore"):
            self._log_weights = np.log(shares)
        self.weights, self.means, self.covariances = shares, mu.copy(), cov.copy()
        self._variances, self._rotations = variances.copy(), rotations
        self._compile()

    def _compile(self) -> None:
        self._native = _core.DiffusionModel.mixture(self._log_weights, self.means, self._variances, self._rotations)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the compiled model, which is made again."""
        return {name: value for name, value in self.__dict__.items() if name != "_native"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a pickle or a copy."""
        self.__dict__.update(state)
        self._compile()

    @property
    def dimension(self) -> int:
        """D."""
        return int(self.means.shape[1])

    def reweighted(self, weights: ArrayLike) -> GaussianMixture:
        """Return the same components with other weights: in a guided pair the two share their exponentials.

        Parameters
        ----------
        weights : array_like, shape (K,)

        Returns
        -------
        GaussianMixture

        See Also
        --------
        guided : Pair a conditional model with an unconditional one, for guidance.
        """
        other = GaussianMixture(weights, self.means, self.covariances)
        other.means, other.covariances = self.means, self.covariances
        other._variances, other._rotations = self._variances, self._rotations
        other._compile()
        return other

    def log_density(
        self, x: ArrayLike, alpha: float, sigma: float, *, threads: int = 1, backend: Backend | None = None
    ) -> Any:
        """Log density of x_t at `x`.

        Parameters
        ----------
        x, alpha, sigma, threads, backend
            As in `denoise`.

        Returns
        -------
        array, shape (n,)
            Of the kind and type of `x`.

        See Also
        --------
        GaussianMixture : A mixture of Gaussians, and exactly what noise makes of it.
        """
        points = _points(x, self.dimension)
        check_level(alpha, sigma)
        threads = as_threads(threads)
        density = np.empty(len(points), points.dtype)
        if _dispatch.choose(backend) == "numpy":
            density[:] = self._in_numpy(points, alpha, sigma)[0]
        else:
            _native_evaluate(self._native, alpha, sigma, True, points, np.empty_like(points), density, threads)
        return _result(x, density)

    @property
    def principal(self) -> tuple[Float64, Float64 | None]:
        """Variances (K, d) of every component along its axes, and the axes (K, d, d) where they are not those of x."""
        count = len(self.means)
        return np.broadcast_to(self._variances.reshape(count, -1), self.means.shape), self._rotations

    def _in_numpy(self, x: NDArray[Any], alpha: float, sigma: float) -> tuple[Float64, Float64, Float64]:
        cov = self.covariances
        if cov.ndim < 3:
            cov = self.principal[0][:, :, None] * np.eye(self.dimension)
        return _reference.mixture_evaluate(self._log_weights, self.means, cov, x.astype(float), alpha, sigma)

    def _evaluate_numpy(self, x: NDArray[Any], alpha: float, sigma: float, score: bool) -> Float64:
        return self._in_numpy(x, alpha, sigma)[1 if score else 2]

    def _model(self, dtype: Any) -> Any:  # noqa: ARG002  (a mixture is the same for every dtype)
        return self._native


class EmpiricalDenoiser(ExactModel):
    """The ideal denoiser of a data set: E[x0 | x_t] when x0 is one of its points.

    Parameters
    ----------
    data : array_like, shape (N, d)
        Finite. float32 stays float32.
    labels : array_like of int, shape (N,), optional
        Classes, for `given` and for ``label=`` of `denoise`, `score` and `eps`, which is short for it.
    log_weights : array_like, shape (N,), optional
        Unnormalized log weights; equal ones by default. -inf leaves a point out.

    See Also
    --------
    GaussianMixture : A mixture of Gaussians, and exactly what noise makes of it.
    sample : Run a sampler through a schedule.

    Notes
    -----
    Softmax attention over the data, in the distance form: at small sigma it is exactly the nearest neighbor, and so is
    `denoise` at sigma 0, where the other two are refused. Nothing of
    size queries x N is formed, and points whose weight vanishes in the type of the arithmetic are not added.

    Examples
    --------
    >>> from legato import diffusion as D
    >>> ed = D.EmpiricalDenoiser([[0.0, 0.0], [1.0, 1.0]], labels=[0, 1])
    >>> ed.denoise([[0.9, 0.8]], alpha=1.0, sigma=0.01).tolist()
    [[1.0, 1.0]]
    >>> ed.denoise([[0.9, 0.8]], alpha=1.0, sigma=0.01, label=0).tolist()
    [[0.0, 0.0]]
    """

    def __init__(self, data: ArrayLike, labels: ArrayLike | None = None, log_weights: ArrayLike | None = None) -> None:
        points = as_real("data", data)
        if points.ndim != 2 or points.size == 0 or points.dtype.kind not in "fiub":
            raise ArgumentError(f"data: expected real numbers of shape (N, d), got {points.dtype} {points.shape}")
        points = np.ascontiguousarray(points, np.float32 if points.dtype == np.float32 else np.float64)
        if not np.isfinite(points).all():
            raise ArgumentError("data: expected finite numbers")
        self.labels = None if labels is None else as_any("labels", labels)
        if self.labels is not None and self.labels.shape != (len(points),):
            raise ArgumentError(f"labels: expected shape ({len(points)},), got {self.labels.shape}")
        weights = None if log_weights is None else as_float64("log_weights", log_weights, (len(points),))
        if weights is not None:
            if np.isnan(weights).any() or (weights == np.inf).any() or not (weights > -np.inf).any():
                raise ArgumentError("log_weights: expected numbers below infinity, not all -infinity")
            kept = weights > -np.inf
            points, weights = np.ascontiguousarray(points[kept]), weights[kept] - weights.max()
            self.labels = None if self.labels is None else self.labels[kept]
        self.data, self.log_weights = points, weights
        self._turns = Turns()  # of what is made when it is first asked for
        self._natives: dict[str, Any] = {}
        self._classes: dict[Any, EmpiricalDenoiser] = {}

    @property
    def dimension(self) -> int:
        """D."""
        return int(self.data.shape[1])

    @one_at_a_time
    def given(self, label: Any) -> EmpiricalDenoiser:
        """Return the denoiser of one class alone; its cost is that of the class, not of the data set.

        Parameters
        ----------
        label
            One of the labels.

        Returns
        -------
        EmpiricalDenoiser

        Raises
        ------
        ArgumentError
            There are no labels, or no point has this one.

        See Also
        --------
        guided : Pairs it with the denoiser of all classes.
        """
        if self.labels is None:
            raise ArgumentError("label: this denoiser was made without labels")
        try:
            known = label in self._classes
            chosen = np.zeros(0, bool) if known else np.asarray(self.labels == label, bool)
        except Exception:  # cannot be compared, or has no hash
            known, chosen = False, np.zeros(0, bool)
        if not known:
            if chosen.shape != self.labels.shape or not chosen.any():
                raise ArgumentError(f"label: no point has {shown(label)}")
            weights = None if self.log_weights is None else self.log_weights[chosen]
            self._classes[label] = EmpiricalDenoiser(self.data[chosen], self.labels[chosen], weights)
        return self._classes[label]

    def _evaluate(
        self, x: Any, alpha: float, sigma: float, output: Output, *, label: Any = None, **options: Any
    ) -> Any:
        """Evaluate the denoiser of the class `label`, which every method takes."""
        if output != "x0" and not as_number("sigma", sigma) > 0:
            raise ArgumentError(f"sigma: the score of a set of points needs sigma > 0, got {sigma}")
        return ExactModel._evaluate(self if label is None else self.given(label), x, alpha, sigma, output, **options)

    def _evaluate_numpy(self, x: NDArray[Any], alpha: float, sigma: float, score: bool) -> Float64:
        y = x.astype(float)
        out = _reference.cloud_denoise(self.data.astype(float), self.log_weights, y, alpha, sigma)
        return (alpha * out - y) / sigma**2 if score else out

    @one_at_a_time
    def _model(self, dtype: Any) -> Any:
        name = np.dtype(dtype).name
        if name not in self._natives:
            weights = None if self.log_weights is None else self.log_weights.astype(dtype)
            self._natives[name] = _core.DiffusionModel.cloud(np.ascontiguousarray(self.data, dtype), weights)
        return self._natives[name]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the compiled models, which are made again."""
        return self.__dict__ | {"_natives": {}}


@dataclass(frozen=True)
class Guided:
    """A conditional and an unconditional model; see `guided`.

    See Also
    --------
    guided : Pair a conditional model with an unconditional one, for guidance.

    Examples
    --------
    >>> from legato import diffusion as D
    >>> both = D.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.1, 0.1])
    >>> pair = D.guided(both.reweighted([0, 1]), both)
    >>> D.sample(pair, (2, 1), D.Schedule.karras(5), guidance_scale=2.0).shape
    (2, 1)
    """

    cond: Any
    uncond: Any


def guided(cond: Any, uncond: Any) -> Guided:
    """Pair a conditional model with an unconditional one, for guidance.

    Parameters
    ----------
    cond, uncond : model
        Both exact (`GaussianMixture`, `EmpiricalDenoiser`) of one dimension, or both callables. A weaker model as
        `uncond` is autoguidance (Karras et al. 2024).

    Returns
    -------
    Guided

    See Also
    --------
    Guidance : A guidance rule, for the ``guidance_scale=`` of `sample`.
    sample : Run a sampler through a schedule.

    Examples
    --------
    >>> from legato import diffusion as D
    >>> both = D.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.1, 0.1])
    >>> pair = D.guided(both.reweighted([0, 1]), both)
    >>> x = D.sample(pair, (1000, 1), D.Schedule.karras(30), seeds=1, guidance_scale=3.0)
    >>> bool((x > 0).all())
    True
    """
    if isinstance(cond, Guided) or isinstance(uncond, Guided):
        raise ArgumentError("cond: expected a model, not a pair of them")
    exact = [isinstance(model, ExactModel) for model in (cond, uncond)]
    if exact[0] != exact[1]:
        raise ArgumentError("uncond: expected an exact model beside an exact one, a callable beside a callable")
    if all(exact) and cond.dimension != uncond.dimension:
        raise ArgumentError(f"uncond: expected dimension {cond.dimension}, got {uncond.dimension}")
    if all(exact):
        uncond = _sharing(cond, uncond)
    return Guided(cond, uncond)


def _sharing(cond: ExactModel, uncond: ExactModel) -> ExactModel:
    """`uncond` on the arrays of `cond` where their components are the same ones."""
    if (
        isinstance(cond, GaussianMixture)
        and isinstance(uncond, GaussianMixture)
        and np.array_equal(cond.means, uncond.means)
        and np.array_equal(cond.covariances, uncond.covariances)
    ):
        return cond.reweighted(uncond.weights)
    return uncond


def _native_evaluate(
    native: Any, alpha: float, sigma: float, score: bool, x: NDArray[Any], out: NDArray[Any], density: Any, threads: int
) -> None:
    run = _core.diffusion_evaluate_f32 if x.dtype == np.float32 else _core.diffusion_evaluate_f64
    run(native, alpha, sigma, score, x, out, density, threads)


def _points(x: Any, dimension: int) -> NDArray[Any]:
    """Return x as C-contiguous float32, where it has no more digits than that, or float64."""
    refuse_gradients("x", x)
    array, storage = as_stored("x", x)
    array = from_storage(array, storage)
    if array.ndim != 2 or array.shape[1] != dimension:
        raise ArgumentError(f"x: expected shape (n, {dimension}), got {array.shape}")
    if not np.isfinite(array).all():
        raise ArgumentError("x: expected finite numbers")
    return array


def _result(x: Any, out: NDArray[Any]) -> Any:
    """Return a result for points `x` as what they are."""
    storage = storage_of(x)
    return given_back(x, to_storage(out, storage) if storage in ("float16", "bfloat16") else out)


def check_level(alpha: float, sigma: float) -> tuple[float, float]:
    """Return a level as floats; refuse what is none."""
    level = []
    for name, value in (("alpha", alpha), ("sigma", sigma)):
        number = as_number(name, value, least=0)
        level.append(float(number))
        if number != 0 and not 1e-100 <= number <= 1e100:  # the squares must not leave float64
            raise ArgumentError(f"{name}: expected 0 or a number from 1e-100 to 1e100, got {shown(value)}")
    if alpha == 0 and sigma == 0:
        raise ArgumentError("alpha, sigma: expected one of them above 0")
    return level[0], level[1]
