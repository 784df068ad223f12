"""Which values of a page are of now: those of a dead process stay on it with an old time."""

from __future__ import annotations

from controlplane.errors import ReportError
from controlplane.telemetry.engines.series import Series

MAX_AGE = 300.0
"""Seconds; a page that says it is older is a relay's that no longer reads its source."""
APART = 30.0
"""Seconds by which a sample may be older than the newest of its page."""


def of_now(
    samples: dict[str, Series], wall: float | None
) -> tuple[dict[str, Series], float, list[str]]:
    """Leave out what is older than the rest; also return the age of the rest, in seconds."""
    stamps = [each.at for series in samples.values() for each in series if each.at is not None]
    if wall is None or not stamps:
        return samples, 0.0, []
    total = sum(map(len, samples.values()))
    # What bears no timestamp is of now. A clock ahead of ours makes nothing younger than that.
    newest = wall if len(stamps) < total else min(wall, max(stamps))
    age = wall - newest
    if age > MAX_AGE:
        raise ReportError(
            f"its samples are {age:.0f} s old by their own timestamps; "
            "scrape the engine itself, or see why the relay no longer does, unless the clocks of"
            " the two machines differ"
        )
    ignored: list[str] = []
    kept: dict[str, Series] = {}
    for name, series in samples.items():
        fresh = [each for each in series if each.at is None or newest - each.at <= APART]
        if fresh:
            kept[name] = fresh
        if len(fresh) < len(series):
            oldest = min(each.at for each in series if each.at is not None)
            ignored.append(f"{name}: measured {newest - oldest:.0f} s before the others")
    return kept, age, ignored
