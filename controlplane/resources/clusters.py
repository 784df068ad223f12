"""One Envoy cluster for each service: how its instances are balanced, watched and bounded.

Knows nothing of which instances there are; these come as endpoints. Built once per configuration,
equal for every client site.
"""

from __future__ import annotations

from typing import Any

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterCommonLbConfig,
    ClusterCommonLbConfigConsistentHashingLbConfig,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import (
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    HealthCheck,
    HealthCheckHttpHealthCheck,
    HealthCheckTcpHealthCheck,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    HttpProtocolOptions,
)
from envoy_data_plane.envoy.extensions.filters.http.upstream_codec.v3 import UpstreamCodec
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions as UpstreamHttpProtocolOptions,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.v3 import Percent

from controlplane import config
from controlplane.config.serving import protocol_of, rewrites_model
from controlplane.resources.https import build_https_filters, build_https_transports
from controlplane.resources.instance_tls import build_transports
from controlplane.resources.model_names import build_rewriting_filters
from controlplane.resources.packing import pack, seconds

_UPSTREAM_IDLE = 4.0
"""Seconds that an idle connection is kept. Python's common inference servers close theirs after
5 s; a request that meets such a close fails, and cannot be retried once it was sent."""

_ORCA = ("named_metrics.*", "cpu_utilization", "mem_utilization", "application_utilization")


def build_cluster(service: config.Service, fleet: config.Config) -> Cluster:
    """Build the cluster of *service*, named after it."""
    envoy, rewrites = fleet.envoy, rewrites_model(service, fleet)
    filters = [
        # First, since it takes back the path of another attempt, whose query has another name.
        *build_https_filters(service, fleet),
        *(build_rewriting_filters() if rewrites else []),
    ]
    models = {model.name: model for model in fleet.models}
    return Cluster(
        name=service.name,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=ads_source()),
        # Round robin follows the weights exactly under any load; least request bends them by
        # its own count of requests. The hash of an affinity keeps them on average only.
        lb_policy=ClusterLbPolicy.ROUND_ROBIN
        if service.affinity is None
        else ClusterLbPolicy.MAGLEV,
        # Envoy's default panics at half the endpoints down and sends to the dead ones too. At one
        # per cent it does so only when no endpoint is known to be healthy: endpoints that a plan
        # has just brought in count as unhealthy until their first check, and would be refused.
        common_lb_config=ClusterCommonLbConfig(
            healthy_panic_threshold=Percent(value=1.0),
            consistent_hashing_lb_config=_bounded(service.affinity),
        ),
        connect_timeout=seconds(envoy.connect_timeout),
        # A drained instance leaves the endpoints. With active checks Envoy would otherwise go on
        # sending to it for as long as it answers them.
        ignore_health_on_host_removal=True,
        # What instances say of themselves in the headers of their answers, averaged by Envoy.
        lrs_report_endpoint_metrics=list(_ORCA) if envoy.orca_headers else [],
        health_checks=[] if envoy.health_check is None else [_health_check(envoy.health_check)],
        outlier_detection=None
        if envoy.outlier_detection is None
        else _outlier_detection(envoy.outlier_detection),
        # A body that is rewritten is held as a whole, also on its way out.
        per_connection_buffer_limit_bytes=round(envoy.max_body) if rewrites else None,
        circuit_breakers=_circuit_breakers(envoy.circuit_breakers),
        **_transports(service, fleet),
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(
                UpstreamHttpProtocolOptions(
                    common_http_protocol_options=HttpProtocolOptions(
                        idle_timeout=seconds(_UPSTREAM_IDLE)
                    ),
                    explicit_http_config=_protocol(protocol_of(service, models)),
                    http_filters=[*filters, _codec()] if filters else [],
                )
            )
        },
    )


def _bounded(
    affinity: config.Affinity | None,
) -> ClusterCommonLbConfigConsistentHashingLbConfig | None:
    if affinity is None or not affinity.balance_factor:
        return None
    return ClusterCommonLbConfigConsistentHashingLbConfig(
        hash_balance_factor=round(100 * affinity.balance_factor)
    )


def _transports(service: config.Service, fleet: config.Config) -> dict[str, Any]:
    """Build the fields that say how endpoints are spoken to: the first match holds."""
    tls = fleet.envoy.instance_tls
    fields = {} if tls is None else build_transports(tls)
    matches = [
        *build_https_transports(service, fleet),
        *fields.pop("transport_socket_matches", ()),
    ]
    return fields | ({"transport_socket_matches": matches} if matches else {})


def _codec() -> HttpFilter:
    return HttpFilter(name="envoy.filters.http.upstream_codec", typed_config=pack(UpstreamCodec()))


def _protocol(protocol: config.Protocol) -> HttpProtocolOptionsExplicitHttpConfig:
    if protocol in (config.Protocol.HTTP2, config.Protocol.GRPC):
        return HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
    return HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=Http1ProtocolOptions())


def ads_source() -> ConfigSource:
    """Build the reference to anyone who sent the message that holds it: the aggregated stream."""
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def _health_check(check: config.HealthCheck) -> HealthCheck:
    http = None if check.path is None else HealthCheckHttpHealthCheck(path=check.path)
    return HealthCheck(
        timeout=seconds(check.timeout),
        interval=seconds(check.interval),
        # The default looks at a cluster without traffic once a minute.
        no_traffic_interval=seconds(check.interval),
        unhealthy_threshold=check.unhealthy_after,
        healthy_threshold=check.healthy_after,
        http_health_check=http,
        tcp_health_check=HealthCheckTcpHealthCheck() if http is None else None,
    )


def _outlier_detection(detection: config.OutlierDetection) -> OutlierDetection:
    return OutlierDetection(
        # Answers that did not begin in time count as 504, broken connections as 503.
        consecutive_5xx=detection.consecutive_errors,
        consecutive_gateway_failure=detection.consecutive_errors,
        enforcing_consecutive_gateway_failure=100,
        interval=seconds(detection.interval),
        base_ejection_time=seconds(detection.ejection_time),
        max_ejection_time=seconds(max(detection.max_ejection_time, detection.ejection_time)),
        max_ejection_percent=round(100 * detection.max_ejected),
        # On by default, it ejects by comparison with the other instances and so bends the split.
        enforcing_success_rate=0,
        # A port that accepts connections says nothing of the requests that failed.
        successful_active_health_check_uneject_host=False,
    )


def _circuit_breakers(breakers: config.CircuitBreakers) -> CircuitBreakers:
    return CircuitBreakers(
        thresholds=[
            CircuitBreakersThresholds(
                max_connections=breakers.max_connections,
                max_pending_requests=breakers.max_pending,
                max_requests=breakers.max_requests,
                max_retries=breakers.max_retries,
            )
        ]
    )
