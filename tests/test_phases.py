"""Phase diagrams and one-dimensional expectations against closed forms and iteration point by point."""

from __future__ import annotations

import time

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.errors import InputError, LimitError
from tpnum.propagation.activation import Expectations
from tpnum.propagation.blocks import BlockMap, with_parameters
from tpnum.propagation.phases import _one

WEIGHTS, BIASES = np.array([0.6, 1.1, 1.9]), np.array([0.05, 0.4])


def odd(x):
    return np.tanh(x) + 0.3 * x / (1.0 + x * x)


OWN = nn.Elementwise(odd)


def by_iteration(block: nn.Layer, spatial: tuple[int, ...]) -> tuple[float, float]:
    """q* and chi_1 by nothing but applying the block."""
    found, q = BlockMap(block, spatial), 1.0
    for _ in range(400):
        before, q = q, float(found.forward(np.array([q]))[0])
        if abs(q - before) < 1e-12 * q:
            break
    return q, found.slopes(q).chi_1


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (nn.serial(nn.Tanh(), nn.Dense(8)), ()),
        (nn.serial(nn.Dense(8), OWN), ()),
        (nn.serial(nn.serial(nn.Dense(8, b_std=0.2), nn.serial(nn.Tanh())), nn.Identity()), ()),
        (nn.serial(nn.repeat(nn.serial(nn.Dense(8), nn.Tanh()), 2)), ()),
        (nn.serial(nn.Conv(8, (3,), padding="CIRCULAR"), nn.Tanh()), 5),
    ],
    ids=["phi-dense", "dense-own", "nested", "two", "convolution"],
)
def test_all_points_at_once_are_those_of_iteration(block, shape):
    found = tp.phases(block, WEIGHTS, BIASES, shape=shape)
    spatial = (shape,) if shape else ()
    for i, j in ((0, 0),) if OWN in block.layers else ((0, 0), (1, 1), (0, 2)):
        made = with_parameters(block, {"W_std": WEIGHTS[j], "b_std": BIASES[i]})
        q, chi = by_iteration(made, spatial)
        assert found.q[i, j] == pytest.approx(q, rel=1e-9)
        assert found.chi_1[i, j] == pytest.approx(chi, rel=1e-9)


def test_a_block_turned_has_the_images_of_the_fixed_points():
    f = Expectations(odd)
    one = tp.phases(nn.serial(OWN, nn.Dense(8)), WEIGHTS, BIASES)
    turned = tp.phases(nn.serial(nn.Dense(8), OWN), WEIGHTS, BIASES)
    assert turned.q == pytest.approx(f.second(one.q), rel=1e-10)
    assert turned.chi_1 == pytest.approx(one.chi_1, rel=1e-10)


def test_point_by_point_is_the_same():
    block = nn.serial(nn.Dense(8), nn.Tanh())
    found = tp.phases(block, WEIGHTS, BIASES)
    made = with_parameters(block, {"W_std": WEIGHTS[1], "b_std": BIASES[0]})
    assert _one(BlockMap(made)) == pytest.approx((found.q[0, 1], found.chi_1[0, 1]), rel=1e-9)


@pytest.mark.parametrize("layers", [(OWN, nn.Dense(8)), (nn.Dense(8), OWN)])
def test_large_diagrams_take_seconds(layers):
    start = time.process_time()
    found = tp.phases(nn.serial(*layers), np.linspace(0.5, 3.0, 200), np.linspace(0.0, 1.0, 200))
    assert time.process_time() - start < 10.0
    assert np.isfinite(found.q).all() and 0.5 < np.mean(found.chi_1 > 1.0) < 0.9


@pytest.mark.parametrize("turned", [False, True])
def test_where_variances_grow_for_ever_they_are_infinite(turned):
    """relu: q -> W^2 q / 2 + b^2, close to the critical W_std = sqrt 2 too."""
    weights = np.array([1.0, 1.41, 1.4143, 1.42, 3.0])
    layers = [nn.Relu(), nn.Dense(8)]
    found = tp.phases(nn.serial(*(layers[::-1] if turned else layers)), weights, np.array([0.0, 0.5]))
    assert np.all(found.q[:, 2:] == np.inf) and np.all(found.q[0, :2] == 0.0)
    image = 0.5 if turned else 1.0
    assert found.q[1, :2] == pytest.approx(image * 0.25 / (1.0 - weights[:2] ** 2 / 2), rel=1e-9)
    assert found.chi_1 == pytest.approx(np.tile(weights**2 / 2, (2, 1)), rel=1e-12)


def test_slow_and_unstable_points():
    """tanh at W_std = 1 falls like 1/2n, to 0; u^2 keeps q = 1 / (3 W^2) but drives away from it."""
    assert tp.phases(nn.serial(nn.Tanh(), nn.Dense(8)), [1.0], [0.0]).q[0, 0] == 0.0
    found = tp.phases(nn.serial(nn.Elementwise(np.square), nn.Dense(8)), [0.5, 0.6], [0.0])
    assert found.q[0].tolist() == [0.0, np.inf]
    grown = tp.phases(nn.serial(nn.Exp(), nn.Dense(8)), [0.2, 0.5], [0.0])
    assert grown.q[0, 1] == grown.chi_1[0, 1] == np.inf
    assert grown.q[0, 0] == pytest.approx(0.04 * np.exp(2.0 * grown.q[0, 0]), rel=1e-9)
    with pytest.raises(InputError, match="W_std"):
        tp.phases(nn.serial(nn.Tanh(), nn.Relu()), [1.0], [0.0])


# --- the expectations themselves


@pytest.mark.parametrize("q", [1e-6, 0.3, 4.0, 30.0, 100.0])
def test_functions_that_grow_fast(q):
    """E e^{2u} = e^{2q}, E (1 + u)^2 .. of a mass far out."""
    f = Expectations("exp")
    assert f.second(q) == pytest.approx(np.exp(2.0 * q), rel=1e-12)
    assert f.second_slope(q) == pytest.approx(2.0 * np.exp(2.0 * q), rel=1e-9)
    with pytest.raises(LimitError, match="overflows"):
        Expectations(lambda x: np.exp(0.25 * x * x)).second(1.5)  # E e^{u^2/2} is infinite from q = 1 on
    assert Expectations(lambda x: np.exp(0.05 * x * x)).second(1.0) == pytest.approx(0.8**-0.5, rel=1e-12)


def test_functions_that_turn_fast():
    f = Expectations(lambda x: np.cos(9.0 * x))
    q = np.array([0.01, 1.0, 50.0, 2e4])
    assert f.second(q) == pytest.approx(0.5 + 0.5 * np.exp(-162.0 * q), rel=1e-12)
    assert f.slope_second(q) == pytest.approx(40.5 * (1.0 - np.exp(-162.0 * q)), rel=1e-9)


def test_kinks_that_nobody_has_declared():
    """E max(|u| - a, 0)^2 = 2 ((q + a^2) P(u > a) - a sqrt q density(a / sqrt q))."""
    from scipy.stats import norm

    f = Expectations(lambda x: np.maximum(np.abs(x) - 0.7, 0.0))
    q = np.array([0.05, 1.0, 40.0])
    t = 0.7 / np.sqrt(q)
    assert f.second(q) == pytest.approx(
        2.0 * ((q + 0.49) * norm.sf(t) - 0.7 * np.sqrt(q) * norm.pdf(t)), rel=1e-9
    )
    assert f.slope_second(q) == pytest.approx(2.0 * norm.sf(t), rel=1e-9)


def test_tables_have_ten_digits():
    q = np.exp(np.random.default_rng(0).uniform(np.log(1e-8), np.log(5e5), 50))
    for phi in ("relu", "tanh", "gelu", "hard_tanh"):
        f = Expectations(phi)
        assert f.tabulated(q) == pytest.approx(f.second(q), rel=1e-10)
        assert f.tabulated_slope(q) == pytest.approx(f.slope_second(q), rel=1e-10)


# --- critical points of a block turned


def test_critical_points_of_a_block_turned():
    """The same deviations, at the image of the fixed point."""
    one, turned = nn.serial(nn.Tanh(), nn.Dense(8)), nn.serial(nn.Dense(8), nn.Tanh())
    f = Expectations("tanh")
    found = tp.critical(turned, q=0.3)
    (there,) = (tp.critical(one, q=s) for s in [_inverse(f, 0.3)])
    assert (found.W_std, found.b_std) == pytest.approx((there.W_std, there.b_std), rel=1e-10)
    assert (found.q, found.chi_1) == pytest.approx((0.3, 1.0), rel=1e-10)
    gelu = tp.critical(nn.serial(nn.Dense(8), nn.Gelu()), kind="half-stable")
    assert gelu.W_std**2 == pytest.approx(1.98305825744, abs=1e-10)
    assert gelu.q == pytest.approx(float(Expectations("gelu").second((3 + 17**0.5) / 2)), rel=1e-9)
    with pytest.raises(LimitError, match="tanh gives no variance 3"):
        tp.critical(turned, q=3.0)


def _inverse(f: Expectations, value: float) -> float:
    from scipy.optimize import brentq

    return float(brentq(lambda s: float(f.second(s)) - value, 1e-3, 10.0, xtol=1e-14))


@pytest.mark.parametrize("turned", [False, True])
def test_the_critical_exponential(turned):
    """V = X = e^{2q}, so q = 1 and W_std = 1/e without a bias."""
    layers = [nn.Exp(), nn.Dense(8)]
    found = tp.critical(nn.serial(*(layers[::-1] if turned else layers)), free="W_std")
    assert found.W_std == pytest.approx(np.exp(-1.0), rel=1e-11)
    assert found.q == pytest.approx(np.exp(2.0) if turned else 1.0, rel=1e-10)
