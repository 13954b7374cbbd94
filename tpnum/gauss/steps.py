"""Functions of one variable that are constant in pieces: between two points they may be anything.

What a smooth function is between points its values tell, and rules that agree.  One that takes few values and
jumps from one to the next tells nothing: a piece that no point has met does not show.  So such a function is
looked at in every cell of a millionth of the probability, evenly far out, and where people put windows: just
beside short decimals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

CELLS = 1 << 20
"""Cells of equal probability, each with a point."""
FAR = 10.0
"""Deviations to either side that are looked at."""
_TRIAL = 1 << 10
_MOST = 64
"""A function with more jumps is one that varies."""
_EVEN = 20_011  # points that are even
_BLOCK = 1 << 14
_DECIMALS = 1000  # multiples of 1/100 beside which is looked
_BESIDE = np.array([-1e-7, -1e-10, 1e-10, 1e-7, 1e-6])
"""How far beside them."""


@lru_cache(maxsize=4)
def _cells(count: int) -> np.ndarray:
    """The middles of cells of equal probability."""
    from scipy.special import ndtri

    return np.asarray(ndtri((np.arange(count) + 0.5) / count))


@lru_cache(maxsize=4)
def _points(cells: int) -> np.ndarray:
    """The middle of every cell and even points out to `FAR`, in order."""
    even = np.linspace(-FAR, FAR, min(_EVEN, cells))
    made = np.sort(np.concatenate([_cells(cells), even]))
    made.setflags(write=False)
    return made


@dataclass(frozen=True)
class Pieces:
    """What was found of a function that is constant in pieces."""

    ends: np.ndarray
    """Points in deviations, to both sides of every jump."""
    hidden: float
    """What a cell may hide: its probability times the largest |f|."""


def in_pieces(
    f: Callable[[np.ndarray], np.ndarray], mean: float, root: float, cells: int, breaks: np.ndarray
) -> Pieces | None:
    """Where f, of u (n,) with values (n, k), jumps under N(mean, root^2); None unless constant in pieces.

    ``breaks`` are values of u beside which is looked as well.
    """
    if _jumps(f(mean + root * _cells(min(cells, _TRIAL)))).size > _MOST:
        return None
    count = _DECIMALS if cells > _DECIMALS * _BESIDE.size else 0
    decimals = np.arange(-count, count + 1) / 100.0
    likely = np.union1d(decimals, breaks)[:, None] + _BESIDE
    beside = (np.sort(likely.reshape(-1)) - mean) / root
    found, largest = [], 0.0
    for z in (_points(cells), beside[np.abs(beside) < FAR]):
        for begin in range(0, z.size, _BLOCK):
            part = z[begin : begin + _BLOCK + 1]  # one more: the first of the next block
            made = f(mean + root * part)
            at = _jumps(made)
            found.append(np.concatenate([part[at], part[at + 1]]))
            largest = max(largest, float(np.max(np.abs(made), initial=0.0, where=np.isfinite(made))))
    ends = np.unique(np.concatenate(found))
    return None if ends.size > 4 * _MOST else Pieces(ends, largest / cells)


def _jumps(values: np.ndarray) -> np.ndarray:
    """The points (of values (n, k)) after which another value follows."""
    return np.flatnonzero(np.any(values[1:] != values[:-1], axis=1))
