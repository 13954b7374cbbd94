"""Kernels of a tile of inputs by one ensemble: all lines of all inputs on the same points, replicated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tpnum.ensemble.mixed import Operand, moments
from tpnum.ensemble.text import Text
from tpnum.ensemble.walk import Laws, Walk
from tpnum.evaluate.plan import output_axes, outputs_prepared
from tpnum.gauss.estimate import enlargement, half_width
from tpnum.law.threads import Stop, together

if TYPE_CHECKING:
    from tpnum.program import Program

REPLICATES = 16
"""Parts of an ensemble that know nothing of each other: their spread is what the error is told from."""

LEAST = 1 << 5
"""Points of a replicate."""

ROWS = 1 << 10
"""Members of a family of G-vars that are drawn together."""

PILOT, FEW = 1 << 8, 1 << 8
"""Points that tell directions of so many Gaussians at most."""

STATES = 1 << 24
"""Second moments given the points of one state with all others that a replicate may hold."""

POINTS, MORE = 1 << 14, 1 << 16
"""Points if no accuracy is asked for: of any program, and of recurrences, where they cost least of all."""

LACK = 1e-4
"""If second moments may lack a larger part of themselves, one replicate by other rules says what it makes."""

ROOM = 1 << 24
"""Numbers that a replicate may hold of one family: beyond, there are more replicates, of fewer points."""


class Sampled(NamedTuple):
    """A block of a kernel and its standard errors, (rows, columns, *row axes, *column axes).

    Three standard errors hold the value as surely as those of a Gaussian, though replicates are few.
    ``relative`` is the half-width of a 95 % interval as a part of the largest entry.
    """

    value: np.ndarray
    error: np.ndarray
    relative: float
    points: int


@dataclass(frozen=True, eq=False)
class SampledPlan:
    """How ``kinds`` of kernels of a program at two input shapes, or twice at one, are sampled.

    For inputs of a tile, all together, the lines of the program are run on points; second moments that a
    product with a matrix needs are means over the points, and its result is Gaussian given them.  Every
    replicate is an ensemble of its own.  The mean over replicates is the answer, and their spread its error.
    """

    written: tuple[Program, Program]
    kinds: tuple[str, ...]
    reason: str
    factored: bool = True
    mirrored = True

    @cached_property
    def programs(self) -> tuple[Program, Program]:
        """The programs whose lines are run."""
        first, second = self.written
        made = outputs_prepared(first.unrolled(), "ntk" in self.kinds)
        return made, made if second is first else outputs_prepared(second.unrolled(), "ntk" in self.kinds)

    @cached_property
    def text(self) -> Text:
        first, second = self.programs
        return Text((first,) if second is first else (first, second), self.factored)

    @cached_property
    def members(self) -> int:
        """Those of the largest family of vectors of one input."""
        variables = (v for program in self.programs for v in program.vars.values() if v.kind in "GH")
        return max((math.prod(size for _, size in v.axes) for v in variables), default=1)

    @property
    def side(self) -> int:
        """Inputs of a tile's rows, such that all of them can be drawn together.

        Fewer where states of a recurrence have second moments at every point.
        """
        most = ROWS // self.members // 2
        if self.recurrent:
            held = self.points // REPLICATES * self.text.steps
            most = min(most, math.isqrt(STATES // held) // self.members // 2)
        return max(1, most)

    @property
    def recurrent(self) -> bool:
        """Whether there are states of which some factors are never drawn."""
        return bool(self.text.linear) and self.text.steps > 2

    @property
    def points(self) -> int:
        """Points if no accuracy is asked for, and those at first if one is."""
        return MORE if self.recurrent else POINTS

    @property
    def axes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The sizes of the output's axes, of the rows and of the columns."""
        return output_axes(self.programs[0]), output_axes(self.programs[1])

    def replicate(
        self,
        rows: Mapping[str, np.ndarray],
        cols: Mapping[str, np.ndarray] | None,
        laws: Laws,
        stop: Stop,
    ) -> tuple[dict[str, np.ndarray], float]:
        """The kernels of all inputs of a tile with each other, from one replicate, and what it lacks."""
        first = second = Walk(self.programs[0], rows, laws, stop)
        made = [first.run()]
        if cols is not None:
            second = Walk(self.programs[1], cols, laws, stop)
            made.append(second.run())
        walks = (first, second)[: len(made)]
        counts = [walk.examples or 1 for walk in walks]
        values = [{name: laws.operand(value) for name, value in one.items()} for one in made]
        return {kind: self._kernel(kind, values, counts) for kind in self.kinds}, laws.lost

    def _frame(
        self, rows: Mapping[str, np.ndarray], cols: Mapping[str, np.ndarray] | None, seed: int, stop: Stop
    ) -> np.ndarray | None:
        """The directions that Gaussians vary most in, found by a few points of their own."""
        laws = Laws(self.text, PILOT, seed, -1)
        self.replicate(rows, cols, laws, stop)
        return laws.frame()

    def _kernel(self, kind: str, made: Sequence[Mapping[str, Operand]], counts: Sequence[int]) -> np.ndarray:
        """(N1 + N2, N1 + N2, ..) of a tile of one shape, (N1, N2, ..) of two."""
        first, last = self.programs
        left, right = made[0], made[-1]
        total = np.zeros((counts[0], counts[-1], *self.axes[0], *self.axes[1]))
        for (w, a), at in zip(first.outputs, first.output_places, strict=True):
            for (v, b), other in zip(last.outputs, last.output_places, strict=True):
                if at.family != other.family or w != v:
                    continue
                names = (a, b) if kind == "nngp" else (first.tangents.get(a), last.tangents.get(b))
                if names[0] is None or names[1] is None:
                    continue
                x, y = left[names[0]], right[names[1]]
                block = np.moveaxis(moments(x, y).reshape(*x.shape, *y.shape), len(x.shape), 1)
                place = tuple(
                    slice(None) if i is None else i for i in (None, None, *at.position, *other.position)
                )
                total[place] += w * block
        return total

    def sample(
        self,
        rows: Mapping[str, np.ndarray],
        cols: Mapping[str, np.ndarray] | None,
        points: int,
        seed: int = 0,
        jobs: int = 1,
        stop: Stop | None = None,
    ) -> dict[str, Sampled]:
        """Kernels of the inputs ``rows`` with ``cols``, or with themselves, by about so many points."""
        stop = stop or Stop()
        inputs = [len(next(iter(side.values()))) for side in (rows, cols) if side is not None]
        size = 1 << max(0, round(math.log2(points / REPLICATES)))
        family = self.members * sum(inputs)
        while size > 1 << 10 and (
            size * family > ROOM or (self.recurrent and size * self.text.steps * family**2 > STATES)
        ):
            size //= 2
        size = max(size, LEAST)
        replicates = max(REPLICATES, points // size)
        joint, places = rows, (slice(None), slice(None))
        if cols is not None and self.programs[0] is self.programs[1]:
            joint = {name: np.concatenate([rows[name], cols[name]]) for name in rows}
            split = len(next(iter(rows.values())))
            places = slice(split), slice(split, None)
            cols = None

        few = family * self.text.steps <= FEW
        frame = self._frame(joint, cols, seed, stop) if few and self.text.steps > 2 else None

        def one(number: int, varied: bool = False) -> tuple[dict[str, np.ndarray], float]:
            return self.replicate(joint, cols, Laws(self.text, size, seed, number, frame, varied), stop)

        found = together(one, list(range(replicates)), jobs, stop)
        lost = min(max(lack for _, lack in found), LACK)
        first = found[0][0]
        other = one(0, varied=True)[0] if lost == LACK else first
        return {
            kind: _estimate(
                [made[kind] for made, _ in found], lost, cols is None, places, replicates * size,
                np.abs(other[kind] - first[kind]),
            )
            for kind in self.kinds
        }  # fmt: skip


def _estimate(
    made: list[np.ndarray], lost: float, own: bool, places: tuple[slice, slice], points: int,
    moved: np.ndarray | float = 0.0,
) -> Sampled:  # fmt: skip
    """The mean over replicates at some rows and columns, and its standard error.

    ``lost`` is what errors have beside their spread, as a part of (K(x, x) K(x', x'))^(1/2) in a tile of
    inputs with themselves (``own``), and else of the largest entry; ``moved`` what they have entry by entry.
    """
    every = np.stack(made)
    mean = every.mean(axis=0)
    size = float(np.max(np.abs(mean), initial=0.0))
    error = enlargement(len(every)) * every.std(axis=0, ddof=1) / math.sqrt(len(every))
    error += lost * (_roots(mean) if own else size) + moved
    wide = half_width(every[:, *places], 0) + np.broadcast_to(moved, mean.shape)[places]
    relative = float(np.max(wide, initial=0.0)) / size + lost if size else 0.0
    return Sampled(mean[places], error[places], relative, points)


def _roots(kernel: np.ndarray) -> np.ndarray:
    """(K(x, x) K(x', x'))^(1/2) of a kernel (N, N, *axes, *axes)."""
    half = kernel.ndim // 2
    square = np.moveaxis(kernel, 1, half)
    count = math.prod(square.shape[:half])
    roots = np.sqrt(np.abs(square.reshape(count, count).diagonal()))
    return np.moveaxis(np.multiply.outer(roots, roots).reshape(square.shape), half, 1)
