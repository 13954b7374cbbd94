"""Random nets over images, and images that are hard on them.

A net has one to three spatial axes of sizes 1 to 7, convolutions of all kinds, pools, norms, dropout,
residual and concatenated branches, and ends in a dense head or keeps its positions.  ``pick(k)`` chooses a
number below k.
"""

from __future__ import annotations

from dataclasses import fields
from math import prod

import numpy as np

from tests.oracle.random_nets import CLOSED, SMOOTH
from tpnum import nn

WIDTH = 8
PAIRS = 1500
"""Pairs of positions that a net may have: the general path is to be affordable."""


class Writer:
    """A net, layer by layer, over images of ``shape``; ``plain`` keeps to what `tests.oracle.loops` knows."""

    def __init__(self, pick, shape, plain=False):
        self.pick, self.shape, self.plain = pick, tuple(shape), plain
        self.biases = pick(2) == 0
        self.kind = "standard" if pick(3) == 0 else "ntk"
        self.local = False  # positions that have weights of their own fix the shape of the input
        self.closed = set()

    def choose(self, items):
        return items[self.pick(len(items))]

    def weights(self):
        return (self.choose((1.0, 2**0.5, 1.3)), self.choose((0.1, 0.7)) if self.biases else None, self.kind)

    def windows(self, most=4):
        """(sizes, strides, padding) that leave a position of every axis."""
        padding = self.choose(("SAME", "SAME", "VALID", "CIRCULAR"))
        sizes, strides, out = [], [], []
        for n in self.shape:
            width = 1 + self.pick(min(most, n) if padding != "SAME" else most)
            step = self.choose((1, 1, 1, 2, 3))
            sizes.append(width)
            strides.append(step)
            out.append((n - width) // step + 1 if padding == "VALID" else -(-n // step))
        return tuple(sizes), tuple(strides), padding, tuple(out)

    def conv(self, keep=False):
        """A convolution; ``keep``: one that leaves the shape as it is."""
        if keep:
            sizes = tuple(1 + self.pick(3) for _ in self.shape)
            padding = self.choose(("SAME", "CIRCULAR")) if all(map(int.__le__, sizes, self.shape)) else "SAME"
            return nn.Conv(WIDTH, sizes, None, padding, *self.weights())
        kind = self.pick(12)
        if kind == 0 and not self.plain and prod(self.shape) <= 12:
            sizes = tuple(1 + self.pick(3) for _ in self.shape)
            strides = tuple(1 + self.pick(2) for _ in self.shape)
            layer = nn.ConvTranspose(WIDTH, sizes, strides, self.choose(("SAME", "VALID")), *self.weights())
            shape = tuple(
                n * s + (max(f - s, 0) if layer.padding == "VALID" else 0)
                for n, f, s in zip(self.shape, sizes, strides, strict=True)
            )
            if prod(shape) ** 2 <= PAIRS:
                self.shape = shape
                return layer
        sizes, strides, padding, out = self.windows()
        if kind == 1:
            self.local = True
            layer = nn.ConvLocal(WIDTH, sizes, strides, padding, *self.weights())
        else:
            layer = nn.Conv(WIDTH, sizes, strides, padding, *self.weights())
        self.shape = out
        return layer

    def activation(self):
        if self.plain:
            return self.choose(
                (nn.Relu, nn.Relu, nn.Erf, nn.Abs, lambda: nn.LeakyRelu(0.2), lambda: nn.ABRelu(-0.5, 1.0))
            )()
        kind = self.pick(6)
        if kind < 3:
            return nn.Relu()
        return self.choose(CLOSED if kind < 5 else SMOOTH)()

    def norm(self):
        axes = tuple(k for k in range(1, 1 + len(self.shape)) if self.pick(3) == 0)
        return nn.LayerNorm((-1, *axes))

    def pool(self):
        sizes, strides, padding, self.shape = self.windows(3)
        if self.pick(2):
            return nn.AvgPool(sizes, strides, padding, bool(self.pick(2)))
        return nn.SumPool(sizes, strides, padding)

    def unit(self, keep=False):
        layers = [self.conv(keep)]
        if self.pick(5) == 0 and not self.plain:
            layers.append(self.norm())
        if self.pick(6):
            layers.append(self.activation())
        if self.pick(8) == 0:
            layers.append(nn.Dropout(0.8))
        return layers

    def branched(self):
        join = nn.FanInSum if self.plain else self.choose((nn.FanInSum, nn.FanInSum, nn.FanInConcat))
        body = [*self.unit(True), self.conv(True)]
        other = nn.Identity() if self.pick(2) else self.conv(True)
        branches = [nn.serial(*body), other]
        return [nn.FanOut(2), nn.parallel(*branches), join()]

    def head(self):
        kind = self.pick(5)
        if kind == 0 and prod(self.shape) <= 9:  # positions remain
            return []
        if kind < 2:
            self.local = True
            layers = [nn.Flatten()]
        else:
            layers = [self.choose((nn.GlobalAvgPool, nn.GlobalAvgPool, nn.GlobalSumPool))()]
        if self.pick(3) == 0:
            layers += [nn.Dense(WIDTH, *self.weights()), self.activation()]
        return [*layers, nn.Dense(1, *self.weights())]

    def net(self):
        layers = self.unit()
        for _ in range(self.pick(3)):
            kind = self.pick(4)
            if kind == 0:
                layers.append(self.pool())
            if kind == 1:
                layers += self.branched()
                if isinstance(layers[-1], nn.FanInConcat):
                    layers += self.unit()
            else:
                layers += self.unit()
        if self.pick(4) == 0:
            layers.append(self.pool())
        return nn.serial(*layers, *self.head())


def spec(net):
    """A plain net as `tests.oracle.loops` reads it."""
    if isinstance(net, type(nn.serial(nn.Relu()))):
        layers = list(net.layers)
        made = []
        while layers:
            layer = layers.pop(0)
            if isinstance(layer, nn.FanOut):
                body, shortcut = layers.pop(0).layers
                assert isinstance(layers.pop(0), nn.FanInSum)
                made.append({"op": "residual", "body": spec(body), "shortcut": spec(shortcut)})
            else:
                made.append(spec(layer))
        return {"op": "serial", "layers": made}
    return {"op": type(net).__name__} | {f.name: getattr(net, f.name) for f in fields(net)}


def random_shape(pick):
    axes = (1, 1, 1, 2, 2, 3)[pick(6)]
    most = {1: 7, 2: 5, 3: 3}[axes]
    return tuple(1 + pick(most) for _ in range(axes))


def random_net(seed, plain=False):
    """(net, shape of its images with their channels, shape of the axes of others that it takes or None)."""
    rng = np.random.default_rng([seed, 21])
    pick = lambda k: int(rng.integers(k))  # noqa: E731
    shape = random_shape(pick)
    writer = Writer(pick, shape, plain)
    net = writer.net()
    other = None if writer.local else tuple(n + pick(3) for n in shape)
    return net, (*shape, 2 + pick(2)), other


def generic(seed, shape, n):
    return np.random.default_rng([seed, 22]).standard_normal((n, *shape))


def hostile(seed, shape):
    """Images of which some are equal, nearly equal, opposite, constant, zero, or of other sizes."""
    x = generic(seed, shape, 10)
    for k, distance in ((1, 1e-3), (2, 1e-6), (3, 1e-9)):
        x[k] = x[0] + distance * x[k]
    x[4] = x[0]
    x[5] = 0.0
    x[6] = 1.0
    x[7] = -x[0]
    x[8] *= 1e3
    x[9] *= 1e-3
    return x
