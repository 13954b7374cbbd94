"""A level and its adjoint: index maps the other way round, and the program of both ways."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tpnum.lower.backwards import Backwards
from tpnum.lower.layout import Layout, readers_of
from tpnum.lower.loops import GATHERING
from tpnum.lower.network import grid_of
from tpnum.lower.program import Program
from tpnum.lower.schedule import Level

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.lower.backwards import Profiles
    from tpnum.lower.channels import Asked
    from tpnum.lower.linear import Cell, Pull
    from tpnum.lower.network import Grid, Root
    from tpnum.lower.schedule import Schedule
    from tpnum.lower.select import Selection


class TurnedLayout(Layout):
    """A level laid out with its maps both ways."""

    def __init__(self, level: Level, buffers: dict[int, list[dict[Cell, int]]]):
        super().__init__(level, buffers)
        for root in level.roots:
            for k, group in enumerate(root.groups):
                if group.chain and (id(root), k) in level.pulls:
                    self._turned(root, k)

    def _turned(self, root: Root, k: int) -> None:
        """The transpose of a map, on covariances."""
        group = root.groups[k]
        below = next(grid_of(a) for _, a in group.atoms if Level.on_cells(a))
        above = grid_of(root.node)
        pull = self.level.network.pull(group.chain, tuple(name for name, _, _ in above), False)
        starts = np.zeros((self.axes, self.most), np.int64)
        for t, slot in enumerate(self.level.slots):
            for u, component in enumerate(self.level.components[t]):
                sources = self._real(below, slot, component.get(below, []))
                back = self._upwards(root, pull, slot, component, sources)
                starts[t, u] = len(self._pointer) - 1
                for cell in sources:
                    for goal, weight in sorted(back.get(cell, {}).items()):
                        self._index.append(goal)
                        self._weights.append(weight)
                    self._pointer.append(len(self._index))
        self.maps["back", id(root), k] = len(self._starts)
        self._starts.append(starts)
        self._goals.append((self.spaces[below], 0))

    def _upwards(
        self, root: Root, pull: Pull, slot: str, component: dict[Grid, list[Cell]], sources: list[Cell]
    ) -> dict[Cell, dict[int, float]]:
        """Per cell below the numbers of the cells above that read it, and their weights."""
        link, above = self._link(pull, slot), grid_of(root.node)
        found: dict[Cell, dict[int, float]] = {}
        if root.pooled:
            numbers = self._numbers(root, slot) if link and link[0] else {(0, 0): 0}
            assert numbers is not None
            readers = readers_of(pull, link, numbers)
            touched = {cell for source in sources for cell, _ in readers.get(source, ())}
            asked = sorted(touched, key=numbers.__getitem__) if link and link[0] else [(0, 0)]
            places = {cell: k for k, cell in enumerate(asked)}
            for source in sources:
                found[source] = {places[cell]: weight for cell, weight in readers.get(source, ())}
            return found
        cells = self._real(above, link[0] or slot, component.get(above, [])) if link else [(0, 0)]
        for place, cell in enumerate(cells):
            for source, weight in (pull(link, cell) if link else {(0, 0): 1.0}).items():
                found.setdefault(source, {})[place] = weight
        return found


@lru_cache(maxsize=16)
def turned(schedule: Schedule) -> list[TurnedLayout]:
    """The levels of a schedule laid out, those that are compiled: the same for all data."""
    return [TurnedLayout(level, schedule.buffers) for level in schedule.levels if isinstance(level, Level)]


class BackwardsProgram(Program):
    """The code of a level and its adjoint over the profiles of a tile's rows and columns."""

    def __init__(
        self,
        layout: TurnedLayout,
        schedule: Schedule,
        profiles: Profiles,
        dtype: np.dtype,
        lanes: int,
        asked: Asked,
    ):
        self.asked = asked
        super().__init__(layout, schedule, profiles, dtype, lanes)

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
