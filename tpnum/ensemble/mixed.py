"""Vectors that are linear in Gaussians which are never drawn: tangents, with coefficients on points.

A tangent is a sum of products of forward variables, which are held as points, and of G-vars of the tangent
program, which are independent of all forward ones: E[h. h.'] is a sum of the means of products of
coefficients times the covariances of those G-vars (MATH 5), so that these need no points of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from tpnum.ensemble.normals import TERMS, Members, Normal, grown, second

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


class Atoms:
    """The G-vars that vectors are linear in, and all of their covariances."""

    def __init__(self) -> None:
        self._members = Members()
        self._table = np.zeros((0, 0))
        self._places: dict[int, tuple[int, Normal]] = {}

    def places(self, normal: Normal) -> np.ndarray:
        """Where the members of a family are in the table."""
        if id(normal) not in self._places:
            begin = self._members.size
            self._places[id(normal)] = begin, normal
            self._members.add(normal)
            self._table = grown(self._table, self._members.size)
            made = self._members.covariance(normal)
            self._table[begin : begin + normal.size, : self._members.size] = made
            self._table[: self._members.size, begin : begin + normal.size] = made.T
        begin, _ = self._places[id(normal)]
        return np.arange(begin, begin + normal.size)

    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Covariances of members."""
        return self._table[a[:, None], b]


class Operand:
    """A vector as what its second moments are made of: points, a G-var, or coefficients of G-vars."""

    def __init__(self, value: Value, size: int, atoms: Atoms) -> None:
        self.value, self.atoms = value, atoms
        self.size = value.shape[-1] if isinstance(value, np.ndarray) else size
        self.shape = value.shape[:-1] if isinstance(value, np.ndarray) else value.shape

    @cached_property
    def points(self) -> np.ndarray:
        """(members, points)."""
        return np.ascontiguousarray(points(self.value)).reshape(-1, self.size)

    @cached_property
    def terms(self) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (terms and members, points) of G-vars, and where these are."""
        assert not isinstance(self.value, np.ndarray)
        parts = mixed(self.value).parts
        made = np.empty((len(parts), *self.shape, self.size))
        for out, (coefs, _) in zip(made, parts, strict=True):
            out[...] = coefs
        places = [np.broadcast_to(self._places(n), self.shape).ravel() for _, n in parts]
        return made.reshape(-1, self.size), np.concatenate([*places, np.zeros(0, dtype=np.int64)])

    def _places(self, normal: Normal) -> np.ndarray:
        core = normal.core
        normal.kept = normal.kept or core
        return self.atoms.places(normal.kept).reshape(normal.kept.shape)


def moments(a: Operand, b: Operand) -> np.ndarray:
    """E Z Z' of every member of a family with every one of another."""
    if isinstance(a.value, np.ndarray) or isinstance(b.value, np.ndarray):
        return a.points @ b.points.T / a.size
    if isinstance(a.value, Normal) and isinstance(b.value, Normal):
        return second(a.value, b.value)
    (left, first), (right, last) = a.terms, b.terms
    made = left @ right.T
    made *= a.atoms.between(first, last)
    n, m = (int(np.prod(one.shape)) for one in (a, b))
    return made.reshape(-1, n, made.shape[1] // m, m).sum(axis=(0, 2)) / a.size
