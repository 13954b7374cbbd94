"""The chain rule on arrays: the derivatives of products and expectations by those of what they are made of.

None is a derivative that is zero by the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tpnum.evaluate.partials import Gaussians

CLOSE = 1e-15
"""A co-correlation whose derivative, of its own size, is lost in that of the correlation."""
Tangent = np.ndarray | None
"""(parameters, *the dimensions of the value)."""


def plus(a: Tangent, b: Tangent) -> Tangent:
    """a + b."""
    return b if a is None else a if b is None else a + b


def ratio(change: np.ndarray, of: np.ndarray) -> np.ndarray:
    """change / of, zero where nothing is there to change."""
    return np.divide(change, of, out=np.zeros(np.broadcast_shapes(change.shape, of.shape)), where=of > 0)


def product(coef: float, carried: Tangent, values: list[np.ndarray], moves: list[Tangent]) -> Tangent:
    """The derivative of coef * a product, by the product rule."""
    total: Tangent = None
    if carried is not None:
        total = carried
        for value in values:
            total = total * value
    for i, move in enumerate(moves):
        if move is not None:
            part = float(coef) * move
            for j, value in enumerate(values):
                if j != i:
                    part = part * value
            total = plus(total, part)
    return total


def moved(made: Any, at: Gaussians, dq: Tangent, dq2: Tangent, dc: Tangent) -> Tangent:
    """The partial derivatives times what moves: rho moves with c, and against the variances."""
    by_rho, first, second = made
    rho = at.rho
    d_rho: Tangent = None if dc is None else ratio(dc, at.scale)
    total: Tangent = None
    for move, q, part in ((dq, at.q, first), (dq2, at.q2, second)):
        if move is not None:
            logs = 0.5 * ratio(move, q)
            d_rho = plus(d_rho, -rho * logs)
            total = plus(total, part * logs)
    if d_rho is None:
        return total
    # where rho is 1 to rounding it stays there, however steep the function is
    return plus(total, by_rho * np.where(np.abs(at.e) < CLOSE, 0.0, d_rho))
