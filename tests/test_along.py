"""Functions along axes as lines of the language: values, scalar lines, tangents, gradients, text and JSON."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tpnum.errors import ProgramError
from tpnum.program.along import ALONG
from tpnum.program.parts import members

B, Q = 4, 3


def family(fn, eps=0.1, trained=False):
    """A program whose last line is a function of g over axes b (and o)."""
    p = tp.Program()
    x = p.data("x", axes={"b": B, "o": 2, "q": Q})
    g = p.matrix("U", cols="d", trained=trained) @ x
    h = g.max("b", "o") if fn == "max" else g.normalise("b", "o", eps=eps)
    return p, g, h


def data(seed=0, n=3):
    return {"x": np.random.default_rng(seed).standard_normal((n, B, 2, Q, 5))}


def by_hand(fn, g, eps=0.1):
    """g (examples, b, o, q, n)."""
    if fn == "max":
        return g.max(axis=(1, 2))
    c = g - g.mean(axis=(1, 2), keepdims=True)
    return c / np.sqrt((c**2).mean(axis=(1, 2), keepdims=True) + eps)


@pytest.mark.parametrize("fn", ["max", "normalise"])
def test_values_and_scalar_lines(fn):
    p, g, h = family(fn)
    sample = tp.simulate(p, 50, 1, data())
    want = by_hand(fn, sample.vector(g))
    np.testing.assert_allclose(sample.vector(h), want, atol=1e-12)
    lines = p.expand()
    scalar = tp.simulate(lines, 50, 1, data())
    names = members(lines, h.name)
    for at in np.ndindex(names.shape):
        np.testing.assert_allclose(scalar.vector(names[at]), want[(slice(None), *at)], atol=1e-12)


@pytest.mark.parametrize("fn", ["max", "normalise"])
def test_tangent_is_the_derivative(fn):
    p, g, h = family(fn, trained=True)
    t = p.tangent()
    sample = tp.simulate(t, 40, 2, data())
    value, direction = sample.vector(g.name), sample.vector(t.tangents[g.name])
    step = 1e-6
    want = (by_hand(fn, value + step * direction) - by_hand(fn, value - step * direction)) / (2 * step)
    made = sample.vector(t.tangents[h.name])
    np.testing.assert_allclose(made, want, atol=1e-7)
    lines = t.expand()
    scalar, names = tp.simulate(lines, 40, 2, data()), members(lines, t.tangents[h.name])
    for at in np.ndindex(names.shape):
        np.testing.assert_allclose(scalar.vector(names[at]), made[(slice(None), *at)], atol=1e-10)


@pytest.mark.parametrize("fn", ["max", "normalise"])
def test_gradient_is_the_transpose_of_the_tangent(fn):
    p, g, h = family(fn, trained=True)
    seed = p.vector("v", axes=h.axes, fresh=True)
    gradient = p.backward({h: seed}, wrt=[g])[g]
    t = family(fn, trained=True)[0].tangent()
    given = data(5)
    back, forth = tp.simulate(p, 30, 3, given), tp.simulate(t, 30, 3, given)
    along = (back.vector(gradient) * forth.vector(t.tangents[g.name])).sum(axis=(1, 2, 3, 4))
    out = back.vector(seed) * forth.vector(t.tangents[h.name])
    np.testing.assert_allclose(along, out.reshape(len(out), -1).sum(axis=1), rtol=1e-10)
    lines = p.expand()
    scalar, names = tp.simulate(lines, 30, 3, given), members(lines, gradient.name)
    whole = back.vector(gradient)
    for at in np.ndindex(names.shape):
        np.testing.assert_allclose(scalar.vector(names[at]), whole[(slice(None), *at)], atol=1e-10)


def test_text_and_json():
    for fn in ("max", "normalise"):
        p, _, h = family(fn)
        p.output(p.matrix("V") @ h)
        again = tp.Program.from_json(p.to_json())
        assert str(again) == str(p)
        assert f"{fn} over b, o of" in str(p)


def test_gradient_independence_of_batch_normalisation():
    p, g, h = family("normalise", trained=True)
    out = p.matrix("V") @ tp.relu(h)
    seed = p.vector("v", axes=out.axes)
    p.backward({out: seed})
    assert tp.limit(p, data={"x": data()["x"][0]}, method="ensemble", samples=1 << 8).independence


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda g: g.max("z"), "has no axis 'z'"),
        (lambda g: g.max(), "at least one"),
        (lambda g: g.max("b", "b"), "none twice"),
        (lambda g: g.take(b=[0]).normalise("b"), "two or more"),
        (lambda g: g.normalise("b", eps=-1.0), "at least 0"),
    ],
)
def test_refusals(write, words):
    _, g, _ = family("max")
    with pytest.raises(ProgramError, match=words):
        write(g)


def test_every_function_has_its_transpose():
    for rule in ALONG.values():
        assert {rule.slope, rule.back} <= ALONG.keys() | {""}
