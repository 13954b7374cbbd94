"""The tangent program against finite differences in the direction of its random parameters."""

from __future__ import annotations

import numpy as np
import pytest

from tests.test_program_expand import data_for
from tpnum.program import Program, apply, mean, simulate
from tpnum.program.lines import Input, Matrix


def gate(u, v, m):
    return u * np.tanh(v) * m


def gate_u(u, v, m):
    return np.tanh(v) * m


def gate_v(u, v, m):
    return u * m / np.cosh(v) ** 2


def dense() -> Program:
    p = Program()
    x, y = p.vectors("x", "y")
    W, frozen = p.matrix("W", var=1.5), p.matrix("F", trained=False)
    A = p.matrix("A", rows="m", tangent=0.3)
    b = p.vector("b", mean=0.2, var=0.1, trained=True)
    fixed = mean(np.tanh(x))
    g = W @ x + b - fixed * y
    h = np.tanh(g) * np.sin(W @ np.tanh(g)) + y
    k = apply(gate, h, frozen @ h, mean(x * x), derivative=(gate_u, gate_v))
    p.output(A.T @ (A @ (np.tanh(k) - 0.5 * k)))
    p.output(p.apply("gelu", k) / (2 + k**2))
    return p


def recurrent() -> Program:
    p = Program()
    u = p.data("u", {"t": 3})
    W, U = p.matrix("W", var=1.2), p.matrix("U", cols="d", var=0.5)
    b = p.vector("b", var=0.1, trained=2.0)
    with p.scan("t") as loop:
        s = loop.carry("n")
        new = np.tanh(W @ s + U @ loop.slice(u) + b)
        loop.next(s, new)
        states = loop.stack(new, name="states")
    p.output((p.matrix("V") @ states).named("out"))
    p.output((W @ states.mean("t")).named("mean"))
    return p


def convolution() -> Program:
    p = Program()
    u = p.data("u", {"x": 4})
    noise = p.vector("noise", mean=1.0, var=0.3, axes={"x": 4}, fresh=True)
    untrained = p.vector("bias", axes={"x": 4}, fresh=True)
    W1, W2 = p.matrix("W1", cols="d", axes={"x_f": 3}), p.matrix("W2", axes={"x": 4})
    h = np.tanh((W1 @ u.windows("x", 3, padding="SAME")).sum("x_f")) * noise
    out = (W2 @ h).shift(x=1) + untrained
    p.output(out.named("out"))
    p.output((p.matrix("V") @ np.tanh(out.sum("x")) + untrained).named("wide"))
    return p


PROGRAMS = {"dense": dense, "recurrent": recurrent, "convolution": convolution}


@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_tangents_are_derivatives(make) -> None:
    p = make()
    q = p.tangent()
    data = data_for(p)
    width, eps = {d: 11 if d == "n" else 7 for d in p.dims}, 1e-4
    sample = simulate(q, width, 4, data)
    trained = [
        n for line in q.lines if isinstance(line, Matrix | Input) for n in _names(line) if n in q.tangents
    ]
    assert len(trained) >= 3

    def moved(by: float):
        given = {n: own(sample, q, n) + by * own(sample, q, q.tangents[n]) for n in trained}
        return simulate(p.unrolled(), width, 4, data, given)

    # the fourth-order difference: exact to about 1e-12 / eps
    steps = {k: moved(k * eps) for k in (-2, -1, 1, 2)}
    checked = 0
    for name, var in p.unrolled().vars.items():
        if var.kind not in "GH":
            continue
        weights = {-2: 1, -1: -8, 1: 8, 2: -1}
        slope = sum(w * steps[k][name] for k, w in weights.items()) / (12 * eps)
        if name in q.tangents:
            tangent = sample[q.tangents[name]]
            assert q.vars[q.tangents[name]].axes == var.axes and q.vars[q.tangents[name]].dim == var.dim
            np.testing.assert_allclose(tangent, slope, atol=1e-9, err_msg=name)
            checked += np.any(tangent != 0)
        else:
            np.testing.assert_allclose(slope, 0, atol=1e-10, err_msg=name)
    assert checked > 5
    assert q.outputs == p.unrolled().outputs and all(name in q.tangents for _, name in q.outputs)


def _names(line: Matrix | Input) -> tuple[str, ...]:
    return (line.name,) if isinstance(line, Matrix) else line.names


def own(sample, q: Program, name: str) -> np.ndarray:
    value = sample[name]
    return value if q.vars[name].kind == "A" or sample.examples is None else value[0]


def test_laws_of_the_directions() -> None:
    q = dense().tangent()
    lines = {n: line for line in q.lines if isinstance(line, Matrix | Input) for n in _names(line)}
    assert lines["W."] == Matrix("W.", "n", "n", 1.5, 0.0) and lines["A."].var == 0.3
    assert "F." not in lines and "x." not in lines and "ones." not in lines
    assert lines["b."].mean == (0.0,) and lines["b."].cov == ((0.1,),)
    assert recurrent().tangent()["b."].dim == "n"
    assert next(x for x in recurrent().tangent().lines if x == Input(("b.",), "n", (0.0,), ((0.2,),)))


def test_flat_functions_have_no_tangent() -> None:
    p = Program()
    g = p.matrix("W") @ p.vector("x")
    for name in ("step", "sign"):
        p.output(p.apply(name, g) + p["x"])
    p.output(p.apply("identity", g))
    q = p.tangent()
    assert set(q.tangents) == {"W", "g1", "h5"}
    assert str(q).splitlines()[-2].split("  ")[-1] == "h5. = g1."


def test_expanding_a_tangent_program() -> None:
    q = convolution().tangent()
    r = q.expand()
    data = data_for(convolution())
    a, b = simulate(q, 9, 1, data), simulate(r, 9, 1, data)
    for name, tangent in q.tangents.items():
        np.testing.assert_allclose(a[tangent], b[tangent], rtol=1e-11, atol=1e-13, err_msg=name)
    for name in q.parts.keys() | {"out", "wide"}:
        assert [r.tangents.get(n) for n in r.parts[name].names] == list(r.parts[q.tangents[name]].names)
    assert Program.from_json(r.to_json()).tangents == r.tangents
