"""What each line may be: one rule per instruction gives the variables that it makes, or says what is wrong.

An error is one sentence followed by the offending line as `print` shows it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tpnum.arguments import shown
from tpnum.errors import ProgramError
from tpnum.program.along import ALONG
from tpnum.program.lines import (
    Along,
    Arith,
    Attend,
    Data,
    Delay,
    Input,
    Known,
    LinComb,
    Line,
    Map,
    MatMul,
    Matrix,
    Moment,
    Nonlin,
    Scan,
    Softmax,
    Transpose,
    Var,
)
from tpnum.program.maps import Rows
from tpnum.program.pieces import (
    KIND,
    distinct_axes,
    finite,
    fitting,
    merged_axes,
    new_dim,
    new_name,
    no_channels,
    not_negative,
    same_dim,
    scalars_of,
    vectors,
)
from tpnum.program.scope import Fault, Scope
from tpnum.program.text import line_text, made_by

if TYPE_CHECKING:
    pass


def infer(line: Line, scope: Scope, label: str | None = None) -> list[Var]:
    """The variables that ``line`` makes in ``scope``, or a `ProgramError` that quotes it."""
    rule = RULES.get(type(line))
    label = scope.label() if label is None else label
    if rule is None:
        raise ProgramError(
            f"{shown(line)} is not a line of a program: use the records of tpnum.program.lines"
        )
    try:
        for name in made_by(line):
            new_name(name, scope)
        return list(rule(line, scope))
    except Fault as fault:
        raise quoted(str(fault), line, label, scope.vars) from None


def quoted(sentence: str, line: Line, label: str, variables: Mapping[str, Var] | None = None) -> ProgramError:
    """The error that says ``sentence`` about a numbered line."""
    try:
        text = line_text(line, label, variables)
    except (AttributeError, TypeError, ValueError):  # fields of the wrong types have no other text
        text = f"{label:>2}  ?  {line!r}"
    return ProgramError(f"{sentence}\n{text}")


def check(
    lines: Iterable[Line], dims: Mapping[str, float] | None = None, outputs: Iterable[tuple[float, str]] = ()
) -> Scope:
    """Check a whole program from its lines alone; the names that it makes."""
    scope = Scope()
    for line in lines:
        scope.add(line, infer(line, scope))
    for dim, ratio in (dims or {}).items():
        check_ratio(dim, ratio)
    for weight, name in outputs:
        check_output(weight, name, scope)
    return scope


def check_output(weight: float, name: str, scope: Scope) -> None:
    """An output is a vector that the program makes, with a finite weight."""
    var = scope.find(name)
    if var is None:
        raise ProgramError(f"output {name!r} is not made by any line of the program")
    if var.kind not in "GH":
        raise ProgramError(f"output {name!r} is {KIND[var.kind]}: an output is a G-var or an H-var")
    if not (isinstance(weight, (int, float)) and math.isfinite(weight) and weight >= 0):
        raise ProgramError(f"output {name!r} has weight {weight!r}: a weight is finite and not negative")


def check_ratio(dim: str, ratio: float) -> None:
    if not isinstance(dim, str) or not dim:
        raise ProgramError(f"the name {dim!r} of a CDC is not a text: use one such as 'n'")
    if not (isinstance(ratio, (int, float)) and math.isfinite(ratio) and ratio > 0):
        raise ProgramError(f"CDC {dim!r} has ratio {ratio!r}: a ratio of widths is finite and positive")


# --- one rule per instruction -------------------------------------------------------------------------------


def _input(line: Input, scope: Scope) -> list[Var]:
    k = len(line.names)
    new_dim(line.dim)
    if not line.dim or not k:
        raise Fault("an input needs names and a CDC")
    no_channels(line.dim, scope)
    if len(set(line.names)) < k:
        raise Fault("an input names a variable twice")
    if len(line.mean) != k or len(line.cov) != k or any(len(row) != k for row in line.cov):
        raise Fault(f"{k} inputs need {k} means and a {k} x {k} covariance")
    for m in line.mean:
        finite(m, "a mean")
    for row in line.cov:
        for c in row:
            finite(c, "a covariance")
    for i in range(k):
        not_negative(line.cov[i][i], f"the variance of {line.names[i]!r}")
    cov = np.asarray(line.cov, dtype=float)
    scale = float(np.max(np.abs(cov), initial=0.0))
    if not np.allclose(cov, cov.T, rtol=0, atol=1e-12 * scale):
        raise Fault("the covariance of the inputs is not symmetric")
    least = float(np.linalg.eigvalsh(cov)[0])
    if least < -1e-10 * scale:
        raise Fault(
            f"the covariance of the inputs is not positive semidefinite: it has the eigenvalue {least:.6g}"
        )
    not_negative(line.tangent, "the tangent scale")
    if isinstance(scope.parent, Scope) and not line.fresh:
        raise Fault("inside a scan only a fresh input may be made: make a shared one before the scan")
    return [Var(n, "G", line.dim, distinct_axes(line.axes)) for n in line.names]


def _data(line: Data, scope: Scope) -> list[Var]:
    if scope.parent is not None:
        raise Fault("data belongs before the scan: inside, use loop.slice")
    new_dim(line.channels)
    if not line.channels:
        raise Fault("data needs a name for its channels")
    if any(v.kind in "GH" and v.dim == line.channels for v in scope.vars.values()):
        raise Fault(f"{line.channels!r} is the CDC of vectors: the channels of data need a name of their own")
    return [Var(line.name, "D", line.channels, distinct_axes(line.axes))]


def _known(line: Known, scope: Scope) -> list[Var]:
    if scope.parent is not None:
        raise Fault("known scalars belong before the scan: inside, use loop.slice")
    return [Var(line.name, "S", "", distinct_axes(line.axes))]


def _matrix(line: Matrix, scope: Scope) -> list[Var]:
    if scope.parent is not None:
        raise Fault("a matrix belongs before the scan, so that every step shares it")
    new_dim(line.rows)
    new_dim(line.cols)
    if not line.rows or not line.cols:
        raise Fault("a matrix needs the CDCs of its rows and of its columns")
    not_negative(line.var, f"the variance of {line.name!r}")
    not_negative(line.tangent, f"the tangent variance of {line.name!r}")
    return [Var(line.name, "A", line.rows, distinct_axes(line.axes), line.cols)]


def _transpose(line: Transpose, scope: Scope) -> list[Var]:
    if scope.parent is not None:
        raise Fault("a transpose belongs before the scan")
    a = scope.get(line.matrix)
    if a.kind != "A":
        raise Fault(
            f"only a matrix has a transpose, and {a.name!r} is {KIND[a.kind]}: "
            f"for a product of vectors use tp.mean(x * y)"
        )
    if any(isinstance(other, Transpose) and other.name == a.name for other in scope.lines):
        raise Fault(f"{a.name!r} is a transpose already: use the matrix that it came from")
    return [Var(line.name, "A", a.cols, a.axes, a.dim)]


def _matmul(line: MatMul, scope: Scope) -> list[Var]:
    a, h = scope.get(line.matrix), scope.get(line.vector)
    if a.kind != "A":
        raise Fault(f"{a.name!r} is {KIND[a.kind]}, not a matrix")
    if h.kind not in "GHD":
        raise Fault(f"a matrix multiplies vectors, and {h.name!r} is {KIND[h.kind]}")
    if a.cols != h.dim:
        raise Fault(f"CDCs do not match: {a.name!r} is {a.dim} x {a.cols}, but {h.name!r} is in {h.dim!r}")
    for axis in a.axes:
        if axis[0] not in dict(h.axes):
            raise Fault(f"the matrix {a.name!r} has the axis {axis[0]!r}, which the vector {h.name!r} lacks")
    merged_axes((a, h))
    no_channels(a.dim, scope)
    return [Var(line.name, "G", a.dim, h.axes)]


def _lincomb(line: LinComb, scope: Scope) -> list[Var]:
    if not line.terms:
        raise Fault("a sum needs a term: use p.zeros(dim) for the zero vector")
    operands, kinds = [], set()
    for t in line.terms:
        finite(t.coef, f"the coefficient of {t.vector!r}")
        v = scope.get(t.vector)
        if v.kind not in "GHD":
            raise Fault(f"a sum of vectors cannot contain {v.name!r}, which is {KIND[v.kind]}")
        kinds.add(v.kind)
        operands += [v, *scalars_of((t.scalar,) if t.scalar else (), scope)]
    if "D" in kinds and kinds != {"D"}:
        raise Fault("a sum mixes data with vectors: multiply the data by a matrix first")
    same_dim([v for v in operands if v.kind != "S"])
    kind = "D" if "D" in kinds else "H" if "H" in kinds else "G"
    return [Var(line.name, kind, operands[0].dim, merged_axes(operands))]


def _nonlin(line: Nonlin, scope: Scope) -> list[Var]:
    if not line.args:
        raise Fault("a nonlinearity needs at least one vector")
    args = vectors(line.args, scope, "a nonlinearity")
    scalars = scalars_of(line.scalars, scope)
    fitting(line.fn, line.args, line.scalars)
    return [Var(line.name, "H", args[0].dim, merged_axes([*args, *scalars]))]


def _moment(line: Moment, scope: Scope) -> list[Var]:
    if not line.args:
        raise Fault("a moment needs at least one vector")
    args = vectors(line.args, scope, "a moment")
    scalars = scalars_of(line.scalars, scope)
    fitting(line.fn, line.args, line.scalars)
    return [Var(line.name, "S", "", merged_axes([*args, *scalars]))]


def _arith(line: Arith, scope: Scope) -> list[Var]:
    scalars = scalars_of(line.scalars, scope)
    if not scalars or len(scalars) != line.fn.arity + line.fn.n_scalars:
        raise Fault(
            f"wrong number of arguments: {line.fn.name} takes {line.fn.arity + line.fn.n_scalars} scalar(s), "
            f"not {len(scalars)}"
        )
    return [Var(line.name, "S", "", merged_axes(scalars))]


def _softmax(line: Softmax, scope: Scope) -> list[Var]:
    scalars = scalars_of((line.scalar, *([line.weights] if line.weights else [])), scope)
    axes = merged_axes(scalars)
    own = [axis for axis, _ in scalars[0].axes]
    for axis in line.over:
        if axis not in own:
            raise Fault(f"{line.scalar!r} has no axis {axis!r}; its axes are {own}")
    if not line.over or len(set(line.over)) < len(line.over):
        raise Fault("a softmax is over at least one axis, and none twice")
    return [Var(line.name, "S", "", axes)]


def _attend(line: Attend, scope: Scope) -> list[Var]:
    args = vectors(tuple(n for n in (line.logits, line.vector, line.along) if n), scope, "attention")
    scalars = scalars_of((line.weights,) if line.weights else (), scope)
    for axis in line.over:
        lacking = next((v for v in args if axis not in dict(v.axes)), None)
        if lacking is not None:
            own = [name for name, _ in lacking.axes]
            raise Fault(f"{lacking.name!r} has no axis {axis!r}; its axes are {own}")
    if not line.over or len(set(line.over)) < len(line.over):
        raise Fault("a softmax is over at least one axis, and none twice")
    axes = tuple(axis for axis in merged_axes([*args, *scalars]) if axis[0] not in line.over)
    return [Var(line.name, "H", args[0].dim, axes)]


def _along(line: Along, scope: Scope) -> list[Var]:
    rule = ALONG.get(line.kind)
    if rule is None:
        raise Fault(f"{line.kind!r} is no function along axes: use one of {', '.join(ALONG)}")
    if len(line.args) != rule.arity:
        raise Fault(
            f"wrong number of arguments: {line.kind} takes {rule.arity} vector(s), not {len(line.args)}"
        )
    args = vectors(line.args, scope, "a function along axes")
    not_negative(line.eps, "eps")
    own = dict(args[0].axes)
    for axis in line.over:
        if axis not in own:
            raise Fault(f"{line.args[0]!r} has no axis {axis!r}; its axes are {list(own)}")
    if not line.over or len(set(line.over)) < len(line.over):
        raise Fault("a function along axes is over at least one, and none twice")
    if line.kind.startswith("normalise") and math.prod(own[axis] for axis in line.over) < 2:
        raise Fault("a single entry has no variance to be normalised by: it takes two or more")
    axes = tuple(axis for axis in merged_axes(args) if rule.keeps or axis[0] not in line.over)
    return [Var(line.name, "H", args[0].dim, axes)]


def _map(line: Map, scope: Scope) -> list[Var]:
    v = scope.get(line.operand)
    if v.kind == "A":
        raise Fault(f"{v.name!r} is a matrix: only vectors and scalars are mapped along an axis")
    sizes = dict(v.axes)
    if line.axis not in sizes:
        raise Fault(f"{v.name!r} has no axis {line.axis!r}; its axes are {[a for a, _ in v.axes]}")
    out: list[tuple[str, int]] = []
    for axis, n in v.axes:
        out += distinct_axes(line.out) if axis == line.axis else [(axis, n)]
    rows = math.prod(n for _, n in line.out)
    if line.index.count != rows:
        raise Fault(f"a map to {rows} indices needs {rows} rows, not {line.index.count}")
    if line.index.reads not in (None, sizes[line.axis]):
        raise Fault(
            f"the map reads an axis of size {line.index.reads}, but {line.axis!r} has size {sizes[line.axis]}"
        )
    for row in line.index.given if isinstance(line.index, Rows) else ():  # what the others make is right
        for i, w in row:
            finite(w, "a weight of the map")
            if not isinstance(i, int) or not 0 <= i < sizes[line.axis]:
                raise Fault(f"index {i!r} lies outside the axis {line.axis!r} of size {sizes[line.axis]}")
    return [Var(line.name, v.kind, v.dim, distinct_axes(tuple(out)))]


def _scan(line: Scan, scope: Scope) -> list[Var]:
    axis, size = distinct_axes((line.axis,))[0]
    body = Scope(scope, axis)
    for inner, outer in line.inputs:
        v = scope.get(outer)
        if dict(v.axes).get(axis) != size:
            raise Fault(f"{outer!r} cannot be sliced along {axis!r}:{size}; its axes are {v.axes}")
        new_name(inner, body)
        body.vars[inner] = Var(inner, v.kind, v.dim, tuple(a for a in v.axes if a[0] != axis))
    for carry in line.carries:
        v = scope.get(carry.init)
        if v.kind not in "GH":
            raise Fault(f"the carried state {carry.name!r} starts at {carry.init!r}, which is {KIND[v.kind]}")
        new_name(carry.name, body)
        # the kind of its later values is not known yet, and H is right for all of them
        body.vars[carry.name] = Var(carry.name, "H", v.dim, v.axes)
    for inner_line in line.body:
        body.add(inner_line, infer_inside(inner_line, body))
    for carry in line.carries:
        state, after = body.vars[carry.name], body.get(carry.next)
        if after.kind not in "GH" or (after.dim, after.axes) != (state.dim, state.axes):
            raise Fault(
                f"the carried state {carry.name!r} (CDC {state.dim!r}, axes {state.axes}) cannot "
                f"be followed by {after.name!r} (CDC {after.dim!r}, axes {after.axes})"
            )
    made = [*body.vars.values(), *body.hidden.values()]
    for outer, inner in line.outputs:
        v = body.get(inner)
        if v.kind == "A":
            raise Fault(f"{inner!r} is a matrix and cannot be stacked")
        if axis in dict(v.axes):
            raise Fault(f"{inner!r} has the axis {axis!r} already")
        made.append(Var(outer, v.kind, v.dim, ((axis, size), *v.axes)))
    return made


def infer_inside(line: Line, body: Scope) -> list[Var]:
    """`infer` for a line in the body of a scan, whose axis it must not have."""
    made = infer(line, body)
    for v in made:
        if body.axis in dict(v.axes):
            sentence = f"{v.name!r} has the axis {body.axis!r} of the scan around it: use loop.slice"
            raise quoted(sentence, line, body.label(), body.vars)
    return made


def _delay(line: Delay, scope: Scope) -> list[Var]:
    if line.axis not in dict(distinct_axes(line.axes)):
        raise Fault(f"a delay along {line.axis!r} needs this axis")
    return [Var(line.name, "H", line.dim, line.axes)]


RULES: dict[type, Any] = {
    Input: _input,
    Data: _data,
    Known: _known,
    Matrix: _matrix,
    Transpose: _transpose,
    MatMul: _matmul,
    LinComb: _lincomb,
    Nonlin: _nonlin,
    Moment: _moment,
    Arith: _arith,
    Softmax: _softmax,
    Attend: _attend,
    Along: _along,
    Map: _map,
    Scan: _scan,
    Delay: _delay,
}
