"""`with p.scan("t") as loop`: a recurrence along an axis, written as its body."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tpnum.errors import ProgramError
from tpnum.program.lines import Axes, Carry, Map, Scan
from tpnum.program.maps import Take
from tpnum.program.scope import Scope
from tpnum.program.values import Scalar, Vector

if TYPE_CHECKING:
    from tpnum.program.builder import Program

V = TypeVar("V", Vector, Scalar)


class Loop:
    """The body of a scan while it is written.

    Lines made inside the ``with`` block are the body's; matrices and shared inputs made there move
    before the scan, so that every step has the same.
    """

    def __init__(self, program: Program, axis: str, size: int | None) -> None:
        self.program, self.axis, self.size = program, axis, size
        self._inputs: dict[str, str] = {}  # outer -> inner
        self._inits: dict[str, str] = {}
        self._nexts: dict[str, str] = {}
        self._outputs: dict[str, str] = {}  # inner -> outer
        self._lasts: list[tuple[str, str]] = []  # (name, outer family)
        self._scope: Scope | None = None

    def __enter__(self) -> Loop:
        self._scope = self.program._open(self.axis)
        return self

    def carry(
        self, dim: str | None = None, init: Vector | None = None, axes: Axes = (), name: str | None = None
    ) -> Vector:
        """A state carried from step to step; it starts at ``init`` or at zero (``dim``, ``axes``)."""
        p, scope = self.program, self._body()
        if init is not None and (axes or dim not in (None, init.dim)):
            raise ProgramError("loop.carry takes a CDC (and axes) or an initial vector, not both")
        start = p.zeros(dim or "n", axes) if init is None else init
        made = name or p._auto("state")
        if p._taken(made):
            raise ProgramError(f"the name {made!r} is used twice: give the carried state another one")
        source = p._outer_name(start, scope)
        v = p._var(source)
        p._declare(made, "H", v, v.axes)
        self._inits[made] = source
        return Vector(p, made)

    def slice(self, family: V) -> V:
        """The entry of ``family`` at the current step; what lacks the axis is the same at every step."""
        p, scope = self.program, self._body()
        v = family.var
        sizes = dict(v.axes)
        if self.axis not in sizes:
            return family
        if self.size is None:
            self.size = sizes[self.axis]
        if sizes[self.axis] != self.size:
            raise ProgramError(
                f"{family.name!r} has size {sizes[self.axis]} along {self.axis!r}, "
                f"but the scan has {self.size} steps"
            )
        outer = p._outer_name(family, scope)
        if outer not in self._inputs:
            inner = p._auto(f"{outer}_{self.axis}", bare=True)
            p._declare(inner, v.kind, v, tuple(a for a in v.axes if a[0] != self.axis))
            self._inputs[outer] = inner
        return type(family)(p, self._inputs[outer])

    def next(self, state: Vector, value: Vector) -> None:
        """What the carried state is at the next step."""
        self._body()
        if state.name not in self._inits:
            raise ProgramError(f"{state.name!r} is not a carried state of this scan: make it by loop.carry")
        if state.name in self._nexts:
            raise ProgramError(f"the carried state {state.name!r} has its next value already")
        self._nexts[state.name] = value.name

    def stack(self, value: V, name: str | None = None) -> V:
        """The family of ``value`` over all steps, for the lines after the scan."""
        p = self.program
        self._body()
        inner = value.name
        if inner in self._outputs and name in (None, self._outputs[inner]):
            return type(value)(p, self._outputs[inner])
        if inner in self._outputs:
            raise ProgramError(f"{inner!r} is stacked already, as {self._outputs[inner]!r}")
        outer = name or p._auto(f"{inner}s", bare=True)
        if p._taken(outer):
            raise ProgramError(f"the name {outer!r} is used twice: give the stacked family another one")
        p._reserve(outer)
        self._outputs[inner] = outer
        return type(value)(p, outer)

    def last(self, state: Vector, name: str | None = None) -> Vector:
        """The carried state after the last step, for the lines after the scan (call after `next`)."""
        p = self.program
        if state.name not in self._nexts:
            raise ProgramError(f"loop.last({state.name}) needs loop.next({state.name}, ...) before it")
        outer = self.stack(Vector(p, self._nexts[state.name]))
        made = name or p._auto("h")
        p._reserve(made)
        self._lasts.append((made, outer.name))
        return Vector(p, made)

    def _body(self) -> Scope:
        if self._scope is None or self.program._scope is not self._scope:
            raise ProgramError(f"the scan over {self.axis!r} is not open: use it inside its with block")
        return self._scope

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        p, scope = self.program, self._body()
        p._close()
        self._scope = None
        if kind is not None:
            return
        if self.size is None:
            raise ProgramError(f"the scan has no size: slice a family or write p.scan({self.axis!r}, 5)")
        missing = [s for s in self._inits if s not in self._nexts]
        if missing:
            raise ProgramError(f"the carried state {missing[0]!r} has no next value: call loop.next")
        if not self._outputs:
            raise ProgramError(f"the scan over {self.axis!r} gives nothing: call loop.stack or loop.last")
        carries = tuple(Carry(s, init, self._nexts[s]) for s, init in self._inits.items())
        inputs = tuple((inner, outer) for outer, inner in self._inputs.items())
        outputs = tuple((outer, inner) for inner, outer in self._outputs.items())
        p._append(Scan((self.axis, self.size), carries, inputs, tuple(scope.lines), outputs))
        for name, family in self._lasts:
            p._append(Map(name, family, self.axis, (), Take(self.size, (self.size - 1,))))
