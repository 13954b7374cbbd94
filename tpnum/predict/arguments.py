"""What users hand to `tpnum.predict`: matrices, targets, noise, read once; a refusal names the argument."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpnum.arguments import finite_array, number, real_array, shown, whole
from tpnum.errors import InputError

_SYMMETRY = {np.dtype(np.float64): 1e-9, np.dtype(np.float32): 1e-4}
"""What entries that should be equal may differ by, in units of the largest."""
_ROWS = 1 << 8
"""Of blocks that are compared with those across the diagonal."""
LARGEST = 1e140
"""Of a target: likelihoods and losses sum squares, over eigenvalues that may be small."""


def square(k: Any, name: str = "k", *, overwrite: bool = False) -> np.ndarray:
    """A symmetric finite matrix in C order, a copy unless ``overwrite``; float32 is kept."""
    given = real_array(k, name)
    if given.ndim != 2 or given.shape[0] != given.shape[1] or not given.size:
        raise InputError(f"{name}: a square matrix is needed, not an array of shape {given.shape}")
    largest = max(float(given.max()), -float(given.min()))
    if not np.isfinite(largest):
        raise InputError(f"{name} must be finite; it holds NaN or infinity")
    tolerance = _SYMMETRY[given.dtype] * largest
    for top, left in ((i, j) for i in range(0, len(given), _ROWS) for j in range(0, i + 1, _ROWS)):
        rows, cols = slice(top, top + _ROWS), slice(left, left + _ROWS)
        apart = given[rows, cols] - given[cols, rows].T
        np.abs(apart, out=apart)
        if apart.max() > tolerance:
            row, col = divmod(int(apart.argmax()), apart.shape[1])
            i, j = top + row, left + col
            raise InputError(
                f"{name} is not symmetric: entries ({i}, {j}) and ({j}, {i}) are {given[i, j]:.6g} and "
                f"{given[j, i]:.6g}; give the kernel of the examples with themselves, of a net with "
                "Elementwise(fn) in the place of ElementwiseNumerical, whose fixed rule is not symmetric"
            )
    if given.diagonal().min() < 0:
        at = int(given.diagonal().argmin())
        raise InputError(
            f"{name} is not positive semidefinite: entry ({at}, {at}) is {given[at, at]:.6g}; "
            "a kernel's diagonal is never negative"
        )
    usable = overwrite and given.flags.c_contiguous and given.flags.writeable
    return given if usable else np.array(given, order="C")


def cross(k: Any, size: int, name: str = "k_new") -> np.ndarray:
    """The kernel of new examples (rows) with the ``size`` that were learned from."""
    given = finite_array(k, name, 2)
    if given.shape[1] != size or not len(given):
        raise InputError(
            f"{name}: shape {given.shape} is not (new examples, {size}), the kernel of new examples with "
            "those learned from"
        )
    return given


def targets(y: Any, size: int, name: str = "y", of: str = "k") -> np.ndarray:
    """Finite targets (N,) or (N, outputs)."""
    given = finite_array(y, name)
    if given.ndim not in (1, 2) or (given.ndim == 2 and not given.shape[1]):
        raise InputError(
            f"{name}: shape {given.shape} is neither (examples,) nor (examples, outputs); reshape it"
        )
    if len(given) != size:
        raise InputError(
            f"{name} has {len(given)} targets for the {size} examples of {of}; give one for each"
        )
    if (largest := np.abs(given).max()) > LARGEST:
        raise InputError(
            f"{name} holds {largest:.6g}, which is more than {LARGEST:g}; give it in another unit"
        )
    return np.array(given)


def variance(noise: Any, size: int, name: str = "noise") -> float | np.ndarray:
    """A noise variance for all, or one per example."""
    if not _several(noise):
        return number(noise, name, low=0.0)
    given = finite_array(noise, name, 1)
    if len(given) != size:
        raise InputError(f"{name} has {len(given)} variances for {size} examples; give a number or one each")
    if given.min() < 0:
        raise InputError(f"{name} holds {given.min():.6g}: a variance must be at least 0")
    return np.array(given)


def continued(y: np.ndarray, more: Any, size: int, of: str) -> np.ndarray:
    """Targets of ``size`` further examples, of as many outputs as ``y``."""
    given = targets(more, size, of=of)
    if given.shape[1:] != y.shape[1:]:
        raise InputError(f"y: shape {given.shape} does not continue targets of shape {y.shape}")
    return given


def further(noise: float | np.ndarray, more: Any, size: int) -> float | np.ndarray:
    """The noise of ``size`` further examples, that of the others unless ``more`` is given."""
    if more is None and isinstance(noise, np.ndarray):
        raise InputError("noise: it was given per example; give that of the new ones")
    return variance(noise if more is None else more, size)


def joined(noise: float | np.ndarray, size: int, more: float | np.ndarray, count: int) -> float | np.ndarray:
    """The noise of all: a number where all have the same."""
    if np.ndim(noise) == np.ndim(more) == 0 and noise == more:
        return noise
    return np.concatenate([np.broadcast_to(noise, size), np.broadcast_to(more, count)])


def folds_of(folds: Any, size: int) -> list[np.ndarray]:
    """Disjoint sets of example numbers from a number of folds, or from a list of arrays of numbers."""
    if not _several(folds):
        return list(np.array_split(np.arange(size), whole(folds, "folds", 2, size)))
    if not isinstance(folds, (list, tuple, np.ndarray)) or not all(map(_several, folds)):
        raise InputError(
            f"folds is {shown(folds)}: give a number of folds, or for each an array of its examples"
        )
    made = [finite_array(part, "folds", 1) for part in folds]
    given = np.concatenate(made) if made else np.empty(0)
    numbers = given.astype(int)
    if not len(given) or (numbers != given).any() or numbers.min() < 0 or numbers.max() >= size:
        raise InputError(f"folds: examples are numbered from 0 to {size - 1}; give arrays of such numbers")
    if len(set(numbers.tolist())) < len(numbers):
        raise InputError("folds: an example is in two folds; give disjoint ones")
    if any(len(part) == size for part in made):
        raise InputError("folds: one fold holds every example; nothing would be left to learn from")
    return [part.astype(int) for part in made if len(part)]


def generator(seed: Any) -> np.random.Generator:
    """A generator from a seed, or the one that is given."""
    try:
        return np.random.default_rng(seed)
    except Exception:
        raise InputError(
            f"seed is {shown(seed)}: it must be a whole number >= 0, a Generator or None"
        ) from None


def _several(value: Any) -> bool:
    """Whether a value is to be read as many numbers, not as one."""
    many = hasattr(value, "__len__") and getattr(value, "shape", None) != ()
    return many and not isinstance(value, (str, bytes))
