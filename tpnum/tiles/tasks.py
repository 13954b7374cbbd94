"""A tile as a task: what any process needs to compute it, and what it keeps between two of them."""

from __future__ import annotations

import threading
import uuid
import weakref
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.ensemble.tile import SampledPlan
from tpnum.evaluate.data import bind
from tpnum.evaluate.joint import USUAL, Accuracy
from tpnum.evaluate.profile import ProfileValues
from tpnum.law.threads import Stop, together
from tpnum.lower.variances import Variances
from tpnum.tiles import batches
from tpnum.tiles.arguments import without_nan
from tpnum.tiles.beside import Beside, Companions
from tpnum.tiles.data import Source, saved
from tpnum.tiles.extras import require_positions
from tpnum.tiles.grid import Tile
from tpnum.tiles.inputs import plan_of
from tpnum.tiles.pool import one_blas_thread
from tpnum.tiles.progress import part
from tpnum.tiles.roads import Call, Effort
from tpnum.tiles.sampled import SampledWorker, Sampling
from tpnum.tiles.sinks import ArraySink
from tpnum.tiles.workers import make_worker

if TYPE_CHECKING:
    from tpnum.evaluate.joint import Account
    from tpnum.evaluate.plan import Plan
    from tpnum.nn.base import Layer
    from tpnum.program import Program
    from tpnum.tiles.pool import Worker

KEPT = 256 << 20
"""Bytes of profile passes that a process keeps for the next tiles."""
FEW = 4
"""Profile passes that are kept whatever they take."""


@dataclass(frozen=True)
class Job:
    """The kernels ``kinds`` of a net between examples, by data line; ``second`` None: against themselves.

    It holds no pointers and no results, so that threads, processes and machines run the same thing: an
    input that is a file is its path.  With a ``batch`` the inputs are batches of so many examples, and the
    matrix and its tiles are of examples nevertheless.
    """

    net: Layer | Program
    kinds: tuple[str, ...]
    dtype: np.dtype
    first: dict[str, Source]
    second: dict[str, Source] | None
    accuracy: Accuracy = USUAL
    batch: int | None = None
    kept: float = KEPT
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    beside: Beside = Beside()

    @property
    def effort(self) -> Effort:
        """How exactly a tile is computed, by one thread."""
        return Effort(None, 1, None, self.accuracy)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the arrays that it makes: the kernels, then what is wanted beside them."""
        return self.beside.names(self.kinds)

    @property
    def counts(self) -> tuple[int, int]:
        """How many inputs the rows and the columns are of."""
        sides = (self.first, self.second or self.first)
        n1, n2 = (next(iter(side.values())).shape[0] for side in sides)
        return n1, n2

    def plan(self) -> Plan | SampledPlan:
        """What the kernels demand of the net; a net that does not fit its inputs is refused."""
        return _desk(self).plan

    def shape(self) -> tuple[int, ...]:
        """Of a whole matrix: (N1, N2, *axes1, *axes2)."""
        axes = self.plan().axes
        if self.batch is not None:
            return batches.of_examples(self.counts, axes, False)
        return (*self.counts, *axes[0], *axes[1])

    def blocks(self, tile: Tile) -> dict[str, np.ndarray]:
        """Arrays for a tile by their names, to be filled: (rows, columns, *axes1, *axes2) each."""
        (*sizes,) = self.shape()
        sizes[:2] = (len(range(n)[part]) for n, part in zip(sizes, (tile.rows, tile.cols), strict=False))
        return {name: np.empty(sizes, self.dtype) for name in self.names}

    def pairs(self) -> int:
        """As many pairs of examples as one tile may have without taking long."""
        side = self.batch or 1
        one = Tile(slice(0, side), slice(0, side), False)
        with one_blas_thread():
            pairs = side**2 * _desk(self).worker(*self._inputs(one, self.blocks(one))).pairs
            return _desk(self).companions.pairs(pairs) if self.beside else pairs

    def compute(self, tile: Tile) -> dict[str, np.ndarray]:
        """A tile of every array, its diagonal exact where it has one."""
        blocks = self.blocks(tile)
        if self.beside:
            with one_blas_thread(), part():
                _desk(self).fill_all(*self._inputs(tile, blocks))
        else:
            self.fill(tile, blocks)
        return blocks

    def fill(self, tile: Tile, blocks: dict[str, np.ndarray], jobs: int = 1) -> None:
        """A tile of the kernels into arrays, by some threads."""
        with one_blas_thread():
            worker = _desk(self).worker(*self._inputs(tile, blocks))
            worker.prepare()
            together(worker.tile, worker.tiles, jobs, worker.stop)
            worker.finish()

    def _inputs(self, tile: Tile, blocks: dict[str, np.ndarray]) -> tuple[Tile, dict[str, np.ndarray]]:
        """A tile of examples, and its arrays, as one of inputs."""
        if self.batch is None:
            return tile, blocks
        axes, size = self.plan().axes, self.batch
        rows, cols = (slice(part.start // size, part.stop // size) for part in (tile.rows, tile.cols))
        seen = {kind: batches.by_batches(block, axes, False) for kind, block in blocks.items()}
        return Tile(rows, cols, tile.mirror), seen

    def account(self) -> Account:
        """The errors of joint expectations in the tiles of this process so far."""
        return _desk(self).account

    def stop(self) -> None:
        """Give up the tiles that this process is at."""
        _desk(self).stop()

    def forget(self) -> None:
        """Let go of what this process keeps for further tiles."""
        with _lock:
            _desks.pop(self.token, None)

    def on_disk(self, folder: Path) -> Job:
        """The same job for other processes: what is in memory is put into a folder first."""

        def moved(sources: dict[str, Source], side: str) -> dict[str, Source]:
            items = enumerate(sources.items())
            return {name: saved(source, str(folder / f"{side}.{k}.npy")) for k, (name, source) in items}

        second = None if self.second is None else moved(self.second, "x2")
        return replace(self, first=moved(self.first, "x1"), second=second)


class _Desk:
    """What a process keeps of a job between its tiles: the plan, and the profile passes of a few slices."""

    def __init__(self, job: Job):
        self.job = job
        self.account = job.accuracy.account()
        self._variances = Variances()
        self._passes: OrderedDict[tuple[int, int, int], ProfileValues] = OrderedDict()
        self._workers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._stop = Stop()
        first, second = self._read(0, slice(0, 1)), None
        if job.second is not None:
            second = self._read(1, slice(0, 1))
        for name, block in first.items():
            without_nan(block, 0, job.first[name].name)
        given = set(first)
        padding = getattr(job.first.get("mask"), "padding", "")  # of all examples, not of these two alone
        self.plan = plan_of(job.net, first, second, job.kinds, job.accuracy.most, padding)
        self._line = next(iter(set(first) - given), "")
        """What the data line of a net is called, by which plans go."""
        self._ones = first, second or first

    @cached_property
    def companions(self) -> Companions:
        """Of the kernels, if any are wanted."""
        return Companions(self.job.net, self.plan, self.job.kinds, self.job.beside, self._ones)

    def _read(self, side: int, rows: slice) -> dict[str, np.ndarray]:
        sources = self.job.first if side == 0 or self.job.second is None else self.job.second
        return {name: source.read(rows) for name, source in sources.items()}

    def _named(self, side: int, rows: slice) -> dict[str, np.ndarray]:
        return {name or self._line: array for name, array in self._read(side, rows).items()}

    def _pass(self, plan: Plan, side: int, rows: slice) -> ProfileValues:
        if self.job.second is None:
            side = 0  # the same examples, the same program
        key = side, rows.start, rows.stop
        with self._lock:
            found = self._passes.get(key)
            if found is not None:
                self._passes.move_to_end(key)
                return found
        data = bind(plan.programs[side], self._named(side, rows))
        made = ProfileValues(plan.pairs, side, data, self.account, self._variances)
        require_positions(made, rows.start)
        with self._lock:
            found = self._passes.setdefault(key, made)
            while len(self._passes) > FEW and sum(map(_bytes, self._passes.values())) > self.job.kept:
                self._passes.popitem(last=False)
        return found

    def worker(self, tile: Tile, blocks: dict[str, np.ndarray]) -> Worker:
        """A worker for a tile, which fills blocks."""
        own = self.job.second is None and tile.rows == tile.cols
        sink = ArraySink({kind: blocks[kind] for kind in self.job.kinds})
        made: Worker
        if isinstance(self.plan, SampledPlan):
            sampling = Sampling(self.plan, self.job.accuracy, self.account)
            inputs = self._named(0, tile.rows), None if own else self._named(1, tile.cols)
            made = SampledWorker(sampling, inputs, sink)
        else:
            rows = self._pass(self.plan, 0, tile.rows)
            cols = rows if own else self._pass(self.plan, 1, tile.cols)
            made = make_worker(self.plan, (rows, cols), sink, self.job.dtype, None, self._variances)
        with self._lock:
            if self._stop.asked:
                made.stop.set()
            self._workers.add(made)
        return made

    def _call(self, tile: Tile, blocks: dict[str, np.ndarray]) -> Call:
        """A tile as a matrix of its own."""
        own = self.job.second is None and tile.rows == tile.cols
        rows, cols = self._named(0, tile.rows), None if own else self._named(1, tile.cols)
        return Call(rows, cols, blocks, False, replace(self.job.effort, report=self._proceed))

    def _proceed(self, *_: int) -> None:
        """Give up a tile of which a part is done, if that is asked."""
        self._stop()

    def fill_all(self, tile: Tile, blocks: dict[str, np.ndarray]) -> None:
        """A tile of kernels and of what is beside them."""
        companions = self.companions
        fill = companions.fill if self.job.beside.error else companions.differentiate
        made = fill(blocks, self._call(tile, blocks))
        with self._lock:
            self.account.note(*made.worst)

    def stop(self) -> None:
        with self._lock:
            self._stop.set()
            for worker in self._workers:
                worker.stop.set()


def _bytes(values: ProfileValues) -> int:
    """A profile pass, its data, and these as unit vectors in the precisions that the kernels take."""
    return values.bytes + sum(16 * x.size for x in values.data.values())


_desks: OrderedDict[str, _Desk] = OrderedDict()
_lock = threading.Lock()


def _desk(job: Job) -> _Desk:
    """This process's desk for a job; those of the last two jobs are kept."""
    with _lock:
        if job.token not in _desks:
            _desks[job.token] = _Desk(job)
        _desks.move_to_end(job.token)
        while len(_desks) > 2:
            _desks.popitem(last=False)
        return _desks[job.token]
