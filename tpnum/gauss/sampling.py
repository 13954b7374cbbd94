"""Expectations by scrambled Sobol points.

The factor of the covariance is turned so that the first, best distributed coordinates of the points meet
the directions in which f varies most (`tpnum.gauss.directions`); along the first two of them the points
are spread by `STRETCH` and weighted back, for the tails of f along a single axis would otherwise decide
the error (importance sampling from N(0, s^2): w = s exp(-(s^2 - 1) z^2/2), bounded by s).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from tpnum.gauss.directions import Batched, turned
from tpnum.gauss.points import point_sets, shared

SCRAMBLES = 8
STRETCH = (1.3, 1.15)
_STUDENT = 2.3646  # 95 % of Student's distribution with SCRAMBLES - 1 degrees of freedom
_LEAST, _SMALLEST, _LARGEST = 3, 10, 15  # log2 of the number of points
_PILOT = 8  # the pilot takes at most this part of the first level, on top of it
_BLOCK = 1 << 13  # points that f takes at once: what it makes on the way stays in the caches

Sampled = tuple[np.ndarray, np.ndarray, np.ndarray, int]


def sobol(
    f_at: Batched,
    mean: np.ndarray,
    factor: np.ndarray,
    rtol: float,
    budget: int | None = None,
    seed: int = 0,
) -> Sampled:
    """(value, error, E|f|, evaluations) by randomised quasi-Monte Carlo, doubling until ``rtol`` of E|f|.

    mean (count, d), factor (count, d, rank) with factor factor' = cov, principal axes first; value, error
    and size are (count, components).  The points are the same for all entries.  ``budget`` bounds the
    evaluations of f for an entry, up to an eighth on top for the pilot.
    """
    count = mean.shape[0]
    last = _LARGEST if budget is None else max(_LEAST, (budget // SCRAMBLES).bit_length() - 1)
    first = min(_SMALLEST, last)
    seed *= SCRAMBLES + 1
    factor = np.ascontiguousarray(factor)  # BLAS takes no reversed axes
    factor, cost, spread = turned(f_at, mean, factor, (SCRAMBLES << first) // _PILOT, seed + SCRAMBLES)
    stretch = np.array(STRETCH[: factor.shape[2]] if spread else ())
    if stretch.size:
        factor = factor.copy()
        factor[:, :, : stretch.size] *= stretch
    todo = np.arange(count)
    weight = np.zeros((SCRAMBLES, 1))
    total = np.zeros((count, SCRAMBLES, 0))
    value = error = size = scale = total
    for log2 in range(first, last + 1):
        n = 1 << (first if log2 == first else log2 - 1)  # new points of a set, after the old ones
        for sets, z, w in _groups(factor.shape[2], log2, n, seed, stretch):
            weight[sets] += w.sum(axis=1, keepdims=True)
            step = max(1, _BLOCK // w.size)
            for begin in range(0, todo.size, step):
                part = todo[begin : begin + step]
                for cut in range(0, n, _BLOCK):
                    at = slice(cut, cut + _BLOCK)
                    u = factor[part] @ z[:, :, at].reshape(z.shape[0], -1)
                    u += mean[part, :, None]
                    made = f_at(u).reshape(part.size, -1, *w[:, at].shape)
                    if not total.shape[2]:
                        total, scale = np.zeros((2, count, SCRAMBLES, made.shape[1]))
                        value, error, size = np.zeros((3, count, made.shape[1]))
                    total[part, sets] += np.einsum("bksn,sn->bsk", made, w[:, at])
                    scale[part, sets] += np.einsum("bksn,sn->bsk", np.abs(made), w[:, at])
        cost += todo.size * SCRAMBLES * n
        each = total[todo] / weight
        value[todo], size[todo] = each.mean(axis=1), (scale[todo] / weight).mean(axis=1)
        error[todo] = _STUDENT * each.std(axis=1, ddof=1) / np.sqrt(SCRAMBLES) + 1e-15 * size[todo]
        todo = todo[np.any(error[todo] > rtol * size[todo], axis=1)]
        if not todo.size:
            break
    return value, error, size, cost


def _groups(
    rank: int, log2: int, n: int, seed: int, stretch: np.ndarray
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """As many sets at a time as f takes: which, their ``n`` last points (rank, sets, n), weights (sets, n).

    The weight is the density of N(0, I) over that of N(0, diag(stretch^2)) at the points stretch z.
    """
    together = max(1, _BLOCK // n)
    for lead in range(0, SCRAMBLES, together):
        sets = slice(lead, lead + together)
        scrambles = range(seed, seed + SCRAMBLES)[sets]
        z = point_sets(rank, log2, n, scrambles)
        w = shared(("weights", rank, log2, n, scrambles, *stretch), partial(_weights, z, stretch))
        yield sets, z, w


def _weights(z: np.ndarray, stretch: np.ndarray) -> np.ndarray:
    exponent = np.tensordot(stretch**2 - 1.0, z[: stretch.size] ** 2, axes=1)
    return np.prod(stretch) * np.exp(-0.5 * exponent)
