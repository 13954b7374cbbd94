"""What the law demands of a program: a graph of per-input and of pairwise quantities.

The rules (`tpnum.law.site`, `tpnum.law.pairs`) turn a program's text into these nodes; evaluators
(`tpnum.evaluate`) turn nodes into arrays.  A *profile* node is a function of one input (variances, means,
scalars): array (N, *axes).  A *pair* node is a function of two inputs: K(a, b) = E[Z^a Z^b'] or a factor
of it.

A pair node over index axes keeps an axis either *tied* (only p = p' is stored) or free on both sides.
Where ``increments`` is true the node also has D = E (Z^a - Z^a')^2, which keeps all digits for nearly
equal inputs where K has lost half of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from tpnum.law.worklist import postorder

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable

    from tpnum.functions import Function
    from tpnum.gauss.special.functional import Functional
    from tpnum.program.lines import Axes, Delay, Map

    Key: TypeAlias = tuple[Hashable, ...]


@dataclass(frozen=True, eq=False)
class Profile:
    """A quantity of one input; ``key`` names it alike for both inputs of a pair."""

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


def operands(node: Pair) -> list[Pair]:
    """The pair nodes that a node is computed from."""
    if isinstance(node, Sum):
        return [pair for part in node.parts for pair in part.pairs]
    if isinstance(node, Dual):
        return [node.call.cov]
    if isinstance(node, PairExpect):
        return [entry for row in node.cov for entry in row if isinstance(entry, Pair)]
    if isinstance(node, Attention):
        return [node.values, *(node.logits or ()), *(pair for both in node.along or () for pair in both)]
    if isinstance(node, Jointly):
        return [pair for pair in (node.cross, node.direction) if pair is not None]
    if isinstance(node, (Mapped, Stencil, Weighted, Embedded, Diagonal)):
        return [node.operand]
    return []


def schedule(outputs: list[Pair], given: Collection[Hashable] = ()) -> list[Pair]:
    """Every node once, operands first; of a product's factors the deeper chain (listed last) first.

    What carried states stand on comes behind them.  Nodes whose identity is ``given`` are left out, and what
    they alone stand on.
    """
    order = postorder(outputs, operands, id, given)
    known = {*given, *map(id, order)}
    for node in order:  # which grows
        for below in node.below if isinstance(node, Carried) else ():
            more = postorder([below], operands, id, known)
            known |= {id(found) for found in more}
            order += more
    return order
