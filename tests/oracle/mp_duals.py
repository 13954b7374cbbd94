"""Gaussian expectations of pairs in mpmath, written out from the tables of the literature.

For (u, v) ~ N(0, [[q1, c], [c, q2]]) each activation knows E f(u) f(v), E f'(u) f'(v) (almost
everywhere derivative) and E f(u).  Nothing here knows the package under test.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpmath import mp, mpf


def _angle(q1, q2, c):
    """The angle theta with cos theta = c / sqrt(q1 q2), keeping all digits at both ends."""
    return mp.atan2(mp.sqrt(max(mpf(0), q1 * q2 - c * c)), c)


@dataclass(frozen=True)
class ABRelu:
    """a min(u, 0) + b max(u, 0)  (Cho & Saul 2009 for its two halves)."""

    a: mpf
    b: mpf

    def pair(self, q1, q2, c):
        th = _angle(q1, q2, c)
        root = mp.sqrt(max(mpf(0), q1 * q2 - c * c))
        both = root + (mp.pi - th) * c  # 2 pi E relu relu
        cross = c * th - root  # 2 pi E relu(u) min(v, 0)
        return ((self.a**2 + self.b**2) * both + 2 * self.a * self.b * cross) / (2 * mp.pi)

    def slope(self, q1, q2, c):
        th = _angle(q1, q2, c)
        return ((self.a**2 + self.b**2) * (mp.pi - th) + 2 * self.a * self.b * th) / (2 * mp.pi)

    def mean(self, q):
        return (self.b - self.a) * mp.sqrt(q / (2 * mp.pi))


@dataclass(frozen=True)
class Step:
    """scale * 1{u > 0} + offset; its derivative is zero almost everywhere."""

    scale: mpf
    offset: mpf

    def pair(self, q1, q2, c):
        one = (mp.pi - _angle(q1, q2, c)) / (2 * mp.pi)
        return self.scale**2 * one + self.scale * self.offset + self.offset**2

    def slope(self, q1, q2, c):
        return mpf(0)

    def mean(self, q):
        return self.scale / 2 + self.offset


@dataclass(frozen=True)
class Erf:
    """a erf(b u) + c0  (Williams 1996)."""

    a: mpf
    b: mpf
    c0: mpf

    def pair(self, q1, q2, c):
        s = self.b**2
        ratio = 2 * s * c / mp.sqrt((1 + 2 * s * q1) * (1 + 2 * s * q2))
        return self.a**2 * 2 / mp.pi * mp.asin(ratio) + self.c0**2

    def slope(self, q1, q2, c):
        s = self.b**2
        return self.a**2 * s * 4 / mp.pi / mp.sqrt((1 + 2 * s * q1) * (1 + 2 * s * q2) - 4 * s * s * c * c)

    def mean(self, q):
        return self.c0


@dataclass(frozen=True)
class Gelu:
    """u Phi(u)."""

    def _parts(self, q1, q2, c):
        d = (1 + q1) * (1 + q2) - c * c
        e = mpf(1) / 4 + mp.asin(c / mp.sqrt((1 + q1) * (1 + q2))) / (2 * mp.pi)
        a = 1 / (2 * mp.pi * mp.sqrt(d))
        b = q1 * q2 - c * c + c * c / (1 + q1) + c * c / (1 + q2)
        return d, e, a, b

    def pair(self, q1, q2, c):
        _, e, a, b = self._parts(q1, q2, c)
        return c * e + a * b

    def slope(self, q1, q2, c):
        d, e, a, b = self._parts(q1, q2, c)
        return e + c * a + a * c / d * b + a * (-2 * c + 2 * c / (1 + q1) + 2 * c / (1 + q2))

    def mean(self, q):
        return q / mp.sqrt(2 * mp.pi * (1 + q))


@dataclass(frozen=True)
class Sin:
    """a sin(b u + c0)."""

    a: mpf
    b: mpf
    c0: mpf

    def pair(self, q1, q2, c):
        s = self.b**2
        plus, minus = mp.exp(s * (c - (q1 + q2) / 2)), mp.exp(-s * (c + (q1 + q2) / 2))
        return self.a**2 / 2 * (plus - mp.cos(2 * self.c0) * minus)

    def slope(self, q1, q2, c):
        s = self.b**2
        plus, minus = mp.exp(s * (c - (q1 + q2) / 2)), mp.exp(-s * (c + (q1 + q2) / 2))
        return self.a**2 * s / 2 * (plus + mp.cos(2 * self.c0) * minus)

    def mean(self, q):
        return self.a * mp.exp(-(self.b**2) * q / 2) * mp.sin(self.c0)


@dataclass(frozen=True)
class Exp:
    """a exp(b u)."""

    a: mpf
    b: mpf

    def pair(self, q1, q2, c):
        return self.a**2 * mp.exp(self.b**2 * (q1 + q2 + 2 * c) / 2)

    def slope(self, q1, q2, c):
        return self.b**2 * self.pair(q1, q2, c)

    def mean(self, q):
        return self.a * mp.exp(self.b**2 * q / 2)


@dataclass(frozen=True)
class Gaussian:
    """a exp(b u^2)."""

    a: mpf
    b: mpf

    def _det(self, q1, q2, c):
        return (1 - 2 * self.b * q1) * (1 - 2 * self.b * q2) - 4 * self.b**2 * c * c

    def pair(self, q1, q2, c):
        return self.a**2 / mp.sqrt(self._det(q1, q2, c))

    def slope(self, q1, q2, c):
        return self.a**2 * 4 * self.b**2 * c / self._det(q1, q2, c) ** mpf("1.5")

    def mean(self, q):
        return self.a / mp.sqrt(1 - 2 * self.b * q)


@dataclass(frozen=True)
class Gabor:
    """exp(-u^2) sin u: a sine under the tilted law with covariance S (I + 2 S)^-1."""

    def _parts(self, q1, q2, c):
        d = (1 + 2 * q1) * (1 + 2 * q2) - 4 * c * c
        return d, (q1 + q2 + 4 * (q1 * q2 - c * c)) / d, c / d

    def pair(self, q1, q2, c):
        d, trace, off = self._parts(q1, q2, c)
        return mp.exp(-trace / 2) * mp.sinh(off) / mp.sqrt(d)

    def slope(self, q1, q2, c):
        d, trace, off = self._parts(q1, q2, c)
        dtrace = 8 * c * (trace - 1) / d
        doff = 1 / d + 8 * c * c / d**2
        inner = (4 * c / d - dtrace / 2) * mp.sinh(off) + mp.cosh(off) * doff
        return mp.exp(-trace / 2) * inner / mp.sqrt(d)

    def mean(self, q):
        return mpf(0)


@dataclass(frozen=True)
class Polynomial:
    """sum_i coef[i] u^i by Isserlis: E u^i v^j as a finite sum over the number k of u-v pairs."""

    coef: tuple[mpf, ...]

    def _mixed(self, i, j, q1, q2, c):
        total = mpf(0)
        for k in range(min(i, j) + 1):
            if (i - k) % 2 or (j - k) % 2:
                continue
            ways = (
                mp.factorial(k)
                * mp.binomial(i, k)
                * mp.binomial(j, k)
                * mp.fac2(i - k - 1)
                * mp.fac2(j - k - 1)
            )
            total += ways * c**k * q1 ** ((i - k) // 2) * q2 ** ((j - k) // 2)
        return total

    def pair(self, q1, q2, c):
        return mp.fsum(
            a * b * self._mixed(i, j, q1, q2, c)
            for i, a in enumerate(self.coef) if a
            for j, b in enumerate(self.coef) if b
        )  # fmt: skip

    def slope(self, q1, q2, c):
        return Polynomial(tuple(i * a for i, a in enumerate(self.coef))[1:] or (mpf(0),)).pair(q1, q2, c)

    def mean(self, q):
        return mp.fsum(a * mp.fac2(i - 1) * q ** (i // 2) for i, a in enumerate(self.coef) if i % 2 == 0)


@dataclass(frozen=True)
class Hermite:
    """He_n(u / sqrt q) / sqrt(n!)."""

    n: int

    def pair(self, q1, q2, c):
        return (c / mp.sqrt(q1 * q2)) ** self.n

    def slope(self, q1, q2, c):
        if self.n == 0:
            return mpf(0)
        return self.n * (c / mp.sqrt(q1 * q2)) ** (self.n - 1) / mp.sqrt(q1 * q2)

    def mean(self, q):
        return mpf(self.n == 0)


@dataclass(frozen=True)
class RectifiedMonomial:
    """[u >= 0] u^n: (q1 q2)^(n/2) J_n(theta) / (2 pi), J_0..J_3 of Cho & Saul 2009."""

    n: int

    def _j(self, n, th):
        s, c, rest = mp.sin(th), mp.cos(th), mp.pi - th
        if n == 0:
            return rest
        if n == 1:
            return s + rest * c
        if n == 2:
            return 3 * s * c + rest * (1 + 2 * c * c)
        return 15 * s - 11 * s**3 + rest * (9 * c + 6 * c**3)

    def pair(self, q1, q2, c):
        return mp.sqrt(q1 * q2) ** self.n * self._j(self.n, _angle(q1, q2, c)) / (2 * mp.pi)

    def slope(self, q1, q2, c):
        if self.n == 0:
            return mpf(0)
        return (
            self.n**2
            * mp.sqrt(q1 * q2) ** (self.n - 1)
            * self._j(self.n - 1, _angle(q1, q2, c))
            / (2 * mp.pi)
        )

    def mean(self, q):
        return (
            mp.sqrt(q) ** self.n
            * mp.mpf(2) ** (mpf(self.n) / 2)
            * mp.gamma(mpf(self.n + 1) / 2)
            / (2 * mp.sqrt(mp.pi))
        )


@dataclass(frozen=True)
class ExpNormalized:
    """The kernel q -> sqrt(q1 q2) exp(gamma (rho + shift)); its NTK factor is gamma exp(..)."""

    gamma: mpf
    shift: mpf

    def _e(self, q1, q2, c):
        return mp.exp(self.gamma * (c / mp.sqrt(q1 * q2) + self.shift))

    def pair(self, q1, q2, c):
        return mp.sqrt(q1 * q2) * self._e(q1, q2, c)

    def slope(self, q1, q2, c):
        return self.gamma * self._e(q1, q2, c)

    def mean(self, q):  # the constant Hermite coefficient of the function with this kernel
        return mp.sqrt(q * mp.exp(self.gamma * self.shift))


def activation(layer: dict):
    """The dual of a layer of the JSON form (its defaults are those of the peer's layers)."""
    op = layer["op"]

    def arg(key, default):
        return mpf(layer.get(key, default))

    if op == "Relu":
        return ABRelu(mpf(0), mpf(1))
    if op == "ABRelu":
        return ABRelu(arg("a", None), arg("b", None))
    if op == "LeakyRelu":
        return ABRelu(arg("alpha", None), mpf(1))
    if op == "Abs":
        return ABRelu(mpf(-1), mpf(1))
    if op == "Sign":
        return Step(mpf(2), mpf(-1))
    if op == "Erf":
        return Erf(arg("a", 1), arg("b", 1), arg("c", 0))
    if op == "Sigmoid_like":
        return Erf(mpf("0.5"), 1 / mpf("2.4020563531719796"), mpf("0.5"))
    if op == "Gelu" and not layer.get("approximate", False):
        return Gelu()
    if op == "Sin":
        return Sin(arg("a", 1), arg("b", 1), arg("c", 0))
    if op == "Cos":
        return Sin(arg("a", 1), arg("b", 1), arg("c", 0) + mp.pi / 2)
    if op == "Rbf":
        return Sin(mp.sqrt(2), mp.sqrt(2 * arg("gamma", 1)), mp.pi / 4)
    if op == "Exp":
        return Exp(arg("a", 1), arg("b", 1))
    if op == "Gaussian":
        return Gaussian(arg("a", 1), arg("b", -1))
    if op == "Gabor":
        return Gabor()
    if op == "Monomial":
        return Polynomial((mpf(0),) * layer["degree"] + (mpf(1),))
    if op == "Polynomial":
        return Polynomial(tuple(mpf(a) for a in layer["coef"]))
    if op == "Hermite":
        return Hermite(layer["degree"])
    if op == "RectifiedMonomial" and layer["degree"] <= 3:
        return RectifiedMonomial(layer["degree"])
    if op == "ExpNormalized":
        return ExpNormalized(arg("gamma", 1), arg("shift", -1))
    raise ValueError(f"the oracle has no closed form for layer {layer!r}")
