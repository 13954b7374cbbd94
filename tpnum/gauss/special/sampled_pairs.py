"""Functionals of two correlated Gaussian vectors on shared points: v = A x + B y given u = L x.

x and y are scrambled Sobol points, matched to the first two moments, in replicates whose spread is the
error.  Of a maximum the moments up to order two are found for each family alone, on more points, and those
of a product follow; only the product of what is left of both is averaged over the pairs' points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tpnum.gauss.special.families import NOTHING, PIECE, REPLICATES, Family, averaged, matched_points
from tpnum.kernels.jointly import LANES, conditional, max_products, slope_products

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tpnum.gauss.special.functional import Functional

LEAST, MOST = 9, 15
"""Powers of two of the points of a replicate."""

RICHER = 2
"""The moments of a family have so many powers of two more points than the pairs of families."""


@dataclass(frozen=True)
class _Moments:
    """E F, E F x, E F (x x' - I)/2 and E F^2 of every family, replicate by replicate."""

    c0: np.ndarray
    c1: np.ndarray
    c2: np.ndarray
    square: np.ndarray

    def at(self, r: int) -> _Moments:
        return _Moments(self.c0[r], self.c1[r], self.c2[r], self.square[r])


class Sampler:
    """Averages over points for two sides' families, to ``rtol`` of the largest value or within ``budget``."""

    def __init__(
        self, families: tuple[Family | None, Family | None], rtol: float, budget: int | None
    ) -> None:
        self.families, self.rtol = families, rtol
        most = MOST if budget is None else int(np.log2(max(budget // REPLICATES, 1)))
        self.most = min(max(most, LEAST), MOST)

    def mean(self, side: int, functional: Functional) -> tuple[np.ndarray, float]:
        """E of a functional of every family: (families, 1 or d)."""
        family = self._family(side)
        points = matched_points(family.cov.shape[1], self.most)
        made = [
            np.concatenate(
                [functional.value(family.at(w, x)).mean(axis=-1) for w in family.pieces(x.shape[1])]
            )
            for x in points
        ]
        return averaged(np.stack(made))

    def pairs(
        self,
        what: str,
        first: Functional,
        second: Functional,
        places: tuple[np.ndarray, np.ndarray],
        cross: np.ndarray,
        same: np.ndarray,
        direction: np.ndarray | None,
    ) -> tuple[np.ndarray, float]:
        """`tpnum.gauss.special.jointly.expectation` by points, as many as the accuracy takes."""
        rule = (_MaxValue if what == "value" else _MaxDerived) if first.kind == "max" else _Normalised
        power = min(LEAST, self.most)
        while True:
            run = rule(self, what, (first, second), places, direction, power)
            value, error = run(cross, same)
            enough = self.rtol * np.max(np.abs(value), initial=0.0)
            if error <= enough or power >= self.most:
                return value, error
            wanted = power + int(np.ceil(np.log2(error / max(enough, 1e-300)) / 0.8))
            power = min(max(power + 1, wanted), self.most)

    def _family(self, side: int) -> Family:
        family = self.families[side]
        assert family is not None
        return family


class _Rule:
    """A sum over pairs of families, replicate by replicate."""

    def __init__(
        self,
        sampler: Sampler,
        what: str,
        functionals: tuple[Functional, Functional],
        places: tuple[np.ndarray, np.ndarray],
        direction: np.ndarray | None,
        power: int,
    ) -> None:
        self.what, self.functionals, self.places, self.direction = what, functionals, places, direction
        self.left, self.right = sampler._family(0), sampler._family(1)
        self.power = power
        self.d, self.e = self.left.cov.shape[1], self.right.cov.shape[1]
        self.points = matched_points(self.d + self.e, power)

    def __call__(self, cross: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, float]:
        apart = np.flatnonzero(~same)
        made = np.zeros((REPLICATES, len(cross), *self.shape))
        a, b = (place[apart] for place in self.places)
        turned = np.empty((len(apart), self.e, self.d + self.e))
        root = np.zeros((self.e, self.e))
        conditional(cross[apart], self.left.factors[1], root, self.right.cov, a, b, NOTHING, turned)
        for r in range(REPLICATES):
            z = self.points[r]
            self.begin(r, z[: self.d])
            for at in self._pieces(len(apart), z.shape[1]):
                made[r, apart[at]] = self.products(apart[at], a[at], b[at], turned[at], z)
            if len(apart):
                made[r, apart] += self.known(r, apart, cross[apart])
        for some in np.array_split(np.flatnonzero(same), 1 + same.sum() // 1024):
            if len(some):
                made[:, some] = self.alone(some)
        value, _ = averaged(made)
        _, error = averaged(made[:, apart] if len(apart) else made)
        return value, error

    def _pieces(self, count: int, points: int) -> Iterator[slice]:
        step = max(1, PIECE // (self.e * points))
        for begin in range(0, count, step):
            yield slice(begin, min(begin + step, count))

    shape: tuple[int, ...] = ()

    def begin(self, r: int, x: np.ndarray) -> None:
        """The left families at the points of the r-th replicate."""
        raise NotImplementedError

    def products(
        self, cells: np.ndarray, a: np.ndarray, b: np.ndarray, turned: np.ndarray, z: np.ndarray
    ) -> np.ndarray:
        """Averages over the points for some cells, v = turned z."""
        v = (turned.reshape(-1, self.d + self.e) @ z).reshape(-1, self.e, z.shape[1])
        if self.right.mean is not None:
            v += self.right.mean[b][:, :, None]
        return self.product(cells, a, b, v)

    def product(self, cells: np.ndarray, a: np.ndarray, b: np.ndarray, v: np.ndarray) -> np.ndarray:
        """The same, the second vectors being given."""
        raise NotImplementedError

    def alone(self, cells: np.ndarray) -> np.ndarray:
        """The same where both sides are one vector, (replicates, cells, ..)."""
        raise NotImplementedError

    def known(self, r: int, cells: np.ndarray, cross: np.ndarray) -> np.ndarray | float:
        """What the r-th replicate's moments say without the pairs' points."""
        return 0.0


class _Max(_Rule):
    """What maxima share: points of a family alone, on which its moments are found."""

    def richly(self, family: Family) -> Iterator[tuple[int, slice, np.ndarray, np.ndarray]]:
        """(replicate, families, x, u) for all families of a side, on more points than pairs have."""
        d, power = family.cov.shape[1], self.power + RICHER
        for r, x in enumerate(matched_points(d, power)):
            for which in family.pieces(x.shape[1]):
                yield r, which, x, family.at(which, x)

    def whitened(self, cross: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """E x x', (cells, d, e)."""
        a, b = (place[cells] for place in self.places)
        return self.left.factors[1][a] @ cross @ self.right.factors[1][b].transpose(0, 2, 1)


class _MaxValue(_Max):
    """E F G of largest entries."""

    def __call__(self, cross: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, float]:
        self.moments = [
            self._moments(f, family)
            for f, family in zip(self.functionals, (self.left, self.right), strict=True)
        ]
        return super().__call__(cross, same)

    def _moments(self, functional: Functional, family: Family) -> _Moments:
        n, d = family.cov.shape[:2]
        made = np.zeros((REPLICATES, n, 2 + d + d * d))
        for r, which, x, u in self.richly(family):
            f = functional.value(u)[:, 0]
            terms = np.concatenate([np.ones((1, x.shape[1])), x, (x[:, None] * x[None]).reshape(d * d, -1)])
            made[r, which, 1:] = f @ terms.T / x.shape[1]
            made[r, which, 0] = np.einsum("wk,wk->w", f, f) / x.shape[1]
        second = made[:, :, 2 + d :].reshape(-1, n, d, d) - made[:, :, 1, None, None] * np.eye(d)
        return _Moments(made[:, :, 1], made[:, :, 2 : 2 + d], 0.5 * second, made[:, :, 0])

    def begin(self, r: int, x: np.ndarray) -> None:
        m, second = (moments.at(r) for moments in self.moments)
        inverse = self.right.factors[1]
        turned = inverse.transpose(0, 2, 1)
        self.right_c0 = second.c0 - np.einsum("wii->w", second.c2)
        self.right_c1 = np.einsum("wij,wj->wi", turned, second.c1)
        self.right_c2 = turned @ second.c2 @ inverse
        parts = []
        for which in self.left.pieces(x.shape[1]):
            f = self.functionals[0].value(self.left.at(which, x))[:, 0]
            f -= (m.c0[which] - np.einsum("wii->w", m.c2[which]))[:, None] + m.c1[which] @ x
            f -= np.einsum("wik,ik->wk", m.c2[which] @ x, x)
            parts.append(f)
        self.rest = np.concatenate(parts)

    def products(
        self, cells: np.ndarray, a: np.ndarray, b: np.ndarray, turned: np.ndarray, z: np.ndarray
    ) -> np.ndarray:
        floor = self.functionals[1].floor
        if floor is None or self.right.mean is not None:
            return super().products(cells, a, b, turned, z)
        points = z.shape[1]
        v, f, lanes, out = (
            np.empty((self.e, points)),
            np.empty((2, points)),
            np.empty(LANES),
            np.zeros(len(a)),
        )
        coefs = self.right_c0, self.right_c1, self.right_c2
        max_products(turned, z, b, floor, *coefs, self.rest, a, v, f, lanes, out)
        return out / points

    def product(self, cells: np.ndarray, a: np.ndarray, b: np.ndarray, v: np.ndarray) -> np.ndarray:
        points = v.shape[2]
        f = self.functionals[1].value(v)[:, 0]
        if self.right.mean is not None:
            v = v - self.right.mean[b][:, :, None]
        f = f - self.right_c0[b][:, None] - np.einsum("wi,wik->wk", self.right_c1[b], v)
        f -= np.einsum("wik,wik->wk", self.right_c2[b] @ v, v)
        return np.asarray(np.einsum("wk,wk->w", f, self.rest[a]) / points)

    def alone(self, cells: np.ndarray) -> np.ndarray:
        return self.moments[0].square[:, self.places[0][cells]]

    def known(self, r: int, cells: np.ndarray, cross: np.ndarray) -> np.ndarray:
        first, second = (moments.at(r) for moments in self.moments)
        a, b = (place[cells] for place in self.places)
        rho = self.whitened(cross, cells)
        made = first.c0[a] * second.c0[b] + np.einsum("wi,wij,wj->w", first.c1[a], rho, second.c1[b])
        return np.asarray(
            made + 2.0 * np.einsum("wij,wji->w", first.c2[a] @ rho, second.c2[b] @ rho.transpose(0, 2, 1))
        )


class _MaxDerived(_Max):
    """E of the derivatives of largest entries: W_i W_j', W = f(F) dF/du, with or without directions."""

    def __call__(self, cross: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, float]:
        self.shape = () if self.what == "slope" else (self.d, self.e)
        self.found = [
            self._moments(f, family)
            for f, family in zip(self.functionals, (self.left, self.right), strict=True)
        ]
        return super().__call__(cross, same)

    def _moments(self, functional: Functional, family: Family) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n, d = family.cov.shape[:2]
        mean, first = np.zeros((REPLICATES, n, d)), np.zeros((REPLICATES, n, d, d))
        square = np.zeros((REPLICATES, n, d))
        for r, which, x, u in self.richly(family):
            w = functional.weights(u)
            mean[r, which], first[r, which] = w.mean(axis=-1), w @ x.T / x.shape[1]
            square[r, which] = (w * w).mean(axis=-1)
        return mean, first, square

    def begin(self, r: int, x: np.ndarray) -> None:
        (p, h, _), (self.q, k, _) = ([part[r] for part in found] for found in self.found)
        self.kv = k @ self.right.factors[1]
        parts = []
        for which in self.left.pieces(x.shape[1]):
            w = self.functionals[0].weights(self.left.at(which, x))
            parts.append(w - p[which][:, :, None] - h[which] @ x)
        self.rest = np.concatenate(parts)

    def products(
        self, cells: np.ndarray, a: np.ndarray, b: np.ndarray, turned: np.ndarray, z: np.ndarray
    ) -> np.ndarray:
        floor = self.functionals[1].slope_floor
        if floor is None or self.right.mean is not None or self.what != "slope":
            return super().products(cells, a, b, turned, z)
        assert self.direction is not None
        points = z.shape[1]
        v, w, s = (np.empty((self.e, points)) for _ in range(3))
        f, lanes, out = np.empty((4, points)), np.empty(LANES), np.zeros(len(a))
        direction = np.ascontiguousarray(self.direction[cells].transpose(0, 2, 1))
        slope_products(turned, z, b, floor, self.q, self.kv, self.rest, a, direction, v, w, s, f, lanes, out)
        return out / points

    def product(self, cells: np.ndarray, a: np.ndarray, b: np.ndarray, v: np.ndarray) -> np.ndarray:
        w = self.functionals[1].weights(v) - self.q[b][:, :, None]
        w -= self.kv[b] @ (v if self.right.mean is None else v - self.right.mean[b][:, :, None])
        return self._directed(self.rest[a] @ w.transpose(0, 2, 1) / v.shape[2], cells)

    def _directed(self, made: np.ndarray, cells: np.ndarray) -> np.ndarray:
        assert self.direction is not None
        if self.what == "slope":
            return np.asarray(np.einsum("...wij,wij->...w", made, self.direction[cells]))
        return np.asarray(made * self.direction[cells][:, None, None])

    def alone(self, cells: np.ndarray) -> np.ndarray:
        square = self.found[0][2][:, self.places[0][cells]]
        return self._directed(square[..., None] * np.eye(self.d), cells)

    def known(self, r: int, cells: np.ndarray, cross: np.ndarray) -> np.ndarray:
        a, b = (place[cells] for place in self.places)
        (p, h, _), (q, k, _) = ([part[r] for part in found] for found in self.found)
        made = p[a][:, :, None] * q[b][:, None, :]
        made += h[a] @ self.whitened(cross, cells) @ k[b].transpose(0, 2, 1)
        return self._directed(made, cells)


class _Normalised(_Rule):
    """E F G' of normalised vectors, or of their Jacobians on either side of the directions."""

    def __call__(self, cross: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, float]:
        self.shape = (self.d, self.e)
        return super().__call__(cross, same)

    def begin(self, r: int, x: np.ndarray) -> None:
        first = self.functionals[0]
        found = [self._of(first, self.left.at(which, x)) for which in self.left.pieces(x.shape[1])]
        self.firsts = [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def _of(self, functional: Functional, u: np.ndarray) -> tuple[np.ndarray, ...]:
        return (functional.value(u),) if self.what == "value" else functional.jacobian(u)

    def product(self, cells: np.ndarray, a: np.ndarray, b: np.ndarray, v: np.ndarray) -> np.ndarray:
        return self._product(cells, [part[a] for part in self.firsts], self._of(self.functionals[1], v))

    def _product(
        self, cells: np.ndarray, left: list[np.ndarray], right: tuple[np.ndarray, ...]
    ) -> np.ndarray:
        if self.what == "value":
            return left[0] @ right[0].transpose(0, 2, 1) / left[0].shape[2]
        (n, out, inside), (m, put, within) = left, right
        pre, post = ((inside, within), (out, put)) if self.what == "slope" else ((out, put), (inside, within))
        assert self.direction is not None
        made = np.empty((len(cells), self.d, self.e))
        for c, cell in enumerate(cells):
            t = self.direction[cell][:, :, None] * pre[0][c][:, None] * pre[1][c][None]
            t -= t.mean(axis=0) + n[c][:, None] * np.einsum("ik,ijk->jk", n[c], t) / self.d
            t -= t.mean(axis=1)[:, None] + m[c][None] * np.einsum("jk,ijk->ik", m[c], t)[:, None] / self.e
            made[c] = np.einsum("ik,jk,ijk->ij", post[0][c], post[1][c], t, optimize=True) / t.shape[2]
        return made

    def alone(self, cells: np.ndarray) -> np.ndarray:
        made = []
        a = self.places[0][cells]
        for r in range(REPLICATES):
            x = self.points[r, : self.d]
            own = Family(self.left.cov[a], None if self.left.mean is None else self.left.mean[a])
            found = self._of(self.functionals[0], own.at(slice(None), x))
            made.append(self._product(cells, list(found), found))
        return np.stack(made)
