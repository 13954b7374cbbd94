"""What all special integrals share about their input: real arrays, laws as batches, scales."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from tpnum.arguments import real_array, whole
from tpnum.errors import InputError, LimitError
from tpnum.gauss.laws import of_entry, principal_factors, validated

F = TypeVar("F", bound=Callable[..., Any])


def integral(function: F) -> F:
    """A public function: what under- or overflows on the way is its own affair, whatever `np.seterr` says."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args, **options)

    return call  # type: ignore[return-value]


def real(name: str, given: Any) -> np.ndarray:
    """An argument as a float64 array."""
    return np.asarray(real_array(given, name), dtype=np.float64)


def law(mean: Any, cov: Any) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """(mean (n, d), cov (n, d, d), leading shape), checked; a number ``mean`` stands for all coordinates."""
    mean, cov = real("mean", mean), real("cov", cov)
    if mean.ndim == 0 and cov.ndim:
        mean = np.broadcast_to(mean, cov.shape[-1:])
    mean, cov, shape = validated(mean, cov)
    powers = halves(np.max(np.abs(cov), axis=(1, 2), initial=0.0))[:, None, None]
    scaled = np.ldexp(cov, -2 * powers)
    top = np.max(np.einsum("nii->ni", scaled), axis=1, initial=0.0)
    try:  # ten times cheaper than the eigenvalues, and as a rule enough
        np.linalg.cholesky(scaled + 1e-10 * top[:, None, None] * np.eye(cov.shape[1]))
    except np.linalg.LinAlgError:
        principal_factors(cov, lambda i: of_entry(i, shape))
    return mean, cov, shape


def halves(variance: np.ndarray) -> np.ndarray:
    """k with variance/4^k of order one, 0 where there is none: powers of two scale without rounding."""
    return np.where(variance > 0.0, np.frexp(np.where(variance > 0.0, variance, 1.0))[1] // 2, 0)


def split(first: Any, d: int) -> int:
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


def root_mean_square(mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """The largest of the coordinates' (n,): what errors of first moments are relative to."""
    deviation = np.sqrt(np.maximum(np.einsum("nii->ni", cov), 0.0))
    return np.max(np.hypot(mean, deviation), axis=1, initial=0.0)


def finite(name: str, value: np.ndarray) -> np.ndarray:
    """The value; an error where it overflows."""
    if not np.all(np.isfinite(value)):
        raise LimitError(f"{name} overflows: rescale mean and cov")
    return value
