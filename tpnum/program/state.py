"""The state of a program: its checked lines, the names in use, and sums that are not lines yet."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from tpnum.arguments import number, shown, text
from tpnum.errors import ProgramError
from tpnum.program import check as checks
from tpnum.program.handle import Handle
from tpnum.program.lines import Axes, Data, Input, Known, Line, Matrix, Place, Scan, Transpose, Var
from tpnum.program.scope import Scope
from tpnum.program.text import made_by, numbered

if TYPE_CHECKING:
    from tpnum.program.parts import Parts
    from tpnum.program.values import Vector


NESTED = 10
"""Scans inside one another."""


@dataclass(frozen=True)
class Lineage:
    """Where a program comes from: copies share it, what is derived from it (expanded, ..) its ``origin``.

    ``layers`` are the layers of a net by the variables that they wrote.
    """

    origin: str = field(default_factory=lambda: os.urandom(8).hex())
    form: str = ""
    layers: dict[str, str] = field(default_factory=dict, compare=False, repr=False)


class State:
    """An append-only list of checked lines: content, names, scopes."""

    def __init__(self) -> None:
        self.lineage = Lineage()
        self._root = Scope()
        self._scope = self._root
        self._ratios: dict[str, float] = {}
        self._outputs: dict[Place, tuple[float, str]] = {}
        self._waiting: list[weakref.ref[Vector]] = []
        self._reserved: set[str] = set()
        self._counters: dict[str, int] = {}
        self._shown: tuple[int, tuple[Line, ...], dict[str, Var]] = (-1, (), {})
        self.tangents: dict[str, str] = {}
        self.parts: dict[str, Parts] = {}

    # --- what a program is

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines, in order."""
        return self._content_now()[1]

    @property
    def vars(self) -> dict[str, Var]:
        """Every variable by name, those inside scans included."""
        return self._content_now()[2]

    def _content_now(self) -> tuple[int, tuple[Line, ...], dict[str, Var]]:
        self._settle()
        root = self._root
        if self._shown[0] != root.version:
            self._shown = (root.version, tuple(root.lines), {**root.vars, **root.hidden})
        return self._shown

    @property
    def dims(self) -> dict[str, float]:
        """The CDCs and their ratios of widths (default 1); the channels of data are not among them."""
        seen: dict[str, float] = {}
        for v in self._root.vars.values():
            for d in (v.dim, v.cols):
                if d and d not in self._root.channels:
                    seen.setdefault(d, self._ratios.get(d, 1.0))
        return {**seen, **{d: r for d, r in self._ratios.items() if d not in seen}}

    @property
    def outputs(self) -> tuple[tuple[float, str], ...]:
        """The outputs: (weight, name)."""
        return tuple(self._outputs.values())

    @property
    def output_places(self) -> tuple[Place, ...]:
        """Of each output the family that it was declared as, and its index along the axes split since."""
        return tuple(self._outputs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.lines)} lines, {len(self.outputs)} outputs>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State):
            return NotImplemented
        return self is other or self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self.lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self).from_lines, self._content(), {"lineage": self.lineage})

    def _content(self) -> tuple[Any, ...]:
        outputs = tuple((*out, *place) for place, out in self._outputs.items())
        return (self.lines, self.dims, outputs, self.tangents, self.parts)

    @classmethod
    def from_lines(
        cls,
        lines: Iterable[Line],
        dims: Mapping[str, float] | None = None,
        outputs: Iterable[tuple[Any, ...]] = (),
        tangents: Mapping[str, str] | None = None,
        parts: Mapping[str, Parts] | None = None,
    ) -> Self:
        """A program from its records, checked line by line; outputs (weight, name) may have a place."""
        p = cls()
        for dim, ratio in (dims or {}).items():
            p.dim(dim, ratio)
        for line in lines:
            p.append(line)
        for weight, name, *place in outputs:
            p._put_out(name, weight, Place(*place) if place else None)
        p.tangents, p.parts = dict(tangents or {}), dict(parts or {})
        return p

    def copy(self) -> Self:
        """An equal program that can be continued by itself."""
        return type(self).from_lines(*self._content())._of(self, self.lineage.form)

    def _of(self, source: State, form: str) -> Self:
        """The same, known to be made of ``source``."""
        if self is not source:
            self.lineage = Lineage(source.lineage.origin, form, source.lineage.layers)
        return self

    def check(self) -> None:
        """Check the whole program again from its lines."""
        checks.check(self.lines, self.dims, self.outputs)

    def layer_of(self, name: str) -> str:
        """The layer of a net that wrote a variable, or what it is a part or tangent of: h2[0], h2.; or ""."""
        layers = self.lineage.layers
        while name and name not in layers:
            name = name[: max(name.rfind("."), name.rfind("["), 0)]
        return layers.get(name, "")

    def sign(self, layer: str, begin: int) -> int:
        """Say of the lines from the ``begin``-th on that a layer wrote them; how many lines there are."""
        lines = self._root.lines
        for _, line in numbered(lines[begin:]):
            for name in made_by(line):
                self.lineage.layers.setdefault(name, layer)
        return len(lines)

    def dim(self, name: str, ratio: float = 1.0) -> str:
        """Declare a CDC with its ratio of widths."""
        name = text(name, "name", ProgramError)
        checks.check_ratio(name, number(ratio, "ratio", error=ProgramError))
        self._ratios[name] = float(ratio)
        return name

    def append(self, line: Line) -> tuple[str, ...]:
        """Check and append one record; the names that it makes."""
        self._append(line, self._root if isinstance(line, (Data, Known, Matrix, Transpose)) else self._scope)
        return made_by(line)

    def output(self, vector: Handle | str, weight: float = 1.0) -> None:
        """Declare an output; ``weight`` multiplies its second moment (a readout's variance).

        The weights of one that is declared several times add up.
        """
        if not isinstance(vector, (Handle, str)):
            raise ProgramError(f"vector: an output is a variable of the program, not {shown(vector)}")
        weight = number(weight, "weight", error=ProgramError)
        name = vector if isinstance(vector, str) else self._outer_name(vector, None)
        self._put_out(name, weight)

    def _put_out(self, name: str, weight: float, place: Place | None = None) -> None:
        checks.check_output(weight, name, self._root)
        place = place or Place(name, (None,) * len(self._var(name).axes))
        before, _ = self._outputs.get(place, (0.0, name))
        self._outputs[place] = (before + float(weight), name)

    def _outputs_of(self, program: State) -> None:
        """Declare the outputs of a program that has the same variables."""
        for place, (weight, name) in program._outputs.items():
            self._put_out(name, weight, place)

    __iter__ = None  # names are looked up, not numbered

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._scope.find(name) is not None

    # --- inside

    def _append(self, line: Line, scope: Scope | None = None) -> None:
        scope = scope or self._scope
        if not self._is_open(scope):
            raise ProgramError(
                f"{', '.join(made_by(line))!r} belongs to a scan that is closed: "
                f"give it to the lines after the scan with loop.stack"
            )
        if scope is self._scope and scope is not self._root:
            made = checks.infer_inside(line, scope)
        else:
            made = checks.infer(line, scope)
        if isinstance(line, Scan):
            names = {v.name for v in made}
            self._reserved -= names
        scope.add(line, made)

    def _var(self, name: str) -> Var:
        known = isinstance(name, str)
        v = (self._scope.find(name) or self._root.hidden.get(name)) if known else None
        if v is None:
            raise ProgramError(f"{shown(name)} is not a variable of the program (yet)")
        return v

    def _own(self, *handles: Any) -> None:
        for h in handles:
            if not isinstance(h, Handle):
                raise ProgramError(f"a variable of the program is needed, not {shown(h)}")
            if h.program is not self:
                raise ProgramError(f"{h.name!r} belongs to another program")

    def _taken(self, name: str) -> bool:
        return name in self._reserved or self._scope.taken(name)

    def _reserve(self, name: str) -> None:
        self._reserved.add(name)

    def _auto(self, prefix: str, bare: bool = False) -> str:
        """A free name: g1, g2, ...; ``bare`` tries the prefix itself first."""
        if bare and not self._taken(prefix):
            return prefix
        k = self._counters.get(prefix, 1 + bare)
        while self._taken(f"{prefix}{k}"):
            k += 1
        self._counters[prefix] = k
        return f"{prefix}{k}"

    def _rename(self, old: str, new: str) -> None:
        scope = self._scope
        last = scope.lines[-1] if scope.lines else None
        if last is None or made_by(last) != (old,) or isinstance(last, (Input, Scan)):
            raise ProgramError(f"{old!r} cannot be named {new!r}: name a vector before the next line")
        scope.lines.pop()
        var = scope.vars.pop(old)
        try:
            self._append(replace(last, name=new), scope)
        except ProgramError:
            scope.add(last, [var])
            raise

    def _pend(self, vector: Vector) -> None:
        self._waiting = [r for r in self._waiting if (v := r()) is not None and v.pending is not None]
        self._waiting.append(weakref.ref(vector))

    def _settle(self) -> None:
        """Append the sums and products that are held by someone but not used by any line yet."""
        waiting, self._waiting = self._waiting, []
        for ref in waiting:
            v = ref()
            if v is not None and v.pending is not None and v.made_in is not None and self._is_open(v.made_in):
                v._settle("")

    def _blank(self) -> Self:
        """An empty program with the same CDCs; names that are made up there are none of this program's."""
        made = type(self)()
        made.lineage = Lineage(layers=self.lineage.layers)
        for dim, ratio in self.dims.items():
            made.dim(dim, ratio)
        made._reserved |= set(self.vars)
        return made

    def _is_open(self, scope: Scope) -> bool:
        s: Scope | None = self._scope
        while s is not None and s is not scope:
            s = s.parent
        return s is not None

    def _open(self, axis: str) -> Scope:
        scope: Scope | None = self._scope
        for _ in range(NESTED):
            scope = scope and scope.parent
        if scope is not None:
            raise ProgramError(f"scans are nested more than {NESTED} deep")
        self._scope = Scope(self._scope, axis)
        return self._scope

    def _close(self) -> None:
        assert self._scope.parent is not None
        self._scope = self._scope.parent

    def _declare(self, name: str, kind: str, like: Var, axes: Axes) -> None:
        self._scope.vars[name] = Var(name, kind, like.dim, axes, like.cols)

    def _stacked(self, scan: Scan, inner: str) -> str:
        """The family of a variable inside a closed scan, which stacks it from now on."""
        lines = self._root.lines
        k = next(k for k, line in enumerate(lines) if isinstance(line, Scan) and line.body is scan.body)
        line = lines[k]
        assert isinstance(line, Scan)
        for outer, name in line.outputs:
            if name == inner:
                return outer
        outer, v = self._auto(f"{inner}s", bare=True), self._var(inner)
        lines[k] = replace(line, outputs=(*line.outputs, (outer, inner)))
        self._root.vars[outer] = Var(outer, v.kind, v.dim, (line.axis, *v.axes))
        self._root.version += 1
        return outer

    def _outer_name(self, handle: Handle, body: Scope | None) -> str:
        """The name of a handle that must live outside ``body``."""
        self._own(handle)
        if body is not None and handle.made_in is body:
            raise ProgramError(
                "a sum made inside the scan is not known outside: make it before the with block"
            )
        name = handle.name
        if body is not None and name in body.vars:
            raise ProgramError(f"{name!r} is made inside the scan: it is not a family over its axis")
        return name
