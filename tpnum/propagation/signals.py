"""`tpnum.signals`: what forward variances, correlations and gradients do from layer to layer of a net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import number, whole
from tpnum.errors import InputError, LimitError, SpecError
from tpnum.nn.base import Layer, no_layer
from tpnum.nn.combinators import Serial
from tpnum.nn.emitter import BATCH
from tpnum.propagation.batches import BatchMap, gram, pair_of, rows_of
from tpnum.propagation.blocks import BlockMap, depth_scale, named_layers, stages_of
from tpnum.propagation.fixed import FixedPoint, fixed_points
from tpnum.propagation.reading import Moments, Stage, emitted, example, inputs
from tpnum.propagation.written import Written, written

if TYPE_CHECKING:
    from tpnum.program import Program

NONE = float("nan")


@dataclass(frozen=True)
class Row:
    """What is behind one layer.

    ``q`` forward variance E Z^2, ``c`` correlation of the two inputs, ``chi`` what the squared norm of a
    gradient is multiplied by on its way back through the layer, ``gradient`` the squared gradient of the
    net's output by this layer's, relative to that by the output itself, ``ntk`` and ``condition`` the NTK at
    an input and its condition number for the two.  Where a block ends (from one layer of weights to the
    next): ``chi_1``, the product of ``chi`` over it, and its depth scales ``xi_q``, ``xi_c``.
    """

    place: str
    op: str
    q: float
    c: float
    chi: float
    gradient: float
    ntk: float
    condition: float
    chi_1: float
    chi_q: float
    chi_c: float

    @property
    def xi_q(self) -> float:
        """The depth over which a deviation of the variance falls by e, were the block repeated."""
        return depth_scale(self.chi_q) if self.chi_q == self.chi_q else NONE

    @property
    def xi_c(self) -> float:
        """The same for a deviation of the correlation."""
        return depth_scale(self.chi_c) if self.chi_c == self.chi_c else NONE


class Signals:
    """The rows of a net, one per layer; `str` is a table."""

    def __init__(
        self,
        net: Any,
        rows: tuple[Row, ...],
        blocks: tuple[Layer, ...],
        shape: tuple[int, ...],
        batch_size: int | None = None,
    ) -> None:
        self.net, self.rows, self.blocks, self._shape, self._batch_size = net, rows, blocks, shape, batch_size

    def __getattr__(self, name: str) -> np.ndarray:
        """A column: q, c, chi, gradient, ntk, condition, chi_1, chi_q, chi_c, xi_q or xi_c."""
        if name in COLUMNS and "rows" in self.__dict__:
            return np.array([getattr(row, name) for row in self.rows])
        raise AttributeError(f"signals have no {name!r}; their columns are {', '.join(COLUMNS)}")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    @property
    def fixed_points(self) -> tuple[FixedPoint, ...]:
        """Those of the net's last block, or of a program itself, were it repeated for ever."""
        if isinstance(self.net, Written):
            return fixed_points(self.net)
        if not self.blocks:
            raise InputError(
                "net: it has no block from one layer of weights to the next that keeps its width"
            )
        return fixed_points(self.blocks[-1], shape=self._shape, batch_size=self._batch_size)

    def __repr__(self) -> str:
        return f"<Signals of {len(self.rows)} layers: q {self.rows[-1].q:.4g}, c {self.rows[-1].c:.4g}>"

    def __str__(self) -> str:
        head = f"{'layer':<28}" + "".join(f"{name:>11}" for name in SHOWN)
        lines = [head]
        for row in self.rows:
            cells = "".join(f"{_cell(getattr(row, name)):>11}" for name in SHOWN)
            lines.append(f"{(row.place + ' ' + row.op)[:27]:<28}{cells}")
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Variance, correlation and gradient by layer."""
        from tpnum.pictures import draw_signals

        return draw_signals(self, ax)


COLUMNS = (
    "q", "c", "chi", "gradient", "ntk", "condition", "chi_1", "chi_q", "chi_c", "xi_q", "xi_c",
)  # fmt: skip
SHOWN = ("q", "c", "gradient", "chi_1", "xi_q", "xi_c", "ntk", "condition")


def _cell(value: float) -> str:
    return "" if value != value else f"{value:.5g}"


def signals(net: Any, shape: Any = None, *, q: Any = 1.0, c: Any = 0.5, batch_size: Any = None) -> Signals:
    """Follow two inputs of mean square ``q`` and correlation ``c``, and their gradients, through a net.

    Parameters
    ----------
    net
        Any layers of `tpnum.nn`; or what a program writes, a pair (x, y) of its vectors, or a program of one
        data line and its output: then a row is one line.
    shape
        The (.., channels) of one example (channels alone say nothing), needed where the net has positions, at
        all of which the two inputs are the same.
    q, c
        The mean square, above 0, and the correlation, -1 to 1, of the two inputs.
    batch_size
        The inputs are a batch of so many, any two of them correlated by ``c``, as `BatchNorm` needs; ``chi``
        and ``gradient`` are of perturbations that tell the examples apart, the others it takes away.

    Raises
    ------
    SpecError
        What is no net, or does not fit the shape; the message names the layer.
    InputError
        A mean square or correlation that is none; a shape or a batch with a program.
    """
    if not isinstance(net, Layer):
        found = written(net, "net")
        if found is None:
            raise SpecError(
                f"net is {no_layer(net)}, e.g. nn.serial(nn.Dense(64), nn.Tanh(), nn.Dense(1)), or a pair "
                "(x, y) of vectors of a program"
            )
        net = found
    variance = number(q, "q", above=0.0)
    correlation = number(c, "c", low=-1.0)
    if correlation > 1.0:
        raise InputError(f"c is {correlation:g}: a correlation is at most 1")
    if isinstance(net, Written):
        if shape is not None or batch_size is not None:
            raise InputError("shape and batch_size belong to nets of layers; a program has axes of its own")
        program, stages = stages_of(net)
        x = inputs(gram(variance, correlation, 2), [size for _, size in net.axes])
        return _rows(net, stages, (), _Read(program, stages, x), None)
    spatial = example(shape)
    size = None if batch_size is None else whole(batch_size, "batch_size", 2, 1 << 12)
    program, stages = emitted(named_layers(net), spatial, size)
    if not stages:
        raise SpecError("net: it has no layers")
    if size is None:
        x = inputs(gram(variance, correlation, 2), spatial)
        return _rows(net, stages, spatial, _Read(program, stages, x), None)
    if correlation < -1.0 / (size - 1):
        least = -1.0 / (size - 1)
        raise InputError(f"c is {correlation:g}: {size} inputs are correlated by {least:g} at least")
    x = rows_of(gram(variance, correlation, size), spatial)
    return _rows(net, stages, spatial, _Read(program, stages, x, (BATCH,)), size)


class _Read:
    """Second moments, tangents of the input's weights and of all weights, behind every stage, (2, 2) each."""

    def __init__(
        self, program: Program, stages: list[Stage], x: np.ndarray, by: tuple[str, ...] = ()
    ) -> None:
        features = [stage.features for stage in stages]
        moments = Moments(program, x, features, by=by)
        trained = Moments(program, x, features, trained="all", by=by)
        self._by = by
        self.second = [self._two(moments.second(f)) for f in features]
        self.tangents = [self._two(moments.second(f, True)) for f in features]
        self.ntk = [self._two(trained.second(f, True)) for f in features]
        for read in (moments, trained):
            read.account.warn()

    def _two(self, found: np.ndarray) -> np.ndarray:
        """Of two inputs: of a batch any two are alike."""
        if not self._by:
            return found
        on, off = pair_of(found[0, :, 0, :])
        return np.array([[on, off], [off, on]])

    def perturbed(self, k: int) -> float:
        """The size of perturbations, of a batch of those that tell its examples apart."""
        found = self.tangents[k]
        return float(found[0, 0] - found[0, 1]) if self._by else float(found[0, 0])


def _rows(
    net: Any, stages: list[Stage], spatial: tuple[int, ...], read: _Read, batch_size: int | None
) -> Signals:
    last = read.perturbed(-1)
    rows: list[Row] = []
    blocks: list[Layer] = []
    slopes = _Slopes(spatial, batch_size)
    begin: int | None = None  # the last stage of Gaussian features behind weights
    for k, stage in enumerate(stages):
        kernel, grown = read.second[k], read.perturbed(k)
        root = float(np.sqrt(kernel[0, 0] * kernel[1, 1]))
        before = read.perturbed(k - 1) if k else 0.0
        chi = grown / before if before > 0.0 else NONE
        block = (NONE, NONE, NONE)
        weighted = stage.gaussian and grown > 0.0
        layers = [] if begin is None else [s.layer for s in stages[begin + 1 : k + 1]]
        if weighted and begin is not None and stages[begin].width == stage.width and None not in layers:
            segment = Serial(tuple(x for x in layers if x is not None))
            start = read.second[begin]
            blocks.append(segment)
            block = (grown / read.perturbed(begin), *slopes(segment, start))
            if batch_size is None:
                slope, here = read.tangents[begin][0, 1], read.tangents[k][0, 1]
                off = float(here / slope) if slope else NONE
                block = (block[0], block[1], off * float(start[0, 0] / kernel[0, 0]))
        if weighted:
            begin = k
        rows.append(
            Row(
                place=stage.place,
                op=stage.op,
                q=float(kernel[0, 0]),
                c=float(kernel[0, 1] / root) if root else 1.0,
                chi=chi,
                gradient=last / grown if grown > 0.0 else NONE,
                ntk=float(read.ntk[k][0, 0]),
                condition=_condition(read.ntk[k]),
                chi_1=block[0],
                chi_q=block[1],
                chi_c=block[2],
            )
        )
    return Signals(net, tuple(rows), tuple(blocks), spatial, batch_size)


class _Slopes:
    """dq'/dq and dc'/dc of blocks, once per block and state; without a batch dc'/dc is one of tangents."""

    def __init__(self, spatial: tuple[int, ...], batch_size: int | None) -> None:
        self.spatial, self.batch_size = spatial, batch_size
        self._seen: dict[tuple[Any, ...], tuple[float, float]] = {}

    def __call__(self, segment: Layer, start: np.ndarray) -> tuple[float, float]:
        q = float(start[0, 0])
        c = float(start[0, 1] / q) if q and self.batch_size else 1.0
        key = (repr(segment), float(f"{q:.10e}"), float(f"{c:.10e}"))
        if key not in self._seen:
            try:
                self._seen[key] = self._found(segment, q, c)
            except (SpecError, LimitError):
                self._seen[key] = NONE, NONE
        return self._seen[key]

    def _found(self, segment: Layer, q: float, c: float) -> tuple[float, float]:
        if not q > 0.0:
            return NONE, NONE
        if self.batch_size is None:
            return BlockMap(segment, self.spatial).slopes(q).chi_q, NONE
        made = BatchMap(segment, self.spatial, self.batch_size).slopes(q, c)
        return made.chi_q, made.chi_c * q / made.q_next


def _condition(theta: np.ndarray) -> float:
    """The larger eigenvalue over the smaller."""
    values = np.linalg.eigvalsh(theta)
    if not values[-1] > 0.0:
        return NONE
    return float(values[-1] / values[0]) if values[0] > 1e-15 * values[-1] else float("inf")
