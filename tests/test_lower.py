"""Linear forms, schedules and registers against plain loops."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from tests.oracle import loops
from tpnum import nn
from tpnum.law import graph
from tpnum.lower.codes import code, decoded
from tpnum.lower.linear import Pull, Step
from tpnum.lower.regions import lanes
from tpnum.lower.registers import allocate
from tpnum.lower.schedule import Schedule
from tpnum.lower.unsupported import Unsupported
from tpnum.lower.windows import runs, slides
from tpnum.program.maps import Mean, Sum, Take
from tpnum.program.windows import Pool, Transposed, Window
from tpnum.tiles import inputs
from tpnum.tiles.extents import extents

# pulls -----------------------------------------------------------------------------------------------------


def index_step(one, other, sizes, out=("x",), tied=False):
    """A map by two records, one per input; ``out`` names what it makes, offsets of a filter last."""
    counts = [(m.count // m.size, m.size) if len(out) == 2 else (m.count,) for m in (one, other)]
    axes = tuple((name, n, m) for name, n, m in zip(out, *counts, strict=False))
    return Step("map", "x", axes, one.rows, other.rows, sizes, tied)


def summed(size, weight):
    """The sum over the offsets of a filter, whose weights are independent."""
    row = (tuple((k, weight) for k in range(size)),)
    return Step("map", "f", (), row, row, (size, size), True)


def pulled(pull, link, cell):
    """The cells that one cell reads, and their weights."""
    _, source, weight = pull.taps(link, np.array([code(*cell)]))
    return dict(zip(pairs(source), weight.tolist(), strict=True))


def pairs(cells):
    """Cells as pairs of positions."""
    return list(zip(*(side.tolist() for side in decoded(cells)), strict=True))


def read(pull, k, shape, link=("x", "x")):
    """What the cells above read of ``k``, whose last row and column are the padding."""
    made = np.zeros(shape)
    for cell in product(*map(range, shape)):
        for below, weight in pulled(pull, link, cell).items():
            made[cell] += weight * k[below]
    return made


def images(n, m, seed=0):
    """Vectors at the positions of two inputs, their covariances and their increments with a padding."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, 3)), rng.standard_normal((m, 3))
    k, d = np.full((n + 1, m + 1), np.nan), np.full((n + 1, m + 1), np.nan)
    k[:n, :m] = x @ y.T
    x, y = (np.vstack([z, np.zeros(3)]) for z in (x, y))
    d[:] = ((x[:, None] - y[None]) ** 2).sum(-1)
    d[n, m] = np.nan  # nothing reads it
    return x, y, k, d


WINDOWS = [
    (n, m, size, stride, dilation, padding)
    for (n, m), size, stride, dilation, padding in product(
        [(6, 6), (5, 7), (1, 1), (1, 4)], [1, 2, 3, 4], [1, 2, 3], [1, 2], ["SAME", "VALID", "CIRCULAR"]
    )
    if (size - 1) * dilation < min(n, m) or padding == "SAME"
]


@pytest.mark.parametrize("padding", ["SAME", "VALID", "CIRCULAR"])
def test_a_filter_averages_over_common_offsets(padding):
    for n, m, size, stride, dilation, kind in WINDOWS:
        if kind != padding:
            continue
        sides = [Window(length, size, stride, dilation, padding) for length in (n, m)]
        if any(side.blind for side in sides):
            continue
        chain = (index_step(*sides, (n, m), ("x", "f")), summed(size, size**-0.5))
        x, y, k, d = images(n, m)
        rows, cols = (
            [
                [length if at is None else at for at in row]
                for row in loops.windows((length,), (size,), (stride,), padding, (dilation,))[1]
            ]
            for length in (n, m)
        )
        covariance, increment = np.zeros((2, len(rows), len(cols)))
        for p, q, o in product(range(len(rows)), range(len(cols)), range(size)):
            u, v = x[rows[p][o]], y[cols[q][o]]
            covariance[p, q] += u @ v / size
            increment[p, q] += (u - v) @ (u - v) / size
        shape = covariance.shape
        pull = Pull(chain, ("x",), increments=False)
        assert pull.links == [("x", "x")]
        np.testing.assert_allclose(read(pull, k, shape), covariance, atol=1e-14)
        np.testing.assert_allclose(read(Pull(chain, ("x",), True), d, shape), increment, atol=1e-14)


def dense(index, length):
    made = np.zeros((index.count, length))
    for row, pairs in zip(made, index.rows, strict=True):
        for i, w in pairs:
            row[i] += w
    return made


@pytest.mark.parametrize(
    "sides",
    [
        (Pool(6, 2, 2), Pool(6, 2, 2)),
        (Pool(6, 3, 1, "SAME"), Pool(4, 3, 1, "SAME")),
        (Pool(5, 3, 2, "CIRCULAR", 0.25), Pool(5, 3, 2, "CIRCULAR", 0.25)),
        (Take(5, (4, 0, 0)), Take(5, (4, 0, 0))),
        (Take(5, (1, 2)), Take(7, (6, 0, 3))),
        (Transposed(3, 4, 2, "SAME"), Transposed(3, 4, 2, "SAME")),
    ],
    ids=str,
)
def test_maps_act_on_both_sides(sides):
    n, m = (index.reads or 3 for index in sides)
    if isinstance(sides[0], Transposed):
        chain = (index_step(*sides, (n, m), ("x", "f")), summed(4, 0.5))
        left, right = (
            dense(index, length).reshape(-1, 4, length) for index, length in zip(sides, (n, m), strict=True)
        )
    else:
        chain = (index_step(*sides, (n, m)),)
        left, right = (2 * dense(index, length)[:, None] for index, length in zip(sides, (n, m), strict=True))
    x, y, k, d = images(n, m, 1)
    want = np.einsum("pon,nm,qom->pq", left, k[:n, :m], right) / 4
    np.testing.assert_allclose(read(Pull(chain, ("x",), False), k, want.shape), want, atol=1e-14)
    assert chain[0].mixes == isinstance(sides[0], Pool)
    if not chain[0].mixes:
        apart = np.einsum("pon,nc->poc", left, x[:n])[:, None] - np.einsum("qom,mc->qoc", right, y[:m])[None]
        want = (apart**2).sum((-1, -2)) / 4
        np.testing.assert_allclose(read(Pull(chain, ("x",), True), d, want.shape), want, atol=1e-14)


def test_sums_over_an_axis_make_it_vanish():
    k = np.random.default_rng(2).standard_normal((5, 4))
    for make in (Sum, Mean):
        one, other = make(5), make(4)
        pull = Pull((index_step(one, other, (5, 4), ()),), ("y",), False)
        assert sorted(pull.links, key=str) == [("y", "y"), (None, "x")]
        cells = pulled(pull, (None, "x"), (0, 0))
        want = dense(one, 5) @ k @ dense(other, 4).T
        assert sum(w * k[cell] for cell, w in cells.items()) == pytest.approx(float(want[0, 0]), rel=1e-14)
        assert pulled(pull, ("y", "y"), (3, 1)) == {(3, 1): 1.0}


def test_a_sum_over_independent_members_reads_the_diagonal():
    for increments in (False, True):
        row = (tuple((k, 0.5) for k in range(4)),)
        pull = Pull((Step("map", "x", (), row, row, (4, 4), True),), (), increments)
        assert pulled(pull, (None, "x"), (0, 0)) == {(p, p): 0.25 for p in range(4)}


def test_embedding_and_restriction():
    embed, restrict = (Step(kind, "x", (), (), (), (4, 4), False) for kind in ("embed", "restrict"))
    plain, increments = (Pull((embed,), ("x",), which) for which in (False, True))
    for p, q in product(range(4), range(4)):
        same = {(p, q): 1.0}
        assert pulled(plain, ("x", "x"), (p, q)) == (same if p == q else {})
        # independent variables: the increment is the sum of the second moments
        assert pulled(increments, ("x", "x"), (p, q)) == (same if p == q else {(p, 4): 1.0, (4, q): 1.0})
        assert pulled(Pull((restrict,), ("x",), False), ("x", "x"), (p, q)) == same
    local = (
        index_step(Window(4, 2, 1, 1, "SAME"), Window(4, 2, 1, 1, "SAME"), (4, 4), ("x", "f")),
        summed(2, 0.5**0.5),
        embed,
    )
    pull = Pull(local, ("x",), False)
    assert pulled(pull, ("x", "x"), (1, 1)) == pytest.approx({(1, 1): 0.5, (2, 2): 0.5})
    assert pulled(pull, ("x", "x"), (3, 3)) == pytest.approx({(3, 3): 0.5})
    assert pulled(pull, ("x", "x"), (0, 1)) == {}


def test_what_a_pull_refuses():
    window = index_step(Window(4, 2), Window(4, 2), (4, 4), ("x", "f"))
    with pytest.raises(Unsupported, match="split"):
        Pull((window,), ("x", "f"), False)
    renamed = Step(
        "map", "x", (("z", 4, 4),), Take(4, (3, 2, 1, 0)).rows, Take(4, (3, 2, 1, 0)).rows, (4, 4), False
    )
    with pytest.raises(Unsupported, match="renamed"):
        Pull((renamed,), ("z",), False)


# schedules -------------------------------------------------------------------------------------------------


def schedule(net, shape, kinds=("ntk",)):
    _, plan = inputs._plans(net, ((("", shape),),) * 2, kinds)
    return Schedule([entry.node for kind in kinds for entry in plan.entries[kind]])


def conv(size=3, stride=1, padding="SAME", **more):
    return nn.Conv(8, (size,), (stride,), padding, 1.3, 0.1, **more)


RELU = nn.Relu()


def inside(grid, cells):
    """The cells of one axis that are no padding."""
    ((_, n, m),) = grid
    return {(p, q) for p, q in pairs(cells) if p < n and q < m}


def planes(level):
    """Per component the differences q - p of the cells of every grid, by the grid's size."""
    (components,) = level.components
    return [
        {grid[0][1]: {q - p for p, q in inside(grid, cells)} for grid, cells in component.items() if grid}
        for component in components
    ]


@pytest.mark.parametrize("kinds", [("nngp",), ("ntk",), ("nngp", "ntk")])
def test_convolutions_fall_into_diagonal_planes(kinds):
    (level,) = schedule(nn.serial(conv(), RELU, conv(), RELU, conv()), (9, 2), kinds).levels
    found = planes(level)
    assert sorted(delta for plane in found for delta in plane[9]) == list(range(-8, 9))  # 2 n - 1, one each
    assert all(len(plane[9]) == 1 for plane in found)


def test_valid_windows_need_the_planes_of_what_is_left():
    (level,) = schedule(nn.serial(conv(padding="VALID"), RELU, conv(padding="VALID")), (9, 2)).levels
    found = planes(level)
    assert len(found) == 2 * 5 - 1
    assert all(plane[7] == plane[5] and len(plane[5]) == 1 for plane in found)


def test_strides_do_not_mix():
    (level,) = schedule(nn.serial(conv(), RELU, conv(stride=2), RELU, conv()), (9, 2)).levels
    found = planes(level)
    assert len(found) == 2 * 5 - 1
    for plane in found:
        (delta,) = plane[5]
        assert plane[9] <= {2 * delta}  # of the last planes everything may be padding


def test_flatten_needs_the_diagonal_alone():
    net = nn.serial(conv(), RELU, conv(), RELU, nn.Flatten(), nn.Dense(1))
    level = schedule(net, (9, 2)).levels[0]
    assert [plane[9] for plane in planes(level)] == [{0}]


def test_pooling_ends_a_region():
    net = nn.serial(conv(), RELU, nn.AvgPool((2,), (2,)), conv(), RELU, nn.GlobalAvgPool(), nn.Dense(1))
    first, second, head = schedule(net, (8, 2)).levels
    assert len(first.components[0]) == 2 * 8 - 1
    assert len(second.components[0]) == 2 * 4 - 1
    assert head.slots == () and head.components == []
    assert all(root.pooled for root in first.stored) and {*first.stored} >= {*second.loaded}


def test_two_axes_are_found_one_by_one():
    net = nn.serial(nn.Conv(8, (3, 3), None, "SAME"), RELU, nn.Conv(8, (3, 3), None, "SAME"))
    (level,) = schedule(net, (4, 6, 2)).levels
    assert sorted(map(len, level.components)) == [2 * 4 - 1, 2 * 6 - 1]


@pytest.mark.parametrize("padding", ["SAME", "VALID", "CIRCULAR"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("flat", [True, False])
def test_only_cells_that_an_output_needs_exist(padding, stride, flat):
    sizes = [9]
    rows = []
    for size, step in ((3, stride), (2, 1)):
        (length,), found = loops.windows((sizes[-1],), (size,), (step,), padding)
        sizes.append(length)
        rows.append(found)
    needed = {(p, q) for p, q in product(range(sizes[2]), repeat=2) if p == q or not flat}
    wanted = {2: needed}
    for k in (1, 0):
        wanted[k] = {
            (a, b)
            for p, q in wanted[k + 1]
            for a, b in zip(rows[k][p], rows[k][q], strict=True)
            if a is not None and b is not None
        }
    net = nn.serial(conv(1), RELU, conv(3, stride, padding), RELU, conv(2, 1, padding), RELU)
    net = nn.serial(net, nn.Flatten(), nn.Dense(1)) if flat else net
    level = schedule(net, (9, 2), ("nngp",)).levels[0]
    found: dict[int, set] = {}
    for grid, (cells,) in level.spaces.items():
        if grid:
            found.setdefault(grid[0][1], set()).update(inside(grid, cells))
    want: dict[int, set] = {}
    for k, size in enumerate(sizes):
        want.setdefault(size, set()).update(wanted[k])
    assert found == want


# registers -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Op:
    reads: tuple[int, ...]
    makes: tuple[int, ...]


def straight_line(rng, length=40):
    """Operations of up to three slots: read, written or changed in place."""
    made, ops = 0, []
    for _ in range(length):
        reads, makes = [], []
        for _ in range(int(rng.integers(1, 4))):
            slot = rng.choice(["r", "w", "m"]) if made else "w"
            recent = max(0, made - 6) if rng.random() < 0.7 else 0
            reads.append(int(rng.integers(recent, made)) if slot != "w" else -1)
            makes.append(-2 if slot != "r" else -1)
        for k, value in enumerate(makes):
            if value == -2:
                makes[k] = made
                made += 1
        ops.append(Op(tuple(reads), tuple(makes)))
    return ops


@pytest.mark.parametrize("kinds", [1, 2, 5])
def test_registers_hold_what_is_read(kinds):
    rng = np.random.default_rng(kinds)
    for _ in range(60):
        ops = straight_line(rng)
        kind_of = {v: int(rng.integers(kinds)) for op in ops for v in op.makes if v >= 0}
        rows, kinds_found = allocate(ops, kind_of.__getitem__)
        held: dict[int, object] = {}
        truth: dict[int, object] = {}
        ran = []
        for one, near, places in rows:
            if one is None:
                held[places[0]] = held[places[1]]
                continue
            assert one is near
            at = places[: len(one.reads)]
            seen = []
            for read_, made, register in zip(one.reads, one.makes, at, strict=True):
                if read_ >= 0:
                    assert held[register] == truth[read_]
                    seen.append(truth[read_])
                value = made if made >= 0 else read_
                if made >= 0 or read_ >= 0:
                    assert kinds_found[register] == kind_of[value]
            written = [r for r, made in zip(at, one.makes, strict=True) if made >= 0]
            only_read = {r for r, made in zip(at, one.makes, strict=True) if made < 0}
            assert len({*written}) == len(written) and not only_read & {*written}
            for slot, (made, register) in enumerate(zip(one.makes, at, strict=True)):
                if made >= 0:
                    truth[made] = held[register] = (len(ran), slot, hash(tuple(seen)))
            ran.append(one)
        assert ran == ops


def test_registers_are_used_again():
    chain = [Op((-1,), (0,)), *(Op((-1, k), (k + 1, -1)) for k in range(20))]
    _, kinds = allocate(chain, lambda _: "cells")
    assert len(kinds) == 2
    in_place = [Op((-1,), (0,)), *(Op((k,), (k + 1,)) for k in range(20))]
    rows, kinds = allocate(in_place, lambda _: "cells")
    assert len(kinds) == 1 and len(rows) == len(in_place)


def test_registers_wait_for_the_end_of_a_stretch():
    """A chain of two pairs: each second one would take the register that the first one reads."""
    ops = [Op((-1,), (0,)), *(Op((-1, k), (k + 1, -1)) for k in range(20))]
    rows, kinds = allocate(ops, lambda _: "cells", lambda value, k: k | 1)
    assert len(kinds) == 3
    for first, second in zip(rows[::2], rows[1::2], strict=False):
        assert second[2][0] not in first[2]


def test_cells_whose_windows_move_on_together_are_one_run():
    windows = [[(4, 1.0), (0, 1.0), (1, 1.0)], [(0, 1.0), (1, 1.0), (2, 1.0)], [(1, 1.0), (2, 1.0), (3, 1.0)]]
    windows += [[(2, 1.0), (3, 1.0), (5, 1.0)], [], [], [(0, 0.5)], [(1, 0.5)], [(2, 0.25)], [(3, 0.25)]]
    pointer = np.cumsum([0, *map(len, windows)])
    index, weights = (np.array([tap[k] for taps in windows for tap in taps]) for k in (0, 1))
    assert runs(pointer, index, weights).tolist() == [1, 2, 1, 1, 2, 1, 2, 1, 2, 1]
    assert runs(np.array([0]), index[:0], weights[:0]).size == 0


def test_what_windows_that_slide_share():
    """Of pieces with three taps or two, in any order, all of one weight."""
    windows = [[(6, 1.0), (0, 1.0), (1, 1.0)], [(0, 1.0), (1, 1.0), (2, 1.0)], [(1, 1.0), (2, 1.0)]]
    windows += [[(2, 1.0), (3, 1.0), (4, 1.0)], [(3, 1.0), (4, 1.0), (5, 2.0)], [], [(3, 0.5), (4, 0.5)]]
    windows += [[(4, 0.5), (3, 0.5), (5, 0.5)], [(4, 1.0), (5, 1.0)], [(4, 1.0)], [(0, 1.0)] * 4]
    pointer = np.cumsum([0, *map(len, windows)])
    index, weights = (np.array([tap[k] for taps in windows for tap in taps]) for k in (0, 1))
    none = [-1] * 4
    found = slides(pointer, index, weights).tolist()
    assert found[:2] == [[6, 0, 1, 2], [0, 1, 2, -1]] and found[2:6] == [none] * 4
    assert found[6] == [-1, 3, 4, 5] and found[7:] == [none] * 4
    assert slides(np.array([0]), index[:0], weights[:0]).shape == (0, 4)


def test_columns_at_a_time():
    """Strips that the columns fill, no wider than a cache holds; whole tiles of them."""

    class OfOneSize:
        spread = 600

    double, single = np.dtype(np.float64), np.dtype(np.float32)
    assert lanes(double) == 32 and lanes(single) == 64
    assert lanes(double, [OfOneSize()], 1797, True) == lanes(double, [OfOneSize()], 192) == 96
    assert lanes(double, [OfOneSize()], 128) == 64 and lanes(double, [OfOneSize()], 90, True) == 96
    assert lanes(single, [OfOneSize()], 10000) == 128
    for count in (32, 96, 128):
        made = extents(6400, 1, 2e4, count, 1797, lambda: 0.0)
        assert made.width % count == 0 and made.width % made.height == 0 and made.slab % made.width == 0


def test_outputs_of_a_schedule_are_plain_covariances():
    made = schedule(nn.serial(conv(), RELU, conv()), (4, 2), ("nngp",))
    for node in made.outputs.values():
        assert isinstance(node, graph.Sum) and not node.increments
