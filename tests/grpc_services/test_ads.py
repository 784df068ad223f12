"""Real gRPC streams against a real server."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import grpc
import pytest
from envoy.service.discovery.v3 import discovery_pb2

from controlplane.grpc_services.ads import SERVICES
from controlplane.grpc_services.envoys import XdsEvent, XdsEventKind
from controlplane.grpc_services.session import SOTW_TTL_FEATURE, TTL_FEATURE
from controlplane.grpc_services.xds_settings import XdsSettings
from controlplane.xds.snapshot import Snapshot, TypeSnapshot
from controlplane.xds.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from testbed.background import until
from testbed.fakes.xds import (
    XdsClient,
    XdsServer,
    make_snapshot,
    make_stand_in,
    names_in,
    serve_xds,
)

MODES = [pytest.param(False, id="sotw"), pytest.param(True, id="delta")]


@pytest.fixture
async def events() -> list[XdsEvent]:
    """Collect what the server observes."""
    return []


@pytest.fixture
async def server(events: list[XdsEvent]) -> AsyncIterator[XdsServer]:
    """Serve two clusters and their assignments."""
    async with serve_xds(observe=events.append) as server:
        publish(server, "1")
        yield server


def publish(server: XdsServer, content: str, *, clusters: str = "1") -> None:
    """Publish two clusters with assignments of *content* to the site north and to unknown ones."""
    snapshot = make_snapshot(
        {
            CLUSTER: {"a": clusters, "b": clusters},
            ENDPOINT: {"a": content, "b": content},
            LISTENER: {"inference": "1"},
            ROUTE: {"routes": "1"},
        }
    )
    server.views.publish({"north": snapshot, "": snapshot})


@pytest.fixture
async def channel(server: XdsServer) -> AsyncIterator[grpc.aio.Channel]:
    """Connect to the server."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield channel


@pytest.mark.parametrize("delta", MODES)
async def test_a_publish_reaches_a_stream_that_acknowledged(
    server: XdsServer, channel: grpc.aio.Channel, delta: bool
) -> None:
    """A stream gets what it names, and after its ACK the next version."""
    client = XdsClient(channel, delta=delta)
    await client.request(ENDPOINT, ["a"])
    first = await client.response()
    await client.request(ENDPOINT, [] if delta else ["a"], nonce=first.nonce)
    publish(server, "2")
    second = await client.response()

    assert ["a"] == names_in(first) == names_in(second)
    assert first.nonce != second.nonce
    assert "cats" == second.control_plane.identifier


@pytest.mark.parametrize("delta", MODES)
@pytest.mark.parametrize(
    ("service", "suffix", "type_url"),
    [pytest.param(name, *rest, id=rest[0]) for name, rest in SERVICES.items() if rest[1]],
)
async def test_each_type_is_served_alone_too(
    channel: grpc.aio.Channel, service: str, suffix: str, type_url: str, delta: bool
) -> None:
    """A single type's service needs no type URL and serves that type."""
    prefix = "Delta" if delta else "Stream"
    client = XdsClient(channel, delta=delta, method=f"/{service}/{prefix}{suffix}")
    await client.request("", ["a", "inference", "routes"])
    response = await client.response()

    assert type_url == response.type_url
    assert names_in(response)


@pytest.mark.parametrize("delta", MODES)
async def test_another_type_on_a_single_type_stream_ends_it(
    channel: grpc.aio.Channel, delta: bool
) -> None:
    """A stream of endpoints serves no clusters."""
    prefix = "Delta" if delta else "Stream"
    method = f"/envoy.service.endpoint.v3.EndpointDiscoveryService/{prefix}Endpoints"
    client = XdsClient(channel, delta=delta, method=method)
    await client.request(CLUSTER)

    assert grpc.StatusCode.INVALID_ARGUMENT == (await client.status())[0]


@pytest.mark.parametrize("delta", MODES)
async def test_a_request_without_a_type_ends_an_aggregated_stream(
    channel: grpc.aio.Channel, delta: bool
) -> None:
    """An aggregated stream needs the type in each request."""
    client = XdsClient(channel, delta=delta)
    await client.request("")

    assert grpc.StatusCode.INVALID_ARGUMENT == (await client.status())[0]


@pytest.mark.parametrize("delta", MODES)
async def test_a_first_request_without_node_id_ends_the_stream(
    channel: grpc.aio.Channel, delta: bool
) -> None:
    """Who connects must say who it is."""
    client = XdsClient(channel, delta=delta)
    client.node.id = ""
    await client.request(CLUSTER)

    assert grpc.StatusCode.INVALID_ARGUMENT == (await client.status())[0]


@pytest.mark.parametrize("delta", MODES)
async def test_bytes_that_are_no_request_end_the_stream(
    channel: grpc.aio.Channel, delta: bool
) -> None:
    """What cannot be parsed is the client's fault."""
    client = XdsClient(channel, delta=delta)
    await client.write(b"\xff\xff\xff\xff")

    assert grpc.StatusCode.INVALID_ARGUMENT == (await client.status())[0]


async def test_nobody_is_answered_before_the_first_publish() -> None:
    """An empty answer would wipe a running Envoy, so the stream is refused."""
    async with serve_xds() as server, grpc.aio.insecure_channel(server.address) as channel:
        client = XdsClient(channel, delta=False)

        assert grpc.StatusCode.UNAVAILABLE == (await client.status())[0]


async def test_too_many_starts_are_refused(events: list[XdsEvent]) -> None:
    """Streams beyond the burst and the patience are informed to come later."""
    settings = XdsSettings(streams_rate=0.001, streams_burst=1, streams_patience=0)
    async with (
        serve_xds(settings=settings, observe=events.append) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        publish(server, "1")
        served = XdsClient(channel, delta=True)
        await served.request(ENDPOINT, ["a"])
        await served.response()
        refused = XdsClient(channel, delta=True)

        assert grpc.StatusCode.RESOURCE_EXHAUSTED == (await refused.status())[0]
        assert XdsEventKind.REFUSED_STREAM in {event.what for event in events}


async def test_a_connection_that_opens_many_streams_leaves_room_for_others() -> None:
    """Its own rate ends first; another connection starts at once."""
    settings = XdsSettings(
        connection_streams_rate=0.001, connection_streams_burst=2, streams_patience=0
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with (
        serve_xds(settings=settings) as server,
        grpc.aio.insecure_channel(server.address, options) as greedy,
        grpc.aio.insecure_channel(server.address, options) as modest,
    ):
        publish(server, "1")
        for _ in range(2):
            stream = XdsClient(greedy, delta=True)
            await stream.request(ENDPOINT, ["a"])
            await stream.response()
        refused = XdsClient(greedy, delta=True)
        assert grpc.StatusCode.RESOURCE_EXHAUSTED == (await refused.status())[0]
        other = XdsClient(modest, delta=True)
        await other.request(ENDPOINT, ["a"])
        await other.response()


@pytest.mark.parametrize("delta", MODES)
async def test_an_unknown_site_gets_the_default_view_and_is_counted(
    channel: grpc.aio.Channel, events: list[XdsEvent], delta: bool
) -> None:
    """An Envoy of a site no one configured is served and reported."""
    client = XdsClient(channel, delta=delta)
    client.node.metadata["site"] = "atlantis"
    await client.request(CLUSTER)

    assert ["a", "b"] == names_in(await client.response())
    assert ["atlantis"] == [e.site for e in events if e.what is XdsEventKind.UNKNOWN_SITE]


@pytest.mark.parametrize("delta", MODES)
async def test_the_registry_knows_what_was_sent_taken_and_refused(
    server: XdsServer, channel: grpc.aio.Channel, delta: bool
) -> None:
    """A refusal is kept with its text until a response is taken."""
    client = XdsClient(channel, delta=delta)
    names = [] if delta else ["a"]
    await client.request(ENDPOINT, ["a"])
    first = await client.response()
    await client.request(ENDPOINT, names, nonce=first.nonce)
    await until(lambda: any(e.types and e.types[ENDPOINT].acked for e in server.registry.envoys))
    (envoy,) = server.registry.envoys
    publish(server, "2")
    second = await client.response()
    await client.request(ENDPOINT, names, nonce=second.nonce, refusal="weights are odd")
    record = envoy.types[ENDPOINT]
    await until(lambda: record.nacks == 1)

    assert ("client-1", "north", "delta" if delta else "sotw") == (envoy.id, envoy.site, envoy.mode)
    assert {"north": 1} == server.registry.clients
    assert "weights are odd" == record.refusal
    assert record.acked != record.sent == record.refused

    client.cancel()
    await until(lambda: not envoy.connected)

    assert {} == server.registry.clients


async def test_a_client_that_does_not_read_is_closed(events: list[XdsEvent]) -> None:
    """Memory for a slow reader is bounded by ending its stream."""
    settings = XdsSettings(send_timeout=0.2)
    # Otherwise grpcio's window grows by what arrives, and on a busy machine takes all of it.
    fixed_window = [("grpc.http2.bdp_probe", 0)]
    async with (
        serve_xds(settings=settings, observe=events.append) as server,
        grpc.aio.insecure_channel(server.address, options=fixed_window) as channel,
    ):
        big = "x" * 1_500_000
        server.views.publish({"north": make_snapshot({ENDPOINT: dict.fromkeys("ab", big)})})
        client = XdsClient(channel, delta=True)
        # One request: another one may find the stream closed already.
        await client.request(ENDPOINT, "ab")
        await until(lambda: any(e.what is XdsEventKind.SEND_TIMEOUT for e in events))
        await until(lambda: not server.registry.clients)


@pytest.mark.parametrize("delta", MODES)
async def test_a_time_to_live_is_renewed_for_clients_that_announce_it(
    server: XdsServer, channel: grpc.aio.Channel, delta: bool
) -> None:
    """A heartbeat has the same version and no resource."""
    short = make_stand_in(ENDPOINT, "a", "1", ttl=0.3)
    server.views.publish({"north": Snapshot({ENDPOINT: TypeSnapshot.of([short])})})
    client = XdsClient(channel, delta=delta)
    client.node.client_features.extend([TTL_FEATURE, SOTW_TTL_FEATURE])
    await client.request(ENDPOINT, ["a"])
    wrapped = []
    for _ in range(3):
        response = await client.response()
        await client.request(ENDPOINT, [] if delta else ["a"], nonce=response.nonce)
        resource = discovery_pb2.Resource()
        if delta:
            resource.CopyFrom(response.resources[0])
        else:
            response.resources[0].Unpack(resource)
        wrapped.append((resource.name, resource.version, resource.HasField("resource")))

    assert [("a", short.version, whole) for whole in (True, False, False)] == wrapped


async def test_a_bug_ends_its_stream_only(
    server: XdsServer,
    channel: grpc.aio.Channel,
    events: list[XdsEvent],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An exception no one foresaw is informed to the client as INTERNAL and counted."""
    healthy = XdsClient(channel, delta=True)
    await healthy.request(CLUSTER)
    await healthy.response()

    def fail(*_arguments: object, **_options: object) -> bytes:
        raise ZeroDivisionError

    broken = XdsClient(channel, delta=True)
    with monkeypatch.context() as patch:
        patch.setattr(server.service.encoder, "shared_part", fail)
        await broken.request(CLUSTER)

        assert grpc.StatusCode.INTERNAL == (await broken.status())[0]
    await healthy.request(ENDPOINT, ["a"])

    assert ["a"] == names_in(await healthy.response())
    assert [XdsEventKind.BUG] == [e.what for e in events if e.what is XdsEventKind.BUG]


async def test_resources_refused_in_company_are_sent_one_by_one_later(
    events: list[XdsEvent],
) -> None:
    """One bad assignment does not keep back the others of its response."""
    settings = dataclasses.replace(XdsSettings(), isolation_delay=0.05)
    async with (
        serve_xds(settings=settings, observe=events.append) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        publish(server, "1")
        client = XdsClient(channel, delta=True)
        await client.request(ENDPOINT, ["a", "b"])
        both = await client.response()
        await client.request(ENDPOINT, nonce=both.nonce, refusal="a is bad")
        first = await client.response()
        await client.request(ENDPOINT, nonce=first.nonce, refusal="a is bad")
        second = await client.response()

        assert ["a", "b"] == names_in(both)
        assert [["a"], ["b"]] == [names_in(first), names_in(second)]
