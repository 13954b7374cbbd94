"""Where values live: for some cells of one stretch, for some steps of a recurrence, or for all cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.lower.builder import Instruction


class Home(NamedTuple):
    """The cells that a register holds: so many in turn of a stretch's, 0 for all those of ``space``."""

    span: int
    space: Hashable = None


class Homes:
    """The home of every value of some code.

    ``groups`` are the stretches of its operations, ``spaces`` what they make values on; ``spans`` says, by
    value, for how many steps a recurrence recalls it.
    """

    def __init__(
        self, code: list[Instruction], groups: list[int], spaces: list[Hashable], spans: dict[int, int]
    ):
        self._groups = groups
        self._ends = {group: k for k, group in enumerate(groups)}
        self._in: dict[int, set[int]] = {}
        self._space: dict[int, Hashable] = {}
        self._same: dict[int, int] = {}  # what is changed in place and not read again: one register
        for one, group, space in zip(code, groups, spaces, strict=True):
            for v in (*one.reads, *one.makes):
                self._in.setdefault(v, set()).update((group, -1) if one.op == "mix" else (group,))
            self._space |= dict.fromkeys(one.makes, space)
        last = {v: k for k, one in enumerate(code) for v in one.reads}
        for k, one in enumerate(code):
            for read, made in zip(one.reads, one.makes, strict=True):
                if read >= 0 and made >= 0 and last[read] == k:
                    self._same[made] = self._first(read)
                    self._in[self._first(read)] |= self._in[made]
        self._spans: dict[int, int] = {}
        for v, span in spans.items():
            self._spans[self._first(v)] = max(span, self._spans.get(self._first(v), 1))

    def _first(self, value: int) -> int:
        while value in self._same:
            value = self._same[value]
        return value

    def __call__(self, value: int) -> Home:
        value = self._first(value)
        if len(self._in[value]) > 1:
            return Home(0, self._space[value])
        return Home(self._spans.get(value, 1))

    def until(self, value: int, k: int) -> int:
        """The operation behind which the register of a value is free that operation ``k`` reads last."""
        return k if self(value).span == 1 else self._ends[self._groups[k]]
