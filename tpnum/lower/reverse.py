"""From a plan without index axes to a program for values and adjoints (`tpnum.kernels.reverse`).

Forwards as `tpnum.lower.compiler` does it: co-correlations where a dual reads them, plain covariances
elsewhere.  Backwards by the rules of the graph, on plain covariances: sums and products by the product rule, an
expectation V of f g and S of f' g' by

    dV = S dc + V_1 d log q / 2 + V_2 d log q' / 2,        V_1 = q E f'' g,

and S likewise with one derivative more (`tpnum.lower.bends`).  Coefficients that are jets and numbers of one
input that move with parameters end in channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tpnum.evaluate.tangents import product
from tpnum.gauss.closed import FAMILIES
from tpnum.jets import slopes_of
from tpnum.kernels import machine
from tpnum.kernels import reverse as kernels
from tpnum.law import graph
from tpnum.lower.assembler import inverse
from tpnum.lower.bends import BOTH, RULES, Call, CurveTables, by_series
from tpnum.lower.compiler import Unsupported
from tpnum.lower.tables import SeriesTables

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.evaluate.plan import Entry
    from tpnum.evaluate.tangents import ProfileTangents
    from tpnum.gauss.pair import Prepared

CODE = {name: k for k, name in enumerate(kernels.OPERATIONS)}

Sides = tuple[np.ndarray, np.ndarray]
"""Numbers of rows and of columns."""


@dataclass(frozen=True)
class Channels:
    """Derivatives (channels, parameters, N) of numbers of rows and of columns, and which are not zero."""

    active: np.ndarray
    rows: np.ndarray
    cols: np.ndarray


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


def tape_of(entries: tuple[Entry, ...], rows: ProfileTangents, cols: ProfileTangents, inputs: bool) -> Tape:
    """The tape of the sum of some entries; ``inputs`` asks for the adjoints of Gram matrices too.

    Raises
    ------
    Unsupported : with the reason.
    """
    nodes = graph.schedule([entry.node for entry in entries])
    if any(node.tied or node.rows or node.cols for node in nodes):
        raise Unsupported("some variables are families over index axes")
    if any(entry.rows or entry.cols for entry in entries):
        raise Unsupported("the output has index axes")
    writer = Writer(rows, cols, inputs)
    for node in nodes:
        writer.prepare(node)
    ends = len(writer.code)
    for entry in entries:
        writer.seed(entry)
    for node in reversed(nodes):
        writer.back(node)
    return writer.finish(ends)


class Writer:
    """Writes instructions; registers are numbered as they come, and kept."""

    def __init__(self, rows: ProfileTangents, cols: ProfileTangents, inputs: bool):
        self.tangents, self.inputs = (rows, cols), inputs
        self.profiles = (rows.values, cols.values)
        self.code: list[tuple[int, ...]] = []
        self.registers = 0
        self.series, self.curves = SeriesTables(), CurveTables()
        self.duals: list[str] = []
        self.grams: list[tuple[str, str]] = []
        self._numbers: list[Sides] = []
        self._plain: dict[int, int] = {}
        self._corr: dict[int, tuple[int, int]] = {}
        self._images: dict[int, int] = {}
        self._gram: dict[tuple[str, str], tuple[int, int]] = {}
        self._calls: dict[int, Call] = {}
        self._adjoints: dict[Hashable, int] = {}
        self._channels: dict[Hashable, tuple[Hashable, Hashable, np.ndarray | None, np.ndarray | None]] = {}
        self._active: dict[int, bool] = {}
        self.ones = self.number(*(np.ones(profile.size) for profile in self.profiles))

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
            self._emit("channel", a if a >= 0 else b, b, m=number)
        numbers = tuple(
            np.array([pair[s] for pair in self._numbers]).reshape(len(self._numbers), sizes[s])
            for s in (0, 1)
        )
        return Tape(
            np.array(self.code, np.int64), ends, *numbers, self.registers, self.series, self.curves,
            tuple(self.duals), tuple(self.grams), Channels(active, *slopes),
        )  # fmt: skip

    # -- instructions --------------------------------------------------------------------------------

    def _emit(self, op: str, a: int, b: int = -1, c: int = -1, d: int = -1, p: int = 0, m: int = 0) -> None:
        self.code.append((CODE[op], a, b, c, d, p, m))

    def new(self, count: int = 1) -> int:
        """The first of some new registers."""
        self.registers += count
        return self.registers - count

    def value_of(self, op: str, *reads: int, p: int = 0, m: int = 0) -> int:
        """The register of what an operation makes of others."""
        made = self.new()
        self._emit(op, made, *reads, p=p, m=m)
        return made

    def number(self, row: np.ndarray, col: np.ndarray) -> int:
        """The row of a number of rows and columns."""
        self._numbers.append((row, col))
        return len(self._numbers) - 1

    def constant(self, value: float) -> int:
        """The row of a number that is the same everywhere."""
        if value == 1.0:
            return self.ones
        return self.number(np.full(self.profiles[0].size, float(value)), np.ones(self.profiles[1].size))

    def block(self, rows: np.ndarray, cols: np.ndarray) -> int:
        """Consecutive numbers; the row of the first."""
        self._numbers += list(zip(rows, cols, strict=True))
        return len(self._numbers) - len(rows)

    def of(self, node: graph.Profile, side: int) -> np.ndarray:
        """A profile of rows or columns."""
        return np.asarray(self.profiles[side](node)).reshape(self.profiles[side].size)

    def moves(self, node: graph.Profile, side: int) -> np.ndarray | None:
        """Its derivatives (parameters, N), None where it stays."""
        made = self.tangents[side](node)
        if made is None or not np.any(made):
            return None
        shape = (self.tangents[side].count, self.profiles[side].size)
        return np.broadcast_to(made.reshape(shape[0], -1), shape)

    # -- forwards ------------------------------------------------------------------------------------

    def prepare(self, node: graph.Pair) -> None:
        """What is read of a node on the way back, operands first: no long chain is asked for at once."""
        if isinstance(node, graph.Dual):
            if any(self.moves(p, side) is not None for side, p in enumerate(node.call.means) if p is not None):
                raise Unsupported("a mean depends on the parameters")
            self.call(node.call)
        elif isinstance(node, graph.Sum):
            for part in node.parts:
                pairs = [pair for pair in part.pairs if not isinstance(pair, graph.Shared)]
                if len(pairs) > 1 or (pairs and self._moving(part)):
                    for pair in pairs:
                        self.plain(pair)
        elif not isinstance(node, (graph.Gram, graph.Shared, graph.Fresh)):
            raise Unsupported("an expectation in more than two dimensions")

    def plain(self, node: graph.Pair) -> int:
        """The register of a node's covariance."""
        if id(node) not in self._plain:
            self._plain[id(node)] = self._make_plain(node)
        return self._plain[id(node)]

    def _make_plain(self, node: graph.Pair) -> int:
        match node:
            case graph.Dual():
                call = self.call(node.call)
                return call.steep if node.what == "slope" else self.plain_value(call)
            case graph.Gram():
                norms = (graph.Norm(("second", n, n, False), (), data=(n, n)) for n in node.data)
                deviations = [np.sqrt(self.of(norm, side)) for side, norm in enumerate(norms)]
                return self.value_of("plain", self._gram_of(node)[0], p=self.number(*deviations))
            case graph.Shared():
                return self.value_of("multiply", p=self.constant(node.value))
            case graph.Fresh():
                if node.other is None:
                    return self.value_of("multiply", p=self.constant(0.0))
                sides = [self.of(p, side) for side, p in enumerate(node.other)]
                return self.value_of("multiply", p=self.number(*sides))
            case graph.Sum():
                return self._sum(node)
        raise Unsupported("an expectation in more than two dimensions")

    def _sum(self, node: graph.Sum) -> int:
        if len(node.parts) == 1 and node.parts[0].bare and node.parts[0].coef == 1.0:
            return self.plain(node.parts[0].pairs[0])
        made = -1
        for part in node.parts:
            coef, pairs = _folded(part)
            number = self._factors(part, coef)
            operands = self._narrow([self.plain(pair) for pair in pairs], 3)
            if made < 0:
                made = self.new()
                self._emit("multiply", made, *operands, p=number)
            else:
                self._emit("multiply", made, *operands, p=number, m=1)
        return made if made >= 0 else self.value_of("multiply", p=self.constant(0.0))

    def _factors(self, part: graph.Part, coef: float) -> int:
        """The number coef * factors of the rows * factors of the columns."""
        if not part.rows and not part.cols:
            return self.constant(coef)
        sides = []
        for side, factors in enumerate((part.rows, part.cols)):
            value = np.full(self.profiles[side].size, 1.0 if side else float(coef))
            for factor in factors:
                value = value * self.of(factor, side)
            sides.append(value)
        return self.number(sides[0], sides[1])

    def _narrow(self, operands: list[int], most: int) -> list[int]:
        """At most so many registers with the same product."""
        while len(operands) > most:
            first, second, *rest = operands
            operands = [self.value_of("multiply", first, second, p=self.ones), *rest]
        return operands

    def plain_value(self, call: Call) -> int:
        """E f g of a call."""
        if id(call.graph) not in self._images:
            roots = [np.sqrt(self.of(p, side)) for side, p in enumerate(call.graph.moments)]
            self._images[id(call.graph)] = self.value_of("plain", call.image, p=self.number(*roots))
        return self._images[id(call.graph)]

    def _gram_of(self, node: graph.Gram) -> tuple[int, int]:
        if node.data not in self._gram:
            self.grams.append(node.data)
            e, rho = self.new(), self.new()
            self._emit("gram", e, rho, m=len(self.grams) - 1)
            self._gram[node.data] = e, rho
        return self._gram[node.data]

    def corr(self, node: graph.Pair, norms: tuple[graph.Profile, graph.Profile]) -> tuple[int, int]:
        """Registers of a node's co-correlation and correlation; ``norms`` are second moments."""
        if id(node) not in self._corr:
            self._corr[id(node)] = self._make_corr(node, norms)
        return self._corr[id(node)]

    def _make_corr(self, node: graph.Pair, norms: tuple[graph.Profile, graph.Profile]) -> tuple[int, int]:
        if node.increments:
            if isinstance(node, graph.Gram):
                return self._gram_of(node)
            if isinstance(node, graph.Dual) and node.what == "value":
                return self.call(node.call).image, -1
            if isinstance(node, graph.Sum) and node.norms is not None:
                return self._sum_corr(node, node.norms)
        deviations = [inverse(np.sqrt(self.of(p, side))) for side, p in enumerate(norms)]
        e, rho = self.new(), self.new()
        self._emit("normal", e, self.plain(node), -1, rho, p=self.number(*deviations))
        return e, rho

    def _sum_corr(self, node: graph.Sum, norms: tuple[graph.Profile, graph.Profile]) -> tuple[int, int]:
        terms = [(part, *_folded(part)) for part in node.parts]
        variable = [(coef, pairs[0]) for _, coef, pairs in terms if pairs]
        bare = all(not part.rows and not part.cols and len(pairs) < 2 for part, _, pairs in terms)
        e, rho = self.new(), self.new()
        if bare and len(variable) == 1 and all(coef >= 0.0 for _, coef, _ in terms):
            (weight, source), bias = variable[0], sum(coef for _, coef, pairs in terms if not pairs)
            below = self.corr(source, self._norms_of(source))[0]
            sides = []
            for side in (0, 1):
                new = self.of(norms[side], side)
                share = bias * inverse(new)
                first = weight * self.of(self._norms_of(source)[side], side) * inverse(new)
                sides.append(np.sqrt([np.where(new == 0.0, 1.0, first), share]))
            self._emit("dense", e, rho, below, p=self.block(*sides))
            return e, rho
        corrs = []
        for _, _, pairs in terms:
            found = [self.corr(pair, self._norms_of(pair))[0] for pair in pairs]
            while len(found) > 1:
                made = self.new()
                self._emit("both", made, found[0], found[1], self.new())
                found = [made, *found[2:]]
            corrs.append(found[0] if found else -1)
        self._emit("start", e, rho)
        for (part, coef, pairs), below in zip(terms, corrs, strict=True):
            p, m = self._shares(part, coef, pairs, norms)
            self._emit("collect", e, rho, below, p=p, m=m)
        self._emit("join", e, rho)
        return e, rho

    def _shares(
        self, part: graph.Part, coef: float, pairs: list[graph.Pair], norms: tuple[graph.Profile, graph.Profile]
    ) -> tuple[int, int]:
        """The two factors of a term over the deviation of the sum (`tpnum.kernels.machine.collect`)."""
        root = np.sqrt(abs(float(coef)))
        numbers = []
        for factors, weight in ((part.rows, root), (part.cols, np.copysign(root, coef))):
            sides = []
            for side in (0, 1):
                value = np.full(self.profiles[side].size, weight)
                for factor in factors:
                    value = value * self.of(factor, side)
                for pair in pairs:
                    value = value * np.sqrt(self.of(self._norms_of(pair)[side], side))
                sides.append(value * inverse(np.sqrt(self.of(norms[side], side))))
            numbers.append(self.number(*sides))
        return numbers[0], numbers[1]

    @staticmethod
    def _norms_of(node: graph.Pair) -> tuple[graph.Profile, graph.Profile]:
        if node.norms is None:
            raise Unsupported("a term of a sum has no second moment of its own")
        return node.norms

    # -- expectations ----------------------------------------------------------------------------------

    def call(self, call: graph.DualCall) -> Call:
        """Values and partial derivatives of a call of a dual."""
        if id(call) not in self._calls:
            self._calls[id(call)] = self._make_call(call)
        return self._calls[id(call)]

    def _make_call(self, call: graph.DualCall) -> Call:
        if call.f_scalars or call.g_scalars or not (call.f.continuous and call.g.continuous):
            raise Unsupported("a function with parameters, or one that jumps")
        first, second = (
            self.profiles[side].prepared(fn, call.means[side], call.vars[side], ())
            for side, fn in enumerate((call.f, call.g))
        )
        e, rho = self.corr(call.cov, call.vars)
        if rho < 0:
            raise Unsupported("a function of what another one gives, with no layer between")
        image, steep = self.new(), self.new()
        family = call.f.closed[0] if call.f.closed is not None and call.f == call.g else ""
        if first.kind == second.kind == "closed" and family in RULES:
            strip = FAMILIES[family].strip
            if strip not in self.duals:
                if len(self.duals) == machine.SLOTS:
                    raise Unsupported(f"more than {machine.SLOTS} kinds of closed-form duals in one net")
                self.duals.append(strip)
            p = self.block(first.params, second.params)
            self._emit("dual", image, e, steep, p=p, m=self.duals.index(strip))
            return Call(call, e, rho, image, steep, first, second)
        return self._by_series(call, first.general, second.general, (e, rho, image, steep))

    def _by_series(
        self, call: graph.DualCall, first: Prepared, second: Prepared, registers: tuple[int, int, int, int]
    ) -> Call:
        e, rho, image, steep = registers
        for prepared in (first, second):
            if prepared.kind != "series" or prepared.series is None or prepared.series.slope is not None:
                raise Unsupported(f"{prepared.f} has no series of its derivatives")
            if not np.all(np.isfinite(prepared.slope_second)):
                raise Unsupported(f"the derivative of {prepared.f} has no second moment")
        sides = [
            np.array([np.sqrt(p.second) * inverse(np.sqrt(p.q)), np.sqrt(p.slope_second)])
            for p in (first, second)
        ]
        number = self.series.add(first, second, True, np.dtype(np.float64))
        self._emit("series", image, e, steep, p=self.block(*sides), m=number)
        curve = self.new(kernels.PARTIALS)
        roots = [inverse(np.sqrt(p.q)) for p in (first, second)]
        parity = self.series.entries[number][2]
        m = self.curves.add(first, second, parity)
        self._emit("curve", curve, rho, p=self.number(*roots), m=m)
        return Call(call, e, rho, image, steep, first, second, curve)

    # -- backwards -------------------------------------------------------------------------------------

    def seed(self, entry: Entry) -> None:
        """Where the way back begins."""
        if id(entry.node) in self._adjoints:
            raise Unsupported("an output has a node twice")
        self._adjoints[id(entry.node)] = self.value_of("seed", p=self.constant(float(entry.weight)))

    def gain(self, key: Hashable, number: int, *operands: int) -> None:
        """An adjoint gains a number times registers."""
        operands = tuple(self._narrow(list(operands), 3))
        known = key in self._adjoints
        at = self._adjoints.setdefault(key, self.registers)
        if not known:
            self.new()
        self._emit("multiply", at, *operands, p=number, m=int(known))

    def gain_cov(self, call: Call, number: int, *operands: int) -> None:
        """The adjoint of the covariance that a call reads."""
        if self.active(call.graph.cov):
            self.gain(id(call.graph.cov), number, *operands)

    def gain_log(self, call: Call, side: int, number: int, *operands: int) -> None:
        """The adjoint of log q / 2 of a call's rows (0), columns (1) or both."""
        for kept in (0, 1) if side == BOTH else (side,):
            var = call.graph.vars[kept]
            if self.moves(var, kept) is None:
                continue
            keys = tuple(v.key for v in call.graph.vars) if side == BOTH else (var.key,)
            key = ("log", side, *keys)
            old = self._channels.get(key, (None, None, None, None))
            if old[2 + kept] is None:
                moves = 0.5 * self.moves(var, kept) * inverse(self.of(var, kept))
                self._channels[key] = (
                    (key, old[1], moves, old[3]) if kept == 0 else (old[0], key, old[2], moves)
                )
        key = ("log", side, *(v.key for v in call.graph.vars)) if side == BOTH else ("log", side, call.graph.vars[side].key)
        if key in self._channels:
            self.gain(key, number, *operands)

    def active(self, node: graph.Pair) -> bool:
        """Whether a node depends on what is differentiated by."""
        for each in graph.postorder([node], graph.operands, id, self._active):
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
                    self._moving(part) or any(self._active[id(pair)] for pair in part.pairs)
                    for part in node.parts
                )
        raise Unsupported("an expectation in more than two dimensions")

    def _moving(self, part: graph.Part) -> bool:
        """Whether a coefficient or a factor of one input moves."""
        coef, _ = _folded(part)
        sides = ((p, side) for side, group in enumerate((part.rows, part.cols)) for p in group)
        return bool(slopes_of(coef, self.tangents[0].count).any()) or any(
            self.moves(p, side) is not None for p, side in sides
        )

    def back(self, node: graph.Pair) -> None:
        """Hand the adjoint of a node on to what it is computed from."""
        bar = self._adjoints.get(id(node))
        if bar is None or not self.active(node):
            return
        match node:
            case graph.Gram():
                self._emit("grams", bar, m=self.grams.index(node.data))
            case graph.Dual():
                call = self.call(node.call)
                family = node.call.f.closed[0] if call.curve < 0 and node.call.f.closed is not None else ""
                RULES.get(family, by_series)(self, call, node.what, bar)
            case graph.Sum():
                for part in node.parts:
                    self._back_part(part, bar)
            case graph.Shared():
                self._back_constant(node.value, bar, [])

    def _back_part(self, part: graph.Part, bar: int) -> None:
        coef, pairs = _folded(part)
        number = self._factors(part, coef)
        for k, pair in enumerate(pairs):
            if self.active(pair):
                self.gain(id(pair), number, bar, *(self.plain(p) for p in pairs[:k] + pairs[k + 1 :]))
        if not self._moving(part):
            return
        values = [self.plain(pair) for pair in pairs]
        if not part.rows and not part.cols:
            self._back_constant(coef, bar, values)
            return
        numbers: list[np.ndarray] = []
        moves: list[np.ndarray | None] = []
        for side, factors in enumerate((part.rows, part.cols)):
            scale = 1.0 if side else coef
            rank = 1
            carried = self.tangents[side].coefficient(scale, rank)
            own = [self.of(p, side) for p in factors]
            moves.append(product(float(scale), carried, own, [self.moves(p, side) for p in factors]))
            numbers.append(np.prod(own, axis=0, initial=1.0) * np.full(self.profiles[side].size, float(scale)))
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


def _folded(part: graph.Part) -> tuple[float, list[graph.Pair]]:
    """A part's coefficient times the constants among its pairs, and the others."""
    coef = part.coef
    pairs: list[graph.Pair] = []
    for pair in part.pairs:
        if isinstance(pair, graph.Shared):
            coef = coef * pair.value
        else:
            pairs.append(pair)
    return coef, pairs
