"""The steps of an ensemble, from the program's text: which rows they read and make, with which numbers.

A vector is either a row of samples or a combination of rows that nobody has needed as samples yet (inputs,
hats, sums).  The rows of a common dimension class are one arena, and a row is given to another vector after
its last use.  All of this is known from the program's text and is the same for every replicate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from tpnum.law.order import OPERANDS, ROWS, order
from tpnum.law.reach import Reach
from tpnum.law.rows import Scaled, Stage, allocate, is_product, ones, roles
from tpnum.law.steps import (
    Add,
    AddData,
    Apply,
    Average,
    Channel,
    Compute,
    Direction,
    Gaussians,
    Measure,
    Multiply,
    Products,
    Recall,
    Schedule,
    Step,
    Store,
    opposite,
)
from tpnum.program.lines import Arith, Input, LinComb, MatMul, Matrix, Moment, Nonlin, Transpose

if TYPE_CHECKING:
    from tpnum.program import Program
    from tpnum.program.lines import Line


NEAR = 4
"""Groups among which a sum looks for others of about the same rows."""


def schedule(
    program: Program,
    corrections: bool,
    keep: Iterable[str],
    widths: Mapping[str, int],
    written: Callable[[str], str | None] | None = None,
) -> Schedule:
    """Plan the work on an expanded program (no scans, no axes) at whose end the rows ``keep`` are there.

    All lines are computed, used or not, so that the Gaussians drawn are the same whatever is kept.
    ``widths`` are the numbers of channels of the data.  Without ``corrections`` transposes are independent
    matrices.
    """
    planner = _Planner(program, corrections, list(keep), widths)
    planner.stages()
    return planner.finished(written or (lambda name: None))


def _hat(name: str) -> str:
    """The innovation of a product; no variable has a blank in its name."""
    return f"{name} innovation"


def _hats(direction: Direction) -> str:
    """All innovations of a channel."""
    return f"{direction} hats"


def _operands(direction: Direction) -> str:
    return f"{direction} operands"


def _array(items: Iterable[object]) -> np.ndarray:
    return np.array(list(items), dtype=np.int64)


class _Planner:
    def __init__(
        self, program: Program, corrections: bool, keep: list[str], widths: Mapping[str, int]
    ) -> None:
        self.program, self.keep, self.widths = program, keep, widths
        self.vars = program.vars
        self.number: dict[str, int] = {}
        self.direction: dict[str, Direction] = {}
        self.channels: dict[Direction, Channel] = {}
        self.scalars: dict[str, int] = {}
        self._index()
        self.made: list[Stage] = []
        self.roles = roles(program.lines, self.vars, keep)
        self.gaussians: dict[str, int] = {}
        self.behind: dict[str, set[str]] = {}  # the rows that a combination consists of
        self.groups_of: dict[str, list[str]] = {}  # row -> the groups of rows that it lives as long as
        self.place: dict[str, dict[Direction, int]] = {}  # operand -> its number among a channel's
        self.reach = Reach(corrections)
        self.measured: dict[str, tuple[int, np.ndarray, list[np.ndarray | None]]] = {}
        self.rows: dict[str, int] = {}

    def _index(self) -> None:
        matrices: dict[str, Matrix] = {}
        for number, line in enumerate(self.program.lines, 1):
            names = line.names if isinstance(line, Input) else (line.name,)  # type: ignore[union-attr]
            for name in names:
                self.number[name] = number
            match line:
                case Matrix():
                    matrices[line.name] = line
                    self.direction[line.name] = (line.name, False)
                    self.channels[line.name, False] = Channel(
                        line.var, line.cols, line.rows, line.cols in self.widths
                    )
                case Transpose():
                    root = matrices[line.matrix]
                    ratio = self.program.dims[root.rows] / self.program.dims.get(root.cols, 1.0)
                    self.direction[line.name] = (root.name, True)
                    self.channels[root.name, True] = Channel(root.var * ratio, root.rows, root.cols, False)
                case Moment() | Arith():
                    self.scalars[line.name] = len(self.scalars)

    # --- stages

    def stages(self) -> None:
        """Choose the order of work."""
        waiting: dict[str, list[str]] = {}
        now = 0
        for at, kind, lines in order(self.program.lines, self.vars, self.direction, self.roles):
            if at != now or kind > ROWS:
                self._store(waiting)
                now = at
            if kind == OPERANDS:
                self._measure([line for line in lines if isinstance(line, MatMul)])
            else:
                self._stage(lines, waiting)
        self._store(waiting)

    def _stage(self, lines: list[Line], waiting: dict[str, list[str]]) -> None:
        match lines[0]:
            case Input(dim=dim):
                names = [n for line in lines if isinstance(line, Input) for n in line.names]
                self._gaussians(dim, names)
                self._add_inputs(dim, [n for n in names if n not in self.roles.alias], waiting)
            case Nonlin():
                self._apply([line for line in lines if isinstance(line, Nonlin)])
            case MatMul():
                self._multiply([line for line in lines if isinstance(line, MatMul)], waiting)
            case LinComb(name=name) if self.vars[name].kind == "D":
                self._add_data(lines[0])
            case LinComb():
                self._add([line for line in lines if isinstance(line, LinComb)], waiting)
            case Moment(fn=fn):
                moments = [line for line in lines if isinstance(line, Moment)]
                self._products(moments) if is_product(fn) else self._average(moments)
            case Arith():
                self._compute([line for line in lines if isinstance(line, Arith)])

    def _append(
        self, build: Callable[[], Step], reads: Iterable[str] = (), makes: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.made.append(Stage(build, {self.roles.row(n) for n in reads}, list(makes)))

    def _number(self, scalar: str) -> int:
        return self.scalars[scalar] if scalar else len(self.scalars)

    def _row(self, name: str) -> int:
        return self.rows[self.roles.row(name)]

    def _rows(self, names: Iterable[str]) -> np.ndarray:
        return _array(self._row(n) for n in names)

    # --- inputs

    def _gaussians(self, dim: str, names: list[str]) -> None:
        parts = list(dict.fromkeys(part for n in names for part, _ in self.roles.latent[n]))
        normals = [p for p in parts if p != ones(dim)]
        places = _array(self._coordinate(dim) for _ in normals)
        constant = [p for p in parts if p == ones(dim)]
        self._append(
            lambda: Gaussians(dim, normals, self._rows(normals), places, self._rows(constant)),
            makes=((dim, p) for p in parts),
        )

    def _coordinate(self, dim: str) -> int:
        self.gaussians[dim] = self.gaussians.get(dim, 0) + 1
        return self.gaussians[dim] - 1

    def _add_inputs(self, dim: str, names: list[str], waiting: dict[str, list[str]]) -> None:
        terms = [(i, part, c) for i, n in enumerate(names) for part, c in self.roles.latent[n]]
        for n in names:
            self.behind[n] = {part for part, _ in self.roles.latent[n]}
        one = len(self.scalars)
        self._append(
            lambda: Add(
                dim,
                names,
                _array(i for i, _, _ in terms),
                self._rows(part for _, part, _ in terms),
                np.array([c for _, _, c in terms]),
                np.full((2, len(terms)), one),
                [],
            )
        )
        waiting.setdefault(dim, []).extend(n for n in names if n in self.roles.stored)

    # --- sums and rows

    def _add(self, lines: list[LinComb], waiting: dict[str, list[str]]) -> None:
        dim = self.vars[lines[0].name].dim
        rows: list[tuple[int, str, float, int, int]] = []
        others: list[tuple[int, str, float, int]] = []
        for line in lines:
            self.reach.join(line.name, (t.vector for t in line.terms))
        done = self.roles.scaled.keys() | self.roles.alias.keys()
        lines = [line for line in lines if line.name not in done]
        for i, line in enumerate(lines):
            behind = self.behind[line.name] = set[str]()
            for t in line.terms:
                row, coef, scalar = self.roles.part(t.vector)
                if row in self.roles.stored:
                    rows.append((i, row, coef * t.coef, self._number(t.scalar), self._number(scalar)))
                    behind.add(self.roles.row(row))
                else:
                    others.append((i, row, t.coef, self._number(t.scalar)))
                    behind |= self.behind[row]
        if not lines:
            return
        names = [line.name for line in lines]
        at, coefs = _array(r[0] for r in rows), np.array([r[2] for r in rows], dtype=float)
        scalars = _array(r[3:] for r in rows).reshape(-1, 2).T.copy()
        self._append(lambda: Add(dim, names, at, self._rows(r[1] for r in rows), coefs, scalars, others))
        waiting.setdefault(dim, []).extend(n for n in names if n in self.roles.stored)

    def _add_data(self, line: Line) -> None:
        assert isinstance(line, LinComb)
        terms = [(t.coef, t.vector, self._number(t.scalar)) for t in line.terms]
        self._append(lambda: AddData(line.name, terms))

    def _store(self, waiting: dict[str, list[str]]) -> None:
        """Turn the combinations that were made into rows, those of about the same rows together."""
        for dim, names in waiting.items():
            groups: list[tuple[list[str], set[str]]] = []
            for name in names:
                own = self.behind[name]
                for some, rows in groups[-NEAR:]:
                    if len(rows | own) <= 2 * min(len(own), len(self.behind[some[0]])):
                        some.append(name)
                        rows |= own
                        break
                else:
                    groups.append(([name], set(own)))
            for some, rows in groups:
                self._append_store(dim, some, rows)
        waiting.clear()

    def _append_store(self, dim: str, names: list[str], reads: Iterable[str]) -> None:
        self._append(lambda: Store(dim, names, self._rows(names)), reads, ((dim, n) for n in names))

    # --- functions, moments, scalars

    def _apply(self, lines: list[Nonlin]) -> None:
        dim, fn = self.vars[lines[0].name].dim, lines[0].fn
        names = [line.name for line in lines]
        scalars = self._scalar_table(lines)
        for line in lines:
            self.reach.join(line.name, line.args)
        self._append(
            lambda: Apply(dim, fn, names, self._arguments(lines), scalars, self._rows(names)),
            (a for line in lines for a in line.args),
            ((dim, n) for n in names),
        )

    def _arguments(self, lines: list[Nonlin] | list[Moment]) -> np.ndarray:
        return np.array([[self._row(a) for a in line.args] for line in lines], dtype=np.int64).T.copy()

    def _scalar_table(self, lines: list[Nonlin] | list[Moment] | list[Arith]) -> np.ndarray:
        return np.array([[self.scalars[s] for s in line.scalars] for line in lines], dtype=np.int64).T.copy()

    def _products(self, lines: list[Moment]) -> None:
        """Moments of a product: recalled where one matrix has both factors as operands."""
        dim = self.vars[lines[0].args[0]].dim
        groups: dict[Direction | None, list[tuple[Moment, Scaled, Scaled]]] = {}
        for line in lines:
            left, right = self.roles.part(line.args[0]), self.roles.part(line.args[-1])
            known = self.place.get(left[0], {}).keys() & self.place.get(right[0], {}).keys()
            groups.setdefault(min(known, default=None), []).append((line, left, right))
        for direction, found in groups.items():
            self._append_products(dim, direction, found)

    def _append_products(
        self, dim: str, direction: Direction | None, found: list[tuple[Moment, Scaled, Scaled]]
    ) -> None:
        names = [line.name for line, _, _ in found]
        left, right = [f[1][0] for f in found], [f[2][0] for f in found]
        coefs = np.array([a[1] * b[1] for _, a, b in found])
        factors = [[self._number(a[2]) for _, a, _ in found], [self._number(b[2]) for _, _, b in found]]
        scalars = np.array(factors, dtype=np.int64)
        out = _array(self.scalars[n] for n in names)
        if direction is None:
            self._append(
                lambda: Products(names, dim, self._rows(left), self._rows(right), coefs, scalars, out),
                (*left, *right),
            )
        else:
            first, second = (_array(self.place[n][direction] for n in side) for side in (left, right))
            self._append(lambda: Recall(names, direction, first, second, coefs, scalars, out))

    def _average(self, lines: list[Moment]) -> None:
        dim, names = self.vars[lines[0].args[0]].dim, [line.name for line in lines]
        scalars, out = self._scalar_table(lines), _array(self.scalars[n] for n in names)
        self._append(
            lambda: Average(names, dim, lines[0].fn, self._arguments(lines), scalars, out),
            (a for line in lines for a in line.args),
        )

    def _compute(self, lines: list[Arith]) -> None:
        names = [line.name for line in lines]
        step = Compute(names, lines[0].fn, self._scalar_table(lines), _array(self.scalars[n] for n in names))
        self._append(lambda: step)

    # --- products

    def _measure(self, lines: list[MatMul]) -> None:
        """The operands of products meet each other and the opposite hats that they depend on."""
        direction = self.direction[lines[0].matrix]
        channel, back = self.channels[direction], opposite(direction)
        operands = [self.roles.part(line.vector)[0] for line in lines]
        begin = len(channel.operands)
        upto, reached = self.reach.hats(direction, operands)
        self.measured[lines[0].name] = begin, upto, reached
        channel.operands += operands
        if channel.data:
            return
        for operand in operands:
            self.groups_of.setdefault(self.roles.row(operand), []).append(_operands(direction))
        dots = bool(upto.any())
        step = Measure(direction, begin, begin + len(lines), dots)
        reads = {*operands, _operands(direction), *([_hats(back)] if dots else [])}
        self._append(lambda: step, reads)

    def _multiply(self, lines: list[MatMul], waiting: dict[str, list[str]]) -> None:
        direction = self.direction[lines[0].matrix]
        channel, back = self.channels[direction], opposite(direction)
        names, operands = [line.name for line in lines], [self.roles.part(line.vector) for line in lines]
        begin, upto, reached = self.measured.pop(names[0])
        behind = {_hats(direction), *([_operands(back)] if upto.any() else [])}
        for k, (name, (operand, _, _)) in enumerate(zip(names, operands, strict=True)):
            self.reach.product(name, direction, operand, upto[k])
            self.behind[name] = behind
            self.groups_of.setdefault(_hat(name), []).append(_hats(direction))
            self.place.setdefault(operand, {})[direction] = begin + k
            if not channel.data or begin + k < self.widths[channel.source]:
                channel.places.append(self._coordinate(channel.target))
        channel.names += names
        coefs = np.array([coef for _, coef, _ in operands])
        scalars = np.array(
            [[self._number(scalar) for _, _, scalar in operands], [self._number("")] * len(names)]
        )
        step = Multiply(
            direction,
            names,
            channel.operands[begin : begin + len(names)],
            begin,
            begin + len(names),
            upto,
            reached,
            coefs,
            scalars,
        )
        self._append(lambda: step, (), ((channel.target, _hat(n)) for n in names))
        waiting.setdefault(channel.target, []).extend(n for n in names if n in self.roles.stored)

    # --- rows

    def finished(self, written: Callable[[str], str | None]) -> Schedule:
        """Give out the rows, and write the steps with them."""
        keep = [self.roles.row(n) for n in self.keep]
        self.rows, heights = allocate(self.made, keep, self.groups_of)
        for channel in self.channels.values():
            if not channel.data:
                channel.operand_rows = self._rows(channel.operands)
            channel.hat_rows = self._rows(_hat(n) for n in channel.names)
        return Schedule(
            [stage.build() for stage in self.made],
            self.channels,
            heights,
            self.gaussians,
            self.scalars,
            {n: (self.vars[n].dim, self._row(n)) for n in self.keep},
            lambda name: written(name) or f"line {self.number[name]} ({name})",
        )
