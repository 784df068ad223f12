"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from controlplane.config import Config

Decorated = TypeVar("Decorated", bound="Callable[..., Any] | click.Command")

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
"""A file that is there."""


class HostPort(click.ParamType[tuple[str, int]]):
    """``HOST:PORT`` to a pair; an IPv6 host stands in brackets."""

    name = "HOST:PORT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Give host and port, or end the command with what would be right."""
        host, colon, port = str(value).rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        if not (colon and bare and port.isascii() and port.isdecimal() and int(port) <= 65535):
            self.fail(f"'{value}' is not HOST:PORT, such as 127.0.0.1:18000", param, ctx)
        if (":" in bare) != (host == f"[{bare}]"):
            self.fail(f"'{value}': write an IPv6 host in brackets, as [::1]:18000", param, ctx)
        return bare, int(port)


HOST_PORT = HostPort()

config_option = click.option(
    "-c",
    "--config",
    "config_file",
    type=FILE,
    required=True,
    metavar="FILE",
    help="The configuration, usually fleet.yaml.",
)
"""Passes ``config_file: Path``."""

admin_option = click.option(
    "--admin",
    "admin_url",
    default="http://127.0.0.1:18080",
    show_default=True,
    metavar="URL",
    help="The control plane's HTTP port.",
)
"""Passes ``admin_url: str``, for commands that ask a running control plane."""


def log_options(command: Decorated) -> Decorated:
    """Pass ``log_format: str | None`` and ``log_level: str`` to a command that runs on."""
    level = click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
    )
    form = click.option(
        "--log-format",
        type=click.Choice(["json", "console"]),
        help="[default: console on a terminal, else json]",
    )
    return form(level(command))


def read_config(path: Path) -> Config:
    """Read and validate a configuration; its faults end the command with status 2."""
    from controlplane.config import parse_config  # noqa: PLC0415 -- keeps `cats --help` fast
    from controlplane.runtime.config_file import read_text  # noqa: PLC0415

    return parse_config(read_text(path), file=str(path))
