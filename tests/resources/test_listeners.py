"""Listeners."""

from __future__ import annotations

from typing import Any

from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.config import SiteListener
from controlplane.resources.build import SnapshotBuilder
from controlplane.resources.listeners import build_listener
from controlplane.xds.types import LISTENER
from testbed.fakes.fleets import make_config, make_plan

SERVICES: tuple[dict[str, Any], ...] = (
    {"match": [{"path": "/v1/chat"}]},
    {"match": [{"path": "/v1/chat", "model": "big"}, {"header": {"x-service": "a"}}]},
    {"match": [{"model": "big"}], "affinity": {"header": "x-session"}},
    {"match": [{"path": "/v2/*"}], "slo": {"ttft": "1s"}, "timeout": "10s"},
    {"match": [{"host": "*.example.com", "body_size": {"least": "1MB"}}], "protocol": "grpc"},
    {"match": [{"path": "/v1/models"}], "affinity": {"cookie": "session"}},
)


@given(st.lists(st.sampled_from(SERVICES), min_size=1, max_size=4))
@settings(deadline=None, derandomize=True, max_examples=30)
def test_the_listener_does_not_depend_on_services(chosen: list[dict[str, Any]]) -> None:
    """A changed listener drains every connection: its version is the same for all services."""
    services = [
        {"name": f"s{number}", "models": [{"name": "m"}], **each}
        for number, each in enumerate(chosen)
    ]
    (one, other) = (
        SnapshotBuilder(config).build(make_plan(config, {}))["north"].of_type(LISTENER)
        for config in (make_config(), make_config(services=services))
    )
    assert one.version == other.version
    assert ["inference"] == list(one.resources)


def test_bodies_are_read_only_where_a_route_switches_that_on() -> None:
    """Reading them costs time and memory at every request."""
    listener = listener_pb2.Listener.FromString(bytes(build_listener(make_config())))
    packed = listener.filter_chains[0].filters[0].typed_config
    connection = http_connection_manager_pb2.HttpConnectionManager.FromString(packed.value)
    assert ["envoy.filters.http.router"] == [
        each.name for each in connection.http_filters if not each.disabled
    ]


def test_a_site_may_listen_elsewhere() -> None:
    """Its own address or port replace those of all Envoys, each for itself."""
    config = make_config(envoy={"address": "10.0.0.1", "port": 80})
    site = config.sites[0].model_copy(update={"listener": SiteListener(port=81)})
    for own, want in ((None, ("10.0.0.1", 80)), (site, ("10.0.0.1", 81))):
        address = build_listener(config, own).address
        assert address is not None
        assert address.socket_address is not None
        assert want == (address.socket_address.address, address.socket_address.port_value)
