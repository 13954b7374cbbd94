"""Arrays without reference counts, for kernels that make some: a slice of one costs two atomic operations."""

from __future__ import annotations

from typing import Any

from numba.core import cgutils

from tpnum.kernels._jit import machine_code


@machine_code(lambda array: array)
def borrow(typing: Any, array: Any) -> Any:
    """The same array, not owned: whoever holds the original must outlive it."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = cgutils.create_struct_proxy(array)(context, builder, value=args[0])
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        view.parent = cgutils.get_null_value(view.parent.type)
        return view._getvalue()

    return array(array), emit
