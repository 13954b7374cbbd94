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
from tpnum.gauss.estimate import half_width
from tpnum.gauss.points import in_pieces, point_sets, shared

SCRAMBLES = 16
STRETCH = (1.3, 1.15)
_LEAST, _SMALLEST, _LARGEST, _SOBOL = 2, 9, 14, 30
"""log2 of the points of a set: of the smallest, of the first, of the last without a budget and with one."""
_HEAVY = 0.01
"""A largest term of more than this part of the sum of |f| has others as large beside it that were missed."""
_PILOT = 8  # the pilot takes at most this part of the first level, on top of it
_BLOCK = 1 << 13  # points that f takes at once: what it makes on the way stays in the caches
_KEPT = 1 << 15  # points of a set that are kept for the next call

Sampled = tuple[np.ndarray, np.ndarray, np.ndarray, int]


def sobol(
    f_at: Batched,
    mean: np.ndarray,
    factor: np.ndarray,
    rtol: float,
    budget: int | None = None,
    seed: int = 0,
    atol: float = 0.0,
) -> Sampled:
    """(value, error, E|f|, evaluations) by randomised quasi-Monte Carlo, doubling until ``rtol`` of E|f|.

    mean (count, d), factor (count, d, rank) with factor factor' = cov, principal axes first; value, error
    and size are (count, components).  The points are the same for all entries.  ``budget`` bounds the
    evaluations of f for an entry, up to an eighth on top for the pilot; an error of ``atol`` is enough.

    The error is the half-width of a 95 % interval from the spread of the sets, at least what one more point
    of the largest term would make where that is large, and what a jump may hide between points where the
    sets agree to the last digit though f is not constant.
    """
    count = mean.shape[0]
    last = (
        _LARGEST if budget is None
        else max(_LEAST, min(_SOBOL, (max(budget, 1) // SCRAMBLES).bit_length() - 1))
    )  # fmt: skip
    first = min(_SMALLEST, last)
    seed *= SCRAMBLES + 1
    factor = np.ascontiguousarray(factor)  # BLAS takes no reversed axes
    factor, cost, spread = turned(f_at, mean, factor, (SCRAMBLES << first) // _PILOT, seed + SCRAMBLES)
    stretch = np.array(STRETCH[: factor.shape[2]] if spread else ())
    if stretch.size:
        factor = factor.copy()
        factor[:, :, : stretch.size] *= stretch
    todo = np.arange(count)
    sums = _Sums(count)
    value = error = size = np.zeros((count, 0))
    for log2 in range(first, last + 1):
        n = 1 << (first if log2 == first else log2 - 1)  # new points of a set, after the old ones
        for sets, z, w in _groups(factor.shape[2], log2, n, seed, stretch):
            sums.weight[sets] += w.sum(axis=1, keepdims=True)
            step = max(1, _BLOCK // w.size)
            for begin in range(0, todo.size, step):
                part = todo[begin : begin + step]
                for cut in range(0, w.shape[1], _BLOCK):
                    at = slice(cut, cut + _BLOCK)
                    u = factor[part] @ z[:, :, at].reshape(z.shape[0], -1)
                    u += mean[part, :, None]
                    sums.add(part, sets, f_at(u).reshape(part.size, -1, *w[:, at].shape), w[:, at])
        cost += todo.size * SCRAMBLES * n
        found = sums.estimates(todo)
        if log2 == first:
            value, error, size = found
        else:
            value[todo], error[todo], size[todo] = found
        unmet = size[todo] == 0.0  # where nothing was found yet there may be something
        todo = todo[np.any(unmet | (error[todo] > np.maximum(rtol * size[todo], atol)), axis=1)]
        if not todo.size:
            break
    return value, error, size, cost


class _Sums:
    """Sums over the points so far, set by set, of w, w f and w |f|; the largest w |f| and the range of f."""

    def __init__(self, count: int) -> None:
        self.weight = np.zeros((SCRAMBLES, 1))
        self.total = self.scale = np.zeros((count, SCRAMBLES, 0))
        self.top = self.low = self.high = np.zeros((count, 0))

    def add(self, part: np.ndarray, sets: slice, made: np.ndarray, w: np.ndarray) -> None:
        """Add values (entries, components, sets, points) of f at points of weights ``w`` (sets, points)."""
        if not self.total.shape[2]:
            self._make_room(made.shape[1])
        self.total[part, sets] += np.einsum("bksn,sn->bsk", made, w)
        self.low[part] = np.minimum(self.low[part], made.min(axis=(2, 3)))
        self.high[part] = np.maximum(self.high[part], made.max(axis=(2, 3)))
        sizes = np.abs(made) * w
        self.top[part] = np.maximum(self.top[part], sizes.max(axis=(2, 3)))
        self.scale[part, sets] += sizes.sum(axis=3).transpose(0, 2, 1)

    def _make_room(self, components: int) -> None:
        count = len(self.total)
        self.total, self.scale = np.zeros((2, count, SCRAMBLES, components))
        self.top = np.zeros((count, components))
        self.low, self.high = np.full((2, count, components), np.inf)
        self.high *= -1.0

    def estimates(self, part: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(value, error, E|f|) of some entries, (entries, components) each."""
        each = self.total[part] / self.weight
        size = (self.scale[part] / self.weight).mean(axis=1)
        wide = half_width(each, axis=1)
        largest = self.top[part] / self.weight.sum()
        largest = np.where(largest > _HEAVY * size, largest, 0.0)
        between = (self.high[part] - self.low[part]) / self.weight.sum()
        between = np.where(wide <= 1e-14 * size, between, 0.0)
        return each.mean(axis=1), np.maximum(np.maximum(wide, 2.0 * largest), between) + 1e-15 * size, size


def _groups(
    rank: int, log2: int, n: int, seed: int, stretch: np.ndarray
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """As many sets at a time as f takes: which, their ``n`` last points (rank, sets, n), weights (sets, n).

    The weight is the density of N(0, I) over that of N(0, diag(stretch^2)) at the points stretch z.
    Points beyond what may be kept come in pieces, made anew.
    """
    together = max(1, _BLOCK // n)
    for lead in range(0, SCRAMBLES, together):
        sets = slice(lead, lead + together)
        scrambles = range(seed, seed + SCRAMBLES)[sets]
        if n > _KEPT:
            for z in in_pieces(rank, log2, n, scrambles[0], _KEPT):
                yield sets, z[:, None], _weights(z[:, None], stretch)
            continue
        z = point_sets(rank, log2, n, scrambles)
        w = shared(("weights", rank, log2, n, scrambles, *stretch), partial(_weights, z, stretch))
        yield sets, z, w


def _weights(z: np.ndarray, stretch: np.ndarray) -> np.ndarray:
    exponent = np.tensordot(stretch**2 - 1.0, z[: stretch.size] ** 2, axes=1)
    return np.prod(stretch) * np.exp(-0.5 * exponent)
