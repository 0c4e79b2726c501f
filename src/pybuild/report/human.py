"""Sizes and times for people."""

from __future__ import annotations


def size(count: int) -> str:
    """Bytes in decimal units: ``512 B``, ``1.5 kB``, ``23 MB``."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5:
            return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"
    return f"{value / 1000:.1f} PB"


def seconds(value: float) -> str:
    """Seconds as ``0.4 s``, ``12.3 s``, ``2m05s``, ``1h02m``."""
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def count(number: int, one: str) -> str:
    """``1 layer``, ``2 layers``."""
    return f"{number} {one}" if number == 1 else f"{number} {one}s"
