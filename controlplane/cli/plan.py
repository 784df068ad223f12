"""``cats plan``: what would be decided on given reports, without a server."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from controlplane.cli import BadInput, examples
from controlplane.cli.options import FILE, config_option, read_config

if TYPE_CHECKING:
    from controlplane.config import Config, PolicyName
    from controlplane.model import Report
    from controlplane.steering.plan import Plan

FORMAT = """
\b
A report file:
  version: 1
  reports:
    - {instance: north-a, signals: {running: 30, waiting: 4, slots: 32}}
    - {instance: north-b, at: 1s, ready: false}
    - {from: phones, to: edge-north, rtt: 5ms, bandwidth: 100Mbps}
    - {from: phones, service: chat, rate: 12}
    - {from: phones, service: chat, instance: north-a, rate: 9, latency: 800ms}
    - {site: cloud-1, power: 4kW}
"""


@click.command(
    epilog=examples(
        "cats plan -c fleet.yaml --reports reports.yaml",
        "cats plan -c fleet.yaml",
        "cats plan -c fleet.yaml --against new.yaml",
        "cats plan -c fleet.yaml --policy nearest",
    )
    + "\n"
    + FORMAT
)
@config_option
@click.option(
    "--reports",
    "report_file",
    type=FILE,
    metavar="FILE",
    help="What instances, paths and clients report; without it nothing is known.",
)
@click.option(
    "--against",
    "other_file",
    type=FILE,
    metavar="FILE",
    help="Print what this other configuration would change instead.",
)
@click.option("--policy", help="Print what this policy would change instead.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as the API gives it.")
def command(
    *,
    config_file: Path,
    report_file: Path | None,
    other_file: Path | None,
    policy: str | None,
    as_json: bool,
) -> None:
    """Print the plan for given reports: a dry run.

    Reports of one instant (their 'at') are taken together and decided on, instant after instant;
    the last plan is printed.
    """
    from controlplane.admin_api.documents import encode_explanation, encode_plan  # noqa: PLC0415
    from controlplane.runtime.config_file import read_text  # noqa: PLC0415
    from controlplane.telemetry.report_file import parse_reports  # noqa: PLC0415

    config = read_config(config_file)
    reports = parse_reports(read_text(report_file), file=str(report_file)) if report_file else []
    plan = decide(config, reports)
    if other_file is not None or policy is not None:
        other = config if other_file is None else read_config(other_file)
        _print_change(plan, decide(_with_policy(other, policy), reports), as_json=as_json)
        return
    if as_json:
        document = encode_plan(plan, epoch=0.0)
        document["explanations"] = [
            encode_explanation(plan, assignment, epoch=0.0)
            for assignment in plan.assignments.values()
        ]
        click.echo(json.dumps(document, indent=2))
        return
    print_plan(plan)


def _with_policy(config: Config, name: str | None) -> Config:
    from controlplane.diagnostics.replay import with_policy  # noqa: PLC0415 -- loads numpy

    return config if name is None else with_policy(config, read_policy(name))


def read_policy(name: str) -> PolicyName:
    """Give a policy by its name.

    Raises:
        BadInput: there is no such one.
    """
    from controlplane.config import PolicyName  # noqa: PLC0415 -- loads pydantic

    try:
        return PolicyName(name)
    except ValueError as error:
        known = ", ".join(PolicyName)
        raise BadInput(f"--policy: no policy '{name}'; known: {known}") from error


def _print_change(before: Plan, after: Plan, *, as_json: bool) -> None:
    from controlplane.admin_api.effect import encode_effect  # noqa: PLC0415
    from controlplane.cli.effect import print_effect  # noqa: PLC0415

    effect = encode_effect(before, after)
    if as_json:
        click.echo(json.dumps(effect, indent=2))
    else:
        print_effect(effect)


def decide(config: Config, reports: list[Report]) -> Plan:
    """Give the plan after the last of *reports*, which are in the order of time.

    Raises:
        BadInput: a report names what the configuration does not have, or cannot be true.
    """
    from controlplane.errors import ReportError  # noqa: PLC0415 -- loads numpy
    from controlplane.fleet import FleetState  # noqa: PLC0415
    from controlplane.steering import Steering  # noqa: PLC0415

    fleet, steering = FleetState(config, now=0.0), Steering(config)
    plan = None
    for at, group in itertools.groupby(reports, key=lambda report: report.at):
        for report in group:
            try:
                fleet.apply(report, now=at)
            except ReportError as error:
                raise BadInput(f"a report at {at:g} s: {error}") from error
        plan = steering.decide(fleet.view(now=at))
    return steering.decide(fleet.view(now=0.0)) if plan is None else plan


def print_plan(plan: Plan) -> None:
    """Print a plan for people: a row for each service, client site and instance."""
    from rich.console import Console  # noqa: PLC0415 -- takes a tenth of a second to load
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from controlplane.admin_api.documents import encode_canary  # noqa: PLC0415 -- loads numpy
    from controlplane.cli.explain import canary_words  # noqa: PLC0415

    console = Console(width=None if Console().is_terminal else 160)
    table = Table(box=None)
    for name in ("service", "from", "instance", "site"):
        table.add_column(name, no_wrap=True)
    for name in ("share", "weight", "latency ms", "load"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("remarks")
    for assignment in plan.assignments.values():
        head = (escape(assignment.service), escape(assignment.client_site))
        if not assignment.allocations:
            table.add_row(*head, "[red]nobody[/]", "", "", "", "", "", escape(assignment.note))
        for item in assignment.allocations:
            why = item.why
            remarks = [*(why.limits if why else ()), assignment.note]
            if item.priority:
                remarks.insert(0, f"fallback {item.priority}")
            table.add_row(
                *head,
                escape(item.instance),
                escape(item.site),
                f"{item.share:.1%}",
                str(item.weight),
                f"{why.predicted_latency * 1000:.0f}" if why else "",
                f"{why.arrival_rate / why.capacity:.0%}" if why and why.capacity else "",
                escape(", ".join(filter(None, remarks))),
            )
        for left in assignment.excluded:
            table.add_row(
                *head, f"[dim]{escape(left.instance)}[/]", f"[dim]{escape(left.site)}[/]",
                "", "", "", "", f"[dim]{escape(left.reason)}[/]",
            )  # fmt: skip
    console.print(table)
    for assignment in plan.assignments.values():
        if (canary := encode_canary(plan, assignment)) is not None:
            console.print(canary_words(canary))
    console.print(f"plan {plan.version}, predicted cost {plan.predicted_cost:.3g} s of delay per s")
