"""Graph layers: every example has a graph of its own, the known scalars ``pattern``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpnum.nn.arguments import Axis, Implementation, OptionalAxes
from tpnum.nn.base import Features, Layer

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter


@dataclass(frozen=True, repr=False)
class Aggregate(Layer):
    """h[p] -> sum over tails r of A[r, p] h[r], A the adjacency matrix [tail, head] of the example's graph.

    A is any array of numbers, given to `tpnum.kernel` as ``pattern1`` and ``pattern2`` (examples, tails ..,
    heads ..): a normalised adjacency matrix is given normalised.  ``aggregate_axis`` are the axes of the
    array of inputs (batch axis 0) that the graph is over, all spatial ones by default.
    """

    aggregate_axis: OptionalAxes = None
    batch_axis: Axis = 0
    channel_axis: Axis = -1
    implementation: Implementation = "DENSE"

    def emit(self, to: Emitter, x: Features) -> Features:
        rank = len(x.axes) + 2
        if self.batch_axis % rank != 0 or self.channel_axis % rank != rank - 1:
            raise to.error("batch_axis is 0 and channel_axis is -1 here; move the axes of the array before")
        wanted = range(1, rank - 1) if self.aggregate_axis is None else self.aggregate_axis
        places = [axis + rank if axis < 0 else axis for axis in wanted]
        if not places or len(set(places)) < len(places) or not all(1 <= p < rank - 1 for p in places):
            raise to.error(
                f"aggregate_axis is {self.aggregate_axis}, and the features have {len(x.axes)} spatial axes; "
                "name some of them, 1 the first"
            )
        heads = tuple(x.axes[place - 1] for place in places)
        tails = tuple((f"{axis}_from", size) for axis, size in heads)
        pattern = to.graph((*tails, *heads))
        renamed = {axis: tail for (axis, _), (tail, _) in zip(heads, tails, strict=True)}
        vectors = [to.gathered(block.vector, pattern, renamed) for block in x.blocks]
        return x.replace(to.masked(vectors, x.mask))
