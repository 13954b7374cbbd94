"""What instructions are selected into: values that never change, numbers, series and kinds of duals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tpnum.gauss.prepared import has_family
from tpnum.lower.duals import slot
from tpnum.lower.numbers import Number, Numbers, inverse
from tpnum.lower.registers import made_by
from tpnum.lower.tables import SeriesTables
from tpnum.lower.unsupported import Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from tpnum.evaluate.profile import ProfileValues
    from tpnum.gauss.pair import Prepared
    from tpnum.law import graph
    from tpnum.lower.network import Grid
    from tpnum.lower.numbers import Pair

SLOTS = {
    "gram": "w",
    "data": "w",
    "cross": "w",
    "zero": "w",
    "covariance": "wr",
    "co": "wr",
    "normal": "wr",
    "dual": "wrw",
    "series": "wrw",
    "both": "wrr",
    "gain": "mr",
    "start": "ww",
    "collect": "mmr",
    "join": "mr",
    "add": "mr",
    "add_rho": "mr",
    "add_product": "mrr",
    "add_outer": "m",
    "multiply": "mr",
    "times": "wr",
    "fresh": "m",
    "relu": "mm",
    "first": "mw",
    "function": "mm",
    "function_first": "mw",
    "first_layer": "mw",
    "relu_layer": "mm",
    "relu_bias_layer": "mm",
    "abrelu_layer": "mm",
    "dense_layer": "mm",
    "copy": "wr",
    "mix": "wr",
    "recall": "m",
    "keep": "r",
    "load": "w",
    "store": "r",
    "plain": "wr",
    "bend": "wr",
    "seed": "w",
    "give": "r",
    "product": "wrr",
    "rows": "rr",
    "cols": "r",
    "bent": "mmrr",
    "curved": "mrrr",
    "data_rows": "r",
    "data_cols": "r",
    "store_covariance": "r",
    "store_scaled": "r",
}
"""What an operation of either machine does with its registers: (w)rites, (r)eads, or changes (m)ade values.

The operations are those of `tpnum.kernels.operations` and of `tpnum.kernels.machine`.
"""


@dataclass(frozen=True)
class Instruction:
    """An operation on values at the cells of a space; ``extra`` is a key of a space, map or buffer.

    Of what gathers sums n or m is the number of the first channel (`tpnum.lower.backwards`).
    """

    op: str
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    p: int
    n: int
    grid: Grid
    flag: int = 0
    extra: tuple | None = None
    m: int = 0


class Placed(NamedTuple):
    """Where the positions of a grid find their integrals, at both sides.

    ``indices`` are those of the (example, *axes) of the grid among the prepared ones, ``names`` say what
    these are of, alike for both inputs of a pair.
    """

    grid: Grid
    indices: tuple[np.ndarray, np.ndarray]
    names: tuple[Hashable, Hashable]


class Builder:
    """Collects instructions on values; registers are found afterwards (`tpnum.lower.registers`)."""

    def __init__(self, profiles: tuple[ProfileValues, ProfileValues], dtype: np.dtype):
        self.profiles, self.dtype = profiles, dtype
        self.numbers = Numbers(profiles)
        self.tables = SeriesTables()
        self.series: list[Placed] = []
        self.duals: list[str] = []
        self.sources: dict[tuple, tuple[tuple[str, str], Pair]] = {}
        self.code: list[Instruction] = []
        self._made = 0

    def dual(
        self,
        prepared: tuple[Prepared, Prepared],
        placed: Placed,
        e: int,
        steep: bool,
    ) -> tuple[int, int]:
        """The co-correlation of functions of two Gaussians, the derivative kernel where it is ``steep``."""
        op, n, sides = self.function(prepared, placed, steep)
        p = self.numbers.block(placed.grid, sides)
        return self.emit(op, e, p=p, n=n, grid=placed.grid, makes=1 + steep)

    def function(
        self, prepared: tuple[Prepared, Prepared], placed: Placed, steep: bool
    ) -> tuple[str, int, tuple[np.ndarray, np.ndarray]]:
        """The kind of a strip of two functions, its slot or series, and what it reads of either side."""
        first, second = prepared
        indices = placed.indices
        if first.kind == second.kind == "closed" and first.f == second.f and first.f.closed is not None:
            n = slot(self.duals, first.f.closed[0])
            return "dual", n, (first.params[:, indices[0]], second.params[:, indices[1]])
        reason = refusal(first, second, steep)
        if reason:
            raise Unsupported(reason)
        blocks = []
        for one, index in zip(prepared, indices, strict=True):
            ratio = np.sqrt(one.second) * inverse(np.sqrt(one.q))
            blocks.append(np.array([ratio, np.sqrt(one.slope_second)])[:, index])
        number = self.tables.add(first, second, steep, self.dtype)
        self.series.append(placed)
        return "series", number, (blocks[0], blocks[1])

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
        m: int = 0,
    ) -> tuple[int, int]:
        """Append an operation; the two values that it makes, or -1."""
        reads, made, results = made_by(SLOTS[op], operands, makes, self._value)
        self.code.append(Instruction(op, reads, made, p, n, grid, flag, extra, m))
        return results

    def value_of(self, op: str, *operands: int, grid: Grid, **more: object) -> int:
        """The one value that an operation makes."""
        return self.emit(op, *operands, grid=grid, makes=1, **more)[0]  # type: ignore[arg-type]

    def _value(self) -> int:
        self._made += 1
        return self._made - 1


def closed(call: graph.DualCall) -> bool:
    """Whether a dual is that of one function with a closed form, whatever the variances are."""
    moved = any(mean is not None for mean in call.means) or call.f_scalars or call.g_scalars
    return call.f == call.g and not moved and has_family(call.f)


def refusal(first: Prepared, second: Prepared, steep: bool) -> str:
    """Why no instruction computes a dual, "" if one does."""
    if first.kind == second.kind == "closed" and first.f == second.f and first.f.closed is not None:
        return ""
    if first.kind != "series" or second.kind != "series":
        return f"{first.f} and {second.f} have no common series"
    for one in (first, second):
        assert one.series is not None
        if steep and one.series.slope is not None:
            return f"{one.f} jumps: its derivative has a series of its own"
    return ""


def both(value: float) -> Pair:
    """The same number for either input."""
    return Number(value), Number(value)


def sides(make: Callable[[int], Number]) -> Pair:
    """A number of the first input and one of the second."""
    return make(0), make(1)


def product(first: Pair, second: Pair) -> Pair:
    """The product at either input."""
    return first[0].times(second[0]), first[1].times(second[1])


def scaled(pair: Pair, coef: float) -> Pair:
    """Both times the root of a coefficient."""
    root = Number(float(np.sqrt(coef)))
    return pair[0].times(root), pair[1].times(root)


def negative(number: Number) -> Number:
    """Minus a number."""
    return number.times(Number(-1.0))
