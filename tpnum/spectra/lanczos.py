"""`tpnum.spectrum`: the spectral law of any symmetric map that a program writes, by Lanczos in the limit.

    u_0 ~ N(0, I),    u_{k+1} = S u_k - a_k u_k - b_k u_{k-1},
    a_k = E u_k S u_k / E u_k^2,    b_k = E u_k^2 / E u_{k-1}^2

are lines of a program, whose limits are the Jacobi coefficients of the law: exact fractions where every
function is a polynomial, from one ensemble otherwise.  The law is the continued fraction that they begin,
ended by constant ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import choice, shown, whole
from tpnum.errors import InputError, LimitError, ProgramError, TpnumError
from tpnum.evaluate.joint import LEAST
from tpnum.evaluate.joint import MOST as LARGEST
from tpnum.law.rational import NotPolynomial, Rational
from tpnum.limits.limit import METHODS, limit
from tpnum.nn.base import Layer
from tpnum.program import Program, Vector
from tpnum.program.handle import Handle
from tpnum.program.lines import Data, Input, Nonlin
from tpnum.program.sample import arrays_of
from tpnum.program.text import made_by, place, used_by
from tpnum.program.values import MatrixVar
from tpnum.spectra.jacobi import Coefficients, Spectrum, law_of
from tpnum.spectra.operator import Operator
from tpnum.spectra.slopes import unbounded

if TYPE_CHECKING:
    from tpnum.gauss.estimate import Estimate

STEPS, MOST = 20, 400
SAMPLES = 1 << 19
"""By default: what a replicate's own coefficients are off by grows with their number."""


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
    operator, v
        S v, a vector of a program, with ``v`` the vector that it is made from; or the pair (v, S v); or a
        function that takes v and returns S v, with ``v`` a matrix or vector of the program that says which
        class v is of; or a net of layers with ``shape`` and ``data``: then S = J^T J, J the Jacobian from
        the first layer of weights to the last features.
    steps
        Coefficients of Lanczos's recurrence, of which 2 steps - 1 moments are exact.
    samples, seed, method, data, shape
        Of `tpnum.limit`, where the program is no polynomial; 2^19 samples by default.

    Raises
    ------
    ProgramError
        A map that is not linear or not symmetric, as read from the program's text; the line is quoted.
    LimitError
        A spectrum that is not compact: a diagonal matrix of a vector that is not bounded; the line is quoted.
    """
    count = whole(steps, "steps", 2, MOST)
    choice(method, "method", METHODS)
    given = SAMPLES if samples is None else whole(samples, "samples", LEAST, LARGEST)
    data = arrays_of(data, "data")
    made = read_operator(operator, v, shape)
    unknown = sorted(set(data) - set(made.program.vars))
    if unknown:
        raise InputError(f"data: the program has no data line {unknown[0]!r}")
    for name, x in data.items():
        if x.ndim != 1 or not x.size:
            raise InputError(f"data[{name!r}] has shape {x.shape}; one example is (channels,)")
    _require_compact(made)
    found = _coefficients(made, count, given, whole(seed, "seed", 0), method, data)
    return law_of(found)


def read_operator(operator: Any, v: Any, shape: Any) -> Operator:
    """The map that a user gave as a vector, a pair, a function or a net."""
    if isinstance(operator, Layer):
        from tpnum.nn import program

        if shape is None:
            raise InputError(
                "operator is a net: shape=, the (.., channels) of one example, is needed with it"
            )
        sizes = [int(shape)] if isinstance(shape, (int, np.integer)) else shape
        return gram_of_jacobian(program(operator, sizes))
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
    from tpnum.program.lines import LinComb, MatMul

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


def _require_compact(operator: Operator) -> None:
    """Refuse a diagonal matrix of a vector that is not bounded: no edges exist."""
    words = operator.words() or {}
    diagonals = {letter[1] for letters, _ in words for letter in letters if letter[0] == "diag"}
    for number, line in enumerate(operator.program.lines, 1):
        for name in made_by(line):
            if name not in operator.program.vars or operator.name_of(name) not in diagonals:
                continue
            kind = operator.program.vars[name].kind
            wide = (
                isinstance(line, Nonlin) and len(line.args) == 1 and not line.scalars and unbounded(line.fn)
            )
            if wide or (kind == "G" and not _constant(line)):
                raise LimitError(
                    f"operator: {place(number, name)} is not bounded, so that the spectrum of what its "
                    "diagonal matrix enters is not compact: it has no edges; its moments come from tp.limit"
                )


def _constant(line: Any) -> bool:
    return isinstance(line, Input) and not any(line.cov[k][k] for k in range(len(line.names)))


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
    operator: Operator, steps: int, samples: int, seed: int, method: str, data: Mapping[str, Any]
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
