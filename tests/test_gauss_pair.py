"""Second moments of pairs: closed forms, series and panels against each other and against mpmath."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from scipy.special import ndtr

from tpnum import functions
from tpnum.errors import InputError, LimitError, ProgramError
from tpnum.gauss.dual import dual, gap
from tpnum.gauss.pair import entries, evaluate, prepare
from tpnum.gauss.panels import pairs

E = np.array(
    [0.0, -0.0, 1e-16, 1e-14, 1e-10, 1e-6, 1e-3, 0.03, 0.3, 0.9, 1.0, -0.9, -0.3, -0.03, -1e-6, -1e-14]
)


def rho_of(e):
    return np.copysign(1.0 - np.abs(e), e)


def relu_oracle(e):
    """Co-correlation and E f' f' of relu, in 40 digits."""
    made = []
    with mp.workdps(40):
        for x in e:
            r = mp.mpf(1) - abs(mp.mpf(float(x)))
            r = r if np.copysign(1.0, x) > 0 else -r
            th = mp.acos(r)
            made.append(
                (float(1 - (mp.sin(th) + (mp.pi - th) * r) / mp.pi), float((mp.pi - th) / (2 * mp.pi)))
            )
    return np.array(made).T


def double_integral(g, q1, q2, rho, kinks=()):
    """E g(u) g(v) by dense nested Gauss-Legendre rules, v given u, split at the kinks."""
    x, w = np.polynomial.legendre.leggauss(24)

    def nodes(cuts):
        cuts = np.sort(np.clip(cuts, -9.5, 9.5))
        middle, half = 0.5 * (cuts[1:] + cuts[:-1]), 0.5 * np.diff(cuts)
        z = (middle[:, None] + half[:, None] * x).ravel()
        return z, (half[:, None] * w).ravel() * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)

    s1, s2, sigma = np.sqrt(q1), np.sqrt(q2), np.sqrt(1 - rho * rho)
    images = [k / (s2 * rho) + d for k in kinks for d in np.linspace(-8, 8, 40) * sigma / abs(rho)]
    cuts = np.concatenate([np.linspace(-9.5, 9.5, 25), [k / s1 for k in kinks], images])
    total = 0.0
    for z, weight in zip(*nodes(cuts), strict=True):
        inner, share = nodes(
            np.append(np.linspace(-9.5, 9.5, 40), [(k / s2 - rho * z) / sigma for k in kinks])
        )
        total += weight * g(s1 * z) * (share @ g(s2 * (rho * z + sigma * inner)))
    return total


def user_relu(u):
    return np.maximum(u, 0.0)


@pytest.mark.parametrize(("q1", "q2"), [(1.0, 1.0), (1e-6, 7.0), (1e-8, 1e-8), (1e8, 1e8)])
def test_relu_through_the_general_path(q1, q2):
    rows = prepare(functions.get(user_relu, kinks=(0.0,)), np.array([q1, q2]))
    i, j = np.zeros(E.size, int), np.ones(E.size, int)
    out, d = entries(rows, rows, i, j, E, np.float64, True)
    exact, slope = relu_oracle(E)
    value = np.where(np.signbit(out), 2.0 + out, out)
    # eps sqrt(e) where f(u) and g(v) nearly agree: the difference of two rounded numbers, squared
    assert np.all(np.abs(value - exact) <= 5e-16 * np.sqrt(exact) + 1e-12 * np.minimum(exact, 1.0) + 1e-22)
    np.testing.assert_allclose(d, slope, atol=1e-12)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "silu", "softplus", "hard_tanh", "elu"])
@pytest.mark.parametrize("q1", [1e-6, 1.0, 1e2])
def test_series_and_panels_agree(name, q1):
    q = np.array([q1, 2.0])
    rows = prepare(functions.get(name), q)
    for a, b in ((0, 0), (0, 1)):
        i, j = np.full(E.size, a), np.full(E.size, b)
        out, d = entries(rows, rows, i, j, E, np.float64, True)
        also, steep = pairs(rows.tables(), rows.tables(), rows.where[i], rows.where[j], E)
        np.testing.assert_allclose(rho_of(out), rho_of(also), atol=1e-13)
        np.testing.assert_allclose(
            d, steep, atol=1e-11 * np.sqrt(rows.slope_second[a] * rows.slope_second[b])
        )


@pytest.mark.parametrize(
    ("name", "g", "kinks"),
    [("tanh", np.tanh, ()), ("softplus", lambda u: np.logaddexp(0.0, u), ()),
     ("hard_tanh", lambda u: np.clip(u, -1.0, 1.0), (-1.0, 1.0)),
     ("step", lambda u: np.heaviside(u, 0.5), (0.0,))],
)  # fmt: skip
def test_against_double_integrals(name, g, kinks):
    f = functions.Function.from_callable(g, kinks=kinks)
    for q1, q2, rho in ((1.0, 2.0, 0.6), (0.3, 4.0, -0.98)):
        made = dual(f).estimate(q1, q2, rho * np.sqrt(q1 * q2))
        assert abs(made.value - double_integral(g, q1, q2, rho, kinks)) <= max(made.error, 3e-14)
        assert made.error < 1e-12


CLOSED = [
    *map(functions.get, ("relu", "abs", "sign", "step", "erf", "gelu", "sin", "cos", "rbf", "exp", "gabor")),
    functions.get("abrelu", a=-0.3, b=1.2), functions.get("rectified_monomial", degree=2),
    functions.get("gaussian"), functions.get("sin", a=0.5, b=2, c=0.3),
]  # fmt: skip


@pytest.mark.parametrize("f", CLOSED, ids=str)
def test_closed_forms_are_the_general_path(f):
    q1, q2 = np.array([0.3, 1.0, 2.0]), np.array([0.5, 1.0, 2.5])
    rows, cols = prepare(f, q1), prepare(f, q2)
    general_rows, general_cols = prepare(f, q1, closed=False), prepare(f, q2, closed=False)
    assert (rows.kind, general_rows.kind) == ("closed", "series")
    for name in ("first", "second", "slope", "stein", "slope_second"):
        np.testing.assert_allclose(getattr(rows, name), getattr(general_rows, name), atol=1e-13, rtol=1e-13)
    for e in E:
        block = np.full((3, 3), e)
        out, d = evaluate(rows, cols, block)
        also, steep = evaluate(general_rows, general_cols, block)
        np.testing.assert_allclose(rho_of(out), rho_of(also), atol=1e-12)
        np.testing.assert_allclose(d, steep, atol=1e-10 * max(1.0, np.abs(steep).max()))


def test_blocks_are_their_entries():
    rng = np.random.default_rng(0)
    q = rng.uniform(0.5, 2.0, 40)
    block = rng.uniform(0.0, 1.0, (7, 40)) * rng.choice([-1, 1], (7, 40))
    block[0, :5] = [0.0, -0.0, 1e-12, -1e-12, 1e-5]
    for name in ("tanh", "elu", "softplus"):
        cols = prepare(functions.get(name), q)
        rows = cols.rows(slice(3, 10))
        out, d = evaluate(rows, cols, block)
        i, j = (a.ravel() for a in np.indices(block.shape))
        also, steep = entries(rows, cols, i, j, block.ravel(), np.float64, True)
        np.testing.assert_allclose(rho_of(out).ravel(), rho_of(also), atol=1e-13)
        np.testing.assert_allclose(d.ravel(), steep, atol=1e-11)
        single, steep32 = evaluate(rows, cols, block, np.float32)
        assert single.dtype == steep32.dtype == np.float32
        np.testing.assert_allclose(rho_of(single), rho_of(out), atol=4e-7)
        assert evaluate(rows, cols, block, want_derivative=False)[1] is None


def test_duplicates_are_exactly_one():
    rows = prepare(functions.tanh, np.array([0.5, 1.0, 3.0]))
    out, _ = evaluate(rows, rows, np.zeros((3, 3)))
    assert np.all(np.diag(out) == 0.0)


def test_functions_of_a_second_moment():
    q = np.array([0.5, 1.0, 3.0])
    block = np.array([[0.0, 0.3, -0.2]] * 3)
    hermite = prepare(functions.get("hermite", degree=3), q, scalars=(q,))
    out, d = evaluate(hermite, hermite, block)
    np.testing.assert_allclose(rho_of(out), rho_of(block) ** 3, atol=1e-13)
    np.testing.assert_allclose(d, 3 * rho_of(block) ** 2 / np.sqrt(q[:, None] * q), rtol=1e-12)
    f = functions.get("exp_normalized", gamma=1.2, shift=-0.9)
    for closed in (True, False):
        rows = prepare(f, q, scalars=(q,), closed=closed)
        out, d = evaluate(rows, rows, block)
        unit = np.sqrt(rows.second[:, None] * rows.second)
        exact = np.sqrt(q[:, None] * q) * np.exp(1.2 * (rho_of(block) - 0.9))
        np.testing.assert_allclose(rho_of(out) * unit, exact, rtol=1e-12)
        np.testing.assert_allclose(d, 1.2 * exact / np.sqrt(q[:, None] * q), rtol=1e-11)


def test_scalars_row_by_row():
    f = functions.Function.from_callable(lambda u, s: np.tanh(s * u), n_scalars=1)
    rows = prepare(f, np.ones(2), scalars=(np.array([1.0, 2.0]),))
    out, _ = evaluate(rows, rows, np.full((2, 2), 0.4))
    made = rho_of(out) * np.sqrt(rows.second[:, None] * rows.second)
    same = [[dual(functions.tanh)(a * a, b * b, 0.6 * a * b) for b in (1, 2)] for a in (1, 2)]
    np.testing.assert_allclose(made, same, atol=1e-12)


def test_a_row_without_variance_is_a_constant():
    d = dual("softplus")
    np.testing.assert_allclose(d(0.0, 2.0, 0.0), np.log(2.0) * prepare(d.f, [2.0]).first[0], rtol=1e-13)
    np.testing.assert_allclose(d.derivative(0.0, 2.0, 0.0), 0.25, rtol=1e-13)
    assert dual("tanh")(0.0, 1.0, 0.0) == 0.0


def test_means():
    d = dual(lambda u: np.tanh(u) + u * u)
    rng = np.random.default_rng(0)
    z = rng.standard_normal((2, 1_000_000))
    u, v = 0.5 + z[0], -0.3 + np.sqrt(2.0) * (0.7 * z[0] + np.sqrt(0.51) * z[1])
    sample = d.f(u) * d.f(v)
    made = d.estimate(1.0, 2.0, 0.7 * np.sqrt(2.0), 0.5, -0.3)
    assert abs(made.value - sample.mean()) < 4 * sample.std() / 1000
    assert made.error < 1e-11


def test_ae_derivative_at_a_jump():
    f = functions.get(lambda u: np.where(u > 0, 1.0 + u, 0.0), kinks=(0.0,))
    rho = 0.3
    exact = (np.pi - np.arccos(rho)) / (2 * np.pi)
    np.testing.assert_allclose(dual(f).derivative(1.0, 1.0, rho), exact, atol=1e-11)


def test_price_theorem():
    d, h = dual("mish"), 1e-4
    slope = (d(1.0, 2.0, 0.5 + h) - d(1.0, 2.0, 0.5 - h)) / (2 * h)
    np.testing.assert_allclose(d.derivative(1.0, 2.0, 0.5), slope, rtol=1e-7)


def test_estimates_cover_and_say_how():
    made = dual("erf").estimate(1.0, 1.0, 0.5)
    assert made.method == "closed"
    general = dual(lambda u: functions.erf(u))
    for q, c in ((1.0, 0.5), (25.0, 24.999), (1e4, -9.9e3)):
        truth = 2 / np.pi * np.arcsin(2 * c / (1 + 2 * q))
        also = general.estimate(q, q, c)
        assert abs(also.value - truth) <= also.error < 1e-12
        assert set(also.method.split("+")) <= {"series", "panels"}


def test_layouts_are_one_another():
    """Grids, grids written out, transposed, scattered, in one variance, in many: the same entries."""
    rng = np.random.default_rng(0)
    q1, q2, rho = rng.uniform(0.5, 1.5, 40), rng.uniform(0.5, 1.5, 300), rng.uniform(-1, 1, (40, 300))
    q1[3], rho[0, :4] = 0.0, [1.0, -1.0, 0.0, 1 - 1e-15]
    c = rho * np.sqrt(q1[:, None] * q2)
    for f in (lambda u: np.tanh(u) + 0.1 * u * u, np.tanh, lambda u: np.cos(u), "elu", "gelu"):
        d = dual(f)
        for g in (d, d.derivative):
            made = g(q1[:, None], q2, c)
            one_by_one = [g(q1[i], q2[j], c[i, j]) for i, j in ((0, 0), (0, 3), (3, 5), (39, 299), (7, 8))]
            np.testing.assert_allclose(one_by_one, made[[0, 0, 3, 39, 7], [0, 3, 5, 299, 8]], atol=1e-13)
            full = np.broadcast_arrays(q1[:, None], q2)
            order = rng.permutation(c.size)
            flat = [a.ravel()[order] for a in (*full, c)]
            np.testing.assert_allclose(g(*full, c), made, atol=1e-13)
            np.testing.assert_allclose(g(q2, q1[:, None], c), made, atol=1e-13)
            np.testing.assert_allclose(g(q2[:, None], q1, c.T), made.T, atol=1e-13)
            np.testing.assert_allclose(g(*flat), made.ravel()[order], atol=1e-13)
            np.testing.assert_allclose(g(q1[:, None, None], q2[:10], c[:, None, :10])[:, 0], made[:, :10])
            same = rho[:, :60] * q1[5]
            np.testing.assert_allclose(g(q1[5], q1[5], same), g(np.full(60, q1[5]), q1[5], same), atol=1e-13)
    assert dual("tanh")(np.ones((0, 3)), 1.0, 0.5).shape == (0, 3)


def test_more_variances_than_are_numbered():
    rng = np.random.default_rng(0)
    q = rng.uniform(0.5, 1.5, 10_000)
    d = dual(lambda u: np.log1p(np.exp(u)))
    made = d(q, q[::-1], 0.3)
    at = [0, 4095, 4096, 9999]
    np.testing.assert_allclose(made[at], [d(q[k], q[-1 - k], 0.3) for k in at], rtol=1e-13)
    with pytest.raises(InputError, match=r"c = 2 exceeds .* entry"):
        d(q, q[::-1], np.where(np.arange(q.size) == 5000, 2.0, 0.3))


def test_narrow_places_at_large_variances():
    """A bump of width 1 is seen at variance 1e4, and steps of undeclared kinks at dyadic points."""
    bump = dual(lambda u: np.exp(-0.5 * u * u))
    for q, c in ((1e4, 5e3), (1e4, 1e4), (1e6, -1e6)):
        exact = 1.0 / np.sqrt((1 + q) ** 2 - c * c)
        made = bump.estimate(q, q, c)
        assert abs(made.value - exact) <= made.error < 1e-10
    for step in (0.375, 0.0, -1.25):
        made = dual(lambda u, s=step: (u > s) * 1.0).estimate(1.0, 1.0, 0.0)
        assert abs(made.value - ndtr(-step) ** 2) <= made.error < 1e-12


def test_what_is_narrow_beside_a_mean():
    """e^{-u^2} sin u at variance 1e4 is nothing at all of the points on which ranges are looked for."""
    q, mean = np.array([1e4, 1.0]), np.array([0.0, 0.5])
    made = dual("gabor").estimate(q, q, 0.5 * q, mean, mean)
    closed = dual("gabor").estimate(q[0], q[0], 0.5 * q[0]).value
    square = (1.0 - np.exp(-2e4 / 40001.0)) / (2.0 * np.sqrt(40001.0))  # E e^{-2 u^2} sin^2 u
    assert prepare(functions.get("gabor"), q, mean).second[0] == pytest.approx(square, rel=1e-11)
    assert made.value[0] == pytest.approx(closed, abs=1e-14 * square)
    alone = dual("gabor").estimate(q[1], q[1], 0.5 * q[1], mean[1], mean[1]).value
    assert made.value[1] == pytest.approx(alone, rel=1e-12)


def test_co_correlation_of_the_boundary():
    np.testing.assert_array_equal(
        gap(np.ones(3), np.ones(3), np.array([1.0, -1.0, 1.0 - 1e-17])), [0.0, -0.0, 0.0]
    )
    assert np.signbit(gap(np.ones(1), np.ones(1), -np.ones(1)))[0]
    big = 1e200
    np.testing.assert_allclose(gap(np.array([big]), np.array([big]), np.array([0.5 * big])), 0.5)


def test_the_peers_fixed_rule():
    f = functions.get("elementwise_numerical", fn="tanh", deg=20)
    q = np.array([0.7, 1.3])
    rows = prepare(f, q)
    block = np.array([[0.0, 0.4], [-0.3, 1e-9]])
    out, d = evaluate(rows, rows, block)
    x, w = np.polynomial.hermite.hermgauss(20)
    for i in range(2):
        for j in range(2):
            c = rho_of(block)[i, j] * np.sqrt(q[i] * q[j])
            v = c / np.sqrt(q[i] / 2) * x[:, None] + np.sqrt(2 * max(q[j] - c * c / q[i], 0.0)) * x
            exact = (w[:, None] * w * np.tanh(np.sqrt(2 * q[i]) * x)[:, None] * np.tanh(v)).sum() / np.pi
            assert abs(rho_of(out)[i, j] * np.sqrt(rows.second[i] * rows.second[j]) - exact) < 1e-8
            assert d[i, j] > 0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda d: d(-1, 1, 0), InputError, "q1 is a variance"),
        (lambda d: d(1, 1, 1.1), InputError, "c = 1.1 exceeds"),
        (lambda d: d(1, np.nan, 0), InputError, "q2 must be finite"),
        (lambda d: d([1, 1], [[1], [np.nan]], 0), InputError, r"q2 must be finite: entry \[1, 0\] is nan"),
        (lambda d: d([1, -2], 1, 0), InputError, r"q1 is a variance .*: entry \[1\] is -2"),
        (lambda d: d([1, 1], [[1], [1]], [[0, 0], [1.1, 0]]), InputError, r"c = 1.1 .* at entry \[1, 0\]"),
        (
            lambda d: d(np.ones((40, 1)), np.ones(40), np.full((40, 40), np.nan)),
            InputError,
            "c must be finite",
        ),
        (lambda d: dual("relu")([1, 1], 1, [0.5, -1.5]), InputError, r"c = -1.5 .* at entry \[1\]"),
        (lambda d: dual(lambda u: u[:3])(1, 1, 0), LimitError, "elementwise"),
        (lambda d: dual(lambda u: float(u))(1, 1, 0), LimitError, "raised TypeError"),
        (lambda d: dual(lambda u: 1j * u)(1, 1, 0), LimitError, "real"),
        (lambda d: dual(lambda u: np.exp(u * u))([0.1, 0.1], [0.1, 3.0], 0), LimitError, r"entry \[1\]"),
        (lambda d: dual("exp")([1.0, 2000.0], 1.0, 0.0), LimitError, r"overflows .*entry \[1\]"),
        (lambda d: dual("cbrt").derivative(1, 1, 0.5), LimitError, "infinite"),
        (lambda d: d(1, 1, 0, mean2=np.inf), InputError, "mean2 must be finite"),
        (lambda d: d([1, 2], [1, 2, 3], 0), InputError, "broadcast"),
        (lambda d: d("a", 1, 0), InputError, "q1 must be a real number"),
        (lambda d: dual("mul"), ProgramError, "one vector"),
        (lambda d: dual(lambda u: np.exp(u * u))(1, 1, 0), LimitError, "does not exist"),
        (lambda d: dual("exp")(2000.0, 1.0, 0.0), LimitError, "overflows"),
        (lambda d: prepare(functions.tanh, [np.nan]), LimitError, "finite"),
        (lambda d: evaluate(prepare(d.f, [1.0]), prepare(d.f, [1.0]), np.zeros((2, 1))), InputError, "shape"),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call(dual("tanh"))


def test_functions_of_several_kinds_meet():
    """A closed form with a scalar against another one: both by their series."""
    q = np.array([0.5, 2.0])
    f = functions.get("exp_normalized")
    rows, cols = prepare(f, q, scalars=(q,)), prepare(functions.relu, q)
    e = np.array([[0.4, -0.7], [0.9, 0.2]])
    out, _ = evaluate(rows, cols, e)
    z, w = np.polynomial.hermite_e.hermegauss(150)
    for i, j in np.ndindex(2, 2):
        rho = rho_of(e[i, j])
        sd = np.sqrt(q[j] * (1 - rho * rho))
        m = rho * np.sqrt(q[j]) * z
        ramp = m * ndtr(m / sd) + sd * np.exp(-((m / sd) ** 2) / 2) / np.sqrt(2 * np.pi)
        truth = (f(np.sqrt(q[i]) * z, q[i]) * ramp) @ w / w.sum()
        made = rho_of(out[i, j]) * np.sqrt(rows.second[i] * cols.second[j])
        assert made == pytest.approx(truth, rel=1e-11)


def test_fixed_rules_of_two_functions():
    """E f(u) g(v) by one Gauss-Hermite rule, of smooth functions that it integrates well."""
    q, e = np.array([0.5, 1.0]), np.array([[0.4, -0.7], [0.9, 0.2]])
    f, g = functions.get("sin"), functions.get("sin", c=0.3)
    rule = [functions.get("elementwise_numerical", fn=h, deg=40) for h in (f, g)]
    out, d = evaluate(prepare(rule[0], q), prepare(rule[1], q), e)
    exact, slope = evaluate(prepare(f, q), prepare(g, q), e)
    np.testing.assert_allclose(rho_of(out), rho_of(exact), atol=1e-12)
    np.testing.assert_allclose(d, slope, atol=1e-12)
    i, j = np.array([0, 1, 1]), np.array([1, 0, 1])
    some, steep = entries(prepare(rule[0], q), prepare(rule[1], q), i, j, e[i, j], np.float64, True)
    np.testing.assert_allclose(some, out[i, j], rtol=1e-14)
    np.testing.assert_allclose(steep, d[i, j], rtol=1e-14)
