"""Exact laws: the integers and fractions of random matrix theory come out of programs as such."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest

import tpnum as tp
from tpnum import functions
from tpnum.errors import LimitError
from tpnum.law.polynomial import Gaussians, combination, exact, product, symbol
from tpnum.law.rational import NotPolynomial, Rational


def exactly(law, *scalars):
    return [law.scalar(s).exact for s in scalars]


def catalan(k):
    return comb(2 * k, k) // (k + 1)


def narayana(k, r):
    return sum(Fraction(comb(k, j) * comb(k, j - 1), k) * r**j for j in range(1, k + 1))


def test_isserlis():
    g = Gaussians()
    cov = np.array([[2, 1, 0], [1, 3, -1], [0, -1, 1]])
    means = [Fraction(1), Fraction(0), Fraction(-2)]
    for k in range(3):
        g.add(means[k], {t: Fraction(int(cov[k, t])) for t in range(k)}, Fraction(int(cov[k, k])))
    x, y, z = (symbol(k) for k in range(3))
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    u = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij")).reshape(3, -1)
    w = np.prod(np.meshgrid(weights, weights, weights, indexing="ij"), axis=0).ravel() / weights.sum() ** 3
    a, b, c = np.linalg.cholesky(cov) @ u + np.array([[1.0], [0.0], [-2.0]])
    p = combination([(Fraction(1), product(product(x, x), product(y, z))), (Fraction(3), product(y, y))])
    assert float(g.expectation(p)) == pytest.approx(w @ (a * a * b * c + 3 * b * b), rel=1e-12)


@pytest.mark.parametrize("number", [0.1, 1 / 3, 0.5, -2.0, 22 / 7, 0.123456789012, 1e-30, 1e20])
def test_floats_stand_for_fractions(number):
    assert float(exact(number)) == number
    assert exact(1 / 3) == Fraction(1, 3)
    assert exact(0.1) == Fraction(1, 10)


def test_catalan_numbers():
    p = tp.Program()
    v, a = p.vector("v"), p.matrix("A", var=0.5)
    w, found = v, []
    for _ in range(10):
        w = a @ w + a.T @ w
        found.append(p.mean(v * w))
    law = tp.limit(p)
    assert law.method == "fractions"
    assert exactly(law, *found) == [0 if k % 2 else catalan(k // 2) for k in range(1, 11)]
    assert law.scalar(found[1]).error == 0


@pytest.mark.parametrize("ratio", [Fraction(1, 2), Fraction(1), Fraction(2), Fraction(3), Fraction(1, 3)])
def test_narayana_polynomials(ratio):
    p = tp.Program()
    p.dim("m", float(ratio))
    v, a = p.vector("v"), p.matrix("A", rows="m", cols="n")
    w, found = v, []
    for _ in range(6):
        w = a.T @ (a @ w)
        found.append(p.mean(v * w))
    assert exactly(tp.limit(p), *found) == [narayana(k, ratio) for k in range(1, 7)]


@pytest.mark.parametrize("factors", [2, 3])
def test_fuss_catalan_numbers(factors):
    """Moments of J'J for a product of independent square matrices."""
    p = tp.Program()
    v = p.vector("v")
    matrices = [p.matrix(f"A{k}") for k in range(factors)]
    w, found = v, []
    for _ in range(4):
        for a in matrices:
            w = a @ w
        for a in reversed(matrices):
            w = a.T @ w
        found.append(p.mean(v * w))
    fuss = [Fraction(comb((factors + 1) * k, k), factors * k + 1) for k in range(1, 5)]
    assert exactly(tp.limit(p), *found) == fuss


def lanczos(p, apply, v, steps):
    """Monic: v_{k+1} = M v_k - a_k v_k - b_k v_{k-1}, a and b quotients of Moments."""
    a, b, before, norm = [], [], None, None
    for _ in range(steps):
        w = apply(v)
        square = p.mean(v * v)
        a.append(p.mean(v * w) / square)
        new = w - a[-1] * v
        if before is not None:
            b.append(square / norm)
            new = new - b[-1] * before
        before, norm, v = v, square, new
    return a, b


def test_lanczos_of_wigner():
    p = tp.Program()
    m = p.matrix("A", var=0.5)
    a, b = lanczos(p, lambda v: m @ v + m.T @ v, p.vector("v"), 8)
    law = tp.limit(p)
    assert exactly(law, *a) == [0] * 8
    assert exactly(law, *b) == [1] * 7


def test_lanczos_of_marchenko_and_pastur():
    p = tp.Program()
    p.dim("m", 3.0)
    m = p.matrix("A", rows="m", cols="n")
    a, b = lanczos(p, lambda v: m.T @ (m @ v), p.vector("v"), 10)
    law = tp.limit(p)
    assert exactly(law, *a) == [3, *[4] * 9]
    assert exactly(law, *b) == [3] * 9


def test_quadratic_gradients():
    """24 and 6 where the assumption of independence has 12 and 0."""
    p = tp.Program()
    x, w = p.vector("x"), p.matrix("W")
    h = tp.square(x)
    g = w @ h
    back = w.T @ p.apply(functions.square.derivative(), g)
    law = tp.limit(p)
    assert (law.moment(back, back).exact, law.moment(back, h).exact) == (24, 6)
    assumed = Rational(p, corrections=False)
    assert (assumed.moment(back.name, back.name), assumed.moment(back.name, h.name)) == (12, 0)


def test_linear_message_passing_has_no_memory():
    """The Onsager term cancels the dot exactly: z_t has no part in earlier z."""
    p = tp.Program()
    p.dim("m", 0.5)
    a = p.matrix("A", rows="m", cols="n", var=2.0)
    signal = p.vector("signal")
    y = a @ signal
    x, z = None, y
    for _ in range(4):
        r = a.T @ z if x is None else a.T @ z + x
        x = 0.5 * r
        z = y - a @ x + 2.0 * 0.5 * z
    law = tp.limit(p)
    assert law.method == "fractions"
    noise = law.moment(r, r).exact - 2 * law.moment(r, signal).exact + law.moment(signal, signal).exact
    tau = Fraction(2)
    for _ in range(3):  # state evolution of eta(r) = r/2: E(eta(X + tau Z) - X)^2 = 1/4 + tau^2/4
        tau = 2 * (Fraction(1, 4) + tau / 4)
    assert noise == tau


def test_agrees_with_the_recursion():
    """Cubic and product lines, means, scalars, a rectangular matrix: fractions against quadrature."""
    p = tp.Program()
    p.dim("m", 1.5)
    x, y = p.vectors("x", "y", mean=[0.3, -0.2], cov=[[1.0, 0.4], [0.4, 0.7]])
    a = p.matrix("A", rows="m", cols="n", var=0.6)
    g = a @ (x * y + 0.5)
    s = p.mean(g * g)
    h = a.T @ (g**2 - s * g) + y
    k = a @ (h * x / s)
    law = tp.limit(p, rtol=1e-3)
    other = tp.limit(p, independence="exact", method="exact")
    assert law.method == "fractions"
    free = other._corrected(p, None)[1]
    for u, v in [(h, h), (h, x), (h, y), (k, k), (k, g)]:
        assert law.moment(u, v).value == pytest.approx(
            free.moment(u.name, v.name).value, rel=1e-10, abs=1e-12
        )
    assert law.mean(h).value == pytest.approx(free.mean(h.name).value, rel=1e-10)
    tanh = law.expect(lambda u: np.tanh(u), h)  # no polynomial: by quadrature
    assert tanh.exact is None
    assert abs(float(tanh)) < 1


def test_families_of_fractions():
    p = tp.Program()
    x, w = p.vector("x", axes={"t": 2}, fresh=True), p.matrix("W")
    back = w.T @ (w @ x)
    found = tp.limit(p).moment(back, x)
    assert found.exact.tolist() == [[1, 0], [0, 1]]
    assert found.value.dtype == np.float64


def test_what_is_not_exact():
    p = tp.Program()
    x, w = p.vector("x"), p.matrix("W")
    g = w @ tp.tanh(x)
    with pytest.raises(NotPolynomial, match=r"line 3 \(h1\): tanh"):
        Rational(p)
    q = tp.Program()
    q.mean(q.vector("x", var=2.0) ** 2) ** 0.5
    with pytest.raises(NotPolynomial, match="sqrt"):
        Rational(q)
    r = tp.Program()
    x, w = r.vector("x"), r.matrix("W")
    w.T @ (w @ x)
    r.mean(x * x) / r.mean(x)
    with pytest.raises(LimitError, match="divides by a scalar that is 0"):
        tp.limit(r)
    assert g is not None
