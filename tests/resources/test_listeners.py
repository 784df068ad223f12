"""Listeners."""

from __future__ import annotations

from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from controlplane.config import Config, SiteListener
from controlplane.resources.listeners import build_listener
from testbed.fakes.fleets import make_config


def filters_of(config: Config) -> list[str]:
    """Build the listener and give the names of its HTTP filters."""
    listener = listener_pb2.Listener.FromString(bytes(build_listener(config)))
    packed = listener.filter_chains[0].filters[0].typed_config
    connection = http_connection_manager_pb2.HttpConnectionManager.FromString(packed.value)
    return [each.name for each in connection.http_filters]


def test_the_body_is_read_only_where_a_match_needs_it() -> None:
    """Reading it costs time and memory at every request."""
    model = [{"name": "s", "match": [{"model": "big"}], "models": [{"name": "m"}]}]
    assert ["envoy.filters.http.router"] == filters_of(make_config())
    assert ["envoy.filters.http.json_to_metadata", "envoy.filters.http.router"] == filters_of(
        make_config(services=model)
    )


def test_a_site_may_listen_elsewhere() -> None:
    """Its own address or port replace those of all Envoys, each for itself."""
    config = make_config(envoy={"address": "10.0.0.1", "port": 80})
    site = config.sites[0].model_copy(update={"listener": SiteListener(port=81)})
    for given, want in ((None, ("10.0.0.1", 80)), (site, ("10.0.0.1", 81))):
        address = build_listener(config, given).address
        assert address is not None
        assert address.socket_address is not None
        assert want == (address.socket_address.address, address.socket_address.port_value)
