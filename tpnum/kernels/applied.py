"""Functions from increments to increments over some cells: what is between two index maps in one operation.

With the strip of a function, which makes rho' and s = E f' g' of the co-correlation of D + (l_i - l)^2,

    D' = (u_i - u)^2 + 2 u_i u (1 - rho'),    u = alpha m,
    t' = d_i d s (t + b_i b) + x_i x m_i m rho'.

Parameters of a position are r, 1/r (`tpnum.kernels.increments`), m, then those of the strip; the constants
alpha, l, b, d, x and the flags 2 and 4 are those of `tpnum.kernels.increments.relu`.  A strip of lanes is in
the first cache all the way; increments become co-correlations and increments again where they are.
"""

from __future__ import annotations

import math

from tpnum.kernels import operations as ops
from tpnum.kernels._jit import full_width, kernel
from tpnum.kernels._views import (
    get,
    get_first,
    get_read,
    get_second,
    put_first,
    put_second,
    strip,
    table,
)
from tpnum.kernels.cellwise import with_functions
from tpnum.kernels.increments import constants
from tpnum.kernels.series import SCRATCH

STRIPS = SCRATCH + 1
"""Strips of memory that a function takes: those of a series, and one for derivatives."""
OWN = 3
"""Parameters of a position before those of a function's strip."""


@kernel
def _enter(work, a, t, rp, cp, row, col, height, fixed):
    """Increments become co-correlations; where t is a place, t = r_i r rho."""
    full_width()
    v = fixed.size // 5
    zero = work.dtype.type(0)
    one = work.dtype.type(1)
    two = work.dtype.type(2)
    r_i = get(rp, row)
    w_i = work.dtype.type(0.5) * get(rp, row + height)
    if t < 0:
        for k in range(v):
            g = r_i - get_read(cp, col + k)
            d = get_first(work, a + k) + get_read(fixed, v + k) - g * g
            y = min(max(d * (w_i * get_read(cp, col + v + k)), zero), two)
            put_first(work, a + k, y if y <= one else -(two - y))
        return
    for k in range(v):
        r = get_read(cp, col + k)
        g = r_i - r
        d = get_first(work, a + k) + get_read(fixed, v + k) - g * g
        y = min(max(d * (w_i * get_read(cp, col + v + k)), zero), two)
        put_first(work, a + k, y if y <= one else -(two - y))
        put_second(work, t + k, (r_i * r) * (one - y))


@kernel
def _leave(work, a, t, d, m_i, cp, col, alpha, flag, fixed):
    """Co-correlations become increments, or with a flag 2 covariances; t goes through the slopes d."""
    full_width()
    v = fixed.size // 5
    zero = work.dtype.type(0)
    one = work.dtype.type(1)
    two = work.dtype.type(2)
    plain = flag & 2 != 0
    first = flag & 4 != 0
    u_i = alpha * m_i
    square = zero if plain else one  # D' = square (u_i - u)^2 + turn u_i u (1 - rho') + keep u_i u
    turn_i = -u_i if plain else two * u_i
    keep_i = u_i if plain else zero
    z_i = square * u_i
    if t < 0:
        for k in range(v):
            e = get_first(work, a + k)
            gap = e + (one - math.copysign(one, e))  # 2 - |e| where rho' < 0
            u = get_read(fixed, k) * get_read(cp, col + k)
            g = z_i - square * u
            put_first(work, a + k, g * g + u * (turn_i * gap + keep_i))
        return
    rate = 3 * v if first else 2 * v
    lift = zero if first else one
    for k in range(v):
        e = get_first(work, a + k)
        gap = e + (one - math.copysign(one, e))
        m = get_read(cp, col + k)
        u = get_read(fixed, k) * m
        g = z_i - square * u
        put_first(work, a + k, g * g + u * (turn_i * gap + keep_i))
        old = get_read(fixed, rate + k) * get_second(work, t + k) + lift * get_read(fixed, 3 * v + k)
        new = (get_read(fixed, 4 * v + k) * m) * m_i
        put_second(work, t + k, old * get_read(d, k) + (new - new * gap))


@kernel
def _alone(work, a, m_i, cp, col, alpha, flag, fixed):
    """A cell of the padding holds the other variance and nothing else."""
    full_width()
    v = fixed.size // 5
    square = work.dtype.type(0 if flag & 2 != 0 else 1)
    z_i = square * (alpha * m_i)
    for k in range(v):
        g = z_i - square * (get_read(fixed, k) * get_read(cp, col + k))
        put_first(work, a + k, g * g)


@kernel
def over_functions(line, places, here, row, params, block, work, spare, tables, duals, expand, missed):
    """A function at the cells ``here``: rows, columns, and whether they are padding.

    ``line`` are the constants, the flag and the number of the slot or, with a flag 1, of the series;
    ``places`` are of the increments and of the tangent kernel, -1 for none; ``spare`` is what
    `tpnum.kernels.cells.run` has.
    """
    n, flag, which = line
    a, t = places
    rows, cols, padded = here
    i, number, own, height = row
    rp, cp, rk, ck = params
    size, at_row, at_col = block
    total, fixed, fixed_for, _, series = spare
    v = total.size
    if n != fixed_for[0] or i != fixed_for[1]:
        constants(rk, ck, n, i, fixed)
        fixed_for[0], fixed_for[1] = n, i
    alpha = rk[n, i]
    op = ops.SERIES if flag & 1 != 0 else ops.DUAL
    slope = strip(series, SCRATCH * v, v if t >= 0 else 0)
    for m in range(rows.size):
        left_at = at_row + rows[m] * size * height
        right_at = at_col + cols[m] * size * v
        e, s = a + m * v, t + m * v if t >= 0 else -1
        m_i = get(rp, left_at + 2 * height + i)
        if padded[m] % 16 != 0:
            _alone(work, e, m_i, cp, right_at + 2 * v, alpha, flag, fixed)
            continue
        begun = s if flag & 4 != 0 else -1
        _enter(work, e, begun, rp, cp, left_at + i, right_at, height, fixed)
        left = table(rp, left_at + OWN * height, size - OWN, height)
        right = table(cp, right_at + OWN * v, size - OWN, v)
        x = strip(work, e, v)
        cell = rows[m], cols[m], i, number, i - own
        with_functions(op, which, x, x, slope, left, right, cell, tables, duals, expand, missed, series)
        _leave(work, e, s, slope, m_i, cp, right_at + 2 * v, alpha, flag, fixed)


@kernel
def no_functions(line, places, here, row, params, block, work, spare, tables, duals, expand, missed):
    """What programs without have in place of `over_functions`."""
