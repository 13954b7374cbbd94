"""Profile nodes: what the law demands of one input, as arrays (N, *axes)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from tpnum.law.graph.pair import Carried
from tpnum.law.graph.walks import schedule

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.law.graph.pair import Pair
    from tpnum.program.lines import Axes, Delay, Map

Key: TypeAlias = tuple[Hashable, ...]
"""The name of a profile: alike for both inputs of a pair."""


@dataclass(frozen=True, eq=False)
class Profile:
    """A quantity of one input, named by its key."""

    key: Key
    axes: Axes

    @property
    def axes_shape(self) -> tuple[int, ...]:
        return tuple(size for _, size in self.axes)


@dataclass(frozen=True, eq=False)
class Constant(Profile):
    value: float


@dataclass(frozen=True, eq=False)
class Given(Profile):
    """Known scalars of the input: the numbers of the line ``name``."""

    name: str


@dataclass(frozen=True, eq=False)
class Norm(Profile):
    """x . y / channels of two data lines at one input, the squared norm where they are one."""

    data: tuple[str, str]


@dataclass(frozen=True, eq=False)
class Expect1(Profile):
    """An integral of fn(u; scalars), u ~ N(mean, var); ``what`` is a field of `tpnum.gauss.pair.Prepared`."""

    fn: Function
    what: str
    mean: Profile | None
    var: Profile
    scalars: tuple[Profile, ...]


@dataclass(frozen=True, eq=False)
class Marginal:
    """A function of one of two correlated Gaussians: fn(u; scalars), u ~ N(mean, var)."""

    fn: Function
    mean: Profile | None
    var: Profile
    scalars: tuple[Profile, ...]


@dataclass(frozen=True, eq=False)
class Expect2(Profile):
    """E f(u) g(v) (``what`` = "value") or E f'(u) g'(v) ("slope") of two Gaussians at one input."""

    sides: tuple[Marginal, Marginal]
    cov: Profile
    what: str


@dataclass(frozen=True, eq=False)
class Factor:
    """fn(u[args]; scalars), a factor of a joint expectation over Gaussians u."""

    fn: Function
    args: tuple[int, ...]
    scalars: tuple[Profile, ...]


@dataclass(frozen=True, eq=False)
class ExpectN(Profile):
    """E prod of factors over Gaussians ``names`` of one input, the lines ``where``; None is zero."""

    names: tuple[str, ...]
    factors: tuple[Factor, ...]
    means: tuple[Profile | None, ...]
    cov: tuple[tuple[Profile | None, ...], ...]
    where: str


@dataclass(frozen=True, eq=False)
class Polynomial(Profile):
    """sum of coef * product of profiles."""

    terms: tuple[tuple[float, tuple[Profile, ...]], ...]


@dataclass(frozen=True, eq=False)
class Arithmetic(Profile):
    fn: Function
    args: tuple[Profile, ...]


@dataclass(frozen=True, eq=False)
class Softmax(Profile):
    """weights exp(logits) over its sum along some axes."""

    logits: Profile
    over: tuple[str, ...]
    weights: Profile | None


@dataclass(frozen=True, eq=False)
class Mapped1(Profile):
    """A linear index map of a profile: a mean, or a scalar family."""

    operand: Profile
    map: Map


@dataclass(frozen=True, eq=False)
class Carried1(Profile):
    """A moment of a carried state: that of ``below[0]`` one step before, zero at first."""

    delay: Delay
    below: list[Profile]


@dataclass(frozen=True, eq=False)
class Reduced(Profile):
    """The p = p' entries of a same-input pair node, for variances of sums over positions."""

    pair: Pair

    @cached_property
    def crossed(self) -> bool:
        """Whether it stands on states that meet what is none; to be asked when the graph is closed."""
        carried = (node for node in schedule([self.pair]) if isinstance(node, Carried))
        return any(node.row_delay is None or node.col_delay is None for node in carried)


@dataclass(frozen=True, eq=False)
class Within(Profile):
    """A same-input pair node at all of its entries: ``axes`` are its tied ones, its rows and its columns.

    The columns, which bear the names of the rows, are marked by a prime.
    """

    pair: Pair
