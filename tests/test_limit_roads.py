"""Which road `tp.limit` takes and at what price; joint expectations that stand on others; known values."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest

import tpnum as tp
from tests.oracle.mixed import numbered
from tpnum import functions, nn
from tpnum.errors import AccuracyWarning, InputError, LimitError
from tpnum.evaluate.joint import Account, joint_expectation, repaired
from tpnum.functions import get
from tpnum.law.price import price, smooth

X = np.random.default_rng(0).standard_normal((3, 4))
Y = np.array([1.0, -1.0, 0.5])


def trained(activation, count, steps, b_std=None, lr=0.1):
    net = nn.serial(nn.Dense(8, b_std=b_std), activation, nn.Dense(1))
    return nn.sgd(net, X[:count], Y[:count], steps=steps, lr=lr)


# --- the road is chosen from the text


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("activation", [nn.Relu(), nn.Tanh(), nn.Sign()], ids=repr)
def test_training_with_one_hidden_layer_takes_no_time(activation, count, steps):
    run = trained(activation, count, steps)
    begin = time.process_time()
    law = tp.limit(run.program)
    assert law.method in ("recursion", "ensemble")
    assert law.method == "ensemble" or count < 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses, _ = run.trajectory(law)
    assert time.process_time() - begin < 10
    drawn = tp.limit(run.program, method="ensemble", samples=1 << 15, seed=5)
    for k, loss in enumerate(run.losses):
        ensemble = drawn.scalar(loss)
        assert abs(losses[k] - ensemble.value) <= 2 * (ensemble.error + law.scalar(loss).error)
    assert losses[0] == pytest.approx((Y[:count] ** 2).sum() / 2, abs=2e-3)


def test_training_of_two_million_neurons():
    """f_1[1] = -0.0560 +- 0.0004 and the loss 0.9530 at that width."""
    run = trained(nn.Relu(), 2, 2)
    losses, outputs = run.trajectory(tp.limit(run.program))
    assert losses[1] == pytest.approx(0.9530, abs=2e-4)
    assert outputs[1] == pytest.approx([-0.0074, -0.0560], abs=4e-4)


def test_a_bias_in_the_hidden_layer():
    run = trained(nn.Relu(), 2, 2, b_std=0.3)
    losses, _ = run.trajectory(tp.limit(run.program))
    widths = (1000, 2000)
    finite = [tp.simulations(run.program, n, 24) for n in widths]
    small, large = (f.scalar(run.losses[1]) for f in finite)
    extrapolated, error = 2 * large.value - small.value, np.hypot(2 * large.error, small.error)
    assert abs(losses[1] - extrapolated) < 4 * error


def gated(steps):
    """h <- h + z (c - h), whose products multiply out to exponentially many terms."""
    p = tp.Program()
    h = p.vector("h")
    u, w, x = p.matrix("U"), p.matrix("W"), p.vector("x")
    for _ in range(steps):
        z, c = get("sigmoid")(u @ h + x), tp.tanh(w @ h)
        h = h + z * (c - h)
    return p, p.mean(h * h)


def test_products_that_multiply_out_are_sampled():
    p, m = gated(6)
    begin = time.process_time()
    law = tp.limit(p)
    assert law.method == "ensemble"
    found = law.scalar(m)
    assert time.process_time() - begin < 20
    drawn = tp.limit(p, method="ensemble", seed=1).scalar(m)
    assert abs(found.value - drawn.value) <= 2 * (found.error + drawn.error)


def test_a_question_that_costs_too_much_is_sampled_alone():
    p = tp.Program()
    x = p.vectors(*"abcdefgh", mean=[0.0] * 8, cov=0.5 * (np.eye(8) + 1.0))
    cheap = p.mean(tp.tanh(x[0]))
    pairs = [tp.maximum(x[i], x[j]) for i in range(8) for j in range(i)]
    sums = sum(pairs[1:], start=pairs[0])
    law = tp.limit(p)
    assert law.method == "recursion"
    found = law.moment(sums, sums)
    assert found.method.startswith("ensemble")
    z = np.random.default_rng(0).standard_normal((200_000, 8)) @ np.linalg.cholesky(0.5 * (np.eye(8) + 1.0)).T
    values = sum(np.maximum(z[:, i], z[:, j]) for i in range(8) for j in range(i)) ** 2
    assert abs(found.value - values.mean()) < 5 * values.std() / np.sqrt(len(values)) + found.error
    assert law.scalar(cheap).method == "recursion"


def test_prices():
    relu, tanh, step = get("relu"), get("tanh"), functions.step
    assert smooth(tanh)
    assert not smooth(relu)
    assert not smooth(get("maximum"))
    assert price(2, [tanh]) < price(2, [relu]) < price(3, [tanh]) < price(3, [step]) <= price(9, [tanh])
    assert price(3, [tanh, tanh]) == 2 * price(3, [tanh])


def test_budgets():
    p, m = gated(2)
    for bad in (0, 100, 2.5):
        with pytest.raises(InputError, match="budget"):
            tp.limit(p, budget=bad)
    law = tp.limit(p, method="ensemble", budget=1 << 12)
    assert law.scalar(m).cost == 1 << 12


# --- large errors are errors, not refusals


@pytest.mark.filterwarnings("ignore::tpnum.errors.AccuracyWarning")
def test_a_large_error_is_said_and_the_value_is_kept():
    """E max(-(z + g 1{u > 0}) - 2/5, 0)^2: an oblique ramp behind a jump."""

    def f(z, g, u):
        return np.maximum(-(z + g * (u > 0)) - 0.4, 0.0) ** 2

    mean, cov = [0.0, 0.0, -1.0364], np.diag([0.3, 1.0, 1.0])
    p = tp.Program()
    m = p.moment(f, *p.vectors("z", "g", "u", mean=mean, cov=cov))
    made = tp.limit(p).scalar(m)
    assert abs(made.value - 0.08783) <= made.error + 5e-5


def test_the_account_warns_and_says_what_would_do():
    account = Account(1e-9)
    factor = (functions.step, (0,)), (functions.step, (1,)), (functions.step, (2,)), (functions.step, (3,))
    from tpnum.law.graph import Factor

    factors = [Factor(fn, args, ()) for fn, args in factor]
    cov = 0.5 * (np.eye(4) + 1.0)
    value, error = account.expectation(factors, [[]] * 4, np.zeros(4), cov, "over x")
    assert abs(value - 0.2) <= error
    with pytest.warns(
        AccuracyWarning, match=r"the joint expectation over x .* evaluations: about .* would do"
    ):
        account.warn()


# --- covariances that carry errors


def test_covariances_are_repaired_within_their_error():
    exact = np.array([[1.0, 1.0], [1.0, 1.0]])
    noisy = exact + np.array([[0.0, 1e-5], [1e-5, 0.0]])
    made = repaired(np.stack([noisy, exact, np.eye(2)]), 1e-4, "x")
    assert np.linalg.eigvalsh(made).min() > -1e-15
    np.testing.assert_allclose(made[0], exact, atol=1.1e-5)
    assert (made[2] == np.eye(2)).all()
    with pytest.raises(LimitError, match=r"x: the covariances .* larger budget"):
        repaired(noisy, 1e-7, "x")


def max_of_max(rank=4):
    p = tp.Program()
    g, v = p.matrix("U", cols="d") @ p.data("x", axes={"t": 4}), p.matrix("V")
    m = [tp.maximum(g.take(t=i), g.take(t=i + 1)) for i in (0, 2)]
    p.output(tp.maximum(v @ m[0], v @ m[1]))
    return p


@pytest.mark.filterwarnings("ignore::tpnum.errors.AccuracyWarning")
def test_a_maximum_of_maxima():
    """The pair (x, x) is singular by construction, and stands on expectations with errors."""
    x = np.random.default_rng(1).standard_normal((2, 4, 5))
    made = tp.kernel(max_of_max(), x)
    rng = np.random.default_rng(0)
    flat = x.reshape(8, 5)
    z = rng.standard_normal((400_000, 8)) @ np.linalg.cholesky(flat @ flat.T / 5 + 1e-13 * np.eye(8)).T
    h = np.maximum(z[:, ::2], z[:, 1::2])  # (input, pair)
    second = h.T @ h / len(h)
    u = rng.standard_normal((400_000, 4)) @ np.linalg.cholesky(second).T
    top = np.maximum(u[:, ::2], u[:, 1::2])
    np.testing.assert_allclose(made, top.T @ top / len(u), atol=0.015)
    np.testing.assert_allclose(made, made.T, rtol=1e-6)
    again = tp.kernel(max_of_max(), x[[0, 1, 0]])
    np.testing.assert_allclose(again[0, 2], again[0, 0], rtol=2e-3)
    assert np.linalg.eigvalsh(again).min() > -2e-3


def test_scalars_that_differ_within_a_batch():
    from tpnum.law.graph import Factor

    scale = functions.Function.from_callable(lambda u, v, t: np.tanh(t * u) * v**2, arity=2, n_scalars=1)
    t = np.array([0.3, 1.0, 2.0])
    cov = np.array([[1.0, 0.4], [0.4, 2.0]])
    means, covs = np.full((3, 2), 0.2), np.broadcast_to(cov, (3, 2, 2))
    value, error, size, _ = joint_expectation([Factor(scale, (0, 1), ())], [[t]], means, covs)
    assert np.all(error < 1e-6 * size)
    for k in range(3):
        one = tp.expect(lambda u, v, k=k: np.tanh(t[k] * u) * v**2, [0.2, 0.2], cov).value
        assert value[k] == pytest.approx(one, rel=1e-6)


# --- zeros, data


@pytest.mark.parametrize("zeros", [lambda p, b: p.zeros() + b, lambda p, b: b - tp.tanh(p.zeros())])
def test_zero_is_odd_and_even(zeros):
    p = tp.Program()
    x, w, v = p.vector("x"), p.matrix("W"), p.matrix("V")
    g = w @ tp.tanh(v @ x)
    back = w.T @ zeros(p, tp.tanh.derivative()(g) * p.vector("seed"))
    last = v.T @ (back * back * back)
    law = tp.limit(p)
    assert law.independence.holds
    assert law.method == "recursion"
    plain = tp.Program()
    x, w, v = plain.vector("x"), plain.matrix("W"), plain.matrix("V")
    g = w @ tp.tanh(v @ x)
    other = w.T @ (tp.tanh.derivative()(g) * plain.vector("seed"))
    truth = tp.limit(plain).moment(other, other).value
    assert law.moment(back, back).value == pytest.approx(truth, rel=1e-12)
    assert law.moment(last, last).value == pytest.approx(15 * truth**3, rel=1e-12)


def test_zeros_do_not_hide_what_is_neither():
    p = tp.Program()
    x, w = p.vector("x"), p.matrix("W")
    seed = p.vector("seed")
    g = w @ tp.tanh(x)
    w.T @ (p.zeros() + seed + tp.tanh(g))
    assert not tp.limit(p).independence.holds


def test_tangent_kernels_of_data_by_an_ensemble_of_gradients():
    p = tp.Program()
    g = p.matrix("U", cols="d") @ p.data("x")
    h = tp.tanh(p.matrix("W") @ tp.relu(g))
    data = {"x": np.array([1.0, 0.5])}
    exact = tp.ntk(p, h, data=data).value
    made = tp.ntk(p, h, road="backward", method="ensemble", data=data)
    assert abs(made.value - exact) <= 1.5 * made.error < 2e-3


def test_a_zero_of_sampled_terms_has_their_errors():
    """By symmetry E sin(h) tanh(W h) = 0; its covariances are sums of expectations that are known to 2e-3."""
    p, names = numbered(358)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)
        law = tp.limit(p, independence="exact", rtol=2e-3)
        made = law.scalar(names[5])
    assert law.method == "corrected recursion"
    assert abs(made.value) <= made.error < 2e-3


def test_a_difference_of_equals_has_rounding_errors():
    p = tp.Program()
    x, w = p.vector("x"), p.matrix("W")
    y = w @ tp.tanh(x)
    left, right = p.mean(tp.tanh(x) * tp.tanh(x)), p.mean(y * y)
    difference = (left - right).name
    law = tp.limit(p)
    made = law.scalar(difference)
    assert abs(made.value) <= made.error < 1e-11
    assert 0 < law.scalar(left).error < 1e-11
