"""The ways to an expectation, and which of them a function and a law need.

| rank of the covariance | way |
|---|---|
| any, f a named function of one variable | closed form |
| any, blocks of independent coordinates | a chain of small matrices, each block by itself (`separate`) |
| up to 3, f smooth | trapezoidal rule (`lattice`) |
| up to 2 (3), f with kinks, jumps, oscillation | nested adaptive panels (`nested`) |
| 4 to 12, f smooth | sparse Gauss-Hermite grids (`grids`) |
| above | scrambled Sobol points (`sampling`), or Monte Carlo with control variates (`controls`) |

Panels cost the power of the dimension: in three they are for functions that break where coordinates do;
others get Sobol points, and panels where a budget has room for them.  Of two answers the better one is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from tpnum.errors import LimitError
from tpnum.functions import Function
from tpnum.gauss.controls import control_variates
from tpnum.gauss.existence import beyond, check_growth, constant, rare
from tpnum.gauss.goal import Goal
from tpnum.gauss.grids import grown
from tpnum.gauss.integrand import Integrand, NotFinite
from tpnum.gauss.lattice import Settled, trapezoidal
from tpnum.gauss.laws import principal_factors, triangular_factors
from tpnum.gauss.nested import cheapest, nested
from tpnum.gauss.sampling import sobol
from tpnum.gauss.scout import Scout
from tpnum.gauss.separate import blocks, separated

METHODS = ("auto", "closed", "quadrature", "qmc", "mc")
_LARGEST = 3
"""The largest rank of quadrature."""
_PANELS = {1: 1 << 22, 2: 1 << 23, 3: 1 << 22}
"""Evaluations of f by nested panels for an entry where no budget is given, by rank."""
_LOOSE = 1e-5
"""A tolerance that Sobol points may reach for kinks in three dimensions, at a smaller price than panels."""
_ALIGNED = 0.1
"""What a point of a plane counts for that stands in line with others: a strip that is missed misses many."""
_WORDS = 100  # letters quoted of a function with many parameters
_LIKELY = 0.9
"""Of the tolerance, what a function with jumps may hide in cells without a point."""
_SAME = 1e-12
_GRID = 1 << 18
"""Twice the evaluations of f on sparse grids for an entry, where no budget is given."""
_FEWEST = 64  # Sobol points
_REACHABLE = 1e11
_TRIAL = 16
"""A part of the budget that tells how fast Sobol points converge."""


class Roads:
    """One call: the choice of methods, which were used, and what would have been needed."""

    def __init__(self, method: str, goal: Goal) -> None:
        self.method, self.goal = method, goal
        self.used: dict[str, None] = {}
        self.name: Callable[[int], str] = lambda i: ""
        self.needed = 0.0
        self.inside = False
        self.cells = False
        """Whether every cell of a line's probability had a point where f is constant in pieces."""

    def solve(self, f_at: Integrand, mean: np.ndarray, cov: np.ndarray, rtol: float) -> Settled:
        """E f at means (n, d) and covariances (n, d, d) of one rank and one pattern of zeros."""
        known = self.closed(f_at.function, mean, cov)
        if known is not None:
            return known
        if not np.any(cov):
            return self.constant(f_at, mean)
        principal = principal_factors(cov, self.name)
        principal = np.ascontiguousarray(principal[:, :, : np.count_nonzero(principal.any(axis=(0, 1)))])
        rank = principal.shape[2]
        factor = triangular_factors(cov) if rank <= _LARGEST else principal
        rank = factor.shape[2]
        goal = replace(self.goal, rtol=rtol)
        far = check_growth(f_at, mean, factor, self.name)
        if self.method not in ("auto", "quadrature"):
            return self.sampled(f_at, mean, principal, goal)
        apart = blocks(cov) if rank >= _LARGEST else []
        begin = f_at.spent
        made = separated(f_at, mean, cov, apart, goal, self.part) if len(apart) > 1 else None
        only = rank > _LARGEST and self.method == "quadrature"
        if made is not None and (only or not np.any(goal.missed(*made[1:3]))):
            return made
        if only:
            raise LimitError(f"quadrature reaches dimension {_LARGEST}, not {rank}: use method='qmc'")
        goal = goal.less((f_at.spent - begin) // mean.shape[0])
        if rank <= _LARGEST:
            new = self.quadrature(f_at, mean, factor, principal, goal, far)
        else:
            new = self.wide(f_at, mean, principal, goal)
        if made is None:
            return new
        return _merged(made, new, np.arange(mean.shape[0]), new[1] < made[1])

    def part(self, f: Any, mean: np.ndarray, cov: np.ndarray, goal: Goal) -> Settled:
        """The same for a part of f, whose narrow features were looked for in the whole."""
        outer = self.inside, self.goal
        self.inside, self.goal = True, goal
        try:
            return self.solve(Integrand(f, mean.shape[1]), mean, cov, goal.rtol)
        finally:
            self.inside, self.goal = outer

    def note(self, name: str) -> None:
        self.used[name] = None

    def closed(self, f: Function | None, mean: np.ndarray, cov: np.ndarray) -> Settled | None:
        """Known means of named functions of one variable."""
        if self.method not in ("auto", "closed"):
            return None
        made = None if f is None or mean.shape[1] > 1 else _known(f, mean[:, 0], cov[:, 0, 0])
        if made is None:
            if self.method == "closed":
                what = "this function" if f is None else _short(f)
                raise LimitError(
                    f"no closed form is known for E {what} in dimension {mean.shape[1]}: use method='auto'"
                )
            return None
        self.note("closed")
        return made, 4e-15 * np.abs(made), np.abs(made), 0

    def constant(self, f_at: Integrand, mean: np.ndarray) -> Settled:
        """Laws without variance: the value of f."""
        value = f_at.columns([np.ascontiguousarray(mean[:, k, None]) for k in range(mean.shape[1])])[:, :, 0]
        lost = ~np.all(np.isfinite(value), axis=1)
        if np.any(lost):
            i = int(np.argmax(lost))
            raise LimitError(f_at.lost(mean[i], self.name(i)))
        self.note("quadrature" if self.method == "auto" else self.method)
        return value.copy(), 4e-16 * np.abs(value), np.abs(value), mean.shape[0]

    def sampled(self, f_at: Integrand, mean: np.ndarray, factor: np.ndarray, goal: Goal) -> Settled:
        """Sobol points, or Monte Carlo where it was asked for."""
        self.note("mc" if self.method == "mc" else "qmc")
        sampler = control_variates if self.method == "mc" else sobol
        try:
            made = sampler(f_at, mean, factor, goal.rtol, goal.budget, atol=goal.atol)
        except NotFinite:
            for i in range(mean.shape[0]):  # which entry was it?
                try:
                    sampler(f_at, mean[i : i + 1], factor[i : i + 1], goal.rtol, goal.budget)
                except NotFinite as lost:
                    raise LimitError(f"{lost}{self.name(i)}") from None
            raise
        value, error, size, cost = made
        each = cost / mean.shape[0]
        tails, top = beyond(f_at, mean, factor, each, size)
        error = np.maximum(error, tails)
        alike = _one_number(value, size) & (error <= _SAME * size)
        rows = np.flatnonzero(np.any(alike, axis=1))
        if rows.size and sampler is sobol:  # one number at all points, and another one on a ray
            missed = rare(each) * np.maximum(size, top)[rows]
            jumps = alike[rows] & ~constant(f_at, mean[rows], factor[rows])
            error[rows] = np.where(jumps, np.maximum(error[rows], missed), error[rows])
        if np.any(goal.missed(error, size)):
            self.ask(f_at, mean, factor, goal, (value, error, size, cost))
        return value, error, size, cost

    def wide(self, f_at: Integrand, mean: np.ndarray, factor: np.ndarray, goal: Goal) -> Settled:
        """More than three dimensions: sparse grids while f is smooth, Sobol points for what they leave."""
        made = grown(f_at, mean, factor, goal.rtol, goal.atol, goal.spend(_GRID) // 2)
        todo = np.flatnonzero(goal.missed(*made[1:3]))
        if todo.size < mean.shape[0]:
            self.note("quadrature")
        if not todo.size:
            return made
        spent = np.full(todo.size, made[3] // mean.shape[0])
        new = self.by_budgets(f_at, mean[todo], factor[todo], goal, spent)
        return _merged(made, new, todo, new[1] <= made[1][todo])

    def by_budgets(
        self, f_at: Integrand, mean: np.ndarray, factor: np.ndarray, goal: Goal, spent: np.ndarray
    ) -> Settled:
        """Points for entries of which each has spent so much; those that are left as many are together."""
        if goal.budget is None:
            return self.sampled(f_at, mean, factor, goal)
        own = np.maximum(goal.budget - spent, _FEWEST)
        level = np.log2(own).astype(int)
        groups = [np.flatnonzero(level == k) for k in np.unique(level)]
        made = [
            self.sampled(f_at, mean[at], factor[at], replace(goal, budget=int(own[at].min())))
            for at in groups
        ]
        back = np.argsort(np.concatenate(groups))
        value, error, size = (np.concatenate([m[k] for m in made])[back] for k in range(3))
        return value, error, size, sum(m[3] for m in made)

    def ask(self, f_at: Integrand, mean: np.ndarray, factor: np.ndarray, goal: Goal, made: Settled) -> None:
        """Note how many evaluations the worst entry needs, by what a part of the points has reached."""
        _, error, size, cost = made
        excess = np.max(
            np.divide(error, goal.allowed(size), out=np.ones_like(error), where=error > 0), axis=1
        )
        i = int(np.argmax(excess))
        spent = cost / mean.shape[0]
        sampler = control_variates if self.method == "mc" else sobol
        less = sampler(f_at, mean[i : i + 1], factor[i : i + 1], goal.rtol, int(spent / _TRIAL))
        rate = np.log(np.max(less[1] / error[i])) / np.log(_TRIAL) if np.all(error[i] > 0) else 0.5
        rate = 0.5 if self.method == "mc" or not np.isfinite(rate) else min(max(rate, 0.5), 1.5)
        needed = 2.0 * spent * excess[i] ** (1.0 / rate)
        panels = _PANELS.get(factor.shape[2], 0) if self.method in ("auto", "quadrature") else 0
        if spent < panels:  # what quadrature may spend where no budget is given
            needed = min(needed, panels)
        self.needed = max(self.needed, needed)

    def advice(self) -> str:
        """What to do about a missed tolerance."""
        if not self.needed:
            return ""
        if self.needed > _REACHABLE:
            return "; no budget will do, ask for less"
        digits = 10 ** max(0, int(np.log10(self.needed)) - 1)
        budget = int(-(-self.needed // digits) * digits)
        return f"; it needs about {self.needed:.1e} evaluations: budget={budget}"

    def quadrature(
        self, f_at: Integrand, mean: np.ndarray, factor: np.ndarray, principal: np.ndarray, goal: Goal,
        far: np.ndarray,
    ) -> Settled:  # fmt: skip
        """The lattice; what it leaves unsettled goes to the ways that a rough function has."""
        self.note("quadrature")
        rank = factor.shape[2]
        believed = np.zeros(mean.shape[0], dtype=bool)
        scout = Scout(f_at, mean, factor, goal, self.inside)
        made = trapezoidal(f_at, mean, factor, goal.rtol, scout)
        spent = scout.spent.copy()
        for tried, way in enumerate(("nested", "qmc", "nested")):
            todo = np.flatnonzero(goal.missed(*made[1:3]))
            if way == "nested":
                todo = todo[self.panels(rank, scout.aligned[todo], tried)]
                left = goal.spend(_PANELS[rank]) - spent
                todo = todo[left[todo] >= cheapest(rank)]
            if not todo.size or (way == "qmc" and self.method == "quadrature"):
                continue
            if way == "qmc":
                new = self.by_budgets(f_at, mean[todo], principal[todo], goal, spent[todo])
            else:
                new = nested(
                    f_at, mean[todo], factor[todo], np.max(made[2][todo], axis=1), goal, left[todo],
                    partial(self.entry, todo), scout.of(todo), far[todo],
                )  # fmt: skip
            spent[todo] += new[3] / todo.size
            # a lattice that failed has no error to believe, of two others each knows the other one's
            first = ~believed[todo, None]
            apart = np.where(first, -np.inf, np.abs(new[0] - made[0][todo]) - new[1] - made[1][todo])
            believed[todo] = True
            made = _merged(made, new, todo, first | (new[1] < made[1][todo]))
            made[1][todo] = np.maximum(made[1][todo], apart)
        # one that jumps where it was seen to has shown itself, a constant has shown nothing
        shown = np.array([ends.size > 0 for ends in scout.ends])[:, None]
        hidden = scout.hidden[:, None]
        self.cells = bool(np.any(hidden))
        hidden = np.where(shown, np.minimum(hidden, _LIKELY * goal.allowed(made[2])), hidden)
        return made[0], np.maximum(made[1], hidden), made[2], made[3]

    def entry(self, rows: np.ndarray, i: int) -> str:
        return self.name(int(rows[i]))

    def panels(self, rank: int, aligned: np.ndarray, tried: int) -> np.ndarray:
        """Which entries are for panels, before Sobol points were tried or after."""
        early = (aligned & (self.goal.rtol < _LOOSE)) | (rank < _LARGEST) | (self.method == "quadrature")
        return (~early & (self.goal.spend(0) > _PANELS[rank])) if tried else early

    def unseen(
        self, f_at: Integrand, mean: np.ndarray, factor: np.ndarray, value: np.ndarray, error: np.ndarray,
        size: np.ndarray, cost: int,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Errors with what no point may have met where f was 0 at all, and what they are relative to.

        That is E|f|, or the largest |f| on rays where no point met anything, infinite where f is 0 there too.
        Nothing is known either of what a function that was one number everywhere is elsewhere.
        """
        against = np.where(size > 0, size, 1.0)
        if self.used.keys() <= {"closed"} or not np.any(factor):
            return error, against
        error = error.copy()
        scattered = factor.shape[2] == 1 or "qmc" in self.used or "mc" in self.used
        seen = cost / mean.shape[0] * (1.0 if scattered else _ALIGNED)
        rows = np.flatnonzero(np.any(size == 0.0, axis=1))
        if rows.size:
            missed, top = beyond(f_at, mean[rows], factor[rows], seen, size[rows])
            silent = size[rows] == 0.0
            error[rows] = np.where(silent, np.maximum(error[rows], missed), error[rows])
            against[rows] = np.where(silent, np.where(top > 0, top, np.inf), against[rows])
        same = _one_number(value, size)
        rows = np.flatnonzero(np.any(same, axis=1))
        if rows.size and f_at.written and not self.cells:
            same = same[rows] & constant(f_at, mean[rows], factor[rows])
            error[rows] = np.where(same, np.maximum(error[rows], rare(seen) * size[rows]), error[rows])
            against[rows] = np.where(same, np.inf, against[rows])
        return error, against


def _one_number(value: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Whether f was one number, or its negative, at every point: |E f| is E |f|."""
    return (size > 0) & (np.abs(np.abs(value) - size) <= _SAME * size)


def _merged(made: Settled, new: Settled, rows: np.ndarray, better: np.ndarray) -> Settled:
    """Some ``rows`` of an answer replaced where the new one is better; both were paid for."""
    kept = []
    for old, other in zip(made[:3], new[:3], strict=True):
        old = old.copy()
        old[rows] = np.where(better, other, old[rows])
        kept.append(old)
    return kept[0], kept[1], kept[2], made[3] + new[3]


def _known(f: Function, mean: np.ndarray, q: np.ndarray) -> np.ndarray | None:
    from tpnum.gauss.closed import FAMILIES, known

    if f.closed is None or f.closed[0] not in FAMILIES or np.any(mean):
        return None
    made = known(f, "mean", q)
    if not np.all(np.isfinite(made)):
        raise LimitError(
            f"E {_short(f)} overflows or does not exist at variance {float(q[~np.isfinite(made)][0]):.6g}"
        )
    return np.broadcast_to(made, q.shape)[:, None].copy()


def _short(f: Function) -> str:
    name = str(f)
    return name if len(name) <= _WORDS else name[:_WORDS].rstrip() + " ..."
