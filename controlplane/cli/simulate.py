"""``cats simulate``."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controlplane.cli import BadInput, examples
from controlplane.cli.options import FILE
from controlplane.cli.suite import SuiteOptions, case_names, run_fleet, run_suite, write_plot

if TYPE_CHECKING:
    from controlplane.config import Config
    from controlplane.sim.results import Outcome
    from controlplane.sim.scenario import Scenario


@click.command(
    epilog=examples(
        "cats simulate examples/scenarios/edges.yaml",
        "cats simulate edges.yaml --policy controlplane --policy prequal --seed 3 --plot edges.svg",
        "cats simulate --suite --quick",
        "cats simulate --suite --only random --seed 7 --fleet 3",
    )
)
@click.argument("scenario_file", required=False, type=FILE, metavar="[SCENARIO.yaml]")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="P",
    help="Policy to run instead of the scenario's; may be repeated.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    metavar="N",
    help="Random seed; 1 by default, but the suite draws a new one and prints it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.svg",
    help="Draw latency distribution, shares and load over time; of the suite, the ratios.",
)
@click.option("--suite", is_flag=True, help="Run the acceptance scenarios instead.")
@click.option("--list", "list_cases", is_flag=True, help="Suite: print the names of the cases.")
@click.option(
    "--quick",
    is_flag=True,
    help="Suite: three seeds, 40 random and 8 small fleets, shorter long scenarios.",
)
@click.option("--seeds", type=click.IntRange(1, 100), metavar="N", help="Suite: seeds per case.")
@click.option("--only", metavar="TEXT", help="Suite: only the cases whose name contains TEXT.")
@click.option(
    "--fleets",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Suite: number of random fleets, and of small ones.",
)
@click.option(
    "--fleet",
    type=click.IntRange(0),
    metavar="K",
    help="Suite: run random fleet K of --seed N alone (small: --only small); print its figures.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=min(2, os.cpu_count() or 1),
    show_default="2, or 1 on one processor",
    help="Suite: number of processes.",
)
def command(
    *,
    scenario_file: Path | None,
    policies: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    plot: Path | None,
    suite: bool,
    list_cases: bool,
    quick: bool,
    seeds: int | None,
    only: str | None,
    fleets: int | None,
    fleet: int | None,
    jobs: int,
) -> None:
    """Simulate a fleet: the decision code against baselines, on the same arrivals.

    A policy is `controlplane` (as configured), `controlplane:NAME` (under its policy NAME), or a
    baseline such as capacity, least_request, prequal or oracle.
    Latencies are in seconds, as the clients saw them.
    """
    if plot is not None and plot.suffix != ".svg":
        raise BadInput(f"{plot}: plots are SVG; name the file with .svg")
    if suite:
        if scenario_file is not None:
            raise BadInput("--suite runs its own scenarios; leave the file out")
        options = SuiteOptions(
            seed=secrets.randbits(32) if seed is None else seed,
            seeds=seeds or (3 if quick else 10),
            fleets=fleets,
            only=only,
            quick=quick,
            jobs=jobs,
            as_json=as_json,
            plot=plot,
        )
        if list_cases:
            click.echo("\n".join(case_names()))
        elif fleet is None:
            run_suite(options)
        elif seed is None:
            raise BadInput("--fleet: name the seed that it was drawn from, as --seed N")
        else:
            trial, outcomes = run_fleet(seed, fleet, _check_policies(policies), case=only)
            _plot(plot, f"{trial.name}, seed {seed}", outcomes)
            _print(trial.name, trial.duration, outcomes, as_json=as_json)
        return
    for name, given in (("--list", list_cases), ("--fleet", fleet is not None)):
        if given:
            raise BadInput(f"{name} is of the suite; add --suite")
    if scenario_file is None:
        raise BadInput("name a scenario file, or ask for --suite")
    seed = 1 if seed is None else seed
    scenario = _read_scenario(scenario_file, policies)
    outcomes = [_simulate(scenario, scenario_file, name, seed) for name in scenario.policies]
    _plot(plot, f"{scenario.name}, seed {seed}", outcomes)
    _print(scenario.name, scenario.duration, outcomes, as_json=as_json)


def _plot(path: Path | None, title: str, outcomes: Sequence[Outcome]) -> None:
    from controlplane.sim.plot import draw  # noqa: PLC0415 -- keeps `cats --help` fast

    write_plot(path, lambda: draw(title, outcomes))


def _print(name: str, duration: float, outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_as_json(outcome) for outcome in outcomes], indent=2))
    else:
        _print_table(name, duration, outcomes)


def _read_scenario(path: Path, policies: Sequence[str]) -> Scenario:
    from controlplane.runtime.config_file import read_text  # noqa: PLC0415
    from controlplane.sim.scenario import parse_scenario  # noqa: PLC0415

    scenario = parse_scenario(read_text(path), file=str(path))
    _check_policies(policies)
    return scenario.model_copy(update={"policies": policies}) if policies else scenario


def _check_policies(names: Sequence[str]) -> Sequence[str]:
    from controlplane.sim.scenario import POLICIES  # noqa: PLC0415

    for name in names:
        if name not in POLICIES:
            raise BadInput(f"--policy: '{name}' is not a policy; there are {', '.join(POLICIES)}")
    return names


def _simulate(scenario: Scenario, path: Path, policy: str, seed: int) -> Outcome:
    from controlplane.config import parse_config  # noqa: PLC0415
    from controlplane.runtime.config_file import read_text  # noqa: PLC0415
    from controlplane.sim.run import simulate  # noqa: PLC0415

    def read_config(name: str) -> Config:
        found = path.parent / name
        return parse_config(read_text(found), file=str(found))

    began = time.monotonic()
    shown = began

    def progress(done: float) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - began > 2 and now - shown > 1:
            shown = now
            click.echo(f"{policy}: {done:.0f} of {scenario.duration:.0f} s simulated", err=True)

    try:
        return simulate(
            scenario,
            policy,
            seed=seed,
            read_config=read_config,
            clock=time.process_time,
            progress=progress,
        )
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from error


def _as_json(outcome: Outcome) -> dict[str, Any]:
    services: dict[str, dict[str, Any]] = {}
    for (window, service), figures in outcome.services.items():
        services.setdefault(service, {})[window] = dataclasses.asdict(figures)
    return {
        "policy": outcome.policy,
        "seed": outcome.seed,
        "windows": {k: dataclasses.asdict(v) for k, v in outcome.windows.items()},
        "services": services,
        "pushes": list(outcome.pushes),
        "refused_reports": outcome.refused,
        "predicted_error": outcome.predicted_error,
        "warm_turns": {
            window: {"site": warm, "instance": outcome.warm_instance[window]}
            for window, warm in outcome.warm.items()
        },
        "shares": {site: [round(v, 4) for v in values] for site, values in outcome.shares.items()},
        "load": {site: values.tolist() for site, values in outcome.load.items()},
    }


def _print_table(title: str, duration: float, outcomes: Sequence[Outcome]) -> None:
    many = len({service for _, service in outcomes[0].services}) > 1
    columns = (
        ("policy", 23, [outcome.policy for outcome in outcomes]),
        ("window", 11, [name for outcome in outcomes for name in outcome.windows]),
        ("service", 11, [name for outcome in outcomes for _, name in outcome.services]),
    )
    # Names of any length stay apart from what follows.
    policy, wide, other = (
        max(least, len(name), *map(len, names)) + 1 for name, least, names in columns
    )
    head = f"{'policy':<{policy}}{'window':<{wide}}{'service':<{other}}{'requests':>9}"
    head += "".join(f"{name:>9}" for name in ("mean", "p50", "p90", "p99", "failed", "good/s"))
    click.echo(f"{title}, {duration:.0f} s; latencies in seconds\n{head}")
    for outcome in outcomes:
        rows = [(window, "all", figures) for window, figures in outcome.windows.items()]
        if many:
            rows += [(window, name, found) for (window, name), found in outcome.services.items()]
        for window, service, found in rows:
            click.echo(
                f"{outcome.policy:<{policy}}{window:<{wide}}{service:<{other}}{found.requests:>9}"
                f"{found.mean:>9.3f}{found.p50:>9.3f}{found.p90:>9.3f}{found.p99:>9.3f}"
                f"{found.failed:>9.2%}{found.goodput:>9.1f}"
            )
        for window, warm in outcome.warm.items():
            click.echo(
                f"  {window}: {warm:.1%} of the turns at the site of the turn before,"
                f" {outcome.warm_instance[window]:.1%} at the very instance"
            )
        if outcome.predicted_error is not None:
            click.echo(
                f"  {len(outcome.pushes)} pushes; predicted mean latency off by "
                f"{outcome.predicted_error:.1%}; {outcome.refused} reports refused"
            )
