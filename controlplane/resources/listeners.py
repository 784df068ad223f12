"""The listener that clients talk to: reads what classification needs, and words every refusal.

Every answer that Envoy makes up itself is JSON in the form that clients of OpenAI's API parse:
``{"error": {"message", "type", "code", ...}}``.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    CidrRange,
    HttpProtocolOptions,
    RuntimeUInt32,
    SocketAddress,
    SubstitutionFormatString,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.extensions.filters.http.json_to_metadata.v3 import (
    JsonToMetadata,
    JsonToMetadataKeyValuePair,
    JsonToMetadataMatchRules,
    JsonToMetadataRule,
    JsonToMetadataSelector,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import (
    Router,
    RouterUpstreamAccessLogOptions,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerInternalAddressConfig,
    HttpFilter,
    LocalReplyConfig,
    Rds,
    ResponseMapper,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher
from envoy_data_plane.google.protobuf import Struct

from controlplane.config import Config, Site
from controlplane.resources import names
from controlplane.resources.clusters import ads_source
from controlplane.resources.observation import (
    StatsLog,
    build_request_loggers,
    build_upstream_loggers,
)
from controlplane.resources.packing import pack, seconds
from controlplane.resources.routes import reads_model

_HEADERS_WITHIN = 10.0
"""Seconds a client may take to send its request headers."""
_IDLE_STREAM = 300.0
"""Seconds of silence before a route is known; then the service's own limit holds."""
_JSON_BODY = r"(?i)application/([\w.+-]+\+)?json\s*(;.*)?"


def build_listener(
    config: Config, site: Site | None = None, *, log: StatsLog = StatsLog.SCOPE
) -> Listener:
    """Build the listener of the Envoys at *site*, or of those at no known site."""
    own = None if site is None else site.listener
    address = (own and own.address) or config.envoy.address
    port = (own and own.port) or config.envoy.port
    connection = HttpConnectionManager(
        stat_prefix=names.LISTENER,
        rds=Rds(config_source=ads_source(), route_config_name=names.ROUTES),
        http_filters=build_http_filters(config, log),
        access_log=build_request_loggers(log),
        local_reply_config=build_local_replies(config),
        stream_idle_timeout=seconds(_IDLE_STREAM),
        request_headers_timeout=seconds(_HEADERS_WITHIN),
        common_http_protocol_options=HttpProtocolOptions(idle_timeout=seconds(3600.0)),
        # No client's x-envoy-* headers may change time-outs or retries, so nobody is internal.
        # An empty list of addresses would make everybody so: name one that no client has.
        use_remote_address=True,
        internal_address_config=HttpConnectionManagerInternalAddressConfig(
            cidr_ranges=[CidrRange(address_prefix="0.0.0.0", prefix_len=32)]  # noqa: S104
        ),
        normalize_path=True,
        merge_slashes=True,
    )
    return Listener(
        name=names.LISTENER,
        address=Address(socket_address=SocketAddress(address=address, port_value=port)),
        stat_prefix=names.LISTENER,
        filter_chains=[
            FilterChain(
                filters=[
                    Filter(
                        name="envoy.filters.network.http_connection_manager",
                        typed_config=pack(connection),
                    )
                ]
            )
        ],
    )


def build_http_filters(config: Config, log: StatsLog = StatsLog.SCOPE) -> list[HttpFilter]:
    """Build the chain of filters; the body is read only where a match needs it."""
    router = HttpFilter(
        name="envoy.filters.http.router",
        typed_config=pack(
            Router(
                upstream_log=build_upstream_loggers(log),
                upstream_log_options=RouterUpstreamAccessLogOptions(
                    flush_upstream_log_on_upstream_stream=True
                ),
            )
        ),
    )
    return [_body_reader(), router] if reads_model(config) else [router]


def _body_reader() -> HttpFilter:
    return HttpFilter(
        name="envoy.filters.http.json_to_metadata",
        typed_config=pack(
            JsonToMetadata(
                request_rules=JsonToMetadataMatchRules(
                    allow_content_types_regex=RegexMatcher(regex=_JSON_BODY),
                    rules=[
                        JsonToMetadataRule(
                            selectors=[JsonToMetadataSelector(key="model")],
                            on_present=JsonToMetadataKeyValuePair(
                                metadata_namespace=names.BODY_METADATA, key=names.BODY_MODEL
                            ),
                        )
                    ],
                )
            )
        ),
    )


def build_local_replies(config: Config) -> LocalReplyConfig:
    """Build the wording of what Envoy answers by itself."""
    return LocalReplyConfig(
        mappers=[
            ResponseMapper(
                filter=AccessLogFilter(
                    status_code_filter=StatusCodeFilter(
                        comparison=ComparisonFilter(
                            op=ComparisonFilterOp.EQ,
                            value=RuntimeUInt32(default_value=404, runtime_key="cats.not_found"),
                        )
                    )
                ),
                body_format_override=_error(
                    f"no service matches this request: %REQ(:METHOD)% %REQ(:PATH)%{_hint(config)}",
                    "no_service",
                ),
            ),
            ResponseMapper(
                filter=AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["UH", "NC"])),
                body_format_override=_error(
                    "no instance of service '%ROUTE_NAME%' can be used now", "no_instance"
                ),
            ),
            ResponseMapper(
                filter=AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["UO"])),
                body_format_override=_error(
                    "too many requests to service '%ROUTE_NAME%' are open at this Envoy",
                    "overflow",
                ),
            ),
        ],
        body_format=_error("%LOCAL_REPLY_BODY%", "proxy_error"),
    )


def _error(message: str, code: str) -> SubstitutionFormatString:
    error = {
        "message": message,
        "type": "cats_error",
        "code": code,
        "status": "%RESPONSE_CODE%",
        "details": "%RESPONSE_CODE_DETAILS%",
    }
    return SubstitutionFormatString(json_format=Struct.from_dict({"error": error}))


def _hint(config: Config) -> str:
    paths = sorted({m.path for s in config.services for m in s.match if m.path is not None})
    headers = sorted({name.lower() for s in config.services for m in s.match for name in m.header})
    parts = [f"paths {', '.join(paths)}"] if paths else []
    if reads_model(config):
        parts.append("the 'model' of an application/json body")
    if headers:
        parts.append(f"headers {', '.join(headers)}")
    return f"; services are told by {'; '.join(parts)}".replace("%", "%%") if parts else ""
