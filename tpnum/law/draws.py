"""Standard normal numbers for the samples of an ensemble: plain pseudo-random ones, or led by Sobol points.

Every Gaussian of a sample space has a name, which keys its pseudo-random stream, and a place, its number in
the order of work.  A piece of a replicate's samples gets the same numbers as the whole.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tpnum.law.sobol import scrambled

if TYPE_CHECKING:
    from tpnum.law.samples import Samples

LEADING = 16
"""Gaussians of a sample space that take Sobol points: beyond, pairs of coordinates are ill distributed."""


class Draws(Protocol):
    """The normal numbers of one replicate."""

    def room(self, dim: str) -> int:
        """How many rows of its own this needs below the vectors of a sample space."""

    def fill(self, dim: str, x: Samples, rows: np.ndarray, names: list[str], places: np.ndarray) -> None:
        """Rows of the sample space ``dim`` become the Gaussians of these names."""


def number(*words: object) -> int:
    """A key for a stream, by its names."""
    text = "\0".join(map(str, words)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


class Random:
    """Independent numbers: one stream per seed, replicate and name."""

    def __init__(self, seed: int, replicate: int) -> None:
        self.key = (seed, replicate)

    def room(self, dim: str) -> int:
        """See `Draws`."""
        return 0

    def fill(self, dim: str, x: Samples, rows: np.ndarray, names: list[str], places: np.ndarray) -> None:
        """See `Draws`."""
        x.normals(rows, [number(*self.key, dim, name) for name in names])


class Sobol(Random):
    """Sobol points for the leading Gaussians of a sample space, one scramble per seed, replicate and space.

    The others are pseudo-random numbers from which the sample regression on 1 and on the leading ones is
    taken off, scaled to variance 1.  The leading Gaussians carry most of the variance of most programs, so
    this removes what the others would add by being correlated with them by chance.
    """

    def __init__(self, seed: int, replicate: int, size: int, gaussians: dict[str, int]) -> None:
        super().__init__(seed, replicate)
        self.log2 = size.bit_length() - 1
        most = min(LEADING, size // 16)
        self.leading = {dim: min(count, most) for dim, count in gaussians.items()}
        self.cleaned = {dim for dim, count in gaussians.items() if count > most}
        self._found: dict[str, np.ndarray] = {}
        self._inverse: dict[str, np.ndarray] = {}

    def room(self, dim: str) -> int:
        """See `Draws`."""
        return self.leading[dim] + 1 if dim in self.cleaned else 0

    def fill(self, dim: str, x: Samples, rows: np.ndarray, names: list[str], places: np.ndarray) -> None:
        """See `Draws`."""
        leads = places < self.leading[dim]
        if leads.any():
            x.quasi(rows[leads], self._numbers(dim)[places[leads]])
        if not leads.all():
            names = [name for name, lead in zip(names, leads, strict=True) if not lead]
            super().fill(dim, x, rows[~leads], names, places[~leads])
            self._clean(dim, x, rows[~leads])

    def _numbers(self, dim: str) -> np.ndarray:
        if dim not in self._found:
            self._found[dim] = scrambled(self.leading[dim], self.log2, number(*self.key, dim))
        return self._found[dim]

    def _clean(self, dim: str, x: Samples, rows: np.ndarray) -> None:
        own = np.arange(x.height - self.room(dim), x.height)
        if dim not in self._inverse:
            x.constant(own[:1], 1.0)
            x.quasi(own[1:], self._numbers(dim))
            self._inverse[dim] = np.linalg.inv(x.inner(own, own).value())
        found, second = x.inner(rows, own), x.dots(rows, rows)
        moments = found.value()
        coefs = moments @ self._inverse[dim]
        scale = 1.0 / np.sqrt(second.value() - (coefs * moments).sum(axis=1))
        x.combine(rows, own, -scale[:, None] * coefs, scale)
