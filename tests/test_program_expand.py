"""Families against their scalar lines, scans against their steps: the same numbers at finite width."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_program import every_line
from tpnum.program import Program, mean, simulate
from tpnum.program.lines import Data, Input, LinComb, Map, Matrix, Scan


def convolution() -> Program:
    """Two layers over y and x, a locally connected one, layernorm, pooling."""
    p = Program()
    u = p.data("u", axes={"y": 4, "x": 5})
    W1 = p.matrix("W1", var=1.0, cols="d", axes={"y_f": 3, "x_f": 2})
    W2 = p.matrix("W2", var=2.0, axes={"x_f": 3})
    local = p.matrix("L", axes={"y": 2})
    bias = p.vector("b", var=0.1, axes={"y": 2}, fresh=True)
    g = (W1 @ u.windows("y", 3, padding="SAME").windows("x", 2, 2, "CIRCULAR")).sum("y_f", "x_f")
    h = p.apply("relu", g)
    m = mean(h).mean("x")
    h = (h - m * p.ones()) / np.sqrt(mean(h * h).mean("y") + 0.1)
    h = np.tanh((W2 @ h.windows("x", 3, padding="CIRCULAR")).sum("x_f"))
    h = h.pool("y", 2, 2).shift(x=-1)
    out = local @ h + bias
    p.output(out.take(x=[2, 0]), weight=0.5)
    p.output((p.matrix("V") @ h.mean("x")).sum("y"))
    return p


def nested() -> Program:
    """A scan within a scan, a carried family, noise in the body, first and last states."""
    p = Program()
    W, V = p.matrix("W", var=1.2), p.matrix("V", axes={"k": 2})
    x = p.vector("x", axes={"t": 3, "k": 2}, fresh=True)
    start = p.vector("start")
    with p.scan("t") as loop:
        slow = loop.carry("n", axes={"k": 2})
        xt = loop.slice(x)
        with p.scan("r", 2) as inner:
            fast = inner.carry(init=start)
            noise = p.vector("noise", var=0.1, fresh=True)
            new = np.tanh(W @ fast + noise)
            inner.next(fast, new)
            last = inner.last(fast)
            inner.stack(noise)
        after = np.tanh(V @ slow + xt + last)
        loop.next(slow, after)
        every = loop.stack(after, name="every")
        lasts = loop.stack(last)
        loop.last(slow, name="final")
    p.output(W @ every)
    p.output(W @ p["final"])
    p.output(lasts.shift(t=1) + every.take(k=1))
    return p


def data_for(p: Program, examples: int | None = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    lead = () if examples is None else (examples,)
    lines = [line for line in p.lines if isinstance(line, Data)]
    return {d.name: rng.standard_normal((*lead, *(n for _, n in d.axes), 6)) for d in lines}


def assert_same_numbers(p: Program, q: Program, examples: int | None = 2, width: int = 12) -> int:
    data = data_for(p, examples)
    a, b = simulate(p, width, 7, data), simulate(q, width, 7, data)
    compared = 0
    for name, var in p.vars.items():
        if name in a._values:
            one, other = a[name], b[name]
            assert one.shape == other.shape and np.all(np.isfinite(one))
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13, err_msg=f"{name} {var.kind}")
            compared += 1
    assert compared > 8
    return compared


def texts(p: Program) -> set[str]:
    """The lines without their numbers; zero vectors may be made at different places."""
    lines = str(p).splitlines()[:-1]
    outputs = {str(output) for output in p.outputs}
    return outputs | {re.sub(r"^ *[\d.]+|(?<=zeros)_\w+", "", line) for line in lines}


PROGRAMS = {"every line": every_line, "convolution": convolution, "nested": nested}


@pytest.mark.parametrize("examples", [None, 2])
@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_expanded_programs_give_the_same_numbers(make, examples) -> None:
    p = make()
    q = p.expand()
    assert not any(v.axes for v in q.vars.values())
    assert not any(isinstance(line, Scan | Map) for line in q.lines)
    assert_same_numbers(p, q, examples)
    assert_same_numbers(p, p.unrolled(), examples)
    assert texts(p.unrolled().expand()) == texts(q), "in two steps or in one"
    assert q.expand() is q


@pytest.mark.parametrize("axes", ["y", "x", {"y_f"}, {"y", "x_f"}])
def test_some_axes_can_be_expanded(axes) -> None:
    p = convolution()
    q = p.expand(axes)
    wanted = {axes} if isinstance(axes, str) else axes
    left = {a for v in q.vars.values() for a, _ in v.axes}
    assert left and not left & wanted
    assert_same_numbers(p, q)
    assert texts(q.expand()) == texts(p.expand()), "in two steps or in one"


def test_names_and_sharing() -> None:
    p = Program()
    u = p.data("u", {"t": 2})
    shared = p.vector("b", axes={"t": 2})
    W = p.matrix("W", cols="d", axes={"t": 2})
    fresh = p.vectors("e", "f", cov=[[1, 0.5], [0.5, 1]], axes={"t": 2}, fresh=True)
    h = np.tanh(W @ u + shared + fresh[0] + fresh[1])
    p.output(h.shift(t=1), weight=0.5)
    p.output(h.sum("t"))
    q = p.expand()
    assert [line.name for line in q.lines if isinstance(line, Matrix)] == ["W[0]", "W[1]"]
    assert [line.name for line in q.lines if isinstance(line, Data)] == ["u[0]", "u[1]"]
    inputs = [line for line in q.lines if isinstance(line, Input)]
    assert [line.names for line in inputs] == [("b",), ("e[0]", "f[0]"), ("e[1]", "f[1]"), ("zeros",)]
    assert q.lines[-1] == LinComb("h3", q.lines[-1].terms) and len(q.lines[-1].terms) == 2
    assert q.outputs == ((0.5, "zeros"), (0.5, "h1[0]"), (1.0, "h3"))
    assert q.parts["b"].names == ("b", "b") and q.parts["h1"].names == ("h1[0]", "h1[1]")
    assert q.parts["h2"].names == ("zeros", "h1[0]") and q.parts["h2"].split == ("t",)
    assert q.output_places == (("h2", (0,)), ("h2", (1,)), ("h3", ()))
    grid = p.vector("grid", axes={"t": 2, "s": 2}, fresh=True)
    assert p.expand().parts[grid.name].names == ("grid[0,0]", "grid[0,1]", "grid[1,0]", "grid[1,1]")
    assert p.expand("s").parts[grid.name].names == ("grid[0]", "grid[1]")


def test_a_scan_step_by_step() -> None:
    p = nested()
    q = p.unrolled()
    assert q.parts["every"].names == tuple(f"h4[{t}]" for t in range(3))
    assert q.parts["final"].names == ("h4[2]",)
    assert "noise[2,1]" in q.vars and dict(q.vars["h4[0]"].axes) == {"k": 2}
    plain = convolution()
    assert plain.unrolled() is plain
    sample = simulate(p, 30, seed=1)
    W, V = sample["W"], sample["V"]
    noise = simulate(q, 30, seed=1)
    slow = np.zeros((2, 30))
    for t in range(3):
        fast = sample["start"]
        for r in range(2):
            fast = np.tanh(W @ fast + noise[f"noise[{t},{r}]"])
        slow = np.tanh(np.stack([V[k] @ slow[k] for k in range(2)]) + sample["x"][t] + fast)
        np.testing.assert_allclose(sample["every"][t], slow, rtol=1e-12)
    np.testing.assert_allclose(sample["final"], slow, rtol=1e-12)


def test_convolution_against_loops() -> None:
    p = Program()
    u = p.data("u", {"x": 5})
    for padding, stride in (("SAME", 2), ("VALID", 1), ("CIRCULAR", 2)):
        W = p.matrix(f"W_{padding}", cols="d", axes={"x_f": 4})
        (W @ u.windows("x", 4, stride, padding)).sum("x_f").named(padding)
    x = np.random.default_rng(0).standard_normal((5, 3))
    sample = simulate(p, 7, data={"u": x})
    # TensorFlow's SAME: 3 windows of 4 with stride 2 over 5 need 3 zeros, one before and two after
    padded = {
        "SAME": np.pad(x, ((1, 2), (0, 0))),
        "VALID": x,
        "CIRCULAR": np.pad(x, ((1, 2), (0, 0)), mode="wrap"),
    }
    for padding, z in padded.items():
        stride = 1 if padding == "VALID" else 2
        W = sample[f"W_{padding}"]
        starts = range(0, len(z) - 3, stride)
        expected = [sum(W[o] @ z[s + o] for o in range(4)) for s in starts]
        np.testing.assert_allclose(sample[padding], expected, rtol=1e-12)


def test_pooling_and_maps_against_numpy() -> None:
    p = Program()
    h = p.vector("h", axes={"t": 5}, fresh=True)
    cases = {
        h.pool("t", 2, 2, "SAME"): lambda a: np.stack([a[0:2].mean(0), a[2:4].mean(0), a[4]]),
        h.pool("t", 2, 2, "SAME", scale=0.5): lambda a: np.stack([a[0:2].mean(0), a[2:4].mean(0), a[4] / 2]),
        h.pool("t", 3, scale=1.0): lambda a: np.stack([a[k : k + 3].sum(0) for k in range(3)]),
        h.shift("circular", t=2): lambda a: np.roll(a, 2, axis=0),
        h.shift(t=-2): lambda a: np.concatenate([a[2:], np.zeros((2, a.shape[1]))]),
        h.take(t=slice(None, None, -2)): lambda a: a[::-2],
        h.take(t=-1): lambda a: a[-1],
        h.take(t=[3, 3]): lambda a: a[[3, 3]],
        h.mean("t"): lambda a: a.mean(0),
        h * h.rename(t="s"): lambda a: a[:, None] * a[None],
    }
    names = {v.name: f for v, f in cases.items()}
    sample = simulate(p, 6)
    for name, f in names.items():
        np.testing.assert_allclose(sample[name], f(sample["h"]), rtol=1e-12, atol=1e-15)
    assert_same_numbers(p, p.expand(), None)


def test_samples() -> None:
    p = Program()
    p.dim("m", ratio=1.5)
    x, y = p.vectors("x", "y", mean=[1.0, -1.0], cov=[[2.0, 1.0], [1.0, 0.5]])  # singular
    A = p.matrix("A", var=3.0, rows="m")
    g = A @ x
    back = A.T @ g
    big = simulate(p, width=4000, seed=2)
    assert big.widths == {"n": 4000, "m": 6000} and big[A].shape == (6000, 4000)
    # five standard errors, from the variances of the averages
    n, m = 4000, 6000
    assert abs(big.mean(x) - 1.0) < 5 * np.sqrt(2 / n)
    assert abs(big.moment(x, y) - (-1.0 + 1.0)) < 5 * np.sqrt(10 / n)
    assert abs(np.var(big[A]) - 3.0 / n) < 5 * 3.0 / n * np.sqrt(2 / (n * m))
    assert abs(big.expect("square", g) / (3.0 * big.moment(x, x)) - 1) < 5 * np.sqrt(2 / m)
    np.testing.assert_allclose(big[back], big[A].T @ big[g], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(big[x] - 1, 2 * (big[y] + 1), atol=1e-7)
    np.testing.assert_array_equal(simulate(p, 40, seed=2)[back], simulate(p, 40, seed=2)[back])
    assert np.any(simulate(p, 40, seed=3)[back] != simulate(p, 40, seed=2)[back])
    small = simulate(p, {"n": 3, "m": 2}, given={"x": np.ones(3)})
    np.testing.assert_allclose(small[g], small[A].sum(axis=1), rtol=1e-14)
    pair = small.expect(lambda u, v: np.stack([u, u * v]), x, y)
    np.testing.assert_allclose(pair, [1.0, small[y].mean()], rtol=1e-14)


def test_examples_share_what_they_should() -> None:
    p = Program()
    u = p.data("u")
    shared, fresh = p.vector("b"), p.vector("e", fresh=True)
    g = p.matrix("U", cols="d") @ u + shared + fresh
    row = np.ones(4)
    sample = simulate(p, 20, data={"u": np.stack([row, row, 2 * row])})
    assert sample[shared].shape == (3, 20) and np.ptp(sample[shared], axis=0).max() == 0
    assert np.ptp(sample[fresh], axis=0).min() > 0
    np.testing.assert_allclose(sample[g][0] - sample[g][1], sample[fresh][0] - sample[fresh][1], atol=1e-12)
    single = simulate(p, 20, data={"u": row})
    np.testing.assert_allclose(single[g], sample[g][0], rtol=1e-12)
    assert sample.moment(g, g).shape == (3,) and sample.expect("tanh", shared).shape == (3,)


def test_names_that_are_made_up_are_free_of_later_ones() -> None:
    """A shift leaves a hole, which is a zero vector; the program has one of that name, further down."""
    p = Program()
    x, w = p.vector("x", axes={"t": 2}, fresh=True), p.matrix("W")
    s = mean(np.tanh(np.tanh(x).shift(t=1)) * np.sin(x))
    y = np.tanh(w @ (p.zeros() + p.vector("b")))
    m = mean(y * y)
    a, b = simulate(p, 40, 1), simulate(p.expand(), 40, 1)
    assert a.scalar(m) == pytest.approx(b.scalar(m.name), rel=1e-12)
    assert np.allclose(a.scalar(s), [b.scalar(n) for n in p.expand().parts[s.name].names], rtol=1e-12)


@st.composite
def random_programs(draw: st.DrawFn) -> Program:
    """Families over t and s, mixed at random by every instruction that a family can go through."""
    p = Program()
    sizes = {"t": draw(st.integers(1, 3)), "s": draw(st.integers(1, 2))}
    pool = [
        p.vector("x"),
        p.vector("e", axes={"t": sizes["t"]}, fresh=True),
        p.vector("f", axes=sizes, fresh=True),
    ]
    W, V = p.matrix("W"), p.matrix("V", axes={"t": sizes["t"]})
    scalars = [mean(pool[2] * pool[1])]
    for _ in range(draw(st.integers(2, 7))):
        a, b = draw(st.sampled_from(pool)), draw(st.sampled_from(pool))
        own = [axis for axis, _ in a.axes]
        op = draw(
            st.sampled_from(["matmul", "back", "sum", "scaled", "mul", "tanh", "moment", "map", "reduce"])
        )
        if op == "matmul":
            pool.append((V if "t" in own and draw(st.booleans()) else W) @ a)
        elif op == "back":
            pool.append((V.T if "t" in own else W.T) @ a)
        elif op == "sum":
            pool.append(2 * a - b + 0.5)
        elif op == "scaled":
            pool.append(a * draw(st.sampled_from(scalars)) + b)
        elif op == "mul":
            pool.append(a * b)
        elif op == "tanh":
            pool.append(np.tanh(a))
        elif op == "moment":
            scalars.append(mean(a * b) / 2)
            if scalars[-1].axes:
                scalars.append(scalars[-1].sum(scalars[-1].axes[0][0]))
        elif own:
            axis = draw(st.sampled_from(own))
            if op == "reduce":
                pool.append(a.mean(axis) if draw(st.booleans()) else a.take(**{axis: 0}))
            else:
                shift = draw(st.integers(-2, 2))
                pool.append(a.shift(draw(st.sampled_from(["zero", "circular"])), **{axis: shift}))
    p.output(pool[-1])
    return p


@given(random_programs(), st.sampled_from([None, "t", "s"]))
def test_random_programs_expand_to_the_same_numbers(p: Program, axes: str | None) -> None:
    names = {a for v in p.vars.values() for a, _ in v.axes}
    q = p.expand(axes if axes in names else None)
    assert Program.from_json(q.to_json()) == q
    a, b = simulate(p, 5, 11), simulate(q, 5, 11)
    for name in p.vars:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-10, atol=1e-12, err_msg=name)
