"""The control plane in the loop learns, obeys and survives what the scenarios do to it."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.sim.run import simulate
from controlplane.sim.scenario import Scenario


def scenario(**changes: Any) -> Scenario:
    """Make a short run of the queue-like fleet."""
    return Scenario.model_validate(
        {
            "fleet": {"utilisation": 0.6},
            "duration": "40s",
            "windows": [{"name": "end", "from": "15s", "to": "40s"}],
            **changes,
        }
    )


def test_without_knowing_any_capacity_it_comes_near_the_oracle() -> None:
    """Within a tenth of the mean of who decides every request with perfect knowledge."""
    ours, oracle = (
        simulate(scenario(), name, seed=1).windows["end"] for name in ("controlplane", "oracle")
    )

    assert ours.mean < 1.10 * oracle.mean


def test_a_slowed_edge_loses_traffic() -> None:
    """Its share falls to less than two thirds within ten seconds."""
    drop = {"what": "slowdown", "at": "20s", "amount": 0.3, "instances": ["edge-00-a"]}
    share = simulate(scenario(events=[drop]), "controlplane", seed=1).shares["edge-00"]

    assert share[30:].mean() < share[10:20].mean() * 2 / 3


def test_a_dead_edge_gets_nothing() -> None:
    """Two seconds after the health checks found out, nothing is sent there."""
    death = {"what": "death", "at": "20s", "instances": ["edge-00-a"]}
    outcome = simulate(scenario(events=[death]), "controlplane", seed=1)

    assert 0.0 == outcome.shares["edge-00"][28:].max()
    assert outcome.windows["end"].failed < 0.01


@pytest.mark.parametrize("policy", ["capacity", "headroom", "nearest", "waterfall", "spray"])
def test_each_policy_of_the_control_plane_serves(policy: str) -> None:
    """At low load nothing fails under any of them."""
    calm = scenario(fleet={"utilisation": 0.05}, duration="10s", windows=[])
    outcome = simulate(calm, f"controlplane:{policy}", seed=1)

    assert 0.0 == outcome.windows["all"].failed
    assert outcome.pushes


def test_believable_reports_are_believed() -> None:
    """None of the simulator's honest reports is refused."""
    assert 0 == simulate(scenario(), "controlplane", seed=1).refused
