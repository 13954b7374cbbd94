"""Which quantities of one input a node of the graph is computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpnum.law.graph import (
    Arithmetic,
    Attention,
    Dual,
    Expect1,
    Expect2,
    ExpectN,
    Factor,
    Fresh,
    Jointly,
    Mapped1,
    Pair,
    PairExpect,
    Polynomial,
    Profile,
    Reduced,
    Softmax,
    Sum,
    Weighted,
    Within,
    operands,
    schedule,
)

if TYPE_CHECKING:
    from tpnum.law.site import Site
    from tpnum.program.lines import Map


def sources(node: Profile) -> list[Profile]:
    """The profiles that a profile is computed from."""
    match node:
        case Expect1():
            return _given(node.mean, node.var, *node.scalars)
        case Expect2():
            sides = [p for side in node.sides for p in _given(side.mean, side.var, *side.scalars)]
            return [*sides, node.cov]
        case ExpectN():
            return _given(*node.means, *_entries(node.cov), *_scalars(node.factors))
        case Polynomial():
            return [factor for _, factors in node.terms for factor in factors]
        case Arithmetic():
            return list(node.args)
        case Softmax():
            return _given(node.logits, node.weights)
        case Mapped1():
            return [node.operand]
        case Reduced() | Within():
            return [p for pair in schedule([node.pair]) for p in profiles(pair)]
    return []


def below(site: Site, node: Profile) -> list[Profile]:
    """What a profile of one input is computed from there; index maps on index maps are one."""
    if isinstance(node, Mapped1):
        return [mapped(site, node)[2]]
    return [site.own(source) for source in sources(node)]


def mapped(site: Site, node: Mapped1) -> tuple[float, list[Map], Profile]:
    """A multiple, index maps from below, and what they are of: what is between them is never made."""
    coef, maps = 1.0, []
    at: Profile = node
    while True:
        if isinstance(at, Mapped1):
            maps.append(at.map)
            at = site.own(at.operand)
        elif isinstance(at, Polynomial) and len(at.terms) == 1 and len(at.terms[0][1]) == 1:
            ((factor, (inner,)),) = at.terms
            coef *= factor
            at = site.own(inner)
        else:
            return coef, maps[::-1], at


def profiles(node: Pair) -> list[Profile]:
    """The profiles, of either input, that a pair node is computed from."""
    match node:
        case Fresh():
            return [*node.same, *(node.other or ())]
        case Sum():
            factors = [p for part in node.parts for p in (*part.rows, *part.cols)]
            pairs = operands(node) if node.increments else []
            return factors + [p for pair in pairs for p in pair.norms or ()]
        case Dual():
            call = node.call
            moments = call.moments if node.what == "value" else ()
            return _given(*call.means, *call.vars, *moments, *call.f_scalars, *call.g_scalars)
        case Jointly():
            return _given(*node.own, *node.means, *(node.moments or ()))
        case Weighted():
            return _given(node.weights)
        case Attention():
            return _given(*node.tables[0], *node.tables[1], *node.weights)
        case PairExpect():
            return _given(*node.means, *_entries(node.cov), *_scalars(node.factors))
    return []


def _given(*nodes: Profile | Pair | None) -> list[Profile]:
    return [node for node in nodes if isinstance(node, Profile)]


def _entries(cov: tuple[tuple[Profile | Pair | None, ...], ...]) -> list[Profile | Pair | None]:
    return [entry for row in cov for entry in row]


def _scalars(factors: tuple[Factor, ...]) -> list[Profile]:
    return [s for factor in factors for s in factor.scalars]
