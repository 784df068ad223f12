"""Type URLs in push order, and the plain values that cross the protocol's edge.

The core neither parses nor builds protobuf: `controlplane.server` turns wire messages into these
and back, so that the rules can be tested as values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True)
class Rejection:
    """A client's refusal: the ``error_detail`` of a request."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class SotwRequest:
    """A ``DiscoveryRequest`` without its node."""

    type_url: str
    names: tuple[str, ...] = ()
    version: str = ""
    nonce: str = ""
    rejection: Rejection | None = None


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """A ``DeltaDiscoveryRequest`` without its node."""

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    nonce: str = ""
    rejection: Rejection | None = None


@dataclass(frozen=True, slots=True)
class SotwResponse:
    """A ``DiscoveryResponse``."""

    type_url: str
    version: str
    nonce: str
    resources: tuple[Resource, ...]


@dataclass(frozen=True, slots=True)
class DeltaResponse:
    """A ``DeltaDiscoveryResponse``."""

    type_url: str
    version: str
    """``system_version_info``: for people."""
    nonce: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Acked:
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
