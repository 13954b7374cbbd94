"""Blocks of a matrix whose entries have positions: from lanes of pairs to places, to mirror images."""

from __future__ import annotations

from tpnum.kernels._borrow import borrow
from tpnum.kernels._jit import kernel
from tpnum.kernels._views import get, put
from tpnum.kernels.gram import mirror

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
def _single(out, corner, pairs, cell, source, weight, more, symmetric, most):
    """`deliver` of one position."""
    row, column = corner
    bad = 0
    for i in range(source.shape[0]):
        goal, given = out[row + i, column : column + pairs], source[i, cell, :pairs]
        start = max(0, row + i - column) if symmetric else 0
        for j in range(start, pairs):
            value = weight * given[j]
            if more:
                value += goal[j]
            bad += not abs(value) <= most
            goal[j] = value
    if symmetric:
        mirror(out[row : row + source.shape[0], column : column + pairs], out, row, column)
    return bad == 0


@kernel
def deliver(out, corner, pairs, place, source, weight, more, symmetric, most):
    """As `collect`, into a whole matrix (N1, N2, P, Q) from a ``corner`` on; is all of it finite?

    ``place`` (P, Q) is where source (rows, cells, lanes) has the entries of two positions.  Of a symmetric
    matrix pairs of a row and a column not before it are written, and their mirror images.  What is written
    first is put there, ``more`` is added; ``most`` is the largest that is finite.
    """
    out, place, source = borrow(out), borrow(place), borrow(source)
    row, column = corner
    height, width = place.shape
    size, count = height * width, out.shape[1]
    goal, given, cells = out.reshape(out.size), source.reshape(source.size), place.reshape(size)
    lanes = source.shape[2]
    if size == 1:
        flat = out.reshape((out.shape[0], count))
        return _single(flat, corner, pairs, get(cells, 0), source, weight, more, symmetric, most)
    bad = 0
    for i in range(source.shape[0]):
        r = row + i
        start = max(0, r - column) if symmetric else 0
        for first in range(start // LANES * LANES, pairs, LANES):
            begin, end = max(first, start), min(first + LANES, pairs)
            for k in range(0, size, LANES):
                for j in range(begin, end):
                    at = ((r * count) + column + j) * size
                    for m in range(k, min(k + LANES, size)):
                        value = weight * get(given, (i * size + get(cells, m)) * lanes + j)
                        if more:
                            value += get(goal, at + m)
                        bad += not abs(value) <= most
                        put(goal, at + m, goal.dtype.type(value))
            if not symmetric:
                continue
            begin = max(begin, r - column + 1)
            for q in range(width):
                for top in range(0, height, LANES):
                    for j in range(begin, end):
                        at = ((column + j) * count + r) * size + q * height
                        for p in range(top, min(top + LANES, height)):
                            value = weight * get(given, (i * size + get(cells, p * width + q)) * lanes + j)
                            if more:
                                value += get(goal, at + p)
                            put(goal, at + p, goal.dtype.type(value))
    return bad == 0


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
