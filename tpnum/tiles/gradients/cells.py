"""Contractions of kernels of nets with index axes, and their gradients: cells forwards and back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tpnum.evaluate.plan import Entry
from tpnum.evaluate.returns import Gathered
from tpnum.gauss.prepared import MANY
from tpnum.kernels._arrays import aligned
from tpnum.law import graph
from tpnum.lower.blocks import runs
from tpnum.lower.channels import Asked
from tpnum.lower.numbers import axes_of, inverse
from tpnum.lower.passes import EFFECTS, GIVING, KEEPING
from tpnum.lower.program import Program
from tpnum.lower.regions import Regions, cut, lanes, refused
from tpnum.lower.turned import BackwardsProgram, turned
from tpnum.lower.unsupported import Unsupported
from tpnum.lower.variances import NARROW
from tpnum.tiles.cells import BUFFERS, FEW, CellWorker, block_of, place_of
from tpnum.tiles.grid import Tile
from tpnum.tiles.sinks import ArraySink
from tpnum.tiles.strips import Piece, part_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from tpnum.evaluate.plan import Plan
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.evaluate.profile_adjoints import ProfileAdjoints
    from tpnum.law.moving import Moving
    from tpnum.lower.blocks import BlockProgram
    from tpnum.lower.channels import Channel
    from tpnum.lower.layout import Places
    from tpnum.lower.variances import Variances


SMALL = 128
"""So many examples are looked at as a whole before their tiles."""
SIDES = "rows", "cols"
"""Kinds of sums."""


class Pass(NamedTuple):
    """Buffers behind the way back of some rows against a strip, until the next, and all programs' places.

    Of the ``weights`` of a tile those of what series do not reach are zero by then: it is ``left``.
    """

    buffers: np.ndarray
    places: list[Places]
    rows: tuple[int, int]
    strip: slice
    weights: np.ndarray
    left: list[Tile]


def channels_of(programs: list[Program | BlockProgram]) -> Iterator[tuple[int, Hashable, Channel]]:
    """All channels: the number of the program, the name of the buffer, and what it is."""
    for k, one in enumerate(programs):
        if isinstance(one, BackwardsProgram):
            for n, channel in enumerate(one.channels):
                if (name := (SIDES[channel.side], n)) in one.buffer_nodes:
                    yield k, name, channel


class CellAdjoints(CellWorker):
    """Weighted sums over tiles: the regions that others read forwards, then all of them forwards and back.

    ``apart`` says that an example and itself are left to somebody else, as asked for with ``alone`` they are
    where series do not reach them; ``own`` that these are all that have weights; ``each`` that nothing is
    summed over (`tpnum.tiles.gradients.pairs`).
    """

    def __init__(
        self,
        plan: Plan,
        profiles: tuple[ProfileValues, ProfileValues],
        variances: Variances,
        moving: Moving,
        count: int,
        alone: bool = False,
        own: bool = False,
        each: bool = False,
    ):
        self.moving, self.count, self.apart, self.each = moving, count, False, each
        (self.kind,) = plan.entries
        self._whole: list[Program] = []
        self._probe: list[Program] = []
        few = FEW if plan.has_axes else MANY  # enough for tables of a function's series
        sizes = [profile.size for profile in profiles]
        self.few = max(sizes) if max(sizes) <= SMALL else few
        self.work = np.dtype(np.float64)
        self.lanes = lanes(self.work)
        super().__init__(plan, profiles, ArraySink({self.kind: np.empty(0)}), self.work, None, variances)
        probe, self._probe = self._probe, []
        self.apart = alone and not all(found.selection.tables.complete for found in probe)
        self.lanes = max(lanes(self.work), self.lanes)
        if own and not any(found.selection.wide for found in probe):
            self.lanes = NARROW
        if max(sizes) <= min(self.few, self.slab) and not self.apart:  # it is the code of all tiles
            for one in probe:
                one.lanes = self.lanes
            self._whole = probe

    def _regions(
        self, nodes: list[graph.Pair], few: tuple[ProfileValues, ProfileValues], dtype: np.dtype
    ) -> Regions:
        """All levels both ways: nothing is compiled that is run forwards alone and not read."""
        if cut(nodes) or refused(nodes, few):
            raise Unsupported("some regions are not compiled")
        self.schedule, self._ways = turned(tuple(nodes))
        outputs = {id(node) for node in self.schedule.outputs.values()}
        self._last = [all(id(root.node) in outputs for root in way.level.stored) for way in self._ways]
        self._apex = self._turning(few)
        self._probe = self._compiled(few)
        return Regions(self.schedule, [*self._ways], [*self._probe])

    def _few(self, nodes: list[graph.Pair]) -> tuple[ProfileValues, ProfileValues]:
        first = self._farthest(self.profiles[0], nodes)
        return first, first if self.symmetric else self._farthest(self.profiles[1], nodes)

    def _farthest(self, profile: ProfileValues, outputs: list[graph.Pair]) -> ProfileValues:
        """Examples with the largest variances before functions, where series take most terms; all if few."""
        if profile.size <= self.few:
            return profile
        nodes = [node for node in graph.schedule(outputs) if isinstance(node, graph.Dual)]
        variances = {v.key: v for node in nodes for v in node.call.vars}
        found = [int(profile(v).reshape(profile.size, -1).max(axis=1).argmax()) for v in variances.values()]
        return self.variances.part(profile, np.unique([*range(self.few), *found]))

    def _turning(self, both: tuple[ProfileValues, ProfileValues]) -> int:
        """The last region whose adjoints need values: those behind it can hand theirs on beforehand."""
        for k in reversed(range(1, len(self._ways))):
            if not self._back(k, both, False, GIVING).gives_first:
                return k
        return 0

    def _back(
        self,
        level: int,
        profiles: tuple[ProfileValues, ProfileValues],
        values: bool,
        effects: tuple[str, ...] = EFFECTS,
    ) -> BackwardsProgram:
        asked = Asked(self.moving, self.count, values, self.apart, self.each, effects)
        return BackwardsProgram(self._ways[level], profiles, self.work, self.lanes, asked)

    def programs(self, rows: slice, cols: slice, dtype: np.dtype) -> list[Program | BlockProgram]:
        found, self._whole = self._whole, []  # once: preparing them takes their profile passes
        return [*(found or self._compiled((self._part(0, rows), self._part(1, cols))))]

    def _compiled(self, both: tuple[ProfileValues, ProfileValues]) -> list[Program]:
        """The regions up to the turn forwards, and from there back to the first; then what is behind it."""
        turn, behind = self._apex, range(self._apex + 1, len(self._ways))
        forwards = [
            Program(way, both, self.work, self.lanes)
            for way, last in zip(self._ways[:turn], self._last, strict=False)
            if not last
        ]
        gives = [self._back(k, both, False, GIVING) for k in reversed(behind)]
        back = [self._back(k, both, k == turn or self._last[k]) for k in reversed(range(turn + 1))]
        return [*forwards, *gives, *back, *(self._back(k, both, True, KEEPING) for k in behind)]

    def contract(
        self, tile: Tile, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, tuple[Gathered, Gathered], list[Tile]]:
        """The sum, its derivatives by the coefficients of pairs, and what rows and columns gather.

        Also the parts of the tile that series do not reach, which the others lack.
        """
        programs = self.ready(tile)
        sums, value, left = _Sums(programs, tile, self.lanes), 0.0, []
        for one in self.passes(programs, tile, weights):
            for entry, view in self.values(one):
                wanted = one.weights[place_of(entry, one.rows, one.strip)]
                value += float(entry.weight * (view * wanted).sum())
            sums.take(one)
            left += one.left
        return (np.asarray(value), *sums.results(self.profiles, self.count), left)

    def passes(
        self, programs: list[Program | BlockProgram], tile: Tile, weights: np.ndarray
    ) -> Iterator[Pass]:
        """Forwards and back, a strip of columns and some rows after the other."""
        height = tile.rows.stop - tile.rows.start
        block = int(np.clip(BUFFERS // (8 * max(self._places(programs, 1)[1], 1)), 1, height))
        scratch = aligned(max(p.work_cells for p in programs) * self.lanes, self.work)
        missed = np.zeros(block, np.int64)
        buffers = np.empty(self._places(programs, block)[1] + 1)
        for strip, rows, place in self._weighted(tile, block, weights):
            left: list[Tile] = []
            places, size = self._places(programs, rows[1] - rows[0])
            again = True
            while again:
                buffers[: size + 1] = 0.0
                for entry, node in self._entries():
                    at = places[-1]["adjoint", id(node)][0]
                    view = block_of(node, buffers, at, rows, strip, self.lanes)
                    view += entry.weight * weights[place_of(entry, rows, strip)]
                missed[:] = 0
                for one, starts in zip(programs, places, strict=True):
                    one.run(*place, buffers, starts, scratch, missed, self.stop)
                found = missed[: rows[1] - rows[0]] > 0
                found &= weights[rows[0] : rows[1], strip].any(axis=tuple(range(1, weights.ndim)))
                again = bool(found.any())
                if again:  # without these rows, whose adjoints are zero then
                    at = rows[0]
                    left += [part_of(tile, slice(at + a, at + b), strip) for a, b in runs(found)]
                    weights = weights.copy()
                    weights[rows[0] : rows[1], strip][found] = 0.0
            yield Pass(buffers, places, rows, strip, weights, left)

    def _weighted(self, tile: Tile, block: int, weights: np.ndarray) -> Iterator[Piece]:
        """The pieces of a tile, of their rows those that have weights."""
        for strip, (low, high), (k, (first, _), own) in self.pieces(tile, block):
            wanted = weights[low:high, strip].any(axis=tuple(range(1, weights.ndim)))
            for begin, end in runs(np.asarray(wanted)):
                yield Piece(strip, (low + begin, low + end), (k, (first + begin, first + end), own))

    def values(self, one: Pass) -> Iterator[tuple[Entry, np.ndarray]]:
        """The entries of the kernel, and what is behind a pass of theirs."""
        for entry, node in self._entries():
            at = one.places[-1][id(node)][0]
            yield entry, block_of(node, one.buffers, at, one.rows, one.strip, self.lanes)

    def _entries(self) -> Iterator[tuple[Entry, graph.Pair]]:
        """The entries of the kernel, and the nodes whose buffers they are in."""
        for entry in self.plan.entries[self.kind]:
            yield entry, self.schedule.outputs[id(entry.node)]

    def _places(self, programs: list[Program | BlockProgram], rows: int) -> tuple[list[Places], int]:
        """Where every program's buffers begin for so many rows, and the numbers that they are in all.

        Buffers and their adjoints are shared; sums by rows and columns are not.
        """
        shared: Places = {}
        found: list[Places] = []
        at = 0
        for one in programs:
            assert isinstance(one, Program)  # no others are ever made
            own: Places = {}
            for name, cells in zip(one.buffer_nodes, one.buffer_sizes, strict=True):
                goal = own if isinstance(name, tuple) and name[0] in SIDES else shared
                if name not in goal:
                    goal[name] = at, cells
                    at += one.numbers(name, cells, rows)
            found.append(own)
        return [shared | own for own in found], at


class Squares:
    """The way back through variances of sums over positions: pairs of an example with itself, as cells."""

    def __init__(self, plan: Plan, variances: Variances, moving: Moving):
        self.plan, self.variances, self.moving = plan, variances, moving

    def __call__(self, adjoints: ProfileAdjoints, node: graph.Reduced, bar: np.ndarray) -> np.ndarray:
        """From an adjoint (N, *axes) to parameters and quantities; what is left of it, not zero, has no code.

        That are examples of which series do not reach all pairs of positions, or all of them.
        """
        pair, values = node.pair, adjoints.values
        whole = (None,) * len(pair.tied)
        plan = replace(self.plan, entries={"variance": (Entry(1.0, pair, whole, ()),)})
        try:
            cells = CellAdjoints(
                plan, (values, values), self.variances, self.moving, adjoints.params.size, own=True
            )  # fmt: skip
        except Unsupported:
            return bar
        names = [name for name, _ in node.axes]
        turned = bar.transpose(0, *(1 + names.index(name) for name, _ in pair.tied))
        again = np.zeros(values.size, bool)
        for low in range(0, values.size, cells.lanes):
            adjoints.proceed()
            rows = slice(low, min(low + cells.lanes, values.size))
            own = np.arange(rows.stop - low)
            weights = np.zeros((own.size, own.size, *turned.shape[1:]))
            weights[own, own] = turned[rows]
            _, params, sides, left = cells.contract(Tile(rows, rows, mirror=False), weights)
            adjoints.params += params
            for side in sides:
                adjoints.take(side, rows)
            for tile in left:
                again[tile.rows] = True
        return np.where(again.reshape(-1, *(1,) * (bar.ndim - 1)), bar, 0.0)


class _Sums:
    """The sums by rows and by columns of a tile's channels."""

    def __init__(self, programs: list[Program | BlockProgram], tile: Tile, lanes: int):
        self.tile, self.lanes = tile, lanes
        self.channels: list[tuple[int, Hashable, Channel, np.ndarray]] = []
        for k, name, channel in channels_of(programs):
            at = tile.cols if channel.side else tile.rows
            self.channels.append((k, name, channel, np.zeros((at.stop - at.start, channel.size))))

    def take(self, one: Pass) -> None:
        """What a strip of columns and some rows add."""
        height, width = one.rows[1] - one.rows[0], one.strip.stop - one.strip.start
        for k, name, channel, total in self.channels:
            at, size = one.places[k][name]
            if channel.side:
                part = one.buffers[at : at + size * self.lanes].reshape(size, self.lanes)
                total[one.strip] += part[:, :width].T
            else:
                total[slice(*one.rows)] += one.buffers[at : at + size * height].reshape(height, size)

    def results(
        self, profiles: tuple[ProfileValues, ProfileValues], count: int
    ) -> tuple[np.ndarray, tuple[Gathered, Gathered]]:
        """The derivatives by coefficients, and the adjoints of quantities of rows and of columns."""
        params, sides = np.zeros(count), (Gathered(), Gathered())
        for _, _, channel, total in self.channels:
            if channel.slopes is not None:
                params += channel.slopes * total.sum()
                continue
            node, side = channel.node, channel.side
            profile, at = profiles[side], (self.tile.rows, self.tile.cols)[side]
            if channel.line:
                own = [name for name, _ in profile.site.lines.axes(channel.line)]
                channels = profile.data[channel.line].shape[-1]
                made = _along(channel, total.reshape(len(total), -1, channels), own)
                sides[side].add_data(channel.line, made / np.sqrt(channels))
            elif node is not None:
                made = _along(channel, total[..., None], [name for name, _ in profile.axes(node)])[..., 0]
                if channel.log:
                    made = made * (0.5 * inverse(np.asarray(profile(node)))[at])
                sides[side].add(node, made)
        return params, sides


def _along(channel: Channel, total: np.ndarray, own: list[str]) -> np.ndarray:
    """Sums (n, positions, numbers) as (n, *axes, numbers), the axes of given names without their padding."""
    axes = axes_of(channel.grid, channel.side)
    made = total.reshape(len(total), *(n + 1 for _, n in axes), total.shape[-1])
    made = made[(slice(None), *(slice(0, n) for _, n in axes))]
    names = [name for name, _ in axes]
    lost = tuple(1 + k for k, name in enumerate(names) if name not in own)
    left = [name for name in names if name in own]
    made = made.sum(axis=lost)
    return made.transpose([0, *(1 + left.index(name) for name in own), made.ndim - 1])
