"""The feed of energy prices: read again, restored after errors, the last good values kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web

from controlplane.config import Tariffs
from controlplane.errors import ReportError
from controlplane.fleet import FleetState
from controlplane.model import Source, TariffReport
from controlplane.sources.tariffs import TariffReader
from testbed.background import running_task, until
from testbed.fakes.views import make_config
from testbed.fakes.web_servers import serving_routes


class Feed:
    """A server whose answers a test sets; counts how often it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b""
        self.asked = 0

    async def answer(self, _: web.Request) -> web.Response:
        """Answer as set."""
        self.asked += 1
        return web.Response(status=self.status, body=self.body)


@asynccontextmanager
async def serving(feed: Feed) -> AsyncIterator[str]:
    """Serve *feed*; give its URL."""
    async with serving_routes(web.get("/tariffs", feed.answer)) as port:
        yield f"http://127.0.0.1:{port}/tariffs"


@asynccontextmanager
async def reading(settings: Tariffs) -> AsyncIterator[tuple[list[TariffReport], list[Any]]]:
    """Read *settings* for the site ``cloud``; give the reports and the lines of the log."""
    reports: list[TariffReport] = []
    with structlog.testing.capture_logs() as lines:
        reader = TariffReader(on_report=reports.append)
        reader.reconfigure(settings, sites={"cloud"})
        async with running_task(reader.run()):
            yield reports, lines


async def test_a_url_is_read_again_and_errors_change_nothing() -> None:
    """Wrong answers are logged once with a remedy, and the return of the feed is logged."""
    feed = Feed()
    feed.body = b'{"sites": {"cloud": {"price": 0.2, "carbon": 300}}}'
    async with serving(feed) as url, reading(Tariffs(url=url, period="20ms")) as (reports, lines):
        await until(lambda: len(reports) >= 2)
        assert (reports[0].price, reports[0].carbon) == (0.2, 300.0)
        feed.status, feed.body = 500, b"no"
        seen = feed.asked
        await until(lambda: feed.asked >= seen + 4)
        count = len(reports)
        warnings = [line for line in lines if line["log_level"] == "warning"]
        assert [line["event"] for line in warnings] == ["tariffs unreadable"]
        assert warnings[0]["reason"] == "status 500"
        assert warnings[0]["remedy"]
        feed.status, feed.body = 200, b'{"sites": {"cloud": {"price": 0.4}}}'
        await until(lambda: len(reports) > count)
        assert reports[-1].price == 0.4
        assert "tariffs restored" in [line["event"] for line in lines]


async def test_a_file_is_read_again(tmp_path: Path) -> None:
    """It may come later than the control plane."""
    path = tmp_path / "tariffs.yaml"
    settings = Tariffs(file=str(path), period="20ms")
    async with reading(settings) as (reports, lines):
        await until(lambda: any(line["event"] == "tariffs unreadable" for line in lines))
        path.write_text("sites: {cloud: {carbon: 77}}")
        await until(lambda: bool(reports))
        assert (reports[0].price, reports[0].carbon) == (None, 77.0)


def test_a_tariff_counts_until_it_expires_and_never_goes_back() -> None:
    """The fleet keeps the newest; after its expiry the configured prices count again."""
    fleet = FleetState(make_config(steering={"tariffs": {"file": "x", "expiry": "100s"}}), now=0.0)
    fleet.apply(TariffReport("near", Source.FEED, 10.0, 0.3, None), now=10.0)
    fleet.apply(TariffReport("near", Source.FEED, 5.0, 0.1, None), now=11.0)
    price = fleet.view(now=109.0).tariffs["near"].price
    assert price is not None
    assert price.value == 0.3
    assert not fleet.view(now=111.0).tariffs
    with pytest.raises(ReportError, match="no site 'moon'"):
        fleet.apply(TariffReport("moon", Source.FEED, 10.0, 0.3, None), now=10.0)
    with pytest.raises(ReportError, match="carbon"):
        fleet.apply(TariffReport("near", Source.FEED, 12.0, None, 1e6), now=12.0)


async def test_a_url_is_read_with_the_files_of_its_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As pages of metrics are, whose reader is tested against real servers."""
    asked: list[tuple[Any, str]] = []

    async def fetch(page: Any, _: object, *, url: str) -> str:
        asked.append((page, url))
        return "sites: {cloud: {price: 0.2}}"

    monkeypatch.setattr("controlplane.sources.tariffs.fetch_page", fetch)
    files = {"ca": "a", "cert": "b", "key": "c", "token_file": "d"}
    settings = Tariffs(url="https://feed.example/t", timeout="3s", **files)
    async with reading(settings) as (reports, _):
        await until(lambda: bool(reports))

    page, url = asked[0]
    assert files == {name: getattr(page, name) for name in files}
    assert (url, page.timeout) == ("https://feed.example/t", 3.0)
