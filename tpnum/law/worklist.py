"""Rules that ask one another for answers, without a recursion as deep as the program.

A rule (a second moment, a normal form, a slope) is a function of earlier lines' rules.  Asked for the last
line of a deep program it would call itself once per line.  `once` lets rules call each other over `LEVELS`
of missing answers; beyond these the innermost rule is put aside on a list, what it asks for is found first,
and the outermost rule starts again, with its answers in the memo.  A rule may therefore run more than once:
what it does besides answering, it does the first time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Hashable, Iterable
from typing import Any, TypeAlias, TypeVar

from tpnum.errors import LimitError

V = TypeVar("V")
N = TypeVar("N")

LEVELS = 3
"""Rules that may wait for one another on the stack."""

Job: TypeAlias = tuple[dict[Any, Any], Any, Callable[..., Any], tuple[Any, ...]]
"""A memo, a key of it, the rule that makes its value, and the rule's arguments."""


class _Missing(Exception):
    """An answer that must be found first."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job


class _Level(threading.local):
    depth = 0


_level = _Level()


def once(memo: dict[Any, V], key: Any, rule: Callable[..., V], *args: Any) -> V:
    """``memo[key]``, made by ``rule(*args)`` when it is asked for first.

    Raises
    ------
    LimitError
        A rule that asks for its own answer.
    """
    if key not in memo:
        if _level.depth == 0:
            _work((memo, key, rule, args))
        elif _level.depth < LEVELS:
            _run((memo, key, rule, args))
        else:
            raise _Missing((memo, key, rule, args))
    return memo[key]


def _run(job: Job) -> None:
    memo, key, rule, args = job
    _level.depth += 1
    try:
        memo[key] = rule(*args)
    finally:
        _level.depth -= 1


def _work(job: Job) -> None:
    """Find an answer, and before it those that it waits for."""
    waiting = [job]
    known = {(id(job[0]), job[1])}
    while waiting:
        memo, key, *_ = waiting[-1]
        missing = None if key in memo else _attempt(waiting[-1])
        if missing is None:
            known.discard((id(memo), key))
            waiting.pop()
            continue
        name = (id(missing[0]), missing[1])
        if name in known:
            raise LimitError(f"{missing[1]} depends on itself")
        known.add(name)
        waiting.append(missing)


def _attempt(job: Job) -> Job | None:
    """Run a rule; the answer that it lacks, if it lacks one."""
    try:
        _run(job)
    except _Missing as missing:
        return missing.job
    return None


def postorder(
    roots: Iterable[N],
    below: Callable[[N], Iterable[N]],
    key: Callable[[N], Hashable],
    done: Container[Hashable],
) -> list[N]:
    """The nodes that roots are computed from and that are not ``done``, each once and behind its operands."""
    order: list[N] = []
    seen: set[Hashable] = set()
    stack: list[tuple[N, bool]] = [(node, False) for node in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        name = key(node)
        if ready:
            order.append(node)
        elif name not in seen and name not in done:
            seen.add(name)
            stack.append((node, True))
            stack += [(child, False) for child in below(node)]
    return order
