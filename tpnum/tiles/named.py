"""`Kernels`: the named tuple of `tpnum.kernel` for several kinds, in the order they were asked in."""

from __future__ import annotations

from typing import Any, NamedTuple


class WithError(NamedTuple):
    """What `tpnum.kernel` returns with ``error=True``: kernels and their standard errors, of one form."""

    kernel: Any
    error: Any


class Kernels(tuple[Any, ...]):
    """Arrays by kind: ``k.nngp``, ``k.ntk``, ``k[0]``, ``a, b = k``; `_fields` are in the order of ``get``.

    One class for every choice of kinds, so that results are pickled and sent between processes.
    """

    _fields: tuple[str, ...]

    def __new__(cls, fields: tuple[str, ...], arrays: Any) -> Kernels:
        made = super().__new__(cls, arrays)
        made._fields = tuple(fields)
        return made

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("_fields", ())
        if name in fields:
            return self[fields.index(name)]
        raise AttributeError(f"Kernels has no {name!r}; get= asked for {', '.join(fields)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._fields]

    def _asdict(self) -> dict[str, Any]:
        """The arrays by their kinds."""
        return dict(zip(self._fields, self, strict=True))

    def __repr__(self) -> str:
        shown = (f"{name}={array!r}" for name, array in self._asdict().items())
        return f"Kernels({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Kernels, (self._fields, tuple(self))
