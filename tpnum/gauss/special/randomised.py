"""Randomised quasi-Monte Carlo for many problems at once: shared points, an error from several scrambles.

Points come in pieces and problems in blocks, so that neither the memory nor the time of one compiled call
grows with the dimension, the accuracy or the number of problems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tpnum.gauss.estimate import student
from tpnum.gauss.points import in_pieces, point_sets
from tpnum.gauss.special.goal import BUDGET, Goal, Price

SETS = 16
"""Scrambled point sets, independent of each other."""

_FIRST, _LAST = 8, 30
"""log2 of the points of a set: of the first look, and of all that there are."""
_KEPT = 1 << 18  # coordinates of a set's points that are kept for the next call
_CALL = 1e8  # nanoseconds that one call may take

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Sums (problems, k) over the points (axes, points) for the problems of these numbers."""

Size = Callable[[np.ndarray], np.ndarray]
"""What errors of values (problems, k) are relative to, (problems, 1) or (problems, k)."""


@dataclass(frozen=True)
class Problems:
    """``count`` integrals over ``axes`` standard normals; a point of one of them costs ``price`` nanoseconds.

    ``top`` (count, 1) or a number: the integrands are between 0 and it.  ``steps``: they may be constant but
    for a region that no point has hit, at the top as well as at zero.
    """

    count: int
    axes: int
    price: float
    top: np.ndarray | float
    steps: bool = False


def adaptive(problems: Problems, run: Run, goal: Goal, size: Size) -> tuple[np.ndarray, np.ndarray, Price]:
    """(values (count, k), errors (count, k), price): points are doubled until the goal is met.

    An error is the half-width of a 95 % interval, and at least what the points may have missed: where all
    values are zero, P(hit) is below 3/N in 95 % of all cases.
    """
    last = min(_LAST, max(1, (goal.budget or BUDGET) // SETS).bit_length() - 1)
    first = min(_FIRST, last)
    top = np.broadcast_to(problems.top, (problems.count, 1))
    todo = np.arange(problems.count)
    total = np.zeros((problems.count, SETS, 0))
    value = error = total[:, 0]
    cost, points, power = 0, 0, 0.5
    for log2 in range(first, last + 1):
        new = 1 << (first if log2 == first else log2 - 1)
        for scramble in range(SETS):
            for z in _pieces(problems, log2, new, scramble):
                step = max(1, int(_CALL / (problems.price * z.shape[1])))
                for begin in range(0, todo.size, step):
                    part = todo[begin : begin + step]
                    made = run(part, z)
                    if not total.shape[2]:
                        total = np.zeros((problems.count, SETS, made.shape[1]))
                        value, error = np.zeros((2, problems.count, made.shape[1]))
                    total[part, scramble] += made
        cost += todo.size * SETS * new
        points = SETS << log2
        each = total[todo] / (1 << log2)
        middle, before = each.mean(axis=1), np.max(error[todo], initial=0.0)
        spread = student(SETS - 1) * each.std(axis=1, ddof=1) / np.sqrt(SETS)
        unseen = np.all(each == 0.0, axis=1)
        if problems.steps:
            unseen |= np.all(each == top[todo, :, None], axis=1)
        value[todo] = middle
        error[todo] = spread + 1e-15 * np.abs(middle) + np.where(unseen, 3.0 * top[todo] / points, 0.0)
        if log2 > first and before > 0.0:
            power = float(np.clip(np.log2(before / max(np.max(error[todo]), 1e-300)), 0.5, 1.0))
        todo = todo[np.any(error[todo] > goal.enough(size(value)[todo]), axis=1)]
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


def largest(value: np.ndarray) -> np.ndarray:
    """The largest entry of each problem."""
    return np.max(np.abs(value), axis=1, keepdims=True, initial=0.0)
