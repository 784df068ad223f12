"""``cats agent``."""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import cast

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
@click.option("--check", is_flag=True, help="Validate the configuration and exit.")
@log_options
def command(*, config_file: Path, check: bool, log_format: str | None, log_level: str) -> None:
    """Run the agent of a site: measure its instances, machine and network, and report.

    It dials out to the control planes and needs no open port of its own.
    On SIGTERM it exits with status 0.
    """
    from controlplane.agent.config_file import read_agent_config, read_apart  # noqa: PLC0415

    if check:
        config = read_agent_config(config_file)
        click.echo(f"{config_file}: ok ({len(config.instances)} instances)")
        return
    config = read_apart(config_file)
    load_structlog()
    from controlplane.agent.run import run_agent  # noqa: PLC0415 -- loads everything
    from controlplane.runtime.log import set_up_logs  # noqa: PLC0415

    set_up_logs(style=log_format, level=log_level)
    asyncio.run(run_agent(config))


def load_structlog() -> None:
    """Load it without rich, which it would draw tracebacks with that we do not ask for."""
    if not {"rich", "structlog"} & sys.modules.keys():
        hidden = cast("dict[str, ModuleType | None]", sys.modules)
        hidden["rich"] = None
        try:
            importlib.import_module("structlog")
        finally:
            del hidden["rich"]
