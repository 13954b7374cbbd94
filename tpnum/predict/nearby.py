"""Preconditioners of low rank beside a diagonal, which know their inverse, determinant and a root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from tpnum.arguments import finite_array, number, whole
from tpnum.errors import InputError
from tpnum.predict import arguments
from tpnum.tiles.pivoted import partial_cholesky


@dataclass(frozen=True, eq=False)
class Nearby:
    """(L L' + D)^-1 with L of few columns and D the noise.

    Made by `preconditioner` and `pivoted_cholesky`.
    """

    low: np.ndarray  # (N, rank)
    noise: np.ndarray  # (N, 1)
    inner: np.ndarray  # the Cholesky factor of 1 + L' D^-1 L

    def __call__(self, b: np.ndarray) -> np.ndarray:
        """(L L' + D)^-1 b for columns (N, ..) of b."""
        scaled = b / self.noise
        return scaled - self.low @ cho_solve((self.inner, True), self.low.T @ scaled) / self.noise

    @property
    def rank(self) -> int:
        return self.low.shape[1]

    @property
    def logdet(self) -> float:
        """log det (L L' + D)."""
        return 2.0 * float(np.log(self.inner.diagonal()).sum()) + float(np.log(self.noise).sum())

    def sample(self, z: np.ndarray, w: np.ndarray) -> np.ndarray:
        """A Gaussian of covariance L L' + D from standard ones (rank, ..) and (N, ..)."""
        return self.low @ z + np.sqrt(self.noise) * w


def preconditioner(low: Any, noise: Any) -> Nearby:
    """The inverse of a low-rank factor and the noise: `tpnum.factor` makes such factors of nets.

    Parameters
    ----------
    low : (N, rank), K is close to low @ low.T.
    noise : the variance of the noise, more than 0: a number, or one per example.
    """
    given = finite_array(low, "low", 2)
    spread = arguments.variance(noise, len(given))
    if not np.min(spread) > 0:
        raise InputError("noise: it must be more than 0 for all examples; nothing else makes this invertible")
    column = np.array(np.broadcast_to(spread, len(given)))[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        beside = np.eye(given.shape[1]) + given.T @ (given / column)
    if not np.isfinite(beside).all():
        raise InputError("low: its products overflow beside the noise; scale both down")
    inner, _ = cho_factor(beside, lower=True)
    return Nearby(given, column, np.tril(inner))


def pivoted_cholesky(
    diagonal: Any, rows: Callable[[np.ndarray], np.ndarray], noise: float, rank: int = 100
) -> Nearby:
    """The partial Cholesky factor of K with the pivot that is largest each time, and the noise beside it.

    For matrices of one's own; for nets ``preconditioner(tpnum.factor(net, x, rank).columns, noise)`` is
    faster.

    Parameters
    ----------
    diagonal : (N,), of K without the noise.
    rows : a function that gives rows of K: (1, N) for an array of one example number.
    noise : the variance of the noise, more than 0.
    rank : columns at most; fewer where K is of lower rank.
    """
    whole_diagonal = finite_array(diagonal, "diagonal", 1)
    spread, most = number(noise, "noise", above=0.0), whole(rank, "rank", 1)
    size = len(whole_diagonal)

    def row(chosen: np.ndarray, out: np.ndarray) -> None:
        out[0] = _row(rows, int(chosen[0]), size)

    made = partial_cholesky(
        whole_diagonal, min(most, size), lambda one: whole_diagonal[one][:, None], row, block=1
    )
    return preconditioner(made.rows.T, spread)


def _row(rows: Callable[[np.ndarray], np.ndarray], at: int, size: int) -> np.ndarray:
    try:
        made = np.asarray(rows(np.array([at])), dtype=np.float64).reshape(-1)
    except Exception as problem:
        raise InputError(f"rows: row {at} of {size}, as the diagonal has, failed: {problem}") from problem
    if len(made) != size:
        raise InputError(f"rows: {len(made)} numbers for a row, and the diagonal has {size}")
    return made
