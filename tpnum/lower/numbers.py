"""The numbers that instructions read, per example and position: first recipes, then arrays per tile.

A number of the padding is zero: whatever is weighted by it vanishes there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.law import graph
    from tpnum.lower.network import Grid
    from tpnum.program.lines import Axes


@dataclass(frozen=True)
class Number:
    """coef * product of powers of profiles * product of powers of scales, for one input.

    The scale of a variance is the root of its mean over positions: one number per example.
    """

    coef: float
    powers: tuple[tuple[graph.Profile, float], ...] = ()
    scales: tuple[tuple[graph.Profile, float], ...] = ()

    def times(self, other: Number) -> Number:
        """The product of two."""
        return Number(self.coef * other.coef, self.powers + other.powers, self.scales + other.scales)

    @property
    def inverse(self) -> Number:
        """One over it; what is zero stays zero."""
        powers, scales = (
            tuple((node, -power) for node, power in part) for part in (self.powers, self.scales)
        )
        return Number(1.0 / self.coef, powers, scales)

    @property
    def key(self) -> tuple:
        named = [tuple((node.key, power) for node, power in part) for part in (self.powers, self.scales)]
        return (self.coef, *named)

    def values(self, profiles: ProfileValues, axes: Axes) -> np.ndarray:
        """(N, *axes), of length one along axes that it does not depend on."""
        total = np.full((1,) * (1 + len(axes)), self.coef)
        for node, power in self.powers:
            total = total * _power(profiles.along(node, axes), power)
        for node, power in self.scales:
            total = total * (scale(profiles, node) ** power).reshape(-1, *(1,) * len(axes))
        return total


def scale(profiles: ProfileValues, node: graph.Profile) -> np.ndarray:
    """(N,) roots of the means of a variance over positions, one where it is zero."""
    own = np.asarray(profiles(node))
    root = np.sqrt(own.reshape(own.shape[0], -1).mean(axis=1))
    return np.where(root == 0.0, 1.0, root)


def _power(values: np.ndarray, power: float) -> np.ndarray:
    """values**power, zero where a value is zero."""
    if power == 1.0:
        return values
    if power < 0.0:
        return inverse(_power(values, -power))
    return np.sqrt(values) if power == 0.5 else values**power


def inverse(values: np.ndarray) -> np.ndarray:
    """One over each value; what is zero stays zero."""
    return np.divide(1.0, values, out=np.zeros(np.shape(values)), where=np.asarray(values) != 0.0)


Pair = tuple[Number, Number]
"""A number of the row's input and one of the column's."""


def axes_of(grid: Grid, side: int) -> Axes:
    """The axes of a grid at one input."""
    return tuple((name, sizes[side]) for name, *sizes in grid)


def positions(grid: Grid, side: int) -> int:
    """The positions of a grid at one input, those of the padding too."""
    return int(np.prod([n + 1 for _, n in axes_of(grid, side)], initial=1))


def padded(values: np.ndarray, axes: Axes, out: np.ndarray, edge: bool = False) -> None:
    """Write (N, *axes) as (positions with the padding, N); the padding is zero, or repeats a position."""
    sizes = tuple(n for _, n in axes)
    grid = out.reshape(*(n + 1 for n in sizes), out.shape[-1])
    grid[...] = 0.0
    inside = tuple(slice(0, n) for n in sizes)
    grid[inside] = np.moveaxis(np.broadcast_to(values, (values.shape[0], *sizes)), 0, -1)
    for k, n in enumerate(sizes if edge else ()):
        along = np.moveaxis(grid, k, 0)
        along[n] = along[n - 1]


class Numbers:
    """The parameters of a level's instructions, block by block, and its constants.

    A block holds what one instruction reads at the positions of a grid, in one piece of memory.
    """

    def __init__(self, profiles: tuple[ProfileValues, ProfileValues]):
        self.profiles = profiles
        self._blocks: list[tuple[Grid, list[Pair | tuple[np.ndarray, np.ndarray]]]] = []
        self._places: dict[tuple, int] = {}
        self.constants: list[Pair] = []

    def place(self, grid: Grid, *numbers: Pair) -> int:
        """The block of numbers at the positions of a grid; the same ones are kept once."""
        key = (grid, *((a.key, b.key) for a, b in numbers))
        if key not in self._places:
            self._places[key] = len(self._blocks)
            self._blocks.append((grid, list(numbers)))
        return self._places[key]

    def block(self, grid: Grid, sides: tuple[np.ndarray, np.ndarray], *numbers: Pair) -> int:
        """The block of ``numbers`` and of others, given as arrays (P, N, *axes of the grid) per side."""
        self._blocks.append((grid, [*numbers, *zip(*sides, strict=True)]))
        return len(self._blocks) - 1

    def constant(self, *numbers: Pair) -> int:
        """Where consecutive constants, one number per example, begin."""
        self.constants += numbers
        return len(self.constants) - len(numbers)

    @property
    def sizes(self) -> list[int]:
        """How many numbers of a position each block holds."""
        return [len(rows) for _, rows in self._blocks]

    @property
    def signature(self) -> tuple:
        """What was asked for, in order."""
        sizes = tuple((grid, len(rows)) for grid, rows in self._blocks)
        return (tuple(self._places), sizes, tuple((a.key, b.key) for a, b in self.constants))

    def count(self, side: int) -> int:
        """How many numbers an example has, constants apart."""
        return sum(len(rows) * positions(grid, side) for grid, rows in self._blocks)

    def arrays(self, side: int, dtype: np.dtype) -> list[np.ndarray]:
        """Per block (positions, P, N) of one side."""
        return [self._array(grid, rows, side, dtype) for grid, rows in self._blocks]

    def flat(self, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        """(P, N) numbers of the rows and of the columns, block after block, where there are no axes."""
        known: dict[tuple[int, int, float], np.ndarray] = {}
        pairs = [pair for _, rows in self._blocks for pair in rows]
        made = []
        for side, profile in enumerate(self.profiles):
            found = np.empty((len(pairs), profile.size), dtype)
            for out, pair in zip(found, pairs, strict=True):
                one = pair[side]
                if not isinstance(one, Number):
                    out[:] = one
                    continue
                total: np.ndarray | float = one.coef
                for node, power in one.powers:
                    key = id(profile), id(node), power
                    if key not in known:
                        known[key] = _power(profile.along(node, ()), power)
                    total = total * known[key]
                for node, power in one.scales:
                    total = total * scale(profile, node) ** power
                out[:] = total
            made.append(found)
        return made[0], made[1]

    def _array(
        self, grid: Grid, rows: list[Pair | tuple[np.ndarray, np.ndarray]], side: int, dtype: np.dtype
    ) -> np.ndarray:
        axes, size = axes_of(grid, side), self.profiles[side].size
        made = np.empty((len(rows), positions(grid, side), size), dtype)
        for out, both in zip(made, rows, strict=True):
            one = both[side]
            if isinstance(one, Number):
                padded(one.values(self.profiles[side], axes), axes, out)
            else:
                padded(one, axes, out, edge=True)
        return made.transpose(1, 0, 2)

    def constant_arrays(self, side: int, dtype: np.dtype) -> np.ndarray:
        """(constants, N) of one side."""
        size = self.profiles[side].size
        made = np.zeros((max(len(self.constants), 1), size), dtype)
        for k, both in enumerate(self.constants):
            made[k] = both[side].values(self.profiles[side], ())
        return made
