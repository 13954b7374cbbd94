"""Lanczos in the limit beside free products: where a program says that factors are free, and where not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import binom, ndtr

import tpnum as tp
from tpnum import nn
from tpnum import spectra as sp
from tpnum.errors import InputError, ProgramError
from tpnum.spectra.jacobi import Coefficients, _outside, law_of


def program():
    p = tp.Program()
    return p, p.vector("x"), p.vector("v"), p.matrix("W", var=1.5), p.matrix("V")


def test_two_matrices_are_free():
    """J = V W: exact fractions against the Fuss-Catalan numbers."""
    _, _, v, first, second = program()
    found = sp.roads(first.T @ (second.T @ (second @ (first @ v))), v, steps=10)
    assert found.are_free
    want = [1.5**k * binom(3 * k, k) / (2 * k + 1) for k in range(8)]
    np.testing.assert_allclose(found.moments(7), [want, want], rtol=1e-9)
    assert found.lanczos.hull[1] == pytest.approx(1.5 * 27 / 4, abs=found.lanczos.edges_error + 1e-9)
    assert found.distance < 0.1 and "moment 4" in str(found)


def test_a_matrix_and_its_transpose_are_not():
    """J = W^T W is its own square root: the moments are every other of Catalan's numbers."""
    _, _, v, w, _ = program()
    found = sp.roads(w.T @ (w @ (w.T @ (w @ v))), v, steps=8)
    assert not found.are_free and found.why == "'W' enters J together with its transpose"
    catalan = [1.5 ** (2 * k) * binom(4 * k, 2 * k) / (2 * k + 1) for k in range(5)]
    free = [1.5 ** (2 * k) * binom(3 * k, k) / (2 * k + 1) for k in range(5)]
    np.testing.assert_allclose(found.moments(4), [catalan, free], rtol=1e-9)
    assert found.distance > 0.1


def test_a_diagonal_that_knows_a_transpose_is_not():
    """D = diag tanh'(W^T tanh(W x)): the gradient meets a transpose that the forward part has met."""
    p, x, v, w, second = program()
    g = w.T @ tp.tanh(w @ x)
    d = p.apply(tp.functions.get("tanh").derivative(), second @ tp.tanh(g))
    u = d * (second @ (w.T @ (w @ (second.T @ (d * v)))))
    found = sp.roads(u, v, steps=2, samples=1 << 10)
    assert not found.are_free and "transpose" in found.why


def test_a_tanh_net():
    """By road 1 within its error of road 3, which knows the first moments to rounding."""
    net = nn.serial(nn.Dense(8), nn.Tanh(), nn.Dense(8, W_std=1.2), nn.Tanh(), nn.Dense(8, W_std=1.2))
    x = np.array([1.0, -0.5, 0.3])
    found = sp.roads(net, shape=3, data={"u": x}, steps=3, samples=1 << 14)
    assert found.are_free
    np.testing.assert_allclose(found.moments(3)[0], found.moments(3)[1], rtol=0.03)
    want = sp.jacobian(nn.serial(nn.Tanh(), nn.Dense(8, W_std=1.2)), 2, q=float(x @ x / 3))
    np.testing.assert_allclose(found.free.moments(5), want.moments(5), rtol=1e-9)


@pytest.mark.slow
def test_twenty_steps_of_three_layers():
    """The edge by ensemble is within its error of the free products'."""
    layers = [nn.Dense(8), *[nn.Tanh(), nn.Dense(8, W_std=1.2)] * 3]
    x = np.array([1.0, -0.5, 0.3])
    found = sp.roads(nn.serial(*layers), shape=3, data={"u": x}, steps=20)
    assert found.lanczos.hull[1] == pytest.approx(found.free.hull[1], abs=found.lanczos.edges_error)
    assert found.lanczos.edges_error < 0.15
    x = np.linspace(0.05, 9.0, 60)  # below, the density is infinite: 20 coefficients do not see how
    assert np.max(np.abs(found.lanczos.cdf(x) - found.free.cdf(x))) < 0.005
    c = found.lanczos.coefficients
    jacobi = np.diag(c.a) + np.diag(np.sqrt(c.b), 1) + np.diag(np.sqrt(c.b), -1)
    masses = np.linalg.eigh(jacobi)[1][0] ** 2  # laws of equal moments differ by one of them at most
    assert found.distance < np.max(masses)


@pytest.mark.parametrize("seed", range(6))
def test_uncertain_coefficients_lose_no_mass(seed):
    """Those of Marchenko and Pastur's law of ratio one with noise: the density's moments are those of the
    coefficients, and the edges within their error.
    """
    draws, k = np.random.default_rng(seed), np.arange(20)
    error = 0.01 * k
    a = np.where(k, 2.0, 1.0) + 0.5 * error * draws.standard_normal(20)
    b = (1.0 + 0.5 * error * draws.standard_normal(20))[1:]
    law = law_of(Coefficients(a, b, error, error[1:], (None,) * 20, (None,) * 19, "ensemble"))
    np.testing.assert_allclose(law.law.moments(3), law.moments(3), rtol=1e-6)
    np.testing.assert_allclose(law.edges, [[0.0, 4.0]], atol=law.edges_error)
    assert law.cdf(1.0) == pytest.approx(sp.marchenko_pastur(1.0).cdf(1.0), abs=0.02)


def test_points_beyond_the_edges():
    """A rank-one change of a semicircle: the constant coefficients 0, 1 after a_0 = t have an eigenvalue at
    t + 1/t, of mass 1 - 1/t^2, if t > 1.
    """
    for t in (1.0 + 1e-6, 1.5, -3.0):
        a, b = np.append(t, np.zeros(7)), np.ones(7)
        ((at, mass),) = _outside(Coefficients(a, b, 0 * a, 0 * b, (), (), ""), np.array([-2.0, 2.0]), 0.0)
        assert at == pytest.approx(t + 1.0 / t, rel=1e-14) and mass == pytest.approx(1.0 - t**-2, rel=1e-3)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda p, x, v, w, u: w @ v + w.T @ v, "J\\^T J of one product J is needed"),
        (
            lambda p, x, v, w, u: tp.tanh(x) * (tp.sin(u @ x) * (tp.sin(u @ x) * (tp.tanh(x) * v))),
            "two diagonal",
        ),
        (lambda p, x, v, w, u: w.T @ (tp.tanh(x) * (w @ v)), "it is not J\\^T J"),
        (
            lambda p, x, v, w, u: w.T @ ((x * (u @ x)) * ((x * (u @ x)) * (w @ v))),
            "no function of one Gaussian",
        ),
    ],
)
def test_refusals(write, words):
    p, x, v, w, u = program()
    with pytest.raises(InputError, match=words):
        sp.roads(write(p, x, v, w, u), v, steps=2)


def test_a_vector_plus_a_scalar_is_refused():
    p, x, v, w, _ = program()
    with pytest.raises(ProgramError, match="not linear in 'v': add of it is taken"):
        tp.spectrum(p.apply("add", w @ v + w.T @ v, tp.mean(x * x)), v)


def test_rectangular_factors_are_refused():
    p = tp.Program()
    p.dim("m", ratio=2.0)
    a, v = p.matrix("A", rows="m", cols="n"), p.vector("v")
    with pytest.raises(InputError, match="'A' is not square"):
        sp.roads(a.T @ (a @ v), v, steps=2)


# --- laws of slopes


def test_slopes_of_tanh():
    """sech^4(sqrt(q) z): z = arsech(y^(1/4)) / sqrt(q)."""
    q, y = 0.7, np.array([1e-6, 0.02, 0.3, 0.9, 0.999])
    law = sp.slope_law("tanh", q)
    z = np.arccosh(y**-0.25) / np.sqrt(q)
    np.testing.assert_allclose(law.cdf(y), 2 * ndtr(-z), rtol=1e-10)
    slope = 4 * np.sqrt(q) * y * np.tanh(np.sqrt(q) * z)
    want = 2 * np.exp(-z * z / 2) / np.sqrt(2 * np.pi) / slope
    np.testing.assert_allclose(law.density(y), want, rtol=1e-7)
    assert law.atoms == () and law.hull[1] == pytest.approx(1.0, rel=1e-14)
    g = law.cauchy(0.5 + 0.3j)
    assert g == pytest.approx(law.rule.cauchy(0.5 + 0.3j), rel=1e-6)
    np.testing.assert_allclose(law.quantile(law.cdf(y)), y, rtol=1e-8)


def test_slopes_with_atoms():
    """elu: all of slope 1 right of 0, exp(2 u) left of it."""
    law = sp.slope_law("elu", 1.0)
    ((at, mass),) = law.atoms
    assert at == 1.0 and mass == pytest.approx(0.5, abs=1e-14)
    y = np.array([0.01, 0.5, 0.9])
    np.testing.assert_allclose(law.cdf(y), ndtr(0.5 * np.log(y)), rtol=1e-9)
    hard = sp.slope_law("hard_tanh", 1.0)
    np.testing.assert_allclose([a.mass for a in hard.atoms], [2 * ndtr(-1), 1 - 2 * ndtr(-1)], rtol=1e-12)


def test_slopes_that_reach_zero_leave_no_gaps():
    """Ten orthogonal layers of tanh whose variance flows: one interval from 0; the atom of relu is alone."""
    block = nn.serial(nn.Tanh(), nn.Dense(64, W_std=1.2))
    law = sp.jacobian(block, 10, q=0.5, weights="orthogonal")
    assert law.edges.shape == (1, 2) and law.edges[0, 0] == 0.0
    assert law.moments(2)[2] == pytest.approx(law.second, rel=1e-8)
    relu = sp.jacobian(nn.serial(nn.Relu(), nn.Dense(64)), 1, q=0.5)
    want = 0.5 * sp.marchenko_pastur(2.0).edges  # of W D, half of its columns
    np.testing.assert_allclose(relu.edges, want, rtol=1e-12)


def test_slopes_of_functions_that_know_none():
    """A tanh and a leaky relu of one's own, by differences."""
    own = nn.serial(nn.Elementwise(lambda u: np.tanh(u)), nn.Dense(64, W_std=1.2))
    law = sp.jacobian(own, 5, q=np.full(5, 0.5))
    want = sp.jacobian(nn.serial(nn.Tanh(), nn.Dense(64, W_std=1.2)), 5, q=np.full(5, 0.5))
    np.testing.assert_allclose(law.edges, want.edges, rtol=1e-9)
    bent = nn.Elementwise(lambda u: np.where(u > 0, u, 0.1 * u), kinks=(0.0,)).as_function()
    atoms = np.array(sp.slope_law(bent, 0.7).atoms)
    np.testing.assert_allclose(atoms, [[0.01, 0.5], [1.0, 0.5]], rtol=1e-9)


def test_one_orthogonal_layer_is_the_law_of_slopes():
    block = nn.serial(nn.Tanh(), nn.Dense(64, W_std=1.3))
    law = sp.jacobian(block, 1, q=0.7, weights="orthogonal")
    y = np.array([0.05, 0.5, 1.5])
    np.testing.assert_allclose(law.density(y), sp.slope_law("tanh", 0.7).density(y / 1.69) / 1.69, rtol=1e-12)
    assert law.hull[1] == pytest.approx(1.69, rel=1e-12)
    two = sp.jacobian(block, 2, q=[0.7, 0.7], weights="orthogonal")
    assert two.moments(2)[2] == pytest.approx(two.second, rel=1e-9)


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
def test_a_thousand_layers_of_tanh(weights):
    """The contour integral of the density has the variance L (mu2/mu1^2 - 1 - s1)."""
    block = nn.serial(nn.Tanh(), nn.Dense(64, W_std=1.7609546396067**0.5, b_std=0.05**0.5))
    law = sp.jacobian(block, 1000, weights=weights)
    want = 1000 * (1.34225607831 - 1 + (weights == "gaussian"))
    assert law.moments(2)[2] - law.moments(1)[1] ** 2 == pytest.approx(want, rel=1e-8)


@pytest.mark.parametrize("phi", [nn.Relu(), nn.Tanh()])
@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
def test_residual_blocks(phi, weights):
    """Against nets of width 600, and the mean 1 + W^2 E phi'^2 per block."""
    n, rng = 600, np.random.default_rng(1)
    block = nn.Residual(nn.serial(phi, nn.Dense(64, W_std=0.8)))
    law = sp.jacobian(block, 2, q=[1.0, 1.0], weights=weights)
    product = np.eye(n)
    for _ in range(2):
        g = rng.standard_normal(n)
        slope = (g > 0).astype(float) if isinstance(phi, nn.Relu) else 1 / np.cosh(g) ** 2
        w = rng.standard_normal((n, n)) / np.sqrt(n)
        w = np.linalg.qr(w)[0] if weights == "orthogonal" else w
        product = product + 0.8 * w @ (slope[:, None] * product)
    values = np.linalg.svd(product, compute_uv=False)[::-1] ** 2
    steps = np.arange(1, n + 1) / n
    assert np.max(np.abs(law.cdf(values) - steps)) < 0.02
    slopes = float(tp.dual(phi).derivative(1.0, 1.0, 1.0))
    assert law.moments(1)[1] == pytest.approx((1 + 0.64 * slopes) ** 2, rel=1e-9)
