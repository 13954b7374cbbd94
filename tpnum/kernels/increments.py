"""Strips of pairs held as increments D = E (Z/s - Z'/s')^2, s a scale of each example.

Increments are bilinear, so they pass through convolutions, sums and biases without loss however near two
inputs are; covariances lose half their digits there.  With r = E(Z^2)^(1/2) / s,

    D = (r - r')^2 + 2 r r' (1 - rho).
"""

from __future__ import annotations

import math

from tpnum.kernels._jit import full_width, fused, kernel, template
from tpnum.kernels._poly import angle_and_segment, segment
from tpnum.kernels._views import (
    get,
    get_first,
    get_read,
    get_second,
    lanes,
    put,
    put_first,
    put_second,
    strip,
)


@fused
def _square(x, y):
    """(x - y)^2."""
    d = x - y
    return d * d


@fused
def _product(x, y):
    """The product x y."""
    return x * y


@template
def _over_channels(term, work, a, cells, x, x_at, y, y_at, channels, total):
    """a[k] = sum_c term(x_c, y_ck) at cell after cell, in float64 whatever the type of the registers.

    ``x_at`` and ``y_at`` are where positions begin and how far they are apart; a cell has |total| lanes.
    """
    rows, cols = cells
    v = total.size
    for m in range(rows.size):
        at = x_at[0] + rows[m] * x_at[1]
        out = a + m * v
        column = y_at[0] + cols[m] * y_at[1]
        if channels == 3:  # the sum is never in memory
            u0, u1, u2 = get(x, at), get(x, at + 1), get(x, at + 2)
            for k in range(v):
                o = column + k
                rest = term(u1, get_read(y, o + v)) + term(u2, get_read(y, o + 2 * v))
                put_first(work, out + k, work.dtype.type(term(u0, get_read(y, o)) + rest))
            continue
        if channels == 2:
            u0, u1 = get(x, at), get(x, at + 1)
            for k in range(v):
                o = column + k
                made = term(u0, get_read(y, o)) + term(u1, get_read(y, o + v))
                put_first(work, out + k, work.dtype.type(made))
            continue
        if channels == 1:
            u0 = get(x, at)
            for k in range(v):
                put_first(work, out + k, work.dtype.type(term(u0, get_read(y, column + k))))
            continue
        for k in range(v):
            put_second(total, k, 0.0)
        c = 0
        while c + 4 <= channels:
            u0, u1, u2, u3 = get(x, at + c), get(x, at + c + 1), get(x, at + c + 2), get(x, at + c + 3)
            for k in range(v):
                o = column + c * v + k
                near = term(u0, get_read(y, o)) + term(u1, get_read(y, o + v))
                far = term(u2, get_read(y, o + 2 * v)) + term(u3, get_read(y, o + 3 * v))
                put_second(total, k, get_second(total, k) + (near + far))
            c += 4
        while c < channels:
            u0 = get(x, at + c)
            for k in range(v):
                put_second(total, k, get_second(total, k) + term(u0, get_read(y, column + c * v + k)))
            c += 1
        for k in range(v):
            put_first(work, out + k, work.dtype.type(get_second(total, k)))


@kernel
def differences(work, a, cells, x, x_at, y, y_at, channels, total):
    """a[k] = sum_c (x_c - y_ck)^2, as `_over_channels` sums."""
    full_width()
    _over_channels(_square, work, a, cells, x, x_at, y, y_at, channels, total)


@kernel
def products(work, a, cells, x, x_at, y, y_at, channels, total):
    """a[k] = sum_c x_c y_ck, as `_over_channels` sums."""
    full_width()
    _over_channels(_product, work, a, cells, x, x_at, y, y_at, channels, total)


@kernel
def no_products(work, a, cells, x, x_at, y, y_at, channels, total):
    """What programs without have in place of `products`."""


@kernel
def recalled(work, a, b, v):
    """What the step before made is added: v numbers from a on gain those from b on, which are others."""
    full_width()
    for k in range(v):
        put_first(work, a + k, get_first(work, a + k) + get_read(work, b + k))


@kernel
def correlations(a, b, rp, cp, p, i):
    """Co-correlations from increments: 1 - rho = (D - (r_i - r)^2) / (2 r_i r); rows r and 1/r."""
    full_width()
    one = a.dtype.type(1)
    zero = a.dtype.type(0)
    half = a.dtype.type(0.5)
    r_i = rp[p, i]
    w_i = half * rp[p + 1, i]
    r = cp[p]
    w = cp[p + 1]
    for k in range(a.size):
        d = r_i - r[k]
        y = max((b[k] - d * d) * (w_i * w[k]), zero)
        left = max((one - y) + one, zero)
        a[k] = y if y <= one else -left


@kernel
def covariances(a, b, rp, cp, p, i):
    """Covariances from increments: s_i s (r_i r - (D - (r_i - r)^2) / 2); rows r and the scale s.

    With what is zero (r = 0) it is exactly zero, and not what rounding leaves of D.
    """
    full_width()
    half, zero = a.dtype.type(0.5), a.dtype.type(0)
    r_i = rp[p, i]
    s_i = rp[p + 1, i]
    r = cp[p]
    s = cp[p + 1]
    for k in range(a.size):
        r_k = get_read(r, k)
        d, product = r_i - r_k, r_i * r_k
        made = (s_i * get_read(s, k)) * (product - half * (get_read(b, k) - d * d))
        put_first(a, k, made if product > zero else zero)


@kernel
def gain(a, e, rp, cp, p, q, i):
    """A term c s rho of a variable: D gains (c_i - c)(s_i - s) + (c_i s + c s_i)(1 - rho).

    An empty ``e`` is a term of correlation one.
    """
    full_width()
    one = a.dtype.type(1)
    n = a.size
    c_i, s_i = rp[p, i], rp[q, i]
    c, s = strip(cp, p * cp.shape[1], n), strip(cp, q * cp.shape[1], n)
    if e.size == 0:
        for k in range(n):
            put_first(a, k, get_first(a, k) + (c_i - get_read(c, k)) * (s_i - get_read(s, k)))
        return
    for k in range(n):
        c_k, s_k, e_k = get_read(c, k), get_read(s, k), get_read(e, k)
        y = e_k + (one - math.copysign(one, e_k))  # 2 - |e| where rho < 0
        put_first(a, k, get_first(a, k) + ((c_i - c_k) * (s_i - s_k) + (c_i * s_k + c_k * s_i) * y))


@kernel
def constants(rk, ck, n, i, fixed):
    """What `relu` reads of constants n at every cell of a row i: alpha, and the products of the others."""
    full_width()
    v = fixed.size // 5
    lift, shift, down, up = rk[n + 1, i], rk[n + 2, i], rk[n + 3, i], rk[n + 4, i]
    c = n * v
    for k in range(v):
        put(fixed, k, get(ck, c + k))
        d = lift - get(ck, c + v + k)
        put(fixed, v + k, d * d)
        d = down * get(ck, c + 3 * v + k)
        put(fixed, 2 * v + k, d)
        put(fixed, 3 * v + k, d * (shift * get(ck, c + 2 * v + k)))
        put(fixed, 4 * v + k, up * get(ck, c + 4 * v + k))


@kernel
def relu(work, a, t, cells, params, row_at, col_at, alpha, flag, fixed):
    """Relu from increments to increments, and the source of the tangent kernel behind it, in place.

    With y = 1 - rho of D = a + (l_i - l)^2: D' = (u_i - u)^2 + 2 u_i u (1 - kappa_1), u = alpha r, and
    t' = d_i d (t + b_i b) kappa_0 + x_i x r_i r kappa_1.  Parameters r, 1/r of a position; constants
    alpha, l, b, d, x, the row's ``alpha`` and in ``fixed`` the rest.  ``flag`` & 1: correlations may be
    negative; & 2: the covariance u_i u kappa_1 in place of D'; & 4: t is b_i b r_i r rho, the same net's
    covariance, and nothing is read.  A cell of the padding holds the other variance and nothing else.
    With a tangent kernel its lanes are a multiple of `lanes`, without one of a vector's.
    """
    full_width()
    rows, cols, padded = cells
    rp, cp = params
    v = fixed.size // 5
    piece = lanes(work)
    one = work.dtype.type(1)
    zero = work.dtype.type(0)
    half = work.dtype.type(0.5)
    two = work.dtype.type(2)
    signed = flag & 1 != 0
    plain = flag & 2 != 0
    most = two if signed else one
    square = zero if plain else one  # D' = square (u_i - u)^2 + turn u_i u (1 - kappa_1) + keep u_i u
    turn = -one if plain else two
    keep = one if plain else zero
    first = flag & 4 != 0
    for m in range(rows.size):
        p = a + m * v
        q = t + m * v
        c = col_at[0] + cols[m] * col_at[1]
        r_at = row_at[0] + rows[m] * row_at[1]
        r_i = get(rp, r_at)
        u_i = alpha * r_i
        z_i = square * u_i
        if padded[m] % 16 != 0:
            for k in range(v):
                g = z_i - square * (get_read(fixed, k) * get_read(cp, c + k))
                put_first(work, p + k, g * g)
            continue
        w_i = half * get(rp, r_at + row_at[2])
        turn_i, keep_i = turn * u_i, keep * u_i
        if t < 0:
            for k in range(v):
                r = get_read(cp, c + k)
                g = r_i - r
                d = get_first(work, p + k) + get_read(fixed, v + k) - g * g
                y = min(max(d * (w_i * get_read(cp, c + v + k)), zero), most)
                left = y > one
                y = two - y if left else y
                gap = (one if left else y) - math.sqrt(y) * y * segment(y)
                u = get_read(fixed, k) * r
                g = z_i - square * u
                put_first(work, p + k, g * g + u * (turn_i * gap + keep_i))
        elif first:
            for low in range(0, v, piece):
                for lane in range(piece):
                    k = low + lane
                    r = get_read(cp, c + k)
                    g = r_i - r
                    d = get_first(work, p + k) + get_read(fixed, v + k) - g * g
                    y = min(max(d * (w_i * get_read(cp, c + v + k)), zero), two)
                    rho = one - y
                    left = y > one
                    y = two - y if left else y
                    f, h = angle_and_segment(y)
                    gap = (one if left else y) - h
                    u = get_read(fixed, k) * r
                    g = z_i - square * u
                    put_first(work, p + k, g * g + u * (turn_i * gap + keep_i))
                    product = r_i * r
                    old = (get_read(fixed, 3 * v + k) * (product * rho)) * (f if left else one - f)
                    put_second(work, q + k, old + (get_read(fixed, 4 * v + k) * product) * (one - gap))
        elif signed:
            for low in range(0, v, piece):
                for lane in range(piece):
                    k = low + lane
                    r = get_read(cp, c + k)
                    g = r_i - r
                    d = get_first(work, p + k) + get_read(fixed, v + k) - g * g
                    y = min(max(d * (w_i * get_read(cp, c + v + k)), zero), two)
                    left = y > one
                    y = two - y if left else y
                    f, h = angle_and_segment(y)
                    gap = (one if left else y) - h
                    u = get_read(fixed, k) * r
                    g = z_i - square * u
                    put_first(work, p + k, g * g + u * (turn_i * gap + keep_i))
                    old = get_read(fixed, 2 * v + k) * get_second(work, q + k) + get_read(fixed, 3 * v + k)
                    new = (get_read(fixed, 4 * v + k) * r) * r_i
                    put_second(work, q + k, old * (f if left else one - f) + (new - new * gap))
        else:
            for low in range(0, v, piece):
                for lane in range(piece):
                    k = low + lane
                    r = get_read(cp, c + k)
                    g = r_i - r
                    d = get_first(work, p + k) + get_read(fixed, v + k) - g * g
                    y = min(max(d * (w_i * get_read(cp, c + v + k)), zero), one)
                    f, h = angle_and_segment(y)
                    gap = y - h
                    u = get_read(fixed, k) * r
                    g = z_i - square * u
                    put_first(work, p + k, g * g + u * (turn_i * gap + keep_i))
                    old = get_read(fixed, 2 * v + k) * get_second(work, q + k) + get_read(fixed, 3 * v + k)
                    new = (get_read(fixed, 4 * v + k) * r) * r_i
                    put_second(work, q + k, old * (one - f) + (new - new * gap))
