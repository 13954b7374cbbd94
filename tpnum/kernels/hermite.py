"""Hermite coefficients of rows of function values: the recurrence and the sums in one pass."""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._jit import fused, kernel, maker


@maker
def hermite_rows(z, weighted, out):
    """out[i, k] = sum_j weighted[i, j] psi_k(z[i, j]), psi_k = h_k(z) e^{-z^2/4}, h_k orthonormal.

    ``weighted`` holds f(node) times the node's weight times e^{z^2/4}, so nothing overflows at any degree.
    """
    n, m = z.shape
    degrees = out.shape[1]
    last = np.empty(m)
    now = np.empty(m)
    lanes = np.empty(8)
    for i in range(n):
        for j in range(m):
            now[j] = np.exp(-0.25 * z[i, j] * z[i, j])
            last[j] = 0.0
        for k in range(degrees):
            up = 1.0 / np.sqrt(k + 1.0)
            down = np.sqrt(float(k)) * up
            for lane in range(8):
                lanes[lane] = 0.0
            whole = m - m % 8
            for j in range(0, whole, 8):
                for lane in range(8):
                    lanes[lane] += weighted[i, j + lane] * now[j + lane]
            total = 0.0
            for j in range(whole, m):
                total += weighted[i, j] * now[j]
            for lane in range(8):
                total += lanes[lane]
            out[i, k] = total
            for j in range(m):
                following = up * z[i, j] * now[j] - down * last[j]
                last[j] = now[j]
                now[j] = following


@kernel
def hermite_functions(z, out):
    """out[k, j] = psi_k(z[j])."""
    for j in range(z.size):
        out[0, j] = np.exp(-0.25 * z[j] * z[j])
    for k in range(1, out.shape[0]):
        up = 1.0 / np.sqrt(float(k))
        down = np.sqrt(k - 1.0) * up
        now, last, made = out[k - 1], out[max(k - 2, 0)], out[k]
        for j in range(z.size):
            made[j] = up * z[j] * now[j] - down * last[j]


@fused
def _sum(a, b, degree, rho, rho2, rho4):
    """sum_k a_k b_k rho^k, k < degree, a multiple of four, by chains that do not wait for each other."""
    t0, t1, t2, t3, power = 0.0, 0.0, 0.0, 0.0, 1.0
    for k in range(0, degree, 4):
        t0 += power * (a[k] * b[k])
        t1 += power * (a[k + 1] * b[k + 1])
        t2 += power * (a[k + 2] * b[k + 2])
        t3 += power * (a[k + 3] * b[k + 3])
        power *= rho4
    return (t0 + rho * t1) + rho2 * (t2 + rho * t3)


@fused
def _slope(a, b, degree, rho, rho2, rho4):
    """sum_k k a_k b_k rho^(k - 1), as `_sum`."""
    t1 = a[1] * b[1]
    t2, t3, t0, power = 2.0 * (a[2] * b[2]), 3.0 * (a[3] * b[3]), 0.0, 1.0
    for k in range(4, degree, 4):
        t0 += power * (k * (a[k] * b[k]))
        power *= rho4
        t1 += power * ((k + 1) * (a[k + 1] * b[k + 1]))
        t2 += power * ((k + 2) * (a[k + 2] * b[k + 2]))
        t3 += power * ((k + 3) * (a[k + 3] * b[k + 3]))
    return (t1 + rho * t2) + rho2 * (t3 + rho * t0)


@kernel
def series_pairs(e, row, col, degree, value1, value2, tail1, tail2, slope1, slope2, out_e, out_d):
    """Sum the Hermite series of the pairs (row[n], col[n]) of co-correlation e[n] up to ``degree``.

    With a_k, b_k relative to the roots of the second moments, r = |rho| and s the sign of the sum,

        1 - |rho'| = sum_k (a_k - s_k b_k)^2/2 + s_k a_k b_k (1 - r^k),   s_k = s sign(rho)^k,

    keeps all digits where f(u) and g(v) nearly agree; ``tail`` is what the squares beyond ``degree`` sum to.
    ``out_d`` is d rho'/d rho where ``slope1`` is empty, else the sum over the coefficients of f' and g'.
    """
    for n in range(e.shape[0]):
        a, b = value1[row[n]], value2[col[n]]
        away = abs(e[n])
        r = 1.0 - away
        rho = math.copysign(r, e[n])
        rho2 = rho * rho
        rho4 = rho2 * rho2
        total = _sum(a, b, degree, rho, rho2, rho4)
        if abs(total) < 0.5:
            out_e[n] = math.copysign(1.0 - abs(total), total)
        else:
            even = math.copysign(1.0, total)
            odd = even * math.copysign(1.0, rho)
            lost, missing, now = 0.0, 0.0, 1.0
            for k in range(0, degree, 2):
                first = a[k] - even * b[k]
                lost += 0.5 * first * first + even * a[k] * b[k] * missing
                missing += now * away
                now *= r
                second = a[k + 1] - odd * b[k + 1]
                lost += 0.5 * second * second + odd * a[k + 1] * b[k + 1] * missing
                missing += now * away
                now *= r
            x, y = math.sqrt(tail1[row[n]]), math.sqrt(tail2[col[n]])
            lost += 0.5 * (x - y) * (x - y) + x * y * missing
            out_e[n] = math.copysign(max(lost, 0.0), total)
        if out_d.shape[0] > 0 and slope1.shape[0] == 0:
            out_d[n] = _slope(a, b, degree, rho, rho2, rho4)
        elif out_d.shape[0] > 0:
            out_d[n] = _sum(slope1[row[n]], slope2[col[n]], degree, rho, rho2, rho4)
