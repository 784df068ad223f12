"""The overview sums what the whole documents say."""

from __future__ import annotations

import pytest

from controlplane.admin_api.envoy_states import EnvoyState, count_envoys
from controlplane.admin_api.overview import encode_overview
from controlplane.controller.config_changes import ConfigStatus
from controlplane.fleet.traffic_view import TrafficView
from controlplane.grpc_services.envoys import EnvoyRecord, TypeRecord
from controlplane.model import Reading, Signal, Source
from controlplane.steering import Steering
from controlplane.xds.types import ENDPOINT
from testbed.fakes.views import make_config, make_instance, make_reported, make_view


def make_envoy(name: str, record: TypeRecord | None, *, streams: int = 1) -> EnvoyRecord:
    """Make an Envoy of the site near that connected at 0."""
    types = {} if record is None else {ENDPOINT: record}
    return EnvoyRecord(name, "near", "delta", "envoy", 0.0, streams=streams, types=types)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        pytest.param(TypeRecord(acked="v2", sent_at=1.0), EnvoyState(1, 0, 0), id="current"),
        pytest.param(TypeRecord(acked="v1", sent_at=9.5), EnvoyState(1, 0, 0), id="just sent"),
        pytest.param(TypeRecord(acked="v1", sent_at=1.0), EnvoyState(1, 1, 0), id="lags"),
        pytest.param(None, EnvoyState(1, 1, 0), id="never asked"),
        pytest.param(
            TypeRecord(acked="v1", refused="v2", sent_at=1.0), EnvoyState(1, 1, 1), id="refuses"
        ),
    ],
)
def test_an_envoy_is_current_lags_or_refuses(
    record: TypeRecord | None, expected: EnvoyState
) -> None:
    """What counts is the version being served, and the time there was to take it."""
    envoys = [make_envoy("a", record), make_envoy("gone", record, streams=0)]
    assert {"near": expected} == count_envoys(envoys, {"near": "v2"}, now=10.0)


def test_a_grpc_client_is_held_to_its_own_view() -> None:
    """Its endpoints are not those of the Envoys beside it, so neither are their versions."""
    client = make_envoy("g", TypeRecord(acked="g2", sent_at=1.0))
    client.role = "grpc"

    assert {"near": EnvoyState(1, 0, 0)} == count_envoys(
        [client], {"near": "v2", "near@grpc": "g2"}, now=10.0
    )


def test_sites_flows_and_latencies_are_summed() -> None:
    """Running requests add up over a site; observed latency is weighed by the rate."""
    config = make_config(
        instances=[make_instance("a", "near"), make_instance("b", "near", address="10.0.0.2:80")]
    )
    view = make_view(
        config,
        at=5.0,
        demand={("near", "chat"): 3.0},
        instances={
            name: make_reported(config, name, at=4.0, gauges={Signal.RUNNING: n, Signal.SLOTS: 8.0})
            for name, n in (("a", 2.0), ("b", 5.0))
        },
        traffic={
            ("near", "chat", name): TrafficView(
                rate=Reading(rate, Source.ENVOY, 4.0),
                failures=0.0,
                latency=Reading(latency, Source.ENVOY, 4.0),
                ttft=None,
            )
            for name, rate, latency in (("a", 1.0, 0.1), ("b", 3.0, 0.5))
        },
    )
    plan = Steering(config).decide(view)

    document = encode_overview(
        view,
        plan,
        epoch=100.0,
        status=ConfigStatus("fleet.yaml", "v1", 0.0),
        envoys=[make_envoy("e", TypeRecord(refused="v1", refused_at=1.0, refusal="no " * 999))],
        versions={},
    )

    near, far = document["sites"]
    assert (7.0, 16.0, {"live": 2}, 1) == (
        near["running"],
        near["slots"],
        near["phases"],
        near["refusing"],
    )
    assert (0.0, {}) == (far["running"], far["phases"])
    (flow,) = [row for row in document["flows"]["chat"] if row["from"] == "near"]
    assert pytest.approx(1.0, abs=1e-3) == sum(share for _, share in flow["to"])
    predicted, observed = document["latency"]["chat"]["near"]
    assert predicted > 0
    assert pytest.approx(0.4) == observed
    assert 600 == len(document["refusals"][0]["text"])
    assert 105.0 == document["at"]


def test_the_load_of_a_site_of_which_nothing_reports_is_assumed() -> None:
    """Zero of an idle site and zero of a silent one must not look alike."""
    config = make_config(
        instances=[make_instance("a", "near"), make_instance("b", "far", address="10.0.0.2:80")]
    )
    idle = make_reported(config, "a", at=4.0, gauges={Signal.RUNNING: 0.0})
    view = make_view(config, at=5.0, instances={"a": idle})

    document = encode_overview(
        view,
        Steering(config).decide(view),
        epoch=100.0,
        status=ConfigStatus("fleet.yaml", "v1", 0.0),
        envoys=[],
        versions={},
    )

    assert {"near": False, "far": True} == {
        each["name"]: each["assumed"] for each in document["sites"]
    }
