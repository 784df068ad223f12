"""Accepting pauses where there is no room or no open file, and goes on by itself."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from controlplane.runtime import acceptor as acceptor_module
from controlplane.runtime.acceptor import Acceptor


@asynccontextmanager
async def accepting(
    has_room: Callable[[], bool] = lambda: True,
) -> AsyncIterator[tuple[int, list[str], list[str]]]:
    """Accept on a free port; yield it, the hosts that were accepted, and the reasons to pause."""
    hosts, reasons = list[str](), list[str]()

    def take(accepted: socket.socket, host: str, _tls: object) -> None:
        hosts.append(host)
        accepted.close()

    acceptor = Acceptor(take, has_room=has_room, on_exhausted=reasons.append)
    port = await acceptor.listen("127.0.0.1", 0)
    try:
        async with asyncio.timeout(60):
            yield port, hosts, reasons
    finally:
        acceptor.close()


async def connect(port: int) -> None:
    """Connect, and wait until the other side has closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.read()
    writer.close()


async def test_every_connection_is_handed_over() -> None:
    """More than are accepted at once, too."""
    async with accepting() as (port, hosts, reasons):
        await asyncio.gather(*(connect(port) for _ in range(40)))

    assert ["127.0.0.1"] * 40 == hosts
    assert [] == reasons


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_accepting_goes_on_after_a_pause_where_the_system_has_nothing_left(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Retrying at once would take all of the time."""
    monkeypatch.setattr(acceptor_module, "FILES_PAUSE", 0.01)
    accept, failures = socket.socket.accept, 0

    def full(self: socket.socket) -> tuple[socket.socket, Any]:
        nonlocal failures
        if failures < 3:
            failures += 1
            raise OSError(number, "nothing left")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", full)
    async with accepting() as (port, hosts, reasons):
        await connect(port)

    assert ["nothing left"] * 3 == reasons
    assert ["127.0.0.1"] == hosts


async def test_during_the_pause_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection that waits would otherwise wake the event loop again and again."""
    monkeypatch.setattr(acceptor_module, "FILES_PAUSE", 3_600.0)

    def full(_self: socket.socket) -> tuple[socket.socket, Any]:
        raise OSError(errno.EMFILE, "nothing left")

    monkeypatch.setattr(socket.socket, "accept", full)
    async with accepting() as (port, _, reasons):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        while not reasons:  # noqa: ASYNC110 -- it happens in the acceptor
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        writer.close()

    assert ["nothing left"] == reasons


async def test_who_finds_no_room_waits_for_it() -> None:
    """Nothing is refused meanwhile."""
    looks = iter([False, False])
    async with accepting(lambda: next(looks, True)) as (port, hosts, _):
        await connect(port)

    assert ["127.0.0.1"] == hosts


async def test_after_closing_nothing_is_accepted() -> None:
    """A pause that ends then starts nothing again."""
    async with accepting(lambda: False) as (port, hosts, _):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0)
    await asyncio.sleep(2 * acceptor_module.ROOM_PAUSE)
    writer.transport.abort()

    assert [] == hosts
    with pytest.raises(OSError, match="127"):
        await asyncio.open_connection("127.0.0.1", port)
