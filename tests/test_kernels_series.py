"""The series strip against 50-digit sums and against functions whose dual is known in closed form."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest

import tpnum as tp
from tests.oracle.roads import CELLS, GENERAL, MACHINE, kernels
from tpnum import nn
from tpnum.kernels.series import EVEN, NONE, ODD, closest_of, series
from tpnum.tiles.cells import CellWorker

GAPS = [0.0, 1e-28, 1e-14, 1e-9, 1e-5, 3e-3, 0.02, 0.3, 0.8]
STATES = np.array([*GAPS, 1.0, *(-g for g in GAPS)])
# sin u, cos u, e^u under N(0, q): coefficients +-e^{-+q/2} q^{n/2}/sqrt(n!), n odd, even, any
STEP = {ODD: (1, 2), EVEN: (0, 2), NONE: (0, 1)}


def coefficients(parity, q, terms, mean=0.0):
    """Unit vectors (terms, len(q)) and their lengths |alpha|."""
    first, step = STEP[parity]
    n = first + step * np.arange(terms)
    sign = 1 - 2 * (np.arange(terms) % 2) if parity != NONE else np.ones(terms)
    decay = np.exp(np.asarray(q) * (0.5 if parity == NONE else -0.5) + mean)
    alpha = (
        (sign / np.array([math.sqrt(math.factorial(k)) for k in n]))[:, None]
        * np.sqrt(q) ** n[:, None]
        * decay
    )
    norm = np.sqrt((alpha**2).sum(0))
    return alpha / norm, norm


def closed(parity, q1, q2, rho):
    """E f f and E f' f' of sin, cos, exp."""
    c = mp.sqrt(mp.mpf(q1) * q2) * rho
    if parity == NONE:
        both = mp.exp((mp.mpf(q1) + q2) / 2 + c)
        return both, both
    damp = mp.exp(-(mp.mpf(q1) + q2) / 2)
    odd, even = damp * mp.sinh(c), damp * mp.cosh(c)
    return (odd, even) if parity == ODD else (even, odd)


def run(parity, q1, q2, states, dtype, terms=36, used=None, same=True, want=True):
    e = np.asarray(states, dtype)
    a, alpha = coefficients(parity, np.array([9.0, q1]), terms)
    b, beta = coefficients(parity, np.full(e.size + 3, q2), terms)
    scale = (alpha / np.sqrt([9.0, q1])).astype(dtype), (beta / np.sqrt(q2)).astype(dtype)
    rows, columns = np.ascontiguousarray(a.T.astype(dtype)), np.ascontiguousarray(b.astype(dtype))
    columns[:, :3] = np.nan
    out, d = np.empty_like(e), np.empty_like(e)[: e.size if want else 0]
    series(
        e,
        (rows.ravel(), terms, 1),
        columns,
        *scale,
        1,
        3,
        terms if used is None else used,
        parity,
        same,
        out,
        d,
    )
    return out, d


def exact_rho(e):
    return (1 - abs(mp.mpf(float(e)))) * (-1 if np.signbit(e) else 1)


def correlation(e):
    return np.where(np.signbit(e), -1.0, 1.0) * (1 - np.abs(e))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("parity", [NONE, EVEN, ODD])
def test_states_keep_their_digits(parity, dtype):
    eps = float(np.finfo(dtype).eps)
    for q in (1e-3, 0.3, 1.0, 2.0):
        for step in (0.0, 1e-9, 1e-4, 0.05, 0.5):
            q1, q2 = float(dtype(q)), float(dtype(q * (1 + step)))
            whole, d = run(parity, q1, q2, STATES, dtype)
            alone, _ = run(parity, q1, q2, STATES, dtype, want=False)
            np.testing.assert_allclose(alone, whole, rtol=4 * eps, atol=eps)
            with mp.workdps(50):
                m = mp.sqrt(closed(parity, q1, q1, 1)[0] * closed(parity, q2, q2, 1)[0])
                top = mp.sqrt(closed(parity, q1, q1, 1)[1] * closed(parity, q2, q2, 1)[1])
                for e, got, slope in zip(STATES.astype(dtype), whole, d, strict=True):
                    second, first = closed(parity, q1, q2, exact_rho(e))
                    want = second / m
                    sign = -1 if np.signbit(got) else 1
                    error = abs((1 - sign * want) - abs(mp.mpf(float(got))))
                    sharp = want > 0 if parity == NONE else True
                    bound = mp.sqrt(abs(1 - abs(want))) + eps if sharp else 1
                    assert error <= 16 * eps * bound, (q, step, float(e), float(got), float(want))
                    assert abs(mp.mpf(float(slope)) - first) <= 16 * eps * top, (q, step, float(e))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("terms", [1, 2, 3, 7, 8, 9, 12, 17, 40])
def test_any_number_of_terms(terms, dtype):
    """All terms, or the first few of them, of arbitrary coefficient vectors; strips longer than a block."""
    rng = np.random.default_rng(terms)
    size = 1500
    a, b = rng.normal(size=(3, terms)), rng.normal(size=(terms, size))
    a, b = a / np.linalg.norm(a, axis=1)[:, None], b / np.linalg.norm(b, axis=0)
    rs, cs = rng.uniform(1, 2, 3), rng.uniform(1, 2, size)
    e = rng.uniform(-1, 1, size)
    a, b, rs, cs, e = (np.ascontiguousarray(x.astype(dtype)) for x in (a, b, rs, cs, e))
    rho = correlation(e.astype(float))
    eps = np.finfo(dtype).eps
    for parity, (first, step) in STEP.items():
        for used in {terms, (terms + 1) // 2}:
            n = first + step * np.arange(used)
            c = a[2, :used, None].astype(float) * b[:used]
            value = np.sum(c * rho ** n[:, None], axis=0)
            slope = rs[2] * cs * np.sum(c * n[:, None] * rho ** np.maximum(n - 1, 0)[:, None], axis=0)
            state, d = np.empty_like(e), np.empty_like(e)
            series(e, (a.ravel(), 2 * terms, 1), b, rs, cs, 2, 0, used, parity, False, state, d)
            inside = np.abs(value) < 1
            np.testing.assert_allclose(correlation(state)[inside], value[inside], rtol=0, atol=20 * eps)
            np.testing.assert_allclose(d, slope, rtol=0, atol=40 * eps * (1 + np.abs(slope).max()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("parity", [NONE, EVEN, ODD])
def test_duplicates_and_antipodes(parity, dtype):
    for q in (1e-3, 0.7, 2.0):
        out, _ = run(parity, q, q, [0.0, -0.0], dtype)
        assert out[0] == 0 and not np.signbit(out[0])
        if parity != NONE:
            assert out[1] == 0 and np.signbit(out[1]) == (parity == ODD)


@pytest.mark.parametrize("parity", [NONE, EVEN, ODD])
def test_in_place_and_near_pairs_among_far_ones(parity):
    rng = np.random.default_rng(1)
    size = 2100
    q = rng.uniform(0.5, 1.5, size)
    b, beta = coefficients(parity, q, 20)
    scale = beta / np.sqrt(q)
    a = np.ascontiguousarray(b[:, :1].T)
    e = rng.uniform(0.05, 1, size) * rng.choice([-1, 1], size)
    plain, d = np.empty(size), np.empty(size)
    series(e, (a.ravel(), 0, 1), b, scale[:1], scale, 0, 0, 20, parity, True, plain, d)
    e[[5, 700, 2000]] = 1e-9, -1e-5, 1e-4
    mixed, d_mixed = np.empty(size), np.empty(size)
    series(e, (a.ravel(), 0, 1), b, scale[:1], scale, 0, 0, 20, parity, True, mixed, d_mixed)
    rest = np.setdiff1d(np.arange(size), [5, 700, 2000])
    np.testing.assert_allclose(correlation(mixed)[rest], correlation(plain)[rest], rtol=0, atol=2e-15)
    np.testing.assert_allclose(d_mixed[rest], d[rest], rtol=0, atol=1e-14 * np.abs(d).max())
    again = np.empty(size)
    series(e, (a.ravel(), 0, 1), b, scale[:1], scale, 0, 0, 20, parity, True, e, again)
    np.testing.assert_array_equal(e, mixed)
    np.testing.assert_array_equal(again, d_mixed)


def test_nonzero_mean_is_another_coefficient_vector():
    """e^{mu + u} has the correlation of e^u, and slopes e^{mu + mu'} times as large."""
    q1, q2, mean = 0.4, 0.9, 0.3
    e = np.array([0.2, -0.7])
    a, alpha = coefficients(NONE, np.array([q1]), 24, mean)
    b, beta = coefficients(NONE, np.array([q2, q2]), 24)
    out, d = np.empty(2), np.empty(2)
    rows = np.ascontiguousarray(a.T)
    series(e, (rows.ravel(), 0, 1), b, alpha / np.sqrt(q1), beta / np.sqrt(q2), 0, 0, 24, NONE, False, out, d)
    for k in range(2):
        value, slope = closed(NONE, q1, q2, exact_rho(e[k]))
        norm = mp.sqrt(closed(NONE, q1, q1, 1)[0] * closed(NONE, q2, q2, 1)[0])
        assert correlation(out)[k] == pytest.approx(float(value / norm), abs=1e-15)
        assert d[k] == pytest.approx(float(slope) * math.exp(mean), rel=1e-14)


def test_collinear_inputs_of_very_different_lengths():
    """Where rho = 1 and the coefficients of one side are cut off: not counted as those of the other."""
    lengths = np.array([0.4, 0.45, 3.6, 9.9])
    net = nn.serial(nn.Dense(1), nn.Tanh(), nn.Dense(1))
    x = np.concatenate([lengths, lengths + 1e-9, -lengths])[:, None]
    z = np.linspace(-12.0, 12.0, 40_001)
    w = np.exp(-0.5 * z * z)
    w /= w.sum()
    f = np.tanh(x * z)
    want = (f * w) @ f.T
    np.testing.assert_allclose(tp.kernel(net, x), want, rtol=0, atol=1e-12)
    for k in range(len(x)):  # among others, and by itself
        np.testing.assert_allclose(tp.kernel(net, x[:1], x[[k]]), want[:1, [k]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 3, 8, 31, 64, 257])
def test_the_closest_pair_of_a_strip(size, dtype):
    e = np.random.default_rng(size).uniform(-1, 1, size).astype(dtype)
    given = e.copy()
    assert closest_of(e, np.full(size + 3, -1, dtype)) == np.abs(e).min()
    np.testing.assert_array_equal(e, given)


@pytest.mark.parametrize("activation, w_std", [(nn.Tanh(), 3.0), (nn.Sigmoid(), 9.0)])
@pytest.mark.parametrize("dtype, bound", [(np.float64, 1e-12), (np.float32, 2e-6)])
def test_a_variable_and_itself_where_no_series_converges(activation, w_std, dtype, bound, monkeypatch):
    """Of smooth functions of large variances: exact without the general path, and so are duplicates."""

    def conv():
        return nn.Conv(8, (3,), padding="SAME", W_std=w_std)

    net = nn.serial(conv(), activation, conv(), activation, nn.GlobalAvgPool(), nn.Dense(1))
    x = np.random.default_rng(7).standard_normal((6, 4, 3))
    x[3] = x[1]
    want, _ = kernels(net, x, get=("nngp", "ntk"), road=GENERAL)
    monkeypatch.delattr(CellWorker, "general")
    made, road = kernels(net, x, get=("nngp", "ntk"), dtype=dtype)
    assert road == CELLS
    for got, k in zip(made, want, strict=True):
        np.testing.assert_allclose(got, k, rtol=0, atol=bound * np.abs(k).max())


@pytest.mark.parametrize("function", ["tanh", "hard_tanh"])
@pytest.mark.parametrize("var", [0.1, 9.0])
def test_one_function_about_opposite_means(function, var):
    """E f^2 and E f'^2 agree, but f(u + m) and f(u - m) of the same u are not correlated with rho' = 1."""
    p = tp.Program()
    u = p.matrix("W", var=var, cols="d", trained=True) @ p.data("x", channels="d")
    one = p.ones("n")
    up, down = (p.apply(tp.functions.get(function), u + shift * one) for shift in (0.8, -0.8))
    p.output(p.matrix("V", trained=True) @ (up + down))
    x = np.random.default_rng(8).standard_normal((5, 4))
    x[1] = x[0]
    want, _ = kernels(p, x, get=("nngp", "ntk"), road=GENERAL)
    made, road = kernels(p, x, get=("nngp", "ntk"), dtype=np.float32)
    assert road == MACHINE
    for got, k in zip(made, want, strict=True):
        np.testing.assert_allclose(got, k, rtol=0, atol=3e-6 * np.abs(k).max())
