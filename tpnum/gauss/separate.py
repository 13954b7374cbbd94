"""Independent blocks of coordinates: f(a, b) as a short sum of products, found by cross approximation.

With pivots a_i, b_j and M_ij = f(a_i, b_j), a function that is a sum of r products is

    f(a, b) = f(a, b_j) (M^-1)_ji f(a_i, b)     (sums over i, j = 1 .. r),

so E f for independent a and b needs expectations over a and over b only.  Products (r = 1), sums (r = 2) and
short polynomials are found; what is not of the form is told by its residual at random pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tpnum.gauss.integrand import Integrand
from tpnum.gauss.lattice import Settled
from tpnum.gauss.laws import principal_factors

_RANK = 6
_SAMPLE = 48
_PAIRS = 256
_RESIDUAL = 1e-12
_BATCH = 8  # entries whose laws give the pivots

Solve = Callable[[Any, np.ndarray, np.ndarray, float], Settled]
"""Expectations of a function at means (n, d) and covariances (n, d, d), to a relative tolerance."""


def blocks(cov: np.ndarray) -> list[np.ndarray]:
    """The independent blocks of coordinates, common to a batch; those without variance join the first."""
    d = cov.shape[1]
    tied = np.any(cov != 0.0, axis=0)
    still = ~np.diagonal(tied)
    root = np.arange(d)
    for i, j in zip(*np.nonzero(tied), strict=True):
        root[root == root[i]] = root[j]
    owners = list(dict.fromkeys(root[~still]))
    made = [np.flatnonzero((root == owner) & ~still) for owner in owners]
    if made and np.any(still):
        made[0] = np.sort(np.concatenate([made[0], np.flatnonzero(still)]))
    return made


def separated(
    f_at: Integrand, mean: np.ndarray, cov: np.ndarray, first: np.ndarray, rtol: float, solve: Solve
) -> Settled | None:
    """E f, coordinates ``first`` independent of the others; None where f is no short sum of products."""
    rest = np.setdiff1d(np.arange(mean.shape[1]), first)
    parts: list[Settled] = []
    k = 0
    while k < (f_at.components or 1):
        one = _Cross(f_at, k, first, rest)
        if not one.find(mean, cov):
            return None
        parts.append(one.expectation(mean, cov, rtol, solve))
        k += 1
    value, error, size = (np.concatenate([p[i] for p in parts], axis=1) for i in range(3))
    return value, error, size, sum(p[3] for p in parts)


class _Cross:
    """The cross approximation of one component of f between two blocks of coordinates."""

    def __init__(self, f_at: Integrand, component: int, first: np.ndarray, rest: np.ndarray) -> None:
        self.f_at, self.component = f_at, component
        self.first, self.rest = first, rest
        self.cost = 0

    def values(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """F at pairs: a (len(first), points), b (len(rest), points)."""
        x = np.empty((self.first.size + self.rest.size, a.shape[1]))
        x[self.first], x[self.rest] = a, b
        self.cost += a.shape[1]
        return self.f_at.columns([row[None] for row in x])[0, self.component]

    def find(self, mean: np.ndarray, cov: np.ndarray) -> bool:
        """Choose the pivots from samples of the laws; whether few of them are enough."""
        rng = np.random.default_rng(0)
        some = np.unique(np.linspace(0, mean.shape[0] - 1, _BATCH).astype(int))
        rows = np.resize(some, _SAMPLE)
        a, b = (self.draw(mean[rows], cov[rows], side, 1, rng)[:, :, 0].T for side in (self.first, self.rest))
        i, j = np.divmod(np.arange(_SAMPLE * _SAMPLE), _SAMPLE)
        matrix = self.values(a[:, i], b[:, j]).reshape(_SAMPLE, _SAMPLE)
        if not np.all(np.isfinite(matrix)):
            return False
        left, top = matrix.copy(), float(np.max(np.abs(matrix)))
        pivots: list[tuple[int, int]] = []
        while np.max(np.abs(left)) > _RESIDUAL * top and len(pivots) < _RANK:
            p, q = np.unravel_index(int(np.argmax(np.abs(left))), left.shape)
            pivots.append((int(p), int(q)))
            left -= np.outer(left[:, q], left[p]) / left[p, q]
        if np.max(np.abs(left)) > _RESIDUAL * top:
            return False
        chosen = np.array(pivots or [(0, 0)])
        self.a, self.b = a[:, chosen[:, 0]], b[:, chosen[:, 1]]
        self.inverse = np.linalg.pinv(matrix[np.ix_(chosen[:, 0], chosen[:, 1])])
        return True

    @staticmethod
    def draw(
        mean: np.ndarray, cov: np.ndarray, side: np.ndarray, points: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Samples (n, len(side), points) of one block."""
        factor = principal_factors(cov[:, side[:, None], side])
        return mean[:, side, None] + factor @ rng.standard_normal((mean.shape[0], side.size, points))

    def expectation(self, mean: np.ndarray, cov: np.ndarray, rtol: float, solve: Solve) -> Settled:
        count, rank = mean.shape[0], self.inverse.shape[0]
        residual, size = self.residual(mean, cov)
        value = error = np.zeros(count)
        for share in (0.1, 1e-3):
            sides = []
            for side, held in ((self.first, self.b), (self.rest, self.a)):
                made = solve(self.slice(side, held), mean[:, side], cov[:, side[:, None], side], share * rtol)
                sides.append(made[:2])
                self.cost += made[3] * rank
            (left, off), (right, wrong) = sides
            value = np.einsum("nj,ji,ni->n", left, self.inverse, right)
            error = np.sum(off * np.abs(right @ self.inverse.T), axis=1)
            error += np.sum(wrong * np.abs(left @ self.inverse), axis=1) + residual + 1e-15 * size
            if np.all(error <= 0.5 * rtol * size):
                break
        return value[:, None], error[:, None], size[:, None], self.cost

    def slice(self, side: np.ndarray, held: np.ndarray) -> Callable[..., np.ndarray]:
        """F as a function of one block, the other one at its pivots: rank components."""

        def at(*u: np.ndarray) -> np.ndarray:
            own = np.stack(u)
            rows = []
            for pivot in held.T:
                fixed = np.broadcast_to(pivot[:, None], (pivot.size, own.shape[1]))
                rows.append(self.values(own, fixed) if side is self.first else self.values(fixed, own))
            return np.stack(rows)

        return at

    def residual(self, mean: np.ndarray, cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Root mean square of what the products miss, and E|f|, at random pairs of every entry."""
        rng = np.random.default_rng(1)
        count = mean.shape[0]
        a, b = (self.draw(mean, cov, side, _PAIRS, rng) for side in (self.first, self.rest))
        flat = [x.transpose(1, 0, 2).reshape(x.shape[1], -1) for x in (a, b)]
        true = self.values(*flat)
        on_a, on_b = self.slice(self.first, self.b)(*flat[0]), self.slice(self.rest, self.a)(*flat[1])
        missed = (true - np.einsum("jp,ji,ip->p", on_a, self.inverse, on_b)).reshape(count, _PAIRS)
        return np.sqrt(np.mean(missed**2, axis=1)), np.mean(np.abs(true.reshape(count, _PAIRS)), axis=1)
