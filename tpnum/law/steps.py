"""What a replicate of an ensemble does: steps over rows of samples, and the matrices that they share.

A *row* is the number of a vector in the arena of its sample space.  ``scalar`` fields are places in the
array of scalars, whose last entry is the number 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tpnum.kernels.ensemble import BLOCK

if TYPE_CHECKING:
    from tpnum.functions import Function

Direction: TypeAlias = tuple[str, bool]
"""A matrix and whether it is transposed."""


def opposite(direction: Direction) -> Direction:
    """The transpose."""
    return direction[0], not direction[1]


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Rows that are standard normals, of which the inputs consist; ``one`` are rows of ones."""

    dim: str
    names: list[str]
    rows: np.ndarray
    places: np.ndarray
    one: np.ndarray


@dataclass(frozen=True, eq=False)
class Apply:
    """Rows out[i] = fn(rows args[:, i]; values[scalars[:, i]])."""

    dim: str
    fn: Function
    names: list[str]
    args: np.ndarray
    scalars: np.ndarray
    out: np.ndarray


@dataclass(frozen=True, eq=False)
class Measure:
    """The second moments that the products ``begin`` .. ``end`` of one matrix in one direction need.

    Of their operands with all so far and, where one depends on opposite hats (``dots``), with these.
    """

    direction: Direction
    begin: int
    end: int
    dots: bool


@dataclass(frozen=True, eq=False)
class Multiply:
    """The products ``begin`` .. ``end`` of one matrix in one direction, with factors as in `Add`.

    The i-th operand depends on the hats of opposite products among the first ``upto[i]``: on those in
    ``reached[i]``, or (None) on most of them.
    """

    direction: Direction
    names: list[str]
    operands: list[str]
    begin: int
    end: int
    upto: np.ndarray
    reached: list[np.ndarray | None]
    coefs: np.ndarray
    scalars: np.ndarray


@dataclass(frozen=True, eq=False)
class Add:
    """Combinations: names[at] gets coefs values[scalars[0]] values[scalars[1]] times a row.

    ``others`` are (at, combination, coefficient, scalar).
    """

    dim: str
    names: list[str]
    at: np.ndarray
    row: np.ndarray
    coefs: np.ndarray
    scalars: np.ndarray
    others: list[tuple[int, str, float, int]]


@dataclass(frozen=True, eq=False)
class AddData:
    """A sum of data: one array of channels."""

    name: str
    terms: list[tuple[float, str, int]]


@dataclass(frozen=True, eq=False)
class Store:
    """Combinations become rows."""

    dim: str
    names: list[str]
    rows: np.ndarray


@dataclass(frozen=True, eq=False)
class Recall:
    """Moments of two operands of one matrix, which its hats needed anyway, with factors as in `Add`."""

    names: list[str]
    direction: Direction
    left: np.ndarray
    right: np.ndarray
    coefs: np.ndarray
    scalars: np.ndarray
    out: np.ndarray


@dataclass(frozen=True, eq=False)
class Products:
    """Moments of the product of two rows, with factors as in `Add`."""

    names: list[str]
    dim: str
    left: np.ndarray
    right: np.ndarray
    coefs: np.ndarray
    scalars: np.ndarray
    out: np.ndarray


@dataclass(frozen=True, eq=False)
class Average:
    """Moments of any function of rows."""

    names: list[str]
    dim: str
    fn: Function
    args: np.ndarray
    scalars: np.ndarray
    out: np.ndarray


@dataclass(frozen=True, eq=False)
class Compute:
    """Arithmetic on scalars."""

    names: list[str]
    fn: Function
    args: np.ndarray
    out: np.ndarray


Step: TypeAlias = (
    Gaussians | Apply | Measure | Multiply | Add | AddData | Store | Recall | Products | Average | Compute
)


@dataclass(eq=False)
class Channel:
    """One matrix in one direction: its products in the order of work.

    ``operand_rows`` are rows of the sample space ``source``, ``hat_rows`` of ``target``; ``places`` are the
    coordinates of the innovations, the Gaussians of which the hats are combinations.
    """

    variance: float
    source: str
    target: str
    data: bool
    names: list[str] = field(default_factory=list)
    operands: list[str] = field(default_factory=list)
    operand_rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    hat_rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    places: list[int] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Schedule:
    """The steps in order.

    ``heights`` are the numbers of rows, ``gaussians`` those of coordinates, by sample space; ``scalars`` are
    the places of scalars by name, ``kept`` the rows that are there at the end; ``where`` says which line
    makes a variable.
    """

    steps: list[Step]
    channels: dict[Direction, Channel]
    heights: dict[str, int]
    gaussians: dict[str, int]
    scalars: dict[str, int]
    kept: dict[str, tuple[str, int]]
    where: Callable[[str], str]

    def arenas(self, size: int, more: Callable[[str], int]) -> dict[str, np.ndarray]:
        """Room for ``size`` samples of every row, and for ``more`` rows, in blocks, by sample space."""
        count = -(-size // BLOCK)
        return {dim: np.empty((count, height + more(dim), BLOCK)) for dim, height in self.heights.items()}
