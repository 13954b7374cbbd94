"""Means and second moments of functions of one Gaussian, by mpmath's quadrature."""

from __future__ import annotations

from mpmath import mp

from tests.oracle.recorded import recorded

EXACT = {
    "tanh": mp.tanh,
    "softplus": lambda u: mp.log1p(mp.exp(u)),
    "sigmoid": lambda u: 1 / (1 + mp.exp(-u)),
    "silu": lambda u: u / (1 + mp.exp(-u)),
    "relu": lambda u: max(u, mp.mpf(0)),
    "hard_tanh": lambda u: max(mp.mpf(-1), min(mp.mpf(1), u)),
    "gabor": lambda u: mp.exp(-u * u) * mp.sin(u),
    "elu": lambda u: u if u > 0 else mp.expm1(u),
    "exp": mp.exp,
}
KINKS = {"relu": (0.0,), "hard_tanh": (-1.0, 1.0), "elu": (0.0,)}
OF = {
    "mean": lambda g, m, v: g,
    "second": lambda g, m, v: lambda u: g(u) ** 2,
    "slope": lambda g, m, v: lambda u: g(u) * (u - m) / v,  # by Stein's lemma
}


@recorded
def moment_mp(name: str, of: str, mean: float, q: float, reach: int = 16) -> float:
    """E g, E g^2 or E g' of u ~ N(mean, q), the range split at kinks and at the scale of g."""
    with mp.workdps(22):
        g = OF[of](EXACT[name], mean, q)
        root = mp.sqrt(mp.mpf(q))
        inner = [s * 2.0**k for s in (-1, 1) for k in range(-1, 6)]
        cuts = {float((k - mean) / root) for k in [*KINKS.get(name, ()), *inner, 0.0]}
        cuts |= set(map(float, range(-reach, reach + 1)))
        points = sorted(c for c in cuts if abs(c) <= reach)
        return float(mp.quad(lambda z: g(mean + root * z) * mp.npdf(z), points))
