"""The whole control plane in process: real ports, real gRPC, real files, no Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import structlog
from envoy.config.endpoint.v3 import endpoint_pb2

from controlplane.app.serving import Running, running
from controlplane.app.settings import Settings
from controlplane.errors import ConfigError, ReportError, StartError
from controlplane.model import InstanceReport, Signal, Source
from controlplane.wire.externalscaler import externalscaler_pb2 as pb
from controlplane.xds.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from testbed.background import until
from testbed.fakes.certificates import Authority
from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.instances import EmulatedInstance
from testbed.fakes.xds import XdsClient
from testbed.processes.ports import free_port
from testbed.tools import debug_updates

PATIENCE = 60.0
"""Seconds after which a condition that should hold fails the test."""

FLEET = """
version: 1
sites:
  - {name: north, kind: edge}
  - {name: cloud, kind: cloud}
models: [{name: m}]
services:
  - {name: chat, match: [{path: /v1/chat/completions}], models: [{name: m}]}
instances:
  - {name: a, site: north, address: "127.0.0.1:9001", model: m}
  - {name: b, site: cloud, address: "127.0.0.1:9002", model: m}
steering: {period: PERIOD, expiry: 3h, policy: capacity}
"""


class Whole:
    """A running control plane, its configuration file and a client of its admin port."""

    def __init__(self, running: Running, file: Path, http: aiohttp.ClientSession) -> None:
        self.control = running.control
        self.xds = f"127.0.0.1:{running.xds_port}"
        self.admin_port = running.admin_port
        self.file = file
        self._http = http

    async def get(self, path: str) -> tuple[int, str]:
        """Ask the admin port."""
        async with self._http.get(path) as answer:
            return answer.status, await answer.text()

    async def get_json(self, path: str) -> Any:
        """Ask the admin port for a document."""
        status, text = await self.get(path)
        assert 200 == status, text
        return json.loads(text)

    async def wait_for(self, path: str, condition: Callable[[Any], bool]) -> Any:
        """Ask until *condition* holds of the document."""
        async with asyncio.timeout(PATIENCE):
            while True:
                document = await self.get_json(path)
                if condition(document):
                    return document
                await asyncio.sleep(0.01)

    async def wait_for_metric(self, name: str, least: float, **labels: str) -> None:
        """Wait until a sample is *least* or more."""
        registry = self.control.metrics.registry
        async with asyncio.timeout(PATIENCE):
            while True:
                if (registry.get_sample_value(name, labels) or 0.0) >= least:
                    return
                await asyncio.sleep(0.01)

    async def wait_ready(self) -> None:
        """Wait until a snapshot is served."""
        await self.wait_for_metric("cats_ready", 1.0)
        assert 200 == (await self.get("/readyz"))[0]

    def edit(self, old: str, new: str) -> None:
        """Change the configuration file."""
        text = self.file.read_text(encoding="utf-8")
        assert old in text
        self.file.write_text(text.replace(old, new), encoding="utf-8")


@contextlib.asynccontextmanager
async def whole(
    directory: Path, *, period: str = "100ms", fleet: str = FLEET, **options: Any
) -> AsyncIterator[Whole]:
    """Run a control plane on free ports."""
    file = directory / "fleet.yaml"
    file.write_text(fleet.replace("PERIOD", period), encoding="utf-8")
    defaults = {"xds": ("127.0.0.1", 0), "admin": ("127.0.0.1", 0), "settle": 0.0}
    settings = Settings(file, **{**defaults, **options})
    async with (
        running(settings) as run,
        aiohttp.ClientSession(f"http://127.0.0.1:{run.admin_port}") as http,
    ):
        yield Whole(run, file, http)


@contextlib.asynccontextmanager
async def subscribed(control: Whole, *, delta: bool) -> AsyncIterator[XdsClient]:
    """Return an open ADS stream of a client at the site north."""
    async with grpc.aio.insecure_channel(control.xds) as channel:
        client = XdsClient(channel, delta=delta)
        yield client
        client.cancel()


def weights(response: Any) -> dict[str, int]:
    """Read instance -> weight from the first endpoints in a response of either mode."""
    (first,) = response.resources
    message = endpoint_pb2.ClusterLoadAssignment()
    getattr(first, "resource", first).Unpack(message)
    return {
        endpoint.metadata.filter_metadata["cats"]["instance"]: endpoint.load_balancing_weight.value
        for locality in message.endpoints
        for endpoint in locality.lb_endpoints
    }


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
async def test_a_client_gets_everything_it_needs_to_serve(tmp_path: Path, *, delta: bool) -> None:
    """Cluster, weighted endpoints, listener and routes, in both modes over one port."""
    async with whole(tmp_path) as control, contextlib.AsyncExitStack() as stack:
        await control.wait_ready()
        client = await stack.enter_async_context(subscribed(control, delta=delta))
        counts = {}
        for type_url, names in (
            (CLUSTER, []),
            (ENDPOINT, ["chat"]),
            (LISTENER, []),
            (ROUTE, ["inference"]),
        ):
            await client.request(type_url, names)
            response = await client.response()
            counts[response.type_url] = len(response.resources)
            if type_url == ENDPOINT:
                sent = weights(response)
        plan = await control.get_json("/api/v1/plan")

    assert {CLUSTER: 1, ENDPOINT: 1, LISTENER: 1, ROUTE: 1} == counts
    allocations = plan["services"]["chat"]["from"]["north"]
    assert {item["instance"]: item["weight"] for item in allocations} == sent
    assert sent["a"] > 0 < sent["b"]


async def test_autoscalers_and_batch_systems_hear_the_same_of_a_model_at_a_site(
    tmp_path: Path,
) -> None:
    """KEDA's protocol, Prometheus and the API say one number."""
    async with whole(tmp_path) as control:
        await control.wait_ready()
        document = await control.get_json("/api/v1/room")
        group = document["groups"][0]
        metadata = {"site": group["site"], "model": group["model"]}
        request = pb.GetMetricsRequest(scaledObjectRef=pb.ScaledObjectRef(scalerMetadata=metadata))
        async with grpc.aio.insecure_channel(control.xds) as channel:
            method = channel.unary_unary("/externalscaler.ExternalScaler/GetMetrics")
            answer = pb.GetMetricsResponse.FromString(await method(request.SerializeToString()))
        _, metrics = await control.get("/metrics")

    wanted = group["replicas"]["wanted"]
    assert answer.metricValues[0].metricValue == wanted
    labels = f'model="{group["model"]}",site="{group["site"]}"'
    assert f"cats_replicas_wanted{{{labels}}} {wanted:.1f}" in metrics


async def test_nobody_is_answered_before_the_first_plan(tmp_path: Path) -> None:
    """An empty answer would wipe a running Envoy."""
    async with whole(tmp_path, settle=600.0) as control:
        async with subscribed(control, delta=True) as client:
            # Nothing is written: a write that meets the refusal would hide its status.
            code, _ = await client.status()
        status, _ = await control.get("/readyz")
        plan, _ = await control.get("/api/v1/plan")
        alive, _ = await control.get("/healthz")

    assert grpc.StatusCode.UNAVAILABLE == code
    assert (503, 503, 200) == (status, plan, alive)


@pytest.mark.parametrize("moved", [False, True], ids=["same fleet", "an instance moved"])
async def test_a_saved_plan_of_another_fleet_is_not_restored(
    tmp_path: Path, *, moved: bool
) -> None:
    """It names an instance where the file has none; one of the same fleet is served at once."""
    state = tmp_path / "state"
    async with whole(tmp_path, state_dir=state) as control:
        await control.wait_ready()
        await until((state / "plan.json").exists)
    fleet = FLEET.replace("name: a, site: north", "name: a, site: cloud") if moved else FLEET
    with structlog.testing.capture_logs() as lines:
        async with whole(tmp_path, fleet=fleet, state_dir=state, settle=600.0) as control:
            status, _ = await control.get("/readyz")

    ignored = "saved plan does not match the configuration; ignored"
    assert (503 if moved else 200) == status
    assert moved == (ignored in {line["event"] for line in lines})


async def test_a_changed_file_reaches_the_clients_at_once(tmp_path: Path) -> None:
    """A drain is pushed to an open stream long before the next period."""
    async with whole(tmp_path, period="1h") as control:
        await control.wait_ready()
        async with subscribed(control, delta=True) as client:
            await client.request(ENDPOINT, ["chat"])
            first = await client.response()
            await client.request(ENDPOINT, nonce=first.nonce)
            control.edit("steering:", "overrides: [{instance: a, drain: true}]\nsteering:")
            second = await client.response()
        status = await control.get_json("/api/v1/config")

    assert {"a", "b"} == weights(first).keys()
    assert {"b"} == weights(second).keys()
    assert status["ok"]


async def test_a_wrong_file_is_reported_everywhere_and_changes_nothing(tmp_path: Path) -> None:
    """Log, metric and API name the fault's place; the last good one serves on."""
    async with whole(tmp_path) as control:
        await control.wait_ready()
        before = await control.get_json("/api/v1/plan")
        with structlog.testing.capture_logs() as logs:
            control.edit("site: north", "site: nroth")
            status = await control.wait_for("/api/v1/config", lambda status: not status["ok"])
        fleet = await control.get_json("/api/v1/fleet")
        _, metrics = await control.get("/metrics")
        after = await control.get_json("/api/v1/plan")
        control.edit("site: nroth", "site: north")
        fixed = await control.wait_for("/api/v1/config", lambda status: status["ok"])

    (fault,) = status["faults"]
    assert fault.startswith(f"{control.file}:10:")
    assert [fault] == fleet["config"]["faults"]
    assert [fault] == [line["fault"] for line in logs if line["event"] == "configuration rejected"]
    assert 'cats_config_reloads_total{outcome="refused"} 1.0' in metrics
    assert "cats_config_ok 0.0" in metrics
    assert before["version"] == after["version"]
    assert fixed["version"] == status["version"]


async def test_a_new_service_and_site_take_effect_without_a_restart(tmp_path: Path) -> None:
    """Fleet, steering and resources all follow."""
    async with whole(tmp_path, period="1h") as control:
        await control.wait_ready()
        control.edit(
            "  - {name: cloud, kind: cloud}",
            "  - {name: cloud, kind: cloud}\n  - {name: south, kind: edge}",
        )
        plan = await control.wait_for(
            "/api/v1/plan", lambda plan: "south" in plan["services"]["chat"]["from"]
        )
        fleet = await control.get_json("/api/v1/fleet")

    assert {"north", "cloud", "south"} == plan["services"]["chat"]["from"].keys()
    assert ["north", "cloud", "south"] == [site["name"] for site in fleet["sites"]]


async def test_an_instance_that_is_not_ready_is_left_at_once(tmp_path: Path) -> None:
    """What an instance says of itself does not wait for the next period."""
    async with whole(tmp_path, period="1h") as control:
        await control.wait_ready()

        def report(*, ready: bool) -> None:
            control.control.receive(
                InstanceReport("a", Source.AGENT, time.monotonic(), {Signal.RUNNING: 0.0}, ready)
            )

        report(ready=True)
        report(ready=False)
        plan = await control.wait_for(
            "/api/v1/plan",
            lambda plan: (
                ["b"] == [i["instance"] for i in plan["services"]["chat"]["from"]["north"]]
            ),
        )
        explanation = await control.get_json("/api/v1/explain?service=chat&from=north")

    assert ["b"] == [item["instance"] for item in plan["services"]["chat"]["from"]["cloud"]]
    assert ["a"] == [item["instance"] for item in explanation["excluded"]]


async def test_a_refused_report_is_counted_and_its_sender_gets_the_reason(tmp_path: Path) -> None:
    """A name that the configuration lacks never becomes state."""
    async with whole(tmp_path) as control:
        with pytest.raises(ReportError, match="'ghost'"):
            control.control.receive(
                InstanceReport("ghost", Source.AGENT, time.monotonic(), {Signal.RUNNING: 1.0})
            )
        _, metrics = await control.get("/metrics")

    assert 'cats_reports_total{outcome="refused",source="agent"} 1.0' in metrics


async def test_an_instance_is_scraped_and_shown(tmp_path: Path) -> None:
    """A real HTTP engine's metrics reach the API with source and age."""
    async with EmulatedInstance(InstanceSettings()) as engine:
        fleet = FLEET.replace(
            '"127.0.0.1:9001", model: m}',
            f'"{engine.address}", model: m, engine: vllm,'
            f' scrape: {{url: "http://{engine.address}/metrics", period: 50ms}}}}',
        )
        async with whole(tmp_path, fleet=fleet) as control:
            await control.wait_ready()
            fleet_now = await control.wait_for(
                "/api/v1/fleet", lambda document: document["instances"][0]["signals"]
            )

    signals = {item["name"]: item["signals"] for item in fleet_now["instances"]}
    assert "scrape" == signals["a"]["running"]["source"]
    assert 0 == signals["a"]["running"]["value"]


async def test_the_api_says_who_acknowledged_what(tmp_path: Path) -> None:
    """An acknowledgement and a refusal show by client, with the refusal's text."""
    async with whole(tmp_path, period="1h") as control:
        await control.wait_ready()
        async with subscribed(control, delta=True) as client:
            await client.request(ENDPOINT, ["chat"])
            response = await client.response()
            before = await control.get_json("/api/v1/explain?service=chat&from=north")
            await client.request(ENDPOINT, nonce=response.nonce)
            after = await control.wait_for(
                "/api/v1/explain?service=chat&from=north",
                lambda document: document["envoys"][0]["acknowledged"],
            )
            await client.request(CLUSTER)
            response = await client.response()
            await client.request(CLUSTER, nonce=response.nonce, refusal="bad cluster")
            envoys = await control.wait_for(
                "/api/v1/envoys",
                lambda document: document["envoys"][0]["types"]["Cluster"]["refused"],
            )
            _, metrics = await control.get("/metrics")

    assert [("client-1", False)] == [(e["id"], e["acknowledged"]) for e in before["envoys"]]
    assert [("client-1", True)] == [(e["id"], e["acknowledged"]) for e in after["envoys"]]
    (envoy,) = envoys["envoys"]
    assert ("client-1", "north", "delta") == (envoy["id"], envoy["site"], envoy["mode"])
    assert "bad cluster" == envoy["types"]["Cluster"]["refusal"]
    endpoints = envoy["types"]["ClusterLoadAssignment"]
    assert endpoints["sent"] == endpoints["acknowledged"]
    assert 'cats_xds_nacks_total{type="Cluster"} 1.0' in metrics
    assert 'cats_envoys{mode="delta",site="north"} 1.0' in metrics


async def test_a_steady_fleet_is_pushed_nothing(tmp_path: Path) -> None:
    """Cycles without news keep the version, and the stream stays silent."""
    async with whole(tmp_path, period="20ms") as control:
        await control.wait_ready()
        first = await control.get_json("/api/v1/plan")
        async with subscribed(control, delta=True) as client:
            await client.request(ENDPOINT, ["chat"])
            await client.response()
            await control.wait_for_metric("cats_cycle_seconds_count", 10.0)
            pushes = control.control.metrics.registry.get_sample_value(
                "cats_xds_pushes_total", {"type": "ClusterLoadAssignment"}
            )
        last = await control.get_json("/api/v1/plan")

    assert first["version"] == last["version"]
    assert first["at"] < last["at"]
    assert 1.0 == pushes


async def test_a_disk_that_is_full_costs_a_line_not_the_service(tmp_path: Path) -> None:
    """The plan is served; the log says what to fix."""
    (tmp_path / "file").touch()
    with structlog.testing.capture_logs() as logs:
        async with whole(tmp_path, state_dir=tmp_path / "file" / "state") as control:
            await control.wait_ready()
            await control.wait_for_metric("cats_state_saves_total", 1.0, outcome="failed")

    (line,) = [line for line in logs if line["event"] == "plan not saved; serving continues"]
    assert "--state-dir" in line["remedy"]


async def test_only_a_conformance_server_has_its_weights_set(tmp_path: Path) -> None:
    """The admin port of ``cats serve`` has no such path."""
    async with whole(tmp_path) as control:
        off, _ = await control.get("/debug/update?weight=7")
    async with whole(tmp_path, extend=debug_updates.extend) as control:
        await control.wait_ready()
        on, _ = await control.get("/debug/update?weight=7")
        async with subscribed(control, delta=False) as client:
            await client.request(ENDPOINT, ["chat"])
            response = await client.response()

    assert (404, 200) == (off, on)
    assert {"a": 7, "b": 7} == weights(response)


@pytest.mark.parametrize("door", ["xds", "admin"])
async def test_a_taken_port_names_the_option(tmp_path: Path, door: str) -> None:
    """The message is one line, and everything that was opened is closed again."""
    async with whole(tmp_path) as control:
        taken = int(control.xds.rpartition(":")[2])
        settings = Settings(
            control.file,
            xds=("127.0.0.1", taken if door == "xds" else 0),
            admin=("127.0.0.1", taken if door == "admin" else 0),
        )
        with pytest.raises(StartError, match=f"^--{door} 127.0.0.1:{taken}: cannot listen there"):
            async with running(settings):
                pass


async def test_the_admin_port_off_loopback_asks_who_is_there(tmp_path: Path) -> None:
    """Without anything to ask for it does not open; with a token it lets its holder in."""
    with pytest.raises(StartError, match=r"^--admin 0\.0\.0\.0:0: .*token_file"):
        async with whole(tmp_path, admin=("0.0.0.0", 0)):
            pass
    tokens = tmp_path / "tokens"
    fleet = FLEET + f"server: {{admin: {{token_file: {tokens}}}}}\n"
    with pytest.raises(StartError, match=r"token_file: .*No such file"):
        async with whole(tmp_path, admin=("0.0.0.0", 0), fleet=fleet):
            pass
    tokens.write_text("0123456789abcdef\n", encoding="utf-8")
    async with whole(tmp_path, admin=("0.0.0.0", 0), fleet=fleet) as control:
        await control.wait_for_metric("cats_ready", 1.0)
        answers = [(await control.get(path))[0] for path in ("/readyz", "/metrics")]

    assert [200, 401] == answers


async def test_the_admin_port_takes_a_certificate_for_a_token(tmp_path: Path) -> None:
    """HTTPS; who shows none that it knows may ask for health only."""
    authority = Authority(tmp_path)
    own, client = authority.issue("localhost"), authority.issue("spiffe://fleet/prometheus")
    tls = f"{{cert: {own.cert}, key: {own.key}, client_ca: {authority.ca}}}"
    trusting = ssl.create_default_context(cafile=str(authority.ca))
    shown = ssl.create_default_context(cafile=str(authority.ca))
    shown.load_cert_chain(client.cert, client.key)
    fleet = FLEET + f"server: {{admin: {{tls: {tls}}}}}\n"
    async with whole(tmp_path, admin=("0.0.0.0", 0), fleet=fleet) as control:
        await control.wait_for_metric("cats_ready", 1.0)
        answers = []
        for context in (trusting, shown):
            async with aiohttp.ClientSession(f"https://localhost:{control.admin_port}") as http:
                for path in ("/readyz", "/metrics"):
                    async with http.get(path, ssl=context) as answer:
                        answers.append(answer.status)

    assert [200, 401, 200, 200] == answers


async def test_a_bus_that_is_away_delays_only_who_has_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the others first, and then decides for itself rather than serve nothing."""
    monkeypatch.setattr("controlplane.controller.replication.FIRST_LOOK", 0.1)
    monkeypatch.setattr("controlplane.bus.leased.ALONE_AFTER", 1.0)
    bus = f"nats://127.0.0.1:{free_port()}"
    async with whole(tmp_path, fleet=FLEET + f'server: {{bus: "{bus}"}}\n') as control:
        status, _ = await control.get("/readyz")
        await control.wait_ready()
        leads = control.control.metrics.registry.get_sample_value("cats_leader")

    assert (503, 0.0) == (status, leads)


async def test_a_wrong_file_does_not_start(tmp_path: Path) -> None:
    """Every fault is carried to the command line."""
    with pytest.raises(ConfigError, match="nroth"):
        async with whole(tmp_path, fleet=FLEET.replace("site: north", "site: nroth")):
            pass


async def test_one_address_has_as_many_connections_as_it_may(tmp_path: Path) -> None:
    """One more is refused with a reason."""
    fleet = FLEET + "server: {max_connections_per_address: 1}\n"
    async with whole(tmp_path, fleet=fleet) as control:
        host, port = control.xds.rsplit(":", 1)
        first, one = await asyncio.open_connection(host, int(port))
        one.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        await first.readexactly(9)
        late, another = await asyncio.open_connection(host, int(port))
        assert b"too many connections" in await late.read()
        for writer in (one, another):
            writer.close()
