"""Publishing views and waking those who watch them."""

from __future__ import annotations

from controlplane.grpc_services.views import ViewStore
from controlplane.resources.names import LOW_BATTERY
from controlplane.xds.snapshot import view_key
from controlplane.xds.types import CLUSTER, ENDPOINT
from testbed.fakes.xds import make_snapshot


def test_only_watchers_of_changed_views_are_woken() -> None:
    """Equal content is no change, whatever object carries it."""
    store = ViewStore()
    woken: list[str] = []
    for site in ("north", "south", "nowhere"):
        store.watch(site, lambda site=site: woken.append(site))  # type: ignore[misc]
    north, other = make_snapshot({CLUSTER: {"a": "1"}}), make_snapshot({CLUSTER: {"b": "1"}})
    assert store.publish({"north": north, "south": other, "": other})
    assert ["north", "south", "nowhere"] == woken
    woken.clear()
    assert not store.publish(
        {
            "north": make_snapshot({CLUSTER: {"a": "1"}}),
            "south": make_snapshot({CLUSTER: {"b": "1"}}),
            "": make_snapshot({CLUSTER: {"b": "1"}}),
        }
    )
    store.publish({"north": north, "south": make_snapshot({CLUSTER: {"b": "2"}}), "": other})

    assert ["south"] == woken
    assert store.snapshot("north") is north
    assert store.snapshot("nowhere") is store.snapshot("")


def test_equal_types_of_different_views_are_one_object() -> None:
    """So that their streams share what is computed from them."""
    store = ViewStore()
    shared = {"a": "1"}
    store.publish(
        {
            "north": make_snapshot({CLUSTER: shared, ENDPOINT: {"a": "1"}}),
            "south": make_snapshot({CLUSTER: shared, ENDPOINT: {"a": "2"}}),
        }
    )
    north, south = store.views["north"], store.views["south"]

    assert north.of_type(CLUSTER) is south.of_type(CLUSTER)
    assert north.of_type(ENDPOINT) is not south.of_type(ENDPOINT)


def test_a_site_that_gets_its_own_view_later_is_woken() -> None:
    """An Envoy that claims a site before it is configured is served it afterwards."""
    store = ViewStore()
    default = make_snapshot({CLUSTER: {"a": "1"}})
    store.publish({"": default})
    woken: list[bool] = []
    unwatch = store.watch("new", lambda: woken.append(True))
    store.publish({"": default, "new": make_snapshot({CLUSTER: {"a": "2"}})})
    assert [True] == woken
    unwatch()
    unwatch()
    store.publish({"": default})

    assert [True] == woken
    assert not store._watchers


def test_nothing_is_served_before_the_first_publish() -> None:
    """There is no snapshot, and the store is not ready."""
    store = ViewStore()

    assert not store.ready
    assert store.snapshot("north") is None


def test_a_client_on_a_device_with_a_low_battery_has_a_view_of_its_own() -> None:
    """From the publication on that names it, and no longer; streams of its site are woken."""
    store = ViewStore()
    usual, low = make_snapshot({ENDPOINT: {"a": "1"}}), make_snapshot({ENDPOINT: {"a": "2"}})
    woken: list[str] = []
    store.watch("phones", lambda: woken.append("phones"))
    store.watch("edge", lambda: woken.append("edge"))
    views = {"phones": usual, "edge": usual, "": usual}
    store.publish(views, low_battery={})
    assert store.variant("phones", "", "p1") == ""
    woken.clear()

    lower = {**views, "phones!low-battery": low}
    store.publish(lower, low_battery={"phones": frozenset({"p1"})})
    assert ["phones"] == woken
    assert [LOW_BATTERY, ""] == [store.variant("phones", "", name) for name in ("p1", "p2")]
    assert store.snapshot(view_key("phones", "", LOW_BATTERY)) is low
    store.publish(lower)
    assert store.variant("phones", "", "p1") == LOW_BATTERY
    store.publish(lower, low_battery={"phones": frozenset({"p1", "p2"})})
    assert ["phones", "phones"] == woken
    store.publish(views)
    assert store.variant("phones", "", "p1") == ""
