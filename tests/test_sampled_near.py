"""What is sampled at equal and at nearly equal inputs, where slopes behind it see the root of every error."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.errors import AccuracyWarning
from tpnum.gauss.special.families import Family
from tpnum.gauss.special.functional import RELU, STEP, Functional
from tpnum.gauss.special.jointly import expectation
from tpnum.gauss.special.leads import exact_argmax, exact_square
from tpnum.gauss.special.pairing import Cells

BOTH = ("nngp", "ntk")
X = np.random.default_rng(4).standard_normal((2, 5, 3))


def conv(window=1):
    return nn.Conv(16, (window,), W_std=1.3, b_std=0.1)


def behind(act):
    return conv(), act, nn.Flatten(), nn.Dense(1)


def pool(window=2, step=2):
    return nn.MaxPool((window,), (step,))


ATTENTION = nn.GlobalSelfAttention(
    8, 6, 4, 2, scaling="1/sqrt(n)", W_key_std=1.4, W_query_std=1.1, W_value_std=1.2, b_std=0.2
)

NETS = {
    "relu": nn.serial(conv(2), nn.Relu(), pool(), *behind(nn.Relu())),
    "abs": nn.serial(conv(2), pool(), *behind(nn.Abs())),
    "leaky relu": nn.serial(conv(), pool(3, 1), *behind(nn.LeakyRelu(0.1))),
    "of a smooth function": nn.serial(conv(2), nn.Gelu(), pool(), *behind(nn.Relu())),
    "means of windows that overlap": nn.serial(
        conv(2), pool(2, 1), nn.AvgPool((2,), (1,)), *behind(nn.Relu())
    ),
    "of all positions": nn.serial(conv(), nn.GlobalMaxPool(), nn.Dense(8), nn.Relu(), nn.Dense(1)),
    "normalised": nn.serial(conv(), nn.BatchNorm(axis=1, eps=0.1), nn.Tanh(), *behind(nn.Relu())),
    "attention": nn.serial(nn.Dense(8), ATTENTION, *behind(nn.Relu())),
    "means of attention": nn.serial(
        ATTENTION, nn.GlobalAvgPool(), nn.Dense(8), nn.Relu(), nn.Dense(8), nn.Abs(), nn.Dense(1)
    ),
}


def quiet(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        return tp.kernel(*args, **options)


@pytest.mark.parametrize("case", NETS)
def test_equal_inputs_are_one(case):
    """An array against a copy of it has the diagonal of the array against itself."""
    net = NETS[case]
    one, two, own = (
        quiet(net, X, *more, get=BOTH, rtol=1e-2, **options)
        for more, options in (((), {}), ((X.copy(),), {}), ((), {"diag": True}))
    )
    for a, b, d in zip(one, two, own, strict=True):
        np.testing.assert_allclose(np.diag(b), np.diag(a), rtol=1e-12)
        np.testing.assert_allclose(d, np.diag(a), rtol=1e-12)


@pytest.mark.parametrize("case", ["relu", "means of windows that overlap", "attention", "means of attention"])
def test_near_duplicates_are_near(case):
    """Where the slope saw the root of a sampling error, a step of 1e-7 looked like one of 1e-3."""
    near = X + 1e-7 * np.random.default_rng(5).standard_normal(X.shape)
    one, two = (quiet(NETS[case], X, *more, get=BOTH, rtol=1e-2) for more in ((), (near,)))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(np.diag(b), np.diag(a), rtol=1e-4)


@pytest.mark.parametrize("case", ["means of windows that overlap", "means of attention"])
def test_a_pair_has_one_value(case):
    net = NETS[case]
    y = X[::-1] + 0.3
    several = (quiet(net, *both, get=BOTH, rtol=1e-2) for both in ((X, y), (y, X), (X[:1], y[1:])))
    for a, b, c in zip(*several, strict=True):
        np.testing.assert_allclose(a, b.T, rtol=1e-12)
        np.testing.assert_allclose(a[:1, 1:], c, rtol=1e-12)


def close_pair(seed, d, step):
    """The covariance of u and v = u + step w, w independent of u."""
    rng = np.random.default_rng([seed, 6])
    z, w = rng.standard_normal((2, d, 2 * d))
    own, apart = z @ z.T / (2 * d), step**2 * (w @ w.T) / (2 * d)
    return own, own + apart, apart


@pytest.mark.parametrize("step", [0.3, 1e-2, 1e-4])
@pytest.mark.parametrize("floor", [False, True])
def test_increments_of_near_windows(floor, step):
    """E (F u - F v)^2, and how often u and v have another largest entry, against samples of u and v - u."""
    own, other, apart = close_pair(1, 3, step)
    points = np.random.default_rng(7).standard_normal((6, 1 << 18))
    u = np.linalg.cholesky(own) @ points[:3]
    v = u + np.linalg.cholesky(apart) @ points[3:]
    value = Functional("max", outer=RELU if floor else None)
    slope = Functional("max", outer=STEP if floor else None)
    every = (value.value(u[None])[0, 0] - value.value(v[None])[0, 0]) ** 2
    moments = tuple(exact_square(np.zeros((1, 3)), c[None], 0.0 if floor else -np.inf) for c in (own, other))
    families, one = (Family(own[None]), Family(other[None])), np.zeros(1, dtype=np.int64)
    apart_from_both = np.zeros(1, dtype=bool)
    k, *_ = expectation(
        "value",
        (value, value),
        Cells(families, (one, one), own[None], apart_from_both, None, moments),
        1e-3,
        None,
    )
    increment = moments[0] + moments[1] - 2.0 * k
    assert abs(increment[0] - every.mean()) < 0.03 * every.mean()
    changed = (slope.weights(u[None])[0] - slope.weights(v[None])[0]) ** 2
    often = exact_argmax(np.zeros((1, 3)), own[None], 0.0 if floor else -np.inf).sum()
    often += exact_argmax(np.zeros((1, 3)), other[None], 0.0 if floor else -np.inf).sum()
    t, *_ = expectation(
        "slope",
        (slope, slope),
        Cells(families, (one, one), own[None], apart_from_both, np.eye(3)[None]),
        1e-3,
        None,
    )
    right = changed.sum(axis=0).mean()
    assert abs(often - 2.0 * t[0] - right) < 4.5 * np.sqrt(right / 2**13)


def test_squares_of_small_windows_are_exact():
    own = close_pair(2, 4, 1.0)[0][None]
    zero = np.zeros((1, 4))
    x = np.linalg.cholesky(own[0]) @ np.random.default_rng(8).standard_normal((4, 1 << 20))
    for floor in (0.0, -np.inf):
        top = np.maximum(x.max(axis=0), floor)
        assert abs(exact_square(zero, own, floor)[0] / np.mean(top**2) - 1.0) < 6e-3
        who = exact_argmax(zero, own, floor)[0]
        np.testing.assert_allclose(who, np.mean((x == top) & (x > floor), axis=1), atol=2.5e-3)
    assert exact_square(np.zeros((1, 9)), np.eye(9)[None], 0.0) is None
