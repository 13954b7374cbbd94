"""Pairs of Gaussian vectors on shared points: conditional factors, and moments of maxima along them."""

from __future__ import annotations

import math

from tpnum.kernels._jit import kernel


@kernel
def conditional(cross, left, root, cov, a, b, tiny, out):
    """Fill out (pairs, d', d + d') with [A, B]: v = A x + B y, x and y independent and normal.

    ``cross`` (pairs, d, d') is E u v', ``left`` (families, d, d) the inverse roots of the u, u = L x,
    ``cov`` (families, d', d') the covariances of the v, a and b the families of each pair; ``root`` (d', d')
    is scratch.  Pivots below ``tiny`` times a variance are none.
    """
    for p in range(cross.shape[0]):
        d, e = cross.shape[1], cross.shape[2]
        for j in range(e):
            for i in range(d):
                total = 0.0
                for k in range(d):
                    total += cross[p, k, j] * left[a[p], i, k]
                out[p, j, i] = total
        for j in range(e):
            for i in range(j + 1):
                total = cov[b[p], j, i]
                for k in range(d):
                    total -= out[p, j, k] * out[p, i, k]
                for k in range(i):
                    total -= root[j, k] * root[i, k]
                if i == j:
                    root[j, j] = math.sqrt(total) if total > tiny * cov[b[p], j, j] else 0.0
                else:
                    root[j, i] = total / root[i, i] if root[i, i] > 0.0 else 0.0
            for i in range(e):
                out[p, j, d + i] = root[j, i] if i <= j else 0.0


@kernel
def residual_moments(v, b, floor, c0, c1, c2, left, a, work, out):
    """Add sum over points of left[a] (F(v) - c0 - c1 v - v' c2 v) to out (pairs,), F the largest entry.

    v (pairs, d, points), the coefficients those of family b; F is at least ``floor``.  work (2, points).
    """
    d, points = v.shape[1], v.shape[2]
    for p in range(v.shape[0]):
        q = b[p]
        for k in range(points):
            work[0, k] = floor
            work[1, k] = -c0[q]
        for i in range(d):
            slope = c1[q, i]
            for k in range(points):
                work[0, k] = max(work[0, k], v[p, i, k])
                work[1, k] -= slope * v[p, i, k]
            for j in range(i + 1):
                coef = c2[q, i, j] if i == j else 2.0 * c2[q, i, j]
                for k in range(points):
                    work[1, k] -= coef * v[p, i, k] * v[p, j, k]
        total = 0.0
        for k in range(points):
            total += left[a[p], k] * (work[0, k] + work[1, k])
        out[p] += total
