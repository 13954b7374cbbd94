"""The transformers of `tpnum.interop.sklearn`: features for linear models."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import tpnum as tp
from tpnum import nn
from tpnum.errors import InputError
from tpnum.interop.sklearn import MLP, TPNystroem, TPRandomFeatures

NET = nn.serial(nn.Dense(8, W_std=1.4, b_std=0.3), nn.Erf(), nn.Dense(1))
X = np.random.default_rng(0).standard_normal((30, 4))


@parametrize_with_checks([TPRandomFeatures(n_components=20), TPNystroem(NET, kernel="ntk", n_components=5)])
def test_what_scikit_learn_asks_of_a_transformer(estimator, check):
    check(estimator)


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_they_are_the_features_of_the_library(kernel):
    model = TPRandomFeatures(NET, kernel=kernel, n_components=64, random_state=3).fit(X)
    seed = np.random.RandomState(3).randint(2**31 - 1)
    phi = tp.random_features(NET, X, 64, get=kernel, seed=seed)
    np.testing.assert_array_equal(model.transform(X), phi(X))
    assert model.error_ == phi.error
    model = TPNystroem(NET, kernel=kernel, n_components=12).fit(X)
    made = tp.factor(NET, X, 12, get=kernel)
    np.testing.assert_allclose(model.transform(X), made.columns, atol=1e-10)
    np.testing.assert_array_equal(model.component_indices_, made.pivots)
    assert model.error_ == pytest.approx(made.error / made.trace)
    k = tp.kernel(NET, X, get=kernel)
    f = model.transform(X)
    assert np.trace(k - f @ f.T) / np.trace(k) == pytest.approx(model.error_, rel=1e-6)


def test_new_rows_are_nystrom_s():
    basis = TPNystroem(NET, n_components=8).fit(X)
    new = X[:5] + 0.3
    k, inner = tp.kernel(NET, new, basis.components_), tp.kernel(NET, basis.components_)
    f = basis.transform(new)
    np.testing.assert_allclose(f @ f.T, k @ np.linalg.solve(inner, k.T), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_noise_of_an_example_s_own_is_no_feature(kernel):
    net = nn.serial(nn.Dense(8, W_std=1.4, b_std=0.3), nn.Erf(), nn.Dropout(0.7), nn.Dense(1))
    basis = TPNystroem(net, kernel=kernel, n_components=8).fit(X)
    rows = np.concatenate([X, X[:5] + 0.3])
    k = tp.kernel(net, rows, basis.components_, get=kernel)
    inner = tp.kernel(net, basis.components_, basis.components_.copy(), get=kernel)
    assert (tp.kernel(net, basis.components_, get=kernel, diag=True) > 1.1 * inner.diagonal()).all()
    f = basis.transform(rows)
    np.testing.assert_allclose(f @ f.T, k @ np.linalg.solve(inner, k.T), rtol=1e-9)
    # where all rows are components, everything that rows have in common is there
    f = TPNystroem(net, kernel=kernel, n_components=30).fit_transform(X)
    np.testing.assert_allclose(f @ f.T, tp.kernel(net, X, X.copy(), get=kernel), atol=1e-10)


def test_a_linear_model_behind_them_classifies_digits():
    x, y = load_digits(return_X_y=True)
    x = x / 16.0
    learn, hold = slice(0, 500), slice(1000, None)
    conv = nn.Conv(8, (3, 3), b_std=0.1)
    for features in (
        TPRandomFeatures(MLP(2), kernel="ntk", n_components=800, random_state=0),
        TPNystroem(MLP(2), kernel="ntk", n_components=200),
        TPRandomFeatures(
            nn.serial(conv, nn.Relu(), nn.AvgPool((3, 3)), nn.Flatten(), nn.Dense(1)),
            n_components=500, input_shape=(8, 8, 1), random_state=0,
        ),
    ):  # fmt: skip
        model = make_pipeline(clone(features), RidgeClassifier(1e-2)).fit(x[learn], y[learn])
        assert model.score(x[hold], y[hold]) > 0.9
        assert model[0].get_feature_names_out().shape == (model[0].transform(x[:2]).shape[1],)


def test_parameters_that_will_not_do():
    for model, message in (
        (TPRandomFeatures(kernel="precomputed"), "kernel"),
        (TPNystroem(n_components=0), "n_components"),
        (TPRandomFeatures(method="fourier"), "method"),
        (TPRandomFeatures(input_shape=(3, 3)), "input_shape"),
    ):
        with pytest.raises(InputError, match=message):
            model.fit(X)
