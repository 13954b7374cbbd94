"""A level and its adjoint: index maps the other way round, and the program of both ways."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tpnum.lower.backwards import Backwards
from tpnum.lower.layout import Layout
from tpnum.lower.loops import GATHERING
from tpnum.lower.network import grid_of
from tpnum.lower.program import Program
from tpnum.lower.schedule import Level, Schedule
from tpnum.lower.unsupported import Unsupported

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.law import graph
    from tpnum.lower.backwards import Profiles
    from tpnum.lower.channels import Asked
    from tpnum.lower.network import Root
    from tpnum.lower.select import Selection


class TurnedLayout(Layout):
    """A level laid out with its maps both ways."""

    def _map(self, root: Root, k: int) -> None:
        super()._map(root, k)
        self._turned(root, k)

    def _turned(self, root: Root, k: int) -> None:
        """The transpose of a map, on covariances."""
        below, names = self.level.below(root, k), tuple(name for name, _, _ in grid_of(root.node))
        pull = self.level.network.pull(root.groups[k].chain, names, False)
        found = []
        for t in range(self.axes):
            own, tie = self.own[below, t], self.ties(root, pull, below, t)
            inside = self.inside(below, t)
            number = np.cumsum(inside) - 1  # of a cell among those that read now
            first = np.cumsum(tie.counts) - tie.counts
            goal = tie.reader - first[own.group[tie.cell]]
            order = np.lexsort((goal, tie.cell))
            counts = np.bincount(own.group[inside], minlength=own.counts.size)
            found.append((counts, number[tie.cell][order], goal[order], tie.weight[order]))
        self._write(("back", id(root), k), found)
        self._goals.append((self.spaces[below], 0))


@lru_cache(maxsize=16)
def turned(outputs: tuple[graph.Pair, ...]) -> tuple[Schedule, list[TurnedLayout]]:
    """The schedule of nodes that all have instructions, and its levels laid out: the same for all data.

    Raises `Unsupported` where one has none.
    """
    schedule = Schedule(list(outputs), {}, {})
    levels = [level for level in schedule.levels if isinstance(level, Level)]
    if len(levels) < len(schedule.levels):
        raise Unsupported("some regions are not compiled")
    return schedule, [TurnedLayout(level, schedule.buffers) for level in levels]


class BackwardsProgram(Program):
    """The code of a level and its adjoint over the profiles of a tile's rows and columns."""

    def __init__(
        self,
        layout: TurnedLayout,
        profiles: Profiles,
        dtype: np.dtype,
        lanes: int,
        asked: Asked,
    ):
        self.asked = asked
        super().__init__(layout, profiles, dtype, lanes)

    def _select(self, profiles: Profiles) -> Selection:
        made = Backwards(self.layout.level, profiles, self.dtype, self.asked)
        self.channels = made.channels
        return made

    @property
    def gives_first(self) -> bool:
        """Whether the adjoints that it hands on need no values of other levels, nor gather anything."""
        return all(one.op not in ("load", *GATHERING) for one in self.selection.code)

    def _size(self, buffer: Hashable) -> int:
        """The cells of a buffer or of its adjoint; the numbers of a channel."""
        match buffer:
            case ("adjoint", int() as node):
                return self.layout.buffer_size(node)
            case ("rows" | "cols", int() as number):
                return self.channels[number].size
        return super()._size(buffer)

    def _strides(self, buffer: Hashable, at: int, cells: int) -> tuple[int, int, int, int]:
        """Of sums of a row and a lane each, of rows alone or of columns."""
        match buffer:
            case ("rows" | "cols" as kind, int()):
                lanes, step = self.lanes, int(cells > 1)
                if self.asked.each:
                    return at, cells * lanes, lanes * step, 1
                return (at, cells, step, 0) if kind == "rows" else (at, 0, lanes * step, 1)
        return super()._strides(buffer, at, cells)

    def numbers(self, buffer: Hashable, cells: int, rows: int) -> int:
        match buffer:
            case ("rows", int()) if not self.asked.each:
                return cells * rows
            case ("cols", int()) if not self.asked.each:
                return cells * self.lanes
        return super().numbers(buffer, cells, rows)
