"""What an Envoy is started with: who it is, and where its control plane is.

The rest it gets over xDS. The text is YAML that a person can read and extend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from controlplane.config import Config
from controlplane.config.addresses import is_ip
from controlplane.resources import names
from controlplane.resources.file_secrets import (
    CLIENT_CA,
    CLIENT_OWN,
    ClientTls,
    build_secret_source,
)
from controlplane.resources.histograms import histogram_bounds

_HTTP = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_METRICS = "type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig"
_MAX_CONNECTIONS = (
    "type.googleapis.com/envoy.extensions.resource_monitors"
    ".downstream_connections.v3.DownstreamConnectionsConfig"
)
_HEAP = "envoy.resource_monitors.fixed_heap"
_FIXED_HEAP = "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig"

_KEPT_STATS = (
    rf"{names.STATS_PREFIX}\..*",
    r"control_plane\.connected_state",
    rf"(cluster_manager\.cds|listener_manager\.lds|http\.{names.LISTENER}\.rds\..*)\.update_rejected",
    rf"http\.{names.LISTENER}\.downstream_(rq_total|rq_active|rq_[2345]xx|cx_active)",
    r"cluster\..*\.(membership_(healthy|total)|update_rejected)",
    r"cluster\..*\.upstream_rq_(total|active|retry|pending_overflow)",
    r"cluster\..*\.outlier_detection\.ejections_active",
    r"cluster\..*\.ssl\.(fail_verify_(error|san|no_cert)|connection_error)",
    r"server\.(live|uptime|memory_allocated)",
)
"""Every statistic that exists is sent to the control plane each period, so keep what is read."""


def build_bootstrap(
    config: Config,
    *,
    site: str,
    envoy_id: str,
    xds: tuple[str, int],
    admin_port: int = 9901,
    standby: Sequence[tuple[str, int]] = (),
    delta: bool = True,
    tls: ClientTls | None = None,
) -> str:
    """Write the bootstrap of one Envoy as YAML.

    Args:
        config: the fleet, for the site's locality and the period of its reports.
        site: where the Envoy's clients are; one that *config* does not name is reported as it is.
        envoy_id: unique among all Envoys.
        xds: host and port of the control plane.
        admin_port: port of Envoy's own interface on the loopback address; 0 takes a free one.
        standby: further control planes; Envoy moves to one when its connection breaks.
        delta: subscribe to changes only; else to the state of the world.
        tls: the Envoy's files, where ``server.tls`` is set.
    """
    if tls is None and config.server.tls is not None:
        tls = ClientTls()
    bootstrap = {
        "node": _node(config, site, envoy_id),
        "admin": {"address": _address("127.0.0.1", admin_port)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC" if delta else "GRPC",
                "transport_api_version": "V3",
                # The node lists every extension of the binary: 60 kB that need reporting once.
                "set_node_on_first_message_only": True,
                "grpc_services": [_grpc_service()],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {"clusters": [_xds_cluster((xds, *standby), tls)]},
        "stats_flush_interval": _duration(config.envoy.load_period),
        **_stats(config),
        "overload_manager": _overload_manager(config.envoy.max_heap),
    }
    if config.envoy.orca_headers:
        # Load reports carry what instances say of themselves; each repeats the whole node.
        bootstrap["cluster_manager"] = {
            "load_stats_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [_grpc_service()],
            }
        }
    text: str = yaml.safe_dump(bootstrap, sort_keys=False)
    return text


def _stats(config: Config) -> dict[str, Any]:
    """Return what Envoy measures, and that it pushes it to the control plane."""
    return {
        "stats_sinks": [
            {
                "name": "envoy.stat_sinks.metrics_service",
                "typed_config": {
                    "@type": _METRICS,
                    "transport_api_version": "V3",
                    "grpc_service": _grpc_service(),
                    "report_counters_as_deltas": True,
                    "emit_tags_as_labels": True,
                    "histogram_emit_mode": "HISTOGRAM",
                },
            }
        ],
        "stats_config": {
            "stats_matcher": {
                "inclusion_list": {
                    "patterns": [{"safe_regex": {"regex": regex}} for regex in _KEPT_STATS]
                }
            },
            "histogram_bucket_settings": [
                {
                    "match": {"prefix": f"{names.STATS_PREFIX}."},
                    "buckets": [round(1e6 * bound) for bound in histogram_bounds(config)],
                }
            ],
        },
    }


def _overload_manager(max_heap: float) -> dict[str, Any]:
    """Bound connections and memory: bodies that are buffered cost their senders, not the Envoy.

    Resetting streams by what they hold works for HTTP/2 only (measured with 1.37 and 1.40), so
    bodies over HTTP/1 are bounded each by ``envoy.max_body``, and together by refusing new ones.
    """

    def at(share: float) -> list[dict[str, Any]]:
        return [{"name": _HEAP, "threshold": {"value": share}}]

    return {
        "refresh_interval": "0.1s",
        # Streams are accounted for from 1 MiB that they hold; the largest are reset first.
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 20},
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": _MAX_CONNECTIONS,
                    "max_active_downstream_connections": 50_000,
                },
            },
            {
                "name": _HEAP,
                "typed_config": {"@type": _FIXED_HEAP, "max_heap_size_bytes": round(max_heap)},
            },
        ],
        "actions": [
            {"name": "envoy.overload_actions.shrink_heap", "triggers": at(0.7)},
            {
                "name": "envoy.overload_actions.reset_high_memory_stream",
                "triggers": [
                    {
                        "name": _HEAP,
                        "scaled": {"scaling_threshold": 0.8, "saturation_threshold": 0.95},
                    }
                ],
            },
            {"name": "envoy.overload_actions.stop_accepting_requests", "triggers": at(0.85)},
        ],
    }


def _node(config: Config, site: str, envoy_id: str) -> dict[str, Any]:
    known = {each.name: each for each in config.sites}.get(site)
    locality = {"sub_zone": site}
    if known is not None and known.region:
        locality["region"] = known.region
    if known is not None and known.zone:
        locality["zone"] = known.zone
    return {
        "id": envoy_id,
        "cluster": names.METADATA,
        "metadata": {names.METADATA_SITE: site},
        "locality": locality,
    }


def _grpc_service() -> dict[str, Any]:
    return {
        "envoy_grpc": {
            "cluster_name": names.XDS_CLUSTER,
            # By default Envoy waits up to 30 s before it looks for a control plane again.
            "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}},
        }
    }


def _xds_cluster(servers: Sequence[tuple[str, int]], tls: ClientTls | None) -> dict[str, Any]:
    cluster: dict[str, Any] = {
        "name": names.XDS_CLUSTER,
        "type": "STATIC" if all(is_ip(host) for host, _ in servers) else "STRICT_DNS",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": names.XDS_CLUSTER,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(*each)}} for each in servers]}
            ],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _HTTP,
                "explicit_http_config": {
                    "http2_protocol_options": {
                        # Finds a control plane that vanished without closing its connection.
                        "connection_keepalive": {"interval": "10s", "timeout": "5s"}
                    }
                },
            }
        },
    }
    if tls is not None:
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": _tls_context(tls, servers[0][0]),
        }
    return cluster


def _tls_context(tls: ClientTls, host: str) -> dict[str, Any]:
    name = tls.server_name or host
    names = {
        "match_typed_subject_alt_names": [
            {
                "san_type": "IP_ADDRESS" if is_ip(name) else "DNS",
                "matcher": {"exact": name},
            }
        ]
    }
    context: dict[str, Any] = {}
    if tls.secrets is not None:
        context["combined_validation_context"] = {
            "default_validation_context": names,
            "validation_context_sds_secret_config": build_secret_source(CLIENT_CA, tls.secrets),
        }
        if tls.cert is not None:
            context["tls_certificate_sds_secret_configs"] = [
                build_secret_source(CLIENT_OWN, tls.secrets)
            ]
    else:
        context["validation_context"] = {"trusted_ca": {"filename": tls.ca}, **names}
    if tls.secrets is None and tls.cert is not None and tls.key is not None:
        context["tls_certificates"] = [
            {
                "certificate_chain": {"filename": tls.cert},
                "private_key": {"filename": tls.key},
            }
        ]
    wrapped: dict[str, Any] = {"@type": _TLS, "common_tls_context": context}
    if not is_ip(name):
        wrapped["sni"] = name
    return wrapped


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _duration(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
