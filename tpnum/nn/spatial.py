"""Layers that see the spatial axes: convolutions, slicing and resizing.

A convolution is a map of the index (position -> position and filter offset), one independent matrix per
offset, and a sum over offsets; the rest are maps alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from tpnum.arguments import shown
from tpnum.nn.arguments import (
    Accepts,
    Deviation,
    Flag,
    OptionalDeviation,
    OptionalSizes,
    Padding,
    Parameterization,
    ResizeMethod,
    Scales,
    Shape,
    Size,
    Sizes,
    TransposePadding,
    sequence,
)
from tpnum.nn.base import Block, Features, Layer
from tpnum.nn.resample import resize_rows
from tpnum.nn.weights import Weights, channels_made
from tpnum.nn.windows import (
    LONGEST,
    mapped,
    middles,
    need_axes,
    need_room,
    offset,
    per_axis,
    positions,
    windows_of,
)
from tpnum.program.windows import Transposed, Window

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter
    from tpnum.program import Scalar, Vector

V = TypeVar("V", bound="Vector | Scalar")


class _Convolution(Layer):
    """What the convolutions share: the windows are theirs, the weights here."""

    local: ClassVar[bool] = False
    out_chan: int
    filter_shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    padding: str
    W_std: float
    b_std: float | None
    parameterization: str
    s: tuple[float, float]
    dilation: tuple[int, ...] | None = None
    groups: int = 1

    def emit(self, to: Emitter, x: Features) -> Features:
        reads = windows_of(to, x, "filter_shape", self.filter_shape, self.strides)
        if self.groups > 1:
            self._need_groups(to, x)
        vectors = [block.vector for block in x.blocks]
        seen = self.windows(to, x, reads)
        for axis, index in seen:
            out = ((axis, index.positions), (offset(axis), index.size))
            vectors = [vector.map(axis, out, index) for vector in vectors]
        window = tuple((offset(axis), width) for axis, _, width, _ in reads)
        axes = positions(vectors[0], x)
        # of all channels that enter, the weights of one output see the share 1 / groups
        weights = Weights(self.W_std, self.b_std, self.parameterization, self.s[0] * self.groups)
        mask = None if x.mask is None else self.mask(to, x.mask, seen)
        made = channels_made(self.out_chan, self.parameterization, self.s)
        dim, local = to.cdc(made), axes if self.local else ()
        vector = weights.affine(to, x.replace(vectors, axes), dim, window, local, mask)
        return Features((Block(vector, made),), axes, mask)

    def mask(self, to: Emitter, mask: Scalar, seen: list[Any]) -> Scalar:
        """The mask behind it: that of the positions in the middle of the filters."""
        return middles(mask, seen)

    def windows(self, to: Emitter, x: Features, reads: list[tuple[str, int, int, int]]) -> list[Any]:
        """(axis, map to (position, offset in the filter)) per spatial axis."""
        dilation = per_axis(to, x, "dilation", self.dilation or (1,) * len(self.filter_shape))
        need_room(to, x, "filter_shape", self.filter_shape, dilation, self.padding)
        made = mapped(
            to,
            "filter_shape",
            reads,
            lambda k, n, width, step: Window(n, width, step, dilation[k], self.padding),
        )
        for (axis, seen), (_, size, *_) in zip(made, reads, strict=True):
            if isinstance(seen, Window) and seen.blind:
                raise to.error(
                    f"filter_shape {self.filter_shape} with dilation {dilation} and padding 'SAME' sees none "
                    f"of the {size} positions along axis {axis!r}; take a smaller dilation"
                )
        return made

    def _need_groups(self, to: Emitter, x: Features) -> None:
        """Groups have a limit where each has channels of one law, and more and more of them."""
        g = self.groups
        for what, channels in (("channels that enter", x.channels), ("channels of out_chan", self.out_chan)):
            if channels % g:
                raise to.error(f"groups is {g}, which does not divide the {channels} {what}")
        if x.has_data:
            raise to.error(
                f"groups is {g}, but it acts on data, whose channels stay {x.channels}: each group of "
                "them has a Gram matrix of its own; put a layer with weights and groups=1 before it"
            )
        if len(x.blocks) > 1 or x.blocks[0].flat:
            raise to.error(
                f"groups is {g}, but the channels that enter are concatenated or flattened, so the groups "
                "differ in law; put the grouped layer before the FanInConcat or Flatten"
            )
        if x.channels == g:
            raise to.error(
                f"groups is {g}, as many as channels enter: a depthwise filter sums over no width, so its "
                "output is a product of weights and features and not Gaussian at any width; take fewer "
                "groups, or write it in a tp.Program as a product of vectors"
            )


@dataclass(frozen=True, repr=False)
class Conv(_Convolution):
    """Convolution: sum over filter offsets o of W_o h[p stride + o], W_o entries N(0, W_std^2 / fan_in), + b.

    fan_in = channels x prod(filter_shape); padding "VALID", "SAME" (TensorFlow's) or "CIRCULAR"; ``strides``
    are 1 by default.  Of (examples, *positions, channels) it makes (examples, *new positions, out_chan), and

        K'[p, p'] = W_std^2 mean over o of K[p stride + o, p' stride + o] + b_std^2,

    Theta' = K' + W_std^2 the same mean of Theta (ntk parameterization); beyond a border both are 0.

    ``dilation``, one number per spatial axis, spreads the filter: it reads h[p stride + o dilation], and the
    padding is that of a filter of (size - 1) dilation + 1.

    ``groups``: the channels that enter and those that leave are split into so many groups, and each is
    convolved on its own, fan_in = channels / groups x prod(filter_shape).  As the width grows with the number
    of groups fixed, the average over a group's channels has the limit of the average over all, so NNGP kernel
    and NTK are those of groups=1 (in standard parameterization the weights' part of the NTK is divided by
    ``groups``, as fan_in is).  The program is that of groups=1 too, and so are its samples at finite width.
    Groups of the data's own channels, which stay finite, and one channel per group (depthwise: a product of
    weights and features, not Gaussian at any width) are refused with `SpecError`.
    """

    out_chan: Size
    filter_shape: Sizes
    strides: OptionalSizes = None
    padding: Padding = "VALID"
    W_std: Deviation = 1.0
    b_std: OptionalDeviation = None
    parameterization: Parameterization = "ntk"
    s: Scales = (1.0, 1.0)
    dilation: OptionalSizes = None
    groups: Size = 1


@dataclass(frozen=True, repr=False)
class ConvLocal(_Convolution):
    """As `Conv`, but weights and biases are independent at every position: K'[p, p'] is 0 unless p = p'."""

    local: ClassVar[bool] = True
    out_chan: Size
    filter_shape: Sizes
    strides: OptionalSizes = None
    padding: Padding = "VALID"
    W_std: Deviation = 1.0
    b_std: OptionalDeviation = None
    parameterization: Parameterization = "ntk"
    s: Scales = (1.0, 1.0)
    dilation: OptionalSizes = None


@dataclass(frozen=True, repr=False)
class ConvTranspose(_Convolution):
    """Transposed convolution: filters of weights as in `Conv`, at the positions of jax.lax.conv_transpose.

    With ``strides`` the positions become so many times as many: the filter reads an input whose positions are
    ``strides`` apart, with zeros between; fan_in = channels x prod(filter_shape).  Masks are refused.
    """

    out_chan: Size
    filter_shape: Sizes
    strides: OptionalSizes = None
    padding: TransposePadding = "VALID"
    W_std: Deviation = 1.0
    b_std: OptionalDeviation = None
    parameterization: Parameterization = "ntk"
    s: Scales = (1.0, 1.0)

    def windows(self, to: Emitter, x: Features, reads: list[tuple[str, int, int, int]]) -> list[Any]:
        return mapped(
            to, "filter_shape", reads, lambda _, n, width, step: Transposed(n, width, step, self.padding)
        )

    def mask(self, to: Emitter, mask: Scalar, seen: list[Any]) -> Scalar:
        raise to.error(
            "of what it makes no position belongs to one that it reads, so nothing says which are masked; "
            "pool or flatten before it, or leave mask_constant out"
        )


@dataclass(frozen=True, repr=False)
class ImageResize(Layer):
    """jax.image.resize of the spatial axes; ``shape`` has all axes, -1 for batch, channels and what stays."""

    shape: Shape
    method: ResizeMethod
    antialias: Flag = True

    def emit(self, to: Emitter, x: Features) -> Features:
        need_axes(to, x)
        rank = len(x.axes) + 2
        if len(self.shape) != rank or self.shape[0] != -1 or self.shape[-1] not in (-1, x.channels):
            raise to.error(
                f"shape is {self.shape}; it must have {rank} entries, -1 for the batch axis and the channels"
            )
        if max(self.shape[1:-1]) > LONGEST:
            raise to.error(f"shape is {shown(self.shape)}; an axis has at most {LONGEST} positions")
        vectors = [self._resized(x, block.vector) for block in x.blocks]
        axes = positions(vectors[0], x)
        if x.mask is None:
            return x.replace(vectors, axes)
        mask = to.program.apply("step", self._resized(x, x.mask))  # masked where all that it reads is
        return x.replace(vectors, axes).masked(mask)

    def _resized(self, x: Features, variable: V) -> V:
        method = "nearest" if self.method == "nearest" else "linear"
        for (axis, size), new in zip(x.axes, self.shape[1:-1], strict=True):
            if new not in (-1, size):
                rows = resize_rows(size, new, method, self.antialias)
                variable = variable.map(axis, ((axis, new),), rows)
        return variable


def _index(value: Any) -> tuple[Any, ...]:
    entries = (value,) if isinstance(value, (int, slice, str, EllipsisType)) else sequence(value)
    return tuple(_entry(entry) for entry in entries)


def _entry(value: Any) -> Any:
    """An int, Ellipsis ("..." in JSON), or (start, stop, step)."""
    value = ... if value == "..." else value
    if isinstance(value, EllipsisType) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    parts = (value.start, value.stop, value.step) if isinstance(value, slice) else tuple(value)
    if (
        not 1 <= len(parts) <= 3
        or not all(part is None or type(part) is int for part in parts)
        or parts[2:] == (0,)
    ):
        raise ValueError
    return (None, *parts, None) if len(parts) == 1 else parts + (None,) * (3 - len(parts))


@dataclass(frozen=True, repr=False)
class Index(Layer):
    """Slices of the spatial axes: ``idx`` as for the input array, batch axis first.

    Entries are ints (the axis goes), slices or [start, stop, step], or ``...``.
    """

    idx: Annotated[tuple[Any, ...], Accepts("ints, slices or [start, stop, step], one per axis", _index)]

    def emit(self, to: Emitter, x: Features) -> Features:
        places: tuple[Any, ...] = self.idx
        rank = len(x.axes) + 2
        if places.count(...) == 1:
            at = places.index(...)
            places = places[:at] + ((None,) * 3,) * (rank - len(places) + 1) + places[at + 1 :]
        if len(places) > rank or ... in places:
            raise to.error(
                f"idx has {len(places)} entries for an array with {rank} axes, the batch axis included"
            )
        places += ((None,) * 3,) * (rank - len(places))
        if any(place != (None, None, None) for place in (places[0], places[-1])):
            raise to.error("idx can slice spatial axes only; slice examples and channels of the array before")
        vectors, mask = [block.vector for block in x.blocks], x.mask
        kept = []
        for (axis, size), place in zip(x.axes, places[1:-1], strict=True):
            picks = [place] if isinstance(place, int) else list(range(*slice(*place).indices(size)))
            if not picks or not -size <= picks[0] < size:
                raise to.error(f"idx selects nothing along axis {axis!r} of size {size}")
            if not isinstance(place, int):
                kept.append((axis, len(picks)))
            if picks != list(range(size)) or isinstance(place, int):
                taken = {axis: place if isinstance(place, int) else picks}
                vectors = [v.take(**taken) for v in vectors]
                mask = None if mask is None else mask.take(**taken)
        return x.replace(vectors, tuple(kept)).masked(mask)
