"""Pooling over windows and over all positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tpnum.nn.arguments import Flag, OptionalSizes, Padding, Sizes
from tpnum.nn.base import Features, Layer
from tpnum.nn.windows import mapped, middles, need_axes, need_room, positions, windows_of
from tpnum.program.windows import Pool

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter


def _pooled(
    to: Emitter,
    x: Features,
    window: tuple[int, ...],
    strides: tuple[int, ...] | None,
    padding: str,
    scaled: str,
) -> Features:
    reads = windows_of(to, x, "window_shape", window, strides)
    need_room(to, x, "window_shape", window, (1,) * len(window), padding)

    def pool(_: int, size: int, width: int, step: int) -> Pool:
        return Pool(size, width, step, padding, {"sum": 1.0, "average": 1.0 / width, "inside": None}[scaled])

    vectors = [block.vector for block in x.blocks]
    seen: list[Any] = mapped(to, "window_shape", reads, pool)
    for axis, index in seen:
        vectors = [vector.map(axis, ((axis, index.count),), index) for vector in vectors]
    axes = positions(vectors[0], x)
    mask = middles(x.mask, seen) if x.mask is not None else None
    return x.replace(to.masked(vectors, mask), axes).masked(mask)


@dataclass(frozen=True, repr=False)
class AvgPool(Layer):
    """Mean over windows; at SAME borders by the window's size, or (normalize_edges) the positions inside."""

    window_shape: Sizes
    strides: OptionalSizes = None
    padding: Padding = "VALID"
    normalize_edges: Flag = False

    def emit(self, to: Emitter, x: Features) -> Features:
        scaled = "inside" if self.normalize_edges else "average"
        return _pooled(to, x, self.window_shape, self.strides, self.padding, scaled)


@dataclass(frozen=True, repr=False)
class SumPool(Layer):
    """Sum over windows."""

    window_shape: Sizes
    strides: OptionalSizes = None
    padding: Padding = "VALID"

    def emit(self, to: Emitter, x: Features) -> Features:
        return _pooled(to, x, self.window_shape, self.strides, self.padding, "sum")


@dataclass(frozen=True, repr=False)
class GlobalAvgPool(Layer):
    """Mean over all positions, of those that are not masked."""

    def emit(self, to: Emitter, x: Features) -> Features:
        need_axes(to, x)
        if x.mask is None:
            return x.replace([block.vector.mean(*x.sizes()) for block in x.blocks], ())
        share = 1.0 / to.count(x.mask, x.sizes())
        sums = [block.vector.sum(*x.sizes()) for block in x.blocks]
        return x.replace([to.scale(vector, share) for vector in sums], ()).masked(None)


@dataclass(frozen=True, repr=False)
class GlobalSumPool(Layer):
    """Sum over all positions."""

    def emit(self, to: Emitter, x: Features) -> Features:
        need_axes(to, x)
        return x.replace([block.vector.sum(*x.sizes()) for block in x.blocks], ()).masked(None)
