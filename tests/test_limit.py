"""`tp.limit` at one input: joint moments of nonlinear vectors, fresh noise, and what is said of errors."""

from __future__ import annotations

import math
import warnings

import mpmath as mp
import numpy as np
import pytest

import tpnum as tp
from tpnum import functions
from tpnum.errors import AccuracyWarning, InputError

MEANS = [(0.0, 0.0), (0.7, -0.4)]
Q1, Q2, C = 1.3, 0.6, 0.55


def two(m1: float = 0.0, m2: float = 0.0, c: float = C, fresh: bool = False):
    p = tp.Program()
    return p, *p.vectors("x", "y", mean=[m1, m2], cov=[[Q1, c], [c, Q2]], fresh=fresh)


def given(u, m1, m2):
    """Mean and standard deviation of y given x = u."""
    return m2 + C / Q1 * (u - m1), mp.sqrt(Q2 - C * C / Q1)


def over(integrand, m1):
    """E integrand(x)."""
    with mp.workdps(25):
        root = mp.sqrt(Q1)
        cuts = [m1 + k * root for k in (-14, -7, -3, -1, 0, 1, 3, 7, 14)]
        return float(mp.quad(lambda u: integrand(u) * mp.npdf(u, m1, root), cuts))


def ramp(m, s):
    """E relu of N(m, s^2)."""
    return m * mp.ncdf(m / s) + s * mp.npdf(m / s)


def test_erf_erf_is_the_arcsine():
    p, x, y = two()
    m = p.moment(functions.mul, tp.erf(x), tp.erf(y))
    truth = 2 / np.pi * np.arcsin(2 * C / np.sqrt((1 + 2 * Q1) * (1 + 2 * Q2)))
    assert tp.limit(p).scalar(m).value == pytest.approx(truth, rel=1e-13)


@pytest.mark.parametrize("c", [C, -0.3, 0.8])
def test_jumps_keep_their_angle(c):
    p, x, y = two(c=c)
    m = p.moment(functions.mul, functions.step(x), functions.step(y))
    truth = 0.25 + np.arcsin(c / np.sqrt(Q1 * Q2)) / (2 * np.pi)
    assert tp.limit(p).scalar(m).value == pytest.approx(truth, rel=1e-13)


@pytest.mark.parametrize(("m1", "m2"), MEANS)
def test_two_nonlinear_vectors_at_one_input(m1, m2):
    """E tanh(x) relu(y), the moment that the variance of W (tanh(x) + relu(y)) asks for."""
    p, x, y = two(m1, m2)
    h, k = tp.tanh(x), tp.relu(y)
    m = p.moment(functions.mul, h, k)
    g = p.matrix("W", var=1.0) @ (h + k)
    law = tp.limit(p)
    truth = over(lambda u: mp.tanh(u) * ramp(*given(u, m1, m2)), m1)
    assert law.scalar(m).value == pytest.approx(truth, rel=1e-12)
    assert law.moment(h, k).value == pytest.approx(truth, rel=1e-12)
    squares = law.moment(h, h).value + law.moment(k, k).value
    assert law.cov(g, g).value == pytest.approx(squares + 2 * truth, rel=1e-12)


@pytest.mark.parametrize(("m1", "m2"), MEANS)
def test_two_slopes_at_one_input(m1, m2):
    p, x, y = two(m1, m2)
    m = p.moment(functions.mul, functions.tanh.derivative()(x), functions.relu.derivative()(y))

    def integrand(u):
        mean, sd = given(u, m1, m2)
        return mp.sech(u) ** 2 * mp.ncdf(mean / sd)

    assert tp.limit(p).scalar(m).value == pytest.approx(over(integrand, m1), rel=1e-12)


def test_scalars_of_the_functions():
    """He_2(x; q) / sqrt(2!) at the scale of x: E he_2(x) he_2(y) is the squared correlation."""
    p, x, y = two()
    q1, q2 = p.moment(functions.square, x), p.moment(functions.square, y)
    he = functions.get("hermite", degree=2)
    m = p.moment(functions.mul, he(x, q1), he(y, q2))
    assert tp.limit(p).scalar(m).value == pytest.approx(C**2 / (Q1 * Q2), rel=1e-12)


def test_vectors_that_coincide():
    """x and 2 x: correlated fully, which an unlucky rounding may not deny."""
    p = tp.Program()
    x = p.vector("x", var=Q1)
    w = p.matrix("W", var=1.0)
    g = w @ tp.relu(x)
    m = p.moment(functions.mul, functions.step(g), functions.step(2.0 * g))
    n = p.moment(functions.mul, functions.step(g), functions.step(-1.0 * g))
    law = tp.limit(p)
    assert law.scalar(m).value == pytest.approx(0.5, rel=1e-12)
    assert law.scalar(n).value == pytest.approx(0.0, abs=1e-12)


def test_fresh_noise_in_two_functions():
    """Between examples the draws are independent, within one they are the same."""
    p, x, y = two(0.3, -0.2, fresh=True)
    u = p.data("u", channels="d")
    w = p.matrix("W", var=1.0, cols="d", rows=x.dim)
    g = w @ u
    h = functions.tanh(x) * g + functions.relu(y) * g
    p.output(h)
    a = np.random.default_rng(0).standard_normal((3, 4))
    k = tp.kernel(p, a)
    product = over(lambda t: mp.tanh(t) * ramp(*given(t, 0.3, -0.2)), 0.3)
    tanh, square = over(mp.tanh, 0.3), over(lambda t: mp.tanh(t) ** 2, 0.3)
    with mp.workdps(25):
        sd = mp.sqrt(Q2)
        relu = float(ramp(mp.mpf(-0.2), sd))
        relu2 = float((0.04 + Q2) * mp.ncdf(-0.2 / sd) - 0.2 * sd * mp.npdf(-0.2 / sd))
    gram = a @ a.T / 4
    truth = gram * np.where(np.eye(3) == 1, square + relu2 + 2 * product, (tanh + relu) ** 2)
    np.testing.assert_allclose(k, truth, rtol=1e-12)
    np.testing.assert_allclose(tp.kernel(p, a, a.copy())[0, 1], truth[0, 1], rtol=1e-12)


def orthant(cov):
    """E of a product of steps, each of a coordinate of its own."""
    p = tp.Program()
    d = len(cov)
    x = p.vectors(*"uvxyz"[:d], mean=[0.0] * d, cov=cov)
    steps = [functions.step(v) for v in x]
    half = d // 2
    return p, p.moment(
        functions.mul,
        math.prod(steps[1:half], start=steps[0]),
        math.prod(steps[half + 1 :], start=steps[half]),
    )


def test_three_dimensions_are_quadratures():
    p, m = orthant([[1.0, 0.5, -0.2], [0.5, 1.0, 0.3], [-0.2, 0.3, 1.0]])
    made = tp.limit(p).scalar(m)
    truth = 0.125 + np.arcsin([0.5, -0.2, 0.3]).sum() / (4 * np.pi)
    assert abs(made.value - truth) <= made.error < 1e-6 * truth


def test_five_dimensions_come_with_their_error():
    p, m = orthant(0.5 * (np.eye(5) + 1.0))
    law = tp.limit(p)
    with pytest.warns(AccuracyWarning, match=r"line 1 \(u\), line 1 \(v\), line 1 \(x\).* 1e-06") as caught:
        made = law.scalar(m)
    assert [w.filename for w in caught] == [__file__]
    assert 1e-7 < made.error < 1e-2
    assert abs(made.value - 1 / 6) < 2 * made.error
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert law.scalar(m).value == made.value  # said once


def test_two_dimensions_come_without_a_warning():
    p, x, y = two()
    m = p.moment(functions.mul, tp.tanh(x), tp.relu(y))
    made = tp.limit(p).scalar(m)
    assert 0 < made.error < 1e-11 * abs(made.value)


def test_a_kernel_warns_once_of_what_it_samples():
    p = tp.Program()
    u = p.data("u", channels="d")
    g, k = (p.matrix(name, var=1.0, cols="d") @ u for name in "WV")
    p.output(functions.maximum(g, 0.5 * g + k))
    a = np.random.default_rng(1).standard_normal((3, 4))
    with pytest.warns(AccuracyWarning, match=r"of line \d+ \(h\d\)") as caught:
        made = tp.kernel(p, a)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    # max^2 + min^2 = g^2 + (g/2 + k)^2, and max and -min have one law
    q = np.einsum("ij,ij->i", a, a) / 4
    np.testing.assert_allclose(np.diagonal(made), (q + 1.25 * q) / 2, rtol=1e-4)
    np.testing.assert_allclose(made, made.T, rtol=0)


def test_unknown_names_are_refused():
    law = tp.limit(two()[0])
    for ask in (law.mean, law.scalar):
        with pytest.raises(InputError, match="'z' is not a variable"):
            ask("z")


def test_a_function_of_constants():
    p = tp.Program()
    x = p.vector("x", mean=0.8, var=0.0)
    m = p.moment(functions.identity, tp.tanh(x * x))
    assert tp.limit(p).scalar(m).value == pytest.approx(np.tanh(0.64), rel=1e-14)


def test_a_thousand_layers():
    p = tp.Program()
    w = p.matrix("W", var=2.0)
    g = p.vector("x", var=0.7)
    for _ in range(1000):
        g = w @ tp.relu(g)
    assert tp.limit(p).cov(g, g).value == pytest.approx(0.7, rel=1e-11)


@pytest.mark.parametrize("means", [(0.3, -0.2, 0.5), (0.0, 0.0, 0.0)])
def test_linear_factors_beside_a_jump(means):
    """E a b 1{g>0} and the like: Stein's lemma with the weak derivatives of the jump."""
    cov = np.array([[1.0, 0.5, 0.3], [0.5, 1.2, 0.4], [0.3, 0.4, 0.8]])
    p = tp.Program()
    a, b, g = p.vectors("a", "b", "g", mean=means, cov=cov)
    step, times = functions.step(g), functions.mul
    asked = [
        p.moment(times, a * b, step),
        p.moment(times, a * a * b, step),
        p.moment(times, a * a * b * b, step * g),
    ]
    asked.append(p.moment(times, a * a * b, b * g * g))
    q = cov[2, 2]
    slope, spread = cov[:2, 2] / q, cov[:2, :2] - np.outer(cov[:2, 2], cov[:2, 2]) / q
    (va, vab), (_, vb) = spread

    def over_g(f, low):
        cuts = [low, *(means[2] + k for k in (-9, -4, -1, 1, 4, 9) if means[2] + k > low)]
        return float(mp.quad(lambda t: f(t) * mp.npdf(t, means[2], mp.sqrt(q)), cuts))

    def two(t):
        return [means[i] + slope[i] * (t - means[2]) for i in range(2)]

    def quartic(t):
        ea, eb = two(t)
        return (ea**2 + va) * (eb**2 + vb) + 2 * vab**2 + 4 * vab * ea * eb

    truth = [
        over_g(lambda t: two(t)[0] * two(t)[1] + vab, 0),
        over_g(lambda t: (two(t)[0] ** 2 + va) * two(t)[1] + 2 * two(t)[0] * vab, 0),
        over_g(lambda t: t * quartic(t), 0),
        over_g(lambda t: t * t * quartic(t), -10),
    ]
    law = tp.limit(p)
    assert [law.scalar(m).value for m in asked] == pytest.approx(truth, rel=1e-9, abs=1e-10)
    assert all("one-dimensional" in c.how or "no integral" in c.how for c in law.choices)


def test_scans():
    """A recurrence written as a scan: the law of its lines one by one, by the names of the families."""
    p = tp.Program()
    w, x = p.matrix("W", var=1.2), p.vector("x", axes={"t": 3, "i": 2}, fresh=True)
    with p.scan("t") as loop:
        s = loop.carry("n", axes=(("i", 2),))
        new = tp.tanh(w @ s + loop.slice(x))
        m = tp.mean(new * new)
        loop.next(s, new)
        out, sizes, last = loop.stack(new), loop.stack(m), loop.last(s)
    law = tp.limit(p)
    state, steps = 0.0, []
    for _ in range(3):
        state = tp.expect(lambda u: np.tanh(u) ** 2, 0.0, 1.2 * state + 1.0).value
        steps.append(state)
    np.testing.assert_allclose(law.scalar(sizes).value, np.repeat(steps, 2).reshape(3, 2), rtol=1e-12)
    np.testing.assert_allclose(law.moment(last, last).value, state * np.eye(2), rtol=1e-12, atol=1e-15)
    assert law.moment(out, x).value.shape == (3, 2, 3, 2)
    np.testing.assert_allclose(
        law.expect(lambda u: np.tanh(u) ** 2, x).value, np.full((3, 2), steps[0]), rtol=1e-12
    )


def test_functions_without_a_derivative_of_functions():
    """The chain rule stops at a user's function of which only the values are known."""

    def law(**slopes):
        p = tp.Program()
        g, y = p.vectors("g", "y", cov=[[1.0, 0.5], [0.5, 1.0]])
        h = tp.apply(lambda u: u * np.tanh(u), tp.tanh(g), **slopes)
        k = tp.tanh(y)
        found = tp.limit(p)
        return [found.moment(h, y), found.moment(h, h), found.moment(h, k), found.mean(h)], found, h

    known, _, _ = law(derivative=lambda u: np.tanh(u) + u / np.cosh(u) ** 2)
    blind, found, h = law()
    np.testing.assert_allclose([e.value for e in blind], [e.value for e in known], rtol=1e-9, atol=1e-15)
    assert found.expect(lambda u: u * u, h).value == pytest.approx(blind[1].value, rel=1e-9)


@pytest.mark.filterwarnings("ignore::tpnum.errors.AccuracyWarning")
def test_errors_where_parts_cancel():
    """The error of E f is relative to E|f|: it does not shrink with the value."""

    def f(a, b):
        return np.sign(a - 0.3 * b) * (1.0 + np.abs(a * b))

    p = tp.Program()
    a, b = p.vector("a", mean=1e-3), p.vector("b", var=1.4)
    half = 0.5 * p.moment(f, a, b)
    law = tp.limit(p, rtol=1e-3)
    made, direct = law.scalar(half.base), tp.expect(f, [1e-3, 0.0], [[1.0, 0.0], [0.0, 1.4]], rtol=1e-3)
    assert abs(made.value) < 1e-2
    assert made.error == pytest.approx(direct.error, rel=1e-6)
    assert made.error > 10 * 1e-12
