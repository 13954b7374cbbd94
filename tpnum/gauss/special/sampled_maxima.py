"""Pairs of largest entries, and of their derivatives, on shared points.

Polynomials of degree two of either side alone, whose coefficients take more points than pairs have, make
their part of a product; only the product of what is left of both is averaged over the pairs' points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tpnum.gauss.special.families import PILOT, Family, normal_sets
from tpnum.gauss.special.leads import exact_argmax, exact_square
from tpnum.gauss.special.sampled_rules import Near, Rule
from tpnum.kernels.jointly import BLOCK, residual_products

if TYPE_CHECKING:
    from tpnum.gauss.special.functional import Functional

RICHER = 2
"""The moments of a family have so many powers of two more points than the pairs of families."""

BENT = 6
"""Up to so many entries the polynomials of all indicators of the largest are of degree two."""


@dataclass(frozen=True)
class _Moments:
    """E g, E g x and E g (x x' - I)/2 of entries g of every family, (families, g, ..).

    They are the coefficients of the best polynomials of degree two too.  ``bent``: whether the third are
    known; they are zero otherwise.
    """

    c0: np.ndarray
    c1: np.ndarray
    c2: np.ndarray
    bent: bool

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(self.c0 + other.c0, self.c1 + other.c1, self.c2 + other.c2, self.bent)

    def with_those(self, other: _Moments) -> np.ndarray:
        """E p p' of polynomials of both, (families, g, g')."""
        made = 0.0
        for weight, name in ((1.0, "c0"), (1.0, "c1"), (2.0, "c2")):
            one, two = (getattr(x, name).reshape(*self.c0.shape, -1) for x in (self, other))
            made = made + weight * one @ two.transpose(0, 2, 1)
        return np.asarray(made)

    @property
    def constant(self) -> np.ndarray:
        """(families, g)."""
        return np.asarray(self.c0 - np.einsum("wgii->wg", self.c2))

    def coefs(self, turned: np.ndarray | None = None) -> np.ndarray:
        """Those of `_monomials` of x, or of L x with the inverses ``turned`` of L: (families, g, terms)."""
        c1, c2 = self.c1, self.c2
        if turned is not None:
            c1 = c1 @ turned
            c2 = turned.transpose(0, 2, 1)[:, None] @ c2 @ turned[:, None]
        if not self.bent:
            return c1
        i, j = np.tril_indices(c2.shape[-1])
        return np.concatenate([c1, np.where(i == j, 1.0, 2.0) * c2[:, :, i, j]], axis=2)


@dataclass(frozen=True)
class _Side:
    """What is known of the entries g of every family of one side, replicate by replicate.

    ``fitted`` are moments at points of their own, which no replicate has: with them as coefficients a
    replicate's averages are unbiased, and their spread is all of their error.  ``seen`` are moments in the
    replicates and ``square`` E g g', (replicates, families, g, g).
    """

    fitted: _Moments
    seen: list[_Moments]
    square: np.ndarray

    def own(self, r: int) -> np.ndarray:
        """What polynomials say of E g g' in the r-th replicate, (families, g, g)."""
        return _own(self.fitted, self.seen[r])


def _own(fitted: _Moments, seen: _Moments) -> np.ndarray:
    """E g g' less that of residuals, E p g' + E g p' - E p p'."""
    made = fitted.with_those(seen)
    return np.asarray(made + made.transpose(0, 2, 1) - fitted.with_those(fitted))


def _monomials(x: np.ndarray, bent: bool) -> np.ndarray:
    """The entries of x (.., d, points) and, if ``bent``, their products."""
    if not bent:
        return x
    i, j = np.tril_indices(x.shape[-2])
    return np.concatenate([x, x[..., i, :] * x[..., j, :]], axis=-2)


class Largest(Rule):
    """E F G of largest entries, or of their derivatives: W_i W_j', W = f(F) dF/du, of two or directed."""

    usual: ClassVar = {"value": 1.8e-3, "slope": 6e-3, "back": 6e-3}

    def __call__(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.shape = (self.d, self.e) if self.what == "back" else ()
        (first, second), (left, right) = self.functionals, (self.left, self.right)
        known = self._side(first, left)
        one = first == second and left is right
        self.known = known, known if one else self._side(second, right)
        return super().__call__()

    @property
    def near(self) -> bool:
        return self.what == "value" or (self.what == "slope" and self.d == self.e)

    def _of(self, functional: Functional, u: np.ndarray) -> np.ndarray:
        """The entries g, (families, g, points)."""
        return functional.value(u) if self.what == "value" else functional.weights(u)

    def _side(self, functional: Functional, family: Family) -> _Side:
        d = family.cov.shape[1]
        (pilot,) = normal_sets(d, self.power + RICHER, PILOT)
        fitted, _ = self._moments(functional, family, pilot, None)
        exact = self._exact_square(functional, family)
        power = self.power + RICHER if exact is not None else self.alone_power
        seen, square = [], []
        for x in self.sets(d, power):
            rest, left = self._moments(functional, family, x, fitted)
            seen.append(fitted + rest)
            square.append(_own(fitted, seen[-1]) + left if exact is None else exact)
        return _Side(fitted, seen, np.stack(square))

    def _moments(
        self, functional: Functional, family: Family, x: np.ndarray, fitted: _Moments | None
    ) -> tuple[_Moments, np.ndarray]:
        """Averages at points, of residuals if polynomials are ``fitted``, and those of squares."""
        (n, d), points = family.cov.shape[:2], x.shape[1]
        count = 1 if self.what == "value" else d
        bent = count == 1 or d <= BENT
        c0, c1, c2 = np.zeros((n, count)), np.zeros((n, count, d)), np.zeros((n, count, d, d))
        square = np.zeros((n, count, count))
        i, j = np.tril_indices(d)
        monomials = _monomials(x, bent)
        terms = np.concatenate([np.ones((1, points)), monomials]).T / points
        for which in family.pieces(points):
            g = self._of(functional, family.at(which, x))
            if fitted is not None:
                g -= fitted.constant[which][:, :, None] + fitted.coefs()[which] @ monomials
            made = (g.reshape(-1, points) @ terms).reshape(len(g), count, -1)
            c0[which], c1[which] = made[:, :, 0], made[:, :, 1 : 1 + d]
            if bent:
                half = 0.5 * (made[:, :, 1 + d :] - (i == j) * made[:, :, :1])
                c2[which, :, i, j] = c2[which, :, j, i] = half
            square[which] = g @ g.transpose(0, 2, 1) / points
        return _Moments(c0, c1, c2, bent), square

    def _exact_square(self, functional: Functional, family: Family) -> np.ndarray | None:
        """E g g' (families, g, g) by quadrature, for small windows."""
        mean = family.means
        if self.what == "value":
            found = None if functional.floor is None else exact_square(mean, family.cov, functional.floor)
            return None if found is None else found[:, None, None]
        floor = functional.slope_floor
        found = None if floor is None else exact_argmax(mean, family.cov, floor)
        return None if found is None else found[:, :, None] * np.eye(self.d)

    def begin(self, r: int, x: np.ndarray) -> None:
        first, second = (known.fitted for known in self.known)
        constant, coefs = first.constant, first.coefs()
        terms = _monomials(x, first.bent)
        parts = []
        for which in self.left.pieces(x.shape[1]):
            g = self._of(self.functionals[0], self.left.at(which, x))
            g -= constant[which][:, :, None] + coefs[which] @ terms
            parts.append(g)
        self.rest = np.concatenate(parts)
        self.blocks = np.ascontiguousarray(self._in_blocks(self.rest))
        self.rest_square = self.rest @ self.rest.transpose(0, 2, 1) / x.shape[1]
        self.missing = [
            known.square[r] - known.own(r) - (self.rest_square if side == 0 else 0.0)
            for side, known in enumerate(self.known)
        ]
        self.second_constant, self.second_coefs = second.constant, second.coefs(self.right.factors[1])

    @staticmethod
    def _in_blocks(x: np.ndarray) -> np.ndarray:
        """(blocks, .., points of a block)."""
        return np.moveaxis(x.reshape(*x.shape[:-1], -1, BLOCK), -2, 0)

    def products(
        self, r: int, cells: np.ndarray, turned: np.ndarray, z: np.ndarray, near: Near | None, at: slice
    ) -> np.ndarray:
        a, b = (place[cells] for place in self.places)
        product, square = self._sums(cells, turned, z, a, b)
        made = self._directed(product + self._expected(r, a, b, self.cross[cells]), cells)
        if near is not None:
            first, second = self.rest_square[a], square
            near.product[r, at] = self._directed(product, cells)
            near.square[r, at] = 0.5 * (self._own(first, cells) + self._own(second, cells))
            missing = [self._own(self.missing[0][a], cells), self._own(self.missing[1][b] - second, cells)]
            if self.moments is not None:
                missing = [
                    m + q[cells] - self._own(known.square[r][place], cells)
                    for m, q, known, place in zip(missing, self.moments, self.known, (a, b), strict=True)
                ]
            near.missing[r, at] = 0.5 * (missing[0] + missing[1])
        return made

    def _sums(
        self, cells: np.ndarray, turned: np.ndarray, z: np.ndarray, a: np.ndarray, b: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Averages of products of residuals, and of those of the second side with themselves."""
        second, points = self.functionals[1], z.shape[1]
        count = self.rest.shape[1], self.second_coefs.shape[1]
        floor = second.floor if self.what == "value" else second.slope_floor
        if floor is None or self.right.mean is not None:
            v = self.second(cells, turned, z)
            g = self._of(second, v)
            if self.right.mean is not None:
                v = v - self.right.mean[b][:, :, None]
            g -= self.second_constant[b][:, :, None]
            g -= self.second_coefs[b] @ _monomials(v, self.known[1].fitted.bent)
            return self.rest[a] @ g.transpose(0, 2, 1) / points, g @ g.transpose(0, 2, 1) / points
        product, square = np.zeros((len(cells), *count)), np.zeros((len(cells), count[1], count[1]))
        rows = self.e, count[1], self.second_coefs.shape[2], 1 + count[1]
        residual_products(
            turned, np.ascontiguousarray(self._in_blocks(z)), b, floor, self.what != "value",
            self.second_constant, self.second_coefs, self.blocks, a,
            *(np.empty((n, BLOCK)) for n in rows), product, square,
        )  # fmt: skip
        return product / points, square / points

    def _expected(self, r: int, a: np.ndarray, b: np.ndarray, cross: np.ndarray) -> np.ndarray:
        """E g g' less that of products of residuals, (cells, g, g)."""
        first, second = self.known
        p, q, seen, other = first.fitted, second.fitted, first.seen[r], second.seen[r]
        rho = self.left.factors[1][a] @ cross @ self.right.factors[1][b].transpose(0, 2, 1)
        back = rho.transpose(0, 2, 1)
        rest = other.c0[b] - q.c0[b], other.c1[b] - q.c1[b], other.c2[b] - q.c2[b]
        made = seen.c0[a][:, :, None] * q.c0[b][:, None, :] + p.c0[a][:, :, None] * rest[0][:, None, :]
        made += seen.c1[a] @ (rho @ q.c1[b].transpose(0, 2, 1))
        made += p.c1[a] @ (rho @ rest[1].transpose(0, 2, 1))
        if p.bent and q.bent:
            for one, two in ((seen.c2[a], q.c2[b]), (p.c2[a], rest[2])):
                turned = back[:, None] @ one @ rho[:, None]
                flat = (c.reshape(*c.shape[:2], -1) for c in (turned, two))
                made += 2.0 * next(flat) @ next(flat).transpose(0, 2, 1)
        return np.asarray(made)

    def _directed(self, made: np.ndarray, cells: np.ndarray) -> np.ndarray:
        if self.what == "value":
            return made[..., 0, 0]
        assert self.direction is not None
        if self.what == "slope":
            return np.asarray(np.einsum("...wij,wij->...w", made, self.direction[cells]))
        return np.asarray(made * self.direction[cells][:, None, None])

    def _own(self, made: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """The same of one side with itself."""
        return self._directed(made, cells)

    def alone(self, cells: np.ndarray) -> np.ndarray:
        return self._directed(self.known[0].square[:, self.places[0][cells]], cells)

    def put(self, made: np.ndarray, cells: np.ndarray, moments: np.ndarray) -> None:
        made[:, cells] = moments

    def scale(self, value: np.ndarray) -> np.ndarray:
        """(E g^2 E g'^2)^(1/2), times the largest direction's: where values cancel, errors do not."""
        squares = [
            np.einsum("rwgg->w", known.square)[place] / len(self.replicates)
            for known, place in zip(self.known, self.places, strict=True)
        ]
        size = np.sqrt(squares[0] * squares[1])
        if self.direction is not None:
            size = size * np.abs(self.direction).reshape(len(size), -1).max(axis=1)
        return np.asarray(size)
