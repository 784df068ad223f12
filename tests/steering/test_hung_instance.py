"""An instance that begins answers and never ends them, in a closed loop without sockets.

Envoy has the headers, so nothing times out; the engine's page is that of an idle machine. What is
known are the attempts that stay open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest

from controlplane.config import parse_config
from controlplane.fleet import FleetState
from controlplane.model import InstanceReport, Signal, Source, TrafficReport
from controlplane.steering import Plan, Steering

FLEET = """
version: 1
sites: [{name: north, kind: edge}]
models: [{name: m}]
services: [{name: chat, match: [{path: /v1}], models: [{name: m}]}]
instances:
  - {name: a, site: north, address: "127.0.0.1:9001", model: m, slots: 8}
  - {name: b, site: north, address: "127.0.0.1:9002", model: m, slots: 8}
"""
SCRAPED = FLEET.replace("m, slots: 8}", 'm, slots: 8, scrape: {url: "http://127.0.0.1:9009/m"}}')
TAKES = 0.1
PATIENCE = 30.0


@dataclass(slots=True)
class Instance:
    """What one instance got, and how it ended."""

    due: float = 0.0
    """Part of the next request that it is due for."""
    sent: list[tuple[float, float, bool]] = field(default_factory=list)
    """When each began and ended, and whether it was answered."""

    def report(self, name: str, at: float) -> TrafficReport:
        """Return what Envoy saw in the second before *at*."""
        ended = [each for each in self.sent if at - 1 < each[1] <= at]
        answered = [end - begin for begin, end, well in ended if well]
        return TrafficReport(
            "e", "north", "chat", name, at, 1.0,
            issued=sum(at - 1 < begin <= at for begin, _, _ in self.sent),
            succeeded=len(answered),
            in_progress=sum(begin <= at < end for begin, end, _ in self.sent),
            latency_sum=math.fsum(answered),
            latency_count=len(answered),
            ttft_sum=math.fsum(answered),
            abandoned=len(ended) - len(answered),
        )  # fmt: skip

    def page(self, name: str, at: float) -> InstanceReport:
        """Return what its engine says, which only the answered requests have reached."""
        well = [(begin, end) for begin, end, answered in self.sent if answered]
        ended = [end - begin for begin, end in well if end <= at]
        signals = {
            Signal.RUNNING: float(sum(begin <= at < end for begin, end in well)),
            Signal.WAITING: 0.0,
            Signal.COMPLETED: float(len(ended)),
            Signal.LATENCY_SUM: math.fsum(ended),
            Signal.LATENCY_COUNT: float(len(ended)),
        }
        return InstanceReport(name, Source.SCRAPE, at, signals)


class Story:
    """Second by second, a fleet of two and what steering makes of it."""

    def __init__(self, *, scraped: bool, rate: float) -> None:
        config = parse_config(SCRAPED if scraped else FLEET, file="fleet.yaml")
        self.fleet, self.steering = FleetState(config, now=0.0), Steering(config)
        self.scraped, self.rate, self.at = scraped, rate, 0.0
        self.instances = {"a": Instance(), "b": Instance()}
        self.plan: Plan = self.steering.decide(self.fleet.view(now=0.0))

    def share(self) -> float:
        """Return the share of the instance that fails."""
        found = {
            each.instance: each.share for each in self.plan.assignments["chat", "north"].allocations
        }
        return found.get("a", 0.0)

    def go(self, seconds: int, *, hung: float = 0.0) -> None:
        """Let a part *hung* of the requests at ``a`` never end until their clients leave."""
        for _ in range(seconds):
            shares = {"a": self.share(), "b": 1.0 - self.share()}
            for number in range(int(self.rate)):
                begin = self.at + (number + 0.5) / self.rate
                for name, each in self.instances.items():
                    each.due += shares[name]
                name = max(self.instances, key=lambda one: self.instances[one].due)
                self.instances[name].due -= 1.0
                count = len(self.instances[name].sent)
                hangs = name == "a" and int((count + 1) * hung) > int(count * hung)
                end = begin + (PATIENCE if hangs else TAKES)
                self.instances[name].sent.append((begin, end, not hangs))
            self.at += 1.0
            for name, each in self.instances.items():
                self.fleet.apply(each.report(name, self.at), now=self.at)
                if self.scraped:
                    self.fleet.apply(each.page(name, self.at), now=self.at)
            self.plan = self.steering.decide(self.fleet.view(now=self.at))

    def lost(self, since: float) -> int:
        """Return the requests sent since then that were or will be left by their clients."""
        return sum(not well and begin > since for begin, _, well in self.instances["a"].sent)


@pytest.mark.parametrize(
    ("rate", "scraped"),
    [
        pytest.param(10.0, False, id="unscraped"),
        pytest.param(20.0, True, id="scraped"),
        pytest.param(50.0, True, id="scraped, fifty a second"),
    ],
)
def test_an_instance_that_hangs_after_its_headers_is_left_and_comes_back(
    rate: float, scraped: bool
) -> None:
    """Known by what stays open, priced as a failure; the first good answer ends it."""
    story = Story(scraped=scraped, rate=rate)
    story.go(20)
    before = story.share()
    story.go(5, hung=1.0)
    early = story.at
    story.go(20, hung=1.0)
    failing = [(each.instance, each.kind.value) for each in story.plan.failing]
    lost = story.lost(early)
    story.go(30)

    assert before == pytest.approx(0.5, abs=0.05)
    assert [("a", "unanswered")] == failing
    assert lost <= 0.02 * 20 * rate
    assert story.share() == pytest.approx(0.5, abs=0.06)


def test_an_instance_of_which_half_the_requests_hang_is_left() -> None:
    """Half of its answers are as good as ever; the others are failures all the same."""
    story = Story(scraped=True, rate=20.0)
    story.go(20)
    story.go(12, hung=0.5)

    assert story.share() < 0.1
    assert ["a"] == [each.instance for each in story.plan.failing]


def test_an_instance_that_hangs_for_minutes_gets_probes_alone() -> None:
    """Each probe hangs by itself, and its client leaves; the instance stays one that fails."""
    story = Story(scraped=False, rate=20.0)
    story.go(20)
    story.go(5, hung=1.0)
    early = story.at
    story.go(240, hung=1.0)

    assert story.lost(early) <= 0.01 * 240 * 20.0
    assert ["a"] == [each.instance for each in story.plan.failing]
