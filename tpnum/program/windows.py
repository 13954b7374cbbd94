"""Maps of an index axis through windows: filters of convolutions, pooling, transposed filters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tpnum.arguments import shown
from tpnum.errors import ProgramError
from tpnum.program.maps import Gather, IndexMap, Row


def _choice(value: Any, name: str, *known: str) -> str:
    """One of a few words in capitals, whatever the case."""
    folded = value.upper() if isinstance(value, str) else ""
    if folded not in known:
        *first, last = map(repr, known)
        raise ProgramError(f"{name} {shown(value)} is not known: use {', '.join(first)} or {last}")
    return folded


def _starts(length: int, reach: int, stride: int, padding: str) -> range:
    """First index of every window of ``reach`` entries, possibly negative.

    SAME (TensorFlow's) and CIRCULAR have ceil(length / stride) windows and a total padding of
    max((windows - 1) stride + reach - length, 0), the smaller half before.
    """
    if padding == "VALID":
        return range(0, length - reach + 1, stride)
    windows = -(-length // stride)
    before = max((windows - 1) * stride + reach - length, 0) // 2
    return range(-before, windows * stride - before, stride)


def _must_fit(length: int, size: int, dilation: int, padding: str) -> None:
    """A VALID window has a place on its axis."""
    reach = (size - 1) * dilation + 1
    if padding == "VALID" and reach > length:
        spread = f" with dilation {dilation}, {reach} from end to end," if dilation > 1 else ""
        raise ProgramError(f"a VALID window of {size}{spread} does not fit an axis of size {length}")


@dataclass(frozen=True, eq=False)
class Window(Gather):
    """What a convolution's filter sees: rows over (window, offset), in[window stride + offset dilation].

    A window reaches over (size - 1) dilation + 1 entries; ``padding`` says where the first one starts.
    """

    length: int
    size: int
    stride: int = 1
    dilation: int = 1
    padding: str = "VALID"

    def _check(self) -> None:
        object.__setattr__(self, "padding", _choice(self.padding, "padding", "VALID", "SAME", "CIRCULAR"))
        _must_fit(self.length, self.size, self.dilation, self.padding)

    @property
    def reach(self) -> int:
        """How many entries lie between its ends, they included."""
        return (self.size - 1) * self.dilation + 1

    @property
    def starts(self) -> range:
        """First index of every window, possibly negative."""
        return _starts(self.length, self.reach, self.stride, self.padding)

    @property
    def positions(self) -> int:
        """How many windows there are."""
        return len(self.starts)

    @property
    def count(self) -> int:
        return self.positions * self.size

    @property
    def blind(self) -> bool:
        """Whether no window sees an entry: they all fall between the offsets, or outside."""
        if self.padding != "SAME":
            return False
        offsets = range(0, self.size * self.dilation, self.dilation)
        return not any(0 <= start + o < self.length for o in offsets for start in self._near(o))

    def _near(self, offset: int) -> tuple[int, ...]:
        """The windows whose entry at ``offset`` is the first that is not before the axis, if any."""
        first = self.starts[0]
        k = max(-((first + offset) // self.stride), 0)
        return (first + k * self.stride,) if k < self.positions else ()

    def _rows(self) -> tuple[Row, ...]:
        wrap = self.padding == "CIRCULAR"
        rows: list[Row] = []
        for start in self.starts:
            for i in range(start, start + self.size * self.dilation, self.dilation):
                rows.append(((i % self.length, 1.0),) if wrap or 0 <= i < self.length else ())
        return tuple(rows)


@dataclass(frozen=True, eq=False)
class Pool(IndexMap):
    """``scale`` times the sum over each window; None divides by the number of entries inside."""

    length: int
    size: int
    stride: int = 1
    padding: str = "VALID"
    scale: float | None = None

    def _check(self) -> None:
        object.__setattr__(self, "padding", _choice(self.padding, "padding", "VALID", "SAME", "CIRCULAR"))
        _must_fit(self.length, self.size, 1, self.padding)
        if self.scale is not None:
            try:
                object.__setattr__(self, "scale", float(self.scale))
            except (TypeError, ValueError):
                raise ProgramError(f"scale is {shown(self.scale)}; it must be a finite number") from None
            if not math.isfinite(self.scale):
                raise ProgramError(f"scale is {self.scale}; it must be a finite number")

    @property
    def reach(self) -> int:
        """How many entries lie between its ends, they included."""
        return self.size

    @property
    def starts(self) -> range:
        """First index of every window, possibly negative."""
        return _starts(self.length, self.size, self.stride, self.padding)

    @property
    def count(self) -> int:
        return len(self.starts)

    @property
    def entries(self) -> int:
        return self.count * self.size

    def _rows(self) -> tuple[Row, ...]:
        rows: list[Row] = []
        for start in self.starts:
            inside = range(start, start + self.size)
            picks = [i % self.length for i in inside if self.padding == "CIRCULAR" or 0 <= i < self.length]
            weight = 1.0 / len(picks) if self.scale is None else self.scale
            counts = dict.fromkeys(picks, 0)
            for i in picks:
                counts[i] += 1
            rows.append(tuple((i, weight * c) for i, c in counts.items()))
        return tuple(rows)


@dataclass(frozen=True, eq=False)
class Transposed(Gather):
    """Rows over (position, offset) of jax.lax.conv_transpose: the input spread out by ``stride``."""

    length: int
    size: int
    stride: int = 1
    padding: str = "VALID"

    def _check(self) -> None:
        object.__setattr__(self, "padding", _choice(self.padding, "padding", "VALID", "SAME"))

    @property
    def _pads(self) -> tuple[int, int]:
        """(zeros before the spread input, zeros in all)."""
        total = self.size + self.stride - 2
        if self.padding == "SAME":
            return (self.size - 1 if self.stride > self.size - 1 else -(-total // 2)), total
        return self.size - 1, total + max(self.size - self.stride, 0)

    @property
    def positions(self) -> int:
        """How many positions there are."""
        return (self.length - 1) * self.stride + 2 + self._pads[1] - self.size

    @property
    def count(self) -> int:
        return self.positions * self.size

    def _rows(self) -> tuple[Row, ...]:
        before, _ = self._pads
        rows: list[Row] = []
        for position in range(self.positions):
            for offset in range(self.size):
                index, rest = divmod(position + offset - before, self.stride)
                rows.append(((index, 1.0),) if rest == 0 and 0 <= index < self.length else ())
        return tuple(rows)
