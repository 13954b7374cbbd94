"""Standard errors of kernels that are sampled along axes: what they cover, entry by entry."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.errors import AccuracyWarning
from tpnum.gauss.special.families import T95, Family
from tpnum.gauss.special.functional import Functional
from tpnum.gauss.special.jointly import expectation
from tpnum.gauss.special.pairing import Cells

BOTH = ("nngp", "ntk")
ACTS = (nn.Relu(), nn.Abs(), nn.Sign(), nn.LeakyRelu(0.1), nn.Erf())


def random_net(rng):
    """A convolution, a function without a rule for its largest entries, and one that may have kinks."""
    window = int(rng.integers(2, 4))
    inner = (nn.Erf(), nn.Abs(), nn.Gelu(), nn.LeakyRelu(0.1))[rng.integers(4)]
    ends = ((nn.Flatten(),), (nn.GlobalAvgPool(),), (nn.AvgPool((2,), (1,)), nn.Flatten()))
    return nn.serial(
        nn.Conv(8, (2,), W_std=1.3, b_std=0.2), inner, nn.MaxPool((window,)),
        nn.Conv(8, (1,), W_std=1.3), ACTS[rng.integers(len(ACTS))],
        *ends[rng.integers(3)], nn.Dense(1),
    )  # fmt: skip


def attending(rng):
    """Attention with random logits, and a function behind it, position by position or of their mean."""
    attention = nn.GlobalSelfAttention(
        8, 6, 4, 2, scaling="1/sqrt(n)", W_key_std=rng.uniform(0.5, 2.0), W_query_std=1.2, b_std=0.2,
        causal=bool(rng.random() < 0.5),
    )  # fmt: skip
    mean, act = (nn.GlobalAvgPool(),), (nn.Dense(8), ACTS[rng.integers(len(ACTS))])
    behind = ((*mean, *act), (*act, *mean), (*act, nn.Flatten()))[rng.integers(3)]
    return nn.serial(nn.Conv(8, (2,), W_std=1.3, b_std=0.2), attention, *behind, nn.Dense(1))


def overlapping(rng):
    """Windows of many entries, each one of its neighbour's but for one or two."""
    window, step = int(rng.integers(6, 9)), int(rng.integers(1, 3))
    before = ((), (nn.Relu(),))[rng.integers(2)]
    behind = ((nn.Flatten(),), (nn.GlobalAvgPool(),), (nn.Conv(8, (1,)), nn.Relu(), nn.GlobalAvgPool()))
    return nn.serial(
        nn.Conv(8, (2,), W_std=1.3, b_std=0.2), *before, nn.MaxPool((window,), (step,)),
        *behind[rng.integers(3)], nn.Dense(1),
    )  # fmt: skip


STEPS = {random_net: 5, attending: 6, overlapping: 12}


def quiet(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        return tp.kernel(*args, get=BOTH, **options)


def far(seeds, made=random_net, largest=1e-2):
    """Distances from kernels on 16 times as many points, in standard errors."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 11])
        net, x = made(rng), rng.standard_normal((2, STEPS[made], 3))
        y = x + rng.choice([0.0, 1e-2, 1.0]) * rng.standard_normal(x.shape)
        rough = quiet(net, x, y, rtol=1e-2, error=True)
        for k, e, right in zip(*rough, quiet(net, x, y, rtol=4e-4), strict=True):
            assert (e > 0.0).all() and (e < largest * np.abs(k).max()).all()
            found.append(((k - right) / np.hypot(e, 1e-4 * np.abs(right))).ravel())
    return np.abs(np.concatenate(found))


def test_standard_errors_cover_what_they_say():
    assert (far(range(1)) < 3.0).all()


def test_standard_errors_of_attention():
    assert np.mean(far(range(3), attending, 3e-2) < 3.0) > 0.98


@pytest.mark.parametrize("d", [7, 12])
@pytest.mark.parametrize("common", [0.0, 0.5])
def test_windows_that_overlap(d, common):
    """u = (w_1, .., w_d), v = (w_2, .., w_{d+1}): for independent w, E max u max v = E h(M)^2, M the largest
    in both and h(m) = E max(m, w); one of these leads both with probability (d - 1)/(d + 1)."""
    from scipy.special import ndtr

    m = np.linspace(-9.0, 9.0, 4001)
    density = np.exp(-0.5 * m**2) / np.sqrt(2.0 * np.pi)
    law = (d - 1) * ndtr(m) ** (d - 2) * density
    right = {
        "value": common + (1.0 - common) * np.sum(law * (m * ndtr(m) + density) ** 2) * (m[1] - m[0]),
        "slope": (d - 1) / (d + 1),
    }
    cov = common + (1.0 - common) * np.eye(d + 1)
    families, one = (Family(cov[None, :d, :d]), Family(cov[None, 1:, 1:])), np.zeros(1, dtype=np.int64)
    for what, want in right.items():
        direction = np.eye(d + 1)[None, :d, 1:] if what == "slope" else None
        value, error, _ = expectation(
            what,
            (Functional("max"),) * 2,
            Cells(families, (one, one), cov[None, :d, 1:], np.zeros(1, bool), direction),
            1e-2,
            None,
        )
        assert abs(value[0] - want) < 4.0 * error[0] / T95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "largest", "near"),
    [(random_net, 1e-2, 0.95), (attending, 1e-1, 0.97), (overlapping, 3e-2, 0.95)],
)  # replicates have the fewest points, values more: errors are on the safe side
def test_standard_errors_of_many_nets(made, largest, near):
    z = far(range(100, 200), made, largest)
    assert np.mean(z < 3.0) > 0.99
    assert np.mean(z < 1.0) < near


def test_diagonals_and_values_are_those_without_errors():
    rng = np.random.default_rng(3)
    net, x = random_net(rng), rng.standard_normal((3, STEPS[random_net], 3))
    both, own = quiet(net, x, rtol=1e-2, error=True), quiet(net, x, rtol=1e-2, diag=True, error=True)
    plain = quiet(net, x, rtol=1e-2)
    for k, e, d, spread, without in zip(*both, *own, plain, strict=True):
        np.testing.assert_array_equal(k, without)
        np.testing.assert_allclose(np.diag(k), d, rtol=1e-12)
        np.testing.assert_allclose(np.diag(e), spread, rtol=1e-6)
