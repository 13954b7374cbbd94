"""Solves and log determinants of kernels that are only multiplied by: conjugate gradients, Lanczos.

A is any `scipy.sparse.linalg.LinearOperator` or array (symmetric positive definite), the noise included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh_tridiagonal

from tpnum.arguments import finite_array, number, shown, whole
from tpnum.errors import InputError
from tpnum.predict import arguments
from tpnum.tiles.pivoted import partial_cholesky

if TYPE_CHECKING:
    from tpnum.tiles.pivoted import Strip

MOST = 1 << 16
"""Probes that anyone could want."""


class Solved(NamedTuple):
    """A^-1 b, the steps that it took, and the largest residual relative to b."""

    x: np.ndarray
    steps: int
    residual: float


class LogDet(NamedTuple):
    """An estimate of log det A, and the standard error of its random probes."""

    value: float
    error: float


@dataclass(frozen=True, eq=False)
class Nearby:
    """(L L' + noise)^-1 with L of few columns: a preconditioner that knows its determinant.

    Made by `pivoted_cholesky`.
    """

    low: np.ndarray  # (N, rank)
    noise: float
    inner: np.ndarray  # the Cholesky factor of noise + L' L

    def __call__(self, b: np.ndarray) -> np.ndarray:
        return (b - self.low @ cho_solve((self.inner, True), self.low.T @ b)) / self.noise

    @property
    def rank(self) -> int:
        return self.low.shape[1]

    @property
    def logdet(self) -> float:
        """log det (L L' + noise)."""
        n, rank = self.low.shape
        return 2.0 * float(np.log(self.inner.diagonal()).sum()) + (n - rank) * float(np.log(self.noise))

    def sample(self, z: np.ndarray, w: np.ndarray) -> np.ndarray:
        """A Gaussian of covariance L L' + noise from standard ones (rank, ..) and (N, ..)."""
        return self.low @ z + np.sqrt(self.noise) * w


def pivoted_cholesky(
    diagonal: Any, rows: Callable[[np.ndarray], np.ndarray], noise: float, rank: int = 100
) -> Nearby:
    """The partial Cholesky factor of K with the pivot that is largest each time, and the noise beside it.

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

    def row(chosen: np.ndarray, take: Strip) -> None:
        take(slice(0, size), _row(rows, int(chosen[0]), size)[None])

    made = partial_cholesky(
        whole_diagonal, min(most, size), lambda one: whole_diagonal[one][:, None], row, block=1
    )
    low, count = made.rows.T, len(made.pivots)
    inner, _ = cho_factor(spread * np.eye(count) + low.T @ low, lower=True)
    return Nearby(low, spread, np.tril(inner))


def _row(rows: Callable[[np.ndarray], np.ndarray], at: int, size: int) -> np.ndarray:
    try:
        made = np.asarray(rows(np.array([at])), dtype=np.float64).reshape(-1)
    except Exception as problem:
        raise InputError(f"rows: row {at} of {size}, as the diagonal has, failed: {problem}") from problem
    if len(made) != size:
        raise InputError(f"rows: {len(made)} numbers for a row, and the diagonal has {size}")
    return made


def conjugate_gradients(
    a: Any, b: Any, *, near: Nearby | None = None, rtol: float = 1e-6, steps: int = 1000
) -> Solved:
    """A^-1 b for one or many right-hand sides (N, ..), all in one pass over A a step.

    Raises
    ------
    InputError : shapes that do not fit, or a direction of negative curvature: A is not positive definite.
    """
    times, size = _operator(a)
    _check_near(near, size)
    given = finite_array(b, "b")
    if given.ndim not in (1, 2) or len(given) != size:
        raise InputError(f"b: shape {given.shape} does not go with an operator a of {size} rows")
    wide = given.reshape(size, -1)
    tolerance, most = number(rtol, "rtol", above=0.0), whole(steps, "steps", 1)
    norm = np.linalg.norm(wide, axis=0)
    x, r = np.zeros_like(wide), wide.copy()
    z = r if near is None else near(r)
    p, rz = z.copy(), np.einsum("ij,ij->j", r, z)
    step, worst = 0, _worst(r, norm)
    while step < most and worst > tolerance:
        ap = times(p)
        curved = np.einsum("ij,ij->j", p, ap)
        if (curved < 0).any():
            raise InputError(
                "a is not positive definite: its quadratic form is negative in a direction; add a noise"
            )
        size_of = np.divide(rz, curved, out=np.zeros_like(rz), where=curved > 0)
        x += size_of * p
        r -= size_of * ap
        z = r if near is None else near(r)
        before, rz = rz, np.einsum("ij,ij->j", r, z)
        p = z + np.divide(rz, before, out=np.zeros_like(rz), where=before > 0) * p
        step += 1
        worst = _worst(r, norm)
    return Solved(x.reshape(given.shape), step, worst)


def lanczos_logdet(
    a: Any, *, near: Nearby | None = None, probes: int = 16, steps: int = 50, seed: Any = 0
) -> LogDet:
    """log det A by stochastic Lanczos quadrature: probes z of mean 0, z' log(A) z by Gauss quadrature.

    With ``near`` it is log det of the preconditioner plus that of P^-1/2 A P^-1/2, which is close to 1: few
    steps and probes then do.
    """
    times, size = _operator(a)
    _check_near(near, size)
    count, most = whole(probes, "probes", 1, MOST), whole(steps, "steps", 1)
    rng = arguments.generator(seed)
    if near is None:
        start = rng.choice([-1.0, 1.0], (size, count))
    else:
        start = near.sample(rng.standard_normal((near.rank, count)), rng.standard_normal((size, count)))
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.array([_quadrature(times, near, start[:, i], min(most, size)) for i in range(count)])
    error = float(found.std(ddof=1) / np.sqrt(count)) if count > 1 else np.inf
    return LogDet(float(found.mean()) + (near.logdet if near else 0.0), error)


def _quadrature(
    times: Callable[[np.ndarray], np.ndarray], near: Nearby | None, start: np.ndarray, steps: int
) -> float:
    """z' log(M) z, M = P^-1/2 A P^-1/2 and P^1/2 z = start, by Lanczos in the inner product of P^-1."""
    pull = near or (lambda v: v)
    q, s = start, pull(start)
    total = float(start @ s)
    scale = np.sqrt(total)
    q, s = q / scale, s / scale
    basis, duals = [q], [s]
    diagonal, off = [], []
    for _ in range(steps):
        w = times(s[:, None])[:, 0]
        diagonal.append(float(s @ w))
        if not np.isfinite(diagonal[-1]):
            raise InputError("a: its products overflow; scale it down")
        for u, v in zip(basis, duals, strict=True):  # all of them, twice: orthogonal to rounding
            w = w - (v @ w) * u
        for u, v in zip(basis, duals, strict=True):
            w = w - (v @ w) * u
        t = pull(w)
        square = float(w @ t)
        if square <= 1e-24 * max(diagonal) ** 2:
            break
        beta = np.sqrt(square)
        off.append(beta)
        q, s = w / beta, t / beta
        basis.append(q)
        duals.append(s)
    values, vectors = eigh_tridiagonal(np.array(diagonal), np.array(off[: len(diagonal) - 1]))
    if values[0] <= 0:
        raise InputError("a is not positive definite: an eigenvalue is not above 0; add a noise")
    return total * float(vectors[0] ** 2 @ np.log(values))


def _operator(a: Any) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    shape = getattr(a, "shape", None)
    if not (hasattr(a, "matmat") or isinstance(a, np.ndarray)) or not (
        isinstance(shape, tuple) and len(shape) == 2 and shape[0] == shape[1] and shape[0]
    ):
        raise InputError("a: a square array or scipy.sparse.linalg.LinearOperator is needed")
    if isinstance(a, np.ndarray):
        matrix = finite_array(a, "a", 2)
        return lambda v: matrix @ v, shape[0]
    return a.matmat, shape[0]


def _check_near(near: Any, size: int) -> None:
    if near is not None and not isinstance(near, Nearby):
        raise InputError(f"near is {shown(near)}: it must be what pivoted_cholesky makes, or None")
    if near is not None and len(near.low) != size:
        raise InputError(f"near is of {len(near.low)} examples, and a has {size} rows")


def _worst(r: np.ndarray, norm: np.ndarray) -> float:
    return float(np.max(np.divide(np.linalg.norm(r, axis=0), norm, out=np.zeros_like(norm), where=norm > 0)))
