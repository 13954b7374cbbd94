"""Vectors that are linear in Gaussians which are never drawn: tangents, with coefficients on points.

A tangent is a sum of products of forward variables, which are held as points, and of G-vars of the tangent
program, which are independent of all forward ones: E[h. h.'] is a sum of the means of products of
coefficients times the covariances of those G-vars (MATH 5), so that these need no points of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from tpnum.ensemble.normals import TERMS, Normal, second

Coefs: TypeAlias = np.ndarray
"""(examples or 1, *axes, points or 1)."""


@dataclass(eq=False)
class Mixed:
    """A family (examples or 1, *axes): the sum of coefficients times G-vars of its own shape."""

    shape: tuple[int, ...]
    parts: tuple[tuple[Coefs, Normal], ...]

    def points(self) -> np.ndarray:
        """Its points, the G-vars drawn."""
        made = sum((coefs * normal.drawn() for coefs, normal in self.parts), np.zeros((1,)))
        return np.broadcast_to(made, (*self.shape, made.shape[-1]))


Value: TypeAlias = "np.ndarray | Normal | Mixed"
"""A vector: its points, or what is known instead."""


def points(value: Value) -> np.ndarray:
    """The points of a vector."""
    match value:
        case Normal():
            return value.drawn()
        case Mixed():
            return value.points()
    return value


def mixed(value: Normal | Mixed) -> Mixed:
    """A G-var as a sum of one."""
    if isinstance(value, Mixed):
        return value
    return Mixed(value.shape, ((np.ones((1,) * (len(value.shape) + 1)), value),))


def summed(shape: tuple[int, ...], parts: list[tuple[Coefs, Normal]]) -> Mixed | np.ndarray:
    """A sum, its coefficients of one G-var added; points where it has too many."""
    made: dict[int, tuple[Coefs, Normal]] = {}
    for coefs, normal in parts:
        before = made.get(id(normal))
        made[id(normal)] = (coefs if before is None else before[0] + coefs, normal)
    found = Mixed(shape, tuple(made.values()))
    return found if len(made) <= 4 * TERMS else found.points()


def moments(a: Value, b: Value, size: int) -> np.ndarray:
    """E Z Z' of every member of a family with every one of another, over ``size`` points."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return _mean(points(a), points(b), size)
    if isinstance(a, Normal) and isinstance(b, Normal):
        return second(a, b)
    first, last = mixed(a), mixed(b)
    made = np.zeros((int(np.prod(first.shape)), int(np.prod(last.shape))))
    for c, normal in first.parts:
        left = np.broadcast_to(c, (*first.shape, size))
        for d, other in last.parts:
            if c.shape[-1] == d.shape[-1] == 1:
                left, right = (np.broadcast_to(x, (*v.shape, 1)) for x, v in ((c, first), (d, last)))
                made += _mean(left, right, 1) * second(normal, other)
            else:
                made += _mean(
                    np.broadcast_to(c, (*first.shape, size)), np.broadcast_to(d, (*last.shape, size)), size
                ) * second(normal, other)
    return made


def _mean(a: np.ndarray, b: np.ndarray, size: int) -> np.ndarray:
    left, right = (
        np.ascontiguousarray(np.broadcast_to(x, (*x.shape[:-1], size))).reshape(-1, size) for x in (a, b)
    )
    return left @ right.T / size
