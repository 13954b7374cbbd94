"""Random programs with transposes: the limit against finite width, and an engine with a mistake in it.

The whole run is `python -m tests.oracle.fuzz 300`; here are a few programs of each.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.oracle.fuzz import CAUGHT, MUTANTS, Compared, mutated, numbered_program
from tests.oracle.random_programs import random_program


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_limits_of_random_programs(data):
    p, names = random_program(lambda k: data.draw(st.integers(0, k - 1)))
    one = Compared(p, names, 1, draws=1000)
    assert one.z(one.limit) < CAUGHT, f"\n{p}"


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mistakes_are_caught(mutant):
    """The first two programs that a mutant of the engine touches notice it."""
    touched = 0
    for seed in range(60):
        p, names = numbered_program(seed)
        one = Compared(p, names, seed, draws=1000)
        found = mutated(one, mutant)
        if found is None:
            continue
        assert one.z(one.limit) < CAUGHT
        assert found, f"{mutant} is not noticed by\n{p}"
        touched += 1
        if touched == 2:
            return
    raise AssertionError(f"{mutant} touches only {touched} of 60 programs")
