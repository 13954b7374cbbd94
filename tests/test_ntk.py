"""The neural tangent kernel by two roads that share no rule: the tangent program and the gradient program."""

from __future__ import annotations

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.errors import InputError, ProgramError
from tpnum.program.lines import Data

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


# --- what comes out of a scan


def state(loop, s, h, p):
    return loop.last(s)


def stacked(loop, s, h, p):
    return loop.stack(h)


def taken(loop, s, h, p):
    return loop.stack(h), lambda hs: hs.take(t=1)


def picked(loop, s, h, p):
    return loop.stack(h), lambda hs: hs.take(t=[2, 0])


def shifted(loop, s, h, p):
    return loop.stack(h), lambda hs: hs.shift(t=1)


def averaged(loop, s, h, p):
    return loop.stack(h), lambda hs: hs.mean("t")


def transposed(loop, s, h, p):
    """A family whose axes are not in the order of the scan."""
    return loop.stack(h), lambda hs: p.vector("c", axes={"k": 2}, fresh=True) + 0.5 * hs


READ = [state, stacked, taken, picked, shifted, averaged, transposed]
INPUTS = np.random.default_rng(5).standard_normal((3, 2))


def scan_of(read):
    p = tp.Program()
    u = p.data("u", axes={"t": 3})
    w, b, into = p.matrix("W", var=1.2), p.vector("b", var=0.1, trained=True), p.matrix("U", cols="d") @ u
    with p.scan("t") as loop:
        s = loop.carry("n")
        h = tp.erf(w @ s + loop.slice(into) + b)
        loop.next(s, h)
        found = read(loop, s, h, p)
    if isinstance(found, tuple):
        family, after = found
        found = after(family)
    p.output(found)
    return p, found


@pytest.mark.parametrize("read", READ)
def test_what_comes_out_of_a_scan(read):
    """The tangents against the gradients, and both against the kernel of the program, entry by entry."""
    p, y = scan_of(read)
    right = tp.ntk(p, y, road="backward", data={"u": INPUTS})
    found = tp.ntk(p, y, data={"u": INPUTS})
    sizes = tuple(size for _, size in y.axes)
    assert np.shape(found.value) == (*sizes, *sizes)
    assert np.max(found.value) > 0.2
    np.testing.assert_allclose(found.value, right.value, rtol=1e-9, atol=1e-12)
    second = tp.limit(p, data={"u": INPUTS}).moment(y, y).value
    for q in (p, p.unrolled(), p.expand(), tp.Program.from_json(p.unrolled().to_json())):
        nngp, ntk = tp.kernel(q, _data(q), get=("nngp", "ntk"))
        assert ntk.shape == (1, 1, *sizes, *sizes)
        np.testing.assert_allclose(ntk[0, 0], right.value, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(nngp[0, 0], second, rtol=1e-9, atol=1e-12)


def _data(q):
    names = [line.name for line in q.lines if isinstance(line, Data)]
    return {n: INPUTS[None] if n == "u" else INPUTS[None, int(n[2:-1])] for n in names}


def test_the_last_state_of_two_steps():
    p = tp.Program()
    d = p.matrix("U", cols="d") @ p.data("x", axes={"t": 2})
    w = p.matrix("W")
    with p.scan("t") as loop:
        s = loop.carry("n")
        loop.next(s, tp.tanh(w @ s + loop.slice(d)))
        y = loop.last(s)
    p.output(y)
    right = tp.ntk(p, y, road="backward", data={"x": np.eye(2)}).value
    assert right == pytest.approx(0.54670, abs=5e-6)
    assert tp.ntk(p, y, data={"x": np.eye(2)}).value == pytest.approx(right, rel=1e-9)
    np.testing.assert_allclose(tp.kernel(p, np.eye(2)[None], get="ntk"), [[right]], rtol=1e-9)


def test_unknown_vectors_have_no_kernel():
    p, _ = scan_of(state)
    for name in ("nobody", "W."):
        with pytest.raises(InputError, match=name):
            tp.ntk(p, name, data={"u": INPUTS})


def test_trained_constants_need_a_direction():
    """What the refusal says to write has the kernel of a bias that starts at 0."""
    for road in ("tangent", "backward"):
        p = tp.Program()
        g = p.matrix("W", trained=False) @ p.vector("x") + p.vector("b", var=0.0, trained=True)
        with pytest.raises(ProgramError, match="'b' is trained but starts at a constant"):
            tp.ntk(p, g, road=road)
        p = tp.Program()
        bias = p.matrix("B", var=0.0, tangent=1.0) @ p.ones()
        g = p.matrix("W", trained=False) @ p.vector("x") + bias
        assert tp.ntk(p, g, road=road).value == pytest.approx(1.0)
