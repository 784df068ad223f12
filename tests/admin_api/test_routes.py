"""The admin port answers in the documented shapes and keeps its doors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from controlplane.admin_api.documents import Document
from controlplane.admin_api.routes import UnknownName, build_admin
from controlplane.controller.events import EventHub
from controlplane.errors import ReportError

Client = TestClient[web.Request, web.Application]


class Fleet:
    """A small control plane to show."""

    def __init__(self) -> None:
        self.events = EventHub(client_limit=1)
        self.decided = False

    def is_ready(self) -> bool:
        """Tell whether the plan was made."""
        return self.decided

    def fleet_document(self) -> Document | None:
        """Give a fleet."""
        return {"sites": []} if self.decided else None

    def plan_document(self) -> Document | None:
        """Give a plan."""
        return {"version": "v1"} if self.decided else None

    async def explain_document(self, service: str, site: str) -> Document | None:
        """Know one service."""
        if service != "chat":
            raise UnknownName("service", service, ["chat"])
        return {"service": service, "from": site}

    def overview_document(self) -> Document | None:
        """Give what the dashboard shows."""
        return {"sites": []} if self.decided else None

    def overrides_document(self) -> Document:
        """Give none."""
        return {"overrides": []}

    async def add_override(self, content: bytes) -> Document:
        """Take anything but nothing."""
        if content == b"{}":
            raise ReportError("reason: is missing")
        return {"added": "1"}

    def remove_override(self, name: str, by: str) -> Document:
        """Know one."""
        if name != "1":
            raise ReportError(f"no override '{name}'")
        return {"removed": name, "by": by}

    def envoys_document(self) -> Document:
        """Give no Envoys."""
        return {"envoys": []}

    def config_document(self) -> Document:
        """Give a sound configuration."""
        return {"ok": True}

    def metrics_text(self) -> bytes:
        """Give one metric."""
        return b"cats_ready 1\n"


@pytest.fixture
def fleet() -> Fleet:
    """Give what is shown."""
    return Fleet()


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[Client]:
    """Give a client of a real server on loopback."""
    async with TestClient(TestServer(build_admin(fleet, host="127.0.0.1"))) as client:
        yield client


async def test_it_is_alive_before_it_is_ready(client: Client, fleet: Fleet) -> None:
    """Only a served snapshot makes it ready."""
    assert 200 == (await client.get("/healthz")).status
    assert 503 == (await client.get("/readyz")).status

    fleet.decided = True

    answer = await client.get("/readyz")
    assert (200, "ok\n") == (answer.status, await answer.text())


@pytest.mark.parametrize("path", ["fleet", "plan"])
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
    """A foreign page cannot take the wheel through an operator's browser."""
    port = str(client.port)
    sent = {
        "Content-Type": "application/json",
        **{name: value.replace("PORT", port) for name, value in headers.items()},
    }
    assert status == (await client.post("/api/v1/overrides", data=body, headers=sent)).status


async def test_an_override_is_removed_by_somebody(client: Client) -> None:
    """Who did it is asked for; what is not there is told."""
    nobody = await client.delete("/api/v1/overrides/1")
    gone = await client.delete("/api/v1/overrides/2?by=ann")
    done = await client.delete("/api/v1/overrides/1?by=ann")

    assert (400, 404, 200) == (nobody.status, gone.status, done.status)
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


async def test_a_watcher_may_say_what_it_wants(client: Client, fleet: Fleet) -> None:
    """A page that shows sums is not sent the whole fleet; a wrong kind is told."""
    fleet.decided = True
    async with client.get("/api/v1/events?kinds=overview") as stream:
        first = await asyncio.wait_for(stream.content.readline(), 10)
        fleet.events.publish_state("fleet", lambda: {"unwanted": True})
        fleet.events.publish_state("overview", lambda: {"wanted": True})
        while b"wanted" not in (line := await asyncio.wait_for(stream.content.readline(), 10)):
            pass
    wrong = await client.get("/api/v1/events?kinds=overwiev")

    assert b"event: overview\n" == first
    assert b'data: {"wanted":true}\n' == line
    assert (400, "overwiev") == (wrong.status, (await wrong.json())["error"].split("'")[1])


async def test_a_watcher_first_gets_everything_then_changes(client: Client, fleet: Fleet) -> None:
    """A page is complete after its first bytes and live after that."""
    fleet.decided = True
    async with client.get("/api/v1/events") as stream:
        kinds: list[str] = []
        while len(kinds) < 4:
            line = await asyncio.wait_for(stream.content.readline(), 10)
            if line.startswith(b"event: "):
                kinds.append(line.removeprefix(b"event: ").strip().decode())
        fleet.events.publish_state("plan", lambda: {"version": "v2"})
        while b"v2" not in (line := await asyncio.wait_for(stream.content.readline(), 10)):
            pass
        second = await client.get("/api/v1/events")

    assert ["config", "fleet", "plan", "envoys"] == kinds
    assert b'data: {"version":"v2"}\n' == line
    assert 503 == second.status


async def test_a_watcher_that_leaves_is_forgotten(client: Client, fleet: Fleet) -> None:
    """Its place is free again."""
    stream = await client.get("/api/v1/events")
    await stream.content.readline()
    stream.close()

    async with asyncio.timeout(10):
        while len(fleet.events):
            fleet.events.publish_state("plan", lambda: "x" * 100_000)
            await asyncio.sleep(0.01)
