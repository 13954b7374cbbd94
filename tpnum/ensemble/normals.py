"""G-vars that are known by their covariances, and drawn on points only where a function reads them.

A G-var is a sum of products with matrices and of inputs.  Products with one matrix are a *channel*: their
covariances are those of the matrix's operands.  Sums and gathers of G-vars stay sums of rows of channels, so
that covariances between any two are exact given those of the channels; what is correlated is a *component*,
whose G-vars are drawn one family after another, each given those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from tpnum.law.hats import COLLINEAR

if TYPE_CHECKING:
    from tpnum.ensemble.atoms import Atom
    from tpnum.ensemble.draws import Draws

TERMS = 64
"""Rows of one channel that a sum is made of, beyond which it is no longer kept as such."""


class Channel(Protocol):
    """Gaussians known by their covariances, row by row."""

    def cov(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Covariances of the rows ``a`` with the rows ``b``."""


@dataclass(eq=False)
class Products:
    """Products with one matrix, by the second moments of what it multiplies."""

    variance: float
    count: int = 0
    _gram: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def enter(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """Rows for new operands, by second moments with those before them, block by block, and their own."""
        size = len(blocks[-1])
        begin, end = self.count, self.count + size
        self._gram = grown(self._gram, end)
        moments = np.concatenate(blocks, axis=1)
        self._gram[begin:end, :end] = moments
        self._gram[:begin, begin:end] = moments[:, :begin].T
        self.count = end
        return np.arange(begin, end)

    def cov(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """See `Channel`."""
        return self.variance * self._gram[a[:, None], b]


def grown(square: np.ndarray, size: int) -> np.ndarray:
    """A square array with room for so many."""
    if size <= len(square):
        return square
    made = np.zeros((max(size, 2 * len(square)),) * 2)
    made[: len(square), : len(square)] = square
    return made


class IndependentProducts:
    """Products with a family of independent matrices: row r of member m is m * STRIDE + r."""

    STRIDE = 1 << 32

    def __init__(self, members: Sequence[Products]) -> None:
        self.members = members

    def cov(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """See `Channel`."""
        made = np.zeros((a.size, b.size))
        (left, rows), (right, cols) = np.divmod(a, self.STRIDE), np.divmod(b, self.STRIDE)
        for member in np.intersect1d(left, right):
            i, j = np.flatnonzero(left == member), np.flatnonzero(right == member)
            made[i[:, None], j] = self.members[member].cov(rows[i], cols[j])
        return made


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs, jointly Gaussian, independent of those of another copy; row r is copy * k + name."""

    covariance: np.ndarray

    def cov(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """See `Channel`."""
        k = len(self.covariance)
        same = (a // k)[:, None] == b // k
        return np.where(same, self.covariance[(a % k)[:, None], b % k], 0.0)


@dataclass(frozen=True, eq=False)
class Part:
    """weights * the rows ``rows`` of a channel, arrays (examples or 1, *axes)."""

    channel: Channel
    rows: np.ndarray
    weights: np.ndarray


@dataclass(eq=False)
class Normal:
    """A family of G-vars (examples or 1, *axes): a sum of parts, and its means."""

    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    mean: np.ndarray
    component: Component
    points: np.ndarray | None = None  # once it is drawn
    _atom: Atom | None = None

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def atom(self) -> Atom:
        """The family as a factor that is not drawn."""
        if self._atom is None:
            from tpnum.ensemble.atoms import Atom

            self._atom = Atom.of(self)
        return self._atom

    @property
    def core(self) -> Normal:
        """The family without the axes along which nothing changes, which are of length one."""
        arrays = [self.mean, *(a for part in self.parts for a in (part.rows, part.weights))]
        return Normal(np.broadcast_shapes(*(a.shape for a in arrays)), self.parts, self.mean, self.component)

    def drawn(self) -> np.ndarray:
        """Its points, (examples or 1, *axes, points)."""
        if self.points is None:
            points = self.component.draw(self.core)
            self.points = np.broadcast_to(points, (*self.shape, points.shape[-1]))
        return self.points

    def flat(self) -> list[tuple[Channel, np.ndarray, np.ndarray]]:
        """The parts, an entry for every member of the family."""
        return [(p.channel, self._full(p.rows), self._full(p.weights)) for p in self.parts]

    def _full(self, array: np.ndarray) -> np.ndarray:
        return array.ravel() if array.shape == self.shape else np.broadcast_to(array, self.shape).ravel()

    def means(self) -> np.ndarray:
        """E Z, an entry for every member of the family."""
        return np.broadcast_to(self.mean, self.shape).ravel()

    def crowded(self) -> bool:
        """Whether sums of so many rows of one channel are no longer worth keeping."""
        channels = [id(part.channel) for part in self.parts]
        return len(channels) - len(set(channels)) >= TERMS


class Members:
    """Families of G-vars in a row, and the covariances of another one with all of them."""

    def __init__(self) -> None:
        self.size = 0
        self._lanes: dict[tuple[int, int], list[tuple[np.ndarray, ...]]] = {}

    def add(self, normal: Normal, at: int | None = None) -> None:
        """One family more, with its place if there is something else before it."""
        seen: dict[int, int] = {}
        self.size = self.size if at is None else at
        places = np.arange(self.size, self.size + normal.size)
        for channel, rows, weights in normal.flat():
            lane = seen[id(channel)] = seen.get(id(channel), -1) + 1
            self._lanes.setdefault((id(channel), lane), []).append((rows, weights, places))
        self.size += normal.size

    def covariance(self, normal: Normal) -> np.ndarray:
        """Of every member of a family with all that were added, zero with what else there is."""
        made = np.zeros((normal.size, self.size))
        for channel, rows, weights in normal.flat():
            lane = 0
            while (found := self._lanes.get((id(channel), lane))) is not None:
                cols, others, places = (np.concatenate(each) for each in zip(*found, strict=True))
                self._lanes[id(channel), lane] = [(cols, others, places)]
                made[:, places] += weights[:, None] * channel.cov(rows, cols) * others
                lane += 1
        return made


def covariance(a: Normal, b: Normal) -> np.ndarray:
    """Of every member of a family with every one of another."""
    members = Members()
    members.add(b)
    return members.covariance(a)


def second(a: Normal, b: Normal) -> np.ndarray:
    """E Z Z' of every member of a family with every one of another."""
    return covariance(a, b) + np.multiply.outer(a.means(), b.means())


class Group(NamedTuple):
    """Components of which some function has G-vars; of tangents (``odd``) every one is alone."""

    components: tuple[str, ...]
    odd: bool = False


class Component:
    """Correlated G-vars: what is drawn of them so far, and how they give its innovations.

    Those that are not ``drawn`` where it can be helped are tangents, or linear.
    """

    def __init__(self, draws: Draws, group: Group, key: str = "", linear: bool = False) -> None:
        self._draws = draws
        self.key, self.group = key, group
        self.drawn = not (group.odd or linear)
        self._members = Members()
        self._own = np.zeros(0, dtype=np.int64)  # its innovations among all
        self._inverse = np.zeros((0, 0))  # how they follow from what is drawn
        self._factors: list[np.ndarray] = []  # how what is drawn follows from them, family by family

    def directions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The numbers of its innovations, principal directions of what is drawn in them, and deviations."""
        factor = np.zeros((sum(map(len, self._factors)), len(self._own)))
        end = 0
        for rows in self._factors:
            factor[end : end + len(rows), : rows.shape[1]] = rows
            end += len(rows)
        _, deviations, turned = np.linalg.svd(factor, full_matrices=False)
        return self._own, turned.T, deviations

    def draw(self, normal: Normal) -> np.ndarray:
        """The points (examples or 1, *axes, points) of a family."""
        size = normal.size
        own = covariance(normal, normal)
        scale = np.sqrt(np.maximum(np.diagonal(own), 0.0))
        down = np.divide(1.0, scale, out=np.zeros(size), where=scale > 0.0)
        known = self._members.covariance(normal) @ self._inverse.T
        left = (own - known @ known.T) * down[:, None] * down
        values, vectors = np.linalg.eigh(left)
        order = np.flatnonzero(values > COLLINEAR)[::-1]
        roots, vectors = np.sqrt(values[order]), vectors[:, order]
        vectors *= np.sign(vectors[np.argmax(np.abs(vectors), axis=0), np.arange(len(order))])
        begin, new = len(self._own), self._draws.take(len(order))
        root = scale[:, None] * vectors * roots
        points = known @ self._draws.made[self._own] + root @ self._draws.made[new]
        points += normal.means()[:, None]
        self._own = np.concatenate([self._own, new])
        solve = (vectors * down[:, None]).T / roots[:, None]
        self._inverse = np.block(
            [[self._inverse, np.zeros((begin, size))], [-solve @ known @ self._inverse, solve]]
        )
        self._members.add(normal)
        self._factors.append(np.concatenate([known, root], axis=1))
        return points.reshape(*normal.shape, -1)
