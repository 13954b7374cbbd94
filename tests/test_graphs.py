"""Aggregate: each example's own graph; plain loops, relabelled vertices, finite nets, refusals."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tests.oracle import loops
from tests.oracle.roads import CELLS, kernels
from tpnum import nn
from tpnum.errors import InputError, SpecError
from tpnum.nn.spec import from_spec

BOTH = ("nngp", "ntk")
RNG = np.random.default_rng(31)
X = RNG.standard_normal((4, 5, 3))
GRAPHS = RNG.standard_normal((4, 5, 5)) * (RNG.random((4, 5, 5)) < 0.5)  # directed, with weights
NET = nn.serial(
    nn.Aggregate(), nn.Dense(8, W_std=1.2, b_std=0.2), nn.Relu(), nn.Aggregate((1,)), nn.Dense(8, b_std=0.1),
    nn.Erf(), nn.GlobalAvgPool(), nn.Dense(1),
)  # fmt: skip


def close(made, truth, atol=1e-13):
    np.testing.assert_allclose(made, truth, rtol=0, atol=atol * np.abs(truth).max())


def test_plain_loops():
    truth = loops.kernels(NET.to_spec(), X, graphs=GRAPHS)
    made, road = kernels(NET, X, get=BOTH, pattern1=GRAPHS)
    assert road == CELLS
    cut = tp.kernel(NET, X[:3], X[3:], get=BOTH, pattern1=GRAPHS[:3], pattern2=GRAPHS[3:])
    diagonal = tp.kernel(NET, X, get=BOTH, pattern1=GRAPHS, diag=True)
    for found, part, entries, right in zip(made, cut, diagonal, truth, strict=True):
        close(found, right)
        close(part, right[:3, 3:])
        close(entries, np.diagonal(right))
    assert from_spec(NET.to_spec()) == NET


def test_masked_vertices_are_none():
    """Graphs of fewer vertices: the kernels of the graphs without the others."""
    x = X.copy()
    x[0, 3:] = np.nan
    made = tp.kernel(NET, x, get="ntk", pattern1=GRAPHS, mask_constant=np.nan)
    close(made, loops.kernels(NET.to_spec(), x, np.nan, GRAPHS)[1])
    alone = tp.kernel(NET, X[:1, :3], X[1:], get="ntk", pattern1=GRAPHS[:1, :3, :3], pattern2=GRAPHS[1:])
    close(made[:1, 1:], alone)


def test_the_order_of_vertices_does_not_matter():
    order = RNG.permutation(5)
    moved = tp.kernel(NET, X[:, order], get=BOTH, pattern1=GRAPHS[:, order][:, :, order])
    for found, right in zip(moved, tp.kernel(NET, X, get=BOTH, pattern1=GRAPHS), strict=True):
        close(found, right)


def test_the_graph_of_no_edges_but_to_oneself_changes_nothing():
    plain = nn.serial(*(layer for layer in NET.layers if not isinstance(layer, nn.Aggregate)))
    same = np.broadcast_to(np.eye(5), (4, 5, 5))
    for found, right in zip(
        tp.kernel(NET, X, get=BOTH, pattern1=same), tp.kernel(plain, X, get=BOTH), strict=True
    ):
        close(found, right)


@pytest.mark.parametrize("axis", [1, 2, (1, 2), (-2,)])
def test_graphs_over_some_axes(axis):
    """Rows, columns or pixels of images; the axes that remain stay in order."""
    x = RNG.standard_normal((3, 2, 3, 2))
    axes = {1: (0,), 2: (1,), (1, 2): (0, 1), (-2,): (1,)}[axis]
    sizes = [(2, 3)[k] for k in axes]
    graphs = RNG.standard_normal((3, *sizes, *sizes))
    tails, heads = (["abcd"[k + at] for k in axes] for at in (0, 2))
    out = ["abcd"[k + 2] if k in axes else "ab"[k] for k in (0, 1)]
    moved = np.einsum(f"nabz,n{''.join(tails)}{''.join(heads)}->n{''.join(out)}z", x, graphs)
    for end in (nn.Dense(4, b_std=0.3), nn.serial(nn.Dense(4, b_std=0.3), nn.Relu(), nn.Flatten())):
        made = tp.kernel(nn.serial(nn.Aggregate(axis), end), x, get=BOTH, pattern1=graphs)
        for found, right in zip(made, tp.kernel(end, moved, get=BOTH), strict=True):
            close(found, right)


def test_wide_nets_approach_the_kernels():
    """The net's own program at finite width, its graphs given by name."""
    program = nn.program(NET, (5, 3))
    tangents = program.tangent()
    means = {}
    for width in (32, 64):
        found = []
        for seed in range(160):
            sample = tp.simulate(tangents, width, seed + 10_000 * width, {"u": X[:2], "pattern": GRAPHS[:2]})
            names = [n for _, v in program.outputs for n in (v, tangents.tangents[v])]
            found.append([sample.vector(n) @ sample.vector(n).T / sample.vector(n).shape[-1] for n in names])
        means[width] = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / 160**0.5
    (small, low), (big, high) = means[32], means[64]
    right = np.stack(tp.kernel(NET, X[:2], get=BOTH, pattern1=GRAPHS[:2]))
    assert np.abs((2 * big - small - right) / np.sqrt(4 * high**2 + low**2)).max() < 4.5


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: tp.kernel(NET, X), r"pattern1: Aggregate needs the graphs of x1, .*shape \(5, 5\) for each"),
        (lambda: tp.kernel(nn.serial(nn.Dense(4), nn.GraphAttention(4, 3)), X),
         r"pattern1: GraphAttention needs the graphs of x1, .* of shape \(5, 5\) for each"),
        (lambda: tp.kernel(NET, X, X, pattern1=GRAPHS), "pattern2: Aggregate needs the graphs of x2"),
        (lambda: tp.kernel(NET, X, pattern1=GRAPHS, pattern2=GRAPHS), "pattern2: .* but x2 is not given"),
        (lambda: tp.kernel(NET, X, X, pattern2=GRAPHS), "pattern2: .* but pattern1 is not given"),
        (lambda: tp.kernel(NET, X, pattern1=GRAPHS[:, :4, :4]),
         r"pattern1: shape \(4, 4, 4\) does not fit Aggregate and x1; it must be \(4, 5, 5\)"),
        (lambda: tp.kernel(NET, X, pattern1=GRAPHS[:3]), "pattern1: it holds 3 graphs, and x1 4 examples"),
        (lambda: tp.kernel(NET, X, pattern1=np.full((4, 5, 5), np.nan)), "pattern1: example 0 holds NaN"),
        (lambda: tp.kernel(nn.Dense(1), X, pattern1=GRAPHS), "pattern1: the net has no Aggregate layer"),
        (lambda: tp.kernel(nn.program(NET, (5, 3)), {"u": X, "pattern": GRAPHS}, pattern1=GRAPHS),
         "pattern1: it is for nets of layers"),
        (lambda: tp.kernel(nn.serial(nn.Flatten(), nn.Aggregate()), X, pattern1=GRAPHS), "0 spatial axes"),
        (lambda: tp.kernel(nn.Aggregate((1, 1)), X, pattern1=GRAPHS), "aggregate_axis is"),
        (lambda: tp.kernel(nn.Aggregate(3), X, pattern1=GRAPHS), "aggregate_axis is"),
        (lambda: tp.kernel(nn.Aggregate(batch_axis=1), X, pattern1=GRAPHS), "batch_axis is 0"),
        (lambda: nn.Aggregate(implementation="SPARSE"), "implementation is 'SPARSE'"),
        (lambda: tp.kernel(nn.serial(nn.Aggregate(), nn.Conv(4, (2,)), nn.Aggregate()), X, pattern1=GRAPHS),
         r"layers\[2\] \(Aggregate\): graphs are of one kind in a net, .* \(5,\) and \(4,\)"),
    ],
)  # fmt: skip
def test_refusals(call, said):
    with pytest.raises((InputError, SpecError), match=said):
        call()


def test_the_plan_of_a_net_with_graphs():
    made = tp.plan(NET, (5, 3), get=BOTH, n=10)
    assert (made.road, [region.back_end for region in made.regions].count("NumPy")) == ("cells", 3)
    assert "a sum over an index axis with weights of the input" in made.reason
    assert "road: cells" in str(made)
    program = tp.plan(nn.program(NET, (5, 3)), {"u": (5, 3), "pattern": (5, 5)})
    assert program.road == "cells"
