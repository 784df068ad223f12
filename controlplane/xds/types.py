"""Type URLs in push order, and the plain values that cross the protocol's edge.

The core neither parses nor builds protobuf: `controlplane.grpc_services` turns wire messages into
these and back, so that the rules can be tested as values.
What is made for every message is a tuple: the cheapest frozen value there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

PREFIX = "type.googleapis.com/"
CLUSTER = PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINT = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = PREFIX + "envoy.config.listener.v3.Listener"
ROUTE = PREFIX + "envoy.config.route.v3.RouteConfiguration"
SECRET = PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"

PUSH_ORDER = (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET)
"""Make before break [Eventual consistency considerations]."""

WHOLE_STATE = frozenset({CLUSTER, LISTENER})
"""SotW responses of these carry everything wanted; what is absent is deleted
[Grouping Resources Into Responses]."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One named resource as bytes, made once and shared by every stream that gets it."""

    name: str
    version: str
    """Hash of *body*: a property of the content, equal on every replica."""
    body: bytes
    """The serialised ``google.protobuf.Any``."""
    ttl: float | None = None
    """Seconds after which a client that hears nothing drops it; none: never.
    Only clients that announce the feature are reported."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A client's refusal: the ``error_detail`` of a request."""

    code: int
    message: str


class SotwRequest(NamedTuple):
    """A ``DiscoveryRequest`` without its node."""

    type_url: str
    names: tuple[str, ...] = ()
    version: str = ""
    nonce: str = ""
    rejection: Rejection | None = None


class DeltaRequest(NamedTuple):
    """A ``DeltaDiscoveryRequest`` without its node."""

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = MappingProxyType({})
    nonce: str = ""
    rejection: Rejection | None = None


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Push:
    """What one response carries apart from its nonce: equal for many streams, made once.

    Compared by identity, so that its bytes can be cached by anyone who writes them.
    """

    version: str
    """Version of the type in the view; delta clients get it as ``system_version_info``."""
    resources: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()
    """Names that a delta client has to drop, or that do not exist."""
    missing: tuple[str, ...] = ()
    """Names that a state-of-the-world client wants and that do not exist."""
    adds: bool = False
    """Whether it carries a resource that the client was not sent before."""
    heartbeat: bool = False
    """Whether it only renews the time to live of *resources*."""


class Response(NamedTuple):
    """A ``DiscoveryResponse`` or a ``DeltaDiscoveryResponse``."""

    type_url: str
    nonce: str
    push: Push


class Acked(NamedTuple):
    """The client took a response."""

    type_url: str
    version: str
    nonce: str


@dataclass(frozen=True, slots=True)
class Nacked:
    """The client refused a response and keeps what it had."""

    type_url: str
    version: str
    nonce: str
    rejection: Rejection


@dataclass(frozen=True, slots=True)
class StaleNonce:
    """A request about a response that a newer one superseded."""

    type_url: str
    nonce: str


Event = Acked | Nacked | StaleNonce


def short_type(type_url: str) -> str:
    """Return the last word of a type URL: ``ClusterLoadAssignment``."""
    return type_url.rsplit(".", 1)[-1] if type_url else "none"
