"""Denoisers: eta(r, tau), what they make of a vector of a program, and of numbers.

r is the signal plus N(0, tau^2) per coordinate.  A denoiser writes eta(r, tau) and the average of its slope,
which the Onsager term needs, as lines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import finite_array, number, shown
from tpnum.errors import InputError, TpnumError
from tpnum.functions import Function, get
from tpnum.program.calls import is_named

if TYPE_CHECKING:
    from tpnum.program import Program, Scalar, Vector

STEP = 1e-5


class Denoiser:
    """Base of denoisers."""

    at_strength_one = False
    """Whether r has to be the signal itself plus noise, not a multiple of it."""

    def __call__(self, r: Any, tau: Any) -> Any:
        """The value of eta(r, tau)."""
        raise NotImplementedError

    def slope(self, r: Any, tau: Any) -> Any:
        """The value of d eta / dr."""
        raise NotImplementedError

    def breaks(self, tau: float) -> tuple[float, ...]:
        """Where the slope jumps in r."""
        return ()

    def write(self, p: Program, r: Vector, tau: Scalar) -> tuple[Vector, Scalar]:
        """The lines of eta(r, tau) and of the average of its slope."""
        value = p.apply(self, r, tau, derivative=[self.slope, None])
        return value, p.moment(self.slope, r, tau)


@dataclass(frozen=True)
class Soft(Denoiser):
    """sign(r) max(|r| - alpha tau, 0): the denoiser of l1; ``positive``: max(r - alpha tau, 0)."""

    alpha: float
    positive: bool = False

    def __call__(self, r: Any, tau: Any) -> Any:
        up = np.maximum(r - self.alpha * tau, 0.0)
        return up if self.positive else up - np.maximum(-r - self.alpha * tau, 0.0)

    def slope(self, r: Any, tau: Any) -> Any:
        up = np.where(r > self.alpha * tau, 1.0, 0.0)
        return up if self.positive else up + np.where(-r > self.alpha * tau, 1.0, 0.0)

    def breaks(self, tau: float) -> tuple[float, ...]:
        return (self.alpha * tau,) if self.positive else (-self.alpha * tau, self.alpha * tau)

    def write(self, p: Program, r: Vector, tau: Scalar) -> tuple[Vector, Scalar]:
        threshold = (self.alpha * tau) * p.ones(r.dim)
        up = r - threshold
        value, slope = p.apply("relu", up), p.mean(p.apply("step", up))
        if self.positive:
            return value, slope
        down = -r - threshold
        return value - p.apply("relu", down), slope + p.mean(p.apply("step", down))


@dataclass(frozen=True)
class Bayes(Denoiser):
    """The posterior mean of a signal of law sum masses N(points, variances): the best denoiser."""

    points: tuple[float, ...]
    masses: tuple[float, ...]
    variances: tuple[float, ...]
    at_strength_one = True

    def _posterior(self, r: Any, tau: Any) -> tuple[Any, Any]:
        a, w, v = np.array(self.points), np.array(self.masses), np.array(self.variances)
        r = np.asarray(r, dtype=np.float64)[..., None]
        square = np.asarray(tau, dtype=np.float64)[..., None] ** 2 + 1e-300
        total = v + square
        log = np.log(w) - 0.5 * (r - a) ** 2 / total - 0.5 * np.log(total)
        weight = np.exp(log - log.max(axis=-1, keepdims=True))
        weight /= weight.sum(axis=-1, keepdims=True)
        means = a + (r - a) * (v / total)
        mean = np.sum(weight * means, axis=-1)
        second = np.sum(weight * (v * square / total + (means - mean[..., None]) ** 2), axis=-1)
        return mean, second

    def __call__(self, r: Any, tau: Any) -> Any:
        return self._posterior(r, tau)[0]

    def slope(self, r: Any, tau: Any) -> Any:
        return self._posterior(r, tau)[1] / (np.asarray(tau) ** 2 + 1e-300)

    def breaks(self, tau: float) -> tuple[float, ...]:
        return tuple(
            a + s * tau * 2.0**k for a in self.points for k in range(-1, 6) for s in (-1.0, 0.0, 1.0)
        )


@dataclass(frozen=True)
class Elementwise(Denoiser):
    """A function f(r), or f(r, tau), of your own or named."""

    f: Any
    derivative: Callable[..., Any] | None
    takes_tau: bool

    def __call__(self, r: Any, tau: Any) -> Any:
        return self.f(r, tau) if self.takes_tau else self.f(r)

    def slope(self, r: Any, tau: Any) -> Any:
        if self.derivative is not None:
            return self.derivative(r, tau) if self.takes_tau else self.derivative(r)
        step = STEP * (1.0 + np.abs(r))
        return (self(r + step, tau) - self(r - step, tau)) / (2.0 * step)

    def breaks(self, tau: float) -> tuple[float, ...]:
        return tuple(self.f.kinks) if isinstance(self.f, Function) else ()

    def write(self, p: Program, r: Vector, tau: Scalar) -> tuple[Vector, Scalar]:
        if isinstance(self.f, Function) and not self.takes_tau:
            return p.apply(self.f, r), p.moment(self.f.derivative(), r)
        return super().write(p, r, tau)


def soft(alpha: Any, positive: bool = False) -> Denoiser:
    """Soft thresholding at alpha tau, the denoiser of l1 minimisation; for signals >= 0 if ``positive``."""
    return Soft(number(alpha, "alpha", low=0.0), bool(positive))


def bayes(points: Any, masses: Any = None, variances: Any = 0.0) -> Denoiser:
    """The posterior mean for a signal of law sum masses N(points, variances): Bayes-optimal message passing.

    Signs: bayes([-1, 1]); Gaussian: bayes(0, variances=v); sparse Gaussian of share rho: bayes([0, 0],
    [1 - rho, rho], [0, v]).
    """
    return Bayes(*(tuple(map(float, part)) for part in prior_of(points, masses, variances)))


def as_denoiser(given: Any, derivative: Any = None) -> Denoiser:
    """A denoiser, a named function, or a function of r or of (r, tau)."""
    if isinstance(given, Denoiser):
        return given
    if isinstance(given, type) or not (callable(given) or isinstance(given, str)):
        raise InputError(
            f"denoiser is {shown(given)}: a function of r or of (r, tau), a name, or one of "
            "tpnum.messages is needed"
        )
    if derivative is not None and not callable(derivative):
        raise InputError(f"derivative is {shown(derivative)}: it must be a function like the denoiser")
    if is_named(given):
        try:
            f = get(given)
        except TpnumError as problem:
            raise InputError(f"denoiser: {problem}") from None
        if f.arity != 1 or f.n_scalars:
            raise InputError(f"denoiser: {f} is not a function of one vector")
        return Elementwise(f, None, False)
    import inspect

    try:
        count = len([p for p in inspect.signature(given).parameters.values() if p.default is p.empty])
    except (TypeError, ValueError):
        count = 1
    if count not in (1, 2):
        raise InputError(f"denoiser: a function of r or of (r, tau) is needed, not one of {count} arguments")
    return Elementwise(given, derivative, count == 2)


def prior_of(
    values: Any, masses: Any = None, variances: Any = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, probabilities and variances of the parts of a signal's law."""
    from tpnum.spectra.closed import atoms

    points = np.atleast_1d(finite_array(values, "points")).reshape(-1).astype(np.float64)
    spread = np.atleast_1d(finite_array(variances, "variances")).reshape(-1)
    if spread.size not in (1, points.size) or np.any(spread < 0.0):
        raise InputError(f"variances: one number >= 0 for each of {points.size} points is needed")
    atoms(points, masses)  # complains of masses that are none
    weights = np.full(points.size, 1.0 / points.size) if masses is None else np.asarray(masses, np.float64)
    spread = np.broadcast_to(spread, points.shape)
    weights = weights.reshape(-1) / weights.sum()
    kept = weights > 0.0
    return points[kept], weights[kept], spread[kept].astype(np.float64)
