"""A kernel matrix on disk, from the refusals before a file is made to the last receipt."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import choice
from tpnum.errors import InputError, StoreError, TpnumError, require_memory
from tpnum.tiles.backends import backend_of
from tpnum.tiles.grid import Tile
from tpnum.tiles.pool import one_blas_thread
from tpnum.tiles.progress import Progress
from tpnum.tiles.scheduling import LIVES, PATIENCE, Deserted, execute, lost, named
from tpnum.tiles.sinks import flipped
from tpnum.tiles.stores import layout as layouts
from tpnum.tiles.stores.layout import Layout
from tpnum.tiles.stores.provenance import layout_of, programs_of, provenance, same
from tpnum.tiles.stores.receipts import Receipts, held, mark, sweep
from tpnum.tiles.stores.targets import target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tpnum.tiles.backends import Backend
    from tpnum.tiles.stores.targets import Target
    from tpnum.tiles.tasks import Job

COPIES = 4
"""Of a tile that a worker may hold at a time: as it is computed, its mirror image, as it is written."""


def write(
    job: Job,
    out: Any,
    *,
    tile: int | None = None,
    n_jobs: int | None = None,
    backend: Any = None,
    scheduler: Any = None,
    resume: bool = False,
    verify: bool = False,
    symmetric: str = layouts.FULL,
    shard: tuple[int, int] | None = None,
    progress: bool | Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    force: bool = False,
) -> Target:
    """Compute what of a matrix is not there yet; every refusal comes before anything is made.

    Raises `tpnum.tiles.scheduling.Paused` if ``stop`` has ended the run; what is finished stays.
    """
    target = target_of(out, job.names, force)
    _writable(target)
    if shard is not None and target.finished(job.shape(), job.dtype):
        return target  # by the other shards
    known = target.document()
    if known is not None and not resume and shard is None:
        raise StoreError(f"{target.name} exists; resume=True continues it, or choose another out")
    sides = _symmetric(job, target, symmetric)
    layout = _new_layout(job, target, tile, sides) if known is None else layout_of(target, known)
    facts = provenance(job, layout)
    if known is not None:
        same(target, known, facts, tile, sides)
    with ExitStack() as stack:
        runner = stack.enter_context(_closing(backend_of(backend, scheduler, n_jobs)))
        if not runner.shares:
            portable(job, target)
        if known is None:
            with _named(target):
                target.create(layout, facts)
            created = target.document() or facts  # another process may have been faster
            layout = layout_of(target, created)
            same(target, created, facts, tile, sides)
        guard = target.guard(layout)
        stack.enter_context(held(guard, target.name, shard is not None) if guard else nullcontext())
        if shard is not None and target.finished(job.shape(), job.dtype):
            return target  # since it was looked at
        records = target.records(layout)
        if shard is None and guard is not None:
            target.tidy(layout)
            records.tidy()
            if target.path is not None:
                sweep(target.path)
        tiles = _due(target, layout, records, verify, shard)
        if tiles:
            if not target.reserved:
                _room(target, len(tiles) / len(layout.tiles) * target.space(layout))
            _compute(job, target, layout, tiles, runner, progress, stop, shard)
        if not records.missing():
            with _named(target):
                target.finish(layout)
    return target


def _new_layout(job: Job, target: Target, tile: int | None, sides: str) -> Layout:
    """The layout of a matrix that is not begun; one that has no room, or cannot be computed, is refused."""
    layout = layouts.cut(job.names, job.shape(), job.dtype, job.pairs(), tile, sides, job.batch or 1)
    _room(target, target.space(layout))
    if job.beside.wrt:
        job.compute(Tile(slice(0, 1), slice(0, 1), False))  # or it is refused
    return layout


def _compute(
    job: Job,
    target: Target,
    layout: Layout,
    tiles: list[Tile],
    backend: Backend,
    progress: bool | Callable[[int, int], None] | None,
    stop: Callable[[], bool],
    shard: tuple[int, int] | None,
) -> None:
    each = COPIES * layout.chunk_bytes * len(layout.kinds)
    require_memory(float(each), f"tile: one of {layout.height} x {layout.width} pairs", "give a smaller one")
    mine = layout.tiles[_share(len(layout.tiles), shard)]
    label = target.name if shard is None else f"{target.name} {shard[0]}/{shard[1]}"
    steps = Progress(
        progress,
        len(mine),
        label,
        sum(t.entries for t in mine),
        layout.bytes() * len(mine) / len(layout.tiles),
        len(mine) - len(tiles),
    )
    account = job.account()

    def report(_: Tile, facts: dict[str, Any]) -> None:
        account.note(*facts["error"])
        steps.step()

    with ExitStack() as stack:
        sent = job
        if not backend.shares:
            with _named(target):
                sent = job.on_disk(Path(stack.enter_context(_shelf(target))))
        try:
            call = work if backend.shares else work_apart
            if backend.shares:
                stack.enter_context(one_blas_thread())  # once, not tile by tile
            execute(backend, lambda tile: (call, sent, target, layout, tile), tiles, report, stop)
        except Deserted as left:
            raise _deserted(target.records(layout), left.tiles, job.token) from left
        except BaseException:
            job.stop()
            raise
    account.warn()


@contextmanager
def _closing(backend: Backend) -> Iterator[Backend]:
    """Let go of the workers at the end, at once if something has gone wrong."""
    try:
        yield backend
    except BaseException:
        backend.close(True)
        raise
    backend.close(False)


def work_apart(job: Job, target: Target, layout: Layout, tile: Tile) -> dict[str, Any]:
    """One task in a process that may die of it: whoever begins it too often is told so."""
    records = target.records(layout)
    with _named(target):
        begun = records.begin(tile, job.token)
    if begun > LIVES:
        raise lost(tile)
    made = work(job, target, layout, tile)
    with _named(target):
        records.end(tile, job.token)
    return made


def _deserted(records: Receipts, tiles: list[Tile], run: str) -> StoreError:
    """The error of a run without workers, which names the task that was begun most often."""
    worst = max(tiles, key=lambda tile: records.begun(tile, run))
    return StoreError(
        f"no worker is left, and none has come for {PATIENCE:g} seconds; {named(worst)} was under way, begun "
        f"{records.begun(worst, run)} times: start workers, with more memory if it was short, and "
        "resume=True continues"
    )


def work(job: Job, target: Target, layout: Layout, tile: Tile) -> dict[str, Any]:
    """One task, in whatever process: compute, write, and leave a receipt.

    What another run, or a worker that died before it could answer, has finished meanwhile is done.
    """
    begun = time.thread_time()
    records = target.records(layout)
    known = records.read(tile)
    if known is not None:
        return known
    blocks = job.compute(tile)
    with _named(target):
        sums = target.put(layout, tile, blocks)
        facts = {"sums": sums, "seconds": time.thread_time() - begun, "error": job.account().worst}
        records.add(tile, facts)
    return facts


# -- what is due -----------------------------------------------------------------------------------


def _share(count: int, shard: tuple[int, int] | None) -> slice:
    """The tasks of a shard, which follow one another."""
    k, n = shard or (1, 1)
    return slice((k - 1) * count // n, k * count // n)


def _due(
    target: Target, layout: Layout, records: Receipts, verify: bool, shard: tuple[int, int] | None
) -> list[Tile]:
    """The tasks that have no receipt, or whose data is damaged."""
    done = records.done()
    due = []
    for tile in layout.tiles[_share(len(layout.tiles), shard)]:
        if layout.place(tile) in done:
            if not damaged(target, layout, records, tile, verify):
                continue
            records.drop(tile)
        due.append(tile)
    return due


def damaged(target: Target, layout: Layout, records: Receipts, tile: Tile, read: bool) -> bool:
    """Whether the data of a finished task is not there or not whole; with ``read`` its checksums count."""
    if target.short(layout, tile):
        return True
    if not read:
        return False
    said = records.read(tile)
    try:
        if said is None or said.get("sums") != target.sums(layout, tile):
            return True
        for kind in layout.kinds:
            block = target.get(kind, tile.rows, tile.cols)
            if tile.mirror and not np.array_equal(target.get(kind, tile.cols, tile.rows), flipped(block)):
                return True
    except OSError:
        return True
    return False


# -- refusals --------------------------------------------------------------------------------------


def _symmetric(job: Job, target: Target, symmetric: str) -> str:
    """The symmetry of the layout."""
    asked = choice(symmetric, "symmetric", layouts.SIDES)
    own = job.second is None and job.plan().mirrored
    if asked == layouts.HALF and not (own and target.halves):
        raise InputError('symmetric: "half" is for symmetric matrices, without x2, in a Zarr store')
    return asked if own else layouts.WHOLE


def _writable(target: Target) -> None:
    if target.read_only:
        raise StoreError(
            f"{target.name} is open for reading alone; open it for writing or choose another out"
        )
    path = target.path
    if path is None:
        return
    parent = path.parent
    if not parent.is_dir():
        reason = "is a file, not a directory" if parent.exists() else "does not exist"
        raise StoreError(f"{target.name}: {parent} {reason}; make a directory or choose another out")
    for folder in (parent, path):
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            raise StoreError(f"{target.name}: the directory {folder} cannot be written; choose another out")


def _room(target: Target, needed: float) -> None:
    """Refuse what the disk does not hold, before it is begun."""
    if target.path is None:
        return
    free = shutil.disk_usage(target.path.parent).free
    if needed > free:
        raise StoreError(
            f"{target.name} would take {needed / 2**30:.3g} GiB, and {target.path.parent} has "
            f"{free / 2**30:.3g} GiB left; choose another out or give fewer examples"
        )


class _named:
    """Errors of the system while the output is written name it."""

    def __init__(self, target: Target):
        self._name = target.name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if not isinstance(error, OSError) or isinstance(error, TpnumError):
            return
        stays = "what is finished stays, and resume=True continues it"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(f"{self._name}: the disk is full; {stays}") from error
        raise StoreError(f"{self._name} cannot be written: {error.strerror or error}; {stays}") from error


def portable(job: Job, target: Target) -> None:
    """Refuse for other processes what only this one knows."""
    for program in programs_of(job):
        try:
            program.to_json()
        except TpnumError as error:
            raise InputError(f"backend: the net cannot be sent to other processes: {error}") from error
    if not target.sent:
        raise InputError("out: a store in memory cannot be sent to other processes; use threads")


def _shelf(target: Target) -> Any:
    """A folder for inputs that were in memory, beside the output, where all its writers see it."""
    if target.path is None:
        return tempfile.TemporaryDirectory(prefix="tpnum-")
    return _Shelf(mark(target.path, "inputs"))


class _Shelf:
    def __init__(self, path: Path):
        self._path = path

    def __enter__(self) -> Path:
        self._path.mkdir()
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path, ignore_errors=True)
