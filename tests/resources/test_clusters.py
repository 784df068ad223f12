"""Clusters."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import json_format

from controlplane.resources.clusters import build_cluster
from testbed.fakes.fleets import make_config

CHAT: dict[str, Any] = {"name": "chat", "match": [{"path": "/"}], "models": [{"name": "m"}]}
OPTIONS = http_protocol_options_pb2.HttpProtocolOptions.DESCRIPTOR.full_name


def built(service: dict[str, Any] | None = None, **envoy: Any) -> dict[str, Any]:
    """Build the cluster of a service and read it as JSON."""
    config = make_config(services=[CHAT | (service or {})], envoy=envoy)
    cluster = build_cluster(config.services[0], config)
    found: dict[str, Any] = json_format.MessageToDict(
        cluster_pb2.Cluster.FromString(bytes(cluster)), preserving_proto_field_name=True
    )
    return found


def test_a_cluster_follows_its_weights_and_bounds_what_it_opens() -> None:
    """The whole message under the defaults."""
    assert {
        "name": "chat",
        "type": "EDS",
        "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}},
        "connect_timeout": "1s",
        "common_lb_config": {"healthy_panic_threshold": {"value": 1.0}},
        "ignore_health_on_host_removal": True,
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "2s",
                "no_traffic_interval": "2s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "tcp_health_check": {},
            }
        ],
        "outlier_detection": {
            "consecutive_5xx": 3,
            "consecutive_gateway_failure": 3,
            "enforcing_consecutive_gateway_failure": 100,
            "interval": "1s",
            "base_ejection_time": "5s",
            "max_ejection_time": "10s",
            "max_ejection_percent": 50,
            "enforcing_success_rate": 0,
            "successful_active_health_check_uneject_host": False,
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": 10000,
                    "max_pending_requests": 10000,
                    "max_requests": 10000,
                    "max_retries": 100,
                }
            ]
        },
        "typed_extension_protocol_options": {
            OPTIONS: {
                "@type": f"type.googleapis.com/{OPTIONS}",
                "common_http_protocol_options": {"idle_timeout": "4s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    } == built()


@pytest.mark.parametrize(
    ("service", "envoy", "key", "want"),
    [
        pytest.param({}, {"health_check": None}, "health_checks", None, id="no health check"),
        pytest.param({}, {"outlier_detection": None}, "outlier_detection", None, id="no outliers"),
        pytest.param(
            {"affinity": {"header": "x-id"}}, {}, "lb_policy", "MAGLEV", id="sessions are hashed"
        ),
        pytest.param(
            {"affinity": {"header": "x-id", "balance_factor": 1.5}},
            {},
            "common_lb_config",
            {
                "healthy_panic_threshold": {"value": 1.0},
                "consistent_hashing_lb_config": {"hash_balance_factor": 150},
            },
            id="a hot session overflows",
        ),
        pytest.param(
            {"affinity": {"cookie": "id", "balance_factor": 0}},
            {},
            "common_lb_config",
            {"healthy_panic_threshold": {"value": 1.0}},
            id="no bound",
        ),
    ],
)
def test_what_is_configured_is_built(
    service: dict[str, Any], envoy: dict[str, Any], key: str, want: object
) -> None:
    """One setting, one field."""
    assert want == built(service, **envoy).get(key)


def test_a_path_makes_the_health_check_http() -> None:
    """Instead of a mere connection."""
    (check,) = built(health_check={"path": "/health"})["health_checks"]
    assert {"path": "/health"} == check["http_health_check"]
    assert "tcp_health_check" not in check
