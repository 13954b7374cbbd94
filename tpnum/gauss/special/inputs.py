"""What all special integrals share about their input: laws as batches, tolerances, and missed ones."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from tpnum.arguments import number, real_array, shown, whole
from tpnum.errors import AccuracyWarning, InputError
from tpnum.gauss.laws import principal_factors, validated


def law(mean: Any, cov: Any) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """(mean (n, d), cov (n, d, d), leading shape), checked; a number ``mean`` stands for all coordinates."""
    mean, cov = real_array(mean, "mean"), real_array(cov, "cov")
    if mean.ndim == 0 and cov.ndim:
        mean = np.broadcast_to(mean, cov.shape[-1:])
    mean, cov, shape = validated(mean, cov)
    top = np.max(np.einsum("nii->ni", cov), axis=1, initial=0.0)
    try:  # ten times cheaper than the eigenvalues, and as a rule enough
        np.linalg.cholesky(cov + 1e-10 * top[:, None, None] * np.eye(cov.shape[1]))
    except np.linalg.LinAlgError:
        principal_factors(cov, shape)
    return mean, cov, shape


def split(first: int | None, d: int) -> int:
    """The size of the first of two blocks that make d coordinates: half of them by default."""
    if first is None:
        if d % 2:
            raise InputError(f"first must be given: {d} coordinates have no halves")
        return d // 2
    return whole(first, "first", 1, d - 1)


def centring(sizes: Sequence[int]) -> np.ndarray:
    """The projection that takes the mean away from each of the blocks."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    same = owner[:, None] == owner
    return np.eye(owner.size) - same / same.sum(axis=1)


def tolerance(atol: float) -> float:
    """``atol``, checked."""
    try:
        return number(atol, "atol", above=0)
    except InputError:
        raise InputError(f"atol must be a positive number, not {shown(atol)}") from None


def report(name: str, error: np.ndarray, atol: float) -> None:
    """Warn where the error is above the tolerance: `AccuracyWarning`, on the account of the user's call."""
    worst = float(np.max(error, initial=0.0))
    if worst > atol:
        level, frame = 1, sys._getframe()
        while frame.f_back is not None and frame.f_globals["__name__"].startswith("tpnum."):
            level, frame = level + 1, frame.f_back
        warnings.warn(
            f"{name}: atol = {atol:g} was not reached; the worst error is {worst:.1e}",
            AccuracyWarning,
            stacklevel=level,
        )
