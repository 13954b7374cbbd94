"""What the handles of vectors and scalars have in common: NumPy's functions and maps of index axes."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeGuard

import numpy as np

from tpnum.arguments import shown
from tpnum.errors import ProgramError
from tpnum.program import reads as read
from tpnum.program.lines import Axes, Var
from tpnum.program.maps import Mean, Shift, Sum, selection
from tpnum.program.reads import reads
from tpnum.program.windows import Pool, Window

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.program.builder import Program
    from tpnum.program.scope import Scope

_UFUNC_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "true_divide": lambda a, b: a / b,
    "divide": lambda a, b: a / b,
    "power": lambda a, b: a**b,
    "negative": lambda a: -a,
    "positive": lambda a: a,
    "matmul": lambda a, b: a @ b,
}


def is_number(x: object) -> TypeGuard[float]:
    """Whether ``x`` is a real number (not an array)."""
    if isinstance(x, numbers.Real):
        try:
            float(x)
        except OverflowError:
            raise ProgramError(f"{shown(x)} is too large for a float") from None
        return True
    return getattr(x, "shape", None) == () and np.asarray(x).dtype.kind in "fiu"


class Handle:
    """A variable of a program: what the operators of vectors and scalars have in common."""

    __slots__ = ("__weakref__", "_name", "program")
    program: Program
    _name: str

    @property
    def name(self) -> str:
        """The variable's name."""
        return self._name

    @property
    def var(self) -> Var:
        """The variable's record."""
        return self.program._var(self.name)

    @property
    def made_in(self) -> Scope | None:
        """The scope of a sum or product that is not a line yet."""
        return None

    @property
    def kind(self) -> str:
        """One of "AGHSD"."""
        return self.var.kind

    @property
    def axes(self) -> Axes:
        """Named index axes."""
        return self.var.axes

    def __repr__(self) -> str:
        v = self.var
        index = "[" + ",".join(f"{a}:{n}" for a, n in v.axes) + "]" if v.axes else ""
        return f"<{type(self).__name__} {v.kind} {self.name}{index}>"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self is other or (self.program is other.program and self._key() == other._key())

    def __hash__(self) -> int:
        return hash((id(self.program), self._key()))

    def _key(self) -> object:
        return self.name

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            raise ProgramError(f"np.{ufunc.__name__} on a variable of a program takes no options")
        clean = [float(x) if is_number(x) else x for x in inputs]
        for x in clean:
            if not isinstance(x, Handle) and not is_number(x):
                raise ProgramError(f"np.{ufunc.__name__} mixes a program's variable with {type(x).__name__}")
        if ufunc.__name__ in _UFUNC_OPERATORS:
            return _UFUNC_OPERATORS[ufunc.__name__](*clean)
        return self.program.apply(ufunc.__name__, *clean)

    def __tpnum_apply__(self, fn: Function, args: Sequence[Any], scalars: Sequence[Any] = ()) -> Any:
        """Called by a `Function` that meets this handle among its arguments."""
        return self.program.apply(fn, *args, *scalars)

    # --- linear maps on index axes

    @reads(axis=read.text)
    def _size(self, axis: str) -> int:
        sizes = dict(self.axes)
        if axis not in sizes:
            raise ProgramError(f"{self.name!r} has no axis {axis!r}; its axes are {list(sizes)}")
        return sizes[axis]

    def map(self, axis: str, out: Any, rows: Any, name: str | None = None) -> Any:
        """A linear map of one axis to the axes ``out``.

        ``rows``: for each index of the result the pairs (index, weight) that are summed, or a record of
        `tpnum.program.maps` or `tpnum.program.windows`.
        """
        return self.program.map(self, axis, out, rows, name=name)

    def shift(self, boundary: str = "zero", **by: int) -> Any:
        """``h.shift(t=1)``: the value at t is the previous one, zero (or wrapped) at the border."""
        v: Any = self
        for axis, n in by.items():
            size, n = v._size(axis), read.whole(n, f"shift along {axis}")
            v = v.map(axis, ((axis, size),), Shift(size, n, boundary))
        return v

    def take(self, **index: SupportsIndex | slice | Sequence[int]) -> Any:
        """``h.take(t=2)`` drops the axis; ``h.take(t=[0, 3])`` and slices keep it."""
        v: Any = self
        for axis, pick in index.items():
            length, index_map = selection(v._size(axis), pick)
            v = v.map(axis, () if length is None else ((axis, length),), index_map)
        return v

    def sum(self, *axes: str) -> Any:
        """Sum over index axes."""
        v: Any = self
        for axis in axes:
            v = v.map(axis, (), Sum(v._size(axis)))
        return v

    def mean(self, *axes: str) -> Any:
        """Average over index axes (`tp.mean` averages over coordinates)."""
        v: Any = self
        for axis in axes:
            v = v.map(axis, (), Mean(v._size(axis)))
        return v

    def rename(self, **names: str) -> Any:
        """``h.rename(t="r")``: the same family over an axis of another name."""
        v: Any = self
        for axis, new in names.items():
            size, new = v._size(axis), read.text(new, f"the new name of {axis}")
            v = v.map(axis, ((new, size),), Shift(size))
        return v

    @reads(axis=read.text, size=read.size, stride=read.size, offset=read.text_or_empty, dilation=read.size)
    def windows(
        self,
        axis: str,
        size: int,
        stride: int = 1,
        padding: str = "VALID",
        offset: str = "",
        dilation: int = 1,
    ) -> Any:
        """Windows of an axis: the axes become (axis, axis + "_f"), the second the offset in the window.

        The value at (p, o) is that at p stride + o dilation; padding "VALID" (windows inside alone), "SAME"
        (TensorFlow's, zeros beyond the ends) or "CIRCULAR", all for the reach (size - 1) dilation + 1.
        """
        seen = Window(self._size(axis), size, stride, dilation, padding)
        return self.map(axis, ((axis, seen.positions), (offset or f"{axis}_f", size)), seen)

    @reads(axis=read.text, size=read.size, stride=read.size, scale=read.real_or_none)
    def pool(
        self, axis: str, size: int, stride: int = 1, padding: str = "VALID", scale: float | None = None
    ) -> Any:
        """``scale`` times the sum over each window; None divides by the entries inside."""
        pool = Pool(self._size(axis), size, stride, padding, scale)
        return self.map(axis, ((axis, pool.count),), pool)
