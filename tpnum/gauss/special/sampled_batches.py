"""Batch normalisation followed by any function, by quasi-Monte Carlo over the batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpnum.errors import InputError, LimitError
from tpnum.functions import get
from tpnum.gauss.estimate import Estimate
from tpnum.gauss.laws import principal_factors
from tpnum.gauss.rules import values
from tpnum.gauss.special.goal import Aim, report
from tpnum.gauss.special.inputs import centring, halves, integral, law, real, split
from tpnum.gauss.special.randomised import Problems, adaptive, largest


@integral
def batchnorm_sampled(
    phi: Any, cov: Any, first: int | None = None, eps: float = 0.0, atol: float | None = None,
    *, rtol: float | None = None, budget: int | None = None,
) -> Estimate:  # fmt: skip
    """E h h' (..., d, d), h = phi(BN y), y ~ N(0, cov), for any elementwise phi: a name or a function.

    ``first``: the first ``first`` coordinates and the others are two batches, normalised apart; one
    batch by default.  BN y = (y - mean)/sqrt(var + ``eps``), var biased.  Scrambled Sobol points through
    the principal axes of the centred covariance, up to ``budget`` (2^18); an error of ``atol``, or of
    ``rtol`` times the largest entry, is enough (1e-3 both, if none is given).
    """
    goal, f = Aim.asked(atol, rtol, budget, 1e-3), get(phi)
    _, cov, shape = law(0.0, cov)
    n, d = cov.shape[:2]
    if real("eps", eps).shape or not 0.0 <= eps < np.inf:
        raise InputError(f"eps must be at least 0 and finite, not {eps!r}")
    sizes = [d] if first is None else [split(first, d), d - first]
    if min(sizes) < 2:
        raise InputError("a batch needs at least two examples")
    powers = halves(np.max(np.abs(cov), axis=(1, 2), initial=0.0))
    cov, spare = np.ldexp(cov, -2 * powers[:, None, None]), np.ldexp(float(eps), -2 * powers)
    within = centring(sizes)
    centred = within @ cov @ within
    variance = np.einsum("nii->ni", centred)
    spans = np.split(np.arange(d), np.cumsum(sizes)[:-1])
    top = np.max(np.einsum("nii->ni", cov), axis=1, initial=0.0)
    if eps == 0.0 and any(np.any(variance[:, span].sum(axis=1) <= 1e-13 * top) for span in spans):
        raise LimitError("a batch has coinciding examples only: its batch normalisation is 0/0")
    factor = principal_factors(0.5 * (centred + centred.transpose(0, 2, 1)))[:, :, : d - len(sizes)]

    def run(rows: np.ndarray, z: np.ndarray) -> np.ndarray:
        out = np.empty((rows.size, d * d))
        for i, row in enumerate(rows):
            x = factor[row] @ z
            for span in spans:
                x[span] /= np.sqrt(np.mean(x[span] ** 2, axis=0) + spare[row])
            h = values(f, x)
            out[i] = (h @ h.T).ravel()
        if not np.all(np.isfinite(out)):
            raise LimitError(f"{f} is not finite on normalised batches")
        return out

    reach = np.sqrt(max(sizes) - 1.0) * np.linspace(-1.0, 1.0, 257)  # of a normalised coordinate
    highest = float(np.max(np.abs(values(f, reach[None])), initial=0.0)) ** 2
    problems = Problems(n, factor.shape[2], d * d, d * (d + 30.0), highest)
    value, error, price = adaptive(problems, run, goal, largest)
    report("batchnorm_sampled", goal, error, largest(value), price)
    return Estimate(value.reshape(*shape, d, d), error.reshape(*shape, d, d), "qmc", price.cost)
