"""A block as a map of variances and correlations: q -> q', c -> c', and its slopes.

With K' = F(K) the covariance behind a block of inputs of covariance K, at equal variances q

    chi_q = dq'/dq,    chi_1 = d K'_12 / d K_12 at c = 1 (what a squared gradient grows by),
    chi_c = d K'_12 / d K_12 at c (Price's theorem makes both of them laws of tangents).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from tpnum.arguments import shown
from tpnum.errors import InputError, SpecError
from tpnum.nn.base import Layer, no_layer
from tpnum.nn.combinators import FanIn, FanInConcat, FanOut, Parallel, Repeat, Serial
from tpnum.nn.dense import Dense
from tpnum.propagation.reading import CHANNELS, DATA, Moments, Stage, emitted, placed
from tpnum.propagation.written import Written, written

if TYPE_CHECKING:
    from tpnum.program import Program

STEP = 2e-3
"""Relative step of the five-point rule for dq'/dq."""


@dataclass(frozen=True)
class Slopes:
    """One application of a block at variance q and correlation c."""

    q: float
    c: float
    q_next: float
    c_next: float
    chi_1: float
    chi_q: float
    chi_c: float

    @property
    def xi_q(self) -> float:
        """The depth over which a deviation of the variance falls by e; infinite at 1, negative if it
        grows.
        """
        return depth_scale(self.chi_q)

    @property
    def xi_c(self) -> float:
        """The depth over which a deviation of the correlation falls by e; negative if it grows."""
        return depth_scale(self.chi_c * self.q / self.q_next)


def depth_scale(slope: float) -> float:
    """-1 / log |slope|."""
    size = abs(slope)
    if abs(size - 1.0) < 1e-12:
        return np.inf
    return -1.0 / np.log(size) if size > 0.0 else 0.0


class BlockMap:
    """The map of a block, layers or a program, whose output has the width of its input."""

    def __init__(self, block: Layer | Written, spatial: Sequence[int] = ()) -> None:
        self.block, self.spatial = block, tuple(spatial)
        if isinstance(block, Written):
            block.require_repeatable()
            self.program, self.stages = stages_of(block)
            self.spatial = tuple(size for _, size in block.axes)
            return
        first = ("input", Dense(width_of(block), W_std=1.0))
        self.program, self.stages = emitted([first, *named_layers(block)], self.spatial)
        require_same(self.stages)

    @cached_property
    def gaussian(self) -> bool:
        """Whether the block ends in weights, so that its output is as Gaussian as its input."""
        return self.stages[-1].gaussian

    def forward(self, q: Any) -> np.ndarray:
        """q' for an array of variances."""
        flat = np.asarray(q, dtype=np.float64).reshape(-1)
        x = np.zeros((flat.size, CHANNELS))
        x[:, 0] = np.sqrt(CHANNELS * flat)
        moments = Moments(self.program, placed(x, self.spatial))
        return moments.diagonal(self.stages[-1].features).reshape(np.shape(q))

    def slopes(self, q: float, c: float = 1.0) -> Slopes:
        """The block at one variance and correlation."""
        around = q * (1.0 + STEP * np.array([0.0, 0.0, -2.0, -1.0, 1.0, 2.0]))
        x = np.zeros((6, CHANNELS))
        x[:, 0] = np.sqrt(CHANNELS * around)
        x[1] = np.sqrt(CHANNELS * q) * np.array([c, np.sqrt(max(1.0 - c * c, 0.0))])
        end, start = self.stages[-1].features, self.stages[0].features
        moments = Moments(self.program, placed(x, self.spatial), (start, end))
        forward = moments.diagonal(end)
        pair, before, after = (
            moments.second(end)[0, 1], moments.second(start, True)[:2, :2], moments.second(end, True)[:2, :2]
        )  # fmt: skip
        chi_q = (forward[2] - 8.0 * forward[3] + 8.0 * forward[4] - forward[5]) / (12.0 * STEP * q)
        root = np.sqrt(forward[0] * forward[1])
        chi_c = after[0, 1] / before[0, 1] if before[0, 1] else self._at_zero(q)
        return Slopes(
            float(q), float(c), float(forward[0]), float(pair / root) if root else 1.0,
            float(after[0, 0] / before[0, 0]), float(chi_q), float(chi_c),
        )  # fmt: skip

    def _at_zero(self, q: float) -> float:
        """The slope at c = 0, where the tangents of the two inputs do not see each other."""
        return self.slopes(q, 1e-8).chi_c

    def correlate(self, q: float, c: float) -> float:
        """c' alone."""
        return self.slopes(q, c).c_next


def stages_of(block: Written) -> tuple[Program, list[Stage]]:
    """The program of a written block on data, and what its input and its lines are."""
    program, start, rows = block.emitted(DATA, "inputs.d")
    return program, [Stage(block.argument, "input", start), *(Stage(*row) for row in rows)]


def require_same(stages: Sequence[Stage]) -> None:
    """Refuse a block that does not give what it takes."""
    start, end, last = stages[0].features, stages[-1].features, stages[-1]
    if end.axes != start.axes or end.channels != start.channels:
        raise SpecError(
            f"block: {last.place} ({last.op}) gives {_size(end)}, the block's input has {_size(start)}; "
            "a block that is repeated gives what it takes"
        )


def read_block(block: Any, spatial: Sequence[int] = ()) -> Layer | Written:
    """Layers, or a block that a program writes, whose positions are its own."""
    if isinstance(block, Layer):
        return block
    found = written(block, "block")
    if found is None:
        raise SpecError(
            f"block is {no_layer(block)}, e.g. nn.serial(nn.Tanh(), nn.Dense(64)), or a pair (x, y) of "
            "vectors of a program"
        )
    if spatial:
        raise InputError("shape: it belongs to blocks of layers; vectors of a program have axes of their own")
    return found


def layers_of(net: Layer) -> list[Layer]:
    """The layers of a series, a repeated layer as often as it is; what is between a fan-out and its join is
    one.
    """
    return [layer for _, layer in named_layers(net)]


def named_layers(net: Layer) -> list[tuple[str, Layer]]:
    """`layers_of` with the place of each, as its user counts."""
    return list(_unrolled(net, ""))


def _unrolled(net: Layer, path: str) -> Iterator[tuple[str, Layer]]:
    if isinstance(net, Serial) and net.branches() is None:
        branching: list[Layer] = []
        for k, layer in enumerate(net.layers):
            if not branching and not isinstance(layer, FanOut):
                yield from _unrolled(layer, f"{path}layers[{k}]")
                continue
            branching.append(layer)
            if isinstance(layer, FanIn):
                yield f"{path}layers[{k + 1 - len(branching)}:{k + 1}]", Serial(tuple(branching))
                branching = []
        first = len(net.layers) - len(branching)  # of branches that nothing joins
        yield from ((f"{path}layers[{first + k}]", layer) for k, layer in enumerate(branching))
    elif isinstance(net, Repeat):
        dot = "." if isinstance(net.layer, Serial) and net.layer.branches() is None else ""
        for k in range(net.n):
            yield from _unrolled(net.layer, f"{path}[{k}]{dot}")
    else:
        yield path or "net", net


def inside(net: Layer) -> Iterator[Layer]:
    """A layer and all layers that it is made of."""
    yield net
    children: tuple[Any, ...] = ()
    if isinstance(net, (Serial, Parallel)):
        children = net.layers
    else:
        values = [getattr(net, name) for name in arguments_of(net)]
        children = tuple(value for value in values if isinstance(value, Layer))
    for layer in children:
        yield from inside(layer)


def arguments_of(layer: Any) -> tuple[str, ...]:
    """The names of a layer's arguments."""
    return tuple(f.name for f in fields(layer) if f.init)


def changed(layer: Any, /, **values: Any) -> Layer:
    """The layer with other values of its arguments."""
    return replace(layer, **values)


@overload
def with_parameters(net: Written, values: Mapping[str, float]) -> Written: ...
@overload
def with_parameters(net: Layer, values: Mapping[str, float]) -> Layer: ...
def with_parameters(net: Layer | Written, values: Mapping[str, float]) -> Layer | Written:
    """The net with these arguments in every layer that has them."""
    if isinstance(net, Written):
        return net.with_parameters(values)
    if isinstance(net, (Serial, Parallel)):
        return type(net)(tuple(with_parameters(layer, values) for layer in net.layers))
    names = arguments_of(net)
    changes: dict[str, Any] = {
        name: with_parameters(getattr(net, name), values)
        for name in names
        if isinstance(getattr(net, name), Layer)
    }
    changes |= {name: value for name, value in values.items() if name in names}
    return changed(net, **changes) if changes else net


def has_parameter(net: Layer | Written, name: str) -> bool:
    """Whether some layer of a net has an argument of this name."""
    if isinstance(net, Written):
        return name in net.parameters()
    return any(name in arguments_of(layer) for layer in inside(net))


def read_free(free: Any, block: Layer | Written) -> tuple[str, ...]:
    """The names of free parameters of a block: one or two."""
    names = (free,) if isinstance(free, str) else free
    if not isinstance(names, (tuple, list)) or not all(isinstance(n, str) for n in names):
        raise InputError(
            f"free is {shown(free)}: it must be names of arguments of layers, as ('W_std', 'b_std')"
        )
    if not 1 <= len(names) <= 2 or len(set(names)) < len(names):
        raise InputError(f"free is {shown(free)}: one name or two different ones are needed")
    for name in names:
        if not has_parameter(block, name):
            if isinstance(block, Written):
                known = ", ".join(block.parameters()) or "none"
                raise InputError(f"free: the block has no matrix or vector {name!r}; it has {known}")
            raise InputError(f"free: no layer of the block has an argument {name!r}")
    return tuple(names)


WIDTHS = ("out_dim", "out_chan", "n_chan_out")
"""Names of arguments that are widths of outputs."""


def width_of(block: Layer) -> int:
    """The width that a block is tried with: the one that comes out, 64 where that is any that goes in."""
    found = _width_behind(block, None)
    return found if isinstance(found, int) else _own_width(block) or 64


def _width_behind(net: Layer, before: Any) -> Any:
    """The width behind a layer, a list between a fan-out and its join; None is that of the block's input."""
    match net:
        case Serial(layers):
            for layer in layers:
                before = _width_behind(layer, before)
            return before
        case Repeat(layer, n):
            return _width_behind(Serial((layer,) * n), before)
        case FanOut(num):
            return [before] * num
        case Parallel(layers) if isinstance(before, list) and len(before) == len(layers):
            return [_width_behind(layer, width) for layer, width in zip(layers, before, strict=True)]
        case FanInConcat() if isinstance(before, list):
            return sum(before) if all(isinstance(w, int) for w in before) else None
        case FanIn() if isinstance(before, list):
            return next((w for w in before if isinstance(w, int)), None)
    return _own_width(net) or before


def _own_width(net: Layer) -> int | None:
    """The last width that is an argument of a layer."""
    widths = [getattr(layer, name, None) for layer in inside(net) for name in WIDTHS]
    return next((w for w in reversed(widths) if isinstance(w, int)), None)


def _size(x: Any) -> str:
    sizes = "x".join(str(size) for _, size in x.axes)
    return f"{x.channels} channels" + (f" at {sizes} positions" if sizes else "")


__all__ = ["BlockMap", "Slopes", "Stage", "depth_scale", "layers_of", "with_parameters"]
