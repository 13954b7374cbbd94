"""Pairs of normalised vectors, and of their Jacobians, on shared points."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tpnum.gauss.special.families import Family
from tpnum.gauss.special.sampled_rules import Near, Rule

if TYPE_CHECKING:
    from tpnum.gauss.special.functional import Functional


class Normalised(Rule):
    """E F G' of normalised vectors, or of their Jacobians on either side of the directions."""

    usual: ClassVar = {"value": 2e-3, "slope": 1e-2, "back": 1e-2}

    def __call__(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.shape = (self.d, self.e)
        return super().__call__()

    def begin(self, r: int, x: np.ndarray) -> None:
        first = self.functionals[0]
        found = [self._of(first, self.left.at(which, x)) for which in self.left.pieces(x.shape[1])]
        self.firsts = [np.concatenate(parts) for parts in zip(*found, strict=True)]
        self.square = np.einsum("wik,wik->wi", self.firsts[0], self.firsts[0]) / x.shape[1]

    @property
    def near(self) -> bool:
        return self.what == "value" and self.moments is not None

    def _of(self, functional: Functional, u: np.ndarray) -> tuple[np.ndarray, ...]:
        return (functional.value(u),) if self.what == "value" else functional.jacobian(u)

    def products(
        self, r: int, cells: np.ndarray, turned: np.ndarray, z: np.ndarray, near: Near | None, at: slice
    ) -> np.ndarray:
        a = self.places[0][cells]
        found = self._of(self.functionals[1], self.second(cells, turned, z))
        made = self._product(cells, [part[a] for part in self.firsts], found)
        if near is not None:
            assert self.moments is not None
            squares = self.square[a], np.einsum("wik,wik->wi", found[0], found[0]) / z.shape[1]
            near.product[r, at] = made
            near.square[r, at] = _half(*squares)
            near.missing[r, at] = _half(*(q[cells] - s for q, s in zip(self.moments, squares, strict=True)))
        return made

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
        for r in range(len(self.replicates)):
            x = self.points[r, : self.d]
            own = Family(self.left.cov[a], None if self.left.mean is None else self.left.mean[a])
            found = self._of(self.functionals[0], own.at(slice(None), x))
            made.append(self._product(cells, list(found), found))
        return np.stack(made)

    def put(self, made: np.ndarray, cells: np.ndarray, moments: np.ndarray) -> None:
        i = np.arange(self.d)
        made[:, cells[:, None], i, i] = moments


def _half(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The mean of a number of the rows and of one of the columns, (cells, d, e)."""
    return np.asarray(0.5 * (first[:, :, None] + second[:, None, :]))
