"""`Estimate`: a number (or array), how far it may be off, how it was found and at what price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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

    def __float__(self) -> float:
        return float(self.value)
