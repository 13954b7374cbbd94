"""Independent blocks of coordinates: f as a chain of small matrices, one for each block, proven or not used.

Between the blocks before a place and those after it f is a matrix (states of the former, of the latter).  If
its rank is r, pivots I of the former and J of the latter with M = f(I, J) invertible give every entry,
f(a, b) = f(a, J) M^-1 f(I, b).  With pivots at every place (those on the left grown from left to right)

    f(x_1, .., x_m) = G_1(x_1) M_1^-1 G_2(x_2) .. M_{m-1}^-1 G_m(x_m),
    G_k(x)_ij = f(I_{k-1, i}, x, J_{k, j}),

so that E f is the same product with E G_k in place of G_k: products (rank 1), sums (2), polynomials of a sum
and the like cost their number of blocks.  What is not of the form is told by states that had no part in the
choice, near and far, alone and together: one value that is missed by more than rounding, or a pivot that is
small, and the form is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tpnum.gauss.goal import Goal
from tpnum.gauss.integrand import Integrand
from tpnum.gauss.lattice import Settled
from tpnum.gauss.laws import principal_factors

_RANK = 8
_TYPICAL = 32
"""States of a block that are drawn from its laws, for the pivots and again for the test,"""
_NEAR = (0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
_FAR = (1e-3, 0.03, 0.3, 1.25, 2.5, 3.5, 5.0, 6.5, 8.0)
"""and those at so many deviations, both ways: for the pivots, and for the test alone."""
_COLUMNS = 64
_TESTS = 1 << 13
_SCALES = np.geomspace(0.01, 8.0, 16)
_INSIDE = 6
"""Of so many states of a block inside every scale any are tested together: what is alive only where all
blocks are near at once, as a ball is, agrees with a product at equal distances and differs between them."""
_MIXED = 1 << 11
_NOTHING = 1e-11
"""What is left of a matrix, relative to its largest entry, that is rounding;"""
_SMALL = 1e-7
"""a pivot that is larger than that but below this is neither rounding nor safe to divide by."""
_ENTRIES = 8  # whose laws give the states
_SIZES = 256  # points that tell E|f| of an entry

Solve = Callable[[Any, np.ndarray, np.ndarray, Goal], Settled]
"""Expectations of a function at means (n, d) and covariances (n, d, d), to a goal."""


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
    f_at: Integrand, mean: np.ndarray, cov: np.ndarray, apart: Sequence[np.ndarray], goal: Goal, solve: Solve
) -> Settled | None:
    """E f, the blocks ``apart`` of coordinates independent; None where f is not proven a short chain.

    Half of a budget may go into the proof, the rest is for the blocks.
    """
    purse = _Purse(f_at, mean.shape[0], goal.budget)
    states = [_states(mean, cov, block) for block in apart]
    chains = []
    for k in range(f_at.components or 1):
        chain = _Chain.found(f_at, k, apart, states, goal.rtol, purse)
        if chain is None:
            return None
        chains.append(chain)
    size = _sizes(f_at, mean, cov)
    left = sum(chain.slices for chain in chains)
    parts = []
    for k, chain in enumerate(chains):
        parts.append(chain.expectation(mean, cov, purse.goal(goal, left), solve, size[:, k]))
        left -= chain.slices
    value, error, size = (np.stack([p[i] for p in parts], axis=1) for i in range(3))
    return value, error, size, f_at.spent - purse.begin


class _Purse:
    """What a budget for each of ``count`` entries leaves."""

    def __init__(self, f_at: Integrand, count: int, budget: int | None) -> None:
        self.f_at, self.count, self.budget, self.begin = f_at, count, budget, f_at.spent

    def proves(self, evaluations: int) -> bool:
        """Whether so many more may be spent on a proof."""
        spent = self.f_at.spent - self.begin + evaluations
        return self.budget is None or 2 * spent <= self.budget * self.count

    def goal(self, goal: Goal, parts: int) -> Goal:
        """The goal with what each of so many parts may spend for an entry."""
        if self.budget is None:
            return goal
        spent = (self.f_at.spent - self.begin) // self.count
        return replace(goal, budget=max((self.budget - spent) // parts, 1))


@dataclass(frozen=True)
class _States:
    """States (coordinates, states) of a block for the pivots, and for the test; the first are typical.

    ``inside`` are further ones for the test, `_INSIDE` for each of `_SCALES`.
    """

    choice: np.ndarray
    test: np.ndarray
    inside: np.ndarray


def _states(mean: np.ndarray, cov: np.ndarray, block: np.ndarray) -> _States:
    variance = np.trace(cov[:, block[:, None], block], axis1=1, axis2=2)
    some = np.unique(np.linspace(0, mean.shape[0] - 1, _ENTRIES).astype(int))
    some = np.unique([*some, int(np.argmin(variance)), int(np.argmax(variance))])
    factor = principal_factors(cov[some][:, block[:, None], block])
    rng = np.random.default_rng(int(block[0]))

    def at(distances: Sequence[float]) -> np.ndarray:
        rows = np.resize(np.arange(some.size), _TYPICAL + 2 * len(distances))
        z = rng.standard_normal((block.size, rows.size))
        z[:, _TYPICAL:] /= np.sqrt(np.sum(z[:, _TYPICAL:] ** 2, axis=0))
        z[:, _TYPICAL:] *= np.concatenate([distances, distances])
        signs = np.sign(z[0, _TYPICAL:]) * np.repeat([1.0, -1.0], len(distances))
        z[:, _TYPICAL:] *= np.where(signs == 0, 1.0, signs)  # one of each pair on either side
        return mean[some][rows][:, block].T + np.einsum("nij,jn->in", factor[rows], z)

    choice, test = at(_NEAR), at(_FAR)
    distance = np.repeat(_SCALES, _INSIDE) * rng.random(_SCALES.size * _INSIDE)
    rows = rng.integers(0, some.size, distance.size)
    z = rng.standard_normal((block.size, distance.size))
    z *= distance / np.sqrt(np.sum(z**2, axis=0))
    inside = mean[some][rows][:, block].T + np.einsum("nij,jn->in", factor[rows], z)
    return _States(choice, test, inside)


def _sizes(f_at: Integrand, mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """E|f| of every entry and component from a few points."""
    z = np.random.default_rng(1).standard_normal((mean.shape[1], _SIZES))
    factor = principal_factors(cov)
    step = max(1, (1 << 15) // _SIZES)
    made = []
    for begin in range(0, mean.shape[0], step):
        part = slice(begin, begin + step)
        u = mean[part, :, None] + factor[part] @ z
        values = f_at.columns([np.ascontiguousarray(u[:, k]) for k in range(u.shape[1])])
        made.append(np.mean(np.abs(values), axis=2))
    return np.concatenate(made)


@dataclass
class _Chain:
    """The pivots of one component: ``left[k]`` (coordinates before block k, r), ``right[k]`` (after it)."""

    f_at: Integrand
    component: int
    apart: Sequence[np.ndarray]
    left: list[np.ndarray]
    right: list[np.ndarray]
    inverse: list[np.ndarray]
    missed: float = 0.0
    """The largest error of the chain at a tested point, relative to |f| there and on average;"""
    rounding: float = 0.0
    """what it may be off where f vanishes."""

    @classmethod
    def found(
        cls,
        f_at: Integrand,
        component: int,
        apart: Sequence[np.ndarray],
        states: Sequence[_States],
        rtol: float,
        purse: _Purse,
    ) -> _Chain | None:
        chain = cls(f_at, component, apart, [np.empty((0, 1))], [], [])
        rng = np.random.default_rng(0)
        with np.errstate(all="ignore"):
            if not (chain.grown(states, rng, purse) and chain.holds(states, rng, rtol, purse)):
                return None
        return chain

    @property
    def slices(self) -> int:
        """The entries of all matrices: what one evaluation of every block costs."""
        return sum(a.shape[1] * b.shape[1] for a, b in zip(self.left, self.right, strict=True))

    def tested(self, states: Sequence[_States]) -> int:
        """What the test costs, if pivots that are not chosen are as few as can be."""
        rest = len(states) - len(self.right)
        sizes = [a.shape[1] * b.shape[1] for a, b in zip(self.left, self.right, strict=False)] + rest * [1]
        known = [s.test.shape[1] + s.inside.shape[1] for s in states]
        return _TESTS + _MIXED + sum(a * b for a, b in zip(sizes, known, strict=True))

    def grown(self, states: Sequence[_States], rng: np.random.Generator, purse: _Purse) -> bool:
        """Choose pivots place by place; whether few are enough, none is small, and the test can be paid."""
        for k in range(len(self.apart) - 1):
            places = len(self.apart) - 1 - k
            chosen = self.left[k].shape[1] * states[k].choice.shape[1] * _COLUMNS
            if not purse.proves(places * chosen + self.tested(states)):
                return False
            after = [s.choice for s in states[k + 1 :]]
            together = _TYPICAL + rng.permutation(after[0].shape[1] - _TYPICAL)
            columns = np.concatenate([a[:, _drawn(rng, together, a.shape[1])] for a in after])
            own = states[k].choice
            rows = np.concatenate(
                [np.repeat(self.left[k], own.shape[1], axis=1), np.tile(own, self.left[k].shape[1])]
            )
            i, j = np.divmod(np.arange(rows.shape[1] * _COLUMNS), _COLUMNS)
            matrix = self.values(rows[:, i], columns[:, j]).reshape(-1, _COLUMNS)
            pivots = _pivots(matrix)
            if pivots is None:
                return False
            self.left.append(rows[:, pivots[0]])
            self.right.append(columns[:, pivots[1]])
            self.inverse.append(np.linalg.inv(matrix[np.ix_(*pivots)]))
        self.right.append(np.empty((0, 1)))
        return True

    def holds(self, states: Sequence[_States], rng: np.random.Generator, rtol: float, purse: _Purse) -> bool:
        """Whether the chain gives f at states that had no part in the choice, and f is not constant there."""
        if not purse.proves(self.tested(states)):
            return False
        which, tests = [], []
        together = rng.integers(0, states[0].test.shape[1], _TESTS)
        kind = np.arange(_TESTS) % 4  # typical; all at one distance, same sides and either; anything
        mixed = np.random.default_rng(1)
        scale_of = mixed.integers(0, _SCALES.size, _MIXED)
        known = [np.concatenate([s.test, s.inside], axis=1) for s in states]
        for s, every in zip(states, known, strict=True):
            count = s.test.shape[1]
            far = (count - _TYPICAL) // 2
            flipped = np.where(
                (together >= _TYPICAL) & (rng.random(_TESTS) < 0.5),
                _TYPICAL + (together - _TYPICAL + far) % (2 * far), together,
            )  # fmt: skip
            free = rng.integers(0, count, _TESTS)
            own = np.choose(kind, [rng.integers(0, _TYPICAL, _TESTS), together, flipped, free])
            own = np.concatenate([own, count + scale_of * _INSIDE + mixed.integers(0, _INSIDE, _MIXED)])
            which.append(own)
            tests.append(every[:, own])
        true = self.values(tests[0], np.concatenate(tests[1:]))
        made = np.ones((true.size, 1))
        for k, own in enumerate(which):
            matrices = self.at_states(k, known[k])
            made = np.einsum("nr,rsn->ns", made, matrices[:, :, own])
            if k < len(self.inverse):
                made = made @ self.inverse[k]
        off = np.abs(made[:, 0] - true)
        if not np.all(np.isfinite(off)) or np.all(true == true[0]):
            return False
        typical = float(np.mean(np.abs(true[:_TESTS][kind == 0])))
        if typical == 0.0:  # f is for the tails: there its own size counts, where it vanishes rounding
            self.rounding = 1e-15 * float(np.max(np.abs(true)))
            off[off <= self.rounding] = 0.0
        scale = np.abs(true) + typical
        self.missed = float(np.max(np.divide(off, scale, out=np.zeros_like(off), where=off > 0)))
        return self.missed <= min(1e-9, max(1e-12, 0.01 * rtol))

    def values(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """F at points whose coordinates are given block after block, (coordinates, points) each."""
        stacked = np.concatenate([before, after])
        x = np.empty_like(stacked)
        x[np.concatenate(self.apart)] = stacked
        return self.f_at.columns([row[None] for row in x])[0, self.component]

    def at_states(self, k: int, own: np.ndarray) -> np.ndarray:
        """G_k at states (coordinates, n): (rows, columns, n)."""
        left, right = self.left[k], self.right[k]
        r, s, n = left.shape[1], right.shape[1], own.shape[1]
        before = np.repeat(left, s * n, axis=1)
        after = np.tile(np.repeat(right, n, axis=1), r)
        return self.values(np.concatenate([before, np.tile(own, r * s)]), after).reshape(r, s, n)

    def expectation(
        self, mean: np.ndarray, cov: np.ndarray, goal: Goal, solve: Solve, size: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(value, error, E|f|), (n,) each, by the expectations of the matrices."""
        for share in (0.1, 1e-3):
            means, errors = [], []
            for k, block in enumerate(self.apart):
                shape = -1, self.left[k].shape[1], self.right[k].shape[1]
                own = replace(goal, rtol=share * goal.rtol, atol=0.0)  # what a part may be off, others scale
                made = solve(self.slice(k), mean[:, block], cov[:, block[:, None], block], own)
                means.append(made[0].reshape(shape))
                errors.append(made[1].reshape(shape))
            value, error = self.product(means, errors)
            size = np.maximum(size, np.abs(value))
            error = error + (self.missed + 1e-15) * size + self.rounding
            if np.all(error <= 0.5 * goal.allowed(size)) or goal.budget is not None:
                break  # a second share would spend a budget twice
        return value, error, size

    def product(self, means: list[np.ndarray], errors: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The chain of the means, and what errors of its matrices do to it."""
        inverse = [*self.inverse, np.eye(1)]
        after = [np.ones((means[0].shape[0], 1, 1))]
        for made, turn in zip(means[:0:-1], inverse[-2::-1], strict=True):
            after.insert(0, turn @ made @ after[0])
        before = np.ones((means[0].shape[0], 1, 1))
        error = np.zeros(means[0].shape[0])
        for k, made in enumerate(means):
            error += (np.abs(before) @ errors[k] @ np.abs(after[k]))[:, 0, 0]
            error += 1e-15 * (np.abs(before) @ np.abs(made) @ np.abs(after[k]))[:, 0, 0]
            before = before @ made @ inverse[k]
        return before[:, 0, 0], error

    def slice(self, k: int) -> Callable[..., np.ndarray]:
        """G_k as a function of the coordinates of its block: rows times columns components."""

        def at(*u: np.ndarray) -> np.ndarray:
            made = self.at_states(k, np.stack(u))
            return made.reshape(-1, made.shape[2])

        return at


def _drawn(rng: np.random.Generator, together: np.ndarray, count: int) -> np.ndarray:
    """Which states of a block go into the columns: typical ones, all blocks at one distance, and any."""
    typical = rng.integers(0, _TYPICAL, (_COLUMNS - together.size) // 2)
    free = rng.integers(0, count, _COLUMNS - together.size - typical.size)
    return np.concatenate([typical, together, free])


def _pivots(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows and columns whose cross is the matrix; None where there are too many, or they say little."""
    if not np.all(np.isfinite(matrix)):
        return None
    left, top = matrix.copy(), float(np.max(np.abs(matrix)))
    rows: list[int] = []
    columns: list[int] = []
    while len(rows) <= _RANK:
        p, q = np.unravel_index(int(np.argmax(np.abs(left))), left.shape)
        pivot = abs(left[p, q])
        if pivot <= _NOTHING * top:
            return (np.array(rows), np.array(columns)) if rows else None
        if pivot < _SMALL * top:
            return None
        rows.append(int(p))
        columns.append(int(q))
        left -= np.outer(left[:, q], left[p]) / left[p, q]
    return None
