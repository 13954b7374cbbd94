"""Derivatives of the kernels of nets with index axes, pair by pair: cells forwards and back."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tpnum.kernels.adjoints import spread
from tpnum.lower.numbers import axes_of, inverse, padded, positions
from tpnum.lower.unsupported import Unsupported
from tpnum.tiles.gradients.cells import CellAdjoints, channels_of
from tpnum.tiles.grid import Tile

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.evaluate.plan import Plan
    from tpnum.evaluate.tangents import ProfileTangents
    from tpnum.lower.channels import Channel
    from tpnum.lower.variances import Variances

    Moves = tuple[np.ndarray, np.ndarray]
    """The parameters that some numbers move with, and their derivatives (n, positions, examples)."""


class CellDerivatives(CellAdjoints):
    """One way back for every pair, whose adjoints are contracted with how the numbers of its inputs move."""

    def __init__(
        self, plan: Plan, kind: str, sides: tuple[ProfileTangents, ProfileTangents], variances: Variances
    ):
        if plan.axes != ((), ()):
            raise Unsupported("the output has index axes: a way back for each of their positions")
        self.sides = sides
        self._moves: dict[Hashable, Moves] = {}
        self._moving = threading.Lock()
        super().__init__(
            replace(plan, entries={kind: plan.entries[kind]}), (sides[0].values, sides[1].values), variances,
            sides[0].moving, sides[0].count, alone=sides[0] is sides[1], each=True,
        )  # fmt: skip

    def block(self, tile: Tile) -> tuple[np.ndarray, list[Tile]]:
        """(parameters, rows, columns) of a tile, and the parts of it that series do not reach.

        The last parameter is the one that the kernel is the derivative by.
        """
        programs = self.ready(tile)
        shape = tile.rows.stop - tile.rows.start, tile.cols.stop - tile.cols.start
        made, left = np.zeros((self.count, *shape)), []
        rows, cols = np.ogrid[tile.rows, tile.cols]
        wanted = (cols >= rows + self.apart) | (not tile.mirror)
        for one in self.passes(programs, tile, wanted.astype(np.float64)):
            height, width = one.rows[1] - one.rows[0], one.strip.stop - one.strip.start
            firsts = tile.rows.start + one.rows[0], tile.cols.start + one.strip.start
            totals = np.zeros((height, self.count, self.lanes))
            for k, name, channel in channels_of(programs):
                which, moves = self._moves_of(channel)
                if which.size:
                    at, size = one.places[k][name]
                    bars = one.buffers[at : at + size * height * self.lanes].reshape(height, size, self.lanes)
                    spread(totals, bars, which, moves, channel.side, firsts[channel.side])
            made[:, slice(*one.rows), one.strip] = totals.transpose(1, 0, 2)[..., :width]
            for entry, view in self.values(one):
                made[-1, slice(*one.rows), one.strip] += entry.weight * view
            left += one.left
        return made, left

    def _moves_of(self, channel: Channel) -> Moves:
        """The derivatives of what a channel belongs to, at all examples of its side."""
        node, side = channel.node, channel.side
        key = (
            (node.key, side, channel.grid, channel.log) if node is not None
            else None if channel.slopes is None else tuple(channel.slopes)
        )  # fmt: skip
        with self._moving:
            if key not in self._moves:
                self._moves[key] = self._make(channel)
            return self._moves[key]

    def _make(self, channel: Channel) -> Moves:
        side, size = channel.side, self.profiles[channel.side].size
        if channel.node is None:
            slopes = np.zeros(self.count) if channel.slopes is None else channel.slopes
            which = np.flatnonzero(slopes)
            return which, np.repeat(slopes[which], size).reshape(-1, 1, size)
        axes = axes_of(channel.grid, side)
        found = self.sides[side].along(channel.node, axes)
        if found is None:
            return np.empty(0, np.intp), np.empty((0, 1, size))
        if channel.log:
            found = found * (0.5 * inverse(self.profiles[side].along(channel.node, axes)))
        which = np.flatnonzero([one.any() for one in found])
        made = np.empty((which.size, positions(channel.grid, side), size))
        for out, one in zip(made, found[which], strict=True):
            padded(one, axes, out)
        return which, made
