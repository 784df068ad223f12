"""What a peer may cost, in one place: sizes, rates, times, and the price of each frame.

The bounds follow the reports on HTTP/2 floods (CVE-2019-9511 to 9518,
CVE-2023-44487, CVE-2024-27316).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost; times are seconds, sizes bytes."""

    max_message: int = 4 << 20
    """Of one message from the peer; gRPC's own default."""
    max_streams: int = 100
    """Calls at once; RFC 9113 advises no fewer than 100."""
    max_header_list: int = 16 << 10
    """Of a call's headers."""
    window: int = 1 << 18
    """That the peer may send on one call before it is granted more."""
    connection_window: int = 1 << 19
    max_held: int = 6 << 20
    """Of received messages that are unfinished or unread; beyond, no more credit is granted."""
    max_unsent: int = 1 << 20
    """Of replies to control frames that may wait for a peer that does not read."""
    max_pending: int = 256
    """Pieces of messages that may wait for a peer before it may send no more."""
    control_rate: float = 100.0
    """Units a second that a peer may spend on frames without messages (see `price`)."""
    control_burst: float = 1_000.0
    send_timeout: float = 20.0
    """Without `min_progress` after which a peer that does not read, or does not finish its
    messages, is cut."""
    min_progress: int = 1_024
    """That a slow peer must take within `send_timeout` to count as alive."""
    keepalive_period: float = 30.0
    keepalive_timeout: float = 10.0
    handshake_timeout: float = 10.0
    """From accepting a connection to the peer's SETTINGS, TLS included."""
    max_age: float = 1_800.0
    """After which a client is asked to connect again, a tenth more or less."""
    max_age_grace: float = 10.0


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What all clients together may cost."""

    max_connections: int = 20_000
    max_per_address: int = 0
    """Connections of one client address; 0 sets no bound."""
    max_handshakes: int = 1_000
    """Connections that have not completed their handshake; beyond, the oldest of them is closed."""
    max_held: int = 256 << 20
    """Bytes of unfinished and unread messages; beyond, the connection that holds most is cut."""
    turn_frames: int = 64
    turn_time: float = 0.001
    """Seconds after which a connection waits for its next turn."""
    round_time: float = 0.005
    """Seconds that waiting connections get before the event loop serves others."""


class Cut(StrEnum):
    """Why this side ended a connection."""

    SLOW_READER = "client does not read"
    SLOW_SENDER = "client does not finish its messages"
    TOO_MUCH_UNSENT = "too many unread replies"
    TOO_MUCH_HELD = "holds the most while memory is short"
    NO_HANDSHAKE = "handshake not completed in time"
    TLS = "TLS handshake failed"
    SILENT = "no answer to a keepalive ping"
    PROTOCOL = "HTTP/2 protocol error"
    STOPPING = "server stopping"


DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE = range(9)
CONTINUATION = 9

_PRICES = {DATA: 0.1, HEADERS: 1.0, WINDOW_UPDATE: 0.1, SETTINGS: 2.0}


def price(kind: int, size: int, open_streams: int) -> float:
    """Return the units that a frame costs its sender; one unit is some 200 µs of our time.

    A SETTINGS frame touches every open stream, and a header block is decoded byte by byte.
    """
    units = _PRICES.get(kind, 0.5)
    if kind == SETTINGS:
        return units + 0.05 * open_streams + size / 200
    if kind == DATA:
        return units if size else 0.5
    return units + size / 4_000


class Budget:
    """Units that a peer may spend on frames without messages: a rate and a burst."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, limits: Limits, *, now: float) -> None:
        self._rate, self._burst = limits.control_rate, limits.control_burst
        self._left, self._at = self._burst, now

    def spend(self, units: float, *, now: float) -> bool:
        """Spend *units*; return whether the peer could afford them."""
        self._left = min(self._left + (now - self._at) * self._rate, self._burst) - units
        self._at = now
        return self._left >= 0


class Pool:
    """Bytes that all connections of a server hold for their peers."""

    __slots__ = ("held", "limit")

    def __init__(self, limit: int = 1 << 62) -> None:
        self.limit = limit
        self.held = 0

    @property
    def full(self) -> bool:
        """Whether no connection should be granted more."""
        return self.held > self.limit
