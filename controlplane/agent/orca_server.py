"""Serves what the agent knows of an instance as ORCA reports, out of band.

Envoy's ``client_side_weighted_round_robin`` subscribes to it (``enable_oob_load_report``) and so
adapts within a site faster than any control plane can push.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from google.protobuf.message import DecodeError
from xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport
from xds.service.orca.v3.orca_pb2 import OrcaLoadReportRequest

from controlplane.agent.settings import OrcaExport
from controlplane.grpc_transport.calls import Call
from controlplane.grpc_transport.client import split_address
from controlplane.grpc_transport.limits import Limits, ServerLimits
from controlplane.grpc_transport.server import GrpcServer
from controlplane.grpc_transport.status import StatusCode
from controlplane.model import InstanceReport, Signal
from controlplane.telemetry.orca import build_orca_report

METHOD = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"
SHORTEST, LONGEST = 0.1, 60.0
"""Seconds between two reports of a stream; what a client asks for beyond is bent to these."""
MAX_STREAMS = 1_000
LIMITS = Limits(max_message=4_096, window=1 << 16, connection_window=1 << 18)
"""A request is some bytes."""
SETTLING = 5.0
"""Seconds over which rates and times are averaged."""
STALE = 10.0
"""Seconds without news of the instance after which it reports nothing, so that Envoy's own expiry
takes its weight away."""


class InstanceLoad:
    """What is known of one instance: gauges as they come, rates and times averaged."""

    def __init__(self, capacity: float | None = None) -> None:
        self._capacity = capacity
        self._signals: dict[Signal, float] = {}
        self._at: float | None = None
        self._rate = 0.0
        self._service_time: float | None = None
        self._most = 0.0

    def take(self, report: InstanceReport) -> None:
        """Receive what the instance said."""
        before, since = self._signals, self._at
        self._signals, self._at = dict(report.signals), report.at
        self._most = max(self._most, report.signals.get(Signal.RUNNING, 0.0))
        if since is None or report.at <= since:
            return
        elapsed = report.at - since
        done = _growth(before, self._signals, Signal.COMPLETED, Signal.LATENCY_COUNT)
        if done is None or done < 0:
            return
        part = -math.expm1(-elapsed / SETTLING)
        self._rate += part * (done / elapsed - self._rate)
        spent = _growth(before, self._signals, Signal.LATENCY_SUM)
        if done > 0 and spent is not None and spent > 0:
            self._learn(spent / done, part)

    def _learn(self, latency: float, part: float) -> None:
        """Follow the time a request takes down at once and up slowly: crowding is not service."""
        if self._service_time is None or latency < self._service_time:
            self._service_time = latency
        else:
            self._service_time += 0.05 * part * (latency - self._service_time)

    def report(self, *, now: float) -> OrcaLoadReport | None:
        """Return the report that is true *now*; None if nothing is known that fresh."""
        if self._at is None or now - self._at > STALE:
            return None
        slots = self._capacity or self._signals.get(Signal.SLOTS) or max(1.0, self._most)
        return build_orca_report(
            self._signals, slots=slots, rate=self._rate, service_time=self._service_time
        )


def _growth(
    before: dict[Signal, float], after: dict[Signal, float], *signals: Signal
) -> float | None:
    for signal in signals:
        if signal in before and signal in after:
            return after[signal] - before[signal]
    return None


class OrcaServer:
    """Serves one instance's load.

    Args:
        settings: which instance, and where.
        clock: of the reports' instants.
    """

    def __init__(
        self, settings: OrcaExport, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self.load = InstanceLoad(settings.capacity)
        self.port = 0
        self.streams = 0
        self._clock = clock
        self._server: GrpcServer | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port cannot be had.
        """
        server = GrpcServer(limits=LIMITS, server_limits=ServerLimits(max_connections=MAX_STREAMS))
        server.add_method(METHOD, self._open)
        self.port = await server.listen(*split_address(self.settings.address))
        self._server = server

    async def stop(self) -> None:
        """End every stream and stop listening."""
        if self._server is not None:
            await self._server.stop()
            self._server = None

    def _open(self, stream: Call) -> _Subscriber | None:
        if self.streams >= MAX_STREAMS:
            stream.finish(StatusCode.RESOURCE_EXHAUSTED, "too many streams")
            return None
        return _Subscriber(self, stream)

    def message(self) -> bytes | None:
        """Return the report that is true now as bytes; None if nothing is known."""
        report = self.load.report(now=self._clock())
        return None if report is None else report.SerializeToString()


class _Subscriber:
    """One client's stream: a report at once, then one each period that it asked for."""

    def __init__(self, server: OrcaServer, stream: Call) -> None:
        self._server = server
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._period = 1.0
        self._timer: asyncio.TimerHandle | None = None
        server.streams += 1

    def message_received(self, message: bytes) -> None:
        """Receive the request, the only message."""
        try:
            asked = OrcaLoadReportRequest.FromString(message).report_interval
        except DecodeError:
            self._stream.finish(StatusCode.INVALID_ARGUMENT, "not an OrcaLoadReportRequest")
            return
        self._period = min(LONGEST, max(SHORTEST, asked.seconds + asked.nanos * 1e-9 or 1.0))
        if self._timer is None:
            self._send()

    def half_closed(self) -> None:
        """Go on: a client that has asked says no more."""

    def closed(self) -> None:
        """Report no more."""
        self._server.streams -= 1
        if self._timer is not None:
            self._timer.cancel()

    def drained(self) -> None:
        """Wait for the next period: what was true before is not reported late."""

    def _send(self) -> None:
        message = self._server.message() if self._stream.is_drained else None
        self._timer = self._loop.call_later(self._period, self._send)
        if message is not None:
            self._stream.send(message)
