"""Max pooling: expectations of largest entries against long samples, kernels against finite nets."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.roads import finite_kernels
from tpnum import nn
from tpnum.errors import AccuracyWarning, SpecError
from tpnum.gauss import special
from tpnum.gauss.special.families import Family
from tpnum.gauss.special.functional import RELU, STEP, Functional
from tpnum.gauss.special.jointly import expectation
from tpnum.gauss.special.pairing import Cells

RTOL = 2e-3


def families(seed, count, d, e):
    """Covariances of windows u and v that share most of their variance, and between them."""
    rng = np.random.default_rng([seed, 3])
    z = rng.standard_normal((count, d + e, d + e)) + 2.0 * rng.standard_normal((count, 1, d + e))
    cov = z @ z.transpose(0, 2, 1) / (d + e)
    return cov, cov[:, :d, :d], cov[:, d:, d:], cov[:, :d, d:]


def by_points(what, f, cov, d, direction=None):
    """Plain averages over a million draws, and their standard errors."""
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(cov + 1e-14 * np.eye(len(cov)))
    u = (root @ rng.standard_normal((len(cov), 1 << 18)))[None]
    u, v = u[:, :d], u[:, d:]
    if what == "value":
        made = (f.value(u) * f.value(v))[0, 0]
    else:
        made = np.einsum("ik,ij,jk->k", f.weights(u)[0], direction, f.weights(v)[0])
    return made.mean(), made.std() / 512.0


@pytest.mark.parametrize("d", [2, 4])
@pytest.mark.parametrize(
    ("what", "functional"),
    [
        ("value", Functional("max")),
        ("value", Functional("max", outer=RELU)),
        ("value", Functional("max", inner=tp.functions.get("gelu"))),
        ("slope", Functional("max")),
        ("slope", Functional("max", outer=STEP)),
        ("slope", Functional("max", inner=tp.functions.get("tanh"))),
    ],
)
def test_pairs_of_windows(what, functional, d):
    cov, first, second, cross = families(d, 3, d, d)
    direction = cross if what == "slope" else None
    places = (np.arange(3), np.arange(3))
    made, error, _ = expectation(
        what,
        (functional,) * 2,
        Cells((Family(first), Family(second)), places, cross, np.zeros(3, bool), direction),
        1e-3,
        None,
    )
    for n in range(3):
        want, se = by_points(what, functional, cov[n], d, None if direction is None else direction[n])
        assert abs(made[n] - want) < 4.5 * np.hypot(se, error[n] / 2)
        assert error.max() < 1.5e-3 * np.abs(made).max()


def test_windows_of_two_are_exact():
    cov, first, second, cross = families(9, 5, 2, 2)
    places = (np.arange(5), np.arange(5))
    made, error, _ = expectation(
        "value",
        (Functional("max"),) * 2,
        Cells((Family(first), Family(second)), places, cross, np.zeros(5, bool)),
        3e-4,
        None,
    )
    want = special.max_second(0.0, cov, rtol=1e-9).value
    assert (np.abs(made - want) < 3 * error).all()


def test_a_window_with_itself():
    _, first, _, _ = families(4, 5, 4, 4)
    places = (np.arange(5), np.arange(5))
    for functional in (Functional("max"), Functional("max", outer=RELU)):
        made, *_ = expectation(
            "value",
            (functional,) * 2,
            Cells((Family(first),) * 2, places, first, np.ones(5, bool)),
            1e-3,
            None,
        )
        wide = np.zeros((5, 5, 5))
        wide[:, :4, :4] = first
        want = special.max_square(0.0, first if functional.outer is None else wide, rtol=1e-8).value
        np.testing.assert_allclose(made, want, rtol=1e-3)


def pooled(act=nn.Relu, window=(2, 2), end=nn.GlobalAvgPool, padding="VALID"):
    return nn.serial(
        nn.Conv(16, (2, 2)), act(), nn.MaxPool(window, window, padding),
        nn.Conv(16, (1, 1)), nn.Relu(), end(), nn.Dense(1),
    )  # fmt: skip


def images(seed, n=2, size=5, channels=3):
    return np.random.default_rng([seed, 8]).standard_normal((n, size, size, channels))


def quiet(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        return tp.kernel(*args, **options)


def z_scores(net, x, width, draws):
    made = quiet(net, x, get=("nngp", "ntk"), rtol=RTOL)
    return [
        np.max(np.abs(k - value) / np.hypot(se, RTOL * np.abs(k).max()))
        for k, (value, se) in zip(made, finite_kernels(net, x, width, draws), strict=True)
    ]


@pytest.mark.parametrize("act", [nn.Relu, nn.Silu])
def test_against_finite_nets(act):
    for z in z_scores(pooled(act), images(1), 100, 30):
        assert z < 4.5


def test_padding_takes_what_is_inside():
    for z in z_scores(pooled(window=(3, 2), padding="SAME", end=nn.Flatten), images(2), 100, 30):
        assert z < 4.5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_random_settings_against_finite_nets(seed):
    rng = np.random.default_rng([seed, 21])
    act = (nn.Relu, nn.Tanh, nn.Gelu, nn.Erf)[rng.integers(4)]
    window = tuple(rng.integers(1, 4, 2).tolist())
    padding = ("VALID", "SAME", "CIRCULAR")[rng.integers(3)]
    end = (nn.Flatten, nn.GlobalAvgPool, nn.GlobalMaxPool)[rng.integers(3)]
    for z in z_scores(pooled(act, window, end, padding), images(seed), 150, 60):
        assert z < 4.5


def test_relu_and_pooling_commute():
    x = images(3)
    after = nn.serial(nn.Conv(8, (2, 2)), nn.Relu(), nn.MaxPool((2, 2), (2, 2)), nn.Flatten(), nn.Dense(1))
    before = nn.serial(nn.Conv(8, (2, 2)), nn.MaxPool((2, 2), (2, 2)), nn.Relu(), nn.Flatten(), nn.Dense(1))
    for a, b in zip(*(quiet(net, x, get=("nngp", "ntk")) for net in (after, before)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_spec_and_refusals():
    net = pooled()
    assert nn.from_spec(net.to_spec()) == net
    with pytest.raises(SpecError, match="larger than the input"):
        tp.kernel(nn.serial(nn.Conv(8, (1,)), nn.MaxPool((9,)), nn.Flatten()), images(1)[:, 0])
    with pytest.raises(SpecError, match="raw data"):
        tp.kernel(nn.serial(nn.MaxPool((2, 2)), nn.Flatten(), nn.Dense(1)), images(1))
    x = images(1)
    x[0, 0, 0] = 7.0
    with pytest.raises(SpecError, match="mask_constant"):
        tp.kernel(nn.serial(nn.Conv(8, (1, 1)), nn.MaxPool((2, 2)), nn.Flatten()), x, mask_constant=7.0)
    with pytest.warns(AccuracyWarning, match="along axes"):
        tp.kernel(pooled(window=(3, 2)), images(1), rtol=1e-7, budget=1 << 12)
