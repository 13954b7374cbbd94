"""What batchnorm does to gradients: the growth of the squared gradient per layer, exact at any batch.

Where the Gram matrix of a batch has come to its fixed point (all inputs equally far apart) BN maps it to
y = sqrt(B) u, u uniform on the unit sphere of the vectors that add up to 0, and |W h|^2 is independent of u.
 A squared gradient through y -> phi(BN y) and weights then grows by

    B / (mu (B - 3) (B - 1)) E tr G D (G - u u') D,    D = diag phi'(y),  G = I - 11'/B,
    mu = E phi(y_1)^2 - E phi(y_1) phi(y_2):

integrals over one and two coordinates of a sphere.  It is infinite for batches of three.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tpnum.arguments import whole
from tpnum.errors import InputError, LimitError
from tpnum.functions import Function, get
from tpnum.gauss.rules import knows_slope

POINTS, PANELS, SECTORS = 24, 18, 12


def batchnorm_growth(phi: Any, batch: Any) -> float:
    """The factor by which a squared gradient grows per layer of phi(BN(W x)), at a batch of this finite size.

    linear: (B - 2) / (B - 3); relu at large batches: pi / (pi - 1).

    Raises
    ------
    InputError
        A batch of less than four, a phi that is no function of one vector with a derivative.
    """
    b = whole(batch, "batch", 4, 1 << 40)
    f = get(phi)
    if f.arity != 1 or f.n_scalars or not knows_slope(f):
        raise InputError(f"phi: a function of one vector with a derivative is needed, not {f}")
    h = of_pairs(f, b)
    mu = h.same - h.other
    if not mu > 0.0:
        raise LimitError(f"phi: {f} makes all examples of a batch equal")
    return b / (mu * (b - 3)) * (h.slope_same - h.slope_other)


class Pairs(NamedTuple):
    """Averages over y = BN of a batch: of phi(y_1)^2, phi(y_1) phi(y_2), and on and off the diagonal of
    D (G - u u') D.
    """

    same: float
    other: float
    slope_same: float
    slope_other: float


def of_pairs(f: Function, b: int) -> Pairs:
    """The averages of a function with a derivative, by integrals over two coordinates of a sphere."""
    slope = f.derivative()
    y, z, w = _pairs(b)
    h, k, d, e = _at(f, y), _at(f, z), _at(slope, y), _at(slope, z)

    def mean(x: np.ndarray) -> float:
        return float(np.sum(w * x))

    return Pairs(
        mean(h * h), mean(h * k), mean(d * d * (1.0 - (1.0 + y * y) / b)), -mean(d * e * (1.0 + y * z)) / b
    )


def _at(f: Function, y: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.asarray(f(y), dtype=np.float64), y.shape)


def _pairs(b: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two coordinates of BN and probabilities: polar coordinates sin a, t of a disc, cos(a)^(B - 4)
    sin(a).
    """
    n, rho = b - 1, -1.0 / (b - 1)
    turn = float(np.arccos(rho))
    # y_1 = 0 and y_2 = 0 are lines through the middle
    ends = np.unique([*np.linspace(0.0, 2.0 * np.pi, SECTORS + 1), 0.5 * np.pi, 1.5 * np.pi,
                      turn - 0.5 * np.pi, turn + 0.5 * np.pi, turn + 1.5 * np.pi])  # fmt: skip
    t, wt = _panels(ends[(ends >= 0.0) & (ends <= 2.0 * np.pi)])
    widest = min(0.5 * np.pi, 14.0 / np.sqrt(n))
    a, wa = _panels(np.linspace(0.0, widest, PANELS + 1))
    density = wa * np.sin(a) * np.exp((n - 3) * np.log(np.maximum(np.cos(a), 1e-300)))
    radius = np.sqrt(n) * np.sin(a)[:, None]
    y, z = radius * np.cos(t), radius * np.cos(t - turn)
    w = density[:, None] * wt
    return y.reshape(-1), z.reshape(-1), (w / w.sum()).reshape(-1)


def _panels(ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(POINTS)
    middle, half = 0.5 * (ends[1:] + ends[:-1]), 0.5 * np.diff(ends)
    return (middle[:, None] + half[:, None] * x).reshape(-1), (half[:, None] * w).reshape(-1)
