"""The ensemble's mean and variance against nets that are trained."""

from __future__ import annotations

import numpy as np
import pytest

from tests.oracle.trained import trained
from tpnum import nn, predict

W, B = 1.2, 0.3
RNG = np.random.default_rng(3)
X, X_NEW = RNG.standard_normal((5, 3)), RNG.standard_normal((3, 3))
Y = np.sin(2 * X[:, 0])


def ensemble(depth, momentum, share=0.5):
    layers = [layer for _ in range(depth) for layer in (nn.Dense(1, W_std=W, b_std=B), nn.Erf())]
    net = nn.serial(*layers, nn.Dense(1, W_std=W, b_std=B))
    lr = share * predict.largest_learning_rate(net, X, momentum=momentum)
    return predict.gradient_descent(net, X, Y, lr=lr, momentum=momentum), lr


def compared(depth, momentum, steps, width, seeds):
    """Mean and variance within 4 standard errors and what a finite width may shift, a few over it."""
    nets, lr = ensemble(depth, momentum)
    made = np.array(
        [trained(X, Y, X_NEW, width, depth, W, B, lr, momentum, steps, seed) for seed in range(seeds)]
    )
    parts = [nets.predict(t=steps), nets.predict(X_NEW, steps)]
    mean, variance = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    prior = np.concatenate([p.variance for p in (nets.predict(t=0), nets.predict(X_NEW, 0))])
    shift = 8.0 * prior / width
    error = np.sqrt(variance / seeds)
    assert (np.abs(made.mean(axis=0) - mean) < 4 * error + np.sqrt(prior) * 8.0 / width).all()
    spread = ((made - mean) ** 2).mean(axis=0)
    assert (np.abs(spread - variance) < 4 * variance * np.sqrt(2 / seeds) + shift).all()
    loss = nets.loss(steps)
    losses = 0.5 * ((made[:, :5] - Y) ** 2).sum(axis=1)
    allowed = 4 * losses.std() / np.sqrt(seeds) + 5 * shift.max()
    assert abs(losses.mean() - loss.expected) < allowed


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("steps", [0, 3, 40])
def test_one_hidden_layer(momentum, steps):
    compared(1, momentum, steps, 2048, 60)


def test_two_hidden_layers():
    compared(2, 0.0, 20, 256, 60)


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_wide_nets(momentum):
    compared(2, momentum, 40, 4096, 20)


@pytest.mark.slow
def test_many_seeds():
    compared(1, 0.0, 40, 4096, 4000)
