"""The port on which replicas ask each other holds out against who is none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from aiohttp import web

from controlplane.admin_api import protection
from controlplane.admin_api.port import AdminSite
from controlplane.admin_api.protection import count_answers
from controlplane.bus import peers
from controlplane.bus.peer_messages import Answer, PeerError, Question
from controlplane.bus.peers import PATH, PeerClient, make_peer_application

KEY = "a key of sixteen characters"
QUESTION = Question("a", "b", 1, "", -1, "{}")
ANSWER = Answer("v1", "", 1, "{}")
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: a\r\n".encode()


@contextlib.asynccontextmanager
async def port(
    *,
    answer: Callable[[Question], Answer | None] = lambda _: ANSWER,
    most: int = 4,
    within: float = 10.0,
) -> AsyncIterator[AdminSite]:
    """Serve the port as `controlplane.app.serving` does."""
    application = make_peer_application(answer, key=lambda: KEY, middlewares=[count_answers])
    runner = web.AppRunner(application, access_log=None, auto_decompress=False, lingering_time=0.1)
    await runner.setup()
    site = AdminSite(runner, "127.0.0.1", 0, most=most, request_within=within)
    await site.start()
    try:
        yield site
    finally:
        await runner.cleanup()


async def ask(site: AdminSite) -> Answer:
    """Ask as a replica does."""
    async with aiohttp.ClientSession() as session:
        return await PeerClient(session, key=lambda: KEY).ask(
            f"127.0.0.1:{site.bound_port}", QUESTION
        )


async def send(
    site: AdminSite, content: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection and send *content*."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.bound_port)
    writer.write(content)
    return reader, writer


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(HEAD[:20], id="half a head"),
        pytest.param(HEAD + b"Content-Length: 1000000\r\n\r\n{", id="a byte of a body"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc", id="half a chunk"),
    ],
)
async def test_what_never_comes_holds_no_seat(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica is answered however many wait, and each that waits is ended in time."""
    monkeypatch.setattr(protection, "REQUEST_WITHIN", 1.0)
    async with port(within=1.0) as site:
        opened = [await send(site, content) for _ in range(12)]

        assert ANSWER == await ask(site)
        assert site._most >= len(site)
        for reader, writer in opened:
            async with asyncio.timeout(60):
                with contextlib.suppress(ConnectionError):
                    read = await reader.read()
                    assert read == b"" or read.startswith(b"HTTP/1.1 408 ")
            writer.close()


async def test_a_question_beyond_the_bound_is_refused_before_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is anyone's until it is whole, so it costs little."""
    monkeypatch.setattr(peers, "MAX_QUESTION", 1000)
    async with port() as site:
        reader, writer = await send(site, HEAD + b"Content-Length: 100000\r\n\r\n" + b" " * 2000)
        async with asyncio.timeout(60):
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        writer.close()


async def test_what_is_no_question_is_no_failure_of_this_replica(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A body that says it is compressed is taken as it is, and one that breaks off is dropped."""
    with caplog.at_level(logging.WARNING):
        async with port() as site:
            zipped = HEAD + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"
            reader, writer = await send(site, zipped)
            assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
            writer.close()
            _, broken = await send(site, HEAD + b"Content-Length: 50\r\n\r\nhalf")
            broken.transport.abort()
            assert ANSWER == await ask(site)

    assert [] == caplog.records


async def test_a_replica_that_does_not_lead_says_so() -> None:
    """The asker looks for another leader."""
    async with port(answer=lambda _: None) as site:
        with pytest.raises(PeerError, match="409"):
            await ask(site)
