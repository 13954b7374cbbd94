"""`tpnum.signals`: what forward variances, correlations and gradients do from layer to layer of a net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum.arguments import number
from tpnum.errors import InputError, LimitError, SpecError
from tpnum.nn.base import Layer, no_layer
from tpnum.nn.combinators import Serial
from tpnum.propagation.blocks import BlockMap, depth_scale, named_layers
from tpnum.propagation.fixed import FixedPoint, fixed_points
from tpnum.propagation.reading import Moments, Stage, emitted, example, inputs

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

    def __init__(self, net: Layer, rows: tuple[Row, ...], blocks: tuple[Layer, ...], shape: tuple[int, ...]):
        self.net, self.rows, self.blocks, self._shape = net, rows, blocks, shape

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
        """Those of the net's last block, were it repeated for ever."""
        if not self.blocks:
            raise InputError(
                "net: it has no block from one layer of weights to the next that keeps its width"
            )
        return fixed_points(self.blocks[-1], shape=self._shape)

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


def signals(net: Layer, shape: Any = None, *, q: Any = 1.0, c: Any = 0.5) -> Signals:
    """Follow two inputs of mean square ``q`` and correlation ``c``, and their gradients, through a net.

    Every layer of `tpnum.nn` goes; ``shape`` are the (.., channels) of one example (channels alone say
    nothing), needed where the net has positions, at all of which the two inputs are the same.
    """
    if not isinstance(net, Layer):
        raise SpecError(f"net is {no_layer(net)}, e.g. nn.serial(nn.Dense(64), nn.Tanh(), nn.Dense(1))")
    variance = number(q, "q", above=0.0)
    correlation = number(c, "c", low=-1.0)
    if correlation > 1.0:
        raise InputError(f"c is {correlation:g}: a correlation is at most 1")
    spatial = example(shape)
    program, stages = emitted(named_layers(net), spatial)
    if not stages:
        raise SpecError("net: it has no layers")
    gram = variance * np.array([[1.0, correlation], [correlation, 1.0]])
    x = inputs(gram, spatial)
    features = [stage.features for stage in stages]
    moments = Moments(program, x, features)
    trained = Moments(program, x, features, trained="all")
    second = [moments.second(f) for f in features]
    tangents = [moments.second(f, True) for f in features]
    ntk = [trained.second(f, True) for f in features]
    return _rows(net, stages, spatial, second, tangents, ntk, variance)


def _rows(
    net: Layer,
    stages: list[Stage],
    spatial: tuple[int, ...],
    second: list[np.ndarray],
    tangents: list[np.ndarray],
    ntk: list[np.ndarray],
    variance: float,
) -> Signals:
    last = tangents[-1][0, 0]
    rows: list[Row] = []
    blocks: list[Layer] = []
    seen: dict[tuple[str, float], float] = {}
    begin: int | None = None  # the last stage of Gaussian features behind weights
    for k, stage in enumerate(stages):
        kernel, grown = second[k], tangents[k]
        root = float(np.sqrt(kernel[0, 0] * kernel[1, 1]))
        before = tangents[k - 1][0, 0] if k else 0.0
        chi = float(grown[0, 0] / before) if before > 0.0 else NONE
        block = (NONE, NONE, NONE)
        weighted = stage.gaussian and grown[0, 0] > 0.0
        if weighted and begin is not None and stages[begin].width == stage.width:
            segment = Serial(tuple(s.layer for s in stages[begin + 1 : k + 1]))
            start = second[begin]
            blocks.append(segment)
            slope = tangents[begin]
            off = float(grown[0, 1] / slope[0, 1]) if slope[0, 1] else NONE
            block = (
                float(grown[0, 0] / slope[0, 0]),
                _chi_q(segment, float(start[0, 0]), spatial, seen),
                off * float(start[0, 0] / kernel[0, 0]),
            )
        if weighted:
            begin = k
        rows.append(
            Row(
                place=stage.place,
                op=stage.layer.op,
                q=float(kernel[0, 0]),
                c=float(kernel[0, 1] / root) if root else 1.0,
                chi=chi,
                gradient=float(last / grown[0, 0]) if grown[0, 0] > 0.0 else NONE,
                ntk=float(ntk[k][0, 0]),
                condition=_condition(ntk[k]),
                chi_1=block[0],
                chi_q=block[1],
                chi_c=block[2],
            )
        )
    return Signals(net, tuple(rows), tuple(blocks), spatial)


def _chi_q(segment: Layer, q: float, spatial: tuple[int, ...], seen: dict[tuple[str, float], float]) -> float:
    """dq'/dq of a block, once per block and variance."""
    key = (repr(segment), float(f"{q:.10e}"))
    if key not in seen:
        try:
            seen[key] = BlockMap(segment, spatial).slopes(q).chi_q if q > 0.0 else NONE
        except (SpecError, LimitError):
            seen[key] = NONE
    return seen[key]


def _condition(theta: np.ndarray) -> float:
    """The larger eigenvalue over the smaller."""
    values = np.linalg.eigvalsh(theta)
    if not values[-1] > 0.0:
        return NONE
    return float(values[-1] / values[0]) if values[0] > 1e-15 * values[-1] else float("inf")
