"""What a program is given: Gaussian vectors, data, known numbers and random matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from tpnum.arguments import finite_array, number, real_array
from tpnum.errors import ProgramError
from tpnum.program import reads as read
from tpnum.program.known import append_table
from tpnum.program.lines import Axes, Data, Input, Known, Matrix
from tpnum.program.reads import reads
from tpnum.program.state import State
from tpnum.program.values import MatrixVar, Scalar, Vector

if TYPE_CHECKING:
    from tpnum.program.builder import Program

H = TypeVar("H", MatrixVar, Scalar, Vector)
_LOOSE: dict[str, Any] = {"error": ProgramError}


class Inputs(State):
    """The lines that read no other ones, for a `Program` to go on from."""

    @reads(dim=read.text, axes=read.axes, fresh=read.flag)
    def vectors(
        self,
        *names: str,
        mean: Sequence[float] | float = 0.0,
        cov: Any = None,
        dim: str = "n",
        axes: Any = (),
        fresh: bool = False,
        trained: bool | float = False,
    ) -> tuple[Vector, ...]:
        """Jointly Gaussian input G-vars (independent with variance 1 by default), as `vector` is one.

        ``names`` are theirs, ``mean`` is a number or one for each, ``cov`` their covariance at a coordinate.
        """
        k, label = len(names), ", ".join(read.text(name, "name") for name in names)
        means = real_array(mean, f"mean of {label}", ProgramError)
        table = real_array(np.eye(k) if cov is None else cov, f"cov of {label}", ProgramError)
        if means.shape not in ((), (k,)) or table.shape != (k, k):
            raise ProgramError(f"cov of {label} must be a {k} x {k} table of numbers, mean {k} of them")
        mean, cov = tuple(np.broadcast_to(means, k).tolist()), tuple(map(tuple, table.tolist()))
        return self._inputs(names, mean, cov, dim, axes, fresh, trained)

    def _inputs(
        self,
        names: tuple[str, ...],
        mean: tuple[float, ...],
        cov: tuple[tuple[float, ...], ...],
        dim: str,
        axes: Axes,
        fresh: bool,
        trained: bool | float,
    ) -> tuple[Vector, ...]:
        scale = (
            float(trained) if isinstance(trained, bool) else number(trained, "trained", error=ProgramError)
        )
        self._append(Input(names, dim, mean, cov, axes, fresh, scale), self._scope if fresh else self._root)
        return tuple(self._made(Vector, n) for n in names)

    @reads(name=read.text, dim=read.text, axes=read.axes, fresh=read.flag)
    def vector(
        self,
        name: str,
        mean: float = 0.0,
        var: float = 1.0,
        dim: str = "n",
        axes: Any = (),
        fresh: bool = False,
        trained: bool | float = False,
    ) -> Vector:
        """One input G-var of coordinates N(mean, var): a seed, a bias (``trained``), noise (``fresh``).

        ``dim`` is its CDC, the class of vectors of one width; ``axes`` are those of a family, {"t": 5} or
        (("t", 5),), along which a fresh one is independent and others are one vector.  ``trained`` counts it
        among the parameters of the NTK, a number being the variance of its direction over its own.
        """
        means, cov = (number(mean, f"mean of {name}", **_LOOSE),), (number(var, f"var of {name}", **_LOOSE),)
        (v,) = self._inputs((name,), means, (cov,), dim, axes, fresh, trained)
        return v

    @reads(dim=read.text)
    def ones(self, dim: str = "n") -> Vector:
        """The vector of ones of a CDC (one line, made once)."""
        return self._constant("ones", 1.0, dim, ())

    @reads(dim=read.text, axes=read.axes)
    def zeros(self, dim: str = "n", axes: Any = ()) -> Vector:
        """The zero vector of a CDC (one line, made once)."""
        return self._constant("zeros", 0.0, dim, axes)

    def _constant(self, name: str, value: float, dim: str, axes: Axes) -> Vector:
        for line in self._root.lines:
            if (
                isinstance(line, Input)
                and (line.mean, line.cov, line.dim, line.axes) == ((value,), ((0.0,),), dim, axes)
                and not line.fresh
            ):
                return self._made(Vector, line.names[0])
        name = self._auto("_".join([name, *([dim] if dim != "n" else []), *(a for a, _ in axes)]), bare=True)
        return self.vector(name, mean=value, var=0.0, dim=dim, axes=axes)

    @reads(name=read.text, axes=read.axes, channels=read.text)
    def data(self, name: str, axes: Any = (), channels: str = "d") -> Vector:
        """Data: enters through matrices whose columns are ``channels``.  Axes: {"t": 5} or (("t", 5),)."""
        self._append(Data(name, channels, axes), self._root)
        return self._made(Vector, name)

    @reads(name=read.text, axes=read.axes)
    def scalars(self, name: str, axes: Any = (), values: Any = None) -> Scalar:
        """Known numbers, a scalar family over ``axes``: of each example, as a mask or the edges of a graph.

        They are given with the data, by name, as arrays (.., *axes).  ``values``, an array (*axes), makes
        them constants of the program instead, the same for all examples, as a causal mask is.
        """
        if values is None:
            self._append(Known(name, axes), self._root)
            return self._made(Scalar, name)
        table, sizes = finite_array(values, "values", error=ProgramError), tuple(size for _, size in axes)
        if table.shape != sizes:
            raise ProgramError(f"values of {name} have shape {table.shape}; its axes have the sizes {sizes}")
        append_table(self, name, axes, table)
        return self._made(Scalar, name)

    @reads(
        name=read.text,
        rows=read.text,
        cols=read.text,
        axes=read.axes,
        trained=read.flag,
        tangent=read.real_or_none,
    )
    def matrix(
        self,
        name: str,
        var: float = 1.0,
        rows: str = "n",
        cols: str = "n",
        axes: Any = (),
        trained: bool = True,
        tangent: float | None = None,
    ) -> MatrixVar:
        """A rows x cols matrix with entries N(0, var / cols); ``tangent``: the variance of its direction.

        ``rows`` and ``cols`` are CDCs, as `dim` names them; ``axes`` those of a family of independent
        matrices.  The NTK counts it among the parameters if it is ``trained``, with ``tangent`` = ``var`` by
        default.
        """
        variance = number(var, f"var of {name}", **_LOOSE)
        if tangent is None:
            tangent = variance if trained else 0.0
        self._append(Matrix(name, rows, cols, variance, tangent, axes), self._root)
        return self._made(MatrixVar, name)

    def _made(self, kind: type[H], name: str) -> H:
        """The handle of a variable; whoever has inputs is a program."""
        return kind(cast("Program", self), name)
