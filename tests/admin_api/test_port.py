"""The admin port is bounded, and takes what clients send for what it is."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from controlplane.admin_api.port import AdminSite
from controlplane.admin_api.routes import build_admin
from controlplane.auth.admin_tokens import Login, TokenFile
from testbed.fakes.admin_documents import FakeDocuments

TOKEN = "0123456789abcdef"
GOOD = f"Authorization: Bearer {TOKEN}\r\n".encode()


@contextlib.asynccontextmanager
async def admin(
    tmp_path: Path, *, most: int = 256, request_within: float = 10.0
) -> AsyncIterator[tuple[AdminSite, int]]:
    """Serve an admin port that asks for a token; give it with its port number."""
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    login = Login(TokenFile(tokens), certificates=False)
    runner = web.AppRunner(
        build_admin(FakeDocuments(), host="127.0.0.1", login=login), auto_decompress=False
    )
    await runner.setup()
    site = AdminSite(runner, "127.0.0.1", 0, most=most, request_within=request_within)
    await site.start()
    try:
        yield site, runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def ask(port: int, request: bytes) -> int:
    """Send *request* as it is; return the status of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return int((await asyncio.wait_for(reader.readline(), 20)).split()[1])
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
            assert b"" == await asyncio.wait_for(reader.read(), 20)
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
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]

        assert 200 == await ask(port, request("GET /healthz"))
        assert not reader.at_eof()
        for _, other in opened:
            other.close()
        writer.close()


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
            first = await asyncio.wait_for(stream.content.readline(), 20)
            assert "gzip" == stream.headers["Content-Encoding"]

    assert 5000 == len(document["at"])
    assert b"event: config\n" == first
