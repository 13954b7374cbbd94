"""How laws are entered as parts of a free product: points at which w and w G(w) are known functions.

The points of most laws are their w themselves; a law that is known through others, a `Chart`, has points of
these.  Laws of one kind are solved for side by side: arrays have the laws in front, points are of shape
(laws, k, n).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tpnum.spectra.base import Atom, Measure
from tpnum.spectra.closed import Discrete, above
from tpnum.spectra.sides import both_sides, both_sides_with_slope
from tpnum.spectra.sums import of_atoms


class Line(NamedTuple):
    """Laws linearised at points p: w, ``value`` = w G(w), and logarithmic steps.

    log p moves by ``rest`` + ``tilt`` d value, of which the first brings p onto the chart, and log w by
    ``rest_w`` + ``tilt_w`` d value.
    """

    w: np.ndarray
    value: np.ndarray
    rest: np.ndarray
    tilt: np.ndarray
    rest_w: np.ndarray
    tilt_w: np.ndarray


class Rank:
    """Laws of one kind, side by side, of these ``means`` (laws, 1)."""

    means: np.ndarray

    def start(self, u: np.ndarray) -> np.ndarray:
        """Points (laws, k, n) where w G(w) is about 1 + u, u small."""
        raise NotImplementedError

    def point(self, p: np.ndarray) -> np.ndarray:
        """w."""
        raise NotImplementedError

    def potential(self, p: np.ndarray) -> np.ndarray:
        """The logarithmic potentials at w."""
        raise NotImplementedError

    def lines(self, p: np.ndarray) -> Line:
        """The laws near p."""
        raise NotImplementedError


class Chart:
    """A law on [0, inf) as a product knows it."""

    @property
    def kind(self) -> object:
        """What laws that form a rank have in common."""
        raise NotImplementedError

    @staticmethod
    def rank(charts: Sequence[Chart]) -> Rank:
        """Laws of this kind side by side."""
        raise NotImplementedError

    @property
    def mean(self) -> float:
        """The integral of x."""
        raise NotImplementedError

    @property
    def second(self) -> float:
        """The integral of x^2."""
        raise NotImplementedError

    @property
    def hull(self) -> tuple[float, float]:
        """Bounds of all mass."""
        raise NotImplementedError

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """The points of positive mass."""
        return ()

    @property
    def variance(self) -> float:
        return self.second - self.mean**2

    @property
    def reaches_zero(self) -> bool:
        """Whether the density is known to go down to 0."""
        return False

    @property
    def peak(self) -> float | None:
        """An edge where the density is infinite, if one is known, with a gap to its right."""
        return None


class Measures(Rank):
    """Laws that are known by their own Cauchy transforms."""

    def __init__(self, laws: Iterable[Measure]) -> None:
        self.laws = tuple(laws)
        self.means = np.array([[law.mean] for law in self.laws])
        self._seconds = np.array([[law.second] for law in self.laws])
        self._atoms = None
        if all(isinstance(law, Discrete) for law in self.laws):
            found = [law for law in self.laws if isinstance(law, Discrete)]
            starts = np.cumsum([0, *(law.points.size for law in found)])
            points, masses = (np.concatenate([getattr(x, n) for x in found]) for n in ("points", "masses"))
            self._atoms = points, masses, starts

    def transform(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """G and G' at w, (laws, n), on both sides of the line."""
        if self._atoms is not None:
            return of_atoms(w, *self._atoms)
        pairs = [both_sides_with_slope(law._transform, own) for law, own in zip(self.laws, w, strict=True)]
        return np.array([g for g, _ in pairs]), np.array([slope for _, slope in pairs])

    def potentials(self, w: np.ndarray) -> np.ndarray:
        """U at w, (laws, n), on both sides of the line."""
        return np.array([both_sides(law._potential, own) for law, own in zip(self.laws, w, strict=True)])

    def start(self, u: np.ndarray) -> np.ndarray:
        return (self.means / u + self._seconds / self.means)[:, None]

    def point(self, p: np.ndarray) -> np.ndarray:
        return p[:, 0]

    def potential(self, p: np.ndarray) -> np.ndarray:
        return self.potentials(above(p[:, 0]))

    def lines(self, p: np.ndarray) -> Line:
        w = p[:, 0]
        g, slope = self.transform(w)
        tilt = 1.0 / (w * (g + w * slope))
        none = np.zeros(w.shape)
        return Line(w, w * g, none[:, None], tilt[:, None], none, tilt)


def ranks(parts: Iterable[tuple[Measure | Chart, float]]) -> list[tuple[Rank, np.ndarray]]:
    """Laws and how often each is taken, as ranks of laws and their times (laws, 1)."""
    kinds: dict[object, tuple[list[Measure | Chart], list[float]]] = {}
    for part, t in parts:
        laws, times = kinds.setdefault(part.kind if isinstance(part, Chart) else None, ([], []))
        laws.append(part)
        times.append(t)
    made: list[tuple[Rank, np.ndarray]] = []
    for laws, times in kinds.values():
        charts = [law for law in laws if isinstance(law, Chart)]
        rank = charts[0].rank(charts) if charts else Measures(x for x in laws if isinstance(x, Measure))
        made.append((rank, np.array(times)[:, None]))
    return made
