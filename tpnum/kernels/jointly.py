"""Pairs of Gaussian vectors on shared points: conditional factors, products of what largest entries leave."""

from __future__ import annotations

import math

from tpnum.kernels._jit import kernel
from tpnum.kernels._sums import dotted

BLOCK = 128
"""Points that are gone over together: what is made of them stays in the first-level cache."""


@kernel
def conditional(cross, left, root, cov, a, b, tiny, out):
    """Fill out (pairs, e, d + e) with [A, B]: v = A x + B y, x and y independent and normal.

    ``cross`` (pairs, d, e) is E u v', ``left`` (families, d, d) the inverse roots of the u, u = L x,
    ``cov`` (families, e, e) the covariances of the v, a and b the families of each pair; ``root`` (e, e) is
    scratch.  Pivots below ``tiny`` times a variance are none.
    """
    d, e = cross.shape[1], cross.shape[2]
    for p in range(cross.shape[0]):
        inverse, own, made, given = left[a[p]], cov[b[p]], out[p], cross[p]
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
        line = out[i]
        line[:] = 0.0
        for j in range(0, n - 3, 4):
            t0, t1, t2, t3 = matrix[i, j], matrix[i, j + 1], matrix[i, j + 2], matrix[i, j + 3]
            r0, r1, r2, r3 = rows[j], rows[j + 1], rows[j + 2], rows[j + 3]
            for k in range(points):
                line[k] += (t0 * r0[k] + t1 * r1[k]) + (t2 * r2[k] + t3 * r3[k])
        for j in range(n - n % 4, n):
            t0, r0 = matrix[i, j], rows[j]
            for k in range(points):
                line[k] += t0 * r0[k]


@kernel
def _largest(v, floor, out):
    out[:] = floor
    for i in range(v.shape[0]):
        line = v[i]
        for k in range(out.shape[0]):
            out[k] = line[k] if line[k] > out[k] else out[k]


@kernel
def largest(u, floor, values, shares):
    """The largest entry of u (families, d, points), at least ``floor``, and 1 at the first that it is.

    Fills values (families, points) and, where it is not empty, shares (families, d, points).
    """
    for w in range(u.shape[0]):
        value = values[w]
        _largest(u[w], floor, value)
        if shares.shape[0]:
            _shares(u[w], value, floor, shares[w])


@kernel
def _shares(u, value, floor, out):
    last = out.shape[0] - 1
    free = out[last]
    _above(value, floor, free)
    for i in range(last):
        _take(u[i], value, free, out[i])
    _equal(u[last], value, free, free)


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
def _monomials(v, out):
    """v, then the products of its rows, one row each."""
    d = v.shape[0]
    row = d
    for i in range(d):
        own, first = out[i], v[i]
        for k in range(own.shape[0]):
            own[k] = first[k]
        if out.shape[0] > d:
            for j in range(i + 1):
                made, second = out[row], v[j]
                for k in range(made.shape[0]):
                    made[k] = first[k] * second[k]
                row += 1


@kernel
def _subtract(constant, smooth, out):
    for k in range(out.shape[0]):
        out[k] -= constant + smooth[k]


@kernel
def residual_products(turned, z, b, floor, shares, constant, coefs, left, a, v, g, terms, f, cross, own):
    """Sums over points of products of residuals, E g g' at two windows without what polynomials say of it.

    v = turned z (pairs, e, points) and g its largest entry, at least ``floor``, or with ``shares`` the e
    indicators of who that is.  Residuals are g less ``constant`` (families, g) and ``coefs`` (families, g,
    terms) times v and, if there are so many terms, the products of its rows; those of the first window are
    ``left`` (blocks, families, g, points of a block).  Fills cross (pairs, g left, g) and own (pairs, g, g).
    Scratch for a block of points: v (e, .), g (g, .), terms (terms, .), f (1 + g, .).
    """
    size = v.shape[1]
    for p in range(turned.shape[0]):
        q, r = b[p], a[p]
        for block in range(z.shape[0]):
            _combine(turned[p], z[block], v)
            value = f[0]
            _largest(v, floor, value)
            if shares:
                _shares(v, value, floor, g)
            else:
                only = g[0]
                for k in range(size):
                    only[k] = value[k]
            _monomials(v, terms)
            smooth = f[1:]
            _combine(coefs[q], terms, smooth)
            given = left[block, r]
            for j in range(g.shape[0]):
                residual = g[j]
                _subtract(constant[q, j], smooth[j], residual)
                for i in range(given.shape[0]):
                    cross[p, i, j] += dotted(given[i], residual)
                for i in range(j + 1):
                    own[p, i, j] += dotted(g[i], residual)
        for j in range(g.shape[0]):
            for i in range(j):
                own[p, j, i] = own[p, i, j]
