"""The instruction set: every line of a tensor program is one of these frozen records.

A program is a list of lines; each line makes one variable (an `Input` may make several, jointly
Gaussian ones) out of earlier ones, which it names.  Kinds of variables (SL sec. 3):

====  =========================================================================================
A     a matrix of independent Gaussian entries, or the transpose of one
G     a vector that is Gaussian in the limit while no transpose is involved
H     a vector: a coordinatewise function of vectors and scalars
S     a scalar with a deterministic limit
D     data: enters through matrices only; its Gram matrix x.x'/channels is known per pair of inputs
====  =========================================================================================

Variables are families over named index axes ("t", "y", "x"); a line stands for one scalar line per
index.  Weight sharing is a linear map of the index (`Map`), so no line knows about convolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from tpnum.program.maps import IndexMap, Row, Rows, Shift

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tpnum.functions import Function

Axes: TypeAlias = tuple[tuple[str, int], ...]
"""Named index axes with their sizes, in order, e.g. (("y", 32), ("x", 32))."""


@dataclass(frozen=True, slots=True)
class Var:
    """A variable: its kind (one of "AGHSD"), common dimension class and index axes.

    ``dim`` is the CDC of a vector, the row CDC of a matrix, "" for a scalar; ``cols`` is the column
    CDC of a matrix.
    """

    name: str
    kind: str
    dim: str
    axes: Axes = ()
    cols: str = ""


@dataclass(frozen=True, slots=True)
class Input:
    """Input G-vars: coordinates i.i.d., jointly Gaussian over ``names`` with ``mean`` and ``cov``.

    A *shared* input (a bias, a seed) is the same vector at every index of ``axes`` and for every
    example.  A *fresh* one is an independent copy per index and example (dropout noise).
    ``tangent`` scales the covariance of its parameter direction: 1 trained, 0 untrained.
    """

    names: tuple[str, ...]
    dim: str
    mean: tuple[float, ...]
    cov: tuple[tuple[float, ...], ...]
    axes: Axes = ()
    fresh: bool = False
    tangent: float = 0.0


@dataclass(frozen=True, slots=True)
class Data:
    """Data u: one vector of ``channels`` coordinates per example and index."""

    name: str
    channels: str
    axes: Axes = ()


@dataclass(frozen=True, slots=True)
class Known:
    """Known numbers of each example, scalars per index of ``axes``: a mask, the adjacency of a graph."""

    name: str
    axes: Axes = ()


@dataclass(frozen=True, slots=True)
class Matrix:
    """An A-var ``rows`` x ``cols`` with entries N(0, var / cols); independent for every index of ``axes``.

    ``tangent`` is the variance (again over cols) of its parameter direction in the tangent program:
    ``var`` in ntk parameterization, 0 untrained.
    """

    name: str
    rows: str
    cols: str
    var: float
    tangent: float
    axes: Axes = ()


@dataclass(frozen=True, slots=True)
class Transpose:
    """The transpose of an A-var."""

    name: str
    matrix: str


@dataclass(frozen=True, slots=True)
class MatMul:
    """g[i] = A[i_A] h[i]: the matrix's own axes must be among those of the vector."""

    name: str
    matrix: str
    vector: str


class Place(NamedTuple):
    """Where an output stands in the family that was declared: an index per axis, None along whole axes."""

    family: str
    position: tuple[int | None, ...]

    def at(self, index: Mapping[str, int], axes: Axes) -> Place:
        """The place of a member, ``index`` along some of the ``axes`` that are whole so far."""
        left = iter(axes)
        made = tuple(index.get(next(left)[0]) if i is None else i for i in self.position)
        return Place(self.family, made)


@dataclass(frozen=True, slots=True)
class Term:
    """``coef * scalar * vector``; ``scalar`` is "" where there is none."""

    coef: float
    vector: str
    scalar: str = ""


@dataclass(frozen=True, slots=True)
class LinComb:
    """sum of terms; a term lacking some of the axes is the same along them.  G if all terms are, else H."""

    name: str
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Nonlin:
    """h = fn(args...; scalars...), coordinatewise; axes broadcast by name."""

    name: str
    fn: Function
    args: tuple[str, ...]
    scalars: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Map:
    """A linear map on one index axis of a vector or scalar family.

    ``out`` replaces ``axis``, at its place (``out = ()`` sums it away).  ``index`` says what the map is
    (`tpnum.program.maps`, `tpnum.program.windows`); bare rows are one that is known by them alone.
    """

    name: str
    operand: str
    axis: str
    out: Axes
    index: IndexMap

    def __init__(
        self, name: str, operand: str, axis: str, out: Axes, index: IndexMap | tuple[Row, ...]
    ) -> None:
        made = index if isinstance(index, IndexMap) else Rows(index)
        for field, value in zip(self.__match_args__, (name, operand, axis, out, made), strict=True):
            object.__setattr__(self, field, value)

    @property
    def rows(self) -> tuple[Row, ...]:
        """One row per index of ``out`` in C order: the pairs (index along ``axis``, weight) that are summed.

        An empty one gives the zero vector (padding).
        """
        return self.index.rows


@dataclass(frozen=True, slots=True)
class Moment:
    """The scalar (1/n) sum_a fn(args_a...; scalars...)."""

    name: str
    fn: Function
    args: tuple[str, ...]
    scalars: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Arith:
    """Arithmetic on scalars: a `Function` of scalars only."""

    name: str
    fn: Function
    scalars: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Softmax:
    """weights exp(scalar) / (its sum over the axes ``over``), the same family; zero where the sum is.

    ``weights`` (0 or more, "" for 1) are scalars too: what they leave out takes no part.
    """

    name: str
    scalar: str
    over: tuple[str, ...]
    weights: str = ""


@dataclass(frozen=True, slots=True)
class Attend:
    """h = sum of softmax(logits) * vector over the axes ``over``, coordinate by coordinate: an H-var.

    The softmax, of a vector here, is that of `Softmax`, ``weights`` (scalars, "" for 1) included.  With
    ``along``, a direction of the logits, it is the derivative of the softmax in this direction.
    """

    name: str
    logits: str
    vector: str
    over: tuple[str, ...]
    weights: str = ""
    along: str = ""


@dataclass(frozen=True, slots=True)
class Along:
    """h = kind(args), a function of all indices along the axes ``over`` at once, coordinate by coordinate.

    ``kind`` is a name of `tpnum.program.along`, which says whether h has the axes; ``eps`` is added to
    variances.
    """

    name: str
    kind: str
    args: tuple[str, ...]
    over: tuple[str, ...]
    eps: float = 0.0


@dataclass(frozen=True, slots=True)
class Carry:
    """A state carried along a scan: inside the body ``name``; ``init`` outside at first; then ``next``."""

    name: str
    init: str
    next: str


@dataclass(frozen=True, slots=True)
class Scan:
    """A recurrence along ``axis``: ``body`` once per index, with carried states.

    ``inputs`` pairs (name in the body, outer family over ``axis``) gives each step its slice; ``outputs``
    pairs (outer family over ``axis``, name in the body) collects every step.
    """

    axis: tuple[str, int]
    carries: tuple[Carry, ...]
    inputs: tuple[tuple[str, str], ...]
    body: tuple[Line, ...]
    outputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Delay:
    """state[t] = family[t - 1] along ``axis``, zero at first: a scan's carried state, over all steps at once.

    ``family`` is made by a later line.  A program with delays is one whose scans are folded
    (`tpnum.program.fold`): nobody writes it, and only laws and kernels read it.
    """

    name: str
    family: str
    axis: str
    dim: str
    axes: Axes

    @property
    def index(self) -> Shift:
        """The delay as an index map."""
        return Shift(dict(self.axes)[self.axis], 1)


Line: TypeAlias = (
    Input
    | Data
    | Known
    | Matrix
    | Transpose
    | MatMul
    | LinComb
    | Nonlin
    | Map
    | Moment
    | Arith
    | Softmax
    | Along
    | Attend
    | Scan
    | Delay
)
