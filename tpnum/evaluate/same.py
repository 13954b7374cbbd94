"""Pair nodes of every input with itself, all of their entries or those of equal positions."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

import numpy as np

from tpnum.errors import LimitError
from tpnum.evaluate import labels
from tpnum.evaluate.blocks import dims, shape
from tpnum.evaluate.tile import TileValues
from tpnum.law import graph

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tpnum.evaluate.profile import ProfileValues
    from tpnum.program.lines import Axes

ENTRIES = 1 << 12
"""Of the largest block, that cost about what one more walk over the nodes does."""
ONE_BY_ONE = (graph.PairExpect, graph.Jointly, graph.Attention)
"""Nodes whose entries cost more than any walk."""


def together(pair: graph.Pair, size: int) -> Iterator[slice]:
    """Examples whose pairs with one another are computed at once, though each with itself is asked for."""
    nodes = graph.schedule([pair])
    largest = max(int(np.prod(shape(node, 1, 1))) for node in nodes)
    dear = any(isinstance(node, ONE_BY_ONE) for node in nodes)
    step = 1 if dear else max(isqrt(ENTRIES // largest), 1)
    for low in range(0, size, step):
        yield slice(low, min(low + step, size))


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
        tile = TileValues(values, values, at, at, same=True)
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
    if pair.rows or pair.cols:
        raise LimitError("a variance over positions was left untied")
    inputs = together(pair, values.size) if which is None else (slice(n, n + 1) for n in which)
    names = [("", 0), ("", 1), *((name, 2) for name, _ in axes)]
    made = []
    for at in inputs:
        tile = TileValues(values, values, at, at, same=True)
        tile.run([pair])
        block = labels.align(tile.full(pair), dims(pair), names)
        made.append(np.einsum("ii...->i...", block))
    return np.concatenate(made)
