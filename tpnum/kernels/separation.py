"""Normal distribution functions in any dimension, by separation of variables (Genz 1992).

With Z = L y, y standard normal and L triangular, the bounds hold one after another: given y_1 .. y_{k-1}
those on y_k are numbers, so y_k = Phi^{-1}(w_k Phi(b_k)), w uniform, and P = E_w prod_k Phi(b_k).  The
most restrictive coordinate goes first (Gibson, Glasbey and Elston 1994).  Where the covariance is
singular, a row without a pivot bounds the last y that it contains (Genz and Kwong 2000).
"""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._jit import helper, kernel
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
def _triangle(h, r, low, typical):
    """Reorder h and r, fill L; returns the rank.  ``typical`` takes E[y_k | its bound]."""
    d = h.shape[0]
    low[:, :] = 0.0
    for k in range(d):
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
    return d


@helper
def _binding(low, rank, group):
    """For every row without a pivot the last column that it contains, -1 where there is none."""
    for i in range(rank, low.shape[0]):
        group[i] = -1
        for k in range(rank):
            if abs(low[i, k]) > _ABSENT:
                group[i] = k


@helper
def _mean_product(h, low, rank, group, w, y, bound, floor, weight):
    """The mean over the points w (rank - 1, n) of the product of conditional probabilities."""
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
    return total / n


@kernel
def separated_cdf(bound, cov, w, out):
    """P(Z < bound), Z ~ N(0, cov), for ``bound`` (n, d) and every set of uniform points w[s] (d - 1, points).

    Fills out (n, sets); variances are 0 or of order one.
    """
    d = bound.shape[1]
    h, r, c, low = np.empty(d), np.empty((d, d)), np.empty((d, d)), np.empty((d, d))
    typical, group = np.empty(d), np.empty(d, np.int64)
    y, top, floor, weight = np.empty((d, _BLOCK)), np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    for n in range(bound.shape[0]):
        standardise(bound[n], cov[n], h, r, c)
        rank = _triangle(h, r, low, typical)
        _binding(low, rank, group)
        possible = True
        for i in range(rank, d):
            if group[i] < 0 and h[i] < 0.0:
                possible = False
        for s in range(w.shape[0]):
            out[n, s] = 0.0
            if possible:
                out[n, s] = _mean_product(h, low, rank, group, w[s], y, top, floor, weight)
