"""Gaussians given others: a Cholesky factor that grows, and its transposed systems."""

from __future__ import annotations

import math

from tpnum.kernels._jit import kernel


@kernel
def condition(gram, variance, factor, pivots, rank, begin, end, least):
    """Continue a Cholesky factor of ``variance`` * gram by the rows begin..end; the new rank.

    Row j is ``factor[j, :rank]`` in terms of the innovations of the rows ``pivots[:rank]``.  A row that
    the earlier ones explain, up to the part ``least`` of its variance, has no innovation of its own.
    """
    for j in range(begin, end):
        left = variance * gram[j, j]
        whole = left
        for t in range(rank):
            i = pivots[t]
            v = variance * gram[j, i]
            for u in range(t):
                v -= factor[j, u] * factor[i, u]
            v /= factor[i, t]
            factor[j, t] = v
            left -= v * v
        if left > least * whole:
            factor[j, rank] = math.sqrt(left)
            pivots[rank] = j
            rank += 1
    return rank


@kernel
def back_substitute(factor, pivots, count, right):
    """Solve transposed systems with the leading ``count[i]`` pivots for the rows of ``right``, in place."""
    for i in range(right.shape[0]):
        row = right[i]
        for t in range(count[i] - 1, -1, -1):
            v = row[t]
            for u in range(t + 1, count[i]):
                v -= factor[pivots[u], t] * row[u]
            row[t] = v / factor[pivots[t], t]
        for t in range(count[i], row.size):
            row[t] = 0.0
