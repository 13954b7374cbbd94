"""Measures and free convolutions against closed forms, mpmath and random matrices."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from tpnum import spectra as sp
from tpnum.errors import InputError, LimitError, TpnumError
from tpnum.spectra.shapes import SignedRoot, Square

RNG = np.random.default_rng(0)


def inside(law, count=41, interval=0):
    low, high = law.edges[interval]
    return np.linspace(low, high, count + 2)[1:-1]


def distance(law, eigenvalues):
    """Kolmogorov's, where the law has no atoms among the eigenvalues."""
    values = np.sort(eigenvalues)
    steps = np.arange(1, values.size + 1) / values.size
    return np.max(np.abs(law.cdf(values) - steps))


# --- closed forms


def marchenko_pastur_density(x, ratio):
    low, high = (1 - mp.sqrt(ratio)) ** 2, (1 + mp.sqrt(ratio)) ** 2
    return mp.sqrt((high - x) * (x - low)) / (2 * mp.pi * ratio * x)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0, 2.0, 10.0])
def test_marchenko_pastur(ratio):
    law = sp.marchenko_pastur(ratio)
    root = mp.sqrt(ratio)
    np.testing.assert_allclose(law.edges[0], [float((1 - root) ** 2), float((1 + root) ** 2)], rtol=1e-15)
    for x in inside(law, 9):
        want = float(marchenko_pastur_density(mp.mpf(float(x)), mp.mpf(ratio)))
        assert law.density(x) == pytest.approx(want, abs=1e-13, rel=1e-12)
        assert -law.cauchy(x).imag / np.pi == pytest.approx(want, abs=1e-12, rel=1e-11)
    mass = dict(law.atoms).get(0.0, 0.0)
    assert mass == pytest.approx(max(0.0, 1 - 1 / ratio), abs=1e-15)
    middle = float(np.mean(law.edges[0]))
    low, high = (1 - mp.sqrt(ratio)) ** 2, (1 + mp.sqrt(ratio)) ** 2
    # x = low + t^2 leaves no root at the edge

    def below(t):
        return mp.sqrt((high - low - t * t) * t * t) / (mp.pi * ratio * (low + t * t)) * t if t else mp.mpf(0)

    want = mass + float(mp.quad(below, [0, mp.sqrt(middle - low)]))
    assert law.cdf(middle) == pytest.approx(want, abs=1e-12)
    # Narayana's numbers
    np.testing.assert_allclose(law.moments(3), [1, 1, 1 + ratio, 1 + 3 * ratio + ratio**2], rtol=1e-12)


def test_semicircle_and_arcsine():
    law, x = sp.semicircle(2.0, 0.5), np.linspace(-2, 3, 11)
    want = np.sqrt(8 - (x - 0.5) ** 2) / (4 * np.pi)
    np.testing.assert_allclose(law.density(x), want, rtol=1e-14)
    y = (x - 0.5) / np.sqrt(8)
    np.testing.assert_allclose(law.cdf(x), 0.5 + (y * np.sqrt(1 - y**2) + np.arcsin(y)) / np.pi, atol=2e-15)
    np.testing.assert_allclose(sp.semicircle().moments(8)[::2], [1, 1, 2, 5, 14], rtol=1e-13)
    other = sp.arcsine(2.0)
    np.testing.assert_allclose(other.moments(6)[::2], [1, 2, 6, 20], rtol=1e-12)
    np.testing.assert_allclose(other.cdf([-1.0, 0.0, 1.0]), [1 / 3, 0.5, 2 / 3], atol=1e-15)
    assert law.density(9.0) == 0.0 and law.cdf(9.0) == 1.0 and law.cdf(-9.0) == 0.0


def test_stieltjes_is_the_integral():
    law = sp.marchenko_pastur(0.5)
    z = mp.mpc(1.0, 0.3)
    low, high = law.edges[0]
    want = mp.quad(lambda x: marchenko_pastur_density(x, mp.mpf(0.5)) / (x - z), np.linspace(low, high, 9))
    assert law.stieltjes(complex(z)) == pytest.approx(complex(want), abs=1e-10)
    assert law.stieltjes(complex(z).conjugate()) == pytest.approx(complex(want).conjugate(), abs=1e-10)
    assert law.cauchy(-1.0) == -law.stieltjes(-1.0)
    step = 1e-6
    slope = (law.log_potential(4.0 + step) - law.log_potential(4.0 - step)) / (2 * step)
    assert slope == pytest.approx(law.cauchy(4.0), rel=1e-8)


def test_transforms():
    assert sp.semicircle(2.0).r_transform(0.3) == pytest.approx(0.6, rel=1e-12)
    assert sp.free_poisson(1.5, 2.0).r_transform(0.1) == pytest.approx(3.0 / 0.8, rel=1e-12)
    assert sp.marchenko_pastur(0.5).s_transform(0.2) == pytest.approx(1 / 1.1, rel=1e-12)
    law = sp.fuss_catalan(3)
    np.testing.assert_allclose(law.s_transform(np.array([0.1, -0.2])), [1.1**-3, 0.8**-3], rtol=1e-10)
    with pytest.raises(LimitError, match="mean is not 0"):
        sp.semicircle().s_transform(0.1)


@pytest.mark.parametrize(
    "law",
    [
        sp.semicircle(),
        sp.marchenko_pastur(3.0),
        sp.fuss_catalan(3),
        sp.free_product(sp.atoms([0, 1], [0.4, 0.6]), sp.free_poisson(2.0)),
        sp.atoms([1.0, 2.0, 3.0], [0.2, 0.3, 0.5]),
    ],
    ids=["semicircle", "wide", "fuss", "with an atom", "atoms"],
)
def test_quantiles_and_samples(law):
    mass = dict(law.atoms).get(0.0, 0.0)
    if law.edges.size:
        p = np.linspace(mass + 0.01, 0.99, 21)
        np.testing.assert_allclose(law.cdf(law.quantile(p)), p, atol=1e-13)
    draws = law.sample(100_000, seed=1)
    error = np.sqrt(law.variance / draws.size)
    assert abs(draws.mean() - law.mean) < 5 * error
    for at, weight in law.atoms:
        assert np.mean(draws == at) == pytest.approx(weight, abs=5 * np.sqrt(0.25 / draws.size))
    np.testing.assert_array_equal(law.sample(5, seed=3), law.sample(5, seed=3))


# --- convolutions with a closed form


def test_sums_with_a_closed_form():
    coins = sp.atoms([-1.0, 1.0])
    two = sp.free_sum(coins, coins)
    np.testing.assert_allclose(two.edges, [[-2, 2]], atol=1e-10)
    x = np.linspace(-1.99, 1.99, 21)
    np.testing.assert_allclose(two.density(x), 1 / (np.pi * np.sqrt(4 - x * x)), rtol=1e-10)
    np.testing.assert_allclose(two.cdf(x), 0.5 + np.arcsin(x / 2) / np.pi, atol=1e-13)
    poisson, parts = sp.free_poisson(2.0), sp.free_sum(sp.free_poisson(1.3), sp.free_poisson(0.7))
    np.testing.assert_allclose(parts.edges, poisson.edges, atol=1e-10)
    y = inside(poisson)
    np.testing.assert_allclose(parts.density(y), poisson.density(y), atol=1e-12)
    np.testing.assert_allclose(parts.cdf(y), poisson.cdf(y), atol=1e-12)
    power = sp.free_power(sp.free_poisson(1.3), 2.5)
    y = inside(sp.free_poisson(3.25))
    np.testing.assert_allclose(power.density(y), sp.free_poisson(3.25).density(y), atol=1e-11)
    assert sp.free_sum(sp.semicircle(1.0), sp.semicircle(3.0), 2.0).edges[0] == pytest.approx([-2, 6])


def test_products_with_a_closed_form():
    coin = sp.atoms([0.0, 2.0])
    law = sp.free_product(coin, coin)  # half of it at 0, the rest an arcsine law
    assert law.atoms == ((0.0, 0.5),)
    np.testing.assert_allclose(law.edges, [[0, 4]], atol=1e-10)
    x = np.linspace(0.1, 3.9, 9)
    np.testing.assert_allclose(law.density(x), 0.5 / (np.pi * np.sqrt(x * (4 - x))), rtol=1e-10)
    thin = sp.free_product(sp.atoms([0.0, 1.0], [0.5, 0.5]), sp.marchenko_pastur(1.0))
    block = sp.marchenko_pastur(0.5)  # rows of a Ginibre matrix: half of them, of half the variance
    y = inside(block)
    np.testing.assert_allclose(thin.density(y), 0.5 * block.density(y), atol=1e-11)
    assert thin.atoms == ((0.0, 0.5),)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_fuss_catalan_numbers(order):
    law = sp.fuss_catalan(order)
    want = [float(mp.binomial((order + 1) * k, k) / (order * k + 1)) for k in range(5)]
    np.testing.assert_allclose(law.moments(4), want, rtol=1e-10)
    assert law.hull[1] == pytest.approx((order + 1) ** (order + 1) / order**order, rel=1e-12)


def test_population_of_two_values():
    """The edges are where the inverse of the companion transform has no slope (Silverstein and Choi)."""
    law = sp.marchenko_pastur_map(sp.atoms([1.0, 4.0]), 1 / 3)

    def z(s):
        return -1 / s + (1 / (1 + s) + 4 / (1 + 4 * s)) / 6

    # dz/ds = 0 times s^2 (1 + s)^2 (1 + 4 s)^2
    roots = np.roots([16 - 32 / 6, 40 - 40 / 6, 33 - 17 / 6, 10, 1])
    found = [float(np.real(z(s))) for s in roots]
    np.testing.assert_allclose(law.edges.ravel(), sorted(found), rtol=1e-10)


def critical_values(points, masses, ratio):
    """Silverstein's and Choi's edges of a sample covariance: z where dz/ds = 0, by 40 digits."""
    with mp.workdps(40):
        t, w = [mp.mpf(x) for x in points], [mp.mpf(x) for x in masses]

        def times(a, b):
            made = [mp.mpf(0)] * (len(a) + len(b) - 1)
            for i, x in enumerate(a):
                for j, y in enumerate(b):
                    made[i + j] += x * y
            return made

        def product(skip):
            made = [mp.mpf(1)]
            for k, x in enumerate(t):
                if k != skip:
                    made = times(made, [1, 2 * x, x * x])
            return made

        # 1 - ratio sum w t^2 s^2 / (1 + t s)^2 = 0, times all (1 + t s)^2
        total = product(None)
        for k, x in enumerate(t):
            for i, y in enumerate(times([0, 0, ratio * w[k] * x * x], product(k))):
                total[i] -= y
        roots = mp.polyroots(total, maxsteps=500, extraprec=400, asc=True)
        real = [r.real for r in roots if abs(r.imag) < mp.mpf(10) ** -25 * abs(r)]
        found = [-1 / s + ratio * sum(m * x / (1 + x * s) for m, x in zip(w, t, strict=True)) for s in real]
        return sorted(float(z) for z in found if z > 1e-12)


@pytest.mark.parametrize(
    ("points", "masses", "ratio"),
    [
        ([1, 1.5], [0.5, 0.5], 0.1),
        ([1, 1.5], [0.5, 0.5], 10),
        ([1, 2], [0.1, 0.9], 0.5),
        ([1, 1.001], [0.5, 0.5], 0.5),
        ([1, 10, 100], [0.25, 0.25, 0.5], 0.2),
        ([1, 3, 10], [0.2, 0.4, 0.4], 0.1),
    ],
)
def test_edges_of_sample_covariances(points, masses, ratio):
    law = sp.marchenko_pastur_map(sp.atoms(points, masses), ratio)
    np.testing.assert_allclose(law.edges.ravel(), critical_values(points, masses, ratio), rtol=1e-12)


@pytest.mark.parametrize(("first", "second"), [(0.3, 2.0), (5.0, 0.2), (2.0, 3.0), (1.0, 1.0), (0.1, 0.1)])
def test_edges_of_two_sample_covariances(first, second):
    """S = 1 / ((1 + a z) (1 + b z)): the edges are stationary points of (1 + z) / (z S)."""
    law = sp.free_product(sp.marchenko_pastur(first), sp.marchenko_pastur(second))
    z = np.roots([2 * first * second, first * second + first + second, 0, -1])
    z = z[np.abs(z.imag) < 1e-9].real
    want = np.sort((1 + z) * (1 + first * z) * (1 + second * z) / z)
    np.testing.assert_allclose(law.edges[0], np.maximum(want[-2:], 0.0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(
        [a.mass for a in law.atoms], [m for m in [1 - 1 / max(first, second)] if m > 0]
    )


def test_hard_edges():
    """Where the density is infinite, at 0, the edge is one of F too."""
    law = sp.free_sum(sp.free_poisson(0.5), sp.free_poisson(0.5))
    np.testing.assert_allclose(law.edges, [[0, 4]], atol=1e-12)
    three = sp.free_sum(sp.arcsine(1.0), sp.arcsine(1.0))
    np.testing.assert_allclose(three.edges, [[-(3**0.5), 3**0.5]], rtol=1e-13)


def test_points_beside_each_other_are_one():
    """Eigenvalues of a matrix that is the identity up to rounding."""
    law = sp.marchenko_pastur_map(1.0 + 1e-15 * np.arange(40), 0.5)
    np.testing.assert_allclose(law.edges, sp.marchenko_pastur(0.5).edges, rtol=1e-12)
    apart = sp.marchenko_pastur_map(sp.atoms([1.0, 1.0 + 1e-7]), 0.5)
    np.testing.assert_allclose(apart.edges, sp.marchenko_pastur(0.5).affine(1 + 5e-8).edges, rtol=1e-12)


def test_a_narrow_gap_beside_a_singularity():
    """Half of a sign's mass at +-1 against half an atom at 0: the density is infinite left of 1, 0 right of
    it.
    """
    body = SignedRoot(sp.free_product(sp.atoms([0.0, 1.0]), sp.free_poisson(1.0, 0.64)))
    law = sp.free_sum(sp.atoms([-1.0, 1.0]), body)
    assert law.edges.shape == (4, 2)
    np.testing.assert_allclose(law.edges[[1, 2], [0, 1]], [-1.0, 1.0], atol=1e-10)
    assert 1.001 < law.edges[3, 0] < 1.003
    np.testing.assert_allclose(law.edges, -law.edges[::-1, ::-1], rtol=1e-10)
    assert law.tabulated().moments(2)[2] == pytest.approx(1 + 0.32, rel=1e-10)


def test_a_thousand_factors_of_any_size():
    law = sp.free_multiplicative_power(sp.marchenko_pastur(1.0, 1.9), 1000)
    assert law.hull[1] == pytest.approx(1.9**1000 * 1001 * (1001 / 1000) ** 1000, rel=1e-9)
    with pytest.raises(LimitError, match=r"the mean of the product is e\^-2303, beyond floating point"):
        sp.free_multiplicative_power(sp.marchenko_pastur(1.0, 0.1), 1000)


def test_compression_and_shapes():
    law = sp.compression(sp.atoms([0.0, 1.0]), 0.5)
    assert law.density(0.3) == pytest.approx(1 / np.pi / np.sqrt(0.21), rel=1e-10)
    base = sp.marchenko_pastur(0.5)
    flipped = base.affine(-2.0, 1.0)
    x = inside(flipped, 9)
    np.testing.assert_allclose(flipped.density(x), base.density((x - 1) / -2) / 2, rtol=1e-12)
    np.testing.assert_allclose(flipped.cdf(x), 1 - base.cdf((x - 1) / -2), atol=1e-14)
    np.testing.assert_allclose(-flipped.cauchy(x).imag / np.pi, flipped.density(x), atol=1e-13)
    root = SignedRoot(base)
    x = np.array([-1.2, -0.5, 0.5, 1.2])
    np.testing.assert_allclose(root.density(x), np.abs(x) * base.density(x * x), rtol=1e-13)
    np.testing.assert_allclose(-root.cauchy(x).imag / np.pi, root.density(x), atol=1e-13)
    np.testing.assert_allclose(root.cdf(x[2:]), 0.5 + 0.5 * base.cdf(x[2:] ** 2), atol=1e-13)
    square = Square(root)
    y = inside(base, 9)
    np.testing.assert_allclose(square.density(y), base.density(y), atol=1e-12)
    np.testing.assert_allclose(square.cdf(y), base.cdf(y), atol=1e-12)
    np.testing.assert_allclose(square.edges, base.edges, atol=1e-14)


@pytest.mark.parametrize(
    "law", [sp.semicircle(), sp.marchenko_pastur(1.0), sp.arcsine(1.5), sp.fuss_catalan(2)]
)
def test_tables_are_the_law(law):
    """By series where edges are roots, by panels at the cube root of the Fuss-Catalan law."""
    table = law.tabulated()
    z = np.concatenate([inside(law) + 0j, inside(law) + 0.1j, [law.hull[1] + 1.0, -3.0 + 1j]])
    np.testing.assert_allclose(table.cauchy(z), law.cauchy(z), rtol=1e-7)
    np.testing.assert_allclose(table.log_potential(z), law.log_potential(z), atol=1e-8)
    assert table.mean == pytest.approx(law.mean, abs=1e-9)


def test_a_law_of_your_own():
    law = sp.measure(lambda x: 0.5 + 0.0 * x, (-1, 1))
    assert law.second == pytest.approx(1 / 3, rel=1e-12)
    assert law.cauchy(2.0) == pytest.approx(0.5 * np.log(3), rel=1e-12)
    kumaraswamy = sp.measure(lambda x: 0.75 * (1 - x**2) * 0.6, (-1, 1), [(2.0, 0.4)])
    assert kumaraswamy.cdf(0.0) == pytest.approx(0.3, abs=1e-12)
    assert kumaraswamy.cdf(2.0) == 1.0 and kumaraswamy.quantile(0.9) == 2.0


# --- random matrices


def test_sums_of_random_matrices():
    n = 1000
    g = RNG.standard_normal((n, n))
    levels = np.where(np.arange(n) < n // 2, -1.5, 2.0)
    law = sp.wigner_plus(sp.atoms([-1.5, 2.0]))
    assert len(law.edges) == 2
    assert distance(law, np.linalg.eigvalsh((g + g.T) / np.sqrt(2 * n) + np.diag(levels))) < 0.01
    uniform = sp.measure(lambda x: 0.5 + 0.0 * x, (-1, 1))
    q = np.linalg.qr(RNG.standard_normal((n, n)))[0]
    a = np.linspace(-1, 1, n)
    assert distance(sp.free_sum(uniform, uniform), np.linalg.eigvalsh(np.diag(a) + (q * a) @ q.T)) < 0.01


@pytest.mark.slow
def test_sums_of_large_random_matrices():
    n = 4000
    g = RNG.standard_normal((n, n))
    a = np.linspace(-1, 1, n)
    law = sp.wigner_plus(sp.measure(lambda x: 0.5 + 0.0 * x, (-1, 1)))
    assert distance(law, np.linalg.eigvalsh((g + g.T) / np.sqrt(2 * n) + np.diag(a))) < 0.01


def test_products_of_random_matrices():
    n = 900
    values = np.where(np.arange(n) < n // 2, 1.0, 4.0)
    x = RNG.standard_normal((n, 3 * n)) / np.sqrt(3 * n)
    found = np.linalg.eigvalsh((values**0.5)[:, None] * (x @ x.T) * values**0.5)
    assert distance(sp.marchenko_pastur_map(values, 1 / 3), found) < 0.01


# --- refusals


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sp.atoms([0, 1], [1.5, -0.5]), "masses must not be negative"),
        (lambda: sp.atoms([0, 1], [0.5, 0.4]), "add up to 1, not 0.9"),
        (lambda: sp.measure(lambda x: x, (-1, 1)), "density is negative at"),
        (lambda: sp.measure(lambda x: 0 * x + 1, (-1, 1)), "mass 1 together, not 2"),
        (lambda: sp.measure(lambda x: np.exp(-x * x), (-np.inf, np.inf)), "support must be compact"),
        (lambda: sp.measure(lambda x: 0 * x + 0.5, (-1, 1), [(0, -1)]), "atoms: masses must not be negative"),
        (lambda: sp.free_product(sp.semicircle(), sp.free_poisson(1)), r"laws\[0\] has mass below 0"),
        (lambda: sp.free_sum("a", 1.0), r"laws\[0\]: a measure .* or numbers"),
        (lambda: sp.compression(sp.semicircle(), 1.5), "part is 1.5"),
        (lambda: sp.free_power(sp.semicircle(), 0.5), "times is 0.5"),
        (lambda: sp.marchenko_pastur(0.0), "ratio is 0"),
        (lambda: sp.semicircle().quantile(1.5), r"p must be in \[0, 1\]"),
        (lambda: sp.semicircle().density("a"), "x: 'a' is no array"),
        (lambda: sp.semicircle().cauchy(None), "z is None"),
        (lambda: sp.free_sum(), "laws: at least one"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(TpnumError, match=words) as refused:
        call()
    assert isinstance(refused.value, InputError)


@pytest.mark.parametrize("variance", [0.9, 0.999, 1.0, 1.001, 1.1])
def test_where_two_intervals_meet(variance):
    """Semicircle and two atoms: z = w + v w / (w^2 - 1), with edges where dz/dw = 0.

    At v = 1 they meet in a cusp of density sqrt(3) |x|^(1/3) / (2 pi).
    """
    law = sp.free_sum(sp.semicircle(variance), sp.atoms([-1.0, 1.0]))
    w = np.roots([1.0, 0.0, -2.0 - variance, 0.0, 1.0 - variance])
    w = np.sort(w[np.abs(w.imag) < 1e-9].real)
    w = w[[0, -1]] if variance >= 1.0 else w
    edges = w + variance * w / (w * w - 1.0)
    np.testing.assert_allclose(np.sort(law.edges.reshape(-1)), np.sort(edges), rtol=1e-10, atol=1e-14)
    if variance == 1.0:
        x = np.array([1e-6, 1e-5, 1.4e-5, 1e-4])
        np.testing.assert_allclose(law.density(x), 3**0.5 / (2 * np.pi) * x ** (1 / 3), rtol=1e-5)


# --- near 0


@pytest.mark.parametrize("other", [sp.semicircle(1e-3, 1.0), sp.arcsine(1.0, 1.0)])
def test_quantiles_of_products_that_reach_zero(other):
    """Laws without a chart: where numbers end, the mass is that left of the smallest one."""
    partner = sp.semicircle(0.1, 1.0) if other.edges[0, 0] == 0.0 else sp.marchenko_pastur(1.0)
    law = sp.free_product(other, partner)
    assert law.edges[0, 0] == 0.0 and law.density(0.0) == np.inf
    p = np.array([1e-4, 0.9])
    np.testing.assert_allclose(law.cdf(law.quantile(p)), p, rtol=1e-9)
    tiny = law.cdf([1e-300, 1e-220, 1e-150])
    assert np.all((tiny >= 0.0) & (tiny < 1e-40))
    # beside the edge it is x^(-1/2)
    low, high = law.density([1e-160, 1e-100])
    assert np.log(low / high) / np.log(1e60) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("trace", [0.05, 0.3])
def test_two_projections_down_to_zero(trace):
    """Density sqrt(x (4 t (1 - t) - x)) / (2 pi x (1 - x)), and the mass 1 - t at 0."""
    one = sp.atoms([0.0, 1.0], [1.0 - trace, trace])
    law, top = sp.free_product(one, one), 4.0 * trace * (1.0 - trace)
    x = top * np.array([1e-18, 1e-12, 1e-6, 0.3, 0.9])
    np.testing.assert_allclose(
        law.density(x), np.sqrt(x * (top - x)) / (2.0 * np.pi * x * (1.0 - x)), rtol=1e-3
    )
    tiny = np.array([1e-300, 1e-100, 1e-30, 1e-18, 1e-10])
    np.testing.assert_allclose(law.cdf(tiny), 1.0 - trace + np.sqrt(tiny * top) / np.pi, rtol=0, atol=1e-8)
    assert law.cdf(0.0) == pytest.approx(1.0 - trace, abs=1e-15) and law.density(0.0) == np.inf
    assert np.all(np.diff(law.cdf([0.0, *tiny])) >= 0.0)


def test_gaps_beside_atoms_hold_no_mass():
    law = sp.free_product(sp.marchenko_pastur(3.0), sp.free_poisson(11.93, 2.0))
    assert law.edges[0, 0] > 12.0
    np.testing.assert_allclose(law.cdf(np.geomspace(1e-300, 12.0, 301)), 2.0 / 3.0, rtol=1e-13)
    assert law.cdf(-1e-9) == 0.0 and law.quantile(0.66) == 0.0 and law.quantile(0.667) > 12.0
