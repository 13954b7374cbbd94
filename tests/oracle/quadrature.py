"""E f(u) f(v) and E f'(u) f'(v) of a centred Gaussian pair by brute two-dimensional Gauss-Legendre panels.

u = sqrt(q1) z1 and v = (c/sqrt(q1)) z1 + sqrt(q2 - c^2/q1) z2 with z1, z2 independent.  Panels of z2 are
cut at the kinks of f(v), panels of z1 at the kinks of f(u) and, geometrically finer and finer, at the
z1 where the conditional mean of v meets a kink: there the inner integral turns within the conditional
standard deviation.  Smooth functions get the same treatment around their steep place, u = 0.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from scipy.special import expit

REACH = 9.5  # exp(-REACH^2/2) = 3e-20


def _sech2(u):
    e = np.exp(-2 * np.abs(u))
    return 4 * e / (1 + e) ** 2


def _mish(u):
    e = np.exp(-np.abs(u))
    top = np.where(u > 0, 1 + 2 * e, e * (e + 2))  # (1 + e^u)^2 - 1, scaled by e^{-2u} for u > 0
    return u * top / np.where(u > 0, 1 + 2 * e + 2 * e * e, top + 2)


def _mish_slope(u):
    w = np.where(u > 20, 1.0, np.tanh(np.logaddexp(0, u)))
    return w + u * (1 - w) * (1 + w) * expit(u)


_SELU_A, _SELU_S = 1.6732632423543772, 1.0507009873554805


def _elu(u):
    return np.where(u > 0, u, np.expm1(np.minimum(u, 0)))


def _elu_slope(u):
    return np.exp(np.minimum(u, 0))


FUNCTIONS = {
    "tanh": (np.tanh, _sech2, ()),
    "sigmoid": (expit, lambda u: expit(u) * expit(-u), ()),
    "silu": (lambda u: u * expit(u), lambda u: expit(u) * (1 + u * expit(-u)), ()),
    "softplus": (lambda u: np.logaddexp(0, u), expit, ()),
    "elu": (_elu, _elu_slope, (0.0,)),
    "selu": (
        lambda u: _SELU_S * np.where(u > 0, u, _SELU_A * np.expm1(np.minimum(u, 0))),
        lambda u: _SELU_S * np.where(u > 0, 1.0, _SELU_A * np.exp(np.minimum(u, 0))),
        (0.0,),
    ),
    "mish": (_mish, _mish_slope, ()),
    "hard_tanh": (lambda u: np.clip(u, -1, 1), lambda u: (np.abs(u) < 1).astype(float), (-1.0, 1.0)),
}
"""name -> (f, its almost everywhere derivative, kinks)."""

INPUTS = {
    "narrow, apart": ((0.5, 2.0, -1.0), ()),
    "narrow, near": ((0.5, 2.0, -1.0), (1e-12, 1e-7, 1e-2)),
    "wide, apart": ((4.0, 8.0, -(2.0**-10)), ()),
    "wide, near": ((4.0, 8.0, -(2.0**-10)), (1e-12, 1e-7, 1e-2)),
}
"""name -> (what multiples of one input there are, how far others are from it)."""


def inputs(scales, near):
    """A vector of 12 entries and others that are its multiples, independent of it, and near it."""
    a, b, noise = np.random.default_rng(3).standard_normal((3, 12))
    return np.array([a, *(s * a for s in scales), b, noise, *(a + d * noise for d in near)])


def _graded(centre: float, width: float) -> np.ndarray:
    """Cuts at centre +- width 2^k: fine at the centre, at most 0.5 apart further out."""
    if not np.isfinite(centre) or abs(centre) > REACH + 1:
        return np.empty(0)
    steps = max(width, 1e-9) * 2.0 ** np.arange(-3, 60)
    steps = steps[steps < 2 * REACH]
    return np.concatenate([centre - steps, [centre], centre + steps])


def _nodes(cuts: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights (times the normal density) of Gauss-Legendre on the panels between the cuts."""
    cuts = np.unique(np.clip(np.concatenate([cuts, np.linspace(-REACH, REACH, 25)]), -REACH, REACH))
    x, w = np.polynomial.legendre.leggauss(order)
    half, mid = np.diff(cuts)[:, None] / 2, (cuts[1:] + cuts[:-1])[:, None] / 2
    z = (mid + half * x).ravel()
    return z, (half * w).ravel() * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


def pair(name: str, q1: float, q2: float, c: float, order: int = 16) -> tuple[float, float]:
    """(E f(u) f(v), E f'(u) f'(v)) for Var u = q1, Var v = q2, Cov(u, v) = c (all exact floats)."""
    f, df, kinks = FUNCTIONS[name]
    s1 = np.sqrt(q1)
    rest = Fraction(q2) - Fraction(c) ** 2 / Fraction(q1)
    slope, sd = c / s1, np.sqrt(max(float(rest), 0.0))
    steep = kinks or (0.0,)
    cuts = [np.asarray(_graded(k / s1, min(1.0, 1.0 / s1))) for k in steep]
    if slope != 0:
        cuts += [_graded(k / slope, sd / abs(slope)) for k in steep]
        cuts += [_graded(k / slope, min(1.0, 1.0 / abs(slope))) for k in steep]
    z1, w1 = _nodes(np.concatenate(cuts), order)
    u = s1 * z1
    if sd * 1e3 < 1e-9 * np.sqrt(q2) and not kinks or sd == 0.0:
        v = slope * z1
        return float(np.sum(w1 * f(u) * f(v))), float(np.sum(w1 * df(u) * df(v)))
    inner_f, inner_d = np.empty_like(z1), np.empty_like(z1)
    z2, w2 = _nodes(np.empty(0), order)
    for i, m in enumerate(slope * z1):
        if kinks:
            z2, w2 = _nodes(np.array([(k - m) / sd for k in kinks if abs(k - m) < REACH * sd]), order)
        elif sd > 0.3:  # the steep place of v | u moves with u
            z2, w2 = _nodes(_graded(-m / sd, min(1.0, 1.0 / sd)), order)
        v = m + sd * z2
        inner_f[i], inner_d[i] = np.sum(w2 * f(v)), np.sum(w2 * df(v))
    return float(np.sum(w1 * f(u) * inner_f)), float(np.sum(w1 * df(u) * inner_d))
