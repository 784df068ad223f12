"""What the log says of a start: where the ports are, and what is unsafe about them."""

from __future__ import annotations

from controlplane import __version__
from controlplane.app.settings import Settings
from controlplane.config.addresses import is_loopback
from controlplane.controller.control_plane import ControlPlane
from controlplane.runtime.addresses import join_address


def report_open_files(control: ControlPlane, settings: Settings, most: int) -> None:
    """Warn where the limit of open files allows far fewer clients than wanted."""
    if most < settings.max_connections / 2:
        control.log.warning(
            "open-file limit lowers max connections",
            max_connections=most,
            wanted=settings.max_connections,
            remedy="raise the hard limit (LimitNOFILE, ulimit -Hn), or --max-connections",
        )


def report_start(control: ControlPlane, settings: Settings, xds_port: int, admin_port: int) -> None:
    """Log where the ports are, and warn of what is sent without encryption or proof."""
    config = control.config
    scheme = "http" if config.server.admin.tls is None else "https"
    control.log.info(
        "control plane started",
        version=__version__,
        config=str(settings.config_file),
        sites=len(config.sites),
        services=len(config.services),
        instances=len(config.instances),
        xds=join_address((settings.xds[0], xds_port)),
        admin=f"{scheme}://{join_address((settings.admin[0], admin_port))}",
        tls=config.server.tls is not None,
    )
    admin = config.server.admin
    if not is_loopback(settings.admin[0]) and admin.tls is None:
        control.log.warning(
            "admin tokens sent without encryption",
            admin=join_address(settings.admin),
            remedy="set server.admin.tls, or restrict who can reach the port",
        )
    if config.server.tls is None and not is_loopback(settings.xds[0]):
        control.log.warning(
            "gRPC port served without TLS",
            xds=join_address(settings.xds),
            remedy="set server.tls in the configuration, or restrict who can reach the port",
        )
    elif config.server.tls is not None and config.server.tls.client_ca is None:
        control.log.warning(
            "client certificates not required",
            remedy="set server.tls.client_ca in the configuration",
        )
