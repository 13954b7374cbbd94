"""Layers that share their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tpnum import arguments
from tpnum.errors import SpecError
from tpnum.nn.arguments import Accepts
from tpnum.nn.base import Layer
from tpnum.nn.combinators import Around

if TYPE_CHECKING:
    from tpnum.nn.base import Tree
    from tpnum.nn.emitter import Emitter

Name = Annotated[str, Accepts("a name", lambda value: str(arguments.text(value, "name", SpecError)))]


@dataclass(frozen=True, repr=False)
class Tied(Around):
    """A layer whose weights are those of every other `Tied` layer of the same ``name`` in the net.

    >>> block = nn.Tied(nn.serial(nn.Dense(64), nn.Relu()), "block")
    >>> net = nn.serial(nn.Dense(64), nn.Relu(), block, block, nn.Dense(1))  # one matrix, twice

    The layers of one name must draw the same weights: as many, of the same sizes and laws.
    """

    layer: Layer
    name: Name = "tied"

    def emit(self, to: Emitter, x: Tree) -> Tree:
        with to.tied(self.name):
            return to.run(self.layer, x, "layer")
