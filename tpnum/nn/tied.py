"""Layers that share their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from tpnum import arguments
from tpnum.errors import SpecError
from tpnum.nn.arguments import Accepts
from tpnum.nn.base import Layer, no_layer
from tpnum.nn.combinators import Nest

if TYPE_CHECKING:
    from tpnum.nn.base import Tree
    from tpnum.nn.emitter import Emitter

Name = Annotated[str, Accepts("a name", lambda value: str(arguments.text(value, "name", SpecError)))]


@dataclass(frozen=True, repr=False)
class Tied(Nest):
    """A layer whose weights are those of every other `Tied` layer of the same ``name`` in the net.

    >>> block = nn.Tied(nn.serial(nn.Dense(64), nn.Relu()), "block")
    >>> net = nn.serial(nn.Dense(64), nn.Relu(), block, block, nn.Dense(1))  # one matrix, twice

    The layers of one name must draw the same weights: as many, of the same sizes and laws.
    """

    branching: ClassVar[bool] = True
    layer: Layer
    name: Name = "tied"

    def __post_init__(self) -> None:
        if not isinstance(self.layer, Layer):
            raise self.error(f"layer is {no_layer(self.layer)}")
        super().__post_init__()
        self._nest(self.layer)

    def emit(self, to: Emitter, x: Tree) -> Tree:
        with to.tied(self.name):
            return to.run(self.layer, x, "layer")
