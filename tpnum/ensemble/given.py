"""Second moments given the points, E[h h' | points], by recursion over the sums and products that h, h' are.

They are bilinear: the younger of h and h' is taken apart, and its terms' moments are added.  A state of a
recurrence is the state before plus a few factors, so a pair (s, t) of states takes one step from earlier
pairs; written out in factors it would take s t.  The factors of a product have no component in common, and
their moments are multiplied.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tpnum.ensemble.atoms import Atom
from tpnum.ensemble.mixed import Mixed, View, Whole, opened, products
from tpnum.kernels.accumulate import TERMS, accumulate
from tpnum.law.worklist import once

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tpnum.ensemble.atoms import GramMatrices
    from tpnum.ensemble.mixed import Factor, Product, Value
    from tpnum.ensemble.normals import Group

    Factors: TypeAlias = tuple[Factor, ...]
    Sides: TypeAlias = tuple[frozenset[Group], ...]
    Key: TypeAlias = tuple[int, int] | tuple[tuple[int, ...], tuple[int, ...]]

ROOM = 1 << 28
"""Bytes of second moments given the points that are kept."""

WIDE = 32
"""Members of a family beyond which its second moments are too many to have them at every point."""

SEVERAL = 6
"""Terms of a sum beyond which it is one factor: what is made of it would have as many terms and more."""

MANY, CROWD = 256, 128
"""Terms of a sum beyond which it is one factor for up to so many members, and drawn for more."""

SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
"""Of what is kept at every point: memory is what its time goes to, and its mean is taken in double."""

WITHIN = 2.0**-100, 2.0**100
"""Sizes between which single precision has room for what other points may have; else it is double."""

SEEN = 8
"""Points that sizes are told from."""

ROUNDING = 2.0**-20
"""What that leaves, as a part of the largest that a second moment could be: states are means of others."""

Made: TypeAlias = "np.ndarray | None"
"""(*left, *right, points or 1), lengths of one where nothing changes; None is zero."""


class Given:
    """The second moments of one replicate."""

    def __init__(self, grams: GramMatrices) -> None:
        self.grams = grams
        self._number = 0
        self._memo: dict[Key, Made] = {}
        self._kept: dict[int, Factor] = {}
        self._means: dict[int, Made] = {}
        self._averages: dict[tuple[int, int], np.ndarray] = {}
        self._used = 0
        self.lost = 0.0
        """How far a second moment may be off by rounding, as `GramMatrices.lost`."""

    def short(self, value: Value) -> Value:
        """A vector, a sum of many terms as one factor, or drawn if it has too many."""
        if not isinstance(value, Mixed) or len(value.parts) <= SEVERAL:
            return value
        if len(value.parts) <= MANY:
            return self.whole(value)
        made = self.whole(value, CROWD)
        return value.points() if made is value else made

    def whole(self, value: Mixed, most: int | None = None) -> Mixed:
        """A sum as one factor, if it is one of several terms whose coefficients depend on the points."""
        terms = value.parts
        moving = any(coefs.shape[-1] > 1 for coefs, _ in terms)
        if len(terms) < 2 or not moving or prod(value.shape) > (most or WIDE):
            return value
        self._number += 1
        ones = np.ones((1,) * (1 + len(value.shape)))
        return Mixed(value.shape, ((ones, (Whole(value, self._number),)),))

    def moments(self, a: Value, b: Value) -> np.ndarray:
        """E Z Z' of every member of a family with every one of another."""
        left, right = products(a), products(b)
        one, other = _alone(left), _alone(right)
        if one is None or other is None:
            return self._moments(left, right, a.shape, b.shape, a is b)
        if one.number < other.number:
            return self.moments(b, a).T
        key = one.number, other.number
        if key not in self._averages:
            self._averages[key] = self._moments(left, right, a.shape, b.shape, one is other)
        return self._averages[key]

    def _moments(
        self,
        left: Sequence[Product],
        right: Sequence[Product],
        rows: tuple[int, ...],
        cols: tuple[int, ...],
        same: bool,
    ) -> np.ndarray:
        n, m = left[0][0].ndim - 1, right[0][0].ndim - 1
        rows, cols = rows[:n], cols[:m]
        total: Made = None
        for c, first in left:
            for d, last in right:
                total = _plus(total, self._products(first, last, n, m), _left(c, m), _right(d, n))
        if total is None:
            return np.zeros((prod(rows), prod(cols)))
        mean = np.broadcast_to(total.mean(axis=-1, dtype=np.float64), (*rows, *cols)).reshape(
            prod(rows), prod(cols)
        )
        self._forget()
        return (mean + mean.T) / 2.0 if same else mean

    def _forget(self) -> None:
        """Second moments that were not asked for lately, if there are too many."""
        if self._used > ROOM:
            for key in list(self._memo):
                made = self._memo.pop(key)
                self._used -= 0 if made is None else made.nbytes
                if self._used <= ROOM // 2:
                    break

    def _products(self, left: Factors, right: Factors, n: int, m: int) -> Made:
        """Of two products of factors, of n and m dimensions."""
        if len(left) == len(right) == 1 and left[0].groups & right[0].groups:
            return self.between(left[0], right[0])
        first, last, pairs = _matched(tuple(f.groups for f in left), tuple(f.groups for f in right))
        made: list[np.ndarray] = []
        # what has mean zero comes first, since it makes all of it zero
        for means, alone in ((left, first), (right, last)):
            for k in alone:
                mean = self.mean(means[k])
                if mean is None:
                    return None
                made.append(_left(mean, m) if means is left else _right(mean, n))
        for rows, cols in pairs:
            one, other = tuple(left[k] for k in rows), tuple(right[k] for k in cols)
            both = len(one) == len(other) == 1
            found = self.between(one[0], other[0]) if both else self._opened(one, other, n, m)
            if found is None:
                return None
            made.append(found)
        return prod(made[1:], start=made[0]) if made else np.ones((1,) * (n + m + 1))

    def _opened(self, first: Factors, last: Factors, n: int, m: int) -> Made:
        """Of two products, the one factor that has components of several on the other side written out.

        That is a state of a recurrence most often, a sum with the state before it: what was made of that and
        the same factors is kept.
        """
        key = tuple(map(self._place, first)), tuple(map(self._place, last))
        return self._once(key, self._written_out, first, last, n, m)

    def _place(self, factor: Factor) -> int:
        """A number of a factor that is its own: factors that have one are kept."""
        number = factor.number if isinstance(factor, Whole) else -id(factor)
        self._kept[number] = factor
        return number

    def _written_out(self, first: Factors, last: Factors, n: int, m: int) -> Made:
        left = [_meeting(factor, last) for factor in first]
        right = [_meeting(factor, first) for factor in last]
        total: Made = None
        if max(left) > max(right):
            k = left.index(max(left))
            for c, inner in opened(first[k]):  # type: ignore[arg-type]
                made = self._products((*first[:k], *inner, *first[k + 1 :]), last, n, m)
                total = _plus(total, made, _left(c, m))
        else:
            k = right.index(max(right))
            for c, inner in opened(last[k]):  # type: ignore[arg-type]
                made = self._products(first, (*last[:k], *inner, *last[k + 1 :]), n, m)
                total = _plus(total, made, _right(c, n))
        self._used += 0 if total is None else total.nbytes
        return total

    def mean(self, factor: Factor) -> Made:
        """E[h | points]."""
        if isinstance(factor, View):
            made = self.mean(factor.factor)
            return None if made is None else factor.taken(made)
        if isinstance(factor, Atom):
            if factor.odd:
                return None
            gram = self.grams[factor.group]
            places = gram.places(factor)
            return gram.between(places.ravel(), np.zeros(1, dtype=np.int64)).reshape(*places.shape, 1)
        return once(self._means, factor.number, self._mean, factor)

    def _mean(self, whole: Whole) -> Made:
        total = None
        for c, factors in whole.value.parts:
            made: Made = np.ones((1,) * c.ndim)
            for factor in factors:
                made = _times(made, self.mean(factor))
            total = _plus(total, made, c)
        return total

    def between(self, a: Factor, b: Factor) -> Made:
        """E[h h' | points] of two factors."""
        if isinstance(a, View):
            made = self.between(a.factor, b)
            return None if made is None else a.taken(made)
        if isinstance(b, View):
            return _swapped(self.between(b, a), len(b.shape))
        if isinstance(a, Atom) and isinstance(b, Atom):
            if a.group != b.group:
                first, last = self.mean(a), self.mean(b)
                return None if first is None or last is None else _outer(first, last)
            gram = self.grams[a.group]
            p, q = gram.places(a), gram.places(b)
            return gram.between(p.ravel(), q.ravel()).reshape(*p.shape, *q.shape, 1)
        if not isinstance(a, Whole) or (isinstance(b, Whole) and b.number > a.number):
            return _swapped(self.between(b, a), len(b.shape))
        return self._once((self._place(a), self._place(b)), self._between, a, b)

    def _once(self, key: Key, make: Callable[..., Made], *args: Any) -> Made:
        """What is kept under a key, which is the latest now."""
        if key in self._memo:
            self._memo[key] = self._memo.pop(key)
            return self._memo[key]
        return once(self._memo, key, make, *args)

    def _between(self, a: Whole, b: Factor) -> Made:
        n, m = len(a.shape), len(b.shape)
        found = [(c, self._products(factors, (b,), n, m)) for c, factors in a.value.parts]
        terms = [(c, made) for c, made in found if made is not None]
        if not terms:
            return None
        if n == m == 1:
            kind = _precision(terms)
            total = _accumulated(terms, kind)
            self.lost = ROUNDING if kind == SINGLE else self.lost
        else:
            total = sum((_left(c, m) * made for c, made in terms), np.zeros(1))
        self._used += total.nbytes
        return total


def _precision(terms: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.dtype[Any]:
    """Single where its range has room for products of (rows, points) and (rows, columns, points)."""
    for c, x in terms:
        left, right = _left(c[..., :SEEN], 1), x[..., :SEEN]
        for made in (left, right, left * right):
            size = np.abs(made[made != 0.0])
            if size.size and not WITHIN[0] < size.min() <= size.max() < WITHIN[1]:
                return DOUBLE
    return SINGLE


def _accumulated(terms: Sequence[tuple[np.ndarray, np.ndarray]], kind: np.dtype[Any]) -> np.ndarray:
    """The sum of such products."""
    shape = np.broadcast_shapes(*(x.shape for _, x in terms), *(_left(c, 1).shape for c, _ in terms))
    out = np.empty(shape, dtype=kind)
    terms = [(c.astype(kind, copy=False), x.astype(kind, copy=False)) for c, x in terms]
    for k in range(0, len(terms), TERMS):
        some = terms[k : k + TERMS]
        padded = [*some, *[some[0]] * (TERMS - len(some))]
        accumulate(*(array for term in padded for array in term), len(some), k == 0, out)
    return out


def _alone(parts: Sequence[Product]) -> Whole | None:
    """The whole that a vector is."""
    (coefs, factors), *more = parts
    if more or len(factors) != 1 or coefs.size != 1 or coefs.flat[0] != 1.0:
        return None
    return factors[0] if isinstance(factors[0], Whole) else None


@lru_cache(maxsize=1 << 12)
def _matched(left: Sides, right: Sides) -> tuple[list[int], list[int], list[tuple[list[int], list[int]]]]:
    """Factors, by their groups: those of one side only, and by what of both may be correlated."""
    clusters: list[tuple[frozenset[Group], list[int], list[int]]] = []
    for side, factors in enumerate((left, right)):
        for k, groups in enumerate(factors):
            first, last = ([], [k]) if side else ([k], [])
            for one in [one for one in clusters if one[0] & groups]:
                clusters.remove(one)
                groups, first, last = groups | one[0], [*one[1], *first], [*one[2], *last]
            clusters.append((groups, first, last))
    alone = (
        [first for _, first, last in clusters if not last],
        [last for _, first, last in clusters if not first],
    )
    pairs = [(first, last) for _, first, last in clusters if first and last]
    return [k for (k,) in alone[0]], [k for (k,) in alone[1]], pairs


def _meeting(factor: Factor, others: Factors) -> tuple[int, int]:
    """How many of the other side a factor may be correlated with, and how young it is; of one group, none."""
    met = sum(bool(factor.groups & other.groups) for other in others) if len(factor.groups) > 1 else 0
    return met, factor.number if isinstance(factor, Whole) else 0


def _left(c: np.ndarray, m: int) -> np.ndarray:
    """An array of the left side, with dimensions of length one for the right one."""
    return c.reshape(*c.shape[:-1], *(1,) * m, c.shape[-1])


def _right(d: np.ndarray, n: int) -> np.ndarray:
    return d.reshape(*(1,) * n, *d.shape)


def _swapped(made: Made, n: int) -> Made:
    """The sides exchanged, the left one of n dimensions."""
    if made is None:
        return None
    return made.transpose(*range(n, made.ndim - 1), *range(n), made.ndim - 1)


def _outer(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _left(a, b.ndim - 1) * _right(b, a.ndim - 1)


def _times(a: Made, b: Made) -> Made:
    return None if a is None or b is None else a * b


def _plus(total: Made, made: Made, *factors: np.ndarray) -> Made:
    """The total, and what is made times factors."""
    if made is None:
        return total
    for factor in factors:
        if factor.size > 1 or factor.flat[0] != 1.0:
            made = made * factor
    return made if total is None else total + made
