"""Assignments for people, from the documents of the API: in full, a line a pair, or summed up.

Every view is at most as wide as the terminal; a number is never cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

from controlplane.admin_api.reasons import group_reasons
from controlplane.cli.text import (
    ASSUMED,
    ELLIPSIS,
    LEGEND,
    align,
    echo,
    mark,
    milliseconds,
    name_list,
    number,
    percent,
    shorten,
    wrap,
)

Document = Mapping[str, Any]
TERMS = (
    *("rtt", "transfer", "service", "queueing"),
    *("penalty", "energy", "carbon", "price", "loading", "failure", "promise", "crowding"),
)
"""In the order of the request's way, then what is added to steer by."""
_SOURCE_OF = {"rtt": "rtt", "service": "capacity"}
"""Term -> the input whose source it rests on."""
NARROW = 110
"""Columns below which an instance's terms are a sum on one line instead of a table's cells."""
SHOWN = 3
"""Instances named on a pair's line."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which pairs and instances to show; None stands for all."""

    service: str | None = None
    site: str | None = None
    instance: str | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is left out."""
        return self.service is None and self.site is None and self.instance is None

    def holds(self, service: str, site: str) -> bool:
        """Whether the pair is to be shown."""
        return self.service in (None, service) and self.site in (None, site)

    def keep(self, items: Iterable[Document]) -> list[Document]:
        """Return the items of the wanted instance, or all."""
        return [item for item in items if self.instance in (None, item["instance"])]


def explanation_lines(document: Document, width: int, *, instance: str | None = None) -> list[str]:
    """Return the instances and the excluded of one ``/api/v1/explain`` document."""
    items = Selection(instance=instance).keep(document["instances"])
    excluded = Selection(instance=instance).keep(document["excluded"])
    used = [item for item in items if not item["priority"]]
    spare = [item for item in items if item["priority"]]
    lines = _table(used, width) if width >= NARROW else _sums(used, width)
    if spare:
        words = [f"{item['instance']}," for item in spare]
        lines += wrap(
            [*words[:-1], words[-1][:-1]], width, first="fallback, if all of these fail: "
        )
    lines += _state_lines(document, {item["instance"] for item in [*items, *excluded]}, width)
    for reason, names in group_reasons(excluded):
        head = f"no requests for {len(names)}: " if len(names) > 1 else "no requests: "
        lines += wrap([*name_list(names).split(), *f"({reason})".split()], width, first=head)
    if any(line for line in lines if "~" in line):
        lines.append(LEGEND)
    return lines


def _state_lines(document: Document, named: set[str], width: int) -> Iterator[str]:
    """Return what is not well with the *named* instances, or not believed; alike ones in one."""
    for item in document.get("failing", ()):
        if item["instance"] in named:
            words = (
                f"{item['instance']}: fails {item['probability']:.0%} of its requests more than"
                f" other instances do ({item['class'].replace('_', ' ')}) for"
                f" {item['since']:.0f} s; it awaits {item['awaited']}"
            )
            yield from wrap(words.split(), width)
    alike: dict[str, list[str]] = {}
    for item in document.get("states", ()):
        if item["instance"] in named:
            words = f"{item['phase'].replace('_', ' ')} for {item['since']:.0f} s"
            words += f": {item['reason']}" if item["reason"] else ""
            words += f"; it awaits {item['awaited']}" if item["awaited"] else ""
            # Of one that is out of service nothing counts, whatever it claimed before.
            if item["disbelieved"] and item["phase"] not in ("expired", "not_ready", "asleep"):
                words += f"; not believed: {', '.join(item['disbelieved'])}"
            alike.setdefault(words, []).append(item["instance"])
    for words, names in alike.items():
        yield from wrap(f"{name_list(names)}: {words}".split(), width)


def _table(items: Sequence[Document], width: int) -> list[str]:
    terms = [
        name
        for name in TERMS
        if any(abs(item.get("terms", {}).get(name) or 0) > 0 for item in items)
    ]
    head = ["instance", "site", "share", "was", "weight", *terms]
    head += ["latency", "cost", "load", "known", "limits"]
    rows = [_table_row(item, terms) for item in items]
    reserved = 20
    if not any(row[-1] for row in rows):
        head[-1], reserved = "", 0
    fixed = sum(max(len(row[i]) for row in [head, *rows]) + 2 for i in range(2, len(head) - 1))
    room = max(8, min(30, (width - fixed - reserved) // 2))
    for row in rows:
        row[:2] = (shorten(row[0], room), shorten(row[1], room))
    lines = align([head, *rows], right=range(2, len(head) - 1))
    broken = [line for line in lines if len(line) > width]
    if not broken:
        return [*lines, "times in milliseconds"]
    limits = [(row[0], row[-1]) for row in rows if row[-1]]
    lines = align([row[:-1] for row in [head, *rows]], right=range(2, len(head) - 1))
    if any(len(line) > width for line in lines):
        return _sums(items, width)
    return [*lines, "times in milliseconds", *_limit_lines(limits, width)]


def _limit_lines(limits: Iterable[tuple[str, str]], width: int) -> Iterator[str]:
    for name, text in limits:
        yield from wrap(text.split(), width, first=f"{name}: ")


def _table_row(item: Document, terms: Sequence[str]) -> list[str]:
    head = [item["instance"], item["site"], percent(item["share"])]
    if "terms" not in item:
        return [*head, "", str(item["weight"]), *("" for _ in terms), "", "", "", "", ""]
    return [
        *head,
        percent(item["previous_share"]),
        str(item["weight"]),
        *(_term(item, name) for name in terms),
        milliseconds(item["predicted_latency"]),
        milliseconds(item["marginal_cost"]),
        _load(item),
        f"{item['confidence']:.0%}",
        "; ".join(item["limits"]),
    ]


def _term(item: Document, name: str) -> str:
    source = item.get("sources", {}).get(_SOURCE_OF.get(name, ""), "")
    value = item["terms"].get(name)
    return mark(milliseconds(value), assumed=source in ASSUMED and bool(value))


def _load(item: Document) -> str:
    load = item["arrival_rate"] / item["capacity"] if item["capacity"] else 0.0
    return mark(f"{load:.0%}", assumed=item.get("sources", {}).get("capacity", "") in ASSUMED)


def _sums(items: Sequence[Document], width: int) -> list[str]:
    """Return a line an instance: ``a  75.0%  959 ms = rtt 4 + service 500 + ...``."""
    room = max(10, width - 56)
    names = [shorten(item["instance"], room) for item in items]
    pad = max(map(len, names), default=0)
    lines = []
    for name, item in zip(names, items, strict=True):
        head = f"{name.ljust(pad)} {percent(item['share']).rjust(6)}  "
        if "terms" not in item:
            lines.append(f"{head}weight {item['weight']}")
            continue
        terms = [
            f"{term} {_term(item, term)}"
            for term in TERMS
            if abs(item["terms"].get(term) or 0.0) >= 0.0005
        ]
        first = f"{milliseconds(item['marginal_cost'])} ms = {terms[0] if terms else 'nothing'}"
        words = [first, *(f"+ {term}" for term in terms[1:])]
        notes = [f"load {_load(item)}"]
        if abs(item["previous_share"] - item["share"]) >= 0.01:
            notes.append(f"was {percent(item['previous_share'])}")
        if item["confidence"] < 0.995:
            notes.append(f"known {item['confidence']:.0%}")
        words[-1] += ";"
        words += [f"{note}," for note in notes[:-1]] + notes[-1:]
        lines += wrap(words, width, first=head, rest=" " * 8)
        for limit in item["limits"]:
            lines += wrap(limit.split(), width, first="    limit: ", rest="      ")
    return lines


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
    for row in rows:
        row[:2] = (shorten(row[0], names), shorten(row[1], names))
    lines = align(rows, right=(2, 3))
    # Only the last column may lose something, and it is names' ends, whole cells at a time.
    lines = [line if len(line) <= width else _fit(line, width) for line in lines]
    for note, number_of in _count(remarks):
        lines += wrap([*note.split(), f"({number_of} pairs)"], width, first="note: ")
    return lines


def _fit(line: str, width: int) -> str:
    cells = line.split("  ")
    while len("  ".join(cells)) > width - 2 and len(cells) > 1:
        cells.pop()
    return f"{'  '.join(cells)} {ELLIPSIS}"


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
    lines = [line if len(line) <= width else _fit(line, width) for line in lines]
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


def print_lines(lines: Iterable[str]) -> None:
    """Print lines; what gets no requests and legends are dim."""
    quiet = False
    for line in lines:
        # What a line is wrapped into is as quiet as its beginning.
        if not line.startswith(" "):
            quiet = line.startswith(("no requests", "times in", "fallback", LEGEND))
        if quiet:
            echo(line, dim=True)
        else:
            echo(line)
