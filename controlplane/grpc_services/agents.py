"""Takes agents' reports in over gRPC: ``cats.telemetry.v1.Telemetry/Report``.

Each batch is answered, so that an agent knows what was taken and why the rest was not.
Anyone who sends too much is slowed down first and cut off then.
What a batch means is `controlplane.telemetry.batches`'s business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from google.protobuf.message import DecodeError

from controlplane.auth.agent_rights import AgentGate, Scope
from controlplane.auth.identity import OPEN, IdentityCheck
from controlplane.config import Role
from controlplane.errors import IdentityError, ReportError
from controlplane.grpc_services.agent_registry import AgentRecord, AgentRegistry
from controlplane.grpc_transport.calls import Call, Conversation, Serves, conversing
from controlplane.grpc_transport.status import CallError, StatusCode
from controlplane.model import Report
from controlplane.runtime.client_log import ClientLog
from controlplane.runtime.log import Logger, get_logger
from controlplane.runtime.throttle import TokenBucket
from controlplane.runtime.turns import Turns
from controlplane.telemetry.batches import MAX_REFUSED, MAX_REPORTS, MAX_TEXT, parse_batch
from controlplane.wire.cats.telemetry.v1 import telemetry_pb2 as pb

SERVICE = "cats.telemetry.v1.Telemetry"
MAX_ID = 253
CLOCK_OFF = 5.0
"""Seconds between two wall clocks that are worth a line."""

OnReport = Callable[[Report], None]
"""Called on the event loop with each report; a `ReportError` it raises goes back to the agent."""


TURN = 200
"""Reports of all agents together that are applied before others get their turn."""
PART = 50
"""Reports of a large batch that are applied at once."""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What agents may do."""

    max_batch: int = 2**20
    """Bytes of one batch."""
    batches_rate: float = 20.0
    """Batches a second that one stream may send."""
    batches_burst: float = 100.0
    patience: float = 10.0
    """Seconds that a stream above its rate is slowed down before it is cut off."""
    max_streams: int = 5_000


class AgentService:
    """The reports' end of agents' streams.

    Args:
        on_report: called with every report; may refuse it by raising `ReportError`.
        settings: what agents may do.
        clock: the control plane's.
        unix_time: the wall clock, against which agents' are compared.
        log: where connects, refusals and faults are reported.
        identities: whom a client's certificate lets it be.
        gate: which agents may report what; None lets each report everything.
        registry: holds who is connected.
    """

    def __init__(
        self,
        on_report: OnReport,
        *,
        settings: AgentSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        unix_time: Callable[[], float] = time.time,
        log: Logger | None = None,
        identities: IdentityCheck = OPEN,
        gate: AgentGate | None = None,
        registry: AgentRegistry | None = None,
    ) -> None:
        self._gate = gate
        self._identities = identities
        self._on_report = on_report
        self._settings = settings or AgentSettings()
        self._clock = clock
        self._unix_time = unix_time
        self._log = ClientLog(get_logger(part="agents") if log is None else log, clock=clock)
        self._registry = AgentRegistry() if registry is None else registry
        self._streams = 0
        self._turns = Turns(TURN)

    @property
    def agents(self) -> tuple[AgentRecord, ...]:
        """Return the connected agents in the order they came."""
        return self._registry.agents

    def serve_on(self, server: Serves) -> None:
        """Serve on *server*, beside whatever else it serves."""
        server.add_method(f"/{SERVICE}/Report", conversing(self._report))

    async def _report(self, call: Conversation) -> None:
        if self._streams >= self._settings.max_streams:
            raise CallError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"{self._streams} agents are connected; no more are taken",
            )
        self._streams += 1
        key = id(call)
        bucket = self._bucket(self._settings.batches_rate)
        sequence = None
        try:
            while (message := await call.read()) is not None:
                received_at = self._clock()
                wait = bucket.reserve(now=received_at, patience=self._settings.patience)
                if wait is None:
                    raise CallError(
                        StatusCode.RESOURCE_EXHAUSTED,
                        f"more than {self._settings.batches_rate:g} batches a second",
                    )
                batch = self._decode(message)
                record = self._registry.get(key)
                opened = record is None
                if record is None:
                    record = self._welcome(batch, call.call)
                    self._registry.connect(key, record)
                if sequence is not None and batch.sequence > sequence + 1:
                    record.lost += batch.sequence - sequence - 1
                sequence = batch.sequence
                scope = self._scope(record)
                if opened and scope is not None:
                    bucket = self._bucket(scope.batches_rate)
                try:
                    status = await self._take(batch, record, received_at, scope)
                except ReportError as error:
                    raise CallError(StatusCode.INVALID_ARGUMENT, str(error)) from error
                await call.write(status.SerializeToString())
                if wait:
                    await asyncio.sleep(wait)
        finally:
            self._streams -= 1
            gone = self._registry.disconnect(key)
            if gone is not None:
                self._log.info(
                    "agent disconnected", gone.id, agent=gone.id, site=gone.site, lost=gone.lost
                )

    def _bucket(self, rate: float) -> TokenBucket:
        # A burst of some seconds: what an agent kept while we were away comes at once.
        burst = self._settings.batches_burst * min(1.0, rate / self._settings.batches_rate)
        return TokenBucket(rate=rate, burst=burst, now=self._clock())

    def _scope(self, record: AgentRecord) -> Scope | None:
        """Return what the agent may report under the configuration of now."""
        try:
            return None if self._gate is None else self._gate.scope(record.id, record.site)
        except IdentityError as error:
            raise CallError(StatusCode.PERMISSION_DENIED, str(error)) from error

    def _decode(self, message: bytes) -> pb.ReportBatch:
        if len(message) > self._settings.max_batch:
            raise CallError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"a batch of {len(message)} bytes; at most {self._settings.max_batch} are read",
            )
        try:
            return pb.ReportBatch.FromString(message)
        except DecodeError as error:
            text = f"not a {SERVICE} ReportBatch"
            raise CallError(StatusCode.INVALID_ARGUMENT, text) from error

    def _welcome(self, batch: pb.ReportBatch, call: Call) -> AgentRecord:
        agent = batch.agent
        if not agent.id or len(agent.id) > MAX_ID:
            raise CallError(
                StatusCode.INVALID_ARGUMENT,
                f"the first batch must carry agent.id, 1 to {MAX_ID} characters",
            )
        try:
            self._identities.check(call.names, Role.AGENT, id=agent.id, site=agent.site)
            if self._gate is not None:
                self._gate.admit(agent.id, call.metadata)
        except IdentityError as error:
            self._log_rejected(agent.id, str(error))
            raise CallError(StatusCode.PERMISSION_DENIED, str(error)) from error
        now = self._clock()
        self._log.info(
            "agent connected", agent.id, agent=agent.id, site=agent.site, version=agent.version
        )
        return AgentRecord(
            agent.id, agent.site[:MAX_ID], agent.version[:MAX_ID], call.peer, now, now
        )

    def _compare_clocks(self, message: pb.ReportBatch, record: AgentRecord) -> None:
        if not message.HasField("sent_at"):
            return
        before = abs(record.clock_offset) > CLOCK_OFF
        offset = message.sent_at.seconds + message.sent_at.nanos * 1e-9 - self._unix_time()
        record.clock_offset = offset
        if abs(offset) > CLOCK_OFF and not before:
            self._log.warning(
                "agent clock skewed", record.id, agent=record.id, seconds=round(offset, 1),
                remedy="synchronise the clocks; its reports still count",
            )  # fmt: skip

    def _log_rejected(self, agent: str, reason: str) -> None:
        self._log.warning(
            "agent rejected", agent[:MAX_ID], agent=agent[:64], reason=reason,
            remedy="see server.agents and server.identities",
        )  # fmt: skip

    async def _take(
        self,
        message: pb.ReportBatch,
        record: AgentRecord,
        received_at: float,
        scope: Scope | None = None,
    ) -> pb.ReportStatus:
        # Who a stream is for is said once; a batch cannot change it.
        message.ClearField("agent")
        parse = partial(
            parse_batch,
            message,
            received_at=received_at,
            site=record.site,
            agent=record.id,
            most=MAX_REPORTS if scope is None else scope.max_batch,
        )
        sent = len(message.instances) + len(message.paths) + len(message.sites)
        # Envoys and readiness must not wait for a large batch, nor for many small ones.
        large = sent > TURN
        if not large:
            await self._turns.take(max(1, sent))
        batch = await asyncio.to_thread(parse) if large else parse()
        refused = list(batch.refused)
        count = batch.refused_count
        accepted = 0
        for number, report in enumerate(batch.reports):
            if large and number % PART == 0:
                await self._turns.take(PART)
            try:
                if scope is not None and self._gate is not None:
                    self._gate.require(report, scope)
                self._on_report(report)
                accepted += 1
            except ReportError as error:
                count += 1
                if len(refused) < MAX_REFUSED:
                    refused.append(f"{_subject(report)}: {error}"[:MAX_TEXT])
        record.last_at = received_at
        self._compare_clocks(message, record)
        record.batches += 1
        record.accepted += accepted
        record.refused += count
        record.unknown_signals += batch.unknown_signals
        if refused and refused[0] != record.last_refusal:
            # Reported when it changes: the agent's own log has every one.
            record.last_refusal = refused[0]
            self._log.warning(
                "agent reports rejected",
                record.id,
                agent=record.id,
                refused=refused[:5],
                count=count,
                remedy="see the reasons; check server.agents and fleet.yaml's instances",
            )
        return pb.ReportStatus(sequence=batch.sequence, accepted=accepted, refused=refused)


def _subject(report: Report) -> str:
    return str(getattr(report, "instance", "") or getattr(report, "site", "") or "path")
