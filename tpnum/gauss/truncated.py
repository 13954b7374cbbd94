"""Hermite coefficients of many rows, made when they are asked for, and what cutting them off leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from tpnum.gauss.moments import Profile

LADDER = (
    8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256, 320, 384, 512, 768, 1024,
    1536, 2048,
)  # fmt: skip
"""Truncation degrees at which the tails are kept."""

NEGLIGIBLE = 1e-16
"""A tail that is left out."""

PIECE = 128
"""Rows of which coefficients are made at a time."""

PROBES = 24
"""Rows whose tails stand for those of all."""

Rows: TypeAlias = Callable[[np.ndarray, range], np.ndarray]
"""The coefficients of some degrees, of some rows given by their numbers."""


@dataclass(frozen=True)
class Series:
    """Coefficients for distinct rows, relative to the root of the second moment (of f, of f').

    ``unit`` makes a_k/sqrt(E f^2); ``steep`` the coefficients of f' over sqrt(E f'^2), None where f has no
    jumps and they follow from those of f.  ``smooth``: both are functions of the variance, and cheap.
    ``unresolved`` is the largest part of f that its table could not resolve, relative to f nearby.
    ``more`` is how many degrees ``unit`` makes, where that is more than serve pairs.  ``across`` writes what
    it makes of (blocks, lanes) rows as (blocks, degrees, lanes), where there is a short way.
    """

    q: np.ndarray
    profile: Profile
    degrees: int
    unit: Rows
    steep: Rows | None = None
    unresolved: float = 0.0
    smooth: bool = False
    more: int = 0
    across: Callable[[np.ndarray, range, np.ndarray], None] | None = None

    @classmethod
    def of(
        cls,
        q: np.ndarray,
        columns: np.ndarray,
        value: np.ndarray,
        slope: np.ndarray | None,
        unresolved: float = 0.0,
    ) -> Series:
        """From variances, profile columns and plain coefficients."""
        steep = None if slope is None else held(relative(slope, columns[4]))
        unit = held(value / np.sqrt(np.where(columns[1] > 0, columns[1], 1.0))[:, None])
        return cls(q, Profile(*columns), value.shape[1], unit, steep, unresolved)

    def fill(self, rows: np.ndarray, kept: range, out: np.ndarray) -> None:
        """Coefficients of (blocks, lanes) rows into ``out`` (blocks, degrees, lanes)."""
        if self.across is not None:
            self.across(rows, kept, out)
            return
        out[...] = self.unit(rows.ravel(), kept).reshape(*rows.shape, -1).transpose(0, 2, 1)

    @property
    def most(self) -> int:
        """How many degrees there are."""
        return max(self.more, self.degrees)

    @property
    def every(self) -> range:
        """All degrees."""
        return range(self.degrees)

    @cached_property
    def value(self) -> np.ndarray:
        """(rows, degrees) coefficients of f."""
        made = np.empty((self.q.size, self.degrees))
        for rows in self._pieces:
            made[rows] = self.unit(rows, self.every)
        return made

    @cached_property
    def slope(self) -> np.ndarray | None:
        """(rows, degrees) coefficients of f'."""
        return None if self.steep is None else self.steep(np.arange(self.q.size), self.every)

    @cached_property
    def ladder(self) -> np.ndarray:
        """The degrees at which tails are known."""
        return np.array([k for k in LADDER if k <= self.degrees])

    @property
    def tail(self) -> np.ndarray:
        """(rows, ladder) sums of squares from each degree on, what lies beyond the computed ones included."""
        return self._tails[0]

    @property
    def slope_tail(self) -> np.ndarray:
        """The same of f'."""
        return self._tails[1]

    @cached_property
    def _tails(self) -> tuple[np.ndarray, np.ndarray]:
        made = [self.tails(rows) for rows in self._pieces]
        return np.concatenate([one for one, _ in made]), np.concatenate([one for _, one in made])

    @property
    def _pieces(self) -> list[np.ndarray]:
        """The rows, few at a time: what is made on the way to their coefficients is as large as these."""
        size = self.q.size
        return [np.arange(row, min(row + PIECE, size)) for row in range(0, max(size, 1), PIECE)]

    @property
    def enough(self) -> int:
        """The degree from which on nothing is missed in any row, 0 where there is none."""
        tail, slope_tail = self.worst(np.arange(self.q.size))
        found = np.flatnonzero(np.maximum(tail, 1e-3 * slope_tail) <= NEGLIGIBLE)
        return int(self.ladder[found[0]]) if found.size else 0

    def worst(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the tails of f and of f' among some rows.

        Tails that would have to be made are those of a few rows, and twice as large: near a kink they waver.
        """
        if not self.smooth:
            return self.tail[rows].max(axis=0), self.slope_tail[rows].max(axis=0)
        tail, slope_tail = self.tails(self.probes(rows))
        return 2.0 * tail.max(axis=0), 2.0 * slope_tail.max(axis=0)

    def probes(self, rows: np.ndarray) -> np.ndarray:
        """The few among some rows whose tails stand for those of all, where these would have to be made."""
        some = np.sort(self.q[rows])
        some = some[np.searchsorted(some, 0.0, "right") :]
        if not self.smooth or some.size <= PROBES:
            return rows
        at = np.searchsorted(some, np.geomspace(some[0], some[-1], PROBES))
        order = rows[np.argsort(self.q[rows], kind="stable")][-some.size :]
        return order[np.unique(np.append(np.minimum(at, some.size - 1), some.size - 1))]

    def tails(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tails of some rows."""
        q, second, slope_second = self.q[rows], self.profile.second[rows], self.profile.slope_second[rows]
        infinite = ~np.isfinite(slope_second)  # as for a cube root
        squares = self.unit(rows, self.every) ** 2
        tail = tails(squares, self.ladder, (second > 0).astype(float), 1e-13)
        if self.steep is not None:
            squares = self.steep(rows, self.every) ** 2
        else:
            some = np.where(second > 0, second, 1.0)
            steep = np.where((slope_second > 0) & ~infinite, slope_second, 1.0)
            ratio = np.divide(some, q * steep, out=np.zeros_like(some), where=q > 0)
            squares *= np.arange(self.degrees)
            squares *= ratio[:, None]
        flat = (slope_second == 0) | (q == 0)
        slope_tail = tails(squares, self.ladder, np.where(flat, 0.0, 1.0), 1e-12)
        slope_tail[infinite] = np.inf
        return tail, slope_tail

    @property
    def bytes(self) -> int:
        """What its rows take, but for those that are made when they are asked for."""
        return self.q.nbytes * 6 + (0 if self.smooth else self.q.size * self.degrees * 8)


def held(rows: np.ndarray) -> Rows:
    """Coefficients that are there."""
    return lambda which, kept: rows[which, kept.start : kept.stop : kept.step]


def relative(coef: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Coefficients over the root of a second moment, zero where it is zero or infinite."""
    root = np.sqrt(np.where(np.isfinite(second), second, 0.0))[:, None]
    return np.divide(coef, root, out=np.zeros_like(coef), where=root > 0)


def tails(squares: np.ndarray, ladder: np.ndarray, total: np.ndarray, floor: float) -> np.ndarray:
    """Sums of squares from each ladder degree on.

    Beyond the last degree it is Parseval's difference where that can be measured, else the geometric
    continuation of the last two sixteenths.
    """
    degrees = squares.shape[1]
    step = max(degrees // 16, 2)
    last, before = squares[:, -step:].sum(1), squares[:, -2 * step : -step].sum(1)
    ratio = np.clip(np.divide(last, before, out=np.zeros_like(last), where=before > 0), 0.0, 0.95)
    measured = total - squares.sum(1)
    beyond = np.where(measured > floor, measured, last * ratio / (1.0 - ratio))
    starts = ladder[ladder < degrees]
    blocks = np.zeros((squares.shape[0], ladder.size))
    if starts.size:
        blocks[:, : starts.size] = np.add.reduceat(squares, starts, axis=1)
    return np.cumsum(blocks[:, ::-1], axis=1)[:, ::-1] + beyond[:, None]
