"""The neural tangent kernel by two roads that share no rule: the tangent program and the gradient program."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.errors import InputError

X = np.array([[1.0, 0.5, -1.0], [0.2, 1.0, 0.3]])


def mlp(p):
    u = p.data("u", axes={"i": 2}, channels="d")
    h = tp.erf(p.matrix("U", var=2.0, cols="d") @ u + p.vector("b", var=0.1, trained=True))
    h = tp.gelu(p.matrix("W", var=1.5) @ h + p.vector("c", var=0.2, trained=True))
    return p.matrix("V", var=1.2, rows="m", tangent=0.5) @ h, X


def residual(p):
    u = p.data("u", axes={"i": 2}, channels="d")
    s = p.matrix("U", cols="d") @ u
    for k in range(2):
        s = s + 0.7 * (p.matrix(f"W{k}", var=2.0) @ tp.relu(s))
    return s, X


def recurrent(p):
    """The same W at every step, so the kernel has a term for every pair of uses."""
    u = p.data("u", axes={"i": 2, "t": 3}, channels="d")
    w, into, b = (
        p.matrix("W", var=1.2),
        p.matrix("U", cols="d", var=0.5),
        p.vector("b", var=0.1, trained=True),
    )
    s = tp.erf(into @ u.take(t=0) + b)
    for t in (1, 2):
        s = tp.erf(w @ s + into @ u.take(t=t) + b)
    return w @ s, np.random.default_rng(1).standard_normal((2, 3, 4))


def scanned(p):
    """The same as a scan, its last state read out."""
    u = p.data("u", axes={"i": 2, "t": 3}, channels="d")
    w, b = p.matrix("W", var=1.2), p.vector("b", var=0.1, trained=True)
    g = p.matrix("U", cols="d", var=0.5) @ u
    with p.scan("t") as loop:
        s = loop.carry("n", axes=(("i", 2),))
        loop.next(s, tp.erf(w @ s + loop.slice(g) + b))
        last = loop.last(s)
    return w @ last, np.random.default_rng(1).standard_normal((2, 3, 4))


def convolution(p):
    u = p.data("u", axes={"x": 4}, channels="d")
    h = (p.matrix("W1", cols="d", axes={"x_f": 3}) @ u.windows("x", 3, padding="SAME")).sum("x_f")
    h = (p.matrix("W2", axes={"x_f": 3}) @ tp.relu(h).windows("x", 3, padding="SAME")).sum("x_f")
    return h.mean("x"), np.random.default_rng(2).standard_normal((4, 3))


def attention(p):
    """Scores over n: the weights are numbers in the limit."""
    u = p.data("u", axes={"t": 3}, channels="d")
    x = tp.erf(p.matrix("U", cols="d", var=2.0) @ u)
    q, k, v = (p.matrix(n) @ x for n in ("Q", "K", "V"))
    e = tp.exp(tp.mean(q * k.rename(t="s")))
    return ((e / e.sum("s")) * v.rename(t="s")).sum("s"), np.random.default_rng(3).standard_normal((3, 4))


@pytest.mark.parametrize("build", [mlp, residual, recurrent, scanned, convolution, attention])
def test_two_roads(build):
    p = tp.Program()
    g, data = build(p)
    first = tp.ntk(p, g, data={"u": data})
    second = tp.ntk(p, g, road="backward", data={"u": data})
    assert np.all(np.asarray(first.value) > 0.01)
    np.testing.assert_allclose(second.value, first.value, rtol=1e-9)
    assert second.method == "gradients, recursion"  # independence is proven from the text


def test_a_scan_is_the_recurrence_written_out():
    values = []
    for build in (recurrent, scanned):
        p = tp.Program()
        g, data = build(p)
        values.append(tp.ntk(p, g, data={"u": data}).value)
    np.testing.assert_allclose(*values, rtol=1e-12)


def test_the_same_as_the_kernel_of_a_net():
    net = nn.serial(nn.Dense(9, 1.4, 0.3), nn.Relu(), nn.Dense(9, 1.2, 0.1), nn.Erf(), nn.Dense(1, 1.1))
    p = tp.Program()
    u = p.data("u", axes={"i": 2}, channels="d")
    h = tp.relu(p.matrix("U", var=1.4**2, cols="d") @ u + p.vector("b", var=0.09, trained=True))
    h = tp.erf(p.matrix("W", var=1.2**2) @ h + p.vector("c", var=0.01, trained=True))
    g = p.matrix("V", var=1.1**2) @ h
    found = tp.ntk(p, g, road="backward", data={"u": X}).value
    np.testing.assert_allclose(found, tp.kernel(net, X, get="ntk"), rtol=1e-10)


def test_between_two_vectors_and_of_untrained_ones():
    p = tp.Program()
    x, w, frozen = p.vector("x"), p.matrix("W"), p.matrix("F", trained=False)
    g = w @ x
    h = frozen @ tp.relu(g)
    for road in ("tangent", "backward"):
        assert tp.ntk(p, h, road=road).value == pytest.approx(0.5)  # E relu'^2 E x^2
        assert tp.ntk(p, g, h, road=road).value == pytest.approx(0.0, abs=1e-15)
        assert tp.ntk(p, x, road=road).value == 0


def test_refusals():
    p = tp.Program()
    g = p.matrix("W") @ p.vector("x")
    with pytest.raises(InputError, match="road"):
        tp.ntk(p, g, road="scenic")
    with pytest.raises(InputError, match="readout"):
        tp.ntk(p, g, p.vector("y", dim="m"))
