"""Derivatives of E f(u) g(v) by the law of (u, v) ~ N(0, [[q, c], [c, q']]), as expectations again.

At a correlation rho that stays u = sqrt(q) z grows with its variance; at variances that stay there is Price's
theorem:

    d E f(u) g(v) = sqrt(q q') E[f'(u) g'(v)] d rho + E[u f'(u) g(v)] d log q / 2
                    + E[f(u) v g'(v)] d log q' / 2

Where f(s u) = s^d f(u) the middle term is d times the expectation itself.  A jump J of f at k adds J times
a delta function to f': the density of u at k, times what is expected of the rest given u = k.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tpnum import functions
from tpnum.errors import LimitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.functions import Function

    Expect = Callable[[Function, Function, str], np.ndarray]

SPREAD = 1e-12
"""How far from a kink its two sides are looked at."""
POINTS = np.linspace(-40.0, 40.0, 4001) + 1e-4
"""Where a function is looked at to see whether it is constant."""
REACH, WIDE, NODES = 9.0, 2.0, 16
"""Deviations of a Gaussian that count, the widest panel of a function's argument, nodes of each."""


class Gaussians(NamedTuple):
    """Correlation as its signed co-correlation, and variances, of pairs (arrays that broadcast)."""

    e: np.ndarray
    q: np.ndarray
    q2: np.ndarray

    @property
    def rho(self) -> np.ndarray:
        return np.copysign(1.0 - np.abs(self.e), self.e)

    @property
    def scale(self) -> np.ndarray:
        return np.sqrt(self.q) * np.sqrt(self.q2)

    @property
    def root(self) -> np.ndarray:
        """sqrt(1 - rho^2), 1 where it would be 0: nothing moves there."""
        away = np.abs(self.e)
        return np.where(away > 0, np.sqrt(away * (2.0 - away)), 1.0)


class Partials(NamedTuple):
    """By rho, by log q / 2 and by log q' / 2."""

    rho: np.ndarray
    first: np.ndarray
    second: np.ndarray


def partials(f: Function, g: Function, what: str, of: Expect, at: Gaussians) -> Partials:
    """The derivatives of E f g (``what`` = "value") or of E f' g' ("slope").

    ``of(f, g, what)`` gives expectations of other functions of the same Gaussians, without delta functions.
    """
    known = CLOSED.get(f.closed[0]) if f == g and f.closed is not None and not f.n_scalars else None
    if known is not None:
        return known(f, what, of, at)
    if what == "slope":
        f, g = f.derivative(), g.derivative()
    swapped = Gaussians(at.e, at.q2, at.q)
    by_rho = np.zeros(1) if _is_flat(f) or _is_flat(g) else at.scale * of(f, g, "slope")
    by_rho = by_rho + _met(f, g, at) + _edges(f, g.derivative, at) * at.scale
    by_rho = by_rho + _edges(g, f.derivative, swapped) * at.scale
    first = _stretched(f, lambda h: of(h, g, "value"), lambda: g, at)
    second = _stretched(g, lambda h: of(f, h, "value"), lambda: f, swapped)
    return Partials(by_rho, first, second)


def _error_function(f: Function, what: str, of: Expect, at: Gaussians) -> Partials:
    """a erf(b u) + c: S = E f' g' = (4 a^2 b^2 / pi) (D D' - 4 b^4 c^2)^(-1/2) with D = 1 + 2 b^2 q."""
    assert f.closed is not None
    a, b, _ = f.closed[1]
    square, size = 2.0 * b * b, 4.0 * a * a * b * b / math.pi
    slope, c = of(f, f, "slope"), at.rho * at.scale
    first, second = 1.0 + square * at.q, 1.0 + square * at.q2
    if what == "value":
        return Partials(at.scale * slope, c * slope / first, c * slope / second)
    cube = slope**3 / size**2 if size else np.zeros(1)
    both = square * square * c
    return Partials(
        at.scale * both * cube, (c * both - square * at.q * second) * cube,
        (c * both - square * at.q2 * first) * cube,
    )  # fmt: skip


def _exponential(f: Function, what: str, of: Expect, at: Gaussians) -> Partials:
    """f'' = k f: exponentials, sines and cosines."""
    assert f.closed is not None
    name, (_, b, *_) = f.closed
    rate = b * b if name == "exp" else -b * b
    value, slope, c = of(f, f, "value"), of(f, f, "slope"), at.rho * at.scale
    own, by_cov = (value, slope) if what == "value" else (slope, rate * rate * value)
    return Partials(at.scale * by_cov, rate * at.q * own + c * by_cov, rate * at.q2 * own + c * by_cov)


def _gelu(f: Function, what: str, of: Expect, at: Gaussians) -> Partials:
    """u Phi(u), by the formulas of `tpnum.kernels.curves`."""
    away = np.abs(at.e) * (2.0 - np.abs(at.e))
    by_c, *by_logs = _gelu_partials(at.rho * at.scale, at.q, at.q2, at.q * at.q2 * away)
    by_c = of(f, f, "slope") if what == "value" else by_c
    first, second = by_logs[:2] if what == "value" else by_logs[2:]
    by_rho = at.scale * by_c
    return Partials(by_rho, first + at.rho * by_rho, second + at.rho * by_rho)


def _gelu_partials(c: np.ndarray, q: np.ndarray, q2: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, ...]:
    """E f'' f'', then E f f by log q / 2 and log q' / 2, then E f' f', where c stays; ``g`` = q q' - c^2."""
    y = 1.0 / (1.0 + q + q2 + g)
    root, square = np.sqrt(y) / (2.0 * np.pi), c * c
    values, slopes = [], []
    for own, other in ((q, q2), (q2, q)):
        i = 1.0 / (1.0 + own)
        f = i * (g * (1.0 + 2.0 * i) + 2.0 * i * other - square * y)
        values.append(root * own * f)
        slopes.append(root * c * own * (f * y - 2.0 * i * (1.0 + 2.0 * i + y + square * y * y)))
    by_c = (2.0 - (q + g) * y) * (2.0 - (q2 + g) * y) + 2.0 * square * y * y
    return root * by_c, *values, *slopes


CLOSED = {"erf": _error_function, "sin": _exponential, "exp": _exponential, "gelu": _gelu}
"""By the family of a function with itself: the derivatives in closed form."""


def _stretched(
    f: Function,
    of: Callable[[Function], np.ndarray],
    other: Callable[[], Function],
    at: Gaussians,
) -> np.ndarray:
    """E[u f'(u) g(v)], jumps included."""
    if f.degree is not None:
        return f.degree * of(f) if f.degree else np.zeros(1)
    total = np.zeros(1) if _is_flat(f) else of(times_u(f.derivative()))
    return total + _edges(f, other, at, places=True)


def _edges(f: Function, other: Callable[[], Function], at: Gaussians, places: bool = False) -> np.ndarray:
    """Sum over the jumps J at k of f of J density(k) E[g(v) | u = k], times k with ``places``."""
    total = np.zeros(1)
    for k, jump in jumps(f):
        if k or not places:
            g = other()
            if np.any(g(POINTS)):
                total = total + (k if places else 1.0) * jump * _density(k, at.q) * _given(g, k, at)
    return total


def times_u(f: Function) -> Function:
    """u -> u f(u)."""
    return functions.product(functions.get("identity"), f)


@lru_cache(maxsize=1024)
def jumps(f: Function) -> tuple[tuple[float, float], ...]:
    """(place, size) of the jumps of a function."""
    if f.continuous:
        return ()
    if f.arity != 1 or f.n_scalars or not f.has_values:
        raise LimitError(
            f"the derivative of an expectation of {f} is not available: its jumps are not known; ask for the "
            "NNGP, or use a nonlinearity of which more is known"
        )
    found = []
    for k in f.kinks:
        h = SPREAD * max(1.0, abs(k))
        below, above = np.asarray(f(np.array([k - h, k + h])))
        if abs(above - below) > 100.0 * h:
            found.append((k, float(above - below)))
    return tuple(found)


@lru_cache(maxsize=1024)
def _is_flat(f: Function) -> bool:
    """Whether f is constant between its jumps."""
    slope = f.derivative()
    return slope.has_values and not f.n_scalars and not np.any(slope(POINTS))


def _met(f: Function, g: Function, at: Gaussians) -> np.ndarray:
    """The sum over jumps of both of J J' sqrt(q q') times the density of (u, v) there."""
    total = np.zeros(1)
    for k, jump in jumps(f):
        for m, other in jumps(g):
            with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
                x, y = (np.where(q > 0, c / np.sqrt(q), 0.0) for c, q in ((k, at.q), (m, at.q2)))
                # (x^2 - 2 rho x y + y^2) / (1 - rho^2), without cancellation where both are near
                sign = np.where(np.signbit(at.e), -1.0, 1.0)
                apart = (x - sign * y) ** 2 + 2.0 * np.abs(at.e) * sign * x * y
                total = total + jump * other * np.exp(-0.5 * apart / at.root**2) / (2.0 * np.pi * at.root)
    return total


def _density(k: float, q: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        made = np.exp(-0.5 * k * k / q) / np.sqrt(2.0 * np.pi * q)
    return np.where(q > 0, made, 0.0)


def _given(g: Function, k: float, at: Gaussians) -> np.ndarray:
    """E[g(v) | u = k], by panels between the kinks of g, none wider than `WIDE` of v."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(at.q > 0, at.rho * np.sqrt(at.q2 / at.q) * k, 0.0)
    away = np.abs(at.e)
    std = np.sqrt(at.q2 * away * (2.0 - away))
    mean, std = np.broadcast_arrays(mean, np.maximum(std, 1e-150))
    # z of every kink; between two of them g is looked at inside, also where no width is left
    kinks = [-math.inf, *g.kinks, math.inf]
    edges = [np.clip((kink - mean) / std, -REACH, REACH) for kink in kinks]
    panels = max(4, math.ceil(2.0 * REACH * float(std.max()) / WIDE))
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    total = np.zeros(mean.shape)
    for (left, begin), (right, end) in itertools.pairwise(zip(kinks, edges, strict=True)):
        inner = [
            k + s * SPREAD * max(1.0, abs(k)) if math.isfinite(k) else k for k, s in ((left, 1), (right, -1))
        ]
        half = (end - begin) / (2 * panels)
        for p in range(panels):
            for node, weight in zip(nodes, weights, strict=True):
                z = begin + (2 * p + 1 + node) * half
                v = np.clip(mean + std * z, inner[0], inner[1])
                total += np.asarray(g(v)) * (np.exp(-0.5 * z * z) * (weight * half))
    return total / math.sqrt(2.0 * math.pi)


def stretch(
    f: Function,
    what: str,
    of: Callable[[Function], np.ndarray],
    known: Callable[[str], np.ndarray],
    q: np.ndarray,
) -> np.ndarray:
    """d E psi(u) / d log q of psi = f ("first"), f^2 ("second"), f' ("slope") or f'^2 ("slope_second").

    ``of(h)`` gives E h(u), ``known`` those four of f itself.
    """
    family = f.closed[0] if f.closed is not None and not f.n_scalars else ""
    if family in GROWTH:
        return GROWTH[family](f, what, known, q)
    power = 2 if what in ("second", "slope_second") else 1
    own = known(what)
    if what.startswith("slope"):
        f = f.derivative()
    if f.degree is not None:
        return 0.5 * power * f.degree * own
    total = np.zeros(1)
    if not _is_flat(f):
        moved = times_u(f.derivative())
        total = 0.5 * power * of(functions.product(f, moved) if power == 2 else moved)
    for k, _ in jumps(f):
        h = SPREAD * max(1.0, abs(k))
        a, b = np.asarray(f(np.array([k - h, k + h]))) ** power
        total = total + 0.5 * (b - a) * k * _density(k, q)
    return total


def _error_function_grows(
    f: Function, what: str, known: Callable[[str], np.ndarray], q: np.ndarray
) -> np.ndarray:
    """As `_error_function` with itself, u = v."""
    assert f.closed is not None
    a, b, _ = f.closed[1]
    square, size = 2.0 * b * b, 4.0 * a * a * b * b / math.pi
    if what == "first" or not size:
        return np.zeros(1)
    share = square * q / (1.0 + square * q)
    if what == "slope":
        return -0.5 * share * known(what)
    steep = known("slope_second")
    return share / square * steep if what == "second" else -square * q * steep**3 / size**2


def _exponential_grows(
    f: Function, what: str, known: Callable[[str], np.ndarray], q: np.ndarray
) -> np.ndarray:
    """E h(u) grows by E h''(u) / 2 where q does."""
    assert f.closed is not None
    name, (_, b, *_) = f.closed
    rate = b * b if name == "exp" else -b * b
    if what in ("first", "slope"):
        return 0.5 * rate * q * known(what)
    own, steep = known("second"), known("slope_second")
    return q * (steep + rate * own) if what == "second" else rate * q * (rate * own + steep)


def _gelu_grows(f: Function, what: str, known: Callable[[str], np.ndarray], q: np.ndarray) -> np.ndarray:
    """As `_gelu`, u = v: by both variances and by the covariance."""
    if what == "first":
        return known(what) * (1.0 - 0.5 * q / (1.0 + q))
    if what == "slope":
        return np.zeros(1)
    by_c, value, _, slope, _ = _gelu_partials(q, q, q, np.zeros(1))
    return value + q * known("slope_second") if what == "second" else slope + q * by_c


GROWTH = {
    "erf": _error_function_grows,
    "sin": _exponential_grows,
    "exp": _exponential_grows,
    "gelu": _gelu_grows,
}
"""By the family of a function: d E psi(u) / d log q in closed form."""
