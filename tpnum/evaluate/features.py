"""Random features: the moment graph read as inner products, one rule per node.

A node K(x, x') that treats both inputs alike is f(x) . f(x') of features f of one input.  Data are their
own features; sums are longer vectors, products are tensor products; the expectation of a nonlinearity is
what it is at random directions, or its Hermite series.  Vectors that got too long are hashed (count
sketch), tensor products are never formed (tensor sketch): both keep inner products in the mean.
"""

from __future__ import annotations

from functools import singledispatchmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tpnum.errors import LimitError
from tpnum.evaluate import labels
from tpnum.law import graph
from tpnum.law.worklist import postorder

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tpnum.evaluate.profile import ProfileValues
    from tpnum.functions import Function
    from tpnum.program.lines import Axes

DIRECTIONS, SERIES = "directions", "series"
METHODS = (DIRECTIONS, SERIES)
DEGREES = 32
"""Of the Hermite series."""
ORTHOGONAL = 1 << 10
"""Dimensions up to which directions are made orthogonal: it takes their cube."""


class Draws:
    """Random numbers by name: the same ones for all data, whenever they are asked for."""

    def __init__(self, seed: int):
        self.seed = seed
        self._kept: dict[Hashable, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Draws, (self.seed,)

    def _generator(self, *name: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *name])

    def directions(self, name: int, size: int, count: int) -> np.ndarray:
        """Standard Gaussian vectors as columns, orthogonal to each other ``size`` by ``size``."""
        key = "directions", name, size, count
        if key not in self._kept:
            rng = self._generator(0, name)
            made = rng.standard_normal((size, count))
            for start in range(0, count if size <= ORTHOGONAL else 0, size):
                block = made[:, start : start + size]
                lengths = np.linalg.norm(rng.standard_normal((size, block.shape[1])), axis=0)
                q, r = np.linalg.qr(block)
                made[:, start : start + size] = q * (np.copysign(1.0, np.diag(r)) * lengths)
            self._kept[key] = made
        return self._kept[key]

    def hashed(self, f: np.ndarray, count: int, *name: int) -> np.ndarray:
        """The count sketch of vectors along the last axis: each entry is added, its sign drawn, somewhere."""
        from scipy.sparse import csr_array

        size = f.shape[-1]
        key = "hash", name, size, count
        if key not in self._kept:
            rng = self._generator(1, *name)
            signs, places = rng.choice([-1.0, 1.0], size), rng.integers(count, size=size)
            self._kept[key] = csr_array((signs, (places, np.arange(size))), shape=(count, size))
        flat = f.reshape(-1, size)
        return np.ascontiguousarray((self._kept[key] @ flat.T).T).reshape(*f.shape[:-1], count)

    def shorter(self, f: np.ndarray, count: int, *name: int) -> np.ndarray:
        """Vectors of at most ``count`` entries with the inner products, in the mean, of longer ones."""
        return f if f.shape[-1] <= count else self.hashed(f, count, *name)

    def product(self, f: np.ndarray, g: np.ndarray, count: int, *name: int) -> np.ndarray:
        """The tensor sketch of f (x) g: a convolution of their count sketches."""
        if f.shape[-1] * g.shape[-1] <= count:
            both = f[..., :, None] * g[..., None, :]
            return both.reshape(*both.shape[:-2], -1)
        from scipy.fft import irfft, rfft

        left, right = (rfft(self.hashed(h, count, *name, k)) for k, h in enumerate((f, g)))
        return np.asarray(irfft(left * right, count))


class NodeFeatures:
    """Features (N, *axes, at most ``count``) of pair nodes at the inputs of a profile pass.

    Random numbers of a node go by its place in ``order``, in which nodes are listed behind their operands.
    """

    def __init__(self, values: ProfileValues, order: list[graph.Pair], count: int, method: str, draws: Draws):
        self.values, self.count, self.method, self.draws = values, count, method, draws
        self._names = {id(node): k for k, node in enumerate(order)}
        self._readers = {id(node): 0 for node in order}
        for node in order:
            for operand in graph.operands(node):
                self._readers[id(operand)] += 1
        self._calls: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._memo: dict[int, np.ndarray] = {}

    def __call__(self, node: graph.Pair) -> np.ndarray:
        """Of an output; what it stands on is dropped behind its last reader."""
        for one in postorder([node], graph.operands, id, self._memo):
            if axes_of(one) is None:
                raise LimitError(f"{UNLIKE}: positions of the two inputs are treated differently")
            self._memo[id(one)] = self._compute(one)
            for operand in graph.operands(one):
                self._readers[id(operand)] -= 1
                if not self._readers[id(operand)]:
                    self._memo.pop(id(operand), None)
        return self._memo[id(node)]

    def _of(self, node: graph.Pair, frame: Axes) -> np.ndarray:
        """An operand's features with the axes of ``frame``."""
        own = axes_of(node)
        assert own is not None
        target: list[Hashable] = ["", *(name for name, _ in frame), None]
        return labels.align(self._memo[id(node)], ["", *(name for name, _ in own), None], target)

    def _profile(self, node: graph.Profile, frame: Axes) -> np.ndarray:
        return self.values.along(node, frame)[..., None]

    @singledispatchmethod
    def _compute(self, node: graph.Pair) -> np.ndarray:
        raise LimitError(f"{UNLIKE}: it takes a {type(node).__name__} of both inputs")

    @_compute.register
    def _(self, node: graph.Gram) -> np.ndarray:
        if node.data[0] != node.data[1]:
            raise LimitError(f"{UNLIKE}: {node.data[0]} meets {node.data[1]}")
        x = self.values.data[node.data[0]].astype(np.float64)
        own = self.values.site.lines.axes(node.data[0])
        frame = axes_of(node) or ()
        dims: list[Hashable] = ["", *(name for name, _ in own), None]
        return labels.align(x / np.sqrt(x.shape[-1]), dims, ["", *(name for name, _ in frame), None])

    @_compute.register
    def _(self, node: graph.Shared) -> np.ndarray:
        return np.full((1,) * (2 + len(axes_of(node) or ())), np.sqrt(node.value))

    @_compute.register
    def _(self, node: graph.Sum) -> np.ndarray:
        frame, name = axes_of(node) or (), self._names[id(node)]
        made = []
        for k, part in enumerate(node.parts):
            alike = [p.key for p in part.rows] == [p.key for p in part.cols]
            if not alike or part.coef < 0:
                raise LimitError(f"{UNLIKE}: a sum has terms that are not squares, as x + f(x) has")
            f = np.full((1,) * (2 + len(frame)), np.sqrt(part.coef))
            for j, pair in enumerate(part.pairs):
                f = self.draws.product(f, self._of(pair, frame), self.count, name, k, j)
            for factor in part.rows:
                f = f * self._profile(factor, frame)
            made.append(f)
        if len(made) == 1:
            return made[0]
        shape = np.broadcast_shapes(*(f.shape[:-1] for f in made))
        whole = np.concatenate([np.broadcast_to(f, (*shape, f.shape[-1])) for f in made], axis=-1)
        return self.draws.shorter(whole, self.count, name)

    # -- nonlinearities ----------------------------------------------------------------------------

    @_compute.register
    def _(self, node: graph.Dual) -> np.ndarray:
        call, frame = node.call, axes_of(node) or ()
        if not call.own:
            raise LimitError(f"{UNLIKE}: {call.f} at one input meets {call.g} at the other")
        f = self._of(call.cov, frame)
        var = self._profile(call.vars[0], frame)
        # the norms are known: nothing that the layers below have drawn needs to stay in them
        norm = np.linalg.norm(f, axis=-1, keepdims=True)
        unit = np.divide(f, norm, out=np.zeros(np.broadcast_shapes(f.shape, norm.shape)), where=norm > 0)
        mean = None if call.means[0] is None else self._profile(call.means[0], frame)
        name = min(self._names[id(n)] for n in (node, call.cov))
        make = self._directions if self.method == DIRECTIONS else self._series
        return make(node, _Inputs(unit, var, mean, frame, name))

    def _directions(self, node: graph.Dual, x: _Inputs) -> np.ndarray:
        """The function at Gaussian directions: a wide layer, drawn once."""
        z = np.sqrt(x.var) * (x.unit @ self.draws.directions(x.name, x.unit.shape[-1], self.count))
        if x.mean is not None:
            z = z + x.mean
        fn = node.call.f.derivative() if node.what == "slope" else node.call.f
        given = [np.broadcast_to(self._profile(s, x.frame), z.shape) for s in node.call.f_scalars]
        return np.asarray(fn(z, *given)) / np.sqrt(self.count)

    def _series(self, node: graph.Dual, x: _Inputs) -> np.ndarray:
        """sum_k a_k u^(x k): every power is sketched from the one before it, as in a product of two."""
        fn, unit, name = node.call.f, x.unit, x.name
        if node.call.f_scalars:
            raise LimitError(f"{UNLIKE}: the Hermite series of {fn} changes with scalars of the input")
        mean = None if x.mean is None else x.mean[..., 0]
        a = _coefficients(fn, node.what == "slope", x.var[..., 0], mean)
        shape = np.broadcast_shapes(unit.shape[:-1], a.shape[:-1])
        made = np.zeros((*shape, self.count))
        made[..., 0] = a[..., 0]
        rest = max(1, self.count - 1)
        power = self.draws.hashed(unit, rest, name, 1)
        for k in range(1, DEGREES):
            if k > 1:
                power = self.draws.product(power, unit, rest, name, k)
            made[..., -rest:] += a[..., k, None] * power
        return made

    # -- index maps --------------------------------------------------------------------------------

    @_compute.register
    def _(self, node: graph.Mapped) -> np.ndarray:
        rows, cols = node.row_map, node.col_map
        if rows is None or cols is None or (rows.axis, rows.out, rows.rows) != (
            cols.axis, cols.out, cols.rows,
        ):  # fmt: skip
            raise LimitError(f"{UNLIKE}: positions of the two inputs are mapped differently")
        own = axes_of(node.operand) or ()
        f = self._memo[id(node.operand)]
        place = 1 + [name for name, _ in own].index(rows.axis)
        size = own[place - 1][1]
        f = np.broadcast_to(f, (*f.shape[:place], size, *f.shape[place + 1 :]))
        if rows.axis in dict(node.operand.tied) and any(len(row) > 1 for row in rows.rows):
            f = self._apart(f, place, node)
        made = labels.apply_map(rows, f, place)
        new = [*own[: place - 1], *rows.out, *own[place:]]
        dims: list[Hashable] = ["", *(name for name, _ in new), None]
        return labels.align(made, dims, ["", *(name for name, _ in axes_of(node) or ()), None])

    def _apart(self, f: np.ndarray, place: int, node: graph.Pair) -> np.ndarray:
        """Features whose inner products vanish between positions of an axis, if only in the mean."""
        name, size, length = self._names[id(node)], f.shape[place], f.shape[-1]
        parts = np.moveaxis(f, place, 0)
        if size * length <= self.count:
            made = np.zeros((*parts.shape[:-1], size * length))
            for p, part in enumerate(parts):
                made[p, ..., p * length : (p + 1) * length] = part
        else:
            made = np.stack([self.draws.hashed(part, self.count, name, p) for p, part in enumerate(parts)])
        return np.moveaxis(made, 0, place)

    @_compute.register
    def _(self, node: graph.Embedded) -> np.ndarray:
        f, frame = self._of(node.operand, axes_of(node) or ()), axes_of(node) or ()
        names = [name for name, _ in frame]
        for name, size in node.axes:
            place = 1 + names.index(name)
            f = np.broadcast_to(f, (*f.shape[:place], size, *f.shape[place + 1 :]))
            f = self._apart(f, place, node)
        return f

    @_compute.register
    def _(self, node: graph.Diagonal) -> np.ndarray:
        return self._of(node.operand, axes_of(node) or ())


class _Inputs(NamedTuple):
    """What a nonlinearity reads: unit vectors of features, the variance and mean of its Gaussians."""

    unit: np.ndarray
    var: np.ndarray
    mean: np.ndarray | None
    frame: Axes  # the axes of all of them
    name: int  # of the random numbers


UNLIKE = "net: it has no random features (tpnum.factor has some for any net)"


def axes_of(node: graph.Pair) -> Axes | None:
    """The axes that features of a node have; None if the two inputs have different ones."""
    return (*node.tied, *node.rows) if node.rows == node.cols else None


def _coefficients(f: Function, slope: bool, var: np.ndarray, mean: np.ndarray | None) -> np.ndarray:
    """Of f, or of f', in Hermite polynomials of unit norm: (*shape of var, DEGREES)."""
    from tpnum.gauss.hermite import coefficients

    shape = np.broadcast_shapes(var.shape, () if mean is None else mean.shape)
    rows = np.stack([np.broadcast_to(0.0 if mean is None else mean, shape).ravel(),
                     np.broadcast_to(var, shape).ravel()], axis=1)  # fmt: skip
    distinct, at = np.unique(rows, axis=0, return_inverse=True)
    m, q = np.ascontiguousarray(distinct[:, 0]), np.ascontiguousarray(distinct[:, 1])
    _, value, steep, _ = coefficients(f, m, q, DEGREES + 1)
    if slope and steep is not None:
        value = steep
    elif slope:
        root = np.sqrt(q)[:, None]
        value = value[:, 1:] * np.sqrt(np.arange(1, DEGREES + 1))
        value = np.divide(value, root, out=np.zeros_like(value), where=root > 0)
    return value[:, :DEGREES][at.ravel()].reshape(*shape, DEGREES)
