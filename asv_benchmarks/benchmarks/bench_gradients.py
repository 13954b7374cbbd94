"""Gradients in units of what they are of: laws, whose expectations factor, and kernels by all deviations."""

from __future__ import annotations

import numpy as np

import tpnum as tp
from tpnum import nn
from tpnum.nn.deviations import deviations

from .common import ratio


def law(depth: int, batch: int, backward: bool) -> list[float]:
    """Second moments of all layers of a tanh net, and of all gradients if ``backward``."""
    p = tp.Program()
    x = np.random.default_rng(0).standard_normal((batch, 5))
    layers = [list(p.vectors(*(f"u{i}" for i in range(batch)), cov=(1.5 * x @ x.T / 5).tolist()))]
    for k in range(1, depth):
        w = p.matrix(f"W{k}", var=1.5)
        layers.append([w @ tp.tanh(g) for g in layers[-1]])
    outputs = [tp.tanh(g) for g in layers[-1]]
    asked = [*layers, outputs]
    if backward:
        v = p.vector("v")
        gradients = [p.backward({h: v}) for h in outputs]
        asked += [[found[g] for found, g in zip(gradients, layer, strict=True)] for layer in layers]
    found = tp.limit(p)
    pairs = ((a, b) for layer in asked for k, a in enumerate(layer) for b in layer[: k + 1])
    return [float(found.moment(a, b).value) for a, b in pairs]


class Gradients:
    """Forward and backward over forward, ten layers."""

    params = ([1, 4], ["cpu", "wall"])
    param_names = ("batch", "clock")
    unit = "ratio"

    def track_ratio(self, batch: int, clock: str) -> float:
        return ratio(lambda: law(10, batch, True), lambda: law(10, batch, False)).by(clock)


def _convolutions(activation: nn.Layer) -> nn.Layer:
    conv = [nn.Conv(8, (3, 3), padding="SAME", W_std=std, b_std=0.2) for std in (1.4, 1.3)]
    return nn.serial(conv[0], activation, conv[1], activation, nn.GlobalAvgPool(), nn.Dense(1, b_std=0.1))


NETS = {
    "dense": (
        nn.serial(
            nn.Dense(8, b_std=0.3), nn.Relu(), nn.Dense(8, b_std=0.2), nn.Relu(), nn.Dense(1, b_std=0.1)
        ),
        (20,),
    ),
    "convolutions": (_convolutions(nn.Relu()), (8, 8, 3)),
    "series": (_convolutions(nn.Tanh()), (4, 4, 3)),
    "recurrence": (nn.serial(nn.SimpleRnn(8, b_std=0.2, return_sequences=False), nn.Dense(1)), (16, 5)),
    "attention": (nn.serial(nn.GlobalSelfAttention(8, 8, 8, 1), nn.GlobalAvgPool(), nn.Dense(1)), (16, 5)),
}


class Kernels:
    """The NTK of 100 examples: all its derivatives, and those of its sum with weights."""

    params = (list(NETS), ["whole", "deviations", "x1"], ["cpu", "wall"])
    param_names = ("net", "what", "clock")
    unit = "ratio"
    timeout = 300

    def track_ratio(self, net: str, what: str, clock: str) -> float:
        layers, shape = NETS[net]
        rng = np.random.default_rng(0)
        x, weights = rng.standard_normal((100, *shape)), rng.standard_normal((100, 100))
        wrt = "x1" if what == "x1" else tuple(deviations(layers))
        options = {} if what == "whole" else {"against": weights}
        return ratio(
            lambda: tp.kernel(layers, x, get="ntk", wrt=wrt, **options),
            lambda: tp.kernel(layers, x, get="ntk"),
        ).by(clock)
