"""Hermite series of a smooth function for many variances at once, as `tpnum.kernels.grids` sums them.

The coefficients of f' are those of its values where the function knows its derivative, and by Price's
theorem sqrt(k) a_k/sqrt(q) where it does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tpnum.functions import Function
from tpnum.gauss.hermite import DROP
from tpnum.gauss.interp import over_variance
from tpnum.gauss.moments import ORDER, at_point
from tpnum.gauss.rules import Kept, Rows, effective_range, knows_slope, rows_of, scaled, surveyed, values
from tpnum.gauss.table import blank
from tpnum.gauss.truncated import LADDER, tails

_MOST = 512

_STEP = 0.08  # aliases psi_512 with a function that is analytic within 1 of the line at 1e-19
_NARROW = 4.0  # variances below which panels of one width leave no gaps
_ENOUGH = 2e-14  # the share of the norm that is left beyond the highest degree
_ROUGHER = 12.0  # rounding errors of integrals over a function with narrow places
_SILENT = 1e-28  # a parity's share of the norm that is rounding noise
_FLOOR = 1e-300


@dataclass(frozen=True)
class Expansion:
    """Rows of coefficients relative to ``unit``, without the zeros of the ``parity``.

    ``tail`` (rows, ladder) holds half the logarithms of the sums of squares from each degree on; ``noise``
    how many units of rounding a coefficient may carry, ``unresolved`` what the table of f left over.
    """

    coef: np.ndarray
    unit: np.ndarray
    ladder: np.ndarray
    tail: np.ndarray
    parity: int
    noise: np.ndarray
    unresolved: float


class _Nodes:
    """Coefficients and second moments of one function by quadrature.

    ``plain``: by the trapezoidal rule, which is the best one for analytic functions and leaves no gaps at
    variances about 1; else over the panels that the function's table suggests, which is made once.
    """

    def __init__(self, f: Function, kept: Kept, plain: bool) -> None:
        self.f = f
        self.kept = kept
        self.plain = plain
        self.doubt = 0.0
        self.low = self.high = 0.0
        self.rule: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # nodes, weights, basis

    def __call__(
        self, mean: np.ndarray, q: np.ndarray, degrees: int, kept: slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray]:
        """(coefficients relative to the roots of the second moments, these roots); only the degrees kept."""
        rows = self._rows(mean, q)
        if self._shared(rows, degrees):
            assert self.rule is not None
            z, w, basis = self.rule
            at, size = scaled(values(self.f, rows.at(slice(None), z)))
            second = (at * at) @ w
            if np.all(np.isfinite(second)):
                root = np.sqrt(second)
                made = (at * w) @ basis[:degrees][kept].T
                return made / np.where(root > 0, root, 1.0)[:, None], root * size
        return self._each(rows, degrees, kept)

    def _rows(self, mean: np.ndarray, q: np.ndarray) -> Rows:
        if not self.plain:
            return rows_of(self.f, mean, q, 2, DROP, self.kept)
        root = np.sqrt(q)
        low, high = effective_range(self.f, mean, root, 2, DROP)
        return Rows(self.f, mean, root, low, high, blank(-np.inf, np.inf))

    @property
    def rough(self) -> bool:
        """Whether the table found kinks or jumps."""
        table = self.kept.table
        return not self.plain and table is not None and bool(table.kinks.size or table.jumps)

    @property
    def unresolved(self) -> float:
        """What the quadrature may have left over, relative to f."""
        return self.doubt if self.plain or self.kept.table is None else self.kept.table.resolved

    def agree(self, mean: np.ndarray, q: np.ndarray, root: np.ndarray) -> bool:
        """Whether the points halfway between the nodes find the same second moments."""
        rows = self._rows(mean, q)
        z, w = _trapezoid(float(rows.low.min()), float(rows.high.max()), 0.5)
        at, size = scaled(values(self.f, rows.at(slice(None), z)))
        other = np.sqrt((at * at) @ w) * size
        self.doubt = float(np.max(np.abs(other - root) / np.where(root > 0, root, 1.0)))
        return self.doubt <= 1e-12

    def _shared(self, rows: Rows, degrees: int) -> bool:
        """Whether one rule serves all rows: f needs no cuts within its panels, and it reaches far enough."""
        from tpnum.kernels.hermite import hermite_functions

        low, high = float(rows.low.min()), float(rows.high.max())
        if self.rule is None or self.rule[2].shape[0] < degrees or low < self.low or high > self.high:
            rule = _trapezoid(low, high, 0.0) if self.plain else rows.shared(ORDER, _width(degrees))
            if rule is None:
                return False
            z, w = rule
            basis = np.empty((degrees, z.size))
            hermite_functions(z, basis)
            self.low, self.high = low, high
            self.rule = z, w, basis * np.exp(0.25 * z * z)
        return True

    def _each(self, rows: Rows, degrees: int, kept: slice) -> tuple[np.ndarray, np.ndarray]:
        from tpnum.kernels.hermite import hermite_rows

        made, (root, size) = np.empty((rows.mean.size, degrees)), np.empty((2, rows.mean.size))
        for block, z, w in rows.nodes(ORDER, _width(degrees)):
            at, size[block] = rows.scaled(block, z, w)
            part = np.empty((z.shape[0], degrees))
            hermite_rows(z, at * w * np.exp(0.25 * z * z), part)
            root[block] = np.sqrt(np.einsum("ij,ij,ij->i", at, at, w))
            made[block] = part
        return made[:, kept] / np.where(root > 0, root, 1.0)[:, None], root * size


def _trapezoid(low: float, high: float, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights, the density included; psi_k and f have died out at the ends."""
    z = low + _STEP * (np.arange(int(np.ceil((high - low) / _STEP))) + shift)
    return z, _STEP * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)


def _width(degrees: int) -> float:
    """psi_k turns by sqrt(k) radians per unit of z: what a panel's nodes resolve."""
    return float(min(1.0, 12.0 / np.sqrt(degrees)))


def expand(
    f: Function, mean: np.ndarray, q: np.ndarray, derivative: bool, kept: Kept | None = None
) -> Expansion | None:
    """The expansion of f, or of its derivative, over distinct rows (mean, q); None where f has kinks."""
    price = derivative and not knows_slope(f)
    if f.kinks:
        return None
    if derivative and not price:
        f = f.derivative()
    spread = q > 0
    parity, degrees, root = 0, 8, np.zeros(0)
    coef, unresolved = np.zeros((0, 8)), 0.0
    if np.any(spread):
        kept = kept or Kept()
        root = np.sqrt(q[spread])
        if kept.look is None or not kept.look.covers(mean[spread], root):
            kept.look = surveyed(f, mean[spread], root)
        if kept.look is not None and kept.look.kinks.size:
            return None
        nodes = _Nodes(f, kept, bool(np.max(q) <= _NARROW) and (kept.look is None or kept.look.smooth))
        found = _probed(nodes, mean[spread], q[spread], price)
        if found is None:
            return None
        degrees, parity = found
        degrees += 8 if price else 0
        if np.any(mean):
            parity = 0
        coef, root = _over(nodes, mean[spread], q[spread], degrees, _KEPT[parity])
        unresolved = nodes.unresolved
    degree = np.arange(degrees)[_KEPT[parity]]
    if price:
        # b_{k-1} = sqrt(k) a_k/sqrt(q); the zeroth coefficient has no part in it
        coef, degree = coef * np.sqrt(degree), degree - 1
        norm = np.sqrt(np.einsum("ij,ij->i", coef, coef))
        safe = np.where(norm > 0, norm, 1.0)
        coef, root, noisy = coef / safe[:, None], root * norm / np.sqrt(q[spread]), 1.0 / safe
        if degree[0] < 0:
            coef, degree = coef[:, 1:], degree[1:]
        parity, degrees = -parity, degrees - 8
    made, unit, noise = np.zeros((q.size, degree.size)), np.zeros(q.size), np.ones(q.size)
    made[spread], unit[spread] = coef, root
    if price:
        noise[spread] = np.maximum(noisy, 1.0)
    if kept is not None and kept.look is not None and np.isfinite(kept.look.narrowest):
        noise[spread] *= _ROUGHER
    if not np.all(spread):
        value = at_point(f, mean[~spread])[2 if price else 0]
        unit[~spread] = np.abs(value) if parity >= 0 else 0.0
        made[~spread, 0] = np.sign(value)
    return _packed(made, unit, noise, parity, degrees, unresolved)


_KEPT = {0: slice(None), 1: slice(0, None, 2), -1: slice(1, None, 2)}


def _probed(nodes: _Nodes, mean: np.ndarray, q: np.ndarray, price: bool) -> tuple[int, int] | None:
    """(degrees that leave nothing of a few rows, parity); None where there are kinks."""
    order = np.argsort(q)
    ends = np.unique([*order[[0, order.size // 2, -1]], np.argmin(mean), np.argmax(mean)])
    degrees = 64
    while True:
        probe, root = nodes(mean[ends], q[ends], degrees)
        if nodes.rough:
            return None
        squares = probe * probe
        even, odd = squares[:, ::2].sum(axis=1).max(), squares[:, 1::2].sum(axis=1).max()
        whole = np.all(np.abs(1.0 - squares.sum(axis=1)) < 1e-12)
        if price:
            squares = squares * np.arange(degrees)
        left = np.cumsum(squares[:, ::-1], axis=1)[:, ::-1].max(axis=0)
        short = [k for k in LADDER if k <= degrees - degrees // 8 and left[k] <= _ENOUGH]
        done = bool(whole and short)
        if nodes.plain and (degrees >= _MOST or done):
            if not (done and nodes.agree(mean[ends], q[ends], root)):
                nodes.plain, nodes.rule, degrees = False, None, 64
                continue
        if degrees >= _MOST or done:
            return min([degrees, *short]), 1 if odd <= _SILENT else -1 if even <= _SILENT else 0
        degrees = min(4 * degrees, _MOST)


def _over(
    nodes: _Nodes, mean: np.ndarray, q: np.ndarray, degrees: int, kept: slice
) -> tuple[np.ndarray, np.ndarray]:
    """The rows one by one, or interpolated in the variance where the rows are many and their means one."""
    if np.any(mean != mean[0]):
        return nodes(mean, q, degrees, kept)

    def work(variances: np.ndarray) -> np.ndarray:
        coef, root = nodes(np.full(variances.size, mean[0]), variances, degrees, kept)
        return np.concatenate([coef, np.log(np.maximum(root, _FLOOR))[:, None]], axis=1)

    made = over_variance(work, q)
    return made[:, :-1], np.exp(made[:, -1])


def _packed(
    made: np.ndarray, unit: np.ndarray, noise: np.ndarray, parity: int, degrees: int, unresolved: float
) -> Expansion:
    """With tails, and as many coefficients as the last place of the ladder."""
    step = 2 if parity else 1
    ladder = np.array([k for k in LADDER if k <= degrees])
    tail = tails(made * made, ladder // step, np.where(unit > 0, 1.0, 0.0), 1e-13)
    used = int(ladder[-1]) // step
    coef = np.zeros((made.shape[0], -(-used // 8) * 8))
    coef[:, : min(used, made.shape[1])] = made[:, :used]
    return Expansion(coef, unit, ladder, 0.5 * np.log(np.maximum(tail, _FLOOR)), parity, noise, unresolved)
