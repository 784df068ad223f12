"""KEDA's external scaler: how many replicas of a model at a site keep the promise.

KEDA asks every some seconds and hands the number to Kubernetes' autoscaler; it is the value of one
metric whose target is 1, so that the number wanted is the number of replicas.
Where nothing is known (no plan yet, a plan of another process) the call fails, and KEDA keeps what
there is; a wrong number would scale a model away.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from google.protobuf.message import DecodeError, Message

from controlplane.auth.identity import OPEN, IdentityCheck
from controlplane.config import Role
from controlplane.errors import IdentityError
from controlplane.grpc_transport.calls import Conversation, Serves, conversing
from controlplane.grpc_transport.status import CallError, StatusCode
from controlplane.steering.scaling_group import ScalingGroup
from controlplane.wire.externalscaler import externalscaler_pb2 as pb

SERVICE = "externalscaler.ExternalScaler"
METRIC = "replicas-wanted"
MAX_REQUEST = 65_536
"""Bytes of one request."""
PUSH_PERIOD = 1.0
"""Seconds between two looks for a stream that waits for work to come."""
IDLE = 1e-3
"""Work below which a group has nothing to do: a request-millisecond a second."""

_OURS = re.compile(rf"(s\d+-)?{METRIC}")
"""The metric's name, before which KEDA may put the number of the trigger."""

Groups = Callable[[], "Sequence[ScalingGroup] | None"]
"""Returns what is known now; None before the first plan."""


class ExternalScaler:
    """The four methods.

    Args:
        groups: what is known.
        identities: with clients' certificates, only observers are answered.
    """

    def __init__(self, groups: Groups, *, identities: IdentityCheck = OPEN) -> None:
        self._groups = groups
        self._identities = identities

    def serve_on(self, server: Serves) -> None:
        """Serve all methods on *server*."""
        for name, answer in (
            ("IsActive", self._is_active),
            ("GetMetricSpec", self._spec),
            ("GetMetrics", self._metrics),
        ):
            server.add_method(f"/{SERVICE}/{name}", conversing(partial(self._unary, answer)))
        server.add_method(f"/{SERVICE}/StreamIsActive", conversing(self._stream))

    async def _read(self, call: Conversation) -> bytes:
        try:
            self._identities.check(call.call.names, Role.OBSERVER, id="", site="")
        except IdentityError as error:
            raise CallError(StatusCode.PERMISSION_DENIED, str(error)) from error
        message = await call.read()
        if message is None or len(message) > MAX_REQUEST:
            raise CallError(StatusCode.INVALID_ARGUMENT, f"one request of at most {MAX_REQUEST} B")
        return message

    async def _unary(
        self, answer: Callable[[bytes], Awaitable[Message]], call: Conversation
    ) -> None:
        try:
            made = await answer(await self._read(call))
        except DecodeError as error:
            raise CallError(StatusCode.INVALID_ARGUMENT, "not a request of KEDA's") from error
        await call.write(made.SerializeToString())

    async def _stream(self, call: Conversation) -> None:
        message, known = await self._read(call), None
        while not call.is_over:
            active = (await self._is_active(message)).result
            if active != known:
                known = active
                await call.write(pb.IsActiveResponse(result=active).SerializeToString())
            await asyncio.sleep(PUSH_PERIOD)

    async def _is_active(self, message: bytes) -> pb.IsActiveResponse:
        group = await self._find(pb.ScaledObjectRef.FromString(message))
        return pb.IsActiveResponse(result=group.work > IDLE or group.starting)

    async def _spec(self, message: bytes) -> pb.GetMetricSpecResponse:
        _key_of(pb.ScaledObjectRef.FromString(message))
        spec = pb.MetricSpec(metricName=METRIC, targetSize=1, targetSizeFloat=1.0)
        return pb.GetMetricSpecResponse(metricSpecs=[spec])

    async def _metrics(self, message: bytes) -> pb.GetMetricsResponse:
        request = pb.GetMetricsRequest.FromString(message)
        if request.metricName and not _OURS.fullmatch(request.metricName):
            raise CallError(
                StatusCode.INVALID_ARGUMENT,
                f"there is no metric '{request.metricName[:64]}'; ask for {METRIC}",
            )
        group = await self._find(request.scaledObjectRef)
        # Where no number keeps the promise, more than this would be money for nothing.
        wanted = group.patient if group.wanted is None else group.wanted
        value = pb.MetricValue(
            metricName=METRIC, metricValue=math.ceil(wanted), metricValueFloat=float(wanted)
        )
        return pb.GetMetricsResponse(metricValues=[value])

    async def _find(self, reference: pb.ScaledObjectRef) -> ScalingGroup:
        site, model = _key_of(reference)
        # Made at the first question after a decision, of a large fleet in some milliseconds.
        groups = await asyncio.to_thread(self._groups)
        if not groups:
            raise CallError(StatusCode.UNAVAILABLE, "nothing is decided here yet; ask again")
        for group in groups:
            if (group.site, group.model) == (site, model):
                return group
        known = ", ".join(sorted(f"{each.site}/{each.model}" for each in groups)[:20])
        raise CallError(
            StatusCode.NOT_FOUND,
            f"no instance of model '{model[:64]}' at site '{site[:64]}' may get requests or be"
            f" started; there are {known}",
        )


def _key_of(reference: pb.ScaledObjectRef) -> tuple[str, str]:
    """Return site and model that a trigger's metadata names."""
    metadata = reference.scalerMetadata
    if not metadata.get("site") or not metadata.get("model"):
        raise CallError(StatusCode.INVALID_ARGUMENT, "set site and model in the trigger's metadata")
    return metadata["site"], metadata["model"]
