"""The agent's own port: what a training job may say of itself, and what it is rejected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest

from controlplane.agent.local_api import LONGEST_JOB, build_api
from controlplane.agent.training import PushedJobs
from testbed.fakes.web_servers import serving_routes


@dataclass
class Served:
    """A served port, its jobs, and its clock."""

    url: str = ""
    jobs: PushedJobs = field(default_factory=PushedJobs)
    now: float = 100.0


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """Serve on a free port."""
    it = Served()
    api = build_api(it.jobs, shown=lambda: {"id": "north-1"}, clock=lambda: it.now)
    async with serving_routes(application=api) as port:
        it.url = f"http://127.0.0.1:{port}"
        yield it


async def test_a_job_says_what_it_takes_and_for_how_long(served: Served) -> None:
    """Pushed again it lasts longer; ended it takes nothing; forgotten it runs out."""
    async with aiohttp.ClientSession(served.url) as session:
        for job, share in (("a", 0.5), ("b", 0.2)):
            body = {"share": share, "for": 30}
            async with session.put(f"/v1/training/{job}", json=body) as answer:
                assert 204 == answer.status
        both = served.jobs.share(now=served.now)
        async with session.delete("/v1/training/a") as answer:
            assert 204 == answer.status
        one = served.jobs.share(now=served.now)

    assert pytest.approx(0.7) == both
    assert pytest.approx(0.2) == one
    assert served.jobs.share(now=served.now + 31) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "send JSON"),
        (b"half", "send JSON"),
        (b"[" * 4_000, "send JSON"),
        (b"[0.5]", "send JSON"),
        (b'{"for": 60}', "send JSON"),
        (b'{"share": "much"}', "send JSON"),
        (b'{"share": null}', "send JSON"),
        (b'{"share": 1.5}', "between 0 and 1"),
        (b'{"share": -0.1}', "between 0 and 1"),
        (b'{"share": NaN}', "between 0 and 1"),
        (b'{"share": 0.5, "for": 0}', "for lies"),
        (b'{"share": 0.5, "for": Infinity}', "for lies"),
        (b'{"share": 0.5, "for": %d}' % (LONGEST_JOB + 1), "for lies"),
    ],
)
async def test_what_cannot_be_is_refused_with_what_would_be_right(
    served: Served, body: bytes, words: str
) -> None:
    """And changes nothing."""
    async with aiohttp.ClientSession(served.url) as session:
        async with session.put("/v1/training/a", data=body) as answer:
            status, said = answer.status, await answer.text()

    assert 400 == status
    assert words in said
    assert served.jobs.share(now=served.now) is None


async def test_names_and_bodies_are_bounded(served: Served) -> None:
    """Anyone who reaches the port cannot fill the agent's memory."""
    async with aiohttp.ClientSession(served.url) as session:
        async with session.put(f"/v1/training/{'j' * 101}", json={"share": 0.5}) as answer:
            long_name = answer.status
        async with session.put("/v1/training/a", data=b" " * 5_000) as answer:
            long_body = answer.status

    assert (400, 413) == (long_name, long_body)


async def test_health_and_state_are_reported(served: Served) -> None:
    """For a probe of the orchestrator, and for people."""
    async with aiohttp.ClientSession(served.url) as session:
        async with session.get("/healthz") as answer:
            health = answer.status, await answer.text()
        async with session.get("/v1/state") as answer:
            state = await answer.json()

    assert (200, "ok\n") == health
    assert {"id": "north-1"} == state
