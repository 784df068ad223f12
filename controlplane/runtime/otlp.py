"""Spans to a collector as OTLP over HTTP in JSON.

The exporters of OpenTelemetry speak protobuf, with generated modules of the very names that the
package of Envoy's protos installs in another version, so that whichever is installed last breaks
the other one. JSON is the protocol's other encoding, and every collector takes it
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).
"""

from __future__ import annotations

import http.client
import json
import math
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult


class JsonExporter(SpanExporter):
    """Posts batches of spans to *endpoint*; a batch that fails is lost, and so counted by the SDK.

    *timeout* is in seconds.
    """

    def __init__(self, endpoint: str, *, timeout: float) -> None:
        self._endpoint = endpoint
        self._timeout = timeout

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send *spans*; blocks, and is called from the SDK's thread."""
        body = json.dumps({"resourceSpans": [_describe(span) for span in spans]})
        request = urllib.request.Request(  # noqa: S310 -- the schema takes http and https alone
            self._endpoint, body.encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout):  # noqa: S310 -- as above
                return SpanExportResult.SUCCESS
        except (OSError, http.client.HTTPException):
            return SpanExportResult.FAILURE


def _describe(span: ReadableSpan) -> dict[str, Any]:
    """Return one span with its resource, as `ResourceSpans` in JSON."""
    own = span.get_span_context()
    if own is None:
        raise AssertionError("a span that ended has a context")
    scope = span.instrumentation_scope
    made: dict[str, Any] = {
        "traceId": f"{own.trace_id:032x}",
        "spanId": f"{own.span_id:016x}",
        "name": span.name,
        "kind": 1,  # internal
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _attributes(span.attributes or {}),
    }
    if span.parent is not None:
        made["parentSpanId"] = f"{span.parent.span_id:016x}"
    return {
        "resource": {"attributes": _attributes(span.resource.attributes)},
        "scopeSpans": [
            {
                "scope": {} if scope is None else {"name": scope.name, "version": scope.version},
                "spans": [made],
            }
        ],
    }


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float() if math.isfinite(value):
            return {"doubleValue": value}
    return {"stringValue": str(value)}
