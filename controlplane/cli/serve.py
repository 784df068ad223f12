"""``cats serve``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from controlplane.cli import examples
from controlplane.cli.options import HOST_PORT, config_option, log_options, read_config

if TYPE_CHECKING:
    from controlplane.app.settings import Extension


@click.command(
    epilog=examples(
        "cats serve -c fleet.yaml",
        "cats serve -c fleet.yaml --state-dir /var/lib/cats --xds 0.0.0.0:18000",
    )
)
@config_option
@click.option(
    "--xds",
    type=HOST_PORT,
    default="127.0.0.1:18000",
    show_default=True,
    help="Address of the gRPC port: Envoys (xDS) and agents.",
)
@click.option(
    "--admin",
    type=HOST_PORT,
    default="127.0.0.1:18080",
    show_default=True,
    help="Address of the HTTP port: dashboard, API, metrics, health. Off loopback, clients must "
    "authenticate as server.admin says.",
)
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Directory that keeps the last plan, so that a restart moves no traffic.",
)
@click.option(
    "--record",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Directory that records every report for cats replay; the newest 512 MB are kept.",
)
@click.option(
    "--settle",
    type=click.FloatRange(0, 60),
    metavar="SECONDS",
    help="Wait for reports before the first plan.  [default: a period, at most 1]",
)
@click.option(
    "--max-connections",
    type=click.IntRange(1, 1_000_000),
    default=20_000,
    show_default=True,
    help="Most Envoys and agents connected at once; further ones are rejected.",
)
@log_options
@click.pass_obj
def command(
    extend: Extension | None,
    *,
    config_file: Path,
    xds: tuple[str, int],
    admin: tuple[str, int],
    state_dir: Path | None,
    record: Path | None,
    settle: float | None,
    max_connections: int,
    log_format: str | None,
    log_level: str,
) -> None:
    """Run the control plane.

    A changed configuration file is loaded while running, as on SIGHUP; an invalid one is
    reported, and the last valid one stays in use. On SIGTERM it drains and exits with status 0.
    """
    read_config(config_file)  # so that a wrong one is reported before everything is loaded
    from controlplane.app.serving import serve  # noqa: PLC0415 -- loads everything
    from controlplane.app.settings import Settings  # noqa: PLC0415 -- loads everything
    from controlplane.runtime.log import set_up_logs  # noqa: PLC0415
    from controlplane.runtime.memory import bound_heap  # noqa: PLC0415

    bound_heap()
    set_up_logs(style=log_format, level=log_level)
    asyncio.run(
        serve(
            Settings(
                config_file=config_file,
                xds=xds,
                admin=admin,
                state_dir=state_dir,
                record=record,
                settle=settle,
                max_connections=max_connections,
                extend=extend,
            )
        )
    )
