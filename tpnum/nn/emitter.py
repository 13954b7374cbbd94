"""`Emitter`: what layers append their lines through, and `program`, which runs a net on it.

Names are given by order of emission (W1, b1, g1, h1, ...), never by shapes, so the programs of one net for
two input shapes have the same matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from tpnum.arguments import flag, shown, whole
from tpnum.errors import InputError, SpecError
from tpnum.nn.arguments import read_sizes
from tpnum.nn.base import Block, Features, Layer, no_layer
from tpnum.program import Program
from tpnum.program.lines import LinComb, Map, Nonlin, Term
from tpnum.program.text import made_by

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.nn.attention import GlobalSelfAttention
    from tpnum.program import MatrixVar, Scalar, Vector
    from tpnum.program.lines import Axes

W = TypeVar("W")

AXES = {0: (), 1: ("t",), 2: ("y", "x"), 3: ("z", "y", "x")}
"""Names of the spatial axes of inputs, by how many there are."""
BATCH = "batch"
"""The axis of the examples of a batch."""
LONGEST = 1 << 20
"""Positions of one axis whose map by a convolution is still written down."""
COUNTED = ".positions"
"""What names of counts of positions end in: no example may have none of them."""
LAYERS = 20_000
"""Of one net: what takes a minute or two."""


class Heads(NamedTuple):
    """Attention of a fixed number of heads: the layer, what makes its logits, the known weights by head."""

    layer: GlobalSelfAttention
    queries: str
    keys: str
    weights: tuple[str, ...]


def program(
    net: Layer,
    shape: Sequence[int],
    masked: bool = False,
    batch_size: int | None = None,
    heads: list[Heads] | None = None,
    padding: str = "",
) -> Program:
    """The program of a net on one example of ``shape`` = (spatial sizes .., channels), outputs declared.

    The input is the data ``u`` with channels ``d``.  ``masked``: positions that an example lacks are told by
    the known scalars ``mask``, 1 where it has them and 0 where the data is padding, which must be zero; every
    layer keeps it zero, averages over the others and hands the mask on.  ``padding`` is where all examples
    have theirs, along the one axis: at its "start" or its "end"; "" is anywhere.  Graphs (`Aggregate`) are
    the known scalars ``pattern``.  ``batch_size``: an example is a batch of so many, along the first axis
    ``batch`` of the data and of all that is made of it, of which layers but `BatchNorm` know nothing.  A net
    that ends concatenated has several outputs, each weighted by its share of the channels.  Attention of a
    fixed number of heads, which has no Gaussian limit, is refused unless ``heads`` is a list, to which it is
    appended: then its weights are known scalars, the law is that given these.
    """
    if not isinstance(net, Layer):
        raise SpecError(f"net is {no_layer(net)}, e.g. nn.serial(nn.Dense(64), nn.Relu(), nn.Dense(1))")
    try:
        *spatial, channels = read_sizes(shape)
    except Exception:
        raise InputError(
            f"shape is {shown(shape)}; give the positive sizes (.., channels) of one example, x.shape[1:]"
        ) from None
    if max(spatial, default=0) > LONGEST:
        raise InputError(
            f"shape is {shown(shape)}; an axis of more than {LONGEST} positions is not written out"
        )
    names = AXES.get(len(spatial)) or tuple(f"p{index}" for index in range(len(spatial)))
    axes = tuple(zip(names, spatial, strict=True))
    batch = () if batch_size is None else ((BATCH, whole(batch_size, "batch_size", 1, LONGEST)),)
    to = Emitter(Program(), batch, heads, padding)
    data = Block(to.program.data("u", (*batch, *axes), channels="d"), channels)
    mask = to.program.scalars("mask", (*batch, *axes)) if flag(masked, "masked") else None
    x = to.run(net, Features((data,), axes, mask), "")
    if not isinstance(x, Features):
        raise SpecError(f"the net ends in {len(x)} branches; join them by FanInSum, FanInConcat or FanInProd")
    for block, share in zip(x.blocks, x.shares, strict=True):
        to.program.output(to.readable(block, x.axes), share)
    to.settle_widths()
    return to.program


class Emitter:
    """Appends a net's lines to ``program``; knows the path of the layer at work for its errors."""

    def __init__(
        self, program: Program, batch: Axes = (), heads: list[Heads] | None = None, padding: str = ""
    ) -> None:
        self.program, self.batch, self.heads, self._padding = program, batch, heads, padding
        self._steps: list[tuple[str, Layer]] = []
        self._count = self._signed = 0
        self._widths: set[int] = set()
        self._made: dict[str, int] = {}
        self._ties: list[Iterator[tuple[str, ...]]] = []
        self._shared: dict[tuple[str, ...], tuple[tuple[Any, ...], Any]] = {}

    # layers ----------------------------------------------------------------------------------------

    def run(self, layer: Layer, x: Any, step: str) -> Any:
        """Emit a layer that is reached by ``step``, e.g. "layers[2]"."""
        self._steps.append((step, layer))
        self._count += 1
        if self._count > LAYERS:
            raise SpecError(
                f"the net has more than {LAYERS} layers; the kernel of a net so deep is a fixed point"
            )
        try:
            if isinstance(x, tuple) and not layer.branching:
                raise self.error(
                    f"it acts on one input but gets {len(x)} branches; use parallel or a FanIn before it"
                )
            made = layer.emit(self, x)
            self._signed = self.program.sign(self._layer, self._signed)
            return made
        finally:
            self._steps.pop()

    @property
    def _layer(self) -> str:
        """The layer at work by its path and kind, as messages name it."""
        path = ".".join(step for step, _ in self._steps if step)
        op = self._steps[-1][1].op
        return f"{path} ({op})" if path else op

    def error(self, message: str) -> SpecError:
        """The error of the layer at work, which names its path."""
        return SpecError(f"{self._layer}: {message}")

    # widths ----------------------------------------------------------------------------------------

    def cdc(self, width: int) -> str:
        """The CDC of all vectors of ``width`` channels: equal widths may be summed, as in a real network."""
        self._widths.add(width)
        return f"n{width}"

    def settle_widths(self) -> None:
        """Declare the ratios of the CDCs: widths relative to the largest."""
        for width in sorted(self._widths, reverse=True):
            self.program.dim(f"n{width}", width / max(self._widths))

    # lines -----------------------------------------------------------------------------------------

    def _name(self, prefix: str) -> str:
        self._made[prefix] = self._made.get(prefix, 0) + 1
        return f"{prefix}{self._made[prefix]}"

    @contextmanager
    def tied(self, name: str) -> Iterator[None]:
        """Weights drawn inside are those that were drawn in the same order under the same name before."""
        outer = self._ties[-1] if self._ties else iter([()])
        above = next(outer)
        self._ties.append((*above, name, str(k)) for k in count())
        try:
            yield
        finally:
            self._ties.pop()

    def _drawn(self, make: Callable[..., W], *law: Any) -> W:
        """``make(*law)``, or what a layer with tied weights drew in its place before."""
        if not self._ties:
            return make(*law)
        key = next(self._ties[-1])
        if key not in self._shared:
            self._shared[key] = law, make(*law)
        before, made = self._shared[key]
        if before != law:
            was, now = (" x ".join(str(size) for size in found[:2]) for found in (before, law))
            raise self.error(
                f"the weights tied as {key[-2]!r} are {was} where they are first used and {now} here, or "
                "differ in law; tied layers have equal widths before and behind them"
            )
        return made

    def matrix(
        self, rows: str, cols: str, var: float, tangent: float, axes: Axes = (), prefix: str = "W"
    ) -> MatrixVar:
        return self._drawn(self._matrix, rows, cols, var, tangent, axes, prefix)

    def _matrix(self, rows: str, cols: str, var: float, tangent: float, axes: Axes, prefix: str) -> MatrixVar:
        return self.program.matrix(self._name(prefix), var, rows, cols, axes, tangent=tangent)

    def bias(self, dim: str, var: float, tangent: float) -> Vector:
        """A bias, the same for every example and position; ``tangent`` scales its direction's variance."""
        return self._drawn(self._bias, dim, var, tangent)

    def _bias(self, dim: str, var: float, tangent: float) -> Vector:
        return self.program.vector(self._name("b"), 0.0, var, dim, trained=tangent)

    def ones(self, dim: str, axes: Axes = ()) -> Vector:
        if not axes:
            return self.program.ones(dim)
        return self.program.vector(self._name("one"), 1.0, 0.0, dim, axes)

    def total(self, vectors: Iterable[Vector], mask: Scalar | None = None) -> Vector:
        """The sum, as one line, zero where masked."""
        factors = () if mask is None else (mask,)
        return _settled(self.program.lincomb([(1.0, vector, *factors) for vector in vectors]))

    def sum(self, terms: Iterable[tuple[float, Vector]]) -> Vector:
        """The sum of multiples, as one line."""
        return _settled(self.program.lincomb(list(terms)))

    def function_of(self, vector: Vector) -> tuple[Function, Vector] | None:
        """The function of one Gaussian that a vector is, if it is one."""
        line = next((line for line in reversed(self.program.lines) if vector.name in made_by(line)), None)
        if not isinstance(line, Nonlin) or len(line.args) > 1 or line.scalars:
            return None
        argument = self.program[line.args[0]]
        return (line.fn, argument) if argument.kind == "G" else None

    def masked(self, vectors: Sequence[Vector], mask: Scalar | None) -> Sequence[Vector]:
        """The vectors, made zero where masked."""
        return vectors if mask is None else [self.scale(vector, mask) for vector in vectors]

    def padding(self, mask: Scalar | None) -> str:
        """Where all examples have the padding of a mask: at the "start", at the "end", "" anywhere."""
        name = "" if mask is None else mask.name
        while name and name != "mask":
            line = next(line for line in reversed(self.program.lines) if name in made_by(line))
            taken = [row[0][0] for row in line.rows if row] if isinstance(line, Map) else []
            kept = isinstance(line, Map) and line.index.gathers and len(taken) == line.index.count
            name = line.operand if isinstance(line, Map) and kept and taken == sorted(taken) else ""
        return self._padding if name else ""

    def count(self, mask: Scalar, axes: Iterable[str]) -> Scalar:
        """How many positions along ``axes`` are not masked, by a name that says which layer counts them."""
        path = ".".join(step for step, _ in self._steps if step) or "net"
        return mask.sum(*axes).named(self.program._auto(f"{path}{COUNTED}", bare=True))

    def between(self, first: Vector, second: Vector, share: Scalar) -> Vector:
        """The sum share * first + (1 - share) * second."""
        return _settled(self.program.lincomb([(1.0, first, share), (1.0, second, 1.0 - share)]))

    def difference(self, first: Vector, second: Vector) -> Vector:
        return _settled(self.program.lincomb([(1.0, first), (-1.0, second)]))

    def product(self, vectors: Sequence[Vector]) -> Vector:
        """The product channel by channel."""
        made = vectors[0]
        for vector in vectors[1:]:
            made = _settled(made * vector)
        return made

    def table(self, prefix: str, axes: Axes, values: np.ndarray) -> Scalar:
        """Numbers per index, the same for all examples."""
        return self.program.scalars(self._name(prefix), axes, values)

    def gathered(self, vector: Vector, weights: Scalar, seen: dict[str, str]) -> Vector:
        """sum over r of weights[r, p] vector[r], p along the axes ``seen`` and r under their other names."""
        terms = [Term(1.0, vector.rename(**seen).name, weights.name)]
        if [axis for axis, _ in vector.axes][-len(seen) :] != list(seen):
            terms.insert(0, Term(0.0, vector.name))  # it says in which order the axes stand
        name = self.program._auto(f"{self._name('a')}.parts", bare=True)
        self.program.append(LinComb(name, tuple(terms)))
        return self.program[name].sum(*seen.values())

    def graph(self, axes: Axes) -> Scalar:
        """The known scalars ``pattern``, of which a net has one family."""
        known = self.program["pattern"] if "pattern" in self.program else None
        if known is None:
            return self.program.scalars("pattern", axes)
        if known.axes != axes:
            sizes = " and ".join(str(tuple(n for _, n in a[len(a) // 2 :])) for a in (known.axes, axes))
            raise self.error(f"graphs are of one kind in a net, and here are two, over positions {sizes}")
        return known

    def apply(self, fn: Function, vector: Vector, mask: Scalar | None = None) -> Vector:
        """fn(vector), or fn(vector; E vector^2) for a function that takes a scalar, 1 where masked."""
        if not fn.n_scalars:
            return self.program.apply(fn, vector)
        square = self.moment_of_square(vector)
        return self.program.apply(fn, vector, square if mask is None else square + (1.0 - mask))

    def moment_of_square(self, vector: Vector) -> Scalar:
        return self.program.moment("square", vector)

    def shift(self, vector: Vector, by: Scalar) -> Vector:
        """Take ``by`` away, coordinate by coordinate."""
        return _settled(vector - by)

    def scale(self, vector: Vector, by: Scalar) -> Vector:
        return _settled(vector * by)

    def mask(self, vector: Vector, threshold: float, scale: float) -> Vector:
        """The product scale * vector * 1[z > 0], z ~ N(threshold, 1) fresh per example and index."""
        z = self.program.vector(self._name("z"), threshold, 1.0, vector.dim, vector.axes, fresh=True)
        kept = self.program.apply("step", z)
        return _settled(_settled(vector * kept) * scale)

    def readable(self, block: Block, axes: Axes) -> Vector:
        """The block as an output: what is flattened, or raw data, by an untrained matrix of variance 1.

        Its kernel is that of the block: the mean over flattened positions, the Gram matrix of data.  Its axes
        are in the order of ``axes``, behind the batch: a scan puts its own in front.
        """
        made = block.vector
        if block.flat or made.kind == "D":
            matrix = self.matrix("out", made.dim, 1.0 / block.copies, 0.0, block.flat, "R")
            made = (matrix @ made).sum(*(name for name, _ in block.flat))
        ordered = (*self.batch, *axes)
        if made.axes == ordered:
            return made
        return self.total([self.program.zeros(made.dim, ordered), made])


def _settled(vector: Vector) -> Vector:
    """The vector with its line appended now: one line per result of a layer, whoever uses it."""
    vector.name  # noqa: B018  (reading the name appends a pending line)
    return vector
