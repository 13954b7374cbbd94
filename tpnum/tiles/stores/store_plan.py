"""What a kernel matrix on disk will cost: tiles, bytes, files, seconds, and where the disk is the limit."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.errors import InputError, StoreError
from tpnum.tiles.backends import in_fresh_processes
from tpnum.tiles.costs.stopwatch import least, seconds
from tpnum.tiles.grid import Tile
from tpnum.tiles.pool import thread_count
from tpnum.tiles.stores import layout as layouts
from tpnum.tiles.stores.runs import portable, work_apart
from tpnum.tiles.stores.targets import on_disk, target_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.tiles.stores.layout import Layout
    from tpnum.tiles.stores.targets import Target
    from tpnum.tiles.tasks import Job

SMALL, FEW = 64, 8
"""Examples of the smallest tile that is tried, and of one with what is beside kernels."""
LONG = 0.3
"""Seconds from which on a tile stands for the larger ones."""
PASSES = 2 / layouts.SQUARE
"""Slices that are prepared per tile of a large matrix."""


@dataclass(frozen=True)
class StorePlan:
    """What `tpnum.kernel` with ``out`` on disk takes for the symmetric n x n matrix.

    Attributes
    ----------
    tiles, tile
        How many tasks, and the rows and columns of each.
    bytes, files
        On disk: numbers with their checksums; chunks, receipts and what describes them.
    tile_seconds
        Processor seconds of a task, ``write_seconds`` of them to write it.
    bandwidth
        Bytes a second that the file system at ``out`` takes to the medium (measured with fsync, one writer).
    start_seconds
        Processor seconds of a worker that is a process, or of a shard, before its first task, measured by as
        many at once as this machine has processors for; 0 for threads.
    """

    n: int
    cores: int
    tiles: int
    tile: tuple[int, int]
    bytes: int
    files: int
    tile_seconds: float
    write_seconds: float
    bandwidth: float
    start_seconds: float = 0.0

    @property
    def processor_seconds(self) -> float:
        """Of all tasks, and of workers until they have started."""
        return self.tiles * self.tile_seconds + min(self.cores, self.tiles) * self.start_seconds

    @property
    def limit(self) -> float:
        """Cores from which on the file system is the limit, if all share what one writer gets here."""
        return max(1.0, self.bandwidth * self.tiles * self.tile_seconds / self.bytes)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds: of the processors, or of the file system where it is the limit."""
        tasks = self.tile_seconds * -(-self.tiles // self.cores)
        return self.start_seconds + max(tasks, self.bytes / self.bandwidth)


def store_plan(
    job_of: Callable[[int], Job], dtype: np.dtype, n: int, cores: int, out: Any, backend: str
) -> StorePlan:
    """Measure a task and its writing at the place of ``out``, and the start of a worker.

    ``job_of(count)`` is the job of so many examples, whole batches of them where they come in batches.
    """
    if not on_disk(out):
        raise InputError('out: it must be a place on disk, as "K.zarr" or "K.npy"')
    job = job_of(2 * SMALL)
    kinds, step, processes = job.names, job.batch or 1, backend == "processes"
    target = target_of(out, kinds)
    folder = Path.cwd() if target.path is None else target.path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise StoreError(f"{target.name}: the directory {folder} does not exist or cannot be written")
    try:
        sides = layouts.FULL if job.plan().mirrored else layouts.WHOLE
        shape = (n, n, *job.shape()[2:])
        layout = layouts.cut(kinds, shape, dtype, job.pairs(), None, sides, step)
        start = _started(job, target, folder, min(cores, thread_count(None))) if processes else 0.0
    finally:
        job.forget()
    writing, bandwidth = _written(layout, folder, target.ending)
    rows, cols = layout.grid
    few = FEW if job.beside else SMALL
    across, diagonal = _computed(job_of, layout, step, few, min(PASSES, 2 / (rows + 1)))
    own = rows if sides == layouts.FULL else 0
    share = own / layout.count
    filled = n * n / (rows * layout.height * cols * layout.width)  # the last tiles are smaller
    compute = (1 - share) * across + share * diagonal
    return StorePlan(
        n,
        cores,
        layout.count,
        (layout.height, layout.width),
        *target.extent(layout),
        compute * filled + writing * (1 - share / 2),
        writing,
        bandwidth,
        start,
    )


def _started(job: Job, target: Target, folder: Path, count: int) -> float:
    """Processor seconds of a fresh process until it has done a small task, beside others that do the same.

    Together they take longer than alone: they share caches, and what one core has for two threads.
    """
    portable(job, target)
    sides = layouts.FULL if job.plan().mirrored else layouts.WHOLE
    step = job.batch or 1
    few = layouts.cut(job.names, job.shape(), job.dtype, 1, step, sides, step)
    with tempfile.TemporaryDirectory(prefix=".tpnum-", dir=folder) as place:
        small = [target_of(str(Path(place, f"{k}{target.ending}")), job.names) for k in range(count)]
        for one in small:
            one.create(few, {})
        return float(np.mean(in_fresh_processes(_timed, [(job, one, few) for one in small])))


def _timed(job: Job, target: Target, layout: Layout) -> float:
    work_apart(job, target, layout, layout.tiles[0])
    return time.process_time()


def _computed(
    job_of: Callable[[int], Job], layout: Layout, step: int, few: int, passes: float
) -> tuple[float, float]:
    """Seconds of a tile off the diagonal and of one on it, of a smaller one where that takes long."""
    side = min(-(-few // step) * step, layout.height)
    while True:
        job = job_of(2 * side)
        top, right = slice(0, side), slice(side, 2 * side)
        across, own = (partial(job.compute, Tile(top, cols, False)) for cols in (right, top))
        try:
            job.compute(Tile(slice(0, step), slice(0, step), False))
            cold = seconds(across)
            warm, diagonal = min(cold, least(across)), least(own)
        finally:
            job.forget()
        if side >= layout.height or warm > LONG:
            break
        side = min(2 * side, layout.height)
    grown = layout.height * layout.width / side**2
    each = warm + 0.5 * passes * (cold - warm)
    return each * grown, diagonal * grown


def _written(layout: Layout, folder: Path, ending: str) -> tuple[float, float]:
    """Processor seconds to write a tile with its mirror image, and bytes a second to the medium."""
    few = replace(layout, shape=(2 * layout.height, 2 * layout.width, *layout.shape[2:]))
    numbers = np.random.default_rng(0).random(layout.chunks, dtype=np.float32).astype(layout.dtype)
    blocks = dict.fromkeys(layout.kinds, numbers)
    with tempfile.TemporaryDirectory(prefix=".tpnum-", dir=folder) as place:
        target = target_of(str(Path(place, f"K{ending}")), layout.kinds)
        target.create(few, {})
        records, tile = target.records(few), few.tile(0, 1)
        taken = []
        for _ in range(3):
            begun = time.process_time()
            sums = target.put(few, tile, blocks)
            records.add(tile, {"sums": sums, "seconds": 0.0})
            taken.append(time.process_time() - begun)
        begun = time.perf_counter()
        with Path(place, "numbers").open("wb") as stream:
            stream.write(numbers.data)
            stream.flush()
            os.fsync(stream.fileno())
        passed = time.perf_counter() - begun
    return min(taken), numbers.nbytes / max(passed, 1e-6)
