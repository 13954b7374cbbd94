"""Batches of one axis, and what is added to the variance, against integrals written down another way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erfcx

import tpnum as tp
from tpnum import nn
from tpnum.errors import LimitError
from tpnum.gauss import special
from tpnum.gauss.special import batches
from tpnum.gauss.special.families import Family
from tpnum.gauss.special.functional import RELU, STEP, Functional
from tpnum.gauss.special.jointly import expectation
from tpnum.gauss.special.pairing import Cells


def brute(axes, rho, eps, theta):
    """E phi(BN x) phi(BN y)' and E J theta J', relu, x = xi e and y = eta f: Legendre's rule in quadrants."""
    t, w = np.polynomial.legendre.leggauss(100)
    z = np.concatenate([-4.5 * (t + 1.0), 4.5 * (t + 1.0)])
    w = 4.5 * np.concatenate([w, w])
    density = np.exp((2 * rho * np.outer(z, z) - z[:, None] ** 2 - z**2) / (2 * (1 - rho**2)))
    density *= np.outer(w, w) / (2 * np.pi * np.sqrt(1 - rho**2))
    relus, jacobians = [], []
    for e in axes:
        x = z[:, None] * e
        size = (np.sum(x**2, axis=1) + len(e) * eps)[:, None, None]
        u = np.sqrt(len(e) / size[:, 0]) * x
        inner = (np.eye(len(e)) - 1.0 / len(e)) / size**0.5 - x[:, :, None] * x[:, None] / size**1.5
        relus.append(np.maximum(u, 0.0))
        jacobians.append((u > 0.0)[:, :, None] * np.sqrt(len(e)) * inner)
    tangent = np.einsum("ab,aij,jk,blk->il", density, jacobians[0], theta, jacobians[1], optimize=True)
    return relus[0].T @ density @ relus[1], tangent


def joint(axes, rho):
    one, two = axes
    cross = rho * np.outer(one, two)
    return np.block([[np.outer(one, one), cross], [cross.T, np.outer(two, two)]])


def centred(seed, size):
    rng = np.random.default_rng([seed, size])
    return [x - x.mean() for x in rng.standard_normal((2, size))]


@pytest.mark.parametrize("rho", [-0.8, 0.1, 0.9])
@pytest.mark.parametrize("size", [2, 3])
def test_against_two_dimensional_integrals(size, rho):
    """Two examples, or three on a line."""
    axes = centred(3, size)
    theta = np.outer(*axes) if size > 2 else np.array([[0.7, 0.1], [-0.2, 0.5]])
    for eps in (0.5, 4.0):
        value, tangent = brute(axes, rho, eps, theta)
        made = special.batchnorm_pair(joint(axes, rho), eps=eps)
        np.testing.assert_allclose(made.value, value, rtol=0, atol=1e-12)
        made = special.batchnorm_pair_tangent(joint(axes, rho), theta, eps=eps)
        np.testing.assert_allclose(made.value, tangent, rtol=0, atol=1e-11 * np.abs(tangent).max())


@pytest.mark.parametrize("angle", [1e-3, 0.3, 1.5, 2.9])
def test_two_examples_are_signs(angle):
    """Without eps; relu is 1 where the sign is positive, and the derivative a delta function."""
    axes = np.array([0.5, -0.5]), np.array([1.5, -1.5])
    cov, theta = joint(axes, np.cos(angle)), np.array([[0.7, 0.1], [-0.2, 0.5]])
    both = 0.5 * (1.0 - angle / np.pi)
    made = special.batchnorm_pair(cov)
    want = [[both, 0.5 - both], [0.5 - both, both]]
    np.testing.assert_allclose(made.value, want, rtol=0, atol=1e-14 + 2e-16 / angle)
    assert np.abs(made.value - want).max() <= made.error.max()
    sharp = special.batchnorm_pair_tangent(cov, theta).value
    density = 2.0 / np.pi / np.sin(angle)  # of E sgn' sgn', numbers of variance one
    along = (theta[0, 0] - theta[0, 1] - theta[1, 0] + theta[1, 1]) / 3.0
    want = 0.25 * density * along * np.array([[1.0, -1.0], [-1.0, 1.0]])
    np.testing.assert_allclose(sharp, want, rtol=1e-12 + 1e-15 / angle**2)
    if angle > 0.1:
        soft = special.batchnorm_pair_tangent(cov, theta, eps=1e-14).value
        np.testing.assert_allclose(soft, sharp, rtol=0, atol=1e-6 * np.abs(sharp).max())


@pytest.mark.parametrize("eps", [1e-12, 1e-8, 1e-5, 1e-2, 1.0])
def test_one_number_is_known(eps):
    """E x^2/(x^2 + a) = 1 - sqrt(pi a/2) exp(a/2) erfc(sqrt(a/2)), within a batch and beside a copy."""
    cov = np.array([[1.0, 0.3], [0.3, 1.2]])
    a = 2.0 * eps / 0.8
    want = 1.0 - np.sqrt(0.5 * np.pi * a) * erfcx(np.sqrt(0.5 * a))
    np.testing.assert_allclose(special.batchnorm(cov, "abs", eps=eps).value, want, rtol=1e-11)
    beside = np.block([[cov, cov], [cov, cov]])
    made = special.batchnorm_pair(beside, 2, "abs", eps=eps)
    np.testing.assert_allclose(made.value, want, rtol=1e-12)


@pytest.mark.parametrize("eps", [1e-12, 1e-8, 1e-3, 0.1])
def test_copies_of_two_examples(eps):
    """The integrals over one batch are those over both where they are equal."""
    x = np.random.default_rng(12).standard_normal((2, 7))
    cov, theta = x @ x.T, x @ x.T + np.eye(2)
    beside = np.tile(cov, (2, 2))
    within = special.batchnorm(cov, eps=eps).value
    np.testing.assert_allclose(special.batchnorm_pair(beside, eps=eps).value, within, rtol=0, atol=1e-12)
    within = special.batchnorm_tangent(cov, theta, eps=eps).value
    across = special.batchnorm_pair_tangent(beside, theta, eps=eps).value
    np.testing.assert_allclose(across, within, rtol=0, atol=1e-12 * np.abs(within).max())


@pytest.mark.parametrize("eps", [1e-3, 0.1])
def test_one_batch_of_three(eps):
    """Legendre's rule over the angle, fine enough, and the trapezoidal one over a line."""
    x = np.random.default_rng(13).standard_normal((3, 7))
    batch, _, _ = batches._batch(x @ x.T, eps)
    want, _ = batches._moments(batch, batches.homogeneous("relu"), ("angle", 1500))
    made = special.batchnorm(x @ x.T, eps=eps).value
    np.testing.assert_allclose(made, want[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("what", ["value", "slope"])
@pytest.mark.parametrize("size", [3, 4])
def test_copies_are_the_batch_itself(size, what):
    """Cells of two batches that are equal, though they are not known to be one."""
    x = np.random.default_rng([size, 14]).standard_normal((size, 7))
    cov, theta = (x @ x.T)[None], (x @ x.T + np.eye(size))[None]
    outer = RELU if what == "value" else STEP
    sides, families = (Functional("normalise", 1e-3, outer=outer),) * 2, (Family(cov), Family(cov.copy()))
    place = np.zeros(1, np.int64)
    made = [
        expectation(what, sides, Cells(families, (place, place), cov, np.array([same]), theta), 1e-6, None)
        for same in (True, False)
    ]
    top = np.abs(made[0].value).max()
    np.testing.assert_allclose(made[1].value, made[0].value, rtol=0, atol=1e-12 * top)


def test_mixed_batches_and_refusals():
    """Problems of one axis beside others; without eps the derivative of equal signs is infinite."""
    line, x = centred(5, 4), np.random.default_rng(6).standard_normal((8, 6))
    covs = np.stack([joint(line, 0.4), x @ x.T])
    made = special.batchnorm_pair(covs, eps=0.1)
    for cov, value in zip(covs, made.value, strict=True):
        np.testing.assert_allclose(special.batchnorm_pair(cov, eps=0.1).value, value, rtol=0, atol=1e-14)
    same = line[0], line[0]
    with pytest.raises(LimitError, match="batchnorm_pair_tangent"):
        special.batchnorm_pair_tangent(joint(same, 1.0), np.outer(*same))


def test_kernels_of_batches_of_two():
    """One batch beside copies that are nearly it, where no fixed rule of quadrature converges."""
    x = np.random.default_rng(7).standard_normal((2, 5))
    near = x + 1e-4 * np.random.default_rng(8).standard_normal((2, 5))
    net = nn.serial(nn.Dense(8), nn.BatchNorm(), nn.Relu(), nn.Dense(1))
    k, error = tp.kernel(net, np.concatenate([x, near]), batch_size=2, error=True)
    one, two = x[0] - x[1], near[0] - near[1]
    cross = np.linalg.norm(one / np.linalg.norm(one) - two / np.linalg.norm(two))
    both = 0.5 - np.arcsin(0.5 * cross) / np.pi
    want = [[both, 0.5 - both], [0.5 - both, both]]
    np.testing.assert_allclose(k[:2, 2:], want, rtol=0, atol=1e-11)
    assert error.max() < 1e-10
