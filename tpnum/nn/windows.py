"""How layers read the spatial axes: one number per axis, windows that fit, the positions that come out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tpnum.arguments import shown
from tpnum.errors import ProgramError
from tpnum.program.maps import IndexMap, Take

if TYPE_CHECKING:
    from tpnum.nn.base import Features
    from tpnum.nn.emitter import Emitter
    from tpnum.program import Scalar, Vector
    from tpnum.program.lines import Axes
    from tpnum.program.windows import Pool, Window

LONGEST = 1 << 16
"""Positions in a window, or of a resized axis, that are still written down."""


def need_axes(to: Emitter, x: Features) -> None:
    if not x.axes:
        raise to.error(
            "it needs a spatial axis and gets none; give inputs of shape (.., channels) with a "
            "spatial axis before the channels, and put Flatten after it"
        )


def per_axis(to: Emitter, x: Features, name: str, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """``sizes`` if there is one for each spatial axis."""
    need_axes(to, x)
    if len(sizes) != len(x.axes):
        axes = tuple(x.sizes().values())
        more = "; images of one channel are x[..., None]" if len(sizes) > len(x.axes) else ""
        raise to.error(
            f"{name} is {sizes} but the features have spatial sizes {axes}; give one number per axis{more}"
        )
    return sizes


def windows_of(
    to: Emitter, x: Features, name: str, window: tuple[int, ...], strides: tuple[int, ...] | None
) -> list[tuple[str, int, int, int]]:
    """(axis, its size, window, stride) per spatial axis, or the complaint that they do not match."""
    per_axis(to, x, name, window)
    steps = per_axis(to, x, "strides", strides or (1,) * len(window))
    for (axis, _), width in zip(x.axes, window, strict=True):
        if width > LONGEST:
            raise to.error(f"{name} {shown(window)} is larger than {LONGEST} along axis {axis!r}")
    return [(*axis, width, step) for axis, width, step in zip(x.axes, window, steps, strict=True)]


def need_room(
    to: Emitter, x: Features, name: str, window: tuple[int, ...], dilation: tuple[int, ...], padding: str
) -> None:
    """A VALID window lies inside the input."""
    for (axis, size), width, apart in zip(x.axes, window, dilation, strict=True):
        reach = (width - 1) * apart + 1
        if padding == "VALID" and reach > size:
            spread = f" with dilation {dilation} reaches over {shown(reach)} and" if apart > 1 else ""
            raise to.error(
                f"{name} {window}{spread} is larger than the input {tuple(x.sizes().values())} along axis "
                f"{axis!r}; take a smaller one or padding='SAME'"
            )


def offset(axis: str) -> str:
    """The name of the axis of filter offsets along ``axis``."""
    return f"{axis}_f"


def mapped(
    to: Emitter, name: str, reads: list[tuple[str, int, int, int]], kind: Callable[..., IndexMap]
) -> list[tuple[str, IndexMap]]:
    """(axis, its map) per spatial axis; ``kind`` makes a map of (index of the axis, size, window, stride)."""
    made = []
    for k, (axis, size, width, step) in enumerate(reads):
        try:
            made.append((axis, kind(k, size, width, step)))
        except ProgramError as problem:
            raise to.error(f"{name} {width}, strides {step} along axis {axis!r}: {problem}") from None
    return made


def positions(vector: Vector, x: Features) -> Axes:
    """The spatial axes that ``vector`` has now."""
    sizes = dict(vector.axes)
    return tuple((axis, sizes[axis]) for axis, _ in x.axes)


def middles(mask: Scalar, seen: list[tuple[str, Window | Pool]]) -> Scalar:
    """The mask of windows: that of the position in their middle."""
    for axis, index in seen:
        reach = index.reach
        middles = tuple((start + (reach - 1) // 2) % index.length for start in index.starts)
        if middles != tuple(range(index.length)):
            mask = mask.map(axis, ((axis, len(middles)),), Take(index.length, middles))
    return mask
