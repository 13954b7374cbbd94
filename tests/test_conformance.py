"""Every layer and every kind of net by every road: the machine, the general path, scalar lines, finite nets.

Which road a net takes is asserted; that the roads agree is asked to rounding, for every ``get``, with x2
and without, for biases and none, on inputs among which some are equal or nearly equal.
"""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.every_net import FAMILIES, FLAT, classes_in, dense, layers_in
from tests.oracle.random_nets import random_net
from tests.oracle.roads import GENERAL, MACHINE, kernels, scalar_lines, two_programs
from tpnum import nn
from tpnum.gauss.closed import FAMILIES as FAMILIES_OF_DUALS
from tpnum.kernels.machine import SLOTS

KINDS = ("nngp", "ntk")
GETS = (*KINDS, KINDS, KINDS[::-1])

CLOSED, SERIES = 1e-13, 1e-12
SMOOTH = {
    getattr(nn, name)
    for name in ("Tanh", "Sigmoid", "Silu", "Swish", "Softplus", "Elu", "Selu", "Mish", "HardTanh")
} | {nn.Elementwise}
"""Functions whose duals are series, with derivatives that are known to `tpnum.gauss.pair.TOLERANCE`."""

STEEP = {nn.Sign, nn.Step}
"""At near duplicates one is a root: two of them leave the fourth root of a rounding of the inputs."""


def tolerance(net, kind="nngp"):
    found = classes_in(net)
    if found & STEEP:
        return 1e-11
    return (SERIES if kind == "nngp" else 5 * SERIES) if found & SMOOTH else CLOSED


def inputs(seed, shape, n=7):
    """Random inputs: one twice, two pairs of nearly equal ones."""
    x = np.random.default_rng([seed, 7]).standard_normal((n, *shape))
    x[1] = x[0] + 1e-9 * x[1]
    x[3] = x[2] + 1e-5 * x[3]
    x[4] = x[0]
    return x


def assert_close(made, truth, atol):
    np.testing.assert_allclose(made, truth, rtol=0, atol=atol * (np.abs(truth).max() or 1.0))


def check(net, x, cut, road, truth_of, loose=1.0):
    """All gets, and the block of the inputs before ``cut`` against the others, by two roads."""
    whole = truth_of(x, None)
    block = truth_of(x[:cut], x[cut:])
    made = {}
    for get in GETS:
        made[get], taken = kernels(net, x, get=get)
        assert taken == road
    part, taken = kernels(net, x[:cut], x[cut:], get=KINDS)
    assert taken == road
    for kind in KINDS:
        atol = loose * tolerance(net, kind)
        truth = getattr(whole, kind)
        for get, value in made.items():
            assert_close(value if get == kind else getattr(value, kind), truth, atol) if kind in get else None
        assert_close(getattr(part, kind), getattr(block, kind), atol)
        if nn.Dropout not in classes_in(net):  # whose noise is the same where the example is
            assert_close(getattr(block, kind), truth[:cut, cut:], atol)


def by_general_path(net):
    return lambda x1, x2: kernels(net, x1, x2, GENERAL, get=KINDS)[0]


def by_scalar_lines(net):
    def truth(x1, x2):
        program, *arrays = scalar_lines(net, *(x for x in (x1, x2) if x is not None))
        made, road = kernels(program, *arrays, get=KINDS)
        assert road == MACHINE
        return made

    return truth


def test_every_layer_is_here():
    nets = [*FLAT.values(), *(net for _, net in FAMILIES.values())]
    seen = set().union(*map(classes_in, nets)) | {nn.ElementwiseNumerical}
    layers = {getattr(nn, name) for name in nn.__all__ if isinstance(getattr(nn, name), type)}
    layers = {c for c in layers if issubclass(c, nn.Layer)} - {nn.Layer, nn.Activation}
    assert layers <= seen


MIXED = "one gaussian, three functions"
"""Relu and erf of one Gaussian: their slopes have no common series, and their sum no increments."""


@pytest.mark.parametrize("name", FLAT)
def test_machine_and_general_path_agree(name):
    net = FLAT[name]
    x = inputs(1, (3,))
    if name.startswith(MIXED):
        check(net, x[[0, 2]], 1, GENERAL, by_general_path(net))
    else:
        check(net, x, 2, MACHINE, by_general_path(net))


RECURRENT = {name for name, (_, net) in FAMILIES.items() if nn.SimpleRnn in classes_in(net)}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_are_their_scalar_lines(name):
    shape, net = FAMILIES[name]
    x = inputs(2, shape)[[0, 2, 5, 6]]  # scalar lines keep no digits of near duplicates between positions
    check(net, x, 2, MACHINE if name in RECURRENT else GENERAL, by_scalar_lines(net))


@pytest.mark.parametrize("name", FAMILIES)
def test_families_at_near_duplicates(name):
    """Equal inputs have equal kernels with everything, nearly equal ones nearly."""
    shape, net = FAMILIES[name]
    x = inputs(3, shape)
    for kind, k in zip(KINDS, kernels(net, x, get=KINDS)[0], strict=True):
        k = np.moveaxis(k, (0, 1), (-2, -1)).reshape(-1, 7, 7)
        top = np.abs(k).max()
        apart = [2, 3, 5, 6]
        assert np.abs(k[:, 0, apart] - k[:, 4, apart]).max() <= 10 * tolerance(net, kind) * top
        assert np.abs(k[:, 0, apart] - k[:, 1, apart]).max() <= 1e-7 * top


# random nets -----------------------------------------------------------------------------------------------


def closed_kinds(net):
    """How many strips of closed duals a net's activations have."""
    made = [layer.as_function().closed for layer in layers_in(net) if isinstance(layer, nn.Activation)]
    return len({FAMILIES_OF_DUALS[closed[0]].strip for closed in made if closed and closed[0] in FAMILIES_OF_DUALS})


def agree(seed):
    rng = np.random.default_rng([seed, 12])
    net = random_net(rng)
    x = rng.standard_normal((5, 3))
    x[1] = x[0] + 1e-9 * x[1]
    x[4] = x[2]
    truth, _ = kernels(net, x, get=KINDS, road=GENERAL)
    whole = {get: kernels(net, x, get=get) for get in GETS[:3]}
    block, taken = kernels(net, x[:2], x[2:], get=KINDS)
    if closed_kinds(net) <= SLOTS:
        assert {taken, *(road for _, road in whole.values())} == {MACHINE}
    for kind in KINDS:
        want, atol = getattr(truth, kind), tolerance(net, kind)
        assert_close(whole[kind][0], want, atol)
        assert_close(getattr(whole[KINDS][0], kind), want, atol)
        if nn.Dropout not in classes_in(net):
            assert_close(getattr(block, kind), want[:2, 2:], atol)


@pytest.mark.parametrize("start", range(0, 100, 10))
def test_random_nets(start):
    for seed in range(start, start + 10):
        agree(seed)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(100, 1000, 10))
def test_a_thousand_random_nets(start):
    for seed in range(start, start + 10):
        agree(seed)
