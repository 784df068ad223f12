"""What energy costs, as a feed says it: YAML or JSON to reports, each site checked by itself.

```yaml
sites:
  cloud-1: {price: 0.21, carbon: 310}   # of a kilowatt-hour: currency, grams of CO2
  edge-north: {carbon: 24}
```
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from controlplane.config.source import parse_source
from controlplane.errors import ConfigError, ReportError
from controlplane.model import Source, TariffReport
from controlplane.telemetry.limits import MAX_CARBON, MAX_ENERGY_PRICE

MAX_TARIFFS = 1_000_000
"""Bytes of a feed."""

_LIMITS = {"price": MAX_ENERGY_PRICE, "carbon": MAX_CARBON}


def parse_tariffs(
    text: str, *, origin: str, sites: Collection[str], at: float
) -> tuple[list[TariffReport], tuple[str, ...]]:
    """Return the tariffs of the *sites* that the feed names, and what of them is rejected.

    Sites that are not among *sites* are left out without a word: a feed may serve several fleets.
    Energy whose price is negative, as markets have it at times, counts as free.

    Args:
        text: of the feed.
        origin: its file or URL, for the words of an error.
        sites: those of the configuration.
        at: when it was read.

    Raises:
        ReportError: it is no such document, or names no site of the fleet.
    """
    if len(text) > MAX_TARIFFS:
        raise ReportError(f"tariffs of more than {MAX_TARIFFS} bytes")
    try:
        document = parse_source(text, file=origin)
    except ConfigError as error:
        # Its words are about the configuration; the first line says where and what.
        raise ReportError(f"is not a YAML or JSON mapping: {error.faults[0].message}") from error
    if document.faults:
        raise ReportError(document.faults[0].message)
    tree: Any = document.tree
    rows = tree.get("sites") if isinstance(tree, Mapping) else None
    if not isinstance(rows, Mapping):
        raise ReportError("has no mapping 'sites' of names to price and carbon")
    reports: list[TariffReport] = []
    rejected: list[str] = []
    for name in sorted(rows.keys() & set(sites)):
        try:
            values = {key: _read(key, value) for key, value in _items(rows[name])}
            if not values:
                raise ReportError("says neither price nor carbon")  # noqa: TRY301
            reports.append(
                TariffReport(name, Source.FEED, at, values.get("price"), values.get("carbon"))
            )
        except ReportError as error:
            rejected.append(f"{name}: {error}")
    if not reports and not rejected:
        raise ReportError("names none of the configured sites")
    return reports, tuple(rejected)


def _items(row: Any) -> list[tuple[str, Any]]:
    if not isinstance(row, Mapping):
        raise ReportError("is not a mapping of price and carbon")
    return [(key, row[key]) for key in _LIMITS if row.get(key) is not None]


def _read(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ReportError(f"{key} is not a number")
    limit = _LIMITS[key]
    least = -limit if key == "price" else 0.0
    # NaN fails every comparison, so it lands here too.
    if not least <= value <= limit:
        raise ReportError(f"{key} is {value:g}; it lies between {least:g} and {limit:g}")
    return max(0.0, float(value))
