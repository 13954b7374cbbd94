"""`expect`: E f(Z), Z ~ N(mean, cov), in any dimension, over batches, with an error estimate.

Laws that occur several times are solved once; the others in groups of one rank and one pattern of independent
coordinates, some thousand at a time, each by the way that `tpnum.gauss.roads` finds for it.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from tpnum.arguments import choice
from tpnum.errors import AccuracyWarning
from tpnum.gauss.estimate import Estimate
from tpnum.gauss.goal import Goal
from tpnum.gauss.integrand import SUBNORMAL, Integrand
from tpnum.gauss.laws import alike, distinct, of_entry, principal_factors, validated
from tpnum.gauss.roads import METHODS, Roads

_CHUNK = 1 << 14
"""Entries that are solved together."""
_ROUNDED = 1e-306
"""Values below are rounded by more than a relative 1e-16."""


def expect(
    f: Any, mean: Any, cov: Any, rtol: float = 1e-6, method: str = "auto",
    *, atol: float = 0.0, budget: int | None = None,
) -> Estimate:  # fmt: skip
    """E f(Z_1, .., Z_d), Z ~ N(mean, cov), over leading axes of ``mean`` (..., d) and ``cov`` (..., d, d).

    ``f`` takes d arrays of one length and returns an array of that length, or (k, length) for k components
    (the value is then (..., k)): a name, a NumPy-style function, or one jitted by Numba, of arrays or of
    numbers.  It must work elementwise.  Two numbers ``mean`` and ``cov`` are the case d = 1.

    An error of ``rtol`` times E|f| or of ``atol`` is enough; where neither is met an `AccuracyWarning` says
    what was reached and what budget would do.  ``budget`` bounds the evaluations of f for one entry of the
    batch (2^18 above three dimensions where nothing is said; some thousand are made in any case); entries
    are settled each for itself, whatever stands beside them.

    ``error`` is the half-width of a 95 % interval.  Where f was 0, or one and the same number, at every point
    it is what so many points can miss: the probability that a region without a point may have, times the
    largest |f| on rays out of the middle, times one where f is 0 there as well.  Of one variable, where f is
    constant in pieces, every millionth of the probability has a point, and the error knows what one may hide.

    ``method``: "closed" (named functions of one variable), "quadrature" (rank up to 3, or blocks of it),
    "qmc", "mc" (with control variates), "auto".  Covariances may be singular.

    Raises InputError for arrays that are no Gaussian law and for functions that fail or return a wrong
    shape, LimitError where f is not finite or its expectation does not exist; both name the batch entry.
    """
    goal = Goal.checked(rtol, atol, budget)
    made, relative, roads = _solved(f, mean, cov, goal, method)
    error = made.error if np.ndim(made.error) == relative.ndim else np.max(made.error, axis=-1)
    size = np.abs(made.value) if np.ndim(made.value) == relative.ndim else np.max(np.abs(made.value), axis=-1)
    missed = (relative > goal.rtol * (1 + 1e-9)) & (error > goal.atol)
    if np.any(missed):
        worst = int(np.argmax(np.where(missed, relative, 0.0)))
        asked = f"rtol = {rtol:g}" + (f" or atol = {atol:g}" if atol else "")
        warnings.warn(
            f"expect: {asked} was not reached in {int(missed.sum())} of {missed.size} expectations; "
            f"the worst error{of_entry(worst, missed.shape)} is {relative.flat[worst]:.1e}{roads.advice()}",
            AccuracyWarning,
            stacklevel=2,
        )
        return made
    unknown = (relative == 0.0) & (error > np.maximum(goal.atol, goal.rtol * size))
    if np.any(unknown):
        first = int(np.argmax(unknown))
        what = "0" if size.flat[first] == 0 else "the same number"
        warnings.warn(
            f"expect: f was {what} at every point that was looked at{of_entry(first, relative.shape)}: "
            "the error is what so many points can miss",
            AccuracyWarning,
            stacklevel=2,
        )
    return made


def certified(
    f: Any, mean: Any, cov: Any, rtol: float = 1e-6, method: str = "auto",
    *, atol: float = 0.0, budget: int | None = None,
) -> tuple[Estimate, np.ndarray]:  # fmt: skip
    """`expect` with the errors relative to E|f| per entry of the batch, and without a warning.

    They are 0 where f was 0, or one and the same number, wherever it was looked at.
    """
    return _solved(f, mean, cov, Goal.checked(rtol, atol, budget), method)[:2]


def _entry(rows: np.ndarray, shape: tuple[int, ...], i: int) -> str:
    return of_entry(int(rows[i]), shape)


@np.errstate(all="ignore")
def _solved(f: Any, mean: Any, cov: Any, goal: Goal, method: str) -> tuple[Estimate, np.ndarray, Roads]:
    """The estimates, their errors relative to E|f| (to the largest |f| where that is 0), and how."""
    choice(method, "method", METHODS)
    mean, cov, shape = validated(mean, cov)
    f_at = Integrand(f, mean.shape[1])
    first, again = distinct(mean, cov)
    mean, cov = mean[first], cov[first]
    if not first.size:
        return Estimate(np.empty(shape), np.empty(shape), "none", 0), np.empty(shape), Roads(method, goal)
    factor = principal_factors(cov, partial(_entry, first, shape))
    f_at.check(mean[0], factor[0])
    roads = Roads(method, replace(goal, atol=goal.atol * f_at.unit))
    found: list[tuple[np.ndarray, ...]] = []
    order, cost = [], 0
    for group in alike(cov, factor):
        for begin in range(0, group.size, _CHUNK):
            rows = group[begin : begin + _CHUNK]
            roads.name = partial(_entry, first[rows], shape)
            value, error, size, spent = roads.solve(f_at, mean[rows], cov[rows], goal.rtol)
            error, against = roads.unseen(f_at, mean[rows], factor[rows], value, error, size, spent)
            found.append((value, error, np.divide(error, against, out=np.zeros_like(error), where=error > 0)))
            order.append(rows)
            cost += spent
    back = np.argsort(np.concatenate(order), kind="stable")[again]
    value, error, relative = (np.concatenate(a)[back] for a in zip(*found, strict=True))
    out = shape if f_at.components is None else (*shape, f_at.components)
    used = "+".join(roads.used)
    value, error = value / f_at.unit, error / f_at.unit
    small = (0.0 < np.abs(value)) & (np.abs(value) < _ROUNDED)  # values of f are rounded as well
    error = np.where(small, error + 2.0 * SUBNORMAL, error)
    made = Estimate(value.reshape(out)[()], error.reshape(out)[()], used, cost)
    return made, np.max(relative, axis=1).reshape(shape), roads
