"""When the model is not believed."""

from __future__ import annotations

from controlplane.fleet.traffic_view import TrafficView
from controlplane.fleet.view import FleetView
from controlplane.model import Reading, Source
from controlplane.steering.model_monitor import FALLBACK, ModelMonitor
from testbed.fakes.views import make_config, make_instance, make_view


def observed(latency: float, at: float) -> FleetView:
    """Make a view in which Envoys see *latency*."""
    config = make_config(instances=[make_instance("a", "near")])
    seen = TrafficView(
        rate=Reading(10.0, Source.ENVOY, at),
        failures=0.0,
        latency=Reading(latency, Source.ENVOY, at),
        ttft=None,
    )
    return make_view(config, at=at, traffic={("near", "chat", "a"): seen})


def run(monitor: ModelMonitor, latency: float, start: float, seconds: int) -> list[bool]:
    """Observe *latency* each second against a prediction of 0.5 s."""
    return [monitor.observe(0.5, observed(latency, start + second)) for second in range(seconds)]


def test_refuted_predictions_lead_to_a_fallback_and_back() -> None:
    """Much longer than predicted and than usual, for a while: fall back, then return."""
    monitor = ModelMonitor()
    calm = run(monitor, 0.5, 0.0, 30)
    wrong = run(monitor, 5.0, 30.0, 20)
    after = run(monitor, 0.5, 50.0, 60)

    assert not any(calm)
    assert not any(wrong[:8])
    assert wrong[-1]
    assert after[0]
    assert not after[-1]
    assert sum(after) <= FALLBACK


def test_a_wrong_prediction_of_a_usual_latency_is_no_reason() -> None:
    """Where requests always took longer than predicted, nothing got worse."""
    assert not any(run(ModelMonitor(), 5.0, 0.0, 60))
