"""E of a product of coordinatewise functions of jointly Gaussian G-vars, reduced as far as it goes.

The G-vars that occur fall into components that are independent of each other (from the program's text);
the expectation is the product over components.  A component of one G-var is a one-dimensional integral,
one with a G-var at either input is a dual activation; a linear factor is removed by Stein's lemma
E[v F(u)] = E[v] E[F] + sum_k Cov(v, u_k) E[d_k F]; the rest is a d-dimensional expectation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tpnum.functions.combine import product
from tpnum.law.forms import IDENTITY, Atom
from tpnum.law.substitution import substitute

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.law import graph

Ref = tuple[int, str]
"""(site 0 or 1, name of a G-var)."""

Placed = tuple["Function", tuple[Ref, ...], int, tuple[str, ...]]


@dataclass(frozen=True)
class Piece:
    """coef * product of row profiles * column profiles * pair nodes."""

    coef: float
    rows: tuple[graph.Profile, ...]
    cols: tuple[graph.Profile, ...]
    pairs: tuple[Any, ...]

    def times(self, other: Piece) -> Piece:
        return Piece(
            self.coef * other.coef, self.rows + other.rows, self.cols + other.cols, self.pairs + other.pairs
        )


ONE = Piece(1.0, (), (), ())


def at(site: int, profile: graph.Profile, coef: float = 1.0) -> Piece:
    return Piece(coef, () if site else (profile,), (profile,) if site else (), ())


class Expectation:
    """Expands products of atoms in the terms of a `Site` (one input) or of `Pairs` (two)."""

    def __init__(self, law: Any):
        self.law = law

    def product(self, placed: list[tuple[int, Atom]]) -> list[Piece]:
        """The expectation as a sum of pieces; an empty list is a structural zero."""
        atoms = [(a.fn, tuple((site, g) for g in a.args), site, a.scalars) for site, a in placed]
        total = [ONE]
        for component in self._components(atoms):
            pieces = self._component(component)
            total = [t.times(p) for t in total for p in pieces]
            if not total:
                break
        return total

    def _components(self, atoms: list[Placed]) -> list[list[Placed]]:
        refs = list(dict.fromkeys(ref for atom in atoms for ref in atom[1]))
        root = {ref: ref for ref in refs}

        def find(ref: Ref) -> Ref:
            while root[ref] != ref:
                ref = root[ref]
            return ref

        for atom in atoms:
            for ref in atom[1][1:]:
                root[find(ref)] = find(atom[1][0])
        for i, a in enumerate(refs):
            for b in refs[:i]:
                if find(a) != find(b) and self.law.ref_cov(a, b) is not None:
                    root[find(a)] = find(b)
        groups: dict[Ref, list[Placed]] = {}
        for atom in atoms:
            groups.setdefault(find(atom[1][0]), []).append(atom)
        return list(groups.values())

    def _component(self, atoms: list[Placed]) -> list[Piece]:
        refs = list(dict.fromkeys(ref for atom in atoms for ref in atom[1]))
        if all(len(atom[1]) == 1 for atom in atoms):
            if len(refs) == 1:
                return self._single(refs[0], atoms)
            linear = self._linear(atoms)
            if len(refs) == 2 and len(atoms) == 2 and len(linear) == 2:
                return self._bilinear(refs[0], refs[1])
            if linear:
                return self._stein(linear[0], atoms)
            if len(refs) == 2 and {ref[0] for ref in refs} == {0, 1}:
                return self._dual(sorted(refs), atoms)
        elif self._linear(atoms):
            return self._stein(self._linear(atoms)[0], atoms)
        index = {ref: k for k, ref in enumerate(refs)}
        flat = tuple((site, fn, tuple(index[r] for r in args), scalars) for fn, args, site, scalars in atoms)
        return self.law.joint(flat, refs)

    @staticmethod
    def _linear(atoms: list[Placed]) -> list[Placed]:
        """The G-vars that occur once, as a factor of their own."""
        count: dict[Ref, int] = {}
        for atom in atoms:
            for ref in atom[1]:
                count[ref] = count.get(ref, 0) + 1
        return [atom for atom in atoms if atom[0] == IDENTITY and count[atom[1][0]] == 1]

    def _single(self, ref: Ref, atoms: list[Placed]) -> list[Piece]:
        site, name = ref
        law = self.law.site(site)
        if len(atoms) == 1 and atoms[0][0] == IDENTITY:
            mean = law.mean(name)
            return [at(site, mean)] if mean is not None else []
        fn, what, scalars = self._merged(atoms)
        if fn == IDENTITY and what == "second":
            second = law.second(name, name)
            return [at(site, second)] if second is not None else []
        if what in ("first", "slope"):
            sign = fn.parity if what == "first" else -fn.parity
            if sign == -1 and law.mean(name) is None:
                return []
            if fn.closed is not None and fn.closed[0] == "const":
                value = fn.closed[1][0] if what == "first" else 0.0
                return [Piece(value, (), (), ())] if value else []
        profile = law.single(fn, what, name, scalars)
        return [at(site, profile)] if profile is not None else []

    @staticmethod
    def _merged(atoms: list[Placed]) -> tuple[Function, str, tuple[str, ...]]:
        """One function for a product of atoms at one G-var, and which integral of it is meant."""
        fns = [atom[0] for atom in atoms]
        scalars = atoms[0][3]
        weak = [fn.primitive for fn in fns]
        if len(fns) == 1:
            return (weak[0][0], "slope", scalars) if weak[0] else (fns[0], "first", scalars)
        if len(fns) == 2 and fns[0] == fns[1] and atoms[0][3] == atoms[1][3]:
            return (weak[0][0], "slope_second", scalars) if weak[0] else (fns[0], "second", scalars)
        fn, scalars = Expectation._product(atoms)
        return fn, "first", scalars

    @staticmethod
    def _product(atoms: list[Placed]) -> tuple[Function, tuple[str, ...]]:
        """Several functions of one G-var as one."""
        if not any(atom[3] for atom in atoms):
            return product(*(atom[0] for atom in atoms)), ()
        scalars = tuple(dict.fromkeys(s for atom in atoms for s in atom[3]))
        factors = tuple((fn, (0,), tuple(scalars.index(s) for s in own)) for fn, _, _, own in atoms)
        return substitute(IDENTITY, (((1.0, (), factors),),), (), arity=1, n_scalars=len(scalars)), scalars

    def _bilinear(self, a: Ref, b: Ref) -> list[Piece]:
        """E[u v] of two G-vars of which neither is squared."""
        first, second = sorted((a, b))
        pieces = []
        cov = self.law.ref_cov(first, second)
        if cov is not None:
            pieces.append(self._covariance(cov, first, second))
        means = self.law.site(first[0]).mean(first[1]), self.law.site(second[0]).mean(second[1])
        if means[0] is not None and means[1] is not None:
            pieces.append(at(first[0], means[0]).times(at(second[0], means[1])))
        return pieces

    @staticmethod
    def _covariance(cov: Any, a: Ref, b: Ref) -> Piece:
        return at(a[0], cov) if a[0] == b[0] else Piece(1.0, (), (), (cov,))

    def _stein(self, linear: Placed, atoms: list[Placed]) -> list[Piece]:
        ref = linear[1][0]
        rest = list(atoms)
        rest.remove(linear)
        pieces: list[Piece] = []
        mean = self.law.site(ref[0]).mean(ref[1])
        if mean is not None:
            pieces += [at(ref[0], mean).times(p) for p in self._again(rest)]
        if len(rest) == 1 and len(rest[0][1]) == 1:
            return pieces + self._stein_single(ref, rest[0])
        for k, (fn, args, site, scalars) in enumerate(rest):
            for i, other in enumerate(args):
                first, second = sorted((ref, other))
                cov = self.law.ref_cov(first, second)
                if cov is None:
                    continue
                others = rest[:k] + rest[k + 1 :]
                if fn != IDENTITY:
                    others.append((fn.derivative(i), args, site, scalars))
                factor = self._covariance(cov, first, second)
                pieces += [factor.times(p) for p in self._again(others)]
        return pieces

    def _stein_single(self, ref: Ref, atom: Placed) -> list[Piece]:
        """Cov(v, u) E[f(u)(u - m)] / Var u, which is right at jumps of f too."""
        fn, (other,), site, scalars = atom
        first, second = sorted((ref, other))
        cov = self.law.ref_cov(first, second)
        law = self.law.site(site)
        if cov is None or (fn.parity == 1 and law.mean(other[1]) is None):
            return []
        slope = law.single(fn, "stein", other[1], scalars)
        return [self._covariance(cov, first, second).times(at(site, slope))]

    def _again(self, atoms: list[Placed]) -> list[Piece]:
        total = [ONE]
        for component in self._components(atoms):
            pieces = self._component(component)
            total = [t.times(p) for t in total for p in pieces]
        return total

    def _dual(self, refs: list[Ref], atoms: list[Placed]) -> list[Piece]:
        sides = []
        for ref in refs:
            own = [atom for atom in atoms if atom[1][0] == ref]
            sides.append((own[0][0], own[0][3]) if len(own) == 1 else self._product(own))
        centred = all(self.law.site(s).mean(name) is None for s, name in refs)
        if centred and sides[0][0].parity * sides[1][0].parity == -1:
            return []
        return self.law.dual(refs[0][1], refs[1][1], *sides)
