"""Pooling over windows and over all positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tpnum.nn.arguments import Flag, OptionalSizes, Padding, Sizes
from tpnum.nn.base import Features, Layer
from tpnum.nn.windows import mapped, middles, need_axes, need_room, offset, positions, windows_of
from tpnum.program.maps import Take
from tpnum.program.windows import Pool, Window

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
    """Mean over windows; at SAME borders by the window's size, or (normalize_edges) the positions inside.

    ``window_shape`` and ``strides`` (1 by default) have a number per spatial axis, ``padding`` is as in
    `Conv`.  K'[p, p'] is the mean of K over the pairs of positions in the windows of p and of p', Theta' that
    of Theta.
    """

    window_shape: Sizes
    strides: OptionalSizes = None
    padding: Padding = "VALID"
    normalize_edges: Flag = False

    def emit(self, to: Emitter, x: Features) -> Features:
        scaled = "inside" if self.normalize_edges else "average"
        return _pooled(to, x, self.window_shape, self.strides, self.padding, scaled)


@dataclass(frozen=True, repr=False)
class SumPool(Layer):
    """Sum over windows: `AvgPool` times the size of a window."""

    window_shape: Sizes
    strides: OptionalSizes = None
    padding: Padding = "VALID"

    def emit(self, to: Emitter, x: Features) -> Features:
        return _pooled(to, x, self.window_shape, self.strides, self.padding, "sum")


def _largest(to: Emitter, x: Features, seen: list[Any]) -> Features:
    """The largest entries of windows: of a function of a Gaussian, whose windows are taken below it."""
    if x.has_data:
        raise to.error("it acts on raw data, which is not Gaussian; put a Dense or Conv before it")
    if x.mask is not None:
        raise to.error(
            "a masked position is zero, not absent, to the largest of a window; leave mask_constant out"
        )
    vectors, over = [], [offset(axis) for axis, *_ in seen]
    for block in x.blocks:
        found = to.function_of(block.vector)
        vector = block.vector if found is None else found[1]
        for (axis, out, index), name in zip(seen, over, strict=True):
            vector = vector.map(axis, ((axis, out), (name, index.count // out)), index)
        vector = vector if found is None else to.apply(found[0], vector)
        vectors.append(vector.max(*over))
    return x.replace(vectors, positions(vectors[0], x))


@dataclass(frozen=True, repr=False)
class MaxPool(Layer):
    """The largest entry of every window, of those inside the input.

    After a function of a Gaussian (a convolution and a relu) its kernels are averages over points, to the
    accuracy ``rtol`` of `tpnum.kernel`, the larger the windows the dearer.
    """

    window_shape: Sizes
    strides: OptionalSizes = None
    padding: Padding = "VALID"

    def emit(self, to: Emitter, x: Features) -> Features:
        reads = windows_of(to, x, "window_shape", self.window_shape, self.strides)
        need_room(to, x, "window_shape", self.window_shape, (1,) * len(self.window_shape), self.padding)

        def window(_: int, size: int, width: int, step: int) -> Take:
            """Its positions; those outside are the nearest inside, which the window has too."""
            starts = Window(size, width, step, 1, self.padding).starts
            wrap = self.padding == "CIRCULAR"
            places = [
                i % size if wrap else min(max(i, 0), size - 1) for s in starts for i in range(s, s + width)
            ]
            return Take(size, tuple(places))

        made = mapped(to, "window_shape", reads, window)
        seen = [
            (axis, index.count // width, index)
            for (axis, index), (*_, width, _) in zip(made, reads, strict=True)
        ]
        return _largest(to, x, seen)


@dataclass(frozen=True, repr=False)
class GlobalMaxPool(Layer):
    """The largest entry of all positions (as `MaxPool`)."""

    def emit(self, to: Emitter, x: Features) -> Features:
        need_axes(to, x)
        made = _largest(to, x, [(axis, 1, Take(size, tuple(range(size)))) for axis, size in x.axes])
        return made.replace([block.vector.take(**dict.fromkeys(x.sizes(), 0)) for block in made.blocks], ())


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
