"""Unrolled SGD: the program against training of real weight matrices, and against the kernel's dynamics."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tests.oracle import sgd as oracle
from tpnum import nn
from tpnum.errors import InputError, ProgramError, SpecError

RNG = np.random.default_rng(5)
X, Y, NEW = RNG.standard_normal((3, 4)), np.array([1.0, -0.5, 0.3]), RNG.standard_normal((1, 4))
ALL = np.concatenate([X, NEW])
BATCHES, RATES = [(0, 1, 2), (1,), (2, 0)], [0.4, 0.8, 0.3]
STDS = ((1.2, 1.5, 0.9), (0.5, None))
NET = nn.serial(nn.Dense(1, 1.2, 0.5), nn.Tanh(), nn.Dense(1, 1.5), nn.Erf(), nn.Dense(1, 0.9))
PHIS = (tp.tanh, tp.erf)
SLOPES = tuple(f.derivative() for f in PHIS)


def sech2(u):
    return 1.0 - np.tanh(u) ** 2


def test_maximal_update_is_sgd_at_any_width():
    """The same draws: the same outputs and features to rounding, three steps on batches of their own."""
    n = 40
    made = nn.sgd(NET, X, Y, 3, RATES, batches=BATCHES, x_test=NEW)
    first = 1.2 * np.random.default_rng(0).standard_normal((n, 4))
    given = {f"u[{i}]": first @ row / 2.0 for i, row in enumerate(ALL)}
    sample = tp.simulate(made.program, n, 1, given=given)
    outputs, features = oracle.train(
        [first, sample["W1"]],
        [sample["b0"], None],
        sample["v"],
        ALL,
        Y,
        PHIS,
        SLOPES,
        RATES,
        BATCHES,
        "mu",
        STDS,
    )
    losses, found = made.trajectory(sample)
    np.testing.assert_allclose(found, outputs, rtol=1e-10, atol=1e-13)
    for t in range(4):
        last = np.stack([sample[v] for v in made.features[t][-1]], axis=1)
        np.testing.assert_allclose(last, features[t], rtol=1e-10)
        np.testing.assert_allclose(made.kernels(sample)[t], last.T @ last / n, rtol=1e-10)
    square = [0.5 * sum((outputs[t][i] - Y[i]) ** 2 for i in batch) for t, batch in enumerate(BATCHES)]
    np.testing.assert_allclose(losses, square, rtol=1e-10)


@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
def test_the_kernel_regime(parameterization):
    """Without movement of features: f <- f - eta Theta err, with Theta of `tp.ntk` (ntk)."""
    start = np.array([0.3, -0.2, 0.1, 0.4])
    made = nn.sgd(
        NET, X, Y, 3, RATES, batches=BATCHES, x_test=NEW, parameterization=parameterization, initial=start
    )
    law = tp.limit(made.program)
    assert law.independence.holds
    losses, outputs = made.trajectory(law)
    kernels = made.kernels(law, layer=0)  # features do not move: tanh's kernel at every step
    first = 1.2**2 * ALL @ ALL.T / 4 + 0.25
    variance = np.diag(first)
    one = tp.dual(tp.tanh)(variance[:, None], variance[None, :], first)
    np.testing.assert_allclose(kernels, np.broadcast_to(one, (4, 4, 4)), rtol=1e-9)
    if parameterization == "ntk":
        p = tp.Program()
        u = p.data("u", axes={"i": 4}, channels="d")
        h = tp.tanh(p.matrix("U", var=1.2**2, cols="d") @ u + p.vector("b", var=0.25, trained=True))
        g = p.matrix("V", var=0.81) @ tp.erf(p.matrix("W", var=1.5**2) @ h)
        theta = tp.ntk(p, g, data={"u": ALL}).value
    else:
        p = tp.Program()
        u = p.vectors(*(f"u{i}" for i in range(4)), cov=(1.2**2 * ALL @ ALL.T / 4).tolist())
        b, w, v = p.vector("b", var=0.25), p.matrix("W", var=1.5**2), p.vector("v", var=0.81)
        h = [tp.tanh(one + b) for one in u]
        g = [w @ one for one in h]
        k = [tp.erf(one) for one in g]
        d = [SLOPES[1](one) * v for one in g]
        both = tp.limit(p)
        theta = np.array(
            [
                [
                    both.moment(k[i], k[j]).value
                    + both.moment(h[i], h[j]).value * both.moment(d[i], d[j]).value
                    for j in range(4)
                ]
                for i in range(4)
            ]
        )
    f = start
    for t, batch in enumerate(BATCHES):
        np.testing.assert_allclose(outputs[t], f, rtol=1e-9)
        assert losses[t] == pytest.approx(0.5 * sum((f[i] - Y[i]) ** 2 for i in batch), rel=1e-9)
        f = f - RATES[t] * sum(theta[:, i] * (f[i] - Y[i]) for i in batch)
    np.testing.assert_allclose(outputs[3], f, rtol=1e-9)


@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
def test_wide_nets_reach_the_kernel_regime(parameterization):
    """Real training from random weights, given the outputs that it starts from."""
    gaps = {}
    for n in (128, 1024):
        rng, found = np.random.default_rng(n), []
        for _ in range(4):
            weights = [1.2 * rng.standard_normal((n, 4)), 1.5 / np.sqrt(n) * rng.standard_normal((n, n))]
            b, v = 0.5 * rng.standard_normal(n), 0.9 * rng.standard_normal(n)
            outputs, _ = oracle.train(
                weights, [b, None], v, ALL, Y, PHIS, SLOPES, RATES, BATCHES, parameterization, STDS
            )
            made = nn.sgd(
                NET, X, Y, 3, RATES, batches=BATCHES, x_test=NEW, parameterization=parameterization,
                initial=outputs[0],
            )  # fmt: skip
            found.append(np.abs(made.trajectory(tp.limit(made.program))[1] - outputs).max())
        gaps[n] = np.mean(found)
    assert gaps[1024] < 0.06
    assert gaps[1024] < 0.6 * gaps[128]  # as n^-1/2, a factor of 2.8


def test_a_loss_of_ones_own():
    """Logistic loss, labels 1 and -1, one step: f_1 - f_0 by hand."""
    net = nn.serial(nn.Dense(1), nn.Tanh(), nn.Dense(1))
    labels = np.array([1.0, -1.0, 1.0])
    loss = (lambda f, y: np.log1p(np.exp(-f * y)), lambda f, y: -y / (1.0 + np.exp(f * y)))
    made = nn.sgd(net, X, labels, 1, 0.5, loss=loss)
    law = tp.limit(made.program, method="exact", rtol=1e-4)
    losses, outputs = made.trajectory(law)
    assert losses[0] == pytest.approx(3 * np.log(2), rel=1e-12)
    far = np.array([
        2.0 * made.trajectory(tp.simulate(made.program, 800, s))[1][1]
        - made.trajectory(tp.simulate(made.program, 400, s))[1][1]
        for s in range(40)
    ])  # fmt: skip
    z = (far.mean(axis=0) - outputs[1]) / (far.std(axis=0, ddof=1) / np.sqrt(len(far)))
    assert np.max(np.abs(z)) < 4.5


def test_no_steps_and_empty_batches():
    made = nn.sgd(NET, X, Y, 0, 0.1)
    assert made.losses == ()
    assert len(made.outputs) == 1
    still = nn.sgd(NET, X, Y, 2, 0.1, batches=[(), ()])
    assert np.all(still.trajectory(tp.simulate(still.program, 10))[0] == 0)


def test_refusals():
    mlp = nn.serial(nn.Dense(1), nn.Tanh(), nn.Dense(1))
    for net, words in [
        (nn.serial(nn.Dense(1), nn.Dense(1), nn.Dense(1)), "one nonlinearity"),
        (nn.Dense(1), "serial"),
        (nn.serial(nn.Dense(1), nn.Tanh(), nn.Dense(1, 1.0, 0.1)), "no bias"),
    ]:
        with pytest.raises(SpecError, match=words):
            nn.sgd(net, X, Y, 1, 0.1)
    for options, words in [
        ({"y": Y[:2]}, "y"),
        ({"lr": [0.1]}, "lr"),
        ({"batches": [(0,), (7,)]}, "batches"),
        ({"x_test": NEW[:, :2]}, "x_test"),
        ({"initial": np.zeros(3)}, "initial"),
        ({"parameterization": "ntk", "initial": np.zeros(2)}, "initial"),
        ({"parameterization": "maximal"}, "parameterization"),
        ({"steps": -1}, "steps"),
        ({"x": np.full((3, 4), np.nan)}, "finite"),
    ]:
        arguments = {"x": X, "y": Y, "steps": 2, "lr": 0.1} | options
        with pytest.raises(InputError, match=words):
            nn.sgd(
                mlp,
                arguments.pop("x"),
                arguments.pop("y"),
                arguments.pop("steps"),
                arguments.pop("lr"),
                **arguments,
            )
    blind = nn.serial(nn.Dense(1), nn.Elementwise(lambda u: u * u * u), nn.Dense(1))
    with pytest.raises(ProgramError, match="derivative"):
        nn.sgd(blind, X, Y, 1, 0.1)
