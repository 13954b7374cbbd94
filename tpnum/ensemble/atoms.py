"""Factors that are never drawn: G-vars of tangents, and smooth functions of one G-var of linear components.

Second moments need their second moments only.  Those of functions are sums of Hermite coefficients,
E f(u) g(v) = sum_k a_k b_k rho^k (MATH 6), by a fixed rule: what is left of E f^2 behind the last one is
taken for the next, and is far less than what is sampled is off by.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tpnum.ensemble.normals import Members, Normal, grown

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.functions import Function

NODES, DEGREES = 128, 48
"""Nodes of the rule for Hermite coefficients, and how many of these there are."""


@dataclass(eq=False)
class Atom:
    """A function of a family of G-vars; None: the G-vars themselves, of mean zero."""

    fn: Function | None
    normal: Normal

    @property
    def shape(self) -> tuple[int, ...]:
        return self.normal.shape

    @property
    def key(self) -> Hashable:
        """What it is correlated with: whatever is of its component."""
        return id(self.normal.component)

    def drawn(self) -> np.ndarray:
        """Its points."""
        points = self.normal.drawn()
        return points if self.fn is None else np.asarray(self.fn(points))


class Table:
    """Atoms that may be correlated, and their second moments; number 0 is the constant 1."""

    def __init__(self) -> None:
        self._members = Members()
        self._table = np.ones((1, 1))
        self._places: dict[int, tuple[int, Atom, tuple[int, ...]]] = {}
        self._coefs = np.zeros((0, DEGREES + 1))
        self._deviations = np.zeros(0)
        self.lost = 0.0
        """The largest part of a second moment that the coefficients lack."""

    def places(self, atom: Atom) -> np.ndarray:
        """Where a family is in the table, of a shape that broadcasts to its own."""
        if id(atom) not in self._places:
            core = atom.normal.core
            begin = 1 + self._members.size
            self._places[id(atom)] = begin, atom, core.shape
            self._members.add(core)
            made = self._members.covariance(core)
            means = np.zeros(core.size)
            if atom.fn is not None:
                made, means = self._functions(atom.fn, core, made)
            end = begin + core.size
            self._table = grown(self._table, end)
            self._table[begin:end, 0] = self._table[0, begin:end] = means
            self._table[begin:end, 1:end] = made
            self._table[1:end, begin:end] = made.T
        begin, _, shape = self._places[id(atom)]
        return np.arange(begin, begin + int(np.prod(shape))).reshape(shape)

    def _functions(self, fn: Function, core: Normal, cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """E f(u) g(v) with all of the table, by covariances, and E f(u)."""
        begin = len(self._coefs)
        deviations = np.sqrt(np.maximum(np.diagonal(cov[:, begin:]), 0.0))
        own, lost = hermite(fn, core.means(), deviations)
        self.lost = max(self.lost, lost)
        self._coefs = np.concatenate([self._coefs, own])
        self._deviations = np.concatenate([self._deviations, deviations])
        scale = np.multiply.outer(deviations, self._deviations)
        rho = np.clip(np.divide(cov, scale, out=np.zeros_like(cov), where=scale > 0.0), -1.0, 1.0)
        made = np.multiply.outer(own[:, -1], self._coefs[:, -1])
        for k in range(DEGREES - 1, -1, -1):
            made *= rho
            made += np.multiply.outer(own[:, k], self._coefs[:, k])
        return made, own[:, 0]

    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Second moments of members."""
        return self._table[a[:, None], b]


class Tables:
    """The tables of one replicate, by what is correlated."""

    def __init__(self) -> None:
        self._tables: dict[Hashable, Table] = {}

    def __getitem__(self, key: Hashable) -> Table:
        return self._tables.setdefault(key, Table())

    @property
    def lost(self) -> float:
        """The largest part of a second moment that is lacking anywhere."""
        return max((table.lost for table in self._tables.values()), default=0.0)


def hermite(fn: Function, means: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, float]:
    """Coefficients (rows, DEGREES + 1) of f(m + s z), the last for all that is left, a part at most."""
    nodes, weights, basis = _rule()
    values = np.asarray(fn(means[:, None] + deviations[:, None] * nodes))
    made = np.empty((len(means), DEGREES + 1))
    made[:, :DEGREES] = values @ basis
    second = (values * values) @ weights
    left = np.maximum(second - np.sum(made[:, :DEGREES] ** 2, axis=1), 0.0)
    made[:, DEGREES] = np.sqrt(left)
    return made, float(
        np.max(np.divide(left, second, out=np.zeros_like(left), where=second > 0.0), initial=0.0)
    )


@lru_cache(maxsize=1)
def _rule() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes, weights, and weights times orthonormal Hermite polynomials (nodes, degrees)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    basis = np.empty((NODES, DEGREES))
    basis[:, 0], basis[:, 1] = 1.0, nodes
    for k in range(1, DEGREES - 1):
        basis[:, k + 1] = (nodes * basis[:, k] - np.sqrt(k) * basis[:, k - 1]) / np.sqrt(k + 1)
    return nodes, weights, weights[:, None] * basis
