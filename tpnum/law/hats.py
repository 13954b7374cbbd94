"""Products with one matrix in an ensemble: hats given earlier hats, and the dots of Stein's lemma.

The hats of a channel (a matrix in one direction) are combinations of independent standard normals, its
innovations: hats = L eps with L L' = s^2 E[Z^x Z^x'] by the second moments of the samples.  A hat that the
earlier ones explain has no innovation.  For a vector x that depends on the hats H of the opposite channel,

    E[d Z^x / d H] = C^+ E[Z^x H],  C = Cov(H) = L L':  theta with L' theta = E[Z^x eps].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.kernels import conditional as kernels

if TYPE_CHECKING:
    from tpnum.law.steps import Channel, Multiply

COLLINEAR = 1e-8
"""A hat of which the earlier ones leave a smaller part of its variance has no innovation.

Slopes along an innovation are known to 1 over its size and the root of the samples: far smaller ones, as in
many small residual steps, add nothing but noise.
"""


class Hats:
    """The products of one channel so far, in one replicate."""

    def __init__(self, channel: Channel) -> None:
        count = len(channel.names)
        self.channel = channel
        self.gram = np.zeros((count, count))
        self.factor = np.zeros((count, count))
        self.pivots = np.zeros(count, dtype=np.int64)
        self.rank = 0

    @property
    def innovations(self) -> np.ndarray:
        """The rows of the innovations."""
        return self.channel.hat_rows[self.pivots[: self.rank]]

    def enter(self, moments: np.ndarray, begin: int, end: int) -> np.ndarray:
        """Take the second moments of new operands with all so far; the new innovations, by number."""
        self.gram[begin:end, :end] = moments
        self.gram[:end, begin:end] = moments.T
        before = self.rank
        self.rank = kernels.condition(
            self.gram, self.channel.variance, self.factor, self.pivots, before, begin, end, COLLINEAR
        )
        return np.arange(before, self.rank)

    def slopes(self, moments: np.ndarray, step: Multiply) -> np.ndarray:
        """E[d Z^x / d hat] for the vectors of an opposite step, by product; ``moments`` are E[Z^x eps]."""
        made = np.zeros((len(moments), len(self.channel.names)))
        pivots = self.pivots[: moments.shape[1]]
        within = np.searchsorted(pivots, step.upto)
        solved = moments.copy()
        kernels.back_substitute(self.factor, pivots, within, solved)
        made[:, pivots] = solved
        for i, chosen in enumerate(step.reached):
            if chosen is not None:
                some = self.factor[chosen, : within[i]]
                made[i] = 0.0
                made[i, chosen] = np.linalg.lstsq(some.T, moments[i, : within[i]], rcond=COLLINEAR)[0]
        return made
