"""LayerNorm, RMSNorm and GroupNorm, whose statistics are numbers in the limit, and Dropout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, ClassVar

from tpnum.nn.arguments import AxisList, Keep, Mode, NonNegative, OptionalDeviation, Size
from tpnum.nn.base import Features, Layer
from tpnum.nn.weights import gained

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter
    from tpnum.program import Scalar, Vector


class _Norm(Layer):
    """What the norms share: averages over channels and positions, which are Moments, and gains.

    ``gain_std`` gives every channel a trained gain N(1, gain_std^2), ``bias_std`` a trained bias
    N(0, bias_std^2); 0 is the usual initialisation, at 1 and at 0.  Their parts of the NTK are those of the
    gains and biases themselves, in every parameterization.
    """

    centred: ClassVar[bool] = True
    eps: float
    gain_std: float | None
    bias_std: float | None

    def emit(self, to: Emitter, x: Features) -> Features:
        if x.has_data:
            raise to.error(
                "it acts on raw data, which is not Gaussian; normalise the array before, or put a Dense "
                "or Conv first"
            )
        over = self.over(to, x)
        vectors: Sequence[Vector] = [block.vector for block in x.blocks]
        if self.centred:
            mean = _average(to, x, [to.program.mean(vector) for vector in vectors], over)
            vectors = [to.shift(vector, mean) for vector in vectors]
            if over:  # of one position alone the mean of what is masked is zero
                vectors = to.masked(vectors, x.mask)
        squares = [to.moment_of_square(vector) for vector in vectors]
        scale = 1.0 / (_average(to, x, squares, over) + self.eps) ** 0.5
        made = x.replace([to.scale(vector, scale) for vector in vectors])
        return gained(to, made, self.gain_std, self.bias_std)

    def over(self, to: Emitter, x: Features) -> list[str]:
        """The spatial axes that the statistics average, besides the channels."""
        raise to.error("a norm says which axes it averages")


def _listed(to: Emitter, x: Features, axes: tuple[int, ...]) -> list[str]:
    """The spatial axes among ``axes`` of the array, batch axis 0; complains about one that is none."""
    rank = len(x.axes) + 2
    places = [axis + rank if axis < 0 else axis for axis in axes]
    for axis, place in zip(axes, places, strict=True):
        if not 1 <= place < rank:
            raise to.error(
                f"axis {axis} does not name a channel or spatial axis of an array with {rank} axes, "
                "the batch axis included; use 1, 2, .. or -1"
            )
    if rank - 1 not in places:
        raise to.error(f"axis is {axes}; include the channels, axis=(-1, ..)")
    return [name for place, (name, _) in enumerate(x.axes, start=1) if place in places]


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
class LayerNorm(_Norm):
    """(h - m) / sqrt(v + eps), m and v the mean and variance over channels and the listed other axes.

    ``axis`` counts the batch axis: -1 (or the last) are the channels, 1 the first spatial axis.  In the
    limit m and v are Moments: mixtures weighted by width over concatenated blocks.  ``gain_std`` and
    ``bias_std`` (None: without) are the deviations of trained gains N(1, .) and biases N(0, .) per channel,
    0 the usual initialisation; their parts of the NTK are those of the gains and biases themselves.
    """

    axis: AxisList = (-1,)
    eps: NonNegative = 1e-12
    gain_std: OptionalDeviation = None
    bias_std: OptionalDeviation = None

    def over(self, to: Emitter, x: Features) -> list[str]:
        return _listed(to, x, self.axis)


@dataclass(frozen=True, repr=False)
class RMSNorm(LayerNorm):
    """h / sqrt(s + eps), s the mean of h^2 over channels and the listed axes; the rest as `LayerNorm`."""

    centred: ClassVar[bool] = False


@dataclass(frozen=True, repr=False)
class GroupNorm(_Norm):
    """(h - m) / sqrt(v + eps), m and v over all positions and the channels of one of ``groups`` groups.

    As the width grows with the number of groups fixed, the statistics of every group have one limit, that
    of all channels, so the kernels do not depend on ``groups``: the layer is `LayerNorm` over the channels
    and all positions.  A group for every channel has a few positions to average, and no such limit: that is
    refused, as are groups that differ in law.  Gains and biases are those of `LayerNorm`.
    """

    groups: Size = 32
    eps: NonNegative = 1e-5
    gain_std: OptionalDeviation = None
    bias_std: OptionalDeviation = None

    def over(self, to: Emitter, x: Features) -> list[str]:
        g = self.groups
        if x.channels % g:
            raise to.error(f"groups is {g}, which does not divide the {x.channels} channels that enter")
        if x.channels == g > 1:
            raise to.error(
                f"groups is {g}, one for each channel that enters: its statistics are averages over "
                "positions, which stay random at any width; take fewer groups"
            )
        if g > 1 and (len(x.blocks) > 1 or x.blocks[0].flat):
            raise to.error(
                f"groups is {g}, but the channels that enter are concatenated or flattened, so the groups "
                "differ in law; put the norm before the FanInConcat or Flatten"
            )
        return [name for name, _ in x.axes]


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
            raise to.error(
                "it acts on raw data, whose channels stay as few as they are, and the limit would depend on "
                "the mask that is drawn; put a Dense or Conv before it"
            )
        threshold = NormalDist().inv_cdf(self.rate)
        return x.replace([to.mask(block.vector, threshold, 1.0 / self.rate) for block in x.blocks])
