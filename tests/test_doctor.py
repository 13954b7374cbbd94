"""`tpnum doctor` and `tpnum warm`: the advice follows from what was found."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tpnum.cli import doctor, main

Python = Callable[..., "subprocess.CompletedProcess[str]"]


def test_the_report_names_what_is_in_effect(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"numpy {np.__version__}" in out
    for word in ("processor", "BLAS of numpy", "matrix product", "threads", "kernels", "kernel cache"):
        assert re.search(rf"^{word}", out, re.MULTILINE), word
    assert os.environ["NUMBA_CACHE_DIR"] in out


@pytest.mark.parametrize(
    ("features", "width"),
    [({"SSE2": True, "AVX2": True, "AVX512F": True}, 512), ({"AVX2": True, "AVX512F": False}, 256), ({}, 0)],
)
def test_vector_width(features: dict[str, bool], width: int) -> None:
    assert doctor.vector_width(features) == width


def test_this_processor_has_vectors() -> None:
    assert doctor.vector_width() in (0, 128, 256, 512)


@pytest.mark.parametrize(
    ("architecture", "width", "core"),
    [
        ("Haswell", 512, "SkylakeX"),
        ("Zen", 512, "SkylakeX"),
        ("Haswell", 256, None),
        ("SkylakeX", 512, None),
        ("Sandybridge", 256, None),
        ("neoversen1", 128, None),
        (None, 512, None),
    ],
)
def test_blas_advice(architecture: str | None, width: int, core: str | None) -> None:
    advice = doctor.blas_advice(architecture, width)
    assert (advice is None) == (core is None)
    if advice is not None:
        assert f"OPENBLAS_CORETYPE={core}" in advice
        assert "before Python starts" in advice


def test_cache_sizes(tmp_path: Path) -> None:
    for index, values in enumerate(
        [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "1024K")]
    ):
        (tmp_path / f"index{index}").mkdir()
        for part, value in zip(("level", "type", "size"), values, strict=True):
            (tmp_path / f"index{index}" / part).write_text(value + "\n")
    (tmp_path / "index3").mkdir()
    assert doctor.cache_sizes(tmp_path) == {"L1": "48K", "L2": "1024K"}
    assert doctor.cache_sizes(tmp_path / "nowhere") == {}


def test_gemm_speed_is_a_speed() -> None:
    assert 0.01 < doctor.gemm_speed(np.float32, size=64, seconds=0.01) < 1e5


def test_environment_that_slows_down_is_told(python: Python) -> None:
    done = python("-m", "tpnum", "doctor", env={"NUMBA_DISABLE_JIT": "1", "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "-> NUMBA_DISABLE_JIT is set" in done.stdout
    assert "OMP_NUM_THREADS=1" in done.stdout
    done = python("-m", "tpnum", "doctor", env={"NUMBA_CPU_NAME": "generic"})
    assert "-> NUMBA_CPU_NAME" in done.stdout


def test_warm_leaves_nothing_to_compile(python: Python, warmed: str) -> None:
    assert re.match(r"(compiled [1-9]\d* functions|nothing to compile) in \d", warmed)
    assert os.environ["NUMBA_CACHE_DIR"] in warmed
    again = python(str(Path(__file__).parent / "oracle" / "unreached.py"))
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("nothing to compile in ")
    assert json.loads(again.stdout.splitlines()[-1]) == [], "kernels that warm does not come to"
