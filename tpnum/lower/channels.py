"""What an adjoint is asked for, where its sums belong, and what its rules write with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tpnum.errors import LimitError
from tpnum.evaluate import labels
from tpnum.evaluate.duals import stretched
from tpnum.jets import slopes_of
from tpnum.law import graph
from tpnum.lower.bends import Call
from tpnum.lower.numbers import Number, axes_of
from tpnum.lower.passes import EFFECTS
from tpnum.lower.unsupported import Unsupported

if TYPE_CHECKING:
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.gauss.pair import Prepared
    from tpnum.law.moving import Moving
    from tpnum.lower.backwards import Backwards
    from tpnum.lower.forwards import Sides
    from tpnum.lower.fusions import Fused
    from tpnum.lower.network import Grid


class Asked(NamedTuple):
    """What is differentiated by: ``moving`` nodes and the number of ``parameters``.

    ``values`` says that outputs are stored as well, ``apart`` that nobody asks for an example and itself,
    ``each`` that every pair's derivatives are, and not their sums; ``effects`` what is done of all that.
    """

    moving: Moving
    parameters: int
    values: bool
    apart: bool
    each: bool = False
    effects: tuple[str, ...] = EFFECTS


class Channel(NamedTuple):
    """Where sums of an adjoint on a grid belong, ``size`` numbers of every row (side 0) or column (1).

    To coefficients with ``slopes``, to a data ``line``, to a quantity, or, with ``log``, to half the
    logarithm of that quantity; without any of them to nobody.
    """

    grid: Grid
    side: int
    size: int
    slopes: np.ndarray | None = None
    line: str = ""
    node: graph.Profile | None = None
    log: bool = False


@dataclass(frozen=True)
class CellCall(Call):
    """A call of a dual at the positions of a grid, ``at`` which of the integrals of either side they are."""

    at: tuple[np.ndarray, np.ndarray] = (np.zeros(0, np.intp), np.zeros(0, np.intp))

    @property
    def variances(self) -> Sides:
        return self.first.q[self.at[0]], self.second.q[self.at[1]]

    @property
    def sizes(self) -> Sides:
        """The roots of E f^2."""
        return np.sqrt(self.first.second[self.at[0]]), np.sqrt(self.second.second[self.at[1]])


def direction(step: Fused, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The derivatives of a relu's coefficients as multiples of one vector, None where there is none such.

    The vector, and the multiples of that of V in either source and of that of V' in the second.  Other
    functions have no way back of that kind.
    """
    if step.scale is None:
        return None
    slopes = np.array([slopes_of(coef, count) for coef in (step.coef, *step.coefs)])
    size = np.abs(slopes).max(axis=1, initial=0.0)
    if not size.any():
        return np.zeros(count), np.zeros(3)
    one = slopes[size.argmax()]
    multiples = slopes @ one / (one @ one)
    alike = np.abs(slopes - multiples[:, None] * one).max() <= 1e-14 * size.max()
    return (one, multiples) if alike else None


class Rules:
    """What the rules of `tpnum.lower.bends` write with, at the cells of a grid."""

    def __init__(self, code: Backwards, grid: Grid):
        self.code, self.grid = code, grid
        self.ones = code._one(grid)

    def number(self, row: np.ndarray, col: np.ndarray) -> int:
        """A number of rows and columns, position by position."""
        return self.numbers((row, col))

    def numbers(self, *each: Sides) -> int:
        """Consecutive ones."""
        rows, cols = (np.stack(side) for side in zip(*each, strict=True))
        return self.code.numbers.block(self.grid, (rows, cols))

    def constant(self, value: float) -> int:
        return self.code.numbers.place(self.grid, (Number(float(value)), Number(1.0)))

    def value_of(self, op: str, *reads: int, p: int) -> int:
        if op == "multiply":
            return self.code.product(self.grid, p, *reads)
        return self.code.value_of(op, *reads, p=p, grid=self.grid)

    def product(self, first: int, second: int) -> int:
        return self.code.product(self.grid, self.ones, first, second)

    def plain_value(self, call: CellCall) -> int:
        return self.code.plain_value(call, self.grid)

    def gain_cov(self, call: CellCall, number: int, *operands: int) -> None:
        self.code.gain(call.graph.cov, self.grid, number, *operands)

    def gain_log(self, call: CellCall, side: int, number: int, *operands: int) -> None:
        self.code.gain_log(call, self.grid, side, number, *operands)


def growths(
    profiles: tuple[ProfileValues, ProfileValues], call: graph.DualCall, grid: Grid, moving: Moving
) -> tuple[Sides, Sides] | None:
    """The derivatives of E f^2 and of E f'^2 by log q at the positions of a grid, of either side.

    None where they are not known, or two functions or means are in the way.
    """
    if call.f != call.g or call.means != (None, None):
        return None

    def grown(what: str, side: int) -> np.ndarray:
        var, axes = call.vars[side], axes_of(grid, side)
        key = ("growth", call.f, what, *var.key)
        node = graph.Expect1(key, var.axes, fn=call.f, what=what, mean=None, var=var, scalars=())
        made = labels.lift(stretched(profiles[side], node, moving), var.axes, axes)
        return np.broadcast_to(made, (profiles[side].size, *(size for _, size in axes)))

    try:
        value, slope = ((grown(what, 0), grown(what, 1)) for what in ("second", "slope_second"))
    except LimitError:
        return None
    return value, slope


def differentiable(*prepared: Prepared) -> None:
    """See that the derivatives of functions have series.

    Raises
    ------
    Unsupported : with the reason.
    """
    for one in prepared:
        if one.kind != "series" or one.series is None or one.series.slope is not None:
            raise Unsupported(f"{one.f} has no series of its derivatives")
        if not (one.f.continuous and np.all(np.isfinite(one.slope_second))):
            raise Unsupported(f"the derivative of {one.f} has no second moment")
