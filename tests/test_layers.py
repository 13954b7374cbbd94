"""Norms with gains, gates, embeddings, tied weights and graph layers against recursions in plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.roads import finite_kernels
from tpnum import nn
from tpnum.errors import AccuracyWarning, InputError, SpecError

KINDS = ("nngp", "ntk")
RELU, SIGMOID, SILU = tp.dual("relu"), tp.dual("sigmoid"), tp.dual("silu")


def inputs(seed, n=4, positions=5, channels=3):
    return np.random.default_rng([seed, 2]).standard_normal((n, positions, channels))


def gram(x):
    """q between all positions of all examples, (N P, N P)."""
    flat = x.reshape(-1, x.shape[-1])
    return flat @ flat.T / x.shape[-1]


def act(dual, q, t):
    v = np.diag(q)
    return dual(v[:, None], v[None], q), t * dual.derivative(v[:, None], v[None], q)


def flattened(k, n):
    """The mean over positions of K[p, p]."""
    p = len(k) // n
    return np.einsum("ipjp->ij", k.reshape(n, p, n, p)) / p


def check(net, x, q, t, rtol=1e-10, **options):
    made = tp.kernel(net, x, get=KINDS, **options)
    np.testing.assert_allclose(made.nngp, q, rtol=rtol, atol=rtol * np.abs(q).max())
    np.testing.assert_allclose(made.ntk, t, rtol=rtol, atol=rtol * np.abs(t).max())
    assert nn.from_spec(net.to_spec()) == net


# norms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [None, 0.0, 0.4])
@pytest.mark.parametrize("norm", ["layer", "rms", "group"])
def test_norms_with_gains_behind_a_relu(norm, gain):
    x = inputs(1)
    n, p, _ = x.shape
    bias = None if gain is None else 0.3
    layer = {
        "layer": nn.LayerNorm(gain_std=gain, bias_std=bias),
        "rms": nn.RMSNorm(eps=1e-3, gain_std=gain, bias_std=bias),
        "group": nn.GroupNorm(8, gain_std=gain, bias_std=bias),
    }[norm]
    net = nn.serial(nn.Dense(64, 1.2, 0.1), nn.Relu(), layer, nn.Dense(64, 1.1), nn.Flatten(), nn.Dense(1))
    q = 1.2**2 * gram(x) + 0.1**2
    q, t = act(RELU, q, q)
    mean = np.sqrt(1.2**2 * np.diag(gram(x)) + 0.1**2) / np.sqrt(2 * np.pi)
    if norm == "group":
        mean = mean.reshape(n, p).mean(axis=1).repeat(p)
    if norm != "rms":
        # what is taken away is a number: of the other factor the mean stays
        own = np.sqrt(1.2**2 * np.diag(gram(x)) + 0.1**2) / np.sqrt(2 * np.pi)
        q = q - own[:, None] * mean[None] - mean[:, None] * own[None] + mean[:, None] * mean[None]
    var = np.diag(q)
    if norm == "group":
        var = var.reshape(n, p).mean(axis=1).repeat(p)
    scale = 1 / np.sqrt(var + {"layer": 1e-12, "rms": 1e-3, "group": 1e-5}[norm])
    q, t = (k * scale[:, None] * scale[None] for k in (q, t))
    if gain is not None:
        q, t = (1 + gain**2) * q + bias**2, (1 + gain**2) * t + q + 1.0
    q = 1.1**2 * q
    t = q + 1.1**2 * t
    q, t = flattened(q, n), flattened(t, n)
    check(net, x, q, q + t)


def test_gains_at_one_before_a_relu():
    x = inputs(2)
    n, p, _ = x.shape
    net = nn.serial(
        nn.Dense(64, 1.2),
        nn.LayerNorm(eps=0.0, gain_std=0.0, bias_std=0.0),
        nn.Relu(),
        nn.Flatten(),
        nn.Dense(1),
    )
    g = gram(x)
    root = np.sqrt(np.diag(g))
    q = g / root[:, None] / root[None]
    q, t = act(RELU, q, q + 1.0)  # of the weights and of the biases
    t = t + q  # of the gains: E relu'(u) u relu'(v) v
    q, t = flattened(q, n), flattened(t, n)
    check(net, x, q, q + t)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ((nn.Dense(12), nn.GroupNorm(8)), "does not divide the 12 channels"),
        ((nn.Dense(8), nn.GroupNorm(8)), "one for each channel"),
        ((nn.GroupNorm(1),), "raw data"),
        ((nn.Dense(8), nn.RMSNorm(axis=(1,))), "include the channels"),
        ((nn.Dense(8), nn.Flatten(), nn.GroupNorm(2)), "differ in law"),
    ],
)
def test_norms_refuse(layers, words):
    with pytest.raises(SpecError, match=words):
        tp.kernel(nn.serial(*layers, nn.Flatten(), nn.Dense(1)), inputs(3))


# gates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "dual"), [(nn.Glu, SIGMOID), (nn.SwiGlu, SILU)])
def test_gated_linear_units(layer, dual):
    x = inputs(4)
    net = nn.serial(layer(64, W_std=1.3, V_std=0.8, b_std=0.2), nn.Flatten(), nn.Dense(1))
    gate, value = 1.3**2 * gram(x) + 0.04, 0.8**2 * gram(x) + 0.04
    opened, slope = act(dual, gate, gate)
    q, t = opened * value, slope * value + opened * value
    q, t = flattened(q, 4), flattened(t, 4)
    check(net, x, q, q + t, 1e-8)


def test_gates_by_name_and_by_layer():
    x = inputs(5)
    by_name, by_layer = (nn.serial(nn.Glu(8, gate=g), nn.Flatten(), nn.Dense(1)) for g in ("erf", nn.Erf()))
    np.testing.assert_allclose(tp.kernel(by_name, x), tp.kernel(by_layer, x), rtol=1e-12)
    with pytest.raises(SpecError, match="gate is 'sigmod'"):
        nn.Glu(8, gate="sigmod")


def test_squeeze_and_excite():
    x = inputs(6)
    n, p, _ = x.shape
    net = nn.serial(
        nn.Dense(64, 1.2), nn.Relu(), nn.SqueezeExcite(16, W_std=1.4, b_std=0.3), nn.Flatten(), nn.Dense(1)
    )
    q = 1.44 * gram(x)
    q, t = act(RELU, q, q)
    pooled = [k.reshape(n, p, n, p).mean(axis=(1, 3)) for k in (q, t)]
    for dual in (RELU, SIGMOID):
        k = 1.4**2 * pooled[0] + 0.09
        pooled = act(dual, k, k + 1.4**2 * pooled[1])
    gate, moved = (np.kron(k, np.ones((p, p))) for k in pooled)
    q, t = q * gate, t * gate + q * moved
    q, t = flattened(q, n), flattened(t, n)
    check(net, x, q, q + t, 1e-8)


# embeddings and tied weights --------------------------------------------------------------------------------


def test_embedding():
    tokens = np.array([[0, 1, 2, 0], [3, 1, 0, 2]])
    x = np.eye(5)[tokens]
    net = nn.serial(nn.Embedding(64, 5, 1.3, position_std=0.5), nn.Relu(), nn.Flatten(), nn.Dense(1))
    same = (tokens.ravel()[:, None] == tokens.ravel()[None]).astype(float)
    place = np.tile(np.eye(4), (2, 2))
    q = 1.3**2 * same + 0.5**2 * place
    q, t = act(RELU, q, q)
    q, t = flattened(q, 2), flattened(t, 2)
    check(net, x, q, q + t)
    raw = nn.serial(nn.Embedding(64, 5, 1.3, parameterization="raw"), nn.Flatten(), nn.Dense(1))
    q, t = flattened(1.3**2 * same, 2), flattened(same, 2)
    check(raw, x, q, q + t)
    with pytest.raises(SpecError, match="vocabulary is 7"):
        tp.kernel(nn.serial(nn.Embedding(8, 7), nn.Flatten()), x)


def test_tied_weights():
    """A block used twice with one matrix: what its outputs have in common shows in their sum."""
    x = inputs(7, positions=1)[:, 0]
    block = nn.Tied(nn.serial(nn.Dense(32, 1.3), nn.Relu()), "block")
    skip = nn.serial(nn.FanOut(2), nn.parallel(nn.serial(block, block), block), nn.FanInSum())
    net = nn.serial(nn.Dense(32), nn.Relu(), skip, nn.Dense(1))
    program = nn.program(net, (3,))
    assert sum(line.name.startswith("W") and hasattr(line, "rows") for line in program.lines) == 3
    made = tp.kernel(net, x, get=KINDS)
    for k, (value, se) in zip(made, finite_kernels(net, x, 100, 40), strict=True):
        assert np.max(np.abs(k - value) / se) < 4.5
    untied = tp.kernel(nn.serial(nn.Dense(32), nn.Relu(), *_untied()), x)
    assert np.abs(made.nngp - untied).max() > 0.01
    assert nn.from_spec(net.to_spec()) == net


def _untied():
    block = nn.serial(nn.Dense(32, 1.3), nn.Relu())
    return nn.FanOut(2), nn.parallel(nn.serial(block, block), block), nn.FanInSum(), nn.Dense(1)


def test_tied_weights_must_fit():
    net = nn.serial(nn.Dense(32), nn.Relu(), nn.Tied(nn.Dense(16)), nn.Relu(), nn.Tied(nn.Dense(16)))
    with pytest.raises(
        SpecError, match="tied as 'tied' are n16 x n32 where they are first used and n16 x n16"
    ):
        nn.program(net, (3,))


# graphs ----------------------------------------------------------------------------------------------------


def graphs(seed, n=4, p=5):
    a = np.random.default_rng([seed, 9]).random((n, p, p)) < 0.4
    return (a | a.transpose(0, 2, 1)).astype(float)


@pytest.mark.parametrize("normalization", ["SYMMETRIC", "MEAN"])
def test_normalised_adjacency(normalization):
    x, pattern = inputs(8), graphs(8)
    pattern[0, 1] = pattern[0, :, 1] = 0.0
    net = nn.serial(
        nn.Aggregate(normalization=normalization, self_loops=True),
        nn.Dense(64), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1),
    )  # fmt: skip
    looped = pattern + np.eye(5)
    into, out_of = looped.sum(axis=1), looped.sum(axis=2)
    if normalization == "MEAN":
        given = looped / into[:, None, :]
    else:
        given = looped / np.sqrt(out_of[:, :, None] * into[:, None, :])
    plain = nn.serial(nn.Aggregate(), *net.layers[1:])
    made = tp.kernel(net, x, get=KINDS, pattern1=pattern)
    for a, b in zip(made, tp.kernel(plain, x, get=KINDS, pattern1=given), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert nn.from_spec(net.to_spec()) == net


def test_attention_on_graphs():
    x, pattern = inputs(9), graphs(9)
    pattern[1, :, 2] = 0.0  # a node without neighbours
    n, p, _ = x.shape
    net = nn.serial(
        nn.Dense(64),
        nn.Relu(),
        nn.GraphAttention(64, 32, 1.2, 1.5, 0.3),
        nn.Relu(),
        nn.GlobalAvgPool(),
        nn.Dense(1),
    )
    q, t = act(RELU, gram(x), gram(x))
    k = q.reshape(n, p, n, p)
    weights = np.zeros((n, p, p))
    for i in range(n):
        logits = 1.5**2 * k[i, :, i]
        made = pattern[i] * np.exp(logits)
        weights[i] = made / np.maximum(made.sum(axis=0), 1e-300)

    def gathered(k):
        return np.einsum("irp,irjs,jsq->ipjq", weights, k.reshape(n, p, n, p), weights).reshape(n * p, n * p)

    q, t = 1.44 * gathered(q) + 0.09, 1.44 * gathered(t)
    q, t = act(RELU, q, q + t)
    q, t = (k.reshape(n, p, n, p).mean(axis=(1, 3)) for k in (q, t))
    check(net, x, q, q + t, pattern1=pattern)


def test_dropout_between_all_of_them():
    """The same nets with dropout differ on the diagonal alone, by a factor at equal positions."""
    x = inputs(10)
    plain = nn.serial(nn.SwiGlu(32), nn.RMSNorm(), nn.Flatten(), nn.Dense(1))
    dropped = nn.serial(nn.SwiGlu(32), nn.Dropout(0.8), nn.RMSNorm(), nn.Flatten(), nn.Dense(1))
    a, b = tp.kernel(plain, x), tp.kernel(dropped, x)
    np.testing.assert_allclose(np.diag(b), np.diag(a), rtol=1e-10)  # normalised afterwards
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(b[off], 0.8 * a[off], rtol=1e-10)


UNMET = {
    "layers[3] (Tanh)": ((5, 3), (nn.Conv(8, (2,)), nn.Relu(), nn.AvgPool((2,)), nn.Tanh(), nn.Flatten())),
    "layers[2] (MaxPool)": ((4, 3), (nn.Conv(8, (1,)), nn.Relu(), nn.MaxPool((4,)), nn.Sin())),
    "layers[1] (BatchNorm)": ((3,), (nn.Dense(8), nn.BatchNorm(), nn.Tanh())),
}


@pytest.mark.parametrize("name", UNMET)
def test_unmet_accuracy_names_the_layer(name):
    shape, layers = UNMET[name]
    batch = {"batch_size": 4} if "BatchNorm" in name else {}
    x = np.random.default_rng(11).standard_normal((4, *shape))
    with pytest.warns(AccuracyWarning) as said:
        tp.kernel(nn.serial(*layers, nn.Dense(1)), x, rtol=1e-9, budget=256, **batch)
    assert f"of {name}, line " in str(said[0].message)


def test_positions_that_must_be_equal_name_the_layer():
    net = nn.serial(nn.Conv(8, (1,)), nn.Relu(), nn.Flatten(), nn.Dense(1))
    said = r"weights W2 of layers\[3\] \(Dense\) .* here \(5,\) positions of x1 and \(4,\) of x2"
    with pytest.raises(InputError, match=said):
        tp.kernel(net, inputs(12), inputs(13, positions=4))


def test_a_sequence_of_no_steps():
    with pytest.raises(InputError, match=r"shape \(2, 0, 3\) is empty; at least one position"):
        tp.kernel(nn.SimpleRnn(8), np.ones((2, 0, 3)))
