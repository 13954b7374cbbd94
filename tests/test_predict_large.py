"""Conjugate gradients, Lanczos and pivoted Cholesky against dense algebra; tuning by the likelihood."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse.linalg

import tpnum as tp
from tests.oracle import regression
from tpnum import nn, predict
from tpnum.errors import InputError
from tpnum.nn.deviations import deviations, with_deviations

RNG = np.random.default_rng(0)
NET = nn.serial(nn.Dense(8, W_std=1.4, b_std=0.3), nn.Erf(), nn.Dense(1, W_std=0.9))
X = RNG.standard_normal((300, 4))
Q = 1.4**2 * (X @ X.T) / 4 + 0.3**2
ROOT = np.sqrt(1.0 + 2.0 * Q.diagonal())
K = 0.9**2 * (2 / np.pi) * np.arcsin(2 * Q / np.outer(ROOT, ROOT))  # the kernel of NET
NOISE = 0.01
A = K + NOISE * np.eye(300)
B = RNG.standard_normal((300, 3))
NEAR = predict.pivoted_cholesky(K.diagonal(), lambda i: K[i], NOISE, rank=60)


@pytest.mark.parametrize("kind", ["array", "operator"])
@pytest.mark.parametrize("near", [None, NEAR])
def test_conjugate_gradients(kind, near):
    a = A if kind == "array" else scipy.sparse.linalg.aslinearoperator(A)
    found = predict.conjugate_gradients(a, B, near=near, rtol=1e-12)
    np.testing.assert_allclose(found.x, np.linalg.solve(A, B), rtol=1e-8, atol=1e-9)
    assert found.residual <= 1e-12
    one = predict.conjugate_gradients(a, B[:, 0], near=near, rtol=1e-12)
    np.testing.assert_allclose(one.x, found.x[:, 0], rtol=1e-7, atol=1e-8)
    assert predict.conjugate_gradients(a, B, steps=2).steps == 2
    on = predict.conjugate_gradients(a, B, near=near, start=found.x + 1e-9, rtol=1e-6)
    assert on.steps == 0
    np.testing.assert_array_equal(on.x, found.x + 1e-9)


def test_the_preconditioner_saves_steps():
    plain, near = (predict.conjugate_gradients(A, B, near=p, rtol=1e-8).steps for p in (None, NEAR))
    assert 2 * near < plain


def test_pivoted_cholesky():
    dense = NEAR.low @ NEAR.low.T + NOISE * np.eye(300)
    np.testing.assert_allclose(NEAR(B), np.linalg.solve(dense, B), rtol=1e-9, atol=1e-9)
    assert NEAR.logdet == pytest.approx(np.linalg.slogdet(dense)[1], rel=1e-12)
    values = np.linalg.eigvalsh(K)
    assert np.trace(K - NEAR.low @ NEAR.low.T) < 20 * values[:-60].sum()
    each = 0.01 + RNG.random(300)
    made = predict.preconditioner(NEAR.low, each)
    dense = NEAR.low @ NEAR.low.T + np.diag(each)
    np.testing.assert_allclose(made(B), np.linalg.solve(dense, B), rtol=1e-9, atol=1e-9)
    assert made.logdet == pytest.approx(np.linalg.slogdet(dense)[1], rel=1e-12)
    low = X[:, :2] @ X[:, :2].T
    assert predict.pivoted_cholesky(low.diagonal(), lambda i: low[i], 0.1, rank=50).rank == 2


@pytest.mark.parametrize("near", [None, NEAR])
def test_the_log_determinant(near):
    exact = np.linalg.slogdet(A)[1]
    found = predict.lanczos_logdet(A, near=near, probes=32, steps=100)
    assert abs(found.value - exact) < 4 * found.error
    assert found.error < (8.0 if near is None else 2.0)
    assert found == predict.lanczos_logdet(A, near=near, probes=32, steps=100)


def test_probes_end_each_at_its_time():
    """Of a matrix with three eigenvalues all Krylov spaces end after three steps, and are exact."""
    values = np.array([1.0, 2.0, 5.0])[np.arange(60) % 3]
    q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((60, 60)))
    a = (q * values) @ q.T
    found = predict.lanczos_logdet(a, probes=5, steps=40)
    z = np.random.default_rng(0).choice([-1.0, 1.0], (60, 5))
    exact = np.einsum("ij,ij->j", z, (q * np.log(values)) @ q.T @ z)
    assert found.value == pytest.approx(exact.mean(), rel=1e-10)
    assert found.error == pytest.approx(exact.std(ddof=1) / np.sqrt(5), rel=1e-8)


def test_what_is_refused():
    with pytest.raises(InputError, match="a is not positive definite"):
        predict.conjugate_gradients(K - 1.0 * np.eye(300), B)
    with pytest.raises(InputError, match="a is not positive definite"):
        predict.lanczos_logdet(K - 1.0 * np.eye(300))
    with pytest.raises(InputError, match="b: shape .* does not go with an operator a of 300 rows"):
        predict.conjugate_gradients(A, B[:5])
    with pytest.raises(InputError, match="start: shape .* is not that of b"):
        predict.conjugate_gradients(A, B, start=B[:, :1])
    with pytest.raises(InputError, match="a: a square array or"):
        predict.conjugate_gradients(A[:5], B)
    with pytest.raises(InputError, match="noise is 0: it must be more than 0"):
        predict.pivoted_cholesky(K.diagonal(), lambda i: K[i], 0)


# --- tuning


def test_tuning_finds_the_likeliest():
    x = X[:40]
    y = np.linalg.cholesky(A[:40, :40]) @ RNG.standard_normal(40)
    start = with_deviations(NET, {"layers[0].W_std": 0.5, "layers[2].W_std": 2.0})
    gp = predict.tune(start, x, y, wrt=tuple(deviations(NET)), noise=0.3)
    net, best = gp.source.of, gp.log_marginal()
    assert best > predict.posterior(NET, x, y, noise=NOISE).log_marginal()
    for path, value in deviations(net).items():
        for factor in (0.97, 1.03):
            moved = with_deviations(net, {path: factor * value})
            assert regression.log_marginal(tp.kernel(moved, x), y, gp.noise) < best + 1e-6
    for factor in (0.9, 1.1):
        assert regression.log_marginal(tp.kernel(net, x), y, factor * gp.noise) < best + 1e-6
    shared = predict.tune(start, x, y, wrt="W_std", noise=0.3).source.of
    assert shared.layers[2].W_std / shared.layers[0].W_std == pytest.approx(4.0)
    assert shared.layers[0].b_std == 0.3


def test_tuning_by_leaving_one_out():
    x = X[:30]
    y = np.linalg.cholesky(A[:30, :30]) @ np.random.default_rng(4).standard_normal(30)
    gp = predict.tune(NET, x, y, wrt=("W_std",), noise=0.3, by="leave_one_out")
    net, one_by_one = gp.source.of, [np.array([i]) for i in range(30)]

    def density(net, noise):
        return regression.k_fold(tp.kernel(net, x), y, noise, one_by_one)[2]

    best = density(net, gp.noise)
    assert best == pytest.approx(gp.leave_one_out().log_density)
    for factor in (0.95, 1.05):
        scaled = {path: factor * v for path, v in deviations(net).items() if path.endswith("W_std")}
        assert density(with_deviations(net, scaled), gp.noise) < best + 1e-6
        assert density(net, factor * gp.noise) < best + 1e-6


def test_the_slope_of_the_likelihood():
    """By every entry of K, two outputs; and contracted with the kernel's derivatives without storing them."""
    x, y = X[:12], B[:12, :2]
    k = np.array(tp.kernel(NET, x))
    slope = predict.Posterior.init(k, y, NOISE).log_marginal_slope()
    direction = RNG.standard_normal(k.shape)
    direction += direction.T
    h = 1e-6
    up, down = (predict.Posterior.init(k + s * h * direction, y, NOISE).log_marginal() for s in (1, -1))
    assert np.sum(slope * direction) == pytest.approx((up - down) / (2 * h), rel=1e-6)
    wrt = tuple(deviations(NET))
    whole = predict.Posterior.init(k, y, NOISE).log_marginal_gradient(tp.kernel(NET, x, wrt=wrt).derivatives)
    made = tp.kernel(NET, x, wrt=wrt, against=slope).derivatives
    np.testing.assert_allclose(made, whole.kernel, rtol=1e-9)


def test_what_tuning_refuses():
    for net, wrt, words in [
        (NET, "bias", "wrt: 'bias' is no deviation"),
        (with_deviations(NET, {"b_std": 0.0}), "b_std", r"wrt: layers\[0\].b_std is 0 and has no logarithm"),
        (NET, ("W_std", "layers[0].W_std"), "wrt: a deviation is named twice"),
    ]:
        with pytest.raises(InputError, match=words):
            predict.tune(net, X[:5], B[:5], wrt=wrt)
    with pytest.raises(InputError, match="by must be one of log_marginal, leave_one_out"):
        predict.tune(NET, X[:5], B[:5], by="rmse")
