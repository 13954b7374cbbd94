"""Finite networks in plain NumPy, many at once: the empirical NNGP and NTK with a standard error.

A network is a list of steps on (values, tangents): values h of shape (nets, inputs, width) and, instead of
gradients, the empirical tangent kernel by reverse mode over a tape.  Small widths, float64, no cleverness.
"""

from __future__ import annotations

import numpy as np


class Tape:
    """Reverse mode for a batch of independent nets of ntk parameterization, one output per net and input."""

    def __init__(self, rng: np.random.Generator, nets: int):
        self.rng, self.nets = rng, nets
        self.weights: list[tuple] = []  # (scale, bias, layer input, holder of the gradient)

    def dense(self, x, width: int, w: float, b: float):
        """w/sqrt(n) W x + b beta; remembers what its parameters' gradients need."""
        scale = w / np.sqrt(x.value.shape[-1])
        matrix = self.rng.standard_normal((self.nets, x.value.shape[-1], width))
        beta = self.rng.standard_normal((self.nets, 1, width))
        out = Node(
            scale * x.value @ matrix + b * beta, [(x, lambda g: scale * g @ np.swapaxes(matrix, 1, 2))]
        )
        self.weights.append((scale, b, x.value, out))
        return out

    def kernels(self, output) -> tuple[np.ndarray, np.ndarray]:
        """Per net: h h' averaged over the last layer's input (the NNGP) and the NTK of the scalar output."""
        nets, inputs, _ = output.value.shape
        ntk = np.zeros((nets, inputs, inputs))
        output.backward(np.ones_like(output.value))
        for scale, b, x, out in self.weights:
            along = np.einsum("kiw,kjw->kij", out.grad, out.grad)
            ntk += along * (scale**2 * np.einsum("kic,kjc->kij", x, x) + b * b)
        scale, b, x, _ = self.weights[-1]
        return scale**2 * np.einsum("kic,kjc->kij", x, x) + b * b, ntk


class Node:
    """A value and how a gradient flows on; inputs of one batch do not mix, so one pass serves them all."""

    def __init__(self, value, parents=()):
        self.value, self.parents = value, list(parents)
        self.grad = np.zeros_like(value)

    def backward(self, seed) -> None:
        order: list[Node] = []
        seen: set[int] = set()

        def visit(node):
            if id(node) not in seen:
                seen.add(id(node))
                for parent, _ in node.parents:
                    visit(parent)
                order.append(node)

        visit(self)
        self.grad = seed
        for node in reversed(order):
            for parent, pull in node.parents:
                parent.grad = parent.grad + pull(node.grad)


def apply(x: Node, f, df) -> Node:
    return Node(f(x.value), [(x, lambda g: g * df(x.value))])


def relu(x: Node) -> Node:
    return apply(x, lambda u: np.maximum(u, 0), lambda u: (u > 0).astype(float))


def add(*nodes: Node) -> Node:
    return Node(sum(n.value for n in nodes), [(n, lambda g: g) for n in nodes])


def multiply(a: Node, b: Node) -> Node:
    return Node(a.value * b.value, [(a, lambda g: g * b.value), (b, lambda g: g * a.value)])


def layernorm(x: Node) -> Node:
    centred = x.value - x.value.mean(axis=-1, keepdims=True)
    sd = np.sqrt((centred**2).mean(axis=-1, keepdims=True))
    y = centred / sd

    def pull(g):
        return (g - g.mean(axis=-1, keepdims=True) - y * (g * y).mean(axis=-1, keepdims=True)) / sd

    return Node(y, [(x, pull)])


def limit(build, x: np.ndarray, width: int, nets: int, seed: int):
    """(value, standard error) of NNGP and NTK at infinite width, by 2 E_{2n} - E_n.

    ``build(tape, x, width)`` makes the output node; the bias left is O(1/n^2).
    """
    results = []
    for n, m in ((width, nets), (2 * width, nets)):
        parts: list[list[np.ndarray]] = [[], []]
        rng = np.random.default_rng([seed, n])
        for _ in range(max(1, m // 50)):
            tape = Tape(rng, 50)
            start = Node(np.broadcast_to(x, (50, *x.shape)))
            for store, k in zip(parts, tape.kernels(build(tape, start, n)), strict=True):
                store.append(k)
        samples = [np.concatenate(store) for store in parts]
        results.append([(s.mean(axis=0), s.std(axis=0, ddof=1) / np.sqrt(len(s))) for s in samples])
    (small, big) = results
    return [(2 * b - a, np.sqrt(4 * sb**2 + sa**2)) for (a, sa), (b, sb) in zip(small, big, strict=True)]
