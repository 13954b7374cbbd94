"""A level of cells and its adjoint: code for the way back behind that for the way forwards.

The way back is made of instructions of the same machine (`tpnum.kernels.cells`): the adjoint of an index map
is a map, sums and products pass by the product rule, functions of two Gaussians as in `tpnum.lower.bends`,
all on plain covariances.  Where it reaches a coefficient or a quantity of one input it ends in a `Channel`:
sums of an adjoint by rows or by columns, position by position.  Adjoints of what other regions made go to
buffers beside theirs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tpnum.jets import slopes_of
from tpnum.law import graph
from tpnum.law.worklist import postorder
from tpnum.lower.bends import BOTH, RULES, by_curve, curves_of, family_of
from tpnum.lower.builder import both, sides
from tpnum.lower.channels import Asked, CellCall, Channel, Rules, differentiable, direction, growths
from tpnum.lower.forms import spelled
from tpnum.lower.fusions import Fusions
from tpnum.lower.network import grid_of
from tpnum.lower.numbers import Number, inverse, positions
from tpnum.lower.passes import live
from tpnum.lower.select import Selection
from tpnum.lower.unsupported import Unsupported

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.evaluate.profile import ProfileValues
    from tpnum.lower.fusions import Fused, Key
    from tpnum.lower.network import Grid, Root
    from tpnum.lower.schedule import Level
    from tpnum.lower.values import Norms

    Profiles = tuple[ProfileValues, ProfileValues]


class Backwards(Selection):
    """The code of a level, forwards and back."""

    def __init__(self, level: Level, profiles: Profiles, dtype: np.dtype, asked: Asked):
        self.asked, self.moving = asked, asked.moving
        self.channels: list[Channel] = []
        self._at: dict[tuple[int, Grid], int] = {}
        self._known: dict[tuple[int, Grid], CellCall] = {}
        self._values: dict[int, int] = {}
        self._roots_bars: dict[int, int] = {}
        self._bars: dict[int, int] = {}
        self._logs: dict[tuple[int, int], tuple[CellCall, Grid, int]] = {}
        self._sources: dict[Key, int] = {}
        self._curves: dict[int, dict[str, int]] = {}
        self._series: dict[tuple[int, Grid], int] = {}
        super().__init__(level, profiles, dtype)

    def _fusions(self) -> Fusions:
        """Relus whose way back is one instruction too: coefficients move in one direction, if they do."""

        def wanted(step: Fused) -> bool:
            return not step.others and direction(step, self.asked.parameters) is not None

        return Fusions(self.level, self._roots, self._prepared, wanted)

    def _run(self) -> None:
        super()._run()
        order = self._order()
        first = {id(node.call): id(node) for node in reversed(order) if isinstance(node, graph.Dual)}
        own, loaded = (
            {id(root.node): root for root in roots} for roots in (self.level.roots, self.level.loaded)
        )
        waiting = {id(step): {step.value, step.tangent} - {None} for step in self.fusions.steps.values()}
        for node in reversed(order):
            if id(node) in own:
                self._back_root(own[id(node)])
                self._back_relus(own[id(node)], waiting)  # type: ignore[arg-type]
            elif id(node) in loaded and id(node) in self._roots_bars:
                extra = ("buffer", id(node))
                self.emit("give", self._roots_bars.pop(id(node)), grid=grid_of(node), p=-1, extra=extra)
            if id(node) in self._bars:
                self._back(node, self._bars.pop(id(node)))
            if isinstance(node, graph.Dual) and first[id(node.call)] == id(node):
                self._end_logs(node.call)
                self._curve(node.call, grid_of(node))
        self.code = live(self.code, self.asked.effects)

    def _order(self) -> list[graph.Pair]:
        """All nodes, operands first; what goes into a relu comes before both roots that it makes."""
        more: dict[int, list[graph.Pair]] = {}
        for step in self.fusions.steps.values():
            more.setdefault(step.value[0], []).append(step.call.cov)
            more[step.value[0]] += [step.inner] if step.inner is not None else []
        before = {id(root.node): more.get(id(root), []) for root in self.level.roots}

        def operands(node: graph.Pair) -> list[graph.Pair]:
            return [*graph.operands(node), *before.get(id(node), [])]

        return postorder(self.level.network.order, operands, id, ())

    def _store(self, root: Root) -> None:
        if self.asked.values:
            super()._store(root)

    def _normalised(self, root: Root, norms: Norms, grid: Grid, same: bool = True) -> int:
        return self._left_out(super()._normalised(root, norms, grid, same))

    def _normal(self, value: int, norms: Norms, grid: Grid, same: bool) -> int:
        return self._left_out(super()._normal(value, norms, grid, same))

    def _make_correlation(self, node: graph.Pair) -> int:
        return self._left_out(super()._make_correlation(node))

    def _left_out(self, made: int) -> int:
        """A correlation, none of an example and itself where nobody asks for these."""
        last = self.code[-1]
        if self.asked.apart and made in last.makes and last.op in ("co", "normal"):
            self.code[-1] = replace(last, flag=1 if last.op == "co" else 2)
        return made

    def _steep(self, call: graph.DualCall) -> bool:
        return True

    def _make_call(self, call: graph.DualCall, grid: Grid) -> tuple[int, int]:
        made = super()._make_call(call, grid)
        self._series[id(call), grid] = self.code[-1].n if self.code[-1].op == "series" else -1
        return made

    def _input(self, call: graph.DualCall, grid: Grid) -> int:
        made = super()._input(call, grid)
        self._at[id(call), grid] = made
        return made

    # -- values ----------------------------------------------------------------------------------

    def known(self, call: graph.DualCall, grid: Grid) -> CellCall:
        """A call as the rules of `tpnum.lower.bends` read it."""
        if (id(call), grid) not in self._known:
            image, steep = self._call(call, grid)
            first, second = self._prepared(call, 0), self._prepared(call, 1)
            at = self._index(call, grid, 0), self._index(call, grid, 1)
            e = self._at[id(call), grid]
            rho = self.value_of("plain", e, p=self._one(grid), grid=grid)
            self._known[id(call), grid] = CellCall(call, e, rho, image, steep, first, second, at=at)
        return self._known[id(call), grid]

    def plain_value(self, call: CellCall, grid: Grid) -> int:
        """E f g of a call."""
        moments = call.graph.moments
        if id(call.graph) not in self._values:
            p = self.numbers.place(grid, sides(lambda k: Number(1.0, ((moments[k], 0.5),))))
            self._values[id(call.graph)] = self.value_of("plain", call.image, p=p, grid=grid)
        return self._values[id(call.graph)]

    def _plain_of(self, node: graph.Pair, grid: Grid) -> int:
        """A node's covariance."""
        if self._computed(node) and node.what == "value":
            return self.plain_value(self.known(node.call, grid), grid)
        return self._covariance(node, grid)

    def _one(self, grid: Grid) -> int:
        return self.numbers.place(grid, both(1.0))

    # -- adjoints --------------------------------------------------------------------------------

    def product(self, grid: Grid, number: int, *operands: int) -> int:
        """A number times registers."""
        made, *rest = operands
        if not rest:
            return made if number == self._one(grid) else self.value_of("times", made, p=number, grid=grid)
        for k, other in enumerate(rest):
            p = number if k == len(rest) - 1 else self._one(grid)
            made = self.value_of("product", made, other, p=p, grid=grid)
        return made

    def _more(self, old: int, grid: Grid, number: int, *operands: int) -> int:
        """An adjoint with more of it, -1 for none before."""
        if old < 0:
            return self.product(grid, number, *operands)
        *others, last = operands
        if not others:
            return self.value_of("add", old, last, p=number, grid=grid)
        first = self.product(grid, self._one(grid), *others)
        return self.value_of("add_product", old, first, last, p=number, grid=grid)

    def gain(self, node: graph.Pair, grid: Grid, number: int, *operands: int) -> None:
        """More of a node's adjoint."""
        if self.moving.pair(node):
            bars = self._roots_bars if id(node) in self._roots else self._bars
            bars[id(node)] = self._more(bars.get(id(node), -1), grid, number, *operands)

    def gain_log(self, call: CellCall, grid: Grid, side: int, number: int, *operands: int) -> None:
        """More of the adjoint of log q / 2 of a call's rows (0), columns (1) or both."""
        if any(self.moving.profile(call.graph.vars[s]) for s in ((0, 1) if side == BOTH else (side,))):
            key = id(call.graph), side
            old = self._logs[key][2] if key in self._logs else -1
            self._logs[key] = call, grid, self._more(old, grid, number, *operands)

    def _end_logs(self, call: graph.DualCall) -> None:
        for side in (0, 1, BOTH):
            if (id(call), side) in self._logs:
                _, grid, bar = self._logs.pop((id(call), side))
                for s in (0, 1) if side == BOTH else (side,):
                    self._quantity(grid, s, call.vars[s], bar, log=True)

    def _quantity(self, grid: Grid, side: int, node: graph.Profile, bar: int, log: bool = False) -> None:
        """The end of a way back at a quantity of the row or of the column."""
        if self.moving.profile(node):
            operands = (bar,) if side else (bar, -1)
            self.emit(("rows", "cols")[side], *operands, grid=grid, p=-1, n=len(self.channels))
            self.channels.append(Channel(grid, side, positions(grid, side), node=node, log=log))

    def _coefficient(self, slopes: np.ndarray, grid: Grid, *operands: int) -> None:
        """The end of one at a coefficient."""
        if slopes.any():
            *some, last = operands
            one = self.product(grid, self._one(grid), *some) if some else -1
            pair = (one, last) if some else (last, -1)
            self.emit("rows", *pair, grid=grid, p=-1, n=len(self.channels))
            self.channels.append(Channel(grid, 0, 1, slopes))

    def _back_root(self, root: Root) -> None:
        """Through the chains of a root to its atoms."""
        if not self.moving.pair(root.node):
            return
        grid = grid_of(root.node)
        bar = self._roots_bars.pop(id(root.node), -1)
        if root in self.level.stored and not root.pooled:
            seed = self.value_of("seed", grid=grid, extra=("buffer", id(root.node)))
            bar = self._more(bar, grid, self._one(grid), seed)
        if bar < 0 and not root.pooled:
            return
        for k, group in enumerate(root.groups):
            if group.carried:
                raise Unsupported("the way back through a recurrence")
            if not any(self._moves(coef, atom) for coef, atom in group.atoms):
                continue
            made, below = bar, grid
            if group.chain:
                key: Hashable = grid
                below = self.level.below(root, k)
                if root.pooled:
                    key = ("touched", id(root), k)
                    made = self.value_of("seed", grid=key, extra=(*key, id(root.node)))  # type: ignore
                extra = ("map", "back", id(root), k)
                made = self.value_of("mix", made, grid=key, extra=extra)  # type: ignore[arg-type]
            if (id(root), k) in self.fusions.steps:
                self._sources[id(root), k] = made
                continue
            for coef, atom in group.atoms:
                self._back_atom(root, coef, atom, made, below)

    def _moves(self, coef: float, atom: graph.Pair) -> bool:
        return bool(slopes_of(coef, self.asked.parameters).any()) or self.moving.pair(atom)

    def _back_atom(self, root: Root, coef: float, atom: graph.Pair, bar: int, grid: Grid) -> None:
        if isinstance(atom, graph.Shared):
            self._coefficient(slopes_of(coef * atom.value, self.asked.parameters), grid, bar)
            return
        slopes = slopes_of(coef, self.asked.parameters)
        if slopes.any():
            self._coefficient(slopes, grid, bar, self._plain_of(atom, grid))
        number = self.numbers.place(grid, (Number(float(coef)), Number(1.0)))
        if atom is root.node:  # a root that is no sum
            self._bars[id(atom)] = self._more(self._bars.get(id(atom), -1), grid, number, bar)
        else:
            self.gain(atom, grid, number, bar)

    def _back_relus(self, root: Root, waiting: dict[int, set[Key]]) -> None:
        """Through the relus that a root has been the last to read."""
        for k in range(len(root.groups)):
            step = self.fusions.steps.get((id(root), k))
            if step is not None:
                waiting[id(step)].discard((id(root), k))
                if not waiting[id(step)]:
                    self._bend(step)

    def _bend(self, step: Fused) -> None:
        """From the adjoints of both sources that a relu makes to those of what it is of."""
        call, grid = step.call, grid_of(step.call.cov)
        first = self._sources.pop(step.value, -1)
        second = self._sources.pop(step.tangent, -1) if step.tangent is not None else -1
        if max(first, second) < 0:
            return
        source, norms = self._roots[id(call.cov)], call.cov.norms
        found = direction(step, self.asked.parameters)
        assert norms is not None
        assert found is not None
        one, multiples = found
        own, inner, shift = self._inner(step) if second >= 0 else (False, -1, both(0.0))
        lift = self.fusions.bare.get(id(source), 0.0)
        weights = step.scale * np.array([step.coef, *step.coefs, *multiples])
        n = self.numbers.constant(
            sides(lambda k: Number(1.0, (), ((norms[k], 1.0),))),
            sides(lambda k: Number(float(np.sqrt(lift)), (), ((norms[k], -1.0),))),
            shift,
            *((Number(float(weight)), Number(1.0)) for weight in weights),
        )
        if first < 0:
            first = self.value_of("zero", grid=grid)
        made = self.emit(
            "bent", first, second, self._registers[id(source)], inner,
            p=self._roots_of(norms, grid), n=n, m=len(self.channels), grid=grid, flag=4 * own,
        )  # fmt: skip
        self._gathered(call, grid)
        self.channels.append(Channel(grid, 0, 1, one))
        self.gain(call.cov, grid, self._one(grid), made[0])
        if second >= 0 and step.inner is not None:
            self.gain(step.inner, grid, self._one(grid), made[1])

    def _back(self, node: graph.Pair, bar: int) -> None:
        """From the adjoint of a node that is no root to what it is of."""
        grid = grid_of(node)
        match node:
            case graph.Dual():
                call = node.call
                prepared = self._prepared(call, 0), self._prepared(call, 1)
                if call.f_scalars or any(map(self.moving.profile, call.means)):
                    raise Unsupported("the way back through a function with parameters or means")
                family = family_of(*prepared)
                if not family:
                    differentiable(prepared[0].general, prepared[1].general)
                rule = RULES.get(family, by_curve)
                if rule is by_curve:
                    self._curves.setdefault(id(call), {})[node.what] = bar
                    return
                rule(Rules(self, grid), self.known(call, grid), node.what, bar)  # type: ignore[arg-type]
            case graph.Sum():
                for part in spelled(node):
                    self._back_part(part, bar, grid)
            case graph.Gram():
                self._back_data(node, bar, grid)
            case _:
                raise Unsupported(f"the way back through a {type(node).__name__} node")

    def _curve(self, call: graph.DualCall, grid: Grid) -> None:
        """Through a function by its series, from the adjoints of E f g and of E f' g'."""
        bars = self._curves.pop(id(call), {})
        if not bars:
            return
        known, rules = self.known(call, grid), Rules(self, grid)
        found = curves_of(known.first, known.second)
        grown = growths(self.profiles, call, grid, self.moving) if found.least[-1] > 0.0 else None
        number = self.tables.lean(found, grown is not None, self._series[id(call), grid])
        self.series.append(self._placed(call, grid))
        p = rules.numbers((inverse(known.roots[0]), inverse(known.roots[1])), known.sizes, *grown or ())
        value = bars["value"] if "value" in bars else self.value_of("zero", grid=grid)
        operands = value, bars.get("slope", -1), known.e, known.steep
        made = self.value_of("curved", *operands, p=p, n=number, m=len(self.channels), grid=grid)
        self._gathered(call, grid)
        self.gain(call.cov, grid, rules.ones, made)

    def _gathered(self, call: graph.DualCall, grid: Grid) -> None:
        """Channels of what an instruction gathers of log q / 2 and log q' / 2."""
        for side, var in enumerate(call.vars):
            node = var if self.moving.profile(var) else None
            self.channels.append(Channel(grid, side, positions(grid, side), node=node, log=True))

    def _back_data(self, node: graph.Gram, bar: int, grid: Grid) -> None:
        """To the data of either side, times that of the other."""
        ones = both(1.0)
        key = node.data, *(one.key for one in ones)
        self.sources[key] = node.data, ones
        m = list(self.sources).index(key)
        for side, (line, op) in enumerate(zip(node.data, ("data_rows", "data_cols"), strict=True)):
            channels = self.profiles[side].data[line].shape[-1]
            self.emit(op, bar, grid=grid, p=-1, n=len(self.channels), m=m)
            self.channels.append(Channel(grid, side, channels * positions(grid, side), line=line))

    def _back_part(self, part: graph.Part, bar: int, grid: Grid) -> None:
        """The product rule."""
        coef, pairs = part.coef, []
        for pair in part.pairs:
            if isinstance(pair, graph.Shared):
                coef = coef * pair.value
            else:
                pairs.append(pair)
        factors = [(factor, side) for side, group in enumerate((part.rows, part.cols)) for factor in group]

        def number(coef: float, left_out: int = -1) -> int:
            used = [one for k, one in enumerate(factors) if k != left_out]
            powers = [tuple((p, 1.0) for p, s in used if s == side) for side in (0, 1)]
            return self.numbers.place(grid, (Number(coef, powers[0]), Number(1.0, powers[1])))

        for k, pair in enumerate(pairs):
            if self.moving.pair(pair):
                others = [self._plain_of(other, grid) for other in pairs[:k] + pairs[k + 1 :]]
                self.gain(pair, grid, number(float(coef)), bar, *others)
        slopes = slopes_of(coef, self.asked.parameters)
        moved = [k for k, (factor, _) in enumerate(factors) if self.moving.profile(factor)]
        if not slopes.any() and not moved:
            return
        values = [self._plain_of(pair, grid) for pair in pairs]
        if slopes.any():
            self._coefficient(slopes, grid, self.product(grid, number(1.0), bar, *values))
        for k in moved:
            factor, side = factors[k]
            self._quantity(grid, side, factor, self.product(grid, number(float(coef), k), bar, *values))
