"""Quantities of many rows from few: Chebyshev interpolation in the logarithm of the variance.

Everything that depends on an input only through its variance is an analytic function of log q, so for
a data set of N inputs it is computed at a few dozen variances and read off for the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_SIZES = (16, 32, 64, 128)
_TOLERANCE = 3e-15

Work = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Curve:
    """Columns of numbers as polynomials of log q between two of its values: coefficients (terms, columns)."""

    middle: float
    half: float
    coef: np.ndarray

    def __call__(self, q: np.ndarray, columns: slice = slice(None)) -> np.ndarray:
        """(rows, columns) at positive variances."""
        return self.basis(q).T @ self.coef[:, columns]

    def basis(self, q: np.ndarray) -> np.ndarray:
        """(terms, rows) values of the polynomials at positive variances."""
        x = np.clip((np.log(q) - self.middle) / self.half, -1.0, 1.0)
        return _polynomials(x, len(self.coef))


def _polynomials(x: np.ndarray, count: int) -> np.ndarray:
    """Chebyshev's (count, x.size), without the temporaries of NumPy's ``chebvander``: a third of its time."""
    made = np.ones((count, x.size))
    made[1:2], twice = x, 2.0 * x
    for k in range(2, count):
        np.multiply(twice, made[k - 1], out=made[k])
        made[k] -= made[k - 2]
    return made


def curve(work: Work, low: float, high: float, most: int = _SIZES[-1]) -> Curve | None:
    """``work`` between two variances, None where ``most`` terms do not make it accurate.

    The error of a column is judged against its largest entry, or 1 if that is smaller: `work` returns
    well scaled columns.
    """
    known: dict[int, np.ndarray] = {}  # by place on the finest grid
    low, high = np.log(low), np.log(high)
    middle, half = 0.5 * (low + high), max(0.5 * (high - low), 1e-300)
    for size in _SIZES:
        if size > most:
            break
        places = list(range(0, _SIZES[-1] + 1, _SIZES[-1] // size))
        new = [k for k in places if k not in known]
        nodes = np.cos(np.pi / _SIZES[-1] * np.array(new))
        known.update(zip(new, work(np.exp(middle + half * nodes)), strict=True))
        at = np.stack([known[k] for k in places])
        if not np.all(np.isfinite(at)):
            break
        coef = _chebyshev(at)
        scale = np.maximum(np.max(np.abs(at), axis=0), 1.0)
        if np.all(np.max(np.abs(coef[-max(3, size // 8) :]), axis=0) <= _TOLERANCE * scale):
            return Curve(middle, half, coef)
    return None


def over_variance(work: Work, q: np.ndarray) -> np.ndarray:
    """``work(q)``, (rows, columns), for distinct variances; by interpolation where that is accurate."""
    positive = q > 0
    used = q[positive]
    if used.size < 3 * _SIZES[0]:
        return work(q)
    found = curve(work, used.min(), used.max(), used.size // 3)
    if found is None:
        return work(q)
    made = np.empty((q.size, found.coef.shape[1]))
    made[positive] = found(used)
    if not np.all(positive):
        made[~positive] = work(q[~positive])
    return made


def _chebyshev(at: np.ndarray) -> np.ndarray:
    """Chebyshev coefficients from the values at cos(pi k/n), k = 0..n."""
    n = at.shape[0] - 1
    weight = np.full(n + 1, 2.0 / n)
    weight[[0, -1]] = 1.0 / n
    angle = np.pi / n * (np.outer(np.arange(n + 1), np.arange(n + 1)) % (2 * n))
    coef = (np.cos(angle) * weight) @ at
    coef[[0, -1]] *= 0.5
    return coef
