"""Randomised quasi-Monte Carlo for many problems at once: shared points, an error from several scrambles."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from tpnum.gauss.points import normal_points

SETS = 8
"""Scrambled point sets, independent of each other."""

_STUDENT = 2.36  # 95 % of Student's distribution with SETS - 1 degrees of freedom
LEVELS = (9, 11, 13, 15)
"""log2 of the points of a set, tried in turn."""

Run = Callable[[np.ndarray, int], np.ndarray]


@lru_cache(maxsize=16)
def normal_sets(d: int, log2: int) -> np.ndarray:
    """Standard normal points (SETS, d, 2^log2), shared and read-only."""
    made = np.stack([normal_points(d, log2, scramble)[:d] for scramble in range(SETS)])
    made.setflags(write=False)
    return made


@lru_cache(maxsize=16)
def uniform_sets(d: int, log2: int) -> np.ndarray:
    """Uniform points (SETS, d, 2^log2) in the unit cube, shared and read-only."""
    from scipy.special import ndtr

    made = ndtr(normal_sets(d, log2))
    made.setflags(write=False)
    return made


def adaptive(run: Run, count: int, atol: float) -> tuple[np.ndarray, np.ndarray, int]:
    """(value (count, k), error (count, k), points used); ``run(rows, log2)`` gives (rows, SETS, k) means.

    Rows whose error is above ``atol`` anywhere get four times as many points, up to the last level.
    """
    todo = np.arange(count)
    value = error = np.zeros((count, 0))
    cost = 0
    for log2 in LEVELS:
        made = run(todo, log2)
        cost += todo.size * SETS << log2
        if not value.shape[1]:
            value, error = np.zeros((2, count, made.shape[2]))
        value[todo] = made.mean(axis=1)
        error[todo] = _STUDENT * made.std(axis=1, ddof=1) / np.sqrt(SETS) + 1e-15
        todo = todo[np.any(error[todo] > atol, axis=1)]
        if not todo.size:
            break
    return value, error, cost
