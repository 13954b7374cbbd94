"""The certificate's second opinion: nested Gauss-Legendre panels in extended precision (80 bits).

u = m1 + s1 z, v | u = m2 + s2 (rho z + sigma z').  Panels of both integrals end at the kinks and shrink
geometrically around kinks, their images and steep places.  Knows the functions only as NumPy code.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from .certificate_table import Case

WIDE = np.longdouble
ORDER = 20


def legendre(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights in extended precision: Newton's steps from the float64 ones."""
    x = np.polynomial.legendre.leggauss(order)[0].astype(WIDE)
    for _ in range(3):
        before, now = np.ones_like(x), x
        for k in range(2, order + 1):
            before, now = now, ((2 * k - 1) * x * now - (k - 1) * before) / WIDE(k)
        slope = order * (x * now - before) / (x * x - 1)
        x = x - now / slope
    return x, 2 / ((1 - x * x) * slope**2)


X, W = legendre(ORDER)


def graded(centre: float, width: float, reach: float) -> np.ndarray:
    """Panel ends: the place itself and, from ``width`` on, twice as far each time."""
    if not np.isfinite(centre) or abs(centre) > 2 * reach:
        return np.empty(0, WIDE)
    steps = max(width, 1e-30) * WIDE(2) ** np.arange(-1, 110)
    steps = steps[steps < 2 * reach]
    return np.concatenate([centre - steps[::-1], [WIDE(centre)], centre + steps])


def nodes(cuts: np.ndarray, reach: float, most: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights, the normal density included, of panels no wider than ``most``."""
    even = np.linspace(WIDE(-reach), WIDE(reach), int(np.ceil(2 * reach / most)) + 1)
    ends = np.unique(np.clip(np.concatenate([even, cuts]), -reach, reach))
    half, middle = np.diff(ends)[:, None] / 2, (ends[1:] + ends[:-1])[:, None] / 2
    z = (middle + half * X).ravel()
    density = np.exp(-z * z / 2) / np.sqrt(8 * np.arctan(WIDE(1)))
    return z, (half * W).ravel() * density


def pair(case: Case, q1: float, q2: float, c: float, m1: float = 0.0, m2: float = 0.0) -> np.ndarray:
    """E f(u) f(v) and E f'(u) f'(v)."""
    f, slope = case.numpy
    s1, s2 = np.sqrt(WIDE(q1)), np.sqrt(WIDE(q2))
    rho = np.clip(WIDE(c) / (s1 * s2), -1, 1)
    rest = WIDE(q1) * WIDE(q2) - WIDE(c) * WIDE(c)
    if abs(c) > 0.5 * np.sqrt(q1 * q2):  # the difference of two exact products
        rest = WIDE(float(Fraction(q1) * Fraction(q2) - Fraction(c) ** 2))
    sigma = np.sqrt(max(rest, WIDE(0))) / (s1 * s2)
    reach, places = case.reach, case.special
    waves = case.kind == "oscillating"
    cuts = [graded((p - m1) / s1, d / s1, reach) for p, d in places]
    if rho:
        for p, d in places:
            width = sigma if not case.analytic and sigma else max(sigma, d / s2)
            cuts.append(graded((p - m2) / (s2 * rho), min(width, d / s2) / abs(rho), reach))
    z, w = nodes(_joined(cuts), reach, min(1.0, 3.0 / float(s1 + s2)) if waves else 1.0)
    u = m1 + s1 * z
    centre = m2 + s2 * rho * z
    spread = s2 * sigma
    if spread == 0:
        return np.array([np.sum(w * f(u) * f(centre)), np.sum(w * slope(u) * slope(centre))])
    g, g1 = np.empty_like(z), np.empty_like(z)
    for i, m in enumerate(centre):
        around = [graded((p - m) / spread, d / spread, reach) for p, d in places]
        x, share = nodes(_joined(around), reach, min(1.5, 3.0 / float(spread)) if waves else 1.5)
        v = m + spread * x
        g[i], g1[i] = np.sum(share * f(v)), np.sum(share * slope(v))
    return np.array([np.sum(w * f(u) * g), np.sum(w * slope(u) * g1)])


def _joined(cuts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, WIDE), *cuts])
