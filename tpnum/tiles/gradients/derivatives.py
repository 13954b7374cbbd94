"""`tpnum.kernel` with ``wrt``: derivatives of kernels by deviations of weights and biases."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tpnum import nn
from tpnum.arguments import shown
from tpnum.ensemble.tile import SampledPlan
from tpnum.errors import InputError, LimitError
from tpnum.evaluate import labels
from tpnum.evaluate.adjoints import PairAdjoints
from tpnum.evaluate.blocks import shape as shape_of
from tpnum.evaluate.plan import Plan
from tpnum.evaluate.returns import EXAMPLES, Apart
from tpnum.evaluate.tangents import PairTangents, ProfileTangents
from tpnum.evaluate.tile import TileValues
from tpnum.jets import Jet
from tpnum.law import graph
from tpnum.law.sources import sources
from tpnum.law.stencils import Stencils
from tpnum.law.threads import Stop
from tpnum.lower.reverse import tape_of
from tpnum.lower.unsupported import Unsupported
from tpnum.lower.variances import Variances
from tpnum.nn.deviations import changed, paths_of
from tpnum.tiles.diagonal import check_range
from tpnum.tiles.extras import require_positions
from tpnum.tiles.gradients.pairs import CellDerivatives
from tpnum.tiles.gradients.reverse import Adjoints
from tpnum.tiles.grid import Tile, adjoint_side, general_side, squares
from tpnum.tiles.inputs import planned
from tpnum.tiles.pool import run
from tpnum.tiles.sinks import ArraySink, check_finite, put

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tpnum.evaluate.joint import Account
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.tiles.roads import Effort

    Sides = tuple[ProfileTangents, ProfileTangents]


LINE = 1
"""Parameters besides: one that the kernel itself is the derivative by."""


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


def by_rules(plan: Plan | SampledPlan) -> Plan:
    """A plan by rules, which can be differentiated."""
    if isinstance(plan, SampledPlan):
        raise LimitError(
            f"wrt: the kernel is sampled, since {plan.reason}; it has no derivatives here, leave wrt out"
        )
    return plan


def plan_with_slopes(
    net: Any,
    paths: list[list[str]],
    inputs: Sequence[dict[str, np.ndarray]],
    kinds: tuple[str, ...],
    more: int = 0,
) -> Plan:
    """The plan of a net whose deviations carry their derivatives, with room for ``more`` parameters.

    ``inputs`` are the arrays of rows and of columns by data line and known scalar.
    """
    shapes = [
        {name if name == "mask" else "": x.shape[1:] for name, x in one.items() if name != "pattern"}
        for one in inputs
    ]
    _, plan = planned(with_slopes(net, paths, more), shapes, kinds)
    return by_rules(plan).unrolled


def with_slopes(net: Any, paths: list[list[str]], more: int = 0) -> Any:
    """A net whose deviations carry their derivatives, with room for ``more`` parameters."""

    def carried(path: str, value: float) -> float:
        slopes = (*(1.0 if path in group else 0.0 for group in paths), *[0.0] * more)
        return Jet(value, slopes) if any(slopes) else value

    return changed(net, carried) if paths else net


def derivatives(
    plan: Plan,
    count: int,
    x1: dict[str, np.ndarray],
    x2: dict[str, np.ndarray] | None,
    shape: tuple[int, ...],
    dtype: np.dtype,
    diag: bool,
    effort: Effort,
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], Account]:
    """For every kind of the plan the kernel, of a shape, and its derivatives (parameters, *shape).

    And the account of errors, which has warned nobody yet.
    """
    account = effort.accuracy.account()
    made = {kind: np.zeros((count + LINE, *shape)) for kind in plan.entries}
    variances = Variances()
    sides = sides_of(plan, count + LINE, x1, x2, variances, account)
    tangents, rows = sides[0], sides[0].values
    for side in sides:
        require_positions(side.values)
    check_range(plan, tuple(side.values for side in sides), dtype)
    own = sides[1] is tangents and not plan.axes[0]
    for kind, entries in plan.entries.items():
        if diag:
            made[kind][...] = diagonals(plan, rows, tangents, kind)
            continue
        apart = True
        if entries:
            worker = worker_of(plan, kind, sides, made[kind], variances, dtype)
            run(worker, effort.n_jobs, effort.report)
            apart = worker.apart
        if own and apart:
            for whole, diagonal in zip(made[kind], diagonals(plan, rows, tangents, kind), strict=True):
                np.fill_diagonal(whole, diagonal)
    return {kind: (out[-1], out[:-1].astype(dtype, copy=False)) for kind, out in made.items()}, account


def sides_of(
    plan: Plan,
    count: int,
    x1: dict[str, np.ndarray],
    x2: dict[str, np.ndarray] | None,
    variances: Variances,
    account: Account | None = None,
) -> Sides:
    """The derivatives of the profiles of rows and of columns, one and the same without ``x2``."""
    rows, cols = plan.profiles(x1, x2, account, variances)
    tangents = ProfileTangents(rows, count)
    return tangents, tangents if cols is rows else ProfileTangents(cols, count)


def worker_of(
    plan: Plan, kind: str, sides: Sides, out: np.ndarray, variances: Variances, dtype: np.dtype
) -> Tiles:
    """Who fills the derivatives (parameters, N1, N2, *axes) of a kind, the last of which is the kernel.

    That has to fit a ``dtype``.
    """
    general = GeneralDerivatives(plan, kind, sides, dtype)
    own = _pooled(plan, kind)
    if plan.has_axes or plan.axes != ((), ()):
        try:
            return _ByCells(CellDerivatives(plan, kind, sides, variances), general, out, own)
        except Unsupported as why:
            return _ByGraph(general, out, str(why), not own)
    try:
        tape = tape_of(plan.entries[kind], *sides, value=True, line=sides[0].count - LINE)
    except Unsupported as why:
        return _ByGraph(general, out, str(why))
    profiles = sides[0].values, sides[1].values
    return _ByTape(Adjoints(tape, profiles, profiles[0] is profiles[1] and plan.mirrored), general, out)


def _pooled(plan: Plan, kind: str) -> bool:
    """Whether K(x, x) is a sum over pairs of positions, of which the profile pass knows no more."""
    nodes = [node for _, node, _ in plan.diagonals[0][kind]]
    while nodes:
        node = nodes.pop()
        if isinstance(node, graph.Reduced):
            return True
        if isinstance(node, graph.Polynomial):
            nodes += sources(node)
    return False


class GeneralDerivatives:
    """Tiles of derivatives by the graph's rules: backwards, where an output has axes forwards."""

    def __init__(self, plan: Plan, kind: str, sides: Sides, dtype: np.dtype):
        self.plan, self.kind, self.sides, self.dtype = plan, kind, sides, dtype
        self.profiles = sides[0].values, sides[1].values
        self.same = self.profiles[0] is self.profiles[1]
        self.forwards = plan.axes != ((), ())
        if not self.forwards:
            self.plan = plan = summed_windows(plan)
        self.side = general_side(plan) if self.forwards else adjoint_side(plan)
        counts = self.profiles[0].size, self.profiles[1].size
        self.tiles = squares(*counts, self.side, self.same and plan.mirrored)

    def block(self, tile: Tile, proceed: Callable[[], None]) -> np.ndarray:
        """(parameters, rows, columns, *axes) of a tile, the last being the kernel."""
        values = TileValues(*self.profiles, tile.rows, tile.cols, self.same, proceed)
        if self.forwards:
            return self._tangents(values)
        ends = Apart(values, self.sides, EXAMPLES)
        ones = np.ones(values.counts)
        PairAdjoints(values, self.sides[0].moving, ends).back(seeds(self.plan, self.kind, ones))
        ends.params[-1] = self.plan.blocks(values)[self.kind]
        return ends.params

    def _tangents(self, values: TileValues) -> np.ndarray:
        plan, count = self.plan, self.sides[0].count
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
        full[-1] = plan.blocks(values)[self.kind]
        return full


def summed_windows(plan: Plan) -> Plan:
    """The plan with windows and the sums over them in one, as a way back reads it."""
    stencils = Stencils()
    entries = {
        kind: tuple(replace(entry, node=stencils(entry.node)) for entry in found)
        for kind, found in plan.entries.items()
    }
    return replace(plan, entries=entries)


def seeds(plan: Plan, kind: str, weights: np.ndarray) -> list[tuple[graph.Pair, np.ndarray]]:
    """Adjoints of the nodes that a kind is the sum of, from those (rows, columns, *axes) of the kind."""
    made = []
    for entry in plan.entries[kind]:
        at = (None, None, *entry.rows, *entry.cols)
        part = weights[tuple(slice(None) if i is None else i for i in at)]
        made.append((entry.node, entry.weight * np.moveaxis(part, 1, 1 + len(entry.node.rows))))
    return made


class Tiles:
    """What workers on derivatives have in common: they look after where their tiles go themselves."""

    road, reason = "derivatives", "derivatives are asked for"
    apart = True  # an example and itself are left to the profile pass
    grain = 1 << 6
    pairs = 1 << 30
    tiles: list[Tile]
    size: tuple[int, int]  # rows and columns of a whole tile
    sink: ArraySink

    def __init__(self) -> None:
        self.stop = Stop()

    def prepare(self) -> None:
        """Nothing is left to do before the threads start."""

    def tile(self, tile: Tile) -> None:
        """Compute a tile."""
        raise NotImplementedError

    def finish(self) -> None:
        """Nothing is left to do."""


class _ByGraph(Tiles):
    """All tiles by the graph's rules."""

    def __init__(self, general: GeneralDerivatives, out: np.ndarray, reason: str, apart: bool = True):
        super().__init__()
        self.apart = apart
        self.road, self.reason = "forwards" if general.forwards else "backwards", reason
        self.general, self.out = general, out
        self.sink = ArraySink({general.kind: out})
        self.tiles, self.size = general.tiles, (general.side, general.side)

    def tile(self, tile: Tile) -> None:
        self._put(tile, self.general.block(tile, self.stop))

    def _put(self, tile: Tile, blocks: np.ndarray) -> None:
        self._check(tile, blocks)
        for out, block in zip(self.out, blocks, strict=True):
            put(out, tile, block)

    def _check(self, tile: Tile, blocks: np.ndarray) -> None:
        check_finite(blocks[-1], self.general.kind, tile, self.general.dtype)
        if not np.isfinite(blocks[:-1]).all():
            raise infinite(self.general.kind)


class _ByTape(_ByGraph):
    """By a tape; what its series do not reach, by the graph's rules."""

    grain = 1 << 16

    def __init__(self, adjoints: Adjoints, general: GeneralDerivatives, out: np.ndarray):
        super().__init__(general, out, "no variable has index axes")
        self.road = "adjoints"
        self.adjoints = adjoints
        self.tiles, self.size = adjoints.tiles, adjoints.size

    def tile(self, tile: Tile) -> None:
        self.stop()
        missed = self.adjoints.spread(tile, self.out)
        for part in self.adjoints.beyond(tile, missed):
            super().tile(part)
        self._check(tile, self.out[:, tile.rows, tile.cols])


class _ByCells(_ByGraph):
    """By cells; what their series do not reach, by the graph's rules."""

    def __init__(self, cells: CellDerivatives, general: GeneralDerivatives, out: np.ndarray, own: bool):
        super().__init__(general, out, cells.reason, cells.apart and not own)
        self.road, self.cells, self.own = "adjoints", cells, cells.apart and own
        cells.stop = self.stop
        self.tiles, self.size = cells.tiles, (cells.height, cells.width)

    def tile(self, tile: Tile) -> None:
        blocks, left = self.cells.block(tile)
        if self.own:
            both = range(max(tile.rows.start, tile.cols.start), min(tile.rows.stop, tile.cols.stop))
            left += [Tile(slice(i, i + 1), slice(i, i + 1), False) for i in both]
        for part in left:
            rows, cols = (
                slice(piece.start - whole.start, piece.stop - whole.start)
                for piece, whole in ((part.rows, tile.rows), (part.cols, tile.cols))
            )
            blocks[:, rows, cols] = self.general.block(part, self.stop)
        self._put(tile, blocks)


def infinite(kind: str) -> LimitError:
    """What is said of a derivative that is no number."""
    return LimitError(f"x1, x2: a derivative of the {kind} is not finite; scale the data")


def diagonals(plan: Plan, rows: ProfileValues, tangents: ProfileTangents, kind: str) -> np.ndarray:
    """The derivatives (parameters, N, *axes) of K(x, x) and it itself, from the profile pass."""
    program = plan.programs[0]
    own = program.vars[program.outputs[0][1]].axes
    made = np.zeros((tangents.count, rows.size, *plan.axes[0]))
    for weight, node, at in plan.diagonals[0][kind]:
        found, axes = tangents(node), rows.axes(node)
        place: tuple[Any, ...] = (slice(None), *(slice(None) if i is None else i for i in at))
        for goal, one in zip(made, () if found is None else found, strict=found is not None):
            goal[place] += weight * labels.lift(one, axes, own)
        made[-1][place] += weight * labels.lift(rows(node), axes, own)
    return made
