"""Threads over tiles by joblib, the BLAS held at one thread inside them, and progress."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from tpnum.law.threads import together
from tpnum.tiles.progress import Progress

if TYPE_CHECKING:
    from tpnum.law.threads import Stop
    from tpnum.tiles.grid import Tile
    from tpnum.tiles.sinks import Sink


class Worker(Protocol):
    """Computes tiles into a sink; `prepare` runs once, before any thread."""

    road: str  # "machine", "cells" or "general"
    tiles: list[Tile]
    pairs: int  # as many as take half a minute at most, or so
    grain: int  # entries below which a thread more costs what it saves
    stop: Stop  # gives up the tiles at work

    @property
    def sink(self) -> Sink:
        """Takes the tiles."""

    @property
    def reason(self) -> str:
        """Why this road."""

    def prepare(self) -> None: ...

    def tile(self, tile: Tile) -> None: ...

    def finish(self) -> None: ...


@lru_cache(maxsize=1)
def _libraries(modules: int) -> list[Any]:
    """The BLAS of this process; they come with modules, and looking for them takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas").lib_controllers


class _Limit:
    """The BLAS of this process at one thread, from now until `undo`."""

    def __init__(self) -> None:
        found = _libraries(len(sys.modules))
        # threadpoolctl 3.7 and later ignores, without a word, all threads but the first that has set a limit
        setters = [getattr(lib, "_real_set_num_threads", lib.set_num_threads) for lib in found]
        self._undo = [(set_to, lib.get_num_threads()) for set_to, lib in zip(setters, found, strict=True)]
        for set_to in setters:
            set_to(1)

    def undo(self) -> None:
        for set_to, count in self._undo:
            set_to(count)


class _Owner:
    """The one owner of the limit on the process's BLAS: the first user sets it, the last undoes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._limit: Any = None

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            if not self._users:
                self._limit = _Limit()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._limit.undo()

    def forked(self) -> None:
        """In a child, none of whose threads is in a block of this kind, whatever its parent was doing."""
        if self._users:
            self._limit.undo()
        self.__init__()  # type: ignore[misc]


_owner = _Owner()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_owner.forked)


def one_blas_thread() -> AbstractContextManager[None]:
    """The BLAS at one thread: tiles are the parallelism, and its own threads would spin beside them.

    Calls from several threads may overlap; when the last has ended the BLAS has as many threads as before.
    """
    return _owner.held()


def thread_count(n_jobs: int | None) -> int:
    """How many threads ``n_jobs`` asks for, counted as joblib counts: -1 is all processors, -2 one fewer."""
    from joblib import cpu_count

    return n_jobs if n_jobs is not None and n_jobs > 0 else max(1, cpu_count() + 1 + (n_jobs or -1))


def run(worker: Worker, n_jobs: int | None, progress: bool | Callable[[int, int], None] | None) -> None:
    """Every tile of the worker once, by this thread and ``n_jobs - 1`` others that take what is next."""
    jobs = thread_count(n_jobs)
    entries = sum(tile.entries for tile in worker.tiles)
    jobs = max(1, min(jobs, len(worker.tiles), entries // worker.grain))
    report = Progress(progress, len(worker.tiles), entries=entries).step

    def tile(one: Tile) -> None:
        worker.tile(one)
        report()

    worker.sink.open()
    worker.prepare()
    together(tile, worker.tiles, jobs, worker.stop)
    worker.finish()
