"""Bad days, with real processes: no one loses a request that a healthy instance could serve."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import re
import resource
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import psutil
import pytest

from benchmarks.streams import LoadStream, connect
from controlplane.bus.leased import WARM_UP
from controlplane.xds.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from testbed.fakes.kubernetes_api import KubernetesApiServer, serving_kubernetes
from testbed.fakes.kubernetes_objects import make_pod
from testbed.fakes.links import Link
from testbed.processes.children import Children
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_port
from testbed.tools.fault_beds import Bed, fault_bed
from testbed.tools.secured_files import secured

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(600)]

CONNECTS = 5000 if "CATS_FAULTS" in os.environ else 1000
"""Five thousand are for a machine of one's own: beside other load they take over three minutes."""


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Return the test's name, for its row."""
    return str(request.node.name)


def first(bed: Bed) -> ControlPlaneProcess:
    """Return the first control plane."""
    return bed.replicas.running[0]


async def test_the_control_plane_is_killed(tmp_path: Path, name: str) -> None:
    """Envoy goes on; the next process serves the previous plan from its state directory."""
    async with fault_bed(tmp_path, "--state-dir", str(tmp_path / "state")) as bed:
        await bed.keep_on(1.0)
        first(bed).signal(signal.SIGKILL)
        await first(bed).ended()
        down_at = time.monotonic()
        await bed.keep_on(3.0)
        await bed.replicas.start(0)
        seconds = await bed.recovers(bed.connected, since=down_at)
        await bed.keep_on(1.0)
        bed.reported(
            "control plane killed", "kill -9, three seconds later started again", seconds, name
        )
        assert [] == bed.witness.changed


async def test_the_leader_is_killed(tmp_path: Path, name: str) -> None:
    """Another replica decides, and Envoy is with one that lives."""
    async with fault_bed(tmp_path, count=3, nodes=1) as bed:
        leader = await bed.replicas.leader()
        await bed.keep_on(WARM_UP)  # the others must have heard enough to lead
        process = bed.replicas.running.pop(leader)
        process.signal(signal.SIGKILL)
        killed_at = time.monotonic()
        await bed.replicas.leader()
        seconds = time.monotonic() - killed_at
        await bed.recovers(bed.connected, since=killed_at)
        await bed.keep_on(1.0)
        bed.reported(
            "leader killed", "kill -9 of the deciding one of three replicas", seconds, name
        )
        assert [] == bed.witness.changed


async def test_the_leader_sleeps(tmp_path: Path, name: str) -> None:
    """Its clock jumps by eight seconds: it finds that it leads no longer, overwrites nothing."""
    async with fault_bed(tmp_path, count=2, nodes=1) as bed:
        leader = await bed.replicas.leader()
        process = bed.replicas.running.pop(leader)
        process.signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        second = await bed.replicas.leader()
        seconds = time.monotonic() - stopped_at
        await bed.keep_on(max(0.0, 8.0 - seconds))
        process.signal(signal.SIGCONT)
        bed.replicas.running[leader] = process
        await bed.keep_on(2.0)
        assert second == await bed.replicas.leader()
        assert 1 == len(await bed.replicas.versions())
        bed.reported("leader's clock jumps", "SIGSTOP for eight seconds", seconds, name)
        assert [] == bed.witness.changed


async def test_a_node_of_nats_is_killed(tmp_path: Path, name: str) -> None:
    """Two of three go on; the third comes back into the cluster."""
    async with fault_bed(tmp_path, count=2, nodes=3) as bed:
        await bed.replicas.leader()
        assert bed.nats is not None
        await bed.nats.kill(0)
        killed_at = time.monotonic()

        async def whole() -> bool:
            connected = [await bed.replicas.metric(i, "cats_bus_connected") for i in (0, 1)]
            leads = [await bed.replicas.metric(i, "cats_leader") for i in (0, 1)]
            return sum(connected) == 2 and sum(leads) == 1

        # Longer than a lease that is not renewed; where the node led the store, its successor is
        # elected after four to nine seconds.
        seconds = 0.0
        while time.monotonic() < killed_at + 6.0:
            if not await whole():
                seconds = time.monotonic() - killed_at
            await asyncio.sleep(0.1)
        if not await whole():
            seconds = await bed.recovers(whole, since=killed_at)
        await bed.nats.start(0)
        await bed.nats.wait_ready([0])
        await bed.keep_on(1.0)
        await bed.recovers(whole, since=killed_at)
        bed.reported("node of NATS killed", "kill -9 of one of three, started again", seconds, name)
        assert [] == bed.witness.changed


async def test_all_of_nats_is_away(tmp_path: Path, name: str) -> None:
    """No one leads, everyone serves the last plan; then one leads again."""
    async with fault_bed(tmp_path, count=2, nodes=1) as bed:
        await bed.replicas.leader()
        assert bed.nats is not None
        await bed.nats.kill(0)
        await bed.serves_without_a_leader()
        await bed.nats.start(0)
        back_at = time.monotonic()
        await bed.replicas.leader()
        bed.reported(
            "NATS away", "kill -9 of the only node, started again", time.monotonic() - back_at, name
        )
        assert [] == bed.witness.changed


AGENT = """
version: 1
id: agent-1
site: north
control_planes: [{address: "127.0.0.1:PORT"}]
instances: [{name: a, engine: vllm, scrape: {url: "http://127.0.0.1:9/metrics"}}]
machine: {gpu: false, rapl: false, battery: false}
"""


async def test_an_agent_is_killed(tmp_path: Path, name: str) -> None:
    """The next one takes its place as soon as it runs."""
    async with fault_bed(tmp_path) as bed, Children(tmp_path / "agents") as children:
        file = tmp_path / "agent.yaml"
        file.write_text(AGENT.replace("PORT", str(bed.replicas.ports[0][0])), encoding="utf-8")
        command = [*_python(), "agent", "-c", str(file), "--log-format", "json"]
        agent = await children.start("agent", command)

        peers: set[str] = set()

        async def greeted(times: int) -> bool:
            found = await first(bed).get_json("/api/v1/agents")
            peers.update(each["peer"] for each in found["agents"])
            return len(peers) >= times

        await bed.recovers(lambda: greeted(1), since=time.monotonic())
        await agent.kill()
        killed_at = time.monotonic()
        await children.start("agent-again", command)
        seconds = await bed.recovers(lambda: greeted(2), since=killed_at)
        bed.reported("agent killed", "kill -9, started again", seconds, name)


def _python() -> list[str]:
    import sys  # noqa: PLC0415

    return [sys.executable, "-m", "controlplane"]


async def test_an_envoy_is_killed(tmp_path: Path, name: str) -> None:
    """Clients that know two Envoys of their site lose nothing; the killed one is back by itself."""
    async with fault_bed(tmp_path) as bed, AsyncExitStack() as ends:
        spare = str(free_port())
        text = bed.fleet.read_text(encoding="utf-8")
        bed.fleet.write_text(
            text.replace("{name: cloud, kind: cloud}",
                         f"{{name: cloud, kind: cloud, listener: {{port: {spare}}}}}"),
            encoding="utf-8",
        )  # fmt: skip
        second = bed.bootstrap.replace("id: e-1", "id: e-2").replace("north", "cloud")
        envoy = await EnvoyProcess.start(second)
        ends.push_async_callback(envoy.stop)
        bed.requests.urls.append(f"http://127.0.0.1:{spare}")
        await bed.recovers(lambda: _answers(f"http://127.0.0.1:{spare}"), since=time.monotonic())
        await bed.envoy.kill()
        killed_at = time.monotonic()
        await bed.keep_on(2.0)
        again = await EnvoyProcess.start(bed.bootstrap)
        ends.push_async_callback(again.stop)
        seconds = await bed.recovers(lambda: _answers(bed.requests.urls[0]), since=killed_at)
        await bed.keep_on(1.0)
        bed.reported(
            "Envoy killed",
            "kill -9 of one of two gateways, two seconds later started",
            seconds,
            name,
        )


async def _answers(url: str) -> bool:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/v1/chat/completions", data=b"{}") as answer,
    ):
        return answer.status == 200


async def test_an_instance_is_killed(tmp_path: Path, name: str) -> None:
    """Requests that it had not begun to answer go to the other one."""
    async with fault_bed(tmp_path) as bed:
        await bed.keep_on(1.0)
        await bed.origins["a"].die()
        killed_at = time.monotonic()

        async def left() -> bool:
            clusters = await bed.envoy.clusters()
            return [each.healthy for each in clusters["chat"]].count(True) == 1

        seconds = await bed.recovers(left, since=killed_at)
        await bed.keep_on(2.0)
        bed.reported("instance killed", "its port closed with its connections", seconds, name)


async def test_a_site_is_cut_off(tmp_path: Path, name: str) -> None:
    """Connections stay open and nothing passes; what was decided meanwhile comes after it."""
    link = Link()
    async with fault_bed(tmp_path, link=link, witness=False) as bed:
        await bed.keep_on(1.0)
        before = await bed.envoy.weights("chat")
        link.silence()
        text = bed.fleet.read_text(encoding="utf-8")
        bed.fleet.write_text(
            f"{text}overrides: [{{service: chat, instance: a, weight: 5}}]\n", encoding="utf-8"
        )
        await bed.recovers(lambda: reloaded(bed), since=time.monotonic())
        await bed.keep_on(20.0)  # Envoy's keepalive gives up after 15
        assert before == await bed.envoy.weights("chat")
        link.heal()
        healed_at = time.monotonic()

        async def moved() -> bool:
            return await bed.envoy.weights("chat") != before

        seconds = await bed.recovers(moved, since=healed_at)
        await bed.keep_on(1.0)
        bed.reported("site cut off", "packets dropped in both directions for 20 s", seconds, name)


async def test_the_weights_of_a_cut_site_age(tmp_path: Path, name: str) -> None:
    """Its Envoy keeps them and serves; the control plane trusts its instance less and less.

    What the site gets first when the line is back is the split over whom was heard meanwhile; its
    own instance is used again as soon as it speaks.
    """
    link, scrapes = Link(), Link()
    async with fault_bed(
        tmp_path, link=link, scrapes=scrapes, policy="optimal", expiry="10s", witness=False
    ) as bed:
        own, other = bed.origins["a"].address, bed.origins["b"].address

        async def uses_own() -> bool:
            # The two are equal but for 20 ms of the way: which gets more is not worth a push.
            weights = await bed.envoy.weights("chat")
            return weights.get(own, 0) > 0.3 * sum(weights.values())

        await bed.recovers(uses_own, since=time.monotonic())
        await bed.keep_on(2.0)
        link.silence()
        scrapes.silence()
        held = await bed.envoy.weights("chat")
        confidence, shares = [1.0], [1.0]

        async def expired() -> bool:
            standing = await standing_of(bed, "a")
            confidence.append(standing["confidence"])
            shares.append(await share_of(bed, "a"))
            return bool(standing["phase"] == "expired" and not shares[-1])

        await bed.recovers(expired, since=time.monotonic())
        assert sorted(confidence, reverse=True) == confidence
        assert any(0 < each < 1 for each in confidence)
        assert held == await bed.envoy.weights("chat")
        answered = bed.requests.sent
        await bed.keep_on(1.0)
        assert bed.requests.sent > answered

        link.heal()
        healed_at = time.monotonic()

        async def has_the_safe_split() -> bool:
            return set(await bed.envoy.weights("chat")) == {other}

        seconds = await bed.recovers(has_the_safe_split, since=healed_at)
        scrapes.heal()
        await bed.recovers(uses_own, since=time.monotonic())
        await bed.keep_on(1.0)
        bed.reported(
            "site cut off, its instance unheard",
            "Envoy's line and the scrapes silent until the instance expired",
            seconds,
            name,
        )


async def standing_of(bed: Bed, instance: str) -> dict[str, Any]:
    """Return what the first control plane thinks of an instance."""
    fleet = await first(bed).get_json("/api/v1/fleet")
    return next(each for each in fleet["instances"] if each["name"] == instance)


async def share_of(bed: Bed, instance: str) -> float:
    """Return an instance's share of the requests that enter at north, by the present plan."""
    plan = await first(bed).get_json("/api/v1/plan")
    items = plan["services"]["chat"]["from"]["north"]
    return float(sum(each["share"] for each in items if each["instance"] == instance))


async def test_clients_that_are_slow_or_say_nothing(tmp_path: Path, name: str) -> None:
    """Two hundred half-open connections on both ports keep no one else waiting."""
    async with fault_bed(tmp_path) as bed, AsyncExitStack() as ends:
        for number in range(200):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", bed.replicas.ports[0][number % 2]
            )
            del reader
            ends.callback(writer.close)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if number % 4 == 0 else b"GET / HT")
        began = time.monotonic()
        change(bed, "rtt: 20ms", "rtt: 21ms")
        seconds = await bed.recovers(lambda: reloaded(bed), since=began)
        await bed.keep_on(1.0)
        assert await bed.connected()
        bed.reported(
            "slow and half-open clients",
            "200 connections that begin and never go on",
            seconds,
            name,
        )


def change(bed: Bed, old: str, new: str) -> None:
    """Edit the configuration."""
    text = bed.fleet.read_text(encoding="utf-8")
    assert old in text
    bed.fleet.write_text(text.replace(old, new), encoding="utf-8")


async def reloaded(bed: Bed) -> bool:
    """Return whether the configuration was taken again."""
    return "configuration reloaded" in [line["event"] for line in first(bed).events()]


async def test_the_disk_is_full(tmp_path: Path, name: str) -> None:
    """The plan cannot be saved, which costs a line; what is served goes on, changes included."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "plan.new").symlink_to("/dev/full")
    async with fault_bed(tmp_path, "--state-dir", str(state)) as bed:
        line = await first(bed).wait_for_event("plan not saved; serving continues")
        began = time.monotonic()
        change(bed, "rtt: 20ms", "rtt: 21ms")
        seconds = await bed.recovers(lambda: reloaded(bed), since=began)
        await bed.keep_on(1.0)
        bed.reported("full disk", "every write of the state fails", seconds, name)

    assert "No space left" in line["reason"]


async def test_the_log_cannot_be_written(tmp_path: Path, name: str) -> None:
    """The disk of the log is full: nothing is reported any more, and everything goes on."""
    async with fault_bed(tmp_path, "--state-dir", str(tmp_path / "state"), log="/dev/full") as bed:
        before = await bed.envoy.weights("chat")
        text = bed.fleet.read_text(encoding="utf-8")
        bed.fleet.write_text(
            f"{text}overrides: [{{service: chat, instance: a, weight: 5}}]\n", encoding="utf-8"
        )

        async def moved() -> bool:
            return await bed.envoy.weights("chat") != before

        seconds = await bed.recovers(moved, since=time.monotonic())
        await bed.keep_on(1.0)
        bed.reported("log's disk full", "standard error is /dev/full", seconds, name)


async def test_the_wall_clock_jumps(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a day, there and back: nothing that is decided looks at it."""
    (tmp_path / "offset").write_text("0", encoding="utf-8")
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib, time\n"
        "real = time.time\n"
        f"offset = pathlib.Path({str(tmp_path / 'offset')!r})\n"
        "time.time = lambda: real() + float(offset.read_text() or 0)\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with fault_bed(tmp_path, "--state-dir", str(tmp_path / "state")) as bed:
        before = await first(bed).get_json("/api/v1/plan")
        for jump in ("86400", "-86400", "0"):
            (tmp_path / "offset").write_text(jump, encoding="utf-8")
            await bed.keep_on(1.5)
        after = await first(bed).get_json("/api/v1/plan")

        async def all_live() -> bool:
            fleet = await first(bed).get_json("/api/v1/fleet")
            return {"live"} == {each["phase"] for each in fleet["instances"]}

        await bed.recovers(all_live, since=time.monotonic())
        (tmp_path / "offset").write_text("86400", encoding="utf-8")
        jumped_at = time.monotonic()
        change(bed, "rtt: 20ms", "rtt: 21ms")
        seconds = await bed.recovers(lambda: reloaded(bed), since=jumped_at)
        bed.reported("wall clock jumps", "a day forward, a day back", seconds, name)

    assert before["version"] == after["version"]
    assert [] == bed.witness.changed


async def test_a_certificate_expires(tmp_path: Path, name: str) -> None:
    """Envoy cannot come back with it and serves on; a renewed file is enough."""
    secrets = secured(tmp_path)
    state = ("--state-dir", str(tmp_path / "state"))
    async with fault_bed(
        tmp_path, *state, server=secrets.section, tls=secrets.tls, witness=False
    ) as bed:
        secrets.renew_envoy(lasts=-1.0)

        async def shows_expired() -> bool:
            return '"days_until_expiration": "0"' in await bed.envoy.get("/certs")

        await bed.recovers(shows_expired, since=time.monotonic())
        first(bed).signal(signal.SIGKILL)
        await first(bed).ended()
        await bed.replicas.start(0)
        await bed.keep_on(3.0)
        assert not await bed.connected()
        secrets.renew_envoy()
        renewed_at = time.monotonic()
        seconds = await bed.recovers(bed.connected, since=renewed_at)
        bed.reported(
            "certificate expired",
            "an Envoy's, over a restart of the control plane; renewed",
            seconds,
            name,
        )


async def test_a_long_stream_outlives_all_that_operators_do(tmp_path: Path, name: str) -> None:
    """Ten changes of services, rotated certificates and a restart cut nothing and drain no one.

    It lasts until all is done, and two minutes where rows are written.
    """
    least = 120.0 if "CATS_FAULTS" in os.environ else 0.0
    secrets = secured(tmp_path)
    state = ("--state-dir", str(tmp_path / "state"))
    async with fault_bed(
        tmp_path, *state, server=secrets.section, tls=secrets.tls, witness=False
    ) as bed:
        text = bed.fleet.read_text(encoding="utf-8")
        (listener,) = await bed.envoy.config_dump(resource="dynamic_listeners")
        url = f"{bed.requests.urls[0]}/v1/chat/completions?events=100000&gap=0.1"
        endless = aiohttp.ClientTimeout(total=None)
        began_at = time.monotonic()
        async with (
            aiohttp.ClientSession(timeout=endless) as http,
            http.post(url, data=b"{}") as stream,
        ):
            for number in range(10):
                match = ("{path: /v1/other}", "{model: other}", "{path: /v1/chat/*, model: o}")
                service = f"s{number}, match: [{match[number % 3]}], models: [{{name: m}}]"
                changed = text.replace("services:\n", f"services:\n  - {{name: {service}}}\n")
                bed.fleet.write_text(changed, encoding="utf-8")
                await bed.recovers(
                    functools.partial(_has_cluster, bed, f"s{number}"), since=time.monotonic()
                )
                if number == 3:
                    secrets.renew()
                if number == 6:
                    first(bed).signal(signal.SIGKILL)
                    await first(bed).ended()
                    await bed.replicas.start(0)
                    await bed.recovers(bed.connected, since=time.monotonic())
            await bed.keep_on(max(0.0, least - (time.monotonic() - began_at)))
            seconds = time.monotonic() - began_at
            for origin in bed.origins.values():
                origin.ends_streams = True
            content = (await stream.read()).decode()
        (after,) = await bed.envoy.config_dump(resource="dynamic_listeners")
        numbers = [int(line.removeprefix("data: ")) for line in content.split("\n") if line]
        assert list(range(len(numbers))) == numbers
        assert len(numbers) > 10
        key = "active_state"
        assert listener[key]["version_info"] == after[key]["version_info"]
        bed.reported(
            f"stream of {seconds:.0f} s",
            "ten changes of services, rotated certificates, a restart of the control plane",
            0.0,
            name,
        )


async def _has_cluster(bed: Bed, service: str) -> bool:
    dump = await bed.envoy.config_dump(resource="dynamic_active_clusters")
    return service in {each["cluster"]["name"] for each in dump}


async def test_the_configuration_is_deleted(tmp_path: Path, name: str) -> None:
    """It is reported, and the last good one serves on; a file that is back is read."""
    async with fault_bed(tmp_path) as bed:
        text = bed.fleet.read_text(encoding="utf-8")
        bed.fleet.unlink()
        await first(bed).wait_for_event("configuration rejected")
        await bed.keep_on(1.0)
        bed.fleet.write_text(text.replace("rtt: 20ms", "rtt: 21ms"), encoding="utf-8")
        seconds = await bed.recovers(lambda: reloaded(bed), since=time.monotonic())
        bed.reported("configuration deleted", "rm fleet.yaml, written again", seconds, name)


DISCOVERY = """
instances: []
discovery:
  api: {server: "SERVER"}
  rules:
    - {name: pods, kind: pods, site_label: site, model: m, port_name: http, engine: vllm,
       scrape: {port: PAGES, path: "/a/metrics", period: 500ms, timeout: 500ms}}
"""


async def test_the_kubernetes_api_is_lost(tmp_path: Path, name: str) -> None:
    """It denies, says that nothing is there, forgets; pods that are there serve all along."""
    server = KubernetesApiServer()
    async with fault_bed(tmp_path) as bed, serving_kubernetes(server):

        def put(pod: str, **how: Any) -> None:
            labels = {"site": "north" if pod == "a" else "cloud"}
            ports = {"http": bed.origins[pod].port}
            server.put("pods", make_pod(pod, "127.0.0.1", labels=labels, ports=ports, **how))

        async def known(count: int) -> bool:
            fleet = await first(bed).get_json("/api/v1/fleet")
            (rule,) = fleet["discovery"]
            return (rule["ok"], rule["listed"], rule["instances"]) == (True, True, count)

        for pod in bed.origins:
            put(pod)
        server.busy = True  # the file has given its instances up before their successors are known
        text = bed.fleet.read_text(encoding="utf-8")
        pages = re.search(r":(\d+)/a/metrics", text)
        assert pages is not None
        head, tail = text[: text.index("instances:")], text[text.index("network:") :]
        rules = DISCOVERY.replace("SERVER", server.url).replace("PAGES", pages[1])
        bed.fleet.write_text(head + rules + tail, encoding="utf-8")
        await first(bed).wait_for_event("discovery failed; known instances stay in use")
        await bed.keep_on(1.0)
        server.busy = False
        await bed.recovers(lambda: known(2), since=time.monotonic())
        server.denied = {"pods"}
        server.break_connections()
        await bed.keep_on(2.0)
        server.denied = set()
        await bed.recovers(lambda: known(2), since=time.monotonic())
        for pod in bed.origins:
            server.delete("pods", pod)
        await first(bed).wait_for_event(
            "last instances of a service gone; kept until others are discovered"
        )
        await bed.keep_on(1.0)
        server.forget()
        server.break_connections()
        put("b")
        back_at = time.monotonic()
        seconds = await bed.recovers(lambda: known(1), since=back_at)
        await bed.keep_on(1.0)
        bed.reported(
            "Kubernetes API lost", "away, denies, says that no pod is there, forgets its versions",
            seconds, name,
        )  # fmt: skip


@contextmanager
def many_files(needed: int) -> Iterator[None]:
    """Let this process, and those that it starts, have *needed* files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"may open {hard} files, needs {needed}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def crowd(bed: Bed, count: int) -> AsyncIterator[list[LoadStream]]:
    """Open *count* streams in one go, each on a connection of its own."""
    wants = {CLUSTER: [], ENDPOINT: ["chat"], LISTENER: [], ROUTE: ["inference"]}
    streams = [LoadStream(f"crowd-{n}", wants, site="north", delta=True) for n in range(count)]
    address = ("127.0.0.1", bed.replicas.ports[0][0])
    try:
        await asyncio.gather(*(connect(address, each) for each in streams))
        yield streams
    finally:
        for each in streams:
            each.close()


def megabytes(bed: Bed) -> float:
    """Return the memory of the first control plane."""
    return float(psutil.Process(first(bed).pid).memory_info().rss) / 1e6


async def test_many_connect_at_once(tmp_path: Path, name: str) -> None:
    """As after an outage of the network: all are served, each takes little, Envoy sees nothing."""
    with many_files(2 * CONNECTS + 1000):
        async with fault_bed(tmp_path) as bed:
            before, began = megabytes(bed), time.monotonic()
            async with crowd(bed, CONNECTS) as streams:

                async def all_served() -> bool:
                    return all(len(each.versions) == 4 for each in streams)

                seconds = await bed.recovers(all_served, since=began)
                assert not any(each.closed for each in streams)
                assert megabytes(bed) - before < 0.05 * CONNECTS
                change(bed, "rtt: 20ms", "rtt: 21ms")
                await bed.recovers(lambda: reloaded(bed), since=began)
            await bed.keep_on(1.0)
            assert await bed.connected()
            assert 0 == await bed.replicas.metric(0, "cats_connections_refused_total")
            bed.reported(
                f"{CONNECTS:,} connects at once", "connections opened in one go", seconds, name
            )


async def test_more_connect_than_are_taken(tmp_path: Path, name: str) -> None:
    """The rest is refused in words, one line says it, and who was there before is served on."""
    most, asked = 500, 2000
    with many_files(2 * asked + 1000):
        async with fault_bed(tmp_path, "--max-connections", str(most)) as bed:
            before = megabytes(bed)
            async with crowd(bed, asked) as streams:

                async def decided() -> bool:
                    return all(each.closed or len(each.versions) == 4 for each in streams)

                await bed.recovers(decided, since=time.monotonic())
                refused = sum(each.closed for each in streams)
                taken = await bed.replicas.metric(0, "cats_connections")
                assert most == taken  # Envoy and the witness among them
                assert refused == await bed.replicas.metric(0, "cats_connections_refused_total")
                assert "too many connections" in {each.parting for each in streams}
                assert megabytes(bed) - before < 0.1 * most
                assert await bed.connected()
                text = bed.fleet.read_text(encoding="utf-8")
                before_weights = await bed.envoy.weights("chat")
                bed.fleet.write_text(
                    f"{text}overrides: [{{service: chat, instance: a, weight: 5}}]\n",
                    encoding="utf-8",
                )

                async def moved() -> bool:
                    return await bed.envoy.weights("chat") != before_weights

                await bed.recovers(moved, since=time.monotonic())
            gone_at = time.monotonic()
            async with crowd(bed, 100) as streams:

                async def again() -> bool:
                    return all(len(each.versions) == 4 for each in streams)

                seconds = await bed.recovers(again, since=gone_at)
            await bed.keep_on(1.0)
            lines = [each for each in first(bed).events() if each["event"] == "connections refused"]
            assert [most] == [each["limit"] for each in lines]
            bed.reported(
                "more clients than are taken", f"{asked:,} connects, {most} allowed", seconds, name
            )


METHODS = (
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
    "/envoy.service.metrics.v3.MetricsService/StreamMetrics",
    "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats",
    "/envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus",
    "/cats.telemetry.v1.Telemetry/Report",
    "/no.such.Service/Method",
)


async def test_everything_is_malformed(tmp_path: Path, name: str) -> None:
    """Noise on both ports, in every method, in the file: refused each time, and nothing else."""
    rng = random.Random(6)
    async with fault_bed(tmp_path) as bed:
        for number in range(60):
            _, writer = await asyncio.open_connection(
                "127.0.0.1", bed.replicas.ports[0][number % 2]
            )
            prefix = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if number % 3 == 0 else b""
            writer.write(prefix + rng.randbytes(rng.randrange(1, 2000)))
            writer.close()
        codes = set()
        async with grpc_channel(bed) as channel:
            for method in METHODS:
                for _ in range(10):
                    # In one batch: a write of its own that meets the refusal hides its status.
                    call = channel.unary_unary(method)(
                        b"\xff" + rng.randbytes(rng.randrange(0, 400))
                    )
                    codes.add(await asyncio.wait_for(call.code(), 60))
        assert {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED} == codes
        text = bed.fleet.read_text(encoding="utf-8")
        bed.fleet.write_bytes(rng.randbytes(5000))
        await first(bed).wait_for_event("configuration rejected")
        bed.fleet.write_text(text.replace("rtt: 20ms", "rtt: 21ms"), encoding="utf-8")
        seconds = await bed.recovers(lambda: reloaded(bed), since=time.monotonic())
        await bed.keep_on(1.0)
        assert await bed.connected()
        _, metrics = await first(bed).get("/metrics")
        assert "cats_task_failures_total{" not in metrics
        assert [] == [line for line in first(bed).events() if "exception" in line]
        bed.reported(
            "everything malformed",
            "noise on both ports, in every method, in the file",
            seconds,
            name,
        )


@asynccontextmanager
async def grpc_channel(bed: Bed) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to the first control plane."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{bed.replicas.ports[0][0]}") as channel:
        yield channel
