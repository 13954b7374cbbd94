"""Unusual combinations of layers: each net against a plain one of the same kernel, or in closed form."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.every_net import fan
from tpnum import nn

KINDS = ("nngp", "ntk")
X = np.random.default_rng(0).standard_normal((4, 3, 2))
RELU = nn.Relu()


def same(net, plain, x, scale=1.0, rtol=1e-12, **options):
    """Both kernels of a net are ``scale`` times those of the plain one, and their diagonals too."""
    made, want = tp.kernel(net, x, get=KINDS, **options), tp.kernel(plain, x, get=KINDS)
    diagonal = tp.kernel(net, x, get=KINDS, diag=True, **options)
    for k, truth, d in zip(made, want, diagonal, strict=True):
        top = scale * np.abs(truth).max()
        assert k.shape == truth.shape
        np.testing.assert_allclose(k, scale * truth, rtol=0, atol=rtol * top)
        own = np.moveaxis(np.diagonal(truth), -1, 0)
        for _ in d.shape[1:]:
            own = np.moveaxis(np.diagonal(own, axis1=1, axis2=1 + own.ndim // 2), -1, own.ndim // 2)
        np.testing.assert_allclose(d, scale * own, rtol=0, atol=rtol * top)


def test_a_branch_that_is_concatenated_twice_counts_twice():
    body = nn.serial(nn.Dense(4), RELU)
    other = nn.serial(nn.Dense(4), nn.Erf())
    net = nn.serial(body, *fan(nn.FanInConcat(), nn.Identity(), nn.Identity(), other))
    x = X[:, 0]
    parts = [tp.kernel(one, x, get=KINDS) for one in (body, nn.serial(body, other))]
    diagonal = tp.kernel(net, x, get=KINDS, diag=True)
    for made, once, last, own in zip(tp.kernel(net, x, get=KINDS), *parts, diagonal, strict=True):
        np.testing.assert_allclose(made, (2 * once + last) / 3, rtol=1e-13)
        np.testing.assert_allclose(own, np.diag(made), rtol=1e-13)


def test_weights_of_an_output_add_up():
    p = tp.Program()
    h = tp.relu(p.matrix("W", cols="d") @ p.data("u"))
    p.output(h, 0.25)
    p.output(h, 0.5)
    assert p.outputs == ((0.75, h.name),)
    assert tp.Program.from_json(p.to_json()).outputs == p.outputs


@pytest.mark.parametrize("last", [(), (nn.Dense(4, b_std=0.3),), (nn.Conv(4, (2,)), RELU)])
def test_recurrent_nets_in_batches(last):
    """Batches change nothing where nothing normalises, the order of the axes of the output neither."""
    net = nn.serial(nn.SimpleRnn(8, nn.Erf(), b_std=0.3), *last)
    same(net, net, X, batch_size=2)


@pytest.mark.parametrize("f", [RELU, nn.RectifiedMonomial(3), nn.Tanh()])
@pytest.mark.parametrize("b_std", [None, 0.3])
def test_the_sum_of_two_tied_branches_is_twice_one(f, b_std):
    tied = nn.Tied(nn.serial(nn.Dense(8, 0.7, b_std), f), "tied")
    net = nn.serial(nn.Dense(8, 1.3), *fan(nn.FanInSum(), tied, tied))
    same(net, nn.serial(nn.Dense(8, 1.3), nn.Dense(8, 0.7, b_std), f), X, scale=4.0)


def test_a_scaled_width_enters_the_next_layer():
    """Standard parameterization: the fan_in behind s = (., 3) is three times as wide, s[0] takes it back."""
    x = X[:, 0]

    def net(first, last):
        std = {"parameterization": "standard"}
        return nn.serial(nn.Dense(8, s=(1, first), **std), nn.Dense(1, s=(last, 1), **std))

    k = x @ x.T / 2
    for first, last in ((1, 1), (3, 3), (3, 1), (1, 2), (1.5, 2)):
        made = tp.kernel(net(first, last), x, get="ntk")
        np.testing.assert_allclose(made, 8 * first / last * k + 2 * k, rtol=1e-13)


def test_an_embedding_is_not_of_flattened_positions():
    with pytest.raises(tp.errors.SpecError, match="flattened positions"):
        tp.kernel(nn.serial(nn.Flatten(), nn.Embedding(4, 4)), np.eye(4)[:, None])


def test_the_plan_of_a_masked_net_leaves_positions_to_average():
    net = nn.serial(nn.Conv(8, (3,)), nn.GlobalAvgPool(), nn.Dense(1))
    assert tp.plan(net, (4, 2), mask_constant=0.0).road == "cells"


@pytest.mark.parametrize("f", [nn.Hermite(0), nn.Hermite(3), nn.ExpNormalized()])
def test_functions_of_normalised_features_are_masked(f):
    """A masked position has no variance to divide by: three positions of four are an input of three."""
    net = nn.serial(nn.Dense(8, b_std=0.1), f, nn.GlobalAvgPool(), nn.Dense(1))
    padded = np.concatenate([X, np.full((4, 1, 2), 9.0)], axis=1)
    for get in KINDS:
        made = tp.kernel(net, padded, get=get, mask_constant=9.0)
        np.testing.assert_allclose(made, tp.kernel(net, X, get=get), rtol=1e-12)


def test_a_series_of_no_layers_is_read_back():
    for net in (nn.serial(), nn.Residual(nn.serial())):
        assert nn.from_spec(net.to_spec()) == net


def test_rough_heads_over_near_duplicates():
    """No tangent kernel at all, where pairs are so close that the series below do not converge."""
    head = fan(nn.FanInConcat(), *(nn.serial(nn.Dense(8), f) for f in (nn.Step(), nn.Sign())))
    body = nn.serial(nn.Dense(8, 5.0), nn.Tanh())
    x = X[:, 0].copy()
    x[1] = x[0] + 1e-5 * x[1]
    made = tp.kernel(nn.serial(body, *head), x, get=KINDS)
    below = tp.kernel(body, x)
    angle = np.arccos(np.clip(below / np.sqrt(np.outer(*[np.diag(below)] * 2)), -1.0, 1.0)) / np.pi
    np.testing.assert_allclose(made.nngp, 0.75 - 1.25 * angle, rtol=0, atol=1e-7)
    assert not made.ntk.any()


def test_a_bias_behind_batch_normalisation():
    """The normalised features have no mean: a bias N(0, 0.09) per channel adds 0.09."""
    x = np.random.default_rng(1).standard_normal((8, 3))
    for tail, scale in (((), 1.0), ((nn.Dense(1, 1.5),), 1.5**2)):
        with_bias, without = (
            tp.kernel(nn.serial(nn.Dense(8), nn.BatchNorm(bias_std=b, eps=0.1), *tail), x, batch_size=4)
            for b in (0.3, None)
        )
        np.testing.assert_allclose(with_bias, without + scale * 0.09, rtol=0, atol=1e-9)


@pytest.mark.filterwarnings("ignore::tpnum.errors.AccuracyWarning")
def test_a_bias_behind_batch_normalisation_of_a_relu():
    """Features that are no Gaussians have means when normalised: sampled, within its error."""
    x = np.random.default_rng(1).standard_normal((4, 3))
    (made, error), (plain, other) = (
        tp.kernel(
            nn.serial(nn.Dense(8), RELU, nn.BatchNorm(bias_std=b, eps=0.1)), x, batch_size=4, error=True
        )
        for b in (0.3, None)
    )
    assert 0.0 < error.max() < 1e-3
    np.testing.assert_allclose(made, plain + 0.09, rtol=0, atol=6 * np.hypot(error.max(), other.max()))
