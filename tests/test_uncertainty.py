"""Ensembles beside posteriors, dropout as a Gaussian process, and whether error bars hold what they say."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tests.oracle import regression
from tpnum import nn, predict

NET = nn.serial(nn.Dense(8, W_std=1.4, b_std=0.3), nn.Erf(), nn.Dense(1, W_std=0.8))
RNG = np.random.default_rng(0)
X, X_NEW = RNG.standard_normal((30, 4)), RNG.standard_normal((7, 4))
Y = np.stack([np.sin(X[:, 0]), X[:, 1] ** 2], axis=1)
NOISES = [0.05, RNG.uniform(0.02, 0.2, 30)]


@pytest.mark.parametrize("noise", NOISES, ids=["one", "each"])
def test_three_answers_by_dense_formulas(noise):
    (k, theta), (k_new, theta_new) = (tp.kernel(NET, *x, get=("nngp", "ntk")) for x in ((X,), (X_NEW, X)))
    own, theta_own = tp.kernel(NET, X_NEW, get=("nngp", "ntk"))
    found = predict.side_by_side(NET, X, Y, X_NEW, noise=noise, cov=True)
    for made, kernels in ((found.nngp, (k, k_new, own)), (found.ntkgp, (theta, theta_new, theta_own))):
        mean, cov = regression.posterior(kernels[0], Y, noise, *kernels[1:])
        np.testing.assert_allclose(made.mean, mean, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(made.covariance, cov, rtol=1e-9, atol=1e-12)
    pull = theta_new @ np.linalg.inv(theta + noise * np.eye(30))
    joint = own + pull @ k @ pull.T - pull @ k_new.T - k_new @ pull.T
    np.testing.assert_allclose(found.ensemble.mean, pull @ Y, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.ensemble.covariance, joint, rtol=1e-9, atol=1e-12)
    alone = predict.side_by_side(NET, X, Y, X_NEW, noise=noise)
    for one, both in zip(alone, found, strict=True):
        np.testing.assert_allclose(one.mean, both.mean, rtol=1e-12)
        np.testing.assert_allclose(one.variance, both.variance, rtol=1e-9, atol=1e-13)
        assert one.covariance is None


def test_an_ensemble_is_what_its_members_do():
    """Members of the linear model: Gaussian initial functions, each corrected by ridge regression."""
    both = np.concatenate([X, X_NEW])
    k, theta = tp.kernel(NET, both, get=("nngp", "ntk"))
    draws, noise, y = 40_000, 0.05, Y[:, 0]
    start = np.random.default_rng(1).multivariate_normal(np.zeros(37), k, draws, method="cholesky")
    fix = theta[30:, :30] @ np.linalg.inv(theta[:30, :30] + noise * np.eye(30))
    members = start[:, 30:] + (y - start[:, :30]) @ fix.T
    found = predict.side_by_side(NET, X, y, X_NEW, noise=noise).ensemble
    error = np.sqrt(found.variance / draws)
    assert (np.abs(members.mean(axis=0) - found.mean) < 4.5 * error).all()
    assert (np.abs(members.var(axis=0) / found.variance - 1) < 4.5 * np.sqrt(2 / draws)).all()


def test_without_noise_an_ensemble_is_one_of_gradient_flow_at_its_end():
    found = predict.side_by_side(NET, X, Y, X_NEW).ensemble
    flow = predict.gradient_flow(NET, X, Y).predict(X_NEW)
    np.testing.assert_allclose(found.mean, flow.mean, rtol=1e-6)
    np.testing.assert_allclose(found.variance, flow.variance, rtol=1e-6)


@pytest.mark.parametrize("noise", [1e-6, 0.05, 1.0])
def test_bayesian_ensembles_are_the_more_careful(noise):
    """He et al. (2020), their theorem: the difference of the covariances is positive semidefinite."""
    found = predict.side_by_side(NET, X, Y, X_NEW, noise=noise, cov=True)
    apart = found.ntkgp.covariance - found.ensemble.covariance
    assert np.linalg.eigvalsh(apart).min() > -1e-10


def test_dropout_is_a_gaussian_process():
    """Masks are new for every pass: an example's variance grows by 1 / rate, pairs keep their covariance."""
    rate = 0.8
    net = nn.serial(nn.Dense(8, W_std=1.4, b_std=0.3), nn.Relu(), nn.Dropout(rate), nn.Dense(1))
    plain = nn.serial(nn.Dense(8, W_std=1.4, b_std=0.3), nn.Relu(), nn.Dense(1))
    k = tp.kernel(plain, X)
    dropped = k + np.diag(k.diagonal() * (1 / rate - 1))
    found = predict.posterior(net, X, Y, noise=0.01).predict(X_NEW, cov=True)
    own = tp.kernel(plain, X_NEW)
    prior = own + np.diag(own.diagonal() * (1 / rate - 1))
    mean, cov = regression.posterior(dropped, Y, 0.01, tp.kernel(plain, X_NEW, X), prior)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-10)
    np.testing.assert_allclose(found.covariance, cov, rtol=1e-9, atol=1e-12)


def test_error_bars_hold_what_they_say():
    """Targets drawn from the model itself lie in intervals as often as these say."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((400, 4))
    f = rng.multivariate_normal(np.zeros(400), tp.kernel(NET, x), method="eigh", size=20)
    y = (f + 0.3 * rng.standard_normal(f.shape)).T
    found = predict.posterior(NET, x[:60], y[:60], noise=0.09).predict(x[60:], noise=0.09)
    curve = predict.coverage_curve(found, y[60:])
    assert curve.size[0] == 340 * 20 and len(curve.confidence) == 19
    assert curve.error < 0.02
    narrow = predict.coverage_curve(found._replace(variance=found.variance / 4), y[60:], [0.9])
    assert narrow.accuracy[0] == pytest.approx(0.589, abs=0.03)  # P(|Z| < 1.645 / 2)
    with pytest.raises(ValueError, match=r"y: shape \(340,\) is not that of the predictions"):
        predict.coverage_curve(found, y[60:, 0])
    with pytest.raises(ValueError, match="levels: each is a probability, more than 0 and less than 1"):
        predict.coverage_curve(found, y[60:], [1.0])


def test_refusals():
    with pytest.raises(ValueError, match="x_new: examples of shape"):
        predict.side_by_side(NET, X, Y, X_NEW[:, :3])
    with pytest.raises(ValueError, match="noise is -1.0: it must be at least 0"):
        predict.side_by_side(NET, X, Y, X_NEW, noise=-1.0)
