"""`Estimate`: a number (or array), how far it may be off, how it was found and at what price."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np


@cache
def student(freedom: int) -> float:
    """What a standard error is multiplied by for the half-width of a 95 % interval."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


@dataclass(frozen=True)
class Estimate:
    """A value with its certificate: ``error`` estimates |value - truth|, ``cost`` counts evaluations.

    ``exact`` is the value as a `fractions.Fraction` (an object array of them) where it is known as one.
    """

    value: Any
    error: Any
    method: str
    cost: int
    exact: Any = None

    def __repr__(self) -> str:
        if np.ndim(self.value):
            worst = float(np.max(self.error, initial=0.0))
            value, error = f"array of shape {np.shape(self.value)}", f"up to {worst:.1e}"
        else:
            value, error = f"{float(self.value):.17g}", f"{float(self.error):.1e}"
        exact = "" if self.exact is None or np.ndim(self.exact) else f" = {self.exact}"
        return f"Estimate({value}{exact}, error {error}, {self.method}, cost {self.cost})"

    def __float__(self) -> float:
        return float(self.value)
