"""Polynomials in jointly Gaussian symbols with exact coefficients, and their expectations (Isserlis).

E[s F] = E[s] E[F] + sum_t Cov(s, t) E[dF/dt], applied to one factor of a monomial after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

from tpnum.errors import LimitError
from tpnum.law.worklist import once

Monomial: TypeAlias = tuple[tuple[int, int], ...]
"""(symbol, power) by growing symbol."""

Polynomial: TypeAlias = dict[Monomial, Fraction]

SMALL = 10**6
"""Denominators below are looked for first: 1/3 in binary is meant to be a third."""

TERMS = 50_000
"""Terms of one polynomial; beyond, other methods are cheaper."""


class TooLarge(LimitError):
    """A polynomial has more terms than exact arithmetic is good for."""


def exact(x: float | Fraction) -> Fraction:
    """The fraction that a number stands for.

    The one of denominator up to 10^6 that rounds to it, else that of its shortest decimal form.
    """
    if isinstance(x, Fraction):
        return x
    near = Fraction(x).limit_denominator(SMALL)
    return near if float(near) == float(x) else Fraction(repr(float(x)))


def constant(c: Fraction) -> Polynomial:
    """c."""
    return {(): c} if c else {}


def symbol(s: int) -> Polynomial:
    """The symbol s."""
    return {((s, 1),): Fraction(1)}


def combination(terms: Sequence[tuple[Fraction, Polynomial]]) -> Polynomial:
    """sum of coefficient times polynomial."""
    made: Polynomial = {}
    for c, p in terms:
        for monomial, x in p.items():
            made[monomial] = made.get(monomial, Fraction(0)) + c * x
    return {monomial: x for monomial, x in made.items() if x}


def product(a: Polynomial, b: Polynomial) -> Polynomial:
    """a b."""
    if len(a) * len(b) > TERMS:
        raise TooLarge(f"a product has {len(a) * len(b)} terms")
    made: Polynomial = {}
    for m, x in a.items():
        for n, y in b.items():
            key = _times(m, n)
            made[key] = made.get(key, Fraction(0)) + x * y
    return {monomial: x for monomial, x in made.items() if x}


def _times(m: Monomial, n: Monomial) -> Monomial:
    powers = dict(m)
    for s, k in n:
        powers[s] = powers.get(s, 0) + k
    return tuple(sorted(powers.items()))


def substituted(coefs: Sequence[Fraction], p: Polynomial) -> Polynomial:
    """sum_k coefs[k] p^k, by Horner's rule."""
    made: Polynomial = {}
    for c in reversed(coefs):
        made = combination([(Fraction(1), product(made, p)), (c, {(): Fraction(1)})])
    return made


def derivative(p: Polynomial, s: int) -> Polynomial:
    """dp/ds."""
    made: Polynomial = {}
    for monomial, x in p.items():
        powers = dict(monomial)
        k = powers.get(s, 0)
        if k:
            lower = tuple((t, j - (t == s)) for t, j in monomial if t != s or j > 1)
            made[lower] = made.get(lower, Fraction(0)) + k * x
    return made


class Gaussians:
    """Jointly Gaussian symbols with exact means and covariances, and expectations of polynomials in them."""

    def __init__(self) -> None:
        self.means: list[Fraction] = []
        self.cov: list[dict[int, Fraction]] = []  # without the zeros
        self._memo: dict[Monomial, Fraction] = {(): Fraction(1)}

    def add(self, mean: Fraction, cov: dict[int, Fraction], variance: Fraction) -> int:
        """A new symbol with its covariances to earlier ones."""
        s = len(self.means)
        self.means.append(mean)
        self.cov.append({t: c for t, c in cov.items() if c})
        for t, c in self.cov[s].items():
            self.cov[t][s] = c
        if variance:
            self.cov[s][s] = variance
        return s

    def expectation(self, p: Polynomial) -> Fraction:
        """E p."""
        return sum((x * self._moment(monomial) for monomial, x in p.items()), Fraction(0))

    def _moment(self, monomial: Monomial) -> Fraction:
        return once(self._memo, monomial, self._isserlis, monomial)

    def _isserlis(self, monomial: Monomial) -> Fraction:
        (s, k), *others = monomial
        rest: Monomial = (*(((s, k - 1),) if k > 1 else ()), *others)
        total = self.means[s] * self._moment(rest) if self.means[s] else Fraction(0)
        for t, j in rest:
            c = self.cov[s].get(t)
            if c:
                lower = tuple((u, i - (u == t)) for u, i in rest if u != t or i > 1)
                total += c * j * self._moment(lower)
        return total
