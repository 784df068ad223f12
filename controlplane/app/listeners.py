"""The two ports: gRPC for Envoys and agents, HTTP for people and their tools.

A port that cannot be bound is reported in one line.
"""

from __future__ import annotations

from aiohttp import web

from controlplane.admin_api.port import AdminSite
from controlplane.errors import StartError
from controlplane.http2.server import GrpcServer
from controlplane.runtime.addresses import Address, join_address
from controlplane.runtime.certificate_files import CertificateFiles


async def bind_grpc(
    server: GrpcServer, address: Address, *, certificates: CertificateFiles | None
) -> int:
    """Listen on *address*; return the port.

    Raises:
        StartError: it is taken or not ours.
    """
    context = None if certificates is None else certificates.context
    try:
        return await server.listen(*address, tls=context)
    except OSError as error:
        raise StartError(
            f"--xds {join_address(address)}: cannot listen there ({error.strerror});"
            " is another control plane running? choose another with --xds HOST:PORT"
        ) from error


async def bind_http(
    runner: web.AppRunner, address: Address, *, certificates: CertificateFiles | None = None
) -> int:
    """Listen on *address*; return the port.

    Raises:
        StartError: it is taken or not ours.
    """
    context = None if certificates is None else certificates.context
    site = AdminSite(runner, *address, tls=context)
    try:
        await site.start()
    except OSError as error:
        raise StartError(
            f"--admin {join_address(address)}: cannot listen there ({error.strerror});"
            " is another control plane running? choose another with --admin HOST:PORT"
        ) from error
    return int(runner.addresses[0][1])
