"""`tpnum.critical`: parameters of a block at which gradients neither explode nor vanish."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.arguments import choice, number, real_array
from tpnum.errors import InputError, LimitError
from tpnum.nn.base import Layer
from tpnum.propagation.activation import Chain, Expectations, Values, chain
from tpnum.propagation.blocks import BlockMap, Slopes, read_block, read_free, with_parameters
from tpnum.propagation.fixed import NEUTRAL, batch_correlation, batched, correlation, variances
from tpnum.propagation.reading import positions
from tpnum.propagation.written import Written

KINDS = ("edge", "half-stable")
GRID = 481
WIDEST = (1e-8, 1e6)
"""Variances among which fixed points are looked for."""

CLOSE = 1e-9
"""Of a solution of the general equations: their residual."""

FOUND = 1e-6
"""By how much what the block does may differ from what was solved for: more is an overflow."""

TRIALS, STARTED = 40, 3
"""Of parameters from one start, and from how many: the first, and the ones nearest to a root."""

SHORTEST = 0.05
"""Layers: gradients that change faster are lost at once."""

NOTHING, LOGS = 1e-14, (-5.0, 5.0)
"""A variance that stands for 0, and the logarithms of deviations that are looked at there."""

FAINT = 1e-4
"""A deviation so small may be none."""

SILENT = 0.1
"""Weights of a smaller deviation are none where those of none are critical too, as those of x + f(x) are."""

STARTS = {"q": (1.0, 0.2, 5.0), "W_std": (1.3, 0.7, 2.5), "b_std": (0.3, 1.0), "other": (1.0, 0.3, 3.0)}


@dataclass(frozen=True)
class Critical:
    """A critical point of a block: its parameters ``values``, q*, and what the block does there.

    ``block`` is the block with these parameters; `curve` gives the points of the critical line at other q*.
    """

    values: Mapping[str, float]
    q: float
    c: float
    chi_1: float
    chi_q: float
    chi_c: float
    block: Any
    _line: Callable[[float], Critical] | None = None

    def __getattr__(self, name: str) -> float:
        """The parameters by name."""
        values = self.__dict__.get("values", {})
        if name in values:
            return float(values[name])
        raise AttributeError(f"a critical point has no {name!r}; its parameters are {', '.join(values)}")

    @property
    def xi_q(self) -> float:
        """The depth over which a deviation of the variance falls by e."""
        return self._slopes.xi_q

    @property
    def xi_c(self) -> float:
        """The depth over which a deviation of the correlation falls by e; infinite on the critical line."""
        return self._slopes.xi_c

    @property
    def _slopes(self) -> Slopes:
        return Slopes(self.q, self.c, self.q, self.c, self.chi_1, self.chi_q, self.chi_c)

    def curve(self, q: Any) -> list[Critical]:
        """The critical points of these fixed variances, where there are two free parameters."""
        if self._line is None:
            raise InputError("q: a curve needs two free parameters; with one there is a point")
        variances = np.atleast_1d(real_array(q, "q"))
        return [self._line(number(float(v), "q", above=0.0)) for v in variances]

    def __repr__(self) -> str:
        named = ", ".join(f"{name} = {value:.12g}" for name, value in self.values.items())
        return f"<Critical: {named}, q = {self.q:.12g}, chi_1 = {self.chi_1:.12g}, chi_q = {self.chi_q:.6g}>"


def critical(
    block: Any,
    free: Any = ("W_std", "b_std"),
    *,
    kind: str = "edge",
    q: Any = None,
    xi: Any = None,
    between: Sequence[float] = WIDEST,
    shape: Sequence[int] = (),
    batch_size: Any = None,
) -> Critical:
    """The parameters of a block at which a squared gradient neither grows nor falls, chi_1 = 1.

    Parameters
    ----------
    block
        Any layers of `tpnum.nn` that take what they give, e.g. nn.serial(nn.Tanh(), nn.Dense(512)); or what a
        program writes, a pair (x, y) of its vectors, or a program of one data line and its output.
    free
        One or two names of arguments; every layer of the block that has them gets the same value; of a
        program the names of matrices and vectors, whose deviations they are.  With one, the point of the edge
        of chaos at the block's other parameters; with two, a line of points.
    kind
        "edge": chi_1 = 1 at the fixed point q*.  "half-stable": chi_q = dq'/dq = 1 too, two parameters.
    q
        The fixed point to have, with two free parameters (by default 1; of weights and then an activation
        what 1 in front of the activation gives).
    xi
        A depth scale of gradients and correlations: chi_1 = exp(-1/xi) instead of 1 (negative: growing).
    between
        Variances among which the fixed point is looked for.
    shape
        Positions of the features, for blocks that act on them.
    batch_size
        Of blocks that normalise over batches, whose inputs have the correlation that a batch approaches.

    Raises
    ------
    LimitError
        There is no such point in the range.
    SpecError, InputError
        A block whose input and output differ, names that no layer has, options that do not go together.
    """
    spatial = positions(shape)
    block = read_block(block, spatial)
    size = None if batch_size is None else batched(block, spatial, batch_size).size
    if size is None:
        BlockMap(block, spatial)
    names = read_free(free, block)
    choice(kind, "kind", KINDS)
    low, high = variances(between)
    wanted = 1.0
    if xi is not None:
        scale = number(xi, "xi")
        if abs(scale) < SHORTEST:
            raise InputError(f"xi is {scale:g}: a depth scale is at least {SHORTEST} layers long")
        wanted = float(np.exp(-1.0 / scale))
    if q is not None and (len(names) < 2 or kind == "half-stable"):
        raise InputError("q: a fixed point can be asked for with two free parameters on the edge alone")
    if kind == "half-stable" and len(names) < 2:
        raise InputError("free: a half-stable point takes two free parameters")
    target = number(q, "q", above=0.0) if q is not None else None
    task = _Task(block, names, kind, wanted, low, high, spatial, size)
    return task.solve(target)


@dataclass(frozen=True)
class _Task:
    block: Layer | Written
    names: tuple[str, ...]
    kind: str
    wanted: float
    low: float
    high: float
    shape: tuple[int, ...]
    batch_size: int | None

    def solve(self, q: float | None) -> Critical:
        known = chain(self.block)
        if known is not None and known.plain is not None and set(self.names) <= {"W_std", "b_std"}:
            values, found = self._plain(known, *known.plain, q)
        else:
            values, found = self._general(q)
        return self._point(values, found)

    def _point(self, values: dict[str, float], q: float) -> Critical:
        block = with_parameters(self.block, values)
        slopes = self._slopes(block, max(q, NOTHING))
        if abs(slopes.chi_1 - self.wanted) > FOUND or abs(slopes.q_next - q) > FOUND * max(q, 1e-3):
            raise self._none(f"at q = {q:g} the block gives q = {slopes.q_next:g}, chi_1 = {slopes.chi_1:g}")
        c = slopes.c
        if slopes.chi_1 > 1.0 + 1e-9 and self.batch_size is None:
            c, slopes = correlation(BlockMap(block, self.shape), max(q, NOTHING))
        line = self.solve if len(self.names) == 2 and self.kind == "edge" else None
        return Critical(values, q, c, slopes.chi_1, slopes.chi_q, slopes.chi_c, block, line)

    def _slopes(self, block: Any, q: float) -> Slopes:
        if self.batch_size is None:
            return BlockMap(block, self.shape).slopes(q)
        made = batched(block, self.shape, self.batch_size)
        return made.slopes(q, batch_correlation(made, q))

    def _none(self, why: str) -> LimitError:
        return LimitError(
            f"block: no critical point with q between {self.low:g} and {self.high:g}: {why}; "
            "free another parameter or widen between"
        )

    # --- an activation and weights: K' = W^2 V(q) + b^2, chi_1 = W^2 X(q)

    def _plain(
        self, block: Chain, f: Expectations, weights: Any, q: float | None
    ) -> tuple[dict[str, float], float]:
        """By the variance in front of the activation; of a block that begins with weights q is V of that."""
        if block.steps[0] is f:
            return self._in_front(f, weights, q, _same)
        if q is not None:
            asked = q
            why = f"{f.f} gives no variance {asked:g}"
            q = self._root(lambda s: f.second(s) - asked, f.second, why)
        values, found = self._in_front(f, weights, q, f.second)
        return values, float(f.second(found))

    def _in_front(
        self, f: Expectations, dense: Any, q: float | None, own: Values
    ) -> tuple[dict[str, float], float]:
        if len(self.names) == 2:
            if self.kind == "half-stable":
                q = self._root(lambda s: self.wanted * f.second_slope(s) / f.slope_second(s) - 1.0, own)
            elif q is None:
                q = 1.0
            slope = float(f.slope_second(q))
            if not slope > 1e-280:
                raise self._none(f"at q = {q:g} no gradient passes")
            weight = self.wanted / slope
            bias = float(q - weight * f.second(q))
            if bias < -1e-13 * q:
                asked = "" if self.wanted == 1.0 else f" for the xi asked for (chi_1 = {self.wanted:g})"
                raise self._none(f"at q = {q:g} the bias would have the variance {bias:g}{asked}")
            return {"W_std": float(np.sqrt(weight)), "b_std": float(np.sqrt(max(bias, 0.0)))}, q
        if self.names == ("W_std",):
            return self._weight(f, float(dense.b_std or 0.0) ** 2, own)
        square = float(dense.W_std) ** 2
        q = self._root(lambda s: square * f.slope_second(s) - self.wanted, own)
        bias = float(q - square * f.second(q))
        if bias < 0.0:
            raise self._none(f"at q = {q:g} the bias would have the variance {bias:g}")
        return {"b_std": float(np.sqrt(bias))}, q

    def _weight(self, f: Expectations, bias: float, own: Values) -> tuple[dict[str, float], float]:
        def away(s: Any) -> Any:
            with np.errstate(divide="ignore", invalid="ignore"):
                return s - self.wanted * f.second(s) / f.slope_second(s) - bias

        if bias == 0.0:
            grid = np.geomspace(max(self.low, 1e-300), self.high, 9)
            if np.all(np.abs(_values(away, grid)) < 1e-12 * grid):  # homogeneous: every q is fixed
                return {"W_std": float(np.sqrt(self.wanted / f.slope_second(1.0)))}, 1.0
            start = 1e-300
            slope = float(f.slope_second(start))
            if abs(float(f.second(start))) < 1e-200 and slope > 0.0 and self.wanted == 1.0:
                return {"W_std": float(1.0 / np.sqrt(slope))}, 0.0
        q = self._root(away, own)
        return {"W_std": float(np.sqrt(self.wanted / f.slope_second(q)))}, q

    def _root(self, f: Values, own: Values, why: str = "what has to vanish has one sign") -> float:
        """The first root of what is given for arrays whose q, which ``own`` makes of it, is in the range."""
        from scipy.optimize import brentq

        grid = np.geomspace(max(self.low, 1e-12), self.high, GRID)
        if own is not _same:
            grid = np.union1d(grid, np.geomspace(*WIDEST, GRID))
        values = _values(f, grid)
        good = np.isfinite(values)
        if good.any() and np.all(np.abs(values[good]) < NEUTRAL):
            return 1.0  # as of relu: every q
        signs = np.flatnonzero(good[1:] & good[:-1] & (np.sign(values[1:]) != np.sign(values[:-1])))
        if not signs.size:
            raise self._none(why)
        for k in signs:
            low, high = np.log(grid[k]), np.log(grid[k + 1])
            if float(f(np.exp(low))) * float(f(np.exp(high))) <= 0.0:  # else rounding
                found = np.exp(brentq(lambda s: float(f(np.exp(s))), low, high, xtol=1e-15, rtol=1e-15))
                if self.low <= float(own(found)) <= self.high:
                    return float(found)
        raise self._none("what has to vanish does so out of the range or up to rounding alone")

    # --- any block: the equations by Newton's method with numeric slopes

    def _general(self, q: float | None) -> tuple[dict[str, float], float]:
        from scipy.optimize import root

        if q is None and len(self.names) == 2 and self.kind == "edge":
            q = 1.0
        unknown = ([] if q is not None else ["q"]) + list(self.names)

        def parameters(x: np.ndarray) -> tuple[dict[str, float], float]:
            named = dict(zip(unknown, x, strict=True))
            at = float(np.exp(np.clip(named.pop("q"), -40.0, 40.0))) if q is None else q
            return {name: float(abs(value)) for name, value in named.items()}, at

        def equations(x: np.ndarray) -> list[float]:
            values, at = parameters(x)
            try:
                slopes = self._slopes(with_parameters(self.block, values), at)
            except LimitError:
                return [1e3] * len(unknown)
            made = [slopes.q_next / at - 1.0, slopes.chi_1 - self.wanted]
            if self.kind == "half-stable":
                made.append(slopes.chi_q - 1.0)
            return made

        from itertools import product

        options = [STARTS.get(name, STARTS["other"]) for name in unknown]
        starts = [
            np.array([np.log(s) if n == "q" else s for n, s in zip(unknown, start, strict=True)])
            for start in product(*options)
        ]
        for k in range(min(STARTED, len(starts))):
            if k == 1:
                starts[1:] = sorted(starts[1:], key=lambda x: float(np.sum(np.tanh(equations(x)) ** 2)))
            found = root(equations, starts[k], method="hybr", options={"xtol": 1e-13, "maxfev": TRIALS})
            values, at = parameters(found.x)
            weights = np.array([name in values and name.startswith("W") for name in unknown])
            silent = bool(np.any(np.abs(found.x[weights]) < SILENT)) and (
                np.max(np.abs(equations(np.where(weights, 0.0, found.x)))) < FOUND
            )
            if np.max(np.abs(equations(found.x))) < CLOSE and self.low <= at <= self.high and not silent:
                # squares of deviations are what is solved for: one that is so small may be none
                faint = [name in values and values[name] < FAINT for name in unknown]
                none = np.where(faint, 0.0, found.x)
                return parameters(none if np.max(np.abs(equations(none))) < CLOSE else found.x)
        if len(self.names) == 1 and self.wanted == 1.0 and self.batch_size is None:
            value = self._at_zero(self.names[0])
            if value is not None:
                return {self.names[0]: value}, 0.0
        raise self._none("no parameters of the block have been found that keep both variances")

    def _at_zero(self, name: str) -> float | None:
        """The parameter where the fixed point is 0, as it is of tanh without biases."""
        from scipy.optimize import brentq

        def slopes(log: float) -> Slopes:
            return self._slopes(with_parameters(self.block, {name: float(np.exp(log))}), NOTHING)

        try:
            low, high = (slopes(end).chi_1 - 1.0 for end in LOGS)
            if not low * high < 0.0:
                return None
            log = float(brentq(lambda x: slopes(x).chi_1 - 1.0, *LOGS, xtol=1e-14))
            return float(np.exp(log)) if abs(slopes(log).q_next / NOTHING - 1.0) < FOUND else None
        except LimitError:
            return None


def _same(q: Any) -> Any:
    return q


def _values(f: Values, s: np.ndarray) -> np.ndarray:
    """f at all points at once, NaN where it overflows."""
    try:
        return np.asarray(f(s))
    except LimitError:
        if s.size == 1:
            return np.full(1, np.nan)
        return np.concatenate([_values(f, part) for part in np.array_split(s, 2)])
