"""`Function`: a coordinatewise function of vectors and scalars, with what is known about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from tpnum.arguments import finite_array, real_array, shown, whole
from tpnum.errors import FunctionError, ProgramError
from tpnum.functions.checked import checked
from tpnum.functions.record import Record, unary

_NEAR, _JUMP = 1e-12, 1e-3
"""At what distance of a kink a function is looked at, and what difference is a jump (a root has less)."""

_SHOWN = 8  # numbers of a parameter in messages

TABLE: dict[str, Record] = {}
"""Every named nonlinearity; filled by `tpnum.functions`."""


@dataclass(frozen=True, eq=False)
class _User:
    """A user's callable with the facts that were declared about it."""

    call: Callable[..., Any]
    slopes: tuple[Callable[..., Any] | None, ...]
    kinks: tuple[float, ...]
    arity: int
    scalars: int
    parity: int
    growth: str

    def key(self) -> tuple[Any, ...]:
        return (self.call, self.slopes, self.kinks, self.arity, self.scalars, self.parity, self.growth)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _User) and self.key() == other.key()

    def __hash__(self) -> int:
        return hash((self.kinks, self.arity, self.scalars))

    @cached_property
    def record(self) -> Record:
        values = unary(self.call)
        for i, slope in enumerate(self.slopes):
            if slope is not None:
                values[(i,)] = slope
        return Record(
            "what was given", values, arity=self.arity, scalars=self.scalars, kinks=self.kinks,
            parity=self.parity, growth=self.growth,
        )  # fmt: skip


@dataclass(frozen=True, repr=False)
class Function:
    """A function f(u1..uk; t1..tl) applied coordinate by coordinate, or one of its a.e. derivatives.

    Made by `tpnum.functions.get` (named) or `Function.from_callable` (a user's); compared by name,
    parameters and ``order``, the vector arguments it was differentiated in.
    """

    name: str
    params: tuple[tuple[str, Any], ...] = ()
    order: tuple[int, ...] = ()
    split: int | None = None  # how many trailing arguments are scalars, where it is not the record's
    user: _User | None = field(default=None)

    # what is known ------------------------------------------------------------------------------

    @property
    def record(self) -> Record:
        return TABLE[self.name] if self.user is None else self.user.record

    def _look(self, name: str) -> Any:
        return self.record.look(name, dict(self.params))

    @property
    def n_scalars(self) -> int:
        """The number of trailing scalar arguments."""
        return self.record.scalars if self.split is None else self.split

    @property
    def arity(self) -> int:
        """The number of vector arguments."""
        return int(self._look("arity")) + self.record.scalars - self.n_scalars

    @property
    def kinks(self) -> tuple[float, ...]:
        """Points of u where f or one of its derivatives jumps (functions of one vector)."""
        return tuple(sorted(float(k) for k in self._look("kinks")))

    @property
    def continuous(self) -> bool:
        """Whether f has no jumps, as far as can be known: at its kinks, and at those of its parts."""
        return _continuous(self)

    @property
    def parity(self) -> int:
        """+1 even, -1 odd, 0 neither, when all vector arguments change sign together."""
        if self.n_scalars != self.record.scalars:
            return self.parities[0] if self.arity == 1 else 0
        return int(self._look("parity")) * (-1) ** sum(i < self.arity for i in self.order)

    @property
    def parities(self) -> tuple[int, ...]:
        """The parity in each vector argument alone."""
        own = self.record.parities
        if own is None:
            return (self.parity,) if self.arity == 1 else (0,) * self.arity
        return tuple(p * (-1) ** self.order.count(i) for i, p in enumerate(own[: self.arity]))

    @property
    def degree(self) -> float | None:
        """d where f(s u) = s^d f(u) for every s > 0."""
        degree = self._look("degree")
        return None if degree is None else float(degree) - len(self.order)

    @property
    def coefficients(self) -> tuple[float, ...] | None:
        """c of f(u1..uk) = c1 u1 + .. + ck uk, the arguments vectors; None for all other functions."""
        return None if self.order or self.n_scalars else self.record.coefficients

    @property
    def product(self) -> bool:
        """Whether f is the product of two vectors."""
        return self.record.product and not self.order and not self.n_scalars

    @property
    def flat(self) -> bool:
        """Whether the a.e. derivative is zero."""
        return self.record.flat and not self.order

    @property
    def growth(self) -> str:
        """How f grows: "bounded", "poly", "exp" or "exp2" (like e^{b u^2})."""
        return str(self._look("growth"))

    @property
    def rate(self) -> float:
        """b where f grows like e^{b u^2}."""
        return float(self._look("rate"))

    @property
    def closed(self) -> tuple[str, tuple[float, ...]] | None:
        """The family and parameters of the closed-form dual, None where there is none.

        A function with a scalar has one for zero-mean u if that scalar is E u^2.
        """
        if self.order or self.n_scalars != self.record.scalars:
            return None
        closed = self._look("closed")
        return None if closed is None else (closed[0], tuple(float(p) for p in closed[1]))

    @property
    def primitive(self) -> tuple[Function, int] | None:
        """(f, i) where this is df/du_i."""
        vectors = [i for i in self.order if i < self.arity]  # beyond are derivatives in scalars
        if not vectors:
            return None
        left = list(self.order)
        left.remove(vectors[-1])
        return replace(self, order=tuple(left)), vectors[-1]

    @property
    def names(self) -> frozenset[str]:
        """Its name and those of the functions that it is made of."""
        return frozenset([self.name]).union(*(f.names for f in self.parts))

    @property
    def parts(self) -> tuple[Function, ...]:
        """The functions that it is made of."""
        return tuple(_parts(tuple(v for _, v in self.params)))

    @property
    def foreign(self) -> bool:
        """Whether it calls a user's code, of which nothing is known but its values."""
        return self.user is not None or any(f.foreign for f in _parts(tuple(v for _, v in self.params)))

    @property
    def owner(self) -> Any:
        """What lives as long as the function does for its user: the callable where it is one."""
        if self.user is None or self.params or len(self.order) > 1:
            return self
        return self.user.slopes[self.order[0]] if self.order else self.user.call

    @property
    def portable(self) -> bool:
        """Whether another process can find this function by its name."""
        inner = _parts(self.params)
        if self.user is None:
            return all(f.portable for f in inner)
        return all(_importable(c) for c in (self.user.call, *self.user.slopes) if c is not None)

    @property
    def has_values(self) -> bool:
        """False for the derivative of a user's function that came without one."""
        return self.order in self._values

    @cached_property
    def _values(self) -> dict[tuple[int, ...], Callable[..., Any]]:
        return dict(self.record.look("values", dict(self.params)))

    # what it does -------------------------------------------------------------------------------

    def __call__(self, *arguments: Any) -> Any:
        """f(*vectors, *scalars) on arrays; on program vectors, the new vector."""
        for argument in arguments:
            apply = getattr(argument, "__tpnum_apply__", None)
            if apply is not None:
                return apply(self, arguments[: self.arity], arguments[self.arity :])
        if len(arguments) != self.arity + self.n_scalars:
            raise ProgramError(
                f"{self} takes {self.arity} vector(s) and {self.n_scalars} scalar(s), "
                f"not {len(arguments)} argument(s)"
            )
        values = self._values
        if self.order not in values:
            why = "draws need it, and gradients where another function follows without a matrix between"
            raise ProgramError(f"{self} has no values: pass derivative= with the function {self.name}; {why}")
        arrays = [self._array(a) for a in arguments]
        if self.user is not None:
            return checked(values[self.order], repr(self), arrays)
        return values[self.order](*arrays, **dict(self.params))

    def _array(self, argument: Any) -> np.ndarray:
        if isinstance(argument, np.ndarray) and argument.dtype.kind == "c":
            raise FunctionError(f"the arguments of {self} must be real numbers, not {argument.dtype}")
        return argument if _is_float(argument) else real_array(argument, "arguments")

    def derivative(self, i: int = 0) -> Function:
        """The almost-everywhere derivative in the i-th vector argument.

        For a user's function without a ``derivative`` it is a *weak* one: its `primitive` is known
        (which is all that Price's theorem asks for), its values are not.
        """
        if not 0 <= whole(i, "i", error=ProgramError) < self.arity:
            raise ProgramError(f"{self} has {self.arity} vector argument(s): there is no argument {shown(i)}")
        order = tuple(sorted((*self.order, i)))
        made = replace(self, order=order)
        if not made.has_values and (self.user is None or self.order):
            raise ProgramError(f"the derivative of {self} in its argument {i} is not known")
        return made

    def with_scalars(self, n: int) -> Function:
        """The same function with its last ``n`` arguments scalars instead of vectors."""
        total, n = self.arity + self.n_scalars, whole(n, "n", error=ProgramError)
        if not 0 <= n <= total:
            raise ProgramError(f"{self} has {total} argument(s): n = {shown(n)} of them cannot be scalars")
        return replace(self, split=None if n == self.record.scalars else n)

    # identity -----------------------------------------------------------------------------------

    def __repr__(self) -> str:
        if self.user is None and not self.record.named:  # functions of functions: the outermost says enough
            outer = next(iter(self.parts), None)
            return f"{outer!r}(...)" + chr(39) * len(self.order)
        inside = ", ".join(f"{k}={_short(v)}" for k, v in self.params)
        marks = "".join(f"_{i + 1}" for i in self.order) if self.arity > 1 or any(self.order) else ""
        return f"{self.name}{chr(39) * len(self.order)}{marks}" + (f"({inside})" if inside else "")

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.portable:
            raise ProgramError(self.refusal())
        return (Function, (self.name, self.params, self.order, self.split, self.user))

    def refusal(self) -> str:
        """Why a function that is not `portable` cannot leave this process, and what to do."""
        return (
            f"the function {self.name} cannot be found by its name from another process or a file: "
            "define it with def at the top level of an importable module"
        )

    def spec(self) -> dict[str, Any]:
        """A JSON-ready description of a named function (see `tpnum.functions.from_spec`)."""
        if not self.portable:
            raise ProgramError(self.refusal())
        made: dict[str, Any] = {"name": self.name}
        if self.params:
            made["params"] = {k: _plain(v) for k, v in self.params}
        if self.order:
            made["order"] = list(self.order)
        if self.split is not None:
            made["scalars"] = self.split
        if self.user is not None:
            u = self.user
            slopes = [None if s is None else _address(s) for s in u.slopes]
            made["user"] = {
                "call": _address(u.call), "slopes": slopes, "kinks": list(u.kinks), "arity": u.arity,
                "scalars": u.scalars, "parity": u.parity, "growth": u.growth,
            }  # fmt: skip
        return made

    @classmethod
    def from_callable(
        cls,
        f: Callable[..., Any],
        derivative: Any = None,
        kinks: Any = (),
        name: str | None = None,
        arity: int = 1,
        n_scalars: int = 0,
        parity: int = 0,
        growth: str = "poly",
    ) -> Function:
        """A NumPy-style callable f(*vectors, *scalars) -> array as a Function.

        ``derivative``: a callable with the same arguments (for several vectors a sequence of them, None
        where unknown); ``kinks``: where f or a derivative jumps; ``parity``, ``growth``: see `Function`.
        """
        if not callable(f):
            raise ProgramError(f"a function is needed, not {type(f).__name__}")
        arity, n_scalars = (
            whole(n, w, 0, 64, ProgramError) for n, w in ((arity, "arity"), (n_scalars, "n_scalars"))
        )
        slopes = tuple(derivative) if isinstance(derivative, (tuple, list)) else (derivative,)
        slopes += (None,) * (arity - len(slopes))
        if len(slopes) > arity + n_scalars or not all(map(_is_slope, slopes)):
            raise ProgramError(
                f"derivative= must be one callable per vector argument ({arity}), then per scalar"
            )
        kinks = finite_array(() if kinks is None else kinks, "kinks", error=ProgramError)
        if kinks.ndim > 1:
            raise ProgramError(f"kinks must be a list of numbers, not an array of shape {kinks.shape}")
        points = tuple(sorted(np.atleast_1d(kinks).tolist()))
        if name is None:
            module, qualname = getattr(f, "__module__", None), getattr(f, "__qualname__", None)
            name = f"{module}.{qualname}" if module and qualname else repr(f)
        return cls(name=name, user=_User(f, slopes, points, arity, n_scalars, int(parity), growth))


@lru_cache(maxsize=4096)
def _continuous(f: Function) -> bool:
    if f.order and f.record.switch is not None:
        return False
    if not all(g.continuous for g in f.parts):
        return False
    points = np.array(f.kinks)
    if not points.size or f.arity != 1 or f.n_scalars or not f.has_values:
        return True
    near = _NEAR * np.maximum(1.0, np.abs(points))
    with np.errstate(all="ignore"):
        left, right = (np.asarray(f(points + s * near), dtype=float) for s in (-1.0, 1.0))
    return bool(np.all(np.abs(right - left) <= _JUMP * (1.0 + np.abs(left) + np.abs(right))))


def _is_slope(s: Any) -> bool:
    return s is None or (callable(s) and not isinstance(s, type))


def _is_float(a: Any) -> bool:
    return isinstance(a, (np.ndarray, np.floating)) and a.dtype in (np.float32, np.float64)


def _parts(value: Any) -> list[Function]:
    if isinstance(value, Function):
        return [value]
    if isinstance(value, (tuple, list)):
        return [f for v in value for f in _parts(v)]
    return []


def _address(call: Callable[..., Any]) -> list[str]:
    return [str(call.__module__), str(getattr(call, "__qualname__", getattr(call, "__name__", "")))]


def _importable(call: Callable[..., Any]) -> bool:
    import sys

    if isinstance(call, Function):
        return call.portable
    name, module = getattr(call, "__qualname__", None), getattr(call, "__module__", None)
    if isinstance(call, np.ufunc):
        return True
    if not name or not module or "<" in name:
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is call


def _short(value: Any) -> str:
    """A parameter in a message: of many numbers the first and the last ones."""
    if isinstance(value, tuple) and len(value) > _SHOWN:
        return f"({value[0]!r}, {value[1]!r}, ..., {value[-1]!r}: {len(value)} numbers)"
    return repr(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Function):
        return {"function": value.spec()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value
