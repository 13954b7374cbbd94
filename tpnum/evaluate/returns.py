"""Where a way back over pairs of inputs ends: sums over a tile, or numbers of every row or pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.evaluate.adjoints import summed
from tpnum.evaluate.blocks import dims
from tpnum.jets import slopes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpnum.evaluate.blocks import Dim
    from tpnum.evaluate.general import PairValues
    from tpnum.evaluate.tangents import ProfileTangents
    from tpnum.law import graph

EXAMPLES: tuple[Dim, Dim] = (("", 0), ("", 1))


class Gathered:
    """Adjoints of the examples of one side of a tile: of quantities of one input, and of data lines."""

    def __init__(self) -> None:
        self.bars: dict[graph.Key, tuple[graph.Profile, np.ndarray]] = {}
        self.data: dict[str, np.ndarray] = {}

    def add(self, node: graph.Profile, bar: np.ndarray) -> None:
        """More of the adjoint (n, *axes) of a quantity."""
        old = self.bars.get(node.key)
        self.bars[node.key] = node, bar if old is None else old[1] + bar

    def add_data(self, name: str, bar: np.ndarray) -> None:
        """More of that of a data line (n, *axes, channels)."""
        self.data[name] = bar if name not in self.data else self.data[name] + bar


class Summed:
    """Everything summed over the pairs of a tile, each side for itself.

    ``params`` are the derivatives by ``count`` parameters that the coefficients of pair nodes have.
    """

    kept: tuple[Dim, ...] = ()

    def __init__(self, values: PairValues, count: int):
        self.values = values
        self.params = np.zeros(count)
        self.sides = Gathered(), Gathered()

    def coefficient(self, value: float, bar: np.ndarray, own: Sequence[Dim]) -> None:
        self.params += slopes_of(value, self.params.size) * bar.sum()

    def profile(self, node: graph.Profile, side: int, bar: np.ndarray, own: Sequence[Dim]) -> None:
        self.sides[side].add(node, _along(self.values, node, side, bar, own))

    def gram(self, node: graph.Gram, bar: np.ndarray) -> None:
        """Products with the data of the other side, over the channels."""
        values = self.values
        letters = {key: chr(97 + k) for k, key in enumerate(dims(node))}
        tied = {name for name, _ in node.tied}
        names: list[list[Dim]] = [
            [("", s), *((n, 2 if n in tied else s) for n, _ in p.site.lines.axes(line))]
            for s, (line, p) in enumerate(zip(node.data, values.profiles, strict=True))
        ]
        data = [p.data[n][s] for n, p, s in zip(node.data, values.profiles, values.slices, strict=True)]
        spell = ["".join(letters[key] for key in own) + "z" for own in names]
        whole = "".join(letters.values())
        for side in (0, 1):
            other = data[1 - side].astype(np.float64)
            made = np.einsum(f"{whole},{spell[1 - side]}->{spell[side]}", bar, other, optimize=True)
            self.sides[side].add_data(node.data[side], made / other.shape[-1])


class Apart:
    """The derivatives (parameters, *kept) by parameters, for the examples that are ``kept`` apart.

    Where rows are, ``gathered`` are the adjoints of their own inputs.
    """

    def __init__(
        self, values: PairValues, tangents: tuple[ProfileTangents, ProfileTangents], kept: tuple[Dim, ...]
    ):
        self.values, self.tangents, self.kept = values, tangents, kept
        sizes = [values.counts[side] for _, side in kept]
        self.params = np.zeros((tangents[0].count, *sizes))
        self.gathered = Summed(values, 0) if len(kept) == 1 else None

    @property
    def sides(self) -> tuple[Gathered, Gathered]:
        """What rows gather, where they are kept apart."""
        return (Gathered() if self.gathered is None else self.gathered.sides[0]), Gathered()

    def coefficient(self, value: float, bar: np.ndarray, own: Sequence[Dim]) -> None:
        slopes = slopes_of(value, len(self.params))
        for total, slope in zip(self.params, slopes, strict=True):
            if slope:
                total += slope * summed(bar, own, self.kept)

    def profile(self, node: graph.Profile, side: int, bar: np.ndarray, own: Sequence[Dim]) -> None:
        if self.gathered is not None and side == 0:
            self.gathered.profile(node, side, bar, own)
        moves = self.tangents[side](node)
        if moves is None:
            return
        both = [*EXAMPLES, *_profile_dims(self.values, node, side, own)[1:]]
        made = summed(bar, own, both)
        for total, move in zip(self.params, moves, strict=True):
            at = move[self.values.slices[side]] if len(move) > 1 else move
            each = (made * (at[:, None] if side == 0 else at[None])).sum(axis=tuple(range(2, made.ndim)))
            total += each.sum(axis=1) if len(self.kept) == 1 else each

    def gram(self, node: graph.Gram, bar: np.ndarray) -> None:
        if self.gathered is not None:
            self.gathered.gram(node, bar)  # the columns' are not asked for


def _profile_dims(values: PairValues, node: graph.Profile, side: int, own: Sequence[Dim]) -> list[Dim]:
    """The dimensions of a quantity of one input among those of an array."""
    names = [name for name, _ in values.profiles[side].axes(node)]
    return [("", side), *((name, 2 if (name, 2) in own else side) for name in names)]


def _along(
    values: PairValues, node: graph.Profile, side: int, bar: np.ndarray, own: Sequence[Dim]
) -> np.ndarray:
    """An adjoint summed to (n, *axes) of a quantity of one input."""
    return summed(bar, own, _profile_dims(values, node, side, own))
