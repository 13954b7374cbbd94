"""What the interface promises: orders, names, estimates that are numbers, things that pickle."""

from __future__ import annotations

import inspect
import multiprocessing
import pickle
import pydoc
import re

import numpy as np
import pytest

import tpnum as tp
from tpnum import functions, nn, predict, spectra
from tpnum.errors import InputError, SpecError, StoreError, TpnumError
from tpnum.gauss.estimate import Estimate

X = np.random.default_rng(0).standard_normal((5, 4))
NET = nn.serial(nn.Dense(8, W_std=1.5, b_std=0.1), nn.Relu(), nn.Dense(8), nn.Tanh(), nn.Dense(1))
IMAGES = np.random.default_rng(1).standard_normal((3, 5, 5, 2))


def tied():
    """Transposes whose correction matters, and a scalar."""
    p = tp.Program()
    x, w = p.vector("x"), p.matrix("W", var=2.0)
    h = tp.relu(w @ x)
    b = w.T @ h
    m = p.mean(h * h)
    c = w @ tp.tanh(b - m * x)
    return p, x, w, h, b, m, c


# --- kernels


def test_fields_are_in_the_order_of_get():
    nngp, ntk = tp.kernel(NET, X, get="nngp"), tp.kernel(NET, X, get="ntk")
    for get in (("nngp", "ntk"), ("ntk", "nngp"), ["ntk"], ("nngp",)):
        made = tp.kernel(NET, X, get=get)
        assert isinstance(made, tuple)
        assert made._fields == tuple(get)
        for name, array in zip(get, made, strict=True):
            np.testing.assert_allclose(array, {"nngp": nngp, "ntk": ntk}[name], rtol=1e-13)
            assert getattr(made, name) is array
        assert list(made._asdict()) == list(get)
        out = tuple(np.empty((5, 5)) for _ in get)
        tp.kernel(NET, X, get=get, out=out)
        np.testing.assert_array_equal(out, made)
        with pytest.raises(AttributeError, match=r"no 'cov'; get= asked for"):
            _ = made.cov


def _both(x):
    return tp.kernel(NET, x, get=("ntk", "nngp"), n_jobs=1)


def test_kernels_come_back_from_other_processes():
    made = _both(X)
    again = pickle.loads(pickle.dumps(made))
    assert (type(again), again._fields) == (type(made), made._fields)
    np.testing.assert_array_equal(again, made)
    assert repr(again).startswith("Kernels(ntk=array(")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (other,) = pool.map(_both, [X])
    np.testing.assert_allclose(other.nngp, made.nngp, rtol=1e-13)


NETS = {
    "dense": (NET, X),
    "residual": (nn.serial(nn.Dense(8), nn.Residual(nn.serial(nn.Relu(), nn.Dense(8)))), X),
    "concatenated": (
        nn.serial(nn.FanOut(2), nn.parallel(nn.Dense(4), nn.serial(nn.Dense(8), nn.Erf())), nn.FanInConcat()),
        X,
    ),
    "images": (nn.serial(nn.Conv(4, (3, 3), padding="SAME"), nn.Relu(), nn.Conv(4, (2, 2))), IMAGES),
    "pooled": (
        nn.serial(nn.Conv(4, (3, 3)), nn.Relu(), nn.AvgPool((2, 2)), nn.Flatten(), nn.Dense(1)),
        IMAGES,
    ),
    "global": (nn.serial(nn.Conv(4, (3, 3)), nn.Gelu(), nn.GlobalAvgPool(), nn.Dense(1)), IMAGES),
    "recurrent": (nn.serial(nn.SimpleRnn(8)), IMAGES[:, 0]),
    "last state": (nn.serial(nn.SimpleRnn(8, return_sequences=False)), IMAGES[:, 0]),
    "fixed rule": (nn.serial(nn.Dense(4), nn.ElementwiseNumerical("tanh", 7), nn.Dense(2)), X),
    "zero": (nn.Dense(3, W_std=0.0), X),
}


@pytest.mark.parametrize("case", NETS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_diagonal_alone(case, dtype):
    """The entries [i, i, p, p] of the whole matrix."""
    net, x = NETS[case]
    whole = tp.kernel(net, x, get=("ntk", "nngp"), dtype=dtype)
    alone = tp.kernel(net, x, get=("ntk", "nngp"), dtype=dtype, diag=True)
    assert alone._fields == ("ntk", "nngp")
    for k, d in zip(whole, alone, strict=True):
        axes = (k.ndim - 2) // 2
        letters = "abc"[:axes]
        assert d.dtype == dtype
        np.testing.assert_allclose(
            d, np.einsum(f"ii{letters}{letters}->i{letters}", k), rtol=3e-6 if dtype == "float32" else 1e-11
        )
    out = np.empty_like(alone.ntk)
    assert tp.kernel(net, x, get="ntk", dtype=dtype, diag=True, out=out) is out
    np.testing.assert_array_equal(out, alone.ntk)


def test_the_diagonal_takes_linear_time_and_memory():
    """Ten million pairs' worth of examples, whose matrix would be 80 GB."""
    x = np.random.default_rng(2).standard_normal((100_000, 3))
    made = tp.kernel(nn.serial(nn.Dense(4), nn.Relu(), nn.Dense(1)), x, diag=True)
    np.testing.assert_allclose(made, np.einsum("ic,ic->i", x, x) / 6, rtol=1e-13)
    with pytest.raises(InputError, match="diag: .* leave x2 out"):
        tp.kernel(NET, X, X, diag=True)


def test_several_data_lines_of_different_channels():
    p = tp.Program()
    a, b = p.data("a", channels="d"), p.data("b", channels="e")
    p.output(tp.relu(p.matrix("W", cols="d") @ a + p.matrix("V", cols="e") @ b))
    x = {"a": X, "b": np.random.default_rng(3).standard_normal((5, 2))}
    q = x["a"] @ x["a"].T / 4 + x["b"] @ x["b"].T / 2
    root = np.sqrt(np.outer(q.diagonal(), q.diagonal()))
    angle = np.arccos(np.clip(q / root, -1, 1))
    made = tp.kernel(p, x)
    np.testing.assert_allclose(
        made, root * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi), atol=1e-14
    )


def test_arrays_to_fill_are_apart():
    one, pair = np.empty((5, 5)), ("nngp", "ntk")
    zero = np.lib.stride_tricks.as_strided(np.empty(1), (5, 5), (0, 0))
    for out, words in [
        ((one, one), "'nngp' and 'ntk' share memory"),
        ((one, one.T), "'nngp' and 'ntk' share memory"),
        ({"nngp": one, "x": one}, "its keys are"),
        ({"nngp": one}, "its keys are"),
        ((one, zero), "entries of the array for 'ntk' share memory"),
        ((one, np.ma.masked_array(one.copy(), False)), "'ntk' is masked"),
    ]:
        with pytest.raises(InputError, match=f"out: .*{words}"):
            tp.kernel(NET, X, get=pair, out=out)
    big = np.empty((5, 10))
    made = tp.kernel(NET, X, get=pair, out=(big[:, :5], big[:, 5:]))
    np.testing.assert_array_equal(np.hstack(made), np.hstack(tp.kernel(NET, X, get=pair)))


@pytest.mark.parametrize("case", ["images", "dense"])
def test_an_array_to_fill_may_hold_the_data(case):
    net, x = NETS[case]
    whole = tp.kernel(net, x)
    room = np.empty(whole.size + x.size)
    data = room[whole.size - 1 : whole.size - 1 + x.size].reshape(x.shape)
    data[...] = x
    np.testing.assert_array_equal(tp.kernel(net, data, out=room[: whole.size].reshape(whole.shape)), whole)


def test_masks():
    hidden = np.ma.masked_array(X, np.arange(20).reshape(5, 4) == 7)
    with pytest.raises(InputError, match="x1: its masked entries have no value; fill them"):
        tp.kernel(NET, hidden)
    with pytest.raises(InputError, match="x1: its masked entries"):
        tp.kernel(NET, list(hidden))
    np.testing.assert_array_equal(tp.kernel(NET, np.ma.masked_array(X, False)), tp.kernel(NET, X))


@pytest.mark.parametrize("wrong", [0, -100, 1.5, "2", 2**70, True])
def test_threads_are_counted_alike(wrong):
    p = tied()[0]
    for call in (
        lambda n: tp.kernel(NET, X, n_jobs=n),
        lambda n: tp.compare(p, [4, 8], n_jobs=n),
        lambda n: tp.simulations(p, 4, 2, n_jobs=n),
    ):
        with pytest.raises(InputError, match="n_jobs: .* is not a number of threads; use 1, 2, .. or -1"):
            call(wrong)


# --- estimates


def test_an_estimate_is_a_number():
    e, f = Estimate(2.0, 0.1, "a", 3), Estimate(-4.0, 0.2, "b", 5)
    for made, value, error in [
        (e + f, -2.0, 0.3),
        (e - f, 6.0, 0.3),
        (e * f, -8.0, 0.8),
        (e / f, -0.5, 0.05),
        (f**2, 16.0, 1.6),
        (e + 1, 3.0, 0.1),
        (1 - e, -1.0, 0.1),
        (3 * e, 6.0, 0.3),
        (e * np.float64(3), 6.0, 0.3),
        (1 / e, 0.5, 0.025),
        (np.float64(3) * e, 6.0, 0.3),
        (-f, 4.0, 0.2),
        (+f, -4.0, 0.2),
        (abs(f), 4.0, 0.2),
        (2**e, 4.0, 0.4 * np.log(2)),
        (np.sqrt(e), np.sqrt(2), 0.05 / np.sqrt(2)),
        (np.square(f), 16.0, 1.6),
        (sum([e, f]), -2.0, 0.3),
    ]:
        assert isinstance(made, Estimate)
        assert made.value == pytest.approx(value, rel=1e-15)
        assert made.error == pytest.approx(error, rel=1e-12)
    assert (e + f).cost == 8
    assert (e + f).method == "a+b"
    assert f"{e:.3f} {round(f, 1)} {float(e)} {int(f)}" == "2.000 -4.0 2.0 -4"
    assert f"{e}" == repr(e)
    assert e > 0 and e >= 2 and f < e and f != e and e == 2.0 and hash(e) == hash(2.0) and max(e, 1.0) is e
    assert not Estimate(0.0, 0.1, "a", 1)
    assert np.asarray(e) == 2.0 and np.asarray(e).dtype == np.float64
    assert type(np.tanh(e)) is np.float64 and np.tanh(e) == np.tanh(2.0)
    assert np.isclose(e, 2.0) and e == pytest.approx(2.0)
    assert pickle.loads(pickle.dumps(e)) == e
    with pytest.raises(TypeError):
        _ = e + "a"


def test_an_estimate_of_a_family_is_an_array():
    e = tp.expect("square", np.zeros((3, 1)), np.arange(1.0, 4).reshape(3, 1, 1))
    assert (e.shape, e.ndim) == ((3,), 1)
    np.testing.assert_allclose(np.asarray(e), [1, 2, 3], rtol=1e-12)
    np.testing.assert_allclose((2 * e).value, [2, 4, 6], rtol=1e-12)
    np.testing.assert_allclose((np.arange(3) * e).error, np.arange(3) * e.error)
    np.testing.assert_allclose(np.sum(e), 6, rtol=1e-12)
    assert [float(x) for x in e] == pytest.approx([1, 2, 3])
    assert isinstance(e[1], Estimate)
    np.testing.assert_array_equal(e > 1.5, [False, True, True])


def test_estimates_are_coefficients():
    p = tp.Program()
    x = p.vector("x")
    half = tp.expect("step", 0.0, 1.0)
    y = (half * x).named("y")
    assert tp.limit(p).moment(y, y) == pytest.approx(0.25)


# --- laws


def test_every_reading_works_before_anything_was_asked():
    for ask in (
        str,
        repr,
        lambda law: law.choices,
        lambda law: law.independence.table(),
        lambda law: law.corrections,
    ):
        assert ask(tp.limit(tied()[0]))
    p, *_, m, c = tied()
    first, second = tp.limit(p), tp.limit(p)
    text = str(first)
    value = second.scalar(m)
    assert first.scalar(m) == value
    assert str(second) == text
    assert [choice.line for choice in first.choices] == ["3", "6", "7", "10"]
    assert repr(first) == f"<Law of a program of 10 lines: {first.method}, {first.why}>"


def test_a_law_of_training_says_what_is_alike_once():
    made = nn.sgd(NET, X[:2], np.ones(2), steps=6, lr=0.1)
    law = tp.limit(made.program, method="ensemble", samples=1 << 10)
    lines = str(law).splitlines()[1:]
    runs = [line for line in lines if " .. " in line]
    assert len(lines) < 0.7 * len(law.choices)
    first, last = map(int, runs[-1].split()[0].split("-"))
    assert all(choice.how in runs[-1] for choice in law.choices if first <= int(choice.line) <= last)
    assert {line.split(": ", 1)[1] for line in lines} == {choice.how for choice in law.choices}


def test_a_law_is_restored_when_it_is_asked():
    p, *_, b, m, c = tied()
    for options in ({}, {"method": "ensemble", "samples": 4096}, {"independence": "assume"}):
        law = tp.limit(p, **options)
        again = pickle.loads(pickle.dumps(law))
        assert "_plain" not in vars(again)  # nothing is computed yet
        assert again.moment(c, b) == law.moment(c, b)
        assert (repr(again), str(again), again.options) == (repr(law), str(law), law.options)
    q = nn.program(NET, (4,))
    law = tp.limit(q, data={"u": X[0]})
    name = q.outputs[0][1]
    assert pickle.loads(pickle.dumps(law)).moment(name, name) == law.moment(name, name)


def held():
    """One of everything that a user holds."""
    p, x, *_, m, c = tied()
    law = tp.limit(p)
    trained = nn.sgd(nn.serial(nn.Dense(4), nn.Tanh(), nn.Dense(1)), X[:2], np.ones(2), 1, 0.1)
    return {
        "program": p,
        "vector": x,
        "scalar": m,
        "law": law,
        "report": law.independence,
        "verdict": law.independence.verdict,
        "choices": law.choices,
        "corrections": law.corrections,
        "estimate": law.scalar(m),
        "sample": tp.simulate(p, 4),
        "simulations": tp.simulations(p, 4, 2, n_jobs=1),
        "comparison": tp.compare(p, [4, 8], [m], seeds=2, n_jobs=1),
        "row": tp.compare(p, [4, 8], [m], seeds=2).rows[0],
        "training": trained,
        "dual": tp.dual("tanh"),
        "function": functions.get("erf", a=2.0),
        "relu": tp.relu,
        "derivative": tp.tanh.derivative(),
        "net": NET,
        "layer": nn.Polynomial([1.0, 2.0]),
        "gradients": p.backward({c: 1.0}),
        "kernels": tp.kernel(NET, X, get=("ntk", "nngp")),
        "fractions": law.scalar(m).exact,
        "features": tp.random_features(NET, X, 8),
    }


def test_whatever_a_user_holds_pickles_and_shows_itself():
    for name, thing in held().items():
        again = pickle.loads(pickle.dumps(thing))
        assert type(again) is type(thing), name
        assert repr(again) == repr(thing), name
        assert " object at 0x" not in repr(thing), name
        assert len(repr(thing)) < 3000, name


def test_what_is_restored_says_the_same():
    kept = held()
    back = pickle.loads(pickle.dumps(kept))
    assert back["sample"].moment("x", "x") == kept["sample"].moment("x", "x")
    assert back["simulations"].moment("x", "x") == kept["simulations"].moment("x", "x")
    assert str(back["comparison"]) == str(kept["comparison"])
    assert back["report"].compare() == kept["report"].compare()
    assert back["dual"](1.0, 1.0, 0.5) == kept["dual"](1.0, 1.0, 0.5)
    law = tp.limit(back["training"].program)
    np.testing.assert_array_equal(back["training"].trajectory(law)[1], kept["training"].trajectory(law)[1])


# --- variables


READERS = {
    "limit": tp.limit,
    "simulate": lambda p: tp.simulate(p, 6),
    "simulations": lambda p: tp.simulations(p, 6, 2, n_jobs=1),
}


@pytest.mark.parametrize("reader", READERS)
def test_only_variables_of_the_program_are_read(reader):
    p, x, w, h, _, m, _ = tied()
    made = READERS[reader](p)
    stranger = tp.Program().vector("x", var=9.0)
    late = w @ tp.tanh(h)
    for ask, words in [
        (lambda: made.moment(stranger, x), "'x' belongs to another program"),
        (lambda: made.mean(stranger), "'x' belongs to another program"),
        (lambda: made.expect(np.cos, stranger), "'x' belongs to another program"),
        (lambda: made.scalar(stranger), "'x' belongs to another program"),
        (
            lambda: made.moment(late, x),
            f"'{late.name}' was written after tp.{reader}.* was called: call it again",
        ),
        (lambda: made.moment(w, w), "'W' is a matrix"),
        (lambda: made.moment(m, m), f"'{m.name}' is a scalar: ask for .scalar of it"),
        (lambda: made.scalar(h), f"'{h.name}' is a vector: ask for .mean or .moment of it"),
        (lambda: made.moment("zz", "zz"), "'zz' is not a variable of the program"),
        (lambda: made.moment(3, 3), "a variable of the program is needed, its handle or its name, not 3"),
        (lambda: made.moment(None, x), "not None"),
        (lambda: made.moment(p, p), "not <Program"),
    ]:
        with pytest.raises(InputError, match=words):
            ask()
    assert READERS[reader](p).moment(late, late).shape == ()


def test_copies_and_what_is_derived_know_the_variables():
    p, x, w, h, b, *_ = tied()
    value = tp.limit(p).moment(b, x)
    for q in (p.copy(), p.tangent(), p.expand(), p.unrolled(), pickle.loads(pickle.dumps(p))):
        assert tp.limit(q).moment(b, x) == pytest.approx(value, rel=1e-9)
    q = p.copy()
    mine, other = p.vector("z", var=1.0), q.vector("z", var=9.0)
    assert tp.limit(p).moment(mine, mine) == 1.0
    with pytest.raises(InputError, match="'z' belongs to another program"):
        tp.limit(p).moment(other, other)


def test_compare_and_ntk_read_their_own():
    p, x, *_ = tied()
    stranger = tp.Program().vector("x", var=9.0)
    with pytest.raises(InputError, match="quantity .*'x' belongs to another program"):
        tp.compare(p, [4, 8], [stranger])
    with pytest.raises(InputError, match="'x' belongs to another program"):
        tp.ntk(p, stranger)
    with pytest.raises(InputError, match="'W' is a matrix"):
        tp.ntk(p, "W")


def test_steps_of_scans_are_asked_for_by_name():
    p = tp.Program()
    x, w = p.vector("x", axes={"t": 2}, fresh=True), p.matrix("W")
    with p.scan("t") as loop:
        s = loop.carry("n")
        inner = w @ s
        loop.next(s, tp.tanh(inner + loop.slice(x)))
        last = loop.last(s)
    with pytest.raises(InputError, match=f"'{inner.name}' is made inside a scan"):
        tp.simulate(p, 9).mean(inner)
    assert tp.limit(p).mean(inner).shape == (2,)
    assert tp.limit(p).moment(last, last) > 0


# --- nets in the place of programs, layers in the place of functions


def test_a_net_is_read_with_a_shape():
    x = {"u": X[0]}
    p = nn.program(NET, (4,))
    (_, out), *_ = p.outputs
    nngp, ntk = tp.kernel(NET, X[:1], get=("nngp", "ntk"))
    assert tp.limit(NET, shape=(4,), data=x).moment(out, out) == pytest.approx(nngp[0, 0], rel=1e-9)
    assert tp.ntk(NET, out, shape=(4,), data=x) == pytest.approx(ntk[0, 0], rel=1e-9)
    same = tp.simulate(NET, 20, shape=(4,), data=x)
    np.testing.assert_array_equal(same[out], tp.simulate(p, 20, data=x)[out])
    assert len(tp.compare(NET, [10, 20], [out], shape=(4,), data=x, seeds=2).rows) == 1
    assert tp.simulations(NET, 10, 2, shape=(4,), data=x).moment(out, out).cost == 2
    for call in (tp.limit, tp.simulate, tp.compare, tp.simulations, lambda net: tp.ntk(net, "g1")):
        with pytest.raises(
            InputError, match=r"a Program is needed; nn.program\(net, shape\) writes that of a net"
        ):
            call(NET)
    with pytest.raises(InputError, match="shape: it belongs to a net"):
        tp.limit(p, shape=(4,))
    with pytest.raises(InputError, match="p: a Program"):
        tp.limit(nn.Relu)


def test_a_layer_is_taken_wherever_a_function_is():
    p = tp.Program()
    x = p.vector("x")
    assert tp.dual(nn.Relu())(1.0, 1.0, 0.0) == tp.dual("relu")(1.0, 1.0, 0.0)
    assert tp.expect(nn.Erf(), 0.5, 1.0) == tp.expect("erf", 0.5, 1.0)
    assert functions.get(nn.Gelu()) == functions.get("gelu")
    assert nn.Elementwise(nn.Tanh()) == nn.Elementwise("tanh")
    h = p.apply(nn.LeakyRelu(0.5), x)
    assert tp.limit(p).moment(h, h) == pytest.approx(0.625)
    assert tp.limit(p).expect(nn.Step(), x) == pytest.approx(0.5)
    assert tp.simulate(p, 9).expect(nn.Step(), x) == np.mean(tp.simulate(p, 9)[x] > 0)
    for call in (tp.dual, functions.get, lambda f: p.apply(f, x)):
        with pytest.raises(TpnumError, match=r"function is needed, not the class Relu: write Relu\(..\)"):
            call(nn.Relu)
    with pytest.raises(SpecError, match="fn is <class .*Tanh.*it must be"):
        nn.Elementwise(nn.Tanh)


def test_a_residual_block():
    body = nn.serial(nn.Relu(), nn.Dense(8))
    written = nn.serial(nn.FanOut(2), nn.parallel(body, nn.Identity()), nn.FanInSum())
    assert nn.Residual(body) == written
    assert nn.Residual(body, nn.Dense(8)) == nn.serial(
        nn.FanOut(2), nn.parallel(body, nn.Dense(8)), nn.FanInSum()
    )
    assert nn.from_spec(nn.Residual(body).to_spec()) == written
    with pytest.raises(SpecError, match="Residual: body is 3; it must be a layer"):
        nn.Residual(3)


def test_messages_name_what_makes_a_layer():
    for call, words in [
        (
            lambda: nn.serial(nn.Dense(3), np.tanh),
            r"argument 1 .* nn.Elementwise\(f\) makes a layer of a function",
        ),
        (lambda: nn.serial(nn.Dense(3), "tanh"), r"argument 1 .* nn.Elementwise\(f\)"),
        (lambda: nn.serial([nn.Dense(3), nn.Relu()]), r"argument 0 .* nn.serial\(\*layers\)"),
        (lambda: tp.kernel([nn.Dense(3)], X), r"net .* nn.serial\(\*layers\)"),
        (lambda: tp.kernel(np.tanh, X), r"net .* nn.Elementwise\(f\)"),
        (lambda: tp.kernel({"op": "Relu"}, X), r"net .* nn.from_spec"),
        (
            lambda: tp.kernel(nn.serial(nn.Conv(3, (2, 2)), nn.Flatten()), IMAGES[..., 0]),
            r"Conv.*x\[..., None\]",
        ),
        (lambda: nn.sgd(NET, IMAGES[..., 0], np.ones(3), 1, 0.1), "x must be .N, d. .*nn.Flatten"),
    ]:
        with pytest.raises(TpnumError, match=words):
            call()


# --- names, words, pictures


def test_one_spelling():
    x, y = X[:2], np.array([1.0, -1.0])
    net = nn.serial(nn.Dense(4), nn.Tanh(), nn.Dense(1))
    mu, mup = (nn.sgd(net, x, y, 1, 0.1, parameterization=name) for name in ("mu", "mup"))
    assert mu.program == mup.program
    with pytest.raises(InputError, match="parameterization must be one of mu, mup, ntk, standard, not 'sp'"):
        nn.sgd(net, x, y, 1, 0.1, parameterization="sp")


def test_sgd_says_what_does_not_fit():
    net = nn.serial(nn.Dense(4), nn.Tanh(), nn.Dense(1))
    for options, words in [
        ({"batches": [[0, 0]]}, "batches: example 0 is twice in batch 0"),
        ({"batches": 2}, "batches is 2"),
        ({"batches": [[0], [1]]}, "batches must be 1 lists"),
        ({"loss": np.tanh}, "loss must be two functions"),
        ({"lr": "a"}, "lr: "),
        ({"net": nn.serial(nn.Dense(4), nn.Tanh(), nn.Dense(7))}, r"the readout is Dense\(7\)"),
        ({"x": 1e200 * X[:2]}, "x: the products of its rows overflow"),
    ]:
        with pytest.raises(TpnumError, match=words):
            nn.sgd(**({"net": net, "x": X[:2], "y": np.ones(2), "steps": 1, "lr": 0.1} | options))


def test_every_public_name_has_help_of_its_own():
    texts = {}
    for name in tp.__all__:
        value = getattr(tp, name)
        text = value.__doc__
        assert text, name
        if isinstance(value, functions.Function):
            assert text.startswith(f"{name}: "), name
            assert text in " ".join(
                pydoc.render_doc(value, renderer=pydoc.plaintext).split("    ")
            ) or name in (pydoc.render_doc(value, renderer=pydoc.plaintext))
        assert texts.setdefault(text, name) == name
    for name in functions.names():
        assert functions.TABLE[name].formula
    assert not {"Any", "annotations", "importlib", "TYPE_CHECKING"} & ({*dir(tp)} | {*dir(nn)})
    assert {*tp.__all__} <= {*dir(tp)}
    for name in nn.__all__:
        assert getattr(nn, name).__doc__, name


def _documented(text):
    """The names that a section of parameters lists."""
    _, _, section = text.partition("Parameters\n----------\n")
    section, *_ = re.split(r"\n\n\w+\n-{4,}\n", section)
    return {
        name.strip(" *") for head in re.findall(r"^[^ \n][^:\n]*", section, re.M) for name in head.split(",")
    }


@pytest.mark.parametrize("room", [tp, nn, predict, spectra], ids=lambda room: room.__name__)
def test_help_names_every_argument_and_no_other(room):
    for name in room.__all__:
        value, text = getattr(room, name), inspect.getdoc(getattr(room, name)) or ""
        if not inspect.isfunction(value) or "Parameters\n" not in text:
            continue
        taken = set(inspect.signature(value).parameters)
        assert _documented(text) <= taken, name
        assert not [one for one in taken if not re.search(rf"(?<!\w){one}(?!\w)", text)], name


def test_a_picture_is_where_pyplot_looks(tmp_path):
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    p, *_, m, _ = tied()
    made = tp.compare(p, [4, 8], [m], seeds=2, n_jobs=1)
    plt.close("all")
    ax = made.plot()
    assert plt.gca() is ax
    plt.savefig(tmp_path / "a.png")
    assert np.ptp(plt.imread(tmp_path / "a.png")) > 0  # not blank
    _, mine = plt.subplots()
    assert made.plot() is mine  # empty axes of the user's are used
    assert made.plot() is not mine
    assert len(plt.get_fignums()) == 3
    assert made.plot(mine) is mine
    plt.close("all")


# --- what is too large, and what is not elementwise


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda p: tp.simulate(p, 10**6),
            "width: its matrices and vectors would take .* GiB of memory, .*: take a smaller width",
        ),
        (lambda p: tp.simulate(p, 10**13), "width"),
        (lambda p: tp.limit(p, method="ensemble", samples=10**12), "samples"),
        (lambda p: nn.Monomial(10**6), "degree"),
        (lambda p: nn.ElementwiseNumerical("tanh", 10**6), "deg"),
        (lambda p: nn.Dense(3, W_std=1e308), "W_std"),
        (lambda p: nn.Dense(10**400), "out_dim"),
        (lambda p: nn.repeat(nn.Relu(), 10**9), "n is"),
        (lambda p: nn.FanOut(10**12), "num"),
        (lambda p: nn.program(nn.Conv(3, (10**7,), padding="SAME"), (4, 2)), "filter_shape"),
        (lambda p: nn.program(nn.Conv(3, (2,)), (10**9, 2)), "shape"),
        (lambda p: nn.sgd(NET, X, np.ones(5), 10**9, 0.1), "steps"),
        (lambda p: tp.simulations(p, 4, 10**12), "seeds"),
    ],
)
def test_what_does_not_fit_is_refused_before_work(call, words):
    with pytest.raises(TpnumError, match=words):
        call(tied()[0])


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda u: u - u.mean(), "must work elementwise"),
        (lambda u: u.sum(), "must work elementwise"),
        (np.cumsum, "must work elementwise"),
        (lambda u: np.random.default_rng().standard_normal(u.shape), "must work elementwise"),
        (lambda u: u + 1j, "must return real numbers, not complex128"),
        (lambda u: u[:3], "returned shape"),
        (lambda u: None, "returned None"),
        (lambda u: 1 / 0, "raised ZeroDivisionError"),
    ],
)
def test_samples_take_elementwise_functions_of_real_numbers(f, words):
    p = tp.Program()
    x = p.vector("x", axes={"t": 3}, fresh=True)
    sample = tp.simulate(p, 20)
    with pytest.raises(InputError, match=words):
        sample.expect(f, x)
    p.apply(f, x)
    with pytest.raises(InputError, match=rf"(?s){words}.*2  H  h1\[t\] = "):
        tp.simulate(p, 20)


def test_samples_take_functions_of_several_components():
    p = tp.Program()
    x = p.vector("x", axes={"t": 3}, fresh=True)
    sample = tp.simulate(p, 20)
    made = sample.expect(lambda u: np.stack([u, u * u]), x)
    np.testing.assert_allclose(made, [sample[x].mean(-1), (sample[x] ** 2).mean(-1)], rtol=1e-13)
    assert sample.expect(lambda u: 2.0, x).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InputError("x1: it is empty"), "a.npy: it is empty"),
        (InputError("x1 is 3: it must be an array"), "a.npy is 3: it must be an array"),
        (InputError("n_jobs must be a number"), "--jobs must be a number"),
        (InputError("x1[3]: None is no array"), "a.npy[3]: None is no array"),
        (StoreError("x1 has no place"), "a.npy has no place"),
        (InputError("x1_more: it is empty"), "x1_more: it is empty"),
        (InputError("x1, x2: they are too large"), "x1, x2: they are too large"),
        (InputError("n_jobs of x1: too many"), "n_jobs of x1: too many"),
        (
            StoreError("K is there; resume=True goes on, or choose another out"),
            "K is there; --resume goes on, or choose another --out",
        ),
        (StoreError("resume=True with other=True"), "--resume with other=True"),
    ],
)
def test_errors_call_an_argument_as_it_was_given(error, said):
    error.rename({"x1": "a.npy", "n_jobs": "--jobs", "resume": "--resume", "out": "--out"})
    assert str(error) == said
