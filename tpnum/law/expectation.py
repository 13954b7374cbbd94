"""E of a product of coordinatewise functions of jointly Gaussian G-vars, reduced as far as it goes.

The G-vars that occur fall into components that are independent of each other (from the program's text);
the expectation is the product over components.  A component of one G-var is a one-dimensional integral,
one of two, each in functions of its own, is a dual activation; a linear factor is removed by Stein's
lemma E[v F(u)] = E[v] E[F] + sum_k Cov(v, u_k) E[d_k F]; the rest is a d-dimensional expectation.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, factorial
from typing import TYPE_CHECKING, Protocol, TypeAlias

from tpnum.functions.combine import product
from tpnum.law import graph
from tpnum.law.along import is_along
from tpnum.law.forms import IDENTITY, Atom
from tpnum.law.substitution import has_slope, substitute

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.law.site import Site

    Side: TypeAlias = tuple[Function, tuple[str, ...]]
    """A function and the scalars that it takes."""

Ref: TypeAlias = tuple[int, str]
"""(site 0 or 1, name of a G-var)."""


@dataclass(frozen=True)
class Placed:
    """fn(args; scalars) with all of its G-vars at one input."""

    fn: Function
    args: tuple[Ref, ...]
    scalars: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """coef * product of row profiles * column profiles * pair nodes."""

    coef: float
    rows: tuple[graph.Profile, ...] = ()
    cols: tuple[graph.Profile, ...] = ()
    pairs: tuple[graph.Pair, ...] = ()

    def times(self, other: Piece) -> Piece:
        return Piece(
            self.coef * other.coef, self.rows + other.rows, self.cols + other.cols, self.pairs + other.pairs
        )


ONE = Piece(1.0)


def at(site: int, profile: graph.Profile) -> Piece:
    return Piece(1.0, () if site else (profile,), (profile,) if site else ())


class Law(Protocol):
    """What `Expectation` asks for: the rules at one input (`Site`) or at two (`tpnum.law.pairs`)."""

    def site(self, index: int) -> Site:
        """The rules at the first or the second input."""

    def ref_cov(self, a: Ref, b: Ref) -> graph.Profile | graph.Pair | None:
        """The covariance of two G-vars, None where the text says that it is zero."""

    def dual(self, refs: tuple[Ref, Ref], sides: tuple[Side, Side]) -> Piece:
        """E f(u) g(v) of two correlated G-vars."""

    def joint(self, atoms: list[Placed], refs: list[Ref]) -> Piece:
        """An expectation that is left in all of its dimensions."""

    def along(self, atoms: list[Placed]) -> list[Piece]:
        """An expectation of functions along axes."""


class Expectation:
    """Expands products of atoms in the terms of a law."""

    def __init__(self, law: Law):
        self.law = law

    def product(self, placed: list[tuple[int, Atom]]) -> list[Piece]:
        """The expectation as a sum of pieces; an empty list is a structural zero."""
        atoms = [Placed(a.fn, tuple((site, g) for g in a.args), a.scalars) for site, a in placed]
        purse = self.law.site(0).purse
        if purse is not None:
            purse.term(lambda: where(self.law, atoms, [ref for atom in atoms for ref in atom.args]))
        return self._product(atoms)

    def _product(self, atoms: list[Placed]) -> list[Piece]:
        total = [ONE]
        for component in self._components(atoms):
            pieces = self._component(component)
            total = [t.times(p) for t in total for p in pieces]
            if not total:
                break
        return total

    def _components(self, atoms: list[Placed]) -> list[list[Placed]]:
        refs = list(dict.fromkeys(ref for atom in atoms for ref in atom.args))
        root = {ref: ref for ref in refs}

        def find(ref: Ref) -> Ref:
            while root[ref] != ref:
                ref = root[ref]
            return ref

        for atom in atoms:
            for ref in atom.args[1:]:
                root[find(ref)] = find(atom.args[0])
        for i, a in enumerate(refs):
            for b in refs[:i]:
                if find(a) != find(b) and self._linked(a, b):
                    root[find(a)] = find(b)
        groups: dict[Ref, list[Placed]] = {}
        for atom in atoms:
            groups.setdefault(find(atom.args[0]), []).append(atom)
        return list(groups.values())

    def _linked(self, a: Ref, b: Ref) -> bool:
        """Whether two variables are correlated; functions along axes count as those that share a Gaussian."""
        if not self._along([a, b]):
            return self.law.ref_cov(a, b) is not None
        first, second = (self.law.site(site).lines for site, _ in (a, b))
        return not first.apart(a[1], b[1], second)

    def _along(self, refs: list[Ref]) -> bool:
        return any(is_along(self.law.site(site).lines, name) for site, name in refs)

    def _component(self, atoms: list[Placed]) -> list[Piece]:
        refs = list(dict.fromkeys(ref for atom in atoms for ref in atom.args))
        if self._along(refs):
            return self.law.along(atoms)
        linear = self._linear(atoms)
        apart = all(len(atom.args) == 1 for atom in atoms)
        if apart and len(refs) == 1:
            return self._single(refs[0], atoms)
        if len(refs) == 2 and len(atoms) == 2 and len(linear) == 2:
            return self._bilinear(refs[0], refs[1])
        for factor in linear:
            if self._smooth(factor, atoms):
                return self._stein(factor, atoms)
        bent = {atom.args[0] for atom in atoms if atom.fn != IDENTITY}
        if apart and (len(bent) == 1 or (not bent and len(refs) > 2)):
            return self._weak(atoms, bent.pop() if bent else refs[-1])
        if apart and len(refs) == 2:
            return self._dual(refs, atoms)
        return [self.law.joint(atoms, refs)]

    @staticmethod
    def _linear(atoms: list[Placed]) -> list[Placed]:
        """The G-vars that occur once, as a factor of their own."""
        count: dict[Ref, int] = {}
        for atom in atoms:
            for ref in atom.args:
                count[ref] = count.get(ref, 0) + 1
        return [atom for atom in atoms if atom.fn == IDENTITY and count[atom.args[0]] == 1]

    def _single(self, ref: Ref, atoms: list[Placed]) -> list[Piece]:
        site, name = ref
        law = self.law.site(site)
        if len(atoms) == 1 and atoms[0].fn == IDENTITY:
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
                return [Piece(value)] if value else []
        profile = law.single(fn, what, name, scalars)
        return [at(site, profile)] if profile is not None else []

    @staticmethod
    def _merged(atoms: list[Placed]) -> tuple[Function, str, tuple[str, ...]]:
        """One function for a product of atoms at one G-var, and which integral of it is meant."""
        fn, scalars = atoms[0].fn, atoms[0].scalars
        primitive = fn.primitive
        if len(atoms) == 1:
            return (primitive[0], "slope", scalars) if primitive else (fn, "first", scalars)
        if len(atoms) == 2 and atoms[0] == atoms[1]:
            return (primitive[0], "slope_second", scalars) if primitive else (fn, "second", scalars)
        fn, scalars = Expectation._one_function(atoms)
        return fn, "first", scalars

    @staticmethod
    def _one_function(atoms: list[Placed]) -> Side:
        """Several functions of one G-var as one."""
        if not any(atom.scalars for atom in atoms):
            return product(*(atom.fn for atom in atoms)), ()
        scalars = tuple(dict.fromkeys(s for atom in atoms for s in atom.scalars))
        factors = tuple((atom.fn, (0,), tuple(scalars.index(s) for s in atom.scalars)) for atom in atoms)
        return substitute(IDENTITY, (((1.0, (), factors),),), (), arity=1, n_scalars=len(scalars)), scalars

    def _bilinear(self, a: Ref, b: Ref) -> list[Piece]:
        """E[u v] of two G-vars of which neither is squared."""
        first, second = sorted((a, b))
        pieces = []
        cov = self.law.ref_cov(first, second)
        if cov is not None:
            pieces.append(self._covariance(cov, first[0]))
        means = self.law.site(first[0]).mean(first[1]), self.law.site(second[0]).mean(second[1])
        if means[0] is not None and means[1] is not None:
            pieces.append(at(first[0], means[0]).times(at(second[0], means[1])))
        return pieces

    @staticmethod
    def _covariance(cov: graph.Profile | graph.Pair, site: int) -> Piece:
        return at(site, cov) if isinstance(cov, graph.Profile) else Piece(1.0, pairs=(cov,))

    def _smooth(self, linear: Placed, atoms: list[Placed]) -> bool:
        """Whether Stein's lemma may differentiate what a linear factor is correlated with.

        At a jump the derivative has a point mass, which only the lemma for one function of one G-var sees.
        """
        rest = [atom for atom in atoms if atom is not linear]
        if len(rest) == 1 and len(rest[0].args) == 1:
            return True
        (ref,) = linear.args
        for atom in rest:
            for i, other in enumerate(atom.args):
                if self.law.ref_cov(*sorted((ref, other))) is not None and not differentiable(atom.fn, i):
                    return False
        return True

    def _stein(self, linear: Placed, atoms: list[Placed]) -> list[Piece]:
        ref = linear.args[0]
        rest = list(atoms)
        rest.remove(linear)
        pieces: list[Piece] = []
        mean = self.law.site(ref[0]).mean(ref[1])
        if mean is not None:
            pieces += [at(ref[0], mean).times(p) for p in self._product(rest)]
        if len(rest) == 1 and len(rest[0].args) == 1:
            return pieces + self._stein_single(ref, rest[0])
        for k, atom in enumerate(rest):
            for i, other in enumerate(atom.args):
                first, second = sorted((ref, other))
                cov = self.law.ref_cov(first, second)
                if cov is None:
                    continue
                others = rest[:k] + rest[k + 1 :]
                if atom.fn != IDENTITY:
                    others.append(Placed(atom.fn.derivative(i), atom.args, atom.scalars))
                factor = self._covariance(cov, first[0])
                pieces += [factor.times(p) for p in self._product(others)]
        return pieces

    def _stein_single(self, ref: Ref, atom: Placed) -> list[Piece]:
        """Cov(v, u) E[f(u)(u - m)] / Var u, which is right at jumps of f too."""
        (other,) = atom.args
        first, second = sorted((ref, other))
        cov = self.law.ref_cov(first, second)
        law = self.law.site(other[0])
        if cov is None or (atom.fn.parity == 1 and law.mean(other[1]) is None):
            return []
        slope = law.single(atom.fn, "stein", other[1], atom.scalars)
        return [self._covariance(cov, first[0]).times(at(other[0], slope))]

    def _weak(self, atoms: list[Placed], ref: Ref) -> list[Piece]:
        """E[v1 .. vl f(u)]: Stein's lemma with weak derivatives of f, whose means need no derivative."""
        side = self._side([atom for atom in atoms if atom.args == (ref,)])
        linear = tuple(atom.args[0] for atom in atoms if atom.args != (ref,))
        return self._weak_product(linear, ref, side, 0)

    def _weak_product(self, linear: tuple[Ref, ...], ref: Ref, side: Side, order: int) -> list[Piece]:
        """E[v1 .. vl f^(order)(u)]."""
        if not linear:
            return self._weak_mean(ref, side, order)
        first, rest = linear[0], linear[1:]
        pieces: list[Piece] = []
        mean = self.law.site(first[0]).mean(first[1])
        if mean is not None:
            pieces += [at(first[0], mean).times(p) for p in self._weak_product(rest, ref, side, order)]
        for i, other in enumerate((*rest, ref)):
            a, b = sorted((first, other))
            cov = self.law.ref_cov(a, b)
            if cov is not None:
                last = i == len(rest)
                left = rest if last else rest[:i] + rest[i + 1 :]
                inner = self._weak_product(left, ref, side, order + last)
                pieces += [self._covariance(cov, a[0]).times(p) for p in inner]
        return pieces

    def _weak_mean(self, ref: Ref, side: Side, order: int) -> list[Piece]:
        """E f^(k)(u) = sum_i (-1)^i k!/(2^i i! (k-2i)!) E[f(u) (u - m)^(k-2i)] / q^(k-i), u ~ N(m, q)."""
        site, name = ref
        law = self.law.site(site)
        mean, inverse = law.mean(name), at(site, law.inverse_variance(name))
        pieces: list[Piece] = []
        for i in range(order // 2 + 1):
            j = order - 2 * i
            coef = (-1) ** i * factorial(order) / (2**i * factorial(i) * factorial(j))
            scale = Piece(coef)
            for _ in range(order - i):
                scale = scale.times(inverse)
            for k in range(j + 1) if mean is not None else (j,):
                shift = Piece(float(comb(j, k) * (-1) ** (j - k)))
                for _ in range(j - k):
                    assert mean is not None
                    shift = shift.times(at(site, mean))
                power = [Placed(IDENTITY, (ref,), ())] * k
                inner = self._single(ref, [Placed(side[0], (ref,), side[1]), *power])
                pieces += [scale.times(shift).times(p) for p in inner]
        return pieces

    def _dual(self, refs: list[Ref], atoms: list[Placed]) -> list[Piece]:
        first, second = sorted(refs)
        f, g = (self._side([atom for atom in atoms if atom.args == (ref,)]) for ref in (first, second))
        centred = all(self.law.site(s).mean(name) is None for s, name in refs)
        if centred and f[0].parity * g[0].parity == -1:
            return []
        return [self.law.dual((first, second), (f, g))]

    def _side(self, atoms: list[Placed]) -> Side:
        return (atoms[0].fn, atoms[0].scalars) if len(atoms) == 1 else self._one_function(atoms)


def differentiable(fn: Function, i: int) -> bool:
    """Whether E of the derivative in argument i is the integral of what `Function.derivative` gives."""
    return fn == IDENTITY or (fn.continuous and has_slope(fn, i))


def factors(law: Law, atoms: list[Placed], refs: list[Ref]) -> tuple[graph.Factor, ...]:
    """The atoms of a joint expectation over ``refs``."""
    index = {ref: k for k, ref in enumerate(refs)}
    made = []
    for atom in atoms:
        site = law.site(atom.args[0][0])
        args = tuple(index[ref] for ref in atom.args)
        made.append(graph.Factor(atom.fn, args, tuple(site.scalar(s) for s in atom.scalars)))
    return tuple(made)


def where(law: Law, atoms: list[Placed], refs: list[Ref]) -> str:
    """What a joint expectation is of: the lines of its functions, or over which Gaussians, for messages."""
    made = []
    for atom in atoms:
        site = atom.args[0][0]
        own = Atom(atom.fn, tuple(name for _, name in atom.args), atom.scalars)
        made.append((site, law.site(site).lines.form.makers.get(own, "")))
    known = [ref for ref in made if ref[1] and law.site(ref[0]).lines.written(ref[1])]
    lines = dict.fromkeys(law.site(site).lines.where(name) for site, name in known or refs)
    return f"of {' and '.join(lines)}" if known else f"over {', '.join(lines)}"


def shared(f: Function, g: Function) -> tuple[Function, Function, str]:
    """E f'(u) g'(v) is the "slope" of the call that has E f(u) g(v) for its "value"."""
    if f.primitive and g.primitive:
        return f.primitive[0], g.primitive[0], "slope"
    return f, g, "value"
