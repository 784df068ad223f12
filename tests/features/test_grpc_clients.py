"""gRPC's own xDS client and an Envoy, served by one control plane from one plan."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from envoy.service.status.v3 import csds_pb2

from controlplane.app.serving import Running, running
from controlplane.app.settings import Settings
from controlplane.config import parse_config
from controlplane.grpc_services.csds import SERVICE as CSDS
from controlplane.grpc_services.envoy_metrics import EnvoyTelemetry
from controlplane.grpc_services.observation_streams import ObservationSettings
from controlplane.resources.bootstrap import build_bootstrap
from testbed.background import until
from testbed.fakes.upstreams import Origin
from testbed.processes.envoys import running_envoy
from testbed.processes.grpc_clients import (
    GrpcBackend,
    GrpcClient,
    grpc_bootstrap,
    grpc_js_command,
)
from testbed.processes.ports import free_port

pytestmark = pytest.mark.envoy

README = Path(__file__).parents[2] / "README.md"
NODE = {"id": "client-1", "metadata": {"site": "north"}}
WEIGHTS = (10, 20, 30, 40)


def fleet(speakers: list[str], chatters: list[str], *, weights: tuple[int, ...], port: int) -> str:
    """Return four instances that speak gRPC at two sites, and as many that speak HTTP."""
    lines = [
        f'  - {{name: {kind}-{n}, site: {("north", "cloud")[n % 2]}, address: "{address}",'
        f" model: {kind}, engine: generic}}"
        for kind, addresses in (("speaker", speakers), ("chatter", chatters))
        for n, address in enumerate(addresses)
    ]
    overrides = [
        f"  - {{service: {service}, instance: {kind}-{n}, weight: {weight}}}"
        for service, kind in (("speak", "speaker"), ("chat", "chatter"))
        for n, weight in enumerate(weights)
    ]
    return "\n".join(
        [
            "version: 1",
            "sites: [{name: north, kind: edge, region: eu}, {name: cloud, kind: cloud}]",
            "models: [{name: speaker}, {name: chatter}]",
            "services:",
            "  - {name: speak, match: [{path: /speak}], models: [{name: speaker}], policy: static}",
            "  - {name: chat, match: [{path: /chat}], models: [{name: chatter}], policy: static}",
            "instances:",
            *lines,
            "overrides:",
            *overrides,
            "steering: {period: 100ms}",
            f"envoy: {{address: 127.0.0.1, port: {port}, health_check: null}}",
        ]
    )


def chi_square(counts: Counter[str], shares: dict[str, float]) -> float:
    """Return Pearson's distance of counts from shares."""
    total = sum(counts.values())
    return sum((counts[name] - total * s) ** 2 / (total * s) for name, s in shares.items())


async def until_only(client: GrpcClient, name: str) -> Counter[str]:
    """Call until one backend gives every answer; give all answers before."""
    seen: Counter[str] = Counter()
    async with asyncio.timeout(60):
        while set(answers := await client.call(20)) != {name}:
            seen += answers
    return seen


def report_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask clients for load reports five times a second."""
    often = partial(EnvoyTelemetry, settings=ObservationSettings(load_report_period=0.2))
    monkeypatch.setattr("controlplane.app.grpc_port.EnvoyTelemetry", often)


async def until_reported(
    run: Running, client: GrpcClient, wanted: set[tuple[str, str, str]]
) -> None:
    """Call until load reports name *wanted*: site, service and instance."""
    async with asyncio.timeout(60):
        while run.control.view is None or not wanted <= run.control.view.traffic.keys():
            await client.call(50)


async def ask_status(xds_port: int) -> dict[str, set[int]]:
    """Ask who has what; give the statuses of each client's resources."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{xds_port}") as channel:
        ask: Any = channel.unary_unary(f"/{CSDS}/FetchClientStatus")
        answer = csds_pb2.ClientStatusResponse.FromString(await ask(b""))
    return {
        client.node.id: {each.config_status for each in client.generic_xds_configs}
        for client in answer.config
    }


@asynccontextmanager
async def planned(file: Path, xds_port: int) -> AsyncIterator[Running]:
    """Run a control plane, and go on once it has a plan: calls before that fail at once."""
    settings = Settings(file, ("127.0.0.1", xds_port), ("127.0.0.1", 0), settle=0.0)
    async with running(settings) as run:
        await until(lambda: run.control.cycle.plan is not None)
        yield run


async def test_a_grpc_client_and_an_envoy_follow_one_plan(tmp_path: Path) -> None:
    """Both split by the plan's weights, follow a change, and no call fails."""
    file = tmp_path / "fleet.yaml"
    port, xds_port = free_port(), free_port()
    async with AsyncExitStack() as stack:
        speakers = [await stack.enter_async_context(GrpcBackend(f"speaker-{n}")) for n in range(4)]
        chatters = [await stack.enter_async_context(Origin(f"chatter-{n}")) for n in range(4)]
        places = [each.address for each in speakers], [each.address for each in chatters]
        text = fleet(*places, weights=WEIGHTS, port=port)
        file.write_text(text)
        run = await stack.enter_async_context(planned(file, xds_port))
        client = await stack.enter_async_context(
            GrpcClient("speak", grpc_bootstrap(xds_port, NODE))
        )
        bootstrap = build_bootstrap(
            parse_config(text, file="fleet.yaml"),
            site="north", envoy_id="envoy-1", xds=("127.0.0.1", xds_port), admin_port=0,
        )  # fmt: skip
        http = await stack.enter_async_context(aiohttp.ClientSession())
        calls, envoy = await asyncio.gather(
            client.call(2_000), stack.enter_async_context(running_envoy(bootstrap))
        )
        requests: Counter[str] = Counter()
        for _ in range(100):
            async with http.post(f"http://127.0.0.1:{port}/chat") as answer:
                requests[answer.headers["x-cats-instance"]] += 1
        held = await envoy.weights("speak")
        standings = await ask_status(xds_port)
        file.write_text(fleet(*places, weights=(0, 0, 0, 1), port=port))
        moving = await until_only(client, "speaker-3")
        await envoy.wait_for(
            lambda clusters: (
                [chatters[3].address]
                == [each.address for each in clusters["chat"] if each.priority == 0]
            ),
            "follow too",
        )
        records = {each.id: each for each in run.control.registry.envoys}

    shares = {f"speaker-{n}": weight / 100 for n, weight in enumerate(WEIGHTS)}
    assert shares.keys() == calls.keys()
    assert 30.7 > chi_square(calls, shares)  # three degrees of freedom; 1 in a million by chance
    assert set(shares) | set(moving) == set(shares)
    for n, weight in enumerate(WEIGHTS):
        assert weight == pytest.approx(requests[f"chatter-{n}"], abs=2)
        assert weight / 100 == pytest.approx(held[speakers[n].address] / sum(held.values()))
    assert ("grpc", "north") == (records["client-1"].role, records["client-1"].site)
    assert {"client-1": {csds_pb2.SYNCED}, "envoy-1": {csds_pb2.SYNCED}} == standings
    assert 0 == sum(kept.nacks for record in records.values() for kept in record.types.values())


def readme_bootstrap(xds_port: int) -> dict[str, Any]:
    """Return the README's bootstrap of a gRPC client, with *xds_port* in place of the default."""
    blocks = re.findall(r"^```json\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    (text,) = [each for each in blocks if "xds_servers" in each]
    assert text.count("127.0.0.1:18000") == 1
    return dict(json.loads(text.replace("127.0.0.1:18000", f"127.0.0.1:{xds_port}")))


def speakers_only(places: list[str], weights: tuple[int, ...]) -> str:
    """Return the fleet without those who speak HTTP, at the site that the README's client names."""
    lines = fleet(places, [], weights=weights, port=1).splitlines()
    kept = [line for line in lines if "instance: chatter" not in line]
    return "\n".join(kept).replace("north", "edge-north")


async def test_grpc_js_follows_the_plan_with_the_bootstrap_of_the_readme(
    grpc_js: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It splits by the plan's weights, follows a change, loses no call, and reports its demand."""
    report_often(monkeypatch)
    file = tmp_path / "fleet.yaml"
    xds_port = free_port()
    async with AsyncExitStack() as stack:
        speakers = [await stack.enter_async_context(GrpcBackend(f"speaker-{n}")) for n in range(4)]
        places = [each.address for each in speakers]
        file.write_text(speakers_only(places, WEIGHTS))
        run = await stack.enter_async_context(planned(file, xds_port))
        bootstrap = readme_bootstrap(xds_port)
        client = await stack.enter_async_context(
            GrpcClient("speak", bootstrap, command=grpc_js_command(grpc_js))
        )
        calls = await client.call(2_000)
        await until_reported(run, client, {("edge-north", "speak", each.name) for each in speakers})
        file.write_text(speakers_only(places, (0, 0, 0, 1)))
        moving = await until_only(client, "speaker-3")
        (record,) = run.control.registry.envoys

    shares = {f"speaker-{n}": weight / 100 for n, weight in enumerate(WEIGHTS)}
    assert shares.keys() == calls.keys()
    assert 30.7 > chi_square(calls, shares)  # three degrees of freedom; 1 in a million by chance
    assert set(moving) <= set(shares)
    assert (bootstrap["node"]["id"], "grpc", "edge-north") == (
        record.id, record.role, record.site,
    )  # fmt: skip
    assert 0 == sum(kept.nacks for kept in record.types.values())


async def test_a_grpc_client_of_no_known_site_is_served_everybodys_view(tmp_path: Path) -> None:
    """It reaches the service at once, though no site's view was made for it before."""
    file = tmp_path / "fleet.yaml"
    xds_port = free_port()
    async with AsyncExitStack() as stack:
        speaker = await stack.enter_async_context(GrpcBackend("speaker-0"))
        text = fleet([speaker.address], [], weights=(1,), port=free_port())
        file.write_text(text.replace("  - {service: chat, instance: chatter-0, weight: 1}\n", ""))
        await stack.enter_async_context(planned(file, xds_port))
        client = await stack.enter_async_context(
            GrpcClient("speak", grpc_bootstrap(xds_port, {"id": "client-2"}))
        )
        calls = await client.call(5)

    assert Counter({"speaker-0": 5}) == calls


async def test_load_reports_of_grpc_clients_name_instances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they send counts as demand of their site, instance by instance."""
    report_often(monkeypatch)
    file = tmp_path / "fleet.yaml"
    xds_port = free_port()
    async with AsyncExitStack() as stack:
        speakers = [await stack.enter_async_context(GrpcBackend(f"speaker-{n}")) for n in range(2)]
        text = fleet([each.address for each in speakers], [], weights=(1, 1), port=free_port())
        lines = [line for line in text.splitlines() if "instance: chatter" not in line]
        file.write_text("\n".join(lines))
        run = await stack.enter_async_context(planned(file, xds_port))
        client = await stack.enter_async_context(
            GrpcClient("speak", grpc_bootstrap(xds_port, NODE))
        )
        wanted = {("north", "speak", each.name) for each in speakers}
        await until_reported(run, client, wanted)
        assert run.control.view is not None
        demand = run.control.view.demand["north", "speak"].value

    assert 0 < demand
