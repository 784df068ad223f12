"""The agent's line to one control plane: dials out, streams batches, and dials again.

A batch is on its way until it is answered; one that is not answered is sent again over the next
stream, unless it has become too old meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from controlplane.agent.settings import ControlPlaneTarget
from controlplane.agent.survey import Item, Outbox, build_batch
from controlplane.grpc_transport.calls import Conversation
from controlplane.grpc_transport.client import Client, dialled
from controlplane.grpc_transport.status import CallError
from controlplane.runtime.files import read_file
from controlplane.runtime.tls import client_context
from controlplane.wire.cats.telemetry.v1 import telemetry_pb2 as pb

METHOD = "/cats.telemetry.v1.Telemetry/Report"
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
"""Seconds before dialling again: doubles at each failure; the actual pause is a random part."""
ANSWER_WITHIN = 10.0
"""Seconds in which a batch must be answered; a half-open connection looks like silence."""
MAX_BATCH = 2_000
"""Reports of one batch; the rest follows in the next."""
MAX_TOKEN = 16_384

log = structlog.get_logger(part="link")


class LinkError(Exception):
    """The line cannot be used as it is configured; reported and tried again."""


class Uplink:
    """Says one control plane while `run` runs.

    Args:
        target: whom.
        agent: who reports.
        keep: seconds that reports are kept while the control plane is unreachable.
        clock: of the reports' instants.
        unix_time: the wall clock.
    """

    def __init__(
        self,
        target: ControlPlaneTarget,
        agent: pb.Agent,
        *,
        keep: float,
        clock: Callable[[], float] = time.monotonic,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self.target = target
        self.connected = False
        self.sent = 0
        self.accepted = 0
        self.refused = 0
        self.failures = 0
        self._agent = agent
        self._outbox = Outbox(keep)
        self._clock = clock
        self._unix_time = unix_time
        self._work = asyncio.Event()
        self._random = random.Random()  # noqa: S311 -- spreads reconnects
        self._last_refusal = ""
        self._last_failure = ""

    @property
    def waiting(self) -> int:
        """Return the reports that wait to be sent."""
        return len(self._outbox)

    @property
    def dropped(self) -> int:
        """Return the reports that were never sent."""
        return self._outbox.dropped

    def put(self, items: Iterable[Item]) -> None:
        """Send *items* soon."""
        self._outbox.put(items, now=self._clock())
        self._work.set()

    async def run(self) -> None:
        """Stream until cancelled."""
        pause = FIRST_PAUSE
        while True:
            answered = self.accepted + self.refused
            try:
                await self._stream()
            except (CallError, OSError, LinkError) as error:
                self.failures += 1
                self._log_failure(error)
            finally:
                self.connected = False
            if self.accepted + self.refused > answered:
                pause = FIRST_PAUSE
            # Full jitter: a thousand agents that lost one control plane come back spread out.
            await asyncio.sleep(self._random.uniform(FIRST_PAUSE / 2, pause))
            pause = min(LONGEST_PAUSE, pause * 2)

    def _log_failure(self, error: BaseException) -> None:
        reason = _reason(error)
        if reason != self._last_failure:
            self._last_failure = reason
            log.warning(
                "control plane unreachable; buffering reports",
                address=self.target.address, reason=reason,
                waiting=len(self._outbox), remedy="see the reason; reports are buffered meanwhile",
            )  # fmt: skip

    async def _stream(self) -> None:
        """Send until the control plane asks us to connect again."""
        tls = self.target.tls
        async with dialled(
            self.target.address,
            tls=self._trust(),
            server_name=tls.server_name if tls is not None else None,
        ) as connection:
            call = connection.call(METHOD, self._metadata())
            watch = asyncio.create_task(self._watch(call))
            try:
                await self._send(connection, call)
            finally:
                watch.cancel()

    async def _watch(self, call: Conversation) -> None:
        """Let a line without work notice that it is cut."""
        await call.until_over()
        self._work.set()

    async def _send(self, connection: Client, call: Conversation) -> None:
        sequence = 0
        items: list[Item] = []
        try:
            while not connection.draining:
                while not len(self._outbox) and not call.is_over:
                    self._work.clear()
                    await self._work.wait()
                items = self._outbox.take()
                if len(items) > MAX_BATCH:
                    items, rest = items[:MAX_BATCH], items[MAX_BATCH:]
                    self._outbox.give_back(rest, now=self._clock())
                sequence += 1
                batch = build_batch(
                    items,
                    agent=self._agent if sequence == 1 else None,
                    sequence=sequence,
                    now=self._clock(),
                    unix_now=self._unix_time(),
                )
                async with asyncio.timeout(ANSWER_WITHIN):
                    await call.write(batch.SerializeToString())
                    answer = await call.read()
                if answer is None:
                    raise LinkError("the control plane ended the stream")
                self.sent += len(items)
                items = []
                self._take(pb.ReportStatus.FromString(answer))
        finally:
            self._outbox.give_back(items, now=self._clock())

    def _take(self, status: pb.ReportStatus) -> None:
        self.accepted += status.accepted
        self.refused += len(status.refused)
        if not self.connected:
            self.connected = True
            self._last_failure = ""
            log.info("control plane reachable", address=self.target.address)
        first = status.refused[0] if status.refused else ""
        if first != self._last_refusal:
            self._last_refusal = first
            if first:
                log.warning(
                    "reports rejected by control plane", address=self.target.address,
                    refused=list(status.refused[:5]),
                    remedy="see the reasons; check server.agents and fleet.yaml's instances",
                )  # fmt: skip

    def _trust(self) -> ssl.SSLContext | None:
        """Return whom to trust and what to show, from the files as they are now."""
        tls = self.target.tls
        if tls is None:
            return None
        try:
            return client_context(tls.ca, cert=tls.cert, key=tls.key)
        except OSError as error:
            files = ", ".join(file for file in (tls.ca, tls.cert, tls.key) if file)
            raise LinkError(f"tls: {files}: {error.strerror or error}") from error

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        if self.target.token_file is None:
            return ()
        content = read_file(Path(self.target.token_file), limit=MAX_TOKEN + 1)
        token = content.decode("ascii", "replace").strip()
        if not token or len(token) > MAX_TOKEN or not token.isprintable() or " " in token:
            raise LinkError(f"token file {self.target.token_file} holds no token of one line")
        return (("authorization", f"Bearer {token}"),)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {ANSWER_WITHIN:g} s"
    return str(error) or type(error).__name__
