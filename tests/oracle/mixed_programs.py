"""Random programs that mix everything: three CDCs, correlated inputs, jumps, a user's functions, scans.

Where `random_programs` looks for a mistake in the corrections of one square and one rectangular matrix,
these look for what nobody thought of: matrices used at several places and transposed, means that are not
zero, scalars as coefficients and inside functions, functions of two vectors, kinks that are not declared,
recurrences, and gradient programs.  Two conditions keep a program's limit visible at finite width: what
bends or jumps takes *solid* vectors only, whose laws have no atoms (a bend at an atom costs n^-1/2), and no
vector grows faster than quadratically in Gaussians.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tpnum as tp
from tpnum import functions

Pick = Callable[[int], int]

# functions of a user's own -------------------------------------------------------------------------------


def hinge(u):
    return np.maximum(u - 0.3, 0.0)


def hinge_slope(u):
    return (u > 0.3) * 1.0


def huber(u):
    return np.where(np.abs(u) < 1.0, 0.5 * u * u, np.abs(u) - 0.5)


def huber_slope(u):
    return np.clip(u, -1.0, 1.0)


def shrunk(u):
    """Small values are dropped: jumps at +-1/2."""
    return np.where(np.abs(u) < 0.5, 0.0, u)


def wave(u):
    return np.cos(2.0 * u + 0.3)


def wave_slope(u):
    return -2.0 * np.sin(2.0 * u + 0.3)


def bump(u, v):
    return np.exp(-0.5 * (u - v) ** 2)


def bump_u(u, v):
    return (v - u) * bump(u, v)


def bump_v(u, v):
    return (u - v) * bump(u, v)


def higher(u, v):
    return np.maximum(u, 0.5 * v + 0.2)


def damped(u, s):
    return u / (1.0 + s * s)


def damped_u(u, s):
    return 1.0 / (1.0 + s * s) + 0.0 * u


def damped_s(u, s):
    return -2.0 * s * u / (1.0 + s * s) ** 2


def gated(u, v, s):
    return np.tanh(u + s) * v


def gated_u(u, v, s):
    return v / np.cosh(u + s) ** 2


def gated_v(u, v, s):
    return np.tanh(u + s) + 0.0 * v


@dataclass(frozen=True)
class Own:
    """A function with its derivatives, none where it has jumps; growth from that of its arguments."""

    f: Callable[..., Any]
    slopes: tuple[Callable[..., Any], ...] = ()
    kinks: tuple[float, ...] = ()
    rough: bool = False
    bounded: bool = False


ONE = (
    Own(hinge, (hinge_slope,), (0.3,), rough=True),
    Own(hinge, (hinge_slope,), rough=True),
    Own(huber, (huber_slope,), (-1.0, 1.0)),
    Own(huber, (huber_slope,)),
    Own(shrunk, rough=True),
    Own(shrunk, (), (-0.5, 0.5), rough=True),
    Own(wave, (wave_slope,), bounded=True),
    Own(wave, bounded=True),
)
TWO = (Own(bump, (bump_u, bump_v), bounded=True), Own(bump, bounded=True), Own(higher, rough=True))
SMOOTH = ("tanh", "erf", "sin", "gelu", "sigmoid", "identity")
ROUGH = ("relu", "step", "sign", "abs", "hard_tanh")
UNBOUNDED = ("gelu", "identity", "relu", "abs")
COEFS = (1.0, -1.0, 0.5, -0.7, 1.3)


@dataclass
class Vec:
    """A vector of the program, its growth in the Gaussians, and its linear form over solid sources."""

    v: Any
    degree: int
    form: dict[str, float] = field(default_factory=dict)

    @property
    def solid(self) -> bool:
        return any(abs(c) > 1e-9 for c in self.form.values())


class Writer:
    """The program as it is written, step by step."""

    def __init__(self, pick: Pick) -> None:
        self.pick = pick
        p = self.p = tp.Program()
        p.dim("m", self.choose((0.5, 2.0, 1.0)))
        p.dim("k", self.choose((1.0, 1.5, 0.75)))
        r = self.choose((0.6, -0.4, 0.0, 0.95))
        q = self.choose((1.0, 0.4, 1.7))
        cov = [[q, r * q**0.5], [r * q**0.5, 1.0]]
        x, y = p.vectors("x", "y", mean=[self.choose((0.0, 0.4, -0.8)), self.choose((0.0, 0.3))], cov=cov)
        z = p.vector("z", mean=self.choose((0.0, 0.5)), var=0.8, dim="m")
        self.vectors = {"n": [self.source(x), self.source(y)], "m": [self.source(z)], "k": []}
        shapes = [("n", "n"), ("m", "n"), self.choose((("k", "m"), ("n", "m"), ("k", "n"), ("m", "m")))]
        self.matrices = [
            p.matrix(name, var=self.choose((0.8, 1.2, 2.0)), rows=rows, cols=cols)
            for name, (rows, cols) in zip("WAB", shapes, strict=True)
        ]
        self.operands: dict[tuple[str, bool], int] = {}
        self.scalars: list[Any] = []

    def choose(self, items: Any) -> Any:
        return items[self.pick(len(items))]

    @staticmethod
    def source(v: Any, degree: int = 1) -> Vec:
        return Vec(v, degree, {v.name: 1.0})

    def keep(self, dim: str, made: Vec) -> None:
        self.vectors[dim].append(made)

    def dim(self) -> str:
        filled = [d for d, vs in self.vectors.items() if vs]
        return "n" if self.pick(2) else self.choose(filled)

    def recent(self, dim: str, solid: bool = False) -> Vec:
        known = [v for v in self.vectors[dim] if v.solid or not solid]
        return known[-1 - self.pick(min(3, len(known)))] if self.pick(3) else self.choose(known)

    # --- steps

    def product(self) -> None:
        """W h or W.T h."""
        ways = [
            (w, back)
            for w in self.matrices
            for back in (False, True)
            if self.vectors[w.rows if back else w.cols]
        ]
        w, back = self.choose(ways)
        known = self.recent(w.rows if back else w.cols)
        key, opposite = (w.name, back), (w.name, not back)
        self.operands[key] = max(self.operands.get(key, 0), known.degree)
        made = (w.T if back else w) @ known.v
        degree = max(1, self.operands.get(opposite, 0))
        # what the correction adds may have atoms; the Gaussian part has none
        self.keep(w.cols if back else w.rows, self.source(made, degree))

    def named(self) -> None:
        dim = self.dim()
        rough = self.pick(2) == 1
        known = self.recent(dim, solid=rough)
        f = self.choose(ROUGH if rough else SMOOTH)
        made = functions.get(f)(known.v)
        self.keep(dim, Vec(made, known.degree if f in UNBOUNDED else 0))

    def own(self) -> None:
        dim = self.dim()
        one = self.choose(ONE)
        known = self.recent(dim, solid=one.rough)
        made = self.p.apply(one.f, known.v, derivative=one.slopes or None, kinks=one.kinks)
        self.keep(dim, Vec(made, 0 if one.bounded else known.degree))

    def pair(self) -> None:
        """mul, maximum, minimum, or a user's function of two vectors."""
        dim, kind = self.dim(), self.pick(5)
        solid = kind in (1, 2)
        a, b = self.recent(dim, solid), self.recent(dim, solid)
        if kind == 0 or (solid and a.v.name == b.v.name):
            if a.degree + b.degree <= 2:
                self.keep(dim, Vec((a.v * b.v).named(self.p._auto("h")), a.degree + b.degree))
            else:
                self.keep(dim, Vec(self.p.apply("mul", tp.tanh(a.v), b.v), b.degree))
        elif solid:
            f = tp.maximum if kind == 1 else tp.minimum
            self.keep(dim, Vec(f(a.v, b.v), max(a.degree, b.degree)))
        else:
            two = self.choose(TWO)
            if two.rough:
                a, b = self.recent(dim, True), self.recent(dim, True)
            made = self.p.apply(two.f, a.v, b.v, derivative=two.slopes or None)
            self.keep(dim, Vec(made, 0 if two.bounded else max(a.degree, b.degree)))

    def square(self) -> None:
        dim = self.dim()
        known = self.recent(dim)
        if known.degree <= 1:
            self.keep(dim, Vec(tp.square(known.v), 2 * known.degree))
        else:
            self.keep(dim, Vec(tp.square(tp.tanh(known.v)), 0))

    def total(self) -> None:
        dim = self.dim()
        parts = [self.recent(dim) for _ in range(2 + self.pick(2))]
        coefs = [self.choose(COEFS) for _ in parts]
        form: dict[str, float] = {}
        for c, part in zip(coefs, parts, strict=True):
            for name, s in part.form.items():
                form[name] = form.get(name, 0.0) + c * s
        if not all(part.form for part in parts):
            form = {}
        made = sum((c * part.v for c, part in zip(coefs[1:], parts[1:], strict=True)), coefs[0] * parts[0].v)
        self.keep(dim, Vec(made.named(self.p._auto("g")), max(p.degree for p in parts), form))

    def scalar(self) -> None:
        dim = self.dim()
        a, b = self.recent(dim), self.recent(dim)
        made = self.p.mean(tp.tanh(a.v) * b.v)
        kind = self.pick(4)
        if kind == 1 and self.scalars:
            made = made / (1.0 + self.scalars[-1] * self.scalars[-1])
        elif kind == 2 and self.scalars:
            made = 0.5 * made - self.choose(self.scalars) + 0.2
        elif kind == 3:
            made = self.p.moment("abs", a.v) if a.solid else made
        self.scalars.append(made)

    def scaled(self) -> None:
        """A scalar as a coefficient or inside of a function."""
        if not self.scalars:
            self.scalar()
        dim, s, kind = self.dim(), self.choose(self.scalars), self.pick(3)
        a, b = self.recent(dim), self.recent(dim)
        if kind == 0:
            made = (a.v - s * b.v).named(self.p._auto("g"))
            self.keep(dim, Vec(made, max(a.degree, b.degree)))
        elif kind == 1:
            made = self.p.apply(damped, a.v, s, derivative=(damped_u, damped_s))
            self.keep(dim, Vec(made, a.degree))
        else:
            made = self.p.apply(gated, a.v, b.v, s, derivative=(gated_u, gated_v, gated_u))
            self.keep(dim, Vec(made, b.degree))

    def scan(self) -> None:
        """Two or three steps of a recurrence with fresh noise, from a vector."""
        p, w = self.p, self.matrices[0]
        start = self.recent("n")
        noise = p.vector(p._auto("u"), mean=0.2, var=0.5, axes={"t": 2 + self.pick(2)}, fresh=True)
        f = functions.get(self.choose(("tanh", "erf", "relu", "sin")))
        key = (w.name, False)
        with p.scan("t") as loop:
            state = loop.carry(init=start.v)
            new = f(w @ state + loop.slice(noise)) + 0.3 * state
            loop.next(state, new)
            last = loop.last(state)
        self.operands[key] = max(self.operands.get(key, 0), 1)
        self.keep("n", Vec(last, max(1, start.degree, self.operands.get((w.name, True), 0))))

    def gradients(self) -> None:
        """The gradient program of a late vector; functions without a derivative have weak ones."""
        dim = self.dim()
        top = self.recent(dim)
        seed = self.p.vector(self.p._auto("v"), mean=self.choose((0.0, 0.0, 0.5)), var=0.9, dim=dim)
        grads = self.p.backward({top.v: seed})
        for name in ("x", "y"):
            if name in grads:
                self.keep("n", Vec(grads[name], 2))
        if "z" in grads:
            self.keep("m", Vec(grads["z"], 2))

    def asked(self, most: int = 10) -> list[str]:
        """Scalars to compare: the program's own, second moments of late vectors and a few third ones."""
        names = [s.name for s in self.scalars[-3:]]
        late = [vs[-4:] for vs in self.vectors.values()]
        pairs = [(a, b) for vs in late for k, a in enumerate(vs) for b in vs[: k + 1]]
        while len(names) < most and pairs:
            a, b = pairs.pop(-1 - self.pick(min(5, len(pairs))))
            kind = self.pick(6)
            if kind == 0:
                made = self.p.mean(tp.tanh(a.v) * tp.sin(b.v) * self.recent(a.v.dim).v)
            elif kind == 1 and a.solid:
                made = self.p.mean(functions.get("step")(a.v) * b.v)
            else:
                small = a.degree + b.degree <= 2
                made = self.p.mean(a.v * b.v) if small else self.p.mean(tp.tanh(a.v) * b.v)
            names.append(made.name)
        return list(dict.fromkeys(names))


STEPS = (
    Writer.product, Writer.product, Writer.product, Writer.named, Writer.named, Writer.own, Writer.pair,
    Writer.pair, Writer.pair, Writer.square, Writer.total, Writer.total, Writer.scalar, Writer.scaled,
)  # fmt: skip


def mixed_program(pick: Pick, steps: int = 12) -> tuple[tp.Program, list[str]]:
    """(program, names of the scalars to compare)."""
    w = Writer(pick)
    w.product()
    scan_at = pick(2 * steps) if pick(3) == 0 else -1
    for number in range(3 + pick(steps - 2)):
        w.scan() if number == scan_at else w.choose(STEPS)(w)
    if pick(2):
        try:
            w.gradients()
        except tp.errors.ProgramError:
            return mixed_program(pick, steps)  # a second derivative that is not known
        if pick(2):
            w.choose(STEPS)(w)
    return w.p, w.asked()


def family_program(pick: Pick, steps: int = 6) -> tuple[tp.Program, list[str]]:
    """Families over an axis: shared matrices, shifts, windows, averages, products of neighbours, a scan."""

    def choose(items: Any) -> Any:
        return items[pick(len(items))]

    p = tp.Program()
    p.dim("m", choose((0.5, 1.0, 2.0)))
    size = 2 + pick(2)
    x = p.vector("x", mean=choose((0.0, 0.3)), var=choose((1.0, 0.6)), axes={"t": size}, fresh=True)
    bias = p.vector("b", var=0.4)
    w, up = p.matrix("W", var=choose((0.8, 1.3))), p.matrix("A", rows="m")
    gaussian, families, wide = [x, x + bias], [x], []
    for _ in range(2 + pick(steps)):
        kind, v = pick(9), choose(families[-3:])
        if kind <= 1:
            gaussian.append(w @ v + choose((0.0, 0.5)) * bias)
            families.append(gaussian[-1])
        elif kind == 2:
            families.append(functions.get(choose(("relu", "abs", "tanh", "erf", "gelu")))(choose(gaussian)))
        elif kind == 3:
            families.append(functions.get(choose(("tanh", "sin", "erf")))(v))
        elif kind == 4:
            families.append(choose((tp.maximum, tp.minimum))(choose(gaussian), choose(gaussian)))
        elif kind == 5:
            moved = choose(gaussian).shift("zero" if pick(2) else "circular", t=1)
            gaussian.append(0.7 * moved + choose(gaussian))
            families.append(tp.tanh(gaussian[-1]))
        elif kind == 6:
            s = p.mean(tp.tanh(v) * choose(families))
            families.append(choose((s, s.mean("t"))) * v + 0.5 * choose(families))
        elif kind == 7:
            wide.append(up @ v)
            families.append(up.T @ tp.tanh(wide[-1]))
        else:
            with p.scan("t") as loop:
                state = loop.carry("n")
                new = tp.tanh(w @ state + loop.slice(v))
                loop.next(state, new)
                families.append(loop.stack(new))
    names = []
    while len(names) < 6:
        a, b = choose(families[-4:]), choose(families[-4:])
        f = choose(("tanh", "sin", "tanh"))
        product = functions.get(f)(a) * (tp.tanh(b) if pick(2) else b)
        if pick(3) == 0:
            product = tp.tanh(a.mean("t")) * b.take(t=pick(size))
        if pick(3) == 0 and product.axes:
            product = tp.tanh(a).take(t=0) * b.take(t=size - 1)
        made = p.mean(product)
        names.append((made.mean("t") if made.axes else made).named(p._auto("q")).name)
    return p, names


def bent_program(pick: Pick, steps: int = 6) -> tuple[tp.Program, list[str]]:
    """Kinks and jumps of several correlated Gaussians: maxima of three, gates, thresholds, updates."""

    def choose(items: Any) -> Any:
        return items[pick(len(items))]

    def rough(v: Any) -> Any:
        return functions.get(choose(ROUGH))(v)

    p = tp.Program()
    r = choose((0.0, 0.5, -0.7))
    x, y, z = p.vectors("x", "y", "z", mean=[0.2, 0.0, -0.4], cov=[[1, r, 0], [r, 1, 0.3], [0, 0.3, 0.7]])
    w, up = p.matrix("W", var=choose((1.0, 2.0))), p.matrix("A", var=1.2)
    gaussian, others = [x, y, z], []
    for _ in range(2 + pick(steps)):
        kind = pick(7)
        a, b, c = (choose(gaussian[-4:]) for _ in range(3))
        if kind == 0:
            others.append(tp.maximum(tp.maximum(a, b), c))
        elif kind == 1:
            others.append(functions.get("step")(a) * b + functions.get("step")(-1.0 * a) * c)
        elif kind == 2:
            others.append(rough(a) * rough(b))
        elif kind == 3:
            others.append(tp.minimum(rough(a), b))
        elif kind == 4 and others:
            gaussian.append((choose((w, up)) @ choose(others)).named(p._auto("g")))
        elif kind == 5:
            gaussian.append((choose((w, up)) @ rough(a) + 0.5 * b).named(p._auto("g")))
        else:
            others.append(p.apply(higher, rough(a) - 0.3 * b, c))
    made = gaussian + others
    names = []
    for _ in range(5):
        a, b = choose(made[-5:]), choose(made[-5:])
        names.append(p.mean(a * b if pick(2) else rough(choose(gaussian)) * b).name)
    return p, list(dict.fromkeys(names))


def readable(p: tp.Program) -> bool:
    """Whether finite width can read it: not where it has weak derivatives."""
    return all(line.fn.has_values for line in p.expand().lines if hasattr(line, "fn"))
