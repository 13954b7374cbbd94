"""E[softmax(z)] and E[softmax(z) softmax(z')'] over given points, block by block in the first-level cache."""

from __future__ import annotations

import numpy as np

from tpnum.kernels._borrow import borrow
from tpnum.kernels._elementary import decay
from tpnum.kernels._jit import kernel, reduction

_BLOCK = 128


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
        row = borrow(x[i])
        for p in range(_BLOCK):
            row[p] = mean[i]
    fours, pairs = rank - rank % 4, d - d % 2
    # two rows and four columns at a time: as many multiplications as loads and stores
    for i in range(0, pairs, 2):
        one, two = borrow(x[i]), borrow(x[i + 1])
        for k in range(0, fours, 4):
            a0, a1, a2, a3 = factor[i, k], factor[i, k + 1], factor[i, k + 2], factor[i, k + 3]
            b0, b1, b2, b3 = (
                factor[i + 1, k],
                factor[i + 1, k + 1],
                factor[i + 1, k + 2],
                factor[i + 1, k + 3],
            )
            z0, z1 = borrow(z[k, begin:]), borrow(z[k + 1, begin:])
            z2, z3 = borrow(z[k + 2, begin:]), borrow(z[k + 3, begin:])
            for p in range(size):
                one[p] += (a0 * z0[p] + a1 * z1[p]) + (a2 * z2[p] + a3 * z3[p])
                two[p] += (b0 * z0[p] + b1 * z1[p]) + (b2 * z2[p] + b3 * z3[p])
        for k in range(fours, rank):
            a0, b0 = factor[i, k], factor[i + 1, k]
            at = borrow(z[k, begin:])
            for p in range(size):
                one[p] += a0 * at[p]
                two[p] += b0 * at[p]
    for i in range(pairs, d):
        one = borrow(x[i])
        for k in range(rank):
            a0 = factor[i, k]
            at = borrow(z[k, begin:])
            for p in range(size):
                one[p] += a0 * at[p]


@kernel
def _normalise(x, weight, top, total):
    """Softmax over the rows of x, times the weights of the points."""
    count = x.shape[0]
    for p in range(_BLOCK):
        top[p] = x[0, p]
    for i in range(1, count):
        row = borrow(x[i])
        for p in range(_BLOCK):
            top[p] = row[p] if row[p] > top[p] else top[p]
    total[:] = 0.0
    for i in range(count):
        row = borrow(x[i])
        for p in range(_BLOCK):
            row[p] = decay(row[p] - top[p])
            total[p] += row[p]
    for p in range(_BLOCK):
        total[p] = weight[p] / total[p]
    for i in range(count):
        row = borrow(x[i])
        for p in range(_BLOCK):
            row[p] *= total[p]


@kernel
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
