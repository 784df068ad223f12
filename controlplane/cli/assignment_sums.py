"""Assignments summed up: a line for each pair of client site and service, or for each service."""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum

from controlplane.cli.assignments import Document, Selection, fit
from controlplane.cli.text import (
    ASSUMED,
    align,
    mark,
    milliseconds,
    number,
    percent,
    shorten,
    shorten_all,
    wrap,
)

SHOWN = 3
"""Instances named on a pair's line."""


def pair_lines(
    documents: Iterable[Document], width: int, *, instance: str | None = None
) -> list[str]:
    """Return a line for each service and client site: demand, latency, where most goes."""
    rows = [["service", "from", "req/s", "ms", "to"]]
    remarks = []
    for item in documents:
        chosen = Selection(instance=instance).keep(item["instances"])
        if instance is not None and not chosen:
            continue
        used = sorted(
            (each for each in chosen if not each["priority"]), key=lambda each: -each["share"]
        )
        to = [f"{each['instance']} {percent(each['share'])}" for each in used[:SHOWN]]
        if len(used) > SHOWN:
            to.append(f"+{len(used) - SHOWN}")
        if not used:
            to = ["fallback only" if chosen else "no instance"]
        rows.append(
            [
                item["service"],
                item["from"],
                mark(number(item["demand"]), assumed=demand_assumed(item)),
                milliseconds(mean_latency(item)),
                "  ".join(to),
            ]
        )
        remarks.append(item["note"])
    names = max(10, (width - 40) // 3)
    for column in (0, 1):
        short = shorten_all([row[column] for row in rows], names)
        for row, name in zip(rows, short, strict=True):
            row[column] = name
    lines = align(rows, right=(2, 3))
    # Only the last column may lose something, and it is names' ends, whole cells at a time.
    lines = [line if len(line) <= width else fit(line, width) for line in lines]
    for note, number_of in _count(remarks):
        lines += wrap([*note.split(), f"({number_of} pairs)"], width, first="note: ")
    return lines


def _count(notes: Iterable[str]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for note in filter(None, notes):
        counts[note] = counts.get(note, 0) + 1
    return sorted(counts.items(), key=lambda item: -item[1])


def service_lines(documents: Iterable[Document], width: int, rows: int) -> list[str]:
    """Return at most *rows* lines, one a service, summed over its client sites."""
    groups: dict[str, list[Document]] = {}
    for item in documents:
        groups.setdefault(item["service"], []).append(item)
    table = [["service", "policy", "sites", "req/s", "ms", "instances", "stays", "served by"]]
    ranked = sorted(groups.items(), key=lambda item: -fsum(each["demand"] for each in item[1]))
    shown = ranked if len(ranked) <= rows - 1 else ranked[: max(1, rows - 2)]
    for service, items in shown:
        demand = fsum(item["demand"] for item in items)
        totals: dict[str, float] = {}
        local = 0.0
        for item in items:
            for each in item["instances"]:
                if not each["priority"]:
                    part = each["share"] * item["demand"]
                    totals[each["instance"]] = totals.get(each["instance"], 0.0) + part
                    local += part if each["site"] == item["from"] else 0.0
        whole = fsum(totals.values()) or 1.0
        most = sorted(totals.items(), key=lambda entry: -entry[1])[:2]
        latencies = [(item["demand"], mean_latency(item)) for item in items]
        known = [(rate, seconds) for rate, seconds in latencies if seconds is not None]
        mean = fsum(r * s for r, s in known) / (fsum(r for r, _ in known) or 1.0)
        lost = sum(not item["instances"] for item in items)
        table.append(
            [
                shorten(service, max(10, width - 66)),
                items[0]["policy"],
                str(len(items)),
                mark(number(demand), assumed=any(map(demand_assumed, items))),
                milliseconds(mean) if known else "-",
                str(len(totals)),
                f"{local / whole:.0%}",
                f"NO INSTANCE from {lost} sites"
                if lost
                else "  ".join(f"{name} {part / whole:.0%}" for name, part in most),
            ]
        )
    lines = align(table, right=(2, 3, 4, 5, 6))
    lines = [line if len(line) <= width else fit(line, width) for line in lines]
    if len(shown) < len(ranked):
        lines.append(f"{len(ranked) - len(shown)} more services with less demand")
    return lines


def demand_assumed(document: Document) -> bool:
    """Whether the demand that was decided on is not measured."""
    return document.get("demand_source", "") in ASSUMED


def mean_latency(document: Document) -> float | None:
    """Return the mean predicted latency of a pair in seconds; None where the plan has none."""
    if document.get("predicted_latency") is not None:
        return float(document["predicted_latency"])
    used = [each for each in document["instances"] if not each["priority"]]
    if not used or any("predicted_latency" not in each for each in used):
        return None
    return fsum(each["share"] * each["predicted_latency"] for each in used)
