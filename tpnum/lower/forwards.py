"""Values of the nodes of a plan without index axes, as instructions for `tpnum.kernels.reverse`.

As `tpnum.lower.dense` does it: co-correlations where a dual reads them, plain covariances elsewhere.
Registers are kept: the way back reads what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpnum.kernels import reverse as kernels
from tpnum.law import graph
from tpnum.lower.bends import RULES, Call, CurveTables, by_curve, curves_of, family_of
from tpnum.lower.duals import slot
from tpnum.lower.numbers import inverse
from tpnum.lower.tables import SeriesTables
from tpnum.lower.unsupported import Unsupported

if TYPE_CHECKING:
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.gauss.pair import Prepared

CODE = {name: k for k, name in enumerate(kernels.OPERATIONS)}

SHORT = 2
"""Terms of a sum that is multiplied out wherever it is read."""
Sides = tuple[np.ndarray, np.ndarray]
"""Numbers of rows and of columns."""


class Forwards:
    """Writes instructions; registers are numbered as they come.

    ``uses`` says how many nodes read each node.
    """

    def __init__(self, profiles: tuple[ProfileValues, ProfileValues], uses: dict[int, int]):
        self.profiles, self.uses = profiles, uses
        self.code: list[tuple[int, ...]] = []
        self.registers = 0
        self.series, self.curves = SeriesTables(), CurveTables()
        self.duals: list[str] = []
        self.grams: list[tuple[str, str]] = []
        self.numbers: list[Sides] = []
        self._constants: dict[float, int] = {}
        self._terms: dict[int, list[graph.Part]] = {}
        self._plain: dict[int, int] = {}
        self._corr: dict[int, tuple[int, int]] = {}
        self._images: dict[int, int] = {}
        self._gram: dict[tuple[str, str], tuple[int, int]] = {}
        self._calls: dict[int, Call] = {}
        self.ones = self.constant(1.0)

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
        if float(value) not in self._constants:
            sizes = [profile.size for profile in self.profiles]
            self._constants[float(value)] = self.number(np.full(sizes[0], float(value)), np.ones(sizes[1]))
        return self._constants[float(value)]

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

    def terms(self, node: graph.Sum) -> list[graph.Part]:
        """The parts of a sum, constants in their coefficients, short sums and its own multiplied out."""
        if id(node) not in self._terms:
            self._terms[id(node)] = [term for part in node.parts for term in self._multiplied(node, part)]
        return self._terms[id(node)]

    def _multiplied(self, node: graph.Sum, part: graph.Part) -> list[graph.Part]:
        coef = part.coef
        pairs: list[graph.Pair] = []
        for pair in part.pairs:
            if isinstance(pair, graph.Shared):
                coef = coef * pair.value
            else:
                pairs.append(pair)
        inner = pairs[0] if len(pairs) == 1 else None
        if isinstance(inner, graph.Sum) and (inner.increments or not node.increments):
            terms = self.terms(inner)
            if len(terms) <= SHORT or self.uses[id(inner)] == 1:
                return [
                    graph.Part(coef * t.coef, part.rows + t.rows, part.cols + t.cols, t.pairs) for t in terms
                ]
        return [graph.Part(coef, part.rows, part.cols, tuple(pairs))]

    def _sum(self, node: graph.Sum) -> int:
        terms = self.terms(node)
        if len(terms) == 1 and terms[0].coef == 1.0 and not terms[0].rows + terms[0].cols:
            operands = self.narrow([self.plain(pair) for pair in terms[0].pairs], 1)
            if operands:
                return operands[0]
        made = -1
        for term in terms:
            number = self.factors(term)
            operands = self.narrow([self.plain(pair) for pair in term.pairs], 3)
            if made < 0:
                made = self.new()
                self.emit("multiply", made, *operands, p=number)
            else:
                self.emit("multiply", made, *operands, p=number, m=1)
        return made if made >= 0 else self.value_of("multiply", p=self.constant(0.0))

    def factors(self, term: graph.Part) -> int:
        """The number coef * factors of the rows * factors of the columns."""
        if not term.rows and not term.cols:
            return self.constant(term.coef)
        sides = []
        for side, factors in enumerate((term.rows, term.cols)):
            value = np.full(self.profiles[side].size, 1.0 if side else float(term.coef))
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
        terms = self.terms(node)
        variable = [(float(term.coef), term.pairs[0]) for term in terms if term.pairs]
        bare = all(not term.rows + term.cols and len(term.pairs) < 2 for term in terms)
        e, rho = self.new(), self.new()
        if bare and len(variable) == 1 and all(term.coef >= 0.0 for term in terms):
            (weight, source), bias = variable[0], sum(float(t.coef) for t in terms if not t.pairs)
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
        for term in terms:
            found = [self.corr(pair, self._norms_of(pair))[0] for pair in term.pairs]
            while len(found) > 1:
                made = self.new()
                self.emit("both", made, found[0], found[1], self.new())
                found = [made, *found[2:]]
            corrs.append(found[0] if found else -1)
        self.emit("start", e, rho)
        for term, below in zip(terms, corrs, strict=True):
            p, m = self._shares(term, norms)
            self.emit("collect", e, rho, below, p=p, m=m)
        self.emit("join", e, rho)
        return e, rho

    def _shares(self, term: graph.Part, norms: tuple[graph.Profile, graph.Profile]) -> tuple[int, int]:
        """The two factors of a term over the deviation of the sum (`tpnum.kernels.machine.collect`)."""
        root = np.sqrt(abs(float(term.coef)))
        numbers = []
        for factors, weight in ((term.rows, root), (term.cols, np.copysign(root, term.coef))):
            sides = []
            for side in (0, 1):
                value = np.full(self.profiles[side].size, weight)
                for factor in factors:
                    value = value * self.of(factor, side)
                for pair in term.pairs:
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
        family = family_of(first, second)
        if family:
            m = slot(self.duals, family)
            p = self.block(first.params, second.params)
            self.emit("dual", image, e, steep, p=p, m=m)
            curve = self._curve(rho, first, second) if RULES[family] is by_curve else -1
            return Call(call, e, rho, image, steep, first, second, curve)
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
        return Call(call, e, rho, image, steep, first, second, self._curve(rho, first, second))

    def _curve(self, rho: int, first: Prepared, second: Prepared) -> int:
        """The first of the registers of second derivatives."""
        curve = self.new(kernels.PARTIALS)
        roots = [inverse(np.sqrt(p.q)) for p in (first, second)]
        m = self.curves.add(curves_of(first, second))
        self.emit("curve", curve, rho, p=self.number(*roots), m=m)
        return curve
