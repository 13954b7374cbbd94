"""Random programs with transposes: the limit against finite width, and an engine with a mistake in it.

The whole run is `python -m tests.oracle.fuzz 300`; here are a few programs of each.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tpnum as tp
from tests.oracle.fuzz import CAUGHT, MUTANTS, Compared, mutated, numbered_program
from tests.oracle.random_programs import random_gradients, random_program

TOUCHED_BY_ALL = (28, 30)
"""Programs that every mutant touches."""


@cache
def compared(seed):
    p, names = numbered_program(seed)
    return Compared(p, names, seed)


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_limits_of_random_programs(data):
    p, names = random_program(lambda k: data.draw(st.integers(0, k - 1)))
    one = Compared(p, names, 1, most=1)
    assert one.z(one.limit) < CAUGHT, f"\n{p}"


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("seed", TOUCHED_BY_ALL)
def test_mistakes_are_caught(seed, mutant):
    one = compared(seed)
    assert one.z(one.limit) < CAUGHT
    assert mutated(one, mutant) is True, f"{mutant} is not noticed by\n{one.p}"


@pytest.mark.filterwarnings("ignore::tpnum.errors.AccuracyWarning")
def test_what_the_check_proves_is_true():
    """Where transposes are proven to be independent, the exact corrections vanish; and it is proven often."""
    proven, conditions = 0, set()
    for seed in range(24):
        rng = np.random.default_rng(seed)
        p, pairs = random_gradients(lambda k, rng=rng: int(rng.integers(k)))
        law = tp.limit(p, method="exact", rtol=1e-3)
        verdict = law.independence.verdict
        conditions.add(verdict.condition)
        if not verdict.seeds:
            continue
        proven += 1
        exact = tp.limit(p, method="exact", independence="exact", rtol=1e-3)
        for a, b in pairs:
            one, two = law.moment(a, b), exact.moment(a, b)
            margin = 1e-6 * max(1.0, abs(two.value)) + 4.0 * (one.error + two.error)
            assert abs(one.value - two.value) < margin, f"{a.name}, {b.name}: {verdict}\n{p}"
    assert proven >= 5
    assert conditions >= {1, 2}
