"""The transposes of the rules of `tpnum.evaluate.maps`: from the adjoint of a node to that of its operand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.evaluate import labels
from tpnum.evaluate.blocks import dims, shape
from tpnum.evaluate.maps import band, renamed, shift, side_of, taps

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from tpnum.evaluate.blocks import Dim
    from tpnum.evaluate.general import PairValues
    from tpnum.law import graph
    from tpnum.program.lines import Axes


def mapped(values: PairValues, node: graph.Mapped, bar: np.ndarray) -> np.ndarray:
    """R' A R' of the maps of the rows, of the columns or of both."""
    line = node.row_map or node.col_map
    assert line is not None
    return _tied(node, bar) if line.axis in dict(node.operand.tied) else _free(values, node, bar)


def _tied(node: graph.Mapped, bar: np.ndarray) -> np.ndarray:
    rows, cols = node.row_map, node.col_map
    assert rows is not None
    assert cols is not None
    own = dims(node.operand)
    place = own.index((rows.axis, 2))
    size = dict(node.operand.tied)[rows.axis]
    weights = labels.map_matrix(rows, size) * labels.map_matrix(cols, size)
    new = [*own[:place], *((name, 2) for name, _ in rows.out), *own[place + 1 :]]
    made = labels.align(bar, dims(node), new)
    behind = made.shape[place + len(rows.out) :]
    flat = made.reshape(*made.shape[:place], len(weights), *behind)
    return labels.apply_matrix(weights.T, flat, place, [size])


def _free(values: PairValues, node: graph.Mapped, bar: np.ndarray) -> np.ndarray:
    own = dims(node.operand)
    full = shape(node.operand, *values.counts)
    maps = [(side, line) for side, line in enumerate((node.row_map, node.col_map)) if line is not None]
    tied: Axes = tuple(axis for axis in maps[0][1].out if axis in node.tied)
    looped: list[Dim] = [(name, 2) for name, _ in tied]
    rest = [key for key in dims(node) if key not in looped]
    bars = labels.align(bar, dims(node), [*looped, *rest])
    total: np.ndarray | None = None
    for chosen in np.ndindex(*(size for _, size in tied)):
        names, sides = list(own), []
        for number, line in maps:
            place = names.index((line.axis, number))
            one = side_of(number, line, full[own.index((line.axis, number))], tied, chosen)
            sides.append((one, place, names[place]))
            names[place : place + 1] = one.dims
        made = labels.align(bars[chosen], rest, names)
        for one, place, name in reversed(sides):
            made = one.back(made, place)
            names[place : place + len(one.free)] = [name]
        total = made if total is None else total + made
    assert total is not None
    return total


def stencil(values: PairValues, node: graph.Stencil, bar: np.ndarray) -> np.ndarray:
    """The copies back where they came from."""
    own = dims(node.operand)
    if (node.row_map.axis, 2) in own:
        place = own.index((node.row_map.axis, 2))
        matrix = band(node)
        name = next(n for n, _ in node.row_map.out if n != node.over)
        made = labels.align(bar, dims(node), [*own[:place], (name, 2), *own[place + 1 :]])
        return labels.apply_matrix(matrix.T, made, place, [matrix.shape[1]])
    names, _ = renamed(node)
    total = np.zeros(shape(node.operand, *values.counts))
    goal = labels.align(bar, dims(node), names)
    for both in taps(node):
        shift(total, goal, own, both, back=True)
    return total


def embedded(values: PairValues, node: graph.Embedded, bar: np.ndarray) -> np.ndarray:
    """The entries with p = p'."""
    own = dims(node)
    for name, _ in node.axes:
        first, second = own.index((name, 0)), own.index((name, 1))
        bar = np.diagonal(bar, axis1=first, axis2=second)
        own = [*(key for key in own if key not in ((name, 0), (name, 1))), (name, 2)]
    return labels.align(bar, own, dims(node.operand))


def diagonal(values: PairValues, node: graph.Diagonal, bar: np.ndarray) -> np.ndarray:
    """Spread out to all p, p': zero where they differ."""
    own, target = dims(node), dims(node.operand)
    full = dict(zip(target, shape(node.operand, *values.counts), strict=True))
    same: np.ndarray = np.ones((1,) * len(target))
    for name, _ in node.axes:
        both: list[Dim] = [key for key in ((name, 0), (name, 1)) if key in full]
        own = [both[0] if key == (name, 2) else key for key in own]
        if len(both) > 1:
            same = same * labels.align(np.eye(full[both[0]]), both, target)
    return labels.align(bar, own, target) * same


def weighted(values: PairValues, node: graph.Weighted, bar: np.ndarray) -> np.ndarray:
    """Handed out by the weights."""
    names, own = dims(node.operand), dims(node)
    over: list[Dim] = [(name, node.side) for name, _ in node.over]
    if node.weights is None:
        full = dict(zip(names, shape(node.operand, *values.counts), strict=True))
        made = labels.align(bar, own, names)
        lengths = [full[key] if key in over else n for key, n in zip(names, made.shape, strict=True)]
        return np.broadcast_to(made, lengths)
    w, by = _weights(values, node)
    new = [key for key in own if key not in names]
    return labels.contracted(w, by, bar, own, new, names)


def weights(
    values: PairValues, node: graph.Weighted, bar: np.ndarray, kept: Sequence[Dim]
) -> tuple[np.ndarray, list[Dim]]:
    """The adjoint of the weights, and its dimensions: examples ``kept`` apart, then those of the weights."""
    names, own = dims(node.operand), dims(node)
    _, by = _weights(values, node)
    target = [*(key for key in kept if key not in by), *by]
    over: list[Hashable] = [key for key in dict.fromkeys([*own, *names]) if key not in target]
    k = values(node.operand).k
    full = dict(zip(names, shape(node.operand, *values.counts), strict=True))
    spread = [*by, *((name, node.side) for name, _ in node.over)]
    k = np.broadcast_to(k, [full[key] if key in spread else n for key, n in zip(names, k.shape, strict=True)])
    shared = [key for key in over if key in own and key in names]
    sizes = {key: max(bar.shape[own.index(key)], k.shape[names.index(key)]) for key in shared}
    bar, k = (
        np.broadcast_to(a, [sizes.get(key, n) for key, n in zip(keys, a.shape, strict=True)])
        for a, keys in ((bar, own), (k, names))
    )
    return labels.contracted(bar, own, k, names, over, target), target


def _weights(values: PairValues, node: graph.Weighted) -> tuple[np.ndarray, list[Dim]]:
    """Of the examples of the tile, and their dimensions, as in `tpnum.evaluate.maps.weighted`."""
    assert node.weights is not None
    profile = values.profiles[node.side]
    tied = {name for name, _ in node.tied}
    axes = profile.axes(node.weights)
    own: list[Dim] = [("", node.side), *((n, 2 if n in tied else node.side) for n, _ in axes)]
    return np.asarray(profile(node.weights)[values.slices[node.side]]), own
