"""A program's lines on points: inputs and products with matrices are Gaussians, all else is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product as indices
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.ensemble.acting import Action, acted_on, action_of
from tpnum.ensemble.atoms import Atom, GramMatrices
from tpnum.ensemble.draws import Draws
from tpnum.ensemble.given import Given
from tpnum.ensemble.indexing import gathered_along, lifted_to, some_of, taken_at
from tpnum.ensemble.mixed import Mixed, Operand, Product, Value, moments, multiplied, points, products, summed
from tpnum.ensemble.normals import (
    Channel,
    Component,
    IndependentProducts,
    Inputs,
    Normal,
    Part,
    Products,
    second,
)
from tpnum.ensemble.text import SQUARES, Text
from tpnum.errors import LimitError
from tpnum.evaluate.labels import lift
from tpnum.program.arrays import aligned
from tpnum.program.draw import Run
from tpnum.program.lines import (
    Along,
    Attend,
    Axes,
    Input,
    LinComb,
    Map,
    MatMul,
    Matrix,
    Moment,
    Nonlin,
    Transpose,
)
from tpnum.program.text import made_by, place, used_by

if TYPE_CHECKING:
    from tpnum.program import Program
    from tpnum.program.lines import Line

CHUNK = 256
"""Members of families of which all second moments are made to have those of one with itself."""


@dataclass(eq=False)
class _Channel:
    """Products with one matrix so far, and what it multiplied while other products are to come."""

    products: Products
    waiting: int
    operands: list[Operand] = field(default_factory=list)


class Laws:
    """What the walks of one replicate share: matrices, inputs, components, and their random numbers."""

    def __init__(
        self, text: Text, size: int, seed: int, replicate: int, frame: np.ndarray | None = None,
        varied: bool = False,
    ) -> None:  # fmt: skip
        self.text, self.size = text, size
        self._draws = Draws(seed, replicate, size, frame)
        self.grams = GramMatrices(varied)
        self.given = Given(self.grams)
        self._components: dict[str, Component] = {}
        self.products: dict[tuple[str, bool], dict[tuple[int, ...], _Channel]] = {}
        self.families: dict[tuple[str, bool], Channel] = {}
        self.inputs: dict[tuple[str, ...], Inputs] = {}
        self.copies = 0

    def component(self, name: str) -> Component:
        """The component of a G-var."""
        key = self.text.component(name)
        if key not in self._components:
            group = self.text.group(key, name in self.text.odd)
            self._components[key] = Component(self._draws, group, key, key in self.text.linear)
        return self._components[key]

    def frame(self) -> np.ndarray | None:
        """Of all innovations the principal directions of what was drawn, the widest first."""
        found = [one.directions() for one in self._components.values() if one.drawn]
        size = len(self._draws.made)
        if sum(len(deviations) for *_, deviations in found) != size:
            return None
        made, widths, end = np.zeros((size, size)), np.zeros(size), 0
        for own, directions, deviations in found:
            made[own, end : end + len(own)] = directions
            widths[end : end + len(own)] = deviations
            end += len(own)
        return made[:, np.argsort(-widths, kind="stable")]

    @property
    def lost(self) -> float:
        """How far a second moment may be off but by chance, as a part of the largest that it could be."""
        return max(self.grams.lost, self.given.lost)

    def operand(self, value: Value) -> Operand:
        """A vector as what second moments are made of."""
        return Operand(value, self.size, self.grams, self.given)

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
                    raise LimitError(f"{place(number, made_by(line)[0], self.program)}: {error}") from None
                for name in going.get(number - 1, ()):
                    self.values.pop(name, None)
                    self.known.pop(name, None)
        return {name: self.vector(name) for name in kept}

    def vector(self, name: str) -> Value:
        """A vector, as far as it is known."""
        return self.known[name] if name in self.known else self.values[name]

    def put(self, name: str, value: Value) -> None:
        value = self.laws.given.short(value)
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
            case Nonlin() if line.fn.product and any(self.undrawn(self.vector(a)) for a in line.args):
                self.put(line.name, self.multiplied(line))
            case Nonlin() if self.linear(line):
                self.put(line.name, self.applied(line))
            case Along() | Attend() if (action := action_of(self, line)) is not None:
                self.put(line.name, self.acted(line, action))
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
        if isinstance(operand, Mixed):
            operand = self.known[line.vector] = self.laws.given.whole(operand)
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
            found = self.laws.enter(channel, taken_at(operand, tuple(at)))
            rows[tuple(at)] = found.reshape(some.shape) + number * IndependentProducts.STRIDE
        if matrix.axes:
            family = self.laws.families.setdefault(
                key, IndependentProducts([c.products for c in members.values()])
            )
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
            return made.drawn() if made.crowded() and not _linear(made) else made
        if any(self.undrawn(v) for v in values):
            parts = [
                (coefs * weight[..., None], atoms)
                for value, weight, before in zip(values, weights, own, strict=True)
                for coefs, atoms in lifted_to(value, before, axes)
            ]
            return summed(_shape(parts, axes), parts)
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
            made.append(gathered_along(operand, at, rows, line.out))
        if not made:
            made = [gathered_along(operand, at, [(0, 0.0)] * len(line.rows), line.out)]
        shape = made[0].shape
        normals = [one for one in made if isinstance(one, Normal)]
        if len(normals) == len(made):
            parts = tuple(p for one in normals for p in one.parts)
            mean = sum((one.mean for one in normals), np.zeros((1,) * len(shape)))
            whole = Normal(shape, parts, mean, self.laws.component(line.name))
            return whole.drawn() if whole.crowded() and not _linear(whole) else whole
        return summed(shape, [p for one in made for p in products(one)])

    @staticmethod
    def undrawn(value: Value) -> bool:
        """Whether a vector is, or is made of, what is not drawn where it can be helped."""
        return isinstance(value, Mixed) or (
            isinstance(value, Normal) and bool(value.parts) and not value.component.drawn
        )

    def multiplied(self, line: Nonlin) -> Value:
        """The product of two vectors of which one is not drawn."""
        axes = self.vars[line.name].axes
        left, right = (lifted_to(self.vector(name), self.vars[name].axes, axes) for name in line.args)
        return multiplied(_shape((*left, *right), axes), left, right)

    def acted(self, line: Along | Attend, action: Action) -> Value:
        """What is linear in a vector that is not drawn: a tangent along axes."""
        lifted = lifted_to(self.vector(action.operand), self.vars[action.operand].axes, action.axes)
        parts = acted_on(lifted, action)
        return summed(_shape(parts, self.vars[line.name].axes), parts)

    def applied(self, line: Nonlin) -> Mixed:
        """A function of G-vars of linear components."""
        axes = self.vars[line.name].axes
        values = [self.vector(name) for name in line.args]
        own = [self.vars[name].axes for name in line.args]
        if all(isinstance(value, Normal) for value in values) and own == [axes] * len(own):
            args: tuple[Any, ...] = tuple(values)
        else:
            lifted = (lifted_to(v, before, axes) for v, before in zip(values, own, strict=True))
            args = tuple(tuple((coefs[..., :1], atoms) for coefs, atoms in terms) for terms in lifted)
        shapes = [arg.shape if isinstance(arg, Normal) else _shape(arg, axes) for arg in args]
        atom = Atom(np.broadcast_shapes(*shapes), ((line.fn, args),))
        return Mixed(atom.shape, ((np.ones((1,) * (2 + len(axes))), (atom,)),))

    def linear(self, line: Nonlin) -> bool:
        """Whether a function stays a factor: it does of what is not drawn, but for tangents."""
        values = [self.vector(name) for name in line.args]
        return not line.fn.product and any(
            not atom.odd
            for value in values
            if self.undrawn(value)
            for _, atoms in products(value)
            for atom in atoms
            if isinstance(atom, Atom)
        )

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
            some = [some_of(v, slice(i, i + CHUNK)) for v in cores]
            flat[i : i + CHUNK] = np.diagonal(second(*some))
        return made


def _linear(normal: Normal) -> bool:
    """Whether G-vars are of a component of which nothing is drawn."""
    return not (normal.component.drawn or normal.component.group.odd)


def _shape(parts: Iterable[Product], axes: Axes) -> tuple[int, ...]:
    """The shape of a family along ``axes`` that is made of such products."""
    many = (max(coefs.shape[0], *(atom.shape[0] for atom in atoms), 1) for coefs, atoms in parts)
    return (max(many, default=1), *(n for _, n in axes))
