"""Convolutional nets of odd shapes against plain loops, and a family against its scalar lines."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tests.oracle import loops
from tpnum import nn

BOTH = ("nngp", "ntk")
WEIGHTS = {"W_std": 1.3, "b_std": 0.2, "parameterization": "ntk"}


def conv(shape, strides, padding, chan=6, op="Conv"):
    return {
        "op": op,
        "out_chan": chan,
        "filter_shape": shape,
        "strides": strides,
        "padding": padding,
        **WEIGHTS,
    }


RELU, GAP, FLAT = {"op": "Relu"}, {"op": "GlobalAvgPool"}, {"op": "Flatten"}
END = {"op": "Dense", "out_dim": 1, **WEIGHTS}
ODD_SHAPES = {
    "1d_valid_gap": ((7, 3), [conv([2], [2], "VALID"), RELU, conv([3], [1], "SAME"), RELU, GAP, END]),
    "1d_circular_local": (
        (5, 2),
        [conv([3], [1], "CIRCULAR"), RELU, conv([2], [1], "VALID", op="ConvLocal"), RELU, FLAT, END],
    ),
    "2d_even_filter": (
        (3, 5, 2),
        [conv([2, 4], [1, 1], "SAME"), RELU, conv([2, 2], [2, 1], "CIRCULAR"), RELU, GAP, END],
    ),
    "2d_strides": (
        (5, 4, 1),
        [conv([3, 2], [2, 3], "SAME"), {"op": "Erf"}, conv([2, 2], [1, 1], "SAME"), RELU, FLAT, END],
    ),
    "2d_positions_remain": ((2, 3, 2), [conv([2, 3], [1, 1], "SAME"), RELU, conv([1, 2], [1, 1], "VALID")]),
    "2d_pools": (
        (4, 5, 2),
        [
            conv([3, 3], [1, 1], "SAME"),
            {"op": "Abs"},
            {
                "op": "AvgPool",
                "window_shape": [2, 3],
                "strides": [2, 1],
                "padding": "SAME",
                "normalize_edges": True,
            },
            conv([1, 2], [1, 2], "CIRCULAR"),
            RELU,
            {"op": "SumPool", "window_shape": [2, 1], "strides": [1, 1], "padding": "VALID"},
            {"op": "GlobalSumPool"},
            END,
        ],
    ),
    "2d_layernorm_over_space": (
        (3, 3, 2),
        [conv([2, 2], [1, 1], "SAME"), {"op": "LayerNorm", "axis": [1, 2, -1]}, RELU, FLAT, END],
    ),
    "3d": ((2, 3, 2, 2), [conv([2, 2, 1], [1, 1, 1], "SAME"), RELU, GAP, END]),
}


@pytest.mark.parametrize("name", ODD_SHAPES)
def test_convolutions_against_plain_loops(name):
    shape, parts = ODD_SHAPES[name]
    spec = {"op": "serial", "layers": parts}
    x = np.random.default_rng(4).standard_normal((4, *shape))
    whole = tp.kernel(nn.from_spec(spec), x, get=BOTH)
    block = tp.kernel(nn.from_spec(spec), x[:1], x[1:], get=BOTH)
    for k, part, truth in zip(whole, block, loops.kernels(spec, x), strict=True):
        if truth.ndim > 2:  # the oracle has one axis for all positions
            places = truth.shape[-1]
            k, part = k.reshape(4, 4, places, places), part.reshape(1, 3, places, places)
        np.testing.assert_allclose(k, truth, rtol=0, atol=1e-13 * np.abs(truth).max())
        np.testing.assert_allclose(part, truth[:1, 1:], rtol=0, atol=1e-13 * np.abs(truth).max())


def test_pooled_conv_is_its_expanded_program():
    """The family over positions and its scalar lines have one law."""
    net = nn.serial(
        nn.Conv(4, (2,), padding="CIRCULAR", W_std=1.3, b_std=0.2),
        nn.Relu(),
        nn.Conv(4, (3,), padding="SAME", W_std=1.1),
        nn.Erf(),
        nn.GlobalAvgPool(),
        nn.Dense(1),
    )
    x = np.random.default_rng(6).standard_normal((4, 5, 3))
    family = tp.kernel(net, x, get=BOTH)
    scalar_lines = nn.program(net, (5, 3)).expand()
    names = [line.name for line in scalar_lines.lines if type(line).__name__ == "Data"]
    assert len(names) == 5
    assert all(not var.axes for var in scalar_lines.vars.values())
    parts = {name: x[:, k] for k, name in enumerate(names)}
    for k, expanded in zip(family, tp.kernel(scalar_lines, parts, get=BOTH), strict=True):
        np.testing.assert_allclose(expanded, k, rtol=1e-13, atol=0)
