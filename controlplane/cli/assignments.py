"""Assignments for people, from the documents of the API: in full, a line a pair, or summed up.

Every view is at most as wide as the terminal; a number is never cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.admin_api.reasons import group_reasons, group_texts
from controlplane.cli.alike import NEAR, group_alike, most_used, rest_words
from controlplane.cli.text import (
    ASSUMED,
    ELLIPSIS,
    LEGEND,
    align,
    echo,
    mark,
    milliseconds,
    name_list,
    percent,
    shorten_all,
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
NAMED = 5
"""Names in a list of instances that get no requests, or only if others fail."""
ALIKE = "such as "
"""How the line begins that says what a count before a share means."""
NARROW = 110
"""Columns below which an instance's terms are a sum on one line instead of a table's cells."""


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


def explanation_lines(
    document: Document, width: int, *, instance: str | None = None, each: bool = False
) -> list[str]:
    """Return the instances and the excluded of one ``/api/v1/explain`` document.

    Args:
        document: the document.
        width: columns of the terminal.
        instance: show only this one.
        each: show every instance by itself, however alike and however many they are.
    """
    items = Selection(instance=instance).keep(document["instances"])
    excluded = Selection(instance=instance).keep(document["excluded"])
    used = [item for item in items if not item["priority"]]
    spare = [item for item in items if item["priority"]]
    lines = _used_lines(used, width, each=each)
    if spare:
        names = [item["instance"] for item in spare]
        words = name_list(names, most=len(names) if each else NAMED).split()
        lines += wrap(words, width, first="fallback, if all of these fail: ")
    lines += _state_lines(document, {item["instance"] for item in [*items, *excluded]}, width)
    for reason, names in group_reasons(excluded):
        head = f"no requests for {len(names)}: " if len(names) > 1 else "no requests: "
        listed = name_list(names, most=len(names) if each else NAMED)
        lines += wrap([*listed.split(), *f"({reason})".split()], width, first=head)
    if any(line for line in lines if "~" in line):
        lines.append(LEGEND)
    return lines


def _used_lines(used: Sequence[Document], width: int, *, each: bool) -> list[str]:
    """Return the instances that get requests: a line of one, or of many that are alike."""
    if each:
        return _rows(used, width, {})
    shown, rest = most_used(group_alike(used))
    counts = {group.shown["instance"]: len(group.items) for group in shown}
    lines = _rows([group.shown for group in shown], width, counts)
    if rest:
        lines += wrap(rest_words(rest).split(), width)
    for group in [group for group in shown if len(group.items) > 1][:1]:
        words = (
            f"{_share(group.shown, counts)}: {len(group.items)} instances whose shares and costs"
            f" are within {NEAR:.0%} of each other; the figures are those of the one named"
        )
        lines += wrap(words.split(), width, first=ALIKE)
    if len(used) > len(shown):
        lines.append("--each shows every instance, --instance NAME one")
    return lines


def _rows(items: Sequence[Document], width: int, counts: Mapping[str, int]) -> list[str]:
    return _table(items, width, counts) if width >= NARROW else _sums(items, width, counts)


def _share(item: Document, counts: Mapping[str, int]) -> str:
    """Return a share, and of how many instances it is that of each."""
    count = counts.get(item["instance"], 1)
    return percent(item["share"]) if count == 1 else f"{count} x {percent(item['share'])}"


def _state_lines(document: Document, named: set[str], width: int) -> Iterator[str]:
    """Return what is not well with the *named* instances, or not believed; alike ones in one."""
    failing = []
    for item in document.get("failing", ()):
        if item["instance"] in named:
            words = (
                f"fails {item['probability']:.0%} of its requests more than"
                f" other instances do ({item['class'].replace('_', ' ')}) for"
                f" {item['since']:.0f} s; it awaits {item['awaited']}"
            )
            failing.append((item["instance"], words))
    states = []
    for item in document.get("states", ()):
        if item["instance"] in named:
            words = f"{item['phase'].replace('_', ' ')} for {item['since']:.0f} s"
            words += f": {item['reason']}" if item["reason"] else ""
            words += f"; it awaits {item['awaited']}" if item["awaited"] else ""
            # Of one that is out of service nothing counts, whatever it claimed before.
            if item["disbelieved"] and item["phase"] not in ("expired", "not_ready", "asleep"):
                words += f"; not believed: {', '.join(item['disbelieved'])}"
            states.append((item["instance"], words))
    for text, names in (*group_texts(failing), *group_texts(states)):
        yield from wrap(f"{name_list(names)}: {text}".split(), width)


def _table(items: Sequence[Document], width: int, counts: Mapping[str, int]) -> list[str]:
    terms = [
        name
        for name in TERMS
        if any(abs(item.get("terms", {}).get(name) or 0) > 0 for item in items)
    ]
    head = ["instance", "site", "share", "was", "weight", *terms]
    head += ["latency", "cost", "load", "known", "limits"]
    rows = [_table_row(item, terms, counts) for item in items]
    reserved = 20
    if not any(row[-1] for row in rows):
        head[-1], reserved = "", 0
    fixed = sum(max(len(row[i]) for row in [head, *rows]) + 2 for i in range(2, len(head) - 1))
    room = max(8, min(30, (width - fixed - reserved) // 2))
    for column in (0, 1):
        names = shorten_all([row[column] for row in rows], room)
        for row, name in zip(rows, names, strict=True):
            row[column] = name
    lines = align([head, *rows], right=range(2, len(head) - 1))
    broken = [line for line in lines if len(line) > width]
    if not broken:
        return [*lines, "times in milliseconds"]
    limits = [(row[0], row[-1]) for row in rows if row[-1]]
    lines = align([row[:-1] for row in [head, *rows]], right=range(2, len(head) - 1))
    if any(len(line) > width for line in lines):
        return _sums(items, width, counts)
    return [*lines, "times in milliseconds", *_limit_lines(limits, width)]


def _limit_lines(limits: Iterable[tuple[str, str]], width: int) -> Iterator[str]:
    for name, text in limits:
        yield from wrap(text.split(), width, first=f"{name}: ")


def _table_row(item: Document, terms: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    head = [item["instance"], item["site"], _share(item, counts)]
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


def _sums(items: Sequence[Document], width: int, counts: Mapping[str, int]) -> list[str]:
    """Return a line an instance: ``a  75.0%  959 ms = rtt 4 + service 500 + ...``."""
    shares = [_share(item, counts) for item in items]
    end = max(6, *map(len, shares)) if shares else 6
    room = max(10, width - 50 - end)
    names = shorten_all([item["instance"] for item in items], room)
    pad = max(map(len, names), default=0)
    lines = []
    for name, share, item in zip(names, shares, items, strict=True):
        head = f"{name.ljust(pad)} {share.rjust(end)}  "
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


def fit(line: str, width: int) -> str:
    """Cut a line to *width*."""
    cells = line.split("  ")
    while len("  ".join(cells)) > width - 2 and len(cells) > 1:
        cells.pop()
    return f"{'  '.join(cells)} {ELLIPSIS}"


_QUIET = ("no requests", "times in", "fallback", ALIKE, "--each", LEGEND)
"""How lines begin that are dim."""


def print_lines(lines: Iterable[str]) -> None:
    """Print lines; what gets no requests and legends are dim."""
    quiet = False
    for line in lines:
        # What a line is wrapped into is as quiet as its beginning.
        if not line.startswith(" "):
            quiet = line.startswith(_QUIET)
        if quiet:
            echo(line, dim=True)
        else:
            echo(line)
