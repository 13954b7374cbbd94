"""Programs for the ensemble: each makes a program and the scalars in it whose limits are asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import tpnum as tp
from tpnum import functions, nn
from tpnum.program import Scalar, Vector

Made = tuple[tp.Program, list[Scalar]]


def tied(rounds: int) -> Made:
    """Build s <- tanh(W' tanh(W s)) + x/2, from s = x."""
    p = tp.Program()
    x, w = p.vector("x"), p.matrix("W", var=1.3)
    s, found = x, []
    for _ in range(rounds):
        s = tp.tanh(w.T @ tp.tanh(w @ s)) + 0.5 * x
        found.append(p.mean(s * s))
    return p, found


def backpropagation(phi: Callable[[Vector], Vector], depth: int) -> Made:
    """Build the gradients of mean(h^2) of a net whose layers share one matrix."""
    p = tp.Program()
    w = p.matrix("W", var=1.5)
    h = start = p.vector("x")
    for _ in range(depth):
        h = phi(w @ h + 0.5 * start)
    grads = p.backward({h: 2.0 * h})
    g = grads[start]
    return p, [p.mean(g * g), p.mean(g * start), p.mean(h * h)]


def recurrent(phi: Callable[[Vector], Vector], steps: int) -> Made:
    """Build a recurrent net, its input new at every step, and products of its states."""
    p = tp.Program()
    w = p.matrix("W", var=1.2)
    s, states = None, []
    for t in range(steps):
        x = p.vector(f"x{t}", var=0.5)
        s = phi(x if s is None else w @ s + x)
        states.append(s)
    back = w.T @ (states[-1] * states[-2])
    return p, [p.mean(back * states[0]), p.mean(back * back), p.mean(states[-1] * states[1])]


def message_passing(rounds: int) -> Made:
    """Build approximate message passing, m/n = 0.6, with soft thresholds."""
    delta = 0.6
    p = tp.Program()
    p.dim("m", delta)
    signal = tp.relu(2.0 * p.vector("u") - 1.0 * p.ones())
    a = p.matrix("A", rows="m", cols="n", var=1 / delta)
    y = a @ signal + p.vector("noise", var=0.01, dim="m")
    x, z, found = None, y, []
    for _ in range(rounds):
        r = a.T @ z if x is None else a.T @ z + x
        x = tp.relu(r - 0.5 * p.ones())
        found.append(p.mean((x - signal) * (x - signal)))
        z = y - a @ x + (1 / delta) * p.moment(functions.step, r - 0.5 * p.ones()) * z
    return p, found


def jacobian(powers: int) -> Made:
    """Build moments of J'J, J = D2 W2 D1 W1 of relu."""
    p = tp.Program()
    x, w1, w2 = p.vector("x"), p.matrix("W1", var=2.0), p.matrix("W2", var=2.0)
    g1 = w1 @ x
    g2 = w2 @ tp.relu(g1)
    d1, d2 = functions.step(g1), functions.step(g2)
    w = v = p.vector("v")
    found = []
    for _ in range(powers):
        w = w1.T @ (d1 * (w2.T @ (d2 * (w2 @ (d1 * (w1 @ w))))))
        found.append(p.mean(v * w))
    return p, found


def attention(tokens: int) -> Made:
    """Build one head of attention with logits scaled by 1/n, keys and queries tied, and a layer on top."""
    p = tp.Program()
    w, v = p.matrix("W", var=1.1), p.matrix("V")
    cov = (np.eye(tokens) + 0.5) / 1.5
    x = p.vectors(*(f"x{i}" for i in range(tokens)), cov=cov.tolist())
    keys = [tp.tanh(w @ u) for u in x]
    values = [v @ u for u in x]
    found = []
    for i in range(2):
        logits = [tp.exp(p.mean((w @ keys[i]) * k)) for k in keys]
        total = sum(logits[1:], logits[0])
        mixed = p.lincomb([(e / total, u) for e, u in zip(logits, values, strict=True)])
        out = v.T @ tp.relu(mixed + x[i])
        found += [p.mean(out * x[i]), p.mean(out * out)]
    return p, found


def residual(layers: int) -> Made:
    """Build x <- x + W' tanh(W x)/layers."""
    p = tp.Program()
    w = p.matrix("W")
    x = start = p.vector("x")
    for _ in range(layers):
        x = x + (1.0 / layers) * (w.T @ tp.tanh(w @ x))
    return p, [p.mean(x * x), p.mean(x * start)]


def separate(layers: int) -> Made:
    """Build x <- x + W' tanh(W x)/layers, W new in every layer."""
    p = tp.Program()
    x = p.vector("x")
    for k in range(layers):
        w = p.matrix(f"W{k}")
        x = x + (1.0 / layers) * (w.T @ tp.tanh(w @ x))
    return p, [p.mean(x * x)]


def catalan(powers: int) -> Made:
    """Build moments of a Wigner matrix."""
    p = tp.Program()
    v, a = p.vector("v"), p.matrix("A", var=0.5)
    w, found = v, []
    for k in range(powers):
        w = a @ w + a.T @ w
        if k % 2:
            found.append(p.mean(v * w))
    return p, found


def training(steps: int, batch: int) -> Made:
    """Build steps of gradient descent on a three-layer net in maximal-update parameterization."""
    net = nn.serial(nn.Dense(1), nn.Tanh(), nn.Dense(1, W_std=1.2), nn.Tanh(), nn.Dense(1))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, 3))
    made = nn.sgd(net, x, np.sin(x @ np.arange(1.0, 4.0) / 2.0), steps, 0.5)
    return made.program, [f for row in made.outputs[1:] for f in row]


PROGRAMS: dict[str, Callable[[], Made]] = {
    "tied, 1 round": lambda: tied(1),
    "tied, 2 rounds": lambda: tied(2),
    "tied, 3 rounds": lambda: tied(3),
    "backpropagation, tanh": lambda: backpropagation(tp.tanh, 4),
    "backpropagation, relu": lambda: backpropagation(tp.relu, 3),
    "recurrent, tanh": lambda: recurrent(tp.tanh, 5),
    "recurrent, relu": lambda: recurrent(tp.relu, 5),
    "message passing": lambda: message_passing(4),
    "moments of a Jacobian": lambda: jacobian(2),
    "attention": lambda: attention(3),
    "residual, 5 layers": lambda: residual(5),
    "Wigner, 8th moment": lambda: catalan(8),
    "residual, 12 layers": lambda: residual(12),
    "training, 5 steps of 2": lambda: training(5, 2),
    "residual, 24 layers": lambda: residual(24),
    "training, 8 steps of 4": lambda: training(8, 4),
}
