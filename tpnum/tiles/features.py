"""`tpnum.random_features`: vectors whose inner products are close to a kernel, in time linear in examples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import choice, shown, whole
from tpnum.ensemble.tile import SampledPlan
from tpnum.errors import InputError, LimitError, require_memory
from tpnum.evaluate.features import DIRECTIONS, METHODS, Draws, NodeFeatures, axes_of
from tpnum.law import graph
from tpnum.tiles import arguments
from tpnum.tiles.driver import kernel
from tpnum.tiles.inputs import inputs_of, plan_of
from tpnum.tiles.pool import one_blas_thread

if TYPE_CHECKING:
    from tpnum.evaluate.plan import Plan
    from tpnum.nn.base import Layer
    from tpnum.program import Program

BUDGET = 1 << 25
"""Numbers that the features of some examples may take in one layer."""
MOST = 1 << 24
"""Components that are no mistake."""
SAMPLE = 256
"""Examples between which the error is measured."""


@dataclass(frozen=True)
class RandomFeatures:
    """A map of examples to vectors whose inner products are close to a kernel: call it with an array.

    Attributes
    ----------
    n_components
        The length of a vector, at most: data of few features under a linear net need no more.
    error
        Measured: |F F' - K| / |K| in the norm of Frobenius, K the kernel matrix of some of the examples that
        it was made with, F their vectors.
    """

    net: Layer | Program
    get: str
    n_components: int
    method: str
    draws: Draws = field(repr=False)
    shape: tuple[int, ...]
    error: float = field(default=np.nan)

    def __call__(self, x: Any) -> np.ndarray:
        """The vectors (N, *index axes of the output, at most n_components) of examples."""
        first = _inputs(self.net, x)
        given = next(iter(first.values())).shape[1:]
        if given != self.shape:
            raise InputError(f"x: examples of shape {given}, and the features are of shape {self.shape}")
        with one_blas_thread():
            return self._made(first)

    def _made(self, first: dict[str, np.ndarray]) -> np.ndarray:
        plan = plan_of(self.net, first, None, (self.get,))
        if isinstance(plan, SampledPlan):
            raise LimitError(f"net: it has no random features, since its kernel is sampled: {plan.reason}")
        plan = plan.unrolled
        nodes = [entry.node for entry in plan.entries[self.get]]
        order = graph.schedule(nodes)
        count = len(next(iter(first.values())))
        largest = max((int(np.prod([s for _, s in axes_of(n) or ()])) for n in order), default=1)
        rows = max(1, BUDGET // (largest * self.n_components))
        parts = [
            self._some(plan, order, {name: x[start : start + rows] for name, x in first.items()})
            for start in range(0, count, rows)
        ]
        return np.concatenate(parts)

    def _some(self, plan: Plan, order: list[graph.Pair], x: dict[str, np.ndarray]) -> np.ndarray:
        values, _ = plan.profiles(x, None)
        of = NodeFeatures(values, order, self.n_components, self.method, self.draws)
        shape = (values.size, *plan.axes[0])
        made = []
        for entry in plan.entries[self.get]:
            if entry.rows != entry.cols or any(at is not None for at in entry.rows) or entry.weight < 0:
                raise LimitError("net: its outputs are of several vectors, and have no random features")
            f = of(entry.node) * np.sqrt(entry.weight)
            made.append(np.broadcast_to(f, (*shape, f.shape[-1])))
        if not made:
            return np.zeros((*shape, 1))
        return self.draws.shorter(np.concatenate(made, axis=-1), self.n_components, len(order))


def random_features(
    net: Layer | Program,
    x: Any,
    n_components: int,
    *,
    get: str = "nngp",
    method: str = DIRECTIONS,
    seed: int = 0,
) -> RandomFeatures:
    r"""A map to vectors whose inner products are close to a kernel of a net: phi(x) . phi(x') ~ K(x, x').

    The recursion of the kernel itself, carried out on vectors: data are vectors; sums of kernels are longer
    ones; products, as the NTK has, are tensor products, kept by a tensor sketch in ``n_components`` places;
    a nonlinearity f with variance q becomes f(sqrt(q) u . g_i) / sqrt(n) at Gaussian directions g_i (of relu:
    the arc-cosine features of Cho and Saul; NTK features of Zandieh et al. 2021), or its Hermite series
    sum_k a_k(q) u^(x k), each power sketched.  Convolutions and poolings act on the vectors of positions
    (CNTK).  One linear model on the vectors does then what N^2 kernel entries would.

    The error falls like 1 / sqrt(n_components); for nets of one hidden layer the mean over seeds is the
    kernel, for deeper ones it is off by O(1 / n_components).

    Parameters
    ----------
    net
        As in `tpnum.kernel`; one whose layers treat an example without pairs of different functions: not
        max pooling, attention, or x + f(x) without weights between (LimitError).
    x
        Examples: their shape counts, and between some of them the error is measured.
    n_components
        The length of the vectors.
    get
        "nngp" or "ntk".
    method
        "directions" for any function, or "series" for its Hermite series.
    seed
        Of the random numbers: the same seed gives the same map.

    Returns
    -------
    RandomFeatures
        A callable, ``phi(x)`` of shape (N, at most n_components), with ``phi.error``.

    Raises
    ------
    InputError
        An argument that cannot be used.
    LimitError
        A net whose kernel has no random features here; `tpnum.factor` has some for any net.
    """
    (kind, *more) = arguments.kinds_of(get)
    if more:
        raise InputError(f'get: {shown(get)} is more than one kernel; give "nngp" or "ntk"')
    count = whole(n_components, "n_components", 1, MOST)
    how = choice(method, "method", METHODS)
    first = _inputs(net, x)
    size = len(next(iter(first.values())))
    require_memory(8.0 * count * min(count, 1 << 14), f"n_components: {count} directions of as many entries")
    shape = next(iter(first.values())).shape[1:]
    made = RandomFeatures(net, kind, count, how, Draws(whole(seed, "seed", 0)), shape)
    some = np.linspace(0, size - 1, min(size, SAMPLE)).astype(np.intp)
    sample = {name: array[some] for name, array in first.items()}
    inputs = sample[""] if list(sample) == [""] else sample
    f, k = made(inputs), kernel(net, inputs, get=kind, backend="threads")
    axes = f.ndim - 2
    found = np.moveaxis(np.tensordot(f, f, axes=(-1, -1)), 1 + axes, 1)
    scale = float(np.linalg.norm(k))
    error = float(np.linalg.norm(found - k)) / scale if scale else 0.0
    return RandomFeatures(net, kind, count, how, made.draws, shape, error)


def _inputs(net: Layer | Program, x: Any) -> dict[str, np.ndarray]:
    """The arrays of examples by data line."""
    try:
        return inputs_of(net, x, None)[0]
    except InputError as error:
        error.rename({"x1": "x"})
        raise
