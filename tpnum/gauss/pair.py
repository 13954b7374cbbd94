"""Second moments of two blocks of rows: E f(u) g(v) and E f'(u) g'(v) for every pair, by the best known way.

`prepare` does what depends on one input (its moments, coefficients, tables), `evaluate` what depends on
a pair.  A pair is given by its signed co-correlation e = copysign(1 - |rho|, rho), and so is the result.
The ways, by preference: the closed form of the function's family; the Hermite series, for pairs whose
truncation bound sqrt(t_i t_j)|rho|^K is met at an affordable degree; panels for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tpnum.errors import InputError, LimitError
from tpnum.functions import Function
from tpnum.gauss.hermite import Series, coefficients, series
from tpnum.gauss.moments import Profile, bound, distinct
from tpnum.gauss.panels import Tabled, pairs, tabled
from tpnum.gauss.rules import check_growth

SMOOTH_DEGREE = 512
KINKED_DEGREE = 1024
"""Highest degrees of the series; beyond, panels are cheaper."""

_TOLERANCE = {np.dtype(np.float64): (3e-14, 3e-12), np.dtype(np.float32): (1e-8, 1e-7)}


@dataclass
class _Cache:
    tables: Tabled | None = None


@dataclass(frozen=True)
class Prepared:
    """What a pair needs to know of its rows; entry i of every array belongs to row i.

    ``first`` E f, ``second`` E f^2, ``slope`` E f' (almost everywhere), ``stein`` Cov(f, u)/q,
    ``slope_second`` E f'^2.  ``kind``: "closed", "series" or "rule".
    """

    f: Function
    kind: str
    q: np.ndarray
    mean: np.ndarray
    first: np.ndarray
    second: np.ndarray
    slope: np.ndarray
    stein: np.ndarray
    slope_second: np.ndarray
    params: np.ndarray  # (k, rows) of the closed family's strip
    series: Series | None = None  # of distinct rows
    where: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.intp))  # row -> distinct row
    distinct: tuple[np.ndarray, np.ndarray] = (np.zeros(0), np.zeros(0))  # their mean and variance
    cache: _Cache = field(default_factory=_Cache, compare=False)

    def __len__(self) -> int:
        return int(self.q.size)

    def rows(self, which: Any) -> Prepared:
        """The same for some of the rows (a slice or an index array)."""
        names = ("q", "mean", "first", "second", "slope", "stein", "slope_second")
        part = {name: getattr(self, name)[which] for name in names}
        where = self.where[which] if self.where.size else self.where
        return replace(self, **part, params=self.params[:, which], where=where)

    def tables(self) -> Tabled:
        """The distinct rows for the panel kernel; a row without variance stands as the smallest one."""
        if self.cache.tables is None:
            mean, q = self.distinct
            smallest = q[q > 0].min() if np.any(q > 0) else 1.0
            self.cache.tables = tabled(self.f, mean, np.where(q > 0, q, smallest))
        return self.cache.tables


def prepare(f: Function, q: Any, mean: Any = None, scalars: Sequence[Any] = (), closed: bool = True) -> Prepared:
    """Rows u ~ N(mean, q) of f(u; scalars) for `evaluate`: ``q``, ``mean``, each scalar 1-d or a number.

    Scalars that differ from row to row are allowed for functions with f(u; s) = s^p f(u/sqrt(s); 1)
    only; ``closed=False`` refuses closed forms (the general path).
    """
    q = np.atleast_1d(np.asarray(q, dtype=np.float64))
    centred = mean is None or not np.any(mean)
    mean = np.zeros(q.size) if mean is None else np.broadcast_to(np.asarray(mean, dtype=np.float64), q.shape)
    if not (np.all(np.isfinite(q)) and np.all(q >= 0) and np.all(np.isfinite(mean))):
        raise LimitError(f"the variances and means that enter {f} must be finite, variances not negative")
    check_growth(f, q, 2)
    if f.name == "elementwise_numerical" and not f.order:
        return _rule_rows(f, q, mean)
    own = not scalars or (len(scalars) == 1 and np.array_equal(np.broadcast_to(scalars[0], q.shape), q))
    if closed and centred and own and _has_family(f):
        return _closed_rows(f, q, mean)
    if scalars:
        return _scaled_rows(f, q, mean, scalars)
    return _series_rows(f, q, mean)


def _has_family(f: Function) -> bool:
    from tpnum.gauss.closed import FAMILIES

    return f.closed is not None and f.closed[0] in FAMILIES


def _closed_rows(f: Function, q: np.ndarray, mean: np.ndarray) -> Prepared:
    from tpnum.gauss.closed import FAMILIES

    assert f.closed is not None
    family, params = FAMILIES[f.closed[0]], f.closed[1]
    with np.errstate(over="ignore", invalid="ignore"):
        made = [np.asarray(g(q, params)) for g in (family.mean, family.moment, family.slope, family.slope_moment)]
        strip_params = np.ascontiguousarray(family.profile(q, params), dtype=np.float64)
    if not all(np.all(np.isfinite(m)) for m in made):
        raise LimitError(f"the second moment of {f} overflows at variance {float(q.max()):.6g}")
    first, second, stein, slope_second = made
    slope = np.where(slope_second > 0, stein, 0.0)  # of step and sign: zero almost everywhere
    return Prepared(f, "closed", q, mean, first, second, slope, stein, slope_second, strip_params)


def _series_rows(f: Function, q: np.ndarray, mean: np.ndarray) -> Prepared:
    (rows_q, rows_mean), where = distinct(q, mean)
    most = KINKED_DEGREE if f.kinks else SMOOTH_DEGREE
    made = series(bound(f, ()), rows_mean, rows_q, most, 1e-16)
    return _with(f, made, q, mean, where, (rows_mean, rows_q))


def _with(f: Function, made: Series, q: Any, mean: Any, where: Any, rows: Any) -> Prepared:
    p = made.profile
    each = [np.asarray(a)[where] for a in (p.mean, p.second, p.slope, p.stein, p.slope_second)]
    return Prepared(f, "series", q, mean, *each, params=np.zeros((0, q.size)), series=made, where=where, distinct=rows)


_SCALING = {"exp_normalized": 0.5, "hermite": 0.0}
"""p where f(u; s) = s^p f(u/sqrt(s); 1)."""


def _scaled_rows(f: Function, q: np.ndarray, mean: np.ndarray, scalars: Sequence[Any]) -> Prepared:
    columns = [np.broadcast_to(np.asarray(s, dtype=np.float64), q.shape) for s in scalars]
    if f.primitive is None and f.name in _SCALING:
        s = columns[0]
        if np.any(s <= 0):
            raise LimitError(f"{f} needs a positive second moment")
        unit = _series_rows(bound(f, (1.0,)), q / s, mean / np.sqrt(s))
        factor = s ** _SCALING[f.name]
        steep = factor / np.sqrt(s)
        return replace(
            unit, q=q, mean=mean, first=unit.first * factor, second=unit.second * factor**2,
            slope=unit.slope * steep, stein=unit.stein * steep, slope_second=unit.slope_second * steep**2,
        )  # fmt: skip
    if all(np.all(c == c[0]) for c in columns):
        return _series_rows(bound(f, [float(c[0]) for c in columns]), q, mean)
    return _each_own(f, q, mean, columns)


def _each_own(f: Function, q: np.ndarray, mean: np.ndarray, columns: list[np.ndarray]) -> Prepared:
    """Every row has its own scalars, hence its own function: series only, one row after another."""
    rows, where = distinct(q, mean, *columns)
    parts = [
        coefficients(bound(f, [float(c[i]) for c in rows[2:]]), rows[1][i : i + 1], rows[0][i : i + 1], SMOOTH_DEGREE)
        for i in range(rows[0].size)
    ]
    made = Series.of(*(np.concatenate([p[k] for p in parts], axis=1 if k == 0 else 0) for k in range(3)))
    return _with(f, made, q, mean, where, (np.zeros(0), np.zeros(0)))


# pairs ------------------------------------------------------------------------------------------


def evaluate(
    rows: Prepared, cols: Prepared, e: np.ndarray, dtype: Any = np.float64, want_derivative: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """(co-correlation of f(u_i), g(v_j); E f'(u_i) g'(v_j)) for the (rows, cols) block ``e``.

    The first is relative to sqrt(E f^2 E g^2), the second is plain.
    """
    dtype = np.dtype(dtype)
    if e.shape != (len(rows), len(cols)):
        raise InputError(f"the block e has shape {e.shape}, not ({len(rows)}, {len(cols)})")
    if rows.kind == cols.kind == "closed" and rows.f == cols.f:
        return _evaluate_closed(rows, cols, e, dtype, want_derivative)
    if rows.kind == cols.kind == "rule":
        out, d = _evaluate_rule(rows, cols, e)
        return out.astype(dtype), d.astype(dtype) if want_derivative else None
    rows, cols = _general(rows), _general(cols)
    if _strips_apply(rows, cols):
        return _evaluate_strips(rows, cols, e, dtype, want_derivative)
    i, j = (a.ravel() for a in np.indices(e.shape))
    out, d = entries(rows, cols, i, j, np.asarray(e, dtype=np.float64).ravel(), dtype, want_derivative)
    return (
        out.reshape(e.shape).astype(dtype, copy=False),
        d.reshape(e.shape).astype(dtype, copy=False) if want_derivative else None,
    )


def _general(p: Prepared) -> Prepared:
    return p if p.kind == "series" else _series_rows(p.f, p.q, p.mean)


def _evaluate_closed(
    rows: Prepared, cols: Prepared, e: np.ndarray, dtype: np.dtype[Any], want_derivative: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    from tpnum.gauss.closed import strip

    assert rows.f.closed is not None
    kernel = strip(rows.f.closed[0])
    rp, cp = np.ascontiguousarray(rows.params, dtype=dtype), np.ascontiguousarray(cols.params, dtype=dtype)
    e = np.ascontiguousarray(e, dtype=dtype)
    out = np.empty(e.shape, dtype=dtype)
    d = np.empty(e.shape if want_derivative else (e.shape[0], 0), dtype=dtype)
    for i in range(e.shape[0]):
        for j in range(0, e.shape[1], 1024):
            kernel(e[i, j : j + 1024], rp, cp, 0, i, j, out[i, j : j + 1024], d[i, j : j + 1024])
    return out, d if want_derivative else None


def _strips_apply(rows: Prepared, cols: Prepared) -> bool:
    """Whether E f' g' is the derivative of the series and every row has a variance."""
    for p in (rows, cols):
        if p.series is None or not p.distinct[0].size or not np.all(p.q > 0):
            return False
        if not np.array_equal(p.slope, p.stein):
            return False
    return True


def reach(rows: Prepared, cols: Prepared, dtype: np.dtype[Any], slope: bool) -> tuple[np.ndarray, np.ndarray]:
    """(degrees, largest |rho| at which each meets its error bound for every pair of the block)."""
    assert rows.series is not None and cols.series is not None
    count = min(rows.series.ladder.size, cols.series.ladder.size)
    degrees = rows.series.ladder[:count]
    a, b = np.unique(rows.where), np.unique(cols.where)
    wanted, wanted_slope = _TOLERANCE[dtype]

    def largest(left: np.ndarray, right: np.ndarray, tolerance: float) -> np.ndarray:
        tail = np.sqrt(np.maximum(left[a, :count].max(axis=0) * right[b, :count].max(axis=0), 1e-300))
        return np.minimum((tolerance / tail) ** (1.0 / degrees), 1.0)

    made = largest(rows.series.tail, cols.series.tail, wanted)
    if slope:
        made = np.minimum(made, largest(rows.series.slope_tail, cols.series.slope_tail, wanted_slope))
    return degrees, made


def _evaluate_strips(
    rows: Prepared, cols: Prepared, e: np.ndarray, dtype: np.dtype[Any], want_derivative: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Strip by strip through `tpnum.kernels.series`; the pairs beyond the series' reach again by panels."""
    from tpnum.kernels.series import EVEN, NONE, ODD, series as strip

    r, c = rows.series, cols.series
    assert r is not None and c is not None
    degrees, limits = reach(rows, cols, dtype, want_derivative)
    most = int(degrees[-1])
    centred = not (np.any(rows.mean) or np.any(cols.mean))
    parity = rows.f.parity if centred and rows.f.parity == cols.f.parity else 0
    kept = slice(1 if parity == -1 else 0, most, 2 if parity else 1)
    a = np.ascontiguousarray(r.value[rows.where, kept], dtype=dtype)
    b = np.ascontiguousarray(c.value[cols.where, kept].T, dtype=dtype)
    rs, cs = (np.sqrt(p.second / p.q).astype(dtype) for p in (rows, cols))
    e = np.ascontiguousarray(e, dtype=dtype)
    out = np.empty(e.shape, dtype=dtype)
    d = np.empty(e.shape if want_derivative else (e.shape[0], 0), dtype=dtype)
    kind = {0: NONE, 1: EVEN, -1: ODD}[parity]
    # the sum without cancellation counts what was truncated as fully correlated: not with a kink's tail
    same = rows.f == cols.f and bool(limits[-1] == 1.0)
    rho = 1.0 - np.abs(e)
    far = rho > limits[-1]
    for i in range(e.shape[0]):
        for j in range(0, e.shape[1], 1024):
            part = slice(j, j + 1024)
            top = np.max(rho[i, part], where=~far[i, part], initial=0.0)
            degree = int(degrees[min(int(np.searchsorted(limits, top)), degrees.size - 1)])
            terms = degree // 2 if parity else degree
            strip(e[i, part], a, b, rs, cs, i, j, terms, kind, same, out[i, part], d[i, part])
    if np.any(far):
        i, j = np.nonzero(far)
        out[i, j], steep = entries(rows, cols, i, j, e[i, j].astype(np.float64), dtype, want_derivative)
        if want_derivative:
            d[i, j] = steep
    return out, d if want_derivative else None


def entries(
    rows: Prepared, cols: Prepared, i: np.ndarray, j: np.ndarray, e: np.ndarray, dtype: Any, want_derivative: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (i[n], j[n]) of two "series" blocks: series where its bound allows, panels elsewhere."""
    out, d = np.empty(e.size), np.empty(e.size if want_derivative else 0)
    level, degrees = levels(rows, cols, i, j, e, np.dtype(dtype), want_derivative)
    for at in np.unique(level):
        chosen = np.flatnonzero(level == at)
        if at < degrees.size:
            out[chosen], part = _series(rows, cols, i[chosen], j[chosen], e[chosen], int(at), want_derivative)
        else:
            a, b = rows.where[i[chosen]], cols.where[j[chosen]]
            out[chosen], part = pairs(rows.tables(), cols.tables(), a, b, e[chosen])
        if want_derivative:
            d[chosen] = part
    return out, d


def levels(
    rows: Prepared, cols: Prepared, i: np.ndarray, j: np.ndarray, e: np.ndarray, dtype: np.dtype[Any], slope: bool
) -> tuple[np.ndarray, np.ndarray]:
    """For every pair the place of its degree in the ladder, len(ladder) where it needs panels."""
    assert rows.series is not None and cols.series is not None
    count = min(rows.series.ladder.size, cols.series.ladder.size)
    degrees = rows.series.ladder[:count]
    wanted, wanted_slope = _TOLERANCE[dtype]
    log_rho = np.log1p(-np.minimum(np.abs(e), 1.0), where=np.abs(e) < 1.0, out=np.full(e.shape, -800.0))
    level = np.full(e.size, count)
    a, b = rows.where[i], cols.where[j]
    ground = (rows.q[i] == 0) | (cols.q[j] == 0)
    no_tables = rows.distinct[0].size == 0 or cols.distinct[0].size == 0
    if no_tables:
        level[:] = count - 1
    level[ground] = 0
    with np.errstate(divide="ignore"):
        for at in range(count - 1, -1, -1):
            tail = 0.5 * (np.log(rows.series.tail[a, at]) + np.log(cols.series.tail[b, at]))
            enough = tail + degrees[at] * log_rho <= math.log(wanted)
            if slope:
                tail = 0.5 * (np.log(rows.series.slope_tail[a, at]) + np.log(cols.series.slope_tail[b, at]))
                enough &= tail + degrees[at] * log_rho <= math.log(wanted_slope)
            level[enough] = at
    return level, degrees


def _series(
    rows: Prepared, cols: Prepared, i: np.ndarray, j: np.ndarray, e: np.ndarray, at: int, want_derivative: bool
) -> tuple[np.ndarray, np.ndarray]:
    from tpnum.kernels.hermite import series_pairs

    r, c = rows.series, cols.series
    assert r is not None and c is not None
    out, d = np.empty(e.size), np.empty(e.size if want_derivative else 0)
    series_pairs(
        e, rows.where[i], cols.where[j], int(r.ladder[at]), r.value, c.value,
        np.maximum(r.tail[:, at], 0.0), np.maximum(c.tail[:, at], 0.0), r.slope, c.slope, out, d,
    )  # fmt: skip
    if want_derivative:
        d *= np.sqrt(rows.slope_second[i] * cols.slope_second[j])
    return out, d


# the peer's fixed rule --------------------------------------------------------------------------


def _hermgauss(deg: int) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.hermite.hermgauss(deg)
    return math.sqrt(2.0) * x, w / math.sqrt(math.pi)


def _rule_rows(f: Function, q: np.ndarray, mean: np.ndarray) -> Prepared:
    params = dict(f.params)
    fn, (z, w) = params["fn"], _hermgauss(params["deg"])
    u = mean[:, None] + np.sqrt(q)[:, None] * z
    value, slope = fn(u), fn.derivative()(u)
    profile = Profile(value @ w, value**2 @ w, slope @ w, slope @ w, slope**2 @ w)
    return Prepared(
        f, "rule", q, mean, profile.mean, profile.second, profile.slope, profile.stein, profile.slope_second,
        np.zeros((0, q.size)),
    )  # fmt: skip


def _evaluate_rule(rows: Prepared, cols: Prepared, e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """LAYERS.md, ElementwiseNumerical: u and v | u both on the nodes of the same Gauss-Hermite rule."""
    params = dict(rows.f.params)
    fn, (z, w) = params["fn"], _hermgauss(params["deg"])
    slope = fn.derivative()
    out, d = np.empty(e.shape), np.empty(e.shape)
    step = max(1, (1 << 20) // (z.size * z.size))
    for i in range(e.shape[0]):
        u = rows.mean[i] + math.sqrt(rows.q[i]) * z
        f, f1 = fn(u) * w, slope(u) * w
        for j in range(0, e.shape[1], step):
            part = slice(j, j + step)
            away, root = np.abs(e[i, part]), np.sqrt(cols.q[part])
            rho, sigma = np.copysign(1.0 - away, e[i, part]), np.sqrt(away * (2.0 - away))
            v = cols.mean[part, None, None] + root[:, None, None] * (
                rho[:, None, None] * z[:, None] + sigma[:, None, None] * z
            )
            total = (fn(v) @ w) @ f
            d[i, part] = (slope(v) @ w) @ f1
            unit = np.sqrt(rows.second[i] * cols.second[part])
            ratio = np.divide(total, unit, out=np.zeros_like(total), where=unit > 0)
            out[i, part] = np.copysign(np.abs(1.0 - np.abs(ratio)), ratio)
    return out, d
