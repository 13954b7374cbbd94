"""Lines along axes that are linear in a vector which is not drawn: the tangents of `Along` and `Attend`.

Such a line is a sum over the indices of its axes of weights, which are known on the points, times the
vector's entry there: of the largest entry they are one at that and zero elsewhere, of normalisation the rows
of its Jacobian, of attention its shares or their derivatives by the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product as indices
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.ensemble.indexing import each, normal_at
from tpnum.ensemble.mixed import Product, points
from tpnum.program.along import ALONG, normalised
from tpnum.program.arrays import aligned, softmax, union
from tpnum.program.lines import Along

if TYPE_CHECKING:
    from tpnum.ensemble.walk import Walk
    from tpnum.program.lines import Attend, Axes

MOST = 1 << 11
"""Entries times indices of one example beyond which a vector is rather drawn."""

Index = tuple[Any, ...]
"""Of an array along all axes: a slice of one place for those of the line, all of the others."""


@dataclass(frozen=True)
class Action:
    """Weights along ``axes`` of the vector ``operand`` by index of the dimensions ``over``.

    ``keeps`` says whether the line has these axes itself.
    """

    operand: str
    axes: Axes
    over: tuple[int, ...]
    keeps: bool
    weights: Callable[[Index], np.ndarray]


def action_of(walk: Walk, line: Along | Attend) -> Action | None:
    """What a line does to the one of its vectors that it is linear in; None if all are to be drawn."""
    if isinstance(line, Along):
        operand = line.args[1] if ALONG[line.kind].arity == 2 else ""
        others, keeps = [line.args[0]], ALONG[line.kind].keeps
    else:
        operand = line.along or line.vector
        names = (line.logits, line.vector, line.weights)
        others, keeps = [name for name in names if name and name != operand], False
    if not operand or not walk.undrawn(walk.vector(operand)):
        return None
    axes = union([walk.vars[name] for name in (operand, *others)])
    over = tuple(1 + k for k, (axis, _) in enumerate(axes) if axis in line.over)
    sizes = [n for _, n in axes]
    along = int(np.prod([sizes[k - 1] for k in over]))
    if int(np.prod(sizes)) * (along if keeps else 1) > MOST:
        return None
    for name in others:
        if name in walk.known:
            walk.values[name] = points(walk.known[name])
    at = {name: aligned(walk.values[name], walk.vars[name], axes) for name in others}
    if isinstance(line, Along):
        x = at[line.args[0]]
        rule = _jacobian if line.kind.startswith("normalise") else _largest
        return Action(operand, axes, over, keeps, rule(x, over, line))
    share = softmax(at[line.logits], over, *([at[line.weights]] if line.weights else []))
    if line.along:
        vector = at[line.vector]
        share = share * (vector - (share * vector).sum(axis=over, keepdims=True))
    return Action(operand, axes, over, keeps, share.__getitem__)


def _largest(x: np.ndarray, over: tuple[int, ...], line: Along) -> Callable[[Index], np.ndarray]:
    made = ALONG["max_back"].values([x, np.ones_like(x)], over, line.eps)
    if line.kind == "max_slope":
        return made.__getitem__

    def only(index: Index) -> np.ndarray:
        out = np.zeros_like(made)
        out[index] = made[index]
        return out

    return only


def _jacobian(x: np.ndarray, over: tuple[int, ...], line: Along) -> Callable[[Index], np.ndarray]:
    made, root = normalised(x, over, line.eps)
    share = 1.0 / np.prod([x.shape[k] for k in over])

    def row(index: Index) -> np.ndarray:
        out = -share * (1.0 + made * made[index])
        out[index] += 1.0
        return np.asarray(out / root)

    return row


def acted_on(parts: Sequence[Product], action: Action) -> tuple[Product, ...]:
    """The sum over indices, for a vector lifted to the axes of the action."""
    made: list[Product] = []
    sizes = [action.axes[k - 1][1] for k in action.over]
    whole = (0, *(n for _, n in action.axes))
    for places in indices(*map(range, sizes)):
        index: list[Any] = [slice(None)] * (1 + len(action.axes))
        for k, place in zip(action.over, places, strict=True):
            index[k] = slice(place, place + 1)
        weights = action.weights((*index, slice(None)))

        def some(array: np.ndarray, at: Sequence[Any] = index) -> np.ndarray:
            return array[tuple(slice(None) if n == 1 else i for i, n in zip(at, array.shape, strict=False))]

        for coefs, atoms in each(parts, some, partial(normal_at, some=some, shape=whole)):
            made.append((coefs * weights, atoms))
    if action.keeps:
        return tuple(made)
    shape = tuple(n for k, (_, n) in enumerate(action.axes, 1) if k not in action.over)

    def without(array: np.ndarray) -> np.ndarray:
        return array.squeeze(axis=action.over)

    return each(made, without, partial(normal_at, some=without, shape=(0, *shape)))
