"""What must hold of every kernel matrix whatever its numbers are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tpnum as tp
from tests.oracle import mp_net
from tpnum import nn

EPS = float(np.finfo(float).eps)
BOTH = ("nngp", "ntk")
few = settings(max_examples=20, deadline=None, derandomize=True)


def relu_net(depth=3, b=0.1, act=None):
    act = act or nn.Relu()
    layers = [part for _ in range(depth) for part in (nn.Dense(64, W_std=1.4, b_std=b), act)]
    return nn.serial(*layers, nn.Dense(1, W_std=1.0, b_std=b))


NETS = {
    "relu": relu_net(),
    "erf": relu_net(act=nn.Erf()),
    "gelu": relu_net(act=nn.Gelu()),
    "tanh": relu_net(depth=2, act=nn.Tanh()),
    "residual": nn.serial(
        nn.Dense(64, W_std=1.4, b_std=0.1),
        nn.FanOut(2),
        nn.parallel(nn.serial(nn.Relu(), nn.Dense(64, W_std=0.8, b_std=0.1)), nn.Identity()),
        nn.FanInSum(),
        nn.LayerNorm(),
        nn.Abs(),
        nn.Dense(1),
    ),
}
ROUNDING = {id(net): (2e-12 if name == "tanh" else 20 * EPS) for name, net in NETS.items()}
"""What a reordering may change: rounding; a computed dual (tanh) is asked for 1e-10 and holds much more."""
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS.keys())


def data(seed: int, n: int = 9, d: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) * np.exp(rng.uniform(-2, 2, (n, 1)))
    x[2] = x[0]
    x[3] = -x[1]
    x[4] = x[1] * (1 + 1e-9)
    return x


def close(a, b, scale, eps):
    root = np.sqrt(np.abs(np.diagonal(scale)))
    assert np.max(np.abs(a - b) / root[:, None] / root[None, :]) <= eps


# matrices --------------------------------------------------------------------------------------------------


@every_net
def test_symmetric_bitwise(net):
    for k in tp.kernel(net, data(0, n=23), get=BOTH):
        np.testing.assert_array_equal(k, k.T)


@every_net
@few
@given(seed=st.integers(0, 10**6))
def test_positive_semidefinite(net, seed):
    for k in tp.kernel(net, data(seed), get=BOTH):
        eigenvalues = np.linalg.eigvalsh(k)
        assert eigenvalues[0] >= -50 * EPS * eigenvalues[-1]


@every_net
@few
@given(seed=st.integers(0, 10**6))
def test_permutation_of_inputs(net, seed):
    x = data(seed)
    order = np.random.default_rng(seed + 1).permutation(len(x))
    for k, moved in zip(tp.kernel(net, x, get=BOTH), tp.kernel(net, x[order], get=BOTH), strict=True):
        close(moved, k[np.ix_(order, order)], moved, ROUNDING[id(net)])


@few
@given(seed=st.integers(0, 10**6), power=st.integers(-30, 30))
def test_positive_homogeneity(seed, power):
    """K(s x, x') = s K(x, x') without biases, exactly for powers of two."""
    x, s = data(seed), 2.0**power
    net = relu_net(b=None)
    one, two = tp.kernel(net, x, get=BOTH), tp.kernel(net, s * x, get=BOTH)
    mixed = tp.kernel(net, s * x, x, get=BOTH)
    for a, b, c in zip(one, two, mixed, strict=True):
        np.testing.assert_allclose(b, s * s * a, rtol=1e-14, atol=0)
        close(c / s, a, a, 4 * EPS)


@every_net
@few
@given(seed=st.integers(0, 10**6), cut=st.integers(1, 8))
def test_block_of_two_arrays_is_block_of_the_stack(net, seed, cut):
    x = data(seed)
    whole, block = tp.kernel(net, x, get=BOTH), tp.kernel(net, x[:cut], x[cut:], get=BOTH)
    for k, part in zip(whole, block, strict=True):
        full = k.copy()
        full[:cut, cut:] = part
        close(full, k, k, ROUNDING[id(net)])


@every_net
def test_duplicates_have_the_diagonal(net):
    x = data(5)
    for k in tp.kernel(net, x, get=BOTH):
        assert k[0, 2] == pytest.approx(k[0, 0], rel=ROUNDING[id(net)])
        assert k[2, 2] == pytest.approx(k[0, 0], rel=ROUNDING[id(net)])
    for k, own in zip(tp.kernel(net, x, x, get=BOTH), tp.kernel(net, x, get=BOTH), strict=True):
        np.testing.assert_allclose(k.diagonal(), own.diagonal(), rtol=ROUNDING[id(net)])


@every_net
def test_tiles_do_not_matter(net):
    x = np.random.default_rng(1).standard_normal((61, 7))
    whole = tp.kernel(net, x, get=BOTH)
    for tile in (7, 16, 64):
        for k, part in zip(whole, tp.kernel(net, x, get=BOTH, tile=tile), strict=True):
            close(part, k, k, ROUNDING[id(net)])


@every_net
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_threads_give_the_same_bits(net, dtype):
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 70, 5)).astype(dtype)
    for args in ((x,), (x, y[:33])):
        one = tp.kernel(net, *args, get=BOTH, tile=16, n_jobs=1, dtype=dtype)
        two = tp.kernel(net, *args, get=BOTH, tile=16, n_jobs=2, dtype=dtype)
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b)


@every_net
def test_one_kernel_is_the_kernel_of_both(net):
    x = data(8)
    both = tp.kernel(net, x, get=BOTH)
    close(tp.kernel(net, x, get="nngp"), both.nngp, both.nngp, ROUNDING[id(net)])
    close(tp.kernel(net, x, get="ntk"), both.ntk, both.ntk, ROUNDING[id(net)])
    np.testing.assert_array_equal(tp.kernel(net, x, get=("ntk", "nngp")).ntk, both.ntk)


@every_net
@few
@given(seed=st.integers(0, 10**6))
def test_float32_is_float64_rounded(net, seed):
    x = data(seed).astype(np.float32)
    for a, b in zip(tp.kernel(net, x, get=BOTH, dtype="float32"), tp.kernel(net, x, get=BOTH), strict=True):
        assert a.dtype == np.float32 and b.dtype == np.float64
        close(a.astype(float), b, b, 1e-6)


layers = st.sampled_from([
    {"op": "Relu"}, {"op": "ABRelu", "a": -0.4, "b": 1.1}, {"op": "Erf"}, {"op": "Gelu"}, {"op": "Abs"},
    {"op": "Sin", "a": 1.1, "b": 0.7, "c": 0.4}, {"op": "Cos"}, {"op": "Rbf", "gamma": 0.3}, {"op": "Gabor"},
    {"op": "Exp", "a": 0.6, "b": 0.3}, {"op": "Gaussian", "a": 1.0, "b": -0.5}, {"op": "Sigmoid_like"},
    {"op": "Polynomial", "coef": [0.2, 0.5, -0.1, 0.05]}, {"op": "Hermite", "degree": 2},
    {"op": "ExpNormalized", "gamma": 0.8, "shift": -0.9}, {"op": "RectifiedMonomial", "degree": 2},
])  # fmt: skip
blocks = st.tuples(
    layers, st.sampled_from(["plain", "norm", "residual", "concat", "after"]), st.sampled_from([None, 0.3])
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(chosen=st.lists(blocks, min_size=1, max_size=4), seed=st.integers(0, 10**6))
def test_random_nets_against_mpmath(chosen, seed):
    def dense(w, b, width=16):
        return {"op": "Dense", "out_dim": width, "W_std": w, "b_std": b, "parameterization": "ntk"}

    net = [dense(1.0, 0.2)]
    for act, how, b in chosen:
        if how == "plain":
            net += [act, dense(0.9, b)]
        elif how == "norm":
            net += [{"op": "LayerNorm", "axis": [-1]}, act, dense(0.9, b)]
        elif how == "after":
            net += [act, {"op": "LayerNorm", "axis": [-1]}, dense(0.9, b)]
        elif how == "residual":
            body = {"op": "serial", "layers": [act, dense(0.5, b)]}
            net += [{"op": "residual", "body": body, "shortcut": {"op": "Identity"}}]
        else:
            one, two = [dense(0.8, b, 16), act], [dense(0.9, None, 48)]
            parts = [{"op": "serial", "layers": part} for part in (one, two)]
            net += [act, {"op": "branches", "join": "concat", "branches": parts}, dense(0.9, b)]
    spec = {"op": "serial", "layers": net}
    x = data(seed, n=6) / 2
    mine = tp.kernel(nn.from_spec(spec), x, get=BOTH)
    bound = 1e-12 if any(how == "after" for _, how, _ in chosen) else 1e-13  # E h h' - m m' cancels
    for k, truth in zip(mine, mp_net.kernels(spec, x), strict=True):
        truth = np.array(truth, dtype=float)
        close(k, truth, truth, bound)
