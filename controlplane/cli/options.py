"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from controlplane.cli import BadInput
from controlplane.cli.assignments import Selection
from controlplane.errors import ControlPlaneError
from controlplane.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from controlplane.config import Config

Decorated = TypeVar("Decorated", bound="Callable[..., Any] | click.Command")

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
"""A file that is there."""

FILE_OR_STDIN = click.Path(exists=True, dir_okay=False, path_type=Path, allow_dash=True)
"""A file that is there, or ``-``."""


class HostPort(click.ParamType[tuple[str, int]]):
    """``HOST:PORT`` to a pair; an IPv6 host stands in brackets."""

    name = "HOST:PORT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Return host and port, or end the command with what would be right."""
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


each_option = click.option(
    "--each", is_flag=True, help="Show every instance, even if many are alike."
)
"""Passes ``each: bool``, for commands that show the instances of a pair."""


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


def read_file_or_stdin(path: Path) -> str:
    """Return the text of a file, or of standard input for ``-``.

    Raises:
        ConfigError: it cannot be read, is too long, or is not UTF-8.
    """
    from controlplane.config.source import MAX_BYTES  # noqa: PLC0415 -- loads the parser
    from controlplane.runtime.config_file import decode, read_text  # noqa: PLC0415

    if str(path) != "-":
        return read_text(path, pipes=True)
    return decode(sys.stdin.buffer.read(MAX_BYTES + 1), file="-")


def complete_from_api(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete names of services, sites and instances: of the file named, else of the server."""
    kind = {"name": "services", "service": "services", "site": "sites"}.get(
        param.name or "", "instances"
    )
    return [name for name in _known_names(ctx, kind) if name.startswith(incomplete)]


def _known_names(ctx: click.Context, kind: str) -> list[str]:
    """Return names for completion; None where neither file nor server can be read."""
    from controlplane.cli.api import fetch  # noqa: PLC0415 -- only while completing

    try:
        if (file := ctx.params.get("config_file")) is not None:
            return [item.name for item in getattr(read_config(Path(file)), kind)]
        url = ctx.params.get("admin_url") or "http://127.0.0.1:18080"
        return [item["name"] for item in fetch(url, "/api/v1/fleet")[kind]]
    except (click.ClickException, ControlPlaneError, OSError, KeyError, TypeError):
        return []


def selection_options(command: Decorated) -> Decorated:
    """Pass ``selection: Selection``: ``--service``, ``--from`` and ``--instance``."""

    @functools.wraps(command)
    def selecting(
        *args: Any, service: str | None, site: str | None, instance: str | None, **given: Any
    ) -> Any:
        return command(*args, selection=Selection(service, site, instance), **given)

    wrapped: Any = selecting
    for name, dest, metavar, words in (
        ("--instance", "instance", "INSTANCE", "Show only this instance."),
        ("--from", "site", "SITE", "Show only clients of this site."),
        ("--service", "service", "SERVICE", "Show only this service."),
    ):
        wrapped = click.option(
            name, dest, metavar=metavar, help=words, shell_complete=complete_from_api
        )(wrapped)
    return cast("Decorated", wrapped)


def check_selection(selection: Selection, config: Config) -> None:
    """Raise BadInput if *selection* names what *config* does not have."""
    for option, name, known in (
        ("--service", selection.service, config.services),
        ("--from", selection.site, config.sites),
        ("--instance", selection.instance, config.instances),
    ):
        names = [item.name for item in known]
        if name is not None and name not in names:
            hint = did_you_mean(name, names, shown=5)
            raise BadInput(f"{option}: no '{name}' in the configuration; {hint}")
