"""What is asked of an expectation: a tolerance relative to E|f|, an absolute one, and what may be spent."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

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
        if not (_number(rtol) and 0.0 < rtol < np.inf):
            raise InputError(f"rtol must be positive, not {rtol!r}")
        if not (_number(atol) and 0.0 <= atol < np.inf):
            raise InputError(f"atol must be a number, zero or positive, not {atol!r}")
        whole = isinstance(budget, Integral) or (_number(budget) and float(budget).is_integer())
        if budget is not None and not (whole and not isinstance(budget, bool) and budget > 0):
            raise InputError(f"budget must be a positive number of evaluations or None, not {budget!r}")
        return cls(float(rtol), float(atol), None if budget is None else int(budget))

    def allowed(self, size: np.ndarray) -> np.ndarray:
        """The largest error that is enough, by E|f|."""
        return np.maximum(self.rtol * size, self.atol) * _SLACK

    def missed(self, error: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Which entries (n,) of errors (n, k) have a component that is not good enough."""
        return np.any(~(error <= self.allowed(size)), axis=1)

    def spend(self, most: int) -> int:
        """The budget, or as much as that where none was given."""
        return most if self.budget is None else self.budget


def _number(x: Any) -> bool:
    return isinstance(x, Real) and not isinstance(x, bool | np.bool_)
