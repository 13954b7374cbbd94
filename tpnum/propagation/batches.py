"""A block that normalises over batches, as a map of a batch whose inputs are equally far apart.

Their covariance is K = g G + o (1 - G), G = I - 11'/B, of variance q = ((B - 1) g + o) / B and correlation
c = (o - g) / (B q).  So is that of every layer.  Perturbations of such a batch have covariances of the same
form, on which a block acts by a matrix of two rows: its largest eigenvalue is what they, and squared
gradients, grow by.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.errors import LimitError
from tpnum.gauss.rules import knows_slope
from tpnum.nn.activations import Activation
from tpnum.nn.base import Block, Features, Layer
from tpnum.nn.batchnorm import BatchNorm
from tpnum.nn.dense import Dense
from tpnum.nn.emitter import BATCH
from tpnum.propagation.batchnorm import Pairs, of_pairs
from tpnum.propagation.blocks import STEP, Slopes, inside, layers_of, named_layers, require_same, width_of
from tpnum.propagation.reading import DATA, Moments, Stage, emitted, placed

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.nn.emitter import Emitter
    from tpnum.program.lines import Axes

OTHER = "inputs.w"
"""The part of the inputs that is not perturbed."""

SILENT = 1e-10
"""Of the variance: what is added where nothing is, so that it can be perturbed."""

AWAY = 1e-3
"""The largest step in a correlation."""


def gram(q: Any, c: Any, size: int) -> np.ndarray:
    """Covariances of batches of equally correlated inputs, (.., B, B)."""
    variance, correlation = (np.asarray(x, dtype=np.float64)[..., None, None] for x in (q, c))
    return variance * ((1.0 - correlation) * np.eye(size) + correlation)


def pair_of(matrix: np.ndarray) -> tuple[float, float]:
    """The averages of a (B, B) matrix on and off its diagonal."""
    size = len(matrix)
    on = float(np.trace(matrix)) / size
    return on, (float(matrix.sum()) / size - on) / (size - 1)


def rows_of(covariance: np.ndarray, spatial: Sequence[int]) -> np.ndarray:
    """Inputs (1, B, *spatial, B) of this Gram matrix x.x'/B."""
    values, vectors = np.linalg.eigh(covariance)
    size = len(values)
    root = vectors * np.sqrt(size * np.maximum(values, 0.0))
    return placed(root, spatial)[None]


class BatchMap:
    """`BlockMap` of a batch of ``size`` examples."""

    def __init__(self, block: Layer, spatial: Sequence[int], size: int) -> None:
        self.block, self.spatial, self.size = block, tuple(spatial), size
        self._width, self.error = width_of(block), 0.0
        self._exact = _normed(layers_of(block))
        self.program, self.stages = emitted(named_layers(block), self.spatial, size, self._first)
        require_same(self.stages)

    def _first(self, to: Emitter, axes: Axes) -> Stage:
        """The inputs, as a perturbed and another part."""
        dim, batch = to.cdc(self._width), (*to.batch, *axes)
        parts = [
            to.program.matmul(
                to.program.matrix(to.program._auto("from", bare=True), 1.0, dim, channels),
                to.program.data(name, batch, channels=channels),
            )
            for name, channels in ((DATA, "d"), (OTHER, "e"))
        ]
        return Stage("input", "input", Features((Block(to.total(parts), self._width),), axes))

    @property
    def _end(self) -> Features:
        return self.stages[-1].features

    @cached_property
    def lowest(self) -> float:
        """The least correlation that all inputs of a batch can have."""
        return -1.0 / (self.size - 1)

    def _found(self, perturbed: np.ndarray, rest: np.ndarray, tangents: bool = False) -> np.ndarray:
        x = {DATA: rows_of(perturbed, self.spatial), OTHER: rows_of(rest, self.spatial)}
        moments = Moments(self.program, x, (self._end,), by=(BATCH,))
        made = moments.second(self._end, tangents)[0, :, 0, :]
        self.error = max(self.error, moments.account.error)
        return made

    def passed(self, q: float, c: float) -> tuple[float, float]:
        """The variance and the correlation behind the block."""
        if self._exact is not None:
            averages, square, bias = self._averages
            on, off = square * averages.same + bias, square * averages.other + bias
        else:
            full = gram(q, c, self.size)
            on, off = pair_of(self._found(full, 0.0 * full))
        if not np.isfinite(on):
            raise LimitError("the forward variance overflows; start from a smaller q")
        return on, off / on if on else 1.0

    @cached_property
    def _averages(self) -> tuple[Pairs, float, float]:
        assert self._exact is not None
        f, dense = self._exact
        return of_pairs(f, self.size), float(dense.W_std) ** 2, float(dense.b_std or 0.0) ** 2

    def _response(self, q: float, c: float) -> np.ndarray:
        """What a unit of perturbation apart (G) and together (1 - G) becomes, (2, 2).

        Batchnorm alone turns the one into B / ((B - 3) q (1 - c)) (G - u u'), u uniform on a sphere, and the
        other into nothing.
        """
        if self.size < 4 and any(isinstance(x, BatchNorm) for x in inside(self.block)):
            raise LimitError("batch_size: squared gradients of batchnorm are infinite for batches below four")
        if self._exact is not None:
            averages, square, _ = self._averages
            on, off = averages.slope_same, averages.slope_other
            grown = square * self.size / ((self.size - 3) * q * max(1.0 - c, SILENT))
            return grown * np.array([[on - off, 0.0], [on + (self.size - 1) * off, 0.0]])
        size, apart = self.size, np.eye(self.size) - 1.0 / self.size
        together = np.eye(size) - apart
        weights = q * np.array([max(1.0 - c, SILENT), max(1.0 + (size - 1) * c, SILENT)])
        made = np.empty((2, 2))
        for k, own in enumerate((apart, together)):
            rest = weights[1 - k] * (together if k == 0 else apart)
            found = self._found(weights[k] * own, rest, True)
            made[:, k] = np.array([np.sum(found * apart) / (size - 1), np.sum(found * together)]) / weights[k]
        return made

    def slopes(self, q: float, c: float = 0.0) -> Slopes:
        """The block at one variance and correlation."""
        after, correlated = self.passed(q, c)
        around = [self.passed(q * (1.0 + STEP * k), c)[0] for k in (-2, -1, 1, 2)]
        chi_q = (around[0] - 8.0 * around[1] + 8.0 * around[2] - around[3]) / (12.0 * STEP * q)
        chi_1 = float(np.max(np.abs(np.linalg.eigvals(self._response(q, c)))))
        return Slopes(q, c, after, correlated, chi_1, chi_q, self._chi_c(q, c))

    def _chi_c(self, q: float, c: float) -> float:
        """The slope of the covariance of two inputs by their own, one-sided at the ends."""
        up, down = min(AWAY, 0.25 * (1.0 - c)), min(AWAY, 0.25 * (c - self.lowest))
        if min(up, down) > 1e-9:
            h, rule = min(up, down), {-1: -0.5, 1: 0.5}
        elif up > down:
            h, rule = up, {0: -1.5, 1: 2.0, 2: -0.5}
        else:
            h, rule = down, {-2: 0.5, -1: -2.0, 0: 1.5}
        return sum(w * float(np.prod(self.passed(q, c + h * k))) for k, w in rule.items()) / (h * q)


def _normed(layers: Sequence[Layer]) -> tuple[Function, Dense] | None:
    """The function and the weights of batchnorm, an activation and a Dense, which are integrals."""
    match layers:
        case [BatchNorm() as norm, Activation() as phi, Dense() as dense]:
            f = phi.as_function()
            plain = norm == BatchNorm() and f.arity == 1 and not f.n_scalars and knows_slope(f)
            return (f, dense) if plain else None
    return None
