"""Second moments of two blocks of rows: E f(u) g(v) and E f'(u) g'(v) for every pair, by the best known way.

`prepare` does what depends on one input (its moments, coefficients, tables), `evaluate` what depends on
a pair.  A pair is given by its signed co-correlation e = copysign(1 - |rho|, rho), and so is the result.
The ways, by preference: the closed form of the function's family; the Hermite series, for pairs whose
truncation bound sqrt(t_i t_j)|rho|^K is met at an affordable degree; panels for the rest.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tpnum.errors import InputError
from tpnum.gauss.floating import underflow_is_zero
from tpnum.gauss.panels import pairs
from tpnum.gauss.prepared import Prepared, prepare
from tpnum.gauss.rules import gauss_hermite

__all__ = [
    "TOLERANCE", "Prepared", "entries", "evaluate", "evaluate_stack", "in_common", "levels", "prepare",
    "reach",
]  # fmt: skip

SMALL = 256
"""Pairs of a block that are not worth a call: those of many such blocks are computed one by one."""
CLOSE = 1e-14, 3e-13
"""Of pairs computed one by one, each with a degree of its own: a strip has that of its largest rho."""
TOLERANCE = {np.dtype(np.float64): (3e-14, 3e-12), np.dtype(np.float32): (1e-8, 1e-7)}


@underflow_is_zero
def evaluate(
    rows: Prepared, cols: Prepared, e: np.ndarray, dtype: Any = np.float64, want_derivative: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """(co-correlation of f(u_i), g(v_j); E f'(u_i) g'(v_j)) for the (rows, cols) block ``e``.

    The first is relative to sqrt(E f^2 E g^2), the second is plain.
    """
    dtype = np.dtype(dtype)
    if e.shape != (len(rows), len(cols)):
        raise InputError(f"the block e has shape {e.shape}, not ({len(rows)}, {len(cols)})")
    rows, cols = in_common(rows, cols)
    if rows.kind == "closed":
        return _evaluate_closed(rows, cols, e, dtype, want_derivative)
    if rows.kind == "rule":
        out, d = _evaluate_rule(rows, cols, e)
        return out.astype(dtype), d.astype(dtype) if want_derivative else None
    if want_derivative:
        rows.check_slope()
        cols.check_slope()
    if _strips_apply(rows, cols):
        return _evaluate_strips(rows, cols, e, dtype, want_derivative)
    i, j = (a.ravel() for a in np.indices(e.shape))
    out, d = entries(rows, cols, i, j, np.asarray(e, dtype=np.float64).ravel(), dtype, want_derivative)
    return (
        out.reshape(e.shape).astype(dtype, copy=False),
        d.reshape(e.shape).astype(dtype, copy=False) if want_derivative else None,
    )


def evaluate_stack(
    rows: Prepared, cols: Prepared, i: np.ndarray, j: np.ndarray, e: np.ndarray, want_derivative: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """`evaluate` of the blocks e (T, R, C) of the rows i (T, R) and of the columns j (T, C)."""
    if rows.kind == cols.kind == "closed" and rows.f == cols.f and e.size:
        return _closed_stack(rows, cols, i, j, e, np.dtype(np.float64), want_derivative)
    if e.shape[1] * e.shape[2] < SMALL:
        i, j = (np.broadcast_to(at, e.shape) for at in (i[:, :, None], j[:, None, :]))
        out, d = entries(rows, cols, i.ravel(), j.ravel(), e.ravel(), np.float64, want_derivative, CLOSE)
        return out.reshape(e.shape), d.reshape(e.shape) if want_derivative else None
    made = [
        evaluate(rows.rows(a), cols.rows(b), block, want_derivative=want_derivative)
        for a, b, block in zip(i, j, e, strict=True)
    ]
    slopes = [slope for _, slope in made if slope is not None]
    return np.stack([value for value, _ in made]), np.stack(slopes) if slopes else None


def in_rows(
    rows: Prepared, cols: Prepared, i: np.ndarray, j: np.ndarray, e: np.ndarray, want_derivative: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """`entries` of the pairs (i, j), arrays as ``e`` is, where i does not change along the last dimension."""
    if rows.kind == cols.kind == "closed" and rows.f == cols.f and e.size:
        wide = e.reshape(-1, 1, e.shape[-1])
        first, second = i.reshape(-1, e.shape[-1])[:, :1], j.reshape(-1, e.shape[-1])
        made, d = _closed_stack(rows, cols, first, second, wide, np.dtype(np.float64), want_derivative)
    else:
        made, d = entries(rows, cols, i.ravel(), j.ravel(), np.ravel(e), np.float64, want_derivative)
    return made.reshape(e.shape), d.reshape(e.shape) if d is not None and want_derivative else None


def in_common(rows: Prepared, cols: Prepared) -> tuple[Prepared, Prepared]:
    """Both in the form that their pairs are computed from: closed if it is one for both, fixed rules, series.

    Of blocks that share rows it is worth to be asked for before the rows are picked.
    """
    if (rows.kind == cols.kind == "closed" and rows.f == cols.f) or rows.kind == cols.kind == "rule":
        return rows, cols
    return rows.general, cols.general


def _evaluate_closed(
    rows: Prepared, cols: Prepared, e: np.ndarray, dtype: np.dtype[Any], want_derivative: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    every = np.arange(len(rows))[None], np.arange(len(cols))[None]
    out, d = _closed_stack(rows, cols, *every, e[None], dtype, want_derivative)
    return out[0], None if d is None else d[0]


def _closed_stack(
    rows: Prepared,
    cols: Prepared,
    i: np.ndarray,
    j: np.ndarray,
    e: np.ndarray,
    dtype: np.dtype[Any],
    want_derivative: bool,
) -> tuple[np.ndarray, np.ndarray | None]:
    from tpnum.gauss.closed import FAMILIES
    from tpnum.kernels.duals import pointer
    from tpnum.kernels.stacks import stack

    assert rows.f.closed is not None
    dual = pointer(FAMILIES[rows.f.closed[0]].strip, dtype)
    rp = np.ascontiguousarray(rows.params[:, i.ravel()], dtype=dtype)
    cp = np.ascontiguousarray(cols.params[:, j.ravel()], dtype=dtype)
    flat = np.ascontiguousarray(e, dtype=dtype).reshape(-1, e.shape[-1])
    out = np.empty_like(flat)
    d = np.empty_like(flat) if want_derivative else np.empty((1, 0), dtype)
    stack(dual, flat, rp, cp, e.shape[1], int(want_derivative), out, d)
    return out.reshape(e.shape), d.reshape(e.shape) if want_derivative else None


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
    wanted, wanted_slope = TOLERANCE[dtype]
    left, right = rows.worst, cols.worst

    def largest(which: int, tolerance: float) -> np.ndarray:
        one, two = (np.sqrt(np.maximum(side[which][:count], 0.0)) for side in (left, right))
        return np.minimum((tolerance / np.maximum(one * two, 1e-150)) ** (1.0 / degrees), 1.0)

    made = largest(0, wanted)
    if slope:
        rows.check_slope()
        cols.check_slope()
        made = np.minimum(made, largest(1, wanted_slope))
    return degrees, made


def _evaluate_strips(
    rows: Prepared, cols: Prepared, e: np.ndarray, dtype: np.dtype[Any], want_derivative: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Strip by strip through `tpnum.kernels.series`; the pairs beyond the series' reach again by panels."""
    from tpnum.kernels.series import EVEN, NONE, ODD
    from tpnum.kernels.series import series as strip

    r, c = rows.series, cols.series
    assert r is not None and c is not None
    degrees, limits = reach(rows, cols, dtype, want_derivative)
    most = int(degrees[-1])
    centred = not (np.any(rows.mean) or np.any(cols.mean))
    parity = rows.f.parity if centred and rows.f.parity == cols.f.parity else 0
    kept = range(1 if parity == -1 else 0, most, 2 if parity else 1)
    a, count = np.ascontiguousarray(rows.unit(kept), dtype=dtype).ravel(), len(kept)
    b = np.ascontiguousarray(cols.unit(kept).T, dtype=dtype)
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
            strip(e[i, part], (a, i * count, 1), b, rs, cs, i, j, terms, kind, same, out[i, part], d[i, part])
    if np.any(far):
        a_far, b_far = np.nonzero(far)
        left = e[a_far, b_far].astype(np.float64)
        out[a_far, b_far], steep = entries(rows, cols, a_far, b_far, left, dtype, want_derivative)
        if want_derivative:
            d[a_far, b_far] = steep
    return out, d if want_derivative else None


@underflow_is_zero
def entries(
    rows: Prepared,
    cols: Prepared,
    i: np.ndarray,
    j: np.ndarray,
    e: np.ndarray,
    dtype: Any,
    want_derivative: bool,
    tolerance: tuple[float, float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (i[n], j[n]) of two blocks, of co-correlation e[n], as `evaluate` does whole blocks.

    In general: the series where its bound allows, panels elsewhere; ``tolerance`` is that of values and of
    slopes, by default `TOLERANCE`.
    """
    rows, cols = in_common(rows, cols)
    if rows.kind == "closed":
        return _closed_entries(rows, cols, i, j, e, want_derivative)
    if rows.kind == "rule":
        return _rule_entries(rows, cols, i, j, e)
    if want_derivative:
        rows.check_slope()
        cols.check_slope()
    out, d = np.empty(e.size), np.empty(e.size if want_derivative else 0)
    ground = (rows.q[i] == 0) | (cols.q[j] == 0)
    if np.any(ground):
        out[ground] = _constants(rows, cols, i[ground], j[ground])
        if want_derivative:
            d[ground] = rows.slope[i[ground]] * cols.slope[j[ground]]
    level, degrees = levels(rows, cols, i, j, e, tolerance or TOLERANCE[np.dtype(dtype)], want_derivative)
    level[ground] = -1
    for at in np.unique(level[~ground]):
        chosen = np.flatnonzero(level == at)
        if at < degrees.size:
            out[chosen], part = _series(rows, cols, i[chosen], j[chosen], e[chosen], int(at), want_derivative)
        else:
            a, b = rows.where[i[chosen]], cols.where[j[chosen]]
            out[chosen], part = pairs(rows.tables(), cols.tables(), a, b, e[chosen])
        if want_derivative:
            d[chosen] = part
    return out, d


def _closed_entries(
    rows: Prepared, cols: Prepared, i: np.ndarray, j: np.ndarray, e: np.ndarray, want_derivative: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The family's strip kernel over the entries of each distinct row (the sparser side leads)."""
    if np.unique(j).size < np.unique(i).size:
        rows, cols, i, j = cols, rows, j, i
    order = np.argsort(i, kind="stable")
    starts = np.flatnonzero(np.diff(i[order], prepend=-1))
    out, d = np.empty(e.size), np.empty(e.size if want_derivative else 0)
    for begin, end in zip(starts, np.append(starts[1:], e.size), strict=True):
        at = order[begin:end]
        made, steep = _closed_stack(
            rows, cols, i[at[:1]][None], j[at][None], e[at][None, None], np.dtype(np.float64), want_derivative
        )
        out[at] = made[0, 0]
        if steep is not None:
            d[at] = steep[0, 0]
    return out, d


def _rule_entries(
    rows: Prepared, cols: Prepared, i: np.ndarray, j: np.ndarray, e: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    out, d = np.empty(e.size), np.empty(e.size)
    for row in np.unique(i):
        at = np.flatnonzero(i == row)
        made, steep = _evaluate_rule(rows.rows([row]), cols.rows(j[at]), e[None, at])
        out[at], d[at] = made[0], steep[0]
    return out, d


def _constants(rows: Prepared, cols: Prepared, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Pairs of which one has no variance: E f(u) g(v) = E f(u) E g(v)."""
    unit = np.sqrt(rows.second[i]) * np.sqrt(cols.second[j])
    ratio = np.divide(rows.first[i] * cols.first[j], unit, out=np.zeros_like(unit), where=unit > 0)
    away = np.where(
        (rows.q[i] == 0) & (cols.q[j] == 0) & (unit > 0), 0.0, 1.0 - np.minimum(np.abs(ratio), 1.0)
    )
    return np.copysign(away, ratio)


def levels(
    rows: Prepared,
    cols: Prepared,
    i: np.ndarray,
    j: np.ndarray,
    e: np.ndarray,
    tolerance: tuple[float, float],
    slope: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """For every pair the place of its degree in the ladder, len(ladder) where it needs panels."""
    assert rows.series is not None and cols.series is not None
    count = min(rows.series.ladder.size, cols.series.ladder.size)
    degrees = rows.series.ladder[:count]
    wanted, wanted_slope = tolerance
    log_rho = np.log1p(-np.minimum(np.abs(e), 1.0), where=np.abs(e) < 1.0, out=np.full(e.shape, -800.0))
    level = np.full(e.size, count)
    a, b = rows.where[i], cols.where[j]
    no_tables = rows.distinct[0].size == 0 or cols.distinct[0].size == 0
    if no_tables:
        level[:] = count - 1
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
    rows: Prepared,
    cols: Prepared,
    i: np.ndarray,
    j: np.ndarray,
    e: np.ndarray,
    at: int,
    want_derivative: bool,
) -> tuple[np.ndarray, np.ndarray]:
    from tpnum.kernels.hermite import series_pairs

    r, c = rows.series, cols.series
    assert r is not None and c is not None
    out, d = np.empty(e.size), np.empty(e.size if want_derivative else 0)
    none = np.empty((0, 0))
    mixed = r.slope is not None and c.slope is not None
    series_pairs(
        e, rows.where[i], cols.where[j], int(r.ladder[at]), r.value, c.value,
        np.maximum(r.tail[:, at], 0.0), np.maximum(c.tail[:, at], 0.0),
        r.slope if mixed else none, c.slope if mixed else none,
        out, d,
    )  # fmt: skip
    if want_derivative and mixed:
        d *= np.sqrt(rows.slope_second[i] * cols.slope_second[j])
    elif want_derivative:
        d *= np.sqrt(rows.second[i] / rows.q[i]) * np.sqrt(cols.second[j] / cols.q[j])
    return out, d


# the peer's fixed rule --------------------------------------------------------------------------


def _evaluate_rule(rows: Prepared, cols: Prepared, e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `ElementwiseNumerical` of neural_tangents: u and v | u on the nodes of one Gauss-Hermite rule."""
    first, second = dict(rows.f.params), dict(cols.f.params)
    z, w = gauss_hermite(first["deg"])
    fn, fn2 = first["fn"], second["fn"]
    slope, slope2 = fn.derivative(), fn2.derivative()
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
            total = (fn2(v) @ w) @ f
            d[i, part] = (slope2(v) @ w) @ f1
            unit = np.sqrt(rows.second[i] * cols.second[part])
            ratio = np.divide(total, unit, out=np.zeros_like(total), where=unit > 0)
            out[i, part] = np.copysign(np.abs(1.0 - np.abs(ratio)), ratio)
    return out, d
