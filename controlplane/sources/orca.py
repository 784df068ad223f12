"""Reads ORCA load reports out of band (``xds.service.orca.v3.OpenRcaService/StreamCoreMetrics``).

One stream for each instance that has ``orca``; the instance sends a report every period.
A stream that ends is opened again, later each time.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Protocol

import structlog
from google.protobuf.message import DecodeError
from xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport
from xds.service.orca.v3.orca_pb2 import OrcaLoadReportRequest

from controlplane.config import Orca
from controlplane.errors import ReportError
from controlplane.grpc_transport.client import dialled
from controlplane.grpc_transport.limits import Limits
from controlplane.grpc_transport.status import CallError
from controlplane.model import InstanceReport, ScrapeFailure
from controlplane.telemetry.orca import parse_orca_report

METHOD = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds before a stream is opened again."""
SILENT_PERIODS = 5.0
"""Periods, 5 s at least, after which a stream without reports is given up."""
LIMITS = Limits(max_message=2**16, window=2**17, connection_window=2**17, keepalive_period=310.0)

Logger = structlog.typing.FilteringBoundLogger
OnReport = Callable[[InstanceReport | ScrapeFailure], None]


class ReportsOrca(Protocol):
    """What the reader must know of an instance."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def host(self) -> str: ...  # noqa: D102
    @property
    def orca(self) -> Orca | None: ...  # noqa: D102


class OrcaReader:
    """Reads while `run` runs.

    Args:
        instances: those without ``orca`` are left alone.
        on_report: called with every report and every failure.
        clock: the control plane's.
        log: where faults are reported, each once.
    """

    def __init__(
        self,
        instances: Iterable[ReportsOrca],
        *,
        on_report: OnReport,
        clock: Callable[[], float] = time.monotonic,
        log: Logger | None = None,
    ) -> None:
        self._on_report = on_report
        self._clock = clock
        self._log: Logger = structlog.get_logger(part="orca") if log is None else log
        self._random = random.Random()  # noqa: S311 -- spreads reconnects
        self._wanted: dict[str, tuple[str, Orca]] = {}
        self._running: dict[str, tuple[tuple[str, Orca], asyncio.Task[None]]] = {}
        self._changed = asyncio.Event()
        self.reconfigure(instances)

    def reconfigure(self, instances: Iterable[ReportsOrca]) -> None:
        """Read *instances* from now on; streams of those that did not change go on."""
        self._wanted = {
            one.name: (one.orca.target(one.host), one.orca)
            for one in instances
            if one.orca is not None
        }
        self._changed.set()

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    await self._changed.wait()
                    self._changed.clear()
                    for name, (target, task) in list(self._running.items()):
                        if self._wanted.get(name) != target:
                            task.cancel()
                            del self._running[name]
                    for name, wanted in self._wanted.items():
                        if name not in self._running:
                            task = group.create_task(self._follow(name, *wanted))
                            self._running[name] = wanted, task
            finally:
                for _, task in self._running.values():
                    task.cancel()
                self._running.clear()

    async def _follow(self, name: str, target: str, orca: Orca) -> None:
        pause = FIRST_PAUSE
        reported = ""
        while True:
            reports = 0
            try:
                async for report in self._stream(target, orca.period):
                    reports += 1
                    if reported:
                        reported = ""
                        self._log.info("ORCA reports restored", instance=name)
                    self._take(name, report)
                reason = "the stream ended"
            except (CallError, OSError, ReportError) as error:
                reason = _reason(error)
            if reason != reported:
                reported = reason
                self._log.warning(
                    "ORCA reports unavailable", instance=name, reason=reason,
                    remedy=f"check the instance's orca settings; the target was {target}",
                )  # fmt: skip
            self._report(ScrapeFailure(name, self._clock(), f"ORCA: {reason}"))
            pause = FIRST_PAUSE if reports else min(LONGEST_PAUSE, pause * 2)
            await asyncio.sleep(pause * self._random.uniform(0.5, 1.0))

    async def _stream(self, target: str, period: float) -> AsyncIterator[OrcaLoadReport]:
        silence = max(5.0, SILENT_PERIODS * period)
        request = OrcaLoadReportRequest()
        request.report_interval.FromNanoseconds(round(period * 1e9))
        async with dialled(target, limits=LIMITS) as connection:
            call = connection.call(METHOD)
            await call.write(request.SerializeToString())
            call.finish_writing()
            while True:
                async with asyncio.timeout(silence):
                    message = await call.read()
                if message is None:
                    return
                try:
                    yield OrcaLoadReport.FromString(message)
                except DecodeError as error:
                    raise ReportError(f"not an OrcaLoadReport: {error}") from None

    def _take(self, name: str, message: OrcaLoadReport) -> None:
        try:
            self._report(parse_orca_report(message, instance=name, at=self._clock()))
        except ReportError as error:
            self._log.debug("ORCA report rejected", instance=name, reason=str(error))

    def _report(self, result: InstanceReport | ScrapeFailure) -> None:
        try:
            self._on_report(result)
        except ReportError as error:
            self._log.debug("report rejected", instance=result.instance, reason=str(error))


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no report came"
    return (str(error) or type(error).__name__)[:300]
