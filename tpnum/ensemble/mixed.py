"""Vectors as sums of products of points and of factors, which are never drawn (`tpnum.ensemble.atoms`).

A tangent is a sum of products of forward variables and of G-vars of the tangent program, which are
independent of all forward ones: E[h. h.'] is a sum of the means of products of coefficients times the
covariances of those G-vars, so that these need no points of their own.  Of the functions of G-vars
of a linear component likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tpnum.ensemble.atoms import Atom, GramMatrices
from tpnum.ensemble.normals import Group, Normal, second

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from tpnum.ensemble.given import Given

Coefs: TypeAlias = np.ndarray
"""(examples or 1, *axes, points or 1), axes of length one where nothing changes."""

Product: TypeAlias = "tuple[Coefs, tuple[Factor, ...]]"


@dataclass(eq=False)
class Mixed:
    """A family (examples or 1, *axes): the sum of coefficients times atoms of its own shape."""

    shape: tuple[int, ...]
    parts: tuple[Product, ...]

    def points(self) -> np.ndarray:
        """Its points, the atoms drawn."""
        made = np.zeros((1,) * (1 + len(self.shape)))
        for coefs, atoms in self.parts:
            for atom in atoms:
                coefs = coefs * atom.drawn()
            made = made + coefs
        return np.broadcast_to(made, (*self.shape, made.shape[-1]))


@dataclass(eq=False)
class Whole:
    """A sum that is a factor of others as it is: its second moments given the points are made once."""

    value: Mixed
    number: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @cached_property
    def groups(self) -> frozenset[Group]:
        """What it may be correlated with given the points."""
        return frozenset().union(*(factor.groups for _, factors in self.value.parts for factor in factors))

    def drawn(self) -> np.ndarray:
        """Its points."""
        return self.value.points()


@dataclass(eq=False)
class View:
    """A factor along other axes: what ``taken`` makes of arrays (examples, *axes, ..)."""

    factor: Factor
    shape: tuple[int, ...]
    taken: Callable[[np.ndarray], np.ndarray]

    @cached_property
    def groups(self) -> frozenset[Group]:
        return self.factor.groups

    def drawn(self) -> np.ndarray:
        """Its points."""
        return self.taken(self.factor.drawn())


Factor: TypeAlias = "Atom | Whole | View"

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


def products(value: Value) -> tuple[Product, ...]:
    """A vector as a sum of products."""
    if isinstance(value, Mixed):
        return value.parts
    if isinstance(value, np.ndarray):
        return ((value, ()),)
    if not value.parts:
        return ((value.mean[..., None], ()),)
    if value.component.drawn:
        return ((value.drawn(), ()),)
    return ((np.ones((1,) * (len(value.shape) + 1)), (value.atom,)),)


def summed(shape: tuple[int, ...], parts: Iterable[Product]) -> Mixed | np.ndarray:
    """A sum, its coefficients of the same atoms added."""
    made: dict[tuple[int, ...], Product] = {}
    for coefs, atoms in parts:
        key = tuple(map(id, atoms))
        made[key] = (made[key][0] + coefs if key in made else coefs), atoms
    found = Mixed(shape, tuple(made.values()))
    return found if any(made) else found.points()


def multiplied(
    shape: tuple[int, ...], left: Sequence[Product], right: Sequence[Product]
) -> Mixed | np.ndarray:
    """The product of two sums; what they have in common are functions of one G-var each."""
    return summed(shape, (part for one in left for other in right for part in _times(one, other)))


def _times(left: Product, right: Product) -> list[Product]:
    """The product of two; factors of one group become one."""
    (c, first), (d, last) = left, right
    own, more = list(first), list(last)
    for b in last:
        met = [a for a in own if a.groups & b.groups]
        bound = [factor for factor in (*met, b) if not isinstance(factor, Atom)]
        if met and bound:
            one, other = (left, right) if bound[0] in first else (right, left)
            rest = tuple(factor for factor in one[1] if factor is not bound[0])
            return [
                made
                for e, factors in opened(bound[0])
                for half in _times((one[0] * e, rest), (np.ones(1), factors))
                for made in _times(half, other)
            ]
        for a in met:
            assert isinstance(a, Atom) and isinstance(b, Atom)
            own[own.index(a)] = a.times(b)
            more.remove(b)
    return [(c * d, (*own, *more))]


def opened(factor: Whole | View) -> tuple[Product, ...]:
    """What a factor is the sum of."""
    if isinstance(factor, Whole):
        return factor.value.parts
    if isinstance(factor.factor, Atom):
        return ((np.ones(1), (factor,)),)
    shape, taken = factor.shape, factor.taken
    return tuple(
        (taken(c), tuple(View(inner, shape, taken) for inner in factors))
        for c, factors in opened(factor.factor)
    )


class Operand:
    """A vector as what its second moments are made of: points, a G-var, or coefficients of atoms."""

    def __init__(self, value: Value, size: int, grams: GramMatrices, given: Given) -> None:
        self.value, self.grams, self.given = value, grams, given
        self.size = value.shape[-1] if isinstance(value, np.ndarray) else size
        self.shape = value.shape[:-1] if isinstance(value, np.ndarray) else value.shape

    @cached_property
    def whole(self) -> bool:
        """Whether some factor of it is a whole."""
        return any(not isinstance(factor, Atom) for _, factors in products(self.value) for factor in factors)

    @cached_property
    def points(self) -> np.ndarray:
        """(members, points)."""
        made = points(self.value)
        return np.ascontiguousarray(np.broadcast_to(made, (*self.shape, self.size))).reshape(-1, self.size)

    @cached_property
    def terms(self) -> dict[Hashable, tuple[np.ndarray, dict[Group, np.ndarray]]]:
        """Coefficients (terms and members, points or 1) of atoms, and where these are, group by group.

        Those with tangents of one component are together: with all others their second moments are 0.
        """
        groups: dict[Hashable, list[tuple[Coefs, list[Atom]]]] = {}
        for coefs, atoms in products(self.value):
            made = [atom for atom in atoms if isinstance(atom, Atom)]
            odd = tuple(sorted(hash(atom.group) for atom in made if atom.odd))
            groups.setdefault(odd, []).append((coefs, made))
        return {odd: self._together(parts) for odd, parts in groups.items()}

    def _together(
        self, parts: Sequence[tuple[Coefs, list[Atom]]]
    ) -> tuple[np.ndarray, dict[Group, np.ndarray]]:
        width = max(coefs.shape[-1] for coefs, _ in parts)
        made = np.empty((len(parts), *self.shape, width))
        for out, (coefs, _) in zip(made, parts, strict=True):
            out[...] = coefs
        places: dict[Group, np.ndarray] = {}
        for k, (_, atoms) in enumerate(parts):
            for atom in atoms:
                own = places.setdefault(atom.group, np.zeros((len(parts), *self.shape), dtype=np.int64))
                own[k] = self.grams[atom.group].places(atom)
        return made.reshape(-1, width), {key: own.ravel() for key, own in places.items()}


def moments(a: Operand, b: Operand) -> np.ndarray:
    """E Z Z' of every member of a family with every one of another."""
    if isinstance(a.value, np.ndarray) and isinstance(b.value, np.ndarray):
        return a.points @ b.points.T / a.size
    if isinstance(a.value, Normal) and isinstance(b.value, Normal):
        return second(a.value, b.value)
    if a.whole or b.whole:
        return a.given.moments(a.value, b.value)
    n, m = prod(a.shape), prod(b.shape)
    total = np.zeros((n, m))
    for odd in [odd for odd in a.terms if odd in b.terms]:
        (left, first), (right, last) = a.terms[odd], b.terms[odd]
        made = _mean_products(left, right)
        for key in {**first, **last}:
            a.grams[key].multiply(made, _places(first, key, len(left)), _places(last, key, len(right)))
        total += made.reshape(-1, n, made.shape[1] // m, m).sum(axis=(0, 2))
    return total


def _places(found: dict[Group, np.ndarray], key: Group, count: int) -> np.ndarray:
    return found[key] if key in found else np.zeros(count, dtype=np.int64)


def _mean_products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Means of products over points; what has one point is constant."""
    if left.shape[1] == right.shape[1]:
        return left @ right.T / left.shape[1]
    return np.multiply.outer(left.mean(axis=1), right.mean(axis=1))
