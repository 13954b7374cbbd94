"""`Estimate`: a number (or array), how far it may be off, how it was found and at what price."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from numbers import Real
from typing import Any

import numpy as np

SURE = 0.99865
"""Of a Gaussian so much lies below three standard deviations."""

NORMAL = 1.96
"""Standard errors in the half-width of a 95 % interval, where there are many replicates."""


def half_width(replicates: np.ndarray, axis: int) -> np.ndarray:
    """The half-width of the 95 % interval of a mean, of independent replicates along an axis."""
    count = replicates.shape[axis]
    return np.asarray(_student(count - 1, 0.975) * replicates.std(axis=axis, ddof=1) / np.sqrt(count))


def enlargement(count: int) -> float:
    """By how much standard errors of so few replicates are enlarged: three are as sure as of a Gaussian."""
    return _student(count - 1, SURE) / 3.0


@cache
def _student(freedom: int, share: float) -> float:
    """A quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))


@dataclass(frozen=True, eq=False)
class Estimate:
    """A value with its certificate: ``error`` estimates |value - truth|, ``cost`` counts evaluations.

    ``exact`` is the value as a `fractions.Fraction` (an object array of them) where it is known as one.

    An Estimate is a number, or an array of them.  Sums, differences, products, quotients, powers (and
    square roots) with numbers, arrays and other Estimates are Estimates: errors are taken through to
    first order and added in absolute value, |error of a b| = |a| error(b) + |b| error(a).  Comparisons,
    `float`, `round`, formats, `np.asarray` and every other NumPy function see the value alone.
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

    # --- as a number, or an array of them

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value, () for a number."""
        return np.shape(self.value)

    @property
    def ndim(self) -> int:
        """The number of axes of the value."""
        return np.ndim(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __round__(self, digits: int | None = None) -> Any:
        return np.round(self.value, digits or 0) if self.ndim else round(float(self.value), digits)

    def __format__(self, spec: str) -> str:
        return format(float(self.value), spec) if spec else str(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.value, dtype=dtype, copy=True)

    def __getitem__(self, key: Any) -> Estimate:
        """An entry, or several; a loop over an array of estimates gives estimates."""
        value = np.asarray(self.value)
        if not value.ndim:
            raise TypeError("an Estimate of one number has no entries")
        error = np.broadcast_to(np.asarray(self.error), value.shape)
        exact = None if self.exact is None or not np.ndim(self.exact) else self.exact[key]
        return Estimate(value[key], error[key], self.method, self.cost, exact)

    # --- comparisons, of values

    def __eq__(self, other: object) -> Any:
        return self.value == _value(other)

    def __ne__(self, other: object) -> Any:
        return self.value != _value(other)

    def __lt__(self, other: Any) -> Any:
        return self.value < _value(other)

    def __le__(self, other: Any) -> Any:
        return self.value <= _value(other)

    def __gt__(self, other: Any) -> Any:
        return self.value > _value(other)

    def __ge__(self, other: Any) -> Any:
        return self.value >= _value(other)

    def __hash__(self) -> int:
        return hash(float(self.value))

    # --- arithmetic

    def __neg__(self) -> Estimate:
        return Estimate(-self.value, self.error, self.method, self.cost)

    def __pos__(self) -> Estimate:
        return self

    def __abs__(self) -> Estimate:
        return Estimate(abs(self.value), self.error, self.method, self.cost)

    def __add__(self, other: Any) -> Any:
        return _both(_sum, self, other)

    def __sub__(self, other: Any) -> Any:
        return _both(_difference, self, other)

    def __mul__(self, other: Any) -> Any:
        return _both(_product, self, other)

    def __truediv__(self, other: Any) -> Any:
        return _both(_quotient, self, other)

    def __pow__(self, other: Any) -> Any:
        return _both(_power, self, other)

    def __radd__(self, other: Any) -> Any:
        return _both(_sum, other, self)

    def __rsub__(self, other: Any) -> Any:
        return _both(_difference, other, self)

    def __rmul__(self, other: Any) -> Any:
        return _both(_product, other, self)

    def __rtruediv__(self, other: Any) -> Any:
        return _both(_quotient, other, self)

    def __rpow__(self, other: Any) -> Any:
        return _both(_power, other, self)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        arithmetic = _UFUNCS.get(ufunc) if method == "__call__" and not options else None
        if arithmetic is not None:
            return arithmetic(*inputs)
        return getattr(ufunc, method)(*map(_value, inputs), **options)


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Estimate) else x


Pair = tuple[Any, Any]  # a value and its error


def _sum(a: Any, da: Any, b: Any, db: Any) -> Pair:
    return a + b, da + db


def _difference(a: Any, da: Any, b: Any, db: Any) -> Pair:
    return a - b, da + db


def _product(a: Any, da: Any, b: Any, db: Any) -> Pair:
    return a * b, abs(a) * db + abs(b) * da


def _quotient(a: Any, da: Any, b: Any, db: Any) -> Pair:
    ratio = a / b
    return ratio, (da + abs(ratio) * db) / abs(b)


def _power(a: Any, da: Any, b: Any, db: Any) -> Pair:
    """a^b: the slopes are b a^(b-1) in a and log(a) a^b in b."""
    made = a**b
    error = np.where(da == 0, 0.0, abs(b * np.where(da == 0, 1.0, a) ** np.where(da == 0, 1.0, b - 1)) * da)
    if np.any(db):
        error = error + abs(np.log(a) * made) * db
    return made, error[()]


def _both(rule: Callable[..., Pair], x: Any, y: Any) -> Any:
    """An Estimate of a rule that takes values and errors; what is no number decides for itself."""
    parts: list[Any] = []
    for side in (x, y):
        if isinstance(side, Estimate):
            parts += [np.asarray(side.value)[()], np.asarray(side.error)[()]]
        elif isinstance(side, Real) or (isinstance(side, (np.ndarray, list)) and _is_real(side)):
            parts += [np.asarray(side, dtype=np.float64)[()], np.float64(0.0)]
        else:
            return NotImplemented
    value, error = rule(*parts)
    sides = [side for side in (x, y) if isinstance(side, Estimate)]
    methods = dict.fromkeys(side.method for side in sides)
    return Estimate(value, error, "+".join(methods), sum(side.cost for side in sides))


def _is_real(x: Any) -> bool:
    return np.asarray(x).dtype.kind in "fiub"


_UFUNCS: dict[np.ufunc, Callable[..., Any]] = {
    np.add: lambda a, b: _both(_sum, a, b),
    np.subtract: lambda a, b: _both(_difference, a, b),
    np.multiply: lambda a, b: _both(_product, a, b),
    np.divide: lambda a, b: _both(_quotient, a, b),
    np.power: lambda a, b: _both(_power, a, b),
    np.square: lambda a: a**2,
    np.sqrt: lambda a: a**0.5,
    np.negative: operator.neg,
    np.positive: operator.pos,
    np.absolute: operator.abs,
}
"""NumPy's names of the arithmetic."""
