"""Transformer blocks: attention and a perceptron, each with a residual and a layernorm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tpnum.nn.activations import Activation, Relu
from tpnum.nn.arguments import (
    Accepts,
    Deviation,
    Flag,
    Mechanism,
    NonNegative,
    NormPlace,
    OptionalDeviation,
    OptionalFlag,
    OptionalScaling,
    OptionalSize,
    Size,
)
from tpnum.nn.attention import GlobalSelfAttention
from tpnum.nn.base import Features, Layer
from tpnum.nn.combinators import Residual, Serial, serial
from tpnum.nn.dense import Dense
from tpnum.nn.normalization import LayerNorm

if TYPE_CHECKING:
    from typing import Any

    from tpnum.nn.emitter import Emitter


def _activation(value: Any) -> Activation:
    if not isinstance(value, Activation):
        raise TypeError
    return value


@dataclass(frozen=True, repr=False)
class TransformerBlock(Layer):
    """Attention, then a perceptron of one hidden layer, both with a residual and a `LayerNorm`.

    ``norm="pre"``: x + f(LayerNorm(x)), f the attention and the perceptron; ``"post"``: LayerNorm(x + f(x)).
    Features come and go with ``n_chan`` channels, which the ``n_heads`` heads divide; ``n_chan_mlp`` are
    those of the hidden layer (4 ``n_chan`` by default).  ``scaling``, ``attention_mechanism``, ``tied``,
    ``heads``, ``causal`` and the deviations of queries, keys, values and output are those of
    `GlobalSelfAttention`, ``W_std`` that of both Dense layers, and ``b_std`` of all three biases.  `layers`
    is what it stands for.
    """

    n_chan: Size
    n_heads: Size
    n_chan_mlp: OptionalSize = None
    activation: Annotated[Layer, Accepts("an activation, e.g. nn.Relu()", _activation)] = Relu()
    norm: NormPlace = "pre"
    scaling: OptionalScaling = None
    attention_mechanism: Mechanism = "SOFTMAX"
    causal: Flag = False
    tied: OptionalFlag = None
    heads: OptionalSize = None
    W_query_std: Deviation = 1.0
    W_key_std: Deviation = 1.0
    W_value_std: Deviation = 1.0
    W_out_std: Deviation = 1.0
    W_std: Deviation = 1.0
    b_std: OptionalDeviation = None
    eps: NonNegative = 1e-12

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_chan % self.n_heads:
            raise self.error(f"n_heads is {self.n_heads}, which does not divide n_chan = {self.n_chan}")
        self._attention()  # which refuses what goes together badly

    def _attention(self) -> GlobalSelfAttention:
        each = self.n_chan // self.n_heads
        return GlobalSelfAttention(
            self.n_chan,
            each,
            each,
            self.n_heads,
            scaling=self.scaling,
            linear_scaling=self.scaling != "1/sqrt(n)",
            W_key_std=self.W_key_std,
            W_value_std=self.W_value_std,
            W_query_std=self.W_query_std,
            W_out_std=self.W_out_std,
            b_std=self.b_std,
            attention_mechanism=self.attention_mechanism,
            tied=self.tied,
            heads=self.heads,
            causal=self.causal,
        )

    def layers(self) -> Serial:
        """The block as a series of two residuals and two layernorms."""
        mlp = serial(
            Dense(self.n_chan_mlp or 4 * self.n_chan, self.W_std, self.b_std),
            self.activation,
            Dense(self.n_chan, self.W_std, self.b_std),
        )
        parts: tuple[Layer, ...] = self._attention(), mlp
        normed = LayerNorm(eps=self.eps)
        if self.norm == "pre":
            return serial(*(Residual(serial(normed, part)) for part in parts))
        return serial(*(layer for part in parts for layer in (Residual(part), normed)))

    def emit(self, to: Emitter, x: Features) -> Features:
        if x.has_data or x.channels != self.n_chan:
            raise to.error(
                f"it takes features of n_chan = {self.n_chan} channels, and gets "
                f"{'raw data of ' if x.has_data else ''}{x.channels}; put Dense({self.n_chan}) before it"
            )
        made = to.run(self.layers(), x, "block")
        assert isinstance(made, Features)
        return made
