"""Recurrent layers: a scan over the only spatial axis, its weights shared by all steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpnum.arguments import shown
from tpnum.nn.activations import Activation, Tanh
from tpnum.nn.arguments import Deviation, Flag, OptionalDeviation, Parameterization, Scales, Size
from tpnum.nn.base import Block, Features, Layer
from tpnum.nn.weights import Weights

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter


@dataclass(frozen=True, repr=False)
class SimpleRnn(Layer):
    """s_t = f(W s_{t-1} + U x_t + b), s_0 = 0: every state, or the last (``return_sequences=False``).

    At masked steps the state stays what it was, so that the last one is that of the sequence without them.

    W_std is the deviation of the state's weights, U_std of the input's; the readout is a `Dense` after it.
    ``reverse=True`` runs from the last position to the first: the state at t has read x_t, x_{t+1}, ..., and
    the "last" state is the one at the first position.  A layer in both directions concatenates two::

        nn.serial(nn.FanOut(2), nn.parallel(nn.SimpleRnn(n), nn.SimpleRnn(n, reverse=True)), nn.FanInConcat())

    ``parameterization="raw"`` has the NTK of raw parameters W ~ N(0, W_std^2) over sqrt(fan_in).
    """

    out_dim: Size
    activation: Activation = Tanh()
    W_std: Deviation = 1.0
    U_std: Deviation = 1.0
    b_std: OptionalDeviation = None
    return_sequences: Flag = True
    parameterization: Parameterization = "ntk"
    s: Scales = (1.0, 1.0)
    reverse: Flag = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.activation, Activation):
            raise self.error(
                f"activation is {shown(self.activation)}; it must be a nonlinear layer, e.g. nn.Tanh()"
            )

    def emit(self, to: Emitter, x: Features) -> Features:
        if len(x.axes) != 1:
            raise to.error(
                f"it runs along one axis and gets {len(x.axes)} spatial axes; give inputs of shape "
                "(steps, channels)"
            )
        dim = to.cdc(self.out_dim)
        own = (self.parameterization, self.s[0])
        drive = Weights(self.U_std, self.b_std, *own).affine(to, x, dim)
        recur = Weights(self.W_std, None, *own)
        axis, _ = x.axes[0]
        mask = x.mask
        if self.reverse:
            drive = drive.take(**{axis: slice(None, None, -1)})
            mask = None if mask is None else mask.take(**{axis: slice(None, None, -1)})
        with to.program.scan(*x.axes[0]) as loop:
            state = loop.carry(dim)
            (fed,) = recur.product(to, Features((Block(state, self.out_dim),)), dim)
            sums = to.total([fed, loop.slice(drive)])
            after = (
                to.run(self.activation, Features((Block(sums, self.out_dim),)), "activation").blocks[0].vector
            )
            if mask is not None:
                here = loop.slice(mask)
                after = to.between(after, state, here)
            loop.next(state, after)
            result = loop.stack(after) if self.return_sequences else loop.last(state)
        if not self.return_sequences:
            return Features((Block(result, self.out_dim),))
        if self.reverse:
            result = result.take(**{axis: slice(None, None, -1)})
        (result,) = to.masked([result], x.mask)
        return Features((Block(result, self.out_dim),), x.axes, x.mask)
