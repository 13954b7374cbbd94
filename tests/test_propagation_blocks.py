"""Blocks that programs write, and those that normalise over batches: signals, fixed and critical points."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.errors import InputError, LimitError, SpecError
from tpnum.propagation import batchnorm_growth, fixed_points
from tpnum.propagation.batches import BatchMap
from tpnum.propagation.blocks import BlockMap


def tanh_block(weight=4.0, bias=0.09):
    p = tp.Program()
    x = p.vector("x")
    return x, p.matrix("W", var=weight) @ tp.tanh(x) + p.vector("b", var=bias)


# --- programs


def test_a_written_block_is_that_of_layers():
    x, y = tanh_block()
    layers = nn.serial(nn.Tanh(), nn.Dense(64, W_std=2.0, b_std=0.3))
    assert fixed_points((x, y)) == pytest.approx(fixed_points(layers))
    assert x.name in x.program and len(x.program.lines) == 6  # as it was


def test_critical_points_of_written_blocks():
    """Schoenholz et al. 2017, and a line of two free parameters."""
    found = tp.critical(tanh_block(bias=0.05), free="W")
    assert found.W**2 == pytest.approx(1.7609546396067, abs=1e-9)
    line = tp.critical(tanh_block(), free=("W", "b"), q=0.5)
    layers = tp.critical(nn.serial(nn.Tanh(), nn.Dense(64)), q=0.5)
    assert (line.W, line.b) == pytest.approx((layers.W_std, layers.b_std), abs=1e-9)
    (point,) = fixed_points(line.block)
    assert point.q == pytest.approx(0.5, rel=1e-9) and point.chi_1 == pytest.approx(1.0, abs=1e-9)


def test_a_gated_and_a_normalised_program():
    """q' = W^2 E sigmoid^2 E tanh^2 + b^2, and W^2 E tanh(x / |x|)^2, by the dual activations."""
    p = tp.Program()
    x = p.vector("x")
    gates = tp.sigmoid(p.matrix("A", var=2.25) @ x) * tp.tanh(p.matrix("B", var=2.25) @ x)
    (point,) = fixed_points((x, p.matrix("C", var=4.0) @ gates + p.vector("c", var=0.09)))
    v = 2.25 * point.q
    want = 4.0 * tp.dual("sigmoid")(v, v, v) * tp.dual("tanh")(v, v, v) + 0.09
    assert point.q == pytest.approx(float(want), rel=1e-10)
    p = tp.Program()
    x = p.vector("x")
    (point,) = fixed_points((x, p.matrix("W", var=2.0) @ tp.tanh(x * (1.0 / p.mean(x * x) ** 0.5))))
    assert point.q == pytest.approx(2.0 * float(tp.dual("tanh")(1.0, 1.0, 1.0)), rel=1e-10)
    assert point.chi_q == pytest.approx(0.0, abs=1e-9)


def test_signals_of_a_program_are_kernels():
    """A residual net of data, line by line: the NNGP and the NTK of what it gives."""
    p = tp.Program()
    g = p.matrix("U", var=1.5, cols="d") @ p.data("u")
    h = p.matrix("V", var=2.0) @ tp.relu(g) + g
    p.output(h)
    found = tp.signals(p, q=0.7, c=0.2)
    x = np.sqrt(1.4) * np.array([[1.0, 0.0], [0.2, 0.96**0.5]])
    nngp, ntk = tp.kernel(p, x, get=("nngp", "ntk"))
    assert found[-1].q == pytest.approx(nngp[0, 0], rel=1e-12)
    assert found[-1].c == pytest.approx(nngp[0, 1] / nngp[0, 0], rel=1e-12)
    assert found[-1].ntk == pytest.approx(ntk[0, 0], rel=1e-12)
    assert [row.place for row in found.rows][:2] == ["u", "line 3 (g1)"]
    assert found.gradient[0] == pytest.approx(1.5 * (1.0 + 2.0 * 0.5), rel=1e-12)


def refused_blocks():
    p = tp.Program()
    p.dim("m", 2.0)
    x, w = p.vector("x"), p.matrix("W")
    wide, back = p.matrix("A", rows="m") @ tp.tanh(x), w.T @ tp.tanh(w @ x)
    return [
        ((x, wide), SpecError, r"line \d \(g\d\) is in 'm', 'x' in 'n'; a block that is repeated"),
        ((x, back), SpecError, "'W' is transposed; .* tp.limit takes any"),
        ((wide, x), SpecError, "'x' does not depend on 'g"),
        (p, SpecError, "one data line and an output are needed, it has 0 and 0"),
        ((x, 3.0), SpecError, r"block is \(.*a pair \(x, y\)"),
    ]


@pytest.mark.parametrize(("block", "error", "words"), refused_blocks())
def test_refusals_of_programs(block, error, words):
    with pytest.raises(error, match=words):
        fixed_points(block)


def test_names_of_programs():
    with pytest.raises(InputError, match="free: the block has no matrix or vector 'V'; it has W, b"):
        tp.critical(tanh_block(), free=("V", "b"))
    with pytest.raises(InputError, match="shape: it belongs to blocks of layers"):
        fixed_points(tanh_block(), shape=4)


# --- batches


def normed(phi, **more):
    return nn.serial(nn.BatchNorm(), phi, nn.Dense(64, **more))


@pytest.mark.parametrize(
    ("batch", "rate", "c"),
    [(4, 3.0840609481, None), (8, None, 0.2501349329), (256, 1.4732342631, 0.3163515495)],
)
def test_fixed_points_of_batchnorm(batch, rate, c):
    """Yang et al. 2019: relu's growth of squared gradients and correlation."""
    (point,) = fixed_points(normed(nn.Relu()), batch_size=batch)
    assert point.q == pytest.approx(0.5, rel=1e-12)
    assert rate is None or point.chi_1 == pytest.approx(rate, abs=1e-9)
    assert c is None or point.c == pytest.approx(c, abs=1e-9)


def test_the_general_road_is_the_integrals_one():
    """Any place, with weights and biases: the response to both kinds of perturbations."""
    made = BatchMap(normed(nn.Relu(), W_std=1.3, b_std=0.2), (), 6)
    exact = (*made.passed(0.7, 0.2), made._response(0.7, 0.2))
    made._exact = None
    general = (*made.passed(0.7, 0.2), made._response(0.7, 0.2))
    for one, other in zip(exact, general, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_residual_batchnorm():
    """x + W1 relu(BN x), weighed by W: q (1 - W^2) = W^2 W1^2 / 2, and gradients grow by W^2 (1 + growth)."""
    block = nn.serial(nn.Residual(normed(nn.Relu())), nn.Dense(64, W_std=0.7))
    (point,) = fixed_points(block, batch_size=8)
    assert point.q == pytest.approx(0.49 * 0.5 / 0.51, rel=1e-9)
    inner = batchnorm_growth("relu", 8) * 0.5 * (1 - point.c)  # at the fixed point of the plain block
    assert point.chi_1 == pytest.approx(0.49 * (1 + inner / (point.q * (1 - point.c))), rel=1e-9)
    linear = nn.serial(nn.BatchNorm(), nn.Dense(64))
    assert fixed_points(linear, batch_size=8)[0].chi_1 == pytest.approx(6 / 5, rel=1e-9)


def test_signals_of_batchnorm():
    net = nn.serial(nn.Dense(64), normed(nn.Relu()), normed(nn.Relu()), nn.Dense(1))
    found = tp.signals(net, batch_size=8)
    x = np.linalg.cholesky(0.5 + 0.5 * np.eye(8)) * np.sqrt(8)
    nngp, ntk = tp.kernel(net, x, get=("nngp", "ntk"), batch_size=8)
    assert (found[-1].q, found[-1].ntk) == pytest.approx((nngp[0, 0], ntk[0, 0]), rel=1e-9)
    assert found[-1].c == pytest.approx(nngp[0, 1] / nngp[0, 0], rel=1e-9)
    assert found[6].chi_1 == pytest.approx(batchnorm_growth("relu", 8), rel=1e-9)
    assert found.fixed_points[0].chi_1 == pytest.approx(found[6].chi_1, rel=1e-9)


def test_gradients_of_finite_batchnorm_nets():
    """Growth per layer of tr(J J^T) over the batch, nets of width 400, against the fixed point's."""
    n, batch, layers, rng = 400, 8, 6, np.random.default_rng(0)
    (point,) = fixed_points(normed(nn.Tanh()), batch_size=batch)
    rates = []
    for _ in range(10):
        z = rng.standard_normal((n, batch)) * 0.7
        for _ in range(2):  # to the fixed point
            y = _batchnorm(z)
            z = rng.standard_normal((n, n)) @ np.tanh(y) / np.sqrt(n)
        kept = []
        for _ in range(layers):
            y, w = _batchnorm(z), rng.standard_normal((n, n)) / np.sqrt(n)
            kept.append((z, y, w))
            z = w @ np.tanh(y)
        back = rng.standard_normal((n, batch))
        sizes = []
        for z, y, w in kept[::-1]:
            d = (1 - np.tanh(y) ** 2) * (w.T @ back)
            d = d - d.mean(axis=1, keepdims=True) - y * np.mean(d * y, axis=1, keepdims=True)
            back = d / z.std(axis=1, keepdims=True)
            sizes.append(np.sum(back**2))
        rates.append(np.diff(np.log(sizes)).mean())
    error = np.std(rates, ddof=1) / np.sqrt(len(rates))
    assert abs(np.mean(rates) - np.log(point.chi_1)) < 4 * error + 2 / n


def _batchnorm(z):
    return (z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fixed_points(normed(nn.Relu()), batch_size=3), "infinite for batches below four"),
        (lambda: fixed_points(normed(nn.Relu()), batch_size=1), "batch_size is 1"),
        (lambda: fixed_points(normed(nn.Relu())), "it normalises over a batch and is given none"),
        (lambda: fixed_points(tanh_block(), batch_size=4), "batch_size: it is for nets of layers"),
        (
            lambda: tp.signals(nn.serial(nn.Dense(8), nn.BatchNorm()), batch_size=4, c=-0.5),
            "correlated by -0.333333 at least",
        ),
        (
            lambda: fixed_points(nn.serial(nn.BatchNorm(eps=0.1), nn.Tanh(), nn.Dense(64)), batch_size=4),
            "are sampled, to .* no fixed point is found by such",
        ),
    ],
)
def test_refusals_of_batches(call, words):
    with pytest.raises((InputError, SpecError, LimitError), match=words):
        call()


@pytest.mark.parametrize(("tail", "right"), [((), 2.0 / 3.0**0.5), ((nn.Dense(128),), (4.0 / 3.0) ** 0.25)])
def test_branches_side_by_side(tail, right):
    """Half of the channels behind tanh, half behind relu: at q = 0 the slope is W^2 (1 + 1/2) / 2."""
    branches = nn.parallel(nn.serial(nn.Tanh(), nn.Dense(64)), nn.serial(nn.Relu(), nn.Dense(64)))
    block = nn.serial(nn.FanOut(2), branches, nn.FanInConcat(), *tail)
    found = tp.critical(block, free="W_std")
    assert (found.W_std, found.q) == (pytest.approx(right, rel=1e-10), 0.0)
    assert found.chi_1 == pytest.approx(1.0, abs=1e-10)


def test_programs_without_half_stable_points_are_refused_soon(monkeypatch):
    """And one of relu, whose bias is none."""
    counted = []
    slopes = BlockMap.slopes
    monkeypatch.setattr(BlockMap, "slopes", lambda *given: counted.append(1) or slopes(*given))

    def block(phi):
        p = tp.Program()
        x = p.vector("x")
        return x, p.matrix("W", var=2.0) @ phi(x) + p.vector("b", var=0.1)

    with pytest.raises(LimitError, match="no critical point"):
        tp.critical(block(tp.erf), free=("W", "b"), kind="half-stable")
    assert len(counted) < 160
    found = tp.critical(block(tp.relu), free=("W", "b"))
    assert (found.W, found.b) == (pytest.approx(2.0**0.5, rel=1e-10), 0.0)
    found = tp.critical(block(tp.tanh), free=("W", "b"), q=0.7)
    plain = tp.critical(nn.serial(nn.Tanh(), nn.Dense(64)), q=0.7)
    assert (found.W, found.b) == pytest.approx((plain.W_std, plain.b_std), rel=1e-10)


def test_small_weights_beside_a_shortcut_are_no_critical_point():
    """chi_1 = 1 + W^4 E tanh'^2 is one to rounding long before W is 0."""
    with pytest.raises(LimitError, match="no critical point"):
        tp.critical(nn.Residual(nn.serial(nn.Dense(64), nn.Erf(), nn.Dense(64))), free="W_std")
