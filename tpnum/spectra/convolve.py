"""Free sums, free products and their powers of any laws, for users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tpnum.arguments import number
from tpnum.errors import InputError, LimitError
from tpnum.spectra.additive import FreeSum
from tpnum.spectra.base import Measure, as_measure
from tpnum.spectra.closed import Discrete, Semicircle, marchenko_pastur, semicircle
from tpnum.spectra.multiplicative import FreeProduct
from tpnum.spectra.shapes import Affine


def free_sum(*laws: Any) -> Measure:
    """The law of X_1 + .. + X_k, free: free additive convolution of any measures (or numbers)."""
    return sum_of_powers([(as_measure(law, f"laws[{k}]"), 1.0) for k, law in enumerate(laws)])


def free_product(*laws: Any) -> Measure:
    """The law of X_1^(1/2) X_2 X_1^(1/2), .., free and positive: free multiplicative convolution."""
    made = [(as_measure(law, f"laws[{k}]"), 1.0) for k, law in enumerate(laws)]
    return product_of_powers(made)


def free_power(law: Any, times: Any) -> Measure:
    """The free sum of ``times`` >= 1 copies, not only whole ones."""
    return sum_of_powers([(as_measure(law, "law"), number(times, "times", low=1.0))])


def free_multiplicative_power(law: Any, times: Any) -> Measure:
    """The free product of ``times`` >= 1 copies, not only whole ones."""
    return product_of_powers([(as_measure(law, "law"), number(times, "times", low=1.0))])


def compression(law: Any, part: Any) -> Measure:
    """The law of P X P on the range of a free projection P of trace ``part`` in (0, 1]."""
    p = number(part, "part", above=0.0)
    if p > 1.0:
        raise InputError(f"part is {p:g}: the trace of a projection is in (0, 1]")
    return free_power(law, 1.0 / p).affine(p)


def marchenko_pastur_map(population: Any, ratio: Any) -> Measure:
    """The eigenvalues of Phi^(1/2) (X X^T / n) Phi^(1/2), Phi of p eigenvalues of law ``population``.

    X is p x n with independent entries of variance 1, ratio = p / n: a sample covariance matrix.
    """
    return free_product(as_measure(population, "population"), marchenko_pastur(ratio))


def fuss_catalan(order: Any) -> Measure:
    """The squared singular values of a product of ``order`` square Ginibre matrices of entries N(0, 1/n)."""
    return free_multiplicative_power(marchenko_pastur(1.0), number(order, "order", low=1.0))


def wigner_plus(deterministic: Any, variance: Any = 1.0) -> Measure:
    """The law of a Wigner matrix of the variance plus a deterministic one of this law."""
    return free_sum(semicircle(variance), as_measure(deterministic, "deterministic"))


def sum_of_powers(parts: Sequence[tuple[Measure, float]]) -> Measure:
    """The free sum of t copies of mu over the pairs (mu, t): points shift it, semicircles are merged."""
    if not parts:
        raise InputError("laws: at least one is needed")
    flat: list[tuple[Measure, float]] = []
    for part, t in parts:
        if isinstance(part, FreeSum):
            flat += [(own, t * s) for own, s in part.parts]
        else:
            flat.append((part.quick, t))
    shift, bell, rest = 0.0, [0.0, 0.0], []
    for part, t in flat:
        if isinstance(part, Discrete) and part.points.size == 1:
            shift += t * part.points[0]
        elif isinstance(part, Semicircle):
            bell = [bell[0] + t * part.variance, bell[1] + t * part.mean]
        else:
            rest.append((part, t))
    if bell[0]:
        rest.append((Semicircle(*bell), 1.0))
    if not rest:
        return Discrete([shift], [1.0])
    made = rest[0][0] if len(rest) == 1 and rest[0][1] == 1.0 else FreeSum(rest)
    return made.affine(1.0, shift)


def product_of_powers(parts: Sequence[tuple[Measure, float]]) -> Measure:
    """The free product of t copies of mu over the pairs (mu, t), laws on [0, inf): points scale it."""
    if not parts:
        raise InputError("laws: at least one is needed")
    flat: list[tuple[Measure, float]] = []
    last = parts[0][0]
    size = 0.0  # the logarithm of the mean: that of a thousand layers may have no number
    for k, (part, t) in enumerate(parts):
        if not _positive(part) and part.hull[0] < 0.0:
            raise InputError(
                f"laws[{k}] has mass below 0: free multiplicative convolution is one of laws on [0, inf)"
            )
        if not part.mean:
            return Discrete([0.0], [1.0])
        size += t * float(np.log(part.mean))
        if isinstance(part, Affine) and not part.shift:
            part = part.of
        if isinstance(part, FreeProduct):
            flat += [(own, t * s) for own, s in part.parts]
        elif not (isinstance(part, Discrete) and part.points.size == 1):
            flat.append((part.quick.of_mean_one, t))
            last = part
    with np.errstate(over="ignore"):
        scale = float(np.exp(size))
    if not 0.0 < scale < np.inf:
        raise LimitError(f"the mean of the product is e^{size:.4g}, beyond floating point; scale the laws")
    grouped: dict[int, tuple[Measure, float]] = {}
    for part, t in flat:
        grouped[id(part)] = (part, t + grouped[id(part)][1] if id(part) in grouped else t)
    kept = list(grouped.values())
    if not kept:
        return Discrete([scale], [1.0])
    if len(kept) == 1 and kept[0][1] == 1.0 and isinstance(kept[0][0], Measure):
        return last.affine(scale / last.mean)
    return FreeProduct(kept).affine(scale)


def _positive(law: Measure) -> bool:
    """Whether a law is known to be one on [0, inf) without a look at its edges."""
    inner = law.of if isinstance(law, Affine) and law.scale > 0.0 and not law.shift else law
    return isinstance(inner, FreeProduct)
