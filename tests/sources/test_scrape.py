"""Scraping over real HTTP."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from aiohttp import web
from structlog.testing import capture_logs

from controlplane.config import Dialect, Engine, Instance, Scrape
from controlplane.model import InstanceReport, ScrapeFailure, Signal
from controlplane.sources.scrape import Scraper, offset_of
from controlplane.telemetry.engines.custom import build_dialects
from controlplane.telemetry.exposition import MAX_TEXT
from testbed.background import running_task
from testbed.fakes.certificates import Authority
from testbed.fakes.web_servers import serving_routes

PAGE = """\
llamacpp:requests_processing 3
llamacpp:requests_deferred 1
llamacpp:prompt_tokens_total 10
llamacpp:tokens_predicted_total 20
"""

Result = InstanceReport | ScrapeFailure
Answer = Callable[[web.Request], web.StreamResponse]


class MetricsServer:
    """An instance's metrics endpoint, whose answer a test sets."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _: web.Response(text=PAGE)
        self.requests: list[web.Request] = []
        self.port = 0

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        self.requests.append(request)
        if request.query.get("hang"):
            await asyncio.sleep(3600)
        return self.answer(request)


@pytest.fixture
async def server() -> AsyncIterator[MetricsServer]:
    """Serve metrics on a free port."""
    metrics = MetricsServer()
    async with serving_routes(web.get("/metrics", metrics.respond)) as metrics.port:
        yield metrics


def make_instance(
    server: MetricsServer,
    name: str = "a",
    *,
    query: str = "",
    token_file: str | None = None,
    period: str = "20ms",
    timeout: str = "60s",
) -> Instance:
    """Return an instance that is scraped fifty times a second."""
    scrape = Scrape(
        url=f"http://127.0.0.1:{server.port}/metrics{query}",
        period=period,
        timeout=timeout,
        token_file=token_file,
    )
    return Instance(
        name=name, site="s", address="127.0.0.1:1", model="m", engine=Engine.LLAMACPP,
        scrape=scrape,
    )  # fmt: skip


@asynccontextmanager
async def scraping(*instances: Instance) -> AsyncIterator[tuple[Scraper, asyncio.Queue[Result]]]:
    """Scrape within the block."""
    results: asyncio.Queue[Result] = asyncio.Queue()
    scraper = Scraper(instances, on_report=results.put_nowait, log=structlog.get_logger())
    async with running_task(scraper.run()), asyncio.timeout(60):
        yield scraper, results


async def test_metrics_become_reports_again_and_again(server: MetricsServer) -> None:
    """One a period, each with its instant."""
    async with scraping(make_instance(server)) as (_, results):
        first, second = await results.get(), await results.get()

    assert isinstance(first, InstanceReport)
    assert 3.0 == first.signals[Signal.RUNNING]
    assert () == first.missing
    assert second.at > first.at


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(lambda _: web.Response(status=503), "status 503", id="status"),
        pytest.param(
            lambda _: web.Response(status=302, headers={"Location": "http://elsewhere/"}),
            "redirected to 'http://elsewhere/'",
            id="redirect",
        ),
        pytest.param(lambda _: web.Response(text="<html>"), "line 1", id="web_page"),
        pytest.param(lambda _: web.Response(body=b"\xff\xfe"), "not UTF-8", id="binary"),
        pytest.param(
            lambda _: web.Response(body=b"a 1\n" * (MAX_TEXT // 4 + 1)), "more than", id="huge"
        ),
        pytest.param(
            lambda _: web.Response(body=b"x", headers={"Content-Encoding": "gzip"}),
            "was not asked for",
            id="compressed",
        ),
    ],
)
async def test_an_answer_that_cannot_be_used_is_a_failure_with_its_reason(
    server: MetricsServer, answer: Answer, reason: str
) -> None:
    """Whatever an instance answers, the scraper goes on."""
    server.answer = answer
    async with scraping(make_instance(server)) as (_, results):
        result = await results.get()
        server.answer = lambda _: web.Response(text=PAGE)
        while isinstance(await results.get(), ScrapeFailure):
            pass

    assert isinstance(result, ScrapeFailure)
    assert reason in result.reason


async def test_a_server_that_hangs_times_out_and_harms_no_other(server: MetricsServer) -> None:
    """Every instance has a loop of its own."""
    hangs = make_instance(server, "hangs", query="?hang=1", timeout="300ms")
    seen: dict[str, Result] = {}
    async with scraping(hangs, make_instance(server, "fine")) as (_, results):
        while len(seen) < 2:
            result = await results.get()
            seen[result.instance] = result

    assert isinstance(seen["fine"], InstanceReport)
    assert isinstance(seen["hangs"], ScrapeFailure)
    assert "no answer within" in seen["hangs"].reason


async def test_each_instance_is_scraped_at_its_own_period(server: MetricsServer) -> None:
    """Twenty times at fifty a second, while the other has hardly begun."""
    slow = make_instance(server, "slow", period="600s")
    seen: Counter[str] = Counter()
    async with scraping(make_instance(server, "fast"), slow) as (_, results):
        while seen["fast"] < 20:
            seen[(await results.get()).instance] += 1

    assert seen["slow"] <= 1


async def test_each_instance_is_waited_for_as_long_as_it_may_take(server: MetricsServer) -> None:
    """The page of one ends three times, and that of the other not yet."""
    short = make_instance(server, "short", query="?hang=1", timeout="300ms")
    long = make_instance(server, "long", query="?hang=1", timeout="600s")
    seen: Counter[str] = Counter()
    async with scraping(short, long) as (_, results):
        while seen["short"] < 3:
            seen[(await results.get()).instance] += 1

    assert seen["long"] == 0


async def test_a_refused_connection_is_a_failure() -> None:
    """The commonest of all."""
    unreachable = MetricsServer()
    unreachable.port = 1
    async with scraping(make_instance(unreachable)) as (_, results):
        result = await results.get()

    assert isinstance(result, ScrapeFailure)
    assert "127.0.0.1" in result.reason


async def test_the_token_is_read_at_every_scrape_and_proxies_are_not_used(
    server: MetricsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens are rotated; an environment's proxy must not see them."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    token = tmp_path / "token"
    token.write_text("first\n")
    async with scraping(make_instance(server, token_file=str(token))) as (_, results):
        await results.get()
        token.write_text("second\n")
        while server.requests[-1].headers["Authorization"] != "Bearer second":
            await results.get()
        token.unlink()
        while isinstance(result := await results.get(), InstanceReport):
            pass

    assert "Bearer first" == server.requests[0].headers["Authorization"]
    assert isinstance(result, ScrapeFailure)
    assert "token" in result.reason


async def test_https_is_trusted_by_the_file_of_now(tmp_path: Path) -> None:
    """A server that another authority signed is refused, and refuses what another signed.

    Rotated files are read at once, on either side of that.
    """
    own, strangers = Authority(tmp_path), Authority(tmp_path, name="strangers")
    pair = own.issue("127.0.0.1")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(strangers.ca.read_bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    context.load_verify_locations(own.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    shown = strangers.issue("scraper.example")
    metrics = MetricsServer()
    async with serving_routes(web.get("/metrics", metrics.respond), tls=context) as metrics.port:
        scrape = Scrape(
            url=f"https://127.0.0.1:{metrics.port}/metrics",
            period="50ms",
            timeout="60s",
            ca=str(trusted),
            cert=str(shown.cert),
            key=str(shown.key),
        )
        instance = make_instance(metrics).model_copy(update={"scrape": scrape})
        async with scraping(instance) as (_, results):
            refused = await results.get()
            trusted.write_bytes(own.ca.read_bytes())
            unwelcome = await results.get()
            while "CERTIFICATE_VERIFY" in getattr(unwelcome, "reason", ""):
                unwelcome = await results.get()
            own.issue("scraper.example", over=shown)
            while isinstance(taken := await results.get(), ScrapeFailure):
                pass

    assert isinstance(refused, ScrapeFailure)
    assert "certificate" in refused.reason
    assert isinstance(unwelcome, ScrapeFailure)
    assert 3.0 == taken.signals[Signal.RUNNING]


async def test_a_new_configuration_starts_and_ends_scraping(server: MetricsServer) -> None:
    """Without disturbing those that stay."""
    async with scraping(make_instance(server, "a")) as (scraper, results):
        await results.get()
        scraper.reconfigure([make_instance(server, "b")])
        while (await results.get()).instance != "b":
            pass
        names = {(await results.get()).instance for _ in range(5)}

    assert {"b"} == names


async def test_failures_and_missing_signals_are_logged_once(server: MetricsServer) -> None:
    """Fifty failures a second are one line, and so is the recovery."""
    server.answer = lambda _: web.Response(status=500)
    with capture_logs() as lines:
        async with scraping(make_instance(server)) as (_, results):
            for _ in range(5):
                await results.get()
            server.answer = lambda _: web.Response(text="llamacpp:requests_processing 1\n")
            complete = 0
            while complete < 5:
                complete += isinstance(await results.get(), InstanceReport)

    assert [
        "instance metrics unreadable",
        "instance metrics lack signals",
    ] == [line["event"] for line in lines]
    assert ("waiting", "prompt_tokens", "output_tokens") == lines[-1]["missing"]


def test_hundreds_of_instances_do_not_knock_at_once() -> None:
    """Their names spread them over the period, the same way in every replica."""
    offsets = [offset_of(f"instance-{number}", 1.0) for number in range(400)]

    tenths = [sum(tenth <= offset * 10 < tenth + 1 for offset in offsets) for tenth in range(10)]
    assert min(tenths) > 20
    assert max(tenths) < 60


class Minutes:
    """A clock that a test turns by minutes."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time, a millisecond later at every look."""
        self.now += 0.001
        return self.now


async def test_a_page_that_comes_and_goes_is_a_line_a_minute(server: MetricsServer) -> None:
    """With the count of the minute; the end of the flapping is a line, too."""
    clock = Minutes()
    results: asyncio.Queue[Result] = asyncio.Queue()
    answers = 0

    def flap(_: web.Request) -> web.Response:
        nonlocal answers
        answers += 1
        return web.Response(status=500) if answers % 2 else web.Response(text=PAGE)

    server.answer = flap
    with capture_logs() as lines:
        scraper = Scraper(
            [make_instance(server)], on_report=results.put_nowait, log=structlog.get_logger(),
            clock=clock,
        )  # fmt: skip
        async with running_task(scraper.run()), asyncio.timeout(60):
            for _ in range(3):
                for _ in range(10):
                    await results.get()
                clock.now += 61.0
            server.answer = lambda _: web.Response(text=PAGE)
            while not any("restored" in line["event"] for line in lines):
                await results.get()
                clock.now += 5.0

    failed = [line for line in lines if "unreadable" in line["event"]]
    assert 3 <= len(failed) <= 5
    assert 1 == failed[0]["times"]
    assert all(4 <= line["times"] <= 7 for line in failed[1:3])
    assert all(line["remedy"] and "status 500" in line["reason"] for line in failed)
    assert 1 == sum("restored" in line["event"] for line in lines)


async def test_a_series_with_two_values_is_one_warning(server: MetricsServer) -> None:
    """And the report counts with the first."""
    server.answer = lambda _: web.Response(text=PAGE + "llamacpp:requests_processing 9\n")
    with capture_logs() as lines:
        async with scraping(make_instance(server)) as (_, results):
            reports = [await results.get() for _ in range(5)]

    assert [3.0] * 5 == [
        report.signals[Signal.RUNNING] for report in reports if isinstance(report, InstanceReport)
    ]
    (line,) = lines
    assert ("contradicting series in metrics", "warning") == (line["event"], line["log_level"])
    assert line["remedy"]


async def test_an_empty_page_is_a_report_and_no_failure(server: MetricsServer) -> None:
    """An engine before its first request; nothing is logged."""
    server.answer = lambda _: web.Response(text="")
    with capture_logs() as lines:
        async with scraping(make_instance(server)) as (_, results):
            report = await results.get()

    assert isinstance(report, InstanceReport)
    assert (True, {}, ()) == (report.empty, report.signals, report.missing)
    assert [] == lines


async def test_a_relayed_page_is_as_old_as_it_says(server: MetricsServer) -> None:
    """By its own timestamps and the clock on the wall."""
    old = "".join(f"{line} 1700000000000\n" for line in PAGE.splitlines())
    server.answer = lambda _: web.Response(text=old)
    async with scraping(make_instance(server)) as (_, results):
        result = await results.get()

    assert isinstance(result, ScrapeFailure)
    assert "old by their own timestamps" in result.reason


async def test_one_of_several_instances_on_a_page_is_read_by_its_labels(
    server: MetricsServer,
) -> None:
    """And by a table of the operator's own."""
    server.answer = lambda _: web.Response(
        text='shop_inflight{replica="a1"} 2\nshop_inflight{replica="b7"} 5\n'
    )
    instance = make_instance(server)
    assert instance.scrape is not None
    instance = instance.model_copy(
        update={
            "engine": "shop",
            "scrape": instance.scrape.model_copy(update={"labels": {"replica": "b*"}}),
        }
    )
    dialects = build_dialects({"shop": Dialect.model_validate_json('{"running": "shop_inflight"}')})
    results: asyncio.Queue[Result] = asyncio.Queue()
    scraper = Scraper((), on_report=results.put_nowait, log=structlog.get_logger())
    scraper.reconfigure([instance], dialects=dialects)
    async with running_task(scraper.run()), asyncio.timeout(60):
        report = await results.get()

    assert isinstance(report, InstanceReport)
    assert {Signal.RUNNING: 5.0} == report.signals


VLLM_MODELS = '{"object": "list", "data": [{"id": "base"}, {"id": "support", "parent": "base"}]}'


async def test_what_is_loaded_is_read_from_the_engines_list(server: MetricsServer) -> None:
    """By the session and with the token of its metrics; a page that says so itself wins."""
    server.answer = lambda request: web.Response(
        text=VLLM_MODELS if request.query.get("list") else PAGE
    )
    instance = make_instance(server)
    assert instance.scrape is not None
    url = f"{instance.scrape.url}?list=1"
    listed = instance.scrape.model_copy(update={"models_url": url})
    async with scraping(instance.model_copy(update={"scrape": listed})) as (_, results):
        reports = [await results.get() for _ in range(4)]

    assert [("base", "support")] * 4 == [getattr(each, "loaded", None) for each in reports]
    assert 1 == sum("list" in request.query for request in server.requests)


async def test_a_list_that_cannot_be_read_costs_no_metrics(server: MetricsServer) -> None:
    """It is logged once, with a remedy; the engine's load is known all the same."""
    server.answer = lambda request: (
        web.Response(status=404) if request.query.get("list") else web.Response(text=PAGE)
    )
    instance = make_instance(server)
    assert instance.scrape is not None
    listed = instance.scrape.model_copy(update={"models_url": f"{instance.scrape.url}?list=1"})
    with capture_logs() as lines:
        async with scraping(instance.model_copy(update={"scrape": listed})) as (_, results):
            reports = [await results.get() for _ in range(3)]

    assert all(isinstance(each, InstanceReport) and not each.loaded for each in reports)
    (line,) = [each for each in lines if each["event"] == "list of loaded models unreadable"]
    assert "status 404" == line["reason"]
    assert "models_url" in line["remedy"]


async def test_ollama_is_scraped_by_what_it_has_loaded(server: MetricsServer) -> None:
    """It has no metrics page; its list stands in, and is no report of its load."""
    server.answer = lambda _: web.Response(text='{"models": [{"name": "llama3.2:3b"}]}')
    ollama = make_instance(server).model_copy(update={"engine": Engine.OLLAMA})
    async with scraping(ollama) as (_, results):
        report = await results.get()

    assert isinstance(report, InstanceReport)
    assert (("llama3.2:3b",), {}, ()) == (report.loaded, report.signals, report.missing)
