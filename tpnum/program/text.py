"""Programs as text: the numbered lines that `print` shows and that every error quotes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tpnum.program.lines import (
    Along,
    Arith,
    Attend,
    Axes,
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

if TYPE_CHECKING:
    from tpnum.functions import Function
    from tpnum.program.builder import Program

PLACE = re.compile(r"\bline (\d+(?:\.\d+)*) \(")
INFIX = {"mul": "*", "add": " + ", "sub": " - ", "div": " / "}


def number(x: object) -> str:
    """Short text of a number or of a (nested) tuple of numbers."""
    if isinstance(x, (tuple, list)):
        return "[" + ", ".join(number(v) for v in x) + "]"
    return f"{x:.6g}" if isinstance(x, float) else str(x)


def function_text(fn: Function) -> str:
    """Name and parameters of a function, e.g. ``abrelu[a=-0.3, b=1.2]``; ``tanh'`` is a derivative."""
    marks = "'" * len(fn.order)
    if fn.arity > 1 or any(fn.order):
        marks += "".join(f"_{i + 1}" for i in fn.order)
    params = ", ".join(f"{k}={number(v)}" for k, v in fn.params)
    return f"{fn.name}{marks}" + (f"[{params}]" if params else "")


def call_text(fn: Function, args: tuple[str, ...], scalars: tuple[str, ...]) -> str:
    """``f(g1, g2; m1)``; products and sums in the usual notation."""
    if fn.name in INFIX and not fn.order and len(args) + len(scalars) == 2:
        return INFIX[fn.name].join(args + scalars)
    if fn.name == "polynomial" and not fn.order and not args:
        ((_, coef),) = fn.params
        powers = ["", *(f"{scalars[0]}^{k}" if k > 1 else scalars[0] for k in range(1, len(coef)))]
        return " + ".join(
            "*".join(filter(None, ["" if c == 1 and x else number(c), x]))
            for c, x in zip(coef, powers, strict=True)
            if c
        )
    inside = ", ".join(args) + ("; " if args and scalars else "") + ", ".join(scalars)
    return f"{function_text(fn)}({inside})"


def _axes(axes: Axes, sizes: bool = False) -> str:
    if not axes:
        return ""
    return "[" + ",".join(f"{a}:{n}" if sizes else str(a) for a, n in axes) + "]"


def _terms(line: LinComb) -> str:
    out = ""
    for k, t in enumerate(line.terms):
        sign = "-" if t.coef < 0 else "+"
        factors = [] if abs(t.coef) == 1 else [number(abs(float(t.coef)))]
        body = "*".join([*factors, *([t.scalar] if t.scalar else []), t.vector])
        out += (("-" if t.coef < 0 else "") if k == 0 else f" {sign} ") + body
    return out or "0"


def _map(line: Map) -> str:
    rows, axis = line.rows, line.axis
    if not line.out and len(rows) == 1:
        pairs = rows[0]
        weights = {w for _, w in pairs}
        if len(pairs) == 1 and weights == {1.0}:
            return f"{line.operand}[{axis}={pairs[0][0]}]"
        if len(pairs) > 1 and len(weights) == 1:
            (w,) = weights
            return f"{'' if w == 1 else number(float(w)) + '*'}sum over {axis} of {line.operand}" + (
                "" if [i for i, _ in pairs] == list(range(len(pairs))) else f" at {[i for i, _ in pairs]}"
            )
    shown = [
        " + ".join(f"{axis}{i}" if w == 1 else f"{number(float(w))}*{axis}{i}" for i, w in r) or "0"
        for r in (rows if len(rows) <= 8 else (*rows[:4], *rows[-2:]))
    ]
    if len(rows) > 8:
        shown.insert(4, "...")
    return f"{line.operand} mapped {axis} -> {_axes(line.out, sizes=True) or '[]'}: ({', '.join(shown)})"


def body_text(line: Line, axes: Mapping[str, Axes] | None = None) -> str:
    """One line without its number and kind; ``axes`` gives the index axes of the names it makes."""

    def left(name: str) -> str:
        return name + _axes((axes or {}).get(name, ()))

    match line:
        case Input():
            names = ", ".join(n + _axes(line.axes, sizes=True) for n in line.names)
            one = len(line.names) == 1
            mean = number(line.mean[0]) if one and line.mean else number(line.mean)
            cov = number(line.cov[0][0]) if one and line.cov and line.cov[0] else number(line.cov)
            marks = ["fresh"] * line.fresh + [f"tangent {number(line.tangent)}"] * bool(line.tangent)
            return f"{names} ~ N({mean}, {cov}) in {line.dim}" + "".join(f", {m}" for m in marks)
        case Data():
            return f"{line.name}{_axes(line.axes, sizes=True)} = data with {line.channels} channels"
        case Known():
            return f"{line.name}{_axes(line.axes, sizes=True)} = known numbers of the example"
        case Matrix():
            name = line.name + _axes(line.axes, sizes=True)
            tangent = "" if line.tangent == 0 else f", tangent {number(line.tangent)}"
            return f"{name} ~ N(0, {number(line.var)}/{line.cols}), {line.rows} x {line.cols}{tangent}"
        case Transpose():
            return f"{left(line.name)} = transpose of {line.matrix}"
        case MatMul():
            return f"{left(line.name)} = {line.matrix} @ {line.vector}"
        case LinComb():
            return f"{left(line.name)} = {_terms(line)}"
        case Nonlin():
            return f"{left(line.name)} = {call_text(line.fn, line.args, line.scalars)}"
        case Delay():
            return f"{left(line.name)} = {line.family} one step before along {line.axis}, zero at first"
        case Map():
            return f"{left(line.name)} = {_map(line)}"
        case Moment():
            identity = line.fn.name == "identity" and not line.fn.order
            inside = call_text(line.fn, line.args, line.scalars)
            return f"{left(line.name)} = mean({', '.join(line.args) if identity else inside})"
        case Arith():
            return f"{left(line.name)} = {call_text(line.fn, (), line.scalars)}"
        case Along():
            eps = f", eps {number(line.eps)}" if line.eps else ""
            args, over = ", ".join(line.args), ", ".join(line.over)
            return f"{left(line.name)} = {line.kind} over {over} of {args}{eps}"
        case Softmax():
            weights = f", weights {line.weights}" if line.weights else ""
            return f"{left(line.name)} = softmax over {', '.join(line.over)} of {line.scalar}{weights}"
        case Attend():
            weights = f", weights {line.weights}" if line.weights else ""
            along = f" in direction {line.along}" if line.along else ""
            over = ", ".join(line.over)
            share = f"softmax({line.logits}){along}"
            return f"{left(line.name)} = sum over {over} of {share} * {line.vector}{weights}"
        case _:
            outs = ", ".join(left(outer) for outer, _ in line.outputs)
            parts = [f"{c.name} = {c.init}, then {c.next}" for c in line.carries]
            parts += [f"{inner} = {outer}[{line.axis[0]}]" for inner, outer in line.inputs]
            parts += [f"{outer}[{line.axis[0]}] = {inner}" for outer, inner in line.outputs]
            return f"{outs or '()'} = scan {line.axis[0]}:{line.axis[1]} of " + "; ".join(parts)


def place(label: str | int, name: str, program: Program | None = None) -> str:
    """How messages name the line that makes a variable, behind the layer of a net that wrote it."""
    layer = program.layer_of(name) if program is not None else ""
    return f"{layer}, line {label} ({name})" if layer else f"line {label} ({name})"


def quoted_places(message: str, program: Program) -> str:
    """A message and under it, as `print` shows it, the first line of ``program`` that it names."""
    found = PLACE.search(message)
    lines = dict(numbered(program.lines)) if found else {}
    if not found or found[1] not in lines or "\n" in message:
        return message
    return f"{message}\n{line_text(lines[found[1]], found[1], program.vars)}"


def made_by(line: Line) -> tuple[str, ...]:
    """Names that a line adds to the program around it."""
    match line:
        case Input():
            return line.names
        case Scan():
            return tuple(outer for outer, _ in line.outputs)
    return (line.name,)


def used_by(line: Line) -> tuple[str, ...]:
    """Names of earlier variables that a line (no scan) is made from."""
    match line:
        case MatMul():
            return (line.matrix, line.vector)
        case LinComb():
            return tuple(n for t in line.terms for n in (t.vector, t.scalar) if n)
        case Nonlin() | Moment():
            return line.args + line.scalars
        case Arith():
            return line.scalars
        case Along():
            return line.args
        case Softmax():
            return (line.scalar, line.weights) if line.weights else (line.scalar,)
        case Attend():
            return tuple(n for n in (line.logits, line.vector, line.weights, line.along) if n)
        case Map():
            return (line.operand,)
        case Delay():
            return (line.family,)
        case Transpose():
            return (line.matrix,)
    return ()


def line_text(line: Line, label: str, variables: Mapping[str, Var] | None = None, width: int = 2) -> str:
    """One line as `print` shows it: number, kind, text."""
    known = [variables[n] for n in made_by(line) if variables and n in variables]
    kind = "".join(dict.fromkeys(v.kind for v in known)) or ("" if isinstance(line, Scan) else "?")
    return f"{label:>{width}}  {kind:<1}  {body_text(line, {v.name: v.axes for v in known})}"


def numbered(lines: Iterable[Line], prefix: str = "") -> Iterable[tuple[str, Line]]:
    """(label, line) of all lines; the lines of a scan's body are 7.1, 7.2, ..."""
    for k, line in enumerate(lines, start=1):
        label = f"{prefix}{k}"
        yield label, line
        if isinstance(line, Scan):
            yield from numbered(line.body, label + ".")


def program_text(program: Program) -> str:
    """The whole program: the CDC ratios that are not 1, the numbered lines, the outputs."""
    items = list(numbered(program.lines))
    width = max((len(label) for label, _ in items), default=1) + 1
    out = []
    if any(r != 1 for r in program.dims.values()):
        out.append("CDC " + ", ".join(f"{d} = {number(float(r))}" for d, r in program.dims.items()))
    for label, line in items:
        out.append(line_text(line, label, program.vars, width))
    if program.outputs:
        named = (name + ("" if w == 1 else f" (weight {number(float(w))})") for w, name in program.outputs)
        out.append(f"outputs: {', '.join(named)}")
    return "\n".join(out)
