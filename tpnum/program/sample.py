"""A program at finite width, in plain NumPy: the slow and obvious reading that checks the others."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum import functions
from tpnum.arguments import finite_array, shown, whole
from tpnum.errors import InputError, ProgramError, memory
from tpnum.functions.checked import check_elementwise, checked
from tpnum.program.calls import as_program, is_named
from tpnum.program.check import quoted
from tpnum.program.expand import origins, scalar_names
from tpnum.program.handle import Handle
from tpnum.program.lines import (
    Arith,
    Axes,
    Data,
    Input,
    LinComb,
    Line,
    Map,
    MatMul,
    Matrix,
    Moment,
    Nonlin,
    Scan,
    Transpose,
    Var,
)
from tpnum.program.refer import refer
from tpnum.program.text import made_by

if TYPE_CHECKING:
    from tpnum.program.builder import Program


DRAWN = 1 << 20
"""Numbers drawn in one call, which nobody can interrupt."""


def arrays_of(given: Any, name: str) -> dict[str, np.ndarray]:
    """Finite real arrays by name: of a mapping, or none."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InputError(f"{name}: a dict of arrays by name is needed, not {shown(given)}")
    return {key: finite_array(x, f"{name}[{key!r}]") for key, x in given.items()}


def simulate(
    program: Program,
    width: int | Mapping[str, int] = 1000,
    seed: int = 0,
    data: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
    *,
    shape: Any = None,
) -> Sample:
    """Draw the inputs and matrices of ``program`` and run its lines.

    Parameters
    ----------
    program : a program, or a net of layers with ``shape``, the (.., channels) of one example.
    width : a number (times the ratio of each CDC) or {"n": 1500, "m": 3000}.
    seed : every random variable has its own stream, seeded by its name, so a family and its `expand` ed
        lines, or two programs with lines in common, get the same numbers.
    data : for each data variable an array (axes..., channels), or (examples, axes..., channels); the
        examples share matrices and shared inputs.
    given : arrays (as `Sample` returns them) that replace what would be drawn, by name.

    Raises
    ------
    InputError : widths, data or given arrays that do not fit the program.
    ProgramError : a line that has no values, the derivative of a function of which none is known.
    """
    program = as_program(program, shape, "program")
    run = _Run(program, width, whole(seed, "seed", 0), arrays_of(data, "data"), arrays_of(given, "given"))
    for number, line in enumerate(program.lines, 1):
        try:
            run.line(line)
        except (ProgramError, InputError) as error:
            said = quoted(str(error), line, str(number), program.vars)
            raise (said if isinstance(error, ProgramError) else InputError(str(said))) from None
    return Sample(program, run.values, run.examples, run.widths)


WIDEST = 1 << 40
"""More than any machine holds."""


class Sample:
    """The values of every variable of a program at one draw.

    Arrays are (axes..., n) for vectors, (axes..., rows, cols) for matrices, (axes...) for scalars; with
    several examples vectors and scalars have the axis of examples first.
    """

    def __init__(
        self, program: Program, values: dict[str, np.ndarray], examples: int | None, widths: dict[str, int]
    ) -> None:
        self.program, self.examples, self.widths = program, examples, widths
        self._values = values
        self._vars = program.vars

    def __repr__(self) -> str:
        widths = ", ".join(f"{d} = {n}" for d, n in self.widths.items())
        many = "" if self.examples is None else f", {self.examples} examples"
        return f"<Sample of a program of {len(self.program.lines)} lines at widths {widths}{many}>"

    def _name(self, which: Any, kinds: str) -> str:
        known = {**self._values, **self.program.parts}
        return refer(self.program, which, kinds=kinds, known=known, again="tp.simulate(p, ..)")

    def vector(self, which: str | Handle) -> np.ndarray:
        """The array of a vector, matrix or scalar; a family that `expand` has split is put together."""
        name = self._name(which, "AGHSD")
        return self._assembled(name) if name in self.program.parts else self._own(name)

    def _own(self, name: str) -> np.ndarray:
        value = self._values[name]
        if self._vars[name].kind == "A":
            return value
        if self.examples is None:
            return value[0]
        return np.broadcast_to(value, (self.examples, *value.shape[1:]))

    __getitem__ = vector

    def matrix(self, which: str | Handle) -> np.ndarray:
        """The array of a matrix."""
        return self.vector(self._name(which, "A"))

    def scalar(self, which: str | Handle) -> np.ndarray:
        """The value of a scalar, an array over the axes of its family."""
        return self.vector(self._name(which, "S"))

    def _assembled(self, name: str) -> np.ndarray:
        parts = self.program.parts[name]
        sizes = dict(parts.axes)
        matrix = self._vars[parts.names[0]].kind == "A"
        lead = 0 if matrix or self.examples is None else 1
        stacked = np.stack([self._own(n) for n in parts.names], axis=lead)
        shape = (*stacked.shape[:lead], *(sizes[a] for a in parts.split), *stacked.shape[lead + 1 :])
        made = stacked.reshape(shape)
        order = [*parts.split, *(a for a, _ in parts.axes if a not in parts.split)]
        perm = [lead + order.index(a) for a, _ in parts.axes]
        return made.transpose(*range(lead), *perm, *range(lead + len(perm), made.ndim))

    def expect(self, f: str | Callable[..., Any], *which: str | Handle) -> Any:
        """(1/n) sum_a f(x_a, y_a, ..): axes are matched by name, those of the first variable first."""
        names = [self._name(w, "GHSD") for w in which]
        split = [n for n in names if n not in self._values]
        if split:
            raise InputError(f"{split[0]!r} was split by expand: ask for its members, or for .vector of it")
        variables = [self._vars[n] for n in names]
        axes = _union(variables)
        vectors = {v.dim for v in variables if v.kind != "S"}
        if not vectors:
            scalars = f"; {names[0]!r} is a scalar: ask for .scalar of it" if names else ""
            raise InputError(f"expect needs vectors of one CDC, at least one{scalars}")
        if len(vectors) > 1:
            raise InputError(f"expect needs vectors of one CDC, not of {sorted(vectors)}")
        if not is_named(f) and not callable(f):
            raise InputError(f"f is {shown(f)}: a function of arrays or the name of one is needed")
        fn: Callable[..., Any] = functions.get(f) if is_named(f) else f  # type: ignore[assignment]
        arrays = [_aligned(self._values[n], v, axes) for n, v in zip(names, variables, strict=True)]
        lead = (self.examples or 1, *(n for _, n in axes))
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        made = _pointwise(fn, getattr(fn, "__name__", str(fn)), arrays)
        made = np.broadcast_to(made, (*made.shape[:-1], math.prod(shape)))
        value = made.reshape(*made.shape[:-1], *shape).mean(axis=-1)
        value = np.broadcast_to(value, (*made.shape[:-1], *lead))
        if self.examples is None:
            value = np.take(value, 0, axis=value.ndim - len(lead))
        return value[()]

    def mean(self, which: str | Handle) -> Any:
        """(1/n) sum_a x_a."""
        return self.expect(lambda x: x, which)

    def moment(self, *which: str | Handle) -> Any:
        """(1/n) sum_a of the product."""
        return self.expect(lambda *xs: math.prod(xs[1:], start=xs[0]), *which)


class _Run:
    def __init__(
        self,
        program: Program,
        width: int | Mapping[str, int],
        seed: int,
        data: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> None:
        self.program, self.seed, self.given = program, seed, given
        self.vars = program.vars
        self.origins = origins(program)
        self.values: dict[str, np.ndarray] = {}
        self.steps: list[tuple[str, int, int]] = []
        self.widths = widths_of(program.dims, width)
        self.data, self.examples = self._data(data)
        unknown = set(given) - set(self.vars)
        if unknown:
            raise InputError(f"given names {min(map(str, unknown))!r}, which the program does not make")
        self._affordable()

    def _affordable(self) -> None:
        """Widths whose matrices do not fit into this machine are refused before anything is drawn."""
        numbers = 0
        for line in self.program.lines:
            if isinstance(line, Matrix):
                copies = math.prod(size for _, size in line.axes)
                numbers += copies * self.widths[line.rows] * self.widths[line.cols]
            elif isinstance(line, Nonlin | LinComb | MatMul | Input):
                for name in made_by(line):
                    var = self.vars[name]
                    numbers += (self.examples or 1) * math.prod(s for _, s in var.axes) * self.widths[var.dim]
        if 8 * numbers > memory():
            raise InputError(
                f"width: its matrices and vectors are {8 * numbers / 1e9:.3g} GB, "
                f"more than the {memory() / 1e9:.3g} GB of this machine; take a smaller width"
            )

    # --- data

    def _data(self, data: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], int | None]:
        """Arrays (examples or 1, axes..., channels) by the name of the data line."""
        lines = {line.name: line for line in self.program.lines if isinstance(line, Data)}
        families = {self.origins[n][0] if n in self.origins else n for n in lines}
        if set(data) != families:
            raise InputError(f"data= must have one array for each of {sorted(families)}, not {list(data)}")
        out: dict[str, np.ndarray] = {}
        examples: set[int | None] = set()
        for name, line in lines.items():
            family, axes, fixed = self.origins.get(name, (name, line.axes, {}))
            x = data[family]
            shape = tuple(n for _, n in axes)
            if x.shape[-1 - len(shape) : -1] != shape or x.ndim not in (len(shape) + 1, len(shape) + 2):
                raise InputError(
                    f"data {family!r} has shape {x.shape}, not (examples,) + {shape} + (channels,)"
                )
            if not x.size:
                raise InputError(f"data {family!r} is empty: its shape is {x.shape}")
            many = x.ndim == len(shape) + 2
            examples.add(len(x) if many else None)
            x = x if many else x[None]
            out[name] = x[(slice(None), *(fixed.get(a, slice(None)) for a, _ in axes))]
            channels = self.widths.setdefault(line.channels, x.shape[-1])
            if channels != x.shape[-1]:
                raise InputError(f"data {family!r} has {x.shape[-1]} channels, other data {channels}")
        if len(examples) > 1:
            raise InputError("the data variables have different numbers of examples")
        return out, examples.pop() if examples else None

    # --- random numbers

    def normal(self, key: str, *shape: int) -> np.ndarray:
        words = np.frombuffer(hashlib.blake2b(key.encode(), digest_size=16).digest(), dtype=np.uint32)
        rng = np.random.default_rng([self.seed, *words.tolist()])
        made = np.empty(shape)
        flat = made.reshape(-1)
        for begin in range(0, flat.size, DRAWN):
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
        match line:
            case Input():
                self.input(line)
            case Data():
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
        root = _root(np.asarray(line.cov, dtype=float))
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
        scale = math.sqrt(line.var / cols)
        draws = [scale * self.normal(key, rows, cols) for key in self.keys(line.name, line.axes)]
        self.values[line.name] = self.replaced(line.name, np.stack(draws).reshape(*shape, rows, cols), lead=0)

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
                value = self.call(line, _union(variables))
                return value.mean(axis=-1)
            case Arith():
                axes = self.vars[line.name].axes
                args = [_aligned(self.values[s], self.vars[s], axes)[..., 0] for s in line.scalars]
                return self.whole(np.asarray(line.fn(*args)), axes, ())
            case Map():
                return self.map(line)
        raise InputError(f"{line!r} cannot be run")

    def whole(self, value: np.ndarray, axes: Axes, tail: tuple[int, ...]) -> np.ndarray:
        """``value`` with every axis at its full size."""
        shape = (value.shape[0] if value.ndim else 1, *(n for _, n in axes), *tail)
        return np.broadcast_to(value, shape)

    def product(self, line: MatMul) -> np.ndarray:
        a, h = self.values[line.matrix], self.values[line.vector]
        own, axes = self.vars[line.matrix].axes, self.vars[line.vector].axes
        if not own:
            return h @ a.T
        order = [k for k, axis in enumerate(axes) if axis not in own]
        first = [1 + axes.index(axis) for axis in own]
        moved = h.transpose(*first, 0, *(1 + k for k in order), h.ndim - 1)
        flat = moved.reshape(*moved.shape[: len(own)], -1, moved.shape[-1])
        made = (flat @ a.swapaxes(-1, -2)).reshape(*moved.shape[:-1], a.shape[-2])
        back = np.argsort([*first, 0, *(1 + k for k in order), h.ndim - 1])
        return made.transpose(*back)

    def sum(self, line: LinComb) -> np.ndarray:
        var = self.vars[line.name]
        total: Any = 0.0
        for t in line.terms:
            part = t.coef * _aligned(self.values[t.vector], self.vars[t.vector], var.axes)
            if t.scalar:
                part = part * _aligned(self.values[t.scalar], self.vars[t.scalar], var.axes)
            total = total + part
        return self.whole(total, var.axes, (total.shape[-1],))

    def call(self, line: Nonlin | Moment, axes: Axes) -> np.ndarray:
        args = [_aligned(self.values[n], self.vars[n], axes) for n in (*line.args, *line.scalars)]
        shape = np.broadcast_shapes(*(a.shape for a in args))
        if line.fn.user is None:
            value = np.asarray(line.fn(*args))
        else:
            value = np.broadcast_to(_pointwise(line.fn, line.fn.name, args), (math.prod(shape),)).reshape(
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


def _pointwise(f: Callable[..., Any], name: str, arrays: list[np.ndarray]) -> np.ndarray:
    """A user's function on arrays as flat ones of equal lengths, checked: (.., points)."""
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    points = [np.broadcast_to(a, shape).reshape(-1) for a in arrays]
    made = checked(f, name, points)
    check_elementwise(f, *points, name=name, made=made)
    return made


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


def _root(cov: np.ndarray) -> np.ndarray:
    """A root of a positive semidefinite matrix, triangular where it is regular."""
    try:
        return np.linalg.cholesky(cov)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(cov)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _union(variables: list[Var]) -> Axes:
    return tuple(dict.fromkeys(a for v in variables for a in v.axes))


def _aligned(value: np.ndarray, var: Var, axes: Axes) -> np.ndarray:
    """(examples, axes..., n) with the given axes, size 1 where the variable lacks one; n = 1 for scalars."""
    tail = value.shape[-1:] if var.kind != "S" else (1,)
    own = [a for a, _ in var.axes]
    order = [own.index(a) for a, _ in axes if a in own]
    value = value.reshape(value.shape[0], *(n for _, n in var.axes), *tail)
    value = value.transpose(0, *(1 + k for k in order), value.ndim - 1)
    return value.reshape(value.shape[0], *(n if a in own else 1 for a, n in axes), *tail)
