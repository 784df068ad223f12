"""Scenarios are read with every fault at its place, and one seed gives one world."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from controlplane.config import Config, parse_config
from controlplane.errors import ConfigError
from controlplane.sim.run import simulate
from controlplane.sim.scenario import parse_scenario
from controlplane.sim.scenario_fleet import build_fleet

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = [*sorted((FOLDER / "scenarios").glob("*.yaml")), FOLDER / "sessions" / "simulation.yaml"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_scenario_with_a_fleet(path: Path) -> None:
    """Each file of the examples is read without fault and fits its fleet."""

    def read(name: str) -> Config:
        return parse_config((path.parent / name).read_text(), file=name)

    fleet = build_fleet(parse_scenario(path.read_text(), file=path.name), seed=1, read_config=read)

    assert set(fleet.engines) == {item.name for item in fleet.config.instances}
    assert path.name in (path.parent / "README.md").read_text()


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        pytest.param("durration: 5s", "1:1: durration", "unknown key", id="unknown key"),
        pytest.param("name: x\nduration: 5", "2:11: duration", "no unit", id="no unit"),
        pytest.param("name: x\nname: y", "2:1: name", "given twice", id="duplicate key"),
        pytest.param("policies: [best]", "1:12: policies[0]", "prequal", id="unknown policy"),
        pytest.param("workload: {trace: azure}", "1:11: workload", "azure-code", id="no trace"),
        pytest.param("events: [{what: rain, at: 1s}]", "1:17: events[0].what", "death", id="kind"),
    ],
)
def test_a_fault_names_its_place_and_what_would_be_right(text: str, place: str, words: str) -> None:
    """As `cats check` does for a configuration."""
    with pytest.raises(ConfigError) as caught:
        parse_scenario(text, file="s.yaml")

    (fault,) = caught.value.faults
    assert str(fault).startswith(f"s.yaml:{place}")
    assert words in str(fault)


def test_an_event_for_nobody_is_refused() -> None:
    """The message lists who is there."""
    scenario = parse_scenario(
        "events: [{what: death, at: 1s, instances: [edge-99-a]}]", file="s.yaml"
    )

    with pytest.raises(ValueError, match=r"events\[0\].instances: 'edge-99-a'.*cloud-a"):
        build_fleet(scenario, seed=1)


def test_the_control_plane_is_not_given_what_it_has_to_learn() -> None:
    """Slots and service times reach the configuration only when they are known."""
    hidden = build_fleet(parse_scenario("name: x", file="s"), seed=1)
    reported = build_fleet(parse_scenario("fleet: {known: true}", file="s"), seed=1)

    assert {8} == {item.slots for item in hidden.config.instances}
    assert {None} == {item.service_time for item in hidden.config.instances}
    for item in reported.config.instances:
        assert reported.engines[item.name].slots == item.slots
        assert 0.5 / reported.engines[item.name].speed == pytest.approx(item.service_time)


@pytest.mark.parametrize("policy", ["controlplane", "prequal"])
def test_one_seed_gives_one_run(policy: str) -> None:
    """Bit for bit, with noise, loss and delay; another seed gives another."""
    text = "duration: 8s\ntelemetry: {noise: 20%, loss: 20%, delay: 300ms}"
    scenario = parse_scenario(text, file="s")
    first, again, other = (simulate(scenario, policy, seed=seed) for seed in (1, 1, 2))

    assert np.array_equal(first.latencies, again.latencies)
    assert first.pushes == again.pushes
    assert not np.array_equal(first.latencies, other.latencies)


def test_a_scenario_may_steer_a_fleet_of_its_own_otherwise() -> None:
    """What it does not name stays as the fleet's file has it."""
    text = (
        "fleet: {kind: custom, config: fleet.yaml,"
        " clients: [{site: office, service: chat, rate: 1}]}\n"
        "steering: {expiry: 7s, min_gain: 10%}"
    )
    file = Path(__file__).parents[2] / "examples" / "quickstart" / "fleet.yaml"
    own = parse_config(file.read_text(), file="fleet.yaml")

    fleet = build_fleet(parse_scenario(text, file="s"), seed=1, read_config=lambda _: own)

    steering = fleet.config.steering
    assert (7.0, 0.1) == (steering.expiry, steering.min_gain)
    assert own.steering == steering.model_copy(
        update={"expiry": own.steering.expiry, "min_gain": own.steering.min_gain}
    )
