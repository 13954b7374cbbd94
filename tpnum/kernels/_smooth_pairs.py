"""One pair through a smooth activation: the formulas behind the strips of `tpnum.kernels.smooth`.

Arguments end in i (row) or j (column); e = copysign(1 - |rho|, rho), y = |e|.  "far" is the plain formula,
"near" the one without cancellation at rho = +-1.  There 1 - rho' is [its value at rho = 1, of second order
in the difference of the variances] + [the rest]; the first bracket is a difference of two differences,
each relatively accurate, so that its error is eps |q_i - q_j|/q and not eps.
"""

from __future__ import annotations

import math
from typing import Any

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
from tpnum.kernels._jit import fused


@fused
def compose(gap_even: Any, gap_odd: Any, s: Any, ai: Any, aj: Any, bi: Any, bj: Any) -> Any:
    """The state of even + odd from 1 - rho_even and 1 - |rho_odd|; rho_even >= 0, s = sign(rho_odd)."""
    g, h = one(s), half(s)
    da, db = ai - aj, bi - bj
    even, odd = ai * aj, bi * bj
    far = (g + g) - gap_odd
    down = h * (da * da + db * db) + (even * gap_even + odd * (gap_odd if s > 0 else far))
    up = h * (db * db + (ai * ai + aj * aj)) + (even * (g - gap_even) + odd * (far if s > 0 else gap_odd))
    return down if down <= g else -up


@fused
def erf_far(e: Any, si: Any, sj: Any, wi: Any, wj: Any, ni: Any, nj: Any) -> Any:
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
def erf_near(
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
    """What `erf_far` gives, without cancellation.

    1 - rho = [1 - asin(s_i s_j)/sqrt(A_i A_j)] + [asin(s_i s_j) - asin x]/sqrt(A_i A_j).  The first bracket
    is (mean of A - asin(s_i s_j) - (sqrt A_i - sqrt A_j)^2/2)/sqrt(A_i A_j); for small s the linear part of
    erf cancels from it when A is replaced by B = A/s^2, whose differences are those of a power series.
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


@fused
def gelu_far(e: Any, si: Any, sj: Any, wi: Any, wj: Any, ti: Any, tj: Any, ni: Any, nj: Any) -> Any:
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
def gelu_near(
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


@fused
def sin_far(e: Any, gi: Any, gj: Any, even: Any, odd: Any, even_d: Any, odd_d: Any) -> Any:
    """State and slope: E f f ~ sin^2 c cosh k + cos^2 c sinh k, E f'f' has them swapped, k = g_i g_j rho."""
    y, g, h = abs(e), one(e), half(e)
    s = math.copysign(g, e)
    dg, gg = gi - gj, gi * gj
    damp = decay(-(h * dg * dg + gg * y))
    sinh = h * decline(-(gg + gg) * (g - y))
    rho = damp * (even * (g - sinh) + odd * (s * sinh))
    return math.copysign(g - abs(rho), rho), damp * (even_d * (s * sinh) + odd_d * (g - sinh))


@fused
def sin_near(e: Any, gi: Any, gj: Any, mi: Any, mj: Any, hi: Any, hj: Any) -> Any:
    """1 - rho of cos and 1 - |rho| of sin, m = 1 - exp(-2 g^2).

    With P, Q = (g_i^2 + g_j^2)/2 +- k and R = (g_i^2 - g_j^2)/2

        1 - rho_cos^2 = (sinh P sinh Q + sinh^2 R)/(cosh g_i^2 cosh g_j^2),
        1 - rho_sin^2 = (sinh P sinh Q - sinh^2 R)/(sinh g_i^2 sinh g_j^2);

    for g < 1 the linear part of sin cancels from the latter, so there the series of sinh(z)/z are subtracted.
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
    plain = g - damp * (two - sinh) / math.sqrt(ci * cj)
    cosine = square / (g + math.sqrt(abs(g - square))) if square < h else plain
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


@fused
def exp_pair(e: Any, gi: Any, gj: Any) -> Any:
    """1 - rho' = 1 - exp(-(g_i - g_j)^2/2 - g_i g_j (1 - rho))."""
    y, dg = abs(e), gi - gj
    two = one(e) + one(e)
    away = y if math.copysign(one(e), e) > 0 else two - y
    return decline(-(half(e) * dg * dg + gi * gj * away))


@fused
def gauss_pair(e: Any, hi: Any, hj: Any, vi: Any, vj: Any, pi: Any, pj: Any) -> Any:
    """1 - (1 + nu)^{-1/2} and (1 + nu)^{-1/2}, nu = (h_i - h_j)^2/(2 h_i h_j) + P_i P_j (1 - rho^2)."""
    y, g, dh = abs(e), one(e), hi - hj
    nu = half(e) * dh * dh * (vi * vj) + pi * pj * (y * ((g + g) - y))
    t = math.sqrt(g + nu)
    w = g / (t * (g + t))
    return nu * w, w * (g + t)


@fused
def gabor_pair(
    e: Any, hi: Any, hj: Any, vi: Any, vj: Any, pi: Any, pj: Any, li: Any, lj: Any, bi: Any, bj: Any
) -> Any:
    """1 - |rho'|, and E f' f' up to the slope scales; n = 1 + nu as in `gauss_pair`,

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
    series = ai * sinh_quotient_low(ai * ai, z) - aj * sinh_quotient_low(z, aj * aj)
    bend = (li - lj) * (li + lj) * series - db * db
    fall = z * ((nu + y) * v) * (g + r * v) * sinh_quotient_low(z, zk)
    loss_s = (h * bend + fall) / (bi * bj)
    loss = loss_n + (g - loss_n) * (y + r * loss_x)
    sinh = zk * sinh_ratio_low(zk) * k + k
    cosh = math.sqrt(g + sinh * sinh)
    four = two + two
    slope = sinh * k * (four + two * v * (vv + g + nu0)) + cosh * (vv * v + (four + four) * zk)
    return loss + (g - loss) * loss_s, root * (g - loss_x) * slope
