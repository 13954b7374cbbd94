"""What type checkers and editors see of the names that are loaded on first use."""

from __future__ import annotations

import ast
from pathlib import Path

import tpnum
from tpnum import functions, spectra

PACKAGE = Path(str(tpnum.__file__)).parent


def stub(folder: Path) -> dict[str, str]:
    """Name -> the module that a stub takes it from, or its class."""
    found = {}
    for node in ast.parse((folder / "__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            found |= {a.asname: node.module or "" for a in node.names if a.asname == a.name}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = ast.unparse(node.annotation)
    return found


def test_checkers_are_told_that_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").read_bytes() == b""


def test_the_stub_of_the_package_has_its_names() -> None:
    homes = {name: "Function" if home == "tpnum.functions" else home for name, home in tpnum._HOMES.items()}
    homes |= dict.fromkeys(tpnum._MODULES, "tpnum")
    assert stub(PACKAGE) == homes | {"__version__": "str", "__all__": "list[str]"}
    assert all(isinstance(getattr(tpnum, name), functions.Function) for name in tpnum._FUNCTIONS)


def test_the_stub_of_the_spectra_has_their_names() -> None:
    homes = {name: f"tpnum.spectra.{home}" for name, home in spectra._HOMES.items()}
    assert stub(PACKAGE / "spectra") == homes | {"__all__": "list[str]"}


def test_every_package_that_loads_on_first_use_has_a_stub() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        loads = "_HOMES[name]" in path.read_text(encoding="utf-8")
        assert loads == path.with_suffix(".pyi").exists(), path
