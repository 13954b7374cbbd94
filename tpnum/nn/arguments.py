"""The types of layer arguments: what each accepts, what it is stored as, and how a refusal reads.

A layer is a frozen dataclass whose fields are annotated with these; `convert` runs them once when
the layer is made, so a list becomes a tuple, an int a float, and a bad value one sentence.
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Annotated, Any, get_args, get_type_hints

from tpnum.arguments import counted, shown
from tpnum.functions import HIGHEST
from tpnum.jets import plain

LARGEST = 1e150
"""A standard deviation whose square is a number."""
WIDEST, MOST = 1 << 53, 1_000_000
"""A width that a float holds, and more layers, branches or degrees than anyone writes."""


@dataclass(frozen=True, slots=True)
class Accepts:
    """``read(value)`` returns the stored form or raises ValueError; ``what`` completes "must be ..."."""

    what: str
    read: Callable[[Any], Any]


def convert(layer: Any) -> str | None:
    """Store every argument of ``layer`` in its normal form; the complaint about a bad one, or None."""
    for name, accepts in _accepted(type(layer)).items():  # type: ignore[arg-type]
        value = getattr(layer, name)
        try:
            object.__setattr__(layer, name, accepts.read(value))
        except Exception:  # whatever a foreign class raises when it is looked at
            return f"{name} is {shown(value)}; it must be {accepts.what}"
    return None


def names_of(cls: Any) -> tuple[list[str], list[str]]:
    """The arguments of a layer class, and those that it needs."""
    found = [f for f in fields(cls) if f.init]
    required = [f.name for f in found if f.default is MISSING and f.default_factory is MISSING]
    return [f.name for f in found], required


def misfit(
    names: list[str], required: list[str], args: Collection[Any], given: Mapping[str, Any]
) -> str | None:
    """The complaint about a call with arguments that are not among ``names``, or lacks some, or None."""
    if len(args) > len(names):
        takes = f"it takes {', '.join(names)}" if names else "it takes none"
        return f"it got {counted(len(args), 'argument')}; {takes}"
    twice = [name for name in names[: len(args)] if name in given]
    if twice:
        return f"the argument {twice[0]!r} is given twice"
    return misnamed([*names[: len(args)], *given], names, required)


def misnamed(given: Iterable[str], names: Collection[str], required: Iterable[str]) -> str | None:
    """The complaint about names of arguments that do not exist or are missing, or None."""
    given = list(given)
    for name in given:
        if name not in names:
            return f"it has no argument {name!r}; {near(str(name), names)}"
    for name in required:
        if name not in given:
            return f"the argument {name!r} is missing; its arguments are {', '.join(names)}"
    return None


def near(name: str, known: Collection[str]) -> str:
    """What is said of a name that is not ``known``: those that are close to it, or all."""
    folded = {entry.lower(): entry for entry in known}
    close = [
        folded[entry] for entry in difflib.get_close_matches(name.lower(), list(folded), n=3, cutoff=0.5)
    ]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known are {', '.join(known)}" if known else "it takes none"


@cache
def _accepted(cls: type) -> Mapping[str, Accepts]:
    hints = get_type_hints(cls, include_extras=True)
    found = {name: [a for a in get_args(hint) if isinstance(a, Accepts)] for name, hint in hints.items()}
    return {name: accepts[0] for name, accepts in found.items() if accepts}


def _require(condition: bool, value: Any) -> Any:
    if not condition:
        raise ValueError
    return value


def _is_int(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _real(value: Any) -> float:
    _require(isinstance(value, numbers.Real) and not isinstance(value, bool), value)
    return plain(_require(math.isfinite(value), value))


def _not_negative(value: Any) -> float:
    return _require(_real(value) >= 0.0, _real(value))


def _deviation(value: Any) -> float:
    return _require(_not_negative(value) <= LARGEST, _real(value))


def _points(value: Any) -> int:
    return _require(_size(value) <= HIGHEST, _size(value))


def _positive(value: Any) -> float:
    return _require(_real(value) > 0.0, _real(value))


def _probability(value: Any) -> float:
    return _require(0.0 < _real(value) <= 1.0, _real(value))


def _size(value: Any) -> int:
    return int(_require(_is_int(value) and 0 < value <= WIDEST, value))


def _count(value: Any) -> int:
    return int(_require(_is_int(value) and 0 <= value <= MOST, value))


def _degree(value: Any) -> int:
    return int(_require(_is_int(value) and 0 <= value <= HIGHEST, value))


def _branches(value: Any) -> int:
    return int(_require(_is_int(value) and 0 < value <= MOST, value))


def sequence(value: Any) -> tuple:
    """The entries of what has an order: no text, mapping or set."""
    return tuple(_require(not isinstance(value, (str, bytes, Mapping, Set)), value))


def read_sizes(value: Any) -> tuple[int, ...]:
    """A non-empty tuple of positive ints."""
    return _require(len(sequence(value)) > 0, tuple(_size(v) for v in sequence(value)))


def _axes(value: Any) -> tuple[int, ...]:
    entries = (value,) if _is_int(value) else sequence(value)
    return _require(len(entries) > 0, tuple(int(_require(_is_int(v), v)) for v in entries))


def _shape(value: Any) -> tuple[int, ...]:
    entries = sequence(value)
    return _require(len(entries) > 0, tuple(-1 if _is_int(v) and v == -1 else _size(v) for v in entries))


def _coefficients(value: Any) -> tuple[float, ...]:
    return _require(0 < len(sequence(value)) <= HIGHEST + 1, tuple(_real(v) for v in sequence(value)))


def _reals(value: Any) -> tuple[float, ...]:
    return tuple(_real(v) for v in sequence(value))


def _pair(value: Any) -> tuple[float, float]:
    first, second = (_positive(v) for v in sequence(value))
    return first, second


def _bool(value: Any) -> bool:
    return _require(isinstance(value, bool), value)


def _optional(accepts: Accepts) -> Accepts:
    return Accepts(accepts.what + ", or None", lambda value: None if value is None else accepts.read(value))


def _choice(*names: str) -> Accepts:
    """One of ``names``, whatever the case."""
    table = {name.lower(): name for name in names}
    quoted = ", ".join(repr(name) for name in names)
    return Accepts(f"one of {quoted}", lambda value: table[_known(value, table)])


def _known(value: Any, table: Mapping[str, str]) -> str:
    name = _require(isinstance(value, str), value).lower()
    return _require(name in table, name)


_DEVIATION = Accepts("a finite number >= 0 (a standard deviation, at most 1e150)", _deviation)
_SIZES = Accepts("a sequence of positive ints", read_sizes)

Real = Annotated[float, Accepts("a finite number", _real)]
Deviation = Annotated[float, _DEVIATION]
OptionalDeviation = Annotated[float | None, _optional(_DEVIATION)]
Positive = Annotated[float, Accepts("a finite number > 0", _positive)]
NonNegative = Annotated[float, Accepts("a finite number >= 0", _not_negative)]
Keep = Annotated[float, Accepts("in (0, 1]: the probability of keeping a unit", _probability)]
Size = Annotated[int, Accepts("a positive int", _size)]
Count = Annotated[int, Accepts(f"an int >= 0, at most {MOST}", _count)]
Degree = Annotated[int, Accepts(f"an int >= 0, at most {HIGHEST}", _degree)]
Points = Annotated[int, Accepts(f"an int from 1 to {HIGHEST}", _points)]
Branches = Annotated[int, Accepts(f"a positive int, at most {MOST}", _branches)]
Sizes = Annotated[tuple[int, ...], _SIZES]
OptionalSize = Annotated[int | None, _optional(Accepts("a positive int", _size))]
OptionalSizes = Annotated[tuple[int, ...] | None, _optional(_SIZES)]
_AXES = Accepts("an axis or a sequence of axes (ints)", _axes)
AxisList = Annotated[tuple[int, ...], _AXES]
OptionalAxes = Annotated[tuple[int, ...] | None, _optional(_AXES)]
Axis = Annotated[int, Accepts("an int", lambda v: int(_require(_is_int(v), v)))]
Shape = Annotated[
    tuple[int, ...], Accepts("a sequence of positive ints, -1 for an axis that stays as it is", _shape)
]
Coefficients = Annotated[
    tuple[float, ...], Accepts(f"a sequence of 1 to {HIGHEST + 1} finite numbers", _coefficients)
]
Reals = Annotated[tuple[float, ...], Accepts("a sequence of finite numbers", _reals)]
Scales = Annotated[tuple[float, float], Accepts("two positive numbers", _pair)]
_FLAG = Accepts("True or False", _bool)
Flag = Annotated[bool, _FLAG]
OptionalFlag = Annotated[bool | None, _optional(_FLAG)]
Parameterization = Annotated[str, _choice("ntk", "standard", "raw")]
Padding = Annotated[str, _choice("VALID", "SAME", "CIRCULAR")]
TransposePadding = Annotated[str, _choice("VALID", "SAME")]
ResizeMethod = Annotated[str, _choice("linear", "bilinear", "trilinear", "triangle", "nearest")]
Mode = Annotated[str, _choice("train", "test")]
Statistics = Annotated[str, _choice("train", "test", "eval")]
Implementation = Annotated[str, _choice("DENSE")]
Normalization = Annotated[str, _choice("NONE", "SYMMETRIC", "MEAN")]
Mechanism = Annotated[str, _choice("SOFTMAX", "IDENTITY", "ABS", "RELU")]
NormPlace = Annotated[str, _choice("pre", "post")]
PositionalEmbedding = Annotated[str, _choice("NONE", "SUM", "CONCAT")]
OptionalScaling = Annotated[str | None, _optional(_choice("1/n", "1/sqrt(n)"))]
