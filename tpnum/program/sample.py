"""A program at finite width, in plain NumPy: the slow and obvious reading that checks the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum import functions
from tpnum.arguments import finite_array, shown, whole
from tpnum.errors import InputError, ProgramError
from tpnum.program.arrays import aligned, pointwise, union
from tpnum.program.calls import as_program, is_named
from tpnum.program.check import quoted
from tpnum.program.draw import Run
from tpnum.program.handle import Handle
from tpnum.program.refer import refer

if TYPE_CHECKING:
    from tpnum.program.builder import Program


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
    return drawn(program, width, whole(seed, "seed", 0), arrays_of(data, "data"), arrays_of(given, "given"))


def drawn(
    program: Program,
    width: int | Mapping[str, int],
    seed: int,
    data: dict[str, np.ndarray],
    given: dict[str, np.ndarray],
    stop: Callable[[], None] = lambda: None,
) -> Sample:
    """`simulate`, of arguments that are checked; ``stop`` is called often, and may raise."""
    run = Run(program, width, seed, data, given, stop)
    for number, line in enumerate(program.lines, 1):
        try:
            run.line(line)
        except (ProgramError, InputError) as error:
            said = quoted(str(error), line, str(number), program.vars)
            raise (said if isinstance(error, ProgramError) else InputError(str(said))) from None
    return Sample(program, run.values, run.examples, run.widths)


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
        axes = union(variables)
        vectors = {v.dim for v in variables if v.kind != "S"}
        if not vectors:
            scalars = f"; {names[0]!r} is a scalar: ask for .scalar of it" if names else ""
            raise InputError(f"expect needs vectors of one CDC, at least one{scalars}")
        if len(vectors) > 1:
            raise InputError(f"expect needs vectors of one CDC, not of {sorted(vectors)}")
        if not is_named(f) and not callable(f):
            raise InputError(f"f is {shown(f)}: a function of arrays or the name of one is needed")
        fn: Callable[..., Any] = functions.get(f) if is_named(f) else f  # type: ignore[assignment]
        arrays = [aligned(self._values[n], v, axes) for n, v in zip(names, variables, strict=True)]
        lead = (self.examples or 1, *(n for _, n in axes))
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        made = pointwise(fn, getattr(fn, "__name__", str(fn)), arrays)
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
