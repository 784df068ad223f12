"""What hostile clients of the gRPC port do to the others: attack by attack, the longest wait.

The server runs in a process of its own and measures the rounds of its event loop in processor time,
which other load on the machine does not change; an admin port is served by the same loop.
``python -m testbed.tools.transport_attacks`` prints the table of docs/threats.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import ssl
import urllib.request
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed import http2
from testbed.tools.attacked_server import Target, attacked, serve
from testbed.tools.floods import FLOODS, OPENING, WIDE, request


async def _flood(target: Target, make: Callable[[], Iterable[bytes]], *, reads: bool) -> None:
    """Attack on one connection after the other, as fast as the server takes it."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=1 << 16)
            writer.write(OPENING)
            reading = asyncio.create_task(_discard(reader)) if reads else None
            try:
                for chunk in make():
                    writer.write(chunk)
                    await writer.drain()
                    if reading is not None and reading.done():
                        break
                await asyncio.Event().wait()
            finally:
                if reading is not None:
                    reading.cancel()
                writer.transport.abort()
        await asyncio.sleep(0.005)


async def _discard(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 16):
        pass


async def _half_open(first: bytes, port: int) -> None:
    """Open connections that never complete their handshake."""
    loop = asyncio.get_running_loop()
    sockets: list[socket.socket] = []
    try:
        while True:
            one = socket.socket()
            one.setblocking(False)
            sockets.append(one)
            with contextlib.suppress(OSError):
                await loop.sock_connect(one, ("127.0.0.1", port))
                await loop.sock_sendall(one, first)
            if len(sockets) > 400:
                sockets.pop(0).close()
            await asyncio.sleep(0)
    finally:
        for one in sockets:
            one.close()


def _client_hello() -> bytes:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(to_client, to_server, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return to_server.read()


def attackers(target: Target, name: str) -> list[Awaitable[None]]:
    """Return the attackers of one attack: four connections at once."""
    if name in FLOODS:
        make, reads = FLOODS[name]
        return [_flood(target, make, reads=reads) for _ in range(4)]
    hello = _client_hello()
    first, port = {
        "half-open TLS handshakes": (hello[: len(hello) // 2], target.tls_port),
        "TLS handshakes up to the client's part": (hello, target.tls_port),
        "prefaces without more": (http2.PREFACE, target.port),
    }[name]
    return [_half_open(first, port) for _ in range(2)]


ATTACKS = (
    *FLOODS,
    "half-open TLS handshakes",
    "TLS handshakes up to the client's part",
    "prefaces without more",
)


class Victim:
    """A client like any other: one call, a message after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._received = b""
        fields = request("/test.Echo/Lag")
        writer.write(OPENING + WIDE + http2.headers(1, fields, flags=http2.END_HEADERS))

    async def ask(self) -> float:
        """Ask for the longest round since the last question, in seconds of processor time."""
        self._writer.write(http2.data(1, http2.message(b"")))
        while True:
            for each in http2.read_frames(self._received):
                if each.kind == http2.DATA:
                    self._received = b""
                    return int(each.payload[5:]) / 1e6
            received = await self._reader.read(1 << 16)
            if not received:
                raise ConnectionError(f"the victim was cut off: {self._received!r}")
            self._received += received

    def close(self) -> None:
        """End the call and the connection."""
        self._writer.transport.abort()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attack did."""

    attack: str
    longest_wait: float
    """Seconds of the server's processor time that another client waits at most: two rounds."""
    admin_wait: float
    """The same until the admin port has answered on a connection of its own."""
    memory: float
    """Megabytes that the server grew by at most, for all attackers together."""
    log_lines: int


async def attack(target: Target, name: str, *, rounds: int) -> Outcome:
    """Let a victim ask *rounds* times while an attack goes on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    victim = Victim(reader, writer)
    await victim.ask()
    before, lines = target.memory(), len(target.log.read_bytes().splitlines())
    tasks = [asyncio.ensure_future(each) for each in attackers(target, name)]
    longest = admin = grown = 0.0
    try:
        for _ in range(rounds):
            await asyncio.sleep(0.01)
            async with asyncio.timeout(60):
                longest = max(longest, 2 * await victim.ask())
                admin = max(admin, await asyncio.to_thread(_ask_admin, target))
            grown = max(grown, target.memory() - before)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        victim.close()
    logged = len(target.log.read_bytes().splitlines()) - lines
    return Outcome(name, longest, admin, grown, logged)


def _ask_admin(target: Target) -> float:
    """Return the seconds of the server's processor time until its admin port has answered."""
    before, url = target.spent(), f"http://127.0.0.1:{target.admin_port}/healthz"
    with urllib.request.urlopen(url, timeout=60) as answer:
        answer.read()
    return target.spent() - before


async def _print_table(names: Sequence[str], rounds: int) -> None:
    print("| attack | longest wait of another client | of the admin port's | memory | log lines |")
    print("|---|---|---|---|---|")
    for name in names or ATTACKS:
        async with attacked() as target:
            outcome = await attack(target, name, rounds=rounds)
        waits = (f"{1000 * each:.1f} ms" for each in (outcome.longest_wait, outcome.admin_wait))
        grown = f"{outcome.memory:.1f} MB"
        print(f"| {name} | {' | '.join(waits)} | {grown} | {outcome.log_lines} |", flush=True)


def main() -> None:
    """Serve, or attack."""
    parser = argparse.ArgumentParser(prog="python -m testbed.tools.transport_attacks")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help="attacks; by default all")
    parser.add_argument("--rounds", type=int, default=300, help="answers that the victim asks for")
    given = parser.parse_args()
    asyncio.run(
        _print_table(given.names, given.rounds) if given.serve is None else serve(given.serve)
    )


if __name__ == "__main__":
    main()
