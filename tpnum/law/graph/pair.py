"""Pair nodes: what the law demands of two inputs.

One over index axes keeps an axis either *tied* (only p = p' is stored) or free on both sides.  Where
``increments`` is true the node also has D = E (Z^a - Z^a')^2, which keeps all digits for nearly equal inputs
where K has lost half of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.gauss.special.functional import Functional
    from tpnum.law.graph.profile import Factor, Profile, Within
    from tpnum.program.lines import Axes, Delay, Map


@dataclass(frozen=True, eq=False)
class Pair:
    """A quantity of two inputs; ``rows``, ``cols`` are its free axes, ``tied`` those with p = p' only.

    ``norms`` are E Z^2 at the first and the second input, where the node has increments.
    """

    tied: Axes
    rows: Axes
    cols: Axes
    increments: bool
    norms: tuple[Profile, Profile] | None = field(default=None, kw_only=True)


@dataclass(frozen=True, eq=False)
class Gram(Pair):
    """x . x' / channels of a data line at the first input and one at the second."""

    data: tuple[str, str]


@dataclass(frozen=True, eq=False)
class Shared(Pair):
    """The constant covariance of shared inputs (a bias)."""

    value: float


@dataclass(frozen=True, eq=False)
class Fresh(Pair):
    """An input drawn afresh per example and index: ``same`` on coinciding ones, ``other`` elsewhere."""

    same: tuple[Profile, ...]
    other: tuple[Profile, Profile] | None


@dataclass(frozen=True, eq=False)
class Part:
    """coef * product of row profiles * product of column profiles * product of pair nodes.

    With c and s the row and column factors at one input, k the pairs' product, q that at one input and
    d = q + q' - 2 k, its share of E (Z - Z')^2 is, free of cancellation,

        coef [(c s' + c' s) d + (c - c') (s q - s' q') + (s - s') (c q - c' q')] / 2.
    """

    coef: float
    rows: tuple[Profile, ...]
    cols: tuple[Profile, ...]
    pairs: tuple[Pair, ...]

    @property
    def bare(self) -> bool:
        """Whether it is the multiple of a pair node."""
        return len(self.pairs) == 1 and not self.rows and not self.cols


@dataclass(frozen=True, eq=False)
class Sum(Pair):
    parts: tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class DualCall:
    """E f(u) g(v) and E f'(u) g'(v) of two correlated Gaussians: one evaluation serves both."""

    f: Function
    g: Function
    f_scalars: tuple[Profile, ...]
    g_scalars: tuple[Profile, ...]
    means: tuple[Profile | None, Profile | None]
    vars: tuple[Profile, Profile]
    moments: tuple[Profile, Profile]
    cov: Pair
    own: bool
    wanted: set[str] = field(default_factory=set)


@dataclass(frozen=True, eq=False)
class Dual(Pair):
    """``what`` = "value" or "slope" of a call."""

    call: DualCall
    what: str


@dataclass(frozen=True, eq=False)
class PairExpect(Pair):
    """E prod of factors over correlated Gaussians of both inputs, for what has more than two dimensions.

    Gaussian i is the G-var ``names[i]`` at input ``sites[i]``; ``cov[i][j]`` is a profile where both sit
    at one input, else a pair node, None where it is zero; ``where`` are the lines that ask.
    """

    names: tuple[str, ...]
    sites: tuple[int, ...]
    factors: tuple[Factor, ...]
    means: tuple[Profile | None, ...]
    cov: tuple[tuple[Profile | Pair | None, ...], ...]
    where: str


@dataclass(frozen=True, eq=False)
class Jointly(Pair):
    """The expectation of functionals of two Gaussian families along axes ``over`` (`tpnum.law.along`).

    ``own`` are their covariances at either input, ``cross`` those between them, None where one side is
    missing or both are independent; ``direction`` is the second moment of the directions of derivatives.
    ``moments`` are the second moments of both sides, where these are one line; ``where`` are those that ask.
    """

    what: str
    sides: tuple[Functional | None, ...]
    own: tuple[Within | None, ...]
    means: tuple[Profile | None, ...]
    cross: Pair | None
    direction: Pair | None
    over: tuple[str, ...]
    where: str
    moments: tuple[Profile, Profile] | None = None


@dataclass(frozen=True, eq=False)
class Mapped(Pair):
    """Linear index maps on the rows, the columns or both of ``operand``."""

    operand: Pair
    row_map: Map | None
    col_map: Map | None


@dataclass(frozen=True, eq=False)
class Stencil(Pair):
    """`Mapped` by windows of rows and columns, summed over the window's axis ``over``, the same for both."""

    operand: Pair
    row_map: Map
    col_map: Map
    over: str


@dataclass(frozen=True, eq=False)
class Carried(Pair):
    """Carried states at two inputs: ``below[0]`` one step before where a side has a delay, zero at first.

    ``names`` are the variables of either side, both of them states or one.  What is below is computed
    from the node itself, at earlier steps, and is known only when the graph is closed
    (`tpnum.law.carried`); so it is not among a node's `operands`.
    """

    names: tuple[str, str]
    row_delay: Delay | None
    col_delay: Delay | None
    below: list[Pair]

    @property
    def axis(self) -> str:
        """Along which it is carried."""
        delay = self.row_delay or self.col_delay
        assert delay is not None
        return delay.axis


@dataclass(frozen=True, eq=False)
class Weighted(Pair):
    """The sum of ``operand`` over axes ``over`` of the rows (``side`` 0) or of the columns (1), with weights.

    The weights are scalars of that side's input, None for 1; they may bring axes that the operand lacks.
    """

    operand: Pair
    side: int
    over: Axes
    weights: Profile | None


@dataclass(frozen=True, eq=False)
class Attention(Pair):
    """E of two sums weighted by the softmax of random logits (`tpnum.law.attention`).

    ``logits`` and ``along`` are the covariances of logits and of their directions (None for values), products
    of one over the positions that see and one over those that are ``seen``; ``values`` is over the latter.
    ``tables`` are the same of either input with itself: of queries, keys and values.  ``own``: both sums are
    one line; ``diagonal``: only p = p' is demanded.
    """

    seen: tuple[Axes, Axes]
    logits: tuple[Pair, Pair] | None
    values: Pair
    along: tuple[tuple[Pair, Pair], ...] | None
    tables: tuple[tuple[Profile | None, ...], tuple[Profile | None, ...]]
    weights: tuple[Profile | None, Profile | None]
    own: bool
    diagonal: bool
    where: str


@dataclass(frozen=True, eq=False)
class Embedded(Pair):
    """A node tied along ``axes`` spread out to all p, p': zero where they differ."""

    operand: Pair
    axes: Axes


@dataclass(frozen=True, eq=False)
class Diagonal(Pair):
    """A node free along ``axes``, restricted to p = p'."""

    operand: Pair
    axes: Axes
