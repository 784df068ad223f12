"""Who has what, asked by a real gRPC client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from envoy.service.status.v3 import csds_pb2
from google.protobuf import json_format

from controlplane.auth.identity import IdentityCheck
from controlplane.config import Identity, Role
from controlplane.grpc_services.csds import SERVICE, ClientStatusService, StatusSettings
from controlplane.grpc_transport.calls import Call
from controlplane.grpc_transport.status import CallError, StatusCode
from controlplane.xds.types import CLUSTER, ENDPOINT
from testbed.fakes.xds import PATIENCE, XdsClient, XdsServer, make_snapshot, serve_xds

EPOCH = 1_000_000.0
SETTINGS = StatusSettings(max_request=2_000, max_response=20_000)
State = tuple[str, str, str]
"""Last word of the type, name, status."""


@pytest.fixture
async def server() -> AsyncIterator[XdsServer]:
    """Serve two clusters and their assignments, and their status."""
    async with serve_xds() as server:
        service = ClientStatusService(server.registry, epoch=lambda: EPOCH, settings=SETTINGS)
        service.serve_on(server.grpc_server)
        snapshot = make_snapshot({CLUSTER: {"a": "1", "b": "1"}, ENDPOINT: {"a": "1", "b": "1"}})
        server.views.publish({"north": snapshot, "": snapshot})
        yield server


@pytest.fixture
async def channel(server: XdsServer) -> AsyncIterator[grpc.aio.Channel]:
    """Connect to the server."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield channel


def parse(request: dict[str, Any]) -> csds_pb2.ClientStatusRequest:
    """Write a request as its JSON."""
    return json_format.ParseDict(request, csds_pb2.ClientStatusRequest())


async def fetch(channel: Any, request: dict[str, Any] | None = None) -> Any:
    """Ask once."""
    call = channel.unary_unary(
        f"/{SERVICE}/FetchClientStatus",
        request_serializer=csds_pb2.ClientStatusRequest.SerializeToString,
        response_deserializer=csds_pb2.ClientStatusResponse.FromString,
    )
    return await asyncio.wait_for(call(parse(request or {})), PATIENCE)


def states(config: Any) -> set[State]:
    """Return how far each resource of a client has come."""
    return {
        (
            each.type_url.rpartition(".")[2],
            each.name,
            csds_pb2.ConfigStatus.Name(each.config_status),
        )
        for each in config.generic_xds_configs
    }


async def until(channel: Any, wanted: set[State]) -> Any:
    """Ask until the one client's resources stand as wanted; give its config."""
    found: set[State] = set()
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                (config,) = (await fetch(channel)).config
                found = states(config)
                if found == wanted:
                    return config
    except TimeoutError:
        raise AssertionError(f"{found} is not {wanted}") from None


@pytest.mark.parametrize("delta", [pytest.param(False, id="sotw"), pytest.param(True, id="delta")])
async def test_each_resource_is_reported_with_how_far_it_came(
    channel: grpc.aio.Channel, delta: bool
) -> None:
    """Under way until it is answered, then taken or refused, with the reason."""
    client = XdsClient(channel, delta=delta)
    await client.request(CLUSTER)
    clusters = await client.response()
    await until(channel, {("Cluster", "a", "STALE"), ("Cluster", "b", "STALE")})
    await client.request(CLUSTER, nonce=clusters.nonce, version="1")
    await client.request(ENDPOINT, ["a", "c"])
    endpoints = await client.response()
    names = [] if delta else ["a", "c"]
    await client.request(ENDPOINT, names, nonce=endpoints.nonce, refusal="no such weight")
    config = await until(
        channel,
        {
            ("Cluster", "a", "SYNCED"),
            ("Cluster", "b", "SYNCED"),
            ("ClusterLoadAssignment", "a", "ERROR"),
            ("ClusterLoadAssignment", "c", "NOT_SENT"),
        },
    )
    by_name = {(each.type_url, each.name): each for each in config.generic_xds_configs}
    refused, taken = by_name[ENDPOINT, "a"], by_name[CLUSTER, "a"]

    assert ("client-1", "north") == (config.node.id, config.node.metadata["site"])
    assert "no such weight" == refused.error_state.details
    assert refused.error_state.last_update_attempt.seconds >= EPOCH
    assert taken.last_updated.seconds >= EPOCH
    assert (CLUSTER, b"a=1") == (taken.xds_config.type_url, taken.xds_config.value)


async def test_a_client_that_left_is_reported_no_longer(channel: grpc.aio.Channel) -> None:
    """Its streams are closed, and nothing is kept of them."""
    client = XdsClient(channel, delta=True)
    await client.request(CLUSTER)
    await client.response()
    assert 1 == len((await fetch(channel)).config)
    client.cancel()
    async with asyncio.timeout(PATIENCE):
        while (await fetch(channel)).config:
            pass


@pytest.mark.parametrize(
    ("matcher", "expected"),
    [
        pytest.param({"nodeId": {"exact": "n-1"}}, {"n-1"}, id="exact"),
        pytest.param({"nodeId": {"prefix": "N-", "ignoreCase": True}}, {"n-1", "n-2"}, id="prefix"),
        pytest.param({"nodeId": {"suffix": "2"}}, {"n-2"}, id="suffix"),
        pytest.param({"nodeId": {"contains": "-"}}, {"n-1", "n-2"}, id="contains"),
        pytest.param(
            {
                "nodeMetadatas": [
                    {"path": [{"key": "site"}], "value": {"stringMatch": {"exact": "south"}}}
                ]
            },
            {"n-2"},
            id="site",
        ),
        pytest.param(
            {"nodeMetadatas": [{"path": [{"key": "rack"}], "value": {"presentMatch": True}}]},
            set(),
            id="absent",
        ),
    ],
)
async def test_matchers_choose_nodes(
    channel: grpc.aio.Channel, matcher: dict[str, Any], expected: set[str]
) -> None:
    """By id and by what we keep of the metadata."""
    for node_id, site in (("n-1", "north"), ("n-2", "south")):
        client = XdsClient(channel, delta=True)
        client.node.id = node_id
        client.node.metadata["site"] = site
        await client.request(CLUSTER)
        await client.response()
    request = {"nodeMatchers": [matcher], "excludeResourceContents": True}
    found = (await fetch(channel, request)).config

    assert expected == {each.node.id for each in found}
    assert not any(each.HasField("xds_config") for c in found for each in c.generic_xds_configs)


async def test_a_stream_is_answered_request_by_request(channel: Any) -> None:
    """Each answer is of its own instant."""
    call = channel.stream_stream(f"/{SERVICE}/StreamClientStatus")()
    counts = []
    for _ in range(2):
        await call.write(b"")
        answer = await asyncio.wait_for(call.read(), PATIENCE)
        counts.append(len(csds_pb2.ClientStatusResponse.FromString(answer).config))
        client = XdsClient(channel, delta=True)
        await client.request(CLUSTER)
        await client.response()

    assert [0, 1] == counts


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        pytest.param(b"\xff\xff", "INVALID_ARGUMENT", "no ClientStatusRequest", id="no message"),
        pytest.param(b"\x0a\x00" * 101, "INVALID_ARGUMENT", "too many", id="too many matchers"),
        pytest.param(b"\x0a\x00" * 1001, "RESOURCE_EXHAUSTED", "2002 bytes", id="too long"),
        pytest.param(
            parse({"nodeMatchers": [{"nodeId": {"safeRegex": {"regex": "(a+)+"}}}]}),
            "INVALID_ARGUMENT",
            "not",
            id="regular expression",
        ),
        pytest.param(
            parse({"nodeMatchers": [{"nodeMetadatas": [{"path": [{"key": "a"}, {"key": "b"}]}]}]}),
            "INVALID_ARGUMENT",
            "one key",
            id="deep path",
        ),
    ],
)
async def test_what_cannot_be_answered_is_refused_in_words(
    channel: Any, message: Any, code: str, text: str
) -> None:
    """The status says whose fault it is."""
    body = message if isinstance(message, bytes) else message.SerializeToString()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(f"/{SERVICE}/FetchClientStatus")(body)

    assert code == caught.value.code().name
    assert text in (caught.value.details() or "")


async def test_too_much_to_report_is_refused_with_the_remedy(
    server: XdsServer, channel: grpc.aio.Channel
) -> None:
    """What a client of gRPC would not take is not sent; without contents it fits."""
    snapshot = make_snapshot({CLUSTER: {"a": "x" * 30_000}})
    server.views.publish({"north": snapshot})
    client = XdsClient(channel, delta=True)
    await client.request(CLUSTER)
    await client.response()
    with pytest.raises(grpc.aio.AioRpcError, match="exclude_resource_contents"):
        await fetch(channel)

    assert 1 == len((await fetch(channel, {"excludeResourceContents": True})).config)


OPS = Identity(san="ops.example", role=Role.OBSERVER)


@pytest.mark.parametrize(
    ("peer", "names", "enforced", "admitted"),
    [
        pytest.param("ipv4:127.0.0.1:5", (), False, True, id="loopback"),
        pytest.param("ipv6:[::1]:5", (), False, True, id="loopback of IPv6"),
        pytest.param("ipv4:10.0.0.1:5", (), False, False, id="network"),
        pytest.param("ipv4:10.0.0.1:5", ("ops.example",), True, True, id="observer"),
        pytest.param("ipv4:127.0.0.1:5", ("an.example",), True, False, id="another certificate"),
    ],
)
def test_only_this_machine_and_observers_are_reported(
    server: XdsServer, peer: str, names: tuple[str, ...], enforced: bool, admitted: bool
) -> None:
    """The answer names every address of the fleet."""
    identities = IdentityCheck([OPS], enforced=enforced)
    service = ClientStatusService(server.registry, epoch=lambda: EPOCH, identities=identities)
    caller: Any = SimpleNamespace(host=Call.host.fget(SimpleNamespace(peer=peer)), names=names)  # type: ignore[attr-defined]
    if admitted:
        service._admit(caller)
        return
    with pytest.raises(CallError, match="observer") as caught:
        service._admit(caller)
    assert StatusCode.PERMISSION_DENIED is caught.value.code
