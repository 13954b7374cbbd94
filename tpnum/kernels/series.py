"""Strips of pairs through any smooth activation, by Hermite series.

With phi(mu + sqrt(q) z) = sum_n alpha_n h_n(z), h_n orthonormal, a = alpha/|alpha| on the row side and b on
the column side,

    rho' = sum_n a_n b_n rho^n,        E f' g' = (|alpha||beta|/sqrt(q q')) d rho'/d rho,

one loop of two multiply-adds and a product per term: d = d x + p, p = p x + a_k b_k.  Functions with a
parity have a series in x = rho^2 and half the terms: coefficient k belongs to h_{2k} or h_{2k+1}.

Near rho = 1 (and -1, for a function with a parity), if both sides are the same function,

    1 - rho' = |a - b|^2/2 + sum_n a_n b_n (1 - rho^n)

has no cancellation: 1 - x^k = (1 - x)(1 + x + ... + x^{k-1}), whose sum over k is a Horner scheme over the
tails sum_{l > k} a_l b_l.  What the truncated vectors lack of unit length, s and t, counts as fully
correlated: |a - b|^2 has (sqrt(s) - sqrt(t))^2 more.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tpnum.kernels._elementary import half, rounding
from tpnum.kernels._jit import full_width, fused, kernel, maker
from tpnum.kernels._strip import in_place, near_piece
from tpnum.kernels._views import get, get_first, get_read, get_second, put_first, put_second, strip

NONE, EVEN, ODD = 0, 1, -1
"""Parities: coefficient k belongs to h_k, h_{2k}, h_{2k+1}."""

EXACT, STABLE = 1, 2
"""Flags of a function with itself: |rho| = 1 with equal E f^2 and E f'^2 is rho' = 1; and 1 - rho' near
|rho| = 1 is had without cancellation."""

FLAT = 0.992
"""A function with this share of its norm in h_0 is almost constant: rho' is near 1 for any rho."""

LOST = 16
"""What is lacking of unit length within so many roundings is not looked at."""

SCRATCH = 5
"""Strips of memory that a series takes."""

_BLOCK = 1024


@kernel
def _least(bits, sign):
    """The smallest of some integers without the bit of the sign."""
    full_width()
    found = sign
    for k in range(bits.size):
        found = min(found, get(bits, k) & sign)
    return found


@kernel
def closest_of(e, work):
    """The smallest |e|, by way of a strip of memory: their bits are in their order, and integers are SIMD."""
    if e.itemsize == 8:
        work.view(np.int64)[0] = _least(e.view(np.int64), np.int64(0x7FFFFFFFFFFFFFFF))
    else:
        work.view(np.int32)[0] = _least(e.view(np.int32), np.int32(0x7FFFFFFF))
    return work[0]


@kernel
def needed(closest, terms, least, at, limits):
    """How many coefficients serve pairs with 1 - |rho| of ``closest`` or more, -1 where all are too few.

    From ``at`` on, ``limits`` entries of ``terms`` are for what is at least those of ``least``.
    """
    for n in range(at, at + limits):
        if closest >= least[n]:
            return terms[n]
    return -1


@fused
def coefficient(a: Any, k: Any) -> Any:
    """a_k of a row's coefficients: numbers, where the first of them is, and how far they are apart."""
    return get_read(a[0], a[1] + k * a[2])


@fused
def _eight(a: Any, k: Any) -> Any:
    """a_k .. a_{k+7}."""
    at = _lines(a[1] + k * a[2], a[2])
    near = get_read(a[0], at[0]), get_read(a[0], at[1]), get_read(a[0], at[2]), get_read(a[0], at[3])
    far = get_read(a[0], at[4]), get_read(a[0], at[5]), get_read(a[0], at[6]), get_read(a[0], at[7])
    return (*near, *far)


@fused
def _lines(at: Any, across: Any) -> Any:
    """Where eight lines of a table begin, the first at ``at``."""
    fifth = at + 4 * across
    near = at, at + across, at + 2 * across, at + 3 * across
    return (*near, fifth, fifth + across, fifth + 2 * across, fifth + 3 * across)


@fused
def _next(z: Any, q: Any, s: Any, a: Any, b: Any) -> Any:
    """One term more of a polynomial q at z and of its derivative s."""
    return q * z + a * b, s * z + q


@kernel
def horner(x, p, d, a, b, j, terms):
    """p = sum_k a_k b_kj x^k and its derivative d; eight terms a pass keep p and d in registers.

    ``a`` are numbers, where the first coefficient is among them and how far they are apart.
    """
    full_width()
    n, across, flat = x.size, b.shape[1], strip(b, 0, b.size)
    zero = x.dtype.type(0)
    for m in range(n):
        put_first(p, m, zero)
        put_second(d, m, zero)
    k = terms
    while k & 3:
        k -= 1
        a0, b0 = coefficient(a, k), k * across + j
        for m in range(n):
            q, s = _next(get_read(x, m), get_first(p, m), get_second(d, m), a0, get_read(flat, b0 + m))
            put_second(d, m, s)
            put_first(p, m, q)
    if k & 4:
        k -= 4
        a0, a1, a2, a3 = (
            coefficient(a, k),
            coefficient(a, k + 1),
            coefficient(a, k + 2),
            coefficient(a, k + 3),
        )
        b0, b1, b2, b3, _, _, _, _ = _lines(k * across + j, across)
        for m in range(n):
            z, q, s = get_read(x, m), get_first(p, m), get_second(d, m)
            q, s = _next(z, q, s, a3, get_read(flat, b3 + m))
            q, s = _next(z, q, s, a2, get_read(flat, b2 + m))
            q, s = _next(z, q, s, a1, get_read(flat, b1 + m))
            q, s = _next(z, q, s, a0, get_read(flat, b0 + m))
            put_second(d, m, s)
            put_first(p, m, q)
    while k > 0:
        k -= 8
        a0, a1, a2, a3, a4, a5, a6, a7 = _eight(a, k)
        b0, b1, b2, b3, b4, b5, b6, b7 = _lines(k * across + j, across)
        for m in range(n):
            z, q, s = get_read(x, m), get_first(p, m), get_second(d, m)
            q, s = _next(z, q, s, a7, get_read(flat, b7 + m))
            q, s = _next(z, q, s, a6, get_read(flat, b6 + m))
            q, s = _next(z, q, s, a5, get_read(flat, b5 + m))
            q, s = _next(z, q, s, a4, get_read(flat, b4 + m))
            q, s = _next(z, q, s, a3, get_read(flat, b3 + m))
            q, s = _next(z, q, s, a2, get_read(flat, b2 + m))
            q, s = _next(z, q, s, a1, get_read(flat, b1 + m))
            q, s = _next(z, q, s, a0, get_read(flat, b0 + m))
            put_second(d, m, s)
            put_first(p, m, q)


@kernel
def polynomial(x, p, a, b, j, terms):
    """p = sum_k a_k b_kj x^k alone."""
    full_width()
    n, across, flat = x.size, b.shape[1], strip(b, 0, b.size)
    zero = x.dtype.type(0)
    for m in range(n):
        put_first(p, m, zero)
    k = terms
    while k & 7:
        k -= 1
        a0, b0 = coefficient(a, k), k * across + j
        for m in range(n):
            put_first(p, m, get_first(p, m) * get_read(x, m) + a0 * get_read(flat, b0 + m))
    while k > 0:
        k -= 8
        a0, a1, a2, a3, a4, a5, a6, a7 = _eight(a, k)
        b0, b1, b2, b3, b4, b5, b6, b7 = _lines(k * across + j, across)
        for m in range(n):
            z, q = get_read(x, m), get_first(p, m)
            q = q * z + a7 * get_read(flat, b7 + m)
            q = q * z + a6 * get_read(flat, b6 + m)
            q = q * z + a5 * get_read(flat, b5 + m)
            q = q * z + a4 * get_read(flat, b4 + m)
            q = q * z + a3 * get_read(flat, b3 + m)
            q = q * z + a2 * get_read(flat, b2 + m)
            q = q * z + a1 * get_read(flat, b1 + m)
            q = q * z + a0 * get_read(flat, b0 + m)
            put_first(p, m, q)


@maker
def _tails(x, gap, rise, a, b, j):
    """gap = |a - b_j|^2/2 and rise = (S(1) - S(x))/(1 - x) for S(x) = sum_k a_k b_kj x^k."""
    full_width()
    n = x.size
    zero = x.dtype.type(0)
    h = half(zero)
    terms = b.shape[0]
    tail = np.zeros(n, x.dtype)
    more = np.zeros(n, x.dtype)  # |a|^2 - |b_j|^2
    for m in range(n):
        gap[m] = zero
        rise[m] = zero
    k = terms
    while k & 3:
        k -= 1
        a0, b0 = coefficient(a, k), b[k, j : j + n]
        for m in range(n):
            c = a0 - b0[m]
            gap[m] += h * c * c
            more[m] += c * (a0 + b0[m])
            rise[m] = rise[m] * x[m] + tail[m]
            tail[m] += a0 * b0[m]
    while k > 0:
        k -= 4
        a0, a1, a2, a3 = (
            coefficient(a, k),
            coefficient(a, k + 1),
            coefficient(a, k + 2),
            coefficient(a, k + 3),
        )
        b0, b1, b2, b3 = b[k, j : j + n], b[k + 1, j : j + n], b[k + 2, j : j + n], b[k + 3, j : j + n]
        for m in range(n):
            z, r, t = x[m], rise[m], tail[m]
            c0, c1, c2, c3 = a0 - b0[m], a1 - b1[m], a2 - b2[m], a3 - b3[m]
            gap[m] += h * (c0 * c0 + c1 * c1 + c2 * c2 + c3 * c3)
            more[m] += c0 * (a0 + b0[m]) + c1 * (a1 + b1[m]) + c2 * (a2 + b2[m]) + c3 * (a3 + b3[m])
            r = r * z + t
            t += a3 * b3[m]
            r = r * z + t
            t += a2 * b2[m]
            r = r * z + t
            t += a1 * b1[m]
            rise[m] = r * z + t
            tail[m] = a0 * b0[m] + t
    # (sqrt(lost) - sqrt(other))^2 / 2, where more is lost than rounding
    one = x.dtype.type(1)
    lost = one
    for k in range(terms):
        lost -= coefficient(a, k) * coefficient(a, k)
    lost = max(lost, zero)
    for m in range(n):
        if one - (gap[m] + tail[m]) > LOST * rounding(one):
            other = max(lost + more[m], zero)
            apart = more[m] / (math.sqrt(lost) + math.sqrt(other))
            gap[m] += h * apart * apart


@kernel
def _variable(e, x, parity):
    """x = rho, or rho^2 for a function with a parity."""
    full_width()
    one = e.dtype.type(1)
    if parity == NONE:
        for m in range(e.size):
            x[m] = math.copysign(one - abs(e[m]), e[m])
    else:
        for m in range(e.size):
            r = one - abs(e[m])
            x[m] = r * r


@kernel
def _slope(e, p, d, parity, row, col, out_d):
    """E f' g' = scale d rho'/d rho from p = S(x) and d = S'(x)."""
    full_width()
    one = e.dtype.type(1)
    two = one + one
    if parity == NONE:
        for m in range(e.size):
            out_d[m] = row * col[m] * d[m]
    elif parity == EVEN:
        for m in range(e.size):
            out_d[m] = (row * col[m]) * (math.copysign(two - two * abs(e[m]), e[m]) * d[m])
    else:
        for m in range(e.size):
            r = one - abs(e[m])
            out_d[m] = (row * col[m]) * (two * r * r * d[m] + p[m])


@kernel
def _state(e, p, parity):
    """e becomes 1 - |rho'| with the sign of rho', from p = S(x)."""
    full_width()
    one = e.dtype.type(1)
    zero = one - one
    if parity == ODD:
        for m in range(e.size):
            v = math.copysign(one - abs(e[m]), e[m]) * p[m]
            y = one - abs(v)
            e[m] = math.copysign(y if y > zero else zero, v)
    else:
        for m in range(e.size):
            y = one - abs(p[m])
            e[m] = math.copysign(y if y > zero else zero, p[m])


@kernel
def _near_state(e, p, gap, rise, parity):
    """The same without cancellation near rho = 1, and near -1 for a function with a parity."""
    full_width()
    one = e.dtype.type(1)
    zero = one - one
    two = one + one
    for m in range(e.size):
        s = math.copysign(one, e[m])
        y = abs(e[m])
        if parity == NONE:
            y = gap[m] + (y if s > 0 else two - y) * rise[m]
            s = one
        else:
            y = gap[m] + (y * p[m] if parity == ODD else zero) + y * (two - y) * rise[m]
            s = s if parity == ODD else one
        e[m] = math.copysign(y if y <= one else two - y, s if y <= one else -s)


@maker
def series(e, a, b, rs, cs, i, j0, terms, parity, same, out_e, out_d):
    """The strip of row i, columns j0 + k, from unit coefficient vectors.

    ``a`` says where the row's are (numbers, the place of the first, the step to the next), ``b`` (K, C) has
    those of the columns, both without the zeros of the parity; ``rs`` (R,) and ``cs`` (C,) hold
    |alpha|/sqrt(q); the first ``terms`` <= K coefficients are used (all K where a pair is near and ``same``
    says that both sides are one function).  All arrays are C-ordered and of the dtype of ``e``; ``out_e``
    may be ``e``; ``out_d`` has length 0 when E f' g' is not wanted.
    """
    work = np.empty((SCRATCH, min(e.size, _BLOCK)), e.dtype)
    series_by(work, e, a, b, rs, cs, i, j0, terms, parity, same, out_e, out_d)


@kernel
def series_by(work, e, a, b, rs, cs, i, j0, terms, parity, same, out_e, out_d):
    """`series` with `SCRATCH` strips of memory."""
    in_place(e, out_e)
    flat = parity != ODD and abs(coefficient(a, 0)) > FLAT
    step = work.shape[1]
    for low in range(0, e.size, step):
        high = min(low + step, e.size)
        block = out_e[low:high]
        n = high - low
        x, p, d = work[0, :n], work[1, :n], work[2, :n]
        first, last = near_piece(block) if same else (0, 0)
        if same and flat:
            first, last = 0, n
        near = last > first
        _variable(block, x, parity)
        horner(x, p, d, a, b, j0 + low, b.shape[0] if near else terms)
        if out_d.size:
            _slope(block, p, d, parity, rs[i], cs[j0 + low : j0 + high], out_d[low:high])
        if near:
            gap, rise = work[3, first:last], work[4, first:last]
            _tails(x[first:last], gap, rise, a, b, j0 + low + first)
            _state(block[:first], p[:first], parity)
            _near_state(block[first:last], p[first:last], gap, rise, parity)
        _state(block[last:], p[last:], parity)
