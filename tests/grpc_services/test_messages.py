"""Bytes in and out, held against the protobuf runtime."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2
from google.rpc import status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.errors import ProtocolError
from controlplane.grpc_services import messages as wire
from controlplane.grpc_services import requests as parsing
from controlplane.grpc_services.messages import Encoder
from controlplane.grpc_services.requests import parse_delta_request, parse_sotw_request
from controlplane.xds.delta import DeltaStream
from controlplane.xds.snapshot import make_resource
from controlplane.xds.sotw import SotwStream
from controlplane.xds.types import CLUSTER, ENDPOINT, Push, Response
from testbed.fakes.xds import make_snapshot, make_stand_in

texts = st.text(max_size=40)
names = st.lists(texts, max_size=5, unique=True)
MODES = [pytest.param(False, id="sotw"), pytest.param(True, id="delta")]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(version=texts, nonce=texts, names=names, bodies=st.binary(max_size=300), missing=names)
def test_sotw_responses_are_what_protobuf_would_write(
    version: str, nonce: str, names: list[str], bodies: bytes, missing: list[str]
) -> None:
    """The runtime reads back what went in."""
    anys = [any_pb2.Any(type_url=ENDPOINT, value=bodies + name.encode()) for name in names]
    resources = tuple(
        make_resource(name, body.SerializeToString())
        for name, body in zip(names, anys, strict=True)
    )
    push = Push(version, resources, missing=tuple(missing))
    written = Encoder("me").encode(Response(ENDPOINT, nonce, push), delta=False)
    expected = discovery_pb2.DiscoveryResponse(
        version_info=version, resources=anys, type_url=ENDPOINT, nonce=nonce
    )
    expected.control_plane.identifier = "me"
    _add_errors(expected.resource_errors, missing)

    assert expected == discovery_pb2.DiscoveryResponse.FromString(written)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    version=texts,
    nonce=texts,
    names=names,
    bodies=st.binary(max_size=300),
    gone=st.tuples(names, names),
)
def test_delta_responses_are_what_protobuf_would_write(
    version: str, nonce: str, names: list[str], bodies: bytes, gone: tuple[list[str], list[str]]
) -> None:
    """The runtime reads back what went in."""
    removed, missing = gone
    anys = [any_pb2.Any(type_url=ENDPOINT, value=bodies + name.encode()) for name in names]
    resources = tuple(
        make_resource(name, body.SerializeToString())
        for name, body in zip(names, anys, strict=True)
    )
    push = Push(version, resources, removed=tuple(removed), missing=tuple(missing))
    written = Encoder("me").encode(Response(ENDPOINT, nonce, push), delta=True)
    expected = discovery_pb2.DeltaDiscoveryResponse(
        system_version_info=version, type_url=ENDPOINT, nonce=nonce, removed_resources=removed
    )
    expected.control_plane.identifier = "me"
    for resource, body in zip(resources, anys, strict=True):
        expected.resources.add(name=resource.name, version=resource.version, resource=body)
    _add_errors(expected.resource_errors, missing)

    assert expected == discovery_pb2.DeltaDiscoveryResponse.FromString(written)


def _add_errors(errors: Any, missing: list[str]) -> None:
    for name in missing:
        error = errors.add()
        error.resource_name.name = name
        error.error_detail.code = wire.NOT_FOUND
        error.error_detail.message = f"there is no resource {name}"


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("xdstp://a/type/x?b=2&a=1", "xdstp://a/type/x?a=1&b=2"),
        ("xdstp://a/type/x/*?b=2&a=1#alt=y", "xdstp://a/type/x/*?a=1&b=2#alt=y"),
        ("xdstp://a/type/x", "xdstp://a/type/x"),
        ("plain?b=2&a=1", "plain?b=2&a=1"),
        ("plain&x", "plain&x"),
    ],
)
def test_context_parameters_are_a_map(written: str, canonical: str) -> None:
    """The order in which a client writes them names no other resource."""
    sotw = discovery_pb2.DiscoveryRequest(resource_names=[written]).SerializeToString()
    delta = discovery_pb2.DeltaDiscoveryRequest(resource_names_subscribe=[written])
    asked, _ = parse_sotw_request(sotw, with_node=False)
    subscribed, _ = parse_delta_request(delta.SerializeToString(), with_node=False)

    assert (canonical,) == asked.names == subscribed.subscribe


@pytest.mark.parametrize("heartbeat", [False, True])
def test_a_time_to_live_is_wrapped_for_those_who_understand_it(heartbeat: bool) -> None:
    """State of the world carries the wrapper as the resource; a heartbeat leaves the body out."""
    resource = make_stand_in(ENDPOINT, "a", "1", ttl=1.5)
    response = Response(ENDPOINT, "n", Push("v", (resource,), heartbeat=heartbeat))
    encoder = Encoder("me")
    whole = discovery_pb2.DiscoveryResponse.FromString(
        encoder.encode(response, delta=False, ttl=True)
    )
    wrapped = discovery_pb2.Resource()
    assert whole.resources[0].Unpack(wrapped)
    delta = discovery_pb2.DeltaDiscoveryResponse.FromString(
        encoder.encode(response, delta=True, ttl=True)
    )

    for found in (wrapped, delta.resources[0]):
        assert ("a", resource.version, not heartbeat) == (
            found.name,
            found.version,
            found.HasField("resource"),
        )
        assert (1, 500_000_000) == (found.ttl.seconds, found.ttl.nanos)


def test_shared_bytes_live_as_long_as_their_push() -> None:
    """Equal pushes share their bytes, and no push is remembered after its last stream."""
    encoder = Encoder("me")
    response = Response(ENDPOINT, "n", Push("v", (make_stand_in(ENDPOINT, "a", "1"),)))
    other = Response(ENDPOINT, "m", response.push)
    first = encoder.shared_part(response, delta=True)

    assert first is encoder.shared_part(other, delta=True)
    del response, other
    gc.collect()
    assert [0, 0, 0, 0] == [len(bodies) for bodies in encoder._bodies]


def test_a_node_is_read_when_wanted_and_cut_out_otherwise() -> None:
    """Envoy's node is 60 kB; only the first one is looked into."""
    node = base_pb2.Node(id="n1", user_agent_name="envoy")
    node.metadata["site"] = "north"
    node.locality.region = "eu"
    node.locality.zone = "eu-1"
    node.client_features.append("feature")
    for number in range(600):
        node.extensions.add(name=f"envoy.filters.http.number_{number}", category="envoy.filters")
    sotw = discovery_pb2.DiscoveryRequest(
        node=node, type_url=CLUSTER, resource_names=["a"], response_nonce="7"
    ).SerializeToString()
    delta = discovery_pb2.DeltaDiscoveryRequest(
        node=node, type_url=CLUSTER, resource_names_subscribe=["a"], response_nonce="7"
    ).SerializeToString()

    for parse, body in ((parse_sotw_request, sotw), (parse_delta_request, delta)):
        _, found = parse(body, with_node=True)
        request, ignored = parse(body, with_node=False)

        assert found == parsing.Node(
            "n1", "north", "eu", "eu-1", features=frozenset({"feature"}), agent="envoy"
        )
        assert ignored is None
        assert (CLUSTER, "7") == (request.type_url, request.nonce)


def test_a_refusal_keeps_its_reason_only() -> None:
    """Envoy prefixes the whole message it refused."""
    reason = "Proto constraint validation failed (LoadBalancingWeight: value must be >= 1)"
    message = discovery_pb2.DiscoveryRequest(
        error_detail=status_pb2.Status(code=13, message="x" * 100_000 + reason)
    )
    request, _ = parse_sotw_request(message.SerializeToString(), with_node=False)
    assert request.rejection is not None
    assert reason == request.rejection.message

    assert parsing.MAX_REFUSAL + 1 == len(parsing.trim_refusal("y" * 100_000))


requests = {
    False: st.builds(
        discovery_pb2.DiscoveryRequest,
        type_url=st.sampled_from([CLUSTER, ENDPOINT, "", "x"]),
        resource_names=st.lists(st.sampled_from(["a", "b", "*", "", "é"]), max_size=4),
        response_nonce=st.sampled_from(["", "1", "2", "3", "z"]),
        error_detail=st.none() | st.builds(status_pb2.Status, message=texts),
    ),
    True: st.builds(
        discovery_pb2.DeltaDiscoveryRequest,
        type_url=st.sampled_from([CLUSTER, ENDPOINT, "", "x"]),
        resource_names_subscribe=st.lists(st.sampled_from(["a", "b", "*", "", "é"]), max_size=4),
        resource_names_unsubscribe=st.lists(st.sampled_from(["a", "*", ""]), max_size=3),
        initial_resource_versions=st.dictionaries(st.sampled_from(["a", "b", "c"]), texts),
        response_nonce=st.sampled_from(["", "1", "2", "3", "z"]),
        error_detail=st.none() | st.builds(status_pb2.Status, message=texts),
    ),
}


@pytest.mark.parametrize("delta", MODES)
def test_random_requests_break_nothing(delta: bool) -> None:
    """A stream answers or ends with a ProtocolError, and what it keeps is bounded."""
    mutated = st.tuples(requests[delta], st.binary(max_size=6), st.integers(0, 60))

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.lists(mutated, max_size=25), st.booleans())
    def run(script: list[tuple[discovery_pb2.DiscoveryRequest, bytes, int]], spoil: bool) -> None:
        stream = (DeltaStream if delta else SotwStream)(
            make_snapshot({CLUSTER: {"a": "1"}, ENDPOINT: {"a": "1", "b": "1"}})
        )
        try:
            for message, noise, at in script:
                body = message.SerializeToString()
                if spoil:
                    body = body[:at] + noise + body[at:]
                if isinstance(stream, DeltaStream):
                    stream.receive(parse_delta_request(body, with_node=True)[0])
                else:
                    stream.receive(parse_sotw_request(body, with_node=True)[0])
                stream.responses_to_send()
        except ProtocolError:
            return
        for state in stream._states.values():
            kept = (state.held.resources, state.again, state.apart, state.parked, state.in_flight)

            assert all(len(part) <= 8 for part in kept)

    run()


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_are_refused_or_read(body: bytes, pad: bool) -> None:
    """Nothing but a ProtocolError comes out of the decoders, the scanner of large ones included."""
    body += body * (parsing._LARGE // max(1, len(body)) + 1) if pad else b""
    for parse in (parse_sotw_request, parse_delta_request):
        for with_node in (False, True):
            try:
                parse(body, with_node=with_node)
            except ProtocolError:
                continue
