"""What a net of layers is given beside its inputs: which positions are padding, and graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tpnum.arguments import number, real_array, shown
from tpnum.errors import InputError
from tpnum.nn.base import Layer
from tpnum.nn.emitter import COUNTED
from tpnum.nn.graphs import reader
from tpnum.tiles.arguments import array_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tpnum.evaluate.profile import ProfileValues

Inputs: TypeAlias = "dict[str, np.ndarray]"
"""Arrays by data line, "" for the one of a net, and by the names of known scalars."""


def unpadded(x1: Any, x2: Any, mask_constant: Any) -> tuple[Any, Any, list[np.ndarray]]:
    """Both arrays with their padding zero, and their masks (examples, positions ..): 0 there and 1 elsewhere.

    A position is padding where any of its features is ``mask_constant``; no masks where nothing is.
    """
    constant = constant_of(mask_constant)
    check_masked(True, x1, x2)
    found = [_unpadded(x, name, constant) for x, name in ((x1, "x1"), (x2, "x2")) if x is not None]
    arrays, masks = [array for array, _ in found], [mask for _, mask in found]
    some = any(not mask.all() for mask in masks)
    return arrays[0], arrays[1] if len(arrays) > 1 else None, masks if some else []


ENDS = "start", "end"
LAYERS = (
    "it is for nets of layers; a Program declares p.scalars(name, axes) and takes their numbers by name, in "
    "the dict of its data"
)


def check_masked(layers: bool, x1: Any, x2: Any) -> None:
    """A mask goes with a net of layers, which takes one array."""
    if not layers:
        raise InputError(f"mask_constant: {LAYERS}")
    for x, name in ((x1, "x1"), (x2, "x2")):
        if isinstance(x, dict):
            raise InputError(f"{name}: with mask_constant it is one array, the input of a net of layers")


def constant_of(mask_constant: Any) -> float:
    """The number that marks padding, which may be NaN or infinite."""
    if isinstance(mask_constant, (float, np.floating)) and not np.isfinite(mask_constant):
        return float(mask_constant)
    try:
        return number(mask_constant, "mask_constant")
    except InputError:
        raise InputError(
            f"mask_constant is {shown(mask_constant)}: it must be a real number (NaN and infinity are)"
        ) from None


def _unpadded(x: Any, name: str, constant: float) -> tuple[np.ndarray, np.ndarray]:
    array = real_array(x, name)
    if array.ndim < 2 or not array.size:
        return array, np.ones(array.shape[:1])  # refused with all arrays of such shapes
    return unpadded_block(array, name, constant, 0)


def unpadded_block(
    array: np.ndarray, name: str, constant: float, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """Examples, ``start`` the number of the first, with their padding zero, and their masks."""
    padding = np.isnan(array) if np.isnan(constant) else array == array.dtype.type(constant)
    padding = padding.any(axis=-1)
    empty = np.flatnonzero(padding.reshape(len(array), -1).all(axis=1))
    if padding.ndim == 1:
        held = f"example {start + empty[0]} holds mask_constant = {constant:g}, and " if len(empty) else ""
        raise InputError(
            f"{name}: {held}shape {array.shape} has no index axis whose positions could be masked; leave "
            "mask_constant out"
        )
    if len(empty):
        raise InputError(
            f"{name}: all {padding[0].size} positions of example {start + empty[0]} are masked, for each "
            f"holds mask_constant = {constant:g}; leave the example out"
        )
    if padding.any():
        array = np.where(padding[..., None], array.dtype.type(0.0), array)
    return array, 1.0 - padding


def ends_of(mask: np.ndarray) -> set[str]:
    """The ends of the one axis of a mask (N, positions) where all examples have all of their padding."""
    if mask.ndim != 2:
        return set()
    steps = np.diff(mask, axis=1)
    return {end for end, wrong in zip(ENDS, (steps < 0, steps > 0), strict=True) if not wrong.any()}


def padding_of(masks: Iterable[np.ndarray]) -> str:
    """Where all examples have their padding: at the "start" or the "end", "" where there is no such place."""
    return min(set(ENDS).intersection(*map(ends_of, masks)), default="")


def require_positions(profile: ProfileValues, start: int = 0) -> None:
    """Every example, ``start`` the number of the first, has a position wherever a layer divides by theirs."""
    found = profile.site.lines.by_name if "mask" in profile.data else ()
    for name in (name for name in found if name.endswith(COUNTED)):
        counts = profile(profile.site.scalar(name))
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            mask, layer = profile.data["mask"][empty[0]], name.removesuffix(COUNTED)
            raise InputError(
                f"x{profile.side + 1}: of example {start + empty[0]}, which has {int(mask.sum())} of "
                f"{mask.size} positions, none is left that {layer} could average: the windows before it are "
                "masked where their middle is; take smaller ones, or leave the example out"
            )


def _graphs(pattern: Any, name: str) -> np.ndarray:
    return array_of(pattern, name, features=False)


def add_graphs(
    x1: dict[str, Any],
    x2: dict[str, Any] | None,
    pattern1: Any,
    pattern2: Any,
    read: Callable[[Any, str], Any] = _graphs,
) -> None:
    """Put the graphs of the examples beside their features: arrays, or what ``read`` makes of them."""
    if pattern2 is not None and (x2 is None or pattern1 is None):
        missing = "x2" if x2 is None else "pattern1"
        raise InputError(
            f"pattern2: it holds the graphs of x2, but {missing} is not given; give both or none"
        )
    for x, pattern, name in ((x1, pattern1, "pattern1"), (x2, pattern2, "pattern2")):
        if pattern is None or x is None:
            continue
        if "" not in x:
            raise InputError(f"{name}: {LAYERS}")
        made = read(pattern, name)
        graphs, examples = made.shape[0], x[""].shape[0]
        if graphs != examples:
            raise InputError(
                f"{name}: it holds {graphs} graphs, and x{name[-1]} {examples} examples; give one each"
            )
        x["pattern"] = made


def graphs_of(graphs: Any, net: Any, sizes: tuple[int, ...] | None) -> np.ndarray:
    """The graphs of a plan: as many as there are, of the sizes that a net of layers aggregates over."""
    array = array_of(graphs, "pattern1", features=False)
    if not isinstance(net, Layer):
        raise InputError(f"pattern1: {LAYERS}")
    check_graphs({"": array, "pattern": array}, sizes, "x1", net)
    return np.asarray(array)


def check_graphs(given: Inputs, sizes: tuple[int, ...] | None, argument: str, net: Layer) -> None:
    """Graphs where the net aggregates over some (``sizes`` of a matrix of one), and nowhere else."""
    name, graphs = argument.replace("x", "pattern"), given.get("pattern")
    if sizes is None and graphs is not None:
        raise InputError(f"{name}: the net has no Aggregate layer or other that would read it; leave it out")
    if sizes is None:
        return
    wanted, layer = (len(next(iter(given.values()))), *sizes), reader(net)
    if graphs is None:
        raise InputError(
            f"{name}: {layer} needs the graphs of {argument}, one adjacency matrix of shape {sizes} for "
            "each of its examples"
        )
    if graphs.shape != wanted:
        raise InputError(
            f"{name}: shape {graphs.shape} does not fit {layer} and {argument}; it must be {wanted}"
        )
