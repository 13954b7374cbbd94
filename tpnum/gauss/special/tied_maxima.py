"""Pairs of largest entries of small windows, by the integrals nested over ties of `tpnum.kernels.ties`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tpnum.gauss.special.batch_rules import centred_sides
from tpnum.gauss.special.leads import EXACT, exact_argmax, exact_square
from tpnum.kernels.leads import CELLS
from tpnum.kernels.ties import DONE, ROOT, TIE, alone, tied_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.gauss.special.families import Family
    from tpnum.gauss.special.functional import Functional
    from tpnum.gauss.special.pairing import Pairing

MOST = 5
"""Entries of a window, a floor among them."""

BLUR = 1e-10
"""The least eigenvalue of differences within a window, as a share of the largest variance: entries of windows
that are linearly dependent, or nearly so, have a variance of their own that makes up for it."""

CLOSE = 1e-7
"""Of windows with such an eigenvalue quadratures of orthants say more than their ties."""

EQUAL = 1e-13
"""Entries whose difference has less than this share of their variances are one entry."""

NEAR = 20.0
"""Windows whose differences, entry by entry, have less than one part in so many of both variances are nearly
equal, and what the integrals lack of equal ones is made up for."""

_PIECE = 1024  # cells of which the covariances are gathered at a time


class Order(NamedTuple):
    """Nodes, from where on they are crowded towards u = v, and the error, of variances up to one."""

    nodes: int
    crowded: float
    error: float


VALUES = (
    Order(4, 2.0, 1.5e-4), Order(5, 1.5, 4e-5), Order(6, 0.8, 1e-5), Order(8, 0.6, 2e-6),
    Order(10, 0.6, 3e-7), Order(13, 0.3, 3e-8), Order(20, 0.3, 6e-9),
)  # fmt: skip
SHARES = (
    Order(4, 0.1, 2.5e-3), Order(5, 0.05, 1e-3), Order(6, 0.02, 4e-4), Order(8, 0.01, 1e-4),
    Order(10, 3e-3, 3e-5), Order(13, 1e-3, 1.2e-5), Order(20, 1e-3, 6e-6),
)  # fmt: skip
"""Errors are about three times the largest that were found among windows of all kinds, near ones and linearly
dependent ones too: what is singular near u = v is bounded, and they do not depend on how near it is."""

FINE = VALUES[4]
"""At least these nodes have values of nearly equal windows, of which E (max u - max v)^2 is wanted too."""


def enough(ladder: tuple[Order, ...], error: float) -> Order:
    """The fewest nodes that reach it, or the most that there are."""
    return next((order for order in ladder if order.error <= error), ladder[-1])


@dataclass(frozen=True)
class Windows:
    """Centred families of which the largest entry is wanted, in units in which their variances are up to one.

    ``unit`` are the units (families,), ``some`` the probabilities P_S of ties (families, 2^d), ``mean`` and
    ``square`` those of the largest entry and of its square, ``who`` the probabilities of the argmax
    (families, d), ``blurred`` about how much the mean owes to `BLUR`.
    """

    cov: np.ndarray
    unit: np.ndarray
    some: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    who: np.ndarray
    blurred: np.ndarray

    @classmethod
    def of(cls, cov: np.ndarray) -> Windows:
        """The families (n, d, d); entries that are equal are the caller's affair (`distinct`)."""
        n, d = cov.shape[:2]
        unit = np.sqrt(np.einsum("nii->ni", cov).max(axis=1, initial=0.0))
        unit = np.where(unit > 0.0, unit, 1.0)
        sharp = cov / (unit * unit)[:, None, None]
        i, k = np.tril_indices(d, -1)
        apart = np.maximum(sharp[:, i, i] + sharp[:, k, k] - 2.0 * sharp[:, i, k], 0.0)
        leads = sharp[:, :1, :1] - sharp[:, 1:, :1] - sharp[:, :1, 1:] + sharp[:, 1:, 1:]
        least = np.linalg.eigvalsh(leads)[:, 0] if d > 1 else np.ones(n)
        blur = np.maximum(BLUR - least, 0.0)
        cov = sharp + blur[:, None, None] * np.eye(d)
        padded = cov[_whole(np.arange(n))]
        some, (mean, square) = np.zeros((len(padded), 1 << d)), np.zeros((2, len(padded)))
        alone(padded, _walk(d), some, mean, square)
        some, mean, square = some[:n], mean[:n], square[:n]
        wider = (np.sqrt(apart + 2.0 * blur[:, None]) - np.sqrt(apart)) / np.sqrt(2.0 * np.pi)
        blurred = np.einsum("nt,nt->n", wider, some[:, 1 << i | 1 << k])
        who = some[:, 1 << np.arange(d)] if d <= EXACT else _integrated(exact_argmax, cov)
        square += np.einsum("nii,ni->n", cov, who)
        narrow = least < CLOSE
        who[narrow] = _integrated(exact_argmax, sharp[narrow])
        square[narrow] = _integrated(exact_square, sharp[narrow])
        return cls(cov, unit, some, mean, square, who, blurred)


def _integrated(rule: Callable[..., np.ndarray | None], cov: np.ndarray) -> np.ndarray:
    """What a rule for the largest of centred entries gives."""
    found = rule(np.zeros(cov.shape[:2]), cov, -np.inf)
    assert found is not None
    return found


@dataclass(frozen=True)
class Sized:
    """Families of windows of the same number of entries: which they are, and the entries (families, size)."""

    families: np.ndarray
    entries: np.ndarray
    windows: Windows


def distinct(cov: np.ndarray) -> list[Sized]:
    """Families (n, d, d) by how many entries they have; of equal ones the earliest is the one."""
    d = cov.shape[1]
    variances = np.einsum("nii->ni", cov)
    both = variances[:, :, None] + variances[:, None, :]
    equal = both - 2.0 * cov <= EQUAL * both
    first = equal.argmax(axis=2) == np.arange(d)
    made = []
    for size in range(1, d + 1):
        families = np.flatnonzero(first.sum(axis=1) == size)
        if len(families):
            entries = np.nonzero(first[families])[1].reshape(-1, size)
            own = cov[families[:, None, None], entries[:, :, None], entries[:, None, :]]
            made.append(Sized(families, entries, Windows.of(own)))
    return made


def pairs(
    first: list[Sized], second: list[Sized], a: np.ndarray, b: np.ndarray, cross: np.ndarray, order: Order
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E max u max v (cells,), P(argmax u = i, argmax v = j) (cells, d, e) and what the value owes to `BLUR`.

    Of families a and b, cell by cell, with the covariances ``cross`` between their entries.
    """
    value, blurred, shares = np.zeros(len(a)), np.zeros(len(a)), np.zeros(cross.shape)
    for one in first:
        for two in second:
            cells = np.flatnonzero(np.isin(a, one.families) & np.isin(b, two.families))
            if not len(cells):
                continue
            i, j = (np.searchsorted(s.families, at[cells]) for s, at in ((one, a), (two, b)))
            rows, cols = one.entries[i][:, :, None], two.entries[j][:, None, :]
            places = cells[:, None, None], rows, cols
            value[cells], shares[places] = paired(one.windows, two.windows, i, j, cross[places], order)
            unit = one.windows.unit[i] * two.windows.unit[j]
            blurred[cells] = unit * (one.windows.blurred[i] + two.windows.blurred[j])
    return value, shares, blurred


def suits(what: str, sides: tuple[Functional, Functional], families: tuple[Family, Family]) -> bool:
    """Whether these are largest entries, or their derivatives, of centred windows that are small enough."""
    for functional, family in zip(sides, families, strict=True):
        floor = _floor(what, functional)
        if floor is None or np.any(family.means) or family.cov.shape[1] + (floor == 0.0) > MOST:
            return False
    return True


def _floor(what: str, functional: Functional) -> float | None:
    return functional.floor if what == "value" else functional.slope_floor


def tied(
    what: str, sides: tuple[Functional, Functional], pairing: Pairing, rtol: float
) -> tuple[np.ndarray, np.ndarray]:
    """`tpnum.gauss.special.jointly.expectation` of what `suits`, to ``rtol`` of every cell's scale."""
    return _Tied(what, sides, pairing, rtol)()


class _Tied:
    """One call: cells of small windows, whose squares are known exactly."""

    def __init__(
        self, what: str, sides: tuple[Functional, Functional], pairing: Pairing, rtol: float
    ) -> None:
        self.pairing, self.values, self.back = pairing, what == "value", what == "back"
        self.floors = [_floor(what, functional) == 0.0 for functional in sides]
        self.families = [_floored(family.cov, floor, floor) for family, floor in self._sides()]
        self.cross = _floored(pairing.cross, *self.floors)
        self.places = pairing.a, pairing.b
        one = pairing.left is pairing.right and self.floors[0] == self.floors[1]
        self.sized = [distinct(family) for family in self.families[: 2 - one]]
        exact = [self._exact(*both) for both in zip(self.families, self.sized, strict=False)]
        if one:
            exact, self.sized = exact * 2, self.sized * 2
        self.squares = [found[place] for found, place in zip(exact, self.places, strict=True)]
        if self.values and pairing.moments is not None:
            self.squares = list(pairing.moments)
        sums = [square if self.values else square.sum(axis=1) for square in self.squares]
        self.scale = np.sqrt(sums[0] * sums[1])
        self.unit = np.ones(len(self.scale))
        if self.values:
            for family, place in zip(self.families, self.places, strict=True):
                self.unit *= np.sqrt(np.einsum("nii->ni", family).max(axis=1, initial=0.0))[place]
        some = self.unit > 0.0
        least = np.min(self.scale[some] / self.unit[some], initial=1.0)
        self.ladder = VALUES if self.values else SHARES
        self.order = enough(self.ladder, rtol * float(least))
        self.missed = self.order.error > rtol * float(least)

    def _sides(self) -> list[tuple[Family, bool]]:
        return list(zip((self.pairing.left, self.pairing.right), self.floors, strict=True))

    def _exact(self, cov: np.ndarray, sized: list[Sized]) -> np.ndarray:
        """E (max u)^2 (n,), or who the largest is (n, d)."""
        made = np.zeros(cov.shape[: 1 if self.values else 2])
        for one in sized:
            if self.values:
                made[one.families] = one.windows.square * one.windows.unit**2
            else:
                made[one.families[:, None], one.entries] = one.windows.who
        return made

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        same, direction = self.pairing.same, self.pairing.direction
        made = np.zeros(len(same) if self.values else self.cross.shape)
        error = np.where(same, 1e-12 * self.scale, self.order.error * self.unit)
        equal, some = np.flatnonzero(same), np.flatnonzero(~same)
        if len(equal):
            made[equal] = self._exactly(self.squares[0][equal])
        if len(some):
            made[some], blurred = self._apart(some, self.order)
            if self.missed:  # of windows of all kinds; these may be better
                coarser, _ = self._apart(some, self.ladder[-2])
                seen = np.abs(made[some] - coarser).reshape(len(some), -1).max(axis=1)
                error[some] = np.minimum(error[some], seen + 1e-12 * self.unit[some])
            error[some] += blurred
        if self.values:
            return made, error
        made = made[:, int(self.floors[0]) :, int(self.floors[1]) :]
        assert direction is not None
        if self.back:
            return made * direction[:, None, None], error * np.abs(direction)
        # sums over rows and columns are exact: errors see what directions are beyond these
        beyond = centred_sides(_floored(direction, *self.floors))
        error = error * np.abs(beyond).reshape(len(made), -1).max(axis=1)
        return np.einsum("nij,nij->n", made, direction), error

    def _exactly(self, squares: np.ndarray) -> np.ndarray:
        """The expectations of a window with itself."""
        return squares if self.values else squares[:, :, None] * np.eye(squares.shape[1])

    def _apart(self, cells: np.ndarray, order: Order) -> tuple[np.ndarray, np.ndarray]:
        """Of cells of two windows; nearly equal ones are as far from equal ones as the integrals say."""
        a, b = (place[cells] for place in self.places)
        cross = self.cross[cells]
        if cross.shape[1] != cross.shape[2]:
            return self._paired(self.sized[0], self.sized[1], a, b, cross, order)
        both = np.einsum("nii->ni", self.families[0][a] + self.families[1][b])
        apart = both - 2.0 * np.einsum("nii->ni", cross)
        far = np.divide(apart, both, out=np.zeros(both.shape), where=both > 0.0).max(axis=1)
        made, blurred = np.zeros(len(cells) if self.values else cross.shape), np.zeros(len(cells))
        near = far < 1.0 / NEAR
        finer = max(order, FINE) if self.values else order
        for some, nodes in ((np.flatnonzero(~near), order), (np.flatnonzero(near), finer)):
            if len(some):
                given = a[some], b[some], cross[some], nodes
                made[some], blurred[some] = self._paired(self.sized[0], self.sized[1], *given)
        if near.any():
            share = np.minimum(2.0 - 2.0 * NEAR * far[near], 1.0)
            made[near] += (share * self._missing(cells[near], finer).T).T
        return made, blurred

    def _missing(self, cells: np.ndarray, order: Order) -> np.ndarray:
        """What the integrals lack of the squares of both windows, on the average."""
        missing: np.ndarray | float = 0.0
        for square, place, family, sized in zip(
            self.squares, self.places, self.families, self.sized, strict=True
        ):
            kept, at = np.unique(place[cells], return_inverse=True)
            found, _ = self._paired(sized, sized, kept, kept, family[kept], order)
            missing = missing + 0.5 * (self._exactly(square[cells]) - found[at])
        return np.asarray(missing)

    def _paired(
        self,
        first: list[Sized],
        second: list[Sized],
        a: np.ndarray,
        b: np.ndarray,
        cross: np.ndarray,
        order: Order,
    ) -> tuple[np.ndarray, np.ndarray]:
        value, shares, blurred = pairs(first, second, a, b, cross, order)
        return (value, blurred) if self.values else (shares, np.zeros(len(a)))


def _floored(matrices: np.ndarray, above: bool, beside: bool) -> np.ndarray:
    """With a first entry that is zero on either side."""
    return np.pad(matrices, ((0, 0), (int(above), 0), (int(beside), 0)))


def paired(
    one: Windows, two: Windows, a: np.ndarray, b: np.ndarray, cross: np.ndarray, order: Order
) -> tuple[np.ndarray, np.ndarray]:
    """The value and the probabilities of `pairs` for families that have no equal entries."""
    d, e = one.cov.shape[1], two.cov.shape[1]
    unit = one.unit[a] * two.unit[b]
    cross = cross / unit[:, None, None]
    p, q = one.who[a], two.who[b]
    value = one.mean[a] * two.mean[b] + np.einsum("ni,nij,nj->n", p, cross, q)
    shares = p[:, :, None] * q[:, None, :]
    for begin in range(0, len(a), _PIECE):
        at = slice(begin, begin + _PIECE)
        first, second = _whole(a[at]), _whole(b[at])
        more, moved = np.zeros(len(first)), np.zeros((len(first), d, e))
        tied_pairs(
            one.cov[first], two.cov[second], cross[at][_whole(np.arange(len(a[at])))],
            one.some[first], two.some[second], _walk(d), _walk(e),
            order.crowded, *_rule(order.nodes), more, moved,
        )  # fmt: skip
        value[at] += more[: len(a[at])]
        shares[at] += moved[: len(a[at])]
    return value * unit, shares


def _whole(places: np.ndarray) -> np.ndarray:
    """The places, the last one repeated up to whole blocks of cells."""
    return np.append(places, np.repeat(places[-1:], -len(places) % CELLS))


@cache
def _walk(d: int) -> np.ndarray:
    """Steps (kind, first entry, ties more than one, last entry, all of them as bits) through the ties of d.

    Larger ties are done before those that they contain: what these are integrals of.
    """
    steps: list[tuple[int, ...]] = []

    def go(first: int, depth: int, last: int, ties: int) -> None:
        steps.append((TIE if depth else ROOT, first, depth, last, ties))
        for i in range(last + 1, d):
            go(first, depth + 1, i, ties | 1 << i)
        steps.append((DONE, first, depth, last, ties))

    for first in range(d):
        go(first, 0, first, 1 << first)
    return np.array(steps)


@cache
def _rule(order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on (0, 1), and the matrix of integrals from 0 to every node."""
    legendre = np.polynomial.legendre
    x, w = legendre.leggauss(order)
    inverse = np.linalg.inv(legendre.legvander(x, order - 1))
    primitives = [legendre.legval(x, legendre.legint(row, lbnd=-1)) for row in np.eye(order)]
    return 0.5 * (x + 1.0), 0.5 * w, 0.5 * np.stack(primitives, axis=1) @ inverse
