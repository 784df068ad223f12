"""One request explained: from a line of a real Envoy's access log to the terms of its share."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from controlplane.cli import cats
from controlplane.config import parse_config
from controlplane.resources.access_log_fields import REQUEST_ID
from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.instances import EmulatedInstance
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_port

pytestmark = pytest.mark.envoy

FLEET = """
version: 1
sites: [{name: north, kind: edge}]
models: [{name: m}]
services:
  - {name: chat, match: [{path: /v1/chat/completions, model: m}], models: [{name: m}]}
instances:
  - {name: a, site: north, address: "INSTANCE", model: m}
steering: {period: 200ms}
envoy: {address: 127.0.0.1, port: PORT, access_log: LOG}
"""
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def ask(url: str) -> int:
    """Ask once; return the status, 0 while nothing answers."""
    headers = {"traceparent": TRACE}
    with contextlib.suppress(aiohttp.ClientError):
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json=BODY, headers=headers) as answer,
        ):
            await answer.read()
            return answer.status
    return 0


def served(file: Path) -> list[dict[str, Any]]:
    """Return the lines about requests that an instance answered."""
    written = file.read_text(encoding="utf-8") if file.exists() else ""
    lines = written.rpartition("\n")[0].splitlines()  # the last one may not be whole yet
    return [each for each in map(json.loads, lines) if each["http.response.status_code"] == 200]


async def test_a_line_of_an_envoys_log_leads_to_the_terms_of_the_share(tmp_path: Path) -> None:
    """In the names of OpenTelemetry's conventions, with the request's own id and trace."""
    log, file = tmp_path / "access.log", tmp_path / "fleet.yaml"
    async with contextlib.AsyncExitStack() as ends:
        instance = await ends.enter_async_context(EmulatedInstance(InstanceSettings(model="m")))
        text = FLEET.replace("INSTANCE", instance.address).replace("LOG", str(log))
        file.write_text(text.replace("PORT", str(free_port())), encoding="utf-8")
        config = parse_config(file.read_text(encoding="utf-8"), file=str(file))
        plane = await ends.enter_async_context(ControlPlaneProcess(file))
        await ends.enter_async_context(await EnvoyProcess.start(plane.bootstrap()))
        await plane.wait_ready()
        url = f"http://127.0.0.1:{config.envoy.port}/v1/chat/completions"
        async with asyncio.timeout(120):
            while not served(log):
                await ask(url)
                await asyncio.sleep(0.2)
        line = served(log)[-1]
        words = ("explain", "--request", line[REQUEST_ID], "--log", str(log))
        admin = ("--admin", f"http://127.0.0.1:{plane.admin_port}")
        said = await asyncio.to_thread(CliRunner().invoke, cats, [*words, *admin])

    assert {
        "http.request.header.traceparent": TRACE,
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "gen_ai.request.model": "m",
        "gen_ai.response.model": "m",
        "cats.service": "chat",
        "cats.from": "north",
        "cats.instance": "a",
        "cats.site": "north",
        "cats.attempts": 1,
    }.items() <= line.items()
    text = " ".join(said.output.split())
    assert 0 == said.exit_code, said.output
    assert f"request {line[REQUEST_ID]} at" in text
    assert "chat from north, status 200" in text
    assert "answered by a at north, model m" in text
    assert "plan stands" in text
    assert "chat from north: policy" in text
