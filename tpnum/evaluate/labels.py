"""Arrays whose dimensions have names: aligning them, and linear maps along one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from tpnum.program.lines import Axes, Map

F = TypeVar("F")


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


def held(array: np.ndarray) -> int:
    """Bytes of an array without what it repeats."""
    lengths = zip(array.shape, array.strides, strict=True)
    return array.itemsize * int(np.prod([n for n, step in lengths if step], initial=1))


def polynomial(
    terms: Iterable[tuple[float, Sequence[F]]], read: Callable[[F], np.ndarray], ndim: int
) -> np.ndarray:
    """sum_k c_k prod_f read(f) over terms (c_k, factors), an array of ``ndim`` dimensions."""
    total = np.zeros((1,) * ndim)
    for coef, factors in terms:
        term = np.asarray(coef)
        for factor in factors:
            term = term * read(factor)
        total = total + term
    return total


def contracted(
    a: np.ndarray,
    left: Sequence[Hashable],
    b: np.ndarray,
    right: Sequence[Hashable],
    over: Sequence[Hashable],
    target: Sequence[Hashable],
) -> np.ndarray:
    """The sum over the dimensions ``over`` of a b, its dimensions in the order of ``target``.

    Dimensions that both have otherwise are batches; one of length one goes with any length.  The products
    of matrices are written where they belong: a transposed copy takes as long as the product.
    """
    (a, left), (b, right) = _summed(a, left, over, right), _summed(b, right, over, left)
    both = [key for key in left if key in right]
    summed, batch = [key for key in right if key in both and key in over], [k for k in both if k not in over]
    rows, cols = ([key for key in names if key not in both] for names in (left, right))
    lengths = dict(zip(left, a.shape, strict=True))
    for key, n in zip(right, b.shape, strict=True):
        lengths[key] = max(n, lengths.get(key, 1))
    out = np.empty([lengths.get(key, 1) for key in target])
    x, y = _stacked(a, left, batch, rows, summed), _stacked(b, right, batch, summed, cols)
    z = [batch, rows, cols]
    if right[len(right) - len(summed) :] == summed:  # b has them last: its rows are matrices as they are
        x, y = _stacked(b, right, batch, cols, summed), _stacked(a, left, batch, summed, rows)
        z = [batch, cols, rows]
    order = [list(target).index(key) for part in z for key in part]
    own = out.transpose([*order, *(k for k in range(out.ndim) if k not in order)])
    shape = [*own.shape[: len(batch)], x.shape[-2], y.shape[-1]]
    into = own.reshape(shape)
    np.matmul(x, y, out=into)
    if not np.may_share_memory(into, out):
        own[...] = into.reshape(own.shape)
    return out


def _summed(
    values: np.ndarray, own: Sequence[Hashable], over: Sequence[Hashable], other: Sequence[Hashable]
) -> tuple[np.ndarray, list[Hashable]]:
    """An array summed over those of the dimensions ``over`` that the other one lacks."""
    lone = [key for key in over if key in own and key not in other]
    made = values.sum(axis=tuple(list(own).index(key) for key in lone)) if lone else values
    return made, [key for key in own if key not in lone]


def _stacked(values: np.ndarray, own: Sequence[Hashable], *parts: Sequence[Hashable]) -> np.ndarray:
    """An array as matrices in batches: of the three parts of its dimensions the last two are one each."""
    batch, rows, cols = parts
    moved = align(values, own, [*batch, *rows, *cols])
    n, m = len(batch), len(batch) + len(rows)
    shape = moved.shape
    return moved.reshape(*shape[:n], int(np.prod(shape[n:m])), int(np.prod(shape[m:])))


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
