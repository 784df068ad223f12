"""``cats check --scrape``: what is read of a page, signal by signal."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from controlplane.cli import cats

PAGE = """\
sglang:num_running_reqs{dp_rank="0",tp_rank="0"} 60
sglang:num_running_reqs{dp_rank="1",tp_rank="1"} 32
sglang:num_queue_reqs{dp_rank="0",tp_rank="0",priority=""} 18
sglang:num_queue_reqs{dp_rank="0",tp_rank="0",priority="5"} 4
sglang:token_usage{dp_rank="0",tp_rank="0"} 0.5
sglang:gen_throughput{dp_rank="0"} 12
"""
FLEET = """\
version: 1
sites: [{name: s, kind: edge}]
models: [{name: m}]
services: [{name: chat, match: [{path: /v1}], models: [{name: m}]}]
telemetry:
  dialects:
    shop:
      running: {metric: shop_inflight, where: {queue: [main, fast*]}, unless: {kind: probe}}
      waiting: [shop_backlog_new, shop_backlog]
      kv_use: {metric: shop_cache_percent, unit: percent}
      latency: {metric: shop_latency_ms, unit: ms}
      completed: {metric: shop_done_total, where: {code: "2*"}}
      failed: {metric: shop_done_total, where: {code: "5*"}}
      power: {metric: shop_watts, merge: sum, unit: kW}
      ready: shop_up
instances:
  - {name: a, site: s, address: "10.0.0.1:80", model: m, engine: shop}
"""
SHOP = """\
shop_inflight{queue="main"} 3
shop_inflight{queue="fast-1"} 2
shop_inflight{queue="other"} 50
shop_inflight{queue="main",kind="probe"} 9
shop_backlog 4
shop_cache_percent{gpu="0"} 40
shop_cache_percent{gpu="1"} 75
shop_latency_ms_sum 4000
shop_latency_ms_count 20
shop_done_total{code="200"} 18
shop_done_total{code="204"} 2
shop_done_total{code="404"} 30
shop_done_total{code="503"} 1
shop_watts 0.3
shop_up 1
"""


def check(*words: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(cats, ["check", *words], prog_name="cats")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Write SGLang's page."""
    path = tmp_path / "page.txt"
    path.write_text(PAGE)
    return path


@pytest.fixture
def serving() -> Iterator[tuple[str, dict[str, tuple[int, str]]]]:
    """Serve pages by path."""
    pages: dict[str, tuple[int, str]] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = pages.get(self.path, (404, ""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", pages
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_is_read_signal_by_signal(page: Path) -> None:
    """Each signal with its value, then what was left out and why."""
    result = check("--scrape", str(page), "--engine", "sglang")

    assert 0 == result.exit_code
    lines = result.output.splitlines()
    assert ["running 92", "waiting 18", "kv_use 0.5"] == lines[:3]
    assert "ignored: sglang:num_queue_reqs: 1 of 2 rows repeat or are part of others" in lines
    assert "ignored: no signal needs sglang:gen_throughput" in lines


def test_a_url_is_read_as_serve_reads_it(
    serving: tuple[str, dict[str, tuple[int, str]]],
) -> None:
    """With the same code, over HTTP."""
    url, pages = serving
    pages["/metrics"] = (200, PAGE)

    result = check("--scrape", f"{url}/metrics", "--engine", "sglang")

    assert (0, "running 92") == (result.exit_code, result.output.splitlines()[0])


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        pytest.param(500, "", "status 500; see its own log", id="error"),
        pytest.param(401, "", "status 401; set scrape.token_file", id="token"),
        pytest.param(200, "<html>", "line 1", id="web page"),
        pytest.param(200, "vllm:num_requests_running 1\n", "these are metrics of vllm", id="wrong"),
        pytest.param(200, "", "empty: no metrics yet", id="empty"),
    ],
)
def test_status_1_if_nothing_could_be_read(
    serving: tuple[str, dict[str, tuple[int, str]]], status: int, text: str, words: str
) -> None:
    """And why, with what to do."""
    url, pages = serving
    pages["/metrics"] = (status, text)

    result = check("--scrape", f"{url}/metrics", "--engine", "sglang")

    assert 1 == result.exit_code
    assert words in result.output


def test_a_connection_that_is_refused_is_named_so(tmp_path: Path) -> None:
    """No traceback, no firewall for a file that is not there."""
    refused = check("--scrape", "http://127.0.0.1:1/metrics", "--engine", "vllm")
    absent = check("--scrape", str(tmp_path / "none"), "--engine", "vllm")

    assert (1, 1) == (refused.exit_code, absent.exit_code)
    assert "connection refused by 127.0.0.1:1" in refused.output
    assert "No such file" in absent.output


def test_a_dialect_of_the_operators_own_is_read(tmp_path: Path) -> None:
    """Names, filters, units, sums and maxima by configuration alone."""
    fleet, page = tmp_path / "fleet.yaml", tmp_path / "shop.txt"
    fleet.write_text(FLEET)
    page.write_text(SHOP)

    result = check(str(fleet), "--scrape", str(page), "--engine", "shop")

    assert [
        "running 5", "waiting 4", "kv_use 0.75", "power 300", "completed 20", "failed 1",
        "latency_sum 4", "latency_count 20",
    ] == result.output.splitlines()[:8]  # fmt: skip
    page.write_text(SHOP.replace("shop_up 1", "shop_up 0"))
    assert (
        "not ready: shop_up is 0"
        in check(str(fleet), "--scrape", str(page), "--engine", "shop").output
    )
    page.write_text(SHOP.replace("shop_inflight", "shop_renamed"))
    assert "missing: running" in check(str(fleet), "--scrape", str(page), "--engine", "shop").output


def test_a_dialect_may_build_on_an_engines_table(tmp_path: Path) -> None:
    """Only what differs is written down."""
    fleet, page = tmp_path / "fleet.yaml", tmp_path / "page.txt"
    fleet.write_text(FLEET.replace("      running:", "      like: vllm\n      running:"))
    page.write_text(SHOP + "vllm:time_to_first_token_seconds_sum 7\n"
                           "vllm:time_to_first_token_seconds_count 70\n")  # fmt: skip

    lines = check(str(fleet), "--scrape", str(page), "--engine", "shop").output.splitlines()

    assert {"running 5", "ttft_sum 7", "ttft_count 70"} <= set(lines)


def test_one_replica_of_a_page_is_filtered_by_its_label(tmp_path: Path) -> None:
    """As scrape.labels does."""
    page = tmp_path / "ray.txt"
    page.write_text(
        'ray_vllm_num_requests_running{ReplicaId="abc1"} 2\n'
        'ray_vllm_num_requests_running{ReplicaId="xyz2"} 5\n'
    )

    result = check("--scrape", str(page), "--engine", "vllm", "--label", "ReplicaId=xyz*")

    assert "running 5" == result.output.splitlines()[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--engine", "vllm"], "go with --scrape", id="no page"),
        pytest.param(["--scrape", "x"], "known: vllm, sglang", id="no engine"),
        pytest.param(["--scrape", "x", "--engine", "sglan"], "did you mean 'sglang'?", id="typing"),
        pytest.param(
            ["--scrape", "x", "--engine", "vllm", "--label", "a"], "NAME=VALUE", id="label"
        ),
        pytest.param([], "name a file", id="nothing"),
    ],
)
def test_mistakes_are_reported_with_status_2(words: list[str], said: str) -> None:
    """With what to write instead."""
    result = check(*words)

    assert 2 == result.exit_code
    assert said in result.output


@pytest.mark.parametrize(
    ("was", "then", "words"),
    [
        ("engine: shop", "engine: shp", "'shp' is neither an engine nor one of telemetry.dialects"),
        ("engine: shop", "engine: vlm", "did you mean 'vllm'"),
        ("unit: percent", "unit: parsecs", "is no unit"),
        ("    shop:", "    vllm:", "is an engine's name already"),
        ("running: {metric", "runing: {metric", "did you mean 'running'"),
        ("metric: shop_inflight", "metric: 'shop inflight'", "shop"),
    ],
)
def test_a_faulty_dialect_is_reported_at_its_place(
    tmp_path: Path, was: str, then: str, words: str
) -> None:
    """As any other fault of the file."""
    fleet = tmp_path / "fleet.yaml"
    assert was in FLEET
    fleet.write_text(FLEET.replace(was, then))

    result = check(str(fleet))

    assert 2 == result.exit_code
    assert words in result.output
    assert f"{fleet}:" in result.output
