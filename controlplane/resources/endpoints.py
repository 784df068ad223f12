"""Endpoints with their weights: the one resource that changes every second, so the fast one.

An endpoint's constant part (address, metadata) is serialised once per instance; an assignment is
then joined from bytes, with the tags and lengths of protobuf written here. The result equals what
the protobuf runtime serialises (a test holds it to that), at a small part of its time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2

from controlplane.config import Instance, InstanceModel, Model, Service, Site, SiteKind
from controlplane.config.serving import served_name, serving_model
from controlplane.resources import names
from controlplane.resources.https import transport_name
from controlplane.resources.wire_format import delimited, field, varint
from controlplane.steering.plan import Allocation
from controlplane.xds.snapshot import make_resource
from controlplane.xds.types import ENDPOINT, Resource

ANY_ONE_OF_P0 = 100_000
"""Overprovisioning in per cent: one healthy endpoint in a thousand still keeps all requests in its
priority, so that a fallback gets them only when nothing in the priority above answers."""

_LONGEST = 8
"""Bytes of the greatest weight in its wrapper."""


_OVERLOAD = b"overload"
"""Category of what is dropped; Envoy takes one only."""

_FINER = 100
"""Envoy 1.40 hands a changed drop overload to its workers only together with changed hosts or
weights (measured). So weights carry the part, in per cent, below what they split by: they differ
whenever it does, and the split is the same within one unit of weight."""


class EndpointEncoder:
    """Serialises assignments; holds each instance's and site's constant bytes."""

    def __init__(
        self,
        sites: Iterable[Site],
        instances: Iterable[Instance],
        *,
        services: Iterable[Service] = (),
        models: Iterable[Model] = (),
    ) -> None:
        places = tuple(sites)
        self._localities = {site.name: field(1, _locality(site)) for site in places}
        self._devices = frozenset(site.name for site in places if site.kind is SiteKind.DEVICE)
        self._remote: dict[bytes, bytes] = {}
        """Constant -> the same of an endpoint that a device's own model shares requests with."""
        known = {model.name: model for model in models}
        listed = tuple(instances)
        self._constants = {each.name: _endpoint(each, each.serves[0], known) for each in listed}
        several = [each for each in listed if len(each.models) > 1]
        self._own_constants: dict[str, dict[str, bytes]] = {}
        """Service -> constants, where an instance of several models serves it with one of them."""
        for service in services if several else ():
            pairs = ((each, serving_model(service, each)) for each in several)
            self._own_constants[service.name] = self._constants | {
                each.name: _endpoint(each, model, known)
                for each, model in pairs
                if model is not None
            }
        constants = (
            *self._constants.values(),
            *(constant for own in self._own_constants.values() for constant in own.values()),
        )
        if self._devices:
            self._remote = {constant: _mark_remote(constant) for constant in constants}
        longest = max(map(len, (*constants, *self._remote.values())), default=0) + _LONGEST
        self._tags = tuple(b"\x12" + varint(size) for size in range(longest + 1))
        """Bytes of an endpoint -> what stands before it."""
        self._weights: dict[int, bytes] = {}
        """Weight -> its bytes; a few thousand at most, since weights have a fixed sum."""

    def encode(
        self, cluster: str, allocations: Iterable[Allocation], *, drop: float = 0.0
    ) -> Resource:
        """Serialise the endpoints of *cluster*.

        Args:
            cluster: name of the cluster, and of the resource.
            allocations: in an order that is always the same; every instance and site known,
                weights at least 1, priorities from 0 without gaps.
            drop: part of the requests that Envoy answers 503 itself, 0 to 1.
        """
        groups: dict[tuple[int, str], list[bytes]] = {}
        constants = self._own_constants.get(cluster, self._constants)
        tags, weights = self._tags, self._weights
        mark = max(1, round(drop * _FINER)) if drop > 0 else 0
        if self._devices:
            allocations = tuple(allocations)
            shared = any(a.priority == 0 and a.site in self._devices for a in allocations)
        else:
            shared = False
        for each in allocations:
            if mark:
                weight = _weight(each.weight * _FINER + mark)
            else:
                weight = weights.get(each.weight) or self._weight(each.weight)
            place = each.priority, each.site
            group = groups.get(place)
            if group is None:
                group = groups[place] = [self._localities[each.site]]
            constant = constants[each.instance]
            if shared and each.site not in self._devices:
                constant = self._remote[constant]
            group += (tags[len(constant) + len(weight)], constant, weight)
        parts = [field(1, cluster.encode())]
        ordered = sorted(groups)
        for place in ordered:
            priority, _ = place
            tail = b"" if priority == 0 else b"\x28" + varint(priority)
            parts.append(field(2, b"".join(groups[place]) + tail))
        policy = b""
        if drop > 0:
            part = b"\x08" + varint(round(drop * 10_000)) + b"\x10\x01"
            policy += field(2, field(1, _OVERLOAD) + field(2, part))
        if ordered and ordered[-1][0] > 0:
            policy += b"\x1a" + delimited(b"\x08" + varint(ANY_ONE_OF_P0))
        if policy:
            parts.append(field(4, policy))
        body = b"".join(parts)
        return make_resource(cluster, field(1, ENDPOINT.encode()) + field(2, body))

    def _weight(self, weight: int) -> bytes:
        encoded = self._weights[weight] = _weight(weight)
        return encoded


def _weight(weight: int) -> bytes:
    return b"\x22" + delimited(b"\x08" + varint(weight))


def _endpoint(instance: Instance, model: InstanceModel, models: Mapping[str, Model]) -> bytes:
    endpoint = endpoint_components_pb2.LbEndpoint()
    address = endpoint.endpoint.address.socket_address
    address.address = instance.host
    address.port_value = instance.port
    endpoint.metadata.filter_metadata[names.METADATA].update(
        {
            names.METADATA_INSTANCE: instance.name,
            names.METADATA_SITE: instance.site,
            names.METADATA_MODEL: model.name,
        }
    )
    served_as = served_name(model, models)
    if served_as != model.name:
        endpoint.metadata.filter_metadata[names.METADATA].update(
            {names.METADATA_SERVED_AS: served_as}
        )
    if instance.https is not None:
        endpoint.metadata.filter_metadata[names.TRANSPORT_MATCH].update(
            {names.TRANSPORT_HTTPS: transport_name(instance.https)}
        )
        # Every Envoy of a fleet would ask a server that is not the fleet's, every two seconds.
        endpoint.endpoint.health_check_config.disable_active_health_check = True
    elif not instance.tls:
        endpoint.metadata.filter_metadata[names.TRANSPORT_MATCH].update(
            {names.TRANSPORT_PLAIN: True}
        )
    if instance.gateway is not None and instance.gateway.path:
        # A check's path is the cluster's, and would reach what else is behind the gateway.
        endpoint.endpoint.health_check_config.disable_active_health_check = True
    elif instance.gateway is not None:
        endpoint.endpoint.health_check_config.hostname = instance.gateway.host
    serialised: bytes = endpoint.SerializeToString(deterministic=True)
    return serialised


def _mark_remote(constant: bytes) -> bytes:
    endpoint = endpoint_components_pb2.LbEndpoint.FromString(constant)
    endpoint.metadata.filter_metadata[names.LOAD_BALANCING].update({names.REMOTE: True})
    marked: bytes = endpoint.SerializeToString(deterministic=True)
    return marked


def _locality(site: Site) -> bytes:
    serialised: bytes = base_pb2.Locality(
        region=site.region, zone=site.zone, sub_zone=site.name
    ).SerializeToString(deterministic=True)
    return serialised
