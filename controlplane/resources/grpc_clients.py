"""What gRPC's own xDS clients get: the sidecars' view of a site, written as gRPC reads it.

A gRPC client dials ``xds:///SERVICE``, balances by itself and needs no Envoy.
It takes less than Envoy does and refuses some of what Envoy takes [gRPC proposals A27, A28, A37],
so it has views of its own, derived from the sidecars':

* the listener is named as the service and holds an ``api_listener``;
* round robin follows the weights of localities, never those of endpoints, and no two localities
  may be equal: so each endpoint has a locality of its own, distinguished by its sub-zone;
* where a service has an affinity, the hash is a ring, the only one that gRPC knows.

Its load reports then name instances by their localities.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from envoy.config.endpoint.v3 import endpoint_pb2
from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
    ClusterRingHashLbConfig,
)
from envoy_data_plane.envoy.config.core.v3 import ApiVersion, ConfigSource, SelfConfigSource
from envoy_data_plane.envoy.config.listener.v3 import ApiListener, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    RetryPolicy,
    Route,
    RouteAction,
    RouteActionHashPolicy,
    RouteActionHashPolicyHeader,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from google.protobuf import any_pb2

from controlplane.config import Config, Envoy, Service
from controlplane.resources import names
from controlplane.resources.clusters import ads_source
from controlplane.resources.packing import pack, to_resource
from controlplane.telemetry.load_stats import endpoint_sub_zone
from controlplane.xds.snapshot import Snapshot, TypeSnapshot, make_resource, view_key
from controlplane.xds.types import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource

_RETRY_ON = "unavailable,resource-exhausted"
"""gRPC's words for what Envoy retries: a refused connection, 503 and 429."""
_RING_SIZE = 4096
"""gRPC's cap on a ring; the larger, the closer to the weights."""


class GrpcViews:
    """Derives the views of gRPC clients under one configuration.

    Only sites that have such clients are derived, so that a fleet without them pays nothing.
    """

    def __init__(self, config: Config) -> None:
        services = config.services
        self._static = {
            CLUSTER: TypeSnapshot.of(
                to_resource(each.name, build_grpc_cluster(each, config.envoy)) for each in services
            ),
            LISTENER: TypeSnapshot.of(
                to_resource(each.name, build_grpc_listener(each)) for each in services
            ),
            ROUTE: TypeSnapshot.of(
                to_resource(each.name, build_grpc_routes(each, config.envoy)) for each in services
            ),
        }
        self._split: dict[str, Resource] = {}
        """Version of a sidecar's endpoints -> the same, split."""
        self._snapshots: dict[str, tuple[TypeSnapshot, Snapshot]] = {}
        """Site -> sidecars' endpoints and the snapshot that came of them."""

    def build(self, views: Mapping[str, Snapshot], sites: Collection[str]) -> dict[str, Snapshot]:
        """Derive the views of gRPC clients.

        Args:
            views: those of the sidecars, by site; ``""`` is everyone else's.
            sites: where gRPC clients are; one that has no view of its own is left out.

        Returns:
            View key -> snapshot.
        """
        before, self._split = self._split, {}
        derived = {}
        for site in sites:
            if site not in views:
                continue
            endpoints = views[site].of_type(ENDPOINT)
            known = self._snapshots.get(site)
            fresh = TypeSnapshot.of(
                self._split_of(each, before) for each in endpoints.resources.values()
            )
            if known is None or known[0] is not endpoints:
                known = endpoints, Snapshot(MappingProxyType({**self._static, ENDPOINT: fresh}))
                self._snapshots[site] = known
            derived[view_key(site, names.ROLE_GRPC)] = known[1]
        return derived

    def _split_of(self, resource: Resource, before: Mapping[str, Resource]) -> Resource:
        version = resource.version
        split = self._split.get(version) or before.get(version) or split_endpoints(resource)
        self._split[version] = split
        return split


def split_endpoints(resource: Resource) -> Resource:
    """Return each endpoint of an assignment a locality of its own, which takes its weight."""
    whole = endpoint_pb2.ClusterLoadAssignment.FromString(
        any_pb2.Any.FromString(resource.body).value
    )
    split = endpoint_pb2.ClusterLoadAssignment(cluster_name=whole.cluster_name)
    for group in whole.endpoints:
        place = group.locality
        for each in group.lb_endpoints:
            reported = each.metadata.filter_metadata[names.METADATA].fields
            alone = split.endpoints.add(priority=group.priority)
            alone.locality.region, alone.locality.zone = place.region, place.zone
            alone.locality.sub_zone = endpoint_sub_zone(
                reported[names.METADATA_SITE].string_value,
                reported[names.METADATA_INSTANCE].string_value,
            )
            alone.load_balancing_weight.value = each.load_balancing_weight.value
            endpoint = alone.lb_endpoints.add(health_status=each.health_status)
            endpoint.endpoint.CopyFrom(each.endpoint)
    packed = any_pb2.Any(type_url=ENDPOINT, value=split.SerializeToString(deterministic=True))
    return make_resource(resource.name, packed.SerializeToString(deterministic=True))


def build_grpc_listener(service: Service) -> Listener:
    """Build what ``xds:///SERVICE`` asks for first."""
    manager = HttpConnectionManager(
        rds=Rds(config_source=ads_source(), route_config_name=service.name),
        http_filters=[HttpFilter(name="router", typed_config=pack(Router()))],
    )
    return Listener(name=service.name, api_listener=ApiListener(api_listener=pack(manager)))


def build_grpc_routes(service: Service, envoy: Envoy) -> RouteConfiguration:
    """Build the one route of a service: who dialled it has classified the request."""
    return RouteConfiguration(
        name=service.name,
        virtual_hosts=[
            VirtualHost(
                name=service.name,
                domains=["*"],
                routes=[
                    Route(
                        name=service.name,
                        match=RouteMatch(prefix=""),
                        route=RouteAction(
                            cluster=service.name,
                            retry_policy=_retries(envoy),
                            hash_policy=list(_hashes(service)),
                        ),
                    )
                ],
            )
        ],
    )


def _retries(envoy: Envoy) -> RetryPolicy | None:
    if envoy.retries.attempts == 0:
        return None
    return RetryPolicy(retry_on=_RETRY_ON, num_retries=envoy.retries.attempts)


def _hashes(service: Service) -> Iterable[RouteActionHashPolicy]:
    # Of cookies these clients know nothing.
    if service.affinity is not None and service.affinity.header is not None:
        header = RouteActionHashPolicyHeader(header_name=service.affinity.header.lower())
        yield RouteActionHashPolicy(header=header)


def build_grpc_cluster(service: Service, envoy: Envoy) -> Cluster:
    """Build the cluster of *service*; gRPC has no active health checks, and watches connections."""
    ring = service.affinity is not None
    return Cluster(
        name=service.name,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=ads_source()),
        lb_policy=ClusterLbPolicy.RING_HASH if ring else ClusterLbPolicy.ROUND_ROBIN,
        ring_hash_lb_config=ClusterRingHashLbConfig(
            minimum_ring_size=_RING_SIZE, maximum_ring_size=_RING_SIZE
        )
        if ring
        else None,
        circuit_breakers=CircuitBreakers(
            thresholds=[CircuitBreakersThresholds(max_requests=envoy.circuit_breakers.max_requests)]
        ),
        lrs_server=ConfigSource(self=SelfConfigSource(), resource_api_version=ApiVersion.V3),
    )
