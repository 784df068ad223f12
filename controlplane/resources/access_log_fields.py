"""What a line of the access log holds: field -> Envoy formatter.

Names are those of OpenTelemetry's semantic conventions (HTTP, server, generative AI) where there
are some; what only steering knows is below ``cats.``.
"""

from __future__ import annotations

from controlplane.resources import names

REQUEST_ID = "http.request.header.x-request-id"
FIELDS = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    REQUEST_ID: "%REQ(X-REQUEST-ID)%",
    "http.request.header.traceparent": "%REQ(TRACEPARENT)%",
    "http.request.method": "%REQ(:METHOD)%",
    "http.response.status_code": "%RESPONSE_CODE%",
    "server.address": "%UPSTREAM_HOST%",
    "gen_ai.request.model": f"%DYNAMIC_METADATA({names.BODY_METADATA}:{names.BODY_MODEL})%",
    "gen_ai.response.model": f"%UPSTREAM_METADATA({names.METADATA}:{names.METADATA_MODEL})%",
    "cats.service": "%ROUTE_NAME%",
    "cats.instance": f"%UPSTREAM_METADATA({names.METADATA}:{names.METADATA_INSTANCE})%",
    "cats.site": f"%UPSTREAM_METADATA({names.METADATA}:{names.METADATA_SITE})%",
    "cats.attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "cats.flags": "%RESPONSE_FLAGS%",
    "cats.duration_ms": "%DURATION%",
    "cats.first_byte_ms": "%RESPONSE_DURATION%",
}
"""Field -> Envoy's formatter. No path: it may hold what is secret."""
