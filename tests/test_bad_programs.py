"""Programs that mean nothing or have no limit, as a user writes them: the error quotes the numbered line."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.errors import LimitError, ProgramError
from tpnum.program.lines import LinComb, Term


def different_dims(p, x, y, w):
    x + y


def different_dims_in_a_product(p, x, y, w):
    w @ x * y


def different_dims_in_a_function(p, x, y, w):
    tp.apply(np.hypot, x, y)


def matrix_of_another_dim(p, x, y, w):
    w @ y


def transposed_input(p, x, y, w):
    return x.T


def transposed_vector(p, x, y, w):
    tp.tanh(w @ x).T @ x


def scalar_before_it_exists(p, x, y, w):
    p.append(LinComb("h", (Term(2.0, "x", "m7"),)))


def scalar_inside_a_scan(p, x, y, w):
    with p.scan("t", 2) as loop:
        s = loop.carry("n")
        new = tp.tanh(w @ s + x)
        m = tp.mean(new * new)
        loop.next(s, new)
        loop.stack(new)
    x * m


def name_twice(p, x, y, w):
    p.matrix("x")


def name_twice_for_a_result(p, x, y, w):
    tp.tanh(w @ x).named("y")


def moment_of_a_matrix(p, x, y, w):
    tp.mean(w)


def moment_of_a_transpose(p, x, y, w):
    p.moment("square", w.T)


def backward_without_derivative(p, x, y, w):
    p.backward({tp.apply(np.hypot, w @ x, x): p.vector("v")})


def indefinite_covariance(p, x, y, w):
    p.vectors("a", "b", cov=[[1.0, 2.0], [2.0, 1.0]])


BUILD = {
    different_dims: r"'x' is in 'n' and 'y' in 'm'\n 4  \?  h1 = x \+ y",
    different_dims_in_a_product: r"'g1' is in 'n' and 'y' in 'm'\n 5  \?  h1 = g1\*y",
    different_dims_in_a_function: r"'x' is in 'n' and 'y' in 'm'\n 4  \?  h1 = numpy.hypot\(x, y\)",
    matrix_of_another_dim: r"'W' is n x n, but 'y' is in 'm'\n 4  \?  g1 = W @ y",
    transposed_input: r"only a matrix has a transpose, and 'x' is a G-var.*\n 4  \?  x.T = transpose of x",
    transposed_vector: r"'h1' is an H-var.*\n 6  \?  h1.T = transpose of h1",
    scalar_before_it_exists: r"the scalar 'm7' is used before it exists\n 4  \?  h = 2\*m7\*x",
    scalar_inside_a_scan: r"'m1' lives inside a scan: pass it on with loop.stack.*\n 6  \?  h\d = m1\*x",
    name_twice: r"the name 'x' is used twice\n 4  \w  x ~ N\(0, 1/n\), n x n",
    name_twice_for_a_result: r"the name 'y' is used twice\n 5  \w  y = tanh\(g1\)",
    moment_of_a_matrix: r"a moment of 'W', which is a matrix.*\n 4  \?  m1 = mean\(W\)",
    moment_of_a_transpose: r"a moment of 'W.T', which is a matrix.*\n 5  \?  m1 = mean\(square\(W.T\)\)",
    backward_without_derivative: r"no gradient: numpy.hypot has no derivative in its argument 1: pass .*="
    r"\n 5  H  h1 = numpy.hypot\(g1, x\)",
    indefinite_covariance: r"not positive semidefinite: it has the eigenvalue -1\n 4  \?  a, b ~ N",
}


@pytest.mark.parametrize("build", BUILD, ids=lambda f: f.__name__)
def test_what_cannot_be_written(build):
    p = tp.Program()
    with pytest.raises(ProgramError, match=BUILD[build]):
        build(p, p.vector("x"), p.vector("y", dim="m"), p.matrix("W"))


def test_gradients_that_need_values_cannot_be_drawn():
    """The law of a gradient needs only expectations of the derivative; a draw of it needs the function."""
    p = tp.Program()
    g = p.matrix("W") @ p.vector("x")
    back = p.backward({tp.apply(lambda u: u * np.tanh(u), g): p.vector("v")})[g]
    slope = tp.expect(lambda u: (np.tanh(u) + u / np.cosh(u) ** 2) ** 2, 0.0, 1.0).value
    assert tp.limit(p).moment(back, back).value == pytest.approx(slope, rel=1e-9)
    with pytest.raises(ProgramError, match=r"has no values: pass derivative=.*\n 6  H  h2 = .*'\(g1\)"):
        tp.simulate(p, 10)


def test_slopes_that_are_needed_themselves_are_asked_for():
    """The NTK of sin(f(u)) has cos(f(u)) f'(u) in it: no expectation of f alone gives that."""
    x = np.eye(3)[:2] + 0.2
    once, given = (
        nn.Elementwise(lambda u: np.tanh(2.0 * u), **more)
        for more in ({}, {"derivative": lambda u: 2.0 / np.cosh(2.0 * u) ** 2})
    )
    with pytest.raises(ProgramError, match="pass derivative=.*another function follows without a matrix"):
        tp.kernel(nn.serial(nn.Dense(8), once, nn.Sin(), nn.Dense(1)), x, get="ntk")
    made = tp.kernel(nn.serial(nn.Dense(8), given, nn.Sin(), nn.Dense(1)), x, get="ntk")
    whole = nn.Elementwise(lambda u: np.sin(np.tanh(2.0 * u)))
    exact = tp.kernel(nn.serial(nn.Dense(8), whole, nn.Dense(1)), x, get="ntk")
    np.testing.assert_allclose(made, exact, rtol=1e-8)


def grows_too_fast(p, x, w):
    return w @ tp.apply(lambda u: np.exp(u * u), x)


def grows_too_fast_under_a_transpose(p, x, w):
    return w.T @ tp.apply(lambda u: np.exp(0.3 * u * u), w @ x)


def grows_too_fast_together(p, x, w):
    return w.T @ tp.exp(2.0 * x * (w @ x))


def has_a_pole(p, x, w):
    return w @ (1.0 / x)


def towers(p, x, w):
    h = tp.exp(x)
    for _ in range(3):
        h = tp.exp(w @ h)
    return h


def overflows(p, x, w):
    h = x
    for _ in range(8):
        h = (w @ h) ** 3
    return h


def divides_by_zero(p, x, w):
    return tp.tanh(w @ x) / tp.mean(x)


def divides_by_zero_exactly(p, x, w):
    return w.T @ (w @ x) / tp.mean(x)


NO_LIMIT = {
    grows_too_fast: r"line 3 \(h1\) has no limit: .*\n 3  H  h1 = .*\(x\)",
    grows_too_fast_under_a_transpose: r"line 5 \(h1\) has no limit: .*\n 5  H  h1 = .*\(g1\)",
    grows_too_fast_together: r"over line 5 \(g2\), line 4 \(g1\) has no limit.*\n 5  G  g2 = 2\*x",
    has_a_pole: r"line 3 \(h1\) has no limit: reciprocal is infinite at u = 0.*\n 3  H  h1 = reciprocal\(x\)",
    towers: r"line 5 \(h2\) has no limit: the second moment of exp.* overflows.*\n 5  H  h2 = exp",
    overflows: r"line \d+ \(g\d\): a moment of it overflows or does not exist.*\n\d+  G  g\d = W @ h\d",
    divides_by_zero: r"line 6 \(s1\) is not finite: it divides by zero.*\n 6  S  s1 = reciprocal\(m1\)",
    divides_by_zero_exactly: r"line 7 \(s1\) divides by a scalar that is 0\n 7  S  s1 = reciprocal\(m1\)",
}


@pytest.mark.parametrize("build", NO_LIMIT, ids=lambda f: f.__name__)
def test_what_has_no_limit(build):
    p = tp.Program()
    made = build(p, p.vector("x"), p.matrix("W"))
    with pytest.raises(LimitError, match=NO_LIMIT[build]):
        tp.limit(p).moment(made, made)


def test_errors_count_the_lines_of_the_user():
    """A family under a transpose is corrected line by line: the number is still that of print."""
    p = tp.Program()
    x, w = p.vector("x", axes={"t": 3}, fresh=True), p.matrix("W")
    h = tp.apply(lambda u: np.exp(0.3 * u * u), w @ x)
    back = w.T @ h
    with pytest.raises(LimitError, match=r"line 4 \(h1\[\d\]\) has no limit: .*\n 4  H  h1\[t\] = "):
        tp.limit(p).moment(back, back)
