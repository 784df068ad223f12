"""Reads what energy costs from a file or a URL, again and again; what is wrong changes nothing.

What was read last stays in force while the feed cannot be read, for as long as the configuration
lets it (``steering.tariffs.expiry``); then the configured prices count.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from pathlib import Path

import aiohttp
import structlog

from controlplane.config import Tariffs
from controlplane.errors import ReportError
from controlplane.model import TariffReport
from controlplane.runtime.files import read_file
from controlplane.runtime.throttle import LogLimit
from controlplane.sources.network_errors import reason_of
from controlplane.sources.pages import fetch_page, new_session
from controlplane.telemetry.tariffs import MAX_TARIFFS, parse_tariffs

Logger = structlog.typing.FilteringBoundLogger


class TariffReader:
    """Reads one feed while `run` runs.

    Args:
        on_report: called with each site's tariff; a `ReportError` it raises is logged.
        clock: the control plane's.
        log: where errors are reported, each kind once a minute.
    """

    def __init__(
        self,
        *,
        on_report: Callable[[TariffReport], None],
        clock: Callable[[], float] = time.monotonic,
        log: Logger | None = None,
    ) -> None:
        self._on_report = on_report
        self._clock = clock
        self._log: Logger = structlog.get_logger(part="tariffs") if log is None else log
        self._limit: LogLimit[str] = LogLimit()
        self._settings: Tariffs | None = None
        self._sites: Collection[str] = ()
        self._failing = False
        self._changed = asyncio.Event()

    def reconfigure(self, settings: Tariffs | None, *, sites: Collection[str]) -> None:
        """Read the feed of *settings* for *sites* from now on; nothing if it is None."""
        if settings != self._settings or set(sites) != set(self._sites):
            self._settings, self._sites = settings, sites
            self._changed.set()

    async def run(self) -> None:
        """Read until cancelled."""
        async with new_session() as session:
            while True:
                self._changed.clear()
                settings = self._settings
                if settings is not None:
                    await self.read_once(settings, session)
                try:
                    async with asyncio.timeout(None if settings is None else settings.period):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    async def read_once(self, settings: Tariffs, session: aiohttp.ClientSession) -> None:
        """Read the feed and report what it says."""
        origin = settings.origin
        try:
            text = await _fetch(settings, session)
            at = self._clock()
            reports, rejected = parse_tariffs(text, origin=origin, sites=self._sites, at=at)
        except (ReportError, aiohttp.ClientError, OSError, ValueError) as error:
            # TimeoutError is an OSError; ValueError is what faulty URLs and files raise.
            self._failing = True
            self._warn(
                "tariffs unreadable", origin, reason_of(error, timeout="steering.tariffs.timeout")
            )
            return
        for report in reports:
            try:
                self._on_report(report)
            except ReportError as error:
                rejected = (*rejected, f"{report.site}: {error}")
        if rejected:
            self._warn("tariffs rejected", origin, "; ".join(rejected[:5]))
        elif self._failing:
            self._log.info("tariffs restored", origin=origin)
        self._failing = False

    def _warn(self, event: str, origin: str, reason: str) -> None:
        if self._limit.is_due(event, now=self._clock()):
            self._log.warning(
                event,
                origin=origin,
                reason=reason,
                remedy="check steering.tariffs and the feed; the last good prices stay in"
                " force until steering.tariffs.expiry",
            )


async def _fetch(settings: Tariffs, session: aiohttp.ClientSession) -> str:
    """Return the text of the feed.

    Raises:
        ReportError: the answer is not what was asked for.
        aiohttp.ClientError, OSError, ValueError: no answer.
    """
    if settings.url is None:
        return await asyncio.to_thread(_read_file, Path(settings.origin))
    return await fetch_page(settings, session, url=settings.url)


def _read_file(path: Path) -> str:
    return read_file(path, limit=MAX_TARIFFS + 1).decode()
