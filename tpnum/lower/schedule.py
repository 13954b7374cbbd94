"""The schedule: which region a root belongs to, and which cells the region has.

A *region* is a maximal piece of the graph within which no contraction mixes positions; its cells fall into
components, found axis by axis, that are computed one after the other.  What leaves a region (a pooled
variable, an output, a value that a later region reads) goes through a buffer.  Demand runs backwards: only
cells that an output needs exist.
"""

from __future__ import annotations

from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from tpnum.kernels.unions import unite
from tpnum.law import graph
from tpnum.lower.blocks import BlockLevel
from tpnum.lower.codes import NOWHERE, ORIGIN, beyond, distinct, places, union
from tpnum.lower.islands import IslandLevel, together
from tpnum.lower.network import Network, Root, extend, grid_of, real, whole
from tpnum.lower.unsupported import Unsupported, blamed

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.lower.codes import Buffers, Cells
    from tpnum.lower.linear import Pull
    from tpnum.lower.network import Grid


TOGETHER = 64
"""Cells of a component where each could be one: a call of each instruction is worth so many."""


class Level:
    """One region: its roots, the cells of its grids, and the components that they fall into.

    ``loaded`` are roots that come from buffers, ``stored`` those that go to one.
    """

    def __init__(self, number: int, roots: list[Root], network: Network, buffers: Buffers):
        self.network, self.roots = network, roots
        outputs = {id(node) for node in network.outputs}
        reads = {id(r): r for root in self.roots for r in root.loads}
        self.loaded = [r for r in reads.values() if r.pooled or r.level < number]
        above = {id(r) for root in network.roots if root.level > number for r in root.loads}
        self.stored = [r for r in self.roots if id(r) in above or id(r.node) in outputs or r.pooled]
        grids = {grid_of(node) for root in self.roots for node in _on_cells(root)}
        self.slots = tuple(sorted({name for grid in grids for name, _, _ in grid}))
        self.spaces: dict[Grid, list[Cells]] = {}
        self.pulls: dict[tuple[int, int], Pull] = {}
        self._links: dict[tuple[Grid, Grid, int], tuple[Grid, Grid, Pull]] = {}
        self._room = TOGETHER
        for root in self.roots:
            with blamed(root.node):
                self._connect(root, buffers, id(root.node) in outputs)
        self._close()
        for root in self.loaded:
            self._ask(buffers.setdefault(id(root.node), _none(self.slots_of(root))), root)
        self.components = [self._components(t) for t in range(len(self.slots))]

    @property
    def cells(self) -> int:
        """The cells of its largest grid."""
        return max((prod(map(len, space)) for space in self.spaces.values()), default=1)

    def slots_of(self, root: Root) -> int:
        return len(grid_of(root.node))

    def _space(self, grid: Grid) -> list[Cells]:
        if grid not in self.spaces:
            present = {name for name, _, _ in grid}
            self.spaces[grid] = [NOWHERE if slot in present else ORIGIN for slot in self.slots]
        return self.spaces[grid]

    def _demand(self, grid: Grid, name: str, cells: Cells) -> None:
        """Add cells along an axis to those of a grid."""
        space, t = self._space(grid), self.slots.index(name)
        space[t] = union(space[t], cells)

    def _connect(self, root: Root, buffers: Buffers, output: bool) -> None:
        grid = grid_of(root.node)
        if output:
            extend(buffers.setdefault(id(root.node), _none(len(grid))), whole(root.node))
        wanted = buffers.get(id(root.node))
        if not root.pooled:
            self._space(grid)
            for (name, _, _), cells in zip(grid, wanted or (), strict=wanted is not None):
                self._demand(grid, name, cells)
        for k, group in enumerate(root.groups):
            if not any(self.on_cells(atom) for _, atom in group.atoms):
                continue
            names = tuple(name for name, _, _ in grid)
            pull = self.network.pull(group.chain, names, root.held == "inc")
            self.pulls[id(root), k] = pull
            grids = {grid_of(atom) for _, atom in group.atoms if self.on_cells(atom)}
            if len(grids) > 1:
                raise Unsupported("variables with different axes go through an index map together")
            (below,) = grids
            if not group.chain and below != grid:
                raise Unsupported("a variable without some of the axes is added along them")
            self._space(below)
            if root.pooled:
                assert wanted is not None
                for upper, lower in pull.links:
                    if lower is not None:
                        asked = ORIGIN if upper is None else wanted[names.index(upper)]
                        self._demand(below, lower, pull.taps((upper, lower), asked).source)
            elif group.chain:
                self._links[grid, below, id(pull)] = (grid, below, pull)
            for _, atom in group.atoms:
                if group.carried and (grids != {grid} or self.slots != (group.chain[0].axis,)):
                    raise Unsupported("a recurrence over variables with other axes")
                for read in () if id(atom) in self.network.by_node else graph.operands(atom):
                    if not isinstance(read, graph.Shared) and grid_of(read) != grid_of(atom):
                        raise Unsupported("a variable without some of the axes is multiplied along them")

    @staticmethod
    def on_cells(atom: graph.Pair) -> bool:
        """Whether a node has a number per cell: constants have not."""
        return not isinstance(atom, graph.Shared)

    @staticmethod
    def below(root: Root, k: int) -> Grid:
        """The grid that the map of a group reads."""
        return next(grid_of(atom) for _, atom in root.groups[k].atoms if Level.on_cells(atom))

    def _ask(self, buffer: list[Cells], root: Root) -> None:
        """A buffer has the cells that the regions that load it have, padding apart."""
        grid = grid_of(root.node)
        self._space(grid)
        extend(buffer, [self.inside(grid, name) for name, _, _ in grid])

    def _close(self) -> None:
        """Follow the links until nothing new is demanded."""
        fresh = {(grid, t): cells for grid, space in self.spaces.items() for t, cells in enumerate(space)}
        while fresh:
            found: dict[tuple[Grid, int], list[Cells]] = {}
            for above, below, pull in self._links.values():
                for upper, lower in pull.links:
                    if lower is None:
                        continue
                    t = self.slots.index(lower)
                    source = fresh.get((above, t), NOWHERE)
                    if upper is not None:  # cells of the padding read nothing
                        source = source[real(source, above, upper)]
                    found.setdefault((below, t), []).append(pull.reached((upper, lower), source))
            fresh = {}
            for (grid, t), parts in found.items():
                new = beyond(union(*parts), self.spaces[grid][t])
                if new.size:
                    fresh[grid, t] = new
                    self.spaces[grid][t] = union(self.spaces[grid][t], new)

    def inside(self, grid: Grid, name: str) -> Cells:
        """The cells of a grid along an axis but for those of the padding, which read nothing."""
        cells = self.spaces[grid][self.slots.index(name)]
        return cells[real(cells, grid, name)]

    def _components(self, t: int) -> list[dict[Grid, Cells]]:
        """Along one slot: per component the cells of every grid that belong to it.

        Cells of the padding tie nothing together: every component has its own, behind the others.
        """
        slot = self.slots[t]
        if all(slot in {name for name, _, _ in grid} for grid in self.spaces) and not any(
            slot in link for _, _, pull in self._links.values() for link in pull.links
        ):
            return self._alone(t)
        cells = {grid: self.inside(grid, slot) for grid in sorted(self.spaces)}
        first = dict(zip(cells, accumulate(map(len, cells.values()), initial=0), strict=False))
        home, padding = self._joined(slot, cells, first)
        made: list[dict[Grid, Cells]] = [{} for _ in range(home.max(initial=-1) + 1)]
        for grid, own in cells.items():
            here = home[first[grid] : first[grid] + own.size]
            for component, part in _parted(here, own):
                made[component][grid] = part
        for grid, (readers, sources) in padding.items():
            for component, part in _parted(home[readers], sources):
                known = made[component].get(grid, NOWHERE)
                made[component][grid] = np.concatenate([known, union(part)])
        return self._tied(slot, made)

    def _joined(
        self, slot: str, cells: dict[Grid, Cells], first: dict[Grid, int]
    ) -> tuple[np.ndarray, dict[Grid, tuple[np.ndarray, Cells]]]:
        """The component of every cell, and per grid who reads which cells of the padding."""
        parent = np.arange(sum(map(len, cells.values())))
        padding: dict[Grid, tuple[np.ndarray, Cells]] = {}
        for above, below, pull in self._links.values():
            if not any(slot in link for link in pull.links):  # one reads the other at its only place
                unite(parent, np.array([first[above]]), np.array([first[below]]))
            for upper, lower in pull.links:
                if slot not in (upper, lower):
                    continue
                reader, source, _ = pull.taps((upper, lower), cells[above] if upper == slot else ORIGIN)
                at = places(cells[below], source)
                unite(parent, reader[at >= 0] + first[above], at[at >= 0] + first[below])
                outside = reader[at < 0] + first[above], source[at < 0]
                known = padding.get(below, (NOWHERE, NOWHERE))
                padding[below] = np.append(known[0], outside[0]), np.append(known[1], outside[1])
        return (np.cumsum(parent == np.arange(parent.size)) - 1)[parent], padding

    @staticmethod
    def _tied(slot: str, found: list[dict[Grid, Cells]]) -> list[dict[Grid, Cells]]:
        """The components, each with the cells of grids without the slot that nothing ties to it."""
        fixed = {
            grid for component in found for grid in component if all(name != slot for name, _, _ in grid)
        }
        if fixed and len(found) > len(fixed):  # with one component they are everywhere needed
            linked = [c for c in found if not set(c) <= fixed]
            loose = {grid: cells for c in found if set(c) <= fixed for grid, cells in c.items()}
            if loose and len(linked) > 1:
                raise Unsupported("variables with and without an index axis stand side by side")
            return [{**c, **loose} for c in linked]
        return found

    def _alone(self, t: int) -> list[dict[Grid, Cells]]:
        """Along a slot where nothing is linked: as many cells of a grid at a time as one call is worth."""
        some, self._room = self._room, 1
        return [
            {grid: cells[k : k + some]}
            for grid in self.spaces
            for cells in [self.inside(grid, self.slots[t])]
            for k in range(0, len(cells), some)
        ]


def _parted(home: np.ndarray, cells: Cells) -> list[tuple[int, Cells]]:
    """The cells of every component, in the order that they have."""
    order = np.argsort(home, kind="stable")
    names, number = distinct(home[order])
    starts = np.searchsorted(number, np.arange(1, names.size))
    return list(zip(names.tolist(), np.split(cells[order], starts), strict=False))


def _on_cells(root: Root) -> list[graph.Pair]:
    atoms = [atom for group in root.groups for _, atom in group.atoms if Level.on_cells(atom)]
    return atoms if root.pooled else [root.node, *atoms]


def _side_by_side(roots: list[Root]) -> list[list[Root]]:
    """Roots that have axes in common, or read each other; the others are regions apart."""
    found: list[tuple[set[Hashable], list[Root]]] = []
    for root in roots:
        keys: set[Hashable] = {id(root), *map(id, root.loads)}
        keys |= {name for node in _on_cells(root) for name, _, _ in grid_of(node)}
        shared = [part for part in found if part[0] & keys]
        found = [part for part in found if not part[0] & keys]
        keys = keys.union(*(own for own, _ in shared))
        found.append((keys, [*(r for _, part in shared for r in part), root]))
    return [part for _, part in found]


def _none(count: int) -> list[Cells]:
    return [NOWHERE] * count


def _stored(node: graph.Pair) -> graph.Pair:
    """An output: the node's covariances, as a variable of its own."""
    part = graph.Part(1.0, (), (), (node,))
    return graph.Sum(node.tied, node.rows, node.cols, increments=False, parts=(part,))


class Schedule:
    """The levels of a plan's nodes from the data upwards, and the cells of the buffers between them.

    ``apart`` are nodes that no instruction computes, and why: each is a level of its own, cell by cell.
    ``foreign`` are nodes whose positions no instruction relates, and why: islands of them are levels.
    """

    def __init__(
        self,
        outputs: list[graph.Pair],
        apart: dict[int, str] | None = None,
        foreign: dict[int, str] | None = None,
    ):
        self.outputs = {id(node): _stored(node) for node in outputs}
        self.network = Network(list(self.outputs.values()), apart or {}, foreign or {})
        self.network.find_twins()
        reasons = (apart or {}) | (foreign or {})
        self.buffers: Buffers = {}
        self.levels: list[Level | BlockLevel] = []
        for k in reversed(range(self.network.depth)):
            here = [root for root in self.network.roots if root.level == k]
            for alone in together([root for root in here if root.apart]):
                kind = IslandLevel if alone[0].inner else BlockLevel
                self.levels.append(kind(alone, self.network, self.buffers, reasons))
            for part in _side_by_side([root for root in here if not root.apart]):
                self.levels.append(Level(k, part, self.network, self.buffers))
        self.levels.reverse()
