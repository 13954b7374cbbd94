"""Random features: their inner products are the kernel in the mean, their error falls and is measured."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.errors import InputError, LimitError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 5))
IMAGES = RNG.standard_normal((5, 4, 4, 2))
SEQUENCES = RNG.standard_normal((4, 3, 5))
METHODS = ("directions", "series")


def dense(*layers: Any) -> nn.Layer:
    return nn.serial(nn.Dense(8, W_std=1.3, b_std=0.2), *layers, nn.Dense(1, b_std=0.1))


CONV = nn.serial(nn.Conv(8, (3, 3), padding="SAME", b_std=0.1), nn.Relu(), nn.Flatten(), nn.Dense(1))
POOLED = nn.serial(
    nn.Conv(8, (2, 2), b_std=0.1), nn.Relu(), nn.AvgPool((2, 2)), nn.Conv(8, (2, 2), padding="SAME"),
    nn.Erf(), nn.GlobalAvgPool(), nn.Dense(1),
)  # fmt: skip
DEEP = dense(nn.Relu(), nn.Dense(8, b_std=0.1), nn.Gelu(), nn.Dense(8), nn.Relu())
RESIDUAL = dense(
    nn.FanOut(2), nn.parallel(nn.serial(nn.Relu(), nn.Dense(8)), nn.Identity()), nn.FanInSum(), nn.Erf()
)


def products(f: np.ndarray) -> np.ndarray:
    """The matrix that features stand for, axes in the order of `tpnum.kernel`."""
    return np.moveaxis(np.tensordot(f, f, axes=(-1, -1)), f.ndim - 1, 1)


@pytest.mark.parametrize("get", ["nngp", "ntk"])
@pytest.mark.parametrize(
    ("net", "x", "method"),
    [(dense(nn.Gelu()), X, "directions"), (dense(nn.Erf()), X, "series"), (CONV, IMAGES, "directions")],
    ids=["directions", "series", "convolution"],
)
def test_the_mean_over_seeds_is_the_kernel(net: nn.Layer, x: np.ndarray, get: str, method: str) -> None:
    want = tp.kernel(net, x, get=get)
    made = np.array([products(tp.random_features(net, x, 48, get=get, method=method, seed=s)(x))
                     for s in range(40)])  # fmt: skip
    error = made.std(0, ddof=1) / np.sqrt(len(made))
    assert np.abs((made.mean(0) - want) / error).max() < 5.0
    assert np.linalg.norm(error) < 0.1 * np.linalg.norm(want)


@pytest.mark.parametrize(
    ("net", "x", "get", "method"),
    [
        (DEEP, X, "nngp", "directions"),
        (DEEP, X, "ntk", "directions"),
        (DEEP, X, "ntk", "series"),
        (RESIDUAL, X, "ntk", "series"),
        (POOLED, IMAGES, "nngp", "series"),
        (POOLED, IMAGES, "ntk", "directions"),
    ],
)
def test_the_error_falls_like_one_over_the_root(net: nn.Layer, x: np.ndarray, get: str, method: str) -> None:
    def error(count: int) -> float:
        made = (tp.random_features(net, x, count, get=get, method=method, seed=s).error for s in range(4))
        return float(np.sqrt(np.mean([e**2 for e in made])))

    small, large = error(32), error(512)
    assert 2.4 < small / large < 8.0  # 4, and a little more where short vectors are hashed more often
    assert large < 0.25


def test_axes_of_the_output_stay() -> None:
    net = nn.serial(nn.Conv(8, (3, 3), padding="SAME"), nn.Relu(), nn.Conv(1, (1, 1)))
    phi = tp.random_features(net, IMAGES, 4000)
    assert phi(IMAGES).shape == (5, 4, 4, 4000)
    want = tp.kernel(net, IMAGES)
    np.testing.assert_allclose(products(phi(IMAGES)), want, atol=0.1 * want.max())


def test_a_linear_net_is_its_own_feature_map() -> None:
    net = nn.serial(nn.Dense(8, W_std=1.3, b_std=0.2), nn.Dense(1, b_std=0.1))
    phi = tp.random_features(net, X, 64, get="ntk")
    assert phi.error < 1e-15
    assert phi(X).shape[1] <= 64


@pytest.mark.parametrize("method", METHODS)
def test_the_map_is_one_map(method: str) -> None:
    """Whatever it is asked for at a time, and in whatever process."""
    phi = tp.random_features(DEEP, X, 40, get="ntk", method=method, seed=3)
    want = phi(X)
    np.testing.assert_allclose(phi(X[2:4]), want[2:4], rtol=1e-10, atol=1e-13)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(phi))(X), want)
    np.testing.assert_array_equal(tp.random_features(DEEP, X, 40, get="ntk", method=method, seed=3)(X), want)
    other = tp.random_features(DEEP, X, 40, get="ntk", method=method, seed=4)
    assert not np.allclose(other(X), want)


def test_the_error_is_measured() -> None:
    phi = tp.random_features(DEEP, X, 200, get="ntk")
    want = tp.kernel(DEEP, X, get="ntk")
    assert phi.error == pytest.approx(np.linalg.norm(products(phi(X)) - want) / np.linalg.norm(want))


def test_programs_have_features_too() -> None:
    p = tp.Program()
    u = p.data("u")
    g = p.matrix("W") @ tp.erf(p.matrix("A", var=2.0, cols="d") @ u)
    p.output(g)
    phi = tp.random_features(p, X, 3000)
    np.testing.assert_allclose(products(phi(X)), tp.kernel(p, X), atol=0.1)


WITHOUT = {
    "attention": (
        nn.serial(nn.Dense(8), nn.GlobalSelfAttention(8, 8, 8, 1), nn.GlobalAvgPool(), nn.Dense(1)),
        SEQUENCES,
    ),
    "centred": (dense(nn.Relu(), nn.LayerNorm()), X),
    "sum": (dense(nn.FanOut(2), nn.parallel(nn.Identity(), nn.Relu()), nn.FanInSum()), X),
}


@pytest.mark.parametrize("case", WITHOUT)
def test_nets_without_features(case: str) -> None:
    net, x = WITHOUT[case]
    with pytest.raises(LimitError, match="no random features"):
        tp.random_features(net, x, 16)


def test_refusals() -> None:
    for options, message in (
        ({"n_components": 0}, "n_components"),
        ({"get": ("nngp", "ntk")}, "more than one kernel"),
        ({"method": "fourier"}, "method"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(InputError, match=message):
            tp.random_features(DEEP, X, **{"n_components": 16, **options})
    with pytest.raises(InputError, match="shape"):
        tp.random_features(DEEP, X, 16)(X[:, :3])
