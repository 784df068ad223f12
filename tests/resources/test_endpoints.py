"""Endpoints as bytes."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from google.protobuf import any_pb2, json_format
from hypothesis import given
from hypothesis import strategies as st

from controlplane.resources.endpoints import EndpointEncoder
from controlplane.steering.plan import Allocation
from controlplane.xds.types import Resource
from testbed.fakes.fleets import make_config

CONFIG = make_config()
SITES = {instance.name: instance.site for instance in CONFIG.instances}


def encode(*weights: tuple[str, int, int]) -> Resource:
    """Encode (instance, weight, priority) of the cluster ``chat``."""
    return EndpointEncoder(CONFIG.sites, CONFIG.instances).encode(
        "chat",
        [
            Allocation(name, SITES[name], 0.0, weight, priority)
            for name, weight, priority in weights
        ],
    )


def decode(resource: Resource) -> endpoint_pb2.ClusterLoadAssignment:
    """Read a resource back with the protobuf runtime."""
    packed = any_pb2.Any.FromString(resource.body)
    assignment = endpoint_pb2.ClusterLoadAssignment()
    assert packed.Unpack(assignment)
    return assignment


def endpoint(name: str, site: str, address: str, port: int, weight: int) -> dict[str, Any]:
    """Return an endpoint as JSON has it."""
    return {
        "endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}},
        "metadata": {"filter_metadata": {"cats": {"instance": name, "site": site, "model": "m"}}},
        "load_balancing_weight": weight,
    }


def test_what_is_refused_is_dropped_by_envoy() -> None:
    """One category, in ten-thousandths, beside the fallback's overprovisioning."""
    allocations = [
        Allocation("cloud-a", "cloud", 1.0, 7),
        Allocation("local", SITES["local"], 1.0, 1, 1),
    ]
    encoder = EndpointEncoder(CONFIG.sites, CONFIG.instances)

    policy = decode(encoder.encode("chat", allocations, drop=0.37)).policy

    (overload,) = policy.drop_overloads
    assert ("overload", 3700) == (overload.category, overload.drop_percentage.numerator)
    assert 1 == overload.drop_percentage.denominator
    assert (
        policy.overprovisioning_factor
        == decode(encoder.encode("chat", allocations)).policy.overprovisioning_factor
    )


@given(st.integers(1, 100), st.integers(0, 100), st.integers(1, 10_000))
def test_weights_change_whenever_the_refused_part_does(drop: int, other: int, weight: int) -> None:
    """Envoy takes note of a new part only then; the split stays within one unit of weight."""
    encoder = EndpointEncoder(CONFIG.sites, CONFIG.instances)

    def sent(part: int) -> int:
        allocations = [Allocation("cloud-a", "cloud", 1.0, weight)]
        decoded = decode(encoder.encode("chat", allocations, drop=part / 100))
        value: int = decoded.endpoints[0].lb_endpoints[0].load_balancing_weight.value
        return value

    assert (drop == other) is (sent(drop) == sent(other)) or sent(other) == weight
    assert weight <= sent(drop) / 100 <= weight + 1


def test_an_assignment_groups_endpoints_by_site_and_priority() -> None:
    """The whole message: localities, metadata, weights, the fallback and its overprovisioning."""
    got = json_format.MessageToDict(
        decode(encode(("cloud-a", 7, 0), ("north-a", 2, 0), ("north-b", 300, 0), ("local", 1, 1))),
        preserving_proto_field_name=True,
    )
    want = {
        "cluster_name": "chat",
        "endpoints": [
            {
                "locality": {"region": "eu-west", "sub_zone": "cloud"},
                "lb_endpoints": [endpoint("cloud-a", "cloud", "10.2.0.1", 8000, 7)],
            },
            {
                "locality": {"region": "eu-north", "zone": "eu-north-1a", "sub_zone": "north"},
                "lb_endpoints": [
                    endpoint("north-a", "north", "10.1.0.1", 8000, 2),
                    endpoint("north-b", "north", "10.1.0.2", 8000, 300),
                ],
            },
            {
                "locality": {"sub_zone": "phones"},
                "lb_endpoints": [endpoint("local", "phones", "127.0.0.1", 9000, 1)],
                "priority": 1,
            },
        ],
        "policy": {"overprovisioning_factor": 100_000},
    }
    assert want == got


def test_a_service_without_instances_has_an_empty_assignment() -> None:
    """Drained instances are left out, all of them too."""
    assert {"clusterName": "chat"} == json_format.MessageToDict(decode(encode()))


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(SITES)), st.integers(1, 2**32 - 1), st.integers(0, 200)),
        unique_by=lambda each: each[0],
    )
)
def test_the_bytes_are_those_of_the_protobuf_runtime(weights: list[tuple[str, int, int]]) -> None:
    """Whatever the weights, reading and writing again gives the same bytes."""
    resource = encode(*weights)
    packed = any_pb2.Any()
    packed.Pack(decode(resource), deterministic=True)
    assert packed.SerializeToString(deterministic=True) == resource.body
    assert {name: weight for name, weight, _ in weights} == {
        each.metadata.filter_metadata["cats"]["instance"]: each.load_balancing_weight.value
        for locality in decode(resource).endpoints
        for each in locality.lb_endpoints
    }


@pytest.mark.parametrize("address", ["[fd00::1]:8000", "10.0.0.1:65535"])
def test_addresses_of_both_families_are_taken(address: str) -> None:
    """An IPv6 address loses its brackets."""
    config = make_config(instances={"a": ("north", address)})
    encoder = EndpointEncoder(config.sites, config.instances)
    assignment = decode(encoder.encode("chat", [Allocation("a", "north", 1.0, 5)]))
    socket = assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address
    host, port = address.rsplit(":", 1)
    assert (host.strip("[]"), int(port)) == (socket.address, socket.port_value)
