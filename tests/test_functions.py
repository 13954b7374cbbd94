"""The nonlinearities: derivatives, symmetries, stability in the tails, identity and portability."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from tpnum import functions
from tpnum.errors import ProgramError
from tpnum.functions.function import TABLE
from tpnum.functions.record import REQUIRED
from tpnum.law.substitution import substitute

PARAMETERS = {
    "a": -0.3, "b": 1.2, "alpha": 0.1, "degree": 3, "coef": [1, 2.0, 0, 0.5], "c": 0.7, "exponent": 2.5,
    "coefs": (1.0, 2.0), "fn": "tanh", "deg": 10,
}  # fmt: skip
POSITIVE = {"sqrt", "log", "power", "reciprocal", "div"}


def named(name: str) -> functions.Function:
    record = TABLE[name]
    return functions.get(name, **{k: PARAMETERS[k] for k, d in record.params if d is REQUIRED})


def arguments(f: functions.Function) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    x = [rng.uniform(0.2, 3.0, 60) for _ in range(f.arity)]
    return x if f.name in POSITIVE else [a * rng.choice([-1, 1], 60) for a in x]


def centred_difference(f, x, t, i):
    h = 1e-6
    up, down = list(x), list(x)
    up[i], down[i] = x[i] + h, x[i] - h
    return (f(*up, *t) - f(*down, *t)) / (2 * h)


@pytest.mark.parametrize("name", functions.names())
def test_derivatives_are_the_differences(name):
    f = named(name)
    x, t = arguments(f), [1.3] * f.n_scalars
    for i in range(f.arity):
        first = f.derivative(i)
        assert first.primitive == (f, i)
        np.testing.assert_allclose(first(*x, *t), centred_difference(f, x, t, i), rtol=1e-6, atol=2e-6)
        try:
            second = first.derivative(0)
        except ProgramError:
            continue
        np.testing.assert_allclose(second(*x, *t), centred_difference(first, x, t, 0), rtol=1e-6, atol=3e-6)


@pytest.mark.parametrize("name", functions.names())
def test_symmetry_homogeneity_and_identity(name):
    f = named(name)
    x, t = arguments(f), [1.3] * f.n_scalars
    if f.parity:
        np.testing.assert_allclose(f(*(-a for a in x), *t), f.parity * f(*x, *t), rtol=1e-14)
    if f.degree is not None and not f.n_scalars:
        np.testing.assert_allclose(f(*(2.0 * a for a in x)), 2.0**f.degree * f(*x), rtol=1e-13)
    assert pickle.loads(pickle.dumps(f)) == f
    assert functions.from_spec(json.loads(json.dumps(f.spec()))) == f
    assert hash(pickle.loads(pickle.dumps(f))) == hash(f)


def test_parities_argument_by_argument():
    assert functions.mul.parities == (-1, -1)
    assert functions.mul.parity == 1
    assert functions.add.parities == (0, 0)
    assert functions.tanh.derivative().parity == 1
    assert functions.get("sin", c=0.3).parity == 0


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("sigmoid", 4.248354255291589e-18, 1.0), ("softplus", 4.248354255291589e-18, 40.0),
     ("silu", -1.6993417021166355e-16, 40.0), ("mish", -1.6993417021166355e-16, 40.0)],
)  # fmt: skip
def test_tails_keep_their_digits(name, low, high):
    f = functions.get(name)
    np.testing.assert_allclose(f(np.array([-40.0, 40.0])), [low, high], rtol=1e-14)
    with np.errstate(all="raise", under="ignore"):
        assert np.all(np.isfinite(f(np.array([-700.0, 700.0]))))
        assert np.all(np.isfinite(f.derivative()(np.array([-700.0, 700.0]))))


def test_combinators_have_no_name():
    """`compose` and the law's `substitution` are made by the package only, of functions that have one."""
    for name in ("compose", "substitution"):
        assert name in TABLE
        assert name not in functions.names()
        with pytest.raises(ProgramError, match="no function is named"):
            functions.get(name)
    twice_relu = ((2.0, (), ((functions.relu, (0,), ()),)),)
    made = substitute(functions.tanh, (twice_relu,), (), arity=1, n_scalars=0)
    np.testing.assert_allclose(made(np.array([-1.0, 0.5])), np.tanh([0.0, 1.0]), rtol=1e-15)
    assert functions.from_spec(json.loads(json.dumps(made.spec()))) == made


def test_names_ufuncs_and_parameters():
    assert functions.get("Leaky-ReLU", alpha=0.1) == functions.get("leaky_relu", alpha=0.1)
    assert functions.get(np.tanh) == functions.tanh == functions.get("TANH")
    assert functions.get("swish") == functions.silu
    assert functions.get("abrelu", a=0, b=1).closed == ("abrelu", (0.0, 1.0))
    assert functions.get("cos").closed[0] == "sin"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: functions.get("tahn"), "tanh"),
        (lambda: functions.get("abrelu", a=1), "needs the parameter b"),
        (lambda: functions.get("tanh", a=1), "no parameter 'a'"),
        (lambda: functions.get("hermite", degree=1.5), "whole number"),
        (lambda: functions.get("erf", a=np.nan), "finite"),
        (lambda: functions.get(3.0), "a name, a callable"),
        (lambda: functions.get(functions.tanh, a=2), "already"),
        (lambda: functions.tanh(1.0, 2.0), "takes 1 vector"),
        (lambda: functions.tanh.derivative(1), "no argument 1"),
        (lambda: functions.cbrt.derivative().derivative(), "not known"),
        (lambda: functions.Function.from_callable(np.tanh, derivative=3), "one callable per vector"),
        (lambda: functions.Function.from_callable(np.tanh, kinks=(np.nan,)), "finite"),
        (lambda: functions.compose(functions.mul, functions.tanh), "takes 2 vector"),
        (lambda: functions.from_spec({"name": "x", "user": {"call": ["no_such_module", "f"], "slopes": [None],
                                      "kinks": [], "arity": 1, "scalars": 0, "parity": 0, "growth": "poly"}}),
         "cannot be found"),
    ],
)  # fmt: skip
def test_refusals(call, words):
    with pytest.raises(ProgramError, match=words):
        call()


def bump(u):
    return np.maximum(u - 0.5, 0.0)


def test_a_users_function_is_known_by_its_name():
    f = functions.get(bump, kinks=(0.5,))
    assert f.portable
    assert f.name.endswith("bump")
    assert pickle.loads(pickle.dumps(f)) == f == functions.from_spec(f.spec())
    weak = f.derivative()
    assert weak.primitive == (f, 0)
    with pytest.raises(ProgramError, match="pass derivative="):
        weak(np.ones(2))


def test_a_lambda_stays_in_its_process():
    f = functions.get(lambda u: u**2)
    assert not f.portable
    np.testing.assert_array_equal(f(np.array([1.0, 3.0])), [1.0, 9.0])
    with pytest.raises(ProgramError, match="top level"):
        pickle.dumps(f)
    with pytest.raises(ProgramError, match="top level"):
        f.spec()
    assert f != functions.get(lambda u: u**2)


def test_combinations_know_their_kinks_parity_and_derivative():
    u = np.linspace(-3, 3, 101) + 0.003
    f = functions.compose(functions.relu, functions.get("polynomial", coef=(1.0, 2.0)))
    assert f.kinks == (-0.5,)
    square = functions.compose(functions.abs, functions.get("polynomial", coef=(-1.0, 0.0, 1.0)))
    np.testing.assert_allclose(square.kinks, [-1.0, 1.0], atol=1e-14)
    assert square.parity == 1
    made = functions.product(functions.tanh, functions.relu, functions.sin)
    assert made.kinks == (0.0,)
    np.testing.assert_allclose(made(u), np.tanh(u) * np.maximum(u, 0) * np.sin(u))
    np.testing.assert_allclose(made.derivative()(u), centred_difference(made, [u], [], 0), atol=1e-8)
    assert functions.product(functions.tanh, functions.sin).parity == 1
    assert functions.linear([1, 2], [functions.tanh, functions.sin]).parity == -1
    assert functions.linear([1, 2], [functions.tanh, functions.sin], 1.0).parity == 0
    np.testing.assert_allclose(functions.affine(functions.tanh, 2.0, 1.0)(u), np.tanh(2 * u + 1))
    largest = functions.compose(functions.maximum, functions.identity, functions.get("constant", c=0.7))
    np.testing.assert_allclose(largest.kinks, [0.7], atol=1e-12)


def test_scalars_are_trailing_arguments():
    add = functions.add.with_scalars(1)
    assert (add.arity, add.n_scalars) == (1, 1)
    np.testing.assert_array_equal(add(np.arange(3.0), 2.0), [2.0, 3.0, 4.0])
    f = functions.compose(functions.get("hermite", degree=2), functions.identity, scalars=(4.0,))
    np.testing.assert_allclose(f(np.array([2.0, 4.0])), [0.0, 3.0 / np.sqrt(2.0)], atol=1e-15)


def test_arguments_that_build_programs_are_asked():
    class Recorder:
        def __tpnum_apply__(self, f, args, scalars):
            return f, args, scalars

    r = Recorder()
    assert functions.get("hermite", degree=2)(r, "s")[1:] == ((r,), ("s",))


@pytest.mark.parametrize("u", [-60.0, -26.0, -10.0, -1.0, 0.3, 4.0])
def test_the_tail_of_sigmoid_like_keeps_its_digits(u: float) -> None:
    import mpmath as mp

    truth = mp.erfc(-mp.mpf(1.0 / 2.4020563531719796) * mp.mpf(u)) / 2
    assert functions.get("sigmoid_like")(np.array([u]))[0] == pytest.approx(float(truth), rel=1e-12, abs=0.0)
