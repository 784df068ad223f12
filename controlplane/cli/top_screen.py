"""What ``cats top`` shows: an overview document in, lines out; keys change a `Screen`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlplane.cli.assignments import Selection
from controlplane.cli.text import LEGEND, align, mark, shorten, shorten_all
from controlplane.cli.top_columns import COLUMNS, Column

Document = Mapping[str, Any]
VIEWS = ("instances", "pairs", "sites")
KEYS = "1 2 3 view  s sort  r reverse  / filter  arrows PgUp PgDn scroll  q quit"
_LEAST_TEXT = 8
"""Columns from which a text at the end of a line is worth its room."""
TO = 4
"""Instances named on a pair's line."""
Row = list[Any]
"""Cells to sort by; `COLUMNS` says how each is written."""


@dataclass(slots=True)
class Screen:
    """What a person has chosen to see."""

    selection: Selection = field(default_factory=Selection)
    view: str = "instances"
    sort: int = 0
    reverse: bool = False
    offset: int = 0
    filter: str = ""
    typing: bool = False
    """Whether keys go into the filter."""

    def press(self, key: str, *, page: int = 10) -> bool:
        """Handle a key, or the name of one; return whether to continue.

        Args:
            key: a character, or ``up``, ``down``, ``page up``, ``page down``, ``home``, ``end``,
                ``tab``, ``enter``, ``escape``, ``backspace``.
            page: rows that a page scrolls by.
        """
        if self.typing:
            self._type(key)
            return True
        match key:
            case "q":
                return False
            case "1" | "2" | "3":
                self._show(VIEWS[int(key) - 1])
            case "tab":
                self._show(VIEWS[(VIEWS.index(self.view) + 1) % len(VIEWS)])
            case "s":
                self.sort = (self.sort + 1) % len(COLUMNS[self.view])
                self.reverse = COLUMNS[self.view][self.sort].right  # the largest first
            case "r":
                self.reverse = not self.reverse
            case "/":
                self.typing, self.filter, self.offset = True, "", 0
            case "escape":
                self.filter, self.offset = "", 0
            case _:
                steps = {"up": -1, "down": 1, "page up": -page, "page down": page}
                ends = {"home": 0, "end": 1_000_000}
                self.offset = max(0, ends.get(key, self.offset + steps.get(key, 0)))
        return True

    def _show(self, view: str) -> None:
        self.view, self.sort, self.reverse, self.offset = view, 0, False, 0

    def _type(self, key: str) -> None:
        if key in ("enter", "escape"):
            self.typing = False
            self.filter = self.filter if key == "enter" else ""
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif len(key) == 1 and key.isprintable():
            self.filter += key
        self.offset = 0


def build_lines(overview: Document, screen: Screen, *, width: int, height: int) -> list[str]:
    """Return the lines of a screen of *width* columns and *height* rows."""
    columns = COLUMNS[screen.view]
    rows = _rows(overview, screen)
    rows.sort(key=lambda row: _order(row[screen.sort]), reverse=screen.reverse)
    total = len(rows)
    head = headline(overview, width)
    room = max(1, height - len(head) - 3)
    screen.offset = min(screen.offset, max(0, total - room))
    shown = rows[screen.offset : screen.offset + room]
    status = _status(screen, columns, total, len(shown))
    table = _table(columns, shown, screen, width)
    keys = f"filter: {screen.filter}_" if screen.typing else KEYS
    if any("~" in line for line in table):
        status += "  ~ assumed"
    body = [*head, status[:width], *table]
    body += [""] * (height - 1 - len(body))
    return [*body, keys[:width]]


def _status(screen: Screen, columns: Sequence[Column], total: int, shown: int) -> str:
    arrow = "descending" if screen.reverse else "ascending"
    first = min(total, screen.offset + 1)
    parts = [f"{screen.view} {first}-{screen.offset + shown} of {total}"]
    parts.append(f"by {columns[screen.sort].name}, {arrow}")
    if screen.filter and not screen.typing:
        parts.append(f"filter '{screen.filter}' (Esc clears)")
    return "  ".join(parts)


def _order(value: Any) -> tuple[bool, Any]:
    """Sort what is not known before everything else."""
    return (value is not None, value if value is not None else 0)


def _rows(overview: Document, screen: Screen) -> list[Row]:
    rows = {"instances": _instances, "pairs": _pairs, "sites": _sites}[screen.view](
        overview, screen.selection
    )
    wanted = screen.filter.casefold()
    if not wanted:
        return rows
    return [row for row in rows if any(wanted in str(cell).casefold() for cell in row)]


def _instances(overview: Document, selection: Selection) -> list[Row]:
    return [
        [
            item["name"],
            item["site"],
            item["phase"],
            *(item[name] for name in ("running", "waiting", "planned", "rate")),
            item["latency"],
            item["failures"],
            item["age"],
            item["confidence"],
            item["reason"],
        ]
        for item in overview["instances"]
        if selection.instance in (None, item["name"])
    ]


def _pairs(overview: Document, selection: Selection) -> list[Row]:
    rows = []
    for service, flows in overview["flows"].items():
        for flow in flows:
            to = sorted(flow["to"], key=lambda item: -item[1])
            if not selection.holds(service, flow["from"]):
                continue
            if selection.instance is not None:
                to = [item for item in to if item[0] == selection.instance]
                if not to:
                    continue
            times = overview["latency"].get(service, {}).get(flow["from"], (None, None))
            text = "  ".join(f"{name} {share:.0%}" for name, share in to[:TO])
            more = f"  +{len(to) - TO}" if len(to) > TO else ""
            rows.append(
                [service, flow["from"], flow["rate"], *times[:2], (text or "no instance") + more]
            )
    return rows


def _sites(overview: Document, selection: Selection) -> list[Row]:
    return [
        [
            item["name"],
            item["kind"],
            *(item[name] for name in ("running", "waiting", "slots")),
            *(item[name] for name in ("envoys", "lagging", "power")),
            "  ".join(f"{count} {phase}" for phase, count in item["phases"].items()),
        ]
        for item in overview["sites"]
        if selection.site in (None, item["name"])
    ]


def _table(columns: Sequence[Column], rows: Sequence[Row], screen: Screen, width: int) -> list[str]:
    """Return head and rows; names are shortened to what the figures leave."""
    names = max(10, min(24, width // 7))
    written = [[column.name for column in columns]]
    for row in rows:
        cells = [column.write(cell) for column, cell in zip(columns, row, strict=True)]
        written.append(cells)
    for place in (0, 1):
        short = shorten_all([cells[place] for cells in written[1:]], names)
        for cells, name in zip(written[1:], short, strict=True):
            cells[place] = name
    if screen.view == "instances":
        # What is believed of an instance without reports is its prior.
        for cells, row in zip(written[1:], rows, strict=True):
            cells[5] = mark(cells[5], assumed=row[10] < 0.5 and row[5] is not None)
    return _fit(written, [i for i, column in enumerate(columns) if column.right], width)


def _fit(rows: Sequence[Sequence[str]], right: Sequence[int], width: int) -> list[str]:
    """Align rows in *width* columns: the last text is cut, figures go as whole columns."""
    kept = len(rows[0]) - 1
    while kept > 3 and max(map(len, align([row[:kept] for row in rows], right=right))) > width:
        kept -= 1
    lines = align([row[:kept] for row in rows], right=[i for i in right if i < kept])
    widest = max(map(len, lines))
    if width - widest > _LEAST_TEXT:
        room = width - widest - 2
        texts = [_cut(row[-1], room) for row in rows]
        lines = [f"{line.ljust(widest)}  {text}" for line, text in zip(lines, texts, strict=True)]
    return [line.rstrip()[:width] for line in lines]


def _cut(text: str, room: int) -> str:
    """Return *text* in *room* columns, without the cell (two spaces apart) that is cut."""
    if len(text) <= room:
        return text
    cells = text[: room - 1].rsplit("  ", 1)
    return f"{cells[0] if len(cells) > 1 else text[: room - 1]}…"


def headline(overview: Document, width: int) -> list[str]:
    """Return what concerns the whole fleet: plan, Envoys, and what is wrong."""
    plan = overview["plan"]
    count = sum(site["envoys"] for site in overview["sites"])
    envoys = f"{count} {'Envoy' if count == 1 else 'Envoys'}"
    parts = [f"plan {plan['version']}{' (held)' if plan['held'] else ''}", envoys]
    observing = overview["mode"] == "observe"
    parts.append("observe mode: decided, not pushed" if observing else f"mode {overview['mode']}")
    if (gone := overview["gone"])["count"]:
        ago = overview["at"] - gone["at"]
        parts.append(f"{gone['count']} left, {gone['id']} {ago:.0f} s ago")
    lines = ["  ".join(parts)]
    wrong = []
    if rejecting := sorted({item["envoy"] for item in overview["refusals"]}):
        wrong.append(f"rejecting: {', '.join(rejecting[:5])}")
    if overview["frozen"]:
        wrong.append("frozen: every instance is silent")
    if not overview["config"]["ok"]:
        wrong.append("the newest configuration is rejected")
    wrong += [
        f"canary: {each['policy']} for {each['service']} from {each['from']}"
        for each in overview["canaries"][:3]
    ]
    lines += [shorten(each, width) for each in wrong]
    return [shorten(line, width) for line in lines]


def whole_lines(overview: Document, selection: Selection, width: int) -> list[str]:
    """Return all views, one below the other, for what is no terminal."""
    lines = headline(overview, width)
    for view in VIEWS:
        screen = Screen(selection=selection, view=view)
        rows = _rows(overview, screen)
        rows.sort(key=lambda row: _order(row[0]))
        lines += ["", view, *_table(COLUMNS[view], rows, screen, width)]
    return [*lines, LEGEND] if any("~" in line for line in lines) else lines
