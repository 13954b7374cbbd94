"""Normal distribution functions in up to four dimensions, by Plackett's formula.

The coordinates are split in two blocks; R(x) is the correlation matrix with the entries between the
blocks multiplied by cos x.  At x = pi/2 the blocks are independent, and (Plackett 1954)

    P(R) = P(block 1) P(block 2) + sum_ij int_0^{pi/2} r_ij sin x phi_2(h_i, h_j; r_ij cos x) P_ij(x) dx,

i and j in different blocks, P_ij the probability of the others given that coordinates i and j are at
their bounds.  In x the integrand is analytic up to x = 0 also where R is singular.
"""

from __future__ import annotations

import math

import numpy as np

from tpnum.kernels._jit import helper, maker
from tpnum.kernels.normal import bivariate, cdf, complement

_FAR = 38.5  # the distribution function is 0 or 1 beyond
_TURN = 2.0 * math.pi
_LARGEST = 60  # intervals of the adaptive rule
_TWINS = 2e-15  # 1 - r^2 of two coordinates that are one, in three and four dimensions
_NOTHING = 2e-15  # a determinant below this share of its terms is rounding

# Gauss-Kronrod 10-21 (QUADPACK): abscissae, Kronrod weights; every second one is a Gauss node
_XK = np.array([
    0.995657163025808080735527280689003, 0.973906528517171720077964012084452,
    0.930157491355708226001207180059508, 0.865063366688984510732096688423493,
    0.780817726586416897063717578345042, 0.679409568299024406234327365114874,
    0.562757134668604683339000099272694, 0.433395394129247190799265943165784,
    0.294392862701460198131126603103866, 0.148874338981631210884826001129720, 0.0,
])  # fmt: skip
_WK = np.array([
    0.011694638867371874278064396062192, 0.032558162307964727478818972459390,
    0.054755896574351996031381300244580, 0.075039674810919952767043140916190,
    0.093125454583697605535065465083366, 0.109387158802297641899210590325805,
    0.123491976262065851077958109585166, 0.134709217311473325928054001771707,
    0.142775938577060080797094273138717, 0.147739104901338491374841515972068,
    0.149445554002916905664936468389821,
])  # fmt: skip
_WG = np.array([
    0.066671344308688137593568809893332, 0.149451349150580593145863396957658,
    0.219086362515982043995534934228163, 0.269266719309996355091226921569469,
    0.295524224714752870173815619188769,
])  # fmt: skip


@helper
def _short(r, c, sign):
    """1 - sign r from r and c = 1 - r^2."""
    return c / (1.0 + abs(r)) if r * sign > 0.0 else 1.0 + abs(r)


@helper
def _partial(r, c, i, j, k):
    """r_jk - r_ij r_ik: also near |r| = 1, where the complements have the digits."""
    sj, sk = math.copysign(1.0, r[i, j]), math.copysign(1.0, r[i, k])
    ej, ek = _short(r[i, j], c[i, j], sj), _short(r[i, k], c[i, k], sk)
    return sj * sk * (ej + ek - _short(r[j, k], c[j, k], sj * sk) - ej * ek)


@helper
def _determinant(r, c, i, j, k):
    """det of the correlations of i, j, k, zero where it is rounding."""
    size, part = c[i, j] * c[i, k], _partial(r, c, i, j, k)
    made = size - part * part
    return made if made > _NOTHING * size else 0.0


@helper
def _ratio(a, b):
    """a/b held within +-_FAR; 0/0 = 0, at which the distribution function is 1/2."""
    if abs(a) >= _FAR * b:
        return 0.0 if a == 0.0 else math.copysign(_FAR, a)
    return a / b


@helper
def _edge(h, r, c, fixed, d, i, j, cosine, sine):
    """The pair (i, j)'s term of the integrand, over 2 pi; i in the first block, j in the second.

    r and c at x; ``fixed`` holds det(0, 1, 2) at x = 0, in four dimensions that of all but coordinate m.
    """
    slope = r[i, j] / cosine if cosine > 0.0 else 0.0
    power = -0.5 * ((h[i] - r[i, j] * h[j]) ** 2 / c[i, j] + h[j] * h[j])
    if slope == 0.0 or power < -745.0:
        return 0.0
    front = slope * sine / math.sqrt(c[i, j]) * math.exp(power)
    if d == 3:  # blocks {0}, {1, 2}
        k = 3 - j
        square = c[j, k] * sine * sine + cosine * cosine * fixed[0]
        made = c[i, j] * h[k] - h[i] * _partial(r, c, j, i, k) - h[j] * _partial(r, c, i, j, k)
        return front * cdf(_ratio(made, math.sqrt(c[i, j] * square)))
    k, l = 1 - i, 5 - j  # blocks {0, 1}, {2, 3}
    dk = c[i, k] * sine * sine + cosine * cosine * fixed[l]
    dl = c[j, l] * sine * sine + cosine * cosine * fixed[k]
    ik, il = _partial(r, c, j, i, k), _partial(r, c, j, i, l)
    hk = _ratio(c[i, j] * h[k] - h[i] * ik - h[j] * _partial(r, c, i, j, k), math.sqrt(c[i, j] * dk))
    hl = _ratio(c[i, j] * h[l] - h[i] * il - h[j] * _partial(r, c, i, j, l), math.sqrt(c[i, j] * dl))
    size = math.sqrt(dk * dl)
    if size <= 0.0:
        return front * bivariate(hk, hl, 0.0, 1.0)
    rho = (c[i, j] * _partial(r, c, j, k, l) - ik * il) / size
    rho = min(1.0, max(-1.0, rho))
    return front * bivariate(hk, hl, rho, (1.0 - rho) * (1.0 + rho))


@helper
def _integrand(h, r, c, fixed, at_r, at_c, x):
    d = h.shape[0]
    cosine, sine = math.cos(x), math.sin(x)
    first = 1 if d == 3 else 2
    for i in range(d):
        for j in range(d):
            between = (i < first) != (j < first)
            at_r[i, j] = r[i, j] * cosine if between else r[i, j]
            at_c[i, j] = c[i, j] + (r[i, j] * sine) ** 2 if between else c[i, j]
    total = 0.0
    for i in range(first):
        for j in range(first, d):
            total += _edge(h, at_r, at_c, fixed, d, i, j, cosine, sine)
    return total


@helper
def _panel(h, r, c, fixed, at_r, at_c, low, high):
    """(Kronrod value, error) of one interval."""
    middle, reach = 0.5 * (low + high), 0.5 * (high - low)
    at = _integrand(h, r, c, fixed, at_r, at_c, middle)
    fine, coarse, size = _WK[10] * at, 0.0, _WK[10] * abs(at)
    for i in range(10):
        one = _integrand(h, r, c, fixed, at_r, at_c, middle - reach * _XK[i])
        other = _integrand(h, r, c, fixed, at_r, at_c, middle + reach * _XK[i])
        fine += _WK[i] * (one + other)
        size += _WK[i] * (abs(one) + abs(other))
        if i % 2 == 1:
            coarse += _WG[i // 2] * (one + other)
    apart = abs(fine - coarse)
    # the Kronrod rule is far better than the difference says where that is small (QUADPACK)
    error = apart * min(1.0, (200.0 * apart / size) ** 0.5) if size > 0.0 else 0.0
    return fine * reach, error * reach


@helper
def _plackett(h, r, c, work):
    """The integral over x in (0, pi/2), by bisection where a panel is not settled: (value, error)."""
    stack, fixed, at_r, at_c = work
    d = h.shape[0]
    if d == 3:
        fixed[0] = _determinant(r, c, 0, 1, 2)
    else:
        fixed[0], fixed[1] = _determinant(r, c, 1, 2, 3), _determinant(r, c, 0, 2, 3)
        fixed[2], fixed[3] = _determinant(r, c, 0, 1, 3), _determinant(r, c, 0, 1, 2)
    stack[0, 0], stack[0, 1] = 0.0, 0.5 * math.pi
    waiting, used = 1, 1
    total, error = 0.0, 0.0
    while waiting > 0:
        waiting -= 1
        low, high = stack[waiting, 0], stack[waiting, 1]
        value, wrong = _panel(h, r, c, fixed, at_r, at_c, low, high)
        if wrong < 1e-14 * (high - low) + 1e-16 or used >= _LARGEST or high - low < 1e-9:
            total += value
            error += wrong
        else:
            middle = 0.5 * (low + high)
            stack[waiting, 0], stack[waiting, 1] = middle, high
            stack[waiting + 1, 0], stack[waiting + 1, 1] = low, middle
            waiting += 2
            used += 2
    return total / _TURN, error / _TURN


@helper
def _swap(h, r, c, i, j):
    if i == j:
        return
    h[i], h[j] = h[j], h[i]
    for k in range(h.shape[0]):
        r[i, k], r[j, k] = r[j, k], r[i, k]
        c[i, k], c[j, k] = c[j, k], c[i, k]
    for k in range(h.shape[0]):
        r[k, i], r[k, j] = r[k, j], r[k, i]
        c[k, i], c[k, j] = c[k, j], c[k, i]


@helper
def _two(h, r, c):
    return bivariate(h[0], h[1], r[0, 1], c[0, 1])


@helper
def _taken(h, c, sign, i, j):
    """What it may cost that the twins i and j are taken for one."""
    width = math.sqrt(c[i, j])
    return width / _TURN if abs(h[i] - sign * h[j]) < 8.0 * width else 0.0


@helper
def _twins(h, r, c):
    """Bring a pair with |r| = 1, if any, to the end, the tighter bound before it; returns its sign."""
    d = h.shape[0]
    for i in range(d):
        for j in range(i):
            if c[i, j] <= _TWINS:
                sign = math.copysign(1.0, r[i, j])
                _swap(h, r, c, i, d - 1)
                _swap(h, r, c, j, d - 2)
                if sign > 0.0 and h[d - 1] < h[d - 2]:
                    _swap(h, r, c, d - 2, d - 1)
                return sign
    return 0.0


@helper
def _three(h, r, c, work):
    """The trivariate distribution function and its error; the arguments are reordered."""
    if h[0] == 0.0 and h[1] == 0.0 and h[2] == 0.0:
        total = 0.0
        for i in range(3):
            for j in range(i):
                total += math.atan2(r[i, j], math.sqrt(c[i, j]))
        return max(0.0, 0.125 + total / (2.0 * _TURN)), 0.0
    sign = _twins(h, r, c)
    if sign != 0.0:
        wrong = _taken(h, c, sign, 1, 2)
        whole = _two(h[:2], r, c)
        if sign > 0.0:
            return whole, wrong
        if h[1] <= -h[2]:
            return 0.0, wrong
        h[1] = -h[2]
        return max(0.0, whole - _two(h[:2], r, c)), wrong
    # the pair of the largest correlation is the block that stays
    alone = 0
    if c[0, 2] < c[1, 2] and c[0, 2] <= c[0, 1]:
        alone = 1
    elif c[0, 1] < c[1, 2]:
        alone = 2
    _swap(h, r, c, 0, alone)
    value, error = _plackett(h, r, c, work)
    value += cdf(h[0]) * bivariate(h[1], h[2], r[1, 2], c[1, 2])
    return min(1.0, max(0.0, value)), error


@helper
def _four(h, r, c, work, spare):
    """The quadrivariate distribution function and its error; the arguments are reordered."""
    sign = _twins(h, r, c)
    if sign != 0.0:
        wrong = _taken(h, c, sign, 2, 3)
        if sign < 0.0 and h[2] <= -h[3]:
            return 0.0, wrong
        h3, r3, c3 = spare
        total = 0.0
        # up to the bound of one of the twins, less what is beyond that of its opposite
        for side in range(2 if sign < 0.0 else 1):
            for i in range(3):
                h3[i] = h[i]
                for j in range(3):
                    r3[i, j], c3[i, j] = r[i, j], c[i, j]
            if side == 1:
                h3[2] = -h[3]
            made, other = _three(h3, r3, c3, work)
            total += made if side == 0 else -made
            wrong += other
        return max(0.0, total), wrong
    best, most = 1, -1.0
    for k in range(1, 4):  # 0 goes with k, so that the largest correlations stay inside the blocks
        i, j = (2 if k == 1 else 1), (2 if k == 3 else 3)
        least = min(min(c[0, i], c[0, j]), min(c[k, i], c[k, j]))
        if least > most:
            best, most = k, least
    _swap(h, r, c, 1, best)
    value, error = _plackett(h, r, c, work)
    value += bivariate(h[0], h[1], r[0, 1], c[0, 1]) * bivariate(h[2], h[3], r[2, 3], c[2, 3])
    return min(1.0, max(0.0, value)), error


@helper
def standardise(bound, cov, h, r, c):
    """Bounds, correlations and 1 - r^2 of variances of order one; a variance 0: a bound that holds or not."""
    d = bound.shape[0]
    for i in range(d):
        root = math.sqrt(cov[i, i]) if cov[i, i] > 0.0 else 0.0
        h[i] = _ratio(bound[i], root) if root > 0.0 else (_FAR if bound[i] >= 0.0 else -_FAR)
        r[i, i], c[i, i] = 1.0, 0.0
        for j in range(i):
            if root > 0.0 and cov[j, j] > 0.0:
                away = complement(cov[i, i], cov[j, j], cov[i, j])
                r[i, j] = math.copysign(math.sqrt(1.0 - away), cov[i, j])
                if away > 0.5:  # near zero the quotient has the digits
                    r[i, j] = cov[i, j] / (root * math.sqrt(cov[j, j]))
                c[i, j] = away
            else:
                r[i, j], c[i, j] = 0.0, 1.0
            r[j, i], c[j, i] = r[i, j], c[i, j]


@maker
def small_cdf(bound, cov, out, error):
    """P(Z < bound), Z ~ N(0, cov), row by row for ``bound`` (n, d), d <= 4, variances 0 or of order one."""
    d = bound.shape[1]
    h, r, c = np.empty(d), np.empty((d, d)), np.empty((d, d))
    work = np.empty((_LARGEST + 2, 2)), np.empty(4), np.empty((d, d)), np.empty((d, d))
    spare = np.empty(3), np.empty((3, 3)), np.empty((3, 3))
    for n in range(bound.shape[0]):
        standardise(bound[n], cov[n], h, r, c)
        if d == 1:
            out[n], wrong = cdf(h[0]), 0.0
        elif d == 2:
            out[n], wrong = _two(h, r, c), 0.0
        elif d == 3:
            out[n], wrong = _three(h, r, c, work)
        else:
            out[n], wrong = _four(h, r, c, work, spare)
        error[n] = 1e-15 + wrong
