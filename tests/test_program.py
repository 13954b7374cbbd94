"""The program language: operators, printing, hashing, JSON, pickling."""

from __future__ import annotations

import json
import pickle
import random

import numpy as np
import pytest

from tpnum import functions
from tpnum.errors import ProgramError
from tpnum.program import Program, apply, mean, simulate
from tpnum.program.lines import Arith, Input, LinComb, Map, MatMul, Moment, Nonlin, Scan, Term


def gate(u, v, m):
    """A user's function of two vectors and a scalar."""
    return u * np.tanh(v) + m


def every_line() -> Program:
    """A program with every instruction, transposes, two CDCs, families, a scan and a user's function."""
    p = Program()
    p.dim("m", ratio=2.0)
    x, y = p.vectors("x", "y", mean=[0, 0.5], cov=[[1, 0.5], [0.5, 1]])
    u = p.data("u", axes={"t": 4}, channels="d")
    W, U = p.matrix("W", var=1.5), p.matrix("U", cols="d")
    A = p.matrix("A", rows="m", axes={"t_f": 3})
    b = p.vector("b", var=0.1, trained=True)
    g = W @ x + 2 * y - b / 4
    h = np.tanh(g)
    m = mean(h * x)
    k = apply(gate, h - m * x, g, 1 / (1 + m))
    r = W.T @ k
    with p.scan("t") as loop:
        s = loop.carry("n", init=r)
        new = functions.get("erf")(W @ s + U @ loop.slice(u) + b)
        loop.next(s, new)
        states = loop.stack(new)
    noise = p.vector("noise", mean=1.0, var=0.25, axes={"t": 4}, fresh=True)
    windows = (states * noise).windows("t", 3, padding="SAME")
    out = (A @ windows).sum("t_f")
    p.output(out, weight=2.0)
    p.output(p.matrix("V", cols="m") @ out.mean("t"))
    return p


def test_operators_give_minimal_lines() -> None:
    p = Program()
    x, y = p.vectors("x", "y")
    W = p.matrix("W")
    h = np.tanh(W @ x + x + x - 0.5 * (y - 2 * x) + y / 2)
    assert p.lines[-2] == LinComb("g2", (Term(1.0, "g1"), Term(3.0, "x"), Term(0.0, "y"))[:2])
    assert p.lines[-1] == Nonlin("h1", functions.get("tanh"), ("g2",))
    assert h.name == "h1" and h.kind == "H" and h.dim == "n"
    m = mean(h * h)
    assert p.lines[-1] == Moment("m1", functions.get("square"), ("h1",))
    half = 0.5 * m
    p.output(half * (2 * h) - m * x)
    assert p.lines[-1] == LinComb("h2", (Term(1.0, "h1", "m1"), Term(-1.0, "x", "m1")))
    q = mean(x * y)
    p.output(x + (m * q + 1) / 4)
    product, plus, ones, total = p.lines[-4:]
    assert product == Arith("s1", functions.get("mul"), ("m1", "m2"))
    assert plus == Arith("s2", functions.get("polynomial", coef=(1.0, 1.0)), ("s1",))
    assert ones == Input(("ones",), "n", (1.0,), ((0.0,),))
    assert total == LinComb("g3", (Term(1.0, "x"), Term(0.25, "ones", "s2")))


def test_arithmetic_means_what_it_says() -> None:
    p = Program()
    x, y = p.vectors("x", "y", mean=[1.0, 2.0], cov=[[1, 0.3], [0.3, 0.5]])
    m, q = mean(x * y), mean(y)
    cases = {
        "sum": (3 - x - 2 * (y - x) / 4, lambda a, b, s, t: 3 - a - (b - a) / 2),
        "quotient": (x / (1 + y**2), lambda a, b, s, t: a / (1 + b**2)),
        "inverse": (2 / (1 + abs(x)), lambda a, b, s, t: 2 / (1 + np.abs(a))),
        "scalars": (x * (m - 2 * q) / (1 - m / q), lambda a, b, s, t: a * (s - 2 * t) / (1 - s / t)),
        "rational": (x + 3 / m - (1 - q) ** 2, lambda a, b, s, t: a + 3 / s - (1 - t) ** 2),
        "shift": (m + x - q, lambda a, b, s, t: s + a - t),
        "cubic": ((x - y) ** 3, lambda a, b, s, t: (a - b) ** 3),
        "roots": (np.sqrt(m**2) * abs(-x) ** 0.5, lambda a, b, s, t: abs(s) * np.abs(a) ** 0.5),
        "inverse power": (x * m**-2, lambda a, b, s, t: a / s**2),
        "maximum": (np.maximum(x, 0.5), lambda a, b, s, t: np.maximum(a, 0.5)),
        "ufunc": (np.multiply(np.float64(2.0), np.add(x, y)), lambda a, b, s, t: 2 * (a + b)),
        "product": (x * m * q * 2, lambda a, b, s, t: 2 * a * s * t),
        "user": (apply(gate, x, y, m), lambda a, b, s, t: gate(a, b, s)),
    }
    named = {key: v.name for key, (v, _) in cases.items()}
    sample = simulate(p, 50, seed=3)
    a, b = sample[x], sample[y]
    for key, (_, value) in cases.items():
        expected = value(a, b, float(sample[m]), float(sample[q]))
        np.testing.assert_allclose(sample[named[key]], expected, rtol=1e-12, err_msg=key)


def test_sums_become_lines_when_read_or_used() -> None:
    p = Program()
    x = p.vector("x")
    first = 2 * x
    x + first  # dropped by its maker: no line
    assert [type(line).__name__ for line in p.lines] == ["Input", "LinComb"]
    assert first.name == "g1" and (first + x).named("z").name == "z"
    assert p["z"] == p["z"] and p["z"] != p["x"] and "z" in p and "w" not in p
    assert len({p["z"], p["z"], p["x"]}) == 2


def test_names_can_be_given() -> None:
    p = Program()
    x, W = p.vector("x"), p.matrix("W")
    g = (W @ x).named("pre")
    h = p.apply("relu", g, name="post")
    m = p.mean(h, name="average")
    s = p.lincomb([(2.0, g), (m, h)], name="both")
    t = p.matmul(W, s, name="top")
    assert [v.name for v in (g, h, m, s, t)] == ["pre", "post", "average", "both", "top"]
    assert p.lines[-2] == LinComb("both", (Term(2.0, "pre"), Term(1.0, "post", "average")))
    with pytest.raises(ProgramError, match="before the next line"):
        g.named("late")


def test_kinds() -> None:
    p = Program()
    x, u, W = p.vector("x"), p.data("u", {"t": 3}), p.matrix("W")
    U = p.matrix("U", cols="d")
    h = np.tanh(x)
    made = (W @ h, U @ u, x + W @ h, x + h, 2 * u, u.mean("t"), h)
    assert "".join(v.kind for v in made) == "GGGHDDH"
    assert mean(U @ u).axes == (("t", 3),)
    assert W.T.T == W and W.T.name == "W.T" and p.dims == {"n": 1.0}


def test_text() -> None:
    text = str(every_line())
    assert text.splitlines()[0] == "CDC n = 1, m = 2"
    for part in (
        " 1  G  x, y ~ N([0, 0.5], [[1, 0.5], [0.5, 1]]) in n",
        "D  u[t:4] = data with d channels",
        "A  W ~ N(0, 1.5/n), n x n, tangent 1.5",
        "G  b ~ N(0, 0.1) in n, tangent 1",
        "G  g2 = g1 + 2*y - 0.25*b",
        "H  h1 = tanh(g2)",
        "S  m1 = mean(h1*x)",
        "A  W.T = transpose of W",
        "gate(h2, g2; s2)",
        "scan t:4 of state1 = g3, then h4; u_t = u[t]; h4s[t] = h4",
        ".1  G  g4 = W @ state1",
        "[t:4,t_f:3]",
        "G  noise[t:4] ~ N(1, 0.25) in n, fresh",
        "0.25*sum over t of g8",
        "outputs: g8 (weight 2), g10",
    ):
        assert part in text, part


def test_map_text() -> None:
    p = Program()
    h = p.vector("h", axes={"t": 3}, fresh=True)
    h.take(t=1), h.sum("t"), h.shift(t=1), h.take(t=slice(1, None)).mean("t")
    text = str(p)
    for part in (
        "g1 = h[t=1]",
        "g2 = sum over t of h",
        "g3[t] = h mapped t -> [t:3]: (0, t0, t1)",
        "0.5*sum over t of g4",
    ):
        assert part in text, part


def test_json_round_trip_and_pickle() -> None:
    for p in (every_line(), every_line().expand(), every_line().unrolled().tangent()):
        again = Program.from_json(p.to_json(), modules=[gate.__module__])
        assert again == p and hash(again) == hash(p) and again.digest() == p.digest()
        assert again.parts == p.parts and again.tangents == p.tangents and again.outputs == p.outputs
        assert pickle.loads(pickle.dumps(p)) == p
        assert str(again) == str(p)
        p.check()


def test_content_decides_equality() -> None:
    p, q = every_line(), every_line()
    assert p == q and p.digest() == q.digest() and hash(p) == hash(q)
    q.output("g8")
    assert p != q and p.digest() != q.digest()
    q = every_line()
    q.dim("m", 3.0)
    assert p != q and p.digest() != q.digest()
    r = p.copy()
    r.vector("extra")
    assert "extra" not in p and p.digest() == every_line().digest()
    assert p != "text"


def test_digest_is_the_same_in_another_process(python) -> None:
    code = "from tests.test_program import every_line as e; print(e().digest(), e().expand().digest())"
    done = python("-c", code, env={"PYTHONHASHSEED": str(random.randrange(1000))}, cwd=".")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [every_line().digest(), every_line().expand().digest()]


def test_functions_that_cannot_travel() -> None:
    p, q = Program(), Program()
    for program, slope in ((p, 2.0), (q, 3.0)):
        apply(lambda u, a=slope: a * u, program.vector("x"))
    with pytest.raises(ProgramError, match="importable module"):
        p.to_json()
    with pytest.raises(ProgramError, match="importable module"):
        pickle.dumps(p)
    assert p.digest() == p.copy().digest() and p.digest() != q.digest() and p != q


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format="x"), "not a program"),
        (lambda d: d.update(version=9), "version 9"),
        (lambda d: d["lines"][0].update(op="Guess"), "line 1 of the JSON is 'Guess'"),
        (lambda d: d["lines"][0].pop("mean"), "line 1 of the JSON .Input. lacks 'mean'"),
        (lambda d: d["lines"][0].update(colour="red"), "unknown entry 'colour'"),
        (lambda d: d.pop("dims"), "not a program: KeyError"),
        (lambda d: d["lines"][6].update(vector="nobody"), "'nobody' is used before any line makes it\n ?7  "),
        (lambda d: d.update(outputs=[[1.0, "nobody"]]), "output 'nobody'"),
        (lambda d: d.update(outputs=[[-1.0, "x"]]), "weight -1.0"),
        (lambda d: d.update(outputs=[[1.0, "W"]]), "output 'W' is a matrix"),
        (lambda d: d.update(dims={"n": -1.0}), "ratio -1.0"),
    ],
)
def test_json_is_checked(change, message) -> None:
    document = json.loads(every_line().to_json())
    change(document)
    with pytest.raises(ProgramError, match=message):
        Program.from_json(json.dumps(document), modules=gate.__module__)


def test_json_that_is_none() -> None:
    with pytest.raises(ProgramError, match="not JSON"):
        Program.from_json("{")


def test_raw_records() -> None:
    body = (MatMul("g", "W", "s"), LinComb("next", (Term(0.5, "g"), Term(1.0, "e"))))
    carried = Program.from_lines(
        [
            Input(("x",), "n", (0.0,), ((1.0,),)),
            Input(("e0",), "n", (0.0,), ((1.0,),), (("t", 3),), fresh=True),
            every_line().lines[2],
            Scan(("t", 3), (), (("e", "e0"),), (Map("z", "e0", "t", (), (((0, 1.0),),)),), (("zs", "z"),)),
        ]
    )
    assert carried.vars["zs"].axes == (("t", 3),) and carried.vars["z"].kind == "G"
    with pytest.raises(ProgramError, match=r"'s' is used before any line makes it\n5.1  "):
        carried.append(Scan(("t", 3), (), (("e2", "e0"),), body, ()))
