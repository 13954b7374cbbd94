"""Print the measured speeds beside their targets: python asv_benchmarks/report.py [part ...]."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from benchmarks import (  # noqa: E402  (the tree beside this file is measured)
    bench_architectures,
    bench_images,
    bench_kernel,
    bench_process,
    bench_strips,
)
from benchmarks.common import Ratio  # noqa: E402
from cells import CELLS, orthants, pair  # noqa: E402

DTYPES = ("float64", "float32")
# at most so many plain products, by the BLAS's vector width and the number of features
PRODUCT_TARGETS = {
    (256, 784): {"float64": 0.7, "float32": 0.7},
    (256, 64): {"float64": 1.8, "float32": 1.6},
    (512, 784): {"float64": 0.8, "float32": 0.85},
}
MIB = 2**20


def _row(what: str, value: str, wall: str = "", target: float | None = None, measured: float = 0.0) -> str:
    verdict = "" if target is None else f"{target:>9g}   {'ok' if measured <= target else 'MISSED'}"
    return f"{what:<46}{value:>10}{wall:>10}{verdict}"


def _ratio(what: str, found: Ratio, target: float | None) -> str:
    return _row(what, f"{found.cpu:.2f}x", f"{found.wall:.2f}x", target, found.cpu)


def products(width: int) -> Iterator[str]:
    """Yield relu, depth 3, against one plain product."""
    for features in (784, 64):
        for dtype in DTYPES:
            found = bench_kernel.relu_to_product(features, dtype)
            target = PRODUCT_TARGETS.get((width, features), {}).get(dtype)
            yield _ratio(f"relu depth 3, d={features}, {dtype} / product", found, target)
            milli = [f"{1e3 * seconds.wall:.0f}" for seconds in (found.candidate, found.floor)]
            yield f"{'':4}wall {milli[0]} ms, product {milli[1]} ms"


def depths(width: int) -> Iterator[str]:
    """Yield depth 10 against depth 1."""
    for dtype in DTYPES:
        yield _ratio(f"depth 10 / depth 1, d=784, {dtype}", bench_kernel.deep_to_shallow(dtype), 1.3)


def layers(width: int) -> Iterator[str]:
    """Yield the other closed forms, and tanh, against relu."""
    for layer in ("Erf", "Gelu", "Abs", "Sin", "Tanh"):
        for dtype in DTYPES:
            target = None if layer == "Tanh" else 2.0
            yield _ratio(
                f"{layer.lower()} / relu, d=64, {dtype}", bench_kernel.layer_to_relu(layer, dtype), target
            )


def recursion(width: int) -> Iterator[str]:
    """Yield nanoseconds an entry and layer on one thread."""
    for layer in ("Relu", "Tanh"):
        for dtype in DTYPES:
            found = bench_kernel.nanoseconds(layer, dtype)
            yield _row(f"{layer.lower()}, one more layer of a matrix, {dtype}, one thread", f"{found:.2f} ns")


def cache(width: int) -> Iterator[str]:
    """Yield nanoseconds an entry and layer with the strip in the first-level cache, one thread."""
    targets = {
        "relu": {"float64": 0.8, "float32": 0.2},
        "relu with bias": {"float64": None, "float32": None},
        "tanh, variance 0.6 to 1.2": {"float64": 6.5, "float32": 2.0},
    }
    for name, by_dtype in targets.items():
        for dtype, target in by_dtype.items():
            found = bench_strips.nanoseconds(name, dtype)
            yield _row(f"{name}, layer in L1, {dtype}", f"{found:.2f} ns", "", target, found)


def images(width: int) -> Iterator[str]:
    """Yield five convolutions of 32 x 32 images, two threads, and entries beside the bare relu strip."""
    targets = {("pooled", "float64"): 4.0, ("pooled", "float32"): 1.7}
    targets |= {("flat", "float64"): 0.012, ("flat", "float32"): 0.005}
    for (head, dtype), target in targets.items():
        rows, cols = (8, 64) if head == "pooled" else (256, 256)
        found = 1e3 * bench_images.pairs(32, head, dtype, rows, cols)
        yield _row(f"32 x 32 x 3, {head}, {dtype}, a pair", "", f"{found:.3g} ms", target, found)
        each, strip = bench_images.entry(16, head, dtype, 8 if head == "pooled" else 256, 64)
        yield f"{'':4}one thread, 16 x 16: {each:.2f} ns an entry and layer, {each / strip:.2f} bare strips"
    for layer in ("Erf", "Gelu", "Abs", "Sin", "Tanh"):
        times = [bench_images.pairs(16, "pooled", "float64", 4, 64, made) for made in (layer, "Relu")]
        yield _row(f"{layer.lower()} / relu, pooled, float64", "", f"{times[0] / times[1]:.2f}x")


def process(width: int) -> Iterator[str]:
    """Yield what a new process pays."""
    beyond = bench_process.import_seconds("tpnum") - bench_process.import_seconds("numpy")
    yield _row("import tpnum beyond import numpy", "", f"{beyond:.3f} s", 0.1, beyond)
    yield _row("import and first call, compiled before", "", f"{bench_process.first_call_seconds():.2f} s")
    yield _row(
        "import and first call, nothing compiled", "", f"{bench_process.first_call_seconds(warm=False):.2f} s"
    )


def memory(width: int) -> Iterator[str]:
    """Yield peak memory beyond inputs and outputs."""
    for features in (784, 64):
        for dtype in DTYPES:
            peak, allowed = bench_process.extra_memory(features, dtype, 2)
            what = f"extra memory, d={features}, {dtype}, two threads"
            yield _row(what, f"{peak / MIB:.0f} MiB", "", round(allowed / MIB), peak / MIB)


def cells(width: int) -> Iterator[str]:
    """Yield pairs of sequences in gated cells of 16 steps, beside orthant probabilities."""
    steps, plain = 16, "GRU, reset before"
    seconds = {}
    for name, cell in CELLS.items():
        seconds[name], error = pair(cell, steps, "nngp", 8)
        target = 0.1 if name == "GRU" else None
        yield _row(f"{name}, {steps} steps, a pair", f"{seconds[name]:.3f} s", "", target, seconds[name])
        yield _row(f"{'':4}its standard error", f"{error:.1e}", "", 1e-4 if target else None, error)
    lstm = seconds["LSTM"] / seconds["GRU"]
    yield _row("LSTM / GRU", f"{lstm:.2f}x", "", 2.0, lstm)
    last, every = (seconds[plain] / found for found in orthants(steps))
    yield _row("reset before / orthants of the last states", f"{last:.4f}x")
    yield _row("reset before / orthants of all states", f"{every:.5f}x", "", 0.01, every)
    for name in ("GRU", "LSTM"):
        taken, error = pair(CELLS[name], steps, "ntk", 2)
        yield _row(f"{name}, {steps} steps, NTK, a pair", f"{taken:.2f} s")
        yield _row(f"{'':4}its standard error", f"{error:.1e}")


def architectures(width: int) -> Iterator[str]:
    """Yield pairs in layers without closed forms."""
    yield "milliseconds a pair:"
    for name, case in bench_architectures.CASES.items():
        found = bench_architectures.milliseconds(name, repeats=1)
        yield _row(f"{'':4}{name}", f"{found:.3g} ms", "", case.target, found)


PARTS: dict[str, Callable[[int], Iterator[str]]] = {
    part.__name__: part
    for part in (products, depths, layers, cache, recursion, images, cells, architectures, process, memory)
}


def main() -> None:
    """Measure the parts asked for, all by default."""
    warnings.simplefilter("ignore")  # accuracies are rows of their own
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parts = parser.parse_args().parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown part {sorted(unknown)[0]}: choose from {', '.join(PARTS)}")

    import numpy as np  # noqa: F401  (its BLAS is listed next)
    from threadpoolctl import threadpool_info

    import tpnum.cli.doctor as doctor

    blas = next(pool for pool in threadpool_info() if pool["user_api"] == "blas")
    width = doctor.BLAS_WIDTHS.get(str(blas.get("architecture")).lower(), 128)
    print(
        f"N = 4096, X against X, NNGP + NTK; BLAS: {blas.get('architecture')}, {blas['num_threads']} threads"
    )
    print(f"{'':<46}{'cpu':>10}{'wall':>10}{'at most':>9}")
    for part in parts:
        for line in PARTS[part](width):
            print(line, flush=True)


if __name__ == "__main__":
    main()
