"""Blocks of a matrix whose entries have positions: from lanes of pairs to places, to mirror images."""

from __future__ import annotations

from tpnum.kernels._borrow import borrow
from tpnum.kernels._jit import kernel

LANES = 8
"""Pairs that are written side by side: a line of the cache of what is read."""


@kernel
def collect(goal, row, column, place, source, weight):
    """goal[row + i, column + j, place[k]] += weight source[i, k, j] of the pairs j that ``goal`` has."""
    goal, place, source = borrow(goal), borrow(place), borrow(source)
    pairs = min(source.shape[2], goal.shape[1] - column)
    for i in range(source.shape[0]):
        for first in range(0, pairs, LANES):
            last = min(first + LANES, pairs)
            for k in range(place.size):
                at = place[k]
                for j in range(first, last):
                    goal[row + i, column + j, at] += weight * source[i, k, j]


@kernel
def turn(block, out, top, start):
    """out[c, r, q, p] = block[r - top, c - start, p, q] of all columns c beyond their row r."""
    block, out = borrow(block), borrow(out)
    for i in range(block.shape[0]):
        row = top + i
        for j in range(max(0, row + 1 - start), block.shape[1]):
            column = start + j
            for q in range(block.shape[3]):
                for p in range(block.shape[2]):
                    out[column, row, q, p] = block[i, j, p, q]
