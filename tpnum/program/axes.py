"""Rows of the linear maps on an index axis: shifts, slices, sums, windows of convolutions and of pooling.

Each function returns the ``rows`` of a `Map`: for every index of the result, the pairs (index, weight)
that are summed.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import SupportsIndex, TypeAlias

from tpnum.arguments import shown
from tpnum.errors import ProgramError

Row: TypeAlias = tuple[tuple[int, float], ...]
Rows: TypeAlias = tuple[Row, ...]


def shift_rows(size: int, by: int, boundary: str = "zero") -> Rows:
    """out[i] = in[i - by], zero or wrapped beyond the ends."""
    if not isinstance(boundary, str) or boundary not in ("zero", "circular"):
        raise ProgramError(f"boundary {shown(boundary)} is not known: use 'zero' or 'circular'")
    by = operator.index(by)
    moved = (i - by for i in range(size))
    if boundary == "circular":
        return tuple(((i % size, 1.0),) for i in moved)
    return tuple(((i, 1.0),) if 0 <= i < size else () for i in moved)


def take_rows(size: int, index: SupportsIndex | slice | Sequence[int]) -> tuple[int | None, Rows]:
    """(length, rows) of a selection; length None where a single index drops the axis."""
    if isinstance(index, slice):
        picks: list[int] = list(range(size))[index]
        single = False
    else:
        single = hasattr(index, "__index__")
        try:
            if isinstance(index, (set, frozenset)):
                raise TypeError  # it has no order
            picks = [operator.index(i) for i in ([index] if single else list(index))]  # type: ignore[arg-type]
        except Exception:
            raise ProgramError(
                f"the selection {shown(index)} is no index, slice or list of indices"
            ) from None
    for i in picks:
        if not -size <= i < size:
            raise ProgramError(f"index {shown(i)} lies outside an axis of size {size}")
    if not picks:
        raise ProgramError(f"the selection {shown(index)} of an axis of size {size} is empty")
    return None if single else len(picks), tuple(((i % size, 1.0),) for i in picks)


def sum_rows(size: int, weight: float = 1.0) -> Rows:
    """The single row that sums an axis away."""
    return (tuple((i, weight) for i in range(size)),)


def window_starts(size: int, window: int, stride: int = 1, padding: str = "VALID") -> tuple[int, ...]:
    """First index of every window, possibly negative.

    SAME (TensorFlow's) and CIRCULAR have ceil(size / stride) windows and a total padding of
    max((out - 1) stride + window - size, 0), the smaller half before.
    """
    window, stride = operator.index(window), operator.index(stride)
    if window < 1 or stride < 1:
        raise ProgramError(f"a window of {window} with stride {stride} is not possible: both are at least 1")
    mode = padding.upper() if isinstance(padding, str) else ""
    if mode == "VALID":
        if window > size:
            raise ProgramError(f"a VALID window of {window} does not fit an axis of size {size}")
        return tuple(range(0, size - window + 1, stride))
    if mode in ("SAME", "CIRCULAR"):
        out = -(-size // stride)
        before = max((out - 1) * stride + window - size, 0) // 2
        return tuple(o * stride - before for o in range(out))
    raise ProgramError(f"padding {shown(padding)} is not known: use 'VALID', 'SAME' or 'CIRCULAR'")


def window_rows(size: int, window: int, stride: int = 1, padding: str = "VALID") -> tuple[int, Rows]:
    """(number of windows, rows over (window, offset)): what a convolution's filter sees."""
    starts = window_starts(size, window, stride, padding)
    wrap = isinstance(padding, str) and padding.upper() == "CIRCULAR"
    rows: list[Row] = []
    for start in starts:
        for i in range(start, start + window):
            rows.append(((i % size, 1.0),) if wrap or 0 <= i < size else ())
    return len(starts), tuple(rows)


def pool_rows(
    size: int, window: int, stride: int = 1, padding: str = "VALID", scale: float | None = None
) -> tuple[int, Rows]:
    """(number of windows, rows): ``scale`` times the sum over each window; None divides by its true size."""
    n, seen = window_rows(size, window, stride, padding)
    rows: list[Row] = []
    for o in range(n):
        picks = [i for row in seen[o * window : (o + 1) * window] for i, _ in row]
        weight = 1.0 / len(picks) if scale is None else float(scale)
        counts = dict.fromkeys(picks, 0)
        for i in picks:
            counts[i] += 1
        rows.append(tuple((i, weight * c) for i, c in counts.items()))
    return n, tuple(rows)
