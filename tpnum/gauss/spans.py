"""What is known of a function of centred Gaussians once and for all: tables over spans of the variance.

A span reaches from one power of 4 to the next; what depends on an input through its variance alone is
analytic in its logarithm there, and known by some twenty values.  Tables do not depend on the inputs that
ask for them, so they are made once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from tpnum.errors import LimitError
from tpnum.functions import Function
from tpnum.gauss.hermite import degrees_of, expanded, packing
from tpnum.gauss.interp import Curve, curve
from tpnum.gauss.moments import Profile, at_point
from tpnum.gauss.rules import Kept
from tpnum.gauss.truncated import Series

SPAN = 4.0

COARSE = (8, 16, 32, 64, 128, 192, 256, 384, 512, 768, 1024)
"""Degrees that series have: data sets that are alike have the same."""

MOST = 1024
"""The highest degree: tables are made once, and what they do not reach costs a row of pairs its own way."""

FEW = 8
"""Degrees where the profile is all that is asked for."""


@dataclass(frozen=True)
class Span:
    """A function at variances between two powers of `SPAN`.

    The curve's columns are those of `tpnum.gauss.hermite.packing`: five of the profile, ``degrees`` of f, and
    of f' if f jumps.
    """

    curve: Curve
    degrees: int
    unresolved: float

    @property
    def jumps(self) -> bool:
        """Whether f' has coefficients of its own."""
        return self.curve.coef.shape[1] > 5 + self.degrees


Groups: TypeAlias = "list[tuple[Span, np.ndarray]]"
"""Spans, and which rows lie in each."""


@lru_cache(maxsize=64)
def span(f: Function, power: int, degrees: int) -> Span | None:
    """Variances from SPAN^power to SPAN^(power + 1); None where interpolation is not accurate."""
    unresolved = [0.0]
    low, high = SPAN**power, SPAN ** (power + 1)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        try:
            found = curve(packing(f, 0.0, degrees, Kept(), unresolved), low, high)
        except LimitError:  # at variances that no row needs to have
            return None
    return None if found is None else Span(found, degrees, max(unresolved))


@lru_cache(maxsize=256)
def degrees_in(f: Function, power: int) -> int:
    """The degree that serves a span; 0 where not all of its variances have integrals."""
    ends = np.array([SPAN**power, 2.0 * SPAN**power, SPAN ** (power + 1)])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        try:
            return degrees_of(f, np.zeros(3), ends, MOST, Kept())
        except LimitError:
            return 0


def spanned_profile(f: Function, q: np.ndarray) -> Profile | None:
    """The `Profile` of centred rows, None where no spans are known."""
    powers = _powers(f, q)
    groups = _groups(f, powers, FEW)
    return None if groups is None else _profile(f, q, groups)


def spanned_series(f: Function, q: np.ndarray) -> Series | None:
    """The `Series` of centred rows, None where no spans are known.

    All have the coefficients of the row that needs most of them: a pair needs as many of either side.
    """
    powers = _powers(f, q)
    degrees = [degrees_in(f, k) for k in powers]
    if not all(degrees):
        return None
    groups = _groups(f, powers, max(degrees, default=FEW))
    if groups is None:
        return None
    number = np.full(q.size, -1)
    for k, (_, rows) in enumerate(groups):
        number[rows] = k
    spans = [one for one, _ in groups]
    steep = _Spanned(f, q, spans, number, True) if spans[0].jumps else None
    unit, lost = _Spanned(f, q, spans, number, False), max(one.unresolved for one in spans)
    made = Series(
        q, _profile(f, q, groups), spans[0].degrees, unit, steep, lost, smooth=True, across=unit.fill
    )
    enough = made.enough or made.degrees
    fewer = min(made.degrees, *(k for k in COARSE if k >= enough))
    return replace(made, degrees=fewer, more=made.degrees)


def _powers(f: Function, q: np.ndarray) -> dict[int, np.ndarray]:
    """The spans of positive variances, and which lie in each; none of functions that may change."""
    if f.foreign:
        return {}
    low, high = q.min(initial=np.inf), q.max(initial=0.0)
    if low > 0.0:
        first, last = np.floor(np.log([low, high]) / np.log(SPAN)).astype(int).tolist()
        if first == last:
            return {first: np.arange(q.size)}
    rows = np.flatnonzero(q > 0)
    power = np.floor(np.log(q[rows]) / np.log(SPAN)).astype(int)
    return {k: rows[power == k] for k in np.unique(power).tolist()}


def _groups(f: Function, powers: dict[int, np.ndarray], degrees: int) -> Groups | None:
    groups = []
    for k, rows in powers.items():
        found = span(f, k, degrees)
        if found is None:
            return None
        groups.append((found, rows))
    return groups or None


def _profile(f: Function, q: np.ndarray, groups: Groups) -> Profile:
    columns = np.empty((5, q.size))
    point = np.flatnonzero(q == 0.0)
    if point.size:
        columns[:, point] = at_point(f, np.zeros(point.size))
    for one, rows in groups:
        columns[:, rows] = expanded(one.curve(q[rows], slice(5)))
    return Profile(*columns)


@dataclass(frozen=True)
class _Spanned:
    """Coefficients of f, or of f' if it is ``steep``, of rows; ``number`` is the span of each row.

    It is -1 without a variance.
    """

    f: Function
    q: np.ndarray
    spans: list[Span]
    number: np.ndarray
    steep: bool

    def __call__(self, which: np.ndarray, kept: range) -> np.ndarray:
        """(rows, degrees)."""
        own, at = self.number[which], self.q[which]
        if own.size and own[0] >= 0 and np.all(own == own[0]):
            return self.spans[own[0]].curve(at, self._columns(kept))
        made = np.zeros((which.size, len(kept)))
        made[own < 0, :1] = self._ground(kept)
        for k in np.unique(own[own >= 0]).tolist():
            here = own == k
            made[here] = self.spans[k].curve(at[here], self._columns(kept))
        return made

    def fill(self, which: np.ndarray, kept: range, out: np.ndarray) -> None:
        """(blocks, degrees, lanes) of (blocks, lanes) rows in one product: zero off their span."""
        own, at, columns = self.number[which].ravel(), self.q[which].ravel(), self._columns(kept)
        present = np.unique(own[own >= 0]).tolist()
        coefs = [self.spans[k].curve.coef[:, columns] for k in present]
        basis = np.zeros((sum(map(len, coefs)), own.size))
        start = 0
        for k, coef in zip(present, coefs, strict=True):
            here = slice(None) if len(present) == 1 and own.min() >= 0 else own == k
            basis[start : start + len(coef), here] = self.spans[k].curve.basis(at[here])
            start += len(coef)
        coef = np.concatenate([*coefs, np.empty((0, len(kept)))])
        if which.shape[1] == 1:
            np.matmul(basis.T, coef, out=out[..., 0])
        else:
            lanes = np.ascontiguousarray(basis.reshape(-1, *which.shape).transpose(1, 0, 2))
            np.matmul(np.ascontiguousarray(coef.T), lanes, out=out)
        if own.min(initial=0) < 0:
            out.transpose(0, 2, 1)[own.reshape(which.shape) < 0, :1] = self._ground(kept)

    def _columns(self, kept: range) -> slice:
        begin = 5 + self.steep * self.spans[0].degrees
        return slice(begin + kept.start, begin + kept.stop, kept.step)

    def _ground(self, kept: range) -> float:
        """The first coefficient without a variance, where f(0) is all."""
        lowest = not self.steep and kept.start == 0
        return float(np.sign(at_point(self.f, np.zeros(1))[0, 0])) if lowest else 0.0
