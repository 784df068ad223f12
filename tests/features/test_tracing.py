"""Traces of cycles reach an OTLP receiver where that is asked for, and cost nothing where not."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web

from controlplane.config import Tracing
from controlplane.controller.cycle_record import CycleRecord
from controlplane.controller.tracing import CycleTracer
from controlplane.xds.types import ENDPOINT
from testbed.background import until
from testbed.fakes.web_servers import serving_routes
from testbed.fakes.xds import XdsClient
from testbed.processes.control_planes import ControlPlaneProcess

FLEET = """
version: 1
sites: [{{name: north, kind: edge}}, {{name: cloud, kind: cloud}}]
models: [{{name: m}}]
services:
  - {{name: chat, match: [{{path: /v1/chat/completions}}], models: [{{name: m}}]}}
instances:
  - {{name: near, site: north, address: "127.0.0.1:9001", model: m}}
  - {{name: far, site: cloud, address: "127.0.0.1:9002", model: m}}
steering: {{period: 200ms, policy: static}}
server: {{tracing: {{endpoint: "http://127.0.0.1:{port}/v1/traces"}}}}
"""


@dataclass(frozen=True, slots=True)
class Span:
    """One span as a collector reads it."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start: int
    end: int
    attributes: dict[str, str]


def read_span(span: dict[str, Any]) -> Span:
    """Read the JSON of a span."""
    return Span(
        span["traceId"],
        span["spanId"],
        span.get("parentSpanId", ""),
        span["name"],
        int(span["startTimeUnixNano"]),
        int(span["endTimeUnixNano"]),
        {item["key"]: item["value"].get("stringValue", "") for item in span["attributes"]},
    )


@asynccontextmanager
async def receiving(spans: list[Span]) -> AsyncIterator[int]:
    """Receive traces as a collector does; give the port."""

    async def take(request: web.Request) -> web.Response:
        assert "application/json" == request.content_type
        for resource in (await request.json())["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                spans.extend(read_span(span) for span in scope["spans"])
        return web.json_response({})

    async with serving_routes(web.post("/v1/traces", take)) as port:
        yield port


async def test_a_cycle_is_a_trace_with_its_stages(tmp_path: Path) -> None:
    """From the fleet's view to the last Envoy's acknowledgement, each inside its parent."""
    file = tmp_path / "fleet.yaml"
    spans: list[Span] = []
    async with receiving(spans) as port:
        text = FLEET.format(port=port)
        file.write_text(text, encoding="utf-8")
        state = ("--state-dir", str(tmp_path / "state"))
        async with ControlPlaneProcess(file, *state) as control:
            await control.wait_ready()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{control.xds_port}") as channel:
                client = XdsClient(channel, delta=True)
                await client.request(ENDPOINT, ["chat"])
                first = await client.response()
                await client.request(ENDPOINT, nonce=first.nonce)
                file.write_text(
                    text + "overrides: [{instance: near, weight: 300}]\n", encoding="utf-8"
                )
                second = await client.response()
                await client.request(ENDPOINT, nonce=second.nonce)
                await until(lambda: any(span.name == "convergence" for span in spans))
                client.cancel()
            _, metrics = await control.get("/metrics")
            control.signal(signal.SIGINT)
            assert 0 == await control.ended()

    (converged,) = [span for span in spans if span.name == "convergence"]
    trace = {span.name: span for span in spans if span.trace_id == converged.trace_id}
    assert {
        "cycle", "view", "decide", "solve", "build", "publish", "say and save", "convergence"
    } == set(trace)  # fmt: skip
    names = {span.span_id: span.name for span in trace.values()}
    assert {
        "cycle": None, "view": "cycle", "decide": "cycle", "solve": "decide", "build": "publish",
        "publish": "cycle", "say and save": "cycle", "convergence": "cycle",
    } == {name: names.get(span.parent_id) for name, span in trace.items()}  # fmt: skip
    for name in ("view", "decide", "publish", "say and save"):
        span, whole = trace[name], trace["cycle"]
        assert whole.start <= span.start
        assert span.end <= whole.end
    attributes = trace["cycle"].attributes
    assert "configuration changed" == attributes["cats.cycle.reason"]
    assert "published" == attributes["cats.plan.outcome"]
    assert "cats_convergence_seconds_count 1.0" in metrics


async def test_without_tracing_nothing_of_it_is_loaded() -> None:
    """A control plane that is not traced neither needs nor imports OpenTelemetry."""
    code = (
        "import sys, controlplane.app.serving;"
        " sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert 0 == await child.wait()


async def test_a_missing_package_is_named(tmp_path: Path) -> None:
    """With what to install."""
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET.format(port=9), encoding="utf-8")
    code = (
        "import sys; sys.modules['opentelemetry'] = None\nfrom controlplane.cli import main; main()"
    )
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "serve", "-c", str(file)),
        *("--xds", "127.0.0.1:0", "--admin", "127.0.0.1:0"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await child.communicate()
    assert 1 == child.returncode
    assert "pip install 'cats-controlplane[tracing]'" in said.decode()


@pytest.mark.parametrize(("sample", "spans"), [(0.0, 0), (1.0, 1)])
async def test_a_sample_of_the_cycles_is_traced(sample: float, spans: int) -> None:
    """None of them, or every one."""
    seen: list[Span] = []
    record = CycleRecord(
        (("cycle", "", 0.0, 1.0),), {"cats.plan.outcome": "published"}, version="v"
    )
    async with receiving(seen) as port:
        tracer = CycleTracer(
            Tracing(endpoint=f"http://127.0.0.1:{port}/v1/traces", sample=sample), replica="r"
        )
        tracer.trace_cycle(record)
        await asyncio.to_thread(tracer.close)

    assert spans == len(seen)
