"""The general path: pair nodes on a tile of inputs, by NumPy, one rule per node.

Every node's value is K; where the node has increments that somebody reads, also D = E (Z - Z')^2, bilinear
like K and exact for nearly equal inputs.  The fast path (`tpnum.lower.dense`) is held to this one.
"""

from __future__ import annotations

from functools import singledispatchmethod
from typing import TYPE_CHECKING

import numpy as np

from tpnum.evaluate import labels, maps
from tpnum.evaluate.along import jointly
from tpnum.evaluate.blocks import Block, dims, shape
from tpnum.evaluate.joint import expected
from tpnum.gauss.pair import evaluate_stack, in_common
from tpnum.law import graph

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tpnum.evaluate.blocks import Dim
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.gauss.pair import Prepared
    from tpnum.program.lines import Axes

NEAR = 0.5
"""Correlations above this are taken from the increments."""

ROUNDING = 2.0**-50
"""What 1 - |rho| of equal variables may come out as where they have no increments (as in the cells)."""

REFINE = 1e-2
"""Squared relative distances below this are recomputed from differences of the data."""

SHARED = 1 << 15
"""Rows up to which what pairs of two functions need is kept for all of them: a series has 1,000 terms."""


class PairValues:
    """Evaluates pair nodes for the inputs ``r`` of one profile against ``c`` of another.

    ``same`` says that both profiles are of one data set: row i and column j of the profiles are the same
    example where i = ``own`` + j, and have equal ``ids``.  ``proceed`` is called before every node of a
    `run`, and may raise.
    """

    def __init__(
        self,
        rows: ProfileValues,
        cols: ProfileValues,
        r: slice,
        c: slice,
        same: bool,
        proceed: Callable[[], None] = lambda: None,
        own: int = 0,
    ):
        self.proceed = proceed
        self.profiles = (rows, cols)
        self.slices = (r, c)
        self.counts = (len(range(rows.size)[r]), len(range(cols.size)[c]))
        self.same = same
        first, second = (np.arange(p.size)[s] for p, s in zip(self.profiles, self.slices, strict=True))
        self.ids = first, own + second
        self.own = own
        self.attending: list[graph.Attention] = []  # the nodes of random logits of a run
        self.attended: dict[int, Block] = {}  # those that were computed beside others of the same logits
        self._read: set[int] | None = None  # the nodes whose increments are read, all of them for None
        self._memo: dict[int, Block] = {}
        self._calls: dict[tuple[int, bool], tuple[np.ndarray, np.ndarray]] = {}

    def run(
        self,
        outputs: list[graph.Pair],
        given: dict[int, Block] | None = None,
        asked: Collection[int] = (),
    ) -> None:
        """Compute the outputs and what they stand on, each block dropped behind its last reader.

        Blocks by identity that are ``given`` are not computed; of outputs that are ``asked`` for them
        increments are wanted.
        """
        self._memo |= given or {}
        order = self._remaining(outputs)
        self.attending = [node for node in order if isinstance(node, graph.Attention)]
        self._read = graph.increments_read(order, asked)
        readers: dict[int, int] = {}
        for node in order:
            for operand in graph.operands(node):
                readers[id(operand)] = readers.get(id(operand), 0) + 1
        kept = {id(node) for node in outputs}
        for node in order:
            self.proceed()
            self(node)
            for operand in graph.operands(node):
                readers[id(operand)] -= 1
                if readers[id(operand)] == 0 and id(operand) not in kept:
                    self._memo.pop(id(operand), None)

    def _remaining(self, outputs: list[graph.Pair]) -> list[graph.Pair]:
        """The nodes that a run computes one by one: the outputs and what they stand on, operands first."""
        return graph.schedule(outputs, self._memo)

    @property
    def found(self) -> dict[int, Block]:
        """The blocks that are known, by the identity of their nodes."""
        return dict(self._memo)

    def hold(self, outputs: list[graph.Pair]) -> list[graph.Pair]:
        """Compute the outputs and what they stand on, and keep it: all nodes, operands first."""
        order = graph.schedule(outputs)
        self._read = graph.increments_read(order)
        for node in order:
            self.proceed()
            self(node)
        return order

    def __call__(self, node: graph.Pair) -> Block:
        if id(node) not in self._memo:
            self._memo[id(node)] = self._compute(node)
        return self._memo[id(node)]

    def increments(self, node: graph.Pair) -> bool:
        """Whether a node's increments are to be computed."""
        return node.increments and (self._read is None or id(node) in self._read)

    def full(self, node: graph.Pair) -> np.ndarray:
        """K with every dimension of the tile."""
        return np.broadcast_to(self(node).k, self.shape(node))

    def grid(self, node: graph.Pair) -> np.ndarray:
        """K as (rows, columns of the tile, *free axes of the row, *free axes of the column); none is tied."""
        assert not node.tied
        free: list[Dim] = [
            (name, side) for side, axes in enumerate((node.rows, node.cols)) for name, _ in axes
        ]
        own = dims(node)
        return self.full(node).transpose([own.index(key) for key in [("", 0), ("", 1), *free]])

    def shape(self, node: graph.Pair) -> tuple[int, ...]:
        """The lengths of a node's dimensions."""
        return shape(node, *self.counts)

    def profile(self, node: graph.Profile, side: int, frame: graph.Pair) -> np.ndarray:
        """A profile along the rows (0) or columns (1) of ``frame``."""
        source = self.profiles[side]
        values = self.some(source(node), source.axes(node), side)
        tied = {name for name, _ in frame.tied}
        own = [("", side), *((name, 2 if name in tied else side) for name, _ in source.axes(node))]
        return labels.align(values, own, dims(frame))

    def some(self, values: np.ndarray, axes: Axes, side: int) -> np.ndarray:
        """What an (N, *axes) array of one side has for the tile."""
        return values[self.slices[side]]

    def each(self, values: np.ndarray, side: int, frame: graph.Pair) -> np.ndarray:
        """One number per example of the rows (0) or columns (1), along those of ``frame``."""
        return labels.align(values[self.slices[side]], [("", side)], dims(frame))

    def inner(self, node: graph.Pair, frame: graph.Pair) -> Block:
        """A node's block aligned to the dimensions of ``frame``."""
        block = self(node)
        own, target = dims(node), dims(frame)
        d = None if block.d is None else labels.align(block.d, own, target)
        return Block(labels.align(block.k, own, target), d)

    @singledispatchmethod
    def _compute(self, node: graph.Pair) -> Block:
        raise TypeError(f"no rule for {type(node).__name__}")

    @_compute.register
    def _(self, node: graph.Gram) -> Block:
        x, y = (
            p.data[name][s].astype(np.float64)
            for name, p, s in zip(node.data, self.profiles, self.slices, strict=True)
        )
        channels = x.shape[-1]
        letters = {key: chr(97 + k) for k, key in enumerate(dims(node))}
        tied = {name for name, _ in node.tied}
        own: list[list[Dim]] = [
            [("", s), *((n, 2 if n in tied else s) for n, _ in p.site.lines.axes(name))]
            for s, (name, p) in enumerate(zip(node.data, self.profiles, strict=True))
        ]

        def spell(side: int) -> str:
            return "".join(letters[key] for key in own[side]) + "z"

        k = np.einsum(f"{spell(0)},{spell(1)}->{''.join(letters.values())}", x, y, optimize=True) / channels
        if not self.increments(node):
            return Block(k, None)
        norms = [np.einsum("...c,...c->...", v, v) / channels for v in (x, y)]
        q, q2 = (labels.align(v, o, dims(node)) for v, o in zip(norms, own, strict=True))
        d = q + q2 - 2.0 * k
        near = np.argwhere(d < REFINE * (q + q2))
        order = dims(node)
        if len(near):
            pick = [tuple(near[:, order.index(key)] for key in o) for o in own]
            difference = x[pick[0]] - y[pick[1]]
            d[tuple(near.T)] = np.einsum("nc,nc->n", difference, difference) / channels
        return Block(k, np.maximum(d, 0.0))

    @_compute.register
    def _(self, node: graph.Shared) -> Block:
        ones = np.ones((1,) * len(dims(node)))
        return Block(node.value * ones, 0.0 * ones if node.increments else None)

    @_compute.register
    def _(self, node: graph.Fresh) -> Block:
        same = np.ones((1,) * len(dims(node)))
        same = same * self.coincide(node)
        value = same
        for factor in node.same:
            value = value * self.profile(factor, 0, node)
        if node.other is not None:
            first, second = (self.profile(f, s, node) for s, f in enumerate(node.other))
            value = value + (1.0 - same) * first * second
        return Block(value, None)

    def coincide(self, node: graph.Pair) -> np.ndarray:
        """1 where example and every free index agree on both sides, else 0."""
        positions = dims(node)
        total: np.ndarray = np.ones((1,) * len(positions))
        if not self.same:
            return 0.0 * total
        pairs = [("", *self.ids)]
        cols = dict(node.cols)
        pairs += [(n, np.arange(size), np.arange(cols[n])) for n, size in node.rows if n in cols]
        for name, left, right in pairs:
            equal = (left[:, None] == right[None, :]).astype(np.float64)
            total = total * labels.align(equal, [(name, 0), (name, 1)], positions)
        return total

    # -- sums ----------------------------------------------------------------------------------

    @_compute.register
    def _(self, node: graph.Sum) -> Block:
        k: np.ndarray | None = None
        d: np.ndarray | float = 0.0
        increments = self.increments(node)
        for part in node.parts:
            blocks = [self.inner(pair, node) for pair in part.pairs]
            value = part.coef * self._product(part.rows, 0, node) * self._product(part.cols, 1, node)
            for block in blocks:
                value = block.k if value.size == 1 and value.flat[0] == 1.0 else value * block.k
            k = value if k is None else k + value
            increments = increments and all(block.d is not None for block in blocks)
            if increments:
                d = d + part.coef * self._increment(part, blocks, node)
        return Block(np.asarray(k), np.asarray(d) if increments else None)

    def _product(self, factors: tuple[graph.Profile, ...], side: int, frame: graph.Pair) -> np.ndarray:
        total = np.ones((1,) * len(dims(frame)))
        for factor in factors:
            total = total * self.profile(factor, side, frame)
        return total

    def _increment(self, part: graph.Part, blocks: list[Block], frame: graph.Pair) -> np.ndarray:
        """A part's share of E (Z - Z')^2 over its coefficient (`graph.Part`)."""
        if part.bare:
            (block,) = blocks
            assert block.d is not None
            return block.d
        q = q2 = np.ones((1,) * len(dims(frame)))
        d = 0.0 * q
        for pair, block in zip(part.pairs, blocks, strict=True):
            # independent factors: 1 - rho_a rho_b = (1 - rho_a) + rho_a (1 - rho_b)
            p, p2 = self.seconds(pair, frame)
            assert block.d is not None
            d = 0.5 * (d * (p + p2) + block.d * (q + q2) - d * block.d) + 0.5 * (q - q2) * (p - p2)
            q, q2 = q * p, q2 * p2
        (c, c2), (s, s2) = (
            [self._product(factors, side, frame) for side in (0, 1)] for factors in (part.rows, part.cols)
        )
        means = (c - c2) * (s * q - s2 * q2) + (s - s2) * (c * q - c2 * q2)
        return 0.5 * ((c * s2 + c2 * s) * d + means)

    def seconds(self, pair: graph.Pair, frame: graph.Pair) -> tuple[np.ndarray, np.ndarray]:
        """E Z^2 of an own node at the two inputs."""
        assert pair.norms is not None
        first, second = (self.profile(norm, side, frame) for side, norm in enumerate(pair.norms))
        return first, second

    # -- expectations --------------------------------------------------------------------------

    @_compute.register
    def _(self, node: graph.Dual) -> Block:
        call = node.call
        e, slope = self._call(call, node)
        if node.what == "slope":
            return Block(slope, None)
        first, second = (self.profile(moment, side, node) for side, moment in enumerate(call.moments))
        roots = np.sqrt(first), np.sqrt(second)
        rho = np.abs(e)
        np.copysign(np.subtract(1.0, rho, out=rho), e, out=rho)
        if not self.increments(node):
            rho *= roots[0]
            rho *= roots[1]
            return Block(rho, None)
        scale = roots[0] * roots[1]
        apart = (first - second) / (roots[0] + roots[1] + (first + second == 0.0))
        return Block(
            scale * rho, apart**2 + 2.0 * scale * np.where(np.signbit(e), 1.0 + np.abs(rho), np.abs(e))
        )

    def _call(self, call: graph.DualCall, frame: graph.Pair) -> tuple[np.ndarray, np.ndarray]:
        steep = "slope" in call.wanted
        key = id(call), steep  # slopes may be asked for later than values
        if key in self._calls:
            return self._calls[key]
        target = self.shape(frame)
        e = np.broadcast_to(self._correlation(call, frame), target)
        (first, at), (second, to) = (self._prepared(call, side, frame) for side in (0, 1))
        if len(first) + len(second) <= SHARED:
            first, second = in_common(first, second)
        stack = np.ascontiguousarray(e).reshape(*at.shape, to.shape[-1])
        made = [
            part.reshape(target)
            for part in evaluate_stack(first, second, at, to, stack, steep)
            if part is not None
        ]
        self._calls[key] = made[0], made[-1]
        return self._calls[key]

    def _prepared(self, call: graph.DualCall, side: int, frame: graph.Pair) -> tuple[Prepared, np.ndarray]:
        """One side's one-dimensional integrals and, per tied index, the positions of its rows in them."""
        fn, scalars = (call.f, call.f_scalars) if side == 0 else (call.g, call.g_scalars)
        nodes = (call.means[side], call.vars[side], *scalars)
        index = self._index(frame, side, nodes)
        return self.profiles[side].prepared(fn, nodes[0], call.vars[side], scalars), index

    def _index(self, frame: graph.Pair, side: int, nodes: tuple[graph.Profile | None, ...]) -> np.ndarray:
        """Where the (tied indices, examples and free indices) of one side are among such integrals."""
        free = frame.rows if side == 0 else frame.cols
        axes = (*frame.tied, *free)
        index = self.some(self.profiles[side].places(axes, *nodes), axes, side)
        index = np.broadcast_to(index, (self.counts[side], *(size for _, size in axes)))
        k = len(frame.tied)
        return np.moveaxis(index, 0, k).reshape(int(np.prod([s for _, s in frame.tied], initial=1)), -1)

    def _correlation(self, call: graph.DualCall, frame: graph.Pair) -> np.ndarray:
        """The signed co-correlation copysign(1 - |rho|, rho), from D where rho is near 1."""
        block = self.inner(call.cov, frame)
        q, q2 = self.profile(call.vars[0], 0, frame), self.profile(call.vars[1], 1, frame)
        roots = np.sqrt(q), np.sqrt(q2)
        silent = (q == 0.0) | (q2 == 0.0) if np.any(q == 0.0) or np.any(q2 == 0.0) else None
        down, down2 = (np.divide(1.0, r, out=np.zeros_like(r), where=r > 0.0) for r in roots)
        rho = block.k * down * down2
        e = np.abs(rho)
        np.subtract(1.0, e, out=e)
        if block.d is None:  # to rounding only, which is taken for zero
            e[e <= ROUNDING] = 0.0
        np.copysign(np.maximum(e, 0.0, out=e), rho, out=e)
        if block.d is not None:
            apart = (q - q2) / (roots[0] + roots[1] + (q + q2 == 0.0))
            exact = np.maximum(block.d - apart**2, 0.0) * (0.5 * down) * down2
            e = np.where(rho > NEAR, np.minimum(exact, 1.0), e)
        if silent is not None:
            e = np.where(silent, 0.0, e)
        if call.own and self.same:
            e = np.where(self.coincide(frame) == 1.0, 0.0, e)
        return e

    @_compute.register
    def _(self, node: graph.PairExpect) -> Block:
        return expected(self, node)

    @_compute.register
    def _(self, node: graph.Jointly) -> Block:
        return jointly(self, node)

    # -- index maps ----------------------------------------------------------------------------

    @_compute.register
    def _(self, node: graph.Mapped) -> Block:
        return maps.mapped(self, node)

    @_compute.register
    def _(self, node: graph.Stencil) -> Block:
        return maps.stencil(self, node)

    @_compute.register
    def _(self, node: graph.Weighted) -> Block:
        return maps.weighted(self, node)

    @_compute.register
    def _(self, node: graph.Attention) -> Block:
        from tpnum.evaluate.attention import attended

        return attended(self, node)

    @_compute.register
    def _(self, node: graph.Embedded) -> Block:
        return maps.embedded(self, node)

    @_compute.register
    def _(self, node: graph.Diagonal) -> Block:
        return maps.diagonal(self, node)
