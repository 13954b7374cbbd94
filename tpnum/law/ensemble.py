"""The general limit by sampling (SL Thm 6.3): every limit variable held as an ensemble of samples."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tpnum.arguments import choice, whole
from tpnum.errors import AccuracyWarning, InputError, LimitError, memory, outside, require_memory
from tpnum.gauss.estimate import Estimate, half_width
from tpnum.law.draws import Draws, Random, Sobol
from tpnum.law.price import held
from tpnum.law.replicate import Replicate
from tpnum.law.schedule import schedule
from tpnum.law.steps import Average, Multiply, Products, Recall
from tpnum.law.threads import Stop, together
from tpnum.law.unseen import SURELY, of_function, of_product
from tpnum.program.lines import Data, Map, Scan

if TYPE_CHECKING:
    from tpnum.law.steps import Schedule
    from tpnum.program import Program

POINTS = ("sobol", "random")
ROOM = 1 << 28
"""Bytes of samples that are kept for questions about vectors."""

ARENA, SMALLEST = 1 << 28, 1 << 10
"""Bytes of a replicate's samples; beyond, replicates get smaller (down to so many samples) and more."""

GROWTH, MOST = 4, 64
"""With ``rtol`` samples become so many times more, by default up to so many times those at first."""

PIECE = 1 << 14
"""Samples that a user's function is called with at a time."""

TINY = 1e-300

REPLICATES = 16
"""Parts of the samples, half as many where these would be smaller than `LEAST` samples."""

LEAST = 32
"""Samples of a replicate."""

PART = 4
"""The bias is seen on this part of the first replicate, run whole and in two halves."""


class Ensemble:
    """The law of an expanded program (no scans, no axes), transposes anywhere, by sampling.

    For W in R^{n x m} with entries N(0, s^2/m), Z^{W x} = hat + dot: the hat is drawn from the Gaussian with
    Cov(hat, hat') = s^2 E[Z^x Z^x'] given the earlier hats, the dot is s^2 sum over earlier W^T y of
    Z^y E[d Z^x / d hat^{W^T y}], by Stein's lemma (SL Thm 6.3; `tpnum.law.hats`).  All expectations are
    means over the samples.  Vectors of different common dimension classes have independent samples.

    Every replicate is an ensemble of its own, of ``samples / replicates`` samples, with its own moments and
    scalars.  An answer is the mean over replicates; its error is the half-width of Student's 95 % interval,
    together with the bias of order 1 / samples, as a part of a replicate shows it that is run whole and in
    halves, and with what all samples may have missed (`tpnum.law.unseen`): 3 / samples of the largest value
    where points are stratified, or where all of them agree.

    Parameters
    ----------
    program
        The expanded program.
    samples, replicates
        All samples together, and the number of parts (16 by default); with Sobol points each has 2^k
        samples, and there are as many more or fewer of them as that takes.
    seed
        Fixes the result, whatever the number of threads.
    rtol, most
        Samples are multiplied until the error of what is asked for is below this part of E|f|, of a scalar's
        value, up to ``most`` samples (64 times those at first by default); then an `AccuracyWarning` says
        what was reached, and how many would do.
    corrections
        False: no dots, as if transposes were independent matrices.
    points
        "random", or "sobol": scrambled, for the first 16 Gaussians of a sample space; the others are random.
    n_jobs
        Threads over replicates; None: one per processor.
    data
        An array of channels for each data line.
    written
        How errors name the line that makes a variable, None for "line 6 (g2)" of this program.

    Raises
    ------
    InputError
        An argument that does not fit, a question about a name that the program lacks.
    LimitError
        A moment that is not finite; the message quotes the line.
    """

    def __init__(
        self,
        program: Program,
        *,
        samples: int = 1 << 17,
        replicates: int | None = None,
        seed: int = 0,
        corrections: bool = True,
        points: str = "sobol",
        rtol: float | None = None,
        most: int | None = None,
        n_jobs: int | None = None,
        data: Mapping[str, Any] | None = None,
        written: Callable[[str], str | None] | None = None,
    ) -> None:
        if any(isinstance(line, Map | Scan) for line in program.lines) or any(
            v.axes for v in program.vars.values()
        ):
            raise InputError("program: an ensemble holds scalar lines; call its expand() first")
        samples = whole(samples, "samples")
        if replicates is None:
            replicates = max(REPLICATES // 2, min(REPLICATES, samples // LEAST))
        replicates = whole(replicates, "replicates", 2)  # the error comes from them
        if samples < LEAST * replicates:
            raise InputError(
                f"samples must be at least {LEAST} per replicate, {LEAST * replicates}, not {samples}"
            )
        require_memory(held(samples), f"samples = {samples}")
        choice(points, "points", POINTS)
        self.program, self.vars = program, program.vars
        self.seed, self.replicates, self.n_jobs = seed, replicates, n_jobs
        self._corrections, self._written = corrections, written
        self._data = _arrays(program, data or {})
        self._widths = {self.vars[name].dim: x.size for name, x in self._data.items()}
        self._vectors = [name for name, v in self.vars.items() if v.kind in "GH"]
        self.points, self.rtol = points, rtol
        self.most = MOST * samples if most is None else most
        self._least = replicates
        self._resize(samples)
        self._asked: dict[str, None] = {}
        self._runs: list[Replicate] = []
        self._warned = 0.0

    def _resize(self, samples: int) -> None:
        each = samples / self._least
        if self.points == "sobol":
            self.size = 1 << round(math.log2(each))
            self.replicates = math.ceil(samples / self.size)
        else:
            self.size, self.replicates = 2 * math.ceil(each / 2), self._least
        self.samples = self.size * self.replicates

    # --- answers

    def mean(self, name: str) -> Estimate:
        """E Z."""
        return self._expect(lambda x: x, (name,), lambda x: x)

    def moment(self, a: str, b: str) -> Estimate:
        """E Z^a Z^b, of data the numbers themselves."""
        if a in self._data or b in self._data:
            x, y = self._data.get(a), self._data.get(b)
            value = 0.0 if x is None or y is None else float(x @ y) / x.size
            return Estimate(value, 0.0, "data", 0)
        return self._expect(lambda x, y: x * y, (a, b), of_product)

    def cov(self, a: str, b: str) -> Estimate:
        """Cov(Z^a, Z^b)."""

        def value(run: Replicate) -> Averages:
            x, y = run.kept[a], run.kept[b]
            made = _averages(lambda u, v: u * v, [x, y])
            missed = run.unseen.mean(of_product(run.sizes[a], run.sizes[b]), made.largest)
            return made._replace(value=made.value - x.mean() * y.mean(), missed=missed)

        self._need(a, b)
        return self._estimate(value, a, b)

    def expect(self, f: Callable[..., Any], *names: str, kinks: tuple[float, ...] = ()) -> Estimate:
        """E f(Z^1, .., Z^k), one value per component of f; where its ``kinks`` are does not matter."""
        return self._expect(f, names, lambda *sizes: of_function(np.stack(sizes, axis=1)))

    def _expect(
        self, f: Callable[..., Any], names: tuple[str, ...], unseen: Callable[..., np.ndarray]
    ) -> Estimate:
        """E f; ``unseen`` says what f makes of the sizes of its arguments."""
        self._need(*names)

        def value(run: Replicate) -> Averages:
            made = _averages(f, [run.kept[name] for name in names])
            known = unseen(*(run.sizes[name] for name in names))
            return made._replace(missed=run.unseen.mean(known, made.largest))

        return self._estimate(value, *names)

    def scalar(self, name: str) -> Estimate:
        """The limit of a scalar."""
        if name not in self.vars or self.vars[name].kind != "S":
            raise InputError(f"{name!r} is not a scalar of the program")

        def value(run: Replicate) -> Averages:
            place = run.plan.scalars[name]
            size = abs(run.values[place])
            return Averages(run.values[place], size, size, run.missed[place])

        return self._estimate(value, name)

    def how(self) -> dict[str, str]:
        """How each product and each Moment is found."""
        made: dict[str, str] = {}
        for step in self._plan([]).steps:
            match step:
                case Multiply():
                    for k, name in enumerate(step.names, step.begin):
                        upto = int(step.upto[k - step.begin])
                        dot = f", its dot on {upto} of the transpose" if upto else ""
                        made[name] = f"samples: its hat given {k} earlier{dot}"
                case Recall():
                    made |= dict.fromkeys(step.names, "samples: a second moment that a product needed")
                case Products() | Average():
                    made |= dict.fromkeys(step.names, "samples: their mean")
        return made

    # --- runs

    def _plan(self, keep: list[str]) -> Schedule:
        return schedule(self.program, self._corrections, keep, self._widths, self._written)

    def _where(self, names: tuple[str, ...]) -> str:
        """How errors name variables."""
        return ", ".join(map(self._runs[0].plan.where, dict.fromkeys(names)))

    def _need(self, *names: str) -> None:
        """Note that the samples of these vectors are asked for."""
        for name in names:
            if name not in self.vars or self.vars[name].kind not in "GH":
                raise InputError(f"{name!r} is not a vector of the program")
        dims = {self.vars[name].dim for name in names}
        if len(dims) > 1:
            raise InputError(
                f"one expectation needs vectors of one common dimension class, not {sorted(dims)}"
            )
        for name in names:
            self._asked.pop(name, None)
            self._asked[name] = None

    def _run(self, least: int) -> None:
        """Run all replicates; keep the ``least`` vectors asked for last, others as far as there is room."""
        recent = list(self._asked)[::-1]
        first = self._vectors.index(recent[0]) if recent else 0
        others = [*self._vectors[first:], *self._vectors[:first]] if recent else []
        most = max(ROOM // (8 * self.samples), least)
        plan = self._plan(list(dict.fromkeys([*recent, *others]))[:most])

        from joblib import cpu_count, effective_n_jobs

        jobs = cpu_count() if self.n_jobs is None else effective_n_jobs(self.n_jobs)
        while self.size > SMALLEST and 8 * self.size * sum(plan.heights.values()) > ARENA:
            self.size, self.replicates = self.size // 2, 2 * self.replicates
        jobs = min(jobs, self.replicates + 3)
        require_memory(
            8.0 * self.size * sum(plan.heights.values()) * jobs, "samples: the vectors of an ensemble"
        )
        self.samples = self.size * self.replicates
        part = self.size // (4 * PART) * 4
        pieces = [(r, 0, self.size) for r in range(self.replicates)]
        pieces += [(0, 0, part), (0, 0, part // 2), (0, part // 2, part // 2)]

        stop = Stop()
        arenas: deque[dict[str, np.ndarray]] = deque()

        def one(replicate: int, first: int, size: int) -> Replicate:
            draws = self._draws(plan, replicate)
            own = _taken(arenas) if size == self.size else None
            own = own or plan.arenas(size, draws.room)
            made = Replicate(plan, own, size, first, draws, self._data, SURELY / self.samples, stop).run()
            if size == self.size:
                arenas.append(own)
            return made

        self._runs = together(lambda piece: one(*piece), pieces, jobs, stop)

    def _draws(self, plan: Schedule, replicate: int) -> Draws:
        if self.points == "random":
            return Random(self.seed, replicate)
        return Sobol(self.seed, replicate, self.size, plan.gaussians)

    def _estimate(self, of: Callable[[Replicate], Averages], *names: str) -> Estimate:
        """The mean of what ``of`` gives over replicates, and its error, of whose size ``rtol`` is a part."""
        while True:
            if not self._runs or any(self.vars[n].kind != "S" and n not in self._runs[0].kept for n in names):
                self._run(len(names))
            made, size = self._now(of, names)
            if self.rtol is None:
                return made
            unseen = bool(np.any((size == 0.0) & (made.error > 0.0)))
            reached = math.inf if unseen else float(np.max(made.error / np.maximum(size, TINY)))
            if reached <= self.rtol:
                return made
            if GROWTH * self.samples > self.most or held(GROWTH * self.samples) > memory():
                break
            self._runs = []
            self._resize(GROWTH * self.samples)
        if reached > self._warned:
            self._warned = reached
            warnings.warn(self._short(names, reached), AccuracyWarning, stacklevel=outside())
        return made

    def _short(self, names: tuple[str, ...], reached: float) -> str:
        """What a warning says about accuracy that was not reached."""
        if math.isinf(reached):
            return (
                f"the expectation of {self._where(names)} is of what is 0 in all of {self.samples} samples; "
                "give more samples or a larger budget if it is not 0 everywhere"
            )
        return (
            f"the expectation of {self._where(names)} is known to {reached:.1e} of its size only with "
            f"{self.samples} samples, not to {self.rtol:g}; give more samples or a larger budget: about "
            f"{self.samples * (reached / (self.rtol or reached)) ** 2:.0e} would do"
        )

    def _now(self, of: Callable[[Replicate], Averages], names: tuple[str, ...]) -> tuple[Estimate, Any]:
        """`_estimate` from the samples that there are, and the size of what is averaged."""
        with np.errstate(all="ignore"):
            made = [of(run) for run in self._runs]
        each, sizes, _, missed = (np.array(a, dtype=np.float64) for a in zip(*made, strict=True))
        if not np.isfinite(each).all():
            raise LimitError(
                f"the expectation of {self._where(names)} is not finite in an ensemble of {self.size} "
                "samples: it does not exist or overflows; use a function that grows more slowly, or smaller "
                "variances"
            )
        count = self.replicates
        whole, (part, first, second) = each[:count], each[count:]
        error = half_width(whole, axis=0)
        error = np.hypot(error, (0.5 * (first + second) - part) / PART)
        missed = missed.max(axis=0)
        error = np.where((self.points == "sobol") | (error == 0.0), np.hypot(error, missed), error)
        method = f"ensemble, S = {self.samples}, R = {count}, {self.points}"
        value = whole.mean(axis=0)
        return Estimate(value[()], error[()], method, self.samples), sizes[:count].mean(axis=0)


class Averages(NamedTuple):
    """E f, E|f|, the largest |f| of some samples, and what all samples may miss of E f."""

    value: Any
    size: Any
    largest: Any
    missed: Any = 0.0


def _averages(f: Callable[..., Any], rows: list[np.ndarray]) -> Averages:
    """Of f(*rows), a piece of the samples at a time; of k components, k of them."""
    count = rows[0].size
    value: Any = 0.0
    size: Any = 0.0
    largest: Any = 0.0
    for begin in range(0, count, PIECE):
        pieces = [row[begin : begin + PIECE] for row in rows]
        made = np.asarray(f(*pieces), dtype=np.float64)
        if not made.ndim or made.shape[-1] != pieces[0].size:
            made = np.repeat(made[..., None], pieces[0].size, axis=-1)
        value = value + made.sum(axis=-1)
        size = size + np.abs(made).sum(axis=-1)
        largest = np.maximum(largest, np.abs(made).max(axis=-1))
    return Averages(value / count, size / count, largest)


def _arrays(program: Program, data: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """One array of channels per data line."""
    needed = [line for line in program.lines if isinstance(line, Data)]
    if {line.name for line in needed} != set(data):
        listed = ", ".join(line.name for line in needed) or "none"
        raise InputError(f"data: one array of channels for each data line is needed: {listed}")
    made = {line.name: np.asarray(data[line.name], dtype=np.float64) for line in needed}
    sizes: dict[str, int] = {}
    for line in needed:
        x = made[line.name]
        if x.ndim != 1 or not x.size or not np.isfinite(x).all():
            raise InputError(f"data: {line.name!r} must be a 1-d array of finite numbers, one per channel")
        if sizes.setdefault(line.channels, x.size) != x.size:
            raise InputError(f"data: {line.name!r} has {x.size} channels, other data {sizes[line.channels]}")
    return made


def _taken(waiting: deque[dict[str, np.ndarray]]) -> dict[str, np.ndarray] | None:
    """One of the arenas that are free, if any."""
    try:
        return waiting.pop()
    except IndexError:
        return None
