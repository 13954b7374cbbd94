"""Where the kernels of a regression come from: a net, a program, or a user's function."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from tpnum import nn
from tpnum.arguments import finite_array, shown
from tpnum.errors import InputError
from tpnum.program import Program
from tpnum.tiles.arguments import array_of
from tpnum.tiles.driver import kernel
from tpnum.tiles.gradients.contracted import INPUTS

ROWS = 1 << 25
"""Entries of a kernel between new examples and those learned from that are held at a time."""


@dataclass(frozen=True)
class Source:
    """Kernels by kind between arrays of examples, all (N1, N2) or (N1,) with ``diag``.

    ``of`` is a net, a program with one data line, or a function f(x1, x2, get, diag) -> array.
    """

    of: Any
    n_jobs: int | None = None

    @classmethod
    def read(cls, of: Any, n_jobs: int | None = None) -> Source:
        if isinstance(of, type) or not (isinstance(of, (nn.Layer, Program)) or callable(of)):
            raise InputError(
                f"net is {shown(of)}: it must be a net, a program or a function f(x1, x2, get, diag)"
            )
        return cls(of, n_jobs)

    def __call__(self, x1: np.ndarray, x2: np.ndarray | None, get: str, diag: bool = False) -> np.ndarray:
        """One kernel."""
        return self.several(x1, x2, (get,), diag)[0]

    def several(
        self, x1: np.ndarray, x2: np.ndarray | None, gets: tuple[str, ...], diag: bool = False
    ) -> list[np.ndarray]:
        """Several kernels of one pass."""
        if isinstance(self.of, (nn.Layer, Program)):
            made = list(kernel(self.of, x1, x2, get=gets, diag=diag, n_jobs=self.n_jobs))
        else:
            made = [self._asked(x1, x2, get, diag) for get in gets]
        shape = (len(x1),) if diag else (len(x1), len(x1 if x2 is None else x2))
        for get, k in zip(gets, made, strict=True):
            if k.shape[len(shape) :] and k.shape[: len(shape)] == shape:
                raise InputError(
                    f"net: its output on x keeps axes of sizes {k.shape[len(shape) :]} (positions or time); "
                    "end it with Flatten, a pooling over them and Dense"
                )
            if k.shape != shape:
                raise InputError(f"net: the kernel {get!r} has shape {k.shape} in the place of {shape}")
        return made

    def _asked(self, x1: np.ndarray, x2: np.ndarray | None, get: str, diag: bool) -> np.ndarray:
        try:
            made = self.of(x1, x2, get, diag)
        except Exception as problem:
            text = " ".join(str(problem).split())[:200]
            raise InputError(
                f"net: the function of kernels raised {type(problem).__name__}: {text}; it is called as "
                "f(x1, x2, get, diag)"
            ) from problem
        return finite_array(made, "net: the function's kernel")

    def slopes(
        self,
        x1: np.ndarray,
        x2: np.ndarray | None,
        get: str,
        wrt: Any,
        against: np.ndarray,
        dtype: Any = None,
    ) -> np.ndarray:
        """d sum(against * kernel) by deviations of a net, one number for each of ``wrt``."""
        if not isinstance(self.of, nn.Layer):
            raise InputError("wrt: derivatives by deviations need a net; give dk for other kernels")
        names = [wrt] if isinstance(wrt, str) else wrt
        if isinstance(names, (list, tuple)) and any(side in names for side in INPUTS):
            raise InputError("wrt: name deviations of the net; gradients by inputs are those of tpnum.kernel")
        found = kernel(
            self.of, x1, x2, get=get, wrt=wrt, against=against, dtype=dtype, n_jobs=self.n_jobs
        ).derivatives
        return np.array(found, dtype=np.float64).reshape(-1)

    def rows(self, size: int) -> int:
        """New examples that are predicted at a time when ``size`` were learned from."""
        return max(1, ROWS // size)

    def to_json(self) -> str:
        """The net or program as JSON; what `read_json` reads."""
        if isinstance(self.of, nn.Layer):
            return json.dumps({"net": self.of.to_spec()}, allow_nan=False)
        if isinstance(self.of, Program):
            return json.dumps({"program": self.of.to_json()})
        raise InputError("net: a function of kernels cannot be saved; save a net or a program")

    @classmethod
    def read_json(cls, text: str) -> Source:
        """The source that `to_json` wrote."""
        made = json.loads(text)
        return cls(nn.from_spec(made["net"]) if "net" in made else Program.from_json(made["program"]))


def examples(x: Any, name: str, like: np.ndarray | None = None) -> np.ndarray:
    """Finite examples, of the shape of those there are."""
    array = array_of(x, name)
    if like is not None and array.shape[1:] != like.shape[1:]:
        raise InputError(
            f"{name}: examples of shape {array.shape[1:]}, and those learned from have {like.shape[1:]}"
        )
    return array


def blocks(length: int, rows: int) -> list[slice]:
    return [slice(start, start + rows) for start in range(0, length, rows)]
