"""The law at two inputs: E[Z^a Z^b'] of lines a at x and b at x', for all index positions demanded.

The same rules as at one input (`tpnum.law.site`), on pairs.  An axis is *tied* where only p = p' is
demanded: Flatten asks for diagonals, a matrix family makes its own axis diagonal, pooling asks for all.
Cross-line entries are not symmetric: K[a(x), b(x')] differs from K[b(x), a(x')].
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from tpnum.errors import InputError
from tpnum.law import graph
from tpnum.law.attention import attending
from tpnum.law.carried import States
from tpnum.law.expectation import Expectation, shared
from tpnum.law.forms import Atom
from tpnum.law.frames import frame
from tpnum.law.lines import Lines, alike, named
from tpnum.law.site import Site, union
from tpnum.law.spread import apart, behind, spread
from tpnum.law.tied import Tied
from tpnum.law.worklist import once
from tpnum.program.lines import Attend, Axes, Data, Delay, Input, LinComb, Map, MatMul, Matrix

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tpnum.law.expectation import Side
    from tpnum.law.spread import Spread


class Pairs:
    """The pair rules of a program read at two inputs, or of two programs that share their matrices."""

    def __init__(self, rows: Lines, cols: Lines | None = None, states: States | None = None):
        cols = rows if cols is None else cols
        self.lines = (rows, cols)
        self.states = states or States()
        first = Site(rows, self.states)
        self.sites = (first, first if cols is rows else Site(cols, self.states))
        for site in self.sites:
            site.pairs = self if cols is rows else Pairs(site.lines, states=self.states)
        self.alike = None if cols is rows else alike(rows, cols)
        self._memo: dict[graph.Key, graph.Pair | None] = {}
        self._calls: dict[graph.Key, graph.DualCall] = {}
        self._apart: dict[graph.Key, bool] = {}

    def second(self, a: str, b: str, tied: Axes = (), centred: bool = False) -> graph.Pair | None:
        """E[Z^a(x) Z^b(x')] (``centred``: the covariance, for G-vars); None is a structural zero."""
        present = dict(union(self.lines[0].axes(a), self.lines[1].axes(b)))
        tied = tuple(sorted((name, size) for name, size in tied if name in present))
        centred = centred and self.sites[0].mean(a) is not None and self.sites[1].mean(b) is not None
        key = ("second", a, b, tied, centred)
        return once(self._memo, key, self._normed_second, a, b, tied, centred)

    def _normed_second(self, a: str, b: str, tied: Axes, centred: bool) -> graph.Pair | None:
        return self._normed(self._second(a, b, tied, centred), a, centred)

    def _normed(self, node: graph.Pair | None, name: str, centred: bool) -> graph.Pair | None:
        """A node with increments needs its second moments at either input."""
        if node is None or not node.increments or node.norms is not None:
            return node
        first, second = (site.second(name, name, centred) for site in self.sites)
        assert first is not None
        assert second is not None
        return replace(node, norms=(first, second))

    def _second(self, a: str, b: str, tied: Axes, centred: bool) -> graph.Pair | None:
        la, lb = self.lines[0].by_name[a], self.lines[1].by_name[b]
        if a != b and self.lines[0].apart(a, b, self.lines[1]):
            return None if centred else self._sum(a, b, tied, self._means(a, b))
        if isinstance(la, LinComb) or isinstance(lb, LinComb):
            return self._lincomb(a, b, tied, centred)
        if isinstance(la, Delay) or isinstance(lb, Delay):
            return self.states.pair(self, (a, b), tied, centred)
        for side, name in enumerate((a, b)):
            found = spread(self.lines[side], name)
            if found is not None:
                return self._weighted(a, b, side, found, tied, centred)
        if isinstance(la, Map) and isinstance(lb, Map) and named(la) == named(lb):
            return self._mapped(la, lb, tied, centred)
        if isinstance(la, Map):
            return self._one_sided(la, b, 0, tied, centred)
        if isinstance(lb, Map):
            return self._one_sided(lb, a, 1, tied, centred)
        if isinstance(la, Attend) or isinstance(lb, Attend):
            return attending(self, a, b, tied)
        if isinstance(la, Data) and isinstance(lb, Data):
            return graph.Gram(*self.frame(a, b, tied), increments=a == b, data=(a, b))
        if isinstance(la, Data) or isinstance(lb, Data):
            return None
        if isinstance(la, MatMul) and isinstance(lb, MatMul):
            return self._matmul(la, lb, tied) if la.matrix == lb.matrix else None
        if isinstance(la, Input) and isinstance(lb, Input):
            parts = []
            if la.names == lb.names:
                cov = self._input_cov(la, la.names.index(a), la.names.index(b), tied)
                parts += [graph.Part(1.0, (), (), (cov,))] if cov is not None else []
            if not centred:
                parts += self._means(a, b)
            noise = parts[0].pairs if len(parts) == 1 else ()
            if noise and isinstance(noise[0], graph.Fresh):
                return noise[0]
            return self._sum(a, b, tied, parts)
        if centred:
            return None
        if self.lines[0].vars[a].kind == "G" and self.lines[1].vars[b].kind == "G":
            return self._sum(a, b, tied, self._means(a, b))
        return self._expand(a, b, tied)

    def _means(self, a: str, b: str) -> list[graph.Part]:
        first, second = self.sites[0].mean(a), self.sites[1].mean(b)
        if first is None or second is None:
            return []
        return [graph.Part(1.0, (first,), (second,), ())]

    def _input_cov(self, line: Input, i: int, j: int, tied: Axes) -> graph.Pair | None:
        value = line.cov[i][j]
        if value == 0.0:
            return None
        if not line.fresh:
            first, second = (site.variance(line.names[i]) for site in self.sites)
            norms = (first, second) if i == j else None
            return graph.Shared((), (), (), increments=i == j, norms=norms, value=value)
        constant = graph.Constant(("constant", value), (), value=value)
        frame = self.frame(line.names[i], line.names[j], tied)
        return graph.Fresh(*frame, increments=False, same=(constant,), other=None)

    def _lincomb(self, a: str, b: str, tied: Axes, centred: bool) -> graph.Pair | None:
        la, lb = self.lines[0].by_name[a], self.lines[1].by_name[b]
        parts = []
        left = la.terms if isinstance(la, LinComb) else None
        right = lb.terms if isinstance(lb, LinComb) else None
        for s in left or (None,):
            for t in right or (None,):
                inner = self.second(s.vector if s else a, t.vector if t else b, tied, centred)
                if inner is None:
                    continue
                rows = self.sites[0].factors((s.scalar,) if s and s.scalar else ())
                cols = self.sites[1].factors((t.scalar,) if t and t.scalar else ())
                if rows is None or cols is None:
                    continue
                coef = (s.coef if s else 1.0) * (t.coef if t else 1.0)
                if isinstance(inner, graph.Sum) and not inner.increments and _has_increments(inner.parts):
                    # what keeps its digits stays in sight of the increments
                    parts += [
                        graph.Part(coef * p.coef, rows + p.rows, cols + p.cols, p.pairs) for p in inner.parts
                    ]
                else:
                    parts.append(graph.Part(coef, rows, cols, (inner,)))
        return self._sum(a, b, tied, parts)

    def _matmul(self, la: MatMul, lb: MatMul, tied: Axes) -> graph.Pair | None:
        """Cov(A h, A h') = s^2 E[Z^h Z^h'], zero between different members of a matrix family."""
        matrix = self._shared_matrix(la.matrix)
        inner = self.second(la.vector, lb.vector, union(tied, matrix.axes))
        if inner is None:
            return None
        node = self._sum(la.name, lb.name, inner.tied, [graph.Part(matrix.var, (), (), (inner,))])
        node = self._normed(node, la.name, centred=False)
        loose = tuple(axis for axis in matrix.axes if axis not in tied)
        return self._embed(node, la.name, lb.name, tied, loose) if loose and node else node

    def _shared_matrix(self, name: str) -> Matrix:
        matrix, other = (lines.matrix(name) for lines in self.lines)
        if (matrix.axes, matrix.var) != (other.axes, other.var):
            sizes = (tuple(size for _, size in m.axes) for m in (matrix, other))
            layer = self.lines[0].program.layer_of(name)
            weights = f"weights {name} of {layer}" if layer else f"weights {name}"
            raise InputError(
                f"x1, x2: the {weights} are for one shape of the inputs, here {next(sizes)} "
                f"positions of x1 and {next(sizes)} of x2; give both the same shape, or pool "
                "the positions (GlobalAvgPool) before these weights"
            )
        return matrix

    def _embed(self, node: graph.Pair, a: str, b: str, tied: Axes, loose: Axes) -> graph.Pair:
        return graph.Embedded(*self.frame(a, b, tied), increments=node.increments, operand=node, axes=loose)

    # -- index maps ----------------------------------------------------------------------------

    def _mapped(self, la: Map, lb: Map, tied: Axes, centred: bool) -> graph.Pair | None:
        """Both sides at once where they are mapped alike, so that ties and independence carry through."""
        out = dict(la.out)
        source, other = (
            (line.axis, dict(lines.axes(line.operand))[line.axis])
            for lines, line in zip(self.lines, (la, lb), strict=True)
        )
        outer = tuple(axis for axis in tied if axis[0] not in out)
        gathers = all(len(row) <= 1 for row in (*la.rows, *lb.rows))
        same = source == other and la.out == lb.out and la.rows == lb.rows
        if out and gathers and same and all(axis in tied for axis in la.out):
            inner_tied = (*outer, source)
        elif not out and source == other and self.independent(la.operand, lb.operand, la.axis):
            inner_tied = (*outer, source)
        else:
            inner_tied = outer
        inner = self.second(la.operand, lb.operand, inner_tied, centred)
        if inner is None:
            return None
        parts = apart(inner, la.axis) if not out and source not in inner.tied else None
        if parts is not None:
            return self._sum(la.name, lb.name, tied, [behind(la, lb, *part) for part in parts])
        sums_tied = not out and source in inner.tied
        weights = {w for row in (*la.rows, *lb.rows) for _, w in row}
        uniform = sums_tied or (gathers and len(weights) <= 1)
        return graph.Mapped(
            *self.frame(la.name, lb.name, tied),
            increments=la.name == lb.name and inner.increments and uniform,
            operand=inner,
            row_map=la,
            col_map=lb,
        )

    def _one_sided(self, line: Map, other: str, side: int, tied: Axes, centred: bool) -> graph.Pair | None:
        """A map on one side: what it makes or consumes cannot stay tied underneath."""
        a, b = (line.name, other) if side == 0 else (other, line.name)
        touched = {line.axis, *(name for name, _ in line.out)}
        loose = tuple(axis for axis in tied if axis[0] in touched)
        free = tuple(axis for axis in tied if axis[0] not in touched)
        below = (line.operand, b) if side == 0 else (a, line.operand)
        inner = self.second(*below, free, centred)
        if inner is None:
            return None
        node: graph.Pair = graph.Mapped(
            *self.frame(a, b, free),
            increments=False,
            operand=inner,
            row_map=line if side == 0 else None,
            col_map=line if side == 1 else None,
        )
        if loose:
            node = graph.Diagonal(*self.frame(a, b, tied), increments=False, operand=node, axes=loose)
        return node

    def _weighted(
        self, a: str, b: str, side: int, found: Spread, tied: Axes, centred: bool
    ) -> graph.Pair | None:
        """A sum with weights of the input on one side; what it sums over cannot stay tied underneath."""
        lines, over = self.lines[side], dict(found.over)
        loose = tuple(axis for axis in tied if axis[0] in over)
        free = tuple(axis for axis in tied if axis[0] not in over)
        parts = []
        for term in found.terms:
            inner = self.second(*((term.vector, b) if side == 0 else (a, term.vector)), free, centred)
            weights = self.sites[side].factors((term.scalar,) if term.scalar else ())
            if inner is None or weights is None:
                continue
            axes = union(lines.axes(term.vector), *(w.axes for w in weights))
            made = tuple(axis for axis in axes if axis[0] not in over)
            frames = (made, self.lines[1].axes(b)) if side == 0 else (self.lines[0].axes(a), made)
            node = graph.Weighted(
                *frame(*frames, free),
                increments=False,
                operand=inner,
                side=side,
                over=tuple(axis for axis in axes if axis[0] in over),
                weights=weights[0] if weights else None,
            )
            same = prod(size for name, size in found.over if name not in dict(axes))
            parts.append(graph.Part(found.coef * term.coef * same, (), (), (node,)))
        total = self._sum(a, b, free, parts)
        if total is not None and loose:
            return graph.Diagonal(*self.frame(a, b, tied), increments=False, operand=total, axes=loose)
        return total

    def independent(self, a: str, b: str, axis: str) -> bool:
        """Whether K(a, b) vanishes between different indices of ``axis``, from the text alone."""
        return once(self._apart, (a, b, axis), self._independent, a, b, axis)

    def _independent(self, a: str, b: str, axis: str) -> bool:
        la, lb = self.lines[0].by_name[a], self.lines[1].by_name[b]
        if isinstance(la, LinComb) and isinstance(lb, LinComb):
            return all(
                self.independent(s.vector, t.vector, axis)
                for s in la.terms
                for t in lb.terms
                if self.second(s.vector, t.vector, self.lines[0].axes(s.vector)) is not None
            )
        if isinstance(la, MatMul) and isinstance(lb, MatMul):
            return la.matrix != lb.matrix or axis in dict(self.lines[0].matrix(la.matrix).axes)
        if isinstance(la, Map) and isinstance(lb, Map) and la.axis == lb.axis:
            return axis not in dict(la.out) and self.independent(la.operand, lb.operand, axis)
        if isinstance(la, Input) and la is lb:
            return la.fresh and axis in dict(la.axes) and not any(la.mean)
        return False

    # -- expectations --------------------------------------------------------------------------

    def _expand(self, a: str, b: str, tied: Axes) -> graph.Pair | None:
        parts = []
        expectation = Expectation(Tied(self, tied))
        for x in self.lines[0].form(a):
            for y in self.lines[1].form(b):
                rows, cols = self.sites[0].factors(x.scalars), self.sites[1].factors(y.scalars)
                if rows is None or cols is None:
                    continue
                placed = [(0, atom) for atom in x.atoms] + [(1, atom) for atom in y.atoms]
                for piece in expectation.product(placed):
                    coef = x.coef * y.coef * piece.coef
                    parts.append(graph.Part(coef, rows + piece.rows, cols + piece.cols, piece.pairs))
        return self._sum(a, b, tied, parts)

    def dual(self, a: str, b: str, sides: tuple[Side, Side], tied: Axes) -> graph.Pair:
        """E f(u) g(v), u = a(x), v = b(x'); derivatives share the call of their primitives."""
        cov = self.second(a, b, tied, centred=True)
        assert cov is not None
        if isinstance(cov, graph.Fresh):
            return self._fresh(cov, a, b, sides)
        (f, fs), (g, gs) = sides
        f, g, what = shared(f, g)
        own = a == b and f == g and fs == gs
        key = (a, b, f, g, fs, gs, tied)
        if key not in self._calls:
            first, second = self.sites
            self._calls[key] = graph.DualCall(
                f=f,
                g=g,
                f_scalars=tuple(first.scalar(s) for s in fs),
                g_scalars=tuple(second.scalar(s) for s in gs),
                means=(first.mean(a), second.mean(b)),
                vars=(first.variance(a), second.variance(b)),
                moments=(first.single(f, "second", a, fs), second.single(g, "second", b, gs)),
                cov=cov,
                own=own,
            )
        call = self._calls[key]
        call.wanted.add(what)
        node_key = ("dual", key, what)
        if node_key not in self._memo:
            increments = own and what == "value"
            left, right = (
                union(*map(lines.axes, (name, *scalars)))
                for lines, name, scalars in zip(self.lines, (a, b), (fs, gs), strict=True)
            )
            self._memo[node_key] = graph.Dual(
                *frame(left, right, tied),
                increments=increments,
                norms=call.moments if increments else None,
                call=call,
                what=what,
            )
        node = self._memo[node_key]
        assert node is not None
        return node

    def _fresh(self, cov: graph.Fresh, a: str, b: str, sides: tuple[Side, Side]) -> graph.Pair:
        """Noise: the expectation over one draw where both are the same, the product of means elsewhere."""
        (f, fs), (g, gs) = sides
        left, right = Atom(f, (a,), fs), Atom(g, (b,), gs)
        first, second = self.sites[0].expectation(left), self.sites[1].expectation(right)
        return graph.Fresh(
            cov.tied,
            cov.rows,
            cov.cols,
            increments=False,
            same=(self.sites[0].expectation(left, right) or self.sites[0].zero(),),
            other=(first, second) if first is not None and second is not None else None,
        )

    # -- nodes ---------------------------------------------------------------------------------

    def _sum(self, a: str, b: str, tied: Axes, parts: list[graph.Part]) -> graph.Pair | None:
        """The pair node of a and b: norms, increments and axes belong to it, not to what it is made of.

        The node of another variable with itself is handed on where it has all of these alike.
        """
        parts = [part for part in parts if part.coef != 0.0]
        if not parts:
            return None
        increments = a == b and (self.alike is None or a in self.alike) and _has_increments(parts)
        node = graph.Sum(*self.frame(a, b, tied), increments=increments, parts=tuple(parts))
        (part, *more) = parts
        if more or part.coef != 1.0 or not part.bare:
            return node
        (inner,) = part.pairs
        same = (inner.tied, inner.rows, inner.cols) == (node.tied, node.rows, node.cols)
        return inner if increments and inner.increments and same else node

    def frame(self, a: str, b: str, tied: Axes) -> tuple[Axes, Axes, Axes]:
        """The tied axes of a pair of variables, and those that are free on either side."""
        return frame(self.lines[0].axes(a), self.lines[1].axes(b), tied)


def _has_increments(parts: Iterable[graph.Part]) -> bool:
    """Whether E (Z - Z')^2 of a variable with such parts is known without cancellation."""
    return all(
        pair.increments and (part.bare or pair.norms is not None) for part in parts for pair in part.pairs
    )
