"""A program at finite width, in plain NumPy: its inputs and matrices drawn, its lines run in order."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import whole
from tpnum.errors import InputError, require_memory
from tpnum.program.along import ALONG
from tpnum.program.arrays import aligned, pointwise, product, root_of, softmax, union
from tpnum.program.lines import (
    Along,
    Arith,
    Attend,
    Axes,
    Data,
    Input,
    Known,
    LinComb,
    Line,
    Map,
    MatMul,
    Matrix,
    Moment,
    Nonlin,
    Scan,
    Softmax,
    Transpose,
)
from tpnum.program.parts import origins, scalar_names
from tpnum.program.text import made_by

if TYPE_CHECKING:
    from tpnum.program.builder import Program


DRAWN = 1 << 20
"""Numbers drawn in one call, which nobody can interrupt."""

WIDEST = 1 << 40
"""More than any machine holds."""


class Run:
    """One draw: the widths, the random numbers and the values so far."""

    def __init__(
        self,
        program: Program,
        width: int | Mapping[str, int],
        seed: int,
        data: Mapping[str, Any],
        given: Mapping[str, Any],
        stop: Callable[[], None],
    ) -> None:
        self.program, self.seed, self.given, self.stop = program, seed, given, stop
        self.vars = program.vars
        self.origins = origins(program)
        self.values: dict[str, np.ndarray] = {}
        self.steps: list[tuple[str, int, int]] = []
        self.widths = widths_of(program.dims, width)
        self.data, self.examples = self._data(data)
        unknown = set(given) - set(self.vars)
        if unknown:
            raise InputError(f"given names {min(map(str, unknown))!r}, which the program does not make")
        self.require()

    def require(self) -> None:
        """Refuse what does not fit into memory."""
        needed = bytes_of(self.program, self.widths, self.examples)
        require_memory(needed, "width: its matrices and vectors", "take a smaller width")

    # --- data

    def _data(self, data: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], int | None]:
        """Arrays (examples or 1, axes..., channels) by data line, those of known scalars without channels.

        What was one family may be given whole, or one array for each of its lines.
        """
        lines = {line.name: line for line in self.program.lines if isinstance(line, Data | Known)}
        split = {n: origin for n, origin in self.origins.items() if n not in data}
        families = {split[n][0] if n in split else n for n in lines}
        if set(data) != families:
            raise InputError(f"data= must have one array for each of {sorted(families)}, not {list(data)}")
        out: dict[str, np.ndarray] = {}
        examples: set[int | None] = set()
        for name, line in lines.items():
            family, axes, fixed = split.get(name, (name, line.axes, {}))
            x = data[family]
            shape = tuple(n for _, n in axes)
            last = isinstance(line, Data)  # the channels
            fits = x.shape[x.ndim - last - len(shape) : x.ndim - last] == shape
            if not fits or x.ndim - len(shape) - last not in (0, 1):
                expected = f"(examples,) + {shape}" + " + (channels,)" * last
                raise InputError(f"data {family!r} has shape {x.shape}, not {expected}")
            if not x.size:
                raise InputError(f"data {family!r} is empty: its shape is {x.shape}")
            many = x.ndim == len(shape) + last + 1
            examples.add(len(x) if many else None)
            x = x if many else x[None]
            out[name] = x[(slice(None), *(fixed.get(a, slice(None)) for a, _ in axes))]
            if not isinstance(line, Data):
                continue
            channels = self.widths.setdefault(line.channels, x.shape[-1])
            if channels != x.shape[-1]:
                raise InputError(f"data {family!r} has {x.shape[-1]} channels, other data {channels}")
        if len(examples) > 1:
            raise InputError("the data variables have different numbers of examples")
        return out, examples.pop() if examples else None

    # --- random numbers

    def normal(self, key: str, *shape: int, out: np.ndarray | None = None) -> np.ndarray:
        words = np.frombuffer(hashlib.blake2b(key.encode(), digest_size=16).digest(), dtype=np.uint32)
        rng = np.random.default_rng([self.seed, *words.tolist()])
        made = np.empty(shape) if out is None else out
        flat = made.reshape(-1)
        for begin in range(0, flat.size, DRAWN):
            self.stop()
            rng.standard_normal(out=flat[begin : begin + DRAWN])
        return made

    def keys(self, name: str, axes: Axes) -> list[str]:
        """The scalar names of a family, inside the current scan steps."""
        origin = self.origins.get(name)
        if self.steps:
            steps = tuple((a, n) for a, n, _ in self.steps)
            origin = (name, (*steps, *axes), {a: i for a, _, i in self.steps})
        return scalar_names(name, axes, origin)

    # --- lines

    def line(self, line: Line) -> None:
        self.stop()
        match line:
            case Input():
                self.input(line)
            case Data() | Known():
                self.values[line.name] = self.data[line.name]
            case Matrix():
                self.matrix(line)
            case Transpose():
                self.values[line.name] = self.values[line.matrix].swapaxes(-1, -2)
            case Scan():
                self.scan(line)
            case _:
                self.values[line.name] = self.value(line)

    def input(self, line: Input) -> None:
        n, shape, k = self.widths[line.dim], tuple(s for _, s in line.axes), len(line.names)
        root = root_of(np.asarray(line.cov, dtype=float))
        mean = np.asarray(line.mean)[:, None]
        if line.fresh:
            keys = self.keys(line.names[0], line.axes)
            count = self.examples or 1
            draws = [mean + root @ self.normal(f"{key}#{e}", k, n) for e in range(count) for key in keys]
            values = np.stack(draws, axis=1).reshape(k, count, *shape, n)
        else:
            one = (mean + root @ self.normal(line.names[0], k, n)).reshape(k, 1, *(1 for _ in shape), n)
            values = np.broadcast_to(one, (k, 1, *shape, n))
        for name, value in zip(line.names, values, strict=True):
            self.values[name] = self.replaced(name, value, lead=1)

    def matrix(self, line: Matrix) -> None:
        rows, cols = self.widths[line.rows], self.widths[line.cols]
        shape = tuple(s for _, s in line.axes)
        keys = self.keys(line.name, line.axes)
        made = np.empty((len(keys), rows, cols))
        for key, one in zip(keys, made, strict=True):
            self.normal(key, out=one)
            for row in np.array_split(one, -(-one.size // DRAWN)):
                row *= math.sqrt(line.var / cols)
        self.values[line.name] = self.replaced(line.name, made.reshape(*shape, rows, cols), lead=0)

    def replaced(self, name: str, value: np.ndarray, lead: int) -> np.ndarray:
        if name not in self.given:
            return value
        array = self.given[name]
        shape = value.shape[lead:]
        if array.shape not in (shape, value.shape):
            raise InputError(f"given[{name!r}] has shape {array.shape}, not {shape}")
        return array.reshape(*value.shape[:lead], *shape)

    def value(self, line: Line) -> np.ndarray:
        match line:
            case MatMul():
                return self.product(line)
            case LinComb():
                return self.sum(line)
            case Nonlin():
                return self.call(line, self.vars[line.name].axes)
            case Moment():
                variables = [self.vars[n] for n in (*line.args, *line.scalars)]
                value = self.call(line, union(variables))
                return value.mean(axis=-1)
            case Arith():
                axes = self.vars[line.name].axes
                args = [aligned(self.values[s], self.vars[s], axes)[..., 0] for s in line.scalars]
                return self.whole(np.asarray(line.fn(*args)), axes, ())
            case Softmax():
                return self.softmax(line)
            case Attend():
                return self.attend(line)
            case Along():
                return self.along(line)
            case Map():
                return self.map(line)
        raise InputError(f"{line!r} cannot be run")

    def softmax(self, line: Softmax) -> np.ndarray:
        axes = self.vars[line.name].axes
        names = (line.scalar, *([line.weights] if line.weights else []))
        logits, *weights = (aligned(self.values[s], self.vars[s], axes)[..., 0] for s in names)
        over = tuple(1 + k for k, (axis, _) in enumerate(axes) if axis in line.over)
        return self.whole(softmax(logits, over, *weights), axes, ())

    def attend(self, line: Attend) -> np.ndarray:
        names = [n for n in (line.logits, line.vector, line.along, line.weights) if n]
        axes = union([self.vars[n] for n in names])
        at = {n: aligned(self.values[n], self.vars[n], axes) for n in names}
        over = tuple(1 + k for k, (axis, _) in enumerate(axes) if axis in line.over)
        share = softmax(at[line.logits], over, *([at[line.weights]] if line.weights else []))
        if line.along:
            moved = at[line.along]
            share = share * (moved - (share * moved).sum(axis=over, keepdims=True))
        made = (share * at[line.vector]).sum(axis=over)
        return self.whole(made, self.vars[line.name].axes, made.shape[-1:])

    def along(self, line: Along) -> np.ndarray:
        rule = ALONG[line.kind]
        axes = union([self.vars[n] for n in line.args])
        args = [aligned(self.values[n], self.vars[n], axes) for n in line.args]
        over = tuple(1 + k for k, (axis, _) in enumerate(axes) if axis in line.over)
        value = rule.values(args, over, line.eps)
        return self.whole(value, self.vars[line.name].axes, (value.shape[-1],))

    def whole(self, value: np.ndarray, axes: Axes, tail: tuple[int, ...]) -> np.ndarray:
        """``value`` with every axis at its full size."""
        shape = (value.shape[0] if value.ndim else 1, *(n for _, n in axes), *tail)
        return np.broadcast_to(value, shape)

    def product(self, line: MatMul) -> np.ndarray:
        a, h = self.values[line.matrix], self.values[line.vector]
        own, axes = self.vars[line.matrix].axes, self.vars[line.vector].axes
        if not own:
            return product(h, a)
        order = [k for k, axis in enumerate(axes) if axis not in own]
        first = [1 + axes.index(axis) for axis in own]
        moved = h.transpose(*first, 0, *(1 + k for k in order), h.ndim - 1)
        flat = moved.reshape(*moved.shape[: len(own)], -1, moved.shape[-1])
        made = product(flat, a).reshape(*moved.shape[:-1], a.shape[-2])
        back = np.argsort([*first, 0, *(1 + k for k in order), h.ndim - 1])
        return made.transpose(*back)

    def sum(self, line: LinComb) -> np.ndarray:
        var = self.vars[line.name]
        total: Any = 0.0
        for t in line.terms:
            part = t.coef * aligned(self.values[t.vector], self.vars[t.vector], var.axes)
            if t.scalar:
                part = part * aligned(self.values[t.scalar], self.vars[t.scalar], var.axes)
            total = total + part
        return self.whole(total, var.axes, (total.shape[-1],))

    def call(self, line: Nonlin | Moment, axes: Axes) -> np.ndarray:
        args = [aligned(self.values[n], self.vars[n], axes) for n in (*line.args, *line.scalars)]
        shape = np.broadcast_shapes(*(a.shape for a in args))
        if line.fn.user is None:
            value = np.asarray(line.fn(*args))
        else:
            value = np.broadcast_to(pointwise(line.fn, line.fn.name, args), (math.prod(shape),)).reshape(
                shape
            )
        return self.whole(value, axes, (shape[-1],))

    def map(self, line: Map) -> np.ndarray:
        var, x = self.vars[line.operand], self.values[line.operand]
        at = 1 + [a for a, _ in var.axes].index(line.axis)
        table = np.zeros((len(line.rows), x.shape[at]))
        for r, row in enumerate(line.rows):
            for i, w in row:
                table[r, i] += w
        made = np.tensordot(x, table, axes=(at, 1))
        made = np.moveaxis(made, -1, at)
        return made.reshape(*x.shape[:at], *(n for _, n in line.out), *x.shape[at + 1 :])

    def scan(self, line: Scan) -> None:
        axis, size = line.axis
        stacks: dict[str, list[np.ndarray]] = {outer: [] for outer, _ in line.outputs}
        state = {c.name: self.values[c.init] for c in line.carries}
        for step in range(size):
            self.steps.append((axis, size, step))
            self.values.update(state)
            for inner, outer in line.inputs:
                at = 1 + [a for a, _ in self.vars[outer].axes].index(axis)
                self.values[inner] = np.take(self.values[outer], step, axis=at)
            for inner_line in line.body:
                self.line(inner_line)
            for outer, inner in line.outputs:
                stacks[outer].append(self.values[inner])
            state = {c.name: self.values[c.next] for c in line.carries}
            self.steps.pop()
        for outer, values in stacks.items():
            self.values[outer] = np.stack(np.broadcast_arrays(*values), axis=1)
        inside = {c.name for c in line.carries} | {inner for inner, _ in line.inputs} | _made_inside(line)
        for name in inside:
            self.values.pop(name, None)


def _made_inside(scan: Scan) -> set[str]:
    names: set[str] = set()
    for line in scan.body:
        match line:
            case Scan():
                names |= {outer for outer, _ in line.outputs}
            case Input():
                names |= set(line.names)
            case _:
                names.add(line.name)
    return names


def bytes_of(program: Program, widths: Mapping[str, int], examples: int | None) -> float:
    """Bytes of the matrices and vectors of one draw."""
    numbers = 0
    for line in program.lines:
        if isinstance(line, Matrix):
            numbers += math.prod(size for _, size in line.axes) * widths[line.rows] * widths[line.cols]
        elif isinstance(line, Nonlin | LinComb | MatMul | Along | Input):
            for name in made_by(line):
                var = program.vars[name]
                numbers += (examples or 1) * math.prod(s for _, s in var.axes) * widths[var.dim]
    return 8.0 * numbers


def widths_of(dims: Mapping[str, float], width: int | Mapping[str, int]) -> dict[str, int]:
    """The width of every CDC, checked."""
    if isinstance(width, Mapping):
        if set(width) != set(dims):
            raise InputError(f"width= must name the CDCs {sorted(dims)}, not {list(width)}")
        out = {d: whole(n, f"width of CDC {d!r}", high=WIDEST) for d, n in width.items()}
    else:
        number = whole(width, "width", high=WIDEST)
        out = {d: round(ratio * number) for d, ratio in dims.items()}
    for d, n in out.items():
        if n < 1:
            raise InputError(f"the width of CDC {d!r} is {n}: a width is at least 1")
    return out
