"""Functions that are known above the line, on both sides of it."""

from __future__ import annotations

from typing import Any

import numpy as np


def joined(real: np.ndarray, imag: np.ndarray) -> np.ndarray:
    """Complex numbers whose zeros keep their signs, which say from where the line is approached."""
    made = np.empty(np.shape(real), np.complex128)
    made.real, made.imag = real, imag
    return made


def both_sides(f: Any, z: np.ndarray) -> np.ndarray:
    """An f that is known above the line, by f(conj z) = conj f(z)."""
    below = np.signbit(z.imag)
    made = f(np.where(below, np.conj(z), z).reshape(-1)).reshape(z.shape)
    return np.where(below, np.conj(made), made)


def both_sides_with_slope(f: Any, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A function and its slope, known above the line, anywhere."""
    below = np.signbit(z.imag)
    value, slope = f(np.where(below, np.conj(z), z))
    return np.where(below, np.conj(value), value), np.where(below, np.conj(slope), slope)
