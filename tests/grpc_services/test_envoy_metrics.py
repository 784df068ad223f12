"""What Envoys observe, over real gRPC and from real Envoys."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc
import pytest
import yaml
from aiohttp import web
from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.config.endpoint.v3 import load_report_pb2
from envoy.service.load_stats.v3 import lrs_pb2
from structlog.testing import capture_logs

from controlplane.config import Config, PolicyName, parse_config
from controlplane.grpc_services import envoy_metrics
from controlplane.grpc_services.ads import XdsService
from controlplane.grpc_services.envoy_metrics import EnvoyTelemetry
from controlplane.grpc_services.envoys import EnvoyRegistry
from controlplane.grpc_services.observation_streams import ObservationSettings
from controlplane.grpc_services.requests import Node
from controlplane.grpc_services.views import ViewStore
from controlplane.grpc_transport.server import GrpcServer
from controlplane.model import InstanceReport, Signal, Source, TrafficReport
from controlplane.resources.bootstrap import build_bootstrap
from controlplane.resources.build import SnapshotBuilder
from controlplane.steering.plan import Allocation, Assignment, Plan
from controlplane.telemetry.envoy_stats import EnvoyStats
from controlplane.wire.cats.envoy.v1 import metrics_pb2
from testbed.background import until
from testbed.processes.envoys import EnvoyProcess, running_envoy
from testbed.processes.ports import free_port

METRICS = "/envoy.service.metrics.v3.MetricsService/StreamMetrics"
LOADS = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"


RETRIES = "retries: {attempts: 0}"


def fleet(address: str, listener: int, *, more: str = "") -> Config:
    """Return a fleet of one instance at an edge."""
    return parse_config(
        f"""
version: 1
sites: [{{name: edge, kind: edge, listener: {{address: 127.0.0.1, port: {listener}}}}}]
models: [{{name: m}}]
services: [{{name: chat, match: [{{path: /*}}], models: [{{name: m}}]}}]
instances: [{{name: a, site: edge, address: "{address}", model: m}}]
envoy: {{{more}load_period: 200ms, health_check: null, outlier_detection: null, {RETRIES}}}
""",
        file="fleet.yaml",
    )


@dataclass(slots=True)
class Receiver:
    """A served `EnvoyTelemetry` and what it gave."""

    telemetry: EnvoyTelemetry = field(init=False)
    port: int = 0
    reports: list[TrafficReport] = field(default_factory=list)
    loads: list[InstanceReport] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def total(self, quantity: str) -> float:
        """Add up a quantity over all reports of the instance."""
        return math.fsum(getattr(r, quantity) for r in self.reports if r.instance == "a")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds."""
        try:
            await until(condition)
        except TimeoutError:
            seen = [report for report in self.reports if report.instance][-5:]
            pytest.fail(f"not within 60 s; the last of the instance: {seen}")


LOAD = {
    "endpoint-load-metrics": "TEXT named_metrics.kv_cache_usage_perc=0.4,"
    "named_metrics.num_requests_waiting=3,cpu_utilization=0.5"
}
"""What the instance says of itself in each answer, as vLLM does."""

Serve = Callable[..., contextlib.AbstractAsyncContextManager[Receiver]]
"""Takes the configuration, ``settings`` and, to serve xDS too, ``views``."""


@pytest.fixture
def receiver() -> Serve:
    """Return what serves telemetry, and xDS if there are views, on one port."""

    @contextlib.asynccontextmanager
    async def serve(
        config: Config,
        settings: ObservationSettings | None = None,
        views: ViewStore | None = None,
    ) -> AsyncIterator[Receiver]:
        def resolve(node: Node) -> str | None:
            return node.site if node.site in {site.name for site in config.sites} else None

        received = Receiver()
        received.telemetry = EnvoyTelemetry(
            config,
            resolve_site=resolve,
            on_reports=received.reports.extend,
            on_loads=received.loads.extend,
            on_refused=received.refusals.append,
            settings=settings,
        )
        server = GrpcServer()
        received.telemetry.serve_on(server)
        if views is not None:
            XdsService(views, EnvoyRegistry(), resolve_site=resolve).serve_on(server)
        received.port = await server.listen("127.0.0.1", 0)
        try:
            yield received
        finally:
            await server.stop()

    return serve


@contextlib.asynccontextmanager
async def instance() -> AsyncIterator[str]:
    """Serve an instance that answers, refuses or takes its time; give its address."""
    release = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/fail":
            return web.Response(status=503)
        response = web.StreamResponse(headers=LOAD)
        await response.prepare(request)
        await response.write(b"first")
        if request.path == "/slow":
            await release.wait()
        await asyncio.sleep(0.1)
        with contextlib.suppress(ConnectionError):
            await response.write(b"last")
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        release.set()
        await runner.cleanup()


def plan() -> Plan:
    """Send everything from the edge to the one instance."""
    assignment = Assignment(
        "chat", "edge", PolicyName.OPTIMAL, (Allocation("a", "edge", 1.0, 100),)
    )
    return Plan("1", 0.0, {("chat", "edge"): assignment})


@contextlib.asynccontextmanager
async def steered_envoy(
    config: Config, received: Receiver, views: ViewStore
) -> AsyncIterator[EnvoyProcess]:
    """Run an Envoy with our bootstrap that got its resources over xDS."""
    views.publish(SnapshotBuilder(config).build(plan()))
    text = build_bootstrap(
        config, site="edge", envoy_id="e1", xds=("127.0.0.1", received.port), admin_port=0
    )
    async with running_envoy(text) as envoy:
        yield envoy


@pytest.mark.envoy
async def test_a_real_envoy_reports_what_instances_do(receiver: Serve) -> None:
    """Requests, answers, failures and times arrive, each counted once, with our own bootstrap."""
    listener = free_port()
    views = ViewStore()
    async with instance() as address:
        config = fleet(address, listener)
        async with (
            receiver(config, views=views) as received,
            steered_envoy(config, received, views),
            aiohttp.ClientSession(f"http://127.0.0.1:{listener}") as client,
        ):

            async def get(path: str) -> int:
                async with client.get(path) as response:
                    await response.read()
                    return response.status

            await received.until(lambda: bool(received.telemetry.observed))
            statuses = await asyncio.gather(*(get("/") for _ in range(5)))
            statuses.append(await get("/fail"))
            await received.until(lambda: received.total("issued") == 6)
            await received.until(lambda: received.reports[-1].instance == "")
            left = asyncio.create_task(get("/slow"))
            await received.until(lambda: received.reports[-1].in_progress == 1)
            left.cancel()
            await received.until(lambda: received.total("issued") == 7)
            await received.until(lambda: received.reports[-1].issued == 0)

            assert frozenset({"e1"}) == received.telemetry.observed

    assert [200] * 5 + [503] == statuses
    assert 7 == received.total("issued")
    assert 5 == received.total("succeeded")
    assert 1 == received.total("failed")
    assert 5 == received.total("latency_count")
    assert 0.5 <= received.total("latency_sum")
    assert 0 < received.total("ttft_sum") < received.total("latency_sum") - 0.4
    assert {("e1", "edge", "chat")} == {(r.envoy, r.site, r.service) for r in received.reports}
    assert [] == received.refusals


def load_reporting_bootstrap(port: int, listener: int, address: str) -> str:
    """Write the bootstrap of someone else's Envoy that offers load reports."""
    host, instance_port = address.split(":")
    http = "type.googleapis.com/envoy.extensions"
    connection = {
        "@type": f"{http}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "chat"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{http}.filters.http.router.v3.Router"},
            }
        ],
    }

    def socket(host: str, port: int) -> dict[str, object]:
        return {"socket_address": {"address": host, "port_value": port}}

    def cluster(name: str, host: str, port: int) -> dict[str, object]:
        endpoint = {"endpoint": {"address": socket(host, port)}}
        assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
        return {"name": name, "type": "STATIC", "load_assignment": assignment}

    options = f"{http}.upstreams.http.v3.HttpProtocolOptions"
    return yaml.safe_dump(
        {
            "node": {"id": "theirs", "cluster": "x", "metadata": {"site": "edge"}},
            "admin": {"address": socket("127.0.0.1", 0)},
            "cluster_manager": {
                "load_stats_config": {
                    "api_type": "GRPC",
                    "transport_api_version": "V3",
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "cp"}}],
                }
            },
            "static_resources": {
                "listeners": [
                    {
                        "name": "in",
                        "address": socket("127.0.0.1", listener),
                        "filter_chains": [
                            {
                                "filters": [
                                    {
                                        "name": "envoy.filters.network.http_connection_manager",
                                        "typed_config": connection,
                                    }
                                ]
                            }
                        ],
                    }
                ],
                "clusters": [
                    cluster("chat", host, int(instance_port)),
                    {
                        **cluster("cp", "127.0.0.1", port),
                        "typed_extension_protocol_options": {
                            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                                "@type": options,
                                "explicit_http_config": {"http2_protocol_options": {}},
                            }
                        },
                    },
                ],
            },
        }
    )


@pytest.mark.envoy
async def test_loads_in_headers_of_answers_reach_us_through_envoy(receiver: Serve) -> None:
    """Averaged by Envoy over the answers of an interval, with their own provenance."""
    listener = free_port()
    views = ViewStore()
    async with instance() as address:
        config = fleet(address, listener, more="orca_headers: true, ")
        settings = ObservationSettings(load_report_period=0.2)
        async with (
            receiver(config, settings, views) as received,
            steered_envoy(config, received, views),
            aiohttp.ClientSession(f"http://127.0.0.1:{listener}") as client,
        ):
            for _ in range(3):
                async with client.get("/") as response:
                    await response.read()
            await received.until(lambda: bool(received.loads))

    first = received.loads[0]
    assert ("a", Source.ORCA, "e1") == (first.instance, first.source, first.reporter)
    assert pytest.approx(0.4) == first.signals[Signal.KV_USE]
    assert pytest.approx(3.0) == first.signals[Signal.WAITING]


@pytest.mark.envoy
async def test_somebody_elses_envoy_reports_its_load(receiver: Serve) -> None:
    """An Envoy that only knows load reports says counts per instance, by address."""
    listener = free_port()
    async with instance() as address:
        config = fleet(address, listener)
        settings = ObservationSettings(load_report_period=0.2)
        async with receiver(config, settings) as received:
            text = load_reporting_bootstrap(received.port, listener, address)
            async with running_envoy(text), aiohttp.ClientSession() as client:
                await received.until(lambda: bool(received.reports))
                for path in ("/", "/", "/fail"):
                    async with client.get(f"http://127.0.0.1:{listener}{path}") as response:
                        await response.read()
                await received.until(
                    lambda: received.total("succeeded") + received.total("failed") == 3
                )

    assert (3, 2, 1) == tuple(map(received.total, ("issued", "succeeded", "failed")))
    assert {"theirs"} == {report.envoy for report in received.reports}
    assert all(0.1 < report.interval < 60 for report in received.reports)


# Without Envoy: bounds and identity.

CONFIG = fleet("10.0.0.1:80", 10_000)


def metrics(node_id: str = "", *, site: str = "edge", answers: float = 1.0) -> bytes:
    """Write a message of one series, with a node if it has an id."""
    labels = {"service": "chat", "instance": "a"}
    metric = metrics_pb2.Metric(
        label=[metrics_pb2.LabelPair(name=name, value=value) for name, value in labels.items()],
        counter=metrics_pb2.Value(value=answers),
        timestamp_ms=1000,
    )
    message = metrics_pb2.StreamMetricsMessage(
        envoy_metrics=[metrics_pb2.MetricFamily(name="cats.answers", metric=[metric])]
    )
    if node_id:
        node = base_pb2.Node(id=node_id)
        node.metadata.fields["site"].string_value = site
        message.identifier.node = node.SerializeToString()
    content: bytes = message.SerializeToString()
    return content


@contextlib.asynccontextmanager
async def connected(received: Receiver) -> AsyncIterator[grpc.aio.Channel]:
    """Open a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{received.port}", options=options) as channel:
        yield channel


async def ended(call: grpc.aio.StreamUnaryCall) -> grpc.StatusCode:
    """Wait for the end of a stream; give its status."""
    async with asyncio.timeout(60):
        code: grpc.StatusCode = await call.code()
        return code


@pytest.mark.parametrize(
    ("messages", "code", "reason"),
    [
        pytest.param([b"\xff"], "INVALID_ARGUMENT", "not a StreamMetricsMessage", id="no message"),
        pytest.param([metrics()], "INVALID_ARGUMENT", "must carry a node", id="no node"),
        pytest.param(
            [metrics("e"), b"x" * 2000], "RESOURCE_EXHAUSTED", "2000 bytes", id="a long message"
        ),
    ],
)
async def test_a_stream_that_cannot_be_used_is_ended(
    receiver: Serve, messages: list[bytes], code: str, reason: str
) -> None:
    """The status says whose fault it is, and the refusal is reported."""
    async with (
        receiver(CONFIG, ObservationSettings(max_message=1000)) as received,
        connected(received) as channel,
    ):
        call = channel.stream_unary(METRICS)()
        for message in messages:
            await call.write(message)

        assert code == (await ended(call)).name
        assert reason in received.refusals[0]
        assert 0 == received.telemetry.streams.count


@pytest.mark.parametrize(("pairs", "beside"), [(10, False), (1_200, True)])
async def test_a_large_message_is_read_beside_the_event_loop_and_applied_in_turns(
    receiver: Serve, monkeypatch: pytest.MonkeyPatch, *, pairs: int, beside: bool
) -> None:
    """Other clients do not wait for an Envoy with many pairs of service and instance."""
    threads, receive = set[int](), EnvoyStats.receive

    def noted(stats: EnvoyStats, families: Any, *, now: float) -> list[TrafficReport]:
        threads.add(threading.get_ident())
        return receive(stats, families, now=now)

    monkeypatch.setattr(EnvoyStats, "receive", noted)
    message = metrics_pb2.StreamMetricsMessage.FromString(metrics("e"))
    (family,) = message.envoy_metrics
    for number in range(1, pairs):
        family.metric.add().CopyFrom(family.metric[0])
        family.metric[number].label[1].value = f"an-instance-{number:04}"
    async with receiver(CONFIG) as received, connected(received) as channel:
        turns: list[int] = []
        monkeypatch.setattr(
            received.telemetry, "_on_reports", lambda reports: turns.append(len(reports))
        )
        call = channel.stream_unary(METRICS)()
        await call.write(message.SerializeToString())
        await received.until(lambda: sum(turns) == pairs)
        call.cancel()

    assert beside == (threads.isdisjoint({threading.get_ident()}))
    assert max(turns) <= envoy_metrics.TURN


async def test_an_impossible_number_drops_its_message_only(receiver: Serve) -> None:
    """The stream goes on with the next."""
    async with receiver(CONFIG) as received, connected(received) as channel:
        call = channel.stream_unary(METRICS)()
        for message in (metrics("e"), metrics(answers=-1.0), metrics(answers=2.0)):
            await call.write(message)
        await call.done_writing()

        assert "OK" == (await ended(call)).name
        assert [1.0, 2.0] == [report.succeeded for report in received.reports]
        assert ["cats.answers is -1"] == received.refusals


async def test_an_envoy_of_an_unknown_site_is_heard_and_left_aside(receiver: Serve) -> None:
    """Its stream stays open, so that it does not come back again and again."""
    async with receiver(CONFIG) as received, connected(received) as channel:
        call = channel.stream_unary(METRICS)()
        await call.write(metrics("e", site="moon"))
        await call.done_writing()

        assert "OK" == (await ended(call)).name
        assert [] == received.reports


async def test_the_newest_stream_of_an_envoy_counts(
    receiver: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An Envoy that reconnects before its old connection is given up is counted once."""
    monkeypatch.setattr(envoy_metrics, "ALIVE_AFTER", 3_600.0)
    async with (
        receiver(CONFIG) as received,
        connected(received) as first,
        connected(received) as second,
    ):
        old = first.stream_unary(METRICS)()
        await old.write(metrics("e", answers=1.0))
        await received.until(lambda: len(received.reports) == 1)
        new = second.stream_unary(METRICS)()
        await new.write(metrics("e", answers=2.0))
        await received.until(lambda: len(received.reports) == 2)
        await old.write(metrics(answers=4.0))
        await old.done_writing()

        assert "OK" == (await ended(old)).name
        assert [1.0, 2.0] == [report.succeeded for report in received.reports]
        assert frozenset({"e"}) == received.telemetry.observed
        new.cancel()


async def test_two_envoys_with_one_id_both_count_and_are_named(
    receiver: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replaced stream that goes on sending is another Envoy's: their requests add up."""
    monkeypatch.setattr(envoy_metrics, "ALIVE_AFTER", 0.3)
    with capture_logs() as logs:
        async with (
            receiver(CONFIG) as received,
            connected(received) as first,
            connected(received) as second,
        ):
            one, two = first.stream_unary(METRICS)(), second.stream_unary(METRICS)()
            await one.write(metrics("e"))
            await received.until(lambda: len(received.reports) == 1)
            await two.write(metrics("e"))
            await received.until(lambda: len(received.reports) == 2)
            await asyncio.sleep(0.4)
            for number in range(3):
                await one.write(metrics(answers=10.0))
                await two.write(metrics(answers=100.0))
                await received.until(lambda wanted=2 * number + 4: len(received.reports) == wanted)  # type: ignore[misc]
            names = {report.envoy: report.succeeded for report in received.reports}
            one.cancel()
            two.cancel()

    (warning,) = [line for line in logs if line["event"] == "two Envoys have one id"]
    assert 332.0 == sum(report.succeeded for report in received.reports)
    assert [10.0, 100.0] == sorted(names.values())
    assert "e" == warning["envoy"]
    assert 2 == len(set(warning["peers"]))
    assert warning["remedy"]


async def test_streams_of_one_connection_are_bounded(receiver: Serve) -> None:
    """One peer cannot take all the streams there are."""
    settings = ObservationSettings(streams_per_connection=2)
    async with receiver(CONFIG, settings) as received, connected(received) as channel:
        calls = [channel.stream_unary(METRICS)() for _ in range(2)]
        for number, call in enumerate(calls):
            await call.write(metrics(f"e{number}"))
        await received.until(lambda: len(received.reports) == 2)
        third = channel.stream_unary(METRICS)()

        assert "RESOURCE_EXHAUSTED" == (await ended(third)).name
        async with connected(received) as other:
            fine = other.stream_unary(METRICS)()
            await fine.write(metrics("e9"))
            await received.until(lambda: len(received.reports) == 3)
        for call in calls:
            call.cancel()


async def test_a_fast_sender_is_held_back(receiver: Serve) -> None:
    """Messages beyond the rate wait in the sender; none is lost."""
    settings = ObservationSettings(messages_rate=200.0, messages_burst=2.0)
    async with receiver(CONFIG, settings) as received, connected(received) as channel:
        call = channel.stream_unary(METRICS)()
        await call.write(metrics("e"))
        for _ in range(20):
            await call.write(metrics())
        await call.done_writing()

        assert "OK" == (await ended(call)).name
        assert 21 == len(received.reports)


def load_report(node: base_pb2.Node) -> bytes:
    """Write a load report of three requests to the instance."""
    stats = load_report_pb2.UpstreamEndpointStats(
        address=address_pb2.Address(
            socket_address=address_pb2.SocketAddress(address="10.0.0.1", port_value=80)
        ),
        total_issued_requests=3,
    )
    locality = load_report_pb2.UpstreamLocalityStats(upstream_endpoint_stats=[stats])
    cluster = load_report_pb2.ClusterStats(cluster_name="chat", upstream_locality_stats=[locality])
    content: bytes = lrs_pb2.LoadStatsRequest(
        node=node, cluster_stats=[cluster]
    ).SerializeToString()
    return content


async def test_load_reports_of_an_observed_envoy_are_left_aside(receiver: Serve) -> None:
    """Nothing counts twice."""
    node = base_pb2.Node(id="e")
    node.metadata.fields["site"].string_value = "edge"
    loads = load_report(node)
    async with receiver(CONFIG) as received, connected(received) as channel:
        call = channel.stream_stream(LOADS)()
        await call.write(loads)
        await call.read()
        await received.until(lambda: len(received.reports) == 1)
        observing = channel.stream_unary(METRICS)()
        await observing.write(metrics("e"))
        await received.until(lambda: len(received.reports) == 2)
        await call.write(loads)
        await call.done_writing()
        await call.code()

        assert [("a", 3.0), ("a", 0.0)] == [(r.instance, r.issued) for r in received.reports]
        observing.cancel()
