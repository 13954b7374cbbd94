"""The schedule: which region a root belongs to, and which cells the region has.

A *region* is a maximal piece of the graph within which no contraction mixes positions; its cells fall into
components, found axis by axis, that are computed one after the other.  What leaves a region (a pooled
variable, an output, a value that a later region reads) goes through a buffer.  Demand runs backwards: only
cells that an output needs exist.
"""

from __future__ import annotations

from itertools import count
from math import prod
from typing import TYPE_CHECKING

from tpnum.law import graph
from tpnum.lower.blocks import BlockLevel
from tpnum.lower.islands import IslandLevel, together
from tpnum.lower.network import Network, Root, extend, grid_of, whole
from tpnum.lower.unsupported import Unsupported, blamed

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.lower.linear import Cell, Pull
    from tpnum.lower.network import Grid


TOGETHER = 64
"""Cells of a component where each could be one: a call of each instruction is worth so many."""


class Level:
    """One region: its roots, the cells of its grids, and the components that they fall into.

    ``loaded`` are roots that come from buffers, ``stored`` those that go to one.
    """

    def __init__(
        self, number: int, roots: list[Root], network: Network, buffers: dict[int, list[dict[Cell, int]]]
    ):
        self.network, self.roots = network, roots
        outputs = {id(node) for node in network.outputs}
        reads = {id(r): r for root in self.roots for r in root.loads}
        self.loaded = [r for r in reads.values() if r.pooled or r.level < number]
        above = {id(r) for root in network.roots if root.level > number for r in root.loads}
        self.stored = [r for r in self.roots if id(r) in above or id(r.node) in outputs or r.pooled]
        grids = {grid_of(node) for root in self.roots for node in _on_cells(root)}
        self.slots = tuple(sorted({name for grid in grids for name, _, _ in grid}))
        self.spaces: dict[Grid, list[dict[Cell, int]]] = {}
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

    def _space(self, grid: Grid) -> list[dict[Cell, int]]:
        if grid not in self.spaces:
            present = {name for name, _, _ in grid}
            self.spaces[grid] = [{} if slot in present else {(0, 0): 0} for slot in self.slots]
        return self.spaces[grid]

    def _connect(self, root: Root, buffers: dict[int, list[dict[Cell, int]]], output: bool) -> None:
        grid = grid_of(root.node)
        if output:
            extend(buffers.setdefault(id(root.node), _none(len(grid))), whole(root.node))
        wanted = buffers.get(id(root.node))
        if not root.pooled:
            space = self._space(grid)
            if wanted is not None:
                for (name, _, _), cells in zip(grid, wanted, strict=True):
                    extend([space[self.slots.index(name)]], [cells])
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
            if root.pooled:
                assert wanted is not None
                for upper, lower in pull.links:
                    if lower is not None:
                        asked = [(0, 0)] if upper is None else wanted[names.index(upper)]
                        found = {c for cell in asked for c in pull((upper, lower), cell)}
                        extend(
                            [self._space(below)[self.slots.index(lower)]], [dict.fromkeys(sorted(found), 0)]
                        )
                self._space(below)
            elif group.chain:
                self._space(below)
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

    def _ask(self, buffer: list[dict[Cell, int]], root: Root) -> None:
        """A buffer has the cells that the regions that load it have, padding apart."""
        grid = grid_of(root.node)
        space = self._space(grid)
        for at, (name, n, m) in zip(buffer, grid, strict=True):
            cells = space[self.slots.index(name)]
            extend([at], [{c: 0 for c in cells if c[0] < n and c[1] < m}])

    def _close(self) -> None:
        """Follow the links until nothing new is demanded, and number the cells in order."""
        order = {
            (grid, name): list(self.spaces[grid][self.slots.index(name)])
            for grid in self.spaces
            for name, _, _ in grid
        }
        followed: dict[tuple, int] = {}  # how many of a grid's cells along an axis a link was followed from
        grown = True
        while grown:
            grown = False
            for number, (above, below, pull) in enumerate(self._links.values()):
                for link in pull.links:
                    upper, lower = link
                    if lower is None:
                        continue
                    n, m = next((axis[1:] for axis in above if axis[0] == upper), (1, 1))
                    cells, found = self.spaces[below][self.slots.index(lower)], order[below, lower]
                    source = [(0, 0)] if upper is None else order[above, upper]
                    k = followed.get((number, link), 0)
                    while k < len(source):  # which may grow
                        cell = source[k]
                        k += 1
                        if cell[0] < n and cell[1] < m:  # those of the padding read nothing
                            more = [one for one in pull(link, cell) if one not in cells]
                            cells.update(dict.fromkeys(more, 0))
                            found += more
                            grown |= bool(more)
                    followed[number, link] = k
        for grid, space in self.spaces.items():
            self.spaces[grid] = [{cell: k for k, cell in enumerate(sorted(found))} for found in space]

    def _inside(self, grid: Grid, name: str | None) -> list[Cell]:
        """The cells of a grid along an axis but for those of the padding, which read nothing."""
        if name is None:
            return [(0, 0)]
        n, m = next(axis[1:] for axis in grid if axis[0] == name)
        return [c for c in self.spaces[grid][self.slots.index(name)] if c[0] < n and c[1] < m]

    def _components(self, t: int) -> list[dict[Grid, list[Cell]]]:
        """Along one slot: per component the cells of every grid that belong to it.

        Cells of the padding tie nothing together: every component has its own.
        """
        slot = self.slots[t]
        if all(slot in {name for name, _, _ in grid} for grid in self.spaces) and not any(
            slot in link for _, _, pull in self._links.values() for link in pull.links
        ):
            return self._alone(t)
        real = {
            grid: self._inside(grid, slot if any(slot == axis[0] for axis in grid) else None)
            for grid in self.spaces
        }
        places = count()
        number = {grid: {cell: next(places) for cell in sorted(cells)} for grid, cells in real.items()}
        parent = list(range(next(places)))
        padding: list[tuple[int, Grid, Cell]] = []

        def find(x: int) -> int:
            while parent[x] != x:
                parent[x] = parent[parent[x]]
                x = parent[x]
            return x

        for above, below, pull in self._links.values():
            links = [link for link in pull.links if slot in link]
            readers, sources = number[above], number[below]
            if not links:  # neither has the axis: one reads the other at its only place
                parent[find(readers[0, 0])] = find(sources[0, 0])
            for upper, lower in links:
                for cell in self._inside(above, upper if upper == slot else None):
                    for source in pull((upper, lower), cell):
                        target = source if lower == slot else (0, 0)
                        if target in sources:
                            parent[find(readers[cell])] = find(sources[target])
                        else:
                            padding.append((readers[cell], below, target))
        fixed = [grid for grid in self.spaces if all(name != slot for name, _, _ in grid)]
        made: dict[int, dict[Grid, dict[Cell, None]]] = {}
        for grid in sorted(number):
            for cell, k in number[grid].items():
                made.setdefault(find(k), {}).setdefault(grid, {})[cell] = None
        for reader, grid, cell in padding:
            made[find(reader)].setdefault(grid, {})[cell] = None
        found = [{grid: [*cells] for grid, cells in component.items()} for component in made.values()]
        if fixed and len(found) > len(fixed):
            # grids without the axis that nothing ties to it: with one component they are everywhere needed
            linked = [c for c in found if not set(c) <= set(fixed)]
            loose = {grid: cells for c in found if set(c) <= set(fixed) for grid, cells in c.items()}
            if loose and len(linked) > 1:
                raise Unsupported("variables with and without an index axis stand side by side")
            return [{**c, **loose} for c in linked]
        return found

    def _alone(self, t: int) -> list[dict[Grid, list[Cell]]]:
        """Along a slot where nothing is linked: as many cells of a grid at a time as one call is worth."""
        some, self._room = self._room, 1
        return [
            {grid: cells[k : k + some]}
            for grid in self.spaces
            for cells in [self._inside(grid, self.slots[t])]
            for k in range(0, len(cells), some)
        ]


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


def _none(count: int) -> list[dict[Cell, int]]:
    return [{} for _ in range(count)]


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
        self.buffers: dict[int, list[dict[Cell, int]]] = {}
        self.levels: list[Level | BlockLevel] = []
        for k in reversed(range(self.network.depth)):
            here = [root for root in self.network.roots if root.level == k]
            for alone in together([root for root in here if root.apart]):
                kind = IslandLevel if alone[0].inner else BlockLevel
                self.levels.append(kind(alone, self.network, self.buffers, reasons))
            for part in _side_by_side([root for root in here if not root.apart]):
                self.levels.append(Level(k, part, self.network, self.buffers))
        self.levels.reverse()
        for name, found in self.buffers.items():
            self.buffers[name] = [{cell: k for k, cell in enumerate(sorted(cells))} for cells in found]
