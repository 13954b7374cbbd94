"""`tpnum.amp`: approximate message passing, symmetric and rectangular, as a tensor program.

Rectangular, A of m x n entries N(0, 1/m), y = A x + w, delta = m/n:

    x_{t+1} = eta_t(x_t + A^T z_t),    z_t = y - A x_t + (1/delta) <eta'_{t-1}> z_{t-1}

Symmetric, S = A + A^T with entries of variance s^2/n, Y = (snr/n) x x^T + S:

    u_{t+1} = Y f_t - s^2 <f'_t> f_{t-1},    f_t = eta_t(u_t)

The last terms are the Onsager terms: they cancel the corrections that transposes bring (SL Thm 6.3), so that
what is denoised is the signal plus Gaussian noise, of the variance that the limit of the program gives: state
evolution.

Vector AMP, for rotation-invariant matrices of any spectrum, is not among these: every round of it solves a
linear system, by a resolvent of A^T A that no finite number of lines writes, and a Haar matrix is no matrix
of independent entries, which are all that the language has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import number, shown, whole
from tpnum.errors import InputError, TpnumError
from tpnum.messages.denoisers import as_denoiser
from tpnum.program import Vector
from tpnum.program.values import MatrixVar

if TYPE_CHECKING:
    from tpnum.limits.law import Law
    from tpnum.program import Program, Scalar

CLOSE = 1e-9


@dataclass(frozen=True)
class Amp:
    """The variables that `amp` wrote, round by round.

    ``estimates`` x_1, .., x_T (or f_1, ..); ``noisy`` what was denoised; ``tau2`` the variance of its noise
    as the algorithm measures it, and ``mse`` the mean squared errors E (x_t - x)^2 (none without a signal),
    both scalars.
    """

    program: Program
    estimates: tuple[Vector, ...]
    noisy: tuple[Vector, ...]
    tau2: tuple[Scalar, ...]
    mse: tuple[Scalar, ...]
    overlap: tuple[Scalar, ...]

    def state_evolution(self, **options: Any) -> Evolved:
        """The limits of ``tau2`` and ``mse``; options of `tpnum.limit`."""
        from tpnum.limits.limit import limit

        return Evolved(limit(self.program, **options), self)

    def simulate(self, width: Any, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The algorithm at a finite width: its ``tau2`` and ``mse`` by round."""
        from tpnum.program import simulate

        sample = simulate(self.program, width, seed=seed)
        return (
            np.array([float(sample.scalar(s)) for s in self.tau2]),
            np.array([float(sample.scalar(s)) for s in self.mse]),
        )

    def __repr__(self) -> str:
        return f"<Amp of {len(self.estimates)} rounds, {len(self.program.lines)} lines>"


class Evolved:
    """State evolution: ``tau2`` and ``mse`` by round, with their errors, from the law of the program."""

    def __init__(self, law: Law, of: Amp) -> None:
        self.law = law
        tau2 = [law.scalar(s) for s in of.tau2]
        mse = [law.scalar(s) for s in of.mse]
        overlap = [law.scalar(s) for s in of.overlap]
        self.tau2, self.tau2_error = _split(tau2)
        self.mse, self.mse_error = _split(mse)
        self.overlap, self.overlap_error = _split(overlap)

    def __repr__(self) -> str:
        return f"<Evolved of {self.tau2.size} rounds: tau2 {self.tau2[-1]:.6g}, by {self.law.method}>"


def _split(found: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([float(e.value) for e in found]), np.array([float(e.error) for e in found])


def amp(
    matrix: Any,
    denoiser: Any,
    steps: Any,
    *,
    signal: Any = None,
    noise: Any = 0.0,
    snr: Any = 0.0,
    start: Any = None,
    derivative: Any = None,
) -> Amp:
    """Append ``steps`` rounds of approximate message passing to the program of ``matrix``.

    Parameters
    ----------
    matrix
        A matrix of a program.  Rows and columns of two classes: rectangular, variance n/m so that columns
        have norm one.  Of one class: symmetric, S = A + A^T.
    denoiser
        A function eta(r) or eta(r, tau), tau^2 the variance of the noise in r; a name; `tpnum.messages.soft`
        (l1), `tpnum.messages.bayes` (posterior means; of a spike, its strength is divided
        out first).
    steps
        Rounds.
    signal
        The vector x that is looked for, in the class of the columns.
    noise
        Rectangular: the variance of w, or a vector of the class of the rows.
    snr
        Symmetric: the strength of the spike (snr/n) x x^T.
    start
        Symmetric: the vector that message passing begins with (one independent of the matrix).
    derivative
        The slope of ``denoiser`` in r, by differences if it is missing.

    Raises
    ------
    InputError
        What does not fit; the message names it.
    """
    if not isinstance(matrix, MatrixVar):
        raise InputError(f"matrix is {shown(matrix)}: a matrix of a program is needed, p.matrix(...)")
    count = whole(steps, "steps", 1, 10_000)
    eta = as_denoiser(denoiser, derivative)
    p = matrix.program
    if signal is not None:
        _vector(p, signal, "signal", matrix.cols)
    if matrix.rows == matrix.cols:
        if isinstance(noise, Vector) or number(noise, "noise"):
            raise InputError(
                "noise: symmetric message passing has none but the matrix; it belongs to measurements"
            )
        return _symmetric(matrix, eta, count, signal, number(snr, "snr", low=0.0), start)
    if signal is None:
        raise InputError("signal: the vector that the measurements are of is needed")
    if number(snr, "snr") or start is not None:
        raise InputError("snr and start belong to symmetric message passing; a rectangular one begins at 0")
    return _rectangular(matrix, eta, count, signal, noise)


def _vector(p: Program, v: Any, name: str, dim: str) -> Vector:
    if not isinstance(v, Vector):
        raise InputError(f"{name} is {shown(v)}: a vector of the program is needed")
    try:
        p._own(v)
    except TpnumError as problem:
        raise InputError(f"{name}: {problem}") from None
    if v.dim != dim:
        raise InputError(f"{name}: {v.name!r} is in {v.dim!r}, a vector of {dim!r} is needed")
    return v


def _rectangular(a: MatrixVar, eta: Any, steps: int, signal: Vector, noise: Any) -> Amp:
    p = a.program
    line = next(line for line in p.lines if getattr(line, "name", None) == a.name)
    delta = p.dims[a.rows] / p.dims[a.cols]
    var = getattr(line, "var", None)
    if var is None or abs(var * delta - 1.0) > CLOSE:
        raise InputError(
            f"matrix: {a.name!r} must be a matrix of variance n/m = {1.0 / delta:g}, so that its "
            "columns have norm one"
        )
    y = a @ signal
    if isinstance(noise, Vector):
        y = y + _vector(p, noise, "noise", a.rows)
    else:
        variance = number(noise, "noise", low=0.0)
        if variance:
            y = y + p.vector(p._auto("noise", bare=True), 0.0, variance, a.rows)
    y.name  # noqa: B018  (one line, whoever uses it)
    z, x, slope = y, None, None
    made: list[tuple[Vector, Vector, Scalar, Scalar, Scalar]] = []
    for _ in range(steps):
        if x is not None and slope is not None:
            z = y - a @ x + (slope * (1.0 / delta)) * z
        tau2 = p.mean(z * z)
        tau = p.apply("sqrt", tau2)
        noisy = a.T @ z if x is None else x + a.T @ z
        x, slope = eta.write(p, noisy, tau)
        away = x - signal
        made.append((x, noisy, tau2, p.mean(away * away), p.mean(x * signal)))
    return Amp(p, *map(tuple, zip(*made, strict=True)))


def _symmetric(a: MatrixVar, eta: Any, steps: int, signal: Vector | None, snr: float, start: Any) -> Amp:
    p = a.program
    line = next(line for line in p.lines if getattr(line, "name", None) == a.name)
    if getattr(line, "var", None) is None:
        raise InputError(f"matrix: {a.name!r} must be a matrix itself, not a transpose")
    square = 2.0 * line.var  # type: ignore[union-attr]
    if snr and signal is None:
        raise InputError("signal: a spike of this snr needs its vector")
    if start is None:
        raise InputError("start: the vector that message passing begins with is needed, as p.vector('x0')")
    f = _vector(p, start, "start", a.cols)
    before: Vector | None = None
    slope: Scalar | None = None
    made: list[tuple[Vector, Vector, Scalar, Scalar, Scalar]] = []
    for _ in range(steps):
        u = a @ f + a.T @ f
        if snr and signal is not None:
            u = u + (snr * p.mean(signal * f)) * signal
        if before is not None and slope is not None:
            u = u - (square * slope) * before
        tau2 = square * p.mean(f * f)
        tau = p.apply("sqrt", tau2)
        noisy: Vector = u
        gain: Scalar | None = None
        if eta.at_strength_one and snr and signal is not None:
            gain = 1.0 / (snr * p.mean(signal * f))
            noisy, tau = u * gain, tau * gain
        before = f
        f, slope = eta.write(p, noisy, tau)
        slope = slope if gain is None else gain * slope
        away = f - signal if signal is not None else f
        overlap = p.mean(f * signal) if signal is not None else p.mean(f * f)
        made.append((f, u, tau2, p.mean(away * away), overlap))
    return Amp(p, *map(tuple, zip(*made, strict=True)))
