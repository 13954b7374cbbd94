"""``tpnum doctor``: what this machine runs at, and what to do where speed is lost."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# widest vectors (bits) of OpenBLAS's x86 cores; those not named here use 128 or are not x86
BLAS_WIDTHS = {
    "haswell": 256,
    "zen": 256,
    "excavator": 256,
    "sandybridge": 256,
    "skylakex": 512,
    "cooperlake": 512,
    "sapphirerapids": 512,
}
_CORES = {512: "SkylakeX", 256: "Haswell"}
_PACKAGES = ("numba", "llvmlite", "numpy", "scipy", "joblib", "threadpoolctl")


def run(args: argparse.Namespace) -> None:
    """Print the report, section by section."""
    for line in report():
        print(line, flush=True)


def report() -> Iterator[str]:
    """Yield the lines of the report; advice is marked by an arrow."""
    import tpnum

    system = f"{platform.system()} {platform.machine()}"
    yield f"tpnum {tpnum.__version__}, Python {platform.python_version()}, {system}"
    yield ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    width = vector_width()
    yield ""
    yield from _processor(width)
    yield ""
    yield from _blas(width)
    yield ""
    yield from _threads()
    yield ""
    yield from _numba(width)


def vector_width(features: Mapping[str, bool] | None = None) -> int:
    """Return the processor's vector width in bits, from the features that NumPy sees (0: unknown)."""
    if features is None:
        core = importlib.import_module("numpy._core" if int(np.__version__[0]) > 1 else "numpy.core")
        features = core._multiarray_umath.__cpu_features__
    for name, width in (("AVX512F", 512), ("AVX2", 256), ("SSE2", 128), ("NEON", 128)):
        if features.get(name):
            return width
    return 0


def blas_advice(architecture: str | None, width: int) -> str | None:
    """Return what to do when a BLAS core is narrower than the processor, or None."""
    have = BLAS_WIDTHS.get((architecture or "").lower())
    if have is None or have >= width or width not in _CORES:
        return None
    return (
        f"its {architecture} kernels use {have} of the processor's {width} bits: set OPENBLAS_CORETYPE="
        f"{_CORES[width]} in the environment before Python starts (matrix products up to twice as fast)"
    )


def _processor(width: int) -> Iterator[str]:
    vectors = {512: "AVX-512", 256: "AVX2", 128: "128-bit vectors"}.get(width, "vector width unknown")
    count = f"{os.cpu_count()} logical CPUs ({_usable()} usable)"
    yield f"processor        {_processor_name()}, {count}, {vectors}"
    caches = cache_sizes()
    if caches:
        yield "caches           " + ", ".join(f"{name} {size}" for name, size in caches.items())


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _usable() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_sizes(root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[str, str]:
    """Return the data caches of one core, as far as the system tells: {"L1": "48K", ...}."""
    sizes = {}
    for entry in sorted(root.glob("index*")):
        try:
            level, kind, size = ((entry / part).read_text().strip() for part in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            sizes[f"L{level}"] = size
    return sizes


def _blas(width: int) -> Iterator[str]:
    import scipy.linalg  # noqa: F401  (loads scipy's own BLAS, so that it is listed too)
    from threadpoolctl import threadpool_info, threadpool_limits

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    advised = False
    for pool in pools:
        owner = next((name for name in ("numpy", "scipy") if f"{name}.libs" in pool["filepath"]), "others")
        architecture = pool.get("architecture")
        yield (
            f"BLAS of {owner:<9}{pool['internal_api']} {pool['version']}, "
            f"{architecture or 'unknown'} kernels, {pool['num_threads']} threads"
        )
        advice = blas_advice(architecture, width)
        if advice and not advised:
            yield f"  -> {advice}"
            advised = True
    if not pools:
        yield "BLAS             none that threadpoolctl knows"
    if forced := os.environ.get("OPENBLAS_CORETYPE"):
        yield f"                 OPENBLAS_CORETYPE={forced} is set in the environment"
    speeds = []
    for dtype in (np.float64, np.float32):
        with threadpool_limits(1):
            one = gemm_speed(dtype)
        speeds.append(f"{np.dtype(dtype).name} {one:.0f} GF/s on one thread, {gemm_speed(dtype):.0f} on all")
    yield f"matrix product   {'; '.join(speeds)}"


def gemm_speed(dtype: Any, size: int = 768, seconds: float = 0.1) -> float:
    """Return the best speed of a square matrix product, in 10^9 operations a second."""
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((size, size)).astype(dtype) for _ in range(2))
    out = np.empty((size, size), dtype)
    return 2e-9 * size**3 / _best(lambda: np.matmul(left, right, out=out), seconds)


def _best(action: Callable[[], object], seconds: float) -> float:
    action()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def _threads() -> Iterator[str]:
    import joblib

    threads = joblib.effective_n_jobs(-1)
    yield f"threads          {threads} over tiles by default; the BLAS is held at one inside each"
    libraries = ("OMP", "OPENBLAS", "MKL", "NUMBA")
    names = (*(f"{library}_NUM_THREADS" for library in libraries), "LOKY_MAX_CPU_COUNT")
    for name in names:
        if value := os.environ.get(name):
            yield f"                 {name}={value}"


def _numba(width: int) -> Iterator[str]:
    import numba
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    compiled = 512 if features.get("avx512f") else 256 if features.get("avx2") else 128
    limited = numba.config.CPU_FEATURES or numba.config.CPU_NAME
    yield f"kernels          compiled by numba for {binding.get_host_cpu_name()}, {compiled}-bit vectors"
    if limited:
        yield f"  -> NUMBA_CPU_NAME or NUMBA_CPU_FEATURES is set ({limited}): unset it"
    elif width > compiled:
        yield f"  -> LLVM sees less than the processor's {width} bits: a newer numba may know this processor"
    if numba.config.DISABLE_JIT:
        yield "  -> NUMBA_DISABLE_JIT is set: kernels run as plain Python, hundreds of times slower; unset it"
        return
    yield from _cache()


def _cache() -> Iterator[str]:
    from tpnum.kernels._cache import folder_name
    from tpnum.kernels._folders import candidates, lasts

    folder = cache_folder()
    kept = sum(len(list(each.glob("*.nbc"))) for each in candidates(folder_name()))
    held = f"{kept} compiled kernels" if kept else "empty: tpnum warm fills it"
    yield f"kernel cache     {folder or 'no folder can be written'} ({held})"
    advice = "set NUMBA_CACHE_DIR to a folder that can be written"
    if folder is None:
        yield f"  -> what is compiled is lost with the process: {advice}"
    elif not lasts(folder):
        yield f"  -> a temporary folder, the only one that can be written: {advice}"


def cache_folder() -> Path | None:
    """Return the folder that takes newly compiled kernels, or None where none can be written."""
    from tpnum.kernels._cache import folder_name
    from tpnum.kernels._folders import home

    return home(folder_name())
