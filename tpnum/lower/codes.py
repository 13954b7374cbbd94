"""Cells along one axis in arrays: (p, q) is the number p * SIDE + q, and sets of cells are in order.

p and q are positions of the first and the second input; the axis' size stands for the padding.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np

Cells: TypeAlias = np.ndarray
Buffers: TypeAlias = "dict[int, list[Cells]]"
"""The cells of buffers along every axis, by the identity of the node that they hold."""

BITS = 31
SIDE = 1 << BITS
NOWHERE: Cells = np.empty(0, np.int64)
ORIGIN: Cells = np.zeros(1, np.int64)
"""The one cell along an axis that is not there."""
for _array in (NOWHERE, ORIGIN):
    _array.flags.writeable = False


def code(p: np.ndarray | int, q: np.ndarray | int) -> Cells:
    """The numbers of cells (p, q)."""
    return np.asarray(np.multiply(p, SIDE) + q, np.int64)


def decoded(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """p and q of cells."""
    return cells >> BITS, cells & (SIDE - 1)


@lru_cache
def every(n: int, m: int, tied: bool) -> Cells:
    """All cells of n by m positions, those with p = q alone where these are ``tied``."""
    p = np.arange(n)
    made = code(p, p) if tied else code(p[:, None], np.arange(m)).ravel()
    made.flags.writeable = False
    return made


def union(*sets: Cells) -> Cells:
    """The cells of any of some arrays, in order."""
    some = [one for one in sets if one.size]
    if len(some) == 1 and (some[0][1:] > some[0][:-1]).all():
        return some[0]
    return distinct(np.sort(np.concatenate(some), kind="stable"))[0] if some else NOWHERE


def distinct(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of an array in order, and which of them each entry is: what `numpy.unique` would hash."""
    fresh = np.append(True, ordered[1:] != ordered[:-1])[: ordered.size]
    return ordered[fresh], np.cumsum(fresh) - 1


def places(cells: Cells, asked: Cells) -> np.ndarray:
    """Where each cell that is asked about is among others, -1 where it is not."""
    if not cells.size:
        return np.full(asked.size, -1)
    at = np.minimum(np.searchsorted(cells, asked), cells.size - 1)
    return np.where(cells[at] == asked, at, -1)


def beyond(cells: Cells, known: Cells) -> Cells:
    """Those that are not known."""
    return cells[places(known, cells) < 0]


def within(cells: Cells, n: int, m: int) -> np.ndarray:
    """Which of them are at positions of both inputs, and not of the padding."""
    p, q = decoded(cells)
    return np.asarray((p < n) & (q < m))


def ragged(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The group of every member of groups of so many, one after the other, and which of its members it is."""
    group = np.repeat(np.arange(counts.size), counts)
    return group, np.arange(group.size) - (np.cumsum(counts) - counts)[group]


def behind(cells: Cells, delays: tuple[int, int]) -> Cells:
    """All cells before these, themselves among them, in steps of (1, 1), (1, 0) or (0, 1)."""
    p, q = decoded(cells)
    line = p * delays[1] - q * delays[0]  # which a step does not leave
    steps = np.minimum(
        *(at if delay else np.full_like(at, SIDE) for at, delay in zip((p, q), delays, strict=True))
    )
    last = np.lexsort((steps, line))
    last = last[np.append(line[last][1:] != line[last][:-1], True)[: last.size]]
    start, back = ragged(steps[last] + 1)
    return union(cells[last][start] - back * code(*delays))
