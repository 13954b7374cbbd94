"""Dense layers and Flatten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpnum.nn.arguments import Deviation, OptionalDeviation, Parameterization, Scales, Size
from tpnum.nn.base import Block, Features, Layer
from tpnum.nn.weights import Weights, channels_made

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter


@dataclass(frozen=True, repr=False)
class Dense(Layer):
    """W h + b on the channels, W_ij ~ N(0, W_std^2 / fan_in), b_i ~ N(0, b_std^2); no bias for None.

    K' = W_std^2 K + b_std^2 and, in ntk parameterization, Theta' = K' + W_std^2 Theta; of data K is x . x'
    over the channels.

    Spatial positions share the weights.  ``parameterization`` is "ntk", "standard" (where the NTK
    weighs the layer by the finite width that enters over ``s[0]``, and ``s[1]`` out_dim channels leave) or
    "raw" (see `tpnum.nn.weights`).
    """

    out_dim: Size
    W_std: Deviation = 1.0
    b_std: OptionalDeviation = None
    parameterization: Parameterization = "ntk"
    s: Scales = (1.0, 1.0)

    def emit(self, to: Emitter, x: Features) -> Features:
        weights = Weights(self.W_std, self.b_std, self.parameterization, self.s[0])
        made = channels_made(self.out_dim, self.parameterization, self.s)
        vector = weights.affine(to, x, to.cdc(made), mask=x.mask)
        return Features((Block(vector, made),), x.axes, x.mask)


@dataclass(frozen=True, repr=False)
class Flatten(Layer):
    """Spatial positions become channels: the next weights are independent per position.

    A net that ends flattened has K = the mean over positions of K[p, p].
    """

    def emit(self, to: Emitter, x: Features) -> Features:
        blocks = tuple(Block(block.vector, block.width, block.flat + x.axes) for block in x.blocks)
        return Features(blocks, ())
