"""Controls of Gaussian sampling: products of functions of one axis, means of products of ramps and steps."""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._elementary import decay, decline
from tpnum.kernels._jit import kernel, maker
from tpnum.kernels.normal import bivariate, cdf, complement, density

BLOCK = 512


@maker
def polynomial_products(z, bound, coefs, table, out):
    """out[i] = the product over k of row table[i, k] of functions of one axis, at points z (axes, n).

    Row 0 is one, row a * len(coefs) + m is sum_j coefs[m - 1, j] x^j of z[a], where x is z itself for j = 1
    and bound tanh(z/bound) above; zeros end a product.
    """
    axes, n = z.shape
    high = coefs.shape[0]
    work = np.ones((1 + axes * high, BLOCK))
    held = np.empty(BLOCK)
    for begin in range(0, n, BLOCK):
        size = min(BLOCK, n - begin)
        t = held[:size]
        for a in range(axes):
            x = z[a, begin : begin + size]
            for s in range(size):
                v = -2.0 / bound * abs(x[s])
                t[s] = math.copysign(bound * decline(v) / (1.0 + decay(v)), x[s])
            for m in range(high):
                c = coefs[m]
                row = work[a * high + m + 1, :size]
                row[:] = 0.0
                for j in range(m + 1, 1, -1):
                    for s in range(size):
                        row[s] = (row[s] + c[j]) * t[s]
                for s in range(size):
                    row[s] = row[s] * t[s] + c[1] * x[s] + c[0]
        for i in range(out.shape[0]):
            made = out[i, begin : begin + size]
            made[:] = work[table[i, 0], :size]
            for k in range(1, table.shape[1]):
                if table[i, k] == 0:
                    break
                row = work[table[i, k], :size]
                for s in range(size):
                    made[s] *= row[s]


@kernel
def product_means(mean, scale, power, cov, first, second, out):
    """out[i] = E X+^p Y+^q for the rows X = first[i], Y = second[i], of deviations ``scale`` > 0.

    In standard form X = s (h + x), Y = t (k + y), Corr(x, y) = r, c^2 = 1 - r^2 (Rosenbaum 1961), with
    P = P(X, Y > 0), A = phi(h) Phi((k - r h)/c), B = phi(k) Phi((h - r k)/c):

        E 1{X > 0} 1{Y > 0} = P,   E X+ 1{Y > 0} = s (h P + A + r B),
        E X+ Y+ = s t ((h k + r) P + k A + h B + c phi(h) phi((k - r h)/c)).
    """
    for i in range(out.size):
        a, b = first[i], second[i]
        if power[a] < power[b]:
            a, b = b, a
        s, t = scale[a], scale[b]
        h, k = mean[a] / s, mean[b] / t
        r = min(1.0, max(-1.0, cov[a, b] / s / t))
        square = complement(1.0, 1.0, r)
        p = bivariate(h, k, r, square)
        if power[a] == 0:
            out[i] = p
            continue
        c = math.sqrt(max(square, 1e-16))
        one, other = (k - r * h) / c, (h - r * k) / c
        x, y = density(h) * cdf(one), density(k) * cdf(other)
        if power[b] == 0:
            out[i] = s * (h * p + x + r * y)
        else:
            out[i] = s * t * ((h * k + r) * p + k * x + h * y + c * density(h) * density(one))
