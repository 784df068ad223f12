"""``cats bootstrap``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from controlplane.cli import BadInput, examples
from controlplane.cli.options import HOST_PORT, config_option, read_config

if TYPE_CHECKING:
    from controlplane.config import Config
    from controlplane.resources.file_secrets import ClientTls


@click.command(
    epilog=examples(
        "cats bootstrap -c fleet.yaml --site edge-north --id gateway-1 > envoy.yaml",
        "cats bootstrap -c fleet.yaml --site phones --id $(hostname) --xds cp.example.net:18000",
    )
)
@config_option
@click.option("--site", required=True, help="Site of the Envoy's clients.")
@click.option("--id", "envoy_id", required=True, help="Node ID, unique among all Envoys.")
@click.option(
    "--xds",
    "servers",
    type=HOST_PORT,
    multiple=True,
    default=["127.0.0.1:18000"],
    show_default="127.0.0.1:18000",
    help="Address of the control plane; repeat it for each replica.",
)
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    default=9901,
    show_default=True,
    help="Port of Envoy's admin interface, on loopback.",
)
@click.option("--sotw", is_flag=True, help="Use state-of-the-world ADS instead of delta ADS.")
@click.option("--ca", help="CA certificates that verify the control plane's certificate.")
@click.option("--cert", help="The Envoy's client certificate.")
@click.option("--key", help="Private key of --cert.")
@click.option("--server-name", help="Name in the control plane's certificate, if not its host.")
@click.option(
    "--secrets",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write there what Envoy needs to take rotated certificates without a restart: --ca, --cert"
    " and --key, those of envoy.instance_tls, and credentials of instances.",
)
def command(
    *,
    config_file: Path,
    site: str,
    envoy_id: str,
    servers: tuple[tuple[str, int], ...],
    admin_port: int,
    sotw: bool,
    ca: str | None,
    cert: str | None,
    key: str | None,
    server_name: str | None,
    secrets: Path | None,
) -> None:
    """Print the bootstrap of one Envoy, as YAML that a stock Envoy accepts.

    A site that the configuration does not name is accepted with a warning: its Envoys get the view
    of unknown sites.
    """
    from controlplane.resources.bootstrap import build_bootstrap  # noqa: PLC0415 -- keeps `cats --help` fast
    from controlplane.resources.file_secrets import ClientTls  # noqa: PLC0415 -- as above

    if (cert is None) != (key is None):
        raise BadInput("--cert and --key go together; set both or neither")
    config = read_config(config_file)
    known = [each.name for each in config.sites]
    if site not in known:
        click.echo(f"warning: no site is called '{site}'; sites are {', '.join(known)}", err=True)
    tls = None
    if config.server.tls is not None or ca is not None or cert is not None:
        directory = None if secrets is None else str(secrets.absolute())
        own = ClientTls(cert=cert, key=key, server_name=server_name, secrets=directory)
        tls = own if ca is None else replace(own, ca=ca)
    _warn_of_directories(config, secrets)
    if secrets is not None:
        _write_secrets(config, tls, secrets)
    click.echo(
        build_bootstrap(
            config,
            site=site,
            envoy_id=envoy_id,
            xds=servers[0],
            standby=servers[1:],
            admin_port=admin_port,
            delta=not sotw,
            tls=tls,
        ),
        nl=False,
    )


def _warn_of_directories(config: Config, secrets: Path | None) -> None:
    """Warn where Envoy will look for files in other places than *secrets*."""
    instances = config.envoy.instance_tls
    if instances is not None and (secrets is None or str(secrets.absolute()) != instances.secrets):
        click.echo(
            f"warning: envoy.instance_tls has Envoys look in {instances.secrets} for the files that"
            " --secrets writes; they refuse the clusters until these are there",
            err=True,
        )
    for directory in {
        each.https.credential.secrets
        for each in config.instances
        if each.https and each.https.credential
    }:
        if secrets is None or str(secrets.absolute()) != directory:
            click.echo(
                f"warning: https.credential has Envoys look in {directory} for the files that"
                " --secrets writes; they reject the clusters until these are there",
                err=True,
            )


def _write_secrets(config: Config, tls: ClientTls | None, secrets: Path) -> None:
    """Write the files that Envoy watches for rotated certificates and credentials."""
    from controlplane.resources.file_secrets import (  # noqa: PLC0415 -- keeps `cats --help` fast
        build_credential_secrets,
        build_instance_secrets,
        build_secrets,
    )

    instances = config.envoy.instance_tls
    credentials = build_credential_secrets(config)
    if tls is None and instances is None and not credentials:
        raise BadInput(
            "--secrets goes with --ca, --cert and --key, envoy.instance_tls, or"
            " instances[].https.credential"
        )
    files = credentials | ({} if tls is None else build_secrets(tls))
    files |= {} if instances is None else build_instance_secrets(instances)
    secrets.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (secrets / name).write_text(text, encoding="utf-8")
