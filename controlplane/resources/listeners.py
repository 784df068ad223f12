"""The listener that clients talk to: reads what classification needs, and words every refusal.

Every answer that Envoy makes up itself is JSON in the form that clients of OpenAI's API parse:
``{"error": {"message", "type", "code", ...}}``.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    MetadataFilter,
    OrFilter,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    CidrRange,
    DataSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    Http1ProtocolOptions,
    HttpProtocolOptions,
    RuntimeUInt32,
    SocketAddress,
    SubstitutionFormatString,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import (
    Router,
    RouterUpstreamAccessLogOptions,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerInternalAddressConfig,
    HttpConnectionManagerUpgradeConfig,
    HttpFilter,
    LocalReplyConfig,
    Rds,
    ResponseMapper,
)
from envoy_data_plane.google.protobuf import Struct

from controlplane.config import Config, Site
from controlplane.resources import names
from controlplane.resources.access_log import build_access_log
from controlplane.resources.bodies import build_body_filters, names_none, unreadable
from controlplane.resources.clusters import ads_source
from controlplane.resources.generations import StatsLog
from controlplane.resources.observation import build_request_loggers, build_upstream_loggers
from controlplane.resources.packing import pack, seconds

_HEADERS_WITHIN = 10.0
"""Seconds a client may take to send its request headers."""
_IDLE_STREAM = 300.0
"""Seconds of silence before a route is known; then the service's own limit holds."""


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
        http_filters=build_http_filters(log),
        access_log=[
            *build_request_loggers(log),
            *_file_logs(config.envoy.access_log, "" if site is None else site.name),
        ],
        local_reply_config=build_local_replies(
            starts=any(instance.wake is not None for instance in config.instances)
        ),
        stream_idle_timeout=seconds(_IDLE_STREAM),
        request_headers_timeout=seconds(_HEADERS_WITHIN),
        common_http_protocol_options=HttpProtocolOptions(idle_timeout=seconds(3600.0)),
        # A proxy in front may speak HTTP/1.0 by default, as nginx long did. Envoy would answer 426.
        http_protocol_options=Http1ProtocolOptions(
            accept_http_10=True, default_host_for_http_10=names.LISTENER
        ),
        # No client's x-envoy-* headers may change time-outs or retries, so no one is internal.
        # An empty list of addresses would make everyone so: name one that no client has.
        use_remote_address=True,
        internal_address_config=HttpConnectionManagerInternalAddressConfig(
            cidr_ranges=[CidrRange(address_prefix="0.0.0.0", prefix_len=32)]  # noqa: S104
        ),
        normalize_path=True,
        merge_slashes=True,
        upgrade_configs=[HttpConnectionManagerUpgradeConfig(upgrade_type="websocket")],
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


def _file_logs(path: str | None, site: str) -> list[AccessLog]:
    return [] if path is None else [build_access_log(path, site=site)]


def build_http_filters(log: StatsLog = StatsLog.SCOPE) -> list[HttpFilter]:
    """Build the chain of filters; the body is read only where a route switches that on."""
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
    return [*build_body_filters(), router]


def build_local_replies(*, starts: bool = False) -> LocalReplyConfig:
    """Build the wording of what Envoy answers by itself; what depends on services is in routes.

    With *starts*, a client that finds no instance is answered when one may have been started.
    """
    return LocalReplyConfig(
        mappers=[
            # A document, such as the list of models, and no error.
            ResponseMapper(
                filter=_status(200),
                body_format_override=SubstitutionFormatString(
                    text_format_source=DataSource(inline_string="%LOCAL_REPLY_BODY%"),
                    content_type="application/json",
                ),
            ),
            ResponseMapper(
                filter=_status(404),
                body_format_override=_error(
                    "no service matches this request: %REQ(:METHOD)% %REQ(:PATH)%"
                    f"%METADATA(ROUTE:{names.METADATA}:{names.METADATA_HINT})%",
                    "no_service",
                ),
            ),
            ResponseMapper(
                filter=_bad_body(),
                body_format_override=_error("%LOCAL_REPLY_BODY%", "bad_body"),
            ),
            ResponseMapper(
                filter=_status(415),
                body_format_override=_error("%LOCAL_REPLY_BODY%", "unsupported_encoding"),
            ),
            ResponseMapper(
                filter=AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["UH", "NC"])),
                body_format_override=_error(
                    "no instance of service '%ROUTE_NAME%' can be used now", "no_instance"
                ),
                headers_to_add=[_retry_after()] if starts else [],
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


def _retry_after() -> HeaderValueOption:
    """Build a header that is left out where the route's service has nothing to start."""
    value = f"%METADATA(ROUTE:{names.METADATA}:{names.METADATA_START_UP})%"
    return HeaderValueOption(
        header=HeaderValue(key="retry-after", value=value),
        append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _bad_body() -> AccessLogFilter:
    conditions = [
        AccessLogFilter(
            metadata_filter=MetadataFilter(matcher=matcher, match_if_key_not_found=False)
        )
        for matcher in (unreadable(), names_none())
    ]
    either = AccessLogFilter(or_filter=OrFilter(filters=conditions))
    return AccessLogFilter(and_filter=AndFilter(filters=[_status(400), either]))


def _status(code: int) -> AccessLogFilter:
    return AccessLogFilter(
        status_code_filter=StatusCodeFilter(
            comparison=ComparisonFilter(
                op=ComparisonFilterOp.EQ,
                value=RuntimeUInt32(default_value=code, runtime_key="cats.unused"),
            )
        )
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
