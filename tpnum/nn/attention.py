"""Self-attention whose weights are numbers of each example in the limit: logits scaled by 1/n."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from tpnum.arguments import shown
from tpnum.nn.arguments import (
    Accepts,
    Deviation,
    Flag,
    Mechanism,
    OptionalDeviation,
    OptionalFlag,
    OptionalScaling,
    OptionalSize,
    PositionalEmbedding,
    Positive,
    Size,
)
from tpnum.nn.base import Block, Features, Layer
from tpnum.nn.weights import ONE, Weights

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter
    from tpnum.program import Scalar, Vector
    from tpnum.program.lines import Axes

DECAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp(-d)": lambda d: np.exp(-d),
    "exp(-sqrt(d))": lambda d: np.exp(-np.sqrt(d)),
    "1/(1+d)": lambda d: 1.0 / (1.0 + d),
}
"""Decays of positional embeddings that the JSON form can name."""


def _decay(value: Any) -> Any:
    if value is None or callable(value) and not isinstance(value, type):
        return value
    name = "".join(value.split()) if isinstance(value, str) else ""
    if name not in DECAYS:
        raise ValueError
    return name


Decay = Annotated[
    Any, Accepts(f"a function of squared distances, one of {', '.join(DECAYS)}, or None", _decay)
]


@dataclass(frozen=True, repr=False)
class GlobalSelfAttention(Layer):
    """W_out (A V h) + b over all positions: A is made of the products of keys and queries.

    ``scaling="1/n"`` (``linear_scaling=True``) divides those products by their width, so that in the limit
    they are numbers, the same for any number of heads: A = act(W_key_std W_query_std E h h') with one matrix
    for keys and queries; with independent ones (``tied=False``) the products vanish, and A is that of zeros.
    ``"1/sqrt(n)"`` (``linear_scaling=False``) divides by the root of the width, keys and queries independent,
    and means the limit of infinitely many heads: for "IDENTITY"; other mechanisms are refused.  It never
    means a fixed number of heads, whose limit is not Gaussian.

    ``attention_mechanism`` is "SOFTMAX" over the keys, "IDENTITY", "ABS" or "RELU".  ``causal`` lets a
    position see those up to its own.  Positional embeddings ("SUM" or "CONCAT", with ``n_chan_pos_emb``
    channels) of standard deviation ``W_pos_emb_std`` have the covariance ``pos_emb_decay_fn(d)`` at distance
    d = sum |p - p'|^``pos_emb_p_norm`` (None: independent ones), and enter keys and queries, the values too
    with ``val_pos_emb``.  The NTK is that of ntk parameterization; masked positions are not seen.
    """

    n_chan_out: Size
    n_chan_key: Size
    n_chan_val: Size
    n_heads: Size
    linear_scaling: Flag = True
    W_key_std: Deviation = 1.0
    W_value_std: Deviation = 1.0
    W_query_std: Deviation = 1.0
    W_out_std: Deviation = 1.0
    b_std: OptionalDeviation = None
    attention_mechanism: Mechanism = "SOFTMAX"
    pos_emb_type: PositionalEmbedding = "NONE"
    pos_emb_p_norm: Positive = 2.0
    pos_emb_decay_fn: Decay = None
    n_chan_pos_emb: OptionalSize = None
    W_pos_emb_std: Deviation = 1.0
    val_pos_emb: Flag = False
    scaling: OptionalScaling = None
    tied: OptionalFlag = None
    causal: Flag = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scaling == "1/n" and not self.linear_scaling:
            raise self.error('scaling is "1/n" and linear_scaling False, which is "1/sqrt(n)"; leave one out')
        if self.random and self.attention_mechanism != "IDENTITY":
            raise self.error(
                'with scaling "1/sqrt(n)" (linear_scaling=False) the products of keys and queries stay '
                "random in the limit, whose law this layer has for the IDENTITY of them, not for "
                f'{self.attention_mechanism}; take scaling="1/n"'
            )
        if self.random and self.tied:
            raise self.error(
                'tied is True, but with scaling "1/sqrt(n)" products of tied keys and queries grow without '
                "bound; leave tied out"
            )
        if self.pos_emb_type == "NONE" and self.val_pos_emb:
            raise self.error('val_pos_emb is True, but pos_emb_type is "NONE"; say "SUM" or "CONCAT"')

    @property
    def random(self) -> bool:
        """Whether the products of keys and queries are random in the limit."""
        return self.scaling == "1/sqrt(n)" or not self.linear_scaling

    def to_spec(self) -> dict[str, Any]:
        if callable(self.pos_emb_decay_fn):
            raise self.error(
                f"pos_emb_decay_fn {shown(self.pos_emb_decay_fn)} has no name in JSON; use one of "
                f"{', '.join(DECAYS)} or keep the net in Python"
            )
        return super().to_spec()

    def emit(self, to: Emitter, x: Features) -> Features:
        if not x.axes:
            raise to.error(
                "it attends over positions, and the features have none; put it before Flatten or pooling"
            )
        if self.causal and len(x.axes) > 1:
            raise to.error(f"causal needs positions in order, one axis, and the features have {len(x.axes)}")
        if self.random:
            return self._products(to, x)
        tables = self._embeddings(to, x)
        one = self.tied is not False
        std = math.sqrt(self.W_key_std * self.W_query_std) if one else self.W_key_std
        keys = self._projected(to, x, std, self.n_chan_key, tables)
        queries = keys if one else self._projected(to, x, self.W_query_std, self.n_chan_key, tables)
        embedded = tables if self.val_pos_emb else None
        values = self._projected(to, x, self.W_value_std, self.n_chan_val * self.n_heads, embedded)
        seen = {axis: f"{axis}_k" for axis, _ in x.axes}  # the positions that are looked at
        weights = self._weights(to, x, to.program.moment("mul", queries, keys.rename(**seen)), seen)
        heads = to.gathered(values, weights, seen)
        return self._out(to, x, heads)

    def _products(self, to: Emitter, x: Features) -> Features:
        """sum over r of q[p] k[r] v[r], coordinate by coordinate: as many heads, of one channel each.

        Of random products only the second moments matter here, which are the same for heads of any width.
        """
        tables, width = self._embeddings(to, x), self.n_chan_val * self.n_heads
        queries = self._projected(to, x, self.W_query_std, width, tables)
        keys = self._projected(to, x, self.W_key_std, width, tables)
        values = self._projected(to, x, self.W_value_std, width, tables if self.val_pos_emb else None)
        seen = {axis: f"{axis}_k" for axis, _ in x.axes}
        parts = to.product([queries, to.product([keys.rename(**seen), values.rename(**seen)])])
        if self.causal:
            parts = to.scale(parts, self._before(to, x, seen))
        return self._out(to, x, parts.sum(*seen.values()))

    def _out(self, to: Emitter, x: Features, heads: Vector) -> Features:
        """W_out times what the heads make, and the bias."""
        held = Features((Block(heads, self.n_chan_val * self.n_heads),), x.axes)
        out = Weights(self.W_out_std, self.b_std).affine(to, held, to.cdc(self.n_chan_out), mask=x.mask)
        return Features((Block(out, self.n_chan_out),), x.axes, x.mask)

    def _weights(self, to: Emitter, x: Features, logits: Scalar, seen: dict[str, str]) -> Scalar:
        """The weights of the positions seen, of those alone that a position may see."""
        allowed = None if x.mask is None else x.mask.rename(**seen)
        if self.causal:
            before = self._before(to, x, seen)
            allowed = before if allowed is None else before * allowed
        if self.attention_mechanism == "SOFTMAX":
            return logits.softmax(*seen.values(), weights=allowed)
        made = logits
        if self.attention_mechanism != "IDENTITY":
            made = to.program.apply(self.attention_mechanism.lower(), logits)
        return made if allowed is None else made * allowed

    @staticmethod
    def _before(to: Emitter, x: Features, seen: dict[str, str]) -> Scalar:
        """1 where the position seen is not behind the one that sees it."""
        ((axis, size),) = x.axes
        return to.table("causal", (*x.axes, (seen[axis], size)), np.tri(size))

    def _projected(
        self, to: Emitter, x: Features, std: float, width: int, tables: tuple[float, float, np.ndarray] | None
    ) -> Vector:
        """A matrix times the features and, with ``tables``, positional embeddings.

        One matrix times embeddings of its own is a Gaussian per position; as both are trained, its direction
        has twice its variance.
        """
        dim = to.cdc(width)
        if tables is None:
            return to.total(Weights(std, None).product(to, x, dim))
        share, own, root = tables
        var = std**2 * own
        places = (("place", len(root)),)
        drawn = to.matrix(dim, ONE, var, 2.0 * var, places, "P") @ to.ones(ONE, places)
        rows = [[(k, w) for k, w in enumerate(row) if w] for row in root.tolist()]
        (embedding,) = to.masked([drawn.map("place", x.axes, rows)], x.mask)
        return to.total([*Weights(std * math.sqrt(share), None).product(to, x, dim), embedding])

    def _embeddings(self, to: Emitter, x: Features) -> tuple[float, float, np.ndarray] | None:
        """The shares of the features and of the embeddings, and a root of the embeddings' covariance."""
        if self.pos_emb_type == "NONE":
            return None
        channels = self.n_chan_pos_emb or x.channels
        share, own = 1.0, self.W_pos_emb_std**2
        if self.pos_emb_type == "CONCAT":
            share = x.channels / (x.channels + channels)
            own *= 1.0 - share
        elif channels != x.channels:
            raise to.error(
                f"n_chan_pos_emb is {channels}, but embeddings are added to {x.channels} channels; leave it "
                'out, or concatenate them, pos_emb_type="CONCAT"'
            )
        return share, own, self._root(to, x.axes)

    def _root(self, to: Emitter, axes: Axes) -> np.ndarray:
        """A root of the covariance of positional embeddings, (positions, positions)."""
        places = np.stack(np.meshgrid(*(np.arange(n) for _, n in axes), indexing="ij"), -1).reshape(
            -1, len(axes)
        )
        if self.pos_emb_decay_fn is None:
            return np.eye(len(places))
        apart = (np.abs(places[:, None] - places[None]).astype(float) ** self.pos_emb_p_norm).sum(axis=-1)
        decay: Any = DECAYS.get(self.pos_emb_decay_fn, self.pos_emb_decay_fn)
        try:
            cov = np.broadcast_to(np.asarray(decay(apart), dtype=float), apart.shape)
        except Exception as problem:  # a user's function
            raise to.error(f"pos_emb_decay_fn fails on an array of distances: {problem}") from None
        values, vectors = np.linalg.eigh(cov) if np.isfinite(cov).all() else (np.array([-1.0]), cov)
        if values[0] < -1e-10 * abs(values[-1]):
            raise to.error(
                f"pos_emb_decay_fn makes no covariance of {len(places)} positions (least eigenvalue "
                f"{values[0]:.3g}); take a positive definite function such as exp(-d)"
            )
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
