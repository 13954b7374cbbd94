"""Padding and graphs of inputs that are read by slices: sources made of sources."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tpnum.program import Program
from tpnum.program.lines import Known
from tpnum.tiles import batches, extras
from tpnum.tiles.arguments import CHUNK, by_line
from tpnum.tiles.data import Source, source_of

if TYPE_CHECKING:
    from tpnum.nn.base import Layer

    Sources = dict[str, Source]


@dataclass(frozen=True)
class _Made:
    """Examples made of those of another source."""

    inner: Source

    @property
    def name(self) -> str:
        return self.inner.name

    def within(self, inner: Source) -> Self:
        """The same of another source of these examples."""
        return replace(self, inner=inner)


@dataclass(frozen=True)
class Padded(_Made):
    """Examples with their padding zero."""

    constant: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner.shape

    def read(self, rows: slice) -> np.ndarray:
        return extras.unpadded_block(self.inner.read(rows), self.name, self.constant, rows.start)[0]


@dataclass(frozen=True)
class Mask(Padded):
    """The masks of examples: 0 at padding, 1 elsewhere; ``padding`` is where all inputs have theirs."""

    padding: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner.shape[:-1]

    def read(self, rows: slice) -> np.ndarray:
        return extras.unpadded_block(self.inner.read(rows), self.name, self.constant, rows.start)[1]


@dataclass(frozen=True)
class Batches(_Made):
    """Examples as batches of so many consecutive ones."""

    size: int

    @property
    def shape(self) -> tuple[int, ...]:
        count, *rest = self.inner.shape
        return (batches.count_of(count, self.size, self.name), self.size, *rest)

    def read(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        made = self.inner.read(slice(start * self.size, stop * self.size))
        return made.reshape(-1, *self.shape[1:])


def batched(sources: Sources, size: int) -> Sources:
    """Sources of batches."""
    return {name: Batches(source, size) for name, source in sources.items()}


def all_sources(
    net: Layer | Program,
    x1: Any,
    x2: Any,
    mask_constant: Any,
    pattern1: Any,
    pattern2: Any,
    name: str = "x1",
) -> tuple[Sources, Sources | None]:
    """The inputs of `tpnum.kernel` as sources: see `tpnum.tiles.inputs.inputs_of`; ``name`` is that of x1."""
    scalars = [line.name for line in net.lines if isinstance(line, Known)] if isinstance(net, Program) else ()
    if mask_constant is not None:
        extras.check_masked(not isinstance(net, Program), x1, x2)
    first, second = by_line(x1, x2, source_of, name, scalars)
    sides = [side for side in (first, second) if side is not None]
    if mask_constant is not None:
        constant = extras.constant_of(mask_constant)
        found = [_padding(side[""], constant) for side in sides]  # all of them are looked through
        if not all(whole for whole, _ in found):
            where = min(set.intersection(*(ends for _, ends in found)), default="")
            for side in sides:
                inner = side[""]
                side[""], side["mask"] = Padded(inner, constant), Mask(inner, constant, where)
    extras.add_graphs(first, second, pattern1, pattern2, lambda x, name: source_of(x, name, features=False))
    return first, second


def _padding(source: Source, constant: float) -> tuple[bool, set[str]]:
    """Whether no position is padding, and the ends where all of it is; examples without one are refused."""
    count, *rest = source.shape
    rows, whole, ends = max(1, CHUNK // int(np.prod(rest))), True, set(extras.ENDS)
    for start in range(0, count, rows):
        block = source.read(slice(start, min(start + rows, count)))
        mask = extras.unpadded_block(block, source.name, constant, start)[1]
        whole = whole and bool(mask.all())
        ends &= extras.ends_of(mask)
    return whole, ends
