"""Whether a lattice in the plane has stepped over something, as a small disc: scattered points tell.

A function that a lattice resolves is known everywhere by its values there (the cardinal series of f times a
root of the density).  The series is compared with f at Sobol points: where they differ, f has a feature
between the points of the lattice.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tpnum.gauss.integrand import Integrand
from tpnum.gauss.points import normal_points

_LOG2 = 13
"""log2 of the points."""
_STRETCH = 2.0
"""Their deviation: discs of radius 0.06 in the middle, 0.12 at three deviations hardly ever lie between."""
_WORK = 25
"""log2 of the products of a series; of larger lattices fewer points are looked at."""
_SCRAMBLE = 977
_BLOCK = 1 << 12  # points at a time
_RIM = 1e-3
_USUAL, _ABOVE = 0.9, 30.0
"""A residual that is so many times this quantile of all of them is none of the series."""
_ROUNDING = 1e-10
_MATTERS = 0.1
"""Of the tolerance, what a region as large as a point's, and as high, may add."""


@lru_cache(maxsize=4)
def _cardinal(step: float, count: int, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (2, m), and weights (m, 2 count + 1) of rows and columns in the cardinal series of a lattice.

    The series of values (n, n) is, at every point, first @ table summed with second.
    """
    order = np.arange(-count, count + 1)
    points = _STRETCH * normal_points(2, min(_LOG2, _WORK - int(2.0 * np.log2(order.size))), _SCRAMBLE)
    points = points[:, np.sum(points * points, axis=0) < radius * radius]
    some = points / step
    sign = np.where(order % 2, -1.0, 1.0)
    sines = np.sin(np.pi * some)[:, :, None] / np.pi
    first, second = sign * sines / (some[:, :, None] - order)
    for made in (points, first, second):
        made.flags.writeable = False
    return points, first, second


def _series(table: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The cardinal series of values (n, n) at the points of the weights."""
    made = np.empty(len(first))
    for begin in range(0, made.size, _BLOCK):
        some = slice(begin, begin + _BLOCK)
        made[some] = np.einsum("pj,pj->p", first[some] @ table, second[some])
    return made


def stepped_over(
    f_at: Integrand, mean: np.ndarray, factor: np.ndarray, step: float, radius: float, allowed: float
) -> tuple[np.ndarray, int]:
    """Points z (n, 2), the most striking first, at which f is not what its values on the lattice say.

    ``mean`` (d,) and ``factor`` (d, 2) are the law; what may add less than ``allowed`` to E f does not count.
    Also the evaluations of f.
    """
    count = int(radius / step)
    axis = step * np.arange(-count, count + 1)
    points, first, second = _cardinal(step, count, radius)
    z = np.stack([a.reshape(-1) for a in np.meshgrid(axis, axis, indexing="ij")])
    every = np.concatenate([z, points], axis=1)
    value = f_at.columns([(m + row @ every)[None] for m, row in zip(mean, factor, strict=True)])[0]
    value = np.where(np.isfinite(value), value, 0.0)
    square = np.sum(every * every, axis=0)
    ratio = _STRETCH**2 * np.exp(-0.5 * (1.0 - _STRETCH**-2) * square[z.shape[1] :])
    found, striking = [], []
    for own in value:
        for power in (0.25, 0.5):
            density = np.exp(-power * square)
            weighed = own * density
            table = weighed[: z.shape[1]].reshape(axis.size, axis.size)
            top = float(np.abs(table).max())
            rim = max(float(np.abs(a).max()) for a in (table[[0, -1]], table[:, [0, -1]]))
            if rim <= _RIM * top:
                break
        residual = np.abs(weighed[z.shape[1] :] - _series(table, first, second))
        usual = float(np.quantile(residual, _USUAL))
        out = residual > _ABOVE * usual + _ROUNDING * top
        out &= residual * ratio > _MATTERS * allowed * points.shape[1] * density[z.shape[1] :]
        found.append(points[:, out])
        striking.append(residual[out])
    order = np.argsort(-np.concatenate(striking), kind="stable")
    return np.concatenate(found, axis=1).T[order], value.shape[1]
