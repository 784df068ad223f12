"""Reads what runs on the machine already: exporters, and metrics of training jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import aiohttp

from controlplane.agent.exporters import Exported, join_exported, parse_exported
from controlplane.agent.settings import AgentConfig, Exporter, TrainingMetric
from controlplane.errors import ReportError
from controlplane.runtime.log import Logger
from controlplane.sources.network_errors import reason_of
from controlplane.sources.pages import fetch_page
from controlplane.telemetry.engines.series import labelled
from controlplane.telemetry.exposition import parse_exposition


class ExporterReader:
    """Reads the machine's exporters and keeps what each said last."""

    def __init__(self, config: AgentConfig, *, clock: Callable[[], float], log: Logger) -> None:
        self._config = config
        self._clock = clock
        self._log = log
        self._training: dict[str, float] = {}
        self._exported: dict[str, tuple[float, Exported]] = {}

    @property
    def training(self) -> Iterable[float]:
        """Return the shares of the machine that training takes, 0 to 1, by each metric."""
        return self._training.values()

    def exported(self, *, now: float) -> Exported:
        """Return what all exporters said that were read lately."""
        return join_exported(
            one
            for read_at, one in self._exported.values()
            if now - read_at <= 3 * self._config.period + 5
        )

    async def run(self) -> None:
        """Read each at its own period, until cancelled."""
        config = self._config
        async with aiohttp.ClientSession(trust_env=False) as session, asyncio.TaskGroup() as group:
            for exporter in config.machine.exporters:
                group.create_task(self._read_exporter(exporter, session))
            for metric in config.training.metrics:
                group.create_task(self._read_training(metric, session))

    async def _read_exporter(self, exporter: Exporter, session: aiohttp.ClientSession) -> None:
        url, labels = exporter.scrape.url, exporter.scrape.labels
        key = f"{url} {sorted(labels.items())}"
        fault = ""
        while True:
            now = self._clock()
            try:
                text = await fetch_page(exporter.scrape, session, url=url)
                exported = parse_exported(
                    text, exporter.kind, before=self._exported.get(key), at=now, labels=labels
                )
                self._exported[key] = (now, exported)
                fault = ""
            except (ReportError, aiohttp.ClientError, OSError, ValueError) as error:
                fault = self._report_error(url, reason_of(error), fault)
            await asyncio.sleep(exporter.scrape.period)

    async def _read_training(self, metric: TrainingMetric, session: aiohttp.ClientSession) -> None:
        labels = metric.scrape.labels
        key = f"{metric.scrape.url} {metric.name} {sorted(labels.items())}"
        fault = ""
        while True:
            try:
                text = await fetch_page(metric.scrape, session, url=metric.scrape.url)
                samples = parse_exposition(text, {metric.name}).get(metric.name, [])
                share = sum(each.value for each in labelled(samples, labels)) * metric.scale
                if not 0 <= share <= 1.05:
                    raise ReportError(f"{metric.name} times its scale is {share:g}, not a share")  # noqa: TRY301
                self._training[key] = min(1.0, share)
                fault = ""
            except (ReportError, aiohttp.ClientError, OSError, ValueError) as error:
                self._training.pop(key, None)
                fault = self._report_error(key, reason_of(error), fault)
            await asyncio.sleep(metric.scrape.period)

    def _report_error(self, what: str, reason: str, before: str) -> str:
        if reason != before:
            self._log.warning(
                "exporter unreadable", exporter=what, reason=reason,
                remedy="check the URL in the agent's configuration",
            )  # fmt: skip
        return reason
