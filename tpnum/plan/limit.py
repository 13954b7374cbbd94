"""`tpnum.limit`: the law of any program's vectors and scalars at infinite width (SL Thm 4.3, 5.1, 6.3)."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tpnum.arguments import choice, number, whole
from tpnum.errors import InputError, LimitError
from tpnum.gauss.estimate import Estimate
from tpnum.law.independence import independence
from tpnum.law.onsager import HAT, Correction, Free, free, independent
from tpnum.law.rational import NotPolynomial, Rational
from tpnum.plan.data import bind
from tpnum.plan.joint import RTOL, Account, TooWide
from tpnum.plan.reading import Families, FractionReading, Recursion
from tpnum.plan.report import Choice, IndependenceReport, choices, sampled
from tpnum.program.calls import as_program
from tpnum.program.expand import origins, sources
from tpnum.program.lines import Data, Transpose
from tpnum.program.refer import refer
from tpnum.program.sample import arrays_of
from tpnum.program.text import place, quoted_places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tpnum.law.ensemble import Ensemble
    from tpnum.program import Program, Scalar, Vector

N = TypeVar("N", Choice, Correction)

METHODS = ("auto", "exact", "ensemble")
TREATMENTS = ("check", "assume", "exact")
WIDEST = 3
"""Correlated Gaussians in one expectation up to which "auto" integrates; beyond, it draws an ensemble."""

SAMPLES = 1 << 17
LEAST, MOST = 256, 1 << 30
"""Draws of an ensemble: fewer say nothing, more do not fit into a machine."""


@dataclass(frozen=True)
class Options:
    """How `limit` works."""

    method: str = "auto"
    independence: str = "check"
    samples: int = SAMPLES
    rtol: float | None = None
    seed: int = 0


def limit(
    p: Program,
    *,
    method: str = "auto",
    independence: str = "check",
    samples: int | None = None,
    rtol: float | None = None,
    seed: int = 0,
    data: Mapping[str, Any] | None = None,
    shape: Any = None,
) -> Law:
    """The law of ``p`` as all widths go to infinity together, transposes anywhere.

    (1/n) sum_a psi(x1_a, .., xk_a) -> E psi(Z^1, .., Z^k) almost surely (SL Thm 4.3 without transposes,
    6.3 with; scalars as in TP2).

    Parameters
    ----------
    p
        The program; it may have data lines, whose arrays (*axes, channels) then come in ``data`` by name.
        Or a net of layers, with ``shape``, the (.., channels) of one example, and ``data={"u": x}``.
    method
        "exact": closed forms, quadrature, exact fractions where every function is a polynomial; expectations
        over many correlated Gaussians by randomised quasi-Monte Carlo.  "ensemble": ``samples`` draws of
        every limit variable.  "auto": exact while no expectation has more than 3 correlated Gaussians,
        otherwise the ensemble; `Law.choices` says what was picked and why, line by line.
    independence
        "check": transposes count as independent matrices where that is proven from the program's text
        (SL Thm 5.1), otherwise they are corrected for (SL Thm 6.3).  "assume": independent, proven or not.
        "exact": always corrected.  `Law.independence` is the report.
    samples, seed
        Of the ensemble; the seed fixes the result whatever the number of threads.
    rtol
        Accuracy asked of expectations that are not closed (1e-6 by default); an `AccuracyWarning` where it
        is missed.  An ensemble, to which it applies only if given, takes up to 64 times its ``samples``.

    Raises
    ------
    LimitError
        A line whose moments do not exist; the message quotes it.
    InputError
        An option that does not exist, data that do not fit.
    """
    choice(method, "method", METHODS)
    choice(independence, "independence", TREATMENTS)
    if rtol is not None:
        rtol = number(rtol, "rtol", above=0, below=1)
    count = SAMPLES if samples is None else whole(samples, "samples", LEAST, MOST)
    options = Options(method, independence, count, rtol, whole(seed, "seed", 0))
    return Law(as_program(p, shape), options, data)


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
    _drawn: Ensemble | None
    _reading: Recursion | Families

    def __init__(self, p: Program, options: Options = Options(), data: Mapping[str, Any] | None = None):
        self.program = p.copy()
        self.options = options
        self._data = {name: x[None] for name, x in arrays_of(data, "data").items()}
        split = origins(p)
        lines = [line.name for line in p.lines if isinstance(line, Data)]
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
            if not isinstance(line, Data):
                continue
            name, axes = (split[line.name][:2]) if line.name not in self._data else (line.name, line.axes)
            given, sizes = self._data[name].shape[1:], tuple(size for _, size in axes)
            if given[:-1] != sizes or len(given) != len(sizes) + 1 or not given[-1]:
                expected = ", ".join([*map(str, sizes), "channels"])
                raise InputError(f"data[{name!r}] has shape {given}; one example is ({expected})")
            if channels.setdefault(line.channels, given[-1]) != given[-1]:
                raise InputError(
                    f"data[{name!r}] has {given[-1]} channels, other data {channels[line.channels]}"
                )

    def _prepare(self) -> None:
        """All that follows from the program, the options and the data."""
        self._plain = self.program.unrolled()
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
        corrected = transposes and (treated == "exact" or (treated == "check" and not proven))
        if self.options.method == "ensemble":
            return self._ensemble(corrected, "asked for")
        if not corrected:
            how = "assumed" if treated == "assume" else "proven to be"
            self.method = "recursion"
            self.why = f"transposes are {how} independent" if transposes else "there are no transposes"
            return self._recursion(independent(self._plain) if transposes else self._plain.copy())
        expanded = self._plain.expand()
        return self._fractions(expanded) or self._freed(expanded)

    def _recursion(self, plain: Program) -> Recursion | Families:
        """Families as such; where an axis was split (by a scan) all of them line by line."""
        split = bool(plain.parts)
        lines = plain.expand() if split else plain
        reading = Recursion(lines, self._data, self._account(), self._written(lines))
        return Families(lines, reading, self.program) if split else reading

    def _account(self, most: int | None = None) -> Account:
        return Account(self.options.rtol or RTOL, most)

    def _fractions(self, expanded: Program) -> Families | None:
        """Exact arithmetic, where every line is a polynomial."""
        try:
            rational = Rational(expanded, data=self._arrays(expanded), written=self._written(expanded))
        except NotPolynomial:
            return None
        self.method, self.why = "fractions", "every function is a polynomial: exact arithmetic"
        exact = FractionReading(rational, lambda: self._corrected(expanded, None)[1])
        return Families(expanded, exact, self.program)

    def _arrays(self, expanded: Program) -> dict[str, np.ndarray]:
        """One array of channels per data line of the expanded program."""
        return {name: x[0] for name, x in bind(expanded, self._data).items()}

    def _freed(self, expanded: Program) -> Families:
        """Corrections by quadrature; an ensemble where "auto" finds that they have too many dimensions."""
        auto = self.options.method == "auto"
        try:
            made, reading = self._corrected(expanded, WIDEST if auto else None)
        except TooWide as wide:
            return self._ensemble(True, str(wide))
        self.method = reading.method
        self.why = f"no expectation has more than {WIDEST} dimensions" if auto else "asked for"
        self.corrections = self._numbered(made.program, made.corrections)
        return Families(expanded, reading, self.program)

    def _corrected(self, expanded: Program, most: int | None) -> tuple[Free, Recursion]:
        """The program with corrections for lines, and its recursion."""
        account, written = self._account(most), self._written(expanded)
        made, reading = free(
            expanded, lambda p: Recursion(p, self._data, account, written, "corrected recursion"), written
        )
        account.most = None
        return made, reading

    def _written(self, derived: Program) -> Callable[[str], str | None]:
        """Where the user's program makes a variable of a program derived from it, as errors say it."""
        found = sources(derived, self.program)

        def where(name: str) -> str | None:
            own = name.removesuffix(HAT)
            return place(found[own][0], own) if own in found else None

        return where

    def _numbered(self, derived: Program, notes: tuple[N, ...]) -> tuple[N, ...]:
        """Notes on the lines of a derived program, numbered as the user's program is."""
        found = sources(derived, self.program)
        own = ((note, note.name.removesuffix(HAT)) for note in notes)
        return tuple(replace(note, name=name, line=found[name][0]) for note, name in own if name in found)

    def _ensemble(self, corrected: bool, why: str) -> Families:
        expanded = self._plain.expand()
        self.method, self.why = "ensemble", why
        o, arrays = self.options, self._arrays(expanded)
        from tpnum.law.ensemble import Ensemble

        self._drawn = Ensemble(
            expanded,
            samples=o.samples,
            seed=o.seed,
            corrections=corrected,
            data=arrays,
            rtol=o.rtol,
            written=self._written(expanded),
        )
        return Families(expanded, self._drawn, self.program)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """How the expectation of each product and Moment is found; none for fractions."""
        reading = self._reading.reading if isinstance(self._reading, Families) else self._reading
        if isinstance(reading, Recursion):
            return self._numbered(reading.program, choices(reading))
        if self._drawn is None:
            return ()
        return self._numbered(self._drawn.program, sampled(self._drawn.program, self._drawn.how()))

    def __str__(self) -> str:
        return "\n".join([f"{self.method}: {self.why}", *map(str, self.choices)])

    # --- answers

    def mean(self, v: Vector | str) -> Estimate:
        """E Z^v, per index of the family."""
        name = self._name(v)
        with self._quoting():
            return self._reading.mean(name)

    def moment(self, a: Vector | str, b: Vector | str) -> Estimate:
        """E Z^a Z^b, shape (*axes of a, *axes of b)."""
        first, second = self._name(a), self._name(b)
        with self._quoting():
            return self._reading.moment(first, second)

    def cov(self, a: Vector | str, b: Vector | str) -> Estimate:
        """Cov(Z^a, Z^b), shape (*axes of a, *axes of b)."""
        names = self._name(a), self._name(b)
        if self._drawn is not None and isinstance(self._reading, Families):
            with self._quoting():
                return self._reading.pairs(*names, self._drawn.cov)
        second = self.moment(a, b)
        first, last = self.mean(a), self.mean(b)
        value = np.asarray(second.value) - np.multiply.outer(first.value, last.value)
        exact = None
        if second.exact is not None:
            exact = second.exact - np.multiply.outer(first.exact, last.exact)
        return Estimate(value[()], second.error, second.method, second.cost, exact)

    def expect(
        self, f: Callable[..., Any], *vectors: Vector | str, kinks: tuple[float, ...] = ()
    ) -> Estimate:
        """E f(Z^1, .., Z^k); f takes one array per vector, ``kinks`` are its break points where k = 1."""
        if not vectors:
            raise InputError("expect: a function and at least one vector are needed")
        names = [self._name(v, "GHS") for v in vectors]
        with self._quoting():
            return self._reading.expect(f, *names, kinks=kinks)

    def scalar(self, s: Scalar | str) -> Estimate:
        """The limit of a scalar, per index of its family."""
        with self._quoting():
            return self._reading.scalar(self._name(s, "S"))

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
