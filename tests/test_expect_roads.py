"""Which way an expectation takes, and what it may cost: blocks, rare events, batches, budgets, extremes."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit, ndtr
from scipy.stats import chi2

import tpnum as tp
from tpnum.errors import AccuracyWarning, FunctionError, InputError, LimitError
from tpnum.gauss.estimate import Estimate
from tpnum.gauss.expect import certified, expect

Array = np.ndarray
ROOT3 = 3.0**0.5
NOISE = np.random.default_rng(0)


def quiet(*arguments: object, **keywords: object) -> Estimate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        return expect(*arguments, **keywords)


def seconds(call: Callable[[], object]) -> float:
    """Processor time of the fastest of three calls."""
    taken = []
    for _ in range(3):
        begun = time.process_time()
        call()
        taken.append(time.process_time() - begun)
    return min(taken)


def over_sum(f: Callable[[Array], Array], d: int) -> float:
    """E f(z_1 + .. + z_d) by a fine rule."""
    z = np.linspace(-10, 10, 400_001) + 1e-6
    w = np.exp(-0.5 * z * z)
    return float(f(np.sqrt(d) * z) @ w / w.sum())


# blocks of independent coordinates ------------------------------------------------------------------------

CHAINS = {
    "square of the sum": (lambda *z: sum(z) ** 2, lambda d: float(d)),
    "fourth power": (lambda *z: sum(z) ** 4, lambda d: 3.0 * d * d),
    "sum of tanh": (lambda *z: sum(np.tanh(a) for a in z), lambda d: 0.0),
    "sum of relu": (lambda *z: sum(np.maximum(a, 0) for a in z), lambda d: d / np.sqrt(2 * np.pi)),
    "product": (lambda *z: np.prod([1 + np.cos(a) for a in z], axis=0), lambda d: (1 + np.exp(-0.5)) ** d),
    "cos of the sum": (lambda *z: np.cos(sum(z) / 2), lambda d: np.exp(-d / 8)),
    "exp of the sum": (lambda *z: np.exp(0.4 * sum(z)), lambda d: np.exp(0.08 * d)),
    "all below": (lambda *z: (np.max(z, axis=0) < 2.5) * 1.0, lambda d: float(ndtr(2.5)) ** d),
    "any above": (lambda *z: (np.max(z, axis=0) > 3.5) * 1.0, lambda d: -np.expm1(d * np.log(ndtr(3.5)))),
}  # fmt: skip


@pytest.mark.parametrize("d", [3, 10, 20])
@pytest.mark.parametrize("name", CHAINS)
def test_chains_cost_their_number_of_blocks(name: str, d: int) -> None:
    f, exact = CHAINS[name]
    made = quiet(f, np.zeros(d), np.eye(d))
    assert made.method == "quadrature"
    assert made.cost < 200_000 * d
    assert abs(made.value - exact(d)) <= made.error + 1e-14
    assert made.error <= 1e-6 * max(abs(made.value), d)


RARE = {
    "half-space": (lambda *z: (sum(z) > 2 * ROOT3) * 1.0, 3, float(ndtr(-2.0))),
    "far half-space": (lambda *z: (sum(z) > 3 * ROOT3) * 1.0, 3, float(ndtr(-3.0))),
    "hardly ever": (lambda *z: (sum(z) > 6 * ROOT3) * 1.0, 3, float(ndtr(-6.0))),
    "half-space of five": (lambda *z: (sum(z) > 5) * 1.0, 5, float(ndtr(-(5.0**0.5)))),
    "small ball": (lambda *z: (sum(a * a for a in z) < 0.09) * 1.0, 3, float(chi2.cdf(0.09, 3))),
    "tiny ball": (lambda *z: (sum(a * a for a in z) < 1e-4) * 1.0, 3, float(chi2.cdf(1e-4, 3))),
    "ball": (lambda *z: (sum(a * a for a in z) < 1) * 1.0, 4, float(chi2.cdf(1.0, 4))),
    "steep sigmoid": (lambda *z: expit(200 * (sum(z) - 3 * ROOT3)), 3, None),
    "softplus": (lambda *z: np.logaddexp(0, 16 * (sum(z) - 4)) / 16, 3, None),
    "square of a tail": (lambda *z: np.maximum(sum(z) - 4, 0) ** 2, 3, None),
    "three maxima": (lambda *z: np.maximum(np.max(z, axis=0) - 2, 0), 3, 0.02516798084364),
    "three far maxima": (lambda *z: np.maximum(np.max(z, axis=0) - 3.5, 0), 3, 1.7542178169965e-04),
    "the first is largest": (lambda a, b, c: ((a > b) & (a > c)) * 1.0, 3, 1 / 3),
    "basket": (lambda *z: np.maximum(sum(np.exp(0.2 * a - 0.02) for a in z) / 3 - 1.5, 0), 3, 9.006e-06),
    "a strip": (lambda *z: (np.abs(sum(z) - 0.3) < 1e-4) * 1.0, 4, 2e-4 * 0.19947 * np.exp(-0.3**2 / 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", RARE)
def test_what_is_no_chain_is_covered_by_its_error(name: str) -> None:
    f, d, truth = RARE[name]
    if truth is None:
        truth = over_sum(lambda s: f(s), d)
    made = quiet(f, np.zeros(d), np.eye(d))
    assert abs(made.value - truth) <= 2.5 * made.error
    assert 0 < made.error < max(0.3 * truth, 3e-5)


@pytest.mark.parametrize("d", [6, 7, 8, 9, 10])
@pytest.mark.parametrize("radius", [0.3, 0.5])
def test_small_balls_are_no_products(d: int, radius: float) -> None:
    made = quiet(lambda *z: (sum(a * a for a in z) < radius**2) * 1.0, np.zeros(d), np.eye(d))
    assert abs(made.value - chi2.cdf(radius**2, d)) <= 2.5 * made.error
    made = quiet(lambda *z: (np.max(np.abs(z), axis=0) < radius) * 1.0, np.zeros(d), np.eye(d))  # a product
    assert made.method == "quadrature"
    assert abs(made.value - (2 * ndtr(radius) - 1) ** d) <= made.error


@pytest.mark.parametrize("d", [3, 4, 6])
@pytest.mark.parametrize("budget", [1, 10_000, 100_000])
def test_budgets_hold_for_proofs_and_blocks(d: int, budget: int) -> None:
    """The proof of a chain counts: a budget that it does not fit in goes to points."""
    asked = 0

    def f(*x: Array) -> Array:
        nonlocal asked
        asked += x[0].size
        return sum(abs(v) for v in x)

    cov = np.eye(d)
    cov[0, 1] = cov[1, 0] = 0.5
    made = quiet(f, np.zeros(d), cov, rtol=1e-9, budget=budget)
    exact = d * np.sqrt(2.0 / np.pi)
    assert asked <= 1.25 * budget + 10_000
    assert asked <= made.cost + 5_000
    assert abs(made.value - exact) <= 2.0 * made.error <= 0.5 * exact


def test_absolute_tolerances_are_those_of_the_whole() -> None:
    """What a block may be off is magnified by the others."""

    def f(*x: Array) -> Array:
        return 1e3 * (np.cos(x[0]) + 2.0) * (np.cos(x[1] + x[2]) + 2.0) * (np.abs(x[3]) + 1.0)

    made = expect(f, np.zeros(4), np.eye(4), rtol=1e-12, atol=1e-2)
    exact = 1e3 * (np.exp(-0.5) + 2.0) * (np.exp(-1.0) + 2.0) * (np.sqrt(2.0 / np.pi) + 1.0)
    assert abs(made.value - exact) <= made.error <= 1e-2


def test_lines_leave_most_of_a_budget_to_points() -> None:
    """An oblique jump makes panels of lines short: to look at these must not be all that is done."""
    root = np.random.default_rng(2).standard_normal((3, 3))
    way, cov, asked = np.array([0.6, 0.64, 0.48]), root @ root.T, 0
    size = np.sqrt(way @ cov @ way)

    def f(*x: Array) -> Array:
        nonlocal asked
        asked += x[0].size
        return (sum(a * b for a, b in zip(way, x, strict=True)) > 1.5 * size) * 1.0

    made = quiet(f, np.zeros(3), cov, rtol=1e-3, budget=20_000)
    assert asked <= 25_000
    assert abs(made.value - ndtr(-1.5)) <= made.error <= 0.05 * ndtr(-1.5)


@pytest.mark.parametrize("name", ["ball", "small ball", "three maxima", "the first is largest"])
def test_auto_is_no_worse_than_sobol_points(name: str) -> None:
    f, d, _ = RARE[name]
    cov = np.eye(d) + 0.2
    auto, qmc = (quiet(f, np.zeros(d), cov, method=m) for m in ("auto", "qmc"))
    assert auto.error <= 1.01 * qmc.error
    assert auto.cost <= 10 * qmc.cost


def test_no_hits_is_not_certainty() -> None:
    for d in (1, 2, 3, 5):
        made = quiet(lambda *z: (np.abs(sum(z) - 0.0777) < 1e-9) * 1.0, np.zeros(d), np.eye(d))
        assert made.value == 0.0 < 1e-9 < made.error < 1e-3
    with pytest.warns(AccuracyWarning, match="0 at every point"):
        made = expect(lambda u: 0 * u, 0.0, 1.0)
    assert made.value == 0.0 < made.error < 1e-4
    assert certified(lambda u: 0 * u, 0.0, 1.0)[1] == 0.0


def test_heavy_tails_are_noticed() -> None:
    d = 4
    made = quiet(lambda *z: np.exp(3 * sum(z)), np.zeros(d), np.eye(d) + 1e-9, method="qmc")
    assert abs(made.value - np.exp(18.0)) <= 2.5 * made.error


# batches --------------------------------------------------------------------------------------------------


def laws(count: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    q = rng.uniform(0.5, 1.5, (2, count))
    c = rng.uniform(-0.95, 0.95, count) * np.sqrt(q[0] * q[1])
    return np.moveaxis(np.array([[q[0], c], [c, q[1]]]), -1, 0)


def test_entries_do_not_share_a_budget() -> None:
    covs = laws(150)
    made = expect(np.maximum, np.zeros(2), covs)
    truth = np.sqrt((covs[:, 0, 0] + covs[:, 1, 1] - 2 * covs[:, 0, 1]) / (2 * np.pi))
    assert np.all(np.abs(made.value - truth) <= made.error) and made.error.max() < 1e-6
    for i in (0, 77):
        alone = expect(np.maximum, np.zeros(2), covs[i])
        assert abs(alone.value - made.value[i]) <= alone.error + made.error[i]
        assert made.error[i] <= 1.5 * alone.error + 1e-12


def test_singular_laws_beside_regular_ones_are_solved_as_if_alone() -> None:
    """Those of four sites with two variables each, as nets ask for them: of a site with itself two repeat."""
    z = np.random.default_rng(1).standard_normal((4, 2, 8))
    pairs = [np.concatenate([one, two]) for one in z for two in z]
    covs = np.stack([q @ q.T / 8.0 for q in pairs])

    def gated(a: Array, b: Array, c: Array, d: Array) -> Array:
        return a * ndtr(b) * c * ndtr(d)

    made = quiet(gated, np.zeros(4), covs, budget=1 << 13)
    for i in range(16):
        alone = quiet(gated, np.zeros(4), covs[i], budget=1 << 13)
        assert abs(made.value[i] - alone.value) <= made.error[i] + alone.error
        assert made.error[i] <= 1.01 * alone.error + 1e-12
    assert made.error.max() < 2e-3


def test_equal_laws_are_solved_once() -> None:
    covs = np.broadcast_to(np.array([[1.0, 0.3], [0.3, 1.0]]), (300_000, 2, 2))
    made = expect(np.maximum, np.zeros(2), covs)
    assert made.value.shape == (300_000,) and made.cost < 500_000
    np.testing.assert_allclose(made.value, np.sqrt(0.7 / np.pi), rtol=1e-7)
    two = expect(np.maximum, np.zeros(2), np.concatenate([covs[:5], 4 * covs[:3], covs[:2]]))
    np.testing.assert_allclose(two.value / np.sqrt(0.7 / np.pi), [1] * 5 + [2] * 3 + [1] * 2, rtol=1e-7)


def test_batches_of_many_ranks_are_what_their_entries_are() -> None:
    covs = np.array([np.eye(2), np.ones((2, 2)), np.zeros((2, 2)), [[1, 0.5], [0.5, 1]], np.diag([1.0, 0])])
    made = expect(lambda u, v: u * v + np.abs(u), [0.0, 0.5], covs)
    half = np.sqrt(2 / np.pi)
    np.testing.assert_allclose(made.value, [half, half + 1, 0, half + 0.5, half], atol=1e-7)
    again = expect(lambda u, v: u * v + np.abs(u), [0.0, 0.5], covs[::-1])
    np.testing.assert_allclose(again.value[::-1], made.value, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore::tpnum.errors.AccuracyWarning")
def test_what_neighbours_cost_is_not_taken_from_an_entry_s_budget() -> None:
    """Sparse grids spend much on laws that they nearly settle; one that is for Sobol points has its own."""

    def f(*z: Array) -> Array:
        return 1.0 / (2.0 + np.tanh(z[0] + z[1]) + 0.5 * np.tanh(z[2] - z[3]))

    covs = (np.eye(4) + 0.3) * np.array([3.0, *np.linspace(0.09, 0.11, 7)])[:, None, None]
    alone, beside = (expect(f, np.zeros(4), covs[:n], rtol=1e-13, budget=1 << 16) for n in (1, 8))
    assert beside.error[0] <= 1.5 * alone.error[0]
    assert abs(beside.value[0] - alone.value[0]) <= beside.error[0] + alone.error[0]
    assert beside.cost <= 8 * (1 << 16)


# what is asked --------------------------------------------------------------------------------------------


def test_budgets_and_tolerances_are_the_user_s() -> None:
    def f(*z: Array) -> Array:
        return np.max(z, axis=0)

    cov = np.eye(4) + 0.3
    with pytest.warns(AccuracyWarning, match=r"needs about .* evaluations: budget=\d+") as caught:
        first = expect(f, np.zeros(4), cov, rtol=1e-5)
    asked = int(str(caught[0].message).rsplit("=", 1)[1])
    more = expect(f, np.zeros(4), cov, rtol=1e-5, budget=asked)
    assert more.error <= 1e-5 * abs(more.value) < first.error and more.cost <= 1.2 * asked
    loose = expect(f, np.zeros(4), cov, rtol=1e-2)
    assert loose.cost < 0.1 * first.cost
    assert expect(f, np.zeros(4), cov, rtol=1e-9, atol=1e-2).error <= 1e-2
    for d in (1, 2, 3, 5):
        small = quiet(lambda *z: np.abs(sum(z) - 0.3), np.zeros(d), np.eye(d) + 0.1, budget=3000)
        assert small.cost <= 6000
        assert abs(small.value - np.sqrt((1.1 + 0.1 * (d - 1)) * d * 2 / np.pi)) < 0.3 + 5 * small.error


@pytest.mark.parametrize(
    "keywords",
    [
        {"rtol": "a"}, {"rtol": None}, {"rtol": np.nan}, {"rtol": -1.0}, {"rtol": True}, {"atol": "a"},
        {"atol": None}, {"atol": -1.0}, {"atol": np.inf}, {"budget": "a"}, {"budget": 0}, {"budget": 1.5},
        {"budget": np.nan}, {"method": None},
    ],
)  # fmt: skip
def test_arguments_are_checked(keywords: dict) -> None:
    with pytest.raises(InputError, match=next(iter(keywords))):
        expect("tanh", 0.0, 1.0, **keywords)
    with pytest.raises(InputError):
        certified("tanh", 0.0, 1.0, **keywords)


@pytest.mark.parametrize("rtol", [1e-6, 1e-8])
def test_smooth_functions_of_five_variables(rtol: float) -> None:
    cov = np.eye(5) + 0.1
    made = expect(lambda *z: np.cos(0.5 * sum(z)) + z[0] ** 2 * z[4] ** 2, np.zeros(5), cov, rtol=rtol)
    truth = np.exp(-0.125 * cov.sum()) + 1.21 + 2 * 0.01
    assert abs(made.value - truth) <= made.error <= rtol * 2


# values that are not, and extremes ------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_nan_is_no_expectation(d: int) -> None:
    with pytest.raises(LimitError):
        expect(lambda *z: z[0] * np.nan, np.zeros(d), np.eye(d))


def test_stretches_that_are_not_finite_are_refused() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(LimitError, match="not finite"):
            expect(lambda u, bad=bad: np.where((u > 0.3) & (u < 0.301), bad, u), 0.0, 1.0)
    with pytest.raises(LimitError, match="not finite"):
        expect(lambda u, v: np.where(np.abs(u + v - 0.3) < 0.05, np.nan, u * v), [0, 0], np.eye(2))
    sinc = expect(lambda u: np.sin(u) / u, 0.0, 1.0)  # a point is not a stretch
    assert abs(sinc.value - np.sqrt(np.pi / 2) * (2 * ndtr(1.0) - 1)) <= sinc.error


@pytest.mark.parametrize(
    "f", [np.cumsum, lambda u: u - u.mean(), lambda u: u.sum(), np.max, lambda u: u + NOISE.random(u.shape)]
)
def test_functions_that_are_not_elementwise_are_refused(f: Callable[[Array], Array]) -> None:
    with pytest.raises(FunctionError, match="elementwise"):
        expect(f, 0.0, 1.0)
    with pytest.raises(FunctionError, match="elementwise"):
        expect(lambda u, v: f(u) + v, [0.0, 0.0], np.eye(2))


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e160, 1e300])
def test_extreme_variances(size: float) -> None:
    root = np.sqrt(size)
    square = expect(lambda u: u * u, 0.0, size)
    assert abs(square.value / size - 1) <= square.error / size < 1e-6
    for d in (2, 4):
        made = quiet(lambda *z: np.max(z[:2], axis=0), np.zeros(d), size * (np.eye(d) + 0.1), rtol=1e-3)
        assert abs(made.value / root - np.pi**-0.5) <= 2.5 * made.error / root < 1e-2


def test_numpy_s_error_state_does_not_matter() -> None:
    with np.errstate(all="raise"):
        for d in (1, 2, 3, 5):
            cov = np.eye(d) + 0.1 * (d > 1)
            made = quiet(lambda *z: np.exp(-30 * sum(a * a for a in z)), np.zeros(d), cov)
            truth = np.linalg.det(np.eye(d) + 60 * cov) ** -0.5
            assert abs(made.value - truth) <= 2.5 * made.error


def test_large_exponentials_are_right_or_refused() -> None:
    made = expect(lambda u: np.exp(15 * u), 0.0, 1.0)
    assert abs(made.value / np.exp(112.5) - 1) < 1e-6
    with pytest.raises(LimitError, match="overflows"):
        expect(lambda u: np.exp(30 * u), 0.0, 1.0)


def test_declared_kinks_are_probe_points() -> None:
    a = 0.314159
    f = tp.functions.get(lambda u: ((u > a) & (u < a + 1e-7)) * 1.0, kinks=(a, a + 1e-7))
    made = expect(f, 0.0, 1.0)
    density = np.exp(-0.5 * a * a) / np.sqrt(2 * np.pi)
    assert abs(made.value - 1e-7 * density) <= made.error + 1e-15 < 1e-10


def test_messages_stay_short() -> None:
    with pytest.raises(LimitError) as caught:
        expect(tp.functions.get("polynomial", coef=[1.0] * 500), [0.0], [[1.0]], method="closed")
    assert len(str(caught.value)) < 400
