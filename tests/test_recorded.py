"""The values of slow oracles that are kept as data are those that the oracles return."""

from __future__ import annotations

import json

import pytest

from tests.oracle import moments, special  # noqa: F401  (whose oracles are recorded)
from tests.oracle.designs import some_by_day
from tests.oracle.recorded import ORACLES, table

ROWS = [(name, key) for name, rows in sorted(table().items()) for key in sorted(rows)]


@pytest.mark.parametrize(("name", "arguments"), some_by_day(ROWS, lambda row: ROWS.index(row) % 40 == 0))
def test_a_row_is_what_the_oracle_returns(name: str, arguments: str) -> None:
    assert ORACLES[name](*json.loads(arguments)) == pytest.approx(table()[name][arguments], rel=1e-14)


def test_every_row_has_its_oracle() -> None:
    assert len(ROWS) > 100
    assert set(table()) == set(ORACLES)
