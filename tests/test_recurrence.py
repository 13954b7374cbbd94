"""Recurrences: compiled, of any length, without unrolling, against the recursion written out."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.roads import CELLS, GENERAL, kernels
from tpnum import nn
from tpnum.errors import LimitError
from tpnum.evaluate import tape
from tpnum.lower import homes, loops, program, regions, variances
from tpnum.program.fold import folded
from tpnum.program.lines import Data, Delay
from tpnum.tiles import extents, inputs
from tpnum.tiles.cells import CellWorker

KINDS = ("nngp", "ntk")
READ = ("last", "every", "average")
W, U = 1.3, 0.8


def net(activation, b=0.2, read="every", **more):
    layers = [nn.SimpleRnn(8, activation, W, U, b, return_sequences=read != "last", **more)]
    if read == "average":
        layers.append(nn.GlobalAvgPool())
    return nn.serial(*layers, nn.Dense(1, 1.1))


def recursion(activation, x, y, b=0.2):
    """(nngp, ntk) of every pair of states, step by step: K and Theta at (t, s) from (t - 1, s - 1)."""
    dual = tp.dual(activation.as_function())
    b = 0.0 if b is None else b

    def variances(z):
        q = np.zeros((len(z), z.shape[1]))
        for t in range(z.shape[1]):
            before = dual(q[:, t - 1], q[:, t - 1], q[:, t - 1]) if t else 0.0
            q[:, t] = W**2 * before + U**2 * np.sum(z[:, t] ** 2, axis=-1) / z.shape[-1] + b**2
        return q

    p, q = variances(x), variances(y)
    k = np.zeros((len(x), len(y), x.shape[1], y.shape[1]))
    theta = np.zeros_like(k)
    for t in range(x.shape[1]):
        for s in range(y.shape[1]):
            drive = U**2 * x[:, t] @ y[:, s].T / x.shape[-1] + b**2
            g, tangent = drive, drive
            if t and s:
                g = g + W**2 * k[:, :, t - 1, s - 1]
                tangent = tangent + W**2 * (k[:, :, t - 1, s - 1] + theta[:, :, t - 1, s - 1])
            at = (p[:, None, t], q[None, :, s], g)
            k[:, :, t, s] = dual(*at)
            theta[:, :, t, s] = dual.derivative(*at) * tangent
    return 1.1**2 * k, 1.1**2 * (k + theta)


def as_read(k, read):
    return {"every": k, "last": k[:, :, -1, -1], "average": k.mean((2, 3))}[read]


@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("b", [0.2, None])
@pytest.mark.parametrize("activation", [nn.Relu(), nn.Erf(), nn.Tanh(), nn.Abs()])
def test_states_are_those_of_the_recursion(activation, b, read):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((3, 5, 2)), rng.standard_normal((4, 5, 2))
    made, road = kernels(net(activation, b, read), x, y, get=KINDS)
    assert road == CELLS
    for got, want in zip(made, recursion(activation, x, y, b), strict=True):
        want = as_read(want, read)
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-12 * np.abs(want).max())


@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("lengths", [(1, 1), (1, 4), (6, 3), (2, 7)])
def test_sequences_of_two_lengths(lengths, read):
    rng = np.random.default_rng(2)
    x, y = (rng.standard_normal((3, n, 2)) for n in lengths)
    made, road = kernels(net(nn.Relu(), 0.1, read), x, y, get=KINDS)
    assert road == CELLS
    for got, want in zip(made, recursion(nn.Relu(), x, y, 0.1), strict=True):
        np.testing.assert_allclose(got, as_read(want, read), rtol=1e-12)


def test_from_the_end_to_the_start():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 5, 2))
    want = tp.kernel(net(nn.Erf()), x[:, ::-1], get="ntk")[:, :, ::-1, ::-1]
    np.testing.assert_allclose(tp.kernel(net(nn.Erf(), reverse=True), x, get="ntk"), want, rtol=1e-12)
    first = tp.kernel(net(nn.Erf(), read="last", reverse=True), x, get="ntk")
    np.testing.assert_allclose(first, want[:, :, 0, 0], rtol=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("activation", [nn.Relu(), nn.Erf()])
def test_sums_of_states_over_trained_inputs(activation, reverse):
    """The sum of the values alone may come before the tangent kernel that the next step takes along."""
    x = np.random.default_rng(19).standard_normal((3, 5, 2))
    states = nn.SimpleRnn(8, activation, reverse=reverse)
    model = nn.serial(nn.Dense(8, 1.2, 0.3), states, nn.GlobalSumPool(), nn.Dense(8, 1.1, 0.4))
    made, road = kernels(model, x, get=KINDS)
    general, _ = kernels(model, x, get=KINDS, road=GENERAL)
    assert road == CELLS
    for got, want in zip(made, general, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * np.abs(want).max())


def test_diagonals_are_those_of_the_matrix():
    x = np.random.default_rng(4).standard_normal((3, 6, 2))
    for read in READ:
        whole, own = (tp.kernel(net(nn.Tanh(), read=read), x, get=KINDS, diag=d) for d in (False, True))
        for k, diagonal in zip(whole, own, strict=True):
            found = np.moveaxis(np.diagonal(k), -1, 0)
            if read == "every":
                found = np.einsum("ntt->nt", found)
            np.testing.assert_allclose(found, diagonal, rtol=1e-12)


@pytest.mark.parametrize("dtype, bound", [("float64", 1e-12), ("float32", 1e-5)])
def test_near_duplicates_keep_their_digits(dtype, bound):
    """|Z - Z'|^2 of two sequences that differ by 1e-5, against a difference of 1e-3 scaled down."""
    rng = np.random.default_rng(5)
    x, d = rng.standard_normal((2, 12, 3))
    k = tp.kernel(net(nn.Relu(), read="last"), np.stack([x, x + 1e-7 * d]), dtype=dtype)
    assert k[0, 1] == pytest.approx(0.5 * (k[0, 0] + k[1, 1]), rel=bound)
    assert np.all(np.isfinite(k))
    same = tp.kernel(net(nn.Relu(), read="last"), np.stack([x, x, 0 * x]), dtype=dtype)
    assert same[0, 0] == same[0, 1] == same[1, 1]


def test_a_thousand_steps():
    """Nothing is as long as the sequence but the arrays; two sequences that agree from the end on meet."""
    x = np.random.default_rng(6).standard_normal((2, 1000, 2))
    made, road = kernels(net(nn.Relu(), read="last"), x, get=KINDS)
    assert road == CELLS
    short, _ = kernels(net(nn.Relu(), read="last"), x[:, -60:], get=KINDS)
    for k, want in zip(made, short, strict=True):
        assert np.all(np.isfinite(k))
        np.testing.assert_allclose(k, want, rtol=1e-3)  # W^2/2 = 0.845 a step is forgotten


@pytest.mark.parametrize("activation", [nn.Relu(), nn.Tanh(), nn.Erf()])
@pytest.mark.parametrize("w", [0.5, 2**0.5, 1.6])
def test_steps_solved_together_are_those_followed_one_by_one(activation, w, monkeypatch):
    """Variances of 200 steps that are forgotten, kept or grow, and where nothing comes in at first."""
    x = np.random.default_rng(18).standard_normal((3, 200, 2)) * np.array([1e-3, 1.0, 30.0])[:, None, None]
    x[:, :2] = 0.0
    model = nn.serial(nn.SimpleRnn(8, activation, w, U), nn.Dense(1))
    solved, solve = [], tape.Tape.solve
    monkeypatch.setattr(tape.Tape, "solve", lambda self, made: solved.append(solve(self, made)) or solved[-1])
    made = tp.kernel(model, x, diag=True)
    assert all(solved)
    monkeypatch.setattr(tape, "LONG", 1000)
    want = tp.kernel(model, x, diag=True)
    assert not solved[-1]
    np.testing.assert_allclose(made, want, rtol=1e-14)


@pytest.mark.parametrize("steps", [8, 100])
def test_variances_that_overflow_are_said_of_their_line(steps):
    x = 1e150 * np.random.default_rng(19).standard_normal((2, steps, 2))
    with pytest.raises(LimitError, match="SimpleRnn.*overflows"):
        tp.kernel(nn.serial(nn.SimpleRnn(8, nn.Relu(), 1e3, U), nn.Dense(1)), x)


def test_memory_of_many_steps(monkeypatch):
    """Coefficients are made where they stay, and hardly anything is held beside them."""
    laid, lay, lay_series = [], program.lay, program.lay_series

    def counted(*given):
        made = lay(*given)
        laid.append(sum(one.bytes for one in made))
        return made

    def series(*given):
        made = lay_series(*given)
        laid.append(made.bytes)
        return made

    monkeypatch.setattr(program, "lay", counted)
    monkeypatch.setattr(program, "lay_series", series)
    model = net(nn.Tanh(), read="last")
    x = np.random.default_rng(7).standard_normal((32, 300, 2))
    tp.kernel(model, x[:, :5], get=KINDS)
    laid.clear()
    tracemalloc.start()
    tp.kernel(model, x, get=KINDS, n_jobs=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(laid) == 2 + 1  # series once, for both sides
    assert peak < 1.3 * sum(laid)


def test_code_and_graph_do_not_grow_with_the_steps():
    plans = [inputs.plan_of(net(nn.Relu()), {"": np.zeros((1, n, 2))}, None, KINDS) for n in (10, 1000)]
    assert len({len(plan.programs[0].lines) for plan in plans}) == 1
    assert plans[0].unrolled is not plans[0]


# what is folded, and what is not ---------------------------------------------------------------------------


def scan(step, steps=4, init=None, read=lambda m, h: m["V"] @ h):
    """A program of one scan over data; ``step(m, state, fed)`` the next state, ``read(m, h)`` the output."""
    p = tp.Program()
    u = p.data("u", axes=(("t", steps),), channels="d")
    drive = p.matrix("U", cols="d") @ u
    more = {name: p.matrix(name, trained=True) for name in ("W", "V")} | {"b": p.vector("b", var=0.3)}
    start = None if init is None else init(p, u)
    with p.scan("t") as loop:
        state = loop.carry("n") if start is None else loop.carry(init=start)
        after = step(more, state, loop.slice(drive))
        loop.next(state, after)
        p_out = loop.stack(after)
    p.output(read(more, p_out))
    return p


FOLDED = {
    "plain": lambda m, s, x: tp.tanh(m["W"] @ s + x),
    "two products": lambda m, s, x: tp.relu(m["W"] @ s + 0.5 * (m["V"] @ s) + x),
    "linear": lambda m, s, x: m["W"] @ s + x,
    "a sum of two functions": lambda m, s, x: tp.erf(m["W"] @ s) + tp.erf(x),
    "two functions of one sum": lambda m, s, x: tp.tanh(m["W"] @ s + x) + tp.softplus(m["W"] @ s + x),
    "leaky": lambda m, s, x: 0.5 * s + 0.5 * tp.relu(m["W"] @ s + x),
    "residual": lambda m, s, x: s + 0.3 * tp.erf(m["W"] @ s + x),
    "leaky behind a matrix": lambda m, s, x: 0.8 * s + 0.2 * (m["V"] @ tp.tanh(m["W"] @ s + x)),
}
UNROLLED = {
    "gated": lambda m, s, x: s * tp.erf(m["W"] @ s + x),
}
STARTS = {
    "zero": None,
    "a random vector": lambda p, u: p.vector("start", var=0.7),
    "a constant": lambda p, u: p.ones("n"),
    "the data": lambda p, u: p.matrix("A", cols="d", trained=True) @ u.mean("t"),
}


@pytest.mark.parametrize("name", [*FOLDED, *UNROLLED])
def test_programs_with_scans(name):
    steps = 4 if name in FOLDED else 2
    p = scan({**FOLDED, **UNROLLED}[name], steps)
    x = np.random.default_rng(7).standard_normal((3, steps, 2))
    made, road = kernels(p, x, get=KINDS)
    want, _ = kernels(p, x, get=KINDS, road=GENERAL)
    assert (road == CELLS) == (name in FOLDED)
    for got, k in zip(made, want, strict=True):
        np.testing.assert_allclose(got, k, rtol=0, atol=1e-12 * np.abs(k).max())


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", ["plain", "leaky", "residual", "leaky behind a matrix"])
def test_states_from_any_start_are_those_of_the_unrolled_program(name, start):
    folded_like_unrolled(scan(FOLDED[name], init=STARTS[start]), 8)


def folded_like_unrolled(p, seed, by=CELLS, size=1.0):
    rng = np.random.default_rng(seed)
    x, y = size * rng.standard_normal((3, 4, 2)), size * rng.standard_normal((2, 4, 2))
    assert like_unrolled(p, x, y) == by


def like_unrolled(p, x, y, rtol=1e-12, get=KINDS):
    """Kernels are those of the program with a line for every step, relative to the largest; their road."""
    made, road = kernels(p, x, y, get=get)
    plain = p.unrolled()
    whole = any(line.name == "u" for line in plain.lines if isinstance(line, Data))
    given = (x, y) if whole else ({f"u[{t}]": z[:, t] for t in range(z.shape[1])} for z in (x, y))
    want, _ = kernels(plain, *given, get=get)
    for got, k in zip(made, want, strict=True):
        np.testing.assert_allclose(got, k, rtol=0, atol=rtol * np.abs(k).max())
    return road


FOLLOWED = {
    "two functions without a common series": lambda m, s, x: (
        0.7 * s + 0.3 * tp.relu(m["W"] @ s + x) + 0.2 * tp.erf(m["W"] @ s + x)
    ),
    "a bias beside a function": lambda m, s, x: (
        0.3 * s - 0.4 * (m["V"] @ s) - 0.4 * x - 0.4 * m["b"] + 0.5 * tp.tanh(m["V"] @ s + x)
    ),
    "the same behind a matrix": lambda m, s, x: (
        0.5 * s + 0.3 * (m["V"] @ (tp.relu(m["W"] @ s + x) + tp.sin(m["W"] @ s + x)))
    ),
}


@pytest.mark.parametrize("name", FOLLOWED)
@pytest.mark.parametrize("start, read", [("zero", "every"), ("a random vector", "average")])
def test_loops_that_are_not_compiled_are_followed_step_by_step(name, start, read):
    more = {"read": averaged} if read == "average" else {}
    folded_like_unrolled(scan(FOLLOWED[name], init=STARTS[start], **more), 14, GENERAL)


@pytest.mark.parametrize("mixed", [False, True])
def test_steps_that_mix_positions_are_followed(mixed):
    """States over pixels, whose neighbours enter the next step; all of them, which is not followed."""
    p = tp.Program()
    u = p.data("u", axes=(("t", 3), ("x", 4)), channels="d")
    w, v = (p.matrix(name, trained=True) for name in ("W", "V"))
    drive = p.matrix("U", cols="d") @ u
    with p.scan("t") as loop:
        state = loop.carry("n", axes=(("x", 4),))
        near = state.mean("x") if mixed else state.shift(x=1)
        after = tp.relu(w @ state + v @ near + loop.slice(drive))
        loop.next(state, after)
        states = loop.stack(after)
    p.output(w @ states.mean("x"))
    x, y = np.random.default_rng(15).standard_normal((2, 3, 3, 4, 2))
    assert like_unrolled(p, x, y, 1e-13) == (CELLS if mixed else GENERAL)


def test_pairs_beyond_their_series_are_followed_step_by_step(monkeypatch):
    """Of states that grow some pairs of steps are so close that no series converges: by quadrature."""
    general, asked = CellWorker.general, []
    monkeypatch.setattr(
        CellWorker, "general", lambda self, tile: asked.append(self.plan.general) or general(self, tile)
    )
    p = scan(lambda m, s, x: s + tp.tanh(m["W"] @ s + x))
    folded_like_unrolled(p, 16, size=6.0)
    assert asked
    assert any(isinstance(line, Delay) for line in asked[0].programs[0].lines)


def test_a_loop_that_is_not_compiled_of_many_steps():
    """Thirty steps, of which the last state has forgotten the first."""
    x = np.random.default_rng(17).standard_normal((2, 30, 2))

    def step(m, s, x):
        return 0.3 * s + 0.3 * tp.relu(m["W"] @ s + x) + 0.2 * tp.erf(m["W"] @ s + x)

    made, road = kernels(scan(step, 30), x)
    assert road == GENERAL
    short, _ = kernels(scan(step, 20), x[:, 10:])
    np.testing.assert_allclose(made[:, :, -1, -1], short[:, :, -1, -1], rtol=1e-4)


def averaged(m, h):
    """A function of the average over the steps."""
    return m["V"] @ tp.relu(m["W"] @ h.mean("t"))


MIXED = {
    "leaky": FOLDED["leaky"],
    "two matrices, two functions": lambda m, s, x: (
        0.5 * s + 0.3 * tp.sin(m["V"] @ s + x) + 0.5 * (m["V"] @ tp.erf(m["W"] @ s + x))
    ),
    "linear and bent": lambda m, s, x: (
        0.5 * (m["V"] @ s) + 0.3 * (m["V"] @ tp.tanh(m["W"] @ s + x)) + 1.3 * x
    ),
}


@pytest.mark.parametrize(
    "name, start, alone",
    [
        ("leaky", "zero", False),
        ("leaky", "a constant", True),
        ("two matrices, two functions", "a random vector", False),
        ("two matrices, two functions", "zero", True),
        ("linear and bent", "a random vector", False),
    ],
)
def test_functions_of_averaged_states(name, start, alone, monkeypatch):
    """Their variances are of all pairs of steps: of many inputs at once, or of each on the general path."""
    if alone:
        monkeypatch.setattr(variances, "cut", lambda outputs: {0: "by order of the test"})
    p = scan(MIXED[name], 3, STARTS[start], averaged)
    rng = np.random.default_rng(9)
    x, y = rng.standard_normal((3, 3, 2)), rng.standard_normal((2, 3, 2))
    like_unrolled(p, x, y, 2e-12)


def test_a_state_of_two_steps_before():
    """Two states, the second of which is what the first was."""
    p = tp.Program()
    u = p.data("u", axes=(("t", 4),), channels="d")
    v, drive = p.matrix("V", trained=True), p.matrix("U", cols="d", trained=True) @ u
    with p.scan("t") as loop:
        state, before = loop.carry("n"), loop.carry("n")
        after = tp.relu(v @ state + 0.7 * (v @ before) + loop.slice(drive))
        loop.next(state, after)
        loop.next(before, state)
        states, _ = loop.stack(after), loop.stack(state)
    p.output(v @ states)
    x = np.random.default_rng(11).standard_normal((3, 4, 2))
    made, road = kernels(p, x, get=KINDS)
    assert road == CELLS
    want, _ = kernels(p, x, get=KINDS, road=GENERAL)
    for got, k in zip(made, want, strict=True):
        np.testing.assert_allclose(got, k, rtol=0, atol=1e-12 * np.abs(k).max())


def test_one_product_of_a_state_on_several_lines():
    """What a function is applied at, and what is added beside it, is one variable by two names."""
    p = tp.Program()
    u = p.data("u", axes=(("t", 3),), channels="d")
    v, drive = p.matrix("V", var=0.5), p.matrix("U", cols="d", trained=True) @ u
    with p.scan("t") as loop:
        state, before, x = loop.carry("n"), loop.carry("n"), loop.slice(drive)
        linear = v @ before
        bent = v @ tp.relu(v @ before + x)
        rest = v @ tp.relu(v @ before)
        after = tp.relu(0.8 * rest + 0.8 * linear + 0.8 * x + 0.3 * bent)
        loop.next(state, after)
        loop.next(before, 1.0 * state)
        states = loop.stack(after)
    p.output(p.matrix("R") @ tp.relu(p.matrix("Q") @ states.mean("t")))
    x, y = np.random.default_rng(20).standard_normal((2, 3, 3, 2))
    assert like_unrolled(p, x, y, 1e-13, get=("nngp",)) == CELLS


def test_a_leaky_recurrence_of_many_steps():
    """Sixty steps, of which the last state has forgotten the first."""
    x = np.random.default_rng(9).standard_normal((2, 60, 2))
    made, road = kernels(scan(FOLDED["leaky"], 60), x)
    assert road == CELLS
    short, _ = kernels(scan(FOLDED["leaky"], 50), x[:, 10:])
    np.testing.assert_allclose(made[:, :, -1, -1], short[:, :, -1, -1], rtol=1e-4)


class Everywhere(homes.Homes):
    """States are kept for all cells, as if steps were recalled at any time."""

    def __call__(self, value):
        found = super().__call__(value)
        return found if found.span <= 1 else homes.Home(0, self._space[value])


@pytest.mark.parametrize("name", ["plain", "linear", "leaky", "residual", "leaky behind a matrix"])
@pytest.mark.parametrize("start", ["zero", "a random vector"])
def test_states_kept_for_some_steps_are_those_that_are_kept_for_all(name, start, monkeypatch):
    """A register that steps share gives what one of all cells gives, bit by bit, padding and all."""
    x, y = np.random.default_rng(12).standard_normal((2, 3, 11, 2))
    y[0] = x[0] * (1 + 1e-7)
    p = scan(FOLDED[name], 11, STARTS[start])
    made, road = kernels(p, x, y, get=KINDS)
    assert road == CELLS
    with monkeypatch.context() as patch:
        patch.setattr(loops, "MANY", 1)
        steps, _ = kernels(p, x, y, get=KINDS)
    monkeypatch.setattr(program, "Homes", Everywhere)
    whole, _ = kernels(p, x, y, get=KINDS)
    for got, other, want in zip(made, steps, whole, strict=True):
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(other, want)


def test_room_of_many_steps():
    """Of all pairs of 100 steps a register holds a row: what is stored alone has a cell for each."""
    p = scan(FOLDED["leaky"], 100)
    plan = inputs.plan_of(p, {"u": np.zeros((1, 100, 2))}, None, ("ntk",))
    nodes = [entry.node for entry in plan.entries["ntk"]]
    both = plan.profiles({"u": np.random.default_rng(0).standard_normal((1, 100, 2))}, None)
    (_, _, (made,)) = regions.regions(nodes, both, np.dtype(float))
    spans = made.registers[:-1, 1]
    assert (spans == 0).sum() == 1
    assert set(spans.tolist()) <= {0, 1, 2, 128}


def test_a_folded_program_reads_like_one():
    p = folded(scan(FOLDED["plain"]))
    assert p is not None
    text = str(p)
    assert "one step before along t, zero at first" in text
    assert type(p).from_lines(p.lines, p.dims, p.outputs) == p
    assert folded(p) is None


@pytest.mark.parametrize("read", ["last", "average"])
def test_many_examples_in_slabs_are_those_of_a_few(read, monkeypatch):
    """Tiles of several slabs, strips of all widths, duplicates far from each other: entry by entry alike."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((600, 6, 3))
    x[590] = x[3]
    model = net(nn.Relu(), 0.2, read)
    whole, road = kernels(model, x, get=KINDS)
    assert road == CELLS
    monkeypatch.setattr(extents, "MANY", 1)
    slabs, _ = kernels(model, x, get=KINDS)
    some = [0, 3, 64, 127, 128, 300, 590, 599]
    few, _ = kernels(model, x[some], get=KINDS)
    for got, other, want in zip(whole, slabs, few, strict=True):
        np.testing.assert_allclose(other, got, rtol=1e-13)
        np.testing.assert_allclose(got[np.ix_(some, some)], want, rtol=1e-13)
        assert got[3, 590] == got[3, 3] == got[590, 590]
        np.testing.assert_array_equal(got, np.swapaxes(got, 0, 1))


def test_coefficients_are_laid_out_once_whatever_the_other_side_needs(monkeypatch):
    """Slabs of small and of large variances have series of different lengths: every pair reads both."""
    x = np.random.default_rng(9).standard_normal((192, 3, 2))
    x[48:144] *= 0.05
    made = []

    def counted(selection, side, *rest):
        made.append(selection.tables.width(0, side))
        return lay(selection, side, *rest)

    lay = program.lay_series
    monkeypatch.setattr(program, "lay_series", counted)
    monkeypatch.setattr(extents, "MANY", 1)
    got, road = kernels(net(nn.Tanh(), 0.2, "last"), x, get=KINDS)
    assert road == CELLS
    assert len(made) == 4  # those of a slab serve both sides
    assert len(set(made)) == 2
    some = [0, 47, 48, 143, 144, 191]
    want, _ = kernels(net(nn.Tanh(), 0.2, "last"), x[some], get=KINDS, road=GENERAL)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one[np.ix_(some, some)], other, rtol=1e-12)


@pytest.mark.parametrize("dtype, bound", [("float64", 1e-13), ("float32", 1e-5)])
def test_coefficients_that_both_sides_share_are_those_of_either(dtype, bound, monkeypatch):
    """A matrix of examples with themselves, against that with a copy, whose rows are laid out apart."""
    x = np.random.default_rng(10).standard_normal((150, 4, 2))
    model = net(nn.Tanh(), 0.2, "last")
    monkeypatch.setattr(extents, "MANY", 1)
    shared, road = kernels(model, x, get=KINDS, dtype=dtype)
    apart, _ = kernels(model, x, x.copy(), get=KINDS, dtype=dtype)
    assert road == CELLS
    for one, other in zip(shared, apart, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=bound * np.abs(other).max())


def test_readouts_of_one_state_with_other_weights():
    """What other layers read of the states, in proportions of their own, beside what the next step reads."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal((5, 4, 2))
    states = nn.SimpleRnn(8, nn.Relu(), W, U, 0.2)
    model = nn.serial(states, nn.Dense(1, 0.7, 0.4, parameterization="standard", s=(2.0, 1.0)))
    made, road = kernels(model, x, get=KINDS)
    general, _ = kernels(model, x, get=KINDS, road=GENERAL)
    assert road == CELLS
    for got, want in zip(made, general, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-13 * np.abs(want).max())


def test_a_state_that_is_read_by_several_functions_of_several_sums():
    """What a row of pairs is below the diagonal stands on earlier steps alone."""
    p = scan(
        lambda m, s, x: tp.erf(0.5 * (m["V"] @ s) - 0.4 * (m["V"] @ tp.erf(m["V"] @ s + x)) + 1.3 * x),
        4,
        STARTS["a constant"],
    )
    folded_like_unrolled(p, 13)
