"""Cells that pair Gaussian families, in an order of the sides that is a pair's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tpnum.gauss.special.families import Family

Moments = tuple[np.ndarray, np.ndarray]
"""E F^2 and E G^2 of every cell."""

ROUNDING = 1e-12
"""Differences below this share of the largest number are none."""


@dataclass(frozen=True)
class Cells:
    """Cells: each reads one family of the first side and one of the second, or of one side alone.

    Cell c pairs the families ``places[0][c]`` and ``places[1][c]``, with the covariances ``cross[c]`` (d, d')
    between them; None means independence.  ``same`` says where they are one vector.  ``direction`` are the
    covariances of the directions of derivatives, ``moments`` E F^2 and E G^2, where they are known better
    than by a pair's points.
    """

    families: tuple[Family | None, Family | None]
    places: tuple[np.ndarray | None, np.ndarray | None]
    cross: np.ndarray | None
    same: np.ndarray
    direction: np.ndarray | None = None
    moments: Moments | None = None

    def some(self, kept: np.ndarray) -> Cells:
        """Some of the cells, of the same families."""
        moments = None if self.moments is None else (self.moments[0][kept], self.moments[1][kept])
        return Cells(
            self.families, (_at(self.places[0], kept), _at(self.places[1], kept)), _at(self.cross, kept),
            self.same[kept], _at(self.direction, kept), moments,
        )  # fmt: skip


def _at(array: np.ndarray | None, kept: np.ndarray) -> np.ndarray | None:
    return None if array is None else array[kept]


@dataclass(frozen=True)
class Pairing:
    """`Cells` that have both sides: each pairs a family of the left with one of the right, a and b which."""

    left: Family
    right: Family
    a: np.ndarray
    b: np.ndarray
    cross: np.ndarray
    same: np.ndarray
    direction: np.ndarray | None = None
    moments: Moments | None = None

    def some(self, cells: np.ndarray) -> Pairing:
        """Some of the cells, with their families alone."""
        (left, a), (right, b) = (_used(f, at[cells]) for f, at in ((self.left, self.a), (self.right, self.b)))
        if self.left is self.right:
            left, both = _used(self.left, np.concatenate([self.a[cells], self.b[cells]]))
            right, (a, b) = left, np.split(both, 2)
        moments = None if self.moments is None else (self.moments[0][cells], self.moments[1][cells])
        direction = _at(self.direction, cells)
        return Pairing(left, right, a, b, self.cross[cells], self.same[cells], direction, moments)

    def oriented(self) -> tuple[Pairing, np.ndarray]:
        """The same with the sides in an order that is a pair's own, and the cells whose sides changed places.

        Families are told apart by their numbers, and where these are equal the cells by the covariances
        between both sides.
        """
        left, right, a, b = self.left, self.right, self.a, self.b
        if left.cov.shape[1] != right.cov.shape[1]:
            return self, np.zeros(len(a), dtype=bool)
        apart = sign(_numbers(left)[a], _numbers(right)[b])
        even = np.flatnonzero(apart == 0)
        cross = self.cross[even]
        size = cross[0].size if len(even) else 0
        apart[even] = sign(*(x.reshape(len(even), size) for x in (cross, cross.transpose(0, 2, 1))))
        turned = apart > 0
        both = left
        if not (np.array_equal(left.cov, right.cov) and np.array_equal(left.means, right.means)):
            both = Family(np.concatenate([left.cov, right.cov]), np.concatenate([left.means, right.means]))
            b = b + len(left.cov)
        if left.mean is None and right.mean is None:
            both = Family(both.cov)
        return (
            Pairing(
                both,
                both,
                np.where(turned, b, a),
                np.where(turned, a, b),
                _exchanged(self.cross, turned),
                self.same,
                None if self.direction is None else _exchanged(self.direction, turned),
                None if self.moments is None else _sorted(self.moments, turned),
            ),
            turned,
        )


def _used(family: Family, places: np.ndarray) -> tuple[Family, np.ndarray]:
    """The families that are named, and their places among these."""
    kept, at = np.unique(places, return_inverse=True)
    return Family(family.cov[kept], None if family.mean is None else family.mean[kept]), at.reshape(-1)


def _numbers(family: Family) -> np.ndarray:
    """What tells a family from others, (families, numbers)."""
    return np.concatenate([family.cov.reshape(len(family.cov), -1), family.means], axis=1)


def sign(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which of two rows is the larger by the first number that differs: 1 the first, -1, or 0 for neither."""
    apart = first - second
    some = np.abs(apart) > ROUNDING * np.max(np.abs(first), initial=0.0)
    at = np.argmax(np.pad(some, ((0, 0), (0, 1))), axis=1)
    return np.sign(np.take_along_axis(np.pad(apart * some, ((0, 0), (0, 1))), at[:, None], axis=1)[:, 0])


def _exchanged(matrices: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Transposes of those that are turned, if they are matrices."""
    if matrices.ndim == 1:
        return matrices
    return np.where(turned[:, None, None], matrices.swapaxes(1, 2), matrices)


def _sorted(moments: Moments, turned: np.ndarray) -> Moments:
    first, second = moments
    turned = turned.reshape(-1, *[1] * (first.ndim - 1))
    return np.where(turned, second, first), np.where(turned, first, second)
