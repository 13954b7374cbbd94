"""Squared singular values of the input-output Jacobian of deep nets, by free multiplicative convolution.

J = W_L D_L .. W_1 D_1 with D_l = diag phi'(g_l): the factors are free where every layer has weights of its
own, so that J J^T has the free product of the laws of phi'(sqrt(q_l) z)^2 and of W_l W_l^T (Pennington et al.
2017). The Jacobian 1 + X of a residual block, X = W D .. R-diagonal, has singular values whose symmetric law
is the free sum of that of -+1 and that of X's (Haagerup and Schultz 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tpnum.arguments import choice, finite_array, number, whole
from tpnum.errors import InputError, LimitError, SpecError
from tpnum.gauss.rules import knows_slope
from tpnum.nn.activations import Activation
from tpnum.nn.base import Layer, no_layer
from tpnum.nn.combinators import FanInSum, Identity, Serial
from tpnum.nn.dense import Dense, Flatten
from tpnum.nn.normalization import LayerNorm
from tpnum.propagation.activation import Expectations
from tpnum.propagation.blocks import layers_of
from tpnum.propagation.fixed import fixed_points
from tpnum.propagation.reading import Moments, emitted, inputs
from tpnum.spectra.base import Measure
from tpnum.spectra.closed import Discrete, FreePoisson, free_poisson
from tpnum.spectra.convolve import product_of_powers, sum_of_powers
from tpnum.spectra.multiplicative import FreeProduct
from tpnum.spectra.residual import Residual
from tpnum.spectra.shapes import SignedRoot, Square
from tpnum.spectra.slopes import slope_law, unbounded

WEIGHTS = ("gaussian", "orthogonal")
SAME = 1e-12
"""Variances closer than this are one."""


class Factor(NamedTuple):
    """A law of squared singular values, and how many layers have it."""

    law: Measure
    times: float


def weight_law(W_std: Any, weights: str = "gaussian") -> Measure:
    """The law of W W^T: Marchenko-Pastur of ratio one times W_std^2, or all mass at W_std^2."""
    square = number(W_std, "W_std", low=0.0) ** 2
    if choice(weights, "weights", WEIGHTS) == "orthogonal":
        return Discrete([square], [1.0])
    return free_poisson(1.0, square)


def jacobian(block: Layer, depth: Any = 1, *, q: Any = None, weights: str = "gaussian") -> Measure:
    """The law of the squared singular values of the Jacobian of ``block`` repeated ``depth`` times.

    Parameters
    ----------
    block
        Layers of one width in series: Dense, activations, LayerNorm, and residual blocks of these.
    depth
        How often it is repeated, each time with weights of its own: 1 to 1000 and more.
    q
        The variance of what enters: a number, from which it flows through the layers; one number per
        repetition; None for the fixed point of the block, the same at every depth.
    weights
        "gaussian", or "orthogonal": W_std times a Haar matrix in the place of every W.

    Raises
    ------
    SpecError
        A layer whose Jacobian is not among these; the message names it.
    LimitError
        q is None and the block has no fixed point.
    """
    if not isinstance(block, Layer):
        raise SpecError(f"block is {no_layer(block)}, e.g. nn.serial(nn.Tanh(), nn.Dense(64))")
    if not layers_of(block):
        raise SpecError("block: it has no layers")
    count = whole(depth, "depth", 1, 1_000_000)
    choice(weights, "weights", WEIGHTS)
    task = _Task(block, weights)
    factors: list[Factor] = []
    for variance, times in task.variances(q, count):
        factors += [Factor(f.law, f.times * times) for f in task.factors(variance)]
    return product_of_powers([(f.law, f.times) for f in factors])


@dataclass(frozen=True)
class _Task:
    block: Layer
    weights: str

    def variances(self, q: Any, depth: int) -> list[tuple[float, int]]:
        """The variances that enter the repetitions, equal ones counted."""
        if q is None:
            found = [p for p in fixed_points(self.block) if p.stable or p.every_q]
            if not found:
                raise LimitError("q: the block keeps no variance; give the variance that enters it")
            return [(1.0 if found[0].every_q else found[0].q, depth)]
        if np.ndim(q) > 0:
            given = finite_array(q, "q", 1)
            if given.size != depth or np.any(given <= 0.0):
                raise InputError(f"q: {depth} positive variances are needed, one per repetition")
            return _counted([float(v) for v in given])
        at = number(q, "q", above=0.0)
        flow: list[float] = []
        while len(flow) < depth:
            flow.append(at)
            after = self._after(at)
            if abs(after - at) <= SAME * at:
                flow += [at] * (depth - len(flow))
            at = after
        return _counted(flow)

    def _after(self, q: float) -> float:
        """The variance behind a repetition."""
        return self._stages(layers_of(self.block), q)[-1][1]

    def factors(self, q: float) -> list[Factor]:
        """Those of one repetition."""
        return self._of(layers_of(self.block), q, "")

    def _stages(self, layers: Sequence[Layer], q: float) -> list[tuple[Layer, float, float]]:
        """The layers with the variance and the perturbation behind each, the input's first."""
        if all(map(_by_integrals, layers)):
            return self._chain(layers, q)
        width = next((x.out_dim for x in layers if isinstance(x, Dense)), _width(layers))
        first = Dense(width, W_std=1.0)
        named = [("input", first), *((f"layers[{k}]", layer) for k, layer in enumerate(layers))]
        program, stages = emitted(named)
        features = [stage.features for stage in stages]
        moments = Moments(program, inputs(np.array([[q]])), features)
        return [
            (stage.layer or first, float(moments.diagonal(f)[0]), float(moments.second(f, True)[0, 0]))
            for stage, f in zip(stages, features, strict=True)
        ]

    def _chain(self, layers: Sequence[Layer], q: float) -> list[tuple[Layer, float, float]]:
        """The same by integrals of one dimension."""
        made: list[tuple[Layer, float, float]] = [(Identity(), q, q)]
        for layer in layers:
            _, at, grown = made[-1]
            if isinstance(layer, Dense):
                square = float(layer.W_std) ** 2
                made.append((layer, square * at + float(layer.b_std or 0.0) ** 2, square * grown))
            elif isinstance(layer, Activation):
                f = _expectations(layer)
                made.append((layer, float(f.second(at)), float("nan")))
            elif (body := _body(layer)) is not None:
                made.append((layer, at + self._chain(layers_of(body), at)[-1][1], float("nan")))
            else:
                made.append((layer, at, grown))
        return made

    def _of(self, layers: Sequence[Layer], q: float, path: str) -> list[Factor]:
        stages = self._stages(layers, q)
        widths = {x.out_dim for x in layers if isinstance(x, Dense)}
        if len(widths) > 1:
            raise SpecError(f"{path or 'block'}: layers of equal widths are needed, not {sorted(widths)}")
        factors: list[Factor] = []
        for k, layer in enumerate(layers):
            before, place = stages[k], f"{path}layers[{k}]"
            match layer:
                case Dense():
                    factors.append(Factor(weight_law(layer.W_std, self.weights), 1.0))
                case Activation():
                    f = layer.as_function()
                    if f.n_scalars or f.arity != 1:
                        raise SpecError(f"{place} ({layer.op}): its Jacobian is not diagonal")
                    if before[1] > 0.0 and knows_slope(f) and unbounded(f.derivative()):
                        raise LimitError(
                            f"{place} ({layer.op}): the slopes of {f} are not bounded, so that the spectrum "
                            "is not compact; its moments come from tp.limit"
                        )
                    factors.append(Factor(slope_law(f, before[1]), 1.0))
                case LayerNorm():
                    factors.append(Factor(Discrete([stages[k + 1][2] / before[2]], [1.0]), 1.0))
                case Identity() | Flatten():
                    continue
                case Serial() if layer.branches() is not None:
                    factors.append(Factor(self._residual(layer, before[1], place), 1.0))
                case _:
                    raise SpecError(
                        f"{place} ({layer.op}): the Jacobian by free products knows Dense, "
                        "activations, LayerNorm "
                        "and residual blocks; tp.spectrum takes any program"
                    )
        return factors

    def _residual(self, layer: Serial, q: float, place: str) -> Measure:
        body = _body(layer)
        if body is None:
            raise SpecError(f"{place}: a residual block is the sum of its input and one body")
        inside = layers_of(body)
        if not isinstance(inside[0], Dense) and not isinstance(inside[-1], Dense):
            raise SpecError(f"{place}: the body of a residual block begins or ends with a Dense")
        return _beside_one(self._of(inside, q, f"{place}.body."))


def _body(layer: Layer) -> Layer | None:
    """What a residual block adds to its input."""
    branches = layer.branches() if isinstance(layer, Serial) else None
    if branches is None:
        return None
    join, named = branches
    bodies = [x for _, x in named if not isinstance(x, Identity)]
    return bodies[0] if isinstance(join, FanInSum) and len(bodies) == 1 and len(named) == 2 else None


def _by_integrals(layer: Layer) -> bool:
    """Weights and activations, and residual blocks of these whose sum has independent parts."""
    body = _body(layer)
    if body is None:
        return isinstance(layer, (Dense, Activation, Identity))
    inside = layers_of(body)
    return isinstance(inside[-1], Dense) and all(map(_by_integrals, inside))


def _beside_one(body: Sequence[Factor]) -> Measure:
    """The law of (1 + X)(1 + X)^T, X X^T of the free product of these laws."""
    scale, weights, spread = 1.0, 0, []
    for law, times in body:
        scale *= law.mean**times
        if isinstance(law, FreePoisson) and law.rate == 1.0 and times == int(times):
            weights += int(times)
        elif not (isinstance(law, Discrete) and law.points.size == 1):
            spread.append((law, times))
    if not scale:
        return Discrete([1.0], [1.0])
    if not weights and not spread:  # the sum of two unitary matrices has hard edges
        shortcut, alone = Discrete([-1.0, 1.0], [0.5, 0.5]), Discrete([scale], [1.0])
        return Square(sum_of_powers([(shortcut, 1.0), (SignedRoot(alone), 1.0)]))
    parts = [(law.quick.of_mean_one, times) for law, times in spread]
    part = Residual(parts or [(Discrete([1.0], [1.0]), 1.0)], scale, weights)
    return FreeProduct([(part, 1.0)]).affine(part.grown)


@lru_cache(maxsize=64)
def _expectations(layer: Activation) -> Expectations:
    return Expectations(layer.as_function())


def _width(layers: Sequence[Layer]) -> int:
    from tpnum.propagation.blocks import inside

    widths = [x.out_dim for layer in layers for x in inside(layer) if isinstance(x, Dense)]
    return widths[0] if widths else 64


def _counted(values: list[float]) -> list[tuple[float, int]]:
    made: list[tuple[float, int]] = []
    for v in values:
        if made and abs(made[-1][0] - v) <= SAME * v:
            made[-1] = (made[-1][0], made[-1][1] + 1)
        else:
            made.append((v, 1))
    return made


@dataclass(frozen=True)
class Isometry:
    """Whether the singular values of an activation's deep net can all be near one.

    ``ratio`` is E phi'^4 / (E phi'^2)^2 at q, which is 1 where the slope is constant; ``variance`` and
    ``largest`` are those of the squared singular values of the net on its critical line, mean one.
    """

    phi: str
    weights: str
    W_std: float
    b_std: float
    q: float
    ratio: float
    variance: float
    largest: float
    reachable: bool

    def __str__(self) -> str:
        answer = "yes" if self.reachable else "no"
        return (
            f"{self.phi:<12}{self.weights:<12}{self.W_std:>10.6f}{self.b_std:>10.6f}{self.q:>11.4g}"
            f"{self.ratio:>12.6f}{self.variance:>12.5g}{self.largest:>14.6g}   {answer}"
        )


class IsometryTable(tuple):
    """Rows of `Isometry`; `str` is the table."""

    __slots__ = ()

    def __str__(self) -> str:
        head = (
            f"{'phi':<12}{'weights':<12}{'W_std':>10}{'b_std':>10}{'q':>11}{'mu2/mu1^2':>12}"
            f"{'variance':>12}{'largest':>14}   isometry as q -> 0"
        )
        return "\n".join([head, *map(str, self)])


def isometry(phis: Any = ("tanh", "erf", "relu", "gelu"), depth: Any = 10, *, q: Any = 0.1) -> IsometryTable:
    """Which activations can reach dynamical isometry: singular values of deep nets on their critical lines.

    The variance of the squared singular values is L (mu2/mu1^2 - 1 - s1), s1 = -1 for Gaussian weights and 0
    for orthogonal ones: it stays bounded with depth for orthogonal weights alone, along a critical line on
    which mu2/mu1^2 -> 1.
    """
    from tpnum.functions import get
    from tpnum.nn.elementwise import Elementwise
    from tpnum.propagation.critical import critical

    count, at = whole(depth, "depth", 1, 1_000_000), number(q, "q", above=0.0)
    names = tuple(phis) if isinstance(phis, (tuple, list)) else (phis,)
    if not names:
        raise InputError("phis: at least one activation is needed")
    rows = []
    for phi in names:
        f = get(phi)
        block = Serial((Elementwise(phi), Dense(64)))
        try:
            point = critical(block, q=at)
        except LimitError:
            point = critical(block, free="W_std")
        variance = point.q or 1e-12
        flat = _ratio(f, 1e-9) - 1.0 < 1e-6
        for weights in WEIGHTS:
            ratio = _ratio(f, variance)
            s1 = -1.0 if weights == "gaussian" else 0.0
            law = jacobian(point.block, count, q=np.full(count, variance), weights=weights)
            rows.append(
                Isometry(
                    str(f), weights, point.W_std, float(point.values.get("b_std", 0.0)), point.q, ratio,
                    count * (ratio - 1.0 - s1), law.hull[1], weights == "orthogonal" and flat,
                )
            )  # fmt: skip
    return IsometryTable(rows)


def _ratio(f: Any, q: float) -> float:
    law = slope_law(f, q)
    return law.second / law.mean**2
