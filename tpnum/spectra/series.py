"""Laws whose density on each interval is a Chebyshev series over a root: sum c_k T_k(t) / sqrt(1 - t^2).

These are the laws whose edges go as a root or its inverse, those of free convolutions among them.  With
w = t - sqrt(t^2 - 1) the Cauchy transform is the power series pi sum c_k w^k / sqrt(t^2 - 1), on the line
too, and the logarithmic potential another: no integral is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from tpnum.spectra.base import Atom, Measure
from tpnum.spectra.closed import above
from tpnum.spectra.sums import power_series

LEAST, MOST = 32, 4096
"""Coefficients of one interval."""

SMALL = 2e-14
"""The last coefficients of a series that has converged, relative to the largest."""

VANISHES = 1e-9
"""The value of a series at an edge, relative to its largest coefficient, that is 0."""


class Series(Measure):
    """One series per interval, and atoms."""

    def __init__(self, edges: np.ndarray, coefs: Sequence[np.ndarray], atoms: Sequence[Atom]) -> None:
        self._edges, self.coefs, self._atoms = edges, tuple(coefs), tuple(sorted(atoms))

    @property
    def edges(self) -> np.ndarray:
        return self._edges

    @property
    def atoms(self) -> tuple[Atom, ...]:
        return self._atoms

    @cached_property
    def _smooth(self) -> list[tuple[np.ndarray, bool, bool]]:
        """The series over 1 + w and 1 - w where the density vanishes at an edge, and whether it does."""
        return [_divided(coefs) for coefs in self.coefs]

    def _transform(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """In p = sqrt(t + 1) and q = sqrt(t - 1), root = p q, 1 + w = p (p + q) w and 1 - w = q (p + q) w:
        where the density vanishes no digits are lost.
        """
        g, slope = np.zeros(z.shape, np.complex128), np.zeros(z.shape, np.complex128)
        with np.errstate(divide="ignore", invalid="ignore"):
            for at, mass in self._atoms:
                g += mass / (z - at)
                slope -= mass / (z - at) ** 2
            for (low, high), (coefs, at_low, at_high) in zip(self._edges, self._smooth, strict=True):
                half = 0.5 * (high - low)
                p, q = np.sqrt((z - low) / half), np.sqrt((z - high) / half)
                root, mean = p * q, 0.5 * (p + q)
                w = 0.5 / (mean * mean)
                value, change = power_series(w, coefs)
                left, right = mean if at_low else p, mean if at_high else q
                own = np.pi * value / (left * right)
                g += own
                # the slopes of log p, log q and log (p + q) are 1/2 over p^2, q^2 and p q; dw/dt = -w / root
                bent = 0.5 / (root if at_low else p * p) + 0.5 / (root if at_high else q * q)
                slope -= (np.pi * w * change / (root * left * right) + own * bent) / half
        return g, slope

    def _potential(self, z: np.ndarray) -> np.ndarray:
        made = np.zeros(z.shape, np.complex128)
        with np.errstate(divide="ignore", invalid="ignore"):
            for at, mass in self._atoms:
                made += mass * np.log(above(z - at))
            for (low, high), coefs in zip(self._edges, self.coefs, strict=True):
                t, root, w, half = _mapped(z, low, high)
                sums = np.concatenate([[0.0], coefs[1:] / np.arange(1, coefs.size)])
                total = coefs[0] * np.log(above(0.5 * half * (t + root))) - power_series(w, sums)[0]
                made += np.pi * half * total
        return made


def _divided(coefs: np.ndarray) -> tuple[np.ndarray, bool, bool]:
    """A series in w over its factors 1 + w and 1 - w, and whether it has these."""
    found = []
    for sign in (-1.0, 1.0):
        signs = sign ** np.arange(coefs.size)
        vanishes = bool(abs(np.sum(signs * coefs)) <= VANISHES * np.max(np.abs(coefs)))
        if vanishes:
            coefs = (signs * np.cumsum(signs * coefs))[:-1]
        found.append(vanishes)
    return coefs, found[0], found[1]


def _mapped(z: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """The points on [-1, 1], sqrt(t^2 - 1), w, and half the length."""
    half = 0.5 * (high - low)
    t = ((z - low) + (z - high)) / (2.0 * half)
    root = np.sqrt((z - low) / half) * np.sqrt((z - high) / half)
    return t, root, 1.0 / (t + root), half


def series(
    density: Callable[[np.ndarray], np.ndarray],
    edges: np.ndarray,
    atoms: Sequence[Atom],
    small: float = SMALL,
) -> Series | None:
    """The series of a density to the relative accuracy ``small``, or None where its edges are not such
    ones.
    """
    found = []
    for low, high in edges:
        coefs = _coefficients(density, low, high, small)
        if coefs is None:
            return None
        found.append(coefs)
    return Series(edges, found, atoms)


def _coefficients(
    density: Callable[[np.ndarray], np.ndarray], low: float, high: float, small: float
) -> np.ndarray | None:
    from scipy.fft import dct

    half = 0.5 * (high - low)
    count = LEAST
    while count <= MOST:
        angle = (np.arange(count) + 0.5) * np.pi / count
        x = low + half * 2.0 * np.sin(0.5 * (np.pi - angle)) ** 2  # low + half (1 + cos)
        values = np.asarray(density(x), dtype=np.float64) * np.sin(angle)
        coefs = dct(values, type=2) / count
        coefs[0] *= 0.5
        size = np.max(np.abs(coefs))
        if not np.isfinite(size):
            return None
        if np.max(np.abs(coefs[-count // 8 :])) <= small * size * np.sqrt(count):
            kept = np.flatnonzero(np.abs(coefs) > 1e-16 * size)
            return coefs[: int(kept[-1]) + 2] if kept.size else coefs[:2]
        count *= 2
    return None
