"""Positional embeddings: Gaussian vectors of positions whose covariance is a function of their distance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np

from tpnum.nn.arguments import Accepts

if TYPE_CHECKING:
    from tpnum.nn.attention import GlobalSelfAttention
    from tpnum.nn.base import Features
    from tpnum.nn.emitter import Emitter
    from tpnum.program.lines import Axes

DECAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp(-d)": lambda d: np.exp(-d),
    "exp(-sqrt(d))": lambda d: np.exp(-np.sqrt(d)),
    "1/(1+d)": lambda d: 1.0 / (1.0 + d),
}
"""Decays of positional embeddings that the JSON form can name."""


def _decay(value: Any) -> Any:
    if value is None or callable(value) and not isinstance(value, type):
        return value
    name = "".join(value.split()) if isinstance(value, str) else ""
    if name not in DECAYS:
        raise ValueError
    return name


Decay = Annotated[
    Any, Accepts(f"a function of squared distances, one of {', '.join(DECAYS)}, or None", _decay)
]


class Embeddings(NamedTuple):
    """The shares of the features and of the embeddings in what is projected, and a root of the covariance.

    The root is (positions, positions) over a grid of ``sizes``, the first positions of which are those of
    every array that is embedded.
    """

    share: float
    own: float
    sizes: tuple[int, ...]
    root: np.ndarray

    def rows(self, axes: Axes) -> list[list[tuple[int, float]]]:
        """The root's rows at the positions of ``axes``, as an index map has them."""
        at = np.arange(len(self.root)).reshape(self.sizes)[tuple(slice(size) for _, size in axes)]
        return [[(k, w) for k, w in enumerate(row) if w] for row in self.root[at.ravel()].tolist()]


def embeddings(layer: GlobalSelfAttention, to: Emitter, *features: Features) -> Embeddings | None:
    """The embeddings of a layer of attention for all of ``features``; None if it has none."""
    if layer.pos_emb_type == "NONE":
        return None
    x = features[0]
    channels = layer.n_chan_pos_emb or x.channels
    share, own = 1.0, layer.W_pos_emb_std**2
    if layer.pos_emb_type == "CONCAT":
        share = x.channels / (x.channels + channels)
        own *= 1.0 - share
    elif channels != x.channels:
        raise to.error(
            f"n_chan_pos_emb is {channels}, but embeddings are added to {x.channels} channels; leave it "
            'out, or concatenate them, pos_emb_type="CONCAT"'
        )
    ranks = {len(each.axes) for each in features}
    if len(ranks) > 1:
        raise to.error(
            f"positions of {' and '.join(map(str, sorted(ranks)))} axes have no distance; leave out "
            "pos_emb_type"
        )
    sizes = tuple(max(along) for along in zip(*(each.sizes().values() for each in features), strict=True))
    return Embeddings(share, own, sizes, _root(layer, to, sizes))


def _root(layer: GlobalSelfAttention, to: Emitter, sizes: tuple[int, ...]) -> np.ndarray:
    """A root of the covariance of positional embeddings, (positions, positions)."""
    places = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1).reshape(-1, len(sizes))
    if layer.pos_emb_decay_fn is None:
        return np.eye(len(places))
    apart = (np.abs(places[:, None] - places[None]).astype(float) ** layer.pos_emb_p_norm).sum(axis=-1)
    decay: Any = DECAYS.get(layer.pos_emb_decay_fn, layer.pos_emb_decay_fn)
    try:
        cov = np.broadcast_to(np.asarray(decay(apart), dtype=float), apart.shape)
    except Exception as problem:  # a user's function
        raise to.error(f"pos_emb_decay_fn fails on an array of distances: {problem}") from None
    values, vectors = np.linalg.eigh(cov) if np.isfinite(cov).all() else (np.array([-1.0]), cov)
    if values[0] < -1e-10 * abs(values[-1]):
        raise to.error(
            f"pos_emb_decay_fn makes no covariance of {len(places)} positions (least eigenvalue "
            f"{values[0]:.3g}); take a positive definite function such as exp(-d)"
        )
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
