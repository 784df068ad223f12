"""The admin port answers in the documented shapes and keeps its doors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from controlplane.admin_api.routes import build_admin
from testbed.fakes.admin_documents import FakeDocuments

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def fleet() -> FakeDocuments:
    """Return what is shown."""
    return FakeDocuments()


@pytest.fixture
async def client(fleet: FakeDocuments) -> AsyncIterator[Client]:
    """Return a client of a real server on loopback."""
    async with TestClient(TestServer(build_admin(fleet, host="127.0.0.1"))) as client:
        yield client


async def test_it_is_alive_before_it_is_ready(client: Client, fleet: FakeDocuments) -> None:
    """Only a served snapshot makes it ready."""
    assert 200 == (await client.get("/healthz")).status
    assert 503 == (await client.get("/readyz")).status

    fleet.decided = True

    answer = await client.get("/readyz")
    assert (200, "ok\n") == (answer.status, await answer.text())


@pytest.mark.parametrize("path", ["fleet", "plan", "room"])
async def test_before_the_first_plan_there_is_nothing_to_show(client: Client, path: str) -> None:
    """The answer says so instead of giving an empty fleet."""
    answer = await client.get(f"/api/v1/{path}")

    assert (503, "1") == (answer.status, answer.headers["Retry-After"])


async def test_explain_wants_both_names_and_knows_near_ones(client: Client) -> None:
    """A misspelt service is answered with the right one."""
    missing = await client.get("/api/v1/explain?service=chat")
    unknown = await client.get("/api/v1/explain?service=chta&from=north")
    known = await client.get("/api/v1/explain?service=chat&from=north")

    assert 400 == missing.status
    assert (404, {"error": "no service 'chta'; did you mean 'chat'?"}) == (
        unknown.status,
        await unknown.json(),
    )
    assert {"service": "chat", "from": "north"} == await known.json()


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("site=north&model=m", 200, "groups"),
        ("model=m", 200, "groups"),
        ("site=noth", 404, "no site 'noth'; did you mean 'north'?"),
        ("model=other", 404, "no model 'other'"),
        ("model=", 404, "no model ''"),
    ],
)
async def test_room_of_a_name_that_there_is_not_is_an_error(
    client: Client, fleet: FakeDocuments, query: str, status: int, words: str
) -> None:
    """A batch system that misspells its model would start all of its work, or none."""
    fleet.decided = True
    answer = await client.get(f"/api/v1/room?{query}")

    assert status == answer.status
    assert words in await answer.text()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        pytest.param("localhost:18080", 200, id="localhost"),
        pytest.param("127.0.0.1", 200, id="address"),
        pytest.param("[::1]:18080", 200, id="IPv6"),
        pytest.param("evil.example:18080", 421, id="rebound name"),
        pytest.param("127.0.0.1.evil.example", 421, id="look-alike"),
        pytest.param("", 421, id="none"),
    ],
)
async def test_on_loopback_the_host_must_be_loopback(
    client: Client, host: str, status: int
) -> None:
    """A page whose name was rebound to 127.0.0.1 reads nothing."""
    assert status == (await client.get("/api/v1/envoys", headers={"Host": host})).status


@pytest.mark.parametrize("path", ["/", "/api/v1/envoys", "/nowhere", "/metrics"])
async def test_every_answer_is_closed_to_foreign_pages(client: Client, path: str) -> None:
    """No CORS, no sniffing, no frames."""
    headers = (await client.get(path, headers={"Origin": "http://evil.example"})).headers

    assert "Access-Control-Allow-Origin" not in headers
    assert "nosniff" == headers["X-Content-Type-Options"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


async def test_nothing_can_be_changed(client: Client) -> None:
    """The port reads only."""
    answer = await client.post("/api/v1/plan")

    assert (405, "GET,HEAD") == (answer.status, answer.headers["Allow"])
    assert "error" in await answer.json()


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        pytest.param({}, b'{"a": 1}', 200, id="from a command"),
        pytest.param({"Origin": "http://127.0.0.1:PORT"}, b'{"a": 1}', 200, id="from our page"),
        pytest.param({"Origin": "http://evil.example"}, b'{"a": 1}', 403, id="foreign origin"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, b'{"a": 1}', 403, id="foreign page"),
        pytest.param({"Content-Type": "text/plain"}, b'{"a": 1}', 415, id="a form can send it"),
        pytest.param({}, b"{}", 400, id="wrong"),
        pytest.param({}, b"x" * 70_000, 413, id="too large"),
    ],
)
async def test_an_override_is_taken_from_us_only(
    client: Client, headers: dict[str, str], body: bytes, status: int
) -> None:
    """A foreign page cannot take the overrides through an operator's browser."""
    port = str(client.port)
    sent = {
        "Content-Type": "application/json",
        **{name: value.replace("PORT", port) for name, value in headers.items()},
    }
    assert status == (await client.post("/api/v1/overrides", data=body, headers=sent)).status


async def test_an_override_is_removed_by_somebody(client: Client) -> None:
    """Who did it is asked for; what is not there is reported."""
    anonymous = await client.delete("/api/v1/overrides/1")
    gone = await client.delete("/api/v1/overrides/2?by=ann")
    done = await client.delete("/api/v1/overrides/1?by=ann")

    assert (400, 404, 200) == (anonymous.status, gone.status, done.status)
    assert {"removed": "1", "by": "ann"} == await done.json()


async def test_the_dashboard_is_served_whole(client: Client) -> None:
    """Every file that one of its files names is there, with its type."""
    page = await client.get("/")
    text = await page.text()
    wanted = set(re.findall(r'(?:href|src)="(/dashboard/[^"]+)"', text))
    seen: dict[str, str] = {}
    while wanted - seen.keys():
        path = min(wanted - seen.keys())
        answer = await client.get(path)
        assert 200 == answer.status, path
        seen[path] = answer.content_type
        wanted |= {
            f"/dashboard/{name}" for name in re.findall(r'from "\./([^"]+)"', await answer.text())
        }

    assert "text/html" == page.content_type
    assert {"text/css", "text/javascript"} == set(seen.values())
    assert 404 == (await client.get("/dashboard/../admin.py")).status
    assert 404 == (await client.get("/dashboard/nothing.js")).status


async def test_the_dashboard_asks_nobody_else(client: Client) -> None:
    """It works offline: no file names a foreign host, and no script or style stands inline."""
    text = await (await client.get("/")).text()

    assert [] == re.findall(r'(?:href|src)="(?:https?:)?//', text)
    assert [] == re.findall(r"<script(?![^>]*\ssrc=)|<style| style=| on\w+=", text)


async def test_a_watcher_may_say_what_it_wants(client: Client, fleet: FakeDocuments) -> None:
    """A page that shows sums is not sent the whole fleet; a wrong kind is reported."""
    fleet.decided = True
    async with client.get("/api/v1/events?kinds=overview") as stream:
        first = await asyncio.wait_for(stream.content.readline(), 60)
        fleet.events.publish_state("fleet", lambda: {"unwanted": True})
        fleet.events.publish_state("overview", lambda: {"wanted": True})
        while b"wanted" not in (line := await asyncio.wait_for(stream.content.readline(), 60)):
            pass
    wrong = await client.get("/api/v1/events?kinds=overwiev")

    assert b"event: overview\n" == first
    assert b'data: {"wanted":true}\n' == line
    assert (400, "overwiev") == (wrong.status, (await wrong.json())["error"].split("'")[1])


async def test_a_watcher_first_gets_everything_then_changes(
    client: Client, fleet: FakeDocuments
) -> None:
    """A page is complete after its first bytes and live after that."""
    fleet.decided = True
    async with client.get("/api/v1/events") as stream:
        kinds: list[str] = []
        while len(kinds) < 4:
            line = await asyncio.wait_for(stream.content.readline(), 60)
            if line.startswith(b"event: "):
                kinds.append(line.removeprefix(b"event: ").strip().decode())
        fleet.events.publish_state("plan", lambda: {"version": "v2"})
        while b"v2" not in (line := await asyncio.wait_for(stream.content.readline(), 60)):
            pass

    assert ["config", "fleet", "plan", "envoys"] == kinds
    assert b'data: {"version":"v2"}\n' == line


async def test_a_new_watcher_takes_the_seat_of_an_old_one(
    client: Client, fleet: FakeDocuments
) -> None:
    """The stream of the old one ends, and the new one is served."""
    old = await client.get("/api/v1/events")
    async with client.get("/api/v1/events") as new:
        await asyncio.wait_for(old.content.read(), 60)

        assert 200 == new.status
        assert 1 == len(fleet.events)


async def test_a_watcher_that_leaves_is_forgotten(client: Client, fleet: FakeDocuments) -> None:
    """Its place is free again."""
    stream = await client.get("/api/v1/events")
    await stream.content.readline()
    stream.close()

    async with asyncio.timeout(60):
        while len(fleet.events):
            fleet.events.publish_state("plan", lambda: "x" * 100_000)
            await asyncio.sleep(0.01)
