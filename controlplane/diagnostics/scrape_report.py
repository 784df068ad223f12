"""What is read of a page of metrics, line by line: ``cats check --scrape``.

Reads by the very code that `controlplane.sources.scrape` reads with; asks one host or opens one
file.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp

from controlplane.errors import ReportError
from controlplane.model import InstanceReport, Signal
from controlplane.sources.pages import fetch_once, remedy_of
from controlplane.sources.scrape import InstanceScrape, read_page
from controlplane.telemetry.engines import TABLES, Dialect
from controlplane.telemetry.exposition import MAX_TEXT, decode_exposition


@dataclass(frozen=True, slots=True)
class Checked:
    """An instance as far as reading its page needs one."""

    name: str
    engine: str
    scrape: InstanceScrape


class UnreadableError(ReportError):
    """The page cannot be read; the message says why and what to do."""


async def read_source(source: InstanceScrape) -> str:
    """Return the text at a URL or in a file.

    Raises:
        UnreadableError: it cannot be read.
    """
    try:
        if source.url.startswith(("http://", "https://")):
            return await fetch_once(source)
        return await asyncio.to_thread(_read_file, Path(source.url))
    except (ReportError, aiohttp.ClientError, OSError, ValueError) as error:
        reason, remedy = remedy_of(error)
        raise UnreadableError(f"{source.url} cannot be read: {reason}; {remedy}") from error


def _read_file(path: Path) -> str:
    with path.open("rb") as file:
        return decode_exposition(file.read(MAX_TEXT + 1))


async def report_page(
    source: InstanceScrape, engine: str, *, dialects: Mapping[str, Dialect] = TABLES
) -> InstanceReport:
    """Read a page as the control plane would.

    Raises:
        UnreadableError: it cannot be read, or is no page of metrics.
    """
    text = await read_source(source)
    # A file is of the day that it was written; its timestamps say nothing of now.
    wall = time.time() if source.url.startswith(("http://", "https://")) else None
    try:
        report = read_page(
            text, Checked("page", engine, source), at=0.0, wall=wall, dialects=dialects
        )
        unread = _unread(text, dialects[engine])
        return replace(report, ignored=(*report.ignored, *unread))
    except ReportError as error:
        raise UnreadableError(
            f"{source.url} cannot be read: {error}; check that it is a page of {engine}"
        ) from error


def _unread(text: str, dialect: Dialect) -> Iterator[str]:
    """Yield a line on the families of the page that no signal needs."""
    names = dict.fromkeys(
        _PARTS.sub("", line.partition("{")[0].split()[0])
        for line in text.split("\n")
        if line.strip() and not line.startswith("#")
    )
    read = {_PARTS.sub("", name) for name in dialect.names}
    left = [name for name in names if name not in read]
    if left:
        more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
        yield f"no signal needs {', '.join(left[:MOST_NAMED])}{more}"


_PARTS = re.compile(r"_(?:bucket|sum|count|total|created)$")
MOST_NAMED = 20


def format_report(report: InstanceReport) -> Iterator[str]:
    """Yield a line a signal, as ``running 92``, then what was left out and why."""
    for signal in Signal:
        if signal in report.signals:
            yield f"{signal.value} {report.signals[signal]:.12g}"
    if not report.ready:
        yield f"not ready: {report.not_ready_reason}"
    if report.at < 0:
        yield f"age: {-report.at:.0f} s by its own timestamps"
    if report.empty:
        yield "empty: no metrics yet; what Envoys see counts until the first request"
    for signal in report.missing:
        yield f"missing: {signal.value}"
    for line in report.refused:
        yield f"refused: {line}"
    for line in report.ignored:
        yield f"ignored: {line}"
    for line in report.aliases:
        yield f"old name: {line}"
