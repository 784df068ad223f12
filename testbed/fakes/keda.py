"""A client of KEDA's external scaler protocol that asks what KEDA asks, and scales nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc

from controlplane.wire.externalscaler import externalscaler_pb2 as pb

_SERVICE = "/externalscaler.ExternalScaler/"
_PATIENCE = 2.0
"""Seconds for one call."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """What one ScaledObject's trigger was answered."""

    active: bool = False
    """Whether there is work: KEDA starts from zero at this."""
    metric: str = ""
    value: float = 0.0
    target: float = 1.0
    """Value for each replica."""
    error: str = ""
    """The status of the call that failed; KEDA then leaves the replicas as they are."""

    @property
    def replicas(self) -> int:
        """Return the number that Kubernetes' autoscaler makes of it, before its own bounds."""
        return math.ceil(self.value / self.target)


class KedaClient:
    """Asks an external scaler at *address*; an asynchronous context manager."""

    def __init__(self, address: str) -> None:
        # A control plane that comes back is found within a second.
        options = [
            ("grpc.initial_reconnect_backoff_ms", 500),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        self._channel: Any = grpc.aio.insecure_channel(address, options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._channel.close()

    async def ask(self, site: str, model: str) -> Scaling:
        """Ask for one trigger: the metric's specification, whether there is work, the value."""
        reference = pb.ScaledObjectRef(
            name=f"{model}-{site}",
            namespace="serving",
            scalerMetadata={"site": site, "model": model},
        )
        try:
            spec = await self._call("GetMetricSpec", reference, pb.GetMetricSpecResponse)
            (wanted,) = spec.metricSpecs
            active = await self._call("IsActive", reference, pb.IsActiveResponse)
            request = pb.GetMetricsRequest(scaledObjectRef=reference, metricName=wanted.metricName)
            values = (await self._call("GetMetrics", request, pb.GetMetricsResponse)).metricValues
        except grpc.aio.AioRpcError as error:
            return Scaling(error=error.code().name)
        value = _named(wanted.metricName, values)
        # Whole numbers are of scalers that know no others.
        return Scaling(
            active.result,
            wanted.metricName,
            value.metricValueFloat or value.metricValue,
            wanted.targetSizeFloat or wanted.targetSize,
        )

    async def _call(self, method: str, request: Any, answer: Any) -> Any:
        call = self._channel.unary_unary(
            _SERVICE + method,
            request_serializer=lambda each: each.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return await call(request, timeout=_PATIENCE)


def _named(metric: str, values: Iterable[pb.MetricValue]) -> pb.MetricValue:
    return next(value for value in values if value.metricName == metric)
