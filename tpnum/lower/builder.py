"""What instructions are selected into: values that never change, numbers, series and kinds of duals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tpnum.lower.numbers import Number, Numbers
from tpnum.plan.tables import SeriesTables

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.lower.network import Grid
    from tpnum.lower.numbers import Pair
    from tpnum.plan.profile import ProfileValues

SLOTS = {
    "data": "w",
    "cross": "w",
    "zero": "w",
    "co": "wr",
    "normal": "wr",
    "dual": "wrw",
    "series": "wrw",
    "both": "wrr",
    "gain": "mr",
    "add": "mr",
    "add_rho": "mr",
    "add_product": "mrr",
    "add_outer": "m",
    "multiply": "mr",
    "fresh": "m",
    "relu": "mm",
    "first": "mw",
    "mix": "wr",
    "load": "w",
    "store": "r",
}
"""What an operation does with its registers: (w)rites, (r)eads, or changes (m)ade values in place."""


@dataclass(frozen=True)
class Instruction:
    """An operation on values at the cells of a space; ``extra`` is a key of a space, map or buffer."""

    op: str
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    p: int
    n: int
    grid: Grid
    flag: int = 0
    extra: tuple | None = None


class Builder:
    """Collects instructions on values; registers are found afterwards (`tpnum.lower.registers`)."""

    def __init__(self, profiles: tuple[ProfileValues, ProfileValues], dtype: np.dtype):
        self.profiles, self.dtype = profiles, dtype
        self.numbers = Numbers(profiles)
        self.tables = SeriesTables()
        self.series: list[tuple[Grid, tuple[np.ndarray, np.ndarray]]] = []
        self.duals: list[str] = []
        self.sources: list[tuple[str, str]] = []
        self.code: list[Instruction] = []
        self._made = 0

    def emit(
        self,
        op: str,
        *operands: int,
        grid: Grid,
        p: int = 0,
        n: int = 0,
        flag: int = 0,
        makes: int = 2,
        extra: tuple | None = None,
    ) -> tuple[int, int]:
        """Append an operation; the two values that it makes, or -1."""
        given = iter(operands)
        reads = [-1 if slot == "w" else next(given) for slot in SLOTS[op]]
        made: list[int] = []
        for slot, read in zip(SLOTS[op], reads, strict=True):
            wanted = read >= 0 if slot == "m" else slot == "w" and len(made) - made.count(-1) < makes
            made.append(self._value() if wanted else -1)
        self.code.append(Instruction(op, tuple(reads), tuple(made), p, n, grid, flag, extra))
        first, second, *_ = (*(v for v, slot in zip(made, SLOTS[op], strict=True) if slot != "r"), -1, -1)
        return first, second

    def value_of(self, op: str, *operands: int, grid: Grid, **more: object) -> int:
        """The one value that an operation makes."""
        return self.emit(op, *operands, grid=grid, makes=1, **more)[0]  # type: ignore[arg-type]

    def _value(self) -> int:
        self._made += 1
        return self._made - 1


def both(value: float) -> Pair:
    """The same number for either input."""
    return Number(value), Number(value)


def sides(make: Callable[[int], Number]) -> Pair:
    """A number of the first input and one of the second."""
    return make(0), make(1)


def scaled(pair: Pair, coef: float) -> Pair:
    """Both times the root of a coefficient."""
    root = Number(float(np.sqrt(coef)))
    return pair[0].times(root), pair[1].times(root)


def negative(number: Number) -> Number:
    """Minus a number."""
    return number.times(Number(-1.0))
