"""The load generator and its records."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from testbed.demo.records import NOT_SENT, Record, summarise
from testbed.demo.traffic import Lengths, Stream, Swing, Traffic, build_body
from testbed.fakes.web_servers import serving_routes


@asynccontextmanager
async def answering(handler: object) -> AsyncIterator[str]:
    """Run a server that answers every POST with *handler*; give its URL."""
    route = web.post("/v1/chat/completions", handler)  # type: ignore[arg-type]
    async with serving_routes(route, cancels=True) as port:
        yield f"http://127.0.0.1:{port}/v1/chat/completions"


async def wait_for_records(traffic: Traffic, count: int) -> None:
    """Wait until *count* requests ended; the test's own time limit bounds it."""
    while len(traffic.records) < count:  # noqa: ASYNC110 -- records raise no event
        await asyncio.sleep(0.005)


async def test_records_say_who_answered() -> None:
    """Status and the instance's name are taken from the answer."""

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({}, headers={"x-cats-instance": "a", "x-cats-site": "s"})

    async with answering(answer) as url:
        async with Traffic([Stream("chat", "north", url, rate=200.0)]) as traffic:
            await wait_for_records(traffic, 20)

        for record in traffic.records:
            assert ("chat", "north", 200, "a", "s") == (
                record.service,
                record.site,
                record.status,
                record.instance,
                record.at_site,
            )
            assert record.answered
            assert 0 < record.ttft <= record.latency


async def test_the_first_byte_is_distinguished_from_the_last() -> None:
    """Of a streamed answer, the time to its first byte is shorter than the whole."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"a")
        await asyncio.sleep(1.0)
        await response.write(b"b")
        return response

    async with answering(answer) as url:
        async with Traffic([Stream("chat", "north", url, rate=50.0)]) as traffic:
            await wait_for_records(traffic, 3)

        for record in traffic.records:
            assert record.ttft + 0.1 < record.latency


async def test_a_broken_answer_is_a_failure_whatever_its_status() -> None:
    """An answer that stops in the middle was not answered."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": "100"})
        await response.prepare(request)
        await response.write(b"a")
        assert request.transport is not None
        request.transport.close()
        return response

    async with answering(answer) as url:
        async with Traffic([Stream("chat", "north", url, rate=50.0)]) as traffic:
            await wait_for_records(traffic, 2)

        assert [False] * len(traffic.records) == [each.answered for each in traffic.records]
        assert all(each.error for each in traffic.records)


async def test_what_exceeds_the_bound_is_recorded_as_not_sent() -> None:
    """A server that never answers holds no more than the bound."""
    never = asyncio.Event()

    async def answer(_request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async with answering(answer) as url:
        async with Traffic([Stream("chat", "north", url, rate=500.0, in_flight=3)]) as traffic:
            await wait_for_records(traffic, 5)

            assert 3 == traffic.in_flight
            assert {NOT_SENT} == {record.status for record in traffic.records}
            never.set()

        assert 3 == sum(record.answered for record in traffic.records)


def test_lengths_have_the_mean_that_was_asked() -> None:
    """Log-normal lengths keep their mean whatever their spread."""
    rng = random.Random(3)
    drawn = [Lengths(prompt=40, output=120, sigma=0.6).draw(rng) for _ in range(20_000)]

    assert pytest.approx(40, rel=0.03) == statistics.mean(words for words, _ in drawn)
    assert pytest.approx(120, rel=0.03) == statistics.mean(tokens for _, tokens in drawn)


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/v1/chat/completions", {"messages", "model", "max_tokens"}),
        ("/v1/completions", {"prompt", "model", "max_tokens"}),
        ("/v1/embeddings", {"input", "model"}),
        ("/v1/images/generations", {"prompt", "model"}),
    ],
)
def test_bodies_fit_their_path(path: str, keys: set[str]) -> None:
    """Each API gets the members that it wants."""
    stream = Stream("s", "north", f"http://127.0.0.1:1{path}", rate=1.0)

    assert keys == set(build_body(stream, 3, 5))


def test_a_summary_counts_failures_and_takes_shares_of_answers() -> None:
    """Mean, 99th percentile and shares are of what was answered; failures are counted."""
    records = [
        *(
            Record("s", "n", 0.0, (i + 1) / 100, 0.0, 200, "a" if i < 75 else "b")
            for i in range(100)
        ),
        Record("s", "n", 0.0, 9.0, 9.0, 503),
    ]

    got = summarise(records)

    assert (101, 1) == (got.sent, got.failed)
    assert pytest.approx(0.505) == got.mean
    assert pytest.approx(0.99) == got.p99
    assert {"a": 0.75, "b": 0.25} == got.shares


def test_a_summary_of_nothing_has_no_mean() -> None:
    """Without answers the mean is not a number rather than zero."""
    assert math.isnan(summarise([]).mean)


def test_a_swing_rises_from_its_least_to_the_whole_rate_and_falls_again() -> None:
    """Period after period."""
    swing = Swing(period=4.0, least=0.2)
    parts = [swing.part_at(offset) for offset in (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)]
    assert pytest.approx([0.2, 0.6, 1.0, 0.6, 0.2, 1.0]) == parts


async def test_of_a_stream_that_swings_its_part_of_the_rate_is_sent() -> None:
    """Over a whole period from nothing to all of it, half of what it sends at most."""

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({})

    async with answering(answer) as url:
        stream = Stream("chat", "north", url, rate=400.0, swing=Swing(0.5, 0.0))
        async with Traffic([stream], seed=3, length=0.5) as traffic:
            await traffic.wait_sent()

    assert 70 < len(traffic.records) < 130


async def test_a_length_ends_the_arrivals_and_the_seed_repeats_them() -> None:
    """Two senders of one seed send at the same distances, and nothing when the time is over."""
    length = 0.5

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({})

    async with answering(answer) as url:

        async def arrivals() -> list[float]:
            began_at = asyncio.get_running_loop().time()
            stream = Stream("chat", "north", url, rate=100.0)
            async with Traffic([stream], seed=7, length=length) as traffic:
                await traffic.wait_sent()
            return sorted(record.started_at - began_at for record in traffic.records)

        first, second = await arrivals(), await arrivals()

    gaps = [[b - a for a, b in itertools.pairwise(each)] for each in (first, second)]
    assert 20 < len(first) < 100
    assert pytest.approx(gaps[0], abs=1e-6) == gaps[1]
    assert first[-1] - first[0] < length
