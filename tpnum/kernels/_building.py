"""While a kernel is compiled: processes take turns, and somebody who waits is told why."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # no such locks: processes that start together compile the same things, each for itself
    fcntl = None  # type: ignore[assignment]

PATIENCE = 120.0
"""Seconds that a process waits for another that compiles the same; then it does the work itself."""
SILENCE = 2.0
"""Seconds of compilation about which nothing is said."""


@contextmanager
def turn(path: Path | None) -> Iterator[None]:
    """Hold the lock of that file.  It saves work only: files are right whoever writes them, and how often."""
    stream = None
    if path is not None and fcntl is not None:
        with suppress(OSError):
            stream = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    if stream is None:
        yield
        return
    held = False
    try:
        held = _wait(stream)
        yield
    finally:
        if held:
            with suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_UN)  # of this description: a forked child has a copy
        os.close(stream)


def _wait(stream: int) -> bool:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        except OSError:  # a file system without locks
            return False


@contextmanager
def frugal() -> Iterator[None]:
    """A block in which Python looks for garbage among what is new alone.

    Compilers make millions of objects that live until they are done, and each search among all of them finds
    next to nothing: a tenth of the time.
    """
    before = gc.get_threshold()
    own = *before[:2], 1 << 30
    gc.set_threshold(*own)
    try:
        yield
    finally:
        if gc.get_threshold() == own:  # nobody else's
            gc.set_threshold(*before)


class Notice:
    """One line on stderr, once in a process, when compiling has taken some seconds."""

    def __init__(self) -> None:
        self.spent = 0.0
        self.said = self.running = False

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time of this block; one thread at a time is in such a block, and it may nest."""
        if self.said or self.running:
            yield
            return
        timer = threading.Timer(max(SILENCE - self.spent, 0.0), self._say)
        timer.daemon = True
        self.running, start = True, time.monotonic()
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self.running = False
            self.spent += time.monotonic() - start

    def _say(self) -> None:
        self.said = True
        if sys.stderr is not None:
            text = "tpnum: compiling kernels, once per machine (tpnum warm compiles all of them beforehand)"
            print(text, file=sys.stderr, flush=True)


notice = Notice()
