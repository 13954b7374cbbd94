"""Which back end a piece of the graph gets: instructions where there are any, NumPy node by node elsewhere.

A node that no instruction computes is cut out: its operands go to buffers, the general path's rule makes its
block of them, and what stands on it begins with that.  Everything else stays compiled.  Functions of a cell
are computed on the cells that are demanded (`tpnum.lower.blocks`), what relates positions as no instruction
does as whole blocks, with all that is around it of that kind (`tpnum.lower.islands`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from tpnum.kernels._views import WIDTH
from tpnum.law import graph
from tpnum.lower.blocks import BlockLayout, BlockLevel, BlockProgram
from tpnum.lower.builder import closed, refusal
from tpnum.lower.islands import IslandLayout, IslandLevel, IslandProgram, even, foreign, renamed
from tpnum.lower.layout import Layout
from tpnum.lower.program import Program
from tpnum.lower.schedule import Level, Schedule
from tpnum.lower.unsupported import Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from tpnum.evaluate.profile import ProfileValues

    Profiles = tuple[ProfileValues, ProfileValues]


STRIP = 512 << 10
"""Bytes of a strip's registers that stay in the second-level cache."""
VECTOR = 64
"""Bytes that the processor computes with at once."""
CELL = 128
"""A cell costs as much as so many bytes of its lanes, besides these."""
SHORT = 256
"""Bytes of a cell's lanes that are long enough to pay for a call."""
LANES = 128
"""The most columns at a time: more hide no more of what an instruction waits for."""


class Regions(NamedTuple):
    """A schedule, its levels laid out, and their programs for the examples that were looked at."""

    schedule: Schedule
    layouts: list[Layout | BlockLayout]
    programs: list[Program | BlockProgram]


def regions(outputs: list[graph.Pair], profiles: Profiles, dtype: np.dtype) -> Regions:
    """The schedule of some nodes, which back end each level has being settled on a few examples.

    Raises `Unsupported` where not even levels of their own help.
    """
    islands, apart = cut(outputs), refused(outputs, profiles)
    for reasons in (islands, apart):
        _name(outputs, reasons)
    while True:
        try:
            by_cells = tuple((node, reason) for node, reason in apart.items() if node not in islands)
            schedule, layouts = _laid_out(tuple(outputs), by_cells, tuple(islands.items()))
            programs = [program(one, profiles, dtype, lanes(dtype)) for one in layouts]
        except Unsupported as why:
            more = _nodes_of(outputs, why.call, str(why))
            if more and not more.keys() <= apart.keys():
                apart |= more
            elif why.node is not None and id(why.node) not in islands and not _carries(outputs):
                islands[id(why.node)] = str(why)
            else:
                raise
            continue
        return Regions(schedule, layouts, programs)


@lru_cache(maxsize=16)
def _laid_out(
    outputs: tuple[graph.Pair, ...], apart: tuple[tuple[int, str], ...], islands: tuple[tuple[int, str], ...]
) -> tuple[Schedule, list[Layout | BlockLayout]]:
    """A schedule and where the cells of its levels are: the same for all data, for all calls and tiles."""
    schedule = Schedule(list(outputs), dict(apart), dict(islands))
    return schedule, [layout(level, schedule) for level in schedule.levels]


def layout(level: Level | BlockLevel, schedule: Schedule) -> Layout | BlockLayout:
    """Where the cells of a level are."""
    if isinstance(level, IslandLevel):
        return IslandLayout(level, schedule.buffers)
    if isinstance(level, BlockLevel):
        return BlockLayout(level, schedule.buffers)
    return Layout(level, schedule.buffers)


def program(
    layout: Layout | BlockLayout, profiles: Profiles, dtype: np.dtype, lanes: int
) -> Program | BlockProgram:
    """A level's program for other examples, ``lanes`` columns at a time."""
    if isinstance(layout, IslandLayout):
        return IslandProgram(layout, profiles, lanes)
    if isinstance(layout, BlockLayout):
        return BlockProgram(layout, profiles, lanes)
    return Program(layout, profiles, dtype, lanes)


def lanes(
    dtype: np.dtype,
    programs: Sequence[Program | BlockProgram] = (),
    columns: int = 0,
    symmetric: bool = False,
) -> int:
    """Columns at a time: as many as leave what is gone over in a cache, of these the fewest in as few strips.

    What is gone over is what the programs hold together, the cache that of the second level.  Whole
    `tpnum.kernels._views.WIDTH` bytes of them, or fewer vectors for a few columns where no instruction asks
    for more.
    """
    unit, least = WIDTH // dtype.itemsize, SHORT // dtype.itemsize
    wide = not programs or any(isinstance(one, Program) and one.selection.wide for one in programs)
    few = max(1, columns // (4 if symmetric else 1))
    if not wide and least >= 8 * few:
        while least * dtype.itemsize > VECTOR and least >= 8 * few:
            least //= 2
        return least
    spread = max((one.spread for one in programs), default=1) * dtype.itemsize

    whole = has_series(programs)

    def cost(count: int) -> int:
        """By rows of all strips, of a symmetric matrix those up to their last columns; by lanes if whole."""
        ends = range(count, columns + count, count)
        rows = sum(min(end, columns) for end in ends) if symmetric else len(ends)
        return rows * (count + CELL // dtype.itemsize) if whole else rows

    most = max(least, min(LANES, STRIP // spread, -(-(few if whole else columns) // unit) * unit))
    return min(range(least, most + 1, unit), key=cost)


def has_series(programs: Sequence[Program | BlockProgram]) -> bool:
    """Whether one of the programs takes whole strips: some lanes of their coefficients would be a copy."""
    return any(isinstance(one, Program) and one.by_series for one in programs)


def cut(outputs: list[graph.Pair]) -> dict[int, str]:
    """The nodes that islands are of, by identity, and why: what has no cells, or relates them otherwise."""
    nodes = graph.schedule(outputs)
    if any(isinstance(node, graph.Attention) for node in nodes):
        raise Unsupported("attention with random logits")
    found = {id(node): reason for node in nodes if (reason := foreign(node))}
    read = {id(below) for node in nodes if id(node) not in found for below in graph.operands(node)}
    read |= {id(node) for node in outputs}
    for node in reversed(nodes):  # other names of what only islands read
        if renamed(node) and id(node) not in read:
            found[id(node)] = "an index axis was renamed"
    if any(isinstance(node, graph.Carried) and id(node) in found for node in nodes):
        raise Unsupported("a recurrence over variables with other axes")
    if not all(map(even, outputs)):
        raise Unsupported("an index axis belongs to one of two lines only")
    return found


def _name(outputs: list[graph.Pair], reasons: dict[int, str]) -> None:
    """Say of the reasons of expectations which lines, and layers of a net, these are of."""
    for node in graph.schedule(outputs):
        if id(node) in reasons and isinstance(node, (graph.PairExpect, graph.Jointly)):
            reasons[id(node)] += f", {node.where}"


def refused(outputs: list[graph.Pair], profiles: Profiles) -> dict[int, str]:
    """The nodes that no instruction computes, by identity, and why: it takes no schedule to know of these."""
    found: dict[int, str] = {}
    reasons: dict[int, str] = {}
    for node in graph.schedule(outputs):
        if isinstance(node, graph.PairExpect):
            found[id(node)] = "an expectation in more than two dimensions"
        elif isinstance(node, graph.Dual):
            call = node.call
            if closed(call):
                continue
            if id(call) not in reasons:
                first = profiles[0].prepared(call.f, call.means[0], call.vars[0], call.f_scalars)
                second = profiles[1].prepared(call.g, call.means[1], call.vars[1], call.g_scalars)
                reasons[id(call)] = refusal(first, second, "slope" in call.wanted)
            if reasons[id(call)]:
                found[id(node)] = reasons[id(call)]
    return found


def _carries(outputs: list[graph.Pair]) -> bool:
    """Whether there are carried states, which the general path does not know."""
    return any(isinstance(node, graph.Carried) for node in graph.schedule(outputs))


def _nodes_of(outputs: list[graph.Pair], call: graph.DualCall | None, reason: str) -> dict[int, str]:
    """The value and the slope of a call."""
    nodes = graph.schedule(outputs)
    return {id(node): reason for node in nodes if isinstance(node, graph.Dual) and node.call is call}
