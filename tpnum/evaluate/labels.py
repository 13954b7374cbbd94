"""Arrays whose dimensions have names: aligning them, and linear maps along one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from tpnum.program.lines import Axes, Map


def lift(values: np.ndarray, own: Axes, target: Axes) -> np.ndarray:
    """An (N, *own) array as (N, *target): reordered, with unit dimensions for what it lacks."""
    names = [name for name, _ in own]
    wanted = [name for name, _ in target]
    return align(values, ["", *names], ["", *wanted])


def align(values: np.ndarray, dims: Sequence[Hashable], target: Sequence[Hashable]) -> np.ndarray:
    """Reorder the dimensions ``dims`` to ``target``; missing ones become of length one."""
    dims = list(dims)
    order = [dims.index(d) for d in target if d in dims]
    assert len(order) == len(dims), (dims, target)
    moved = values.transpose(order)
    shape = iter(moved.shape)
    return moved.reshape([next(shape) if d in dims else 1 for d in target])


def contracted(
    a: np.ndarray, left: Sequence[Hashable], b: np.ndarray, right: Sequence[Hashable], over: Sequence[Hashable]
) -> tuple[np.ndarray, list[Hashable]]:
    """sum over the dimensions ``over`` of a b, and the names of its dimensions.

    Dimensions that both have otherwise are batches; one of length one goes with any length.
    """
    lone = [key for key in over if key not in left]
    b, right = b.sum(axis=tuple(list(right).index(key) for key in lone)), [r for r in right if r not in lone]
    lone = [key for key in over if key not in right]
    a, left = a.sum(axis=tuple(list(left).index(key) for key in lone)), [r for r in left if r not in lone]
    both = [key for key in left if key in right]
    summed, batch = [key for key in both if key in over], [key for key in both if key not in over]
    rows, cols = ([key for key in names if key not in both] for names in (left, right))
    first, second = align(a, left, [*batch, *rows, *summed]), align(b, right, [*batch, *summed, *cols])
    n, size = len(batch), int(np.prod(first.shape[first.ndim - len(summed) :], initial=1))
    lengths = [*first.shape[n : n + len(rows)], *second.shape[n + len(summed) :]]
    first = np.ascontiguousarray(first).reshape(*first.shape[:n], -1, size)
    second = np.ascontiguousarray(second).reshape(*second.shape[:n], size, -1)
    made = np.matmul(first, second)
    return made.reshape(*made.shape[:n], *lengths), [*batch, *rows, *cols]


def map_matrix(line: Map, size: int) -> np.ndarray:
    """The dense matrix (out indices x axis) of a linear index map."""
    matrix = np.zeros((len(line.rows), size))
    for o, row in enumerate(line.rows):
        for i, w in row:
            matrix[o, i] += w
    return matrix


def apply_map(line: Map, values: np.ndarray, place: int) -> np.ndarray:
    """The map along dimension ``place``, whose place the new axes take."""
    return apply_matrix(map_matrix(line, values.shape[place]), values, place, [s for _, s in line.out])


def apply_matrix(matrix: np.ndarray, values: np.ndarray, place: int, sizes: Sequence[int]) -> np.ndarray:
    """``matrix`` along dimension ``place``; its rows are spread over new dimensions of the given sizes."""
    out = np.moveaxis(np.tensordot(values, matrix, axes=([place], [1])), -1, place)
    return out.reshape(*out.shape[:place], *sizes, *out.shape[place + 1 :])


def apply_maps(
    maps: Sequence[Map], values: np.ndarray, axes: Axes, target: Axes, absolute: bool = False
) -> np.ndarray:
    """Maps one after the other on an (N, *axes) array, as one matrix per axis: a window and the sum over it
    are a band.  The result is (N, *target); ``absolute`` takes the weights without their signs.
    """
    parts = [([name], np.eye(size).reshape(size, size)) for name, size in axes]
    sizes = dict(axes)
    for line in maps:
        k = next(k for k, (names, _) in enumerate(parts) if line.axis in names)
        names, matrix = parts[k]  # (*sizes of names, size of the axis below)
        place = names.index(line.axis)
        weights = map_matrix(line, sizes[line.axis])
        sizes |= dict(line.out)
        matrix = apply_matrix(
            np.abs(weights) if absolute else weights, matrix, place, [n for _, n in line.out]
        )
        parts[k] = ([*names[:place], *(n for n, _ in line.out), *names[place + 1 :]], matrix)
    dims: list[str] = [""]
    for names, matrix in parts:  # the first axis below always goes to the back
        if (
            len(names) == 1
            and matrix.shape == (matrix.shape[0],) * 2
            and np.array_equal(matrix, np.eye(len(matrix)))
        ):
            values = np.moveaxis(values, 1, -1)
        else:
            values = np.tensordot(values, matrix, axes=([1], [matrix.ndim - 1]))
        dims += names
    return align(values, dims, ["", *(name for name, _ in target)])
