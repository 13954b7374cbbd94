"""One-dimensional Gaussian expectations of a function and its derivative, for arrays of (mean, variance).

`profile` gives in one pass what a nonlinearity needs to know about every input: E f, E f^2, the a.e.
slope E f', Stein's slope E f z / sqrt(q) (they differ where f jumps) and E f'^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.errors import InputError, LimitError, ProgramError
from tpnum.functions import Function, compose, get
from tpnum.gauss.estimate import Estimate
from tpnum.gauss.floating import underflow_is_zero
from tpnum.gauss.rules import Kept, Rows, rows_of, scaled, values

ORDER = 20
_CHECK = 16


@dataclass(frozen=True)
class Profile:
    """Expectations of f(u), u ~ N(mean, q), one entry per row."""

    mean: np.ndarray  # E f
    second: np.ndarray  # E f^2
    slope: np.ndarray  # E f', almost everywhere
    stein: np.ndarray  # Cov(f, u)/q: E f' with the jumps of f counted
    slope_second: np.ndarray  # E f'^2, almost everywhere

    @property
    def first(self) -> np.ndarray:
        """E f, as `tpnum.gauss.pair.Prepared` names it."""
        return self.mean


def distinct(*arrays: Any) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Distinct rows of broadcast 1-d arrays, and which of them each entry is."""
    table = np.stack(np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in arrays)), axis=-1)
    if table.shape[0] == 1:
        return tuple(table.T), np.zeros(1, dtype=np.intp)
    kept, where = np.unique(table, axis=0, return_inverse=True)
    return tuple(np.ascontiguousarray(c) for c in kept.T), where.reshape(-1)


def bound(f: Function, scalars: Sequence[float]) -> Function:
    """f with its scalars filled in: a function of one vector."""
    if f.arity != 1 or f.n_scalars != len(scalars):
        raise ProgramError(
            f"{f} takes {f.arity} vector(s) and {f.n_scalars} scalar(s); "
            f"one vector and {len(scalars)} scalar(s) were given"
        )
    return compose(f, get("identity"), scalars=scalars) if scalars else f


def table_slope(rows: Rows, which: slice, z: np.ndarray) -> np.ndarray:
    """f' at the nodes: the function's own derivative, or that of its piecewise polynomials."""
    u = rows.at(which, z)
    try:
        derived = rows.f.derivative()
    except ProgramError:
        derived = None
    if derived is not None and derived.has_values:
        return values(derived, u)
    t = rows.table
    piece = np.clip(np.searchsorted(t.breaks, u) - 1, 0, t.breaks.size - 2)
    low, high = t.breaks[piece], t.breaks[piece + 1]
    x = (2.0 * u - low - high) / (high - low)
    coef = t.slope[piece]
    made = coef[..., -1]
    for k in range(coef.shape[-1] - 2, -1, -1):
        made = made * x + coef[..., k]
    return made


@underflow_is_zero
def profile(
    f: Function, q: Any, mean: Any = 0.0, scalars: Sequence[Any] = (), kept: Kept | None = None
) -> Profile:
    """The `Profile` of f at every (q, mean, scalars..) of broadcast 1-d arrays.

    ``kept`` holds on to what is known of f for a call with other rows.
    """
    columns, where = distinct(*np.atleast_1d(q, np.asarray(mean, dtype=float)), *scalars)
    made = _each_scalar(f, columns, 5, lambda g, m, v: _profile(g, m, v, kept))
    return Profile(*(m[where] for m in made))


def _each_scalar(f: Function, columns: tuple[np.ndarray, ...], count: int, work: Any) -> np.ndarray:
    """Run ``work(f bound to scalars, mean, q)`` for every distinct tuple of scalars."""
    q, mean, *scalars = columns
    made = np.empty((count, q.size))
    if not scalars:
        made[:] = work(bound(f, ()), mean, q)
        return made
    kept, group = distinct(*scalars)
    for i in range(kept[0].size):
        rows = group == i
        made[:, rows] = work(bound(f, [float(k[i]) for k in kept]), mean[rows], q[rows])
    return made


def _profile(f: Function, mean: np.ndarray, q: np.ndarray, kept: Kept | None) -> np.ndarray:
    made = np.empty((5, q.size))
    point = q == 0.0
    if np.any(point):
        made[:, point] = at_point(f, mean[point])
    spread = np.flatnonzero(~point)
    if spread.size:
        rows = rows_of(f, mean[spread], q[spread], kept=kept)
        for block, z, w in rows.nodes(ORDER):
            value, slope = rows.values(block, z, w), table_slope(rows, block, z)
            small, size = scaled(value)
            out = spread[block]
            made[0, out] = np.einsum("ij,ij->i", value, w)
            made[1, out] = np.einsum("ij,ij,ij->i", small, small, w) * size**2
            made[2, out] = np.einsum("ij,ij->i", slope, w)
            # centred where a constant part would cost digits: E z = 0
            centred = value - made[0, out][:, None]
            made[3, out] = np.einsum("ij,ij,ij->i", centred, z, w) / rows.root[block]
            made[4, out] = np.einsum("ij,ij,ij->i", slope, slope, w) + rows.steep(block)
        if not rows.table.jumps:
            made[3, spread] = made[2, spread]
    if not np.all(np.isfinite(made)):
        i = int(np.argmin(np.all(np.isfinite(made), axis=0)))
        raise LimitError(f"the expectations of {f} overflow at mean {mean[i]:.6g} and variance {q[i]:.6g}")
    return made


def at_point(f: Function, mean: np.ndarray) -> np.ndarray:
    """The rows without variance: u is its mean."""
    value = values(f, mean)
    try:
        derived = f.derivative()
        slope = values(derived, mean) if derived.has_values else _difference(f, mean)
    except ProgramError:
        slope = _difference(f, mean)
    if not np.all(np.isfinite(value)):
        raise LimitError(f"{f} is not finite at u = {mean[~np.isfinite(value)][0]:.6g}")
    return np.stack([value, value * value, slope, slope, slope * slope])


def _difference(f: Function, u: np.ndarray) -> np.ndarray:
    """f' from a fourth-order difference, for a function that came without its derivative."""
    h = 1e-3 * np.maximum(1.0, np.abs(u))
    near = values(f, u + h) - values(f, u - h)
    return (8.0 * near - (values(f, u + 2 * h) - values(f, u - 2 * h))) / (12.0 * h)


@underflow_is_zero
def expectation(f: Any, q: Any, mean: Any = 0.0, power: int = 1, scalars: Sequence[Any] = ()) -> Estimate:
    """E f(u)^power, u ~ N(mean, q), for broadcast arrays; the error compares two quadrature orders."""
    f = get(f)
    q, mean, *scalars = np.broadcast_arrays(np.asarray(q, float), np.asarray(mean, float), *scalars)
    if not np.all(np.isfinite(q)) or np.any(q < 0):
        raise InputError("q must be finite and not negative")
    if not np.all(np.isfinite(mean)):
        raise InputError("mean must be finite")
    columns, where = distinct(q.ravel(), mean.ravel(), *(s.ravel() for s in scalars))
    cost = [0]

    def work(g: Function, m: np.ndarray, v: np.ndarray) -> np.ndarray:
        made = np.zeros((2, v.size))
        point = v == 0.0
        made[0, point] = values(g, m[point]) ** power if np.any(point) else 0.0
        made[1, point] = 1e-16 * np.abs(made[0, point])
        spread = np.flatnonzero(~point)
        if spread.size:
            rows = rows_of(g, m[spread], v[spread], power)
            results = []
            for order in (ORDER, _CHECK):
                value, size = np.empty(spread.size), np.empty(spread.size)
                for block, z, w in rows.nodes(order):
                    at = rows.values(block, z, w) ** power
                    cost[0] += at.size
                    value[block] = np.einsum("ij,ij->i", at, w)
                    size[block] = np.einsum("ij,ij->i", np.abs(at), w)
                results.append((value, size))
            made[0, spread] = results[0][0]
            unresolved = rows.table.resolved + 4e-16
            made[1, spread] = np.abs(results[0][0] - results[1][0]) + unresolved * results[0][1]
        return made

    value, error = _each_scalar(f, columns, 2, work)[:, where]
    return Estimate(value.reshape(q.shape)[()], error.reshape(q.shape)[()], "panels", cost[0])
