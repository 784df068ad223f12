"""Which engine wrote a page."""

from __future__ import annotations

from controlplane.config.engine import Engine
from controlplane.telemetry.engines.dialect import Dialect, Expected
from controlplane.telemetry.engines.tables import DIALECTS


def recognise_engine(text: str) -> Engine | None:
    """Return the engine whose metrics *text* holds; None if unknown, or only generic ones."""
    for engine, dialect in DIALECTS.items():
        if dialect.distinct and speaks(text, dialect):
            return engine
    return None


def marks(dialect: Dialect) -> tuple[str, ...]:
    """Return how lines begin that only this engine writes."""
    return dialect.marks or tuple(
        rule.aliases[0].name for rule in dialect.rules if rule.expected is Expected.ALWAYS
    )


def speaks(text: str, dialect: Dialect) -> bool:
    """Return whether a line of *text* is of this engine."""
    return any(f"\n{mark}" in text or text.startswith(mark) for mark in marks(dialect))
