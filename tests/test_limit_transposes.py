"""The general limit: transposes anywhere, held against known sequences, state evolution and finite widths."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss

import tpnum as tp
from tpnum import functions
from tpnum.errors import InputError

SEEDS, WIDTHS = 60, (300, 600)


def values(law, scalars):
    return [float(law.scalar(s).value) for s in scalars]


def z_scores(p, scalars, limits, seeds=SEEDS, widths=WIDTHS):
    """Of simulations at two widths, extrapolated in 1/n draw by draw."""
    first, second = widths
    draws = []
    for seed in range(seeds):
        a, b = (tp.simulate(p, width=n, seed=seed + 7919 * n) for n in widths)
        draws.append([(second * b[s] - first * a[s]) / (second - first) for s in scalars])
    made = np.array(draws, dtype=float)
    return (made.mean(axis=0) - limits) / (made.std(axis=0, ddof=1) / np.sqrt(seeds))


def squares():
    """Section 3 of the theory: phi(z) = z^2, the seed is the vector of ones."""
    p = tp.Program()
    x, w = p.vector("x"), p.matrix("W")
    h = x * x
    g = w @ h
    back = w.T @ (2.0 * g)
    return p, back, h


def test_gradients_that_are_not_independent():
    p, back, h = squares()
    law = tp.limit(p)
    assert law.moment(back, back).value == pytest.approx(24, rel=1e-12)
    assert law.moment(back, h).value == pytest.approx(6, rel=1e-12)
    assumed = tp.limit(p, independence="assume")
    assert assumed.moment(back, back).value == pytest.approx(12, rel=1e-12)
    assert assumed.moment(back, h).value == 0
    assert not law.independence.holds
    assert law.independence.verdict.condition == 2
    rows = {row.name: row for row in law.independence.compare()}
    assert (rows[back.name].assumed, rows[back.name].exact) == pytest.approx((12, 24))
    assert "true E Z^2" in law.independence.table(back.name)


def test_catalan_numbers():
    p = tp.Program()
    v, a = p.vector("v"), p.matrix("A", var=0.5)
    w, moments = v, []
    for _ in range(8):
        w = a @ w + a.T @ w
        moments.append(p.mean(v * w))
    assert values(tp.limit(p), moments) == pytest.approx([0, 1, 0, 2, 0, 5, 0, 14], abs=1e-11)


@pytest.mark.parametrize(("ratio", "moments"), [(2.0, [2, 6, 22, 90]), (0.5, [0.5, 0.75, 1.375, 2.8125])])
def test_narayana_polynomials(ratio, moments):
    """Moments of A'A, A of (ratio n) x n: sum_k N(j, k) ratio^k."""
    p = tp.Program()
    p.dim("m", ratio)
    v, a = p.vector("v"), p.matrix("A", rows="m", cols="n")
    w, found = v, []
    for _ in moments:
        w = a.T @ (a @ w)
        found.append(p.mean(v * w))
    assert values(tp.limit(p), found) == pytest.approx(moments, rel=1e-12)


def test_jacobian_moments_of_relu():
    """J = D2 W2 D1 W1 at s_w^2 = 2: moments of J'J are 1, 5, 33 (P17)."""
    p = tp.Program()
    x, w1, w2 = p.vector("x"), p.matrix("W1", var=2.0), p.matrix("W2", var=2.0)
    g1 = w1 @ x
    g2 = w2 @ tp.relu(g1)
    d1, d2 = functions.step(g1), functions.step(g2)
    v = p.vector("v")
    w, found = v, []
    for _ in range(3):
        w = w1.T @ (d1 * (w2.T @ (d2 * (w2 @ (d1 * (w1 @ w))))))
        found.append(p.mean(v * w))
    law = tp.limit(p)
    assert values(law, found) == pytest.approx([1, 5, 33], rel=1e-10)
    assert law.independence.verdict.condition == 4


def free_moments(layers, count):
    """tr (J'J)^k for J = D_L W_L .. D_1 W_1 with free projections of trace 1/2 and s_w^2 = 2.

    By the S-transform (1 + 2z)^-L of J'J and Lagrange's inversion: 1/k [w^(k-1)] ((1 + w)(1 + 2w)^L)^k.
    """
    made = []
    for k in range(1, count + 1):
        series = np.polynomial.Polynomial([1, 1]) * np.polynomial.Polynomial([1, 2]) ** layers
        made.append(round((series**k).coef[k - 1]) // k)
    return made


@pytest.mark.parametrize(("layers", "count"), [(1, 10), (2, 9), (3, 7)])
def test_long_chains_behind_jumps_keep_their_digits(layers, count):
    """The Krylov vectors of J'J are nearly collinear, and none of them is behind a jump."""
    p = tp.Program()
    h, chain = p.vector("x"), []
    for k in range(layers):
        w = p.matrix(f"W{k}", var=2.0)
        g = w @ h
        chain.append((w, functions.step(g)))
        h = tp.relu(g)
    y = v = p.vector("v")
    found = []
    for _ in range(count):
        for w, d in chain:
            y = d * (w @ y)
        for w, d in chain[::-1]:
            y = w.T @ (d * y)
        found.append(p.mean(v * y))
    exact = free_moments(layers, count)
    assert exact[:3] == {1: [1, 3, 11], 2: [1, 5, 33], 3: [1, 7, 67]}[layers]
    law = tp.limit(p)
    assert values(law, found) == pytest.approx(exact, rel=1e-13)
    assert all(abs(law.scalar(s).value - m) <= law.scalar(s).error for s, m in zip(found, exact, strict=True))


def test_the_tied_program():
    p = tp.Program()
    x, w = p.vector("x"), p.matrix("W", var=1.3)
    s, found = x, []
    for _ in range(3):
        s = tp.tanh(w.T @ tp.tanh(w @ s)) + 0.5 * x
        found.append(p.mean(s * s))
    law = tp.limit(p, method="exact", rtol=1e-3)
    assert values(law, found) == pytest.approx([1.0881, 1.1806, 1.2016], abs=1e-3)
    assert any("correlated Gaussians" in c.how for c in law.choices)


def test_message_passing_is_state_evolution():
    """The Onsager term of the program cancels the dot, and what is left is two-dimensional."""
    delta, sigma, rounds = 0.6, 0.1, 10
    p = tp.Program()
    p.dim("m", delta)
    signal = tp.tanh(2.0 * p.vector("u"))
    a = p.matrix("A", rows="m", cols="n", var=1 / delta)
    y = a @ signal + p.vector("noise", var=sigma**2, dim="m")
    x, z, found = None, y, []
    for _ in range(rounds):
        r = a.T @ z if x is None else a.T @ z + x
        x = tp.tanh(r)
        found.append(p.mean((x - signal) * (x - signal)))
        z = y - a @ x + (1 / delta) * p.moment(functions.tanh.derivative(), r) * z
    law = tp.limit(p, rtol=1e-4)
    nodes, weights = hermegauss(160)
    weights = np.outer(weights, weights) / weights.sum() ** 2
    u, g = np.meshgrid(nodes, nodes, indexing="ij")
    tau, evolution = sigma**2 + (weights * np.tanh(2 * u) ** 2).sum() / delta, []
    for _ in range(rounds):
        error = (weights * (np.tanh(np.tanh(2 * u) + np.sqrt(tau) * g) - np.tanh(2 * u)) ** 2).sum()
        evolution.append(error)
        tau = sigma**2 + error / delta
    assert values(law, found) == pytest.approx(evolution, rel=1e-4)
    assert all(len(c.dots) <= 2 for c in law.corrections)


def jumps(p):
    """Derivatives that do not exist: Stein's lemma instead."""
    x, w = p.vector("x"), p.matrix("W")
    s = functions.sign(w @ x)
    b = w.T @ s
    c = w @ tp.tanh(b)
    d = w.T @ functions.sign(c)
    return [p.mean(b * b), p.mean(b * x), p.mean(c * c), p.mean(c * s), p.mean(d * d), p.mean(d * b)]


def declared_kinks(p):
    x, w = p.vector("x", mean=0.3), p.matrix("W")
    s = tp.apply(lambda u: np.abs(u) ** 1.5, w @ x, kinks=(0.0,))
    b = w.T @ s
    c = w @ tp.tanh(b)
    return [p.mean(b * b), p.mean(b * x), p.mean(c * c), p.mean(c * s)]


def rectangular(p):
    p.dim("m", 2.0)
    x, a = p.vector("x"), p.matrix("A", rows="m", cols="n", var=0.7)
    y = tp.tanh(a @ x)
    z = a.T @ y
    w = a @ tp.tanh(z + x)
    v = a.T @ (w * y)
    return [p.mean(z * z), p.mean(w * w), p.mean(w * y), p.mean(v * v), p.mean(v * z)]


def collinear(p):
    """Two hats that are multiples of each other."""
    x, w = p.vector("x"), p.matrix("W", var=0.8)
    g, twice = w @ x, w @ (2.0 * x)
    h = functions.step(g + 0.5) * twice
    b = w.T @ h
    c = w.T @ (h - twice)
    d = w @ (b + c)
    return [p.mean(b * b), p.mean(c * c), p.mean(b * c), p.mean(d * d), p.mean(d * g)]


def scalars(p):
    x, w = p.vector("x"), p.matrix("W", var=0.8)
    g = w @ x
    h = tp.relu(g)
    b = w.T @ (h - p.mean(h * h) * g)
    q = p.mean(b * x)
    r = w @ (b * x - q * x)
    return [p.mean(b * b), q, p.mean(r * r), p.mean(r * g)]


@pytest.mark.filterwarnings("ignore::tpnum.errors.AccuracyWarning")
@pytest.mark.parametrize("build", [jumps, declared_kinks, rectangular, collinear, scalars])
def test_against_finite_width(build):
    p = tp.Program()
    found = build(p)
    law = tp.limit(p, method="exact")
    assert law.corrections
    assert np.max(np.abs(z_scores(p, found, values(law, found)))) < 4.5


def test_families_share_their_matrix():
    """Three positions, their sum, and a transpose: the same as the scalar lines."""
    p = tp.Program()
    x, w = p.vector("x", axes={"t": 3}, fresh=True), p.matrix("W", var=1.2)
    g = w @ x
    back = w.T @ tp.relu(g + g.mean("t"))
    law = tp.limit(p)
    assert law.moment(back, back).value.shape == (3, 3)
    lines = {line.name: str(k) for k, line in enumerate(p.lines, 1) if hasattr(line, "name")}
    corrected = [(f"{back.name}[{t}]", lines[back.name]) for t in range(3)]
    assert [(c.name, c.line) for c in law.corrections] == corrected
    law.expect(lambda u: u**4, back)  # appends to the law's own program, not to the user's
    assert {c.line for c in law.choices} == {lines[g.name], lines[back.name]}
    q = p.expand()
    scalar = tp.limit(q)
    names = q.parts[back.name].names
    whole = [[scalar.moment(a, b).value for b in names] for a in names]
    np.testing.assert_allclose(law.moment(back, back).value, whole, rtol=1e-12)
    diagonal = law.expect(lambda u, v: u * v, back, x).value
    np.testing.assert_allclose(diagonal, np.diag(law.moment(back, x).value), rtol=1e-9)


def test_data_and_transposes():
    p = tp.Program()
    u = p.data("u", axes={"i": 2}, channels="d")
    w = p.matrix("W", var=1.0)
    g = p.matrix("U", var=1.0, cols="d") @ u
    back = w.T @ tp.tanh(w @ tp.tanh(g))
    x = np.array([[1.0, 0.5, -1.0], [0.2, 1.0, 0.3]])
    law = tp.limit(p, data={"u": x})
    m = law.moment(back, tp.Program.__getitem__(p, g.name))
    q = tp.Program()
    g0, g1 = q.vectors("g0", "g1", cov=(x @ x.T / 3).tolist())
    v = q.matrix("V")
    first = v.T @ tp.tanh(v @ tp.tanh(g0))
    other = tp.limit(q)
    assert m.value[0, 1] == pytest.approx(other.moment(first, g1).value, rel=1e-10)


class TestIndependence:
    """The verdict comes from the text; each condition is broken once."""

    def mlp(self, seed):
        p = tp.Program()
        x, w = p.vector("x"), p.matrix("W", var=1.5)
        h = tp.tanh(p.matrix("V") @ x)
        g = w @ h
        v = seed(p, x, g)
        return p, w.T @ (functions.tanh.derivative()(g) * v), h

    def test_proven_for_an_independent_readout(self):
        p, back, h = self.mlp(lambda p, x, g: p.vector("v"))
        law = tp.limit(p)
        assert law.independence.holds
        assert law.independence.verdict.seeds == ("v",)
        assert law.method == "recursion"
        exact = tp.limit(p, independence="exact")
        assert law.moment(back, back).value == pytest.approx(exact.moment(back, back).value, rel=1e-10)
        assert law.moment(back, h).value == 0

    @pytest.mark.parametrize(
        ("seed", "condition"),
        [
            (lambda p, x, g: p.vector("v", mean=1.0), 1),
            (lambda p, x, g: p.ones(), 2),
            (lambda p, x, g: x, 2),
            (lambda p, x, g: p.vector("v") ** 2, 3),
            (lambda p, x, g: tp.relu(p.vector("v")), 3),
        ],
    )
    def test_broken(self, seed, condition):
        p, back, _ = self.mlp(seed)
        verdict = tp.limit(p).independence.verdict
        assert verdict.condition == condition
        assert verdict.name
        assert f"line {verdict.line} ({verdict.name})" in verdict.reason

    def test_a_forward_vector_that_descends_from_the_seed(self):
        p = tp.Program()
        w, v = p.matrix("W"), p.vector("v")
        g = w @ p.vector("x")
        back = w.T @ (g * v)
        w @ back
        assert tp.limit(p).independence.verdict.condition == 4

    def test_correlated_seeds_are_one_seed_and_correlated_inputs_none(self):
        p = tp.Program()
        a, b = p.vectors("a", "b", cov=[[1, 0.5], [0.5, 1]])
        w, x = p.matrix("W"), p.vector("x")
        g = w @ x
        w.T @ (g * a)
        w.T @ (g * b)
        assert tp.limit(p).independence.holds
        q = tp.Program()
        x, v = q.vectors("x", "v", cov=[[1, 0.5], [0.5, 1]])
        w = q.matrix("W")
        w.T @ ((w @ x) * v)
        assert tp.limit(q).independence.verdict.condition == 1

    def test_inputs_after_the_last_product_are_no_seeds(self):
        """The last input of a recurrence and a gate: both meet condition 1, and neither is the seed."""
        p = tp.Program()
        w, gate, v = p.matrix("W"), p.vector("gate"), p.vector("v")
        s = p.zeros()
        for t in range(3):
            s = tp.tanh(w @ s + p.vector(f"x{t}"))
        p.backward({s * gate: v})
        law = tp.limit(p)
        assert law.independence.verdict.seeds == ("v",)
        exact = tp.limit(p, independence="exact", method="exact")
        back = [line.name for line in p.lines if getattr(line, "matrix", "") == "W.T"]
        assert len(back) == 2
        for name in back:
            assert law.moment(name, name).value == pytest.approx(exact.moment(name, name).value, rel=1e-9)

    def test_odd_averages_vanish(self):
        """Backpropagation through a layernorm subtracts averages of seeds times forward vectors."""
        p = tp.Program()
        w, v = p.matrix("W"), p.vector("v")
        g = w @ p.vector("x")
        m = p.mean(g * v)
        w.T @ (v - m * g)
        assert tp.limit(p).independence.holds

    def test_a_matrix_used_in_one_direction_only(self):
        p = tp.Program()
        w = p.matrix("W")
        g = w.T @ p.vector("x")
        law = tp.limit(p)
        assert law.independence.holds
        assert law.moment(g, g).value == pytest.approx(1.0)


def test_options_are_checked():
    p, _, _ = squares()
    for options in ({"method": "best"}, {"independence": "maybe"}, {"rtol": 0.0}, {"samples": 3}):
        with pytest.raises(InputError, match=next(iter(options))):
            tp.limit(p, **options)
