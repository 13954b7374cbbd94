"""Unrolled training as a program: T steps of SGD on a fully connected net, written line by line.

`sgd` writes what gradient descent does to a net in one of three abc-parameterizations (TP4,
arXiv:2011.14522), with effective weights W, entries N(0, s^2/n), and a readout f = sum_a v_a h_a / n^e:

========  ===  ==========================================================================================
mu        1    features move: W_t h = W_0 h - eta sum_s err_s dg_s (h_s.h/n), the transpose likewise
ntk       1/2  parameters scaled by s/sqrt(n): features stand still, f moves by the NTK
standard  1/2  the parameters are W itself, learning rate eta/n: as ntk, without the first layer and biases,
               and without the factors s^2
========  ===  ==========================================================================================

In *mu* every line is what the finite net computes, at any width.  In *ntk* and *standard* the corrections of
the features are of order 1/sqrt(n) and are left out: the lines are the kernel regime, whose limit is right.
The loss is a sum over the batch, 1/2 (f - y)^2 unless given, and dg_s is the gradient of n^e f.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from tpnum.arguments import choice, finite_array
from tpnum.errors import InputError, ProgramError
from tpnum.functions import Function
from tpnum.nn.base import Layer
from tpnum.nn.dense import Dense
from tpnum.nn.task import Task, layers_of, loss_of
from tpnum.program import Program, Scalar, Vector

PARAMETERIZATIONS = ("mu", "mup", "ntk", "standard")
"""mup is another name of mu."""
Term: TypeAlias = tuple[Any, Vector]


@dataclass(frozen=True)
class Training:
    """A program of unrolled training and what its variables are.

    ``outputs[t][i]`` is f on example i before step t, ``losses[t]`` the loss of step t's batch there,
    ``features[t][l][i]`` the vector after the l-th nonlinearity; examples are those of ``x``, then of
    ``x_test``.  ``outputs`` and ``features`` have an entry more than there are steps.
    """

    program: Program
    outputs: tuple[tuple[Scalar, ...], ...]
    losses: tuple[Scalar, ...]
    features: tuple[tuple[tuple[Vector, ...], ...], ...]

    def trajectory(self, law: Any) -> tuple[np.ndarray, np.ndarray]:
        """(losses (T,), outputs (T + 1, examples)) of a law or of a sample of the program."""
        losses = np.array([_number(law.scalar(s)) for s in self.losses])
        return losses, np.array([[_number(law.scalar(f)) for f in row] for row in self.outputs])

    def kernels(self, law: Any, layer: int = -1) -> np.ndarray:
        """E Z_i Z_j of a layer's features before every step, (T + 1, examples, examples)."""
        steps = [step[layer] for step in self.features]
        made = np.empty((len(steps), len(steps[0]), len(steps[0])))
        for t, h in enumerate(steps):
            for i in range(len(h)):
                for j in range(i + 1):
                    made[t, i, j] = made[t, j, i] = _number(law.moment(h[i], h[j]))
        return made


def _number(found: Any) -> float:
    """Of an estimate, or of a sample."""
    return float(getattr(found, "value", found))


def sgd(
    net: Layer,
    x: Any,
    y: Any,
    steps: int,
    lr: float | Sequence[float],
    *,
    parameterization: str = "mu",
    batches: Sequence[Sequence[int]] | None = None,
    x_test: Any = None,
    initial: Any = None,
    loss: tuple[Any, Any] | None = None,
) -> Training:
    """Write ``steps`` steps of SGD on ``net`` as a program.

    Parameters
    ----------
    net : serial(Dense, nonlinearity, Dense, ..., Dense(1)) with at least one nonlinearity; the readout has
        no bias in mu.
    x, y : examples (N, d) and labels (N,); inputs enter as x.x'/d.
    steps, lr : how many, and the learning rate, or one per step.
    parameterization : "mu" (or "mup"), "ntk" or "standard".
    batches : the examples of each step (all by default).
    x_test : further examples (M, d), not trained on.
    initial : in ntk and standard the outputs f_0 of all examples, which are random there; zero by default.
    loss : two functions of (f, y), the loss and its slope in f; names, callables or Functions.

    Returns
    -------
    Training : the program, whose `tpnum.limit` is the infinite-width trajectory, and its outputs by step.

    Raises
    ------
    SpecError : a net of another form.
    InputError : shapes, batches or rates that do not fit.
    """
    kind = choice(parameterization, "parameterization", PARAMETERIZATIONS).removesuffix("p")
    dense, activations = layers_of(net, kind)
    data = Task(x, y, x_test, steps, lr, batches)
    if kind == "mu":
        if initial is not None:
            raise InputError("initial: in mu the outputs at the start are 0 in the limit, none can be given")
        for k, phi in enumerate(activations):
            if not phi.derivative().has_values:
                raise ProgramError(
                    f"sgd: nonlinearity {k}, {phi}, has no derivative: pass derivative= with it"
                )
        return _Mu(dense, activations, data, loss_of(loss)).run()
    start = np.zeros(data.examples) if initial is None else finite_array(initial, "initial")
    if start.shape != (data.examples,):
        raise InputError(f"initial must be {data.examples} finite numbers, one for each example")
    return _Kernel(dense, activations, data, loss_of(loss)).run(start.tolist(), kind == "standard")


# --- the lines


@dataclass(frozen=True)
class _Update:
    """One example of one step: err dg of each layer, the input of each layer, err times the rate."""

    example: int
    rate: Scalar
    pulls: tuple[Vector, ...]  # eta err dg, by layer
    inputs: tuple[Vector, ...]  # the input of every layer but the first, the readout's last


class _Writer:
    """The lines that the parameterizations have in common."""

    def __init__(
        self, dense: list[Dense], activations: list[Function], data: Task, loss: tuple[Function, Function]
    ) -> None:
        self.p, self.data = Program(), data
        self.dense, self.activations, (self.loss, self.slope) = dense, activations, loss
        p, depth = self.p, len(dense) - 1
        first = dense[0].W_std ** 2 * data.gram
        names = [self.name("u", i) for i in range(data.examples)]
        self.first = list(p.vectors(*names, cov=first.tolist()))
        self.matrices = [p.matrix(f"W{k}", var=dense[k].W_std ** 2) for k in range(1, depth)]
        self.biases = [
            p.vector(f"b{k}", var=d.b_std**2, trained=True) if d.b_std else None
            for k, d in enumerate(dense[:-1])
        ]
        self.readout = p.vector("v", var=dense[-1].W_std ** 2)
        self.labels = [p.constant(float(value)) for value in data.y]

    @staticmethod
    def name(stem: str, *index: int) -> str:
        return f"{stem}[{','.join(map(str, index))}]"

    def errors(self, outputs: Sequence[Scalar], batch: Iterable[int], step: int) -> dict[int, Scalar]:
        """The slope of the loss at every example of a batch."""
        return {
            i: self.p.apply(self.slope, outputs[i], self.labels[i], name=self.name("err", step, i))
            for i in batch
        }

    def total(self, outputs: Sequence[Scalar], batch: Sequence[int], step: int) -> Scalar:
        """The loss of a batch."""
        made: Any = None
        for i in batch:
            one = self.p.apply(self.loss, outputs[i], self.labels[i])
            made = one if made is None else made + one
        return self.p.constant(0.0) if made is None else (1.0 * made).named(self.name("loss", step))

    def backward(
        self, layers: Sequence[Vector], of: Callable[[int, Vector], Vector], top: Vector
    ) -> list[Vector]:
        """dg of every layer: phi'(g) dh, where ``of(k, dg)`` multiplies by the transpose of layer k."""
        pulls: list[Vector] = []
        above = top
        for k in range(len(layers) - 1, -1, -1):
            pulls.insert(0, self.p.apply(self.activations[k].derivative(), layers[k]) * above)
            if k:
                above = of(k, pulls[0])
        return pulls


class _Mu(_Writer):
    """Maximal update: the weights of step t are those of the start and rank-one updates since."""

    def run(self) -> Training:
        updates: list[_Update] = []
        outputs, losses, features = [], [], []
        for t in range(self.data.steps + 1):
            layers, states, found = self.forward(updates, t)
            outputs.append(tuple(found))
            features.append(tuple(zip(*states, strict=True)))
            if t == self.data.steps:
                break
            batch = self.data.batches[t]
            errors = self.errors(found, batch, t)
            losses.append(self.total(found, batch, t))
            made = []
            for i in batch:
                pulls = self.backward(layers[i], partial(self.transposed, updates), self.readout)
                rate = self.data.rates[t] * errors[i]
                scaled = tuple((dg * rate).named(self.name(f"d{k}", t, i)) for k, dg in enumerate(pulls))
                made.append(_Update(i, rate, scaled, tuple(states[i])))
            updates += made
            if made:
                self.move(made, t + 1)
        return Training(self.p, tuple(outputs), tuple(losses), tuple(features))

    def move(self, made: list[_Update], t: int) -> None:
        """What a step does to everything but the matrices: U x of every example x, biases, readout."""
        gram = self.data.gram
        for i, g in enumerate(self.first):
            terms = [(-gram[u.example, i], u.pulls[0]) for u in made]
            self.first[i] = self.moved(g, terms, self.name("u", t, i))
        for k, b in enumerate(self.biases):
            if b is not None:
                self.biases[k] = self.moved(b, [(-1.0, u.pulls[k]) for u in made], self.name(f"b{k}", t))
        self.readout = self.moved(
            self.readout, [(-1.0 * u.rate, u.inputs[-1]) for u in made], self.name("v", t)
        )

    def moved(self, v: Vector, by: list[Term], name: str) -> Vector:
        """A line of its own: the next step starts from it."""
        return self.p.lincomb([(1.0, v), *by], name=name)

    def forward(
        self, updates: list[_Update], t: int
    ) -> tuple[list[list[Vector]], list[list[Vector]], list[Scalar]]:
        """Pre-activations and states of every example and layer, and the outputs."""
        p = self.p
        layers: list[list[Vector]] = []
        states: list[list[Vector]] = []
        outputs: list[Scalar] = []
        for i in range(self.data.examples):
            g: list[Vector] = []
            h: list[Vector] = []
            for k, phi in enumerate(self.activations):
                terms: list[Term] = [(1.0, self.matrices[k - 1] @ h[-1] if k else self.first[i])]
                if k:
                    terms += [(-1.0 * p.mean(u.inputs[k - 1] * h[-1]), u.pulls[k]) for u in updates]
                bias = self.biases[k]
                if bias is not None:
                    terms.append((1.0, bias))
                g.append(p.lincomb(terms, name=self.name(f"g{k}", t, i)))
                h.append(p.apply(phi, g[-1], name=self.name(f"h{k}", t, i)))
            layers.append(g)
            states.append(h)
            outputs.append(p.mean(self.readout * h[-1], name=self.name("f", t, i)))
        return layers, states, outputs

    def transposed(self, updates: list[_Update], k: int, dg: Vector) -> Vector:
        """W_t^T dg of layer k."""
        p = self.p
        terms: list[Term] = [(1.0, self.matrices[k - 1].T @ dg)]
        terms += [(-1.0 * p.mean(u.pulls[k] * dg), u.inputs[k - 1]) for u in updates]
        return p.lincomb(terms)


class _Kernel(_Writer):
    """The kernel regime: one forward and one backward pass, then linear dynamics of the outputs."""

    def run(self, start: list[float], standard: bool) -> Training:
        p, data = self.p, self.data
        layers: list[list[Vector]] = []
        states: list[list[Vector]] = []
        pulls: list[list[Vector]] = []
        for i in range(data.examples):
            g: list[Vector] = []
            h: list[Vector] = []
            for k, phi in enumerate(self.activations):
                into: Any = self.matrices[k - 1] @ h[-1] if k else self.first[i]
                bias = self.biases[k]
                g.append(into if bias is None else into + bias)
                h.append(p.apply(phi, g[-1], name=self.name(f"h{k}", i)))
            layers.append(g)
            states.append(h)
            pulls.append(self.backward(g, lambda k, dg: self.matrices[k - 1].T @ dg, self.readout))
        theta = {
            (i, j): self.theta(i, j, states, pulls, standard)
            for i in range(data.examples)
            for j in range(data.trained)
        }
        found = [p.constant(value) for value in start]
        outputs, losses = [tuple(found)], []
        for t in range(data.steps):
            batch = data.batches[t]
            errors = self.errors(found, batch, t)
            losses.append(self.total(found, batch, t))
            for i in range(data.examples):
                for j in batch:
                    found[i] = found[i] - data.rates[t] * (theta[i, j] * errors[j])
                found[i] = (1.0 * found[i]).named(self.name("f", t + 1, i)) if batch else found[i]
            outputs.append(tuple(found))
        features = tuple(zip(*states, strict=True))
        return Training(p, tuple(outputs), tuple(losses), (features,) * (data.steps + 1))

    def theta(
        self, i: int, j: int, states: list[list[Vector]], pulls: list[list[Vector]], standard: bool
    ) -> Scalar:
        """The NTK of two examples: the sum over layers of backward times forward second moments."""
        p, last = self.p, self.dense[-1]
        weight = [1.0 if standard else d.W_std**2 for d in self.dense]
        total: Any = weight[-1] * p.mean(states[i][-1] * states[j][-1])
        if last.b_std and not standard:
            total = total + last.b_std**2
        for k, dense in enumerate(self.dense[:-1]):
            back = p.mean(pulls[i][k] * pulls[j][k])
            if k:
                total = total + weight[k] * (p.mean(states[i][k - 1] * states[j][k - 1]) * back)
            elif not standard:
                total = total + weight[0] * float(self.data.gram[i, j]) * back
            if dense.b_std and not standard:
                total = total + dense.b_std**2 * back
        return total
