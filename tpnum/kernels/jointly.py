"""Pairs of Gaussian vectors on shared points: conditional factors, and products of largest entries."""

from __future__ import annotations

import math

from tpnum.kernels._borrow import borrow
from tpnum.kernels._jit import kernel

LANES = 8
"""Sums over points are kept in so many parts, whose number is a multiple of it."""


@kernel
def conditional(cross, left, root, cov, a, b, tiny, out):
    """Fill out (pairs, e, d + e) with [A, B]: v = A x + B y, x and y independent and normal.

    ``cross`` (pairs, d, e) is E u v', ``left`` (families, d, d) the inverse roots of the u, u = L x,
    ``cov`` (families, e, e) the covariances of the v, a and b the families of each pair; ``root`` (e, e) is
    scratch.  Pivots below ``tiny`` times a variance are none.
    """
    d, e = cross.shape[1], cross.shape[2]
    for p in range(cross.shape[0]):
        inverse, own, made, given = borrow(left[a[p]]), borrow(cov[b[p]]), borrow(out[p]), borrow(cross[p])
        for j in range(e):
            for i in range(d):
                total = 0.0
                for k in range(d):
                    total += given[k, j] * inverse[i, k]
                made[j, i] = total
        for j in range(e):
            for i in range(j + 1):
                total = own[j, i]
                for k in range(d):
                    total -= made[j, k] * made[i, k]
                for k in range(i):
                    total -= root[j, k] * root[i, k]
                if i == j:
                    root[j, j] = math.sqrt(total) if total > tiny * own[j, j] else 0.0
                else:
                    root[j, i] = total / root[i, i] if root[i, i] > 0.0 else 0.0
            for i in range(e):
                made[j, d + i] = root[j, i] if i <= j else 0.0


@kernel
def _combine(matrix, rows, out):
    """out = matrix rows, four rows at a time."""
    n, points = rows.shape
    for i in range(out.shape[0]):
        line = borrow(out[i])
        line[:] = 0.0
        for j in range(0, n - 3, 4):
            t0, t1, t2, t3 = matrix[i, j], matrix[i, j + 1], matrix[i, j + 2], matrix[i, j + 3]
            r0, r1, r2, r3 = borrow(rows[j]), borrow(rows[j + 1]), borrow(rows[j + 2]), borrow(rows[j + 3])
            for k in range(points):
                line[k] += (t0 * r0[k] + t1 * r1[k]) + (t2 * r2[k] + t3 * r3[k])
        for j in range(n - n % 4, n):
            t0, r0 = matrix[i, j], borrow(rows[j])
            for k in range(points):
                line[k] += t0 * r0[k]


@kernel
def _largest(v, floor, out):
    out[:] = floor
    for i in range(v.shape[0]):
        line = borrow(v[i])
        for k in range(out.shape[0]):
            out[k] = line[k] if line[k] > out[k] else out[k]


@kernel
def _sum(x, lanes):
    lanes[:] = 0.0
    for k in range(0, x.shape[0], LANES):
        for j in range(LANES):
            lanes[j] += x[k + j]
    total = 0.0
    for j in range(LANES):
        total += lanes[j]
    return total


@kernel
def largest(u, floor, values, shares):
    """The largest entry of u (families, d, points), at least ``floor``, and 1 at the first that it is.

    Fills values (families, points) and, where it is not empty, shares (families, d, points).
    """
    for w in range(u.shape[0]):
        value = borrow(values[w])
        _largest(borrow(u[w]), floor, value)
        if shares.shape[0]:
            _shares(borrow(u[w]), value, floor, borrow(shares[w]))


@kernel
def _shares(u, value, floor, out):
    last = out.shape[0] - 1
    free = borrow(out[last])
    _above(value, floor, free)
    for i in range(last):
        _take(borrow(u[i]), value, free, borrow(out[i]))
    _equal(borrow(u[last]), value, free, free)


@kernel
def _above(value, floor, out):
    for k in range(out.shape[0]):
        out[k] = 1.0 if value[k] > floor else 0.0


@kernel
def _equal(own, value, free, out):
    for k in range(out.shape[0]):
        out[k] = free[k] * (1.0 if own[k] == value[k] else 0.0)


@kernel
def _take(own, value, free, out):
    """out = free where own is the value, which is not free any more then."""
    _equal(own, value, free, out)
    for k in range(out.shape[0]):
        free[k] -= out[k]


@kernel
def _weigh(share, mean, smooth, weight, total):
    for k in range(total.shape[0]):
        total[k] += weight[k] * (share[k] - mean - smooth[k])


@kernel
def max_products(turned, z, b, floor, c0, c1, c2, left, a, v, f, lanes, out):
    """Add to out (pairs,) the sums over points of left[a] (F(v) - c0 - c1 v - v' c2 v), F the largest entry.

    v = turned z, coefficients those of family b; scratch v (e, points), f (2, points), lanes.
    """
    d = v.shape[0]
    for p in range(turned.shape[0]):
        q = b[p]
        _combine(borrow(turned[p]), z, v)
        value, bend, rest = borrow(f[0]), borrow(f[1]), borrow(left[a[p]])
        _largest(v, floor, value)
        for i in range(d):
            line, slope, quarter = borrow(v[i]), c1[q, i], c2[q, i, i]
            for k in range(value.shape[0]):
                bend[k] = slope + quarter * line[k]
            for j in range(i):
                other, coef = borrow(v[j]), 2.0 * c2[q, i, j]
                for k in range(value.shape[0]):
                    bend[k] += coef * other[k]
            for k in range(value.shape[0]):
                value[k] -= bend[k] * line[k]
        for k in range(value.shape[0]):
            value[k] = (value[k] - c0[q]) * rest[k]
        out[p] += _sum(value, lanes)


@kernel
def slope_products(turned, z, b, floor, q, slopes, left, a, direction, v, w, s, f, lanes, out):
    """Add to out (pairs,) the sums over points of (W(v) - q - slopes v)' direction left[a], W the shares.

    ``direction`` (pairs, e, d); scratch v, w, s (e, points), f (4, points), lanes.
    """
    e = v.shape[0]
    for p in range(turned.shape[0]):
        _combine(borrow(turned[p]), z, v)
        _combine(borrow(direction[p]), borrow(left[a[p]]), w)
        _combine(borrow(slopes[b[p]]), v, s)
        value, total, free, share = borrow(f[0]), borrow(f[1]), borrow(f[2]), borrow(f[3])
        _largest(v, floor, value)
        total[:] = 0.0
        _above(value, floor, free)
        for i in range(e):
            _take(borrow(v[i]), value, free, share)
            _weigh(share, q[b[p], i], borrow(s[i]), borrow(w[i]), total)
        out[p] += _sum(total, lanes)
