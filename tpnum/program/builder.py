"""`Program`: straight-line tensor programs written with operators (SL sec. 3).

>>> p = tp.Program()
>>> x = p.vector("x")
>>> W = p.matrix("W", var=2.0)
>>> g = W @ x
>>> h = p.apply("relu", g)
>>> b = W.T @ h
>>> m = p.mean(h * b)
>>> print(p)
 1  G  x ~ N(0, 1) in n
 2  A  W ~ N(0, 2/n), n x n, tangent 2
 3  G  g1 = W @ x
 4  H  h1 = relu(g1)
 5  A  W.T = transpose of W
 6  G  g2 = W.T @ h1
 7  S  m1 = mean(h1*g2)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tpnum import functions
from tpnum.arguments import number, shown
from tpnum.errors import ProgramError
from tpnum.program import backward as reverse
from tpnum.program import expand as expansion
from tpnum.program import reads as read
from tpnum.program import serial
from tpnum.program import tangent as differentiated
from tpnum.program.calls import as_function, handle_of, split_arguments
from tpnum.program.handle import Handle, is_number
from tpnum.program.inputs import Inputs
from tpnum.program.lines import (
    Along,
    Arith,
    Attend,
    LinComb,
    Map,
    MatMul,
    Moment,
    Nonlin,
    Softmax,
    Term,
    Transpose,
)
from tpnum.program.reads import listed, reads
from tpnum.program.scan import Loop
from tpnum.program.text import program_text
from tpnum.program.values import MatrixVar, Scalar, Vector

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.program.backward import Gradients


def _variables(values: Any, name: str) -> list[Any] | None:
    return None if values is None and name == "wrt" else listed(values, name)


class Program(Inputs):
    """An append-only list of checked lines, with operators to write them."""

    # --- readings

    def __str__(self) -> str:
        return program_text(self)

    def digest(self) -> str:
        """A hash of the content that is the same in every process."""
        return serial.digest(self)

    def to_json(self) -> str:
        """The program as JSON text."""
        return serial.to_json(self)

    @classmethod
    def from_json(cls, text: str, modules: Iterable[str] = ()) -> Program:
        """The program that `to_json` wrote, checked again.

        ``modules``: the names of the modules whose functions the text may name.  A user's function is stored
        by its module and name, and reading it imports, that is runs, that module: no text can have anything
        imported that is not allowed here.
        """
        return serial.from_json(text, cls.from_lines, modules)

    def unrolled(self) -> Program:
        """The same program without scans: their axes are split everywhere (`tpnum.program.expand`)."""
        return expansion.unrolled(self)._of(self, "unrolled")

    @reads(axes=read.axis_names)
    def expand(self, axes: Iterable[str] | None = None) -> Program:
        """The scalar lines of every family (or of the given axes)."""
        return expansion.expand(self, axes)._of(self, "expanded")

    def tangent(self) -> Program:
        """The program with its tangent lines, whose law is the NTK; `tangents` names them."""
        return differentiated.tangent(self)._of(self, "tangent")

    @reads(wrt=_variables, stop=_variables)
    def backward(
        self, seeds: Mapping[Any, Any], wrt: Iterable[Any] | None = None, stop: Iterable[Any] = ()
    ) -> Gradients:
        """Append the gradient program and return the gradients by variable.

        The gradient of a scan is a scan in the other direction; what is asked for inside of it (fresh noise)
        comes as a family over its axis.

        Parameters
        ----------
        seeds : {g: v}, vectors or scalars of this program with their seeds (variables or numbers), for the
            loss L = sum over seeds of sum_a v_a g_a; a scalar m with seed w adds n w m to it, n the width of
            a CDC of ratio 1.
        wrt : the variables whose gradients are wanted; None: all that random inputs and trained matrices
            enter through.
        stop : vectors and scalars that count as constants.

        Returns
        -------
        Gradients : ``grads[x]`` is the vector dL/dx, ``grads[W]`` an `Outer`, ``grads[s]`` the scalar
            (1/n) dL/ds.

        Raises
        ------
        ProgramError : a function without a derivative (the line is quoted), a seed of another CDC or axis,
            a matrix as a seed, a scan inside a scan (differentiate ``p.unrolled()``).
        """
        if not isinstance(seeds, Mapping):
            raise ProgramError(f"seeds: a dict of variables and their seeds is needed, not {shown(seeds)}")
        for of, seed in seeds.items():
            if not isinstance(of, Handle) or not (isinstance(seed, Handle) or is_number(seed)):
                raise ProgramError(
                    f"seeds: {shown(of)}: {shown(seed)} is not a variable of the program and its seed"
                )
        for name, given in (("wrt", wrt), ("stop", stop)):
            wrong = next((v for v in given or () if not isinstance(v, (Handle, str))), None)
            if wrong is not None:
                raise ProgramError(f"{name}: {shown(wrong)} is not a variable of the program")
        return reverse.backward(self, seeds, wrt, stop)

    # --- lines

    def __getitem__(self, name: str) -> Any:
        """The handle of a variable."""
        return self._handle(name)

    @reads(matrix=handle_of, vector=handle_of, name=read.named)
    def matmul(self, matrix: MatrixVar, vector: Handle, name: str | None = None) -> Vector:
        """``matrix @ vector``, a G-var of the matrix's rows; the vector is of its columns."""
        self._own(matrix, vector)
        operand = vector.name
        made = name or self._auto("g")
        self._append(MatMul(made, matrix.name, operand))
        return Vector(self, made)

    @reads(name=read.named)
    def lincomb(self, terms: Iterable[tuple[Any, ...]], name: str | None = None) -> Vector:
        """Sum of (number or Scalar, vector) or (number, vector, Scalar)."""
        made: list[Term] = []
        for term in listed(terms, "terms"):
            if not isinstance(term, (tuple, list)) or len(term) not in (2, 3):
                raise ProgramError(
                    f"terms: {shown(term)} is not (number, vector) or (number, vector, Scalar)"
                )
            coef, v, *more = term
            self._own(v, *more)
            if not isinstance(v, Vector) or not all(isinstance(s, Scalar) for s in more):
                raise ProgramError(
                    f"terms: {shown(term)} is not (number, vector) or (number, vector, Scalar)"
                )
            if not isinstance(coef, Scalar):
                coef = number(coef, f"the coefficient of {v.name!r}", error=ProgramError)
            made += (coef * (more[0] * v if more else v))._terms()
        out = self._lincomb(tuple(made))
        return out.named(name) if name else out

    @reads(kinks=read.kinks, name=read.named)
    def apply(
        self,
        f: str | Function | Callable[..., Any],
        *args: Any,
        derivative: Any = None,
        kinks: Sequence[float] = (),
        name: str | None = None,
    ) -> Any:
        """f(*vectors, *scalars), coordinatewise: a function of the library by name, or your own.

        ``derivative`` and ``kinks`` belong to a function of your own.  Of scalars alone it is a scalar.
        """
        vectors, scalars = split_arguments(self, f, args)
        if not vectors and not scalars:
            raise ProgramError("apply: args are needed, the vectors and scalars that the function is of")
        if not vectors:
            fn = as_function(f, len(scalars), 0, derivative, kinks)
            out = self._arith(fn, tuple(s.name for s in scalars))
            return out.named(name) if name else out
        fn = as_function(f, len(vectors), len(scalars), derivative, kinks)
        names = tuple(v.name for v in vectors), tuple(s.name for s in scalars)
        made = name or self._auto("h")
        self._append(Nonlin(made, fn, *names))
        return Vector(self, made)

    @reads(kinks=read.kinks, name=read.named)
    def moment(
        self, f: Any, *args: Any, name: str | None = None, derivative: Any = None, kinks: Sequence[float] = ()
    ) -> Scalar:
        """The scalar (1/n) sum_a f(args_a...; scalars...), E f in the limit; arguments as in `apply`."""
        vectors, scalars = split_arguments(self, f, args)
        fn = as_function(f, len(vectors), len(scalars), derivative, kinks)
        names = tuple(v.name for v in vectors), tuple(s.name for s in scalars)
        made = name or self._auto("m")
        self._append(Moment(made, fn, *names))
        return Scalar(self, made)

    @reads(vector=handle_of, name=read.named)
    def mean(self, vector: Handle, name: str | None = None) -> Scalar:
        """The average over coordinates, E Z in the limit; of a product h * b without a line for it."""
        self._own(vector)
        line = vector.pending if isinstance(vector, Vector) else None
        if isinstance(line, LinComb) and len(line.terms) == 1 and not name:
            (t,) = line.terms
            inner = t.coef * self.mean(Vector(self, t.vector))
            return Scalar(self, t.scalar) * inner if t.scalar else inner
        if isinstance(line, Nonlin):
            made = name or self._auto("m")
            self._append(Moment(made, line.fn, line.args, line.scalars))
            return Scalar(self, made)
        operand = vector.name
        made = name or self._auto("m")
        self._append(Moment(made, functions.get("identity"), (operand,)))
        return Scalar(self, made)

    def attend(
        self,
        logits: Vector,
        vector: Vector,
        *axes: str,
        weights: Scalar | None = None,
        name: str | None = None,
    ) -> Vector:
        """The sum over ``axes`` of softmax(logits) * vector, both vectors: attention with random logits.

        Positions of weight 0 (``weights``, scalars, are at least 0) take no part.
        """
        kinds = (logits, Vector, "logits"), (vector, Vector, "vector"), (weights, Scalar, "weights")
        for handle, kind, argument in kinds:
            if handle is None and kind is Scalar:
                continue
            if not isinstance(handle, kind):
                what = kind.__name__.lower()
                raise ProgramError(f"{argument}: a {what} of the program is needed, not {shown(handle)}")
            self._own(handle)
        names = logits.name, vector.name, tuple(read.text(axis, "axes") for axis in axes)
        made = read.named(name, "name") or self._auto("h")
        self._append(Attend(made, *names, "" if weights is None else weights.name))
        return Vector(self, made)

    @reads(operand=handle_of, axis=read.text, out=read.axes, rows=read.rows, name=read.named)
    def map(self, operand: Any, axis: str, out: Any, rows: Any, name: str | None = None) -> Any:
        """A linear map of one index axis of a vector or scalar family, y[q] = sum over p of A[q, p] x[p].

        ``axis`` becomes the axes ``out``, (("t", 5),) as in `vector`, none if it is summed over; ``rows``
        has, for each of their positions q in C order, the pairs (p, A[q, p]) that are not 0.
        """
        self._own(operand)
        source = operand.name
        made = name or self._auto({"S": "s", "H": "h", "D": "d"}.get(operand.kind, "g"))
        self._append(Map(made, source, axis, out, rows))
        return type(operand)(self, made)

    @reads(value=read.real, dim=read.text)
    def constant(self, value: float, dim: str = "n") -> Scalar:
        """A number as a scalar variable, for functions that take scalars."""
        return self.moment(functions.get("constant", c=value), self.ones(dim))

    @reads(axis=read.text, size=read.size_or_none)
    def scan(self, axis: str, size: int | None = None) -> Loop:
        """A recurrence along an axis, for a ``with`` statement (`tpnum.program.scan.Loop`)."""
        return Loop(self, axis, size)

    # --- what the operators call

    def _handle(self, name: str) -> Any:
        kind = self._var(name).kind
        return (MatrixVar if kind == "A" else Scalar if kind == "S" else Vector)(self, name)

    def _lincomb(self, terms: tuple[Term, ...]) -> Vector:
        merged: dict[tuple[str, str], float] = {}
        for t in terms:
            merged[t.vector, t.scalar] = merged.get((t.vector, t.scalar), 0.0) + t.coef
        kept = {key: c for key, c in merged.items() if c != 0.0}

        def axes_of(keys: Iterable[tuple[str, str]]) -> set[Any]:
            return {a for key in keys for n in key if n for a in self._var(n).axes}

        if not kept or axes_of(kept) != axes_of(merged):
            kept = merged
        line = LinComb("", tuple(Term(c, v, s) for (v, s), c in kept.items()))
        return Vector(self, "", line, self._scope)

    def _product(self, a: Vector, b: Vector) -> Vector:
        x, y = a.name, b.name
        fn, args = (functions.get("square"), (x,)) if x == y else (functions.get("mul"), (x, y))
        return Vector(self, "", Nonlin("", fn, args), self._scope)

    def _arith(self, fn: Function, scalars: tuple[str, ...]) -> Scalar:
        made = self._auto("s")
        self._append(Arith(made, fn, scalars))
        return Scalar(self, made)

    def _along(self, fn: str, vector: Vector, over: tuple[str, ...], eps: float = 0.0) -> Vector:
        operand, made = vector.name, self._auto("h")
        self._append(Along(made, fn, (operand,), over, eps))
        return Vector(self, made)

    def _softmax(self, logits: Scalar, over: tuple[str, ...], weights: Scalar | None) -> Scalar:
        names = logits.name, over, "" if weights is None else weights.name
        made = self._auto("s")
        self._append(Softmax(made, *names))
        return Scalar(self, made)

    def _transpose(self, matrix: str) -> str:
        for line in self._root.lines:
            if isinstance(line, Transpose):
                if line.matrix == matrix:
                    return line.name
                if line.name == matrix:
                    return line.matrix
        name = self._auto(f"{matrix}.T", bare=True)
        self._append(Transpose(name, matrix), self._root)
        return name
