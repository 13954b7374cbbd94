"""Results as datasets of xarray."""

from __future__ import annotations

import numpy as np
import pytest

from tpnum import nn, predict
from tpnum.errors import InputError

xr = pytest.importorskip("xarray")

from tpnum.interop.xarray import predictions, training  # noqa: E402

NET = nn.serial(nn.Dense(8, W_std=1.4, b_std=0.3), nn.Erf(), nn.Dense(1, W_std=0.9))
RNG = np.random.default_rng(0)
X, X_NEW, Y = RNG.standard_normal((10, 3)), RNG.standard_normal((4, 3)), RNG.standard_normal((10, 2))


@pytest.mark.parametrize("y", [Y, Y[:, 0]])
def test_predictions(y):
    found = predict.posterior(NET, X, y, noise=0.1).predict(X_NEW, cov=True)
    made = predictions(found, draws=500, seed=3, coords={"example": list("abcd")})
    axes = ("example", "output")[: y.ndim]
    assert made["mean"].dims == axes
    assert made["f"].dims == ("chain", "draw", *axes)
    np.testing.assert_array_equal(made["f"].values[0], found.sample(500, 3))
    np.testing.assert_array_equal(made["mean"].sel(example="c"), found.mean[2])
    np.testing.assert_array_equal(made["variance"], found.variance)
    np.testing.assert_array_equal(made["covariance"], found.covariance)
    short = made["f"].mean(("chain", "draw")) - made["mean"]
    assert (np.abs(short) < 5 * np.sqrt(made["variance"] / 500)).all()
    alone = predictions(predict.posterior(NET, X, y).predict(X_NEW))
    assert set(alone) == {"mean", "variance"}


@pytest.mark.parametrize("train", [predict.gradient_flow, predict.gradient_descent])
def test_training_curves(train):
    nets, times = train(NET, X, Y, lr=0.01), [0, 5, 30]
    made = training(nets, times)
    np.testing.assert_array_equal(made["time"], times)
    for t in times:
        found, there = nets.predict(t=t), made.sel(time=t)
        np.testing.assert_array_equal(there["mean"], found.mean)
        np.testing.assert_array_equal(there["variance"], found.variance)
        assert (there["loss_of_mean"], there["expected_loss"]) == nets.loss(t)
    new = training(nets, times, X_NEW, np.zeros((4, 2)), coords={"output": ["u", "v"]})
    assert new["expected_loss"].sel(time=30) == nets.loss(30, X_NEW, np.zeros((4, 2))).expected
    assert set(training(nets, times, X_NEW)) == {"mean", "variance"}


def test_arviz_knows_the_draws():
    az = pytest.importorskip("arviz")
    found = predict.posterior(NET, X, Y[:, 0], noise=0.1).predict(X_NEW, cov=True)
    made = predictions(found, draws=20_000, seed=0)
    summary = az.summary(made[["f"]], kind="stats", round_to="none")
    np.testing.assert_allclose(summary["mean"].astype(float), found.mean, atol=5 * found.std.max() / 141)


def test_refusals():
    gp, nets = predict.posterior(NET, X, Y), predict.gradient_flow(NET, X, Y)
    for call, words in [
        (lambda: predictions(gp), "found is <Regression .*; give what predict"),
        (lambda: predictions(gp.predict(X_NEW), draws=3), "samples need the covariance"),
        (lambda: predictions(gp.predict(X_NEW), draws=-1), "draws is -1"),
        (lambda: predictions(gp.predict(X_NEW), coords={"pixel": [1]}), "there is no axis 'pixel'"),
        (lambda: predictions(gp.predict(X_NEW), coords={"example": [1]}), "1 labels for the 4 places"),
        (lambda: predictions(gp.predict(X_NEW), coords=[1]), "coords is .*: it must give labels"),
        (lambda: training(gp, [1.0]), "nets is <Regression"),
        (lambda: training(nets, []), "times: give at least one"),
        (lambda: training(nets, [-1.0]), "t is -1.0"),
        (lambda: training(nets, [1.0], y=Y), "x: targets y alone"),
    ]:
        with pytest.raises(InputError, match=words):
            call()
