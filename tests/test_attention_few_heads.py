"""Attention of a fixed number of heads: kernels given its logits, against nets written out."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.errors import AccuracyWarning, InputError, LimitError, SpecError

RNG = np.random.default_rng(4)
PAD = 50.0
HOW = {"scaling": "1/sqrt(n)", "W_key_std": 1.4, "W_query_std": 1.1, "W_value_std": 1.2, "W_out_std": 0.9}


def attention(**how):
    return nn.GlobalSelfAttention(8, 6, 4, 2, **(HOW | how))


def test_two_heads_are_a_mixture():
    """First and second moments of the conditional kernel, those of wide nets of two heads."""
    x = RNG.standard_normal((2, 3, 4))
    made = tp.conditional(attention(heads=2, causal=True, b_std=0.2), x, samples=150, seed=3)
    assert made.shape == (150, 2, 2, 3, 3)
    rng, width, found = np.random.default_rng(0), 400, []
    for _ in range(150):
        total = np.full((2, 2, 3, 3), 0.04)
        for _ in range(2):
            q, k, v = (s / 2.0 * x @ rng.standard_normal((4, width)) for s in (1.1, 1.4, 1.2))
            raw = np.tri(3) * np.exp(q @ k.swapaxes(1, 2) / width**0.5)
            y = raw / raw.sum(axis=-1, keepdims=True) @ v
            total += 0.81 * np.einsum("npc,mqc->nmpq", y, y) / (2 * width)
        found.append(total)
    for power in (1, 2):
        one, two = np.asarray(made) ** power, np.asarray(found) ** power
        error = np.hypot(one.std(axis=0), two.std(axis=0)) / 150**0.5 + 1e-9
        assert np.abs((one.mean(axis=0) - two.mean(axis=0)) / error).max() < 4.5


def test_the_mean_over_samples_is_the_kernel_of_infinitely_many_heads():
    x = RNG.standard_normal((2, 5, 4))
    x[1, 3:] = PAD
    for kind in ("SOFTMAX", "RELU"):
        nets = [
            nn.serial(nn.Dense(8), attention(attention_mechanism=kind, heads=h), nn.GlobalAvgPool())
            for h in (3, None)
        ]
        made = tp.conditional(nets[0], x, samples=100, mask_constant=PAD)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AccuracyWarning)
            right = tp.kernel(nets[1], x, mask_constant=PAD)
        error = made.std(axis=0, ddof=1) / 100**0.5 + 2e-3 * np.abs(right).max()
        assert np.abs((made.mean(axis=0) - right) / error).max() < 4.5
        assert made.std(axis=0).min() > 0.01 * right.max()  # no number, but random


def test_layers_are_drawn_one_given_the_other():
    x = RNG.standard_normal((2, 3, 4))
    block = nn.TransformerBlock(8, 2, scaling="1/sqrt(n)", heads=2, eps=1e-3)
    net = nn.serial(nn.Dense(8), block, block, nn.GlobalAvgPool())
    assert nn.from_spec(net.to_spec()) == net
    one, again = (tp.conditional(net, x, samples=3, seed=1) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert (np.linalg.eigvalsh(one) > 0.0).all()
    assert np.ptp(one[:, 0, 1]) > 1e-3


def test_what_has_no_kernel():
    net = nn.serial(nn.Dense(8), attention(heads=2))
    for call, error, said in (
        (
            lambda: tp.kernel(net, np.ones((2, 3, 4))),
            LimitError,
            r"layers\[1\].*heads = 2 the limit is not Gaussian",
        ),
        (
            lambda: tp.conditional(nn.serial(nn.Dense(8)), np.ones((2, 4))),
            InputError,
            "no attention of a fixed number",
        ),
        (lambda: tp.conditional(net, np.ones((2, 3, 4)), samples=0), InputError, "samples"),
        (lambda: attention(heads=2, scaling="1/n"), SpecError, "heads is 2, but with scaling"),
        (lambda: attention(heads=0), SpecError, "heads is 0"),
    ):
        with pytest.raises(error, match=said):
            call()
