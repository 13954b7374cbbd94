"""`dual`: the dual activation of a function, E phi(u) phi(v) and E phi'(u) phi'(v), on broadcast arrays.

(u, v) is Gaussian with variances q1, q2, covariance c and means mean1, mean2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tpnum.arguments import flag
from tpnum.errors import LimitError, ProgramError
from tpnum.functions import Function, get
from tpnum.gauss.arrange import Grid, arguments, arrange, refuse
from tpnum.gauss.estimate import Estimate
from tpnum.gauss.expansion import Expansion, expand
from tpnum.gauss.floating import underflow_is_zero
from tpnum.gauss.pair import TOLERANCE, Prepared, entries, levels, prepare
from tpnum.gauss.prepared import SCALING, has_family
from tpnum.gauss.rules import Kept, knows_slope

_CHUNK = 1 << 12
_ROUNDING = 4e-15
_PANELS = 2e-13
_NARROW = 5e-14  # of integrals over a function with narrow places, by the panels of its table
_RESOLVED = 2e-13  # a table is as good as exact below
_WANTED = 3e-14  # truncation of the series, relative to the roots of the second moments
_FINE = 1 << 12  # variances between which others are interpolated
_BETWEEN = 2e-15
_FEW = 16  # rows of a grid from which on it is cheaper to transpose the coefficients of its columns


@dataclass(frozen=True)
class _Sum:
    """What the entries of a grid came to, in their order."""

    value: np.ndarray
    error: np.ndarray | None
    methods: frozenset[str]
    cost: int


@dataclass(frozen=True)
class Dual:
    """The dual activation of ``f``: call it for E f(u) f(v), `derivative` for E f'(u) f'(v).

    Arguments are taken at their word: a covariance that differs from sqrt(q1 q2) by a rounding error is a
    correlation below one, which a function with a jump can tell (by 1e-8) from one.

    Threads may share it.  What is known of f is kept: a function that reads something which changes
    (a global, a closure) needs a new `dual`.
    """

    f: Function
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, q1: Any, q2: Any, c: Any, mean1: Any = 0.0, mean2: Any = 0.0) -> Any:
        """E f(u) f(v) for broadcast arrays of variances, covariances and means."""
        return _evaluate(self, (q1, q2, c, mean1, mean2), False, False).value

    def derivative(self, q1: Any, q2: Any, c: Any, mean1: Any = 0.0, mean2: Any = 0.0) -> Any:
        """E f'(u) f'(v) with the almost-everywhere derivative (a jump contributes nothing)."""
        return _evaluate(self, (q1, q2, c, mean1, mean2), True, False).value

    def estimate(
        self, q1: Any, q2: Any, c: Any, mean1: Any = 0.0, mean2: Any = 0.0, derivative: bool = False
    ) -> Estimate:
        """The value with its error bound, the methods used and the number of terms and points."""
        return _evaluate(self, (q1, q2, c, mean1, mean2), flag(derivative, "derivative"), True)

    def __reduce__(self) -> tuple[Any, ...]:
        return Dual, (self.f,)

    def _pieces(self, slope: bool) -> tuple[str, Kept]:
        """The table of f, or of its derivative where that is known: its name, and a copy for one thread."""
        name = "pieces of f'" if slope and knows_slope(self.f) else "pieces"
        return name, replace(self._kept.get(name, Kept()))

    def _once(self, name: str, grid: Grid, slope: bool, work: Callable[[Kept], Any]) -> Any:
        """``work(pieces)``, or what it was the last time if the rows are the same."""
        key = grid.q.tobytes(), grid.mean.tobytes()
        entry = self._kept.get(name)  # one look-up: other threads replace the entry
        if entry is None or entry[0] != key:
            pieces, kept = self._pieces(slope)
            entry = key, work(kept)
            self._kept[name], self._kept[pieces] = entry, kept
        return entry[1]


def dual(phi: Any) -> Dual:
    """The dual activation of a name, a Function, a layer or a NumPy-style function of one array.

    ``tp.dual(phi)(q1, q2, c)`` is E phi(u) phi(v), (u, v) ~ N(0, [[q1, c], [c, q2]]), over broadcast arrays;
    see `Dual`.

    Raises
    ------
    ProgramError : what is no function of one vector.
    """
    f = get(phi)
    if f.arity != 1 or (f.n_scalars and f.name not in SCALING):
        raise ProgramError(
            f"dual needs a function of one vector, {f} has {f.arity} and {f.n_scalars} scalar(s)"
        )
    return Dual(f)


def gap(q1: np.ndarray, q2: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The co-correlation copysign(1 - |rho|, rho) of covariances of data, which carry rounding errors.

    1 - 1e-16 has no double: what is within rounding of the boundary is on it.
    """
    away = co_correlation(q1, q2, c)
    return np.where(np.abs(away) < 1.2e-16, np.copysign(0.0, away), away)


def co_correlation(q1: np.ndarray, q2: np.ndarray, c: np.ndarray) -> np.ndarray:
    """copysign(1 - |rho|, rho) of exact numbers, to its last digits: q1 q2 - c^2 without cancellation."""
    from tpnum.kernels.grids import co_correlations

    shape = np.broadcast_shapes(q1.shape, q2.shape, c.shape)
    flat = [np.broadcast_to(a, shape).reshape(-1) for a in (q1, q2, c)]
    out = np.empty(flat[0].size)
    co_correlations(*(np.ascontiguousarray(a, dtype=np.float64) for a in flat), out)
    return out.reshape(shape)


# a grid of entries ------------------------------------------------------------------------------------


@underflow_is_zero
def _evaluate(d: Dual, given: tuple[Any, ...], derivative: bool, certify: bool) -> Estimate:
    arrays = arguments(*given)
    with np.errstate(over="ignore", invalid="ignore"):  # what is infinite is refused
        return _evaluated(d, arrays, derivative, certify)


def _evaluated(d: Dual, arrays: list[np.ndarray], derivative: bool, certify: bool) -> Estimate:
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    size = int(np.prod(shape))
    grid = arrange(arrays) if size else None
    if grid is not None:
        made = [_grid(d, grid, arrays, derivative, certify)]
    else:
        flat = [np.broadcast_to(a, shape).reshape(-1) for a in arrays]
        whole = None if certify or not size else _between(d, arrays, flat, derivative)
        if whole is not None:
            return Estimate(whole.reshape(shape), np.zeros(shape), "series", size)
        made = []
        for begin in range(0, size, _CHUNK):
            part = [a[begin : begin + _CHUNK] for a in flat]
            grid = arrange(part)
            assert grid is not None
            grid = replace(grid, whole=shape, begin=begin)
            made.append(_grid(d, grid, arrays, derivative, certify))
    value = made[0].value if len(made) == 1 else np.concatenate([[], *(m.value.reshape(-1) for m in made)])
    errors = [m.error.reshape(-1) for m in made if m.error is not None]
    error = np.concatenate(errors).reshape(shape)[()] if errors else np.zeros(shape)[()]
    methods = frozenset().union(*(m.methods for m in made))
    if not np.all(np.isfinite(value)):
        raise LimitError(f"the second moment of {d.f}{chr(39) * derivative} overflows; scale the variances")
    error = error + _unseen(d, derivative) if certify else error
    method = "+".join(m for m in ("closed", "series", "panels") if m in methods)
    return Estimate(value.reshape(shape)[()], error, method, sum(m.cost for m in made))


def _unseen(d: Dual, derivative: bool) -> float:
    """What a feature of f between the points at which it was looked at may contribute."""
    look = d._pieces(derivative)[1].look
    return 0.0 if look is None else look.missed * (look.largest or 1.0)


def _between(
    d: Dual, arrays: list[np.ndarray], flat: list[np.ndarray], derivative: bool
) -> np.ndarray | None:
    """All entries by interpolation between a few thousand variances; None where that cannot be."""
    from tpnum.kernels.grids import series_interpolated

    q1, q2, c, *means = arrays
    low, high = min(q1.min(), q2.min()), max(q1.max(), q2.max())
    mean = float(means[0].reshape(-1)[0])
    if not (np.isfinite(low) and np.isfinite(high) and low > 0.0 and np.isfinite(mean)):
        return None
    if d.f.n_scalars or any(np.any(m != mean) for m in means) or (has_family(d.f) and not mean):
        return None
    step = (np.log(high) - np.log(low)) / (_FINE - 3)
    q = np.exp(np.log(low) + step * np.arange(-1.0, _FINE - 1.0))
    try:
        s = expand(d.f, np.full(q.size, mean), q, derivative, d._pieces(derivative)[1])
    except LimitError:
        return None
    if s is None:
        return None
    plain = np.concatenate([s.coef, s.unit[:, None] / s.unit.max()], axis=1)
    # rows from their neighbours at twice the distance: sixteen times the error
    guess = (9.0 * (plain[2:-4] + plain[4:-2]) - (plain[:-6] + plain[6:])) / 16.0
    if not np.max(np.abs(guess - plain[3:-3])) <= 16.0 * _BETWEEN:
        return None
    out = np.empty(flat[2].size)
    one, two, three = (np.ascontiguousarray(a) for a in flat[:3])
    bad, far = series_interpolated(
        three, one, two, float(np.log(low)), float(step), s.unit, s.coef, s.tail, s.ladder,
        float(np.log(_WANTED)), s.parity, out,
    )  # fmt: skip
    if bad >= 0:
        refuse(arrays)
    if 2 * far > out.size:
        return None
    if far:
        at = np.flatnonzero(np.isnan(out))
        for begin in range(0, at.size, _CHUNK):
            part = at[begin : begin + _CHUNK]
            out[part] = _evaluate(d, tuple(a[part] for a in flat), derivative, False).value
    return out


def _grid(d: Dual, grid: Grid, arrays: list[np.ndarray], derivative: bool, certify: bool) -> _Sum:
    try:
        if not d.f.n_scalars and not _exact(d.f, grid):
            expansion = d._once(
                "slope" if derivative else "value", grid, derivative,
                lambda kept: expand(d.f, grid.mean, grid.q, derivative, kept),
            )  # fmt: skip
            if expansion is not None:
                return _by_series(d, grid, arrays, expansion, derivative, certify)
        if np.any(_outside(grid)):
            refuse(arrays)
        return _by_entries(d, grid, *grid.flat(), derivative, certify)
    except LimitError as error:
        raise type(error)(_located(d, grid, str(error))) from None


def _exact(f: Function, grid: Grid) -> bool:
    return has_family(f) and not np.any(grid.mean)


def _outside(grid: Grid) -> np.ndarray:
    """Entries with |c| > sqrt(q1 q2), or NaN."""
    root = np.sqrt(grid.q)
    most = root[grid.left] * root[grid.right]
    return ~(np.abs(grid.c) <= most * (1.0 + 1e-12) + 1e-300)


def _located(d: Dual, grid: Grid, message: str) -> str:
    """The message with the first entry of the batch to which it applies."""
    if grid.c.size < 2:
        return message
    for row in [*np.argsort(-grid.q)[:8], int(np.argmin(grid.mean)), int(np.argmax(grid.mean))]:
        try:
            q, mean = grid.q[[row]], grid.mean[[row]]
            prepare(d.f, q, mean, (q + mean * mean,) if d.f.n_scalars else ())
        except LimitError as error:
            hit = (grid.left == row) | (grid.right == row)
            first = grid.begin + int(np.argmax(np.broadcast_to(hit, grid.c.shape)))
            at = np.unravel_index(first, grid.whole)
            return f"{error} (entry {[int(k) for k in at]})"
    return message


def _by_series(
    d: Dual, grid: Grid, arrays: list[np.ndarray], s: Expansion, derivative: bool, certify: bool
) -> _Sum:
    root, out = np.sqrt(grid.q), np.empty(grid.c.shape)
    bad, far = _add_up(grid, s, root, out)
    if bad >= 0:
        refuse(arrays)
    error, cost = None, int(s.ladder[-1]) * out.size
    if certify:
        error = _series_error(grid, s, root)
    methods = {"series"} if far < out.size else set()
    if far:
        i, j, c = grid.flat()
        at = np.flatnonzero(np.isnan(out))
        rest = _by_entries(d, grid, i[at], j[at], c[at], derivative, certify)
        out.reshape(-1)[at] = rest.value
        if error is not None:
            assert rest.error is not None
            error.reshape(-1)[at] = rest.error
        methods |= rest.methods
        cost += rest.cost
    return _Sum(out, error, frozenset(methods), cost)


def _add_up(grid: Grid, s: Expansion, root: np.ndarray, out: np.ndarray) -> tuple[int, int]:
    """Fill ``out`` with the sums of the series, by rows where one side is constant along them.

    Returns (the place of an entry beyond the boundary, else -1; how many are out of reach, which are NaN).
    """
    from tpnum.kernels.grids import BLOCK, series_scattered, series_strips

    wanted = float(np.log(_WANTED))
    rows, columns = grid.c.shape
    lead, follow = grid.left, grid.right
    if lead.shape[1] > 1 or follow.shape[0] > 1:
        lead, follow = follow, lead
    one_row = lead.shape[1] == 1 and follow.shape[1] == 1
    if one_row:  # both sides are constant along a row: their product leads, and nothing follows
        i, j = (np.broadcast_to(a, (max(lead.size, follow.size), 1))[:, 0] for a in (lead, follow))
        c = grid.c.reshape(i.size, -1)
        unit, tail = np.ones(BLOCK), np.zeros((BLOCK, s.ladder.size))
        return series_strips(
            c, root[i] * root[j], s.unit[i] * s.unit[j], s.coef[i] * s.coef[j], s.tail[i] + s.tail[j],
            unit, unit, np.empty((0, 0)), tail, s.ladder, wanted, s.parity, 0,
            c.shape[1], out.reshape(c.shape),
        )  # fmt: skip
    if lead.shape[1] == 1 and follow.shape[0] == 1 and rows >= _FEW:
        i = np.broadcast_to(lead, (rows, 1))[:, 0]
        bad, far = -1, 0
        for begin in range(0, columns, _CHUNK):
            j = follow[0, begin : begin + _CHUNK]
            hit, beyond = series_strips(
                grid.c, root[i], s.unit[i], s.coef[i], s.tail[i], root[j], s.unit[j],
                np.ascontiguousarray(s.coef[j].T), s.tail[j], s.ladder, wanted, s.parity, begin,
                begin + j.size, out,
            )  # fmt: skip
            bad, far = max(bad, hit), far + beyond
        return bad, far
    i, j, c = grid.flat()
    return series_scattered(
        c, np.ascontiguousarray(i), np.ascontiguousarray(j), root, s.unit, s.coef, s.tail, s.ladder,
        wanted, s.parity, out.reshape(-1),
    )  # fmt: skip


def _series_error(grid: Grid, s: Expansion, root: np.ndarray) -> np.ndarray:
    """Truncation and rounding of every entry."""
    i, j, c = grid.flat()
    most = root[i] * root[j]
    rho = np.minimum(np.abs(np.divide(c, most, out=np.zeros_like(c), where=most > 0)), 1.0)
    log_rho = np.log(np.maximum(rho, 1e-300))
    bound = np.full(c.shape, np.inf)
    for at, degree in enumerate(s.ladder):
        made = s.tail[i, at] + s.tail[j, at] + degree * log_rho
        bound = np.where(bound > np.log(_WANTED), np.minimum(bound, made), bound)
    noise = _ROUNDING * np.maximum(s.noise[i], s.noise[j])
    noise += _left(s.unresolved)
    return ((1.1 * np.exp(bound) + noise) * (s.unit[i] * s.unit[j])).reshape(grid.c.shape)


def _left(unresolved: float) -> float:
    return unresolved if unresolved > _RESOLVED else 0.0


def _by_entries(
    d: Dual, grid: Grid, i: np.ndarray, j: np.ndarray, c: np.ndarray, derivative: bool, certify: bool
) -> _Sum:
    """Pair by pair: closed forms, series of their own degree, panels."""
    f = d.f
    weak = derivative and (_exact(f, grid) or f.n_scalars > 0 or not knows_slope(f))
    f = f if weak or not derivative else f.derivative()
    scalars = (grid.q + grid.mean * grid.mean,) if f.n_scalars else ()
    rows = d._once(
        "rows of f'" if f is not d.f else "rows",
        grid,
        f is not d.f,
        lambda kept: prepare(f, grid.q, grid.mean, scalars, kept=kept),
    )
    if rows.kind == "rule":
        raise ProgramError(f"{f} is a rule for whole kernels: take the dual of the function in it")
    e = co_correlation(grid.q[i], grid.q[j], c)
    out, slope = entries(rows, rows, i, j, e, np.float64, weak)
    methods, cost, bound = {"closed"}, e.size, np.full(e.size, _ROUNDING)
    if rows.kind != "closed":
        methods, cost, bound = _certificate(rows, i, j, e, weak)
    if not weak:
        unit = np.sqrt(rows.second[i]) * np.sqrt(rows.second[j])
        return _Sum(np.copysign(1.0 - np.abs(out), out) * unit, bound * unit, frozenset(methods), cost)
    steep = np.sqrt(rows.slope_second)
    error = bound * (steep[i] * steep[j])
    if rows.kind == "series" and certify:  # the slopes are made of values
        table = rows.tables().rows
        noise = np.zeros(rows.q.size)
        noise[rows.q > 0] = table.table.slope_noise(table.mean, table.root)[rows.where][rows.q > 0]
        error += noise[i] * steep[j] + noise[j] * steep[i] + noise[i] * noise[j]
    return _Sum(slope, error, frozenset(methods), cost)


def _certificate(
    rows: Prepared, i: np.ndarray, j: np.ndarray, e: np.ndarray, derivative: bool
) -> tuple[set[str], int, np.ndarray]:
    """Methods, cost and error bounds relative to the roots of the second moments."""
    s = rows.series
    assert s is not None
    level, degrees = levels(rows, rows, i, j, e, TOLERANCE[np.dtype(np.float64)], derivative)
    panels = level == degrees.size
    at = np.minimum(level, degrees.size - 1)
    tail = s.slope_tail if derivative else s.tail
    a, b = rows.where[i], rows.where[j]
    truncated = np.sqrt(np.maximum(tail[a, at] * tail[b, at], 0.0)) * (1.0 - np.abs(e)) ** degrees[at]
    bound = np.where(panels, _PANELS + 4.0 * s.unresolved, 1.1 * truncated + _ROUNDING) + _left(s.unresolved)
    look = rows.cache.kept.look if rows.cache.kept is not None else None
    if look is not None and np.isfinite(look.narrowest):
        bound += np.where(panels, 0.0, _NARROW)
    methods = ({"panels"} if np.any(panels) else set()) | ({"series"} if not np.all(panels) else set())
    return methods, int(degrees[at][~panels].sum() + 20_000 * panels.sum()), bound
