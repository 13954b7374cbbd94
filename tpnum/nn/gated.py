"""Layers that multiply channels by gates: of what is independent, moments of products factor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tpnum.nn.activations import Relu
from tpnum.nn.arguments import Deviation, OptionalDeviation, Parameterization, Scales, Size
from tpnum.nn.base import Block, Features, Layer
from tpnum.nn.elementwise import Nonlinearity
from tpnum.nn.pooling import GlobalAvgPool
from tpnum.nn.weights import Weights

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter


@dataclass(frozen=True, repr=False)
class Glu(Layer):
    """gate(W h + b) * (V h + c), a gated linear unit: W, V of W_std and V_std, b and c of b_std.

    ``gate`` is a nonlinear layer or the name of a function, "sigmoid" by default (`SwiGlu` has "silu").  The
    two products are independent Gaussians, so E[y y'] = E[gate(u) gate(u')] E[v v'].
    """

    out_dim: Size
    gate: Nonlinearity = "sigmoid"
    W_std: Deviation = 1.0
    V_std: Deviation = 1.0
    b_std: OptionalDeviation = None
    parameterization: Parameterization = "ntk"
    s: Scales = (1.0, 1.0)

    def emit(self, to: Emitter, x: Features) -> Features:
        dim, own = to.cdc(self.out_dim), (self.parameterization, self.s[0])
        gate, value = (
            Weights(std, self.b_std, *own).affine(to, x, dim, mask=x.mask) for std in (self.W_std, self.V_std)
        )
        opened: Any = to.run(self.gate, Features((Block(gate, self.out_dim),), x.axes, x.mask), "gate")
        product = to.product([opened.blocks[0].vector, value])
        return Features((Block(product, self.out_dim),), x.axes, x.mask)


@dataclass(frozen=True, repr=False)
class SwiGlu(Glu):
    """silu(W h + b) * (V h + c): `Glu` with the gate "silu"."""

    gate: Nonlinearity = "silu"


@dataclass(frozen=True, repr=False)
class SqueezeExcite(Layer):
    """h[p] * gate(V act(W m + b) + c), m the mean of h over all positions: channels weighted by the image.

    W makes ``reduce_dim`` channels, V as many as enter; both have deviation W_std over the root of what
    enters, b and c the deviation b_std.
    """

    reduce_dim: Size
    activation: Nonlinearity = Relu()
    gate: Nonlinearity = "sigmoid"
    W_std: Deviation = 1.0
    b_std: OptionalDeviation = None
    parameterization: Parameterization = "ntk"
    s: Scales = (1.0, 1.0)

    def emit(self, to: Emitter, x: Features) -> Features:
        if x.has_data:
            raise to.error("it multiplies channels of raw data; put a Dense or Conv before it")
        weights = Weights(self.W_std, self.b_std, self.parameterization, self.s[0])
        mean = to.run(GlobalAvgPool(), x, "squeeze")
        hidden = Block(weights.affine(to, mean, to.cdc(self.reduce_dim)), self.reduce_dim)
        excited: Any = to.run(self.activation, Features((hidden,)), "activation")
        made = []
        for block in x.blocks:
            back = Block(weights.affine(to, excited, block.vector.dim), block.width)
            opened: Any = to.run(self.gate, Features((back,)), "gate")
            made.append(to.product([block.vector, opened.blocks[0].vector]))
        return x.replace(made)
