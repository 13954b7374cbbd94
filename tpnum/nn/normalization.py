"""LayerNorm and Dropout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from tpnum.nn.arguments import AxisList, Keep, Mode, NonNegative
from tpnum.nn.base import Features, Layer

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter
    from tpnum.program import Scalar, Vector


@dataclass(frozen=True, repr=False)
class LayerNorm(Layer):
    """(h - m) / sqrt(v + eps), m and v the mean and variance over channels and the listed other axes.

    ``axis`` counts the batch axis: -1 (or the last) are the channels, 1 the first spatial axis.  In the
    limit m and v are Moments: mixtures weighted by width over concatenated blocks.
    """

    axis: AxisList = (-1,)
    eps: NonNegative = 1e-12

    def emit(self, to: Emitter, x: Features) -> Features:
        if x.has_data:
            raise to.error(
                "it acts on raw data, which is not Gaussian; normalise the array before, or put a Dense "
                "or Conv first"
            )
        over = self._spatial(to, x)
        mean = self._average(to, x, [to.program.mean(block.vector) for block in x.blocks], over)
        centred: Sequence[Vector] = [to.shift(block.vector, mean) for block in x.blocks]
        if over:  # of one position alone the mean of what is masked is zero
            centred = to.masked(centred, x.mask)
        squares = [to.moment_of_square(vector) for vector in centred]
        scale = 1.0 / (self._average(to, x, squares, over) + self.eps) ** 0.5
        return x.replace([to.scale(vector, scale) for vector in centred])

    def _spatial(self, to: Emitter, x: Features) -> list[str]:
        """The spatial axes that are averaged; complains about an ``axis`` that is none."""
        rank = len(x.axes) + 2
        places = [axis + rank if axis < 0 else axis for axis in self.axis]
        for axis, place in zip(self.axis, places, strict=True):
            if not 1 <= place < rank:
                raise to.error(
                    f"axis {axis} does not name a channel or spatial axis of an array with {rank} axes, "
                    "the batch axis included; use 1, 2, .. or -1"
                )
        if rank - 1 not in places:
            raise to.error(f"axis is {self.axis}; include the channels, axis=(-1, ..)")
        return [name for place, (name, _) in enumerate(x.axes, start=1) if place in places]

    @staticmethod
    def _average(to: Emitter, x: Features, scalars: Sequence[Scalar], over: Sequence[str]) -> Scalar:
        """The mixture of the blocks' scalars, averaged over their flattened axes and ``over``.

        Of positions those that are not masked count; where there are none the average is zero.
        """
        share = None
        if x.mask is not None and over:
            count = x.mask.sum(*over)
            share = 1.0 / (count + (1.0 - to.program.apply("step", count)))
        means = []
        for block, scalar in zip(x.blocks, scalars, strict=True):
            flat = scalar.mean(*(name for name, _ in block.flat))
            means.append(flat.mean(*over) if share is None else flat.sum(*over) * share)
        if len(means) == 1:
            return means[0]
        mixture = means[0] * x.shares[0]
        for mean, share in zip(means[1:], x.shares[1:], strict=True):
            mixture = mixture + mean * share
        return mixture


@dataclass(frozen=True, repr=False)
class Dropout(Layer):
    """h * mask / rate in mode "train": ``rate`` is the probability of keeping a unit; "test" is Identity.

    The mask is 1[z > 0] with z ~ N(t, 1) drawn afresh per example and position, Phi(t) = rate.
    """

    rate: Keep
    mode: Mode = "train"

    def emit(self, to: Emitter, x: Features) -> Features:
        if self.mode == "test" or self.rate == 1.0:
            return x
        if x.has_data:
            raise to.error("it acts on raw data; put a Dense or Conv before it")
        threshold = NormalDist().inv_cdf(self.rate)
        return x.replace([to.mask(block.vector, threshold, 1.0 / self.rate) for block in x.blocks])
