"""Values of slow oracles as data: what they once returned, by their arguments, in tests/data/recorded.json.

An oracle that is decorated here is computed only for arguments that have no row.  New rows are written by

    TPNUM_RECORD=1 python -m pytest -n 0 tests/test_gauss_special.py ...

and `test_recorded.py` computes rows anew: some by day, all by night.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parent.parent / "data" / "recorded.json"
ORACLES: dict[str, Callable[..., float]] = {}
"""name -> the oracle itself."""


@cache
def table() -> dict[str, dict[str, float]]:
    """oracle -> arguments, as JSON writes them -> value."""
    made: dict[str, dict[str, float]] = json.loads(FILE.read_text()) if FILE.exists() else {}
    return made


def recorded(oracle: Callable[..., float]) -> Callable[..., float]:
    """An oracle of numbers and words, by the table where that has its arguments."""
    ORACLES[oracle.__name__] = oracle

    @wraps(oracle)
    def found(*arguments: Any) -> float:
        key = json.dumps([a if isinstance(a, str | int) else float(a) for a in arguments])
        rows = table().setdefault(oracle.__name__, {})
        if key not in rows:
            rows[key] = float(oracle(*arguments))
            if os.environ.get("TPNUM_RECORD"):
                FILE.write_text(json.dumps(table(), indent=0, sort_keys=True) + "\n")
        return rows[key]

    return found
