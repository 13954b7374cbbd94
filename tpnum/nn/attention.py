"""Attention: sums over positions whose weights are made of products of queries and keys."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tpnum.arguments import shown
from tpnum.errors import LimitError
from tpnum.functions import get
from tpnum.nn.arguments import (
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
from tpnum.nn.base import Block, Features, Layer, Tree
from tpnum.nn.emitter import Heads
from tpnum.nn.positions import DECAYS, Decay, Embeddings, embeddings
from tpnum.nn.weights import ONE, Weights
from tpnum.program.arrays import softmax

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter
    from tpnum.program import Scalar, Vector


@dataclass(frozen=True, repr=False)
class GlobalSelfAttention(Layer):
    """W_out (A V h) + b over all positions: A is made of the products of keys and queries.

    ``scaling="1/n"`` (``linear_scaling=True``) divides those products by their width, so that in the limit
    they are numbers, the same for any number of heads: A = act(W_key_std W_query_std E h h') with one matrix
    for keys and queries; with independent ones (``tied=False``) the products vanish, and A is that of zeros.
    ``"1/sqrt(n)"`` (``linear_scaling=False``) divides by the root of the width, keys and queries independent,
    and means the limit of infinitely many heads, in which the products are Gaussian and the output is an
    average over them: of closed form for "IDENTITY", "ABS" and "RELU", sampled for "SOFTMAX" (a warning says
    how well).  With a fixed number of them, ``heads``, the limit is no Gaussian but a mixture: Gaussian given
    the products, of which `tpnum.conditional` draws samples; kernels of it are refused.

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
    heads: OptionalSize = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scaling == "1/n" and not self.linear_scaling:
            raise self.error('scaling is "1/n" and linear_scaling False, which is "1/sqrt(n)"; leave one out')
        if self.random and self.tied:
            raise self.error(
                'tied is True, but with scaling "1/sqrt(n)" products of tied keys and queries grow without '
                "bound; leave tied out"
            )
        if self.heads is not None and not self.random:
            raise self.error(
                f'heads is {self.heads}, but with scaling "1/n" any number of heads has the same limit; '
                'leave heads out, or take scaling="1/sqrt(n)"'
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

    def emit(self, to: Emitter, x: Any) -> Features:
        return self._attend(to, x, x)

    def _attend(self, to: Emitter, x: Features, seen: Features) -> Features:
        """What the positions of ``x`` make of those ``seen``."""
        if not x.axes or not seen.axes:
            raise to.error(
                "it attends over positions, and the features have none; put it before Flatten or pooling"
            )
        rank = max(len(x.axes), len(seen.axes))
        if self.causal and rank > 1:
            raise to.error(f"causal needs positions in order, one axis, and the features have {rank}")
        tables = embeddings(self, to, x, seen)
        named = {axis: f"{axis}_k" for axis, _ in seen.axes}  # the positions that are looked at
        if self.heads is not None:
            return self._few_heads(to, x, seen, tables, named)
        if self.random:
            return self._out(to, x, self._many_heads(to, x, seen, tables, named))
        one = self.tied is not False
        std = (self.W_key_std * self.W_query_std) ** 0.5 if one else self.W_key_std
        project = self._projection(to, seen, std, self.n_chan_key, tables)
        keys = project(seen)
        if not one:
            project = self._projection(to, x, self.W_query_std, self.n_chan_key, tables)
        queries = keys if one and x is seen else project(x)
        values = self._values(to, seen, self.n_chan_val * self.n_heads, tables)
        logits = to.program.moment("mul", queries, keys.rename(**named))
        return self._out(to, x, to.gathered(values, self._weights(to, x, seen, logits, named), named))

    def _many_heads(
        self, to: Emitter, x: Features, seen: Features, tables: Embeddings | None, named: dict[str, str]
    ) -> Vector:
        """The sum over r of act(z[p, r]) v[r], z ~ N(0, E q q' E k k'): as many heads, of one channel each.

        Of random products only the second moments matter here, which are the same for heads of any width: z
        is an untrained matrix times the products of all channels, or, for the identity of it, these.
        """
        width = self.n_chan_val * self.n_heads
        inner = width if self.attention_mechanism == "IDENTITY" else self.n_chan_key
        queries = self._projection(to, x, self.W_query_std, inner, tables)(x)
        keys = self._projection(to, seen, self.W_key_std, inner, tables)(seen).rename(**named)
        values = self._values(to, seen, width, tables).rename(**named)
        if self.attention_mechanism == "IDENTITY":
            parts = to.product([queries, to.product([keys, values])])
        else:
            drawn = to.matrix(to.cdc(width), to.cdc(inner), 1.0, 0.0, prefix="H")
            logits = drawn @ to.product([queries, keys])
            if self.attention_mechanism == "SOFTMAX":
                allowed = self._allowed(to, x, seen, named)
                return to.program.attend(logits, values, *named.values(), weights=allowed)
            parts = to.product([to.program.apply(self.attention_mechanism.lower(), logits), values])
        if self.causal:
            parts = to.scale(parts, self._before(to, x, seen, named))
        return parts.sum(*named.values())

    def _few_heads(
        self, to: Emitter, x: Features, seen: Features, tables: Embeddings | None, named: dict[str, str]
    ) -> Features:
        """Heads with known weights, values and an output matrix of their own."""
        assert self.heads is not None
        if to.heads is None:
            raise LimitError(
                str(
                    to.error(
                        f'with scaling "1/sqrt(n)" and heads = {self.heads} the limit is not Gaussian, so '
                    )
                )
                + "that no kernel tells it; tpnum.conditional samples the kernels given the products of keys "
                "and queries, and without heads there are infinitely many of them"
            )
        queries = self._projection(to, x, self.W_query_std, self.n_chan_key, tables)(x)
        keys = self._projection(to, seen, self.W_key_std, self.n_chan_key, tables)(seen)
        axes = (*x.axes, *((named[axis], size) for axis, size in seen.axes))
        each, out = Weights(self.W_out_std / math.sqrt(self.heads), None), []
        number, weights = len(to.heads) + 1, []
        for head in range(1, self.heads + 1):
            known = to.program.scalars(f"heads{number}_{head}", axes)
            values = self._values(to, seen, self.n_chan_val, tables)
            held = Features((Block(to.gathered(values, known, named), self.n_chan_val),), x.axes)
            out += each.product(to, held, to.cdc(self.n_chan_out))
            weights.append(known.name)
        to.heads.append(Heads(self, queries.name, keys.name, tuple(weights)))
        bias = Weights(1.0, self.b_std).bias(to, to.cdc(self.n_chan_out))
        return Features((Block(to.total(out + bias, x.mask), self.n_chan_out),), x.axes, x.mask)

    def weigh(self, logits: np.ndarray, allowed: np.ndarray | None = None) -> np.ndarray:
        """The weights of logits (.., positions, positions seen), for `tpnum.conditional`."""
        if self.causal:
            before = np.tri(*logits.shape[-2:])
            allowed = before if allowed is None else before * allowed
        if self.attention_mechanism == "SOFTMAX":
            return softmax(logits, (logits.ndim - 1,), allowed)
        made = np.asarray(get(self.attention_mechanism.lower())(logits))
        return made if allowed is None else made * allowed

    def _out(self, to: Emitter, x: Features, heads: Vector) -> Features:
        """W_out times what the heads make, and the bias."""
        held = Features((Block(heads, self.n_chan_val * self.n_heads),), x.axes)
        out = Weights(self.W_out_std, self.b_std).affine(to, held, to.cdc(self.n_chan_out), mask=x.mask)
        return Features((Block(out, self.n_chan_out),), x.axes, x.mask)

    def _weights(
        self, to: Emitter, x: Features, seen: Features, logits: Scalar, named: dict[str, str]
    ) -> Scalar:
        """The weights of the positions seen, of those alone that a position may see."""
        allowed = self._allowed(to, x, seen, named)
        if self.attention_mechanism == "SOFTMAX":
            return logits.softmax(*named.values(), weights=allowed)
        made = logits
        if self.attention_mechanism != "IDENTITY":
            made = to.program.apply(self.attention_mechanism.lower(), logits)
        return made if allowed is None else made * allowed

    def _allowed(self, to: Emitter, x: Features, seen: Features, named: dict[str, str]) -> Scalar | None:
        """1 where a position may be seen; None where all may."""
        allowed = None if seen.mask is None else seen.mask.rename(**named)
        if self.causal:
            before = self._before(to, x, seen, named)
            allowed = before if allowed is None else before * allowed
        return allowed

    @staticmethod
    def _before(to: Emitter, x: Features, seen: Features, named: dict[str, str]) -> Scalar:
        """1 where the position seen is not behind the one that sees it."""
        ((axis, size),), ((other, count),) = x.axes, seen.axes
        return to.table("causal", ((axis, size), (named[other], count)), np.tri(size, count))

    def _values(self, to: Emitter, seen: Features, width: int, tables: Embeddings | None) -> Vector:
        embedded = tables if self.val_pos_emb else None
        return self._projection(to, seen, self.W_value_std, width, embedded)(seen)

    def _projection(
        self, to: Emitter, like: Features, std: float, width: int, tables: Embeddings | None
    ) -> Callable[[Features], Vector]:
        """Matrices to multiply features with the blocks of ``like`` and, with ``tables``, their positions.

        One matrix times embeddings of its own is a Gaussian per position; as both are trained, its direction
        has twice its variance.
        """
        dim = to.cdc(width)
        share, drawn = 1.0, None
        if tables is not None:
            share, var = tables.share, std**2 * tables.own
            places = (("place", len(tables.root)),)
            drawn = to.matrix(dim, ONE, var, 2.0 * var, places, "P") @ to.ones(ONE, places)
        weights = Weights(std * math.sqrt(share), None)
        matrices = list(weights.drawn(to, like, dim))

        def project(x: Features) -> Vector:
            parts = [
                (matrix @ block.vector).sum(*(name for name, _ in block.flat))
                for matrix, block in zip(matrices, x.blocks, strict=True)
            ]
            if tables is not None and drawn is not None:
                parts += to.masked([drawn.map("place", x.axes, tables.rows(x.axes))], x.mask)
            return to.total(parts)

        return project


@dataclass(frozen=True, repr=False)
class CrossAttention(GlobalSelfAttention):
    """Attention of the first of two branches to the second, whose positions are keys and values.

    serial(FanOut(2), parallel(queries, memory), CrossAttention(..)); the arguments are those of
    `GlobalSelfAttention`.  With scaling "1/n" one matrix makes keys and queries (``tied``), so both branches
    have the same channels; positions of either count from 0.
    """

    branching: ClassVar[bool] = True

    def emit(self, to: Emitter, x: Tree) -> Features:
        branches = x if isinstance(x, tuple) else (x,)
        if len(branches) != 2 or not all(isinstance(branch, Features) for branch in branches):
            raise to.error(
                f"it gets {len(branches)} branch{'es' * (len(branches) != 1)}, and takes two, queries and "
                "what they see; put FanOut(2) and parallel before it"
            )
        first, second = branches
        assert isinstance(first, Features)
        assert isinstance(second, Features)
        one = not self.random and self.tied is not False
        shapes = [[(b.width, b.flat, b.vector.dim) for b in branch.blocks] for branch in (first, second)]
        if (one or self.pos_emb_type != "NONE") and shapes[0] != shapes[1]:
            raise to.error(
                f"one matrix makes its keys and queries, and the branches have {first.channels} and "
                f"{second.channels} channels; give both as many, by a Dense each, or take tied=False"
            )
        return self._attend(to, first, second)
