"""Sobol sequences, scrambled by random linear matrices and a digital shift (Matousek 1998).

Point i is the sum without carry of the direction numbers at the ones of i's Gray code, and of the shift.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tpnum.gauss.points import sobol_sequence

BITS = 52
"""Binary digits of a scrambled coordinate."""


@lru_cache(maxsize=64)
def _directions(d: int, m: int) -> np.ndarray:
    """The leading m digits of the first m direction numbers, (d, m, m): SciPy's, by Joe and Kuo."""
    points = (sobol_sequence(d).random_base2(m) * 2.0**m).astype(np.uint64)
    at = 1 << np.arange(m)
    numbers = (points[at] ^ points[at - 1]).T
    return (numbers[:, :, None] >> np.arange(m - 1, -1, -1, dtype=np.uint64)) & np.uint64(1)


def scrambled(d: int, m: int, seed: int) -> np.ndarray:
    """For each of d coordinates the direction numbers of 2^m points, then the shift: (d, m + 1) integers."""
    rng = np.random.default_rng(seed)
    mix = np.tril(rng.integers(0, 2, (d, BITS, m), dtype=np.uint64), -1)
    mix[:, np.arange(m), np.arange(m)] = 1
    digits = (_directions(d, m) @ mix.transpose(0, 2, 1)) & np.uint64(1)
    places = np.uint64(1) << np.arange(BITS - 1, -1, -1, dtype=np.uint64)
    shift = rng.integers(0, 1 << BITS, (d, 1), dtype=np.uint64)
    return np.concatenate([digits @ places, shift], axis=1)
