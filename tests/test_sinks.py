"""Sinks: what a worker puts is where it belongs, its mirror image and the exact diagonal too."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.roads import kernels
from tpnum import nn
from tpnum.errors import LimitError
from tpnum.kernels.blocks import deliver
from tpnum.lower.variances import Variances
from tpnum.tiles import extents
from tpnum.tiles.grid import Tile, blocks, panels, squares
from tpnum.tiles.inputs import plan_of
from tpnum.tiles.pool import run
from tpnum.tiles.sinks import ArraySink
from tpnum.tiles.workers import make_worker

NETS = {
    "machine": (nn.serial(nn.Dense(8, b_std=0.1), nn.Relu(), nn.Dense(1)), (5,)),
    "cells": (nn.serial(nn.Conv(8, (2,), b_std=0.1), nn.Relu(), nn.Conv(8, (2,))), (4, 3)),
    "general": (
        nn.serial(
            nn.GlobalSelfAttention(8, 8, 8, 1, scaling="1/sqrt(n)"),
            nn.GlobalAvgPool(),
            nn.Dense(1),
        ),
        (3, 4),
    ),
}


class Listed(ArraySink):
    """Notes what it is told; ``arrays`` are hidden, so that every tile must be put."""

    def __init__(self, arrays):
        super().__init__(arrays)
        self.heard = []

    arrays = None

    def open(self):
        self.heard.append("open")

    def put(self, tile, blocks):
        self.heard.append(tile)
        sink = ArraySink(self._arrays)
        sink.put(tile, {kind: np.array(block) for kind, block in blocks.items()})

    def done(self, diagonals):
        self.heard.append("done")
        ArraySink(self._arrays).done(diagonals)


@pytest.mark.filterwarnings("ignore::tpnum.errors.AccuracyWarning")
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("road", NETS)
def test_a_sink_hears_every_tile_once(road, symmetric):
    """Into a sink that lets nobody write in place, and from two threads: the same bits."""
    net, shape = NETS[road]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((9, *shape))
    y = None if symmetric else rng.standard_normal((6, *shape))
    want, _ = kernels(net, x, y, get=("nngp", "ntk"), tile=2)
    first, second = {"": x}, None if y is None else {"": y}
    plan = plan_of(net, first, second, ("nngp", "ntk"))
    variances = Variances()
    profiles = plan.profiles(first, second, variances=variances)
    sink = Listed({kind: np.full(want.nngp.shape, np.nan) for kind in ("nngp", "ntk")})
    worker = make_worker(plan, profiles, sink, np.dtype(float), 2, variances)
    assert worker.road == road
    worker.grain = 1
    run(worker, 2, None)
    assert sink.heard[0] == "open" and sink.heard[-1] == "done"
    assert {repr(tile) for tile in sink.heard[1:-1]} == set(map(repr, worker.tiles))
    for kind in ("nngp", "ntk"):
        np.testing.assert_array_equal(sink._arrays[kind], getattr(want, kind))


@pytest.mark.parametrize("cut", [blocks, panels])
def test_mirror_images_are_of_the_bits_above_the_diagonal(cut):
    """Index axes change places with the examples: K[j, i, q, p] = K[i, j, p, q]."""
    rng = np.random.default_rng(1)
    full = rng.standard_normal((7, 7, 3, 3))
    out = np.full(full.shape, np.nan)
    for tile in cut(7, 7, 2, 4, True):
        ArraySink({"nngp": out}).put(tile, {"nngp": full[tile.rows, tile.cols]})
    i, j = np.triu_indices(7)
    np.testing.assert_array_equal(out[i, j], full[i, j])
    i, j = np.triu_indices(7, 1)
    np.testing.assert_array_equal(out[j, i], full[i, j].transpose(0, 2, 1))


def test_low_tiles_of_cells_do_not_overwrite_mirror_images(monkeypatch):
    """Tiles of fewer rows than columns have columns to the left of the diagonal, which nobody computes."""
    monkeypatch.setattr(extents, "GRAIN", 1 << 13)
    net = nn.serial(nn.Conv(8, (3, 3), padding="SAME", b_std=0.1), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))
    x = np.random.default_rng(3).standard_normal((70, 4, 4, 2))
    made, road = kernels(net, x)
    assert road == "CellWorker"
    np.testing.assert_array_equal(made, made.T)
    np.testing.assert_allclose(made, tp.kernel(net, x, x.copy()), rtol=1e-12)


def test_without_a_mirror_all_is_kept():
    full = np.random.default_rng(1).standard_normal((7, 5, 2, 3))
    out = np.full(full.shape, np.nan)
    for tile in squares(7, 5, 3, False):
        ArraySink({"nngp": out}).put(tile, {"nngp": full[tile.rows, tile.cols]})
    np.testing.assert_array_equal(out, full)


def test_what_is_not_finite_is_refused_with_its_examples():
    sink = ArraySink({"ntk": np.zeros((4, 4), np.float32)})
    block = np.ones((2, 2))
    block[1, 0] = 1e39
    with pytest.raises(LimitError, match="ntk of examples 3 and 0 is not finite in float32"):
        sink.put(Tile(slice(2, 4), slice(0, 2), False), {"ntk": block})
    assert not sink.arrays["ntk"].any()


def test_a_kernel_that_is_zero_is_put_too():
    """The NTK of a net whose parameters are none: zeros, not what was in the array before."""
    p = tp.Program()
    u = p.data("u", channels="d")
    a = p.matrix("A", var=1.0, rows="n", cols="d", trained=False)
    p.output(tp.relu(a @ u))
    out = {kind: np.full((5, 5), np.nan) for kind in ("nngp", "ntk")}
    made = tp.kernel(p, np.random.default_rng(2).standard_normal((5, 3)), get=("nngp", "ntk"), out=out)
    assert not made.ntk.any()
    assert (np.diag(made.nngp) > 0).all()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (2, 3), (9, 9), (5, 17)])
def test_lanes_go_where_they_belong(shape, symmetric):
    """Two entries with weights, from buffers that are wider than the matrix; nothing else is written."""
    rng = np.random.default_rng(3)
    size, (row, column), (height, pairs) = 40, (12, 16), (20, 24)
    rows, cols = shape
    cells = rng.permutation(rows * cols).reshape(shape)
    out = np.full((size, size, *shape), np.nan)
    square = symmetric and rows == cols
    want = out.copy()
    for more, weight in ((False, 0.5), (True, -2.0)):
        source = rng.standard_normal((height, rows * cols, 32))
        assert deliver(out, (row, column), pairs, cells, source, weight, more, square, 1e300)
        for i in range(height):
            for j in range(pairs):
                r, c = row + i, column + j
                if square and c < r:
                    continue
                value = weight * source[i, cells, j]
                want[r, c] = want[r, c] + value if more else value
                if square and c > r:
                    want[c, r] = want[r, c].T
    np.testing.assert_array_equal(out, want)
    source[3, cells[0, 0], 7] = np.inf
    assert not deliver(out, (row, column), pairs, cells, source, 1.0, False, square, 1e300)
