"""One-dimensional expectations against mpmath: smooth, kinked, jumping and growing functions."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

import tpnum as tp
from tests.oracle.moments import EXACT, KINKS, moment_mp
from tpnum import functions
from tpnum.errors import LimitError
from tpnum.gauss.hermite import series
from tpnum.gauss.moments import expectation, profile
from tpnum.gauss.pair import prepare, reach
from tpnum.gauss.spans import spanned_series

CASES = [(0.0, 1e-6), (0.0, 1.0), (0.5, 4.0), (0.0, 100.0), (1.0, 1e4)]


@pytest.mark.parametrize("name", sorted(set(EXACT) - {"exp"}))
def test_profiles_to_rounding_level(name):
    mean, q = map(np.array, zip(*CASES, strict=True))
    made = profile(functions.get(name), q, mean)
    for i, (m, v) in enumerate(CASES):
        first, second, stein = (moment_mp(name, of, m, v) for of in ("mean", "second", "slope"))
        assert abs(made.mean[i] - first) < 3e-15 * np.sqrt(second)
        assert abs(made.second[i] / second - 1) < 1e-14
        # the oracle divides by sqrt(v), which costs it digits at tiny variances, not us
        assert abs(made.slope[i] - stein) < 2e-14 * np.sqrt(made.slope_second[i])


def test_the_oracle_knows_the_kinks():
    for name in EXACT:
        assert functions.get(name).kinks == KINKS.get(name, ())


def test_growing_functions_reach_beyond_the_bulk():
    made = expectation("exp", np.array([1.0, 9.0, 49.0]), power=2)
    np.testing.assert_allclose(made.value, np.exp(2 * np.array([1.0, 9.0, 49.0])), rtol=1e-13)
    b = 0.2
    made = expectation(functions.get("gaussian", b=b), 1.0)
    np.testing.assert_allclose(made.value, (1 - 2 * b) ** -0.5, rtol=1e-13)


def test_jumps_have_an_ordinary_and_a_stein_slope():
    f = functions.get(lambda u: np.where(u > 0.37, 1.0 + u, 0.0), kinks=(0.37,))
    made = profile(f, 1.0)
    density, above = np.exp(-0.5 * 0.37**2) / np.sqrt(2 * np.pi), float(mp.ncdf(-0.37))
    np.testing.assert_allclose(made.slope, above, rtol=1e-13)
    np.testing.assert_allclose(made.stein, above + 1.37 * density, rtol=1e-13)
    np.testing.assert_allclose(made.slope_second, above, rtol=1e-13)


def test_undeclared_kinks_and_jumps_are_found():
    bent = expectation(lambda u: np.abs(u - 0.3), 1.0)
    exact = 2 * np.exp(-0.045) / np.sqrt(2 * np.pi) + 0.3 * (2 * float(mp.ncdf(0.3)) - 1)
    assert abs(bent.value - exact) < 1e-14
    jump = expectation(lambda u: (u > np.pi / 4) * 1.0, 2.0)
    assert abs(jump.value - float(mp.ncdf(-mp.pi / 4 / mp.sqrt(2)))) < 1e-12


def test_no_variance_is_the_value_at_the_mean():
    made = profile(functions.tanh, np.array([0.0, 1.0]), np.array([0.7, 0.7]))
    np.testing.assert_allclose(made.mean[0], np.tanh(0.7), rtol=1e-15)
    np.testing.assert_allclose(made.slope_second[0], (1 - np.tanh(0.7) ** 2) ** 2, rtol=1e-14)


def test_errors_cover_the_truth():
    for name in sorted(EXACT):
        for mean, q in ((0.0, 1.0), (-0.4, 30.0)):
            made = expectation(name, q, mean)
            exact = moment_mp(name, "mean", mean, q, 30)
            assert abs(made.value - exact) <= made.error <= 1e-12 * max(abs(exact), 1.0)


def test_many_variances_by_interpolation_equal_one_by_one():
    q = np.random.default_rng(0).uniform(0.5, 2.0, 400)
    for name in ("tanh", "hard_tanh", "softplus"):
        f = functions.get(name)
        many = series(f, np.zeros(q.size), q, 128)
        few = series(f, np.zeros(3), q[:3], 128)
        k = min(many.value.shape[1], few.value.shape[1])
        np.testing.assert_allclose(many.value[:3, :k], few.value[:, :k], atol=5e-14)
        np.testing.assert_allclose(many.profile.second[:3], few.profile.second, rtol=5e-14)


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("kept", [range(40), range(1, 41, 2)])
@pytest.mark.parametrize("q", [[0.0, 0.3, 0.9, 1.1, 3.0, 7.0, 0.0, 20.0], [1.1, 1.2, 3.0, 2.0]])
def test_coefficients_across_are_those_of_rows(q, kept, lanes):
    """Of rows of several spans, some without a variance, and of one span, in blocks of lanes."""
    f = functions.get("softplus")
    q = np.array(q)
    for made in (series(f, np.zeros(q.size), q, 64), spanned_series(f, q)):
        which = np.random.default_rng(1).integers(0, q.size, (6, lanes))
        out = np.full((6, len(kept), lanes), np.nan)
        made.fill(which, kept, out)
        want = made.unit(which.ravel(), kept).reshape(6, lanes, -1).transpose(0, 2, 1)
        np.testing.assert_allclose(out, want, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ["tanh", "hard_tanh", "sin", "sign"])
def test_tables_over_spans_of_the_variance_equal_one_by_one(name):
    """Coefficients, profiles and tails over six spans, a row without variance among them."""
    f = functions.get(name)
    q = np.concatenate([[0.0], np.geomspace(0.07, 60.0, 90)])
    some = [0, 3, 41, 66, 90]
    made, one = spanned_series(f, q), series(f, np.zeros(5), q[some])
    k = range(min(made.degrees, one.degrees))
    np.testing.assert_allclose(made.unit(np.array(some), k), one.unit(np.arange(5), k), atol=1e-14)
    for what in ("second", "slope", "slope_second"):
        got, want = getattr(made.profile, what)[some], getattr(one.profile, what)
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-16)
    if made.slope is not None:
        np.testing.assert_allclose(made.slope[some], one.slope, atol=1e-14)
    for worst, tail in zip(made.worst(np.arange(91)), made.tails(np.arange(91)), strict=True):
        largest = tail.max(axis=0)
        assert np.all((largest <= worst) & (worst <= 2.0 * largest))


def test_tables_serve_near_pairs_of_tanh_at_variances_up_to_six():
    """Where they did not, one near pair sent the steps of a whole row to quadrature."""
    rows = prepare(functions.tanh, np.linspace(0.1, 6.0, 60))
    _, reached = reach(rows, rows, np.dtype(np.float64), True)
    assert reached[-1] == 1.0


def test_series_tails_are_what_is_missing():
    made = series(functions.relu, np.zeros(1), np.ones(1), 256)
    k = made.ladder
    missing = 1.0 - np.cumsum(made.value[0] ** 2)[k - 1]
    np.testing.assert_allclose(made.tail[0], missing, rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: expectation(functions.get("gaussian", b=0.3), 2.0), "must stay below 1.66667"),
        (lambda: expectation(lambda u: np.exp(u * u), 1.0), "does not exist"),
        (lambda: expectation("log", 1.0), "undefined"),
        (lambda: expectation("exp", 1e4), "overflows"),
        (lambda: expectation("reciprocal", 1.0), "infinite at u = 0"),
        (lambda: expectation(lambda u: u[:2], 1.0), "elementwise"),
    ],
)
def test_expectations_that_do_not_exist(call, words):
    with pytest.raises(LimitError, match=words):
        call()


@pytest.mark.parametrize("known", [False, True])
def test_slopes_of_what_is_nearly_constant_keep_the_digits_that_values_have(known):
    """Of 1 + 1e-6 tanh(u): a slope that is told is exact, and without it f is no worse than its rounding."""
    derivative = (lambda u: 1e-6 / np.cosh(u) ** 2) if known else None
    f = functions.Function.from_callable(lambda u: 1.0 + 1e-6 * np.tanh(u), derivative=derivative)
    q = np.array([0.5, 1.0, 4.0])
    made = 1e12 * tp.dual(f).derivative(q, q, 0.5 * q)
    np.testing.assert_allclose(made, tp.dual("tanh").derivative(q, q, 0.5 * q), rtol=1e-13 if known else 1e-9)
