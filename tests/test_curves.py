"""Second derivatives of expectations in closed form: by Gauss-Hermite points, and in many digits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from tpnum.evaluate.partials import _gelu_partials
from tpnum.kernels.curves import _gelu

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def normal(u):
    """phi and Phi."""
    return np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi), np.vectorize(lambda x: float(mpmath.ncdf(x)))(u)


def gelu(u):
    """u Phi(u) and its derivatives up to the third."""
    density, share = normal(u)
    return u * share, share + u * density, (2.0 - u * u) * density, (u**3 - 4.0 * u) * density


@pytest.mark.parametrize(("q", "q2", "rho"), [(1.3, 0.7, 0.4), (2.0, 0.5, -0.8), (0.1, 1.5, 0.95)])
def test_gelu_by_quadrature(q, q2, rho):
    """E f'' f''; q E f'' f and E f q' f'', which are those by logarithms of deviations; then of f'."""
    u = np.sqrt(q) * NODES
    v = np.sqrt(q2) * (rho * NODES[:, None] + np.sqrt(1.0 - rho * rho) * NODES)
    (f, f1, f2, f3), (g, g1, g2, g3) = gelu(u), gelu(v)
    pairs = [(f2, g2, 1.0), (f2, g, q), (f, g2, q2), (f3, g1, q), (f1, g3, q2)]
    expected = [scale * (WEIGHTS * left) @ (right @ WEIGHTS) for left, right, scale in pairs]
    c, away = rho * np.sqrt(q * q2), (1.0 - rho) * (1.0 + rho)
    np.testing.assert_allclose(_gelu(away, c, q, 1 / (1 + q), q2, 1 / (1 + q2)), expected, rtol=1e-11)
    np.testing.assert_allclose(_gelu_partials(c, q, q2, q * q2 * away), expected, rtol=1e-11)


@pytest.mark.parametrize("away", [0.0, 1e-14, 1e-6, 0.3, 1.0])
@pytest.mark.parametrize(("q", "q2"), [(1e8, 1e8), (1e8, 1e-8), (1e-8, 1e-8), (30.0, 20.0), (0.0, 2.0)])
def test_gelu_in_many_digits(q, q2, away):
    """Relative to the size of each at rho = 0 and 1, where terms cancel: a formula that keeps its digits."""
    with mpmath.workdps(60):
        t, a, b = map(mpmath.mpf, (away, q, q2))
        c = mpmath.sqrt((1 - t) * a * b)
        expected = [float(x) for x in _formula(c, a, b, a * b * t)]
        size = [float(max(map(abs, x))) for x in zip(*_ends(a, b), strict=True)]
        given = float(t), float(c), q, 1 / (1 + q), q2, 1 / (1 + q2)
    for one, right, most in zip(_gelu(*given), expected, size, strict=True):
        assert abs(one - right) <= 1e-14 * max(abs(right), most)


def _ends(a, b):
    root = mpmath.sqrt(a * b)
    return _formula(mpmath.mpf(0), a, b, a * b), _formula(root, a, b, mpmath.mpf(0))


def _formula(c, a, b, g):
    y = 1 / (1 + a + b + g)
    root = mpmath.sqrt(y) / (2 * mpmath.pi)
    values, slopes = [], []
    for own, other in ((a, b), (b, a)):
        i = 1 / (1 + own)
        f = i * (g * (1 + 2 * i) + 2 * i * other - c * c * y)
        values.append(root * own * f)
        slopes.append(root * c * own * (f * y - 2 * i * (1 + 2 * i + y + (c * y) ** 2)))
    return root * ((2 - (a + g) * y) * (2 - (b + g) * y) + 2 * (c * y) ** 2), *values, *slopes
