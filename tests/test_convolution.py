"""Convolutional nets of odd shapes against plain loops, and a family against its scalar lines."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import tpnum as tp
from tests.oracle import loops
from tpnum import nn
from tpnum.errors import SpecError
from tpnum.program.windows import Window

BOTH = ("nngp", "ntk")
WEIGHTS = {"W_std": 1.3, "b_std": 0.2, "parameterization": "ntk"}


def conv(shape, strides, padding, chan=6, op="Conv", **more):
    return {
        **more,
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
    "1d_dilated": (
        (9, 2),
        [
            conv([2], [1], "VALID", dilation=[3]),
            RELU,
            conv([3], [2], "SAME", dilation=[2]),
            RELU,
            conv([2], [1], "CIRCULAR", op="ConvLocal", dilation=[2]),
            RELU,
            FLAT,
            END,
        ],
    ),
    "2d_dilated": (
        (5, 4, 2),
        [
            conv([3, 2], [1, 2], "SAME", dilation=[2, 3]),
            RELU,
            conv([2, 2], [1, 1], "CIRCULAR", dilation=[3, 1]),
            {"op": "Erf"},
            conv([2, 1], [2, 1], "VALID", dilation=[4, 5]),
            RELU,
            GAP,
            END,
        ],
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


@pytest.mark.parametrize("padding", ["VALID", "SAME", "CIRCULAR"])
@pytest.mark.parametrize("length", [6, 7])
def test_covariances_under_dilated_filters(length, padding):
    """K[p, p2] = W_std^2 / size sum over offsets of x(p, o) . x(p2, o) / channels + b_std^2."""
    x = np.random.default_rng(7).standard_normal((3, length, 2))
    gram = np.einsum("ipc,jqc->pqij", x, x) / 2
    for size, stride, dilation in product([1, 2, 3, 4], [1, 2, 3], [1, 2, 3]):
        net = nn.Conv(4, (size,), (stride,), padding, 1.3, 0.2, dilation=(dilation,))
        if padding == "VALID" and (size - 1) * dilation + 1 > length:
            with pytest.raises(SpecError, match=r"Conv: filter_shape .* larger than the input"):
                nn.program(net, x.shape[1:])
            continue
        _, rows = loops.windows((length,), (size,), (stride,), padding, (dilation,))
        truth = np.full((3, 3, len(rows), len(rows)), 0.04)
        for (p, row), (q, other) in product(enumerate(rows), repeat=2):
            for a, b in zip(row, other, strict=True):
                if a is not None and b is not None:
                    truth[:, :, p, q] += 1.69 / size * gram[a, b]
        made = tp.kernel(net, x)
        np.testing.assert_allclose(made, truth, rtol=0, atol=1e-14 * np.abs(truth).max())


@pytest.mark.parametrize("padding", ["VALID", "SAME", "CIRCULAR"])
def test_covariances_under_dilated_filters_of_images(padding):
    x = np.random.default_rng(8).standard_normal((2, 5, 4, 2))
    gram = np.einsum("iabc,jdec->abdeij", x, x).reshape(20, 20, 2, 2) / 2
    for size, strides, dilation in (
        ((2, 3), (1, 1), (3, 1)),
        ((3, 2), (2, 1), (2, 2)),
        ((2, 2), (3, 2), (4, 3)),
        ((1, 2), (1, 3), (7, 2)),
    ):
        net = nn.Conv(4, size, strides, padding, 1.3, 0.2, dilation=dilation)
        shape, rows = loops.windows((5, 4), size, strides, padding, dilation)
        truth = np.full((2, 2, len(rows), len(rows)), 0.04)
        for (p, row), (q, other) in product(enumerate(rows), repeat=2):
            for a, b in zip(row, other, strict=True):
                if a is not None and b is not None:
                    truth[:, :, p, q] += 1.69 / np.prod(size) * gram[a, b]
        made = tp.kernel(net, x).reshape(truth.shape)
        assert len(rows) == np.prod(shape)
        np.testing.assert_allclose(made, truth, rtol=0, atol=1e-14 * np.abs(truth).max())


def test_a_filter_of_even_size_at_stride_and_dilation_by_hand():
    """SAME pads (size - 1) dilation entries at stride 1, the smaller half before."""
    places = {
        (7, 3, 1, 2): [-2, -1, 0, 1, 2, 3, 4],
        (6, 2, 1, 3): [-1, 0, 1, 2, 3, 4],
        (6, 4, 2, 1): [-1, 1, 3],
        (7, 2, 3, 2): [-1, 2, 5],
        (5, 1, 2, 9): [0, 2, 4],
    }
    for (length, size, stride, dilation), starts in places.items():
        for padding in ("SAME", "CIRCULAR"):
            made = Window(length, size, stride, dilation, padding)
            assert list(made.starts) == starts
            for k, start in enumerate(starts):
                for o in range(size):
                    i = start + o * dilation
                    seen = [i % length] if padding == "CIRCULAR" else [i] if 0 <= i < length else []
                    assert [at for at, _ in made.rows[k * size + o]] == seen


def test_a_transposed_convolution_may_have_a_filter_longer_than_its_input():
    """VALID, stride 2: input i reaches the outputs 2 i + o, o = 0 .. 4."""
    x = np.random.default_rng(9).standard_normal((2, 3, 2))
    made = tp.kernel(nn.ConvTranspose(4, (5,), (2,)), x)
    gram = np.einsum("ipc,jqc->pqij", x, x) / 2
    truth = np.zeros((2, 2, 9, 9))
    for i, j, o in product(range(3), range(3), range(5)):
        truth[:, :, 2 * i + o, 2 * j + o] += gram[i, j] / 5
    np.testing.assert_allclose(made, truth, rtol=0, atol=1e-14)


def test_variances_behind_pools_are_those_of_each_image_alone():
    """More images than are looked at together, one and several channels."""
    layers = [nn.Conv(8, (3, 3), padding="SAME", b_std=0.2), nn.Relu(), nn.AvgPool((2, 2), (2, 2))]
    net = nn.serial(*layers, nn.Conv(8, (3, 3), padding="SAME"), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1))
    for channels in (1, 5):
        x = np.random.default_rng(channels).standard_normal((11, 4, 4, channels))
        alone = np.array([tp.kernel(net, x[[i]], get=BOTH) for i in range(11)])[..., 0, 0]
        np.testing.assert_allclose([np.diag(one) for one in tp.kernel(net, x, get=BOTH)], alone.T, rtol=1e-13)
