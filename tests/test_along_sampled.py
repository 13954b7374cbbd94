"""Functions along axes where the rules end: the ensemble against the rules, finite nets, plain averages."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.roads import finite_kernels
from tpnum import nn
from tpnum.ensemble.tile import SampledPlan
from tpnum.errors import AccuracyWarning
from tpnum.functions import get
from tpnum.gauss.special.families import Family
from tpnum.gauss.special.functional import Functional
from tpnum.gauss.special.jointly import expectation
from tpnum.gauss.special.pairing import Cells

BOTH = ("nngp", "ntk")
RNG = np.random.default_rng(12)
X = RNG.standard_normal((2, 8, 3))


def conv(window=1):
    return nn.Conv(16, (window,))


def norm():
    return nn.BatchNorm(axis=1, eps=0.1)


RULED = {
    "largest entries": nn.serial(
        conv(2), nn.Relu(), nn.MaxPool((2,), (2,)), conv(), nn.Relu(), nn.Flatten(), nn.Dense(1)
    ),
    "normalisation": nn.serial(conv(), norm(), nn.Relu(), conv(), nn.Tanh(), nn.Flatten(), nn.Dense(1)),
    "attention": nn.serial(
        nn.Dense(8),
        nn.GlobalSelfAttention(
            n_chan_out=8, n_chan_key=8, n_chan_val=8, n_heads=1, scaling="1/sqrt(n)", W_key_std=1.2
        ),
        nn.Relu(),
        nn.GlobalAvgPool(),
        nn.Dense(1),
    ),
}
BEYOND = {
    "a window of windows": nn.serial(
        conv(), nn.Relu(), nn.MaxPool((2,), (2,)), nn.MaxPool((2,), (2,)), conv(), nn.Relu(),
        nn.GlobalAvgPool(), nn.Dense(1),
    ),
    "x + tanh(x) in windows": nn.serial(
        conv(2), nn.Residual(nn.Tanh()), nn.MaxPool((2,), (2,)), nn.Flatten(), nn.Dense(1)
    ),
    "beside what it normalises": nn.serial(
        conv(), nn.Residual(nn.serial(norm(), nn.Relu())), nn.Flatten(), nn.Dense(1)
    ),
    "normalised, then in windows": nn.serial(
        conv(), norm(), nn.MaxPool((2,), (2,)), nn.Flatten(), nn.Dense(1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", RULED)
def test_the_ensemble_agrees_with_the_rules(case):
    net, x = RULED[case], X[:, :4]
    program = nn.program(net, x.shape[1:])
    found = SampledPlan((program, program), BOTH, "it is tested").sample({"u": x}, None, 1 << 14)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is known to.*", category=AccuracyWarning)
        warnings.filterwarnings("error", message=".*sampled since.*")
        ruled = tp.kernel(net, x, get=BOTH, rtol=1e-3, error=True)
    for kind, right, slack in zip(BOTH, ruled.kernel, ruled.error, strict=True):
        one = found[kind]
        assert one.relative < 0.02
        assert np.max(np.abs(one.value - right) / np.hypot(one.error, slack)) < 4.0


@pytest.mark.parametrize("case", BEYOND)
def test_what_has_no_rule_is_sampled(case):
    net = BEYOND[case]
    with pytest.warns(AccuracyWarning, match="the kernel, sampled since"):
        made = tp.kernel(net, X, get=BOTH, error=True)
    for value, error, (right, spread) in zip(
        made.kernel, made.error, finite_kernels(net, X, 100, 30), strict=True
    ):
        assert error.max() < 5e-3 * value.max()
        assert np.max(np.abs(value - right) / np.hypot(error, spread + 1e-3 * value.max())) < 4.5


def test_batches_of_images_are_sampled_where_they_must_be():
    """The kernel across batches of what normalises over them, beside what it normalises."""
    net = nn.serial(nn.Dense(16), nn.Residual(nn.serial(nn.BatchNorm(eps=0.1), nn.Relu())), nn.Dense(1))
    x = RNG.standard_normal((12, 4))
    with pytest.warns(AccuracyWarning, match="sampled"):
        made = tp.kernel(net, x, get=BOTH, batch_size=6, error=True)
    program = nn.program(net, (4,), batch_size=6)
    draws = [tp.simulate(program, 1000, seed, data={"u": x.reshape(2, 6, 4)}) for seed in range(100)]
    ((weight, name),) = program.outputs
    h = np.stack([draw.vector(name).reshape(12, -1) for draw in draws])
    every = weight * h @ h.transpose(0, 2, 1) / h.shape[-1]
    far = (made.kernel.nngp - every.mean(axis=0)) / np.hypot(every.std(axis=0) / 10, made.error.nngp + 1e-3)
    assert np.abs(far).max() < 4.5


@pytest.mark.parametrize(
    "functional",
    [Functional("normalise", 0.1), Functional("normalise", 0.1, outer=get("relu").derivative(0))],
)
def test_gradients_across_two_batches(functional):
    """E J' f D (J' g)' of the slopes of normalisation at two batches, by a plain average."""
    rng = np.random.default_rng(5)
    d = 5
    z = rng.standard_normal((2 * d, 3 * d))
    cov = z @ z.T / (3 * d)
    mixed = rng.standard_normal((d, d))
    one = np.zeros(1, dtype=np.int64)
    families = Family(cov[None, :d, :d]), Family(cov[None, d:, d:])
    made, error, _ = expectation(
        "back",
        (functional,) * 2,
        Cells(families, (one, one), cov[None, :d, d:], np.zeros(1, bool), mixed[None]),
        1e-3,
        None,
    )
    u = np.linalg.cholesky(cov) @ rng.standard_normal((2 * d, 1 << 16))
    jacobians = []
    for side in (u[:d], u[d:]):
        n, out, _ = (part[0] for part in functional.jacobian(side[None]))
        centred = np.eye(d) - 1 / d
        jacobians.append(out[:, None] * (centred[:, :, None] - n[:, None] * n[None] / d))
    every = np.einsum("iak,ij,jbk->kab", jacobians[0], mixed, jacobians[1], optimize=True)
    far = (made[0] - every.mean(axis=0)) / np.hypot(every.std(axis=0) / 2**8, error)
    assert np.abs(far).max() < 4.5
    assert error.max() < 5e-3 * np.abs(made).max()


@pytest.mark.parametrize("case", ["largest entries", "normalisation"])
def test_transposed_cells_are_computed_once(case):
    """A tile of inputs with themselves has the values of two of equal inputs, within errors."""
    net, x = RULED[case], X[:, :4]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        one = tp.kernel(net, x, get=BOTH, rtol=1e-3)
        two = tp.kernel(net, x, x.copy(), get=BOTH, rtol=1e-3)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, a.T)
        np.testing.assert_allclose([b[0, 1], b[1, 0]], a[0, 1], rtol=0, atol=3e-3 * np.abs(b).max())


def test_cells_that_are_transposes():
    """Found by the families that they pair, and only if the matrices between these agree."""
    from tpnum.evaluate.along import _both, _mirrored

    a, b = (part.ravel() for part in np.indices((3, 3)))
    m = np.random.default_rng(3).standard_normal((3, 3, 2, 2))
    cross = (m + m.transpose(1, 0, 3, 2)).reshape(9, 2, 2)
    source = _mirrored(a, b, cross, None)
    np.testing.assert_array_equal(source, [0, 1, 2, 1, 4, 5, 2, 5, 8])
    np.testing.assert_array_equal(_both(cross[source == np.arange(9)], source), cross)
    other = cross.copy()
    other[3, 0, 1] += 1e-6
    np.testing.assert_array_equal(_mirrored(a, b, other), [0, 1, 2, 3, 4, 5, 2, 5, 8])
    np.testing.assert_array_equal(_mirrored(a * 0, b * 0, cross), np.arange(9))
    np.testing.assert_array_equal(_mirrored(a, b + 3, cross), np.arange(9))
