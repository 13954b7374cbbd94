"""Graph layers: every example has a graph of its own, the known scalars ``pattern``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tpnum.nn.arguments import (
    Axis,
    Deviation,
    Flag,
    Implementation,
    Normalization,
    OptionalAxes,
    OptionalDeviation,
    Parameterization,
    Scales,
    Size,
)
from tpnum.nn.base import Block, Features, Layer
from tpnum.nn.weights import Weights

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter
    from tpnum.program import Scalar
    from tpnum.program.lines import Axes


class _Graph(Layer):
    """What graph layers share: the axes of the nodes, and the pattern over (tails, heads)."""

    aggregate_axis: tuple[int, ...] | None
    self_loops: bool

    def heads(self, to: Emitter, x: Features) -> Axes:
        """The axes of nodes."""
        rank = len(x.axes) + 2
        wanted = range(1, rank - 1) if self.aggregate_axis is None else self.aggregate_axis
        places = [axis + rank if axis < 0 else axis for axis in wanted]
        if not places or len(set(places)) < len(places) or not all(1 <= p < rank - 1 for p in places):
            raise to.error(
                f"aggregate_axis is {self.aggregate_axis}, and the features have {len(x.axes)} spatial axes; "
                "name some of them, 1 the first"
            )
        return tuple(x.axes[place - 1] for place in places)

    def pattern(self, to: Emitter, heads: Axes) -> Scalar:
        """The adjacency, with ones added for every node with itself where that is asked for."""
        axes = (*_tails(heads), *heads)
        known = to.graph(axes)
        if not self.self_loops:
            return known
        sizes = [size for _, size in heads]
        loops = np.eye(int(np.prod(sizes))).reshape(*sizes, *sizes)
        return known + to.table("loops", axes, loops)


def reader(net: Layer) -> str:
    """The kind of the first layer of a net that reads graphs, "a layer" where none is found."""
    waiting: list[object] = [net]
    while waiting:
        layer = waiting.pop()
        if isinstance(layer, _Graph):
            return type(layer).__name__
        if isinstance(layer, Layer):
            waiting += reversed(vars(layer).values())
        elif isinstance(layer, tuple):
            waiting += reversed(layer)
    return "a layer"


def _tails(heads: Axes) -> Axes:
    return tuple((f"{axis}_from", size) for axis, size in heads)


@dataclass(frozen=True, repr=False)
class Aggregate(_Graph):
    """h[p] -> sum over tails r of A[r, p] h[r], A the adjacency matrix [tail, head] of the example's graph.

    A is any array of numbers, given to `tpnum.kernel` as ``pattern1`` and ``pattern2`` (examples, tails ..,
    heads ..).  ``self_loops`` adds 1 for every node with itself; then ``normalization`` "SYMMETRIC" takes
    A[r, p] / sqrt(sum_s A[r, s] sum_s A[s, p]) in its place (graph convolutions), "MEAN" A[r, p] / sum_s
    A[s, p]; sums of zero leave zeros.  ``aggregate_axis`` are the axes of the array of inputs (batch axis 0)
    that the graph is over, all spatial ones by default.
    """

    aggregate_axis: OptionalAxes = None
    batch_axis: Axis = 0
    channel_axis: Axis = -1
    implementation: Implementation = "DENSE"
    normalization: Normalization = "NONE"
    self_loops: Flag = False

    def emit(self, to: Emitter, x: Features) -> Features:
        rank = len(x.axes) + 2
        if self.batch_axis % rank != 0 or self.channel_axis % rank != rank - 1:
            raise to.error("batch_axis is 0 and channel_axis is -1 here; move the axes of the array before")
        heads = self.heads(to, x)
        tails = _tails(heads)
        pattern = self._normalized(to, self.pattern(to, heads), heads)
        renamed = {axis: tail for (axis, _), (tail, _) in zip(heads, tails, strict=True)}
        vectors = [to.gathered(block.vector, pattern, renamed) for block in x.blocks]
        return x.replace(to.masked(vectors, x.mask))

    def _normalized(self, to: Emitter, pattern: Scalar, heads: Axes) -> Scalar:
        if self.normalization == "NONE":
            return pattern
        into = pattern.sum(*(axis for axis, _ in _tails(heads)))
        if self.normalization == "MEAN":
            return pattern * _inverse(to, into)
        out_of = pattern.sum(*(axis for axis, _ in heads))
        return pattern * _inverse(to, out_of) ** 0.5 * _inverse(to, into) ** 0.5


def _inverse(to: Emitter, degree: Scalar) -> Scalar:
    """1/degree, zero where that is zero."""
    some = to.program.apply("step", degree)
    return some / (degree + (1.0 - some))


@dataclass(frozen=True, repr=False)
class GraphAttention(_Graph):
    """h[p] -> sum over tails r of w[r, p] V h[r] + b, w the softmax over the neighbours r of p.

    Logits are products of keys K h, one matrix for keys and queries, over their width (1/n): numbers in the
    limit, W_key_std^2 E h[r] h[p].  Neighbours are the r with A[r, p] > 0, which weighs exp(logit), and with
    ``self_loops`` p itself; nodes without any get b alone.  Graphs and axes are given as for `Aggregate`.
    """

    out_chan: Size
    n_chan_key: Size
    W_std: Deviation = 1.0
    W_key_std: Deviation = 1.0
    b_std: OptionalDeviation = None
    aggregate_axis: OptionalAxes = None
    self_loops: Flag = False
    parameterization: Parameterization = "ntk"
    s: Scales = (1.0, 1.0)

    def emit(self, to: Emitter, x: Features) -> Features:
        heads = self.heads(to, x)
        tails = _tails(heads)
        pattern = self.pattern(to, heads)
        renamed = {axis: tail for (axis, _), (tail, _) in zip(heads, tails, strict=True)}
        own = (self.parameterization, self.s[0])
        keys = to.total(Weights(self.W_key_std, None, *own).product(to, x, to.cdc(self.n_chan_key)))
        logits = to.program.moment("mul", keys, keys.rename(**renamed))
        weights = logits.softmax(*renamed.values(), weights=pattern)
        values = Weights(self.W_std, self.b_std, *own)
        dim = to.cdc(self.out_chan)
        gathered = to.gathered(to.total(values.product(to, x, dim)), weights, renamed)
        vector = to.total([gathered, *values.bias(to, dim)], x.mask)
        return Features((Block(vector, self.out_chan),), x.axes, x.mask)
