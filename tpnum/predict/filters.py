"""What full-batch training has learned of a mode of the kernel by a time: filters of its eigenvalues.

Of the loss 1/2 sum |f - y|^2 the residual f - y along an eigenvector of eigenvalue z shrinks by a factor
e(z), and what has been learned is p(z) = (1 - e(z)) / z times the targets.  A filter gives both as functions
of z and of the time, each with all its digits: p where z is 0 (the time itself), e where it is tiny.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tpnum.arguments import number, whole
from tpnum.errors import InputError

NODES = 24
"""Of Talbot's contour, of which half are evaluated: its error, 3.89^-24, is rounding."""
SHORT = 1e-300
"""A time within which nothing is learned, and whose inverse is a number."""


class Filter(Protocol):
    """A way to train."""

    def __call__(self, z: np.ndarray, time: float) -> tuple[np.ndarray, np.ndarray]: ...

    def time(self, value: object, name: str = ...) -> float: ...

    def largest_rate(self, top: float) -> float: ...


@dataclass(frozen=True)
class Flow:
    """Gradient flow, df/dt = -rate Theta (f - y): p = (1 - exp(-rate z t)) / z."""

    rate: float = 1.0

    def __call__(self, z: np.ndarray, time: float) -> tuple[np.ndarray, np.ndarray]:
        x = z * (self.rate * time)
        p = np.full_like(z, self.rate * time)
        np.divide(-np.expm1(-x), z, out=p, where=x > 1e-300)
        return p, np.exp(-x)

    def ridges(self, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Noises s and weights c with which flow until ``time`` > 0 is a sum of ridge regressions.

        exp(-z t) = Re sum c s / (z + s), the inverse Laplace transform in the time on Talbot's contour
        (Trefethen, Weideman & Schmelzer 2006), to rounding: whatever is known of ridges is known of flows.
        """
        angle = np.pi * np.arange(1, NODES, 2) / NODES
        nodes = NODES * (-0.6122 + 0.5017 * angle / np.tan(0.6407 * angle) + 0.2645j * angle)
        slopes = (
            0.5017 * (1 / np.tan(0.6407 * angle) - 0.6407 * angle / np.sin(0.6407 * angle) ** 2) + 0.2645j
        )
        return nodes / max(self.rate * time, SHORT), -2j * np.exp(nodes) * slopes / nodes

    def time(self, value: object, name: str = "t") -> float:
        """A time >= 0; numpy.inf is the end of training."""
        t = math.inf if endless(value) else number(value, name, low=0.0)
        return t if self.rate * t < math.inf else math.inf

    def largest_rate(self, top: float) -> float:
        """None is too large for a flow."""
        return math.inf


@dataclass(frozen=True)
class Descent:
    """Steps v <- momentum v + grad, theta <- theta - rate v (plain gradient descent where momentum is 0).

    The residual obeys e_(k+1) = (1 + m - rate z) e_k - m e_(k-1), hence p_(k+1) = (1 + m - rate z) p_k
    - m p_(k-1) + rate: powers of a matrix of three rows, by squaring.
    """

    rate: float
    momentum: float = 0.0

    def __call__(self, z: np.ndarray, time: float) -> tuple[np.ndarray, np.ndarray]:
        steps = int(time)
        zero, one = np.zeros_like(z), np.ones_like(z)
        row = [1.0 + self.momentum - self.rate * z, zero - self.momentum, zero + self.rate]
        power = np.moveaxis(np.array([row, [one, zero, zero], [zero, zero, one]]), -1, 0)
        # columns (p_0, p_(-1), 1) and (e_0, e_(-1), 0)
        state = np.broadcast_to(np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), (len(z), 3, 2))
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            while steps:
                if steps & 1:
                    state = power @ state
                steps >>= 1
                if steps:
                    power = power @ power
        return state[:, 0, 0], state[:, 0, 1]

    def time(self, value: object, name: str = "t") -> float:
        """A whole number of steps, or numpy.inf."""
        return math.inf if endless(value) else whole(value, name, 0, 1 << 62)

    def largest_rate(self, top: float) -> float:
        """2 (1 + momentum) / top: with a larger rate the mode of the largest eigenvalue grows for ever."""
        return 2.0 * (1.0 + self.momentum) / top if top > 0 else math.inf


def endless(time: object) -> bool:
    """Whether a time is the end of training."""
    return isinstance(time, (float, np.floating)) and bool(time == math.inf)


def rate_of(rate: object) -> float:
    return number(rate, "lr", above=0.0)


def momentum_of(momentum: object) -> float:
    return number(momentum, "momentum", low=0.0, below=1.0)


def refuse_unstable(filter_: Filter, rate: float, top: float) -> None:
    """Raise for a rate with which training diverges."""
    largest = filter_.largest_rate(top)
    if rate >= largest:
        raise InputError(
            f"lr is {rate:.6g}, and training diverges from {largest:.6g} on (2 (1 + momentum) / the largest "
            f"eigenvalue {top:.6g} of the NTK); take a smaller one"
        )
