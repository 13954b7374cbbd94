"""Which nodes get registers: the roots, each a sum of groups of atoms behind one chain of index maps."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from tpnum.law import graph
from tpnum.lower.codes import every, union, within
from tpnum.lower.linear import Chain, Pull, form, is_linear, operands
from tpnum.lower.unsupported import Unsupported, blamed

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    import numpy as np

    from tpnum.lower.codes import Cells

    Grid = tuple[tuple[str, int, int], ...]
    """Names of axes with their sizes for the first and the second input, in the order of their names."""


class Group(NamedTuple):
    """The atoms of a root that go through one chain together."""

    chain: Chain
    atoms: tuple[tuple[float, graph.Pair], ...]

    @property
    def carried(self) -> bool:
        """Whether it comes from the step before."""
        return any(step.carried for step in self.chain)


@dataclass(eq=False)
class Root:
    """A node that has a register: the sum of its groups.

    ``held`` is "inc" where it is kept as increments, "cov" as a covariance.  ``pooled``: its chains mix
    positions, so that it lives in a buffer and the region above reads it from there.  ``apart``: no
    instruction computes it, so that it is a region of its own, between buffers.
    """

    node: graph.Pair
    groups: tuple[Group, ...]
    held: str
    pooled: bool
    level: int
    loads: tuple[Root, ...]
    """The roots that its atoms read, in the order of first use."""
    twin: Root | None = None
    """The root that has these covariances in its increments."""
    apart: bool = False
    inner: tuple[graph.Pair, ...] = ()
    """Of one apart whose positions talk to each other, the nodes that are computed with it, itself last."""

    @property
    def atoms(self) -> tuple[tuple[float, graph.Pair], ...]:
        """Those of all groups."""
        return tuple(atom for group in self.groups for atom in group.atoms)

    @property
    def read(self) -> int:
        """The first level that may read it."""
        return self.level + (self.pooled or self.apart)


def grid_of(node: graph.Pair) -> Grid:
    """The axes of a node that has cells, tied ones with both sizes alike."""
    tied = [(name, size, size) for name, size in node.tied]
    cols = dict(node.cols)
    return tuple(sorted([*tied, *((name, size, cols[name]) for name, size in node.rows)]))


def real(cells: Cells, grid: Grid, slot: str) -> np.ndarray:
    """Which cells of a grid along a slot are none of the padding; a slot that it lacks has one position."""
    return within(cells, *next(((n, m) for name, n, m in grid if name == slot), (1, 1)))


def whole(node: graph.Pair) -> list[Cells]:
    """All cells of a node, by axis, the first input's positions first."""
    tied = dict(node.tied)
    return [every(n, n if name in tied else m, name in tied) for name, n, m in grid_of(node)]


def extend(spaces: list[Cells], cells: Iterable[Cells]) -> None:
    """Add cells to those of a space, axis by axis."""
    spaces[:] = [union(space, found) for space, found in zip(spaces, cells, strict=True)]


class Network:
    """The roots of a plan's nodes in order, operands first.

    Those of ``apart`` have regions of their own, cell by cell; those of ``foreign`` are in islands
    (`tpnum.lower.islands`).
    """

    def __init__(self, outputs: list[graph.Pair], apart: Container[int] = (), foreign: Container[int] = ()):
        self.order = order = graph.schedule(outputs)
        uses = readers(order)
        wanted: set[int] = {id(node) for node in outputs}
        above: dict[int, list[graph.Pair]] = {}
        self.linear = {id(node) for node in order if is_linear(node)}
        for node in order:
            below = operands(node)
            if id(node) not in self.linear or isinstance(node, graph.Carried):
                wanted |= {id(child) for child in below}
            for child in below:
                above.setdefault(id(child), []).append(node)
        for node in order:
            over = above.get(id(node), [])
            if id(node) in self.linear and (
                self._shared(node, uses) or self._pools(node, over) or self._shifted(node, over)
            ):
                wanted.add(id(node))
        wanted = {name for name in wanted & self.linear if name not in foreign}
        islands = islands_of(order, foreign)
        kept = wanted | {id(read) for nodes in islands.values() for read in (nodes[-1], *boundary(nodes))}
        alone = [node for node in order if id(node) in apart]
        kept |= {id(read) for node in alone for read in (node, *buffered(node))}
        self.outputs = outputs
        self.roots: list[Root] = []
        self.by_node: dict[int, Root] = {}
        self._pulls: dict[tuple[Chain, tuple[str, ...], bool], Pull] = {}
        for node in order:
            if id(node) in islands:
                self._add_apart(node, boundary(islands[id(node)]), tuple(islands[id(node)]))
            elif id(node) in apart:
                self._add_apart(node, buffered(node))
            elif id(node) in kept:
                with blamed(node):
                    self._add(node, kept)
        covs = [node.call.cov for node in order if isinstance(node, graph.Dual)]
        factors = {id(pair) for cov in covs for pair in (cov, *self.factors_of(cov))}
        self._hold({id(pair) for pair in outputs} | factors)
        self._lift()
        self.depth = 1 + max((root.level for root in self.roots), default=0)

    def _lift(self) -> None:
        """States belong to the level of what they are carried from, and what reads them to none below it."""
        carried: dict[int, list[Root]] = {}
        for root in self.roots:
            for group in root.groups if any(group.carried for group in root.groups) else ():
                found = [r for _, atom in group.atoms for r in self.read_by(atom)]
                carried.setdefault(id(root), []).extend(found if group.carried else ())
        settled = not carried
        for _ in range(len(self.roots) + 1):
            if settled:
                break
            before = [root.level for root in self.roots]
            for root in self.roots:
                reads = [r.level + 1 if root.apart else r.read for r in root.loads]
                root.level = max([root.level, *reads, *(r.read for r in carried.get(id(root), ()))])
            settled = before == [root.level for root in self.roots]
        mixed = any(len(g.chain) > 1 for root in self.roots for g in root.groups if g.carried)
        apart = any(r.read != root.level for root in self.roots for r in carried.get(id(root), ()))
        if mixed or apart or not settled:
            raise Unsupported("a recurrence whose steps mix positions")

    def _hold(self, wanted: set[int]) -> None:
        """Increments are kept where somebody needs them: functions, and what is made of them linearly."""
        size = -1
        while len(wanted) > size:  # a carried state needs those of a later root
            size = len(wanted)
            for root in reversed(self.roots):
                if root.inner:
                    wanted |= graph.increments_read(list(root.inner), wanted)
                elif root.held == "inc" and id(root.node) in wanted:
                    wanted |= {
                        id(pair)
                        for group in root.groups
                        for _, atom in group.atoms
                        for pair in (atom, *self.factors_of(atom))
                    }
        for root in self.roots:
            if root.held == "inc" and id(root.node) not in wanted:
                root.held = "cov"

    @staticmethod
    def _shared(node: graph.Pair, uses: dict[int, int]) -> bool:
        """Whether a sum that several read is worth a register: not with more cells than what it is of."""
        if uses.get(id(node), 0) < 2 or not isinstance(node, graph.Sum):
            return False
        return bool(node.parts) and not _spread(node)

    @staticmethod
    def _pools(node: graph.Pair, readers: list[graph.Pair]) -> bool:
        """Whether it is the last of the steps that mix positions."""
        if not isinstance(node, graph.Mapped) or not _mixing(node):
            return False
        return any(not (isinstance(r, graph.Mapped) and _mixing(r)) for r in readers)

    @staticmethod
    def _shifted(node: graph.Pair, readers: list[graph.Pair]) -> bool:
        """Whether a constant in it goes through an index map, which needs cells to act on."""
        if not any(isinstance(reader, graph.Mapped) for reader in readers):
            return False
        stack = [node]
        while stack:
            at = stack.pop()
            if isinstance(at, graph.Shared):
                return True
            if isinstance(at, graph.Sum) and is_linear(at):
                stack += operands(at)
        return False

    def _add(self, node: graph.Pair, kept: set[int]) -> None:
        groups = tuple(Group(chain, tuple(atoms.values())) for chain, atoms in form(node, kept).items())
        pooled = any(step.mixes for group in groups for step in group.chain)
        if pooled and not all(group.chain for group in groups):
            raise Unsupported("a pooled variable and another are added in one line")
        held = "inc" if node.increments and node.norms is not None and not pooled else "cov"
        below = [a for g in groups if not g.carried for _, a in g.atoms]
        loads = tuple({id(r): r for a in below for r in self.read_by(a)}.values())
        level = max((root.read for root in loads), default=0)
        self.by_node[id(node)] = Root(node, groups, held, pooled, level, loads)
        self.roots.append(self.by_node[id(node)])

    def _add_apart(
        self, node: graph.Pair, reads: list[graph.Pair], inner: tuple[graph.Pair, ...] = ()
    ) -> None:
        loads = tuple({id(read): self.by_node[id(read)] for read in reads}.values())
        held = "inc" if node.increments and node.norms is not None else "cov"
        if inner and any(
            read.increments and root.held == "cov" for read, root in zip(reads, loads, strict=True)
        ):
            held = "cov"
        level = 1 + max((root.level for root in loads), default=-1)
        self.by_node[id(node)] = Root(node, (), held, False, level, loads, apart=True, inner=inner)
        self.roots.append(self.by_node[id(node)])

    def find_twins(self) -> None:
        """Covariances that some increments hold as well: the tangent kernel of a first layer."""
        held = {_form_key(root): root for root in self.roots if root.held == "inc" and not root.apart}
        for root in self.roots:
            if root.held == "cov" and not root.pooled and not root.apart:
                root.twin = held.get(_form_key(root))

    def pull(self, chain: Chain, above: tuple[str, ...], increments: bool) -> Pull:
        """What cells read through a chain, one for all layers whose index maps are the same."""
        key = chain, above, increments
        if key not in self._pulls:
            self._pulls[key] = Pull(*key)
        return self._pulls[key]

    def factors_of(self, atom: graph.Pair) -> list[graph.Pair]:
        """The nodes that a sum which is not linear multiplies, and those that such sums among them do."""
        if not isinstance(atom, graph.Sum) or is_linear(atom) or id(atom) in self.by_node:
            return []
        below = graph.operands(atom)
        return [*below, *(inner for pair in below for inner in self.factors_of(pair))]

    def read_by(self, atom: graph.Pair) -> list[Root]:
        """The roots that an atom reads: itself, or what it is a function of."""
        if id(atom) in self.by_node:
            return [self.by_node[id(atom)]]
        return [root for child in operands(atom) for root in self.read_by(child)]


def _form_key(root: Root) -> frozenset[Any]:
    return frozenset(
        (group.chain, frozenset((coef, _name(atom)) for coef, atom in group.atoms)) for group in root.groups
    )


def _name(atom: graph.Pair) -> tuple[str, Any]:
    """What makes an atom the same as another: its identity, or the value of a constant."""
    return ("constant", atom.value) if isinstance(atom, graph.Shared) else ("node", id(atom))


def readers(order: list[graph.Pair], outputs: Iterable[graph.Pair] = ()) -> dict[int, int]:
    """How many nodes read each node, outputs once more; value and slope of one dual call are one reader."""
    calls: set[int] = set()
    uses: dict[int, int] = {}
    for node in order:
        if isinstance(node, graph.Dual):
            if id(node.call) in calls:
                continue
            calls.add(id(node.call))
        for child in operands(node):
            uses[id(child)] = uses.get(id(child), 0) + 1
    for node in outputs:
        uses[id(node)] = uses.get(id(node), 0) + 1
    return uses


def buffered(node: graph.Pair) -> list[graph.Pair]:
    """What a node that is a region of its own reads from buffers."""
    return [read for read in graph.operands(node) if not isinstance(read, graph.Shared)]


def islands_of(order: list[graph.Pair], foreign: Container[int]) -> dict[int, list[graph.Pair]]:
    """Per foreign node that others read, by identity, the foreign ones that are computed with it, it last."""
    outside = {
        id(read)
        for node in order
        if id(node) not in foreign
        for read in operands(node)
        if id(read) in foreign
    }
    cells = {id(node) for node in order if id(node) not in foreign and not isinstance(node, graph.Shared)}
    return {
        id(node): graph.schedule([node], cells | (outside - {id(node)}))
        for node in order
        if id(node) in outside
    }


def boundary(nodes: list[graph.Pair]) -> list[graph.Pair]:
    """What the nodes of an island read of others, each once."""
    own = {id(node) for node in nodes}
    found = {id(read): read for node in nodes for read in graph.operands(node) if id(read) not in own}
    return list(found.values())


def _mixing(node: graph.Mapped) -> bool:
    rows, cols = node.row_map, node.col_map
    if rows is None or cols is None:
        return True
    below = dict(node.operand.tied)
    return rows.axis not in below and any(len(row) > 1 for row in (*rows.rows, *cols.rows))


def _spread(node: graph.Pair) -> bool:
    """Whether a node stands on a window's cells: more of them than positions."""
    stack = [node]
    while stack:
        at = stack.pop()
        if isinstance(at, graph.Mapped):
            cells = prod(size for _, size in (*at.tied, *at.rows, *at.cols))
            below = prod(size for _, size in (*at.operand.tied, *at.operand.rows, *at.operand.cols))
            return cells > below
        if isinstance(at, graph.Sum) and is_linear(at):
            stack += [pair for part in at.parts for pair in part.pairs]
    return False
