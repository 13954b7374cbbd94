"""Programs as JSON, and a hash of their content that is the same in every process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from tpnum import functions
from tpnum.errors import ProgramError
from tpnum.program.lines import (
    Along,
    Arith,
    Attend,
    Carry,
    Data,
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
    Term,
    Transpose,
)
from tpnum.program.maps import IndexMap, Mean, Rows, Shift, Sum, Take
from tpnum.program.parts import Parts
from tpnum.program.windows import Pool, Transposed, Window

if TYPE_CHECKING:
    from tpnum.program.builder import Program

FORMAT, VERSION = "tpnum.program", 2
READ = (1, VERSION)
"""Versions that are read: the first knew maps by their rows alone."""
_CLASSES = (
    Input, Data, Known, Matrix, Transpose, MatMul, LinComb, Nonlin, Map, Moment, Arith, Softmax, Attend,
    Along, Scan,
)  # fmt: skip
LINES = {c.__name__: c for c in _CLASSES}
MAPS: dict[str, type[IndexMap]] = {c.__name__: c for c in (Shift, Take, Sum, Mean, Window, Pool, Transposed)}
DEEPEST = 60
"""Levels of lists and objects; a scan inside a scan has four, a function inside a function up to six."""
TOO_DEEP = f"this JSON is not a program: it is nested more than {DEEPEST} levels deep"

INNER: dict[str, type] = {"terms": Term, "carries": Carry}


def to_json(program: Program) -> str:
    """The program as JSON text; a function that other processes cannot find by name is refused."""
    return json.dumps(_document(program, lambda fn: fn.spec()), indent=1, allow_nan=False)


def parse(text: str) -> Any:
    """The value of a JSON text, in which no object has a key twice; a byte order mark is nothing."""
    return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is given twice in one object")
    return made


def from_json(text: str, build: Callable[..., Program], modules: Iterable[str] = ()) -> Program:
    """The program of a JSON text, checked line by line; only functions of ``modules`` are imported."""
    allowed = (modules,) if isinstance(modules, str) else tuple(modules)
    try:
        doc = parse(text)
    except (TypeError, AttributeError, ValueError) as error:
        raise ProgramError(f"this is not JSON: {error}") from None
    except RecursionError:
        raise ProgramError(TOO_DEEP) from None
    if _depth_exceeds(doc, DEEPEST):
        raise ProgramError(TOO_DEEP)
    if not isinstance(doc, dict) or doc.get("format") != FORMAT:
        raise ProgramError(f'this JSON is not a program: it lacks "format": "{FORMAT}"')
    if doc.get("version") not in READ:
        known = " and ".join(map(str, READ))
        raise ProgramError(f"the version {doc.get('version')!r} cannot be read: {known} are known")
    try:
        parts = {k: Parts(**{name: _tuples(v) for name, v in d.items()}) for k, d in doc["parts"].items()}
        lines = [_line(d, str(k), allowed) for k, d in enumerate(doc["lines"], 1)]
        outputs = [_output(*entry) for entry in doc["outputs"]]
        return build(lines, doc["dims"], outputs, doc["tangents"], parts)
    except ProgramError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ProgramError(f"this JSON is not a program: {type(error).__name__}: {error}") from None


def _depth_exceeds(value: Any, most: int) -> bool:
    """Whether lists and objects are nested deeper, looked at level by level."""
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def _output(weight: Any, name: Any, *place: Any) -> tuple[Any, ...]:
    """(weight, name), with the family and the index in it where an output was split."""
    if not place:
        return float(weight), str(name)
    family, index = place
    return float(weight), str(name), str(family), tuple(None if i is None else int(i) for i in index)


def digest(program: Program) -> str:
    """SHA-256 of the content.  With a function that only this process knows it holds in this process.

    Of a map its rows count, however they were written: the document is that of the first version.
    """
    document = _document(program, _function_key, version=1)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _function_key(fn: functions.Function) -> Any:
    if fn.portable:
        return fn.spec()
    return {"local": repr(fn), "identity": list(_identities(fn))}


def _identities(fn: functions.Function) -> Iterator[int]:
    """Addresses of a user's callables; those inside a composed function too."""
    if fn.user is not None:
        yield from (id(call) for call in (fn.user.call, *fn.user.slopes) if call is not None)
    stack: list[Any] = [value for _, value in fn.params]
    while stack:
        value = stack.pop()
        if isinstance(value, functions.Function):
            yield from _identities(value)
        elif isinstance(value, tuple):
            stack.extend(value)


def _document(
    program: Program, function: Callable[[functions.Function], Any], version: int = VERSION
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": version,
        "dims": program.dims,
        "lines": [_plain(line, function, version) for line in program.lines],
        "outputs": [
            [weight, name] if place.family == name else [weight, name, *place]
            for (weight, name), place in zip(program.outputs, program.output_places, strict=True)
        ],
        "tangents": program.tangents,
        "parts": {
            k: {"axes": p.axes, "split": p.split, "names": p.names} for k, p in program.parts.items()
        },
    }  # fmt: skip


def _plain(
    line: Line | Term | Carry, function: Callable[[functions.Function], Any], version: int
) -> dict[str, Any]:
    out: dict[str, Any] = {"op": type(line).__name__} if type(line).__name__ in LINES else {}
    for f in fields(line):
        value = getattr(line, f.name)
        if isinstance(value, functions.Function):
            value = function(value)
        elif f.name == "body" or f.name in INNER:
            value = [_plain(v, function, version) for v in value]
        elif isinstance(value, IndexMap):
            out |= {"rows": value.rows} if version == 1 else _record(value)
            continue
        out[f.name] = value
    return out


def _record(index: IndexMap) -> dict[str, Any]:
    """The entry of a map: its rows where it is known by them alone, else what it is."""
    if isinstance(index, Rows):
        return {"rows": index.given}
    return {"index": {"map": type(index).__name__, **{f.name: getattr(index, f.name) for f in fields(index)}}}


def _line(entry: Any, label: str, modules: tuple[str, ...]) -> Line:
    op = entry.get("op") if isinstance(entry, dict) else None
    if op not in LINES:
        raise ProgramError(f"line {label} of the JSON is {op!r}, which is not one of {', '.join(LINES)}")
    cls = LINES[op]
    wanted = {f.name for f in fields(cls)}
    if cls is Map and "index" not in entry:
        wanted = wanted - {"index"} | {"rows"}
    got = set(entry) - {"op"}
    if wanted != got:
        wrong = sorted(wanted ^ got)[0]
        problem = "lacks" if wrong in wanted else "has an unknown entry"
        raise ProgramError(f"line {label} of the JSON ({op}) {problem} {wrong!r}")
    values: dict[str, Any] = {}
    for key, value in entry.items():
        if key == "op":
            continue
        if key == "fn":
            values[key] = functions.from_spec(value, modules)
        elif key == "body":
            values[key] = tuple(_line(v, f"{label}.{k}", modules) for k, v in enumerate(value, 1))
        elif key in INNER:
            values[key] = tuple(INNER[key](**v) for v in value)
        elif cls is Map and key in ("index", "rows"):
            values["index"] = _tuples(value) if key == "rows" else _index(value, label)
        else:
            values[key] = _tuples(value)
    return cls(**values)


def _index(entry: Any, label: str) -> IndexMap:
    """The record of a map."""
    kind = entry.get("map") if isinstance(entry, dict) else None
    if kind not in MAPS:
        known = ", ".join(MAPS)
        raise ProgramError(f"line {label} of the JSON has the map {kind!r}, which is not one of {known}")
    try:
        return MAPS[kind](**{name: _tuples(value) for name, value in entry.items() if name != "map"})
    except ProgramError as problem:
        raise ProgramError(f"line {label} of the JSON ({kind}): {problem}") from None


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
