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
from typing import Any

import numpy as np

from tpnum.kernels._elementary import (
    angle_of,
    asin_quotient,
    decay,
    decline,
    half,
    inverse_turn,
    one,
    quarter_turn,
    sinh_quotient,
    sinh_quotient_low,
    sinh_ratio_low,
    tiny,
)
from tpnum.kernels._jit import fused, kernel

NEAR = 2.0**-7
"""Pairs with 1 - |rho| below this take the formulas without cancellation."""


@fused
def in_place(e: Any, out_e: Any) -> Any:
    """Copy e to out_e unless they are one: a loop that reads and writes the same array needs no overlap check."""
    if e.ctypes.data != out_e.ctypes.data:
        for k in range(e.size):
            out_e[k] = e[k]


@fused
def near_piece(x: Any) -> Any:
    """The shortest [low, high) that holds every |x[k]| < NEAR; (0, 0) if there is none."""
    limit = x.dtype.type(NEAR)
    count = np.int32(0)
    for k in range(x.size):
        count += np.int32(abs(x[k]) < limit)
    if count == 0:
        return 0, 0
    low = 0
    while abs(x[low]) >= limit:
        low += 1
    high = x.size
    while abs(x[high - 1]) >= limit:
        high -= 1
    return low, high


@fused
def _compose(gap_even: Any, gap_odd: Any, s: Any, ai: Any, aj: Any, bi: Any, bj: Any) -> Any:
    """The state of even + odd from 1 - rho_even and 1 - |rho_odd|, where rho_even >= 0 and s = sign(rho_odd)."""
    g, h = one(s), half(s)
    da, db = ai - aj, bi - bj
    even, odd = ai * aj, bi * bj
    far = (g + g) - gap_odd
    down = h * (da * da + db * db) + (even * gap_even + odd * (gap_odd if s > 0 else far))
    up = h * (db * db + (ai * ai + aj * aj)) + (even * (g - gap_even) + odd * (far if s > 0 else gap_odd))
    return down if down <= g else -up


# --- erf: rows s, w = 1 - s, 1/sqrt A, slope scale, odd weight, even weight, cos A, sqrt A, sqrt(A/s^2) ---


@fused
def _erf_far(e: Any, si: Any, sj: Any, wi: Any, wj: Any, ni: Any, nj: Any) -> Any:
    """1 - asin(x)/sqrt(A_i A_j) and 1/sqrt(1 - x^2), x = s_i s_j |rho|."""
    y, g = abs(e), one(e)
    a = si * sj
    x = a * (g - y)
    c = math.sqrt(((wi + wj - wi * wj) + a * y) * (g + x))
    return g - ni * nj * angle_of(x, c), g / c


@fused
def _bend(si: Any, sj: Any, ki: Any, kj: Any, step: Any, a: Any, c: Any) -> Any:
    """(A_i + A_j)/2 - asin(a) with sin A = s^2, cos A = k, a = s_i s_j, c^2 = 1 - a^2, step = s_i - s_j.

    Half of [A_i - asin a] - [asin a - A_j], each relatively accurate: the error is eps |A_i - A_j|.
    """
    slope = step * (si + sj)
    sine_i = si * slope / (si * c + sj * ki + tiny(c))
    sine_j = sj * slope / (si * kj + sj * c + tiny(c))
    upper = math.copysign(angle_of(abs(sine_i), ki * c + si * si * a), slope)
    lower = math.copysign(angle_of(abs(sine_j), kj * c + sj * sj * a), slope)
    return half(c) * (upper - lower)


@fused
def _swing(y: Any, x: Any, a: Any, cx: Any, c: Any) -> Any:
    """asin(a) - asin(x) for x = a (1 - y), cx and c their cosines."""
    g = one(y)
    return angle_of(a * (y * ((g + g) - y)) / (cx + (g - y) * c), c * cx + a * x)


@fused
def _erf_near(
    e: Any,
    si: Any,
    sj: Any,
    wi: Any,
    wj: Any,
    ni: Any,
    nj: Any,
    ki: Any,
    kj: Any,
    ri: Any,
    rj: Any,
    bi: Any,
    bj: Any,
) -> Any:
    """What `_erf_far` gives, without cancellation.

    1 - rho = [1 - asin(s_i s_j)/sqrt(A_i A_j)] + [asin(s_i s_j) - asin x]/sqrt(A_i A_j).  The first bracket is
    (mean of A - asin(s_i s_j) - (sqrt A_i - sqrt A_j)^2/2)/sqrt(A_i A_j); for small s the linear part of erf cancels
    from it when A is replaced by B = A/s^2, whose differences are those of a power series.
    """
    y, g, h = abs(e), one(e), half(e)
    a, v = si * sj, wi + wj - wi * wj
    x = a * (g - y)
    c, cx = math.sqrt(v * (g + a)), math.sqrt((v + a * y) * (g + x))
    zi, zj = si * si, sj * sj
    step = wj - wi if zi + zj > h else si - sj
    dr, db = ri - rj, bi - bj
    high = (_bend(si, sj, ki, kj, step, a, c) - h * dr * dr) * (ni * nj)
    slope = step * (si + sj)
    series = zi * asin_quotient(zi * zi, zi * zj) - zj * asin_quotient(zi * zj, zj * zj)
    low = h * (slope * series - db * db) / (bi * bj)
    radial = low if (zi if zi > zj else zj) <= h else high
    return (radial if radial > g - g else g - g) + _swing(y, x, a, cx, c) * (ni * nj), g / cx


@kernel
def _erf_far_loop(x, d, rp, cp, p, i, j):
    s, w, n, t, b, a = rp[p, i], rp[p + 1, i], rp[p + 2, i], rp[p + 3, i], rp[p + 4, i], rp[p + 5, i]
    m = j + x.size
    s_, w_, n_, t_ = cp[p, j:m], cp[p + 1, j:m], cp[p + 2, j:m], cp[p + 3, j:m]
    g, zero = x.dtype.type(1), x.dtype.type(0)
    if a == 0:
        for k in range(x.size):
            gap, r = _erf_far(x[k], s, s_[k], w, w_[k], n, n_[k])
            if d.size:
                d[k] = t * t_[k] * r
            x[k] = math.copysign(gap, x[k])
    else:
        b_, a_ = cp[p + 4, j:m], cp[p + 5, j:m]
        for k in range(x.size):
            gap, r = _erf_far(x[k], s, s_[k], w, w_[k], n, n_[k])
            if d.size:
                d[k] = t * t_[k] * r
            x[k] = _compose(zero, gap, math.copysign(g, x[k]), a, a_[k], b, b_[k])


@kernel
def _erf_near_loop(x, d, rp, cp, p, i, j):
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
        gap, f = _erf_near(x[k], s, s_[k], w, w_[k], n, n_[k], c, c_[k], r, r_[k], v, v_[k])
        if d.size:
            d[k] = t * t_[k] * f
        x[k] = _compose(zero, gap, math.copysign(g, x[k]), a, a_[k], b, b_[k])


@kernel
def erf(e, rp, cp, p, i, j0, out_e, out_d):
    """Dual of a erf(b u) + c."""
    in_place(e, out_e)
    low, high = near_piece(out_e)
    if low > 0:
        _erf_far_loop(out_e[:low], out_d[:low], rp, cp, p, i, j0)
    if high > low:
        _erf_near_loop(out_e[low:high], out_d[low:high], rp, cp, p, i, j0 + low)
    if high < e.size:
        _erf_far_loop(out_e[high:], out_d[high:], rp, cp, p, i, j0 + high)


# --- gelu: rows s, w, t = 1 - s^2, scale, cos A, odd weight, even weight, sqrt G, 1/sqrt G ---------------


@fused
def _gelu_far(e: Any, si: Any, sj: Any, wi: Any, wj: Any, ti: Any, tj: Any, ni: Any, nj: Any) -> Any:
    """State and slope correlation, x = s_i s_j rho, c^2 = 1 - x^2: with A = asin x,

    E f f / sqrt(q_i q_j) = rho/4 + [rho A + s_i s_j (c + rho^2 t_i t_j/c)]/(2 pi),
    E f' f' = 1/4 + [A + (x/c) (t_i + t_j + t_i t_j/c^2)]/(2 pi).
    """
    y, g = abs(e), one(e)
    s = math.copysign(g, e)
    a = si * sj
    r = g - y
    x = a * r
    c = math.sqrt(((wi + wj - wi * wj) + a * y) * (g + x))
    v = g / c
    turn, swing = quarter_turn(e), angle_of(x, c)
    tt = ti * tj
    rho = (ni * nj) * (r * (s * turn + swing) + a * (r * r * tt * v + c))
    d = inverse_turn(e) * (turn + s * (swing + x * v * (tt * v * v + (ti + tj))))
    return math.copysign(g - abs(rho), rho), d


@fused
def _gelu_bend(si: Any, sj: Any, ti: Any, tj: Any, ki: Any, kj: Any, step: Any, a: Any, c: Any) -> Any:
    """(G_i + G_j)/2 - G_ij for G_ij = asin a + a (c + t_i t_j/c), every difference with its factor `step`."""
    slope = step * (si + sj)
    wide_i, wide_j = slope / (ki + c), slope / (kj + c)
    vi, vj, v = one(a) / ki, one(a) / kj, one(a) / c
    # s_i t_i - s_j t_j, then 1/cos A_i - 1/c and 1/c - 1/cos A_j
    skew = step * ti - sj * slope
    lift_i, lift_j = si * si * wide_i * vi * v, sj * sj * wide_j * vj * v
    upper = si * ((step * ki - sj * si * si * wide_i) + ti * (skew * vi + sj * tj * lift_i))
    lower = sj * ((step * c - sj * sj * sj * wide_j) + tj * (skew * v + sj * tj * lift_j))
    return _bend(si, sj, ki, kj, step, a, c) + half(a) * (upper - lower)


@fused
def _gelu_near(
    e: Any,
    si: Any,
    sj: Any,
    wi: Any,
    wj: Any,
    ti: Any,
    tj: Any,
    ki: Any,
    kj: Any,
    ri: Any,
    rj: Any,
    mi: Any,
    mj: Any,
) -> Any:
    """1 - rho of the even part u erf(u/sqrt 2)/2, and the slope correlation of the whole."""
    y, g, h = abs(e), one(e), half(e)
    s = math.copysign(g, e)
    a, b = si * sj, wi + wj - wi * wj
    r, eta = g - y, y * ((g + g) - y)
    x, tt = a * r, ti * tj
    c, cx = math.sqrt(b * (g + a)), math.sqrt((b + a * y) * (g + x))
    v, vx = g / c, g / cx
    step = wj - wi if si + sj > g else si - sj
    dr = ri - rj
    radial = _gelu_bend(si, sj, ti, tj, ki, kj, step, a, c) - h * dr * dr
    radial = radial if radial > g - g else g - g
    swing = angle_of(x, cx)
    wide = a * a * eta / (c + cx)
    fall = (_swing(y, x, a, cx, c) + y * swing) + a * (tt * (wide + c * eta) * (v * vx) - wide)
    d = inverse_turn(e) * (quarter_turn(e) + s * (swing + x * vx * (tt * vx * vx + (ti + tj))))
    return (radial + fall) * (mi * mj), d


@kernel
def _gelu_far_loop(x, d, rp, cp, p, i, j):
    s, w, t, n = rp[p, i], rp[p + 1, i], rp[p + 2, i], rp[p + 3, i]
    m = j + x.size
    s_, w_, t_, n_ = cp[p, j:m], cp[p + 1, j:m], cp[p + 2, j:m], cp[p + 3, j:m]
    for k in range(x.size):
        gap, f = _gelu_far(x[k], s, s_[k], w, w_[k], t, t_[k], n, n_[k])
        if d.size:
            d[k] = f
        x[k] = gap


@kernel
def _gelu_near_loop(x, d, rp, cp, p, i, j):
    s, w, t, c, b, a = rp[p, i], rp[p + 1, i], rp[p + 2, i], rp[p + 4, i], rp[p + 5, i], rp[p + 6, i]
    r, v = rp[p + 7, i], rp[p + 8, i]
    m = j + x.size
    s_, w_, t_, c_ = cp[p, j:m], cp[p + 1, j:m], cp[p + 2, j:m], cp[p + 4, j:m]
    b_, a_, r_, v_ = cp[p + 5, j:m], cp[p + 6, j:m], cp[p + 7, j:m], cp[p + 8, j:m]
    g = x.dtype.type(1)
    for k in range(x.size):
        gap, f = _gelu_near(x[k], s, s_[k], w, w_[k], t, t_[k], c, c_[k], r, r_[k], v, v_[k])
        if d.size:
            d[k] = f
        x[k] = _compose(gap, abs(x[k]), math.copysign(g, x[k]), a, a_[k], b, b_[k])


@kernel
def gelu(e, rp, cp, p, i, j0, out_e, out_d):
    """Dual of u Phi(u) = u/2 + u erf(u/sqrt 2)/2."""
    in_place(e, out_e)
    low, high = near_piece(out_e)
    if low > 0:
        _gelu_far_loop(out_e[:low], out_d[:low], rp, cp, p, i, j0)
    if high > low:
        _gelu_near_loop(out_e[low:high], out_d[low:high], rp, cp, p, i, j0 + low)
    if high < e.size:
        _gelu_far_loop(out_e[high:], out_d[high:], rp, cp, p, i, j0 + high)


# --- sin: rows g = b sqrt q, |sin c| and |cos c| scales of f and of f', even weight, odd weight, -------------
# --- 1 - exp(-2 g^2), sqrt(sinh(g^2)/g^2) ------------------------------------------------------------------


@fused
def _sin_far(e: Any, gi: Any, gj: Any, even: Any, odd: Any, even_d: Any, odd_d: Any) -> Any:
    """State and slope correlation: E f f ~ sin^2 c cosh k + cos^2 c sinh k, k = g_i g_j rho; slope: swapped."""
    y, g, h = abs(e), one(e), half(e)
    s = math.copysign(g, e)
    dg, gg = gi - gj, gi * gj
    damp = decay(-(h * dg * dg + gg * y))
    sinh = h * decline(-(gg + gg) * (g - y))
    rho = damp * (even * (g - sinh) + odd * (s * sinh))
    return math.copysign(g - abs(rho), rho), damp * (even_d * (s * sinh) + odd_d * (g - sinh))


@fused
def _sin_near(e: Any, gi: Any, gj: Any, mi: Any, mj: Any, hi: Any, hj: Any) -> Any:
    """1 - rho of cos and 1 - |rho| of sin, m = 1 - exp(-2 g^2).

    With P, Q = (g_i^2 + g_j^2)/2 +- k and R = (g_i^2 - g_j^2)/2

        1 - rho_cos^2 = (sinh P sinh Q + sinh^2 R)/(cosh g_i^2 cosh g_j^2), 1 - rho_sin^2 = (... - ...)/(sinh ... sinh ...);

    for g < 1 the linear part of sin would cancel from the latter: there the series of sinh(z)/z is subtracted.
    """
    y, g, h = abs(e), one(e), half(e)
    r, two = g - y, g + g
    dg, sg, gg = gi - gj, gi + gj, gi * gj
    q = h * dg * dg + gg * y
    pq = decline(-two * (h * dg * dg + gg * (two - y))) * decline(-two * q)
    rest = decline(-abs(dg) * sg)
    rest = rest * rest * (g - (mi if mi < mj else mj))
    damp, sinh = decay(-q), decline(-two * gg * r)
    ci, cj = two - mi, two - mj
    square = (pq + rest) / (ci * cj)
    cosine = square / (g + math.sqrt(abs(g - square))) if square < h else g - damp * (two - sinh) / math.sqrt(ci * cj)
    square = (pq - rest) / (mi * mj + tiny(e))
    plain = g - damp * sinh / (math.sqrt(mi * mj) + tiny(e))
    ai, aj = gi * gi, gj * gj
    slope, dh, z = dg * sg, hi - hj, ai * aj
    bend = slope * (ai * sinh_quotient(ai * ai, z) - aj * sinh_quotient(z, aj * aj)) - dh * dh
    fall = z * (y * (two - y)) * sinh_quotient(z, z * r * r)
    low = y + r * (h * bend + fall) / (hi * hj)
    top, bottom = (ai, aj) if ai > aj else (aj, ai)
    wide = square / (g + math.sqrt(abs(g - square))) if bottom > h and square < h else plain
    return cosine, low if top < g else wide


@kernel
def _sin_far_loop(x, d, rp, cp, p, i, j):
    g, a, b, u, v = rp[p, i], rp[p + 1, i], rp[p + 2, i], rp[p + 3, i], rp[p + 4, i]
    m = j + x.size
    g_, a_, b_, u_, v_ = cp[p, j:m], cp[p + 1, j:m], cp[p + 2, j:m], cp[p + 3, j:m], cp[p + 4, j:m]
    for k in range(x.size):
        gap, f = _sin_far(x[k], g, g_[k], a * a_[k], b * b_[k], u * u_[k], v * v_[k])
        if d.size:
            d[k] = f
        x[k] = gap


@kernel
def _sin_near_loop(x, d, rp, cp, p, i, j):
    g, u, v, a, b = rp[p, i], rp[p + 3, i], rp[p + 4, i], rp[p + 5, i], rp[p + 6, i]
    w, h = rp[p + 7, i], rp[p + 8, i]
    m = j + x.size
    g_, u_, v_, a_ = cp[p, j:m], cp[p + 3, j:m], cp[p + 4, j:m], cp[p + 5, j:m]
    b_, w_, h_ = cp[p + 6, j:m], cp[p + 7, j:m], cp[p + 8, j:m]
    zero = x.dtype.type(0)
    one_ = x.dtype.type(1)
    for k in range(x.size):
        even, odd = _sin_near(x[k], g, g_[k], w, w_[k], h, h_[k])
        if d.size:
            _, f = _sin_far(x[k], g, g_[k], zero, zero, u * u_[k], v * v_[k])
            d[k] = f
        x[k] = _compose(even, odd, math.copysign(one_, x[k]), a, a_[k], b, b_[k])


@kernel
def sin(e, rp, cp, p, i, j0, out_e, out_d):
    """Dual of a sin(b u + c): cos, and the feature of the Gaussian kernel, are of this form."""
    in_place(e, out_e)
    low, high = near_piece(out_e)
    if rp[p, i] < 0.5 and rp[p + 5, i] != 0:  # the even part is almost constant: near for any rho
        low, high = 0, e.size
    if low > 0:
        _sin_far_loop(out_e[:low], out_d[:low], rp, cp, p, i, j0)
    if high > low:
        _sin_near_loop(out_e[low:high], out_d[low:high], rp, cp, p, i, j0 + low)
    if high < e.size:
        _sin_far_loop(out_e[high:], out_d[high:], rp, cp, p, i, j0 + high)


# --- without cancellation everywhere: exp, Gaussian, Gabor -------------------------------------------------


@fused
def _exp(e: Any, gi: Any, gj: Any) -> Any:
    """1 - rho' = 1 - exp(-(g_i - g_j)^2/2 - g_i g_j (1 - rho))."""
    y, dg = abs(e), gi - gj
    two = one(e) + one(e)
    away = y if math.copysign(one(e), e) > 0 else two - y
    return decline(-(half(e) * dg * dg + gi * gj * away))


@kernel
def exp(e, rp, cp, p, i, j0, out_e, out_d):
    """Dual of a exp(b u), and of the function with dual e^{gamma (rho + shift)}.  Rows: g = |b| sqrt q, slope scale."""
    in_place(e, out_e)
    x, d = out_e, out_d
    g, r = rp[p, i], rp[p + 1, i]
    g_, r_ = cp[p, j0 : j0 + x.size], cp[p + 1, j0 : j0 + x.size]
    one_ = x.dtype.type(1)
    for k in range(x.size):
        gap = _exp(x[k], g, g_[k])
        if d.size:
            d[k] = (r * r_[k]) * (one_ - gap)
        x[k] = gap


@fused
def _gauss(e: Any, hi: Any, hj: Any, vi: Any, vj: Any, pi: Any, pj: Any) -> Any:
    """1 - (1 + nu)^{-1/2} and (1 + nu)^{-1/2}, nu = (h_i - h_j)^2/(2 h_i h_j) + P_i P_j (1 - rho^2)."""
    y, g, dh = abs(e), one(e), hi - hj
    nu = half(e) * dh * dh * (vi * vj) + pi * pj * (y * ((g + g) - y))
    t = math.sqrt(g + nu)
    w = g / (t * (g + t))
    return nu * w, w * (g + t)


@kernel
def gauss(e, rp, cp, p, i, j0, out_e, out_d):
    """Dual of a exp(b u^2).  Rows: h = sqrt(1 - 4 b q), 1/h, P = 2 b q/h, slope scale."""
    in_place(e, out_e)
    x, d = out_e, out_d
    h, v, w, r = rp[p, i], rp[p + 1, i], rp[p + 2, i], rp[p + 3, i]
    m = j0 + x.size
    h_, v_, w_, r_ = cp[p, j0:m], cp[p + 1, j0:m], cp[p + 2, j0:m], cp[p + 3, j0:m]
    one_ = x.dtype.type(1)
    for k in range(x.size):
        gap, f = _gauss(x[k], h, h_[k], v, v_[k], w, w_[k])
        if d.size:
            d[k] = (r * r_[k]) * (math.copysign(one_ - abs(x[k]), x[k]) * (f * f * f))
        x[k] = gap


@fused
def _gabor(
    e: Any, hi: Any, hj: Any, vi: Any, vj: Any, pi: Any, pj: Any, li: Any, lj: Any, bi: Any, bj: Any
) -> Any:
    """1 - |rho'|, and E f' f' up to the slope scales, of a Gaussian (n = 1 + nu as in `_gauss`) times a sine:

    rho' = n^{-1/2} exp(-x) sinh(k)/sqrt(sinh L_i^2 sinh L_j^2), k = L_i L_j rho/n,
    4 x = P_i P_j (1 - rho^2)/n + nu/(h_i h_j n) + (1/h_i - 1/h_j)^2/2.
    """
    y, g, h = abs(e), one(e), half(e)
    two = g + g
    dh, dv, vv, r = hi - hj, vi - vj, vi * vj, g - y
    nu0 = h * dh * dh * vv
    across = pi * pj * (y * (two - y))
    nu = nu0 + across
    n = g + nu
    v = g / n
    t = math.sqrt(n)
    w = g / (t * (g + t))
    root = w * (g + t)
    loss_n = nu * w
    loss_n = loss_n * (g + root + root * root)
    loss_x = decline(-(h * h) * (across * v + vv * (nu * v) + h * dv * dv))
    ai, aj = li * li, lj * lj
    ll = li * lj
    k = ll * r * v
    z, zk = ai * aj, k * k
    db = bi - bj
    bend = (li - lj) * (li + lj) * (ai * sinh_quotient_low(ai * ai, z) - aj * sinh_quotient_low(z, aj * aj)) - db * db
    fall = z * ((nu + y) * v) * (g + r * v) * sinh_quotient_low(z, zk)
    loss_s = (h * bend + fall) / (bi * bj)
    loss = loss_n + (g - loss_n) * (y + r * loss_x)
    sinh = zk * sinh_ratio_low(zk) * k + k
    cosh = math.sqrt(g + sinh * sinh)
    four = two + two
    d = root * (g - loss_x) * (
        sinh * k * (four + two * v * (vv + g + nu0)) + cosh * (vv * v + (four + four) * zk)
    )
    return loss + (g - loss) * loss_s, d


@kernel
def gabor(e, rp, cp, p, i, j0, out_e, out_d):
    """Dual of exp(-u^2) sin u.  Rows: h = sqrt(1 + 4 q), 1/h, P = 2 q/h, L = sqrt(q)/h, sqrt(sinh(L^2)/L^2), slope scale."""
    in_place(e, out_e)
    x, d = out_e, out_d
    h, v, w, l, b, r = rp[p, i], rp[p + 1, i], rp[p + 2, i], rp[p + 3, i], rp[p + 4, i], rp[p + 5, i]  # noqa: E741
    m = j0 + x.size
    h_, v_, w_ = cp[p, j0:m], cp[p + 1, j0:m], cp[p + 2, j0:m]
    l_, b_, r_ = cp[p + 3, j0:m], cp[p + 4, j0:m], cp[p + 5, j0:m]
    for k in range(x.size):
        gap, f = _gabor(x[k], h, h_[k], v, v_[k], w, w_[k], l, l_[k], b, b_[k])
        if d.size:
            d[k] = (r * r_[k]) * f
        x[k] = math.copysign(gap, x[k])
