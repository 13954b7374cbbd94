"""From rows of data to the co-correlations of their pairs, and symmetric matrices from half of their blocks.

The products of normalised rows come from the BLAS; they give 1 - |c| with an absolute error of rounding
size, which is all there is when two rows are nearly parallel.  Those pairs, few, are computed again from the
original rows a, b: for any s near |b|/|a|, v = b - s a is exact to rounding (a fused multiply-add) and

    sin^2 theta = (|v|^2 - (v.a)^2 / |a|^2) / |b|^2,        1 - cos theta = sin^2 / (1 + cos)

lose no digits however close the rows are and whatever their lengths; antiparallel rows are alike with -s.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numba import types

from tpnum.kernels._jit import kernel, machine_code, reduction
from tpnum.kernels._transpose import SIDE, transpose_square

_SMALL, _LARGE = 1e-200, 1e200


def _exact(a: float, b: float, c: float) -> float:
    """a b + c, rounded once."""
    return float(Fraction(a) * Fraction(b) + Fraction(c))


@machine_code(_exact)
def _fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Fused a b + c of float64."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), emit


@reduction
def normalise_rows(
    x: np.ndarray, unit: np.ndarray, q: np.ndarray, root: np.ndarray, frame: np.ndarray
) -> int:
    """Rows of unit length, in the type of ``unit``, and their q = |x|^2 / d and root = |x| / sqrt(d).

    ``frame`` (2, N) takes what `correlate_strip` needs: a power of two that brings the row into range,
    and the length of the row times it.  A zero row stays zero.  All of these are float64, ``x`` is float64 or
    float32.  Returns the first row that is not finite, or -1.
    """
    rows, d = x.shape
    for i in range(rows):
        row = x[i]
        out = unit[i]
        square = 0.0
        for k in range(d):
            square += np.float64(row[k]) * np.float64(row[k])
        shift = 1.0
        if not _SMALL < square < _LARGE:
            top = 0.0
            for k in range(d):
                top = max(top, abs(np.float64(row[k])))
            if top > 0:
                shift = math.ldexp(1.0, min(-math.frexp(top)[1], 1022))
            square = 0.0
            for k in range(d):
                scaled = np.float64(row[k]) * shift
                square += scaled * scaled
            if not square < np.inf:
                return i
        length = math.sqrt(square)
        frame[0, i] = shift
        frame[1, i] = length
        root[i] = length / math.sqrt(d) / shift
        q[i] = square / d if shift == 1.0 else root[i] * root[i]
        divisor = length if length > 0 else 1.0
        for k in range(d):
            out[k] = np.float64(row[k]) * shift / divisor
    return -1


@reduction
def _fold(c: np.ndarray, e: np.ndarray, bound: Any) -> Any:
    """e = copysign(1 - |c|, c); counts the entries below ``bound``."""
    one = e.dtype.type(1)
    zero = e.dtype.type(0)
    near = zero  # of the same type: a sum of floats becomes SIMD, a running minimum does not
    for k in range(c.size):
        y = one - abs(c[k])
        near += one if y < bound else zero
        e[k] = math.copysign(y if y > zero else zero, c[k])
    return near


@reduction
def _separation(a: np.ndarray, b: np.ndarray, frame_a: Any, frame_b: Any, side: float) -> float:
    """1 - |cos theta| of two nearly parallel rows, ``side`` the sign of their cosine."""
    shift_a, length_a = frame_a
    shift_b, length_b = frame_b
    s = -side * (length_b / length_a)
    vv = 0.0
    va = 0.0
    for k in range(a.size):
        u = np.float64(a[k]) * shift_a
        v = _fma(s, u, np.float64(b[k]) * shift_b)
        vv += v * v
        va += v * u
    along = va / length_a
    square = max(vv - along * along, 0.0) / (length_b * length_b)
    return square / (1.0 + math.sqrt(max(1.0 - square, 0.0)))


@kernel
def correlate_strip(
    c: np.ndarray,
    e: np.ndarray,
    x1: np.ndarray,
    x2: np.ndarray,
    frame1: np.ndarray,
    frame2: np.ndarray,
    i: int,
    j0: int,
    threshold: float,
) -> None:
    """From cosines c to co-correlations e, which may be c: c[k] of rows x1[i] and x2[j0 + k], original rows.

    Pairs with 1 - |c| below ``threshold`` are computed again from the rows: equal rows give 0.0 and
    opposite ones -0.0, exactly.  A zero row has e = 1.
    """
    bound = e.dtype.type(threshold)
    if _fold(c, e, bound) == 0:
        return
    for k in range(e.size):
        if abs(e[k]) < bound:
            j = j0 + k
            side = math.copysign(1.0, e[k])
            first = (frame1[0, i], frame1[1, i])
            second = (frame2[0, j], frame2[1, j])
            e[k] = math.copysign(_separation(x1[i], x2[j], first, second, side), side)


@kernel
def mirror(block: np.ndarray, out: np.ndarray, r0: int, c0: int) -> None:
    """Copy what a block at (r0, c0) has above the diagonal to its place below it, out[c, r] = block[r, c].

    Squares are turned in registers, those that go to the same rows of ``out`` one after the other.
    """
    rows, cols = block.shape
    for left in range(0, cols, SIDE):
        column = c0 + left
        for top in range(0, rows, SIDE):
            row = r0 + top
            if left + SIDE <= cols and top + SIDE <= rows and column >= row + SIDE:
                transpose_square(out, column, row, block, top, left)
            else:
                for c in range(min(SIDE, cols - left)):
                    for r in range(min(SIDE, rows - top, column + c - row)):
                        out[column + c, row + r] = block[top + r, left + c]
