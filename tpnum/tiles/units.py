"""Seconds and bytes as text, in the unit that fits."""

from __future__ import annotations

TIMES = (
    (86400.0, "days"),
    (3600.0, "h"),
    (60.0, "min"),
    (1.0, "s"),
    (1e-3, "ms"),
    (1e-6, "us"),
    (1e-9, "ns"),
)
SIZES = ((50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"))


def duration(seconds: float) -> str:
    """Seconds with three digits, in the unit that these, rounded, reach."""
    size, unit = next((one for one in TIMES if seconds >= 0.9995 * one[0]), TIMES[-1])
    return f"{seconds / size:.3g} {unit}"


def storage(count: float) -> str:
    """Bytes with four digits."""
    for power, unit in SIZES:
        if count >= 2.0**power:
            return f"{count / 2.0**power:.4g} {unit}"
    return f"{count:.0f} bytes"
