"""The accuracy certificate: 44 functions, 30 covariances, mpmath's values, and what `dual` says of errors.

The table is written by `python -m tests.oracle.certificate`; errors are relative to sqrt(E f^2 E g^2), and a
true error counts as one unit of rounding, 1.1e-16 of that scale, at least.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.certificate_table import COVARIANCES, FUNCTIONS, Case, arguments
from tpnum import functions
from tpnum.errors import LimitError

with np.load(Path(__file__).parent / "data" / "certificate.npz") as _file:
    DATA = dict(_file)
ROUNDING = 1.1e-16
NOTHING = 1e-60  # what windows and bumps weigh beyond fourteen deviations
ONE_BY_ONE = {case.kind: case.name for case in FUNCTIONS}
"""A function of each kind whose entries are asked for one by one, others in one call."""
ALLOWED_MISSES: set[str] = set()
"""Entries whose error may lie outside its estimate, by name: none."""


@dataclass(frozen=True)
class Entry:
    """One value of the table: what it should be, what it is, and what is said about it."""

    name: str
    scale: float
    off: float
    error: float
    allowed: float  # 1e-8 of the scale; slopes made of rounded values: 1e-7, of 1e-7 of the function at least

    @property
    def covered(self) -> bool:
        return self.off <= self.error + ROUNDING * self.scale + 1e-300

    @property
    def ratio(self) -> float:
        return self.error / max(self.off, ROUNDING * self.scale)


def dual_of(case: Case) -> tp.gauss.dual.Dual:
    if isinstance(case.given, str):
        return tp.dual(functions.get(case.given, **case.params))
    return tp.dual(functions.get(case.given, kinks=case.kinks))


def entries(case: Case, derivative: bool) -> list[Entry]:
    """The entries of one function that exist, in one call or one by one; those that do not are refused."""
    d, arguments = dual_of(case), DATA["arguments"]
    rows = DATA["table"][list(DATA["names"]).index(case.name)]
    truth, scale = (rows[:, 1], rows[:, 3]) if derivative else (rows[:, 0], rows[:, 2])
    there = ~np.isnan(truth)
    for given in arguments[~there]:
        with pytest.raises(LimitError, match=r"overflow|does not exist|infinite"):
            d.estimate(*given, derivative=derivative)
    if case.name not in ONE_BY_ONE.values():
        estimate = d.estimate(*arguments[there].T, derivative=derivative)
        found = np.stack([estimate.value, estimate.error], axis=1)
    else:
        each = [d.estimate(*given, derivative=derivative) for given in arguments[there]]
        found = np.array([(one.value, one.error) for one in each])
    made = []
    for given, (value, error), true, size, whole in zip(
        arguments[there], found, truth[there], scale[there], rows[there, 2], strict=True
    ):
        allowed = 1e-8 * float(size)
        if derivative and callable(case.given):
            allowed = 1e-7 * max(float(size), 1e-7 * float(whole))
        name = f"{case.name}{chr(39) * derivative}{tuple(given)}"
        made.append(Entry(name, float(size), abs(float(value) - true), float(error), allowed))
    return made


@pytest.fixture(scope="module")
def certificate() -> list[Entry]:
    return [
        entry
        for case in FUNCTIONS
        for derivative in ((False, True) if case.slope else (False,))
        for entry in entries(case, derivative)
    ]


def test_the_table_is_whole() -> None:
    assert len(FUNCTIONS) == 44
    assert len(COVARIANCES) == 30
    assert list(DATA["names"]) == [case.name for case in FUNCTIONS]
    np.testing.assert_array_equal(DATA["arguments"], arguments())
    exists = np.array(
        [[c.exists(q[0], q[3]) and c.exists(q[1], q[4]) for q in arguments()] for c in FUNCTIONS]
    )
    np.testing.assert_array_equal(np.isfinite(DATA["table"][:, :, 0]), exists)
    assert {case.kind for case in FUNCTIONS} == {
        "smooth", "kinked", "jumping", "oscillating", "growing", "singular",
    }  # fmt: skip


def test_errors_are_within_their_estimates(certificate: list[Entry]) -> None:
    assert {entry.name for entry in certificate if not entry.covered} == ALLOWED_MISSES


def test_estimates_are_of_the_size_of_the_errors(certificate: list[Entry]) -> None:
    assert np.median([entry.ratio for entry in certificate if entry.scale > 0]) <= 100.0


def test_every_finite_entry_is_accurate(certificate: list[Entry]) -> None:
    assert len(certificate) > 2000
    wrong = [entry for entry in certificate if not entry.off <= entry.allowed + NOTHING]
    assert not wrong


def test_calls_and_estimates_agree() -> None:
    """What `d(..)` returns on a whole grid is what `estimate` returns for its entries."""
    rng = np.random.default_rng(0)
    q1, q2, rho = rng.uniform(0.1, 4.0, (20, 1)), rng.uniform(0.1, 4.0, 30), rng.uniform(-1.0, 1.0, (20, 30))
    c = rho * np.sqrt(q1 * q2)
    for case in FUNCTIONS[::2]:
        if not case.exists(4.0, 0.0) or case.kind == "singular":
            continue
        d = dual_of(case)
        for derivative in (False, True):
            whole = d.derivative(q1, q2, c) if derivative else d(q1, q2, c)
            made = d.estimate(q1[:3], q2, c[:3], derivative=derivative)
            allowed = 2e-13 * np.abs(whole).max() + 2.0 * made.error + 1e-25
            assert np.all(np.abs(whole[:3] - made.value) <= allowed), case.name
