"""Every layer and every kind of net by every road: the machine, the general path, scalar lines, finite nets.

Which road a net takes is asserted; that the roads agree is asked to rounding, for every ``get``, with x2
and without, for biases and none, on inputs among which some are equal or nearly equal.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.designs import some_by_day
from tests.oracle.every_net import FAMILIES, FLAT, classes_in, dense, layers_in, skip
from tests.oracle.random_nets import random_net
from tests.oracle.roads import CELLS, GENERAL, MACHINE, finite_kernels, kernels, scalar_lines, two_programs
from tpnum import nn
from tpnum.gauss.closed import FAMILIES as FAMILIES_OF_DUALS
from tpnum.kernels.duals import SLOTS
from tpnum.lower.variances import Variances
from tpnum.program.lines import Data
from tpnum.tiles import pool, workers
from tpnum.tiles.fast import MachineWorker
from tpnum.tiles.inputs import _plans
from tpnum.tiles.sinks import ArraySink

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


def assert_close(made, truth, atol, whole=None):
    """To ``atol`` of the largest entry, of a block that of the ``whole`` matrix."""
    top = np.abs(truth if whole is None else whole).max() or 1.0
    np.testing.assert_allclose(made, truth, rtol=0, atol=atol * top)


def check(net, x, cut, road, truth_of):
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
        atol = tolerance(net, kind)
        truth = getattr(whole, kind)
        for get, value in made.items():
            if kind in get:
                assert_close(value if get == kind else getattr(value, kind), truth, atol)
        assert_close(getattr(part, kind), getattr(block, kind), atol, truth)
        if nn.Dropout not in classes_in(net):  # whose noise is the same where the example is
            assert_close(getattr(block, kind), truth[:cut, cut:], atol, truth)


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
    seen |= {nn.Aggregate, nn.GraphAttention}  # which are given graphs: tests/test_graphs.py, test_layers.py
    seen |= {nn.BatchNorm, nn.MaxPool, nn.GlobalMaxPool}  # tests/test_batchnorm.py, test_maxpool.py
    seen |= {nn.Embedding, nn.Glu, nn.GroupNorm, nn.RMSNorm, nn.SqueezeExcite, nn.SwiGlu, nn.Tied}
    seen |= {nn.Gru, nn.Lstm}  # which are sampled: tests/test_gated.py
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
        check(net, x[[0, 2]], 1, CELLS, by_general_path(net))
    else:
        check(net, x, 2, MACHINE, by_general_path(net))


HALF = len(FAMILIES) // 2
TURN = {name: (n % HALF + n // HALF) % 2 for n, name in enumerate(FAMILIES)}
"""By day a net over positions takes one of two other roads with biases and one without; by night all."""


@pytest.mark.parametrize("name", some_by_day(FAMILIES, lambda name: TURN[name] == 0))
def test_families_are_their_scalar_lines(name):
    shape, net = FAMILIES[name]
    x = inputs(2, shape)[[0, 2, 5, 6]]  # scalar lines keep no digits of near duplicates between positions
    check(net, x, 2, CELLS, by_scalar_lines(net))


@pytest.mark.parametrize("name", some_by_day(FAMILIES, lambda name: TURN[name] == 1))
def test_cells_and_general_path_agree(name):
    shape, net = FAMILIES[name]
    x = inputs(4, shape)[[0, 2, 5, 6]]  # nor does the general path behind sums over positions
    check(net, x, 2, CELLS, by_general_path(net))


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
    return len(
        {FAMILIES_OF_DUALS[closed[0]].strip for closed in made if closed and closed[0] in FAMILIES_OF_DUALS}
    )


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
            assert_close(getattr(block, kind), want[:2, 2:], atol, want)


@pytest.mark.parametrize("start", range(0, 30, 10))
def test_random_nets(start):
    for seed in range(start, start + 10):
        agree(seed)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(30, 1000, 10))
def test_a_thousand_random_nets(start):
    for seed in range(start, start + 10):
        agree(seed)


# what the roads share --------------------------------------------------------------------------------------

ROUGH = {"Sign", "Step"}


@pytest.mark.parametrize("name", [n for n in FLAT if n.endswith("none") and not n.startswith(MIXED)])
def test_single_precision(name):
    net = FLAT[name]
    x = inputs(1, (3,)).astype(np.float32)
    want = kernels(net, x.astype(np.float64), get=KINDS)[0]
    made = kernels(net, x, get=KINDS, dtype="float32")[0]
    same = kernels(net, x, get=KINDS)[0]
    for kind in KINDS:
        truth = getattr(want, kind)
        assert getattr(made, kind).dtype == np.float32
        assert_close(getattr(made, kind), truth, 5e-6 if name.split(",")[0] in ROUGH else 1e-6)
        assert_close(getattr(same, kind), truth, 0.0)


FINITE = (
    "skip, none",
    "pre-activation, biases",
    "gated, biases",
    "two activated branches, none",
    "concatenated, none",
    "recurrent relu, last, none",
    "residual conv, none",
    "attention, biases",
    "causal attention with embeddings, none",
)


@pytest.mark.parametrize("name", FINITE)
def test_finite_width(name):
    """Networks of two widths, extrapolated by 1/n, lie within their own standard error of the limit."""
    shape, net = ((3,), FLAT[name]) if name in FLAT else FAMILIES[name]
    x = np.random.default_rng(5).standard_normal((3, *shape))
    limits = kernels(net, x, get=KINDS)[0]
    for k, (value, error) in zip(limits, finite_kernels(net, x, width=48, draws=120), strict=True):
        size = np.abs(k).max()
        assert np.max(error) < 0.2 * size  # the test can fail
        z = ((k - value) / np.maximum(error, 1e-9 * size)).ravel()
        assert np.abs(z).max() < 4.5
        assert np.sqrt(np.mean(z**2)) < 2.2


# other kinds of nets ---------------------------------------------------------------------------------------


def test_residual_block_in_closed_form():
    x = np.array([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.5]])
    net = nn.serial(dense(w_std=2**0.5), nn.Relu(), *skip(None, w_std=2**0.5), nn.Dense(1))
    nngp = [[1.5, 1.072207569709, 0.367471657691], [0, 1.5, 0.627258301981], [0, 0, 1.875]]
    ntk = [[5, 2.828073699796, 0.586911608876], [0, 5, 1.178974411145], [0, 0, 6.25]]
    for get in GETS[:2]:
        made, road = kernels(net, x, get=get)
        assert road == MACHINE
        np.testing.assert_allclose(np.triu(made), {"nngp": nngp, "ntk": ntk}[get], rtol=0, atol=1e-11)


def test_recurrent_net_without_biases_in_closed_form():
    """g0 = U x0, g1 = W erf(g0) + U x1: E g0 g1 is E (U x0)(U x1), of other norms than g1's."""
    net = nn.serial(nn.SimpleRnn(8, activation=nn.Erf()), nn.Dense(1))
    made = tp.kernel(net, np.array([[[1.0, 0.0], [0.6, 0.8]]]))[0, 0, 0, 1]
    erf = tp.dual("erf")
    first = 0.5  # |x0|^2 / 2 and |x1|^2 / 2
    last = float(erf(first, first, first)) + 0.5
    assert made == pytest.approx(float(erf(first, last, 0.3)), rel=1e-12)


def test_a_fifth_kind_of_closed_dual_is_a_region_of_its_own():
    layers = (nn.Erf(), nn.Gelu(), nn.Sin(), nn.Rbf(), nn.Gaussian(), nn.ExpNormalized())
    net = nn.serial(*(part for layer in layers for part in (dense(), layer)))
    assert closed_kinds(net) > SLOTS
    x = inputs(4, (3,))[[0, 2, 5]]
    made, road = kernels(net, x)
    k = x @ x.T / 3
    for layer in layers:
        dual, k = tp.dual(layer.as_function()), 1.3**2 * k
        q = np.diagonal(k)
        k = dual(q[:, None], q[None, :], k)
    assert road == CELLS
    np.testing.assert_allclose(made, k, rtol=1e-12)


def windows(x):
    return np.stack([x[:, i : i + 2].reshape(len(x), -1) for i in range(x.shape[1] - 1)], axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_of_two_shapes(kind):
    """One convolution and a global average: a dense net on every pair of windows."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 5, 2)), rng.standard_normal((3, 7, 2))
    head = (nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))
    made = tp.kernel(nn.serial(nn.Conv(8, (2,), W_std=1.3, b_std=0.2), *head), x, y, get=kind)
    net = nn.serial(nn.Dense(8, 1.3, 0.2), nn.Relu(), nn.Dense(1))
    pairs = tp.kernel(net, windows(x).reshape(-1, 4), windows(y).reshape(-1, 4), get=kind)
    np.testing.assert_allclose(made, pairs.reshape(2, 4, 3, 6).mean((1, 3)), rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_two_shapes_are_their_scalar_lines(kind):
    net = nn.serial(
        nn.Conv(8, (2,), padding="SAME"), nn.Relu(), nn.Conv(8, (3,), padding="SAME"), nn.Relu(),
        nn.GlobalAvgPool(), nn.Dense(1),
    )  # fmt: skip
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 3, 2)), rng.standard_normal((2, 4, 2))
    (first, a), (second, b) = scalar_lines(net, x), scalar_lines(net, y)
    lines, road = two_programs((first, second), a, b, (kind,))
    assert road == MACHINE
    np.testing.assert_allclose(tp.kernel(net, x, y, get=kind), lines[kind], rtol=1e-12)


@pytest.mark.parametrize(
    "layers", [(nn.ConvLocal(8, (2,)), nn.GlobalAvgPool()), (nn.Conv(8, (2,)), nn.Flatten())]
)
def test_weights_for_a_shape_refuse_two(layers):
    first, last = layers
    net = nn.serial(first, nn.Relu(), last, nn.Dense(1))
    with pytest.raises(tp.errors.InputError, match="give both the same shape"):
        tp.kernel(net, np.ones((2, 5, 2)), np.ones((2, 7, 2)))


def test_a_plan_that_is_not_mirrored_is_computed_whole():
    net = nn.serial(dense(0.1), nn.Relu(), nn.Dense(1))
    x = inputs(6, (3,))
    want = tp.kernel(net, x)
    _, plan = _plans(net, ((("", (3,)),),) * 2, ("nngp",))
    plan = replace(plan, mirrored=False)
    data = {next(line.name for line in plan.programs[0].lines if isinstance(line, Data)): x}
    out = np.empty((7, 7))
    worker = workers.make_worker(
        plan, plan.profiles(data, None), ArraySink({"nngp": out}), np.dtype(float), None, Variances()
    )
    assert isinstance(worker, MachineWorker)
    assert not any(tile.mirror for tile in worker.tiles)
    pool.run(worker, 1, None)
    np.testing.assert_allclose(out, want, rtol=1e-14)


def test_a_fixed_rule_is_the_same_with_and_without_x2():
    net = nn.serial(dense(0.1), nn.ElementwiseNumerical(np.tanh, 7), dense(), nn.Relu(), nn.Dense(1))
    x = inputs(8, (3,))[[0, 2, 5, 6]]
    alone, road = kernels(net, x)
    assert road == CELLS
    apart = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(alone[apart], tp.kernel(net, x, x.copy())[apart], rtol=1e-13)


# programs --------------------------------------------------------------------------------------------------


def by_lines(p, x, get):
    program, arrays = split(p, x)
    return tp.kernel(program, arrays, get=get)


def split(p, x):
    program = p.expand()
    names = [line.name for line in program.lines if isinstance(line, Data)]
    return program, {name: x[:, t] for t, name in enumerate(names)}


def attention(p, g):
    keys = p.matrix("K") @ tp.relu(g)
    return (keys.rename(t="j") * tp.mean(g * g.rename(t="j"))).sum("j")


def scaled_by_data(p, g):
    v = p.matrix("W") @ p.vector("v")
    return (tp.mean(tp.relu(g)) * tp.tanh(v)).sum("t")


def parameter_of_data(p, g):
    v = p.matrix("W") @ p.vector("v")
    return tp.apply(lambda u, c: np.tanh(u * c), v, tp.mean(tp.relu(g))).sum("t")


def two_parameters_of_data(p, g):
    v = p.matrix("W") @ p.vector("v")
    w = p.matrix("W2") @ tp.tanh(v)
    return tp.apply(lambda u, z, c: np.tanh(u * c + z), v, w, tp.mean(tp.relu(g))).sum("t")


BODIES = [attention, scaled_by_data, parameter_of_data]
SAMPLED = 1e-8  # over three Gaussians and more, to which 1e-6 of E|f| is asked


@pytest.mark.parametrize("bias", [None, 0.3])
@pytest.mark.parametrize(
    ("body", "rtol"), [*((body, 1e-12) for body in BODIES), (two_parameters_of_data, SAMPLED)]
)
def test_programs_are_their_scalar_lines(body, rtol, bias):
    x = np.random.default_rng(3).standard_normal((3, 3, 4))
    p = tp.Program()
    g = p.matrix("U", cols="d") @ p.data("x", axes={"t": 3}, channels="d")
    if bias:
        g = g + p.vector("b", var=bias)
    p.output(p.matrix("R") @ body(p, g))
    np.testing.assert_allclose(tp.kernel(p, x), by_lines(p, x, "nngp"), rtol=rtol)


def test_attention_whose_keys_have_a_bias():
    p = tp.Program()
    g = p.matrix("U", cols="d") @ p.data("x", axes={"t": 2}) + p.vector("b")
    y = (g.rename(t="j") * p.moment("mul", g, g.rename(t="j"))).sum("j")
    # x = 1: K = 1/2 + 1 on the diagonal, 1 elsewhere, y = K g
    k = np.eye(2) / 2 + 1.0
    made = tp.limit(p, data={"x": np.eye(2)}).moment(y, y)
    np.testing.assert_allclose(made.value, k @ k @ k, rtol=1e-12)


def test_one_matrix_on_data_of_two_axes():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 4)), rng.standard_normal((3, 4))
    p = tp.Program()
    x, y = p.data("x", axes={"i": 2}), p.data("y", axes={"j": 3})
    u = p.matrix("U", cols="d")
    g, h = u @ x, u @ y
    law = tp.limit(p, data={"x": a, "y": b})
    np.testing.assert_allclose(law.moment(g, h).value, a @ b.T / 4, rtol=1e-13)
    p.output(p.matrix("R") @ (tp.relu(g).sum("i") + tp.erf(h).sum("j")))
    x, y = rng.standard_normal((3, 2, 4)), rng.standard_normal((3, 3, 4))
    lines = {f"x[{i}]": x[:, i] for i in range(2)} | {f"y[{j}]": y[:, j] for j in range(3)}
    for get in KINDS:
        made = tp.kernel(p, {"x": x, "y": y}, get=get)
        np.testing.assert_allclose(made, tp.kernel(p.expand(), lines, get=get), rtol=1e-11)
