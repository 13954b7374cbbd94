"""E[softmax(z)] and E[softmax(z) softmax(z')'] over given points, block by block in the first-level cache."""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._borrow import borrow
from tpnum.kernels._elementary import decay
from tpnum.kernels._jit import helper, kernel, maker, reduction
from tpnum.kernels.normal import cdf, density

_BLOCK = 128
_X, _W = (0.5 * a for a in np.polynomial.legendre.leggauss(12))
_X += 0.5  # nodes and weights on (0, 1)
_WIDE = 4.0  # deviations from which the logistic function is a step with corrections
_CUTS = np.array([0.0, 2.0, 4.0, 8.0, 16.0, 40.0])  # panels for what decays like e^-x
_FAR = (_CUTS[:-1, None] + np.diff(_CUTS)[:, None] * _X).ravel()
_SHARE = (np.diff(_CUTS)[:, None] * _W).ravel() / (1.0 + np.exp(_FAR))
_STEP, _REACH = 0.45, 8.7


@reduction
def _dot(a, b):
    total = 0.0
    for p in range(_BLOCK):
        total += a[p] * b[p]
    return total


@reduction
def _four_dots(a, b, c, d, e):
    """a.b, a.c, a.d and a.e: a is loaded once."""
    first, second, third, fourth = 0.0, 0.0, 0.0, 0.0
    for p in range(_BLOCK):
        at = a[p]
        first += at * b[p]
        second += at * c[p]
        third += at * d[p]
        fourth += at * e[p]
    return first, second, third, fourth


@reduction
def _sum(a):
    total = 0.0
    for p in range(_BLOCK):
        total += a[p]
    return total


@kernel
def _logits(mean, factor, z, begin, size, x):
    """The coordinates mean + factor z of a block of points; places beyond the points stay at the mean."""
    d, rank = factor.shape
    for i in range(d):
        row = x[i]
        for p in range(_BLOCK):
            row[p] = mean[i]
    fours, pairs = rank - rank % 4, d - d % 2
    # two rows and four columns at a time: as many multiplications as loads and stores
    for i in range(0, pairs, 2):
        one, two = x[i], x[i + 1]
        for k in range(0, fours, 4):
            a0, a1, a2, a3 = factor[i, k], factor[i, k + 1], factor[i, k + 2], factor[i, k + 3]
            b0, b1, b2, b3 = (
                factor[i + 1, k],
                factor[i + 1, k + 1],
                factor[i + 1, k + 2],
                factor[i + 1, k + 3],
            )
            z0, z1 = z[k, begin:], z[k + 1, begin:]
            z2, z3 = z[k + 2, begin:], z[k + 3, begin:]
            for p in range(size):
                one[p] += (a0 * z0[p] + a1 * z1[p]) + (a2 * z2[p] + a3 * z3[p])
                two[p] += (b0 * z0[p] + b1 * z1[p]) + (b2 * z2[p] + b3 * z3[p])
        for k in range(fours, rank):
            a0, b0 = factor[i, k], factor[i + 1, k]
            at = z[k, begin:]
            for p in range(size):
                one[p] += a0 * at[p]
                two[p] += b0 * at[p]
    for i in range(pairs, d):
        one = x[i]
        for k in range(rank):
            a0 = factor[i, k]
            at = z[k, begin:]
            for p in range(size):
                one[p] += a0 * at[p]


@kernel
def _normalise(x, weight, top, total):
    """Softmax over the rows of x, times the weights of the points."""
    count = x.shape[0]
    for p in range(_BLOCK):
        top[p] = x[0, p]
    for i in range(1, count):
        row = x[i]
        for p in range(_BLOCK):
            top[p] = row[p] if row[p] > top[p] else top[p]
    total[:] = 0.0
    for i in range(count):
        row = x[i]
        for p in range(_BLOCK):
            row[p] = decay(row[p] - top[p])
            total[p] += row[p]
    for p in range(_BLOCK):
        total[p] = weight[p] / total[p]
    for i in range(count):
        row = x[i]
        for p in range(_BLOCK):
            row[p] *= total[p]


@maker
def softmax_sums(mean, factor, first, z, weight, out):
    """Sums over the points z (sets, rank, points) with their weights, problem by problem.

    mean (n, d), factor (n, d, rank), the first ``first`` coordinates are z, the others z'; out (n, sets,
    d + first (d - first)): both means, then the matrix E[softmax(z) softmax(z')'] row by row.
    """
    d, points = mean.shape[1], z.shape[2]
    x, top, total = np.empty((d, _BLOCK)), np.empty(_BLOCK), np.empty(_BLOCK)
    ones, share = np.ones(_BLOCK), np.zeros(_BLOCK)
    for n in range(mean.shape[0]):
        for s in range(z.shape[0]):
            sums = borrow(out[n, s])
            sums[:] = 0.0
            for begin in range(0, points, _BLOCK):
                size = min(_BLOCK, points - begin)
                for p in range(_BLOCK):
                    share[p] = weight[begin + p] if p < size else 0.0
                _logits(mean[n], factor[n], z[s], begin, size, x)
                _normalise(x[:first], share, top, total)
                _normalise(x[first:], ones, top, total)
                for i in range(first):
                    sums[i] += _sum(borrow(x[i]))
                for j in range(first, d):
                    sums[j] += _dot(borrow(x[j]), share)
                at = d
                for i in range(first):
                    left = borrow(x[i])
                    j = first
                    while j + 4 <= d:
                        made = _four_dots(
                            left, borrow(x[j]), borrow(x[j + 1]), borrow(x[j + 2]), borrow(x[j + 3])
                        )
                        sums[at] += made[0]
                        sums[at + 1] += made[1]
                        sums[at + 2] += made[2]
                        sums[at + 3] += made[3]
                        at += 4
                        j += 4
                    while j < d:
                        sums[at] += _dot(left, borrow(x[j]))
                        at += 1
                        j += 1


@helper
def _gate(x):
    """The logistic function."""
    e = math.exp(-abs(x))
    return 1.0 / (1.0 + e) if x >= 0.0 else e / (1.0 + e)


@helper
def _mean_gate(m, s, bells):
    """E g(m + s z), g the logistic function.

    Up to `_WIDE` the trapezoidal rule, whose weights are ``bells``; beyond, g(x) is a step less
    sgn(x)/(1 + e^|x|), and that by fixed panels on which the density of m + s z is smooth.
    """
    if s == 0.0:
        return _gate(m)
    total = 0.0
    if s > _WIDE:
        for k in range(_FAR.shape[0]):
            low, high = (_FAR[k] - m) / s, (_FAR[k] + m) / s
            total += _SHARE[k] * (density(high) - density(low))
        return cdf(m / s) + total / s
    h = _STEP / max(1.0, s)
    total = bells[0] * _gate(m)
    for k in range(1, bells.shape[0]):
        total += bells[k] * (_gate(m + s * h * k) + _gate(m - s * h * k))
    return total


@helper
def _bells(s):
    """The weights of the trapezoidal rule for deviation s, from the middle outwards."""
    if s == 0.0 or s > _WIDE:
        return np.empty(0)
    h = _STEP / max(1.0, s)
    made = np.empty(int(_REACH / h) + 1)
    for k in range(made.shape[0]):
        made[k] = h * density(h * k)
    return made


@kernel
def gate_pairs(m, s, slope, rest, edges, out, cost):
    """E g(+-u) g(+-v) for u = m_0 + s z and v = m_1 + slope z + rest e, g the logistic function.

    m (n, 2), the others (n); z in panels between the ascending ``edges`` (n, k).  Fills out (n, 4), signs ++,
    +-, -+, --, and the evaluations.
    """
    for n in range(m.shape[0]):
        bells = _bells(rest[n])
        out[n] = 0.0
        inner = _FAR.shape[0] if rest[n] > _WIDE else 2 * bells.shape[0] + 1
        for k in range(edges.shape[1] - 1):
            width = edges[n, k + 1] - edges[n, k]
            if width <= 0.0:
                continue
            for i in range(_X.shape[0]):
                z = edges[n, k] + width * _X[i]
                weight = width * _W[i] * density(z)
                x = m[n, 0] + s[n] * z
                one, other = _gate(x), _gate(-x)
                high = _mean_gate(m[n, 1] + slope[n] * z, rest[n], bells)
                out[n, 0] += weight * one * high
                out[n, 1] += weight * one * (1.0 - high)
                out[n, 2] += weight * other * high
                out[n, 3] += weight * other * (1.0 - high)
                cost[n] += inner
