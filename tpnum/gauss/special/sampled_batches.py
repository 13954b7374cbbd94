"""Batch normalisation followed by any function, by quasi-Monte Carlo over the batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpnum.errors import InputError, LimitError
from tpnum.functions import get
from tpnum.gauss.estimate import Estimate
from tpnum.gauss.laws import principal_factors
from tpnum.gauss.rules import values
from tpnum.gauss.special.inputs import centring, law, report, split, tolerance
from tpnum.gauss.special.randomised import adaptive, normal_sets

_BLOCK = 1 << 20  # coordinates of points held at a time


def batchnorm_sampled(
    phi: Any, cov: Any, first: int | None = None, eps: float = 0.0, atol: float = 1e-3
) -> Estimate:
    """E h h' (..., d, d), h = phi(BN y), y ~ N(0, cov), for any elementwise phi: a name or a function.

    ``first``: the first ``first`` coordinates and the others are two batches, normalised apart; one
    batch by default.  BN y = (y - mean)/sqrt(var + ``eps``), var biased.  Scrambled Sobol points through
    the principal axes of the centred covariance.
    """
    atol, f = tolerance(atol), get(phi)
    _, cov, shape = law(0.0, cov)
    n, d = cov.shape[:2]
    if not eps >= 0.0:
        raise InputError(f"eps must be at least 0, not {eps!r}")
    sizes = [d] if first is None else [split(first, d), d - first]
    if min(sizes) < 2:
        raise InputError("a batch needs at least two examples")
    within = centring(sizes)
    centred = within @ cov @ within
    variance = np.einsum("nii->ni", centred)
    spans = np.split(np.arange(d), np.cumsum(sizes)[:-1])
    top = np.max(np.einsum("nii->ni", cov), axis=1, initial=0.0)
    if eps == 0.0 and any(np.any(variance[:, span].sum(axis=1) <= 1e-13 * top) for span in spans):
        raise LimitError("a batch has coinciding examples only: its batch normalisation is 0/0")
    factor = principal_factors(0.5 * (centred + centred.transpose(0, 2, 1)))[:, :, : d - len(sizes)]

    def run(rows: np.ndarray, log2: int) -> np.ndarray:
        sets = normal_sets(factor.shape[2], log2)
        out = np.empty((rows.size, sets.shape[0], d * d))
        step = max(1, _BLOCK // d)
        for i, row in enumerate(rows):
            for s, z in enumerate(sets):
                total = np.zeros((d, d))
                for begin in range(0, z.shape[1], step):
                    x = factor[row] @ z[:, begin : begin + step]
                    for span in spans:
                        x[span] /= np.sqrt(np.mean(x[span] ** 2, axis=0) + eps)
                    h = values(f, x)
                    total += h @ h.T
                out[i, s] = total.ravel() / z.shape[1]
        if not np.all(np.isfinite(out)):
            raise LimitError(f"{f} is not finite on normalised batches")
        return out

    value, error, cost = adaptive(run, n, atol)
    report("batchnorm_sampled", error, atol)
    return Estimate(value.reshape(*shape, d, d), error.reshape(*shape, d, d), "qmc", cost)
