"""A program with index axes split into separate lines: unrolled scans, scalar lines.

Splitting an axis turns every family over it into one variable per index, named ``h[3]`` or ``h[1,2]``.
A shared input stays one vector; fresh inputs, data and matrices become separate ones.  A map along
a split axis becomes a sum; where it only picks an entry, the entry's own name is used.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum import functions
from tpnum.errors import ProgramError
from tpnum.functions import Function
from tpnum.program.along import ALONG, ScalarLines
from tpnum.program.lines import (
    Along,
    Arith,
    Attend,
    Axes,
    Data,
    Delay,
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
    Term,
    Transpose,
    Var,
)
from tpnum.program.maps import Rows
from tpnum.program.parts import Index, Members

if TYPE_CHECKING:
    from tpnum.program.builder import Program

LOW = 1e300
"""What lowers a logit out of sight."""


def maps_below_functions(program: Program) -> bool:
    """Whether a function or an average reads a vector that an index map has made of H-vars.

    A map does not commute with functions as a line of families does; its scalar lines are sums.
    """
    mapped: set[str] = set()
    for line in program.lines:
        match line:
            case Map() | Delay():
                if program.vars[line.name].kind == "H":
                    mapped.add(line.name)
            case LinComb():
                if any(t.vector in mapped for t in line.terms):
                    mapped.add(line.name)
            case Nonlin() | Moment() | Along():
                if any(arg in mapped for arg in line.args):
                    return True
    return False


def unrolled(program: Program) -> Program:
    """The same program without scans (itself if it has none)."""
    axes = set(_scan_axes(program.lines))
    return _Splitter(program, axes).run() if axes else program


def expand(program: Program, axes: Iterable[str] | None = None) -> Program:
    """Split the given axes (None: all), those of the scans always, and those that maps make of them."""
    everything = {a for v in program.vars.values() for a, _ in v.axes} | set(_scan_axes(program.lines))
    if axes is None:
        wanted = everything
    else:
        wanted = {axes} if isinstance(axes, str) else set(axes)
        unknown = wanted - everything
        if unknown:
            missing = sorted(unknown)[0]
            raise ProgramError(f"the program has no axis {missing!r}; its axes are {sorted(everything)}")
        wanted |= set(_scan_axes(program.lines))
    return _Splitter(program, wanted).run() if wanted else program


def _scan_axes(lines: Iterable[Line]) -> Iterator[str]:
    for line in lines:
        if isinstance(line, Scan):
            yield line.axis[0]
            yield from _scan_axes(line.body)


def _all_lines(lines: Iterable[Line]) -> Iterator[Line]:
    for line in lines:
        yield line
        if isinstance(line, Scan):
            yield from _all_lines(line.body)


def _closure(program: Program, axes: set[str]) -> set[str]:
    """Split axes, what maps make of them, and those that are taken together with them."""
    maps = [line for line in _all_lines(program.lines) if isinstance(line, Map)]
    together = Softmax | Attend | Along
    joint = [set(line.over) for line in _all_lines(program.lines) if isinstance(line, together)]
    while True:
        more = {a for m in maps if m.axis in axes for a, _ in m.out} - axes
        more |= {a for over in joint if over & axes for a in over - axes}
        if not more:
            return axes
        axes = axes | more


class _Splitter(Members):
    """Writes the lines of ``program`` with the axes ``split`` taken apart."""

    def __init__(self, program: Program, split: set[str]) -> None:
        super().__init__(program, program._blank(), _closure(program, split))
        self.null: set[str] = set()  # zero vectors and scalars of the new program

    def run(self) -> Program:
        for line in self.old.lines:
            self.line(line)
        for (weight, name), place in zip(self.old.outputs, self.old.output_places, strict=True):
            for index in self.indices(self.vars[name].axes):
                self.new._put_out(self.at(name, index), weight, place.at(index, self.vars[name].axes))
        self._tangents()
        self.new.parts = self.parts()
        return self.new

    # --- lines

    def line(self, line: Line) -> None:
        match line:
            case Scan():
                self.scan(line)
            case Map():
                self.map(line)
            case Input():
                self.input(line)
            case Softmax() if self.split.intersection(line.over):
                self.softmax(line)
            case Attend() if self.split.intersection(line.over):
                self.attend(line)
            case Along() if self.split.intersection(line.over):
                self.along(line)
            case _:
                var = self.vars[line.name]
                for index in self.indices(var.axes):
                    name = self.make(var, index)
                    self.new.append(self.renamed(line, name, index))
                    self.put(var, index, name)

    def renamed(self, line: Line, name: str, index: Index) -> Line:
        """The line at an index of the split axes."""
        match line:
            case Data():
                return Data(name, line.channels, self.rest(line.axes))
            case Known():
                return Known(name, self.rest(line.axes))
            case Matrix():
                return Matrix(name, line.rows, line.cols, line.var, line.tangent, self.rest(line.axes))
            case Transpose():
                return Transpose(name, self.at(line.matrix, index))
            case MatMul():
                return MatMul(name, self.at(line.matrix, index), self.at(line.vector, index))
            case LinComb():
                terms = [
                    Term(t.coef, self.at(t.vector, index), self.at(t.scalar, index) if t.scalar else "")
                    for t in line.terms
                ]
                live = [t for t in terms if not {t.vector, t.scalar} & self.null]
                if not live and any(t.scalar in self.null for t in terms):
                    self.null.add(name)
                if live and self.axes(live) == self.axes(terms):
                    terms = live
                return LinComb(name, tuple(terms))
            case Nonlin() | Moment():
                args = tuple(self.at(a, index) for a in line.args)
                return type(line)(name, line.fn, args, tuple(self.at(s, index) for s in line.scalars))
            case Arith():
                if line.fn.name == "affine" and not any(np.hstack([v for _, v in line.fn.params])):
                    self.null.add(name)
                return Arith(name, line.fn, tuple(self.at(s, index) for s in line.scalars))
            case Along():
                return replace(line, name=name, args=tuple(self.at(a, index) for a in line.args))
            case Softmax():
                weights = self.at(line.weights, index) if line.weights else ""
                return Softmax(name, self.at(line.scalar, index), line.over, weights)
            case Attend():
                names = (self.at(n, index) if n else "" for n in (line.weights, line.along))
                return Attend(
                    name, self.at(line.logits, index), self.at(line.vector, index), line.over, *names
                )
        raise ProgramError(f"{line!r} is not a line of a tensor program")

    def axes(self, terms: list[Term]) -> Axes:
        """The axes of a sum in the new program."""
        names = (n for t in terms for n in (t.vector, t.scalar) if n)
        return tuple(dict.fromkeys(a for n in names for a in self.new._var(n).axes))

    def input(self, line: Input) -> None:
        variables = [self.vars[n] for n in line.names]
        axes = self.rest(line.axes)
        for index in self.indices(line.axes) if line.fresh else [{}]:
            names = tuple(self.make(v, index) for v in variables) if line.fresh else line.names
            self.new.append(Input(names, line.dim, line.mean, line.cov, axes, line.fresh, line.tangent))
            facts = zip(names, line.mean, line.cov, strict=True)
            self.null |= {n for n, mean, row in facts if mean == 0 and not any(row)}
            for place in [index] if line.fresh else self.indices(line.axes):
                for v, name in zip(variables, names, strict=True):
                    self.put(v, place, name)

    def map(self, line: Map) -> None:
        var, operand = self.vars[line.name], self.vars[line.operand]
        for index in self.indices(var.axes):
            if line.axis in self.split:
                (row,) = self.rows(line, index)
                self.put(var, index, self.total(var, operand, line.axis, row, index))
            else:
                name = self.make(var, index)
                out = self.rest(line.out)
                source = self.at(line.operand, index)
                kept = line.index if out == line.out else Rows(tuple(self.rows(line, index)))
                self.new.append(Map(name, source, line.axis, out, kept))
                self.put(var, index, name)

    def rows(self, line: Map, index: Index) -> Iterator[tuple[tuple[int, float], ...]]:
        """The rows of a map at an index of the split axes among its ``out``."""
        ranges = [[index[a]] if a in self.split else range(n) for a, n in line.out]
        for place in itertools.product(*ranges):
            flat = 0
            for i, (_, n) in zip(place, line.out, strict=True):
                flat = flat * n + i
            yield line.rows[flat]

    def total(
        self, var: Var, operand: Var, axis: str, row: tuple[tuple[int, float], ...], index: Index
    ) -> str:
        """The new variable for the weighted sum of entries of ``operand`` along a split axis."""
        entries: dict[str, float] = {}
        for i, w in row:
            entry = self.at(operand.name, {**index, axis: i})
            if entry not in self.null:
                entries[entry] = entries.get(entry, 0.0) + w
        if list(entries.values()) == [1.0]:
            return next(iter(entries))
        if not entries and var.kind in "GH":
            zero = self.new.zeros(var.dim, self.rest(var.axes)).name
            self.null.add(zero)
            return zero
        name = self.make(var, index)
        if not entries:
            entries = {self.at(operand.name, {**index, axis: 0}): 0.0}
            if var.kind == "S":
                self.null.add(name)
        if var.kind == "S":
            fn = functions.get("affine", coefs=tuple(entries.values()), constant=0.0)
            self.new.append(Arith(name, fn, tuple(entries)))
        else:
            self.new.append(LinComb(name, tuple(Term(w, entry) for entry, w in entries.items())))
        return name

    def softmax(self, line: Softmax) -> None:
        """exp(s - largest s) w over its sum, in scalar lines; what w leaves out is lowered out of sight."""
        var = self.vars[line.name]

        def arith(fn: str, *scalars: str, **params: Any) -> str:
            name = self.new._auto(f"{line.name}.s")
            self.new.append(Arith(name, functions.get(fn, **params), scalars))
            return name

        for index in self.indices(tuple(a for a in var.axes if a[0] not in line.over)):
            places = [{**index, **at} for at in self.indices(tuple(a for a in var.axes if a[0] in line.over))]
            logits = [self.at(line.scalar, at) for at in places]
            weights = [self.at(line.weights, at) for at in places] if line.weights else []
            for i, w in enumerate(weights):
                low = arith("affine", arith("step", w), coefs=(LOW,), constant=-LOW)
                logits[i] = arith("add", logits[i], low)
            largest = logits[0]
            for logit in logits[1:]:
                largest = arith("maximum", largest, logit)
            parts = [arith("exp", arith("sub", logit, largest)) for logit in logits]
            parts = [arith("mul", *both) for both in zip(parts, weights, strict=True)] if weights else parts
            total = arith("affine", *parts, coefs=(1.0,) * len(parts))
            if weights:
                total = arith("affine", total, arith("step", total), coefs=(1.0, -1.0), constant=1.0)
            for at, part in zip(places, parts, strict=True):
                name = self.make(var, at)
                self.new.append(Arith(name, functions.get("div"), (part, total)))
                self.put(var, at, name)

    def attend(self, line: Attend) -> None:
        """One function of all logits and vectors (and directions), with the weights for its scalars."""
        var = self.vars[line.name]
        names = [n for n in (line.logits, line.vector, line.along) if n]
        over = tuple((a, n) for a, n in self.vars[line.logits].axes if a in line.over)
        for index in self.indices(var.axes):
            places = [{**index, **at} for at in self.indices(over)]
            args = tuple(self.at(n, at) for n in names for at in places)
            scalars = tuple(self.at(line.weights, at) for at in places) if line.weights else ()
            kind = "softmax_slope" if line.along else "softmax_sum"
            params = ("size", len(places)), ("weighted", bool(line.weights))
            fn = Function(kind, params, split=len(scalars))
            name = self.make(var, index)
            self.new.append(Nonlin(name, fn, args, scalars))
            self.put(var, index, name)

    def along(self, line: Along) -> None:
        var, first = self.vars[line.name], self.vars[line.args[0]]
        over = tuple(a for a in first.axes if a[0] in line.over)
        lines = ScalarLines(self.new, line)
        for index in self.indices(tuple(a for a in var.axes if a[0] not in line.over)):
            places = [{**index, **at} for at in self.indices(over)]
            made = places if ALONG[line.kind].keeps else [index]
            names = [self.make(var, at) for at in made]
            lines([[self.at(a, at) for at in places] for a in line.args], names)
            for at, name in zip(made, names, strict=True):
                self.put(var, at, name)

    def scan(self, line: Scan) -> None:
        axis, size = line.axis
        state = {c.name: dict(self.table[c.init]) for c in line.carries}
        for step in range(size):
            for inner, outer in line.inputs:
                v = self.vars[inner]
                self.table[inner] = {
                    self.key(v, at): self.at(outer, {**at, axis: step}) for at in self.indices(v.axes)
                }
            self.steps.append((axis, size, step))
            for c in line.carries:
                v = self.vars[c.name]
                for at in self.indices(v.axes):
                    self.put(v, at, state[c.name][self.key(v, at)])
            for inner_line in line.body:
                self.line(inner_line)
            state = {c.name: dict(self.table[c.next]) for c in line.carries}
            self.steps.pop()
            for outer, inner in line.outputs:
                v = self.vars[outer]
                for at in self.indices(self.vars[inner].axes):
                    self.put(v, {**at, axis: step}, self.at(inner, at))

    def _tangents(self) -> None:
        for name, tangent in self.old.tangents.items():
            for key, made in self.table[name].items():
                if self.table[tangent][key] != made:  # both zero
                    self.new.tangents[made] = self.table[tangent][key]
