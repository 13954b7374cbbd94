"""Layers that see the spatial axes: convolutions, pooling, slicing and resizing.

A convolution is a map of the index (position -> position and filter offset), one independent matrix per
offset, and a sum over offsets; the rest are maps alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from tpnum.arguments import shown
from tpnum.errors import ProgramError
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
from tpnum.nn.weights import Weights
from tpnum.program.maps import IndexMap, Take
from tpnum.program.windows import Pool, Transposed, Window

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter
    from tpnum.program import Scalar, Vector
    from tpnum.program.lines import Axes


V = TypeVar("V", bound="Vector | Scalar")
LONGEST = 1 << 16
"""Positions in a window, or of a resized axis, that are still written down."""


def _need_axes(to: Emitter, x: Features) -> None:
    if not x.axes:
        raise to.error(
            "it needs a spatial axis and gets none; give inputs of shape (.., channels) with a "
            "spatial axis before the channels, and put Flatten after it"
        )


def _per_axis(to: Emitter, x: Features, name: str, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """``sizes`` if there is one for each spatial axis."""
    _need_axes(to, x)
    if len(sizes) != len(x.axes):
        axes = tuple(x.sizes().values())
        more = "; images of one channel are x[..., None]" if len(sizes) > len(x.axes) else ""
        raise to.error(
            f"{name} is {sizes} but the features have {len(x.axes)} spatial axes {axes}; give one number "
            f"per axis{more}"
        )
    return sizes


def _reads(
    to: Emitter, x: Features, name: str, window: tuple[int, ...], strides: tuple[int, ...] | None
) -> list[tuple[str, int, int, int]]:
    """(axis, its size, window, stride) per spatial axis, or the complaint that they do not match."""
    _per_axis(to, x, name, window)
    steps = _per_axis(to, x, "strides", strides or (1,) * len(window))
    for (axis, _), width in zip(x.axes, window, strict=True):
        if width > LONGEST:
            raise to.error(f"{name} {shown(window)} is larger than {LONGEST} along axis {axis!r}")
    return [(*axis, width, step) for axis, width, step in zip(x.axes, window, steps, strict=True)]


def _need_room(
    to: Emitter, x: Features, name: str, window: tuple[int, ...], dilation: tuple[int, ...], padding: str
) -> None:
    """A VALID window lies inside the input."""
    for (axis, size), width, apart in zip(x.axes, window, dilation, strict=True):
        reach = (width - 1) * apart + 1
        if padding == "VALID" and reach > size:
            spread = f" with dilation {dilation} reaches over {shown(reach)} and" if apart > 1 else ""
            raise to.error(
                f"{name} {window}{spread} is larger than the input {tuple(x.sizes().values())} along axis "
                f"{axis!r}; take a smaller one or padding='SAME'"
            )


def _offset(axis: str) -> str:
    """The name of the axis of filter offsets along ``axis``."""
    return f"{axis}_f"


def _mapped(
    to: Emitter, name: str, reads: list[tuple[str, int, int, int]], kind: Callable[..., IndexMap]
) -> list[tuple[str, IndexMap]]:
    """(axis, its map) per spatial axis; ``kind`` makes a map of (index of the axis, size, window, stride)."""
    made = []
    for k, (axis, size, width, step) in enumerate(reads):
        try:
            made.append((axis, kind(k, size, width, step)))
        except ProgramError as problem:
            raise to.error(f"{name} {width}, strides {step} along axis {axis!r}: {problem}") from None
    return made


def _positions(vector: Vector, x: Features) -> Axes:
    """The spatial axes that ``vector`` has now."""
    sizes = dict(vector.axes)
    return tuple((axis, sizes[axis]) for axis, _ in x.axes)


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
        reads = _reads(to, x, "filter_shape", self.filter_shape, self.strides)
        if self.groups > 1:
            self._need_groups(to, x)
        vectors = [block.vector for block in x.blocks]
        seen = self.windows(to, x, reads)
        for axis, index in seen:
            out = ((axis, index.positions), (_offset(axis), index.size))
            vectors = [vector.map(axis, out, index) for vector in vectors]
        window = tuple((_offset(axis), width) for axis, _, width, _ in reads)
        axes = _positions(vectors[0], x)
        # of all channels that enter, the weights of one output see the share 1 / groups
        weights = Weights(self.W_std, self.b_std, self.parameterization, self.s[0] * self.groups)
        mask = None if x.mask is None else self.mask(to, x.mask, seen)
        dim, local = to.cdc(self.out_chan), axes if self.local else ()
        vector = weights.affine(to, x, dim, window, local, vectors, mask)
        return Features((Block(vector, self.out_chan),), axes, mask)

    def mask(self, to: Emitter, mask: Scalar, seen: list[Any]) -> Scalar:
        """The mask behind it: that of the positions in the middle of the filters."""
        return _middles(mask, seen)

    def windows(self, to: Emitter, x: Features, reads: list[tuple[str, int, int, int]]) -> list[Any]:
        """(axis, map to (position, offset in the filter)) per spatial axis."""
        dilation = _per_axis(to, x, "dilation", self.dilation or (1,) * len(self.filter_shape))
        _need_room(to, x, "filter_shape", self.filter_shape, dilation, self.padding)
        made = _mapped(
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

    fan_in = channels x prod(filter_shape); padding "VALID", "SAME" (TensorFlow's) or "CIRCULAR".

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
    """As `Conv`, but weights and biases are independent at every position."""

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
    """Transposed convolution, the positions of jax.lax.conv_transpose."""

    out_chan: Size
    filter_shape: Sizes
    strides: OptionalSizes = None
    padding: TransposePadding = "VALID"
    W_std: Deviation = 1.0
    b_std: OptionalDeviation = None
    parameterization: Parameterization = "ntk"
    s: Scales = (1.0, 1.0)

    def windows(self, to: Emitter, x: Features, reads: list[tuple[str, int, int, int]]) -> list[Any]:
        return _mapped(
            to, "filter_shape", reads, lambda _, n, width, step: Transposed(n, width, step, self.padding)
        )

    def mask(self, to: Emitter, mask: Scalar, seen: list[Any]) -> Scalar:
        raise to.error(
            "of what it makes no position belongs to one that it reads, so nothing says which are masked; "
            "pool or flatten before it, or leave mask_constant out"
        )


def _middles(mask: Scalar, seen: list[tuple[str, Window | Pool]]) -> Scalar:
    """The mask of windows: that of the position in their middle."""
    for axis, index in seen:
        reach = index.reach
        middles = tuple((start + (reach - 1) // 2) % index.length for start in index.starts)
        if middles != tuple(range(index.length)):
            mask = mask.map(axis, ((axis, len(middles)),), Take(index.length, middles))
    return mask


def _pooled(
    to: Emitter,
    x: Features,
    window: tuple[int, ...],
    strides: tuple[int, ...] | None,
    padding: str,
    scaled: str,
) -> Features:
    reads = _reads(to, x, "window_shape", window, strides)
    _need_room(to, x, "window_shape", window, (1,) * len(window), padding)

    def pool(_: int, size: int, width: int, step: int) -> Pool:
        return Pool(size, width, step, padding, {"sum": 1.0, "average": 1.0 / width, "inside": None}[scaled])

    vectors = [block.vector for block in x.blocks]
    seen: list[Any] = _mapped(to, "window_shape", reads, pool)
    for axis, index in seen:
        vectors = [vector.map(axis, ((axis, index.count),), index) for vector in vectors]
    axes = _positions(vectors[0], x)
    mask = _middles(x.mask, seen) if x.mask is not None else None
    return x.replace(to.masked(vectors, mask), axes).masked(mask)


@dataclass(frozen=True, repr=False)
class AvgPool(Layer):
    """Mean over windows; at SAME borders by the window's size, or (normalize_edges) the positions inside."""

    window_shape: Sizes
    strides: OptionalSizes = None
    padding: Padding = "VALID"
    normalize_edges: Flag = False

    def emit(self, to: Emitter, x: Features) -> Features:
        scaled = "inside" if self.normalize_edges else "average"
        return _pooled(to, x, self.window_shape, self.strides, self.padding, scaled)


@dataclass(frozen=True, repr=False)
class SumPool(Layer):
    """Sum over windows."""

    window_shape: Sizes
    strides: OptionalSizes = None
    padding: Padding = "VALID"

    def emit(self, to: Emitter, x: Features) -> Features:
        return _pooled(to, x, self.window_shape, self.strides, self.padding, "sum")


@dataclass(frozen=True, repr=False)
class GlobalAvgPool(Layer):
    """Mean over all positions, of those that are not masked."""

    def emit(self, to: Emitter, x: Features) -> Features:
        _need_axes(to, x)
        if x.mask is None:
            return x.replace([block.vector.mean(*x.sizes()) for block in x.blocks], ())
        share = 1.0 / to.count(x.mask, x.sizes())
        sums = [block.vector.sum(*x.sizes()) for block in x.blocks]
        return x.replace([to.scale(vector, share) for vector in sums], ()).masked(None)


@dataclass(frozen=True, repr=False)
class GlobalSumPool(Layer):
    """Sum over all positions."""

    def emit(self, to: Emitter, x: Features) -> Features:
        _need_axes(to, x)
        return x.replace([block.vector.sum(*x.sizes()) for block in x.blocks], ()).masked(None)


@dataclass(frozen=True, repr=False)
class ImageResize(Layer):
    """jax.image.resize of the spatial axes; ``shape`` has all axes, -1 for batch, channels and what stays."""

    shape: Shape
    method: ResizeMethod
    antialias: Flag = True

    def emit(self, to: Emitter, x: Features) -> Features:
        _need_axes(to, x)
        rank = len(x.axes) + 2
        if len(self.shape) != rank or self.shape[0] != -1 or self.shape[-1] not in (-1, x.channels):
            raise to.error(
                f"shape is {self.shape}; it must have {rank} entries, -1 for the batch axis and the channels"
            )
        if max(self.shape[1:-1]) > LONGEST:
            raise to.error(f"shape is {shown(self.shape)}; an axis has at most {LONGEST} positions")
        vectors = [self._resized(x, block.vector) for block in x.blocks]
        axes = _positions(vectors[0], x)
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
