"""TLS from Envoys to instances: who is let in on either side, and rotated certificates."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.config import InstanceTls
from controlplane.resources.build import SnapshotBuilder
from controlplane.resources.file_secrets import build_instance_secrets
from testbed.fakes.certificates import Authority, KeyPair, serial_number, server_context
from testbed.fakes.upstreams import Origin
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoy_mesh import Mesh, running_mesh
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_port

pytestmark = pytest.mark.envoy

PATIENCE = 60.0
NAME = "spiffe://fleet/instance/"


class Trust:
    """An authority for instances and sidecars, the sidecar's own pair, and the setting."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.pair = self.authority.issue("spiffe://fleet/site/north/envoy/envoy-1")
        self.settings: dict[str, Any] = {
            "ca": str(self.authority.ca),
            "cert": str(self.pair.cert),
            "key": str(self.pair.key),
            "names": [f"{NAME}*"],
            "secrets": str(directory),
        }
        for name, text in build_instance_secrets(InstanceTls(**self.settings)).items():
            (directory / name).write_text(text, encoding="utf-8")

    def instance(self, name: str, *, by: Authority | None = None) -> KeyPair:
        """Issue an instance's certificate."""
        return (by or self.authority).issue(f"{NAME}{name}")

    @property
    def envoy(self) -> dict[str, Any]:
        """Return the section of ``fleet.yaml``."""
        return {"instance_tls": self.settings, "health_check": {"interval": "200ms"}}


async def shown_next(mesh: Mesh, name: str, number: int) -> None:
    """Send requests until the instance was shown the certificate *number*; none may fail."""
    async with asyncio.timeout(PATIENCE):
        while mesh.origins[name].shown[-1:] != [number]:
            assert 200 == (await mesh.request()).status
            await asyncio.sleep(0.1)


async def test_the_certificate_is_shown_and_its_successor_without_a_restart(tmp_path: Path) -> None:
    """An instance that asks for one serves, and the next handshake shows the replaced file."""
    trust = Trust(tmp_path)
    context = server_context(trust.instance("a"), clients_of=trust.authority.ca)
    async with running_mesh(
        {"a": "north"}, split={"chat": {"a": 1}}, envoy=trust.envoy, tls={"a": context}
    ) as mesh:
        mesh.origins["a"].keeps = False
        await shown_next(mesh, "a", first := serial_number(trust.pair))
        trust.authority.issue("spiffe://fleet/site/north/envoy/envoy-1", over=trust.pair)
        await shown_next(mesh, "a", second := serial_number(trust.pair))

        assert [first, second] == mesh.origins["a"].shown
        assert "TLSv1.2" == mesh.origins["a"].tls_version
        assert "LIVE" == (await mesh.envoy.get("/ready")).strip()


async def test_an_instance_of_another_authority_gets_nothing(tmp_path: Path) -> None:
    """Neither does one whose name is not an instance's, such as a sidecar; the others serve."""
    trust = Trust(tmp_path)
    stranger = trust.instance("b", by=Authority(tmp_path, name="other"))
    contexts = {
        "a": server_context(trust.instance("a"), clients_of=trust.authority.ca),
        "b": server_context(stranger, clients_of=trust.authority.ca),
        "c": server_context(trust.pair, clients_of=trust.authority.ca),
    }
    places = dict.fromkeys(contexts, "north")
    async with running_mesh(
        places, split={"chat": dict.fromkeys(contexts, 1)}, envoy=trust.envoy, tls=contexts,
        patient=False,
    ) as mesh:  # fmt: skip
        await mesh.envoy.wait_for(
            lambda clusters: [each.healthy for each in clusters.get("chat", ())].count(True) == 1,
            "leave out the two",
        )
        assert {"a": 50} == await mesh.answers(50)
        assert [] == mesh.origins["b"].shown + mesh.origins["c"].shown
        assert 0 == mesh.origins["b"].requests + mesh.origins["c"].requests
        for reason in ("fail_verify_error", "fail_verify_san"):
            await mesh.envoy.wait_for_stat(f"cluster.chat.ssl.{reason}", lambda count: count > 0)


async def test_why_nobody_serves_stands_in_the_answer(tmp_path: Path) -> None:
    """Where an instance with a foreign certificate is the only one, clients are reported."""
    trust = Trust(tmp_path)
    context = server_context(trust.instance("a", by=Authority(tmp_path, name="other")))
    async with running_mesh(
        {"a": "north"}, split={"chat": {"a": 1}}, envoy=trust.envoy | {"health_check": None},
        tls={"a": context}, patient=False,
    ) as mesh:  # fmt: skip
        await mesh.envoy.wait_for(lambda clusters: len(clusters.get("chat", ())) == 1, "know it")
        answer = await mesh.request()

    assert 503 == answer.status
    assert "CERTIFICATE_VERIFY_FAILED" in answer.text
    assert 0 == mesh.origins["a"].requests


FLEET = """
version: 1
sites: [{name: north, kind: edge}]
models: [{name: m}]
services: [{name: chat, match: [{path: /v1/chat}], models: [{name: m}]}]
instances:
  - {name: a, site: north, address: "A", model: m}
  - {name: b, site: north, address: "B", model: m}
steering: {policy: static, period: 200ms}
envoy:
  address: 127.0.0.1
  port: PORT
  load_period: 200ms
  health_check: {interval: 200ms}
  instance_tls: TLS
"""


async def test_the_control_plane_reports_why_an_instance_gets_nothing(tmp_path: Path) -> None:
    """One line with a remedy, and a metric."""
    trust = Trust(tmp_path)
    good = server_context(trust.instance("a"), clients_of=trust.authority.ca)
    bad = server_context(trust.instance("b", by=Authority(tmp_path, name="other")))
    async with Origin("a", tls=good) as a, Origin("b", tls=bad) as b:
        text = FLEET.replace('"A"', f'"{a.address}"').replace("TLS", json.dumps(trust.settings))
        text = text.replace('"B"', f'"{b.address}"').replace("PORT", str(free_port()))
        fleet = tmp_path / "fleet.yaml"
        fleet.write_text(text, encoding="utf-8")
        async with ControlPlaneProcess(fleet) as control:
            await control.wait_ready()
            async with await EnvoyProcess.start(control.bootstrap()):
                line = await control.wait_for_event("TLS handshake with instance failed")
                _, metrics = await control.get("/metrics")

    reported = {"service": "chat", "site": "north", "envoy": "e-1", "reason": "authority"}
    assert reported.items() <= line.items()
    assert "envoy.instance_tls.ca" in line["remedy"]
    metric = 'cats_instance_tls_failures_total{reason="authority",service="chat"}'
    assert any(each.startswith(metric) for each in metrics.splitlines())
    assert (0, 0) == (a.requests, b.requests)


async def test_an_instance_may_stay_in_clear_text(tmp_path: Path) -> None:
    """Which its line says; so a fleet changes over one by one."""
    trust = Trust(tmp_path)
    context = server_context(trust.instance("a"), clients_of=trust.authority.ca)
    async with running_mesh(
        {"a": "north", "b": "cloud"}, split={"chat": {"a": 1, "b": 1}}, envoy=trust.envoy,
        tls={"a": context}, plain=["b"],
    ) as mesh:  # fmt: skip
        assert {"a", "b"} == set(await mesh.answers(20))


async def test_an_envoy_without_the_files_goes_on_as_before(tmp_path: Path) -> None:
    """It refuses the clusters by the file's name, which the control plane counts, and serves."""
    async with running_mesh({"a": "north"}, split={"chat": {"a": 1}}) as mesh:
        tls = InstanceTls(ca="/ca.crt", names=("x.example",), secrets=str(tmp_path / "missing"))
        changed = mesh.config.envoy.model_copy(update={"instance_tls": tls})
        mesh.builder = SnapshotBuilder(mesh.config.model_copy(update={"envoy": changed}))
        mesh.publish({"chat": {"a": 1}})
        await mesh.envoy.wait_for_stat("cluster_manager.cds.update_rejected", lambda n: n > 0)

        assert "instances-ca.yaml" in mesh.envoy.log()
        assert {"a": 20} == await mesh.answers(20)


async def test_an_instance_that_cannot_be_spoken_to_loses_no_request(tmp_path: Path) -> None:
    """One lets in no one of this authority, one speaks no TLS: checks find both, and one answers.

    The first closes before Envoy is done, which therefore stays with TLS 1.2.
    """
    trust = Trust(tmp_path)
    other = Authority(tmp_path, name="other")
    contexts = {
        "a": server_context(trust.instance("a"), clients_of=trust.authority.ca),
        "b": server_context(trust.instance("b"), clients_of=other.ca),
    }
    places = dict.fromkeys("abc", "north")
    async with running_mesh(
        places, split={"chat": dict.fromkeys("abc", 1)}, envoy=trust.envoy, tls=contexts,
        patient=False,
    ) as mesh:  # fmt: skip
        await mesh.envoy.wait_for_stat("cluster.chat.ssl.connection_error", lambda n: n > 0)
        await mesh.envoy.wait_for(
            lambda clusters: [each.healthy for each in clusters["chat"]].count(True) == 1,
            "take one of three",
        )
        assert {"a": 50} == await mesh.answers(50)
        assert (0, 0) == (mesh.origins["b"].requests, mesh.origins["c"].requests)
