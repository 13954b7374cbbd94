"""Grouped convolutions have the kernels of one group: against groups written out and finite widths."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.errors import SpecError

X = np.random.default_rng(3).standard_normal((3, 5, 2))
FILTER, GROUPS = 2, 3


def net(groups: int, parameterization: str = "ntk", chan: int = 12) -> nn.Layer:
    how = {"parameterization": parameterization}
    return nn.serial(
        nn.Conv(chan, (FILTER,), W_std=1.4, **how),
        nn.Relu(),
        nn.Conv(chan, (FILTER,), W_std=1.3, b_std=0.3, **how, dilation=(2,), groups=groups),
        nn.Relu(),
        nn.GlobalAvgPool(),
        nn.Dense(chan, W_std=1.2, **how),
    )


def written_out(parameterization: str = "ntk", chan: int = 12) -> tp.Program:
    """The same net with a CDC and matrices of its own for every group."""
    p, g = tp.Program(), GROUPS
    standard = parameterization == "standard"
    u = p.data("u", axes={"t": 5}, channels="d").windows("t", FILTER)
    parts = []
    for k in range(g):
        window = {"t_f": FILTER}
        V = p.matrix(f"V{k}", 1.96 / FILTER, f"a{k}", "d", window, tangent=2.0 if standard else None)
        W = p.matrix(f"W{k}", 1.69 / FILTER, f"b{k}", f"a{k}", window, tangent=chan / g if standard else None)
        R = p.matrix(f"R{k}", 1.44 / g, "n", f"b{k}", tangent=chan / g if standard else None)
        b = p.vector(f"b{k}", var=0.09, dim=f"b{k}", trained=1 / 0.09 if standard else True)
        first = tp.relu((V @ u).sum("t_f"))
        second = tp.relu((W @ first.windows("t", FILTER, dilation=2)).sum("t_f") + b)
        parts.append(R @ second.mean("t"))
    p.output(sum(parts[1:], parts[0]).named("out"))
    return p


@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
def test_the_kernels_are_those_of_the_groups_written_out(parameterization):
    made = tp.kernel(net(GROUPS, parameterization), X, get=("nngp", "ntk"))
    truth = tp.kernel(written_out(parameterization), X, get=("nngp", "ntk"))
    for kernel, other in zip(made, truth, strict=True):
        np.testing.assert_allclose(kernel, other, rtol=1e-13)


def test_the_kernels_are_those_of_one_group():
    for kernel, other in zip(
        tp.kernel(net(GROUPS), X, get=("nngp", "ntk")),
        tp.kernel(net(1), X, get=("nngp", "ntk")),
        strict=True,
    ):
        np.testing.assert_array_equal(kernel, other)


def test_a_group_has_fewer_weights_in_standard_parameterization():
    """The last layer's weights add fan_in (K - b^2) / W_std^2 to the NTK, and fan_in is a group's."""
    tail = {"W_std": 1.3, "b_std": 0.3, "parameterization": "standard"}
    head = nn.serial(nn.Conv(12, (2,), parameterization="standard"), nn.Relu())
    one, many = (
        tp.kernel(nn.serial(head, nn.Conv(12, (2,), **tail, groups=g)), X, get=("nngp", "ntk"))
        for g in (1, GROUPS)
    )
    part = 24 * (one[0] - 0.09) / 1.69
    np.testing.assert_array_equal(one[0], many[0])
    np.testing.assert_allclose(one[1] - many[1], part * (1 - 1 / GROUPS), rtol=1e-12)


def _scores(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return (samples.mean(axis=0) - truth) / (samples.std(axis=0, ddof=1) / np.sqrt(len(samples)))


def test_groups_at_finite_width():
    """Channels cut into groups, in plain loops: the average over draws is the kernel but for O(1/width)."""
    chan, seeds = 240, 80
    part, rng, found = chan // GROUPS, np.random.default_rng(5), []
    for _ in range(seeds):
        w1 = rng.standard_normal((FILTER, chan, 2)) * 1.4 / np.sqrt(2 * FILTER)
        w2 = rng.standard_normal((FILTER, GROUPS, part, part)) * 1.3 / np.sqrt(part * FILTER)
        bias = 0.3 * rng.standard_normal(chan)
        h = np.zeros((3, 4, chan))
        for p, o in product(range(4), range(FILTER)):
            h[:, p] += X[:, p + o] @ w1[o].T
        h = np.maximum(h, 0)
        z = np.zeros((3, 2, chan)) + bias
        for p, o, k in product(range(2), range(FILTER), range(GROUPS)):
            cut = slice(k * part, (k + 1) * part)
            z[:, p, cut] += h[:, p + 2 * o, cut] @ w2[o, k].T
        last = np.maximum(z, 0).mean(axis=1)
        found.append(1.44 * last @ last.T / chan)
    scores = _scores(np.array(found), tp.kernel(net(GROUPS), X))
    assert np.abs(scores).max() < 4, scores


def test_groups_written_out_at_finite_width():
    p = written_out()
    found = []
    for seed in range(60):
        out = tp.simulate(p, 120, seed, data={"u": X})["out"]
        found.append(out @ out.T / out.shape[-1])
    scores = _scores(np.array(found), tp.kernel(net(GROUPS), X))
    assert np.abs(scores).max() < 4, scores


BEFORE = nn.Conv(6, (1,))
REFUSED = {
    "channels": (nn.serial(BEFORE, nn.Conv(8, (2,), groups=4)), "groups is 4, .* divide the 6 channels"),
    "out_chan": (nn.serial(BEFORE, nn.Conv(8, (2,), groups=3)), "groups is 3, .* divide the 8 channels"),
    "data": (nn.Conv(8, (2,), groups=2), "groups is 2, .* Gram matrix of its own"),
    "depthwise": (nn.serial(BEFORE, nn.Relu(), nn.Conv(12, (2,), groups=6)), "depthwise .* not Gaussian"),
    "concatenated": (
        nn.serial(
            nn.FanOut(2),
            nn.parallel(nn.Conv(4, (1,)), nn.Conv(8, (1,))),
            nn.FanInConcat(),
            nn.Conv(4, (1,), groups=2),
        ),
        "groups is 2, .* concatenated",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_groups_without_a_limit_are_refused(case):
    layer, message = REFUSED[case]
    with pytest.raises(SpecError, match=message) as caught:
        nn.program(layer, (5, 2))
    assert "\n" not in str(caught.value) and "Conv" in str(caught.value)


def test_a_depthwise_filter_is_a_product_in_the_language():
    """z = w_0 h(p) + w_1 h(p + 1): E z z' is the kernel of one group, and E z^4 / (E z^2)^2 is not 3.

    For h = relu(g), g ~ N(0, 1): E w^4 E h^4 / (E w^2 E h^2)^2 = 3 (3/2) / (1/2)^2 = 18.
    """
    p = tp.Program()
    g, w = p.vector("g"), p.vector("w")
    z = w * tp.relu(g)
    law = tp.limit(p)
    assert law.expect(lambda x: x**2, z) == pytest.approx(0.5, rel=1e-6)
    assert law.expect(lambda x: x**4, z) == pytest.approx(4.5, rel=1e-6)
