"""``cats schema``."""

from __future__ import annotations

import json

import click

from controlplane.cli import examples


@click.command(
    epilog=examples(
        "cats schema > fleet.schema.json",
        "# then, as the first line of fleet.yaml:",
        "# yaml-language-server: $schema=fleet.schema.json",
    )
)
def command() -> None:
    """Print the JSON Schema of the configuration, for completion and validation in editors."""
    from controlplane.config import config_schema  # noqa: PLC0415 -- loads pydantic

    click.echo(json.dumps(config_schema(), indent=2))
