"""Reads the metrics of instances that have ``scrape``, and calls back with what they said.

One loop for each instance, at its own period and at an offset that its name decides, so that
hundreds of them never knock at once and two replicas knock alike.
What the text means is `controlplane.telemetry`'s business; what follows from it the fleet's.
"""

from __future__ import annotations

import asyncio
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import aiohttp
import structlog

from controlplane.config.engine import Engine
from controlplane.errors import ReportError
from controlplane.model import InstanceReport, ScrapeFailure, Source
from controlplane.sources.loaded_models import LoadedModels
from controlplane.sources.pages import Scrape, build_trust, fetch, new_session, remedy_of
from controlplane.sources.scrape_log import Logger, ScrapeLog
from controlplane.telemetry import decode_exposition, parse_metrics
from controlplane.telemetry.engines import TABLES, Dialect
from controlplane.telemetry.loaded_models import LIST, parse_loaded_models

CONCURRENCY = 64
"""Scrapes under way at once."""
OnReport = Callable[[InstanceReport | ScrapeFailure], None]
"""Called on the event loop with each result; a `ReportError` it raises is logged."""


class InstanceScrape(Scrape, Protocol):
    """Where an instance is read."""

    @property
    def models_url(self) -> str | None: ...  # noqa: D102


class Scraped(Protocol):
    """What a scraper must know of an instance."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def engine(self) -> Engine | str: ...  # noqa: D102
    @property
    def scrape(self) -> InstanceScrape | None: ...  # noqa: D102


def offset_of(name: str, period: float) -> float:
    """Return the seconds into each period at which the instance *name* is scraped."""
    return zlib.crc32(name.encode()) / 2**32 * period


class Scraper:
    """Scrapes while `run` runs.

    Args:
        instances: those without ``scrape`` are left alone.
        on_report: called with every report and every failure.
        clock: the control plane's.
        wall: Unix time, against which timestamps on a page are held.
        log: where faults are reported, each once and again once a minute.
    """

    def __init__(
        self,
        instances: Iterable[Scraped],
        *,
        on_report: OnReport,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        log: Logger | None = None,
    ) -> None:
        self._on_report = on_report
        self._clock = clock
        self._wall = wall
        self._dialects: Mapping[str, Dialect] = TABLES
        self.log: Logger = structlog.get_logger(part="scrape") if log is None else log
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._wanted: dict[str, Scraped] = {}
        self._targets: dict[str, tuple[Scraped, asyncio.Task[None]]] = {}
        self._changed = asyncio.Event()
        self._contexts: dict[tuple[str, ...], tuple[list[float], ssl.SSLContext | bool]] = {}
        self.reconfigure(instances)

    def reconfigure(
        self, instances: Iterable[Scraped], *, dialects: Mapping[str, Dialect] | None = None
    ) -> None:
        """Scrape *instances* from now on; loops of those that did not change go on.

        Args:
            instances: those without ``scrape`` are left alone.
            dialects: the table of each engine and of each dialect of the configuration.
        """
        if dialects is not None:
            self._dialects = dialects
        self._wanted = {one.name: one for one in instances if one.scrape is not None}
        self._changed.set()

    async def run(self) -> None:
        """Scrape until cancelled."""
        async with (
            new_session() as session,
            asyncio.TaskGroup() as group,
        ):
            try:
                while True:
                    await self._changed.wait()
                    self._changed.clear()
                    self._start(session, group)
            finally:
                for _, task in self._targets.values():
                    task.cancel()
                self._targets.clear()

    def _start(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
        for name, (instance, task) in list(self._targets.items()):
            if self._wanted.get(name) != instance:
                task.cancel()
                del self._targets[name]
        for name, instance in self._wanted.items():
            if name not in self._targets and instance.scrape is not None:
                target = _Target(self, instance, instance.scrape, session)
                task = group.create_task(target.loop(), name=f"scrape {name}")
                self._targets[name] = (instance, task)

    def context(self, scrape: Scrape) -> ssl.SSLContext | bool:
        """Return the trust for a server, built again when one of its files has changed."""
        files = tuple(file or "" for file in (scrape.ca, scrape.cert, scrape.key))
        changed_at = [Path(file).stat().st_mtime for file in files if file]
        known = self._contexts.get(files)
        if known is None or known[0] != changed_at:
            known = self._contexts[files] = (changed_at, build_trust(scrape))
        return known[1]

    async def measure(self, target: _Target) -> None:
        """Scrape once, log the result and report it."""
        async with self._slots:
            sent_at = self._clock()
            result: InstanceReport | ScrapeFailure
            try:
                text = decode_exposition(await target.fetch())
                # The engine looked at itself somewhere between question and answer.
                at = (sent_at + self._clock()) / 2
                report = read_page(
                    text, target.instance, at=at, wall=self._wall(), dialects=self._dialects
                )
                result = await target.complete(report, now=self._clock())
            except (ReportError, aiohttp.ClientError, OSError, ValueError) as error:
                # TimeoutError is an OSError; ValueError is what faulty URLs and files raise.
                result = ScrapeFailure(target.instance.name, self._clock(), remedy_of(error)[0])
        target.log.record(result, now=self._clock())
        try:
            self._on_report(result)
        except ReportError as error:
            target.log.record_rejection(str(error), now=self._clock())


def read_page(
    text: str,
    instance: Scraped,
    *,
    at: float,
    wall: float | None = None,
    dialects: Mapping[str, Dialect] = TABLES,
) -> InstanceReport:
    """Read the page of *instance*, as its configuration says.

    Ollama has no metrics page: a list of what it has loaded is read in its place.

    Raises:
        ReportError: it is no page of metrics, or all of it is too old.
    """
    if instance.engine == Engine.OLLAMA and text.startswith(LIST):
        loaded = parse_loaded_models(text)
        return InstanceReport(instance.name, Source.SCRAPE, at, {}, loaded=loaded)
    return parse_metrics(
        text,
        engine=instance.engine,
        instance=instance.name,
        at=at,
        wall=wall,
        labels=instance.scrape.labels if instance.scrape is not None else {},
        dialects=dialects,
    )


class _Target:
    """One instance's scraping."""

    def __init__(
        self,
        scraper: Scraper,
        instance: Scraped,
        scrape: InstanceScrape,
        session: aiohttp.ClientSession,
    ) -> None:
        self.instance = instance
        self._scraper = scraper
        self._scrape = scrape
        self._session = session
        self.log = ScrapeLog(
            instance.name, engine=str(instance.engine), url=scrape.url, log=scraper.log
        )
        self._loaded = LoadedModels(self._fetch_models, clock=asyncio.get_running_loop().time)

    async def loop(self) -> None:
        clock = asyncio.get_running_loop().time
        period = self._scrape.period
        now = clock()
        due = now - now % period + offset_of(self.instance.name, period)
        while True:
            # A scrape that took longer than a period costs the rounds it missed, no more.
            due += period * max(0.0, (clock() - due) // period + 1)
            await asyncio.sleep(due - clock())
            await self._scraper.measure(self)

    async def fetch(self) -> bytes:
        """Return the body.

        Raises:
            ReportError: the answer is not what was asked for.
            aiohttp.ClientError, OSError, ValueError: no answer.
        """
        return await self._get(self._scrape.url)

    async def _fetch_models(self) -> str:
        return decode_exposition(await self._get(self._scrape.models_url or ""))

    async def _get(self, url: str) -> bytes:
        trust = self._scraper.context(self._scrape)
        return await fetch(self._scrape, self._session, url=url, trust=trust)

    async def complete(self, report: InstanceReport, *, now: float) -> InstanceReport:
        """Add which models its list says are loaded, unless its metrics say it themselves."""
        if self._scrape.models_url is None or report.loaded:
            return report
        try:
            await self._loaded.refresh()
        except (ReportError, aiohttp.ClientError, OSError, ValueError) as error:
            url = self._scrape.models_url
            self.log.record_unreadable_models(url, remedy_of(error)[0], now=now)
        return replace(report, loaded=self._loaded.names)
