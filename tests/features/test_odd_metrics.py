"""Equal instances share evenly whatever the metrics of one are like: fleet and steering together.

Two instances of 100 ms, of which one has plain metrics and the other odd ones. The requests follow
the shares that steering decides, and Envoys report them. There are so many that the load decides:
where any split is as good as another, none is wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import suppress

import pytest

from controlplane.errors import ReportError
from controlplane.fleet import FleetState, Phase
from controlplane.model import InstanceReport, ScrapeFailure, Signal, Source, TrafficReport
from controlplane.steering import Steering
from testbed.fakes.views import make_config, make_instance

SERVICE = 0.1
RATE = 60.0
SLOTS = 8
SECONDS = 90


class Server:
    """What one instance did so far."""

    def __init__(self) -> None:
        self.done = 0.0
        self.busy = 0.0
        """Seconds of all answers."""
        self.inside = 0.0
        self.latency = SERVICE

    def serve(self, rate: float) -> None:
        """Answer a second's requests; they slow each other down as the instance fills."""
        self.latency = SERVICE * (1 + min(rate * SERVICE / SLOTS, 2.0) ** 3)
        self.done += rate
        self.busy += rate * self.latency
        self.inside = rate * self.latency

    def plain(self) -> dict[Signal, float]:
        """Return honest metrics."""
        return {
            Signal.RUNNING: self.inside, Signal.WAITING: 0.0, Signal.KV_USE: 0.1,
            Signal.COMPLETED: self.done, Signal.FAILED: 0.0,
            Signal.LATENCY_SUM: self.busy, Signal.LATENCY_COUNT: self.done,
        }  # fmt: skip


Odd = Callable[[Server, float], Mapping[Signal, float] | None]
"""What the odd page says at an instant; None if it cannot be read."""


def workers() -> Odd:
    """Answer from four processes in turn."""
    turns = itertools.cycle([0, 2, 1, 3, 3, 0, 2])
    begun = (9000.0, 4000.0, 7000.0, 1000.0)

    def page(server: Server, _: float) -> Mapping[Signal, float]:
        done = begun[next(turns)] + server.done / 4
        return {
            **server.plain(), Signal.RUNNING: server.inside / 4, Signal.COMPLETED: done,
            Signal.LATENCY_SUM: done * SERVICE, Signal.LATENCY_COUNT: done,
        }  # fmt: skip

    return page


def frozen(server: Server, at: float) -> Mapping[Signal, float]:
    """Stay at full after a mass abort, until the next request."""
    if at < 30 and server.done < 1e-6:
        return {Signal.RUNNING: 8.0, Signal.WAITING: 15.0, Signal.KV_USE: 0.904,
                Signal.COMPLETED: 0.0}  # fmt: skip
    return server.plain()


def cached() -> Odd:
    """Serve the same page for ever."""
    kept: list[Mapping[Signal, float]] = []

    def page(server: Server, at: float) -> Mapping[Signal, float]:
        if at > 5 and not kept:
            kept.append(server.plain())
        return kept[0] if kept else server.plain()

    return page


def half(server: Server, at: float) -> Mapping[Signal, float] | None:
    """Answer every other minute only."""
    return server.plain() if at % 60 < 30 else None


ODD: Mapping[str, Odd] = {
    "plain": lambda server, _: server.plain(),
    "nothing to scrape": lambda _server, _: {},
    "a page that fails": lambda _server, _: None,
    "an empty page": lambda _server, _: {},
    "nonsense": lambda server, _: {**server.plain(), Signal.RUNNING: -1.0},
    "latencies of the hand-over": lambda server, _: {
        **server.plain(), Signal.LATENCY_SUM: server.busy / 3000
    },
    "latencies in milliseconds": lambda server, _: {
        **server.plain(), Signal.LATENCY_SUM: server.busy * 1000
    },
    "counters that stay at zero": lambda server, _: {
        Signal.RUNNING: server.inside, Signal.WAITING: 0.0, Signal.COMPLETED: 0.0,
        Signal.LATENCY_SUM: 0.0, Signal.LATENCY_COUNT: 0.0,
    },
    "gauges only": lambda server, _: {Signal.RUNNING: server.inside, Signal.WAITING: 0.0},
    "counters only": lambda server, _: {
        key: value for key, value in server.plain().items() if key is not Signal.RUNNING
    },
    "gauges that froze at full": frozen,
    "a page that comes and goes": half,
}  # fmt: skip


@pytest.mark.parametrize("kind", [*ODD, "several workers", "a cached page"])
def test_equal_instances_share_evenly(kind: str) -> None:
    """Between 45 and 55 per cent in the end, whatever was believed, and never out of service."""
    page = {"several workers": workers(), "a cached page": cached()}.get(kind) or ODD[kind]
    scrape = {"url": "http://127.0.0.1:1/metrics", "period": "1s"}
    odd_scrape = None if kind == "nothing to scrape" else scrape
    config = make_config(
        sites=["near"],
        instances=[
            make_instance("odd", "near", scrape=odd_scrape, service_time="100ms", slots=SLOTS),
            make_instance("plain", "near", address="10.0.0.2:80", scrape=scrape,
                          service_time="100ms", slots=SLOTS),
        ],
    )  # fmt: skip
    fleet, steering = FleetState(config, now=0.0), Steering(config)
    servers = {"odd": Server(), "plain": Server()}
    # One that froze at full got nothing before.
    shares = {"odd": 0.0, "plain": 1.0} if page is frozen else {"odd": 0.5, "plain": 0.5}
    taken = []
    for second in range(1, SECONDS + 1):
        now = float(second)
        for name, server in servers.items():
            rate = RATE * shares.get(name, 0.0)
            server.serve(rate)
            said = page(server, now) if name == "odd" else server.plain()
            if name == "plain" or kind != "nothing to scrape":
                report = (
                    ScrapeFailure(name, now, "status 500")
                    if said is None
                    else InstanceReport(name, Source.SCRAPE, now, said, empty=not said)
                )
                with suppress(ReportError):
                    fleet.apply(report, now=now)
            if rate:
                fleet.apply(
                    TrafficReport(
                        "e", "near", "chat", name, now, 1.0, rate, rate,
                        in_progress=server.inside, latency_sum=rate * server.latency,
                        latency_count=rate, ttft_sum=rate * server.latency / 2,
                    ),
                    now=now,
                )  # fmt: skip
        view = fleet.view(now=now)
        assert Phase.EXPIRED is not view.instances["odd"].phase
        plan = steering.decide(view)
        allocations = plan.assignments["chat", "near"].allocations
        shares = {each.instance: each.share for each in allocations}
        taken.append(shares.get("odd", 0.0))

    assert 0.45 <= sum(taken[-30:]) / 30 <= 0.55
