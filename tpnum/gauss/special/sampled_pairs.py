"""Functionals of two correlated Gaussian vectors on shared points: v = A x + B y given u = L x.

x and y are scrambled Sobol points, matched to the first two moments, in replicates whose spread is the
error.  The squares of both sides, known of either alone on more points or exactly, are averaged over the
pair's own points too, which says by how much these are off: of sides that are nearly equal the product is off
by as much.  So what is sampled of them is E (F - G)^2, and equal ones have the second moment of either.

A pair has its value in whatever company and order it comes, with as many points as its own accuracy takes:
what stands on sums over pairs, and on those of others, finds the same numbers in both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.gauss.special.families import REPLICATES, T95, Family, matched_points
from tpnum.gauss.special.sampled_maxima import RICHER, Largest
from tpnum.gauss.special.sampled_norms import Normalised

if TYPE_CHECKING:
    from tpnum.gauss.special.functional import Functional
    from tpnum.gauss.special.pairing import Pairing
    from tpnum.gauss.special.sampled_rules import Rule

LEAST, MOST = 9, 15
"""Powers of two of the points of a replicate."""

ALONE = 13
"""Squares of a family have so many if 1e-4 is enough."""

RATE = 0.8
"""Errors fall with about this power of the points."""


class Sampler:
    """Averages over points, to ``rtol`` of every cell's scale or within ``budget``."""

    def __init__(self, rtol: float, budget: int | None) -> None:
        self.rtol = rtol
        most = MOST if budget is None else int(np.log2(max(budget // REPLICATES, 1)))
        self.most = min(max(most, LEAST), MOST)
        self.alone = min(self.most + RICHER, ALONE + _more(1e-4 / rtol))

    def mean(self, family: Family, functional: Functional) -> tuple[np.ndarray, np.ndarray]:
        """E of a functional of every family, (families, 1 or d), and its error, (families,)."""
        made = np.stack(
            [
                np.concatenate(
                    [functional.value(family.at(w, x)).mean(axis=-1) for w in family.pieces(x.shape[1])]
                )
                for x in matched_points(family.cov.shape[1], self.most)
            ]
        )
        spread = (made.var(axis=0, ddof=1) / len(made)).mean(axis=1)
        return made.mean(axis=0), T95 * np.sqrt(spread)

    def pairs(
        self, what: str, first: Functional, second: Functional, given: Pairing
    ) -> tuple[np.ndarray, np.ndarray]:
        """`tpnum.gauss.special.jointly.expectation` by points, as many as the accuracy takes."""
        rule: type[Rule] = Largest if first.kind == "max" else Normalised
        pairing, turned = given.oriented() if first == second else (given, np.zeros(len(given.a), dtype=bool))
        power = min(LEAST + _more(rule.usual[what] / self.rtol), self.most)
        value, error, scale = self._run(rule, what, (first, second), pairing, power)
        todo = np.flatnonzero(error > self.rtol * scale)
        while len(todo) and power < self.most:
            power += 1
            value[todo], error[todo], scale = self._run(
                rule, what, (first, second), pairing.some(todo), power
            )
            todo = todo[error[todo] > self.rtol * scale]
        if value.ndim > 1:
            value[turned] = value[turned].swapaxes(1, 2)
        return value, error

    def _run(
        self,
        rule: type[Rule],
        what: str,
        functionals: tuple[Functional, Functional],
        pairing: Pairing,
        power: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return rule(what, functionals, pairing, power, max(self.alone, power + RICHER))()


def _more(times: float) -> int:
    """The powers of two of points that make an error so many times smaller."""
    return int(np.ceil(max(0.0, np.log2(times)) / RATE))
