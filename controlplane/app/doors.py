"""The two ports: gRPC for Envoys and agents, HTTP for people and their tools.

A port that cannot be bound is told in one line.
Certificates are read again when their files change, so that a rotation needs no restart.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
from aiohttp import web

from controlplane.config import Tls
from controlplane.errors import ControlPlaneError

Address = tuple[str, int]
"""Host and port; port 0 takes a free one."""


class StartError(ControlPlaneError):
    """The control plane cannot start; the message says what to change."""


def join_address(address: Address) -> str:
    """Give ``HOST:PORT``, an IPv6 host in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind_grpc(server: grpc.aio.Server, address: Address, *, tls: Tls | None) -> int:
    """Listen on *address*; give the port.

    Raises:
        StartError: it is taken or not ours, or the certificates cannot be read.
    """
    try:
        if tls is None:
            return int(server.add_insecure_port(join_address(address)))
        return int(server.add_secure_port(join_address(address), _credentials(tls)))
    except RuntimeError as error:
        raise StartError(
            f"--xds {join_address(address)}: cannot listen there; is another control plane"
            " running? choose another with --xds HOST:PORT"
        ) from error


async def bind_http(runner: web.AppRunner, address: Address) -> int:
    """Listen on *address*; give the port.

    Raises:
        StartError: it is taken or not ours.
    """
    site = web.TCPSite(runner, *address)
    try:
        await site.start()
    except OSError as error:
        raise StartError(
            f"--admin {join_address(address)}: cannot listen there ({error.strerror});"
            " is another control plane running? choose another with --admin HOST:PORT"
        ) from error
    return int(runner.addresses[0][1])


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    files = (tls.cert, tls.key, *((tls.client_ca,) if tls.client_ca else ()))
    try:
        seen = _stamps(files)
        first = _read_certificates(tls)
    except OSError as error:
        raise StartError(f"server.tls: {error.filename}: {error.strerror}") from error
    return grpc.dynamic_ssl_server_credentials(
        first, _fetch_changed(tls, files, seen), require_client_authentication=bool(tls.client_ca)
    )


def _fetch_changed(
    tls: Tls, files: tuple[str, ...], seen: tuple[int, ...]
) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
    last = seen

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal last
        try:
            stamps = _stamps(files)
            if stamps == last:
                return None
            fresh = _read_certificates(tls)
        except OSError:
            return None  # in the middle of a rotation: the old ones serve until both are there
        last = stamps
        return fresh

    return fetch


def _stamps(files: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(Path(file).stat().st_mtime_ns for file in files)


def _read_certificates(tls: Tls) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(Path(tls.key).read_bytes(), Path(tls.cert).read_bytes())],
        root_certificates=Path(tls.client_ca).read_bytes() if tls.client_ca else None,
    )
