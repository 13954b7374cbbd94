"""The law at two inputs some of whose axes share one index, as `tpnum.law.expectation.Law` asks for it."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from tpnum.law import along, graph
from tpnum.law.expectation import Piece, Placed, Ref, factors, where
from tpnum.law.frames import frame
from tpnum.law.site import union

if TYPE_CHECKING:
    from tpnum.law.expectation import Side
    from tpnum.law.pairs import Pairs
    from tpnum.law.site import Site
    from tpnum.program.lines import Axes


class Tied:
    """The pair rules with the axes ``tied``: both inputs are at one index along them."""

    def __init__(self, pairs: Pairs, tied: Axes):
        self.pairs, self.tied = pairs, tied

    def site(self, index: int) -> Site:
        return self.pairs.sites[index]

    def ref_cov(self, a: Ref, b: Ref) -> graph.Profile | graph.Pair | None:
        if a[0] == b[0]:
            return self.pairs.sites[a[0]].cov(a[1], b[1])
        (_, first), (_, second) = sorted((a, b))
        return self.pairs.second(first, second, self.tied, centred=True)

    def dual(self, refs: tuple[Ref, Ref], sides: tuple[Side, Side]) -> Piece:
        (first, a), (second, b) = refs
        if first == second:
            return self._placed(self.site(first).dual(refs, sides), first)
        return Piece(1.0, pairs=(self.pairs.dual(a, b, sides, self.tied),))

    def joint(self, atoms: list[Placed], refs: list[Ref]) -> Piece:
        sites = {site for site, _ in refs}
        if len(sites) == 1:
            (site,) = sites
            return self._placed(self.site(site).joint(atoms, refs), site)
        made = factors(self, atoms, refs)
        rows, cols = (
            union(
                *(self.pairs.lines[s].axes(n) for s, n in refs if s == side),
                *(scalar.axes for f in made if refs[f.args[0]][0] == side for scalar in f.scalars),
            )
            for side in (0, 1)
        )
        node = graph.PairExpect(
            *frame(rows, cols, self.tied),
            increments=False,
            names=tuple(name for _, name in refs),
            sites=tuple(site for site, _ in refs),
            factors=made,
            means=tuple(self.site(s).mean(n) for s, n in refs),
            cov=tuple(tuple(self.ref_cov(p, q) for q in refs) for p in refs),
            where=where(self, atoms, refs),
        )
        purse = self.site(0).purse
        if purse is not None:
            bases = [self.pairs.lines[s].bases(n for t, n in refs if t == s) for s in (0, 1)]
            entries = prod(size for _, size in (*node.rows, *node.cols, *node.tied))
            key = (*refs, *((f.fn, f.args) for f in node.factors), self.tied)
            purse.joint(key, sum(map(len, bases)), [f.fn for f in node.factors], entries, node.where)
        return Piece(1.0, pairs=(node,))

    def along(self, atoms: list[Placed]) -> list[Piece]:
        sides = [[atom for atom in atoms if atom.args[0][0] == site] for site in (0, 1)]
        if not all(sides):
            site = 0 if sides[0] else 1
            return [self._placed(piece, site) for piece in self.site(site).along(atoms)]
        made = along.pair(self.pairs, self.tied, sides, moments=True)
        return [] if made is None else [Piece(made[0], pairs=(made[1],))]

    @staticmethod
    def _placed(piece: Piece, site: int) -> Piece:
        """A piece of one input as a factor of the rows or of the columns."""
        return Piece(piece.coef, cols=piece.rows) if site else piece
