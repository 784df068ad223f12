"""Bounds on the streams by which Envoys send what they observe."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from controlplane.errors import IdentityError
from controlplane.grpc_transport.calls import Conversation
from controlplane.grpc_transport.status import CallError, StatusCode
from controlplane.runtime.client_log import ClientLog
from controlplane.runtime.throttle import TokenBucket


@dataclass(frozen=True, slots=True)
class ObservationSettings:
    """Bounds on what Envoys may send."""

    max_message: int = 4_000_000
    """Bytes of one message; a pair of service and instance takes some 500."""
    max_streams: int = 20_000
    """Of both services together."""
    streams_per_connection: int = 4
    """An Envoy opens one of each kind, and a second one while the first is closing."""
    messages_rate: float = 20.0
    """Messages a second of one stream; a faster sender is held back by not being read."""
    messages_burst: float = 40.0
    load_report_period: float = 10.0
    """Seconds between load reports; each repeats the node, some 60 kB."""


class ObservationStreams:
    """The open streams of both services.

    Attributes:
        settings: bounds.
        count: streams that are open.
    """

    def __init__(
        self,
        settings: ObservationSettings,
        *,
        on_refused: Callable[[str], None],
        log: ClientLog,
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.count = 0
        self._on_refused = on_refused
        self._log = log
        self._clock = clock
        self._connections: Counter[str] = Counter()

    async def guard(
        self,
        call: Conversation,
        serve: Callable[[Conversation], Awaitable[None]],
    ) -> None:
        """Run *serve* for a stream that is admitted, and count it meanwhile.

        Raises:
            CallError: it is not, or *serve* refuses what comes.
        """
        connection = call.call.peer
        try:
            self._admit(connection)
            self._connections[connection] += 1
            self.count += 1
            try:
                await serve(call)
            finally:
                self.count -= 1
                self._connections[connection] -= 1
                if not self._connections[connection]:
                    del self._connections[connection]
        except CallError as refusal:
            self._on_refused(refusal.text)
            self._log.warning(
                "telemetry stream rejected",
                call.call.host,
                peer=connection,
                reason=refusal.text,
                remedy="use the bootstrap that cats bootstrap prints; one Envoy needs one stream",
            )
            raise
        except IdentityError as error:
            raise CallError(StatusCode.PERMISSION_DENIED, str(error)) from error

    def _admit(self, connection: str) -> None:
        if self.count >= self.settings.max_streams:
            raise CallError(StatusCode.RESOURCE_EXHAUSTED, "too many telemetry streams")
        if self._connections[connection] >= self.settings.streams_per_connection:
            raise CallError(StatusCode.RESOURCE_EXHAUSTED, "too many streams on one connection")

    def bucket(self) -> TokenBucket:
        """Return what a stream's messages are taken from."""
        settings = self.settings
        return TokenBucket(
            rate=settings.messages_rate, burst=settings.messages_burst, now=self._clock()
        )

    async def next(self, call: Conversation, bucket: TokenBucket) -> bytes | None:
        """Return the next message, not before the stream's rate allows; None at its end."""
        wait = bucket.reserve(now=self._clock(), patience=3600.0)
        if wait:
            await asyncio.sleep(wait)
        body = await call.read()
        if body is not None and len(body) > self.settings.max_message:
            raise CallError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"a message of {len(body)} bytes; the most is {self.settings.max_message}",
            )
        return body
