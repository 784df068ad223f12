"""What is discovered by a DNS name is resolved, and steered to, as what has an address."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from testbed.fakes.kubernetes_api import KubernetesApiServer, serving_kubernetes
from testbed.fakes.kubernetes_objects import make_gateway, make_pool, make_slice
from testbed.fakes.upstreams import Origin
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_port
from tests.features.test_discovery import wait_for_answers, wait_for_endpoints

FLEET = """
version: 1
sites: [{name: north, kind: edge}]
models: [{name: m}]
services:
  - {name: chat, match: [{path: /chat}], models: [{name: m}], policy: static}
discovery:
  api: {server: "API"}
  rules:
    - {name: names, kind: endpoint_slices, service: vllm, site: north, model: m}
    - {name: imports, kind: inference_pool_imports, site: north, model: m, engine: generic}
steering: {period: 100ms, slow_start: 0s}
envoy: {address: 127.0.0.1, port: ENVOY, health_check: {interval: 100ms}}
"""

pytestmark = pytest.mark.timeout(240)


@pytest.mark.envoy
async def test_slices_of_names_and_imports_behind_named_gateways_serve(tmp_path: Path) -> None:
    """Both come while running; an Envoy gets addresses, and its requests arrive."""
    server, port, file = KubernetesApiServer(), free_port(), tmp_path / "fleet.yaml"
    async with (
        serving_kubernetes(server),
        Origin("a") as a,
        Origin("b") as b,
        aiohttp.ClientSession() as http,
    ):
        text = FLEET.replace("API", server.url).replace("ENVOY", str(port))
        file.write_text(text, encoding="utf-8")
        named = make_slice(
            "s", {"pod-0": "localhost"}, family="FQDN", ports={"http": a.port}, zone="z"
        )  # fmt: skip
        server.put("endpointslices", named)
        async with ControlPlaneProcess(file) as control:
            await control.wait_ready()
            async with await EnvoyProcess.start(control.bootstrap()) as envoy:
                await wait_for_endpoints(envoy, [a], "have the slice's name resolved")
                server.put(
                    "gateways",
                    make_gateway("gateway", {"localhost": "Hostname"}, ports={"x": b.port}),
                )
                status = make_pool("p").pop("status")
                server.put(
                    "inferencepoolimports",
                    {
                        "metadata": {"name": "p", "namespace": "default"},
                        "status": {"controllers": [{"name": "x/y", **status}]},
                    },
                )
                await wait_for_endpoints(envoy, [a, b], "have the import behind its Gateway")
                await wait_for_answers(http, port, {"a", "b"})
