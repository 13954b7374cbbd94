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
    assert made.cost < 2000
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
        (lambda: expect(lambda u, v: u, 0, 1.0), InputError, "f failed on 1 array"),
        (lambda: expect(lambda u: np.exp(u * u), 0, 1.0), LimitError, "does not exist"),
        (lambda: expect("tanh", 0, 1, method="magic"), InputError, "method must be one of"),
        (lambda: expect("tanh", 0, 1, rtol=0), InputError, "rtol must be positive"),
        (lambda: expect("tanh", 0, 1, method="closed"), LimitError, "no closed form"),
        (lambda: expect(lambda *u: np.max(u, axis=0), np.zeros(4), np.eye(4), method="quadrature"), LimitError,
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
