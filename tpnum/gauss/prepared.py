"""`prepare`: what a second moment of a pair needs to know of each of its two inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from tpnum.errors import FunctionError, LimitError
from tpnum.functions import Function
from tpnum.gauss.floating import underflow_is_zero
from tpnum.gauss.hermite import SMOOTH_DEGREE, coefficients, most_degrees, series
from tpnum.gauss.moments import Profile, bound, distinct
from tpnum.gauss.panels import Tabled, tabled
from tpnum.gauss.rules import Kept, check_growth, gauss_hermite, knows_slope
from tpnum.gauss.spans import spanned_profile, spanned_series
from tpnum.gauss.truncated import Series

MANY = 48
"""Rows from which on tables of their function are made."""


@dataclass
class _Cache:
    tables: Tabled | None = None
    kept: Kept | None = None
    many: int = MANY


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

    @cached_property
    def general(self) -> Prepared:
        """The same rows with their series, whatever closed form they have: for pairs of two functions."""
        if self.kind == "series":
            return self
        # a closed form with a scalar is of zero-mean rows whose scalar is their variance
        if self.f.n_scalars:
            return scaled_rows(self.f, self.q, self.mean, (self.q,))
        return series_rows(self.f, self.q, self.mean, self.cache.kept, self.cache.many)

    @cached_property
    def worst(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the tails of the series of f and of f' among the rows."""
        assert self.series is not None
        return self.series.worst(np.unique(self.where))

    def unit(self, kept: range, which: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Coefficients relative to the root of E f^2, of all rows or of some."""
        assert self.series is not None
        return self.series.unit(self.where[which], kept)

    def fill(self, kept: range, which: np.ndarray, out: np.ndarray) -> None:
        """The same of (blocks, lanes) rows into ``out`` (blocks, degrees, lanes)."""
        assert self.series is not None
        self.series.fill(self.where[which], kept, out)

    def check_slope(self) -> None:
        """Raise LimitError where E f'^2 is infinite, or f' cannot be read off the values of f."""
        if self.kind != "series":
            return
        steep = np.isinf(self.slope_second)
        if np.any(steep):
            i = int(np.argmax(steep))
            raise LimitError(
                f"the square of the derivative of {self.f} has no integral within reach of mean "
                f"{self.mean[i]:.6g} and variance {self.q[i]:.6g}: its expectation is infinite"
            )
        look = self.cache.kept.look if self.cache.kept is not None else None
        if look is not None and look.stepped and self.f.order == () and not knows_slope(self.f):
            raise FunctionError(
                f"the derivative of {self.f} cannot be told from its values, which are rounded to "
                f"{look.noise:.1g} of their size or come in steps: pass derivative= with the function"
            )

    def tables(self) -> Tabled:
        """The distinct rows for the panel kernel; a row without variance stands as the smallest one."""
        if self.cache.tables is None:
            mean, q = self.distinct
            smallest = q[q > 0].min() if np.any(q > 0) else 1.0
            self.cache.tables = tabled(self.f, mean, np.where(q > 0, q, smallest), self.cache.kept)
        return self.cache.tables


@underflow_is_zero
def prepare(
    f: Function,
    q: Any,
    mean: Any = None,
    scalars: Sequence[Any] = (),
    closed: bool = True,
    kept: Kept | None = None,
    many: int = MANY,
) -> Prepared:
    """Rows u ~ N(mean, q) of f(u; scalars) for `evaluate`: ``q``, ``mean``, each scalar 1-d or a number.

    Scalars that differ from row to row are allowed for functions with f(u; s) = s^p f(u/sqrt(s); 1)
    only; ``closed=False`` refuses closed forms (the general path).  From ``many`` rows on tables of f over
    spans of the variance are made, which later calls find.
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
    if closed and centred and own and has_family(f):
        return replace(_closed_rows(f, q, mean), cache=_Cache(kept=kept, many=many))
    if scalars:
        return scaled_rows(f, q, mean, scalars)
    return series_rows(f, q, mean, kept, many)


def has_family(f: Function) -> bool:
    """Whether pairs of zero-mean rows of f have a closed form."""
    from tpnum.gauss.closed import FAMILIES

    return f.closed is not None and f.closed[0] in FAMILIES


def rectifies(f: Function) -> float | None:
    """E f'^2 = a^2/2 of f(u) = a max(u, 0) or a min(u, 0), u centred; None for other functions."""
    from tpnum.gauss.closed import FAMILIES

    if not has_family(f):
        return None
    assert f.closed is not None
    name, params = f.closed
    if name != "abrelu":
        return None
    odd, even, size = FAMILIES[name].profile(np.ones(1), params)[:, 0]
    return float(size) if odd == even == 0.5 else None


def alone(f: Function, what: str) -> Callable[[np.ndarray], np.ndarray | None] | None:
    """What gives the integral ``what`` of f by the variances of centred rows; None where they do not suffice.

    It gives None where some variances have no integral that is known.
    """
    from tpnum.gauss.closed import known

    if f.foreign or f.n_scalars or f.name == "elementwise_numerical":
        return None
    if not has_family(f):

        def spanned(q: np.ndarray) -> np.ndarray | None:
            known = spanned_profile(f, q)
            return None if known is None else getattr(known, what)

        return spanned
    own = _INTEGRALS.get(what)
    if own is None:
        return None

    def closed(q: np.ndarray) -> np.ndarray:
        check_growth(f, q, 2)
        return known(f, own, q)

    return closed


_INTEGRALS = {"first": "mean", "second": "moment", "stein": "slope", "slope_second": "slope_moment"}
"""An integral -> what gives it in a closed family."""


def _closed_rows(f: Function, q: np.ndarray, mean: np.ndarray) -> Prepared:
    from tpnum.gauss.closed import known

    made = [known(f, what, q) for what in _INTEGRALS.values()]
    if not all(np.isfinite(m).all() for m in made):
        raise LimitError(f"the second moment of {f} overflows at variance {float(q.max()):.6g}")
    first, second, stein, slope_second = made
    strip_params = np.ascontiguousarray(known(f, "profile", q))
    slope = np.where(slope_second > 0, stein, 0.0)  # of step and sign: zero almost everywhere
    return Prepared(f, "closed", q, mean, first, second, slope, stein, slope_second, strip_params)


def series_rows(
    f: Function, q: np.ndarray, mean: np.ndarray, kept: Kept | None = None, many: int = MANY
) -> Prepared:
    kept = kept or Kept()
    (rows_q, rows_mean), where = distinct(q, mean)
    alone = bound(f, ())
    made = spanned_series(alone, rows_q) if rows_q.size >= many and not np.any(rows_mean) else None
    made = made or series(alone, rows_mean, rows_q, most_degrees(f), kept)
    return replace(_with(f, made, q, mean, where, (rows_mean, rows_q)), cache=_Cache(kept=kept, many=many))


def _with(f: Function, made: Series, q: Any, mean: Any, where: Any, rows: Any) -> Prepared:
    p = made.profile
    first, second, slope, stein, steep = (
        np.asarray(a)[where] for a in (p.mean, p.second, p.slope, p.stein, p.slope_second)
    )
    return Prepared(
        f,
        "series",
        q,
        mean,
        first,
        second,
        slope,
        stein,
        steep,
        params=np.zeros((0, q.size)),
        series=made,
        where=where,
        distinct=rows,
    )


SCALING = {"exp_normalized": 0.5, "hermite": 0.0}
"""p where f(u; s) = s^p f(u/sqrt(s); 1)."""


def scaled_rows(f: Function, q: np.ndarray, mean: np.ndarray, scalars: Sequence[Any]) -> Prepared:
    columns = [np.broadcast_to(np.asarray(given, dtype=np.float64), q.shape) for given in scalars]
    if f.primitive is None and f.name in SCALING:
        s = columns[0]
        if np.any(s <= 0):
            raise LimitError(f"{f} needs a positive second moment")
        unit = series_rows(bound(f, (1.0,)), q / s, mean / np.sqrt(s))
        factor = s ** SCALING[f.name]
        steep = factor / np.sqrt(s)
        return replace(
            unit, q=q, mean=mean, first=unit.first * factor, second=unit.second * factor**2,
            slope=unit.slope * steep, stein=unit.stein * steep, slope_second=unit.slope_second * steep**2,
        )  # fmt: skip
    if all(np.all(c == c[0]) for c in columns):
        return series_rows(bound(f, [float(c[0]) for c in columns]), q, mean)
    return _each_own(f, q, mean, columns)


def _each_own(f: Function, q: np.ndarray, mean: np.ndarray, columns: list[np.ndarray]) -> Prepared:
    """Every row has its own scalars, hence its own function: series only, one row after another."""
    rows, where = distinct(q, mean, *columns)
    parts = [
        coefficients(
            bound(f, [float(c[i]) for c in rows[2:]]), rows[1][i : i + 1], rows[0][i : i + 1], SMOOTH_DEGREE
        )
        for i in range(rows[0].size)
    ]
    profiles = np.concatenate([p[0] for p in parts], axis=1)
    value = np.concatenate([p[1] for p in parts])
    # one row that jumps makes the coefficients of f' needed for all
    roots = np.sqrt(np.where(rows[0] > 0, rows[0], 1.0))
    shifted = [np.append(p[1][0, 1:] * np.sqrt(np.arange(1, p[1].shape[1])), 0.0) for p in parts]
    own = [p[2][0] if p[2] is not None else t / r for p, t, r in zip(parts, shifted, roots, strict=True)]
    slope = np.stack(own) if any(p[2] is not None for p in parts) else None
    made = Series.of(rows[0], profiles, value, slope)
    return _with(f, made, q, mean, where, (np.zeros(0), np.zeros(0)))


def _rule_rows(f: Function, q: np.ndarray, mean: np.ndarray) -> Prepared:
    params = dict(f.params)
    fn, (z, w) = params["fn"], gauss_hermite(params["deg"])
    u = mean[:, None] + np.sqrt(q)[:, None] * z
    value, slope = fn(u), fn.derivative()(u)
    profile = Profile(value @ w, value**2 @ w, slope @ w, slope @ w, slope**2 @ w)
    return Prepared(
        f, "rule", q, mean, profile.mean, profile.second, profile.slope, profile.stein, profile.slope_second,
        np.zeros((0, q.size)),
    )  # fmt: skip
