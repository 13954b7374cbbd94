"""Randomised quasi-Monte Carlo for many problems at once: shared points, an error from several scrambles.

Points come in pieces and problems in blocks, so that neither the memory nor the time of one compiled call
grows with the dimension, the accuracy or the number of problems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tpnum.gauss.estimate import half_width
from tpnum.gauss.points import in_pieces, point_sets
from tpnum.gauss.special.goal import BUDGET, Aim, Price

SETS = 16
"""Scrambled point sets, independent of each other."""

_FIRST, _LAST = 8, 30
"""log2 of the points of a set: of the first look, and of all that there are."""
_KEPT = 1 << 18  # coordinates of a set's points that are kept for the next call
_HELD = 1 << 23  # sums that are held at a time
_TRACE = 1e-3  # of a hit: less than that was none
_CALL = 1e8  # nanoseconds that one call may take

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Sums (problems, k) over the points (axes, points) for the problems of these numbers."""

Size = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""What errors of values (rows, k) of the problems of these numbers are relative to, (rows, 1 or k)."""


@dataclass(frozen=True)
class Problems:
    """``count`` times ``values`` integrals over ``axes`` standard normals, ``price`` nanoseconds a point.

    ``top`` (count, 1) or a number: the integrands are between 0 and it.  ``steps``: they may be next to
    nothing, or to the top, but for a region that no point has hit.
    """

    count: int
    axes: int
    values: int
    price: float
    top: np.ndarray | float
    steps: bool = False


def adaptive(problems: Problems, run: Run, goal: Aim, size: Size) -> tuple[np.ndarray, np.ndarray, Price]:
    """(values (count, k), errors (count, k), price): points are doubled until the goal is met.

    An error is the half-width of a 95 % interval, and at least what the points may have missed: where all
    values are zero, P(hit) is below 3/N in 95 % of all cases.
    """
    step = max(1, _HELD // (SETS * problems.values))
    made = [
        _block(problems, np.arange(begin, min(begin + step, problems.count)), run, goal, size)
        for begin in range(0, problems.count, step)
    ]
    if not made:
        return *np.empty((2, 0, problems.values)), Price(0)
    values, errors, prices = zip(*made, strict=True)
    price = Price(sum(p.cost for p in prices), max(p.points for p in prices), min(p.power for p in prices))
    return np.concatenate(values), np.concatenate(errors), price


def _block(
    problems: Problems, rows: np.ndarray, run: Run, goal: Aim, size: Size
) -> tuple[np.ndarray, np.ndarray, Price]:
    """`adaptive` for as many problems as are held at a time."""
    last = min(_LAST, max(1, (goal.budget or BUDGET) // SETS).bit_length() - 1)
    first = min(_FIRST, last)
    top = np.broadcast_to(problems.top, (problems.count, 1))[rows]
    todo = np.arange(rows.size)
    total = np.zeros((rows.size, SETS, problems.values))
    value, error, wide = np.zeros((3, rows.size, problems.values))
    cost, points, power = 0, 0, 0.5
    for log2 in range(first, last + 1):
        new = 1 << (first if log2 == first else log2 - 1)
        for scramble in range(SETS):
            for z in _pieces(problems, log2, new, scramble):
                step = max(1, int(_CALL / (problems.price * z.shape[1])))
                for begin in range(0, todo.size, step):
                    part = todo[begin : begin + step]
                    total[part, scramble] += run(rows[part], z)
        cost += todo.size * SETS * new
        points = SETS << log2
        each = total[todo] / (1 << log2)
        middle, before = each.mean(axis=1), wide[todo]
        # a spread may be small by luck: errors do not fall faster than 1/N
        wide[todo] = np.maximum(half_width(each, axis=1), 0.5 * before)
        trace = _TRACE * top[todo, :, None] / points if problems.steps else 0.0
        unseen = np.all(each <= trace, axis=1)
        if problems.steps:
            unseen |= np.all(top[todo, :, None] - each <= trace, axis=1)
        value[todo] = middle
        error[todo] = wide[todo] + 1e-15 * np.abs(middle) + np.where(unseen, 3.0 * top[todo] / points, 0.0)
        worst = float(np.max(wide[todo], initial=0.0))
        if log2 > first and worst > 0.0:
            power = float(np.clip(np.log2(np.max(before) / worst), 0.5, 1.0))
        todo = todo[np.any(error[todo] > goal.allowed(size(value[todo], rows[todo])), axis=1)]
        if not todo.size:
            break
    return value, error, Price(cost, points, power)


def _pieces(problems: Problems, log2: int, new: int, scramble: int) -> Iterator[np.ndarray]:
    """The ``new`` last points of a set, (axes, points) at a time."""
    longest = max(64, int(_CALL / problems.price))
    size = min(new, 1 << (min(longest, max(64, _KEPT // problems.axes)).bit_length() - 1))
    if problems.axes * new > _KEPT:
        yield from in_pieces(problems.axes, log2, new, scramble, size)
        return
    z = point_sets(problems.axes, log2, new, range(scramble, scramble + 1))[:, 0]
    for begin in range(0, new, size):
        yield np.array(z[:, begin : begin + size])  # writable, as the others: one compiled type


def largest(value: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """The largest entry of each problem."""
    return np.max(np.abs(value), axis=1, keepdims=True, initial=0.0)
