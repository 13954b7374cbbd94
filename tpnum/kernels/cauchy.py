"""Cauchy transforms at many points z = x + i y: of atoms, of power series, of panels by a tree.

Every kernel takes the real and imaginary parts of the points and fills those of G and of G'.
"""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._jit import helper, maker, reduction

LANES = 16


@reduction
def atoms(x, y, at, mass, starts, g, h, dg, dh):
    """The sums of mass / (z - at) and of -mass / (z - at)^2, of laws side by side.

    Law l has the atoms from starts[l] to starts[l + 1], and as many points as every other.
    """
    laws = starts.size - 1
    count = x.size // laws
    for l in range(laws):
        first, last = starts[l], starts[l + 1]
        for i in range(l * count, (l + 1) * count):
            up, square = y[i], y[i] * y[i]
            a, b, c, d = 0.0, 0.0, 0.0, 0.0
            for k in range(first, last):
                away = x[i] - at[k]
                size = 1.0 / (away * away + square)
                real, imag = away * size, -up * size
                a += mass[k] * real
                b += mass[k] * imag
                c += mass[k] * (real * real - imag * imag)
                d += mass[k] * (real * imag)
            g[i], h[i], dg[i], dh[i] = a, b, -c, -2.0 * d


@maker
def power_series(x, y, coefs, g, h, dg, dh):
    """sum_k coefs[k] z^k and its slope, |z| <= 1, some points at a time."""
    a, b, c, d = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    u, v = np.empty(LANES), np.empty(LANES)
    for begin in range(0, x.size, LANES):
        count = min(LANES, x.size - begin)
        largest = 1e-300
        for lane in range(LANES):
            i = begin + min(lane, count - 1)
            u[lane], v[lane] = x[i], y[i]
            a[lane], b[lane], c[lane], d[lane] = 0.0, 0.0, 0.0, 0.0
            largest = max(largest, x[i] * x[i] + y[i] * y[i])
        terms = coefs.size
        if largest < 1.0:  # powers below rounding are left out
            terms = int(min(float(terms), 4.0 + 84.0 / -math.log(largest)))
        for k in range(terms - 1, -1, -1):
            for lane in range(LANES):
                p, q = u[lane], v[lane]
                real = c[lane] * p - d[lane] * q + a[lane]
                d[lane] = c[lane] * q + d[lane] * p + b[lane]
                c[lane] = real
                real = a[lane] * p - b[lane] * q + coefs[k]
                b[lane] = a[lane] * q + b[lane] * p
                a[lane] = real
        for lane in range(count):
            i = begin + lane
            g[i], h[i], dg[i], dh[i] = a[lane], b[lane], c[lane], d[lane]


@helper
def _second_kind(t, plus, minus, coefs):
    """sum_k coefs[k] 2 Q_k(t) and its slope, Legendre functions of the second kind upwards.

    ``plus`` and ``minus`` are t + 1 and t - 1 without cancellation: logarithms of panels that meet cancel.
    """
    before = np.log(plus) - np.log(minus)
    now = t * before - 2.0
    slope_before = complex(-2.0, 0.0) / (plus * minus)
    slope_now = before + t * slope_before
    value = coefs[0] * before + coefs[1] * now
    slope = coefs[0] * slope_before + coefs[1] * slope_now
    for k in range(1, coefs.size - 1):
        later = ((2 * k + 1) * t * now - k * before) / (k + 1)
        slope_later = slope_before + (2 * k + 1) * now
        before, now, slope_before, slope_now = now, later, slope_now, slope_later
        value += coefs[k + 1] * now
        slope += coefs[k + 1] * slope_now
    return value, slope


@helper
def _from_afar(w, ratio, moments):
    """sum_j moments[j] w^j and sum_j (j + 1) moments[j] w^j for |w| = ratio < 1, as far as rounding sees."""
    terms = moments.size
    if ratio > 0.0:
        terms = int(min(float(terms), 2.0 + 34.0 / -math.log(ratio)))
    p, q = w.real, w.imag
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for j in range(terms - 1, -1, -1):
        real = a * p - b * q + moments[j]
        b = a * q + b * p
        a = real
        real = c * p - d * q + (j + 1) * moments[j]
        d = c * q + d * p
        c = real
    return complex(a, b), complex(c, d)


@maker
def panels(
    x, y, centre, radius, moments, first, second, leaf, low, high, coefs, rule, weights, far, near,
    g, h, dg, dh,
):  # fmt: skip
    """Densities sum_k coefs[l, k] P_k on panels (low[l], high[l]), the leaves of a binary tree of clusters.

    Cluster c has the children first[c] and second[c], or is the panel leaf[c] >= 0; ``moments`` are those of
    (s - centre)/radius.  Points ``far`` radii away see moments; those within the ellipse of sum of half-axes
    |t - 1| + |t + 1| < ``near`` around a panel see its polynomial, the others ``weights`` at the points
    ``rule`` of [-1, 1].
    """
    stack = np.empty(256, np.int64)
    for i in range(x.size):
        z = complex(x[i], y[i])
        value, slope = 0.0j, 0.0j
        stack[0], top = 0, 1
        while top:
            top -= 1
            c = stack[top]
            away = z - centre[c]
            r = radius[c]
            distance = math.hypot(away.real, away.imag)
            if distance >= far * r:
                inverse = complex(away.real, -away.imag) / (distance * distance)
                near_value, near_slope = _from_afar(r * inverse, r / distance, moments[c])
                value += inverse * near_value
                slope -= inverse * inverse * near_slope
                continue
            own = leaf[c]
            if own < 0:
                stack[top], stack[top + 1] = first[c], second[c]
                top += 2
                continue
            t = complex(away.real / r, away.imag / r)
            if math.hypot(t.real - 1.0, t.imag) + math.hypot(t.real + 1.0, t.imag) < near:
                plus = complex((x[i] - low[own]) / r, y[i] / r)
                minus = complex((x[i] - high[own]) / r, y[i] / r)
                beside = complex((1e-12 * abs(x[i]) + 1e-200) / r, 0.0)
                if plus == 0.0:  # an end of a panel counts as a point right of it, of both that meet there
                    plus = beside
                if minus == 0.0:
                    minus = beside
                made, bent = _second_kind(t, plus, minus, coefs[own])
                value += made
                slope += bent * (1.0 / r)
                continue
            a, b, p, q = 0.0, 0.0, 0.0, 0.0
            for k in range(rule.size):
                u = t.real - rule[k]
                size = 1.0 / (u * u + t.imag * t.imag)
                real, imag = u * size, -t.imag * size
                a += weights[own, k] * real
                b += weights[own, k] * imag
                p += weights[own, k] * (real * real - imag * imag)
                q += weights[own, k] * (real * imag)
            value += complex(a, b)
            slope -= complex(p / r, 2.0 * q / r)
        g[i], h[i], dg[i], dh[i] = value.real, value.imag, slope.real, slope.imag
