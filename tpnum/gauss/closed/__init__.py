"""Closed-form dual activations: the table of families, and the strip kernel of each."""

from __future__ import annotations

from typing import Any

from tpnum.gauss.closed.family import Family
from tpnum.gauss.closed.piecewise import FAMILIES as _PIECEWISE
from tpnum.gauss.closed.smooth import FAMILIES as _SMOOTH

__all__ = ["FAMILIES", "Family", "strip"]

FAMILIES: dict[str, Family] = _PIECEWISE | _SMOOTH


def strip(family: str) -> Any:
    """The strip kernel of a family."""
    from tpnum.kernels import duals

    return duals.strip(FAMILIES[family].strip)
