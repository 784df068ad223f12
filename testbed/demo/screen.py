"""How the demo looks: values in, rich tables and plain lines out.

The live view fits 80 columns and 24 rows: what does not fit is shortened in the middle (names) or
left out with a count (reasons), never cut (numbers).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from controlplane.cli.text import shorten
from testbed.demo.records import Summary
from testbed.demo.world import World
from testbed.fakes.keda import Scaling
from testbed.fakes.webhook import WakeCall

SHOWN_SHARE = 0.005
"""Shares below this are left out of a cell."""
MIN_NAME = 7
"""Columns that a name keeps at least."""


@dataclass(slots=True)
class Scene:
    """What is to be seen now."""

    world: World
    elapsed: float = 0.0
    title: str = "starting"
    left: float | None = None
    """Seconds to the next phase; None at the end of the story."""
    seen: Mapping[tuple[str, str], Summary] = field(default_factory=dict)
    """(service, client site) -> the last seconds, as clients saw them."""
    control_plane: bool = True
    """Whether it answers."""
    plan: Mapping[str, Any] = field(default_factory=dict)
    fleet: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Service -> explanation, from the near client site."""
    dead: frozenset[str] = frozenset()
    """Instances that were killed."""
    admin: str = ""
    scaling: Mapping[tuple[str, str], Scaling] = field(default_factory=dict)
    calls: Sequence[WakeCall] = ()
    """Of the webhook that starts instances."""
    explained: Sequence[str] = ()
    """What was asked of one request, and answered."""
    woken: set[str] = field(default_factory=set)
    """Instances that run since such a call."""
    """(site, model) -> what an autoscaler was answered."""

    def planned(self, service: str, site: str) -> Mapping[str, float]:
        """Return instance -> share of the first priority, as planned."""
        clients = self.plan.get("services", {}).get(service, {}).get("from", {})
        return {
            each["instance"]: each["share"]
            for each in clients.get(site, ())
            if each["priority"] == 0
        }


def shares_text(shares: Mapping[str, float]) -> str:
    """Write shares, largest first."""
    ranked = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return "  ".join(f"{name or '?'} {share:.0%}" for name, share in ranked if share >= SHOWN_SHARE)


def seconds_text(seconds: float | None) -> str:
    """Write a duration in milliseconds."""
    return "-" if seconds is None or math.isnan(seconds) else f"{seconds * 1000:.0f}"


def reason_text(allocation: Mapping[str, Any]) -> str:
    """Write why one instance gets its share: what a request there costs, term by term."""
    terms = allocation.get("terms", {})
    parts = [
        f"{name} {seconds_text(value)}"
        for name, value in terms.items()
        if value is not None and value >= 0.0005
    ]
    cost = allocation.get("marginal_cost")
    limits = "".join(f"; {limit}" for limit in allocation.get("limits", ()))
    return f"{seconds_text(cost)} ms = {' + '.join(parts)}{limits}"


def fit_terms(line: str, width: int) -> str:
    """Bring a sum into *width* columns: closer, then without its last terms, none of them cut."""
    if len(line) > width:
        line = line.replace(" + ", "+")
    while len(line) > width and "+" in (kept := line.removesuffix("+…")):
        line = kept.rpartition("+")[0] + "+…"
    return line


def scaling_lines(scene: Scene) -> Iterable[str]:
    """Write, for each site and model that KEDA scales, what it is answered."""
    for (site, model), answer in scene.scaling.items():
        running = sum(name not in scene.dead for name in scene.world.scaled[site, model])
        if answer.error:
            said = f"{answer.error}, so it changes nothing"
        else:
            state = "active" if answer.active else "idle"
            said = f"{answer.replicas} of {answer.metric} / {answer.target:g}, {state}"
        yield f"KEDA asks for {site}/{model}: {said}; {running} run"


def start_lines(scene: Scene) -> Iterable[str]:
    """Write, for each instance that slept at first, why its webhook was called."""
    called = {call.document["instance"]: call.document["reason"] for call in scene.calls}
    for name in scene.world.asleep:
        state = "runs" if name in scene.woken else "starts" if name in called else "is asleep"
        reason = f"; webhook called: {called[name]}" if name in called else ""
        yield f"{name} {state}{reason}"


def build_live(scene: Scene, *, width: int = 80, height: int = 24) -> RenderableType:
    """Draw the whole screen.

    Args:
        scene: what is to be seen.
        width: columns of the terminal.
        height: rows of the terminal.
    """
    head = _heading(scene, width)
    tables = [_traffic_table(scene, width), _instance_table(scene, width)]
    used = len(head) + sum(table.row_count + 2 for table in tables)
    return Group(*head, *tables, *_reasons(scene, width, max(0, height - used)))


def _heading(scene: Scene, width: int) -> list[Text]:
    left = "" if scene.left is None else f" (next in {scene.left:.0f} s)"
    state = "" if scene.control_plane else "  control plane: dead"
    lines = [
        Text.assemble((f"{scene.admin}  Ctrl-C ends it", "dim"), (state, "bold red")),
        Text.assemble((scene.title, "bold"), (left, "dim")),
        *(Text(line, style="magenta") for line in scaling_lines(scene)),
        *(Text(line, style="magenta") for line in start_lines(scene)),
        *(Text(line, style="magenta") for line in scene.explained),
    ]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def new_table(title: str) -> Table:
    """Make an empty table."""
    return Table(
        title=title, title_justify="left", title_style="cyan", box=None, padding=(0, 1, 0, 0)
    )


def _traffic_table(scene: Scene, width: int) -> Table:
    table = new_table("Last 5 s: share of requests in %, seen/planned; requests/s; latency in ms")
    names = list(scene.world.instances)
    pairs = list(scene.seen)
    heads = [max((len(part[index]) for part in pairs), default=0) for index in (0, 1)]
    figures = (("/s", 3), ("mean", 4), ("p99", 4), ("fail", 4))
    # A column of padding each; a cell is at most "100/100".
    wide = sum(heads) + 2 + sum(columns + 1 for _, columns in figures)
    room = (width - wide) // max(1, len(names)) - 1
    table.add_column("service", no_wrap=True)
    table.add_column("from", no_wrap=True)
    if fits := room >= MIN_NAME:
        for name in names:
            table.add_column(shorten(name, max(room, 7)), justify="right", no_wrap=True)
    for name, columns in figures:
        table.add_column(name, justify="right", no_wrap=True, min_width=columns)
    if not fits:
        table.add_column("to", no_wrap=True, overflow="ellipsis")
    for (service, site), summary in scene.seen.items():
        planned = scene.planned(service, site)
        seen = [
            Text(str(round(summary.sent / 5))),
            Text(seconds_text(summary.mean)),
            Text(seconds_text(summary.p99)),
            Text(str(summary.failed), style="bold red" if summary.failed else "dim"),
        ]
        if fits:
            seen[:0] = [
                _share_cell(summary.shares.get(name, 0.0), planned.get(name)) for name in names
            ]
        else:
            seen.append(Text(shares_text(summary.shares)))
        style = "green" if service in scene.world.sensitive else "yellow"
        table.add_row(Text(service, style=style), site, *seen)
    return table


def _share_cell(seen: float, planned: float | None) -> Text:
    if seen < SHOWN_SHARE and not planned:
        return Text("·", style="dim")
    plan = "" if planned is None else f"/{planned * 100:.0f}"
    return Text.assemble((f"{seen * 100:.0f}", "bold" if seen >= 0.05 else "dim"), (plan, "dim"))


def _instance_table(scene: Scene, width: int) -> Table:
    table = new_table("Instances, as the control plane sees them")
    for name in ("instance", "site", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("running", "waiting", "training", "can serve/s"):
        table.add_column(name, justify="right", no_wrap=True)
    name_width = max(MIN_NAME, (width - 56) // 2)
    capacities = {
        each["instance"]: each.get("capacity")
        for reason in scene.reasons.values()
        for each in reason.get("instances", ())
    }
    for each in scene.fleet.get("instances", ()):
        signals = each.get("signals", {})
        name = each["name"]
        state = "killed" if name in scene.dead else str(each.get("phase", ""))
        training = _value(signals, "training")
        table.add_row(
            shorten(name, name_width),
            shorten(each["site"], name_width),
            Text(state, style="red" if name in scene.dead else ""),
            _count(_value(signals, "running")),
            _count(_value(signals, "waiting")),
            "" if not training else f"{training:.0%}",
            _count(capacities.get(name)),
        )
    return table


def _reasons(scene: Scene, width: int, rows: int) -> Iterable[Text]:
    """Return at most *rows* lines: what a request costs where most requests go."""
    found = [
        (service, each)
        for service, reason in scene.reasons.items()
        for each in reason.get("instances", ())
        if not each["priority"] and each["share"] >= SHOWN_SHARE
    ]
    if not found or rows < 2:
        return
    yield Text(f"Why, for clients at {scene.world.near}: what one more request costs", style="cyan")
    found.sort(key=lambda item: -item[1]["share"])
    shown = found if len(found) < rows else found[: rows - 2]
    for service, each in shown:
        name = f"{service} {each['share']:.0%} {each['instance']}"
        line = Text(fit_terms(f" {name}: {reason_text(each)}", width))
        line.truncate(width, overflow="ellipsis")
        yield line
    if len(shown) < len(found):
        yield Text(f" {len(found) - len(shown)} more: see the dashboard", style="dim")


def _value(signals: Mapping[str, Any], name: str) -> float | None:
    reading = signals.get(name)
    return None if reading is None else reading["value"]


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def plain_lines(scene: Scene) -> Iterable[str]:
    """Write one line per service and client site, and one per reason."""
    yield f"[{scene.elapsed:6.1f} s] {scene.title}"
    for (service, site), summary in scene.seen.items():
        yield (
            f"    {service:<10} from {site:<11} {shares_text(summary.shares):<50} "
            f"mean {seconds_text(summary.mean):>4} ms  p99 {seconds_text(summary.p99):>4} ms"
            + (f"  FAILED {summary.failed}" if summary.failed else "")
        )
    for line in (*scaling_lines(scene), *start_lines(scene), *scene.explained):
        yield f"    {line}"
    for service, reason in scene.reasons.items() if scene.control_plane else ():
        for each in reason.get("instances", ()):
            if each["priority"] == 0 and each["share"] >= 0.05:
                yield (
                    f"      why {service} {each['share']:.0%} at {each['instance']}: "
                    f"{reason_text(each)}"
                )
