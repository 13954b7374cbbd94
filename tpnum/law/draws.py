"""Standard normal numbers for the samples of an ensemble: plain pseudo-random ones, or led by Sobol points.

Every Gaussian of a sample space has a name, which keys its pseudo-random stream, and a place, its number in
the order of work.  A piece of a replicate's samples gets the same numbers as the whole.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np

from tpnum.gauss.sampling import normal_points
from tpnum.kernels import ensemble as kernels

LEADING = 16
"""Gaussians of a sample space that take Sobol points: beyond, pairs of coordinates are ill distributed."""


class Draws(Protocol):
    """The normal numbers of one replicate."""

    def room(self, dim: str) -> int:
        """How many rows of its own this needs below the vectors of a sample space."""

    def fill(self, dim: str, x: np.ndarray, rows: np.ndarray, names: list[str], places: np.ndarray) -> None:
        """Rows of ``x``, an arena of the sample space ``dim``, become the Gaussians of these names."""


def _number(*words: object) -> int:
    text = "\0".join(map(str, words)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


class Random:
    """Independent numbers: one stream per seed, replicate and name."""

    def __init__(self, seed: int, replicate: int, first: int) -> None:
        self.key, self.first = (seed, replicate), first

    def room(self, dim: str) -> int:
        """See `Draws`."""
        return 0

    def fill(self, dim: str, x: np.ndarray, rows: np.ndarray, names: list[str], places: np.ndarray) -> None:
        """See `Draws`."""
        keys = np.array([_number(*self.key, dim, name) for name in names], dtype=np.uint64)
        kernels.normals(x, rows, keys, self.first)


class Sobol(Random):
    """Sobol points for the leading Gaussians of a sample space, one scramble per seed, replicate and space.

    The others are pseudo-random numbers from which the sample regression on 1 and on the leading ones is
    taken off, scaled to variance 1.  The leading Gaussians carry most of the variance of most programs, so
    this removes what the others would add by being correlated with them by chance.
    """

    def __init__(self, seed: int, replicate: int, first: int, size: int, gaussians: dict[str, int]) -> None:
        super().__init__(seed, replicate, first)
        self.log2 = size.bit_length() - 1
        most = min(LEADING, size // 16)
        self.leading = {dim: min(count, most) for dim, count in gaussians.items()}
        self.cleaned = {dim for dim, count in gaussians.items() if count > most}
        self._inverse: dict[str, np.ndarray] = {}

    def room(self, dim: str) -> int:
        """See `Draws`."""
        return self.leading[dim] + 1 if dim in self.cleaned else 0

    def fill(self, dim: str, x: np.ndarray, rows: np.ndarray, names: list[str], places: np.ndarray) -> None:
        """See `Draws`."""
        leads = places < self.leading[dim]
        if leads.any():
            x[rows[leads]] = self._points(dim, x.shape[1])[places[leads]]
        if not leads.all():
            rest = rows[~leads]
            names = [name for name, lead in zip(names, leads, strict=True) if not lead]
            super().fill(dim, x, rest, names, places[~leads])
            self._clean(dim, x, rest)

    def _points(self, dim: str, size: int) -> np.ndarray:
        scramble = _number(*self.key, dim) >> 1
        points = normal_points(self.leading[dim], self.log2, scramble)
        return points[:, self.first : self.first + size]

    def _clean(self, dim: str, x: np.ndarray, rows: np.ndarray) -> None:
        own = np.arange(x.shape[0] - self.room(dim), x.shape[0])
        if dim not in self._inverse:
            x[own[0]] = 1.0
            x[own[1:]] = self._points(dim, x.shape[1])
            gram = np.empty((own.size, own.size))
            kernels.inner(x, own, own, gram)
            self._inverse[dim] = np.linalg.inv(gram)
        moments = np.empty((rows.size, own.size))
        kernels.inner(x, rows, own, moments)
        second = np.empty(rows.size)
        kernels.dots(x, rows, rows, second)
        coefs = moments @ self._inverse[dim]
        scale = 1.0 / np.sqrt(second - (coefs * moments).sum(axis=1))
        kernels.remove(x, own, coefs, scale, rows)
