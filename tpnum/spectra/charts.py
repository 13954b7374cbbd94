"""How a law is entered as a part of a free product: points at which w and w G(w) are known functions.

The points of most laws are their w themselves; a law that is known through others has points of these.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tpnum.spectra.base import Atom


class Line(NamedTuple):
    """A chart linearised at points p of shape (k, n): w, ``value`` = w G(w), and logarithmic steps.

    log p moves by ``rest`` + ``tilt`` d value, of which the first brings p onto the chart, and log w by
    ``rest_w`` + ``tilt_w`` d value.
    """

    w: np.ndarray
    value: np.ndarray
    rest: np.ndarray
    tilt: np.ndarray
    rest_w: np.ndarray
    tilt_w: np.ndarray


class Chart:
    """A law on [0, inf) as a product knows it."""

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
    def peak(self) -> float | None:
        """A point inside where the density is infinite, if one is known."""
        return None

    def start(self, u: np.ndarray) -> np.ndarray:
        """Points (k, n) where w G(w) is about 1 + u, u small."""
        raise NotImplementedError

    def point(self, p: np.ndarray) -> np.ndarray:
        """w."""
        raise NotImplementedError

    def potential(self, p: np.ndarray) -> np.ndarray:
        """The logarithmic potential at w."""
        raise NotImplementedError

    def lines(self, p: np.ndarray) -> Line:
        """The chart near p."""
        raise NotImplementedError
