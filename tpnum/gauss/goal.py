"""What is asked of an expectation: a tolerance relative to E|f|, an absolute one, and what may be spent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tpnum.arguments import number, shown, whole
from tpnum.errors import InputError

_SLACK = 1.0 + 1e-9


@dataclass(frozen=True)
class Goal:
    """An error of ``rtol`` E|f| or of ``atol`` is enough; ``budget`` bounds the evaluations for an entry."""

    rtol: float
    atol: float = 0.0
    budget: int | None = None

    @classmethod
    def checked(cls, rtol: Any, atol: Any, budget: Any) -> Goal:
        """From a user's arguments; InputError names the one at fault."""
        relative, absolute = tolerance(rtol, "rtol"), tolerance(atol, "atol")
        if relative == 0.0:
            raise InputError(f"rtol must be a positive number, not {shown(rtol)}")
        return cls(relative, absolute, None if budget is None else whole(budget, "budget", 1))

    def allowed(self, size: np.ndarray) -> np.ndarray:
        """The largest error that is enough, by E|f|."""
        return np.maximum(self.rtol * size, self.atol) * _SLACK

    def missed(self, error: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Which entries (n,) of errors (n, k) have a component that is not good enough."""
        return np.any(~(error <= self.allowed(size)), axis=1)

    def less(self, spent: int) -> Goal:
        """The goal once so much of the budget is spent."""
        return self if self.budget is None else replace(self, budget=max(self.budget - spent, 1))

    def spend(self, most: int) -> int:
        """The budget, or as much as that where none was given."""
        return most if self.budget is None else self.budget


def tolerance(value: Any, name: str) -> float:
    """A tolerance that a user gave, 0 for none."""
    try:
        return number(value, name, low=0.0)
    except InputError:
        raise InputError(f"{name} must be a positive number, not {shown(value)}") from None
