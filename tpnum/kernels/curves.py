"""Second derivatives of expectations, strips of pairs: by Hermite series (`tpnum.kernels.series`) or closed.

For f = sum a_k h_k(z) of the row and g = sum b_k h_k of the column, with variances q and q', the
coefficients of q f'' are g_k = sqrt((k + 1)(k + 2)) a_{k + 2}: so do E f g and E f' g' change with log q / 2
at a covariance c that stays (the heat equation), and with c like E f' g' and E f'' g''.

Those of gelu, u Phi(u), are closed: what has phi(u) phi(v) in it is an expectation over Gaussians of other
covariances.  With i = 1 / (1 + q), G = q q' - c^2, D = 1 + q + q' + G

    2 pi sqrt(D) E f'' g''    =  (2 - (q + G) / D) (2 - (q' + G) / D) + 2 c^2 / D^2
    2 pi sqrt(D) q E f'' g    =  q F,    F = i (G (1 + 2 i) + 2 i q' - c^2 / D)

and the derivative of the latter by c is q c (F / D - 2 i (1 + 2 i + 1 / D + c^2 / D^2)).
"""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._elementary import meets
from tpnum.kernels._jit import fused, kernel, maker
from tpnum.kernels.series import coefficient, horner, needed, polynomial

SCRATCH = 6
"""Strips that `partials` works in."""
CELL = 10
"""Strips that `curved` works in."""
GELU = 2
"""The parity of a closed form; its coefficients are a variance q, and 1 / (1 + q)."""
OVER = 0.5 / math.pi


@fused
def _gelu_side(q, i, other, g, y, square):
    """q F, and its derivative by c over c."""
    more = 1.0 + 2.0 * i
    f = i * (g * more + 2.0 * (i * other) - square * y)
    return q * f, q * (f * y - 2.0 * i * (more + y + square * (y * y)))


@fused
def _gelu(away, c, q, i, other, j):
    """Of gelu, ``away`` = 1 - rho^2: E f'' g'', then E f g by log q / 2 and log q' / 2, then E f' g'."""
    g = (q * other) * away
    y = 1.0 / (1.0 + q + other + g)
    root = OVER * math.sqrt(y)
    square = c * c
    first, slope = _gelu_side(q, i, other, g, y, square)
    second, turn = _gelu_side(other, j, q, g, y, square)
    by_c = (2.0 - (q + g) * y) * (2.0 - (other + g) * y) + 2.0 * square * (y * y)
    bar = root * c
    return root * by_c, root * first, root * second, bar * slope, bar * turn


@kernel
def _gelu_partials(rho, q, i, others, js, r, s, out):
    """As `partials`."""
    by_c, first, second, first_slope, second_slope = out[0], out[1], out[2], out[3], out[4]
    size = q * r
    for k in range(rho.size):
        c = rho[k] * (size * (others[k] * s[k]))
        away = (1.0 - rho[k]) * (1.0 + rho[k])
        by_c[k], first[k], second[k], first_slope[k], second_slope[k] = _gelu(away, c, q, i, others[k], js[k])


@kernel
def _gelu_curved(a, b, e, steep, q, i, others, js, r, s, first, second):
    """As `curved`."""
    size = q * r
    for k in range(a.size):
        y = abs(e[k])
        c = math.copysign(1.0 - y, e[k]) * (size * (others[k] * s[k]))
        by_c, by_first, by_second, slope, turn = _gelu(y * (2.0 - y), c, q, i, others[k], js[k])
        bar = b[k] if b.size > 0 else 0.0
        first[k] = a[k] * by_first + bar * slope
        second[k] = a[k] * by_second + bar * turn
        a[k] = a[k] * steep[k] + bar * by_c


@kernel
def partials(rho, number, curves, rp, cp, p, i, j, work, out):
    """Rows of ``out``: E f'' g'', then E f g by log q / 2 and by log q' / 2, then E f' g' by them.

    ``curves`` are entries (first coefficient, count, parity, first limit, how many), limits as in
    `tpnum.kernels.machine.expand`, a and g per row, b and h per column, without the zeros of the parity.
    Parameter p is 1 / sqrt(q).  Returns 1 where the series does not reach, else 0.
    """
    entries, terms, least, row_coefs, row_bends, col_coefs, col_bends = curves
    start, count, parity = entries[number, 0], entries[number, 1], entries[number, 2]
    at, many = entries[number, 3], entries[number, 4]
    n = rho.size
    if parity == GELU:
        _gelu_partials(
            rho, row_coefs[i, start], row_bends[i, start], col_coefs[start, j : j + n],
            col_bends[start, j : j + n], rp[p, i], cp[p, j : j + n], out,
        )  # fmt: skip
        return 0
    closest = 1.0
    for k in range(n):
        closest = min(closest, 1.0 - abs(rho[k]))
    used = needed(closest, terms, least, at, many)
    if used < 0:
        return 1
    x, s0 = work[0, :n], work[1, :n]
    for k in range(n):
        x[k] = rho[k] if parity == 0 else rho[k] * rho[k]
    a, g = (row_coefs[i, start : start + count], 0, 1), (row_bends[i, start : start + count], 0, 1)
    b, h = col_coefs[start : start + count], col_bends[start : start + count]
    u0, u1, w0, w1 = work[2, :n], work[3, :n], work[4, :n], work[5, :n]
    polynomial(x, s0, g, h, j, used)
    horner(x, u0, u1, g, b, j, used)
    horner(x, w0, w1, a, h, j, used)
    r, s = rp[p, i], cp[p, j : j + n]
    by_c, first, second, first_slope, second_slope = out[0], out[1], out[2], out[3], out[4]
    if parity == 0:
        for k in range(n):
            t = r * s[k]
            by_c[k] = (t * t) * s0[k]
            first[k] = u0[k]
            second[k] = w0[k]
            first_slope[k] = t * u1[k]
            second_slope[k] = t * w1[k]
    elif parity > 0:
        for k in range(n):
            t = r * s[k]
            by_c[k] = (t * t) * s0[k]
            first[k] = u0[k]
            second[k] = w0[k]
            first_slope[k] = t * (2.0 * rho[k] * u1[k])
            second_slope[k] = t * (2.0 * rho[k] * w1[k])
    else:
        for k in range(n):
            t = r * s[k]
            by_c[k] = (t * t) * (rho[k] * s0[k])
            first[k] = rho[k] * u0[k]
            second[k] = rho[k] * w0[k]
            first_slope[k] = t * (u0[k] + 2.0 * (x[k] * u1[k]))
            second_slope[k] = t * (w0[k] + 2.0 * (x[k] * w1[k]))
    return 0


@fused
def _meet(e, parity, r, s):
    """Whether rho is 1, or -1 of a function with a parity, at one variance."""
    return meets(e) and r == s and r > 0.0 and (parity != 0 or math.copysign(1.0, e) > 0.0)


@kernel
def curved(a, b, e, steep, entry, terms, least, alpha, beta, rp, cp, i, work):
    """The way back through E f g, in place: from its adjoint a and b of E f' g', if any, to that of c.

    Of pairs with co-correlations e and derivative kernel ``steep``.  ``alpha`` says where those of the row
    are, as `coefficient` reads them, and how many, ``beta`` has those of the columns: coefficients relative
    to the root of E f^2, those of f'' being made of them; parameters are 1 / sqrt(q) and that root.  The
    first strips of ``work`` are left with the adjoints of log q / 2 and of log q' / 2.  Returns 1 where the
    series does not reach, else 0.

    Where ``entry`` says so two more parameters are the derivatives of E f^2 and of E f'^2 by log q.  They are
    those by log q / 2 and by log q' / 2 where rho is 1, and it stays there: no series is asked.
    """
    parity, known = entry[2], entry[3] > 0
    n = a.size
    if parity == GELU:
        q, r = coefficient(alpha, 0), coefficient(alpha, 1)
        _gelu_curved(a, b, e, steep, q, r, beta[0], beta[1], rp[0, i], cp[0], work[0, :n], work[1, :n])
        return 0
    first, second, own, r, s = work[0, :n], work[1, :n], work[9, :n], rp[0, i], cp[0]
    closest, found = 1.0, 0
    for k in range(n):
        if known and _meet(e[k], parity, r, s[k]):
            sign = math.copysign(1.0, e[k])
            slope = b[k] if b.size > 0 else 0.0
            value = a[k] * (sign if parity < 0 else 1.0)
            own[k] = value * rp[2, i] + slope * (sign if parity > 0 else 1.0) * rp[3, i]
            found += 1
        else:
            closest = min(closest, abs(e[k]))
    used = needed(closest, terms, least, entry[4], entry[5])
    if used < 0:
        first[:] = 0.0
        second[:] = 0.0
        return 1
    _by_series(a, b, e, steep, parity, used, alpha, beta, rp, cp, i, work)
    if found > 0:
        for k in range(n):
            if _meet(e[k], parity, r, s[k]):
                first[k] = own[k]
                second[k] = own[k]
                a[k] = 0.0
    return 0


@maker
def _by_series(a, b, e, steep, parity, used, alpha, beta, rp, cp, i, work):
    """As `curved`, with ``used`` coefficients of f.

    The weights of those of q f'' are the row's: they are coefficients of f of one index more where every
    other is zero, else of two.
    """
    n = a.size
    first, second, x, rho = work[0, :n], work[1, :n], work[2, :n], work[3, :n]
    u0, u1, w0, w1, s0 = work[4, :n], work[5, :n], work[6, :n], work[7, :n], work[8, :n]
    for k in range(n):
        rho[k] = math.copysign(1.0 - abs(e[k]), e[k])
        x[k] = rho[k] if parity == 0 else rho[k] * rho[k]
    later = 2 if parity == 0 else 1
    step, start = 3 - later, 1 if parity < 0 else 0
    left, right = min(used, alpha[3] - later), min(used, beta.shape[0] - later)
    made = np.empty(3 * used)  # of q f'', of f times the weights of q' g'', and of q f'' times those
    for k in range(used):
        degree = start + step * k
        weight = math.sqrt((degree + 1.0) * (degree + 2.0)) * rp[1, i]
        bend = weight * coefficient(alpha, k + later) if k < left else 0.0
        made[k] = bend
        made[used + k] = weight * coefficient(alpha, k)
        made[2 * used + k] = bend * math.sqrt((degree + 1.0) * (degree + 2.0))
    turns = beta[later:]
    scale = cp[1]
    if b.size == 0:
        polynomial(x, u0, (made, 0, 1), beta, 0, left)
        polynomial(x, w0, (made, used, 1), turns, 0, right)
        for k in range(n):
            bar = a[k] * (rho[k] * scale[k] if parity < 0 else scale[k])
            first[k] = bar * u0[k]
            second[k] = bar * w0[k]
            a[k] *= steep[k]
        return
    horner(x, u0, u1, (made, 0, 1), beta, 0, left)
    horner(x, w0, w1, (made, used, 1), turns, 0, right)
    polynomial(x, s0, (made, 2 * used, 1), turns, 0, min(left, right))
    r, s = rp[0, i], cp[0]
    for k in range(n):
        t = r * s[k]
        odd = rho[k] if parity < 0 else 1.0
        if parity == 0:
            by_first, by_second = u1[k], w1[k]
        elif parity > 0:
            by_first, by_second = 2.0 * rho[k] * u1[k], 2.0 * rho[k] * w1[k]
        else:
            by_first, by_second = u0[k] + 2.0 * (x[k] * u1[k]), w0[k] + 2.0 * (x[k] * w1[k])
        bar = t * b[k]
        first[k] = scale[k] * (a[k] * (odd * u0[k]) + bar * by_first)
        second[k] = scale[k] * (a[k] * (odd * w0[k]) + bar * by_second)
        a[k] = a[k] * steep[k] + scale[k] * ((t * bar) * (odd * s0[k]))


@kernel
def no_curves(a, b, e, steep, entry, terms, least, alpha, beta, rp, cp, i, work):
    """What programs without have in place of `curved`."""
    return 1
