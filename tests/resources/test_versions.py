"""What depends on the version of an Envoy."""

from __future__ import annotations

import pytest
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy_data_plane.envoy.extensions.access_loggers.stats.v3 import Config as StatsConfig
from google.protobuf import any_pb2

from controlplane.resources.build import SnapshotBuilder
from controlplane.resources.generations import GENERATIONS, generation_of
from controlplane.resources.versions import OlderEnvoyViews
from controlplane.xds.snapshot import Snapshot
from controlplane.xds.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from testbed.fakes.fleets import make_config, make_plan


def stats_of(snapshot: Snapshot) -> list[StatsConfig]:
    """Return the stats access logs of the view's listener."""
    (resource,) = snapshot.of_type(LISTENER).resources.values()
    listener = listener_pb2.Listener.FromString(any_pb2.Any.FromString(resource.body).value)
    manager = http_connection_manager_pb2.HttpConnectionManager.FromString(
        listener.filter_chains[0].filters[0].typed_config.value
    )
    router = router_pb2.Router.FromString(manager.http_filters[-1].typed_config.value)
    return [StatsConfig().parse(log.typed_config.value) for log in router.upstream_log]


@pytest.mark.parametrize(
    ("version", "role"),
    [
        ((1, 41), ""),
        ((2, 0), ""),
        ((1, 39), ""),
        ((1, 38), "envoy-1.38"),
        ((1, 37), "envoy-1.37"),
        ((1, 36), "envoy-unsupported"),
        ((0, 9), "envoy-unsupported"),
    ],
)
def test_a_version_belongs_to_one_generation(version: tuple[int, int], role: str) -> None:
    """A version that is not released yet is taken for the newest known."""
    assert role == generation_of(*version).role


def test_older_envoys_differ_in_the_access_log_only() -> None:
    """They share every other resource with the current ones, and what one rejects is left out."""
    config = make_config()
    views = SnapshotBuilder(config).build(make_plan(config, {}))
    roles = [each.role for each in GENERATIONS]
    derived = OlderEnvoyViews(config).build(views, [("north", role) for role in roles])
    assert {"north@envoy-1.38", "north@envoy-1.37", "north@envoy-unsupported"} == derived.keys()
    for snapshot in derived.values():
        for kind in (CLUSTER, ENDPOINT, ROUTE):
            assert views["north"].of_type(kind) is snapshot.of_type(kind)
    current, with_gauges, without = (
        stats_of(each)
        for each in (views["north"], derived["north@envoy-1.38"], derived["north@envoy-1.37"])
    )
    assert [("", True)] * 3 == [(c.stat_prefix, c.stats_scope is not None) for c in current]
    assert [("cats", False)] * 3 == [(c.stat_prefix, bool(c.stats_scope)) for c in with_gauges]
    assert [("cats", False)] * 2 == [(c.stat_prefix, bool(c.stats_scope)) for c in without]
    assert [1, 0] == [sum(bool(c.gauges) for c in each) for each in (with_gauges, without)]
    assert [] == stats_of(derived["north@envoy-unsupported"])


def test_a_view_that_did_not_change_keeps_its_object() -> None:
    """Streams see by identity that nothing is due."""
    config = make_config()
    builder, older = SnapshotBuilder(config), OlderEnvoyViews(config)
    plan = make_plan(config, {("chat", "north"): {"north-a": 1}})
    clients = [("north", "envoy-1.38"), ("nowhere", "envoy-1.38"), ("north", "grpc")]
    first, again = (older.build(builder.build(plan), clients) for _ in range(2))
    assert ["north@envoy-1.38"] == list(first)
    assert first["north@envoy-1.38"] is again["north@envoy-1.38"]
