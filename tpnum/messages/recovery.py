"""Whether message passing recovers sparse signals, beside the curve at which l1 tips over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.arguments import finite_array, flag, whole
from tpnum.errors import InputError
from tpnum.messages.amp import amp
from tpnum.messages.denoisers import soft
from tpnum.messages.evolution import l1_transition, minimax_threshold

FOUND = 1e-3
"""Of the signal's mean square: an error below it is none but what more rounds would take away."""


@dataclass(frozen=True, eq=False)
class Recovery:
    """The ``part`` of runs in which a signal was found, at measurements ``delta`` and sparsities ``rho``."""

    delta: np.ndarray
    rho: np.ndarray
    part: np.ndarray
    positive: bool

    def plot(self, ax: Any = None) -> Any:
        """The curve of the transition over what was found."""
        from tpnum.pictures import draw_recovery

        line = np.linspace(0.01, 0.99, 99)
        return draw_recovery(self, line, l1_transition(line, self.positive), ax)


def recovery(
    delta: Any, rho: Any, *, width: Any = 1000, rounds: Any = 60, runs: Any = 2, positive: Any = False,
    seed: Any = 0,
) -> Recovery:  # fmt: skip
    """Run l1 message passing, soft thresholds of the minimax size, at every pair of two arrays.

    ``delta`` are measurements per unknown, ``rho`` non-zeros per measurement, signals of signs (of ones, if
    ``positive``) and no noise; ``width`` unknowns.  The curve that it tips over at is `l1_transition`.
    """
    from tpnum.program import Program

    ratios, parts = finite_array(delta, "delta", 1), finite_array(rho, "rho", 1)
    if not ratios.size or not parts.size:
        raise InputError("delta and rho: at least one number each is needed")
    l1_transition(ratios)  # complains of what is no ratio
    if not np.all((parts > 0.0) & (parts <= 1.0)):
        raise InputError("rho must be in (0, 1]: non-zeros per measurement")
    n, steps = whole(width, "width", 10), whole(rounds, "rounds", 1, 10_000)
    count, first = whole(runs, "runs", 1), whole(seed, "seed", 0)
    one_sign = flag(positive, "positive")
    found = np.empty((ratios.size, parts.size))
    for i, ratio in enumerate(ratios):
        m = max(1, round(ratio * n))
        eta = soft(minimax_threshold(float(ratio), one_sign), one_sign)
        for j, share in enumerate(parts):
            p = Program()
            p.dim("m", m / n)
            a = p.matrix("A", var=n / m, rows="m", cols="n")
            x = p.apply(_Sparse(float(share * m / n), one_sign), p.vector("u"), derivative=np.zeros_like)
            made = amp(a, eta, steps, signal=x)
            errors = [made.simulate({"n": n, "m": m}, seed=first + k)[1][-1] for k in range(count)]
            found[i, j] = np.mean(np.array(errors) < FOUND * share * m / n)
    return Recovery(ratios, parts, found, one_sign)


class _Sparse:
    """A Gaussian as +-1, or 1, of this probability, else 0."""

    def __init__(self, part: float, positive: bool) -> None:
        from scipy.special import ndtri

        self.level = -float(ndtri(part if positive else 0.5 * part))
        self.positive = positive

    def __call__(self, u: Any) -> Any:
        up = np.where(u > self.level, 1.0, 0.0)
        return up if self.positive else up - np.where(u < -self.level, 1.0, 0.0)
