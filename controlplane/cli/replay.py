"""``cats replay``: recorded reports, decided again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controlplane.cli import BadInput, examples
from controlplane.cli.options import FILE, read_config
from controlplane.cli.plan import read_policy
from controlplane.cli.text import number

if TYPE_CHECKING:
    from controlplane.config import Config


@click.command(
    epilog=examples(
        "cats serve -c fleet.yaml --record /var/lib/cats/recording",
        "cats replay /var/lib/cats/recording --policy nearest",
        "cats replay /var/lib/cats/recording --against new.yaml --json",
    )
)
@click.argument(
    "directory", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR"
)
@click.option("--policy", help="Policy to compare with the recorded one.")
@click.option(
    "--against",
    "other_file",
    type=FILE,
    metavar="FILE",
    help="Configuration to compare with the recorded one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(directory: Path, policy: str | None, other_file: Path | None, *, as_json: bool) -> None:
    """Replay a recording of 'cats serve --record DIR', and summarise gain and loss.

    The recorded load resulted from the plans in force at the time, so the gain is what the model
    predicts from the same reports, not a measurement.
    """
    from controlplane.diagnostics.recording import read_fleet, read_frames  # noqa: PLC0415
    from controlplane.diagnostics.replay import replay, summarise, with_policy  # noqa: PLC0415

    if policy is None and other_file is None:
        raise BadInput("name what to compare with: --policy nearest, or --against new.yaml")
    before = read_fleet(directory)
    after = before if other_file is None else read_config(other_file)
    if policy is not None:
        after = with_policy(after, read_policy(policy))
    if _names(before) != _names(after):
        raise BadInput(
            f"--against {other_file}: must have the sites, services and instances of the recording"
        )
    click.echo("replaying ...", err=True)
    summary = summarise(replay(read_frames(directory), before, after))
    if not summary["cycles"]:
        raise BadInput(
            f"{directory}: the recording holds no cycle yet; let cats serve --record run for"
            " some periods"
        )
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    else:
        _print(summary)


def _names(config: Config) -> list[list[str]]:
    return [
        [item.name for item in config.sites],
        [item.name for item in config.services],
        [item.name for item in config.instances],
    ]


def _print(summary: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415 -- takes a tenth of a second to load
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    console = Console(width=None if Console().is_terminal else 120)
    table = Table(box=None)
    table.add_column("service")
    for name in ("requests", "would move", "latency ms", "", "change"):
        table.add_column(name, justify="right")
    for name, item in summary["services"].items():
        before, after = item["latency"]
        change = f"{after / before - 1:+.1%}" if before and after is not None else "-"
        table.add_row(
            escape(name), f"{item['requests']:.0f}", f"{item['moved']:.1%}",
            *(f"{v * 1000:.1f}" if v is not None else "-" for v in (before, after)), change,
        )  # fmt: skip
    console.print(table)
    before, after = summary["cost"]
    console.print(
        f"{summary['cycles']} cycles over {summary['seconds']:.0f} s; predicted cost"
        f" {number(before)} -> {number(after)} s of delay per s, {_judge(before, after)}"
    )


def _judge(before: float, after: float) -> str:
    if not before:
        return "nothing to compare"
    change = after / before - 1
    if abs(change) < 0.001:
        return "no difference"
    return f"a {'loss' if change > 0 else 'gain'} of {abs(change):.1%}"
