"""Texts for a terminal: what does not fit is shortened where it hurts least."""

from __future__ import annotations

ELLIPSIS = "…"


def shorten(name: str, width: int) -> str:
    """Return *name*, shortened in its middle to *width* columns: names differ at their ends."""
    if len(name) <= width:
        return name
    if width < 3:
        return name[:width]
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail]}{ELLIPSIS}{name[len(name) - tail :]}"


def milliseconds(seconds: float | None) -> str:
    """Write a duration in milliseconds, never in powers of ten."""
    if seconds is None:
        return "-"
    value = seconds * 1000
    if abs(value) >= 10 or value == 0:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 0.1 else f"{value:.2f}"


def number(value: float | None) -> str:
    """Write a rate or a cost with three digits that count, never in powers of ten."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"
