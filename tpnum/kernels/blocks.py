"""Blocks of a matrix whose entries have positions: from lanes of pairs to places, to mirror images."""

from __future__ import annotations

import numpy as np

from tpnum.kernels._borrow import borrow
from tpnum.kernels._jit import fused, kernel, maker
from tpnum.kernels._transpose import SIDE, transpose_lines
from tpnum.kernels._views import get, get_first, get_read, put, put_first
from tpnum.kernels.gram import mirror

LANES = SIDE
"""Pairs that are written side by side: a line of the cache of what is read."""
RUN = 64
"""Positions of a pair that are written one after the other: whole lines of the cache, wherever they begin."""


@kernel
def collect(goal, row, column, place, source, weight):
    """goal[row + i, column + j, place[k]] += weight source[i, k, j] of the pairs j that ``goal`` has."""
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


@fused
def _gather(runs, source, cells, first, step, count, lines, at, lanes):
    """runs[RUN j + m] = source[at + lanes cells[first + step m] + j] of ``count`` cells and LANES pairs."""
    for low in range(0, count, SIDE):
        for m in range(SIDE):  # beyond the last it is the last again
            put(lines, m, at + lanes * get(cells, first + step * min(low + m, count - 1)))
        transpose_lines(runs, low, RUN, source, lines)


@fused
def _write(goal, at, runs, j, count, weight, more, most):
    """goal[at + m] = weight * runs[RUN j + m], or that much more; how many of ``count`` are not finite."""
    bad = 0
    if more:
        for m in range(count):
            value = weight * get_read(runs, j * RUN + m) + get_first(goal, at + m)
            bad += not abs(value) <= most
            put_first(goal, at + m, goal.dtype.type(value))
        return bad
    for m in range(count):
        value = weight * get_read(runs, j * RUN + m)
        bad += not abs(value) <= most
        put_first(goal, at + m, goal.dtype.type(value))
    return bad


@maker
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
    held, kept = np.empty(LANES * RUN, source.dtype), np.empty(SIDE, np.intp)
    runs, lines = borrow(held), borrow(kept)
    bad = 0
    for i in range(source.shape[0]):
        r = row + i
        start = max(0, r - column) if symmetric else 0
        for first in range(start // LANES * LANES, pairs, LANES):
            begin, end = max(first, start), min(first + LANES, pairs)
            at = i * size * lanes + first
            for k in range(0, size, RUN):
                many = min(RUN, size - k)
                _gather(runs, given, cells, k, 1, many, lines, at, lanes)
                for j in range(begin, end):
                    to = (r * count + column + j) * size + k
                    bad += _write(goal, to, runs, j - first, many, weight, more, most)
            begin = max(begin, r - column + 1)
            if not symmetric or begin >= end:
                continue
            for k in range(0, width * height, height):
                for top in range(0, height, RUN):
                    many = min(RUN, height - top)
                    _gather(runs, given, cells, k // height + top * width, width, many, lines, at, lanes)
                    for j in range(begin, end):
                        to = ((column + j) * count + r) * size + k + top
                        _write(goal, to, runs, j - first, many, weight, more, most)
    return bad == 0 and held.size + kept.size > 0  # which live until here


@kernel
def turn(block, out, top, start):
    """out[c, r, q, p] = block[r - top, c - start, p, q] of all columns c beyond their row r."""
    for i in range(block.shape[0]):
        row = top + i
        for j in range(max(0, row + 1 - start), block.shape[1]):
            column = start + j
            for q in range(block.shape[3]):
                for p in range(block.shape[2]):
                    out[column, row, q, p] = block[i, j, p, q]
