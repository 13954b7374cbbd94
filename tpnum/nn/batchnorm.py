"""Batch normalisation: statistics of each channel over a batch of examples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpnum.nn.arguments import Flag, NonNegative, OptionalAxes, OptionalDeviation, Real, Statistics
from tpnum.nn.base import Features, Layer
from tpnum.nn.weights import gained

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter
    from tpnum.program import Vector


@dataclass(frozen=True, repr=False)
class BatchNorm(Layer):
    """(h - m) / sqrt(v + eps), m and v the mean and (biased) variance of each channel over a batch.

    The batch is that of ``tpnum.kernel(.., batch_size=B)``: every B consecutive examples are one, each with
    statistics of its own, which are random per channel in the limit too.  ``axis`` names the axes of the
    array that they average: by default 0, the examples of a batch, and all spatial ones; where the array has
    the batch as an axis, (batches, B, channels), it is ``axis=1`` and there is no ``batch_size``.

    ``mode="test"`` takes the given numbers ``mean`` and ``var`` in the place of m and v.
    ``large_batch=True`` is the limit of large batches, in which v is a number, its expectation over channels.
    Gains N(1, gain_std^2) and biases N(0, bias_std^2) per channel are those of `LayerNorm`.

    Followed by relu, abs, a leaky relu or nothing the kernels are integrals of one dimension within a batch
    and of two between batches (Yang et al. 2019), followed by anything else averages over points.  The NTK is
    that of TP2: the theorem of SL leaves out the singularity of the derivative at v = 0, where it has moments
    for batches of four and more only (eps = 0).
    """

    axis: OptionalAxes = None
    eps: NonNegative = 0.0
    mode: Statistics = "train"
    mean: Real = 0.0
    var: NonNegative = 1.0
    large_batch: Flag = False
    gain_std: OptionalDeviation = None
    bias_std: OptionalDeviation = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode != "train" and not self.var + self.eps > 0.0:
            raise self.error("var and eps are 0, and nothing is divided by 0; give the variance")
        if self.mode == "train" and (self.mean, self.var) != (0.0, 1.0):
            raise self.error('mean and var are for mode="test"; in mode "train" they are those of the batch')

    def emit(self, to: Emitter, x: Features) -> Features:
        if x.has_data:
            raise to.error(
                "it acts on raw data, which is not Gaussian; normalise the array before, or put a Dense "
                "or Conv first"
            )
        vectors = [block.vector for block in x.blocks]
        if self.mode != "train":
            made = [self._given(to, vector) for vector in vectors]
        else:
            over = self._over(to, x)
            made = [
                self._large(to, v, over) if self.large_batch else v.normalise(*over, eps=self.eps)
                for v in vectors
            ]
        return gained(to, x.replace(to.masked(made, x.mask)), self.gain_std, self.bias_std)

    def _given(self, to: Emitter, vector: Vector) -> Vector:
        """Normalised by the given numbers."""
        share = 1.0 / math.sqrt(self.var + self.eps)
        ones = to.program.ones(vector.dim)
        return to.sum([(share, vector)] + ([(-share * self.mean, ones)] if self.mean else []))

    def _large(self, to: Emitter, vector: Vector, over: list[str]) -> Vector:
        """Centred by the batch, and divided by the root of the variance's expectation."""
        centred = to.total([vector, -1.0 * vector.mean(*over)])
        return to.scale(centred, 1.0 / (to.moment_of_square(centred).mean(*over) + self.eps) ** 0.5)

    def _over(self, to: Emitter, x: Features) -> list[str]:
        """The axes that are averaged; complains where there is no batch."""
        rank = len(x.axes) + 2
        listed = range(rank - 1) if self.axis is None else self.axis
        places = sorted({axis + rank if axis < 0 else axis for axis in listed})
        if not all(0 <= place < rank - 1 for place in places):
            raise to.error(
                f"axis is {self.axis}; of an array with {rank} axes it may name 0, the examples of a batch, "
                f"and the spatial ones up to {rank - 2}, not the channels"
            )
        if 0 in places and not to.batch:
            raise to.error(
                "it normalises over a batch and is given none; give batch_size=B, which tpnum.kernel and "
                "tpnum.operator take, or name the axis of the array that is the batch, axis=1 of "
                "(batches, B, channels)"
            )
        named = {0: to.batch, **{k: (axis,) for k, axis in enumerate(x.axes, 1)}}
        axes = [axis for place in places for axis in named[place]]
        if x.mask is not None and places != [0]:
            raise to.error(
                "it averages positions, of which some are masked; take axis=0, or no mask_constant"
            )
        if math.prod(size for _, size in axes) < 2:
            over = " and ".join(f"axis {name!r} of size {size}" for name, size in axes) or "nothing"
            raise to.error(
                f"it normalises over {over}, that is a batch of size 1, whose variance is zero; give batches "
                "of two examples or more"
            )
        return [name for name, _ in axes]
