"""Tasks over a backend: a few ahead, lost ones again, and an end when somebody says stop."""

from __future__ import annotations

import time
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import TYPE_CHECKING, Any

from tpnum.errors import StoreError
from tpnum.tiles.backends import LOSSES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tpnum.tiles.backends import Backend
    from tpnum.tiles.grid import Tile

LIVES = 3
"""Workers that a task may lose before it is given up."""
POLL = 0.2
"""Seconds between two looks at whether to stop."""
COUNT = 1.0
"""Seconds between two counts of the workers, which may come and go."""
PATIENCE = 30.0
"""Seconds that a run waits for a worker where there is none."""


class Paused(Exception):
    """A run ended before its tasks did, since it was asked to."""


class Deserted(Exception):
    """No worker is left, and none has come for a while; ``tiles`` were under way."""

    def __init__(self, tiles: Sequence[Tile]):
        super().__init__("no worker is left")
        self.tiles = list(tiles)


class _Crew:
    """How many workers a backend has, counted now and then."""

    def __init__(self, backend: Backend):
        self._backend, self.size = backend, backend.workers()
        self._counted = self._seen = time.monotonic()

    def count(self) -> bool:
        """Count them if it is time; whether there was one lately."""
        now = time.monotonic()
        if now - self._counted > COUNT:
            self.size = self._backend.workers()
            self._counted = time.monotonic()
            if self.size:
                self._seen = now
        return now - self._seen <= PATIENCE


def execute(
    backend: Backend,
    call: Callable[[Tile], tuple[Any, ...]],
    tiles: Sequence[Tile],
    report: Callable[[Tile, Any], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run every tile's ``call``, a function and its arguments; `report` hears of each that is done.

    A task whose worker died is run again, alone where it is not known which one killed it, and given up
    with an error when it has lost `LIVES` of them.  `Deserted` where no worker is left to run it, for as
    long as `PATIENCE`.  When ``stop`` says so, what runs is finished and `Paused` raised.
    """
    waiting, suspects = deque(tiles), deque[Any]()
    deaths: Counter[int] = Counter()
    running: dict[Future[Any], Tile] = {}
    crew, ahead = _Crew(backend), 1 if backend.shares else 2

    def submit(tile: Tile) -> None:
        running[backend.submit(*call(tile))] = tile

    while waiting or suspects or running:
        if stop():
            _drain(running, report)
            if len(waiting) + len(suspects) + len(running):
                raise Paused
            return
        if suspects:
            if not running:
                submit(suspects.popleft())
        else:
            while waiting and len(running) < max(1, crew.size) * ahead:
                submit(waiting.popleft())
        finished, _ = wait(running, timeout=POLL, return_when=FIRST_COMPLETED)
        together = len(running) > 1
        for future in finished:
            tile = running.pop(future)
            error = None if future.cancelled() else future.exception()
            if error is None and not future.cancelled():
                report(tile, future.result())
            elif error is None or isinstance(error, LOSSES):
                shared = together and isinstance(error, BrokenExecutor)
                deaths[id(tile)] += not shared
                if deaths[id(tile)] >= LIVES:
                    raise lost(tile) from error
                (suspects if isinstance(error, BrokenExecutor) else waiting).append(tile)
            else:
                raise error
        if not crew.count():
            raise Deserted(list(running.values()))


def _drain(running: dict[Future[Any], Tile], report: Callable[[Tile, Any], None]) -> None:
    """Finish what runs; what does not run yet stays, cancelled, in ``running``."""
    going = [future for future in running if not future.cancel()]
    wait(going)
    for future in going:
        if future.exception() is None:
            report(running.pop(future), future.result())


def lost(tile: Tile) -> StoreError:
    """The error of a task that kills its workers."""
    return StoreError(
        f"{named(tile)} has lost {LIVES} workers; give them more memory, or choose a smaller tile"
    )


def named(tile: Tile) -> str:
    """What messages call a tile."""
    rows, cols = tile.rows, tile.cols
    return f"the tile of rows {rows.start} to {rows.stop} and columns {cols.start} to {cols.stop}"
