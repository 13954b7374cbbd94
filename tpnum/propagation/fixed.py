"""Fixed points of a block, their stability, and the depth scales there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from tpnum.arguments import finite_array, whole
from tpnum.errors import InputError, LimitError
from tpnum.nn.base import Layer
from tpnum.propagation.batches import BatchMap
from tpnum.propagation.blocks import BlockMap, Slopes, depth_scale, read_block
from tpnum.propagation.reading import positions
from tpnum.propagation.written import written

GRID, CORRELATIONS = 241, 33
NEUTRAL, TOLD = 1e-10, 1e-13
"""Growths of all variances that are none, and of one that rounding may have made."""

ROUNDS, JUMPS, SETTLED = 400, 20, 1e-11
"""Of the iteration of a batch, of one by Aitken's rule, and the change that is none."""


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
    block: Any,
    *,
    between: Sequence[float] = (1e-6, 1e6),
    shape: Sequence[int] = (),
    batch_size: Any = None,
) -> tuple[FixedPoint, ...]:
    """The variances between two bounds that a block keeps, each with the correlation that inputs approach.

    Any block of `tpnum.nn` layers whose output has the width of its input, ``shape`` are its positions; or
    one that a program writes: a pair (x, y) of its vectors, or a program of one data line and its output.
    ``batch_size``: of what normalises over batches, inputs equally correlated; there are no others then than
    the point that a batch is drawn to, from correlation one half, if it is.
    """
    low, high = variances(between)
    spatial = positions(shape)
    if batch_size is not None:
        return _of_a_batch(batched(block, spatial, batch_size), low, high)
    found = BlockMap(read_block(block, spatial), spatial)
    grid = np.geomspace(low, high, GRID)
    away = _growth(found, grid)
    seen = np.isfinite(away)
    if seen.any() and np.all(np.abs(away[seen]) < NEUTRAL):
        return (_at(found, float(np.sqrt(low * high)), True),)
    from scipy.optimize import brentq

    def growth(s: float) -> float:
        return float(_growth(found, np.exp([s]))[0])

    made = []
    told = np.flatnonzero(seen & (np.abs(away) > TOLD))
    for a, b in zip(told[:-1], told[1:], strict=True):
        if away[a] * away[b] < 0.0 and seen[a:b].all():
            q = np.exp(brentq(growth, np.log(grid[a]), np.log(grid[b]), xtol=1e-15))
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


def batched(block: Any, spatial: Sequence[int], batch_size: Any) -> BatchMap:
    """The map of a block of layers over batches."""
    size = whole(batch_size, "batch_size", 2, 1 << 12)
    if not isinstance(block, Layer) and written(block, "block") is not None:
        raise InputError("batch_size: it is for nets of layers; a program has axes of its own")
    return BatchMap(cast(Layer, read_block(block)), spatial, size)


def _of_a_batch(block: BatchMap, low: float, high: float) -> tuple[FixedPoint, ...]:
    q, c = float(np.clip(1.0, low, high)), 0.5
    for _ in range(ROUNDS):
        fresh, correlated = block.passed(q, c)
        _require_exact(block)
        if not low <= fresh <= high:
            return ()
        close = abs(fresh - q) <= SETTLED * q and abs(correlated - c) <= SETTLED
        q, c = fresh, correlated
        if close:
            slopes = block.slopes(q, c)
            return (FixedPoint(q, c, slopes.chi_1, slopes.chi_q, slopes.chi_c),)
    return ()


def _require_exact(block: BatchMap) -> None:
    if block.error > 1e-9:
        raise LimitError(
            f"block: its averages over batches of {block.size} are sampled, to {block.error:.1e}, and no "
            "fixed point is found by such; integrated are BatchNorm before relu, abs or a leaky relu, and "
            "before any activation and a Dense"
        )


def batch_correlation(block: BatchMap, q: float) -> float:
    """The correlation that a batch of variance q approaches, from one half; by Aitken's rule."""
    c = 0.5
    for _ in range(JUMPS):
        one = block.passed(q, c)[1]
        _require_exact(block)
        two = block.passed(q, one)[1]
        if abs(two - one) <= SETTLED:
            return two
        bend = two - 2.0 * one + c
        jump = c - (one - c) ** 2 / bend if bend else two
        c = jump if block.lowest <= jump <= 1.0 - 1e-9 else two
    return c


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
