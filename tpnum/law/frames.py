"""Which axes of a pair node are tied, one index for both inputs, and which are free on either side."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tpnum.program.lines import Axes


def frame(a: Axes, b: Axes, tied: Axes) -> tuple[Axes, Axes, Axes]:
    """(tied, free on the rows, free on the columns)."""
    names = {name for name, _ in tied}
    present = {name for name, _ in (*a, *b)}
    return (
        tuple(axis for axis in tied if axis[0] in present),
        tuple(axis for axis in a if axis[0] not in names),
        tuple(axis for axis in b if axis[0] not in names),
    )
