"""An instance with a DNS name behind a real control plane and a real Envoy."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from testbed.fakes.upstreams import Origin
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_port

pytestmark = pytest.mark.envoy

FLEET = """
version: 1
sites: [{{name: north, kind: edge}}]
models: [{{name: m}}]
services: [{{name: chat, match: [{{path: /v1/chat}}], models: [{{name: m}}]}}]
instances:
  - {{name: a, site: north, address: "localhost:{port}", model: m}}
  - {{name: lost, site: north, address: "no-such-host.invalid:80", model: m}}
envoy: {{address: 127.0.0.1, port: {listener}, health_check: null}}
"""


async def test_a_named_instance_answers_and_one_without_an_address_waits(tmp_path: Path) -> None:
    """The Envoy gets IP addresses; the log names what was not resolved."""
    async with Origin("a") as origin:
        listener = free_port()
        text = FLEET.format(port=origin.port, listener=listener)
        file = tmp_path / "fleet.yaml"
        file.write_text(text, encoding="utf-8")
        async with ControlPlaneProcess(file) as control:
            await control.wait_ready()
            async with await EnvoyProcess.start(control.bootstrap()) as envoy:
                clusters = await envoy.wait_for(lambda c: bool(c.get("chat")), "get an endpoint")
                async with (
                    aiohttp.ClientSession() as session,
                    session.post(f"http://127.0.0.1:{listener}/v1/chat") as response,
                ):
                    text = await response.text()
            line = await control.wait_for_event("DNS name of an instance not resolved")
    assert "a" == text
    assert [origin.address] == [each.address for each in clusters["chat"]]
    assert "no-such-host.invalid" in str(line)
