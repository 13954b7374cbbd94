"""The eigenvalues of real kernel matrices beside their law, n inputs of the order of their dimension d.

Off the diagonal correlations are small, of order 1/sqrt d, so that (El Karoui 2010), rows of one norm,

    K ~ k(0) 11' + k'(0) G + (k(1) - k(0) - k'(0)) I + k''(0) / (2 d) 11',    G = x x' / (d q),

k the kernel as a function of the correlation: the law of G scaled and shifted, and one eigenvalue of order n
in the direction of the ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.arguments import choice, finite_array
from tpnum.errors import InputError, SpecError
from tpnum.nn.base import Layer, no_layer
from tpnum.spectra.base import Measure, as_measure
from tpnum.spectra.closed import empirical

STEP = 0.02
"""Of the five-point rules in the correlation."""

UNEVEN = 0.25
"""Squared norms of rows may spread so much, relative to their mean."""


@dataclass(frozen=True, eq=False)
class Beside:
    """A kernel matrix's ``eigenvalues`` beside their ``law``, and where ``spikes`` are expected."""

    eigenvalues: np.ndarray
    law: Measure
    spikes: tuple[float, ...]

    @property
    def distance(self) -> float:
        """Kolmogorov's distance of the eigenvalues without spikes from the law."""
        kept = np.sort(self.eigenvalues)[: self.eigenvalues.size - len(self.spikes)]
        after, before = np.arange(1, kept.size + 1) / kept.size, np.arange(kept.size) / kept.size
        return float(
            np.max(np.minimum(np.abs(self.law.cdf(kept) - after), np.abs(self.law.cdf(kept) - before)))
        )

    def plot(self, ax: Any = None) -> Any:
        """The law over a histogram of the eigenvalues, without spikes."""
        return self.law.plot(ax, np.sort(self.eigenvalues)[: self.eigenvalues.size - len(self.spikes)])


def kernel_eigenvalues(net: Layer, x: Any, *, get: str = "nngp", data: Any = None) -> Beside:
    """The eigenvalues of ``tp.kernel(net, x, get=get)`` beside their law for n of the order of d.

    Parameters
    ----------
    net
        Any net without positions.
    x
        The inputs, (n, d), of nearly one norm and without common direction: centred, or random.
    get
        "nngp" or "ntk".
    data
        The law of the eigenvalues of x x' / (d q), q the mean square; their own by default, or a measure, as
        `marchenko_pastur(n / d)` of independent entries, or numbers.

    Raises
    ------
    InputError
        Rows of different norms, of which the kernel is no function of correlations alone.
    """
    from tpnum.tiles.arguments import KINDS
    from tpnum.tiles.driver import kernel

    if not isinstance(net, Layer):
        raise SpecError(f"net is {no_layer(net)}, e.g. nn.serial(nn.Dense(64), nn.Tanh(), nn.Dense(1))")
    choice(get, "get", KINDS)
    rows = finite_array(x, "x", 2)
    n, d = rows.shape
    squares = np.mean(rows**2, axis=1)
    q = float(np.mean(squares))
    if not q > 0.0 or np.std(squares) > UNEVEN * q:
        raise InputError("x: rows of nearly one norm are needed; divide each by its root mean square")
    gram = rows @ rows.T / (d * q)
    at = STEP * np.arange(-2, 3)
    pairs = np.array([[1.0, 0.0], *([r, np.sqrt(1.0 - r * r)] for r in at)]) * np.sqrt(2.0 * q)
    found = np.asarray(kernel(net, pairs, get=get))[0]
    k = found[1:]
    slope = (k[0] - 8.0 * k[1] + 8.0 * k[3] - k[4]) / (12.0 * STEP)
    bend = (-k[0] + 16.0 * k[1] - 30.0 * k[2] + 16.0 * k[3] - k[4]) / (12.0 * STEP**2)
    rest = float(found[0] - k[2] - slope)
    common = float(k[2] + bend / (2.0 * d))
    law = empirical(np.linalg.eigvalsh(gram)) if data is None else as_measure(data, "data")
    bulk = law.affine(float(slope), rest)
    out = n * common + slope * float(gram.sum()) / n + rest
    low, high = bulk.hull
    spikes = (out,) if not low <= out <= high and abs(n * common) > 1e-9 * max(abs(high), abs(low)) else ()
    values = np.linalg.eigvalsh(np.asarray(kernel(net, rows, get=get)))
    return Beside(values, bulk, tuple(float(s) for s in spikes))
