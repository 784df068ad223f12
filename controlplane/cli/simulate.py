"""``cats simulate``."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controlplane.cli import BadInput, Failure, examples
from controlplane.cli.options import FILE

if TYPE_CHECKING:
    from controlplane.config import Config
    from controlplane.sim.results import Outcome
    from controlplane.sim.scenario import Scenario


@click.command(
    epilog=examples(
        "cats simulate examples/scenarios/edges.yaml",
        "cats simulate edges.yaml --policy controlplane --policy prequal --seed 3 --plot edges.svg",
        "cats simulate --suite --quick",
    )
)
@click.argument("scenario_file", required=False, type=FILE, metavar="[SCENARIO.yaml]")
@click.option("--policy", "policies", multiple=True, metavar="P", help="Instead of the scenario's.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, metavar="N")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.svg",
    help="Draw latency distribution, shares and load over time.",
)
@click.option("--suite", is_flag=True, help="Run the acceptance scenarios instead.")
@click.option("--quick", is_flag=True, help="Suite: three seeds, and shorter long scenarios.")
@click.option("--seeds", type=click.IntRange(1, 100), metavar="N", help="Suite: seeds 1 to N.")
@click.option("--only", metavar="TEXT", help="Suite: only the cases whose name contains TEXT.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=min(2, os.cpu_count() or 1),
    show_default="2, or 1 on one processor",
    help="Suite: processes.",
)
def command(
    *,
    scenario_file: Path | None,
    policies: tuple[str, ...],
    seed: int,
    as_json: bool,
    plot: Path | None,
    suite: bool,
    quick: bool,
    seeds: int | None,
    only: str | None,
    jobs: int,
) -> None:
    """Simulate a fleet: the real deciding code against baselines, on the same arrivals.

    A policy is `controlplane` (as configured), `controlplane:NAME` (under its policy NAME), or a
    baseline such as capacity, least_request, prequal or oracle.
    Latencies are seconds as the clients saw them.
    """
    if suite:
        if scenario_file is not None:
            raise BadInput("--suite runs its own scenarios; leave the file out")
        _run_suite(only, seeds or (3 if quick else 10), jobs, quick=quick, as_json=as_json)
        return
    if scenario_file is None:
        raise BadInput("name a scenario file, or ask for --suite")
    if plot is not None and plot.suffix != ".svg":
        raise BadInput(f"{plot}: plots are SVG; name the file with .svg")
    scenario = _read_scenario(scenario_file, policies)
    outcomes = [_simulate(scenario, scenario_file, name, seed) for name in scenario.policies]
    if plot is not None:
        from controlplane.sim.plot import draw  # noqa: PLC0415 -- keeps `cats --help` fast

        try:
            plot.write_text(draw(f"{scenario.name}, seed {seed}", outcomes), encoding="utf-8")
        except OSError as error:
            raise BadInput(
                f"{plot}: {error.strerror}; name a file in a directory that can be written"
            ) from error
    if as_json:
        click.echo(json.dumps([_as_json(outcome) for outcome in outcomes], indent=2))
    else:
        _print_table(scenario, outcomes)


def _read_scenario(path: Path, policies: Sequence[str]) -> Scenario:
    from controlplane.runtime.config_file import read_text  # noqa: PLC0415
    from controlplane.sim.scenario import POLICIES, parse_scenario  # noqa: PLC0415

    scenario = parse_scenario(read_text(path), file=str(path))
    for name in policies:
        if name not in POLICIES:
            raise BadInput(f"--policy: '{name}' is no policy; there are {', '.join(POLICIES)}")
    return scenario.model_copy(update={"policies": policies}) if policies else scenario


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
        "shares": {site: [round(v, 4) for v in values] for site, values in outcome.shares.items()},
        "load": {site: values.tolist() for site, values in outcome.load.items()},
    }


def _print_table(scenario: Scenario, outcomes: Sequence[Outcome]) -> None:
    many = len({service for _, service in outcomes[0].services}) > 1
    head = f"{'policy':<24}{'window':<12}{'service':<12}{'requests':>9}"
    head += "".join(f"{name:>9}" for name in ("mean", "p50", "p90", "p99", "failed", "good/s"))
    click.echo(f"{scenario.name}, {scenario.duration:.0f} s; latencies in seconds\n{head}")
    for outcome in outcomes:
        rows = [(window, "all", figures) for window, figures in outcome.windows.items()]
        if many:
            rows += [(window, name, found) for (window, name), found in outcome.services.items()]
        for window, service, found in rows:
            click.echo(
                f"{outcome.policy:<24}{window:<12}{service:<12}{found.requests:>9}"
                f"{found.mean:>9.3f}{found.p50:>9.3f}{found.p90:>9.3f}{found.p99:>9.3f}"
                f"{found.failed:>9.2%}{found.goodput:>9.1f}"
            )
        if outcome.predicted_error is not None:
            click.echo(
                f"  {len(outcome.pushes)} pushes; predicted mean latency off by "
                f"{outcome.predicted_error:.1%}; {outcome.refused} reports refused"
            )


def _run_suite(only: str | None, seeds: int, jobs: int, *, quick: bool, as_json: bool) -> None:
    from controlplane.sim.suite import CASES, judge  # noqa: PLC0415

    chosen = [case for case in CASES if only is None or only in case.name]
    if not chosen:
        names = ", ".join(case.name for case in CASES)
        raise BadInput(f"--only: no case's name contains '{only}'; there are {names}")
    values: dict[str, dict[int, list[float]]] = {case.name: {} for case in chosen}
    wanted = {case.name: min(seeds, case.most_seeds) for case in chosen}
    told: list[Any] = []
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        futures = {
            pool.submit(_suite_job, case.name, seed, quick): (case.name, seed)
            for case in chosen
            for seed in range(1, wanted[case.name] + 1)
        }
        for number, future in enumerate(as_completed(futures), 1):
            name, seed = futures[future]
            values[name][seed] = future.result()
            print(f"{number}/{len(futures)} {name}, seed {seed}", file=sys.stderr, flush=True)
            for case in chosen:
                done = values[case.name]
                if case.name == name and len(done) == wanted[name]:
                    lines = judge(case, [done[seed] for seed in sorted(done)])
                    told += [{**dataclasses.asdict(line), "passed": line.passed} for line in lines]
                    if not as_json:
                        for line in lines:
                            unit = line.unit or " "
                            verdict = "pass" if line.passed else "short"
                            click.echo(
                                f"{line.name:<52}{line.measured:>9.3f} {unit:<3}"
                                f"target <= {line.limit:<7g}{verdict}"
                            )
    if as_json:
        click.echo(json.dumps(told, indent=2))
    short = sum(not line["passed"] for line in told)
    click.echo(f"{len(told) - short} pass, {short} short; seeds 1 to {seeds}", err=True)
    if short:
        raise Failure(f"{short} of {len(told)} targets are not met")


def _suite_job(name: str, seed: int, quick: bool) -> list[float]:
    from controlplane.sim.suite import CASES, run_case  # noqa: PLC0415

    clock: Callable[[], float] = time.process_time
    case = next(case for case in CASES if case.name == name)
    return run_case(case, seed, quick=quick, clock=clock)
