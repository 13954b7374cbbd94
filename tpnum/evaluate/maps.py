"""Index maps on the blocks of pair nodes: R K R'^T over positions, and changes of what is tied."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tpnum.evaluate import labels
from tpnum.evaluate.blocks import Block, Dim, dims, shape
from tpnum.program.maps import Shift, Sum

if TYPE_CHECKING:
    from tpnum.evaluate.general import PairValues
    from tpnum.law import graph
    from tpnum.program.lines import Axes, Map


def mapped(values: PairValues, node: graph.Mapped) -> Block:
    """The maps of the rows, of the columns or of both."""
    line = node.row_map or node.col_map
    assert line is not None
    if line.axis in dict(node.operand.tied):
        return _tied(values, node)
    return _free(values, node, line)


def _tied(values: PairValues, node: graph.Mapped) -> Block:
    """Ties carried through a gather, or summed over where they are independent."""
    rows, cols = node.row_map, node.col_map
    assert rows is not None
    assert cols is not None
    block = values(node.operand)
    own = dims(node.operand)
    place = own.index((rows.axis, 2))
    size = dict(node.operand.tied)[rows.axis]
    weights = labels.map_matrix(rows, size) * labels.map_matrix(cols, size)
    new = [*own[:place], *((name, 2) for name, _ in rows.out), *own[place + 1 :]]

    def along(array: np.ndarray) -> np.ndarray:
        array = np.broadcast_to(array, (*array.shape[:place], size, *array.shape[place + 1 :]))
        made = labels.apply_matrix(weights, array, place, [s for _, s in rows.out])
        return labels.align(made, new, dims(node))

    return Block(along(block.k), along(block.d) if values.increments(node) and block.d is not None else None)


class Side(NamedTuple):
    """The map of one side at chosen indices of its tied new axes: its matrix, and the axes that are free."""

    side: int
    line: Map
    matrix: np.ndarray
    free: Axes

    @property
    def sizes(self) -> list[int]:
        return [size for _, size in self.free]

    @property
    def dims(self) -> list[Dim]:
        return [(name, self.side) for name, _ in self.free]

    def along(self, values: np.ndarray, place: int) -> np.ndarray:
        """The map along a dimension, whose place the new axes take."""
        index = self.line.index
        if isinstance(index, Shift) and not index.by and self.free:  # another name
            return values
        if isinstance(index, Sum):
            return values.sum(axis=place) * self.matrix[0, 0]
        return labels.apply_matrix(self.matrix, values, place, self.sizes)

    def back(self, bar: np.ndarray, place: int) -> np.ndarray:
        """The transpose: from the new axes, which begin at ``place``, to the dimension before the map."""
        index = self.line.index
        if isinstance(index, Shift) and not index.by and self.free:
            return bar
        rest = bar.shape[place + len(self.free) :]
        if isinstance(index, Sum):
            spread = np.expand_dims(bar * self.matrix[0, 0], place)
            return np.broadcast_to(spread, (*bar.shape[:place], self.matrix.shape[1], *rest))
        return labels.apply_matrix(
            self.matrix.T, bar.reshape(*bar.shape[:place], -1, *rest), place, [self.matrix.shape[1]]
        )


def _free(values: PairValues, node: graph.Mapped, line: Map) -> Block:
    """R K R'^T over free positions; tied new axes are looped over."""
    block = values(node.operand)
    full = np.broadcast_to(block.k, shape(node.operand, *values.counts))
    keep = values.increments(node) and block.d is not None
    full_d = np.broadcast_to(block.d, full.shape) if keep and block.d is not None else None
    own = dims(node.operand)
    tied = tuple(axis for axis in line.out if axis in node.tied)
    looped: list[Dim] = [(name, 2) for name, _ in tied]
    rest = [key for key in dims(node) if key not in looped]
    pieces: list[Block] = []
    for chosen in np.ndindex(*(size for _, size in tied)):
        names, k, d = list(own), full, full_d
        sides = []
        for number, one in enumerate((node.row_map, node.col_map)):
            if one is None:
                continue
            place = names.index((one.axis, number))
            side = side_of(number, one, k.shape[place], tied, chosen)
            sides.append(side)
            k = side.along(k, place)
            if d is not None:
                d = side.along(d, place)
            names[place : place + 1] = side.dims
        if d is not None:
            d = labels.align(d + _padding(values, node.operand, sides, names), names, rest)
        pieces.append(Block(labels.align(k, names, rest), d))

    def join(arrays: list[np.ndarray]) -> np.ndarray:
        joined = np.stack(arrays).reshape(*(size for _, size in tied), *arrays[0].shape)
        return labels.align(joined, [*looped, *rest], dims(node))

    increments = [piece.d for piece in pieces if piece.d is not None]
    return Block(join([piece.k for piece in pieces]), join(increments) if keep else None)


def side_of(side: int, line: Map, size: int, tied: Axes, chosen: tuple[int, ...]) -> Side:
    """The map of one side at an index of its tied new axes."""
    matrix = labels.map_matrix(line, size).reshape(*(s for _, s in line.out), size)
    names = [name for name, _ in line.out]
    index: list[int | slice] = [slice(None)] * len(names)
    for (name, _), at in zip(tied, chosen, strict=True):
        index[names.index(name)] = at
    free = tuple(axis for axis in line.out if axis not in tied)
    return Side(side, line, matrix[tuple(index)].reshape(-1, size), free)


def _padding(values: PairValues, operand: graph.Pair, sides: list[Side], names: list[Dim]) -> np.ndarray:
    """What gathered increments owe to padding: E (Z - 0)^2 where one side falls outside."""
    assert operand.norms is not None
    inside, moments = [], []
    for one, other in (sides, sides[::-1]):
        q = values.profile(operand.norms[one.side], one.side, operand)
        here = dims(operand)
        place = here.index((one.line.axis, one.side))
        q = np.broadcast_to(q, [one.matrix.shape[1] if k == place else s for k, s in enumerate(q.shape)])
        q = labels.apply_matrix(one.matrix**2, q, place, one.sizes)
        here[place : place + 1] = one.dims
        # the other side's mapped axis is still its source axis, of length one: name it as it will be
        at = here.index((other.line.axis, other.side))
        here[at : at + 1] = other.dims
        q = q.reshape([*q.shape[:at], *(1 for _ in other.free), *q.shape[at + 1 :]])
        moments.append(labels.align(q, here, names))
        has = (one.matrix != 0.0).any(axis=1).astype(np.float64).reshape(one.sizes)
        inside.append(labels.align(has, one.dims, names))
    return moments[0] * (1.0 - inside[1]) + moments[1] * (1.0 - inside[0])


def weighted(values: PairValues, node: graph.Weighted) -> Block:
    """A sum over axes of one side with weights of its input, as products of matrices in batches."""
    weights = None if node.weights is None else values.profiles[node.side](node.weights)
    return Block(weighed(values, node, weights, values(node.operand).k), None)


def weighed(
    values: PairValues, node: graph.Weighted, weights: np.ndarray | None, k: np.ndarray
) -> np.ndarray:
    """The sum for such weights (N, *axes) and such entries of the operand."""
    names = dims(node.operand)
    over = [(name, node.side) for name, _ in node.over]
    full = shape(node.operand, *values.counts)
    whole = [n if key in over else s for key, n, s in zip(names, full, k.shape, strict=True)]
    k = np.broadcast_to(k, whole)
    if node.weights is None or weights is None:
        k = k.sum(axis=tuple(names.index(key) for key in over))
        return labels.align(k, [key for key in names if key not in over], dims(node))
    profile = values.profiles[node.side]
    tied = {name for name, _ in node.tied}
    axes = profile.axes(node.weights)
    own = [("", node.side), *((n, 2 if n in tied else node.side) for n, _ in axes)]
    return labels.contracted(weights[values.slices[node.side]], own, k, names, over, dims(node))


def embedded(values: PairValues, node: graph.Embedded) -> Block:
    """Tied axes made free, K zero where the indices differ and D there the sum of the second moments."""
    block = values(node.operand)
    own, target = dims(node.operand), dims(node)
    frame = shape(node, *values.counts)
    # a tied axis becomes a row axis, and the other side's index must agree with it
    loose = {(name, 2) for name, _ in node.axes}
    renamed = [(key[0], 0) if key in loose else key for key in own]
    same: np.ndarray = np.ones((1,) * len(target))
    for name, size in node.axes:
        same = same * labels.align(np.eye(size), [(name, 0), (name, 1)], target)
    k = np.broadcast_to(labels.align(block.k, renamed, target) * same, frame)
    if not values.increments(node) or block.d is None:
        return Block(k, None)
    q, q2 = values.seconds(node.operand, node)
    d = labels.align(block.d, renamed, target) * same + (1.0 - same) * (q + q2)
    return Block(k, np.broadcast_to(d, frame))


def diagonal(values: PairValues, node: graph.Diagonal) -> Block:
    """Free axes made tied: the entries with p = p'."""
    own = dims(node.operand)
    array = np.broadcast_to(values(node.operand).k, shape(node.operand, *values.counts))
    for name, _ in node.axes:
        both = [(name, 0), (name, 1)]
        if all(key in own for key in both):
            first, second = (own.index(key) for key in both)
            array = np.diagonal(array, axis1=first, axis2=second)
            own = [*(key for key in own if key not in both), (name, 2)]
        else:
            own = [(name, 2) if key in both else key for key in own]
    return Block(labels.align(array, own, dims(node)), None)
