"""What a kernel matrix costs on this machine, found by running a small piece of the actual work.

Workers over a few random examples do what the driver would have them do, in processor time of one thread.  Of
the cells every phase of a tile is timed by itself: what is laid out for examples that are new, the tile with
no components at all, and its components, a few of which stand for the rest, cell by cell.
"""

from __future__ import annotations

import threading
import time
import tracemalloc
from contextlib import contextmanager
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.ensemble.tile import SampledPlan
from tpnum.evaluate.joint import USUAL
from tpnum.kernels._arrays import aligned
from tpnum.law import graph
from tpnum.lower.blocks import BlockProgram
from tpnum.lower.program import buffer_places
from tpnum.tiles.cells import CellWorker
from tpnum.tiles.costs.representative import SomeForAll
from tpnum.tiles.costs.sampled_trial import sampled_tally
from tpnum.tiles.costs.slabs import preparation
from tpnum.tiles.costs.stopwatch import LONG, SHARE, least, peak_of, seconds, tracing
from tpnum.tiles.costs.tally import Cut, Memory, Tally
from tpnum.tiles.extents import WIDE
from tpnum.tiles.extras import graphs_of
from tpnum.tiles.fast import MachineWorker
from tpnum.tiles.grid import Tile
from tpnum.tiles.inputs import plan_of, with_graphs
from tpnum.tiles.sampled import SampledWorker, Sampling
from tpnum.tiles.sinks import ArraySink
from tpnum.tiles.workers import GeneralWorker, make_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tpnum.lower.blocks import BlockLayout
    from tpnum.lower.layout import Layout, Places
    from tpnum.lower.program import Program as CellProgram
    from tpnum.nn.base import Layer
    from tpnum.program import Program
    from tpnum.tiles.pool import Worker

    Code = CellProgram | BlockProgram

MOST = 2048
"""Examples of the largest matrix that is computed as a trial."""
DATA = 64 << 20
"""Bytes of random inputs."""
BATCH = 64
"""Entries of a batch from which on each costs the same."""
RESULTS = 256 << 20
"""Bytes of results of a trial."""
FEW = 32
"""Examples from which on costs are linear in their number."""
ROWS = 8
"""Row examples on which components are measured."""
LITTLE = 0.02
"""Levels with fewer of all cells are measured once."""
SAMPLED = 8
"""Examples of nets whose pairs take milliseconds."""
FAR = -(1 << 40)
"""Where strips without a pair of equal examples have it."""


class Trial:
    """Workers of a net over random examples, and what they cost."""

    def __init__(
        self,
        net: Layer | Program,
        shapes: dict[str, tuple[int, ...]],
        kinds: tuple[str, ...],
        dtype: np.dtype,
        graphs: Any = None,
    ):
        self.net, self.kinds, self.dtype = net, kinds, dtype
        self.shapes = shapes = with_graphs(net, shapes, kinds)
        self._graphs = None if graphs is None else graphs_of(graphs, net, shapes.get("pattern"))
        self._inputs: tuple[int, dict[str, np.ndarray]] = (0, {})
        x = self.inputs(1)
        self.plan = plan_of(net, x, None, kinds)
        self._line = next(iter(set(x) - set(shapes)), "")  # what the data line of a net is called
        self.variances = SomeForAll()
        self.features = sum(prod(shape) for shape in shapes.values())
        entries = prod(self.plan.axes[0]) * prod(self.plan.axes[1])
        self.bytes_per_pair = len(kinds) * entries * dtype.itemsize

    def inputs(self, count: int) -> dict[str, np.ndarray]:
        """Random inputs, made once for the trials of a size that follow one another."""
        if self._inputs[0] != count:
            rng = np.random.default_rng(0)
            made = {name: rng.standard_normal((count, *shape)) for name, shape in self.shapes.items()}
            if self._graphs is not None:
                made["pattern"] = self._graphs[np.arange(count) % len(self._graphs)]
            if "mask" in made and "" in made:  # ends of examples are padding, never so that a layer sees none
                size = made["mask"].shape[1]
                ends = rng.integers(size // 2 + 1, size + 1, (count, *(1,) * (made["mask"].ndim - 1)))
                along = np.arange(size).reshape(1, -1, *(1,) * (made["mask"].ndim - 2))
                made["mask"] = np.broadcast_to(along < ends, made["mask"].shape).astype(np.float64)
                made[""] = made[""] * made["mask"][..., None]
            self._inputs = count, {name: x.astype(self.dtype) for name, x in made.items()}
        return dict(self._inputs[1])

    def named(self, count: int) -> dict[str, np.ndarray]:
        """Random inputs by the data lines of the plan."""
        return {name or self._line: x for name, x in self.inputs(count).items()}

    def most(self, count: int, times: int = 1) -> int:
        """As many of ``count`` examples as a trial may have, two at least, with results so many times."""
        few = min(DATA / (8 * self.features), np.sqrt(RESULTS / (times * self.bytes_per_pair)))
        return max(2, min(count, int(few)))

    def _sampled(self) -> bool:
        """Whether the net has attention with random logits."""
        assert not isinstance(self.plan, SampledPlan)
        outputs = [entry.node for found in self.plan.entries.values() for entry in found]
        return any(isinstance(node, graph.Attention) for node in graph.schedule(outputs))

    def worker(self, count: int, many: int | None = None) -> Worker:
        """The worker that the driver would choose for ``count`` examples, or for ``many`` of them."""
        x = self.inputs(count)
        plan = plan_of(self.net, x, None, self.kinds)
        if isinstance(plan, SampledPlan):
            shape = (count, count, *plan.axes[0], *plan.axes[1])
            outs = {kind: np.empty(shape, self.dtype) for kind in self.kinds}
            return SampledWorker(Sampling(plan, USUAL), (x, None), ArraySink(outs))
        self.variances = SomeForAll()
        profiles = plan.profiles(x, None, variances=self.variances)
        shape = (count, count, *plan.axes[0], *plan.axes[1])
        outs = {kind: np.empty(shape, self.dtype) for kind in self.kinds}
        return make_worker(plan, profiles, ArraySink(outs), self.dtype, None, self.variances, many)

    def tally(self, n: int | None) -> tuple[Worker, Tally]:
        """A worker of a few examples, and the costs: ``n`` is how many there will be, if that is known."""
        size = MOST if n is None else min(max(n, 2), MOST)
        if isinstance(self.plan, SampledPlan):
            return sampled_tally(self.worker, self.plan, size)
        count = self.most(min(size, SAMPLED if self._sampled() else 3 * WIDE))
        started = time.thread_time()
        worker = self.worker(count, n)
        made = time.thread_time() - started
        if isinstance(worker, MachineWorker):
            return worker, self._machine(size)
        if isinstance(worker, CellWorker):
            return worker, self._cells(worker, made)
        assert isinstance(worker, GeneralWorker)
        return worker, self._general(worker, size)

    # -- the machine -----------------------------------------------------------------------------

    def _machine(self, n: int) -> Tally:
        """All of a symmetric matrix, as large as the time allows."""
        count = self.most(min(128, n))
        self._matrix(count)  # compiles, or loads, the kernels
        worker, before, whole = self._best(count)
        large = int(np.clip(count * np.sqrt(SHARE / max(whole, 1e-6)), count, self.most(n)))
        once, example = before, 0.0
        if large > count:
            worker, setup, whole = self._best(large)
            example = max(0.0, (setup - before) / (large - count))
            once = max(0.0, setup - example * large)
        height, width = _largest(worker)
        cut = Cut(height, width, height, self.plan.mirrored, unit=0, slab=width)
        strip = whole / cut.work(large)[1]
        memory = self._held(count, partial(worker.tile, worker.tiles[0]))
        pairs = large * (large + 1) // 2
        return Tally(cut, once, example, 0.0, 0.0, (), (strip,), memory, worker.grain, pairs)

    def _best(self, count: int) -> tuple[Worker, float, float]:
        """The least of three, or of as many as there is time for."""
        worker, setup, whole = self._matrix(count)
        for _ in range(2 if setup + whole < SHARE else 0):
            _, again, more = self._matrix(count)
            setup, whole = min(setup, again), min(whole, more)
        return worker, setup, whole

    def _matrix(self, count: int) -> tuple[Worker, float, float]:
        """A worker, the seconds that it took to make, and those of all tiles."""
        self.inputs(count)
        started = time.thread_time()
        worker = self.worker(count)
        worker.prepare()
        ready = time.thread_time()
        for tile in worker.tiles:
            worker.tile(tile)
        worker.finish()
        return worker, ready - started, time.thread_time() - ready

    def _held(self, count: int, tile: Callable[[], object]) -> Memory:
        """Bytes of a worker of ``count`` examples and of a tile, by what fewer examples take."""
        few = max(1, min(FEW, count // 4))
        (peak, held), (less, least) = (self._traced(size) for size in (count, few))
        each, making = ((a - b) / (count - few) for a, b in ((held, least), (peak, less)))
        each = max(0.0, each)
        return Memory(
            max(0.0, held - each * count),
            each,
            max(each, making),
            np.inf,
            peak_of(partial(_in_a_thread, tile)),
        )

    def _traced(self, count: int) -> tuple[float, float]:
        """Bytes beside inputs and results that making a worker takes at most, and those that it holds."""
        self.inputs(count)
        results = self.bytes_per_pair * count * count
        kept: list[Worker] = []

        def make() -> None:
            kept.append(self.worker(count))
            kept[0].prepare()

        with tracing():
            before = tracemalloc.get_traced_memory()[0]
            peak = peak_of(make)
            return peak - results, tracemalloc.get_traced_memory()[0] - before - results

    # -- the cells -------------------------------------------------------------------------------

    def _cells(self, worker: CellWorker, made: float) -> Tally:
        count = worker.profiles[0].size
        tile = self._largest(worker, count)
        height, width = tile.rows.stop - tile.rows.start, tile.cols.stop - tile.cols.start
        with _without_components(worker):
            sides, slab, thread = preparation(worker, tile)
            bare = least(partial(worker.tile, tile))
        bare *= worker.height * worker.width / (height * width)
        strips, pairs = self._levels(worker, tile)
        lanes, mirrored = worker.lanes, self.plan.mirrored
        cut = Cut(worker.height, worker.width, lanes, mirrored, unit=worker.unit, slab=worker.slab)
        found = self.variances
        memory = Memory(0.0, 0.0, found.bytes, found.together, thread)
        once = max(0.0, made - found.spent) + found.once
        return Tally(cut, once, found.example, bare, slab, sides, strips, memory, worker.grain, pairs)

    def _largest(self, worker: CellWorker, count: int) -> Tile:
        """A tile as large as the driver's, if that takes no longer than it may; its kernels are loaded."""
        height, width = min(ROWS, worker.height, count), min(worker.lanes, count)
        small = _corner(height, width, count)
        with _without_components(worker):
            worker.tile(small)
            taken = seconds(partial(worker.tile, small), worker.forget)
        most = min(worker.height, count), min(worker.width, count)
        if taken * sum(most) / (height + width) > 2 * SHARE:
            return small
        return _corner(*most, count)

    def _levels(self, worker: CellWorker, tile: Tile) -> tuple[tuple[float, ...], int]:
        """Seconds per row of a strip that each level takes, and how many pairs were measured."""
        programs = worker.ready(tile)
        rows = min(ROWS, tile.rows.stop - tile.rows.start)
        starts, numbers = buffer_places(programs, rows)
        scratch = aligned(max(p.work_cells for p in programs) * worker.lanes, worker.work)
        buffers = np.zeros(numbers)
        missed = np.zeros(rows, np.int64)
        sizes = [weights(layout) for layout in worker.layouts]
        most = sum(float(found.sum()) for found in sizes)
        strips = []
        for program, found in zip(programs, sizes, strict=True):
            run = partial(_run, buffers, starts, scratch, missed)
            if isinstance(program, BlockProgram):
                strips.append(self._block(program, run, min(rows, tile.cols.stop - tile.cols.start)))
                continue
            before = partial(np.copyto, buffers, buffers.copy())
            taken = self._level(program, partial(run, (0, rows)), before, found, LITTLE * most)
            strips.append(taken / rows)
        return tuple(strips), rows * worker.lanes

    def _level(
        self,
        program: Code,
        run: Callable[[Code], object],
        before: Callable[[], object],
        sizes: np.ndarray,
        little: float,
    ) -> float:
        """Seconds of all components of a level, of sizes as given.

        More and more of them, from all sizes alike, until they take long enough to be told from the clock's
        ticks; of a level with ``little`` to do the first measurement will do.
        """
        order = np.argsort(sizes, kind="stable")
        kept = 1
        while True:
            places = order[((np.arange(kept) + 0.5) * len(order) / kept).astype(np.int64)]
            taken = least(partial(run, program.part(program.layout.components[places])), before)
            if kept == len(order) or sizes.sum() < little or taken > SHARE / 4:
                break
            kept = min(len(order), int(kept * np.clip(SHARE / 2 / max(taken, 1e-4), 2, 64)))
        return taken * float(sizes.sum() / sizes[places].sum())

    def _block(self, program: BlockProgram, run: Callable[..., object], most: int) -> float:
        """Seconds per row of a strip of a level by NumPy, from squares of pairs that grow."""
        points: list[tuple[int, float]] = []
        size = 1
        strips = program.strips
        while True:
            program.strips = [slice(0, size)]
            points.append((size * size, seconds(partial(run, (0, size), program))))
            if 2 * size > most or 4 * points[-1][1] > SHARE:
                break
            size *= 2
        program.strips = strips
        (pairs, spent), (first, least_) = points[-1], points[0]
        pair = (spent - least_) / (pairs - first) if pairs > first and spent > least_ else spent / pairs
        return pair * program.lanes

    # -- the general path ------------------------------------------------------------------------

    def _general(self, worker: GeneralWorker, n: int) -> Tally:
        """Square tiles that grow until they are whole or take too long, for how long the matrix will take.

        They grow because expectations are taken in batches, whose size decides by which road.
        """
        count = worker.rows.size
        seconds(worker.prepare)  # compiles, or loads, what it needs
        few, many = self.worker(2), self.worker(count)
        assert isinstance(many, GeneralWorker)
        once, before = seconds(few.prepare), seconds(many.prepare)
        example = max(0.0, (before - once) / (count - 2)) if count > 2 else 0.0
        size = low = 1
        first = taken = seconds(partial(many.tile, _corner(1, 1, count)))
        while True:
            wider = min(3 * size, many.side, count - low)
            pair = taken / size**2
            worth = float(np.clip(pair * n * n / 100, 2 * SHARE, LONG)) if size**2 > BATCH else LONG
            if wider <= size or pair * wider**2 > worth:
                break
            size = wider
            tile = Tile(slice(low, low + size), slice(count - size, count), False)  # of new examples
            taken, low = seconds(partial(many.tile, tile)), low + size
        pair = max(0.0, taken - first) / (size * size - 1) if size > 1 else taken
        each = max(0.0, first - pair)
        memory = self._held(count, partial(many.tile, _corner(size, size, count)))
        memory = memory._replace(thread=memory.thread * (many.side / size) ** 2)
        cut = Cut(many.side, many.side, many.side, self.plan.mirrored, unit=0, slab=many.side)
        strips = (pair * many.side,)
        return Tally(cut, once, example, each, 0.0, (), strips, memory, many.grain, size * size)


def _largest(worker: Worker) -> tuple[int, int]:
    """Rows and columns of the largest tile."""
    rows = max(tile.rows.stop - tile.rows.start for tile in worker.tiles)
    return rows, max(tile.cols.stop - tile.cols.start for tile in worker.tiles)


def weights(layout: Layout | BlockLayout) -> np.ndarray:
    """The cells of all grids that each component of a level has."""
    level = layout.level
    total = np.zeros(len(layout.components))
    for grid in level.spaces:
        part = np.ones(len(layout.components))
        for t, found in enumerate(level.components):
            part *= np.array([len(c.get(grid, ())) for c in found])[layout.components[:, t]]
        total += part
    return np.maximum(total, 1.0)


@contextmanager
def _without_components(worker: CellWorker) -> Iterator[None]:
    """A block in which no level has anything to do."""
    full = worker.layouts
    worker.layouts = [layout.part(layout.components[:0]) for layout in full]
    try:
        yield
    finally:
        worker.layouts = full


def _corner(height: int, width: int, count: int) -> Tile:
    """The last columns that fill a tile of this width, in its place, against the first rows."""
    start = (count // width - 1) * width
    return Tile(slice(0, height), slice(start, start + width), False)


def _run(
    buffers: np.ndarray,
    starts: Places,
    scratch: np.ndarray,
    missed: np.ndarray,
    rows: tuple[int, int],
    program: Code,
) -> None:
    program.run(0, rows, FAR, buffers, starts, scratch, missed, lambda: None)


def _in_a_thread(call: Callable[[], object]) -> None:
    """A call that finds none of the buffers that this thread has."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
