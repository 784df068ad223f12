"""How the demo looks: values in, rich tables and plain lines out; asks nobody, changes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from testbed.demo.script import Cell, Chapter, Claim
from testbed.demo.traffic import Summary
from testbed.demo.world import World

SHOWN_SHARE = 0.005
"""Shares below this are left out of a cell."""


@dataclass(slots=True)
class Scene:
    """What is to be seen now."""

    world: World
    elapsed: float = 0.0
    title: str = "starting"
    left: float | None = None
    """Seconds to the next phase; none at the end of the story."""
    seen: Mapping[tuple[str, str], Summary] = field(default_factory=dict)
    """(service, client site) -> the last seconds, as clients saw them."""
    control_plane: bool = False
    """Whether it answers."""
    plan: Mapping[str, Any] = field(default_factory=dict)
    fleet: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Service -> explanation, from the near client site."""
    dead: frozenset[str] = frozenset()
    """Instances that were killed."""
    admin: str = ""

    def planned(self, service: str, site: str) -> Mapping[str, float]:
        """Give instance -> share of the first priority, as planned."""
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


def build_live(scene: Scene) -> RenderableType:
    """Draw the whole screen."""
    left = "" if scene.left is None else f"   next in {scene.left:.0f} s"
    heading = Text.assemble((f"{scene.title}", "bold"), (left, "dim"))
    return Group(
        Panel(heading, box=box.HEAVY, border_style="cyan" if scene.control_plane else "red"),
        _traffic_table(scene),
        _instance_table(scene),
        _reason_table(scene),
        Text(
            f"dashboard {scene.admin}   "
            + ("Ctrl-C ends it" if scene.control_plane else "control plane: dead"),
            style="dim",
        ),
    )


def _traffic_table(scene: Scene) -> Table:
    table = Table(title="Where requests go (last 5 s, as clients saw them)", box=box.SIMPLE_HEAD)
    table.add_column("service")
    table.add_column("from")
    for name in scene.world.instances:
        table.add_column(name, justify="right")
    for name in ("req/s", "mean ms", "p99 ms", "failed"):
        table.add_column(name, justify="right")
    for (service, site), summary in scene.seen.items():
        planned = scene.planned(service, site)
        cells = [
            _share_cell(summary.shares.get(name, 0.0), planned.get(name))
            for name in scene.world.instances
        ]
        table.add_row(
            Text(service, style="green" if service in scene.world.sensitive else "yellow"),
            site,
            *cells,
            f"{summary.sent / 5:.0f}",
            seconds_text(summary.mean),
            seconds_text(summary.p99),
            Text(str(summary.failed), style="bold red" if summary.failed else "dim"),
        )
    return table


def _share_cell(seen: float, planned: float | None) -> Text:
    style = "bold" if seen >= 0.05 else "dim"
    plan = "" if planned is None else f" ({planned:.0%})"
    return Text.assemble((f"{seen:.0%}" if seen >= SHOWN_SHARE else "·", style), (plan, "dim"))


def _instance_table(scene: Scene) -> Table:
    table = Table(title="Instances, as the control plane sees them", box=box.SIMPLE_HEAD)
    for name in ("instance", "site", "state"):
        table.add_column(name)
    for name in ("running", "waiting", "training", "capacity req/s"):
        table.add_column(name, justify="right")
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
            name,
            each["site"],
            Text(state, style="red" if name in scene.dead else ""),
            _count(_value(signals, "running")),
            _count(_value(signals, "waiting")),
            "" if not training else f"{training:.0%}",
            _count(capacities.get(name)),
        )
    return table


def _value(signals: Mapping[str, Any], name: str) -> float | None:
    reading = signals.get(name)
    return None if reading is None else reading["value"]


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _reason_table(scene: Scene) -> Table:
    table = Table(
        title=f"Why, for clients at {scene.world.near}: cost of one more request",
        box=box.SIMPLE_HEAD,
    )
    for name in ("service", "instance", "share", "cost"):
        table.add_column(name, overflow="fold")
    for service, reason in scene.reasons.items():
        for each in reason.get("instances", ()):
            if each["priority"] == 0:
                table.add_row(service, each["instance"], f"{each['share']:.0%}", reason_text(each))
    return table


def plain_lines(scene: Scene) -> Iterable[str]:
    """Write one line per service and client site, and one per reason."""
    yield f"[{scene.elapsed:6.1f} s] {scene.title}"
    for (service, site), summary in scene.seen.items():
        yield (
            f"    {service:<10} from {site:<11} {shares_text(summary.shares):<50} "
            f"mean {seconds_text(summary.mean):>4} ms  p99 {seconds_text(summary.p99):>4} ms"
            + (f"  FAILED {summary.failed}" if summary.failed else "")
        )
    for service, reason in scene.reasons.items() if scene.control_plane else ():
        for each in reason.get("instances", ()):
            if each["priority"] == 0 and each["share"] >= 0.05:
                yield (
                    f"      why {service} {each['share']:.0%} at {each['instance']}: "
                    f"{reason_text(each)}"
                )


def build_closing(
    world: World,
    table: Mapping[tuple[str, str], Mapping[str, Cell]],
    chapters: Sequence[Chapter],
    claims: Sequence[Claim],
) -> RenderableType:
    """Draw shares and latencies per phase, and what held."""
    names = [chapter.phase.name for chapter in chapters]
    pairs = sorted(table, key=lambda pair: (world.services.index(pair[0]), pair[1]))
    shares = Table(title="Shares of the answered requests", box=box.ASCII, show_lines=True)
    figures = Table(
        title="Latency in ms, mean / p99; requests sent, failed", box=box.ASCII, show_lines=False
    )
    for each in (shares, figures):
        each.add_column("service")
        each.add_column("from")
        for name in names:
            each.add_column(name)
    for service, site in pairs:
        cells = [table[service, site].get(name) for name in names]
        shares.add_row(service, site, *(_shares_cell(cell) for cell in cells))
        figures.add_row(service, site, *(_figures_cell(cell) for cell in cells))
    verdict = Table(title="What held", box=box.ASCII)
    for name in ("", "claim", "figures"):
        verdict.add_column(name)
    for claim in claims:
        verdict.add_row(_verdict(claim), claim.text, claim.figures)
    return Group(shares, figures, verdict)


def _verdict(claim: Claim) -> Text:
    if claim.held:
        return Text("held", style="green")
    return Text("FAILED", style="bold red") if claim.hard else Text("short", style="yellow")


def _shares_cell(cell: Cell | None) -> str:
    return "" if cell is None else shares_text(cell.summary.shares).replace("  ", "\n")


def _figures_cell(cell: Cell | None) -> str:
    if cell is None or cell.sent == 0:
        return ""
    summary = cell.summary
    return f"{seconds_text(summary.mean)} / {seconds_text(summary.p99)}; {cell.sent}, {cell.failed}"
