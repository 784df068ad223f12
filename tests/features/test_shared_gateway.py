"""Several pools behind one Gateway: a real control plane and Envoy, a Gateway of a few lines."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from testbed.fakes.kubernetes_api import KubernetesApiServer, serving_kubernetes
from testbed.fakes.kubernetes_objects import make_gateway, make_http_route, make_pool
from testbed.fakes.web_servers import serving_routes
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_port

FLEET = """
version: 1
sites: [{name: north, kind: edge}]
models: [{name: a}, {name: b}, {name: c}]
services:
  - {name: a, match: [{path: /a*}], models: [{name: a}], policy: static}
  - {name: b, match: [{path: /b*}], models: [{name: b}], policy: static}
  - {name: c, match: [{path: /c*}], models: [{name: c}], policy: static}
discovery:
  api: {server: "API"}
  rules:
    - {name: p, kind: inference_pools, http_routes: true, site: north, model_label: model,
       engine: generic}
steering: {period: 100ms, slow_start: 0s}
envoy: {address: 127.0.0.1, port: ENVOY, health_check: {interval: 100ms, path: /health}}
"""

pytestmark = pytest.mark.timeout(240)


async def answer(request: web.Request) -> web.Response:
    """Answer as a Gateway that knows pools by host, then by path."""
    if request.path == "/health":
        return web.Response(status=200 if request.host == "a.example" else 404)
    if request.host == "a.example":
        return web.Response(text=f"a {request.path_qs}")
    if request.path.startswith("/pool-b/"):
        return web.Response(text=f"b {request.path_qs.removeprefix('/pool-b')}")
    return web.Response(status=404)


@pytest.mark.envoy
async def test_pools_behind_one_gateway_are_known_by_host_or_path(tmp_path: Path) -> None:
    """Each service reaches its own; one that cannot be distinguished is refused, and says so."""
    server, port, file = KubernetesApiServer(), free_port(), tmp_path / "fleet.yaml"
    for name in "abc":
        server.put("inferencepools", make_pool(name, labels={"model": name}))
    routes = (
        make_http_route("a", ["InferencePool/a"], hostnames=["a.example"]),
        make_http_route(
            "b", ["InferencePool/b"], matches=[{"path": {"value": "/pool-b"}}], replaced_prefix="/"
        ),
    )
    for route in routes:
        server.put("httproutes", route)
    async with (
        serving_routes(web.route("*", "/{path:.*}", answer)) as at,
        serving_kubernetes(server),
        aiohttp.ClientSession() as http,
    ):
        server.put("gateways", make_gateway("gateway", {"127.0.0.1": "IPAddress"}, ports={"x": at}))
        text = FLEET.replace("API", server.url).replace("ENVOY", str(port))
        file.write_text(text, encoding="utf-8")
        async with ControlPlaneProcess(file) as control:
            await control.wait_ready()
            async with await EnvoyProcess.start(control.bootstrap()) as envoy:
                await envoy.wait_for(
                    lambda clusters: all(
                        [each.healthy for each in clusters.get(name, ())] == [True] for name in "ab"
                    ),
                    "have both pools",
                )
                said = {}
                async with asyncio.timeout(60):
                    for path in ("/a/x?y=1", "/b/x?y=1"):
                        async with http.get(f"http://127.0.0.1:{port}{path}") as response:
                            said[path] = response.status, await response.text()
                fleet = await control.get_json("/api/v1/fleet")

    assert {"/a/x?y=1": (200, "a /a/x?y=1"), "/b/x?y=1": (200, "b /b/x?y=1")} == said
    (refused,) = fleet["discovery"][0]["refused"]
    assert "c" == refused["name"]
    assert "no HTTPRoute of its Gateway gateway leads to it" in refused["message"]
