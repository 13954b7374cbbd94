"""The house rules that the import statements can be asked about."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import tpnum

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(str(tpnum.__file__)).parent
LANGUAGE = {"errors", "jets", "arguments", "functions", "program"}
# package -> the packages that it may import, besides itself; a package that is not here may not exist
ARROWS = {
    "errors": set(),
    "jets": set(),
    "arguments": {"errors", "jets"},
    "kernels": set(),
    "functions": {"errors", "jets", "arguments"},
    "program": {"errors", "jets", "arguments", "functions"},
    "gauss": LANGUAGE | {"kernels"},
    "law": LANGUAGE | {"kernels", "gauss"},
    "evaluate": LANGUAGE | {"kernels", "gauss", "law"},
    "lower": LANGUAGE | {"kernels", "gauss", "law", "evaluate"},
    "ensemble": LANGUAGE | {"kernels", "gauss", "law", "evaluate"},
    "limits": LANGUAGE | {"kernels", "gauss", "law", "evaluate", "lower"},
    "nn": LANGUAGE,
    "tiles": LANGUAGE | {"kernels", "gauss", "law", "evaluate", "ensemble", "lower", "nn"},
}
_BELOW = LANGUAGE | {"kernels", "gauss", "law", "evaluate", "ensemble", "lower", "limits", "nn", "tiles"}
ARROWS |= {
    "pictures": {"errors"},
    "finite": _BELOW | {"pictures"},
    "predict": _BELOW,
    "propagation": _BELOW | {"pictures"},
    "spectra": _BELOW | {"pictures", "propagation"},
    "messages": _BELOW | {"pictures", "spectra"},
    "interop": _BELOW | {"predict"},
    "cli": _BELOW
    | {"pictures", "finite", "predict", "propagation", "spectra", "messages", "interop", "tpnum"},
    "__main__": {"cli"},
    "tpnum": set(),
}

CORE = {"numba", "llvmlite", "numpy", "scipy", "joblib", "threadpoolctl"}
OPTIONAL = {"matplotlib", "distributed", "zarr"}
# what a file or folder of `tpnum.interop` is for, and imports as it pleases
INTEROP = {
    "sklearn": {"sklearn"},
    "gpytorch": {"gpytorch", "torch"},
    "linear_operator": {"linear_operator", "torch"},
    "jax": {"jax"},
    "tinygp": {"tinygp", "equinox", "jax"},
    "gpjax": {"gpjax", "equinox", "lineax", "jax"},
    "pymc": {"pymc", "pytensor"},
    "xarray": {"xarray"},
}
OPTIONAL |= set().union(*INTEROP.values())
# these must load fast: neither numba nor scipy while they are imported
LIGHT = {"tpnum", "errors", "jets", "arguments", "functions", "program", "nn", "cli", "__main__"}
JIT = {"njit", "jit", "vectorize", "guvectorize", "generated_jit", "stencil", "prange", "pycc"}
TOP_LEVEL = {"pyproject.toml", "tpnum", "asv_benchmarks", "tests", "README.md", "LICENSE", "CHANGELOG.md"}

FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The sub-package of a module of tpnum, or "tpnum" for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "tpnum"


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(path: Path) -> list[tuple[str, tuple[str, ...], bool, int]]:
    """(module, names taken from it, whether at import time, line) of every import statement of a file."""

    def walk(node: ast.AST, eager: bool) -> Iterator[tuple[str, tuple[str, ...], bool, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield alias.name, (), eager, child.lineno
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: imports are absolute here"
                yield child.module or "", tuple(alias.name for alias in child.names), eager, child.lineno
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for part in child.body:
                    yield from walk(ast.Module([part], []), False)
            else:
                lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, eager and not lazy)

    return list(walk(tree_of(path), True))


def targets_of(module: str, names: tuple[str, ...]) -> Iterator[str]:
    """The modules of tpnum that an import statement reaches: `from tpnum import nn` reaches tpnum.nn."""
    for name in names or ("",):
        inner = PACKAGE.parent.joinpath(*module.split("."), name)
        is_module = bool(name) and (inner.is_dir() or inner.with_suffix(".py").exists())
        yield f"{module}.{name}" if is_module else module


def test_imports_go_one_way() -> None:
    wrong = []
    for path in FILES:
        here = room_of(module_of(path))
        assert here in ARROWS, f"{path}: {here} has no place in the order of imports"
        for module, names, _, line in imports_of(path):
            if module.split(".")[0] != "tpnum":
                continue
            for target in targets_of(module, names):
                if room_of(target) not in ARROWS[here] | {here}:
                    wrong.append(f"{path.relative_to(PACKAGE.parent)}:{line}: {here} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_modules_do_not_import_each_other_in_circles() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        reached = graph.setdefault(module_of(path), set())
        for module, names, eager, _ in imports_of(path):
            if module.split(".")[0] == "tpnum" and eager:
                reached.update(targets_of(module, names))
        reached.discard(module_of(path))

    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, "circle: " + " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for reached in sorted(graph.get(module, ())):
                visit(reached, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def visited_by(path: Path) -> set[str]:
    """The libraries that a file of `tpnum.interop` is for."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return INTEROP.get(parts[1], set()) if parts[0] == "interop" and len(parts) > 1 else set()


def test_third_parties_are_known_and_optional_ones_stay_in_one_file() -> None:
    import sys

    users: dict[str, set[Path]] = {}
    for path in FILES:
        for module, _, eager, line in imports_of(path):
            top = module.split(".")[0]
            if top == "tpnum" or top in sys.stdlib_module_names:
                continue
            where = f"{path.relative_to(PACKAGE.parent)}:{line}"
            assert top in CORE | OPTIONAL, f"{where}: {top} is not a dependency"
            if top in OPTIONAL - visited_by(path):
                assert not eager, f"{where}: {top} is optional: import it inside the call that needs it"
                users.setdefault(top, set()).add(path)
            if eager and top in {"numba", "scipy", "llvmlite"}:
                assert room_of(module_of(path)) not in LIGHT, f"{where}: {top} slows down the import"
    for top, paths in users.items():
        assert len(paths) == 1, f"{top} is imported in {sorted(map(str, paths))}"


def test_light_modules_eagerly_import_only_light_ones() -> None:
    for path in FILES:
        here = room_of(module_of(path))
        if here not in LIGHT - {"cli"}:
            continue
        for module, names, eager, line in imports_of(path):
            if eager and module.split(".")[0] == "tpnum":
                for target in targets_of(module, names):
                    assert room_of(target) in LIGHT, f"{path}:{line}: {target} imports numba or scipy"


def test_numba_decorators_have_one_home() -> None:
    for path in FILES:
        if path == PACKAGE / "kernels" / "_jit.py":
            continue
        for module, names, _, line in imports_of(path):
            taken = JIT & set(names) if module.split(".")[0] == "numba" else set()
            assert not taken, f"{path}:{line}: {taken}: decorate with tpnum.kernels._jit"
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                bare = node.value.id in {"numba", "nb"} and node.attr in JIT
                assert not bare, (
                    f"{path}:{node.lineno}: {ast.unparse(node)}: decorate with tpnum.kernels._jit"
                )


def test_no_parallel_kernels() -> None:
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.keyword) and node.arg == "parallel":
                raise AssertionError(f"{path}:{node.value.lineno}: tiles are the parallelism")


def test_public_names_are_found_and_bear_no_package_s_name() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    packages |= {path.stem for path in PACKAGE.glob("*.py")}
    modules = {"errors", "functions", "nn", "predict", "spectra"}
    assert not {"open", "abs"} & set(tpnum.__all__)
    assert modules <= set(tpnum.__all__)
    for name in {*tpnum.__all__, "abs", "open"}:
        value = getattr(tpnum, name)
        assert name in dir(tpnum)
        if name in modules:
            assert value.__name__ == f"tpnum.{name}"
        else:
            assert name not in packages, f"tpnum.{name} is a sub-package already"
            assert callable(value)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = tpnum.no_such_name


def test_the_top_level_holds_what_it_should() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    names = {line.split("/")[0] for line in listed.stdout.splitlines()} or {
        path.name for path in ROOT.iterdir()
    }
    assert {name for name in names if not name.startswith(".")} == TOP_LEVEL


def test_files_have_one_question_each() -> None:
    """A file that has grown beyond a reader's patience wants splitting."""
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {str(path): size for path, size in sizes.items() if size > 400}
