"""Which closed-form duals a program calls: each has one of the few slots of the machines."""

from __future__ import annotations

from tpnum.gauss.closed import FAMILIES
from tpnum.kernels.duals import SLOTS
from tpnum.lower.unsupported import Unsupported


def slot(duals: list[str], family: str) -> int:
    """The slot of a family's strip, a new one where none of ``duals`` is it."""
    strip = FAMILIES[family].strip
    if strip not in duals:
        if len(duals) == SLOTS:
            raise Unsupported(f"more than {SLOTS} kinds of closed-form duals in one net")
        duals.append(strip)
    return duals.index(strip)
