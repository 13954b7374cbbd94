"""Coordinatewise functions: one home per nonlinearity, with what is known about it.

`get("tanh")`, `get("abrelu", a=-0.3, b=1.2)`, `get(np.tanh)` and `get(my_function)` return a `Function`;
the named ones are also attributes of this package (`tpnum.functions.tanh`).  Every parameter, its default
and the properties of a name (derivative, kinks, parity, homogeneity, growth, closed-form dual) are one
`Record` of the tables in `table.py` and `arithmetic.py`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import numpy as np

from tpnum.arguments import finite_array, flag, number, shown, whole
from tpnum.errors import ProgramError
from tpnum.functions.arithmetic import SEVERAL
from tpnum.functions.attention import ATTENTION
from tpnum.functions.function import TABLE, Function
from tpnum.functions.record import REQUIRED, Record
from tpnum.functions.table import UNARY

TABLE.update(UNARY)
TABLE.update(SEVERAL)
TABLE.update(ATTENTION)

from tpnum.functions.combine import affine, compose, linear, product  # noqa: E402  (needs the table)

__all__ = ["Function", "Record", "affine", "compose", "from_spec", "get", "linear", "names", "product"]

ALIASES = {
    "swish": "silu", "hardtanh": "hard_tanh", "logistic": "sigmoid", "absolute": "abs", "linear": "identity",
    "phi": "normal_cdf", "multiply": "mul", "divide": "div", "true_divide": "div", "subtract": "sub",
    "heaviside": "step", "max": "maximum", "min": "minimum",
}  # fmt: skip
"""Other names of the same functions."""


_UFUNCS = {
    np.tanh: "tanh", np.sin: "sin", np.cos: "cos", np.exp: "exp", np.abs: "abs", np.fabs: "abs",
    np.sign: "sign",
    np.square: "square", np.sqrt: "sqrt", np.log: "log", np.reciprocal: "reciprocal", np.arctan: "arctan",
    np.cbrt: "cbrt", np.positive: "identity", np.add: "add", np.subtract: "sub", np.multiply: "mul",
    np.divide: "div", np.maximum: "maximum", np.minimum: "minimum",
}  # fmt: skip


def _key(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


_BY_KEY = {name.replace("_", ""): name for name, record in TABLE.items() if record.named}
_BY_KEY |= {alias.replace("_", ""): name for alias, name in ALIASES.items()}


def names() -> tuple[str, ...]:
    """The names that `get` knows."""
    return tuple(sorted(name for name, record in TABLE.items() if record.named))


def get(f: Any, **params: Any) -> Function:
    """The `Function` of a name (case does not matter), a NumPy ufunc, a layer, a callable or a Function."""
    if isinstance(f, Function):
        own = f
    elif isinstance(f, str):
        key = _key(f).replace("_", "")
        if key not in _BY_KEY:
            near = difflib.get_close_matches(key, list(_BY_KEY), n=3, cutoff=0.4)
            known = sorted({_BY_KEY[k] for k in near})
            hint = f"did you mean {', '.join(known)}?" if known else "tpnum.functions.names() lists all"
            raise ProgramError(f"no function is named {shown(f)}: {hint}")
        return _named(_BY_KEY[key], params)
    elif isinstance(f, np.ufunc) and f in _UFUNCS:
        own = _named(_UFUNCS[f], {})
    elif isinstance(f, type):
        raise ProgramError(
            f"a function is needed, not the class {f.__name__}: write {f.__name__}(..) for one"
        )
    elif hasattr(f, "__tpnum_function__"):
        own = f.__tpnum_function__()
    elif callable(f):
        return Function.from_callable(f, **params)
    else:
        raise ProgramError(
            f"a function is needed: a name, a callable, a layer like nn.Relu() or a Function, not {shown(f)}"
        )
    if params:
        raise ProgramError(f"{own} has its parameters already: {', '.join(params)} cannot be given with it")
    return own


def _named(name: str, given: dict[str, Any]) -> Function:
    record = TABLE[name]
    known = dict(record.params)
    for key in given:
        if key not in known:
            listed = ", ".join(known) or "none"
            raise ProgramError(f"{name} has no parameter {key!r} (its parameters: {listed})")
    values = {}
    for key, default in known.items():
        value = given.get(key, default)
        if value is REQUIRED:
            raise ProgramError(f"{name} needs the parameter {key}")
        values[key] = _checked(name, key, value, default)
    made = Function(name, tuple(values.items()))
    object.__setattr__(made, "__doc__", record.describe(name))
    return made


HIGHEST = 1000
"""The largest degree of a polynomial or a rule: moments of higher ones overflow."""


def _checked(name: str, key: str, value: Any, default: Any) -> Any:
    """A parameter as a hashable Python value: numbers finite, degrees whole."""
    called = f"the parameter {key} of {name}"
    if isinstance(default, bool):
        return flag(value, called, ProgramError)
    if key == "fn":
        return get(value)
    if key in ("degree", "deg"):
        return whole(value, called, int(key == "deg"), HIGHEST, ProgramError)
    if key in ("coef", "coefs"):
        made = tuple(finite_array(value, called, 1, ProgramError).tolist())
        if not 0 < len(made) <= HIGHEST + 1:
            raise ProgramError(f"{called} must be 1 to {HIGHEST + 1} numbers, not {len(made)}")
        return made
    return number(value, called, error=ProgramError)


def from_spec(spec: dict[str, Any], modules: Iterable[str] | None = None) -> Function:
    """The Function that `Function.spec` described.

    A user's function is imported from its module, which must be among ``modules`` (None: any), so that a
    text from elsewhere does not choose what runs here.
    """
    try:
        return _described(spec, None if modules is None else tuple(modules))
    except ProgramError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ProgramError(f"this describes no function: {type(error).__name__}: {error}") from None


def _described(spec: dict[str, Any], modules: tuple[str, ...] | None) -> Function:
    order, split = tuple(spec.get("order", ())), spec.get("scalars")
    if "user" in spec:
        u = spec["user"]
        slopes = tuple(None if s is None else _found(s, modules) for s in u["slopes"])
        made = Function.from_callable(
            _found(u["call"], modules),
            slopes,
            u["kinks"],
            spec["name"],
            u["arity"],
            u["scalars"],
            u["parity"],
            u["growth"],
        )
        return Function(made.name, made.params, order, split, made.user)
    if spec.get("name") not in TABLE:
        return get(str(spec.get("name")))
    params = {k: _unplain(v, modules) for k, v in spec.get("params", {}).items()}
    if not TABLE[spec["name"]].named:
        return Function(spec["name"], tuple(params.items()), order, split)
    return Function(spec["name"], _named(spec["name"], params).params, order, split)


def _unplain(value: Any, modules: tuple[str, ...] | None) -> Any:
    if isinstance(value, dict):
        return _described(value["function"], modules)
    return tuple(_unplain(v, modules) for v in value) if isinstance(value, list) else value


def _found(address: list[str], modules: tuple[str, ...] | None) -> Callable[..., Any]:
    module, qualname = address
    if modules is not None and module not in modules:
        raise ProgramError(
            f"the function {module}.{qualname} is in the module {module}, which may not be imported here; "
            f"if you trust the text, allow it: modules=({module!r},)"
        )
    try:
        made: Any = importlib.import_module(module)
        for part in qualname.split("."):
            made = getattr(made, part)
            if isinstance(made, ModuleType):
                raise AttributeError(f"{part} is a module")
    except (ImportError, AttributeError) as error:
        raise ProgramError(f"the function {module}.{qualname} cannot be found: {error}") from None
    return made


def __getattr__(name: str) -> Function:
    record = TABLE.get(name)
    if record is not None and record.named and all(d is not REQUIRED for _, d in record.params):
        made = globals()[name] = _named(name, {})
        return made
    if name in ALIASES:
        return get(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *names(), *ALIASES})
