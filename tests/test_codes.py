"""Sets of cells in arrays against sets of pairs."""

from __future__ import annotations

import numpy as np
import pytest

from tpnum.kernels.unions import unite
from tpnum.lower.codes import (
    NOWHERE,
    behind,
    beyond,
    code,
    decoded,
    distinct,
    every,
    places,
    ragged,
    union,
    within,
)


def cells(pairs):
    """A set of pairs as an array."""
    p, q = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
    return code(p, q)


def pairs(made):
    """An array as a list of pairs."""
    return list(zip(*(side.tolist() for side in decoded(made)), strict=True))


def some(rng, count=30):
    return {tuple(at) for at in rng.integers(0, 9, (count, 2)).tolist()}


@pytest.mark.parametrize("seed", range(5))
def test_operations_are_those_of_sets(seed):
    rng = np.random.default_rng(seed)
    a, b, c = some(rng), some(rng), some(rng, 3)
    assert pairs(union(cells(a), NOWHERE, cells(b), cells(c))) == sorted(a | b | c)
    assert pairs(beyond(cells(a), cells(b))) == sorted(a - b)
    assert pairs(cells(a)[within(cells(a), 5, 7)]) == sorted((p, q) for p, q in a if p < 5 and q < 7)
    order = {cell: k for k, cell in enumerate(sorted(a))}
    assert places(cells(a), cells(b)).tolist() == [order.get(cell, -1) for cell in sorted(b)]
    assert places(NOWHERE, cells(b)).tolist() == [-1] * len(b)


def test_all_cells_of_an_axis():
    assert pairs(every(3, 2, False)) == [(p, q) for p in range(3) for q in range(2)]
    assert pairs(every(3, 3, True)) == [(p, p) for p in range(3)]


@pytest.mark.parametrize("delays", [(1, 1), (1, 0), (0, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_cells_behind_others(delays, seed):
    found = some(np.random.default_rng(seed), 6)
    want = {
        (p - k * delays[0], q - k * delays[1])
        for p, q in found
        for k in range(10)
        if p >= k * delays[0] and q >= k * delays[1]
    }
    assert pairs(behind(cells(found), delays)) == sorted(want)
    assert behind(NOWHERE, delays).size == 0


def test_groups():
    group, place = ragged(np.array([2, 0, 3]))
    assert group.tolist() == [0, 0, 2, 2, 2] and place.tolist() == [0, 1, 0, 1, 2]
    values, number = distinct(np.array([1, 1, 4, 7, 7]))
    assert values.tolist() == [1, 4, 7] and number.tolist() == [0, 0, 1, 2, 2]
    assert [part.size for part in distinct(NOWHERE)] == [0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_joined_sets_are_those_of_a_graph(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 40, (2, 25))
    parent = np.arange(40)
    unite(parent, first, second)
    want = np.arange(40)
    for _ in range(40):  # the least number spreads along the edges
        for a, b in zip(first, second, strict=True):
            want[[a, b]] = min(want[a], want[b])
    np.testing.assert_array_equal(parent, want)
