"""What Envoys observe, received: their statistics streams, and load reports where those lack.

Two gRPC services beside xDS on the same port. ``MetricsService/StreamMetrics`` takes what an Envoy
with our bootstrap sends every ``envoy.load_period``; ``LoadReportingService/StreamLoadStats`` asks
any other Envoy that offers it for load reports every ten seconds. One Envoy may do both; then its
load reports are left aside, so that nothing counts twice.

This module identifies, `observation_streams` bounds; what a message says is read in
`controlplane.telemetry`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from envoy.config.core.v3 import base_pb2
from envoy.service.load_stats.v3 import lrs_pb2
from google.protobuf.message import DecodeError

from controlplane.auth.identity import OPEN, IdentityCheck
from controlplane.config import Config, Role
from controlplane.errors import ProtocolError, ReportError
from controlplane.grpc_services.observation_streams import ObservationSettings, ObservationStreams
from controlplane.grpc_services.requests import Node, parse_node, without_field
from controlplane.grpc_transport.calls import Conversation, Serves, conversing
from controlplane.grpc_transport.status import CallError, StatusCode
from controlplane.model import InstanceReport, LatencyReport, TrafficReport
from controlplane.runtime.client_log import ClientLog
from controlplane.telemetry.envoy_histograms import parse_histograms
from controlplane.telemetry.envoy_stats import EnvoyStats
from controlplane.telemetry.handshakes import parse_handshakes
from controlplane.telemetry.load_stats import LoadReader
from controlplane.wire.cats.envoy.v1 import metrics_pb2

log = structlog.get_logger("observation")

METRICS_SERVICE = "envoy.service.metrics.v3.MetricsService"
LOAD_SERVICE = "envoy.service.load_stats.v3.LoadReportingService"

_LRS_NODE = 1
"""Field number in ``LoadStatsRequest``, which repeats the node in every message."""


ALIVE_AFTER = 3.0
"""Seconds after which a stream that was replaced and goes on belongs to another Envoy."""


LARGE = 1 << 16
"""Bytes of a message that is read beside the event loop; 700 kB of 2,000 pairs take 45 ms."""
TURN = 500
"""Reports that are applied before others get their turn."""


@dataclass(frozen=True, slots=True, eq=False)
class _Stream:
    """One statistics stream; compared by identity."""

    peer: str
    opened_at: float


class EnvoyTelemetry:
    """Both services; gives what they receive to a callback on the event loop.

    Args:
        config: services, instances and periods.
        resolve_site: node -> name of its site; None when it is at none that is configured.
        on_reports: takes reports of one message; they share one instant.
        on_loads: takes what instances said of themselves in their answers' headers.
        on_latencies: takes how long the answers of one message took.
        on_refused: takes the reason for which a message or a stream was refused.
        on_handshakes: takes an Envoy, its site, and (service, reason) -> TLS handshakes with
            instances that failed.
        settings: bounds.
        clock: seconds, monotonic; the fleet's clock.
        identities: whom a client's certificate lets it be.

    Attributes:
        streams: those of both services that are open.
    """

    def __init__(
        self,
        config: Config,
        *,
        resolve_site: Callable[[Node], str | None],
        on_reports: Callable[[Sequence[TrafficReport]], None],
        on_refused: Callable[[str], None] = lambda _: None,
        on_loads: Callable[[Sequence[InstanceReport]], None] = lambda _: None,
        on_latencies: Callable[[Sequence[LatencyReport]], None] = lambda _: None,
        on_handshakes: Callable[[str, str, Mapping[tuple[str, str], float]], None] = (
            lambda _envoy, _site, _failed: None
        ),
        settings: ObservationSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        identities: IdentityCheck = OPEN,
    ) -> None:
        self._identities = identities
        self._resolve_site = resolve_site
        self._on_reports = on_reports
        self._on_refused = on_refused
        self._on_loads = on_loads
        self._on_latencies = on_latencies
        self._on_handshakes = on_handshakes
        self._clock = clock
        self._streaming: dict[str, _Stream] = {}
        """Envoy -> its newest statistics stream."""
        self._log = ClientLog(log)
        self.streams = ObservationStreams(
            settings or ObservationSettings(), on_refused=on_refused, log=self._log, clock=clock
        )
        self._reading = asyncio.Lock()
        """Several threads at once would keep the interpreter from the event loop."""
        self.reconfigure(config)

    def reconfigure(self, config: Config) -> None:
        """Use the names and periods of *config* from now on."""
        self._period = config.envoy.load_period
        self._loads = LoadReader(config)
        self._services = frozenset(each.name for each in config.services)

    @property
    def observed(self) -> frozenset[str]:
        """Return the ids of the Envoys that stream statistics now."""
        return frozenset(self._streaming)

    def serve_on(self, server: Serves) -> None:
        """Serve both services on *server*."""
        server.add_method(f"/{METRICS_SERVICE}/StreamMetrics", conversing(self._stream_metrics))
        server.add_method(f"/{LOAD_SERVICE}/StreamLoadStats", conversing(self._stream_loads))

    async def _stream_metrics(self, call: Conversation) -> None:
        await self.streams.guard(call, self._read_metrics)
        await call.write(b"")  # StreamMetricsResponse has no fields

    async def _stream_loads(self, call: Conversation) -> None:
        await self.streams.guard(call, self._read_loads)

    async def _read_metrics(self, call: Conversation) -> None:
        bucket = self.streams.bucket()
        stats: EnvoyStats | None = None
        stream = _Stream(call.call.peer, self._clock())
        try:
            while (body := await self.streams.next(call, bucket)) is not None:
                message = _parse(metrics_pb2.StreamMetricsMessage, body)
                if stats is None:
                    node = _parse(base_pb2.Node, message.identifier.node)
                    envoy, site = self._identify(node, call)
                    stats = EnvoyStats(envoy, site, self._period)
                    # An Envoy that comes back is counted by its new stream at once, even if the
                    # end of the old connection has not been noticed yet.
                    self._streaming[envoy] = stream
                if self._streaming.get(stats.envoy) is not stream and not self._is_another(
                    stats, stream
                ):
                    continue
                read = partial(stats.receive, message.envoy_metrics, now=self._clock())
                try:
                    reports = await self._beside(read) if len(body) > LARGE else read()
                except ReportError as error:
                    self._on_refused(str(error))
                else:
                    await self._pass_on(stats.site, reports)
                self._pass_on_latencies(stats, message.envoy_metrics)
                failed = parse_handshakes(message.envoy_metrics, self._services)
                if failed:
                    self._on_handshakes(stats.envoy, stats.site, failed)
        finally:
            if stats is not None and self._streaming.get(stats.envoy) is stream:
                del self._streaming[stats.envoy]

    def _pass_on_latencies(self, stats: EnvoyStats, families: Sequence[Any]) -> None:
        """Pass how long answers took to the callback, if the Envoy is at a known site."""
        if not stats.site:
            return
        try:
            found = parse_histograms(
                families, envoy=stats.envoy, site=stats.site, now=self._clock()
            )
        except ReportError as error:
            self._on_refused(str(error))
            return
        if found:
            self._on_latencies(found)

    def _is_another(self, stats: EnvoyStats, stream: _Stream) -> bool:
        """Return whether a replaced stream turns out to be another Envoy's with the same id.

        What was under way when an Envoy came back belongs to its old stream and is left out; a
        stream that goes on sending has an Envoy of its own, which gets a name of its own.
        """
        newer = self._streaming.get(stats.envoy)
        if newer is not None and self._clock() - newer.opened_at < ALIVE_AFTER:
            return False
        if newer is not None:
            self._log.warning(
                "two Envoys have one id",
                stats.envoy,
                envoy=stats.envoy,
                peers=[stream.peer, newer.peer],
                remedy="set a node.id of its own for each Envoy, as with cats bootstrap --id",
            )
            stats.envoy = f"{stats.envoy} ({stream.peer})"
        self._streaming[stats.envoy] = stream
        return True

    async def _read_loads(self, call: Conversation) -> None:
        bucket = self.streams.bucket()
        period = self.streams.settings.load_report_period
        who: tuple[str, str] | None = None
        while (body := await self.streams.next(call, bucket)) is not None:
            try:
                request = _parse(
                    lrs_pb2.LoadStatsRequest,
                    body if who is None else without_field(body, _LRS_NODE),
                )
            except ProtocolError as error:
                raise CallError(StatusCode.INVALID_ARGUMENT, str(error)) from error
            if who is None:
                who = self._identify(request.node, call)
                await call.write(_ask_for_loads(period))
            envoy, site = who
            said = self._loads.parse_orca(request, envoy=envoy, site=site, now=self._clock())
            if said:
                self._on_loads(said)
            if envoy not in self._streaming:
                reports = self._loads.parse(
                    request, envoy=envoy, site=site, now=self._clock(), period=period
                )
                await self._pass_on(site, reports)

    def _identify(self, message: Any, call: Conversation) -> tuple[str, str]:
        """Return id and site of a node, if its sender may claim them."""
        node = parse_node(message)
        if not node.id:
            raise CallError(
                StatusCode.INVALID_ARGUMENT, "the first message must carry a node with an id"
            )
        site = self._resolve_site(node)
        claimed = node.site if site is None else site
        self._identities.check(call.call.names, Role.ENVOY, id=node.id, site=claimed)
        if site is None:
            event, envoy = "Envoy of unknown site sends telemetry", node.id[:256]
            self._log.info(event, envoy, envoy=envoy, site=node.site[:256])
        return node.id, site or ""

    async def _beside(self, read: Callable[[], Sequence[TrafficReport]]) -> Sequence[TrafficReport]:
        """Return what *read* does, beside the event loop, one at a time."""
        async with self._reading:
            return await asyncio.to_thread(read)

    async def _pass_on(self, site: str, reports: Sequence[TrafficReport]) -> None:
        """Pass reports to the callback; those of an unknown site are of no use."""
        if not site:
            return
        for start in range(0, len(reports), TURN):
            if start:
                await asyncio.sleep(0)
            self._on_reports(reports[start : start + TURN])


def _parse(kind: Any, body: bytes) -> Any:
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise CallError(
            StatusCode.INVALID_ARGUMENT, f"not a {kind.DESCRIPTOR.name}: {error}"
        ) from error


def _ask_for_loads(period: float) -> bytes:
    answer = lrs_pb2.LoadStatsResponse(send_all_clusters=True, report_endpoint_granularity=True)
    answer.load_reporting_interval.FromMilliseconds(round(period * 1000))
    content: bytes = answer.SerializeToString()
    return content
