"""Functions made of functions: f(f1(u), .., fk(u)) at the same u, products, sums, shifts.

They are Functions like the named ones (their parts are parameters), so everything that takes a
Function takes them: quadrature, series, programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tpnum.arguments import finite_array, number, shown
from tpnum.errors import ProgramError
from tpnum.functions.function import TABLE, Function
from tpnum.functions.record import REQUIRED, Record

_SCAN = np.concatenate([-np.logspace(3, -6, 1500), [0.0], np.logspace(-6, 3, 1500)])
_GROWTHS = ("bounded", "poly", "exp", "exp2")


def compose(f: Function, *inners: Function, scalars: Sequence[float] = ()) -> Function:
    """u -> f(f1(u), .., fk(u); t1, .., tl) with one inner function of one vector per vector of ``f``."""
    for g in (f, *inners):
        if not isinstance(g, Function):
            raise ProgramError(f"a Function is needed in each part (functions.get makes one), not {shown(g)}")
    if len(inners) != f.arity or len(scalars) != f.n_scalars:
        raise ProgramError(
            f"{f} takes {f.arity} vector(s) and {f.n_scalars} scalar(s), not {len(inners)} and {len(scalars)}"
        )
    for g in inners:
        if g.arity != 1 or g.n_scalars:
            raise ProgramError(f"compose needs functions of one vector, {g} is not one")
    if f == IDENTITY:
        return inners[0]
    if not scalars and len(inners) == 1 and inners[0] == IDENTITY:
        return f
    values = tuple(float(s) for s in scalars)
    return Function("compose", (("f", f), ("inners", tuple(inners)), ("scalars", values)))


def product(*parts: Function) -> Function:
    """u -> f1(u) f2(u) ..."""
    if not parts or not isinstance(parts[0], Function):
        raise ProgramError("parts: at least one Function is needed (functions.get makes one)")
    made = parts[0]
    for g in parts[1:]:
        made = compose(Function("mul"), made, g)
    return made


def linear(coefs: Sequence[float], parts: Sequence[Function], constant: float = 0.0) -> Function:
    """u -> constant + sum_i coefs[i] f_i(u)."""
    weights = tuple(finite_array(coefs, "coefs", 1, ProgramError).tolist())
    if not isinstance(parts, (tuple, list)) or not parts:
        raise ProgramError(f"parts: a list of Functions is needed, not {shown(parts)}")
    outer = Function(
        "affine", (("coefs", weights), ("constant", number(constant, "constant", error=ProgramError)))
    )
    return compose(outer, *parts)


def affine(f: Function, scale: float = 1.0, shift: float = 0.0) -> Function:
    """u -> f(scale u + shift)."""
    scale, shift = (number(x, n, error=ProgramError) for x, n in ((scale, "scale"), (shift, "shift")))
    if scale == 1.0 and shift == 0.0 and isinstance(f, Function):
        return f
    return compose(f, Function("polynomial", (("coef", (float(shift), float(scale))),)))


IDENTITY = Function("identity")


@lru_cache(maxsize=4096)  # parts may be compositions themselves, asked again and again
def _values(
    f: Function, inners: tuple[Function, ...], scalars: tuple[float, ...]
) -> dict[tuple[int, ...], Any]:
    def value(u: Any, **_: Any) -> Any:
        return f(*(g(u) for g in inners), *scalars)

    def slope(u: Any, **_: Any) -> Any:
        at = [g(u) for g in inners]
        made: Any = 0.0
        for i, g in enumerate(inners):
            made = made + f.derivative(i)(*at, *scalars) * g.derivative()(u)
        return made

    known: dict[tuple[int, ...], Any] = {(): value}
    try:
        differentiable = all(f.derivative(i).has_values for i in range(f.arity)) and all(
            g.derivative().has_values for g in inners
        )
    except ProgramError:
        differentiable = False
    if differentiable:
        known[(0,)] = slope
    return known


def _crossings(level: Any, points: np.ndarray) -> list[float]:
    """Where the function ``level`` of u changes sign, by bisection from a scan."""
    with np.errstate(all="ignore"):
        at = np.asarray(level(points), dtype=float)
        found = [float(p) for p in points[at == 0.0]] if np.count_nonzero(at == 0.0) <= 8 else []
        change = np.flatnonzero(at[:-1] * at[1:] < 0.0)
        low, high = points[change], points[change + 1]
        sign = np.sign(at[change])
        for _ in range(80):
            middle = 0.5 * (low + high)
            same = np.sign(level(middle)) == sign
            low, high = np.where(same, middle, low), np.where(same, high, middle)
    return found + [float(m) for m in 0.5 * (low + high)]


def _kinks(f: Function, inners: tuple[Function, ...], scalars: tuple[float, ...]) -> tuple[float, ...]:
    found = {k for g in inners for k in g.kinks}
    if f.arity == 1:
        line: tuple[float, ...] = (
            dict(inners[0].params).get("coef", ()) if inners[0].name == "polynomial" else ()
        )
        for kink in f.kinks:
            if len(line) == 2 and line[1] != 0:
                found.add((kink - line[0]) / line[1])
            else:
                found.update(_crossings(lambda u, k=kink: inners[0](u) - k, _SCAN))
    elif f.record.switch is not None:
        switch = f.record.switch
        found.update(_crossings(lambda u: switch(*(g(u) for g in inners)), _SCAN))
    return tuple(sorted(found))


def _parity(f: Function, inners: tuple[Function, ...], scalars: tuple[float, ...]) -> int:
    own = [1 if g.name == "constant" else g.parity for g in inners]
    if all(p == 1 for p in own):
        return 1
    if f.name == "affine" and len(set(own)) == 1 and not (own[0] == -1 and dict(f.params)["constant"]):
        return own[0]
    if all(p == -1 for p in own):
        return f.parity
    if all(p for p in own) and f.arity == 2 and all(f.parities):
        odd = [f.parities[i] for i in range(2) if own[i] == -1]
        return int(np.prod(odd))
    return 0


def _growth(f: Function, inners: tuple[Function, ...], scalars: tuple[float, ...]) -> str:
    outer = _GROWTHS.index(f.growth)
    inner = max(_GROWTHS.index(g.growth) for g in inners)
    if outer == 0 or outer == 1:
        return _GROWTHS[inner] if outer else "bounded"
    return "bounded" if inner == 0 else "exp2" if inner > 1 or outer == 3 else _GROWTHS[outer]


COMPOSITIONS: dict[str, Record] = {
    "compose": Record(
        "f(f1(u), .., fk(u))", _values, (("f", REQUIRED), ("inners", REQUIRED), ("scalars", ())),
        kinks=_kinks, parity=_parity,
        growth=_growth, named=False,
    ),
    "elementwise_numerical": Record(
        "fn(u), its kernels by the fixed rule of deg x deg Gauss-Hermite points",
        lambda fn, deg: {(): lambda u, **_: fn(u), (0,): lambda u, **_: fn.derivative()(u)},
        (("fn", REQUIRED), ("deg", REQUIRED)), kinks=lambda fn, deg: fn.kinks,
        parity=lambda fn, deg: fn.parity,
        degree=lambda fn, deg: fn.degree, growth=lambda fn, deg: fn.growth,
    ),
}  # fmt: skip
TABLE.update(COMPOSITIONS)
