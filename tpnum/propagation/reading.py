"""Second moments of features and of their tangents at a few inputs, for every layer of a net at once.

The inputs are given by their Gram matrix.  The tangents are those of the first weights alone: their second
moments are what a perturbation of the input grows to, and by the transposed product what a gradient does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tpnum.errors import InputError, LimitError, SpecError, require_memory
from tpnum.evaluate.blocks import dims
from tpnum.evaluate.data import bind
from tpnum.evaluate.joint import Account
from tpnum.evaluate.profile import ProfileValues
from tpnum.evaluate.tile import TileValues
from tpnum.law.lines import Lines
from tpnum.law.pairs import Pairs
from tpnum.nn.arguments import read_sizes
from tpnum.nn.base import Block, Features, Layer
from tpnum.nn.emitter import AXES, BATCH, Emitter
from tpnum.program import Program
from tpnum.program.lines import Data, Input, Line, Matrix

if TYPE_CHECKING:
    from tpnum.law import graph
    from tpnum.program.lines import Axes

DATA = "inputs.u"
"""The inputs, a name that no line of a user's has."""

CHANNELS = 2
"""Of the inputs: two inputs span no more."""


def positions(shape: Any) -> tuple[int, ...]:
    """The positions of features, none for ()."""
    try:
        if isinstance(shape, (tuple, list)) and not len(shape):
            return ()
        return _sizes(shape)
    except Exception:
        raise InputError("shape: the positions of the features are needed, as 16 or (8, 8)") from None


def example(shape: Any) -> tuple[int, ...]:
    """The positions of one example of ``shape`` = (.., channels)."""
    if shape is None:
        return ()
    try:
        return _sizes(shape)[:-1]
    except Exception:
        raise InputError("shape: the (.., channels) of one example are needed, as 3 or (32, 32, 3)") from None


def _sizes(shape: Any) -> tuple[int, ...]:
    """Sizes, of which a single one may be a number."""
    return read_sizes([shape] if isinstance(shape, (int, np.integer)) else shape)


class Stage(NamedTuple):
    """What a layer or a line gave: its place, its name, its features, the layer if it is one."""

    place: str
    op: str
    features: Features
    layer: Layer | None = None

    @property
    def width(self) -> int:
        return self.features.channels

    @property
    def gaussian(self) -> bool:
        return all(b.vector.kind in "GD" for b in self.features.blocks)


def emitted(
    layers: Sequence[tuple[str, Layer]],
    spatial: Sequence[int] = (),
    batch_size: int | None = None,
    first: Callable[[Emitter, Axes], Stage] | None = None,
) -> tuple[Program, list[Stage]]:
    """The program of layers one after another, and what each of them gave.

    They act on data, or on what ``first`` makes, which is a stage then.  ``batch_size``: along a first axis.
    """
    names = AXES.get(len(spatial)) or tuple(f"p{index}" for index in range(len(spatial)))
    axes: Axes = tuple(zip(names, spatial, strict=True))
    batch: Axes = () if batch_size is None else ((BATCH, batch_size),)
    to = Emitter(Program(), batch)
    stages = [] if first is None else [first(to, axes)]
    x: Any
    if stages:
        x = stages[0].features
    else:
        x = Features((Block(to.program.data(DATA, (*batch, *axes), channels="d"), CHANNELS),), axes)
    for place, layer in layers:
        x = to.run(layer, x, place)
        if not isinstance(x, Features):
            raise SpecError(f"{place}: it ends in {len(x)} branches; signals are read where these are joined")
        stages.append(Stage(place, layer.op, x, layer))
    to.settle_widths()
    return to.program, stages


def inputs(gram: np.ndarray, spatial: Sequence[int] = ()) -> np.ndarray:
    """Inputs (N, *spatial, 2) of rank at most two with this Gram matrix x.x'/d, the same at every
    position.
    """
    values, vectors = np.linalg.eigh(gram)
    root = vectors[:, -CHANNELS:] * np.sqrt(np.maximum(values[-CHANNELS:], 0.0))
    if root.shape[1] < CHANNELS:
        root = np.concatenate([root, np.zeros((len(gram), CHANNELS - root.shape[1]))], axis=1)
    return placed(np.sqrt(CHANNELS) * root, spatial)


def placed(x: np.ndarray, spatial: Sequence[int]) -> np.ndarray:
    """Rows (N, channels) at every position."""
    require_memory(8.0 * math.prod((*x.shape, *spatial)), "shape: inputs at every position")
    full = x.reshape(len(x), *([1] * len(spatial)), x.shape[-1])
    return np.broadcast_to(full, (len(x), *spatial, x.shape[-1])).copy()


class Moments:
    """Second moments of features of a program at inputs x, and of their tangents.

    ``trained`` "input": the tangents of the matrices that multiply data alone; "all": as they are.  All nodes
    of ``wanted`` are written down before any is computed: expectations and their slopes are found together.
    Along the axes ``by`` (the batch) second moments are kept per pair of indices.  ``account`` knows the
    error of what has been sampled.
    """

    def __init__(
        self,
        program: Program,
        x: np.ndarray | Mapping[str, np.ndarray],
        wanted: Iterable[Features] = (),
        trained: str = "input",
        by: tuple[str, ...] = (),
    ) -> None:
        source = perturbed(program) if trained == "input" else program
        self.program = source.tangent()
        arrays = {DATA: x} if isinstance(x, np.ndarray) else dict(x)
        self.size, self.by = len(arrays[DATA]), by
        self._pairs = Pairs(Lines(self.program))
        self._data = bind(self.program, arrays)
        self.account = Account()
        self._profiles = ProfileValues(self._pairs, 0, self._data, self.account)
        everything = slice(0, self.size)
        self._values = TileValues(self._profiles, self._profiles, everything, everything, same=True)
        for features in wanted:
            for block in features.blocks:
                name = block.vector.name
                for own in (name, self.program.tangents.get(name)):
                    if own is not None:
                        self._node(own)

    def _node(self, name: str) -> graph.Pair | None:
        axes = self._pairs.lines[0].axes(name)
        return self._pairs.second(name, name, tuple(axis for axis in axes if axis[0] not in self.by))

    def second(self, features: Features, tangents: bool = False) -> np.ndarray:
        """E Z Z' per pair of inputs, averaged over channels and equal positions: (N, *by, N, *by)."""
        total: Any = 0.0
        for block, share in zip(features.blocks, features.shares, strict=True):
            total = total + share * self._of(block.vector.name, tangents)
        return np.asarray(total)

    def diagonal(self, features: Features) -> np.ndarray:
        """E Z^2 per input, averaged over channels and positions: in time linear in the inputs."""
        total = np.zeros(self.size)
        for block, share in zip(features.blocks, features.shares, strict=True):
            name = block.vector.name
            if block.vector.kind == "D":
                total += share * np.mean(self._data[name] ** 2, axis=tuple(range(1, self._data[name].ndim)))
                continue
            node = self._pairs.sites[0].second(name, name)
            if node is not None:
                values = self._profiles(node)
                total += share * values.reshape(self.size, -1).mean(axis=1)
        if not np.isfinite(total).all():
            raise LimitError("the forward variance overflows; start from a smaller q")
        return total

    def _of(self, name: str, tangents: bool) -> np.ndarray:
        found = self.program.tangents.get(name) if tangents else name
        node = None if found is None else self._node(found)
        if node is None:
            sizes = (self.size, *(dict(self.program.vars[name].axes)[axis] for axis in self.by))
            return np.zeros((*sizes, *sizes))
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
            block = self._values.full(node)
        order = dims(node)
        keep = [(axis, side) for side in (0, 1) for axis in ("", *self.by)]
        over = tuple(k for k, key in enumerate(order) if key not in keep)
        made = np.asarray(block.mean(axis=over) if over else block)
        kept = [key for key in order if key in keep]
        return made.transpose([kept.index(key) for key in keep])


def perturbed(program: Program) -> Program:
    """The program of which nothing is trained but the matrices that multiply the data `DATA`."""
    channels = {line.channels for line in program.lines if isinstance(line, Data) and line.name == DATA}
    made = type(program)()
    for dim, ratio in program.dims.items():
        made.dim(dim, ratio)
    for line in program.lines:
        made.append(_only(line, channels))
    made._outputs_of(program)
    return made


def _only(line: Line, channels: Iterable[str]) -> Line:
    match line:
        case Matrix():
            return replace(line, tangent=line.var if line.cols in channels else 0.0)
        case Input():
            return replace(line, tangent=0.0)
    return line
