"""Instructions for one level: which operations compute its roots from the nodes below.

Values are never changed; registers are found afterwards (`tpnum.plan.assembler.allocate`).  A value is held
as increments, as a covariance or as a co-correlation; what one reader needs of another's is converted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tpnum.gauss.closed import FAMILIES
from tpnum.kernels.cells import SLOTS as KINDS
from tpnum.law import graph
from tpnum.lower.linear import is_linear
from tpnum.lower.numbers import Number, Numbers, axes_of
from tpnum.lower.schedule import Group, Level, Root, grid_of
from tpnum.plan.compiler import Unsupported
from tpnum.plan.tables import SeriesTables

if TYPE_CHECKING:
    from tpnum.gauss.pair import Prepared
    from tpnum.lower.numbers import Pair
    from tpnum.lower.schedule import Grid
    from tpnum.plan.profile import ProfileValues
    from tpnum.program.lines import Axes

    Atoms = tuple[tuple[float, graph.Pair], ...]

SLOTS = {
    "data": "w",
    "cross": "w",
    "zero": "w",
    "co": "wr",
    "normal": "wr",
    "dual": "wrw",
    "series": "wrw",
    "both": "wrr",
    "gain": "mr",
    "add": "mr",
    "add_rho": "mr",
    "add_product": "mrr",
    "add_outer": "m",
    "multiply": "mr",
    "fresh": "m",
    "relu": "mm",
    "first": "mw",
    "mix": "wr",
    "load": "w",
    "store": "r",
}
"""What an operation does with its registers: (w)rites, (r)eads, or changes (m)ade values in place."""


@dataclass(frozen=True)
class Instruction:
    """An operation on values at the cells of a space; ``extra`` is a key of a space, map or buffer."""

    op: str
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    p: int
    n: int
    grid: Grid
    flag: int = 0
    extra: tuple | None = None


@dataclass(frozen=True)
class Rectified:
    """A relu whose value goes through one chain alone and, with its tangent kernel, through one more."""

    call: graph.DualCall
    value: tuple[int, int]
    tangent: tuple[int, int] | None
    coef: float
    coefs: tuple[float, float]
    inner: graph.Pair | None
    held: str
    scale: float


class Selection:
    """The code of a level for a pair of profile passes."""

    def __init__(self, level: Level, profiles: tuple[ProfileValues, ProfileValues], dtype: np.dtype):
        self.level, self.profiles, self.dtype = level, profiles, dtype
        self.numbers = Numbers(profiles)
        self.tables = SeriesTables()
        self.series: list[tuple[Grid, Prepared, Prepared, tuple[np.ndarray, np.ndarray]]] = []
        self.duals: list[str] = []
        self.sources: list[tuple[str, str]] = []
        self.code: list[Instruction] = []
        self.made = 0
        self._roots = {id(root.node): root for root in (*level.roots, *level.loaded)}
        self._here = set(self._roots.values())
        self._registers: dict[int, int] = {}
        self._pending: dict[int, list[tuple[int, tuple]]] = {}
        self._e: dict[int, int] = {}
        self._calls: dict[tuple[int, Grid], tuple[int, int]] = {}
        self._plain: dict[tuple[int, Grid], int] = {}
        self._parts: dict[tuple[int, int], int] = {}
        self._wanted = {id(a.call): a.call for a in self._atoms() if isinstance(a, graph.Dual)}
        self._rectified = self._match()
        self._bare = self._bare_roots()
        self._run()

    # -- order -----------------------------------------------------------------------------------

    def _run(self) -> None:
        depth: dict[int, int] = {}
        for root in self.level.roots:
            depth[id(root)] = 1 + max((depth.get(id(r), 0) for r in root.loads), default=0)
        for d in sorted(set(depth.values())):
            batch = [root for root in self.level.roots if depth[id(root)] == d]
            for root in batch:
                for read in root.loads:
                    self._flush(self._root(read.node) or read)
            for root in batch:
                if self._root(root.node) is root or root in self.level.stored:
                    self._make(root)
            for root in batch:
                if root in self.level.stored:
                    self._store(root)

    def _make(self, root: Root) -> None:
        """The sources of a root's chains; the chains themselves are run when somebody reads the root."""
        self._pending[id(root)] = [
            (self._source(root, k, -1), k) for k, group in enumerate(root.groups) if group.chain
        ]

    def _flush(self, root: Root) -> None:
        """The register of a root."""
        if id(root) in self._registers:
            return
        if root in self.level.loaded:
            made = self.value_of("load", grid=grid_of(root.node), extra=("buffer", id(root.node)))
        else:
            made = self._sum(root)
        self._registers[id(root)] = made

    def _sum(self, root: Root) -> int:
        """The register of a root: its chains and what is added to them."""
        grid = grid_of(root.node)
        made = -1
        for source, k in self._pending[id(root)]:
            part = self.value_of("mix", source, grid=self._below(root, k), extra=("map", id(root), k))
            if made < 0:
                made = part
            else:
                made = self.value_of("add", made, part, p=self.numbers.place(grid, _both(1.0)), grid=grid)
        for k, group in enumerate(root.groups):
            if not group.chain and not (id(root) in self._bare and constant(group) is not None):
                made = self._source(root, k, made)
        return made if made >= 0 else self.value_of("zero", grid=grid)

    def _below(self, root: Root, k: int) -> Grid:
        return next(grid_of(a) for _, a in root.groups[k].atoms if Level.on_cells(a))

    def _store(self, root: Root) -> None:
        key = ("buffer", id(root.node))
        if root.pooled:
            for source, k in self._pending[id(root)]:
                below = self._below(root, k)
                made = self.value_of("mix", source, grid=below, extra=("map", id(root), k))
                self.emit("store", made, grid=below, p=-1, extra=("touched", id(root), k, id(root.node)))
            return
        self._flush(root)
        grid = grid_of(root.node)
        self.emit("store", self._registers[id(root)], grid=grid, p=-1, extra=key)

    # -- sources ---------------------------------------------------------------------------------

    def _source(self, root: Root, k: int, out: int) -> int:
        """What goes through a chain; without one, what is added to ``out``."""
        if (id(root), k) in self._rectified:
            return self._relu(self._rectified[id(root), k], (id(root), k))
        group = root.groups[k]
        cells = [atom for _, atom in group.atoms if Level.on_cells(atom)]
        if not cells and group.chain:
            raise Unsupported("a constant alone goes through an index map")
        grid = grid_of(cells[0]) if cells else grid_of(root.node)
        if root.held == "inc":
            return self._increments(root, group.atoms, grid, out)
        return self._covariances(group.atoms, grid, out)

    def _increments(self, root: Root, atoms: Atoms, grid: Grid, out: int) -> int:
        norms = root.node.norms
        assert norms is not None
        down = _sides(lambda side: Number(1.0, (), ((norms[side], -1.0),)))
        if out < 0 and len(atoms) == 1 and isinstance(atoms[0][1], graph.Gram) and atoms[0][0] > 0:
            return self._data("data", atoms[0][1], grid, _scaled(down, atoms[0][0]))
        out = self.value_of("zero", grid=grid) if out < 0 else out
        for coef, atom in atoms:
            if isinstance(atom, graph.Sum) and not is_linear(atom):
                for part in atom.parts:
                    out = self._gain(out, coef * part.coef, part.rows, part.cols, part.pairs, down, grid)
            else:
                out = self._gain(out, coef, (), (), (atom,), down, grid)
        return out

    def _gain(
        self,
        out: int,
        coef: float,
        rows: tuple[graph.Profile, ...],
        cols: tuple[graph.Profile, ...],
        pairs: tuple[graph.Pair, ...],
        down: Pair,
        grid: Grid,
    ) -> int:
        """One term c s rho of a variable, the factors c, s each at both inputs."""
        e = -1
        norms = []
        for pair in pairs:
            assert pair.norms is not None
            norms.append(pair.norms)
            if isinstance(pair, graph.Shared):
                continue
            other = self.correlation(pair)
            e = other if e < 0 else self.value_of("both", e, other, grid=grid)
        root = float(np.sqrt(abs(coef)))
        numbers = []
        for factors, weight in ((rows, root), (cols, float(np.copysign(root, coef)))):

            def side(k: int, factors: tuple = factors, weight: float = weight) -> Number:
                powers = [(f, 1.0) for f in factors] + [(n[k], 0.5) for n in norms]
                return Number(weight, tuple(powers)).times(down[k])

            numbers.append(_sides(side))
        p, n = (self.numbers.place(grid, number) for number in numbers)
        return self.value_of("gain", out, e, p=p, n=n, grid=grid)

    def _covariances(self, atoms: Atoms, grid: Grid, out: int) -> int:
        if out < 0 and len(atoms) == 1 and isinstance(atoms[0][1], graph.Gram) and atoms[0][0] > 0:
            return self._data("cross", atoms[0][1], grid, _scaled(_both(1.0), atoms[0][0]))
        out = self.value_of("zero", grid=grid) if out < 0 else out
        for coef, atom in atoms:
            if isinstance(atom, graph.Sum) and not is_linear(atom):
                for part in atom.parts:
                    out = self._term(out, coef * part.coef, part.rows, part.cols, part.pairs, grid)
            else:
                out = self._term(out, coef, (), (), (atom,), grid)
        return out

    def _term(
        self,
        out: int,
        coef: float,
        rows: tuple[graph.Profile, ...],
        cols: tuple[graph.Profile, ...],
        pairs: tuple[graph.Pair, ...],
        grid: Grid,
    ) -> int:
        number = (
            Number(coef, tuple((f, 1.0) for f in rows)),
            Number(1.0, tuple((f, 1.0) for f in cols)),
        )
        values = []
        for pair in pairs:
            if isinstance(pair, graph.Shared):
                number = (number[0].times(Number(pair.value)), number[1])
            else:
                values.append(pair)
        if not values:
            p = self.numbers.place(grid, number)
            return self.value_of("add_outer", out, p=p, n=p, grid=grid)
        if len(values) == 1:
            (only,) = values
            if isinstance(only, graph.Fresh):
                return self._noise(out, only, number, grid)
            scale = self._deviations(only)
            if scale is not None:
                number = (number[0].times(scale[0]), number[1].times(scale[1]))
                p = self.numbers.place(grid, number)
                return self.value_of("add_rho", out, self.correlation(only), p=p, grid=grid)
            p = self.numbers.place(grid, number)
            return self.value_of("add", out, self._covariance(only, grid), p=p, grid=grid)
        first, *others, last = (self._covariance(pair, grid) for pair in values)
        for other in others:
            first = self.value_of("multiply", first, other, grid=grid)
        p = self.numbers.place(grid, number)
        return self.value_of("add_product", out, first, last, p=p, grid=grid)

    def _noise(self, out: int, node: graph.Fresh, number: Pair, grid: Grid) -> int:
        """Noise: the square on coinciding positions of one example, the product of means elsewhere."""
        same = number[0]
        for factor in node.same:
            same = same.times(Number(1.0, ((factor, 1.0),)))
        p = self.numbers.place(grid, (same, number[1]))
        out = self.value_of("fresh", out, p=p, n=p, grid=grid)
        if node.other is not None:
            other = _sides(lambda k: number[k].times(Number(1.0, ((node.other[k], 1.0),))))  # type: ignore[index]
            p = self.numbers.place(grid, other)
            q = self.numbers.place(grid, (_negative(other[0]), other[1]))
            out = self.value_of("add_outer", out, p=p, n=p, grid=grid)
            out = self.value_of("fresh", out, p=q, n=q, grid=grid)
        return out

    def _data(self, op: str, node: graph.Gram, grid: Grid, scale: Pair) -> int:
        if node.data not in self.sources:
            self.sources.append(node.data)
        p = self.numbers.place(grid, scale)
        return self.value_of(op, p=p, n=self.sources.index(node.data), grid=grid)

    def _root(self, node: graph.Pair | None) -> Root | None:
        """The root that holds a node here: itself, or its twin."""
        root = self._roots.get(id(node))
        return root.twin if root is not None and root.twin in self._here else root

    # -- states ----------------------------------------------------------------------------------

    def _deviations(self, node: graph.Pair) -> Pair | None:
        """What turns a node's correlation into its covariance, None for what is held as a covariance."""
        if isinstance(node, graph.Dual) and node.what == "value":
            return _sides(lambda k: Number(1.0, ((node.call.moments[k], 0.5),)))
        root = self._root(node)
        if root is not None and root.held == "inc":
            norms = root.node.norms
            assert norms is not None
            return _sides(lambda k: Number(1.0, ((norms[k], 0.5),)))
        return None

    def _covariance(self, node: graph.Pair, grid: Grid) -> int:
        """The register of a node's covariances."""
        root = self._root(node)
        if root is not None and root.held == "cov":
            self._flush(root)
            return self._registers[id(root)]
        if isinstance(node, graph.Dual) and node.what == "slope":
            return self._call(node.call, grid)[1]
        if (id(node), grid) not in self._plain:
            self._plain[id(node), grid] = self._covariances(((1.0, node),), grid, -1)
        return self._plain[id(node), grid]

    def correlation(self, node: graph.Pair) -> int:
        """The register of a node's co-correlations."""
        if id(node) not in self._e:
            self._e[id(node)] = self._make_correlation(node)
        return self._e[id(node)]

    def _make_correlation(self, node: graph.Pair) -> int:
        grid = grid_of(node)
        if isinstance(node, graph.Dual):
            return self._call(node.call, grid)[0]
        root = self._root(node)
        if root is not None and root.node is not node:
            return self.correlation(root.node)
        if root is not None:
            self._flush(root)
            assert node.norms is not None
            return self._normalised(root, node.norms, grid)
        assert node.norms is not None
        if isinstance(node, graph.Gram):
            norms = node.norms
            made = self._data("data", node, grid, _sides(lambda k: Number(1.0, (), ((norms[k], -1.0),))))
            return self.value_of("co", made, p=self._roots_of(norms, grid), grid=grid)
        if isinstance(node, graph.Sum):
            norms = node.norms
            down = _sides(lambda k: Number(1.0, (), ((norms[k], -1.0),)))
            out = self.value_of("zero", grid=grid)
            for part in node.parts:
                out = self._gain(out, part.coef, part.rows, part.cols, part.pairs, down, grid)
            return self.value_of("co", out, p=self._roots_of(norms, grid), grid=grid)
        raise Unsupported(f"no correlation of a {type(node).__name__} node")

    def _roots_of(self, norms: tuple[graph.Profile, graph.Profile], grid: Grid) -> int:
        """The parameters r and 1/r of increments: deviations over the scale."""
        up = _sides(lambda k: Number(1.0, ((norms[k], 0.5),), ((norms[k], -1.0),)))
        down = _sides(lambda k: Number(1.0, ((norms[k], -0.5),), ((norms[k], 1.0),)))
        return self.numbers.place(grid, up, down)

    def _normalised(self, root: Root, norms: tuple[graph.Profile, graph.Profile], grid: Grid) -> int:
        value = self._registers[id(root)]
        if root.held == "inc":
            assert root.node.norms is not None
            return self.value_of("co", value, p=self._roots_of(root.node.norms, grid), grid=grid)
        p = self.numbers.place(grid, _sides(lambda k: Number(1.0, ((norms[k], -0.5),))))
        return self.value_of("normal", value, p=p, grid=grid, flag=1)

    # -- duals -----------------------------------------------------------------------------------

    def _call(self, call: graph.DualCall, grid: Grid) -> tuple[int, int]:
        if (id(call), grid) not in self._calls:
            self._calls[id(call), grid] = self._make_call(call, grid)
        return self._calls[id(call), grid]

    def _input(self, call: graph.DualCall, grid: Grid) -> int:
        node = call.cov
        if id(node) in self._e:
            return self._e[id(node)]
        root = self._roots.get(id(node))
        if root is not None and root.held == "cov":
            self._flush(root)
            self._e[id(node)] = self._normalised(root, call.vars, grid)
            return self._e[id(node)]
        if isinstance(node, graph.Shared):
            raise Unsupported("a function of a constant")
        return self.correlation(node)

    def _make_call(self, call: graph.DualCall, grid: Grid) -> tuple[int, int]:
        first, second = (self._prepared(call, side) for side in (0, 1))
        e = self._input(call, grid)
        steep = "slope" in call.wanted
        indices = tuple(self._index(call, grid, side) for side in (0, 1))
        if first.kind == second.kind == "closed" and first.f == second.f and first.f.closed is not None:
            strip = FAMILIES[first.f.closed[0]].strip
            if strip not in self.duals:
                if len(self.duals) == KINDS:
                    raise Unsupported(f"more than {KINDS} kinds of closed-form duals in one net")
                self.duals.append(strip)
            sides = tuple(p.params[:, i] for p, i in zip((first, second), indices, strict=True))
            p = self.numbers.block(grid, sides)  # type: ignore[arg-type]
            return self.emit("dual", e, p=p, n=self.duals.index(strip), grid=grid, makes=1 + steep)
        return self._by_series(first, second, indices, e, steep, grid)  # type: ignore[arg-type]

    def _by_series(
        self,
        first: Prepared,
        second: Prepared,
        indices: tuple[np.ndarray, np.ndarray],
        e: int,
        steep: bool,
        grid: Grid,
    ) -> tuple[int, int]:
        if first.kind != "series" or second.kind != "series":
            raise Unsupported(f"{first.f} and {second.f} have no common series")
        for prepared in (first, second):
            assert prepared.series is not None
            if steep and prepared.series.slope is not None:
                raise Unsupported(f"{prepared.f} jumps: its derivative has a series of its own")
        sides = []
        for p, index in zip((first, second), indices, strict=True):
            q = np.where(p.q == 0.0, 1.0, p.q)
            ratio = np.where(p.q == 0.0, 0.0, np.sqrt(p.second) / np.sqrt(q))
            sides.append(np.array([ratio, np.sqrt(p.slope_second)])[:, index])
        number = self.tables.add(first, second, steep, self.dtype)
        self.series.append((grid, first, second, indices))
        at = self.numbers.block(grid, (sides[0], sides[1]))
        return self.emit("series", e, p=at, n=number, grid=grid, makes=1 + steep)

    def _prepared(self, call: graph.DualCall, side: int) -> Prepared:
        fn, scalars = ((call.f, call.f_scalars), (call.g, call.g_scalars))[side]
        return self.profiles[side].prepared(fn, call.means[side], call.vars[side], scalars)

    def _index(self, call: graph.DualCall, grid: Grid, side: int) -> np.ndarray:
        """Where the (example, *axes) of a grid are among the integrals of one side."""
        scalars = (call.f_scalars, call.g_scalars)[side]
        axes: Axes = axes_of(grid, side)
        return self.profiles[side].index(axes, call.means[side], call.vars[side], *scalars)

    # -- relu ------------------------------------------------------------------------------------

    def _atoms(self) -> list[graph.Pair]:
        seen: dict[int, graph.Pair] = {}
        stack = [a for root in self.level.roots for g in root.groups for _, a in g.atoms]
        while stack:
            node = stack.pop()
            if id(node) not in seen:
                seen[id(node)] = node
                if id(node) not in self._roots:
                    stack += graph.operands(node)
        return list(seen.values())

    def _match(self) -> dict[tuple[int, int], Rectified]:
        """The relus that one instruction takes from increments to what its chains start from."""
        readers: dict[int, list[tuple[Root, int, float, graph.Pair]]] = {}
        for root in self.level.roots:
            for k, group in enumerate(root.groups):
                for coef, atom in group.atoms:
                    for call in _calls_of(atom, self._roots):
                        readers.setdefault(id(call), []).append((root, k, coef, atom))
        found: dict[tuple[int, int], Rectified] = {}
        for number, uses in readers.items():
            made = self._fused(self._wanted[number], uses)
            if made is not None:
                found[made.value] = made
                if made.tangent is not None:
                    found[made.tangent] = made
        return found

    def _fused(
        self, call: graph.DualCall, uses: list[tuple[Root, int, float, graph.Pair]]
    ) -> Rectified | None:
        source = self._roots.get(id(call.cov))
        if source is None or source.held != "inc" or call.f != call.g or call.f.closed is None:
            return None
        if FAMILIES[call.f.closed[0]].strip != "abrelu":
            return None
        first, second = (self._prepared(call, side) for side in (0, 1))
        if first.kind != "closed" or second.kind != "closed" or not first.params.size:
            return None
        if not np.all(first.params[0] == 0.5) or not np.all(second.params[0] == 0.5):
            return None
        by_group: dict[tuple[int, int], list[tuple[Root, float, graph.Pair]]] = {}
        for root, k, coef, atom in uses:
            by_group.setdefault((id(root), k), []).append((root, coef, atom))
        if len(by_group) > 2:
            return None
        value = tangent = inner = None
        coef, coefs, held = 0.0, (0.0, 0.0), ""
        for key, terms in by_group.items():
            root = terms[0][0]
            if len(terms) != len(root.groups[key[1]].atoms):
                return None
            if len(terms) == 1 and isinstance(terms[0][2], graph.Dual) and terms[0][2].what == "value":
                if value is not None or terms[0][1] <= 0.0:
                    return None
                value, coef, held = key, terms[0][1], root.held
                continue
            split = self._tangent_terms(terms, root)
            if split is None or tangent is not None:
                return None
            tangent, (*pair, inner) = key, split
            coefs = (pair[0], pair[1])
        if value is None:
            return None
        return Rectified(call, value, tangent, coef, coefs, inner, held, float(first.params[2, 0]))

    def _tangent_terms(
        self, terms: list[tuple[Root, float, graph.Pair]], root: Root
    ) -> tuple[float, float, graph.Pair] | None:
        """(coefficient of the value, of slope times inner, inner) of c1 V + c2 V' T."""
        if root.held != "cov" or len(terms) > 2:
            return None
        up, down, inner = 0.0 if len(terms) == 1 else None, None, None
        for _, coef, atom in terms:
            if isinstance(atom, graph.Dual):
                up = coef if atom.what == "value" else None
            elif isinstance(atom, graph.Sum) and len(atom.parts) == 1:
                (part,) = atom.parts
                duals = [p for p in part.pairs if isinstance(p, graph.Dual)]
                rest = [p for p in part.pairs if not isinstance(p, graph.Dual)]
                if part.rows or part.cols or len(duals) != 1 or len(rest) != 1 or duals[0].what != "slope":
                    return None
                down, inner = coef * part.coef, rest[0]
        below = self._roots.get(id(inner))
        if up is None or down is None or inner is None or below is None or below.held != "cov":
            return None
        return (up, down, inner) if up >= 0.0 and down > 0.0 else None

    def _relu(self, step: Rectified, key: tuple[int, int]) -> int:
        if key in self._parts:
            return self._parts[key]
        call = step.call
        source = self._roots[id(call.cov)]
        grid = grid_of(call.cov)
        norms = source.node.norms
        assert norms is not None
        here = _sides(lambda k: Number(1.0, (), ((norms[k], 1.0),)))
        goal = next(r for r in self.level.roots if id(r) == step.value[0]).node.norms
        down = _both(1.0)
        if step.held == "inc":
            assert goal is not None
            down = _sides(lambda k: Number(1.0, (), ((goal[k], -1.0),)))
        self._flush(source)
        value, lift = self._registers[id(source)], self._bare.get(id(source), 0.0)
        alpha = float(np.sqrt(step.coef * step.scale))
        op, t, shift = "relu", -1, _both(0.0)
        if step.tangent is not None:
            inner = self._root(step.inner)
            assert inner is not None
            if inner is source:
                op, shift = "first", here
            elif inner.held == "inc":
                t = self._covariance(inner.node, grid)
            else:
                self._flush(inner)
                t = self._registers[id(inner)]
                shift = _both(float(np.sqrt(self._bare.get(id(inner), 0.0))))
        up, slope = (float(np.sqrt(c * step.scale)) for c in step.coefs)
        n = self.numbers.constant(
            _sides(lambda k: Number(alpha).times(here[k]).times(down[k])),
            _sides(lambda k: Number(float(np.sqrt(lift)), (), ((norms[k], -1.0),))),
            shift,
            _both(slope),
            _sides(lambda k: Number(up).times(here[k])),
        )
        p = self._roots_of(norms, grid)
        flag = int(not self._positive(source)) + 2 * (step.held != "inc") + 4 * (op == "first")
        operands = (value,) if op == "first" else (value, t)
        makes = 2 if step.tangent is not None else 1
        first, second = self.emit(op, *operands, p=p, n=n, grid=grid, flag=flag, makes=makes)
        self._parts[step.value] = first
        if step.tangent is not None:
            self._parts[step.tangent] = second
        return self._parts[key]

    def _bare_roots(self) -> dict[int, float]:
        """The roots that nobody but relus reads, which add the constant themselves, and these constants."""
        read = {id(root) for root in self.level.stored}
        for root in self.level.roots:
            for k, group in enumerate(root.groups):
                if (id(root), k) not in self._rectified:
                    read |= {id(r) for _, a in group.atoms for r in self.level.network.read_by(a)}
        found = {}
        for root in self.level.roots:
            for group in root.groups:
                value = constant(group)
                if value is not None and value > 0.0 and id(root) not in read:
                    found[id(root)] = value
        return found

    def _positive(self, root: Root) -> bool:
        """Whether no correlation of a root is negative: sums of what is behind a relu, and constants."""
        for group in root.groups:
            for coef, atom in group.atoms:
                if coef <= 0.0:
                    return False
                if isinstance(atom, graph.Shared):
                    continue
                if not isinstance(atom, graph.Dual) or atom.what != "value" or atom.call.f != atom.call.g:
                    return False
                prepared = self._prepared(atom.call, 0)
                if prepared.kind != "closed" or prepared.f.closed is None:
                    return False
                if FAMILIES[prepared.f.closed[0]].strip != "abrelu" or not np.all(prepared.params[0] == 0.5):
                    return False
        return True

    # -- values ----------------------------------------------------------------------------------

    def emit(
        self,
        op: str,
        *operands: int,
        grid: Grid,
        p: int = 0,
        n: int = 0,
        flag: int = 0,
        makes: int = 2,
        extra: tuple | None = None,
    ) -> tuple[int, int]:
        """Append an operation; the two values that it makes, or -1."""
        given = iter(operands)
        reads = [-1 if slot == "w" else next(given) for slot in SLOTS[op]]
        made: list[int] = []
        for slot, read in zip(SLOTS[op], reads, strict=True):
            wanted = read >= 0 if slot == "m" else slot == "w" and len(made) - made.count(-1) < makes
            made.append(self._value() if wanted else -1)
        self.code.append(Instruction(op, tuple(reads), tuple(made), p, n, grid, flag, extra))
        first, second, *_ = (*(v for v, slot in zip(made, SLOTS[op], strict=True) if slot != "r"), -1, -1)
        return first, second

    def value_of(self, op: str, *operands: int, grid: Grid, **more: object) -> int:
        """The one value that an operation makes."""
        return self.emit(op, *operands, grid=grid, makes=1, **more)[0]  # type: ignore[arg-type]

    def _value(self) -> int:
        self.made += 1
        return self.made - 1


def constant(group: Group) -> float | None:
    """The value of a group of constants alone."""
    if group.chain or any(Level.on_cells(atom) for _, atom in group.atoms):
        return None
    return sum(coef * atom.value for coef, atom in group.atoms if isinstance(atom, graph.Shared))


def _both(value: float) -> Pair:
    return Number(value), Number(value)


def _sides(make: object) -> Pair:
    return make(0), make(1)  # type: ignore[operator]


def _scaled(pair: Pair, coef: float) -> Pair:
    root = Number(float(np.sqrt(coef)))
    return pair[0].times(root), pair[1].times(root)


def _negative(number: Number) -> Number:
    return number.times(Number(-1.0))


def _calls_of(atom: graph.Pair, roots: dict[int, Root]) -> list[graph.DualCall]:
    """The duals that an atom is computed from directly."""
    if id(atom) in roots:
        return []
    if isinstance(atom, graph.Dual):
        return [atom.call]
    return [call for child in graph.operands(atom) for call in _calls_of(child, roots)]
