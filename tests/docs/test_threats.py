"""What docs/threats.md and docs/faults.md say of tests, metrics and log lines is so."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from envoy.service.discovery.v3 import discovery_pb2
from structlog.testing import capture_logs

from controlplane.app.serving import running
from controlplane.app.settings import Settings
from controlplane.grpc_services.agents import SERVICE
from controlplane.wire.cats.telemetry.v1 import telemetry_pb2
from controlplane.xds.types import CLUSTER, ENDPOINT
from testbed.background import until
from testbed.tools.defences import DEFENCES, HEAD, ROOT, Defence, failed_without, names_in, rows


@cache
def all_tests() -> Mapping[str, str]:
    """Return each test that pytest collects by its name: its text and that of what it names."""
    found: dict[str, str] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        parts = _parts(path.read_text(encoding="utf-8"))
        for name in parts:
            if name.startswith("test_") and "pytest.mark.skip\n" not in parts[name]:
                found[name] = _with_helpers(name, parts)
    return found


def _parts(text: str) -> dict[str, str]:
    """Return the functions, methods and constants of a module by name, decorators included."""
    body, lines = ast.parse(text).body, text.splitlines()
    methods = [each for group in body if isinstance(group, ast.ClassDef) for each in group.body]
    parts: dict[str, str] = {}
    for node in (*body, *methods):
        first = node.lineno
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [node.name]
            first = min([first, *(each.lineno for each in node.decorator_list)])
        elif isinstance(node, ast.Assign):
            names = [each.id for each in node.targets if isinstance(each, ast.Name)]
        else:
            continue
        parts |= dict.fromkeys(names, "\n".join(lines[first - 1 : node.end_lineno]) + "\n")
    return parts


def _with_helpers(name: str, parts: Mapping[str, str]) -> str:
    """Return the text of *name* and of all that it names in its module, directly or not."""
    reached, waiting = {name}, [name]
    while waiting:
        used = set(re.findall(r"\w+", parts[waiting.pop()])) & parts.keys() - reached
        reached |= used
        waiting += used
    return "".join(parts[each] for each in sorted(reached))


def codes_in(text: str) -> set[str]:
    """Return the HTTP statuses and the names of gRPC's and HTTP/2's codes in *text*."""
    return set(re.findall(r"\b\d{3}\b|\b[A-Z]{3,}(?:_[A-Z]+)*\b", text)) - {"TLS", "HTTP"}


def test_every_refusal_has_its_tests() -> None:
    """Each row names one at least, and each name is a test's."""
    known = all_tests()
    for row in rows():
        assert len(HEAD) == len(row), row
        assert names_in(row[4]), row[0]
        assert set() == set(names_in(row[4])) - known.keys(), row[0]


def test_every_refusal_is_tried_or_missed_when_it_is_taken_out() -> None:
    """By a probe below, or by a defence without which a test of the row fails."""
    held = [*(probe.row for probe in PROBES), *(defence.row for defence in DEFENCES)]
    for row in rows():
        assert any(row[0].startswith(each) for each in held), row[0]
    for each in held:
        assert 1 == sum(row[0].startswith(each) for row in rows()), each


@pytest.mark.parametrize("defence", DEFENCES, ids=lambda each: f"{each.module}: {each.text}")
def test_each_defence_stands_once_in_its_module(defence: Defence) -> None:
    """So that make faults can take it out."""
    text = (ROOT / "controlplane" / defence.module).read_text(encoding="utf-8")
    assert 1 == text.count(defence.text)


@pytest.mark.skipif("CATS_FAULTS" not in os.environ, reason="half an hour; make faults runs it")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("defence", DEFENCES, ids=lambda each: f"{each.module}: {each.text}")
def test_a_test_of_the_row_fails_without_the_defence(defence: Defence) -> None:
    """Those that the row names are run on sources without it."""
    assert failed_without(defence)


@pytest.mark.parametrize("page", ["docs/threats.md", "docs/faults.md", "docs/deploying.md"])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    """Tests are renamed, and pages forget it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set() == set(re.findall(r"`(test_\w+)`", text)) - all_tests().keys()
    for path in re.findall(r"`(tests/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path


def test_metrics_and_log_lines_are_those_of_the_code() -> None:
    """An operator who searches for one finds it."""
    metrics = set(
        re.findall(r"^\| `(cats_\w+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    )
    code = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "controlplane").rglob("*.py")
    )
    for row in rows():
        assert set() == set(names_in(row[3])) - metrics, row[0]
        for line in names_in(row[2]):
            assert f'"{line}"' in code, line


FLEET = """
version: 1
sites: [{name: north, kind: edge}, {name: south, kind: edge}]
models: [{name: m}]
services: [{name: chat, match: [{path: /v1/chat}], models: [{name: m}]}]
instances:
  - {name: a, site: north, address: "127.0.0.1:9001", model: m}
  - {name: b, site: south, address: "127.0.0.1:9002", model: m}
  - {name: c, site: north, address: "127.0.0.1:9003", model: m}
steering: {period: 200ms, expiry: 3h}
server:
  admin: {token_file: TOKENS}
  agents:
    - {name: known, sites: [north], token_hash_file: HASHES}
    - {name: mistaken, sites: [north], token_hash_file: HASHES}
"""
TOKEN = "a-token-of-0123456789"


@dataclass
class Probe:
    """One refusal of the table, tried on a running control plane."""

    row: str
    """What its first cell begins with."""
    attempt: Callable[[str, str, Path], Awaitable[str]]
    """Takes the admin URL, the address of xDS and the file; returns the answer."""


async def ask(url: str, method: str = "GET", **options: Any) -> str:
    """Return the status of an answer."""
    async with aiohttp.ClientSession() as http, http.request(method, url, **options) as answer:
        return str(answer.status)


async def ask_without_token(admin: str, _xds: str, _file: Path) -> str:
    """Ask as anyone can."""
    return await ask(f"{admin}/api/v1/fleet")


async def ask_for_another_host(admin: str, _xds: str, _file: Path) -> str:
    """Ask as a page whose name was bound to this machine."""
    return await ask(f"{admin}/healthz", headers={"Host": "evil.example"})


async def change_from_a_foreign_page(admin: str, _xds: str, _file: Path) -> str:
    """Change as a foreign page, by a form, and with a body that is too large."""
    url, own = f"{admin}/api/v1/overrides", {"Authorization": f"Bearer {TOKEN}"}
    json_type = {"Content-Type": "application/json"}
    foreign = await ask(url, "POST", headers={**own, **json_type, "Origin": "http://evil"})
    form = await ask(url, "POST", headers=own, data={"drain": "true"})
    large = await ask(url, "POST", headers={**own, **json_type}, data=b" " * 100_000)
    return f"{foreign}, {form}, {large}"


async def change_anything_else(admin: str, _xds: str, _file: Path) -> str:
    """Change the plan; look for a door of conformance tests."""
    own = {"Authorization": f"Bearer {TOKEN}"}
    changed = await ask(f"{admin}/api/v1/plan", "POST", headers=own)
    return f"{changed}; {await ask(f'{admin}/debug/weights', headers=own)}"


async def write_a_fault(admin: str, _xds: str, file: Path) -> str:
    """Write a file that is wrong; see what serves."""
    own = {"Authorization": f"Bearer {TOKEN}"}
    text = await asyncio.to_thread(file.read_text)
    await asyncio.to_thread(file.write_text, text.replace("expiry", "expire"))
    async with aiohttp.ClientSession(headers=own) as http, asyncio.timeout(60):
        while True:
            async with http.get(f"{admin}/api/v1/config") as answer:
                if not (await answer.json())["ok"]:
                    break
            await asyncio.sleep(0.05)
        async with http.get(f"{admin}/api/v1/plan") as answer:
            served = "chat" in (await answer.json())["services"]
    return "the last good one serves on" if served else "nothing"


async def name_no_node(_admin: str, xds: str, _file: Path) -> str:
    """Open an xDS stream without saying who asks."""
    return await _status(xds, discovery_pb2.DiscoveryRequest(type_url=ENDPOINT).SerializeToString())


async def send_noise(_admin: str, xds: str, _file: Path) -> str:
    """Open an xDS stream with bytes that are no request."""
    return await _status(xds, b"\xff" * 40)


async def change_the_type(_admin: str, xds: str, _file: Path) -> str:
    """Ask a stream of endpoints for clusters."""
    request = discovery_pb2.DiscoveryRequest(type_url=CLUSTER)
    request.node.id = "a-client"
    method = "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints"
    return await _status(xds, request.SerializeToString(), method)


async def report_as_a_stranger(_admin: str, xds: str, _file: Path) -> str:
    """Report as an agent that the configuration does not name."""
    batch = telemetry_pb2.ReportBatch(
        agent=telemetry_pb2.Agent(id="stranger", site="north"), sequence=1
    )
    return await _status(xds, batch.SerializeToString(), f"/{SERVICE}/Report")


async def report_what_is_not_its_own(_admin: str, xds: str, _file: Path) -> str:
    """Report on instances of two sites, with the right to one; see what the answer says."""
    status = await _report(xds, _batch(1, ("a", 2.0), ("b", 2.0)))
    taken, refused = status.accepted, list(status.refused)
    return "reported, the rest taken" if (taken, len(refused)) == (1, 1) else f"{status}"


async def report_nonsense(admin: str, xds: str, _file: Path) -> str:
    """Report what cannot be of an instance that no one else reports, until it is in quarantine."""
    reported = True
    for number, value in enumerate((-1.0, 1e12, float("nan"), -1.0), 1):
        status = await _report(xds, _batch(number, ("c", value), agent="mistaken"))
        reported &= (status.accepted, len(status.refused)) == (0, 1)
    own = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(headers=own) as session, asyncio.timeout(60):
        while True:
            async with session.get(f"{admin}/api/v1/fleet") as response:
                fleet = await response.json()
            if "quarantined" in [each["phase"] for each in fleet["instances"]]:
                break
            await asyncio.sleep(0.05)
    return "reported in the answer; the source is quarantined" if reported else "taken"


async def report_no_batch(_admin: str, xds: str, _file: Path) -> str:
    """Send as an agent what is no batch, one of too many reports, and one of too many bytes."""
    method, own = f"/{SERVICE}/Report", (("authorization", f"Bearer {TOKEN}"),)
    noise = await _status(xds, b"\xff" * 40, method, own)
    codes = [noise]
    for reports in (20_000, 100_000):
        large = _batch(9, *[("a", 1.0)] * reports).SerializeToString()
        codes.append(await _status(xds, large, method, own))
    return ", ".join(codes)


async def send_statistics_of_no_one(_admin: str, xds: str, _file: Path) -> str:
    """Send statistics and a load report that name no node."""
    loads = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"
    return f"{await _status(xds, b'', _METRICS)}, {await _status(xds, b'', loads)}"


async def send_too_many_statistics(_admin: str, xds: str, _file: Path) -> str:
    """Open streams of statistics on one connection until one is refused."""
    async with grpc.aio.insecure_channel(xds) as channel, asyncio.timeout(60):
        # Nothing is written: the refusal comes first, and a client whose write it overtakes
        # reports INTERNAL of its own in place of the status that was sent.
        calls = [channel.stream_stream(_METRICS)() for _ in range(5)]
        ended = [asyncio.ensure_future(call.code()) for call in calls]
        done, _ = await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        names = {each.result().name for each in done}
        for call in calls:
            call.cancel()
        await asyncio.gather(*ended)
        return ", ".join(names)


def _batch(
    sequence: int, *running: tuple[str, float], agent: str = "known"
) -> telemetry_pb2.ReportBatch:
    batch = telemetry_pb2.ReportBatch(
        agent=telemetry_pb2.Agent(id=agent, site="north"), sequence=sequence
    )
    batch.sent_at.GetCurrentTime()
    for name, requests in running:
        batch.instances.add(instance=name, signals={"running": requests})
    return batch


async def _report(xds: str, batch: telemetry_pb2.ReportBatch) -> telemetry_pb2.ReportStatus:
    """Return what the control plane answers to a batch of the agent that it knows."""
    own = (("authorization", f"Bearer {TOKEN}"),)
    async with grpc.aio.insecure_channel(xds) as channel, asyncio.timeout(60):
        call = channel.stream_stream(f"/{SERVICE}/Report")(metadata=own)
        await call.write(batch.SerializeToString())
        return telemetry_pb2.ReportStatus.FromString(await call.read())


async def break_the_framing(_admin: str, xds: str, _file: Path) -> str:
    """Send data on stream 0, which no stream is; see whether the last frame says good-bye."""
    host, _, port = xds.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    settings, data = b"\0\0\0\4\0\0\0\0\0", b"\0\0\1\0\0\0\0\0\0x"
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + data)
    kinds = []
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
        async with asyncio.timeout(60):
            while True:
                head = await reader.readexactly(9)
                kinds.append(head[3])
                await reader.readexactly(int.from_bytes(head[:3], "big"))
    writer.close()
    return "GOAWAY" if kinds[-1:] == [7] else f"frames {kinds}"


_METRICS = "/envoy.service.metrics.v3.MetricsService/StreamMetrics"
_ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"


async def _status(
    xds: str,
    content: bytes,
    method: str = _ADS,
    metadata: Sequence[tuple[str, str]] = (),
) -> str:
    async with grpc.aio.insecure_channel(xds) as channel:
        call = channel.stream_stream(method)(iter([content]), metadata=tuple(metadata))
        async with asyncio.timeout(60):
            return str((await call.code()).name)


PROBES = (
    Probe("the admin port without a token", ask_without_token),
    Probe("on loopback, a Host", ask_for_another_host),
    Probe("a change through a foreign page", change_from_a_foreign_page),
    Probe("any other change through the admin port", change_anything_else),
    Probe("xDS requests that are none", name_no_node),
    Probe("xDS requests that are none", send_noise),
    Probe("xDS requests that are none", change_the_type),
    Probe("an agent that `server.agents` does not name", report_as_a_stranger),
    Probe("an agent's report on what is not its own", report_what_is_not_its_own),
    Probe("a batch that is none", report_no_batch),
    Probe("reports that cannot be", report_nonsense),
    Probe("statistics and load reports without a node", send_statistics_of_no_one),
    Probe("statistics and load reports without a node", send_too_many_statistics),
    Probe("HTTP/2 that is malformed", break_the_framing),
    Probe("a configuration with a fault", write_a_fault),
)


async def test_what_is_refused_answers_as_the_table_says(tmp_path: Path) -> None:
    """All probes of a row together find its answers, log lines and metrics, and no others."""
    tokens, hashes, file = tmp_path / "tokens", tmp_path / "hashes", tmp_path / "fleet.yaml"
    tokens.write_text(f"{TOKEN}\n", encoding="utf-8")
    hashes.write_text(hashlib.sha256(TOKEN.encode()).hexdigest(), encoding="utf-8")
    text = FLEET.replace("TOKENS", str(tokens)).replace("HASHES", str(hashes))
    file.write_text(text, encoding="utf-8")
    counted = {metric for row in rows() for metric in names_in(row[3])}
    settings = Settings(file, xds=("127.0.0.1", 0), admin=("127.0.0.1", 0), settle=0.0)
    with capture_logs() as lines:
        async with running(settings) as run:
            admin, xds = f"http://127.0.0.1:{run.admin_port}", f"127.0.0.1:{run.xds_port}"
            await until(lambda: run.control.views.ready)
            for row in rows():
                probes = [each for each in PROBES if row[0].startswith(each.row)]
                before = _series(run.control.metrics.read()().decode())
                lines.clear()
                answers = [await each.attempt(admin, xds, file) for each in probes]
                if not probes:
                    continue
                # What a cycle finds is logged after the answer.
                async with asyncio.timeout(60):
                    while not set(names_in(row[2])) <= {each["event"] for each in lines}:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                after = _series(run.control.metrics.read()().decode())
                moved = {each for each in counted if _of(before, each) != _of(after, each)}
                found = set[str]().union(*map(codes_in, answers))

                assert codes_in(row[1]) == found, (row[0], answers)
                for each in answers:
                    assert codes_in(each) if found else each in row[1], (row[0], answers)
                assert _warned(lines) <= set(names_in(row[2])), row[0]
                assert set(names_in(row[3])) == moved, row[0]


@cache
def lines_about_clients() -> frozenset[str]:
    """Return the warnings of what serves clients, and those of the table.

    Others, such as a cycle that outlasts its period, are about the machine.
    """
    rooms = ("admin_api", "auth", "grpc_services", "grpc_transport")
    code = "".join(
        path.read_text(encoding="utf-8")
        for room in rooms
        for path in (ROOT / "controlplane" / room).rglob("*.py")
    )
    named = {line for row in rows() for line in names_in(row[2])}
    return frozenset(named.union(re.findall(r'\.(?:warning|error)\(\s*"([^"]+)"', code)))


def _warned(lines: Sequence[MutableMapping[str, Any]]) -> set[str]:
    found = {each["event"] for each in lines if each["log_level"] in {"warning", "error"}}
    return found & lines_about_clients()


def _series(text: str) -> dict[str, str]:
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def _of(series: Mapping[str, str], metric: str) -> dict[str, str]:
    return {name: value for name, value in series.items() if name.startswith(metric)}
