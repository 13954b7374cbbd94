"""Attention with weights that are numbers of each example: plain loops, scalar lines, programs."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tests.oracle import loops
from tests.oracle.roads import CELLS, kernels
from tpnum import nn
from tpnum.errors import ProgramError, SpecError
from tpnum.evaluate.blocks import shape
from tpnum.evaluate.plan import make_plan
from tpnum.law import graph
from tpnum.nn.spec import from_spec

BOTH = ("nngp", "ntk")
PAD = 50.0
RNG = np.random.default_rng(21)
X = RNG.standard_normal((4, 5, 3))
X[1, 3:] = X[3, 1:] = PAD
ATTENTION = {
    "op": "GlobalSelfAttention", "n_chan_out": 8, "n_chan_key": 6, "n_chan_val": 4, "n_heads": 2,
    "W_key_std": 1.3, "W_query_std": 0.9, "W_value_std": 1.2, "W_out_std": 1.1, "b_std": 0.2,
}  # fmt: skip
SETTINGS = {
    "softmax": {},
    "identity": {"attention_mechanism": "IDENTITY"},
    "abs": {"attention_mechanism": "ABS", "b_std": None},
    "relu": {"attention_mechanism": "RELU"},
    "embeddings added": {"pos_emb_type": "SUM", "pos_emb_decay_fn": "exp(-d)", "W_pos_emb_std": 0.7},
    "embeddings of their own": {"pos_emb_type": "SUM", "val_pos_emb": True, "attention_mechanism": "ABS"},
    "embeddings beside": {"pos_emb_type": "CONCAT", "n_chan_pos_emb": 5, "pos_emb_decay_fn": "exp(-d)",
                          "pos_emb_p_norm": 1, "val_pos_emb": True},
    "causal": {"causal": True},
    "random products": {"linear_scaling": False, "attention_mechanism": "IDENTITY"},
    "random products, embeddings": {"linear_scaling": False, "attention_mechanism": "IDENTITY",
                                    "pos_emb_type": "CONCAT", "pos_emb_decay_fn": "exp(-d)"},
    "abs of random products": {"scaling": "1/sqrt(n)", "linear_scaling": False, "attention_mechanism": "ABS"},
    "relu of random products": {"linear_scaling": False, "attention_mechanism": "RELU", "causal": True,
                                "pos_emb_type": "SUM", "pos_emb_decay_fn": "exp(-d)"},
}  # fmt: skip


def network(*settings):
    """Attention layers behind a convolution, with a nonlinearity between them."""
    attending = [layer for how in settings for layer in (ATTENTION | how, {"op": "Relu"})]
    first = {"op": "Conv", "out_chan": 7, "filter_shape": [3], "padding": "SAME", "b_std": 0.1}
    return {"op": "serial", "layers": [first, {"op": "Erf"}, *attending]}


def close(made, truth, atol=1e-13):
    np.testing.assert_allclose(made, truth, rtol=0, atol=atol * np.abs(truth).max())


@pytest.mark.parametrize("end", ["GlobalAvgPool", "Flatten"])
@pytest.mark.parametrize("name", SETTINGS)
def test_plain_loops(name, end):
    """Masked and unmasked examples, both kernels; the spec comes back as it went."""
    spec = {"op": "serial", "layers": [*network(SETTINGS[name])["layers"], {"op": end}]}
    net = from_spec(spec)
    assert from_spec(net.to_spec()) == net
    truth = loops.kernels(spec, X, PAD)
    made, road = kernels(net, X, get=BOTH, mask_constant=PAD)
    assert road == CELLS
    cut = tp.kernel(net, X[:2], X[2:], get=BOTH, mask_constant=PAD)
    for found, part, right in zip(made, cut, truth, strict=True):
        close(found, right)
        close(part, right[:2, 2:])


def test_layers_on_layers_every_position():
    spec = network(SETTINGS["softmax"], SETTINGS["causal"], SETTINGS["embeddings added"])
    spec["layers"].pop()  # a sum of averages: no nonlinearity behind
    for found, right in zip(tp.kernel(from_spec(spec), X, get=BOTH, mask_constant=PAD),
                            loops.kernels(spec, X, PAD), strict=True):  # fmt: skip
        close(found, right, 5e-13)


def test_raw_data_images_and_two_shapes():
    """Attention over the pixels of raw images, and over sequences of two lengths."""
    images = RNG.standard_normal((3, 2, 3, 2))
    spec = {"op": "serial", "layers": [ATTENTION | SETTINGS["embeddings added"], {"op": "Flatten"}]}
    for found, right in zip(
        tp.kernel(from_spec(spec), images, get=BOTH), loops.kernels(spec, images), strict=True
    ):
        close(found, right)
    net = nn.serial(from_spec(network({})), nn.GlobalAvgPool())
    padded = tp.kernel(net, X, get="ntk", mask_constant=PAD)
    close(tp.kernel(net, X[[0, 2]], X[[1], :3], get="ntk"), padded[[0, 2]][:, [1]])


def test_causal_positions_do_not_see_later_ones():
    net = from_spec(network(SETTINGS["causal"])["layers"][2])
    whole = tp.kernel(net, X[[0, 2]], get=BOTH)
    for kernel, get in zip(whole, BOTH, strict=True):
        close(kernel[:, :, :2, :2], tp.kernel(net, X[[0, 2], :2], get=get))


def test_independent_keys_and_queries_average():
    """Their products vanish in the limit: softmax is uniform, the identity of them zero."""
    free = from_spec(ATTENTION | {"tied": False})
    uniform = tp.kernel(free, X[[0, 2]])
    gram = np.einsum("ipc,jqc->ijpq", X[[0, 2]], X[[0, 2]]) / 3
    mean = (1.2 * 1.1) ** 2 * gram.mean(axis=(2, 3), keepdims=True) + 0.04
    close(uniform, np.broadcast_to(mean, uniform.shape))
    zero = tp.kernel(from_spec(ATTENTION | {"tied": False, "attention_mechanism": "IDENTITY"}), X[[0, 2]])
    close(zero, np.full(zero.shape, 0.04))


def test_large_logits_do_not_overflow():
    sharp = nn.serial(from_spec(ATTENTION | {"W_key_std": 1e4}), nn.GlobalAvgPool())
    made = tp.kernel(sharp, 100.0 * X[[0, 2]])
    assert np.isfinite(made).all()  # every position sees the one most like it alone
    causal = nn.serial(from_spec(ATTENTION | {"W_key_std": 1e4, "causal": True}), nn.GlobalAvgPool())
    assert np.isfinite(tp.kernel(causal, X, get="ntk", mask_constant=PAD)).all()


# the language ---------------------------------------------------------------------------------------------


def attention_program():
    """Keys with a bias, causal weights, values mixed with the input; written as it is meant."""
    p = tp.Program()
    u = p.data("u", axes={"t": 3}, channels="d")
    g = (p.matrix("Q", 1.3, cols="d") @ u + p.vector("b", var=0.2, trained=True)).named("g")
    before = p.scalars("before", {"t": 3, "j": 3}, values=np.tri(3))
    a = p.moment("mul", g, g.rename(t="j")).softmax("j", weights=before).named("a")
    v = (p.matrix("V", cols="d") @ u).rename(t="j")
    y = (p.matrix("O") @ (a * v + 0.5 * g).sum("j")).named("y")
    p.output((p.matrix("R") @ tp.relu(y)).mean("t").named("out"))
    return p


def largest_node(program):
    """The most numbers per pair that any node of a program's kernels has."""
    plan = make_plan((program, program), BOTH)
    nodes = graph.schedule([entry.node for entries in plan.entries.values() for entry in entries])
    return max(np.prod(shape(node, 1, 1)) for node in nodes)


def test_sums_with_weights_of_the_input_cost_no_family_of_pairs():
    """The law of (a * v).sum("j") needs T^2 numbers a pair, and is that of its scalar lines."""
    p = attention_program()
    x = RNG.standard_normal((4, 3, 2))
    made, road = kernels(p, x, get=BOTH)
    assert road == CELLS
    lines = p.expand()
    split = {one: x[:, k] for k, one in enumerate(lines.parts["u"].names)}
    for found, right in zip(made, tp.kernel(lines, split, get=BOTH), strict=True):
        close(found, right)
    assert largest_node(p) == 9
    for name in (name for name in SETTINGS if not name.endswith("of random products")):
        net = nn.serial(nn.Dense(8), from_spec(ATTENTION | SETTINGS[name]), nn.GlobalAvgPool())
        assert largest_node(nn.program(net, (6, 3))) == 36


def test_random_products_are_those_of_many_heads():
    """Written out at finite width: heads of many channels, their products over the root of the width."""
    how = {"scaling": "1/sqrt(n)", "attention_mechanism": "IDENTITY", "b_std": None}
    x = X[0]
    right = tp.kernel(from_spec(ATTENTION | how), x[None])[0, 0]
    rng, heads, width, found = np.random.default_rng(2), 40, 60, []
    for _ in range(400):
        q, k, v = (std / 3**0.5 * x @ rng.standard_normal((heads, 3, width)) for std in (0.9, 1.3, 1.2))
        y = q @ k.swapaxes(1, 2) / width**0.5 @ v
        found.append(1.1**2 * np.einsum("hpc,hrc->pr", y, y) / (heads * width))
    error = np.std(found, axis=0, ddof=1) / len(found) ** 0.5
    assert np.abs((np.mean(found, axis=0) - right) / error).max() < 4.5


def test_every_reading_of_an_attention_program():
    p, x = attention_program(), RNG.standard_normal((3, 2))
    assert tp.Program.from_json(p.to_json()) == p
    assert "a[t,j] = softmax over j of m1, weights before" in str(p)
    law = tp.limit(p, data={"u": x})
    weights = law.scalar("a").value
    gram = 1.3 * x @ x.T / 2 + 0.2
    raw = np.where(np.tri(3) > 0, np.exp(gram), 0)
    np.testing.assert_allclose(weights, raw / raw.sum(axis=1, keepdims=True), rtol=1e-12)
    sampled = tp.limit(p, data={"u": x}, method="ensemble", seed=1)
    exact, drawn = law.moment("out", "out"), sampled.moment("out", "out")
    assert abs(drawn.value - exact.value) < 6 * drawn.error
    draws = [tp.simulate(p, 600, seed, data={"u": x}) for seed in range(40)]
    moments = [sample.moment("out", "out") for sample in draws]
    assert abs(np.mean(moments) - exact.value) < 4.5 * np.std(moments, ddof=1) / 40**0.5
    assert np.abs(np.mean([s.scalar("a") for s in draws], axis=0) - weights).max() < 0.01
    forward, back = (tp.ntk(p, p["out"], data={"u": x}, road=road) for road in ("tangent", "backward"))
    np.testing.assert_allclose(forward.value, back.value, rtol=1e-10)


def test_the_gradient_of_a_softmax():
    """s_i = softmax(l)_i of l_i = (g.h_i)/n: against differences."""
    p = tp.Program()
    g, h = p.vector("g"), p.vector("h", axes={"i": 3}, fresh=True)
    s = p.moment("mul", g, h).softmax("i")
    loss = (s * p.scalars("c", {"i": 3}, values=[1.0, -2.0, 0.5])).sum("i")
    grad = p.backward({loss: 1.0}, wrt=[g])[g]
    n = 50
    base = tp.simulate(p, n)
    direction = np.random.default_rng(0).standard_normal(n)
    at = [
        float(tp.simulate(p, n, given={"g": base["g"] + e * direction, "h": base["h"]}).scalar(loss))
        for e in (1e-5, -1e-5)
    ]
    slope = (at[0] - at[1]) / 2e-5
    np.testing.assert_allclose(base[grad] @ direction / n, slope, rtol=1e-7)


def test_softmax_lines_that_cannot_be():
    p = tp.Program()
    m = p.moment("square", p.vector("g", axes={"i": 2}, fresh=True))
    for call, said in (
        (lambda: m.softmax("j"), "has no axis 'j'"),
        (lambda: m.softmax(), "at least one axis"),
        (lambda: m.softmax("i", "i"), "none twice"),
    ):
        with pytest.raises(ProgramError, match=said):
            call()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"linear_scaling": False, "tied": True}, r'with scaling "1/sqrt\(n\)" .* grow without bound'),
        ({"scaling": "1/n", "linear_scaling": False}, "leave one out"),
        ({"scaling": "1/sqrt(n)", "attention_mechanism": "IDENTITY", "tied": True}, "tied is True"),
        ({"scaling": "1/2"}, "scaling is '1/2'; it must be one of '1/n'"),
        ({"attention_mechanism": "TANH"}, "attention_mechanism is 'TANH'"),
        ({"pos_emb_decay_fn": "exp(d)"}, r"pos_emb_decay_fn is 'exp\(d\)'; it must be a function"),
        ({"val_pos_emb": True}, "val_pos_emb is True"),
        ({"n_heads": 0}, "n_heads is 0"),
    ],
)
def test_layers_that_cannot_be(how, said):
    with pytest.raises(SpecError, match=f"GlobalSelfAttention: .*{said}|GlobalSelfAttention: {said}"):
        from_spec(ATTENTION | how)


@pytest.mark.parametrize(
    ("how", "shape", "said"),
    [
        ({}, (2, 3), "it attends over positions"),
        ({"causal": True}, (2, 3, 2, 3), "one axis, and the features have 2"),
        ({"pos_emb_type": "SUM", "n_chan_pos_emb": 5}, (2, 4, 3), "n_chan_pos_emb is 5"),
    ],
)
def test_nets_that_cannot_be(how, shape, said):
    with pytest.raises(SpecError, match=said):
        tp.kernel(from_spec(ATTENTION | how), np.ones(shape))
    wrong = nn.GlobalSelfAttention(8, 8, 8, 1, pos_emb_type="SUM", pos_emb_decay_fn=lambda d: -d)
    with pytest.raises(SpecError, match="makes no covariance of 4 positions"):
        tp.kernel(wrong, np.ones((1, 4, 3)))
    with pytest.raises(SpecError, match="has no name in JSON"):
        wrong.to_spec()
