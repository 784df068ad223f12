"""One line of JSON for each request: what was asked, who answered, and how to ask why.

Names are those of OpenTelemetry's semantic conventions (HTTP, server, generative AI) where there
are some; what only steering knows is below ``cats.``.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.core.v3 import SubstitutionFormatString
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.google.protobuf import Struct, Value

from controlplane.resources.access_log_fields import FIELDS
from controlplane.resources.packing import pack


def build_access_log(path: str, *, site: str) -> AccessLog:
    """Build the logger of requests of the clients at *site*; empty if it is not known."""
    fields = {**FIELDS, "cats.from": site}
    content = Struct(fields={key: Value(string_value=each) for key, each in fields.items()})
    config = FileAccessLog(path=path, log_format=SubstitutionFormatString(json_format=content))
    return AccessLog(name="envoy.access_loggers.file", typed_config=pack(config))
