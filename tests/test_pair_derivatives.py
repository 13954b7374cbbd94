"""Derivatives of every entry of kernels of nets with index axes: compiled, and by the graph's rules."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tests.test_adjoints import CELLS, RNG, T2, X2, T, close, refused
from tests.test_derivatives import difference
from tpnum import nn
from tpnum.law import graph
from tpnum.lower.program import Program
from tpnum.lower.turned import BackwardsProgram
from tpnum.lower.variances import Variances
from tpnum.nn.deviations import deviations, paths_of
from tpnum.tiles.gradients import derivatives
from tpnum.tiles.gradients.pairs import CellDerivatives

NETS = {name: CELLS[name] for name in CELLS if name != "positions"}
STEEP = nn.serial(nn.Conv(4, (2,), W_std=4.0, b_std=0.1), nn.Tanh(), nn.GlobalAvgPool(), nn.Dense(1))


def by_graph(patch, *arguments, **options):
    """As `tpnum.kernel` without compiled ways back."""
    with patch.context() as slow:
        slow.setattr(derivatives, "CellDerivatives", refused)
        return tp.kernel(*arguments, **options)


@pytest.mark.parametrize("get", ["nngp", "ntk"])
@pytest.mark.parametrize("case", NETS)
def test_cells_and_the_graph(case, get, monkeypatch):
    """Of an array with itself and of two; the kernel that comes along is the one that comes alone."""
    net, x = NETS[case]
    for other in (None, T2 if x is T else X2):
        wrt = tuple(deviations(net))
        expected = by_graph(monkeypatch, net, x, other, get=get, wrt=wrt)
        with monkeypatch.context() as patch:  # it was no other that was compiled
            patch.setattr(derivatives, "PairAdjoints", None)
            made = tp.kernel(net, x, other, get=get, wrt=wrt)
        for one, right in zip(made.derivatives, expected.derivatives, strict=True):
            close(one, right, 1e-12)
        close(made.kernel, tp.kernel(net, x, other, get=get), 1e-14)
        close(expected.kernel, made.kernel, 1e-12)


def test_pairs_that_series_do_not_reach(monkeypatch):
    """Near inputs, and an example with itself, go by the graph's rules; the rest of the matrix by series."""
    x = np.concatenate([T, T[:1] + 1e-3 * T[1:2]])
    whole, taken = derivatives.GeneralDerivatives.block, []

    def counted(self, tile, proceed):
        taken.append(tile.entries)
        return whole(self, tile, proceed)

    expected = by_graph(monkeypatch, STEEP, x, get="ntk", wrt=("W_std", "b_std"))
    monkeypatch.setattr(derivatives.GeneralDerivatives, "block", counted)
    made = tp.kernel(STEEP, x, get="ntk", wrt=("W_std", "b_std"))
    assert len(x) <= sum(taken) < len(x) ** 2
    close(made.derivatives, expected.derivatives, 1e-9)
    close(made.kernel, expected.kernel, 1e-11)


@pytest.mark.parametrize("path", ["layers[0].W_std", "b_std"])
def test_examples_with_themselves_against_differences(path):
    """Of pooled outputs they are sums over pairs of positions, some of which coincide."""
    x = RNG.standard_normal((2, 5, 3))
    made = tp.kernel(STEEP, x, get="ntk", wrt=path).derivatives
    expected = difference(STEEP, paths_of(STEEP, path), x, None, "ntk", h=5e-4)
    close(made, expected, 1e-8)


def test_tiles_threads_and_parts():
    net = nn.serial(nn.Conv(4, (2,), b_std=0.2), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))
    x, options = RNG.standard_normal((150, 4, 2)), {"get": "ntk", "wrt": ("W_std", "b_std")}
    one, two = (tp.kernel(net, x, n_jobs=n, **options).derivatives for n in (1, 2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, one.transpose(0, 2, 1))
    close(tp.kernel(net, x[60:130], x, **options).derivatives, one[:, 60:130], 1e-13)


def test_what_is_below_linear_layers_runs_forwards_once():
    """The adjoints of a pooled net's last map need none of its values: they go down beforehand."""
    net = nn.serial(nn.Conv(4, (2,), b_std=0.2), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))
    plan = derivatives.plan_with_slopes(net, [["layers[0].W_std"]], ({"": T}, {"": T}), ("nngp",), 1)
    nodes = graph.schedule([plan.entries["nngp"][0].node])
    (line,) = {node.data[0] for node in nodes if isinstance(node, graph.Gram)}
    variances = Variances()
    sides = derivatives.sides_of(plan, 2, {line: T}, None, variances)
    made = CellDerivatives(plan, "nngp", sides, variances)
    programs = made.ready(made.tiles[0])
    assert all(isinstance(one, BackwardsProgram) for one in programs)
    top, bottom = made.schedule.levels[1], made.schedule.levels[0]
    assert [one.layout.level for one in programs if isinstance(one, Program)] == [top, bottom, top]
