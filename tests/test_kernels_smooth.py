"""The strips of the smooth activations against 60-digit closed forms, and those against quadrature."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from scipy import special

from tpnum.errors import LimitError
from tpnum.gauss.closed.smooth import FAMILIES
from tpnum.kernels import duals

ERF_PAIR = (0.5, 0.7071067811865476, 0.5)
CASES = [
    ("erf", (1.3, 0.8, 0.0)),
    ("erf", ERF_PAIR),
    ("gelu", ()),
    ("sin", (1.0, 1.2, 0.0)),
    ("sin", (0.7, 1.0, np.pi / 2)),
    ("sin", (2.0**0.5, 1.4, np.pi / 4)),
    ("exp", (0.6, 0.5)),
    ("exp_normalized", (1.5, -1.0)),
    ("gauss", (1.2, -1.0)),
    ("gabor", ()),
]
ODD = {("erf", (1.3, 0.8, 0.0)), ("sin", (1.0, 1.2, 0.0)), ("gabor", ())}
GAPS = [0.0, 1e-28, 1e-14, 1e-9, 1e-6, 1e-3, 7e-3, 0.05, 0.5, 0.9]
STATES = np.array([*GAPS, 1.0, *(-g for g in GAPS)])


def function(name, params):
    """f and f' of a case (`exp_normalized` is no function of u alone)."""
    if name == "erf":
        a, b, c = params
        return (
            lambda u: a * special.erf(b * u) + c,
            lambda u: 2 * a * b / np.sqrt(np.pi) * np.exp(-((b * u) ** 2)),
        )
    if name == "gelu":
        pdf = lambda u: np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi)  # noqa: E731
        return lambda u: u * special.ndtr(u), lambda u: special.ndtr(u) + u * pdf(u)
    if name == "sin":
        a, b, c = params
        return lambda u: a * np.sin(b * u + c), lambda u: a * b * np.cos(b * u + c)
    if name == "exp":
        a, b = params
        return lambda u: a * np.exp(b * u), lambda u: a * b * np.exp(b * u)
    if name == "gauss":
        a, b = params
        return lambda u: a * np.exp(b * u * u), lambda u: 2 * a * b * u * np.exp(b * u * u)
    return (
        lambda u: np.exp(-u * u) * np.sin(u),
        lambda u: np.exp(-u * u) * (np.cos(u) - 2 * u * np.sin(u)),
    )


def exact(name, params, q1, q2, rho):
    """E f(u) f(v) in mpmath, as the textbook writes it (any type of number that mpmath takes)."""
    q1, q2, rho = mp.mpf(q1), mp.mpf(q2), mp.mpf(rho)
    c = mp.sqrt(q1 * q2) * rho
    par = [mp.mpf(x) for x in params]
    if name == "erf":
        a, b, shift = par
        x = 2 * b * b * c / mp.sqrt((1 + 2 * b * b * q1) * (1 + 2 * b * b * q2))
        return 2 * a * a / mp.pi * mp.asin(x) + shift**2
    if name == "gelu":
        room = (1 + q1) * (1 + q2)
        angle = mp.mpf(1) / 4 + mp.asin(c / mp.sqrt(room)) / (2 * mp.pi)
        return c * angle + (q1 * q2 - c * c + c * c / (1 + q1) + c * c / (1 + q2)) / (
            2 * mp.pi * mp.sqrt(room - c * c)
        )
    if name == "sin":
        a, b, shift = par
        even = mp.mpf(0) if shift == 0 else mp.sin(shift) ** 2
        odd = mp.mpf(0) if abs(mp.cos(shift)) < 1e-15 else mp.cos(shift) ** 2
        k = b * b * c
        return a * a * mp.exp(-b * b * (q1 + q2) / 2) * (even * mp.cosh(k) + odd * mp.sinh(k))
    if name == "exp":
        a, b = par
        return a * a * mp.exp(b * b * (q1 + q2 + 2 * c) / 2)
    if name == "exp_normalized":
        gamma, shift = par
        return mp.sqrt(q1 * q2) * mp.exp(gamma * (rho + shift))
    if name == "gauss":
        a, b = par
        return a * a / mp.sqrt((1 - 2 * b * q1) * (1 - 2 * b * q2) - 4 * b * b * c * c)
    room = (1 + 2 * q1) * (1 + 2 * q2) - 4 * c * c
    return mp.exp((1 + q1 + q2) / (2 * room) - mp.mpf(1) / 2) * mp.sinh(c / room) / mp.sqrt(room)


def slope(name, params, q1, q2, state):
    """E f'(u) f'(v) = d/dc E f f (Price), by a numerical derivative: analytic in rho within the unit disc."""
    with mp.workdps(40):
        h = mp.mpf(10) ** -12
        rho = mp.sign(state) * (1 - abs(mp.mpf(state)))
        rise = exact(name, params, q1, q2, rho + h) - exact(name, params, q1, q2, rho - h)
        return rise / (2 * h * mp.sqrt(mp.mpf(q1) * q2))


def run(name, params, q1, q2, states, dtype, want=True):
    """The strip of one row of variance q1 and columns of variance q2."""
    family = FAMILIES[name]
    e = np.asarray(states, dtype)
    rows = family.profile(np.array([9.0, q1]), params).astype(dtype)
    columns = np.repeat(family.profile(np.array([q2]), params), e.size + 2, 1).astype(dtype)
    # two parameters of another operation and two columns of another strip come first
    rows = np.ascontiguousarray(np.vstack([np.full((2, 2), np.nan, dtype), rows]))
    columns = np.ascontiguousarray(np.vstack([np.full((2, e.size + 2), np.nan, dtype), columns]))
    columns[:, :2] = np.nan
    out, d = np.empty_like(e), np.empty_like(e)[: e.size if want else 0]
    duals.named(family.strip)(e, rows, columns, 2, 1, 2, out, d)
    return out, d


def correlation(e):
    return np.where(np.signbit(e), -1.0, 1.0) * (1 - np.abs(e))


@pytest.mark.parametrize(("name", "params"), [c for c in CASES if c[0] != "exp_normalized"])
def test_closed_forms_are_the_expectations_of_the_functions(name, params):
    x, w = np.polynomial.hermite_e.hermegauss(150)
    w = w / w.sum()
    f, g = function(name, params)
    q1, q2, rho = 0.7, 1.6, -0.35
    u = np.sqrt(q1) * x[:, None]
    v = np.sqrt(q2) * (rho * x[:, None] + np.sqrt(1 - rho * rho) * x)
    family = FAMILIES[name]
    weights = w[:, None] * w
    np.testing.assert_allclose(
        np.sum(weights * f(u) * f(v)), float(exact(name, params, q1, q2, rho)), rtol=1e-8
    )
    np.testing.assert_allclose(
        np.sum(weights * g(u) * g(v)), float(slope(name, params, q1, q2, -1 - rho)), rtol=1e-7
    )
    q = np.array([q1, q2])
    z = np.sqrt(q)[:, None] * x
    for quantity, value in (
        (family.moment, f(z) ** 2),
        (family.mean, f(z)),
        (family.slope, g(z)),
        (family.slope_moment, g(z) ** 2),
    ):
        np.testing.assert_allclose(quantity(q, params), value @ w, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(("name", "params"), CASES)
@pytest.mark.parametrize("q", [1e-12, 1e-4, 0.4, 3.0, 1e4])
def test_moments_keep_their_digits(name, params, q):
    if name == "exp":
        q = min(q, 20.0)
    family = FAMILIES[name]
    with mp.workdps(60):
        moment = exact(name, params, q, q, 1)
        steep = mp.diff(lambda r: exact(name, params, q, q, r), mp.mpf(1) - mp.mpf(10) ** -20) / mp.mpf(q)
        mean = mp.sqrt(exact(name, params, q, q, 0))
    at = np.array([q])
    np.testing.assert_allclose(family.moment(at, params), float(moment), rtol=2e-14)
    np.testing.assert_allclose(family.slope_moment(at, params), float(steep), rtol=1e-13)
    np.testing.assert_allclose(family.mean(at, params), float(mean), rtol=2e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "params"), CASES)
def test_states_keep_their_digits(name, params, dtype):
    """Error of 1 - |rho'|: eps sqrt(1 - |rho'|) near 1 (and -1 if odd), eps elsewhere, times `loss`."""
    eps = float(np.finfo(dtype).eps)
    for q in (1e-12, 1e-6, 0.2, 0.6, 3.0, 100.0, 1e4):
        if name == "exp" and q > 10:
            continue
        # a phase g = b sqrt q stored with an error eps g: nothing can undo that
        loss = 16.0 * (1 + np.sqrt(q) * (params[1] if name == "sin" else 0))
        for step in (0.0, 1e-14, 1e-9, 1e-5, 0.01, 0.5, 20.0):
            q1, q2 = float(dtype(q)), float(dtype(q * (1 + step)))
            whole, _ = run(name, params, q1, q2, STATES, dtype, want=False)
            single = np.concatenate(
                [run(name, params, q1, q2, STATES[k : k + 1], dtype)[0] for k in range(0, 21, 4)]
            )
            np.testing.assert_allclose(correlation(whole[::4][:6]), correlation(single), rtol=0, atol=8 * eps)
            with mp.workdps(60):
                m = mp.sqrt(exact(name, params, q1, q1, 1) * exact(name, params, q2, q2, 1))
                for e, got in zip(STATES.astype(dtype), whole, strict=True):
                    rho = (1 - abs(mp.mpf(float(e)))) * (-1 if np.signbit(e) else 1)
                    want = exact(name, params, q1, q2, rho) / m
                    sign = -1 if np.signbit(got) else 1
                    error = abs((1 - sign * want) - abs(mp.mpf(float(got))))
                    digits = want > 0 or (name, params) in ODD
                    bound = mp.sqrt(abs(1 - abs(want))) + eps if digits else 1
                    assert error <= loss * eps * bound, (q, step, float(e), float(got), float(want))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "params"), CASES)
def test_slopes(name, params, dtype):
    states = np.array([1e-10, 5e-3, 0.02, 0.4, 1.0, -0.6, -0.003])
    eps = float(np.finfo(dtype).eps)
    for q1, q2 in ((1e-6, 2e-6), (0.3, 0.9), (4.0, 2.0), (900.0, 1e3)):
        if name == "exp" and q1 > 10:
            continue
        q1, q2 = float(dtype(q1)), float(dtype(q2))
        family = FAMILIES[name]
        scale = np.sqrt(np.prod(family.slope_moment(np.array([q1, q2]), params)))
        for part in (states, states[2:-1]):
            e, d = run(name, params, q1, q2, part, dtype)
            want = [float(slope(name, params, q1, q2, x)) for x in part.astype(dtype).tolist()]
            loss = 1 + q1 * (params[1] ** 2 if name in ("sin", "exp") else 0)
            np.testing.assert_allclose(d, want, rtol=0, atol=12 * loss * eps * scale)
            alone, _ = run(name, params, q1, q2, part, dtype, want=False)
            np.testing.assert_allclose(e, alone, rtol=4 * eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "params"), CASES)
def test_duplicates_and_antipodes(name, params, dtype):
    for q in (1e-6, 0.3, 1.0, 7.7, 1e4):
        if name == "exp" and q > 10:
            continue
        out, _ = run(name, params, q, q, [0.0, -0.0], dtype)
        assert out[0] == 0 and not np.signbit(out[0])
        if (name, params) in ODD:
            assert out[1] == 0 and np.signbit(out[1])
        if name == "gauss" or params == (0.7, 1.0, np.pi / 2):
            assert out[1] == 0 and not np.signbit(out[1])


@pytest.mark.parametrize(("name", "params"), CASES)
def test_in_place_and_long_strips(name, params):
    """A strip gives the same wherever it is written; a near pair changes its neighbours by rounding only."""
    rng = np.random.default_rng(3)
    q = rng.uniform(0.5, 1.8, 700)
    family = FAMILIES[name]
    rows, columns = family.profile(q[:1], params), np.ascontiguousarray(family.profile(q, params))
    strip = duals.named(family.strip)
    e = rng.uniform(-1, 1, 700)
    e[np.abs(e) < 0.02] = 0.5
    far, d = np.empty(700), np.empty(700)
    strip(e, rows, columns, 0, 0, 0, far, d)
    e[[0, 333, 500]] = 1e-9, -1e-4, 2e-3
    mixed, d_mixed = np.empty(700), np.empty(700)
    strip(e, rows, columns, 0, 0, 0, mixed, d_mixed)
    rest = np.setdiff1d(np.arange(700), [0, 333, 500])
    np.testing.assert_allclose(correlation(mixed)[rest], correlation(far)[rest], rtol=0, atol=2e-15)
    np.testing.assert_allclose(d_mixed[rest], d[rest], rtol=0, atol=1e-14 * np.abs(d).max())
    again = np.empty(700)
    strip(e, rows, columns, 0, 0, 0, e, again)
    np.testing.assert_array_equal(e, mixed)
    np.testing.assert_array_equal(again, d_mixed)


@pytest.mark.parametrize("name", ["erf", "gelu", "sin"])
def test_zero_variance_makes_no_nan(name):
    params = {"erf": (1.0, 1.0, 0.0), "gelu": (), "sin": (1.0, 1.0, 0.0)}[name]
    for q1, q2 in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0)):
        out, d = run(name, params, q1, q2, STATES, np.float64)
        assert np.all(np.abs(out) <= 1 + 1e-15) and np.all(np.isfinite(d))


def test_gaussian_without_second_moment():
    with pytest.raises(LimitError, match="4 b E u\\^2 < 1"):
        FAMILIES["gauss"].profile(np.array([0.5, 1.0]), (1.0, 0.25))
    assert np.isfinite(FAMILIES["gauss"].moment(np.array([0.99]), (1.0, 0.25)))
