"""The demo's world, read from its example."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.demo.world import build_world


def test_nothing_keeps_the_port_of_the_example() -> None:
    """Instances, scrapes and listeners move together to ports that are free."""
    world = build_world()

    ports = [settings.port for settings in world.instances.values()]
    ports += world.listeners.values()
    assert len(ports) == len(set(ports))
    for each in world.fleet["instances"]:
        address = f"127.0.0.1:{world.instances[each['name']].port}"
        assert address == each["address"]
        if "scrape" in each:
            assert f"http://{address}/metrics" == each["scrape"]["url"]


def test_distances_are_those_of_the_fleet() -> None:
    """What a request waits for its way is what the control plane is notified of the network."""
    world = build_world()

    assert 0.07 == pytest.approx(world.instances["cloud-a"].rtt["edge-north"])
    assert 0.008 == world.instances["north-a"].rtt["phones"]
    assert "edge-north" not in world.instances["north-a"].rtt


def test_traffic_enters_by_the_envoy_of_its_site() -> None:
    """Each stream goes to its own client site's port."""
    world = build_world()

    for stream in world.streams:
        assert f":{world.listeners[stream.site]}/v1/" in stream.url
        assert {"x-emulated-from": stream.site} == stream.headers
    assert "edge-north" == world.near


def test_the_example_itself_is_untouched() -> None:
    """Free ports are chosen in memory."""
    example = Path(__file__).parents[3] / "examples" / "cloud-edge-device" / "fleet.yaml"
    before = example.read_text()
    build_world()

    assert before == example.read_text()
