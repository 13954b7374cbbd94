"""Linear forms: what a pair node is of the nodes below it through index maps and sums.

Index maps act on both sides of a pair, K'[P, Q] = sum A[P, p] B[Q, q] K[p, q], axis by axis; so does a sum
over a tied axis, and the zeros between different members of a matrix family.  A *chain* of such steps takes
a node to another.  `pull` says which cells of the lower node a cell of the upper one reads.

Covariances and increments D = E (Z - Z')^2 pass through a chain alike but for padding: where only one of
the two positions is outside, the covariance reads nothing and the increment the other position's second
moment, which is the increment of the cell (p, n), n being the index that stands for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from tpnum.law import graph
from tpnum.lower.unsupported import Unsupported

if TYPE_CHECKING:
    Outs = tuple[tuple[str, int, int], ...]
    """Names of axes with their sizes for the first and the second input, in the order of a map's rows."""

Cell: TypeAlias = tuple[int, int]
"""Positions along one axis of the first and the second input; the axis' size stands for the padding."""

Rows: TypeAlias = tuple[tuple[tuple[int, float], ...], ...]


@dataclass(frozen=True)
class Step:
    """One index map: ``axis`` is replaced by ``out`` on both sides, or its p != p' are dropped or made zero.

    ``sizes`` are those of ``axis`` on either side, ``tied`` whether only p = p' exists of it below;
    ``carried`` that what is below stands on what is above, at earlier steps.
    """

    kind: Literal["map", "embed", "restrict"]
    axis: str
    out: Outs
    rows: Rows
    cols: Rows
    sizes: tuple[int, int]
    tied: bool
    carried: bool = False

    @property
    def mixes(self) -> bool:
        """Whether it sums over positions of the two inputs independently."""
        return self.kind == "map" and not self.tied and any(len(row) > 1 for row in self.rows + self.cols)


Chain: TypeAlias = tuple[Step, ...]
"""Steps from a node upwards."""


def steps_of(node: graph.Pair) -> Chain:
    """The steps that a node takes its operand through."""
    if isinstance(node, graph.Carried):
        name = node.axis
        tied = name in dict(node.tied)
        if not tied and not (name in dict(node.rows) and name in dict(node.cols)):
            raise Unsupported("a recurrence beside what has no steps")
        first, second = (node.tied, node.tied) if tied else (node.rows, node.cols)
        sizes = dict(first)[name], dict(second)[name]
        shifts = tuple(
            delay.index.rows if delay else tuple(((k, 1.0),) for k in range(size))
            for delay, size in zip((node.row_delay, node.col_delay), sizes, strict=True)
        )
        return (Step("map", name, ((name, *sizes),), shifts[0], shifts[1], sizes, tied, carried=True),)
    if isinstance(node, graph.Mapped):
        rows, cols = node.row_map, node.col_map
        if rows is None or cols is None or rows.axis != cols.axis:
            raise Unsupported("an index map acts on one of two lines only")
        if [name for name, _ in rows.out] != [name for name, _ in cols.out]:
            raise Unsupported("an index map makes axes of two names")
        out = tuple((name, n, m) for (name, n), (_, m) in zip(rows.out, cols.out, strict=True))
        below = node.operand
        own = dict(below.tied)
        if rows.axis in own:
            sizes = (own[rows.axis],) * 2
        else:
            sizes = dict(below.rows)[rows.axis], dict(below.cols)[cols.axis]
        return (Step("map", rows.axis, out, rows.rows, cols.rows, sizes, rows.axis in own),)
    assert isinstance(node, (graph.Embedded, graph.Diagonal))
    kind: Literal["embed", "restrict"] = "embed" if isinstance(node, graph.Embedded) else "restrict"
    return tuple(Step(kind, name, (), (), (), (size, size), False) for name, size in node.axes)


def is_linear(node: graph.Pair) -> bool:
    """Whether a node is a sum of multiples and index maps of others."""
    if isinstance(node, graph.Sum):
        return all(part.bare for part in node.parts)
    return isinstance(node, (graph.Mapped, graph.Embedded, graph.Diagonal, graph.Carried))


def operands(node: graph.Pair) -> list[graph.Pair]:
    """What a node is computed from, a carried state from what it is carried to."""
    return node.below if isinstance(node, graph.Carried) else graph.operands(node)


Form: TypeAlias = dict[Chain, dict[int, tuple[float, graph.Pair]]]
"""Per chain, the atoms that go through it together and their coefficients, by identity."""


def form(node: graph.Pair, kept: set[int]) -> Form:
    """A node as chains over atoms: nodes that are not linear, or are ``kept`` (the node itself apart)."""
    made: Form = {}
    stack: list[tuple[float, Chain, graph.Pair]] = [(1.0, (), node)]
    inside = False  # a carried state may stand on the node itself
    while stack:
        coef, chain, at = stack.pop()
        whole, inside = not inside, True
        if not is_linear(at) or (id(at) in kept and not whole):
            atoms = made.setdefault(chain, {})
            atoms[id(at)] = (atoms.get(id(at), (0.0, at))[0] + coef, at)
        elif isinstance(at, graph.Sum):
            stack += [(coef * part.coef, chain, part.pairs[0]) for part in reversed(at.parts)]
        else:
            stack.append((coef, steps_of(at) + chain, operands(at)[0]))
    return made


class _Group(NamedTuple):
    """Axes above and below that are tied together, and the steps between them from above."""

    above: list[str]
    below: list[str]
    steps: list[Step]


def _above(step: Step) -> list[str]:
    """The axes above a step."""
    return [name for name, _, _ in step.out] if step.kind == "map" else [step.axis]


def _only(names: list[str]) -> str | None:
    return names[0] if names else None


class Pull:
    """What the cells along the axes of an upper node read below it, through a chain, axis by axis.

    ``links`` are (upper axis or None, lower axis or None): a sum makes an axis vanish, a tied one comes of
    nothing.  Raises `Unsupported` where one axis becomes two.
    """

    def __init__(self, chain: Chain, above: tuple[str, ...], increments: bool):
        self.chain, self.increments = chain, increments
        groups = [_Group([name], [name], []) for name in above]
        for step in reversed(chain):  # from above: the out axes are replaced by the axis
            if step.kind != "map":
                next(g for g in groups if step.axis in g.below).steps.append(step)
                continue
            names = [name for name, _, _ in step.out]
            touched = [g for g in groups if set(g.below) & set(names)]
            for g in touched:
                groups.remove(g)
            joined = _Group(
                [n for g in touched for n in g.above],
                [*(n for g in touched for n in g.below if n not in names), step.axis],
                [*(s for g in touched for s in g.steps), step],
            )
            groups.append(joined)
        for g in groups:  # offsets that were summed and belong to a window join it
            if len(g.below) > 1 or len(g.above) > 1:
                raise Unsupported("an index axis was split and not summed again")
            if g.below and g.above and g.below != g.above:
                raise Unsupported("an index axis was renamed")
        self.links = [(_only(g.above), _only(g.below)) for g in groups]
        self._steps = {link: g.steps for link, g in zip(self.links, groups, strict=True)}
        self._along = {
            link
            for link, steps in self._steps.items()
            if None not in link and all(len(_above(step)) == 1 for step in steps)
        }
        self._memo: dict[tuple[tuple[str | None, str | None], Cell], dict[Cell, float]] = {}

    def __call__(self, link: tuple[str | None, str | None], cell: Cell) -> dict[Cell, float]:
        """The cells below and their weights; of an axis that comes of nothing, (0, 0) is asked."""
        key = (link, cell)
        if key not in self._memo:
            made: dict[Cell, float] = {}
            for found, weight in self._single(link, cell) if link in self._along else self._joint(link, cell):
                made[found] = made.get(found, 0.0) + weight
            self._memo[key] = made
        return self._memo[key]

    def _single(self, link: tuple[str | None, str | None], cell: Cell) -> list[tuple[Cell, float]]:
        """What a cell reads through steps that take one axis to one."""
        terms = [(cell, 1.0)]
        for step in self._steps[link]:
            terms = [(source, w * v) for at, w in terms for source, v in self._sources(step, (at,))]
        return terms

    def _joint(self, link: tuple[str | None, str | None], cell: Cell) -> list[tuple[Cell, float]]:
        """What a cell reads where axes vanish, come of nothing, or are there between only."""
        start = {} if link[0] is None else {link[0]: cell}
        terms: list[tuple[dict[str, Cell], float]] = [(start, 1.0)]
        for step in self._steps[link]:
            names = _above(step)
            terms = [
                ({**{name: c for name, c in at.items() if name not in names}, step.axis: source}, w * v)
                for at, w in terms
                for source, v in self._sources(step, tuple(at[name] for name in names))
            ]
        return [(at[link[1]] if link[1] is not None else (0, 0), w) for at, w in terms]

    def _sources(self, step: Step, at: tuple[Cell, ...]) -> list[tuple[Cell, float]]:
        """One step downwards from cells of the axes above it."""
        n, m = step.sizes
        if step.kind == "restrict":
            return [(at[0], 1.0)]
        if step.kind == "embed":
            p, q = at[0]
            if p == q:
                return [(at[0], 1.0)]
            return [(c, 1.0) for c in ((p, m), (n, q)) if c != (n, m)] if self.increments else []
        rows, cols = self._indices(step, at, 0), self._indices(step, at, 1)
        if not self.increments:
            return [((i, j), v * u) for i, v in rows for j, u in cols if not step.tied or i == j]
        if step.tied and not step.out:  # a sum of independent members
            return [((i, i), v * v) for i, v in rows]
        (i, v), (j, u) = (s[0] if s else (size, 0.0) for s, size in ((rows, n), (cols, m)))
        return [] if (i, j) == (n, m) else [((i, j), v * u or v * v or u * u)]  # weights are all alike

    @staticmethod
    def _indices(step: Step, at: tuple[Cell, ...], side: int) -> tuple[tuple[int, float], ...]:
        """The indices that one side's position reads, none in the padding."""
        place = 0
        for (_, *sizes), cell in zip(step.out, at, strict=True):
            index, size = cell[side], sizes[side]
            if index >= size:
                return ()
            place = place * size + index
        return (step.rows, step.cols)[side][place]
