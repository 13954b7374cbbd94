"""`dual`: the dual activation of a function, E phi(u) phi(v) and E phi'(u) phi'(v), on broadcast arrays.

(u, v) is Gaussian with variances q1, q2, covariance c and means mean1, mean2 (MATH.md 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.errors import InputError, ProgramError
from tpnum.functions import Function, get
from tpnum.gauss.estimate import Estimate
from tpnum.gauss.moments import distinct
from tpnum.gauss.pair import Prepared, entries, levels, prepare
from tpnum.gauss.prepared import SCALING

_CHUNK = 4096
_ROUNDING = 4e-15
_PANELS = 2e-13


@dataclass(frozen=True)
class Dual:
    """The dual activation of ``f``: call it for E f(u) f(v), `derivative` for E f'(u) f'(v)."""

    f: Function

    def __call__(self, q1: Any, q2: Any, c: Any, mean1: Any = 0.0, mean2: Any = 0.0) -> Any:
        """E f(u) f(v) for broadcast arrays of variances, covariances and means."""
        return self.estimate(q1, q2, c, mean1, mean2).value

    def derivative(self, q1: Any, q2: Any, c: Any, mean1: Any = 0.0, mean2: Any = 0.0) -> Any:
        """E f'(u) f'(v) with the almost-everywhere derivative (a jump contributes nothing)."""
        return self.estimate(q1, q2, c, mean1, mean2, derivative=True).value

    def estimate(
        self, q1: Any, q2: Any, c: Any, mean1: Any = 0.0, mean2: Any = 0.0, derivative: bool = False
    ) -> Estimate:
        """The value with its error bound, the methods used and the number of terms and points."""
        given = _validated(q1, q2, c, mean1, mean2)
        shape = given[0].shape
        flat = [a.ravel() for a in given]
        size = flat[0].size
        value, error = np.empty(size), np.empty(size)
        methods: set[str] = set()
        cost = 0
        rows = distinct(np.concatenate(flat[:2]), np.concatenate(flat[3:]))[0][0].size if size else 0
        step = size if rows <= 2 * _CHUNK else _CHUNK
        for begin in range(0, size, max(step, 1)):
            part = slice(begin, begin + step)
            chunk = _evaluate(self.f, [a[part] for a in flat], derivative)
            value[part], error[part] = chunk[0], chunk[1]
            methods |= chunk[2]
            cost += chunk[3]
        method = "+".join(m for m in ("closed", "series", "panels") if m in methods)
        return Estimate(value.reshape(shape)[()], error.reshape(shape)[()], method, cost)


def dual(phi: Any) -> Dual:
    """The dual activation of a name, a Function, a layer or a NumPy-style function of one array."""
    f = get(phi)
    if f.arity != 1 or (f.n_scalars and f.name not in SCALING):
        raise ProgramError(
            f"dual needs a function of one vector, {f} has {f.arity} and {f.n_scalars} scalar(s)"
        )
    return Dual(f)


def _validated(q1: Any, q2: Any, c: Any, mean1: Any, mean2: Any) -> list[np.ndarray]:
    names = ("q1", "q2", "c", "mean1", "mean2")
    arrays = []
    for name, given in zip(names, (q1, q2, c, mean1, mean2), strict=True):
        try:
            array = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(f"{name} must be a real number or array, not {given!r}") from None
        if not np.all(np.isfinite(array)):
            raise InputError(f"{name} must be finite")
        arrays.append(array)
    for name, array in zip(names[:2], arrays, strict=False):
        if np.any(array < 0):
            raise InputError(f"{name} is a variance and cannot be negative ({array.min():.6g})")
    try:
        arrays = list(np.broadcast_arrays(*arrays))
    except ValueError:
        shapes = ", ".join(f"{n} {a.shape}" for n, a in zip(names, arrays, strict=True))
        raise InputError(f"the arguments do not broadcast together: {shapes}") from None
    most = np.sqrt(arrays[0]) * np.sqrt(arrays[1])
    over = np.abs(arrays[2]) > most * (1.0 + 1e-12) + 1e-300
    if np.any(over):
        at = np.unravel_index(int(np.argmax(over)), over.shape)
        raise InputError(f"c = {arrays[2][at]:.6g} exceeds sqrt(q1 q2) = {most[at]:.6g} in absolute value")
    return arrays


def gap(q1: np.ndarray, q2: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The co-correlation copysign(1 - |rho|, rho) of covariances that passed validation."""
    wide = np.longdouble
    most = np.sqrt(q1.astype(wide)) * np.sqrt(q2.astype(wide))
    rho = np.divide(np.abs(c).astype(wide), most, out=np.zeros(c.shape, wide), where=most > 0)
    away = np.clip(1.0 - rho, 0.0, 1.0)
    # 1 - 1e-16 has no double: what is within rounding of the boundary is on it
    away = np.where(away < 1.2e-16, 0.0, away).astype(np.float64)
    return np.where(c < 0, -away, away)


def _evaluate(
    f: Function, flat: list[np.ndarray], derivative: bool
) -> tuple[np.ndarray, np.ndarray, set[str], int]:
    """(value, error, methods, cost) for flat arrays."""
    q1, q2, c, mean1, mean2 = flat
    e = gap(q1, q2, c)
    if not e.size:
        return e, e, set(), 0
    (q, mean), where = distinct(np.concatenate([q1, q2]), np.concatenate([mean1, mean2]))
    i, j = where[: q1.size], where[q1.size :]
    scalars = (q + mean * mean,) if f.n_scalars else ()
    rows = prepare(f, q, mean, scalars)
    if rows.kind == "rule":
        raise ProgramError(f"{f} is a rule for whole kernels: take the dual of the function in it")
    out, d = entries(rows, rows, i, j, e, np.float64, derivative)
    methods, cost, bound = {"closed"}, e.size, np.full(e.size, _ROUNDING)
    if rows.kind != "closed":
        methods, cost, bound = _certificate(rows, i, j, e, derivative)
    unit = np.sqrt(rows.second[i]) * np.sqrt(rows.second[j])
    steep = np.sqrt(rows.slope_second[i] * rows.slope_second[j])
    if derivative:
        return d, bound * steep, methods, cost
    return np.copysign(1.0 - np.abs(out), out) * unit, bound * unit, methods, cost


def _certificate(
    rows: Prepared, i: np.ndarray, j: np.ndarray, e: np.ndarray, derivative: bool
) -> tuple[set[str], int, np.ndarray]:
    """Methods, cost and error bounds relative to the roots of the second moments."""
    s = rows.series
    assert s is not None
    level, degrees = levels(rows, rows, i, j, e, np.dtype(np.float64), derivative)
    panels = level == degrees.size
    at = np.minimum(level, degrees.size - 1)
    tail = s.slope_tail if derivative else s.tail
    a, b = rows.where[i], rows.where[j]
    truncated = np.sqrt(np.maximum(tail[a, at] * tail[b, at], 0.0)) * (1.0 - np.abs(e)) ** degrees[at]
    rounding = 10.0 * _ROUNDING if derivative else _ROUNDING
    bound = np.where(panels, _PANELS, truncated + rounding)
    methods = ({"panels"} if np.any(panels) else set()) | ({"series"} if not np.all(panels) else set())
    return methods, int(degrees[at][~panels].sum() + 20_000 * panels.sum()), bound
