"""Index maps of H-vars in front of functions: renames and selections commute, sums are written out."""

from __future__ import annotations

from math import erf, exp, sqrt

import numpy as np
import pytest

import tpnum as tp

X = np.random.default_rng(3).standard_normal((3, 4))


MAPS = {
    "rename": lambda v: v.rename(t="s"),
    "take one": lambda v: v.take(t=1),
    "take some": lambda v: v.take(t=[2, 0]),
    "wrap": lambda v: v.shift("circular", t=1),
}


@pytest.mark.parametrize("name", MAPS)
def test_gathers_commute_with_functions(name):
    mapped = MAPS[name]
    found, right = [], []
    for values, inner in ((found, False), (right, True)):
        p = tp.Program()
        g = p.matrix("U", cols="d") @ p.data("u", axes={"t": 3})
        h = tp.relu(mapped(g)) if inner else mapped(tp.relu(g))
        y = tp.tanh(h)
        m = p.mean(tp.erf(h) * y)
        law = tp.limit(p, data={"u": X})
        values += [law.moment(y, y).value, law.scalar(m).value, tp.ntk(p, y, data={"u": X}).value]
        p.output(y)
        values.append(tp.kernel(p, X[None])[0, 0])
    for a, b in zip(found, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)


def test_a_shift_brings_a_zero():
    p = tp.Program()
    g = p.matrix("U", cols="d") @ p.data("u", axes={"t": 3})
    y = tp.exp(0.5 * tp.relu(g).shift(t=1))
    value = tp.limit(p, data={"u": X}).mean(y).value
    q = (X**2).mean(axis=1)  # E exp(relu(g) / 2) = 1/2 + exp(q/8) Phi(sqrt(q)/2)
    right = [1.0] + [0.5 + exp(v / 8) * 0.5 * (1 + erf(sqrt(v) / 2 / sqrt(2))) for v in q[:2]]
    np.testing.assert_allclose(value, right, rtol=1e-9)


def test_a_mean_over_positions_below_a_function():
    """The square of what differs from the mean: the second moments of relus, written out."""
    p = tp.Program()
    g = p.matrix("U", cols="d") @ p.data("u", axes={"t": 2})
    h = tp.relu(g)
    centred = h - h.mean("t")
    m = p.mean(centred * centred)
    k = X[:2] @ X[:2].T / 4
    root = np.sqrt(np.diag(k))
    angle = np.arccos(k[0, 1] / root.prod())
    cross = root.prod() * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    right = (k[0, 0] / 2 + k[1, 1] / 2 - 2 * cross) / 4
    np.testing.assert_allclose(tp.limit(p, data={"u": X[:2]}).scalar(m).value, [right, right], rtol=1e-9)
