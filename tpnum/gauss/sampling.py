"""Expectations by sampling: scrambled Sobol points, and Monte Carlo with Hermite control variates."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

SCRAMBLES = 8
_STUDENT = 2.36  # 95 % of Student's distribution with 7 degrees of freedom
_SMALLEST, _LARGEST = 10, 15  # log2 of the number of points
_BLOCK = 1 << 19

Batched = Callable[[np.ndarray], np.ndarray]
Sampled = tuple[np.ndarray, np.ndarray, np.ndarray, int]


@lru_cache(maxsize=32)
def normal_points(d: int, log2: int, scramble: int) -> np.ndarray:
    """2^log2 scrambled Sobol points as standard normals, (d, points), shared and read-only."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    points = qmc.Sobol(d, scramble=True, rng=np.random.default_rng(scramble)).random_base2(log2)
    made = np.ascontiguousarray(ndtri(np.clip(points, 1e-16, 1.0 - 1e-16)).T)
    made.setflags(write=False)
    return made


def _apply(f_at: Batched, mean: np.ndarray, factor: np.ndarray, z: np.ndarray) -> np.ndarray:
    return f_at(mean[:, :, None] + factor @ z)


def sobol(f_at: Batched, mean: np.ndarray, factor: np.ndarray, rtol: float) -> Sampled:
    """(value, error, E|f|, evaluations) by randomised quasi-Monte Carlo, doubling until ``rtol`` of E|f|."""
    count, d = mean.shape[0], factor.shape[2]
    todo = np.arange(count)
    value = error = size = np.zeros((count, 0))
    cost = 0
    for log2 in range(_SMALLEST, _LARGEST + 1):
        step = max(1, _BLOCK >> log2)
        for begin in range(0, todo.size, step):
            part = todo[begin : begin + step]
            each, scale = [], []
            for scramble in range(SCRAMBLES):
                made = _apply(f_at, mean[part], factor[part], normal_points(d, log2, scramble))
                each.append(made.mean(axis=2))
                scale.append(np.abs(made).mean(axis=2))
                cost += made.shape[0] * made.shape[2]
            if not value.shape[1]:
                value, error, size = (np.zeros((count, made.shape[1])) for _ in range(3))
            stack = np.stack(each)
            value[part], size[part] = stack.mean(axis=0), np.mean(scale, axis=0)
            error[part] = _STUDENT * stack.std(axis=0, ddof=1) / np.sqrt(SCRAMBLES) + 1e-15 * size[part]
        todo = todo[np.any(error[todo] > rtol * size[todo], axis=1)]
        if not todo.size:
            break
    return value, error, size, cost


def control_variates(f_at: Batched, mean: np.ndarray, factor: np.ndarray, rtol: float) -> Sampled:
    """Monte Carlo with Hermite products of degree 1 and 2 as controls.

    Each half of the sample takes its coefficients from the other half, so the estimate is unbiased.
    """
    count, d = mean.shape[0], factor.shape[2]
    rng = np.random.default_rng(0)
    half = 1 << 14
    z = rng.standard_normal((2, d, half))
    i, j = np.triu_indices(d)
    products = z[:, i] * z[:, j]
    products[:, i == j] = (products[:, i == j] - 1.0) / np.sqrt(2.0)
    controls = np.concatenate([np.ones((2, 1, half)), z, products], axis=1)
    value = error = size = np.zeros((count, 0))
    cost = 0
    for row in range(count):
        part = slice(row, row + 1)
        made = [_apply(f_at, mean[part], factor[part], z[k])[0] for k in range(2)]
        if not value.shape[1]:
            value, error, size = (np.zeros((count, made[0].shape[0])) for _ in range(3))
        means, spread = [], []
        for k in range(2):
            fitted = np.linalg.lstsq(controls[1 - k].T, made[1 - k].T, rcond=None)[0]
            left = made[k] - fitted[1:].T @ controls[k, 1:]
            means.append(left.mean(axis=1))
            spread.append(left.var(axis=1, ddof=1) / half)
        value[row] = 0.5 * (means[0] + means[1])
        error[row] = 1.96 * 0.5 * np.sqrt(spread[0] + spread[1])
        size[row] = 0.5 * (np.abs(made[0]).mean(axis=1) + np.abs(made[1]).mean(axis=1))
        cost += 2 * half
    return value, error, size, cost
