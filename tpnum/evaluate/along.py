"""Functions along axes on a tile: covariances from their nodes, integrals from `gauss.special`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.errors import LimitError
from tpnum.evaluate import labels
from tpnum.evaluate.blocks import Block, dims
from tpnum.gauss.special.families import Family
from tpnum.gauss.special.jointly import expectation
from tpnum.gauss.special.pairing import Cells
from tpnum.law import graph

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.evaluate.blocks import Dim
    from tpnum.evaluate.general import PairValues
    from tpnum.program.lines import Axes

SAME = 1e-12
"""Covariances that differ by this part of the largest are the same."""


def jointly(values: PairValues, node: graph.Jointly) -> Block:
    """The block of a node; the error of what is sampled goes to the account."""
    frame = _without(node)
    cells = _cells(values, node, frame)
    source = _source(values, node, cells)
    kept = np.flatnonzero(source == np.arange(len(source)))
    account = values.profiles[0].account
    try:
        value, error, sampled = expectation(
            node.what, node.sides, cells.some(kept), account.rtol, account.budget, account.replicate
        )
    except LimitError as failed:
        raise LimitError(f"{node.where} has no limit: {failed}") from None
    scale, worst = np.max(np.abs(value), initial=0.0), np.max(error, initial=0.0)
    if worst and scale:
        account.note(worst / scale, f"the expectation along axes of {node.where}", replicated=sampled)
    if len(kept) < len(source):
        value = _both(value, source)
    names: list[Hashable] = [*dims(frame)]
    sizes = [*values.shape(frame)]
    for side, axes in enumerate((node.rows, node.cols)):
        own = [n for name, n in axes if name in node.over]
        names += [(name, side) for name in node.over if own]
        sizes += own
    return Block(labels.align(value.reshape(sizes), names, dims(node)), None)


def _cells(values: PairValues, node: graph.Jointly, frame: graph.Pair) -> Cells:
    """The cells of the frame: the families that they read, and the covariances between them."""
    base, full = dims(frame), values.shape(frame)
    families: list[Family | None] = [None, None]
    places: list[np.ndarray | None] = [None, None]
    for side, (within, mean) in enumerate(zip(node.own, node.means, strict=True)):
        if within is not None:
            families[side] = _family(values, within, mean, side, node.over)
            places[side] = _places(values, within, side, node.over, base, full)

    def matrices(pair: graph.Pair | None, keeps: bool) -> np.ndarray | None:
        """The entries of a pair along the axes, (cells, rows, columns)."""
        if pair is None:
            return None
        along = [(name, side) for side in (0, 1) for name in node.over] if keeps else []
        wanted: list[Hashable] = [*base, *along]
        k = labels.align(values.full(pair), dims(pair), wanted)
        lengths = [k.shape[wanted.index(key)] for key in along]
        return np.broadcast_to(k, (*full, *lengths)).reshape(int(np.prod(full)), *_products(lengths))

    cross, direction = matrices(node.cross, True), matrices(node.direction, _directed(node))
    same = np.broadcast_to(values.coincide(frame), full).ravel() == 1.0
    if node.sides[0] == node.sides[1] and cross is not None:
        same = same | _one_vector(families, places, cross)
    moments = None
    if node.moments is not None:
        moments = _moments(values, node, 0, base, full), _moments(values, node, 1, base, full)
    return Cells((families[0], families[1]), (places[0], places[1]), cross, same, direction, moments)


def _source(values: PairValues, node: graph.Jointly, cells: Cells) -> np.ndarray:
    """The cell whose value each cell has, or the transpose of whose: itself, if no earlier one."""
    (first, second), (left, right) = cells.places, cells.families
    if left is None or right is None or first is None or second is None or not _alike(values, node):
        return np.arange(len(cells.same))
    a, b = (
        place + values.ids[side][0] * (len(family.cov) // values.counts[side])
        for side, (place, family) in enumerate(((first, left), (second, right)))
    )
    return _mirrored(a, b, cells.cross, cells.direction)


def _one_vector(
    families: list[Family | None], places: list[np.ndarray | None], cross: np.ndarray
) -> np.ndarray:
    """Where u - v has no variance and no mean: the rows and the columns may be equal inputs of two arrays."""
    (left, right), (a, b) = families, places
    if left is None or right is None or a is None or b is None or cross.shape[1] != cross.shape[2]:
        return np.zeros(len(cross), dtype=bool)
    u, v = (np.einsum("wii->wi", family.cov) for family in (left, right))
    apart = u[a] + v[b] - 2.0 * np.einsum("cii->ci", cross)
    if left.mean is not None or right.mean is not None:
        means = (np.zeros(u.shape) if family.mean is None else family.mean for family in (left, right))
        apart = apart + (next(means)[a] - next(means)[b]) ** 2
    return np.asarray((apart <= SAME * (u[a] + v[b])).all(axis=1))


def _moments(
    values: PairValues, node: graph.Jointly, side: int, base: list[Dim], full: tuple[int, ...]
) -> np.ndarray:
    """E F^2 of one side at every cell, (cells,), or of every entry along the axes, (cells, d)."""
    assert node.moments is not None
    moment, profile = node.moments[side], values.profiles[side]
    along = [(name, n) for name, n in (node.rows, node.cols)[side] if name in node.over]
    own: list[Hashable] = [("", side)]
    own += [(name, 2 if (name, 2) in base else side) for name, _ in profile.axes(moment)]
    aligned = labels.align(
        profile(moment)[values.slices[side]], own, [*base, *((name, side) for name, _ in along)]
    )
    found = np.broadcast_to(aligned, (*full, *(n for _, n in along)))
    return found.reshape(int(np.prod(full)), *([-1] if along else []))


def _alike(values: PairValues, node: graph.Jointly) -> bool:
    """Whether rows and columns are the same functions of examples some of which are the same."""
    first, second = node.own
    return (
        values.same
        and bool(np.intersect1d(*values.ids).size)
        and node.sides[0] == node.sides[1]
        and first is not None
        and second is not None
        and first.key == second.key
    )


def _mirrored(a: np.ndarray, b: np.ndarray, *matrices: np.ndarray | None) -> np.ndarray:
    """The cell to which each is the transpose, an earlier one, or itself where there is none.

    Cell c pairs the families a[c] and b[c]; matrices (cells, ..) are checked, as they may be of more axes.
    """
    cells = np.arange(len(a))
    least = min(a.min(initial=0), b.min(initial=0))
    a, b = a - least, b - least
    count = int(max(a.max(initial=0), b.max(initial=0))) + 1
    pairs, turned = a * count + b, b * count + a
    order = np.argsort(pairs)
    ordered = pairs[order]
    if not len(a) or (ordered[1:] == ordered[:-1]).any():
        return cells
    at = np.minimum(np.searchsorted(ordered, turned), len(a) - 1)
    other = order[at]
    some = np.flatnonzero((ordered[at] == turned) & (other < cells))
    for matrix in matrices:
        if matrix is not None:
            entries, back = matrix[some], matrix[other[some]]
            if matrix.ndim > 1:
                back = back.swapaxes(1, 2)
            near = np.abs(entries - back) <= SAME * np.max(np.abs(matrix), initial=0.0)
            some = some[near.all(axis=tuple(range(1, near.ndim)))]
    cells[some] = other[some]
    return cells


def _both(value: np.ndarray, source: np.ndarray) -> np.ndarray:
    """The values of all cells, from those that are no transposes of others."""
    cells = np.arange(len(source))
    out = value[np.searchsorted(np.flatnonzero(source == cells), source)]
    if out.ndim > 1:
        turned = source != cells
        out[turned] = out[turned].swapaxes(1, 2)
    return out


def _directed(node: graph.Jointly) -> bool:
    """Whether directions have the axes: those of a maximum's transpose have not."""
    first = node.sides[0]
    return node.what == "slope" or (first is not None and first.keeps)


def _products(lengths: list[int]) -> tuple[int, ...]:
    half = len(lengths) // 2
    return (int(np.prod(lengths[:half])), int(np.prod(lengths[half:]))) if lengths else ()


def _without(node: graph.Jointly) -> graph.Pair:
    """The frame of a node without the axes that it is along."""

    def left(axes: Axes) -> Axes:
        return tuple(axis for axis in axes if axis[0] not in node.over)

    return graph.Pair(node.tied, left(node.rows), left(node.cols), increments=False)


def _family(
    values: PairValues, within: graph.Within, mean: graph.Profile | None, side: int, over: tuple[str, ...]
) -> Family:
    """The families of every example of the tile at every place: (families, d, d)."""
    profile = values.profiles[side]
    axes = profile.axes(within)
    at = values.slices[side]
    rest = tuple(axis for axis in axes if axis[0].rstrip("'") not in over)
    along = tuple(axis for axis in axes if axis[0] in over)
    cov = np.asarray(profile(within)[at])
    d = int(np.prod([size for _, size in along]))
    means = None
    if mean is not None:
        given = profile.along(mean, (*rest, *along))[at]
        means = np.broadcast_to(given, (len(cov), *(size for _, size in (*rest, *along)))).reshape(-1, d)
    return Family(cov.reshape(-1, d, d), means)


def _places(
    values: PairValues,
    within: graph.Within,
    side: int,
    over: tuple[str, ...],
    base: list[tuple[str, int]],
    full: tuple[int, ...],
) -> np.ndarray:
    """Which family of one side each cell of the frame reads."""
    axes = [axis for axis in values.profiles[side].axes(within) if axis[0].rstrip("'") not in over]
    lengths = (values.counts[side], *(size for _, size in axes))
    flat = np.arange(int(np.prod(lengths))).reshape(lengths)
    names = ["", *(name for name, _ in axes)]
    own: list[Hashable] = [(name, 2 if (name, 2) in base else side) for name in names]
    return np.broadcast_to(labels.align(flat, own, base), full).ravel()
