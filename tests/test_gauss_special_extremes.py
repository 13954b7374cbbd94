"""Special integrals where they are hard: steps, scales, many dimensions, small budgets, odd input."""

from __future__ import annotations

import re
import signal
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, ndtr

from tests.oracle import special as oracle
from tpnum.errors import AccuracyWarning, InputError, LimitError
from tpnum.gauss import special

# gates of any width ---------------------------------------------------------------------------------------


def two(m: float, s: float, **goal: float) -> special.SoftmaxMoments:
    """Two logits with a difference N(m, s^2), beside themselves."""
    return special.softmax_moments([m, 0, m, 0], np.tile(np.eye(2) * s * s / 2, (2, 2)), **goal)


@pytest.mark.parametrize("s", [1e-3, 1.0, 3.9, 4.1, 30.0, 1e3, 1e6])
def test_gates_against_mpmath(s: float) -> None:
    for m in (3.0, -0.7 * s, 2.5 * s, -40.0):
        made = two(m, s, atol=1e-12)
        assert made.first.method == "quadrature"
        assert abs(made.first.value[0] - oracle.gate_mp(m, s)) < 2e-15, m
        assert abs(made.cross.value[0, 0] - oracle.gate_mp(m, s, 2)) < 2e-15, m
        assert np.allclose(made.cross.value.sum(axis=1), made.first.value, rtol=0, atol=1e-15)


def test_a_step_between_the_innermost_nodes_is_seen() -> None:
    assert abs(two(3.0, 100.0, atol=1e-6).first.value[0] - 0.5119645063) < 1e-10


def dense_pair(m: np.ndarray, factor: np.ndarray) -> float:
    """E g(u) g(v), (u, v) = m + factor (z, e), by 3000 x 3000 Gauss-Legendre nodes."""
    x, w = np.polynomial.legendre.leggauss(20)
    edges = np.linspace(-9.0, 9.0, 151)
    z = (edges[:-1, None] + np.diff(edges)[:, None] * (x + 1) / 2).ravel()
    weight = (np.diff(edges)[:, None] * w / 2).ravel() * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    inner = np.array([expit(m[1] + factor[1, 0] * a + factor[1, 1] * z) @ weight for a in z])
    return float((weight * expit(m[0] + factor[0, 0] * z)) @ inner)


def logits(m: np.ndarray, factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, cov) of four logits whose differences are m + factor (z, e)."""
    spread = np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])
    return spread @ m, spread @ factor @ factor.T @ spread.T


@settings(max_examples=5)
@given(st.integers(0, 10**6))
def test_pairs_of_gates_against_dense_quadrature(seed: int) -> None:
    rng = np.random.default_rng(seed)
    s = 10.0 ** rng.uniform(-3, 1.5, 2)
    r = rng.choice([1.0, -1.0]) * (1 - 10.0 ** rng.uniform(-6, 0))
    factor = np.array([[s[0], 0.0], [s[1] * r, s[1] * np.sqrt(1 - r * r)]])
    m = s * rng.standard_normal(2) + rng.standard_normal(2)
    made = special.softmax_moments(*logits(m, factor))
    want = np.array([dense_pair(a * m, np.diag(a) @ factor) for a in np.array([[1, 1], [1, -1], [-1, 1]])])
    assert np.max(np.abs(made.cross.value.ravel()[:3] - want)) < 1e-13 + 2e-15 * np.max(s)
    assert made.cross.error.max() < 1e-14


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_wide_gates_are_orthants(seed: int) -> None:
    """For deviations s the two differ by O(1/s^2)."""
    rng = np.random.default_rng(seed)
    s = 10.0 ** rng.uniform(5, 150, 2)
    r = rng.uniform(-1, 1)
    factor = np.array([[s[0], 0.0], [s[1] * r, s[1] * np.sqrt(1 - r * r)]])
    m = s * rng.standard_normal(2)
    made = special.softmax_moments(*logits(m, factor)).cross.value[0, 0]
    assert abs(made - special.orthant([[1, r], [r, 1]], m / s).value) < 1e-9


def test_a_gate_beside_a_single_logit() -> None:
    made = special.softmax_moments([3.0, 0.0, 1.0], np.diag([5e3, 5e3, 1.0]), first=2)
    assert np.allclose(made.cross.value[:, 0], made.first.value, rtol=0, atol=1e-15)
    assert abs(made.first.value[0] - oracle.gate_mp(3.0, 100.0)) < 2e-15
    assert abs(made.second.value[0] - 1.0) < 1e-15


def test_three_logits_on_a_line_need_few_nodes() -> None:
    """One axis, moderate slopes: the step of the trapezoidal rule is known beforehand."""
    line = np.array([0.0, 1.0, 2.5])
    both = 2.0 * np.tile(line, 2)
    made = special.softmax_moments(0.0, np.outer(both, both), first=3, atol=1e-13)
    z = np.linspace(-9, 9, 20001)
    p = oracle.softmax(2.0 * line[:, None] * z)
    want = (p * np.exp(-0.5 * z * z)) @ p.T / np.exp(-0.5 * z * z).sum()
    assert np.allclose(made.cross.value, want, rtol=0, atol=1e-14)


def test_wide_softmax_of_three_is_an_argmax() -> None:
    _, cov = np.zeros(3), np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 1.5]])
    made = special.softmax_moments(0.0, 1e16 * np.tile(cov, (2, 2)), atol=3e-4)
    want = np.diag(special.argmax_joint(0.0, np.tile(cov, (2, 2))).value)
    assert np.all(np.abs(made.first.value - want) < 2 * made.first.error + 1e-7)


# no scale in batch normalisation --------------------------------------------------------------------------

A = np.eye(4) + 0.5 + np.diag([0.0, 0.3, 1.0, 0.1])
T = np.eye(4) + 0.3
ROOT = np.random.default_rng(0).standard_normal((9, 10))
P = ROOT @ ROOT.T


@pytest.mark.parametrize("power", [-1040, -996, -664, -400, 2, 330, 512, 660, 996, 1016])
def test_batchnorm_at_any_scale(power: int) -> None:
    s, r = 2.0**power, 2.0 ** (power // 2)

    def close(made: special.Tail | object, want: object) -> bool:
        return bool(np.allclose(made, want, rtol=1e-13 if power > -1000 else 1e-3, atol=0))  # subnormal below

    assert close(special.batchnorm(A * s).value, special.batchnorm(A).value)
    assert close(special.batchnorm_tangent(A * s, T * s).value, special.batchnorm_tangent(A, T).value)
    assert close(special.batchnorm_gradient(A * s, T * s).value, special.batchnorm_gradient(A, T).value)
    pair = P.copy()
    pair[:5] *= r
    pair[:, :5] *= r
    assert close(special.batchnorm_pair(pair, 5).value, special.batchnorm_pair(P, 5).value)
    made = special.batchnorm_pair_tangent(pair, r * P[:5, 5:], 5).value
    assert close(made, special.batchnorm_pair_tangent(P, P[:5, 5:], 5).value)
    sampled = [special.batchnorm_sampled("tanh", c, eps=0.1 * e).value for c, e in ((A * s, s), (A, 1.0))]
    assert close(*sampled)


def test_known_values_at_extreme_scales() -> None:
    for s in (1e-300, 1e-200, 1e155, 1e300):
        assert np.allclose(
            special.batchnorm(np.eye(3) * s).value[0], [0.5, 0.05449889, 0.05449889], rtol=0, atol=1e-8
        )
        tangent = special.batchnorm_tangent(np.eye(4) * s, np.eye(4)).value * s
        assert np.allclose(tangent, special.batchnorm_tangent(np.eye(4), np.eye(4)).value, rtol=1e-12, atol=0)
    with pytest.raises(LimitError, match="overflows"):
        special.batchnorm_tangent(np.eye(4) * 1e-300, np.eye(4) * 1e300)


@pytest.mark.parametrize("power", [-1000, -330, 330, 1000])
def test_maxima_and_tails_at_any_scale(power: int) -> None:
    s, r = 2.0**power, 2.0 ** (power // 2)
    assert special.expected_max(0.0, A * s).value / r == pytest.approx(special.expected_max(0.0, A).value)
    assert special.max_square(0.0, A * s).value / s == pytest.approx(special.max_square(0.0, A).value)
    wide = special.expected_max(0.0, np.eye(8) * s, rtol=1e-3)
    assert abs(wide.value / r - oracle.iid_max(8)) < 2 * wide.error / r < 4e-3
    made = special.tail_moments(0.0, A * s, 2, rtol=1e-9).second.value / s
    assert np.allclose(made, special.tail_moments(0.0, A, 2).second.value, rtol=1e-12, atol=0)


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_eigenvalues_of_batches_may_be_far_apart(seed: int) -> None:
    """sum_j phi(BN y)_j^2 has the mean B (a^2 + b^2), whatever the law; the error knows what is missed."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(3, 8))
    axes = np.linalg.qr(rng.standard_normal((size, size)))[0]
    cov = (axes * 10.0 ** rng.uniform(-11, 0, size)) @ axes.T
    made = special.batchnorm((cov + cov.T) / 2, "abs", atol=1e-6)
    assert abs(np.trace(made.value) - size) < 1e-9 + np.trace(made.error)
    theta = np.eye(size)
    if size > 4:  # E tr(J' J) = tr E(J J')
        one = special.batchnorm_tangent(cov, theta, atol=1.0)
        other = special.batchnorm_gradient(cov, theta, atol=1.0)
        assert np.trace(one.value) == pytest.approx(np.trace(other.value), rel=1e-6)


# goals, budgets and errors --------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [6, 8, 16])
def test_nothing_asked_for_is_nothing_missed(d: int) -> None:
    """Calls without a goal do not warn (warnings are errors here), and their errors are honest."""
    cov = 0.5 + 0.5 * np.eye(d)
    made = special.orthant(cov)
    assert abs(made.value - 1 / (d + 1)) < 2 * made.error
    made = special.expected_max(0.0, cov)
    assert abs(made.value - np.sqrt(0.5) * oracle.iid_max(d)) < 2 * made.error < 4e-3
    made = special.max_square(0.0, cov)
    assert abs(made.value - 0.5 - 0.5 * oracle.iid_max(d, 2)) < 2 * made.error
    special.softmax_moments(0.0, cov)
    if d < 16:
        who = special.argmax_joint(0.0, cov)
        assert np.all(np.abs(who.value - np.mean(who.value)) < 4 * who.error)


def test_error_bars_are_95_percent_intervals() -> None:
    rho = np.linspace(0.05, 0.9, 60)
    cov = rho[:, None, None] + (1 - rho)[:, None, None] * np.eye(7)
    shift = np.linspace(-1.0, 1.5, 60)
    made = special.normal_cdf(shift[:, None] * np.ones(7), 0.0, cov, rtol=3e-4)
    want = np.array([oracle.equicorrelated(h, r, 7) for h, r in zip(shift, rho, strict=True)])
    off = np.abs(made.value - want) / made.error
    assert np.mean(off < 1.0) > 0.85
    assert np.max(off) < 2.5


def test_tolerances_and_budgets() -> None:
    cov = 0.5 + 0.5 * np.eye(6)
    coarse, fine = special.orthant(cov, rtol=1e-2), special.orthant(cov, rtol=3e-6, budget=4e6)
    assert coarse.error <= 1e-2 * coarse.value
    assert fine.error <= 3e-6 * fine.value
    assert abs(fine.value - 1 / 7) < 2 * fine.error
    assert coarse.cost < fine.cost <= 4e6
    with pytest.warns(AccuracyWarning, match="rtol = 1e-07 was not reached") as caught:
        made = special.orthant(cov, rtol=1e-7, budget=1 << 14)
    assert made.cost <= 1 << 14
    more = float(re.search(r"budget=(\d+) might do", str(caught[0].message))[1])  # type: ignore[index]
    assert 1 << 16 < more < 1e12
    with pytest.warns(AccuracyWarning, match="what its quadrature reaches"):
        special.orthant(np.eye(3), 0.1, rtol=1e-18)


def test_small_probabilities_have_relative_errors() -> None:
    made = special.orthant(np.eye(6), np.full(6, -12.0), rtol=1e-9)
    assert made.value == pytest.approx(float(ndtr(-12.0)) ** 6, rel=1e-9)
    rho, bound = 0.3, -4.0
    cov = rho + (1 - rho) * np.eye(6)
    made = special.normal_cdf(bound, 0.0, cov, rtol=3e-3)
    x, w = np.polynomial.legendre.leggauss(400)
    dense = 6 * w @ (np.exp(-18 * (x - 1) ** 2) / np.sqrt(2 * np.pi) * _given(6 * (x - 1), rho, bound))
    assert abs(made.value - dense) < 2 * made.error < 6e-3 * dense


def _given(x: np.ndarray, rho: float, bound: float) -> np.ndarray:
    return ndtr((bound - np.sqrt(rho) * x) / np.sqrt(1 - rho)) ** 6


def test_what_no_point_has_hit_has_an_error() -> None:
    rare = special.softmax_moments([0, 0, 2e3] * 2, 10.0 * np.eye(6)).first
    assert np.all(rare.error > 1e-6)
    who = special.argmax_joint([0, 0, 50.0, 0] * 2, 0.1 * np.eye(8))
    assert np.all(who.error > 1e-6)
    made = special.batchnorm_sampled(lambda u: (u > 1.7315) * 1.0, np.eye(4))
    assert np.all(made.error > 1e-6)


def test_memory_does_not_grow_with_the_dimension() -> None:
    d = 300
    cov = 0.5 + 0.5 * np.eye(d)
    tracemalloc.start()
    made = special.orthant(cov, rtol=0.2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert abs(made.value - 1 / (d + 1)) < 2 * made.error
    assert peak < 1e8


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")
@pytest.mark.parametrize("d", [7, 250])
def test_long_calls_can_be_stopped(d: int) -> None:
    special.orthant(np.eye(d) + 1.0, atol=0.9)  # compiled

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        started = time.process_time()
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            special.orthant(np.eye(d) + 1.0, atol=1e-14, budget=1e11)
        assert time.process_time() - started < 1.5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


# input ----------------------------------------------------------------------------------------------------

GOOD = np.eye(4)
REFUSED = [
    (lambda: special.orthant(GOOD * (1 + 1j)), "cov: an array of real numbers"),
    (lambda: special.expected_max(np.array([1j, 0, 0, 0]), GOOD), "mean: an array of real numbers"),
    (lambda: special.normal_cdf(1j, 0.0, GOOD), "upper: an array of real numbers"),
    (lambda: special.batchnorm_tangent(GOOD, 1j * GOOD), "theta: an array of real numbers"),
    (lambda: special.cdf_moments(1j, GOOD), "a: an array of real numbers"),
    (lambda: special.orthant(np.ma.masked_array(GOOD, GOOD > 0)), "cov: its masked entries"),
    (lambda: special.orthant(GOOD, atol=True), "atol must be a positive number"),
    (lambda: special.orthant(GOOD, rtol=np.nan), "rtol must be a positive number"),
    (lambda: special.orthant(GOOD, rtol=0.0), "rtol must be a positive number"),
    (lambda: special.orthant(GOOD, budget=3), "budget must be a number of points, at least 64"),
    (lambda: special.orthant(GOOD, budget="much"), "budget must be a number of points"),
    (lambda: special.tail_moments(0.0, GOOD, 2.5), "m is 2.5: it must be a whole number"),
    (lambda: special.max_second(0.0, GOOD, True), "first is True: it must be a whole number"),
    (lambda: special.batchnorm_sampled("tanh", GOOD, eps=np.inf), "eps must be at least 0 and finite"),
    (lambda: special.batchnorm_sampled("tanh", GOOD, eps="a"), "eps: .a. is no array of real numbers"),
    (lambda: special.product_of_cdfs(1e300, GOOD), "overflows"),
    (lambda: special.softmax_moments(0.0, np.diag([1.0, 1.0, 1.0, -1.0])), "negative eigenvalue"),
    (lambda: special.batchnorm_pair(np.full((6, 6), np.nan)), "cov is not finite"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_refusals(case: int) -> None:
    call, text = REFUSED[case]
    with pytest.raises(InputError, match=text):
        call()


def test_floating_point_errors_of_the_caller_do_not_matter() -> None:
    before = np.seterr(all="raise")
    try:
        for s in (2.0**-1000, 1.0, 2.0**1000):
            special.batchnorm(A * s)
            special.batchnorm_tangent(A * s, T * s)
            special.batchnorm_sampled("tanh", A * s, atol=1e-2)
            special.orthant(A * s, -1e3 * s**0.5)
            special.normal_cdf([1.0, 2.0, np.inf, -3e200], 0.0, A * s)
            special.normal_cdf(1e5 * np.arange(6.0), 0.0, P[:6, :6])
            special.expected_max([0.0, 1.0, 2.0, 3e3], A * s)
            special.argmax_joint([0.0, 1.0, 2.0, 3e3], A * s)
            special.softmax_moments(0.0, A * s)
            special.softmax_moments(0.0, np.eye(6) * s)
            special.cdf_moments(1.0, A * s * 0.01, rtol=1e-3)
    finally:
        np.seterr(**before)


def test_single_precision_is_taken_at_its_word() -> None:
    cov = (np.eye(3) + 0.5).astype(np.float32)
    assert special.orthant(cov).value == special.orthant(cov.astype(np.float64)).value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        special.softmax_moments(np.zeros(4, np.float32), np.eye(4, dtype=np.float32))
