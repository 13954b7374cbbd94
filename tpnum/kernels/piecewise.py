"""Strips of pairs through positively homogeneous activations and the dense layer behind them.

A strip is a piece of row i of a block of pairs: ``e[k]`` belongs to the pair (i, j0 + k) and holds the
co-correlation copysign(1 - |rho|, rho); ``rp[p:, i]`` and ``cp[p:, j0 + k]`` hold the row and column
parameters of the operation.  With y = |e|, g = theta(|rho|)/pi and h = (sin theta - theta cos theta)/pi
(`tpnum.kernels._poly`) the arc-cosine kernels of CS09 are, for rho >= 0 and for rho < 0,

    kappa_0 = 1 - g, g        kappa_1 = |rho| + h, h,

so 1 - kappa_1 = y - h near rho = 1: every difference below is between terms of like size or none.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tpnum.kernels._jit import full_width, fused, kernel, maker
from tpnum.kernels._poly import angle, angle_and_segment, angle_coefficients, segment
from tpnum.kernels._strip import in_place

MAX_POWER = 8
"""Largest n of `rectpow`."""


@fused
def _gap(one: Any, x: Any, s: Any, a_i: Any, b_i: Any, a: Any, b: Any) -> Any:
    """Co-correlation of rho' = a_i a rho + b_i b, where a^2 + b^2 = 1 for either row and |rho| = 1 - x.

    1 -+ rho' = ((a_i - a)^2 + (b_i -+ b)^2) / 2 + a_i a (1 -+ rho): no term is negative.  s = sign rho.
    """
    w = a_i * a
    sign = math.copysign(one, w * (s * (one - x)) + b_i * b)
    near = x if sign * s > 0 else (one + one) - x
    da = a_i - a
    db = b_i - sign * b
    return math.copysign((da * da + db * db) / (one + one) + w * near, sign)


@fused
def _abrelu(one: Any, y: Any, s: Any, w1: Any, w2: Any) -> Any:
    """Co-correlation and slope correlation of alpha u + beta |u|, w1 = alpha^2/(alpha^2 + beta^2) = 1 - w2.

    rho' = w1 rho + w2 (|rho| + 2h) and w1 + w2 sign(rho) (1 - 2g).
    """
    two = one + one
    g, h = angle_and_segment(y)
    g, h = two * g, two * h
    bent = y - h
    up = w1 * (two - y) + w2 * bent
    down = w1 * y + w2 * (two - bent)
    crossed = up if up <= one else -down
    gap = y - w2 * h if s > 0 else crossed
    return gap, (w1 + s * w2) - s * (w2 * g)


@kernel
def abrelu(
    e: np.ndarray,
    rp: np.ndarray,
    cp: np.ndarray,
    p: int,
    i: int,
    j0: int,
    out_e: np.ndarray,
    out_d: np.ndarray,
) -> None:
    """Dual of a min(u, 0) + b max(u, 0) = alpha u + beta |u|.  Rows: w1, w2, alpha^2 + beta^2 (constants)."""
    full_width()
    in_place(e, out_e)
    x = out_e
    w1, w2, m = rp[p, i], rp[p + 1, i], rp[p + 2, i]
    one = x.dtype.type(1)
    if out_d.size == 0:
        for k in range(x.size):
            gap, _ = _abrelu(one, abs(x[k]), math.copysign(one, x[k]), w1, w2)
            x[k] = gap
    else:
        for k in range(x.size):
            gap, d = _abrelu(one, abs(x[k]), math.copysign(one, x[k]), w1, w2)
            x[k] = gap
            out_d[k] = m * d


@kernel
def step(
    e: np.ndarray,
    rp: np.ndarray,
    cp: np.ndarray,
    p: int,
    i: int,
    j0: int,
    out_e: np.ndarray,
    out_d: np.ndarray,
) -> None:
    """Dual of 1{u > 0}: rho' = kappa_0; the a.e. derivative is zero.  No parameters."""
    full_width()
    in_place(e, out_e)
    x = out_e
    one = x.dtype.type(1)
    for k in range(x.size):
        y = abs(x[k])
        g = math.sqrt(y) * angle(y)
        x[k] = g if math.copysign(one, x[k]) > 0 else one - g
    out_d[:] = 0


@kernel
def sign(
    e: np.ndarray,
    rp: np.ndarray,
    cp: np.ndarray,
    p: int,
    i: int,
    j0: int,
    out_e: np.ndarray,
    out_d: np.ndarray,
) -> None:
    """Dual of sign(u): rho' = (2/pi) arcsin rho; the a.e. derivative is zero.  No parameters."""
    full_width()
    in_place(e, out_e)
    x = out_e
    one = x.dtype.type(1)
    for k in range(x.size):
        y = abs(x[k])
        g = math.sqrt(y) * angle(y)
        x[k] = math.copysign(min(g + g, one), x[k])
    out_d[:] = 0


@kernel
def _power_tables(n: int, v: np.ndarray, s: np.ndarray) -> None:
    """Fill v with V_n and s with g_n of `rectpow` in the precision of v.

    F_n' = n^2 F_{n-1} for F_n = E f f' integrates V term by term; g_n = (1 - h_n)/(1 - x) has the partial
    sums of the coefficients of h_n(rho) = E (uv)^n / (2n-1)!!.
    """
    c = angle_coefficients(v[0])
    for k in range(len(c)):
        w = np.float64(c[k])
        for m in range(1, n + 1):
            w *= m * m / (2 * m - 1) / (m + k + 0.5)
        v[k] = w
    s[:] = 0
    odd = 1.0
    for m in range(1, n + 1):
        odd *= 2 * m - 1
    tail = 0.0
    for k in range(n, 0, -1):
        if (n - k) % 2 == 0:
            half = (n - k) // 2
            ratio = math.gamma(n + 1.0) / (math.gamma(half + 1.0) * 2.0**half)
            tail += ratio * ratio / math.gamma(k + 1.0) / odd
        s[k - 1] = tail


@fused
def _tail(v: Any, n: Any, y: Any, one: Any) -> Any:
    """kappa_n(-x) = r^{2n+1} V_n(y), y = 1 - x; n < 16."""
    value = v[len(angle_coefficients(y)) - 1]
    for k in range(len(angle_coefficients(y)) - 2, -1, -1):
        value = value * y + v[k]
    square = y
    power = math.sqrt(y) * (square if n & 1 else one)
    square *= square
    power *= square if n & 2 else one
    square *= square
    power *= square if n & 4 else one
    square *= square
    power *= square if n & 8 else one
    return power * value


@fused
def _bulk(s: Any, x: Any) -> Any:
    """(1 - h_n(x)) / (1 - x)."""
    value = s[MAX_POWER - 1]
    for k in range(MAX_POWER - 2, -1, -1):
        value = value * x + s[k]
    return value


@maker
def rectpow(
    e: np.ndarray,
    rp: np.ndarray,
    cp: np.ndarray,
    p: int,
    i: int,
    j0: int,
    out_e: np.ndarray,
    out_d: np.ndarray,
) -> None:
    """Dual of 1{u > 0} u^n, n <= MAX_POWER; its derivative kernel is n^2 times that of n - 1.

    kappa_n(x) = h_n(x) - (-1)^n kappa_n(-x).  Rows: n (constant), sqrt(E f'(u)^2).
    """
    full_width()
    in_place(e, out_e)
    x = out_e
    n = int(rp[p, i])
    one = x.dtype.type(1)
    v = np.empty(len(angle_coefficients(one)), x.dtype)
    s = np.empty(MAX_POWER, x.dtype)
    if n == 0:
        out_d[:] = 0
    elif out_d.size > 0:
        m_i = rp[p + 1, i]
        m = cp[p + 1, j0 : j0 + x.size]
        _power_tables(n - 1, v, s)
        turn = one if n % 2 == 1 else -one
        for k in range(x.size):
            y = abs(x[k])
            z = _tail(v, n - 1, y, one)
            near = one - (y * _bulk(s, one - y) + turn * z)
            out_d[k] = (m_i * m[k]) * (near if math.copysign(one, x[k]) > 0 else z)
    _power_tables(n, v, s)
    turn = one if n % 2 == 0 else -one
    for k in range(x.size):
        y = abs(x[k])
        z = _tail(v, n, y, one)
        near = y * _bulk(s, one - y) + turn * z
        x[k] = near if math.copysign(one, x[k]) > 0 else one - z


@kernel
def relu_layer(e: np.ndarray, t: np.ndarray, signed: bool) -> None:
    """Relu, then a dense layer without bias, in place: e' = 1 - kappa_1, t' = kappa_0 t + kappa_1.

    ``t`` is the tangent kernel over the root of both variances, or empty.  ``signed`` is False only if no
    correlation of the strip is negative, as behind every relu.
    """
    full_width()
    one = e.dtype.type(1)
    if signed and t.size > 0:
        for k in range(e.size):
            y = abs(e[k])
            right = math.copysign(one, e[k]) > 0
            g, h = angle_and_segment(y)
            gap = (y if right else one) - h
            e[k] = gap
            t[k] = t[k] * (one - g if right else g) + (one - gap)
    elif signed:
        for k in range(e.size):
            y = abs(e[k])
            e[k] = (y if math.copysign(one, e[k]) > 0 else one) - math.sqrt(y) * y * segment(y)
    elif t.size > 0:
        for k in range(e.size):
            y = e[k]
            g, h = angle_and_segment(y)
            gap = y - h
            e[k] = gap
            t[k] = t[k] * (one - g) + (one - gap)
    else:
        for k in range(e.size):
            e[k] -= math.sqrt(e[k]) * e[k] * segment(e[k])


@kernel
def relu_bias_layer(
    e: np.ndarray, t: np.ndarray, rp: np.ndarray, cp: np.ndarray, p: int, i: int, j0: int, signed: bool
) -> None:
    """Relu, then a dense layer with bias in ntk parametrisation, in place; otherwise as `relu_layer`.

    rho' = a_i a kappa_1 + b_i b,  t' = a_i a kappa_0 t + rho'.  Rows: a = sqrt(s_w^2 q / (2 q')),
    b = sqrt(s_b^2 / q'), where q' = s_w^2 q / 2 + s_b^2 (a = 1, b = 0 if that is zero).
    """
    full_width()
    a_i, b_i = rp[p, i], rp[p + 1, i]
    a = cp[p, j0 : j0 + e.size]
    b = cp[p + 1, j0 : j0 + e.size]
    one = e.dtype.type(1)
    half = e.dtype.type(0.5)
    if signed and t.size > 0:
        for k in range(e.size):
            y = abs(e[k])
            right = math.copysign(one, e[k]) > 0
            g, h = angle_and_segment(y)
            w = a_i * a[k]
            da = a_i - a[k]
            db = b_i - b[k]
            gap = w * ((y if right else one) - h) + half * (da * da + db * db)
            e[k] = gap
            t[k] = (w * t[k]) * (one - g if right else g) + (one - gap)
    elif signed:
        for k in range(e.size):
            y = abs(e[k])
            da = a_i - a[k]
            db = b_i - b[k]
            gap = (y if math.copysign(one, e[k]) > 0 else one) - math.sqrt(y) * y * segment(y)
            e[k] = (a_i * a[k]) * gap + half * (da * da + db * db)
    elif t.size > 0:
        for k in range(e.size):
            y = e[k]
            g, h = angle_and_segment(y)
            w = a_i * a[k]
            da = a_i - a[k]
            db = b_i - b[k]
            gap = w * (y - h) + half * (da * da + db * db)
            e[k] = gap
            t[k] = (w * t[k]) * (one - g) + (one - gap)
    else:
        for k in range(e.size):
            y = e[k]
            da = a_i - a[k]
            db = b_i - b[k]
            e[k] = (a_i * a[k]) * (y - math.sqrt(y) * y * segment(y)) + half * (da * da + db * db)


@kernel
def abrelu_layer(
    e: np.ndarray, t: np.ndarray, rp: np.ndarray, cp: np.ndarray, p: int, i: int, j0: int
) -> None:
    """Any a min(u, 0) + b max(u, 0), then any dense layer, in place; t may be empty.

    With rho_f, d of `abrelu` (d over alpha^2 + beta^2):  rho' = a_i a rho_f + b_i b and
    t' = c_i c d t + x_i x rho_f + y_i y.  Rows: w1, w2 (constants), a, b, c, x, y.  For a tangent kernel
    divided by u_i u on either side of the layer (any u > 0), with m = alpha^2 + beta^2:

        a = sqrt(s_w^2 m q / q'),  b = sqrt(s_b^2 / q'),
        c = sqrt(s_w^2 m) u / u',  x = sqrt(t_w m q) / u',  y = sqrt(t_b) / u',

    t_w, t_b the variances of the tangent weights and biases: s_w^2, s_b^2 in ntk parametrisation.
    """
    full_width()
    w1, w2 = rp[p, i], rp[p + 1, i]
    a_i, b_i, c_i, x_i, y_i = rp[p + 2, i], rp[p + 3, i], rp[p + 4, i], rp[p + 5, i], rp[p + 6, i]
    a = cp[p + 2, j0 : j0 + e.size]
    b = cp[p + 3, j0 : j0 + e.size]
    one = e.dtype.type(1)
    if t.size == 0:
        for k in range(e.size):
            gap, _ = _abrelu(one, abs(e[k]), math.copysign(one, e[k]), w1, w2)
            e[k] = _gap(one, abs(gap), math.copysign(one, gap), a_i, b_i, a[k], b[k])
        return
    c = cp[p + 4, j0 : j0 + e.size]
    x = cp[p + 5, j0 : j0 + e.size]
    y = cp[p + 6, j0 : j0 + e.size]
    for k in range(e.size):
        gap, d = _abrelu(one, abs(e[k]), math.copysign(one, e[k]), w1, w2)
        rho = math.copysign(one - abs(gap), gap)
        t[k] = (c_i * c[k]) * (d * t[k]) + ((x_i * x[k]) * rho + y_i * y[k])
        e[k] = _gap(one, abs(gap), math.copysign(one, gap), a_i, b_i, a[k], b[k])


@kernel
def dense_layer(
    e: np.ndarray, t: np.ndarray, rp: np.ndarray, cp: np.ndarray, p: int, i: int, j0: int
) -> None:
    """A dense layer alone, in place: rows a, b, c, x, y of `abrelu_layer`, t of its input or empty."""
    full_width()
    a_i, b_i, c_i, x_i, y_i = rp[p, i], rp[p + 1, i], rp[p + 2, i], rp[p + 3, i], rp[p + 4, i]
    a = cp[p, j0 : j0 + e.size]
    b = cp[p + 1, j0 : j0 + e.size]
    one = e.dtype.type(1)
    if t.size > 0:
        c = cp[p + 2, j0 : j0 + e.size]
        x = cp[p + 3, j0 : j0 + e.size]
        y = cp[p + 4, j0 : j0 + e.size]
        for k in range(e.size):
            rho = math.copysign(one - abs(e[k]), e[k])
            t[k] = (c_i * c[k]) * t[k] + ((x_i * x[k]) * rho + y_i * y[k])
    for k in range(e.size):
        e[k] = _gap(one, abs(e[k]), math.copysign(one, e[k]), a_i, b_i, a[k], b[k])


@kernel
def first_layer(
    e: np.ndarray, t: np.ndarray, rp: np.ndarray, cp: np.ndarray, p: int, i: int, j0: int
) -> None:
    """A dense layer on data in ntk parametrisation, where t' = rho': rows a, b of `relu_bias_layer`."""
    full_width()
    a_i, b_i = rp[p, i], rp[p + 1, i]
    a = cp[p, j0 : j0 + e.size]
    b = cp[p + 1, j0 : j0 + e.size]
    one = e.dtype.type(1)
    for k in range(e.size):
        gap = _gap(one, abs(e[k]), math.copysign(one, e[k]), a_i, b_i, a[k], b[k])
        e[k] = gap
        t[k] = math.copysign(one - abs(gap), gap)


@kernel
def covariance(
    e: np.ndarray, rp: np.ndarray, cp: np.ndarray, p: int, i: int, j0: int, out: np.ndarray
) -> None:
    """Covariances s_i s rho.  Row: s, the root of the variance."""
    full_width()
    s_i = rp[p, i]
    s = cp[p, j0 : j0 + e.size]
    one = e.dtype.type(1)
    for k in range(e.size):
        out[k] = (s_i * s[k]) * math.copysign(one - abs(e[k]), e[k])
