"""Families of Gaussian vectors on points that all of them share, and averages over replicates of these."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tpnum.gauss.points import point_sets

if TYPE_CHECKING:
    from collections.abc import Iterator

REPLICATES = 8
PILOT = range(REPLICATES, REPLICATES + 1)
"""A set of points that no replicate has."""

T95 = 2.365
"""Half a 95 % interval from so many replicates, in standard errors."""

NOTHING = 1e-9
"""Variances below this share of the largest are none."""

PIECE = 1 << 20
"""Numbers of an array at a time."""


@dataclass(frozen=True)
class Family:
    """Gaussian vectors: covariances (families, d, d), means (families, d) or None for zero."""

    cov: np.ndarray
    mean: np.ndarray | None = None

    @property
    def means(self) -> np.ndarray:
        """The means, (families, d), zeros too."""
        return np.zeros(self.cov.shape[:2]) if self.mean is None else self.mean

    @cached_property
    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """Symmetric roots L (families, d, d) of the covariances, and their inverses, zero on what is still.

        They are alike where covariances are: the points of families that are nearly equal are too.
        """
        values, vectors = np.linalg.eigh(0.5 * (self.cov + self.cov.transpose(0, 2, 1)))
        some = values > NOTHING * values[:, -1:]
        roots = np.sqrt(np.where(some, values, 0.0))
        inverse = np.divide(1.0, roots, out=np.zeros_like(roots), where=some)
        turned = vectors.transpose(0, 2, 1)
        return (vectors * roots[:, None, :]) @ turned, (vectors * inverse[:, None, :]) @ turned

    def at(self, which: slice, x: np.ndarray) -> np.ndarray:
        """u = L x + mean at points x (d, points): (families, d, points)."""
        made = self.factors[0][which] @ x
        return made if self.mean is None else made + self.mean[which][:, :, None]

    def pieces(self, points: int) -> Iterator[slice]:
        step = max(1, PIECE // (self.cov.shape[1] * points))
        for begin in range(0, len(self.cov), step):
            yield slice(begin, min(begin + step, len(self.cov)))


def normal_sets(d: int, power: int, sets: range) -> np.ndarray:
    """2^power normal points in each of some scrambled sets, (sets, d, points).

    They are as they come: made to fit moments that are known, they would be biased alike in every set, and
    that is seen in no spread.
    """
    return point_sets(d, power, 1 << power, sets).transpose(1, 0, 2)
