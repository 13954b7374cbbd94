"""Sums over index axes whose weights are scalars of the input: attention, graphs.

Such a line is written as it is meant, ``(weights * h).sum("j")``, a family over more indices than h has.  Its
law needs none of that family: E[Z Z'] is that of h, contracted with the weights of either input in turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tpnum.program.lines import LinComb, Map
from tpnum.program.maps import Mean, Sum

if TYPE_CHECKING:
    from tpnum.law.lines import Lines
    from tpnum.program.lines import Axes, Term


class Spread(NamedTuple):
    """coef * the sum over the axes ``over`` of terms whose scalars have axes that their vectors lack."""

    coef: float
    over: Axes
    terms: tuple[Term, ...]


def spread(lines: Lines, name: str) -> Spread | None:
    """A line as a sum with weights of the input, None if it is none."""
    coef = 1.0
    over: dict[str, int] = {}
    line = lines.by_name[name]
    while isinstance(line, Map) and not line.out and isinstance(line.index, Sum):
        over[line.axis] = line.index.length
        coef /= line.index.length if isinstance(line.index, Mean) else 1
        line = lines.by_name[line.operand]
    if not over or not isinstance(line, LinComb):
        return None

    def wider(term: Term) -> bool:
        scalar = {axis for axis, _ in lines.axes(term.scalar)} if term.scalar else set()
        own = {axis for axis, _ in lines.axes(term.vector)}
        return bool(scalar & over.keys() and scalar - over.keys() - own)

    return Spread(coef, tuple(over.items()), line.terms) if any(map(wider, line.terms)) else None
