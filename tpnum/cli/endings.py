"""How a long command ends early: by a signal that asks for an orderly end, or by Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

AGAIN = 75
"""The exit status of a run that is to be started again (EX_TEMPFAIL)."""
ORDERLY = ("SIGTERM", "SIGUSR1", "SIGUSR2")
"""Signals of batch systems, sent before time is up: what is begun is finished, nothing else."""


class Ended(Exception):
    """A command that ends with one line and an exit status of its own."""

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status


@contextmanager
def orderly() -> Iterator[Callable[[], bool]]:
    """Whether one of the signals of a batch system has come."""
    come: list[int] = []
    before = {}
    for name in ORDERLY:
        number = getattr(signal, name, None)
        if number is None or signal.getsignal(number) is signal.SIG_IGN:
            continue

        def note(number: int, frame: FrameType | None) -> None:
            come.append(number)

        with suppress(ValueError):  # not the main thread: signals are someone else's
            before[number] = signal.signal(number, note)
    try:
        yield lambda: bool(come)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
