"""Quantities of many rows from few: Chebyshev interpolation in the logarithm of the variance.

Everything that depends on an input only through its variance is an analytic function of log q, so for
a data set of N inputs it is computed at a few dozen variances and read off for the rest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_SIZES = (24, 48, 96)
_TOLERANCE = 3e-15

Work = Callable[[np.ndarray], np.ndarray]


def over_variance(work: Work, q: np.ndarray) -> np.ndarray:
    """``work(q)``, (rows, columns), for distinct variances; by interpolation where that is accurate.

    The error is judged column by column against the largest entry, so `work` returns well scaled columns.
    """
    positive = q > 0
    used = q[positive]
    for size in _SIZES:
        if used.size < 3 * size:
            break
        low, high = np.log(used.min()), np.log(used.max())
        angle = (np.arange(size) + 0.5) * np.pi / size
        middle, half = 0.5 * (low + high), max(0.5 * (high - low), 1e-300)
        at = work(np.exp(middle + half * np.cos(angle)))
        coef = 2.0 / size * np.cos(np.outer(np.arange(size), angle)) @ at
        coef[0] *= 0.5
        scale = np.max(np.abs(at), axis=0) + 1e-300
        if np.all(np.max(np.abs(coef[-max(3, size // 8) :]), axis=0) <= _TOLERANCE * scale):
            made = np.empty((q.size, at.shape[1]))
            x = np.clip((np.log(used) - middle) / half, -1.0, 1.0)
            made[positive] = np.polynomial.chebyshev.chebvander(x, size - 1) @ coef
            if not np.all(positive):
                made[~positive] = work(q[~positive])
            return made
    return work(q)
