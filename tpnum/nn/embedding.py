"""Embeddings of tokens: a matrix times one-hot inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpnum.nn.arguments import Deviation, OptionalDeviation, Parameterization, Size
from tpnum.nn.base import Block, Features, Layer
from tpnum.nn.weights import ONE

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter
    from tpnum.program import MatrixVar


@dataclass(frozen=True, repr=False)
class Embedding(Layer):
    """E x, a vector N(0, W_std^2) for each of ``vocabulary`` tokens; inputs are one-hot, np.eye(n)[tokens].

    Weighted tokens (counts, soft one-hot rows) are embedded linearly.  ``position_std`` adds a learned vector
    N(0, position_std^2) for every position, the same for all examples.  In "ntk" parameterization directions
    have the variances of the entries, else 1.
    """

    out_dim: Size
    vocabulary: Size
    W_std: Deviation = 1.0
    position_std: OptionalDeviation = None
    parameterization: Parameterization = "ntk"

    def emit(self, to: Emitter, x: Features) -> Features:
        if not x.has_data:
            raise to.error("it embeds one-hot inputs and gets features; put it first")
        if x.channels != self.vocabulary or len(x.blocks) > 1 or x.blocks[0].flat:
            raise to.error(
                f"vocabulary is {self.vocabulary}, but the inputs have "
                f"{'flattened positions' if x.blocks[0].flat else f'{x.channels} channels'}; give one-hot "
                "inputs, np.eye(vocabulary)[tokens]"
            )
        dim, (block,) = to.cdc(self.out_dim), x.blocks
        vectors = [self._matrix(to, dim, block.vector.dim, self.W_std, x.channels) @ block.vector]
        if self.position_std is not None:
            places = self._matrix(to, dim, ONE, self.position_std, 1, x)
            vectors.append(places @ to.ones(ONE, x.axes))
        return Features((Block(to.total(vectors, x.mask), self.out_dim),), x.axes, x.mask)

    def _matrix(
        self, to: Emitter, dim: str, cols: str, std: float, count: int, x: Features | None = None
    ) -> MatrixVar:
        """Entries N(0, std^2): a program's matrix has its variance over the number of columns."""
        var = std**2 * count
        tangent = var if self.parameterization == "ntk" else float(count)
        return to.matrix(dim, cols, var, tangent, x.axes if x else (), "E")
