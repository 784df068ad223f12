"""Every name that goes on the wire to an Envoy or comes back from one.

The only place that spells them; knows nothing of the messages that carry them.
"""

from __future__ import annotations

from typing import Final

LISTENER: Final = "inference"
"""The listener, its route configuration and the prefix of its HTTP statistics."""
ROUTES: Final = "inference"
NO_SERVICE: Final = "no service"
"""Route of what no service matches, and the cluster, which does not exist, that it leads to; no
service can have this name. Every other route is named after its service."""

XDS_CLUSTER: Final = "cats-control-plane"
"""The bootstrap's cluster that leads to the control plane."""

METADATA: Final = "cats"
"""Namespace of an endpoint's metadata, and of the node's."""
METADATA_INSTANCE: Final = "instance"
METADATA_SITE: Final = "site"
"""Key of an endpoint's metadata, and of the top level of the node's."""
METADATA_MODEL: Final = "model"
METADATA_SERVED_AS: Final = "served_as"
"""Key of an endpoint's metadata: what the instance calls its model, where that is not its name."""
METADATA_HINT: Final = "hint"
"""Key of a route's metadata: what a request without a service can be sent as instead."""
METADATA_START_UP: Final = "start_up"
"""Key of a route's metadata: seconds after which an instance may have been started, where one of
its service may be asleep."""

LOAD_BALANCING: Final = "envoy.lb"
"""Namespace of an endpoint's metadata by which Envoy leaves endpoints out of retries."""
REMOTE: Final = "remote"
"""Key there, true where a device's own model shares the requests: a retry, of which the device's
link may be the cause, leaves the endpoint out."""

TRANSPORT_MATCH: Final = "envoy.transport_socket_match"
"""Namespace of an endpoint's metadata by which Envoy chooses how to speak to it."""
TRANSPORT_PLAIN: Final = "plain"
"""Key there of an endpoint that speaks no TLS, and name of the transport that it gets."""
TRANSPORT_HTTPS: Final = "https"
"""Key there of an endpoint that has HTTPS of its own; the value names the transport."""

INSTANCES_CA: Final = "instances-ca"
INSTANCES_OWN: Final = "instances-own"
"""Secrets for TLS to instances, and their files: whom to trust, and what to show."""

ROLE_GRPC: Final = "grpc"
"""Role of gRPC's own xDS clients: of a node's metadata, and of their views' keys."""

LOW_BATTERY: Final = "low-battery"
"""Variant of a device site's views, for the clients on devices whose battery is low."""

BODY_METADATA: Final = "cats.request"
"""Namespace of what a request's JSON body says."""
BODY_MODEL: Final = "model"
"""A string; false if the body was read and names none."""
BODY_UNREADABLE: Final = "unreadable"

HEADER_INSTANCE: Final = "x-cats-instance"
HEADER_SITE: Final = "x-cats-site"
HEADER_MODEL: Final = "x-cats-model"
"""Response headers that name what answered; the same names in a request are removed."""

STATS_PREFIX: Final = "cats"
"""First part of the names of all statistics below."""

STAT_REQUESTS: Final = "requests"
"""Counter: attempts that ended, by service, instance, code and flags."""
STAT_LATENCY: Final = "latency_us"
"""Counter: microseconds from sending a request to the last byte of its answer."""
STAT_TTFT: Final = "ttft_us"
"""Counter: microseconds from sending a request to the first byte of its answer, over the same
attempts."""
STAT_ANSWERS: Final = "answers"
"""Counter: attempts that got a whole answer with a status below 400; what to divide the two sums
by."""
STAT_IN_PROGRESS: Final = "in_progress"
"""Gauge: attempts that have an upstream connection and have not ended."""
STAT_CLIENT_REQUESTS: Final = "client_requests"
"""Counter: clients' requests that ended after more than one attempt or by a timeout of Envoy's, by
service, last instance, code, flags and attempts."""
STAT_LATENCY_HISTOGRAM: Final = "latency"
STAT_TTFT_HISTOGRAM: Final = "ttft"
"""Histograms of the same two times in microseconds, by service only."""

TAG_SERVICE: Final = "service"
TAG_INSTANCE: Final = "instance"
"""``-`` when no instance was chosen."""
TAG_CODE: Final = "code"
"""HTTP status; ``0`` when no answer came."""
TAG_FLAGS: Final = "flags"
"""Envoy's response flags, such as ``UF`` (connection failed) or ``DC`` (the client left);
``-`` when there are none."""


TAG_ATTEMPTS: Final = "attempts"
"""How often Envoy asked an instance for one request."""
