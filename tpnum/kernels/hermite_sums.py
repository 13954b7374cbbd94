"""Second moments of functions of a few independent Gaussians by sums over Hermite coefficients."""

from __future__ import annotations

import numpy as np

from tpnum.kernels._jit import full_width, kernel, maker
from tpnum.kernels._views import get_first, get_read, put_first

LANES = 64
"""Members of the second family that are gone over together."""


@maker
def hermite_sums(a, b, rho, degree, out, top):
    """Fill out and top (n, m) with sums of a b rho_1^i rho_2^j rho_3^k: of all degrees, of the last two.

    ``a`` (n, c) and ``b`` (c, m) are coefficients by (i, j, k), i + j + k < ``degree``, i <= all of it where
    there are three Gaussians and 0 otherwise, j likewise: those of rho (d, n, m) are the last of them.
    """
    n, m, count, d = a.shape[0], b.shape[1], a.shape[1], rho.shape[0]
    own, right = np.empty(count), b.reshape(-1)
    powers, early, late = np.empty(3 * degree * LANES), np.empty(3 * LANES), np.empty(3 * LANES)
    for begin in range(0, m, LANES):
        lanes = min(LANES, m - begin)
        for p in range(n):
            own[:] = a[p]
            powers[:] = 1.0
            for e in range(d):
                at = (3 - d + e) * degree * lanes
                for k in range(1, degree):
                    for l in range(lanes):
                        power = powers[at + (k - 1) * lanes + l] * rho[e, p, begin + l]
                        powers[at + k * lanes + l] = power
            _nested(own, right, begin, m, powers, degree, d, early, late, lanes)
            for l in range(lanes):
                out[p, begin + l] = early[l] + late[l]
                top[p, begin + l] = late[l]


@kernel
def _nested(own, right, begin, stride, powers, degree, d, early, late, lanes):
    """The sums of all degrees but the last two, and of these, in the first rows of (3, lanes).

    The others are sums over k and over j and k; powers are (3, degree, lanes).
    """
    at, second, third = 0, degree * lanes, 2 * degree * lanes
    early[:lanes] = 0.0
    late[:lanes] = 0.0
    for i in range(degree if d > 2 else 1):
        early[lanes : 2 * lanes] = 0.0
        late[lanes : 2 * lanes] = 0.0
        for j in range(degree - i if d > 1 else 1):
            count = degree - i - j
            few = max(0, count - 2)
            early[2 * lanes : 3 * lanes] = 0.0
            late[2 * lanes : 3 * lanes] = 0.0
            _add_products(own, right, at, begin, stride, few, powers, third, early, lanes)
            at, power = at + few, third + few * lanes
            _add_products(own, right, at, begin, stride, count - few, powers, power, late, lanes)
            at += count - few
            for sums in (early, late):
                _add_power(sums, 1, powers, second + j * lanes, lanes)
        for sums in (early, late):
            _add_power(sums, 0, powers, i * lanes, lanes)


@kernel
def _add_products(own, right, at, begin, stride, count, powers, power, sums, lanes):
    """Add products of coefficients of both sides and powers of one correlation to the last sum."""
    full_width()
    for k in range(count):
        coef, places, raised = get_read(own, at + k), (at + k) * stride + begin, power + k * lanes
        for l in range(lanes):
            made = coef * get_read(right, places + l) * get_read(powers, raised + l)
            put_first(sums, 2 * lanes + l, get_first(sums, 2 * lanes + l) + made)


@kernel
def _add_power(sums, row, powers, power, lanes):
    """Add a power times the sum of the next row to that of a row."""
    full_width()
    for l in range(lanes):
        made = get_read(powers, power + l) * get_first(sums, (row + 1) * lanes + l)
        put_first(sums, row * lanes + l, get_first(sums, row * lanes + l) + made)
