"""A node as a sum of terms of others, and whether all of them are of one function or Gram matrix.

A dense layer behind the values X of a function is K = w X + b, its tangent kernel T = c X' T_0 + t X + s with
the derivative kernel X'.  Instructions that take a function and the layer behind it in one look for these.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from tpnum.law import graph
from tpnum.lower.linear import is_linear

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    Atoms = tuple[tuple[float, graph.Pair], ...]

Source: TypeAlias = "graph.Gram | graph.DualCall"


class Form(NamedTuple):
    """value * X + slope * X' inner + constant, X the Gram matrix or the values of ``source``."""

    source: Source
    value: float
    slope: float
    inner: graph.Pair | None
    constant: float

    def trains(self, layer: Form) -> bool:
        """Whether it is a layer's tangent kernel, all weights and biases trained in ntk parametrisation."""
        slope = self.inner is None or self.slope == layer.value
        return slope and self.value == layer.value and self.constant == layer.constant


def terms(atoms: Atoms, held: Container[int] = ()) -> list[graph.Part]:
    """Multiples of atoms as the parts of one sum; sums that are not linear and not ``held`` spelled out."""
    made = []
    for coef, atom in atoms:
        if isinstance(atom, graph.Sum) and not is_linear(atom) and id(atom) not in held:
            made += [replace(part, coef=coef * part.coef) for part in spelled(atom)]
        else:
            made.append(graph.Part(coef, (), (), (atom,)))
    return made


def spelled(node: graph.Sum) -> list[graph.Part]:
    """The parts of a sum, with what is a product of means instead of a node of its own."""
    made, waiting = [], list(reversed(node.parts))
    while waiting:
        part = waiting.pop()
        for pair in part.pairs:
            if isinstance(pair, graph.Sum) and not any(inner.pairs for inner in pair.parts):
                rest = tuple(other for other in part.pairs if other is not pair)
                waiting += [
                    graph.Part(part.coef * p.coef, part.rows + p.rows, part.cols + p.cols, rest)
                    for p in reversed(pair.parts)
                ]
                break
        else:
            made.append(part)
    return made


def form_of(parts: Iterable[graph.Part]) -> Form | None:
    """What terms are of one source, None where there are several or none."""
    found: Form | None = None
    constant = 0.0
    for part in parts:
        if part.rows or part.cols:
            return None
        one: Form
        match part.pairs:
            case (graph.Shared() as shared,):
                constant += part.coef * shared.value
                continue
            case (graph.Gram() as gram,):
                one = Form(gram, part.coef, 0.0, None, 0.0)
            case (graph.Dual(what="value") as dual,):
                one = Form(dual.call, part.coef, 0.0, None, 0.0)
            case (graph.Dual(what="slope") as dual, inner) if not isinstance(inner, graph.Dual):
                one = Form(dual.call, 0.0, part.coef, inner, 0.0)
            case (inner, graph.Dual(what="slope") as dual) if not isinstance(inner, graph.Dual):
                one = Form(dual.call, 0.0, part.coef, inner, 0.0)
            case _:
                return None
        if found is None:
            found = one
        elif found.source is not one.source or (found.inner is not None and one.inner is not None):
            return None
        else:
            value, slope = found.value + one.value, found.slope + one.slope
            found = Form(found.source, value, slope, found.inner or one.inner, 0.0)
    return None if found is None else found._replace(constant=constant)


def source_of(node: graph.Pair) -> int:
    """What a node's readers know it by: the call of a dual, or the node itself."""
    return id(node.call if isinstance(node, graph.Dual) else node)
