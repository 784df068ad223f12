"""Locked doors, tried with real certificates: each stream of each service is held to its site."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.load_stats.v3 import lrs_pb2

from controlplane.resources.file_secrets import ClientTls
from controlplane.wire.cats.envoy.v1 import metrics_pb2
from controlplane.wire.cats.telemetry.v1 import telemetry_pb2
from testbed.fakes.certificates import Authority, KeyPair
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_port

pytestmark = pytest.mark.envoy

FLEET = """
version: 1
sites:
  - {name: north, kind: edge}
  - {name: south, kind: edge}
models: [{name: m}]
services:
  - {name: chat, match: [{path: /v1/chat/completions}], models: [{name: m}]}
instances:
  - {name: a, site: north, address: "127.0.0.1:9001", model: m}
steering: {period: 200ms}
envoy: {address: 127.0.0.1, port: PORT}
server:
  tls: {cert: CERT, key: KEY, client_ca: CA}
"""


@dataclass
class Locked:
    """A control plane that asks for certificates, and who issues them."""

    control: ControlPlaneProcess
    fleet: Path
    authority: Authority
    own: KeyPair
    """The control plane's."""

    def bootstrap(self, pair: KeyPair, *, site: str, envoy_id: str = "e-1") -> str:
        """Write the bootstrap of an Envoy that shows *pair*."""
        tls = ClientTls(str(self.authority.ca), str(pair.cert), str(pair.key))
        return self.control.bootstrap(site=site, envoy_id=envoy_id, tls=tls)

    def channel(self, pair: KeyPair | None) -> Any:
        """Open a gRPC channel that shows *pair*."""
        return grpc.aio.secure_channel(
            f"127.0.0.1:{self.control.xds_port}",
            grpc.ssl_channel_credentials(
                self.authority.ca.read_bytes(),
                pair and pair.key.read_bytes(),
                pair and pair.cert.read_bytes(),
            ),
        )

    async def refused(self, role: str = "envoy") -> float:
        """Return how many clients were refused."""
        _, text = await self.control.get("/metrics")
        prefix = f'cats_clients_refused_total{{role="{role}"}} '
        return sum(float(line.split()[1]) for line in text.splitlines() if line.startswith(prefix))


@asynccontextmanager
async def locked(directory: Path, more: str = "") -> AsyncIterator[Locked]:
    """Run a control plane that asks for certificates."""
    authority = Authority(directory)
    own = authority.issue("127.0.0.1", "localhost")
    fleet = directory / "fleet.yaml"
    text = FLEET.replace("PORT", str(free_port())).replace("CERT", str(own.cert))
    text = text.replace("KEY", str(own.key)).replace("CA}", f"{authority.ca}}}")
    fleet.write_text(text + more, encoding="utf-8")
    async with ControlPlaneProcess(fleet) as control:
        await control.wait_ready()
        yield Locked(control, fleet, authority, own)


def spiffe(site: str, who: str = "envoy/e-1") -> str:
    """Return the SPIFFE id of a client."""
    return f"spiffe://fleet/site/{site}/{who}"


def node(site: str) -> base_pb2.Node:
    """Return the node of an Envoy that claims *site*."""
    made = base_pb2.Node(id="e-1")
    made.metadata["site"] = site
    return made


async def test_an_envoy_of_its_own_site_is_served_and_another_is_not(tmp_path: Path) -> None:
    """The one with the other site's certificate gets no listener; one line and a metric say so."""
    async with locked(tmp_path) as lock:
        good = lock.authority.issue(spiffe("north"))
        bad = lock.authority.issue(spiffe("south"))
        async with await EnvoyProcess.start(lock.bootstrap(good, site="north")) as envoy:
            assert "chat" in await envoy.get("/clusters")
            assert 0 == await lock.refused()
        async with await EnvoyProcess.start(
            lock.bootstrap(bad, site="north"), wait_ready=False
        ) as envoy:
            line = await lock.control.wait_for_event("client rejected")
            async with asyncio.timeout(60):
                while await lock.refused() < 3:  # noqa: ASYNC110 -- it happens elsewhere
                    await asyncio.sleep(0.05)
            assert "chat" not in await envoy.get("/clusters")
            assert "certificate is not for site 'north'" in envoy.log()
        lines = [each for each in lock.control.events() if each["event"] == "client rejected"]

    assert 1 == len(lines)
    assert {
        "claims_site": "north",
        "claims_id": "e-1",
        "certificate": [spiffe("south")],
    }.items() <= (line.items())


METHODS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "ADS": (
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        lambda site: discovery_pb2.DiscoveryRequest(node=node(site), type_url="x"),
    ),
    "delta ADS": (
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        lambda site: discovery_pb2.DeltaDiscoveryRequest(node=node(site), type_url="x"),
    ),
    "EDS": (
        "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints",
        lambda site: discovery_pb2.DiscoveryRequest(node=node(site)),
    ),
    "delta CDS": (
        "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters",
        lambda site: discovery_pb2.DeltaDiscoveryRequest(node=node(site)),
    ),
    "statistics": (
        "/envoy.service.metrics.v3.MetricsService/StreamMetrics",
        lambda site: metrics_pb2.StreamMetricsMessage(
            identifier=metrics_pb2.StreamMetricsMessage.Identifier(
                node=node(site).SerializeToString()
            )
        ),
    ),
    "load reports": (
        "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats",
        lambda site: lrs_pb2.LoadStatsRequest(node=node(site)),
    ),
    "agent": (
        "/cats.telemetry.v1.Telemetry/Report",
        lambda site: telemetry_pb2.ReportBatch(
            agent=telemetry_pb2.Agent(id="a-1", site=site), sequence=1
        ),
    ),
}


async def ending(
    channel: Any, method: str, message: Any, *, patience: float = 60.0
) -> tuple[grpc.StatusCode, str]:
    """Send one message; return how the stream ends, or OK if it goes on for *patience* seconds."""
    call = channel.stream_stream(method)()
    try:
        await call.write(message.SerializeToString())
        await asyncio.wait_for(call.read(), patience)
    except TimeoutError:
        call.cancel()
        return grpc.StatusCode.OK, ""
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    call.cancel()
    return grpc.StatusCode.OK, ""


async def test_every_service_asks(tmp_path: Path) -> None:
    """Anyone who is admitted for its own site is refused for another, on each stream again."""
    async with locked(tmp_path) as lock:
        envoy = lock.authority.issue(spiffe("south"))
        agent = lock.authority.issue(spiffe("south", "agent/a-1"))
        for method, make in METHODS.values():
            pair = agent if "Telemetry" in method else envoy
            # Of the same site and id, so that the role alone is wrong.
            other = lock.authority.issue(
                spiffe("south", "envoy/a-1" if pair is agent else "agent/e-1")
            )
            async with lock.channel(pair) as channel, lock.channel(other) as wrong_role:
                code, text = await ending(channel, method, make("north"))
                assert (
                    grpc.StatusCode.PERMISSION_DENIED,
                    "the certificate is not for site 'north'",
                ) == (code, text), method
                code, text = await ending(channel, method, make("south"), patience=1.0)
                assert (grpc.StatusCode.OK, "") == (code, text), method
                code, text = await ending(wrong_role, method, make("south"))
                assert grpc.StatusCode.PERMISSION_DENIED == code, method
        assert 2 == await lock.refused("agent")


async def test_who_has_what_is_reported_to_observers_alone(tmp_path: Path) -> None:
    """An Envoy's certificate does not open the books of the others."""
    method = "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus"
    observer = '[{san: "{id}.people.example", role: observer}]'
    async with locked(tmp_path, f"  identities: {observer}\n") as lock:
        codes = {}
        for name in ("envoy.north.example", "me.people.example"):
            async with lock.channel(lock.authority.issue(name)) as channel:
                call = channel.unary_unary(method)(b"")
                codes[name] = await call.code()

    assert {
        "envoy.north.example": grpc.StatusCode.PERMISSION_DENIED,
        "me.people.example": grpc.StatusCode.OK,
    } == codes


@pytest.mark.parametrize("who", ["no one", "a stranger", "expired"])
async def test_the_handshake_refuses(tmp_path: Path, who: str) -> None:
    """No certificate, another authority's, one of yesterday: no stream at all."""
    async with locked(tmp_path) as lock:
        pairs: dict[str, Callable[[], KeyPair | None]] = {
            "no one": lambda: None,
            "a stranger": lambda: Authority(tmp_path, name="other").issue(spiffe("north")),
            "expired": lambda: lock.authority.issue(spiffe("north"), lasts=-60.0),
        }
        pair = pairs[who]()
        method, make = METHODS["ADS"]
        async with lock.channel(pair) as channel:
            code, _ = await ending(channel, method, make("north"))

    assert grpc.StatusCode.UNAVAILABLE == code


async def test_rotated_files_are_taken_for_the_next_connection(tmp_path: Path) -> None:
    """Its own certificate, and the authority that signs the clients'; the old ones are out then."""
    async with locked(tmp_path) as lock:
        method, make = METHODS["ADS"]
        old = lock.authority.issue(spiffe("south"))
        async with lock.channel(old) as kept:
            assert (
                grpc.StatusCode.OK == (await ending(kept, method, make("south"), patience=1.0))[0]
            )
            successor = Authority(tmp_path, name="successor")
            successor.issue("127.0.0.1", "localhost", over=lock.own)
            first = lock.authority.ca
            first.write_bytes(successor.ca.read_bytes())

            fresh = lock.channel(successor.issue(spiffe("south")))
            stale = lock.channel(old)
            assert (
                grpc.StatusCode.OK == (await ending(fresh, method, make("south"), patience=1.0))[0]
            )
            assert grpc.StatusCode.UNAVAILABLE == (await ending(stale, method, make("south")))[0]
            # What is open stays open: a rotation must not reconnect a fleet.
            assert (
                grpc.StatusCode.OK == (await ending(kept, method, make("south"), patience=1.0))[0]
            )
            await fresh.close()
            await stale.close()
