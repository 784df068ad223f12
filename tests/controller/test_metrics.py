"""Metrics are documented, bounded and made from the present state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.admin_api.documents import encode_fleet
from controlplane.config import Config, PolicyName
from controlplane.controller.metrics import Metrics, reference
from controlplane.controller.metrics import snapshot as module
from controlplane.controller.metrics.snapshot import EnvoyCount, MetricsSnapshot
from controlplane.fleet.traffic_view import Outcomes, OutcomeView, TrafficView
from controlplane.fleet.view import FleetView, InstanceView, Phase
from controlplane.model import FailureClass, Reading, Signal, Source
from controlplane.steering.plan import Allocation, Assignment, Failing, Plan, Why
from controlplane.telemetry.levels import WINDOW, Category, Levels

CONFIG = Config.model_validate(
    {
        "version": 1,
        "sites": [{"name": "north", "kind": "edge"}, {"name": "cloud", "kind": "cloud"}],
        "models": [{"name": "m"}],
        "services": [{"name": "chat", "match": [{"path": "/v1"}], "models": [{"name": "m"}]}],
        "instances": [{"name": "a", "site": "north", "address": "10.0.0.1:80", "model": "m"}],
    }
)


def reading(value: float, *, at: float = 8.0) -> Reading:
    """Return what was scraped at *at*."""
    return Reading(value, Source.SCRAPE, at)


VIEW = FleetView(
    at=10.0,
    config=CONFIG,
    instances={
        "a": InstanceView(
            CONFIG.instances[0],
            Phase.LIVE,
            confidence=0.9,
            ramp=1.0,
            readings={Signal.RUNNING: reading(3.0), Signal.WAITING: reading(1.0, at=7.0)},
            missing=(Signal.KV_USE,),
        )
    },
    paths={},
    demand={("north", "chat"): reading(5.0)},
    traffic={
        ("north", "chat", "a"): TrafficView(reading(3.0), 0.0, reading(0.2), None),
        ("north", "chat", "b"): TrafficView(reading(1.0), 0.0, reading(0.6), None),
        ("cloud", "chat", "b"): TrafficView(reading(1.0), 0.0, reading(0.4), None),
    },
    outcomes={
        ("a", "chat"): OutcomeView(
            Outcomes(answered=4.0, late=1.0), Outcomes(answered=40.0, late=2.0), 3.0, 1.0, 9.0
        )
    },
)


def why(latency: float) -> Why:
    """Return an explanation that predicts *latency*."""
    return Why(
        0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, latency, 1.0, 2.0, 1.0, 0.5
    )


PLAN = Plan(
    "v",
    10.0,
    {
        ("chat", "north"): Assignment(
            "chat",
            "north",
            PolicyName.OPTIMAL,
            (
                Allocation("a", "north", 0.25, 2500, 0, why(0.1)),
                Allocation("b", "cloud", 0.75, 7500, 0, why(0.3)),
                Allocation("c", "north", 1.0, 1, 1, why(9.0)),
            ),
            note="capacity: predictions refuted",
            demand=4.0,
            drop=0.4,
        ),
        ("chat", "cloud"): Assignment(
            "chat",
            "cloud",
            PolicyName.NEAREST,
            (Allocation("b", "cloud", 1.0, 10_000, 0, why(0.5)),),
            demand=1.0,
            standing=PolicyName.OPTIMAL,
        ),
    },
    standing={
        ("chat", "cloud"): Assignment(
            "chat",
            "cloud",
            PolicyName.OPTIMAL,
            (Allocation("a", "north", 1.0, 10_000, 0, why(0.7)),),
        )
    },
    predicted_cost=1.5,
    prediction_error=0.125,
    oscillating=True,
)


def test_the_reference_is_current() -> None:
    """docs/metrics.md is what ``python -m testbed.tools.references`` writes."""
    file = Path(__file__).parents[2] / "docs" / "metrics.md"

    assert reference(Metrics()) == file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        pytest.param("cats_ready", {}, 1.0, id="ready"),
        pytest.param("cats_envoys", {"site": "north", "mode": "delta"}, 3.0, id="envoys"),
        pytest.param("cats_instances", {"phase": "live"}, 1.0, id="phase"),
        pytest.param("cats_instances", {"phase": "stale"}, 0.0, id="no phase left out"),
        pytest.param(
            "cats_instance_age_seconds", {"instance": "a", "site": "north"}, 2.0, id="age"
        ),
        pytest.param(
            "cats_instance_missing_signals", {"instance": "a", "site": "north"}, 1.0, id="missing"
        ),
        pytest.param("cats_demand_rate", {"service": "chat", "site": "north"}, 5.0, id="demand"),
        pytest.param(
            "cats_share", {"service": "chat", "from": "north", "to": "north"}, 0.25, id="share"
        ),
        pytest.param(
            "cats_predicted_latency_seconds",
            {"service": "chat", "from": "north"},
            0.25,
            id="predicted, first priority only",
        ),
        pytest.param(
            "cats_observed_latency_seconds",
            {"service": "chat", "from": "north"},
            0.3,
            id="observed, by rate",
        ),
        pytest.param(
            "cats_refused_share",
            {"service": "chat", "from": "north"},
            0.4,
            id="refused in overload",
        ),
        *(
            pytest.param(
                f"cats_canary_{kind}_latency_seconds",
                {"service": "chat", "from": "cloud", "policy": policy, "part": part},
                expected,
                id=f"canary, {kind}, {part}",
            )
            for kind, policy, part, expected in (
                ("predicted", "nearest", "canary", 0.5),
                ("predicted", "optimal", "standing", 0.7),
                ("predicted", "optimal", "rest", 0.25),
                ("observed", "nearest", "canary", 0.4),
                ("observed", "optimal", "rest", 0.3),
            )
        ),
        pytest.param("cats_prediction_error", {}, 0.125, id="prediction error"),
        pytest.param("cats_plan_oscillating", {}, 1.0, id="oscillation"),
        pytest.param("cats_assignments_in_fallback", {}, 1.0, id="fallback"),
    ],
)
def test_gauges_say_what_the_values_say(name: str, labels: dict[str, str], expected: float) -> None:
    """The families are a function of the view, the plan and the Envoys."""
    present = MetricsSnapshot(VIEW, PLAN, (EnvoyCount("north", "delta", 3),), 2, ready=True)

    assert pytest.approx(expected) == Metrics(lambda: present).registry.get_sample_value(
        name, labels
    )


GRADED = Levels({"utilisation": 0.25}, {Category.COMPUTING: 8, Category.COMMUNICATION: 3}, 5)


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("cats_level1_score", {"instance": "a", "site": "north", "category": "computing"}, 8),
        ("cats_level1_score", {"instance": "a", "site": "north", "category": "communication"}, 3),
        ("cats_level2_score", {"instance": "a", "site": "north"}, 5),
        ("cats_level_window_seconds", {}, WINDOW),
        ("cats_level_bound", {"metric": "rtt", "category": "communication", "score": "10"}, None),
        ("cats_level_bound", {"metric": "rtt", "category": "communication", "score": "best"}, 0),
    ],
)
def test_metric_levels_are_exposed_with_window_and_bounds(
    name: str, labels: dict[str, str], expected: float | None
) -> None:
    """Who compares scores must know what 0 and 10 stand for."""
    present = MetricsSnapshot(VIEW, PLAN, levels=lambda: {"a": GRADED})

    assert expected == Metrics(lambda: present).registry.get_sample_value(name, labels)


def test_the_fleets_document_holds_every_level() -> None:
    """L0 as measured, L1 for each category, L2 and what it advises."""
    document = encode_fleet(VIEW, epoch=0.0, levels={"a": GRADED})

    (instance,) = document["instances"]
    assert {
        "l0": {"utilisation": 0.25},
        "l1": {"computing": 8, "communication": 3},
        "l2": 5,
        "advice": "optional",
    } == instance["levels"]
    assert (WINDOW, 10) == (document["levels"]["window"], document["levels"]["best"])
    assert document["levels"]["bounds"]["rtt"]["worst"] > 0


def test_attempts_are_counted_by_how_they_ended() -> None:
    """In the metrics and in the fleet's document."""
    registry = Metrics(lambda: MetricsSnapshot(VIEW)).registry
    (document,) = encode_fleet(VIEW, epoch=0.0, levels={})["outcomes"]

    for outcome, count in (("answered", 40.0), ("late", 2.0), ("refused", 0.0)):
        labels = {"instance": "a", "service": "chat", "outcome": outcome}
        assert count == registry.get_sample_value("cats_attempts_total", labels)
        assert count == document["total"][outcome]
    assert ("a", "chat", 1.0) == (
        document["instance"], document["service"], document["recent"]["late"]
    )  # fmt: skip


def test_what_an_instance_fails_that_others_answer_is_a_gauge() -> None:
    """By class, so that an alert can say how it fails; and the fleet's document has it."""
    item = Failing("a", "chat", 0.4, FailureClass.OVERLOAD, 6.0)
    registry = Metrics(lambda: MetricsSnapshot(VIEW, replace(PLAN, failing=(item,)))).registry
    (document,) = encode_fleet(VIEW, epoch=0.0, failing=[item])["failing"]

    labels = {"instance": "a", "service": "chat", "class": "overload"}
    assert registry.get_sample_value("cats_instance_failing", labels) == 0.4
    assert ("a", "overload", VIEW.at - 6.0) == (
        document["instance"], document["class"], document["since"]
    )  # fmt: skip
    assert document["awaited"]


def test_an_instance_that_is_gone_leaves_no_series() -> None:
    """A gauge of a removed instance does not linger."""
    present = [MetricsSnapshot(VIEW, PLAN)]
    metrics = Metrics(lambda: present[0])
    assert b'instance="a"' in metrics.read()()

    present[0] = MetricsSnapshot()

    assert b'instance="a"' not in metrics.read()()


def test_a_family_that_is_too_large_is_left_out_and_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fleet of any size cannot make an exposition of any size."""
    monkeypatch.setattr(module, "SERIES_LIMIT", 1)
    registry = Metrics(lambda: MetricsSnapshot(VIEW, PLAN)).registry

    labels = {"service": "chat", "from": "north", "to": "cloud"}
    assert None is registry.get_sample_value("cats_share", labels)
    left_out = registry.get_sample_value("cats_series_left_out")
    assert left_out is not None
    assert left_out >= 2
