"""Deep nets make deep recursions: room for them, wherever the caller stands."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SHALLOW = 150
"""Programs of fewer lines fit Python's own limit."""

FRAMES, BYTES = 60, 1 << 17
"""Frames and stack that one line may take."""


def deeply(lines: int, work: Callable[[], T]) -> T:
    """``work()``, with a stack for a recursion as deep as a program of that many lines can make it."""
    if lines < SHALLOW:
        return work()
    result: list[T] = []
    failure: list[BaseException] = []

    def call() -> None:
        try:
            result.append(work())
        except BaseException as error:  # handed to the caller's thread
            failure.append(error)

    limit, size = sys.getrecursionlimit(), threading.stack_size()
    try:
        sys.setrecursionlimit(max(limit, FRAMES * lines))
        threading.stack_size(min(1 << 30, max(1 << 26, BYTES * lines)))
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
        sys.setrecursionlimit(limit)
    if failure:
        raise failure[0]
    return result[0]
