"""Signal propagation against closed forms, published numbers and simulated nets."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.errors import InputError, LimitError, SpecError
from tpnum.propagation import batchnorm_growth, fixed_points
from tpnum.propagation.blocks import BlockMap

TANH = nn.serial(nn.Tanh(), nn.Dense(64, W_std=2.0, b_std=0.3))


# --- critical points


@pytest.mark.parametrize(
    ("bias", "weight", "q"),
    [
        (0.0, 1.0, 0.0),
        (0.001, 1.1891895852347, 0.107292356148),
        (2.01e-5, 1.049995628499, 0.025918602748),
        (0.04, 1.7007963721367, 0.512078504234),
        (0.05, 1.7609546396067, 0.570047881641),
        (1.0, 3.4432109122654, 3.03639639462),
    ],
)
def test_the_critical_line_of_tanh(bias, weight, q):
    """Poole et al. 2016, Schoenholz et al. 2017, Xiao et al. 2018, with 12 digits and more."""
    found = tp.critical(nn.serial(nn.Tanh(), nn.Dense(64, b_std=bias**0.5)), free="W_std")
    assert found.W_std**2 == pytest.approx(weight, abs=1e-11)
    assert found.q == pytest.approx(q, abs=1e-10)
    assert found.chi_1 == pytest.approx(1.0, abs=1e-10)
    back = tp.critical(nn.serial(nn.Tanh(), nn.Dense(64)), q=q or 1e-9)
    assert back.W_std == pytest.approx(found.W_std, abs=1e-8)


def test_erf_in_closed_form():
    """s_w^2 = pi/4 sqrt(1 + 4 q)."""
    found = tp.critical(nn.serial(nn.Erf(), nn.Dense(64, b_std=0.05**0.5)), free=("W_std",))
    assert found.W_std**2 == pytest.approx(1.3758390073467, abs=1e-11)
    for point in (
        found.curve([0.5]) if found._line else tp.critical(nn.serial(nn.Erf(), nn.Dense(8))).curve([0.2])
    ):
        assert point.W_std**2 == pytest.approx(np.pi / 4 * np.sqrt(1 + 4 * point.q), rel=1e-11)


def test_half_stable_points():
    """Roberts, Yaida and Hanin 2022: GELU at (3 + sqrt 17) / 2."""
    found = tp.critical(nn.serial(nn.Gelu(), nn.Dense(64)), kind="half-stable")
    assert found.q == pytest.approx((3 + 17**0.5) / 2, abs=1e-10)
    assert found.W_std**2 == pytest.approx(1.98305825744, abs=1e-10)
    assert found.b_std**2 == pytest.approx(0.172922390756, abs=1e-10)
    assert (found.chi_1, found.chi_q) == pytest.approx((1, 1), abs=1e-8)


def test_relu_and_depth_scales():
    assert tp.critical(nn.serial(nn.Relu(), nn.Dense(64)), free="W_std").W_std == pytest.approx(
        2**0.5, rel=1e-13
    )
    found = tp.critical(nn.serial(nn.Tanh(), nn.Dense(64)), q=0.5, xi=20.0)
    assert found.xi_c == pytest.approx(20.0, rel=1e-8)
    assert fixed_points(found.block)[0].q == pytest.approx(0.5, rel=1e-10)


def test_a_function_of_your_own():
    """The slope by polynomials on panels is that of tanh."""
    mine = nn.serial(nn.Elementwise(lambda x: np.tanh(x)), nn.Dense(64, b_std=0.05**0.5))
    assert tp.critical(mine, free="W_std").W_std ** 2 == pytest.approx(1.7609546396067, abs=1e-9)


def test_other_blocks():
    """Layer normalisation makes q = 1 of every q: chi_1 = W^2 E phi'^2 / q."""
    block = nn.serial(nn.LayerNorm(), nn.Tanh(), nn.Dense(64))
    found = tp.critical(block, q=1.0)
    assert found.W_std == pytest.approx(
        tp.critical(nn.serial(nn.Tanh(), nn.Dense(64)), q=1.0).W_std, rel=1e-8
    )
    assert found.chi_q == pytest.approx(0.0, abs=1e-8)


GATED = nn.serial(
    nn.FanOut(2),
    nn.parallel(
        nn.serial(nn.Dense(64, W_std=1.5), nn.Sigmoid()), nn.serial(nn.Dense(64, W_std=1.5), nn.Tanh())
    ),
    nn.FanInProd(),
    nn.Dense(64, W_std=2.0, b_std=0.3),
)


def test_a_gated_block():
    """q' = W^2 E sigmoid(g)^2 E tanh(h)^2 + b^2 with independent g, h, by the dual activations."""
    sigmoid, tanh = tp.dual("sigmoid"), tp.dual("tanh")

    def forward(q, c):
        g = 2.25 * q * np.array([[1.0, c], [c, 1.0]])
        return 4.0 * sigmoid(g[0, 0], g[1, 1], g[0, 1]) * tanh(g[0, 0], g[1, 1], g[0, 1]) + 0.09

    (point,) = fixed_points(GATED)
    assert forward(point.q, 1.0) == pytest.approx(point.q, rel=1e-10)
    assert forward(point.q, point.c) == pytest.approx(point.q * point.c, rel=1e-9)
    step = 1e-5
    slope = (forward(point.q, 1.0) - forward(point.q, 1.0 - step)) / (step * point.q)
    assert point.chi_1 == pytest.approx(slope, rel=1e-4) and point.chi_1 > 1.0
    slope = (forward(point.q + step, 1.0) - forward(point.q - step, 1.0)) / (2 * step)
    assert point.chi_q == pytest.approx(slope, rel=1e-8) and point.stable
    found = tp.critical(GATED, q=0.5)
    assert (found.chi_1, BlockMap(found.block).slopes(0.5).q_next) == pytest.approx((1.0, 0.5), abs=1e-9)


def test_a_transformer_block():
    """Pre-LN: both sums add what does not depend on q: no q is kept; with a LayerNorm behind, q = 1."""
    attention = nn.GlobalSelfAttention(64, n_chan_key=64, n_chan_val=64, n_heads=4, linear_scaling=True)
    mlp = nn.serial(nn.LayerNorm(), nn.Dense(256), nn.Gelu(), nn.Dense(64))
    block = nn.serial(nn.Residual(nn.serial(nn.LayerNorm(), attention)), nn.Residual(mlp))
    assert fixed_points(block, shape=4) == ()
    slopes = BlockMap(block, (4,)).slopes(1.0, 0.5)
    gelu = float(tp.dual("gelu")(1.0, 1.0, 1.0))
    assert slopes.q_next == pytest.approx(2.0 + gelu, rel=1e-9)
    assert slopes.chi_q == pytest.approx(1.0, abs=1e-9)
    (point,) = fixed_points(nn.serial(block, nn.LayerNorm()), shape=4)
    assert point.q == pytest.approx(1.0, rel=1e-9) and point.chi_q == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("layer", [nn.Relu(), nn.LeakyRelu(0.1), nn.Abs()])
def test_every_q_of_homogeneous_functions_is_half_stable(layer):
    found = tp.critical(nn.serial(layer, nn.Dense(64)), kind="half-stable")
    assert found.q == 1.0 and found.b_std == 0.0
    assert (found.chi_1, found.chi_q) == pytest.approx((1.0, 1.0), abs=1e-9)


def test_a_swish_of_your_own_is_half_stable():
    """The stationary point of V and X by mpmath, 30 digits."""
    found = tp.critical(nn.serial(nn.Swish(), nn.Dense(64)), kind="half-stable")
    with mp.workdps(30):
        q = mp.mpf(found.q)
        f = lambda u: u / (1 + mp.exp(-u))  # noqa: E731
        slope = lambda u: (1 + mp.exp(-u) * (1 + u)) / (1 + mp.exp(-u)) ** 2  # noqa: E731
        weight = lambda z: mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)  # noqa: E731
        ends = range(-14, 15, 2)
        v = mp.quad(lambda z: weight(z) * f(mp.sqrt(q) * z) ** 2, ends)
        bent = mp.quad(lambda z: weight(z) * (z * z - 1) * f(mp.sqrt(q) * z) ** 2, ends) / (2 * q)
        x = mp.quad(lambda z: weight(z) * slope(mp.sqrt(q) * z) ** 2, ends)
        assert abs(bent / x - 1) < 1e-12
        assert found.W_std**2 == pytest.approx(float(1 / x), abs=1e-11)
        assert found.b_std**2 == pytest.approx(float(q - v / x), abs=1e-10)


def test_places_are_those_of_the_user():
    """Repeated layers and branches count as they were written."""
    net = nn.serial(nn.Dense(64), nn.repeat(nn.serial(nn.Tanh(), nn.Dense(64)), 2), *GATED.layers)
    found = [row.place for row in tp.signals(net).rows]
    block = [f"layers[1][{k}].layers[{j}]" for k in (0, 1) for j in (0, 1)]
    assert found == ["layers[0]", *block, "layers[2:5]", "layers[5]"]
    with pytest.raises(LimitError, match=r"layers\[2:5\] \(serial\) cannot keep both"):
        tp.initialise(net)


def test_shapes_of_one_size_may_be_numbers():
    net = nn.serial(nn.Dense(64), nn.Tanh(), nn.Dense(1))
    assert str(tp.signals(net, 3)) == str(tp.signals(net))
    assert repr(tp.initialise(net, 3)) == repr(tp.initialise(net))
    conv = nn.serial(nn.Tanh(), nn.Conv(8, (3,), W_std=1.5, b_std=0.3, padding="CIRCULAR"))
    one, other = (fixed_points(conv, between=(0.5, 2.0), shape=shape) for shape in (3, (3,)))
    assert one == other and len(one) == 1


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: tp.critical(nn.serial(nn.FanOut(2), nn.FanInConcat())),
            SpecError,
            r"layers\[0:2\] \(serial\) gives 128 channels, the block's input has 64",
        ),
        (
            lambda: tp.critical(nn.serial(nn.Exp(), nn.Dense(8)), kind="half-stable"),
            LimitError,
            "no critical point with q between",
        ),
        (
            lambda: tp.critical(nn.serial(nn.Tanh(), nn.Dense(8, b_std=0.3)), "W_std", between=(1e-4, 1e-2)),
            LimitError,
            "no critical point with q between 0.0001 and 0.01",
        ),
        (
            lambda: tp.critical(nn.serial(nn.Relu(), nn.Dense(8, b_std=0.1)), "W_std"),
            LimitError,
            "no critical point",
        ),
        (
            lambda: tp.critical(nn.serial(nn.Tanh(), nn.Dense(8)), "W"),
            InputError,
            "no layer of the block has",
        ),
        (
            lambda: tp.critical(nn.serial(nn.Tanh(), nn.Dense(8)), "W_std", q=1.0),
            InputError,
            "q: a fixed point",
        ),
        (
            lambda: tp.critical(nn.serial(nn.Tanh(), nn.Conv(8, (2,))), shape=(4,)),
            SpecError,
            r"layers\[1\] \(Conv\) gives 8 channels at 3 positions",
        ),
        (lambda: tp.critical("tanh"), SpecError, "block is 'tanh'"),
        (lambda: tp.signals("net"), SpecError, "net is 'net'"),
        (lambda: tp.signals(TANH, c=2.0), InputError, "c is 2"),
        (lambda: batchnorm_growth("relu", 3), InputError, "batch is 3"),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call()


# --- maps and signals


def test_slopes_are_derivatives():
    block = BlockMap(TANH)
    made, step = block.slopes(0.8, 0.4), 1e-6
    up, down = block.slopes(0.8, 0.4 + step), block.slopes(0.8, 0.4 - step)
    assert made.chi_c * 0.8 / made.q_next == pytest.approx((up.c_next - down.c_next) / (2 * step), rel=1e-6)
    d = tp.dual("tanh")
    assert made.q_next == pytest.approx(4 * d(0.8, 0.8, 0.8) + 0.09, rel=1e-13)
    assert made.chi_1 == pytest.approx(4 * d.derivative(0.8, 0.8, 0.8), rel=1e-12)
    assert made.chi_q == pytest.approx(
        4 * (d(0.801, 0.801, 0.801) - d(0.799, 0.799, 0.799)) / 0.002, rel=1e-6
    )


def test_fixed_points():
    (point,) = fixed_points(TANH)
    assert point.phase == "chaotic" and point.stable and point.c < 1
    made = BlockMap(TANH).slopes(point.q, point.c)
    assert made.q_next == pytest.approx(point.q, rel=1e-11)
    assert made.c_next == pytest.approx(point.c, abs=1e-10)
    (relu,) = fixed_points(nn.serial(nn.Relu(), nn.Dense(64, W_std=2**0.5)))
    assert relu.every_q and relu.phase == "critical"


def test_signals_are_kernels():
    """q and c are those of the NNGP of every prefix, ntk of the NTK."""
    layers = [nn.Dense(32), nn.Tanh(), nn.Dense(32, W_std=1.3, b_std=0.2), nn.LayerNorm(),
              nn.Residual(nn.serial(nn.Gelu(), nn.Dense(32))), nn.Relu(), nn.Dense(1)]  # fmt: skip
    found = tp.signals(nn.serial(*layers), q=1.5, c=0.3)
    x = np.sqrt(3.0) * np.array([[1.0, 0.0], [0.3, (1 - 0.09) ** 0.5]])
    for k in range(len(layers)):
        nngp, ntk = tp.kernel(nn.serial(*layers[: k + 1]), x, get=("nngp", "ntk"))
        assert found[k].q == pytest.approx(nngp[0, 0], rel=1e-10)
        assert found[k].c == pytest.approx(nngp[0, 1] / nngp[0, 0], rel=1e-9)
        assert found[k].ntk == pytest.approx(ntk[0, 0], rel=1e-10)
    assert found[1].chi == pytest.approx(tp.dual("tanh").derivative(1.5, 1.5, 1.5), rel=1e-10)
    assert found[6].gradient == 1.0
    assert np.nanprod(found.chi[1:]) == pytest.approx(found[0].gradient, rel=1e-10)
    assert "layers[4]" in str(found)


def test_gradients_of_finite_nets():
    """The squared gradient of an output by each layer, means over nets of width 300."""
    n, nets, rng = 300, 24, np.random.default_rng(0)
    net = nn.serial(nn.Dense(n), *[nn.Tanh(), nn.Dense(n, W_std=1.5, b_std=0.3)] * 4)
    found = tp.signals(net)
    squares = np.empty((nets, 4))
    for seed in range(nets):
        g, slopes, weights = rng.standard_normal(n), [], []
        for _ in range(4):
            w = 1.5 * rng.standard_normal((n, n)) / np.sqrt(n)
            slopes.append(1 / np.cosh(g) ** 2)
            weights.append(w)
            g = w @ np.tanh(g) + 0.3 * rng.standard_normal(n)
        back = rng.standard_normal(n)
        start = back @ back
        for k, (w, d) in enumerate(zip(weights[::-1], slopes[::-1], strict=True)):
            back = d * (w.T @ back)
            squares[seed, k] = back @ back / start
    error = squares.std(axis=0, ddof=1) / np.sqrt(nets)
    want = found.gradient[[6, 4, 2, 0]]
    assert np.all(np.abs(squares.mean(axis=0) - want) < 4 * error + 8 / n)


def test_initialisation():
    net = nn.serial(nn.Dense(64), nn.Tanh(), nn.Dense(64), nn.Relu(), nn.Dense(64), nn.Gelu(), nn.Dense(10))
    made = tp.initialise(net)
    found = tp.signals(made)
    weighted = [0, 2, 4, 6]
    np.testing.assert_allclose(found.q[weighted], 1.0, rtol=1e-10)
    np.testing.assert_allclose(found.gradient[weighted], 1.0, rtol=1e-10)
    assert made.layers[4].W_std == pytest.approx(2**0.5, rel=1e-12)
    with pytest.raises(LimitError, match=r"layers\[2\] \(Dense\) cannot keep both"):
        tp.initialise(nn.serial(nn.Dense(8), nn.Sigmoid(), nn.Dense(8)))
    with pytest.raises(LimitError, match=r"layers\[1\] \(serial\) cannot keep both"):
        tp.initialise(nn.serial(nn.Dense(8), nn.Residual(nn.serial(nn.Tanh(), nn.Dense(8)))))


def test_phases():
    weights, biases = np.linspace(0.6, 2.5, 30), np.linspace(0.0, 0.8, 20)
    found = tp.phases(nn.serial(nn.Tanh(), nn.Dense(64)), weights, biases)
    for i, j in ((10, 3), (12, 25), (19, 15)):
        block = nn.serial(nn.Tanh(), nn.Dense(64, W_std=weights[j], b_std=biases[i]))
        (point,) = fixed_points(block)
        assert found.q[i, j] == pytest.approx(point.q, rel=1e-6)
        assert found.chi_1[i, j] == pytest.approx(point.chi_1, rel=1e-6)
    line = tp.critical(nn.serial(nn.Tanh(), nn.Dense(64, b_std=biases[12])), free="W_std").W_std
    crossing = np.interp(1.0, found.chi_1[12], weights)
    assert crossing == pytest.approx(line, abs=0.01)


# --- batchnorm


@pytest.mark.parametrize(
    ("batch", "rate"),
    [(4, 3.0840609481), (16, 1.5899504168), (256, 1.4732342631), (10**8, np.pi / (np.pi - 1))],
)
def test_batchnorm_of_relu(batch, rate):
    assert batchnorm_growth("relu", batch) == pytest.approx(rate, abs=1e-7 if batch > 1000 else 1e-9)


@pytest.mark.parametrize("batch", [4, 7, 100])
def test_batchnorm_of_linear_nets(batch):
    assert batchnorm_growth("identity", batch) == pytest.approx((batch - 2) / (batch - 3), rel=1e-11)


def test_batchnorm_by_sampling():
    b, rng = 6, np.random.default_rng(0)
    y = rng.standard_normal((200_000, b))
    y -= y.mean(axis=1, keepdims=True)
    size = np.linalg.norm(y, axis=1, keepdims=True)
    u = y / size
    h, d = np.tanh(np.sqrt(b) * u), 1 / np.cosh(np.sqrt(b) * u) ** 2
    mu = np.mean(h * h) - np.mean(h[:, 0] * h[:, 1])
    g = np.eye(b) - 1 / b
    inner = np.einsum("ni,ij,nj,ij->n", d, g, d, g) - np.einsum("ni,ij,nj->n", u * d, g, u * d)
    want = b / (mu * (b - 3) * (b - 1)) * inner.mean()
    assert batchnorm_growth("tanh", b) == pytest.approx(want, rel=0.01)


@pytest.mark.parametrize(
    "layer", [nn.HardTanh(), nn.Elementwise(lambda u: np.clip(u, -1.0, 1.0), kinks=(-1, 1))]
)
def test_variances_that_are_fixed_to_rounding_are_no_fixed_points(layer):
    """Clipping at weights of deviation 1 keeps small variances but for erfc(1 / sqrt(2 q)): all fall to 0."""
    assert fixed_points(nn.serial(layer, nn.Dense(8, W_std=1.0, b_std=0.0)), between=(1e-5, 1e5)) == ()
    (point,) = fixed_points(nn.serial(layer, nn.Dense(8, W_std=1.2, b_std=0.0)), between=(1e-6, 1e5))
    q = mp.mpf(point.q)
    second = 2 * mp.quad(lambda z: min(q * z * z, 1) * mp.npdf(z), [0, 1 / mp.sqrt(q), 12])
    assert point.q == pytest.approx(float(mp.mpf(1.2) ** 2 * second), rel=1e-10)
