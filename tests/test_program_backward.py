"""The gradient program against finite differences of the loss at finite width."""

from __future__ import annotations

import numpy as np
import pytest

from tests.test_program_expand import data_for
from tests.test_program_tangent import PROGRAMS, gate, own
from tpnum import functions, limit
from tpnum.errors import ProgramError
from tpnum.program import Program, apply, mean, simulate
from tpnum.program.lines import Input, Matrix, Scan

EPS = 1e-4
STENCIL = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}


def loss(sample, seeds, unit):
    """sum over seeds of sum_a v_a g_a; n m for a scalar m."""
    total = 0.0
    for of, seed in seeds.items():
        a, b = np.asarray(sample[of]), np.asarray(sample[seed] if hasattr(seed, "name") else seed)
        total += float(np.sum(a * b)) * (unit if of.kind == "S" else 1.0)
    return total


def check(p: Program, seeds, data=None, widths=None, least=2, **options):
    """Every gradient of a random input or matrix against the fourth-order difference in a direction."""
    grads = p.backward(seeds, **options)
    p.check()
    unit = 9
    widths = widths or {d: round(unit * r) for d, r in p.dims.items()}
    sample = simulate(p, widths, 3, data)
    rng = np.random.default_rng(0)
    checked = 0
    for line in p.lines:
        for name in line.names if isinstance(line, Input) else (getattr(line, "name", ""),):
            if not isinstance(line, Input | Matrix) or name not in grads:
                continue
            base = own(sample, p, name)
            direction = rng.standard_normal(base.shape)
            if isinstance(line, Input) and line.axes and not line.fresh:
                direction = np.broadcast_to(direction[(0,) * len(line.axes)], base.shape)
            moved = {
                k: loss(simulate(p, widths, 3, data, {name: base + k * EPS * direction}), seeds, unit)
                for k in STENCIL
            }
            slope = sum(w * moved[k] for k, w in STENCIL.items()) / EPS
            assert slope == pytest.approx(paired(sample, grads[name], direction, line), rel=1e-8, abs=1e-8), (
                name
            )
            checked += 1
    assert checked >= least
    return grads


def paired(sample, gradient, direction, line):
    """<gradient, direction>."""
    if not isinstance(line, Matrix):
        return float(np.sum(np.asarray(sample[gradient]) * direction))
    axes, total = [a for a, _ in line.axes], 0.0
    for left, right in gradient.pairs:
        sizes = {**dict(left.axes), **dict(right.axes)}
        a, b = (spread(np.asarray(sample[v]), v.axes, sizes) for v in (left, right))
        outer = np.einsum("...i,...j->...ij", a, b)
        names = list(sizes)
        outer = outer.sum(axis=tuple(k for k, n in enumerate(names) if n not in axes))
        kept = [n for n in names if n in axes]
        outer = outer.transpose(*(kept.index(n) for n in axes), len(axes), len(axes) + 1)
        total += float(np.sum(outer * direction))
    return total


def spread(value, axes, sizes):
    """An array (axes..., n) along all of ``sizes``."""
    names = [a for a, _ in axes]
    order = [names.index(a) for a in sizes if a in names]
    value = value.transpose(*order, len(names))
    shape = tuple(n if a in names else 1 for a, n in sizes.items())
    return np.broadcast_to(value.reshape(*shape, -1), (*sizes.values(), value.shape[-1]))


@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_the_programs_of_the_tangent(make):
    p = make().unrolled().copy()
    seeds = {}
    for k, (_, name) in enumerate(p.outputs):
        seeds[p[name]] = p.vector(f"seed{k}", dim=p[name].dim, axes=p[name].axes, fresh=True)
    data = {k: x[0] for k, x in data_for(make()).items()} or None
    if make.__name__ == "dense":  # its gate has a scalar, whose slope was not declared
        with pytest.raises(ProgramError, match="pass derivative="):
            p.backward(seeds)
        return
    check(p, seeds, data, {d: 9 if d == "n" else 7 for d in p.dims})


def gate_u(u, v, m):
    return np.tanh(v) * m


def gate_v(u, v, m):
    return u * m / np.cosh(v) ** 2


def gate_m(u, v, m):
    return u * np.tanh(v)


def test_scalars_everywhere():
    """Moments as coefficients, as arguments, of scalars; arithmetic; two CDCs of ratio 2."""
    p = Program()
    p.dim("m", 2.0)
    x, y = p.vector("x"), p.vector("y", dim="m")
    w, a = p.matrix("W", var=1.5), p.matrix("A", rows="m")
    g = w @ x
    q = mean(g * g)
    h = np.tanh(g) - q * x / (1.0 + q)
    k = apply(gate, h, w @ h, mean(x * x), derivative=(gate_u, gate_v, gate_m))
    z = np.sin(a @ k) + mean(k * h) * y
    r = p.moment(gate, z, y, q, derivative=(gate_u, gate_v, gate_m))
    out = a.T @ (z * r)
    check(p, {out: p.vector("v"), r: 0.7, mean(z * z): p.constant(0.3)}, least=4)


def test_layernorm():
    p = Program()
    x, w = p.vector("x"), p.matrix("W")
    g = w @ x
    m = mean(g)
    s = mean((g - m) ** 2) + 0.1
    h = np.tanh((g - m) / s**0.5)
    check(p, {w @ h: p.vector("v")})


def test_attention_with_scores_over_n():
    """softmax of q_t.k_s/n over three tokens: scalars with axes, exponentials, sums and quotients of them."""
    p = Program()
    x = p.vector("x", axes={"t": 3}, fresh=True)
    q, k, v = (p.matrix(n) @ x for n in ("Q", "K", "V"))
    keys, values = k.rename(t="s"), v.rename(t="s")
    e = np.exp(mean(q * keys))
    weights = e / e.sum("s")
    out = (weights * values).sum("s")
    check(p, {p.matrix("O") @ np.tanh(out): p.vector("c", axes={"t": 3}, fresh=True)}, least=5)


def test_maps_of_every_kind():
    p = Program()
    x = p.vector("x", axes={"t": 4}, fresh=True)
    w = p.matrix("W")
    g = w @ x
    h = np.tanh(g.windows("t", 3, padding="SAME")).sum("t_f") + g.shift(t=1, boundary="circular")
    picked = h.take(t=2) + h.take(t=[0, 3]).mean("t") + 0.5 * g.pool("t", 2, 2).rename(t="r").sum("r")
    q = mean(g * g).take(t=1) * mean(h * h).mean("t")
    check(p, {picked: p.vector("v"), q: 1.0})


def test_a_transpose_is_differentiated_too():
    p = Program()
    x, w = p.vector("x"), p.matrix("W", rows="m")
    h = np.tanh(w.T @ np.tanh(w @ x))
    grads = check(p, {h: p.vector("v")})
    assert len(grads[w].pairs) == 2
    assert [pair[0].dim for pair in grads[w].pairs] == ["m", "m"]


def test_a_scalar_loss_is_the_mean_s():
    """Seed 1 for mean(phi(g)) is the seed of ones for phi(g)."""
    p = Program()
    g = p.matrix("W") @ p.vector("x")
    m = mean(np.tanh(g))
    gradient = p.backward({m: 1.0})[g]
    sample = simulate(p, 20, 0)
    np.testing.assert_allclose(sample[gradient], 1 - np.tanh(sample[g]) ** 2, rtol=1e-12)


def every_instruction():
    """Data, inputs of all kinds, matrix families, a transpose, sums with scalars, maps, Moments, a scan."""
    p = Program()
    p.dim("m", 2.0)
    u = p.data("u", {"t": 3}, channels="d")
    a, b = p.vectors("a", "b", mean=[0.3, 0.0], cov=[[1.0, 0.5], [0.5, 1.0]])
    y = p.vector("y", dim="m", axes={"t": 3}, fresh=True)
    bias = p.vector("bias", var=0.5, trained=True)
    into, w = p.matrix("U", cols="d"), p.matrix("W", var=1.3)
    up, filters = p.matrix("A", rows="m"), p.matrix("F", axes={"f": 2})
    g = into @ u
    q = mean(g * g)
    with p.scan("t") as loop:
        state, memory = loop.carry(init=b), loop.carry("m")
        noise = p.vector("noise", var=0.2, fresh=True)
        size = mean(state * state) + loop.slice(q)
        new = np.tanh(w @ state + loop.slice(g) / size + bias + noise) - 0.3 * a
        kept = 0.5 * memory + up @ new * loop.slice(y)
        loop.next(state, new)
        loop.next(memory, kept)
        states, sizes, last = loop.stack(new), loop.stack(size), loop.last(memory)
    h = (filters @ states.windows("t", 2, padding="SAME", offset="f")).sum("f")
    back = up.T @ np.sin(last)
    k = apply(gate, h, back, sizes.mean("t"), derivative=(gate_u, gate_v, gate_m))
    r = p.moment(gate, k, states, sizes, derivative=(gate_u, gate_v, gate_m))
    out = k - r * states / (1.0 + q.sum("t"))
    seeds = {out: p.vector("v", axes={"t": 3}, fresh=True), r: 0.7, mean(last * last): 1.5}
    return p, seeds, {"u": np.random.default_rng(4).standard_normal((3, 5))}


def test_every_instruction_at_once():
    p, seeds, data = every_instruction()
    kinds = {type(line).__name__ for line in p.lines}
    assert kinds >= {"Data", "Input", "Matrix", "Transpose", "MatMul", "LinComb", "Nonlin"}
    assert kinds >= {"Map", "Moment", "Arith", "Scan"}
    check(p, seeds, data, least=8)


def test_a_scan_is_differentiated_by_a_scan():
    """The same as line by line, noise inside included; the limits agree too."""
    p, seeds, data = every_instruction()
    q = p.unrolled().copy()
    grads = p.backward(seeds)
    assert sum(isinstance(line, Scan) for line in p.lines) == 2
    plain = q.backward({q[name]: seed for name, seed in named(q, seeds)})
    widths = {"n": 9, "m": 18}
    a, b = simulate(p, widths, 3, data), simulate(q, widths, 3, data)
    for name in ("a", "b", "y", "noise"):
        parts = q.parts[name].names if name in q.parts else (name,)
        each = np.stack([b[plain[n]] for n in parts])
        np.testing.assert_allclose(np.reshape(a[grads[name]], each.shape), each, rtol=1e-11, atol=1e-12)
    assert Program.from_json(p.to_json(), modules=[__name__, gate.__module__]) == p
    p.check()


def named(unrolled, seeds):
    """The same seeds for the scalar lines of a program whose scans are unrolled."""
    for of, seed in seeds.items():
        if of.name not in unrolled.parts:
            yield of.name, seed if isinstance(seed, float) else unrolled[seed.name]
            continue
        for t, name in enumerate(unrolled.parts[of.name].names):
            yield name, seed if isinstance(seed, float) else unrolled[unrolled.parts[seed.name].names[t]]


def test_a_recurrent_net_has_the_law_of_its_unrolled_lines():
    def build(p):
        w, x = p.matrix("W", var=1.2), p.vector("x", axes={"t": 3}, fresh=True)
        with p.scan("t") as loop:
            s = loop.carry("n")
            new = np.tanh(w @ s + loop.slice(x))
            loop.next(s, new)
            last = loop.last(s)
        return x, last, p.vector("v")

    p, q = Program(), Program()
    x, last, v = build(p)
    gradient = p.backward({last: v})[x]
    _, last, v = build(q)
    q = q.unrolled().copy()
    lines = q.backward({q[q.parts[last.name].names[0]] if last.name in q.parts else q[last.name]: q["v"]})
    whole = [lines[f"x[{t}]"] for t in range(3)]
    law, other = limit(p), limit(q)
    assert law.independence.holds
    expected = [[other.moment(a, b).value for b in whole] for a in whole]
    np.testing.assert_allclose(law.moment(gradient, gradient).value, expected, rtol=1e-10, atol=1e-14)


def test_what_is_asked_for_and_what_is_constant():
    p = Program()
    x, y = p.vectors("x", "y")
    w, u = p.matrix("W"), p.matrix("U")
    h = np.tanh(w @ x)
    k = np.tanh(u @ (h * y))
    v = p.vector("v")
    only = p.backward({k: v}, wrt=[y])
    assert y in only
    assert x not in only
    assert w not in only
    stopped = p.backward({k: v}, stop=[h])
    assert x not in stopped
    assert u in stopped
    with pytest.raises(ProgramError, match="no gradient of 'x'"):
        stopped[x]
    count = len(p.lines)
    p.backward({k: v}, wrt=[u])
    assert not any("W.T" in str(line) for line in p.lines[count:])


def test_flat_functions_end_the_gradient():
    p = Program()
    g = p.matrix("W") @ p.vector("x")
    assert g not in p.backward({functions.sign(g): p.vector("v")})


def test_the_program_survives_text_and_expansion():
    p = Program()
    x, w = p.vector("x", axes={"t": 2}, fresh=True), p.matrix("W")
    g = w @ x
    grads = p.backward({np.tanh(g).sum("t"): p.vector("v")})
    assert Program.from_json(p.to_json()) == p
    a, b = simulate(p, 12, 1), simulate(p.expand(), 12, 1)
    np.testing.assert_allclose(a[grads[x]], b[grads[x].name], atol=1e-13)


def test_refusals():
    p = Program()
    x, y = p.vector("x"), p.vector("y", dim="m")
    w = p.matrix("W")
    g = w @ x
    two = apply(lambda a, b: a * b, g, x)
    power = apply(lambda a, s: a**s, g, mean(g * g), derivative=(lambda a, s: s * a ** (s - 1),))
    family = p.vector("f", axes={"t": 2}, fresh=True)
    for seeds, words in [
        ({}, "needs a seed"),
        ({g: y}, "CDCs do not match"),
        ({g: family}, "axis 't'"),
        ({w: 1.0}, "is a matrix"),
        ({g: mean(x)}, "must be a vector"),
        ({two: x}, r"(?s)no gradient.*pass derivative=.*"),
        ({power: x}, "pass derivative="),
        ({Program().vector("z"): 1.0}, "another program"),
    ]:
        with pytest.raises(ProgramError, match=words):
            p.backward(seeds)
    q = Program()
    with q.scan("t", 2) as loop:
        s = loop.carry("n")
        with q.scan("r", 2) as inner:
            r = inner.carry(init=s)
            inner.next(r, np.tanh(r + q.vector("e", fresh=True)))
            new = inner.last(r)
        loop.next(s, new)
        out = loop.stack(new)
    with pytest.raises(ProgramError, match="(?s)a scan inside a scan.*unrolled.*2.1 "):
        q.backward({out: 1.0})
    q = Program()
    x = q.vector("x")
    with q.scan("t", 2) as loop:
        s = loop.carry("n")
        new = apply(lambda a, b: a * b, s + x, x)
        loop.next(s, new)
        out = loop.stack(new)
    with pytest.raises(ProgramError, match=r"(?s)no gradient.* in its argument 1: pass.*3\.2  H  h2 = "):
        q.backward({out: 1.0})
