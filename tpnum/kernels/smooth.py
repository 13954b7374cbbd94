"""Strips of pairs through smooth activations with a closed-form dual: erf, gelu, sin, exp, Gaussians, Gabor.

A strip is a piece of row i of a block of pairs: ``e[k]`` belongs to the pair (i, j0 + k) and holds the
co-correlation copysign(1 - |rho|, rho); ``rp[p:, i]`` and ``cp[p:, j0 + k]`` hold the row and column
parameters of the operation (`tpnum.gauss.closed.smooth` makes them); ``out_e`` may be ``e``, and
``out_d`` has length 0 when E f'(u) f'(v) is not wanted.

Near rho = +-1 the state must keep its digits.  Split f into its even and odd parts, of correlations
rho_even, rho_odd and weights a^2 + b^2 = 1:

    1 - rho' = ((a_i - a_j)^2 + (b_i - b_j)^2)/2 + a_i a_j (1 - rho_even) + b_i b_j (1 - rho_odd),

all terms >= 0.  Exponentials, Gaussians and Gabor have 1 - rho_even, 1 - rho_odd without cancellation at
no cost.  For erf, gelu and sin that takes three times the work of the plain formula, so it is done only on
the shortest piece of the strip that holds every pair with |e| < NEAR.
"""

from __future__ import annotations

import math

from tpnum.kernels._jit import full_width, fused, kernel, template
from tpnum.kernels._smooth_pairs import (
    compose,
    erf_far,
    erf_near,
    exp_pair,
    gabor_pair,
    gauss_pair,
    gelu_far,
    gelu_near,
    sin_far,
    sin_near,
)
from tpnum.kernels._strip import in_place, near_piece
from tpnum.kernels._views import get_first, get_read, put_first, put_second, strip


@fused
def _columns(cp, p, j):
    """Parameters of the columns from j on, and how far those of a column are apart."""
    begin = p * cp.shape[1] + j
    return strip(cp, begin, cp.size - begin), cp.shape[1]


@template
def _in_pieces(far, near, low, high, x, d, rp, cp, p, i, j):
    """The strip x and its slopes d, if any, by ``near`` from low to high and by ``far`` elsewhere."""
    slopes = 1 if d.size > 0 else 0
    if low > 0:
        far(strip(x, 0, low), strip(d, 0, slopes * low), rp, cp, p, i, j)
    if high > low:
        size = high - low
        near(strip(x, low, size), strip(d, low, slopes * size), rp, cp, p, i, j + low)
    if high < x.size:
        size = x.size - high
        far(strip(x, high, size), strip(d, high, slopes * size), rp, cp, p, i, j + high)


# erf: rows s, w = 1 - s, 1/sqrt A, slope scale, odd weight, even weight, cos A, sqrt A, sqrt(A/s^2)


@kernel
def _erf_far_loop(x, d, rp, cp, p, i, j):
    full_width()
    s, w, n, t, b, a = rp[p, i], rp[p + 1, i], rp[p + 2, i], rp[p + 3, i], rp[p + 4, i], rp[p + 5, i]
    c, v = _columns(cp, p, j)
    g, zero = x.dtype.type(1), x.dtype.type(0)
    for k in range(x.size):
        e = get_first(x, k)
        gap, r = erf_far(e, s, get_read(c, k), w, get_read(c, v + k), n, get_read(c, 2 * v + k))
        if d.size:
            put_second(d, k, t * get_read(c, 3 * v + k) * r)
        if a == 0:
            put_first(x, k, math.copysign(gap, e))
        else:
            b_, a_ = get_read(c, 4 * v + k), get_read(c, 5 * v + k)
            put_first(x, k, compose(zero, gap, math.copysign(g, e), a, a_, b, b_))


@kernel
def _erf_near_loop(x, d, rp, cp, p, i, j):
    full_width()
    s, w, n, t, b, a = rp[p, i], rp[p + 1, i], rp[p + 2, i], rp[p + 3, i], rp[p + 4, i], rp[p + 5, i]
    c, r, v = rp[p + 6, i], rp[p + 7, i], rp[p + 8, i]
    m = j + x.size
    s_, w_, n_, t_, b_, a_ = (
        cp[p, j:m],
        cp[p + 1, j:m],
        cp[p + 2, j:m],
        cp[p + 3, j:m],
        cp[p + 4, j:m],
        cp[p + 5, j:m],
    )
    c_, r_, v_ = cp[p + 6, j:m], cp[p + 7, j:m], cp[p + 8, j:m]
    g, zero = x.dtype.type(1), x.dtype.type(0)
    for k in range(x.size):
        gap, f = erf_near(x[k], s, s_[k], w, w_[k], n, n_[k], c, c_[k], r, r_[k], v, v_[k])
        if d.size:
            d[k] = t * t_[k] * f
        x[k] = compose(zero, gap, math.copysign(g, x[k]), a, a_[k], b, b_[k])


@kernel
def erf(e, rp, cp, p, i, j0, out_e, out_d):
    """Dual of a erf(b u) + c."""
    in_place(e, out_e)
    low, high = near_piece(out_e)
    _in_pieces(_erf_far_loop, _erf_near_loop, low, high, out_e, out_d, rp, cp, p, i, j0)


# gelu: rows s, w, t = 1 - s^2, scale, cos A, odd weight, even weight, sqrt G, 1/sqrt G


@kernel
def _gelu_far_loop(x, d, rp, cp, p, i, j):
    full_width()
    s, w, t, n = rp[p, i], rp[p + 1, i], rp[p + 2, i], rp[p + 3, i]
    c, v = _columns(cp, p, j)
    for k in range(x.size):
        s_, w_, t_, n_ = get_read(c, k), get_read(c, v + k), get_read(c, 2 * v + k), get_read(c, 3 * v + k)
        gap, f = gelu_far(get_first(x, k), s, s_, w, w_, t, t_, n, n_)
        if d.size:
            put_second(d, k, f)
        put_first(x, k, gap)


@kernel
def _gelu_near_loop(x, d, rp, cp, p, i, j):
    full_width()
    s, w, t, c, b, a = rp[p, i], rp[p + 1, i], rp[p + 2, i], rp[p + 4, i], rp[p + 5, i], rp[p + 6, i]
    r, v = rp[p + 7, i], rp[p + 8, i]
    m = j + x.size
    s_, w_, t_, c_ = cp[p, j:m], cp[p + 1, j:m], cp[p + 2, j:m], cp[p + 4, j:m]
    b_, a_, r_, v_ = cp[p + 5, j:m], cp[p + 6, j:m], cp[p + 7, j:m], cp[p + 8, j:m]
    g = x.dtype.type(1)
    for k in range(x.size):
        gap, f = gelu_near(x[k], s, s_[k], w, w_[k], t, t_[k], c, c_[k], r, r_[k], v, v_[k])
        if d.size:
            d[k] = f
        x[k] = compose(gap, abs(x[k]), math.copysign(g, x[k]), a, a_[k], b, b_[k])


@kernel
def gelu(e, rp, cp, p, i, j0, out_e, out_d):
    """Dual of u Phi(u) = u/2 + u erf(u/sqrt 2)/2."""
    in_place(e, out_e)
    low, high = near_piece(out_e)
    _in_pieces(_gelu_far_loop, _gelu_near_loop, low, high, out_e, out_d, rp, cp, p, i, j0)


# sin: rows g = b sqrt q, |sin c| and |cos c| scaled for f, then for f', even weight, odd weight,
# 1 - exp(-2 g^2), sqrt(sinh(g^2)/g^2)


@kernel
def _sin_far_loop(x, d, rp, cp, p, i, j):
    full_width()
    g, a, b, u, q = rp[p, i], rp[p + 1, i], rp[p + 2, i], rp[p + 3, i], rp[p + 4, i]
    c, v = _columns(cp, p, j)
    for k in range(x.size):
        even, odd = a * get_read(c, v + k), b * get_read(c, 2 * v + k)
        even_d, odd_d = u * get_read(c, 3 * v + k), q * get_read(c, 4 * v + k)
        gap, f = sin_far(get_first(x, k), g, get_read(c, k), even, odd, even_d, odd_d)
        if d.size:
            put_second(d, k, f)
        put_first(x, k, gap)


@kernel
def _sin_near_loop(x, d, rp, cp, p, i, j):
    full_width()
    g, u, v, a, b = rp[p, i], rp[p + 3, i], rp[p + 4, i], rp[p + 5, i], rp[p + 6, i]
    w, h = rp[p + 7, i], rp[p + 8, i]
    m = j + x.size
    g_, u_, v_, a_ = cp[p, j:m], cp[p + 3, j:m], cp[p + 4, j:m], cp[p + 5, j:m]
    b_, w_, h_ = cp[p + 6, j:m], cp[p + 7, j:m], cp[p + 8, j:m]
    zero = x.dtype.type(0)
    one_ = x.dtype.type(1)
    for k in range(x.size):
        even, odd = sin_near(x[k], g, g_[k], w, w_[k], h, h_[k])
        if d.size:
            _, f = sin_far(x[k], g, g_[k], zero, zero, u * u_[k], v * v_[k])
            d[k] = f
        x[k] = compose(even, odd, math.copysign(one_, x[k]), a, a_[k], b, b_[k])


@kernel
def sin(e, rp, cp, p, i, j0, out_e, out_d):
    """Dual of a sin(b u + c): cos, and the feature of the Gaussian kernel, are of this form."""
    in_place(e, out_e)
    low, high = near_piece(out_e)
    if rp[p, i] < 0.5 and rp[p + 5, i] != 0:  # the even part is almost constant: near for any rho
        low, high = 0, e.size
    _in_pieces(_sin_far_loop, _sin_near_loop, low, high, out_e, out_d, rp, cp, p, i, j0)


@kernel
def exp(e, rp, cp, p, i, j0, out_e, out_d):
    """Dual of a exp(b u), and of the function with dual e^{gamma (rho + shift)}.

    Rows: g = |b| sqrt q (sqrt gamma), slope scale.
    """
    full_width()
    in_place(e, out_e)
    x, d = out_e, out_d
    g, r = rp[p, i], rp[p + 1, i]
    g_, r_ = cp[p, j0 : j0 + x.size], cp[p + 1, j0 : j0 + x.size]
    one_ = x.dtype.type(1)
    for k in range(x.size):
        gap = exp_pair(x[k], g, g_[k])
        if d.size:
            d[k] = (r * r_[k]) * (one_ - gap)
        x[k] = gap


@kernel
def gauss(e, rp, cp, p, i, j0, out_e, out_d):
    """Dual of a exp(b u^2).  Rows: h = sqrt(1 - 4 b q), 1/h, P = 2 b q/h, slope scale."""
    full_width()
    in_place(e, out_e)
    x, d = out_e, out_d
    h, v, w, r = rp[p, i], rp[p + 1, i], rp[p + 2, i], rp[p + 3, i]
    m = j0 + x.size
    h_, v_, w_, r_ = cp[p, j0:m], cp[p + 1, j0:m], cp[p + 2, j0:m], cp[p + 3, j0:m]
    one_ = x.dtype.type(1)
    for k in range(x.size):
        gap, f = gauss_pair(x[k], h, h_[k], v, v_[k], w, w_[k])
        if d.size:
            d[k] = (r * r_[k]) * (math.copysign(one_ - abs(x[k]), x[k]) * (f * f * f))
        x[k] = gap


@kernel
def gabor(e, rp, cp, p, i, j0, out_e, out_d):
    """Dual of exp(-u^2) sin u.

    Rows: h = sqrt(1 + 4 q), 1/h, P = 2 q/h, L = sqrt(q)/h, sqrt(sinh(L^2)/L^2), slope scale.
    """
    full_width()
    in_place(e, out_e)
    x, d = out_e, out_d
    h, v, w, a, b, r = rp[p, i], rp[p + 1, i], rp[p + 2, i], rp[p + 3, i], rp[p + 4, i], rp[p + 5, i]
    m = j0 + x.size
    h_, v_, w_ = cp[p, j0:m], cp[p + 1, j0:m], cp[p + 2, j0:m]
    a_, b_, r_ = cp[p + 3, j0:m], cp[p + 4, j0:m], cp[p + 5, j0:m]
    for k in range(x.size):
        gap, f = gabor_pair(x[k], h, h_[k], v, v_[k], w, w_[k], a, a_[k], b, b_[k])
        if d.size:
            d[k] = (r * r_[k]) * f
        x[k] = math.copysign(gap, x[k])
