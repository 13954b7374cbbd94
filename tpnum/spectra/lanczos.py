"""`tpnum.spectrum`: the spectral law of any symmetric map that a program writes, by Lanczos in the limit.

    u_0 ~ N(0, I),    u_{k+1} = S u_k - a_k u_k - b_k u_{k-1},
    a_k = E u_k S u_k / E u_k^2,    b_k = E u_k^2 / E u_{k-1}^2

are lines of a program, whose limits are the Jacobi coefficients of the law: exact fractions where every
function is a polynomial, from one ensemble otherwise.  The law is the continued fraction that they begin,
ended by constant ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import choice, real_array, shown, whole
from tpnum.errors import InputError, LimitError, ProgramError, TpnumError
from tpnum.evaluate.joint import LEAST
from tpnum.evaluate.joint import MOST as LARGEST
from tpnum.law.rational import NotPolynomial, Rational
from tpnum.limits.limit import METHODS, limit
from tpnum.nn.base import Layer
from tpnum.program import Program, Vector
from tpnum.program.handle import Handle
from tpnum.program.lines import Data
from tpnum.program.sample import arrays_of
from tpnum.program.text import made_by, used_by
from tpnum.program.values import MatrixVar
from tpnum.spectra.base import Atom, Measure
from tpnum.spectra.closed import Discrete
from tpnum.spectra.operator import Operator
from tpnum.spectra.series import Series, series
from tpnum.spectra.shapes import Described

if TYPE_CHECKING:
    from tpnum.gauss.estimate import Estimate

STEPS, MOST = 20, 400
EXACT = 1e-13
"""Coefficients closer than this, relative to their size, are equal."""

FITTED = 0.5
"""The part of the coefficients, the last ones, from which their limits are extrapolated."""

DRAWS = 24
"""Of coefficients within their errors, for the band of a density."""


@dataclass(frozen=True)
class Coefficients:
    """Jacobi coefficients a_0.., b_1.. with the half-widths of their 95 % intervals, exact where they are
    known.
    """

    a: np.ndarray
    b: np.ndarray
    a_error: np.ndarray
    b_error: np.ndarray
    a_exact: tuple[Any, ...]
    b_exact: tuple[Any, ...]
    method: str


class Spectrum(Described):
    """A law from its Jacobi coefficients; a measure like all of `tpnum.spectra`, and an error band.

    ``coefficients`` are those of Lanczos's recurrence, ``tail`` the constants (a, b) that the continued
    fraction ends with and ``tail_error`` how uncertain they are.
    """

    def __init__(self, coefficients: Coefficients, law: Measure, tail: tuple[float, float],
                 tail_error: tuple[float, float]) -> None:  # fmt: skip
        self.coefficients, self.law, self.tail, self.tail_error = coefficients, law, tail, tail_error

    @property
    def edges_error(self) -> float:
        """How far the edges may be off."""
        a, b = self.tail_error
        root = np.sqrt(self.tail[1]) if self.tail[1] > 0.0 else 1.0
        return float(a + b / root)

    def moments(self, k: Any) -> np.ndarray:
        """The integrals of x^0, .., x^k, from the coefficients alone where these are enough."""
        last = whole(k, "k", 0, 10_000)
        if last < 2 * self.coefficients.a.size:
            return self._by_coefficients(last)
        return self.law.moments(last)

    def _by_coefficients(self, last: int) -> np.ndarray:
        a, b = self.coefficients.a, self.coefficients.b
        v = np.zeros(a.size)
        v[0] = 1.0
        powers, made = [v], []
        for _ in range(last):
            w = a * powers[-1]
            w[1:] += powers[-1][:-1]
            w[:-1] += b * powers[-1][1:]
            powers.append(w)
        weights = np.concatenate([[1.0], np.cumprod(b)])
        for k in range(last + 1):
            # (S^i u, S^j u) with i + j = k, both within the coefficients
            i = k // 2
            made.append(float(np.sum(_monic(a, b, i) * _monic(a, b, k - i) * weights)))
        return np.array(made)

    def error_band(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        """The density at x and the half-width of its band: what the errors of the coefficients leave open."""
        points = real_array(x, "x").astype(np.float64)
        middle = np.asarray(self.density(points))
        draws = np.random.default_rng(0)
        c, found = self.coefficients, []
        for _ in range(DRAWS):
            a = c.a + 0.5 * c.a_error * draws.standard_normal(c.a.size)
            b = np.maximum(c.b + 0.5 * c.b_error * draws.standard_normal(c.b.size), 1e-300)
            tail = tuple(
                t + 0.5 * e * draws.standard_normal() for t, e in zip(self.tail, self.tail_error, strict=True)
            )
            found.append(_continued(a, b, tail, points))
        spread = np.array(found)
        return middle, 2.0 * np.sqrt(np.mean((spread - middle) ** 2, axis=0))

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}; {self.coefficients.a.size} steps, {self.coefficients.method}>"


def _monic(a: np.ndarray, b: np.ndarray, k: int) -> np.ndarray:
    """S^k u_0 in the u_j, as far as the coefficients know."""
    v = np.zeros(a.size)
    v[0] = 1.0
    for _ in range(k):
        w = a * v
        w[1:] += v[:-1]
        w[:-1] += b * v[1:]
        v = w
    return v


def spectrum(
    operator: Any,
    v: Any = None,
    *,
    steps: Any = STEPS,
    samples: Any = None,
    seed: int = 0,
    method: str = "auto",
    data: Mapping[str, Any] | None = None,
    shape: Any = None,
) -> Spectrum:
    """The spectral law of a symmetric map v -> S v that a program writes, at infinite width.

    Parameters
    ----------
    operator
        S v, a vector of a program, with ``v`` the vector that it is made from; or the pair (v, S v); or a
        function that takes v and returns S v, with ``v`` a matrix or vector of the program that says which
        class v is of; or a net of layers with ``shape`` and ``data``: then S = J^T J, J the Jacobian from
        the first layer of weights to the last features.
    steps
        Coefficients of Lanczos's recurrence, of which 2 steps - 1 moments are exact.
    samples, seed, method, data
        Of `tpnum.limit`, where the program is no polynomial.

    Raises
    ------
    ProgramError
        A map that is not linear or not symmetric, as read from the program's text; the line is quoted.
    """
    count = whole(steps, "steps", 2, MOST)
    choice(method, "method", METHODS)
    given = None if samples is None else whole(samples, "samples", LEAST, LARGEST)
    data = arrays_of(data, "data")
    made = _operator(operator, v, shape)
    unknown = sorted(set(data) - set(made.program.vars))
    if unknown:
        raise InputError(f"data: the program has no data line {unknown[0]!r}")
    for name, x in data.items():
        if x.ndim != 1 or not x.size:
            raise InputError(f"data[{name!r}] has shape {x.shape}; one example is (channels,)")
    found = _coefficients(made, count, given, whole(seed, "seed", 0), method, data)
    return _law(found)


def _operator(operator: Any, v: Any, shape: Any) -> Operator:
    if isinstance(operator, Layer):
        from tpnum.nn import program

        if shape is None:
            raise InputError(
                "operator is a net: shape=, the (.., channels) of one example, is needed with it"
            )
        return gram_of_jacobian(program(operator, shape))
    if shape is not None:
        raise InputError("shape: it belongs to a net of layers")
    if isinstance(operator, (tuple, list)) and len(operator) == 2 and v is None:
        v, operator = operator
    if isinstance(operator, Vector):
        if not isinstance(v, (Vector, str)):
            raise InputError(f"v: the vector that {operator.name!r} is made from is needed, not {shown(v)}")
        p = operator.program
        try:
            first = p[v] if isinstance(v, str) else v
            p._own(first)
        except TpnumError as problem:
            raise InputError(f"operator and v: {problem}") from None
        name = operator.name
        return Operator(p.copy(), first.name, name)
    if callable(operator) and not isinstance(operator, (type, Handle)):
        if not isinstance(v, (MatrixVar, Vector)):
            raise InputError(
                "v: a matrix or vector of the program is needed, to say which class of vectors v is of"
            )
        p = v.program
        fresh = p.vector(p._auto("v", bare=True), dim=v.cols if isinstance(v, MatrixVar) else v.dim)
        try:
            result = operator(fresh)
        except (ProgramError, InputError):
            raise
        except Exception as problem:
            said = shown(str(problem))
            raise InputError(f"operator: the function fails on a vector: {said}") from problem
        if not isinstance(result, Vector):
            raise InputError(
                f"operator: the function must return a vector of the program, not {shown(result)}"
            )
        name = result.name
        return Operator(p.copy(), fresh.name, name)
    raise InputError(
        f"operator is {shown(operator)}: a vector S v with v, the pair (v, S v), a function of v, or a "
        "net is needed"
    )


def gram_of_jacobian(p: Program) -> Operator:
    """v -> J^T J v of a program, J from its first Gaussian vector to its output, by tangent and backward
    lines.
    """
    if not p.outputs:
        raise InputError("net: it has no output")
    q = p.copy()
    family = next((name for name, var in q.vars.items() if var.axes), None)
    if family is not None:
        raise InputError(f"net: {family!r} has positions; the Jacobian is taken of nets without")
    data = {line.name for line in q.lines if isinstance(line, Data)}
    first = next(
        (made_by(line)[0] for line in q.lines if any(n in data for n in used_by(line)) and made_by(line)),
        None,
    )
    if first is None or q.vars[first].kind != "G":
        raise InputError("net: it has to begin with a layer of weights")
    out = q.outputs[-1][1]
    v = q.vector(q._auto("v", bare=True), dim=q.vars[first].dim)
    end = _forward(q, first, out, v)
    back = q.backward({q[out]: end}, wrt=[first])[first]
    return Operator(q, v.name, back.name)


def _forward(q: Program, first: str, out: str, v: Vector) -> Vector:
    """J v: the lines between two vectors differentiated in the direction v."""
    from tpnum.program.lines import LinComb, MatMul, Nonlin

    moved: dict[str, Vector] = {first: v}
    for line in list(q.lines):
        if out in moved and out != first:
            break
        mine = [n for n in used_by(line) if n in moved]
        if not mine:
            continue
        match line:
            case MatMul():
                moved[line.name] = q.matmul(q[line.matrix], moved[line.vector])
            case LinComb():
                moved[line.name] = q.lincomb(
                    [
                        (q[t.scalar] * t.coef if t.scalar else t.coef, moved[t.vector])
                        for t in line.terms
                        if t.vector in moved
                    ]
                )
            case Nonlin():
                args = [q[a] for a in line.args]
                scalars = [q[s] for s in line.scalars]
                parts = [
                    (1.0, q.apply(line.fn.derivative(i), *args, *scalars) * moved[a])
                    for i, a in enumerate(line.args)
                    if a in moved
                ]
                moved[line.name] = q.lincomb(parts)
    if out not in moved:
        raise InputError("net: its output does not depend on its first layer of weights")
    return moved[out]


# --- coefficients


def _written(operator: Operator, steps: int) -> tuple[Program, list[str], list[str]]:
    """The program of Lanczos's recurrence, and the names of a_0.. and b_1.."""
    source = operator.program
    q = Program()
    for dim, ratio in source.dims.items():
        q.dim(dim, ratio)
    for line in operator.above():
        q.append(line)

    def known(name: str) -> Any:
        return q[name]

    u = q.vector(q._auto("lanczos", bare=True), dim=source.vars[operator.argument].dim)
    before: Any = None
    size: Any = None
    last: Any = None
    a_names, b_names = [], []
    for k in range(steps):
        norm = q.mean(u * u)
        if k:
            last = norm / size
            b_names.append(last.name)
        image = operator.applied(q, u, known)
        a = q.mean(u * image) / norm
        a_names.append(a.name)
        if k + 1 == steps:
            break
        following = image - a * u
        if k:
            following = following - last * before
        before, u, size = u, following, norm
    return q, a_names, b_names


def _coefficients(
    operator: Operator, steps: int, samples: int | None, seed: int, method: str, data: Mapping[str, Any]
) -> Coefficients:
    q, a_names, b_names = _written(operator, steps)
    data = {name: x for name, x in data.items() if name in q.vars}
    exact = None
    if method != "ensemble":
        try:
            Rational(_written(operator, 2)[0].expand(), data=data)
            exact = True
        except NotPolynomial:
            exact = False
        except LimitError:
            exact = True
    options: dict[str, Any] = {"seed": seed, "data": data}
    if not exact:
        options |= {"method": "ensemble", "samples": samples}
    try:
        law = limit(q, **options)
        found = [[law.scalar(name) for name in names] for names in (a_names, b_names)]
    except LimitError as error:
        if not exact or steps <= 1 or "divides by" not in str(error):
            raise
        return _coefficients(operator, steps - 1, samples, seed, method, data)
    return _collected(*found)


def _collected(a: list[Estimate], b: list[Estimate]) -> Coefficients:
    return Coefficients(
        np.array([float(e.value) for e in a]), np.array([float(e.value) for e in b]),
        np.array([float(e.error) for e in a]), np.array([float(e.error) for e in b]),
        tuple(e.exact for e in a), tuple(e.exact for e in b), a[-1].method,
    )  # fmt: skip


# --- the law


def _law(c: Coefficients) -> Spectrum:
    scale = max(float(np.max(np.abs(c.a))), float(np.sqrt(np.max(np.abs(c.b), initial=0.0))), 1e-300)
    small = np.flatnonzero(c.b <= EXACT * scale**2)
    if small.size or c.a.size < 2:  # finitely many points carry all mass
        k = int(small[0]) + 1 if small.size else c.a.size
        return Spectrum(c, _finite(c.a[:k], c.b[: k - 1]), (float(c.a[-1]), 0.0), (0.0, 0.0))
    (a, a_error), (b, b_error) = _extrapolated(c.a, c.a_error), _extrapolated(c.b, c.b_error)
    tail = (a, b)
    edges = np.array([[a - 2.0 * np.sqrt(b), a + 2.0 * np.sqrt(b)]])
    atoms = _outside(c.a, c.b, tail, edges[0], max(a_error, b_error / np.sqrt(b)))
    law = series(lambda x: _continued(c.a, c.b, tail, x), edges, atoms)
    if law is None:
        raise LimitError("the continued fraction is too rough; ask for fewer steps or more samples")
    mass = sum(np.pi * 0.5 * (h - lo) * k[0] for (lo, h), k in zip(law.edges, law.coefs, strict=True))
    left = 1.0 - sum(atom.mass for atom in atoms)
    law = Series(law.edges, [k * (left / mass) for k in law.coefs], atoms)
    return Spectrum(c, law, tail, (a_error, b_error))


def _finite(a: np.ndarray, b: np.ndarray) -> Measure:
    values, vectors = np.linalg.eigh(np.diag(a) + np.diag(np.sqrt(b), 1) + np.diag(np.sqrt(b), -1))
    return Discrete(values, vectors[0] ** 2)


def _extrapolated(values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """The limit of coefficients that converge as 1/k^2, and how uncertain it is."""
    last = values[max(1, int(values.size * (1.0 - FITTED))) :] if values.size > 3 else values[-1:]
    if np.ptp(last) <= EXACT * np.max(np.abs(values)):
        return float(values[-1]), float(errors[-1])
    k = np.arange(values.size - last.size, values.size) + 1.0
    weight = 1.0 / (errors[-last.size :] + 1e-3 * np.ptp(last) + 1e-300)
    fits = []
    for power in (1.0, 2.0):
        design = np.stack([np.ones(k.size), k**-power], axis=1)
        solution, *_ = np.linalg.lstsq(design * weight[:, None], last * weight, rcond=None)
        fits.append(float(solution[0]))
    flat = float(np.average(last, weights=weight**2))
    middle = fits[1]
    spread = max(abs(fits[0] - middle), abs(flat - middle))
    noise = float(np.sqrt(np.mean(errors[-last.size :] ** 2)))
    return middle, spread + noise


def _continued(a: np.ndarray, b: np.ndarray, tail: Any, x: np.ndarray) -> np.ndarray:
    """The density of the continued fraction."""
    middle, square = tail
    z = x + 0j
    root = np.sqrt(z - middle - 2.0 * np.sqrt(square)) * np.sqrt(z - middle + 2.0 * np.sqrt(square))
    g = 2.0 / (z - middle + root)
    with np.errstate(divide="ignore", invalid="ignore"):
        for k in range(a.size - 1, -1, -1):
            g = 1.0 / (z - a[k] - (b[k] if k < b.size else square) * g)
    return np.maximum(np.nan_to_num(-g.imag / np.pi), 0.0)


def _outside(
    a: np.ndarray, b: np.ndarray, tail: tuple[float, float], edges: np.ndarray, error: float
) -> tuple[Atom, ...]:
    """Points of mass beyond the edges: eigenvalues of the long Jacobi matrix whose vectors do not spread."""
    long = 400
    full_a = np.concatenate([a, np.full(long, tail[0])])
    full_b = np.concatenate([b, np.full(long, tail[1])])
    from scipy.linalg import eigh_tridiagonal

    values, vectors = eigh_tridiagonal(full_a, np.sqrt(full_b[: full_a.size - 1]))
    width = edges[1] - edges[0]
    slack = 1e-4 * width + error
    found = []
    for value, mass in zip(values, vectors[0] ** 2, strict=True):
        if (value < edges[0] - slack or value > edges[1] + slack) and mass > 1e-12:
            found.append(Atom(float(value if abs(value) > 1e-12 * width else 0.0), float(mass)))
    return tuple(found)
