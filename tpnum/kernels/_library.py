"""Machine code that holds the functions it calls as its own.

Numba leaves what a kernel calls in the kernel's code as weak symbols, of which a process takes the copy that
it meets first, in that kernel or another.  Optimised beside different callers, copies contract different
products: results would depend, in their last digit, on what was compiled, loaded or called before.
"""

from __future__ import annotations

from typing import Any

from llvmlite.binding import Linkage
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

_COPIES = Linkage.linkonce_odr, Linkage.weak_odr


class OwnLibrary(JITCodeLibrary):
    """The code of one kernel, copies of other functions internal to it."""

    def _optimize_final_module(self) -> None:
        super()._optimize_final_module()
        self._shared_module = self._linkable()
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage in _COPIES:
                function.linkage = Linkage.internal

    def _linkable(self) -> Any:
        """The module as others take it, of which one copy of each function is enough in one module."""
        module = self._final_module.clone()
        for function in module.functions:
            if not function.is_declaration and function.linkage == Linkage.external:
                function.linkage = Linkage.linkonce_odr
        return module


class OwnCompiler(Compiler):
    """Numba's compiler, into an `OwnLibrary`."""

    def compile_extra(self, func: Any) -> Any:
        library = OwnLibrary(self.state.targetctx.codegen(), func.__qualname__)
        library.enable_object_caching()
        self.state.library = library
        return super().compile_extra(func)
