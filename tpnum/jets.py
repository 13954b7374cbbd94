"""Numbers that carry their derivatives: how a parameter's direction passes through the text of a program.

A net whose deviation is a `Jet` emits lines whose variances are jets, and the law's sums and products of
them are jets in turn: the exact derivatives of every coefficient, wherever it ends.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class Jet(float):
    """A float with derivatives ``slopes`` by some parameters; arithmetic with numbers keeps them.

    It is equal to a plain number only where they vanish: a coefficient that is 1 now is no coefficient 1.
    """

    __slots__ = ("slopes",)
    __array_priority__ = 1000.0  # NumPy's scalars and arrays leave arithmetic to us
    slopes: tuple[float, ...]

    def __new__(cls, value: float, slopes: tuple[float, ...]) -> Jet:
        made = super().__new__(cls, value)
        made.slopes = slopes
        return made

    def _chain(self, value: float, outer: float, other: Any = None, by: float = 0.0) -> Jet:
        own = self.slopes
        rest = other.slopes if isinstance(other, Jet) else (0.0,) * len(own)
        return Jet(value, tuple(outer * a + by * b for a, b in zip(own, rest, strict=True)))

    def __add__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return float(self) + other
        return self._chain(float(self) + float(other), 1.0, other, 1.0)

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __neg__(self) -> Jet:
        return self._chain(-float(self), -1.0)

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return float(self) * other
        return self._chain(float(self) * float(other), float(other), other, float(self))

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return float(self) / other
        a, b = float(self), float(other)
        return self._chain(a / b, 1.0 / b, other, -a / b**2)

    def __rtruediv__(self, other: Any) -> Any:
        a = float(self)
        if isinstance(other, np.ndarray):
            return other / a
        return self._chain(float(other) / a, -float(other) / a**2)

    def __pow__(self, power: Any, modulus: None = None) -> Any:
        a = float(self)
        if a == 0.0 and 0.0 < power < 1.0:  # where it moves its derivative is infinite, and refused
            return Jet(0.0, tuple(math.inf * slope if slope else 0.0 for slope in self.slopes))
        return self._chain(a**power, power * a ** (power - 1) if power else 0.0)

    __radd__, __rmul__ = __add__, __mul__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Jet):
            return float(self) == float(other) and self.slopes == other.slopes
        return float(self) == other and not any(self.slopes)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((float(self), self.slopes)) if any(self.slopes) else hash(float(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return Jet, (float(self), self.slopes)


def plain(value: Any) -> float:
    """``value`` as a float; a jet stays one."""
    return value if isinstance(value, Jet) else float(value)


def slopes_of(value: float, count: int) -> np.ndarray:
    """The derivatives of a coefficient by ``count`` parameters, zero for a plain number."""
    return np.array(value.slopes) if isinstance(value, Jet) else np.zeros(count)
