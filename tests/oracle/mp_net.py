"""NNGP and NTK of a JSON network without spatial axes, in mpmath, from the recursion as it is written.

`kernels(network, x)` takes the inputs as exact floats and returns the two N x N matrices.  Every
variance and covariance is a plain second moment at `mp.dps` digits: no clever form, just digits
enough that none is needed.  A case that needs a joint law of its branches is refused, not guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count

from mpmath import mp, mpf

from .mp_duals import activation

DIGITS = 60


@dataclass(frozen=True)
class State:
    """Second moments q and tangent kernel t of a layer's output for every pair i <= j of inputs.

    ``roots`` are the weights that the coordinates of the layer are functions of (empty for data);
    ``linear`` says whether they are Gaussian; ``mean`` is E of the coordinate per input.
    """

    q: dict
    t: dict
    mean: list
    width: int
    roots: frozenset = frozenset()
    linear: bool = True


def _dense(s: State, layer: dict, fresh) -> State:
    w2 = mpf(layer.get("W_std", 1.0)) ** 2
    bias = layer.get("b_std")
    b2 = mpf(bias) ** 2 if bias is not None else mpf(0)
    q, t = {}, {}
    for key, old in s.q.items():
        q[key] = w2 * old + b2
        if layer.get("parameterization", "ntk") == "ntk":
            t[key] = q[key] + w2 * s.t[key]
        else:
            s0 = mpf(layer.get("s", (1, 1))[0])
            t[key] = s.width / s0 * old + w2 * s.t[key] + (0 if bias is None else 1)
    return State(q, t, [mpf(0)] * len(s.mean), layer["out_dim"], frozenset([next(fresh)]))


def _nonlinear(s: State, layer: dict) -> State:
    if not s.roots or not s.linear:
        raise ValueError(f"the oracle wants a Gaussian before {layer['op']}")
    f = activation(layer)
    var = [s.q[i, i] for i in range(len(s.mean))]
    q = {(i, j): f.pair(var[i], var[j], c) for (i, j), c in s.q.items()}
    t = {(i, j): s.t[i, j] * f.slope(var[i], var[j], c) for (i, j), c in s.q.items()}
    return replace(s, q=q, t=t, mean=[f.mean(v) for v in var], linear=False)


def _layernorm(s: State, layer: dict) -> State:
    if not s.roots:
        raise ValueError("the oracle wants no LayerNorm on data")
    eps = mpf(layer.get("eps", 1e-12))
    scale = [1 / mp.sqrt(s.q[i, i] - m * m + eps) for i, m in enumerate(s.mean)]
    q = {(i, j): (c - s.mean[i] * s.mean[j]) * scale[i] * scale[j] for (i, j), c in s.q.items()}
    t = {(i, j): c * scale[i] * scale[j] for (i, j), c in s.t.items()}
    return replace(s, q=q, t=t, mean=[mpf(0)] * len(s.mean))


def _dropout(s: State, layer: dict) -> State:
    if layer.get("mode", "train") == "test":
        return s
    keep = mpf(layer["rate"])

    def scaled(k):
        return {(i, j): c / keep if i == j else c for (i, j), c in k.items()}

    return replace(s, q=scaled(s.q), t=scaled(s.t), linear=False)


def _join(parts: list[State], how: str) -> State:
    roots = frozenset().union(*(p.roots for p in parts))
    if sum(len(p.roots) for p in parts) != len(roots) or not all(p.roots for p in parts):
        raise ValueError("the oracle wants branches that end in weights of their own")
    keys, first = parts[0].q, parts[0]
    if how == "sum":
        if any(m for p in parts for m in p.mean):
            raise ValueError("the oracle wants zero-mean summands")
        q = {k: mp.fsum(p.q[k] for p in parts) for k in keys}
        t = {k: mp.fsum(p.t[k] for p in parts) for k in keys}
        return State(q, t, first.mean, first.width, roots, all(p.linear for p in parts))
    if how == "concat":
        width = sum(p.width for p in parts)
        q = {k: mp.fsum(p.width * p.q[k] for p in parts) / width for k in keys}
        t = {k: mp.fsum(p.width * p.t[k] for p in parts) / width for k in keys}
        mean = [
            mp.fsum(p.width * m for p, m in zip(parts, ms, strict=True)) / width
            for ms in zip(*(p.mean for p in parts), strict=True)
        ]
        return State(q, t, mean, width, roots, False)
    q = {k: mp.fprod(p.q[k] for p in parts) for k in keys}
    t = {
        k: mp.fsum(p.t[k] * mp.fprod(o.q[k] for o in parts if o is not p) for p in parts)
        for k in keys
    }  # fmt: skip
    mean = [mp.fprod(ms) for ms in zip(*(p.mean for p in parts), strict=True)]
    return State(q, t, mean, first.width, roots, False)


def walk(s: State, layer: dict, fresh) -> State:
    """The state after one layer."""
    op = layer["op"]
    if op == "serial":
        for inner in layer["layers"]:
            s = walk(s, inner, fresh)
        return s
    if op == "Identity":
        return s
    if op == "Dense":
        return _dense(s, layer, fresh)
    if op == "LayerNorm":
        return _layernorm(s, layer)
    if op == "Dropout":
        return _dropout(s, layer)
    if op == "residual":
        return _join([walk(s, layer["body"], fresh), walk(s, layer["shortcut"], fresh)], "sum")
    if op == "branches":
        return _join([walk(s, b, fresh) for b in layer["branches"]], layer["join"])
    return _nonlinear(s, layer)


def kernels(network: dict, x, digits: int = DIGITS):
    """NNGP and NTK of ``network`` on the rows of ``x`` (floats, taken exactly): two lists of lists of mpf."""
    with mp.workdps(digits):
        rows = [[mpf(float(v)) for v in row] for row in x]
        n, d = len(rows), len(rows[0])
        gram = {(i, j): mp.fdot(rows[i], rows[j]) / d for i in range(n) for j in range(i, n)}
        start = State(gram, dict.fromkeys(gram, mpf(0)), [mpf(0)] * n, d)
        end = walk(start, network, count())
        full = [[[k[min(i, j), max(i, j)] for j in range(n)] for i in range(n)] for k in (end.q, end.t)]
    return full[0], full[1]
