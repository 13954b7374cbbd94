"""What a kernel matrix costs on this machine, found by running a small piece of the actual work.

Workers over a few random examples run tiles as the driver would, in processor time of one thread.  A tile
of cells costs what depends on its inputs alone (found with no components at all) and what its components
cost, a few of which stand for the rest, cell by cell.
"""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tpnum.lower.variances import Variances
from tpnum.tiles.cells import CellWorker
from tpnum.tiles.driver import plan_of, with_graphs
from tpnum.tiles.fast import MachineWorker
from tpnum.tiles.grid import Tile
from tpnum.tiles.workers import GeneralWorker, make_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.evaluate.profile import ProfileValues
    from tpnum.law import graph
    from tpnum.lower.layout import Layout
    from tpnum.nn.base import Layer
    from tpnum.program import Program
    from tpnum.tiles.pool import Worker

SHARE = 0.3
"""Seconds that one of the measurements may take, once it is known to be cheaper than that."""
MOST = 2048
"""Examples of the largest matrix that is computed as a trial."""
DATA = 64 << 20
"""Bytes of random inputs."""
RESULTS = 256 << 20
"""Bytes of results of a trial."""
WIDE = 64
"""Columns of a tile of cells, as a rule."""
MANY = 512
"""Examples that show how a matrix is cut into tiles."""
ROWS = 8
"""Row examples on which components are measured."""
LITTLE = 0.02
"""Levels with fewer of all cells are measured once."""


@dataclass(frozen=True)
class Cut:
    """Tiles of ``height`` x ``width`` pairs, whose rows go against strips of ``lanes`` columns.

    ``filled``: a strip with fewer columns costs as much as a whole one.
    """

    height: int
    width: int
    lanes: int
    symmetric: bool
    filled: bool

    def work(self, n: int) -> tuple[float, float, float]:
        """Of n x n pairs the tiles, the rows and columns of all tiles, the rows of all strips."""
        starts = np.arange(0, n, self.width)
        ends = np.minimum(starts + self.width, n)
        reach = ends if self.symmetric else np.full_like(ends, n)
        tiles = -(-reach // self.height)
        first = np.arange(0, n, self.lanes)
        last = np.minimum(first + self.lanes, n)
        rows = last if self.symmetric else np.full_like(last, n)
        strips = rows if self.filled else rows * ((last - first) / self.lanes)
        return float(tiles.sum()), float((reach + tiles * (ends - starts)).sum()), float(strips.sum())


class Tally(NamedTuple):
    """Processor seconds: once, per example, per tile, per row or column of a tile, and per row of a strip.

    ``strips`` are by region; ``bytes`` are those that a thread holds, ``pairs`` those that were computed.
    """

    cut: Cut
    once: float
    example: float
    tile: float
    side: float
    strips: tuple[float, ...]
    bytes: float
    grain: int
    pairs: int

    @property
    def inputs(self) -> float:
        """Per pair of a whole tile, what is prepared for its rows and columns."""
        height, width = self.cut.height, self.cut.width
        return (self.tile + self.side * (height + width)) / (height * width)

    @property
    def regions(self) -> tuple[float, ...]:
        """Per pair of a whole tile, what each region takes."""
        per_row = -(-self.cut.width // self.cut.lanes) / self.cut.width
        return tuple(per_row * strip for strip in self.strips)

    def seconds(self, n: int, cores: int) -> float:
        """Wall-clock seconds of the symmetric n x n matrix, if threads do not hinder each other."""
        tiles, sides, rows = self.cut.work(n)
        jobs = max(1, min(cores, tiles, n * (n + 1) // 2 // self.grain))
        return self.once + self.example * n + self._tiles(tiles, sides, rows) / jobs

    def _tiles(self, tiles: float, sides: float, rows: float) -> float:
        return self.tile * tiles + self.side * sides + sum(self.strips) * rows


class _OneForAll(Variances):
    """The variances of one example, given to all; ``seconds`` is what those of one took."""

    seconds, _depth = 0.0, 0

    def _compute(self, values: ProfileValues, node: graph.Reduced) -> np.ndarray:
        one = self.part(values, slice(0, 1))
        started = time.thread_time()
        self._depth += 1
        made = super()._compute(one, node)
        self._depth -= 1
        if not self._depth:
            self.seconds += time.thread_time() - started
        return np.repeat(made, values.size, axis=0)


class Trial:
    """Workers of a net over random examples, and what they cost."""

    def __init__(
        self,
        net: Layer | Program,
        shapes: dict[str, tuple[int, ...]],
        kinds: tuple[str, ...],
        dtype: np.dtype,
    ):
        self.net, self.kinds, self.dtype = net, kinds, dtype
        self.shapes = shapes = with_graphs(net, shapes, kinds)
        self._inputs: tuple[int, dict[str, np.ndarray]] = (0, {})
        self._made = 0.0
        x = self._data(1)
        self.plan = plan_of(net, x, None, kinds)
        self.variances = _OneForAll()
        self.features = sum(prod(shape) for shape in shapes.values())
        entries = prod(self.plan.axes[0]) * prod(self.plan.axes[1])
        self.bytes_per_pair = len(kinds) * entries * dtype.itemsize

    def _data(self, count: int) -> dict[str, np.ndarray]:
        """Random inputs, made once for the trials of a size that follow one another."""
        if self._inputs[0] != count:
            rng = np.random.default_rng(0)
            made = {name: rng.standard_normal((count, *shape)) for name, shape in self.shapes.items()}
            self._inputs = count, {name: x.astype(self.dtype) for name, x in made.items()}
        return dict(self._inputs[1])

    def _most(self, count: int) -> int:
        """As many of ``count`` examples as a trial may have, two at least."""
        few = min(DATA / (8 * self.features), np.sqrt(RESULTS / self.bytes_per_pair))
        return max(2, min(count, int(few)))

    def worker(self, count: int, alike: bool = False) -> Worker:
        """The worker that the driver would choose for ``count`` examples, all the same one if ``alike``."""
        x = self._data(1 if alike else count)
        if alike:
            x = {name: np.broadcast_to(v, (count, *v.shape[1:])) for name, v in x.items()}
        plan = plan_of(self.net, x, None, self.kinds)
        self.variances = _OneForAll()
        profiles = plan.profiles(x, None, variances=self.variances)
        shape = (count, count, *plan.axes[0], *plan.axes[1])
        if alike:  # nothing will be computed
            outs = {kind: np.broadcast_to(np.zeros((), self.dtype), shape) for kind in self.kinds}
        else:
            outs = {kind: np.empty(shape, self.dtype) for kind in self.kinds}
        return make_worker(plan, profiles, outs, self.dtype, None, self.variances)

    def tally(self, n: int | None) -> tuple[Worker, Tally]:
        """A worker of two examples, and the costs: ``n`` is how many there will be, if that is known."""
        started = time.thread_time()
        worker = self.worker(2)
        self._made = time.thread_time() - started
        measure: Callable[[Worker, int], Tally]
        if isinstance(worker, MachineWorker):
            measure = self._machine
        elif isinstance(worker, CellWorker):
            measure = self._cells
        else:
            measure = self._general
        return worker, measure(worker, MOST if n is None else min(max(n, 2), MOST))

    # -- the machine -----------------------------------------------------------------------------

    def _machine(self, _: Worker, n: int) -> Tally:
        """All of a symmetric matrix, as large as the time allows."""
        count = self._most(min(128, n))
        self._matrix(count)  # compiles, or loads, the kernels
        worker, before, whole, peak = self._best(count)
        large = int(np.clip(count * np.sqrt(SHARE / max(whole, 1e-6)), count, self._most(n)))
        once, example = before, 0.0
        if large > count:
            worker, setup, whole, peak = self._best(large)
            example = max(0.0, (setup - before) / (large - count))
            once = max(0.0, setup - example * large)
        height, width = _largest(worker)
        cut = Cut(height, width, height, self.plan.mirrored, filled=False)
        strip = whole / cut.work(large)[2]
        return Tally(cut, once, example, 0.0, 0.0, (strip,), peak, worker.grain, large * (large + 1) // 2)

    def _best(self, count: int) -> tuple[Worker, float, float, float]:
        """The least of three, or of as many as there is time for."""
        worker, setup, whole, peak = self._matrix(count)
        for _ in range(2 if setup + whole < SHARE else 0):
            _, again, more, _ = self._matrix(count)
            setup, whole = min(setup, again), min(whole, more)
        return worker, setup, whole, peak

    def _matrix(self, count: int) -> tuple[Worker, float, float, float]:
        """A worker, the seconds that it took to make, those of all tiles, and the bytes of the first."""
        self._data(count)
        started = time.thread_time()
        worker = self.worker(count)
        worker.prepare()
        ready = time.thread_time()
        peak = _peak(partial(worker.tile, worker.tiles[0]))
        begun = time.thread_time()
        for tile in worker.tiles:
            worker.tile(tile)
        worker.finish()
        return worker, ready - started, time.thread_time() - begun, peak

    # -- the cells -------------------------------------------------------------------------------

    def _cells(self, first: Worker, n: int) -> Tally:
        assert isinstance(first, CellWorker)
        count = self._most(4 * WIDE)
        worker = self.worker(count)
        height, width = _largest(worker)
        if count in (height, width):  # whole tiles are larger
            height, width = _largest(self.worker(MANY, alike=True))
        assert isinstance(worker, CellWorker)
        full = worker.layouts
        empty = [layout.part(layout.components[:0]) for layout in full]
        worker.layouts = empty
        tile, side, peak = self._sides(worker, count, height, width)
        example = self.variances.seconds
        sizes = [weights(layout) for layout in full]
        most = sum(float(found.sum()) for found in sizes)
        strips, pairs = [], 0
        for k, found in enumerate(sizes):
            little = float(found.sum()) < LITTLE * most
            strip, rows = self._level(worker, (full, empty, k), found, (count, height, width), little)
            strips.append(strip)
            pairs += rows * worker.lanes
        worker.layouts = full
        cut = Cut(height, width, worker.lanes, self.plan.mirrored, filled=True)
        return Tally(cut, self._made, example, tile, side, tuple(strips), peak, worker.grain, pairs)

    def _sides(self, worker: CellWorker, count: int, height: int, width: int) -> tuple[float, float, float]:
        """Seconds per tile and per row or column of it, and its bytes, of cells without components.

        Tiles that grow until they are whole or take too long; their columns stay, their rows change.
        """
        points: list[tuple[int, float]] = []
        size, side = 1, 0.0
        while True:
            h, w = min(size, height, count), min(size, width, count)
            cols = slice(count - w, count)
            rows = [slice(k * h, (k + 1) * h) for k in range(3) if (k + 1) * h <= max(count - w, h)]
            peak = _peak(partial(worker.tile, Tile(rows[0], cols, False)))
            if points or len(rows) < 3:
                rows = rows[1:2] or rows
            taken = [_seconds(partial(worker.tile, Tile(r, cols, False))) for r in rows]
            points.append((h + w, min(taken)))
            if len(points) > 1:
                (y, u), (x, t) = points[-2:]
                side = max(0.0, (t - u) / (x - y))
            size *= 8
            next_ = min(size, height, count) + min(size, width, count)
            if next_ == h + w or points[-1][1] + side * (next_ - h - w) > SHARE:
                break
        x, t = points[-1]
        scale = (height + width) / (h + w)
        bytes_ = peak * scale + self.bytes_per_pair * max(0.0, height * width - h * w * scale)
        return max(0.0, t - side * x), min(side, t / x), bytes_

    def _level(
        self,
        worker: CellWorker,
        layouts: tuple[list[Layout], list[Layout], int],
        sizes: np.ndarray,
        counts: tuple[int, int, int],
        little: bool,
    ) -> tuple[float, int]:
        """Seconds per row of a strip that one level takes, and how many rows were measured.

        More and more components, from all sizes alike, then more rows, until they take long enough to be told
        from the rest of the tile; of a level with ``little`` to do the first measurement will do.
        """
        full, empty, k = layouts
        count, height, width = counts
        order = np.argsort(sizes, kind="stable")
        rows, lanes = min(ROWS, height, count), min(worker.lanes, width, count)
        kept = 1
        while True:
            tile = Tile(slice(0, rows), slice(count - lanes, count), False)
            places = order[((np.arange(kept) + 0.5) * len(order) / kept).astype(np.int64)]
            part = full[k].part(full[k].components[places])
            worker.layouts = empty
            bare = _least(partial(worker.tile, tile))
            worker.layouts = [*empty[:k], part, *empty[k + 1 :]]
            spent = max(0.0, _least(partial(worker.tile, tile)) - bare)
            every = kept == len(order)
            if little or spent > max(SHARE / 4, bare) or (every and rows == min(height, count)):
                break
            rows = min(height, count) if every else rows
            kept = min(len(order), int(kept * np.clip(SHARE / 2 / max(spent, 1e-4), 2, 64)))
        return spent / rows * float(sizes.sum() / sizes[places].sum()), rows

    # -- the general path ------------------------------------------------------------------------

    def _general(self, first: Worker, n: int) -> Tally:
        """Square tiles that grow until they are whole or take too long."""
        assert isinstance(first, GeneralWorker)
        points: list[tuple[int, float, float]] = []
        peak, size = 0.0, 1
        first.prepare()  # compiles, or loads, what it needs
        while True:
            count = min(size, first.side)
            worker = self.worker(count)
            before = _seconds(worker.prepare)
            tile = Tile(slice(0, count), slice(0, count), False)
            taken = _seconds(partial(worker.tile, tile))
            if taken < SHARE / 4:
                peak = _peak(partial(worker.tile, tile)) * (first.side / count) ** 2
            points.append((count, before, taken))
            size *= 2
            if count == first.side or size > self._most(first.side) or 4 * taken + 2 * before > SHARE:
                break
        (x, b, t), (y, a, u) = points[-1], points[-2] if len(points) > 1 else (0, 0.0, 0.0)
        example = max(0.0, (b - a) / (x - y))
        pair = float(np.clip((t - u) / (x * x - y * y), 0.0, t / (x * x)))
        cut = Cut(first.side, first.side, first.side, self.plan.mirrored, filled=False)
        strips = (pair * first.side,)
        once, each = max(0.0, b - example * x), max(0.0, t - pair * x * x)
        pairs = sum(count * count for count, _, _ in points)
        return Tally(cut, once, example, each, 0.0, strips, peak, worker.grain, pairs)


def _largest(worker: Worker) -> tuple[int, int]:
    """Rows and columns of the largest tile."""
    rows = max(tile.rows.stop - tile.rows.start for tile in worker.tiles)
    return rows, max(tile.cols.stop - tile.cols.start for tile in worker.tiles)


def weights(layout: Layout) -> np.ndarray:
    """The cells of all grids that each component of a level has."""
    level = layout.level
    total = np.zeros(len(layout.components))
    for grid in level.spaces:
        part = np.ones(len(layout.components))
        for t, found in enumerate(level.components):
            part *= np.array([len(c.get(grid, ())) for c in found])[layout.components[:, t]]
        total += part
    return np.maximum(total, 1.0)


def _seconds(call: Callable[[], object]) -> float:
    """Processor seconds of this thread: what other processes do does not count."""
    started = time.thread_time()
    call()
    return time.thread_time() - started


def _least(call: Callable[[], object]) -> float:
    """The least of three calls, or of as many as there is time for."""
    taken = _seconds(call)
    for _ in range(0 if taken > SHARE / 2 else 1 if taken > SHARE / 8 else 2):
        taken = min(taken, _seconds(call))
    return taken


def _peak(call: Callable[[], object]) -> float:
    """Bytes of arrays that a call holds at most beyond what there is."""
    own = not tracemalloc.is_tracing()
    if own:
        tracemalloc.start(1)
    try:
        before = tracemalloc.get_traced_memory()[0]
        if own:
            tracemalloc.reset_peak()
        call()
        return float(max(0, tracemalloc.get_traced_memory()[1] - before))
    finally:
        if own:
            tracemalloc.stop()
