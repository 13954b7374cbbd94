"""Functionals of two correlated Gaussian vectors on shared points: v = A x + B y given u = L x.

x and y are scrambled Sobol points in replicates, whose spread is the error.  The squares of both sides, known
of either alone on more points or exactly, are averaged over the pair's own points too, which says by how much
these are off: of sides that are nearly equal the product is off by as much.  So what is sampled of them is
E (F - G)^2, and equal ones have the second moment of either.

A pair has its value in whatever company and order it comes, with as many points as its own accuracy takes:
what stands on sums over pairs, and on those of others, finds the same numbers in both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.gauss.special.families import REPLICATES, T95, Family, normal_sets
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
    """Averages over points, to ``rtol`` of every cell's scale or within ``budget``.

    Of one ``replicate`` alone there is no error, and cells have as many points as they have at first.
    """

    def __init__(self, rtol: float, budget: int | None, replicate: int | None = None) -> None:
        self.rtol = rtol
        self.replicates = range(REPLICATES) if replicate is None else range(replicate, replicate + 1)
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
                for x in normal_sets(family.cov.shape[1], self.most, self.replicates)
            ]
        )
        value = made.mean(axis=0)
        spread = ((made - value) ** 2).sum(axis=0).mean(axis=1) / (len(made) * max(1, len(made) - 1))
        return value, T95 * np.sqrt(spread)

    def pairs(
        self, what: str, first: Functional, second: Functional, given: Pairing
    ) -> tuple[np.ndarray, np.ndarray]:
        """`tpnum.gauss.special.jointly.expectation` by points, as many as the accuracy takes."""
        rule: type[Rule] = Largest if first.kind == "max" else Normalised
        pairing, turned = given.oriented() if first == second else (given, np.zeros(len(given.a), dtype=bool))
        least = min(LEAST + _more(rule.usual[what] / self.rtol), self.most)
        value, error, scale = self._run(rule, what, (first, second), pairing, least)
        wanted = self._wanted(least, error, scale)
        for power in range(least + 1, self.most + 1):
            cells = np.flatnonzero(wanted == power)
            if len(cells):
                made = self._run(rule, what, (first, second), pairing.some(cells), power)
                value[cells], error[cells], scale[cells] = made
                wanted[cells] = self._wanted(power, error[cells], scale[cells])
        if value.ndim > 1:
            value[turned] = value[turned].swapaxes(1, 2)
        return value, error

    def _wanted(self, power: int, error: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """The power that each cell's accuracy takes, by what this one reached; zero where that is enough."""
        enough = self.rtol * scale
        missed = error > enough
        times = np.divide(error, enough, out=np.full(len(error), np.inf), where=enough > 0.0)
        more = np.clip(np.ceil(np.log2(times, where=missed, out=np.ones(len(error))) / RATE), 1, MOST)
        return np.where(missed, np.minimum(power + more, self.most), 0).astype(np.int64)

    def _run(
        self,
        rule: type[Rule],
        what: str,
        functionals: tuple[Functional, Functional],
        pairing: Pairing,
        power: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return rule(what, functionals, pairing, power, max(self.alone, power + RICHER), self.replicates)()


def _more(times: float) -> int:
    """The powers of two of points that make an error so many times smaller."""
    return int(np.ceil(max(0.0, np.log2(times)) / RATE))
