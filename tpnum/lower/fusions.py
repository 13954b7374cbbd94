"""Functions that one instruction takes from increments to what the next index maps start from.

One whose value goes through one chain, and with its tangent kernel through one more, needs no
co-correlation in between; it also adds the constants (biases) of what it reads.  Covariances that others
read of it are made of these two: in a recurrence the next step has them, the readout reads them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from tpnum.gauss.prepared import rectifies
from tpnum.law import graph
from tpnum.lower.builder import closed, refusal
from tpnum.lower.forms import form_of, terms
from tpnum.lower.network import Root
from tpnum.lower.schedule import Level

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpnum.gauss.pair import Prepared
    from tpnum.lower.forms import Atoms

    Prepare = Callable[[graph.DualCall, int], Prepared]
    Wanted = Callable[["Fused"], bool]

Key: TypeAlias = tuple[int, int]
"""A root, by its identity, and the number of one of its groups."""


@dataclass(frozen=True)
class Fused:
    """A function whose value V goes through one chain and, with its tangent kernel, through one more.

    ``coef`` V is the source of the group ``value``, ``coefs`` are those of V and of V' ``inner`` in that of
    ``tangent``; those of ``others`` are multiples of the second source and of the first's covariance.
    """

    call: graph.DualCall
    value: Key
    tangent: Key | None
    coef: float
    coefs: tuple[float, float]
    inner: graph.Pair | None
    held: str
    scale: float | None
    """E f'^2 of a relu, None of others."""
    others: dict[Key, tuple[float, float]]


class _Use(NamedTuple):
    """A group of a root that is up V + down V' inner."""

    key: Key
    root: Root
    up: float
    down: float = 0.0
    inner: graph.Pair | None = None

    @property
    def first(self) -> tuple[bool, bool]:
        """What sorts the uses that can be made of others behind those that cannot, and behind states."""
        return self.root.held != "inc", not self.root.groups[self.key[1]].carried


class Fusions:
    """The functions of a level that are done in one instruction, and the constants that they add.

    ``steps`` are by the (root, group) that they make the source of, ``bare`` the constants that are left out
    of roots that nobody else reads.  Steps that are not ``wanted`` are left to others.
    """

    def __init__(
        self, level: Level, roots: dict[int, Root], prepare: Prepare, wanted: Wanted = lambda step: True
    ):
        self.level, self.roots, self.prepare = level, roots, prepare
        self.steps = {key: step for key, step in self._match().items() if wanted(step)}
        self.bare = self._bare()

    def _match(self) -> dict[tuple[int, int], Fused]:
        calls: dict[int, graph.DualCall] = {}
        readers: dict[int, list[tuple[Root, int, float, graph.Pair]]] = {}
        for root in self.level.roots:
            for k, group in enumerate(root.groups):
                for coef, atom in group.atoms:
                    for call in _calls_of(atom, self.roots):
                        calls[id(call)] = call
                        readers.setdefault(id(call), []).append((root, k, coef, atom))
        found: dict[tuple[int, int], Fused] = {}
        for number, uses in readers.items():
            made = self._fused(calls[number], uses)
            if made is not None:
                found |= dict.fromkeys([made.value, *made.others], made)
                if made.tangent is not None:
                    found[made.tangent] = made
        return found

    def _fused(self, call: graph.DualCall, uses: list[tuple[Root, int, float, graph.Pair]]) -> Fused | None:
        source = self.roots.get(id(call.cov))
        if source is None or source.held != "inc" or call.f != call.g:
            return None
        scale = self._rectifies(call)
        if scale is None:
            first, second = self.prepare(call, 0), self.prepare(call, 1)
            if refusal(first, second, "slope" in call.wanted):
                return None
        by_group: dict[Key, tuple[Root, Atoms]] = {}
        for root, k, coef, atom in uses:
            _, before = by_group.get((id(root), k), (root, ()))
            by_group[id(root), k] = root, (*before, (coef, atom))
        values, tangents = [], []
        for key, (root, atoms) in by_group.items():
            form = form_of(terms(atoms))
            if form is None or len(atoms) != len(root.groups[key[1]].atoms):
                return None
            if form.inner is None:
                values.append(_Use(key, root, form.value))
                continue
            below = self.roots.get(id(form.inner))
            if root.held != "cov" or below is None or below.held != "cov":
                return None
            if form.value < 0.0 or form.slope <= 0.0:
                return None
            tangents.append(_Use(key, root, form.value, form.slope, form.inner))
        if not values:
            return None
        value, *more = sorted(values, key=lambda use: use.first)
        tangent, rest = None, sorted(tangents, key=lambda use: use.first)
        if rest:
            tangent, *rest = rest
        if value.up <= 0.0 or any(use.root.held == "inc" for use in more):
            return None
        if tangent is not None and any(use.inner is not tangent.inner for use in rest):
            return None
        coefs = (tangent.up, tangent.down) if tangent is not None else (0.0, 0.0)
        others = {use.key: _multiples(use, value.up, coefs) for use in (*more, *rest)}
        return Fused(
            call, value.key, tangent and tangent.key, value.up, coefs, tangent and tangent.inner,
            value.root.held, scale, others,
        )  # fmt: skip

    def _bare(self) -> dict[int, float]:
        """The roots that nobody else reads, and the constants of theirs that these functions add."""
        read = {id(root) for root in self.level.stored}
        for root in self.level.roots:
            for k, group in enumerate(root.groups):
                if (id(root), k) not in self.steps:
                    for _, atom in group.atoms:  # which may be the root's own node, a function
                        below = graph.operands(atom) if atom is root.node else [atom]
                        read |= {id(r) for one in below for r in self.level.network.read_by(one)}
        for step in self.steps.values():
            twin = self.roots[id(step.inner)].twin if step.inner is not None else None
            if twin is not None and twin.node is not step.call.cov:
                read.add(id(twin))
        found = {id(root): constant(root) for root in self.level.roots if id(root) not in read}
        return {name: value for name, value in found.items() if value > 0.0}

    def positive(self, root: Root) -> bool:
        """Whether no correlation of a root is negative: sums of what is behind a relu, and constants."""
        for group in root.groups:
            for coef, atom in group.atoms:
                if coef <= 0.0:
                    return False
                if isinstance(atom, graph.Shared):
                    continue
                if not isinstance(atom, graph.Dual) or atom.what != "value" or atom.call.f != atom.call.g:
                    return False
                if self._rectifies(atom.call) is None:
                    return False
        return True

    def _rectifies(self, call: graph.DualCall) -> float | None:
        """`tpnum.gauss.prepared.rectifies` of a function of centred variables and of itself."""
        scale = rectifies(call.f)
        if scale is None or closed(call):
            return scale
        centred = call.f == call.g and all(self.prepare(call, k).kind == "closed" for k in (0, 1))
        return scale if centred else None


def constant(root: Root) -> float:
    """The sum of the constants that are added to a root."""
    added = [term for group in root.groups if not group.chain for term in group.atoms]
    return sum(coef * atom.value for coef, atom in added if isinstance(atom, graph.Shared))


def _multiples(use: _Use, coef: float, coefs: tuple[float, float]) -> tuple[float, float]:
    """What a use is of the two sources: of that of the tangent kernel, and of coef V."""
    of_tangent = use.down / coefs[1] if use.down else 0.0
    rest = use.up - of_tangent * coefs[0]
    return of_tangent, 0.0 if abs(rest) < 1e-14 * abs(use.up) else rest / coef


def _calls_of(atom: graph.Pair, roots: dict[int, Root]) -> list[graph.DualCall]:
    """The duals that an atom is computed from directly."""
    if id(atom) in roots:
        return []
    if isinstance(atom, graph.Dual):
        return [atom.call]
    return [call for child in graph.operands(atom) for call in _calls_of(child, roots)]
