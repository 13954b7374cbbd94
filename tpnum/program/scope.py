"""The names that a line can see."""

from __future__ import annotations

from collections.abc import Iterable

from tpnum.program.lines import Data, Line, Var
from tpnum.program.text import made_by


class Fault(Exception):
    """One sentence about a line; `infer` adds the line itself."""


class Scope:
    """The names visible to a line, and the lines so far; the body of a scan is a scope inside another."""

    def __init__(self, parent: Scope | None = None, axis: str = "") -> None:
        self.parent, self.axis = parent, axis
        self.lines: list[Line] = []
        self.vars: dict[str, Var] = {}
        self.hidden: dict[str, Var] = {}  # names inside the scans that are closed
        self.channels: set[str] = set()
        self.version = 0  # counts the changes

    @property
    def root(self) -> Scope:
        return self if self.parent is None else self.parent.root

    def label(self) -> str:
        """The number of the next line."""
        own = str(len(self.lines) + 1)
        return own if self.parent is None else f"{self.parent.label()}.{own}"

    def find(self, name: str) -> Var | None:
        """The visible variable of that name."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.vars:
                return scope.vars[name]
            scope = scope.parent
        return None

    def taken(self, name: str) -> bool:
        """Whether a name is in use anywhere in the program."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.vars or name in scope.hidden:
                return True
            scope = scope.parent
        return False

    def get(self, name: str) -> Var:
        var = self.find(name)
        if var is None:
            if self.root.hidden.get(name) or self.hidden.get(name):
                raise Fault(f"{name!r} lives inside a scan: pass it on with loop.stack or loop.last")
            raise Fault(f"{name!r} is used before any line makes it")
        return var

    def add(self, line: Line, made: Iterable[Var]) -> None:
        """Record a checked line."""
        visible = set(made_by(line))
        for var in made:
            (self.vars if var.name in visible else self.hidden)[var.name] = var
        if isinstance(line, Data):
            self.root.channels.add(line.channels)
        self.lines.append(line)
        self.version += 1
