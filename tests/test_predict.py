"""Posteriors and training dynamics against dense formulas, and what is refused."""

from __future__ import annotations

import json
import pickle
import warnings

import mpmath
import numpy as np
import pytest

import tpnum as tp
from tests.oracle import regression
from tpnum import nn, predict
from tpnum.errors import AccuracyWarning, InputError, StoreError

NET = nn.serial(
    nn.Dense(8, W_std=1.4, b_std=0.3), nn.Erf(), nn.Dense(8, W_std=1.3, b_std=0.2), nn.Relu(), nn.Dense(1)
)
RNG = np.random.default_rng(0)
X, X_NEW = RNG.standard_normal((12, 5)), RNG.standard_normal((6, 5))
Y = np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]], axis=1)
NOISES = {"none": 0.0, "one": 0.05, "per point": 0.02 + 0.1 * RNG.random(12)}
TARGETS = {"one output": Y[:, 0], "two outputs": Y}
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def kernels(get):
    return (
        tp.kernel(NET, X, get=get),
        tp.kernel(NET, X_NEW, X, get=get),
        tp.kernel(NET, X_NEW, get=get),
    )


# --- posteriors


@pytest.mark.parametrize("get", ["nngp", "ntk"])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("y", TARGETS)
def test_the_posterior(get, noise, y):
    k, across, own = kernels(get)
    gp = predict.posterior(NET, X, TARGETS[y], get=get, noise=NOISES[noise])
    mean, cov = regression.posterior(k, TARGETS[y], NOISES[noise], across, own)
    found = gp.predict(X_NEW, cov=True)
    np.testing.assert_allclose(found.mean, mean, **CLOSE)
    np.testing.assert_allclose(found.covariance, cov, **CLOSE)
    alone = gp.predict(X_NEW)
    np.testing.assert_allclose(alone.mean, mean, **CLOSE)
    np.testing.assert_allclose(alone.variance, np.diag(cov), **CLOSE)
    np.testing.assert_allclose(gp.log_marginal(), regression.log_marginal(k, TARGETS[y], NOISES[noise]))
    seen = gp.predict(X_NEW, noise=0.5)
    np.testing.assert_allclose(seen.variance, np.diag(cov) + 0.5, **CLOSE)
    assert gp.jitter == 0.0


def test_the_posterior_in_many_digits():
    k, across, own = kernels("nngp")
    with mpmath.workdps(50):
        a = mpmath.matrix(k.tolist()) + mpmath.mpf("0.05") * mpmath.eye(12)
        half = a**-1 * mpmath.matrix(across.T.tolist())
        mean = np.array((half.T * mpmath.matrix(Y[:, 0].tolist())).tolist(), dtype=float)[:, 0]
        cov = mpmath.matrix(own.tolist()) - mpmath.matrix(across.tolist()) * half
        variance = [float(cov[i, i]) for i in range(6)]
        y = mpmath.matrix(Y[:, 0].tolist())
        value = -(y.T * (a**-1) * y)[0] / 2 - mpmath.log(mpmath.det(a)) / 2 - 6 * mpmath.log(2 * mpmath.pi)
    gp = predict.Posterior.init(k, Y[:, 0], 0.05)
    found = gp.compute(across, own.diagonal())
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-11)
    np.testing.assert_allclose(gp.log_marginal(), float(value), rtol=1e-13)


def test_large_sets_of_new_examples_go_in_blocks(monkeypatch):
    from tpnum.predict import source

    gp = predict.posterior(NET, X, Y, noise=0.1)
    nets = predict.gradient_flow(NET, X, Y)
    whole, trained = gp.predict(X_NEW), nets.predict(X_NEW, 3.0)
    monkeypatch.setattr(source, "ROWS", 30)
    np.testing.assert_allclose(gp.predict(X_NEW).variance, whole.variance, rtol=1e-12)
    np.testing.assert_allclose(nets.predict(X_NEW, 3.0).variance, trained.variance, rtol=1e-11)


def test_intervals_and_samples():
    gp = predict.posterior(NET, X, Y, noise=0.05)
    found = gp.predict(X_NEW, cov=True)
    low, high = found.interval(0.9)
    np.testing.assert_allclose(high - low, 2 * 1.6448536269514722 * found.std[:, None] * np.ones(2))
    np.testing.assert_allclose(0.5 * (high + low), found.mean)
    drawn = gp.sample(X_NEW, 40_000, seed=1)
    assert drawn.shape == (40_000, 6, 2)
    np.testing.assert_array_equal(drawn, gp.sample(X_NEW, 40_000, seed=1))
    error = found.std[:, None] / 200
    assert (np.abs(drawn.mean(axis=0) - found.mean) < 4.5 * error).all()
    covariance = np.cov(drawn[:, :, 0].T)
    spread = np.sqrt((found.covariance**2 + np.outer(found.variance, found.variance)) / 40_000)
    assert (np.abs(covariance - found.covariance) < 4.5 * spread).all()
    both = np.einsum("si,sj->ij", drawn[:, :, 0] - found.mean[:, 0], drawn[:, :, 1] - found.mean[:, 1])
    assert (np.abs(both) / 40_000 < 4.5 * np.sqrt(np.outer(found.variance, found.variance) / 40_000)).all()


def test_the_fitted_noise_is_the_likeliest():
    k = tp.kernel(NET, X)
    y = Y[:, 0] + 0.3 * np.random.default_rng(4).standard_normal(12)
    gp = predict.posterior(NET, X, y, noise="fit")
    assert 1e-3 < gp.noise < 1.0
    best = regression.log_marginal(k, y, gp.noise)
    for factor in (0.2, 0.9, 0.999, 1.001, 1.1, 5.0):
        assert regression.log_marginal(k, y, factor * gp.noise) < best
    slope = gp.log_marginal_gradient().noise.sum()
    assert abs(slope * gp.noise) < 1e-5


def test_float32_matrices_keep_their_precision():
    k, across, own = (m.astype(np.float32) for m in kernels("nngp"))
    gp = predict.Posterior.init(k, Y, 0.05)
    assert gp.factor.lower.dtype == np.float32
    mean, cov = regression.posterior(*(m.astype(float) for m in (k, Y)), 0.05, across, own)
    np.testing.assert_allclose(gp.compute(across, own.diagonal()).mean, mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gp.compute(across, own, cov=True).covariance, cov, rtol=1e-4, atol=1e-4)


def test_the_factor_is_made_in_place():
    k = tp.kernel(NET, X)
    before = k.copy()
    gp = predict.Posterior.init(k, Y, 0.1)
    np.testing.assert_array_equal(k, before)
    inside = predict.Posterior.init(k, Y, 0.1, overwrite=True)
    assert np.shares_memory(inside.factor.lower, k)
    np.testing.assert_array_equal(np.tril(inside.factor.lower), np.tril(gp.factor.lower))
    a = before + 0.1 * np.eye(12)
    factor = predict.Cholesky.init(a.copy())
    np.testing.assert_allclose(np.tril(factor.lower), np.linalg.cholesky(a), rtol=1e-12)
    np.testing.assert_allclose(factor.inverse(), np.linalg.inv(a), rtol=1e-9)
    np.testing.assert_allclose(factor.logdet, np.linalg.slogdet(a)[1], rtol=1e-12)
    np.testing.assert_allclose(
        factor.times(factor.back(Y)),
        np.linalg.cholesky(a) @ np.linalg.solve(np.linalg.cholesky(a).T, Y),
        rtol=1e-10,
    )


# --- jitter


def test_equal_examples_take_jitter_and_say_so():
    x = np.concatenate([X, X[:3]])
    y = np.concatenate([Y, Y[:3]])
    with pytest.warns(AccuracyWarning, match="k is singular to rounding: .* was added to its diagonal"):
        gp = predict.posterior(NET, x, y)
    assert 0 < gp.jitter < 1e-8
    np.testing.assert_allclose(gp.predict(X).mean, Y, atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert predict.posterior(NET, x, y, noise=1e-3).jitter == 0.0


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_equal_examples_may_be_added(noise):
    gp = predict.posterior(NET, X, Y, noise=noise)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        more = gp.add(X[:3], Y[:3])
    assert [w.category for w in said] == ([] if noise else [AccuracyWarning])
    assert (more.jitter > 0) == (noise == 0) and more.jitter < 1e-12
    k, across = (tp.kernel(NET, x, np.concatenate([X, X[:3]])) for x in (np.concatenate([X, X[:3]]), X_NEW))
    lower = np.tril(more.state.factor.lower)
    added = lower @ lower.T - k
    np.testing.assert_allclose(added, np.diag(added.diagonal()), atol=1e-14)
    assert added.diagonal().max() == pytest.approx(noise + more.jitter, abs=2e-15)
    weights = np.linalg.solve(k + noise * np.eye(15), np.concatenate([Y, Y[:3]])) if noise else 0
    expected = across @ weights if noise else gp.predict(X_NEW).mean
    np.testing.assert_allclose(more.predict(X_NEW).mean, expected, rtol=1e-8)


def test_a_failed_factor_leaves_the_matrix_whole():
    """The jitter is tried on the same memory, larger than a block of the copy back."""
    rng = np.random.default_rng(5)
    root = rng.standard_normal((700, 40))
    k = root @ root.T
    with pytest.warns(AccuracyWarning):
        gp = predict.Posterior.init(k, rng.standard_normal(700))
    lower = np.tril(gp.factor.lower)
    np.testing.assert_allclose(lower @ lower.T, k + gp.jitter * np.eye(700), atol=1e-11)


def test_scales_apart_take_no_jitter():
    scale = np.logspace(-6, 6, 12)
    k = kernels("nngp")[0] * np.outer(scale, scale)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gp = predict.Posterior.init(k, Y * scale[:, None])
    assert gp.jitter == 0.0


# --- folds and gradients

DIRECTIONS = RNG.standard_normal((3, 12, 12))
DIRECTIONS = DIRECTIONS + DIRECTIONS.transpose(0, 2, 1)
FOLDS = {
    "leave one out": [np.array([i]) for i in range(12)],
    "blocks": list(np.array_split(np.arange(12), 4)),
    "mixed": [np.array([0, 7, 3]), np.array([11]), np.array([2, 4])],
}


@pytest.mark.parametrize("folds", FOLDS)
@pytest.mark.parametrize("noise", ["one", "per point"])
@pytest.mark.parametrize("y", TARGETS)
def test_folds_in_closed_form(folds, noise, y):
    k = tp.kernel(NET, X)
    gp = predict.Posterior.init(k, TARGETS[y], NOISES[noise])
    found = gp.leave_one_out() if folds == "leave one out" else gp.k_fold(FOLDS[folds])
    mean, variance, density = regression.k_fold(k, TARGETS[y], NOISES[noise], FOLDS[folds])
    np.testing.assert_allclose(found.mean, mean, **CLOSE)
    np.testing.assert_allclose(found.variance, variance, **CLOSE)
    np.testing.assert_allclose(found.log_density, density, **CLOSE)
    if folds == "blocks":
        np.testing.assert_array_equal(gp.k_fold(4).mean, found.mean)


OBJECTIVES = {
    "marginal": (
        lambda gp, dk: gp.log_marginal_gradient(dk),
        lambda k, y, noise: regression.log_marginal(k, y, noise),
    ),
    "leave one out": (
        lambda gp, dk: gp.leave_one_out_gradient(dk),
        lambda k, y, noise: regression.k_fold(k, y, noise, FOLDS["leave one out"])[2],
    ),
    "folds": (
        lambda gp, dk: gp.k_fold_gradient(FOLDS["mixed"], dk),
        lambda k, y, noise: regression.k_fold(k, y, noise, FOLDS["mixed"])[2],
    ),
}


@pytest.mark.parametrize("which", OBJECTIVES)
@pytest.mark.parametrize("y", TARGETS)
def test_gradients(which, y):
    """Against central differences of fourth order of the dense formulas."""
    ours, oracle = OBJECTIVES[which]
    k, y, noise = tp.kernel(NET, X), TARGETS[y], NOISES["per point"]
    found = ours(predict.Posterior.init(k, y, noise), DIRECTIONS)
    assert found.value == pytest.approx(oracle(k, y, noise), rel=1e-11)

    def slope(at, h):
        return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)

    for direction, value in zip(DIRECTIONS, found.kernel, strict=True):
        assert value == pytest.approx(
            slope(lambda h, d=direction: oracle(k + h * d, y, noise), 2e-5), rel=1e-6, abs=1e-6
        )
    for i in (0, 5, 11):
        unit = np.eye(12)[i]
        assert found.noise[i] == pytest.approx(
            slope(lambda h, u=unit: oracle(k, y, noise + h * u), 1e-4), rel=1e-6, abs=1e-6
        )


def test_gradients_by_deviations():
    gp = predict.posterior(NET, X, Y, noise=NOISES["per point"])
    names = ("layers[0].W_std", "b_std")
    dk = tp.kernel(NET, X, wrt=names).derivatives
    for made in (
        gp.log_marginal_gradient,
        gp.leave_one_out_gradient,
        lambda *a, **b: gp.k_fold_gradient(FOLDS["mixed"], *a, **b),
    ):
        found, expected = made(wrt=names), made(dk)
        assert found.value == expected.value
        np.testing.assert_allclose(found.kernel, expected.kernel, **CLOSE)
        np.testing.assert_array_equal(found.noise, expected.noise)
    assert gp.log_marginal_gradient(wrt="b_std").kernel == pytest.approx(
        gp.log_marginal_gradient(dk).kernel[1:]
    )
    own = predict.posterior(lambda a, b, get, diag: tp.kernel(NET, a, b, get=get, diag=diag), X, Y, noise=0.1)
    for call, words in [
        (lambda: gp.log_marginal_gradient(dk, wrt=names), "dk, wrt: give matrices, or names"),
        (lambda: gp.log_marginal_gradient(wrt="x1"), "wrt: name deviations of the net"),
        (lambda: gp.log_marginal_gradient(wrt="W"), "'W' is no deviation"),
        (lambda: own.leave_one_out_gradient(wrt="W_std"), "wrt: derivatives by deviations need a net"),
    ]:
        with pytest.raises(InputError, match=words):
            call()


# --- training


def both():
    return [kernels(get) for get in ("ntk", "nngp")]


@pytest.mark.parametrize("time", [0.0, 0.3, 5.0, 200.0])
@pytest.mark.parametrize("y", TARGETS)
def test_gradient_flow(time, y):
    (ntk, ntk_new, _), (nngp, nngp_new, prior) = both()
    nets = predict.gradient_flow(NET, X, TARGETS[y], lr=0.5)
    mean, cov = regression.flow(ntk, TARGETS[y], nngp, ntk_new, nngp_new, prior, 0.5 * time)
    found = nets.predict(X_NEW, time, cov=True)
    np.testing.assert_allclose(found.mean, mean, **CLOSE)
    np.testing.assert_allclose(found.covariance, cov, **CLOSE)
    np.testing.assert_allclose(nets.predict(X_NEW, time).variance, np.diag(cov), **CLOSE)
    mean, cov = regression.flow(ntk, TARGETS[y], nngp, ntk, nngp, nngp, 0.5 * time)
    found = nets.predict(t=time, cov=True)
    np.testing.assert_allclose(found.mean, mean, **CLOSE)
    np.testing.assert_allclose(found.covariance, cov, **CLOSE)
    np.testing.assert_allclose(found.variance, np.diag(cov), **CLOSE)


def test_the_end_of_training():
    (ntk, ntk_new, _), (nngp, nngp_new, prior) = both()
    pull = ntk_new @ np.linalg.inv(ntk)
    for nets in (predict.gradient_flow(NET, X, Y), predict.gradient_descent(NET, X, Y, lr=0.01)):
        found = nets.predict(X_NEW, cov=True)
        np.testing.assert_allclose(found.mean, pull @ Y, **CLOSE)
        cross = pull @ nngp_new.T
        np.testing.assert_allclose(found.covariance, prior + pull @ nngp @ pull.T - cross - cross.T, **CLOSE)
        assert nets.rank == 12
        np.testing.assert_allclose(nets.predict().mean, Y, atol=1e-12)
        np.testing.assert_array_equal(nets.predict().variance, 0.0)
        assert nets.loss() == (0.0, 0.0)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("steps", [0, 1, 2, 7, 100])
def test_gradient_descent(momentum, steps):
    (ntk, ntk_new, _), (nngp, nngp_new, prior) = both()
    lr = 0.9 * 2 * (1 + momentum) / np.linalg.eigvalsh(ntk)[-1]
    nets = predict.gradient_descent(NET, X, Y, lr=lr, momentum=momentum)
    mean, cov = regression.descent(ntk, Y, nngp, ntk_new, nngp_new, prior, lr, momentum, steps)
    found = nets.predict(X_NEW, steps, cov=True)
    np.testing.assert_allclose(found.mean, mean[12:], **CLOSE)
    np.testing.assert_allclose(found.covariance, cov[12:, 12:], **CLOSE)
    found = nets.predict(t=steps, cov=True)
    np.testing.assert_allclose(found.mean, mean[:12], **CLOSE)
    np.testing.assert_allclose(found.covariance, cov[:12, :12], **CLOSE)
    loss = nets.loss(steps)
    of_mean = 0.5 * np.sum((mean[:12] - Y) ** 2)
    np.testing.assert_allclose(loss.of_mean, of_mean, rtol=1e-10, atol=1e-25)  # late: rounding of f
    np.testing.assert_allclose(loss.expected, of_mean + np.trace(cov[:12, :12]), rtol=1e-10, atol=1e-25)


def test_losses_along_the_way():
    nets = predict.gradient_flow(NET, X, Y)
    times = [0.0, 1.0, 10.0, 1e3]
    losses = nets.losses(times)
    assert [loss.expected for loss in losses] == sorted((loss.expected for loss in losses), reverse=True)
    assert losses[0].of_mean == pytest.approx(0.5 * np.sum(Y**2), rel=1e-12)
    y = np.ones((6, 2))
    for t, loss in zip(times, nets.losses(times, X_NEW, y), strict=True):
        found = nets.predict(X_NEW, t)
        assert loss.of_mean == pytest.approx(0.5 * np.sum((found.mean - y) ** 2), rel=1e-12)
        assert loss.expected == pytest.approx(loss.of_mean + found.variance.sum(), rel=1e-12)


def test_late_losses_keep_their_digits():
    """exp(-2 lambda t) far below rounding."""
    nets = predict.gradient_flow(NET, X, Y[:, 0])
    values, vectors = np.linalg.eigh(tp.kernel(NET, X, get="ntk"))
    t = 60 / values[0]
    parts = [
        mpmath.exp(-2 * mpmath.mpf(v) * t) * mpmath.mpf(float(u @ Y[:, 0])) ** 2 / 2
        for v, u in zip(values, vectors.T, strict=True)
    ]
    assert nets.loss(t).of_mean == pytest.approx(float(sum(parts)), rel=1e-8)


@pytest.mark.parametrize("time", [0.0, 1e-3, 0.3, 10.0, 1e5, np.inf])
def test_flow_with_each_example_left_out(time):
    """By training on all others; equal examples tell each other's targets."""
    x, y = np.concatenate([X, X[:2]]), np.concatenate([Y, Y[2:4]])
    expected = np.empty_like(y)
    for i in range(len(x)):
        others = np.arange(len(x)) != i
        trained = predict.gradient_flow(NET, x[others], y[others], lr=0.7)
        expected[i] = trained.predict(x[i : i + 1], time).mean[0]
    nets = predict.gradient_flow(NET, x, y, lr=0.7)
    np.testing.assert_allclose(nets.leave_one_out(time), expected, **CLOSE)
    alone = predict.gradient_flow(NET, x, y[:, 0], lr=0.7).leave_one_out(time)
    np.testing.assert_allclose(alone, expected[:, 0], **CLOSE)


def test_flows_for_ages_and_for_an_instant():
    nets = predict.gradient_flow(NET, X, Y, lr=1e300)
    np.testing.assert_array_equal(nets.predict(X_NEW, 1e300).mean, nets.predict(X_NEW, np.inf).mean)
    np.testing.assert_array_equal(nets.leave_one_out(1e300), nets.leave_one_out())
    brief = predict.gradient_flow(NET, X, Y, lr=1e-300)
    for time in (1e-300, 1e-20):
        np.testing.assert_allclose(brief.leave_one_out(time), 0.0, atol=2e-14)


def test_flows_are_sums_of_ridges():
    z = np.concatenate([[0.0], np.logspace(-12, 12, 49)])[:, None]
    for time in (1e-6, 1.0, 1e8):
        noises, weights = predict.Flow(0.7).ridges(time)
        found = (weights * noises / (z + noises)).sum(axis=1).real
        np.testing.assert_allclose(found, np.exp(-0.7 * time * z[:, 0]), atol=1e-13)


def test_the_largest_learning_rate():
    ntk = tp.kernel(NET, X, get="ntk")
    top = np.linalg.eigvalsh(ntk)[-1]
    for momentum in (0.0, 0.9):
        largest = predict.largest_learning_rate(NET, X, momentum=momentum)
        assert largest == pytest.approx(2 * (1 + momentum) / top, rel=1e-12)
        nets = predict.gradient_descent(NET, X, Y, lr=0.999 * largest, momentum=momentum)
        assert nets.largest_rate == pytest.approx(largest, rel=1e-12)
        assert nets.loss(20_000).of_mean < nets.loss(0).of_mean
        with pytest.raises(InputError, match=r"lr is .* training diverges from .* take a smaller one"):
            predict.gradient_descent(NET, X, Y, lr=1.001 * largest, momentum=momentum)
        unstable = predict.Dynamics.init(ntk, Y, None, predict.Descent(1.001 * largest, momentum))
        assert unstable.loss(15_000).of_mean > 1e6 * unstable.loss(0).of_mean
    assert predict.gradient_flow(NET, X, Y, lr=1e6).largest_rate == np.inf


def test_many_steps_take_no_longer():
    nets = predict.gradient_descent(NET, X, Y, lr=0.01, momentum=0.9)
    np.testing.assert_allclose(nets.predict(X_NEW, 10**12).mean, nets.predict(X_NEW).mean, rtol=1e-9)


def test_a_singular_ntk_is_trained_in_its_range():
    x, y = np.concatenate([X, X[:2]]), np.concatenate([Y[:, 0], Y[:2, 0] + 1.0])
    nets = predict.gradient_flow(NET, x, y)
    assert nets.rank == 12
    found = nets.predict()
    np.testing.assert_allclose(found.mean[:2], Y[:2, 0] + 0.5, atol=1e-10)  # the mean of the two targets
    np.testing.assert_allclose(found.mean[2:12], Y[2:, 0], atol=1e-10)
    assert nets.loss().of_mean == pytest.approx(2 * 0.5 * 2 * 0.25, rel=1e-9)
    np.testing.assert_allclose(found.variance, 0.0, atol=1e-12)


# --- more data, files, other kernels


@pytest.mark.parametrize("noise", NOISES)
def test_data_are_added_without_starting_again(noise):
    given = NOISES[noise]
    whole = predict.posterior(NET, X, Y, noise=given)
    first = given if np.ndim(given) == 0 else given[:7]
    part = predict.posterior(NET, X[:7], Y[:7], noise=first)
    more = part.add(X[7:], Y[7:], None if np.ndim(given) == 0 else given[7:])
    assert len(part.x) == 7
    found, expected = more.predict(X_NEW, cov=True), whole.predict(X_NEW, cov=True)
    np.testing.assert_allclose(found.mean, expected.mean, **CLOSE)
    np.testing.assert_allclose(found.covariance, expected.covariance, **CLOSE)
    np.testing.assert_allclose(more.log_marginal(), whole.log_marginal(), **CLOSE)
    mixed = part.add(X[7:], Y[7:], 0.7)
    np.testing.assert_array_equal(mixed.noise, [*np.broadcast_to(first, 7), *[0.7] * 5])


@pytest.mark.parametrize("train", [predict.gradient_flow, predict.gradient_descent])
def test_ensembles_take_more_data(train):
    whole = train(NET, X, Y, lr=0.01)
    more = train(NET, X[:7], Y[:7], lr=0.01).add(X[7:], Y[7:])
    found, expected = more.predict(X_NEW, 30, cov=True), whole.predict(X_NEW, 30, cov=True)
    np.testing.assert_allclose(found.mean, expected.mean, **CLOSE)
    np.testing.assert_allclose(found.covariance, expected.covariance, **CLOSE)
    np.testing.assert_allclose(more.loss(3), whole.loss(3), **CLOSE)
    assert more.largest_rate == pytest.approx(whole.largest_rate)
    with pytest.raises(InputError, match="y: shape .* does not continue"):
        more.add(X_NEW, np.zeros(6))
    tight = predict.gradient_descent(NET, X[:1], Y[:1], lr=1.9 / tp.kernel(NET, X[:1], get="ntk")[0, 0])
    with pytest.raises(InputError, match="training diverges from"):
        tight.add(X[:1], Y[:1])


def test_states_of_matrices_are_saved_too(tmp_path):
    k, k_new = tp.kernel(NET, X), tp.kernel(NET, X_NEW, X)
    gp = predict.Posterior.init(k, Y, 0.1)
    flow = predict.Dynamics.init(k, Y, None, predict.Flow(0.5))
    for model, ask in [(gp, lambda m: m.compute(k_new)), (flow, lambda m: m.compute(2.0, k_new))]:
        model.save(tmp_path / "state.npz")
        again = predict.load(tmp_path / "state.npz")
        assert type(again) is type(model)
        np.testing.assert_array_equal(ask(again).mean, ask(model).mean)


@pytest.mark.parametrize("made", ["gp", "per point", "flow", "descent", "program"])
def test_states_are_saved_and_loaded(made, tmp_path):
    program = nn.program(NET, (5,))
    model = {
        "gp": lambda: predict.posterior(NET, X, Y, noise=0.1),
        "per point": lambda: predict.posterior(NET, X, Y[:, 0], noise=NOISES["per point"], get="ntk"),
        "flow": lambda: predict.gradient_flow(NET, X, Y, lr=0.3),
        "descent": lambda: predict.gradient_descent(NET, X, Y, lr=0.01, momentum=0.8),
        "program": lambda: predict.posterior(program, X, Y, noise=0.1),
    }[made]()
    path = tmp_path / "model.npz"
    model.save(path)
    assert [f.name for f in tmp_path.iterdir()] == ["model.npz"]
    for again in (predict.load(path), pickle.loads(pickle.dumps(model))):
        assert type(again) is type(model)
        np.testing.assert_array_equal(again.predict(X_NEW).mean, model.predict(X_NEW).mean)
        np.testing.assert_array_equal(again.predict(X_NEW).variance, model.predict(X_NEW).variance)
        assert repr(again)[:40] == repr(model)[:40]
    if made == "gp":
        more = predict.load(path).add(X_NEW, np.zeros((6, 2)))
        np.testing.assert_allclose(
            more.predict(X_NEW).mean, model.add(X_NEW, np.zeros((6, 2))).predict(X_NEW).mean
        )


def test_files_that_are_no_models(tmp_path):
    path = tmp_path / "model.npz"
    model = predict.posterior(NET, X, Y, noise=0.1)
    with pytest.raises(StoreError, match=r"missing.npz cannot be read: No such file"):
        predict.load(tmp_path / "missing.npz")
    np.savez(path, a=np.ones(3))
    with pytest.raises(StoreError, match=r"model.npz is not a model written by tpnum"):
        predict.load(path)
    np.savez(path, about=np.array([{"a": 1}], dtype=object))
    with pytest.raises(StoreError, match=r"model.npz is not a model written by tpnum"):
        predict.load(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(StoreError, match=r"model.npz is not a model written by tpnum"):
        predict.load(path)
    model.save(path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(StoreError, match=r"model.npz is not a model written by tpnum, or is damaged"):
        predict.load(path)
    model.save(path)
    with np.load(path) as stored:
        arrays = dict(stored)
    about = json.loads(str(arrays["about"]))
    for change, words in [
        ({"about": {"version": 2}}, "model.npz is of version 2; this tpnum reads 1"),
        ({"about": {"format": "another"}}, "is not a model written by tpnum"),
        ({"about": {"kind": "Tree"}}, "'Tree' is no kind of model that this tpnum knows"),
        ({"about": {"get": "rbf"}}, "model.npz is not a model that can be used: 'rbf' is no kernel that"),
        ({"y": arrays["y"][:5]}, "its arrays are not of one number of examples"),
        ({"weights": np.full_like(arrays["y"], np.nan)}, "its arrays hold NaN or infinity"),
    ]:
        text = json.dumps({**about, **change.get("about", {})})
        np.savez(path, **{**arrays, **change, "about": np.array(text)})
        with pytest.raises(StoreError, match=words):
            predict.load(path)
    del arrays["lower"]
    np.savez(path, **arrays)
    with pytest.raises(StoreError, match="it lacks 'lower'"):
        predict.load(path)
    with pytest.raises(StoreError, match="cannot be written"):
        model.save(tmp_path / "no" / "such" / "folder.npz")
    with pytest.raises(InputError, match="a function of kernels cannot be saved"):
        predict.posterior(_linear, X, Y, noise=0.1).save(path)


def _linear(x1, x2, get, diag):
    return np.einsum("ic,ic->i", x1, x1) if diag else x1 @ (x1 if x2 is None else x2).T


def test_kernels_of_one_s_own():
    gp = predict.posterior(_linear, X, Y, noise=0.1)
    ridge = np.linalg.solve(X.T @ X + 0.1 * np.eye(5), X.T @ Y)
    np.testing.assert_allclose(gp.predict(X_NEW).mean, X_NEW @ ridge, rtol=1e-9)


def test_images():
    images, new = RNG.standard_normal((5, 6, 6, 2)), RNG.standard_normal((3, 6, 6, 2))
    net = nn.serial(nn.Conv(4, (3, 3), padding="SAME"), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))
    gp = predict.posterior(net, images, np.arange(5.0), noise=0.1)
    k = tp.kernel(net, images)
    mean, _ = regression.posterior(k, np.arange(5.0), 0.1, tp.kernel(net, new, images), np.eye(3))
    np.testing.assert_allclose(gp.predict(new).mean, mean, **CLOSE)
    with pytest.raises(InputError, match=r"net: its output on x keeps axes .* Flatten"):
        predict.posterior(nn.serial(nn.Conv(4, (3, 3)), nn.Relu()), images, np.arange(5.0))
    with pytest.raises(InputError, match=r"x: examples of shape \(6, 6, 3\), .* have \(6, 6, 2\)"):
        gp.predict(RNG.standard_normal((2, 6, 6, 3)))


# --- what is refused

K = X @ X.T + 0.05 * np.eye(12)
INDEFINITE = K - 2.0 * np.eye(12)
SKEW = K + np.triu(np.ones((12, 12)), 1)
HOLED = np.where(np.eye(12) > 0, np.nan, K)

BAD = {
    "indefinite": (lambda: predict.Posterior.init(K - 0.1 * np.eye(12), Y), "not positive semidefinite"),
    "negative diagonal": (
        lambda: predict.Posterior.init(INDEFINITE - 5 * np.eye(12), Y),
        r"k is not positive .* entry \(\d+, \d+\) is -",
    ),
    "skew": (lambda: predict.Posterior.init(SKEW, Y), r"k is not symmetric: entries"),
    "nan": (lambda: predict.Posterior.init(HOLED, Y), "k must be finite"),
    "not square": (lambda: predict.Posterior.init(K[:5], Y), "k: a square matrix is needed"),
    "no square to factor": (lambda: predict.Cholesky.init(np.ones((2, 3))), "k: shape .* square matrix"),
    "whole numbers to factor": (lambda: predict.Cholesky.init(np.eye(2, dtype=int)), "k holds int64"),
    "nan in x": (lambda: predict.posterior(NET, np.where(X > 1, np.nan, X), Y), "x: example .* NaN"),
    "nan in y": (lambda: predict.posterior(NET, X, np.where(Y > 0.5, np.nan, Y)), "y must be finite"),
    "few targets": (lambda: predict.posterior(NET, X, Y[:5]), "y has 5 targets for the 12 examples of x"),
    "deep targets": (lambda: predict.posterior(NET, X, Y[:, :, None]), "y: shape .* is neither"),
    "negative noise": (
        lambda: predict.posterior(NET, X, Y, noise=-0.1),
        "noise is -0.1: it must be at least 0",
    ),
    "negative noises": (lambda: predict.posterior(NET, X, Y, noise=-np.ones(12)), "noise holds -1"),
    "few noises": (lambda: predict.posterior(NET, X, Y, noise=np.ones(3)), "noise has 3 variances for 12"),
    "noise's name": (lambda: predict.posterior(NET, X, Y, noise="much"), "noise is 'much': give a variance"),
    "fit of nothing": (
        lambda: predict.Posterior.init(0 * K, Y, noise="fit"),
        "noise: the kernel of the examples is zero",
    ),
    "no kernel": (lambda: predict.posterior(NET, X, Y, get="rbf"), "get must be one of nngp, ntk"),
    "no net": (lambda: predict.posterior("relu", X, Y), "net is 'relu': it must be a net"),
    "rate": (lambda: predict.gradient_descent(NET, X, Y, lr=-1.0), "lr is -1.0: it must be more than 0"),
    "momentum": (lambda: predict.gradient_descent(NET, X, Y, lr=0.01, momentum=1.0), "momentum is 1.0"),
    "more features": (
        lambda: predict.posterior(NET, X, Y, noise=0.1).predict(np.ones((2, 6))),
        r"x: examples of shape \(6,\), and those learned from have \(5,\)",
    ),
    "time": (lambda: predict.gradient_flow(NET, X, Y).predict(X_NEW, -1.0), "t is -1.0"),
    "step": (lambda: predict.gradient_descent(NET, X, Y, lr=0.01).predict(X_NEW, 1.5), "t is 1.5"),
    "one fold": (lambda: predict.Posterior.init(K, Y, 0.1).k_fold(1), "folds is 1"),
    "a fold for each": (
        lambda: predict.Posterior.init(K, Y, 0.1).k_fold(np.arange(12) % 3),
        "folds is .* array",
    ),
    "all in one": (lambda: predict.Posterior.init(K, Y, 0.1).k_fold([range(12)]), "folds|one fold holds"),
    "twice": (lambda: predict.Posterior.init(K, Y, 0.1).k_fold([[0, 1], [1]]), "an example is in two folds"),
    "beyond": (lambda: predict.Posterior.init(K, Y, 0.1).k_fold([[0, 12]]), "numbered from 0 to 11"),
    "one example": (lambda: predict.posterior(NET, X[:1], Y[:1]).leave_one_out(), "at least two examples"),
    "directions": (
        lambda: predict.Posterior.init(K, Y, 0.1).log_marginal_gradient(np.ones((2, 3, 3))),
        r"dk: shape \(2, 3, 3\) is not \(parameters, 12, 12\)",
    ),
    "descent left out": (
        lambda: predict.gradient_descent(NET, X, Y, lr=0.01).leave_one_out(3),
        "leave_one_out: it is known for gradient flow alone",
    ),
    "one left out": (lambda: predict.gradient_flow(NET, X[:1], Y[:1]).leave_one_out(), "at least two"),
    "half a loss": (lambda: predict.gradient_flow(NET, X, Y).loss(1.0, X_NEW), "x, y: .* needs both"),
    "samples": (lambda: predict.posterior(NET, X, Y).predict(X_NEW).sample(2), "samples need the covariance"),
    "level": (lambda: predict.posterior(NET, X, Y).predict(X_NEW).interval(1.5), "level is 1.5"),
    "seed": (lambda: predict.posterior(NET, X, Y).sample(X_NEW, 2, seed=-1), "seed is -1"),
    "added outputs": (lambda: predict.posterior(NET, X, Y).add(X_NEW, np.ones(6)), "y: shape .* continue"),
}


@pytest.mark.parametrize("case", BAD)
def test_refusals(case):
    call, words = BAD[case]
    with pytest.raises(InputError, match=words):
        call()


def test_targets_of_zero_have_the_smallest_noise():
    noise = predict.posterior(NET, X, 0 * Y, noise="fit").noise
    assert noise == pytest.approx(1e-10 * tp.kernel(NET, X, diag=True).mean(), rel=1e-6)


def test_calibration_curves():
    chances = np.array([[0.95, 0.05], [0.9, 0.1], [0.3, 0.7], [0.25, 0.75]])
    curve = predict.calibration_curve(chances, [0, 1, 1, 1], bins=5)
    np.testing.assert_allclose(curve.confidence, [0.725, 0.925])
    np.testing.assert_allclose(curve.accuracy, [1.0, 0.5])
    np.testing.assert_array_equal(curve.size, [2, 2])
    assert curve.error == pytest.approx((0.275 + 0.425) / 2)


@pytest.mark.parametrize(
    ("chances", "labels", "words"),
    [
        ([[0.5, 0.6]], [0], "chances: row 0 sums to 1.1; give those of all classes"),
        ([[-0.5, 1.5]], [0], "chances must be probabilities"),
        ([[0.5, 0.5]], [2], "labels: they must be numbers of classes, from 0 to 1"),
        ([[0.5, 0.5]], [0.5], "labels: they must be numbers of classes"),
        ([[0.5, 0.5]], [0, 1], "labels: 2 for chances of shape"),
    ],
)
def test_what_is_no_calibration(chances, labels, words):
    with pytest.raises(InputError, match=words):
        predict.calibration_curve(chances, labels)


def test_equal_targets_are_fine():
    gp = predict.posterior(NET, X, np.full(12, 3.0), noise=1e-6)
    np.testing.assert_allclose(gp.predict(X).mean, 3.0, atol=1e-3)


def test_what_a_short_time_has_learned_has_all_digits():
    """At the examples it is t Theta y - t^2 / 2 Theta^2 y, nothing at 0 and y at the end."""
    draws = np.random.default_rng(5)
    root, y = draws.standard_normal((6, 6)), draws.standard_normal((6, 2))
    theta = root @ root.T
    made = predict.Dynamics.init(theta, y, None, predict.Flow())
    for t in (1e-30, 1e-12, 1e-8):
        series = t * theta @ y - 0.5 * t * t * theta @ theta @ y
        np.testing.assert_allclose(made.train(t).mean, series, rtol=1e-12, atol=1e-13 * np.abs(series).max())
    assert not made.train(0.0).mean.any()
    assert (made.train(np.inf).mean == y).all()
