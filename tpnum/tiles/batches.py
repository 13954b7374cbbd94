"""Batches of examples as one input each: what normalises over a batch makes its examples one draw.

A net of layers becomes its program over the axis of a batch, an array (batches, size, ..) of an array of
examples, and a kernel of batches (batches, batches, size, .., size, ..) that of the examples.  A tile has
whole batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpnum import nn
from tpnum.errors import InputError
from tpnum.nn.base import Layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from tpnum.program import Program
    from tpnum.tiles.extras import Inputs


def program_of(net: Any, first: Mapping[str, Any], size: int) -> Program:
    """The program of a net of layers over batches."""
    return program_at(net, {name: x.shape[1:] for name, x in first.items()}, size)


def program_at(net: Any, shapes: Mapping[str, tuple[int, ...]], size: int) -> Program:
    """The same at the shapes of an example's arrays."""
    if not isinstance(net, Layer):
        raise InputError(
            "batch_size: it is for nets of layers; a Program has the batch as an axis of its data"
        )
    if set(shapes) - {"", "mask"}:
        raise InputError(
            "batch_size: graphs of a batch have no place yet; leave pattern1 out, or the batches"
        )
    return nn.program(net, shapes[""], masked="mask" in shapes, batch_size=size)


def split(given: Inputs, size: int, argument: str) -> Inputs:
    """Arrays of examples as arrays of batches."""
    return {
        name: array.reshape(count_of(len(array), size, argument), size, *array.shape[1:])
        for name, array in given.items()
    }


def count_of(count: int, size: int, argument: str) -> int:
    """The batches of so many examples."""
    if count % size:
        raise InputError(
            f"batch_size: {size} does not divide the {count} examples of {argument}; a batch has "
            "consecutive examples, and none is left over"
        )
    return count // size


def rows_of(tile: int | None, size: int) -> int | None:
    """The batches of a tile of so many examples."""
    if tile is not None and tile % size:
        raise InputError(f"tile: {tile} rows would cut batches of {size}; give a multiple of batch_size")
    return None if tile is None else tile // size


def of_examples(shape: tuple[int, ...], axes: tuple[tuple[int, ...], ...], diag: bool) -> tuple[int, ...]:
    """The shape of a matrix of examples, of that of batches and the axes of their outputs."""
    if diag:
        return (shape[0] * axes[0][0], *axes[0][1:])
    (b, *rows), (c, *cols) = axes
    return (shape[0] * b, shape[1] * c, *rows, *cols)


def by_batches(array: np.ndarray, axes: tuple[tuple[int, ...], ...], diag: bool) -> np.ndarray:
    """A matrix of examples seen as one of batches: a view, or an error where there is none."""
    if diag:
        return _view(array, (-1, *axes[0]))
    (b, *rows), (c, *cols) = axes
    n1, n2 = array.shape[:2]
    made = _view(array, (n1 // b, b, n2 // c, c, *rows, *cols))
    k = len(rows)
    left, right = range(4, 4 + k), range(4 + k, made.ndim)
    return made.transpose(0, 2, 1, *left, 3, *right)


def _view(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    made = array.reshape(shape)
    if made.base is None or not _shares(made, array):
        raise InputError("out: with batch_size it must be a contiguous array; give np.empty(shape)")
    return made


def _shares(made: np.ndarray, array: np.ndarray) -> bool:
    return bool(made.__array_interface__["data"][0] == array.__array_interface__["data"][0])
