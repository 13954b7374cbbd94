"""Fixed points of a block, their stability, and the depth scales there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tpnum.arguments import finite_array
from tpnum.errors import InputError, LimitError
from tpnum.nn.base import Layer
from tpnum.propagation.blocks import BlockMap, Slopes, depth_scale
from tpnum.propagation.reading import positions

GRID, CORRELATIONS = 241, 33
NEUTRAL = 1e-10


@dataclass(frozen=True)
class FixedPoint:
    """A variance and a correlation that a block keeps.

    ``chi_1`` is what a squared gradient grows by, ``chi_q`` and ``chi_c`` the slopes of the variance and of
    the correlation.  ``every_q`` says that all variances are fixed, as of relu at its critical point.
    """

    q: float
    c: float
    chi_1: float
    chi_q: float
    chi_c: float
    every_q: bool = False

    @property
    def xi_q(self) -> float:
        """The depth over which a deviation of the variance falls by e; negative if it grows."""
        return depth_scale(self.chi_q)

    @property
    def xi_c(self) -> float:
        """The depth over which a deviation of the correlation falls by e; negative if it grows."""
        return depth_scale(self.chi_c)

    @property
    def stable(self) -> bool:
        """Whether variances nearby come back."""
        return abs(self.chi_q) < 1.0

    @property
    def phase(self) -> str:
        """The phase: "ordered" (gradients vanish), "chaotic" (they explode) or "critical"."""
        if abs(self.chi_1 - 1.0) < 1e-9:
            return "critical"
        return "ordered" if self.chi_1 < 1.0 else "chaotic"


def fixed_points(
    block: Layer, *, between: Sequence[float] = (1e-6, 1e6), shape: Sequence[int] = ()
) -> tuple[FixedPoint, ...]:
    """The variances between two bounds that a block keeps, each with the correlation that inputs approach.

    Any block of `tpnum.nn` layers whose output has the width of its input; ``shape`` are its positions.
    """
    low, high = variances(between)
    found = BlockMap(block, positions(shape))
    grid = np.geomspace(low, high, GRID)
    away = _growth(found, grid)
    seen = np.isfinite(away)
    if seen.any() and np.all(np.abs(away[seen]) < NEUTRAL):
        return (_at(found, float(np.sqrt(low * high)), True),)
    from scipy.optimize import brentq

    made = []
    for k in np.flatnonzero(seen[1:] & seen[:-1] & (np.sign(away[1:]) != np.sign(away[:-1]))):
        if away[k] == 0.0:
            q = grid[k]
        elif away[k + 1] == 0.0:
            continue
        else:
            q = np.exp(
                brentq(
                    lambda s: float(_growth(found, np.exp([s]))[0]),
                    np.log(grid[k]),
                    np.log(grid[k + 1]),
                    xtol=1e-15,
                )
            )
        made.append(_at(found, float(q), False))
    return tuple(made)


def _growth(block: BlockMap, q: np.ndarray) -> np.ndarray:
    """log(q'/q), NaN where it overflows."""
    try:
        made = block.forward(q)
    except LimitError:
        if q.size == 1:
            return np.array([np.nan])
        half = q.size // 2
        return np.concatenate([_growth(block, q[:half]), _growth(block, q[half:])])
    with np.errstate(divide="ignore"):
        return np.log(made / q)


def variances(between: Sequence[float]) -> tuple[float, float]:
    """Two bounds."""
    made = finite_array(between, "between", 1)
    if made.size != 2 or not 0.0 <= made[0] < made[1]:
        raise InputError("between: two bounds 0 <= low < high are needed")
    return float(made[0]), float(made[1])


def _at(block: BlockMap, q: float, every: bool) -> FixedPoint:
    c, slopes = correlation(block, q)
    return FixedPoint(q, c, slopes.chi_1, slopes.chi_q, slopes.chi_c, every)


def correlation(block: BlockMap, q: float) -> tuple[float, Slopes]:
    """The correlation below 1 that inputs of variance q approach, or 1, and the slopes there."""
    one = block.slopes(q, 1.0)
    if one.chi_1 <= 1.0 + 1e-12:
        return 1.0, one
    from scipy.optimize import brentq

    top = 1.0 - 1e-6
    grid = np.linspace(-0.99, top, CORRELATIONS)
    away = np.array([block.slopes(q, float(c)).c_next - c for c in grid])
    signs = np.flatnonzero((away[:-1] > 0.0) & (away[1:] <= 0.0))
    if not signs.size:
        return 1.0, one
    k = int(signs[-1])
    c = brentq(lambda c: block.slopes(q, float(c)).c_next - c, grid[k], grid[k + 1], xtol=1e-13)
    return float(c), block.slopes(q, float(c))
