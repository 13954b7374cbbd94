"""Carried states on a tile by the general path: all of their steps at once, again and again until they stand.

A state is zero at its first step, and what follows it one step before at all others.  Every round settles
one more step of either side, so that none changes any more after as many rounds as there are steps.  It is
for the few pairs that no loop takes, as those of an example with itself whose series do not converge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.evaluate import labels
from tpnum.evaluate.blocks import Block, dims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpnum.evaluate.general import PairValues
    from tpnum.law import graph


def settled(values: PairValues, states: Sequence[graph.Carried]) -> dict[int, Block]:
    """The blocks of states, by identity, on the tile of ``values``."""
    found = {id(node): _nothing(node, values) for node in states}
    below = [node.below[0] for node in states]
    asked = [id(after) for node, after in zip(states, below, strict=True) if node.increments]
    while True:
        again = values.anew()
        again.run(below, found, asked)
        before, found = found, {id(node): _stepped(node, again) for node in states}
        if all(map(_alike, found.values(), before.values())):
            return found


def _nothing(node: graph.Carried, values: PairValues) -> Block:
    """A state that is uncorrelated with the other side's, as at its first step."""
    k, apart = np.zeros(values.shape(node)), None
    if node.increments:
        first, second = values.seconds(node, node)
        apart = k + first + second
    return Block(k, apart)


def _stepped(node: graph.Carried, values: PairValues) -> Block:
    """A state from what follows it, one step before on each side that has a delay."""
    (below,) = node.below
    own, names = dims(below), dims(node)
    sides = [side for side, delay in enumerate((node.row_delay, node.col_delay)) if delay is not None]
    late = [(node.axis, 2)] if (node.axis, 2) in names else [(node.axis, side) for side in sides]

    def moved(at_first: np.ndarray, part: np.ndarray) -> np.ndarray:
        axes = [*map(names.index, late)]
        part = np.roll(np.broadcast_to(labels.align(part, own, names), at_first.shape), 1, axes)
        for axis in axes:
            np.moveaxis(part, axis, 0)[0] = np.moveaxis(at_first, axis, 0)[0]
        return part

    first, then = _nothing(node, values), values(below)
    apart = None if first.d is None or then.d is None else moved(first.d, then.d)
    return Block(moved(first.k, then.k), apart)


def _alike(block: Block, other: Block) -> bool:
    """Whether two blocks are equal, bit for bit."""
    return all(
        a is None or b is None or np.array_equal(a, b, equal_nan=True)
        for a, b in zip(block, other, strict=True)
    )
