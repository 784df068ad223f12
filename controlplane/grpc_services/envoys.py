"""Who is connected, what each was sent, took and refused.

Feeds the API, the count of clients per site and the metrics.
Texts and the number of remembered clients are bounded: a client names itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from controlplane.grpc_services.requests import Node
from controlplane.xds.stream import XdsStream
from controlplane.xds.types import Acked, Event, Nacked, Response

MAX_GONE = 1_000
"""Clients remembered after they left, the longest gone forgotten first."""

MAX_ID = 256
"""Characters kept of an id and of a claimed site."""


class XdsEventKind(StrEnum):
    """What an `XdsEvent` says."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    REFUSED_STREAM = "refused_stream"
    UNKNOWN_SITE = "unknown_site"
    SENT = "sent"
    ACKED = "acked"
    NACKED = "nacked"
    STALE = "stale"
    SEND_TIMEOUT = "send_timeout"
    PROTOCOL_ERROR = "protocol_error"
    BUG = "bug"


class XdsEvent(NamedTuple):
    """One thing that happened on a stream, for metrics and logs."""

    what: XdsEventKind
    envoy: str = ""
    site: str = ""
    delta: bool = False
    type_url: str = ""
    version: str = ""
    size: int = 0
    """Bytes sent."""
    latency: float | None = None
    """Seconds from sending to the client's answer."""
    text: str = ""
    """Reason of a refusal or of an end; the client's name and version where it connects."""
    role: str = ""
    """Of the client, where it connects."""


Observe = Callable[[XdsEvent], None]


@dataclass(slots=True)
class TypeRecord:
    """What one client was sent of one type, and what it answered. Times are monotonic seconds."""

    sent: str = ""
    sent_at: float | None = None
    acked: str = ""
    acked_at: float | None = None
    ack_latency: float | None = None
    """Seconds from sending to the last acknowledgement."""
    refused: str = ""
    """Version last refused; cleared when a response is taken."""
    refused_at: float | None = None
    refusal: str = ""
    pushes: int = 0
    nacks: int = 0


@dataclass(slots=True)
class EnvoyRecord:
    """One client."""

    id: str
    site: str
    mode: str
    """``sotw`` or ``delta``."""
    agent: str
    connected_at: float
    known_site: bool = True
    role: str = ""
    """``grpc`` for a gRPC client without an Envoy."""
    variant: str = ""
    """Of its site's views, that which it gets; empty for the one that most clients there get."""
    streams: int = 0
    gone_at: float | None = None
    """When its last stream ended; None while one is open."""
    types: dict[str, TypeRecord] = field(default_factory=dict)
    open_streams: list[XdsStream] = field(default_factory=list, repr=False)
    """What each of its streams holds."""

    @property
    def connected(self) -> bool:
        """Return whether a stream is open."""
        return self.streams > 0


class StreamRecord:
    """Accounts for one stream; made by `EnvoyRegistry.connect`."""

    __slots__ = ("_delta", "_envoy", "_observe", "_sent_at", "_stream")

    def __init__(
        self,
        envoy: EnvoyRecord,
        *,
        delta: bool,
        observe: Observe | None,
        stream: XdsStream | None = None,
    ) -> None:
        self._envoy = envoy
        self._stream = stream
        if stream is not None:
            envoy.open_streams.append(stream)
        self._delta = delta
        self._observe = observe
        self._sent_at: dict[str, float] = {}

    @property
    def envoy(self) -> EnvoyRecord:
        """Return the client of the stream."""
        return self._envoy

    def close(self) -> None:
        """Count the stream as ended."""
        self._envoy.streams -= 1
        if self._stream is not None:
            self._envoy.open_streams.remove(self._stream)

    def sent(self, response: Response, *, size: int, now: float) -> None:
        """Account for a response of *size* bytes."""
        record = self._envoy.types.get(response.type_url)
        if record is None:
            record = self._envoy.types[response.type_url] = TypeRecord()
        record.sent = response.push.version
        record.sent_at = now
        record.pushes += 1
        self._sent_at[response.nonce] = now
        if self._observe is not None:
            self._publish(XdsEventKind.SENT, response.type_url, response.push.version, size=size)

    def answered(self, event: Event, *, now: float) -> None:
        """Account for what a client said of a response."""
        if not isinstance(event, Acked | Nacked):
            self._publish(XdsEventKind.STALE, event.type_url)
            return
        record = self._envoy.types[event.type_url]
        sent_at = self._sent_at.pop(event.nonce, None)
        latency = None if sent_at is None else now - sent_at
        if isinstance(event, Acked):
            record.acked, record.acked_at, record.ack_latency = event.version, now, latency
            record.refused, record.refusal, record.refused_at = "", "", None
            self._publish(XdsEventKind.ACKED, event.type_url, event.version, latency=latency)
            return
        record.refused, record.refused_at = event.version, now
        record.refusal = event.rejection.message
        record.nacks += 1
        self._publish(
            XdsEventKind.NACKED, event.type_url, event.version, latency=latency, text=record.refusal
        )

    def _publish(
        self,
        what: XdsEventKind,
        type_url: str,
        version: str = "",
        *,
        size: int = 0,
        latency: float | None = None,
        text: str = "",
    ) -> None:
        if self._observe is not None:
            envoy = self._envoy
            self._observe(
                XdsEvent(
                    what, envoy.id, envoy.site, self._delta, type_url, version, size, latency, text
                )
            )


class EnvoyRegistry:
    """All clients, connected and lately gone. For one event loop."""

    def __init__(self, observe: Observe | None = None) -> None:
        self._observe = observe
        self._envoys: dict[str, EnvoyRecord] = {}
        self._clients: dict[str, int] = {}
        self._gone = 0

    def observe(self, event: XdsEvent) -> None:
        """Report the observer."""
        if self._observe is not None:
            self._observe(event)

    def connect(
        self,
        node: Node,
        *,
        site: str,
        known_site: bool,
        delta: bool,
        now: float,
        stream: XdsStream | None = None,
    ) -> StreamRecord:
        """Account for a new stream; a client that comes back keeps what it is known to hold."""
        key = node.id[:MAX_ID]
        envoy = self._envoys.pop(key, None)
        if envoy is None:
            envoy = EnvoyRecord(key, site, "", node.agent[:MAX_ID], now)
        elif not envoy.connected:
            self._gone -= 1
            envoy.connected_at = now
        else:
            self._count(envoy.site, -1)
        self._envoys[key] = envoy
        envoy.site = site[:MAX_ID]
        envoy.known_site = known_site
        envoy.role = node.role
        envoy.mode = "delta" if delta else "sotw"
        envoy.gone_at = None
        envoy.streams += 1
        self._count(envoy.site, 1)
        record = StreamRecord(envoy, delta=delta, observe=self._observe, stream=stream)
        self.observe(
            XdsEvent(
                XdsEventKind.CONNECTED,
                envoy.id,
                envoy.site,
                delta,
                text=envoy.agent,
                role=envoy.role,
            )
        )
        return record

    def disconnect(self, stream: StreamRecord, *, now: float) -> None:
        """Account for the end of a stream."""
        envoy = stream.envoy
        stream.close()
        if not envoy.streams:
            self._count(envoy.site, -1)
            envoy.gone_at = now
            self._gone += 1
            self._envoys[envoy.id] = self._envoys.pop(envoy.id)
            self._forget_oldest()
        self.observe(
            XdsEvent(XdsEventKind.DISCONNECTED, envoy.id, envoy.site, envoy.mode == "delta")
        )

    @property
    def envoys(self) -> Iterable[EnvoyRecord]:
        """Return all clients; those that left are marked by `EnvoyRecord.connected`."""
        return self._envoys.values()

    @property
    def clients(self) -> Mapping[str, int]:
        """Return the number of connected clients by site."""
        return self._clients

    def _count(self, site: str, change: int) -> None:
        count = self._clients.get(site, 0) + change
        if count:
            self._clients[site] = count
        else:
            self._clients.pop(site, None)

    def _forget_oldest(self) -> None:
        if self._gone <= MAX_GONE:
            return
        oldest = next(envoy for envoy in self._envoys.values() if not envoy.connected)
        del self._envoys[oldest.id]
        self._gone -= 1
