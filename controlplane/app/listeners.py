"""The two ports: gRPC for Envoys and agents, HTTP for people and their tools.

A port that cannot be bound is reported in one line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from aiohttp import web

from controlplane.admin_api.port import MAX_CONNECTIONS, AdminSite
from controlplane.errors import StartError
from controlplane.grpc_transport.server import GrpcServer
from controlplane.runtime.addresses import Address, join_address
from controlplane.runtime.certificate_files import CertificateFiles

if TYPE_CHECKING:
    from controlplane.grpc_transport.grpcio import GrpcioServer, PemFiles

AnyGrpcServer: TypeAlias = "GrpcServer | GrpcioServer"


async def bind_grpc(
    server: AnyGrpcServer, address: Address, *, certificates: CertificateFiles | None
) -> int:
    """Listen on *address*; return the port.

    Raises:
        StartError: it is taken or not ours.
    """
    context = None if certificates is None else certificates.context
    try:
        if isinstance(server, GrpcServer):
            return await server.listen(*address, tls=context)
        # The context has shown that the files can be used.
        files = None if certificates is None else _pem_files(certificates)
        return await server.listen(*address, tls=files)
    except OSError as error:
        raise StartError(
            f"--xds {join_address(address)}: cannot listen there ({error.strerror});"
            " is another control plane running? choose another with --xds HOST:PORT"
        ) from error


def _pem_files(certificates: CertificateFiles) -> PemFiles:
    from controlplane.grpc_transport.grpcio import PemFiles  # noqa: PLC0415 -- see `serving`

    tls = certificates.tls
    return PemFiles(tls.cert, tls.key, tls.client_ca)


async def bind_http(
    runner: web.AppRunner,
    address: Address,
    *,
    certificates: CertificateFiles | None = None,
    setting: str = "--admin",
    most: int = MAX_CONNECTIONS,
) -> int:
    """Listen on *address*, which *setting* names, for *most* connections; return the port.

    Raises:
        StartError: it is taken or not ours.
    """
    context = None if certificates is None else certificates.context
    site = AdminSite(runner, *address, tls=context, most=most)
    try:
        await site.start()
    except OSError as error:
        raise StartError(
            f"{setting} {join_address(address)}: cannot listen there ({error.strerror});"
            f" is another control plane running? choose another with {setting}"
        ) from error
    return site.bound_port
