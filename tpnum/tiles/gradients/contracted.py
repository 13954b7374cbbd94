"""`tpnum.kernel` with ``against``: sums of a kernel over pairs, and their gradients.

Of sum_ij G_ij K_ij only what depends on one input is ever kept, O(N): a tile ends in sums over its rows and
its columns, and in the adjoint of its Gram matrix, which is multiplied with the data at once.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tpnum.arguments import finite_array, shown
from tpnum.errors import InputError, LimitError
from tpnum.evaluate.adjoints import PairAdjoints
from tpnum.evaluate.data import bind
from tpnum.evaluate.profile_adjoints import ProfileAdjoints
from tpnum.evaluate.returns import EXAMPLES, Apart, Gathered, Summed
from tpnum.evaluate.tangents import ProfileTangents
from tpnum.evaluate.tile import TileValues
from tpnum.law.moving import Moving
from tpnum.lower.reverse import tape_of
from tpnum.lower.unsupported import Unsupported
from tpnum.program.lines import Data
from tpnum.tiles.diagonal import exact_diagonals
from tpnum.tiles.gradients.cells import CellAdjoints, Squares
from tpnum.tiles.gradients.derivatives import Tiles, infinite, names_of, seeds, summed_windows
from tpnum.tiles.gradients.reverse import Adjoints
from tpnum.tiles.grid import adjoint_side, squares
from tpnum.tiles.pool import run
from tpnum.tiles.sinks import ArraySink

if TYPE_CHECKING:
    from tpnum.evaluate.plan import Plan
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.lower.variances import Variances
    from tpnum.tiles.grid import Tile

MORE = 2
"""Parameters besides: |x|^2 of rows and of columns."""
INPUTS = ("x1", "x2")
"""Names in ``wrt`` that are inputs."""


class Part(NamedTuple):
    """What a tile adds: the value, derivatives by parameters, and what its rows and its columns gather."""

    value: np.ndarray  # (), or (rows,)
    params: np.ndarray  # (parameters,), or (parameters, rows)
    sides: tuple[Gathered, Gathered]


@dataclass(frozen=True)
class Against:
    """What kernels are contracted with: a matrix G over all pairs, or a vector over the columns."""

    given: np.ndarray
    mirrored: bool
    alone: bool

    @classmethod
    def of(cls, against: Any, shape: tuple[int, ...], symmetric: bool, mirrored: bool) -> Against:
        """Checked against the shape of the kernel.

        Of a ``symmetric`` one the diagonal comes from elsewhere where it has no more axes; if it is
        ``mirrored`` its tiles lie above the diagonal.
        """
        given = against if isinstance(against, np.memmap) else finite_array(against, "against")
        if given.shape == shape[1:2] and len(shape) == 2:
            if symmetric:
                raise InputError(
                    "against: a vector is for the columns of a kernel of x1 and x2; give x2, or a matrix"
                )
        elif given.shape != shape:
            more = ", or a vector over its columns" if len(shape) == 2 else ""
            raise InputError(
                f"against: its shape is {given.shape}, but the kernel's is {shape}; "
                f"give a matrix of that shape{more}"
            )
        return cls(given, symmetric and mirrored, symmetric and len(shape) == 2)

    @property
    def vector(self) -> bool:
        return self.given.ndim == 1

    def weights(self, tile: Tile) -> np.ndarray:
        """Of the pairs of a tile; of a mirrored matrix both places, above the diagonal."""
        if self.vector:
            return np.tile(
                np.asarray(self.given[tile.cols], np.float64), (tile.rows.stop - tile.rows.start, 1)
            )
        made = np.array(self.given[tile.rows, tile.cols], np.float64)
        corner = slice(0, max(0, tile.rows.stop - tile.cols.start))  # columns that are not all above
        rows, cols = np.ogrid[tile.rows, tile.cols]
        cols = cols[:, corner]
        if self.mirrored:
            half = made.ndim // 2 - 1
            other = self.given[tile.cols, tile.rows]
            other = other.transpose(1, 0, *range(2 + half, made.ndim), *range(2, 2 + half))
            made[:, corner.stop :] += other[:, corner.stop :]
            made[:, corner] += np.where(lifted(rows < cols, made.ndim), other[:, corner], 0.0)
            made[:, corner][rows > cols] = 0.0
        if self.alone:
            made[:, corner][rows == cols] = 0.0
        return made


def lifted(mask: np.ndarray, ndim: int) -> np.ndarray:
    """A mask of pairs for blocks with more axes."""
    return mask.reshape(*mask.shape, *(1,) * (ndim - 2))


def asked_of(
    net: Any, wrt: Any, against: Any, kinds: tuple[str, ...], diag: bool
) -> tuple[tuple[str, ...], list[list[str]]]:
    """The names of ``wrt``, and the paths that those stand for which are no inputs."""
    if against is not None and (wrt is None or len(kinds) > 1 or diag):
        raise InputError(
            "against: it contracts the derivatives of one kernel: ask for one kind, say by what with wrt, "
            "and leave out diag"
        )
    if wrt is None:
        return (), []
    names = (wrt,) if isinstance(wrt, str) else tuple(wrt) if isinstance(wrt, (tuple, list)) else ()
    texts = [name for name in names if isinstance(name, str)]
    for name in texts:
        if texts.count(name) > 1:
            raise InputError(f"wrt: {shown(name)} is named twice; name it once")
    inputs = [name for name in texts if name in INPUTS]
    if inputs and against is None:
        raise InputError(
            f"wrt: a derivative by {inputs[0]} has entries for every pair and feature; contract it, by "
            "against= a matrix of the kernel's shape or a vector over its columns"
        )
    parameters = tuple(name for name in names if name not in inputs)
    return names, names_of(net, parameters if inputs else wrt) if parameters or not inputs else []


def contracted(
    plan: Plan,
    profiles: tuple[ProfileValues, ProfileValues],
    inputs: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
    names: tuple[str, ...],
    against: Against,
    dtype: np.dtype,
    n_jobs: int | None,
    variances: Variances,
) -> tuple[Any, list[Any]]:
    """The contraction, and its derivatives by ``names``: the parameters of the plan, in order, and inputs.

    ``inputs`` are the arrays of either side by data line of the program as it was written.
    """
    (kind,) = plan.entries
    if profiles[0] is profiles[1] and "x2" in names:
        raise InputError("wrt: there is no x2 to differentiate by; x1 is both arguments of the kernel")
    if against.vector and "x2" in names:
        raise InputError("against: a vector goes with x1 and deviations; the gradient by x2 takes a matrix")
    made = _Sums(plan, profiles, kind, names, against, _Gradients(plan, inputs, names), variances)
    if plan.entries[kind]:
        run(made, n_jobs, None)
    value, params, gradients = made.results()
    found = iter(params)
    each = [gradients[name] if name in INPUTS else next(found) for name in names]
    if against.vector:
        return value.astype(dtype), [one.astype(dtype) for one in each]
    return float(value), [one.astype(dtype) if one.ndim else float(one) for one in each]


class _Gradients:
    """Arrays like x1 and x2 that gather derivatives by them, and their parts by data line of the plan."""

    def __init__(
        self, plan: Plan, inputs: tuple[dict[str, np.ndarray], dict[str, np.ndarray]], names: tuple[str, ...]
    ):
        self.names = [name for name in INPUTS if name in names]
        self.arrays: dict[str, np.ndarray] = {}
        self.masks: dict[str, np.ndarray | None] = {}
        self.lines: list[dict[str, np.ndarray]] = [{}, {}]
        for name in self.names:
            side = INPUTS.index(name)
            program = plan.written[side]
            data = [line.name for line in program.lines if isinstance(line, Data)]
            if len(data) != 1:
                raise LimitError(
                    f"wrt: gradients by inputs are for programs with one data line; this one has {len(data)}"
                )
            whole = {line: np.zeros(x.shape) for line, x in inputs[side].items()}
            self.arrays[name] = whole[data[0]]
            self.lines[side] = bind(plan.programs[side], whole)
            self.masks[name] = inputs[side].get("mask")

    def results(self) -> dict[str, np.ndarray]:
        """The gradients by name; padding is no input."""
        for name, mask in self.masks.items():
            if mask is not None:
                self.arrays[name] *= mask[..., None]
        return self.arrays


class _Sums(Tiles):
    """A worker whose tiles are added up in their order, whoever was first."""

    grain = 1 << 16

    def __init__(
        self,
        plan: Plan,
        profiles: tuple[ProfileValues, ProfileValues],
        kind: str,
        names: tuple[str, ...],
        against: Against,
        gradients: _Gradients,
        variances: Variances,
    ):
        super().__init__()
        self.plan, self.profiles, self.kind, self.against = plan, profiles, kind, against
        self.gradients, self.inputs = gradients, bool(gradients.names)
        self.count = count = len(names) - len(gradients.names)
        total = count + MORE  # slopes of the plan's jets
        self.symmetric = profiles[0] is profiles[1]
        self.moving = Moving(self.inputs)
        self.adjoints: Adjoints | None = None
        self.cells: CellAdjoints | None = None
        self.tangents: tuple[ProfileTangents, ProfileTangents] | None = None
        (self.line, *more) = profiles[0].data
        if not plan.has_axes and plan.axes == ((), ()) and not (self.inputs and more):
            self._write_tape(total)
        elif against.vector:
            self.tangents = self._tangents(total)
        else:
            try:
                self.cells = CellAdjoints(plan, profiles, variances, self.moving, total, against.alone)
                self.cells.stop = self.stop
                self.against = replace(against, alone=self.cells.apart)  # else they are a pair like others
            except Unsupported:
                pass
        if self.adjoints is None:
            self.plan = plan = summed_windows(plan)
        same = self.symmetric and plan.mirrored
        sizes = profiles[0].size, profiles[1].size
        compiled = self.adjoints or self.cells
        self.tiles = squares(*sizes, adjoint_side(plan), same) if compiled is None else compiled.tiles
        lines = gradients.lines
        first = ProfileAdjoints(profiles[0], self.moving, total, lines[0])
        second = first if self.symmetric else ProfileAdjoints(profiles[1], self.moving, total, lines[1])
        self.sides = first, second
        for one in self.sides:
            one.proceed = self.stop
            one.squares = None if self.cells is None else Squares(self.cells.plan, variances, self.moving)
        each = (sizes[0],) if against.vector else ()
        self.value, self.params = np.zeros(each), np.zeros((count, *each))
        self.sink = ArraySink({kind: self.value})
        self._lock = threading.Lock()
        self._order = {id(tile): k for k, tile in enumerate(self.tiles)}
        self._waiting: dict[int, list[tuple[Tile, Part]]] = {}
        self._next = 0

    def _tangents(
        self, total: int, norms: tuple[int, int] | None = None
    ) -> tuple[ProfileTangents, ProfileTangents]:
        """Of rows and of columns; ``norms`` are the numbers of |x|^2 among the parameters."""
        named = [{self.line: number} for number in norms] if norms is not None else [None, None]
        rows, cols = self.profiles
        return ProfileTangents(rows, total, named[0]), ProfileTangents(cols, total, named[1])

    def _write_tape(self, total: int) -> None:
        self.tangents = self._tangents(total, (self.count, self.count + 1) if self.inputs else None)
        try:
            tape = tape_of(self.plan.entries[self.kind], *self.tangents, inputs=self.inputs, value=True)
            self.adjoints = Adjoints(tape, self.profiles, self.symmetric and self.plan.mirrored)
        except Unsupported:
            pass

    def tile(self, tile: Tile) -> None:
        self.stop()
        weights = self.against.weights(tile)
        parts: list[tuple[Tile, Part]] = []
        if not weights.any():  # as of all tiles but those on the diagonal, where it is asked for alone
            pass
        elif self.cells is not None:
            value, params, sides, left = self.cells.contract(tile, weights)
            parts.append((tile, Part(value, params[: self.count], sides)))
            parts += [(piece, self._by_graph(piece)) for piece in left]
        elif self.adjoints is None:
            parts.append((tile, self._by_graph(tile)))
        else:
            found, missed = self._by_tape(tile, weights)
            parts.append((tile, found))
            parts += [(piece, self._by_graph(piece)) for piece in self.adjoints.beyond(tile, missed)]
        for _, part in parts:
            if not (np.isfinite(part.value).all() and np.isfinite(part.params).all() and _finite(part.sides)):
                raise infinite(self.kind)
        with self._lock:
            self._waiting[self._order[id(tile)]] = parts
            while self._next in self._waiting:
                for at, part in self._waiting.pop(self._next):
                    self._add(at, part)
                self._next += 1

    def _by_tape(self, tile: Tile, weights: np.ndarray) -> tuple[Part, np.ndarray]:
        assert self.adjoints is not None
        channels, count = self.adjoints.tape.channels, self.count
        found, missed = self.adjoints.contract(tile, weights)
        rows, cols = channels.rows[:, :, tile.rows], channels.cols[:, :, tile.cols]
        value = found.rows[channels.value]
        if self.against.vector:
            params = self.adjoints.summed(tile, weights)[:count]
        else:
            value = value.sum()
            params = np.einsum("cpi,ci->p", rows[:, :count], found.rows)
            params += np.einsum("cpj,cj->p", cols[:, :count], found.cols)
        sides = Gathered(), Gathered()
        if self.inputs:
            x1, x2 = (p.data[self.line] for p in self.profiles)
            x1, x2 = x1[tile.rows], x2[tile.cols]
            grams = found.grams.sum(axis=0)
            first = np.einsum("ci,ci->i", rows[:, count], found.rows)
            second = np.einsum("cj,cj->j", cols[:, count + 1], found.cols)
            sides[0].add_data(self.line, (grams @ x2 + 2.0 * first[:, None] * x1) / x1.shape[1])
            sides[1].add_data(self.line, (grams.T @ x1 + 2.0 * second[:, None] * x2) / x1.shape[1])
        return Part(value, params, sides), missed

    def _by_graph(self, tile: Tile) -> Part:
        rows, cols = self.profiles
        values = TileValues(rows, cols, tile.rows, tile.cols, self.symmetric, self.stop)
        weights = self.against.weights(tile)
        ends: Summed | Apart
        if self.against.vector:
            assert self.tangents is not None
            ends = Apart(values, self.tangents, EXAMPLES[:1])
        else:
            ends = Summed(values, self.count + MORE)
        PairAdjoints(values, self.moving, ends).back(seeds(self.plan, self.kind, weights))
        own = self.plan.blocks(values)[self.kind] * weights
        value = own.sum(axis=tuple(range(1 if self.against.vector else 0, own.ndim)))
        return Part(value, ends.params[: self.count], ends.sides)

    def _add(self, tile: Tile, part: Part) -> None:
        if self.against.vector:
            self.value[tile.rows] += part.value
            self.params[:, tile.rows] += part.params
        else:
            self.value += part.value
            self.params += part.params
        for side, gathered, at in zip(self.sides, part.sides, (tile.rows, tile.cols), strict=True):
            side.take(gathered, at)

    def results(self) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """The value, and the derivatives by parameters and by inputs."""
        if self.against.alone:
            weights = np.array(np.diagonal(self.against.given), np.float64)
            self.value += weights @ exact_diagonals(self.plan, self.profiles[0])[self.kind]
            for weight, node, _ in self.plan.diagonals[0][self.kind]:
                self.sides[0].add(node, weight * weights)
        for side in dict.fromkeys(self.sides):
            side.back()
            if not self.against.vector:
                self.params += side.params[: self.count]
        gradients = self.gradients.results()
        if not all(np.isfinite(one).all() for one in (self.params, *gradients.values())):
            raise infinite(self.kind)
        return self.value, self.params, gradients


def _finite(sides: tuple[Gathered, Gathered]) -> bool:
    return all(
        np.isfinite(bar).all()
        for side in sides
        for bar in (*side.data.values(), *(bar for _, bar in side.bars.values()))
    )
