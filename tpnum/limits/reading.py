"""Readings of a program's law: who answers for means, moments and scalars, and how.

`Recursion` evaluates the rules of `tpnum.law.site` line by line (programs without transposes, families
included); `Families` asks any reading of the scalar lines of an expanded program and assembles families.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tpnum.errors import InputError, LimitError
from tpnum.evaluate import labels
from tpnum.evaluate.blocks import dims, shape
from tpnum.evaluate.data import bind
from tpnum.evaluate.joint import Account
from tpnum.evaluate.profile import ProfileValues
from tpnum.evaluate.tile import TileValues
from tpnum.functions import get
from tpnum.gauss.estimate import Estimate
from tpnum.law.lines import Lines
from tpnum.law.pairs import Pairs
from tpnum.law.price import TooWide
from tpnum.law.rational import NotPolynomial, Rational
from tpnum.law.site import Site
from tpnum.program.lines import MatMul, Moment
from tpnum.program.parts import members

if TYPE_CHECKING:
    from tpnum.law import graph
    from tpnum.program import Program
    from tpnum.program.lines import Axes


class Reading(Protocol):
    """What the law of a program is asked for, by the names of its variables."""

    def mean(self, name: str) -> Estimate:
        """E Z."""

    def moment(self, a: str, b: str) -> Estimate:
        """E Z^a Z^b."""

    def scalar(self, name: str) -> Estimate:
        """The limit of a scalar."""

    def expect(self, f: Callable[..., Any], *names: str, kinks: tuple[float, ...] = ()) -> Estimate:
        """E f(Z^1, .., Z^k)."""


class Recursion:
    """The law of a program without transposes and scans (SL Thm 4.3), whose lines may still grow.

    ``data`` holds (1, *axes, channels) arrays by data line; ``written`` see `Lines`.
    """

    def __init__(
        self,
        program: Program,
        data: dict[str, np.ndarray],
        account: Account,
        written: Callable[[str], str | None],
        method: str = "recursion",
    ) -> None:
        self.program, self.account, self.method = program, account, method
        self._data = data
        self._lines = Lines(program, written)
        self._pairs = Pairs(self._lines)
        self._profiles = ProfileValues(self._pairs, 0, bind(program, data), account)

    @property
    def site(self) -> Site:
        """The rules at the program's one input."""
        return self._pairs.sites[0]

    def axes(self, name: str) -> Axes:
        """The index axes of a variable."""
        return self._lines.axes(name)

    def plan(self) -> None:
        """Write down what every product and Moment needs, for the purse to be asked before it is computed.

        In the order of the lines, each of which stands on those before it.
        """
        for line in self.program.lines:
            try:
                if isinstance(line, MatMul):
                    self.site.second(line.vector, line.vector)
                elif isinstance(line, Moment):
                    self.site.scalar(line.name)
            except TooWide:
                raise
            except (LimitError, RecursionError):  # said when it is asked for
                continue

    # --- estimates

    def mean(self, name: str) -> Estimate:
        """E Z^v, per index of the family."""
        return self._estimate(self.site.mean, name)

    def scalar(self, name: str) -> Estimate:
        """The limit of a scalar, per index of its family."""
        return self._estimate(self.site.scalar, name)

    def moment(self, a: str, b: str) -> Estimate:
        """E Z^a Z^b, shape (*axes of a, *axes of b)."""
        self._refresh()
        sizes = tuple(size for name in (a, b) for _, size in self.axes(name))
        if not sizes:
            return self._known(lambda: self._both(self.site.second(a, b), ()), ())

        def work() -> tuple[np.ndarray, np.ndarray] | None:
            node = self._pairs.second(a, b)
            if node is None:
                return None
            size = np.multiply.outer(self._root(a), self._root(b))
            return self._pair(node), self.account.inexact * size

        return self._known(work, sizes)

    def expect(self, f: Callable[..., Any], *names: str, kinks: tuple[float, ...] = ()) -> Estimate:
        """E f(Z^1, .., Z^k): a Moment is appended to the program, and read."""
        program = self.program
        return self.scalar(program.moment(f, *(program[n] for n in names), kinks=kinks).name)

    # --- numbers, for those who write the program while it is read; nobody is warned yet

    def scalar_value(self, name: str) -> float:
        """`scalar` as a number."""
        return self._number(lambda: self.site.scalar(name))

    def mean_value(self, name: str) -> float:
        """`mean` as a number."""
        return self._number(lambda: self.site.mean(name))

    def moment_value(self, a: str, b: str) -> float:
        """`moment` as a number."""
        return self._number(lambda: self.site.second(a, b))

    def accuracy(self) -> float:
        """The largest relative error of the joint expectations so far."""
        return self.account.error

    def amplified(self, factor: float, what: str) -> None:
        """A correction is so many times as inexact as the numbers that it was solved from."""
        self.account.amplified(factor, what)

    # --- inside

    def _number(self, rule: Callable[[], graph.Profile | None]) -> float:
        self._refresh()
        found = self._single(rule(), ())
        return 0.0 if found is None else float(found)

    def _refresh(self) -> None:
        if self._lines.refresh():
            self._profiles.data.update(bind(self.program, self._data))

    def _estimate(self, rule: Callable[[str], graph.Profile | None], name: str) -> Estimate:
        self._refresh()
        axes = self.axes(name)
        return self._known(lambda: self._both(rule(name), axes), tuple(size for _, size in axes))

    def _single(self, node: graph.Profile | None, axes: Axes) -> np.ndarray | None:
        return None if node is None else self._profiles.along(node, axes)[0]

    def _both(self, node: graph.Profile | None, axes: Axes) -> tuple[np.ndarray, np.ndarray] | None:
        """A node's value and the error that its own joint expectations leave in it."""
        if node is None:
            return None
        value = self._profiles.along(node, axes)
        return value[0], labels.lift(self._profiles.error(node), self._profiles.axes(node), axes)[0]

    def _known(
        self, work: Callable[[], tuple[np.ndarray, np.ndarray] | None], sizes: tuple[int, ...]
    ) -> Estimate:
        """What ``work`` finds: up to rounding, or to the errors of joint expectations.

        Those that went into it count by the largest error relative to E|f|, times the sizes of the terms
        that it is made of: where positive and negative ones cancel, these are larger than the value.
        """
        found = work()
        if found is None:
            return Estimate(np.zeros(sizes)[()], 0.0, "structural zero", 0)
        self.account.warn()
        value, own = (np.broadcast_to(x, sizes).copy()[()] for x in found)
        return Estimate(value, np.maximum(self.account.inexact * np.abs(value), own), self.method, 1)

    def _root(self, name: str) -> np.ndarray:
        """(E Z^2)^(1/2) per index of the family."""
        axes = self.axes(name)
        found = self._single(self.site.second(name, name), axes)
        value = np.zeros(()) if found is None else np.maximum(found, 0.0)
        return np.sqrt(np.broadcast_to(value, tuple(size for _, size in axes)))

    def _pair(self, node: graph.Pair) -> np.ndarray:
        one = slice(0, 1)
        values = TileValues(self._profiles, self._profiles, one, one, same=True)
        values.run([node])
        block = np.broadcast_to(values(node).k, shape(node, 1, 1))
        names = dims(node)
        return np.squeeze(block, axis=(names.index(("", 0)), names.index(("", 1))))


class FractionReading:
    """The exact law of a polynomial program, as estimates without error.

    ``other`` makes the reading that is asked for expectations of functions that are no polynomials.
    """

    def __init__(self, rational: Rational, other: Callable[[], Reading]) -> None:
        self._rational = rational
        self._other = other

    def mean(self, name: str) -> Estimate:
        """E Z."""
        return _fraction(self._rational.mean(name))

    def moment(self, a: str, b: str) -> Estimate:
        """E Z^a Z^b."""
        return _fraction(self._rational.moment(a, b))

    def scalar(self, name: str) -> Estimate:
        """The limit of a scalar."""
        return _fraction(self._rational.scalar(name))

    def expect(self, f: Callable[..., Any], *names: str, kinks: tuple[float, ...] = ()) -> Estimate:
        """E f(Z^1, .., Z^k)."""
        try:
            return _fraction(self._rational.expect(get(f), *names))
        except NotPolynomial:
            return self._other().expect(f, *names, kinks=kinks)


def _fraction(value: Fraction) -> Estimate:
    try:
        return Estimate(float(value), 0.0, "fractions", 1, value)
    except OverflowError:
        raise LimitError("the exact value is too large for a float: scale the variances down") from None


class Families:
    """A reading of the scalar lines of an expanded program, by the names of the families of ``original``.

    A shared input has one scalar line, of the family's own name; it is a family if it was one.
    """

    def __init__(self, expanded: Program, reading: Reading, original: Program) -> None:
        self.reading = reading
        self._expanded = expanded
        self._single = {n for n, v in original.vars.items() if not v.axes and n in expanded.vars}

    def axes(self, name: str) -> Axes:
        """The index axes of a family."""
        split = name in self._expanded.parts and name not in self._single
        return self._expanded.parts[name].axes if split else ()

    def _names(self, name: str) -> np.ndarray:
        return np.array(name, dtype=object) if name in self._single else members(self._expanded, name)

    def mean(self, name: str) -> Estimate:
        """E Z^v, per index of the family."""
        return assembled(self._names(name), self.reading.mean)

    def scalar(self, name: str) -> Estimate:
        """The limit of a scalar, per index of its family."""
        return assembled(self._names(name), self.reading.scalar)

    def moment(self, a: str, b: str) -> Estimate:
        """E Z^a Z^b, shape (*axes of a, *axes of b)."""
        return self.pairs(a, b, self.reading.moment)

    def pairs(self, a: str, b: str, ask: Callable[[str, str], Estimate]) -> Estimate:
        """What is asked of every pair of members, shape (*axes of a, *axes of b)."""
        first, second = self._names(a), self._names(b)
        pairs = np.empty((*first.shape, *second.shape), dtype=object)
        for i in np.ndindex(first.shape):
            for j in np.ndindex(second.shape):
                pairs[(*i, *j)] = (first[i], second[j])
        return assembled(pairs, lambda pair: ask(*pair))

    def expect(self, f: Callable[..., Any], *names: str, kinks: tuple[float, ...] = ()) -> Estimate:
        """E f(Z^1, .., Z^k), axes matched by name."""
        merged: dict[str, int] = {}
        for name in names:
            merged.update(dict(self.axes(name)))
        groups = np.empty(tuple(merged.values()), dtype=object)
        for at in np.ndindex(groups.shape):
            place = dict(zip(merged, at, strict=True))
            groups[at] = tuple(self._names(n)[tuple(place[a] for a, _ in self.axes(n))] for n in names)
        return assembled(groups, lambda group: self.reading.expect(f, *group, kinks=kinks))


def assembled(keys: np.ndarray, ask: Callable[[Any], Estimate]) -> Estimate:
    """One estimate per entry of an array, as one."""
    if keys.ndim == 0:
        return ask(keys[()])
    made = [ask(key) for key in keys.ravel()]
    if not made:
        raise InputError("a family without members has no law")
    exact = [e.exact for e in made]
    return Estimate(
        np.array([e.value for e in made], dtype=np.float64).reshape(keys.shape),
        np.array([e.error for e in made], dtype=np.float64).reshape(keys.shape),
        "+".join(dict.fromkeys(e.method for e in made)),
        sum(e.cost for e in made),
        None if any(x is None for x in exact) else _objects(exact, keys.shape),
    )


def _objects(values: list[Fraction | None], sizes: tuple[int, ...]) -> np.ndarray:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made.reshape(sizes)
