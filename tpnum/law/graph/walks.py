"""Which pair nodes a node is computed from, an order in which all are, and whose increments are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpnum.law.graph.pair import (
    Attention,
    Carried,
    Diagonal,
    Dual,
    Embedded,
    Jointly,
    Mapped,
    Pair,
    PairExpect,
    Stencil,
    Sum,
    Weighted,
)
from tpnum.law.worklist import postorder

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable


def operands(node: Pair) -> list[Pair]:
    """The pair nodes that a node is computed from."""
    if isinstance(node, Sum):
        return [pair for part in node.parts for pair in part.pairs]
    if isinstance(node, Dual):
        return [node.call.cov]
    if isinstance(node, PairExpect):
        return [entry for row in node.cov for entry in row if isinstance(entry, Pair)]
    if isinstance(node, Attention):
        return [node.values, *(node.logits or ()), *(pair for both in node.along or () for pair in both)]
    if isinstance(node, Jointly):
        return [pair for pair in (node.cross, node.direction) if pair is not None]
    if isinstance(node, (Mapped, Stencil, Weighted, Embedded, Diagonal)):
        return [node.operand]
    return []


def schedule(outputs: list[Pair], given: Collection[Hashable] = ()) -> list[Pair]:
    """Every node once, operands first; of a product's factors the deeper chain (listed last) first.

    What carried states stand on comes behind them.  Nodes whose identity is ``given`` are left out, and what
    they alone stand on.
    """
    order = postorder(outputs, operands, id, given)
    known = {*given, *map(id, order)}
    for node in order:  # which grows
        for below in node.below if isinstance(node, Carried) else ():
            more = postorder([below], operands, id, known)
            known |= {id(found) for found in more}
            order += more
    return order


def increments_read(order: list[Pair], asked: Collection[int] = ()) -> set[int]:
    """The nodes whose increments somebody reads, or ``asked`` for; of nodes listed behind their operands."""
    read = {*asked, *(id(node.call.cov) for node in order if isinstance(node, Dual))}
    for node in reversed(order):
        if node.increments and id(node) in read:
            read.update(id(operand) for operand in operands(node))
    return read
