"""Hermite series for the machine: coefficients per input, and how many terms a correlation needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tpnum.gauss.pair import reach
from tpnum.kernels.series import EXACT, STABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.gauss.pair import Prepared
    from tpnum.lower.bends import Curves

    Rows = Callable[[np.ndarray | slice], np.ndarray]
    """The coefficients (rows, terms) of some rows."""

PIECE = 128
"""Examples whose coefficients a cache holds, or transposing is slow."""


@dataclass
class SeriesTables:
    """What `tpnum.kernels.machine.run` reads for its series: all of them, one after the other.

    ``entries`` are rows (first coefficient, count, parity, flags, first limit, limits); ``terms`` and
    ``least`` say that pairs with 1 - |rho| of at least ``least[l]`` need ``terms[l]`` coefficients.
    """

    entries: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    sides: list[tuple[Prepared, Prepared, range] | None] = field(default_factory=list)
    terms: list[int] = field(default_factory=list)
    least: list[float] = field(default_factory=list)
    parts: dict[int, tuple[int, tuple[Rows, Rows]]] = field(default_factory=dict)
    """Of curves that lean on no series, by number: how many numbers they have, what makes either side's."""
    leaning: dict[int, int] = field(default_factory=dict)
    """Curves, by number, and the series whose coefficients they read."""
    longer: dict[int, int] = field(default_factory=dict)
    """The degree that such a series goes up to for their sake."""

    def lean(self, found: Curves, known: bool, on: int) -> int:
        """The number of a new curve, which reads the coefficients of series ``on`` if it has none of its own.

        ``known`` says that the code looks after |rho| = 1 itself (`tpnum.kernels.curves.curved`).
        """
        start, number = sum(entry[1] for entry in self.entries), len(self.entries)
        limits = len(self.terms), len(found.terms)
        self.entries.append((start, found.size, found.parity, int(known), *limits))
        self.terms += found.terms
        self.least += found.least
        self.sides.append(None)
        if on < 0:
            self.parts[number] = found.numbers, found.units
        else:
            self.leaning[number] = on
            self.longer[on] = max(self.longer.get(on, 0), found.degrees)
        return number

    def add(self, first: Prepared, second: Prepared, slope: bool, dtype: np.dtype) -> int:
        """The number of a new series."""
        assert first.series is not None
        assert second.series is not None
        parity = parity_of(first, second)
        degrees = min(first.series.degrees, second.series.degrees)
        kept = range(0 if parity >= 0 else 1, degrees, 2 if parity else 1)
        count = len(kept)
        start = sum(entry[1] for entry in self.entries)
        at = len(self.terms)
        terms, rho = reach(first, second, dtype, slope)
        self.terms += np.minimum(-(-terms // 2) if parity else terms, count).tolist()
        self.least += (1.0 - rho).tolist()
        # the form without cancellation counts what was truncated as fully correlated: not with a kink's tail
        stable = rho[-1] == 1.0
        # about two means f may have the same E f^2 and E f'^2 and be another function of the same variable
        means = np.concatenate([first.mean.ravel(), second.mean.ravel()])
        exact = means.min() == means.max()
        same = (first.f == second.f) * (EXACT * exact + STABLE * stable)
        self.entries.append((start, count, parity, int(same), at, len(self.terms) - at))
        self.sides.append((first, second, kept))
        return len(self.entries) - 1

    @property
    def complete(self) -> bool:
        """Whether all series serve every correlation, or |rho| = 1 without being asked."""
        return all(
            min(self.least[at : at + many]) <= 0.0 or (self.sides[number] is None and same)
            for number, (_, _, _, same, at, many) in enumerate(self.entries)
        )

    def width(self, number: int, side: int) -> int:
        """How many coefficients of a series an example has at one side: as many as pairs take, or more."""
        if number in self.leaning:
            return 0
        return self.parts[number][0] if number in self.parts else len(self._own(number, side)[1])

    @property
    def homes(self) -> list[int]:
        """Which series every one has its coefficients from: its own, or another."""
        return [self.leaning.get(number, number) for number in range(len(self.entries))]

    def signature(self, side: int) -> tuple[tuple[int, int], ...]:
        """What the coefficients of one side depend on besides its examples, whatever the other side is."""
        return tuple((entry[2], self.width(k, side)) for k, entry in enumerate(self.entries))

    def _own(self, number: int, side: int) -> tuple[Prepared, range]:
        """One side of a series, and the degrees that it has there."""
        found = self.sides[number]
        assert found is not None
        *both, kept = found
        series = both[side].series
        assert series is not None
        stop = min(max(series.degrees, self.longer.get(number, 0)), series.most)
        return both[side], range(kept.start, stop, kept.step)

    def unit(self, number: int, side: int, which: np.ndarray | slice = slice(None)) -> np.ndarray:
        """(rows, `width`) coefficients of a series at one side, of all rows or of some."""
        if number in self.parts:
            return self.parts[number][1][side](which)
        own, kept = self._own(number, side)
        return own.unit(kept, which)

    def fill(self, number: int, side: int, which: np.ndarray, out: np.ndarray) -> None:
        """The same of (blocks, lanes) rows into ``out`` (blocks, `width`, lanes)."""
        if number in self.parts:
            made = self.parts[number][1][side](which.ravel())
            out[...] = made.reshape(*which.shape, -1).transpose(0, 2, 1)
            return
        own, kept = self._own(number, side)
        own.fill(kept, which, out)

    def arrays(self, dtype: np.dtype, counts: tuple[int, int]) -> tuple[np.ndarray, ...]:
        """(entries, terms, least, coefficients row by row, those of the columns (K, C))."""
        total = sum(entry[1] for entry in self.entries)
        rows, cols = np.empty((counts[0], total), dtype), np.empty((total, counts[1]), dtype)
        start = 0
        for k, found in enumerate(self.sides):
            assert found is not None
            first, second, kept = found
            count = len(kept)
            for low in range(0, max(counts), PIECE):
                piece = slice(low, low + PIECE)
                left = self.unit(k, 0, piece)
                right = left if second is first else self.unit(k, 1, piece)
                rows[piece, start : start + count] = left[:, :count]
                cols[start : start + count, piece] = right[:, :count].T
            start += count
        return (
            np.array(self.entries, dtype=np.int64).reshape(-1, 6),
            np.array(self.terms, dtype=np.int64),
            np.array(self.least),
            rows.ravel(),
            cols,
        )


def parity_of(first: Prepared, second: Prepared) -> int:
    """The common parity of both functions under zero means, 0 if they have none."""
    if np.any(first.mean) or np.any(second.mean) or first.f.parity != second.f.parity:
        return 0
    return first.f.parity
