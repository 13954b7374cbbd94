"""Laws in closed form: atoms, the semicircle, Marchenko-Pastur, free Poisson, the arcsine."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from tpnum.arguments import finite_array, number
from tpnum.errors import InputError
from tpnum.spectra.base import Atom, Measure
from tpnum.spectra.sums import of_atoms

MASS = 1e-9
"""By how much masses may fail to add up to 1."""

BESIDE = 1e-8
"""Of the largest point: atoms closer than this are one, to rounding, in a convolution."""

CHUNK = 1 << 20
"""Entries of (points, atoms) at a time."""


class Discrete(Measure):
    """Finitely many atoms."""

    def __init__(self, points: Any, masses: Any) -> None:
        at, mass = np.asarray(points, dtype=np.float64), np.asarray(masses, dtype=np.float64)
        self.points, index = np.unique(at, return_inverse=True)
        self.masses = np.bincount(index.reshape(-1), mass, self.points.size)

    @cached_property
    def quick(self) -> Measure:
        """With atoms that are equal up to `BESIDE` at their mean: the same to the square of that."""
        width = BESIDE * float(np.max(np.abs(self.points)))
        begins = np.flatnonzero(np.diff(self.points, prepend=-np.inf) > width)
        narrow = self.points[np.append(begins[1:], self.points.size) - 1] - self.points[begins] <= 8.0 * width
        if begins.size == self.points.size or not narrow.all():
            return self
        masses = np.add.reduceat(self.masses, begins)
        means = np.add.reduceat(self.points * self.masses, begins) / np.where(masses > 0.0, masses, 1.0)
        return Discrete(np.where(masses > 0.0, means, self.points[begins]), masses)

    @cached_property
    def of_mean_one(self) -> Measure:
        return Discrete(self.points / self.mean, self.masses)

    def _chunks(self, z: np.ndarray, f: Any) -> np.ndarray:
        flat = z.reshape(-1)
        step = max(1, CHUNK // self.points.size)
        parts = [f(flat[i : i + step, None] - self.points) @ self.masses for i in range(0, flat.size, step)]
        return np.concatenate([np.empty(0, np.complex128), *parts]).reshape(z.shape)

    def _transform(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return of_atoms(z, self.points, self.masses)

    def _potential(self, z: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return self._chunks(z, lambda w: np.log(above(w)))

    @property
    def edges(self) -> np.ndarray:
        return np.empty((0, 2))

    @property
    def atoms(self) -> tuple[Atom, ...]:
        return tuple(Atom(float(x), float(m)) for x, m in zip(self.points, self.masses, strict=True) if m > 0)

    @property
    def mean(self) -> float:
        return float(self.points @ self.masses)

    @property
    def second(self) -> float:
        return float(self.points**2 @ self.masses)

    def moments(self, k: Any) -> np.ndarray:
        from tpnum.arguments import whole

        return np.array([float(self.points**j @ self.masses) for j in range(whole(k, "k", 0, 10_000) + 1)])

    def cdf(self, x: Any) -> Any:
        from tpnum.arguments import real_array

        steps = np.concatenate([[0.0], np.cumsum(self.masses)])
        steps[-1] = 1.0
        return steps[np.searchsorted(self.points, real_array(x, "x"), side="right")][()]

    def quantile(self, p: Any) -> Any:
        from tpnum.arguments import real_array

        wanted = real_array(p, "p")
        if not np.all((wanted >= 0.0) & (wanted <= 1.0)):
            raise InputError("p must be in [0, 1]: the probabilities whose quantiles are asked for")
        at = np.searchsorted(np.cumsum(self.masses) - 1e-15, wanted)
        return self.points[np.minimum(at, self.points.size - 1)][()]

    def sample(self, size: Any, seed: Any = 0) -> np.ndarray:
        from tpnum.arguments import whole

        draws = np.random.default_rng(whole(seed, "seed", 0))
        return draws.choice(self.points, whole(size, "size", 1, 1 << 30), p=self.masses / self.masses.sum())


class Semicircle(Measure):
    """Wigner's law of mean m and variance v: density sqrt(4 v - (x - m)^2) / (2 pi v)."""

    def __init__(self, variance: float, mean: float) -> None:
        self._variance, self._mean = variance, mean

    def _transform(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w = z - self._mean
        root = _root(z, *self.edges[0])
        g = 2.0 / (w + root)
        with np.errstate(divide="ignore", invalid="ignore"):
            return g, -g / root

    def _potential(self, z: np.ndarray) -> np.ndarray:
        g = self._transform(z)[0]
        return 0.5 * self._variance * g * g + np.log(above(1.0 / g))

    def _density(self, x: np.ndarray) -> np.ndarray:
        low, high = self.edges[0]
        return np.sqrt(np.maximum((high - x) * (x - low), 0.0)) / (2.0 * np.pi * self._variance)

    @property
    def edges(self) -> np.ndarray:
        r = 2.0 * np.sqrt(self._variance)
        return np.array([[self._mean - r, self._mean + r]])

    @property
    def mean(self) -> float:
        return self._mean

    @property
    def second(self) -> float:
        return self._variance + self._mean**2


class FreePoisson(Measure):
    """The free Poisson law of a rate and a jump: R(g) = rate jump / (1 - jump g).

    Its edges are jump (1 -+ sqrt rate)^2, its atom at 0 has the mass 1 - rate if the rate is below 1.
    """

    def __init__(self, rate: float, jump: float) -> None:
        self.rate, self.jump = rate, jump

    @property
    def of_mean_one(self) -> Measure:
        return _of_mean_one(self.rate)

    def _transform(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w, rate = z / self.jump, self.rate
        low, high = (1.0 - np.sqrt(rate)) ** 2, (1.0 + np.sqrt(rate)) ** 2
        root = np.sqrt(w - low) * np.sqrt(w - high)
        # w g^2 - (w + 1 - rate) g + 1 = 0, without cancellation
        with np.errstate(divide="ignore", invalid="ignore"):
            g = 2.0 / (w + 1.0 - rate + root)
            slope = g * (g - 1.0) / root
        return g / self.jump, slope / self.jump**2

    def _potential(self, z: np.ndarray) -> np.ndarray:
        g = self._transform(z)[0] * self.jump
        with np.errstate(divide="ignore", invalid="ignore"):
            rest = self.rate * (g / (1.0 - g) + np.log(above(1.0 - g)))
            return rest + np.log(above(1.0 / g)) + np.log(self.jump)

    def _density(self, x: np.ndarray) -> np.ndarray:
        (low, high), w = self.edges[0], np.asarray(x)
        with np.errstate(divide="ignore", invalid="ignore"):
            made = np.sqrt(np.maximum((high - w) * (w - low), 0.0)) / (2.0 * np.pi * self.jump * w)
        return np.where(w == 0.0, np.inf if self.rate == 1.0 else 0.0, made)

    @property
    def edges(self) -> np.ndarray:
        root = np.sqrt(self.rate)
        return np.array([[self.jump * (1.0 - root) ** 2, self.jump * (1.0 + root) ** 2]])

    @property
    def atoms(self) -> tuple[Atom, ...]:
        return (Atom(0.0, 1.0 - self.rate),) if self.rate < 1.0 else ()

    @property
    def mean(self) -> float:
        return self.rate * self.jump

    @property
    def second(self) -> float:
        return self.rate * (1.0 + self.rate) * self.jump**2


@lru_cache(maxsize=64)
def _of_mean_one(rate: float) -> FreePoisson:
    """One object per rate, so that equal factors are one."""
    return FreePoisson(rate, 1.0 / rate)


class Arcsine(Measure):
    """The arcsine law on [m - r, m + r]: density 1 / (pi sqrt(r^2 - (x - m)^2))."""

    def __init__(self, radius: float, mean: float) -> None:
        self.radius, self._mean = radius, mean

    def _transform(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w = z - self._mean
        with np.errstate(divide="ignore", invalid="ignore"):
            g = 1.0 / _root(z, *self.edges[0])
        return g, -w * g**3

    def _potential(self, z: np.ndarray) -> np.ndarray:
        w = z - self._mean
        return np.log(0.5 * (w + _root(z, *self.edges[0])))

    def _density(self, x: np.ndarray) -> np.ndarray:
        low, high = self.edges[0]
        with np.errstate(divide="ignore"):
            return 1.0 / (np.pi * np.sqrt(np.maximum((high - x) * (x - low), 0.0)))

    @property
    def edges(self) -> np.ndarray:
        return np.array([[self._mean - self.radius, self._mean + self.radius]])

    @property
    def mean(self) -> float:
        return self._mean

    @property
    def second(self) -> float:
        return 0.5 * self.radius**2 + self._mean**2


def _root(z: np.ndarray, low: float, high: float) -> np.ndarray:
    """The root of (z - low)(z - high) that goes as z at infinity, Im z >= 0; exact near an end 0."""
    return np.sqrt(z - low) * np.sqrt(z - high)


def above(w: np.ndarray) -> np.ndarray:
    """Numbers of the closed upper half-plane whose imaginary parts rounding may have made negative."""
    return w.real + 1j * np.abs(w.imag)


# --- constructors


def semicircle(variance: Any = 1.0, mean: Any = 0.0) -> Measure:
    """Wigner's semicircle law, edges mean -+ 2 sqrt(variance)."""
    v = number(variance, "variance", low=0.0)
    m = number(mean, "mean")
    return Semicircle(v, m) if v else Discrete([m], [1.0])


def free_poisson(rate: Any, jump: Any = 1.0) -> Measure:
    """The free Poisson law: all free cumulants are rate jump^k.

    The eigenvalues of A^T A with entries N(0, 1/cols) follow it with rate = rows / cols.
    """
    r, j = number(rate, "rate", low=0.0), number(jump, "jump")
    if not r or not j:
        return Discrete([0.0], [1.0])
    return FreePoisson(r, j) if j > 0 else FreePoisson(r, -j).affine(-1.0)


def marchenko_pastur(ratio: Any, variance: Any = 1.0) -> Measure:
    """The eigenvalues of X X^T / n, X of p x n entries of the variance, ratio = p / n.

    Mean 1 (times the variance), edges (1 -+ sqrt ratio)^2, an atom of mass 1 - 1/ratio at 0 if ratio > 1.
    """
    y, v = number(ratio, "ratio", above=0.0), number(variance, "variance", above=0.0)
    return FreePoisson(1.0 / y, y * v)


def arcsine(radius: Any = 2.0, mean: Any = 0.0) -> Measure:
    """The arcsine law on [mean - radius, mean + radius]."""
    return Arcsine(number(radius, "radius", above=0.0), number(mean, "mean"))


def atoms(points: Any, masses: Any = None) -> Measure:
    """Atoms at ``points``, of equal masses unless these are given; masses add up to 1."""
    at = finite_array(points, "points").reshape(-1)
    if not at.size:
        raise InputError("points: at least one is needed")
    mass = np.full(at.size, 1.0 / at.size) if masses is None else finite_array(masses, "masses").reshape(-1)
    if mass.size != at.size:
        raise InputError(f"masses: {at.size} are needed, one per point, not {mass.size}")
    if np.any(mass < 0.0):
        raise InputError(f"masses must not be negative; one is {mass.min():g}")
    if abs(mass.sum() - 1.0) > MASS:
        raise InputError(f"masses must add up to 1, not {mass.sum():g}")
    return Discrete(at, mass / mass.sum())


def empirical(values: Any, name: str = "values") -> Measure:
    """Equal masses at numbers, as eigenvalues are."""
    at = finite_array(values, name).reshape(-1)
    if not at.size:
        raise InputError(f"{name}: at least one number is needed")
    return Discrete(at, np.full(at.size, 1.0 / at.size))
