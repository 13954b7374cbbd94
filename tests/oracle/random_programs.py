"""Random small programs with transposes, reuse of matrices and vectors, scalars and rectangular matrices.

``pick(k)`` chooses a number below k; everything else follows, so that any source of choices will do
(hypothesis, or a generator of random numbers).  Functions are bounded or polynomials, and no vector grows
faster than quadratically in Gaussians: its moments at small widths then tell of its limit.  Nothing
bends or jumps at an atom of its argument's law: relu(relu(g) + m x), where the scalar m tends to zero,
converges like n^-1/2, and sign(..) of the same not at all.
"""

from __future__ import annotations

import tpnum as tp
from tpnum import functions

BOUNDED = (tp.tanh, tp.erf, tp.sin)
COEFS = (1.0, -1.0, 0.5, 1.5)


class Writer:
    def __init__(self, pick):
        self.pick = pick
        self.p = tp.Program()
        self.p.dim("m", (0.5, 2.0, 1.0)[pick(3)])
        self.x = self.p.vector("x", mean=(0.0, 0.4)[pick(2)])
        self.degree = {self.x.name: 1}  # growth in the Gaussians
        self.vectors = {"n": [self.x], "m": []}
        self.matrices = [
            self.p.matrix("W", var=(0.8, 1.2)[pick(2)]),
            self.p.matrix("A", var=(0.8, 1.2)[pick(2)], rows="m", cols="n"),
        ]
        self.operands = {}  # (matrix, transposed) -> largest degree of an operand
        self.scalars = []
        self.atoms = set()  # vectors that may be constant on a part of the probability space

    def choose(self, items):
        return items[self.pick(len(items))]

    def keep(self, v, degree, *parts):
        self.degree[v.name] = degree
        if any(part.name in self.atoms for part in parts):
            self.atoms.add(v.name)
        self.vectors[v.dim].append(v)

    def recent(self, dim):
        """A vector, one of the last three more often than not."""
        known = self.vectors[dim]
        return known[-1 - self.pick(min(3, len(known)))] if self.pick(3) else self.choose(known)

    def product(self):
        w = self.choose(self.matrices)
        back = self.pick(2) == 1 and bool(self.vectors[w.rows])
        v = self.recent(w.rows if back else w.cols)
        degree = self.degree[v.name]
        key, opposite = (w.name, back), (w.name, not back)
        made = (w.T if back else w) @ v
        self.operands[key] = max(self.operands.get(key, 0), degree)
        self.keep(made, max(1, self.operands.get(opposite, 0)))

    def bounded(self):
        v = self.recent(self.dim())
        self.keep(self.choose(BOUNDED)(v), 0, v)

    def rough(self):
        v = self.recent(self.dim())
        smooth = v.name in self.atoms
        made = ((tp.tanh, tp.sin) if smooth else (functions.relu, functions.sign))[self.pick(2)](v)
        self.atoms.add(made.name)
        self.keep(made, 0 if smooth else self.degree[v.name])

    def product_of_vectors(self):
        dim = self.dim()
        a, b = self.recent(dim), self.recent(dim)
        if self.degree[a.name] + self.degree[b.name] <= 2:
            self.keep(a * b, self.degree[a.name] + self.degree[b.name], a, b)
        else:
            self.keep(tp.tanh(a) * b, self.degree[b.name], a, b)

    def sum(self):
        dim = self.dim()
        a, b = self.recent(dim), self.recent(dim)
        made = self.choose(COEFS) * a + self.choose(COEFS) * b
        if self.pick(2):
            if not self.scalars or self.pick(2):
                self.scalars.append(self.p.mean(self.choose(BOUNDED)(b) * self.recent(dim)))
            made = self.choose(COEFS) * a - self.choose(COEFS) * (self.scalars[-1] * b)
        self.keep(made, max(self.degree[a.name], self.degree[b.name]), a, b)

    def scalar(self):
        dim = self.dim()
        a, b = self.recent(dim), self.recent(dim)
        self.scalars.append(self.p.mean(tp.tanh(a) * b))

    def dim(self):
        return "m" if self.vectors["m"] and self.pick(3) == 0 else "n"


def random_gradients(pick):
    """(program, pairs of vectors): a random net, then lines that multiply by its transposes.

    They start from zero-mean vectors, as gradients do, but may do anything afterwards: whether they are
    independent of the weights is left to chance.
    """

    def choose(items):
        return items[pick(len(items))]

    def bent(v):
        return choose((*BOUNDED, functions.relu, functions.sign))(v)

    p = tp.Program()
    p.dim("m", choose((0.5, 1.0, 2.0)))
    x, y = p.vector("x", mean=choose((0.0, 0.4))), p.vector("y")
    w, a = p.matrix("W", var=choose((0.8, 1.2))), p.matrix("A", rows="m", var=1.1)
    forward = [x]
    for _ in range(2 + pick(3)):
        kind = pick(5)
        if kind == 0:
            a @ choose(forward)
        elif kind == 1:
            forward.append(w @ bent(choose(forward)))
        elif kind == 2:
            forward.append(choose(forward) + choose((1.0, -0.5)) * choose([y, *forward]))
        else:
            forward.append(bent(choose(forward)))
    v, u = p.vector("v", mean=choose((0.0, 0.0, 0.0, 0.5))), p.vector("u", dim="m")
    back = [v, v * bent(choose(forward))]
    for _ in range(2 + pick(4)):
        kind = pick(7)
        if kind < 3:
            back.append(w.T @ choose(back))
        elif kind == 3:
            back.append(a.T @ u)
        elif kind == 4:
            back.append(choose(back) * choose((bent(choose(forward)), choose(back))))
        elif kind == 5:
            average = p.mean(choose(back) * choose(forward + back))
            back.append(choose(back) - average * choose(forward + back))
        else:
            back.append(tp.tanh(choose(back)))
        if pick(8) == 0:
            forward.append(w @ bent(choose(back)))
    late = (forward + back)[-6:]
    return p, [(s, t) for k, s in enumerate(late) for t in late[: k + 1]]


def random_program(pick, steps=9):
    """(program, names of the scalars to compare): second moments of late vectors with each other."""
    w = Writer(pick)
    w.product()
    for _ in range(steps):
        made = w.choose(
            (
                w.product,
                w.product,
                w.product,
                w.product,
                w.bounded,
                w.product_of_vectors,
                w.sum,
                w.scalar,
                w.rough,
            )
        )
        made()
    asked = []
    for vectors in w.vectors.values():
        for k, v in enumerate(vectors[-4:]):
            for u in vectors[-4:][: k + 1]:
                asked.append(w.p.mean(tp.tanh(u) * v).name)
    asked += [s.name for s in w.scalars]
    return w.p, list(dict.fromkeys(asked))
