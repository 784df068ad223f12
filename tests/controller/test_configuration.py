"""From file, discovery and overrides to what is in force."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from controlplane.config import Config, DiscoveredInstance, Instance
from controlplane.controller.config_changes import ConfigChange
from controlplane.controller.configuration import Configuration, config_version
from controlplane.controller.override_requests import parse_request
from controlplane.controller.overrides import OverrideStore
from controlplane.errors import ConfigError, Fault
from testbed.fakes.fleets import make_config

RULE = {"name": "pods", "kind": "pods", "site": "north", "model": "m"}
FILE = make_config(discovery={"rules": [RULE]})


def make_configuration(config: Config = FILE) -> tuple[Configuration, list[str]]:
    """Return a configuration and the reasons for which it wants a cycle."""
    made = Configuration(
        config,
        file=Path("fleet.yaml"),
        overrides=OverrideStore(),
        found=(),
        clock=lambda: 5.0,
        unix_time=lambda: 1000.0,
        log=structlog.get_logger(),
    )
    wanted: list[str] = []
    made.cycle_wanted.subscribe(wanted.append)
    return made, wanted


def found(name: str) -> DiscoveredInstance:
    """Return a discovered instance."""
    like = FILE.instances[0]
    address = f"10.9.0.{name[-1]}:8000"
    instance = Instance(name=name, site=like.site, address=address, model=like.model)
    return DiscoveredInstance("pods", instance)


async def taken(configuration: Configuration) -> ConfigChange | None:
    """Return what a cycle would put in force."""
    return await configuration.change_to(configuration.take_pending())


async def test_a_change_waits_until_a_cycle_puts_it_in_force() -> None:
    """A cycle that runs meanwhile sees one configuration."""
    configuration, wanted = make_configuration()
    changed = make_config(steering={"period": "2s"}, discovery={"rules": [RULE]})
    in_force: list[Config] = []
    configuration.changed.subscribe(lambda change: in_force.append(change.config))

    configuration.receive_file(changed)

    assert FILE is configuration.effective
    assert ["configuration changed"] == wanted
    change = await taken(configuration)
    assert change is not None
    configuration.put_in_force(change)
    assert changed == configuration.effective
    assert [changed] == in_force
    assert config_version(changed) == configuration.status.version
    assert await taken(configuration) is None


async def test_a_wrong_file_changes_the_status_alone() -> None:
    """The last good configuration stays; the next good one clears the errors."""
    configuration, wanted = make_configuration()
    fault = Fault("fleet.yaml", 1, 1, "sites", "is missing")
    rejected: list[tuple[Fault, ...]] = []
    configuration.rejected.subscribe(rejected.append)

    configuration.receive_file(ConfigError([fault]))

    assert ((fault,), 5.0) == (configuration.status.faults, configuration.status.refused_at)
    assert [(fault,)] == rejected
    assert [] == wanted
    assert await taken(configuration) is None
    configuration.receive_file(FILE)
    assert () == configuration.status.faults
    assert await taken(configuration) is None, "it is the one in force"


async def test_what_only_discovery_changed_is_quiet() -> None:
    """Discovery has reported it; together with a changed file it is reported as that."""
    configuration, _ = make_configuration()
    configuration.receive_discovered([found("pod-1")])
    change = await taken(configuration)
    assert change is not None
    assert change.quiet
    assert "pod-1" in {instance.name for instance in change.config.instances}

    configuration.receive_discovered([found("pod-2")])
    configuration.receive_file(make_config(steering={"period": "2s"}, discovery={"rules": [RULE]}))
    configuration.receive_discovered([found("pod-1"), found("pod-2")])
    both = await taken(configuration)
    assert both is not None
    assert not both.quiet


@pytest.mark.parametrize("seed", range(3))
async def test_no_receiver_relies_on_the_order_of_another(seed: int) -> None:
    """Shuffled receivers of a change see the same."""
    configuration, _ = make_configuration()
    seen: list[Any] = []
    receivers = [lambda change, n=n: seen.append((n, change.version)) for n in range(4)]
    random.Random(seed).shuffle(receivers)
    for receiver in receivers:
        configuration.changed.subscribe(receiver)
    configuration.receive_file(make_config(steering={"period": "2s"}, discovery={"rules": [RULE]}))
    change = await taken(configuration)
    assert change is not None
    configuration.put_in_force(change)

    assert {(n, change.version) for n in range(4)} == set(seen)


async def test_an_instance_whose_name_has_anothers_address_is_warned_of_once() -> None:
    """With the one that holds it: when names are resolved, and when a file brings another one."""
    places = {"a": ("north", "one.example:80"), "b": ("cloud", "two.example:80")}
    addresses = {"one.example": "10.0.0.1", "two.example": "10.0.0.1"}
    with capture_logs() as logs:
        configuration, _ = make_configuration(make_config(instances=places))
        assert [] == logs
        for _ in range(2):
            configuration.receive_addresses(addresses)
        (first,) = logs
        places["c"] = ("cloud", "10.0.0.1:80")
        for _ in range(2):
            configuration.receive_file(make_config(instances=places))
        _, second = logs
    assert ("warning", ["b: a"]) == (first["log_level"], first["left_out"])
    assert first["remedy"]
    assert ["a: c", "b: c"] == second["left_out"]
    change = await taken(configuration)
    assert change is not None
    assert ["c"] == [each.name for each in change.config.instances]


def test_a_wall_clock_that_is_set_is_reported_and_ends_no_override() -> None:
    """An hour forward within a second; the warning says what to do."""
    clocks = {"now": 5.0, "unix": 1000.0}
    configuration = Configuration(
        FILE,
        file=Path("fleet.yaml"),
        overrides=OverrideStore(),
        found=(),
        clock=lambda: clocks["now"],
        unix_time=lambda: clocks["unix"],
        log=structlog.get_logger(),
    )
    body = b'{"instance": "north-a", "drain": true, "for": "10m", "reason": "r", "by": "ann"}'
    made = configuration.add_override(parse_request(body, FILE))
    configuration.expire_overrides()
    clocks |= {"now": 6.0, "unix": 4601.0}

    with capture_logs() as logs:
        configuration.expire_overrides()

    (log,) = logs
    assert ("warning", 3600.0, 1) == (log["log_level"], log["seconds"], log["overrides"])
    assert log["remedy"]
    assert [made.id] == [item.id for item in configuration.overrides.active]
    clocks |= {"now": 606.0, "unix": 5201.0}
    configuration.expire_overrides()
    assert () == configuration.overrides.active
