"""Work on several threads that Ctrl-C ends soon: what is at work looks now and then whether to stop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Stopped(Exception):
    """Work given up, since other work failed or the user interrupted."""


class Stop:
    """Whether work is to be given up: ``stop()`` raises `Stopped` then, and costs nothing otherwise."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """From now on work is given up."""
        self._event.set()

    @property
    def asked(self) -> bool:
        """Whether it is."""
        return self._event.is_set()

    def __call__(self) -> None:
        if self.asked:
            raise Stopped


def together(work: Callable[[K], V], keys: Sequence[K], jobs: int, stop: Stop) -> list[V]:
    """``work`` of every key, in their order, by this thread and ``jobs`` - 1 others."""
    from joblib import Parallel, delayed

    waiting = deque(enumerate(keys))
    made: dict[int, V] = {}

    def drain() -> None:
        while waiting:
            try:
                place, key = waiting.popleft()
            except IndexError:  # another thread took it
                return
            try:
                stop()
                made[place] = work(key)
            except Stopped:
                return
            except BaseException:
                stop.set()
                raise

    others: Any = ()
    jobs = min(jobs, len(keys))
    if jobs > 1:
        parallel = Parallel(n_jobs=jobs, backend="threading", return_as="generator")
        others = parallel(delayed(drain)() for _ in range(jobs - 1))
    try:
        drain()
        for _ in others:
            pass
    except BaseException:
        stop.set()
        for _ in others:
            pass
        raise
    if len(made) < len(keys):
        raise Stopped
    return [made[place] for place in range(len(keys))]
