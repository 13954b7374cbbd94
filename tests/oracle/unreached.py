"""Kernels that Python calls and `tpnum warm` has not come to, as JSON."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
from pathlib import Path

from numba.core.dispatcher import Dispatcher

import tpnum
from tpnum.cli import warm

PACKAGE = Path(str(tpnum.__file__)).parent


def called() -> set[tuple[str, str]]:
    """What the other packages import from modules of kernels, or read off these."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if "kernels" in path.relative_to(PACKAGE).parts:
            continue
        tree, modules = ast.parse(path.read_text(encoding="utf-8")), {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tpnum.kernels"):
                found |= {(str(node.module), alias.name) for alias in node.names}
                modules |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                found |= {(modules[name], node.attr) for name in (node.value.id,) if name in modules}
    return found


def kernel(module: str, name: str) -> Dispatcher | None:
    """The kernel of that name, if it is one."""
    try:
        made = getattr(importlib.import_module(module), name, None)
    except ImportError:  # what is read off is no module but a kernel itself
        return None
    return made if isinstance(made, Dispatcher) else None


warm.run(argparse.Namespace())
kernels = {place: made for place in called() if (made := kernel(*place)) is not None}
assert {("tpnum.kernels.cells", "run"), ("tpnum.kernels.series", "series")} <= set(kernels), kernels
print(json.dumps(sorted(".".join(place) for place, made in kernels.items() if not made.signatures)))
