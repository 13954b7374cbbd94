"""Ctrl-C during calls of foreign code that would swallow it.

Python raises KeyboardInterrupt wherever the main thread happens to be.  What it raises in a callback from
LLVM, in a finaliser or in an extension module that ignores exceptions is printed at best: the calculation
goes on, and what was interrupted stays half done.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def anywhere(frame: FrameType | None) -> bool:
    """Nowhere in the block is an interrupt safe."""
    return True


def within_llvm(frame: FrameType | None) -> bool:
    """Whether code of LLVM's bindings is being executed: a callback or a finaliser."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("llvmlite."):
            return True
        frame = frame.f_back
    return False


@contextmanager
def postponed(where: Callable[[FrameType | None], bool] = anywhere) -> Iterator[None]:
    """A block at whose end Ctrl-C takes effect if it is pressed ``where`` it would be lost, else at once."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    handler: Callable[[int, FrameType | None], object] = before
    waiting = False

    def heed(number: int, frame: FrameType | None) -> None:
        nonlocal waiting
        if where(frame):
            waiting = True
        else:
            handler(number, frame)

    signal.signal(signal.SIGINT, heed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if waiting:
            handler(signal.SIGINT, sys._getframe())
