"""Expectations that do not reduce to two Gaussians: by `tpnum.gauss.expect`, their errors kept account of."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from tpnum.errors import AccuracyWarning, LimitError, outside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpnum.law import graph

UNKNOWN = 0.5
"""A relative error from which on nothing is known: the moments of what is averaged blow up."""

RTOL = 1e-6
"""Relative accuracy asked of these expectations; everything else is good to rounding."""


class TooWide(LimitError):
    """An expectation has more correlated dimensions than the caller wants to pay for."""


class Account:
    """The largest error, relative to E|f|, of a calculation's joint expectations, and where it arose.

    ``rtol`` is the accuracy asked of them; one over more than ``most`` dimensions raises `TooWide`.
    """

    def __init__(self, rtol: float = RTOL, most: int | None = None) -> None:
        self.rtol, self.most = rtol, most
        self.error = 0.0
        self._where = ""
        self._warned = 0.0

    def expectation(
        self,
        factors: Sequence[graph.Factor],
        scalars: Sequence[Sequence[np.ndarray]],
        means: np.ndarray,
        cov: np.ndarray,
        where: str,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values and errors of `joint_expectation`; the largest relative one is noted."""
        width = int(np.max(np.count_nonzero(np.diagonal(cov, axis1=-2, axis2=-1), axis=-1), initial=0))
        if self.most is not None and width > self.most:
            raise TooWide(f"an expectation over {width} correlated Gaussians: {where}")
        try:
            value, spread, error = joint_expectation(factors, scalars, means, cov, self.rtol)
        except LimitError as failed:
            raise LimitError(f"the joint expectation over {where} has no limit: {failed}") from None
        if not error < UNKNOWN:
            raise LimitError(
                f"the joint expectation over {where} is not known to one digit (its error is {error:.1e} of "
                "E|f|): its moments do not exist or are beyond the reach of sampling; use a function that "
                "grows more slowly, or smaller variances"
            )
        self.note(error, where)
        return value, spread

    def note(self, error: float, where: str) -> None:
        if error > self.error:
            self.error, self._where = error, where

    def warn(self) -> None:
        """One warning if an expectation missed ``rtol``, none again unless a later one is worse."""
        if self.error > max(self.rtol * (1.0 + 1e-9), self._warned):
            self._warned = self.error
            warnings.warn(
                f"the joint expectation over {self._where} is known to {self.error:.1e} of E|f| only, "
                f"not to {self.rtol:g}",
                AccuracyWarning,
                stacklevel=outside(),
            )


def joint_expectation(
    factors: Sequence[graph.Factor],
    scalars: Sequence[Sequence[np.ndarray]],
    means: np.ndarray,
    cov: np.ndarray,
    rtol: float = RTOL,
) -> tuple[np.ndarray, np.ndarray, float]:
    """E prod_k f_k(u[args_k]; scalars_k) for a batch of Gaussians, errors, the largest relative to E|f|."""
    from tpnum.gauss.expect import certified

    *shape, d = means.shape
    if not any(scalars):

        def product(*u: np.ndarray) -> np.ndarray:
            out = np.ones_like(u[0])
            for factor in factors:
                out = out * factor.fn(*(u[i] for i in factor.args))
            return out

        made, relative = certified(product, means, cov, rtol=rtol)
        return np.asarray(made.value), np.asarray(made.error), float(np.max(relative, initial=0.0))
    values, errors = np.empty((2, int(np.prod(shape))))
    flat_means, flat_cov = means.reshape(-1, d), cov.reshape(-1, d, d)
    flat = [[np.broadcast_to(s, shape).ravel() for s in group] for group in scalars]
    worst = 0.0
    for n in range(len(values)):

        def product_at(*u: np.ndarray, n: int = n) -> np.ndarray:
            out = np.ones_like(u[0])
            for factor, group in zip(factors, flat, strict=True):
                out = out * factor.fn(*(u[i] for i in factor.args), *(s[n] for s in group))
            return out

        one, relative = certified(product_at, flat_means[n], flat_cov[n], rtol=rtol)
        values[n], errors[n] = one.value, one.error
        worst = max(worst, float(relative))
    return values.reshape(shape), errors.reshape(shape), worst
