"""Random programs: the limit against finite widths, and whether a broken engine would be noticed.

``python -m tests.oracle.fuzz 300`` runs as many programs (about 40 minutes of one core) and prints the
largest z-score and, for every mutant of the engine, in how many of the programs that it touches it is caught
(a z-score above 5).

A mutant *touches* a program where it changes the limit of a scalar that finite widths know to 1 % by more
than the engine's own error and rounding, however little: whether finite widths can see the change plays no
part, so that every change too small for them counts as a miss.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from functools import cached_property
from time import process_time
from unittest import mock

import numpy as np

import tpnum as tp
from tests.oracle.batch import extrapolated
from tests.oracle.random_programs import random_program
from tpnum.law import onsager
from tpnum.program.lines import LinComb, MatMul, Moment

CAUGHT = 5.0
PRECISION = 0.01
TOUCHED = 1e-6
WIDTHS = (64, 128, 256)
CROOKED = 4.0
"""Standard errors from a line in 1/n."""


def limits(p, names):
    """The limits of scalars with the corrections of the general theorem, whatever the verdict."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tp.errors.AccuracyWarning)
        law = tp.limit(p, method="exact", independence="exact", rtol=1e-3)
        free = law._corrected(p, None)[1]  # the engine under test, also where fractions would do
        found = [free.scalar(n) for n in names]
    return np.array([float(e.value) for e in found]), np.array([float(e.error) for e in found])


class Compared:
    """One program: its limits, and finite widths extrapolated when they are asked for."""

    def __init__(self, p, names, seed, draws=2000, most=9):
        self.p, self.names, self.seed, self.draws, self.most = p, names, seed, draws, most
        self.limit, self.error = limits(p, names)
        self.scale = np.maximum(1.0, np.abs(self.limit))

    @cached_property
    def finite(self):
        """(means, standard errors) at infinite width.

        Again with more draws where the errors exceed 1 %, and at larger widths where the values do not lie
        on a line in 1/n: a function of large slope sees the fluctuations of a scalar, of order n^-1/2, and
        then n = 64 says nothing of the limit, whatever the limit is.  A disagreement with the engine has to
        stand at larger widths too: what vanishes there is no mistake about the limit.
        """
        for scale in (1, 4, 16):
            mean, error, misfit = self._extrapolated(scale)
            self.finite = mean, error
            if np.all(misfit <= CROOKED) and self.z(self.limit) <= CAUGHT:
                break
        return self.finite

    def _extrapolated(self, scale):
        widths = tuple(scale * n for n in WIDTHS)
        draws = self.draws // scale  # averages over n coordinates need fewer
        made = extrapolated(self.p, self.names, widths, draws, self.seed)
        need = 1.3 * np.max(made[1] / (PRECISION * self.scale)) ** 2
        if need <= 1.3 or self.most <= 1:
            return made
        return extrapolated(self.p, self.names, widths, int(draws * min(need, self.most)), self.seed)

    @property
    def sharp(self):
        """The scalars that finite width tells to 1 %."""
        return self.finite[1] <= PRECISION * self.scale

    def z(self, limit):
        """The largest z-score of the sharp scalars; 0.1 % of the scale is left to 1/n^2."""
        mean, spread = self.finite
        z = (mean - limit) / np.sqrt(spread**2 + self.error**2 + (1e-3 * self.scale) ** 2)
        return float(np.max(np.abs(z[self.sharp]), initial=0.0))


# --- mutants


def dots_dropped(self, x, opposite, variance):
    return []


def ratio_forgotten(program, matrix):
    return 1.0


def hats_tied(original):
    def product(self, line, number):
        root, transposed = self.direction[line.matrix]
        square = self.old.vars[root].dim == self.old.vars[root].cols
        original(self, MatMul(line.name, root, line.vector) if square and transposed else line, number)

    return product


def moment_differentiated(original):
    """The derivative of a sum m x, m = mean(u v), keeps d(u v) x, as if m were a function of the hats."""

    def dots(self, x, opposite, variance):
        found = {}
        for y, c in original(self, x, opposite, variance):  # two products of one vector are one dot
            found[y] = found.get(y, 0.0) + c
        line = next((li for li in self.old.lines if isinstance(li, LinComb) and li.name == x), None)
        moments = {li.name: li for li in self.old.lines if isinstance(li, Moment)}
        for term in line.terms if line else ():
            moment = moments.get(term.scalar)
            for hat, y in self.products.get(opposite, []) if moment else ():
                for i, arg in enumerate(moment.args):
                    for base, c in self.sums[arg].items():
                        if self.rough(base, hat):
                            continue
                        for vector, s in self.slope(base, hat).items():
                            factor = term.vector if vector == onsager.ONE else self.times(term.vector, vector)
                            for j, other in enumerate(moment.args):
                                if j != i:
                                    factor = self.times(factor, other)
                            mean = self.numbers.mean_value(factor)
                            found[y] = found.get(y, 0.0) + variance * term.coef * c * s * mean
        return [(y, c) for y, c in found.items() if c]

    return dots


W = onsager._Writer
MUTANTS = {
    "dot dropped": (W, "dots", dots_dropped),
    "n/m forgotten": (onsager, "transposed_ratio", ratio_forgotten),
    "hats of W and W^T tied": (W, "product", hats_tied(W.product)),
    "a Moment's derivative kept": (W, "dots", moment_differentiated(W.dots)),
}


@contextlib.contextmanager
def broken(mutant: str) -> Iterator[None]:
    """The engine with one mistake."""
    with mock.patch.object(*MUTANTS[mutant][:2], MUTANTS[mutant][2]):
        yield


def mutated(compared: Compared, mutant: str) -> bool | None:
    """Whether a mutant is caught by a program, None where it changes none of its sharp answers."""
    with broken(mutant):
        wrong, _ = limits(compared.p, compared.names)
    touched = np.abs(wrong - compared.limit) > TOUCHED * compared.scale + 4 * compared.error
    if not np.any(touched) or not np.any(touched & compared.sharp):
        return None
    return compared.z(wrong) > CAUGHT


def numbered_program(seed):
    """The random program of a seed."""
    rng = np.random.default_rng(seed)
    return random_program(lambda k: int(rng.integers(k)))


def main(count: int) -> None:
    worst, dull = 0.0, 0
    caught = {m: [0, 0] for m in MUTANTS}
    for seed in range(count):
        p, names = numbered_program(seed)
        one = Compared(p, names, seed)
        z = one.z(one.limit)
        dull += int(np.sum(~one.sharp))
        if z > worst:
            worst = z
            print(f"program {seed}: |z| up to {z:.2f}", flush=True)
        for m, score in caught.items():
            found = mutated(one, m)
            if found is not None:
                score[0] += found
                score[1] += 1
            if found is False:
                print(f"program {seed} does not notice {m!r}", flush=True)
        if seed + 1 in (20, count):
            print(f"{seed + 1} programs took {process_time():.0f} s of CPU time", flush=True)
    print(f"{count} programs: largest |z| {worst:.2f}; {dull} scalars left out, not known to 1 %")
    for m, (hits, touched) in caught.items():
        share = hits / max(touched, 1)
        print(f"mutant {m!r}: caught in {hits} of {touched} programs that it touches ({share:.0%})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
