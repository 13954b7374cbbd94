"""Posteriors whose matrix is never held, against the same by dense algebra."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tests.oracle import regression
from tests.oracle.designs import crossed
from tpnum import nn, predict
from tpnum.errors import AccuracyWarning, InputError
from tpnum.nn.deviations import deviations, with_deviations

RNG = np.random.default_rng(5)
NET = nn.serial(nn.Dense(8, W_std=1.4, b_std=0.3), nn.Erf(), nn.Dense(1, W_std=0.9))
X, X_NEW = RNG.standard_normal((90, 4)), RNG.standard_normal((7, 4))
TARGETS = {"one": np.sin(X[:, 0]), "three": np.stack([np.sin(X[:, 0]), X[:, 1], X[:, 2] ** 2], axis=1)}
NOISES = {"number": 0.02, "each": 0.01 + 0.05 * RNG.random(90)}
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def made(y=TARGETS["one"], noise=0.02, **options):
    return predict.iterative_posterior(NET, X, y, noise=noise, rank=30, rtol=1e-13, **options)


@pytest.mark.parametrize(("y", "noise", "get"), crossed(TARGETS, NOISES, ["nngp", "ntk"]))
def test_it_is_the_posterior(get, noise, y):
    gp = made(TARGETS[y], NOISES[noise], get=get)
    k, k_new, own = (tp.kernel(NET, *at, get=get) for at in ((X,), (X_NEW, X), (X_NEW,)))
    mean, cov = regression.posterior(k, TARGETS[y], NOISES[noise], k_new, own)
    found = gp.predict(X_NEW, noise=0.5)
    np.testing.assert_allclose(found.mean, mean, **CLOSE)
    np.testing.assert_allclose(found.variance, np.diag(cov) + 0.5, **CLOSE)
    joint = gp.predict(X_NEW, cov=True)
    np.testing.assert_allclose(joint.covariance, cov, **CLOSE)
    np.testing.assert_allclose(joint.variance, np.diag(cov), **CLOSE)
    alone = gp.predict(X_NEW, variance=False)
    np.testing.assert_allclose(alone.mean, mean, **CLOSE)
    assert np.isnan(alone.variance).all()
    assert gp.residual <= 1e-13
    assert gp.sample(X_NEW, 3, seed=0).shape == (3, *mean.shape)


@pytest.mark.parametrize("y", TARGETS)
def test_the_likelihood(y):
    k = tp.kernel(NET, X)
    exact = regression.log_marginal(k, TARGETS[y], 0.02)
    found = made(TARGETS[y]).log_marginal(probes=40, steps=80, seed=1)
    assert abs(found.value - exact) < 4 * found.error
    assert found.error < 0.05 * abs(exact)


def test_the_slope_of_the_likelihood():
    y, noise = TARGETS["three"], NOISES["each"]
    names = ("W_std", "layers[0].b_std")

    def exact(net, noise):
        return regression.log_marginal(tp.kernel(net, X), y, noise)

    now, h = deviations(NET), 1e-5
    up, down = (
        [
            {"layers[0].W_std": now["layers[0].W_std"] + s, "layers[2].W_std": now["layers[2].W_std"] + s},
            {"layers[0].b_std": now["layers[0].b_std"] + s},
        ]
        for s in (h, -h)
    )
    by_name = [
        (exact(with_deviations(NET, a), noise) - exact(with_deviations(NET, b), noise)) / (2 * h)
        for a, b in zip(up, down, strict=True)
    ]
    tilt = RNG.standard_normal(90)
    by_noise = (exact(NET, noise + 1e-7 * tilt) - exact(NET, noise - 1e-7 * tilt)) / 2e-7
    gp = made(y, noise)
    found = np.array(
        [
            [*gradient.kernel, gradient.noise @ tilt]
            for _, gradient in (gp.log_marginal_gradient(names, seed=s) for s in range(8))
        ]
    )
    error = found.std(axis=0, ddof=1) / np.sqrt(8)
    assert (np.abs(found.mean(axis=0) - [*by_name, by_noise]) < 4.5 * error + 1e-6).all()
    assert (error < 0.1 * np.abs([*by_name, by_noise])).all()


def test_further_examples_go_on_from_the_weights():
    y, y_new = TARGETS["three"], RNG.standard_normal((7, 3))
    both = made(y).add(X_NEW, y_new)
    whole = predict.iterative_posterior(
        NET, np.vstack([X, X_NEW]), np.vstack([y, y_new]), noise=0.02, rank=30, rtol=1e-13
    )
    np.testing.assert_allclose(both.weights, whole.weights, rtol=1e-8, atol=1e-9)
    each = made(y, NOISES["each"]).add(X_NEW, y_new, noise=np.full(7, 0.3))
    np.testing.assert_array_equal(each.noise, np.concatenate([NOISES["each"], np.full(7, 0.3)]))
    again = made(y).add(X_NEW[:1], np.zeros((1, 3)))
    assert again.steps <= whole.steps


def test_it_is_saved_and_loaded(tmp_path):
    gp = made(noise=NOISES["each"], dtype=np.float32)
    gp.save(tmp_path / "gp.npz")
    back = predict.load(tmp_path / "gp.npz")
    assert repr(back) == repr(gp)
    np.testing.assert_array_equal(back.predict(X_NEW).variance, gp.predict(X_NEW).variance)
    assert back.log_marginal(probes=2, steps=5) == gp.log_marginal(probes=2, steps=5)


def test_single_precision_tiles():
    single = made(dtype=np.float32)
    np.testing.assert_allclose(single.predict(X_NEW).mean, made().predict(X_NEW).mean, atol=1e-4)


def test_unfinished_solves_say_so():
    with pytest.warns(AccuracyWarning, match="conjugate gradients: after 1000 steps the residual is"):
        predict.iterative_posterior(NET, X, TARGETS["one"], noise=1e-12, rank=5, rtol=1e-15)


def test_refusals():
    y = TARGETS["one"]
    for call, words in [
        (lambda: made(noise=0.0), "noise: it must be more than 0"),
        (lambda: made(noise=-1.0), "noise is -1.0: it must be at least 0"),
        (lambda: made(noise="fit"), "noise is 'fit': give a variance"),
        (lambda: made(y[:5]), "y has 5 targets for the 90 examples of x"),
        (lambda: predict.iterative_posterior(lambda *a: 0, X, y, noise=0.1), "net: products without"),
        (lambda: predict.iterative_posterior(NET, X, y, noise=0.1, rtol=2.0), "rtol is 2.0"),
        (lambda: predict.iterative_posterior(NET, X, y, noise=0.1, rank=0), "rank is 0"),
        (lambda: made().add(X_NEW, np.zeros((7, 2))), "y: shape .* does not continue"),
        (lambda: made(noise=NOISES["each"]).add(X_NEW, np.zeros(7)), "noise: it was given per example"),
        (lambda: made().predict(X_NEW[:, :2]), "x: examples of shape"),
        (lambda: made().log_marginal_gradient("W"), "'W' is no deviation"),
    ]:
        with pytest.raises(InputError, match=words):
            call()
