"""How full an instance is, from what Envoys see of it."""

from __future__ import annotations

import pytest

from controlplane.fleet.traffic_view import TrafficView
from controlplane.model import Reading, Source
from controlplane.steering.layout import build_layout
from controlplane.steering.observation import sum_traffic
from testbed.fakes.views import make_config, make_instance, make_service, make_view


@pytest.mark.parametrize(
    ("in_progress", "number"),
    [(0.9, 1.0), (1.2, 1.0), (40.0, 40.0)],
    ids=["as latencies say", "by chance more", "most hang"],
)
def test_what_is_not_answered_is_inside_as_well(in_progress: float, number: float) -> None:
    """Latencies are of answers only; an instance that answers one in ten would seem idle."""
    config = make_config(services=[make_service("chat")], instances=[make_instance("a", "near")])
    seen = TrafficView(
        rate=Reading(10.0, Source.ENVOY, 1.0),
        failures=0.0,
        latency=Reading(0.1, Source.ENVOY, 1.0),
        ttft=None,
        in_progress=in_progress,
        answered=1.0,
    )
    view = make_view(config, traffic={("near", "chat", "a"): seen}, rtt={("near", "near"): 0.0})

    found = sum_traffic(view, build_layout(config, config.instances), {"chat": 1.0})["a"]

    assert found.number == pytest.approx(number, abs=0.05)
