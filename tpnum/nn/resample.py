"""Linear maps of one index axis that resample it: transposed convolution and resizing of images.

Windows, pooling, shifts and slices are the program's own (`tpnum.program.axes`).
"""

from __future__ import annotations

import math
from typing import TypeAlias

Rows: TypeAlias = tuple[tuple[tuple[int, float], ...], ...]


def transposed_rows(size: int, window: int, stride: int, padding: str) -> tuple[int, Rows]:
    """(positions, rows over (position, offset)) of jax.lax.conv_transpose: input dilated by ``stride``."""
    total = window + stride - 2
    if padding == "SAME":
        before = window - 1 if stride > window - 1 else -(-total // 2)
    else:
        total += max(window - stride, 0)
        before = window - 1
    positions = (size - 1) * stride + 2 + total - window
    rows = []
    for position in range(positions):
        for offset in range(window):
            index, rest = divmod(position + offset - before, stride)
            rows.append(((index, 1.0),) if rest == 0 and 0 <= index < size else ())
    return positions, tuple(rows)


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
