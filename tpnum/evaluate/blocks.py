"""The block of a pair node on a tile of inputs: its numbers, and what its dimensions are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    from tpnum.law import graph

Dim: TypeAlias = tuple[str, int]
"""An index axis ("" for the examples) of the rows (0), of the columns (1) or of both, tied (2)."""


class Block(NamedTuple):
    """K and D of a node on a tile, dimensions as `dims` names them, of length one where nothing changes."""

    k: np.ndarray
    d: np.ndarray | None


def dims(node: graph.Pair) -> list[Dim]:
    """(tied..., examples of the rows, row axes..., examples of the columns, column axes...)."""
    return [
        *((name, 2) for name, _ in node.tied),
        ("", 0),
        *((name, 0) for name, _ in node.rows),
        ("", 1),
        *((name, 1) for name, _ in node.cols),
    ]


def shape(node: graph.Pair, r: int, c: int) -> tuple[int, ...]:
    """The lengths of `dims` for r by c examples."""
    tied, rows, cols = ([size for _, size in axes] for axes in (node.tied, node.rows, node.cols))
    return (*tied, r, *rows, c, *cols)
