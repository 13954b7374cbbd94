"""Any graph of pair nodes on a tile of inputs: its recurrences step by step, what is left node by node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpnum.evaluate.general import PairValues
from tpnum.evaluate.waves import first_loop, walked

if TYPE_CHECKING:
    from tpnum.law import graph


class TileValues(PairValues):
    """`PairValues` of graphs with carried states, which a run computes before all that reads them."""

    def _remaining(self, outputs: list[graph.Pair]) -> list[graph.Pair]:
        order = super()._remaining(outputs)
        wanted = [id(node) for node in outputs]
        while loop := first_loop(order):
            self._memo |= walked(self, loop, order, wanted)
            order = super()._remaining(outputs)
        return order
