"""Joint rules: branches of one variable, a function of a function, shared weights, means; and finite nets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import erf, ndtr

import tpnum as tp
from tests.oracle import finite
from tests.oracle.every_net import fan
from tpnum import nn

BOTH = ("nngp", "ntk")


def data(seed: int, n: int = 9, d: int = 6) -> np.ndarray:
    """Inputs of several sizes with a duplicate, an opposite and a close neighbour."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) * np.exp(rng.uniform(-1, 1, (n, 1)))
    x[2] = x[0]
    x[3] = -x[1]
    x[4] = x[1] * (1 + 1e-9)
    return x


def close(a, b, scale, bound):
    root = np.sqrt(np.abs(np.diagonal(scale)))
    assert np.max(np.abs(a - b) / root[:, None] / root[None, :]) <= bound


def same(a: nn.Layer, b: nn.Layer, rel: float = 1e-13) -> None:
    x = data(11)
    for left, right in zip(tp.kernel(a, x, get=BOTH), tp.kernel(b, x, get=BOTH), strict=True):
        close(left, right, right, rel)


def two(join: nn.Layer, *branches: nn.Layer) -> nn.Layer:
    return nn.serial(*fan(join, *branches))


def test_x_plus_x_has_four_times_the_variance():
    dense, doubled = nn.Dense(8, W_std=1.3, b_std=0.2), nn.Dense(8, W_std=2.6, b_std=0.4)
    twice = nn.serial(dense, two(nn.FanInSum(), nn.Identity(), nn.Identity()))
    same(twice, doubled)
    same(nn.serial(twice, nn.Relu(), nn.Dense(1)), nn.serial(doubled, nn.Relu(), nn.Dense(1)))
    same(nn.serial(twice, nn.Erf(), nn.Dense(1)), nn.serial(doubled, nn.Erf(), nn.Dense(1)))


@pytest.mark.parametrize(
    ("branches", "single"),
    [
        ((nn.Identity(), nn.Relu()), nn.ABRelu(1, 2)),
        ((nn.Relu(), nn.Relu()), nn.ABRelu(0, 2)),
        ((nn.Relu(), nn.ABRelu(-1, 0)), nn.Abs()),
        ((nn.Identity(), nn.Monomial(3)), nn.Polynomial([0, 1, 0, 1])),
        ((nn.Identity(), nn.Monomial(2), nn.Monomial(2)), nn.Polynomial([0, 1, 2])),
    ],
    ids=repr,
)
def test_sum_after_a_nonlinearity(branches, single):
    """Branches of one pre-activation are correlated: their sum is one function of it."""
    dense = nn.Dense(8, W_std=1.1, b_std=0.2)
    joined = nn.serial(dense, two(nn.FanInSum(), *branches))
    same(joined, nn.serial(dense, single), 1e-10)
    same(
        nn.serial(joined, nn.Dense(8), nn.Erf(), nn.Dense(1)),
        nn.serial(dense, single, nn.Dense(8), nn.Erf(), nn.Dense(1)),
        1e-10,
    )


@pytest.mark.parametrize(
    ("branches", "single"),
    [
        ((nn.Identity(), nn.Identity()), nn.Monomial(2)),
        ((nn.Identity(), nn.Relu()), nn.RectifiedMonomial(2)),
        ((nn.Identity(), nn.Monomial(2)), nn.Monomial(3)),
    ],
    ids=repr,
)
def test_product_of_correlated_branches(branches, single):
    dense = nn.Dense(8, W_std=1.1, b_std=0.2)
    same(
        nn.serial(dense, two(nn.FanInProd(), *branches), nn.Dense(1)),
        nn.serial(dense, single, nn.Dense(1)),
        1e-10,
    )


@pytest.mark.parametrize(
    ("chain", "single"),
    [
        ((nn.Relu(), nn.Relu()), nn.Relu()),
        ((nn.Relu(), nn.Abs()), nn.Relu()),
        ((nn.Abs(), nn.Relu()), nn.Abs()),
        ((nn.LeakyRelu(0.5), nn.LeakyRelu(0.5)), nn.LeakyRelu(0.25)),
        ((nn.Monomial(2), nn.Monomial(2)), nn.Monomial(4)),
        ((nn.Relu(), nn.Relu(), nn.Monomial(2)), nn.RectifiedMonomial(2)),
        ((nn.Abs(), nn.Monomial(2)), nn.Monomial(2)),
    ],
    ids=repr,
)
def test_nonlinearity_of_a_nonlinearity(chain, single):
    dense = nn.Dense(8, W_std=0.9, b_std=0.2)
    same(nn.serial(dense, *chain, nn.Dense(1)), nn.serial(dense, single, nn.Dense(1)), 1e-10)


def test_sum_of_nonlinear_branches_with_weights_of_their_own():
    """relu(W1 x) + relu(W2 x): independent, but their means add: E (h1 + h2)(h1' + h2') = 2 E + 2 m m'."""
    dense = nn.Dense(8, W_std=1.2, b_std=0.1)
    branch = nn.serial(dense, nn.Relu())
    x = data(3)
    alone = tp.kernel(branch, x, get=BOTH)
    joined = tp.kernel(nn.serial(nn.FanOut(2), nn.parallel(branch, branch), nn.FanInSum()), x, get=BOTH)
    mean = np.sqrt(tp.kernel(dense, x, get="nngp").diagonal() / (2 * np.pi))
    truth = 2 * alone.nngp + 2 * np.outer(mean, mean)
    close(joined.nngp, truth, truth, 1e-13)
    close(joined.ntk, 2 * alone.ntk, joined.ntk, 1e-13)


def test_layernorm_after_relu_subtracts_the_mean():
    """(E h h' - m m')/(sigma sigma'): negative where dividing alone leaves a positive number."""
    x = data(4)
    dense = nn.Dense(8, W_std=1.2, b_std=0.1)
    raw = tp.kernel(nn.serial(dense, nn.Relu()), x, get=BOTH)
    q = tp.kernel(dense, x).diagonal()
    mean = np.sqrt(q / (2 * np.pi))
    sd = np.sqrt(q / 2 - mean**2 + 1e-12)
    mine = tp.kernel(nn.serial(dense, nn.Relu(), nn.LayerNorm()), x, get=BOTH)
    truth = (raw.nngp - np.outer(mean, mean)) / np.outer(sd, sd)
    close(mine.nngp, truth, truth, 1e-13)
    close(mine.ntk, raw.ntk / np.outer(sd, sd), mine.ntk, 1e-13)
    assert mine.nngp.min() < -0.1 and raw.nngp.min() > 0


def test_weights_shared_between_layers():
    """With one W for both layers g1 and g2 are correlated by E h0 h1; with two matrices they are not."""
    for shared in (True, False):
        p = tp.Program()
        x = p.vector("x", var=1.0)
        w1 = p.matrix("W", var=1.5)
        w2 = w1 if shared else p.matrix("V", var=1.5)
        h0 = tp.relu(x)
        g1 = w1 @ h0
        h1 = tp.relu(g1)
        g2 = w2 @ h1
        law = tp.limit(p)
        q1 = 1.5 / 2
        cross = 1.5 * np.sqrt(1 / (2 * np.pi)) * np.sqrt(q1 / (2 * np.pi))
        assert law.cov(g1, g1).value == pytest.approx(q1, rel=1e-13)
        assert law.cov(g2, g2).value == pytest.approx(1.5 * q1 / 2, rel=1e-13)
        assert law.cov(g1, g2).value == pytest.approx(cross if shared else 0.0, rel=1e-12, abs=1e-15)


def test_three_uses_of_one_matrix():
    """g3 = W relu(g2) against g2 = W relu(g1): E relu(g1) relu(g2) at the correlation of the shared W."""
    p = tp.Program()
    x = p.vector("x", var=2.0)
    w = p.matrix("W", var=2.0)
    g1 = w @ tp.relu(x)
    g2 = w @ tp.relu(g1)
    g3 = w @ tp.relu(g2)
    law = tp.limit(p)
    assert law.cov(g1, g1).value == pytest.approx(2.0, rel=1e-13)
    rho = law.cov(g1, g2).value / 2.0
    assert rho == pytest.approx(1 / np.pi, rel=1e-12)
    theta = np.arccos(1 / np.pi)
    truth = 2 * (np.sin(theta) + (np.pi - theta) / np.pi) / np.pi
    assert law.cov(g2, g3).value == pytest.approx(truth, rel=1e-12)


def relu_of(m: float, s: float) -> float:
    return m * ndtr(m / s) + s * np.exp(-((m / s) ** 2) / 2) / np.sqrt(2 * np.pi)


@pytest.mark.parametrize(("m1", "m2", "rho"), [(0.7, -0.4, 0.6), (2.0, 1.5, -0.8), (-1.0, -1.0, 0.95)])
def test_nonzero_means(m1, m2, rho):
    s1, s2 = 1.2, 0.8
    p = tp.Program()
    x, y = p.vectors("x", "y", mean=[m1, m2], cov=[[s1**2, rho * s1 * s2], [rho * s1 * s2, s2**2]])
    w = p.matrix("W", var=1.0)
    gx, gy = w @ tp.relu(x), w @ tp.relu(y)
    law = tp.limit(p)
    inner_sd = s2 * np.sqrt(1 - rho * rho)

    def integrand(z):
        return (m1 + s1 * z) * relu_of(m2 + s2 * rho * z, inner_sd) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)

    truth = quad(integrand, -m1 / s1, 12, epsabs=1e-14, epsrel=1e-13)[0]
    square = (m1 * m1 + s1 * s1) * ndtr(m1 / s1) + m1 * s1 * np.exp(-((m1 / s1) ** 2) / 2) / np.sqrt(
        2 * np.pi
    )
    assert law.cov(gx, gx).value == pytest.approx(square, rel=1e-9)
    assert law.cov(gx, gy).value == pytest.approx(truth, rel=1e-9)
    assert law.moment(gx, gy).value == pytest.approx(truth, rel=1e-9)


# finite width ----------------------------------------------------------------------------------------------


def plain(t, x, n):
    h = finite.relu(t.dense(x, n, 1.4, 0.3))
    return t.dense(finite.relu(t.dense(h, n, 1.3, 0.2)), 1, 1.1, 0.1)


def doubled(t, x, n):
    g = t.dense(x, n, 1.1, 0.2)
    h = finite.add(g, g, finite.relu(g))
    return t.dense(finite.relu(t.dense(h, n, 0.8, 0.2)), 1, 1.0, 0.0)


def normalised(t, x, n):
    h = finite.layernorm(finite.relu(t.dense(x, n, 1.4, 0.3)))
    g = t.dense(h, n, 1.2, 0.0)
    k = finite.add(g, t.dense(finite.relu(g), n, 0.7, 0.1))
    return t.dense(finite.layernorm(finite.relu(k)), 1, 1.0, 0.0)


def gated(t, x, n):
    g = t.dense(x, n, 1.1, 0.2)
    smooth = finite.apply(g, erf, lambda u: 2 / np.sqrt(np.pi) * np.exp(-u * u))
    h = finite.multiply(finite.relu(g), smooth)
    return t.dense(finite.relu(t.dense(h, n, 1.2, 0.3)), 1, 1.0, 0.2)


FINITE = {
    "plain": (
        plain,
        nn.serial(
            nn.Dense(8, W_std=1.4, b_std=0.3), nn.Relu(), nn.Dense(8, W_std=1.3, b_std=0.2), nn.Relu(),
            nn.Dense(1, W_std=1.1, b_std=0.1),
        ),
    ),
    "x + x + relu(x)": (
        doubled,
        nn.serial(
            nn.Dense(8, W_std=1.1, b_std=0.2), *fan(nn.FanInSum(), nn.Identity(), nn.Identity(), nn.Relu()),
            nn.Dense(8, W_std=0.8, b_std=0.2), nn.Relu(), nn.Dense(1),
        ),
    ),
    "layernorm after relu": (
        normalised,
        nn.serial(
            nn.Dense(8, W_std=1.4, b_std=0.3), nn.Relu(), nn.LayerNorm(), nn.Dense(8, W_std=1.2),
            *fan(nn.FanInSum(), nn.Identity(), nn.serial(nn.Relu(), nn.Dense(8, W_std=0.7, b_std=0.1))),
            nn.Relu(), nn.LayerNorm(), nn.Dense(1),
        ),
    ),
    "relu(x) erf(x)": (
        gated,
        nn.serial(
            nn.Dense(8, W_std=1.1, b_std=0.2), *fan(nn.FanInProd(), nn.Relu(), nn.Erf()),
            nn.Dense(8, W_std=1.2, b_std=0.3), nn.Relu(), nn.Dense(1, b_std=0.2),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FINITE)
def test_finite_width(name):
    """Networks of widths 64 and 128, extrapolated, lie within their own standard error of the limit."""
    build, net = FINITE[name]
    x = np.random.default_rng(7).standard_normal((4, 3))
    mine = tp.kernel(net, x, get=BOTH)
    for k, (value, error) in zip(mine, finite.limit(build, x, width=64, nets=4000, seed=1), strict=True):
        assert np.max(error / np.sqrt(np.outer(k.diagonal(), k.diagonal()))) < 0.012  # the test can fail
        error = np.maximum(error, 1e-9 * k.max())  # after a layernorm the diagonal has none
        z = ((k - value) / error)[np.triu_indices(len(x))]
        assert np.abs(z).max() < 4.5
        assert np.sqrt(np.mean(z**2)) < 2.2
