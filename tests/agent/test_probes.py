"""Round trips and bandwidth, measured through relays that delay and throttle."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from controlplane.agent.probes import Measured, Prober
from controlplane.agent.settings import Bandwidth, Probe, ProbeKind, Probes
from testbed.background import running_task
from testbed.fakes.delay_proxy import relaying
from testbed.fakes.web_servers import serving_routes


@pytest.fixture
async def server() -> AsyncIterator[int]:
    """Serve an answer of one byte at /, and two megabytes at /large."""

    async def small(_: web.Request) -> web.Response:
        return web.Response(status=404, text="x")

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=bytes(2_000_000))

    async with serving_routes(web.get("/", small), web.get("/large", large)) as port:
        yield port


def make_prober(*targets: Probe, samples: int = 5) -> tuple[Prober, asyncio.Queue[Measured]]:
    """Return a prober of *targets* and what it measures."""
    found: asyncio.Queue[Measured] = asyncio.Queue()
    settings = Probes(period=0.1, timeout=2.0, samples=samples, targets=targets)
    return Prober(settings, on_measured=found.put_nowait), found


@pytest.mark.parametrize("one_way", [0.005, 0.02, 0.05], ids=["10ms", "40ms", "100ms"])
async def test_a_round_trip_is_measured_within_a_tenth_or_a_millisecond(
    server: int, one_way: float
) -> None:
    """The answer travels there and back; the machine's own delays are not the network's."""
    async with relaying(server) as bare, relaying(server, delay=one_way) as relay:
        near = Probe(site="near", address=f"127.0.0.1:{bare.port}", kind=ProbeKind.HTTP)
        far = Probe(site="far", address=f"127.0.0.1:{relay.port}", kind=ProbeKind.HTTP)
        prober, _ = make_prober(far, samples=10)
        error = math.inf
        async with aiohttp.ClientSession() as session, asyncio.timeout(60):
            # A machine that is busy during one measurement is not during every one.
            while error > max(0.001, 0.1 * 2 * one_way):
                # What the relay and the server take themselves, on this machine as it is now.
                own = (await prober.round_trip(near, session)).rtt
                measured = (await prober.round_trip(far, session)).rtt
                assert own is not None
                assert measured is not None
                error = abs(measured - own - 2 * one_way)


async def test_connecting_measures_a_round_trip_too(server: int) -> None:
    """To a kernel on this machine it is next to nothing."""
    probe = Probe(site="far", address=f"127.0.0.1:{server}")
    prober, _ = make_prober(probe)
    rtt = math.inf
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while rtt >= 0.1:
            measured = await prober.round_trip(probe, session)
            assert measured.rtt is not None
            rtt = measured.rtt

    assert rtt > 0


async def test_a_bounded_download_measures_bandwidth(server: int) -> None:
    """The relay lets four megabytes a second through; a part of the file is read, not all."""
    async with relaying(server, rate=4e6) as relay:
        wanted = Bandwidth(url=f"http://127.0.0.1:{relay.port}/large", size=1e6)
        probe = Probe(site="far", address=f"127.0.0.1:{relay.port}", bandwidth=wanted)
        prober, _ = make_prober(probe)
        found = 0.0
        async with aiohttp.ClientSession() as session, asyncio.timeout(60):
            # A machine that is busy during one measurement is not during every one.
            while not 2e6 < found < 6e6:
                measured = await prober.download(probe, wanted, session)
                assert measured.bandwidth is not None
                found = measured.bandwidth


async def test_probing_goes_on_through_failures_and_reports_of_each_site(server: int) -> None:
    """A site that does not answer costs the others nothing."""
    dead = Probe(site="dead", address="127.0.0.1:1")
    alive = Probe(site="alive", address=f"127.0.0.1:{server}", kind=ProbeKind.HTTP)
    prober, found = make_prober(dead, alive, samples=1)
    async with running_task(prober.run()), asyncio.timeout(60):
        measured = [await found.get() for _ in range(3)]

    assert ["alive"] * 3 == [one.site for one in measured]
