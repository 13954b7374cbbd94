"""Functions of a Gaussian vector whose means are known: the controls of `tpnum.gauss.controls`.

For u = mean + factor z, z standard normal, in four groups:

    polynomials products of orthonormal functions of the z_a: of z, t^2, t^3, .. for t = c tanh(z/c), all of
                degree 2 and, the fewer axes the higher, up to degree 5; their means are zero
    rows        relu(u_i), Phi(u_i), Phi(2 u_i), for every coordinate
    products    of any two rows, squares included (duals of two functions, kernels/products.py)
    differences |u_i - u_j|

so that they know gates and kinks of nets, and nothing of the function that is integrated.  (Powers of z in
place of t live on few far points, which spoil the fit: residual variances are up to four times as large.)
Groups are limited in size: the coordinates of the largest variances, the leading axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

DEGREES = ((32, 2), (8, 3), (4, 4), (3, 5))
"""Products of all degrees up to the second number, in as many leading axes as the first."""
BOUND = 2.5
"""c of t = c tanh(z/c)."""
COORDINATES = 32
DIFFERENCES = 16
_ROWS = ((1, 1.0, 0.0), (0, 1.0, 1.0), (0, 2.0, 1.0))
"""(power, slope, variance): the row is E X+^power over X ~ N(slope u, variance), 1{X > 0} for power 0."""
_FLAT = 1e-12


class Controls(NamedTuple):
    """Values of the controls at n points, without the products of rows: (controls, n) each."""

    polynomials: np.ndarray
    rows: np.ndarray
    differences: np.ndarray


@lru_cache(maxsize=64)
def _indices(rank: int) -> np.ndarray:
    """Which rows of the table of one-dimensional polynomials make a product; row 0 is constant."""
    high = max(degree for _, degree in DEGREES)
    made: list[tuple[int, ...]] = []
    for degree in range(1, 1 + high):
        axes = min(rank, max(most for most, upto in DEGREES if upto >= degree))
        made += combinations_with_replacement(range(axes), degree)
    table = np.zeros((len(made), max(len(set(product)) for product in made)), dtype=np.int64)
    for row, product in zip(table, made, strict=True):
        for place, axis in enumerate(sorted(set(product))):
            row[place] = axis * high + product.count(axis)
    return table


@lru_cache(maxsize=64)
def _pairs(rows: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.triu_indices(rows)
    return first, second


@lru_cache(maxsize=1)
def _orthonormal() -> np.ndarray:
    """Coefficients (functions, powers) of the orthonormal functions of one axis in 1, z, t^2, t^3, .."""
    x = np.linspace(-9.0, 9.0, 1801)
    t = BOUND * np.tanh(x / BOUND)
    powers = np.stack([np.ones_like(x), x, *(t**k for k in range(2, 1 + max(d for _, d in DEGREES)))])
    weight = np.exp(-0.5 * x**2)
    triangle = np.linalg.qr((powers * np.sqrt(weight / weight.sum())).T, mode="r")
    return np.linalg.inv(triangle * np.sign(np.diagonal(triangle))[:, None]).T[1:]


def polynomials(z: np.ndarray) -> np.ndarray:
    """The products of the first group at z (rank, n), by degree: the leading z_a themselves come first."""
    from tpnum.kernels.products import polynomial_products

    table = _indices(z.shape[0])
    axes = min(z.shape[0], max(most for most, _ in DEGREES))
    made = np.empty((table.shape[0], z.shape[1]))
    polynomial_products(np.ascontiguousarray(z[:axes]), BOUND, _orthonormal(), table, made)
    return made


@dataclass(frozen=True)
class Dictionary:
    """The controls of one law N(mean, factor factor'); columns are numbered group after group."""

    mean: np.ndarray
    factor: np.ndarray

    @cached_property
    def coordinates(self) -> np.ndarray:
        """Those that have rows."""
        variance = np.sum(self.factor**2, axis=1)
        order = np.argsort(-variance, kind="stable")[:COORDINATES]
        return np.sort(order[variance[order] > _FLAT * variance[order[:1]]])

    @cached_property
    def sizes(self) -> tuple[int, int, int, int]:
        """How many controls a group has."""
        rows = self.coordinates.size * len(_ROWS)
        few = min(self.coordinates.size, DIFFERENCES)
        products = _indices(self.factor.shape[1]).shape[0]
        return products, rows, rows * (rows + 1) // 2, few * (few - 1) // 2

    @cached_property
    def starts(self) -> np.ndarray:
        """Where the groups start, and the number of all controls."""
        return np.cumsum((0, *self.sizes))

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The two rows of a product."""
        return _pairs(self.sizes[1])

    @cached_property
    def contrasts(self) -> tuple[np.ndarray, np.ndarray]:
        """The two coordinates of a difference."""
        few = self.coordinates[:DIFFERENCES]
        first, second = np.triu_indices(few.size, 1)
        return few[first], few[second]

    def controls(self, z: np.ndarray, products: np.ndarray) -> Controls:
        """The controls at z (rank, n); ``products`` are `polynomials` (z), which do not depend on the law."""
        from scipy.special import ndtr

        u = self.mean[:, None] + self.factor @ z
        own = u[self.coordinates]
        rows = np.concatenate([np.maximum(own, 0.0) if p else ndtr(a * own) for p, a, _ in _ROWS])
        first, second = self.contrasts
        return Controls(products, rows, np.abs(u[first] - u[second]))

    def means(self) -> np.ndarray:
        """The mean of every control."""
        from tpnum.kernels.products import product_means

        m, root = self.mean[self.coordinates], self.factor[self.coordinates]
        slope = np.repeat([a for _, a, _ in _ROWS], m.size)
        power = np.repeat([p for p, _, _ in _ROWS], m.size)
        own = np.repeat([v for _, _, v in _ROWS], m.size)
        mean, root = slope * np.tile(m, len(_ROWS)), slope[:, None] * np.tile(root, (len(_ROWS), 1))
        cov = root @ root.T
        scale = np.sqrt(np.diagonal(cov) + own)
        products = np.empty(self.sizes[2])
        if products.size:
            product_means(mean, scale, power, cov, *self.pairs, products)
        i, j = self.contrasts
        shift = self.mean[i] - self.mean[j]
        gap = np.sqrt(np.sum((self.factor[i] - self.factor[j]) ** 2, axis=1))
        apart = 2.0 * _ramp(shift, gap, np.ones(i.size)) - shift
        return np.concatenate([np.zeros(self.sizes[0]), _ramp(mean, scale, power), products, apart])

    def columns(self, controls: Controls, which: np.ndarray, out: np.ndarray) -> None:
        """The controls ``which`` into out (which.size, n)."""
        group = np.searchsorted(self.starts, which, side="right") - 1
        first, second = self.pairs
        at = which - self.starts[group]
        for kind, values in ((0, controls.polynomials), (1, controls.rows), (3, controls.differences)):
            out[group == kind] = values[at[group == kind]]
        pair = at[group == 2]
        out[group == 2] = controls.rows[first[pair]] * controls.rows[second[pair]]

    def deviations(self, controls: Controls) -> np.ndarray:
        """Standard deviation of every control in the sample, infinite where there is none to speak of."""
        first, second = self.pairs
        n = controls.rows.shape[1]
        product = (controls.rows @ controls.rows.T / n)[first, second]
        square = controls.rows**2
        squares = (square @ square.T / n)[first, second]
        mean = np.concatenate([controls.rows.mean(axis=1), product, controls.differences.mean(axis=1)])
        second_moment = np.concatenate(
            [square.mean(axis=1), squares, np.mean(controls.differences**2, axis=1)]
        )
        variance = second_moment - mean**2
        flat = variance <= _FLAT * second_moment
        scale = np.sqrt(np.where(flat, np.inf, variance))
        return np.concatenate([np.ones(self.sizes[0]), scale])

    def correlate(self, controls: Controls, values: np.ndarray) -> np.ndarray:
        """Sums over the points of values (k, n) times every control: (k, controls)."""
        first, second = self.pairs
        rows = controls.rows
        products = ((values[:, None] * rows) @ rows.T)[:, first, second]
        return np.concatenate(
            [values @ controls.polynomials.T, values @ rows.T, products, values @ controls.differences.T],
            axis=1,
        )

    def combine(self, controls: Controls, coefs: np.ndarray) -> np.ndarray:
        """The combinations (k, n) of the controls with coefficients (k, controls)."""
        a, b, c, d = (coefs[:, i:j] for i, j in zip(self.starts, self.starts[1:], strict=False))
        rows = controls.rows
        form = np.zeros((coefs.shape[0], rows.shape[0], rows.shape[0]))
        form[:, self.pairs[0], self.pairs[1]] = c
        made = a @ controls.polynomials + b @ rows + d @ controls.differences
        made += np.einsum("kan,an->kn", form @ rows, rows)
        return made


def _ramp(mean: np.ndarray, scale: np.ndarray, power: np.ndarray) -> np.ndarray:
    """E X+^power of X ~ N(mean, scale^2)."""
    from scipy.special import ndtr

    h = mean / np.where(scale > 0, scale, 1e-300)
    first = mean * ndtr(h) + scale * np.exp(-0.5 * np.minimum(h * h, 1400.0)) / np.sqrt(2.0 * np.pi)
    return np.where(power > 0, first, ndtr(h))
