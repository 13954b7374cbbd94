"""Random programs that mix everything: finite widths, other roads and expansion agree with `tp.limit`.

The whole run is `python -m tests.oracle.mixed 0 500`, or ``-m slow``; here are a few programs of each kind.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import tpnum as tp
from tests.oracle import mixed_programs as own
from tests.oracle.mixed import FAR, Outcome, against_widths, answers, apart, numbered, outcome
from tpnum import Program
from tpnum.program.lines import Matrix, Nonlin

FEW = (0, 1, 2, 3, 6, 7, 8, 9, 10, 13, 16, 19)


def failures(one: Outcome) -> str:
    """The program and what disagrees, nothing where all is well."""
    return "\n".join([str(one.program), *one.failures, *one.notes]) if one.failures else ""


@pytest.mark.parametrize("seed", FEW)
def test_limits_of_mixed_programs(seed: int) -> None:
    p, names = numbered(seed)
    assert not failures(outcome(p, names, seed, draws=200, most=2))


@pytest.mark.slow
@pytest.mark.parametrize("begin", range(0, 500, 20))
def test_many_mixed_programs(begin: int) -> None:
    found = [failures(outcome(*numbered(seed), seed)) for seed in range(begin, begin + 20)]
    assert not any(found), "\n\n".join(filter(None, found))


def test_a_wrong_limit_would_be_seen() -> None:
    """That of the same program with a fifth more variance in its matrices."""
    p, names = numbered(0)
    lines = [replace(line, var=1.2 * line.var) if isinstance(line, Matrix) else line for line in p.lines]
    wrong = Program.from_lines(lines, p.dims)
    assert against_widths(p, names, answers(p, names), 200, 0, 1)[0] < FAR
    assert against_widths(p, names, answers(wrong, names), 200, 0, 1)[0] > FAR


def test_disagreement_is_measured_in_the_claimed_errors() -> None:
    one, small = np.ones(1), np.full(1, 1e-3)
    assert apart((one, small, ""), (one + 1e-3, small, ""), one) < 1.0
    assert apart((one, 0 * small, ""), (one + 1e-2, 0 * small, ""), one) > FAR
    assert apart((one * np.nan, small, ""), (one, small, ""), one) == np.inf


@pytest.mark.filterwarnings("ignore::tpnum.errors.AccuracyWarning")
def test_an_average_of_equal_estimates_is_no_better_than_each() -> None:
    """E tanh(g) max(a, e), three times from the same points; by quadrature over g and Clark's formula."""
    p = tp.Program()
    x, b = p.vector("x", axes={"t": 3}, fresh=True), p.vector("b", var=0.4)
    w = p.matrix("W", var=0.8)
    h = tp.maximum(w @ x + 0.5 * b, x + b)
    q = p.mean(tp.tanh(w @ h + 0.5 * b) * h)
    average, bent = q.mean("t"), q.mean("t") / (1.0 + q.take(t=0))
    law = tp.limit(p, rtol=1e-3)
    right = 0.2107362063732499
    for s, want in ((q, right), (average, right), (bent, right / (1 + right))):
        made = law.scalar(s)
        assert np.all(np.abs(made.value - want) < 2 * made.error + 1e-12)
    assert law.scalar(average).error == pytest.approx(np.max(law.scalar(q).error))


def test_derivatives_in_scalars_are_no_derivatives_in_vectors() -> None:
    """E d f(u; s)/ds: Price's theorem has nothing to say about it."""
    p = tp.Program()
    x, v = p.vector("x", mean=0.6), p.vector("v", mean=0.5)
    s = p.mean(x * x)
    h = p.apply(own.damped, x, s, derivative=(own.damped_u, own.damped_s))
    p.backward({h: v})
    own_lines = [line for line in p.lines if isinstance(line, Nonlin) and line.fn.user is not None]
    found = {line.fn.order: line.name for line in own_lines}
    law, at = tp.limit(p), 1.36
    assert law.mean(found[0,]).value == pytest.approx(1 / (1 + at**2))
    assert law.mean(found[1,]).value == pytest.approx(-2 * at * 0.6 / (1 + at**2) ** 2)
    assert "damped'_2" in str(p)


def test_pairs_of_different_index_maps_of_what_is_equal_along_the_axis() -> None:
    """An average over positions against one position, of a fresh family: the block has no such axis."""
    p = tp.Program()
    x = p.vector("x", axes={"t": 3}, fresh=True)
    s = p.mean(tp.tanh(x.mean("t")) * x.take(t=2))
    z, w = np.polynomial.hermite_e.hermegauss(80)
    slope = w @ (1 / np.cosh(z / np.sqrt(3)) ** 2) / w.sum()
    assert tp.limit(p).scalar(s).value == pytest.approx(slope / 3, rel=1e-10)
