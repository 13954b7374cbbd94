"""Products of kernel matrices with vectors, the matrix read or computed tile by tile, never held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from tpnum.errors import InputError

if TYPE_CHECKING:
    from tpnum.tiles.stored import StoredMatrix


class StoredOperator(LinearOperator):  # type: ignore[misc]
    """A stored matrix as an operator: one pass over the disk for all vectors of a product."""

    def __init__(self, matrix: StoredMatrix):
        if matrix.ndim != 2:
            raise InputError(f"linear_operator: a matrix with index axes, {matrix.shape}, is no operator")
        self._matrix = matrix
        super().__init__(matrix.dtype, matrix.shape)

    def _matmat(self, vectors: np.ndarray) -> np.ndarray:
        parts = [self._matrix[rows] @ vectors for rows in self._matrix.tile_rows()]
        return np.concatenate(parts)

    def _matvec(self, vector: np.ndarray) -> np.ndarray:
        return self._matmat(vector.reshape(-1, 1))[:, 0]

    def _rmatmat(self, vectors: np.ndarray) -> np.ndarray:
        made: Any = 0
        for rows in self._matrix.tile_rows():
            made = made + self._matrix[rows].T @ vectors[rows]
        return np.asarray(made)

    def _rmatvec(self, vector: np.ndarray) -> np.ndarray:
        return self._rmatmat(vector.reshape(-1, 1))[:, 0]
