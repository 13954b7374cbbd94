"""Values of the nodes of a plan without index axes, as instructions for `tpnum.kernels.reverse`.

As `tpnum.lower.compiler` does it: co-correlations where a dual reads them, plain covariances elsewhere.
Registers are kept: the way back reads what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.gauss.closed import FAMILIES
from tpnum.kernels import machine
from tpnum.kernels import reverse as kernels
from tpnum.law import graph
from tpnum.lower.assembler import inverse
from tpnum.lower.bends import RULES, Call, CurveTables
from tpnum.lower.unsupported import Unsupported
from tpnum.lower.tables import SeriesTables

if TYPE_CHECKING:
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.gauss.pair import Prepared

CODE = {name: k for k, name in enumerate(kernels.OPERATIONS)}

Sides = tuple[np.ndarray, np.ndarray]
"""Numbers of rows and of columns."""


class Forwards:
    """Writes instructions; registers are numbered as they come."""

    def __init__(self, profiles: tuple[ProfileValues, ProfileValues]):
        self.profiles = profiles
        self.code: list[tuple[int, ...]] = []
        self.registers = 0
        self.series, self.curves = SeriesTables(), CurveTables()
        self.duals: list[str] = []
        self.grams: list[tuple[str, str]] = []
        self.numbers: list[Sides] = []
        self._plain: dict[int, int] = {}
        self._corr: dict[int, tuple[int, int]] = {}
        self._images: dict[int, int] = {}
        self._gram: dict[tuple[str, str], tuple[int, int]] = {}
        self._calls: dict[int, Call] = {}
        self.ones = self.number(*(np.ones(profile.size) for profile in profiles))

    # -- instructions --------------------------------------------------------------------------------

    def emit(self, op: str, *registers: int, p: int = 0, m: int = 0) -> None:
        self.code.append((CODE[op], *registers, *[-1] * (4 - len(registers)), p, m))

    def new(self, count: int = 1) -> int:
        """The first of some new registers."""
        self.registers += count
        return self.registers - count

    def value_of(self, op: str, *reads: int, p: int = 0, m: int = 0) -> int:
        """The register of what an operation makes of others."""
        made = self.new()
        self.emit(op, made, *reads, p=p, m=m)
        return made

    def number(self, row: np.ndarray, col: np.ndarray) -> int:
        """The row of a number of rows and columns."""
        self.numbers.append((row, col))
        return len(self.numbers) - 1

    def constant(self, value: float) -> int:
        """The row of a number that is the same everywhere."""
        if value == 1.0:
            return self.ones
        return self.number(np.full(self.profiles[0].size, float(value)), np.ones(self.profiles[1].size))

    def block(self, rows: np.ndarray, cols: np.ndarray) -> int:
        """Consecutive numbers; the row of the first."""
        self.numbers += list(zip(rows, cols, strict=True))
        return len(self.numbers) - len(rows)

    def of(self, node: graph.Profile, side: int) -> np.ndarray:
        """A profile of rows or columns."""
        return np.asarray(self.profiles[side](node)).reshape(self.profiles[side].size)

    # -- forwards ------------------------------------------------------------------------------------

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
            coef, pairs = folded(part)
            number = self.factors(part, coef)
            operands = self.narrow([self.plain(pair) for pair in pairs], 3)
            if made < 0:
                made = self.new()
                self.emit("multiply", made, *operands, p=number)
            else:
                self.emit("multiply", made, *operands, p=number, m=1)
        return made if made >= 0 else self.value_of("multiply", p=self.constant(0.0))

    def factors(self, part: graph.Part, coef: float) -> int:
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

    def narrow(self, operands: list[int], most: int) -> list[int]:
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
            self.emit("gram", e, rho, m=len(self.grams) - 1)
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
        self.emit("normal", e, self.plain(node), -1, rho, p=self.number(*deviations))
        return e, rho

    def _sum_corr(self, node: graph.Sum, norms: tuple[graph.Profile, graph.Profile]) -> tuple[int, int]:
        terms = [(part, *folded(part)) for part in node.parts]
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
            self.emit("dense", e, rho, below, p=self.block(*sides))
            return e, rho
        corrs = []
        for _, _, pairs in terms:
            found = [self.corr(pair, self._norms_of(pair))[0] for pair in pairs]
            while len(found) > 1:
                made = self.new()
                self.emit("both", made, found[0], found[1], self.new())
                found = [made, *found[2:]]
            corrs.append(found[0] if found else -1)
        self.emit("start", e, rho)
        for (part, coef, pairs), below in zip(terms, corrs, strict=True):
            p, m = self._shares(part, coef, pairs, norms)
            self.emit("collect", e, rho, below, p=p, m=m)
        self.emit("join", e, rho)
        return e, rho

    def _shares(
        self,
        part: graph.Part,
        coef: float,
        pairs: list[graph.Pair],
        norms: tuple[graph.Profile, graph.Profile],
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
            self.emit("dual", image, e, steep, p=p, m=self.duals.index(strip))
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
        self.emit("series", image, e, steep, p=self.block(*sides), m=number)
        curve = self.new(kernels.PARTIALS)
        roots = [inverse(np.sqrt(p.q)) for p in (first, second)]
        parity = self.series.entries[number][2]
        m = self.curves.add(first, second, parity)
        self.emit("curve", curve, rho, p=self.number(*roots), m=m)
        return Call(call, e, rho, image, steep, first, second, curve)


def folded(part: graph.Part) -> tuple[float, list[graph.Pair]]:
    """A part's coefficient times the constants among its pairs, and the others."""
    coef = part.coef
    pairs: list[graph.Pair] = []
    for pair in part.pairs:
        if isinstance(pair, graph.Shared):
            coef = coef * pair.value
        else:
            pairs.append(pair)
    return coef, pairs
