"""``cats simulate --suite``: run the acceptance cases, in processes, and print their lines."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controlplane.cli import BadInput, Failure

if TYPE_CHECKING:
    from controlplane.sim.random_suite import FleetResult
    from controlplane.sim.results import Outcome
    from controlplane.sim.suite import Line
    from controlplane.sim.trial import Trial

RANDOM = "random"
"""Name of the case of random fleets."""


@dataclass(frozen=True, slots=True)
class SuiteOptions:
    """What the command line asks of the suite."""

    seed: int
    """Fresh fleets are drawn from it."""
    seeds: int
    """Runs of each case."""
    fleets: int | None
    """Fleets of each case that draws them; None for the usual number."""
    only: str | None
    quick: bool
    jobs: int
    as_json: bool
    plot: Path | None = None
    """Where to draw the distribution of the random fleets' ratios."""


def case_names() -> list[str]:
    """Return the names of all cases."""
    from controlplane.sim.cases import CASES  # noqa: PLC0415 -- keeps `cats --help` fast
    from controlplane.sim.random_suite import DRAWS  # noqa: PLC0415

    return [*DRAWS, *(case.name for case in CASES)]


def run_fleet(
    seed: int, number: int, policies: Sequence[str], *, case: str | None = None
) -> tuple[Trial, list[Outcome]]:
    """Run one fleet that *case* draws, `RANDOM` by default, under *policies* or the suite's.

    Raises:
        BadInput: the case draws no fleets.
    """
    from controlplane.sim.random_fleets import draw_random_fleet  # noqa: PLC0415
    from controlplane.sim.random_suite import DRAWS, POLICIES  # noqa: PLC0415
    from controlplane.sim.run import run_trial  # noqa: PLC0415

    draws = [draw for name, draw in DRAWS.items() if case is None or case in name]
    if not draws:
        raise BadInput(f"--fleet: the case '{case}' draws no fleets; {' and '.join(DRAWS)} do")
    fleet = draw_random_fleet(seed, number, scale=draws[0].scale)
    click.echo(f"seed {seed}, fleet {number}: {', '.join(fleet.traits)}", err=True)
    return fleet.trial, [
        run_trial(fleet.trial, policy, seed=seed, clock=time.process_time)
        for policy in policies or POLICIES
    ]


def run_suite(options: SuiteOptions) -> None:
    """Run the chosen cases and print a line for each promise.

    Raises:
        BadInput: no case has such a name.
        Failure: a promise is not kept.
    """
    names = [name for name in case_names() if options.only is None or options.only in name]
    if not names:
        known = ", ".join(case_names())
        raise BadInput(f"--only: no case's name contains '{options.only}'; there are {known}")
    if options.plot is not None and RANDOM not in names:
        raise BadInput(f"--plot: draws the suite's random fleets; choose them with --only {RANDOM}")
    click.echo(f"seed {options.seed}; repeat with --seed {options.seed}", err=options.as_json)
    lines: list[Line] = []
    document: list[dict[str, Any]] = []
    with ProcessPoolExecutor(max_workers=options.jobs) as pool:
        for name, done, fleets in _finished(pool, names, options):
            lines += done
            document += [_as_document(line) for line in done]
            if not options.as_json:
                _print_lines(done)
            if fleets and not options.as_json:
                _print_worst(name, fleets, options.seed)
            if fleets and name == RANDOM:
                title = f"{len(fleets)} random fleets, seed {options.seed}"
                write_plot(options.plot, partial(_ratios, title, fleets))
    if options.as_json:
        click.echo(json.dumps({"seed": options.seed, "lines": document}, indent=2))
    short = sum(not line.passed for line in lines)
    click.echo(f"{len(lines) - short} pass, {short} short; seed {options.seed}", err=True)
    if short:
        raise Failure(f"{short} of {len(lines)} targets are not met")


def _finished(
    pool: ProcessPoolExecutor, names: Sequence[str], options: SuiteOptions
) -> Iterator[tuple[str, list[Line], list[FleetResult]]]:
    """Yield each case when all of its runs are done: its name, lines and, if drawn, fleets."""
    from controlplane.sim.cases import CASES  # noqa: PLC0415
    from controlplane.sim.random_suite import DRAWS, judge_fleets  # noqa: PLC0415
    from controlplane.sim.suite import judge  # noqa: PLC0415

    cases = {case.name: case for case in CASES}
    futures = _submit(pool, names, options)
    found: dict[str, dict[int, Any]] = {name: {} for name in names}
    wanted = {name: sum(of == name for of, _ in futures.values()) for name in names}
    for count, future in enumerate(as_completed(futures), 1):
        name, number = futures[future]
        found[name][number] = future.result()
        print(f"{count}/{len(futures)} {name}, {number}", file=sys.stderr, flush=True)
        if len(found[name]) < wanted[name]:
            continue
        values = [found[name][number] for number in sorted(found[name])]
        if name in DRAWS:
            yield name, judge_fleets(values, title=DRAWS[name].title), values
        else:
            yield name, judge(cases[name], values), []


def _submit(
    pool: ProcessPoolExecutor, names: Sequence[str], options: SuiteOptions
) -> dict[Future[Any], tuple[str, int]]:
    """Start every run; return the case and the seed or fleet of each."""
    from controlplane.sim.cases import CASES  # noqa: PLC0415
    from controlplane.sim.random_suite import DRAWS  # noqa: PLC0415

    futures: dict[Future[Any], tuple[str, int]] = {}
    for name in (name for name in DRAWS if name in names):
        draw = DRAWS[name]
        for number in range(options.fleets or (draw.quick if options.quick else draw.full)):
            futures[pool.submit(_fleet_job, name, options.seed, number)] = (name, number)
    for case in CASES:
        if case.name in names:
            first = options.seed if case.fresh else 1
            for seed in range(first, first + min(options.seeds, case.most_seeds)):
                job = pool.submit(_case_job, case.name, seed, options.quick)
                futures[job] = (case.name, seed)
    return futures


def _print_lines(lines: Sequence[Line]) -> None:
    for line in lines:
        verdict = "pass" if line.passed else "short"
        click.echo(
            f"{line.name:<58}{line.measured:>9.3f} {line.unit or ' ':<3}"
            f"target <= {line.limit:<7g}{verdict}"
        )


def _print_worst(name: str, fleets: Sequence[FleetResult], seed: int) -> None:
    from controlplane.sim.random_suite import count_pushes, worst  # noqa: PLC0415

    middle, most = count_pushes(fleets)
    click.echo(f"  pushes a minute: median {middle:.0f}, most {most:.0f}")
    for fleet in worst(fleets):
        ratios = ", ".join(
            f"{figure} {fleet.ratio(figure, other):.2f}x {other}"
            for other in ("oracle", "capacity")
            for figure in ("mean", "p99")
        )
        click.echo(
            f"  fleet {fleet.number}: {ratios}\n"
            f"    could be had, over oracle: mean {fleet.bound('mean'):.2f}x, p99"
            f" {fleet.bound('p99'):.2f}x with fixed shares;"
            f" {fleet.bound('mean', 'policy_iteration'):.2f}x,"
            f" {fleet.bound('p99', 'policy_iteration'):.2f}x request by request\n"
            f"    {fleet.pushes_a_minute:.0f} pushes a minute; {', '.join(fleet.traits)}\n"
            f"    cats simulate --suite --only {name} --seed {seed} --fleet {fleet.number}"
        )


def _ratios(title: str, fleets: Sequence[FleetResult]) -> str:
    from controlplane.sim.plot import draw_ratios  # noqa: PLC0415

    return draw_ratios(title, fleets)


def write_plot(path: Path | None, draw: Callable[[], str]) -> None:
    """Write what *draw* returns, if a path is given.

    Raises:
        BadInput: the file cannot be written.
    """
    if path is None:
        return
    try:
        path.write_text(draw(), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; name a file in a writable directory") from error


def _as_document(line: Line) -> dict[str, Any]:
    return {**dataclasses.asdict(line), "passed": line.passed}


def _fleet_job(name: str, seed: int, number: int) -> FleetResult:
    from controlplane.sim.random_suite import DRAWS, run_random_fleet  # noqa: PLC0415

    return run_random_fleet(seed, number, scale=DRAWS[name].scale)


def _case_job(name: str, seed: int, quick: bool) -> list[float]:
    from controlplane.sim.cases import CASES  # noqa: PLC0415
    from controlplane.sim.suite import run_case  # noqa: PLC0415

    clock: Callable[[], float] = time.process_time
    case = next(case for case in CASES if case.name == name)
    return run_case(case, seed, quick=quick, clock=clock)
