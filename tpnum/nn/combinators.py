"""Layers made of layers: series, branches, and the joins that end them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import TYPE_CHECKING, Any, ClassVar

from tpnum.arguments import shown
from tpnum.errors import SpecError
from tpnum.nn.arguments import Axis, Branches, Count
from tpnum.nn.base import Block, Features, Layer, Tree, called, no_layer

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter
    from tpnum.program import Vector


NESTED = 40
"""Layers inside one another; series inside series are one."""


def serial(*layers: Layer) -> Serial:
    """Layers one after another; a series among them is spliced in."""
    return Serial(layers)


def parallel(*layers: Layer) -> Parallel:
    """One layer per branch: the i-th layer acts on the i-th branch of a `FanOut`."""
    return Parallel(layers)


@called
def Residual(body: Layer, shortcut: Layer | None = None) -> Serial:
    """Body(x) + x, or body(x) + shortcut(x): serial(FanOut(2), parallel(body, shortcut), FanInSum())."""
    for name, layer in (("body", body), ("shortcut", shortcut)):
        if not isinstance(layer, Layer) and not (layer is None and name == "shortcut"):
            raise SpecError(f"Residual: {name} is {no_layer(layer)}")
    return Serial((FanOut(2), Parallel((body, Identity() if shortcut is None else shortcut)), FanInSum()))


@called
def repeat(layer: Layer, n: int) -> Repeat:
    """``layer`` ``n`` times, each time with weights of its own."""
    return Repeat(layer, n)


class Nest(Layer):
    """A layer made of layers, which knows how many are inside one another."""

    branching: ClassVar[bool] = True
    _depth: ClassVar[int]  # of each instance; no argument

    def _nest(self, *inside: Layer) -> None:
        depth = 1 + max((layer._depth for layer in inside if isinstance(layer, Nest)), default=0)
        if depth > NESTED:
            raise self.error(f"its layers are more than {NESTED} deep inside one another; put them in series")
        object.__setattr__(self, "_depth", depth)


class Around(Nest):
    """Base of layers around one other."""

    layer: Layer

    def __post_init__(self) -> None:
        if not isinstance(self.layer, Layer):
            raise self.error(f"layer is {no_layer(self.layer)}")
        super().__post_init__()
        self._nest(self.layer)


class _Container(Nest):
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.layers, (tuple, list)):
            raise self.error(f"layers is {shown(self.layers)}; it must be a sequence of layers")
        object.__setattr__(self, "layers", tuple(self.layers))
        for index, entry in enumerate(self.layers):
            if not isinstance(entry, Layer):
                raise self.error(f"argument {index} is {no_layer(entry)}")
        self._nest(*self.layers)

    def __repr__(self) -> str:
        return f"{self.op}({', '.join(map(repr, self.layers))})"


@dataclass(frozen=True, repr=False)
class Serial(_Container):
    """Layers one after another (made by `serial`)."""

    op: ClassVar[str] = "serial"
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self._spliced()))
        super().__post_init__()

    def _spliced(self) -> Iterator[Layer]:
        for layer in self.layers:
            if isinstance(layer, Serial) and layer.branches() is None:
                yield from layer.layers
            else:
                yield layer

    def emit(self, to: Emitter, x: Tree) -> Tree:
        branches = self.branches()
        if branches is not None:
            join, named = branches
            copies = tuple(to.run(layer, x, name) for name, layer in named)
            return to.run(join, copies, "join")
        for index, layer in enumerate(self.layers):
            x = to.run(layer, x, f"layers[{index}]")
        return x

    def branches(self) -> tuple[Layer, list[tuple[str, Layer]]] | None:
        """The join and the named branches of a serial(FanOut, parallel, join), else None."""
        match self.layers:
            case (FanOut(num), Parallel(layers), FanInSum() as join) if num == len(layers) == 2:
                return join, [("body", layers[0]), ("shortcut", layers[1])]
            case (FanOut(num), Parallel(layers), FanIn() as join) if num == len(layers):
                return join, [(f"branches[{index}]", layer) for index, layer in enumerate(layers)]
        return None

    def to_spec(self) -> dict[str, Any]:
        branches = self.branches()
        if branches is None or branches[0].arguments():
            return super().to_spec()
        join, named = branches
        if isinstance(join, FanInSum) and len(named) == 2:
            return {"op": "residual"} | {name: layer.to_spec() for name, layer in named}
        name = next(name for name, made in JOINS.items() if made is type(join))
        return {"op": "branches", "join": name, "branches": [layer.to_spec() for _, layer in named]}


@dataclass(frozen=True, repr=False)
class Parallel(_Container):
    """One layer per branch (made by `parallel`)."""

    op: ClassVar[str] = "parallel"
    layers: tuple[Layer, ...]

    def emit(self, to: Emitter, x: Tree) -> Tree:
        count = len(x) if isinstance(x, tuple) else 1
        if not isinstance(x, tuple) or count != len(self.layers):
            raise to.error(
                f"it has {len(self.layers)} layers but gets {count} branches; put FanOut"
                f"({len(self.layers)}) before it"
            )
        return tuple(
            to.run(layer, branch, f"branches[{index}]")
            for index, (layer, branch) in enumerate(zip(self.layers, x, strict=True))
        )


@dataclass(frozen=True, repr=False)
class Repeat(Around):
    """A layer ``n`` times (made by `repeat`)."""

    op: ClassVar[str] = "repeat"
    layer: Layer
    n: Count

    def emit(self, to: Emitter, x: Tree) -> Tree:
        for index in range(self.n):
            x = to.run(self.layer, x, f"layer[{index}]")
        return x

    def __repr__(self) -> str:
        return f"repeat({self.layer!r}, {self.n})"


@dataclass(frozen=True, repr=False)
class Identity(Layer):
    """x -> x."""

    branching: ClassVar[bool] = True

    def emit(self, to: Emitter, x: Tree) -> Tree:
        return x


@dataclass(frozen=True, repr=False)
class FanOut(Layer):
    """The same features to ``num`` branches."""

    branching: ClassVar[bool] = True
    num: Branches

    def emit(self, to: Emitter, x: Tree) -> Tree:
        return (x,) * self.num


class FanIn(Layer):
    """Base of the joins: branches in, features out."""

    branching = True

    def emit(self, to: Emitter, x: Tree) -> Features:
        branches = [branch for branch in x if isinstance(branch, Features)] if isinstance(x, tuple) else []
        if not branches or len(branches) < len(x):  # type: ignore[arg-type]
            raise to.error("it joins the branches of one FanOut; put FanOut and parallel before it")
        if len({branch.axes for branch in branches}) > 1:
            shapes = " and ".join(str(tuple(branch.sizes().values())) for branch in branches)
            raise to.error(f"the branches have spatial shapes {shapes}; make strides and padding agree")
        made = self.join(to, branches)
        masks = {mask.name: mask for branch in branches if (mask := branch.mask) is not None}
        if len(masks) == 1 and all(branch.mask is not None for branch in branches):
            return made.masked(branches[0].mask)
        mask = reduce(mul, masks.values()) if masks else None  # masked where a branch is
        return made.replace(to.masked([block.vector for block in made.blocks], mask)).masked(mask)

    def join(self, to: Emitter, branches: Sequence[Features]) -> Features:
        raise self.error("a join defines join(to, branches)")


class _Elementwise(FanIn):
    """A join channel by channel, which needs branches of equal widths."""

    def join(self, to: Emitter, branches: Sequence[Features]) -> Features:
        if any(branch.has_data for branch in branches):
            raise to.error("a branch is raw data; give that branch a Dense or Conv of the right width")
        first = branches[0]
        shapes = [tuple((block.width, block.flat) for block in branch.blocks) for branch in branches]
        if len(set(shapes)) > 1:
            widths = " and ".join(
                "+".join(str(block.channels) for block in branch.blocks) for branch in branches
            )
            raise to.error(f"the branches have {widths} channels; give them equal widths")
        columns = zip(*(branch.blocks for branch in branches), strict=True)
        return first.replace([self.combine(to, [block.vector for block in column]) for column in columns])

    def combine(self, to: Emitter, vectors: list[Vector]) -> Vector:
        raise self.error("a channelwise join defines combine(to, vectors)")


@dataclass(frozen=True, repr=False)
class FanInSum(_Elementwise):
    """x1 + x2 + ..."""

    def combine(self, to: Emitter, vectors: list[Vector]) -> Vector:
        return to.total(vectors)


@dataclass(frozen=True, repr=False)
class FanInProd(_Elementwise):
    """x1 * x2 * ... channel by channel."""

    def combine(self, to: Emitter, vectors: list[Vector]) -> Vector:
        return to.product(vectors)


@dataclass(frozen=True, repr=False)
class FanInConcat(FanIn):
    """[x1; x2; ...] along the channels (``axis`` counts the batch axis; -1 are the channels)."""

    axis: Axis = -1

    def join(self, to: Emitter, branches: Sequence[Features]) -> Features:
        last = len(branches[0].axes) + 1
        if self.axis not in (-1, last):
            raise to.error(f"axis is {self.axis}; only channels (axis=-1) can be concatenated")
        blocks: tuple[Block, ...] = sum((branch.blocks for branch in branches), ())
        return Features(blocks, branches[0].axes)


JOINS: dict[str, Callable[[], FanIn]] = {"sum": FanInSum, "concat": FanInConcat, "prod": FanInProd}
"""The names of joins in the JSON form."""
