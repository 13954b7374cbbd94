"""Random small branched nets: activations, skips, sums, products, concatenations, LayerNorm, Dropout.

``pick(k)`` chooses a number below k.  Every expectation that such a net's kernels demand is a product of
one- and two-dimensional ones: activations stand on Gaussians only, and the factors of a product are of
independent weights.
"""

from __future__ import annotations

from tpnum import nn

CLOSED = (
    nn.Erf,
    nn.Abs,
    lambda: nn.LeakyRelu(0.2),
    lambda: nn.ABRelu(-0.5, 1.0),
    lambda: nn.RectifiedMonomial(2),
    nn.Gelu,
    nn.Sin,
    nn.Cos,
    nn.Rbf,
    nn.Gaussian,
    lambda: nn.Exp(0.3, 0.5),
)
SMOOTH = (
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.Silu,
    nn.Elu,
    nn.Selu,
    nn.Mish,
    nn.HardTanh,
    nn.Swish,
    lambda: nn.Monomial(2),
    lambda: nn.Hermite(2),
    lambda: nn.Polynomial((0.1, 0.5, 0.2)),
)
WIDTH = 8


class Writer:
    """A net, layer by layer; ``biases`` says whether dense layers may have any."""

    def __init__(self, pick, biases):
        self.pick, self.biases = pick, biases

    def choose(self, items):
        return items[self.pick(len(items))]

    def dense(self, width=WIDTH):
        b_std = self.choose((None, 0.1, 0.7)) if self.biases else None
        kind = "standard" if self.pick(4) == 0 else "ntk"
        return nn.Dense(width, self.choose((1.0, 2**0.5, 1.3)), b_std, kind)

    def activation(self):
        return self.choose(((nn.Relu,), CLOSED, SMOOTH)[self.pick(3)])()

    def unit(self):
        """A dense layer, maybe a norm, maybe an activation: Gaussians or functions of fresh ones."""
        layers = [self.dense()]
        if self.pick(5) == 0:
            layers.append(nn.LayerNorm())
        if self.pick(3):
            layers.append(self.activation())
        if self.pick(8) == 0:
            layers.append(nn.Dropout(0.8))
        return layers

    def chain(self, most):
        return [layer for _ in range(1 + self.pick(most)) for layer in self.unit()]

    def branched(self):
        """Two or three branches joined; at most one is the identity."""
        count = 2 + (self.pick(4) == 0)
        branches = [nn.serial(*self.chain(2)) for _ in range(count)]
        if self.pick(3):
            branches[self.pick(count)] = nn.Identity()
        join = self.choose((nn.FanInSum, nn.FanInSum, nn.FanInProd, nn.FanInConcat))()
        return [nn.FanOut(count), nn.parallel(*branches), join]

    def net(self):
        layers = self.chain(2)
        for _ in range(1 + self.pick(2)):
            layers += self.branched()
            if self.pick(6) == 0:
                layers.append(nn.LayerNorm())
            if self.pick(2):
                layers += self.unit()
            elif isinstance(layers[-1], (nn.FanInConcat, nn.LayerNorm, nn.FanInProd)):
                layers.append(self.dense())
        if self.pick(3):
            layers.append(self.dense(1))
        return nn.serial(*layers)


def random_net(rng):
    """A net of numbers drawn from a generator; every other one is free of biases."""
    return Writer(lambda k: int(rng.integers(k)), biases=bool(rng.integers(2))).net()
