"""E f(u) g(v) over broadcast grids of (q1, q2, c) by Hermite series: one pass from c to the value.

With the coefficients a of f and b of g relative to the roots of their second moments,

    E f(u) g(v) = unit_i unit_j sum_k a_ik b_jk rho^k,    rho = c / (root_i root_j),

a function with a parity being a series in rho^2 (times rho).  Covariances are validated in the same pass.
"""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._jit import fast_kernel, fused, helper, kernel, maker

BLOCK = 128
LIMIT = 1 << 13
"""The most distinct rows that are numbered."""

_HASH = 14
_MIX1, _MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_SHIFT = np.uint64(64 - _HASH)
_MASK = (1 << _HASH) - 1


@kernel
def number_rows(first, second, table, keys, count, out):
    """Number the distinct pairs (first[k], second[k]) of bit patterns in the order of their appearance.

    ``table`` (2^14, filled with -1) and ``keys`` (LIMIT, 2) carry the state, ``count`` how many there are;
    ``second`` has length 1 or that of ``first``.  Returns the new count, -1 when there are too many.
    """
    step = 1 if second.size > 1 else 0
    last = -1
    for k in range(first.size):
        a, b = first[k], second[k * step]
        if last + 1 < count and keys[last + 1, 0] == a and keys[last + 1, 1] == b:
            last += 1  # rows of a grid come in the same order again and again
        elif last < 0 or keys[last, 0] != a or keys[last, 1] != b:
            slot = np.int64((a * _MIX1 ^ b * _MIX2) >> _SHIFT)
            while True:
                last = table[slot]
                if last < 0:
                    if count == keys.shape[0]:
                        return -1
                    table[slot] = last = count
                    keys[last, 0], keys[last, 1] = a, b
                    count += 1
                    break
                if keys[last, 0] == a and keys[last, 1] == b:
                    break
                slot = (slot + 1) & _MASK
        out[k] = last
    return count


@kernel
def _two_polynomials(x, y, p, s, a1, a2, b, j, terms):
    """p = sum_k a1_k b_kj x^k and s = sum_k a2_k b_kj y^k: two rows keep the multipliers busy."""
    n = x.size
    for m in range(n):
        p[m] = 0.0
        s[m] = 0.0
    for k in range(terms - 4, -1, -4):
        c0, c1, c2, c3 = a1[k], a1[k + 1], a1[k + 2], a1[k + 3]
        d0, d1, d2, d3 = a2[k], a2[k + 1], a2[k + 2], a2[k + 3]
        b0, b1, b2, b3 = b[k, j : j + n], b[k + 1, j : j + n], b[k + 2, j : j + n], b[k + 3, j : j + n]
        for m in range(n):
            z, q, w, r = x[m], p[m], y[m], s[m]
            q, r = q * z + c3 * b3[m], r * w + d3 * b3[m]
            q, r = q * z + c2 * b2[m], r * w + d2 * b2[m]
            q, r = q * z + c1 * b1[m], r * w + d1 * b1[m]
            p[m] = q * z + c0 * b0[m]
            s[m] = r * w + d0 * b0[m]


@kernel
def _shared_polynomial(x, p, a, terms):
    """p = sum_k a_k x^k."""
    n = x.size
    for m in range(n):
        p[m] = 0.0
    k = terms
    while k & 3:
        k -= 1
        a0 = a[k]
        for m in range(n):
            p[m] = p[m] * x[m] + a0
    while k > 0:
        k -= 4
        a0, a1, a2, a3 = a[k], a[k + 1], a[k + 2], a[k + 3]
        for m in range(n):
            z = x[m]
            p[m] = (((p[m] * z + a3) * z + a2) * z + a1) * z + a0


@fast_kernel
def _largest(x):
    """max |x|, x without NaN."""
    top = 0.0
    for m in range(x.size):
        top = max(top, abs(x[m]))
    return top


@kernel
def _correlations(c, most1, inverse1, most2, inverse2, x):
    """x = c/(root1 root2), clipped; returns how many entries are beyond the boundary or NaN."""
    wrong = np.int32(0)
    for m in range(c.size):
        wrong += np.int32(not abs(c[m]) <= most1 * most2[m] + 1e-300)
        x[m] = min(max(c[m] * (inverse1 * inverse2[m]), -1.0), 1.0)
    return wrong


@kernel
def _degree(left, right, log_rho, ladder, wanted):
    """The place in the ladder of the least degree whose truncation bound is met, ladder.size if none's is.

    ``left`` and ``right`` hold half the logarithms of the tails.
    """
    for at in range(ladder.size):
        if left[at] + right[at] + ladder[at] * log_rho <= wanted:
            return at
    return ladder.size


@kernel
def _row(given, root, tail, most2, over, worst, ladder, wanted, parity, z, made):
    """Fill what the series of a row runs in: z = rho, or rho^2 with ``made`` = rho where there is a parity.

    ``worst`` are the largest tails of the columns.  Returns (how many terms it takes, the place of an entry
    that no correlation is or -1, how many entries are out of reach, which are NaN).
    """
    bad, far = -1, 0
    most1 = root * (1.0 + 1e-12)
    inverse1 = 1.0 / root if root > 0.0 else 0.0
    if _correlations(given, most1, inverse1, most2, over, z) > 0:
        for m in range(z.size):
            if not abs(given[m]) <= most1 * most2[m] + 1e-300:
                bad = m
                z[m] = 0.0
    at = _degree(tail, worst, math.log(max(_largest(z), 1e-300)), ladder, wanted)
    if at == ladder.size:
        at = ladder.size - 1
        exponent = (wanted - tail[at] - worst[at]) / ladder[at]
        limit = math.exp(min(exponent, 0.0))
        for m in range(z.size):
            if abs(z[m]) > limit:
                z[m] = np.nan
                far += 1
    if parity == 0:
        return ladder[at], bad, far
    for m in range(z.size):
        made[m] = z[m]
        z[m] = z[m] * z[m]
    return ladder[at] // 2, bad, far


@maker
def series_strips(
    c, root1, unit1, a, tail1, root2, unit2, b, tail2, ladder, wanted, parity, begin, end, out
):  # fmt: skip
    """The columns begin..end of a grid c: side 1 is constant along a row of c, side 2 along a column.

    ``a`` (rows, K), ``b`` (K, end - begin) without the zeros of the parity, ``tail`` (rows, ladder).  Where
    side 2 is constant its share is in side 1 already: ``b`` has no rows and ``root2``, ``unit2``, ``tail2``
    are BLOCK neutral elements.  Returns (flat index of an entry with |c| > root1 root2 or NaN, else -1;
    how many entries are out of the series' reach: those are NaN in ``out``).
    """
    rows, columns = c.shape
    x, p, worst = np.empty((2, BLOCK)), np.empty((2, BLOCK)), np.empty(ladder.size)
    inverse = np.empty(root2.size)
    for m in range(root2.size):
        inverse[m] = 1.0 / root2[m] if root2[m] > 0.0 else 0.0
    bad, far = -1, 0
    for low in range(begin, end, BLOCK):
        n = min(BLOCK, end - low)
        j = low - begin if b.shape[0] > 0 else 0
        over, most2, size2 = inverse[j : j + n], root2[j : j + n], unit2[j : j + n]
        for at in range(ladder.size):
            worst[at] = tail2[j, at]
            for m in range(j + 1, j + n):
                worst[at] = max(worst[at], tail2[m, at])
        for r in range(0, rows, 2):
            count = min(2, rows - r)
            terms = 0
            for h in range(count):
                wanting, wrong, beyond = _row(
                    c[r + h, low : low + n], root1[r + h], tail1[r + h], most2, over, worst, ladder, wanted,
                    parity, x[h, :n], out[r + h, low : low + n],
                )  # fmt: skip
                terms, far = max(terms, wanting), far + beyond
                if wrong >= 0:
                    bad = (r + h) * columns + low + wrong
            if b.shape[0] == 0:
                for h in range(count):
                    _shared_polynomial(x[h, :n], p[h, :n], a[r + h], terms)
            else:
                _two_polynomials(
                    x[0, :n], x[count - 1, :n], p[0, :n], p[1, :n], a[r], a[r + count - 1], b, j, terms
                )
            for h in range(count):
                s, made, size1 = p[h, :n], out[r + h, low : low + n], unit1[r + h]
                if parity < 0:
                    for m in range(n):
                        made[m] = s[m] * (size1 * size2[m]) * made[m]
                else:
                    for m in range(n):
                        made[m] = s[m] * (size1 * size2[m])
    return bad, far


@fused
def _sum(left, right, terms, z, lanes):
    """sum_k left_k right_k z^k, k < terms, a multiple of eight, by chains that do not wait for others."""
    eight = np.uintp(8)
    z2 = z * z
    z4 = z2 * z2
    z8 = z4 * z4
    for l in range(eight):
        lanes[l] = 0.0
    k = np.uintp(terms)
    while k > np.uintp(0):
        k -= eight
        for l in range(eight):
            lanes[l] = lanes[l] * z8 + left[k + l] * right[k + l]
    low = (lanes[0] + z * lanes[1]) + z2 * (lanes[2] + z * lanes[3])
    high = (lanes[4] + z * lanes[5]) + z2 * (lanes[6] + z * lanes[7])
    return low + z4 * high


@maker
def series_scattered(c, row, col, root, unit, a, tail, ladder, wanted, parity, out):
    """The same for entries in no order: entry n is of the rows row[n] and col[n] of one list."""
    bad, far = -1, 0
    lanes = np.empty(8)
    for n in range(c.size):
        i, j = row[n], col[n]
        most = root[i] * root[j]
        if not abs(c[n]) <= most * (1.0 + 1e-12) + 1e-300:
            bad = n
            continue
        rho = min(max(c[n] / most, -1.0), 1.0) if most > 0.0 else 0.0
        at = _degree(tail[i], tail[j], math.log(max(abs(rho), 1e-300)), ladder, wanted)
        if at == ladder.size:
            far += 1
            out[n] = np.nan
            continue
        z = rho if parity == 0 else rho * rho
        terms = ladder[at] if parity == 0 else ladder[at] // 2
        total = _sum(a[i], a[j], (terms + 7) // 8 * 8, z, lanes)
        out[n] = (total * rho if parity < 0 else total) * (unit[i] * unit[j])
    return bad, far


@fused
def _cubic(t):
    """Lagrange's weights of the nodes -1, 0, 1, 2 at t."""
    a, b, c, d = t + 1.0, t, t - 1.0, t - 2.0
    return -b * c * d / 6.0, 0.5 * a * c * d, -0.5 * a * b * d, a * b * c / 6.0


@kernel
def _mixed(a, g, w, out):
    """out = sum_m w_m a[g + m]."""
    w0, w1, w2, w3 = w
    a0, a1, a2, a3 = a[g], a[g + 1], a[g + 2], a[g + 3]
    for k in range(out.size):
        out[k] = (w0 * a0[k] + w1 * a1[k]) + (w2 * a2[k] + w3 * a3[k])


@maker
def series_interpolated(c, q1, q2, low, step, unit, a, tail, ladder, wanted, parity, out):
    """The same for as many variances as entries: rows by cubic interpolation in log q.

    Row k of ``unit``, ``a`` and ``tail`` is that of log q = low + (k - 1) step.
    """
    bad, far = -1, 0
    left, right, lanes = np.empty(a.shape[1]), np.empty(a.shape[1]), np.empty(8)
    last = a.shape[0] - 4
    for n in range(c.size):
        most = math.sqrt(q1[n]) * math.sqrt(q2[n])
        if not abs(c[n]) <= most * (1.0 + 1e-12) + 1e-300:
            bad = n
            continue
        rho = min(max(c[n] / most, -1.0), 1.0)
        x, y = (math.log(q1[n]) - low) / step, (math.log(q2[n]) - low) / step
        i, j = min(max(int(x), 0), last), min(max(int(y), 0), last)
        log_rho = math.log(max(abs(rho), 1e-300))
        at = 0
        while at < ladder.size:
            t1, t2 = max(tail[i + 1, at], tail[i + 2, at]), max(tail[j + 1, at], tail[j + 2, at])
            if t1 + t2 + ladder[at] * log_rho <= wanted:
                break
            at += 1
        if at == ladder.size:
            far += 1
            out[n] = np.nan
            continue
        terms = ladder[at] if parity == 0 else ladder[at] // 2
        terms = (terms + 7) // 8 * 8
        w, v = _cubic(x - i), _cubic(y - j)
        _mixed(a, i, w, left[:terms])
        _mixed(a, j, v, right[:terms])
        size1 = w[0] * unit[i] + w[1] * unit[i + 1] + w[2] * unit[i + 2] + w[3] * unit[i + 3]
        size2 = v[0] * unit[j] + v[1] * unit[j + 1] + v[2] * unit[j + 2] + v[3] * unit[j + 3]
        total = _sum(left, right, terms, rho if parity == 0 else rho * rho, lanes)
        out[n] = (total * rho if parity < 0 else total) * (size1 * size2)
    return bad, far


@helper
def _product(a, b):
    """a b as the sum of two doubles, exactly (Dekker)."""
    high = a * b
    t = 134217729.0 * a
    a1 = t - (t - a)
    t = 134217729.0 * b
    b1 = t - (t - b)
    a2, b2 = a - a1, b - b1
    return high, ((a1 * b1 - high) + a1 * b2 + a2 * b1) + a2 * b2


@helper
def _away(q1, q2, c):
    """copysign(1 - |rho|, rho) = copysign((q1 q2 - c^2)/(r (r + |c|)), c), r = sqrt(q1 q2)."""
    if q1 == 0.0 or q2 == 0.0:
        return math.copysign(1.0, c)
    q1, k1 = math.frexp(q1)
    q2, k2 = math.frexp(q2)
    if k1 & 1:
        q1, k1 = 0.5 * q1, k1 + 1
    if k2 & 1:
        q2, k2 = 0.5 * q2, k2 + 1
    size = math.ldexp(abs(c), -((k1 + k2) // 2))
    top, rest = _product(q1, q2)
    square, lost = _product(size, size)
    missing = (top - square) + (rest - lost)
    if missing <= 0.0:
        return math.copysign(0.0, c)
    r = math.sqrt(top)
    return math.copysign(min(missing / (r * (r + size)), 1.0), c)


@kernel
def co_correlations(q1, q2, c, out):
    """copysign(1 - |rho|, rho) of exact q1, q2 and c; beyond the boundary is on it."""
    for n in range(c.size):
        out[n] = _away(q1[n], q2[n], c[n])
