"""The estimators of `tpnum.interop.sklearn` as users of scikit-learn use theirs."""

from __future__ import annotations

import pickle
import subprocess
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

import tpnum as tp
from tests.oracle import regression
from tpnum import nn
from tpnum.errors import AccuracyWarning, InputError, SpecError
from tpnum.interop.sklearn import MLP, TPClassifier, TPKernel, TPNystroem, TPRegressor
from tpnum.predict import laplace
from tpnum.predict.laplace import Laplace

NET = nn.serial(nn.Dense(8, W_std=1.4, b_std=0.3), nn.Erf(), nn.Dense(1))
RNG = np.random.default_rng(0)
X, X_NEW = RNG.standard_normal((30, 4)), RNG.standard_normal((7, 4))
Y = np.sin(X[:, 0]) + X[:, 1] ** 2


@parametrize_with_checks(
    [
        TPRegressor(),
        TPRegressor(NET, kernel="ntk", noise="fit"),
        TPClassifier(MLP(1), kernel="ntk", time=10.0),
        TPClassifier(NET, method="laplace"),
    ]
)
def test_what_scikit_learn_asks_of_an_estimator(estimator, check):
    check(estimator)


# --- numbers


def test_the_regressor_is_the_posterior():
    k, across, own = tp.kernel(NET, X), tp.kernel(NET, X_NEW, X), tp.kernel(NET, X_NEW)
    scaled = (Y - Y.mean()) / Y.std()
    mean, cov = regression.posterior(k, scaled, 0.05, across, own)
    model = TPRegressor(NET, noise=0.05).fit(X, Y)
    np.testing.assert_allclose(model.predict(X_NEW), Y.mean() + Y.std() * mean, rtol=1e-10)
    found, std = model.predict(X_NEW, return_std=True)
    np.testing.assert_allclose(std, Y.std() * np.sqrt(np.diag(cov)), rtol=1e-8)
    found, covariance = model.predict(X_NEW, return_cov=True)
    np.testing.assert_allclose(covariance, Y.std() ** 2 * cov, rtol=1e-8, atol=1e-10)
    value = regression.log_marginal(k, scaled, 0.05)
    assert model.log_marginal_likelihood_value_ == pytest.approx(value, rel=1e-11)
    drawn = model.sample_y(X_NEW, 20_000, random_state=1)
    assert drawn.shape == (7, 20_000)
    assert (np.abs(drawn.mean(axis=1) - found) < 4.5 * std / np.sqrt(20_000)).all()
    np.testing.assert_array_equal(drawn, model.sample_y(X_NEW, 20_000, random_state=1))


def test_several_outputs_each_on_their_scale():
    both = np.stack([Y, 100.0 + 50.0 * X[:, 2]], axis=1)
    model = TPRegressor(NET, noise=0.05).fit(X, both)
    for i in (0, 1):
        alone = TPRegressor(NET, noise=0.05).fit(X, both[:, i])
        mean, std = alone.predict(X_NEW, return_std=True)
        np.testing.assert_allclose(model.predict(X_NEW)[:, i], mean, rtol=1e-10)
        np.testing.assert_allclose(model.predict(X_NEW, return_std=True)[1][:, i], std, rtol=1e-10)
    assert model.predict(X_NEW, return_cov=True)[1].shape == (7, 7, 2)
    assert model.sample_y(X_NEW, 3).shape == (7, 2, 3)


def test_early_stopping_is_gradient_flow():
    (ntk, nngp), new = tp.kernel(NET, X, get=("ntk", "nngp")), tp.kernel(NET, X_NEW, X, get=("ntk", "nngp"))
    mean, cov = regression.flow(ntk, Y, nngp, *new, tp.kernel(NET, X_NEW), 40.0 / 30)
    model = TPRegressor(NET, kernel="ntk", time=40.0, normalize_y=False).fit(X, Y)
    found, std = model.predict(X_NEW, return_std=True)
    np.testing.assert_allclose(found, mean, rtol=1e-9)
    np.testing.assert_allclose(std, np.sqrt(np.diag(cov)), rtol=1e-9)
    end = TPRegressor(NET, kernel="ntk", time=np.inf, normalize_y=False).fit(X, Y)
    np.testing.assert_allclose(end.predict(X), Y, rtol=1e-8)


def test_a_kernel_computed_before_gives_the_same():
    k, across = tp.kernel(NET, X, get="ntk"), tp.kernel(NET, X_NEW, X, get="ntk")
    mine = TPRegressor(kernel="precomputed").fit(k, Y)
    np.testing.assert_allclose(
        mine.predict(across), TPRegressor(NET, kernel="ntk").fit(X, Y).predict(X_NEW), rtol=1e-10
    )
    score = cross_val_score(TPRegressor(kernel="precomputed"), k, Y, cv=3)
    np.testing.assert_allclose(score, cross_val_score(TPRegressor(NET, kernel="ntk"), X, Y, cv=3), rtol=1e-8)
    labels = (Y > 1).astype(int)
    mine = TPClassifier(kernel="precomputed").fit(k, labels)
    other = TPClassifier(NET, kernel="ntk").fit(X, labels)
    np.testing.assert_allclose(mine.predict_proba(across), other.predict_proba(X_NEW), rtol=1e-8)
    with pytest.raises(ValueError, match="X: a precomputed kernel must be square"):
        TPRegressor(kernel="precomputed").fit(across, Y[:7])
    with pytest.raises(ValueError, match="a precomputed kernel of new rows says nothing of their variance"):
        TPRegressor(kernel="precomputed").fit(k, Y).predict(across, return_std=True)


def dense_laplace(k, labels, classes):
    """The mode by a general optimiser over all of f, and the Gaussian there with the whole Hessian."""
    n = len(k)
    prior = np.kron(np.eye(classes), k)
    inverse = np.linalg.inv(prior)
    onehot = np.eye(classes)[labels].T.ravel()

    def cost(f):
        wide = f.reshape(classes, n)
        gradient = inverse @ f - onehot + softmax(wide, axis=0).ravel()
        return 0.5 * f @ inverse @ f - onehot @ log_softmax(wide, axis=0).ravel(), gradient

    def hessian(f):
        pi = softmax(f.reshape(classes, n), axis=0)
        w = np.diag(pi.ravel())
        for c in range(classes):
            for d in range(classes):
                w[c * n : (c + 1) * n, d * n : (d + 1) * n] -= np.diag(pi[c] * pi[d])
        return inverse + w

    f = np.zeros(n * classes)
    for _ in range(50):
        f = f - np.linalg.solve(hessian(f), cost(f)[1])
    curvature = hessian(f)
    evidence = -cost(f)[0] - 0.5 * (np.linalg.slogdet(curvature)[1] + np.linalg.slogdet(prior)[1])
    return f.reshape(classes, n).T, np.linalg.inv(curvature), evidence


@pytest.mark.parametrize("classes", [2, 3])
def test_laplace_by_the_whole_hessian(classes):
    k = tp.kernel(NET, X[:9], get="ntk") + 0.01 * np.eye(9)
    across, prior = tp.kernel(NET, X_NEW, X[:9], get="ntk"), tp.kernel(NET, X_NEW, get="ntk", diag=True)
    labels = np.arange(9) % classes
    mode, cov, evidence = dense_laplace(k, labels, classes)
    made = Laplace.init(k, labels, classes)
    np.testing.assert_allclose(k @ made.pull, mode, atol=1e-9)
    assert made.evidence == pytest.approx(evidence, rel=1e-10)
    mean, found = made.latent(across, prior)
    lift = across @ np.linalg.inv(k)
    np.testing.assert_allclose(mean, lift @ mode, atol=1e-9)
    blocks = cov.reshape(classes, 9, classes, 9)
    spread = np.einsum("mi,cidj,mj->mcd", lift, blocks, lift)
    spread += (prior - np.einsum("mi,mi->m", lift @ k, lift))[:, None, None] * np.eye(classes)
    np.testing.assert_allclose(found, spread, atol=1e-9)
    chances = made.probabilities(across, prior)
    z = np.random.default_rng(0).standard_normal((200_000, classes))
    for m in range(7):
        draws = softmax(mean[m] + z @ np.linalg.cholesky(spread[m]).T, axis=1)
        np.testing.assert_allclose(chances[m], draws.mean(axis=0), atol=5e-3)


@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4])
def test_laplace_ends_where_kernels_are_large(scale, monkeypatch):
    """At the mode f = K (onehot - softmax f), to the rounding of K; without steps that move nothing."""
    calls = []
    curvature = laplace._curvature
    monkeypatch.setattr(laplace, "_curvature", lambda k, pi: calls.append(0) or curvature(k, pi))
    k = scale * tp.kernel(NET, X)
    labels = np.digitize(Y, [0.5, 1.5])
    found = Laplace.init(k, labels, 3)
    assert len(calls) < 30
    f = k @ found.pull
    np.testing.assert_allclose(np.eye(3)[labels] - softmax(f, axis=1), found.pull, atol=1e-11 * scale)
    monkeypatch.setattr(laplace, "STEPS", 2)
    with pytest.warns(AccuracyWarning, match="by Newton's method the mode of f is only known to"):
        Laplace.init(k, labels, 3)


def test_laplace_of_kernels_that_are_too_large():
    k, labels = tp.kernel(NET, X), np.digitize(Y, [0.5, 1.5])
    with pytest.warns(AccuracyWarning, match="k: .* give a smaller kernel"):
        Laplace.init(1e14 * k, labels, 3)
    with pytest.raises(InputError, match="k: beside entries of .* give a smaller kernel"):
        Laplace.init(1e300 * k, labels, 3)


def test_probabilities_are_calibrated_on_what_was_left_out():
    """The temperature is the likeliest on leave-one-out scores, found here by refitting."""
    x, y = load_iris(return_X_y=True)
    x = StandardScaler().fit_transform(x)[::3]
    y = y[::3]
    model = TPClassifier(NET, noise=0.01).fit(x, y)
    onehot = np.eye(3)[y] - 1 / 3
    scores = np.empty_like(onehot)
    for i in range(len(x)):
        rest = np.arange(len(x)) != i
        k = tp.kernel(NET, x[rest]) + 0.01 * np.eye(len(x) - 1)
        scores[i] = tp.kernel(NET, x[i : i + 1], x[rest])[0] @ np.linalg.solve(k, onehot[rest])

    def cost(log_t):
        return log_loss(y, softmax(scores / np.exp(log_t), axis=1))

    found = scipy.optimize.minimize_scalar(cost, bounds=(-6, 3), method="bounded", options={"xatol": 1e-9})
    assert model.temperature_ == pytest.approx(np.exp(found.x), rel=1e-4)


def test_probabilities_of_nets_trained_to_the_end_are_no_certainties():
    x, y = load_iris(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    end = TPClassifier(NET, kernel="ntk", time=np.inf).fit(x[::2], y[::2])
    late = TPClassifier(NET, kernel="ntk", time=1e9).fit(x[::2], y[::2])
    # the means are those of regression without noise, and so are the scores of what is left out
    ridge = TPClassifier(NET, kernel="ntk", noise=1e-10).fit(x[::2], y[::2])
    assert end.temperature_ == pytest.approx(late.temperature_, rel=1e-3)
    assert end.temperature_ == pytest.approx(ridge.temperature_, rel=1e-3)
    np.testing.assert_allclose(end.predict_proba(x[1::2]), ridge.predict_proba(x[1::2]), atol=1e-3)
    assert log_loss(y[1::2], end.predict_proba(x[1::2])) < 0.3


@pytest.mark.parametrize("options", [{}, {"method": "laplace"}, {"kernel": "ntk", "time": 300.0}])
def test_probabilities_say_more_than_frequencies(options):
    x, y = load_wine(return_X_y=True)
    model = make_pipeline(StandardScaler(), TPClassifier(NET, **options))
    chances = cross_val_predict(model, x, y, cv=3, method="predict_proba")
    assert np.mean(chances.argmax(axis=1) == y) > 0.95
    # laplace's priors are of unit size, whose probabilities stay cautious
    assert log_loss(y, chances) < (0.6 if options.get("method") else 0.15)


def thirds(model):
    """Accuracies on each third of the digits, learned from the others."""
    x, y = load_digits(return_X_y=True)
    x, third = x / 16.0, np.arange(len(y)) % 3
    return [
        clone(model).fit(x[third != k], y[third != k]).score(x[third == k], y[third == k]) for k in range(3)
    ]


SVC_GRID = GridSearchCV(SVC(), {"C": [1.0, 10.0, 100.0], "gamma": [0.01, 0.03, 0.1]}, cv=3)


def test_digits_as_well_as_a_support_vector_machine_that_was_tuned():
    mine = TPClassifier(MLP(2, "erf"), kernel="ntk", noise=1e-3)
    assert np.mean(thirds(mine)) >= np.mean(thirds(SVC_GRID))


@pytest.mark.slow
def test_digits_with_equal_grids():
    grid = {"net__depth": [1, 2, 3], "net__activation": ["relu", "erf", "gelu"]}
    mine = GridSearchCV(TPClassifier(kernel="ntk", noise=1e-3), grid, cv=3)
    assert np.mean(thirds(mine)) >= np.mean(thirds(SVC_GRID))


# --- habits


def test_grid_search_over_the_net():
    x, y = load_iris(return_X_y=True)
    pipe = make_pipeline(StandardScaler(), TPClassifier(kernel="ntk"))
    grid = {
        "tpclassifier__net__depth": [1, 2],
        "tpclassifier__net__activation": ["relu", "erf"],
        "tpclassifier__net__W_std": [1.0, 2.0],
        "tpclassifier__time": [None, 100.0],
    }
    search = GridSearchCV(pipe, grid, cv=3).fit(x, y)
    assert search.best_score_ > 0.94
    assert search.best_estimator_[-1].net.depth == search.best_params_["tpclassifier__net__depth"]
    assert len(set(search.cv_results_["mean_test_score"].round(12))) > 2
    nets = GridSearchCV(TPRegressor(NET), {"net__W_std": [0.5, 1.5], "net__layers[0].b_std": [0.1]}, cv=3)
    nets.fit(X, Y)
    found = nets.best_estimator_.net
    assert found.layers[0].W_std == found.layers[2].W_std == nets.best_params_["net__W_std"]
    assert found.layers[0].b_std == 0.1
    assert NET.layers[0].b_std == 0.3


def test_parameters_of_the_net():
    model = TPRegressor(NET)
    assert model.get_params()["net__layers[0].W_std"] == 1.4
    assert model.get_params()["net__b_std"] == 0.3
    assert "net__W_std" not in model.get_params()  # the layers differ
    assert model.set_params(net__W_std=2.0, noise=0.5).get_params()["net__W_std"] == 2.0
    assert TPRegressor().get_params()["net__depth"] == MLP().depth
    assert TPRegressor().set_params(net__depth=5).net.depth == 5
    assert TPClassifier(MLP()).set_params(net__activation="gelu").net.build().layers[1] == nn.Gelu()
    assert TPRegressor(NET.to_spec()).fit(X, Y).predict(X_NEW)[0] == pytest.approx(
        TPRegressor(NET).fit(X, Y).predict(X_NEW)[0]
    )
    with pytest.raises(ValueError, match="'W_sdt' is no deviation .* did you mean W_std"):
        model.set_params(net__W_sdt=1.0)
    spec = TPRegressor(NET.to_spec()).set_params(net__W_std=2.0)
    assert spec.net == TPRegressor(NET).set_params(net__W_std=2.0).net
    assert TPKernel(NET).set_params(net__W_std=2.0).net == spec.net
    assert TPKernel().set_params(net__depth=5).net.depth == 5
    for owner in (model, TPKernel(NET), TPRegressor(NET.to_spec())):
        with pytest.raises(ValueError, match=r"net__depth: depth is of an MLP, .* give net=MLP\(..\)"):
            owner.set_params(net__depth=3)
    with pytest.raises(ValueError, match="net is 'relu': it must be a net of tpnum.nn"):
        TPRegressor("relu").set_params(net__W_std=1.0)
    with pytest.raises(ValueError, match="Invalid parameter 'noose'"):
        model.set_params(noose=1.0)
    with pytest.raises(ValueError, match="W_std is -1.0; it must be a finite number >= 0"):
        model.set_params(net__W_std=-1.0)


@pytest.mark.parametrize("model", [TPRegressor(NET), TPClassifier(NET), TPClassifier(method="laplace")])
def test_copies(model):
    y = Y if isinstance(model, TPRegressor) else Y > 1
    fitted = clone(model).fit(X, y)
    assert not hasattr(model, "model_")
    for again in (pickle.loads(pickle.dumps(fitted)), clone(fitted).fit(X, y)):
        np.testing.assert_array_equal(again.predict(X_NEW), fitted.predict(X_NEW))
        assert repr(again) == repr(fitted)
    with pytest.raises(NotFittedError):
        clone(fitted).predict(X_NEW)
    scores = cross_val_score(model, X, y, cv=3, n_jobs=2)
    np.testing.assert_allclose(scores, cross_val_score(model, X, y, cv=3), rtol=1e-9)


def test_tables_and_their_columns():
    table = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    model = TPRegressor(NET).fit(table, pd.Series(Y))
    assert list(model.feature_names_in_) == ["a", "b", "c", "d"]
    np.testing.assert_allclose(
        model.predict(pd.DataFrame(X_NEW, columns=list("abcd"))),
        TPRegressor(NET).fit(X, Y).predict(X_NEW),
        rtol=1e-12,
    )
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(table.rename(columns={"a": "z"}))
    labels = pd.Series(np.where(Y > 1, "high", "low"))
    assert set(TPClassifier(NET).fit(table, labels).predict(table)) <= {"high", "low"}


def test_images_as_flat_rows():
    net = nn.serial(nn.Conv(4, (3, 3)), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))
    images = RNG.standard_normal((12, 5, 5, 2))
    model = TPRegressor(net, input_shape=(5, 5, 2), noise=0.1, normalize_y=False)
    model.fit(images.reshape(12, 50), np.arange(12.0))
    k = tp.kernel(net, images)
    np.testing.assert_allclose(
        model.predict(images.reshape(12, 50)),
        k @ np.linalg.solve(k + 0.1 * np.eye(12), np.arange(12.0)),
        rtol=1e-8,
    )
    with pytest.raises(ValueError, match=r"input_shape is \(5, 5, 3\): rows of 50 features cannot take it"):
        TPRegressor(net, input_shape=(5, 5, 3)).fit(images.reshape(12, 50), np.arange(12.0))


@pytest.mark.parametrize(
    "net",
    [
        nn.serial(nn.Conv(4, (3, 3)), nn.Relu(), nn.Flatten(), nn.Dense(1)),
        nn.serial(nn.SimpleRnn(4, return_sequences=False), nn.Dense(1)),
    ],
)
def test_flat_rows_of_a_net_that_takes_none(net):
    """It is told what the estimator lacks; a net that takes nothing is told what is wrong with it."""
    rows, labels = np.random.default_rng(1).standard_normal((6, 16)), np.arange(6) % 2
    told = r"input_shape is missing: rows of 16 features are flat, and .*; give the shape of an example"
    for model in (TPRegressor(net), TPClassifier(net), TPClassifier(net, method="laplace"), TPNystroem(net)):
        with pytest.raises(InputError, match=told):
            model.fit(rows, labels)
    with pytest.raises(InputError, match=told):
        TPKernel(net)(rows)
    with pytest.raises(SpecError, match="gets none; give inputs of shape"):
        TPRegressor(nn.serial(nn.Conv(4, (3, 3)), nn.Conv(4, (3,)))).fit(rows, labels)


# --- the kernel

SHALLOW = nn.serial(nn.Dense(8, W_std=1.4, b_std=0.3), nn.Erf(), nn.Dense(1, W_std=0.8))


@pytest.mark.parametrize("get", ["nngp", "ntk"])
@pytest.mark.parametrize("wrt", [None, ("layers[0].W_std", "b_std"), "b_std"])
def test_the_kernel_and_its_gradient(get, wrt):
    k = TPKernel(SHALLOW, get=get, wrt=wrt)
    value, gradient = k(X, eval_gradient=True)
    expected = tp.kernel(SHALLOW, X, get=get)
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-15 * expected.max())
    np.testing.assert_allclose(k.diag(X), value.diagonal(), rtol=1e-12)
    np.testing.assert_array_equal(k(X_NEW, X), tp.kernel(SHALLOW, X_NEW, X, get=get))
    assert k.n_dims == len(k.theta) == gradient.shape[2] == len(k.hyperparameters) == len(k.bounds)

    def at(theta):
        return k.clone_with_theta(theta)(X)

    for i in range(k.n_dims):
        h = 1e-3 * np.eye(k.n_dims)[i]
        d = (8 * (at(k.theta + h) - at(k.theta - h)) - (at(k.theta + 2 * h) - at(k.theta - 2 * h))) / 12e-3
        np.testing.assert_allclose(gradient[:, :, i], d, atol=1e-9)
    assert not k.is_stationary()
    assert clone(k) == k and pickle.loads(pickle.dumps(k)) == k


def test_the_kernel_fits_in_a_gaussian_process_of_scikit_learn():
    y = Y + 0.1 * RNG.standard_normal(30)
    mine = TPKernel(SHALLOW, wrt=("layers[0].W_std", "layers[2].W_std"))
    start = mine + WhiteKernel(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the best may lie at a bound
        gp = GaussianProcessRegressor(start).fit(X, y)
    before, after = gp.log_marginal_likelihood(start.theta), gp.log_marginal_likelihood_value_
    assert after > before
    value, slope = gp.log_marginal_likelihood(start.theta, eval_gradient=True)
    for i in range(3):
        h = 1e-4 * np.eye(3)[i]
        d = (gp.log_marginal_likelihood(start.theta + h) - gp.log_marginal_likelihood(start.theta - h)) / 2e-4
        assert slope[i] == pytest.approx(d, rel=1e-5, abs=1e-6)
    fixed = GaussianProcessRegressor(TPKernel(SHALLOW), alpha=0.05, optimizer=None).fit(X, y)
    mine = TPRegressor(SHALLOW, noise=0.05, normalize_y=False).fit(X, y)
    np.testing.assert_allclose(fixed.predict(X_NEW), mine.predict(X_NEW), rtol=1e-8)
    both = TPKernel(SHALLOW, deviation_bounds="fixed") * RBF(3.0)
    assert len(both.theta) == 1
    assert GaussianProcessRegressor(both, alpha=0.1).fit(X, y).score(X, y) > 0.5
    assert GaussianProcessClassifier(TPKernel(SHALLOW), optimizer=None).fit(X, y > 1).score(X, y > 1) > 0.7


def test_support_vectors_of_a_net():
    x, y = load_iris(return_X_y=True)
    kernel = TPKernel(MLP(2, "erf"), get="ntk")
    found = SVC(kernel=kernel, C=5.0).fit(x[::2], y[::2])
    known = SVC(kernel="precomputed", C=5.0).fit(kernel(x[::2]), y[::2])
    np.testing.assert_array_equal(found.predict(x), known.predict(kernel(x, x[::2])))
    grid = {"kernel__net__depth": [1, 2], "kernel__get": ["nngp", "ntk"], "C": [0.1, 10.0]}
    search = GridSearchCV(SVC(kernel=kernel), grid, cv=2).fit(x, y)
    assert search.best_score_ > 0.94
    assert len({round(score, 9) for score in search.cv_results_["mean_test_score"]}) > 1
    assert kernel.net.depth == 2


def test_what_the_kernel_refuses():
    with pytest.raises(ValueError, match="wrt: the deviations 'W_std' differ"):
        _ = TPKernel(SHALLOW, wrt="W_std").theta
    with pytest.raises(ValueError, match="a deviation of 0 has no logarithm"):
        _ = TPKernel(nn.Dense(1, b_std=0.0), wrt="b_std").theta
    with pytest.raises(ValueError, match="'bias' is no deviation"):
        _ = TPKernel(SHALLOW, wrt="bias").theta
    with pytest.raises(ValueError, match="Gradient can only be evaluated"):
        TPKernel(SHALLOW)(X, X, eval_gradient=True)


def test_what_was_fitted_is_what_predicts():
    labels = (Y > 1).astype(int)
    for model, ask in [
        (TPRegressor(NET, kernel="ntk", time=3.0).fit(X, Y), "predict"),
        (TPRegressor(NET).fit(X, Y), "predict"),
        (TPClassifier(NET, time=3.0).fit(X, labels), "decision_function"),
        (TPClassifier(NET, method="laplace").fit(X, labels), "predict_proba"),
        (TPNystroem(NET, n_components=4).fit(X), "transform"),
    ]:
        before = getattr(model, ask)(X_NEW)
        later = {"time": 50.0} if model.get_params().get("time") else {}
        model.set_params(**later, **{"net__layers[0].W_std": 3.0})
        np.testing.assert_array_equal(getattr(model, ask)(X_NEW), before)


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "one class": (lambda: TPClassifier().fit(X, np.ones(30)), "y has one class, .* at least 2 classes"),
    "nan": (lambda: TPRegressor().fit(np.where(X > 1, np.nan, X), Y), "Input X contains NaN"),
    "nan in y": (lambda: TPRegressor().fit(X, np.where(Y > 1, np.nan, Y)), "Input y contains NaN"),
    "continuous": (lambda: TPClassifier().fit(X, Y), "Unknown label type: continuous"),
    "features": (lambda: TPRegressor().fit(X, Y).predict(X[:, :3]), "X has 3 features, but .* expecting 4"),
    "huge targets": (
        lambda: TPRegressor().fit(X, 1e200 * Y),
        "y: its deviation overflows; give it in another",
    ),
    "noise": (lambda: TPRegressor(noise=-1.0).fit(X, Y), "noise is -1.0: it must be at least 0"),
    "kernel": (lambda: TPRegressor(kernel="rbf").fit(X, Y), "kernel must be one of nngp, ntk, precomputed"),
    "method": (
        lambda: TPClassifier(method="vote").fit(X, Y > 1),
        "method must be one of regression, laplace",
    ),
    "net": (lambda: TPRegressor("relu").fit(X, Y), "net is 'relu': it must be a net of tpnum.nn"),
    "activation": (lambda: TPRegressor(MLP(2, "rely")).fit(X, Y), "activation is 'rely'"),
    "activation with arguments": (
        lambda: TPRegressor(MLP(2, "leaky_relu")).fit(X, Y),
        "activation is 'leaky_relu', and LeakyRelu: the argument 'alpha' is missing; .* give a layer",
    ),
    "laplace of a matrix": (
        lambda: TPClassifier(kernel="precomputed", method="laplace").fit(np.eye(30), Y > 1),
        "method='laplace' needs the variance of new rows, which a precomputed kernel lacks",
    ),
    "depth": (lambda: TPRegressor(MLP(-1)).fit(X, Y), "depth is -1: it must be a whole number"),
    "time": (lambda: TPRegressor(time=-1.0).fit(X, Y), "time is -1.0: it must be at least 0"),
    "no samples": (lambda: TPRegressor().fit(X, Y).sample_y(X, 0), "n_samples is 0: it must be a whole"),
    "both": (lambda: TPRegressor().fit(X, Y).predict(X, True, True), "return_std and return_cov"),
    "time nan": (
        lambda: TPRegressor(kernel="ntk", time=float("nan")).fit(X, Y),
        "time is nan: it must be a finite",
    ),
    "noise of some": (
        lambda: TPRegressor(noise=np.ones(7)).fit(X, Y),
        "noise has 7 variances for 30 examples; give a number or one each",
    ),
    "noise fti": (lambda: TPRegressor(noise="fti").fit(X, Y), "noise is 'fti': give a variance"),
    "all zero": (
        lambda: TPRegressor(MLP(1, b_std=None), noise="fit").fit(np.zeros((5, 2)), np.arange(5.0)),
        'noise: the kernel of the examples is zero, .* instead of "fit"',
    ),
    "infinite": (lambda: TPRegressor().fit(np.where(X > 1, np.inf, X), Y), "Input X contains infinity"),
    "no such parameter": (lambda: TPRegressor().set_params(net__W_sdt=1.0), "Invalid parameter 'W_sdt'"),
    "jobs": (lambda: TPRegressor(n_jobs=0).fit(X, Y), "n_jobs: 0 is not a number of threads"),
    "time and laplace": (lambda: TPClassifier(method="laplace", time=1.0).fit(X, Y > 1), "time: it belongs"),
    "indefinite": (
        lambda: TPRegressor(kernel="precomputed").fit(-np.eye(3), np.arange(3.0)),
        "k is not positive semidefinite",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_refusals(case):
    call, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        call()


def test_equal_targets():
    model = TPRegressor(NET, noise="fit").fit(X, np.full(30, 7.0))
    np.testing.assert_allclose(model.predict(X_NEW), 7.0, atol=1e-9)


def test_without_scikit_learn_the_extra_is_named(python: Callable[..., subprocess.CompletedProcess[str]]):
    code = "import sys; sys.modules['sklearn'] = None\nimport tpnum.interop.sklearn"
    ran = python("-c", code)
    assert ran.returncode == 1
    assert (
        "ImportError: tpnum.interop.sklearn needs scikit-learn 1.6 or later: pip install 'tpnum[sklearn]'"
        in (ran.stderr)
    )
