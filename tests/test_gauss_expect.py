"""Expectations in any dimension: known values, batches, singular covariances, errors that cover, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tpnum.errors import AccuracyWarning, InputError, LimitError
from tpnum.gauss.expect import expect


def test_one_dimension():
    made = expect("relu", 0.0, 2.0)
    assert (made.method, made.cost) == ("closed", 0)
    np.testing.assert_allclose(made.value, np.sqrt(1 / np.pi), rtol=1e-14)
    bent = expect(lambda u: np.abs(u - 0.3), 0.0, 1.0, rtol=1e-12)
    assert abs(bent.value - 0.8335224842344204) < 1e-14


def test_vector_valued_and_batched():
    rho = np.array([-0.5, 0.0, 0.9])
    cov = np.moveaxis(np.array([[np.ones(3), rho], [rho, np.ones(3)]]), -1, 0)
    made = expect(lambda u, v: np.stack([u * v, np.exp(0.3 * (u + v))]), np.zeros(2), cov, rtol=1e-10)
    assert made.value.shape == made.error.shape == (3, 2)
    np.testing.assert_allclose(made.value[:, 0], rho, atol=1e-13)
    np.testing.assert_allclose(made.value[:, 1], np.exp(0.09 * (1 + rho)), rtol=1e-12)


def test_singular_covariances_lose_their_axes():
    made = expect(lambda u, v, w: np.exp(0.3 * (u + v + w)), np.zeros(3), np.ones((3, 3)))
    np.testing.assert_allclose(made.value, np.exp(0.045 * 9), rtol=1e-12)
    assert made.cost < 1.01 * expect(lambda u: np.exp(0.9 * u), 0.0, 1.0).cost
    np.testing.assert_allclose(expect(lambda u, v: u + 2 * v, [1.0, 2.0], np.zeros((2, 2))).value, 5.0)


@pytest.mark.parametrize("method", ["qmc", "mc"])
def test_sampling_covers_the_truth(method):
    d = 6
    cov = np.eye(d) + 0.3
    made = expect(lambda *u: np.cos(sum(u) / 4), np.zeros(d), cov, rtol=0.02, method=method)
    exact = np.exp(-0.5 * cov.sum() / 16)
    assert made.method == method
    assert abs(made.value - exact) < 2.5 * made.error < 0.02


def test_auto_takes_sobol_in_high_dimension():
    d = 5
    made = expect(lambda *u: np.max(u, axis=0), np.zeros(d), np.eye(d), rtol=1e-3)
    assert made.method == "qmc"
    assert abs(made.value - 1.1629644736) < max(2.5 * made.error, 1e-9)


def test_kinks_in_two_dimensions_are_settled():
    for rtol in (1e-3, 1e-12):
        made = expect(np.maximum, np.zeros(2), [[1, 0.5], [0.5, 1]], rtol=rtol)
        assert abs(made.value - np.sqrt(0.5 / np.pi)) < max(made.error, 1e-12) <= max(rtol, 1e-12)


def test_what_is_not_reached_is_said():
    with pytest.warns(AccuracyWarning, match="rtol = 1e-09 was not reached"):
        made = expect(lambda *u: np.max(u, axis=0), np.zeros(5), np.eye(5), rtol=1e-9)
    assert 1e-9 < made.error < 1e-3
    assert abs(made.value - 1.1629644736) < 2 * made.error


SMOOTH = {
    "exponential": (
        lambda u, v: np.exp(0.8 * u - 0.3 * v), lambda q, r, c: np.exp((0.64 * q + 0.09 * r - 0.48 * c) / 2),
    ),
    "polynomial": (lambda u, v: u**3 * v, lambda q, r, c: 3 * q * c),
    "waves": (lambda u, v: np.cos(3 * u + v), lambda q, r, c: np.exp(-(9 * q + r + 6 * c) / 2)),
    "bump": (
        lambda u, v: np.exp(-3 * u * u) * v * v,
        lambda q, r, c: (1 + 6 * q) ** -0.5 * (r - 6 * c * c / (1 + 6 * q)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_batches_are_settled_by_one_lattice(name):
    f, exact = SMOOTH[name]
    rng = np.random.default_rng(0)
    q, r = rng.uniform(0.5, 1.5, (2, 300))
    c = rng.uniform(-0.9, 0.9, 300) * np.sqrt(q * r)
    cov = np.moveaxis(np.array([[q, c], [c, r]]), -1, 0)
    for rtol in (1e-4, 1e-9):
        made = expect(f, np.zeros(2), cov, rtol=rtol)
        off = np.abs(made.value - exact(q, r, c))
        assert np.all(off <= made.error)
        assert made.cost < 300 * 25_000


@pytest.mark.parametrize("name", SMOOTH)
def test_one_grid_for_many_laws_agrees_with_a_lattice_for_each(name):
    """Means, several components and nearly singular covariances included."""
    f = SMOOTH[name][0]
    rng = np.random.default_rng(3)
    root = rng.standard_normal((200, 2, 2)) / np.sqrt(2)
    cov, mean = root @ root.transpose(0, 2, 1), 0.5 * rng.standard_normal((200, 2))
    both = expect(lambda u, v: np.stack([f(u, v), np.tanh(u + v)]), mean, cov, rtol=1e-8)
    for i in range(0, 200, 20):
        one = expect(f, mean[i], cov[i], rtol=1e-8)
        assert abs(both.value[i, 0] - one.value) <= both.error[i, 0] + one.error


def test_grids_are_not_tried_over_variances_too_far_apart():
    q = np.logspace(-8, 4, 40)
    cov = q[:, None, None] * np.array([[1.0, 0.3], [0.3, 1.0]])
    made = expect(lambda u, v: np.tanh(u) * np.tanh(v), np.zeros(2), cov, rtol=1e-7)
    assert np.all(np.abs(made.value[q < 1e-3] / q[q < 1e-3] - 0.3) < 1e-3)
    sign = 2 * np.arcsin(0.3) / np.pi
    assert abs(made.value[-1] - sign) < 0.01


ROUGH = {
    "relu": (
        lambda u, v: np.maximum(u, 0) * np.maximum(v, 0),
        lambda t: (np.sin(t) + (np.pi - t) * np.cos(t)) / (2 * np.pi),
    ),
    "sign": (lambda u, v: np.sign(u) * np.sign(v), lambda t: 1 - 2 * t / np.pi),
    "step": (lambda u, v: (u > 0) & (v > 0), lambda t: (np.pi - t) / (2 * np.pi)),
    "abs": (lambda u, v: np.abs(u * v), lambda t: (np.sin(t) + (np.pi / 2 - t) * np.cos(t)) * 2 / np.pi),
}  # fmt: skip


@pytest.mark.parametrize("gap", [0.5, 1e-3, 1e-8, 1e-13])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ROUGH)
def test_kinks_and_jumps_close_to_the_diagonal(name, sign, gap):
    """Thin wedges between the breaks of two coordinates are seen."""
    f, exact = ROUGH[name]
    rho = sign * (1.0 - gap)
    angle = 2.0 * np.arcsin(np.sqrt((1.0 - abs(rho)) / 2.0))
    truth = exact(angle if sign > 0 else np.pi - angle)
    made = expect(f, np.zeros(2), [[1.0, rho], [rho, 1.0]], rtol=1e-7)
    assert abs(made.value - truth) <= made.error + 1e-14
    assert made.error <= 1e-7


def test_waves_are_not_taken_for_constants():
    """sin(100 u) on a lattice of step 1 looks slow."""
    made = expect(lambda u, v: np.sin(u) ** 2 + 0 * v, np.zeros(2), [[1e4, 10], [10, 1.0]])
    assert abs(made.value - 0.5) <= made.error < 1e-6


@pytest.mark.parametrize("method", ["auto", "quadrature"])
def test_independent_blocks_are_split(method):
    pair = np.array([[1.0, 0.4], [0.4, 1.2]])
    cov = np.zeros((6, 6))
    for k in range(0, 6, 2):
        cov[k : k + 2, k : k + 2] = pair
    cov = cov[np.ix_([0, 2, 4, 1, 3, 5], [0, 2, 4, 1, 3, 5])]

    def product(u, v, w, x, y, z):
        return np.tanh(u * x) * np.maximum(v, y) * (1 + np.exp(w - z))

    def both(u, v, w, x, y, z):
        return np.stack([product(u, v, w, x, y, z), np.maximum(u, x) + np.maximum(v, y) + w * z])

    maximum = np.sqrt((1.0 + 1.2 - 0.8) / (2 * np.pi))
    tanh = expect(lambda u, x: np.tanh(u * x), [0, 0], pair, rtol=1e-11).value
    made = expect(both, np.zeros(6), cov, rtol=1e-7, method=method)
    assert made.method == "quadrature"
    truth = tanh * maximum * (1 + np.exp(0.7)), 2 * maximum + 0.4
    assert np.all(np.abs(made.value - truth) <= made.error)
    assert np.all(made.error < 1e-6)
    apart = expect(lambda *u: np.max(u, axis=0), np.zeros(6), cov, rtol=1e-2)
    assert apart.method == "qmc"


def test_jitted_functions_of_numbers_and_of_arrays():
    import numba

    @numba.njit
    def number(u, v):
        return u * v if u > 0.0 else 0.0

    @numba.njit
    def array(u, v):
        out = np.empty_like(u)
        for i in range(u.size):
            out[i] = max(u[i], 0.0) * v[i]
        return out

    cov = [[1.0, 0.3], [0.3, 1.0]]
    for f in (number, array):
        made = expect(f, [0.0, 0.0], cov, rtol=1e-9)
        assert abs(made.value - 0.15) <= made.error < 1e-9


def test_tails_that_overflow_are_dropped_where_they_cannot_matter():
    made = expect(lambda u: np.exp(u) / (1.0 + np.exp(u)), 0.0, 1600.0, rtol=1e-9)  # NaN beyond u = 709
    assert abs(made.value - 0.5) <= made.error < 1e-9
    with pytest.raises(LimitError, match=r"f is not finite at .* of batch entry \(1,\)"):
        expect(lambda u: np.sqrt(u), [[40.0], [1.0]], np.ones((2, 1, 1)))


def test_empty_batch():
    assert expect(lambda u, v: u * v, np.zeros((0, 2)), np.eye(2)).value.shape == (0,)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: expect(np.tanh, [0, 0.0], np.eye(2)), InputError, "takes 1 vector"),
        (lambda: expect(lambda u: u, [0], [[-1.0]]), InputError, "negative eigenvalue -1"),
        (lambda: expect(lambda u, v: u, np.zeros((2, 2)), [np.eye(2), [[1, 2], [2, 1]]]), InputError,
         r"batch entry \(1,\) has the negative"),
        (lambda: expect(lambda u, v: u, [0, 0], [[1, np.nan], [2, 1]]), InputError, "cov is not finite"),
        (lambda: expect(lambda u, v: u, [0, 0], [[1, 0.2], [0.3, 1]]), InputError, "not symmetric"),
        (lambda: expect(lambda u, v: u, [0, 0], np.eye(3)), InputError, "mean must be"),
        (lambda: expect(lambda u: u[:3], 0, 1.0), InputError, "returned shape"),
        (lambda: expect(lambda u, v: u, 0, 1.0), InputError, "f raised TypeError"),
        (lambda: expect(lambda u: np.exp(u * u), 0, 1.0), LimitError, "does not exist"),
        (lambda: expect(lambda u, v: np.exp(u * v), np.zeros((2, 2)), [np.eye(2) / 9, 4 * np.eye(2)]),
         LimitError,
         r"batch entry \(1,\) does not exist"),
        (lambda: expect(lambda *u: np.exp(u[0] * u[1]), np.zeros(6), 4 * np.eye(6)), LimitError, "not exist"),
        (lambda: expect("exp", [0, 0.0], np.eye(2)), InputError, "takes 1 vector"),
        (lambda: expect(lambda u: 1j * u, 0, 1.0), InputError, "real numbers"),
        (lambda: expect(lambda *u: np.log(u[0]), np.zeros((2, 5)), np.eye(5)), LimitError, r"entry \(0,\)"),
        (lambda: expect("tanh", 0, 1, method="magic"), InputError, "method must be one of"),
        (lambda: expect("tanh", 0, 1, rtol=0), InputError, "rtol must be a positive number"),
        (lambda: expect("tanh", 0, 1, method="closed"), LimitError, "no closed form"),
        (lambda: expect(lambda *u: np.max(u, 0), np.zeros(4), np.eye(4), method="quadrature"), LimitError,
         "dimension 3"),
    ],
)  # fmt: skip
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_an_expectation_that_vanishes_is_no_failure():
    made = expect("sin", 0.0, 1.0)
    assert (made.value, made.error, made.method) == (0.0, 0.0, "closed")


@pytest.mark.filterwarnings("ignore::tpnum.errors.AccuracyWarning")
@pytest.mark.parametrize("means", [(0.2,), (0.4, -0.2), (0.3, -0.2, 0.25)])
def test_rules_of_one_parity_are_not_believed_at_jumps(means):
    """E sign(u_1 .. u_d), a product of error functions: 0 to every even rule along the axes."""
    made = expect(lambda *u: np.sign(np.prod(u, axis=0)), means, 1.4 * np.eye(len(means)), rtol=1e-3)
    exact = np.prod([math.erf(m / math.sqrt(2.8)) for m in means])
    assert abs(made.value - exact) <= max(2 * made.error, 1e-12)
