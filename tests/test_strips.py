"""Strips of columns against rows: what of a tile is computed, whose numbers are the same."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.tiles.costs.tally import Cut
from tpnum.tiles.strips import Piece, asked, strips

BOTH = ("nngp", "ntk")
UNIT = 4


def pieces(n: int, lanes: int, symmetric: bool, block: int) -> list[Piece]:
    """All strips of an n x n matrix against blocks of its rows."""
    found = []
    for number, strip in enumerate(strips(slice(0, n), lanes)):
        last = strip.stop if symmetric else n
        for low in range(0, last, block):
            rows = low, min(low + block, last)
            found.append(Piece(strip, rows, (number, (100 + rows[0], 100 + rows[1]), 100 + strip.start)))
    return found


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("block", [3, 8, 100])
@pytest.mark.parametrize(("n", "lanes"), [(1, 4), (7, 8), (24, 12), (29, 12), (13, 4)])
def test_pairs_are_asked_once(n: int, lanes: int, block: int, symmetric: bool) -> None:
    """Of a symmetric matrix those above the diagonal, and no more of the others than whole units ask for."""
    times, cost = np.zeros((n, n), int), 0
    for piece in pieces(n, lanes, symmetric, block):
        for some, (strip, (low, high), (number, rows, own)) in asked(piece, UNIT, symmetric):
            times[low:high, strip] += 1
            assert some.start % UNIT == some.stop % UNIT == number == 0
            assert some.stop <= lanes and strip.start == piece.strip.start + some.start
            assert strip.stop - strip.start <= some.stop - some.start < strip.stop - strip.start + UNIT
            assert rows == (100 + low, 100 + high) and own == 100 + strip.start
            cost += (high - low) * (some.stop - some.start)
    i, j = np.indices((n, n))
    wanted = (j // UNIT >= i // UNIT) if symmetric else np.ones((n, n), bool)
    np.testing.assert_array_equal(times, wanted)
    assert cost == lanes * Cut(n, n, lanes, symmetric, unit=UNIT, slab=n).work(n)[1]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("head", [nn.GlobalAvgPool(), nn.Flatten(), nn.Identity()])
@pytest.mark.parametrize(("layer", "digits"), [(nn.Relu(), 4), (nn.Tanh(), 100)])
def test_the_diagonal_s_lanes_do_not_change_a_number(
    layer: nn.Layer, digits: int, head: nn.Layer, dtype: str
) -> None:
    """Above it the numbers are those of two data sets, as a series ends where a strip's pairs allow it to."""
    x = np.random.default_rng(5).standard_normal((145, 2, 3))
    x[[40, 70, 140]] = x[[2, 64, 71]]
    x[141] = x[65] + 1e-9
    net = nn.serial(
        nn.Conv(8, (2,), padding="SAME", b_std=0.2),
        layer,
        nn.Conv(8, (2,), padding="SAME"),
        layer,
        head,
        nn.Dense(1),
    )
    whole = tp.kernel(net, x, x.copy(), get=BOTH, dtype=dtype)
    tall = tp.kernel(net, x, get=BOTH, dtype=dtype, n_jobs=2)
    above = np.triu_indices(len(x), 1)
    for one, two in zip(whole, tall, strict=True):
        np.testing.assert_allclose(two[above], one[above], rtol=0, atol=digits * np.finfo(dtype).eps)
        turned = two.transpose(1, 0, *range(2, two.ndim)[::-1])
        np.testing.assert_array_equal(turned[above], two[above])
