"""The admin port is bounded, and takes what clients send for what it is."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from controlplane.admin_api import port as port_module
from controlplane.admin_api import protection
from controlplane.admin_api.port import AdminSite
from controlplane.admin_api.routes import build_admin
from controlplane.auth.admin_tokens import Login, TokenFile
from testbed.background import until
from testbed.fakes.admin_documents import FakeDocuments
from testbed.fakes.certificates import Authority, server_context

TOKEN = "0123456789abcdef"
GOOD = f"Authorization: Bearer {TOKEN}\r\n".encode()


@contextlib.asynccontextmanager
async def admin(
    tmp_path: Path,
    *,
    most: int = 256,
    request_within: float = 10.0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[AdminSite, int]]:
    """Serve an admin port that asks for a token; give it with its port number."""
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    login = Login(TokenFile(tokens), certificates=False)
    runner = web.AppRunner(
        build_admin(FakeDocuments(), host="127.0.0.1", login=login),
        auto_decompress=False,
        lingering_time=0.1,
    )
    await runner.setup()
    site = AdminSite(runner, "127.0.0.1", 0, tls=tls, most=most, request_within=request_within)
    await site.start()
    try:
        yield site, site.bound_port
    finally:
        await runner.cleanup()


async def ask(port: int, request: bytes, tls: ssl.SSLContext | None = None) -> int:
    """Send *request* as it is; return the status of the answer."""
    name = "localhost" if tls else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
    try:
        writer.write(request)
        return int((await asyncio.wait_for(reader.readline(), 60)).split()[1])
    finally:
        writer.close()


def request(line: str, headers: bytes = b"", body: bytes = b"") -> bytes:
    """Write a request."""
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return f"{line} HTTP/1.1\r\nHost: localhost\r\n".encode() + headers + length + b"\r\n" + body


JSON = b"Content-Type: application/json\r\n"
OVERRIDE = json.dumps({"instance": "a", "drain": True}).encode()
ZIPPED = b"Content-Encoding: gzip\r\n"
ADD = "POST /api/v1/overrides"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(request("GET /metrics", GOOD), 200, id="a good token"),
        pytest.param(
            request("GET /metrics", b"Authorization: Bearer \xff\xfe\r\n"), 401, id="bytes"
        ),
        pytest.param(
            request("GET /metrics", b"Authorization: Basic \xff\xfe\r\n"), 401, id="no ASCII"
        ),
        pytest.param(request("GET /metrics", b"Authorization: Basic /w==\r\n"), 401, id="no UTF-8"),
        pytest.param(request("GET /metrics", b"Authorization: Basic a\r\n"), 401, id="no base64"),
        pytest.param(request("GET /healthz", ZIPPED, b"hello"), 200, id="health with no gzip"),
        pytest.param(request("GET /metrics", ZIPPED, b"hello"), 401, id="no gzip, no token"),
        pytest.param(request(ADD, GOOD + JSON + ZIPPED, b"hello"), 400, id="no gzip"),
        pytest.param(
            request(ADD, GOOD + JSON + ZIPPED, gzip.compress(OVERRIDE)[:-9]), 400, id="cut"
        ),
        pytest.param(request(ADD, GOOD + JSON + ZIPPED, gzip.compress(OVERRIDE)), 200, id="gzip"),
        pytest.param(
            request(ADD, GOOD + JSON + ZIPPED, gzip.compress(b" " * 10**7)), 400, id="bomb"
        ),
        pytest.param(
            request(ADD, GOOD + JSON + b"Content-Encoding: br\r\n", b"x"), 415, id="brotli"
        ),
    ],
)
async def test_what_is_sent_is_answered_for_what_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sent: bytes, status: int
) -> None:
    """No traceback, whatever bytes come, with and without a token."""
    with caplog.at_level(logging.WARNING):
        async with admin(tmp_path) as (_, port):
            assert status == await ask(port, sent)

    assert [] == caplog.records


async def test_connections_that_never_ask_are_closed(tmp_path: Path) -> None:
    """Also those that send a request's beginning, byte by byte."""
    async with admin(tmp_path, request_within=0.3) as (site, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /heal")

        with contextlib.suppress(ConnectionError):
            assert b"" == await asyncio.wait_for(reader.read(), 60)
        writer.close()
        while len(site):  # noqa: ASYNC110 -- the loop closes it in a turn of its own
            await asyncio.sleep(0)


async def test_half_open_connections_make_room_for_those_that_ask(tmp_path: Path) -> None:
    """A thousand of them cost as many files as the port may have, and health still answers."""
    async with admin(tmp_path, most=16) as (site, port):
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]

        assert 200 == await ask(port, request("GET /healthz"))
        assert 16 >= len(site)
        for _, writer in opened:
            writer.close()


async def test_a_connection_in_use_is_not_closed_for_another(tmp_path: Path) -> None:
    """A stream of events goes on while idle connections come and go."""
    async with admin(tmp_path, most=2) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("GET /api/v1/events", GOOD))
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]

        assert 200 == await ask(port, request("GET /healthz"))
        assert not reader.at_eof()
        for _, other in opened:
            other.close()
        writer.close()


@pytest.mark.parametrize(
    "sent", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET /healthz HTTP/1.1\r\n\r\n"],
    ids=["nothing", "half a handshake", "clear text"],
)  # fmt: skip
async def test_handshakes_that_fail_or_never_end_hold_no_seat(tmp_path: Path, sent: bytes) -> None:
    """A prober that speaks clear text to a port with TLS does not use it up, nor does silence."""
    authority = Authority(tmp_path)
    tls = server_context(authority.issue("localhost"))
    trusting = ssl.create_default_context(cafile=str(authority.ca))
    async with admin(tmp_path, most=4, tls=tls) as (site, port):
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        for _, writer in opened:
            writer.write(sent)

        assert 200 == await ask(port, request("GET /healthz"), trusting)
        assert 4 >= len(site)
        for _, writer in opened:
            writer.close()
        await until(lambda: not len(site))


HALF_BODIES = (
    b"Content-Length: 60000\r\n\r\n{",
    b"Content-Length: 9000000\r\n\r\n{",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\n{    \r\n",
    b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
)


@pytest.mark.parametrize("line", [ADD, "GET /healthz", "DELETE /api/v1/overrides/x"])
async def test_bodies_that_never_come_hold_no_seat(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str
) -> None:
    """Nor do those that are cut; nothing is logged of either."""
    async with admin(tmp_path, most=4) as (site, port):
        opened = []
        for body in HALF_BODIES * 5:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request(line, GOOD + JSON)[:-2] + body)
            opened.append((reader, writer))

        assert 200 == await ask(port, request("GET /healthz"))
        assert 4 >= len(site)
        for _, writer in opened:
            writer.close()
        await until(lambda: not len(site))
    # What is no HTTP is left out of the log where it is set up; see `runtime.log`.
    errors = [each.exc_info[0].__module__ for each in caplog.records if each.exc_info]
    assert {"aiohttp.http_exceptions"} >= set(errors)
    assert len(errors) == len(caplog.records)


async def test_a_body_that_is_too_long_or_too_late_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its connection closed."""
    monkeypatch.setattr(protection, "REQUEST_WITHIN", 1.0)
    async with admin(tmp_path) as (_, port):
        long = request(ADD, GOOD + JSON, b" " * 70_000)
        late = request(ADD, GOOD + JSON)[:-2] + HALF_BODIES[0]
        assert [413, 408] == [await ask(port, each) for each in (long, late)]


async def not_reading(port: int) -> socket.socket:
    """Ask for more than the system keeps of an answer, and read nothing."""
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", port))
    await loop.sock_sendall(client, request("GET /api/v1/history", GOOD) * 500)
    return client


async def test_clients_that_do_not_read_make_room(tmp_path: Path) -> None:
    """They hold all seats, with answers under way, until someone else asks."""
    async with admin(tmp_path, most=4) as (site, port):
        clients = [await not_reading(port) for _ in range(8)]
        for _ in range(10):
            assert 200 == await ask(port, request("GET /healthz"))
            assert 4 >= len(site)
        for client in clients:
            client.close()


async def test_what_clients_do_not_read_is_bounded_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first that stopped reading is closed for the last one's answer."""
    monkeypatch.setattr(port_module, "MAX_UNREAD", 300_000)
    async with admin(tmp_path) as (site, port):
        clients = [await not_reading(port) for _ in range(12)]
        await until(lambda: len(site) <= 6)
        assert 200 == await ask(port, request("GET /healthz"))
        for client in clients:
            client.close()


async def test_a_client_that_stops_reading_is_closed_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that goes on slowly is not."""
    monkeypatch.setattr(port_module, "STALLED", 0.3)
    async with admin(tmp_path) as (site, port):
        client = await not_reading(port)
        await until(lambda: not len(site))
        client.close()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200), ("?since=24h&service=chat&from=north", 200), ("?at=1700000000.5", 200),
        ("?since=25h", 400), ("?since=0s", 400), ("?since=soon", 400), ("?at=nan", 400),
        ("?at=noon", 400),
    ],
)  # fmt: skip
async def test_the_history_is_asked_for_by_span_or_moment(
    tmp_path: Path, query: str, status: int
) -> None:
    """What is no span within a day is answered with what would be."""
    async with admin(tmp_path) as (_, port):
        assert status == await ask(port, request(f"GET /api/v1/history{query}", GOOD))


async def test_documents_and_events_are_compressed_for_those_that_accept_it(
    tmp_path: Path,
) -> None:
    """A large fleet's overview is ten times smaller on the wire, event by event."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept-Encoding": "gzip"}
    async with admin(tmp_path) as (_, port), aiohttp.ClientSession(headers=headers) as session:
        async with session.get(f"http://127.0.0.1:{port}/api/v1/history") as answer:
            document = await answer.json()
            assert "gzip" == answer.headers["Content-Encoding"]
            assert int(answer.headers["Content-Length"]) < 1000
        async with session.get(f"http://127.0.0.1:{port}/api/v1/events?kinds=config") as stream:
            first = await asyncio.wait_for(stream.content.readline(), 60)
            assert "gzip" == stream.headers["Content-Encoding"]

    assert 5000 == len(document["at"])
    assert b"event: config\n" == first
