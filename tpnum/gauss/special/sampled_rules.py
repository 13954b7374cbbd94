"""What averages over shared points have in common: v = A x + B y given u = L x, squares of both sides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tpnum.gauss.special.families import NOTHING, PIECE, REPLICATES, T95, normal_sets
from tpnum.kernels.jointly import conditional

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tpnum.gauss.special.functional import Functional
    from tpnum.gauss.special.pairing import Pairing


class Rule(ABC):
    """A sum over the points of cells, replicate by replicate."""

    usual: ClassVar[dict[str, float]]
    """Errors of `LEAST` points, about, relative to the value."""

    shape: tuple[int, ...] = ()
    """That of a cell's value."""

    def __init__(
        self,
        what: str,
        functionals: tuple[Functional, Functional],
        pairing: Pairing,
        power: int,
        alone: int,
        replicates: range = range(REPLICATES),
    ) -> None:
        self.what, self.functionals, self.pairing = what, functionals, pairing
        self.left, self.right, self.places = pairing.left, pairing.right, (pairing.a, pairing.b)
        self.cross, self.direction, self.moments = pairing.cross, pairing.direction, pairing.moments
        self.power, self.alone_power, self.replicates = power, alone, replicates
        self.d, self.e = self.left.cov.shape[1], self.right.cov.shape[1]
        self.points = self.sets(self.d + self.e, power)

    def sets(self, d: int, power: int) -> np.ndarray:
        """Points of the replicates, (replicates, d, points)."""
        return normal_sets(d, power, self.replicates)

    def __call__(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values, half a 95 % interval of each cell, and its scale, which relative errors are of."""
        apart, same = np.flatnonzero(~self.pairing.same), np.flatnonzero(self.pairing.same)
        made = np.zeros((len(self.replicates), len(self.cross), *self.shape))
        near = Near(made[:, apart].shape) if self.near else None
        for r, z in enumerate(self.points) if len(apart) else ():
            self.begin(r, z[: self.d])
            for at in self._pieces(len(apart), z.shape[1]):
                cells = apart[at]
                made[r, cells] = self.products(r, cells, self._turned(cells), z, near, at)
        if near is not None:
            made[:, apart] += near.correction
        for some in np.array_split(same, 1 + len(same) // 1024) if len(same) else ():
            made[:, some] = self.alone(some)
            if self.moments is not None:
                self.put(made, some, self.moments[0][some])
        value = made.mean(axis=0)
        spread = ((made - value) ** 2).sum(axis=0) / (len(made) * max(1, len(made) - 1))
        error = T95 * np.sqrt(spread.reshape(len(value), -1).mean(axis=1))
        return value, error, self.scale(value)

    def _turned(self, cells: np.ndarray) -> np.ndarray:
        """[A, B] of some cells."""
        a, b = (place[cells] for place in self.places)
        turned = np.empty((len(cells), self.e, self.d + self.e))
        root = np.zeros((self.e, self.e))
        conditional(self.cross[cells], self.left.factors[1], root, self.right.cov, a, b, NOTHING, turned)
        return turned

    def _pieces(self, count: int, points: int) -> Iterator[slice]:
        step = max(1, PIECE // (self.e * points))
        for begin in range(0, count, step):
            yield slice(begin, min(begin + step, count))

    def second(self, cells: np.ndarray, turned: np.ndarray, z: np.ndarray) -> np.ndarray:
        """v at the points, (cells, e, points)."""
        v = (turned.reshape(-1, self.d + self.e) @ z).reshape(-1, self.e, z.shape[1])
        if self.right.mean is not None:
            v += self.right.mean[self.places[1][cells]][:, :, None]
        return v

    @property
    @abstractmethod
    def near(self) -> bool:
        """Whether the squares of both sides correct their product."""

    @abstractmethod
    def begin(self, r: int, x: np.ndarray) -> None:
        """The left families at the points of the r-th replicate."""

    @abstractmethod
    def products(
        self, r: int, cells: np.ndarray, turned: np.ndarray, z: np.ndarray, near: Near | None, at: slice
    ) -> np.ndarray:
        """Averages of the r-th replicate for some cells, v = turned z; what is ``near`` learns of squares."""

    @abstractmethod
    def alone(self, cells: np.ndarray) -> np.ndarray:
        """The same where both sides are one vector, (replicates, cells, ..)."""

    @abstractmethod
    def put(self, made: np.ndarray, cells: np.ndarray, moments: np.ndarray) -> None:
        """Put second moments in place of the averages of squares."""

    def scale(self, value: np.ndarray) -> np.ndarray:
        """The largest entry of each cell's value, (cells,)."""
        return np.asarray(np.abs(value).reshape(len(value), -1).max(axis=1, initial=0.0))


class Near:
    """How far averages of squares over a pair's points are off, and how much of that its product is.

    The best multiple of the half of both, k of a product and s of squares, is 2 r / (1 + r^2), r = k / s, for
    Gaussian sides: 1 where these are equal.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.missing, self.product, self.square = np.zeros((3, *shape))

    @property
    def correction(self) -> np.ndarray:
        product, square = self.product.mean(axis=0), self.square.mean(axis=0)
        alike = np.divide(product, square, out=np.zeros_like(square), where=square > 0.0)
        alike = np.clip(alike, 0.0, 1.0)
        return np.asarray(2.0 * alike / (1.0 + alike**2) * self.missing)
