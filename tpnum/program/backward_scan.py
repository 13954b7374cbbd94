"""The gradient of a scan is a scan in the other direction.

Its body gives back what the body was given, its carried states are the gradients of the forward ones, and
what the forward steps computed reaches it as families over the axis: the forward scan stacks those too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tpnum.errors import ProgramError
from tpnum.program.check import quoted
from tpnum.program.gradient import Rules
from tpnum.program.lines import Line, Map, Scan
from tpnum.program.maps import Take
from tpnum.program.text import made_by

if TYPE_CHECKING:
    from tpnum.program.backward import Reverse
    from tpnum.program.builder import Program
    from tpnum.program.scan import Loop


@contextmanager
def quoting(program: Program, line: Line, label: str) -> Iterator[None]:
    """Errors quote the line that has no gradient."""
    try:
        yield
    except ProgramError as error:
        raise quoted(f"no gradient: {error}", line, label, program.vars) from None


def reverse_scan(outside: Reverse, scan: Scan, label: str, totals: dict[str, Any]) -> dict[str, Any]:
    """Append the scan that gives back the gradients ``totals`` of a scan's families.

    Gradients of what is made outside go to ``outside``; those of variables inside that are asked for are
    returned, as families over the axis.
    """
    return _Body(outside, scan, label).run(totals)


class _Body(Rules):
    """The rules in the body of the backward scan, whose steps run from the last to the first."""

    def __init__(self, outside: Reverse, scan: Scan, label: str) -> None:
        super().__init__(outside.program, outside.live, outside.root)
        self.outside, self.scan, self.label = outside, scan, label
        self.axis, self.size = scan.axis
        self.slices = dict(scan.inputs)
        made = [name for line in scan.body for name in made_by(line)]
        self.inside = {*self.slices, *(c.name for c in scan.carries), *made}
        self.given: dict[str, list[Any]] = {}  # gradients of variables outside, by step
        self.loop: Loop

    # --- what the forward steps computed

    def value(self, name: str) -> Any:
        return self.loop.slice(self.kept(name)) if name in self.inside else super().value(name)

    def _family(self, name: str) -> Any:
        """The values of a variable of the forward body at all steps."""
        if name in self.slices:
            return self.program[self.slices[name]]
        return self.program[self.program._stacked(self.scan, name)]

    def _flipped(self, family: Any, name: str = "") -> Any:
        """A family in the opposite order of steps; a line outside of the scan, made once."""
        p, turned = self.program, Take(self.size, tuple(reversed(range(self.size))))
        out = ((self.axis, self.size),)
        for line in reversed(p._root.lines):
            if isinstance(line, Map) and (line.operand, line.out, line.index) == (family.name, out, turned):
                return p[line.name]
        made = p._auto(name or f"{family.name}.flip", bare=True)
        p._append(Map(made, family.name, self.axis, out, turned), p._root)
        return p[made]

    # --- gradients

    def add(self, name: str, part: Any) -> None:
        if name in self.inside:
            super().add(name, part)
        else:
            self.given.setdefault(name, []).append(self.summed(part, self.axes(name)))

    def kept(self, name: str) -> Any:
        return self._flipped(self._family(name)) if name in self.inside else super().kept(name)

    def run(self, totals: dict[str, Any]) -> dict[str, Any]:
        """Write the scan."""
        p, scan = self.program, self.scan
        handed = {outer: self._flipped(total) for outer, total in totals.items()}
        carries = [c for c in scan.carries if c.name in self.live]
        with p.scan(self.axis, self.size) as self.loop:
            for outer, inner in scan.outputs:
                if outer in handed:
                    self.add(inner, self.loop.slice(handed[outer]))
            states = [self.loop.carry(p._var(c.name).dim, axes=self.axes(c.name)) for c in carries]
            for c, state in zip(carries, states, strict=True):
                self.add(c.next, state)
            found = self._steps()
            starts = []
            for c, state in zip(carries, states, strict=True):
                self.loop.next(state, self._final(c.name))
                starts.append((c.init, self.loop.last(state)))
            passed = [
                (outer, self.loop.stack(self.total(inner)))
                for inner, outer in scan.inputs
                if inner in self.adjoints and inner in self.live
            ]
            self.adjoints |= self.given
            shared = [(name, self.loop.stack(self.total(name))) for name in self.given]
            found = {name: self.loop.stack(total) for name, total in found.items()}
            pairs = {
                matrix: [(self._stacked(left), self._stacked(right)) for left, right in made]
                for matrix, made in self.outer.items()
            }
        for name, part in (*starts, *shared):
            if name in self.live:
                self.outside.add(name, part)
        for name, family in passed:
            self.outside.add(name, self._flipped(family, f"grad.{name}"))
        for matrix, made in pairs.items():
            self.outside.outer.setdefault(matrix, []).extend(made)
        return {name: self._flipped(family, f"grad.{name}s") for name, family in found.items()}

    def _steps(self) -> dict[str, Any]:
        """The lines of one step, backwards; the gradients that are asked for."""
        found: dict[str, Any] = {}
        for k in range(len(self.scan.body), 0, -1):
            line = self.scan.body[k - 1]
            with quoting(self.program, line, f"{self.label}.{k}"):
                for name in made_by(line):
                    if name in self.adjoints and name in self.live:
                        total = self.total(name)
                        if self.outside.asked(line, name):
                            found[name] = total
                        if isinstance(line, Scan):
                            raise ProgramError("a scan inside a scan: call p.unrolled().backward(...)")
                        self.line(line, total)
        return found

    def _final(self, name: str) -> Any:
        """The gradient of a carried state at the start of a step."""
        if name in self.adjoints:
            return self.total(name)
        return self.program.zeros(self.program._var(name).dim, self.axes(name))

    def _stacked(self, handle: Any) -> Any:
        """A family over the steps, in the order in which they run here; what is made outside as it is."""
        return self.loop.stack(handle) if handle.name in self.loop._body().vars else handle
