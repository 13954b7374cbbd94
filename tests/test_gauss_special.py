"""Orthant probabilities, softmax moments, maxima and batch normalisation against independent oracles."""

from __future__ import annotations

import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erf, ndtr
from scipy.stats import multivariate_normal

from tests.oracle import special as oracle
from tpnum.errors import AccuracyWarning, InputError, LimitError
from tpnum.functions import Function, get
from tpnum.gauss import special

DATA = np.load(Path(__file__).parent / "data" / "batchnorm.npz")
SURE = 4.5  # standard errors of a Monte Carlo oracle


def random_law(d: int, seed: int, rank: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((d, rank or d + 1)) * np.exp(0.3 * rng.standard_normal((d, 1)))
    return 0.6 * rng.standard_normal(d), root @ root.T / root.shape[1]


def within(value: np.ndarray, error: np.ndarray, sampled: tuple[np.ndarray, np.ndarray]) -> bool:
    mean, deviation = sampled
    return bool(np.all(np.abs(value - mean) <= SURE * deviation + 2 * error + 1e-14))


# distribution functions ---------------------------------------------------------------------------------

CLOSE = [0.0, 0.2, 0.3, 0.7, 0.75, 0.9, 0.93, 0.99, 1 - 1e-4, 1 - 1e-7, 1 - 1e-11, 1.0]
BOUNDS = [(0.0, 0.0), (0.7, 0.7), (0.7, -0.4), (-1.3, 2.2), (0.5, 0.5 + 1e-4), (-2.0, -2.3), (5.0, 0.1)]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_bivariate_against_mpmath(sign: float) -> None:
    for rho, (h, k) in product(CLOSE, BOUNDS):
        made = special.normal_cdf([h, sign * k], 0.0, [[1.0, sign * rho], [sign * rho, 1.0]])
        want = oracle.bivariate_mp(h, sign * k, 1.0, 1.0, sign * rho)
        assert abs(made.value - want) < 1e-14, (rho, h, k)


def test_bivariate_with_variances_near_the_edge() -> None:
    """The covariance's own digits decide 1 - rho^2, not those of the rounded correlation."""
    for q1, q2, away in product((3.0, 1e-9), (0.7, 1e12), (1e-3, 1e-9, 3e-14)):
        c = np.sqrt(q1 * q2) * (1 - away)
        made = special.normal_cdf([0.0, 0.0], 0.0, [[q1, c], [c, q2]])
        assert abs(made.value - oracle.bivariate_mp(0.0, 0.0, q1, q2, c)) < 2e-15
        h = (0.3 * np.sqrt(q1), 0.4 * np.sqrt(q2))
        made = special.normal_cdf(h, 0.0, [[q1, c], [c, q2]])
        assert abs(made.value - oracle.bivariate_mp(*h, q1, q2, c)) < 1e-14


def test_trivariate_against_mpmath_and_dense_quadrature() -> None:
    for seed in range(2):
        mean, cov = random_law(3, seed)
        want = oracle.trivariate_mp(1.0 - mean, cov)
        assert abs(special.normal_cdf(1.0, mean, cov).value - want) < 1e-12
    for seed in range(30):
        mean, cov = random_law(3, seed)
        made = special.normal_cdf(0.4, mean, cov)
        assert abs(made.value - oracle.conditioned(0.4 - mean, cov)) < 1e-12
        assert made.error < 1e-12


def test_four_dimensions_against_dense_quadrature() -> None:
    for seed in range(8):
        mean, cov = random_law(4, seed)
        made = special.normal_cdf([0.4, 1.0, -0.3, 0.8], mean, cov)
        want = oracle.conditioned(np.array([0.4, 1.0, -0.3, 0.8]) - mean, cov, 72)
        assert abs(made.value - want) < 1e-11
        assert made.error < 1e-11


@pytest.mark.parametrize("d", [2, 3, 4])
def test_zero_means_closed_forms(d: int) -> None:
    for rho in (0.0, 0.5, 0.9, 1 - 1e-9):
        cov = np.full((d, d), rho) + (1 - rho) * np.eye(d)
        made = special.orthant(cov).value
        if d < 4:
            want = {2: 1 / 4, 3: 1 / 8}[d] + {2: 1 / 2, 3: 3 / 4}[d] * np.arcsin(rho) / np.pi
            assert abs(made - want) < 3e-9 if rho > 0.99 else abs(made - want) < 1e-15
        if rho in (0.0, 0.5):  # exchangeable with rho = 1/2: one of d + 1 independent ones is the smallest
            assert abs(made - (1 / (d + 1) if rho else 0.5**d)) < 1e-14


@pytest.mark.parametrize("d", [3, 4])
def test_the_quadrature_agrees_with_the_closed_form_that_it_skips(d: int) -> None:
    """At zero bounds a shortcut is taken; a bound of 1e-300 goes the long way."""
    _, cov = random_law(d, 5)
    near = special.normal_cdf(np.full(d, 1e-300), 0.0, cov).value
    assert abs(near - special.orthant(cov).value) < 1e-14


def test_singular_covariances() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3))
    for d, rank in ((3, 2), (4, 3), (4, 2), (4, 1), (6, 2), (6, 4)):
        root = rng.standard_normal((d, rank))
        bound = rng.uniform(0.2, 1.5, d)
        made = special.normal_cdf(bound, 0.0, root @ root.T, atol=1e-3)
        sampled = oracle.monte_carlo(
            lambda z, root=root, bound=bound: np.all(root @ z < bound[:, None], axis=0).astype(float),
            np.zeros(rank), np.eye(rank), 400_000,
        )  # fmt: skip
        assert within(made.value, made.error, sampled), (d, rank)
    one = np.outer([1.0, 1.0, -1.0], [1.0, 1.0, -1.0])
    assert abs(special.normal_cdf([1.0, 0.5, 0.2], 0.0, one).value - (ndtr(0.5) - ndtr(-0.2))) < 1e-15
    assert special.normal_cdf([0.1, 0.5, -0.2], 0.0, one).value == 0.0
    assert special.orthant(np.zeros((2, 2))).value == 0.0
    assert special.normal_cdf(0.0, 0.0, np.zeros((2, 2))).value == 1.0
    assert abs(special.orthant([[1.0, 0.0], [0.0, 0.0]], [0.3, 1.0]).value - ndtr(0.3)) < 1e-15


def test_infinite_bounds_drop_coordinates() -> None:
    mean, cov = random_law(4, 2)
    made = special.normal_cdf([0.3, np.inf, 0.8, np.inf], mean, cov).value
    kept = np.ix_([0, 2], [0, 2])
    assert abs(made - special.normal_cdf([0.3, 0.8], mean[[0, 2]], cov[kept]).value) < 1e-14
    assert special.normal_cdf([0.3, -np.inf, 0.8, 1.0], mean, cov).value == 0.0


@pytest.mark.parametrize("d", [5, 8, 12])
def test_many_dimensions_against_one_common_factor(d: int) -> None:
    rho = np.array([0.1, 0.5, 0.9])
    cov = rho[:, None, None] + (1 - rho)[:, None, None] * np.eye(d)
    made = special.normal_cdf(0.5, 0.0, cov, atol=1e-3)
    want = np.array([oracle.equicorrelated(0.5, r, d) for r in rho])
    assert np.all(np.abs(made.value - want) < 2 * made.error)
    assert np.all(made.error < 1e-3)
    finer = special.normal_cdf(0.5, 0.0, cov[:1], atol=2e-5)
    assert abs(finer.value[0] - want[0]) < 2 * finer.error[0] < 4e-5


def test_many_dimensions_against_scipy() -> None:
    mean, cov = random_law(6, 3)
    made = special.normal_cdf(0.7, mean, cov, atol=2e-4)
    want = multivariate_normal.cdf(np.full(6, 0.7), mean, cov, abseps=1e-5, releps=1e-5, maxpts=100_000)
    assert abs(made.value - want) < made.error + 5e-5


def test_five_dimensions_factor_over_independent_blocks() -> None:
    mean, cov = random_law(5, 4)
    cov[:2, 2:] = cov[2:, :2] = 0.0
    made = special.orthant(cov, mean, atol=1e-4)
    want = special.orthant(cov[:2, :2], mean[:2]).value * special.orthant(cov[2:, 2:], mean[2:]).value
    assert abs(made.value - want) < 2 * made.error


@given(st.integers(0, 10**6), st.permutations(range(4)), st.floats(-2, 2))
def test_order_and_scale_do_not_matter(seed: int, order: list[int], shift: float) -> None:
    mean, cov = random_law(4, seed)
    scale = np.array([1.0, 3e-5, 2e7, 0.5])[order]
    one = special.normal_cdf(shift, mean, cov).value
    other = special.normal_cdf(
        shift * scale, mean[order] * scale, cov[np.ix_(order, order)] * np.outer(scale, scale)
    ).value
    assert abs(one - other) < 1e-12
    assert 0.0 <= one <= 1.0


def test_batches_give_the_bits_of_single_problems() -> None:
    laws = [random_law(3, seed) for seed in range(6)]
    mean, cov = (np.array(part).reshape((2, 3) + part[0].shape) for part in zip(*laws, strict=True))
    made = special.normal_cdf(0.2, mean, cov)
    assert made.value.shape == (2, 3)
    for index in np.ndindex(2, 3):
        assert made.value[index] == special.normal_cdf(0.2, mean[index], cov[index]).value
    assert special.normal_cdf(np.zeros((4, 1, 1, 3)), mean, cov).value.shape == (4, 2, 3)
    assert special.orthant(np.empty((0, 3, 3))).value.shape == (0,)


# gates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 3])
def test_products_of_gates_against_tensor_quadrature(d: int) -> None:
    mean, cov = random_law(d, 7)
    a = np.array([1.2, -0.7, 0.4])[:d]
    want = oracle.tensor(lambda z: ndtr(a[:, None] * z).prod(axis=0), mean, cov, 80 if d < 3 else 48)
    assert abs(special.product_of_cdfs(a, cov, mean).value - want) < 1e-12
    both = special.cdf_moments(a, cov, mean)
    first = oracle.tensor(lambda z: z * ndtr(a[:, None] * z).prod(axis=0), mean, cov, 80 if d < 3 else 48)
    second = oracle.tensor(
        lambda z: z[:, None] * z * ndtr(a[:, None] * z).prod(axis=0), mean, cov, 80 if d < 3 else 48
    )
    assert np.allclose(both.first.value, first, rtol=0, atol=1e-11)
    assert np.allclose(both.second.value, second, rtol=0, atol=1e-11)


def test_products_over_gates_and_their_complements_make_one() -> None:
    mean, cov = random_law(4, 8)
    signs = np.array(list(product((1.0, -1.0), repeat=4)))
    made = special.product_of_cdfs(0.8 * signs, cov, mean)
    assert made.value.shape == (16,)
    assert abs(made.value.sum() - 1) < 1e-13


def test_erf_gates() -> None:
    """E sig(x) sig(y), sig = (1 + erf)/2, in closed form: 1/4 + asin(2c/sqrt((1+2a)(1+2b)))/(2 pi)."""
    a, b, c = 0.7, 2.0, -0.9
    made = special.product_of_cdfs(np.sqrt(2.0), [[a, c], [c, b]]).value
    want = 0.25 + np.arcsin(2 * c / np.sqrt((1 + 2 * a) * (1 + 2 * b))) / (2 * np.pi)
    assert abs(made - want) < 1e-15
    mean = np.array([0.3, -0.5])
    gates = oracle.tensor(lambda z: (0.5 + 0.5 * erf(z)).prod(axis=0), mean, np.array([[a, c], [c, b]]), 100)
    assert abs(special.product_of_cdfs(np.sqrt(2.0), [[a, c], [c, b]], mean).value - gates) < 1e-10


def test_a_coordinate_without_a_gate() -> None:
    mean, cov = random_law(3, 9)
    made = special.cdf_moments([1.0, 0.0, -0.6], cov, mean)
    kept = np.ix_([0, 2], [0, 2])
    alone = special.product_of_cdfs([1.0, -0.6], cov[kept], mean[[0, 2]])
    assert abs(made.probability.value - alone.value) < 1e-14
    want = oracle.tensor(lambda z: z[1] * ndtr(z[0]) * ndtr(-0.6 * z[2]), mean, cov, 48)
    assert abs(made.first.value[1] - want) < 1e-11


def test_moments_on_half_spaces_add_up_to_the_moments() -> None:
    mean, cov = random_law(4, 10)
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    one, other = (special.tail_moments(m @ mean, m @ cov @ m, 1) for m in (np.eye(4), flip))
    assert np.allclose(one.first.value + other.first.value, mean[1:], rtol=0, atol=1e-14)
    moments = cov[1:, 1:] + np.outer(mean[1:], mean[1:])
    assert np.allclose(one.second.value + other.second.value, moments, rtol=0, atol=1e-14)
    whole = special.tail_moments(mean, cov, 0)
    assert whole.probability.value == 1.0
    assert np.allclose(whole.second.value, cov + np.outer(mean, mean), rtol=0, atol=1e-14)


def test_tail_moments_against_sampling() -> None:
    mean, cov = random_law(6, 11)
    made = special.tail_moments(mean, cov, 4)

    def f(z: np.ndarray) -> np.ndarray:
        inside = np.all(z[:4] > 0, axis=0)
        return np.stack([inside, z[4] * inside, z[4] * z[5] * inside, z[5] ** 2 * inside])

    value = [made.probability.value, made.first.value[0], made.second.value[0, 1], made.second.value[1, 1]]
    assert within(np.array(value), np.zeros(4), oracle.monte_carlo(f, mean, cov, 1_000_000))


# softmax ------------------------------------------------------------------------------------------------


def test_softmax_of_two_is_a_quadrature() -> None:
    mean, cov = random_law(4, 12)
    made = special.softmax_moments(mean, cov, atol=1e-9)
    want = oracle.tensor(oracle.softmax_pair(2), mean, cov, 36)
    assert np.allclose(made.cross.value, want, rtol=0, atol=1e-8)
    assert made.cross.method == "quadrature"
    # the sigmoid of one difference, d = z_1 - z_2
    q, m = cov[0, 0] - 2 * cov[0, 1] + cov[1, 1], mean[0] - mean[1]
    one = oracle.tensor(lambda z: 1 / (1 + np.exp(-z[0])), np.array([m]), np.array([[q]]), 120)
    assert abs(made.first.value[0] - one) < 1e-9
    assert np.max(np.abs(made.cross.value - want)) <= made.cross.error.max() + 1e-8


@pytest.mark.parametrize(
    ("first", "other", "count"),
    [
        (3, 3, 2_000_000),
        (2, 5, 300_000),
        (8, 8, 300_000),
        pytest.param(3, 3, 20_000_000, marks=pytest.mark.slow),
    ],
)
def test_softmax_against_plain_sampling(first: int, other: int, count: int) -> None:
    mean, cov = random_law(first + other, 13)
    made = special.softmax_moments(mean, 2 * cov, first=first, atol=3e-4)
    sampled = oracle.monte_carlo(oracle.softmax_pair(first), mean, 2 * cov, count)
    assert within(made.cross.value, made.cross.error, sampled)
    assert abs(made.cross.value.sum() - 1) < 1e-13
    assert np.allclose(made.cross.value.sum(axis=1), made.first.value, rtol=0, atol=1e-13)
    assert np.allclose(made.cross.value.sum(axis=0), made.second.value, rtol=0, atol=1e-13)


def test_softmax_of_the_same_logits_twice_and_of_shifted_ones() -> None:
    mean, cov = random_law(4, 14)
    twice = special.softmax_moments(np.tile(mean, 2), np.tile(cov, (2, 2)), atol=1e-3)
    assert np.allclose(twice.cross.value, twice.cross.value.T, rtol=0, atol=1e-15)
    assert np.linalg.eigvalsh(twice.cross.value)[0] > -1e-15
    shifted = special.softmax_moments(np.tile(mean, 2) + 700.0, np.tile(cov, (2, 2)) + 50.0, atol=1e-3)
    assert np.allclose(twice.cross.value, shifted.cross.value, rtol=0, atol=1e-12)
    still = special.softmax_moments(np.tile(mean, 2), np.zeros((8, 8)))
    assert np.allclose(still.cross.value, np.outer(*[oracle.softmax(mean)] * 2), rtol=0, atol=1e-15)


def test_softmax_batches_share_points() -> None:
    laws = [random_law(6, seed) for seed in range(3)]
    mean, cov = (np.array(part) for part in zip(*laws, strict=True))
    made = special.softmax_moments(mean, cov, atol=1e-3)
    for i in range(3):
        alone = special.softmax_moments(mean[i], cov[i], atol=1e-3)
        assert np.array_equal(alone.cross.value, made.cross.value[i])


# maxima -------------------------------------------------------------------------------------------------


def test_the_maximum_of_two_is_clark_s() -> None:
    mean, cov = random_law(2, 15)
    a = np.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])
    at = (mean[0] - mean[1]) / a
    density = np.exp(-0.5 * at * at) / np.sqrt(2 * np.pi)
    first = mean[0] * ndtr(at) + mean[1] * ndtr(-at) + a * density
    second = (mean[0] ** 2 + cov[0, 0]) * ndtr(at) + (mean[1] ** 2 + cov[1, 1]) * ndtr(-at)
    second += (mean[0] + mean[1]) * a * density
    assert abs(special.expected_max(mean, cov).value - first) < 1e-14
    assert abs(special.max_square(mean, cov).value - second) < 1e-14


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5])
def test_independent_and_equicorrelated_maxima(d: int) -> None:
    assert abs(special.expected_max(0.0, np.eye(d)).value - oracle.iid_max(d)) < 1e-12
    assert abs(special.max_square(0.0, np.eye(d)).value - oracle.iid_max(d, 2)) < 1e-12
    rho = 0.7
    cov = rho + (1 - rho) * np.eye(d)
    assert abs(special.expected_max(0.0, cov).value - np.sqrt(1 - rho) * oracle.iid_max(d)) < 1e-12
    want = rho + (1 - rho) * oracle.iid_max(d, 2)
    assert abs(special.max_square(0.0, cov).value - want) < 1e-12


@pytest.mark.parametrize("d", [6, 9])
def test_large_windows_are_sampled(d: int) -> None:
    for made, want in (
        (special.expected_max(0.0, np.eye(d), atol=1e-3), oracle.iid_max(d)),
        (special.max_square(0.0, np.eye(d), atol=4e-3), oracle.iid_max(d, 2)),
    ):
        assert abs(made.value - want) < 2 * made.error < 8e-3


def pooled(first: int) -> object:
    return lambda z: z[:first].max(axis=0) * z[first:].max(axis=0)


def counted(first: int, d: int) -> object:
    def f(z: np.ndarray) -> np.ndarray:
        i, j = z[:first].argmax(axis=0), z[first:].argmax(axis=0)
        return (np.arange(first)[:, None, None] == i) & (np.arange(d - first)[None, :, None] == j)

    return lambda z: f(z).astype(float)


@pytest.mark.parametrize(("first", "other"), [(1, 2), (2, 2), (2, 4), (3, 3), (4, 4), (4, 3)])
def test_pairs_of_windows_against_sampling(first: int, other: int) -> None:
    mean, cov = random_law(first + other, 16)
    atol = 1e-9 if first + other <= 6 else 1e-3
    made = special.max_second(mean, cov, first, atol)
    assert within(made.value, made.error, oracle.monte_carlo(pooled(first), mean, cov, 400_000))
    who = special.argmax_joint(mean, cov, first, atol)
    sampled = oracle.monte_carlo(counted(first, first + other), mean, cov, 400_000)
    assert within(who.value, who.error, sampled)
    assert abs(who.value.sum() - 1) < 1e-12
    if first + other <= 6:
        assert max(made.error.max(), who.error.max()) < 1e-11


def test_windows_of_two_in_closed_form() -> None:
    """max(a, b) = (a + b + |a - b|)/2 and E|u||v| = (2/pi)(sqrt(det) + c asin(rho)) at zero means."""
    _, cov = random_law(4, 17)
    maps = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, -1, 0, 0], [0, 0, 1, -1]])
    made = maps @ cov @ maps.T
    c, q1, q2 = made[2, 3], made[2, 2], made[3, 3]
    absolute = 2 / np.pi * (np.sqrt(q1 * q2 - c * c) + c * np.arcsin(c / np.sqrt(q1 * q2)))
    assert abs(special.max_second(0.0, cov).value - (made[0, 1] + absolute) / 4) < 1e-14


def test_a_window_with_itself() -> None:
    for d in (2, 3):
        mean, cov = random_law(d, 18)
        both = special.max_second(np.tile(mean, 2), np.tile(cov, (2, 2)))
        assert abs(both.value - special.max_square(mean, cov).value) < 1e-7
        who = special.argmax_joint(np.tile(mean, 2), np.tile(cov, (2, 2))).value
        assert np.allclose(who, np.diag(np.diag(who)), rtol=0, atol=1e-7)


def test_the_argmax_is_the_derivative() -> None:
    """Price: d E[max u max v]/d Cov(u_i, v_j) = P(argmax u = i, argmax v = j)."""
    mean, cov = random_law(6, 19)
    who = special.argmax_joint(mean, cov).value
    step = 1e-4
    for i, j in ((0, 0), (2, 1)):
        moved = []
        for sign in (1, -1):
            other = cov.copy()
            other[i, 3 + j] += sign * step
            other[3 + j, i] += sign * step
            moved.append(special.max_second(mean, other).value)
        assert abs((moved[0] - moved[1]) / (2 * step) - who[i, j]) < 1e-6


def test_equal_coordinates_count_once() -> None:
    mean, cov = random_law(3, 20)
    again = np.array([0, 1, 1, 2, 1])
    many = cov[np.ix_(again, again)]
    assert abs(special.expected_max(mean[again], many).value - special.expected_max(mean, cov).value) < 1e-13
    assert abs(special.max_square(mean[again], many).value - special.max_square(mean, cov).value) < 1e-13
    pair = np.array([0, 1, 1, 2])
    who = special.argmax_joint(mean[pair], cov[np.ix_(pair, pair)], first=3).value[:, 0]
    assert who[2] == 0.0 and abs(who.sum() - 1) < 1e-14
    line = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])  # the mean of two never exceeds both
    assert abs(special.expected_max(0.0, line @ line.T).value - 1 / np.sqrt(np.pi)) < 1e-8
    assert special.expected_max([1.0, 2.0], np.zeros((2, 2))).value == 2.0


# batch normalisation ------------------------------------------------------------------------------------


def joined(name: str) -> tuple[np.ndarray, int]:
    x = np.concatenate([DATA[f"{name}__x0"], DATA[f"{name}__x1"]])
    return x @ x.T / x.shape[1], len(DATA[f"{name}__x0"])


def assembled(first: np.ndarray, second: np.ndarray, cross: np.ndarray) -> np.ndarray:
    return np.block([[first, cross], [cross.T, second]])


def forward(cov: np.ndarray, b: int) -> np.ndarray:
    one, other = special.batchnorm(cov[:b, :b]), special.batchnorm(cov[b:, b:])
    return assembled(one.value, other.value, special.batchnorm_pair(cov, b).value)


def tangent(cov: np.ndarray, theta: np.ndarray, b: int) -> np.ndarray:
    one = special.batchnorm_tangent(cov[:b, :b], theta[:b, :b])
    other = special.batchnorm_tangent(cov[b:, b:], theta[b:, b:])
    return assembled(one.value, other.value, special.batchnorm_pair_tangent(cov, theta[:b, b:], b).value)


@pytest.mark.parametrize(("name", "depth"), [("small_depth1", 1), ("small_depth3", 3)])
def test_batchnorm_reference_kernels(name: str, depth: int) -> None:
    cov, b = joined(f"bn_gp__{name}")
    for _ in range(depth):
        cov = forward(cov, b)
    assert np.allclose(cov, DATA[f"bn_gp__{name}__K"], rtol=0, atol=1e-11)
    apart = (cov - DATA[f"bn_gp__{name}__K_sim"]) / DATA[f"bn_gp__{name}__K_sim_se"]
    # finite networks: one bias of order 1/width on top of the noise, a third of a standard error here
    assert np.sqrt(np.mean(apart**2)) < 1.6


@pytest.mark.parametrize(("name", "depth"), [("small86_depth1", 1), ("proj12_depth2", 2)])
def test_batchnorm_reference_tangent_kernels(name: str, depth: int) -> None:
    """Forward in tangent form; the reference is the backward sum over parameters."""
    cov, b = joined(f"bn_ntk__{name}")
    theta = cov
    for _ in range(depth):
        mapped = tangent(cov, theta, b)
        cov = forward(cov, b)
        theta = cov + mapped
    assert np.allclose(cov, DATA[f"bn_ntk__{name}__nngp"], rtol=0, atol=1e-10)
    assert np.allclose(theta, DATA[f"bn_ntk__{name}__ntk"], rtol=0, atol=1e-9)


SLOPES = {"relu": (0.0, 1.0), "abs": (-1.0, 1.0), get("leaky_relu", alpha=0.3): (0.3, 1.0)}


@pytest.mark.parametrize("phi", SLOPES)
def test_batchnorm_against_sampling(phi: str | Function) -> None:
    low, high = SLOPES[phi]
    _, cov = random_law(9, 21)

    def f(y: np.ndarray) -> np.ndarray:
        x = np.concatenate([oracle.normalised(y[:5]), oracle.normalised(y[5:])])
        h = low * np.minimum(x, 0) + high * np.maximum(x, 0)
        return h[:, None] * h

    mean, deviation = oracle.monte_carlo(f, np.zeros(9), cov, 300_000)
    one, pair = special.batchnorm(cov[:5, :5], phi), special.batchnorm_pair(cov, 5, phi)
    assert within(one.value, one.error, (mean[:5, :5], deviation[:5, :5]))
    assert within(pair.value, pair.error, (mean[:5, 5:], deviation[:5, 5:]))
    points = special.batchnorm_sampled(phi, cov, first=5, atol=3e-3)
    assert within(points.value, points.error, (mean, deviation))
    assert np.all(np.abs(points.value[:5, 5:] - pair.value) < 2 * points.error[:5, 5:])


@pytest.mark.parametrize("phi", SLOPES)
def test_batchnorm_derivatives_against_sampled_jacobians(phi: str | Function) -> None:
    """E J T J', E J' D J and E J_1 T J_2' for explicit Jacobians of batches of seven and six."""
    _, cov = random_law(13, 22)
    rng = np.random.default_rng(3)
    square, cross = rng.standard_normal((7, 7)), rng.standard_normal((7, 6))
    square = square @ square.T

    def f(y: np.ndarray) -> np.ndarray:
        one = oracle.batchnorm_jacobians(y[:7], *SLOPES[phi])
        other = oracle.batchnorm_jacobians(y[7:], *SLOPES[phi])
        back = one.transpose(0, 2, 1)
        made = (one @ square @ back, back @ square @ one, one @ cross @ other.transpose(0, 2, 1))
        return np.concatenate(made, axis=2).transpose(1, 2, 0)

    mean, deviation = oracle.monte_carlo(f, np.zeros(13), cov, 150_000)
    made = [
        special.batchnorm_tangent(cov[:7, :7], square, phi),
        special.batchnorm_gradient(cov[:7, :7], square, phi),
        special.batchnorm_pair_tangent(cov, cross, 7, phi),
    ]
    value = np.concatenate([m.value for m in made], axis=1)
    assert within(value, np.concatenate([m.error for m in made], axis=1), (mean, deviation))


def test_two_equal_batches_are_one() -> None:
    _, cov = random_law(6, 23)
    twice = np.tile(cov, (2, 2))
    assert np.allclose(special.batchnorm_pair(twice).value, special.batchnorm(cov).value, rtol=0, atol=1e-8)
    theta = np.eye(6) + 0.3
    pair = special.batchnorm_pair_tangent(twice, theta, atol=1e-5).value
    assert np.allclose(pair, special.batchnorm_tangent(cov, theta).value, rtol=0, atol=1e-5)


def test_tangent_and_gradient_are_adjoint() -> None:
    _, cov = random_law(8, 24)
    rng = np.random.default_rng(4)
    theta, delta = (a + a.T for a in rng.standard_normal((2, 8, 8)))
    one = np.sum(special.batchnorm_tangent(cov, theta).value * delta)
    assert abs(one - np.sum(special.batchnorm_gradient(cov, delta).value * theta)) < 1e-11 * abs(one)


@pytest.mark.parametrize("ratio", [1e-4, 1e-8, 1e-12])
def test_batches_of_near_duplicates(ratio: float) -> None:
    """Eigenvalues that are far apart: the rule by panels takes over, and the diagonal is known."""
    rng = np.random.default_rng(5)
    axes = np.linalg.qr(rng.standard_normal((7, 7)))[0]
    cov = (axes * np.geomspace(1, ratio, 7)) @ axes.T
    made = special.batchnorm(cov, "abs")
    assert abs(np.trace(made.value) - 7) < 1e-9  # sum of squares of normalised coordinates
    assert np.all(made.error < 1e-9)
    assert np.all(special.batchnorm_tangent(cov, cov).error < 1e-8)


def test_scale_and_common_shift_do_not_matter() -> None:
    _, cov = random_law(6, 25)
    one = special.batchnorm(cov).value
    assert np.allclose(special.batchnorm(1e-12 * cov).value, one, rtol=0, atol=1e-10)
    assert np.allclose(special.batchnorm(cov + 30.0).value, one, rtol=0, atol=1e-10)
    stacked = special.batchnorm(np.stack([cov, np.eye(6)])[:, None])
    assert stacked.value.shape == (2, 1, 6, 6)
    assert np.allclose(stacked.value[0, 0], one, rtol=0, atol=1e-9)


def growth_of_gradients(size: int) -> float:
    """Of their squared norms, by a layer of a deep relu net with batches of this size."""
    cov = special.batchnorm(np.eye(size), atol=1e-7).value
    centring = np.eye(size) - 1 / size  # the eigenvector, by symmetry
    after = special.batchnorm_gradient(cov, centring, atol=1e-6).value
    growth = float(np.trace(after) / (size - 1))
    assert np.allclose(after, growth * centring, rtol=0, atol=1e-9)
    return growth


def test_gradients_of_deep_relu_nets_explode_as_is_known() -> None:
    """By pi/(pi - 1) as B -> inf (Y19), with terms in 1/B, 1/B^2 and 1/B^3 before."""
    limit = [growth_of_gradients(size) for size in (16, 32, 64, 128)]
    for power in (2, 4, 8):  # without these terms, one after the other
        limit = [(power * b - a) / (power - 1) for a, b in zip(limit, limit[1:], strict=False)]
    assert abs(limit[0] - np.pi / (np.pi - 1)) < 2e-5


@pytest.mark.slow
def test_gradients_of_large_batches_explode_as_is_known() -> None:
    assert abs(growth_of_gradients(256) - 1.4732) < 1e-4


def test_any_function_after_batchnorm() -> None:
    _, cov = random_law(5, 26)
    made = special.batchnorm_sampled(np.tanh, cov, atol=2e-3)

    def f(y: np.ndarray) -> np.ndarray:
        h = np.tanh(oracle.normalised(y))
        return h[:, None] * h

    assert within(made.value, made.error, oracle.monte_carlo(f, np.zeros(5), cov, 300_000))
    whole = special.batchnorm_sampled(lambda u: u, cov, eps=0.5, atol=2e-3).value
    assert 3.0 < np.trace(whole) < 5.0  # eps takes its share


# refusals -----------------------------------------------------------------------------------------------

GOOD = np.eye(4)
REFUSED = [
    (lambda: special.orthant([[1.0, 2.0], [2.0, 1.0]]), InputError, "negative eigenvalue"),
    (lambda: special.orthant([[1.0, 0.2], [0.1, 1.0]]), InputError, "not symmetric"),
    (lambda: special.orthant(np.full((2, 2), np.nan)), InputError, "cov is not finite"),
    (lambda: special.orthant(np.ones((2, 3))), InputError, r"\(2, 3\)"),
    (lambda: special.orthant("x"), InputError, "cov: .* no array of real numbers"),
    (lambda: special.orthant(GOOD, np.nan), InputError, "mean is not finite"),
    (lambda: special.orthant(GOOD, [0.0, 1.0]), InputError, "mean must be"),
    (lambda: special.orthant(GOOD, atol=0.0), InputError, "atol must be a positive number"),
    (lambda: special.normal_cdf([0.0, 1.0], 0.0, GOOD), InputError, "upper must be real"),
    (lambda: special.normal_cdf(np.nan, 0.0, GOOD), InputError, "upper is not a number"),
    (lambda: special.product_of_cdfs([1.0, 2.0], GOOD), InputError, "a must be real"),
    (lambda: special.product_of_cdfs(np.inf, GOOD), InputError, "a is not finite"),
    (lambda: special.tail_moments(0.0, GOOD, 4), InputError, "m is 4: it must be a whole number"),
    (lambda: special.softmax_moments(0.0, np.eye(5)), InputError, "first must be given"),
    (lambda: special.max_second(0.0, GOOD, 4), InputError, "first is 4: it must be a whole number"),
    (lambda: special.batchnorm(GOOD, "tanh"), InputError, "batchnorm_sampled"),
    (lambda: special.batchnorm([[1.0]]), InputError, "two examples"),
    (lambda: special.batchnorm_pair(GOOD, 1), InputError, "two examples"),
    (lambda: special.batchnorm_sampled("tanh", GOOD, 1), InputError, "two examples"),
    (lambda: special.batchnorm_sampled("tanh", GOOD, eps=-1.0), InputError, "eps"),
    (lambda: special.batchnorm(np.ones((3, 3))), LimitError, "coincide"),
    (lambda: special.batchnorm_sampled("tanh", np.ones((3, 3))), LimitError, "coincid"),
    (lambda: special.batchnorm_tangent(np.eye(3), np.eye(3)), LimitError, "B >= 4"),
    (lambda: special.batchnorm_tangent(GOOD, np.eye(3)), InputError, "theta must be real"),
    (lambda: special.batchnorm_gradient(GOOD, np.tri(4)), InputError, "delta is not symmetric"),
    (lambda: special.batchnorm_gradient(GOOD, np.full((4, 4), np.nan)), InputError, "delta is not finite"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_bad_input_is_refused(case: int) -> None:
    call, error, text = REFUSED[case]
    with pytest.raises(error, match=text):
        call()


def test_missed_tolerances_are_reported_where_they_happen() -> None:
    for call in (
        lambda: special.orthant(np.eye(6) + 0.5, 0.3, atol=1e-12),
        lambda: special.batchnorm(np.diag(np.arange(1.0, 6.0)), atol=1e-17),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        assert [w.category for w in caught] == [AccuracyWarning]
        assert caught[0].filename == __file__
        assert "was not reached" in str(caught[0].message)
