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
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from tpnum.law import graph
from tpnum.lower.codes import behind, code, decoded, ragged, union
from tpnum.lower.unsupported import Unsupported

if TYPE_CHECKING:
    from tpnum.lower.codes import Cells

    Outs = tuple[tuple[str, int, int], ...]
    """Names of axes with their sizes for the first and the second input, in the order of a map's rows."""

Rows: TypeAlias = tuple[tuple[tuple[int, float], ...], ...]
Link: TypeAlias = "tuple[str | None, str | None]"
"""An axis above and one below, None where either vanishes or comes of nothing."""


class Taps(NamedTuple):
    """Who of some cells reads which cells below, by what weights, in order."""

    reader: np.ndarray
    source: Cells
    weight: np.ndarray


class Reads(NamedTuple):
    """The rows of a map in arrays; one more at the end reads nothing."""

    first: np.ndarray
    length: np.ndarray
    indices: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, rows: Rows) -> Reads:
        """Rows as arrays."""
        count = np.array([*map(len, rows), 0], np.int64)
        index = np.array([i for row in rows for i, _ in row], np.int64)
        weight = np.array([w for row in rows for _, w in row], np.float64)
        return cls(np.cumsum(count) - count, count, index, weight)

    def only(self, rows: np.ndarray, none: int) -> tuple[np.ndarray, np.ndarray]:
        """The first index that some rows read, and its weight; ``none`` and 0 where one reads nothing."""
        at = np.where(self.length > 0, self.first, -1)[rows]
        return np.append(self.indices, none)[at], np.append(self.weights, 0.0)[at]


@dataclass(frozen=True)
class Step:
    """One index map: ``axis`` is replaced by ``out`` on both sides, or its p != p' are dropped or made zero.

    ``sizes`` are those of ``axis`` on either side, ``tied`` whether only p = p' exists of it below;
    ``delays`` are those of a carried state on either side, where what is below stands on what is above.
    """

    kind: Literal["map", "embed", "restrict"]
    axis: str
    out: Outs
    rows: Rows
    cols: Rows
    sizes: tuple[int, int]
    tied: bool
    delays: tuple[int, int] = (0, 0)

    @property
    def carried(self) -> bool:
        """Whether what is below stands on what is above, at earlier steps."""
        return any(self.delays)

    @cached_property
    def reads(self) -> tuple[Reads, Reads]:
        """The rows of either side in arrays."""
        return Reads.of(self.rows), Reads.of(self.cols)

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
        delays = int(node.row_delay is not None), int(node.col_delay is not None)
        return (Step("map", name, ((name, *sizes),), shifts[0], shifts[1], sizes, tied, delays),)
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
        self.links: list[Link] = [(_only(g.above), _only(g.below)) for g in groups]
        self._steps = {link: g.steps for link, g in zip(self.links, groups, strict=True)}

    def reached(self, link: Link, cells: Cells) -> Cells:
        """The cells below that these read, and those that these read in turn through a carried state."""
        for step in self._steps[link]:
            cells = behind(cells, step.delays) if step.carried else cells
        return union(self.taps(link, cells).source)

    def along(self, axis: str) -> Link | None:
        """The link of an axis: both its names are the axis', or one is missing."""
        return next((link for link in self.links if axis in link), None)

    def taps(self, link: Link | None, cells: Cells) -> Taps:
        """What cells read; along an axis that is not there, above or at all, they are (0, 0)."""
        if link is None:
            return Taps(np.arange(cells.size), cells, np.ones(cells.size))
        upper, lower = link
        at = {} if upper is None else {upper: cells}
        reader, weight = np.arange(cells.size), np.ones(cells.size)
        for step in self._steps[link]:
            names = _above(step)
            which, source, factor = self._sources(step, [at[name] for name in names], reader.size)
            at = {name: found[which] for name, found in at.items() if name not in names}
            at[step.axis] = source
            reader, weight = reader[which], weight[which] * factor
        return _merged(reader, np.zeros_like(reader) if lower is None else at[lower], weight)

    def _sources(self, step: Step, at: list[Cells], count: int) -> tuple[np.ndarray, Cells, np.ndarray]:
        """One step downwards from ``count`` cells of the axes above it: which one reads what, and weights."""
        if step.kind == "restrict":
            return np.arange(count), at[0], np.ones(count)
        if step.kind == "embed":
            return self._apart(step, at[0])
        rows, cols = step.reads
        above, below = (_indices(step, at, side, count) for side in (0, 1))
        if self.increments and step.tied and not step.out:  # a sum of independent members
            which, k = ragged(rows.length[above])
            k += rows.first[above][which]
            return which, code(rows.indices[k], rows.indices[k]), rows.weights[k] ** 2
        if self.increments:
            (i, v), (j, u) = rows.only(above, step.sizes[0]), cols.only(below, step.sizes[1])
            both = np.where(v * u != 0.0, v * u, np.where(v != 0.0, v**2, u**2))  # weights are all alike
            some = np.flatnonzero((i < step.sizes[0]) | (j < step.sizes[1]))
            return some, code(i, j)[some], both[some]
        wide = cols.length[below]
        which, k = ragged(rows.length[above] * wide)
        one, other = np.divmod(k, np.maximum(wide[which], 1))
        one, other = one + rows.first[above][which], other + cols.first[below][which]
        i, j, both = rows.indices[one], cols.indices[other], rows.weights[one] * cols.weights[other]
        if step.tied:
            same = np.flatnonzero(i == j)
            which, i, j, both = which[same], i[same], j[same], both[same]
        return which, code(i, j), both

    def _apart(self, step: Step, cells: Cells) -> tuple[np.ndarray, Cells, np.ndarray]:
        """What is read through the zeros between different members: of increments, either's second moment."""
        n, m = step.sizes
        p, q = decoded(cells)
        which = np.flatnonzero(p == q)
        source = cells[which]
        if self.increments:
            other = np.flatnonzero(p != q)
            which = np.concatenate([which, other, other])
            source = np.concatenate([source, code(p[other], m), code(n, q[other])])
            some = source != code(n, m)
            order = np.argsort(which[some], kind="stable")
            which, source = which[some][order], source[some][order]
        return which, source, np.ones(which.size)


def _indices(step: Step, at: list[Cells], side: int, count: int) -> np.ndarray:
    """The rows of a map that one side's positions take, -1 in the padding."""
    place, inside = np.zeros(count, np.int64), np.ones(count, bool)
    for (_, *sizes), cells in zip(step.out, at, strict=True):
        index = decoded(cells)[side]
        inside &= index < sizes[side]
        place = place * sizes[side] + index
    return np.where(inside, place, -1)


def _merged(reader: np.ndarray, source: Cells, weight: np.ndarray) -> Taps:
    """Taps in order, each once."""
    if (reader[1:] > reader[:-1]).all():
        return Taps(reader, source, weight)
    order = np.lexsort((source, reader))
    reader, source, weight = reader[order], source[order], weight[order]
    fresh = np.append(True, (reader[1:] != reader[:-1]) | (source[1:] != source[:-1]))
    at = np.flatnonzero(fresh)
    return Taps(reader[at], source[at], weight if at.size == order.size else np.add.reduceat(weight, at))
