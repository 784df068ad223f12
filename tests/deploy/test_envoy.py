"""The bootstraps under deploy/, on a real Envoy with real certificates that rotate."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from controlplane.resources.file_secrets import ClientTls, build_secrets
from testbed.fakes.certificates import Authority
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess, validate
from testbed.processes.ports import free_port

pytestmark = pytest.mark.envoy

DEPLOY = Path(__file__).parents[2] / "deploy"

FLEET = """
version: 1
sites: [{name: north, kind: edge}]
models: [{name: m}]
services: [{name: chat, match: [{path: /v1/chat/completions}], models: [{name: m}]}]
instances: [{name: a, site: north, address: "127.0.0.1:9001", model: m}]
envoy: {address: 127.0.0.1, port: PORT}
steering: {period: 200ms}
server: {tls: {cert: CERT, key: KEY, client_ca: AUTHORITY}}
"""


@pytest.mark.parametrize(
    "place", ["envoy", "kubernetes/components/gateway", "kubernetes/components/sidecar"]
)
async def test_a_stock_envoy_accepts_it(place: str, tmp_path: Path) -> None:
    """With its files moved to where this test may write."""
    pair = Authority(tmp_path).issue("client.example")
    for number, name in enumerate(("tls.crt", "tls.key", "ca.crt")):
        source = (pair.cert, pair.key, tmp_path / "ca.pem")[number]
        (tmp_path / name).write_bytes(source.read_bytes())
    texts = {}
    for name in ("envoy.yaml", "own.yaml", "ca.yaml"):
        text = (DEPLOY / place / name).read_text(encoding="utf-8")
        for mounted in (
            "/etc/envoy/tls",
            "/etc/envoy/configuration",
            "/etc/cats/tls",
            "/etc/cats/envoy",
        ):
            text = text.replace(mounted, str(tmp_path))
        (tmp_path / name).write_text(text, encoding="utf-8")
        texts[name] = text

    assert str(tmp_path) in texts["envoy.yaml"]
    assert "" == await validate(texts["envoy.yaml"])


async def test_certificates_rotate_while_an_envoy_runs(tmp_path: Path) -> None:
    """It takes the new ones, and shows them when it connects again; nothing was restarted."""
    authority = Authority(tmp_path)
    own = authority.issue("127.0.0.1")
    text = FLEET.replace("PORT", str(free_port())).replace("CERT", str(own.cert))
    text = text.replace("KEY", str(own.key)).replace("AUTHORITY", str(authority.ca))
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(text, encoding="utf-8")
    name = "spiffe://fleet/site/north/envoy/e-1"
    pair = authority.issue(name)
    files = ClientTls(str(authority.ca), str(pair.cert), str(pair.key), secrets=str(tmp_path))
    for file, content in build_secrets(files).items():
        (tmp_path / file).write_text(content, encoding="utf-8")
    async with ControlPlaneProcess(fleet) as control:
        await control.wait_ready()
        async with await EnvoyProcess.start(control.bootstrap(tls=files)) as envoy:
            before = await serials(envoy)
            authority.issue(name, over=pair)
            async with asyncio.timeout(60):
                while (after := await serials(envoy)) == before:  # noqa: ASYNC110 -- elsewhere
                    await asyncio.sleep(0.05)
            document = await control.get_json("/api/v1/envoys")

    assert 1 == len(before) == len(after)
    assert ["e-1"] == [each["id"] for each in document["envoys"]]


async def serials(envoy: EnvoyProcess) -> set[str]:
    """Return the serial numbers of the certificates that an Envoy shows."""
    document = json.loads(await envoy.get("/certs"))
    return {
        chain["serial_number"]
        for certificate in document["certificates"]
        for chain in certificate["cert_chain"]
    }
