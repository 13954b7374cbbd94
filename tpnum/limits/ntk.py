"""`tpnum.ntk`: the neural tangent kernel of any program, by either of two roads."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import choice
from tpnum.errors import InputError
from tpnum.gauss.estimate import Estimate
from tpnum.limits.law import Law
from tpnum.limits.limit import limit
from tpnum.limits.reading import assembled
from tpnum.program.calls import as_program
from tpnum.program.expand import maps_below_functions
from tpnum.program.lines import Input, Matrix
from tpnum.program.parts import members
from tpnum.program.refer import refer
from tpnum.program.tangent import refuse_constants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tpnum.program import Program, Vector
    from tpnum.program.backward import Gradients

ROADS = ("tangent", "backward")


def ntk(
    p: Program,
    g: Vector | str,
    h: Vector | str | None = None,
    *,
    road: str = "tangent",
    shape: Any = None,
    **options: Any,
) -> Estimate:
    """Theta(g, h), the NTK of the readouts v.g/sqrt(n) and v.h/sqrt(n), v ~ N(0, I), shape (*axes, *axes).

    Parameters
    ----------
    p
        A program, or a net of layers with ``shape``, the (.., channels) of one example.
    g, h
        Vectors of one CDC; ``h`` is ``g`` by default.
    road
        "tangent": the law of the tangent program, E over a random direction of the parameters; a program
        without new transposes.  "backward": the sum over parameters of forward times backward covariances,

            sum over W of s^2 E[gbar gbar'] E[h h']  +  sum over b of E[bbar bbar'] Cov(b),

        from the gradient program of `Program.backward`.  The two agree; they share no rule.
    options
        Of `tpnum.limit` (``data``, ``method``, ``rtol``, ``seed``, ...).

    Raises
    ------
    ProgramError
        A function without a derivative; the line is quoted.
    InputError
        A road that does not exist, vectors of different CDCs.
    """
    p = as_program(p, shape)
    first, second = (p[refer(p, v, kinds="GH")] for v in (g, g if h is None else h))
    choice(road, "road", ROADS)
    if first.dim != second.dim:
        raise InputError(
            f"{first.name!r} is in {first.dim!r} and {second.name!r} in {second.dim!r}: no common readout"
        )
    if road == "tangent":
        return _by_tangents(p, first.name, second.name, options)
    return _by_gradients(p, first.name, second.name, options)


def _by_tangents(p: Program, g: str, h: str, options: dict[str, Any]) -> Estimate:
    q = p.tangent()
    if q.parts or maps_below_functions(q):  # read line by line
        q = q.expand()
    law = limit(q, **options)
    first, second = (members(q, name) for name in (g, h))
    pairs = np.empty((*first.shape, *second.shape), dtype=object)
    for (i, a), (j, b) in itertools.product(np.ndenumerate(first), np.ndenumerate(second)):
        pairs[(*i, *j)] = (a, b)

    def moment(pair: tuple[str, str]) -> Estimate:
        if all(name in q.tangents for name in pair):
            return law.moment(*(q.tangents[name] for name in pair))
        sizes = tuple(size for name in pair for _, size in q[name].axes)  # no parameter reaches one of them
        return Estimate(np.zeros(sizes)[()], 0.0, "structural zero", 0)

    return assembled(pairs, moment)


def _by_gradients(p: Program, g: str, h: str, options: dict[str, Any]) -> Estimate:
    q = p.expand().copy()
    for line in q.lines:
        if isinstance(line, Input):
            refuse_constants(line)
    seed = q.vector(q._auto("readout", bare=True), dim=p[g].dim)
    sides = [members(q, name) for name in (g, h)]
    grads = {name: q.backward({q[name]: seed}) for name in dict.fromkeys([*sides[0].flat, *sides[1].flat])}
    law = limit(q, **options)
    ratio = q.dims[p[g].dim]
    value = np.zeros((*sides[0].shape, *sides[1].shape))
    error = np.zeros(value.shape)
    for i, a in np.ndenumerate(sides[0]):
        for j, b in np.ndenumerate(sides[1]):
            parts = list(_parts(q, law, grads[a], grads[b]))
            value[(*i, *j)] = sum(v for v, _ in parts) / ratio
            error[(*i, *j)] = sum(e for _, e in parts) / ratio
    return Estimate(value[()], error[()], f"gradients, {law.method}", value.size)


def _parts(q: Program, law: Law, a: Gradients, b: Gradients) -> Iterator[tuple[float, float]]:
    """Every parameter's share of the kernel, with its error."""

    def product(coef: float, *pairs: tuple[str, str]) -> tuple[float, float]:
        value, error = coef, 0.0
        for x, y in pairs:
            moment = law.moment(x, y)
            error = error * abs(float(moment.value)) + abs(value) * float(moment.error)
            value *= float(moment.value)
        return value, error

    for line in q.lines:
        if isinstance(line, Matrix) and line.tangent > 0 and line.name in a and line.name in b:
            weight = line.tangent * q.dims[line.rows]
            for left, right in a[line.name].pairs:
                for left2, right2 in b[line.name].pairs:
                    yield product(weight, (left.name, left2.name), (right.name, right2.name))
        if isinstance(line, Input) and line.tangent > 0:
            for row, x in zip(line.cov, line.names, strict=True):
                for c, y in zip(row, line.names, strict=True):
                    if c and x in a and y in b:
                        yield product(line.tangent * c * q.dims[line.dim], (a[x].name, b[y].name))
