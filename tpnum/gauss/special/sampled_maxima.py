"""Pairs of largest entries, and of their derivatives, on shared points.

Polynomials of degree two of either side alone, whose coefficients take more points than pairs have, make
their part of a product; only the product of what is left of both is averaged over the pairs' points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tpnum.gauss.special.families import Family
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
class _Polynomials:
    """E g, E g x, E g (x x' - I)/2 and E g g' of the entries g of every family, replicate by replicate.

    Arrays (replicates, families, g, ..).  ``bent``: whether the third are known; they are zero otherwise.
    """

    c0: np.ndarray
    c1: np.ndarray
    c2: np.ndarray
    square: np.ndarray
    bent: bool

    def own(self, r: int) -> np.ndarray:
        """What polynomials say of E g g' in the r-th replicate, (families, g, g)."""
        c0, c1, c2 = (c[r].reshape(*c.shape[1:3], -1) for c in (self.c0, self.c1, self.c2))
        return np.asarray(sum(w * c @ c.transpose(0, 2, 1) for w, c in ((1.0, c0), (1.0, c1), (2.0, c2))))

    def constant(self, r: int) -> np.ndarray:
        """(families, g)."""
        return np.asarray(self.c0[r] - np.einsum("wgii->wg", self.c2[r]))

    def coefs(self, r: int, turned: np.ndarray | None = None) -> np.ndarray:
        """Those of `_monomials` of x, or of L x with the inverses ``turned`` of L: (families, g, terms)."""
        c1, c2 = self.c1[r], self.c2[r]
        if turned is not None:
            c1 = c1 @ turned
            c2 = turned.transpose(0, 2, 1)[:, None] @ c2 @ turned[:, None]
        if not self.bent:
            return c1
        i, j = np.tril_indices(c2.shape[-1])
        return np.concatenate([c1, np.where(i == j, 1.0, 2.0) * c2[:, :, i, j]], axis=2)


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
        known = self._polynomials(first, left)
        one = first == second and left is right
        self.known = known, known if one else self._polynomials(second, right)
        return super().__call__()

    @property
    def near(self) -> bool:
        return self.what == "value" or (self.what == "slope" and self.d == self.e)

    def _of(self, functional: Functional, u: np.ndarray) -> np.ndarray:
        """The entries g, (families, g, points)."""
        return functional.value(u) if self.what == "value" else functional.weights(u)

    def _polynomials(self, functional: Functional, family: Family) -> _Polynomials:
        n, d = family.cov.shape[:2]
        count = 1 if self.what == "value" else d
        bent = count == 1 or d <= BENT
        shape = len(self.replicates), n, count
        c0, c1, c2 = np.zeros(shape), np.zeros((*shape, d)), np.zeros((*shape, d, d))
        i, j = np.tril_indices(d)
        for r, x in enumerate(self.sets(d, self.power + RICHER)):
            points = x.shape[1]
            terms = np.concatenate([np.ones((1, points)), _monomials(x, bent)]).T / points
            for which in family.pieces(points):
                g = self._of(functional, family.at(which, x))
                made = (g.reshape(-1, points) @ terms).reshape(len(g), count, -1)
                c0[r, which], c1[r, which] = made[:, :, 0], made[:, :, 1 : 1 + d]
                if bent:
                    half = 0.5 * (made[:, :, 1 + d :] - (i == j) * made[:, :, :1])
                    c2[r, which, :, i, j] = c2[r, which, :, j, i] = half.transpose(2, 0, 1)
        exact = self._exact_square(functional, family)
        square = np.empty((*shape, count))
        square[:] = self._square(functional, family) if exact is None else exact
        return _Polynomials(c0, c1, c2, square, bent)

    def _square(self, functional: Functional, family: Family) -> np.ndarray:
        """The same by points, as many for every tile: what an example has with itself is one number."""
        made = []
        for x in self.sets(family.cov.shape[1], self.alone_power):
            for which in family.pieces(x.shape[1]):
                g = self._of(functional, family.at(which, x))
                made.append(g @ g.transpose(0, 2, 1) / x.shape[1])
        return np.concatenate(made).reshape(-1, len(family.cov), *made[0].shape[1:])

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
        first, second = self.known
        constant, coefs = first.constant(r), first.coefs(r)
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
        self.second_constant, self.second_coefs = second.constant(r), second.coefs(r, self.right.factors[1])

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
            g -= self.second_coefs[b] @ _monomials(v, self.known[1].bent)
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
        """E of products of polynomials, (cells, g, g)."""
        first, second = self.known
        rho = self.left.factors[1][a] @ cross @ self.right.factors[1][b].transpose(0, 2, 1)
        made = first.c0[r][a][:, :, None] * second.c0[r][b][:, None, :]
        made += first.c1[r][a] @ rho @ second.c1[r][b].transpose(0, 2, 1)
        if first.bent and second.bent:
            turned = rho.transpose(0, 2, 1)[:, None] @ first.c2[r][a] @ rho[:, None]
            flat = (c.reshape(*c.shape[:2], -1) for c in (turned, second.c2[r][b]))
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
