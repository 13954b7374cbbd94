"""Transformer blocks and cross-attention: plain loops, formulas of stacks in print, nets of finite width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tpnum as tp
from tests.oracle import loops
from tpnum import nn
from tpnum.errors import SpecError
from tpnum.nn.spec import from_spec

BOTH = ("nngp", "ntk")
DATA = Path(__file__).parent / "data" / "transformers.npz"
NTK = {"depth": 2, "temp": 0.7, "vu": 1.4, "vw": 1.8, "vv": 1.2}
PAD = 50.0
RNG = np.random.default_rng(5)
X = RNG.standard_normal((4, 5, 3))
X[1, 3:] = X[3, 1:] = PAD
BLOCK = {
    "op": "TransformerBlock", "n_chan": 12, "n_heads": 3, "W_query_std": 1.2, "W_key_std": 0.9, "W_std": 1.4,
    "W_out_std": 1.1, "b_std": 0.3,
}  # fmt: skip
STACKS = {
    "pre": [{}, {"causal": True}],
    "post": [{"norm": "post", "causal": True}, {"norm": "post", "activation": {"op": "Erf"}}],
    "abs of many heads": [{"scaling": "1/sqrt(n)", "attention_mechanism": "ABS", "eps": 1e-3}],
}


def close(made, truth, atol=2e-13):
    np.testing.assert_allclose(made, truth, rtol=0, atol=atol * np.abs(truth).max())


@pytest.mark.parametrize("name", STACKS)
def test_stacked_blocks_are_their_residuals_and_layernorms(name):
    """Against plain loops, with padding; the spec comes back as it went."""
    blocks = [BLOCK | how for how in STACKS[name]]
    first, last = {"op": "Dense", "out_dim": 12, "b_std": 0.1}, [{"op": "GlobalAvgPool"}]
    spec = {"op": "serial", "layers": [first, *blocks, *last]}
    net = from_spec(spec)
    assert from_spec(net.to_spec()) == net
    made = tp.kernel(net, X, get=BOTH, mask_constant=PAD)
    for found, right in zip(made, loops.kernels(spec, X, PAD), strict=True):
        close(found, right)


def softmax(logits, seen):
    raw = np.where(seen, np.exp(logits - logits.max(axis=-1, keepdims=True)), 0.0)
    return raw / raw.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_block_of_finite_width_tends_to_its_kernel(norm):
    """Written out with NumPy: one matrix for keys and queries, logits over n, four heads."""
    net = nn.serial(
        nn.Dense(64),
        nn.TransformerBlock(64, 4, norm=norm, W_query_std=1.5, W_key_std=1.5, W_std=1.3, b_std=0.2),
    )
    x = X[[0, 2]]
    right = np.moveaxis(tp.kernel(net, x), 2, 1).reshape(10, 10)
    rng = np.random.default_rng(11)

    def normed(h):
        return (h - h.mean(axis=-1, keepdims=True)) / h.std(axis=-1, keepdims=True)

    def dense(h, n, std=1.3, bias=0.2):
        return h @ (
            std / h.shape[-1] ** 0.5 * rng.standard_normal((h.shape[-1], n))
        ) + bias * rng.standard_normal(n)

    def attention(h, n):
        heads = []
        for _ in range(4):
            key, value = dense(h, n // 4, 1.5, 0.0), dense(h, n // 4, 1.0, 0.0)
            heads.append(softmax(key @ key.swapaxes(1, 2) / (n // 4), True) @ value)
        return dense(np.concatenate(heads, axis=-1), n, 1.0)

    def perceptron(h, n):
        return dense(np.maximum(dense(h, 4 * n), 0.0), n)

    found = {}
    for n, draws in ((48, 240), (96, 120)):
        made = []
        for _ in range(draws):
            h = dense(x, n, 1.0, 0.0)
            for part in (attention, perceptron):
                h = h + part(normed(h), n) if norm == "pre" else normed(h + part(h, n))
            h = h.reshape(10, n)
            made.append(h @ h.T / n)
        found[n] = np.mean(made, axis=0), np.std(made, axis=0, ddof=1) / draws**0.5
    value = 2.0 * found[96][0] - found[48][0]  # without what falls as 1/n
    error = np.hypot(2.0 * found[96][1], found[48][1]) + 1e-12
    assert np.abs((value - right) / error).max() < 4.5


def tied_stack(p, x, depth, v, bias, seen, temp=1.0):
    """Keys, queries and values are one vector k: LN(k + A k), then LN(h + W2 relu(W1 h + b1) + b2)."""
    axes = x.axes
    ((_, size),) = axes

    def normed(h):
        centred = h - p.mean(h)
        return centred * (1.0 / p.moment("square", centred) ** 0.5)

    h = x
    for layer in range(1, depth + 1):
        U = (
            p.matrix(f"U{layer}", v["u"], cols="d", trained=True)
            if h is x
            else p.matrix(f"U{layer}", v["u"], trained=True)
        )
        k = U @ h
        other = k.rename(t="j")
        weights = (p.moment("mul", k, other) * (1.0 / temp)).softmax("j", weights=seen)
        z = normed(k + (weights * other).sum("j"))
        inner = p.matrix(f"A{layer}", v["w"], trained=True) @ z
        if bias:
            inner = inner + p.vector(f"a{layer}", var=bias)
        out = p.matrix(f"B{layer}", v["w"], trained=True) @ tp.relu(inner) + z
        if bias:
            out = out + p.vector(f"b{layer}", var=bias)
        h = normed(out)
    return h, size


def padded(*sequences):
    """Sequences of several lengths in one array, ones beyond their ends, and their masks."""
    longest = max(map(len, sequences))
    x, mask = np.ones((len(sequences), longest, sequences[0].shape[1])), np.zeros((len(sequences), longest))
    for k, own in enumerate(sequences):
        x[k, : len(own)], mask[k, : len(own)] = own, 1.0
    return x, mask


def test_stacks_against_reference_kernels():
    """Three sequences of lengths 4, 6 and 3, causal with temperature 0.7; and the NTK of their averages."""
    data = np.load(DATA)
    x, mask = padded(*(data[f"gp_x{k}"] for k in range(3)))
    p = tp.Program()
    u = p.data("u", axes={"t": 6}, channels="d")
    seen = p.scalars("before", {"t": 6, "j": 6}, values=np.tri(6))
    h, _ = tied_stack(p, u, 3, {"u": 1.3, "w": 1.7}, 0.2, seen, 0.7)
    p.output(h)
    k, t = np.nonzero(mask)
    close(tp.kernel(p, x)[k[:, None], k, t[:, None], t], data["gp"], 1e-12)

    x, mask = padded(*(data[f"ntk_x{k}"] for k in range(3)))
    size = mask.shape[1]
    p = tp.Program()
    u = p.data("u", axes={"t": size}, channels="d")
    seen, share = p.scalars("seen", {"t": size, "j": size}), p.scalars("share", {"t": size})
    h, _ = tied_stack(p, u, NTK["depth"], {"u": NTK["vu"], "w": NTK["vw"]}, 0.0, seen, NTK["temp"])
    p.output((share * (p.matrix("R", NTK["vv"], trained=True) @ h)).sum("t"))
    known = {"seen": np.repeat(mask[:, None], size, axis=1), "share": mask / mask.sum(axis=1, keepdims=True)}
    made = tp.kernel(p, {"u": x} | known, get=BOTH)
    close(made.nngp, data["nngp"], 1e-12)
    close(made.ntk, data["ntk"], 1e-12)


def corr(c):
    root = np.sqrt(np.diag(c))
    return c / root / root[:, None]


def relu_pair(c):
    root = np.sqrt(np.diag(c))
    rho = np.clip(c / root / root[:, None], -1.0, 1.0)
    np.fill_diagonal(rho, 1.0)
    angle = np.arccos(rho)
    return root * root[:, None] * (np.sqrt(1 - rho**2) + (np.pi - angle) * rho) / (2 * np.pi), (
        np.pi - angle
    ) / (2 * np.pi)


def test_a_stack_whose_keys_queries_and_values_are_one():
    """The published recursion of a causal stack, forward and backward, as a program of lines.

    Forward: A = softmax(C), Cy = (I + A) C (I + A)', corr, relu.  Backward: the same lines from the end.
    """
    depth, v, bias, T = 2, {"u": 1.3, "w": 1.7}, 0.4, 4
    x = RNG.standard_normal((2, T, 3))
    p = tp.Program()
    u = p.data("u", axes={"t": T}, channels="d")
    seen = p.scalars("before", {"t": T, "j": T}, values=np.tri(T))
    h, _ = tied_stack(p, u, depth, v, bias, seen)
    p.output(h)
    made = np.moveaxis(tp.kernel(p, x), 2, 1).reshape(2 * T, 2 * T)
    flat = x.reshape(2 * T, 3)
    c, before = flat @ flat.T / 3, np.kron(np.eye(2), np.tri(T)) > 0
    for _ in range(depth):
        k = v["u"] * c
        mix = np.eye(2 * T) + softmax(np.where(before, k, -np.inf), before)
        z = corr(mix @ k @ mix.T)
        c = corr(v["w"] * relu_pair(v["w"] * z + bias)[0] + bias + z)
    close(made, c)


def test_the_ntk_of_a_stack_whose_keys_queries_and_values_are_one():
    depth, v, T = 2, {"u": 1.3, "w": 1.7}, 4
    x = RNG.standard_normal((2, T, 3))
    p = tp.Program()
    u = p.data("u", axes={"t": T}, channels="d")
    seen = p.scalars("before", {"t": T, "j": T}, values=np.ones((T, T)))
    h, _ = tied_stack(p, u, depth, v, 0.0, seen)
    p.output((p.matrix("R", 1.0, trained=True) @ h).mean("t"))
    made = tp.kernel(p, x, get="ntk")
    flat = x.reshape(2 * T, 3)
    c, same = flat @ flat.T / 3, np.kron(np.eye(2), np.ones((T, T))) > 0
    kept = []
    for _ in range(depth):
        k = v["u"] * c
        mix = np.eye(2 * T) + softmax(np.where(same, k, -np.inf), same)
        y = mix @ k @ mix.T
        z = corr(y)
        inside, step = relu_pair(v["w"] * z)
        out = v["w"] * inside + z
        kept.append((c, mix, y, z, inside, step, out))
        c = corr(out)
    summed = np.kron(np.eye(2), np.ones((T, 1)))
    total = summed.T @ c @ summed / T**2
    d = np.full((2 * T, 2 * T), 1.0 / T**2)
    for below, mix, y, z, inside, step, out in kept[::-1]:
        root = np.sqrt(np.diag(out))
        high = d / root / root[:, None]
        low = v["w"] * high * step
        root = np.sqrt(np.diag(y))
        k = mix.T @ ((v["w"] * low + high) / root / root[:, None]) @ mix
        # N(0, variance) parameters in ntk parametrisation: each share times its variance
        total = total + summed.T @ (v["u"] * k * below + v["w"] * (low * z + high * inside)) @ summed
        d = v["u"] * k
    close(made, total)


# attention to other features ------------------------------------------------------------------------------


def crossed(**how):
    first, second = nn.Index((slice(None), slice(0, 3))), nn.Index((slice(None), slice(1, 5)))
    attention = nn.CrossAttention(
        12, 4, 4, 2, W_key_std=1.3, W_query_std=0.9, W_value_std=1.2, b_std=0.2, **how
    )
    return nn.serial(nn.Dense(12), nn.FanOut(2), nn.parallel(first, second), attention)


@pytest.mark.parametrize("place", [None, "SUM"])
def test_cross_attention_by_hand(place):
    """Three positions look at four others, of which some are padding."""
    how = {} if place is None else {"pos_emb_type": place, "pos_emb_decay_fn": "exp(-d)"}
    net = crossed(**how)
    assert from_spec(net.to_spec()) == net
    x = np.where(X == PAD, 0.0, X)
    x[1, 3:] = 0.0
    data = X.copy()
    data[3] = X[0] + 1.0  # no example without a position to look at
    x[3] = data[3]
    q = np.einsum("ipc,jrc->ijpr", x, x) / 3
    near = 0.0 if place is None else np.exp(-(np.subtract.outer(np.arange(3), np.arange(4)) ** 2.0))
    mask = np.ones((4, 5))
    mask[1, 3:] = 0.0
    weights = np.stack([softmax(1.17 * (q[i, i][:3, 1:] + near), mask[i, 1:] > 0) for i in range(4)])
    moved = 1.44 * np.einsum("ipr,ijrs,jqs->ijpq", weights, q[:, :, 1:, 1:], weights)
    right = moved + 0.04, 2.0 * moved + moved + 0.04  # the Dense below has the kernel of the data twice
    for found, truth in zip(tp.kernel(net, data, get=BOTH, mask_constant=PAD), right, strict=True):
        close(found, truth)


def test_cross_attention_to_oneself_is_self_attention():
    for how in (
        {"causal": True},
        {"scaling": "1/sqrt(n)", "linear_scaling": False, "attention_mechanism": "RELU"},
    ):
        alone = nn.serial(nn.Dense(12), nn.GlobalSelfAttention(12, 4, 4, 2, b_std=0.2, **how))
        both = nn.serial(nn.Dense(12), nn.FanOut(2), nn.CrossAttention(12, 4, 4, 2, b_std=0.2, **how))
        for made, right in zip(*(tp.kernel(net, X[[0, 2]], get=BOTH) for net in (alone, both)), strict=True):
            close(made, right)


UNEQUAL = nn.serial(nn.FanOut(2), nn.parallel(nn.Dense(4), nn.Dense(5)))


@pytest.mark.parametrize(
    ("make", "shape", "said"),
    [
        (lambda: nn.TransformerBlock(10, 4), None, "n_heads is 4, which does not divide n_chan = 10"),
        (lambda: nn.TransformerBlock(8, 2, activation=nn.Dense(3)), None, "activation is Dense"),
        (lambda: nn.TransformerBlock(8, 2, norm="between"), None, "norm is 'between'"),
        (lambda: nn.TransformerBlock(8, 2), (4, 8), r"gets raw data of 8; put Dense\(8\) before"),
        (lambda: nn.serial(nn.Dense(6), nn.TransformerBlock(8, 2)), (4, 3), r"layers\[1\].*n_chan = 8 .* 6"),
        (lambda: nn.serial(nn.Dense(8), nn.TransformerBlock(8, 2)), (3,), "Attention.* have none"),
        (lambda: nn.CrossAttention(8, 4, 4, 2), (4, 3), "gets 1 branch, and takes two"),
        (lambda: nn.serial(UNEQUAL, nn.CrossAttention(8, 4, 4, 2)), (4, 3), "4 and 5 channels"),
    ],
)  # fmt: skip
def test_what_cannot_be(make, shape, said):
    with pytest.raises(SpecError, match=said):
        net = make()
        tp.kernel(net, np.ones((2, *(shape or (3,)))))
