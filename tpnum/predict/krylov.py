"""Solves and log determinants of kernels that are only multiplied by: conjugate gradients, Lanczos.

A is any `scipy.sparse.linalg.LinearOperator` or array (symmetric positive definite), the noise included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigh_tridiagonal

from tpnum.arguments import finite_array, number, shown, whole
from tpnum.errors import InputError
from tpnum.predict import arguments
from tpnum.predict.nearby import Nearby

MOST = 1 << 16
"""Probes that anyone could want."""


class Solved(NamedTuple):
    """A^-1 b, the steps that it took, and the largest residual relative to b."""

    x: np.ndarray
    steps: int
    residual: float


class Probed(NamedTuple):
    """An estimate, and the standard error that its random probes leave."""

    value: float
    error: float


def conjugate_gradients(
    a: Any, b: Any, *, near: Nearby | None = None, start: Any = None, rtol: float = 1e-6, steps: int = 1000
) -> Solved:
    """A^-1 b for one or many right-hand sides (N, ..), all in one pass over A a step.

    ``start`` is where to begin, of the shape of b: what is known already saves steps.

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
    if start is not None:
        begin = finite_array(start, "start")
        if begin.shape != given.shape:
            raise InputError(f"start: shape {begin.shape} is not that of b, {given.shape}")
        x = begin.reshape(wide.shape).copy()
        r -= times(x)
    z = r if near is None else near(r)
    p, rz = z.copy(), _columns(r, z)
    step, worst = 0, _worst(r, norm)
    while step < most and worst > tolerance:
        ap = times(p)
        curved = _columns(p, ap)
        if (curved < 0).any():
            raise InputError(
                "a is not positive definite: its quadratic form is negative in a direction; add a noise"
            )
        size_of = np.divide(rz, curved, out=np.zeros_like(rz), where=curved > 0)
        x += size_of * p
        r -= size_of * ap
        z = r if near is None else near(r)
        before, rz = rz, _columns(r, z)
        p = z + np.divide(rz, before, out=np.zeros_like(rz), where=before > 0) * p
        step += 1
        worst = _worst(r, norm)
    return Solved(x.reshape(given.shape), step, worst)


def lanczos_logdet(
    a: Any, *, near: Nearby | None = None, probes: int = 16, steps: int = 50, seed: Any = 0
) -> Probed:
    """log det A by stochastic Lanczos quadrature: probes z of mean 0, z' log(A) z by Gauss quadrature.

    All probes share one pass over A a step.  With ``near`` it is log det of the preconditioner plus that of
    P^-1/2 A P^-1/2, which is close to 1: few steps and probes then do.
    """
    times, size = _operator(a)
    _check_near(near, size)
    count, most = whole(probes, "probes", 1, MOST), whole(steps, "steps", 1)
    start = probes_of(near, size, count, arguments.generator(seed))
    with np.errstate(over="ignore", invalid="ignore"):
        found = _quadratures(times, near, start, min(most, size))
    return probed(found, near.logdet if near else 0.0)


def probes_of(near: Nearby | None, size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random columns (N, count) of covariance 1, or that of the preconditioner."""
    if near is None:
        return rng.choice([-1.0, 1.0], (size, count))
    return near.sample(rng.standard_normal((near.rank, count)), rng.standard_normal((size, count)))


def probed(found: np.ndarray, known: float = 0.0) -> Probed:
    """The mean of what probes found, beside what is known."""
    error = float(found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else np.inf
    return Probed(float(found.mean()) + known, error)


def _quadratures(
    times: Callable[[np.ndarray], np.ndarray], near: Nearby | None, start: np.ndarray, steps: int
) -> np.ndarray:
    """z' log(M) z, M = P^-1/2 A P^-1/2 and P^1/2 z = start, by Lanczos in the inner product of P^-1.

    A column of ``start`` is a probe; each has its own tridiagonal matrix, which ends where its Krylov space
    does.
    """
    q, s = start, start if near is None else near(start)
    totals = _columns(q, s)
    q, s = q / np.sqrt(totals), s / np.sqrt(totals)
    basis, duals = [q], [s]
    diagonals, offs = [], []
    sizes = np.zeros(start.shape[1], dtype=int)
    going = np.ones(start.shape[1], dtype=bool)
    for _ in range(steps):
        w = times(s)
        diagonals.append(_columns(s, w))
        if not np.isfinite(diagonals[-1]).all():
            raise InputError("a: its products overflow; scale it down")
        sizes += going
        for _ in range(2):  # orthogonal to all of them, twice: to rounding
            for u, v in zip(basis, duals, strict=True):
                w = w - _columns(v, w) * u
        t = w if near is None else near(w)
        squares = _columns(w, t)
        going &= squares > 1e-24 * np.max(diagonals, axis=0) ** 2
        if not going.any():
            break
        beta = np.sqrt(np.where(going, squares, 1.0))
        offs.append(beta)
        q, s = w * (going / beta), t * (going / beta)
        basis.append(q)
        duals.append(s)
    made = np.empty(len(totals))
    for at, count in enumerate(sizes):
        values, vectors = eigh_tridiagonal(
            np.array([d[at] for d in diagonals[:count]]), np.array([b[at] for b in offs[: count - 1]])
        )
        if values[0] <= 0:
            raise InputError("a is not positive definite: an eigenvalue is not above 0; add a noise")
        made[at] = totals[at] * float(vectors[0] ** 2 @ np.log(values))
    return made


def _columns(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Inner products of columns."""
    return np.einsum("ij,ij->j", u, v)


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
        raise InputError(
            f"near is {shown(near)}: it must be what preconditioner or pivoted_cholesky makes, or None"
        )
    if near is not None and len(near.low) != size:
        raise InputError(f"near is of {len(near.low)} examples, and a has {size} rows")


def _worst(r: np.ndarray, norm: np.ndarray) -> float:
    return float(np.max(np.divide(np.linalg.norm(r, axis=0), norm, out=np.zeros_like(norm), where=norm > 0)))
