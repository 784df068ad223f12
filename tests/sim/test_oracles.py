"""The yardsticks are right where services differ in length and engines count tokens."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from controlplane.sim.curves import Curves, optimal_shares
from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.fleets import Kind, Place, build_config
from controlplane.sim.policy_iteration import relative_values
from controlplane.sim.run import run_trial
from controlplane.sim.target_fleets import draw_fleet, steady
from controlplane.sim.trial import Trial
from controlplane.sim.true_fleet import Fleet
from controlplane.sim.workload import Stream, Work


def fleet_of(engines: Mapping[str, EngineSpec], streams: tuple[Stream, ...]) -> Fleet:
    """Build engines at sites of their own, all without any distance from one client site."""
    places = [Place(name, f"at-{name}", spec) for name, spec in engines.items()]
    rtt = {("clients", place.site): 0.0 for place in places}
    kinds = [Kind(name) for name in dict.fromkeys(stream.service for stream in streams)]
    return Fleet("t", build_config(places, rtt, services=kinds), engines, streams, rtt)


def stream(service: str, rate: float, work: Work) -> Stream:
    """Make the requests of a service from the one client site."""
    return Stream("clients", service, rate, work)


def mean(fleet: Fleet, policy: str, seed: int = 1) -> float:
    """Return the mean latency of ten minutes and more."""
    trial = Trial("t", fleet, 900.0, (("all", 20.0, 900.0),))
    return run_trial(trial, policy, seed=seed).windows["all"].mean


QUEUES = {"a": EngineSpec(2), "b": EngineSpec(2), "c": EngineSpec(8, 0.5)}
BATCHES = {"a": EngineSpec(8, 1.0, 0.1), "b": EngineSpec(4, 2.0, 0.2), "c": EngineSpec(16, 0.5)}
TOKENS = {
    "a": EngineSpec(8, 1.0, 0.05, kind="tokens"),
    "b": EngineSpec(32, 0.5, 0.02, kind="tokens"),
}
SHORT_AND_LONG = (stream("short", 12.0, Work(0.05)), stream("long", 1.2, Work(2.0)))
CHAT_AND_SUMMARY = (
    stream("chat", 1.5, Work(prompt=200.0, output=200.0)),
    stream("summary", 0.7, Work(prompt=4000.0, output=50.0)),
)


@pytest.mark.parametrize(
    ("engines", "streams"),
    [
        pytest.param(QUEUES, SHORT_AND_LONG, id="queues"),
        pytest.param(BATCHES, SHORT_AND_LONG, id="batching"),
        pytest.param(TOKENS, CHAT_AND_SUMMARY, id="tokens"),
        pytest.param({**QUEUES, **TOKENS}, CHAT_AND_SUMMARY, id="mixed"),
    ],
)
def test_the_oracle_never_loses_to_fixed_weights(
    engines: Mapping[str, EngineSpec], streams: tuple[Stream, ...]
) -> None:
    """Nor to chance; a yardstick that does would hide what falls short of it."""
    fleet = fleet_of(engines, streams)

    assert mean(fleet, "oracle") < 1.02 * mean(fleet, "capacity")
    assert mean(fleet, "policy_iteration") < 1.02 * mean(fleet, "capacity")
    assert mean(fleet, "oracle") < mean(fleet, "random")


def test_at_high_load_who_weighs_the_later_ones_beats_who_does_not() -> None:
    """The greedy oracle fills slow instances, and has a higher mean than good fixed shares."""
    fleet = draw_fleet(1, load=0.9)
    trial = steady(fleet, ("all", 20.0, 60.0))
    means = {
        policy: run_trial(trial, policy, seed=1).windows["all"].mean
        for policy in ("policy_iteration", "optimum", "oracle")
    }

    assert means["policy_iteration"] < means["optimum"] < means["oracle"]


@pytest.mark.parametrize("load", [0.3, 0.8, 0.95])
def test_prices_of_one_server_are_those_of_theory(load: float) -> None:
    """One more request costs (n + 1) / (capacity - rate) where one server works (Krishnan 1990)."""
    values = relative_values(1, 0.5, 2.0, 2.0 * load)

    assert 1 / (2.0 - 2.0 * load) == pytest.approx(values.within[0], rel=1e-6)
    assert 2 / (2.0 - 2.0 * load) == pytest.approx(values.within[1], rel=1e-6)
    assert 1 / (2.0 - 2.0 * load) == pytest.approx(values.slope)


@pytest.mark.parametrize("slots", [2, 16, 200])
def test_prices_rise_with_the_number_inside(slots: int) -> None:
    """From the lone time when empty, by more and more, to the slope of a full instance."""
    values = relative_values(slots, 1.0, slots / (1 + 0.02 * (slots - 1)), 0.7)

    assert 1.0 <= values.within[0]
    assert all(np.diff(values.within) > -1e-9)
    assert values.within[-1] - values.within[-2] <= values.slope + 1e-6


def test_the_oracle_counts_the_work_that_waits_and_not_only_its_number() -> None:
    """Ten short requests are less of a queue than five long ones."""
    streams = (stream("short", 16.0, Work(0.05)), stream("long", 0.35, Work(4.0)))
    fleet = fleet_of({"a": EngineSpec(1), "b": EngineSpec(1), "c": EngineSpec(1)}, streams)
    trial = Trial("t", fleet, 300.0, (("all", 20.0, 300.0),))
    outcome = run_trial(trial, "oracle", seed=2)
    by_capacity = run_trial(trial, "capacity", seed=2)

    assert outcome.services["all", "short"].mean < 0.4 * by_capacity.services["all", "short"].mean


def test_the_optimum_weighs_services_by_the_capacity_they_take() -> None:
    """At the optimum no row can gain by a small move: all prices that it pays are equal."""
    curves = Curves([4, 16, 2], [0.5, 0.6, 0.3], [0.0, 0.1, 0.0])
    demand = np.array([2.0, 6.0])
    rtt = np.array([[0.01, 0.05, 0.03], [0.04, 0.01, 0.02]])
    sizes = np.array([[3.0, 3.0, 3.0], [0.5, 0.5, 0.5]])
    usable = np.array([[True, True, False], [True, True, True]])

    shares = optimal_shares(demand, rtt, curves, sizes=sizes, usable=usable, iterations=5000)

    assert 0.0 == shares[0, 2]
    _, slope = curves.total((demand[:, None] * shares * sizes).sum(axis=0))
    for row in range(2):
        prices = (rtt[row] + sizes[row] * slope)[shares[row] > 0.02]
        assert prices == pytest.approx(np.full(len(prices), prices.min()), rel=0.03)


@pytest.mark.parametrize(("prompt", "output"), [(200.0, 200.0), (3000.0, 40.0)])
def test_an_engine_that_counts_tokens_sustains_the_capacity_that_is_stated(
    prompt: float, output: float
) -> None:
    """At 0.9 of it the queue is finite; at 1.15 of it requests are left over."""
    spec = EngineSpec(8, 1.0, 0.05, kind="tokens")
    capacity = spec.capacity(1.0, prompt, output)

    def left(load: float) -> float:
        own = (stream("chat", load * capacity, Work(prompt=prompt, output=output)),)
        trial = Trial("t", fleet_of({"a": spec}, own), 400.0, (("all", 0.0, 400.0),))
        return float(run_trial(trial, "capacity", seed=1).load["at-a"][-20:].mean())

    assert left(0.85) < 40
    assert left(1.2) > 0.1 * capacity * 400
