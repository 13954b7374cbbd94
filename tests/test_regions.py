"""A layer that is not compiled costs its own region: it is computed by NumPy, and nothing else is."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.roads import CELLS, GENERAL, MACHINE, kernels
from tpnum import nn
from tpnum.errors import AccuracyWarning
from tpnum.evaluate.cells import CellValues
from tpnum.evaluate.general import PairValues
from tpnum.law import graph
from tpnum.tiles import cells
from tpnum.tiles.cells import CellWorker
from tpnum.tiles.fast import MachineWorker

BOTH = ("nngp", "ntk")
CHEAP = {"budget": 1 << 10, "rtol": 1e-2}


def D(w_std: float = 1.3) -> nn.Layer:
    return nn.Dense(1, W_std=w_std, b_std=0.2)


def C() -> nn.Layer:
    return nn.Conv(1, (3,), W_std=1.3, b_std=0.2, padding="SAME")


def mixed() -> tuple[nn.Layer, ...]:
    """Relu and erf of one variable, added: pairs of two functions, which have no common series."""
    return nn.FanOut(2), nn.parallel(nn.Relu(), nn.Erf()), nn.FanInSum()


def largest(n: int = 4, head: str = "flat") -> tp.Program:
    """A convolution, the greater of the relus of two neighbours, a convolution, relu, a dense head."""
    p = tp.Program()
    x = p.data("x", axes={"t": n}, channels="d")
    g = (p.matrix("W", cols="d", axes={"t_f": 3}) @ x.windows("t", 3, padding="SAME")).sum("t_f")
    even, odd = (g.take(t=list(range(k, n, 2))) for k in (0, 1))
    h = tp.maximum(tp.relu(even), tp.relu(odd)).windows("t", 3, padding="SAME")
    last = tp.relu((p.matrix("V", axes={"t_f": 3}) @ h).sum("t_f"))
    y = last.mean("t") if head == "mean" else last.take(t=0)
    p.output(p.matrix("R") @ tp.relu(p.matrix("S") @ y))
    return p


def branches() -> tp.Program:
    """A dense net with one function of two correlated Gaussians in the middle."""
    p = tp.Program()
    g = p.matrix("U", cols="d") @ p.data("u", channels="d")
    g = p.matrix("W") @ tp.relu(g)
    b = p.vector("b", var=0.3)
    h = tp.maximum(g, 0.5 * g + b)
    p.output(p.matrix("R") @ tp.relu(p.matrix("S") @ h))
    return p


FIVE = (nn.Erf(), nn.Gelu(), nn.Sin(), nn.Rbf(), nn.Gaussian(), nn.ExpNormalized())
NETS: dict[str, tuple[Any, tuple[int, ...], int, type]] = {
    "dense": (nn.serial(D(), nn.Relu(), D(), *mixed(), D(), nn.Relu(), D()), (3,), 6, graph.Dual),
    "two functions twice": (nn.serial(D(), *mixed(), D(), *mixed(), D()), (3,), 4, graph.Dual),
    "flat": (
        nn.serial(C(), nn.Relu(), C(), *mixed(), C(), nn.Relu(), nn.Flatten(), D()), (4, 2), 4, graph.Dual,
    ),
    "pooled": (
        nn.serial(C(), nn.Relu(), C(), *mixed(), C(), nn.Relu(), nn.GlobalAvgPool(), D(), nn.Relu(), D()),
        (4, 2), 4, graph.Dual,
    ),
    "pooled in between": (
        nn.serial(C(), *mixed(), nn.AvgPool((2,), (2,)), C(), nn.Relu(), nn.GlobalAvgPool(), D()),
        (4, 2), 3, graph.Dual,
    ),
    "in the head": (nn.serial(C(), nn.Relu(), nn.GlobalAvgPool(), D(), *mixed(), D()), (4, 2), 4, graph.Dual),
    "everywhere": (nn.serial(C(), nn.Relu(), C(), *mixed(), C()), (4, 2), 3, graph.Dual),
    "beside a skip": (
        nn.serial(D(), nn.Relu(), nn.FanOut(2), nn.parallel(nn.Identity(), nn.serial(D(), *mixed())),
                  nn.FanInSum(), D(), nn.Relu(), D()),
        (3,), 4, graph.Dual,
    ),
    "six kinds": (nn.serial(*(part for act in FIVE for part in (D(), act)), D()), (3,), 7, graph.Dual),
    "fixed rule": (
        nn.serial(D(), nn.ElementwiseNumerical(np.tanh, 7), D(), nn.Relu(), D()), (3,), 4, graph.Dual
    ),
    "maximum of two": (branches(), (3,), 3, graph.PairExpect),
    "max pooling": (largest(), (4, 2), 2, graph.PairExpect),
    "max pooling, mean": (largest(head="mean"), (4, 2), 2, graph.PairExpect),
}  # fmt: skip


def inputs(shape: tuple[int, ...], count: int, close: bool = True) -> np.ndarray:
    """Random inputs; of many the first twice, and two pairs that are nearly equal."""
    x = np.random.default_rng(7).standard_normal((count, *shape))
    if count >= 7 and close:
        x[1] = x[0] + 1e-9 * x[1]
        x[3] = x[2] + 1e-5 * x[3]
        x[4] = x[0]
    return x


class Counted:
    """The nodes that the general path's rules computed, in whole tiles and in regions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cells: list[graph.Pair] = []
        self.tiles: list[graph.Pair] = []
        call = PairValues.__call__

        def spy(values: PairValues, node: graph.Pair) -> Any:
            if id(node) not in values._memo:
                (self.cells if isinstance(values, CellValues) else self.tiles).append(node)
            return call(values, node)

        monkeypatch.setattr(PairValues, "__call__", spy)


@pytest.mark.parametrize("name", NETS)
def test_regions_and_general_path_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, shape, count, kind = NETS[name]
    x = inputs(shape, count)
    get: Any = "nngp" if kind is graph.PairExpect else BOTH
    options = CHEAP if kind is graph.PairExpect else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        truth, _ = kernels(net, x, road=GENERAL, get=get, **options)
        counted = Counted(monkeypatch)
        made, road = kernels(net, x, get=get, **options)
        assert road == CELLS
        assert not counted.tiles
        assert counted.cells
        assert all(isinstance(node, kind) for node in counted.cells)
        block, road = kernels(net, x[:1], x[1:], get=get, **options)
        assert road == CELLS
    pairs = [(made, truth, block)] if isinstance(get, str) else zip(made, truth, block, strict=True)
    for found, right, part in pairs:
        top = np.abs(right).max()
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-12 * top)
        if found.ndim == 2 and name != "fixed rule":  # which treats its two inputs differently
            np.testing.assert_array_equal(found, found.T)
        np.testing.assert_allclose(part, right[:1, 1:], rtol=0, atol=1e-12 * top)


def attention(**more: Any) -> nn.Layer:
    return nn.GlobalSelfAttention(6, 6, 6, 1, scaling="1/n", b_std=0.3, **more)


def beside_its_mean() -> tp.Program:
    """A convolution of relus, its mean over positions added to each of them, relu, a mean, a dense head."""
    p = tp.Program()
    x = p.data("x", axes={"t": 4}, channels="d")
    h = tp.relu((p.matrix("W", cols="d", axes={"t_f": 3}) @ x.windows("t", 3, padding="SAME")).sum("t_f"))
    g = p.matrix("V") @ h
    last = tp.relu(g + 0.7 * g.mean("t"))
    p.output(p.matrix("R") @ tp.relu(p.matrix("S") @ last.mean("t")))
    return p


head = (C(), nn.Relu(), nn.GlobalAvgPool(), D(), nn.Relu(), D())
ISLANDS: dict[str, tuple[Any, tuple[int, ...], set[type]]] = {
    "attention between convolutions": (
        nn.serial(C(), nn.Relu(), C(), nn.Relu(), attention(), nn.Relu(), *head), (4, 2), {graph.Weighted},
    ),
    "two attentions": (
        nn.serial(C(), attention(), nn.Erf(), attention(causal=True), nn.Relu(), *head), (4, 2),
        {graph.Weighted},
    ),
    "max pooling between convolutions": (
        nn.serial(C(), nn.Relu(), C(), nn.MaxPool((2,), (2,)), nn.Relu(), *head), (4, 2), {graph.Jointly},
    ),
    "a map of one side": (beside_its_mean(), (4, 2), {graph.Mapped}),
}  # fmt: skip


@pytest.mark.parametrize("name", ISLANDS)
def test_islands_cost_their_own_regions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What relates positions as no instruction does is computed by NumPy, and nothing beside it."""
    net, shape, kinds = ISLANDS[name]
    options = {"rtol": 1e-2} if graph.Jointly in kinds else {}
    x = inputs(shape, 7)
    x[[1, 3]] = inputs(shape, 6)[4:]  # nearly equal ones keep no digits behind sums over positions
    truth, _ = kernels(net, x, road=GENERAL, get=BOTH, **options)
    counted = Counted(monkeypatch)
    made, road = kernels(net, x, get=BOTH, **options)
    seen = [node for node in counted.tiles if node.rows != node.cols or type(node) in kinds]
    assert road == CELLS
    assert kinds <= {type(node) for node in seen}
    block, _ = kernels(net, x[:2], x[2:], get=BOTH, **options)
    for found, right, part in zip(made, truth, block, strict=True):
        top = np.abs(right).max()
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-12 * top)
        np.testing.assert_array_equal(found, found.T)
        np.testing.assert_allclose(part, right[:2, 2:], rtol=0, atol=1e-12 * top)
    plan = tp.plan(net, shape, get=BOTH)
    assert plan.road == "cells"
    assert {"compiled", "NumPy"} == {region.back_end for region in plan.regions}
    assert plan.regions[0].back_end == plan.regions[-1].back_end == "compiled"


def test_islands_that_take_too_much_room_are_left_to_the_general_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cells, "ISLANDS", 1 << 10)
    net, shape, _ = ISLANDS["a map of one side"]
    plan = tp.plan(net, shape)
    assert (plan.road, "too much room" in plan.reason) == ("general", True)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_mixed_layer_is_its_duals(dtype: str) -> None:
    """E (r + e)(r' + e') = E r r' + E r e' + E e r' + E e e', each by itself, near duplicates too."""
    x = inputs((3,), 7)
    net = nn.serial(nn.Dense(1, W_std=1.3), nn.Relu(), nn.Dense(1, W_std=1.2), *mixed(), nn.Dense(1))
    made, road = kernels(net, x, dtype=dtype)
    assert road == CELLS
    relu = tp.dual("relu")
    k = 1.69 * x @ x.T / 3
    q = np.diagonal(k)
    k = 1.44 * np.asarray(relu(q[:, None], q[None, :], k))
    q = np.diagonal(k)[:, None]
    f = tp.dual(lambda u: np.maximum(u, 0.0) + np.vectorize(_erf)(u))
    np.testing.assert_allclose(made, f(q, q.T, k), rtol=1e-9 if dtype == "float64" else 1e-6)


def _erf(u: float) -> float:
    from math import erf

    return erf(u)


def test_rows_that_series_miss_are_computed_again_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Near duplicates of kinked functions: their row of a strip goes to quadrature, equal ones do not."""
    net = nn.serial(D(4.0), nn.HardTanh(), D(4.0), nn.HardTanh(), D())
    flat = nn.serial(*(nn.Conv(1, (2,), W_std=4.0), nn.HardTanh()) * 2, nn.Flatten(), D())
    for one, shape, road, worker in (
        (net, (40,), MACHINE, MachineWorker),
        (flat, (5, 40), CELLS, CellWorker),
    ):
        x = np.random.default_rng(3).standard_normal((130, *shape))
        x[7] = x[40]
        seen: list[Any] = []
        run = PairValues.run

        def spy(values: PairValues, outputs: list[graph.Pair], seen: Any = seen, run: Any = run) -> None:
            seen.append(values.counts)
            run(values, outputs)

        for close, most in ((False, 0), (True, 64 * 8)):
            if close:
                x[5] = x[100] + 1e-7 * x[5]
            truth, _ = kernels(one, x, road=GENERAL, get=BOTH)
            with monkeypatch.context() as patch:
                patch.setattr(PairValues, "run", spy)
                seen.clear()
                made, taken = kernels(one, x, get=BOTH)
            assert taken == road, worker
            pairs = sum(r * c for r, c in seen)
            assert pairs <= most
            assert (pairs > 0) == close
            for found, right in zip(made, truth, strict=True):
                np.testing.assert_allclose(found, right, rtol=0, atol=1e-12 * np.abs(right).max())
                np.testing.assert_array_equal(found, found.T)


def test_a_budget_that_does_not_reach_is_told_from_regions() -> None:
    net, shape, count, _ = NETS["maximum of two"]
    said = r"joint expectation of line \d+ .* not to 1e-07 after \d+ evaluations"
    with pytest.warns(AccuracyWarning, match=said):
        kernels(net, inputs(shape, count), rtol=1e-7, budget=1 << 10)


def test_a_plan_shows_the_back_end_of_every_region() -> None:
    net, shape, _, _ = NETS["pooled"]
    plan = tp.plan(net, shape)
    assert plan.road == "cells"
    back_ends = [region.back_end for region in plan.regions]
    assert back_ends[0] == back_ends[-1] == "compiled"
    assert back_ends.count("NumPy") == 2
    for region in plan.regions:
        assert bool(region.reason) == (region.back_end == "NumPy")
        if region.reason:
            assert "no common series" in region.reason
            assert region.reason in plan.reason
            assert f"NumPy ({region.reason})" in str(plan)
            assert region.components == region.cells == 16
            assert region.loads == ("increments on t 4 x 4: 16 cells",)


def test_regions_by_numpy_know_equal_examples_in_every_strip(monkeypatch):
    """Correlations of an example with itself are one there, wherever its strip begins."""
    seen = []
    coincide = CellValues.coincide

    def checked(values: CellValues, node: graph.Pair) -> np.ndarray:
        found = coincide(values, node)
        rows, cols = (np.arange(p.size)[s] for p, s in zip(values.profiles, values.slices, strict=True))
        np.testing.assert_array_equal(found.any(axis=0), rows[:, None] == cols)
        seen.append(int(cols[0]))
        return found

    monkeypatch.setattr(CellValues, "coincide", checked)
    x = np.random.default_rng(4).standard_normal((35, 4, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        tp.kernel(largest(), x, n_jobs=1, **CHEAP)
    assert len(set(seen)) > 1
