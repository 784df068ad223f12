"""One line of JSON for each request: what was asked, who answered, and how to ask why.

Names are those of OpenTelemetry's semantic conventions (HTTP, server, generative AI) where there
are some; what only steering knows is below ``cats.``.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.core.v3 import SubstitutionFormatString
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.google.protobuf import Struct, Value

from controlplane.resources import names
from controlplane.resources.packing import pack

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


def build_access_log(path: str, *, site: str) -> AccessLog:
    """Build the logger of requests of the clients at *site*; empty if it is not known."""
    fields = {**FIELDS, "cats.from": site}
    content = Struct(fields={key: Value(string_value=each) for key, each in fields.items()})
    config = FileAccessLog(path=path, log_format=SubstitutionFormatString(json_format=content))
    return AccessLog(name="envoy.access_loggers.file", typed_config=pack(config))
