"""`tpnum.simulations`: averages over many draws of a program at finite width, with standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import jobs, shown, whole
from tpnum.errors import InputError, memory
from tpnum.gauss.estimate import Estimate
from tpnum.law.threads import Stop, together
from tpnum.program import reads
from tpnum.program.calls import as_program, is_named
from tpnum.program.draw import bytes_of, widths_of
from tpnum.program.handle import Handle
from tpnum.program.lines import Data
from tpnum.program.refer import refer
from tpnum.program.sample import Sample, arrays_of, drawn

if TYPE_CHECKING:
    from tpnum.program import Program, Scalar, Vector

MOST = 1 << 24
"""Draws that anyone could wait for."""
CHUNK = 16
"""Draws whose numbers are held before they join the running averages."""


@dataclass(frozen=True)
class Quantity:
    """What is averaged: a "scalar", a "mean", a "moment" of vectors, or "expect" of a function of them."""

    kind: str
    names: tuple[str, ...]
    f: Any = None

    def of(self, sample: Sample) -> np.ndarray:
        """Its value in one draw."""
        if self.kind == "scalar":
            return np.asarray(sample.scalar(self.names[0]))
        if self.kind == "mean":
            return np.asarray(sample.mean(self.names[0]))
        if self.kind == "expect":
            return np.asarray(sample.expect(self.f, *self.names))
        a, b = (np.asarray(sample.vector(n)) for n in self.names)
        made = np.tensordot(a, b, axes=(-1, -1)) / a.shape[-1]
        return np.asarray(made)

    def law(self, law: Any) -> Estimate:
        """Its limit."""
        if self.kind == "expect":
            return law.expect(self.f, *self.names)
        return getattr(law, self.kind)(*self.names)

    def __str__(self) -> str:
        inside = ", ".join(self.names)
        name = getattr(self.f, "__name__", str(self.f))
        return {"scalar": inside, "mean": f"E {inside}", "moment": f"E {' '.join(self.names)}"}.get(
            self.kind, f"E {name}({inside})"
        )


def quantity(p: Program, asked: Any) -> Quantity:
    """A `Quantity` from a scalar, a vector (its second moment), two vectors, or (f, vector, ..)."""
    if isinstance(asked, Quantity):
        return asked
    parts = asked if isinstance(asked, tuple) else (asked,)
    if not parts:
        raise InputError("quantity () is empty; give a scalar, a vector, two vectors or (f, vector, ..)")
    f, vectors = (parts[0], parts[1:]) if _is_function(parts[0]) else (None, parts)
    try:
        names = tuple(_name(p, v, "GHS") for v in vectors)
    except InputError as problem:
        raise InputError(f"quantity {shown(asked)}: {problem}") from None
    if f is not None:
        if not names:
            raise InputError("quantity: a function needs the vectors that it is of, (f, vector, ..)")
        return Quantity("expect", names, f)
    kinds = [_kind(p, n) for n in names]
    if kinds == ["S"]:
        return Quantity("scalar", names)
    if len(names) > 2 or "S" in kinds:
        raise InputError(
            f"quantity ({', '.join(names)}) is neither a scalar, a vector, two vectors nor (f, vector, ..)"
        )
    return Quantity("moment", names * 2 if len(names) == 1 else names)


def _kind(p: Program, name: str) -> str:
    return p.vars[name if name in p.vars else p.parts[name].names[0]].kind


def _name(p: Program, v: Any, kinds: str) -> str:
    return refer(p, v, kinds=kinds, again="tp.simulations(p, ..)")


def _is_function(x: Any) -> bool:
    return (callable(x) or hasattr(x, "__tpnum_function__")) and not isinstance(x, Handle)


def simulations(
    p: Program,
    width: int | Mapping[str, int] = 1000,
    seeds: int | Sequence[int] = 32,
    *,
    data: Mapping[str, Any] | None = None,
    n_jobs: int | None = None,
    shape: Any = None,
) -> Simulations:
    """Draw ``p`` at finite width many times; averages and standard errors are computed when asked for.

    Parameters
    ----------
    p : a program, or a net of layers with ``shape``, the (.., channels) of one example.
    width : a number (times the ratio of each CDC) or {"n": 1500, "m": 3000}.
    seeds : how many (0, 1, ..), or which.
    data : as in `tpnum.simulate`, one example.
    n_jobs : threads over seeds, all processors by default; the result does not depend on it.
    """
    program = as_program(p, shape)
    widths_of(program.dims, width)
    return Simulations(program.copy(), width, _seeds(seeds), arrays_of(data, "data"), jobs(n_jobs))


def _seeds(seeds: Any) -> list[int]:
    """Different seeds: how many (0, 1, ..), or which."""
    if getattr(seeds, "__index__", None) is not None or not hasattr(seeds, "__iter__"):
        return list(range(whole(seeds, "seeds", 2, MOST)))
    chosen = [whole(s, "seeds", 0) for s in reads.listed(seeds, "seeds", InputError)]
    if len(chosen) < 2 or len(set(chosen)) < len(chosen):
        raise InputError(f"seeds must be at least two different numbers, or their count, not {shown(chosen)}")
    return chosen


class Simulations:
    """Averages over draws: no draw is kept, so memory does not grow with their number."""

    def __init__(
        self, p: Program, width: Any, seeds: list[int], data: dict[str, Any], n_jobs: int | None
    ) -> None:
        self.program, self.width, self.seeds = p, width, seeds
        self._data, self._jobs = data, n_jobs

    def __repr__(self) -> str:
        lines = len(self.program.lines)
        return f"<Simulations of a program of {lines} lines: width {self.width}, {len(self.seeds)} seeds>"

    def scalar(self, s: Scalar | str) -> Estimate:
        """The average of a scalar, per index of its family."""
        return self.table([Quantity("scalar", (self._name(s, "S"),))])[0]

    def mean(self, v: Vector | str) -> Estimate:
        """The average of (1/n) sum_a v_a."""
        return self.table([Quantity("mean", (self._name(v, "GH"),))])[0]

    def moment(self, a: Vector | str, b: Vector | str) -> Estimate:
        """The average of (1/n) sum_a a_a b_a, shape (*axes of a, *axes of b)."""
        return self.table([Quantity("moment", (self._name(a, "GH"), self._name(b, "GH")))])[0]

    def expect(self, f: Callable[..., Any], *vectors: Vector | str) -> Estimate:
        """The average of (1/n) sum_a f(x_a, ..), axes matched by name."""
        if not is_named(f) and not callable(f):
            raise InputError(f"f is {shown(f)}: a function of arrays or the name of one is needed")
        return self.table([Quantity("expect", tuple(self._name(v, "GHS") for v in vectors), f)])[0]

    def table(self, asked: Sequence[Any]) -> list[Estimate]:
        """Several quantities from one pass over the seeds: see `quantity` for what may be asked."""
        wanted = [quantity(self.program, a) for a in reads.listed(asked, "asked", InputError)]
        count = 0
        mean: list[np.ndarray] = []
        square: list[np.ndarray] = []
        for values in self._draws(wanted):
            count += 1
            if count == 1:
                mean, square = [np.array(v, dtype=np.float64) for v in values], [0.0 * v for v in values]
                continue
            for k, v in enumerate(values):  # Welford's update
                away = v - mean[k]
                mean[k] = mean[k] + away / count
                square[k] = square[k] + away * (v - mean[k])
        method = f"simulation, width {self.width}, {count} seeds"
        made = []
        for m, s in zip(mean, square, strict=True):
            made.append(Estimate(m[()], np.sqrt(s / (count * (count - 1)))[()], method, count))
        return made

    def _name(self, v: Any, kinds: str) -> str:
        return _name(self.program, v, kinds)

    def _held(self) -> float:
        """Bytes of one draw, of data as wide as the widest."""
        widest = max((x.shape[-1] for x in self._data.values()), default=1)
        channels = {line.channels: widest for line in self.program.lines if isinstance(line, Data)}
        return max(bytes_of(self.program, channels | widths_of(self.program.dims, self.width), None), 1.0)

    def _draws(self, wanted: list[Quantity]) -> Iterator[list[np.ndarray]]:
        from joblib import effective_n_jobs

        stop = Stop()

        def one(seed: int) -> list[np.ndarray]:
            sample = drawn(self.program, self.width, seed, self._data, {}, stop)
            if sample.examples is not None:
                raise InputError("data: one example is needed, not an array of several")
            return [q.of(sample) for q in wanted]

        jobs = min(effective_n_jobs(self._jobs or -1), max(1, int(memory() // self._held())))
        for begin in range(0, len(self.seeds), CHUNK):
            yield from together(one, self.seeds[begin : begin + CHUNK], jobs, stop)


def line_fit(
    widths: np.ndarray, values: np.ndarray, errors: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(limit, its standard error, c) of value = limit + c/width by weighted least squares, per column."""
    scale = np.max(np.abs(values), axis=0, initial=0.0)
    weights = 1.0 / np.maximum(errors, 1e-13 * np.where(scale > 0, scale, 1.0)) ** 2
    x = 1.0 / widths[:, None]
    total, first, second = (np.sum(weights * x**k, axis=0) for k in range(3))
    det = total * second - first**2
    up, down = np.sum(weights * values, axis=0), np.sum(weights * x * values, axis=0)
    error = np.sqrt(second / det)
    return (second * up - first * down) / det, error, (total * down - first * up) / det


def unit(width: int | Mapping[str, int], dims: Mapping[str, float]) -> float:
    """The width of a CDC of ratio 1."""
    if isinstance(width, Mapping):
        sizes = {d: whole(n, f"width of CDC {d!r}", 1) for d, n in width.items()}
        return math.exp(sum(math.log(n / dims.get(d, 1.0)) for d, n in sizes.items()) / max(len(sizes), 1))
    return float(whole(width, "widths", 1))
