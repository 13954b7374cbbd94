"""`tpnum.limit`: the law of any program's vectors and scalars at infinite width (SL Thm 4.3, 5.1, 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpnum.arguments import choice, whole
from tpnum.errors import require_memory
from tpnum.evaluate.joint import LEAST, MOST, Accuracy
from tpnum.law.price import held
from tpnum.limits.law import SAMPLES, Law, Options
from tpnum.program.calls import as_program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tpnum.program import Program

METHODS = ("auto", "exact", "ensemble")
TREATMENTS = ("check", "assume", "exact")


def limit(
    p: Program,
    *,
    method: str = "auto",
    independence: str = "check",
    samples: int | None = None,
    rtol: float | None = None,
    seed: int = 0,
    data: Mapping[str, Any] | None = None,
    budget: int | None = None,
    shape: Any = None,
) -> Law:
    """The law of ``p`` as all widths go to infinity together, transposes anywhere.

    (1/n) sum_a psi(x1_a, .., xk_a) -> E psi(Z^1, .., Z^k) almost surely (SL Thm 4.3 without transposes,
    6.3 with; scalars as in TP2).

    Parameters
    ----------
    p
        The program; it may have data lines, whose arrays (*axes, channels) then come in ``data`` by name.
        Or a net of layers, with ``shape``, the (.., channels) of one example, and ``data={"u": x}``.
    method
        "exact": closed forms, quadrature, exact fractions where every function is a polynomial; expectations
        over many correlated Gaussians by randomised quasi-Monte Carlo.  "ensemble": ``samples`` draws of
        every limit variable.  "auto": exact while expectations have at most 3 correlated Gaussians, or few
        have more, and all together cost no more than a second or so (`tpnum.law.price`); otherwise the
        ensemble.  This is decided from the program's text; `Law.choices` says what was picked and why.
    independence
        "check": transposes count as independent matrices where that is proven from the program's text
        (SL Thm 5.1), otherwise they are corrected for (SL Thm 6.3).  "assume": independent, proven or not.
        "exact": always corrected.  `Law.independence` is the report.
    samples, seed
        Of the ensemble; the seed fixes the result whatever the number of threads.
    rtol
        Accuracy asked of expectations that are not closed (1e-6 by default); an `AccuracyWarning` where it
        is missed.  An ensemble, to which it applies only if given, takes up to 64 times its ``samples``.
    budget
        Evaluations that one expectation may take, and samples that an ensemble may grow to.  What is not
        reached with it has its error, and the warning says what would be needed.

    Raises
    ------
    LimitError
        A line whose moments do not exist; the message quotes it.
    InputError
        An option that does not exist, data that do not fit, more samples than the memory holds.
    """
    choice(method, "method", METHODS)
    choice(independence, "independence", TREATMENTS)
    accuracy = Accuracy.of(rtol, budget, seed)
    default = min(SAMPLES, accuracy.budget or SAMPLES)
    count = default if samples is None else whole(samples, "samples", LEAST, MOST)
    require_memory(held(count), f"samples = {count}")
    options = Options(method, independence, count, accuracy)
    return Law(as_program(p, shape), options, data)
