"""`tpnum.kernel` with ``wrt``: derivatives of kernels by deviations of weights and biases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tpnum import nn
from tpnum.arguments import shown
from tpnum.errors import InputError, LimitError
from tpnum.evaluate import labels
from tpnum.evaluate.blocks import shape as shape_of
from tpnum.evaluate.general import PairValues
from tpnum.evaluate.plan import Plan, make_plan
from tpnum.evaluate.tangents import PairTangents, ProfileTangents
from tpnum.jets import Jet
from tpnum.lower.compiler import Unsupported
from tpnum.lower.reverse import tape_of
from tpnum.nn.deviations import changed, paths_of
from tpnum.tiles.grid import Tile, general_side, squares
from tpnum.tiles.pool import Stopped, run
from tpnum.tiles.reverse import Adjoints
from tpnum.tiles.sinks import ArraySink, put

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpnum.evaluate.profile import ProfileValues
    from tpnum.lower.variances import Variances
    from tpnum.tiles.pool import Worker


class Derivatives(NamedTuple):
    """A kernel and its derivatives: arrays, or tuples of them by kind.

    ``derivatives`` is (parameters, *kernel.shape), without the first axis where ``wrt`` was one name.
    """

    kernel: Any
    derivatives: Any


def names_of(net: Any, wrt: Any) -> list[list[str]]:
    """The paths that every name of ``wrt`` stands for."""
    if not isinstance(net, nn.Layer):
        raise InputError("wrt: derivatives are by deviations of a net of layers, net is a Program")
    names = [wrt] if isinstance(wrt, str) else list(wrt) if isinstance(wrt, (tuple, list)) else []
    if not names:
        raise InputError(f"wrt is {shown(wrt)}: it must be a name like 'W_std', a path, or a tuple of them")
    try:
        return [paths_of(net, name) for name in names]
    except InputError as problem:
        raise InputError(f"wrt: {problem}") from None


def plan_with_slopes(
    net: Any, paths: list[list[str]], shapes: Sequence[tuple[int, ...]], kinds: tuple[str, ...]
) -> Plan:
    """The plan of a net whose deviations carry their derivatives."""

    def carried(path: str, value: float) -> float:
        slopes = tuple(1.0 if path in group else 0.0 for group in paths)
        return Jet(value, slopes) if any(slopes) else value

    jets = changed(net, carried)
    first = nn.program(jets, shapes[0])
    second = first if shapes[0] == shapes[1] else nn.program(jets, shapes[1])
    return make_plan((first, second), kinds).unrolled


def derivatives(
    plan: Plan,
    count: int,
    x1: dict[str, np.ndarray],
    x2: dict[str, np.ndarray] | None,
    shape: tuple[int, ...],
    dtype: np.dtype,
    variances: Variances,
    diag: bool,
    n_jobs: int | None,
) -> dict[str, np.ndarray]:
    """(parameters, *shape) for every kind of the plan."""
    made = {kind: np.zeros((count, *shape), dtype) for kind in plan.entries}
    rows, cols = plan.profiles(x1, x2, None, variances)
    tangents = ProfileTangents(rows, count)
    sides = tangents, tangents if cols is rows else ProfileTangents(cols, count)
    if diag:
        _fill_diagonal(plan, rows, tangents, made)
        return made
    for kind, entries in plan.entries.items():
        worker = _worker(plan, kind, sides, made[kind]) if entries else None
        if worker is not None:
            run(worker, n_jobs, None)
    if rows is cols and not plan.axes[0]:
        own = {kind: np.zeros((count, rows.size)) for kind in made}
        _fill_diagonal(plan, rows, tangents, own)
        for kind, out in made.items():
            for whole, diagonal in zip(out, own[kind], strict=True):
                np.fill_diagonal(whole, diagonal)
    return made


def _worker(
    plan: Plan, kind: str, sides: tuple[ProfileTangents, ProfileTangents], out: np.ndarray
) -> Worker:
    symmetric = sides[0] is sides[1] and plan.mirrored
    general = _General(plan, kind, sides, out)
    if plan.has_axes or plan.axes != ((), ()):
        return general
    try:
        tape = tape_of(plan.entries[kind], *sides, inputs=False)
    except Unsupported:
        return general
    return _Compiled(Adjoints(tape, (sides[0].values, sides[1].values), symmetric), general)


class _Tiles:
    """What workers on derivatives have in common: tiles into arrays that are there already."""

    reason = ""
    pairs = 1 << 30
    stopped = False
    tiles: list[Tile]

    def __init__(self, kinds: str, out: np.ndarray):
        self.out = out
        self.sink = ArraySink({kinds: out})

    def prepare(self) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

    def proceed(self) -> None:
        if self.stopped:
            raise Stopped


class _General(_Tiles):
    """By the graph's rules on square tiles."""

    road, grain = "general", 1 << 6

    def __init__(
        self, plan: Plan, kind: str, sides: tuple[ProfileTangents, ProfileTangents], out: np.ndarray
    ):
        super().__init__(kind, out)
        self.plan, self.kind, self.sides = plan, kind, sides
        rows, cols = (side.values for side in sides)
        self.same = rows is cols
        self.tiles = squares(rows.size, cols.size, general_side(plan), self.same and plan.mirrored)

    def tile(self, tile: Tile) -> None:
        put_each(self.out, tile, self.block(tile), self.kind)

    def block(self, tile: Tile) -> np.ndarray:
        """(parameters, rows, columns, *axes) of a tile."""
        plan, count = self.plan, self.sides[0].count
        rows, cols = (side.values for side in self.sides)
        values = PairValues(rows, cols, tile.rows, tile.cols, self.same, self.proceed)
        moves = PairTangents(values, *self.sides)
        full = np.zeros((count, *values.counts, *plan.axes[0], *plan.axes[1]))
        for entry in plan.entries[self.kind]:
            found = moves(entry.node)
            if found is None:
                continue
            block = np.broadcast_to(found, (count, *shape_of(entry.node, *values.counts)))
            turned = np.moveaxis(block, 2 + len(entry.node.rows), 2)
            at = (None, None, None, *entry.rows, *entry.cols)
            full[tuple(slice(None) if i is None else i for i in at)] += entry.weight * turned
        return full


class _Compiled(_Tiles):
    """By a tape; what its series do not reach, by the graph's rules."""

    road, grain = "machine", 1 << 16

    def __init__(self, adjoints: Adjoints, general: _General):
        super().__init__(general.kind, general.out)
        self.adjoints, self.general = adjoints, general
        self.tiles = adjoints.tiles

    def tile(self, tile: Tile) -> None:
        self.proceed()
        missed = self.adjoints.spread(tile, self.out)
        for part in self.adjoints.beyond(tile, missed):
            put_each(self.out, part, self.general.block(part), self.general.kind)
        if not np.isfinite(self.out[:, tile.rows, tile.cols]).all():
            raise _infinite(self.general.kind)


def put_each(outs: np.ndarray, tile: Tile, blocks: np.ndarray, kind: str) -> None:
    """Put a tile of every derivative."""
    if not np.isfinite(blocks).all():
        raise _infinite(kind)
    for out, block in zip(outs, blocks, strict=True):
        put(out, tile, block)


def _infinite(kind: str) -> LimitError:
    return LimitError(f"x1, x2: a derivative of the {kind} is not finite; scale the data")


def _fill_diagonal(
    plan: Plan, rows: ProfileValues, tangents: ProfileTangents, made: dict[str, np.ndarray]
) -> None:
    program = plan.programs[0]
    own = program.vars[program.outputs[0][1]].axes
    for kind, out in made.items():
        for weight, node, at in plan.diagonals[0][kind]:
            found = tangents(node)
            if found is not None:
                place: tuple[Any, ...] = (slice(None), *(slice(None) if i is None else i for i in at))
                for goal, one in zip(out, found, strict=True):
                    goal[place] += weight * labels.lift(one, rows.axes(node), own)
