"""HTTPRoutes as the source of a service's matches: a real control plane and a real Envoy."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import aiohttp
import pytest

from testbed.fakes.kubernetes_api import KubernetesApiServer, serving_kubernetes
from testbed.fakes.kubernetes_objects import make_http_route, make_slice
from testbed.fakes.upstreams import Origin
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_port

FLEET = """
version: 1
sites: [{name: north, kind: edge}]
models: [{name: m}]
services:
  - {name: chat, http_routes: [{service: chat}], models: [{name: m}], policy: static}
  - name: batch
    match: [{path: /batch}]
    http_routes: [{service: batch, hostnames: false}]
    models: [{name: m}]
    policy: static
discovery:
  api: {server: "API"}
  rules:
    - {name: r, kind: endpoint_slices, service: vllm, site: north, model: m}
steering: {period: 100ms, slow_start: 0s}
envoy: {address: 127.0.0.1, port: ENVOY}
"""

pytestmark = pytest.mark.timeout(240)


async def wait_for_statuses(
    http: aiohttp.ClientSession, port: int, expected: dict[tuple[str, str], int]
) -> None:
    """Wait until requests of (host, path) are answered as expected."""
    async with asyncio.timeout(60):
        found: dict[tuple[str, str], int] = {}
        while found != expected:
            await asyncio.sleep(0.05)
            for host, path in expected:
                url = f"http://127.0.0.1:{port}{path}"
                async with http.get(url, headers={"host": host} if host else {}) as answer:
                    found[host, path] = answer.status


@pytest.mark.envoy
async def test_http_routes_say_which_requests_a_service_gets(tmp_path: Path) -> None:
    """By host whatever its port, and by path; one that changes or goes is followed at once.

    After a restart without the API server the matches are those that were known.
    """
    server, port, file = KubernetesApiServer(), free_port(), tmp_path / "fleet.yaml"
    prefix = {"path": {"type": "PathPrefix", "value": "/v1"}}
    server.put(
        "httproutes",
        make_http_route(
            "chat", ["Service/chat"], matches=[prefix], hostnames=["chat.example", "*.llm.example"]
        ),
    )
    async with serving_kubernetes(server), Origin("a") as a, aiohttp.ClientSession() as http:
        text = FLEET.replace("API", server.url).replace("ENVOY", str(port))
        file.write_text(text, encoding="utf-8")
        server.put("endpointslices", make_slice("s", {"p": "127.0.0.1"}, ports={"http": a.port}))
        async with ControlPlaneProcess(file, "--state-dir", str(tmp_path)) as control:
            await control.wait_ready()
            async with await EnvoyProcess.start(control.bootstrap()) as envoy:
                await envoy.wait_for(lambda clusters: "chat" in clusters, "have the service")
                await wait_for_statuses(
                    http,
                    port,
                    {
                        ("chat.example", "/v1"): 200,
                        ("Chat.Example:8080", "/v1/models"): 200,
                        ("a.llm.example", "/v1/x"): 200,
                        ("llm.example", "/v1/x"): 404,
                        ("chat.example.org", "/v1/x"): 404,
                        ("chat.example", "/v1beta"): 404,
                        ("", "/v1"): 404,
                        ("", "/batch"): 200,
                        ("", "/other"): 404,
                    },
                )
                server.put(
                    "httproutes",
                    make_http_route(
                        "batch", ["Service/other", "Service/batch"], hostnames=["b.example"],
                        matches=[{"path": {"type": "Exact", "value": "/other"}}, prefix],
                    ),
                )  # fmt: skip
                server.delete("httproutes", "chat")
                await wait_for_statuses(
                    http,
                    port,
                    {("chat.example", "/v1"): 200, ("", "/other"): 200, ("", "/batch"): 200},
                )
                warned = await control.wait_for_event(
                    "service without any match; its requests are answered 404"
                )
                fleet = await control.get_json("/api/v1/fleet")
            control.signal(signal.SIGTERM)
            await control.ended()
        server.busy = True
        async with ControlPlaneProcess(file, "--state-dir", str(tmp_path)) as again:
            await again.wait_ready()
            await again.wait_for_event("discovery failed; known instances stay in use")
            (_, _, kept) = (await again.get_json("/api/v1/fleet"))["discovery"]

    rows = {each["rule"]: each for each in fleet["discovery"]}
    assert ["chat"] == warned["services"]
    assert 0 == rows["http_routes/chat"]["matches"]
    assert 3 == rows["http_routes/batch"]["matches"] == kept["matches"]
