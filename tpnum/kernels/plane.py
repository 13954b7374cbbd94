"""Many Gaussian laws over one grid of values: sums of f times a bivariate density, row by row."""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._elementary import decay
from tpnum.kernels._jit import kernel, maker, reduction

SUMS = 3
"""f, |f|, and |f| along the rim; then the probes."""
PAD = 16
"""Rows are summed in multiples of so many columns, of which the grid has so many to spare."""


@kernel
def _weigh(values, at, slope, t):
    """T = f exp(-(at + slope j)^2/2) along a row."""
    for j in range(values.shape[0]):
        x = at + slope * j
        t[j] = values[j] * decay(-0.5 * x * x)


@reduction
def _sums(t):
    total = size = 0.0
    for j in range(t.shape[0]):
        total += t[j]
        size += abs(t[j])
    return total, size


@reduction
def _waves(t, cosine, sine):
    c = s = 0.0
    for j in range(t.shape[0]):
        c += t[j] * cosine[j]
        s += t[j] * sine[j]
    return c, s


@maker
def plane_sums(values, first, step, mean, root, radius, cosines, sines, out):
    """Integrals of f times densities over ellipses |z| <= radius, and of f with waves.

    ``values[i, j]`` = f(first[0] + step[0] i, first[1] + step[1] j), `PAD` columns beyond every ellipse; a
    law is mean[n] and the triangular root[n] = (r11, r21, r22), u = m1 + r11 z1, v = m2 + r21 z1 + r22 z2.
    ``cosines[a][k, i]`` is cos(pi p_k i) along axis a.  ``out[n]``: `SUMS` numbers, then (4 directions, 3
    waves, cosine and sine); the rim continues the ends of every row, falling like exp(-|z|).
    """
    height = values.shape[0]
    line = np.empty(values.shape[1])
    for n in range(mean.shape[0]):
        r11, r21, r22 = root[n, 0], root[n, 1], root[n, 2]
        result = out[n]
        result[:] = 0.0
        low = max(0, int(math.ceil((mean[n, 0] - radius * r11 - first[0]) / step[0])))
        high = min(height, int(math.floor((mean[n, 0] + radius * r11 - first[0]) / step[0])) + 1)
        slope = step[1] / r22
        for i in range(low, high):
            z = (first[0] + step[0] * i - mean[n, 0]) / r11
            reach = math.sqrt(max(0.0, radius * radius - z * z)) * r22
            centre = mean[n, 1] + r21 * z
            begin = int(math.ceil((centre - reach - first[1]) / step[1]))
            end = int(math.floor((centre + reach - first[1]) / step[1])) + 1
            end = begin + (end - begin + PAD - 1) // PAD * PAD
            if end <= begin:
                continue
            at = (first[1] - centre) / r22 + slope * begin
            weight = math.exp(-0.5 * z * z)
            row = values[i, begin:end]
            t = line[: end - begin]
            _weigh(row, at, slope, t)
            total, size = _sums(t)
            result[0] += weight * total
            result[1] += weight * size
            result[2] += weight * (abs(t[0]) + abs(t[-1]))
            for k in range(3):
                c, s = cosines[0][k, i], sines[0][k, i]
                cos, sin = _waves(t, cosines[1][k, begin:end], sines[1][k, begin:end])
                p = SUMS + 2 * k
                result[p] += weight * total * c
                result[p + 1] += weight * total * s
                result[p + 6] += weight * cos
                result[p + 7] += weight * sin
                result[p + 12] += weight * (c * cos - s * sin)
                result[p + 13] += weight * (s * cos + c * sin)
                result[p + 18] += weight * (c * cos + s * sin)
                result[p + 19] += weight * (s * cos - c * sin)
        scale = step[0] * step[1] / (2.0 * math.pi * r11 * r22)
        for k in range(result.shape[0]):
            result[k] *= scale
        result[2] /= slope
