"""`Unsupported`: no instruction computes a piece of a graph; it says which and why."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tpnum.law import graph


class Unsupported(Exception):
    """The plan, or a ``node`` or the dual ``call`` in it, needs the general path; the text says why."""

    call: graph.DualCall | None = None
    node: graph.Pair | None = None


@contextmanager
def blamed(node: graph.Pair | None = None, call: graph.DualCall | None = None) -> Iterator[None]:
    """A block whose refusals are those of a node or of a dual, unless they know better."""
    try:
        yield
    except Unsupported as why:
        why.node, why.call = why.node or node, why.call or call
        raise
