"""Random nets over random images by the cells, the general path and plain loops; what is near stays near."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import tpnum as tp
from tests.oracle import loops
from tests.oracle.every_net import classes_in
from tests.oracle.random_images import generic, hostile, random_net, spec
from tests.oracle.roads import CELLS, GENERAL, kernels
from tests.test_conformance import tolerance
from tpnum import nn
from tpnum.errors import TpnumError

KINDS = ("nngp", "ntk")
SEEDS, MORE = range(0, 20, 10), range(20, 300, 10)
ALIKE = {275}
"""Nets that make variables equal at two positions of an image, of which rounding keeps half the digits."""


def close(made, truth, atol, whole=None):
    assert made.shape == truth.shape
    np.testing.assert_allclose(
        made, truth, rtol=0, atol=atol * (np.abs(truth if whole is None else whole).max() or 1)
    )


# against the general path ----------------------------------------------------------------------------------


def agree(seed, channels=None, loose=0.0):
    """One net for every get, with x2 or without, of its shape or another, in both precisions; its road."""
    net, shape, other = random_net(seed)
    shape = (*shape[:-1], channels or shape[-1])
    x = generic(seed, shape, 4)
    truth, _ = kernels(net, x, get=KINDS, road=GENERAL)
    made, road = kernels(net, x, get=KINDS)
    part = kernels(net, x[:1], x[1:], get=KINDS)[0]
    single = kernels(net, x, get=KINDS, dtype="float32")[0]
    for kind in KINDS:
        atol = max(10 * tolerance(net, kind), loose, 3e-8 if seed in ALIKE else 0)
        want, k = getattr(truth, kind), getattr(made, kind)
        close(k, want, atol)
        close(kernels(net, x, get=kind)[0], k, atol)
        close(getattr(part, kind), k[:1, 1:], atol, k)
        close(getattr(single, kind), k, max(1e-5, 2e4 * loose, 2e-4 if seed in ALIKE else 0))
        close(kernels(net, x[2:3], get=kind)[0], k[2:3, 2:3], atol, k)
    if other:
        y = generic(seed + 1, (*other, shape[-1]), 3)
        two, want = (kernels(net, x, y, get=KINDS, road=which)[0] for which in (None, GENERAL))
        for kind in KINDS:
            atol = max(10 * tolerance(net, kind), loose, 3e-8 if seed in ALIKE else 0)
            close(getattr(two, kind), getattr(want, kind), atol)
    return road


def agree_all(seeds):
    roads = Counter(agree(seed) for seed in seeds)
    assert roads[CELLS] >= 0.8 * roads.total(), roads
    return roads


@pytest.mark.parametrize("start", SEEDS)
def test_random_nets(start):
    agree_all(range(start, start + 10))


@pytest.mark.slow
@pytest.mark.parametrize("start", MORE)
def test_many_random_nets(start):
    agree_all(range(start, start + 10))


@pytest.mark.parametrize("start", [1000, pytest.param(1005, marks=pytest.mark.slow)])
def test_one_channel(start):
    """Where a filter sees one number correlations are 1 or -1: no road keeps more than half the digits."""
    for seed in range(start, start + 5):
        agree(seed, channels=1, loose=5e-8)


# against plain loops ---------------------------------------------------------------------------------------

DUPLICATES = ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
SMALL = ([5, 9], [9, 5])
"""A zero image and a small one are near duplicates to a net with biases."""
OPPOSITE = (7, [0, 1, 2, 3, 4])


def distance(made, truth):
    """Per pair of images the error, by the root of the product of their own kernels."""
    n, half = len(truth), (truth.ndim - 2) // 2
    places = int(np.prod(truth.shape[2 : 2 + half], initial=1))
    own = np.sqrt(np.einsum("iipp->ip", truth.reshape(n, n, places, places))).max(1)
    scale = np.outer(own, own)
    error = np.abs(made - truth).reshape(n, n, -1).max(-1)
    assert (error[scale == 0] == 0).all()
    return error / np.where(scale == 0, 1, scale)


def kinds_of_pairs():
    kind = np.zeros((10, 10), int)
    kind[np.ix_(*DUPLICATES)] = kind[SMALL] = 1
    kind[OPPOSITE] = kind[OPPOSITE[::-1]] = 2
    kind[np.diag_indices(10)] = 0
    return kind


BOUNDS = {"float64": (2e-12, 1e-8, 4e-8), "float32": (2e-4, 1e-4, 5e-4)}
"""Of unlike images, near duplicates and opposite ones.

Slopes are known to the root of a rounding at opposite ones; in float32 the correlation of two pixels of
unlike sizes has their ratio in its error.
"""


def survive(seed):
    net, shape, _ = random_net(seed, plain=True)
    x = hostile(seed, shape)
    truth = [k.astype(float) for k in loops.kernels(spec(net), x)]
    kind, drop = kinds_of_pairs(), nn.Dropout in classes_in(net)
    for dtype, bounds in BOUNDS.items():
        made, road = kernels(net, x, get=KINDS, dtype=dtype)
        for k, t in zip(made, truth, strict=True):
            assert np.isfinite(k).all()
            error = distance(k, t.reshape(k.shape))
            for which, bound in enumerate(bounds):
                assert error[kind == which].max() <= bound, (dtype, which, error[kind == which].max())
    made = kernels(net, x, get=KINDS)[0]
    rows, cols = (kernels(net, a, b, get=KINDS)[0] for a, b in ((x[:5], x[5:]), (x[5:], x[:5])))
    for k, left, right in zip(made, rows, cols, strict=True):
        assert np.array_equal(left[0], left[4]) and np.array_equal(right[:, 0], right[:, 4])
        if not drop:
            assert np.abs(k[0, 4] - k[0, 0]).max() <= 1e-8 * np.abs(k[0, 0]).max()
    return road


@pytest.mark.parametrize("start", SEEDS)
def test_hostile_images(start):
    roads = Counter(survive(seed) for seed in range(start, start + 10))
    assert roads[CELLS] == 10


@pytest.mark.slow
@pytest.mark.parametrize("start", MORE)
def test_many_hostile_images(start):
    roads = Counter(survive(seed) for seed in range(start, start + 10))
    assert roads[CELLS] == 10


HOMOGENEOUS = [s for s in range(24) if nn.Erf not in classes_in(random_net(s, plain=True)[0])][:8]
"""Nets without Erf, whose slope at 1e100 the loops do not survive."""


@pytest.mark.parametrize("scale", [1e100, 1e-100])
@pytest.mark.parametrize("seed", HOMOGENEOUS)
def test_huge_and_tiny_images(seed, scale):
    net, shape, _ = random_net(seed, plain=True)
    x = hostile(seed, shape)[[0, 4, 5, 8]] * scale
    for k, t in zip(kernels(net, x, get=KINDS)[0], loops.kernels(spec(net), x), strict=True):
        assert distance(k, t.reshape(k.shape)).max() <= 1e-8


def test_nothing_but_zeros():
    for seed in range(10):
        net, shape, _ = random_net(seed, plain=True)
        x = np.zeros((2, *shape))
        for k, t in zip(kernels(net, x, get=KINDS)[0], loops.kernels(spec(net), x), strict=True):
            close(k, t.reshape(k.shape), 1e-13)


# what crashed or was wrong ---------------------------------------------------------------------------------

C, RELU = nn.Conv, nn.Relu()
NETS = {
    "local weights over three axes behind a pool": (
        (2, 2, 4, 1), C(8, (1, 1, 1), b_std=0.1), RELU, nn.AvgPool((1, 1, 2)),
        nn.ConvLocal(8, (3, 2, 2), (1, 2, 1), "SAME"),
    ),
    "a norm behind a pool": (
        (6, 3), C(8, (2,)), RELU, nn.AvgPool((2,)), C(8, (2,)), nn.LayerNorm(), RELU, nn.GlobalAvgPool(),
    ),
    "a polynomial": (
        (3, 2), C(8, (1,)), nn.Polynomial((0.1, 0.5, 0.2)), C(8, (1,)), RELU, nn.GlobalAvgPool(),
    ),
    "a power": ((3, 2), C(8, (2,)), nn.Monomial(2), nn.GlobalSumPool(), nn.Dense(1)),
    "a norm over positions": (
        (4, 3, 3), C(8, (2, 2)), RELU, nn.LayerNorm((-1, 1)), C(8, (2, 1)), RELU, nn.GlobalAvgPool(),
    ),
    "a norm over positions that is zero": (
        (6, 3), C(8, (2,)), nn.LayerNorm((-1, 1)), C(8, (2,)), RELU, nn.GlobalAvgPool(),
    ),
    "a bias that is pooled": (
        (5, 2), C(8, (3,), (3,), "SAME", 1.4, 0.1), nn.GlobalAvgPool(), nn.Dense(8, 1.3, 0.1),
        nn.Exp(0.3, 0.5),
    ),
    "a residual sum with biases that is pooled": (
        (5, 2), C(8, (3,), None, "SAME", 1.4, 0.1), RELU, nn.FanOut(2),
        nn.parallel(nn.serial(C(8, (3,), None, "SAME", 1.3, 0.2), RELU, C(8, (3,), None, "SAME", 1.3, 0.3)),
                    nn.Identity()),
        nn.FanInSum(), nn.GlobalAvgPool(), nn.Dense(1),
    ),
    "two convolutions in a row with biases": ((6, 2), C(8, (2,), b_std=0.5), C(8, (3,), b_std=0.2), nn.Erf()),
}  # fmt: skip


@pytest.mark.parametrize("get", [("nngp",), ("ntk",), KINDS])
@pytest.mark.parametrize("name", NETS)
def test_nets_that_were_hard(name, get):
    shape, *layers = NETS[name]
    net = nn.serial(*layers)
    x = np.random.default_rng(3).standard_normal((3, *shape[:-1], max(shape[-1], 2)))
    made, road = kernels(net, x, get=get)
    assert road == CELLS
    for k, t in zip(made, kernels(net, x, get=get, road=GENERAL)[0], strict=True):
        close(k, t, 1e-12)


# threads and tiles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 5, 14, 18, 23, 29])
def test_threads_change_no_bit(seed):
    net, shape, _ = random_net(seed)
    x = generic(seed, shape, 9)
    for y in (None, x[:5] + 1.0):
        one, two = (tp.kernel(net, x, y, get=KINDS, tile=2, n_jobs=jobs) for jobs in (1, 2))
        whole = tp.kernel(net, x, y, get=KINDS, n_jobs=1)
        for a, b, c in zip(one, two, whole, strict=True):
            assert np.array_equal(a, b)
            close(a, c, 1e-12)


# sentences -------------------------------------------------------------------------------------------------

POOLED = nn.serial(C(8, (2,)), RELU, nn.GlobalAvgPool(), nn.Dense(1))
FLAT = nn.serial(C(8, (2,)), RELU, nn.Flatten(), nn.Dense(1))
WRONG = {
    "a window larger than the image": (nn.serial(C(8, (4,)), RELU), (3, 2), None, r"filter_shape.*\(4,\).*3"),
    "a pool larger than the image": (
        nn.serial(C(8, (2,)), RELU, nn.AvgPool((3,))), (3, 2), None, r"window_shape.*\(3,\).*2",
    ),
    "an image of no positions": (POOLED, (0, 2), None, "0"),
    "an image of no channels": (POOLED, (3, 0), None, "0"),
    "channels that differ": (POOLED, (5, 2), (5, 3), "2.*3|3.*2"),
    "positions that differ where weights need them equal": (FLAT, (5, 2), (7, 2), "same shape"),
    "axes that differ": (POOLED, (5, 2), (5, 5, 2), "shape|axes"),
    "no axis at all": (POOLED, (2,), None, "spatial axis"),
    "images of one channel without it": (nn.serial(C(8, (2, 2)), RELU), (5, 5), None, r"x\[\.\.\., None\]"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_images_have_a_sentence(case):
    net, shape, other, words = WRONG[case]
    y = None if other is None else np.ones((2, *other))
    with pytest.raises(TpnumError, match=words) as caught:
        tp.kernel(net, np.ones((2, *shape)), y)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_no_images_at_all():
    for x in (np.ones((0, 5, 2)), np.ones((2, 5, 2))[:0]):
        try:
            made = tp.kernel(POOLED, x)
        except TpnumError as error:
            assert "x1" in str(error)
        else:
            assert made.shape == (0, 0)
