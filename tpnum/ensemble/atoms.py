"""Factors that are never drawn: G-vars of tangents, and smooth functions of a few independent G-vars.

Second moments need their second moments only.  Those of functions are sums over Hermite coefficients
(`tpnum.ensemble.expansion`), E f(u) g(v) = sum_k a_k b_k rho^k for one G-var each and the like, with
one correlation for each, for several: what is left of E f^2 behind the last one is taken to be correlated
as the last ones are, to the power of how much higher its degrees are, and is far less than what is sampled
is off by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tpnum.ensemble.expansion import DEGREES, NODES, Leaves, expanded
from tpnum.ensemble.normals import Group, Members, Normal, grown
from tpnum.kernels.accumulate import multiply_entries
from tpnum.kernels.hermite_sums import hermite_sums

if TYPE_CHECKING:
    from tpnum.functions import Function

Sum: TypeAlias = "tuple[tuple[np.ndarray, tuple[Atom, ...]], ...]"
"""A sum of products of numbers (examples or 1, *axes, 1) and atoms."""

CLOSE = 1e-5
"""Coefficients of two rules that agree so well, relative to the root of E f^2, are those of the function."""

WIDER = 1.2
"""Gaussians that are so many times wider than those before need rules to be compared again."""

Factor: TypeAlias = "tuple[Function | None, tuple[Normal | Sum, ...]]"
"""A function of G-vars and of sums of atoms; None: a G-var itself."""


@dataclass(frozen=True, eq=False)
class Atom:
    """A family (examples, *axes) of products of such factors, made of one G-var of every component at most.

    All of these components are of one group.
    """

    shape: tuple[int, ...]
    factors: tuple[Factor, ...]

    @classmethod
    def of(cls, normal: Normal) -> Atom:
        """A family of G-vars."""
        return cls(normal.shape, ((None, (normal,)),))

    def times(self, other: Atom) -> Atom:
        """The product of two of one group."""
        shape = tuple(map(max, self.shape, other.shape))
        return Atom(shape, self.factors + other.factors)

    @cached_property
    def leaves(self) -> dict[str, Normal]:
        """The G-vars that it is made of, by their components."""
        made: dict[str, Normal] = {}
        for _, args in self.factors:
            for arg in args:
                if isinstance(arg, Normal):
                    made.setdefault(arg.component.key, arg)
                else:
                    for _, atoms in arg:
                        for atom in atoms:
                            made = atom.leaves | made
        return made

    @cached_property
    def group(self) -> Group:
        """What it is correlated with: whatever is of its group of components."""
        return next(iter(self.leaves.values())).component.group

    @cached_property
    def groups(self) -> frozenset[Group]:
        return frozenset((self.group,))

    @property
    def odd(self) -> bool:
        """Whether it is a G-var of a tangent."""
        return self.group.odd

    def at(self, u: Mapping[str, np.ndarray]) -> np.ndarray:
        """Its values (examples, *axes, points) at those of its G-vars."""
        made = np.ones(1)
        for fn, args in self.factors:
            values = [u[arg.component.key] if isinstance(arg, Normal) else sum_at(arg, u) for arg in args]
            made = made * (values[0] if fn is None else fn(*values))
        return made

    def drawn(self) -> np.ndarray:
        """Its points."""
        return self.at({key: normal.drawn() for key, normal in self.leaves.items()})


def sum_at(terms: Sum, u: Mapping[str, np.ndarray]) -> np.ndarray:
    """The values of a sum of products of atoms."""
    total = np.zeros(1)
    for coefs, atoms in terms:
        made = coefs
        for atom in atoms:
            made = made * atom.at(u)
        total = total + made
    return total


class GramMatrix:
    """The second moments of the atoms of one group; number 0 is the constant 1.

    One that is ``varied`` has other rules, and puts what is behind the last degrees twice as far.
    """

    def __init__(self, group: Group, varied: bool = False) -> None:
        self.group, self._varied = group, varied
        self.size = 0
        self._members = {key: Members() for key in group.components}
        self._moments = np.ones((1, 1))
        self._places: dict[int, tuple[np.ndarray, Atom]] = {}
        count = len(DEGREES.layout(len(group.components)))
        self._coefs = np.zeros((count, 0))
        self._left = np.zeros((3, 0))  # roots of E f^2, of what is left of it and of the last degrees' part
        self._deviations = np.zeros((len(group.components), 0))
        self._rules: dict[tuple[Function | None, ...], tuple[int, float]] = {}
        self.lost = 0.0
        """How far a second moment may be off, as a part of the largest that it could be."""

    def places(self, atom: Atom) -> np.ndarray:
        """Where a family is among the atoms, of a shape that broadcasts to its own."""
        if id(atom) not in self._places:
            shape, leaves = _core(atom)
            begin = 1 + self.size
            made, means = self._entered(atom, shape, leaves)
            end = begin + made.shape[0]
            self._moments = grown(self._moments, end)
            self._moments[begin:end, 0] = self._moments[0, begin:end] = means
            self._moments[begin:end, 1:end] = made
            self._moments[1:end, begin:end] = made.T
            self._places[id(atom)] = np.arange(begin, end).reshape(shape), atom
        return self._places[id(atom)][0]

    def _entered(
        self, atom: Atom, shape: tuple[int, ...], leaves: dict[str, Normal]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Second moments of a new family with all atoms, and its means."""
        begin, count = self.size, int(np.prod(shape))
        self.size = begin + count
        covs = np.zeros((len(self._members), count, self.size))
        for made, (key, members) in zip(covs, self._members.items(), strict=True):
            if key in leaves:
                members.add(leaves[key], at=begin)
                made[:] = members.covariance(leaves[key])
        if self.group.odd:
            return covs[0], np.zeros(count)
        deviations = np.sqrt(np.maximum(np.diagonal(covs[:, :, begin:], axis1=1, axis2=2), 0.0))
        self._deviations = np.concatenate([self._deviations, deviations], axis=1)
        own = dict(zip(self._members, deviations, strict=True))
        means = {key: leaf.means() for key, leaf in leaves.items()}
        coefs, second = self._expanded(atom, Leaves(shape, means, own))
        found = coefs * coefs
        left = np.maximum(second - found.sum(axis=1), 0.0)
        last = found[:, DEGREES.last(len(self._members))].sum(axis=1)
        self._coefs = np.ascontiguousarray(np.concatenate([self._coefs, coefs.T], axis=1))
        self._left = np.concatenate([self._left, np.sqrt([second, left, last])], axis=1)
        scale = deviations[:, :, None] * self._deviations[:, None, :]
        rho = np.clip(np.divide(covs, scale, out=np.zeros_like(covs), where=scale > 0.0), -1.0, 1.0)
        total, top = np.empty((count, self.size)), np.empty((count, self.size))
        hermite_sums(coefs, self._coefs, rho, DEGREES.of(len(self._members)), total, top)
        whole, rest, size = (np.multiply.outer(each[begin:], each) for each in self._left)
        alike = np.divide(top, size, out=np.zeros_like(top), where=size > 0.0)
        np.fill_diagonal(alike[:, begin:], 1.0)
        beyond = self._beyond()
        more = 0.5 * np.add.outer(beyond[begin:], beyond)
        near = np.abs(alike) ** (1.0 + more)
        # what it is if the rest is twice as far beyond
        apart = np.divide(rest, whole, out=np.zeros_like(rest), where=whole > 0.0) * near
        self.lost = max(self.lost, float(np.max(apart * (1.0 - np.abs(alike) ** more), initial=0.0)))
        if self._varied:
            near *= np.abs(alike) ** more
        return total + rest * np.copysign(near, alike), coefs[:, 0]

    def _beyond(self) -> np.ndarray:
        """How much larger than the last degrees those that are left out are, on the average, less one.

        As if they had shares of E f^2 that fall from two of them to the next two as all of the rest says.
        """
        _, left, last = self._left
        both = left * left + last * last
        falls = np.divide(last * last, both, out=np.ones_like(both), where=both > 0.0)
        return np.minimum(2.0 / DEGREES.of(len(self._members)) / np.maximum(falls, 1e-3), 1.0)

    def _expanded(self, atom: Atom, leaves: Leaves) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients, and E f^2, by the quickest rules that are good for what is as wide."""
        key = tuple(fn for fn, _ in atom.factors)
        widest = max(float(np.max(own, initial=0.0)) for own in leaves.deviations.values())
        kind, known = self._rules.get(key, (0, 0.0))
        made = expanded(atom, leaves, self.group.components, kind)
        if widest > known:
            for finer in range(kind + 1, len(NODES)):
                other = expanded(atom, leaves, self.group.components, finer)
                off = _apart(made, other)
                if off <= CLOSE:
                    break
                kind, made = finer, other
            else:
                other = expanded(atom, leaves, self.group.components, kind - 1)
                off = _apart(made, other)
            self.lost = max(self.lost, off)
            self._rules[key] = kind, WIDER * widest
            return other if self._varied else made
        if self._varied:
            beside = kind + 1 if kind + 1 < len(NODES) else kind - 1
            return expanded(atom, leaves, self.group.components, beside)
        return made

    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Second moments of members."""
        return self._moments[a[:, None], b]

    def multiply(self, made: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
        """Multiply numbers (a, b) by second moments of members."""
        multiply_entries(self._moments, a, b, made)


def _apart(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> float:
    """How far coefficients and E f^2 are apart, relative to the root of E f^2 and to it."""
    (a, first), (b, last) = one, other
    scale = np.where(last > 0.0, last, 1.0)
    coefs = np.abs(a - b).max(axis=1, initial=0.0) / np.sqrt(scale)
    return float(max(coefs.max(initial=0.0), (np.abs(first - last) / scale).max(initial=0.0)))


def _core(atom: Atom) -> tuple[tuple[int, ...], dict[str, Normal]]:
    """The shape of a family without the axes along which nothing changes, and its G-vars in that shape."""
    cores = {key: leaf.core for key, leaf in atom.leaves.items()}
    shape = np.broadcast_shapes(*(core.shape for core in cores.values()), *_coefs_shapes(atom))
    return shape, {key: Normal(shape, core.parts, core.mean, core.component) for key, core in cores.items()}


def _coefs_shapes(atom: Atom) -> list[tuple[int, ...]]:
    made = []
    for _, args in atom.factors:
        for arg in args:
            if not isinstance(arg, Normal):
                for coefs, atoms in arg:
                    made.append(coefs.shape[:-1])
                    for inner in atoms:
                        made += _coefs_shapes(inner)
    return made


class GramMatrices:
    """The second moments of one replicate, by group, ``varied`` or not."""

    def __init__(self, varied: bool = False) -> None:
        self._varied = varied
        self._grams: dict[Group, GramMatrix] = {}

    def __getitem__(self, group: Group) -> GramMatrix:
        if group not in self._grams:
            self._grams[group] = GramMatrix(group, self._varied)
        return self._grams[group]

    @property
    def lost(self) -> float:
        """How far a second moment may be off anywhere, as a part of the largest that it could be."""
        return max((gram.lost for gram in self._grams.values()), default=0.0)
