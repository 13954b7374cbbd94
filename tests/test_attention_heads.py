"""Attention with random logits and infinitely many heads: quadrature, nets written out, every reading."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.errors import AccuracyWarning, ProgramError

BOTH = ("nngp", "ntk")
PAD = 50.0
RNG = np.random.default_rng(8)
X = RNG.standard_normal((2, 5, 3))
X[1, 3:] = PAD
TWO = {
    "n_chan_out": 8, "n_chan_key": 6, "n_chan_val": 4, "n_heads": 2, "scaling": "1/sqrt(n)", "W_key_std": 1.4,
    "W_query_std": 1.1, "W_value_std": 1.2, "W_out_std": 0.9, "b_std": 0.2,
}  # fmt: skip


def gates(q, t, std2=1.4**2 * 1.1**2, out=1.2**2 * 0.9**2, bias=0.04):
    """Two tokens: the softmax is a gate of the difference of two logits, its moments integrals in a plane.

    q, t (examples, examples, 2, 2) of the features; E g g' and E g'(u) g'(v) by Gauss-Hermite quadrature.
    """
    node, weight = np.polynomial.hermite_e.hermegauss(120)
    weight = np.multiply.outer(weight, weight) / (2 * np.pi)
    n, k, moved = len(q), np.empty_like(q), np.empty_like(q)

    def apart(c):
        return c[0, 0] - c[0, 1] - c[1, 0] + c[1, 1]

    for i, j, p, p2 in np.ndindex(n, n, 2, 2):
        a, b = std2 * q[i, i, p, p] * apart(q[i, i]), std2 * q[j, j, p2, p2] * apart(q[j, j])
        c = std2 * q[i, j, p, p2] * apart(q[i, j])
        u = np.sqrt(a) * node[:, None]
        v = c / np.sqrt(a) * node[:, None] + np.sqrt(max(b - c * c / a, 0.0)) * node
        g, g2 = 1 / (1 + np.exp(-u)), 1 / (1 + np.exp(-v))
        share, share2 = (g, 1 - g), (g2, 1 - g2)
        both = [[np.sum(weight * x * y) for y in share2] for x in share]
        z = (
            2 * q[i, j, p, p2] * apart(q[i, j])
            + t[i, j, p, p2] * apart(q[i, j])
            + q[i, j, p, p2] * apart(t[i, j])
        )
        steep = np.sum(weight * g * (1 - g) * g2 * (1 - g2))
        k[i, j, p, p2] = out * np.sum(both * q[i, j])
        moved[i, j, p, p2] = out * (np.sum(both * t[i, j]) + steep * std2 * z * apart(q[i, j]))
    return k + bias, 2 * k + moved + bias


def test_the_softmax_of_two_tokens_is_a_gate():
    """Positions, then their average; an example with itself and with others; raw data and hidden features."""
    x = RNG.standard_normal((3, 2, 4))
    gram = np.einsum("ipc,jrc->ijpr", x, x) / 4
    for first, q, t in ((), gram, 0.0 * gram), ((nn.Dense(8, b_std=0.5),), gram + 0.25, gram + 0.25):
        right = gates(q, t)
        size = [np.sqrt(np.einsum("iipp->ip", k).max()) for k in right]
        net = nn.serial(*first, nn.GlobalSelfAttention(**TWO))
        named = r"the attention of layers\[\d\] \(GlobalSelfAttention\), line \d+ \(h2.*\) is known to"
        with pytest.warns(AccuracyWarning, match=named):
            made = tp.kernel(net, x, get=BOTH)
        for found, truth, scale in zip(made, right, size, strict=True):
            assert np.abs(found - truth).max() < 0.01 * scale**2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AccuracyWarning)
            pooled = tp.kernel(nn.serial(net, nn.GlobalAvgPool()), x, get=BOTH)
            cut = tp.kernel(net, x[:1], x[1:], get=BOTH)
        for found, part, truth, scale in zip(pooled, cut, right, size, strict=True):
            assert np.abs(found - truth.mean(axis=(2, 3))).max() < 2e-3 * scale**2
            assert np.abs(part - truth[:1, 1:]).max() < 0.01 * scale**2


def test_what_is_asked_of_the_softmax_is_met():
    x = RNG.standard_normal((2, 2, 4))
    gram = np.einsum("ipc,jrc->ijpr", x, x) / 4
    right = gates(gram, 0.0 * gram)[0].mean(axis=(2, 3))
    net = nn.serial(nn.GlobalSelfAttention(**TWO), nn.GlobalAvgPool())
    with warnings.catch_warnings():
        warnings.simplefilter("error", AccuracyWarning)
        made = tp.kernel(net, x, rtol=1e-3)
    assert np.abs(made - right).max() < 1e-3 * np.abs(right).max()


def test_the_default_accuracy_can_be_asked_for():
    """Where nothing is asked few points are taken, and more where it is what others have by default."""
    net = nn.serial(nn.GlobalSelfAttention(**TWO), nn.GlobalAvgPool())
    taken = []
    for how in ({}, {"rtol": 1e-6}):
        with pytest.warns(AccuracyWarning, match="evaluations") as said:
            tp.kernel(net, RNG.standard_normal((1, 2, 4)), budget=1 << 16, **how)
        taken += map(int, re.findall(r"after (\d+) evaluations", str(said[0].message)))
    assert taken[1] > taken[0]


@pytest.mark.parametrize("x", [np.zeros((2, 3, 4)), np.ones((2, 3, 4))])
def test_the_softmax_of_equal_tokens_has_no_say(x):
    """Its logits are one, or zero: a head is its own value, and no direction of the logits moves it."""
    net = nn.serial(nn.GlobalSelfAttention(**TWO), nn.GlobalAvgPool())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        made = tp.kernel(net, x, x[:1], get=BOTH, budget=256, rtol=1e-2)
    gram = 1.2**2 * 0.9**2 * x[0, 0, 0]
    for found, right in zip(made, (gram + 0.04, 2.0 * gram + 0.04), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-6)


def many_heads(x, causal, mask, rng, heads=64, width=64):
    """A layer of attention, written out: heads of their own queries, keys and values."""
    channels = x.shape[-1]
    draws = (rng.standard_normal((heads, channels, width)) / channels**0.5 for _ in range(3))
    q, k, v = (s * np.einsum("ntc,hcd->nhtd", x, w)
               for s, w in zip((1.1, 1.4, 1.2), draws, strict=True))  # fmt: skip
    logits = q @ k.swapaxes(2, 3) / width**0.5
    seen = (np.tri(x.shape[1]) if causal else np.ones((x.shape[1],) * 2)) * mask[:, None, None, :]
    raw = np.where(seen > 0, np.exp(logits - logits.max(axis=-1, keepdims=True)), 0.0)
    y = raw / np.maximum(raw.sum(axis=-1, keepdims=True), 1e-300) @ v
    return 0.81 * np.einsum("nhpc,mhqc->nmpq", y, y) / (heads * width) + 0.04


@pytest.mark.parametrize("causal", [False, True])
def test_the_softmax_of_many_heads_written_out(causal):
    """Five tokens, padding and all: what falls as one over the number of channels is below the error."""
    mask = np.where(X[..., 0] == PAD, 0.0, 1.0)
    data = np.where(X == PAD, 0.0, X)
    net = nn.GlobalSelfAttention(**TWO, causal=causal)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        right = tp.kernel(net, X, mask_constant=PAD)
    rng = np.random.default_rng(3)
    found = np.stack([many_heads(data, causal, mask, rng) for _ in range(60)])
    found[:, mask[:, None, :, None] * mask[None, :, None, :] == 0.0] = 0.0
    error = np.std(found, axis=0, ddof=1) / len(found) ** 0.5 + 3e-3 * np.abs(right).max()
    assert np.abs((found.mean(axis=0) - right) / error).max() < 4.5


def test_every_reading_of_attention_with_random_logits():
    """The text, JSON, scalar lines, a finite width and the tangent program of one line."""
    net = nn.serial(nn.GlobalSelfAttention(**TWO, causal=True), nn.GlobalAvgPool())
    p = nn.program(net, (2, 4))
    assert tp.Program.from_json(p.to_json()) == p
    assert "= sum over t_k of softmax(g6) * g5, weights causal1" in str(p)
    x = RNG.standard_normal((1, 2, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        right = tp.kernel(p, x)[0, 0]
        sampled = tp.limit(p.expand(), data={f"u[{t}]": x[0, t] for t in range(2)}, method="ensemble", seed=1)
    ((_, name),) = p.outputs
    drawn = sampled.moment(name, name)
    assert abs(drawn.value - right) < 6 * drawn.error + 2e-3 * right
    found = [tp.simulate(p, 400, seed, data={"u": x[0]}).moment(name, name) for seed in range(60)]
    assert abs(np.mean(found) - right) < 4.5 * np.std(found, ddof=1) / 60**0.5 + 2e-3 * right
    with pytest.raises(
        ProgramError, match="attention with random logits, through which there is no gradient"
    ):
        p.backward({p[name]: 1.0})


WIDTHS = 120, 240


def settings(seed):
    """A random layer, what may stand before and behind it, and two examples."""
    rng = np.random.default_rng([seed, 17])
    how = {f"W_{name}_std": rng.uniform(0.6, 1.6) for name in ("key", "query", "value", "out")}
    layer = nn.GlobalSelfAttention(
        8, 6, 4, 2, scaling="1/sqrt(n)", causal=bool(rng.random() < 0.5), b_std=rng.uniform(0.0, 0.5), **how
    )
    before = ((), (nn.Dense(8, b_std=0.3), nn.Erf()))[rng.integers(2)]
    behind = ((), (nn.Dense(8), nn.Relu()))[rng.integers(2)]
    net = nn.serial(*before, layer, *behind, nn.GlobalAvgPool(), nn.Dense(8))
    return net, rng.standard_normal((2, int(rng.integers(2, 5)), 4))


def at_width(net, x, width, seeds):
    """Both kernels of nets of finite width and their standard errors: of outputs, and along a direction."""
    program = nn.program(net, x.shape[1:]).tangent()
    ((_, name),) = program.outputs
    found = []
    for seed in range(seeds):
        sample = tp.simulate(program, width, seed, data={"u": x})
        vectors = (sample.vector(one).reshape(len(x), width) for one in (name, program.tangents[name]))
        found.append([h @ h.T / width for h in vectors])
    return np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(seeds)


def deviation(seed, seeds):
    """How many standard errors the limit is off what two widths extrapolate to."""
    net, x = settings(seed)
    exact = tp.kernel(net, x, get=BOTH, rtol=1e-3, error=True)
    (a, s), (b, t) = (at_width(net, x, width, seeds) for width in WIDTHS)
    spread = np.sqrt(4.0 * t**2 + s**2)
    far = [
        np.abs(k - 2.0 * other + one) / np.hypot(wide, e)
        for k, e, one, other, wide in zip(*exact, a, b, spread, strict=True)
    ]
    return float(np.max(far))


@pytest.mark.filterwarnings("ignore::tpnum.errors.AccuracyWarning")
def test_the_softmax_of_finite_width():
    assert deviation(0, 40) < 4.5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::tpnum.errors.AccuracyWarning")
@pytest.mark.parametrize("seed", range(1, 11))
def test_the_softmax_of_finite_width_in_many_settings(seed):
    assert deviation(seed, 400) < 4.5
