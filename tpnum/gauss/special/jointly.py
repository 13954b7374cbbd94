"""Expectations of functionals of two correlated Gaussian vectors (`Functional`), by the best rule there is.

Normalisation and relus of it are integrals over one or two variables (`batches`, `batch_pairs`), the
largest of few centred entries integrals nested over ties (`tied_maxima`); everything else is sampled
(`sampled_pairs`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tpnum.gauss.special.batch_pairs import batchnorm_pair, batchnorm_pair_tangent
from tpnum.gauss.special.batch_rules import centred_sides
from tpnum.gauss.special.batches import (
    batchnorm,
    batchnorm_gradient,
    batchnorm_tangent,
    homogeneous,
    homogeneous_or_none,
)
from tpnum.gauss.special.pairing import Cells, Pairing
from tpnum.gauss.special.sampled_pairs import Sampler
from tpnum.gauss.special.tied_maxima import suits, tied
from tpnum.kernels.batchnorm import pair_moments

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.gauss.estimate import Estimate
    from tpnum.gauss.special.families import Family
    from tpnum.gauss.special.functional import Functional

USUAL = 1e-6
"""What is asked of expectations where nothing is said: more than sampling is meant to reach."""

SAMPLED, EXACT, DERIVED = 1e-3, 1e-9, 1e-8
"""What is aimed at then, by points, by integrals, and by those of derivatives."""


_ROUNDING = 2e-15
"""Of covariances, beside the largest."""


class Result(NamedTuple):
    """Values at cells, the error of each, and whether replicates of points show it."""

    value: np.ndarray
    error: np.ndarray
    sampled: bool


def expectation(
    what: str,
    sides: tuple[Functional | None, ...],
    cells: Cells,
    rtol: float,
    budget: int | None,
    replicate: int | None = None,
) -> Result:
    """The values at cells, and the error of each.

    A side that is None is 1.  ``what`` is "value" (cells, or cells, d, d' for "normalise"), "slope",
    E f J direction[c] J' g for directions (d, d'), or "back", E J' f direction[c] g J.  Where both sides are
    nearly one vector, the value is nearly the second moment, if it is given.  Of one ``replicate`` of what is
    sampled there is a value without an error.
    """
    families, places, cross, direction = cells.families, cells.places, cells.cross, cells.direction
    sampler = Sampler(SAMPLED if rtol == USUAL else rtol, budget, replicate)
    for side, (functional, family, place) in enumerate(zip(sides, families, places, strict=True)):
        if sides[1 - side] is None and functional is not None and family is not None and place is not None:
            mean, error = sampler.mean(family, functional)
            made = mean[place]
            return Result(made if functional.keeps else made[:, 0], error[place], True)
    first, second = sides
    a, b = places
    u, v = families
    assert first is not None and second is not None and a is not None and b is not None
    assert u is not None and v is not None
    if cross is None and direction is not None:
        cross = np.zeros((len(a), u.cov.shape[1], v.cov.shape[1]))
    if cross is None:
        (left, error), (right, other) = sampler.mean(u, first), sampler.mean(v, second)
        made = left[a][:, :, None] * right[b][:, None, :]
        size, other_size = (np.abs(x).max(axis=1, initial=0.0) for x in (left, right))
        total = error[a] * other_size[b] + size[a] * other[b]
        return Result(made if first.keeps else made[:, 0, 0], total, True)
    given = Pairing(u, v, a, b, cross, cells.same, direction, cells.moments)
    if what == "value" and _relu_like("slope", first, second, families) not in (None, "identity"):
        return Result(_of_signs(first, given), np.zeros(len(a)), False)
    phi = _relu_like(what, first, second, families)
    if phi is not None:
        out, worst = _normalised(what, phi, first.eps, given, rtol)
        apart, errors = ~given.same, np.full(len(a), worst)
        if what == "back" and direction is not None and apart.any():  # which no integral knows of two batches
            rest = Pairing(u, v, a[apart], b[apart], cross[apart], given.same[apart], direction[apart])
            out[apart], errors[apart] = sampler.pairs(what, first, second, rest)
            return Result(out, errors, True)
        return Result(out, errors, False)
    if suits(what, (first, second), (u, v)):
        return Result(*tied(what, (first, second), given, rtol), False)
    return Result(*sampler.pairs(what, first, second, given), True)


def _relu_like(
    what: str, first: Functional, second: Functional, families: tuple[Family | None, Family | None]
) -> Function | str | None:
    """The function a u + b |u| of normalised vectors that both sides are, or are the slopes of; else None."""
    if not first.keeps or first != second or first.inner is not None:
        return None
    if any(family is not None and family.mean is not None for family in families):
        return None
    fn = first.outer
    if fn is None:
        return "identity"
    if what != "value":
        fn = fn.primitive[0] if fn.primitive else None
    return fn if fn is not None and homogeneous_or_none(fn) is not None else None


def _of_signs(functional: Functional, given: Pairing) -> np.ndarray:
    """E f'(n) f'(m), f = a u + b |u|: of normalised vectors f' sees the signs, those of centred ones."""
    assert functional.outer is not None and functional.outer.primitive is not None
    slopes = homogeneous(functional.outer.primitive[0])
    variances = [
        np.einsum("nii->ni", centred_sides(family.cov))[place].copy()
        for family, place in ((given.left, given.a), (given.right, given.b))
    ]
    made, *unused = (np.empty(given.cross.shape) for _ in range(3))
    scratch = np.empty((5, given.cross.shape[2]))
    pair_moments(
        centred_sides(given.cross), *variances, slopes.odd, slopes.even, scratch, unused[0], made, unused[1]
    )
    d = np.arange(given.cross.shape[1])
    at = np.flatnonzero(given.same)[:, None]
    made[at, d, d] = slopes.odd + 0.5 * np.pi * slopes.even
    return made


def _normalised(
    what: str, phi: Function | str, eps: float, given: Pairing, rtol: float
) -> tuple[np.ndarray, float]:
    """By integrals; cells of two different batches are left out for "back"."""
    left, right, a, b, same = given.left, given.right, given.a, given.b, given.same
    cross, direction = given.cross, given.direction
    goal = (EXACT if what == "value" else DERIVED) if rtol == USUAL else rtol
    out = np.empty(cross.shape)
    errors = [0.0]

    def put(which: np.ndarray, made: Estimate) -> None:
        out[which] = made.value
        errors.append(float(np.max(made.error, initial=0.0)))

    if what != "back":
        same = same | _equal(left.cov[a], right.cov[b], cross, direction)
    if same.any():
        cov = left.cov[a[same]]
        if what == "value":
            put(same, batchnorm(cov, phi, rtol=goal, eps=eps))
        elif direction is not None:
            rule = batchnorm_tangent if what == "slope" else batchnorm_gradient
            put(same, rule(cov, _symmetric(direction[same]), phi, rtol=goal, eps=eps))
    apart = ~same
    if apart.any() and what != "back":
        joint = _joint(left.cov[a[apart]], right.cov[b[apart]], cross[apart])
        d = cross.shape[1]
        if what == "value":
            put(apart, batchnorm_pair(joint, d, phi, rtol=goal, eps=eps))
        elif direction is not None:
            put(apart, batchnorm_pair_tangent(joint, direction[apart], d, phi, rtol=goal, eps=eps))
    return out, max(errors)


def _equal(
    first: np.ndarray, second: np.ndarray, cross: np.ndarray, direction: np.ndarray | None
) -> np.ndarray:
    """Where one batch is a copy of the other: integrals over two lose half the digits of 1 - rho^2 there."""
    if first.shape != second.shape:
        return np.zeros(len(cross), bool)
    equal = _near(first, second) & _near(first, cross)
    return equal if direction is None else equal & _near(direction, direction.transpose(0, 2, 1))


def _near(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Matrices that differ by rounding at most."""
    top, apart = (np.max(np.abs(a), axis=(1, 2), initial=0.0) for a in (x, x - y))
    return np.asarray(apart <= _ROUNDING * top)


def _symmetric(x: np.ndarray) -> np.ndarray:
    return 0.5 * (x + x.transpose(0, 2, 1))


def _joint(first: np.ndarray, second: np.ndarray, cross: np.ndarray) -> np.ndarray:
    top = np.concatenate([first, cross], axis=2)
    return np.concatenate([top, np.concatenate([cross.transpose(0, 2, 1), second], axis=2)], axis=1)
