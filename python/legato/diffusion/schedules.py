"""Schedules: the levels (alpha, sigma) of x_t = alpha x0 + sigma eps, on the host in float64, found by index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike

from legato._arrays import Float64, as_float64
from legato._curves import curves_svg
from legato._scalars import as_choice, as_count, as_number, shown
from legato.errors import ArgumentError

__all__ = ["Schedule", "check_range"]

Spacing: TypeAlias = Literal["leading", "trailing", "linspace"]
SPACINGS: tuple[Spacing, ...] = get_args(Spacing)
_MOST_STEPS = 10**7  # a schedule is made whole, in float64


@dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    """Noise levels of a sampling run, most noise first.

    Parameters
    ----------
    alpha, sigma : array_like, shape (N + 1,)
        x_k = alpha_k x0 + sigma_k eps. Not negative; sigma / alpha falls strictly; sigma may be 0 at the end alone.
    drift, diffusion : array_like, shape (N,), optional
        f dt and g^2 dt of the Euler samplers' steps. Without them: log(alpha_{k+1} / alpha_k), and the variance that
        the forward process adds, sigma_k^2 - (alpha_k sigma_{k+1} / alpha_{k+1})^2.
    time : array_like, shape (N,), optional
        What a network is told instead of the level (such as diffusers' timesteps).
    trained : array_like, shape (T,), optional
        alpha^2 of every trained timestep (alphas_cumprod), of which `time` names some: where "tcd" finds the levels
        between those of the run.

    Raises
    ------
    ArgumentError
        Lengths differ, or the levels are not as said.

    See Also
    --------
    step_coefficients : Table (A, B, C) of x' = A x + B out + C z, one row a step.
    sample : Run a sampler through a schedule.

    Examples
    --------
    >>> from legato import diffusion as D
    >>> s = D.Schedule([0.1, 0.8, 1.0], [0.995, 0.6, 0.0])
    >>> len(s)
    2
    >>> drift, diffusion = s.euler_increments()
    >>> drift.shape, float(s.zero_terminal_snr().alpha[0])
    ((2,), 0.0)
    """

    alpha: Float64
    sigma: Float64
    drift: Float64 | None = None
    diffusion: Float64 | None = None
    time: Float64 | None = None
    trained: Float64 | None = None

    def __init__(
        self,
        alpha: ArrayLike,
        sigma: ArrayLike,
        *,
        drift: ArrayLike | None = None,
        diffusion: ArrayLike | None = None,
        time: ArrayLike | None = None,
        trained: ArrayLike | None = None,
    ) -> None:
        a, s = as_float64("alpha", alpha, (None,)).copy(), as_float64("sigma", sigma, (None,)).copy()
        if len(a) < 2 or len(a) != len(s):
            raise ArgumentError(f"sigma: expected as many levels as alpha, at least 2; got {len(a)} and {len(s)}")
        for name, level in (("alpha", a), ("sigma", s)):
            if not np.isfinite(level).all() or (level < 0).any():
                raise ArgumentError(f"{name}: expected finite numbers that are not negative")
        if (s[:-1] == 0).any():
            raise ArgumentError("sigma: expected positive levels, but for the last")
        # sigma / alpha falls strictly, said without dividing by an alpha of 0
        if not (s[:-1] * a[1:] > s[1:] * a[:-1]).all():
            index = int(np.flatnonzero(~(s[:-1] * a[1:] > s[1:] * a[:-1]))[0])
            raise ArgumentError(f"sigma: expected sigma / alpha to fall strictly; it does not after level {index}")
        object.__setattr__(self, "alpha", a)
        object.__setattr__(self, "sigma", s)
        for name, value in (("drift", drift), ("diffusion", diffusion), ("time", time)):
            array = None if value is None else as_float64(name, value, (len(a) - 1,)).copy()
            if array is not None and not np.isfinite(array[int(a[0] == 0 and name != "time") :]).all():
                raise ArgumentError(f"{name}: expected finite numbers, but for a step from alpha 0")
            if array is not None and name == "diffusion" and (array < 0).any():
                raise ArgumentError("diffusion: expected numbers that are not negative")
            object.__setattr__(self, name, array)
        squares = None if trained is None else as_float64("trained", trained, (None,)).copy()
        if squares is not None:
            if not ((squares >= 0) & (squares <= 1)).all():
                raise ArgumentError("trained: expected numbers from 0 to 1")
            times = np.array([np.nan]) if self.time is None else self.time
            if not ((times == np.floor(times)) & (times >= 0) & (times < len(squares))).all():
                raise ArgumentError("time: expected whole numbers that name entries of trained")
        object.__setattr__(self, "trained", squares)
        for array in (a, s, self.drift, self.diffusion, self.time, squares):
            if array is not None:
                array.flags.writeable = False

    def __repr__(self) -> str:
        """Return one line: the steps, and the first and last level."""
        first, last = (f"({self.alpha[k]:.3g}, {self.sigma[k]:.3g})" for k in (0, -1))
        return f"<Schedule of {len(self)} steps, (alpha, sigma) from {first} to {last}>"

    def _repr_svg_(self) -> str:
        """Draw what notebooks show: the levels, most noise first."""
        return curves_svg(repr(self)[1:-1], {"level": {"alpha": self.alpha, "sigma": self.sigma}})

    def __len__(self) -> int:
        """Return the number of steps, one fewer than levels."""
        return len(self.alpha) - 1

    @property
    def forward_variance(self) -> Float64:
        """Variance that the forward process adds from level k + 1 to level k, shape (N,)."""
        a, s = self.alpha, self.sigma
        ratio = a[:-1] / np.where(a[1:] > 0, a[1:], 1.0)
        return np.asarray(s[:-1] ** 2 - (ratio * s[1:]) ** 2)

    def euler_increments(self) -> tuple[Float64, Float64]:
        """F dt and g^2 dt of each step, shape (N,): given, or from the levels; f dt is infinite from alpha 0 on.

        See Also
        --------
        step_coefficients : Table (A, B, C) of x' = A x + B out + C z, one row a step.
        """
        if self.drift is not None and self.diffusion is not None:
            return self.drift, self.diffusion
        with np.errstate(divide="ignore"):
            return np.log(self.alpha[1:] / self.alpha[:-1]), self.forward_variance

    def zero_terminal_snr(self) -> Schedule:
        """Return the schedule with no signal left at its start (Lin et al. 2023, algorithm 1); for VP schedules.

        See Also
        --------
        Schedule : Noise levels of a sampling run, most noise first.

        Notes
        -----
        It acts on the levels that are here. On some levels of a trained schedule that is not what the paper does to all
        of them, which is what networks are trained on: rescale alphas_cumprod before `from_alphas_cumprod` chooses.
        """
        a = (self.alpha - self.alpha[0]) * (self.alpha[-1] / (self.alpha[-1] - self.alpha[0]))
        return Schedule(a, np.sqrt(np.maximum(1.0 - a * a, 0.0)), time=self.time)

    @classmethod
    def vp_linear(cls, steps: int, *, beta_min: float = 0.1, beta_max: float = 20.0, t_end: float = 0.0) -> Schedule:
        """Variance preserving with a rate linear in time (Song et al. 2021): t from 1 to `t_end` in equal steps.

        Parameters
        ----------
        steps : int
        beta_min, beta_max : float
            Rates at t = 0 and t = 1; not negative, the second above 0.
        t_end : float
            From 0 up to below 1.

        Raises
        ------
        ArgumentError
        """
        _check_number("beta_min", beta_min, 0.0)
        _check_number("beta_max", beta_max, 0.0, above=True)
        _check_number("t_end", t_end, 0.0, 1.0)
        t = _grid(steps, 1.0, t_end)
        integral = beta_min * t + 0.5 * (beta_max - beta_min) * t * t
        rate = (beta_min + (beta_max - beta_min) * t[:-1]) * (t[:-1] - t[1:])  # at the left end, as Euler does
        return cls(np.exp(-0.5 * integral), np.sqrt(-np.expm1(-integral)), drift=0.5 * rate, diffusion=rate)

    @classmethod
    def vp_scaled_linear(
        cls,
        steps: int,
        *,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        train_steps: int = 1000,
        spacing: Spacing = "leading",
    ) -> Schedule:
        """Discrete betas whose square roots are linear (latent diffusion), `steps` of `train_steps` levels used.

        Parameters
        ----------
        steps : int
        beta_start, beta_end : float
            Between 0 and 1.
        train_steps : int
        spacing : {"leading", "trailing", "linspace"}
            As in `from_alphas_cumprod`.

        Raises
        ------
        ArgumentError
        """
        for name, beta in (("beta_start", beta_start), ("beta_end", beta_end)):
            _check_number(name, beta, 0.0, 1.0, above=True)
        _grid(train_steps, 1.0, 0.0, "train_steps")
        betas = np.linspace(beta_start**0.5, beta_end**0.5, train_steps) ** 2
        return cls.from_alphas_cumprod(np.cumprod(1.0 - betas), steps, spacing=spacing)

    @classmethod
    def vp_cosine(cls, steps: int, *, offset: float = 0.008, t_start: float = 0.995) -> Schedule:
        """Cosine schedule (Nichol and Dhariwal 2021), from `t_start` (where alpha is not yet 0) to 0.

        Parameters
        ----------
        steps : int
        offset : float
            Their s, not negative.
        t_start : float
            Above 0, up to 1.

        Raises
        ------
        ArgumentError
        """
        _check_number("offset", offset, 0.0)
        _check_number("t_start", t_start, 0.0, 1.0, above=True)
        t = _grid(steps, t_start, 0.0)
        u = (t + offset) / (1 + offset)
        a = np.cos(0.5 * np.pi * u) / np.cos(0.5 * np.pi * offset / (1 + offset))
        a[-1] = 1.0
        return cls(a, np.sqrt(np.maximum(1.0 - a * a, 0.0)))

    @classmethod
    def ve(cls, steps: int, sigma_max: float = 1.0, *, sigma_min: float | None = None) -> Schedule:
        """Variance exploding. Without `sigma_min` the variance falls linearly to 0 (tutorial, eq. 10-12).

        With it sigma falls geometrically from `sigma_max` to `sigma_min` over `steps` levels, then to 0.

        Parameters
        ----------
        steps : int
        sigma_max, sigma_min : float
            0 < sigma_min < sigma_max.

        Raises
        ------
        ArgumentError
        """
        _check_number("sigma_max", sigma_max, 0.0, above=True)
        if sigma_min is None:
            sigma = sigma_max * np.sqrt(_grid(steps, 1.0, 0.0))
        else:
            _grid(steps, 1.0, 0.0)
            _check_number("sigma_min", sigma_min, 0.0, above=True)
            if sigma_min >= sigma_max:
                raise ArgumentError(f"sigma_min: expected between 0 and sigma_max, got {sigma_min}")
            sigma = np.append(np.geomspace(sigma_max, sigma_min, steps) if steps > 1 else [sigma_max], 0.0)
        return cls(np.ones(steps + 1), sigma)

    @classmethod
    def karras(cls, steps: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Schedule:
        """Levels of Karras et al. 2022, eq. 5: sigma^(1/rho) falls linearly over `steps` levels, then to 0.

        Parameters
        ----------
        steps : int
        sigma_min, sigma_max : float
            0 < sigma_min < sigma_max.
        rho : float
            Above 0.

        Raises
        ------
        ArgumentError
        """
        _grid(steps, 1.0, 0.0)
        _check_number("sigma_max", sigma_max, 0.0, above=True)
        _check_number("rho", rho, 0.0, above=True)
        _check_number("sigma_min", sigma_min, 0.0, above=True)
        if sigma_min >= sigma_max:
            raise ArgumentError(f"sigma_min: expected between 0 and sigma_max, got {sigma_min}")
        i = np.arange(steps) / max(steps - 1, 1)
        low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
        return cls(np.ones(steps + 1), np.append((high + i * (low - high)) ** rho, 0.0))

    @classmethod
    def flow(cls, steps: int, *, shift: float = 1.0, t_start: float = 1.0) -> Schedule:
        """Flow matching, alpha = 1 - t, sigma = t, with the time shift t -> shift t / (1 + (shift - 1) t).

        Parameters
        ----------
        steps : int
        shift : float
            Above 0.
        t_start : float
            Above 0, up to 1.

        Raises
        ------
        ArgumentError
        """
        _check_number("shift", shift, 0.0, above=True)
        _check_number("t_start", t_start, 0.0, 1.0, above=True)
        t = _grid(steps, t_start, 0.0)
        t = shift * t / (1 + (shift - 1) * t)
        with np.errstate(divide="ignore"):
            drift = (t[:-1] - t[1:]) / (1.0 - t[:-1])  # at the left end: Euler of the flow's own ODE
        return cls(1.0 - t, t, drift=drift, diffusion=2.0 * t[:-1] * drift)

    @classmethod
    def from_alphas_cumprod(
        cls, alphas_cumprod: ArrayLike, steps: int | None = None, *, spacing: Spacing = "leading"
    ) -> Schedule:
        """Levels of a trained discrete schedule: alpha^2, least noise first, `steps` of them and then alpha = 1.

        Parameters
        ----------
        alphas_cumprod : array_like, shape (T,)
            From 0 to 1, falling strictly.
        steps : int, optional
            N, 1 to T; all of them by default.
        spacing : {"leading", "trailing", "linspace"}
            As in diffusers: 0, T/N, ...; T - 1, T - 1 - T/N, ...; 0 to T - 1.

        Raises
        ------
        ArgumentError
        """
        squares = as_float64("alphas_cumprod", alphas_cumprod, (None,))
        count = len(squares) if steps is None else steps
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 1 <= count <= len(squares):
            raise ArgumentError(f"steps: expected an integer from 1 to {len(squares)}, got {shown(count)}")
        if not ((squares >= 0) & (squares <= 1)).all():
            raise ArgumentError("alphas_cumprod: expected numbers from 0 to 1")
        if as_choice("spacing", spacing, SPACINGS) == "leading":
            index = (np.arange(count) * (len(squares) // count))[::-1]
        elif spacing == "trailing":
            index = np.round(np.arange(len(squares), 0, -len(squares) / count)).astype(int)[:count] - 1
        else:
            index = np.linspace(0, len(squares) - 1, count).round().astype(int)[::-1]
        levels = np.append(squares[index], 1.0)
        return cls(np.sqrt(levels), np.sqrt(1.0 - levels), time=index, trained=squares)

    @classmethod
    def from_diffusers(cls, scheduler: Any) -> Schedule:
        """Levels of a diffusers scheduler on which ``set_timesteps`` has been called; `time` holds its timesteps.

        Parameters
        ----------
        scheduler
            Its sigmas are read by its own rule: flow matching (also ``use_flow_sigmas``) as (1 - sigma, sigma), the
            k-diffusion and EDM families with alpha 1, the others as variance preserving.

        Raises
        ------
        ArgumentError
            Timesteps are not set, or the levels do not fall.
        """
        timesteps = getattr(scheduler, "timesteps", None)
        if timesteps is None or len(timesteps) == 0:
            raise ArgumentError("scheduler: expected a diffusers scheduler after set_timesteps()")
        time = np.asarray(timesteps, np.float64)
        sigmas = getattr(scheduler, "sigmas", None)
        if sigmas is not None:
            sigma = np.asarray(sigmas, np.float64)
            if len(sigma) != len(time) + 1:
                raise ArgumentError("scheduler: expected one sigma more than timesteps")
            rule = getattr(scheduler, "_sigma_to_alpha_sigma_t", None)
            if rule is not None:  # torch in, torch out
                import torch

                pairs = [[float(one) for one in rule(torch.tensor(level, dtype=torch.float64))] for level in sigma]
                return cls(*np.array(pairs).T, time=time)
            if "FlowMatch" in type(scheduler).__name__:
                return cls(1.0 - sigma, sigma, time=time)
            if hasattr(scheduler, "is_scale_input_called"):  # the k-diffusion family works with alpha = 1
                return cls(np.ones(len(sigma)), sigma, time=time)
            alpha = 1 / np.sqrt(1 + sigma * sigma)
            return cls(alpha, sigma * alpha, time=time)
        squares = np.asarray(scheduler.alphas_cumprod, np.float64)
        last = float(getattr(scheduler, "final_alpha_cumprod", getattr(scheduler, "one", 1.0)))
        levels = np.append(squares[time.astype(int)], last)
        return cls(np.sqrt(levels), np.sqrt(1.0 - levels), time=time, trained=squares)


def check_range(schedule: Schedule, start: int, stop: int | None) -> int:
    """Return the step before which a run from step `start` stops."""
    if not isinstance(schedule, Schedule):
        raise ArgumentError(f"schedule: expected a Schedule, got {type(schedule).__name__}")
    steps = len(schedule)
    end = steps if stop is None else stop
    if not all(isinstance(k, int | np.integer) for k in (start, end)) or not 0 <= start <= end <= steps:
        raise ArgumentError(
            f"start, stop: expected integers, 0 <= start <= stop <= {steps}, got {shown(start)}, {shown(end)}"
        )
    return int(end)


def _grid(steps: int, start: float, end: float, name: str = "steps") -> Float64:
    return np.linspace(start, end, as_count(name, steps, most=_MOST_STEPS) + 1)


def _check_number(name: str, value: float, low: float, high: float = np.inf, *, above: bool = False) -> None:
    """Refuse what is not a finite number from `low` (or above it) to `high`."""
    as_number(
        name,
        value,
        least=None if above else low,
        above=low if above else None,
        most=None if high == np.inf else high,
    )
