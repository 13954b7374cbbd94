"""What says that no instruction computes a piece of a graph, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tpnum.law import graph


class Unsupported(Exception):
    """The plan, or the dual ``call`` in it, needs the general path; the text says why."""

    call: graph.DualCall | None = None
