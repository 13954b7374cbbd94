"""What indexing does to families that are not drawn: slices, gathers, and broadcasting along new axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.ensemble.atoms import Atom
from tpnum.ensemble.mixed import Mixed, Product, Value, View, products
from tpnum.ensemble.normals import IndependentProducts, Normal, Part
from tpnum.evaluate.labels import lift

if TYPE_CHECKING:
    from tpnum.ensemble.mixed import Factor
    from tpnum.program.lines import Axes


def some_of(value: Normal, which: slice) -> Normal:
    """Some members of a family, in a row."""
    parts = tuple(Part(channel, rows[which], weights[which]) for channel, rows, weights in value.flat())
    mean = value.means()[which]
    return Normal(mean.shape, parts, mean, value.component)


def taken_at(value: Value, at: tuple[Any, ...]) -> Value:
    """A family at an index of some of its axes."""
    if all(isinstance(k, slice) for k in at):
        return value
    if isinstance(value, np.ndarray):
        return value[at]

    def taken(array: np.ndarray) -> np.ndarray:
        return array[
            tuple(
                0 if not isinstance(k, slice) and n == 1 else k for k, n in zip(at, array.shape, strict=False)
            )
        ]

    shape = tuple(n for k, n in zip(at, value.shape, strict=True) if isinstance(k, slice))
    if isinstance(value, Mixed):
        return Mixed(shape, each(value.parts, taken, lambda normal: taken_at(normal, at)))
    parts = tuple(Part(p.channel, taken(p.rows), taken(p.weights)) for p in value.parts)
    return Normal(shape, parts, taken(value.mean), value.component)


def gathered_along(value: Normal | Mixed, at: int, rows: list[tuple[int, float]], out: Axes) -> Any:
    """A family whose axis number ``at`` becomes the axes ``out``: an index and a weight for each place."""
    index, factor = np.array([i for i, _ in rows], dtype=np.int64), np.array([w for _, w in rows])
    sizes = tuple(n for _, n in out)

    def gathered(array: np.ndarray, weighted: bool) -> np.ndarray:
        some = np.take(array, index if array.shape[at] > 1 else 0 * index, axis=at)
        if weighted:
            some = some * factor.reshape(-1, *(1,) * (array.ndim - at - 1))
        return some.reshape(*array.shape[:at], *sizes, *array.shape[at + 1 :])

    shape = (*value.shape[:at], *sizes, *value.shape[at + 1 :])
    if isinstance(value, Mixed):
        plain = [(i, 1.0) for i, _ in rows]
        return Mixed(
            shape,
            each(
                value.parts,
                lambda coefs: gathered(coefs, True),
                lambda normal: gathered_along(normal, at, plain, out),
                lambda array: gathered(array, False),
            ),
        )
    made = []
    for part in value.parts:
        channel, where = part.channel, gathered(part.rows, False)
        if isinstance(channel, IndependentProducts):
            members = where // IndependentProducts.STRIDE
            if (members == members.flat[0]).all():
                channel, where = channel.members[members.flat[0]], where % IndependentProducts.STRIDE
        made.append(Part(channel, where, gathered(part.weights, True)))
    return Normal(shape, tuple(made), gathered(value.mean, True), value.component)


def normal_at(value: Normal, some: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]) -> Normal:
    """A family of some of the entries of another's arrays, ``shape`` (.., *axes); examples are the same."""
    parts = tuple(Part(p.channel, some(p.rows), some(p.weights)) for p in value.parts)
    return Normal((value.shape[0], *shape[1:]), parts, some(value.mean), value.component)


def lifted_to(value: Value, own: Axes, axes: Axes) -> tuple[Product, ...]:
    """A family along more axes, along which it stays the same, as a sum of products."""
    if own == axes:
        return products(value)
    names = [name for name, _ in own]
    order = [names.index(name) for name, _ in axes if name in names]

    def coefs(array: np.ndarray) -> np.ndarray:
        end = 1 + len(own)
        moved = array.transpose(0, *(1 + k for k in order), *range(end, array.ndim))
        shape = iter(moved.shape[1:end])
        sizes = (next(shape) if name in names else 1 for name, _ in axes)
        return moved.reshape(moved.shape[0], *sizes, *moved.shape[end:])

    def normal(one: Normal) -> Normal:
        parts = (Part(p.channel, lift(p.rows, own, axes), lift(p.weights, own, axes)) for p in one.parts)
        shape = (one.shape[0], *(n for _, n in axes))
        return Normal(shape, tuple(parts), lift(one.mean, own, axes), one.component)

    return each(products(value), coefs, normal)


def each(
    parts: Iterable[Product],
    coefs: Callable[[np.ndarray], np.ndarray],
    normal: Callable[[Normal], Any],
    plain: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[Product, ...]:
    """Products of which coefficients and G-vars are put elsewhere, other arrays by ``plain`` or ``coefs``."""
    other = plain or coefs

    def moved(factor: Factor) -> Factor:
        if isinstance(factor, Atom):
            return _atom_at(factor, other, normal)
        return View(factor, other(np.broadcast_to(np.zeros(1), factor.shape)).shape, other)

    return tuple((coefs(c), tuple(map(moved, factors))) for c, factors in parts)


def _atom_at(atom: Atom, coefs: Callable[[np.ndarray], np.ndarray], normal: Callable[[Normal], Any]) -> Atom:
    factors: list[tuple[Any, Any]] = []
    for fn, args in atom.factors:
        moved: list[Any] = [
            normal(arg) if isinstance(arg, Normal) else each(arg, coefs, normal) for arg in args
        ]
        factors.append((fn, tuple(moved)))
    shapes = (leaf.shape for leaf in Atom((), tuple(factors)).leaves.values())
    return Atom(np.broadcast_shapes(*shapes), tuple(factors))
