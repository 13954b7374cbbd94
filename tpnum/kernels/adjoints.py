"""Adjoints of plain covariances on strips of pairs: through relus between index maps, and to data."""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._jit import full_width, fused, kernel
from tpnum.kernels._poly import angle
from tpnum.kernels._sums import dotted, summed
from tpnum.kernels._views import (
    get,
    get_first,
    get_read,
    get_second,
    get_third,
    lanes,
    put,
    put_first,
    put_second,
    put_third,
    strip,
)
from tpnum.kernels.reverse import CLOSE


@kernel
def gather(buffers, at, a, apart):
    """What gathers at a place gains a strip: lane by lane, or its sum where lanes are not kept ``apart``."""
    if apart == 0:
        put(buffers, at, get(buffers, at) + summed(a))
        return
    for k in range(a.size):
        put(buffers, at + k, get(buffers, at + k) + np.float64(a[k]))


@kernel
def gather_products(buffers, at, a, b, apart):
    """As `gather` of the products of two strips."""
    if apart == 0:
        put(buffers, at, get(buffers, at) + dotted(a, b))
        return
    for k in range(a.size):
        put(buffers, at + k, get(buffers, at + k) + np.float64(a[k] * b[k]))


@kernel
def spread(totals, bars, which, moves, side, first):
    """totals (rows, parameters, lanes) gain bars (rows, positions, lanes) times derivatives of numbers.

    ``moves`` (n, positions, examples) are those by the parameters ``which``, of rows (side 0) or columns (1);
    ``first`` is the example of the first row, or lane.
    """
    width = min(bars.shape[2], moves.shape[2] - first) if side else bars.shape[2]
    for r in range(bars.shape[0]):
        for k in range(which.size):
            total = totals[r, which[k]]
            for s in range(bars.shape[1]):
                bar = bars[r, s]
                if side == 0:
                    u = moves[k, s, first + r]
                    for l in range(width):
                        total[l] += u * bar[l]
                else:
                    v = moves[k, s, first : first + width]
                    for l in range(width):
                        total[l] += v[l] * bar[l]


@kernel
def bent_constants(rk, ck, n, i, fixed):
    """What `bent_relu` reads of constants n at every cell of a row i: products of scales, lifts, shifts."""
    full_width()
    v = fixed.size // 5
    scale, lift, shift = rk[n, i], rk[n + 1, i], rk[n + 2, i]
    c = n * v
    for k in range(v):
        put(fixed, k, scale * get(ck, c + k))
        d = lift - get(ck, c + v + k)
        put(fixed, v + k, d * d)
        put(fixed, 2 * v + k, shift * get(ck, c + 2 * v + k))


@fused
def _turned(y, one, two, over):
    """kappa_0 and kappa_1 - rho kappa_0 = sin(theta) / pi of 1 - rho = y, ``over`` = 1 / pi."""
    far = y > one
    near = two - y if far else y
    root = math.sqrt(near)
    part = root * angle(near)
    return part if far else one - part, root * math.sqrt(two - near) * over


@fused
def _apart(work, d, cp, at, k, r_i, w_i, fixed, v):
    """1 - rho of the increments of lane k, and the product of the lane's deviations with the row's."""
    zero, two = work.dtype.type(0), work.dtype.type(2)
    r = get_read(cp, at[0] + k)
    g = r_i - r
    y = get_read(work, d + k) + get_read(fixed, v + k) - g * g
    return min(max(y * (w_i * get_read(cp, at[1] + k)), zero), two), get_read(fixed, k) * (r_i * r)


@kernel
def _bent_cell(work, at, params, row_at, col_at, weights, flag, fixed):
    """One cell of `bent_relu`: what its row and its columns gather is left in strip 3; strip 4 gains."""
    full_width()
    a, b, d, t = at
    rp, cp = params
    v = fixed.size // 5
    piece = lanes(work)
    zero, one, two = work.dtype.type(0), work.dtype.type(1), work.dtype.type(2)
    over, close = work.dtype.type(1 / math.pi), work.dtype.type(CLOSE)
    up, more, down, by, by_more, by_down = weights
    r_i, w_i = get(rp, row_at[0]), work.dtype.type(0.5) * get(rp, row_at[0] + row_at[1])
    if b < 0:
        for low in range(0, v, piece):
            for lane in range(piece):
                k = low + lane
                y, size = _apart(work, d, cp, col_at, k, r_i, w_i, fixed, v)
                steep, turn = _turned(y, one, two, over)
                bar = get_first(work, a + k)
                put_first(work, a + k, (up * bar) * steep)
                put_third(fixed, 3 * v + k, (up * bar) * (size * turn))
                share = (by * bar) * (size * ((one - y) * steep + turn))
                put_third(fixed, 4 * v + k, get_third(fixed, 4 * v + k) + share)
        return
    for low in range(0, v, piece):
        for lane in range(piece):
            k = low + lane
            y, size = _apart(work, d, cp, col_at, k, r_i, w_i, fixed, v)
            steep, turn = _turned(y, one, two, over)
            rho = one - y
            inner = size * rho if flag & 4 != 0 else get_read(work, t + k) + get_read(fixed, 2 * v + k)
            bar, other = get_first(work, a + k), get_second(work, b + k)
            value, slope = up * bar + more * other, down * other
            flat = min(y, two - y) < close
            bend = (zero if flat else over * over * slope * inner) / (one if flat else size * turn)
            put_first(work, a + k, value * steep + bend)
            put_second(work, b + k, slope * steep)
            put_third(fixed, 3 * v + k, value * (size * turn) - (size * rho) * bend)
            share = (by * bar + by_more * other) * (size * (rho * steep + turn))
            share += (by_down * other) * (steep * inner)
            put_third(fixed, 4 * v + k, get_third(fixed, 4 * v + k) + share)


@kernel
def bent_relu(work, at, cells, params, row_at, col_at, constants, flag, fixed, buffers, sums):
    """The way back through a relu and through the source of the tangent kernel behind it, in place.

    Of adjoints a of the value's source and b of the tangent kernel's, -1 where there is none, to those of the
    covariance c that relu is applied at and of the tangent kernel t before, with

        V = s k (kappa_1 - rho kappa_0 + rho kappa_0),    S = k kappa_0,    s = the product of deviations,

    from increments d and t as they were before `tpnum.kernels.increments.relu`.  ``constants`` are the rows
    of constants, the first and the example: scales, lift, shift, then k times the coefficients of V in both
    sources and of S t in the second, and k times their derivatives by one direction.  ``flag`` is that of
    `relu`.  ``sums`` are where in ``buffers`` the adjoint of log q / 2 is gathered by rows and by columns,
    and where that of the direction is: the first number, how far those of a position are apart, and whether
    lanes are.
    """
    rows, cols, padded = cells
    rk, n, i = constants
    weights = rk[n + 3, i], rk[n + 4, i], rk[n + 5, i], rk[n + 6, i], rk[n + 7, i], rk[n + 8, i]
    v = fixed.size // 5
    a, b, d, t = at
    log, share = strip(fixed, 3 * v, v), strip(fixed, 4 * v, v)
    for k in range(v):
        share[k] = 0
    for m in range(rows.size):
        if padded[m] % 16 != 0:
            continue
        o = m * v
        column = col_at[0] + cols[m] * col_at[1]
        here = a + o, b + o if b >= 0 else -1, d + o, t + o
        _bent_cell(
            work, here, params, (row_at[0] + rows[m] * row_at[1], row_at[2]), (column, column + v), weights,
            flag, fixed,
        )  # fmt: skip
        gather(buffers, sums[0][0] + rows[m] * sums[0][1], log, sums[0][2])
        gather(buffers, sums[1][0] + cols[m] * sums[1][1], log, sums[1][2])
    gather(buffers, sums[2][0], share, sums[2][2])


@kernel
def no_bend(work, at, cells, params, row_at, col_at, constants, flag, fixed, buffers, sums):
    """What programs without have in place of `bent_relu`."""


@kernel
def data_rows(a, y, y_at, channels, buffers, at):
    """Gather the products of an adjoint with the data of the columns, channel by channel."""
    for c in range(channels):
        share = dotted(a, strip(y, y_at + c * a.size, a.size))
        put(buffers, at + c, get(buffers, at + c) + share)


@kernel
def data_cols(a, x, x_at, channels, buffers, at):
    """Gather its products with the data of the row, column by column."""
    for c in range(channels):
        x_c = get(x, x_at + c)
        for k in range(a.size):
            put(buffers, at + k, get(buffers, at + k) + x_c * a[k])
        at += a.size
