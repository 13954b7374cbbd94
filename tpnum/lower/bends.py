"""How the adjoint of an expectation passes on: by closed forms of the family, or by Hermite series.

V = E f(u) g(v) and S = E f'(u) g'(v) = dV/dc are functions of c = E u v, l = log q / 2 and l' = log q' / 2.
Their derivatives V_1 and S_1 by l where c stays (by l' alike), and that of S by c, are

    a u + b |u|:    V_1 = V - c S,               S_1 = -c dS/dc,            dS/dc ~ (1 - rho^2)^(-1/2)
    a erf(b u):     V_1 = -(2 b^2 q / D) c S,    S_1 = -2 b^2 q D' T,       dS/dc = 4 b^4 c T
    f'' = k f:      V_1 = k q V,                 S_1 = k q S,               dS/dc = k^2 V

with D = 1 + 2 b^2 q and T = S^3 (pi / 4 a^2 b^2)^2.  Others take the strips of `tpnum.kernels.curves`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tpnum.gauss.truncated import LADDER, tails
from tpnum.kernels.curves import GELU
from tpnum.lower.numbers import inverse
from tpnum.lower.tables import parity_of

if TYPE_CHECKING:
    from tpnum.gauss.pair import Prepared
    from tpnum.law import graph
    from tpnum.lower.forwards import Sides
    from tpnum.lower.reverse import Writer
    from tpnum.lower.tables import Rows

REACH = 1e-12
"""What the tails of second derivatives may be, relative to all of them."""
FLOOR = 1e-13
BOTH = 2
"""The side of what is the same by either variance."""


@dataclass(frozen=True)
class Call:
    """A call of a dual as the tape knows it: registers e and rho of u, v and S, and what is known of rows."""

    graph: graph.DualCall
    e: int
    rho: int
    image: int
    steep: int
    first: Prepared
    second: Prepared
    curve: int = -1

    @property
    def variances(self) -> Sides:
        return self.first.q, self.second.q

    @property
    def roots(self) -> Sides:
        row, col = self.variances
        return np.sqrt(row), np.sqrt(col)


def homogeneous(w: Writer, call: Call, what: str, bar: int) -> None:
    """Piecewise linear functions: d = 1, and S = k acos(-rho) + a constant."""
    row, col = call.roots
    by_c = call.steep
    if what == "slope":
        _, bent, size = call.first.params[:, :1]
        rate = 2.0 * bent * size / math.pi
        by_c = w.value_of("bend", call.e, p=w.number(rate * inverse(row), inverse(col)))
    else:
        w.gain_log(call, BOTH, w.ones, bar, w.plain_value(call))
    by_c = w.product(bar, by_c)
    w.gain_cov(call, w.ones, by_c)
    w.gain_log(call, BOTH, w.number(-row, col), call.rho, by_c)


def error_function(w: Writer, call: Call, what: str, bar: int) -> None:
    """a erf(b u) + c: S = (4 a^2 b^2 / pi) (D D' - 4 b^4 c^2)^(-1/2)."""
    assert call.first.f.closed is not None
    a, b, _ = call.first.f.closed[1]
    square, scale = 2.0 * b * b, 4.0 * a * a * b * b / math.pi
    (q, q2), (row, col) = call.variances, call.roots
    first, second = (square * x / (1.0 + square * x) for x in (q, q2))
    if what == "value":
        w.gain_cov(call, w.ones, bar, call.steep)
        for side, numbers in enumerate(((-row * first, col), (-row, col * second))):
            w.gain_log(call, side, w.number(*numbers), bar, call.rho, call.steep)
        return
    if not scale:
        return
    cube = w.value_of("multiply", call.steep, call.steep, call.steep, p=w.constant(scale**-2))
    w.gain_cov(call, w.number(square**2 * row, col), bar, call.rho, cube)
    for side, numbers in enumerate(((-square * q, 1.0 + square * q2), (-square * (1.0 + square * q), q2))):
        w.gain_log(call, side, w.number(*numbers), bar, cube)


def exponential(w: Writer, call: Call, what: str, bar: int) -> None:
    """f'' = k f: exponentials, sines and cosines."""
    assert call.first.f.closed is not None
    name, (_, b, *_) = call.first.f.closed
    rate = b * b if name == "exp" else -b * b
    own = w.plain_value(call)
    q, q2 = call.variances
    if what == "value":
        w.gain_cov(call, w.ones, bar, call.steep)
    else:
        w.gain_cov(call, w.constant(rate**2), bar, own)
    of = own if what == "value" else call.steep
    w.gain_log(call, 0, w.number(rate * q, np.ones_like(q2)), bar, of)
    w.gain_log(call, 1, w.number(np.ones_like(q), rate * q2), bar, of)


def by_curve(w: Writer, call: Call, what: str, bar: int) -> None:
    """Any other function, whose second derivatives are strips."""
    w.gain_cov(call, w.ones, bar, call.steep if what == "value" else call.curve)
    for side in (0, 1):
        w.gain_log(call, side, w.ones, bar, call.curve + 1 + side + 2 * (what == "slope"))


RULES = {
    "abrelu": homogeneous,
    "erf": error_function,
    "sin": exponential,
    "exp": exponential,
    "gelu": by_curve,
}
"""By the family of a function with itself."""


def family_of(first: Prepared, second: Prepared) -> str:
    """The family that has a rule of its own, of a function with itself; "" for all others."""
    closed = first.f.closed if first.kind == second.kind == "closed" and first.f == second.f else None
    return closed[0] if closed is not None and closed[0] in RULES else ""


@dataclass
class CurveTables:
    """Series of second derivatives, as `tpnum.kernels.curves.partials` reads them."""

    entries: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    parts: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    terms: list[int] = field(default_factory=list)
    least: list[float] = field(default_factory=list)

    def add(self, found: Curves) -> int:
        """The number of a new pair of functions."""
        count = found.size
        start, at = sum(part[0].shape[1] for part in self.parts), len(self.terms)
        self.terms += found.terms
        self.least += found.least
        self.entries.append((start, count, found.parity, at, len(found.terms)))
        sides = (side(slice(None)) for side in found.sides)
        self.parts.append(tuple(part for side in sides for part in (side[:, :count], side[:, count:])))
        return len(self.entries) - 1

    def arrays(self, counts: tuple[int, int]) -> tuple[np.ndarray, ...]:
        """(entries, terms, least, a and g per row (R, K), b and h per column (K, C))."""
        made = []
        for k in range(4):
            whole = np.concatenate([np.zeros((counts[k // 2], 0)), *(part[k] for part in self.parts)], axis=1)
            made.append(np.ascontiguousarray(whole if k < 2 else whole.T))
        return (
            np.array(self.entries, np.int64).reshape(-1, 5),
            np.array(self.terms, np.int64),
            np.array(self.least, np.float64),
            *made,
        )


class Curves(NamedTuple):
    """How many terms serve which 1 - |rho| at least, and ``size`` coefficients of f and of q f'' of rows.

    ``parity`` says which of them are zero, or which closed form reads them.  ``units`` make the ``numbers``
    that those are made of: coefficients relative to the root of E f^2 up to ``degrees``, or they themselves.
    """

    size: int
    parity: int
    terms: list[int]
    least: list[float]
    sides: tuple[Rows, Rows]
    numbers: int
    units: tuple[Rows, Rows]
    degrees: int = 0


def curves_of(first: Prepared, second: Prepared) -> Curves:
    """The curves of a pair of functions: closed, or series of as many terms as rows and columns take."""
    if family_of(first, second):
        closed = partial(_gelu_numbers, first), partial(_gelu_numbers, second)
        return Curves(1, GELU, [0], [0.0], closed, 2, closed)
    first, second = first.general, second.general
    parity = parity_of(first, second)
    assert first.series is not None
    assert second.series is not None
    degrees = min(first.series.most, second.series.most)
    ladder = np.array([k for k in LADDER if k <= degrees])
    left = _tail(first, degrees, ladder)
    worst = np.sqrt(left * (left if second is first else _tail(second, degrees, ladder)))
    rho = np.minimum((REACH / np.maximum(worst, 1e-300)) ** (1.0 / ladder), 1.0)
    enough = int(np.argmax(rho == 1.0)) + 1 if rho[-1] == 1.0 else ladder.size
    kept = range(0 if parity >= 0 else 1, int(ladder[enough - 1]), 2 if parity else 1)
    terms = np.minimum(-(-ladder // 2) if parity else ladder, len(kept))[:enough]
    sides = partial(_coefficients, first, kept), partial(_coefficients, second, kept)
    least = (1.0 - rho[:enough]).tolist()
    known = range(kept.start, min(kept.stop + 2, degrees), kept.step)
    units = partial(first.unit, known), partial(second.unit, known)
    return Curves(len(kept), parity, terms.tolist(), least, sides, len(known), units, known.stop)


def _gelu_numbers(p: Prepared, which: np.ndarray | slice) -> np.ndarray:
    """(rows, 2) variances q, and 1 / (1 + q)."""
    q = p.q[which]
    return np.stack([q, 1.0 / (1.0 + q)], axis=1)


def _coefficients(p: Prepared, kept: range, which: np.ndarray | slice) -> np.ndarray:
    """(rows, 2 terms) coefficients of f and of q f'' of some rows."""
    assert p.series is not None
    count, step = len(kept), kept.step
    known = range(kept.start, min(kept.stop + 2, p.series.most), step)
    value = p.series.unit(p.where[which], known) * np.sqrt(p.second[which])[:, None]
    made = np.zeros((len(value), 2 * count))
    made[:, :count] = value[:, :count]
    k = np.array(known)[2 // step :]
    made[:, count : count + k.size] = value[:, 2 // step :] * np.sqrt(k * (k - 1.0))
    return made


def _tail(p: Prepared, degrees: int, ladder: np.ndarray) -> np.ndarray:
    """Of sum k^2 a_k^2, the largest share of any row from each degree of the ladder on."""
    assert p.series is not None
    rows = p.series.probes(np.arange(p.series.q.size))
    squares = (p.series.unit(rows, range(degrees)) * np.arange(degrees)) ** 2
    total = squares.sum(axis=1)
    share = squares / np.where(total > 0, total, 1.0)[:, None]
    made: np.ndarray = tails(share, ladder, np.where(total > 0, 1.0, 0.0), FLOOR).max(axis=0)
    return made if rows.size == p.series.q.size else 2.0 * made
