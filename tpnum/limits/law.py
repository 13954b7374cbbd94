"""`Law`, all that is known of a program at infinite width: what it answers, and on which road."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tpnum.errors import InputError, LimitError
from tpnum.evaluate.data import bind
from tpnum.evaluate.joint import USUAL, Account, Accuracy
from tpnum.gauss.estimate import Estimate
from tpnum.law.independence import independence
from tpnum.law.onsager import HAT, Correction, Free, free, independent
from tpnum.law.price import Purse, TooWide
from tpnum.law.rational import NotPolynomial, Rational
from tpnum.limits.reading import Families, FractionReading, Recursion
from tpnum.limits.report import Choice, IndependenceReport, choices, sampled, told
from tpnum.program.expand import maps_below_functions
from tpnum.program.known import settled
from tpnum.program.lines import Data, Known, Transpose
from tpnum.program.parts import origins, sources
from tpnum.program.refer import refer
from tpnum.program.sample import arrays_of
from tpnum.program.text import place, quoted_places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tpnum.limits.reading import Reading
    from tpnum.program import Program, Scalar, Vector

N = TypeVar("N", Choice, Correction)

SAMPLES = 1 << 17


@dataclass(frozen=True)
class Options:
    """How `limit` works."""

    method: str = "auto"
    independence: str = "check"
    samples: int = SAMPLES
    accuracy: Accuracy = USUAL


class Law:
    """Means, covariances, moments and scalars of a program in the limit, computed when asked for.

    ``method`` says how they are found and ``why``, `choices` line by line; ``independence`` is the report of
    the gradient independence check; ``corrections`` are the products whose transposes matter, with the
    vectors and coefficients of their dots.
    """

    independence: IndependenceReport
    corrections: tuple[Correction, ...]
    method: str
    why: str
    _plain: Program
    _drawn: Families | None
    _reading: Recursion | Families

    def __init__(self, p: Program, options: Options = Options(), data: Mapping[str, Any] | None = None):
        self.program = p.copy()
        self.options = options
        self._data = {name: x[None] for name, x in arrays_of(data, "data").items()}
        split = origins(p)
        lines = [line.name for line in p.lines if isinstance(line, Data | Known)]
        needed = dict.fromkeys(n if n in self._data or n not in split else split[n][0] for n in lines)
        if set(needed) != set(self._data):
            listed = ", ".join(needed) or "none"
            raise InputError(
                f"data: one example for each data line is needed; the program's data lines: {listed}"
            )
        self._fit_data(split)
        self._prepare()

    def _fit_data(self, split: Mapping[str, Any]) -> None:
        """Arrays of the axes of their lines, and equally many channels where lines share them."""
        channels: dict[str, int] = {}
        for line in self.program.lines:
            if not isinstance(line, Data | Known):
                continue
            name, axes = (split[line.name][:2]) if line.name not in self._data else (line.name, line.axes)
            given, sizes = self._data[name].shape[1:], tuple(size for _, size in axes)
            if isinstance(line, Known):
                if given != sizes:
                    raise InputError(
                        f"data[{name!r}] has shape {given}; the scalars of one example are {sizes}"
                    )
                continue
            if given[:-1] != sizes or len(given) != len(sizes) + 1 or not given[-1]:
                expected = ", ".join([*map(str, sizes), "channels"])
                raise InputError(f"data[{name!r}] has shape {given}; one example is ({expected})")
            if channels.setdefault(line.channels, given[-1]) != given[-1]:
                raise InputError(
                    f"data[{name!r}] has {given[-1]} channels, other data {channels[line.channels]}"
                )

    def _prepare(self) -> None:
        """All that follows from the program, the options and the data."""
        plain = self.program.unrolled()
        self._plain = settled(plain, {name: x[0] for name, x in bind(plain, self._data).items()})
        self.independence = IndependenceReport(
            independence(self._plain, self.program),
            partial(_assuming, self.program, self.options, self._examples()),
        )
        self.corrections = ()
        self.method, self.why = "", ""
        self._drawn = None
        with self._quoting():
            self._reading = self._read()

    def _examples(self) -> dict[str, np.ndarray]:
        return {name: x[0] for name, x in self._data.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.program, self.options, self._data)

    def __getattr__(self, name: str) -> Any:
        """Of a law that comes from a pickle: it is read when it is first asked for anything."""
        if not name.startswith("__") and "_plain" not in self.__dict__ and "_data" in self.__dict__:
            self._prepare()
            return getattr(self, name)
        raise AttributeError(f"a Law has no {name!r}; it has mean, moment, cov, expect, scalar and choices")

    def __repr__(self) -> str:
        return f"<Law of a program of {len(self.program.lines)} lines: {self.method}, {self.why}>"

    # --- which road

    def _read(self) -> Recursion | Families:
        transposes = any(isinstance(line, Transpose) for line in self._plain.lines)
        treated, proven = self.options.independence, self.independence.holds
        self._corrects = transposes and (treated == "exact" or (treated == "check" and not proven))
        if self.options.method == "ensemble":
            return self._ensemble("asked for")
        how = "assumed" if treated == "assume" else "proven to be"
        why = f"transposes are {how} independent" if transposes else "there are no transposes"
        try:
            if not self._corrects:
                self.method, self.why = "recursion", why
                return self._recursion(independent(self._plain) if transposes else self._plain.copy())
            expanded = self._plain.expand()
            return self._fractions(expanded) or self._freed(expanded)
        except TooWide as wide:
            return self._ensemble(str(wide))

    def _recursion(self, plain: Program) -> Recursion | Families:
        """Families as such; line by line where a scan split an axis, or a function reads a mapped H-var."""
        split = bool(plain.parts) or maps_below_functions(plain)
        lines = plain.expand() if split else plain
        reading = Recursion(lines, self._data, self._account(), self._written(lines))
        reading.site.purse = self._purse()
        if reading.site.purse:
            reading.plan()
        return Families(lines, reading, self.program) if split else reading

    def _account(self) -> Account:
        return Account(self.options.accuracy.rtol, self.options.accuracy.budget)

    def _purse(self) -> Purse | None:
        """What "auto" may spend on the expectations of a program, or on those of a question."""
        return Purse(len(self._plain.lines)) if self.options.method == "auto" else None

    def _fractions(self, expanded: Program) -> Families | None:
        """Exact arithmetic, where every line is a polynomial."""
        try:
            rational = Rational(expanded, data=self._arrays(expanded), written=self._written(expanded))
        except NotPolynomial:
            return None
        self.method, self.why = "fractions", "every function is a polynomial: exact arithmetic"
        exact = FractionReading(rational, lambda: self._corrected(expanded, self._purse())[1])
        return Families(expanded, exact, self.program)

    def _arrays(self, expanded: Program) -> dict[str, np.ndarray]:
        """One array of channels per data line of the expanded program."""
        return {name: x[0] for name, x in bind(expanded, self._data).items()}

    def _freed(self, expanded: Program) -> Families:
        """Corrections by quadrature."""
        made, reading = self._corrected(expanded, self._purse())
        self.method = reading.method
        auto = self.options.method == "auto"
        self.why = "its expectations have few dimensions" if auto else "asked for"
        self.corrections = self._numbered(made.program, made.corrections)
        return Families(expanded, reading, self.program)

    def _corrected(self, expanded: Program, purse: Purse | None) -> tuple[Free, Recursion]:
        """The program with corrections for lines, and its recursion."""
        written = self._written(expanded)

        def numbers(p: Program) -> Recursion:
            made = Recursion(p, self._data, self._account(), written, "corrected recursion")
            made.site.purse = purse
            return made

        return free(expanded, numbers, written)

    def _written(self, derived: Program) -> Callable[[str], str | None]:
        """Where the user's program makes a variable of a program derived from it, as errors say it."""
        found = sources(derived, self.program)

        def where(name: str) -> str | None:
            own = name.removesuffix(HAT)
            return place(found[own][0], own, self.program) if own in found else None

        return where

    def _numbered(self, derived: Program, notes: tuple[N, ...]) -> tuple[N, ...]:
        """Notes on the lines of a derived program, numbered as the user's program is."""
        found = sources(derived, self.program)
        own = ((note, note.name.removesuffix(HAT)) for note in notes)
        return tuple(replace(note, name=name, line=found[name][0]) for note, name in own if name in found)

    def _ensemble(self, why: str) -> Families:
        self.method, self.why = "ensemble", why
        self._drawn = self._sampled()
        return self._drawn

    def _sampled(self) -> Families:
        expanded = self._plain.expand()
        asked = self.options.accuracy
        from tpnum.law.ensemble import Ensemble

        drawn = Ensemble(
            expanded,
            samples=self.options.samples,
            seed=asked.seed,
            corrections=self._corrects,
            data=self._arrays(expanded),
            rtol=asked.rtol,
            most=asked.budget,
            written=self._written(expanded),
        )
        return Families(expanded, drawn, self.program)

    def _ask(self, question: Callable[[Recursion | Families], Estimate]) -> Estimate:
        """The answer of the reading, or of an ensemble where it would cost too much."""
        with self._quoting():
            if isinstance(self._under, Recursion):
                self._under.site.purse = self._purse()
            try:
                return question(self._reading)
            except TooWide:
                self._drawn = self._drawn or self._sampled()
                return question(self._drawn)

    @property
    def _under(self) -> Reading:
        """What answers for the lines one by one."""
        return self._reading.reading if isinstance(self._reading, Families) else self._reading

    @property
    def choices(self) -> tuple[Choice, ...]:
        """How the expectation of each product and Moment is found; none for fractions."""
        from tpnum.law.ensemble import Ensemble

        reading = self._under
        if isinstance(reading, Recursion):
            return self._numbered(reading.program, choices(reading))
        if isinstance(reading, Ensemble):
            return self._numbered(reading.program, sampled(reading.program, reading.how()))
        return ()

    def __str__(self) -> str:
        return "\n".join([f"{self.method}: {self.why}", *told(self.choices)])

    # --- answers

    def mean(self, v: Vector | str) -> Estimate:
        """E Z^v, per index of the family."""
        name = self._name(v)
        return self._ask(lambda reading: reading.mean(name))

    def moment(self, a: Vector | str, b: Vector | str) -> Estimate:
        """E Z^a Z^b, shape (*axes of a, *axes of b)."""
        first, second = self._name(a), self._name(b)
        return self._ask(lambda reading: reading.moment(first, second))

    def cov(self, a: Vector | str, b: Vector | str) -> Estimate:
        """Cov(Z^a, Z^b), shape (*axes of a, *axes of b)."""
        from tpnum.law.ensemble import Ensemble

        names = self._name(a), self._name(b)
        if isinstance(self._reading, Families) and isinstance(self._under, Ensemble):
            with self._quoting():
                return self._reading.pairs(*names, self._under.cov)
        second = self.moment(a, b)
        first, last = self.mean(a), self.mean(b)
        value = np.asarray(second.value) - np.multiply.outer(first.value, last.value)
        error = np.asarray(second.error) + np.multiply.outer(first.error, np.abs(last.value))
        error = error + np.multiply.outer(np.abs(first.value), last.error)
        exact = None
        if second.exact is not None:
            exact = second.exact - np.multiply.outer(first.exact, last.exact)
        return Estimate(value[()], error[()], second.method, second.cost, exact)

    def expect(
        self, f: Callable[..., Any], *vectors: Vector | str, kinks: tuple[float, ...] = ()
    ) -> Estimate:
        """E f(Z^1, .., Z^k); f takes one array per vector, ``kinks`` are its break points where k = 1."""
        if not vectors:
            raise InputError("expect: a function and at least one vector are needed")
        names = [self._name(v, "GHS") for v in vectors]
        return self._ask(lambda reading: reading.expect(f, *names, kinks=kinks))

    def scalar(self, s: Scalar | str) -> Estimate:
        """The limit of a scalar, per index of its family."""
        name = self._name(s, "S")
        return self._ask(lambda reading: reading.scalar(name))

    # --- inside

    @contextmanager
    def _quoting(self) -> Iterator[None]:
        """Errors quote the line that they name."""
        try:
            yield
        except LimitError as error:
            raise type(error)(quoted_places(str(error), self.program)) from None

    def _name(self, v: Vector | Scalar | str, kinds: str = "GHD") -> str:
        known = {**self._plain.vars, **self._plain.parts}
        return refer(self._known(v), v, kinds=kinds, known=known, again="tp.limit(p)")

    def _known(self, v: Any) -> Program:
        """The program whose records say what a name is: those of families that scans split are the user's."""
        return self.program if not isinstance(v, str) or v in self.program.vars else self._plain


def _assuming(p: Program, options: Options, data: Mapping[str, Any], how: str) -> Law:
    """The law under another treatment of independence."""
    return Law(p, replace(options, independence=how), data)


def _restored(p: Program, options: Options, data: dict[str, np.ndarray]) -> Law:
    law = object.__new__(Law)
    law.program, law.options, law._data = p, options, data
    return law
