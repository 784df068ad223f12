"""The two ports: gRPC for Envoys and agents, HTTP for people and their tools.

A port that cannot be bound is told in one line.
Certificates are read again when their files change, so that a rotation needs no restart.
"""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

from aiohttp import web

from controlplane.admin_api.port import AdminSite
from controlplane.config import Tls
from controlplane.errors import StartError
from controlplane.http2.server import GrpcServer
from controlplane.runtime.addresses import Address, join_address


async def bind_grpc(server: GrpcServer, address: Address, *, tls: Tls | None) -> int:
    """Listen on *address*; give the port.

    Raises:
        StartError: it is taken or not ours, or the certificates cannot be read.
    """
    context = None if tls is None else _rotating_context(
        tls, section="server.tls", alpn="h2", verify=ssl.CERT_REQUIRED
    )  # fmt: skip
    try:
        return await server.listen(*address, tls=context)
    except OSError as error:
        raise StartError(
            f"--xds {join_address(address)}: cannot listen there ({error.strerror});"
            " is another control plane running? choose another with --xds HOST:PORT"
        ) from error


async def bind_http(runner: web.AppRunner, address: Address, *, tls: Tls | None = None) -> int:
    """Listen on *address*; give the port.

    Raises:
        StartError: it is taken or not ours, or the certificates cannot be read.
    """
    # Who shows no certificate may still show a token, or ask for health only.
    context = None if tls is None else _rotating_context(
        tls, section="server.admin.tls", alpn="http/1.1", verify=ssl.CERT_OPTIONAL
    )  # fmt: skip
    site = AdminSite(runner, *address, tls=context)
    try:
        await site.start()
    except OSError as error:
        raise StartError(
            f"--admin {join_address(address)}: cannot listen there ({error.strerror});"
            " is another control plane running? choose another with --admin HOST:PORT"
        ) from error
    return int(runner.addresses[0][1])


def _rotating_context(
    tls: Tls, *, section: str, alpn: str, verify: ssl.VerifyMode
) -> ssl.SSLContext:
    """Give a context that answers each handshake with the newest certificates."""

    def build() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(tls.cert, tls.key)
        context.set_alpn_protocols([alpn])
        if tls.client_ca:
            context.load_verify_locations(tls.client_ca)
            context.verify_mode = verify
            # A resumed session is not held to an authority that has changed since.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        return context

    files = (tls.cert, tls.key, *((tls.client_ca,) if tls.client_ca else ()))
    try:
        seen = _stamps(files)
        newest = first = build()
    except ssl.SSLError as error:
        raise StartError(
            f"{section}: {tls.cert}, {tls.key}: not a certificate and its key ({error.reason});"
            " give PEM files, and the key that the certificate was made with"
        ) from error
    except OSError as error:
        raise StartError(
            f"{section}: {error.filename}: {error.strerror};"
            " name a file that is there and that the user of the control plane may read"
        ) from error

    def renew(handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        nonlocal seen, newest
        # In the middle of a rotation the old ones serve, until both files are there and fit.
        with contextlib.suppress(OSError):
            stamps = _stamps(files)
            if stamps != seen:
                newest = build()
                seen = stamps
        handshake.context = newest

    first.sni_callback = renew
    return first


def _stamps(files: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(Path(file).stat().st_mtime_ns for file in files)
