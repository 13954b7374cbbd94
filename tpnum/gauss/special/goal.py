"""How accurate a special integral has to be, and what is said where it is not."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from tpnum.arguments import shown
from tpnum.errors import AccuracyWarning, InputError, outside
from tpnum.gauss.goal import Goal, tolerance

BUDGET = 1 << 18
"""Random points a problem where nothing is said."""

LEAST = 64


@dataclass(frozen=True)
class Aim(Goal):
    """A goal that may have one tolerance only; what misses it by less than ``slack`` is not reported."""

    slack: float = 1.0

    @classmethod
    def asked(cls, atol: Any, rtol: Any, budget: Any, least: float) -> Aim:
        """What the user gave: one tolerance alone counts alone.

        Without any both are ``least``, an aim rather than a demand: it is reported missed by twenty times it.
        """
        if atol is None and rtol is None:
            made = cls(least, least, slack=20.0)
        else:
            relative, absolute = (
                0.0 if x is None else tolerance(x, name) for x, name in ((rtol, "rtol"), (atol, "atol"))
            )
            made = cls(relative, absolute)
            if made.atol == made.rtol == 0.0:
                name, given = ("rtol", rtol) if atol is None else ("atol", atol)
                raise InputError(f"{name} must be a positive number, not {shown(given)}")
        if budget is None:
            return made
        if isinstance(budget, bool) or not isinstance(budget, Real) or not float(budget) >= LEAST:
            raise InputError(f"budget must be a number of points, at least {LEAST}, not {shown(budget)}")
        return replace(made, budget=int(min(float(budget), 2.0**60)))

    def share(self, count: float) -> Aim:
        """The goal of each of ``count`` terms."""
        return replace(self, atol=self.atol / count, rtol=self.rtol / count)

    def __str__(self) -> str:
        asked = [
            f"{name} = {self.slack * x:g}" for name, x in (("atol", self.atol), ("rtol", self.rtol)) if x
        ]
        return " and ".join(asked)


@dataclass(frozen=True)
class Price:
    """What was spent: evaluations in all, points a problem, and the power of these that errors fall by."""

    cost: int
    points: int = 0
    power: float = 0.5

    def advice(self, factor: float) -> str:
        """What would make the error ``factor`` times smaller."""
        if not self.points:
            return "that is what its quadrature reaches"
        digits = float(np.log10(self.points) + np.log10(1.2 * factor) / self.power)
        if not digits < 12.0:
            return f"{self.points} points a problem were taken, and no budget would do"
        unit = 10 ** max(0, int(digits) - 1)
        wanted = int(np.ceil(10.0**digits / unit)) * unit
        return f"{self.points} points a problem were taken, budget={wanted} might do"


def report(name: str, goal: Aim, error: np.ndarray, size: Any, price: Price) -> None:
    """Warn where an error is above the goal: `AccuracyWarning`, on the account of the user's call."""
    enough = np.broadcast_to(goal.slack * goal.allowed(size), error.shape)
    missed = error > enough
    if not np.any(missed):
        return
    with np.errstate(all="ignore"):
        share = np.where(missed, error / np.where(enough > 0.0, enough, 1e-300), 0.0)
    worst = np.unravel_index(int(np.argmax(share)), error.shape)
    warnings.warn(
        f"{name}: {goal} was not reached; the worst error is {error[worst]:.1e} "
        f"where {enough[worst]:.1e} would be enough; {price.advice(float(share[worst]))}",
        AccuracyWarning,
        stacklevel=outside(),
    )
