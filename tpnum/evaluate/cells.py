"""One node by the rule of the general path, on chosen cells, from its operands' values there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.evaluate.blocks import Block
from tpnum.evaluate.general import PairValues
from tpnum.law import graph

if TYPE_CHECKING:
    from tpnum.evaluate.profile import ProfileValues


class CellValues(PairValues):
    """Evaluates a node on cells (p, q), every array being (cells, rows, columns).

    ``cells`` are, per axis of the node, the positions (``count``, 2) of the first and of the second input,
    ``given`` the operands' blocks by identity.  Row i and column j of the profiles are one example where
    i = ``own`` + j.
    """

    def __init__(
        self,
        profiles: tuple[ProfileValues, ProfileValues],
        slices: tuple[slice, slice],
        own: int,
        count: int,
        cells: dict[str, np.ndarray],
        given: dict[int, Block],
    ):
        super().__init__(*profiles, *slices, same=True, own=own)
        self.count, self.cells, self.given = count, cells, given

    def shape(self, node: graph.Pair) -> tuple[int, ...]:
        return (self.count, *self.counts)

    def profile(self, node: graph.Profile, side: int, frame: graph.Pair) -> np.ndarray:
        source = self.profiles[side]
        values = np.asarray(source(node)[self.slices[side]])
        return self._along(values, side, [name for name, _ in source.axes(node)])

    def each(self, values: np.ndarray, side: int, frame: graph.Pair) -> np.ndarray:
        return values[self.slices[side]].reshape((1, -1, 1) if side == 0 else (1, 1, -1))

    def inner(self, node: graph.Pair, frame: graph.Pair) -> Block:
        if isinstance(node, graph.Shared):
            return Block(np.full((1, 1, 1), node.value), np.zeros((1, 1, 1)))
        return self.given[id(node)]

    def _along(self, values: np.ndarray, side: int, names: list[str]) -> np.ndarray:
        """(N, *axes) of one input at the positions of the cells."""
        at: tuple[Any, ...] = (slice(None), *(self.cells[name][:, side] for name in names))
        found = values[at]
        found = found.reshape(len(values), -1).T
        return found[:, :, None] if side == 0 else found[:, None, :]

    def coincide(self, node: graph.Pair) -> np.ndarray:
        same = np.equal.outer(*self.ids)
        here = np.ones(self.count, dtype=bool)
        for positions in self.cells.values():
            here &= positions[:, 0] == positions[:, 1]
        return (here[:, None, None] & same).astype(np.float64)

    def _index(self, frame: graph.Pair, side: int, nodes: tuple[graph.Profile | None, ...]) -> np.ndarray:
        source = self.profiles[side]
        axes = (*frame.tied, *(frame.rows if side == 0 else frame.cols))
        index = source.index(axes, *nodes)[self.slices[side]]
        found = self._along(index, side, [name for name, _ in axes])
        return np.broadcast_to(found.reshape(len(found), -1), (self.count, found[0].size))
