"""Every refusal of the language, triggered once: a sentence and the numbered line."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tpnum import functions
from tpnum.errors import InputError, ProgramError
from tpnum.program import Program, apply, mean, simulate
from tpnum.program.lines import (
    Arith,
    Carry,
    Data,
    Input,
    LinComb,
    Map,
    MatMul,
    Matrix,
    Moment,
    Nonlin,
    Scan,
    Term,
    Transpose,
)  # fmt: skip

TANH, MUL = functions.get("tanh"), functions.get("mul")
HERMITE = functions.get("hermite", degree=2)
ONE = ((1.0,),)


def ground() -> Program:
    """Nine lines to build on."""
    p = Program()
    p.vector("x")  # 1
    p.vector("w", dim="m")  # 2
    p.data("u", {"t": 3})  # 3
    p.matrix("W")  # 4
    p.matrix("A", rows="m", axes={"t": 3})  # 5
    p.vector("f", axes={"t": 3}, fresh=True)  # 6
    p.vector("f4", axes={"t": 4}, fresh=True)  # 7
    p.moment("tanh", p["x"], name="s")  # 8
    p.append(Transpose("W.T", "W"))  # 9
    return p


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (MatMul("g", "nobody", "x"), "'nobody' is used before any line makes it"),
        (MatMul("x", "W", "x"), "the name 'x' is used twice"),
        (MatMul("2 g", "W", "x"), "is not a name"),
        (MatMul("g", "x", "x"), "'x' is a G-var, not a matrix"),
        (MatMul("g", "W", "W"), "'W' is a matrix"),
        (MatMul("g", "W", "w"), "CDCs do not match: 'W' is n x n, but 'w' is in 'm'"),
        (MatMul("g", "W", "u"), "CDCs do not match"),
        (MatMul("g", "A", "x"), "the matrix 'A' has the axis 't', which the vector 'x' lacks"),
        (MatMul("g", "A", "f4"), "axes do not match: 't' has size 3 in 'A' and 4 in 'f4'"),
        (Transpose("v", "x"), "only a matrix has a transpose, and 'x' is a G-var"),
        (Transpose("v", "u"), "only a matrix has a transpose, and 'u' is data"),
        (Transpose("v", "W.T"), "'W.T' is a transpose already"),
        (Moment("m", functions.get("identity"), ("W",)), "a moment of 'W', which is a matrix"),
        (Moment("m", TANH, ("u",)), "a moment of data 'u'"),
        (Moment("m", TANH, ()), "at least one vector"),
        (Moment("m", MUL, ("x", "w")), "CDCs do not match: 'x' is in 'n' and 'w' in 'm'"),
        (Nonlin("h", TANH, ("u",)), "data enters through matrices only"),
        (Nonlin("h", TANH, ("s",)), "'s', which is a scalar: its arguments are vectors"),
        (Nonlin("h", TANH, ()), "at least one vector"),
        (Nonlin("h", TANH, ("x", "x")), "wrong number of arguments: tanh takes 1 vector"),
        (Nonlin("h", HERMITE, ("x",), ("later",)), "the scalar 'later' is used before it exists"),
        (Nonlin("h", HERMITE, ("x",), ("x",)), "'x' stands where a scalar is needed"),
        (Nonlin("h", MUL, ("f", "f4")), "axes do not match: 't' has size 3 in 'f' and 4 in 'f4'"),
        (LinComb("g", ()), "a sum needs a term"),
        (LinComb("g", (Term(1.0, "x"), Term(1.0, "w"))), "CDCs do not match"),
        (LinComb("g", (Term(1.0, "x"), Term(1.0, "u"))), "a sum mixes data with vectors"),
        (LinComb("g", (Term(1.0, "W"),)), "cannot contain 'W', which is a matrix"),
        (LinComb("g", (Term(math.nan, "x"),)), "the coefficient of 'x' is nan"),
        (LinComb("g", (Term(1j, "x"),)), "finite real number"),
        (LinComb("g", (Term(1.0, "x", "later"),)), "the scalar 'later' is used before it exists"),
        (LinComb("g", (Term(1.0, "f"), Term(1.0, "f4"))), "axes do not match"),
        (Arith("a", functions.get("add"), ("s",)), "wrong number of arguments: add takes 2 scalar"),
        (Arith("a", TANH, ("x",)), "'x' stands where a scalar is needed"),
        (Map("g", "x", "t", (), (((0, 1.0),),)), "'x' has no axis 't'"),
        (Map("g", "A", "t", (), (((0, 1.0),),)), "'A' is a matrix"),
        (Map("g", "f", "t", (), ()), "a map to 1 indices needs 1 rows, not 0"),
        (Map("g", "f", "t", (), (((3, 1.0),),)), "index 3 lies outside the axis 't' of size 3"),
        (Map("g", "f", "t", (), (((0, math.inf),),)), "a weight of the map is inf"),
        (Map("g", "f", "t", (("a", 1), ("a", 1)), ((),)), "axis 'a' appears twice"),
        (Input((), "n", (), ()), "needs names and a CDC"),
        (Input(("a",), "n", (0.0, 1.0), ONE), "1 inputs need 1 means"),
        (Input(("a",), "n", (math.nan,), ONE), "a mean is nan"),
        (Input(("a",), "n", (0.0,), ((-1.0,),)), "the variance of 'a' is -1.0"),
        (Input(("a", "b"), "n", (0.0, 0.0), ((1.0, 2.0), (2.0, 1.0))), "not positive semidefinite"),
        (Input(("a", "b"), "n", (0.0, 0.0), ((1.0, 0.5), (0.2, 1.0))), "not symmetric"),
        (Input(("a", "a"), "n", (0.0, 0.0), ((1.0, 0.0), (0.0, 1.0))), "names a variable twice"),
        (Input(("a",), "d", (0.0,), ONE), "'d' counts the channels of data"),
        (Input(("a",), "n", (0.0,), ONE, (("t", 0),)), "axis 't' has size 0"),
        (Input(("a",), "n", (0.0,), ONE, (("t",),)), "not pairs of a name and a size"),
        (Input(("a",), "n", (0.0,), ONE, (), False, -1.0), "tangent scale is -1.0"),
        (Data("v", "n"), "'n' is the CDC of vectors"),
        (Data("v", ""), "needs a name for its channels"),
        (Matrix("B", "n", "n", -2.0, 0.0), "the variance of 'B' is -2.0"),
        (Matrix("B", "n", "n", math.nan, 0.0), "the variance of 'B' is nan"),
        (Matrix("B", "n", "n", 1.0, math.inf), "the tangent variance of 'B' is inf"),
        (Matrix("B", "n", "", 1.0, 0.0), "the CDCs of its rows and of its columns"),
        (Scan(("t", 3), (), (("i", "f4"),), (), ()), "'f4' cannot be sliced along 't':3"),
        (Scan(("t", 3), (Carry("c", "s", "c"),), (), (), ()), "starts at 's', which is a scalar"),
        (Scan(("t", 3), (Carry("c", "x", "w"),), (), (), ()), "cannot be followed by 'w'"),
        (Scan(("t", 3), (), (), (), (("o", "W"),)), "'W' is a matrix and cannot be stacked"),
        (Scan(("t", 3), (), (), (), (("o", "f"),)), "'f' has the axis 't' already"),
    ],
)  # fmt: skip
def test_lines_are_refused(line, message) -> None:
    p = ground()
    with pytest.raises(ProgramError) as caught:
        p.append(line)
    sentence, quoted = str(caught.value).split("\n")
    assert message in sentence
    assert quoted.startswith("10  ")
    assert len(p.lines) == 9, "the program is unchanged"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (Matrix("B", "n", "n", 1.0, 0.0), "a matrix belongs before the scan"),
        (Transpose("B", "A"), "a transpose belongs before the scan"),
        (Data("v", "c"), "data belongs before the scan"),
        (Input(("a",), "n", (0.0,), ONE), "only a fresh input"),
        (LinComb("z", (Term(1.0, "f"),)), "'z' has the axis 't' of the scan around it: use loop.slice"),
    ],
)
def test_bodies_of_scans_are_refused(line, message) -> None:
    with pytest.raises(ProgramError) as caught:
        ground().append(Scan(("t", 3), (), (), (LinComb("y", (Term(1.0, "x"),)), line), ()))
    sentence, quoted = str(caught.value).split("\n")
    assert message in sentence and quoted.startswith("10.2  ")


def test_the_message_as_a_whole() -> None:
    p = ground()
    with pytest.raises(ProgramError) as caught:
        p["x"] + p["w"]
    assert str(caught.value) == "CDCs do not match: 'x' is in 'n' and 'w' in 'm'\n10  ?  h1 = x + w"
    with pytest.raises(ProgramError, match=r"transpose.*\n10  \?  x.T = transpose of x"):
        p["x"].T  # noqa: B018
    with pytest.raises(ProgramError, match=r"a moment of 'W', which is a matrix.*\n10  \?  m1 = mean\(W\)"):
        mean(p["W"])
    with pytest.raises(ProgramError, match="not a line of a program"):
        p.append("x = 1")


def test_operators_are_refused() -> None:
    p, other = ground(), Program()
    x, W = p["x"], p["W"]
    refused = {
        "belongs to another program": lambda: x + other.vector("x"),
        r"tp.mean\(x \* y\)": lambda: x @ x,
        "write the matrix first": lambda: x @ W,
        "a matrix multiplies a vector": lambda: W @ 2,
        "matrices are not added": lambda: W + W,
        "division of a program's variable by zero": lambda: x / 0,
        "the exponent": lambda: x**p["s"],
        "has no name: use tp.apply": lambda: x**1.5,
        "takes no options": lambda: np.tanh(x, where=True),
        "mixes a program's variable with ndarray": lambda: np.ones(3) * x,
        "belong to a function of your own": lambda: apply("tanh", x, kinks=(0.0,)),
        "no function is named 'tahn'": lambda: apply("tahn", x),
        "tp.apply needs at least one vector": lambda: apply(np.tanh, 1.0),
        "tp.mean takes a vector of a program": lambda: mean(3.0),
        "a variable of the program is needed": lambda: apply(TANH, x, "y"),
        "write {\"t\": 5}": lambda: p.data("v", axes=5),
        "table of numbers": lambda: p.vectors("a", "b", cov=1.0),
        "'f' has no axis 'q'": lambda: p["f"].sum("q"),
        "index 3 lies outside": lambda: p["f"].take(t=3),
        "the selection .* is empty": lambda: p["f"].take(t=[]),
        "boundary 'wrap' is not known": lambda: p["f"].shift("wrap", t=1),
        "a VALID window of 4 does not fit": lambda: p["f"].windows("t", 4),
        "padding 'FULL' is not known": lambda: p["f"].windows("t", 2, padding="FULL"),
        "both are at least 1": lambda: p["f"].pool("t", 2, stride=0),
        "'ghost' is not a variable": lambda: p["ghost"],
        "the program has no axis 'q'": lambda: p.expand({"q"}),
        "CDC 'n' has ratio 0": lambda: p.dim("n", 0),
        "output 's' is a scalar": lambda: p.output(p["s"]),
    }  # fmt: skip
    for message, act in refused.items():
        with pytest.raises(ProgramError, match=message):
            act()


def test_scans_are_refused() -> None:
    p = ground()
    x, W, f = p["x"], p["W"], p["f"]

    def scan(body, axis="t", size=None):
        with p.scan(axis, size) as loop:
            body(loop)

    def late(loop):
        state = loop.carry()
        loop.next(state, W @ state)
        loop.next(state, state)

    refused = {
        "the scan has no size": lambda: scan(lambda loop: loop.stack(W @ x)),
        "gives nothing": lambda: scan(lambda loop: loop.slice(f)),
        "has no next value": lambda: scan(lambda loop: loop.stack(loop.carry()), size=3),
        "has its next value already": lambda: scan(late, size=3),
        "is not a carried state": lambda: scan(lambda loop: loop.next(x, x), size=3),
        "needs loop.next": lambda: scan(lambda loop: loop.last(loop.carry()), size=3),
        "has size 3 along 't', but the scan has 5": lambda: scan(lambda loop: loop.slice(f), size=5),
        "not both": lambda: scan(lambda loop: loop.carry("m", init=x)),
        "name 'x' is used twice": lambda: scan(lambda loop: loop.carry(name="x")),
        "stacked family another one": lambda: scan(lambda loop: loop.stack(W @ x, name="x")),
        "is made inside the scan": lambda: scan(lambda loop: loop.carry(init=W @ x)),
    }
    for message, act in refused.items():
        with pytest.raises(ProgramError, match=message):
            act()
        assert len(p.lines) <= 10
    with p.scan("t", 3) as loop:
        g = W @ loop.slice(f)
        pending = g + g
        loop.stack(g)
    with pytest.raises(ProgramError, match=f"'{g.name}' lives inside a scan: pass it on with loop.stack"):
        W @ g
    with pytest.raises(ProgramError, match="a scan that is closed"):
        W @ pending
    with pytest.raises(ProgramError, match="is not open"):
        loop.slice(f)


def test_tangents_are_refused() -> None:
    p = Program()
    g = p.matrix("W") @ p.vector("x")
    h = p.apply("tanh", g)
    assert p.tangent().tangents[h.name] == "h1."
    third = p.copy()
    for _ in range(3):
        fn = third.lines[-1].fn
        try:
            third.apply(fn.derivative(), third["g1"])
        except ProgramError:
            break
    with pytest.raises(ProgramError, match=r"no tangent: the derivative of .* is not known\n\d+  "):
        third.tangent()


def test_samples_are_refused() -> None:
    p = ground()
    x = np.zeros((3, 5))
    refused = {
        "data= must have one array for each of": lambda: simulate(p, 10),
        "not .examples,. . .3,. . .channels,.": lambda: simulate(p, 10, data={"u": np.zeros((2, 5))}),
        "width= must name the CDCs": lambda: simulate(p, {"n": 3}, data={"u": x}),
        "a width is at least 1": lambda: simulate(p, 0, data={"u": x}),
        "given names 'ghost'": lambda: simulate(p, 9, data={"u": x}, given={"ghost": x}),
        "given\\['W'\\] has shape": lambda: simulate(p, 9, data={"u": x}, given={"W": x}),
        "'ghost' is not a variable": lambda: simulate(p, 9, data={"u": x})["ghost"],
        "vectors of one CDC": lambda: simulate(p, 9, data={"u": x}).moment("x", "w"),
    }
    for message, act in refused.items():
        with pytest.raises(InputError, match=message):
            act()
    p.data("v")
    with pytest.raises(InputError, match="has 4 channels, other data 5"):
        simulate(p, 9, data={"u": x, "v": np.zeros(4)})
    with pytest.raises(InputError, match="different numbers of examples"):
        simulate(p, 9, data={"u": x, "v": np.zeros((2, 5))})
