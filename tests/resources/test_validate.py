"""What is refused before an Envoy could refuse it."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from google.protobuf import json_format

from controlplane.resources.validate import (
    allocation_faults,
    constraint_faults,
)
from controlplane.steering.plan import Allocation
from controlplane.xds.types import CLUSTER, LISTENER, ROUTE
from testbed.fakes.fleets import make_config

INSTANCES = {
    instance.name: instance
    for instance in make_config(
        instances={
            "a": ("north", "10.0.0.1:1"),
            "b": ("north", "10.0.0.2:1"),
            "same": ("north", "10.0.0.1:1"),
        }
    ).instances
}
KINDS: dict[str, Any] = {
    CLUSTER: cluster_pb2.Cluster,
    LISTENER: listener_pb2.Listener,
    ROUTE: route_pb2.RouteConfiguration,
}


def at_north(name: str, weight: int, priority: int = 0) -> Allocation:
    """Allocate to an instance of the site ``north``."""
    return Allocation(name, "north", 0.0, weight, priority)


@pytest.mark.parametrize(
    ("allocations", "want"),
    [
        pytest.param([], [], id="none"),
        pytest.param([at_north("a", 1), at_north("b", 2**32 - 2)], [], id="greatest sum"),
        pytest.param([at_north("a", 1), at_north("b", 1, 1)], [], id="two priorities"),
        pytest.param([at_north("a", 0)], ["weight 0 of 'a' is not from 1 to 2^32-1"], id="zero"),
        pytest.param(
            [at_north("a", 2**31), at_north("b", 2**31)],
            ["weights at 'north', priority 0, add up to more than 2^32-1"],
            id="sum",
        ),
        pytest.param(
            [at_north("a", 1), at_north("same", 1)],
            ["'a' and 'same' have one address, 10.0.0.1:1"],
            id="address twice",
        ),
        pytest.param(
            [at_north("a", 1), at_north("a", 1)],
            ["'a' and 'a' have one address, 10.0.0.1:1"],
            id="instance twice",
        ),
        pytest.param(
            [at_north("a", 1), at_north("b", 1, 2)],
            ["priorities [0, 2] do not count from 0 without gaps"],
            id="gap",
        ),
        pytest.param(
            [at_north("a", 1, 1)],
            ["priorities [1] do not count from 0 without gaps"],
            id="no priority 0",
        ),
        pytest.param([at_north("z", 1)], ["no instance is called 'z'"], id="unknown"),
        pytest.param(
            [Allocation("a", "cloud", 0.0, 1)],
            ["instance 'a' is at 'north', not at 'cloud'"],
            id="elsewhere",
        ),
    ],
)
def test_endpoints_that_a_client_would_refuse_are_found(
    allocations: list[Allocation], want: list[str]
) -> None:
    """Also what Envoy takes in silence and gRPC refuses."""
    assert want == allocation_faults(allocations, INSTANCES)


@pytest.mark.parametrize(
    ("type_url", "message", "want"),
    [
        pytest.param(CLUSTER, {"name": "a", "connect_timeout": "1s"}, [], id="good"),
        pytest.param(CLUSTER, {}, ["Cluster.name: must not be empty"], id="empty name"),
        pytest.param(
            CLUSTER,
            {"name": "a", "connect_timeout": "0s"},
            ["Cluster.connect_timeout: is 0.0, must be more than 0.0"],
            id="duration",
        ),
        pytest.param(
            CLUSTER,
            {"name": "a", "outlier_detection": {"max_ejection_percent": 101}},
            ["Cluster.outlier_detection.max_ejection_percent: is 101, must be at most 100"],
            id="wrapped number",
        ),
        pytest.param(
            CLUSTER,
            {"name": "a", "health_checks": [{"interval": "1s"}]},
            [
                (
                    "Cluster.health_checks[0].health_checker: one of http_health_check, "
                    "tcp_health_check, grpc_health_check, custom_health_check must be set"
                ),
                "Cluster.health_checks[0].timeout: must be set",
                "Cluster.health_checks[0].unhealthy_threshold: must be set",
                "Cluster.health_checks[0].healthy_threshold: must be set",
            ],
            id="required and oneof",
        ),
        pytest.param(
            ROUTE,
            {"request_headers_to_remove": ["a\nb"]},
            [
                (
                    "RouteConfiguration.request_headers_to_remove[0]: 'a\\nb' has a character "
                    "that HTTP does not allow there"
                )
            ],
            id="header",
        ),
        pytest.param(
            ROUTE,
            {"virtual_hosts": [{"name": "a"}]},
            ["RouteConfiguration.virtual_hosts[0].domains: has 0 elements, must have at least 1"],
            id="too few",
        ),
        pytest.param(
            LISTENER,
            {
                "filter_chains": [
                    {
                        "filters": [
                            {
                                "name": "router",
                                "typed_config": {
                                    "@type": "type.googleapis.com/envoy.extensions.filters.network"
                                    ".http_connection_manager.v3.HttpConnectionManager",
                                    "route_config": {},
                                },
                            }
                        ]
                    }
                ]
            },
            [
                (
                    "Listener.filter_chains[0].filters[0].typed_config.HttpConnectionManager"
                    ".stat_prefix: must not be empty"
                )
            ],
            id="inside Any",
        ),
    ],
)
def test_a_broken_rule_is_reported_with_its_path(
    type_url: str, message: dict[str, Any], want: list[str]
) -> None:
    """The rules are those of Envoy's API definitions."""
    body = json_format.ParseDict(message, KINDS[type_url]()).SerializeToString()
    assert want == constraint_faults(type_url, body)


def test_bytes_that_are_no_message_are_a_fault() -> None:
    """So is a type that no one can check."""
    assert ["envoy.config.cluster.v3.Cluster: the bytes are not such a message"] == (
        constraint_faults(CLUSTER, b"\xff")
    )
    assert ["a.b.C: there is no definition to hold it to"] == constraint_faults("x/a.b.C", b"")
