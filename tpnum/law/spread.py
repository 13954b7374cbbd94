"""Weighted sums over an index axis, ``(weights * h).sum("j")``: their law without the product's family.

Where the weights are scalars of the input (attention, a graph), ``weights * h`` is a family over more indices
than h has.  E[Z Z'] of the sum needs none of its members: it is that of h, contracted with the weights of
either input in turn.  Of a sum of products the factors that lack the axis are multiplied once, behind the
sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tpnum.law import graph
from tpnum.law.site import union
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


def apart(node: graph.Pair, *axes: str) -> list[tuple[graph.Part, tuple[graph.Pair, ...]]] | None:
    """A sum of products by what a sum over axes does not reach: (part without, pairs that have one of them).

    None where nothing is gained, or a factor of one input has such an axis too.
    """

    def has(found: Axes) -> bool:
        return any(name in axes for name, _ in found)

    found: list[tuple[graph.Part, tuple[graph.Pair, ...]]] = []
    waiting = [graph.Part(1.0, (), (), (node,))]
    while waiting:
        part = waiting.pop()
        if any(has(profile.axes) for profile in (*part.rows, *part.cols)):
            return None
        if len(part.pairs) == 1 and isinstance(part.pairs[0], graph.Sum):
            waiting += [
                graph.Part(part.coef * p.coef, part.rows + p.rows, part.cols + p.cols, p.pairs)
                for p in reversed(part.pairs[0].parts)
            ]
            continue
        within = tuple(pair for pair in part.pairs if has((*pair.rows, *pair.cols)))
        if any(has(pair.tied) for pair in part.pairs) or not within:
            return None
        outside = tuple(pair for pair in part.pairs if pair not in within)
        found.append((graph.Part(part.coef, part.rows, part.cols, outside), within))
    return found if any(part.pairs for part, _ in found) else None


def behind(la: Map, lb: Map, part: graph.Part, within: tuple[graph.Pair, ...]) -> graph.Part:
    """A part of a product with the sum over an axis of those of its pairs that have the axis."""
    tied, rows, cols = (union(*(getattr(p, side) for p in within)) for side in ("tied", "rows", "cols"))
    product = graph.Part(1.0, (), (), within)
    operand = (
        within[0] if len(within) == 1 else graph.Sum(tied, rows, cols, increments=False, parts=(product,))
    )
    left, right = (
        tuple(axis for axis in axes if axis[0] != line.axis) for axes, line in ((rows, la), (cols, lb))
    )
    node = graph.Mapped(tied, left, right, increments=False, operand=operand, row_map=la, col_map=lb)
    return graph.Part(part.coef, part.rows, part.cols, (*part.pairs, node))
