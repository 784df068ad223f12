"""Signals that vanish and values that freeze, through fleet and steering."""

from __future__ import annotations

import pytest

from controlplane.config import Engine
from controlplane.fleet import FleetState
from controlplane.fleet.view import FleetView, Phase
from controlplane.fleet.worth import VANISHED_CONFIDENCE
from controlplane.model import InstanceReport, Signal, Source, TrafficReport
from controlplane.steering import Steering
from controlplane.telemetry.engines import parse_metrics
from testbed.fakes.views import make_config, make_instance

OLD = """\
vllm:num_requests_running{{model_name="m"}} {running}
vllm:num_requests_waiting{{model_name="m"}} 0
vllm:kv_cache_usage_perc{{model_name="m"}} 0.2
vllm:request_success_total{{model_name="m"}} {done}
vllm:e2e_request_latency_seconds_sum{{model_name="m"}} {done}
vllm:e2e_request_latency_seconds_count{{model_name="m"}} {done}
vllm:time_to_first_token_seconds_sum{{model_name="m"}} 1
vllm:time_to_first_token_seconds_count{{model_name="m"}} 1
vllm:prompt_tokens_total{{model_name="m"}} 1
vllm:generation_tokens_total{{model_name="m"}} 1
"""
UPGRADED = OLD.replace("vllm:num_requests_running", "vllm:requests_in_engine")


def run(fleet: FleetState, second: int, text: str) -> FleetView:
    """Let the instances a and b report at *second*, a what *text* says."""
    now = float(second)
    for name, template in (("a", text), ("b", OLD)):
        page = template.format(running=4, done=10.0 * second)
        fleet.apply(parse_metrics(page, engine=Engine.VLLM, instance=name, at=now), now=now)
    seen = TrafficReport("e", "near", "chat", "a", now, 1.0, issued=10, succeeded=10,
                         latency_sum=10, latency_count=10)  # fmt: skip
    fleet.apply(seen, now=now)
    return fleet.view(now=now)


def test_a_renamed_metric_is_reported_and_leaves_a_degraded_but_defined_weight() -> None:
    """After an upgrade `running` is gone: a reason, a missing signal, half the confidence."""
    config = make_config(
        sites=["near"],
        instances=[
            make_instance("a", "near", engine="vllm"),
            make_instance("b", "near", engine="vllm", address="10.0.0.2:80"),
        ],
    )
    fleet, steering = FleetState(config, now=0.0), Steering(config)
    for second in range(1, 15):
        before = run(fleet, second, OLD)
        steering.decide(before)
    for second in range(15, 25):
        after = run(fleet, second, UPGRADED)
        plan = steering.decide(after)
    back = run(fleet, 25, OLD)

    one = after.instances["a"]
    assert (1.0, ()) == (before.instances["a"].confidence, before.instances["a"].missing)
    assert (Phase.LIVE, VANISHED_CONFIDENCE) == (one.phase, one.confidence)
    assert Signal.RUNNING in one.missing
    assert "no longer gives running" in one.reason
    shares = {x.instance: x.share for x in plan.assignments["chat", "near"].allocations}
    assert 0.05 < shares["a"] < 0.95
    assert pytest.approx(1.0) == sum(shares.values())
    assert (1.0, "") == (back.instances["a"].confidence, back.instances["a"].reason)


def test_another_source_that_gives_the_signal_makes_up_for_it() -> None:
    """What an agent says is not missing because a scrape lacks it."""
    config = make_config(sites=["near"], instances=[make_instance("a", "near")])
    fleet = FleetState(config, now=0.0)
    for second in range(1, 5):
        now = float(second)
        signals = {Signal.WAITING: 0.0} | ({Signal.RUNNING: 1.0} if second < 3 else {})
        fleet.apply(InstanceReport("a", Source.AGENT, now, signals), now=now)
        fleet.apply(InstanceReport("a", Source.SCRAPE, now, {Signal.RUNNING: 1.0}), now=now)

    assert 1.0 == fleet.view(now=4.0).instances["a"].confidence


def test_values_that_stand_still_while_envoys_get_answers_do_not_count_until_they_move() -> None:
    """A proxy that serves an old page forever, for one."""
    config = make_config(sites=["near"], instances=[make_instance("a", "near")])
    fleet = FleetState(config, now=0.0)
    trusts, reasons, counted = [], [], []
    for second in range(1, 121):
        now = float(second)
        frozen = 20 <= second < 60
        done = 200.0 if frozen else 10.0 * second
        signals = {Signal.RUNNING: 5.0, Signal.LATENCY_COUNT: done, Signal.LATENCY_SUM: done * 0.5}
        fleet.apply(InstanceReport("a", Source.SCRAPE, now, signals), now=now)
        seen = TrafficReport("e", "near", "chat", "a", now, 1.0, issued=10, succeeded=10,
                             in_progress=5, latency_sum=5, latency_count=10)  # fmt: skip
        fleet.apply(seen, now=now)
        view = fleet.view(now=now).instances["a"]
        trusts.append((view.trust, view.confidence))
        reasons.append(view.reason)
        counted.append((Signal.RUNNING in view.readings, Signal.LATENCY_COUNT in view.rates))

    assert {(1.0, 1.0)} == set(trusts)
    assert ((True, True), "") == (counted[18], reasons[18])
    assert (False, False) == counted[58]
    assert "stood still" in reasons[58]
    assert "what Envoys see counts" in reasons[58]
    assert ((True, True), "") == (counted[-1], reasons[-1])


def test_an_idle_instance_may_stand_still() -> None:
    """Nothing happens where no one asks."""
    config = make_config(sites=["near"], instances=[make_instance("a", "near")])
    fleet = FleetState(config, now=0.0)
    for second in range(1, 61):
        signals = {Signal.RUNNING: 0.0, Signal.COMPLETED: 100.0}
        fleet.apply(InstanceReport("a", Source.SCRAPE, float(second), signals), now=float(second))

    view = fleet.view(now=60.0).instances["a"]

    assert (1.0, "") == (view.trust, view.reason)


@pytest.mark.parametrize(
    ("agent", "engine"),
    [
        pytest.param(False, True, id="the agent says that it is not ready"),
        pytest.param(True, False, id="the engine says that it is not ready"),
    ],
)
def test_readiness_is_the_engines_own_word_where_its_page_is_read(
    agent: bool, engine: bool
) -> None:
    """An agent passes it on, and may be late or wrong: it takes out nothing that is scraped."""
    fleet = FleetState(make_config(sites=["near"], instances=[make_instance("a", "near")]), now=0.0)
    phases, ramps = set(), set()
    for second in range(1, 40):
        now = float(second)
        for source, ready in ((Source.SCRAPE, engine), (Source.AGENT, agent)):
            signals = {Signal.RUNNING: 2.0, Signal.COMPLETED: 10.0 * second}
            fleet.apply(
                InstanceReport("a", source, now, signals, ready=ready, reporter="agent-1"), now=now
            )
            shown = fleet.view(now=now).instances["a"]
            phases.add(shown.phase)
            ramps.add(shown.ramp)

    assert {Phase.LIVE if engine else Phase.NOT_READY} == phases
    if engine:
        assert {1.0} == ramps
        assert (
            "an agent says that it is not ready, its own metrics that it is ready" in shown.reason
        )


def test_an_agents_word_on_readiness_counts_again_once_the_page_is_late() -> None:
    """Then it is the best there is, and it may end a service as the engine itself can."""
    fleet = FleetState(make_config(sites=["near"], instances=[make_instance("a", "near")]), now=0.0)
    signals = {Signal.RUNNING: 2.0}
    fleet.apply(InstanceReport("a", Source.SCRAPE, 1.0, signals), now=1.0)
    phases = []
    for now in (1.5, 20.0):
        report = InstanceReport("a", Source.AGENT, now, signals, ready=False, reporter="agent-1")
        fleet.apply(report, now=now)
        phases.append(fleet.view(now=now).instances["a"].phase)

    assert [Phase.LIVE, Phase.NOT_READY] == phases
