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


class Rows:
    """Rows of points that become more: room is made for as many again, so that few are ever copied."""

    def __init__(self, width: int) -> None:
        self._held = np.empty((0, width))
        self.count = 0

    def __len__(self) -> int:
        return self.count

    @property
    def made(self) -> np.ndarray:
        """All so far."""
        return self._held[: self.count]

    def more(self, count: int) -> np.ndarray:
        """``count`` rows more, to be written."""
        begin, self.count = self.count, self.count + count
        if self.count > len(self._held):
            held = np.empty((max(self.count, 2 * len(self._held)), self._held.shape[1]))
            held[:begin] = self._held[:begin]
            self._held = held
        return self._held[begin : self.count]


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
        self._rows = Rows(size)
        self._turned = np.empty((0, size))
        if frame is not None:
            leading = np.empty((len(frame), size))
            self._write(leading, 0)
            self._turned = frame @ leading

    @property
    def made(self) -> np.ndarray:
        """All that were taken."""
        return self._rows.made

    def take(self, count: int) -> np.ndarray:
        """``count`` rows more; their numbers in ``made``."""
        begin = len(self._rows)
        rows = self._rows.more(count)
        turned = self._turned[begin : begin + count]
        rows[: len(turned)] = turned
        self._write(rows[len(turned) :], begin + len(turned))
        self._clean(rows, self.made[:begin])
        return np.arange(begin, begin + count)

    def _write(self, rows: np.ndarray, begin: int) -> None:
        """Make rows those from the ``begin``-th on: of Sobol points, then of streams."""
        count = len(rows)
        lead = max(0, min(LEADING - begin, count))
        if lead:
            rows_of_quasi_normals(self._leading[begin : begin + lead], self._work, rows[:lead])
        if lead < count:
            places = range(begin + lead, begin + count)
            keys = np.array([number(*self._key, place) for place in places], dtype=np.uint64)
            rows_of_normals(keys, self._work, rows[lead:])

    def _clean(self, rows: np.ndarray, before: np.ndarray) -> None:
        """Make the sample covariances of rows those of independent ones, as far as samples suffice."""
        rows -= rows.mean(axis=1, keepdims=True)
        before = before[: max(0, self.size // SHARE - len(rows))]
        if len(before):
            rows -= (rows @ before.T / self.size) @ before
        if len(rows) <= self.size // SHARE:
            root = np.linalg.cholesky(rows @ rows.T / self.size)
            rows[:] = np.linalg.inv(root) @ rows
        else:
            rows /= np.sqrt(np.mean(rows * rows, axis=1, keepdims=True))
