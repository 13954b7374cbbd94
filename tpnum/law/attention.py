"""The law of attention with random logits: E of two softmax-weighted sums, their logits jointly Gaussian.

Logits are z[p, r] = W (q[p] * k[r]), so that their covariance is a product, E q q'[p, p'] E k k'[r, r'], and
with A and A' the softmax of both sides, the vectors v independent of the logits,

    E h[p] h'[p'] = sum over r, s of E (A[p, r] A'[p', s]) E v[r] v'[s],

and for a direction z. of the logits that is independent of them, D and D' the derivatives of the softmax,

    sum over r, s of E (D[p, r] . z. D'[p', s] . z.') E v[r] v'[s],

which is linear in the covariance of z. and z.'.  The expectations are sampled (`tpnum.evaluate.attention`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpnum.law import graph
from tpnum.law.frames import frame
from tpnum.law.price import NoRule
from tpnum.law.spread import apart
from tpnum.program.lines import Attend

if TYPE_CHECKING:
    from tpnum.law.pairs import Pairs
    from tpnum.law.site import Site
    from tpnum.program.lines import Axes


def attending(pairs: Pairs, a: str, b: str, tied: Axes) -> graph.Pair | None:
    """E[Z^a Z^b'] where one is attention with random logits."""
    first, second = (lines.by_name[name] for lines, name in zip(pairs.lines, (a, b), strict=True))
    if not isinstance(first, Attend) or not isinstance(second, Attend):
        one, other, side = (a, b, 0) if isinstance(first, Attend) else (b, a, 1)
        raise NoRule(
            f"{pairs.lines[side].where(one)}: attention with random logits has no rule beside {other!r}, "
            "which is made of the same matrices; put a matrix product between the two"
        )
    for lines, line in zip(pairs.lines, (first, second), strict=True):
        _require(
            lines.apart(line.logits, line.vector), pairs, line, "its logits and its vector share matrices"
        )
        own = {axis for axis, _ in lines.axes(line.vector)}
        _require(own == set(line.over), pairs, line, f"{line.vector!r} has axes that it does not sum over")
    values = pairs.second(first.vector, second.vector)
    if values is None:
        return None
    if bool(first.along) != bool(second.along):  # a derivative, in a direction of its own: odd in it
        moved = pairs.second(first.along or first.logits, second.along or second.logits, centred=True)
        _require(moved is None, pairs, first, "its direction is not independent of the logits")
        return None
    along = None
    if first.along:
        moved = pairs.second(first.along, second.along, centred=True)
        if moved is None:
            return None
        along = _apart(pairs, first, moved)
    logits = pairs.second(first.logits, second.logits, centred=True)
    both = None if logits is None else _apart(pairs, first, logits)
    _require(
        both is None or len(both) == 1, pairs, first, "the covariance of its logits is a sum of products"
    )
    node = graph.Attention(
        *frame(pairs.lines[0].axes(a), pairs.lines[1].axes(b), ()),
        increments=False,
        seen=(_seen(pairs, 0, first), _seen(pairs, 1, second)),
        logits=both[0] if both else None,
        values=values,
        along=along,
        tables=(_tables(pairs.sites[0], first), _tables(pairs.sites[1], second)),
        weights=(_weights(pairs.sites[0], first), _weights(pairs.sites[1], second)),
        own=a == b and pairs.sites[0] is pairs.sites[1],
        diagonal=bool(tied),
        where=pairs.lines[0].where(a),
    )
    if not tied:
        return node
    framed = frame(pairs.lines[0].axes(a), pairs.lines[1].axes(b), tied)
    return graph.Diagonal(*framed, increments=False, operand=node, axes=tied)


def _require(condition: bool, pairs: Pairs, line: Attend, why: str) -> None:
    if not condition:
        raise NoRule(
            f"{pairs.lines[0].where(line.name)}: attention with random logits needs logits W (q * k) of an "
            f"untrained matrix W and vectors of their own, and here {why}"
        )


def _seen(pairs: Pairs, side: int, line: Attend) -> Axes:
    return tuple(axis for axis in pairs.lines[side].axes(line.vector) if axis[0] in line.over)


def _weights(site: Site, line: Attend) -> graph.Profile | None:
    return site.scalar(line.weights) if line.weights else None


def _tables(site: Site, line: Attend) -> tuple[graph.Profile | None, ...]:
    """The covariances of queries, keys and vectors at one input, over all of its positions."""
    assert site.pairs is not None
    pairs = site.pairs
    logits = pairs.second(line.logits, line.logits, centred=True)
    made = () if logits is None else _apart(pairs, line, logits)[0]
    values = pairs.second(line.vector, line.vector)
    return tuple(
        pair and site.within((kind, line.logits, line.vector), pair, (), pair.rows, pair.cols)
        for kind, pair in zip(("queries", "keys", "values"), (*(made or (None, None)), values), strict=True)
    )


def _apart(pairs: Pairs, line: Attend, node: graph.Pair) -> tuple[tuple[graph.Pair, graph.Pair], ...]:
    """A covariance of logits as a sum of products: (over positions that see, over those that are seen)."""
    found = apart(node, *line.over)
    _require(found is not None, pairs, line, "the covariance of its logits is no product")
    return tuple(
        (_product(outside), _product(graph.Part(1.0, (), (), within))) for outside, within in found or ()
    )


def _product(part: graph.Part) -> graph.Pair:
    if part.coef == 1.0 and part.bare:
        return part.pairs[0]
    rows = _union(*(p.rows for p in part.pairs), *(p.axes for p in part.rows))
    cols = _union(*(p.cols for p in part.pairs), *(p.axes for p in part.cols))
    return graph.Sum((), rows, cols, increments=False, parts=(part,))


def _union(*several: Axes) -> Axes:
    merged: dict[str, int] = {}
    for axes in several:
        merged |= dict(axes)
    return tuple(merged.items())
