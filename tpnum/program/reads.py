"""How the methods of the language read their arguments: one reader per kind of argument."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

import numpy as np

from tpnum import arguments
from tpnum.arguments import shown
from tpnum.errors import ProgramError
from tpnum.program.maps import IndexMap, Rows

P = ParamSpec("P")
R = TypeVar("R")
Reader = Callable[[Any, str], Any]


def reads(**readers: Reader) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A method whose arguments of these names are read by ``reader(value, name)`` before it runs."""

    def read(method: Callable[P, R]) -> Callable[P, R]:
        found = inspect.signature(method).parameters.values()
        places = [(k, p.name, readers[p.name]) for k, p in enumerate(found) if p.name in readers]
        by_place = {p.name for p in found if p.kind is not inspect.Parameter.KEYWORD_ONLY}

        @functools.wraps(method)
        def call(*args: P.args, **given: P.kwargs) -> R:
            made: list[Any] = list(args)
            for k, name, reader in places:
                if name in given:
                    given[name] = reader(given[name], name)
                elif k < len(made) and name in by_place:
                    made[k] = reader(made[k], name)
            return method(*made, **given)

        return call

    return read


def text(value: Any, name: str) -> str:
    """A name of an axis or a CDC."""
    return arguments.text(value, name, ProgramError)


def text_or_empty(value: Any, name: str) -> str:
    """A name, "" for the usual one."""
    return value if isinstance(value, str) else text(value, name)


def named(value: Any, name: str) -> str | None:
    """A name that may be left to the program."""
    return None if value is None else text(value, name)


def real(value: Any, name: str) -> float:
    """A finite number."""
    return arguments.number(value, name, error=ProgramError)


def not_negative(value: Any, name: str) -> float:
    """A finite number of 0 or more."""
    return arguments.number(value, name, low=0, error=ProgramError)


def real_or_none(value: Any, name: str) -> float | None:
    """A finite number or None."""
    return None if value is None else real(value, name)


def whole(value: Any, name: str) -> int:
    """A whole number."""
    return arguments.whole(value, name, error=ProgramError)


def size(value: Any, name: str) -> int:
    """A size of an axis or a window."""
    return arguments.whole(value, name, high=LONGEST, error=ProgramError)


def size_or_none(value: Any, name: str) -> int | None:
    """A size, or None where something else says it."""
    return None if value is None else arguments.whole(value, name, 1, LONGEST, ProgramError)


LONGEST = 1 << 20
"""Positions along one axis that are still written down one by one."""


def flag(value: Any, name: str) -> bool:
    """True or False."""
    return arguments.flag(value, name, ProgramError)


def listed(values: Any, name: str, error: arguments.Refusal = ProgramError) -> list[Any]:
    """The entries of a list, a tuple or another sequence, not of a text or a mapping."""
    try:
        if not isinstance(values, (str, bytes, Mapping)) and np.iterable(values):
            return list(values)
    except Exception as problem:
        raise error(f"{name}: {shown(values)} cannot be read ({type(problem).__name__})") from problem
    raise error(f"{name}: a list is needed, not {shown(values)}")


def axes(value: Any, name: str) -> tuple[tuple[str, int], ...]:
    """Axes from {"t": 5}, (("t", 5),) or ()."""
    try:
        items = list(value.items() if isinstance(value, Mapping) else value)
        pairs = [(a, operator.index(n)) for a, n in items]
    except Exception:
        pairs = [(None, 0)]
    if isinstance(value, str) or not all(isinstance(a, str) for a, _ in pairs):
        raise ProgramError(
            f'{name}: axes {shown(value)} are not pairs of a name and a size: write {{"t": 5}} or (("t", 5),)'
        )
    return tuple((str(a), n) for a, n in pairs)


def kinks(value: Any, name: str) -> tuple[float, ...]:
    """Points where a function breaks: finite numbers."""
    if value is None:
        return ()
    points = arguments.finite_array(value, name, error=ProgramError)
    if points.ndim > 1:
        raise ProgramError(f"{name}: a list of points is needed, not an array of shape {points.shape}")
    return tuple(np.atleast_1d(points).tolist())


def rows(value: Any, name: str) -> IndexMap:
    """A map: a record of it, or rows of pairs (index, weight) for each index of the result."""
    if isinstance(value, IndexMap):
        return value
    try:
        return Rows(tuple(tuple((operator.index(i), real(w, name)) for i, w in row) for row in value))
    except Exception:
        raise ProgramError(
            f"{name}: {shown(value)} are not rows of finite pairs (index, weight), one row for each index of "
            "the result"
        ) from None


def axis_names(value: Any, name: str) -> Iterable[str] | None:
    """None, the name of one axis, or several."""
    if value is None or isinstance(value, str):
        return value
    return [text(a, name) for a in listed(value, name)]
