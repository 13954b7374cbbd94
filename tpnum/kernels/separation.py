"""Normal distribution functions in any dimension, by separation of variables (Genz 1992).

With Z = L y, y standard normal and L triangular, the bounds hold one after another: given y_1 .. y_{k-1}
those on y_k are numbers, so y_k = Phi^{-1}(w_k Phi(b_k)), w uniform, and P = E_w prod_k Phi(b_k).  The
most restrictive coordinate goes first (Gibson, Glasbey and Elston 1994).  Where the covariance is
singular, a row without a pivot bounds the last y that it contains (Genz and Kwong 2000).
"""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._jit import helper, maker
from tpnum.kernels.normal import cdf, density, quantile
from tpnum.kernels.orthant import standardise

_FAR = 38.5
_BLOCK = 128
_FLAT = 1e-13  # a conditional variance below this is none
_ABSENT = 1e-7  # and so is such an entry of a row without a pivot


@helper
def _exchange(h, r, low, i, j):
    h[i], h[j] = h[j], h[i]
    for k in range(h.shape[0]):
        r[i, k], r[j, k] = r[j, k], r[i, k]
        low[i, k], low[j, k] = low[j, k], low[i, k]
    for k in range(h.shape[0]):
        r[k, i], r[k, j] = r[k, j], r[k, i]


@helper
def _triangle(h, r, low, typical, begin, end):
    """Reorder h and r, fill the columns begin .. end of L; the rank, or -1 where columns are left.

    ``typical`` takes E[y_k | its bound].
    """
    d = h.shape[0]
    for k in range(begin, end):
        best, least, spread = -1, 0.0, 0.0
        for i in range(k, d):
            left, mean = r[i, i], 0.0
            for j in range(k):
                left -= low[i, j] * low[i, j]
                mean += low[i, j] * typical[j]
            if left > _FLAT:
                at = (h[i] - mean) / math.sqrt(left)
                if best < 0 or at < least:
                    best, least, spread = i, at, math.sqrt(left)
        if best < 0:
            return k
        _exchange(h, r, low, k, best)
        low[k, k] = spread
        for i in range(k + 1, d):
            made = r[i, k]
            for j in range(k):
                made -= low[i, j] * low[k, j]
            low[i, k] = made / spread
        # the asymptotic mean where the quotient would be 0/0
        typical[k] = -density(least) / cdf(least) if least > -30.0 else least + 1.0 / least
    return d if end == d else -1


@helper
def _binding(low, rank, group):
    """For every row without a pivot the last column that it contains, -1 where there is none."""
    for i in range(rank, low.shape[0]):
        group[i] = -1
        for k in range(rank):
            if abs(low[i, k]) > _ABSENT:
                group[i] = k


@helper
def _product_sum(h, low, rank, group, w, y, bound, floor, weight):
    """The sum over the points w (rank - 1, n) of the product of conditional probabilities."""
    d, n = h.shape[0], w.shape[1]
    total = 0.0
    for begin in range(0, n, _BLOCK):
        size = min(_BLOCK, n - begin)
        weight[:size] = 1.0
        for k in range(rank):
            bound[:size] = h[k]
            for j in range(k):
                slope = low[k, j]
                for p in range(size):
                    bound[p] -= slope * y[j, p]
            inverse = 1.0 / low[k, k]
            for p in range(size):
                bound[p] *= inverse
            floor[:size] = -_FAR
            below = False
            for i in range(rank, d):
                if group[i] != k:
                    continue
                inverse = 1.0 / low[i, k]
                for p in range(size):
                    at = h[i]
                    for j in range(k):
                        at -= low[i, j] * y[j, p]
                    at *= inverse
                    if inverse > 0.0:
                        bound[p] = min(bound[p], at)
                    else:
                        floor[p] = max(floor[p], at)
                        below = True
            for p in range(size):
                top = cdf(bound[p])
                bottom = cdf(floor[p]) if below else 0.0
                inside = max(0.0, top - bottom)
                weight[p] *= inside
                if k < rank - 1:
                    y[k, p] = quantile(bottom + w[k, begin + p] * inside)
        for p in range(size):
            total += weight[p]
    return total


@maker
def triangles(bound, cov, h, r, low, typical, group, rank, begin, end):
    """Columns begin .. end of what `separated_sums` needs for bounds (n, d) and covariances (n, d, d).

    Variances are 0 or of order one.  Fills, for the columns from 0 to d in turn, the bounds h (n, d), L
    (n, d, d), the last column of each row without a pivot (n, d) and ``rank`` (n), -1 until it is known and
    -2 where the probability is 0; r (n, d, d) and ``typical`` (n, d) are kept in between.
    """
    d = bound.shape[1]
    c = np.empty((d, d)) if begin == 0 else np.empty((0, 0))
    for n in range(bound.shape[0]):
        if begin == 0:
            standardise(bound[n], cov[n], h[n], r[n], c)
            low[n, :, :] = 0.0
        elif rank[n] != -1:
            continue
        rank[n] = _triangle(h[n], r[n], low[n], typical[n], begin, end)
        if rank[n] >= 0:
            _binding(low[n], rank[n], group[n])
            for i in range(rank[n], d):
                if group[n, i] < 0 and h[n, i] < 0.0:
                    rank[n] = -2
                    break


@maker
def separated_sums(h, low, rank, group, rows, w, out):
    """Sums over uniform points w (d - 1, points) for the problems ``rows`` of `triangles`; fills out."""
    d = h.shape[1]
    y, top, floor, weight = np.empty((d, _BLOCK)), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    for i in range(rows.shape[0]):
        n = rows[i]
        out[i] = 0.0
        if rank[n] >= 0:
            out[i] = _product_sum(h[n], low[n], rank[n], group[n], w, y, top, floor, weight)
