"""`tpnum.kernel` with ``against``: sums of a kernel over pairs, and their gradients.

Of sum_ij G_ij K_ij only what depends on one input is ever kept, O(N): a tile ends in sums over its rows and
its columns, and in the adjoint of its Gram matrix, which is multiplied with the data at once.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tpnum.arguments import finite_array
from tpnum.errors import InputError, LimitError
from tpnum.evaluate.general import PairValues
from tpnum.evaluate.tangents import ProfileTangents
from tpnum.lower.reverse import tape_of
from tpnum.lower.unsupported import Unsupported
from tpnum.tiles.derivatives import GeneralDerivatives, Tiles, diagonals, infinite, names_of
from tpnum.tiles.diagonal import exact_diagonals
from tpnum.tiles.pool import run
from tpnum.tiles.reverse import Adjoints
from tpnum.tiles.sinks import ArraySink

if TYPE_CHECKING:
    from tpnum.evaluate.plan import Plan
    from tpnum.evaluate.profile import ProfileValues
    from tpnum.tiles.grid import Tile

MORE = 3
"""Parameters besides: |x|^2 of rows, of columns, and products of both."""
INPUTS = ("x1", "x2")
"""Names in ``wrt`` that are inputs."""


class Part(NamedTuple):
    """What a tile adds: the value, derivatives by parameters, by |x|^2 of rows and columns, by products."""

    value: np.ndarray  # (), or (rows,)
    params: np.ndarray  # (parameters,), or (parameters, rows)
    rows: np.ndarray
    cols: np.ndarray
    grams: np.ndarray


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
            raise InputError(
                f"against: its shape is {given.shape}, but the kernel's is {shape}; "
                "give a matrix of that shape, or a vector over its columns"
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
        if self.mirrored:
            half = made.ndim // 2 - 1
            other = self.given[tile.cols, tile.rows]
            rows, cols = np.ogrid[tile.rows, tile.cols]
            other = other.transpose(1, 0, *range(2 + half, made.ndim), *range(2, 2 + half))
            made += np.where(lifted(rows < cols, made.ndim), other, 0.0)
            made[rows > cols] = 0.0
        if self.alone:
            made[np.equal(*np.ogrid[tile.rows, tile.cols])] = 0.0
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
    inputs = [name for name in names if isinstance(name, str) and name in INPUTS]
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
    names: tuple[str, ...],
    against: Against,
    dtype: np.dtype,
    n_jobs: int | None,
) -> tuple[Any, list[Any]]:
    """The contraction, and its derivatives by ``names``: the parameters of the plan, in order, and inputs."""
    (kind,) = plan.entries
    if profiles[0] is profiles[1] and "x2" in names:
        raise InputError("wrt: there is no x2 to differentiate by; x1 is both arguments of the kernel")
    if against.vector and "x2" in names:
        raise InputError("against: a vector goes with x1 and deviations; the gradient by x2 takes a matrix")
    made = _Sums(plan, profiles, kind, names, against)
    if plan.entries[kind]:
        run(made, n_jobs, None)
    value, params, gradients = made.results()
    found = iter(params)
    each = [gradients[name] if name in INPUTS else next(found) for name in names]
    if against.vector:
        return value.astype(dtype), [one.astype(dtype) for one in each]
    return float(value), [one.astype(dtype) if one.ndim else float(one) for one in each]


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
    ):
        self.plan, self.profiles, self.kind, self.against = plan, profiles, kind, against
        self.inputs = [name for name in INPUTS if name in names]
        self.count = count = len(names) - len(self.inputs)
        self.symmetric = profiles[0] is profiles[1]
        self.data = [profile.data for profile in profiles]
        lines = list(self.data[0])
        norms: list[dict[str, int]] = [{}, {}]
        if self.inputs:
            if plan.has_axes or plan.axes != ((), ()) or len(lines) != 1:
                raise LimitError(
                    "wrt: gradients by inputs are for dense layers on one array (examples, features); "
                    "this net has index axes: differentiate by its deviations"
                )
            norms = [{lines[0]: count}, {lines[0]: count + 1}]
        self.line = lines[0]
        total = count + MORE
        rows, cols = profiles
        self.sides = ProfileTangents(rows, total, norms[0]), ProfileTangents(cols, total, norms[1])
        self.general = GeneralDerivatives(plan, kind, self.sides, count + 2 if self.inputs else None)
        self.adjoints = None
        if not plan.has_axes and plan.axes == ((), ()):
            try:
                tape = tape_of(plan.entries[kind], *self.sides, inputs=bool(self.inputs), value=True)
                self.adjoints = Adjoints(tape, profiles, self.symmetric and plan.mirrored)
            except Unsupported:
                pass
        self.tiles = self.general.tiles if self.adjoints is None else self.adjoints.tiles
        sizes = profiles[0].size, profiles[1].size
        each = (sizes[0],) if against.vector else ()
        self.value = np.zeros(each)
        self.params = np.zeros((count, *each))
        self.gradients = {
            name: np.zeros(self.data[INPUTS.index(name)][self.line].shape) for name in self.inputs
        }
        self.sink = ArraySink({kind: self.value})
        self._lock = threading.Lock()
        self._order = {id(tile): k for k, tile in enumerate(self.tiles)}
        self._waiting: dict[int, list[tuple[Tile, Part]]] = {}
        self._next = 0

    def tile(self, tile: Tile) -> None:
        self.proceed()
        parts = []
        if self.adjoints is None:
            parts.append((tile, self._by_graph(tile)))
        else:
            found, missed = self._by_tape(tile)
            parts.append((tile, found))
            parts += [(piece, self._by_graph(piece)) for piece in self.adjoints.beyond(tile, missed)]
        for _, part in parts:
            if not all(np.isfinite(field).all() for field in part):
                raise infinite(self.kind)
        with self._lock:
            self._waiting[self._order[id(tile)]] = parts
            while self._next in self._waiting:
                for at, part in self._waiting.pop(self._next):
                    self._add(at, part)
                self._next += 1

    def _by_tape(self, tile: Tile) -> tuple[Part, np.ndarray]:
        assert self.adjoints is not None
        weights = self.against.weights(tile)
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
        if not self.inputs:
            return Part(value, params, np.zeros(0), np.zeros(0), np.zeros((0, 0))), missed
        return Part(
            value, params,
            np.einsum("ci,ci->i", rows[:, count], found.rows),
            np.einsum("cj,cj->j", cols[:, count + 1], found.cols),
            found.grams.sum(axis=0),
        ), missed  # fmt: skip

    def _by_graph(self, tile: Tile) -> Part:
        rows, cols = (profile for profile in self.profiles)
        values = PairValues(rows, cols, tile.rows, tile.cols, self.symmetric, self.proceed)
        weights = self.against.weights(tile)
        own = self.plan.tile(values)[self.kind] * weights
        full = self.general.block(tile, self.proceed) * weights
        over = tuple(range(1 if self.against.vector else 0, own.ndim))
        params = full[: self.count].sum(axis=tuple(1 + axis for axis in over))
        if not self.inputs:
            return Part(own.sum(axis=over), params, np.zeros(0), np.zeros(0), np.zeros((0, 0)))
        first, second, grams = full[self.count : self.count + MORE]
        return Part(own.sum(axis=over), params, first.sum(axis=1), second.sum(axis=0), grams)

    def _add(self, tile: Tile, part: Part) -> None:
        if self.against.vector:
            self.value[tile.rows] += part.value
            self.params[:, tile.rows] += part.params
        else:
            self.value += part.value
            self.params += part.params
        if not self.inputs:
            return
        x1, x2 = self.data[0][self.line][tile.rows], self.data[1][self.line][tile.cols]
        channels = x1.shape[1]
        first, second = (
            (self.gradients["x1"],) * 2 if self.symmetric else (self.gradients.get(n) for n in INPUTS)
        )
        if first is not None:
            first[tile.rows] += (part.grams @ x2 + 2.0 * part.rows[:, None] * x1) / channels
        if second is not None:
            second[tile.cols] += (part.grams.T @ x1 + 2.0 * part.cols[:, None] * x2) / channels

    def results(self) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """The value, and the derivatives by parameters and by inputs."""
        if self.against.alone:
            weights = np.array(np.diagonal(self.against.given), np.float64)
            self.value += weights @ exact_diagonals(self.plan, self.profiles[0])[self.kind]
            own = diagonals(self.plan, self.profiles[0], self.sides[0], self.kind)
            self.params += own[: self.count] @ weights
            if self.inputs:
                x = self.data[0][self.line]
                self.gradients["x1"] += (2.0 * weights * own[self.count])[:, None] * x / x.shape[1]
        return self.value, self.params, self.gradients
