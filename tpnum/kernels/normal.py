"""The normal law in one and two dimensions: density, distribution functions, quantiles."""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._jit import helper

_ROOT_HALF = math.sqrt(0.5)
_TURN = 2.0 * math.pi
_ROOT_TURN = math.sqrt(_TURN)
_SPLIT = 134217729.0  # 2^27 + 1
_X6, _W6 = np.polynomial.legendre.leggauss(6)
_X12, _W12 = np.polynomial.legendre.leggauss(12)
_X20, _W20 = np.polynomial.legendre.leggauss(20)


@helper
def density(x):
    """The standard normal density."""
    return math.exp(-0.5 * x * x) / _ROOT_TURN


@helper
def cdf(x):
    """P(Z < x), relatively accurate in the lower tail."""
    return 0.5 * math.erfc(-x * _ROOT_HALF)


@helper
def central(r):
    """Quantile for p = 1/2 + q, |q| <= 0.425, over q; r = 0.425^2 - q^2 (Wichura 1988, AS 241)."""
    top = 2.5090809287301226727e3 * r + 3.3430575583588128105e4
    top = (top * r + 6.7265770927008700853e4) * r + 4.5921953931549871457e4
    top = (top * r + 1.3731693765509461125e4) * r + 1.9715909503065514427e3
    top = (top * r + 1.3314166789178437745e2) * r + 3.3871328727963666080e0
    low = 5.2264952788528545610e3 * r + 2.8729085735721942674e4
    low = (low * r + 3.9307895800092710610e4) * r + 2.1213794301586595867e4
    low = (low * r + 5.3941960214247511077e3) * r + 6.8718700749205790830e2
    low = (low * r + 4.2313330701600911252e1) * r + 1.0
    return top / low


@helper
def _tail(p):
    """Minus the quantile for p < 0.075 (AS 241)."""
    r = math.sqrt(-math.log(p))
    if r <= 5.0:
        r -= 1.6
        top = 7.74545014278341407640e-4 * r + 2.27238449892691845833e-2
        top = (top * r + 2.41780725177450611770e-1) * r + 1.27045825245236838258e0
        top = (top * r + 3.64784832476320460504e0) * r + 5.76949722146069140550e0
        top = (top * r + 4.63033784615654529590e0) * r + 1.42343711074968357734e0
        low = 1.05075007164441684324e-9 * r + 5.47593808499534494600e-4
        low = (low * r + 1.51986665636164571966e-2) * r + 1.48103976427480074590e-1
        low = (low * r + 6.89767334985100004550e-1) * r + 1.67638483018380384940e0
        low = (low * r + 2.05319162663775882187e0) * r + 1.0
        return top / low
    r -= 5.0
    top = 2.01033439929228813265e-7 * r + 2.71155556874348757815e-5
    top = (top * r + 1.24266094738807843860e-3) * r + 2.65321895265761230930e-2
    top = (top * r + 2.96560571828504891230e-1) * r + 1.78482653991729133580e0
    top = (top * r + 5.46378491116411436990e0) * r + 6.65790464350110377720e0
    low = 2.04426310338993978564e-15 * r + 1.42151175831644588870e-7
    low = (low * r + 1.84631831751005468180e-5) * r + 7.86869131145613259100e-4
    low = (low * r + 1.48753612908506148525e-2) * r + 1.36929880922735805310e-1
    low = (low * r + 5.99832206555887937690e-1) * r + 1.0
    return top / low


@helper
def quantile(p):
    """The inverse of `cdf` (AS 241, about 1e-16), held within +-38."""
    q = p - 0.5
    if abs(q) <= 0.425:
        return q * central(0.180625 - q * q)
    if q < 0.0:
        return -_tail(max(p, 1e-300))
    return _tail(max(1.0 - p, 1e-17))


@helper
def _product_error(a, b, p):
    """Exactly a b - p for p = fl(a b) (Dekker)."""
    t = _SPLIT * a
    ah = t - (t - a)
    t = _SPLIT * b
    bh = t - (t - b)
    al, bl = a - ah, b - bh
    return ((ah * bh - p) + ah * bl + al * bh) + al * bl


@helper
def complement(q1, q2, c):
    """1 - c^2/(q1 q2) to full relative accuracy, for q1 and q2 of order one; 0 where it is not positive."""
    p, s = q1 * q2, c * c
    made = ((p - s) + (_product_error(q1, q2, p) - _product_error(c, c, s))) / p
    return made if made > 0.0 else 0.0


@helper
def _arc(h, k, r, c, x, w):
    """P(X > h, Y > k) - P(X > h) P(Y > k) by Gauss-Legendre in the angle (Drezner and Wesolowsky 1990)."""
    middle = 0.5 * math.atan2(r, math.sqrt(c))
    product, squares = h * k, 0.5 * (h * h + k * k)
    total = 0.0
    for i in range(x.shape[0]):
        sine = math.sin(middle * (1.0 + x[i]))
        total += w[i] * math.exp((sine * product - squares) / (1.0 - sine * sine))
    return total * middle / _TURN


@helper
def _upper(h, k, r, c):
    """P(X > h, Y > k) for correlation r, c = 1 - r^2 (Genz 2004, his BVND)."""
    if abs(r) < 0.925:
        if abs(r) < 0.3:
            part = _arc(h, k, r, c, _X6, _W6)
        elif abs(r) < 0.75:
            part = _arc(h, k, r, c, _X12, _W12)
        else:
            part = _arc(h, k, r, c, _X20, _W20)
        return part + cdf(-h) * cdf(-k)
    if r < 0.0:
        k = -k
    product = h * k
    part = 0.0
    if c > 0.0:
        a = math.sqrt(c)
        gap = (h - k) * (h - k)
        first, second = (4.0 - product) / 8.0, (12.0 - product) / 80.0
        power = -0.5 * (gap / c + product)
        if power > -100.0:
            series = 1.0 - first * (gap - c) * (1.0 - second * gap) / 3.0 + first * second * c * c
            part = a * math.exp(power) * series
        if product > -100.0:
            b = math.sqrt(gap)
            series = 1.0 - first * gap * (1.0 - second * gap) / 3.0
            part -= math.exp(-0.5 * product) * _ROOT_TURN * cdf(-b / a) * b * series
        total = 0.0
        for i in range(_X20.shape[0]):
            x = 0.5 * a * (1.0 + _X20[i])
            x *= x
            power = -0.5 * (gap / x + product)
            if power > -100.0:
                root = math.sqrt(1.0 - x)
                series = 1.0 + first * x * (1.0 + 5.0 * second * x)
                ratio = math.exp(-0.5 * product * x / ((1.0 + root) * (1.0 + root))) / root
                total += _W20[i] * math.exp(power) * (series - ratio)
        part = (0.5 * a * total - part) / _TURN
    if r > 0.0:
        return part + cdf(-max(h, k))
    if h >= k:
        return -part
    between = cdf(k) - cdf(h) if h < 0.0 else cdf(-h) - cdf(-k)
    return between - part


@helper
def bivariate(h, k, r, c):
    """P(X < h, Y < k) of standard normals with correlation r; c = 1 - r^2 is given beside it.

    c counts near r = +-1, where r alone has lost the digits.
    """
    if h == 0.0 and k == 0.0:
        return 0.25 + math.atan2(r, math.sqrt(c)) / _TURN
    return min(1.0, max(0.0, _upper(-h, -k, r, c)))
