"""The compiled Cauchy transforms against plain sums, and panels against integrals by mpmath."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from tpnum import spectra as sp
from tpnum.spectra import sums
from tpnum.spectra.piecewise import PiecewiseDensity, tabulate

RNG = np.random.default_rng(0)


def test_atoms():
    points, masses = RNG.uniform(-1, 2, 37), RNG.dirichlet(np.ones(37))
    z = RNG.uniform(-2, 3, (3, 7)) + 1j * RNG.uniform(0.01, 1, (3, 7))
    value, slope = sums.of_atoms(z, points, masses)
    np.testing.assert_allclose(value, np.sum(masses / (z[..., None] - points), axis=-1), rtol=1e-13)
    np.testing.assert_allclose(slope, -np.sum(masses / (z[..., None] - points) ** 2, axis=-1), rtol=1e-13)
    assert sums.of_atoms(np.empty(0, complex), points, masses)[0].shape == (0,)


@pytest.mark.parametrize("size", [1.0, 0.9, 1e-3, 0.0])
def test_power_series(size):
    """Also where powers are left out."""
    coefs = RNG.standard_normal(300)
    w = size * np.exp(1j * RNG.uniform(0, np.pi, 53))
    value, slope = sums.power_series(w, coefs)
    np.testing.assert_allclose(value, np.polynomial.polynomial.polyval(w, coefs), rtol=1e-11, atol=1e-12)
    want = np.polynomial.polynomial.polyval(w, np.polynomial.polynomial.polyder(coefs))
    np.testing.assert_allclose(slope, want, rtol=1e-10, atol=1e-9)


def test_panels_are_the_integral():
    """A cube root at an edge and one inside, far, near, on the line, and where panels meet."""
    law = tabulate(sp.fuss_catalan(2))
    assert isinstance(law, PiecewiseDensity)
    exact = sp.fuss_catalan(2)
    seen = (law.low > 1e-12) & (law.low < 6.0)  # nearer to the edges what is left out is seen
    ends, middles = law.low[seen], 0.5 * (law.low + law.high)[seen]
    x = np.concatenate([np.geomspace(1e-12, 6.7, 60), ends, middles, ends * (1 + 3e-16)])
    for z in (x + 0j, x + 1e-3j, -x + 1j * x, 100 * x + 1e-9j):
        g, slope = law._transform(z)
        want, change = exact._transform(z)
        np.testing.assert_allclose(g, want, rtol=1e-11)
        away = ~np.isin(x, ends) & ~np.isin(x, ends * (1 + 3e-16))  # where panels meet the slope is rough
        np.testing.assert_allclose(slope[away], change[away], rtol=1e-6)
    z = mp.mpc(1.0, 0.25)
    mine = sp.measure(lambda x: 0.75 * np.abs(x) ** 0.5, [(-1, 0), (0, 1)])
    want = 1.5 * z * mp.quad(lambda t: 2 * t * t / (z * z - t**4), np.linspace(0, 1, 6))
    assert mine.cauchy(complex(z)) == pytest.approx(complex(want), rel=1e-10)
