"""Pair nodes of every input with itself, all of their entries or those of equal positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.errors import LimitError
from tpnum.evaluate import labels
from tpnum.evaluate.blocks import dims
from tpnum.evaluate.general import PairValues

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpnum.evaluate.profile import ProfileValues
    from tpnum.law import graph
    from tpnum.program.lines import Axes


def within(values: ProfileValues, node: graph.Within) -> np.ndarray:
    """All entries of a same-input pair node, for every input: (N, *axes of the node)."""
    pair = node.pair
    order = [
        *((name, 2) for name, _ in pair.tied),
        *((n, 0) for n, _ in pair.rows),
        *((n, 1) for n, _ in pair.cols),
    ]
    own = [*pair.tied, *pair.rows, *((f"{name}'", size) for name, size in pair.cols)]
    made = []
    for example in range(values.size):
        at = slice(example, example + 1)
        tile = PairValues(values, values, at, at, same=True)
        tile.run([pair])
        block = labels.align(tile.full(pair), dims(pair), [("", 0), ("", 1), *order])[0, 0]
        made.append(block)
    return labels.align(
        np.stack(made), ["", *(name for name, _ in own)], ["", *(name for name, _ in node.axes)]
    )


def same_input(
    values: ProfileValues, pair: graph.Pair, axes: Axes, which: Sequence[int] | None = None
) -> np.ndarray:
    """The p = p' entries of a pair node with both inputs the same, for every input or some: (N, *axes)."""
    inputs = range(values.size) if which is None else which
    out = np.empty((len(inputs), *(size for _, size in axes)))
    for n, example in enumerate(inputs):
        at = slice(example, example + 1)
        tile = PairValues(values, values, at, at, same=True)
        tile.run([pair])
        block = tile.full(pair)
        if pair.rows or pair.cols:
            raise LimitError("a variance over positions was left untied")
        names = dims(pair)
        order = [names.index((name, 2)) for name, _ in axes]
        squeezed = np.squeeze(block, axis=(names.index(("", 0)), names.index(("", 1))))
        out[n] = squeezed.transpose([sum(1 for other in order if other < o) for o in order])
    return out
