"""`expect`: E f(Z), Z ~ N(mean, cov), in any dimension, with an error estimate.

| rank of the covariance | method |
|---|---|
| any, f a named function of one variable | closed form |
| any, blocks of independent coordinates | a short sum of products, each block by itself (`separate`) |
| up to 3, f smooth | trapezoidal rule (`lattice`) |
| up to 3, f with kinks, jumps, oscillation | nested adaptive panels (`nested`) |
| above | scrambled Sobol points (`sampling`), or Monte Carlo with control variates (`controls`) |
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

from tpnum.arguments import choice, number, shown
from tpnum.errors import AccuracyWarning, InputError, LimitError
from tpnum.functions import Function
from tpnum.gauss.controls import control_variates
from tpnum.gauss.estimate import Estimate
from tpnum.gauss.existence import check_growth
from tpnum.gauss.integrand import Integrand, NotFinite
from tpnum.gauss.lattice import Settled, trapezoidal
from tpnum.gauss.laws import of_entry, principal_factors, triangular_factors, validated
from tpnum.gauss.nested import cheapest, nested
from tpnum.gauss.sampling import sobol
from tpnum.gauss.separate import blocks, separated

METHODS = ("auto", "closed", "quadrature", "qmc", "mc")
_LARGEST = 3
"""The largest rank of quadrature."""
_BUDGET = 200_000_000
"""Evaluations of f by nested panels in one call, shared by its entries,"""
_MOST = 30_000_000
"""and for one entry."""
_LOOSE = 1e-5
"""A tolerance that Sobol points may reach for kinks in three dimensions, at a smaller price than panels."""


def expect(f: Any, mean: Any, cov: Any, rtol: float = 1e-6, method: str = "auto") -> Estimate:
    """E f(Z_1, .., Z_d), Z ~ N(mean, cov), over leading axes of ``mean`` (..., d) and ``cov`` (..., d, d).

    ``f`` takes d arrays of one length and returns an array of that length, or (k, length) for k components
    (the value is then (..., k)): a name, a NumPy-style function, or one jitted by Numba, of arrays or of
    numbers.  ``rtol`` is relative to E|f|; where it is not met an `AccuracyWarning` says what was reached.
    Two numbers ``mean`` and ``cov`` are the case d = 1.

    ``method``: "closed" (named functions of one variable), "quadrature" (rank up to 3, or blocks of it),
    "qmc", "mc" (with control variates), "auto".  Covariances may be singular.

    Raises InputError for arrays that are no Gaussian law and for functions that fail or return a wrong
    shape, LimitError where f is not finite or its expectation does not exist; both name the batch entry.
    """
    made, relative = certified(f, mean, cov, rtol, method)
    missed = relative > rtol * (1 + 1e-9)
    if np.any(missed):
        worst = int(np.argmax(relative))
        warnings.warn(
            f"expect: rtol = {rtol:g} was not reached in {int(missed.sum())} of {missed.size} expectations; "
            f"the worst error{of_entry(worst, missed.shape)} is {relative.flat[worst]:.1e}",
            AccuracyWarning,
            stacklevel=2,
        )
    return made


def certified(
    f: Any, mean: Any, cov: Any, rtol: float = 1e-6, method: str = "auto"
) -> tuple[Estimate, np.ndarray]:
    """`expect` with the errors relative to E|f| per entry of the batch, and without a warning."""
    choice(method, "method", METHODS)
    try:
        rtol = number(rtol, "rtol", above=0)
    except InputError:
        raise InputError(f"rtol must be positive, not {shown(rtol)}") from None
    mean, cov, shape = validated(mean, cov)
    f_at = Integrand(f, mean.shape[1])
    if not mean.shape[0]:
        return Estimate(np.empty(shape), np.empty(shape), "none", 0), np.empty(shape)
    run = _Run(method, shape)
    value, error, size, cost = run.solve(f_at, mean, cov, rtol)
    relative = np.max(error / (size + 1e-300), axis=1).reshape(shape)
    out = shape if f_at.components is None else (*shape, f_at.components)
    used = "+".join(run.used)
    return Estimate(value.reshape(out)[()], error.reshape(out)[()], used, cost), relative


class _Run:
    """One call: the choice of methods, and which were used."""

    def __init__(self, method: str, shape: tuple[int, ...]) -> None:
        self.method, self.shape = method, shape
        self.used: dict[str, None] = {}

    def solve(self, f_at: Integrand, mean: np.ndarray, cov: np.ndarray, rtol: float) -> Settled:
        """E f at means (n, d) and covariances (n, d, d)."""
        principal = principal_factors(cov, self.shape)
        used = max(1, int(np.count_nonzero(principal.any(axis=(0, 1)))))
        principal = np.ascontiguousarray(principal[:, :, :used])
        known = self.closed(f_at.function, mean, cov)
        if known is not None:
            return known
        factor = triangular_factors(cov) if used <= _LARGEST else principal
        rank = factor.shape[2]
        check_growth(f_at, mean, factor, self.shape)
        if self.method in ("auto", "quadrature"):
            apart = blocks(cov) if rank >= _LARGEST else []
            if len(apart) > 1:
                made = separated(f_at, mean, cov, apart[0], rtol, self.part)
                if made is not None:
                    return made
            if rank <= _LARGEST:
                return self.quadrature(f_at, mean, factor, principal, rtol)
            if self.method == "quadrature":
                raise LimitError(f"quadrature reaches dimension {_LARGEST}, not {rank}: use method='qmc'")
        return self.sampled(f_at, mean, principal, rtol)

    def part(self, f: Any, mean: np.ndarray, cov: np.ndarray, rtol: float) -> Settled:
        return self.solve(Integrand(f, mean.shape[1]), mean, cov, rtol)

    def note(self, name: str) -> None:
        self.used[name] = None

    def closed(self, f: Function | None, mean: np.ndarray, cov: np.ndarray) -> Settled | None:
        """Known means of named functions of one variable."""
        if self.method not in ("auto", "closed"):
            return None
        made = None if f is None or mean.shape[1] > 1 else _known(f, mean[:, 0], cov[:, 0, 0])
        if made is None:
            if self.method == "closed":
                what = "this function" if f is None else str(f)
                raise LimitError(
                    f"no closed form is known for E {what} in dimension {mean.shape[1]}: use method='auto'"
                )
            return None
        self.note("closed")
        return made, 4e-15 * np.abs(made), np.abs(made), 0

    def sampled(self, f_at: Integrand, mean: np.ndarray, factor: np.ndarray, rtol: float) -> Settled:
        self.note("mc" if self.method == "mc" else "qmc")
        sampler = control_variates if self.method == "mc" else sobol
        try:
            return sampler(f_at, mean, factor, rtol)
        except NotFinite:
            for i in range(mean.shape[0]):  # which entry was it?
                try:
                    sampler(f_at, mean[i : i + 1], factor[i : i + 1], rtol)
                except NotFinite as error:
                    raise LimitError(f"{error}{of_entry(i, self.shape)}") from None
            raise

    def quadrature(
        self, f_at: Integrand, mean: np.ndarray, factor: np.ndarray, principal: np.ndarray, rtol: float
    ) -> Settled:
        """The lattice; what it leaves unsettled goes to the ways that a rough function has."""
        self.note("quadrature")
        value, error, size, cost = trapezoidal(f_at, mean, factor, rtol)
        todo = np.arange(mean.shape[0])
        tried: set[str] = set()
        while True:
            todo = todo[np.any(error[todo] > rtol * size[todo], axis=1)]
            way = self.next(factor.shape[2], todo.size, rtol, tried)
            if not todo.size or way is None:
                return value, error, size, cost
            tried.add(way)
            if way == "qmc":
                made = self.sampled(f_at, mean[todo], principal[todo], rtol)
            else:
                guess = np.max(size[todo], axis=1)
                budget = min(_MOST, _BUDGET // todo.size)
                made = nested(f_at, mean[todo], factor[todo], guess, rtol, budget, partial(self.entry, todo))
            cost += made[3]
            # a lattice that failed has no error to believe
            better = (made[1] < error[todo]) | (len(tried) == 1)
            for kept, new in zip((value, error, size), made[:3], strict=True):
                kept[todo] = np.where(better, new, kept[todo])

    def next(self, rank: int, count: int, rtol: float, tried: set[str]) -> str | None:
        """How to go on with ``count`` rough entries: nested panels as far as their price allows."""
        affordable = cheapest(rank) * count <= _BUDGET
        ways = ["nested"] if affordable else []
        if self.method == "auto" and (not affordable or (rank == _LARGEST and rtol > _LOOSE)):
            ways.insert(0, "qmc")
        return next((way for way in ways if way not in tried), None)

    def entry(self, rows: np.ndarray, i: int) -> str:
        return of_entry(int(rows[i]), self.shape)


def _known(f: Function, mean: np.ndarray, q: np.ndarray) -> np.ndarray | None:
    from tpnum.gauss.closed import FAMILIES

    if f.closed is None or f.closed[0] not in FAMILIES or np.any(mean):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        made = np.asarray(FAMILIES[f.closed[0]].mean(q, f.closed[1]), dtype=np.float64)
    if not np.all(np.isfinite(made)):
        raise LimitError(
            f"E {f} overflows or does not exist at variance {float(q[~np.isfinite(made)][0]):.6g}"
        )
    return np.broadcast_to(made, q.shape)[:, None].copy()
