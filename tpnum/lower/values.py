"""What instructions compute of nodes: covariances, increments and co-correlations, one made of another.

A value is held as increments, as a covariance or as a co-correlation; what one reader needs of another's is
converted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from tpnum.law import graph
from tpnum.lower.builder import Builder, Placed, both, negative, product, scaled, sides
from tpnum.lower.forms import spelled, terms
from tpnum.lower.network import Root, grid_of
from tpnum.lower.numbers import Number, axes_of
from tpnum.lower.schedule import Level
from tpnum.lower.unsupported import Unsupported, blamed

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable

    from tpnum.evaluate.profile import ProfileValues
    from tpnum.gauss.pair import Prepared
    from tpnum.lower.forms import Atoms
    from tpnum.lower.network import Grid
    from tpnum.lower.numbers import Pair
    from tpnum.program.lines import Axes

    Norms = tuple[graph.Profile, graph.Profile]


class Values(Builder):
    """The values of a level's nodes for a pair of profile passes, each made once.

    ``roots`` are made here, ``loaded`` ones come from buffers.
    """

    def __init__(
        self,
        roots: Iterable[Root],
        loaded: Collection[Root],
        profiles: tuple[ProfileValues, ProfileValues],
        dtype: np.dtype,
    ):
        super().__init__(profiles, dtype)
        self._loaded = loaded
        self._held = {id(root.node) for root in loaded}
        self._roots = {id(root.node): root for root in (*roots, *loaded)}
        self._here = set(self._roots.values())
        self._registers: dict[int, int] = {}
        self._e: dict[int, int] = {}
        self._calls: dict[tuple[int, Grid], tuple[int, int]] = {}
        self._plain: dict[tuple[int, Grid], int] = {}
        self._grams: dict[tuple[int, Grid], tuple[int, Pair]] = {}

    def _flush(self, root: Root) -> None:
        """See that a root has its register."""
        raise NotImplementedError

    # -- sources ---------------------------------------------------------------------------------

    def _source(self, root: Root, k: int, out: int) -> int:
        """What goes through a chain; without one, what is added to ``out``."""
        atoms = self._added(root, k)
        cells = [atom for _, atom in atoms if Level.on_cells(atom)]
        if not cells and root.groups[k].chain:
            raise Unsupported("a constant alone goes through an index map")
        grid = grid_of(cells[0]) if cells else grid_of(root.node)
        if root.held == "inc":
            return self._increments(root, atoms, grid, out)
        return self._covariances(atoms, grid, out)

    def _added(self, root: Root, k: int) -> Atoms:
        """The atoms of a group that are added in instructions of their own."""
        return root.groups[k].atoms

    def _increments(self, root: Root, atoms: Atoms, grid: Grid, out: int) -> int:
        norms = root.node.norms
        assert norms is not None
        down = sides(lambda side: Number(1.0, (), ((norms[side], -1.0),)))
        if out < 0:
            gram, atoms = _gram_first(atoms)
            if gram is not None:
                over = scaled(down, gram[0])
                out = self._data("data", gram[1], grid, over)
                self._grams[id(gram[1]), grid] = out, over
        out = self.value_of("zero", grid=grid) if out < 0 else out
        for part in terms(atoms, self._held):
            out = self._gain(out, part, down, grid)
        return out

    def _gain(self, out: int, part: graph.Part, down: Pair, grid: Grid) -> int:
        """One term c s rho of a variable, the factors c, s each at both inputs."""
        e = self._product(part, grid)
        return self.value_of("gain", out, e, p=self._factors(part, down, grid), grid=grid)

    def _product(self, part: graph.Part, grid: Grid) -> int:
        """The co-correlation of a term's pairs, -1 where it is one."""
        e = -1
        for pair in part.pairs:
            if not isinstance(pair, graph.Shared):
                other = self.correlation(pair)
                e = other if e < 0 else self.value_of("both", e, other, grid=grid)
        return e

    def _factors(self, part: graph.Part, down: Pair, grid: Grid) -> int:
        """The factors c and s of a term, each at both inputs and times ``down``."""
        norms = []
        for pair in part.pairs:
            assert pair.norms is not None
            norms.append(pair.norms)
        root = float(np.sqrt(abs(part.coef)))
        numbers = []
        for factors, weight in ((part.rows, root), (part.cols, float(np.copysign(root, part.coef)))):

            def side(k: int, factors: tuple = factors, weight: float = weight) -> Number:
                powers = [(f, 1.0) for f in factors] + [(n[k], 0.5) for n in norms]
                return Number(weight, tuple(powers)).times(down[k])

            numbers.append(sides(side))
        return self.numbers.place(grid, *numbers)

    def _covariances(self, atoms: Atoms, grid: Grid, out: int) -> int:
        if out < 0:
            gram, atoms = _gram_first(atoms)
            if gram is not None:
                out = self._products(*gram, grid)
        out = self.value_of("zero", grid=grid) if out < 0 else out
        for part in terms(atoms, self._held):
            out = self._term(out, part, grid)
        return out

    def _term(self, out: int, part: graph.Part, grid: Grid) -> int:
        """One term of a covariance."""
        number = (
            Number(part.coef, tuple((f, 1.0) for f in part.rows)),
            Number(1.0, tuple((f, 1.0) for f in part.cols)),
        )
        values = []
        for pair in part.pairs:
            if isinstance(pair, graph.Shared):
                number = (number[0].times(Number(pair.value)), number[1])
            else:
                values.append(pair)
        if not values:
            p = self.numbers.place(grid, number)
            return self.value_of("add_outer", out, p=p, grid=grid)
        if len(values) == 1 and isinstance(values[0], graph.Fresh):
            return self._noise(out, values[0], number, grid)
        over = self._deviations(values[0]) if len(values) == 1 else None
        if over is not None:
            p = self.numbers.place(grid, product(number, over))
            return self.value_of("add_rho", out, self.correlation(values[0]), p=p, grid=grid)
        registers = []
        for pair in values:
            register, over = self._scaled(pair, grid)
            registers.append(register)
            number = product(number, over) if over is not None else number
        first, *others = registers
        for other in others[:-1]:
            first = self.value_of("multiply", first, other, grid=grid)
        p = self.numbers.place(grid, number)
        if not others:
            return self.value_of("add", out, first, p=p, grid=grid)
        return self.value_of("add_product", out, first, others[-1], p=p, grid=grid)

    def _noise(self, out: int, node: graph.Fresh, number: Pair, grid: Grid) -> int:
        """Noise: the square on coinciding positions of one example, the product of means elsewhere."""
        same = number[0]
        for factor in node.same:
            same = same.times(Number(1.0, ((factor, 1.0),)))
        p = self.numbers.place(grid, (same, number[1]))
        out = self.value_of("fresh", out, p=p, grid=grid)
        if node.other is not None:
            other = sides(lambda k: number[k].times(Number(1.0, ((node.other[k], 1.0),))))  # type: ignore[index]
            p = self.numbers.place(grid, other)
            q = self.numbers.place(grid, (negative(other[0]), other[1]))
            out = self.value_of("add_outer", out, p=p, grid=grid)
            out = self.value_of("fresh", out, p=q, grid=grid)
        return out

    def _products(self, coef: float, node: graph.Gram, grid: Grid) -> int:
        """The covariances of data, of its increments where there are some: sums over channels are long."""
        norms = node.norms
        if norms is None or (id(node), grid) not in self._grams:
            return self._data("cross", node, grid, scaled(both(1.0), coef))
        value, over = self._grams[id(node), grid]
        lengths = sides(lambda k: Number(1.0, ((norms[k], 0.5),)).times(over[k]))
        p = self.numbers.place(grid, lengths, scaled(sides(lambda k: over[k].inverse), coef))
        return self.value_of("covariance", value, p=p, grid=grid)

    def _data(self, op: str, node: graph.Gram, grid: Grid, scale: Pair) -> int:
        key = node.data, *(one.key for one in scale)
        self.sources[key] = node.data, scale
        return self.value_of(op, n=list(self.sources).index(key), grid=grid)

    def _root(self, node: graph.Pair | None) -> Root | None:
        """The root that holds a node here: itself, or its twin."""
        root = self._roots.get(id(node))
        return root.twin if root is not None and root.twin in self._here else root

    # -- states ----------------------------------------------------------------------------------

    def _computed(self, node: graph.Pair) -> TypeGuard[graph.Dual]:
        """Whether a node is a dual of this level, not one that a buffer holds."""
        return isinstance(node, graph.Dual) and self._root(node) not in self._loaded

    def _deviations(self, node: graph.Pair) -> Pair | None:
        """What turns a node's correlation into its covariance, None for what is held as a covariance."""
        if self._computed(node) and node.what == "value":
            return sides(lambda k: Number(1.0, ((node.call.moments[k], 0.5),)))
        root = self._root(node)
        if root is not None and root.held == "inc":
            norms = root.node.norms
            assert norms is not None
            return sides(lambda k: Number(1.0, ((norms[k], 0.5),)))
        return None

    def _scaled(self, node: graph.Pair, grid: Grid) -> tuple[int, Pair | None]:
        """The register of a node's covariances over some numbers, and these numbers, None for ones."""
        return self._covariance(node, grid), None

    def _covariance(self, node: graph.Pair, grid: Grid) -> int:
        """The register of a node's covariances."""
        if self._computed(node) and node.what == "slope":
            return self._call(node.call, grid)[1]
        root = self._root(node)
        if root is not None and root.held == "cov":
            self._flush(root)
            return self._registers[id(root)]
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
        if self._computed(node):
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
            made = self._data("data", node, grid, sides(lambda k: Number(1.0, (), ((norms[k], -1.0),))))
            return self.value_of("co", made, p=self._roots_of(norms, grid), grid=grid)
        if isinstance(node, graph.Sum):
            norms = node.norms
            down = sides(lambda k: Number(1.0, (), ((norms[k], -1.0),)))
            out = self.value_of("zero", grid=grid)
            for part in spelled(node):
                out = self._gain(out, part, down, grid)
            return self.value_of("co", out, p=self._roots_of(norms, grid), grid=grid)
        raise Unsupported(f"no correlation of a {type(node).__name__} node")

    def _roots_of(self, norms: Norms, grid: Grid) -> int:
        """The parameters r and 1/r of increments."""
        return self.numbers.place(grid, *roots(norms))

    def _normalised(self, root: Root, norms: Norms, grid: Grid, same: bool = True) -> int:
        value = self._registers[id(root)]
        if root.held == "inc":
            assert root.node.norms is not None
            return self.value_of("co", value, p=self._roots_of(root.node.norms, grid), grid=grid)
        return self._normal(value, norms, grid, same)

    def _normal(self, value: int, norms: Norms, grid: Grid, same: bool) -> int:
        """Co-correlations of covariances; of a variable with itself, at one position and example, 0."""
        p = self.numbers.place(grid, sides(lambda k: Number(1.0, ((norms[k], -0.5),))))
        return self.value_of("normal", value, p=p, grid=grid, flag=int(same))

    # -- duals -----------------------------------------------------------------------------------

    def _call(self, call: graph.DualCall, grid: Grid) -> tuple[int, int]:
        if (id(call), grid) not in self._calls:
            self._calls[id(call), grid] = self._make_call(call, grid)
        return self._calls[id(call), grid]

    def _input(self, call: graph.DualCall, grid: Grid) -> int:
        """The register of co-correlations that a function is applied at."""
        node = call.cov
        if id(node) in self._e:
            return self._e[id(node)]
        same = call.own or node.norms is not None  # a variable with itself, and not with another
        root = self._roots.get(id(node))
        known = root is None or root.held == "cov"
        if root is not None and known and self._root(node) is root:
            self._flush(root)
            made = self._normalised(root, call.vars, grid, same)
        elif isinstance(node, graph.Shared):
            raise Unsupported("a function of a constant")
        elif known and (root is not None or node.norms is None or not node.increments):  # or in a twin
            made = self._normal(self._covariance(node, grid), call.vars, grid, same)
        else:
            return self.correlation(node)
        if same:
            self._e[id(node)] = made
        return made

    def _make_call(self, call: graph.DualCall, grid: Grid) -> tuple[int, int]:
        prepared = self._prepared(call, 0), self._prepared(call, 1)
        with blamed(call=call):
            e = self._input(call, grid)
            return self.dual(prepared, self._placed(call, grid), e, self._steep(call))

    def _steep(self, call: graph.DualCall) -> bool:
        """Whether the derivative kernel is computed too."""
        return "slope" in call.wanted

    def _prepared(self, call: graph.DualCall, side: int) -> Prepared:
        fn, scalars = ((call.f, call.f_scalars), (call.g, call.g_scalars))[side]
        return self.profiles[side].prepared(fn, call.means[side], call.vars[side], scalars)

    def _placed(self, call: graph.DualCall, grid: Grid) -> Placed:
        """Where both sides of a grid find their integrals."""
        indices = self._index(call, grid, 0), self._index(call, grid, 1)
        return Placed(grid, indices, (self._name(call, grid, 0), self._name(call, grid, 1)))

    @staticmethod
    def _name(call: graph.DualCall, grid: Grid, side: int) -> Hashable:
        fn, scalars = ((call.f, call.f_scalars), (call.g, call.g_scalars))[side]
        given = call.means[side], call.vars[side], *scalars
        return fn, axes_of(grid, side), *(None if one is None else one.key for one in given)

    def _index(self, call: graph.DualCall, grid: Grid, side: int) -> np.ndarray:
        """Where the (example, *axes) of a grid are among the integrals of one side."""
        scalars = (call.f_scalars, call.g_scalars)[side]
        axes: Axes = axes_of(grid, side)
        return self.profiles[side].index(axes, call.means[side], call.vars[side], *scalars)


def roots(norms: Norms) -> tuple[Pair, Pair]:
    """Deviations over the scale, and their inverses."""
    up = sides(lambda k: Number(1.0, ((norms[k], 0.5),), ((norms[k], -1.0),)))
    return up, sides(lambda k: up[k].inverse)


def _gram_first(atoms: Atoms) -> tuple[tuple[float, graph.Gram] | None, Atoms]:
    """A Gram matrix of data, which is written where others are added, and the other atoms."""
    for k, (coef, atom) in enumerate(atoms):
        if isinstance(atom, graph.Gram) and coef > 0.0:
            return (coef, atom), atoms[:k] + atoms[k + 1 :]
    return None, atoms
