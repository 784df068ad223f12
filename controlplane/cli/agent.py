"""``cats agent``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from controlplane.cli import examples
from controlplane.cli.options import FILE, log_options


@click.command(epilog=examples("cats agent -c agent.yaml", "cats agent -c agent.yaml --check"))
@click.option(
    "-c",
    "--config",
    "config_file",
    type=FILE,
    required=True,
    metavar="FILE",
    help="The agent's configuration, usually agent.yaml.",
)
@click.option("--check", is_flag=True, help="Validate the configuration and end.")
@log_options
def command(*, config_file: Path, check: bool, log_format: str | None, log_level: str) -> None:
    """Run the agent of a site: measure its instances, machine and network, and report.

    It dials out to the control planes and needs no open port of its own.
    SIGTERM ends it with status 0.
    """
    from controlplane.agent.settings import parse_agent_config  # noqa: PLC0415 -- loads pydantic
    from controlplane.server.config_file import read_text  # noqa: PLC0415

    config = parse_agent_config(read_text(config_file), file=str(config_file))
    if check:
        click.echo(f"{config_file}: ok ({len(config.instances)} instances)")
        return
    from controlplane.app.agent import run_agent  # noqa: PLC0415 -- loads everything
    from controlplane.server.log import set_up_logs  # noqa: PLC0415

    set_up_logs(style=log_format, level=log_level)
    asyncio.run(run_agent(config))
