"""Linear maps of one index axis, each still known by what it is: shifts, selections, sums.

A record says what a map is.  Its ``rows``, for every index of the result the pairs (index, weight) that are
summed, are derived from the record, once and only where somebody asks for them.  ``length`` is the size of
the axis that is read.  Two maps are equal where their rows are, however they were written.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, SupportsIndex, TypeAlias

from tpnum.arguments import shown
from tpnum.errors import ProgramError

Row: TypeAlias = tuple[tuple[int, float], ...]

ENTRIES = 1 << 22
"""Pairs (index, weight) of one map that are still written down."""
MOST = 1 << 53
"""The largest size, step or shift."""


@dataclass(frozen=True, eq=False)
class IndexMap:
    """A linear map on one index axis; its results are numbered in C order of the axes that it makes."""

    @property
    def reads(self) -> int | None:
        """The size of the axis that is read; None where any that holds the indices will do."""
        length: int = self.length  # type: ignore[attr-defined]
        return length

    @property
    def count(self) -> int:
        """How many rows there are, without writing them down."""
        raise NotImplementedError

    @property
    def entries(self) -> int:
        """A bound on the number of pairs in the rows."""
        return self.count

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """One row per index of the result: the pairs (index, weight) that are summed; () gives zero."""
        return self._rows()

    def _rows(self) -> tuple[Row, ...]:
        raise NotImplementedError

    @cached_property
    def gathers(self) -> bool:
        """Whether every result reads one entry at most."""
        return all(len(row) <= 1 for row in self.rows)

    @cached_property
    def uniform(self) -> bool:
        """Whether all entries have one weight."""
        return len({w for row in self.rows for _, w in row}) <= 1

    def __post_init__(self) -> None:
        """Refuse what is no map, and what is too long to be written down."""
        for f in fields(self):
            if f.name in _WHOLE:
                object.__setattr__(self, f.name, _whole(getattr(self, f.name), f.name))
        self._check()
        if self.entries > ENTRIES:
            raise ProgramError(
                f"the map {self._told()} has {self.entries} entries; more than {ENTRIES} are not written out"
            )

    def _check(self) -> None:
        """What the record itself refuses."""

    def _told(self) -> str:
        return f"{type(self).__name__} of an axis of size {self.reads}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IndexMap):
            return NotImplemented
        return self is other or self.__reduce__() == other.__reduce__() or self.rows == other.rows

    def __hash__(self) -> int:
        return hash(self.rows)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, f.name) for f in fields(self))


_WINDOW = "a window has a whole size and a whole stride, and both are at least 1"
_WHOLE = {
    "length": (1, "the size of an axis is a positive whole number"),
    "size": (1, _WINDOW),
    "stride": (1, _WINDOW),
    "dilation": (1, "the entries of a window are a positive whole number apart"),
    "by": (-MOST, "a shift is a whole number"),
}
"""The fields that are whole numbers: the least that each can be, and what is said of another."""


def _whole(value: Any, name: str) -> int:
    least, sentence = _WHOLE[name]
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not least <= number <= MOST:
        raise ProgramError(f"{name} is {shown(value)}: {sentence}, at most {MOST}")
    return number


@dataclass(frozen=True, eq=False)
class Rows(IndexMap):
    """A map that is known by its rows alone."""

    given: tuple[Row, ...]

    @property
    def reads(self) -> None:
        return None

    @property
    def count(self) -> int:
        return len(self.given)

    @property
    def entries(self) -> int:
        return 0  # they are written down already

    def _rows(self) -> tuple[Row, ...]:
        return self.given


@dataclass(frozen=True, eq=False)
class Gather(IndexMap):
    """Every result is one entry, with weight 1, or zero."""

    @cached_property
    def gathers(self) -> bool:
        return True

    @cached_property
    def uniform(self) -> bool:
        return True


@dataclass(frozen=True, eq=False)
class Shift(Gather):
    """out[i] = in[i - by], zero or wrapped ("circular") beyond the ends."""

    length: int
    by: int = 0
    boundary: str = "zero"

    def _check(self) -> None:
        if not isinstance(self.boundary, str) or self.boundary not in ("zero", "circular"):
            raise ProgramError(f"boundary {shown(self.boundary)} is not known: use 'zero' or 'circular'")

    @property
    def count(self) -> int:
        return self.length

    def _rows(self) -> tuple[Row, ...]:
        moved = (i - self.by for i in range(self.length))
        if self.boundary == "circular":
            return tuple(((i % self.length, 1.0),) for i in moved)
        return tuple(((i, 1.0),) if 0 <= i < self.length else () for i in moved)


@dataclass(frozen=True, eq=False)
class Take(Gather):
    """out[k] = in[indices[k]]."""

    length: int
    indices: tuple[int, ...]

    def _check(self) -> None:
        if not isinstance(self.indices, tuple) or not self.indices:
            raise ProgramError(f"the selection {shown(self.indices)} is no tuple of indices")
        for i in self.indices:
            if type(i) is not int or not 0 <= i < self.length:
                raise ProgramError(f"index {shown(i)} lies outside an axis of size {self.length}")

    @property
    def count(self) -> int:
        return len(self.indices)

    def _rows(self) -> tuple[Row, ...]:
        return tuple(((i, 1.0),) for i in self.indices)


def selection(length: int, index: SupportsIndex | slice | Sequence[int]) -> tuple[int | None, Take]:
    """(size of the new axis, map) of ``index`` as NumPy reads it; the size None where it drops the axis."""
    picks: Sequence[int]
    single = hasattr(index, "__index__") and getattr(index, "ndim", 0) == 0  # an array has it too
    try:
        if isinstance(index, slice):
            picks = range(length)[index]
        elif isinstance(index, (set, frozenset)):
            raise TypeError  # it has no order
        else:
            picks = [operator.index(i) for i in ([index] if single else list(index))]  # type: ignore[arg-type]
    except Exception:
        raise ProgramError(f"the selection {shown(index)} is no index, slice or list of indices") from None
    for i in [] if isinstance(index, slice) else picks:
        if not -length <= i < length:
            raise ProgramError(f"index {shown(i)} lies outside an axis of size {length}")
    if not picks:
        raise ProgramError(f"the selection {shown(index)} of an axis of size {length} is empty")
    if len(picks) > ENTRIES:
        raise ProgramError(
            f"the selection {shown(index)} has {len(picks)} indices; more than {ENTRIES} are not written out"
        )
    return None if single else len(picks), Take(length, tuple(i % length for i in picks))


@dataclass(frozen=True, eq=False)
class Sum(IndexMap):
    """The sum over the axis."""

    length: int

    @property
    def count(self) -> int:
        return 1

    @property
    def entries(self) -> int:
        return self.length

    def _rows(self) -> tuple[Row, ...]:
        return (tuple((i, 1.0) for i in range(self.length)),)


@dataclass(frozen=True, eq=False)
class Mean(Sum):
    """The average over the axis."""

    def _rows(self) -> tuple[Row, ...]:
        weight = 1.0 / self.length
        return (tuple((i, weight) for i in range(self.length)),)
