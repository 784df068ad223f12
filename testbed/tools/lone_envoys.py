"""Envoys without a control plane, each with one of its own ways to balance."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from testbed.fakes.instances import EmulatedInstance

SERVICE = "chat"
PATH = "/v1/completions"


class Balancing(StrEnum):
    """Who decides where a request goes."""

    STEERED = "cats serve"
    """It is reported each instance's slots, as operators know them from their engines' settings."""
    STEERED_BLIND = "cats serve, no slots configured"
    ROUND_ROBIN = "round_robin"
    LEAST_REQUEST = "least_request"
    BY_CAPACITY = "round_robin by true capacity"
    """What an operator could configure who had measured every instance beforehand."""


# Alone.


def build_cluster(
    instances: Mapping[str, EmulatedInstance], balancing: Balancing
) -> dict[str, Any]:
    """Build the cluster of all instances."""
    by_capacity = balancing is Balancing.BY_CAPACITY
    capacities = {name: each.settings.curve.capacity for name, each in instances.items()}
    options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": SERVICE,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST" if balancing is Balancing.LEAST_REQUEST else "ROUND_ROBIN",
        "circuit_breakers": {
            "thresholds": [
                dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 10_000)
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "common_http_protocol_options": {"idle_timeout": "4s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": SERVICE,
            "endpoints": [
                {
                    "lb_endpoints": [
                        {
                            "endpoint": {"address": build_address(instance.port)},
                            "load_balancing_weight": round(100 * capacities[name])
                            if by_capacity
                            else 1,
                            "metadata": {"filter_metadata": {"cats": {"instance": name}}},
                        }
                        for name, instance in instances.items()
                    ]
                }
            ],
        },
    }


def build_address(port: int) -> dict[str, Any]:
    """Build an address on loopback."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def build_listener(port: int) -> dict[str, Any]:
    """Build the listener of one site."""
    extensions = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "inference",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": SERVICE, "timeout": "0s"},
                        }
                    ],
                }
            ],
            "response_headers_to_add": [
                {
                    "header": {
                        "key": "x-cats-instance",
                        "value": "%UPSTREAM_METADATA(cats:instance)%",
                    }
                }
            ],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{extensions}.http.router.v3.Router"},
            }
        ],
    }
    return {
        "name": "inference",
        "address": build_address(port),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }
