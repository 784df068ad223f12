"""The load client: many xDS streams, each on a connection of its own, as lean as Python can.

It writes HTTP/2 frames and protobuf fields by hand and looks at nothing but version, type and
nonce, so that on a machine shared with the server it takes little of what it measures.
Knows nothing of the server under test but its address; speaks to any xDS server.
Instants are those of ``time.monotonic``, which all processes of a machine share on Linux.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import ssl
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Self, cast

from controlplane.resources.wire_format import field as proto_field
from controlplane.resources.wire_format import varint

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW = 1 << 30
_CREDIT = 1 << 28
"""Bytes taken before the server is given new credit: seldom, as it costs it a frame to read."""
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    length = len(payload)
    return struct.pack(">BHBBI", length >> 16, length & 0xFFFF, kind, flags, stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """Write a header that no table remembers (RFC 7541, section 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _message(content: bytes) -> bytes:
    body = b"\0" + len(content).to_bytes(4, "big") + content
    limit = 1 << 14
    return b"".join(
        _frame(_DATA, 0, 1, body[start : start + limit]) for start in range(0, len(body), limit)
    )


def _opening(*, delta: bool) -> bytes:
    path = ADS + ("Delta" if delta else "Stream") + "AggregatedResources"
    headers = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"bench"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
    return b"".join(
        (
            _PREFACE,
            _frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, _WINDOW)),
            _frame(_WINDOW_UPDATE, 0, 0, _WINDOW.to_bytes(4, "big")),
            _frame(_HEADERS, 4, 1, b"".join(_literal(*header) for header in headers)),
        )
    )


_OPENINGS = (_opening(delta=False), _opening(delta=True))


@dataclass(frozen=True, slots=True)
class Received:
    """What the load client reads of a response."""

    type_url: str
    version: str
    nonce: bytes
    size: int


def read_response(body: bytes | bytearray, at: int = 0, end: int | None = None) -> Received:
    """Walk over a ``DiscoveryResponse`` of either mode without looking into its resources.

    It stands in *body* from *at* to *end*; nothing of it is copied but what is given.
    """
    found: dict[int, bytes] = {}
    start, end = at, len(body) if end is None else end
    while at < end and len(found) < 3:
        key = body[at]
        at += 1
        length = shift = 0
        while True:
            byte = body[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if key & 7 == 2:
            if key >> 3 in {1, 4, 5}:
                found[key >> 3] = bytes(body[at : at + length])
            at += length
    return Received(
        found.get(4, b"").decode(), found.get(1, b"").decode(), found.get(5, b""), end - start
    )


class LoadStream(asyncio.Protocol):
    """One aggregated stream on a connection of its own; acknowledges what it gets.

    Attributes:
        versions: type URL -> version it last acknowledged.
        closed: whether the connection is lost.
        parting: what the server said when it ended it.
    """

    def __init__(
        self,
        node_id: str,
        wants: Mapping[str, Sequence[str]],
        *,
        site: str = "",
        delta: bool = False,
        on_response: Callable[[LoadStream, Received], None] = lambda _stream, _received: None,
    ) -> None:
        self.node_id = node_id
        self.versions: dict[str, str] = {}
        self.closed = False
        self.parting = ""
        self.refuse_next = False
        self.site = site
        self.delta = self._delta = delta
        self._wants = dict(wants)
        self._on_response = on_response
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._inbox = bytearray()
        self._uncredited = 0
        self._answers = {
            # State of the world repeats the names; delta says differences only.
            type_url: proto_field(2, type_url.encode())
            if delta
            else b"".join(proto_field(3, name.encode()) for name in names)
            + proto_field(4, type_url.encode())
            for type_url, names in wants.items()
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the stream and subscribe."""
        self._transport = cast("asyncio.Transport", transport)
        site = proto_field(1, b"site") + proto_field(2, proto_field(3, self.site.encode()))
        metadata = proto_field(3, proto_field(1, site)) if self.site else b""
        node = proto_field(1, self.node_id.encode()) + metadata
        parts = [_OPENINGS[self._delta]]
        for type_url, names in self._wants.items():
            asked = b"".join(proto_field(3, name.encode()) for name in names)
            kind = proto_field(2 if self._delta else 4, type_url.encode())
            parts.append(_message(proto_field(1 if self._delta else 2, node) + asked + kind))
            node = b""
        self._transport.write(b"".join(parts))

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember that it is over."""
        del exc
        self.closed = True

    def stall(self) -> None:
        """Read no more until `go_on`."""
        if self._transport is not None and not self.closed:
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()

    def close(self) -> None:
        """End the connection rudely."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Act on every whole frame."""
        if self._rest:
            data = self._rest + data
        view = memoryview(data)
        at, size = 0, len(data)
        while size - at >= 9:
            start = at + 9
            end = start + int.from_bytes(data[at : at + 3], "big")
            if end > size:
                break
            kind = data[at + 3]
            if kind == _DATA:
                self._take(view[start:end])
            elif kind != _HEADERS:
                self._control(kind, data[at + 4], data[start:end])
            at = end
        self._rest = data[at:]

    def _control(self, kind: int, flags: int, payload: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        if kind == _SETTINGS and not flags & 1:
            transport.write(_frame(_SETTINGS, 1, 0, b""))
        elif kind == _PING and not flags & 1:
            transport.write(_frame(_PING, 1, 0, payload))
        elif kind in {_GOAWAY, _RESET}:
            self.parting = payload[8:].decode(errors="replace") if kind == _GOAWAY else ""
            transport.close()

    def _take(self, payload: memoryview) -> None:
        inbox = self._inbox
        inbox += payload
        self._uncredited += len(payload)
        transport = self._transport
        if self._uncredited > _CREDIT and transport is not None:
            credit = self._uncredited.to_bytes(4, "big")
            transport.write(
                _frame(_WINDOW_UPDATE, 0, 0, credit) + _frame(_WINDOW_UPDATE, 0, 1, credit)
            )
            self._uncredited = 0
        while len(inbox) >= 5:
            end = 5 + int.from_bytes(inbox[1:5], "big")
            if len(inbox) < end:
                return
            received = read_response(inbox, 5, end)
            del inbox[:end]
            self._answer(received)

    def _answer(self, received: Received) -> None:
        type_url = received.type_url
        answer = self._answers[type_url]
        nonce = b"".join(
            ((b"\x32" if self._delta else b"\x2a"), varint(len(received.nonce)), received.nonce)
        )
        refused = b""
        if self.refuse_next:
            self.refuse_next = False
            refused = proto_field(
                7 if self._delta else 6, b"\x08\x03" + proto_field(2, b"refused at random")
            )
        else:
            self.versions[type_url] = received.version
        version = b""
        if not self._delta and (held := self.versions.get(type_url)):
            version = proto_field(1, held.encode())
        if self._transport is not None:
            self._transport.write(_message(version + answer + nonce + refused))
        self._on_response(self, received)


async def connect(
    address: tuple[str, int], stream: LoadStream, tls: ssl.SSLContext | None = None
) -> LoadStream:
    """Connect *stream*."""
    await asyncio.get_running_loop().create_connection(
        lambda: stream, *address, ssl=tls, server_hostname="localhost" if tls is not None else None
    )
    return stream


@dataclass(slots=True)
class Tally:
    """What one process, or all of them, received since the last look."""

    arrivals: dict[str, list[float]] = field(default_factory=dict)
    """Version -> instants at which streams got it."""
    received: int = 0
    cpu: float = 0.0
    """Seconds of processor time that the clients took."""
    closed: int = 0
    """Streams that the server ended, ever."""

    def add(self, other: Tally) -> None:
        """Add another process's."""
        for version, instants in other.arrivals.items():
            self.arrivals.setdefault(version, []).extend(instants)
        self.received += other.received
        self.cpu += other.cpu
        self.closed += other.closed


@dataclass(frozen=True, slots=True)
class Load:
    """What one process of the load client does."""

    address: tuple[str, int]
    streams: range
    wants: Mapping[str, Sequence[str]]
    delta: bool = False
    site: str = ""
    storm: int = 100
    """Connections opened at once."""
    tls: tuple[str, str, str] | None = None
    """Files of the authority, the certificate and its key; None speaks clear text."""

    def context(self) -> ssl.SSLContext | None:
        """Return what the connections trust and show."""
        if self.tls is None:
            return None
        ca, cert, key = self.tls
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(cert, key)
        context.set_alpn_protocols(["h2"])
        return context


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _run(load: Load, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    tally, asked = Tally(), asyncio.Event()
    served: set[str] = set()
    cpu_before = _cpu()

    def on_response(stream: LoadStream, received: Received) -> None:
        tally.received += 1
        tally.arrivals.setdefault(received.version, []).append(time.monotonic())
        served.add(stream.node_id)
        if len(served) == len(load.streams):
            asked.set()

    streams = [
        LoadStream(
            f"bench-{number}", load.wants, site=load.site, delta=load.delta, on_response=on_response
        )
        for number in load.streams
    ]
    tls = load.context()
    for start in range(0, len(streams), load.storm):
        await asyncio.gather(
            *(connect(load.address, stream, tls) for stream in streams[start : start + load.storm])
        )
    await asked.wait()
    pipe.send(time.monotonic())
    over = asyncio.Event()

    def look() -> None:
        nonlocal tally, cpu_before
        try:
            pipe.recv()
        except EOFError:
            over.set()
            return
        cpu = _cpu()
        tally.cpu, cpu_before = cpu - cpu_before, cpu
        tally.closed = sum(stream.closed for stream in streams)
        pipe.send(tally)
        tally = Tally()

    loop.add_reader(pipe.fileno(), look)
    await over.wait()


def _main(load: Load, pipe: Connection) -> None:
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(load, pipe))
    os._exit(0)


class StreamFleet:
    """Streams spread over processes; a context manager that ends them.

    Args:
        address: of the server.
        count: streams.
        wants: type URL -> names each of them subscribes to.
        delta: the incremental protocol, else state of the world.
        site: that they say they are at.
        workers: processes; with two cores, two are enough not to be the bottleneck.
        tls: see `Load.tls`.

    Attributes:
        connected: seconds until every stream had its first response.
    """

    def __init__(
        self,
        address: tuple[str, int],
        count: int,
        wants: Mapping[str, Sequence[str]],
        *,
        delta: bool = False,
        site: str = "",
        workers: int = 2,
        tls: tuple[str, str, str] | None = None,
    ) -> None:
        share = -(-count // workers)
        self._loads = [
            Load(address, range(start, min(count, start + share)), wants, delta, site, tls=tls)
            for start in range(0, count, share)
        ]
        self._pipes: list[Any] = []
        self._children: list[Any] = []
        self.connected = 0.0

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("fork")
        began = time.monotonic()
        for load in self._loads:
            ours, theirs = context.Pipe()
            child = context.Process(target=_main, args=(load, theirs), daemon=True)
            child.start()
            theirs.close()
            self._pipes.append(ours)
            self._children.append(child)
        self.connected = max(pipe.recv() for pipe in self._pipes) - began
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.kill()
            child.join()
        for pipe in self._pipes:
            pipe.close()

    def take(self) -> Tally:
        """Return what arrived since the last call."""
        total = Tally()
        for pipe in self._pipes:
            pipe.send(None)
        for pipe in self._pipes:
            total.add(pipe.recv())
        return total

    def wait_for(self, version: str, count: int, *, within: float = 60.0) -> Tally:
        """Wait until *count* streams got *version*; give all that arrived meanwhile.

        Raises:
            TimeoutError: they did not.
        """
        total = self.take()
        ends = time.monotonic() + within
        while len(total.arrivals.get(version, ())) < count:
            if time.monotonic() > ends:
                got = len(total.arrivals.get(version, ()))
                raise TimeoutError(f"{got} of {count} streams got version {version}")
            time.sleep(0.05)
            total.add(self.take())
        return total
