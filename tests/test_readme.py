"""What README.md shows can be typed as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpnum.cli.parser import build

TEXT = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in _blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["k"].shape == (1000, 1000)
    np.testing.assert_allclose(names["both"].ntk, names["k"][:, :10], rtol=1e-12)
    assert names["law"].cov(names["s"], names["s"]).value > 1


def test_two_commands_do_all_the_set_up() -> None:
    lines = [line for block in _blocks("sh") for line in block.splitlines() if "venv" in line]
    assert [line.split(" && ")[-1] for line in lines] == [".venv/bin/tpnum demo digits", ".venv/bin/pytest"]


def test_the_command_lines_parse() -> None:
    lines = [line for block in _blocks("sh") for line in block.splitlines() if line.startswith("tpnum ")]
    commands = [build().parse_args(shlex.split(line, comments=True)[1:]).command for line in lines]
    assert commands == ["kernel", "plan", "doctor", "warm"]
