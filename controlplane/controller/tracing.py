"""Traces of cycles over OTLP, where ``server.tracing`` asks for them; nothing is loaded otherwise.

A trace is one cycle: what it waited for, and, once they do, how long Envoys took to hold its plan.
Spans are made from measured times after the cycle, so that tracing costs a cycle nothing.
"""

from __future__ import annotations

import time
from collections import OrderedDict

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from controlplane import __version__
from controlplane.config import Tracing
from controlplane.controller.cycle_record import CycleRecord
from controlplane.grpc_services.convergence import Settled
from controlplane.runtime.otlp import JsonExporter

KEPT = 64
"""Cycles whose plans may still be acknowledged by someone."""
TIMEOUT = 5.0
"""Seconds that one export may take; a receiver that hangs delays the end by as much."""


class CycleTracer:
    """Sends a trace for each cycle, in a thread of its own."""

    def __init__(self, settings: Tracing, *, replica: str) -> None:
        resource = Resource.create(
            {
                "service.name": "cats-controlplane",
                "service.version": __version__,
                "service.instance.id": replica,
            }
        )
        # Not the process's global provider: an embedding application may have its own.
        self._provider = TracerProvider(
            resource=resource, sampler=TraceIdRatioBased(settings.sample), shutdown_on_exit=False
        )
        exporter = JsonExporter(settings.endpoint, timeout=TIMEOUT)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("controlplane", __version__)
        self._published: OrderedDict[str, tuple[trace.Span, int]] = OrderedDict()
        """Plan -> the cycle that published it, and when, in Unix nanoseconds."""
        self._early: OrderedDict[str, Settled] = OrderedDict()
        """Plan -> when all held it, for cycles that are not reported yet."""

    def trace_cycle(self, cycle: CycleRecord) -> None:
        """Make the spans of a cycle."""
        zero = time.time_ns() - time.perf_counter_ns()

        def instant(seconds: float) -> int:
            return zero + int(seconds * 1e9)

        spans: dict[str, trace.Span] = {}
        for name, parent, begin, end in cycle.stages:
            context = trace.set_span_in_context(spans[parent]) if parent else None
            spans[name] = span = self._tracer.start_span(
                name,
                context=context,
                start_time=instant(begin),
                attributes=None if parent else dict(cycle.attributes),
            )
            span.end(end_time=instant(end))
            if name == "publish" and cycle.attributes["cats.plan.outcome"] == "published":
                self._published[cycle.version] = (spans["cycle"], instant(end))
                early = self._early.pop(cycle.version, None)
                if early is not None:
                    self.trace_settled(early)
        while len(self._published) > KEPT:
            self._published.popitem(last=False)

    def trace_settled(self, settled: Settled) -> None:
        """Make the span from a publication until every Envoy holds it.

        Near Envoys acknowledge while the cycle is still saving; it is reported when that is over.
        """
        cycle, published_at = self._published.pop(settled.version, (None, 0))
        if cycle is None:
            self._early[settled.version] = settled
            while len(self._early) > KEPT:
                self._early.popitem(last=False)
            return
        span = self._tracer.start_span(
            "convergence", context=trace.set_span_in_context(cycle), start_time=published_at
        )
        span.end(end_time=published_at + int(settled.seconds * 1e9))

    def close(self) -> None:
        """Send what is left; blocks, so call it from a thread."""
        self._provider.shutdown()
