"""A served `XdsService` and a client that speaks either mode one message at a time.

For tests that need real gRPC and no Envoy; the client keeps nothing and obeys nothing by itself.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2
from google.rpc import status_pb2

from controlplane.config import Transport
from controlplane.grpc_services.ads import XdsService
from controlplane.grpc_services.envoys import EnvoyRegistry, Observe
from controlplane.grpc_services.requests import Node
from controlplane.grpc_services.views import ViewStore
from controlplane.grpc_services.xds_settings import XdsSettings, limits
from controlplane.grpc_transport.calls import OpenCall
from controlplane.grpc_transport.grpcio import GrpcioServer, PemFiles
from controlplane.grpc_transport.server import GrpcServer
from controlplane.xds.snapshot import Snapshot, TypeSnapshot, make_resource
from controlplane.xds.types import Resource

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
_END: Any = vars(grpc.aio)["EOF"]
"""What a read gives at the end of a stream; the stubs do not know it."""

PATIENCE = 60.0
"""Seconds until a test gives up; nothing is expected to take this long."""


def make_snapshot(types: Mapping[str, Mapping[str, str]]) -> Snapshot:
    """Make a snapshot of stand-ins: type URL -> name -> content."""
    return Snapshot(
        {
            type_url: TypeSnapshot.of(
                make_stand_in(type_url, name, content) for name, content in resources.items()
            )
            for type_url, resources in types.items()
        }
    )


def make_stand_in(type_url: str, name: str, content: str, *, ttl: float | None = None) -> Resource:
    """Make a resource that is no true message of its type but a well-formed ``Any``."""
    body = any_pb2.Any(type_url=type_url, value=f"{name}={content}".encode())
    return make_resource(name, body.SerializeToString(), ttl=ttl)


def make_assignment(name: str, weights: Iterable[int]) -> Resource:
    """Make a true assignment, one endpoint for each of *weights*."""
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    locality = message.endpoints.add()
    for number, weight in enumerate(weights):
        endpoint = locality.lb_endpoints.add()
        address = endpoint.endpoint.address.socket_address
        address.address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        address.port_value = 8000
        endpoint.load_balancing_weight.value = weight
    body = any_pb2.Any()
    body.Pack(message)
    return make_resource(name, body.SerializeToString(deterministic=True))


@dataclass(slots=True)
class XdsServer:
    """A running server and its parts."""

    address: str
    views: ViewStore
    registry: EnvoyRegistry
    service: XdsService
    grpc_server: GrpcServer | GrpcioServer

    async def stop(self) -> None:
        """End it without grace; its streams break."""
        await self.grpc_server.stop()


@asynccontextmanager
async def serve_xds(
    *,
    settings: XdsSettings | None = None,
    sites: Iterable[str] = ("north",),
    observe: Observe | None = None,
    port: int = 0,
    beside: Mapping[str, OpenCall] | None = None,
    transport: Transport = Transport.H2,
    tls: PemFiles | None = None,
) -> AsyncIterator[XdsServer]:
    """Serve xDS; a node's site is known if it is one of *sites*.

    Args:
        settings: of the service.
        sites: that are known.
        observe: is informed what happens.
        port: on loopback; 0 takes a free one.
        beside: further methods on the same port.
        transport: what carries gRPC.
        tls: what is shown, and whose clients are taken; None serves clear text.
    """
    known = frozenset(sites)

    def resolve(node: Node) -> str | None:
        return node.site if node.site in known else None

    settings = settings or XdsSettings()
    views, registry = ViewStore(), EnvoyRegistry(observe)
    service = XdsService(views, registry, resolve_site=resolve, settings=settings)
    make = GrpcServer if transport is Transport.H2 else GrpcioServer
    server = make(limits=limits(settings))
    service.serve_on(server)
    for path, open_call in (beside or {}).items():
        server.add_method(path, open_call)
    if isinstance(server, GrpcServer):
        port = await server.listen("127.0.0.1", port, tls=None if tls is None else _context(tls))
    else:
        port = await server.listen("127.0.0.1", port, tls=tls)
    try:
        yield XdsServer(f"127.0.0.1:{port}", views, registry, service, server)
    finally:
        await server.stop()


def _context(files: PemFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files.client_ca)
    context.load_cert_chain(files.cert, files.key)
    context.verify_mode = ssl.CERT_NONE if files.client_ca is None else ssl.CERT_REQUIRED
    # As the control plane does: a session that is resumed is not held to a newer authority.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context


class XdsClient:
    """One stream; requests are written as reported, responses read one by one."""

    def __init__(self, channel: grpc.aio.Channel, *, delta: bool, method: str = "") -> None:
        self._delta = delta
        name = method or ADS + ("Delta" if delta else "Stream") + "AggregatedResources"
        opened: Any = channel
        self._call: Any = opened.stream_stream(name)()
        self._node: base_pb2.Node | None = base_pb2.Node(id="client-1")
        self._node.metadata["site"] = "north"

    @property
    def node(self) -> base_pb2.Node:
        """Return the node that the first request will carry, to be changed in place."""
        if self._node is None:
            raise AssertionError("the node was already sent")
        return self._node

    async def request(
        self,
        type_url: str,
        names: Iterable[str] = (),
        *,
        unsubscribe: Iterable[str] = (),
        initial: Mapping[str, str] | None = None,
        nonce: str = "",
        version: str = "",
        refusal: str = "",
    ) -> None:
        """Write a request; the first one carries the node."""
        message: Any
        if self._delta:
            message = discovery_pb2.DeltaDiscoveryRequest(
                type_url=type_url,
                resource_names_subscribe=names,
                resource_names_unsubscribe=unsubscribe,
                initial_resource_versions=initial or {},
                response_nonce=nonce,
            )
        else:
            message = discovery_pb2.DiscoveryRequest(
                type_url=type_url, resource_names=names, response_nonce=nonce, version_info=version
            )
        if refusal:
            message.error_detail.CopyFrom(status_pb2.Status(code=3, message=refusal))
        if self._node is not None:
            message.node.CopyFrom(self._node)
            self._node = None
        await self._call.write(message.SerializeToString())

    async def write(self, message: bytes) -> None:
        """Write raw bytes as a request."""
        await self._call.write(message)

    async def response(self) -> Any:
        """Wait for the next response, parsed."""
        kind = (
            discovery_pb2.DeltaDiscoveryResponse if self._delta else discovery_pb2.DiscoveryResponse
        )
        message = await asyncio.wait_for(self._call.read(), PATIENCE)
        if message is _END:
            raise EOFError(await self._call.code())
        return kind.FromString(message)

    async def status(self) -> tuple[grpc.StatusCode, str]:
        """Wait for the end of the stream and return its status."""
        code = await asyncio.wait_for(self._call.code(), PATIENCE)
        return code, await self._call.details()

    def cancel(self) -> None:
        """End the stream rudely."""
        self._call.cancel()


def names_in(response: Any) -> list[str]:
    """Return the names of the stand-ins in a response of either mode."""
    if isinstance(response, discovery_pb2.DeltaDiscoveryResponse):
        return [resource.name for resource in response.resources]
    return [resource.value.decode().partition("=")[0] for resource in response.resources]
