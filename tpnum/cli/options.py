"""How the values of options are read from what was typed: refusals say what to type."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from math import inf

GETS = ("nngp", "ntk")


def gets(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    unknown = [name for name in names if name not in GETS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown kernel {unknown[0]!r}: give nngp, ntk or nngp,ntk")
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} names a kernel twice")
    return names


def deviations(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(
            f"{text!r} lacks a name: give deviations of the net, as in W_std,b_std or layers[2].b_std"
        )
    for name in names:
        if name in ("x1", "x2"):
            raise argparse.ArgumentTypeError(
                f"derivatives by {name!r} are summed and not stored: tpnum.kernel takes them with against="
            )
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} names a deviation twice")
    return names


def whole(least: int, what: str) -> Callable[[str], int]:
    """A whole number, 1e5 among them, of at least so much."""

    def convert(text: str) -> int:
        value: float = inf
        for read in (int, float):  # floats have no more than 53 bits of a whole number
            with suppress(ValueError):
                value = read(text)
                break
        if not least <= value < inf or value != int(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return int(value)

    return convert


def shape(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = (0,)
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the shape of one example: give its sizes, features last, as in 32,32,3"
        )
    return sizes


def jobs(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads (-1: all processors)")
    return value


def noise(text: str) -> float | str:
    if text == "fit":
        return text
    return _real(text, lambda value: 0.0 <= value < inf, "no variance: give a number of at least 0, or fit")


def share(text: str) -> float:
    return _real(text, lambda value: 0.0 < value < 1.0, "no share between 0 and 1")


def _real(text: str, fits: Callable[[float], bool], words: str) -> float:
    """The number that a text writes, if it fits."""
    with suppress(ValueError):
        if fits(value := float(text)):
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is {words}")
