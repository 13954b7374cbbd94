"""Data sets that ship with scikit-learn."""

from __future__ import annotations

from typing import Any

from sklearn import datasets


def digits() -> Any:
    """The 1,797 handwritten digits: rows of 64 pixels, and labels."""
    return datasets.load_digits(return_X_y=True)
