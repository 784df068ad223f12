"""KEDA's protocol over both transports, asked by grpcio's client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest

from controlplane.auth.identity import IdentityCheck
from controlplane.grpc_services import external_scaler
from controlplane.grpc_services.external_scaler import ExternalScaler
from controlplane.grpc_transport.grpcio import GrpcioServer
from controlplane.grpc_transport.server import GrpcServer
from controlplane.steering.scaling_group import ScalingGroup
from controlplane.wire.externalscaler import externalscaler_pb2 as pb

GROUP = ScalingGroup(
    site="north",
    model="m",
    replicas=2,
    work=4.0,
    utilisation=0.5,
    gain_least=0.1,
    gain_most=0.4,
    wanted=3,
    patient=5,
    bound_by="chat",
    room_work=2.0,
    room_rate=1.0,
)
REFERENCE = pb.ScaledObjectRef(
    name="vllm", namespace="serving", scalerMetadata={"site": "north", "model": "m"}
)
ANSWERS: dict[str, Any] = {
    "IsActive": pb.IsActiveResponse,
    "StreamIsActive": pb.IsActiveResponse,
    "GetMetricSpec": pb.GetMetricSpecResponse,
    "GetMetrics": pb.GetMetricsResponse,
}
BOTH = pytest.mark.parametrize("make", [GrpcServer, GrpcioServer], ids=["h2", "grpcio"])


class Known:
    """The groups of now; a test changes them."""

    def __init__(self, groups: Sequence[ScalingGroup] | None = (GROUP,)) -> None:
        self.groups = groups

    def __call__(self) -> Sequence[ScalingGroup] | None:
        """Return them."""
        return self.groups


@asynccontextmanager
async def asking(known: Known, make: Any = GrpcServer, **more: Any) -> AsyncIterator[Any]:
    """Serve *known*; yield a function that calls a method with a request."""
    server = make()
    ExternalScaler(known, **more).serve_on(server)
    port = await server.listen("127.0.0.1", 0)
    options = [("grpc.use_local_subchannel_pool", 1)]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:

            def call(method: str, request: Any = REFERENCE) -> Any:
                kind = channel.unary_stream if method.startswith("Stream") else channel.unary_unary
                return kind(
                    f"/externalscaler.ExternalScaler/{method}",
                    request_serializer=lambda each: each.SerializeToString(),
                    response_deserializer=ANSWERS[method].FromString,
                )(request, timeout=60)

            yield call
    finally:
        await server.stop()


@BOTH
async def test_keda_gets_the_number_of_replicas_as_a_metric_whose_target_is_one(make: Any) -> None:
    """Kubernetes' autoscaler divides the value by the target, and has the number."""
    async with asking(Known(), make) as call:
        assert (await call("IsActive")).result
        (spec,) = (await call("GetMetricSpec")).metricSpecs
        request = pb.GetMetricsRequest(scaledObjectRef=REFERENCE, metricName=spec.metricName)
        (value,) = (await call("GetMetrics", request)).metricValues

    assert (1, 1.0) == (spec.targetSize, spec.targetSizeFloat)
    assert (spec.metricName, 3, 3.0) == (
        value.metricName,
        value.metricValue,
        value.metricValueFloat,
    )


@pytest.mark.parametrize("starting", [False, True])
async def test_a_group_at_zero_is_active_once_a_start_is_wanted(*, starting: bool) -> None:
    """KEDA starts from zero at that."""
    asleep = replace(GROUP, replicas=0, work=0.0, wanted=int(starting), asleep=1, starting=starting)
    async with asking(Known((asleep,))) as call:
        assert starting == (await call("IsActive")).result
        request = pb.GetMetricsRequest(scaledObjectRef=REFERENCE)
        (value,) = (await call("GetMetrics", request)).metricValues

    assert int(starting) == value.metricValue


async def test_where_no_number_keeps_the_promise_none_has_to_wait_longer_than_it_takes() -> None:
    """More would be money for nothing; with what there is, an overload would never end."""
    async with asking(Known((replace(GROUP, wanted=None),))) as call:
        request = pb.GetMetricsRequest(scaledObjectRef=REFERENCE)
        (value,) = (await call("GetMetrics", request)).metricValues

    assert 5 == value.metricValue


@pytest.mark.parametrize(
    ("groups", "metadata", "code"),
    [
        (None, {"site": "north", "model": "m"}, grpc.StatusCode.UNAVAILABLE),
        ((), {"site": "north", "model": "m"}, grpc.StatusCode.UNAVAILABLE),
        ((GROUP,), {"site": "south", "model": "m"}, grpc.StatusCode.NOT_FOUND),
        ((GROUP,), {"site": "north"}, grpc.StatusCode.INVALID_ARGUMENT),
        ((GROUP,), {}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=["no plan", "a plan of another process", "unknown", "no model", "nothing"],
)
@pytest.mark.parametrize("method", ["IsActive", "GetMetrics", "StreamIsActive"])
async def test_what_is_not_known_is_an_error_and_no_number(
    method: str, groups: Any, metadata: dict[str, str], code: grpc.StatusCode
) -> None:
    """KEDA then keeps the replicas that there are; an invented number would scale them away."""
    reference = pb.ScaledObjectRef(name="vllm", scalerMetadata=metadata)
    request: Any = reference
    if method == "GetMetrics":
        request = pb.GetMetricsRequest(scaledObjectRef=reference)
    async with asking(Known(groups)) as call:
        answer = call(method, request)
        first = anext(aiter(answer)) if method == "StreamIsActive" else answer
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await first

    assert code == failure.value.code()


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("", True),
        ("replicas-wanted", True),
        ("s1-replicas-wanted", True),
        ("queue-length", False),
        ("s1-", False),
        ("replicas-wanted-s1", False),
        ("x" * 5000, False),
    ],
)
async def test_a_metric_that_there_is_not_has_no_value(name: str, known: bool) -> None:
    """A trigger written for another scaler would have replicas for its number."""
    request = pb.GetMetricsRequest(scaledObjectRef=REFERENCE, metricName=name)
    async with asking(Known()) as call:
        if known:
            (value,) = (await call("GetMetrics", request)).metricValues
            assert 3 == value.metricValue
            return
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call("GetMetrics", request)

    assert grpc.StatusCode.INVALID_ARGUMENT == failure.value.code()
    assert "replicas-wanted" in (failure.value.details() or "")
    assert len(failure.value.details() or "") < 200


async def test_a_push_trigger_is_sent_each_change_of_activity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A group without work may be scaled to zero, and is woken when work comes."""
    monkeypatch.setattr(external_scaler, "PUSH_PERIOD", 0.01)
    known = Known((replace(GROUP, work=0.0),))
    async with asking(known) as call:
        answers = aiter(call("StreamIsActive"))
        first = (await anext(answers)).result
        known.groups = (GROUP,)
        second = (await anext(answers)).result

    assert (False, True) == (first, second)


async def test_with_certificates_only_observers_are_answered() -> None:
    """Loads of a fleet are for those who may ask who has what."""
    check = IdentityCheck((), enforced=True)
    async with asking(Known(), identities=check) as call:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call("IsActive")

    assert grpc.StatusCode.PERMISSION_DENIED == failure.value.code()


async def test_bytes_that_are_no_request_are_an_error_of_the_clients() -> None:
    """The call ends, the server goes on."""
    async with asking(Known()) as call:

        class Noise:
            def SerializeToString(self) -> bytes:  # noqa: N802 -- protobuf's name
                """Return no message."""
                return b"\xff\xff"

        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call("IsActive", Noise())
        answered = (await asyncio.wait_for(call("IsActive"), 60)).result

    assert grpc.StatusCode.INVALID_ARGUMENT == failure.value.code()
    assert answered
