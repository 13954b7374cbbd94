"""Second moments of functions of a few independent Gaussians by sums over Hermite coefficients."""

from __future__ import annotations

import numpy as np

from tpnum.kernels._borrow import borrow
from tpnum.kernels._jit import reduction


@reduction
def hermite_sums(a, b, rho, degree, out, top):
    """Fill out and top (n, m) with sums of a b rho_1^i rho_2^j rho_3^k: of all degrees, of the last two.

    ``a`` (n, c) and ``b`` (m, c) are coefficients by (i, j, k), i + j + k < ``degree``, i <= all of it where
    there are three Gaussians and 0 otherwise, j likewise: those of rho (d, n, m) are the last of them.
    """
    d = rho.shape[0]
    powers = np.empty(degree)
    first = degree if d > 2 else 1
    for p in range(a.shape[0]):
        left = borrow(a[p])
        for q in range(b.shape[0]):
            right = borrow(b[q])
            powers[0] = 1.0
            for k in range(1, degree):
                powers[k] = powers[k - 1] * rho[d - 1, p, q]
            r1 = rho[0, p, q] if d > 2 else 0.0
            r2 = rho[d - 2, p, q] if d > 1 else 0.0
            total, last, at, p1 = 0.0, 0.0, 0, 1.0
            for i in range(first):
                p2 = p1
                for j in range(degree - i if d > 1 else 1):
                    count = degree - i - j
                    part = 0.0
                    for k in range(count):
                        part += left[at + k] * right[at + k] * powers[k]
                    tail = 0.0
                    for k in range(max(0, count - 2), count):
                        tail += left[at + k] * right[at + k] * powers[k]
                    total += p2 * part
                    last += p2 * tail
                    at += count
                    p2 *= r2
                p1 *= r1
            out[p, q] = total
            top[p, q] = last
