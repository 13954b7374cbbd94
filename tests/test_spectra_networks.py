"""Jacobians of deep nets, kernels of nets as wide as their data are many, Lanczos in the limit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.linalg import eigvalsh

import tpnum as tp
from tests.test_spectra_measures import distance
from tpnum import functions, nn
from tpnum import spectra as sp
from tpnum.errors import InputError, LimitError, ProgramError, SpecError
from tpnum.spectra.kernels import NtkLaw, simulated

RNG = np.random.default_rng(0)
RELU = nn.serial(nn.Relu(), nn.Dense(64, W_std=2**0.5))
CRITICAL = 1.7609546396067, 0.570047881641
TANH = nn.serial(nn.Tanh(), nn.Dense(64, W_std=CRITICAL[0] ** 0.5, b_std=0.05**0.5))


# --- Jacobians by free products


@pytest.mark.parametrize("depth", [1, 2, 10, 100, 1000])
def test_relu_edges(depth):
    """Pennington, Schoenholz and Ganguli 2017."""
    psi = (1 - depth + np.sqrt(depth**2 + 1)) / (2 * depth)
    gaussian = sp.jacobian(RELU, depth)
    assert gaussian.hull[1] == pytest.approx((1 + psi) * (2 * psi + 1) ** depth / psi, rel=1e-8)
    orthogonal = sp.jacobian(RELU, depth, weights="orthogonal")
    want = 2.0 if depth == 1 else depth * (depth / (depth - 1)) ** (depth - 1)
    assert orthogonal.hull[1] == pytest.approx(want, rel=1e-8)
    assert gaussian.atoms == ((0.0, 0.5),)


def test_orthogonal_relu_of_the_table():
    found = [sp.jacobian(RELU, n, weights="orthogonal").hull[1] for n in (2, 3, 5, 10, 100)]
    np.testing.assert_allclose(found, [4, 27 / 4, 12.20703125, 25.81174792, 270.4679036], rtol=1e-9)


def test_linear_nets():
    linear = nn.Dense(64)
    for depth in (1, 2, 7):
        want = (depth + 1) ** (depth + 1) / depth**depth
        assert sp.jacobian(linear, depth, q=1.0).hull[1] == pytest.approx(want, rel=1e-10)


def test_moments_of_a_relu_net():
    np.testing.assert_allclose(sp.jacobian(RELU, 2).moments(3), [1, 1, 5, 33], rtol=1e-10)


@pytest.mark.parametrize(("weights", "s1"), [("gaussian", -1), ("orthogonal", 0)])
def test_variance_of_tanh(weights, s1):
    """L (mu2/mu1^2 - 1 - s1), and the contour integral of the density agrees."""
    law = sp.jacobian(TANH, 5, weights=weights)
    want = 5 * (1.34225607831 - 1 - s1)
    assert law.variance == pytest.approx(want, rel=1e-10)
    assert law.moments(2)[2] - law.moments(1)[1] ** 2 == pytest.approx(want, rel=1e-8)


def test_variances_that_flow():
    """q = 1 comes to the fixed point; a list says the same layer by layer."""
    flowing = sp.jacobian(TANH, 3, q=1.0)
    q = [1.0]
    for _ in range(2):
        q.append(CRITICAL[0] * float(tp.dual("tanh")(q[-1], q[-1], q[-1])) + 0.05)
    listed = sp.jacobian(TANH, 3, q=q)
    assert flowing.hull[1] == pytest.approx(listed.hull[1], rel=1e-10)


def test_against_a_net():
    n, q = 700, CRITICAL[1]
    product = np.eye(n)
    for _ in range(3):
        slope = 1 / np.cosh(np.sqrt(q) * RNG.standard_normal(n)) ** 2
        product = RNG.standard_normal((n, n)) * np.sqrt(CRITICAL[0] / n) @ (slope[:, None] * product)
    assert distance(sp.jacobian(TANH, 3), np.linalg.eigvalsh(product @ product.T)) < 0.02


def test_a_residual_block():
    n = 700
    block = nn.Residual(nn.serial(nn.Relu(), nn.Dense(64, W_std=0.8)))
    law = sp.jacobian(block, 1, q=1.0)
    slope = RNG.permutation(np.arange(n) % 2.0)  # half of them: the density is infinite at 1
    matrix = np.eye(n) + 0.8 * RNG.standard_normal((n, n)) / np.sqrt(n) * slope
    assert distance(law, np.linalg.eigvalsh(matrix @ matrix.T)) < 0.015
    assert law.mean == pytest.approx(1 + 0.64 / 2, rel=1e-8)


@pytest.mark.slow
def test_isometry():
    table = sp.isometry(("tanh", "relu"), 4)
    found = {(row.phi.split("(")[0], row.weights): row.reachable for row in table}
    assert [found[key] for key in found] == [False, True, False, False]
    assert "isometry" in str(table)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: sp.jacobian(nn.serial(nn.FanOut(2), nn.FanInConcat())), SpecError, "gives 128 channels"),
        (lambda: sp.jacobian(nn.serial(nn.Dense(4), nn.Dense(8)), q=1.0), SpecError, "equal widths"),
        (
            lambda: sp.jacobian(nn.serial(nn.Tanh(), nn.Dense(4, W_std=3.0)), 2, q=[1.0]),
            InputError,
            "q: 2 pos",
        ),
        (
            lambda: sp.jacobian(nn.serial(nn.Relu(), nn.Dense(4, W_std=3.0))),
            LimitError,
            "q: the block keeps no",
        ),
        (lambda: sp.jacobian(RELU, weights="haar"), InputError, "weights must be one of"),
        (lambda: sp.jacobian("relu"), SpecError, "block is 'relu'"),
    ],
)
def test_refusals_of_jacobians(call, error, words):
    with pytest.raises(error, match=words):
        call()


# --- kernels


def test_constants():
    relu, tanh = sp.constants("relu"), sp.constants("tanh")
    np.testing.assert_allclose(
        [relu.eta, relu.zeta, relu.b2, relu.a],
        [0.340845056908, 0.25, 0.733471103462, 1.46694220692],
        rtol=1e-11,
    )
    np.testing.assert_allclose(
        [tanh.eta, tanh.zeta, tanh.b2, tanh.a],
        [0.394294490398, 0.366879164362, 0.930469923615, 1.1778072323],
        rtol=1e-11,
    )
    assert sp.constants("abs").zeta < 1e-25


def test_conjugate_kernels():
    """v_0 = gamma_0, v_l = b^4 v_{l-1} + gamma_l, m_2 = 1 + v_l."""
    one, two = sp.kernel_spectrum("relu", 1.0), sp.kernel_spectrum("relu", [1.0, 1.0])
    assert one.moments(2)[2] == pytest.approx(2.5380, abs=5e-5)
    assert two.moments(2)[2] == pytest.approx(2.8274, abs=5e-5)
    other = sp.kernel_spectrum("tanh", [0.5, 2.0], data=0.7)
    b4 = sp.constants("tanh").b2 ** 2
    assert other.second == pytest.approx(1 + b4 * (b4 * 0.7 + 0.5) + 2.0, rel=1e-9)
    x = np.linspace(0.2, 3.5, 9)
    np.testing.assert_allclose(
        sp.kernel_spectrum("abs", 1.0).density(x), sp.marchenko_pastur(1.0).density(x), atol=1e-10
    )


@pytest.mark.parametrize("kind", ["conjugate", "ntk"])
def test_kernels_of_finite_nets(kind):
    n = 600
    law = sp.kernel_spectrum("tanh", [0.5, 0.4], data=0.5, kind=kind)
    found = simulated("tanh", n, [2 * n, 2 * n, 5 * n // 2], kind=kind)
    if kind == "conjugate":
        assert distance(law, found) < 0.02
        return
    assert distance(law, found) < 0.02
    assert law.moments(0)[0] == pytest.approx(1.0, abs=1e-5)
    c = sp.constants("tanh")
    trace = NtkLaw(c.a, c.b2, (0.5, 0.4), sp.marchenko_pastur(0.5))._solve(np.array([-0.5 + 0j]))[1][0]
    assert trace.real == pytest.approx(np.mean(1 / (found + 0.5)), abs=0.01)
    assert -law.cauchy(-0.5).real == pytest.approx(trace.real, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["conjugate", "ntk"])
@pytest.mark.parametrize("phi", ["tanh", "relu"])
def test_kernels_of_large_nets(kind, phi):
    law = sp.kernel_spectrum(phi, [1.0, 1.0], kind=kind)
    assert distance(law, simulated(phi, 3000, [3000] * 3, kind=kind)) < 0.02


def rows(n, d, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, d))
    return x / np.sqrt(np.mean(x**2, axis=1, keepdims=True))


@pytest.mark.parametrize("get", ["nngp", "ntk"])
def test_eigenvalues_of_real_kernels(get):
    """tanh, no spike: those of x x'/d, scaled and shifted; by Marchenko and Pastur too."""
    net = nn.serial(nn.Dense(64), nn.Tanh(), nn.Dense(64, W_std=1.3), nn.Tanh(), nn.Dense(1))
    x = rows(400, 600)
    own = sp.kernel_eigenvalues(net, x, get=get)
    assert own.spikes == () and own.distance < 0.01
    np.testing.assert_allclose(own.eigenvalues, np.linalg.eigvalsh(tp.kernel(net, x, get=get)), rtol=1e-12)
    apart = sp.kernel_eigenvalues(net, x, get=get, data=sp.marchenko_pastur(400 / 600))
    assert apart.law.edges.shape == (1, 2) and apart.distance < 0.025


def test_the_ones_are_an_eigenvector_of_a_relu_kernel():
    net = nn.serial(nn.Dense(64), nn.Relu(), nn.Dense(1, b_std=0.3))
    found = sp.kernel_eigenvalues(net, rows(400, 600))
    assert len(found.spikes) == 1
    assert found.spikes[0] == pytest.approx(found.eigenvalues[-1], rel=2e-3)
    assert found.distance < 0.02


def test_infinitely_wide_layers_are_the_kernels():
    """ratios of 0: the laws of tp.kernel of centred nets at n of the order of d, NTK too."""
    c = sp.constants("tanh")
    net = nn.serial(nn.Dense(64), nn.Tanh())
    law = sp.kernel_spectrum("tanh", 0.0, data=400 / 600)
    found = sp.kernel_eigenvalues(net, rows(400, 600), data=sp.marchenko_pastur(400 / 600))
    np.testing.assert_allclose(c.eta * law.edges, found.law.edges, rtol=1e-6)
    ntk = sp.kernel_spectrum("tanh", [0.0, 0.0], data=0.5, kind="ntk")
    nngp = sp.kernel_spectrum("tanh", [0.0, 0.0], data=0.5)
    # r I + q_0 G + q_1 K_1 + K_2, K_l = (1 - b^2) I + b^2 K_{l-1}
    scale = 3 * c.b2**2
    shift = (c.a - c.b2) + (c.a**2 - c.b2**2) + (1 + 2 * c.b2) * (1 - c.b2)
    np.testing.assert_allclose(ntk.edges, scale * sp.marchenko_pastur(0.5).edges + shift, rtol=1e-5)
    np.testing.assert_allclose(nngp.edges, c.b2**2 * sp.marchenko_pastur(0.5).edges + 1 - c.b2**2, rtol=1e-9)


def test_rows_of_different_norms_are_refused():
    with pytest.raises(InputError, match="x: rows of nearly one norm"):
        sp.kernel_eigenvalues(nn.serial(nn.Dense(8), nn.Tanh()), np.outer([1.0, 5.0, 0.1], np.ones(4)))


def test_spikes_pass_through():
    """An eigenvalue of the data outside of the bulk, and where nets put it on average: both kernels."""
    n, d = 500, 1000
    rng = np.random.default_rng(12)
    direction = rng.choice([-1.0, 1.0], n) / np.sqrt(n)
    x = rng.standard_normal((d, n)) / np.sqrt(d)
    left = rng.standard_normal(d)
    x += 2.5 * np.outer(left / np.linalg.norm(left), direction)
    x /= np.linalg.norm(x, axis=0)
    gram = x.T @ x
    data = np.linalg.eigvalsh(gram)
    c = sp.constants("tanh")
    found = []
    for _ in range(6):
        h = rng.standard_normal((d, d)) @ x
        y, slope = np.tanh(h) / np.sqrt(c.eta * d), np.cosh(h) ** -2 / np.sqrt(c.eta * d)
        kernel = y.T @ y
        found.append([_largest(kernel), _largest(kernel + slope.T @ slope * gram)])
    wanted = np.mean(found, axis=0)
    law = sp.kernel_spectrum("tanh", n / d, data=data[:-1], spikes=[data[-1]])
    assert law.spikes[0] == pytest.approx(wanted[0], rel=0.03)
    ntk = sp.kernel_spectrum("tanh", n / d, data=n / d, kind="ntk", spikes=[data[-1]])
    assert ntk.spikes[0] == pytest.approx(wanted[1], rel=0.03)
    assert sp.kernel_spectrum("tanh", 1.0, data=0.5, spikes=[1.0]).spikes == ()
    assert sp.kernel_spectrum("tanh", 1.0, data=0.5, kind="ntk", spikes=[1.0]).spikes == ()


def _largest(matrix):
    return eigvalsh(matrix, subset_by_index=[len(matrix) - 1] * 2)[0]


def test_spikes_of_infinitely_wide_layers():
    """r I + q_0 G + q_1 K_1 + K_2 with K_l = (1 - b^2) I + b^2 K_{l-1} has the data's eigenvectors."""
    c = sp.constants("tanh")
    law = sp.kernel_spectrum("tanh", [0.0, 0.0], data=0.5, kind="ntk", spikes=[6.0, 0.01])
    shift = (c.a - c.b2) + (c.a**2 - c.b2**2) + (1 + 2 * c.b2) * (1 - c.b2)
    np.testing.assert_allclose(law.spikes, 3 * c.b2**2 * np.array([6.0, 0.01]) + shift, rtol=1e-9)


def test_refusals_of_kernels():
    with pytest.raises(InputError, match="ratios: one number n / d_l >= 0"):
        sp.kernel_spectrum("tanh", [1.0, -1.0])
    with pytest.raises(InputError, match="data: the eigenvalues of a Gram matrix"):
        sp.kernel_spectrum("tanh", 1.0, data=sp.semicircle())


# --- Lanczos in the limit


def test_wigner_is_exact():
    p = tp.Program()
    w, v = p.matrix("W", var=0.5), p.vector("v")
    law = tp.spectrum(w @ v + w.T @ v, v)
    assert law.coefficients.a_exact == (Fraction(0),) * 20
    assert law.coefficients.b_exact == (Fraction(1),) * 19
    np.testing.assert_allclose(law.edges, [[-2, 2]], atol=1e-12)
    np.testing.assert_allclose(law.moments(8)[::2], [1, 1, 2, 5, 14])
    np.testing.assert_allclose(law.density([0.0, 1.0]), sp.semicircle().density([0.0, 1.0]), rtol=1e-12)
    assert law.edges_error == 0.0
    middle, band = law.error_band([0.0, 1.0])
    assert np.all(band < 1e-12) and middle[0] == pytest.approx(1 / np.pi)


@pytest.mark.parametrize("ratio", [2.0, 0.3])
def test_sample_covariances_are_exact(ratio):
    p = tp.Program()
    p.dim("m", ratio=ratio)
    a = p.matrix("A", rows="m", cols="n")
    law, want = tp.spectrum(lambda v: a.T @ (a @ v), a, steps=8), sp.free_poisson(ratio)
    np.testing.assert_allclose(law.edges, want.edges, atol=1e-12)
    x = np.linspace(*want.edges[0], 21)[1:-1]
    np.testing.assert_allclose(law.density(x), want.density(x), atol=1e-12)
    np.testing.assert_allclose(law.cdf(x), want.cdf(x), atol=1e-12)
    np.testing.assert_allclose(law.moments(4)[1:], want.moments(4)[1:], rtol=1e-12)
    assert [a.at for a in law.atoms] == [a.at for a in want.atoms]
    assert sum(a.mass for a in law.atoms) == pytest.approx(max(0.0, 1 - ratio), abs=1e-12)


def test_finitely_many_points():
    """S = diag(h)^2 with h = +-1: all mass at 1, and the recurrence ends."""
    p = tp.Program()
    x, v = p.vector("x"), p.vector("v")
    w = p.matrix("W")
    law = tp.spectrum(3.0 * v, v, steps=5)
    assert law.atoms == ((3.0, 1.0),)
    assert x.name and w.name


def relu_gram(depth):
    """J^T J of a relu net, written by hand."""
    p = tp.Program()
    x, v = p.vector("x"), p.vector("v")
    h, forward, down = x, v, []
    for k in range(depth):
        w = p.matrix(f"W{k}", var=2.0)
        g = w @ h
        d = p.apply(functions.get("relu").derivative(), g)
        h, forward = tp.relu(g), d * (w @ forward)
        down.append((w, d))
    for w, d in reversed(down):
        forward = w.T @ (d * forward)
    return v, forward


@pytest.mark.slow
def test_a_relu_net_by_ensemble():
    law = tp.spectrum(relu_gram(2), steps=6, samples=1 << 15)
    for k, want in ((1, 1), (2, 5), (3, 33)):
        assert law.moments(3)[k] == pytest.approx(want, rel=0.03)
    assert abs(law.edges[0, 1] - 11.09016994) < law.edges_error
    band = law.error_band([2.0, 5.0])
    exact = sp.jacobian(RELU, 2).density([2.0, 5.0])
    assert np.all(np.abs(band[0] - exact) < np.maximum(3 * band[1], 0.02))


def test_the_gram_of_a_net():
    """By tangent and backward lines: the same moments as by free products."""
    net = nn.serial(nn.Dense(8), nn.Tanh(), nn.Dense(8, W_std=1.2), nn.Tanh(), nn.Dense(8, W_std=1.2))
    x = np.array([1.0, -0.5, 0.3])
    law = tp.spectrum(net, shape=(3,), data={"u": x}, steps=3, samples=1 << 15)
    q = float(x @ x / 3)
    want = sp.jacobian(nn.serial(nn.Tanh(), nn.Dense(8, W_std=1.2)), 2, q=q)
    np.testing.assert_allclose(law.moments(3), want.moments(3), rtol=0.03)


def broken(write):
    p = tp.Program()
    w, v, x = p.matrix("W"), p.vector("v"), p.vector("x")
    return write(p, w, v, x), v


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda p, w, v, x: w @ v, r"line 4 \(g1\) is not symmetric in 'v': it has 1 W, and 0 .* W.T"),
        (lambda p, w, v, x: x * (w.T @ v), r"not symmetric .* diag\(x\) W.T"),
        (lambda p, w, v, x: tp.tanh(w @ v) + v, r"line 5 \(h1\) is not linear in 'v': tanh of it"),
        (lambda p, w, v, x: w @ v + w.T @ v + x, r"is not linear in 'v': 'x' is added to it"),
        (lambda p, w, v, x: tp.mean(v * x) * x, r"\(m1\) is not linear in 'v': a scalar of it"),
        (lambda p, w, v, x: v * v, "is not linear in 'v': square of it"),
    ],
)
def test_maps_that_are_refused(write, words):
    made, v = broken(write)
    with pytest.raises(ProgramError, match=words):
        tp.spectrum(made, v)


@pytest.mark.parametrize(
    "write",
    [
        lambda p, w, v, x: x * v,
        lambda p, w, v, x: w.T @ (tp.relu(x) * (w @ v)),
        lambda p, w, v, x: w.T @ (tp.exp(w @ x) * (w @ v)),
    ],
)
def test_spectra_that_are_not_compact(write):
    made, v = broken(write)
    with pytest.raises(LimitError, match=r"line \d \(.*\) is not bounded, .* it has no edges"):
        tp.spectrum(made, v)
    law = tp.spectrum(*broken(lambda p, w, v, x: tp.tanh(0.01 * x) * v), steps=2, samples=1 << 10)
    assert law.mean == pytest.approx(0.0, abs=1e-3)
    with pytest.raises(LimitError, match=r"layers\[0\] \(Exp\): the slopes of exp.* not compact"):
        sp.jacobian(nn.serial(nn.Exp(), nn.Dense(8)), 1, q=1.0)


def test_wrong_operators():
    p = tp.Program()
    w, v, x = p.matrix("W"), p.vector("v"), p.vector("x")
    for call, words in [
        (lambda: tp.spectrum(w @ x, v), "does not depend on 'v'"),
        (lambda: tp.spectrum(w @ v), "v: the vector that .* is made from"),
        (lambda: tp.spectrum(3.0), "operator is 3.0"),
        (lambda: tp.spectrum(lambda v: v), "v: a matrix or vector"),
        (lambda: tp.spectrum(RELU), "operator is a net: shape="),
        (lambda: tp.spectrum(w @ v + w.T @ v, v, steps=1), "steps is 1"),
    ]:
        with pytest.raises(InputError, match=words):
            call()


def test_what_has_no_layers_and_no_activations():
    with pytest.raises(SpecError, match="block: it has no layers"):
        sp.jacobian(nn.serial(), 2, q=1.0)
    with pytest.raises(InputError, match="phis: at least one activation"):
        sp.isometry(())
    with pytest.raises(ProgramError, match="a function is needed"):
        sp.isometry(3)
    with pytest.raises(InputError, match="spikes is -3.0"):
        sp.kernel_spectrum("tanh", 1.0, spikes=[-3.0])
