"""Convolutional NNGP and NTK by plain loops over pairs of positions, in extended precision.

q[p, p2] and t[p, p2] are arrays over pairs of images (i <= all images, j): every op is the sentence of
the layer table read aloud.  Extended precision (numpy's longdouble) stands in for cleverness.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

REAL = np.longdouble


@dataclass(frozen=True)
class Grid:
    """q, t of shape (positions, positions, N, N); ``shape`` the spatial shape; ``width`` channels.

    ``mask`` (positions, N) is 1 where an example has a position, ``graph`` (tails, heads, N) its adjacency.
    """

    q: np.ndarray
    t: np.ndarray
    shape: tuple[int, ...]
    width: int
    mask: np.ndarray | None = None
    graph: np.ndarray | None = None

    def masked(self) -> Grid:
        if self.mask is None:
            return self
        both = self.mask[:, None, :, None] * self.mask[None, :, None, :]
        return replace(self, q=self.q * both, t=self.t * both)

    def places(self):
        return list(product(*(range(n) for n in self.shape)))


def windows(shape, window, strides, padding, dilation=None):
    """For each output position the input positions under the window (None outside the image)."""
    out, before = [], []
    dilation = dilation or (1,) * len(window)
    for n, f, s, d in zip(shape, window, strides, dilation, strict=True):
        f = (f - 1) * d + 1
        if padding == "VALID":
            out.append((n - f) // s + 1)
            before.append(0)
        else:
            out.append(-(-n // s))
            before.append(max((out[-1] - 1) * s + f - n, 0) // 2)
    index = {p: k for k, p in enumerate(product(*(range(n) for n in shape)))}
    rows = []
    for p in product(*(range(n) for n in out)):
        row = []
        for o in product(*(range(f) for f in window)):
            at = tuple(
                a * s - b + c * d for a, s, b, c, d in zip(p, strides, before, o, dilation, strict=True)
            )
            if padding == "CIRCULAR":
                at = tuple(a % n for a, n in zip(at, shape, strict=True))
            row.append(index.get(at))
        rows.append(row)
    return tuple(out), rows


def middles(mask, shape, window, strides, padding, dilation=None):
    """The mask behind windows: that of the position in the middle of each, where the shape changes."""
    if mask is None:
        return None
    reach = [(f - 1) * d + 1 for f, d in zip(window, dilation or (1,) * len(window), strict=True)]
    _, seen = windows(shape, reach, strides, padding)
    offset = list(product(*(range(r) for r in reach))).index(tuple((r - 1) // 2 for r in reach))
    return np.stack([mask[row[offset]] for row in seen])


def _average(k, rows):
    """Mean over the common offset of both positions: Conv's A."""
    out = np.zeros((len(rows), len(rows), *k.shape[2:]), dtype=REAL)
    for a, row in enumerate(rows):
        for b, other in enumerate(rows):
            for p, p2 in zip(row, other, strict=True):
                if p is not None and p2 is not None:
                    out[a, b] += k[p, p2]
    return out / REAL(len(rows[0]))


def _linear(k, rows, weights):
    """The linear map with these rows on both positions."""
    half = np.stack(
        [
            sum((w * k[p] for p in row if p is not None), np.zeros_like(k[0]))
            for row, w in zip(rows, weights, strict=True)
        ]
    )
    return np.stack(
        [
            sum((w * half[:, p] for p in row if p is not None), np.zeros_like(half[:, 0]))
            for row, w in zip(rows, weights, strict=True)
        ],
        axis=1,
    )


def _weights(s: Grid, layer: dict, q, t):
    w2 = REAL(layer.get("W_std", 1.0)) ** 2
    bias = layer.get("b_std")
    b2 = REAL(0 if bias is None else bias) ** 2
    new = w2 * q + b2
    if layer.get("parameterization", "ntk") == "ntk":
        return new, new + w2 * t
    fan_in = s.width * int(np.prod(layer.get("filter_shape", (1,))))
    s0 = layer.get("s", (1, 1))[0]
    return new, REAL(fan_in) / s0 * q + w2 * t + (0 if bias is None else 1)


def _conv(s: Grid, layer: dict, local: bool) -> Grid:
    window = tuple(layer["filter_shape"])
    strides = tuple(layer.get("strides") or (1,) * len(window))
    shape, rows = windows(s.shape, window, strides, layer.get("padding", "VALID"), layer.get("dilation"))
    q, t = _weights(s, layer, _average(s.q, rows), _average(s.t, rows))
    if local:
        same = np.eye(len(rows), dtype=REAL)[:, :, None, None]
        q, t = q * same, t * same
    mask = middles(s.mask, s.shape, window, strides, layer.get("padding", "VALID"), layer.get("dilation"))
    return Grid(q, t, shape, layer["out_chan"], mask, s.graph).masked()


def _pool(s: Grid, layer: dict) -> Grid:
    window = tuple(layer["window_shape"])
    strides = tuple(layer.get("strides") or (1,) * len(window))
    shape, rows = windows(s.shape, window, strides, layer.get("padding", "VALID"))
    size = len(rows[0])
    weights = [REAL(1)] * len(rows)
    if layer["op"] == "AvgPool":
        inside = [sum(p is not None for p in row) for row in rows]
        weights = [REAL(1) / (n if layer.get("normalize_edges") else size) for n in inside]
    mask = middles(s.mask, s.shape, window, strides, layer.get("padding", "VALID"))
    q, t = _linear(s.q, rows, weights), _linear(s.t, rows, weights)
    return replace(s, q=q, t=t, shape=shape, mask=mask).masked()


def _variances(s: Grid) -> np.ndarray:
    return np.stack([np.diagonal(s.q[p, p]) for p in range(len(s.q))])


def _relu_like(a, b, v1, v2, c):
    root = np.sqrt(np.maximum(v1 * v2 - c * c, 0))
    th = np.arctan2(root, c)
    pi = 4 * np.arctan(REAL(1))
    e = ((a * a + b * b) * (root + (pi - th) * c) + 2 * a * b * (c * th - root)) / (2 * pi)
    d = ((a * a + b * b) * (pi - th) + 2 * a * b * th) / (2 * pi)
    return e, d


def _erf(v1, v2, c):
    pi = 4 * np.arctan(REAL(1))
    prod = (1 + 2 * v1) * (1 + 2 * v2)
    return 2 / pi * np.arcsin(2 * c / np.sqrt(prod)), 4 / pi / np.sqrt(prod - 4 * c * c)


def _nonlinear(s: Grid, layer: dict) -> Grid:
    op, var = layer["op"], _variances(s)
    q, t = np.empty_like(s.q), np.empty_like(s.t)
    for p in range(len(var)):
        for p2 in range(len(var)):
            v1, v2 = var[p][:, None], var[p2][None, :]
            if op == "Erf":
                e, d = _erf(v1, v2, s.q[p, p2])
            elif op == "Cos":
                plus, minus = np.exp(s.q[p, p2] - (v1 + v2) / 2), np.exp(-s.q[p, p2] - (v1 + v2) / 2)
                e, d = (plus + minus) / 2, (plus - minus) / 2
            else:
                a, b = {"Relu": (0, 1), "Abs": (-1, 1)}.get(op) or (
                    layer.get("alpha", layer.get("a")),
                    layer.get("b", 1.0),
                )
                e, d = _relu_like(REAL(a), REAL(b), v1, v2, s.q[p, p2])
            q[p, p2], t[p, p2] = e, s.t[p, p2] * d
    return replace(s, q=q, t=t).masked()


def _contracted(k, weights):
    """sum over r, s of A[r, p] k[r, s] A'[s, p'], A (tails, heads, N)."""
    half = sum(weights[r][:, None, :, None] * k[r][None] for r in range(len(k)))
    return sum(weights[s][None, :, None, :] * half[:, s][:, None] for s in range(len(k)))


def _embeddings(s: Grid, layer: dict):
    """The covariance R of positional embeddings, and the weights of the features and of R."""
    kind, own = layer.get("pos_emb_type", "NONE"), REAL(layer.get("W_pos_emb_std", 1.0)) ** 2
    if kind == "NONE":
        return REAL(0), REAL(1), REAL(0)
    places, power = np.array(s.places()), layer.get("pos_emb_p_norm", 2)
    apart = (np.abs(places[:, None] - places[None]).astype(REAL) ** power).sum(axis=-1)
    decay = {None: lambda d: (d == 0).astype(REAL), "exp(-d)": lambda d: np.exp(-d)}
    both = decay[layer.get("pos_emb_decay_fn")](apart)[:, :, None, None]
    if s.mask is not None:
        both = both * s.mask[:, None, :, None] * s.mask[None, :, None, :]
    if kind == "SUM":
        return both, REAL(1), own
    more = layer.get("n_chan_pos_emb") or s.width
    return both, REAL(s.width) / (s.width + more), own * more / (s.width + more)


def _attention(s: Grid, layer: dict) -> Grid:
    """Tied keys and queries, scaled by 1/n: weights that are numbers of each example."""
    std = {name: REAL(layer.get(f"W_{name}_std", 1.0)) for name in ("key", "query", "value", "out")}
    cov, share, own = _embeddings(s, layer)
    seen = share * s.q + own * cov
    positions, examples = len(s.q), s.q.shape[-1]
    if not layer.get("linear_scaling", True):
        return _random_products(s, layer, std, seen, share * s.t + own * cov)
    weights = np.zeros((positions, positions, examples), dtype=REAL)  # [key, query]
    kind = layer.get("attention_mechanism", "SOFTMAX")
    for i in range(examples):
        keys = [r for r in range(positions) if s.mask is None or s.mask[r, i]]
        for p in range(positions):
            logits = np.array([std["key"] * std["query"] * seen[p, r, i, i] for r in keys], dtype=REAL)
            made = {"IDENTITY": logits, "ABS": np.abs(logits), "RELU": np.maximum(logits, 0)}.get(kind)
            if made is None:
                allowed = np.array([not layer.get("causal") or r <= p for r in keys])
                made = np.where(allowed, np.exp(logits - logits[allowed].max(initial=-np.inf)), 0)
                made = made / made.sum()
            weights[keys, p, i] = made
    value = (std["value"] * std["out"]) ** 2
    q, t = (share * s.q + own * cov, share * s.t + own * cov) if layer.get("val_pos_emb") else (s.q, s.t)
    bias = REAL(layer.get("b_std") or 0) ** 2
    a = value * _contracted(q, weights)
    b = value * _contracted(t, weights)
    return replace(s, q=a + bias, t=b + bias + 2 * a, width=layer["n_chan_out"]).masked()


def _random_products(s: Grid, layer: dict, std: dict, q, t) -> Grid:
    """Scaled by 1/sqrt(n), infinitely many heads; values without embeddings.

    q and t are those of keys and queries: z[p, r] ~ N(0, q[p, p'] q[r, r']) and its direction varies by
    2 q q + t q + q t; a head is the sum over r of f(z[p, r]) v[r].
    """
    slopes = {"IDENTITY": None, "ABS": (-1, 1), "RELU": (0, 1)}[layer["attention_mechanism"]]
    inner, outer = (std["key"] * std["query"]) ** 2, (std["value"] * std["out"]) ** 2
    bias = REAL(layer.get("b_std") or 0) ** 2
    count, var = len(q), np.stack([np.diagonal(q[p, p]) for p in range(len(q))])
    value, moved = np.zeros_like(q), np.zeros_like(q)
    for p, p2 in product(range(count), repeat=2):
        seen = range(p + 1 if layer.get("causal") else count), range(p2 + 1 if layer.get("causal") else count)
        for r, s2 in product(*seen):
            cov = inner * q[p, p2] * q[r, s2]
            e, d = cov, REAL(1)
            if slopes:
                v1, v2 = (inner * var[p] * var[r])[:, None], (inner * var[p2] * var[s2])[None, :]
                e, d = _relu_like(*map(REAL, slopes), v1, v2, cov)
            z = inner * (2 * q[p, p2] * q[r, s2] + t[p, p2] * q[r, s2] + q[p, p2] * t[r, s2])
            value[p, p2] += outer * e * s.q[r, s2]
            moved[p, p2] += outer * (e * s.t[r, s2] + d * z * s.q[r, s2])
    return replace(s, q=value + bias, t=2 * value + moved + bias, width=layer["n_chan_out"]).masked()


def _block(layer: dict) -> dict:
    """A Transformer block as the residuals and layernorms that it stands for."""
    width, hidden = layer["n_chan"], layer.get("n_chan_mlp") or 4 * layer["n_chan"]
    dense = {"op": "Dense", "W_std": layer.get("W_std", 1.0), "b_std": layer.get("b_std")}
    mlp = [dense | {"out_dim": hidden}, layer.get("activation", {"op": "Relu"}), dense | {"out_dim": width}]
    attention = {
        "op": "GlobalSelfAttention", "n_chan_out": width,
        "linear_scaling": layer.get("scaling") != "1/sqrt(n)",
    } | {k: v for k, v in layer.items() if k.startswith("W_") and k != "W_std" or k in SHARED}  # fmt: skip
    norm, here = {"op": "LayerNorm", "eps": layer.get("eps", 1e-12)}, {"op": "Identity"}

    def added(*body: dict) -> dict:
        return {"op": "residual", "body": {"op": "serial", "layers": list(body)}, "shortcut": here}

    if layer.get("norm", "pre") == "pre":
        return {"op": "serial", "layers": [added(norm, attention), added(norm, *mlp)]}
    return {"op": "serial", "layers": [added(attention), norm, added(*mlp), norm]}


SHARED = ("attention_mechanism", "causal", "b_std")


def _layernorm(s: Grid, layer: dict) -> Grid:
    axes = {a % (len(s.shape) + 2) for a in np.atleast_1d(layer.get("axis", -1))}
    var = _variances(s).reshape(*s.shape, -1)
    over = {"axis": tuple(a - 1 for a in axes if 0 < a <= len(s.shape)), "keepdims": True}
    count = np.ones_like(var) if s.mask is None or not over["axis"] else s.mask.reshape(var.shape)
    mean = var.sum(**over) / np.maximum(count.sum(**over), 1) + np.zeros_like(var)
    scale = 1 / np.sqrt(mean + REAL(layer.get("eps", 1e-12))).reshape(len(s.q), -1)
    both = scale[:, None, :, None] * scale[None, :, None, :]
    return replace(s, q=s.q * both, t=s.t * both)


def walk(s: Grid, layer: dict) -> Grid:
    """The state after one layer; LayerNorm here is for zero-mean features only."""
    op = layer["op"]
    if op == "serial":
        for inner in layer["layers"]:
            s = walk(s, inner)
        return s
    if op == "Identity":
        return s
    if op == "residual":
        one, two = walk(s, layer["body"]), walk(s, layer["shortcut"])
        return replace(one, q=one.q + two.q, t=one.t + two.t)
    if op in ("Conv", "ConvLocal"):
        return _conv(s, layer, op == "ConvLocal")
    if op == "Dense":
        q, t = _weights(s, layer, s.q, s.t)
        return replace(s, q=q, t=t, width=layer["out_dim"]).masked()
    if op == "GlobalSelfAttention":
        return _attention(s, layer)
    if op == "TransformerBlock":
        return walk(s, _block(layer))
    if op == "Aggregate":
        return replace(s, q=_contracted(s.q, s.graph), t=_contracted(s.t, s.graph)).masked()
    if op in ("AvgPool", "SumPool"):
        return _pool(s, layer)
    if op in ("GlobalAvgPool", "GlobalSumPool"):
        n = np.full(s.q.shape[-1], len(s.q), dtype=REAL) if s.mask is None else s.mask.sum(axis=0)
        n = n if op == "GlobalAvgPool" else np.ones_like(n)
        q, t = (k.sum(axis=(0, 1))[None, None] / (n[:, None] * n[None, :]) for k in (s.q, s.t))
        return Grid(q, t, (), s.width)
    if op == "Flatten":
        q, t = (np.mean([k[p, p] for p in range(len(k))], axis=0)[None, None] for k in (s.q, s.t))
        return Grid(q, t, (), s.width * len(s.q))
    if op == "Dropout":
        factor = np.ones(s.q.shape[:1] * 2 + s.q.shape[2:], dtype=REAL)
        if layer.get("mode", "train") == "train":
            for p in range(len(factor)):
                factor[p, p][np.diag_indices(factor.shape[2])] = 1 / REAL(layer["rate"])
        return replace(s, q=s.q * factor, t=s.t * factor)
    if op == "LayerNorm":
        return _layernorm(s, layer)
    return _nonlinear(s, layer)


def kernels(
    network: dict, x: np.ndarray, mask_constant: float | None = None, graphs: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK of all pairs of x (batch first, channels last); positions left over follow as two axes.

    ``graphs`` are the adjacency matrices [example, tail, head] for Aggregate over all positions.
    """
    x = np.asarray(x, dtype=REAL)
    flat = x.reshape(len(x), -1, x.shape[-1])
    mask = None
    if mask_constant is not None:
        padding = (np.isnan(flat) | (flat == mask_constant)).any(axis=-1)
        flat, mask = np.where(padding[..., None], REAL(0), flat), (1 - padding).T.astype(REAL)
    size = flat.shape[1]
    graph = None if graphs is None else np.moveaxis(graphs.reshape(len(x), size, size), 0, -1).astype(REAL)
    q = np.einsum("ipc,jrc->prij", flat, flat) / x.shape[-1]
    end = walk(Grid(q, np.zeros_like(q), x.shape[1:-1], x.shape[-1], mask, graph), network)
    if end.shape:
        return tuple(np.moveaxis(k, (0, 1), (2, 3)).astype(float) for k in (end.q, end.t))
    return end.q[0, 0].astype(float), end.t[0, 0].astype(float)
