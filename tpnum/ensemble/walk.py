"""A program's lines on points: inputs and products with matrices are Gaussians, all else is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product as indices
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.ensemble.draws import Draws
from tpnum.ensemble.mixed import Atoms, Mixed, Operand, Value, mixed, moments, points, summed
from tpnum.ensemble.normals import Channel, Component, Family, Inputs, Normal, Part, Products, second
from tpnum.errors import LimitError
from tpnum.evaluate.labels import lift
from tpnum.program.draw import Run, aligned
from tpnum.program.lines import Axes, Input, LinComb, Map, MatMul, Matrix, Moment, Nonlin, Transpose
from tpnum.program.text import made_by, place, used_by

if TYPE_CHECKING:
    from tpnum.program import Program
    from tpnum.program.lines import Line

SQUARES = ("square", "mul")
"""Functions whose means are second moments."""


CHUNK = 256
"""Members of families of which all second moments are made to have those of one with itself."""


class Text:
    """What the lines of programs that share matrices say before anything is drawn.

    ``odd`` are the tangents: linear in the directions of the parameters, which nothing else depends on.
    Of G-vars ``component`` names those that they may be correlated with.
    """

    def __init__(self, programs: Iterable[Program]) -> None:
        self.programs = tuple(programs)
        self.odd: set[str] = set()
        self.uses: dict[tuple[str, bool], int] = {}
        self._above: dict[str, str] = {}
        self._root: dict[str, str] = {}
        for program in self.programs:
            self._read(program)

    def _read(self, program: Program) -> None:
        directions = {made for name, made in program.tangents.items() if program.vars[name].kind in "AG"}
        kinds = program.vars
        for line in program.lines:
            names = made_by(line)
            used = used_by(line)
            if self.odd.intersection(used) or (
                isinstance(line, Matrix | Input) and directions.intersection(names)
            ):
                self.odd.update(names)
            if isinstance(line, MatMul):
                key = self.channel(line)
                self.uses[key] = self.uses.get(key, 0) + 1
                self._root[line.name] = self._find(f"{key[0]}{'.' * key[1]}")
            elif isinstance(line, Input):
                self._root |= dict.fromkeys(names, self._find(line.names[0]))
            elif kinds[names[0]].kind == "G":
                below = [self._find(self._root[name]) for name in used if kinds[name].kind == "G"]
                for other in below[1:]:
                    self._above[self._find(other)] = self._find(below[0])
                self._root[line.name] = below[0]

    def channel(self, line: MatMul) -> tuple[str, bool]:
        """The matrix of a product, and whether it is one of tangents, which is independent of all others."""
        return line.matrix, line.vector in self.odd

    def _find(self, key: str) -> str:
        while self._above.get(key, key) != key:
            key = self._above[key]
        return key

    def component(self, name: str) -> str:
        """The component of a G-var."""
        return self._find(self._root[name])


@dataclass(eq=False)
class _Channel:
    """Products with one matrix so far, and what it multiplied while other products are to come."""

    products: Products
    waiting: int
    operands: list[Operand] = field(default_factory=list)


class Laws:
    """What the walks of one replicate share: matrices, inputs, components, and their random numbers."""

    def __init__(self, text: Text, size: int, seed: int, replicate: int) -> None:
        self.text, self.size = text, size
        self._draws = Draws(seed, replicate, size)
        self._atoms = Atoms()
        self._components: dict[str, Component] = {}
        self.products: dict[tuple[str, bool], dict[tuple[int, ...], _Channel]] = {}
        self.families: dict[tuple[str, bool], Channel] = {}
        self.inputs: dict[tuple[str, ...], Inputs] = {}
        self.copies = 0

    def component(self, name: str) -> Component:
        """The component of a G-var."""
        key = self.text.component(name)
        if key not in self._components:
            self._components[key] = Component(self._draws)
        return self._components[key]

    def operand(self, value: Value) -> Operand:
        """A vector as what second moments are made of."""
        return Operand(value, self.size, self._atoms)

    def enter(self, channel: _Channel, operand: Value) -> np.ndarray:
        """Rows for the products of an operand with the matrix of a channel."""
        new = self.operand(operand)
        blocks = [moments(new, other) for other in (*channel.operands, new)]
        if not np.isfinite(blocks[-1]).all():
            raise LimitError("a second moment of it is not finite: it does not exist or overflows")
        channel.waiting -= 1
        if channel.waiting:
            channel.operands.append(new)
        else:
            channel.operands = []
        return channel.products.enter(blocks)


class Walk(Run):
    """One walk over a program's lines, for some examples.

    ``values`` are points and numbers as in a draw at finite width; vectors that are not drawn yet, or never
    are, are among ``known``.  Afterwards ``outputs`` are left.
    """

    def __init__(
        self,
        program: Program,
        data: Mapping[str, np.ndarray],
        laws: Laws,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.laws, self.text, self.size = laws, laws.text, laws.size
        self.known: dict[str, Normal | Mixed] = {}
        self.matrices = {line.name: line for line in program.lines if isinstance(line, Matrix)}
        super().__init__(program, dict.fromkeys(program.dims, laws.size), 0, data, {}, stop)

    def require(self) -> None:
        """The memory of an ensemble is its owner's business."""

    def run(self) -> dict[str, Value]:
        """All lines, in order; the values of the outputs and of their tangents."""
        kept = {name for _, name in self.program.outputs}
        kept |= {self.program.tangents[name] for name in kept if name in self.program.tangents}
        last = {
            name: k for k, line in enumerate(self.program.lines) for name in (*made_by(line), *used_by(line))
        }
        going: dict[int, list[str]] = {}
        for name, k in last.items():
            if name not in kept:
                going.setdefault(k, []).append(name)
        with np.errstate(all="ignore"):
            for number, line in enumerate(self.program.lines, 1):
                try:
                    self.line(line)
                except LimitError as error:
                    raise LimitError(f"{place(number, made_by(line)[0])}: {error}") from None
                for name in going.get(number - 1, ()):
                    self.values.pop(name, None)
                    self.known.pop(name, None)
        return {name: self.vector(name) for name in kept}

    def vector(self, name: str) -> Value:
        """A vector, as far as it is known."""
        return self.known[name] if name in self.known else self.values[name]

    def put(self, name: str, value: Value) -> None:
        if isinstance(value, np.ndarray):
            self.values[name] = value
        else:
            self.known[name] = value

    # --- lines

    def line(self, line: Line) -> None:
        self.stop()
        match line:
            case Input():
                self.input(line)
            case Matrix():
                pass
            case Transpose():
                raise LimitError(f"{line.name} transposes a matrix: kernels are for programs without")
            case MatMul():
                self.known[line.name] = self.times(line)
            case LinComb() if self.vars[line.name].kind != "D":
                self.put(line.name, self.total(line))
            case Map() if line.operand in self.known:
                self.put(line.name, self.mapped(line))
            case Nonlin() if (
                line.fn.name == "mul" and not line.fn.order and self.text.odd.intersection(line.args)
            ):
                self.put(line.name, self.scaled(line))
            case Moment() if self.exact(line):
                self.values[line.name] = self.second(line)
            case _:
                for name in used_by(line):
                    if name in self.known:
                        self.values[name] = points(self.known[name])
                super().line(line)

    def input(self, line: Input) -> None:
        shape, k = tuple(n for _, n in line.axes), len(line.names)
        channel = self.laws.inputs.setdefault(line.names, Inputs(np.asarray(line.cov, dtype=float)))
        ones = (1,) * (1 + len(shape))
        copies = np.zeros(ones, dtype=np.int64)
        if line.fresh:
            copies = (
                np.arange((self.examples or 1) * int(np.prod(shape))).reshape(-1, *shape) + self.laws.copies
            )
            self.laws.copies += copies.size
        for i, name in enumerate(line.names):
            parts = (Part(channel, copies * k + i, np.ones(ones)),) if line.cov[i][i] else ()
            full = (copies.shape[0], *shape)
            self.known[name] = Normal(full, parts, np.full(ones, line.mean[i]), self.laws.component(name))

    def times(self, line: MatMul) -> Normal:
        """The product with a matrix: a Gaussian with the second moments of what it multiplies."""
        key = self.text.channel(line)
        matrix = self.matrices[line.matrix]
        operand = self.vector(line.vector)
        axes = self.vars[line.vector].axes
        names = [name for name, _ in axes]
        shape = (len(operand), *(n for _, n in axes)) if isinstance(operand, np.ndarray) else operand.shape
        members = self.laws.products.setdefault(key, {})
        rows = np.empty(shape, dtype=np.int64)
        for number, index in enumerate(indices(*(range(n) for _, n in matrix.axes))):
            waiting = self.text.uses[key]
            channel = members.setdefault(index, _Channel(Products(matrix.var), waiting))
            at: list[Any] = [slice(None)] * len(shape)
            for (axis, _), place_of in zip(matrix.axes, index, strict=True):
                at[1 + names.index(axis)] = place_of
            some = rows[tuple(at)]
            found = self.laws.enter(channel, _taken(operand, tuple(at)))
            rows[tuple(at)] = found.reshape(some.shape) + number * Family.STRIDE
        if matrix.axes:
            family = self.laws.families.setdefault(key, Family([c.products for c in members.values()]))
        else:
            (only,) = members.values()
            family = only.products
        ones = np.ones((1,) * len(shape))
        return Normal(shape, (Part(family, rows, ones),), 0.0 * ones, self.laws.component(line.name))

    def total(self, line: LinComb) -> Value:
        axes = self.vars[line.name].axes
        values = [self.vector(t.vector) for t in line.terms]
        weights = [t.coef * self.number(t.scalar, axes) for t in line.terms]
        own = [self.vars[t.vector].axes for t in line.terms]
        if all(isinstance(v, Normal) for v in values):
            made = self.combined(line.name, values, weights, own, axes)
            return made.drawn() if made.crowded() else made
        live = [
            k
            for k, v in enumerate(values)
            if not (isinstance(v, Normal) and not v.parts and not np.any(v.mean))
        ]
        if line.name in self.text.odd and not any(isinstance(values[k], np.ndarray) for k in live):
            parts = []
            for k in live:
                lifted = _lifted(mixed(values[k]), own[k], axes)
                parts += [(coefs * weights[k][..., None], normal) for coefs, normal in lifted.parts]
            shape = np.broadcast_shapes(*(np.broadcast_shapes(c.shape[:-1], n.shape) for c, n in parts))
            shape = (shape[0], *(n for _, n in axes))
            return summed(shape, parts)
        for t, value in zip(line.terms, values, strict=True):
            self.values[t.vector] = points(value)
        return super().value(line)

    def combined(self, name: str, values: Any, weights: Any, own: Any, axes: Axes) -> Normal:
        parts, mean = [], np.zeros((1,) * (1 + len(axes)))
        for value, weight, before in zip(values, weights, own, strict=True):
            for part in value.parts:
                rows = lift(part.rows, before, axes)
                parts.append(Part(part.channel, rows, lift(part.weights, before, axes) * weight))
            mean = mean + lift(value.mean, before, axes) * weight
        arrays = [mean, *(a for p in parts for a in (p.rows, p.weights))]
        shape = (max(a.shape[0] for a in arrays), *(n for _, n in axes))
        return Normal(shape, tuple(parts), mean, self.laws.component(name))

    def number(self, scalar: str, axes: Axes) -> np.ndarray:
        """A scalar along axes, 1 where there is none."""
        if not scalar:
            return np.ones((1,) * (1 + len(axes)))
        return aligned(self.values[scalar], self.vars[scalar], axes)[..., 0]

    def mapped(self, line: Map) -> Value:
        """An index map: gathers, and sums of some of them."""
        operand = self.known[line.operand]
        at = 1 + [a for a, _ in self.vars[line.operand].axes].index(line.axis)
        many = max((len(row) for row in line.rows), default=0)
        crowd = many * len(operand.parts)
        made: list[Normal | Mixed] = []
        if crowd > 4096:
            self.values[line.operand] = points(operand)
            return super().value(line)
        for k in range(many):
            rows = [row[k] if k < len(row) else (0, 0.0) for row in line.rows]
            made.append(_gathered(operand, at, rows, line.out))
        if not made:
            made = [_gathered(operand, at, [(0, 0.0)] * len(line.rows), line.out)]
        shape = made[0].shape
        if all(isinstance(one, Normal) for one in made):
            parts = tuple(p for one in made for p in one.parts)
            mean = sum((one.mean for one in made), np.zeros((1,) * len(shape)))
            whole = Normal(shape, parts, mean, self.laws.component(line.name))
            return whole.drawn() if whole.crowded() else whole
        return summed(shape, [p for one in made for p in one.parts])

    def scaled(self, line: Nonlin) -> Value:
        """The product of a tangent and of what does not depend on directions."""
        axes = self.vars[line.name].axes
        tangent, other = sorted(line.args, key=lambda name: name not in self.text.odd)
        value = self.vector(tangent)
        factor = aligned(points(self.vector(other)), self.vars[other], axes)
        if isinstance(value, np.ndarray) or other in self.text.odd:
            self.values |= {name: points(self.vector(name)) for name in line.args}
            return super().value(line)
        lifted = _lifted(mixed(value), self.vars[tangent].axes, axes)
        shape = (max(lifted.shape[0], factor.shape[0]), *(n for _, n in axes))
        return Mixed(shape, tuple((coefs * factor, normal) for coefs, normal in lifted.parts))

    def exact(self, line: Moment) -> bool:
        """Whether an average is a second moment of G-vars that are known by their covariances."""
        return (
            line.fn.name in SQUARES
            and not line.fn.order
            and all(isinstance(self.known.get(a), Normal) for a in line.args)
        )

    def second(self, line: Moment) -> np.ndarray:
        axes = self.vars[line.name].axes
        pair = [line.args[0], line.args[-1]]
        values = [
            self.combined(n, [self.known[n]], [np.ones((1,) * (1 + len(axes)))], [self.vars[n].axes], axes)
            for n in pair
        ]
        shape = np.broadcast_shapes(*(v.shape for v in values))
        made = np.empty(shape)
        cores = [Normal(shape, v.parts, v.mean, v.component) for v in values]
        flat = made.reshape(-1)
        for i in range(0, flat.size, CHUNK):
            some = [_some(v, slice(i, i + CHUNK)) for v in cores]
            flat[i : i + CHUNK] = np.diagonal(second(*some))
        return made


def _some(value: Normal, which: slice) -> Normal:
    """Some members of a family, in a row."""
    parts = tuple(Part(channel, rows[which], weights[which]) for channel, rows, weights in value.flat())
    mean = value.means()[which]
    return Normal(mean.shape, parts, mean, value.component)


def _taken(value: Value, at: tuple[Any, ...]) -> Value:
    """A family at an index of some of its axes."""
    if all(isinstance(k, slice) for k in at):
        return value
    if isinstance(value, np.ndarray):
        return value[at]

    def taken(array: np.ndarray) -> np.ndarray:
        return array[
            tuple(
                0 if not isinstance(k, slice) and n == 1 else k for k, n in zip(at, array.shape, strict=False)
            )
        ]

    shape = tuple(n for k, n in zip(at, value.shape, strict=True) if isinstance(k, slice))
    if isinstance(value, Mixed):
        return Mixed(shape, tuple((taken(c), _taken(n, at)) for c, n in value.parts))
    parts = tuple(Part(p.channel, taken(p.rows), taken(p.weights)) for p in value.parts)
    return Normal(shape, parts, taken(value.mean), value.component)


def _gathered(value: Normal | Mixed, at: int, rows: list[tuple[int, float]], out: Axes) -> Any:
    """A family whose axis number ``at`` is replaced by the axes ``out``: an index and a weight for each place."""
    index, factor = np.array([i for i, _ in rows], dtype=np.int64), np.array([w for _, w in rows])
    sizes = tuple(n for _, n in out)

    def gathered(array: np.ndarray, weighted: bool) -> np.ndarray:
        some = np.take(array, index if array.shape[at] > 1 else 0 * index, axis=at)
        if weighted:
            some = some * factor.reshape(-1, *(1,) * (array.ndim - at - 1))
        return some.reshape(*array.shape[:at], *sizes, *array.shape[at + 1 :])

    shape = (*value.shape[:at], *sizes, *value.shape[at + 1 :])
    if isinstance(value, Mixed):
        parts = [
            (gathered(c, True), _gathered(n, at, [(i, 1.0) for i, _ in rows], out)) for c, n in value.parts
        ]
        return Mixed(shape, tuple(parts))
    made = []
    for part in value.parts:
        channel, where = part.channel, gathered(part.rows, False)
        if isinstance(channel, Family):
            members = where // Family.STRIDE
            if (members == members.flat[0]).all():
                channel, where = channel.members[members.flat[0]], where % Family.STRIDE
        made.append(Part(channel, where, gathered(part.weights, True)))
    return Normal(shape, tuple(made), gathered(value.mean, True), value.component)


def _lifted(value: Mixed, own: Axes, axes: Axes) -> Mixed:
    """A family along more axes, along which it stays the same."""
    if own == axes:
        return value
    sizes = tuple(n for _, n in axes)
    names = [name for name, _ in own]
    order = [names.index(name) for name, _ in axes if name in names]

    def lifted(coefs: np.ndarray) -> np.ndarray:
        moved = coefs.transpose(0, *(1 + k for k in order), coefs.ndim - 1)
        shape = iter(moved.shape[1:-1])
        return moved.reshape(
            moved.shape[0], *(next(shape) if n in names else 1 for n, _ in axes), moved.shape[-1]
        )

    parts = []
    for coefs, normal in value.parts:
        rows = tuple(
            Part(p.channel, lift(p.rows, own, axes), lift(p.weights, own, axes)) for p in normal.parts
        )
        shape = (normal.shape[0], *sizes)
        parts.append((lifted(coefs), Normal(shape, rows, lift(normal.mean, own, axes), normal.component)))
    return Mixed((value.shape[0], *sizes), tuple(parts))
