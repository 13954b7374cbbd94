"""The standard normal numbers of an ensemble: Sobol points for the leading ones, streams beyond."""

from __future__ import annotations

import numpy as np

from tpnum.kernels.draws import rows_of_normals, rows_of_quasi_normals
from tpnum.law.draws import number
from tpnum.law.sobol import scrambled

LEADING = 64
"""Gaussians that take Sobol points, in the order in which they are drawn."""

SHARE = 8
"""Gaussians are made uncorrelated, sample by sample, with as many as one for so many samples."""


class Draws:
    """The innovations of one replicate, each new one uncorrelated with those before it.

    Their sample means are 0 and their sample covariance the identity, as long as there are many more samples
    than Gaussians: what is linear in them is then averaged exactly.

    With a ``frame``, an orthogonal matrix, the leading innovations are that times Sobol points: its columns
    are the directions that matter most, since the coordinates of Sobol points are the better the earlier.
    """

    def __init__(self, seed: int, replicate: int, size: int, frame: np.ndarray | None = None) -> None:
        self.size = size
        self._key = (seed, replicate)
        self._leading = scrambled(LEADING, size.bit_length() - 1, number(*self._key))
        self._work = np.empty((2, size))
        self.made = np.empty((0, size))
        self._turned = np.empty((0, size)) if frame is None else frame @ self._rows(0, len(frame))

    def take(self, count: int) -> np.ndarray:
        """``count`` rows more; their numbers in ``made``."""
        begin = len(self.made)
        turned = self._turned[begin : begin + count]
        rows = np.concatenate([turned, self._rows(begin + len(turned), count - len(turned))])
        self.made = np.concatenate([self.made, self._cleaned(rows)])
        return np.arange(begin, begin + count)

    def _rows(self, begin: int, count: int) -> np.ndarray:
        """Those from the ``begin``-th on: of Sobol points, then of streams."""
        rows = np.empty((count, self.size))
        lead = max(0, min(LEADING - begin, count))
        if lead:
            rows_of_quasi_normals(self._leading[begin : begin + lead], self._work, rows[:lead])
        if lead < count:
            places = range(begin + lead, begin + count)
            keys = np.array([number(*self._key, place) for place in places], dtype=np.uint64)
            rows_of_normals(keys, self._work, rows[lead:])
        return rows

    def _cleaned(self, rows: np.ndarray) -> np.ndarray:
        rows -= rows.mean(axis=1, keepdims=True)
        before = self.made[: max(0, self.size // SHARE - len(rows))]
        if len(before):
            rows -= (rows @ before.T / self.size) @ before
        if len(rows) <= self.size // SHARE:
            root = np.linalg.cholesky(rows @ rows.T / self.size)
            return np.linalg.solve(root, rows)
        return rows / np.sqrt(np.mean(rows * rows, axis=1, keepdims=True))
