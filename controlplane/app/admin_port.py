"""What is served by HTTP: the admin port with its login, and the webhook; all certificates."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

from controlplane.admin_api.admission import build_admission
from controlplane.admin_api.routes import build_admin
from controlplane.admin_api.view import AdminView
from controlplane.app.listeners import bind_http
from controlplane.auth.admin_tokens import Login, TokenFile
from controlplane.config import Admin, Tls, Webhook
from controlplane.config.addresses import is_loopback
from controlplane.controller.control_plane import ControlPlane
from controlplane.errors import StartError
from controlplane.runtime.addresses import Address, join_address
from controlplane.runtime.certificate_files import CertificateFiles


def open_certificates(control: ControlPlane) -> list[CertificateFiles | None]:
    """Return the certificates of the gRPC, the admin and the webhook port, where they have some."""
    server = control.config.server
    webhook = server.webhook
    made: list[CertificateFiles | None] = []
    for tls, section, alpn, verify in (
        (server.tls, "server.tls", "h2", ssl.CERT_REQUIRED),
        # Who shows no certificate may still show a token, or ask for health only.
        (server.admin.tls, "server.admin.tls", "http/1.1", ssl.CERT_OPTIONAL),
        (
            None if webhook is None else Tls(cert=webhook.cert, key=webhook.key),
            "server.webhook",
            "http/1.1",
            ssl.CERT_NONE,
        ),
    ):
        if tls is None:
            made.append(None)
            continue
        made.append(
            CertificateFiles(
                tls,
                section=section,
                alpn=alpn,
                verify=verify,
                on_state=control.metrics.certificates_ok.labels(section).set,
                log=control.log,
            )
        )
    return made


def _login(admin: Admin, address: Address) -> Login | None:
    """Return what the admin port asks of its users; None where only this machine reaches it."""
    certificates = admin.tls is not None and admin.tls.client_ca is not None
    if admin.token_file is None and not certificates:
        if is_loopback(address[0]):
            return None
        raise StartError(
            f"--admin {join_address(address)}: other machines can reach it and none would"
            " be asked who it is; set server.admin.token_file or server.admin.tls.client_ca, or"
            " bind it to 127.0.0.1"
        )
    try:
        return Login(
            None if admin.token_file is None else TokenFile(Path(admin.token_file)),
            certificates=certificates,
        )
    except OSError as error:
        raise StartError(
            f"server.admin.token_file: {admin.token_file}: {error.strerror};"
            " name an existing file that the control plane's user may read"
        ) from error


async def build_http(
    control: ControlPlane,
    admin_view: AdminView,
    address: Address,
    *,
    extra_routes: Iterable[web.RouteDef] = (),
) -> web.AppRunner:
    """Return the admin API and the dashboard, to be bound to *address*.

    Raises:
        StartError: other machines reach the address, and nothing would identify their users.
    """
    application = build_admin(
        admin_view,
        host=address[0],
        login=_login(control.config.server.admin, address),
        extra_routes=extra_routes,
    )
    # Inflating is left to the handlers: aiohttp answers 500 to what is no gzip, on any path.
    runner = web.AppRunner(
        application,
        access_log=None,
        shutdown_timeout=1.0,
        auto_decompress=False,
        lingering_time=1.0,  # for what is left of a body that was answered already
    )
    await runner.setup()
    return runner


async def open_webhook(
    webhook: Webhook | None, certificates: CertificateFiles | None, ends: contextlib.AsyncExitStack
) -> None:
    """Let the Kubernetes API server ask about fleets, on a port of its own: it shows no token."""
    if webhook is None:
        return
    runner = web.AppRunner(build_admission(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    ends.push_async_callback(runner.cleanup)
    address = webhook.address, webhook.port
    await bind_http(runner, address, certificates=certificates, setting="server.webhook.port")
