"""The law of a net and its gradients in units of the law of the net: expectations factor, so it is little."""

from __future__ import annotations

import numpy as np

import tpnum as tp

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
