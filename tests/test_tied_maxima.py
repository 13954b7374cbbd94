"""Largest entries of small windows by integrals nested over ties, against the plane, samples and limits."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from tpnum.errors import AccuracyWarning
from tpnum.gauss import special
from tpnum.gauss.special.families import Family
from tpnum.gauss.special.functional import RELU, STEP, Functional
from tpnum.gauss.special.jointly import expectation
from tpnum.gauss.special.leads import exact_argmax, exact_square
from tpnum.gauss.special.pairing import Cells
from tpnum.gauss.special.tied_maxima import SHARES, VALUES, distinct, pairs

PLAIN = {"value": Functional("max"), "slope": Functional("max"), "back": Functional("max")}
FLOORED = {what: Functional("max", outer=RELU if what == "value" else STEP) for what in PLAIN}


def found(what, functional, first, second, cross, direction=None, rtol=1e-6, moments=None):
    """One pair of windows."""
    one = np.zeros(1, dtype=np.int64)
    value, error, sampled = expectation(
        what,
        (functional,) * 2,
        Cells(
            (Family(first[None]), Family(second[None])),
            (one, one),
            cross[None],
            np.zeros(1, bool),
            direction,
            moments,
        ),
        rtol,
        None,
    )
    assert not sampled
    return value[0], error[0]


def all_shares(functional, first, second, cross, rtol=1e-6):
    return found("back", functional, first, second, cross, np.ones(1), rtol)


def plane(rho, d):
    """E max u max v, of relus of them, and P(both have the same largest), of d independent pairs of
    correlation rho: by integrals over the plane of the joint distribution of both maxima."""
    from scipy.special import ndtr
    from scipy.stats import multivariate_normal

    x = np.linspace(-8.0, 8.0, 321)
    step = x[1] - x[0]
    s, t = np.meshgrid(x, x)
    joint = multivariate_normal([0, 0], [[1, rho], [rho, 1]])
    both = joint.cdf(np.stack([s, t], axis=-1))
    end = np.full(x.size, step)
    end[[0, -1]] /= 2
    half = np.where(x > 1e-9, end, 0.0)  # Gregory's rule from the edge at zero on
    half[x.size // 2 + np.arange(4)] = step * np.array([9, 28, 23, 24]) / 24
    apart = both**d - ndtr(s) ** d * ndtr(t) ** d
    mean = np.sum(end * (0.5 * (np.sign(x) + 1) - ndtr(x) ** d))
    value = end @ apart @ end + mean**2
    above = 1 - ndtr(s) ** d - ndtr(t) ** d + both**d
    floored = half @ above @ half
    equal = d * np.sum(joint.pdf(np.stack([s, t], axis=-1)) * both ** (d - 1)) * step**2
    return value, floored, equal


@pytest.mark.parametrize("rho", [0.4, 0.9])
def test_independent_pairs_are_integrals_over_the_plane(rho):
    d = 4
    value, floored, equal = plane(rho, d)
    common = 0.7  # of all entries of both windows
    a, c = np.eye(d) + common, rho * np.eye(d) + common
    made, error = found("value", PLAIN["value"], a, a, c)
    assert abs(made - value - common) < 1e-6 and error <= 1e-6
    shares, error = all_shares(PLAIN["slope"], a, a, c)
    same = np.eye(d) * equal / d + (1 - np.eye(d)) * (1 - equal) / (d * d - d)
    assert np.abs(shares - same).max() < 1e-7 and error <= 1e-6
    made, error = found("value", FLOORED["value"], np.eye(d), np.eye(d), rho * np.eye(d))
    assert abs(made - floored) < 1e-6


def covariances(seed, d, e, share=1.0):
    rng = np.random.default_rng([seed, 5])
    z = rng.standard_normal((d + e, d + e)) + share * rng.standard_normal((1, d + e))
    cov = z @ z.T / (d + e)
    return cov, (cov[:d, :d], cov[d:, d:], cov[:d, d:])


def wider(cov, d):
    """With an entry of either window that is zero, the floor."""
    at = np.concatenate([1 + np.arange(d), d + 2 + np.arange(len(cov) - d)])
    made = np.zeros((len(cov) + 2,) * 2)
    made[np.ix_(at, at)] = cov
    return made


@pytest.mark.parametrize("floor", [False, True])
@pytest.mark.parametrize(("d", "e"), [(3, 3), (2, 3), (1, 3)])
def test_small_windows_agree_with_integration_by_parts(floor, d, e):
    if floor:
        d, e = d - 1 or 1, e - 1
    cov, parts = covariances(d, d, e)
    kind = FLOORED if floor else PLAIN
    whole, first = (wider(cov, d), d + 1) if floor else (cov, d)
    value, _ = found("value", kind["value"], *parts)
    assert abs(value - special.max_second(0.0, whole, first, atol=1e-9).value) < 1e-6
    shares, _ = all_shares(kind["slope"], *parts)
    want = special.argmax_joint(0.0, whole, first, atol=1e-9).value
    np.testing.assert_allclose(shares, want[1:, 1:] if floor else want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("floor", [False, True])
def test_windows_of_four_against_samples(floor):
    cov, parts = covariances(3, 4, 4)
    x = np.linalg.cholesky(cov) @ np.random.default_rng(1).standard_normal((8, 1 << 19))
    u, v = x[:4], x[4:]
    least = 0.0 if floor else -np.inf
    every = np.maximum(u.max(axis=0), least) * np.maximum(v.max(axis=0), least)
    kind = FLOORED if floor else PLAIN
    value, error = found("value", kind["value"], *parts, rtol=1e-4)
    assert abs(value - every.mean()) < 4.5 * every.std() / len(every) ** 0.5 + error
    on = ((u == u.max(axis=0)) & (u > least)) @ ((v == v.max(axis=0)) & (v > least)).T.astype(float)
    shares, error = all_shares(kind["slope"], *parts, rtol=1e-4)
    assert np.abs(shares - on / len(every)).max() < 4.5 * (0.25 / len(every)) ** 0.5 + error


def kinds(seed):
    """Pairs of windows of all kinds: of a few factors, near ones, overlapping and smooth ones."""
    rng = np.random.default_rng([seed, 9])
    yield covariances(seed, 4, 4, rng.choice([0.0, 2.0]))[1]
    z = rng.standard_normal((8, rng.integers(1, 6)))
    few = z @ z.T
    yield few[:4, :4], few[4:, 4:], few[:4, 4:]
    z, w = rng.standard_normal((2, 4, 8))
    own = z @ z.T
    yield own, own + 10 ** rng.uniform(-8, 0) * (w @ w.T), own
    at = rng.permutation(6)[:4], rng.permutation(6)[:4]
    z = rng.standard_normal((6, 4))
    pixels = z @ z.T
    yield tuple(pixels[np.ix_(at[i], at[j])] for i, j in ((0, 0), (1, 1), (0, 1)))
    place = np.concatenate([np.indices((2, 2)).reshape(2, 4).T + s for s in (0.0, rng.uniform(0, 2, 2))])
    smooth = np.exp(-0.5 * ((place[:, None] - place) ** 2).sum(axis=-1) / 10 ** rng.uniform(-1, 3)) + 0.1
    yield smooth[:4, :4], smooth[4:, 4:], smooth[:4, 4:]


@pytest.mark.parametrize("floor", [False, True])
def test_every_order_has_its_error(floor):
    first, second, cross = (
        np.stack(part) for part in zip(*(p for s in range(6) for p in kinds(s)), strict=True)
    )
    if floor:
        first, second, cross = (np.pad(part, ((0, 0), (1, 0), (1, 0))) for part in (first, second, cross))
    one, two, each = distinct(first), distinct(second), np.arange(len(first))
    unit = np.sqrt(np.einsum("nii->ni", first).max(axis=1) * np.einsum("nii->ni", second).max(axis=1))
    for ladder, which, size in ((VALUES, 0, unit), (SHARES, 1, np.ones(len(first)))):
        right = pairs(one, two, each, each, cross, ladder[-1])[which]
        for order in ladder[:-1]:
            made = pairs(one, two, each, each, cross, order)[which]
            off = np.abs(made - right).reshape(len(each), -1).max(axis=1) / size
            assert off.max() < order.error
        assert np.isfinite(right).all()


@pytest.mark.parametrize("floor", [False, True])
def test_entries_that_are_equal_count_once(floor):
    _, (first, second, cross) = covariances(2, 3, 3)
    again = np.array([0, 0, 1, 2])
    kind = FLOORED if floor else PLAIN
    value = found("value", kind["value"], first, second, cross)[0]
    wide = first[np.ix_(again, again)], second[np.ix_(again, again)], cross[np.ix_(again, again)]
    made, error = found("value", kind["value"], *wide)
    assert abs(made - value) < error + 1e-6
    shares = all_shares(kind["slope"], first, second, cross)[0]
    made, error = all_shares(kind["slope"], *wide)
    merged = np.add.reduceat(np.add.reduceat(made, [0, 2, 3], axis=0), [0, 2, 3], axis=1)
    np.testing.assert_allclose(merged, shares, rtol=0, atol=error + 2e-6)


def test_windows_of_one_variable_and_of_none():
    ones = np.ones((4, 4))
    assert abs(found("value", PLAIN["value"], 2 * ones, 3 * ones, ones)[0] - 1.0) < 1e-6
    value = found("value", FLOORED["value"], ones, ones, 0.5 * ones)[0]
    assert abs(value - (np.sqrt(0.75) + 0.5 * (np.pi - np.arccos(0.5))) / (2 * np.pi)) < 2e-6
    assert found("value", FLOORED["value"], 0 * ones, ones, 0 * ones)[0] < 1e-6


@pytest.mark.parametrize("floor", [False, True])
def test_scales_and_order_do_not_matter(floor):
    _, (first, second, cross) = covariances(4, 4, 4)
    kind = FLOORED if floor else PLAIN
    value = found("value", kind["value"], first, second, cross)[0]
    np.testing.assert_allclose(found("value", kind["value"], second, first, cross.T)[0], value, rtol=1e-6)
    far = found("value", kind["value"], 1e40 * first, 1e-60 * second, 1e-10 * cross)[0]
    np.testing.assert_allclose(far, 1e-10 * value, rtol=1e-12)
    turn, back = np.array([2, 0, 3, 1]), np.array([3, 1, 0, 2])
    moved = first[np.ix_(turn, turn)], second[np.ix_(back, back)], cross[np.ix_(turn, back)]
    np.testing.assert_allclose(found("value", kind["value"], *moved)[0], value, rtol=1e-6)
    shares = all_shares(kind["slope"], first, second, cross)[0]
    np.testing.assert_allclose(all_shares(kind["slope"], *moved)[0], shares[np.ix_(turn, back)], atol=1e-6)


@pytest.mark.parametrize("floor", [False, True])
@pytest.mark.parametrize("rtol", [1e-3, 1e-6])
def test_a_copy_of_a_window_is_the_window(floor, rtol):
    """Also where nobody says that it is one: squares and products are the same numbers."""
    _, (own, _, _) = covariances(5, 4, 4)
    kind, least = (FLOORED, 0.0) if floor else (PLAIN, -np.inf)
    zero = np.zeros((1, 4))
    square, who = exact_square(zero, own[None], least)[0], exact_argmax(zero, own[None], least)[0]
    np.testing.assert_allclose(found("value", kind["value"], own, own, own, rtol=rtol)[0], square, rtol=1e-12)
    np.testing.assert_allclose(
        all_shares(kind["slope"], own, own, own, rtol)[0], np.diag(who), rtol=0, atol=1e-12
    )


def test_the_matrix_of_many_windows_is_positive():
    rng = np.random.default_rng(6)
    z = rng.standard_normal((24, 5, 3))
    cov = np.einsum("aic,bjc->abij", z[:, :4], z[:, :4]) + 0.1
    own = cov[np.arange(24), np.arange(24)]
    a, b = (part.ravel() for part in np.indices((24, 24)))
    k, error, _ = expectation(
        "value", (FLOORED["value"],) * 2, Cells((Family(own),) * 2, (a, b), cov[a, b], a == b), 1e-6, None
    )
    k = k.reshape(24, 24)
    np.testing.assert_allclose(k, k.T, rtol=0, atol=1e-12)
    assert np.linalg.eigvalsh(k)[0] > -24 * error.max()


def test_public_integrals_of_windows_of_four():
    cov, parts = covariances(7, 4, 4)
    made = special.max_second(0.0, np.stack([cov, 3 * cov]), rtol=1e-6)
    assert made.method == "nested quadrature" and made.error[0] < 1e-6 * cov.diagonal().max()
    np.testing.assert_allclose(made.value[1], 3 * made.value[0], rtol=1e-12)
    np.testing.assert_allclose(made.value[0], found("value", PLAIN["value"], *parts)[0], rtol=1e-6)
    who = special.argmax_joint(0.0, cov, atol=1e-5)
    np.testing.assert_allclose(who.value, all_shares(PLAIN["slope"], *parts)[0], atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        moved = special.max_second(1e-9, cov, atol=2e-3)
    assert moved.method == "smoothed qmc"
    assert abs(moved.value - made.value[0]) < 2 * moved.error
    with pytest.warns(AccuracyWarning, match="that is what its quadrature|budget"):
        special.argmax_joint(0.0, cov, atol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5])
def test_squares_and_shares_of_one_window_are_sums_over_ties(d):
    cov = np.stack([covariances(seed, d, 1)[1][0] for seed in range(8)])
    cov[4:] *= 1e-6
    cov[6:, 0] = cov[6:, :, 0] = 0.0  # a floor
    zero = np.zeros(cov.shape[:2])
    (one,) = distinct(cov)
    square = one.windows.square * one.windows.unit**2
    np.testing.assert_allclose(square, exact_square(zero, cov, -np.inf), rtol=1e-12)
    np.testing.assert_allclose(one.windows.who, exact_argmax(zero, cov, -np.inf), rtol=0, atol=1e-12)
