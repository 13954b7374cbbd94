"""Which cells of a product of axes are tried by day: enough that every two values of two axes meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations, product
from typing import Any

import pytest


def covering(sizes: tuple[int, ...]) -> set[tuple[int, ...]]:
    """Cells of a product of axes, by their numbers, among which every pair of values of two axes occurs.

    The cell that brings most pairs is taken first; the first one of these.
    """

    def pairs(cell: tuple[int, ...]) -> set[tuple[tuple[int, int], ...]]:
        return set(combinations(enumerate(cell), 2))

    cells = list(product(*map(range, sizes)))
    left, chosen = set().union(*map(pairs, cells)), set()
    while left:
        best = max(cells, key=lambda cell: len(pairs(cell) & left))
        chosen.add(best)
        left -= pairs(best)
    return chosen


def crossed(*axes: Iterable[Any]) -> list[Any]:
    """The product of some axes for `pytest.mark.parametrize`: a covering of it by day, the rest if slow.

    A fault that one value of an axis shows, or two values of two axes together, is found by day; what needs
    three at once waits for the night.
    """
    values = [list(axis) for axis in axes]
    day = covering(tuple(map(len, values)))
    return [
        pytest.param(*(axis[i] for axis, i in zip(values, cell, strict=True)), marks=_marks(cell in day))
        for cell in product(*(range(len(axis)) for axis in values))
    ]


def some_by_day(cells: Iterable[Any], chosen: Callable[[Any], bool]) -> list[Any]:
    """All cells for `pytest.mark.parametrize`, the ones that are not chosen if slow."""
    return [pytest.param(*_tuple(cell), marks=_marks(chosen(cell))) for cell in cells]


def _tuple(cell: Any) -> tuple[Any, ...]:
    return cell if isinstance(cell, tuple) else (cell,)


def _marks(by_day: bool) -> tuple[pytest.MarkDecorator, ...]:
    return () if by_day else (pytest.mark.slow,)
