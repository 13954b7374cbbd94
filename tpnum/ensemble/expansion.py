"""Hermite coefficients of products of smooth functions of a few independent Gaussians.

What enters as a linear combination whose coefficients are functions of the others needs one dimension less:
given these, sum_l d_l x_l with a direction d of length 1 is normal, and
H_k(d.x) = sum_{|j|=k} sqrt(k! / j!) d^j H_j(x) for orthonormal Hermite polynomials.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product as indices
from math import factorial, prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tpnum.ensemble.normals import Normal
from tpnum.gauss.rules import gauss_hermite

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tpnum.ensemble.atoms import Atom, Factor, Sum

SEVERAL = 3
"""Independent G-vars of one function, beyond which it is drawn."""

NODES = ((1, 160, 36, 28), (1, 320, 56, 40), (1, 640, 80, 52))
"""Nodes per dimension of rules, by the number of dimensions: rules of the first kind are the quickest."""

DENSE, FAR = 160, 11.0
"""Nodes of Gauss's rule at most; beyond, a rule is the trapezoidal one up to there, and dense about zero."""


class Degrees:
    """Which Hermite polynomials there are in so many dimensions: of total degree below `of`."""

    def of(self, d: int) -> int:
        """One more than the largest total degree."""
        return (1, 48, 32, 24)[d]

    @lru_cache(maxsize=8)  # noqa: B019
    def layout(self, d: int) -> np.ndarray:
        """Degrees (coefficients, d), in the order of coefficients."""
        top = self.of(d)
        return np.array([i for i in indices(*(range(top),) * d) if sum(i) < top])

    @lru_cache(maxsize=8)  # noqa: B019
    def last(self, d: int) -> np.ndarray:
        """Whether coefficients are of one of the last two degrees."""
        return np.asarray(self.layout(d).sum(axis=1) >= self.of(d) - 2)


DEGREES = Degrees()


@lru_cache(maxsize=16)
def _rule(count: int, degrees: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes, weights, and weights times orthonormal Hermite polynomials (nodes, degrees)."""
    nodes, weights = gauss_hermite(count) if count <= DENSE else _dense(count)
    basis = np.empty((count, degrees))
    basis[:, 0], basis[:, 1] = 1.0, nodes
    for k in range(1, degrees - 1):
        basis[:, k + 1] = (nodes * basis[:, k] - np.sqrt(k) * basis[:, k - 1]) / np.sqrt(k + 1)
    return nodes, weights, weights[:, None] * basis


def _dense(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes z = t - tanh t, evenly spaced in t: a function of a wide Gaussian varies about zero most.

    Their distance there is the square of t times that in t, far out the same.
    """
    step = 2.0 * FAR / count
    t = step * (np.arange(count) + 0.5) - FAR
    nodes, slope = t - np.tanh(t), np.tanh(t) ** 2
    return nodes, step * slope * np.exp(-0.5 * nodes * nodes) / np.sqrt(2.0 * np.pi)


class Leaves(NamedTuple):
    """The G-vars of a family of shape ``shape``, by component: means and deviations (members,)."""

    shape: tuple[int, ...]
    means: Mapping[str, np.ndarray]
    deviations: Mapping[str, np.ndarray]

    def at(self, key: str, z: np.ndarray) -> np.ndarray:
        """The G-var (examples, *axes, nodes) at nodes of a standard normal variable."""
        made = self.means[key][:, None] + self.deviations[key][:, None] * z
        return made.reshape(*self.shape, -1)


def expanded(
    atom: Atom, leaves: Leaves, components: Sequence[str], kind: int
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (members, `Degrees.layout`) of a family of atoms of these components, and E f^2.

    By rules of a ``kind`` of `NODES`.
    """
    top = DEGREES.of(len(components))
    order, coefs, second = _functions(atom.factors, leaves, components, top, NODES[kind])
    where, degrees = _within(len(components), tuple(components.index(key) for key in order))
    made = np.zeros((len(coefs), len(DEGREES.layout(len(components)))))
    made[:, where] = coefs.transpose(*range(1, coefs.ndim), 0)[degrees].T
    return made, second


def _bare(factor: Factor) -> str:
    """The component of a factor that is a G-var itself."""
    fn, (arg, *_) = factor
    return arg.component.key if fn is None and isinstance(arg, Normal) else ""


def _functions(
    factors: Sequence[Factor],
    leaves: Leaves,
    components: Sequence[str],
    top: int,
    counts: tuple[int, ...],
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The components that such a product depends on, coefficients (members, *degrees), and E f^2."""
    count = prod(leaves.shape)
    which, linear, times = _linear(factors)
    used = set().union(*map(_keys, factors)) - set(linear)
    others = [key for key in components if key in used]
    z, weights, basis = _rule(counts[min(len(others) + bool(linear), SEVERAL)], top)
    weight = np.prod(list(indices(weights, repeat=len(others))), axis=1)
    grid = np.array(list(indices(z, repeat=len(others)))).T.reshape(len(others), weight.size)
    u = {key: leaves.at(key, row[None]) for key, row in zip(others, grid, strict=True)}

    def flat(values: np.ndarray) -> np.ndarray:
        return np.broadcast_to(values, (*leaves.shape, weight.size)).reshape(count, weight.size)

    made = np.ones((count, weight.size))
    for k, (fn, args) in enumerate(factors):
        if k not in (which, times):
            made *= flat(_product([(fn, args)], u))
    if linear:
        fn, (arg,) = factors[which]
        assert fn is not None
        mean, slopes = _affine(arg, u, linear)
        parts = np.stack([flat(slopes[key]) for key in linear])
        centre = flat(mean) + sum(
            part * leaves.means[key][:, None] for part, key in zip(parts, linear, strict=True)
        )
        parts = parts * np.stack([leaves.deviations[key][:, None] for key in linear])
        length = np.sqrt((parts * parts).sum(axis=0))
        x, w, along = _rule(counts[1], top)
        values = made[:, :, None] * fn(centre[:, :, None] + length[:, :, None] * x)
        squares = values * values
        direction = np.divide(parts, length, out=np.zeros_like(parts), where=length > 0.0)
        made = _turned(values @ along, direction, top)
        if times >= 0:
            key = _bare(factors[times])
            at, own, scale = linear.index(key), leaves.means[key], leaves.deviations[key]
            made = _times_variable(made, 2 + at, own, scale)
            turn = direction[at][:, :, None]
            given = own[:, None, None] + scale[:, None, None] * turn * x
            squares *= given * given + scale[:, None, None] ** 2 * (1.0 - turn * turn)
        second = np.einsum("nvx,v,x->n", squares, weight, w)
    else:
        second = (made * made) @ weight
    made = made.reshape(count, *(z.size,) * len(others), *made.shape[2:])
    for k in range(len(others)):
        made = np.moveaxis(np.tensordot(made, basis, ([1 + k], [0])), -1, 1 + k)
    return [*others, *linear], made, second


def _linear(factors: Sequence[Factor]) -> tuple[int, list[str], int]:
    """A factor of one argument that is linear in some G-vars which nothing else depends on, and these.

    One other factor may be such a G-var itself; its number, or -1.
    """
    best: tuple[int, list[str], int] = -1, [], -1
    for k, (fn, args) in enumerate(factors):
        if fn is None or len(args) > 1:
            continue
        found: set[str] = set()
        bent: set[str] = set()
        for _, inner in _terms(args[0]):
            bare = [key for factor in inner if (key := _bare(factor))]
            found.update(bare[:1])
            bent.update(bare[1:], *(_keys(factor) for factor in inner if not _bare(factor)))
        others = [j for j in range(len(factors)) if j != k]
        (times, *_) = [*(j for j in others if _bare(factors[j]) in found - bent), -1]
        bent.update(*(_keys(factors[j]) for j in others if j != times))
        if times >= 0 and _bare(factors[times]) in bent:
            times = -1
        if len(found - bent) > len(best[1]):
            best = k, sorted(found - bent), times
    return best


def _terms(arg: Normal | Sum) -> list[tuple[np.ndarray, list[Factor]]]:
    """A sum by coefficients and factors."""
    if isinstance(arg, Normal):
        return [(np.ones(1), [(None, (arg,))])]
    return [(coefs, [factor for atom in atoms for factor in atom.factors]) for coefs, atoms in arg]


def _keys(factor: Factor) -> set[str]:
    """The components that a factor is made of."""
    made: set[str] = set()
    for arg in factor[1]:
        if isinstance(arg, Normal):
            made.add(arg.component.key)
        else:
            made.update(*(atom.leaves for _, atoms in arg for atom in atoms))
    return made


def _value(arg: Normal | Sum, u: Mapping[str, np.ndarray]) -> np.ndarray:
    made = np.zeros(1)
    for coefs, factors in _terms(arg):
        made = made + coefs * _product(factors, u)
    return made


def _product(factors: Sequence[Factor], u: Mapping[str, np.ndarray]) -> np.ndarray:
    made = np.ones(1)
    for fn, args in factors:
        if fn is None:
            (arg,) = args
            assert isinstance(arg, Normal)
            made = made * u[arg.component.key]
        else:
            made = made * fn(*(_value(arg, u) for arg in args))
    return made


def _affine(
    arg: Normal | Sum, u: Mapping[str, np.ndarray], linear: Sequence[str]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What a sum is without G-vars that it is linear in, and the coefficients of these."""
    mean, slopes = np.zeros(1), {key: np.zeros(1) for key in linear}
    for coefs, factors in _terms(arg):
        (key, *_) = [*(key for factor in factors if (key := _bare(factor)) in slopes), ""]
        value = coefs * _product([factor for factor in factors if not key or _bare(factor) != key], u)
        if key:
            slopes[key] = slopes[key] + value
        else:
            mean = mean + value
    return mean, slopes


def _turned(coefs: np.ndarray, direction: np.ndarray, top: int) -> np.ndarray:
    """Coefficients (members, nodes, *degrees) of the directions' variables, from those along them."""
    if len(direction) == 1:  # which is 1 or -1, or nothing
        return coefs * direction[0][:, :, None] ** np.arange(top)
    powers = direction[..., None] ** np.arange(top)  # (variables, members, nodes, degrees)
    degrees, roots = _multinomials(len(direction), top)
    made = np.zeros((*coefs.shape[:2], *(top,) * len(direction)))
    values = coefs[:, :, degrees.sum(axis=0)] * roots
    for power, degree in zip(powers, degrees, strict=True):
        values *= power[:, :, degree]
    made[(slice(None), slice(None), *degrees)] = values
    return made


@lru_cache(maxsize=8)
def _multinomials(d: int, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Degrees (d, ..) of a sum below ``top``, and the roots of their multinomial coefficients."""
    degrees = np.array([i for i in indices(range(top), repeat=d) if sum(i) < top])
    roots = [(factorial(sum(i)) / prod(map(factorial, i))) ** 0.5 for i in degrees.tolist()]
    return degrees.T, np.array(roots)


def _times_variable(coefs: np.ndarray, at: int, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Those of the product with the G-var of dimension ``at``: x H_k = sqrt(k) H_k-1 + sqrt(k+1) H_k+1."""
    moved = np.moveaxis(coefs, at, -1)
    ones = (-1, *(1,) * (moved.ndim - 1))
    roots = np.sqrt(np.arange(1.0, moved.shape[-1]))
    made = mean.reshape(ones) * moved
    made[..., 1:] += deviation.reshape(ones) * roots * moved[..., :-1]
    made[..., :-1] += deviation.reshape(ones) * roots * moved[..., 1:]
    return np.moveaxis(made, -1, at)


@lru_cache(maxsize=64)
def _within(d: int, places: tuple[int, ...]) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The coefficients that have no degree but in the dimensions ``places``, and their degrees there."""
    layout = DEGREES.layout(d)
    away = [k for k in range(d) if k not in places]
    where = np.flatnonzero((layout[:, away] == 0).all(axis=1))
    return where, tuple(layout[where][:, list(places)].T)
