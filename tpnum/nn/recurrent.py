"""Recurrent layers: a scan over the only spatial axis, its weights shared by all steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from tpnum.arguments import shown
from tpnum.nn.activations import Activation, Sigmoid, Sigmoid_like, Tanh
from tpnum.nn.arguments import Deviation, Flag, OptionalDeviation, Parameterization, Reals, Scales, Size
from tpnum.nn.base import Block, Features, Layer
from tpnum.nn.weights import Weights

if TYPE_CHECKING:
    from tpnum.nn.emitter import Emitter
    from tpnum.program import Vector

GATES: dict[str, Activation] = {"sigmoid": Sigmoid(), "sigmoid_like": Sigmoid_like()}
"""Gates by name."""


class Cell(Layer):
    """What recurrent layers share: the scan in either direction, masked steps, and what comes out of it."""

    out_dim: int
    W_std: float
    U_std: float
    b_std: float | None
    return_sequences: bool
    parameterization: str
    s: tuple[float, float]
    reverse: bool

    def weights(self, deviation: float, bias: float | None = None) -> Weights:
        return Weights(deviation, bias, self.parameterization, self.s[0])

    def drives(self, to: Emitter, x: Features, dim: str, means: Sequence[float] = (0.0,)) -> list[Vector]:
        """U x + b for every mean of b, with weights of its own each."""
        made = [self.weights(self.U_std, self.b_std).affine(to, x, dim) for _ in means]
        return [drive + mean if mean else drive for drive, mean in zip(made, means, strict=True)]

    def applied(self, to: Emitter, step: str, vector: Vector) -> Vector:
        """One of the layer's nonlinearities, by the name of its argument."""
        return to.run(getattr(self, step), Features((Block(vector, self.out_dim),)), step).blocks[0].vector

    def scanned(
        self,
        to: Emitter,
        x: Features,
        drives: Sequence[Vector],
        states: int,
        step: Callable[[Sequence[Vector], Sequence[Vector]], Sequence[Vector]],
    ) -> Features:
        """The states of the scan, all zero at first; the first of them is what comes out.

        ``step`` makes them of those before and of the slices of ``drives``; at masked steps they stay.  Where
        all these come first or last, they may as well be zero: before the first step they are, and behind
        the last one nobody reads them but as the state of that.
        """
        axis, _ = x.axes[0]
        mask, masked = x.mask, to.padding(x.mask)
        if self.reverse:
            drives = [drive.take(**{axis: slice(None, None, -1)}) for drive in drives]
            mask = None if mask is None else mask.take(**{axis: slice(None, None, -1)})
            masked = {"start": "end", "end": "start"}.get(masked, "")
        with to.program.scan(*x.axes[0]) as loop:
            before = [loop.carry(to.cdc(self.out_dim), axes=to.batch) for _ in range(states)]
            after = step(before, [loop.slice(drive) for drive in drives])
            if mask is not None:
                here = loop.slice(mask)
                after = [
                    to.scale(new, here) if masked else to.between(new, old, here)
                    for new, old in zip(after, before, strict=True)
                ]
            for old, new in zip(before, after, strict=True):
                loop.next(old, new)
            every = self.return_sequences or masked == "end"
            result = loop.stack(after[0]) if every else loop.last(before[0])
        if not self.return_sequences:
            if mask is not None and masked == "end":
                result = to.scale(result, mask - mask.shift("zero", **{axis: -1})).sum(axis)
            return Features((Block(result, self.out_dim),))
        if self.reverse:
            result = result.take(**{axis: slice(None, None, -1)})
        if not masked:
            (result,) = to.masked([result], x.mask)
        return Features((Block(result, self.out_dim),), x.axes, x.mask)

    def product(self, to: Emitter, state: Vector, dim: str) -> Vector:
        """W h, every time with weights of its own."""
        (made,) = self.weights(self.W_std).product(to, Features((Block(state, self.out_dim),)), dim)
        return made

    def checked(self, name: str) -> None:
        """One of the layer's nonlinearities, which is a layer or the name of a gate."""
        given = getattr(self, name)
        if isinstance(given, str) and given in GATES and name == "gate":
            object.__setattr__(self, name, GATES[given])
        elif not isinstance(given, Activation):
            named = f", or one of the names {', '.join(GATES)}" if name == "gate" else ""
            raise self.error(f"{name} is {shown(given)}; it must be a nonlinear layer, e.g. nn.Tanh(){named}")

    def require_steps(self, to: Emitter, x: Features) -> None:
        """The one axis that the layer runs along."""
        if len(x.axes) != 1:
            raise to.error(
                f"it runs along one axis and gets {len(x.axes)} spatial axes; give inputs of shape "
                "(steps, channels)"
            )


@dataclass(frozen=True, repr=False)
class SimpleRnn(Cell):
    """s_t = f(W s_{t-1} + U x_t + b), s_0 = 0: every state, or the last (``return_sequences=False``).

    At masked steps the state stays what it was, so that the last one is that of the sequence without them.

    W_std is the deviation of the state's weights, U_std of the input's; the readout is a `Dense` after it.
    ``reverse=True`` runs from the last position to the first: the state at t has read x_t, x_{t+1}, ..., and
    the "last" state is the one at the first position.  A layer in both directions concatenates two::

        nn.serial(nn.FanOut(2), nn.parallel(nn.SimpleRnn(n), nn.SimpleRnn(n, reverse=True)), nn.FanInConcat())

    ``parameterization="raw"`` has the NTK of raw parameters W ~ N(0, W_std^2) over sqrt(fan_in).
    """

    out_dim: Size
    activation: Activation = Tanh()
    W_std: Deviation = 1.0
    U_std: Deviation = 1.0
    b_std: OptionalDeviation = None
    return_sequences: Flag = True
    parameterization: Parameterization = "ntk"
    s: Scales = (1.0, 1.0)
    reverse: Flag = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.checked("activation")

    def emit(self, to: Emitter, x: Features) -> Features:
        self.require_steps(to, x)
        dim = to.cdc(self.out_dim)
        drives = self.drives(to, x, dim)

        def step(states: Sequence[Vector], driven: Sequence[Vector]) -> list[Vector]:
            fed = self.product(to, states[0], dim)
            return [self.applied(to, "activation", to.total([fed, driven[0]]))]

        return self.scanned(to, x, drives, 1, step)


@dataclass(frozen=True, repr=False)
class GatedCell(Cell):
    """What cells with gates share: their arguments, and the means of the biases of their ``sums``."""

    out_dim: Size
    activation: Activation = Tanh()
    gate: Activation | str = Sigmoid()
    W_std: Deviation = 1.0
    U_std: Deviation = 1.0
    b_std: OptionalDeviation = None
    return_sequences: Flag = True
    parameterization: Parameterization = "ntk"
    s: Scales = (1.0, 1.0)
    reverse: Flag = False

    b_means: Reals = field(default=(), kw_only=True)
    sums: ClassVar[str]
    """The names of the sums that have biases, one letter each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.checked("activation")
        self.checked("gate")
        if self.b_means and len(self.b_means) != len(self.sums):
            raise self.error(
                f"b_means is {shown(self.b_means)}; it must be {len(self.sums)} numbers, the means of the "
                f"biases of {', '.join(self.sums)}, or none"
            )

    @property
    def means(self) -> tuple[float, ...]:
        """The mean of every bias."""
        return self.b_means or (0.0,) * len(self.sums)


@dataclass(frozen=True, repr=False)
class Gru(GatedCell):
    """The gated recurrent unit: every state, or the last (``return_sequences=False``), h_0 = 0.

    ::

        r = gate(W_r h + U_r x_t + b_r),   z = gate(W_z h + U_z x_t + b_z)
        n = activation(U_n x_t + b_n + r (W_n h + c_n)),   h <- (1 - z) n + z h

    as PyTorch defines it.  ``reset_after=False`` is the older n = activation(U_n x_t + b_n + W_n (r h)).
    All products are channel by channel.  Every W has entries of deviation W_std / sqrt(out_dim), every U of
    U_std / sqrt(channels), every bias (c_n too) of b_std; ``gate`` is a nonlinear layer, or the name
    "sigmoid" or "sigmoid_like" (0.5 + 0.5 erf, close to the former and quicker).  ``b_means`` are the means
    of b_r, b_z and b_n, zero by default.  Masked steps and ``reverse`` are as in `SimpleRnn`.
    """

    reset_after: Flag = True
    sums: ClassVar[str] = "rzn"

    def emit(self, to: Emitter, x: Features) -> Features:
        self.require_steps(to, x)
        dim = to.cdc(self.out_dim)
        drives = self.drives(to, x, dim, self.means)
        bias = self.weights(self.W_std, self.b_std).bias(to, dim) if self.reset_after else []

        def step(states: Sequence[Vector], driven: Sequence[Vector]) -> list[Vector]:
            (state,) = states
            opened = []
            for drive in driven[:2]:
                sums = to.total([self.product(to, state, dim), drive])
                opened.append(self.applied(to, "gate", sums))
            reset, update = opened
            if self.reset_after:
                kept = self.product(to, state, dim)
                fed = to.product([reset, to.total([kept, *bias])])
            else:
                fed = self.product(to, to.product([reset, state]), dim)
            new = self.applied(to, "activation", to.total([fed, driven[2]]))
            return [to.total([new, to.product([update, to.difference(state, new)])])]

        return self.scanned(to, x, drives, 1, step)


@dataclass(frozen=True, repr=False)
class Lstm(GatedCell):
    """Long short-term memory: every state, or the last (``return_sequences=False``), h_0 = c_0 = 0.

    ::

        i, f, o = gate(W h + U x_t + b), each with weights of its own,   g = activation(W_g h + U_g x_t + b_g)
        c <- f c + i g,   h <- o activation(c)

    as PyTorch defines it, without peepholes; all products are channel by channel.  The arguments are those of
    `Gru`; ``b_means`` are those of i, f, o and g, so that (0, 1, 0, 0) is an LSTM that begins by remembering.
    """

    sums: ClassVar[str] = "ifog"

    def emit(self, to: Emitter, x: Features) -> Features:
        self.require_steps(to, x)
        dim = to.cdc(self.out_dim)
        drives = self.drives(to, x, dim, self.means)

        def step(states: Sequence[Vector], driven: Sequence[Vector]) -> list[Vector]:
            state, cell = states
            sums = [to.total([self.product(to, state, dim), drive]) for drive in driven]
            into, forget, out = (self.applied(to, "gate", one) for one in sums[:3])
            new = self.applied(to, "activation", sums[3])
            held = to.total([to.product([forget, cell]), to.product([into, new])])
            return [to.product([out, self.applied(to, "activation", held)]), held]

        return self.scanned(to, x, drives, 2, step)
