"""From a plan without index axes to a program for values and adjoints (`tpnum.kernels.reverse`).

Forwards by `tpnum.lower.forwards`, backwards by the rules of the graph, on plain covariances: sums and
products by the product rule, an expectation V of f g and S of f' g' by

    dV = S dc + V_1 d log q / 2 + V_2 d log q' / 2,        V_1 = q E f'' g,

and S likewise with one derivative more (`tpnum.lower.bends`).  Coefficients that are jets and numbers of one
input that move with parameters end in channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tpnum.evaluate.chain import product
from tpnum.jets import slopes_of
from tpnum.law import graph
from tpnum.law.worklist import postorder
from tpnum.lower.bends import BOTH, RULES, by_curve, family_of
from tpnum.lower.forwards import Forwards
from tpnum.lower.network import readers
from tpnum.lower.numbers import inverse
from tpnum.lower.unsupported import Unsupported

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.evaluate.plan import Entry
    from tpnum.evaluate.tangents import ProfileTangents
    from tpnum.lower.bends import Call, CurveTables
    from tpnum.lower.tables import SeriesTables

VALUE = ("value",)
"""The key of the channel of the kernel itself."""


@dataclass(frozen=True)
class Channels:
    """Derivatives (channels, parameters, N) of numbers of rows and of columns, and which are not zero.

    ``value`` is the channel whose A are the weighted kernels themselves, -1 if there is none.
    """

    active: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    value: int


@dataclass(frozen=True)
class Tape:
    """Code whose way back begins at ``ends``, and what it reads, for one pair of data sets."""

    code: np.ndarray
    ends: int
    rows: np.ndarray
    cols: np.ndarray
    registers: int
    series: SeriesTables
    curves: CurveTables
    duals: tuple[str, ...]
    grams: tuple[tuple[str, str], ...]
    channels: Channels


def tape_of(
    entries: tuple[Entry, ...],
    rows: ProfileTangents,
    cols: ProfileTangents,
    inputs: bool = False,
    value: bool = False,
    line: int = -1,
) -> Tape:
    """The tape of the sum of some entries; ``inputs`` asks for the adjoints of Gram matrices too.

    With ``value`` the sum itself is a channel, of what counts as the parameter ``line`` if there is one.

    Raises
    ------
    Unsupported : with the reason.
    """
    nodes = graph.schedule([entry.node for entry in entries])
    if any(node.tied or node.rows or node.cols for node in nodes):
        raise Unsupported("some variables are families over index axes")
    if any(entry.rows or entry.cols for entry in entries):
        raise Unsupported("the output has index axes")
    writer = Writer(rows, cols, inputs, readers(nodes, [entry.node for entry in entries]))
    for node in nodes:
        writer.prepare(node)
    ends = len(writer.code)
    for entry in entries:
        writer.seed(entry)
        if value:
            writer.keep(entry, line)
    for node in reversed(nodes):
        writer.back(node)
    return writer.finish(ends)


class Writer(Forwards):
    """Writes the way back behind the way forwards."""

    def __init__(self, rows: ProfileTangents, cols: ProfileTangents, inputs: bool, uses: dict[int, int]):
        super().__init__((rows.values, cols.values), uses)
        self.tangents, self.inputs = (rows, cols), inputs
        self._adjoints: dict[Hashable, int] = {}
        self._channels: dict[Hashable, tuple[Hashable, Hashable, np.ndarray | None, np.ndarray | None]] = {}
        self._active: dict[int, bool] = {}
        self._logs: dict[Hashable, bool] = {}
        self._lent: set[Hashable] = set()

    def finish(self, ends: int) -> Tape:
        """The tape, its channels last."""
        count = self.tangents[0].count
        sizes = [profile.size for profile in self.profiles]
        active = np.zeros((len(self._channels), count), np.int64)
        slopes = [np.zeros((len(self._channels), count, size)) for size in sizes]
        for number, (*keys, first, second) in enumerate(self._channels.values()):
            for side, moves in enumerate((first, second)):
                if moves is not None:
                    slopes[side][number] = moves
                    active[number] |= (1 + side) * np.any(moves, axis=1)
            a, b = (self._adjoints.get(key, -1) for key in keys)
            self.emit("channel", a if a >= 0 else b, b, m=number)
        value = list(self._channels).index(VALUE) if VALUE in self._channels else -1
        rows, cols = (
            np.array([pair[s] for pair in self.numbers]).reshape(len(self.numbers), sizes[s]) for s in (0, 1)
        )
        return Tape(
            np.array(self.code, np.int64), ends, rows, cols, self.registers, self.series, self.curves,
            tuple(self.duals), tuple(self.grams), Channels(active, slopes[0], slopes[1], value),
        )  # fmt: skip

    def moves(self, node: graph.Profile, side: int) -> np.ndarray | None:
        """Its derivatives (parameters, N), None where it stays."""
        made = self.tangents[side](node)
        if made is None or not np.any(made):
            return None
        shape = (self.tangents[side].count, self.profiles[side].size)
        return np.broadcast_to(made.reshape(shape[0], -1), shape)

    def prepare(self, node: graph.Pair) -> None:
        """What is read of a node on the way back; operands first, so that no long chain is asked for."""
        if isinstance(node, graph.Dual):
            if any(
                self.moves(p, side) is not None for side, p in enumerate(node.call.means) if p is not None
            ):
                raise Unsupported("a mean depends on the parameters")
            made = self.call(node.call)
            if self.inputs and made.curve >= 0 and any(np.any(q == 0.0) for q in made.variances):
                raise Unsupported("a series has no slope where a variance is 0")
        elif isinstance(node, graph.Sum):
            for term in self.terms(node):
                if len(term.pairs) > 1 or (term.pairs and self._moving(term)):
                    for pair in term.pairs:
                        self.plain(pair)
        elif not isinstance(node, (graph.Gram, graph.Shared, graph.Fresh)):
            raise Unsupported("an expectation in more than two dimensions")

    def seed(self, entry: Entry) -> None:
        """Where the way back begins."""
        if id(entry.node) in self._adjoints:
            raise Unsupported("an output has a node twice")
        self._adjoints[id(entry.node)] = self.value_of("seed", p=self.constant(float(entry.weight)))

    def keep(self, entry: Entry, line: int) -> None:
        """A channel for what the weights say of the value itself, which a ``line`` moves one to one with."""
        one = None
        if line >= 0:
            one = np.zeros((self.tangents[0].count, self.profiles[0].size))
            one[line] = 1.0
        self._channels[VALUE] = (VALUE, None, one, None)
        self.gain(VALUE, self.ones, self._adjoints[id(entry.node)], self.plain(entry.node))

    def product(self, first: int, second: int) -> int:
        """The register of a product."""
        return self.value_of("multiply", first, second, p=self.ones)

    def gain(self, key: Hashable, number: int, *operands: int) -> None:
        """An adjoint gains a number times registers; what is all of it for now is not copied."""
        operands = tuple(self.narrow(list(operands), 3))
        old = self._adjoints.get(key)
        if old is None and number == self.ones and len(operands) == 1:
            self._adjoints[key] = operands[0]
            self._lent.add(key)
        elif old is None:
            self._adjoints[key] = self.value_of("multiply", *operands, p=number)
        elif key in self._lent:
            self._lent.discard(key)
            self._adjoints[key] = self.value_of("multiply", *operands, p=number)
            self.emit("multiply", self._adjoints[key], old, p=self.ones, m=1)
        else:
            self.emit("multiply", old, *operands, p=number, m=1)

    def gain_cov(self, call: Call, number: int, *operands: int) -> None:
        """The adjoint of the covariance that a call reads."""
        if self.active(call.graph.cov):
            self.gain(id(call.graph.cov), number, *operands)

    def gain_log(self, call: Call, side: int, number: int, *operands: int) -> None:
        """The adjoint of log q / 2 of a call's rows (0), columns (1) or both."""
        sides = (0, 1) if side == BOTH else (side,)
        key = ("log", side, *(call.graph.vars[s].key for s in sides))
        if key not in self._logs:
            moves = [self._log(call.graph.vars[s], s) if s in sides else None for s in (0, 1)]
            self._logs[key] = any(one is not None for one in moves)
            if self._logs[key]:
                keys = [key if one is not None else None for one in moves]
                self._channels[key] = (keys[0], keys[1], moves[0], moves[1])
        if self._logs[key]:
            self.gain(key, number, *operands)

    def _log(self, var: graph.Profile, side: int) -> np.ndarray | None:
        moves = self.moves(var, side)
        return None if moves is None else 0.5 * moves * inverse(self.of(var, side))

    def active(self, node: graph.Pair) -> bool:
        """Whether a node depends on what is differentiated by."""
        for each in postorder([node], graph.operands, id, self._active):
            self._active[id(each)] = self._moved(each)
        return self._active[id(node)]

    def _moved(self, node: graph.Pair) -> bool:
        match node:
            case graph.Gram():
                return self.inputs
            case graph.Shared():
                return bool(slopes_of(node.value, self.tangents[0].count).any())
            case graph.Fresh():
                if any(self.moves(p, s) is not None for s, p in enumerate(node.other or ())):
                    raise Unsupported("noise that depends on the parameters")
                return False
            case graph.Dual():
                own = any(self.moves(p, side) is not None for side, p in enumerate(node.call.vars))
                return own or self._active[id(node.call.cov)]
            case graph.Sum():
                return any(
                    self._moving(term) or any(self._active[id(pair)] for pair in term.pairs)
                    for term in self.terms(node)
                )
        raise Unsupported("an expectation in more than two dimensions")

    def _moving(self, term: graph.Part) -> bool:
        """Whether a coefficient or a factor of one input moves."""
        sides = ((p, side) for side, group in enumerate((term.rows, term.cols)) for p in group)
        return bool(slopes_of(term.coef, self.tangents[0].count).any()) or any(
            self.moves(p, side) is not None for p, side in sides
        )

    def back(self, node: graph.Pair) -> None:
        """Hand the adjoint of a node on to what it is computed from."""
        bar = self._adjoints.get(id(node))
        if bar is None or not self.active(node):
            return
        match node:
            case graph.Gram():
                self.emit("grams", bar, m=self.grams.index(node.data))
            case graph.Dual():
                call = self.call(node.call)
                rule = RULES.get(family_of(call.first, call.second), by_curve)
                rule(self, call, node.what, bar)
            case graph.Sum():
                for term in self.terms(node):
                    self._back_term(term, bar)
            case graph.Shared():
                self._back_constant(node.value, bar, [])

    def _back_term(self, term: graph.Part, bar: int) -> None:
        coef, pairs = term.coef, term.pairs
        number = self.factors(term)
        for k, pair in enumerate(pairs):
            if self.active(pair):
                self.gain(id(pair), number, bar, *(self.plain(p) for p in pairs[:k] + pairs[k + 1 :]))
        if not self._moving(term):
            return
        values = [self.plain(pair) for pair in pairs]
        if not term.rows and not term.cols:
            self._back_constant(coef, bar, values)
            return
        numbers: list[np.ndarray] = []
        moves: list[np.ndarray | None] = []
        for side, factors in enumerate((term.rows, term.cols)):
            scale = 1.0 if side else coef
            carried = self.tangents[side].coefficient(scale, 1)
            own = [self.of(p, side) for p in factors]
            moves.append(product(float(scale), carried, own, [self.moves(p, side) for p in factors]))
            whole = np.full(self.profiles[side].size, float(scale))
            numbers.append(np.prod([whole, *own], axis=0))
        key = ("number", len(self._channels))
        keys: list[Hashable] = [None, None]
        for side in (0, 1):
            if moves[side] is None:
                continue
            keys[side] = (*key, side)
            sizes = [profile.size for profile in self.profiles]
            other = [np.ones(sizes[0]), numbers[1]] if side == 0 else [numbers[0], np.ones(sizes[1])]
            self.gain(keys[side], self.number(*other), bar, *values)
        self._channels[key] = (keys[0], keys[1], moves[0], moves[1])

    def _back_constant(self, coef: float, bar: int, values: list[int]) -> None:
        slopes = slopes_of(coef, self.tangents[0].count)
        if slopes.any():
            key = ("constant", *slopes.tolist())
            moves = np.broadcast_to(slopes[:, None], (slopes.size, self.profiles[0].size))
            self._channels.setdefault(key, (key, None, moves, None))
            self.gain(key, self.ones, bar, *values)
