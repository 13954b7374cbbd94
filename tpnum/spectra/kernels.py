"""Kernel matrices of n inputs in nets of widths of the order of n (Fan and Wang 2020).

phi is centred and scaled, E phi = 0 and E phi^2 = 1 under N(0, 1); b = E phi', a = E phi'^2, gamma_l = n /
d_l, X_l = phi(W_l X_{l-1}) / sqrt(d_l), inputs of unit norm and nearly orthogonal.  Given X_{l-1}, the
conjugate kernel X_l' X_l is a sample covariance of population Phi_l = (1 - b^2) I + b^2 X_{l-1}' X_{l-1};
the NTK is r I + sum_l q_l X_l' X_l with q_l = b^{2(L-l)}, r = sum_{l<L} (a^{L-l} - q_l).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tpnum.arguments import choice, finite_array, number
from tpnum.errors import InputError, LimitError
from tpnum.functions import get
from tpnum.gauss.moments import bound
from tpnum.propagation.activation import Expectations
from tpnum.spectra.base import Measure, as_measure
from tpnum.spectra.closed import above, marchenko_pastur
from tpnum.spectra.convolve import marchenko_pastur_map
from tpnum.spectra.series import series
from tpnum.spectra.shapes import Described

KINDS = ("conjugate", "ntk")
DESCENT, NEWTON, FINAL = 2.5, 4, 40
SCAN, BISECTIONS = 600, 60
VISIBLE = 1e-9
ROUGH = 1e-8
"""Of the last coefficients of the NTK's density, whose edges are known to rounding of a bisection."""


@dataclass(frozen=True)
class Constants:
    """Of an activation: its mean, eta = Var phi, zeta = (E phi')^2, b^2 = zeta / eta, a = E phi'^2 / eta."""

    mean: float
    eta: float
    zeta: float
    a: float

    @property
    def b2(self) -> float:
        return self.zeta / self.eta


def constants(phi: Any) -> Constants:
    """The constants of the kernels of an activation, by quadrature: E phi' is E z phi(z).

    The scalars of a phi that takes its variance, as hermite does, are 1.  LimitError: it has no second moment
    under N(0, 1), or is constant.
    """
    given = get(phi)
    f = Expectations(bound(given, (1.0,) * given.n_scalars) if given.arity == 1 else given)
    found = f.second(1.0)
    u, w = f.nodes(1.0)
    root = np.sqrt(w)  # phi alone may overflow where phi sqrt(w) does not matter
    with np.errstate(all="ignore"):
        values = root * np.broadcast_to(np.asarray(f.f(u), dtype=np.float64), u.shape)
    mean = float(root @ values)
    eta = float(np.sum((values - mean * root) ** 2))
    if not abs(found - eta - mean * mean) <= 1e-9 * found:  # finer panels see another integral
        raise LimitError(f"phi: {given} has no second moment under N(0, 1)")
    if not eta > 0.0:
        raise LimitError(f"phi: {given} is constant; its kernel has no spectrum")
    return Constants(mean, eta, float((root * u) @ values) ** 2, float(f.slope_second(1.0)) / eta)


def kernel_spectrum(
    phi: Any, ratios: Any, data: Any = 1.0, *, kind: str = "conjugate", spikes: Any = ()
) -> KernelSpectrum:
    """The eigenvalues of the conjugate kernel, or of the NTK, of a net whose widths are of the order of n.

    Parameters
    ----------
    phi
        The activation, which is centred and scaled here: constant parts would only add an eigenvalue of
        order n.
    ratios
        gamma_1, .., gamma_L: inputs over the width of each layer, 0 of an infinitely wide one; a number for
        one layer.
    data
        The spectrum of the Gram matrix of the inputs: a number gamma_0 = n / d_0 (independent entries), a
        measure, or numbers, the eigenvalues of the Gram matrix x.x'/d.
    kind
        "conjugate" or "ntk".
    spikes
        Eigenvalues of the data's Gram matrix outside of its law, which are followed through the layers.
    """
    c = constants(phi)
    gammas = np.atleast_1d(finite_array(ratios, "ratios"))
    if gammas.ndim != 1 or not gammas.size or np.any(gammas < 0.0):
        raise InputError("ratios: one number n / d_l >= 0 per layer is needed, 0 of an infinitely wide one")
    start = _data(data)
    choice(kind, "kind", KINDS)
    outliers = [number(float(s), "spikes", above=0.0) for s in finite_array(spikes, "spikes").ravel()]
    laws = [start]
    followed = [tuple(outliers)]
    for gamma in gammas:
        population = laws[-1].affine(c.b2, 1.0 - c.b2)
        if not gamma:
            laws.append(population)
        elif c.b2 > 1e-15:
            laws.append(marchenko_pastur_map(population, float(gamma)))
        else:
            laws.append(marchenko_pastur(gamma))
        followed.append(tuple(_passed(population, 1.0 - c.b2 + c.b2 * s, float(gamma)) for s in followed[-1]))
        followed[-1] = tuple(s for s in followed[-1] if s == s)
    law: Measure = laws[-1]
    if kind == "ntk":
        made = NtkLaw(c.a, c.b2, tuple(map(float, gammas)), start)
        law = made.tabulated()
        found = [made.spike(s, law.edges) for s in outliers]
        followed[-1] = tuple(s for s in found if s == s)
    return KernelSpectrum(law, followed[-1], c, tuple(map(float, gammas)), kind)


def _data(data: Any) -> Measure:
    if isinstance(data, Measure):
        made = data
    elif np.ndim(data) == 0:
        made = marchenko_pastur(number(data, "data", above=0.0))
    else:
        made = as_measure(data, "data")
    if made.hull[0] < -1e-9 * max(1.0, made.hull[1]):
        raise InputError("data: the eigenvalues of a Gram matrix are not negative")
    return made


def _passed(population: Measure, at: float, gamma: float) -> float:
    """Where an eigenvalue of the population outside of its law comes out; NaN where the bulk hides it."""
    low, high = population.hull
    if low <= at <= high:
        return float("nan")
    g, slope = (float(x[0].real) for x in population._transform(np.array([at + 0j])))
    # t / (at - t) has the integral at g - 1
    out = at * (1.0 + gamma * (at * g - 1.0))
    bend = 1.0 + gamma * (at * g - 1.0) + at * gamma * (g + at * slope)
    return out if bend > 0.0 else float("nan")


class KernelSpectrum(Described):
    """The law of a kernel's eigenvalues, and ``spikes``, single eigenvalues outside of it."""

    def __init__(
        self, law: Measure, spikes: tuple[float, ...], c: Constants, ratios: tuple[float, ...], kind: str
    ) -> None:
        self.law, self.spikes, self.constants, self.ratios, self.kind = law, spikes, c, ratios, kind

    @property
    def mean(self) -> float:
        return self.law.mean

    @property
    def second(self) -> float:
        return self.law.second


@dataclass(frozen=True)
class NtkLaw:
    """The law of r I + sum_l q_l X_l' X_l by its deterministic equivalent.

    With c = r - z and q_L = 1 every layer is traded for a scalar s_k = 1/q_k + gamma_k (1/n) tr Phi_k R:
    (c, q_{k-1}) -> (c + (1 - b^2)/s_k, q_{k-1} + b^2/s_k), down to the data.
    """

    a: float
    b2: float
    gammas: tuple[float, ...]
    data: Measure

    @property
    def depth(self) -> int:
        return len(self.gammas)

    @property
    def shift(self) -> float:
        """The multiple r of the identity."""
        return float(sum(self.a ** (self.depth - k) - self.b2 ** (self.depth - k) for k in range(self.depth)))

    def _equations(self, z: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The s that the layers below give back, (L, points), and the trace of the resolvent."""
        depth, c = self.depth, self.shift - z
        q = np.empty((depth + 1, z.size), np.complex128)
        q[depth] = 1.0
        for k in range(depth, 0, -1):
            c = c + (1.0 - self.b2) / s[k - 1]
            q[k - 1] = self.b2 ** (depth - k + 1) + self.b2 / s[k - 1]
        # (1/n) tr 1 / (c + q_0 T) by the Cauchy transform of the data at -c/q_0
        at = above(-c / q[0])
        g = np.asarray(self.data.cauchy(at))
        trace = -g / q[0]
        inner = (1.0 - c * trace) / q[0]  # (1/n) tr T R
        made = np.empty_like(s)
        for k in range(1, depth + 1):
            population = (1.0 - self.b2) * trace + self.b2 * inner
            made[k - 1] = 1.0 / q[k] + self.gammas[k - 1] * population
            inner = population / (q[k] * s[k - 1])
        return made, trace

    def _solve(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """s and the trace at points of the closed upper half-plane."""
        size = self.bound
        height = 2.0 * size
        s = np.ones((self.depth, z.size), np.complex128)
        while True:
            at = z + 1j * height
            for _ in range(30 if height > size else 0):
                s = 0.5 * (s + self._equations(at, s)[0])
            for _ in range(NEWTON):
                s = self._newton(at, s)[0]
            if height < 1e-8 * size:
                break
            height /= DESCENT
        for _ in range(FINAL):
            s, moved = self._newton(z, s)
            if np.all(moved < 1e-10):
                break
        return s, self._equations(z, s)[1]

    def _newton(self, z: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        base = self._equations(z, s)[0] - s
        jacobian = np.empty((z.size, self.depth, self.depth), np.complex128)
        for k in range(self.depth):
            moved = s.copy()
            step = 1e-7 * np.abs(s[k])
            moved[k] += step
            jacobian[:, :, k] = ((self._equations(z, moved)[0] - moved - base) / step).T
        with np.errstate(all="ignore"):
            change = np.linalg.solve(jacobian, -base.T[:, :, None])[:, :, 0].T
        size = np.abs(change) / np.abs(s)
        change = np.where(size > 0.5, change * 0.5 / np.where(size > 0.0, size, 1.0), change)
        return s + change, np.max(size, axis=0)

    def spike(self, at: float, edges: np.ndarray) -> float:
        """Where an eigenvalue ``at`` of the data comes out; NaN where the bulk hides it.

        The equivalent in the data's eigenvectors, c + q_0 T, has it where -c/q_0 is that eigenvalue.
        """
        from scipy.optimize import brentq

        if self.data.hull[0] <= at <= self.data.hull[1]:
            return float("nan")
        above = at > self.data.hull[1]
        beyond = 1e-6 * self.bound
        if above:
            top = 2.0 * (
                self.bound + self.shift + at * float(np.prod([(1 + g**0.5) ** 2 for g in self.gammas]))
            )
            ends = (edges[-1, 1] + beyond, top * (1.0 + self.depth))
        else:
            ends = (0.0, edges[0, 0] - beyond)

        def away(z: float) -> float:
            return float(self._entered(np.array([z + 0j]))[0].real) - at

        if not ends[0] < ends[1] or not away(ends[0]) * away(ends[1]) < 0.0:
            return float("nan")
        return float(brentq(away, *ends, xtol=1e-12 * self.bound, rtol=1e-12))

    def _entered(self, z: np.ndarray) -> np.ndarray:
        """Where the transform of the data is asked, -c/q_0."""
        s, _ = self._solve(z)
        c, q = self.shift - z, 1.0 + 0j
        for k in range(self.depth, 0, -1):
            c = c + (1.0 - self.b2) / s[k - 1]
            q = self.b2 ** (self.depth - k + 1) + self.b2 / s[k - 1]
        return np.asarray(-c / q)

    @cached_property
    def bound(self) -> float:
        """A bound of all eigenvalues, by norms."""
        top, total = self.data.hull[1], self.shift
        total += self.b2**self.depth * top
        for k, gamma in enumerate(self.gammas, 1):
            top = (1.0 - self.b2 + self.b2 * top) * (1.0 + gamma**0.5) ** 2
            total += self.b2 ** (self.depth - k) * top
        return float(total)

    def density(self, x: np.ndarray) -> np.ndarray:
        """The density at points."""
        with np.errstate(all="ignore"):
            trace = self._solve(x + 0j)[1]
        return np.maximum(np.nan_to_num(trace.imag / np.pi), 0.0)

    def tabulated(self) -> Measure:
        """The law with its edges, as series."""
        low, high = 0.0, 1.02 * self.bound
        grid = np.linspace(low, high, SCAN)[1:]
        seen = self.density(grid) * self.bound > VISIBLE**0.5
        runs = np.flatnonzero(np.diff(np.concatenate([[0], seen.view(np.int8), [0]]))).reshape(-1, 2)
        edges = []
        for begin, end in runs:
            left = self._edge(grid[begin - 1] if begin else low, grid[begin])
            right = self._edge(grid[end] if end < grid.size else high, grid[end - 1])
            edges.append((left, right))
        if not edges:
            raise LimitError("the NTK's law has no density that could be found")
        made = series(self.density, np.array(edges), (), ROUGH)
        if made is None:
            raise LimitError("the NTK's density is too rough for series; change the ratios a little")
        return made

    def _edge(self, empty: float, full: float) -> float:
        """The square of the density is linear at an edge."""
        for _ in range(6):
            grid = np.linspace(empty, full, 32)
            there = self.density(grid) * self.bound > VISIBLE**0.5
            first = int(np.argmax(there)) or grid.size - 1
            empty, full = grid[first - 1], grid[first]
        step = full - empty
        inner = full + np.array([0.0, 40.0, 160.0]) * step
        squares = self.density(inner) ** 2
        if squares[1] > squares[0] > 0.0:
            return float(inner[0] - squares[0] * (inner[1] - inner[0]) / (squares[1] - squares[0]))
        return float(empty)


def simulated(
    phi: Any, n: int, widths: Sequence[int], *, kind: str = "conjugate", seed: int = 0
) -> np.ndarray:
    """Eigenvalues of the kernel of a finite net on n inputs of independent entries, ``widths`` d_0, d_1, ..,
    d_L.
    """
    c = constants(phi)
    f = Expectations(phi)
    draws = np.random.default_rng(seed)
    x = draws.standard_normal((widths[0], n)) / np.sqrt(widths[0])
    x /= np.linalg.norm(x, axis=0)
    kernels, slopes = [x.T @ x], []
    for before, width in zip(widths[:-1], widths[1:], strict=True):
        pre = draws.standard_normal((width, before)) @ x
        x = (np.asarray(f.f(pre)) - c.mean) / np.sqrt(c.eta * width)
        slopes.append(np.asarray(f.f.derivative()(pre)) / np.sqrt(c.eta))
        kernels.append(x.T @ x)
    if kind == "conjugate":
        return np.linalg.eigvalsh(kernels[-1])
    # gradients in the limit of each layer's width: products of the Gram matrices of slopes
    total, passed = kernels[-1].copy(), np.ones((n, n))
    for slope, kernel in zip(slopes[::-1], kernels[-2::-1], strict=True):
        passed = passed * (slope.T @ slope / slope.shape[0])
        total += passed * kernel
    return np.linalg.eigvalsh(total)
