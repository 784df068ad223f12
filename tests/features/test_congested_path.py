"""A path that congests on the wire: real probes through a relay, then fleet and steering."""

from __future__ import annotations

import asyncio
import itertools

import aiohttp

from controlplane.agent.probes import Prober
from controlplane.agent.settings import Probe, ProbeKind, Probes
from controlplane.fleet import FleetState
from controlplane.model import InstanceReport, PathReport, Signal, Source, TrafficReport
from controlplane.steering import Plan, Steering
from testbed.fakes.delay_proxy import relaying
from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.instances import EmulatedInstance
from testbed.fakes.views import make_config, make_instance

CALM, CONGESTED = 0.0025, 0.060
"""Seconds that the relay adds each way."""
RATE = 40.0


class Loop:
    """One period after another: what the agent measured goes in, shares come out."""

    def __init__(self) -> None:
        config = make_config(
            sites=["home", "east", "west"],
            instances=[
                make_instance("e", "east", service_time="100ms", slots=8),
                make_instance("w", "west", service_time="100ms", slots=8),
            ],
        )
        self.fleet, self.steering = FleetState(config, now=0.0), Steering(config)
        self.share = {"e": 0.5, "w": 0.5}
        self._done = {"e": 0.0, "w": 0.0}
        self._now = 0.0

    def period(self, rtts: dict[str, float]) -> None:
        """Pass a second in which requests follow the shares, and decide."""
        self._now += 1.0
        now = self._now
        for site, rtt in rtts.items():
            self.fleet.apply(PathReport("home", site, Source.AGENT, now, rtt=rtt), now=now)
        for name, share in self.share.items():
            rate = RATE * share
            self._done[name] += rate
            signals = {
                Signal.RUNNING: rate * 0.1, Signal.WAITING: 0.0, Signal.SLOTS: 8.0,
                Signal.COMPLETED: self._done[name], Signal.LATENCY_SUM: 0.1 * self._done[name],
                Signal.LATENCY_COUNT: self._done[name],
            }  # fmt: skip
            self.fleet.apply(InstanceReport(name, Source.AGENT, now, signals), now=now)
            seen = TrafficReport(
                "envoy", "home", "chat", name, now, 1.0, issued=rate, succeeded=rate,
                latency_sum=0.1 * rate, latency_count=rate,
            )  # fmt: skip
            self.fleet.apply(seen, now=now)
        self._take(self.steering.decide(self.fleet.view(now=now)))

    def _take(self, plan: Plan) -> None:
        found = plan.assignments["chat", "home"].allocations
        for name in self.share:
            self.share[name] = sum(
                one.share for one in found if one.instance == name and one.priority == 0
            )


async def test_a_path_that_congests_loses_weight_within_three_periods() -> None:
    """Two equal paths share evenly, then one congests: no one says so but the agent's own probes.

    It ends once that was seen; a share that is not even, or does not fall, is waited for in vain.
    """
    loop = Loop()
    async with (
        EmulatedInstance(InstanceSettings(model="m")) as near,
        EmulatedInstance(InstanceSettings(model="m")) as far,
        relaying(near.port, delay=CALM) as east,
        relaying(far.port, delay=CALM) as west,
        aiohttp.ClientSession() as session,
    ):
        probes = {
            site: Probe(site, f"127.0.0.1:{relay.port}", kind=ProbeKind.HTTP, path="/health")
            for site, relay in (("east", east), ("west", west))
        }
        prober = Prober(
            Probes(samples=3, targets=tuple(probes.values())), on_measured=lambda _: None
        )

        async def period() -> None:
            measured = [await prober.round_trip(probe, session) for probe in probes.values()]
            loop.period({one.site: one.rtt for one in measured if one.rtt is not None})

        async with asyncio.timeout(120):
            for _ in range(20):
                await period()
            calm = loop.share["w"]
            # What other load adds to one path's probes is no less real to the agent: again, then.
            while loop.share["w"] >= 0.75 * calm:
                west.delay = CALM
                for turn in itertools.count():
                    await period()
                    calm = loop.share["w"]
                    if turn >= 4 and 0.35 < calm < 0.65:
                        break
                west.delay = CONGESTED
                for _ in range(3):
                    await period()
