"""What samples can have missed: events that none of them fell into, carried through the steps of a replicate.

An event of probability 3 / n is missed by n samples in 5 % of all cases; so is one that cuts three points'
weight off a stratum, of stratified points.  A mean over n samples is therefore known to 3 / n times the
largest value seen at best.  Where every value seen is 0, as of a step far out, that says nothing: then three
numbers that every vector has stand for what is not seen.

*size* is how large it is where it is not 0: 1 for Gaussians and functions of what is random, taken through
sums and products.  *hidden* is how large it may be everywhere, though it is seen as 0: a hat of a vector
that is seen as 0 has a standard deviation of up to (3 / n)^(1/2) of its size, and a multiple by a scalar
that is seen as 0 what the scalar may lack.  *random* is 0 for what is sure: zeros, and functions of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.functions import Function

SURELY = -math.log(0.05)
"""n p at which n samples miss an event of probability p in 5 % of all cases."""

GAUSSIAN, ONE = np.array([[1.0], [0.0], [1.0]]), np.array([[1.0], [0.0], [0.0]])


class Unseen:
    """Size, hidden size and randomness, (3, m) for m vectors, of rows and of combinations.

    ``part`` is the probability that all samples of the ensemble may miss.
    """

    def __init__(self, part: float, heights: dict[str, int]) -> None:
        self.part = part
        self.rows = {dim: np.zeros((3, height)) for dim, height in heights.items()}
        self.named: dict[str, np.ndarray] = {}

    def become(self, dim: str, rows: np.ndarray, what: np.ndarray) -> None:
        """Rows become something else."""
        self.rows[dim][:, rows] = what

    def applied(self, dim: str, fn: Function, args: np.ndarray) -> np.ndarray:
        """Of m functions of rows args (k, m)."""
        rows = self.rows[dim][:, args]
        return rows[:, 0] if fn.name == "identity" and not fn.order else of_function(rows)

    def combine(
        self, names: list[str], at: np.ndarray, parts: np.ndarray, seen: np.ndarray, hidden: np.ndarray
    ) -> None:
        """names[at] become sums of factors (see `factors`) times ``parts`` (3, m)."""
        made = np.zeros((3, len(names)))
        np.add.at(made[0], at, seen * parts[0])
        np.add.at(made[1], at, (seen + hidden) * parts[1] + hidden * parts[0])
        np.maximum.at(made[2], at, parts[2] * (seen + hidden > 0.0))
        self.named.update(zip(names, made.T, strict=True))

    def hats(self, operands: np.ndarray, second: np.ndarray, variance: float) -> np.ndarray:
        """Of products of a matrix with operands (3, m) of which these second moments are seen."""
        hidden = np.sqrt(variance * (self.part * operands[0] ** 2 + operands[1] ** 2)) * operands[2]
        seen = second > 0.0
        return np.stack([1.0 * seen, np.where(seen, 0.0, hidden), np.maximum(operands[2], seen)])

    def store(self, dim: str, names: list[str], rows: np.ndarray) -> None:
        """Combinations become rows."""
        self.become(dim, rows, np.array([self.named[name] for name in names]).T)

    def mean(self, known: np.ndarray, largest: Any) -> np.ndarray:
        """What may be missing from the mean of something whose ``largest`` value is seen."""
        largest = np.asarray(largest, dtype=np.float64)
        size, hidden, random = known
        lost = np.where(largest > 0.0, self.part * largest, self.part * size + hidden)
        return np.where(random > 0.0, lost, 0.0)


def of_function(args: np.ndarray) -> np.ndarray:
    """Of a function of ``args`` (3, k, ..)."""
    return np.stack([np.ones(args.shape[2:]), *args[1:].max(axis=1, initial=0.0)])


def of_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of a product; one with zeros is sure."""
    size = left[0] * right[0]
    hidden = (left[0] + left[1]) * (right[0] + right[1]) - size
    return np.stack([size, hidden, np.maximum(left[2], right[2]) * (size + hidden > 0.0)])


def factors(coefs: Any, values: np.ndarray, missed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The size of coef * product of scalars (k, m), and how large it may be where it is seen as 0."""
    seen = np.abs(coefs * values.prod(axis=0))
    possible = np.abs(coefs) * np.where(values == 0.0, missed, np.abs(values)).prod(axis=0)
    return seen, np.where(seen > 0.0, 0.0, possible)


def moved(fn: Callable[..., Any], values: np.ndarray, missed: np.ndarray) -> np.ndarray:
    """How far fn of scalars (k, m) moves with what each of them may lack."""
    middle = np.asarray(fn(*values), dtype=np.float64)
    total = np.zeros(values.shape[1:])
    for k in range(len(values)):
        shifted = values.copy()
        shifted[k] += missed[k]
        total += np.abs(np.asarray(fn(*shifted), dtype=np.float64) - middle)
    return np.where(np.isfinite(total), total, 0.0)
