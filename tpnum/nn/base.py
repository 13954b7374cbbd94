"""What layers are and what flows between them.

A layer is a frozen dataclass of its arguments.  `Layer.emit` appends its lines to a program through an
`Emitter` and returns the features that come out; it knows nothing of laws, plans or kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from inspect import Signature, signature
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

from tpnum.arguments import shown
from tpnum.errors import SpecError
from tpnum.nn.arguments import convert, misfit, names_of

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter
    from tpnum.program import Program, Scalar, Vector
    from tpnum.program.lines import Axes


F = TypeVar("F", bound="Callable[..., Any]")


@dataclass(frozen=True, slots=True)
class Block:
    """Some of the channels: one vector and how many they are.

    ``flat`` are the axes that a Flatten has turned into channels: the next layer with weights takes
    an independent matrix per index of them.
    """

    vector: Vector
    width: int
    flat: Axes = ()

    @property
    def channels(self) -> int:
        """Channels of the real layer: the width times the flattened positions."""
        return self.width * self.copies

    @property
    def copies(self) -> int:
        return math.prod(size for _, size in self.flat)


@dataclass(frozen=True, slots=True)
class Features:
    """What a layer gets and gives: channel blocks over common spatial ``axes``.

    More than one block comes from `FanInConcat`: W [h1; h2] = W1 h1 + W2 h2, the variance split by width.
    ``mask`` is 1 at the positions that an example has and 0 at those of its padding, where all channels are
    zero; None where every example has every position.
    """

    blocks: tuple[Block, ...]
    axes: Axes = ()
    mask: Scalar | None = None

    @property
    def channels(self) -> int:
        return sum(block.channels for block in self.blocks)

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of the channels that each block has."""
        return tuple(block.channels / self.channels for block in self.blocks)

    @property
    def has_data(self) -> bool:
        """Whether some block is raw data, on which only linear layers act."""
        return any(block.vector.kind == "D" for block in self.blocks)

    def sizes(self) -> dict[str, int]:
        return dict(self.axes)

    def replace(self, vectors: Sequence[Vector], axes: Axes | None = None) -> Features:
        """The same blocks and mask with other vectors."""
        blocks = tuple(
            Block(vector, block.width, block.flat) for vector, block in zip(vectors, self.blocks, strict=True)
        )
        return Features(blocks, self.axes if axes is None else axes, self.mask)

    def masked(self, mask: Scalar | None) -> Features:
        """The same vectors with another mask."""
        return Features(self.blocks, self.axes, mask)


Tree: TypeAlias = "Features | tuple[Tree, ...]"
"""Features, or the branches between a FanOut and a FanIn."""


class LayerError(SpecError, TypeError):
    """A call of a layer with arguments that it does not have, or without one that it needs."""


class _Called(type):
    """The class of layer classes: a call is read before it is made, so that a mistake has one sentence."""

    def __call__(cls, *args: Any, **given: Any) -> Any:
        owner = next(c for c in cls.__mro__ if "__init__" in c.__dict__)
        generated = getattr(owner.__dict__.get("__dataclass_params__"), "init", False)
        complaint = misfit(*names_of(owner), args, given) if generated else None
        if complaint:
            raise LayerError(f"{getattr(cls, 'op', '')}: {complaint}")
        return super().__call__(*args, **given)

    @property
    def __signature__(cls) -> Signature:
        """What tools are shown: the arguments of the layer, not of this call."""
        first, *rest = signature(cls.__init__).parameters.values()  # type: ignore[misc]
        return Signature(rest)


def called(f: F) -> F:
    """A function that makes a layer, called as layer classes are."""
    parameters = signature(f).parameters.values()
    names = [p.name for p in parameters]
    required = [p.name for p in parameters if p.default is p.empty]

    @wraps(f)
    def made(*args: Any, **given: Any) -> Any:
        complaint = misfit(names, required, args, given)
        if complaint:
            raise LayerError(f"{f.__name__}: {complaint}")
        return f(*args, **given)

    return made  # type: ignore[return-value]


class Layer(metaclass=_Called):
    """Base of all layers.  Equal arguments make equal layers; every use draws weights of its own."""

    op: ClassVar[str] = ""
    """The name in the JSON form; the class name unless said otherwise."""
    branching: ClassVar[bool] = False
    """Whether the layer takes branches (or anything) rather than features."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "op" not in cls.__dict__:
            cls.op = cls.__name__

    def __post_init__(self) -> None:
        complaint = convert(self)
        if complaint:
            raise self.error(complaint)

    def error(self, message: str) -> SpecError:
        return SpecError(f"{self.op}: {message}")

    def emit(self, to: Emitter, x: Any) -> Any:
        """Append the lines of the layer to ``to`` and return the features that come out."""
        raise self.error("a layer class defines emit(to, x)")

    def __tpnum_program__(self, shape: Any) -> Program:
        """What `tpnum.limit` and its like read where a net is given with a shape."""
        from tpnum.nn.emitter import program

        return program(self, shape)

    def arguments(self) -> dict[str, Any]:
        """The arguments that have no default or differ from it, in order."""
        given = {f.name: (f.default, getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]
        return {
            name: value for name, (default, value) in given.items() if default is MISSING or value != default
        }

    def to_spec(self) -> dict[str, Any]:
        """The JSON form, which `from_spec` reads back to an equal layer."""
        return {"op": self.op} | {name: _plain(value) for name, value in self.arguments().items()}

    def __repr__(self) -> str:
        required = {f.name for f in fields(self) if f.default is MISSING}  # type: ignore[arg-type]
        shown = [repr(v) if n in required else f"{n}={v!r}" for n, v in self.arguments().items()]
        return f"{type(self).__name__}({', '.join(shown)})"


def no_layer(value: Any, wanted: str = "a layer") -> str:
    """What a thing in the place of a layer is, and what makes a layer of it: "x is ..."."""
    if isinstance(value, type) and issubclass(value, Layer):
        return f"a class; write {value.__name__}()"
    hint = ""
    if isinstance(value, (list, tuple)):
        hint = "; nn.serial(*layers) makes a layer of a sequence"
    elif isinstance(value, Mapping):
        hint = "; nn.from_spec reads a layer from its JSON form"
    elif isinstance(value, str) or callable(value):
        hint = "; nn.Elementwise(f) makes a layer of a function"
    return f"{shown(value)}; it must be {wanted}{hint}"


def _plain(value: Any) -> Any:
    if isinstance(value, Layer):
        return value.to_spec()
    if value is ...:
        return "..."
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value
