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


class Shifted(NamedTuple):
    """One tap of a window on one side, as slices: from which positions to which; None is the matrix."""

    side: Side
    source: slice | None
    goal: slice | None


def taps(node: graph.Stencil) -> list[tuple[Shifted, Shifted]]:
    """Of rows and of columns, tap by tap."""
    made = []
    tied = ((node.over, dict(node.row_map.out)[node.over]),)
    for k in range(tied[0][1]):
        both = []
        for side, (line, axes) in enumerate(
            ((node.row_map, node.operand.rows), (node.col_map, node.operand.cols))
        ):
            size = dict(axes or node.operand.tied).get(line.axis) or dict(node.operand.tied)[line.axis]
            one = side_of(side, line, size, tied, (k,))
            both.append(Shifted(one, *_slices(one.matrix)))
        made.append((both[0], both[1]))
    return made


def _slices(matrix: np.ndarray) -> tuple[slice | None, slice | None]:
    """Where a matrix copies at regular steps."""
    goal, source = np.nonzero(matrix)
    step = int(source[1] - source[0]) if len(source) > 1 else 1
    regular = (
        len(goal) > 0
        and step > 0
        and np.all(matrix[goal, source] == 1.0)
        and np.all(np.diff(goal) == 1)
        and np.all(np.diff(source) == step)
    )
    if not regular:
        return None, None
    return slice(source[0], source[-1] + 1, step), slice(goal[0], goal[-1] + 1)


def band(node: graph.Stencil) -> np.ndarray:
    """The matrix of a stencil on tied positions."""
    return np.sum([one.side.matrix * other.side.matrix for one, other in taps(node)], axis=0)


def stencil(values: PairValues, node: graph.Stencil) -> Block:
    """The sum over taps of shifted copies."""
    block = values(node.operand)
    own = dims(node.operand)
    keep = values.increments(node) and block.d is not None
    if (node.row_map.axis, 2) in own:
        place = own.index((node.row_map.axis, 2))
        size = dict(node.operand.tied)[node.row_map.axis]
        matrix = band(node)
        names = [*own[:place], (next(n for n, _ in node.row_map.out if n != node.over), 2), *own[place + 1 :]]

        def along(array: np.ndarray) -> np.ndarray:
            array = np.broadcast_to(array, (*array.shape[:place], size, *array.shape[place + 1 :]))
            made = labels.apply_matrix(matrix, array, place, [len(matrix)])
            return labels.align(made, names, dims(node))

        return Block(along(block.k), along(block.d) if keep and block.d is not None else None)
    full = shape(node.operand, *values.counts)
    target = shape(node, *values.counts)
    names, order = renamed(node)
    lengths = [target[dims(node).index(key)] for key in names]
    k, d = np.zeros(lengths), np.zeros(lengths) if keep else None
    source = np.broadcast_to(block.k, full)
    source_d = None if block.d is None else np.broadcast_to(block.d, full)
    for both in taps(node):
        shift(source, k, own, both)
        if d is not None and source_d is not None:
            shift(source_d, d, own, both)
            sides = [one.side for one in both]
            if not all((side.matrix != 0.0).any(axis=1).all() for side in sides):
                d += _padding(values, node.operand, sides, names)
    return Block(k.transpose(order), None if d is None else d.transpose(order))


def renamed(node: graph.Stencil) -> tuple[list[Dim], list[int]]:
    """The operand's dimensions with the names behind the windows, and the order of the node's among them."""
    names = list(dims(node.operand))
    for side, line in enumerate((node.row_map, node.col_map)):
        at = names.index((line.axis, side))
        names[at] = next(name for name, _ in line.out if name != node.over), side
    return names, [names.index(key) for key in dims(node)]


def shift(
    source: np.ndarray, goal: np.ndarray, own: list[Dim], both: tuple[Shifted, Shifted], back: bool = False
) -> None:
    """Add a tap's copy to ``goal``; ``back`` goes from there to ``source``, the other way round."""
    places = [own.index((one.side.line.axis, number)) for number, one in enumerate(both)]
    if all(one.source is not None for one in both):
        at, to = ([slice(None)] * source.ndim for _ in range(2))
        for place, one in zip(places, both, strict=True):
            assert one.source is not None
            assert one.goal is not None
            at[place], to[place] = one.source, one.goal
        if back:
            source[tuple(at)] += goal[tuple(to)]
        else:
            goal[tuple(to)] += source[tuple(at)]
        return
    made = goal if back else source
    for place, one in zip(places, both, strict=True):
        matrix = one.side.matrix.T if back else one.side.matrix
        made = labels.apply_matrix(matrix, made, place, [len(matrix)])
    if back:
        source += made
    else:
        goal += made


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
