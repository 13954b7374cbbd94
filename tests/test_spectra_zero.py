"""Free products of laws whose densities reach 0, and series at edges where a density vanishes."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from tpnum import spectra as S

FROM_ZERO = S.semicircle(1.0, 2.0)
"""A density that vanishes like sqrt x at 0."""


def by_equation(x: float) -> float:
    """The density of the product of two of these, w^2 u = z (1 + u), followed from far above."""
    with mp.workdps(40):

        def value(w: mp.mpc) -> mp.mpc:
            return w * (w - 2 - mp.sqrt(w) * mp.sqrt(w - 4)) / 2

        height, w = mp.mpf(40), mp.mpc(x, 40) / 2
        while height > mp.mpf(x) * mp.mpf(10) ** -24:
            z = mp.mpc(x, height)
            w = mp.findroot(lambda w, z=z: w * w * (value(w) - 1) / value(w) / abs(z) - z / abs(z), w)
            height /= 2
        return float(-mp.im(value(w) / x) / mp.pi)


def test_density_that_vanishes_at_zero():
    law = S.free_product(FROM_ZERO, FROM_ZERO)
    top = 0.5 * (11.0 + 5.0**1.5)
    assert law.edges[0] == pytest.approx([0.0, top], rel=1e-12, abs=1e-300)
    x = np.array([1e-7, 1e-3, 1.0, 10.0])
    assert law.density(x) == pytest.approx([by_equation(v) for v in x], rel=1e-9)
    assert law.density(0.0) == 0.0
    p = np.array([1e-8, 1e-3, 0.5, 0.97])
    assert law.cdf(law.quantile(p)) == pytest.approx(p, abs=1e-12)


@pytest.mark.parametrize(
    ("parts", "edge", "at_zero"),
    [
        ((FROM_ZERO, S.marchenko_pastur(0.5)), 0.0, 0.0),
        ((FROM_ZERO, S.atoms([1.0, 2.0])), 0.0, 0.0),
        ((S.semicircle(1.0, 2.0).affine(0.1), S.semicircle(1.0, 2.0)), 0.0, 0.0),
        ((FROM_ZERO, S.marchenko_pastur(1.0)), 0.0, np.inf),
        # a kernel of the other part keeps it off
        ((FROM_ZERO, S.atoms([0.0, 1.0, 2.0], [0.1, 0.4, 0.5])), 0.14032218, 0.0),
    ],
)
def test_lower_edges_and_densities_at_zero(parts, edge, at_zero):
    law = S.free_product(*parts)
    assert law.edges[0, 0] == pytest.approx(edge, rel=1e-6, abs=1e-300)
    assert law.density(0.0) == at_zero


def test_smooth_density_at_zero_stays():
    """Beside 0 z is as w: the density at 0 is that of the first times the mean of the second's 1/x."""
    flat = S.measure(lambda x: np.ones_like(x), (0.0, 1.0))
    assert S.free_product(flat, S.atoms([1.0, 2.0])).density(0.0) == pytest.approx(0.75, rel=1e-6)


@pytest.mark.parametrize("law", [FROM_ZERO, S.marchenko_pastur(1.0), S.arcsine(2.0, 2.0)])
def test_series_keep_their_digits_beside_edges(law):
    made = law.tabulated()
    x = np.array([1e-14, 1e-9, 1e-3, 2.0, 3.999])
    assert made.density(x) == pytest.approx(law.density(x), rel=1e-11)
    z = np.array([-1e-12, 1e-10 + 1e-10j, 1.0 + 1.0j, 4.0 + 1e-9j, -1.0, 5.0])
    for found, exact in zip(made._transform(z + 0j), law._transform(z + 0j), strict=True):
        assert np.abs(found / exact - 1.0).max() < 1e-10
    assert made.density(law.edges[0]) == pytest.approx(law.density(law.edges[0]))
