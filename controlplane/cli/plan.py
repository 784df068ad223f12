"""``cats plan``: what would be decided on given reports, without a server."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controlplane.cli import BadInput, examples
from controlplane.cli.assignment_sums import demand_assumed, mean_latency, pair_lines, service_lines
from controlplane.cli.assignments import Selection, explanation_lines, print_lines
from controlplane.cli.explain import canary_words
from controlplane.cli.options import (
    FILE,
    check_selection,
    config_option,
    each_option,
    read_config,
    selection_options,
)
from controlplane.cli.text import LEGEND, mark, milliseconds, number, screen
from controlplane.suggestions import closest

if TYPE_CHECKING:
    from controlplane.config import Config, PolicyName
    from controlplane.model import Report
    from controlplane.steering import Steering
    from controlplane.steering.plan import Plan

IN_FULL = 20
"""Pairs that may be shown with all their instances."""
FORMAT = """
\b
A report file:
  version: 1
  reports:
    - {instance: north-a, signals: {running: 30, waiting: 4, slots: 32}}
    - {instance: north-b, at: 1s, ready: false}
    - {from: phones, to: edge-north, rtt: 5ms, bandwidth: 100Mbps}
    - {from: phones, service: chat, rate: 12}
    - {from: phones, service: chat, instance: north-a, rate: 9, latency: 1s}
    - {site: cloud-1, power: 4kW}
"""


@click.command(
    epilog=examples(
        "cats plan -c fleet.yaml --reports reports.yaml",
        "cats plan -c fleet.yaml",
        "cats plan -c fleet.yaml --service chat --from phones",
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
    help="Reports of instances, paths and clients; without it nothing is measured.",
)
@click.option(
    "--against",
    "other_file",
    type=FILE,
    metavar="FILE",
    help="Show what another configuration would change instead.",
)
@click.option("--policy", help="Show what another policy would change instead.")
@selection_options
@each_option
@click.option("--json", "as_json", is_flag=True, help="Print the plan as the API's JSON document.")
def command(
    *,
    config_file: Path,
    report_file: Path | None,
    other_file: Path | None,
    policy: str | None,
    selection: Selection,
    each: bool,
    as_json: bool,
) -> None:
    """Print the plan for given reports: a dry run.

    Reports with the same timestamp ('at') are applied together, and a decision follows each; the
    last plan is printed.
    A plan too large for the screen is summarised by service; --service, --from and --instance
    show pairs, and a single pair in full.
    """
    from controlplane.admin_api.plan_documents import encode_explanation, encode_plan  # noqa: PLC0415 -- loads numpy
    from controlplane.runtime.config_file import read_text  # noqa: PLC0415
    from controlplane.telemetry.report_file import parse_reports  # noqa: PLC0415

    config = read_config(config_file)
    check_selection(selection, config)
    reports = parse_reports(read_text(report_file), file=str(report_file)) if report_file else []
    plan, steering = decide(config, reports)
    if other_file is not None or policy is not None:
        other = config if other_file is None else read_config(other_file)
        changed, _ = decide(_with_policy(other, policy), reports)
        _print_change(plan, changed, as_json=as_json)
        return
    chosen = [
        assignment for pair, assignment in steering.explain_all().items() if selection.holds(*pair)
    ]
    if len(chosen) > IN_FULL and not as_json:
        # Not shown, and of many pairs the slowest part: instances times pairs of them.
        chosen = [replace(assignment, left_out=()) for assignment in chosen]
    explanations = [encode_explanation(plan, assignment, epoch=0.0) for assignment in chosen]
    if as_json:
        document = {**encode_plan(plan, epoch=0.0), "explanations": explanations}
        click.echo(json.dumps(document, indent=2))
        return
    print_plan(explanations, selection, each=each)
    for item in explanations:
        if item["canary"] is not None:
            click.echo(canary_words(item["canary"]))
    cost = number(plan.predicted_cost)
    click.echo(f"plan {plan.version}, predicted cost {cost} s of delay per second")


def _with_policy(config: Config, name: str | None) -> Config:
    from controlplane.diagnostics.replay import with_policy  # noqa: PLC0415 -- loads numpy

    return config if name is None else with_policy(config, read_policy(name))


def read_policy(name: str) -> PolicyName:
    """Return a policy by its name.

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


def decide(config: Config, reports: list[Report]) -> tuple[Plan, Steering]:
    """Return the plan after the last of *reports*, which are in the order of time.

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
                hint = _nearest(report, config)
                raise BadInput(f"a report at {at:g} s: {error}{hint}") from error
        plan = steering.decide(fleet.view(now=at))
    return steering.decide(fleet.view(now=0.0)) if plan is None else plan, steering


def _nearest(report: Report, config: Config) -> str:
    """Return the nearest known name to one that *report* names and *config* has not."""
    for field in ("instance", "service", "site", "from_site", "to_site"):
        name = getattr(report, field, "")
        kind = "site" if field.endswith("site") else field
        known = [item.name for item in getattr(config, f"{kind}s")]
        if name and name not in known and (near := closest(name, known)):
            return f"; did you mean '{near}'?"
    return ""


def print_plan(
    explanations: Sequence[Mapping[str, Any]], selection: Selection, *, each: bool = False
) -> None:
    """Print the pairs in full if they fit the screen, else a line each, else one a service.

    Args:
        explanations: the selected pairs, each as ``/api/v1/explain`` returns it.
        selection: what was asked for; pairs that were asked for are not summed up.
        each: whether nearly equal instances are shown one by one.
    """
    width, height = screen()
    room = height - 4
    if len(explanations) <= IN_FULL:
        full = [
            line
            for item in explanations
            for line in (*_head(item), *_body(item, width, selection, each=each))
        ]
        if len(explanations) == 1 or (len(full) <= room and selection.instance is None):
            print_lines(full)
            return
    pairs = pair_lines(explanations, width, instance=selection.instance)
    if not selection.empty or len(pairs) <= room:
        print_lines(pairs)
    else:
        print_lines(service_lines(explanations, width, room))
        click.echo("narrow it with --service SERVICE, --from SITE or --instance INSTANCE")
    if any(demand_assumed(item) for item in explanations):
        print_lines([LEGEND])


def _head(item: Mapping[str, Any]) -> list[str]:
    demand = mark(number(item["demand"]), assumed=demand_assumed(item))
    latency = mean_latency(item)
    predicted = "" if latency is None else f", predicted {milliseconds(latency)} ms"
    head = f"{item['service']} from {item['from']}: {item['policy']}, demand {demand}/s{predicted}"
    lines = [head, *filter(None, [item["note"]])]
    return lines if item["instances"] else [*lines, "no instance serves these clients"]


def _body(item: Mapping[str, Any], width: int, selection: Selection, *, each: bool) -> list[str]:
    lines = explanation_lines(item, width - 2, instance=selection.instance, each=each)
    return [f"  {line}" for line in lines]
