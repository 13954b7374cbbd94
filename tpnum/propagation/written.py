"""A block that a program writes, y from x: what layers are, line by line.

>>> p = tp.Program()
>>> x = p.vector("x")
>>> y = p.matrix("W", var=1.5) @ tp.tanh(x) + p.vector("b", var=0.1)
>>> points, edge = propagation.fixed_points((x, y)), tp.critical((x, y), free=("W",))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tpnum.errors import SpecError, TpnumError
from tpnum.nn.base import Block, Features
from tpnum.program import Program, Vector
from tpnum.program.lines import Data, Input, Known, Line, Matrix, Transpose
from tpnum.program.text import made_by, place, used_by

if TYPE_CHECKING:
    from tpnum.program.lines import Axes


@dataclass(frozen=True)
class Written:
    """The map from a vector ``argument`` of a program to ``results``, vectors with weights."""

    program: Program
    argument: str
    results: tuple[tuple[float, str], ...]

    def __post_init__(self) -> None:
        if not self._descendants:
            names = ", ".join(repr(name) for _, name in self.results)
            raise SpecError(f"block: {names} does not depend on {self.argument!r}")
        needed = self._needed
        for line in self.program.lines:
            if not needed & set(made_by(line)):
                continue
            if isinstance(line, Transpose):
                raise SpecError(
                    f"block: {line.matrix!r} is transposed; signals are followed through programs without "
                    "transposes, tp.limit takes any"
                )
            if isinstance(line, (Data, Known)) and line.name != self.argument:
                raise SpecError(f"block: the data {line.name!r} enter beside {self.argument!r}")
            if isinstance(line, Input) and self.argument in line.names and len(line.names) > 1:
                raise SpecError(f"block: {self.argument!r} must be independent of other vectors")

    @property
    def axes(self) -> Axes:
        return self.program.vars[self.argument].axes

    @property
    def dim(self) -> str:
        """The class of what enters, which is that of the channels of data."""
        var = self.program.vars[self.argument]
        line = self._line
        return line.channels if isinstance(line, Data) else var.dim

    @property
    def _line(self) -> Line:
        return next(line for line in self.program.lines if self.argument in made_by(line))

    def require_repeatable(self) -> None:
        """Refuse a block whose output is of another class, or has other axes, than its input."""
        for _, name in self.results:
            var = self.program.vars[name]
            if (var.dim, var.axes) != (self.dim, self.axes) and not isinstance(self._line, Data):
                raise SpecError(
                    f"block: {self._place(name)} is in {_spelled(var.dim, var.axes)}, {self.argument!r} in "
                    f"{_spelled(self.dim, self.axes)}; a block that is repeated gives what it takes"
                )
            if var.axes != self.axes:
                raise SpecError(
                    f"block: {self._place(name)} has axes {dict(var.axes)}, {self.argument!r} "
                    f"{dict(self.axes)}; a block that is repeated gives what it takes"
                )

    def _place(self, name: str) -> str:
        lines = self.program.lines
        return place(next(n for n, line in enumerate(lines, 1) if name in made_by(line)), name)

    def emitted(self, data: str, channels: str) -> tuple[Program, Features, list[tuple[str, str, Features]]]:
        """The same program with the argument drawn from data: it, the argument, and what every line makes."""
        made = Program()
        for dim, ratio in self.program.dims.items():
            made.dim(dim, ratio)
        if self.dim not in made.dims:
            made.dim(self.dim, 1.0)
        before = self._needed
        x = made.matmul(
            made.matrix(made._auto("from", bare=True), 1.0, self.dim, channels, trained=False),
            made.data(data, self.axes, channels=channels),
            name=self.argument,
        )
        for line in self.program.lines:
            if line is not self._line and set(made_by(line)) & before:
                made.append(line)
        rows = []
        for number, line in enumerate(self.program.lines, 1):
            for name in made_by(line):
                var = made.vars.get(name)
                if var is not None and var.kind in "GH" and name in self._descendants:
                    rows.append((place(number, name), type(line).__name__, _features([made[name]])))
        total = float(sum(weight for weight, _ in self.results))
        end = Features(
            tuple(Block(made[name], max(1, round(4096 * w / total))) for w, name in self.results), self.axes
        )
        if len(self.results) > 1 or not rows:
            rows.append(("output", "output", end))
        return made, _features([x]), rows

    @property
    def _needed(self) -> set[str]:
        """All that the results are made from."""
        found = {name for _, name in self.results}
        for line in reversed(self.program.lines):
            if set(made_by(line)) & found and line is not self._line:
                found |= set(used_by(line))
        return found

    @property
    def _descendants(self) -> set[str]:
        """What of this the argument enters."""
        found = {self.argument}
        for line in self.program.lines:
            if line is not self._line and any(name in found for name in used_by(line)):
                found.update(made_by(line))
        return (found & self._needed) - {self.argument}

    # --- parameters: the deviations of matrices and vectors, by their names

    def parameters(self) -> Iterator[str]:
        """The names of matrices and of single inputs."""
        needed = self._needed
        for line in self.program.lines:
            if isinstance(line, Matrix) and line.name in needed:
                yield line.name
            elif isinstance(line, Input) and len(line.names) == 1 and line.names[0] != self.argument:
                yield from (name for name in line.names if name in needed)

    def with_parameters(self, values: Mapping[str, float]) -> Written:
        """The block with these deviations."""
        made = Program()
        for dim, ratio in self.program.dims.items():
            made.dim(dim, ratio)
        for line in self.program.lines:
            if isinstance(line, Matrix) and line.name in values:
                square = float(values[line.name]) ** 2
                line = replace(line, var=square, tangent=square if line.tangent else 0.0)
            elif isinstance(line, Input) and len(line.names) == 1 and line.names[0] in values:
                line = replace(line, cov=((float(values[line.names[0]]) ** 2,),))
            made.append(line)
        return Written(made, self.argument, self.results)

    def __repr__(self) -> str:
        ends = ", ".join(name for _, name in self.results)
        return f"<block {self.argument} -> {ends} of {len(self.program.lines)} lines>"


def _spelled(dim: str, axes: Axes) -> str:
    return repr(dim) + "".join(f", {name} of {size}" for name, size in axes)


def _features(vectors: list[Vector]) -> Features:
    return Features(tuple(Block(v, 1) for v in vectors), vectors[0].axes)


def written(given: Any, name: str) -> Written | None:
    """A block that a program writes, None of what is no program and no vectors of one."""
    if isinstance(given, Written):
        return given
    if isinstance(given, Program):
        return _of_program(given, name)
    if isinstance(given, (tuple, list)) and len(given) == 2 and all(isinstance(v, Vector) for v in given):
        x, y = given
        try:
            x.program._own(y)
        except TpnumError as problem:
            raise SpecError(f"{name}: {problem}") from None
        end, start = y.name, x.name
        return Written(x.program.copy(), start, ((1.0, end),))
    return None


def _of_program(p: Program, name: str) -> Written:
    data = [line.name for line in p.lines if isinstance(line, Data)]
    if len(data) != 1 or not p.outputs:
        raise SpecError(
            f"{name}: of a program one data line and an output are needed, it has {len(data)} and "
            f"{len(p.outputs)}; or give the pair (x, y) of two of its vectors"
        )
    return Written(p.copy(), data[0], p.outputs)
