"""The linear map of one index axis that resizes images.

The other maps are the program's own: `tpnum.program.maps`, `tpnum.program.windows`.
"""

from __future__ import annotations

import math
from typing import TypeAlias

Rows: TypeAlias = tuple[tuple[tuple[int, float], ...], ...]


def resize_rows(size: int, positions: int, method: str, antialias: bool) -> Rows:
    """The weights of jax.image.resize: "nearest", or "linear" (a triangle, widened where it shrinks)."""
    step = size / positions
    centres = [(position + 0.5) * step for position in range(positions)]
    if method == "nearest":
        return tuple(((min(math.floor(centre), size - 1), 1.0),) for centre in centres)
    width = max(step, 1.0) if antialias else 1.0
    rows = []
    for centre in centres:
        weights = [(index, 1.0 - abs(centre - 0.5 - index) / width) for index in range(size)]
        inside = [(index, weight) for index, weight in weights if weight > 0.0]
        norm = math.fsum(weight for _, weight in inside)
        rows.append(tuple((index, weight / norm) for index, weight in inside))
    return tuple(rows)
