"""Processor time and memory of calls, the least of as many as there is time for."""

from __future__ import annotations

import mmap
import time
import tracemalloc
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = 12.0
"""Seconds that a tile of a road without regions may take in a trial."""

SHARE = 0.2
"""Seconds that one of the measurements may take, once it is known to be cheaper than that."""

FRESH = 4 << 20
"""Bytes with which is found what new memory takes, and from which on a matrix is in huge pages."""

PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
"""As an allocator maps memory: what processes may share has no huge pages."""


def seconds(call: Callable[[], object], before: Callable[[], object] | None = None) -> float:
    """Processor seconds of this thread: what other processes do does not count, nor what is done before."""
    if before is not None:
        before()
    started = time.thread_time()
    call()
    return time.thread_time() - started


def least(call: Callable[[], object], before: Callable[[], object] | None = None) -> float:
    """The least of three calls, or of as many as there is time for."""
    taken = seconds(call, before)
    for _ in range(0 if taken > SHARE / 2 else 1 if taken > SHARE / 8 else 2):
        taken = min(taken, seconds(call, before))
    return taken


@cache
def first_touch(size: int = FRESH) -> float:
    """Seconds that a byte takes more in so much new memory: calls that are repeated use theirs again."""
    more = []
    for _ in range(5):
        pages = mmap.mmap(-1, size, **PRIVATE)
        if size > FRESH and hasattr(mmap, "MADV_HUGEPAGE"):  # NumPy asks for them from here on
            pages.madvise(mmap.MADV_HUGEPAGE)
        memory = np.frombuffer(pages, np.uint8)
        first = seconds(partial(memory.fill, 1))
        more.append(first - seconds(partial(memory.fill, 1)))
    return max(0.0, float(np.median(more))) / size


@contextmanager
def tracing() -> Iterator[None]:
    """A block in which allocations are counted, as they may be already."""
    own = not tracemalloc.is_tracing()
    if own:
        tracemalloc.start(1)
    try:
        yield
    finally:
        if own:
            tracemalloc.stop()


def peak_of(call: Callable[[], object]) -> float:
    """Bytes of arrays that a call holds at most beyond what there is."""
    with tracing():
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        call()
        return float(max(0, tracemalloc.get_traced_memory()[1] - before))
