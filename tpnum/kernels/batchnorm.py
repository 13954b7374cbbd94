"""Second moments of phi(u) = a u + b |u| over blocks of Gaussian pairs: the integrands of batchnorm."""

from __future__ import annotations

import math

from tpnum.kernels._borrow import borrow
from tpnum.kernels._elementary import angle_of
from tpnum.kernels._jit import kernel

_QUARTER = 0.5 * math.pi


@kernel
def _row(c, q1, q2, odd, even, v, w, root):
    for j in range(c.shape[0]):
        size = math.sqrt(q1 * q2[j])
        inverse = 1.0 / (size + 1e-300)
        cosine = min(1.0, abs(c[j]) * inverse)
        sine = math.sqrt((1.0 - cosine) * (1.0 + cosine))
        angle = _QUARTER - angle_of(sine, cosine)
        arc = angle if c[j] >= 0.0 else -angle
        root[j] = size * sine
        v[j] = odd * c[j] + even * (root[j] + c[j] * arc)
        w[j] = odd + even * arc


@kernel
def add_moments(c, q1, q2, weight, odd, even, scratch, out):
    """Add weight E phi(u_i) phi(v_j) to out (n, rows, columns); covariances c, variances q1 and q2.

    ``odd`` = a^2, ``even`` = 2 b^2/pi; scratch (3, columns).
    """
    v, w, root = borrow(scratch[0]), borrow(scratch[1]), borrow(scratch[2])
    for n in range(c.shape[0]):
        for i in range(c.shape[1]):
            _row(borrow(c[n, i]), q1[n, i], borrow(q2[n]), odd, even, v, w, root)
            line = borrow(out[n, i])
            for j in range(line.shape[0]):
                line[j] += weight[n] * v[j]


@kernel
def pair_moments(c, q1, q2, odd, even, v, w, root):
    """Fill E phi phi', E phi' phi' (almost everywhere) and sqrt(q1 q2 - c^2), arrays (n, rows, columns)."""
    for n in range(c.shape[0]):
        for i in range(c.shape[1]):
            _row(
                borrow(c[n, i]), q1[n, i], borrow(q2[n]), odd, even,
                borrow(v[n, i]), borrow(w[n, i]), borrow(root[n, i]),
            )  # fmt: skip
